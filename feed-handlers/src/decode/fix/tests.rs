//! Every message type and quirk, by literal messages, in which `|` stands for SOH: recorded ones with the length and
//! checksum that they came with, and others that are framed here.

use super::super::testing::{self, Expected, bad as faulty, decimal as number, level, symbol};
use super::*;

/// A book of a bank, in 2020.
const EUR_BOOK: &str = "8=FIX.4.4|9=163|35=W|34=136232|49=XCT1|52=20200603-12:00:00.106|56=Q004|55=EUR/USD|262=0|268=2|269=0|270=1.11941|271=1000000|299=0|106=1|269=1|270=1.11944|271=1000000|299=0|106=1|10=240|";
/// Trades of Binance, in 2024.
const BNB_TRADES: &str = "8=FIX.4.4|9=0000303|35=X|49=SPOT|56=EXAMPLE|34=16|52=20241019-05:40:11.466313|262=TRADE_3|268=3|279=0|269=2|270=10.00000|271=0.01000|55=BNBBUSD|1003=0|60=20241019-05:40:11.464000|279=0|269=2|270=10.00000|271=0.01000|1003=1|60=20241019-05:40:11.464000|279=0|269=2|270=10.00000|271=0.01000|1003=2|60=20241019-05:40:11.464000|10=042|";
const CLOSING: &str = "8=FIX.4.4|9=0000113|35=B|49=SPOT|56=OE|34=4|52=20240924-21:07:35.773537|148=Your connection is about to be closed. Please reconnect.|10=165|";

/// 2024-10-19T05:40:11.466313Z, when `message` is sent.
const SENT: i64 = 1_729_316_411_466_313_000;
/// 2024-10-19T05:40:11.464Z
const TRADED: i64 = 1_729_316_411_464_000_000;

fn soh(text: &str) -> Vec<u8> {
    text.replace('|', "\x01").into_bytes()
}

/// `body` between a length and a checksum that hold, `|` and all being bytes of their own.
fn framed(body: &[u8]) -> Vec<u8> {
    let mut frame = format!("8=FIX.4.4\x019={}\x01", body.len()).into_bytes();
    frame.extend_from_slice(body);
    let sum: u32 = frame.iter().map(|byte| u32::from(*byte)).sum();
    frame.extend_from_slice(format!("10={:03}\x01", sum % 256).as_bytes());
    frame
}

/// A message of this type, number 7, with these further fields.
fn message(kind: &str, fields: &str) -> Vec<u8> {
    framed(&soh(&format!("35={kind}|49=V|56=US|34=7|52=20241019-05:40:11.466313|{fields}")))
}

fn events(frame: &[u8]) -> Result<Vec<Event<'_>>, DecodeError> {
    testing::events(|mut on_event| decode(frame, &mut on_event))
}

#[track_caller]
fn check(frame: &[u8], expected: Expected<'_, '_>) {
    testing::check(frame.escape_ascii(), events(frame), expected);
}

/// What follows on the number 7 of `message`.
#[track_caller]
fn check_message(kind: &str, fields: &str, expected: &[Event<'_>]) {
    let expected: Vec<Event<'_>> = [Event::LineSequence(7)].iter().chain(expected).copied().collect();
    check(&message(kind, fields), Ok(&expected));
}

#[track_caller]
fn refuses(frame: &[u8], expected: DecodeError) {
    check(frame, Err(expected));
}

fn bid<'a>(price: &str, size: &str) -> Event<'a> {
    level(Side::Buy, price, size)
}

fn offer<'a>(price: &str, size: &str) -> Event<'a> {
    level(Side::Sell, price, size)
}

fn begin(name: &str, scope: BookScope, updates: Option<(u64, u64)>) -> Event<'_> {
    Event::BookBegin(BookBegin { symbol: symbol(name), scope, updates })
}

fn end<'a>(time: i64) -> Event<'a> {
    testing::end(Some(time))
}

