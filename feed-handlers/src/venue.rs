//! The venues that feeds speak to: what each is called, how its frames are decoded, and what its numbers promise.
//!
//! A new venue is a decoder in `decode/`, a variant here, and a line in each table; what it is told over a WebSocket
//! stands in `source/venues/`.

use crate::decode::event::Event;
use crate::decode::{
    DecodeError, alpaca, alpha_vantage, binance, coinbase, coinbase_advanced, finnhub, fix, iex_cloud, kite, kraken,
    oanda, polygon, price_tick,
};
use crate::feed::BookCheck;
use crate::symbols::{Market, SymbolForm};

/// A venue, and the dialect that its frames are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Venue {
    /// Coinbase Exchange, `ws-feed`.
    Coinbase,
    /// Coinbase Advanced Trade.
    CoinbaseAdvanced,
    /// Polygon.io, also called Massive: stocks, forex, crypto.
    Polygon,
    /// Alpaca market data v2, in JSON or MessagePack.
    Alpaca,
    Finnhub,
    /// Binance spot, times in milliseconds.
    Binance,
    /// Kraken WebSocket v2.
    Kraken,
    /// Zerodha Kite, for NSE, BSE and MCX.
    Kite,
    /// OANDA v20, a line of the pricing stream.
    Oanda,
    /// IEX Cloud, the data of one event.
    IexCloud,
    /// Alpha Vantage, an answer about a stock.
    AlphaVantage,
    /// The platform's `market-data-raw` records, which other ingesters put into Kafka.
    Kafka,
    /// FIX 4.4, a whole message.
    Fix,
    /// Nasdaq TotalView-ITCH 5.0. What its messages mean depends on the orders before them and on the day, so its sources
    /// decode them by [`OrderBooks`](crate::order_book::OrderBooks), and [`Venue::decode`] takes nothing from them.
    Itch,
}

/// What a venue's trade ids say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TradeIds {
    /// Each trade of an instrument has the next number: a hole is a loss, a repeat a duplicate.
    Contiguous,
    /// Trades of an instrument bear different numbers, in no order that could be relied on.
    Distinct,
    /// Each exchange that the venue reports of numbers its own, anew each day: two trades of an instrument may bear
    /// the same number.
    PerExchange,
    /// There are none.
    Absent,
}

/// Whether a venue's quotes have times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuoteTimes {
    /// They have; one without is old state.
    Told,
    /// They never have: the time of receipt stands for it.
    Never,
}

/// How the bars that a venue makes come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BarUpdates {
    /// With each change: what was told of a bar last before the next one begins, is final.
    Pushed,
    /// As they are when the venue is asked. What is told of a bar is final only where the answer tells a later one too, or
    /// [`BARS_SETTLE_NS`] after its end.
    Polled,
}

/// So long after its end a bar that is polled does not change any more, ns: an hour. Data of shares that is not
/// real-time is late by 15 minutes, or there when the day is over.
pub const BARS_SETTLE_NS: i64 = 3_600_000_000_000;

impl Venue {
    pub const ALL: [Venue; 14] = [
        Venue::Coinbase,
        Venue::CoinbaseAdvanced,
        Venue::Polygon,
        Venue::Alpaca,
        Venue::Finnhub,
        Venue::Binance,
        Venue::Kraken,
        Venue::Kite,
        Venue::Oanda,
        Venue::IexCloud,
        Venue::AlphaVantage,
        Venue::Kafka,
        Venue::Fix,
        Venue::Itch,
    ];

