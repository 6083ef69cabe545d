//! What the door asks before a WebSocket comes of a request, in which order, and whom it holds to account when proxies stand in
//! front of it.

mod support;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use entitlements::ApiKey;
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use support::tls::Certificate;
use support::{Client, Directory, End, PATIENCE, Running, exchange, rest, start};

/// What makes a request an upgrade.
const UPGRADE: &str = "Host: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                       Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// Where nobody is blocked, where all are, and from where proxies come.
const STRANGER: [u8; 4] = [127, 0, 0, 2];
const BLOCKED: [u8; 4] = [127, 0, 0, 3];
const PROXY: [u8; 4] = [127, 0, 0, 4];

/// A gateway with one user of the tier `free`, and blocked addresses: 127.0.0.3 and 203.0.113.0/24.
struct Guarded {
    gateway: Running,
    key: ApiKey,
    _files: Directory,
}

fn guarded(settings: &[(&str, &str)]) -> Guarded {
    let files = Directory::new();
    let key = ApiKey::generate(None).unwrap();
    let users = format!(
        "[[users]]\nid = \"alice\"\ntier = \"free\"\nstatus = \"active\"\ncategories = [\"crypto\"]\n{}\n\
         [[blocked]]\naddress = \"127.0.0.3\"\nreason = \"scraper\"\n\
         [[blocked]]\naddress = \"203.0.113.0/24\"\nreason = \"abuse\"\n",
        key.to_toml()
    );
    let path = files.write("users.toml", users);
    let settings: Vec<(&str, &str)> = [("entitlements.users", path.as_str())].iter().chain(settings).copied().collect();
    Guarded { gateway: start(&settings), key, _files: files }
}

impl Guarded {
    /// The header with the user's key.
    fn token(&self) -> String {
        format!("Authorization: Bearer {}.{}\r\n", self.key.id(), self.key.secret())
    }

    fn ask(&self, from: [u8; 4], headers: &str) -> Answer {
        Answer::to(connect_from(from, self.gateway.address), &request(headers))
    }

    fn refused(&self, reason: &str, times: f64) {
        let name = format!(r#"gateway_handshakes_refused_total{{reason="{reason}"}}"#);
        self.gateway.await_metric(&name, |refused| refused == times);
    }
}

fn request(headers: &str) -> Vec<u8> {
    format!("GET /stream HTTP/1.1\r\n{UPGRADE}{headers}\r\n").into_bytes()
}

fn connect_from(source: [u8; 4], address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::from(source), 0)).into()).unwrap();
    socket.connect(&address.into()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.into()
}

/// The head of an answer, and what came of its body where it is a refusal.
struct Answer {
    status: u16,
    /// In lower case.
    head: String,
    error: String,
    message: String,
    /// Keeps a connection that was upgraded.
    _stream: TcpStream,
}

impl Answer {
    #[track_caller]
    fn to(mut stream: TcpStream, request: &[u8]) -> Answer {
        // One that is refused at once may be closed before it has asked.
        let _ = stream.write_all(request);
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            assert_eq!(stream.read(&mut byte).unwrap(), 1, "{}", String::from_utf8_lossy(&head));
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        let status: u16 = head.split(' ').nth(1).unwrap().parse().unwrap();
        let body: Value = if status == 101 { Value::Null } else { rest(&mut stream).parse().unwrap() };
        let text = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
        let (error, message) = (text("error"), text("message"));
        Answer { status, head: head.to_lowercase(), error, message, _stream: stream }
    }

    #[track_caller]
    fn is(&self, status: u16, error: &str) -> &Answer {
        assert_eq!((self.status, self.error.as_str()), (status, error), "{}", self.head);
        self
    }

    #[track_caller]
    fn has(&self, line: &str) -> &Answer {
        assert!(self.head.contains(&format!("\r\n{line}\r\n")), "no {line} in {}", self.head);
        self
    }

    #[track_caller]
    fn number(&self, name: &str) -> u64 {
        let mark = format!("\r\n{name}: ");
        let from = self.head.find(&mark).unwrap_or_else(|| panic!("no {name} in {}", self.head)) + mark.len();
        self.head[from..].lines().next().unwrap().parse().unwrap()
    }
}