fn bnb_trade(id: u64) -> Trade<'static> {
    Trade {
        symbol: Symbol::Text(b"BNBBUSD"),
        id: Some(id),
        price: number("10.00000"),
        size: number("0.01000"),
        taker: None,
        time: TRADED,
        age: Age::Live,
    }
}

use BookScope::{Change, Snapshot};

#[test]
fn reads_recorded_messages() {
    let time = 1_591_185_600_106_000_000;
    check(
        &soh(EUR_BOOK),
        Ok(&[
            Event::LineSequence(136_232),
            begin("EUR/USD", Snapshot, None),
            bid("1.11941", "1000000"),
            offer("1.11944", "1000000"),
            end(time),
        ]),
    );
    // The symbol stands in the first entry alone.
    let [first, second, third] = [0, 1, 2].map(|id| Event::Trade(bnb_trade(id)));
    check(&soh(BNB_TRADES), Ok(&[Event::LineSequence(16), first, second, third]));
    let frame = soh(BNB_TRADES);
    let Event::Trade(trade) = events(&frame).unwrap()[1] else { panic!("no trade") };
    assert_eq!((trade.price.to_string(), trade.size.to_string()), ("10.00000".into(), "0.01000".into()));
    check(&soh(CLOSING), Ok(&[Event::LineSequence(4), Event::Control(Control::Closing)]));
}

#[test]
fn a_snapshot_is_the_whole_book() {
    let empty = [begin("BNBBUSD", Snapshot, Some((0, 0))), end(SENT)];
    check_message("W", "262=B|55=BNBBUSD|25044=0|268=0|", &empty);
    // An empty book in another spelling, and one whose other entries come behind it.
    check_message("W", "55=A|268=1|269=J|", &[begin("A", Snapshot, None), end(SENT)]);
    check_message(
        "W",
        "55=A|60=20241019-05:40:11.464|268=5|269=4|270=9|269=1|270=3|271=5|269=2|270=2.50|271=1|272=20241019|273=05:40:11.466313|269=0|270=2|271=4|269=7|270=9|",
        &[
            begin("A", Snapshot, None),
            offer("3", "5"),
            bid("2", "4"),
            end(TRADED),
            Event::Ignored { kind: b"4" },
            Event::Trade(Trade {
                symbol: Symbol::Text(b"A"),
                id: None,
                price: number("2.50"),
                size: number("1"),
                taker: None,
                time: SENT,
                age: Age::Old,
            }),
            Event::Ignored { kind: b"7" },
        ],
    );
    // Nothing in it is about the book, which so is not emptied.
    check_message("W", "55=A|268=1|269=5|270=9|", &[Event::Ignored { kind: b"5" }]);
    let book = |fault| [begin("A", Snapshot, None), fault, bid("1", "1"), end(SENT)];
    for (entry, reason) in [
        ("269=0|271=1|", Reason::MissingField),
        ("269=0|270=1|", Reason::MissingField),
        ("269=0|270=|271=1|", Reason::Number),
        ("269=0|270=1e1|271=1|", Reason::Number),
        ("269=0|270=+1|271=1|", Reason::Number),
        ("269=0|270=1234567890.1234567891|271=1|", Reason::NumberRange),
        ("269=0|270=0.00|271=1|", Reason::Price),
        ("269=0|270=1|271=-1|", Reason::Size),
    ] {
        let fields = format!("55=A|268=2|{entry}269=0|270=1|271=1|");
        check_message("W", &fields, &book(faulty(Some("A"), Part::Level, reason)));
    }
}