    /// The venue as clients see it in `x`, and as configuration names it in lower case.
    pub const fn name(self) -> &'static str {
        match self {
            Venue::Coinbase => "COINBASE",
            Venue::CoinbaseAdvanced => "COINBASE_ADVANCED",
            Venue::Polygon => "POLYGON",
            Venue::Alpaca => "ALPACA",
            Venue::Finnhub => "FINNHUB",
            Venue::Binance => "BINANCE",
            Venue::Kraken => "KRAKEN",
            Venue::Kite => "KITE",
            Venue::Oanda => "OANDA",
            Venue::IexCloud => "IEX_CLOUD",
            Venue::AlphaVantage => "ALPHA_VANTAGE",
            Venue::Kafka => "KAFKA",
            Venue::Fix => "FIX",
            Venue::Itch => "NASDAQ_ITCH",
        }
    }

    pub const fn trade_ids(self) -> TradeIds {
        match self {
            Venue::Coinbase | Venue::CoinbaseAdvanced | Venue::Binance | Venue::Kraken => TradeIds::Contiguous,
            // Match numbers are those of a day, and a cross bears one that is not the next.
            Venue::Fix | Venue::IexCloud | Venue::Itch => TradeIds::Distinct,
            Venue::Polygon | Venue::Alpaca => TradeIds::PerExchange,
            Venue::Finnhub | Venue::Kite | Venue::Oanda | Venue::AlphaVantage | Venue::Kafka => TradeIds::Absent,
        }
    }

    pub const fn quote_times(self) -> QuoteTimes {
        match self {
            // Its quotes are numbered, but bear no time at all.
            Venue::Binance => QuoteTimes::Never,
            Venue::Coinbase
            | Venue::CoinbaseAdvanced
            | Venue::Polygon
            | Venue::Alpaca
            | Venue::Finnhub
            | Venue::Kraken
            | Venue::Kite
            | Venue::Oanda
            | Venue::IexCloud
            | Venue::AlphaVantage
            | Venue::Kafka
            | Venue::Fix
            | Venue::Itch => QuoteTimes::Told,
        }
    }

    /// How the venue writes the names of its instruments.
    pub const fn symbol_form(self) -> SymbolForm {
        match self {
            Venue::Coinbase | Venue::CoinbaseAdvanced => SymbolForm::Dash,
            Venue::Kraken => SymbolForm::Slash,
            Venue::Oanda => SymbolForm::Underscore,
            Venue::Binance => SymbolForm::Joined(Market::Binance),
            Venue::Finnhub => SymbolForm::Prefixed,
            Venue::Kite => SymbolForm::India,
            Venue::Polygon
            | Venue::Alpaca
            | Venue::IexCloud
            | Venue::AlphaVantage
            | Venue::Kafka
            | Venue::Fix
            | Venue::Itch => SymbolForm::Any,
        }
    }

    /// Whether the venue says the last trade again with whatever else changes: one with the same time, price, size and
    /// number, or none, as the one before is the same trade. Elsewhere it is another one.
    pub const fn tells_trades_again(self) -> bool {
        matches!(self, Venue::Kite | Venue::IexCloud)
    }

    /// Whether a trade of size zero is one: the line says prices by it.
    pub const fn has_trades_of_nothing(self) -> bool {
        matches!(self, Venue::Kafka)
    }

    /// Whether bars can be subscribed over its WebSocket.
    pub const fn offers_bars(self) -> bool {
        matches!(self, Venue::CoinbaseAdvanced | Venue::Polygon | Venue::Alpaca | Venue::Binance | Venue::Kraken)
    }

    pub const fn bar_updates(self) -> BarUpdates {
        match self {
            Venue::AlphaVantage => BarUpdates::Polled,
            _ => BarUpdates::Pushed,
        }
    }

    pub const fn book_check(self) -> BookCheck {
        match self {
            Venue::Kraken => BookCheck::KrakenChecksum,
            _ => BookCheck::Trust,
        }
    }

    /// Decodes one frame and hands its events to `on_event`, in order.
    ///
    /// # Errors
    /// [`DecodeError`] where the frame cannot be read. No event has been handed out then.
    pub fn decode<'a>(self, frame: &'a [u8], mut on_event: &mut dyn FnMut(Event<'a>)) -> Result<(), DecodeError> {
        match self {
            Venue::Coinbase => coinbase::decode(frame, &mut on_event),
            Venue::CoinbaseAdvanced => coinbase_advanced::decode(frame, &mut on_event),
            Venue::Polygon => polygon::decode(frame, &mut on_event),
            Venue::Alpaca if is_msgpack_array(frame) => alpaca::decode_msgpack(frame, &mut on_event),
            Venue::Alpaca => alpaca::decode(frame, &mut on_event),
            Venue::Finnhub => finnhub::decode(frame, &mut on_event),
            Venue::Binance => binance::decode(frame, &mut on_event),
            Venue::Kraken => kraken::decode(frame, &mut on_event),
            Venue::Kite => kite::decode(frame, &mut on_event),
            Venue::Oanda => oanda::decode(frame, &mut on_event),
            Venue::IexCloud => iex_cloud::decode(frame, &mut on_event),
            Venue::AlphaVantage => alpha_vantage::decode(frame, &mut on_event),
            Venue::Kafka => price_tick::decode(frame, &mut on_event),
            Venue::Fix => fix::decode(frame, &mut on_event),
            Venue::Itch => {
                on_event(Event::Ignored { kind: frame.get(..1).unwrap_or_default() });
                Ok(())
            }
        }
    }
}

