//! Every message type and quirk of the venue, by literal lines: real ones where they were recorded.

use super::super::testing::{self, Expected, invalid, missing, top};
use super::*;

const WEEKEND: &str = r#"{"type":"PRICE","time":"2023-09-29T20:58:00.136640494Z","bids":[{"price":"0.86582","liquidity":10000000}],"asks":[{"price":"0.86704","liquidity":10000000}],"closeoutBid":"0.86582","closeoutAsk":"0.86704","status":"non-tradeable","tradeable":false,"instrument":"EUR_GBP"}"#;
const UNSORTED: &str = r#"{"type":"PRICE","time":"2017-09-24T22:20:39.888097022Z","bids":[{"price":"1.19195","liquidity":10000000},{"price":"1.19197","liquidity":500000}],"asks":[{"price":"1.19218","liquidity":10000000},{"price":"1.19216","liquidity":500000}],"closeoutBid":"1.19180","closeoutAsk":"1.19233","status":"tradeable","tradeable":true,"instrument":"EUR_USD"}"#;
const LOCKED: &str = r#"{"status":"tradeable","asks":[{"price":"10547.0","liquidity":25},{"price":"10547.2","liquidity":75}],"closeoutBid":"10546.6","bids":[{"price":"10547.0","liquidity":25},{"price":"10546.8","liquidity":75}],"instrument":"DE30_EUR","time":"2016-10-17T12:25:28.158741026Z","closeoutAsk":"10547.4","type":"PRICE"}"#;
const HEARTBEAT: &str = r#"{"type":"HEARTBEAT","time":"2016-10-27T08:38:44.327443673Z"}"#;

fn events(line: &str) -> Result<Vec<Event<'_>>, DecodeError> {
    testing::events(|mut on_event| decode(line.as_bytes(), &mut on_event))
}

#[track_caller]
fn check(line: &str, expected: Expected<'_, '_>) {
    testing::check(line, events(line), expected);
}

fn unsorted() -> Quote<'static> {
    Quote {
        symbol: Symbol::Text(b"EUR_USD"),
        bid: top("1.19197", "500000"),
        ask: top("1.19216", "500000"),
        sequence: None,
        time: Some(1_506_291_639_888_097_022),
        age: Age::Live,
    }
}

