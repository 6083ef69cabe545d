//! What a client sees of conflated channels and of silence: the latest at once when it subscribes, no more
//! often than it asked for, a heartbeat with the last numbers when nothing else comes, and answers at once
//! though data waits.

mod support;

use std::time::Duration;

use protocol::frame::Opcode;
use serde_json::json;
use support::{Client, Line, Running, Venue, start};

fn started(venue: &Venue, settings: &[(&str, &str)]) -> (Running, Line) {
    let gateway = start(&[&venue.settings(r#"["BTC-USD","ETH-USD","SOL-USD"]"#)[..], settings].concat());
    let line = venue.accept();
    (gateway, line)
}

#[test]
fn the_latest_quote_and_bar_come_at_once() {
    let venue = Venue::bind();
    let (gateway, mut line) = started(&venue, &[("server.shards", "2")]);
    // Somebody else's subscription is not what makes the value known.
    for cents in 0..10 {
        line.quote("BTC-USD", &format!("10.{cents:02}"), "20.00");
        line.quote("ETH-USD", &format!("30.{cents:02}"), "40.00");
    }
    line.trades("BTC-USD", 4);
    gateway.await_metric(r#"gateway_sequencer_messages_total{class="conflated"}"#, |n| n >= 24.0);
    for round in 0..6 {
        let mut client = gateway.premium();
        client.subscribe(r#"{"action":"subscribe","quotes":["BTC/USD"]}"#);
        let quote = client.receive_of(&["q"]);
        let told = ["bp", "bs", "ap", "as"].map(|key| quote.digits(key));
        assert_eq!((told, quote.number("seq")), (["10.09", "1.5", "20.00", "2.25"], 10), "round {round}");
        // Under `*`, and for another channel, too; what it has already is not sent again.
        client.subscribe(r#"{"action":"subscribe","quotes":["ETH/USD"]}"#);
        assert_eq!(client.receive_of(&["q"]).digits("bp"), "30.09");
        client.subscribe(r#"{"action":"subscribe","updatedBars":["*"]}"#);
        let bar = client.receive_of(&["q", "u"]);
        assert_eq!((bar.kind(), bar.symbol(), bar.number("n")), ("u", "BTC/USD", 4));
        let told = ["o", "h", "l", "c"].map(|key| bar.digits(key));
        assert_eq!(told, ["100.01", "100.04", "100.01", "100.04"]);
        let mut client = gateway.premium();
        client.subscribe(r#"{"action":"subscribe","quotes":["*"]}"#);
        let mut quotes = [client.receive_of(&["q"]), client.receive_of(&["q"])].map(|q| q.digits("bp").to_owned());
        quotes.sort();
        assert_eq!(quotes, ["10.09", "30.09"]);
    }
    // Trades are no state: there is no old one.
    let mut client = gateway.premium();
    client.subscribe(r#"{"action":"subscribe","trades":["BTC/USD"]}"#);
    line.trades("BTC-USD", 1);
    assert_eq!(client.receive_of(&["t"]).number("seq"), 5);
}

#[test]
fn no_more_often_than_asked_for_and_the_latest_in_the_end() {
    let venue = Venue::bind();
    let (gateway, mut line) = started(&venue, &[]);
    let mut limited = gateway.premium();
    limited.subscribe(r#"{"action":"subscribe","quotes":["BTC/USD"],"trades":["BTC/USD"],"max_rate":4}"#);
    let mut free = gateway.premium();
    free.subscribe(r#"{"action":"subscribe","quotes":["BTC/USD"]}"#);
    // A second and more of quotes, each only when the one before has arrived, so that none is replaced on the
    // way to who takes all.
    let start = std::time::Instant::now();
    let mut sent = 0u64;
    while start.elapsed() < Duration::from_millis(1_300) || sent < 50 {
        sent += 1;
        line.quote("BTC-USD", &format!("{}.{:02}", 1 + sent / 100, sent % 100), "90000.00");
        line.trades("BTC-USD", 1);
        assert_eq!(free.receive_of(&["q"]).number("seq"), sent);
    }
    let last_ns = support::now_ns();
    let (mut quotes, mut trades) = (Vec::new(), 0);
    while quotes.last().is_none_or(|q: &support::Received| q.number("seq") < sent) || trades < sent {
        let message = limited.receive_of(&["q", "t", "gap"]);
        if message.kind() == "q" {
            quotes.push(message);
        } else {
            trades += 1;
            assert_eq!(message.number("seq"), trades, "trades are not thinned out");
        }
    }
    // So many intervals of 250 ms fit between the first and the last; a late thread makes it fewer.
    let elapsed_ms = (last_ns - quotes[0]["rx"].as_i64().unwrap()) / 1_000_000;
    let most = 2 + elapsed_ms / 250;
    assert!(quotes.len() as i64 <= most, "{} quotes in {elapsed_ms} ms", quotes.len());
    assert!(quotes.windows(2).all(|pair| pair[0].number("seq") < pair[1].number("seq")));
    // Lifted, each comes again.
    let answer = limited.subscribe(r#"{"action":"subscribe","quotes":["BTC/USD"]}"#);
    assert_eq!(answer["unchanged"], json!({"quotes": ["BTC/USD"]}));
    for next in sent + 1..sent + 30 {
        line.quote("BTC-USD", &format!("{}.{:02}", 1 + next / 100, next % 100), "90000.00");
        assert_eq!(limited.receive_of(&["q"]).number("seq"), next);
    }
}

#[test]
fn silence_brings_a_heartbeat_with_the_last_numbers() {
    let venue = Venue::bind();
    let (gateway, mut line) = started(&venue, &[("session.heartbeat", "300ms")]);
    let mut client = gateway.premium();
    client.subscribe(r#"{"action":"subscribe","trades":["BTC/USD","ETH/USD"],"quotes":["*"],"bars":["BTC/USD"]}"#);
    let heartbeat = client.receive_of(&["heartbeat"]);
    assert!(heartbeat["t"].is_string() && heartbeat["seq"].as_object().unwrap().is_empty(), "{}", heartbeat.text);
    line.trades("BTC-USD", 3);
    line.quote("BTC-USD", "1.00", "2.00");
    client.receive_many(&["t"], 3);
    assert_eq!(client.receive_of(&["heartbeat"])["seq"], json!({"trades": {"BTC/USD": 3}}));
    line.trades("ETH-USD", 2);
    client.receive_many(&["t"], 2);
    assert_eq!(client.receive_of(&["heartbeat"])["seq"], json!({"trades": {"BTC/USD": 3, "ETH/USD": 2}}));
    // Under `*` as well, and silence goes on being told.
    let mut all = gateway.premium();
    all.subscribe(r#"{"action":"subscribe","trades":["*"]}"#);
    for _ in 0..3 {
        assert_eq!(all.receive_of(&["heartbeat"])["seq"], json!({"trades": {"BTC/USD": 3, "ETH/USD": 2}}));
    }
    // Who is not subscribed to anything hears it, too.
    assert_eq!(gateway.premium().receive().kind(), "heartbeat");
}

#[test]
fn answers_pass_data_that_waits() {
    let venue = Venue::bind();
    let (gateway, mut line) = started(&venue, &[("server.shards", "1")]);
    let mut client = Client::with_small_buffer(gateway.address, &gateway.users[1]);
    client.subscribe(r#"{"action":"subscribe","trades":["BTC/USD"]}"#);
    line.trades("BTC-USD", 25_000);
    gateway.await_metric(r#"gateway_sequencer_messages_total{class="sequenced"}"#, |n| n >= 25_000.0);
    gateway.await_metric("gateway_outbox_behind ", |behind| behind == 1.0);
    client.send_frame(Opcode::Ping, b"are you there");
    client.send(r#"{"action":"subscribe","id":"amid","quotes":["BTC/USD"]}"#);
    gateway.await_metric(r#"gateway_commands_total{action="subscribe"}"#, |n| n == 2.0);
    // The answer comes long before the data that waited, and between whole messages, which are all there.
    let mut seqs = 0;
    let mut answered_after = None;
    while seqs < 25_000 {
        let message = client.receive_of(&["t", "gap", "subscription"]);
        if message.kind() == "subscription" {
            assert_eq!(message["id"], "amid");
            answered_after = Some(seqs);
        } else {
            seqs += 1;
            assert_eq!(message.number("seq"), seqs);
        }
    }
    let answered_after = answered_after.unwrap();
    // Only what the sockets' buffers held already is in front of it.
    assert!(answered_after < 24_000, "after {answered_after} of 25000");
}

#[test]
fn control_is_answered_while_data_flows() {
    let gateway = start(&[("feed.simulator.rate", "5000")]);
    let mut client = gateway.premium();
    client.subscribe(r#"{"action":"subscribe","trades":["*"],"quotes":["*"]}"#);
    for id in 0..40 {
        client.send_frame(Opcode::Ping, &[id]);
        assert_eq!(client.pong().as_ref(), [id]);
        let answer = client.subscribe(&json!({"action": "unsubscribe", "id": id, "bars": ["BTC/USD"]}).to_string());
        assert_eq!(answer.number("id"), u64::from(id));
    }
    client.receive_of(&["t"]);
}
