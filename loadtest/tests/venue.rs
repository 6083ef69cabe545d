//! The venue feeds the real gateway: what it sends reaches a client, each trade once and in order, with the time that it
//! was due.

mod support;

use std::net::TcpStream;
use std::time::{SystemTime, UNIX_EPOCH};

use loadtest::venue::{Popularity, Venue, VenueSettings, product_names};
use protocol::parse_rfc3339;
use serde_json::Value;
use support::gateway::{self, Gateway};
use support::{PATIENCE, wait_until};
use tungstenite::client::IntoClientRequest;
use tungstenite::{Message, WebSocket};

/// A client that is signed in.
fn connect(gateway: &Gateway) -> WebSocket<TcpStream> {
    let mut request = gateway.address.as_str().into_client_request().unwrap();
    request.headers_mut().insert("X-API-Key", gateway.credentials.parse().unwrap());
    let stream = TcpStream::connect(request.uri().authority().unwrap().as_str()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    tungstenite::client(request, stream).unwrap().0
}

/// The messages of the next frame.
fn next(socket: &mut WebSocket<TcpStream>) -> Vec<Value> {
    loop {
        if let Message::Text(text) = socket.read().unwrap() {
            return serde_json::from_str(&text).unwrap();
        }
    }
}

#[test]
fn a_client_of_the_gateway_gets_what_the_venue_sent() {
    let Some(program) = gateway::program() else { return };
    let venue = Venue::start(VenueSettings {
        listen: "127.0.0.1:0".parse().unwrap(),
        products: product_names(150),
        rate: 0.0,
        trade_share: 1.0,
        popularity: Popularity::RoundRobin,
        ..VenueSettings::default()
    })
    .unwrap();
    let gateway = Gateway::start(&program, &venue.gateway_environment());
    wait_until("the gateway to subscribe", || venue.sent().heartbeats > 0);
    let mut client = connect(&gateway);
    let subscribe = serde_json::json!({"action": "subscribe", "trades": ["*"]});
    client.send(Message::text(subscribe.to_string())).unwrap();
    while next(&mut client)[0]["T"] != "subscription" {}

    venue.set_rate(3_000.0).unwrap();
    wait_until("trades", || venue.sent().matches >= 3_000);
    venue.set_rate(0.0).unwrap();
    let mut seen = std::collections::HashMap::<String, (u64, u64)>::new();
    let (mut received, mut last_event) = (0, 0);
    // The venue may send a few more before it has seen the new rate.
    while received < venue.sent().matches {
        for message in next(&mut client) {
            assert_ne!(message["T"], "gap", "{message}");
            if message["T"] != "t" {
                continue;
            }
            received += 1;
            let (seq, id) = (message["seq"].as_u64().unwrap(), message["i"].as_u64().unwrap());
            let place = seen.entry(message["S"].as_str().unwrap().to_owned()).or_insert((0, id - 1));
            assert_eq!((seq, id), (place.0 + 1, place.1 + 1), "{message}");
            *place = (seq, id);
            let event = parse_rfc3339(message["t"].as_str().unwrap().as_bytes()).unwrap();
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as i64;
            // One schedule for all products: due times only rise, but for the wall clock, which is read anew each second and which
            // the machine may have set back a little meanwhile.
            assert!(
                last_event <= event + 50_000_000 && event <= now + 50_000_000,
                "{message} at {now} after {last_event}"
            );
            last_event = event;
        }
    }
    assert_eq!((received, seen.len()), (venue.sent().matches, 150));
}