/// As LMAX names instruments, in a message of 2014 without the checksum that it came with.
#[test]
fn an_instrument_may_be_named_by_a_number() {
    let book = "268=2|269=0|270=9855.2|271=20|272=20141211|273=08:55:53.261|269=1|270=9856.7|271=30|";
    for name in ["48=100097|22=8|", "55=[N/A]|48=100097|22=8|", "55=|48=100097|"] {
        let frame = message("W", &format!("262=1|{name}{book}"));
        let [_, Event::BookBegin(begin), ..] = events(&frame).unwrap()[..] else { panic!("{}", frame.escape_ascii()) };
        assert_eq!(begin.symbol, Symbol::Text(b"100097"));
    }
    refuses(&message("W", &format!("262=1|48=|{book}")), DecodeError::Missing { field: "Symbol" });
    let changes = "268=2|279=0|269=0|48=100097|270=1|271=2|279=0|269=0|48=100099|55=AAPL|270=3|271=4|";
    check_message(
        "X",
        changes,
        &[
            begin("100097", BookScope::Change, None),
            bid("1", "2"),
            end(SENT),
            begin("AAPL", BookScope::Change, None),
            bid("3", "4"),
            end(SENT),
        ],
    );
}

/// As Deribit writes them.
#[test]
fn the_date_of_an_entry_may_hold_its_time() {
    let trade = "268=1|269=2|270=59765.5|271=1.0|272=";
    for (date, time) in [("20241019-05:40:11.464", TRADED), ("20241019", SENT), ("20241019|273=05:40:11.464", TRADED)] {
        let frame = message("W", &format!("55=BTC-PERPETUAL|{trade}{date}|"));
        let [_, Event::Trade(trade)] = events(&frame).unwrap()[..] else { panic!("{date}") };
        assert_eq!(trade.time, time, "{date}");
    }
    check_message("W", &format!("55=A|{trade}2024-10-19T05:40|"), &[faulty(Some("A"), Part::Trade, Reason::Time)]);
}

#[test]
fn a_refresh_changes_levels() {
    check_message(
        "X",
        "268=4|279=0|269=0|270=10.5|271=3|55=A|279=1|269=1|270=11|271=4.0|279=2|269=1|270=12|279=2|269=0|270=9|271=7|",
        &[begin("A", Change, None), bid("10.5", "3"), offer("11", "4.0"), offer("12", "0"), bid("9", "0"), end(SENT)],
    );
    check_message("X", "268=0|", &[Event::Ignored { kind: b"X" }]);
    // One book after another; the symbol of an entry is that of the entry before it.
    check_message(
        "X",
        "268=4|279=0|269=0|270=1|271=1|55=A|60=20241019-05:40:11.464|279=0|269=0|270=2|271=2|55=B|279=0|269=1|270=3|271=3|279=2|269=0|270=1|55=A|",
        &[
            begin("A", Change, None),
            bid("1", "1"),
            end(TRADED),
            begin("B", Change, None),
            bid("2", "2"),
            offer("3", "3"),
            end(SENT),
            begin("A", Change, None),
            bid("1", "0"),
            end(SENT),
        ],
    );
    // Levels first, so that trades do not tear a book apart.
    let trade = Event::Trade(Trade { taker: Some(Side::Sell), ..bnb_trade(5) });
    check_message(
        "X",
        "268=4|279=0|269=0|270=1|271=1|55=BNBBUSD|279=0|269=2|270=10.00000|271=0.01000|1003=5|2446=2|60=20241019-05:40:11.464000|279=0|269=6|270=9|279=1|269=0|270=1|271=2|",
        &[
            begin("BNBBUSD", Change, None),
            bid("1", "1"),
            bid("1", "2"),
            end(SENT),
            trade,
            Event::Ignored { kind: b"6" },
        ],
    );
    // A book that was emptied starts anew.
    check_message(
        "X",
        "268=3|279=0|269=0|270=1|271=1|55=A|279=0|269=J|279=0|269=0|270=2|271=1|",
        &[
            begin("A", Change, None),
            bid("1", "1"),
            end(SENT),
            begin("A", Snapshot, None),
            end(SENT),
            begin("A", Change, None),
            bid("2", "1"),
            end(SENT),
        ],
    );
}

