//! The venue feeds the real gateway: what it sends reaches a client, each trade once and in order, with the time that it
//! was due.
//!
//! The gateway's program is looked for in `LOADTEST_GATEWAY`, and where a build of the whole workspace puts it. This crate
//! does not depend on it, so a run of this crate's tests alone may not have it; the test says then that it is left out.

mod support;

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use loadtest::venue::{Popularity, Venue, VenueHandle, VenueSettings, product_names};
use protocol::parse_rfc3339;
use serde_json::Value;
use support::{PATIENCE, wait_until};
use tungstenite::client::IntoClientRequest;
use tungstenite::{Message, WebSocket};

/// The gateway's program, if there is one.
fn gateway() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("LOADTEST_GATEWAY") {
        return Some(named.into());
    }
    // Beside this test's own program: target/debug/deps/venue-*, target/debug/gateway.
    let this = std::env::current_exe().ok()?;
    let beside = this.parent()?.parent()?.join("gateway");
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
    [beside, workspace.join("debug/gateway"), workspace.join("release/gateway")].into_iter().find(|path| path.is_file())
}

/// A gateway that listens to a venue. Dropping it kills it.
struct Gateway {
    child: Child,
    /// Kept open, so that the program may write.
    _stdout: BufReader<ChildStdout>,
    address: String,
    /// KEY.SECRET of the user with all the rights.
    credentials: String,
    home: PathBuf,
}

impl Gateway {
    fn start(program: &Path, venue: &VenueHandle) -> Gateway {
        let home = std::env::temp_dir().join(format!("loadtest-venue-{}", std::process::id()));
        std::fs::create_dir_all(&home).unwrap();
        let mut child = Command::new(program)
            .env_clear()
            .envs(venue.gateway_environment())
            .env("GATEWAY_SERVER__LISTEN", "127.0.0.1:0")
            .env("GATEWAY_ADMIN__LISTEN", "127.0.0.1:0")
            .env("GATEWAY_LOG__LEVEL", "warn")
            .env("HOME", &home)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let (mut address, mut user, mut key) = (String::new(), String::new(), String::new());
        let credentials = loop {
            let mut line = String::new();
            assert!(stdout.read_line(&mut line).unwrap() > 0, "the gateway ended without a greeting");
            match line.split_whitespace().collect::<Vec<_>>()[..] {
                ["clients", url] => address = url.to_owned(),
                [name] if name.starts_with("demo-") => user = name.to_owned(),
                ["key", value] => key = value.to_owned(),
                ["secret", secret] if user == "demo-enterprise" => break format!("{key}.{secret}"),
                _ => {}
            }
        };
        Gateway { child, _stdout: stdout, address, credentials, home }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.home);
    }
}

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
    let Some(program) = gateway() else {
        println!("LEFT OUT: there is no gateway to feed; build the workspace, or name one in LOADTEST_GATEWAY");
        return;
    };
    let venue = Venue::start(VenueSettings {
        listen: "127.0.0.1:0".parse().unwrap(),
        products: product_names(150),
        rate: 0.0,
        trade_share: 1.0,
        popularity: Popularity::RoundRobin,
        ..VenueSettings::default()
    })
    .unwrap();
    let gateway = Gateway::start(&program, &venue);
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
            // One schedule for all products: due times only rise. 1 us is cut off; the wall clock is read anew each second.
            assert!(last_event <= event + 200_000 && event <= now, "{message} at {now} after {last_event}");
            last_event = event;
        }
    }
    assert_eq!((received, seen.len()), (venue.sent().matches, 150));
}
