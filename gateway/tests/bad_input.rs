//! Bad input gets a clear answer, and nothing falls over: whatever a client sends, it is told what was wrong,
//! with the close code where the protocol says so, and the gateway goes on serving others.

mod support;

use std::io::Write;
use std::time::Duration;

use protocol::frame::{Opcode, encode_client_fragment, encode_client_frame};
use serde_json::{Value, json};
use support::client::MASK;
use support::{Client, End, Running, connect, exchange, rest, start};

fn closed(code: u16, reason: &str) -> End {
    End::Closed(code, reason.to_owned())
}

/// What a signed-in client gets for these bytes on its line: the code of the error, if one came, and the end.
fn answer_to(gateway: &Running, bytes: &[u8]) -> (Option<u64>, End) {
    let mut client = gateway.premium();
    client.send_raw(bytes);
    let (messages, end) = client.drain();
    let errors: Vec<u64> = messages.iter().filter(|m| m.kind() == "error").map(|m| m.number("code")).collect();
    assert!(errors.len() <= 1, "one error: {messages:?}");
    (errors.first().copied(), end)
}

fn frame(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_client_frame(opcode, payload, MASK, &mut bytes);
    bytes
}

/// A frame with a first byte of the test's own.
fn frame_of(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = frame(Opcode::Text, payload);
    bytes[0] = first;
    bytes
}

#[test]
fn a_broken_frame_ends_the_connection_with_its_code() {
    let gateway = start(&[]);
    let check = |what: &str, bytes: Vec<u8>, error: Option<u64>, code: u16, reason: &str| {
        assert_eq!(answer_to(&gateway, &bytes), (error, closed(code, reason)), "{what}");
    };
    let text = br#"{"action":"subscribe","trades":["*"]}"#;
    let unmasked = [&[0x81, text.len() as u8][..], text].concat();
    check("no mask", unmasked, None, 1002, "protocol error");
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        check("a reserved opcode", frame_of(0x80 | opcode, text), None, 1002, "protocol error");
    }
    for bit in [0x40, 0x20, 0x10] {
        check("a reserved bit", frame_of(0x81 | bit, text), None, 1002, "protocol error");
    }
    check("a continuation of nothing", frame_of(0x80, text), None, 1002, "protocol error");
    check("a ping in pieces", frame_of(0x09, b"x"), None, 1002, "protocol error");
    check("a long ping", frame(Opcode::Ping, &[b'x'; 126]), None, 1002, "protocol error");
    let interrupted = [frame_of(0x01, b"{"), frame(Opcode::Text, text)].concat();
    check("a message within a message", interrupted, None, 1002, "protocol error");
    check("a close of one byte", frame(Opcode::Close, &[3]), None, 1002, "protocol error");
    check("a close with a code that is no code", frame(Opcode::Close, &[0, 5]), None, 1002, "protocol error");
    check("text that is not UTF-8", frame(Opcode::Text, b"{\"action\":\"\xff\"}"), Some(400), 1007, "invalid payload");
    check("half a character", frame(Opcode::Text, b"\xe2\x82"), Some(400), 1007, "invalid payload");
    check("binary in JSON", frame(Opcode::Binary, text), Some(400), 1003, "unsupported data");
    check("more than a message may have", frame(Opcode::Text, &[b' '; 65_537]), Some(425), 1009, "message too big");
    // Refused by its length alone: none of the 2^62 bytes is waited for.
    let endless = [&[0x81, 0xff][..], &(1u64 << 62).to_be_bytes(), &MASK].concat();
    check("an endless message", endless, Some(425), 1009, "message too big");
    let mut pieces = frame_of(0x01, &[b' '; 40_000]);
    encode_client_fragment(Opcode::Continuation, true, &[b' '; 40_000], MASK, &mut pieces);
    check("pieces that are too much together", pieces, Some(425), 1009, "message too big");
    gateway.serves();
}