#[test]
fn a_change_that_cannot_be_applied_is_said() {
    let book = |fault| [begin("A", Change, None), fault, bid("1", "1"), end(SENT)];
    for (entry, reason) in [
        ("279=2|269=0|278=ID7|", Reason::MissingField),
        ("279=2|278=ID7|", Reason::MissingField),
        ("279=2|269=0|290=3|", Reason::MissingField),
        ("279=0|269=0|270=1|", Reason::MissingField),
        ("279=1|269=0|271=1|", Reason::MissingField),
        ("279=5|269=0|270=1|271=1|", Reason::FieldType),
        ("279=|269=0|270=1|271=1|", Reason::FieldType),
        ("279=0|269=1|270=-1|271=1|", Reason::Price),
    ] {
        let fields = format!("268=2|{entry}55=A|279=0|269=0|270=1|271=1|");
        check_message("X", &fields, &book(faulty(Some("A"), Part::Level, reason)));
    }
    check_message("X", "268=1|279=0|269=0|270=1|271=1|", &[faulty(None, Part::Level, Reason::MissingField)]);
    check_message("X", "268=1|279=0|269=0|270=1|271=1|55=|", &[faulty(None, Part::Level, Reason::MissingField)]);
}

#[test]
fn reads_the_numbers_of_binances_books() {
    check_message(
        "W",
        "55=A|25044=9|268=1|269=0|270=1|271=1|",
        &[begin("A", Snapshot, Some((9, 9))), bid("1", "1"), end(SENT)],
    );
    check_message(
        "X",
        "268=3|279=0|269=0|270=1|271=1|55=A|25043=10|25044=12|279=2|269=1|270=2|279=0|269=1|270=3|271=1|25043=13|25044=13|",
        &[
            begin("A", Change, Some((10, 12))),
            bid("1", "1"),
            offer("2", "0"),
            end(SENT),
            begin("A", Change, Some((13, 13))),
            offer("3", "1"),
            end(SENT),
        ],
    );
    // The best price in place of the one before, whatever that was.
    check_message("X", "268=1|279=1|269=0|270=1|271=1|55=A|25044=12|", &[Event::Ignored { kind: b"best price" }]);
    for (numbers, reason) in [
        ("25043=7|25044=6|", Reason::NumberRange),
        ("25043=7|", Reason::MissingField),
        ("25043=x|25044=6|", Reason::Number),
    ] {
        let fields = format!("268=1|279=1|269=0|270=1|271=1|55=A|{numbers}");
        check_message("X", &fields, &[faulty(Some("A"), Part::Level, reason)]);
    }
}

#[test]
fn reads_trades() {
    let entry = "279=0|269=2|270=10.00000|271=0.01000|55=BNBBUSD|1003=0|60=20241019-05:40:11.464000|";
    let trade = bnb_trade(0);
    let altered = |from: &str, to: &str, event: Event<'_>| {
        check_message("X", &format!("268=1|{}", entry.replace(from, to)), &[event]);
    };
    altered("", "", Event::Trade(trade));
    altered("1003=0", "2446=1|1003=0", Event::Trade(Trade { taker: Some(Side::Buy), ..trade }));
    altered("1003=0", "2446=2|1003=0", Event::Trade(Trade { taker: Some(Side::Sell), ..trade }));
    altered("1003=0", "2446=0|1003=0", Event::Trade(trade));
    altered("1003=0", "1003=T-7", Event::Trade(Trade { id: None, ..trade }));
    altered("1003=0|", "", Event::Trade(Trade { id: None, ..trade }));
    altered("60=20241019-05:40:11.464000|", "", Event::Trade(Trade { time: SENT, ..trade }));
    altered("60=20241019-05:40:11.464000", "272=20241019|273=05:40:11.464", Event::Trade(trade));
    altered("60=20241019-05:40:11.464000", "273=05:40:11.464", Event::Trade(Trade { time: SENT, ..trade }));
    altered("279=0", "279=1", Event::Ignored { kind: b"trade change" });
    altered("279=0", "279=2", Event::Ignored { kind: b"trade deletion" });
    let invalid = |reason| faulty(Some("BNBBUSD"), Part::Trade, reason);
    altered("279=0", "279=7", invalid(Reason::FieldType));
    altered("1003=0", "2446=3", invalid(Reason::Side));
    altered("270=10.00000|", "", invalid(Reason::MissingField));
    altered("271=0.01000|", "", invalid(Reason::MissingField));
    altered("10.00000", "10.0.0", invalid(Reason::Number));
    altered("20241019-05:40:11.464000", "20241019 05:40:11.464000", invalid(Reason::Time));
    altered("55=BNBBUSD|", "", faulty(None, Part::Trade, Reason::MissingField));
}