/// Every frame is an array, in MessagePack of one of three heads, none of which is a character of JSON.
fn is_msgpack_array(frame: &[u8]) -> bool {
    matches!(frame.first(), Some(0x90..=0x9f | 0xdc | 0xdd))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::event::{Control, ControlKind};

    #[test]
    fn venues_have_names_of_their_own() {
        for (at, venue) in Venue::ALL.into_iter().enumerate() {
            assert_eq!(venue as usize, at);
            assert!(venue.name().bytes().all(|b| b.is_ascii_uppercase() || b == b'_'), "{venue:?}");
            assert!(!Venue::ALL[..at].iter().any(|other| other.name() == venue.name()), "{venue:?}");
        }
    }

    /// What each venue says when it takes a subscription, or another message of it that is no market data.
    #[test]
    fn frames_are_decoded_in_the_venues_dialect() {
        let check = |venue: Venue, frame: &[u8], expected: ControlKind| {
            let mut kinds = Vec::new();
            let decoded = venue.decode(frame, &mut |event| {
                if let Event::Control(control) = event {
                    kinds.push(control.kind());
                }
            });
            assert_eq!((decoded, kinds), (Ok(()), vec![expected]), "{venue:?}");
        };
        let subscribed = Control::Subscribed.kind();
        check(Venue::Coinbase, br#"{"type":"subscriptions","channels":[]}"#, subscribed);
        let advanced = br#"{"channel":"subscriptions","timestamp":"2026-09-07T23:37:22.278662782Z","sequence_num":1,"events":[{"subscriptions":{}}]}"#;
        check(Venue::CoinbaseAdvanced, advanced, subscribed);
        let polygon = br#"[{"ev":"status","status":"success","message":"subscribed to: T.AAPL"}]"#;
        check(Venue::Polygon, polygon, subscribed);
        check(Venue::Alpaca, br#"[{"T":"subscription","trades":["AAPL"]}]"#, subscribed);
        check(Venue::Alpaca, b"\x91\x81\xa1T\xacsubscription", subscribed);
        check(Venue::Finnhub, br#"{"type":"error","msg":"no"}"#, ControlKind::Error);
        check(Venue::Binance, br#"{"result":null,"id":1}"#, subscribed);
        let kraken = br#"{"method":"subscribe","result":{"channel":"trade","symbol":"BTC/USD"},"success":true}"#;
        check(Venue::Kraken, kraken, subscribed);
        check(Venue::Kite, br#"{"type":"message","data":"hello"}"#, ControlKind::Note);
        check(
            Venue::Oanda,
            br#"{"errorMessage":"Insufficient authorization to perform request."}"#,
            ControlKind::AuthRefused,
        );
        check(Venue::AlphaVantage, br#"{"Note":"Thank you"}"#, ControlKind::Throttled);
    }
}
