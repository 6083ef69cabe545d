//! `wss://`: everything that a client gets without TLS it gets with it; the certificate changes while sessions go on;
//! whoever does not speak TLS 1.3 is told so.

mod support;

use std::net::SocketAddr;
use std::process::Output;

use rustix::process::Signal;
use rustls::AlertDescription;
use serde_json::json;
use support::client::assert_contiguous;
use support::tls::{Certificate, Pems, Trust};
use support::{
    Client, End, Line, Received, Running, Venue, connect, exchange, is_closed, metric, program, start, wait_until,
};

const TRADES: &str = r#"{"action":"subscribe","trades":["BTC/USD"]}"#;

fn started(venue: &Venue, certificate: &Certificate, settings: &[(&str, &str)]) -> (Running, Line) {
    let gateway = start(&[&venue.settings(r#"["BTC-USD"]"#)[..], &certificate.settings(), settings].concat());
    let line = venue.accept();
    (gateway, line)
}

fn address(gateway: &Running) -> SocketAddr {
    gateway.tls_address.unwrap()
}

/// A client over TLS that has subscribed to the trades.
#[track_caller]
fn subscribed(gateway: &Running, trust: &Trust) -> Client {
    let mut client = Client::over_tls(address(gateway), trust, &gateway.users[1]);
    client.subscribe(TRADES);
    client
}

/// The certificate that a new connection is shown.
#[track_caller]
fn shown(address: SocketAddr, trust: &Trust) -> rustls::pki_types::CertificateDer<'static> {
    trust.shake(connect(address)).certificate()
}

/// Whether a new connection is shown this certificate.
fn is_shown(address: SocketAddr, trust: &Trust) -> bool {
    trust.shake(connect(address)).handshake().is_ok()
}

#[test]
fn a_client_gets_the_same_with_tls_as_without() {
    let (venue, certificate) = (Venue::bind(), Certificate::new());
    let (gateway, mut line) = started(&venue, &certificate, &[]);
    let mut plain = gateway.premium();
    plain.subscribe(TRADES);
    let mut client = subscribed(&gateway, certificate.trust());
    line.trades("BTC-USD", 100);
    let texts = |client: &mut Client| -> Vec<String> {
        client.receive_many(&["t", "gap"], 100).into_iter().map(|trade| trade.text).collect()
    };
    assert_eq!(texts(&mut client), texts(&mut plain));
    gateway.await_metric("gateway_tls_connections ", |live| live == 1.0);
    assert_eq!(gateway.metric(r#"gateway_tls_handshakes_total{kind="full"}"#), 1.0);
    assert_eq!(client.close(), End::Closed(1000, "normal".into()));
    gateway.await_metric("gateway_tls_connections ", |live| live == 0.0);
    gateway.await_metric("gateway_connections ", |live| live == 1.0);
}

#[test]
fn the_handshake_settles_on_tls_1_3_and_http() {
    let (venue, certificate) = (Venue::bind(), Certificate::new());
    let (gateway, _line) = started(&venue, &certificate, &[]);
    let mut wire = certificate.trust().shake(connect(address(&gateway)));
    let connection = wire.handshake().unwrap();
    assert_eq!(connection.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    assert_eq!(connection.alpn_protocol(), Some(&b"http/1.1"[..]));
}

#[test]
fn a_token_in_the_request_signs_in() {
    let (venue, certificate) = (Venue::bind(), Certificate::new());
    let (gateway, _line) = started(&venue, &certificate, &[]);
    let path = format!("/stream?token={}", gateway.users[2].token);
    let mut client =
        Client::upgrade_on(certificate.trust().shake(connect(address(&gateway))), &path, &[]).ok().unwrap();
    assert_eq!(client.receive()["msg"], "connected");
    assert_eq!(client.receive()["tier"], "enterprise");
    // Refusals come through as well.
    let refused = Client::upgrade_on(certificate.trust().shake(connect(address(&gateway))), "/nowhere", &[]).err();
    assert_eq!(refused.unwrap().status, 404);
    let mut wrong =
        Client::upgrade_on(certificate.trust().shake(connect(address(&gateway))), "/stream", &[]).ok().unwrap();
    wrong.send(r#"{"action":"auth","key":"demo-premium","secret":"wrong"}"#);
    let (messages, end) = wrong.drain();
    assert_eq!(messages.iter().map(Received::kind).collect::<Vec<_>>(), ["success", "error"]);
    assert!(matches!(end, End::Closed(3500.., _)), "{end:?}");
}

#[test]
fn every_byte_may_come_alone() {
    let (venue, certificate) = (Venue::bind(), Certificate::new());
    let (gateway, mut line) = started(&venue, &certificate, &[]);
    let wire = certificate.trust().shake_by_bytes(connect(address(&gateway)));
    let mut client = Client::sign_in_on(wire, &gateway.users[1]);
    client.subscribe(TRADES);
    line.trades("BTC-USD", 200);
    assert_contiguous(&client.receive_many(&["t", "gap"], 200), 1);
    client.send_frame(protocol::frame::Opcode::Ping, b"still there?");
    assert_eq!(&client.pong()[..], b"still there?");
}

#[test]
fn a_burst_of_many_records_arrives_whole() {
    const COUNT: u64 = 30_000;
    let (venue, certificate) = (Venue::bind(), Certificate::new());
    let (gateway, mut line) = started(&venue, &certificate, &[("session.unsent_bytes_max", "1MiB")]);
    let mut client = subscribed(&gateway, certificate.trust());
    line.trades("BTC-USD", COUNT);
    assert_contiguous(&client.receive_many(&["t", "gap"], COUNT as usize), 1);
    // All of it again, in one piece out of the retained log.
    let request = json!({"action": "subscribe", "trades": ["BTC/USD"],
        "since": {"epoch": client.session["epoch"], "trades": {"BTC/USD": 0}}});
    let mut again = Client::over_tls(address(&gateway), certificate.trust(), &gateway.users[2]);
    again.subscribe(&request.to_string());
    assert_contiguous(&again.receive_many(&["t", "gap"], COUNT as usize), 1);
}

#[test]
fn a_stalled_client_continues_complete() {
    const COUNT: u64 = 25_000;
    let (venue, certificate) = (Venue::bind(), Certificate::new());
    let (gateway, mut line) = started(&venue, &certificate, &[("server.shards", "1")]);
    let mut stalled: Vec<Client> = (0..3)
        .map(|_| {
            let wire = certificate.trust().shake(Client::small_socket(address(&gateway)));
            let mut client = Client::sign_in_on(wire, &gateway.users[1]);
            client.subscribe(TRADES);
            client
        })
        .collect();
    let mut reader = subscribed(&gateway, certificate.trust());
    line.trades("BTC-USD", COUNT);
    assert_contiguous(&reader.receive_many(&["t", "gap"], COUNT as usize), 1);
    assert_eq!(gateway.metric("gateway_outbox_behind "), 3.0);
    for client in &mut stalled {
        client.enlarge_buffer();
        assert_contiguous(&client.receive_many(&["t", "gap"], COUNT as usize), 1);
    }
    gateway.await_metric("gateway_outbox_behind ", |behind| behind == 0.0);
    line.trades("BTC-USD", 1);
    for client in stalled.iter_mut().chain([&mut reader]) {
        assert_eq!(client.receive_of(&["t", "gap"]).number("seq"), COUNT + 1);
    }
}

#[test]
fn a_client_that_takes_no_byte_is_let_go() {
    let (venue, certificate) = (Venue::bind(), Certificate::new());
    let settings = [("session.stall_timeout", "1s"), ("session.heartbeat", "500ms")];
    let (gateway, mut line) = started(&venue, &certificate, &settings);
    let wire = certificate.trust().shake(Client::small_socket(address(&gateway)));
    let mut stalled = Client::sign_in_on(wire, &gateway.users[1]);
    stalled.subscribe(TRADES);
    line.trades("BTC-USD", 25_000);
    gateway.await_metric(r#"gateway_connections_closed_total{reason="stalled"}"#, |closed| closed == 1.0);
    gateway.await_metric("gateway_tls_connections ", |live| live == 0.0);
}

#[test]
fn another_certificate_is_for_new_connections() {
    let (venue, certificate) = (Venue::bind(), Certificate::new());
    let (gateway, mut line) = started(&venue, &certificate, &[]);
    let reloaded = |result: &str| gateway.metric(&format!(r#"gateway_certificate_reloads_total{{result="{result}"}}"#));
    let mut old = subscribed(&gateway, certificate.trust());
    assert_eq!(shown(address(&gateway), certificate.trust()), certificate.trust().certificate);
    // The files change, and nobody says so. In between they do not fit each other.
    let second = Pems::new();
    certificate.write_certificate(&second.certificate);
    certificate.write_key(&second.key);
    wait_until("the second certificate to be shown", || is_shown(address(&gateway), &second.trust));
    assert_eq!(reloaded("ok"), 1.0);
    assert!(!is_shown(address(&gateway), certificate.trust()));
    gateway.await_metric(r#"gateway_handshakes_refused_total{reason="tls_alert"}"#, |refused| refused >= 1.0);
    // A certificate without its key is none: the one before stays.
    let third = Pems::new();
    certificate.write_certificate(&third.certificate);
    gateway.reload();
    assert!(reloaded("failed") >= 1.0);
    assert_eq!(shown(address(&gateway), &second.trust), second.trust.certificate);
    certificate.write_key("no key at all");
    gateway.reload();
    assert_eq!(shown(address(&gateway), &second.trust), second.trust.certificate);
    certificate.write_key(&third.key);
    gateway.reload();
    assert_eq!(shown(address(&gateway), &third.trust), third.trust.certificate);
    // Who has been here all the time has noticed nothing.
    line.trades("BTC-USD", 3);
    assert_contiguous(&old.receive_many(&["t", "gap"], 3), 1);
    let mut new = subscribed(&gateway, &third.trust);
    line.trades("BTC-USD", 1);
    for client in [&mut old, &mut new] {
        assert_eq!(client.receive_of(&["t", "gap"]).number("seq"), 4);
    }
}

#[test]
fn a_hangup_signal_reads_the_certificate() {
    let certificate = Certificate::new();
    let gateway = program::spawn(&certificate.settings(), &[]);
    let address = gateway.tls_address.unwrap();
    let mut old = Client::over_tls(address, certificate.trust(), &gateway.users[1]);
    let second = Pems::new();
    certificate.write_key(&second.key);
    certificate.write_certificate(&second.certificate);
    gateway.signal(Signal::HUP);
    wait_until("the second certificate to be shown", || is_shown(address, &second.trust));
    assert_eq!(old.subscribe(TRADES)["trades"], json!(["BTC/USD"]));
}

#[test]
fn whoever_speaks_no_tls_1_3_is_told_so() {
    let (venue, certificate) = (Venue::bind(), Certificate::new());
    let (gateway, _line) = started(&venue, &certificate, &[]);
    let is_counted = |reason: &str| {
        let name = format!(r#"gateway_handshakes_refused_total{{reason="{reason}"}}"#);
        gateway.await_metric(&name, |refused| refused == 1.0);
    };

    let answer = exchange(address(&gateway), b"GET /stream HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("TLS_REQUIRED"), "{answer}");
    is_counted("tls_plain_http");

    let old = certificate.trust().with_version(&rustls::version::TLS12);
    let error = old.shake(connect(address(&gateway))).handshake().unwrap_err();
    let told = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    assert_eq!(told, Some(&rustls::Error::AlertReceived(AlertDescription::ProtocolVersion)));
    is_counted("tls_version");

    // An alert: decode_error.
    let noise = [0u8; 64];
    let mut stream = connect(address(&gateway));
    std::io::Write::write_all(&mut stream, &noise).unwrap();
    let mut alert = [0; 7];
    std::io::Read::read_exact(&mut stream, &mut alert).unwrap();
    assert_eq!((alert[0], alert[5]), (21, 2), "a fatal alert");
    is_counted("tls_malformed");
    gateway.serves();
}

#[test]
fn a_handshake_that_does_not_end_is_ended() {
    let (venue, certificate) = (Venue::bind(), Certificate::new());
    let (gateway, _line) = started(&venue, &certificate, &[("server.handshake_timeout", "300ms")]);
    // Nothing at all, half a hello, and a handshake without a request.
    let mut silent = connect(address(&gateway));
    let mut half = connect(address(&gateway));
    std::io::Write::write_all(&mut half, b"\x16\x03\x01\x02\x00\x01\x00").unwrap();
    let mut done = certificate.trust().shake(connect(address(&gateway)));
    done.handshake().unwrap();
    gateway.await_metric(r#"gateway_handshakes_refused_total{reason="timeout"}"#, |ended| ended == 3.0);
    for stream in [&mut silent, &mut half] {
        assert_eq!(support::rest(stream), "");
    }
    assert_eq!(std::io::Read::read(&mut done, &mut [0; 16]).unwrap(), 0, "ended as TLS is");
    gateway.await_metric("gateway_handshakes ", |under_way| under_way == 0.0);
}

#[test]
fn a_record_that_was_tampered_with_ends_its_session_alone() {
    let (venue, certificate) = (Venue::bind(), Certificate::new());
    let (gateway, mut line) = started(&venue, &certificate, &[]);
    let mut other = subscribed(&gateway, certificate.trust());
    let mut client = subscribed(&gateway, certificate.trust());
    // Written behind the back of the client's TLS.
    client.send_beneath_tls(&[23, 3, 3, 0, 20, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20]);
    assert_eq!(client.drain().1, End::Lost);
    gateway.await_metric(r#"gateway_connections_closed_total{reason="protocol"}"#, |closed| closed == 1.0);
    line.trades("BTC-USD", 1);
    assert_eq!(other.receive_of(&["t", "gap"]).number("seq"), 1);
}

#[test]
fn draining_ends_tls_as_it_should_be() {
    const COUNT: u64 = 20_000;
    let (venue, certificate) = (Venue::bind(), Certificate::new());
    let settings =
        [&venue.settings(r#"["BTC-USD"]"#)[..], &certificate.settings(), &[("drain.timeout", "60s")]].concat();
    let mut gateway = program::spawn(&settings, &[]);
    let address = gateway.tls_address.unwrap();
    let mut line = venue.accept();
    let mut slow = Client::sign_in_on(certificate.trust().shake(Client::small_socket(address)), &gateway.users[1]);
    slow.subscribe(TRADES);
    let mut reader = Client::over_tls(address, certificate.trust(), &gateway.users[1]);
    reader.subscribe(TRADES);
    line.trades("BTC-USD", COUNT);
    assert_contiguous(&reader.receive_many(&["t", "gap"], COUNT as usize), 1);
    wait_until("the other to be behind", || metric(gateway.admin, "gateway_outbox_behind ") == 1.0);
    gateway.signal(Signal::TERM);
    for (client, trades) in [(&mut reader, 0), (&mut slow, COUNT)] {
        let (messages, end) = client.drain();
        assert_eq!(end, End::Closed(1001, "going away".into()));
        let received: Vec<Received> = messages.into_iter().filter(|m| matches!(m.kind(), "t" | "gap")).collect();
        assert_contiguous(&received, 1);
        assert_eq!(received.len() as u64, trades);
        // `close_notify` tells the end from a connection that was cut.
        assert_eq!(client.read_raw(&mut [0; 16]).unwrap(), 0);
    }
    assert_eq!(gateway.end().code(), Some(0));
    assert!(is_closed(address));
}

#[test]
fn what_cannot_be_used_ends_the_start() {
    #[track_caller]
    fn check(output: &Output, parts: &[&str]) {
        let error = String::from_utf8(output.stderr.clone()).unwrap();
        assert_eq!(output.status.code(), Some(64), "{error}");
        assert_eq!(error.lines().count(), 1, "one line: {error}");
        for part in parts {
            assert!(error.contains(part), "{part} in {error}");
        }
    }
    let certificate = Certificate::new();
    let [listen, (_, good_certificate), (_, good_key)] = certificate.settings();
    let run = |certificate_file: &str, key_file: &str| {
        let settings = [listen, ("server.tls.certificate_file", certificate_file), ("server.tls.key_file", key_file)];
        // Checked and started alike.
        let checked = program::run(&settings, &["check-config"]);
        let started = program::run(&settings, &[]);
        assert_eq!(checked.stderr, started.stderr);
        started
    };
    let (certificate_key, key_key) = ("server.tls.certificate_file", "server.tls.key_file");
    check(&run("/nonexistent/a.crt", good_key), &[certificate_key, "/nonexistent/a.crt", "cannot be read"]);
    check(&run(good_certificate, "/nonexistent/a.key"), &[key_key, "/nonexistent/a.key", "cannot be read"]);
    check(&run(good_key, good_key), &[certificate_key, "server.key", "no certificate"]);
    check(&run(good_certificate, good_certificate), &[key_key, "server.crt", "no private key"]);
    let files = support::Directory::new();
    let file = |name: &str, text: &str| files.write(name, text);
    let pem = |label: &str, body: &str| format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n");
    check(&run(&file("a.crt", ""), good_key), &[certificate_key, "no certificate"]);
    check(&run(&file("a.crt", "-----BEGIN CERTIFICATE-----\nAAAA"), good_key), &[certificate_key, "no PEM file"]);
    check(&run(&file("a.crt", &pem("CERTIFICATE", "AAAA")), good_key), &[certificate_key, "cannot be used"]);
    check(&run(good_certificate, &file("a.key", &pem("PRIVATE KEY", "AAAA"))), &[key_key, "cannot be used"]);
    check(&run(good_certificate, &file("a.key", &pem("ENCRYPTED PRIVATE KEY", "AAAA"))), &[key_key, "encrypted"]);
    let other = Pems::new();
    check(
        &run(good_certificate, &file("a.key", &other.key)),
        &[key_key, "a.key", "does not belong to the certificate", "server.crt"],
    );
}