#[test]
fn reads_the_session() {
    let control = |control| [Event::Control(control)];
    check_message("A", "98=0|108=30|", &control(Control::Authenticated));
    check_message("0", "112=T1|", &[Event::Heartbeat(Heartbeat { symbol: None, time: Some(SENT) })]);
    check_message("1", "112=T1|", &control(Control::Note));
    check_message("2", "7=1|16=0|", &control(Control::Note));
    let error = |text, detail| control(Control::Error { text, detail });
    check_message("3", "45=2|373=5|58=Wrong value|", &error(b"Wrong value", b"5"));
    check_message("3", "45=2|", &error(b"", b""));
    check_message("j", "380=3|58=What?|", &error(b"What?", b"3"));
    check_message("Y", "262=B|281=0|58=No such symbol|", &error(b"No such symbol", b"0"));
    check_message("Y", "262=B|281=2|25016=-1191|58=Similar|", &error(b"Similar", b"-1191"));
    check_message("Y", "262=B|25016=-1003|58=Slow|", &control(Control::Throttled { text: b"Slow" }));
    check_message("3", "25016=-1022|58=Signature|", &control(Control::AuthRefused { text: b"Signature" }));
    check_message("5", "", &control(Control::Closing));
    let [bye] = error(b"Bye", b"");
    check_message("5", "58=Bye|", &[bye, Event::Control(Control::Closing)]);
    check_message("B", "148=Fed raises rates|", &[Event::Ignored { kind: b"B" }]);
    check_message("y", "55=A|", &[Event::Ignored { kind: b"y" }]);
    check_message("V", "267=2|269=0|269=1|", &[Event::Ignored { kind: b"V" }]);
    // Neither is the next in number.
    check(&message("4", "123=N|36=9|"), Ok(&control(Control::Note)));
    check(&message("0", "43=Y|"), Ok(&[Event::Heartbeat(Heartbeat { symbol: None, time: Some(SENT) })]));
}

#[test]
fn raw_data_may_hold_anything() {
    let book = [Event::LineSequence(7), begin("A", Snapshot, None), bid("1", "1"), end(SENT)];
    let head = "35=W|34=7|52=20241019-05:40:11.466313|55=A|";
    let tail = "268=1|269=0|270=1|271=1|";
    for (length_tag, raw_tag) in [(95, 96), (93, 89), (90, 91), (354, 355), (621, 622)] {
        let raw = "x|55=B|10=000|268=9|\u{7c}=";
        let body = format!("{head}{length_tag}={}|{raw_tag}={raw}|{tail}", raw.len());
        check(&framed(&soh(&body)), Ok(&book));
        let refused = |length: usize, found: usize| {
            let body = format!("{head}{length_tag}={length}|{raw_tag}={raw}|{tail}");
            refuses(&framed(&soh(&body)), DecodeError::Length { stated: length, found });
        };
        refused(raw.len() - 1, 1);
        refused(1_000_000, 1);
    }
    // A pipe is no separator, and a length without its data measures nothing.
    let piped = framed(&[soh(head), b"58=a|55=B|\x0195=3\x01".to_vec(), soh(tail)].concat());
    check(&piped, Ok(&book));
    let field = |reason| DecodeError::Field { field: "length of raw data", reason };
    refuses(&message("0", "95=-1|"), field(Reason::Number));
    refuses(&message("0", "95=99999999999999999999|"), field(Reason::NumberRange));
}

