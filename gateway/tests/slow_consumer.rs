//! A client that stops reading stops nobody else and costs no more memory the slower it is. When it reads
//! again, sequenced channels go on complete or with an explicit gap, and conflated ones with the newest.

mod support;

use serde_json::json;
use support::client::assert_contiguous;
use support::{Client, End, Line, Received, Running, Venue, start};

const BOTH: &str = r#"{"action":"subscribe","trades":["BTC/USD"],"quotes":["ETH/USD"]}"#;
/// More than any socket's buffers hold: 5 MB of trades.
const TRADES: u64 = 25_000;
const SEGMENT_BYTES: f64 = 65_536.0;

fn started(venue: &Venue, settings: &[(&str, &str)]) -> (Running, Line) {
    let base = venue.settings(r#"["BTC-USD","ETH-USD"]"#);
    let gateway =
        start(&[&base[..], &[("server.shards", "1"), ("fanout.segment_bytes_max", "64KiB")], settings].concat());
    let line = venue.accept();
    (gateway, line)
}

/// Sends `TRADES` trades, with a quote after every hundred, while `reader` reads and the others do not.
fn rush(line: &mut Line, reader: &mut Client) {
    let from = 1;
    for hundred in 0..TRADES / 100 {
        line.trades("BTC-USD", 100);
        let cents = hundred % 100;
        line.quote("ETH-USD", &format!("{}.{cents:02}", 10 + hundred / 100), "900.00");
        let trades = reader.receive_many(&["t", "gap"], 100);
        assert_contiguous(&trades, from + hundred * 100);
    }
}

/// The price of the last quote of [`rush`].
const LAST_QUOTE: &str = "12.49";

/// Reads up to the trade with that number and the quote with that price.
fn read_up_to(client: &mut Client, seq: u64, bid: &str) -> (Vec<Received>, Vec<Received>) {
    let (mut trades, mut quotes) = (Vec::<Received>::new(), Vec::<Received>::new());
    while trades.last().is_none_or(|t| t.kind() != "t" || t.number("seq") < seq)
        || quotes.last().is_none_or(|q| q.digits("bp") != bid)
    {
        let message = client.receive_of(&["t", "gap", "q"]);
        if message.kind() == "q" { &mut quotes } else { &mut trades }.push(message);
    }
    (trades, quotes)
}

fn assert_rising(quotes: &[Received]) {
    for (before, after) in quotes.iter().zip(&quotes[1..]) {
        assert!(before.number("seq") < after.number("seq"), "{}", after.text);
    }
}

#[test]
fn a_stalled_client_continues_complete_and_with_the_newest() {
    let venue = Venue::bind();
    let (gateway, mut line) = started(&venue, &[("fanout.retain_bytes", "64MiB")]);
    let mut stalled: Vec<Client> =
        (0..3).map(|_| Client::with_small_buffer(gateway.address, &gateway.users[1])).collect();
    stalled.iter_mut().for_each(|client| drop(client.subscribe(BOTH)));
    let mut reader = gateway.premium();
    reader.subscribe(BOTH);
    rush(&mut line, &mut reader);
    assert_eq!(gateway.metric("gateway_outbox_behind "), 3.0);
    assert!(gateway.metric("gateway_retained_bytes ") <= 64.0 * 1024.0 * 1024.0);
    for client in &mut stalled {
        client.enlarge_buffer();
        let (trades, quotes) = read_up_to(client, TRADES, LAST_QUOTE);
        assert_contiguous(&trades, 1);
        assert_eq!(trades.len() as u64, TRADES);
        assert_rising(&quotes);
        assert!(quotes.len() < 250, "{} quotes: those in between were replaced", quotes.len());
    }
    // They are abreast of the others again.
    gateway.await_metric("gateway_outbox_behind ", |behind| behind == 0.0);
    line.trades("BTC-USD", 1);
    for client in stalled.iter_mut().chain([&mut reader]) {
        assert_eq!(client.receive_of(&["t", "gap"]).number("seq"), TRADES + 1);
    }
}

#[test]
fn a_client_that_fell_behind_what_is_retained_is_told_the_gap() {
    let venue = Venue::bind();
    let (gateway, mut line) = started(&venue, &[("fanout.retain_bytes", "1MiB")]);
    let mut stalled = Client::with_small_buffer(gateway.address, &gateway.users[1]);
    stalled.subscribe(BOTH);
    let mut reader = gateway.premium();
    reader.subscribe(BOTH);
    rush(&mut line, &mut reader);
    // The bound holds however far it is behind.
    let retained = gateway.metric("gateway_retained_bytes ");
    assert!(retained <= 1024.0 * 1024.0 + SEGMENT_BYTES, "{retained} bytes retained");
    let (trades, quotes) = read_up_to(&mut stalled, TRADES, LAST_QUOTE);
    let mut expected = 1;
    let mut gaps = 0;
    for message in &trades {
        if message.kind() == "gap" {
            let told = [&message["channel"], &message["S"], &message["reason"], &message["from"]];
            let right = [json!("trades"), json!("BTC/USD"), json!("retention"), json!(expected)];
            assert_eq!(told, right.each_ref());
            expected = message.number("to") + 1;
            gaps += 1;
        } else {
            assert_eq!(message.number("seq"), expected, "{}", message.text);
            expected += 1;
        }
    }
    assert_eq!((expected, gaps > 0), (TRADES + 1, true), "all is there or told");
    assert_rising(&quotes);
    assert!(gateway.metric("gateway_gaps_announced_total") >= 1.0);
}

#[test]
fn where_so_configured_it_is_disconnected_and_may_resume() {
    let venue = Venue::bind();
    let (gateway, mut line) =
        started(&venue, &[("fanout.retain_bytes", "1MiB"), ("session.slow_consumer", "disconnect")]);
    let mut stalled = Client::with_small_buffer(gateway.address, &gateway.users[1]);
    stalled.subscribe(BOTH);
    let epoch = stalled.session["epoch"].clone();
    let mut reader = gateway.premium();
    reader.subscribe(BOTH);
    rush(&mut line, &mut reader);
    gateway.await_metric("gateway_slow_consumer_disconnects_total", |gone| gone == 1.0);
    let (messages, end) = stalled.drain();
    // Whatever it got is in order; what ends it may not get through to a client that does not read.
    let trades: Vec<Received> = messages.iter().filter(|m| m.kind() == "t").cloned().collect();
    assert_contiguous(&trades, 1);
    assert!(end == End::Lost || end == End::Closed(3000, "slow client".into()), "{end:?}");
    let errors: Vec<u64> = messages.iter().filter(|m| m.kind() == "error").map(|m| m.number("code")).collect();
    assert!(end == End::Lost || errors == [407], "{errors:?}");
    gateway.await_metric("gateway_connections ", |live| live == 1.0);
    let last = trades.last().unwrap().number("seq");
    let mut again = gateway.premium();
    let request =
        json!({"action": "subscribe", "trades": ["BTC/USD"], "since": {"epoch": epoch, "trades": {"BTC/USD": last}}});
    again.subscribe(&request.to_string());
    let gap = again.receive_of(&["gap", "t"]);
    assert_eq!((gap.kind(), &gap["from"]), ("gap", &json!(last + 1)), "{}", gap.text);
    assert_eq!(again.receive_of(&["gap", "t"]).number("seq"), gap.number("to") + 1);
}

#[test]
fn a_client_that_takes_no_byte_is_let_go() {
    let venue = Venue::bind();
    let (gateway, mut line) = started(&venue, &[("session.stall_timeout", "1s"), ("session.heartbeat", "500ms")]);
    let mut stalled = Client::with_small_buffer(gateway.address, &gateway.users[1]);
    stalled.subscribe(BOTH);
    let mut reader = gateway.premium();
    reader.subscribe(BOTH);
    rush(&mut line, &mut reader);
    gateway.await_metric(r#"gateway_connections_closed_total{reason="stalled"}"#, |closed| closed == 1.0);
    gateway.await_metric("gateway_connections ", |live| live == 1.0);
    line.trades("BTC-USD", 1);
    assert_eq!(reader.receive_of(&["t", "gap"]).number("seq"), TRADES + 1);
}
