//! The whole of a recorded Coinbase session through order books: what the venue's changes do to them.
//!
//! The recordings are not part of the repository: `GATEWAY_CAPTURES` names the directory that holds them.

#![cfg(not(loom))]

mod captures;

use std::collections::BTreeMap;

use feed_handlers::book::{Applied, Book, Spread};
use feed_handlers::decode::coinbase::decode;
use feed_handlers::decode::event::{BookScope, Event, Symbol};
use protocol::{Decimal, Side};
use serde_json::Value;

/// The frames of the session in which level 2 was not batched yet, each change in a message of its own.
fn frames() -> Option<Vec<String>> {
    let lines = captures::lines(&captures::directory("coinbase")?.join("coinbase-2021-04-17.ws.txt"));
    let lines = lines.iter().filter(|line| !line.starts_with("wss://"));
    Some(lines.map(|line| line.split_once(": ").unwrap().1.to_owned()).collect())
}

/// One side of a book as the other parser makes it: texts of price and size by the price in units of 10^-18.
type Ladder = BTreeMap<i128, (String, String)>;

fn key(price: &str) -> i128 {
    let (whole, fraction) = price.split_once('.').unwrap_or((price, ""));
    format!("{whole}{fraction:0<18}").parse().unwrap()
}

/// Applies a frame to books that share nothing with ours, not even the reading of a number.
fn apply(books: &mut BTreeMap<String, [Ladder; 2]>, frame: &Value) {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let put = |book: &mut [Ladder; 2], side: usize, price: &Value, size: &Value| {
        let (price, size) = (text(price), text(size));
        if size.bytes().all(|byte| matches!(byte, b'0' | b'.')) {
            assert!(book[side].remove(&key(&price)).is_some(), "{price} is removed and was not there");
        } else {
            book[side].insert(key(&price), (price, size));
        }
    };
    match frame["type"].as_str().unwrap() {
        "snapshot" => {
            let book = books.entry(text(&frame["product_id"])).or_default();
            *book = Default::default();
            for (side, key) in ["bids", "asks"].into_iter().enumerate() {
                for level in frame[key].as_array().unwrap() {
                    put(book, side, &level[0], &level[1]);
                }
            }
        }
        "l2update" => {
            let book = books.get_mut(frame["product_id"].as_str().unwrap()).unwrap();
            for change in frame["changes"].as_array().unwrap() {
                put(book, usize::from(change[0] == "sell"), &change[1], &change[2]);
            }
        }
        _ => {}
    }
}

#[test]
fn no_book_of_the_session_crosses_and_no_removal_misses() {
    let Some(frames) = frames() else { return };
    let mut books: BTreeMap<Vec<u8>, Book> = BTreeMap::new();
    let mut model = BTreeMap::new();
    let (mut snapshots, mut changes, mut removals) = (0, 0, 0);
    for frame in &frames {
        let mut open = None;
        decode(frame.as_bytes(), &mut |event| match event {
            Event::BookBegin(begin) => {
                let Symbol::Text(name) = begin.symbol else { panic!("{begin:?}") };
                let book = books.entry(name.to_vec()).or_default();
                if begin.scope == BookScope::Snapshot {
                    book.clear();
                }
                open = Some((name, begin.scope));
            }
            Event::Level(level) => {
                let (name, scope) = open.expect("a level belongs to a book");
                let applied = books.get_mut(name).unwrap().apply(level);
                match (scope, applied) {
                    (BookScope::Snapshot, Applied::Added) => snapshots += 1,
                    (BookScope::Change, Applied::Added | Applied::Changed) => changes += 1,
                    (BookScope::Change, Applied::Removed) => removals += 1,
                    other => panic!("{other:?} {level:?} in {frame}"),
                }
            }
            Event::BookEnd(_) => {
                let (name, _) = open.take().expect("a book was begun");
                assert_eq!(books[name].spread(), Spread::Open, "{frame}");
            }
            Event::Invalid { .. } => panic!("{event:?} in {frame}"),
            _ => {}
        })
        .unwrap();
        apply(&mut model, &serde_json::from_str(frame).unwrap());
    }
    println!("{} books, {snapshots} levels of snapshots, {changes} changes, {removals} removals", books.len());
    assert_eq!((books.len(), changes + removals, removals), (10, 9_719, 2_634));

    let text = |(price, size): (Decimal, Decimal)| (price.to_string(), size.to_string());
    for (name, [bids, asks]) in &model {
        let book = &books[name.as_bytes()];
        assert!(book.levels(Side::Buy).map(text).eq(bids.values().rev().cloned()), "bids of {name}");
        assert!(book.levels(Side::Sell).map(text).eq(asks.values().cloned()), "asks of {name}");
        assert_eq!(book.dropped(), 0);
    }
}