#[test]
fn the_best_bucket_is_the_quote() {
    check(UNSORTED, Ok(&[Event::Quote(unsorted())]));
    let locked = Quote {
        symbol: Symbol::Text(b"DE30_EUR"),
        bid: top("10547.0", "25"),
        ask: top("10547.0", "25"),
        sequence: None,
        time: Some(1_476_707_128_158_741_026),
        age: Age::Live,
    };
    check(LOCKED, Ok(&[Event::Quote(locked)]));

    let empty =
        UNSORTED.replace(r#"[{"price":"1.19195","liquidity":10000000},{"price":"1.19197","liquidity":500000}]"#, "[]");
    check(&empty, Ok(&[Event::Quote(Quote { bid: None, ..unsorted() })]));
    let of_floats = Quote { bid: top("1.19197", "500000.0"), ask: top("1.19216", "500000.0"), ..unsorted() };
    check(&UNSORTED.replace("500000", "500000.0"), Ok(&[Event::Quote(of_floats)]));
    // Liquidity as an exponent, a string; prices as bare numbers; 1.19197 again with another zero.
    for (from, to) in [
        ("500000", "5E5"),
        ("500000", "\"500000\""),
        ("\"1.19197\"", "1.19197"),
        (
            r#"{"price":"1.19195","liquidity":10000000}"#,
            r#"{"price":"1.19197","liquidity":500000},{"price":"1.191970","liquidity":9}"#,
        ),
    ] {
        check(&UNSORTED.replace(from, to), Ok(&[Event::Quote(unsorted())]));
    }
    let unsized_bid = UNSORTED.replace(r#""1.19197","liquidity":500000"#, r#""1.19197""#);
    let bid = unsorted().bid.map(|bid| Top { size: None, ..bid });
    check(&unsized_bid, Ok(&[Event::Quote(Quote { bid, ..unsorted() })]));
}

#[test]
fn only_a_tradeable_price_is_live() {
    let weekend = Quote {
        symbol: Symbol::Text(b"EUR_GBP"),
        bid: top("0.86582", "10000000"),
        ask: top("0.86704", "10000000"),
        sequence: None,
        time: Some(1_696_021_080_136_640_494),
        age: Age::Old,
    };
    check(WEEKEND, Ok(&[Event::Quote(weekend)]));
    let live = unsorted();
    let old = Quote { age: Age::Old, ..live };
    let none = Quote { bid: None, ask: None, ..live };
    let said = r#""status":"tradeable","tradeable":true"#;
    for (standing, quote) in [
        (r#""status":"tradeable""#, live),
        (r#""tradeable":true"#, live),
        (r#""status":null,"tradeable":null"#, live),
        (r#""x":0"#, live),
        (r#""status":"non-tradeable","tradeable":true"#, live),
        (r#""status":"tradeable","tradeable":false"#, old),
        (r#""status":"non-tradeable""#, old),
        (r#""status":"invalid""#, none),
        (r#""status":"invalid","tradeable":false"#, none),
    ] {
        check(&UNSORTED.replace(said, standing), Ok(&[Event::Quote(quote)]));
    }
    check(&UNSORTED.replace(said, r#""status":"halted""#), invalid("status", Reason::FieldType));
    check(&UNSORTED.replace(said, r#""tradeable":"yes""#), invalid("tradeable", Reason::FieldType));
}

#[test]
fn reads_times_in_both_forms() {
    let at = |time: &str| HEARTBEAT.replace("2016-10-27T08:38:44.327443673Z", time);
    let heartbeat = |time| Event::Heartbeat(Heartbeat { symbol: None, time: Some(time) });
    for (text, time) in [
        ("2016-10-27T08:38:44.327443673Z", 1_477_557_524_327_443_673),
        ("2016-10-27T08:38:44Z", 1_477_557_524_000_000_000),
        ("1477557524.327443673", 1_477_557_524_327_443_673),
        ("1477557524.3", 1_477_557_524_300_000_000),
        ("1477557524", 1_477_557_524_000_000_000),
        ("0.000000001", 1),
    ] {
        check(&at(text), Ok(&[heartbeat(time)]));
    }
    for text in [
        "",
        ".",
        "1477557524.",
        ".5",
        "-1.5",
        "+1",
        "1e9",
        "1477557524.3274436730",
        "9223372037",
        "99999999999999999999",
        "1477557524.32.7",
        "1477557524,3",
        "0001-01-01T00:00:00Z",
    ] {
        check(&at(text), invalid("time", Reason::Time));
    }
    check(r#"{"type":"HEARTBEAT","time":1477557524.3}"#, invalid("time", Reason::FieldType));
    check(r#"{"type":"HEARTBEAT"}"#, missing("time"));
}

#[test]
fn blank_lines_have_no_event_and_ends_of_lines_do_not_matter() {
    for line in ["", "\n", "\r", "\r\n", "  \t\r\n"] {
        check(line, Ok(&[]));
    }
    check(&format!("{UNSORTED}\r\n"), Ok(&[Event::Quote(unsorted())]));
    let spread = UNSORTED.replace("\":", "\" : ").replace(",\"", ",\r\n \"");
    check(&spread, Ok(&[Event::Quote(unsorted())]));
    // What the venue calls a price, whether it says so or not.
    check(&UNSORTED.replace(r#""type":"PRICE","#, ""), Ok(&[Event::Quote(unsorted())]));
}

#[test]
fn reads_answers_that_are_no_stream() {
    let control = |control| [Event::Control(control)];
    let text = b"Insufficient authorization to perform request.";
    check(
        r#"{"errorMessage":"Insufficient authorization to perform request."}"#,
        Ok(&control(Control::AuthRefused { text })),
    );
    check(
        r#"{"errorMessage":"The provided request was forbidden."}"#,
        Ok(&control(Control::AuthRefused { text: b"The provided request was forbidden." })),
    );
    check(
        r#"{"errorCode":"oanda::x::NO_SUCH","errorMessage":"Invalid value specified for 'accountID'"}"#,
        Ok(&control(Control::Error { text: b"Invalid value specified for 'accountID'", detail: b"oanda::x::NO_SUCH" })),
    );
    check(r#"{"type":"TRANSACTION","id":"7"}"#, Ok(&[Event::Ignored { kind: b"TRANSACTION" }]));

    let answer = |prices: &str| format!(r#"{{"time":"2017-09-24T22:20:40.0Z","prices":[{prices}]}}"#);
    check(&answer(""), Ok(&[Event::Ignored { kind: b"prices" }]));
    let faulty = UNSORTED.replace("1.19216", "1,19216");
    let fault = |symbol, reason| Event::Invalid { symbol, part: Part::Quote, reason };
    check(
        &answer(&format!("{UNSORTED},7,{faulty},{{}},{UNSORTED}")),
        Ok(&[
            Event::Quote(unsorted()),
            fault(None, Reason::FieldType),
            fault(Some(Symbol::Text(b"EUR_USD")), Reason::Number),
            fault(None, Reason::MissingField),
            Event::Quote(unsorted()),
        ]),
    );
    check(r#"{"prices":7}"#, invalid("prices", Reason::FieldType));
}

#[test]
fn refuses_lines_that_cannot_be_read() {
    let altered = |from: &str, to: &str| UNSORTED.replace(from, to);
    check("[]", Err(DecodeError::Syntax { offset: 0 }));
    check("{}", missing("type"));
    check(&format!("{HEARTBEAT}{HEARTBEAT}"), Err(DecodeError::Syntax { offset: HEARTBEAT.len() }));
    check(r#"{"type":7}"#, invalid("type", Reason::FieldType));
    check(&altered("\"EUR_USD\"", "null"), missing("instrument"));
    check(&altered("\"bids\"", "\"bid\""), missing("bids"));
    check(&altered("2017-09-24T22", "2017-09-24T25"), invalid("time", Reason::Time));
    // A bucket that cannot be read might be the best one, wherever it stands.
    for (to, reason) in [
        ("7", Reason::FieldType),
        ("{}", Reason::MissingField),
        (r#"{"price":"0.-10000","liquidity":1}"#, Reason::Number),
        (r#"{"price":"0.00000","liquidity":1}"#, Reason::Price),
        (r#"{"price":"-1.19195","liquidity":1}"#, Reason::Price),
        (r#"{"price":"1.19195","liquidity":-1}"#, Reason::Size),
        (r#"{"price":"1.19195","liquidity":true}"#, Reason::FieldType),
        (r#"{"price":"1.1919500000000000001","liquidity":1}"#, Reason::NumberRange),
    ] {
        check(&altered(r#"{"price":"1.19195","liquidity":10000000}"#, to), invalid("bids", reason));
    }
}

#[test]
fn every_cut_of_a_line_is_refused() {
    for line in [WEEKEND, UNSORTED, LOCKED, HEARTBEAT] {
        for end in 1..line.len() {
            check(&line[..end], Err(DecodeError::Truncated { offset: end }));
        }
    }
}
