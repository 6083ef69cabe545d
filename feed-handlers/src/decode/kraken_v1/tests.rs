//! Frames as the venue sent them in 2021, and what must not be made of others.

use protocol::Decimal;

use super::super::event::Top;
use super::super::kraken;
use super::*;

const TRADES: &str = r#"[993,[["297.58000000","0.64000000","1618678166.521716","b","l",""],["297.59","1.5","1618678166.521717","s","m",""]],"trade","XMR/USD"]"#;
const CHANGE: &str = r#"[3648,{"b":[["0.00754000","0.00000000","1618678133.125637"],["0.00750100","4.73000000","1618678121.105640","r"]],"c":"3165263242"},"book-1000","KSM/XBT"]"#;
const BOTH_SIDES: &str = r#"[3648,{"a":[["0.00755000","1.00000000","1618678133.1"]]},{"b":[["0.00754000","2","1618678133.2"]],"c":"974942666"},"book-10","KSM/XBT"]"#;
const SNAPSHOT: &str = r#"[3648,{"as":[["0.00754700","15.00","1618678122.1"]],"bs":[["0.00754600","1.00","1618678130.25"]]},"book-10","KSM/XBT"]"#;
const TICKER: &str = r#"[996,{"a":["297.78000000",3,"3.02600000"],"b":["297.46000000",0,"0.50400000"],"c":["297.58","0.64"],"o":["1","2"]},"ticker","XMR/USD"]"#;
const SPREAD: &str =
    r#"[0,["5698.40000","5700.00000","1542057299.545897","1.01234567","0.98765432"],"spread","XBT/USD"]"#;
const OHLC: &str = r#"[42,["1542057314.748456","1542057360.435743","3586.70000","3586.70000","3586.60000","3586.60000","3586.68894","0.03373000",2],"ohlc-5","XBT/USD"]"#;

fn decimal(text: &str) -> Decimal {
    Decimal::parse(text.as_bytes()).unwrap()
}

#[track_caller]
fn check(frame: &str, expected: Result<&[Event<'_>], DecodeError>) {
    let mut events = Vec::new();
    let result = kraken::decode(frame.as_bytes(), &mut |event| events.push(event));
    assert!(result.is_ok() || events.is_empty(), "{events:?} beside {result:?}");
    // Numeric equality hides a lost zero; the derived text shows mantissa and scale.
    assert_eq!(format!("{:?}", result.map(|()| events)), format!("{:?}", expected.map(<[_]>::to_vec)), "{frame}");
}

fn level(side: Side, price: &str, size: &str) -> Event<'static> {
    Event::Level(Level { side, price: decimal(price), size: decimal(size) })
}

fn begin(scope: BookScope) -> Event<'static> {
    Event::BookBegin(BookBegin { symbol: Symbol::Text(b"KSM/XBT"), scope, updates: None })
}

fn end(checksum: Option<u32>, time: Option<i64>) -> Event<'static> {
    Event::BookEnd(BookEnd { checksum, time })
}

fn bad(name: &str, part: Part, reason: Reason) -> Event<'_> {
    Event::Invalid { symbol: Some(Symbol::Text(name.as_bytes())), part, reason }
}

fn top(price: &str, size: &str) -> Option<Top> {
    Some(Top { price: decimal(price), size: Some(decimal(size)) })
}

