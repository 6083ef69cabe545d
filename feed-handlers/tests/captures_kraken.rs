//! Recorded frames of Kraken v2 against a reading of them that shares nothing with the decoder, and their books against
//! the venue's checksums, which no wrong digit passes.
//!
//! The recordings are not part of the repository: `GATEWAY_CAPTURES` names the directory that holds them.

#![cfg(not(loom))]

mod captures;

use std::collections::BTreeMap;
use std::path::Path;

use feed_handlers::book::{Book, Spread};
use feed_handlers::decode::event::{Age, BookScope, Control, Event, Symbol, Top};
use feed_handlers::decode::kraken::decode;
use protocol::{Side, parse_rfc3339};
use serde_json::Value;

const MINA: &str = "kraken-v2-book-minagbp-d25-2026-08-16.ndjson";
const SAMPLES: &str = "kraken-v2-live-samples.jsonl";
const EXAMPLE: &str = "kraken-v2-doc-checksum-example.jsonl";

/// The server's frames of a capture, as text: a parser in between would lose digits.
fn frames(path: &Path) -> Vec<String> {
    let lines = captures::lines(path);
    if path.extension().is_some_and(|extension| extension == "jsonl") {
        return lines;
    }
    // {"rx_ns": 42890204502000, "frame": {...}}, after a line about the capture; what was sent has a direction.
    let lines = lines.iter().skip(1).filter(|line| !line.contains(r#""dir": "tx""#));
    lines.map(|line| line.split_once(r#""frame": "#).unwrap().1.strip_suffix('}').unwrap().to_owned()).collect()
}

fn events(frame: &str) -> Vec<Event<'_>> {
    let mut events = Vec::new();
    decode(frame.as_bytes(), &mut |event| events.push(event)).unwrap();
    events
}

/// What follows `"key":` wherever it stands in the text, up to the next comma or bracket.
fn texts<'a>(frame: &'a str, key: &str) -> Vec<&'a str> {
    let key = format!("\"{key}\":");
    let ends = |text: &'a str| text.split([',', '}', ']']).next().unwrap().trim_matches('"');
    frame.split(key.as_str()).skip(1).map(ends).collect()
}

fn name(symbol: Symbol<'_>) -> &str {
    let Symbol::Text(name) = symbol else { panic!("{symbol:?}") };
    std::str::from_utf8(name).unwrap()
}

fn at(text: &str) -> i64 {
    parse_rfc3339(text.as_bytes()).unwrap()
}

/// Holds a frame's events against its text and against what serde_json finds. Returns what kind of frame it is.
fn check(text: &str) -> &'static str {
    let frame: Value = serde_json::from_str(text).unwrap();
    let events = events(text);
    let data = &frame["data"][0];
    let is_snapshot = frame["type"] == "snapshot";
    let age = if is_snapshot { Age::Old } else { Age::Live };
    let time = texts(text, "timestamp").first().map(|text| at(text));
    match (frame["channel"].as_str(), &events[..]) {
        (Some("book"), [Event::BookBegin(begin), levels @ .., Event::BookEnd(end)]) => {
            let scope = if is_snapshot { BookScope::Snapshot } else { BookScope::Change };
            assert_eq!((name(begin.symbol), begin.scope), (data["symbol"].as_str().unwrap(), scope));
            assert_eq!(end.checksum.map(u64::from), Some(data["checksum"].as_u64().unwrap()), "{text}");
            assert_eq!(end.time, time, "{text}");
            let bids = data["bids"].as_array().unwrap().len();
            let (mut prices, mut sizes) = (texts(text, "price").into_iter(), texts(text, "qty").into_iter());
            for (at, level) in levels.iter().enumerate() {
                let Event::Level(level) = level else { panic!("{level:?} in {text}") };
                assert_eq!(level.side, if at < bids { Side::Buy } else { Side::Sell }, "{text}");
                assert_eq!(Some(level.price.to_string().as_str()), prices.next(), "{text}");
                assert_eq!(Some(level.size.to_string().as_str()), sizes.next(), "{text}");
            }
            assert_eq!((prices.next(), levels.len()), (None, bids + data["asks"].as_array().unwrap().len()), "{text}");
            "book"
        }
        (Some("trade"), [Event::Trade(trade)]) => {
            assert_eq!(name(trade.symbol), data["symbol"].as_str().unwrap());
            assert_eq!((trade.id, Some(trade.time), trade.age), (data["trade_id"].as_u64(), time, age), "{text}");
            assert_eq!(vec![trade.price.to_string()], texts(text, "price"));
            assert_eq!(vec![trade.size.to_string()], texts(text, "qty"));
            let side = if data["side"] == "buy" { Side::Buy } else { Side::Sell };
            assert_eq!(trade.taker, Some(side), "{text}");
            "trade"
        }
        (Some("ticker"), [Event::Quote(quote)]) => {
            assert_eq!(name(quote.symbol), data["symbol"].as_str().unwrap());
            assert_eq!((quote.time, quote.age), (time, age), "{text}");
            for (top, price, size) in [(quote.bid, "bid", "bid_qty"), (quote.ask, "ask", "ask_qty")] {
                let Some(Top { price: found, size: Some(found_size) }) = top else { panic!("{top:?} in {text}") };
                assert_eq!(vec![found.to_string()], texts(text, price));
                assert_eq!(vec![found_size.to_string()], texts(text, size));
            }
            "ticker"
        }
        (Some("heartbeat"), [Event::Heartbeat(beat)]) => {
            assert_eq!((beat.symbol, beat.time), (None, None));
            "heartbeat"
        }
        (Some("status"), [Event::Control(Control::Note)]) => "status",
        (None, [Event::Control(Control::Subscribed)]) if frame["success"] == true => "ack",
        (None, [Event::Control(Control::Error { text, detail: b"" })]) if frame["success"] == false => {
            assert_eq!(*text, frame["error"].as_str().unwrap().as_bytes());
            "error"
        }
        other => panic!("{other:?} of {text}"),
    }
}

