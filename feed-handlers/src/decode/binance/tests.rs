//! Every message type and quirk of the venue, by literal frames: real ones where they were recorded.

use super::super::testing::{self, Expected, decimal, end, invalid, level, missing, top};
use super::*;

const BTC_TRADE: &str = r#"{"stream":"btcusdt@trade","data":{"e":"trade","E":1789295134226,"s":"BTCUSDT","t":388510,"p":"76745.19000000","q":"0.00065000","T":1789295134225,"m":false,"M":true}}"#;
const BTC_AGGREGATE: &str = r#"{"stream":"btcusdt@aggTrade","data":{"e":"aggTrade","E":1616176861895,"s":"BTCUSDT","a":640283266,"p":"58942.01000000","q":"0.00035600","f":716849523,"l":716849523,"T":1616176861893,"m":true,"M":true}}"#;
const NKN_TICKER: &str = r#"{"stream":"nknusdt@bookTicker","data":{"u":499869768,"s":"NKNUSDT","b":"0.35210000","B":"672.00000000","a":"0.35260000","A":"3199.00000000"}}"#;
const NKN_DEPTH: &str = r#"{"stream":"nknusdt@depth@100ms","data":{"e":"depthUpdate","E":1633998512568,"s":"NKNUSDT","U":499869753,"u":499869754,"b":[["0.35170000","4265.00000000"]],"a":[["0.35290000","0.00000000"]]}}"#;
const ETH_PARTIAL: &str = r#"{"stream":"ethusdt@depth20@100ms","data":{"lastUpdateId":17044571457,"bids":[["1782.00000000","6.48300000"]],"asks":[["1782.01000000","15.46080000"]]}}"#;
const BTC_KLINE: &str = r#"{"stream":"btcusdt@kline_1m","data":{"e":"kline","E":1653818762502,"s":"BTCUSDT","k":{"t":1653818760000,"T":1653818819999,"s":"BTCUSDT","i":"1m","f":1384844002,"L":1384844032,"o":"29038.46000000","c":"29038.47000000","h":"29038.48000000","l":"29038.45000000","v":"0.20926000","n":31,"x":false,"q":"6076.58918320","V":"0.10436000","Q":"3030.45472920","B":"0"}}}"#;

fn events(unit: TimeUnit, frame: &str) -> Result<Vec<Event<'_>>, DecodeError> {
    testing::events(|mut on_event| decode_in(unit, frame.as_bytes(), &mut on_event))
}

#[track_caller]
fn check(frame: &str, expected: Expected<'_, '_>) {
    testing::check(frame, events(TimeUnit::Milliseconds, frame), expected);
}

fn begin(symbol: &str, scope: BookScope, updates: (u64, u64)) -> Event<'_> {
    Event::BookBegin(BookBegin { symbol: Symbol::Text(symbol.as_bytes()), scope, updates: Some(updates) })
}