#[test]
fn refuses_what_does_not_hold() {
    let syntax = |offset| DecodeError::Syntax { offset };
    let missing = |field| DecodeError::Missing { field };
    let field = |field, reason| DecodeError::Field { field, reason };
    let book = soh(EUR_BOOK);
    let altered = |from: &str, to: &str| soh(&EUR_BOOK.replacen(from, to, 1));
    refuses(&altered("10=240", "10=241"), DecodeError::Checksum { stated: 241, found: 240 });
    refuses(&altered("10=240", "10=999"), DecodeError::Checksum { stated: 999, found: 240 });
    refuses(&altered("1.11941", "1.11942"), DecodeError::Checksum { stated: 240, found: 241 });
    // Too short, too long by fewer bytes than a checksum has, and by more.
    for length in [1, 162, 164, 200, 10_000] {
        let frame = altered("9=163", &format!("9={length}"));
        refuses(&frame, DecodeError::Length { stated: length, found: 163 });
    }
    refuses(&altered("9=163", "9=0"), field("BodyLength", Reason::NumberRange));
    refuses(&altered("9=163", "9="), field("BodyLength", Reason::NumberRange));
    refuses(&altered("9=163", "9=16777217"), field("BodyLength", Reason::NumberRange));
    refuses(&altered("9=163", "9=0000000163"), syntax(21));
    refuses(&altered("9=163", "9=1x3"), syntax(13));
    refuses(&altered("9=163", "9=-63"), syntax(12));
    refuses(&altered("FIX.4.4", "FIX.4.2"), syntax(8));
    refuses(&altered("10=240", "10=24x"), DecodeError::Length { stated: 163, found: 163 });
    refuses(b"{}", syntax(0));
    refuses(&[&book[..], b"\n"].concat(), syntax(book.len()));
    refuses(&[&book[..], &book[..]].concat(), syntax(book.len()));
    refuses(&framed(b"34=7\x0135=0\x01"), missing("MsgType"));
    refuses(&framed(b"35=0\x0152=20241019-05:40:11\x01"), missing("MsgSeqNum"));
    refuses(&framed(b"35=0\x0134=7\x01"), missing("SendingTime"));
    refuses(&framed(b"35=0\x0134=x\x01"), field("MsgSeqNum", Reason::Number));
    refuses(&framed(b"35=0\x0134=7\x0152=now\x01"), field("SendingTime", Reason::Time));
    for fields in ["x=1|", "=1|", "0=1|", "034=7|", "1|", "1234567890=1|", "-1=1|", "|"] {
        let frame = message("0", fields);
        let offset = frame.len() - 7 - fields.len();
        refuses(&frame, syntax(offset));
    }
    refuses(&message("W", "268=0|"), missing("Symbol"));
    refuses(&message("W", "55=A|"), missing("NoMDEntries"));
    refuses(&message("W", "55=A|268=2|269=0|270=1|271=1|"), DecodeError::Length { stated: 2, found: 1 });
    refuses(&message("X", "268=0|279=0|"), DecodeError::Length { stated: 0, found: 1 });
    refuses(&message("X", "268=1|269=0|"), DecodeError::Length { stated: 1, found: 0 });
    refuses(&message("W", "55=A|25044=x|268=0|"), field("LastBookUpdateID", Reason::Number));
    refuses(&message("W", "55=A|60=x|268=0|"), field("TransactTime", Reason::Time));
}

