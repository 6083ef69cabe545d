//! Frames as the venue sends them, and what must not be made of frames that it does not.

use super::super::event::Symbol;
use super::super::testing::{self, Expected, at, bad, begin, decimal, level, top};
use super::*;

const SNAPSHOT: &str = r#"{"channel":"book","type":"snapshot","data":[{"symbol":"ETH/USD","bids":[{"price":1797.24,"qty":0.43393711},{"price":1797.10,"qty":139.10616250}],"asks":[{"price":1797.25,"qty":1.40355852}],"checksum":2606672715}]}"#;
const UPDATE: &str = r#"{"channel":"book","type":"update","data":[{"symbol":"MINA/GBP","bids":[{"price":0.0279,"qty":0.00000000},{"price":0.0020,"qty":5220.00000000},{"price":0.0277,"qty":1486.59884909}],"asks":[],"checksum":222201382,"timestamp":"2026-08-16T23:37:05.723653Z"}]}"#;
const TRADE: &str = r#"{"channel":"trade","type":"update","data":[{"symbol":"BTC/USD","side":"buy","price":77120.0,"qty":0.00048389,"ord_type":"limit","trade_id":105702534,"timestamp":"2026-08-22T17:30:53.355059Z"}]}"#;
const TICKER: &str = r#"{"channel":"ticker","type":"update","data":[{"symbol":"BTC/USD","bid":62703.4,"bid_qty":0.0318498,"ask":62710.30,"ask_qty":0.00191335,"last":62702.9,"volume":1947.83637005,"vwap":63392.2,"low":62476.1,"high":64196.6,"change":-239.4,"change_pct":-0.38,"timestamp":"2026-07-08T05:24:41.204829Z"}]}"#;
const OHLC: &str = r#"{"channel":"ohlc","type":"update","timestamp":"2023-10-04T16:26:30.524394914Z","data":[{"symbol":"MATIC/USD","open":0.5624,"high":0.5628,"low":0.5622,"close":0.5627,"trades":12,"volume":30927.68066226,"vwap":0.5626,"interval_begin":"2023-10-04T16:25:00.000000000Z","interval":5,"timestamp":"2023-10-04T16:30:00.000000Z"}]}"#;
const ACK: &str = r#"{"method":"subscribe","result":{"channel":"book","depth":25,"snapshot":true,"symbol":"MINA/GBP"},"success":true,"time_in":"2026-08-16T23:37:04.849274Z","time_out":"2026-08-16T23:37:04.849309Z"}"#;
const STATUS: &str = r#"{"channel":"status","type":"update","data":[{"version":"2.0.10","system":"online","api_version":"v2","connection_id":7974620515126709019}]}"#;

fn events(frame: &str) -> Result<Vec<Event<'_>>, DecodeError> {
    testing::events(|mut on_event| decode(frame.as_bytes(), &mut on_event))
}

#[track_caller]
fn check(frame: &str, expected: Expected<'_, '_>) {
    testing::check(frame, events(frame), expected);
}

fn end(checksum: Option<u32>, time: Option<i64>) -> Event<'static> {
    Event::BookEnd(BookEnd { checksum, time })
}

fn btc_trade() -> Trade<'static> {
    Trade {
        symbol: Symbol::Text(b"BTC/USD"),
        id: Some(105_702_534),
        price: decimal("77120.0"),
        size: decimal("0.00048389"),
        taker: Some(Side::Buy),
        time: at("2026-08-22T17:30:53.355059Z"),
        age: Age::Live,
    }
}

fn btc_quote() -> Quote<'static> {
    Quote {
        symbol: Symbol::Text(b"BTC/USD"),
        bid: top("62703.4", "0.0318498"),
        ask: top("62710.30", "0.00191335"),
        sequence: None,
        time: Some(at("2026-07-08T05:24:41.204829Z")),
        age: Age::Live,
    }
}

#[test]
fn reads_books_with_their_digits_and_checksum() {
    let snapshot = [
        begin("ETH/USD", BookScope::Snapshot),
        level(Side::Buy, "1797.24", "0.43393711"),
        level(Side::Buy, "1797.10", "139.10616250"),
        level(Side::Sell, "1797.25", "1.40355852"),
        end(Some(2_606_672_715), None),
    ];
    check(SNAPSHOT, Ok(&snapshot));
    let update = [
        begin("MINA/GBP", BookScope::Change),
        level(Side::Buy, "0.0279", "0.00000000"),
        level(Side::Buy, "0.0020", "5220.00000000"),
        level(Side::Buy, "0.0277", "1486.59884909"),
        end(Some(222_201_382), Some(at("2026-08-16T23:37:05.723653Z"))),
    ];
    check(UPDATE, Ok(&update));
    // A book that nobody is in.
    for empty in ["[]", "null"] {
        let frame = format!(
            r#"{{"channel":"book","type":"snapshot","data":[{{"symbol":"A/B","bids":{empty},"asks":{empty},"checksum":0}}]}}"#
        );
        check(&frame, Ok(&[begin("A/B", BookScope::Snapshot), end(Some(0), None)]));
    }
    // A time that cannot be read is none: it is the checksum that counts.
    let mut untimed = update;
    untimed[4] = end(Some(222_201_382), None);
    check(&UPDATE.replace("2026-08-16T23:37:05.723653Z", "0001-01-01T00:00:00Z"), Ok(&untimed));
}

