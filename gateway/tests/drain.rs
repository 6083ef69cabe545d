//! The way out, through the real program: on SIGTERM clients are told, get every trade that was numbered
//! before the end, and are let go with 1001; the port is closed and the exit status is 0.

mod support;

use rustix::process::Signal;
use serde_json::json;
use support::client::assert_contiguous;
use support::{Client, End, Received, Venue, is_closed, metric, program, wait_until};

fn going_away() -> End {
    End::Closed(1001, "going away".into())
}

/// The trades among the messages.
fn trades(messages: &[Received]) -> Vec<Received> {
    messages.iter().filter(|m| matches!(m.kind(), "t" | "gap")).cloned().collect()
}

#[test]
fn what_was_accepted_is_delivered_even_to_who_has_not_read() {
    const TRADES: u64 = 20_000;
    let venue = Venue::bind();
    let settings = [&venue.settings(r#"["BTC-USD"]"#)[..], &[("drain.timeout", "60s")]].concat();
    let mut gateway = program::spawn(&settings, &[]);
    let mut line = venue.accept();
    let mut slow = Client::with_small_buffer(gateway.address, &gateway.users[1]);
    slow.subscribe(r#"{"action":"subscribe","trades":["BTC/USD"]}"#);
    let mut reader = Client::signed_in(gateway.address, &gateway.users[1]);
    reader.subscribe(r#"{"action":"subscribe","trades":["*"]}"#);
    let mut idle = Client::signed_in(gateway.address, &gateway.users[2]);
    line.trades("BTC-USD", TRADES);
    assert_contiguous(&reader.receive_many(&["t", "gap"], TRADES as usize), 1);
    // The slow one has not read.
    wait_until("it to be behind", || metric(gateway.admin, "gateway_outbox_behind ") == 1.0);
    gateway.signal(Signal::TERM);
    for client in [&mut reader, &mut idle] {
        let (messages, end) = client.drain();
        assert_eq!(end, going_away());
        // The source goes first, which they may be told as well.
        let told: Vec<_> = messages.iter().map(Received::kind).filter(|kind| *kind != "feed").collect();
        assert_eq!(told, ["draining"]);
        assert!(messages[0]["reconnect_ms"].is_u64(), "{}", messages[0].text);
    }
    assert_eq!(support::fetch(gateway.admin, "/readyz").0, 503, "not ready for more");
    // Only now does the slow one read: it was waited for.
    let (messages, end) = slow.drain();
    assert_eq!(end, going_away());
    assert_eq!(messages.iter().filter(|m| m.kind() == "draining").count(), 1);
    let trades = trades(&messages);
    assert_contiguous(&trades, 1);
    assert_eq!(trades.len() as u64, TRADES);
    assert_eq!(gateway.end().code(), Some(0));
    assert!(is_closed(gateway.address) && is_closed(gateway.admin));
}

#[test]
fn in_the_middle_of_a_flood_all_clients_end_with_the_same_last_trade() {
    let settings = [
        ("feed.simulator.symbols", r#"["BTC/USD"]"#),
        ("feed.simulator.rate", "5000"),
        ("feed.simulator.trade_share", "1"),
        ("server.shards", "2"),
        ("drain.timeout", "60s"),
        ("drain.spread", "300ms"),
    ];
    let mut gateway = program::spawn(&settings, &[]);
    let mut clients: Vec<Client> = (0..6).map(|_| Client::signed_in(gateway.address, &gateway.users[1])).collect();
    let mut firsts = Vec::new();
    for client in &mut clients {
        client.subscribe(r#"{"action":"subscribe","trades":["BTC/USD"]}"#);
        firsts.push(client.receive_of(&["t"]).number("seq"));
    }
    gateway.signal(Signal::TERM);
    let mut lasts = Vec::new();
    for (client, first) in clients.iter_mut().zip(firsts) {
        let (messages, end) = client.drain();
        assert_eq!(end, going_away());
        let trades = trades(&messages);
        assert_contiguous(&trades, first + 1);
        lasts.push(first + trades.len() as u64);
    }
    assert!(lasts.iter().all(|last| *last == lasts[0]), "{lasts:?}");
    assert_eq!(gateway.end().code(), Some(0));
}

#[test]
fn a_client_that_never_reads_does_not_hold_up_the_end() {
    let venue = Venue::bind();
    let settings = [&venue.settings(r#"["BTC-USD"]"#)[..], &[("drain.timeout", "1s")]].concat();
    let mut gateway = program::spawn(&settings, &[]);
    let mut line = venue.accept();
    let mut stalled = Client::with_small_buffer(gateway.address, &gateway.users[1]);
    stalled.subscribe(r#"{"action":"subscribe","trades":["BTC/USD"]}"#);
    line.trades("BTC-USD", 25_000);
    wait_until("the client to be behind", || metric(gateway.admin, "gateway_outbox_behind ") == 1.0);
    // One that is signing in is no reason to stay either.
    let _half = support::connect(gateway.address);
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.end().code(), Some(0));
    assert!(is_closed(gateway.address));
}

#[test]
fn an_interrupt_ends_it_as_well() {
    let mut gateway = program::spawn(&[], &[]);
    let mut client = Client::signed_in(gateway.address, &gateway.users[0]);
    assert_eq!(client.subscribe(r#"{"action":"subscribe"}"#)["trades"], json!([]));
    gateway.signal(Signal::INT);
    assert_eq!(client.drain().1, going_away());
    assert_eq!(gateway.end().code(), Some(0));
}
