//! The venue over real sockets, read by a WebSocket client that others wrote.

use std::net::TcpStream;
use std::time::{Duration, Instant, SystemTime};

use protocol::parse_rfc3339;
use serde_json::Value;
use tungstenite::{Message, WebSocket};

use super::*;

/// How long anything may take before a test fails; far beyond what a loaded machine needs.
const PATIENCE: Duration = Duration::from_secs(60);

fn settings() -> VenueSettings {
    VenueSettings { listen: SocketAddr::from(([127, 0, 0, 1], 0)), ..VenueSettings::default() }
}

struct Client {
    socket: WebSocket<TcpStream>,
}

impl Client {
    fn connect(venue: &VenueHandle) -> Client {
        let stream = TcpStream::connect(venue.addr()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let (socket, _) = tungstenite::client(venue.url(), stream).unwrap();
        Client { socket }
    }

    /// A client that has subscribed, and read the answer and the states that follow it.
    fn subscribed(venue: &VenueHandle, products: &[&str], channels: &[&str]) -> Client {
        let mut client = Client::connect(venue);
        let request = serde_json::json!({"type": "subscribe", "product_ids": products, "channels": channels});
        client.socket.send(Message::text(request.to_string())).unwrap();
        assert_eq!(client.next()["type"], "subscriptions");
        client
    }

    fn next(&mut self) -> Value {
        serde_json::from_str(&self.socket.read().unwrap().into_text().unwrap()).unwrap()
    }

    /// The next frame of that type; others are passed over.
    fn next_of(&mut self, kind: &str) -> Value {
        std::iter::repeat_with(|| self.next()).find(|frame| frame["type"] == kind).unwrap()
    }
}

fn time(frame: &Value) -> i64 {
    parse_rfc3339(frame["time"].as_str().unwrap().as_bytes()).unwrap()
}

fn unix_ns() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as i64
}

#[track_caller]
fn wait_until(what: &str, mut is: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < until, "waited for {what}");
        thread::yield_now();
    }
}

/// The frame's time is when it was due: 10 ms after the one before it, whenever it was really sent, and never ahead of
/// the clock.
#[test]
fn frames_come_at_the_rate_and_carry_the_time_they_were_due() {
    let venue = Venue::start(VenueSettings { rate: 100.0, trade_share: 1.0, ..settings() }).unwrap();
    let products = product_names(10);
    let products: Vec<&str> = products.iter().map(String::as_str).collect();
    let mut client = Client::subscribed(&venue, &products, &["matches"]);
    let mut last = time(&client.next_of("match"));
    for _ in 0..50 {
        let frame = client.next_of("match");
        // Cut to microseconds each, and the wall clock is read anew every second.
        assert!((time(&frame) - last - 10_000_000).abs() <= 200_000, "{} after {last}", time(&frame));
        last = time(&frame);
        assert!(last <= unix_ns());
    }
    assert!(venue.lag().count() >= 50);
}

#[test]
fn a_line_gets_what_it_subscribed_to_and_nothing_else() {
    let venue = Venue::start(VenueSettings { rate: 1_000.0, ..settings() }).unwrap();
    let mut client = Client::subscribed(&venue, &["ETH-USD"], &["heartbeat", "matches"]);
    let state = client.next();
    assert_eq!((&state["type"], &state["product_id"]), (&"last_match".into(), &"ETH-USD".into()));
    let mut id = state["trade_id"].as_u64().unwrap();
    let mut beats = 0;
    while beats < 2 {
        let frame = client.next();
        assert_eq!(frame["product_id"], "ETH-USD", "{frame}");
        match frame["type"].as_str().unwrap() {
            "heartbeat" => beats += 1,
            "match" => {
                id += 1;
                assert_eq!(frame["trade_id"], id);
            }
            other => panic!("{other}"),
        }
    }
}

/// What the handle says was sent is what a client that wants everything receives.
#[test]
fn the_counters_are_what_clients_receive() {
    let venue = Venue::start(VenueSettings { rate: 0.0, ..settings() }).unwrap();
    let products = product_names(10);
    let products: Vec<&str> = products.iter().map(String::as_str).collect();
    let mut clients = [0; 2].map(|_| Client::subscribed(&venue, &products, &["heartbeat", "ticker", "matches"]));
    for client in &mut clients {
        for _ in 0..20 {
            assert!(matches!(client.next()["type"].as_str(), Some("last_match" | "ticker" | "heartbeat")));
        }
    }
    venue.set_rate(50_000.0).unwrap();
    wait_until("frames", || venue.lag().count() >= 20_000);
    venue.set_rate(0.0).unwrap();
    // The rate is 0 once two heartbeats went by without another frame.
    let quiet = |venue: &VenueHandle| {
        let sent = venue.sent();
        wait_until("heartbeats", || venue.sent().heartbeats >= sent.heartbeats + 4);
        (venue.sent().matches, venue.sent().tickers) == (sent.matches, sent.tickers)
    };
    wait_until("the venue to be quiet", || quiet(&venue));
    let sent = venue.sent();
    let expected = sent.matches + sent.tickers;
    assert_eq!(expected, 2 * venue.lag().count());
    assert!(sent.made * 2 >= expected && sent.matches > 0 && sent.tickers > 0);
    for client in &mut clients {
        for _ in 0..expected / 2 {
            std::iter::repeat_with(|| client.next()).find(|frame| frame["type"] != "heartbeat").unwrap();
        }
        assert_eq!(client.next()["type"], "heartbeat", "nothing is left but these");
    }
}