#[test]
fn a_faulty_level_leaves_the_others() {
    let levels = r#"[{"price":0,"qty":1},{"price":1,"qty":-1},{"price":1},{"qty":1},{"price":true,"qty":1},
        {"price":"0.-10000","qty":1},{"price":1e30,"qty":1},[1,2],null,{"price":1e-08,"qty":2.50}]"#;
    let frame = format!(
        r#"{{"channel":"book","type":"update","data":[{{"symbol":"A/B","bids":[],"asks":{levels},"checksum":7}}]}}"#
    );
    let bad = |reason| bad(Some("A/B"), Part::Level, reason);
    check(
        &frame,
        Ok(&[
            begin("A/B", BookScope::Change),
            bad(Reason::Price),
            bad(Reason::Size),
            bad(Reason::MissingField),
            bad(Reason::MissingField),
            bad(Reason::FieldType),
            bad(Reason::Number),
            bad(Reason::NumberRange),
            bad(Reason::FieldType),
            bad(Reason::FieldType),
            level(Side::Sell, "0.00000001", "2.50"),
            end(Some(7), None),
        ]),
    );
}

/// A book whose parts or checksum cannot be read is begun and ended, and said to be wrong in between.
#[test]
fn a_faulty_book_is_said_to_be() {
    let check_book = |members: &str, faults: &[Reason], checksum| {
        let frame = format!(r#"{{"channel":"book","type":"update","data":[{{"symbol":"A/B",{members}}}]}}"#);
        let mut expected = vec![begin("A/B", BookScope::Change)];
        expected.extend(faults.iter().map(|reason| bad(Some("A/B"), Part::Level, *reason)));
        expected.push(end(checksum, None));
        check(&frame, Ok(&expected));
    };
    check_book(r#""bids":[],"asks":[],"checksum":4294967295"#, &[], Some(u32::MAX));
    check_book(r#""bids":[],"asks":[],"checksum":4294967296"#, &[Reason::NumberRange], None);
    check_book(r#""bids":[],"asks":[],"checksum":-1"#, &[Reason::Number], None);
    check_book(r#""bids":[],"asks":[]"#, &[Reason::MissingField], None);
    check_book(r#""bids":[],"checksum":1"#, &[Reason::MissingField], Some(1));
    check_book(r#""bids":{},"asks":[],"checksum":1"#, &[Reason::FieldType], Some(1));
    let nameless = r#"{"channel":"book","type":"update","data":[{"bids":[],"asks":[],"checksum":1},7]}"#;
    let level = |reason| bad(None, Part::Level, reason);
    check(nameless, Ok(&[level(Reason::MissingField), level(Reason::FieldType)]));
}

#[test]
fn reads_trades() {
    check(TRADE, Ok(&[Event::Trade(btc_trade())]));
    let sold = Event::Trade(Trade { taker: Some(Side::Sell), age: Age::Old, ..btc_trade() });
    check(&TRADE.replace("buy", "sell").replace("update", "snapshot"), Ok(&[sold]));
    let good = TRADE.split_once('[').unwrap().1.rsplit_once(']').unwrap().0;
    let check_faulty = |from: &str, to: &str, name: Option<&str>, reason| {
        let faulty = good.replace(from, to);
        assert_ne!(faulty, good);
        let frame = TRADE.replace(good, &format!("{faulty},{good}"));
        check(&frame, Ok(&[bad(name, Part::Trade, reason), Event::Trade(btc_trade())]));
    };
    let btc = Some("BTC/USD");
    check_faulty(r#""symbol":"BTC/USD","#, "", None, Reason::MissingField);
    check_faulty("buy", "b", btc, Reason::Side);
    check_faulty("77120.0", "null", btc, Reason::MissingField);
    check_faulty("77120.0", "\"\"", btc, Reason::Number);
    check_faulty("0.00048389", "0.0000000000000000001", btc, Reason::NumberRange);
    check_faulty("105702534", "1.05", btc, Reason::Number);
    check_faulty("105702534", "18446744073709551616", btc, Reason::NumberRange);
    check_faulty("2026-08-22T17:30:53.355059Z", "1724347853.355059", btc, Reason::Time);
    check_faulty(good, "[]", None, Reason::FieldType);
}

#[test]
fn reads_quotes() {
    check(TICKER, Ok(&[Event::Quote(btc_quote())]));
    let old = Event::Quote(Quote { age: Age::Old, ..btc_quote() });
    check(&TICKER.replace("update", "snapshot"), Ok(&[old]));
    let untimed = Event::Quote(Quote { time: None, ..btc_quote() });
    check(&TICKER.replace(r#","timestamp":"2026-07-08T05:24:41.204829Z""#, ""), Ok(&[untimed]));
    let no_ask = Event::Quote(Quote { ask: None, ..btc_quote() });
    check(&TICKER.replace("62710.30", "0.0").replace("0.00191335", "0.00000000"), Ok(&[no_ask]));
    check(&TICKER.replace("62710.30", "null"), Ok(&[no_ask]));
    let never_traded = r#"{"channel":"ticker","type":"snapshot","data":[{"symbol":"BTC/USD","bid":0,"bid_qty":0,"ask":0.0,"ask_qty":0.00000000,"last":0.0,"volume":0,"vwap":0.0,"low":0.0,"high":0.0,"change":0.0,"change_pct":0.00,"timestamp":"1970-01-01T00:00:00.000000Z"}]}"#;
    let nothing = Event::Quote(Quote { bid: None, ask: None, time: None, age: Age::Old, ..btc_quote() });
    check(never_traded, Ok(&[nothing]));
    let faulty = |from: &str, to: &str, reason| {
        check(&TICKER.replace(from, to), Ok(&[bad(Some("BTC/USD"), Part::Quote, reason)]));
    };
    faulty(r#""bid":62703.4,"#, "", Reason::MissingField);
    faulty("62703.4", "[62703.4]", Reason::FieldType);
    faulty("0.0318498", "\"x\"", Reason::Number);
    faulty("2026-07-08T05:24:41.204829Z", "2026-07-08", Reason::Time);
}

#[test]
fn reads_bars() {
    let bar = Bar {
        symbol: Symbol::Text(b"MATIC/USD"),
        interval_ns: 300_000_000_000,
        start: at("2023-10-04T16:25:00Z"),
        open: decimal("0.5624"),
        high: decimal("0.5628"),
        low: decimal("0.5622"),
        close: decimal("0.5627"),
        volume: decimal("30927.68066226"),
        vwap: Some(decimal("0.5626")),
        trades: Some(12),
        in_progress: true,
    };
    check(OHLC, Ok(&[Event::Bar(bar)]));
    let bare = Bar { vwap: None, trades: None, ..bar };
    check(&OHLC.replace(r#""trades":12,"#, "").replace(r#""vwap":0.5626,"#, ""), Ok(&[Event::Bar(bare)]));
    let faulty = |from: &str, to: &str, reason| {
        check(&OHLC.replace(from, to), Ok(&[bad(Some("MATIC/USD"), Part::Bar, reason)]));
    };
    faulty(r#""interval":5"#, r#""interval":0"#, Reason::NumberRange);
    faulty(r#""interval":5"#, r#""interval":9223372036854775807"#, Reason::NumberRange);
    faulty(r#""interval":5"#, r#""interval":"5m""#, Reason::Number);
    faulty(r#""interval":5,"#, "", Reason::MissingField);
    faulty(r#""low":0.5622,"#, "", Reason::MissingField);
    faulty(r#""trades":12"#, r#""trades":1.2"#, Reason::Number);
    faulty("2023-10-04T16:25:00.000000000Z", "1696436700", Reason::Time);
}

#[test]
fn reads_other_messages() {
    let beat = |time| Event::Heartbeat(Heartbeat { symbol: None, time });
    let error = |text| Event::Control(Control::Error { text, detail: b"" });
    let throttled = |text| Event::Control(Control::Throttled { text });
    check(r#"{"channel":"heartbeat"}"#, Ok(&[beat(None)]));
    check(STATUS, Ok(&[Event::Control(Control::Note)]));
    check(ACK, Ok(&[Event::Control(Control::Subscribed)]));
    check(&ACK.replace("subscribe", "unsubscribe"), Ok(&[Event::Control(Control::Subscribed)]));
    check(
        r#"{"error":"Subscription depth not supported","method":"subscribe","success":false}"#,
        Ok(&[error(b"Subscription depth not supported")]),
    );
    check(r#"{"error":"Malformed request","success":false}"#, Ok(&[error(b"Malformed request")]));
    check(r#"{"error":"Currency pair not supported XBT/USD"}"#, Ok(&[error(b"Currency pair not supported XBT/USD")]));
    check(r#"{"method":"subscribe","success":false}"#, Ok(&[error(b"")]));
    check(
        r#"{"error":"EAPI:Rate limit exceeded","method":"subscribe","success":false}"#,
        Ok(&[throttled(b"EAPI:Rate limit exceeded")]),
    );
    check(r#"{"error":"Exceeded msg rate","success":false}"#, Ok(&[throttled(b"Exceeded msg rate")]));
    check(
        r#"{"method":"pong","req_id":101,"time_in":"2023-09-24T14:10:23.799685Z","time_out":"2023-09-24T14:10:23.799703Z"}"#,
        Ok(&[beat(Some(at("2023-09-24T14:10:23.799703Z")))]),
    );
    check(r#"{"method":"pong"}"#, Ok(&[beat(None)]));
    check(r#"{"method":"add_order","result":{},"success":true}"#, Ok(&[Event::Ignored { kind: b"add_order" }]));
    for kind in ["instrument", "level3", "executions"] {
        let frame =
            format!(r#"{{"channel":"{kind}","type":"snapshot","data":{{"pairs":[{{"price_increment":1e-08}}]}}}}"#);
        check(&frame, Ok(&[Event::Ignored { kind: kind.as_bytes() }]));
    }
    check(&TRADE.replace("update", "correction"), Ok(&[Event::Ignored { kind: b"correction" }]));
    check(r#"{"channel":"trade","type":"snapshot","data":[]}"#, Ok(&[Event::Ignored { kind: b"trade" }]));
}

#[test]
fn key_order_whitespace_and_unknown_keys_do_not_matter() {
    let expected = events(UPDATE).unwrap();
    let spread = UPDATE.replace("\":", "\" :\n\t").replace(",\"", " ,\r\n \"");
    let stuffed = UPDATE
        .replace(r#""data""#, r#""x\"y":"a\"},{\\","nested":{"data":[{"bids":[{}]}]},"n":null,"data""#)
        .replace(r#""qty""#, r#""more":[{"qty":7}],"qty""#);
    let turned = r#"{"data":[{"timestamp":"2026-08-16T23:37:05.723653Z","checksum":"222201382","asks":[],"bids":[{"qty":"0.00000000","price":"0.0279"},{"qty":5220.00000000,"price":0.0020},{"qty":1486.59884909,"price":0.0277}],"symbol":"MINA/GBP"}],"type":"update","channel":"book"}"#;
    for frame in [&spread, &stuffed, turned] {
        check(frame, Ok(&expected));
    }
}

#[test]
fn refuses_frames_that_cannot_be_read() {
    let refuses = |frame: &str, error| check(frame, Err(error));
    let missing = |field| DecodeError::Missing { field };
    let invalid = |field, reason| DecodeError::Field { field, reason };
    refuses("", DecodeError::Truncated { offset: 0 });
    refuses("{}", missing("channel"));
    refuses(r#"{"channel":null,"type":"update"}"#, missing("channel"));
    refuses(r#"{"channel":["book"]}"#, invalid("channel", Reason::FieldType));
    refuses(r#"{"channel":"bo\u006fk","type":"update","data":[]}"#, invalid("channel", Reason::FieldType));
    refuses(r#"{"channel":"book","data":[]}"#, missing("type"));
    refuses(r#"{"channel":"book","type":"update"}"#, missing("data"));
    refuses(r#"{"channel":"book","type":"update","data":{}}"#, invalid("data", Reason::FieldType));
    refuses(r#"{"method":"subscribe"}"#, missing("success"));
    refuses(r#"{"method":"subscribe","success":"true"}"#, invalid("success", Reason::FieldType));
    refuses(r#"{"method":7,"success":true}"#, invalid("method", Reason::FieldType));
    refuses(r#"{"method":"pong","time_out":"soon"}"#, invalid("time_out", Reason::Time));
    refuses(&format!("{TRADE}{TRADE}"), DecodeError::Syntax { offset: TRADE.len() });
    refuses(&TRADE.replace("77120.0", "077120.0"), DecodeError::Syntax { offset: TRADE.find("77120").unwrap() + 1 });
}

#[test]
fn every_cut_of_a_frame_is_refused() {
    for frame in [SNAPSHOT, UPDATE, TRADE, TICKER, OHLC, ACK, STATUS] {
        for end in 0..frame.len() {
            check(&frame[..end], Err(DecodeError::Truncated { offset: end }));
        }
    }
}
