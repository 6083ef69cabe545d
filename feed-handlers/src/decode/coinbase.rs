//! Coinbase Exchange `ws-feed` frames: `ticker`, `match`, `last_match`, `snapshot`, `l2update`, `heartbeat`,
//! `subscriptions` and `error`.
//!
//! Pure: a frame either is refused as a whole, or gives its events in the order of the frame. Keys may stand in
//! any order and unknown ones are skipped, so a frame is scanned to its end before anything in it is believed;
//! lists of book levels are then walked a second time, because nothing may be allocated to keep them.
//! Deliberately absent: the order-by-order (`full`) messages, which are reported as [`Event::Ignored`].
//!
//! Fields: <https://docs.cdp.coinbase.com/exchange/websocket-feed/channels>. What the venue's page leaves open and
//! recorded frames settle: the `side` of a match is the maker's.

mod layout;
mod window;

use protocol::Side;

use super::event::{
    Age, BookBegin, BookEnd, BookScope, Control, Event, Heartbeat, Level, Part, Quote, Symbol, Top, Trade,
};
use super::field::{array, decimal, integer, optional, plain, required, shown, text, time};
use super::json::{Value, each_element, members, parts};
use super::{DecodeError, Reason};

/// Decodes one frame and hands its events to `on_event`, in order. Never panics, whatever the bytes.
///
/// # Errors
/// [`DecodeError`] where the frame is no JSON object, or its message lacks a field or holds one that cannot be
/// read. No event has been handed out then.
pub fn decode<'a>(frame: &'a [u8], on_event: &mut impl FnMut(Event<'a>)) -> Result<(), DecodeError> {
    match layout::decode(frame, on_event) {
        Some(()) => Ok(()),
        None => decode_by_grammar(frame, on_event),
    }
}

/// Decodes a frame in any layout that JSON allows.
fn decode_by_grammar<'a>(frame: &'a [u8], on_event: &mut impl FnMut(Event<'a>)) -> Result<(), DecodeError> {
    let message = Message::read(frame)?;
    match text(message.kind, "type")? {
        b"match" => on_event(Event::Trade(message.trade(Age::Live)?)),
        b"last_match" => on_event(Event::Trade(message.trade(Age::Old)?)),
        b"ticker" => on_event(Event::Quote(message.quote()?)),
        b"heartbeat" => on_event(Event::Heartbeat(message.heartbeat()?)),
        b"l2update" => message.book_update(on_event)?,
        b"snapshot" => message.book_snapshot(on_event)?,
        b"subscriptions" => on_event(Event::Control(Control::Subscribed)),
        b"error" => {
            let (text, detail) = (shown(message.message), shown(message.reason));
            on_event(Event::Control(Control::Error { text, detail }));
        }
        kind => on_event(Event::Ignored { kind }),
    }
    Ok(())
}

members! {
    /// The fields that some message needs.
    struct Message {
        kind: b"type",
        product_id: b"product_id",
        trade_id: b"trade_id",
        sequence: b"sequence",
        side: b"side",
        price: b"price",
        size: b"size",
        time: b"time",
        best_bid: b"best_bid",
        best_bid_size: b"best_bid_size",
        best_ask: b"best_ask",
        best_ask_size: b"best_ask_size",
        changes: b"changes",
        bids: b"bids",
        asks: b"asks",
        message: b"message",
        reason: b"reason",
    }
}

