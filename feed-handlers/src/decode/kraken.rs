//! Kraken WebSocket v2 frames: `book`, `trade`, `ticker`, `ohlc`, `heartbeat`, `status`, and answers to requests. Those of
//! v1, which are arrays or have an `event`, are read by [`super::kraken_v1`].
//!
//! Pure: a frame is scanned to its end and its envelope checked before any event is handed out; its `data` is walked after
//! that, and an element that cannot be read is [`Event::Invalid`] while the others stand. Numbers stand bare in the JSON and
//! keep their text: the checksum of a book is over the digits, trailing zeros and all. Deliberately absent:
//! `instrument`, and what only signed-in users get, which is [`Event::Ignored`]; and the checksum itself, which is the
//! book's, [`crate::book::Book::checksum_kraken`].
//!
//! What a user of the events must know:
//! - Nothing is numbered but trades. Lost changes of a book show in its checksum, against the book cut to the depth that
//!   was subscribed. The venue removes no level that only falls out of that depth.
//! - Bars are never said to be final, so all are in progress, those of the past that a snapshot holds too.
//! - The ticker of a pair that never traded is zeros and the time of 1970: a quote with no sides and no time.
//!
//! Fields: <https://docs.kraken.com/api/docs/websocket-v2/book> and its neighbours.

use protocol::Side;

use super::event::{
    Age, Bar, BookBegin, BookEnd, BookScope, Control, Event, Heartbeat, Level, Part, Quote, Trade, invalid,
};
use super::field::{
    array, boolean, decimal, integer, list, optional, plain, present, present_top, shown, symbol, text, time,
};
use super::json::{Kind, Scanner, each_object, members};
use super::{DecodeError, Reason, kraken_v1};

const NANOS_PER_MINUTE: i64 = 60_000_000_000;

/// Decodes one frame and hands its events to `on_event`, in order. Never panics, whatever the bytes.
///
/// # Errors
/// [`DecodeError`] where the frame is no JSON object or array, is neither a message of a channel nor an answer, or lacks the
/// type or the data of a channel that is taken. No event has been handed out then.
pub fn decode<'a>(frame: &'a [u8], on_event: &mut impl FnMut(Event<'a>)) -> Result<(), DecodeError> {
    if Scanner::new(frame).peek()? == b'[' {
        return kraken_v1::decode(frame, on_event);
    }
    let message = Message::read(frame)?;
    if message.channel.kind == Kind::Absent {
        on_event(match message.event.kind {
            Kind::Absent => message.answer()?,
            _ => kraken_v1::event(message.event, message.status, message.error_message)?,
        });
        return Ok(());
    }
    let name = text(message.channel, "channel")?;
    let channel = match name {
        b"book" => Channel::Book,
        b"trade" => Channel::Trades,
        b"ticker" => Channel::Tickers,
        b"ohlc" => Channel::Bars,
        b"heartbeat" => {
            on_event(Event::Heartbeat(Heartbeat { symbol: None, time: None }));
            return Ok(());
        }
        // That it is `online`, or what of trading it holds back; its data flow in any case.
        b"status" => {
            on_event(Event::Control(Control::Note));
            return Ok(());
        }
        kind => {
            on_event(Event::Ignored { kind });
            return Ok(());
        }
    };
    let age = match text(message.kind, "type")? {
        b"snapshot" => Age::Old,
        b"update" => Age::Live,
        kind => {
            on_event(Event::Ignored { kind });
            return Ok(());
        }
    };
    let data = array(message.data, "data")?;
    let mut is_empty = true;
    each_object(data, Item::scan, |item| {
        is_empty = false;
        let event = match (&item, channel) {
            (Some(item), Channel::Book) => return item.book(age, on_event),
            (Some(item), Channel::Trades) => item.trade(age).map(Event::Trade),
            (Some(item), Channel::Tickers) => item.quote(age).map(Event::Quote),
            (Some(item), Channel::Bars) => item.bar().map(Event::Bar),
            (None, _) => Err(Reason::FieldType),
        };
        let symbol = item.and_then(|item| symbol(item.symbol).ok());
        on_event(event.unwrap_or_else(|reason| invalid(symbol, channel.part(), reason)));
        Ok(())
    })?;
    if is_empty {
        on_event(Event::Ignored { kind: name });
    }
    Ok(())
}

/// The channels of which something is taken.
#[derive(Clone, Copy)]
enum Channel {
    Book,
    Trades,
    Tickers,
    Bars,
}

impl Channel {
    /// What is lost where an element of the channel's data cannot be read.
    fn part(self) -> Part {
        match self {
            Channel::Book => Part::Level,
            Channel::Trades => Part::Trade,
            Channel::Tickers => Part::Quote,
            Channel::Bars => Part::Bar,
        }
    }
}

members! {
    /// The message of a channel, or an answer.
    struct Message {
        channel: b"channel",
        kind: b"type",
        data: b"data",
        method: b"method",
        success: b"success",
        error: b"error",
        time_out: b"time_out",
        // Of v1.
        event: b"event",
        status: b"status",
        error_message: b"errorMessage",
    }
}