/// A client that comes back learns from the trade ids what it missed: the market went on.
#[test]
fn the_market_goes_on_while_nobody_is_connected() {
    let one = VenueSettings { rate: 1_000.0, trade_share: 1.0, products: vec!["BTC/USD".into()], ..settings() };
    let venue = Venue::start(one).unwrap();
    let mut client = Client::subscribed(&venue, &["BTC-USD"], &["matches"]);
    let last = client.next_of("match")["trade_id"].as_u64().unwrap();
    drop(client);
    wait_until("the line to end", || venue.sent().lines_open == 0);
    let made = venue.sent().made;
    wait_until("trades", || venue.sent().made >= made + 100);
    let mut client = Client::subscribed(&venue, &["BTC-USD"], &["matches"]);
    let state = client.next();
    assert_eq!(state["type"], "last_match");
    let known = state["trade_id"].as_u64().unwrap();
    assert!(known >= last + 90, "{known} after {last}");
    assert_eq!(client.next_of("match")["trade_id"], known + 1);
    assert_eq!(venue.sent().lines, 2);
}

#[test]
fn rate_and_share_can_be_changed_while_it_runs() {
    let venue = Venue::start(VenueSettings { rate: 0.0, trade_share: 0.0, ..settings() }).unwrap();
    let mut client = Client::subscribed(&venue, &["BTC-USD"], &["matches", "ticker", "heartbeat"]);
    client.next_of("heartbeat");
    assert_eq!(venue.lag().count(), 0);
    venue.set_rate(2_000.0).unwrap();
    client.next_of("ticker");
    venue.set_trade_share(1.0).unwrap();
    client.next_of("match");
    assert!(venue.take_lag().count() > 0);
    for rate in [-1.0, f64::NAN, f64::INFINITY] {
        assert!(venue.set_rate(rate).is_err());
    }
    assert!(venue.set_trade_share(1.1).is_err());
}

#[test]
fn a_venue_that_is_closed_says_so() {
    let venue = Venue::start(settings()).unwrap();
    let mut client = Client::subscribed(&venue, &["BTC-USD"], &["heartbeat"]);
    drop(venue);
    let close = loop {
        match client.socket.read() {
            Ok(Message::Close(close)) => break close,
            Ok(_) => {}
            Err(error) => panic!("no close: {error}"),
        }
    };
    assert_eq!(u16::from(close.unwrap().code), 1001);
}

#[track_caller]
fn check_refused(change: impl FnOnce(&mut VenueSettings), message: &str) {
    let mut settings = settings();
    change(&mut settings);
    let refused = Venue::start(settings).expect_err(message).to_string();
    assert!(refused.starts_with(message) && !refused.contains('\n'), "{refused}");
}

#[test]
fn settings_out_of_range_are_refused() {
    check_refused(|s| s.products.clear(), "products: 1 to 2000 are needed, not 0");
    check_refused(|s| s.products = product_names(2_001), "products: 1 to 2000 are needed, not 2001");
    for product in ["", "BTC", "btc-usd", "BTC-", "A-B-C", "A.B-USD"] {
        check_refused(|s| s.products.push(product.into()), &format!("products: `{product}` is no pair"));
    }
    check_refused(|s| s.products.push("BTC/USD".into()), "products: `BTC-USD` stands there twice");
    check_refused(|s| s.rate = -1.0, "rate: -1 ");
    check_refused(|s| s.rate = f64::NAN, "rate: NaN ");
    check_refused(|s| s.trade_share = 1.5, "trade_share: 1.5 ");
    check_refused(|s| s.popularity = Popularity::Zipf(11.0), "popularity: the exponent 11 ");
    let taken = Venue::start(settings()).unwrap();
    check_refused(|s| s.listen = taken.addr(), "listen: 127.0.0.1:");
}

#[test]
fn products_are_named_as_in_the_gateways_simulator() {
    assert_eq!(product_names(12)[9..], ["ETH-BTC", "SIM11-USD", "SIM12-USD"]);
    let venue = Venue::start(VenueSettings { products: product_names(2), ..settings() }).unwrap();
    assert_eq!(venue.gateway_environment()[2].1, r#"["BTC-USD","ETH-USD"]"#);
}