#[test]
fn a_message_that_is_no_request_is_answered_and_the_connection_stands() {
    let gateway = start(&[]);
    let mut client = gateway.premium();
    let mut check = |text: &str, code: u64, id: Value| {
        let answer = client.request(text);
        assert_eq!((answer.number("code"), &answer["id"]), (code, &id), "{text:.80}");
        assert!(answer["msg"].is_string(), "{}", answer.text);
    };
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    check("", 400, Value::Null);
    check("nonsense", 400, Value::Null);
    check("[]", 400, Value::Null);
    check("\"subscribe\"", 400, Value::Null);
    check("{\"action\":\"subscribe\",\"trades\":[\"BTC/USD\"]", 400, Value::Null);
    check(&nested(30_000), 400, Value::Null);
    check(&format!(r#"{{"action":"subscribe","x":{}}}"#, nested(200)), 400, Value::Null);
    check(r#"{"action":"dance","id":1}"#, 400, json!(1));
    check(r#"{"id":"no action"}"#, 400, json!("no action"));
    check(r#"{"action":5,"id":-7}"#, 400, json!(-7));
    check(r#"{"action":"subscribe","id":1.5,"trades":["BTC/USD"]}"#, 400, Value::Null);
    check(r#"{"action":"subscribe","id":2,"trades":"BTC/USD"}"#, 400, json!(2));
    check(r#"{"action":"subscribe","id":3,"trades":[7]}"#, 400, json!(3));
    check(r#"{"action":"subscribe","id":4,"quotes":["*"],"max_rate":0}"#, 423, json!(4));
    check(r#"{"action":"subscribe","id":5,"trades":["*"],"since":5}"#, 422, json!(5));
    check(r#"{"action":"subscribe","id":6,"trades":["*"],"since":{"epoch":1,"trades":{"BTC/USD":-1}}}"#, 422, json!(6));
    check(r#"{"action":"auth","id":7,"key":"a","secret":"b"}"#, 403, json!(7));
    let long = vec!["A"; 10_001];
    check(&json!({"action": "subscribe", "id": 8, "trades": long}).to_string(), 424, json!(8));
    // None of them has changed anything.
    let answer = client.subscribe(r#"{"action":"subscribe"}"#);
    assert_eq!((&answer["trades"], &answer["quotes"]), (&json!([]), &json!([])));
    gateway.serves();
}

#[test]
fn items_are_answered_one_by_one_and_the_rest_of_the_request_stands() {
    let gateway = start(&[("feed.simulator.symbols", r#"["BTC/USD","ETH/USD","SOL/USD"]"#)]);
    let mut client = gateway.premium();
    client.send(
        r#"{"action":"subscribe","id":"mixed","trades":["BTC/USD","NOPE/USD"," eth/usd ","","NIX/USD"],"lulds":["*"],"statuses":[],"bars":["NOPE/USD"]}"#,
    );
    let errors = client.receive_many(&["error"], 3);
    let mut told: Vec<_> = errors.iter().map(|e| (e.number("code"), e["channel"].as_str().unwrap())).collect();
    told.sort_unstable();
    assert_eq!(told, [(420, "bars"), (420, "trades"), (421, "lulds")]);
    assert!(errors.iter().all(|e| e["id"] == "mixed"), "{errors:?}");
    let of_trades = errors.iter().find(|e| e["channel"] == "trades").unwrap();
    assert_eq!(of_trades["symbols"], json!(["NOPE/USD", "", "NIX/USD"]));
    let answer = client.receive_of(&["subscription"]);
    assert_eq!((&answer["id"], &answer["trades"]), (&json!("mixed"), &json!(["BTC/USD", "ETH/USD"])));
    assert_eq!((&answer["bars"], &answer["unchanged"]), (&json!([]), &Value::Null));
    // Again, with one that is new: no error, and the old ones are named.
    let answer = client.subscribe(r#"{"action":"subscribe","id":2,"trades":["ETH/USD","SOL/USD","BTC/USD"]}"#);
    assert_eq!(answer["trades"], json!(["BTC/USD", "ETH/USD", "SOL/USD"]));
    assert_eq!(answer["unchanged"], json!({"trades": ["ETH/USD", "BTC/USD"]}));
    // Each trade comes once, though it was asked for twice.
    let trades = client.receive_many(&["t"], 50);
    let mut seen: Vec<(&str, u64)> = trades.iter().map(|t| (t.symbol(), t.number("seq"))).collect();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), trades.len());
    // What is not subscribed can be taken back, and what is unknown is told.
    client.send(r#"{"action":"unsubscribe","id":3,"trades":["SOL/USD","NOPE/USD"],"quotes":["*"]}"#);
    assert_eq!(client.receive_of(&["error"])["S"], "NOPE/USD");
    assert_eq!(client.receive_of(&["subscription"])["trades"], json!(["BTC/USD", "ETH/USD"]));
}

#[test]
fn what_a_tier_does_not_include_is_refused_item_by_item() {
    let gateway = start(&[("feed.simulator.symbols", "40")]);
    let mut client = gateway.free();
    client.send(r#"{"action":"subscribe","id":1,"trades":["*"],"updatedBars":["*"],"bars":["*"]}"#);
    for error in client.receive_many(&["error"], 3) {
        assert_eq!((error.number("code"), &error["id"]), (409, &json!(1)), "{}", error.text);
    }
    let answer = client.receive_of(&["subscription"]);
    assert_eq!((&answer["trades"], &answer["updatedBars"]), (&json!([]), &json!([])));
    // The free tier has 30 channels: the first 30 stand.
    let mut premium = gateway.premium();
    premium.subscribe(r#"{"action":"subscribe","quotes":["*"]}"#);
    let mut symbols: Vec<String> = Vec::new();
    while symbols.len() < 31 {
        let symbol = premium.receive_of(&["q"]).symbol().to_owned();
        if !symbols.contains(&symbol) {
            symbols.push(symbol);
        }
    }
    let answer = client.request(&json!({"action": "subscribe", "id": 2, "trades": symbols}).to_string());
    assert_eq!((answer.number("code"), &answer["id"], answer.symbol()), (405, &json!(2), symbols[30].as_str()));
    let answer = client.receive_of(&["subscription"]);
    assert_eq!(answer["trades"].as_array().unwrap().len(), 30);
    // One that is let go makes room for another.
    client.subscribe(&json!({"action": "unsubscribe", "trades": [symbols[0]]}).to_string());
    client.subscribe(&json!({"action": "subscribe", "trades": [symbols[30]]}).to_string());
}

#[test]
fn fragmented_and_pipelined_messages_work() {
    let gateway = start(&[]);
    // A request in three pieces with a ping between them, and two more requests in the same write.
    let mut client = gateway.premium();
    let mut bytes = Vec::new();
    encode_client_fragment(Opcode::Text, false, br#"{"action":"sub"#, MASK, &mut bytes);
    encode_client_frame(Opcode::Ping, b"between", MASK, &mut bytes);
    encode_client_fragment(Opcode::Continuation, false, br#"scribe","id":1,"#, MASK, &mut bytes);
    encode_client_fragment(Opcode::Continuation, true, br#""bars":["BTC/USD"]}"#, MASK, &mut bytes);
    encode_client_frame(Opcode::Text, br#"{"action":"subscribe","id":2,"bars":["ETH/USD"]}"#, MASK, &mut bytes);
    encode_client_frame(Opcode::Text, br#"{"action":"unsubscribe","id":3,"bars":["BTC/USD"]}"#, MASK, &mut bytes);
    client.send_raw(&bytes);
    assert_eq!(client.pong().as_ref(), b"between");
    let answers = client.receive_many(&["subscription"], 3);
    let seen: Vec<_> = answers.iter().map(|a| (a.number("id"), a["bars"].clone())).collect();
    assert_eq!(
        seen,
        [(1, json!(["BTC/USD"])), (2, json!(["BTC/USD", "ETH/USD"])), (3, json!(["ETH/USD"]))],
        "in order"
    );
    // Byte by byte.
    for byte in frame(Opcode::Text, br#"{"action":"subscribe","id":4}"#) {
        client.send_raw(&[byte]);
    }
    assert_eq!(client.receive_of(&["subscription"]).number("id"), 4);
    // The sign-in and what follows it in one write, behind the upgrade.
    let user = &gateway.users[1];
    let mut client = Client::upgrade(gateway.address, "/stream", &[]).unwrap();
    let mut bytes = frame(
        Opcode::Text,
        json!({"action": "auth", "id": 1, "key": user.key, "secret": user.secret}).to_string().as_bytes(),
    );
    bytes.extend(frame(Opcode::Text, br#"{"action":"subscribe","id":2,"trades":["BTC/USD"]}"#));
    bytes.extend(frame(Opcode::Ping, b"behind"));
    bytes.extend(frame(Opcode::Text, br#"{"action":"subscribe","id":3,"trades":["ETH/USD"]}"#));
    client.send_raw(&bytes);
    assert_eq!(client.pong().as_ref(), b"behind");
    let answers = client.receive_many(&["subscription"], 2);
    assert_eq!(answers[1]["trades"], json!(["BTC/USD", "ETH/USD"]));
    assert_eq!((answers[0].number("id"), answers[1].number("id")), (2, 3));
}

#[test]
fn a_request_that_is_no_upgrade_gets_a_status_and_a_reason() {
    let gateway = start(&[]);
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let check = |head: &str, headers: &str, status: u16, error: &str| {
        let answer = exchange(gateway.address, format!("{head} HTTP/1.1\r\nHost: test\r\n{headers}\r\n").as_bytes());
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{head} {headers}: {answer}");
        let body: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
        assert_eq!(body["error"], error, "{answer}");
        assert!(body["message"].is_string(), "{answer}");
    };
    check("GET /stream", "", 426, "UPGRADE_REQUIRED");
    check("GET /v2/iex", "Connection: keep-alive\r\n", 426, "UPGRADE_REQUIRED");
    check("GET /stream", &format!("{upgrade}Sec-WebSocket-Version: 12\r\n"), 426, "UPGRADE_REQUIRED");
    check("GET /stream", &format!("{upgrade}Sec-WebSocket-Version: 8\r\n"), 426, "UPGRADE_REQUIRED");
    check(
        "GET /stream",
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n",
        400,
        "BAD_REQUEST",
    );
    check("GET /stream", "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n", 400, "BAD_REQUEST");
    check("GET /", "", 404, "NOT_FOUND");
    check("GET /streams", &format!("{upgrade}Sec-WebSocket-Version: 13\r\n"), 404, "NOT_FOUND");
    check("POST /stream", "Content-Length: 2\r\n\r\n{}", 405, "METHOD_NOT_ALLOWED");
    check("GET /stream?encoding=xml", &format!("{upgrade}Sec-WebSocket-Version: 13\r\n"), 400, "BAD_REQUEST");
    check(
        "GET /stream",
        &format!("{upgrade}Sec-WebSocket-Version: 13\r\nAuthorization: Bearer nonsense\r\n"),
        401,
        "INVALID_TOKEN",
    );
    let refused = |bytes: &[u8], status: u16, error: &str| {
        let mut stream = connect(gateway.address);
        // The gateway may have answered and closed before it was offered everything.
        let _ = stream.write_all(bytes);
        let answer = rest(&mut stream);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert!(answer.contains(&format!("\"error\":\"{error}\"")), "{answer}");
    };
    for bytes in [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], b"SSH-2.0-client\r\n", b"\r\n\r\n\0\0\0\0\r\n"]
    {
        refused(bytes, 400, "BAD_REQUEST");
    }
    // A head beyond all bounds is not read to its end.
    refused(format!("GET /stream HTTP/1.1\r\nX: {}", "x".repeat(100_000)).as_bytes(), 431, "HEAD_TOO_LARGE");
    refused(format!("GET /stream HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(65)).as_bytes(), 431, "HEAD_TOO_LARGE");
    gateway.serves();
}

#[test]
fn half_open_handshakes_and_slow_headers_are_cut_off() {
    let gateway = start(&[("server.handshake_timeout", "1s")]);
    // Nothing at all, and half a head.
    assert_eq!(exchange(gateway.address, b""), "");
    assert_eq!(exchange(gateway.address, b"GET /stream HTTP/1.1\r\nHost: te"), "");
    // A byte now and then, which never ends: it is the end of the whole head that counts.
    let mut stream = connect(gateway.address);
    stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    stream.write_all(b"GET /stream HTTP/1.1\r\n").unwrap();
    let mut buffer = [0; 1];
    support::wait_until("the slow head to be cut off", || {
        let written = stream.write_all(b"X: y\r\n");
        let read = std::io::Read::read(&mut stream, &mut buffer);
        match (written, read) {
            (_, Ok(read)) => read == 0,
            (_, Err(error)) if error.kind() == std::io::ErrorKind::WouldBlock => false,
            _ => true,
        }
    });
    assert!(gateway.metric("gateway_handshakes_refused_total{reason=\"timeout\"}") >= 2.0);
    gateway.await_metric("gateway_handshakes ", |under_way| under_way == 0.0);
    gateway.serves();
}

#[test]
fn who_does_not_sign_in_in_time_is_let_go() {
    let gateway = start(&[("server.auth_timeout", "1s")]);
    // Silent, busy with something else, or in the middle of a message: the time is the same.
    let mut silent = Client::open(gateway.address);
    let mut busy = Client::open(gateway.address);
    let answer = busy.request(r#"{"action":"subscribe","id":9,"trades":["BTC/USD"]}"#);
    assert_eq!((answer.number("code"), &answer["id"]), (401, &json!(9)));
    let mut halfway = Client::open(gateway.address);
    halfway.send_raw(&[0x81, 0xff]);
    for client in [&mut silent, &mut busy, &mut halfway] {
        let (messages, end) = client.drain();
        assert_eq!(messages.iter().map(|m| m.number("code")).collect::<Vec<_>>(), [404]);
        assert_eq!(end, closed(3002, "auth timeout"));
    }
    // Who has signed in may be silent for longer.
    let mut client = gateway.premium();
    let mut late = Client::open(gateway.address);
    assert_eq!(late.drain().1, closed(3002, "auth timeout"));
    client.subscribe(r#"{"action":"subscribe","trades":["BTC/USD"]}"#);
}

#[test]
fn one_address_has_so_many_connections_and_no_more() {
    let gateway = start(&[("server.connections_per_address", "3")]);
    let first = gateway.premium();
    let _second = Client::open(gateway.address);
    let _third = connect(gateway.address);
    gateway.await_metric("gateway_connections_opened_total", |opened| opened == 3.0);
    let refused = Client::upgrade(gateway.address, "/stream", &[]).err().unwrap();
    assert_eq!(refused.status, 429);
    let answer = exchange(gateway.address, b"GET /stream HTTP/1.1\r\nHost: test\r\n\r\n");
    assert!(answer.to_lowercase().contains("\r\nretry-after: "), "{answer}");
    let body: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!(body["error"], "TOO_MANY_CONNECTIONS");
    // Who goes makes room.
    first.close();
    support::wait_until("room for another connection", || Client::upgrade(gateway.address, "/stream", &[]).is_ok());
}

#[test]
fn only_so_many_sign_in_at_a_time() {
    let gateway = start(&[("server.handshakes_max", "2"), ("server.shards", "1")]);
    let open = Client::open(gateway.address);
    let _half = connect(gateway.address);
    gateway.await_metric("gateway_handshakes ", |under_way| under_way == 2.0);
    assert_eq!(Client::upgrade(gateway.address, "/stream", &[]).err().unwrap().status, 429);
    drop(open);
    gateway.await_metric("gateway_handshakes ", |under_way| under_way == 1.0);
    gateway.serves();
}

#[test]
fn one_user_has_so_many_connections_and_no_more() {
    let gateway = start(&[("entitlements.tiers.free.connections", "2")]);
    let first = gateway.free();
    let _second = gateway.free();
    let mut third = Client::open(gateway.address);
    let user = &gateway.users[0];
    let answer = third.request(&json!({"action": "auth", "key": user.key, "secret": user.secret}).to_string());
    assert_eq!(answer.number("code"), 406);
    assert_eq!(third.drain(), (vec![], closed(3502, "connection limit")));
    // In the upgrade request it is the same; and another user is not concerned.
    let mut fourth =
        Client::upgrade(gateway.address, "/stream", &[("Authorization", &format!("Bearer {}", user.token))]).unwrap();
    let (messages, end) = fourth.drain();
    assert_eq!((messages[1].number("code"), end), (406, closed(3502, "connection limit")));
    gateway.serves();
    // Who goes makes room.
    first.close();
    support::wait_until("room for another session", || {
        let mut client = Client::open(gateway.address);
        client.request(&json!({"action": "auth", "token": user.token}).to_string())["msg"] == "authenticated"
    });
}

#[test]
fn too_many_requests_are_told_when_to_come_back() {
    let gateway = start(&[("session.requests_per_second", "5"), ("session.requests_burst", "5")]);
    let mut client = gateway.premium();
    // In one write, so that they come at once however busy the machine is.
    let request = |id| frame(Opcode::Text, json!({"action": "subscribe", "id": id}).to_string().as_bytes());
    client.send_raw(&(0..50).flat_map(request).collect::<Vec<u8>>());
    let answers = client.receive_many(&["subscription", "error"], 50);
    assert!(answers.iter().zip(0..).all(|(answer, id)| answer["id"] == id), "each names its request: {answers:?}");
    let (taken, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|a| a.kind() == "subscription");
    assert!(taken.len() >= 5 && !refused.is_empty(), "{answers:?}");
    for error in refused {
        let retry_after = error["retry_after"].as_f64().unwrap();
        assert!(error.number("code") == 429 && retry_after > 0.0 && retry_after <= 1.0, "{}", error.text);
    }
    // The connection stands, and the allowance comes back.
    support::wait_until("the allowance", || client.request(r#"{"action":"subscribe"}"#).kind() == "subscription");
}

#[test]
fn answers_that_nobody_reads_end_the_connection() {
    let gateway = start(&[
        ("session.control_bytes_max", "4KiB"),
        ("session.requests_per_second", "1000000"),
        ("session.requests_burst", "1000000"),
    ]);
    let mut client = Client::with_small_buffer(gateway.address, &gateway.users[1]);
    // Each request is 10 KiB of unknown symbols, which the answer repeats.
    let symbols: Vec<String> = (0..1_000).map(|i| format!("NOPE{i}/USD")).collect();
    let request = json!({"action": "subscribe", "trades": symbols}).to_string();
    let closed_for_it = "gateway_connections_closed_total{reason=\"control_full\"}";
    support::wait_until("the gateway to give up", || {
        client.send(&request);
        gateway.metric("gateway_connections ") == 0.0 || gateway.metric(closed_for_it) > 0.0
    });
    gateway.await_metric(closed_for_it, |closed| closed == 1.0);
    gateway.serves();
}
