//! Every frame of the recorded Binance sessions says what another parser finds in it, and the books that its changes
//! and snapshots make are whole: they bridge, have no holes and never cross.
//!
//! The recordings are not part of the repository: `GATEWAY_CAPTURES` names the directory that holds them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use feed_handlers::decode::binance::{decode, decode_depth};
use feed_handlers::decode::event::{BookScope, Control, Event, Symbol, Top};
use protocol::{Decimal, Side};
use serde_json::Value;

fn captures() -> Option<PathBuf> {
    let Some(root) = std::env::var_os("GATEWAY_CAPTURES") else {
        println!("left out: GATEWAY_CAPTURES names no directory of captures");
        return None;
    };
    Some(Path::new(&root).join("binance"))
}

/// The server's frames in a capture, each with the recorder's time in ms where it noted one.
fn frames(path: &Path) -> Vec<(Option<f64>, String)> {
    let text = std::fs::read_to_string(path).unwrap();
    let is_timed = path.to_str().unwrap().ends_with(".txt");
    text.lines()
        .filter(|line| !line.is_empty() && !line.starts_with("wss://"))
        .map(|line| {
            let (time, frame) = if is_timed { line.split_once(": ").unwrap() } else { ("", line) };
            (time.parse::<f64>().ok().map(|seconds| seconds * 1e3), frame.to_owned())
        })
        .collect()
}

const RECORDING: &str = "binance-2021-10-12.ws.txt";

/// An event as text, with all its digits.
fn shown(event: &Event<'_>) -> String {
    let name = |symbol: Symbol<'_>| match symbol {
        Symbol::Text(text) => String::from_utf8(text.to_vec()).unwrap(),
        Symbol::Token(token) => panic!("token {token}"),
    };
    let side = |top: Option<Top>| top.map_or("-".into(), |top| format!("{} x {}", top.price, top.size.unwrap()));
    match event {
        Event::Trade(t) => {
            let id = t.id.map_or("-".into(), |id| id.to_string());
            format!("trade {} {id} {} x {} {:?} {}", name(t.symbol), t.price, t.size, t.taker.unwrap(), t.time)
        }
        Event::Quote(q) => {
            assert_eq!(q.time, None, "the venue tells none");
            format!("quote {} {} {} / {}", name(q.symbol), q.sequence.unwrap(), side(q.bid), side(q.ask))
        }
        Event::Bar(b) => format!(
            "bar {} {} {} {} {} {} {} {} {:?} {}",
            name(b.symbol),
            b.interval_ns,
            b.start,
            b.open,
            b.high,
            b.low,
            b.close,
            b.volume,
            b.trades,
            b.in_progress
        ),
        Event::BookBegin(b) => format!("book {} {:?} {:?}", name(b.symbol), b.scope, b.updates.unwrap()),
        Event::Level(l) => format!("level {:?} {} x {}", l.side, l.price, l.size),
        Event::BookEnd(e) => format!("end {:?} {:?}", e.checksum, e.time),
        Event::Control(control) => format!("{control:?}"),
        Event::Ignored { kind } => format!("ignored {}", kind.escape_ascii()),
        other => panic!("{other:?}"),
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn levels(bids: &Value, asks: &Value) -> Vec<String> {
    let side = |side, list: &Value| {
        let level = |level: &Value| format!("level {side:?} {} x {}", text(&level[0]), text(&level[1]));
        list.as_array().unwrap().iter().map(level).collect::<Vec<_>>()
    };
    [side(Side::Buy, bids), side(Side::Sell, asks)].concat()
}

/// What a frame must say, by the names of its fields.
fn expected(frame: &Value) -> Vec<String> {
    let is_combined = frame["data"].is_object();
    let data = if is_combined { &frame["data"] } else { frame };
    let ns = |value: &Value| value.as_i64().unwrap() * 1_000_000;
    let trade = |id: &str| {
        let taker = if data["m"].as_bool().unwrap() { Side::Sell } else { Side::Buy };
        let (symbol, price, size) = (text(&data["s"]), text(&data["p"]), text(&data["q"]));
        vec![format!("trade {symbol} {id} {price} x {size} {taker:?} {}", ns(&data["T"]))]
    };
    match data["e"].as_str() {
        Some("trade") => trade(&data["t"].to_string()),
        Some("aggTrade") => trade(&data["a"].to_string()),
        Some("blockTrade") => trade("-"),
        Some("depthUpdate") => {
            let begin = format!("book {} Change ({}, {})", text(&data["s"]), data["U"], data["u"]);
            let end = format!("end None Some({})", ns(&data["E"]));
            [vec![begin], levels(&data["b"], &data["a"]), vec![end]].concat()
        }
        Some("kline") => {
            let k = &data["k"];
            let length = ns(&k["T"]) + 1_000_000 - ns(&k["t"]);
            let [open, high, low, close, volume] = ["o", "h", "l", "c", "v"].map(|key| text(&k[key]));
            let symbol = text(&k["s"]);
            let (trades, in_progress) = (k["n"].as_u64(), !k["x"].as_bool().unwrap());
            vec![format!(
                "bar {symbol} {length} {} {open} {high} {low} {close} {volume} {trades:?} {in_progress}",
                ns(&k["t"])
            )]
        }
        Some("serverShutdown") => vec![format!("{:?}", Control::Closing)],
        Some(other) => vec![format!("ignored {other}")],
        None if data["code"].is_number() => {
            let code = data["code"].to_string();
            let control = Control::Error { text: text(&data["msg"]).as_bytes(), detail: code.as_bytes() };
            vec![format!("{control:?}")]
        }
        None if data.get("result") == Some(&Value::Null) => vec![format!("{:?}", Control::Subscribed)],
        None if is_combined && data["lastUpdateId"].is_number() => {
            let symbol = text(&frame["stream"]).split('@').next().unwrap();
            let begin = format!("book {symbol} Snapshot ({0}, {0})", data["lastUpdateId"]);
            [vec![begin], levels(&data["bids"], &data["asks"]), vec!["end None None".into()]].concat()
        }
        None => {
            let side = |price: &str, size: &str| format!("{} x {}", text(&data[price]), text(&data[size]));
            vec![format!("quote {} {} {} / {}", text(&data["s"]), data["u"], side("b", "B"), side("a", "A"))]
        }
    }
}

#[test]
fn every_frame_of_every_capture_says_what_stands_in_it() {
    let Some(directory) = captures() else { return };
    let mut read = 0;
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if !name.ends_with(".ws.txt") && !name.ends_with(".jsonl") {
            continue;
        }
        for (_, frame) in frames(&path) {
            let value: Value = serde_json::from_str(&frame).unwrap();
            let mut events = Vec::new();
            let result = decode(frame.as_bytes(), &mut |event| events.push(shown(&event)));
            if value.get("lastUpdateId").is_some() {
                // Partial depth that no stream names, as the documentation shows it.
                assert!(result.is_err() && events.is_empty(), "{name}: {frame}");
                let mut events = Vec::new();
                decode_depth(frame.as_bytes(), Symbol::Text(b"x"), &mut |event| events.push(shown(&event))).unwrap();
                let wrapped = serde_json::json!({ "stream": "x@depth5", "data": value });
                assert_eq!(events, expected(&wrapped), "{name}: {frame}");
            } else {
                assert_eq!((result, events), (Ok(()), expected(&value)), "{name}: {frame}");
            }
            read += 1;
        }
    }
    assert!(read >= 265 + 23 + 4 + 11, "{read} frames: the captures are not where they should be");
}

