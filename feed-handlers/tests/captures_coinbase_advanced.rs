//! Recorded frames of Coinbase Advanced Trade against a reading of them that shares nothing with the decoder.
//!
//! The recordings are not part of the repository: `GATEWAY_CAPTURES` names the directory that holds them.

#![cfg(not(loom))]

mod captures;

use feed_handlers::book::{Applied, Book, Spread};
use feed_handlers::decode::coinbase_advanced::decode;
use feed_handlers::decode::event::{Age, BookScope, Control, Event, Symbol};
use protocol::{Side, parse_rfc3339};
use serde_json::Value;

/// The frames of all captures of this venue, each as text and as serde_json reads it; `None`, said aloud, without captures.
fn frames() -> Option<Vec<(String, Value)>> {
    let lines = captures::lines(&captures::directory("coinbase")?.join("coinbase-advanced-live.jsonl"));
    Some(lines.into_iter().map(|line| (line.clone(), serde_json::from_str(&line).unwrap())).collect())
}

fn events(frame: &str) -> Vec<Event<'_>> {
    let mut events = Vec::new();
    decode(frame.as_bytes(), &mut |event| events.push(event)).unwrap();
    events
}

fn name(symbol: Symbol<'_>) -> String {
    let Symbol::Text(name) = symbol else { panic!("{symbol:?}") };
    String::from_utf8(name.to_vec()).unwrap()
}

/// What an event says, with all its digits, one line for each.
fn told(event: &Event<'_>) -> String {
    match event {
        Event::LineSequence(number) => format!("number {number}"),
        Event::Trade(t) => format!(
            "trade {} {:?} {} {} {:?} {} {:?}",
            name(t.symbol),
            t.id.unwrap(),
            t.price,
            t.size,
            t.taker.unwrap(),
            t.time,
            t.age
        ),
        Event::BookBegin(book) => format!("begin {} {:?}", name(book.symbol), book.scope),
        Event::Level(level) => format!("level {:?} {} {}", level.side, level.price, level.size),
        Event::BookEnd(end) => format!("end {}", end.time.unwrap()),
        Event::Heartbeat(beat) => format!("beat {}", beat.time.unwrap()),
        Event::Control(Control::Subscribed) => "subscribed".to_owned(),
        Event::Control(Control::Error { text, .. }) => format!("error {}", String::from_utf8_lossy(text)),
        other => panic!("{other:?}"),
    }
}

/// The same, from the fields that serde_json finds.
fn expected(frame: &Value) -> Vec<String> {
    let Some(channel) = frame["channel"].as_str() else {
        return vec![format!("error {}", frame["message"].as_str().unwrap())];
    };
    let mut lines = vec![format!("number {}", frame["sequence_num"])];
    for event in frame["events"].as_array().unwrap() {
        let is_old = event["type"] == "snapshot";
        match channel {
            "subscriptions" => lines.push("subscribed".to_owned()),
            "heartbeats" => {
                let (time, _) = event["current_time"].as_str().unwrap().split_once(" +0000 UTC").unwrap();
                lines.push(format!("beat {}", parse_rfc3339((time.replace(' ', "T") + "Z").as_bytes()).unwrap()));
            }
            "l2_data" => {
                let scope = if is_old { BookScope::Snapshot } else { BookScope::Change };
                lines.push(format!("begin {} {scope:?}", event["product_id"].as_str().unwrap()));
                let updates = event["updates"].as_array().unwrap();
                for update in updates {
                    let text = |key: &str| update[key].as_str().unwrap();
                    let side = if text("side") == "bid" { Side::Buy } else { Side::Sell };
                    lines.push(format!("level {side:?} {} {}", text("price_level"), text("new_quantity")));
                }
                let times: Vec<&str> = updates.iter().map(|update| update["event_time"].as_str().unwrap()).collect();
                assert!(times.iter().all(|time| *time == times[0]), "{times:?}");
                lines.push(format!("end {}", parse_rfc3339(times[0].as_bytes()).unwrap()));
            }
            "market_trades" => {
                let age = if is_old { Age::Old } else { Age::Live };
                for trade in event["trades"].as_array().unwrap() {
                    let text = |key: &str| trade[key].as_str().unwrap();
                    // The venue tells the maker's side.
                    let taker = if text("side") == "BUY" { Side::Sell } else { Side::Buy };
                    let time = parse_rfc3339(text("time").as_bytes()).unwrap();
                    let [product, id, price, size] = ["product_id", "trade_id", "price", "size"].map(text);
                    lines.push(format!("trade {product} {id} {price} {size} {taker:?} {time} {age:?}"));
                }
            }
            other => panic!("{other}"),
        }
    }
    lines
}

#[test]
fn every_frame_says_what_another_parser_finds_in_it() {
    let Some(frames) = frames() else { return };
    let (mut trades, mut levels) = (0, 0);
    for (text, frame) in &frames {
        let events = events(text);
        assert_eq!(events.iter().map(told).collect::<Vec<_>>(), expected(frame), "{text}");
        trades += events.iter().filter(|event| matches!(event, Event::Trade(_))).count();
        levels += events.iter().filter(|event| matches!(event, Event::Level(_))).count();
    }
    println!("{} frames, {trades} trades, {levels} levels", frames.len());
    assert_eq!((frames.len(), trades), (10, 21), "the captures are not as described");
    assert_eq!(levels, 4 + 10 + 32 + 19, "the captures are not as described");
}

/// The sweep that settles whose side the venue tells: trades of one instant at falling prices were sold into the book, those
/// at rising prices bought out of it.
#[test]
fn the_taker_of_a_sweep_is_who_moves_the_price() {
    let Some(frames) = frames() else { return };
    let mut trades = Vec::new();
    for (text, _) in &frames {
        for event in events(text) {
            if let Event::Trade(trade) = event
                && trade.age == Age::Old
            {
                trades.push((trade.id.unwrap(), trade.price, trade.taker.unwrap(), trade.time));
            }
        }
    }
    assert!(trades.is_sorted_by(|a, b| a.0 > b.0), "the newest is not first");
    trades.reverse();
    let sweep = |ids: std::ops::RangeInclusive<u64>| {
        let sweep: Vec<_> = trades.iter().filter(|trade| ids.contains(&trade.0)).collect();
        assert!(sweep.len() > 2 && sweep.iter().all(|trade| trade.3 == sweep[0].3), "{sweep:?}");
        sweep
    };
    let falling = sweep(846_155_077..=846_155_088);
    assert!(
        falling.is_sorted_by(|a, b| a.1 >= b.1) && falling.iter().all(|trade| trade.2 == Side::Sell),
        "{falling:?}"
    );
    let rising = sweep(846_155_069..=846_155_071);
    assert!(rising.is_sorted_by(|a, b| a.1 <= b.1) && rising.iter().all(|trade| trade.2 == Side::Buy), "{rising:?}");
}

#[test]
fn books_of_the_frames_are_in_order() {
    let Some(frames) = frames() else { return };
    let mut books = 0;
    for (text, _) in &frames {
        // No change of these follows on a snapshot of the same product, so each frame is a book of its own.
        let mut book = Book::new();
        for event in events(text) {
            if let Event::Level(level) = event {
                let expected = if level.size.is_zero() { Applied::Absent } else { Applied::Added };
                assert_eq!(book.apply(level), expected, "{level:?}");
            }
        }
        books += usize::from(book.top() != (None, None));
        assert_eq!(book.spread(), Spread::Open, "{text}");
    }
    assert_eq!(books, 3);
}