#[test]
fn reads_trades() {
    let first = Trade {
        symbol: Symbol::Text(b"XMR/USD"),
        id: None,
        price: decimal("297.58000000"),
        size: decimal("0.64000000"),
        taker: Some(Side::Buy),
        time: 1_618_678_166_521_716_000,
        age: Age::Live,
    };
    let second = Trade {
        price: decimal("297.59"),
        size: decimal("1.5"),
        taker: Some(Side::Sell),
        time: 1_618_678_166_521_717_000,
        ..first
    };
    check(TRADES, Ok(&[Event::Trade(first), Event::Trade(second)]));
    for (from, to, reason) in [
        (r#""b","l""#, r#""x","l""#, Reason::Side),
        ("297.58000000", "297.-8", Reason::Number),
        ("1618678166.521716", "1618678166.5217160001", Reason::Time),
        ("1618678166.521716", "-1", Reason::Time),
        (r#"["297.58000000","0.64000000","1618678166.521716","b","l",""]"#, "7", Reason::MissingField),
    ] {
        let faulty = TRADES.replace(from, to);
        check(&faulty, Ok(&[bad("XMR/USD", Part::Trade, reason), Event::Trade(second)]));
    }
    check(r#"[993,{},"trade","XMR/USD"]"#, Ok(&[bad("XMR/USD", Part::Trade, Reason::FieldType)]));
}

#[test]
fn reads_books() {
    let removed = level(Side::Buy, "0.00754000", "0.00000000");
    let again = level(Side::Buy, "0.00750100", "4.73000000");
    let change = [begin(BookScope::Change), removed, again, end(Some(3_165_263_242), Some(1_618_678_133_125_637_000))];
    check(CHANGE, Ok(&change));
    let both = [
        begin(BookScope::Change),
        level(Side::Buy, "0.00754000", "2"),
        level(Side::Sell, "0.00755000", "1.00000000"),
        end(Some(974_942_666), Some(1_618_678_133_200_000_000)),
    ];
    check(BOTH_SIDES, Ok(&both));
    let snapshot = [
        begin(BookScope::Snapshot),
        level(Side::Buy, "0.00754600", "1.00"),
        level(Side::Sell, "0.00754700", "15.00"),
        end(None, Some(1_618_678_130_250_000_000)),
    ];
    check(SNAPSHOT, Ok(&snapshot));
    // Of 2019.
    check(&SNAPSHOT.replace(r#"]]},"#, r#"]]},null,"#), Ok(&snapshot));
    check(
        &CHANGE.replace(r#","c":"3165263242""#, ""),
        Ok(&[change[0], change[1], change[2], end(None, Some(1_618_678_133_125_637_000))]),
    );
}

#[test]
fn a_book_with_a_fault_is_not_believed() {
    let bad = |reason| bad("KSM/XBT", Part::Level, reason);
    let time = Some(1_618_678_133_125_637_000);
    let [removed, again] =
        [("0.00754000", "0.00000000"), ("0.00750100", "4.73000000")].map(|(p, q)| level(Side::Buy, p, q));
    let checked = |checksum: &str, reason| {
        check(
            &CHANGE.replace(r#","c":"3165263242""#, checksum),
            Ok(&[begin(BookScope::Change), removed, again, bad(reason), end(None, time)]),
        );
    };
    checked(r#","c":"4294967296""#, Reason::NumberRange);
    checked(r#","c":"12a""#, Reason::Number);
    check(
        &CHANGE.replace("0.00754000", "0"),
        Ok(&[
            begin(BookScope::Change),
            bad(Reason::Price),
            again,
            end(Some(3_165_263_242), Some(1_618_678_121_105_640_000)),
        ]),
    );
    check(
        r#"[1,{"b":7,"c":"1"},"book-10","KSM/XBT"]"#,
        Ok(&[begin(BookScope::Change), bad(Reason::FieldType), end(Some(1), None)]),
    );
    check(r#"[1,[],"book-10","KSM/XBT"]"#, Ok(&[begin(BookScope::Change), bad(Reason::FieldType), end(None, None)]));
}

#[test]
fn reads_quotes_and_bars() {
    let quote = Quote {
        symbol: Symbol::Text(b"XMR/USD"),
        bid: top("297.46000000", "0.50400000"),
        ask: top("297.78000000", "3.02600000"),
        sequence: None,
        time: None,
        age: Age::Live,
    };
    check(TICKER, Ok(&[Event::Quote(quote)]));
    check(&TICKER.replace("297.46000000", "0.00000"), Ok(&[Event::Quote(Quote { bid: None, ..quote })]));
    check(&TICKER.replace(r#""a":"#, r#""x":"#), Ok(&[bad("XMR/USD", Part::Quote, Reason::MissingField)]));
    let spread = Quote {
        symbol: Symbol::Text(b"XBT/USD"),
        bid: top("5698.40000", "1.01234567"),
        ask: top("5700.00000", "0.98765432"),
        time: Some(1_542_057_299_545_897_000),
        ..quote
    };
    check(SPREAD, Ok(&[Event::Quote(spread)]));
    check(r#"[0,{},"spread","XBT/USD"]"#, Ok(&[bad("XBT/USD", Part::Quote, Reason::MissingField)]));
    let bar = Bar {
        symbol: Symbol::Text(b"XBT/USD"),
        interval_ns: 300_000_000_000,
        start: 1_542_057_000_000_000_000,
        open: decimal("3586.70000"),
        high: decimal("3586.70000"),
        low: decimal("3586.60000"),
        close: decimal("3586.60000"),
        volume: decimal("0.03373000"),
        vwap: Some(decimal("3586.68894")),
        trades: Some(2),
        in_progress: true,
    };
    check(OHLC, Ok(&[Event::Bar(bar)]));
    let minute = Bar { interval_ns: 60_000_000_000, start: 1_542_057_300_000_000_000, ..bar };
    check(&OHLC.replace("ohlc-5", "ohlc-1"), Ok(&[Event::Bar(minute)]));
    check(&OHLC.replace("ohlc-5", "ohlc-0"), Ok(&[bad("XBT/USD", Part::Bar, Reason::NumberRange)]));
}

#[test]
fn reads_what_is_said_about_the_connection() {
    let control = |frame: &str, expected| check(frame, Ok(&[Event::Control(expected)]));
    control(
        r#"{"connectionID":18239578009413566319,"event":"systemStatus","status":"online","version":"1.8.3"}"#,
        Control::Note,
    );
    let status = r#"{"channelID":993,"channelName":"trade","event":"subscriptionStatus","pair":"XMR/USD","status":"subscribed","subscription":{"name":"trade"}}"#;
    control(status, Control::Subscribed);
    let refused = r#"{"errorMessage":"Currency pair not supported","event":"subscriptionStatus","status":"error"}"#;
    control(refused, Control::Error { text: b"Currency pair not supported", detail: b"" });
    let alive = [Event::Heartbeat(Heartbeat { symbol: None, time: None })];
    check(r#"{"event":"heartbeat"}"#, Ok(&alive));
    check(r#"{"event":"pong","reqid":42}"#, Ok(&alive));
    check(r#"{"event":"addOrderStatus"}"#, Ok(&[Event::Ignored { kind: b"addOrderStatus" }]));
    check(r#"[1,[],"new","XBT/USD"]"#, Ok(&[Event::Ignored { kind: b"new" }]));
}

#[test]
fn refuses_frames_that_cannot_be_read() {
    let refuses = |frame: &str, error| check(frame, Err(error));
    refuses("[]", DecodeError::Missing { field: "channelName" });
    refuses(r#"[1,[],"trade"]"#, DecodeError::Missing { field: "pair" });
    refuses(r#"[1,[],7,"XBT/USD"]"#, DecodeError::Field { field: "channelName", reason: Reason::FieldType });
    refuses(r#"[1,{},{},"book-10","A/B",7]"#, DecodeError::Field { field: "frame", reason: Reason::Length });
    refuses(r#"{"event":7}"#, DecodeError::Field { field: "event", reason: Reason::FieldType });
    refuses(&format!("{TRADES}{TRADES}"), DecodeError::Syntax { offset: TRADES.len() });
    for frame in [TRADES, CHANGE, BOTH_SIDES, SNAPSHOT, TICKER, SPREAD, OHLC] {
        for end in 0..frame.len() {
            refuses(&frame[..end], DecodeError::Truncated { offset: end });
        }
    }
}