#[test]
fn the_recording_of_2021_counts_as_published() {
    let Some(directory) = captures() else { return };
    let frames = frames(&directory.join(RECORDING));
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    let (mut ahead_ms_min, mut ahead_ms_max) = (f64::MAX, f64::MIN);
    for (recorded_ms, frame) in &frames {
        let mut kind = None;
        let mut on_event = |event: Event<'_>| match event {
            Event::BookBegin(_) => kind = Some("depth"),
            Event::BookEnd(end) => {
                let sent_ms = end.time.unwrap() as f64 / 1e6;
                let ahead_ms = sent_ms - recorded_ms.unwrap();
                (ahead_ms_min, ahead_ms_max) = (ahead_ms_min.min(ahead_ms), ahead_ms_max.max(ahead_ms));
            }
            Event::Level(_) => {}
            Event::Quote(_) => kind = Some("bookTicker"),
            Event::Trade(_) => kind = Some("aggTrade"),
            Event::Bar(_) => kind = Some("kline"),
            other => panic!("{other:?}"),
        };
        decode(frame.as_bytes(), &mut on_event).unwrap();
        *counts.entry(kind.unwrap()).or_default() += 1;
    }
    assert_eq!(frames.len(), 265);
    let counted: Vec<(&str, u64)> = counts.into_iter().collect();
    assert_eq!(counted, [("aggTrade", 2), ("bookTicker", 84), ("depth", 177), ("kline", 2)]);
    // The venue's clock against the recorder's: a little ahead, so that frames come before they were sent.
    assert!((5.0..6.0).contains(&ahead_ms_max), "{ahead_ms_max} ms");
    assert!((-85.0..-84.0).contains(&ahead_ms_min), "{ahead_ms_min} ms");
}

/// The simplest book there is.
#[derive(Default)]
struct NaiveBook {
    bids: BTreeMap<Decimal, Decimal>,
    asks: BTreeMap<Decimal, Decimal>,
    last_update: u64,
}