#[test]
fn every_frame_says_what_stands_in_it() {
    let Some(directory) = captures::directory("kraken") else { return };
    let count = |file: &str| {
        let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
        for frame in frames(&directory.join(file)) {
            *kinds.entry(check(&frame)).or_default() += 1;
        }
        println!("{file}: {kinds:?}");
        kinds.into_iter().collect::<Vec<_>>()
    };
    assert_eq!(count(MINA), [("ack", 1), ("book", 30), ("heartbeat", 60), ("status", 1)]);
    assert_eq!(
        count(SAMPLES),
        [("ack", 1), ("book", 2), ("error", 1), ("heartbeat", 1), ("status", 1), ("ticker", 1), ("trade", 2)]
    );
    assert_eq!(count(EXAMPLE), [("book", 1)]);
}

/// Plays a capture into a book of `depth` and says for each message whether the checksum fits.
fn checksums(path: &Path, mut book: Book) -> Vec<bool> {
    let mut fits = Vec::new();
    for frame in frames(path) {
        for event in events(&frame) {
            match event {
                Event::BookBegin(begin) if begin.scope == BookScope::Snapshot => book.clear(),
                Event::Level(level) => {
                    book.apply(level);
                }
                Event::BookEnd(end) => {
                    book.truncate();
                    fits.push(end.checksum == Some(book.checksum_kraken()));
                    assert_eq!(book.spread(), Spread::Open, "{frame}");
                }
                _ => {}
            }
        }
    }
    fits
}

#[test]
fn every_checksum_fits() {
    let Some(directory) = captures::directory("kraken") else { return };
    for (file, depth, messages) in [(MINA, 25, 30), (SAMPLES, 10, 2), (EXAMPLE, 10, 1)] {
        assert_eq!(checksums(&directory.join(file), Book::with_depth(depth)), vec![true; messages], "{file}");
    }
}

/// One digit of one size in the top of the book is enough, until the level is written anew or falls out.
#[test]
fn a_wrong_digit_does_not_fit() {
    let Some(directory) = captures::directory("kraken") else { return };
    for frame in frames(&directory.join(EXAMPLE)) {
        for (at, _) in frame.match_indices(|c: char| c.is_ascii_digit()) {
            let mut damaged = frame.clone().into_bytes();
            damaged[at] = if damaged[at] == b'7' { b'8' } else { b'7' };
            let mut book = Book::with_depth(10);
            let mut fits = true;
            let result = decode(&damaged, &mut |event| match event {
                Event::Level(level) => {
                    book.apply(level);
                }
                Event::BookEnd(end) => fits = end.checksum == Some(book.checksum_kraken()),
                Event::Invalid { .. } => fits = false,
                _ => {}
            });
            assert!(result.is_err() || !fits, "byte {at}: {}", damaged.escape_ascii());
        }
    }
}
