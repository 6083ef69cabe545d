//! A capture that is replayed as fast as it goes arrives exactly: every match once, in order, with the venue's
//! own digits, at a subscriber of all trades; counted against the capture by a reader of its own.

mod support;

use std::collections::BTreeMap;
use std::path::Path;

use protocol::parse_rfc3339;
use serde_json::Value;
use support::client::Received;
use support::venue::{match_frame, price_of, time_of};
use support::{Client, Directory, Running, captures, start};

/// What is compared of a trade: its id, price and size with their digits, time (Unix ns), and the taker's side.
type Facts = (u64, String, String, i64, &'static str);

/// The matches of a capture by product, read by `serde_json` alone.
fn matches(path: &str) -> BTreeMap<String, Vec<Facts>> {
    let mut products: BTreeMap<String, Vec<Facts>> = BTreeMap::new();
    for line in std::fs::read_to_string(path).unwrap().lines() {
        // A recorder puts its own time in front of the frame.
        let Some(frame) = line.find('{').map(|at| &line[at..]) else { continue };
        let frame: Value = serde_json::from_str(frame).unwrap();
        if frame["type"] != "match" {
            continue;
        }
        let text = |key: &str| frame[key].as_str().unwrap().to_owned();
        // The venue tells the maker's side.
        let taker = if frame["side"] == "buy" { "S" } else { "B" };
        let facts = (frame["trade_id"].as_u64().unwrap(), text("price"), text("size"), time(&frame["time"]), taker);
        products.entry(text("product_id").replace('-', "/")).or_default().push(facts);
    }
    products
}

fn time(text: &Value) -> i64 {
    parse_rfc3339(text.as_str().unwrap().as_bytes()).unwrap()
}

fn facts(trade: &Received) -> Facts {
    assert_eq!(trade["x"], "COINBASE");
    let taker = if trade["tks"] == "B" { "B" } else { "S" };
    let digits = |key| trade.digits(key).to_owned();
    (trade.number("i"), digits("p"), digits("s"), time(&trade["t"]), taker)
}

fn replaying(file: &str, clients: &str) -> Running {
    start(&[
        ("feed.kind", "replay"),
        ("feed.replay.file", file),
        ("feed.replay.speed", "max"),
        ("feed.replay.after_clients", clients),
    ])
}

/// Reads so many trades; `pause` looks at the count of each.
fn read(client: &mut Client, count: usize, mut pause: impl FnMut(usize)) -> BTreeMap<String, Vec<Received>> {
    let mut symbols: BTreeMap<String, Vec<Received>> = BTreeMap::new();
    let mut seqs: BTreeMap<String, u64> = BTreeMap::new();
    for index in 0..count {
        pause(index);
        // What the venue left out is told by a message with a number of its own.
        let trade = loop {
            let message = client.receive_of(&["t", "gap"]);
            let seq = seqs.entry(message.symbol().to_owned()).or_default();
            *seq += 1;
            assert_eq!(message.number("seq"), *seq, "{}", message.text);
            if message.kind() == "t" {
                break message;
            }
            assert_eq!(message["reason"], "venue", "{}", message.text);
        };
        symbols.entry(trade.symbol().to_owned()).or_default().push(trade);
    }
    symbols
}

#[track_caller]
fn assert_exact(expected: &BTreeMap<String, Vec<Facts>>, received: &BTreeMap<String, Vec<Received>>) {
    let counts = |lengths: Vec<(&String, usize)>| -> BTreeMap<String, usize> {
        lengths.into_iter().map(|(symbol, length)| (symbol.clone(), length)).collect()
    };
    assert_eq!(
        counts(received.iter().map(|(symbol, trades)| (symbol, trades.len())).collect()),
        counts(expected.iter().map(|(symbol, trades)| (symbol, trades.len())).collect()),
    );
    for (symbol, expected) in expected {
        for (trade, expected) in received[symbol].iter().zip(expected) {
            assert_eq!(&facts(trade), expected, "{symbol}");
        }
    }
}

/// Replays a capture to a client, and asserts that nothing comes behind its last match.
fn check(file: &str) -> usize {
    let expected = matches(file);
    let count = expected.values().map(Vec::len).sum();
    assert!(count > 0, "{file} has no match");
    let gateway = replaying(file, "1");
    let mut client = gateway.premium();
    client.subscribe(r#"{"action":"subscribe","trades":["*"]}"#);
    assert_exact(&expected, &read(&mut client, count, |_| ()));
    gateway.drain();
    let (rest, _) = client.drain();
    assert!(rest.iter().all(|m| m.kind() != "t"), "{rest:?}");
    count
}

#[test]
fn recorded_captures_arrive_exactly() {
    let Some(captures) = captures() else { return };
    let path = |name: &str| captures.join(Path::new("coinbase")).join(name).to_str().unwrap().to_owned();
    for name in ["coinbase-2021-04-17.ws.txt", "coinbase-exchange-live-2026-09-30.jsonl"] {
        println!("{name}: {} matches", check(&path(name)));
    }
}

/// A capture of so many matches of three products.
fn made_up(count: u64) -> String {
    let mut capture = String::new();
    let mut ids = [0u64; 3];
    for index in 0..count {
        let product = (index % 3) as usize;
        ids[product] += 1;
        let size = format!("{}.{:08}", index % 7, index + 1);
        let name = ["BTC-USD", "ETH-USD", "SOL-BTC"][product];
        let frame = match_frame(name, ids[product], &price_of(index), &size, 1_000 + index, &time_of(index));
        capture.push_str(&frame);
        capture.push('\n');
    }
    capture
}

#[test]
fn nothing_is_lost_under_load_with_a_reader_that_reads_slowly() {
    const MATCHES: u64 = 50_000;
    let files = Directory::new();
    let file = files.write("made-up.jsonl", made_up(MATCHES));
    let expected = matches(&file);
    // The slow one reads nothing until the others have everything.
    let gateway = replaying(&file, "3");
    let mut clients = [gateway.premium(), gateway.premium()];
    let mut slow = Client::with_small_buffer(gateway.address, &gateway.users[1]);
    for client in clients.iter_mut().chain([&mut slow]) {
        client.subscribe(r#"{"action":"subscribe","trades":["*"]}"#);
    }
    for client in &mut clients {
        assert_exact(&expected, &read(client, MATCHES as usize, |_| ()));
    }
    assert_eq!(gateway.metric("gateway_ring_lapped_total"), 0.0);
    // The slow one has not read yet.
    gateway.await_metric("gateway_outbox_behind ", |behind| behind == 1.0);
    slow.enlarge_buffer();
    // A little at a time: every read is of one message, and the thread gives way after each hundred.
    let received = read(&mut slow, MATCHES as usize, |index| {
        if index % 100 == 0 {
            std::thread::yield_now();
        }
    });
    assert_exact(&expected, &received);
}

#[test]
fn what_a_venue_sends_again_or_leaves_out_is_not_made_up_for() {
    let files = Directory::new();
    let frame = |id, sequence| match_frame("BTC-USD", id, "1.10", "0.00000001", sequence, &time_of(id)) + "\n";
    // 2 twice, 4 to 6 never.
    let capture = [frame(1, 10), frame(2, 11), frame(2, 11), frame(3, 12), frame(7, 16), frame(1, 10), frame(8, 17)];
    let gateway = replaying(&files.write("gaps.jsonl", capture.concat()), "1");
    let mut client = gateway.premium();
    client.subscribe(r#"{"action":"subscribe","trades":["*"]}"#);
    let messages = client.receive_many(&["t", "gap"], 6);
    let seen: Vec<_> =
        messages.iter().map(|m| (m.kind(), m.number("seq"), m["i"].as_u64(), m["missed"].as_u64())).collect();
    let expected = [
        ("t", 1, Some(1), None),
        ("t", 2, Some(2), None),
        ("t", 3, Some(3), None),
        ("gap", 4, None, Some(3)),
        ("t", 5, Some(7), None),
        ("t", 6, Some(8), None),
    ];
    assert_eq!(seen, expected);
    assert_eq!((messages[0].digits("p"), messages[0].digits("s")), ("1.10", "0.00000001"));
}
