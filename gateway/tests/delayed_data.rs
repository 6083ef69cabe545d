//! Delayed is really delayed and really complete: a user without real-time access gets exactly the messages
//! that others get, byte for byte and in order, and none of them before its time.

mod support;

use std::collections::BTreeMap;

use serde_json::json;
use support::{Received, Venue, start};

const DELAY_NS: i64 = 1_000_000_000;

/// Messages of each symbol, in the order in which they came.
fn by_symbol(messages: &[Received]) -> BTreeMap<&str, Vec<&Received>> {
    let mut symbols: BTreeMap<&str, Vec<&Received>> = BTreeMap::new();
    messages.iter().for_each(|message| symbols.entry(message.symbol()).or_default().push(message));
    symbols
}

#[test]
fn delayed_trades_are_the_same_trades_later() {
    let gateway = start(&[
        ("sequencer.delay", "1s"),
        ("feed.simulator.symbols", r#"["BTC/USD","ETH/USD","SOL/USD"]"#),
        ("feed.simulator.rate", "600"),
        ("feed.simulator.trade_share", "0.8"),
    ]);
    let request = r#"{"action":"subscribe","trades":["BTC/USD","ETH/USD","SOL/USD"]}"#;
    let mut premium = gateway.premium();
    assert!(premium.subscribe(request)["delayed_ms"].is_null());
    let mut free = gateway.free();
    assert_eq!(free.subscribe(request)["delayed_ms"], json!(1_000));
    // Behind as it is, the delayed one starts earlier in the numbering; both have a second and more in common.
    let prompt = premium.receive_many(&["t"], 1_500);
    let delayed = free.receive_many(&["t"], 1_500);
    for trade in &delayed {
        let held_back_ns = trade.at_ns - trade["rx"].as_i64().unwrap();
        assert!(held_back_ns >= DELAY_NS, "{held_back_ns} ns after it was received: {}", trade.text);
    }
    let (prompt, delayed) = (by_symbol(&prompt), by_symbol(&delayed));
    let mut compared = 0;
    for (symbol, trades) in &delayed {
        for (before, after) in trades.iter().zip(&trades[1..]) {
            assert_eq!(after.number("seq"), before.number("seq") + 1, "complete and in order: {}", after.text);
        }
        let prompt: BTreeMap<u64, &str> = prompt[symbol].iter().map(|t| (t.number("seq"), t.text.as_str())).collect();
        for trade in trades {
            if let Some(text) = prompt.get(&trade.number("seq")) {
                assert_eq!(*text, trade.text, "byte for byte");
                compared += 1;
            }
        }
    }
    assert!(compared >= 300, "{compared} trades are in both");
    assert_eq!(gateway.metric("gateway_delay_line_dropped_total"), 0.0);
}

#[test]
fn delayed_quotes_are_held_back_too_from_the_first_on() {
    let gateway = start(&[
        ("sequencer.delay", "1s"),
        ("feed.simulator.symbols", r#"["BTC/USD","ETH/USD"]"#),
        ("feed.simulator.rate", "200"),
    ]);
    // Once real-time users have had quotes, there is a last value that must not be the delayed users'.
    let mut premium = gateway.premium();
    premium.subscribe(r#"{"action":"subscribe","quotes":["*"]}"#);
    premium.receive_many(&["q"], 50);
    let mut free = gateway.free();
    free.subscribe(r#"{"action":"subscribe","quotes":["BTC/USD","ETH/USD"]}"#);
    let quotes = free.receive_many(&["q"], 100);
    for quote in &quotes {
        let held_back_ns = quote.at_ns - quote["rx"].as_i64().unwrap();
        assert!(held_back_ns >= DELAY_NS, "{held_back_ns} ns after it was received: {}", quote.text);
    }
    for quotes in by_symbol(&quotes).values() {
        for (before, after) in quotes.iter().zip(&quotes[1..]) {
            assert!(after.number("seq") > before.number("seq"), "{}", after.text);
        }
    }
}

#[test]
fn what_the_delay_line_cannot_hold_is_announced() {
    const TRADES: u64 = 12_000;
    let venue = Venue::bind();
    let settings = [
        ("sequencer.delay", "5s"),
        // Room for some seven thousand messages, and each trade brings an updated bar as well.
        ("sequencer.delay_bytes_max", "1MiB"),
    ];
    let gateway = start(&[&venue.settings(r#"["BTC-USD"]"#)[..], &settings].concat());
    let mut line = venue.accept();
    let mut free = gateway.free();
    free.subscribe(r#"{"action":"subscribe","trades":["BTC/USD"]}"#);
    line.trades("BTC-USD", TRADES);
    gateway.await_metric("gateway_delay_line_dropped_total", |dropped| dropped > 0.0);
    gateway.await_metric("gateway_delay_line_bytes ", |held| held == 0.0);
    // The next trade tells what was left out behind the last one held.
    line.trades("BTC-USD", 1);
    let (mut expected, mut gaps) = (1, 0);
    while expected <= TRADES + 1 {
        let message = free.receive_of(&["t", "gap"]);
        if message.kind() == "gap" {
            assert_eq!(
                (&message["reason"], message.number("from")),
                (&json!("retention"), expected),
                "{}",
                message.text
            );
            expected = message.number("to") + 1;
            gaps += 1;
        } else {
            assert_eq!(message.number("seq"), expected, "{}", message.text);
            expected += 1;
        }
    }
    assert!(gaps > 0, "a MiB cannot hold {TRADES} trades");
    assert!(gateway.metric("gateway_delay_line_dropped_total") > 0.0);
}