#[test]
fn the_first_objection_in_order_is_the_answer() {
    let guarded = guarded(&[
        ("entitlements.tiers", "{ free = { requests_per_minute = 1 } }"),
        ("server.trusted_proxies", r#"["127.0.0.4"]"#),
        ("server.origins", r#"["https://app.example.com"]"#),
    ]);
    let wrong = [
        ("X-Forwarded-For: 203.0.113.9\r\n", 403, "IP_BLOCKED"),
        ("User-Agent: sqlmap/1.7\r\n", 403, "SUSPICIOUS_CLIENT"),
        ("Origin: https://evil.example.com\r\n", 403, "ORIGIN_REFUSED"),
        ("Authorization: Bearer nonsense\r\n", 401, "INVALID_TOKEN"),
    ];
    for first in 0..wrong.len() {
        let headers: String = wrong[first..].iter().map(|(header, ..)| *header).collect();
        let (_, status, error) = wrong[first];
        // A body that is too large is the least of it.
        guarded.ask(PROXY, &format!("{headers}Content-Length: 99999999\r\n")).is(status, error);
    }
    // The limit of requests comes before that of the body, which is one of the requests.
    let large = format!("{}Content-Length: 99999999\r\n", guarded.token());
    guarded.ask(PROXY, &large).is(413, "PAYLOAD_TOO_LARGE");
    guarded.ask(PROXY, &large).is(429, "RATE_LIMIT_EXCEEDED");
    for reason in ["blocked", "suspicious", "origin", "unauthorized", "too_large", "rate_limit"] {
        guarded.refused(reason, 1.0);
    }
}

#[test]
fn a_user_has_so_many_upgrades_a_minute() {
    let guarded = guarded(&[]);
    let token = guarded.token();
    for _ in 0..100 {
        guarded.ask(STRANGER, &token).is(101, "");
    }
    let before = gateway::door::unix_seconds() as u64;
    let refused = guarded.ask(STRANGER, &token);
    refused.is(429, "RATE_LIMIT_EXCEEDED").has("x-ratelimit-limit: 100").has("x-ratelimit-remaining: 0");
    // A place comes back a second late at most.
    let (wait, reset) = (refused.number("retry-after"), refused.number("x-ratelimit-reset"));
    assert!((1..=61).contains(&wait), "{}", refused.head);
    assert!((before + wait..before + 3_600 + 120).contains(&reset), "{before}: {}", refused.head);
    // It is the user's limit, not the address's.
    guarded.ask(STRANGER, "").is(101, "");
    guarded.ask(BLOCKED, "").is(403, "IP_BLOCKED");
}

#[test]
fn who_signs_in_after_the_upgrade_is_counted_then() {
    let guarded = guarded(&[("entitlements.tiers", "{ free = { requests_per_minute = 2 } }")]);
    let (id, secret) = (guarded.key.id(), guarded.key.secret());
    guarded.ask(STRANGER, &guarded.token()).is(101, "");
    // Of nobody who does not sign in is anything counted.
    drop(Client::open(guarded.gateway.address));
    Client::open(guarded.gateway.address).authenticate(id, secret);
    let mut client = Client::open(guarded.gateway.address);
    let answer = client.request(&json!({"action": "auth", "key": id, "secret": secret}).to_string());
    assert_eq!(answer.number("code"), 429);
    assert!(answer["retry_after"].as_f64().unwrap() > 0.0, "{}", answer.text);
    assert_eq!(client.drain().1, End::Closed(3004, "too many sign-in attempts".to_owned()));
    assert_eq!(guarded.gateway.metric(r#"gateway_sign_ins_refused_total{reason="rate_limit"}"#), 1.0);
}

#[test]
fn too_many_attempts_are_told_from_wrong_ones() {
    let guarded = guarded(&[("entitlements.sign_ins.attempts_max", "2")]);
    let wrong = "Authorization: Bearer nonsense\r\n";
    for _ in 0..2 {
        guarded.ask(STRANGER, wrong).is(401, "INVALID_TOKEN");
    }
    let refused = guarded.ask(STRANGER, wrong);
    assert!((1..=305).contains(&refused.is(429, "RATE_LIMIT_EXCEEDED").number("retry-after")));
    guarded.ask([127, 0, 0, 9], wrong).is(401, "INVALID_TOKEN");
}

#[test]
fn a_blocked_address_is_told_nothing_of_why() {
    let certificate = Certificate::new();
    let guarded = guarded(&certificate.settings());
    // Without having asked anything.
    let answer = Answer::to(connect_from(BLOCKED, guarded.gateway.address), b"");
    answer.is(403, "IP_BLOCKED").has("cache-control: no-store");
    assert!(!answer.message.contains("scraper"), "{}", answer.message);
    let mut stream = connect_from(BLOCKED, guarded.gateway.tls_address.unwrap());
    assert_eq!(rest(&mut stream), "");
    guarded.refused("blocked", 2.0);
    guarded.ask(STRANGER, "").is(101, "");
}

#[test]
fn only_a_trusted_proxy_says_who_the_client_is() {
    let guarded = guarded(&[
        ("server.trusted_proxies", r#"["127.0.0.4"]"#),
        ("server.connections_per_address", "2"),
        ("entitlements.sign_ins.attempts_max", "1"),
    ]);
    let forwarded = |list: &str| format!("X-Forwarded-For: {list}\r\n");
    guarded.ask(PROXY, &forwarded("203.0.113.9")).is(403, "IP_BLOCKED");
    guarded.ask(STRANGER, &forwarded("203.0.113.9")).is(101, "");
    guarded.ask(BLOCKED, &forwarded("198.51.100.1")).is(403, "IP_BLOCKED");
    // What stands before the address that the proxy saw, the client wrote itself.
    guarded.ask(PROXY, &forwarded("198.51.100.1, 203.0.113.9")).is(403, "IP_BLOCKED");
    guarded.ask(PROXY, &forwarded("203.0.113.9, 198.51.100.1")).is(101, "");
    // Connections and attempts are those of the client, not of the proxy.
    let client = forwarded("198.51.100.2");
    let held = [guarded.ask(PROXY, &client), guarded.ask(PROXY, &client)];
    for answer in &held {
        answer.is(101, "");
    }
    guarded.ask(PROXY, &client).is(429, "TOO_MANY_CONNECTIONS").has("retry-after: 1");
    let wrong = |client: &str| format!("{}Authorization: Bearer nonsense\r\n", forwarded(client));
    guarded.ask(PROXY, &wrong("198.51.100.3")).is(401, "INVALID_TOKEN");
    guarded.ask(PROXY, &wrong("198.51.100.3")).is(429, "RATE_LIMIT_EXCEEDED");
    guarded.ask(PROXY, &wrong("198.51.100.4")).is(401, "INVALID_TOKEN");
}

/// A header of the PROXY protocol for a client.
fn proxied(client: [u8; 4]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0f".to_vec();
    header.extend(client);
    // To whom, both ports, and a TLV of nothing.
    header.extend([127, 0, 0, 1, 0x30, 0x39, 0, 80, 0x04, 0, 0]);
    header
}

#[test]
fn the_proxy_protocol_names_the_client() {
    let certificate = Certificate::new();
    let mut settings = vec![("server.trusted_proxies", r#"["127.0.0.4"]"#), ("server.proxy_protocol", "v2")];
    settings.extend(certificate.settings());
    let guarded = guarded(&settings);
    let address = guarded.gateway.address;
    let ask = |client: [u8; 4], headers: &str| {
        Answer::to(connect_from(PROXY, address), &[proxied(client), request(headers)].concat())
    };
    ask([198, 51, 100, 1], "").is(101, "");
    ask([203, 0, 113, 9], "").is(403, "IP_BLOCKED");
    // The client is no proxy, so its own word does not count.
    ask([198, 51, 100, 1], "X-Forwarded-For: 203.0.113.9\r\n").is(101, "");
    ask([203, 0, 113, 9], "X-Forwarded-For: 198.51.100.1\r\n").is(403, "IP_BLOCKED");
    guarded.refused("blocked", 2.0);

    // In pieces, and from the proxy itself, whose word then counts as it does without this protocol.
    let mut stream = connect_from(PROXY, address);
    stream.set_nodelay(true).unwrap();
    for byte in proxied([198, 51, 100, 1]) {
        stream.write_all(&[byte]).unwrap();
    }
    Answer::to(stream, &request("")).is(101, "");
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
    let own = |headers: &str| Answer::to(connect_from(PROXY, address), &[&local[..], &request(headers)].concat());
    own("").is(101, "");
    own("X-Forwarded-For: 203.0.113.9\r\n").is(403, "IP_BLOCKED");
    guarded.refused("blocked", 3.0);

    // It comes before TLS.
    let mut stream = connect_from(PROXY, guarded.gateway.tls_address.unwrap());
    stream.write_all(&proxied([198, 51, 100, 1])).unwrap();
    let mut client = Client::upgrade_on(certificate.trust().shake(stream), "/stream", &[]).unwrap();
    assert_eq!(client.receive()["msg"], "connected");
    let mut stream = connect_from(PROXY, guarded.gateway.tls_address.unwrap());
    stream.write_all(&proxied([203, 0, 113, 9])).unwrap();
    assert_eq!(rest(&mut stream), "");
    guarded.refused("blocked", 4.0);

    // No header, and nobody who may write one.
    let mut stream = connect_from(PROXY, address);
    stream.write_all(&request("")).unwrap();
    assert_eq!(rest(&mut stream), "");
    guarded.refused("proxy_header", 1.0);
    let mut stream = connect_from(STRANGER, address);
    let _ = stream.write_all(&[proxied([198, 51, 100, 1]), request("")].concat());
    assert_eq!(rest(&mut stream), "");
    guarded.refused("no_proxy", 1.0);
}

#[test]
fn pages_of_other_origins_do_not_connect() {
    let guarded = guarded(&[("server.origins", r#"["https://app.example.com", "http://localhost:3000"]"#)]);
    for (headers, status, error) in [
        ("", 101, ""),
        ("Origin: https://app.example.com\r\n", 101, ""),
        ("Origin: http://localhost:3000\r\n", 101, ""),
        ("Origin: http://app.example.com\r\n", 403, "ORIGIN_REFUSED"),
        ("Origin: https://app.example.com.evil.com\r\n", 403, "ORIGIN_REFUSED"),
        ("Origin: null\r\n", 403, "ORIGIN_REFUSED"),
    ] {
        guarded.ask(STRANGER, headers).is(status, error);
    }
}

#[test]
fn every_answer_has_the_headers_that_browsers_mind() {
    let certificate = Certificate::new();
    let guarded = guarded(&certificate.settings());
    let lines = [
        "x-content-type-options: nosniff",
        "cache-control: no-store",
        "content-security-policy: default-src 'none'; frame-ancestors 'none'",
        "referrer-policy: no-referrer",
    ];
    let tls = guarded.gateway.tls_address.unwrap();
    let answers = [
        guarded.ask(STRANGER, ""),
        guarded.ask(STRANGER, "Authorization: Bearer nonsense\r\n"),
        guarded.ask(BLOCKED, ""),
        Answer::to(connect_from(STRANGER, tls), &request("")),
    ];
    for answer in &answers {
        for line in lines {
            answer.has(line);
        }
        assert!(!answer.head.contains("strict-transport-security"), "{}", answer.head);
    }
    let admin = exchange(guarded.gateway.admin, b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").to_lowercase();
    for line in lines {
        assert!(admin.contains(&format!("\r\n{line}\r\n")), "no {line} in {admin}");
    }
    let mut wire = certificate.trust().shake(connect_from(STRANGER, tls));
    wire.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = String::new();
    let _ = wire.read_to_string(&mut answer);
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    assert!(answer.to_lowercase().contains("\r\nstrict-transport-security: max-age=31536000"), "{answer}");
}