impl<'a> Message<'a> {
    fn symbol(&self) -> Result<Symbol<'a>, DecodeError> {
        text(self.product_id, "product_id").map(Symbol::Text)
    }

    fn trade(&self, age: Age) -> Result<Trade<'a>, DecodeError> {
        let symbol = self.symbol()?;
        let maker = side(text(self.side, "side")?).map_err(|reason| DecodeError::Field { field: "side", reason })?;
        Ok(Trade {
            symbol,
            id: Some(required(integer(self.trade_id), "trade_id")?),
            price: required(decimal(self.price), "price")?,
            size: required(decimal(self.size), "size")?,
            taker: Some(maker.opposite()),
            time: required(time(self.time), "time")?,
            age,
        })
    }

    /// Prices may be missing in the first ticker of a subscription, sizes before 2022.
    fn quote(&self) -> Result<Quote<'a>, DecodeError> {
        let bid_size = optional(decimal(self.best_bid_size), "best_bid_size")?;
        let ask_size = optional(decimal(self.best_ask_size), "best_ask_size")?;
        Ok(Quote {
            symbol: self.symbol()?,
            bid: optional(decimal(self.best_bid), "best_bid")?.map(|price| Top { price, size: bid_size }),
            ask: optional(decimal(self.best_ask), "best_ask")?.map(|price| Top { price, size: ask_size }),
            sequence: Some(required(integer(self.sequence), "sequence")?),
            time: optional(time(self.time), "time")?,
            age: Age::Live,
        })
    }

    /// Its `last_trade_id` is not held against the trades: the match may still be on its way.
    fn heartbeat(&self) -> Result<Heartbeat<'a>, DecodeError> {
        Ok(Heartbeat { symbol: Some(self.symbol()?), time: Some(required(time(self.time), "time")?) })
    }

    /// `"changes":[["buy","83362.67","0.00000000"],...]`. A time out of range, as in recordings of the year 0001, is none.
    fn book_update(&self, on_event: &mut impl FnMut(Event<'a>)) -> Result<(), DecodeError> {
        let (symbol, changes) = (self.symbol()?, array(self.changes, "changes")?);
        on_event(Event::BookBegin(BookBegin { symbol, scope: BookScope::Change, updates: None }));
        each_element(changes, |scanner| {
            let [taken_side, price, size] = parts(scanner)?;
            let side = plain(taken_side).and_then(side);
            on_event(level_event(symbol, side.and_then(|side| level(side, price, size))));
            Ok(())
        })?;
        self.book_end(on_event);
        Ok(())
    }

    /// `"bids":[["14.7550","0.04"],...],"asks":[...]`
    fn book_snapshot(&self, on_event: &mut impl FnMut(Event<'a>)) -> Result<(), DecodeError> {
        let symbol = self.symbol()?;
        let (bids, asks) = (array(self.bids, "bids")?, array(self.asks, "asks")?);
        on_event(Event::BookBegin(BookBegin { symbol, scope: BookScope::Snapshot, updates: None }));
        for (list, side) in [(bids, Side::Buy), (asks, Side::Sell)] {
            each_element(list, |scanner| {
                let [price, size] = parts(scanner)?;
                on_event(level_event(symbol, level(side, price, size)));
                Ok(())
            })?;
        }
        self.book_end(on_event);
        Ok(())
    }

    fn book_end(&self, on_event: &mut impl FnMut(Event<'a>)) {
        on_event(Event::BookEnd(BookEnd { checksum: None, time: time(self.time).unwrap_or(None) }));
    }
}

fn level_event<'a>(symbol: Symbol<'a>, level: Result<Level, Reason>) -> Event<'a> {
    match level {
        Ok(level) => Event::Level(level),
        Err(reason) => Event::Invalid { symbol: Some(symbol), part: Part::Level, reason },
    }
}

fn level(side: Side, price: Value<'_>, size: Value<'_>) -> Result<Level, Reason> {
    let price = decimal(price)?.ok_or(Reason::MissingField)?;
    let size = decimal(size)?.ok_or(Reason::MissingField)?;
    Level::new(side, price, size)
}