impl<'a> Message<'a> {
    /// `{"method":"subscribe","result":{...},"success":true,...}`, or `{"error":"...","success":false,...}` with or
    /// without a method. A pong is a sign of life.
    fn answer(&self) -> Result<Event<'a>, DecodeError> {
        let success = optional(boolean(self.success), "success")?;
        if success == Some(false) || !matches!(self.error.kind, Kind::Absent | Kind::Null) {
            let text = shown(self.error);
            let is_throttled = text.ends_with(b"Rate limit exceeded") || text == b"Exceeded msg rate";
            return Ok(Event::Control(match is_throttled {
                true => Control::Throttled { text },
                false => Control::Error { text, detail: b"" },
            }));
        }
        if self.method.kind == Kind::Absent {
            return Err(DecodeError::Missing { field: "channel" });
        }
        Ok(match text(self.method, "method")? {
            b"subscribe" | b"unsubscribe" if success.is_none() => {
                return Err(DecodeError::Missing { field: "success" });
            }
            b"subscribe" | b"unsubscribe" => Event::Control(Control::Subscribed),
            b"pong" => Event::Heartbeat(Heartbeat { symbol: None, time: optional(time(self.time_out), "time_out")? }),
            kind => Event::Ignored { kind },
        })
    }
}

members! {
    /// An element of `data`.
    struct Item {
        symbol: b"symbol",
        bids: b"bids",
        asks: b"asks",
        checksum: b"checksum",
        timestamp: b"timestamp",
        side: b"side",
        price: b"price",
        qty: b"qty",
        trade_id: b"trade_id",
        bid: b"bid",
        bid_qty: b"bid_qty",
        ask: b"ask",
        ask_qty: b"ask_qty",
        open: b"open",
        high: b"high",
        low: b"low",
        close: b"close",
        trades: b"trades",
        volume: b"volume",
        vwap: b"vwap",
        interval_begin: b"interval_begin",
        interval: b"interval",
    }
}

impl<'a> Item<'a> {
    /// Bids, then asks, each in the order of the frame, for a price may occur twice. A checksum that cannot be read makes the
    /// book unbelievable; a time that cannot be read is none.
    fn book(&self, age: Age, on_event: &mut impl FnMut(Event<'a>)) -> Result<(), DecodeError> {
        let symbol = match symbol(self.symbol) {
            Ok(symbol) => symbol,
            Err(reason) => {
                on_event(invalid(None, Part::Level, reason));
                return Ok(());
            }
        };
        let scope = match age {
            Age::Old => BookScope::Snapshot,
            Age::Live => BookScope::Change,
        };
        on_event(Event::BookBegin(BookBegin { symbol, scope, updates: None }));
        for (levels, side) in [(self.bids, Side::Buy), (self.asks, Side::Sell)] {
            match list(levels) {
                Ok(levels) => each_object(levels, PriceLevel::scan, |level| {
                    let level = level.ok_or(Reason::FieldType).and_then(|level| level.of(side));
                    on_event(level.map_or_else(|reason| invalid(Some(symbol), Part::Level, reason), Event::Level));
                    Ok(())
                })?,
                Err(reason) => on_event(invalid(Some(symbol), Part::Level, reason)),
            }
        }
        let checksum = present(integer(self.checksum)).and_then(|sum| u32::try_from(sum).or(Err(Reason::NumberRange)));
        if let Err(reason) = checksum {
            on_event(invalid(Some(symbol), Part::Level, reason));
        }
        let time = time(self.timestamp).unwrap_or(None);
        on_event(Event::BookEnd(BookEnd { checksum: checksum.ok(), time }));
        Ok(())
    }

    /// Its side is the taker's.
    fn trade(&self, age: Age) -> Result<Trade<'a>, Reason> {
        let taker = match plain(self.side)? {
            b"buy" => Side::Buy,
            b"sell" => Side::Sell,
            _ => return Err(Reason::Side),
        };
        Ok(Trade {
            symbol: symbol(self.symbol)?,
            id: Some(present(integer(self.trade_id))?),
            price: present(decimal(self.price))?,
            size: present(decimal(self.qty))?,
            taker: Some(taker),
            time: present(time(self.timestamp))?,
            age,
        })
    }

    /// Both sides are always written; one that is zero or null has nobody. The time is missing before 2026.
    fn quote(&self, age: Age) -> Result<Quote<'a>, Reason> {
        Ok(Quote {
            symbol: symbol(self.symbol)?,
            bid: present_top(self.bid, self.bid_qty)?,
            ask: present_top(self.ask, self.ask_qty)?,
            sequence: None,
            time: time(self.timestamp)?.filter(|time| *time != 0),
            age,
        })
    }

    fn bar(&self) -> Result<Bar<'a>, Reason> {
        let minutes = i64::try_from(present(integer(self.interval))?).ok().filter(|minutes| *minutes > 0);
        Ok(Bar {
            symbol: symbol(self.symbol)?,
            interval_ns: minutes
                .and_then(|minutes| minutes.checked_mul(NANOS_PER_MINUTE))
                .ok_or(Reason::NumberRange)?,
            start: present(time(self.interval_begin))?,
            open: present(decimal(self.open))?,
            high: present(decimal(self.high))?,
            low: present(decimal(self.low))?,
            close: present(decimal(self.close))?,
            volume: present(decimal(self.volume))?,
            vwap: decimal(self.vwap)?,
            trades: integer(self.trades)?,
            in_progress: true,
        })
    }
}

members! {
    /// `{"price":0.0279,"qty":0.00000000}`
    struct PriceLevel {
        price: b"price",
        qty: b"qty",
    }
}

impl PriceLevel<'_> {
    fn of(&self, side: Side) -> Result<Level, Reason> {
        Level::new(side, present(decimal(self.price))?, present(decimal(self.qty))?)
    }
}

#[cfg(test)]
mod tests;
