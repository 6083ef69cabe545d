//! What the tests of the running gateway share: a gateway in this process or as its own program, a client,
//! and a venue whose every frame the test decides.
//!
//! Every wait ends at [`PATIENCE`] with a message; nothing sleeps in place of a condition. Blocking sockets on
//! the test's own thread, so that what a test does is what happens, in that order.

// Each test file is a program of its own and uses its part of this; nothing outside it can.
#![allow(dead_code, unreachable_pub, unused_imports)]

pub mod client;
pub mod kafka;
pub mod polled;
pub mod program;
pub mod redis;
pub mod tls;
pub mod venue;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use gateway::config::Config;
use gateway::demo::Credential;
use gateway::process::Gateway;

pub use client::{Client, End, Received};
pub use polled::PolledVenue;
pub use venue::{Line, Venue};

/// How long anything may take before a test fails; far beyond what a loaded machine needs.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks at a condition that nothing announces.
const LOOK: Duration = Duration::from_millis(5);

/// What every gateway of the tests starts from: free ports, a quick way out.
const BASE: [(&str, &str); 5] = [
    ("server.listen", "127.0.0.1:0"),
    ("admin.listen", "127.0.0.1:0"),
    ("drain.spread", "0s"),
    ("drain.timeout", "5s"),
    ("log.level", "warn"),
];

/// The environment that sets these keys.
pub fn environment(settings: &[(&str, &str)]) -> Vec<(String, String)> {
    let variable = |(key, value): &(&str, &str)| {
        (format!("GATEWAY_{}", key.to_uppercase().replace('.', "__")), (*value).to_owned())
    };
    BASE.iter().chain(settings).map(variable).collect()
}

/// A gateway in this process. Dropping it drains it.
pub struct Running {
    gateway: Option<Gateway>,
    pub address: SocketAddr,
    /// Where clients connect over TLS, where they can.
    pub tls_address: Option<SocketAddr>,
    pub admin: SocketAddr,
    /// The demo users': free, premium, enterprise. Empty with a users file.
    pub users: Vec<Credential>,
}

/// Starts a gateway with these keys set; later ones replace earlier ones.
#[track_caller]
pub fn start(settings: &[(&str, &str)]) -> Running {
    start_from(None, settings)
}

/// The same, for what only a file can say.
#[track_caller]
pub fn start_from(file: Option<&Path>, settings: &[(&str, &str)]) -> Running {
    let config = Config::load(file, environment(settings), None).unwrap();
    let gateway = Gateway::start(&config, None).unwrap();
    let users = gateway.entrance().credentials().unwrap();
    let tls_address = gateway.tls_clients().first().copied();
    Running { address: gateway.clients()[0], tls_address, admin: gateway.admin()[0], users, gateway: Some(gateway) }
}

impl Running {
    fn gateway(&self) -> &Gateway {
        self.gateway.as_ref().unwrap()
    }

    pub fn reload(&self) {
        self.gateway().reload();
    }

    /// The sessions of this gateway, as its store sees them.
    pub fn roster(&self) -> std::sync::Arc<dyn entitlements::Roster> {
        self.gateway().roster()
    }

    /// A token of this gateway for a user.
    pub fn token(&self, user: &str, ttl: Duration) -> String {
        self.gateway().entrance().door.tokens().issue(user, ttl, gateway::door::unix_seconds()).unwrap()
    }

    #[track_caller]
    pub fn free(&self) -> Client {
        Client::signed_in(self.address, &self.users[0])
    }

    #[track_caller]
    pub fn premium(&self) -> Client {
        Client::signed_in(self.address, &self.users[1])
    }

    /// The sum of the samples whose name and labels start with `prefix`.
    #[track_caller]
    pub fn metric(&self, prefix: &str) -> f64 {
        metric(self.admin, prefix)
    }

    /// Waits until a metric is as it should be.
    #[track_caller]
    pub fn await_metric(&self, prefix: &str, is: impl Fn(f64) -> bool) -> f64 {
        let mut value = 0.0;
        wait_until(&format!("{prefix} to be right"), || {
            value = self.metric(prefix);
            is(value)
        });
        value
    }

    /// Proves that the gateway serves: a new client signs in, subscribes and is answered.
    #[track_caller]
    pub fn serves(&self) {
        let mut client = self.premium();
        let answer = client.request(r#"{"action":"subscribe","id":"still there","trades":["*"]}"#);
        assert_eq!((answer.kind(), &answer["id"]), ("subscription", &"still there".into()));
    }

    pub fn drain(mut self) {
        self.gateway.take().unwrap().drain();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(gateway) = self.gateway.take() {
            gateway.drain();
        }
    }
}

/// Looks until a condition holds.
#[track_caller]
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} for {what}");
        std::thread::sleep(LOOK);
    }
}

#[track_caller]
pub fn metric(admin: SocketAddr, prefix: &str) -> f64 {
    let (status, body) = fetch(admin, "/metrics");
    assert_eq!(status, 200);
    let samples = body.lines().filter(|line| line.starts_with(prefix));
    let values: Vec<f64> = samples.map(|line| line.rsplit(' ').next().unwrap().parse().unwrap()).collect();
    assert!(!values.is_empty(), "no metric starts with {prefix}");
    values.iter().sum()
}

/// One GET over a connection of its own: status and body.
#[track_caller]
pub fn fetch(address: SocketAddr, path: &str) -> (u16, String) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    let answer = exchange(address, request.as_bytes());
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    (status.unwrap_or_else(|| panic!("no status: {answer:?}")), body.unwrap())
}

/// Sends bytes over a connection of its own, and returns what comes until the other side ends it.
#[track_caller]
pub fn exchange(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = connect(address);
    stream.write_all(bytes).unwrap();
    rest(&mut stream)
}

pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// What comes until the other side ends the connection, by a reset too.
#[track_caller]
pub fn rest(stream: &mut TcpStream) -> String {
    let (mut text, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => text.extend_from_slice(&buffer[..read]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
            Err(error) => panic!("the connection was not ended: {error}"),
        }
    }
    String::from_utf8(text).unwrap()
}

/// Whether nobody listens at an address.
pub fn is_closed(address: SocketAddr) -> bool {
    TcpStream::connect(address).is_err()
}

/// A directory for the files of one test, removed with it.
pub struct Directory(PathBuf);

impl Directory {
    pub fn new() -> Directory {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("gateway-test-{}-{number}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Directory(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file and returns its path as text.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The folder of recorded captures, where there is one on this machine.
pub fn captures() -> Option<PathBuf> {
    let captures = std::env::var_os("GATEWAY_CAPTURES").map(PathBuf::from);
    if captures.is_none() {
        println!("left out: GATEWAY_CAPTURES names no folder of captures");
    }
    captures
}

/// This machine's clock, Unix ns.
pub fn now_ns() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap().as_nanos() as i64
}