fn side(text: &[u8]) -> Result<Side, Reason> {
    match text {
        b"buy" => Ok(Side::Buy),
        b"sell" => Ok(Side::Sell),
        _ => Err(Reason::Side),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{self, Expected, decimal, end, level, top};
    use super::*;

    const BTC_MATCH: &str = r#"{"type":"match","trade_id":1100243492,"maker_order_id":"bc4a4f45-f5f9-42f7-b0e9-2548fb14e550","taker_order_id":"b5d87128-75fa-4642-9a29-e85819dde27b","side":"buy","size":"0.00000009","price":"83425.96","product_id":"BTC-USD","sequence":136999329371,"time":"2026-09-30T02:03:14.331644Z"}"#;
    const BAND_TICKER: &str = r#"{"type":"ticker","sequence":333938798,"product_id":"BAND-GBP","price":"14.7775","open_24h":"14.6647","volume_24h":"94381.28000000","low_24h":"14.3691","high_24h":"16.55","volume_30d":"2295579.57000000","best_bid":"14.7550","best_ask":"14.8060","side":"buy","time":"2021-04-17T16:43:30.244075Z","trade_id":881613,"last_size":"0.04"}"#;
    const BTC_HEARTBEAT: &str = r#"{"type":"heartbeat","last_trade_id":1092969669,"product_id":"BTC-USD","sequence":136118091026,"time":"2026-09-15T11:01:54.000000Z"}"#;
    const SKL_UPDATE: &str = r#"{"type":"l2update","product_id":"SKL-BTC","changes":[["sell","0.00001306","660.5"]],"time":"2021-04-17T16:43:37.075687Z"}"#;

    fn events(frame: &str) -> Result<Vec<Event<'_>>, DecodeError> {
        testing::events(|mut on_event| decode(frame.as_bytes(), &mut on_event))
    }

    #[track_caller]
    fn check(frame: &str, expected: Expected<'_, '_>) {
        testing::check(frame, events(frame), expected);
    }

    #[track_caller]
    fn refuses(frame: &str, expected: DecodeError) {
        check(frame, Err(expected));
    }

    #[test]
    fn reads_a_match() {
        let trade = Trade {
            symbol: Symbol::Text(b"BTC-USD"),
            id: Some(1_100_243_492),
            price: decimal("83425.96"),
            size: decimal("0.00000009"),
            taker: Some(Side::Sell),
            time: 1_790_733_794_331_644_000,
            age: Age::Live,
        };
        check(BTC_MATCH, Ok(&[Event::Trade(trade)]));
        let old = Trade { age: Age::Old, ..trade };
        check(&BTC_MATCH.replace("match", "last_match"), Ok(&[Event::Trade(old)]));
        // Some captures of 2026 come without the order ids.
        let short = r#"{"product_id":"BTC-USD","time":"2026-09-30T02:03:14.331644Z","price":"83425.96","size":"0.00000009","side":"buy","trade_id":1100243492,"type":"match"}"#;
        check(short, Ok(&[Event::Trade(trade)]));
    }

    #[test]
    fn reads_a_ticker_with_the_digits_of_the_venue() {
        let quote = Quote {
            symbol: Symbol::Text(b"BAND-GBP"),
            bid: top("14.7550", None),
            ask: top("14.8060", None),
            sequence: Some(333_938_798),
            time: Some(1_618_677_810_244_075_000),
            age: Age::Live,
        };
        check(BAND_TICKER, Ok(&[Event::Quote(quote)]));

        let sized = BAND_TICKER
            .replace(r#""best_ask":"14.8060""#, r#""best_bid_size":"0.10","best_ask":"14.8060","best_ask_size":"985""#);
        let first = sized.replace(r#""time":"2021-04-17T16:43:30.244075Z","#, "");
        let quote = Quote { bid: top("14.7550", "0.10"), ask: top("14.8060", "985"), ..quote };
        check(&sized, Ok(&[Event::Quote(quote)]));
        check(&first, Ok(&[Event::Quote(Quote { time: None, ..quote })]));
        let one_sided = sized.replace(r#""best_ask":"14.8060","#, "");
        check(&one_sided, Ok(&[Event::Quote(Quote { ask: None, ..quote })]));
    }

    #[test]
    fn reads_a_heartbeat() {
        let heartbeat = Heartbeat { symbol: Some(Symbol::Text(b"BTC-USD")), time: Some(1_789_470_114_000_000_000) };
        check(BTC_HEARTBEAT, Ok(&[Event::Heartbeat(heartbeat)]));
    }

    #[test]
    fn reads_levels_and_marks_the_faulty_ones() {
        let symbol = Symbol::Text(b"SKL-BTC");
        let begin = |scope| Event::BookBegin(BookBegin { symbol, scope, updates: None });
        let time = Some(1_618_677_817_075_687_000);
        let change = [begin(BookScope::Change), level(Side::Sell, "0.00001306", "660.5"), end(time)];
        check(SKL_UPDATE, Ok(&change));
        check(
            &SKL_UPDATE.replace("2021-04-17T16:43:37.075687Z", "0001-01-01T00:00:00.000000Z"),
            Ok(&[change[0], change[1], end(None)]),
        );
        check(&SKL_UPDATE.replace(r#"["sell","0.00001306","660.5"]"#, ""), Ok(&[change[0], end(time)]));
        let invalid = |reason| Event::Invalid { symbol: Some(symbol), part: Part::Level, reason };
        let changes = r#"[ ["buy","1","0.00"],["sell","0.00001306","0.-10000"],["sel","1","1"],["buy","0","1"],
            ["buy","1","-1"],["buy","1"],[],7,["buy","1",null],["buy",[],"1"],["buy","1","12345678901234567890"],
            ["buy","1.0","2",{"more":1}] ]"#;
        check(
            &SKL_UPDATE.replace(r#"[["sell","0.00001306","660.5"]]"#, changes),
            Ok(&[
                begin(BookScope::Change),
                level(Side::Buy, "1", "0.00"),
                invalid(Reason::Number),
                invalid(Reason::Side),
                invalid(Reason::Price),
                invalid(Reason::Size),
                invalid(Reason::MissingField),
                invalid(Reason::MissingField),
                invalid(Reason::MissingField),
                invalid(Reason::MissingField),
                invalid(Reason::FieldType),
                invalid(Reason::NumberRange),
                level(Side::Buy, "1.0", "2"),
                end(time),
            ]),
        );
        check(
            r#"{"asks":[["14.8024","12.77"]],"type":"snapshot","bids":[["14.7550","0.04"],["14","1E-8"]],"product_id":"SKL-BTC"}"#,
            Ok(&[
                begin(BookScope::Snapshot),
                level(Side::Buy, "14.7550", "0.04"),
                level(Side::Buy, "14", "0.00000001"),
                level(Side::Sell, "14.8024", "12.77"),
                end(None),
            ]),
        );
    }

    #[test]
    fn reads_other_messages() {
        check(
            r#"{"type":"subscriptions","channels":[{"name":"level2","product_ids":["SKL-BTC"]}]}"#,
            Ok(&[Event::Control(Control::Subscribed)]),
        );
        check(
            r#"{"type":"error","message":"Failed to subscribe","reason":"\"x\" is not a product"}"#,
            Ok(&[Event::Control(Control::Error {
                text: b"Failed to subscribe",
                detail: br#"\"x\" is not a product"#,
            })]),
        );
        let silent = Control::Error { text: b"", detail: b"" };
        check(r#"{"type":"error","message":null}"#, Ok(&[Event::Control(silent)]));
        check(
            r#"{"type":"done","price":{"not":"ours"},"time":7,"product_id":"BTC-USD"}"#,
            Ok(&[Event::Ignored { kind: b"done" }]),
        );
    }

    #[test]
    fn key_order_whitespace_and_unknown_keys_do_not_matter() {
        let expected = events(BTC_MATCH).unwrap();
        let spread = BTC_MATCH.replace("\":", "\" :\n\t").replace(",\"", " ,\r\n \"");
        let stuffed = BTC_MATCH.replace(
            r#""side""#,
            r#""x\"y":"a\"},{\\","nested":{"price":"1","side":["sell",{"trade_id":1}]},"n":null,"b":true,"side""#,
        );
        let as_strings = BTC_MATCH.replace("1100243492", "\"1100243492\"").replace("\"83425.96\"", "83425.96");
        for frame in [spread, stuffed, as_strings] {
            check(&frame, Ok(&expected));
        }
    }

    #[test]
    fn refuses_frames_that_cannot_be_read() {
        let syntax = |offset| DecodeError::Syntax { offset };
        let missing = |field| DecodeError::Missing { field };
        let invalid = |field, reason| DecodeError::Field { field, reason };
        refuses("", DecodeError::Truncated { offset: 0 });
        refuses("[]", syntax(0));
        refuses("\u{feff}{}", syntax(0));
        refuses("{}", missing("type"));
        refuses(r#"{"type":7}"#, invalid("type", Reason::FieldType));
        refuses(r#"{"type":"m\u0061tch"}"#, invalid("type", Reason::FieldType));
        refuses(r#"{"type":"match"}"#, missing("product_id"));
        refuses(r#"{"type":"l2update","product_id":"A-B"}"#, missing("changes"));
        refuses(r#"{"type":"snapshot","product_id":"A-B","bids":[],"asks":{}}"#, invalid("asks", Reason::FieldType));
        refuses(&format!("{BTC_MATCH}{BTC_MATCH}"), syntax(BTC_MATCH.len()));
        let altered = |from: &str, to: &str| BTC_MATCH.replace(from, to);
        refuses(&altered("\"83425.96\"", "null"), missing("price"));
        refuses(&altered("83425.96", ""), invalid("price", Reason::Number));
        refuses(&altered("83425.96", "83425.9.6"), invalid("price", Reason::Number));
        refuses(&altered("83425.96", "83,425.96"), invalid("price", Reason::Number));
        refuses(&altered("\"83425.96\"", "[83425.96]"), invalid("price", Reason::FieldType));
        refuses(&altered("83425.96", "1e40"), invalid("price", Reason::NumberRange));
        refuses(&altered("\"buy\"", "\"BUY\""), invalid("side", Reason::Side));
        refuses(&altered("1100243492", "-1"), invalid("trade_id", Reason::Number));
        refuses(&altered("1100243492", "1.5"), invalid("trade_id", Reason::Number));
        refuses(&altered("1100243492", "9223372036854775808"), invalid("trade_id", Reason::NumberRange));
        refuses(&altered("1100243492", "99999999999999999999999"), invalid("trade_id", Reason::NumberRange));
        refuses(&altered("2026-09-30T02:03:14.331644Z", "0001-01-01T00:00:00.000000Z"), invalid("time", Reason::Time));
        refuses(&altered("\"2026-09-30T02:03:14.331644Z\"", "1790733794"), invalid("time", Reason::FieldType));
    }

    /// What the layout reads, the grammar reads the same; and the venue's own frames are all in it.
    #[test]
    fn the_layout_says_what_the_grammar_says() {
        let sized = BAND_TICKER.replace(
            r#","best_ask":"14.8060""#,
            r#","best_bid_size":"0.10","best_ask":"14.8060","best_ask_size":"985""#,
        );
        let with = |changes: &str| SKL_UPDATE.replace("[[", &format!("[{changes},["));
        let several = with(r#"["buy","83362.67","0.00000000"],["sell","0.0000000001","123456789012.5"]"#);
        let many = with(&[r#"["buy","83362.67","1.5"]"#; 70].join(","));
        let both = |frame: &[u8]| {
            let (mut by_layout, mut by_grammar) = (Vec::new(), Vec::new());
            let is_usual = layout::decode(frame, &mut |event| by_layout.push(format!("{event:?}"))).is_some();
            let result = decode_by_grammar(frame, &mut |event| by_grammar.push(format!("{event:?}")));
            assert!(is_usual || by_layout.is_empty(), "{}", frame.escape_ascii());
            if is_usual {
                assert_eq!((Ok(()), by_layout), (result, by_grammar), "{}", frame.escape_ascii());
            }
            is_usual
        };
        assert!(both(many.as_bytes()));
        for faulty in [r#"["buy","1","0.-10000"]"#, r#"["sell","0.0","1"]"#] {
            assert!(!both(with(faulty).as_bytes()), "{faulty}");
        }
        for frame in [BTC_MATCH, BAND_TICKER, &sized, SKL_UPDATE, &several] {
            assert!(both(frame.as_bytes()), "{frame}");
            let mut read = 0;
            for at in 0..frame.len() {
                for byte in *b"\"\\{}[]:,.-+eE 0159bs\n\x00\xff" {
                    let mut changed = frame.as_bytes().to_vec();
                    changed[at] = byte;
                    read += u32::from(both(&changed));
                    let mut longer = frame.as_bytes().to_vec();
                    longer.insert(at, byte);
                    read += u32::from(both(&longer));
                }
                let mut shorter = frame.as_bytes().to_vec();
                shorter.remove(at);
                read += u32::from(both(&shorter));
            }
            assert!(read > 100, "other digits are the same layout");
        }
    }

    #[test]
    fn every_cut_of_a_frame_is_refused() {
        for frame in [BTC_MATCH, BAND_TICKER, BTC_HEARTBEAT, SKL_UPDATE] {
            for end in 0..frame.len() {
                let error = events(&frame[..end]).unwrap_err();
                assert_eq!(error, DecodeError::Truncated { offset: end }, "{}", &frame[..end]);
            }
        }
    }
}