#[test]
fn every_cut_of_a_message_is_refused() {
    for frame in [EUR_BOOK, BNB_TRADES, CLOSING] {
        let frame = soh(frame);
        for end in 0..frame.len() {
            refuses(&frame[..end], DecodeError::Truncated { offset: end });
            assert_eq!(frame_end(&frame[..end]), Ok(None));
        }
    }
}

#[test]
fn messages_are_found_in_a_stream() {
    let frames = [EUR_BOOK, BNB_TRADES, CLOSING, EUR_BOOK].map(soh);
    let garbled = soh(&EUR_BOOK.replace("1.11941", "1.11942"));
    let stream = [&frames[0][..], &frames[1], &garbled, &frames[2], &frames[3]].concat();
    let (mut rest, mut found, mut refused) = (&stream[..], Vec::new(), 0);
    while let Some(end) = frame_end(rest).unwrap() {
        let (frame, after) = rest.split_at(end);
        if decode(frame, &mut |_| {}).is_ok() {
            found.push(frame.to_vec())
        } else {
            refused += 1
        }
        rest = after;
    }
    assert!(rest.is_empty());
    assert_eq!((&found[..], refused), (&frames[..], 1), "a garbled message hides none that follow");

    // Where a length leads into the next message there is no following the stream.
    let long = soh(&EUR_BOOK.replace("9=163", "9=170"));
    let error = DecodeError::Length { stated: 170, found: 163 };
    assert_eq!(frame_end(&[&long[..], &frames[1]].concat()), Err(error));
    assert_eq!(frame_end(b"GET / HTTP"), Err(DecodeError::Syntax { offset: 0 }));
    assert_eq!(frame_end(b""), Ok(None));
}

#[test]
fn reads_values() {
    #[track_caller]
    fn check_decimal(text: &str, expected: Result<&str, Reason>) {
        let read = decimal(Some(text.as_bytes())).map(|number| number.unwrap().to_string());
        assert_eq!(read, expected.map(str::to_owned), "{text}");
    }
    for (text, expected) in [
        ("00023.230", "23.230"),
        ("23.", "23"),
        (".5", "0.5"),
        ("-.50", "-0.50"),
        ("-23.", "-23"),
        (".000000000000000001", "0.000000000000000001"),
    ] {
        check_decimal(text, Ok(expected));
    }
    for text in ["", ".", "-", "-.", "1.2.", "..5", "1e5", "1,5", " 1", "+1", "--1", "1-", ".-5", "-1-.", ".5."] {
        check_decimal(text, Err(Reason::Number));
    }
    for text in ["99999999999999999999", ".0000000000000000000000000000000001", ".0000000000000000001"] {
        check_decimal(text, Err(Reason::NumberRange));
    }

    #[track_caller]
    fn check_time(text: &str, expected: Result<i64, Reason>) {
        assert_eq!(timestamp(Some(text.as_bytes())), expected.map(Some), "{text}");
    }
    check_time("19700101-00:00:00", Ok(0));
    check_time("20241019-05:40:11", Ok(1_729_316_411_000_000_000));
    check_time("20241019-05:40:11.466", Ok(1_729_316_411_466_000_000));
    check_time("20241019-05:40:11.466313", Ok(SENT));
    check_time("20241019-05:40:11.466313123", Ok(1_729_316_411_466_313_123));
    check_time("20240229-23:59:59.999999999", Ok(1_709_251_199_999_999_999));
    // A leap second is the first of the next minute.
    check_time("20161231-23:59:60", Ok(1_483_228_800_000_000_000));
    for text in [
        "",
        "2024",
        "20241019",
        "20241019-",
        "20241019-05:40",
        "20241019 05:40:11",
        "20241019-05:40:11.",
        "20230229-00:00:00",
        "20241019-05:40:11.4663131234",
        "20241019-05:40:11Z",
        "00010101-00:00:00",
        "2024-10-1-05:40:11",
        "20241019-24:00:00",
    ] {
        check_time(text, Err(Reason::Time));
    }
}
