//! A client that comes back continues where it stopped: nothing missing, nothing twice, on each channel and
//! under `*`. What is gone is told with its exact numbers, and so is a server that has forgotten.

mod support;

use std::collections::BTreeMap;

use serde_json::{Value, json};
use support::client::assert_contiguous;
use support::{Client, End, Line, Running, Venue, start};

const PRODUCTS: &str = r#"["BTC-USD","ETH-USD"]"#;

fn started(venue: &Venue, settings: &[(&str, &str)]) -> (Running, Line) {
    let gateway = start(&[&venue.settings(PRODUCTS)[..], settings].concat());
    let line = venue.accept();
    (gateway, line)
}

/// Waits until the gateway has numbered so many sequenced messages.
fn numbered(gateway: &Running, count: u64) {
    gateway.await_metric(r#"gateway_sequencer_messages_total{class="sequenced"}"#, |n| n >= count as f64);
}

fn since(epoch: &Value, trades: Value, positions: Value) -> String {
    json!({"action": "subscribe", "trades": trades, "since": {"epoch": epoch, "trades": positions}}).to_string()
}

#[test]
fn a_channel_goes_on_where_its_client_stopped() {
    let venue = Venue::bind();
    let (gateway, mut line) = started(&venue, &[("server.shards", "2")]);
    let mut client = gateway.premium();
    let epoch = client.subscribe(r#"{"action":"subscribe","trades":["BTC/USD"]}"#)["epoch"].clone();
    line.trades("BTC-USD", 10);
    assert_contiguous(&client.receive_many(&["t"], 10), 1);
    assert_eq!(client.close(), End::Closed(1000, "normal".into()));
    // While it is away, with another symbol's trades between its own.
    for _ in 0..20 {
        line.trades("BTC-USD", 1);
        line.trades("ETH-USD", 2);
    }
    numbered(&gateway, 70);
    // Several, so that they meet each shard.
    let mut clients: Vec<Client> = (0..4).map(|_| gateway.premium()).collect();
    for client in &mut clients {
        client.subscribe(&since(&epoch, json!(["BTC/USD"]), json!({"BTC/USD": 10})));
    }
    line.trades("BTC-USD", 5);
    for client in &mut clients {
        let trades = client.receive_many(&["t", "gap"], 25);
        assert_contiguous(&trades, 11);
        assert!(trades.iter().all(|t| t.symbol() == "BTC/USD"));
        for trade in &trades {
            assert_eq!(trade.digits("p"), support::venue::price_of(trade.number("i")));
        }
    }
    // Positions that have nothing behind them, all of it, and one that is still to come.
    line.trades("ETH-USD", 1);
    numbered(&gateway, 76);
    let mut client = gateway.premium();
    client.subscribe(&since(&epoch, json!(["BTC/USD", "ETH/USD"]), json!({"BTC/USD": 35, "ETH/USD": 0})));
    assert_contiguous(&client.receive_many(&["t", "gap"], 41), 1);
    let mut client = gateway.premium();
    client.send(&since(&epoch, json!(["BTC/USD", "ETH/USD"]), json!({"BTC/USD": 36, "ETH/USD": 41})));
    let error = client.receive_of(&["error"]);
    assert_eq!((error.number("code"), error.symbol(), &error["channel"]), (422, "BTC/USD", &json!("trades")));
    line.trades("BTC-USD", 1);
    line.trades("ETH-USD", 1);
    let mut next: Vec<(String, u64)> =
        client.receive_many(&["t", "gap"], 2).iter().map(|t| (t.symbol().to_owned(), t.number("seq"))).collect();
    next.sort();
    assert_eq!(next, [("BTC/USD".to_owned(), 36), ("ETH/USD".to_owned(), 42)], "the subscription stands");
}

#[test]
fn every_channel_under_all_goes_on_where_its_client_stopped() {
    let venue = Venue::bind();
    let (gateway, mut line) = started(&venue, &[]);
    let mut client = gateway.premium();
    let epoch = client.subscribe(r#"{"action":"subscribe","trades":["*"]}"#)["epoch"].clone();
    let both = |line: &mut Line, rounds: u64| {
        for _ in 0..rounds {
            line.trades("ETH-USD", 3);
            line.trades("BTC-USD", 1);
        }
    };
    both(&mut line, 10);
    client.receive_many(&["t"], 40);
    client.close();
    both(&mut line, 10);
    numbered(&gateway, 80);
    let mut client = gateway.premium();
    client.subscribe(&since(&epoch, json!(["*"]), json!({"BTC/USD": 10, "ETH/USD": 30})));
    // While it catches up, the market goes on.
    both(&mut line, 10);
    let mut symbols: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for trade in client.receive_many(&["t", "gap"], 80) {
        symbols.entry(trade.symbol().to_owned()).or_default().push(trade);
    }
    assert_contiguous(&symbols["BTC/USD"], 11);
    assert_contiguous(&symbols["ETH/USD"], 31);
    assert_eq!((symbols["BTC/USD"].len(), symbols["ETH/USD"].len()), (20, 60), "nothing twice, nothing missing");
    both(&mut line, 1);
    let last = client.receive_many(&["t", "gap"], 4);
    assert_eq!(last[3].number("seq"), 31);
}

#[test]
fn a_session_may_resume_again_and_again_while_data_flows() {
    let venue = Venue::bind();
    let (gateway, mut line) = started(&venue, &[]);
    let mut epoch = json!(0);
    let mut last = 0;
    for round in 0..20 {
        let mut client = gateway.premium();
        let position = json!({"BTC/USD": last});
        if round == 0 {
            epoch = client.subscribe(r#"{"action":"subscribe","trades":["BTC/USD"]}"#)["epoch"].clone();
        }
        // Some are in the log, some come while the request is answered, some later.
        line.trades("BTC-USD", 30);
        if round > 0 {
            client.send(&since(&epoch, json!(["BTC/USD"]), position));
        }
        line.trades("BTC-USD", 30);
        // It leaves in the middle, with more on its way.
        let trades = client.receive_many(&["t", "gap"], 45);
        assert_contiguous(&trades, last + 1);
        last = trades[44].number("seq");
    }
}

#[test]
fn what_is_no_longer_retained_is_told_with_its_exact_numbers() {
    let venue = Venue::bind();
    let (gateway, mut line) =
        started(&venue, &[("fanout.retain_bytes", "1MiB"), ("fanout.segment_bytes_max", "64KiB")]);
    let mut client = gateway.premium();
    let epoch = client.subscribe(r#"{"action":"subscribe","trades":["BTC/USD"]}"#)["epoch"].clone();
    for hundred in 0..200 {
        line.trades("BTC-USD", 100);
        assert_contiguous(&client.receive_many(&["t", "gap"], 100), hundred * 100 + 1);
    }
    client.close();
    for (trades, position) in [(json!(["BTC/USD"]), 100), (json!(["*"]), 7)] {
        let mut client = gateway.premium();
        client.subscribe(&since(&epoch, trades, json!({"BTC/USD": position})));
        let gap = client.receive_of(&["gap", "t"]);
        let told = [&gap["T"], &gap["channel"], &gap["S"], &gap["reason"], &gap["from"]];
        let expected = [json!("gap"), json!("trades"), json!("BTC/USD"), json!("retention"), json!(position + 1)];
        assert_eq!(told, expected.each_ref());
        let to = gap.number("to");
        assert!(to > 10_000 && to < 20_000, "a MiB holds some thousands: {}", gap.text);
        assert_contiguous(&client.receive_many(&["t", "gap"], (20_000 - to) as usize), to + 1);
    }
    // What is retained still comes without a gap.
    let mut client = gateway.premium();
    client.subscribe(&since(&epoch, json!(["BTC/USD"]), json!({"BTC/USD": 19_990})));
    assert_contiguous(&client.receive_many(&["t", "gap"], 10), 19_991);
    assert!(gateway.metric("gateway_retained_bytes ") <= f64::from(1 << 20));
}

#[test]
fn positions_of_another_epoch_are_told_to_mean_nothing() {
    let venue = Venue::bind();
    let (gateway, mut line) = started(&venue, &[]);
    line.trades("BTC-USD", 5);
    numbered(&gateway, 5);
    let mut client = gateway.premium();
    client.subscribe(&since(&json!(12_345), json!(["BTC/USD", "ETH/USD"]), json!({"BTC/USD": 2, "ETH/USD": 90})));
    let mut gaps = client.receive_many(&["gap", "t"], 2);
    gaps.sort_by_key(|gap| gap["S"].to_string());
    assert_eq!(gaps[0].text, r#"{"T":"gap","channel":"trades","S":"BTC/USD","from":3,"reason":"epoch"}"#);
    assert_eq!(gaps[1].text, r#"{"T":"gap","channel":"trades","S":"ETH/USD","from":91,"reason":"epoch"}"#);
    line.trades("BTC-USD", 2);
    assert_contiguous(&client.receive_many(&["t", "gap"], 2), 6);
}

#[test]
fn delayed_users_resume_too() {
    let venue = Venue::bind();
    let (gateway, mut line) = started(&venue, &[("sequencer.delay", "200ms")]);
    let mut client = gateway.free();
    let epoch = client.subscribe(r#"{"action":"subscribe","trades":["BTC/USD"]}"#)["epoch"].clone();
    line.trades("BTC-USD", 10);
    assert_contiguous(&client.receive_many(&["t"], 10), 1);
    client.close();
    line.trades("BTC-USD", 10);
    gateway.await_metric("gateway_delay_line_bytes ", |held| held > 0.0);
    let mut client = gateway.free();
    client.subscribe(&since(&epoch, json!(["BTC/USD"]), json!({"BTC/USD": 10})));
    line.trades("BTC-USD", 10);
    let trades = client.receive_many(&["t", "gap"], 20);
    assert_contiguous(&trades, 11);
    assert!(trades.iter().all(|t| t.at_ns - t["rx"].as_i64().unwrap() >= 200_000_000));
}

#[test]
fn what_the_venue_left_out_stands_in_its_place_when_resumed() {
    let venue = Venue::bind();
    let (gateway, mut line) = started(&venue, &[]);
    line.trades("BTC-USD", 3);
    line.lose_trades("BTC-USD", 7);
    line.trades("BTC-USD", 2);
    numbered(&gateway, 6);
    let mut client = gateway.premium();
    let epoch = client.session["epoch"].clone();
    client.subscribe(&since(&epoch, json!(["BTC/USD"]), json!({"BTC/USD": 0})));
    let messages = client.receive_many(&["t", "gap"], 6);
    assert_contiguous(&messages, 1);
    let gap = &messages[3];
    assert_eq!((&gap["reason"], &gap["missed"], gap.kind()), (&json!("venue"), &json!(7), "gap"));
    assert_eq!(messages[4].number("i"), 11);
}