impl NaiveBook {
    /// The changes, or the whole, that one frame told; where and whether they fit was decided before.
    fn apply(&mut self, events: &[Event<'_>]) {
        for event in events {
            match event {
                Event::BookBegin(begin) => {
                    if begin.scope == BookScope::Snapshot {
                        *self = NaiveBook::default();
                    }
                    self.last_update = begin.updates.unwrap().1;
                }
                Event::Level(level) => {
                    let side = if level.side == Side::Buy { &mut self.bids } else { &mut self.asks };
                    if level.size.is_zero() {
                        side.remove(&level.price);
                    } else {
                        side.insert(level.price, level.size);
                    }
                }
                Event::BookEnd(_) => {}
                other => panic!("{other:?}"),
            }
        }
        let (bid, ask) = (self.bids.last_key_value(), self.asks.first_key_value());
        assert!(bid.unwrap().0 < ask.unwrap().0, "crossed: {bid:?} {ask:?} at {}", self.last_update);
    }
}

/// The REST answers, by symbol.
fn depth_snapshots(path: &Path) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .filter(|line| line.starts_with("http"))
        .map(|line| {
            let (url, rest) = line.split_once(" -> ").unwrap();
            let (_, query) = url.split_once("symbol=").unwrap();
            (query.split('&').next().unwrap().to_owned(), rest.split_once(": ").unwrap().1.to_owned())
        })
        .collect()
}

#[test]
fn snapshots_and_changes_make_whole_books() {
    let Some(directory) = captures() else { return };
    let frames = frames(&directory.join(RECORDING));
    let snapshots = depth_snapshots(&directory.join("binance-2021-10-12.depth-snapshots.http.txt"));
    assert_eq!(snapshots.len(), 4);
    let (mut before_snapshot, mut applied) = (0, 0);
    for (symbol, body) in &snapshots {
        let mut book = NaiveBook::default();
        let mut events = Vec::new();
        decode_depth(body.as_bytes(), Symbol::Text(symbol.as_bytes()), &mut |event| events.push(event)).unwrap();
        book.apply(&events);
        let of_snapshot = book.last_update;
        let value: Value = serde_json::from_str(body).unwrap();
        assert_eq!(value["lastUpdateId"], of_snapshot);
        assert_eq!(book.bids.len(), value["bids"].as_array().unwrap().len(), "{symbol}");
        assert_eq!(book.asks.len(), value["asks"].as_array().unwrap().len(), "{symbol}");

        let (mut is_bridged, mut received) = (false, None);
        for (_, frame) in &frames {
            let mut events = Vec::new();
            decode(frame.as_bytes(), &mut |event| events.push(event)).unwrap();
            let Event::BookBegin(begin) = events[0] else { continue };
            if begin.symbol != Symbol::Text(symbol.as_bytes()) {
                continue;
            }
            let (first, last) = begin.updates.unwrap();
            assert!(received.replace(last).is_none_or(|before| first == before + 1), "{symbol}: a hole before {first}");
            if last <= of_snapshot {
                before_snapshot += 1;
                continue;
            }
            if !std::mem::replace(&mut is_bridged, true) {
                assert!(first <= of_snapshot + 1, "{symbol}: the snapshot of {of_snapshot} does not reach {first}");
            }
            book.apply(&events);
            applied += 1;
        }
        assert!(is_bridged, "{symbol}");
    }
    assert_eq!((before_snapshot, applied), (5, 177 - 5));
}

/// A trade, the book ticker that it made, and the change of the book with the same number tell one story; so the side
/// that the trade took is the one that shrank.
#[test]
fn trades_take_what_the_book_loses() {
    let Some(directory) = captures() else { return };
    let frames = frames(&directory.join("binance-testnet-2026-09-13.jsonl"));
    let mut events = Vec::new();
    for (_, frame) in &frames {
        decode(frame.as_bytes(), &mut |event| events.push(event)).unwrap();
    }
    let (mut matched, mut trade, mut quote) = (0, None, None);
    let mut taken = 0;
    for event in events {
        match event {
            Event::Trade(new) => trade = Some(new),
            Event::Quote(new) => {
                let old = quote.replace(new);
                // The level that the trade hit has shrunk by its size.
                if let (Some(trade), Some(old)) = (trade.take(), old) {
                    let top = |quote: feed_handlers::decode::event::Quote<'_>| match trade.taker {
                        Some(Side::Buy) => quote.ask.unwrap(),
                        _ => quote.bid.unwrap(),
                    };
                    let (old, new) = (top(old), top(new));
                    assert_eq!((old.price, new.price), (trade.price, trade.price));
                    assert_eq!(new.size.unwrap().checked_add(trade.size), old.size);
                    taken += 1;
                }
            }
            Event::BookBegin(begin) => {
                let last = begin.updates.unwrap().1;
                matched += u64::from(quote.is_some_and(|quote| quote.sequence == Some(last)));
            }
            _ => {}
        }
    }
    assert_eq!(
        (taken, matched),
        (5, 6),
        "of 7 trades, the first without a quote before it and the last without one after"
    );
}