/// The frame as a connection to one stream alone would bring it.
fn raw(combined: &str) -> &str {
    let (_, data) = combined.split_once(r#""data":"#).unwrap();
    data.strip_suffix('}').unwrap()
}

#[test]
fn reads_trades() {
    let trade = Trade {
        symbol: Symbol::Text(b"BTCUSDT"),
        id: Some(388_510),
        price: decimal("76745.19000000"),
        size: decimal("0.00065000"),
        taker: Some(Side::Buy),
        time: 1_789_295_134_225_000_000,
        age: Age::Live,
    };
    check(BTC_TRADE, Ok(&[Event::Trade(trade)]));
    check(raw(BTC_TRADE), Ok(&[Event::Trade(trade)]));
    let sold = Trade { taker: Some(Side::Sell), ..trade };
    check(&BTC_TRADE.replace(r#""m":false"#, r#""m":true"#), Ok(&[Event::Trade(sold)]));
    // In 2019 `b` and `a` were the orders.
    let of_2019 = BTC_TRADE.replace(r#""T":"#, r#""b":88,"a":50,"T":"#);
    check(&of_2019, Ok(&[Event::Trade(trade)]));
    check(
        BTC_AGGREGATE,
        Ok(&[Event::Trade(Trade {
            symbol: Symbol::Text(b"BTCUSDT"),
            id: Some(640_283_266),
            price: decimal("58942.01000000"),
            size: decimal("0.00035600"),
            taker: Some(Side::Sell),
            time: 1_616_176_861_893_000_000,
            age: Age::Live,
        })]),
    );
    check(
        r#"{"e":"blockTrade","E":1772506983582,"s":"BNBBTC","t":582,"p":"0.052","q":"5838","T":1772506983321,"m":true}"#,
        Ok(&[Event::Trade(Trade {
            symbol: Symbol::Text(b"BNBBTC"),
            id: None,
            price: decimal("0.052"),
            size: decimal("5838"),
            taker: Some(Side::Sell),
            time: 1_772_506_983_321_000_000,
            age: Age::Live,
        })]),
    );
}

#[test]
fn times_are_in_the_unit_that_was_asked_for() {
    let micros = BTC_TRADE.replace("1789295134225", "1789295134225678");
    let of = |unit, frame: &str| match events(unit, frame).unwrap()[..] {
        [Event::Trade(trade)] => trade.time,
        ref other => panic!("{other:?}"),
    };
    assert_eq!(of(TimeUnit::Microseconds, &micros), 1_789_295_134_225_678_000);
    // The same digits in ms are beyond the years that ns can express: nothing is guessed by size.
    check(&micros, invalid("T", Reason::Time));
    assert_eq!(of(TimeUnit::Microseconds, BTC_TRADE), 1_789_295_134_225_000, "in January 1970");
}

#[test]
fn reads_book_tickers() {
    let quote = Quote {
        symbol: Symbol::Text(b"NKNUSDT"),
        bid: top("0.35210000", "672.00000000"),
        ask: top("0.35260000", "3199.00000000"),
        sequence: Some(499_869_768),
        time: None,
        age: Age::Live,
    };
    check(NKN_TICKER, Ok(&[Event::Quote(quote)]));
    check(raw(NKN_TICKER), Ok(&[Event::Quote(quote)]));
    // All symbols together: the symbol is not in the stream's name.
    check(&NKN_TICKER.replace("nknusdt@bookTicker", "!bookTicker"), Ok(&[Event::Quote(quote)]));
    let no_ask = NKN_TICKER.replace("0.35260000", "0.00000000").replace("3199.00000000", "0.00000000");
    check(&no_ask, Ok(&[Event::Quote(Quote { ask: None, ..quote })]));
    let timed = NKN_TICKER.replace(r#"{"u""#, r#"{"e":"bookTicker","E":1633998513377,"u""#);
    check(&timed, Ok(&[Event::Quote(Quote { time: Some(1_633_998_513_377_000_000), ..quote })]));
}

#[test]
fn reads_changes_of_a_book() {
    let expected = [
        begin("NKNUSDT", BookScope::Change, (499_869_753, 499_869_754)),
        level(Side::Buy, "0.35170000", "4265.00000000"),
        level(Side::Sell, "0.35290000", "0.00000000"),
        end(Some(1_633_998_512_568_000_000)),
    ];
    check(NKN_DEPTH, Ok(&expected));
    check(raw(NKN_DEPTH), Ok(&expected));
    let no_asks = NKN_DEPTH.replace(r#"[["0.35290000","0.00000000"]]"#, "[]");
    check(&no_asks, Ok(&[expected[0], expected[1], expected[3]]));

    let symbol = Some(Symbol::Text(b"NKNUSDT"));
    let faulty = |reason| Event::Invalid { symbol, part: Part::Level, reason };
    let levels = r#"[["0.-10000","1"],["0","1"],["1","-1"],["1"],7,["1",null],["1",{}],["1","12345678901234567890"],["1","2",[]]]"#;
    check(
        &NKN_DEPTH.replace(r#"[["0.35170000","4265.00000000"]]"#, levels),
        Ok(&[
            expected[0],
            faulty(Reason::Number),
            faulty(Reason::Price),
            faulty(Reason::Size),
            faulty(Reason::MissingField),
            faulty(Reason::MissingField),
            faulty(Reason::MissingField),
            faulty(Reason::FieldType),
            faulty(Reason::NumberRange),
            level(Side::Buy, "1", "2"),
            expected[2],
            expected[3],
        ]),
    );
}

#[test]
fn reads_snapshots_of_a_book() {
    let book = |symbol| {
        [
            begin(symbol, BookScope::Snapshot, (17_044_571_457, 17_044_571_457)),
            level(Side::Buy, "1782.00000000", "6.48300000"),
            level(Side::Sell, "1782.01000000", "15.46080000"),
            end(None),
        ]
    };
    check(ETH_PARTIAL, Ok(&book("ethusdt")));
    check(&ETH_PARTIAL.replace("@100ms", ""), Ok(&book("ethusdt")));
    // Without a stream nothing tells whose book it is.
    check(raw(ETH_PARTIAL), missing("stream"));
    for stream in ["@depth20", "ethusdt", "ethusdt@trade", "!depth"] {
        check(&ETH_PARTIAL.replace("ethusdt@depth20@100ms", stream), invalid("stream", Reason::FieldType));
    }

    let answer = |body: &str, expected: Result<&[Event<'_>], DecodeError>| {
        let mut events = Vec::new();
        let result = decode_depth(body.as_bytes(), Symbol::Text(b"ETHUSDT"), &mut |event| events.push(event));
        assert_eq!(result.map(|()| &events[..]), expected, "{body}");
    };
    answer(raw(ETH_PARTIAL), Ok(&book("ETHUSDT")));
    let refused = Control::Error { text: b"Invalid symbol.", detail: b"-1121" };
    answer(r#"{"code":-1121,"msg":"Invalid symbol."}"#, Ok(&[Event::Control(refused)]));
    answer(r#"{"code":-1003,"msg":"Too many."}"#, Ok(&[Event::Control(Control::Throttled { text: b"Too many." })]));
    answer("{}", missing("lastUpdateId"));
    answer(r#"{"lastUpdateId":1,"bids":[]}"#, missing("asks"));
    answer("<html>", Err(DecodeError::Syntax { offset: 0 }));
}

#[test]
fn reads_klines() {
    let bar = Bar {
        symbol: Symbol::Text(b"BTCUSDT"),
        interval_ns: 60_000_000_000,
        start: 1_653_818_760_000_000_000,
        open: decimal("29038.46000000"),
        high: decimal("29038.48000000"),
        low: decimal("29038.45000000"),
        close: decimal("29038.47000000"),
        volume: decimal("0.20926000"),
        vwap: None,
        trades: Some(31),
        in_progress: true,
    };
    check(BTC_KLINE, Ok(&[Event::Bar(bar)]));
    check(raw(BTC_KLINE), Ok(&[Event::Bar(bar)]));
    let closed = BTC_KLINE.replace(r#""x":false"#, r#""x":true"#);
    check(&closed, Ok(&[Event::Bar(Bar { in_progress: false, ..bar })]));
    // Nothing was traded.
    let idle = BTC_KLINE.replace("1384844002", "-1").replace("1384844032", "-1").replace(r#""n":31"#, r#""n":0"#);
    check(&idle, Ok(&[Event::Bar(Bar { trades: Some(0), ..bar })]));

    const SECOND: i64 = 1_000_000_000;
    let intervals = [
        ("1s", 1),
        ("1m", 60),
        ("3m", 180),
        ("5m", 300),
        ("15m", 900),
        ("30m", 1_800),
        ("1h", 3_600),
        ("2h", 7_200),
        ("4h", 14_400),
        ("6h", 21_600),
        ("8h", 28_800),
        ("12h", 43_200),
        ("1d", 86_400),
        ("3d", 259_200),
        ("1w", 604_800),
    ];
    for (name, seconds) in intervals {
        let frame = BTC_KLINE.replace(r#""i":"1m""#, &format!(r#""i":"{name}""#));
        check(&frame, Ok(&[Event::Bar(Bar { interval_ns: seconds * SECOND, ..bar })]));
    }
    // May and June of 2022, as long as their days.
    for (start, last, days) in [(1_651_363_200_000, 1_654_041_599_999, 31), (1_654_041_600_000, 1_656_633_599_999, 30)]
    {
        let month = BTC_KLINE.replace(r#""i":"1m""#, r#""i":"1M""#);
        let month =
            month.replace("1653818760000", &i64::to_string(&start)).replace("1653818819999", &i64::to_string(&last));
        let bar = Bar { start: start * 1_000_000, interval_ns: days * 86_400 * SECOND, ..bar };
        check(&month, Ok(&[Event::Bar(bar)]));
    }
    let backward = BTC_KLINE.replace(r#""i":"1m""#, r#""i":"1M""#).replace("1653818819999", "1653818759999");
    check(&backward, invalid("k.T", Reason::Time));
    check(&BTC_KLINE.replace(r#""i":"1m""#, r#""i":"7m""#), invalid("k.i", Reason::Time));
    check(&BTC_KLINE.replace(r#""x":false"#, r#""x":0"#), invalid("k.x", Reason::FieldType));
    check(&BTC_KLINE.replace("29038.48000000", "NaN"), invalid("k.h", Reason::Number));
    check(r#"{"e":"kline","s":"A","k":null}"#, missing("k"));
    check(r#"{"e":"kline","s":"A","k":[]}"#, invalid("k", Reason::FieldType));
    check(r#"{"e":"kline","s":"A","k":{}}"#, missing("k.t"));
}

#[test]
fn reads_what_is_about_the_connection() {
    let control = |control| [Event::Control(control)];
    check(r#"{"result":null,"id":1}"#, Ok(&control(Control::Subscribed)));
    check(r#"{"id":"a","result":null}"#, Ok(&control(Control::Subscribed)));
    check(r#"{"result":["btcusdt@trade"],"id":3}"#, Ok(&control(Control::Note)));
    check(r#"{"result":true,"id":2}"#, Ok(&control(Control::Note)));
    let text = b"Invalid request: too many parameters";
    let refused = control(Control::Error { text, detail: b"2" });
    check(r#"{"code":2,"msg":"Invalid request: too many parameters"}"#, Ok(&refused));
    check(r#"{"error":{"code":2,"msg":"Invalid request: too many parameters"},"id":7}"#, Ok(&refused));
    check(r#"{"error":"gone","id":7}"#, Ok(&control(Control::Error { text: b"gone", detail: b"" })));
    for code in ["-1003", "-1008", "-1015", "-1034", "429", "418"] {
        let frame = format!(r#"{{"code":{code},"msg":"Slow"}}"#);
        check(&frame, Ok(&control(Control::Throttled { text: b"Slow" })));
    }
    for code in ["-1002", "-1022", "-2014", "-2015"] {
        let frame = format!(r#"{{"error":{{"code":{code},"msg":"Who?"}}}}"#);
        check(&frame, Ok(&control(Control::AuthRefused { text: b"Who?" })));
    }
    check(r#"{"e":"serverShutdown","E":1770123456789}"#, Ok(&control(Control::Closing)));
    let wrapped = r#"{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1770123456789}}"#;
    check(wrapped, Ok(&control(Control::Closing)));
}

#[test]
fn names_what_it_does_not_take() {
    for (frame, kind) in [
        (r#"{"e":"referencePrice","s":"BAZUSD","r":null,"t":1770313263917}"#, "referencePrice"),
        (
            r#"{"e":"avgPrice","E":1693907033000,"s":"BTCUSDT","i":"5m","w":"25776.86000000","T":1693907032213}"#,
            "avgPrice",
        ),
        (r#"{"e":"24hrTicker","s":"BNBBTC","b":"0.0024","B":"10","a":"0.0026","A":"100","u":7}"#, "24hrTicker"),
        (r#"{"stream":"!miniTicker@arr","data":[]}"#, "!miniTicker@arr"),
        ("[]", "[]"),
        (r#"{"e":"","s":[{}]}"#, ""),
    ] {
        check(frame, Ok(&[Event::Ignored { kind: kind.as_bytes() }]));
    }
}

#[test]
fn elements_of_an_array_stand_for_themselves() {
    let mini = r#"{"e":"24hrMiniTicker","E":1672515782136,"s":"BNBBTC","c":"0.0025"}"#;
    let ticker = raw(NKN_TICKER);
    let bad_ticker = ticker.replace("0.35210000", "0.3521.0");
    let bad_trade = r#"{"e":"trade","s":"A"}"#;
    let bad_bar = r#"{"e":"kline","s":7}"#;
    let list = format!("[{mini},7,{bad_ticker},{bad_trade},{bad_bar},{{}},[{mini}],{ticker}]");
    let Ok([quote]) = events(TimeUnit::Milliseconds, ticker).as_deref().map(|events| [events[0]]) else { panic!() };
    let invalid = |symbol: Option<&'static str>, part, reason| Event::Invalid {
        symbol: symbol.map(|text| Symbol::Text(text.as_bytes())),
        part,
        reason,
    };
    let expected = [
        Event::Ignored { kind: b"24hrMiniTicker" },
        invalid(None, Part::Message, Reason::FieldType),
        invalid(Some("NKNUSDT"), Part::Quote, Reason::Number),
        invalid(Some("A"), Part::Trade, Reason::MissingField),
        invalid(None, Part::Bar, Reason::MissingField),
        invalid(None, Part::Message, Reason::MissingField),
        invalid(None, Part::Message, Reason::FieldType),
        quote,
    ];
    check(&list, Ok(&expected));
    check(&format!(r#"{{"stream":"!all@arr","data":{list}}}"#), Ok(&expected));
    // Of a cut array nothing stands.
    check(&list[..list.len() - 1], Err(DecodeError::Truncated { offset: list.len() - 1 }));
    check(&format!("{list},"), Err(DecodeError::Syntax { offset: list.len() }));
}

#[test]
fn key_order_whitespace_and_unknown_keys_do_not_matter() {
    for frame in [BTC_TRADE, NKN_TICKER, NKN_DEPTH, ETH_PARTIAL, BTC_KLINE] {
        let expected = events(TimeUnit::Milliseconds, frame).unwrap();
        check(&frame.replace("\":", "\" :\n\t").replace(",\"", " ,\r\n \""), Ok(&expected));
        check(&frame.replace(r#""data":{"#, r#""x":{"e":["trade"]},"data":{"zz":[{"s":"\"}"}],"#), Ok(&expected));
        let (stream, data) = frame.split_once(r#","data":"#).unwrap();
        let swapped = format!(r#"{{"data":{},{}}}"#, data.strip_suffix('}').unwrap(), &stream[1..]);
        check(&swapped, Ok(&expected));
    }
}

#[test]
fn refuses_frames_that_cannot_be_read() {
    let altered = |from: &str, to: &str| BTC_TRADE.replace(from, to);
    check("", Err(DecodeError::Truncated { offset: 0 }));
    check("7", Err(DecodeError::Syntax { offset: 0 }));
    check("{}", missing("e"));
    check(r#"{"e":null}"#, missing("e"));
    check(r#"{"e":7}"#, invalid("e", Reason::FieldType));
    check(r#"{"s":"BTCUSDT","u":1}"#, missing("b"));
    check(r#"{"stream":"x","data":null}"#, invalid("data", Reason::FieldType));
    check(r#"{"data":{}}"#, missing("stream"));
    check(r#"{"e":"trade","s":"A"}"#, missing("t"));
    check(&altered("388510", "-1"), invalid("t", Reason::Number));
    check(&altered("388510", "9223372036854775808"), invalid("t", Reason::NumberRange));
    check(&altered("76745.19000000", ""), invalid("p", Reason::Number));
    check(&altered("\"76745.19000000\"", "null"), missing("p"));
    check(&altered("\"0.00065000\"", "[]"), invalid("q", Reason::FieldType));
    check(&altered("\"m\":false", "\"m\":0"), invalid("m", Reason::FieldType));
    check(&altered("\"m\":false,", ""), missing("m"));
    check(&altered("\"BTCUSDT\"", "7"), invalid("s", Reason::FieldType));
    check(&altered("1789295134225", "1.5"), invalid("T", Reason::Number));
    check(&NKN_DEPTH.replace("499869753", "499869755"), invalid("u", Reason::NumberRange));
    check(&NKN_DEPTH.replace(r#""a":["#, r#""x":["#), missing("a"));
    check(&NKN_DEPTH.replace("1633998512568", "9223372036854775807"), invalid("E", Reason::Time));
    check(&NKN_TICKER.replace("\"0.35260000\"", "null"), missing("a"));
    check(&NKN_TICKER.replace("499869768", "null"), missing("u"));
}

#[test]
fn every_cut_of_a_frame_is_refused() {
    for frame in [BTC_TRADE, BTC_AGGREGATE, NKN_TICKER, NKN_DEPTH, ETH_PARTIAL, BTC_KLINE] {
        for end in 0..frame.len() {
            check(&frame[..end], Err(DecodeError::Truncated { offset: end }));
        }
    }
}
