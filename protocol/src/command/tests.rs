//! Tests of `command`.

use proptest::prelude::*;
use serde_json::json;

use super::*;

/// The request in JSON, and the same as MessagePack, must both be read as that.
#[track_caller]
fn check(json: &str, expected: Result<Request, (ErrorCode, Option<RequestId>)>) {
    let refused = |error: CommandError| (error.code, error.id);
    assert_eq!(parse(Encoding::Json, json.as_bytes()).map_err(refused), expected, "{json}");
    if let Ok(value) = serde_json::from_str::<Value>(json) {
        let msgpack = rmp_serde::to_vec(&value).unwrap();
        assert_eq!(parse(Encoding::MessagePack, &msgpack).map_err(refused), expected, "MessagePack of {json}");
    }
}

fn item(channel: ChannelKind, symbol: &str) -> Item {
    Item { channel, symbol: symbol.into() }
}

#[test]
fn reads_sign_ins() {
    let key = Action::Auth(AuthFields::Key { key: "K".into(), secret: "S".into() });
    let token = Action::Auth(AuthFields::Token("a.b.c".into()));
    check(r#"{"action":"auth","key":"K","secret":"S"}"#, Ok(Request { id: None, action: key.clone() }));
    check(r#"{"action":"auth","key":"K","secret":"S","token":null}"#, Ok(Request { id: None, action: key }));
    let with_id = Request { id: Some(RequestId::Unsigned(1)), action: token.clone() };
    check(r#"{"token":"a.b.c","action":"auth","id":1}"#, Ok(with_id));
    check(r#"{"action":"auth","key":"oauth","secret":"a.b.c"}"#, Ok(Request { id: None, action: token }));
    for fields in [
        r#""key":"K""#,
        r#""secret":"S""#,
        r#""key":"K","secret":"S","token":"T""#,
        r#""key":"K","token":"T""#,
        r#""key":5,"secret":"S""#,
        r#""token":["T"]"#,
        r#""x":1"#,
    ] {
        check(&format!(r#"{{"action":"auth",{fields}}}"#), Err((ErrorCode::InvalidSyntax, None)));
    }
}

#[test]
fn secrets_are_not_printed() {
    for fields in [r#""key":"hunter2","secret":"hunter2""#, r#""token":"hunter2""#] {
        let request = parse(Encoding::Json, format!(r#"{{"action":"auth",{fields}}}"#).as_bytes()).unwrap();
        assert!(!format!("{request:?}").contains("hunter2"));
    }
}

#[test]
fn reads_subscriptions() {
    use ChannelKind::*;
    check(
        r#"{"action":"subscribe","id":7,"trades":[" btc/usd","BTC/USD","AAPL"],"quotes":["*"],"max_rate":5,
            "since":{"epoch":1763654400123,"trades":{"btc/usd":1041},"bars":{"AAPL":0}}}"#,
        Ok(Request {
            id: Some(RequestId::Unsigned(7)),
            action: Action::Subscribe(Subscription {
                items: vec![item(Quotes, "*"), item(Trades, "BTC/USD"), item(Trades, "AAPL")],
                signals: vec![],
                unknown_channels: vec![],
                since: Some(Since {
                    epoch: 1_763_654_400_123,
                    positions: vec![(Bars, "AAPL".into(), 0), (Trades, "BTC/USD".into(), 1_041)],
                }),
                max_rate: Some(5.0),
            }),
        }),
    );
    let signals = ["@CRYPTO", "BTC/USD", "*"].map(str::to_owned).to_vec();
    check(
        r#"{"action":"subscribe","signals":["@crypto"," btc/usd","BTC/USD","*"],"signals.crypto":["*"]}"#,
        Ok(Request {
            id: None,
            action: Action::Subscribe(Subscription {
                signals,
                unknown_channels: vec!["signals.crypto".into()],
                ..Subscription::default()
            }),
        }),
    );
    // As client libraries send it: every channel they know, empty or null.
    check(
        r#"{"action":"subscribe","trades":["AAPL"],"quotes":[],"bars":null,"dailyBars":[],"statuses":["*"],
            "orderbooks":null,"extension":{"a":[1]},"since":null,"max_rate":null}"#,
        Ok(Request {
            id: None,
            action: Action::Subscribe(Subscription {
                items: vec![item(Trades, "AAPL")],
                signals: vec![],
                unknown_channels: vec!["statuses".into()],
                ..Subscription::default()
            }),
        }),
    );
    // Nothing to resume and no rate in an unsubscribe: these keys mean nothing there.
    check(
        r#"{"action":"unsubscribe","updatedBars":["AAPL"],"since":1,"max_rate":-1}"#,
        Ok(Request {
            id: None,
            action: Action::Unsubscribe(Subscription {
                items: vec![item(UpdatedBars, "AAPL")],
                ..Subscription::default()
            }),
        }),
    );
}

#[test]
fn echoes_ids_as_they_came() {
    for (id, expected) in [
        (r#""order-7""#, Some(RequestId::Text("order-7".into()))),
        ("0", Some(RequestId::Unsigned(0))),
        ("18446744073709551615", Some(RequestId::Unsigned(u64::MAX))),
        ("-9223372036854775808", Some(RequestId::Negative(i64::MIN))),
        ("null", None),
    ] {
        let subscription = Subscription::default();
        let text = format!(r#"{{"action":"subscribe","id":{id}}}"#);
        check(&text, Ok(Request { id: expected.clone(), action: Action::Subscribe(subscription) }));
        if let Some(expected) = expected {
            assert_eq!(serde_json::to_string(&expected).unwrap(), id);
            // An error names it too, wherever in the request it stands.
            check(&format!(r#"{{"action":"jump","id":{id}}}"#), Err((ErrorCode::InvalidSyntax, Some(expected))));
        }
    }
    for id in ["1.5", "18446744073709551616", "[1]", "true", &json!("x".repeat(65)).to_string()] {
        check(&format!(r#"{{"action":"subscribe","id":{id}}}"#), Err((ErrorCode::InvalidSyntax, None)));
    }
}

#[test]
fn refuses_what_is_no_request() {
    for text in
        ["", " ", "null", "1", r#""subscribe""#, "[]", r#"[{"action":"subscribe"}]"#, "{", "{}", "{}{}", "\u{0}"]
    {
        check(text, Err((ErrorCode::InvalidSyntax, None)));
    }
    for fields in [
        r#""action":null"#,
        r#""action":["subscribe"]"#,
        r#""action":"Subscribe""#,
        r#""action":"subscribe","trades":"AAPL""#,
        r#""action":"subscribe","trades":{"AAPL":1}"#,
        r#""action":"subscribe","trades":["AAPL",null]"#,
        r#""action":"subscribe","trades":[["AAPL"]]"#,
    ] {
        check(&format!(r#"{{"id":1,{fields}}}"#), Err((ErrorCode::InvalidSyntax, Some(RequestId::Unsigned(1)))));
    }
    assert!(parse(Encoding::Json, b"{\"action\":\"subscribe\",\"trades\":[\"\xff\"]}").is_err());
}

#[test]
fn refuses_what_is_out_of_bounds() {
    let refused = |fields: &str, code| {
        check(
            &format!(r#"{{"action":"subscribe","id":"a",{fields}}}"#),
            Err((code, Some(RequestId::Text("a".into())))),
        );
    };
    for since in [
        "1",
        "[]",
        "{}",
        r#"{"epoch":-1}"#,
        r#"{"epoch":1.5}"#,
        r#"{"trades":{"AAPL":1}}"#,
        r#"{"epoch":1,"trades":{"AAPL":-1}}"#,
        r#"{"epoch":1,"trades":{"AAPL":"1"}}"#,
        r#"{"epoch":1,"trades":["AAPL"]}"#,
        r#"{"epoch":1,"statuses":{"AAPL":1}}"#,
    ] {
        refused(&format!(r#""since":{since}"#), ErrorCode::InvalidSince);
    }
    for rate in ["0", "-1", "0.001", "1001", "1e300", r#""5""#, "[5]", "true"] {
        refused(&format!(r#""max_rate":{rate}"#), ErrorCode::InvalidMaxRate);
    }
    let symbols = |count: usize| json!((0..count).map(|i| format!("S{i}")).collect::<Vec<_>>()).to_string();
    let most = format!(r#"{{"action":"subscribe","trades":{},"quotes":{}}}"#, symbols(ITEMS_MAX - 1), symbols(1));
    assert!(parse(Encoding::Json, most.as_bytes()).is_ok());
    refused(&format!(r#""trades":{},"quotes":{}"#, symbols(ITEMS_MAX - 1), symbols(2)), ErrorCode::TooManyItems);
    let positions: Map<String, Value> = (0..=ITEMS_MAX).map(|i| (format!("S{i}"), 1.into())).collect();
    refused(&format!(r#""since":{{"epoch":1,"trades":{}}}"#, json!(positions)), ErrorCode::TooManyItems);
    let unknown: Map<String, Value> = (0..=ITEMS_MAX).map(|i| (format!("c{i}"), json!(["A"]))).collect();
    let unknown = json!(unknown).to_string();
    refused(&unknown[1..unknown.len() - 1], ErrorCode::TooManyItems);
}

#[test]
fn depth_is_bounded() {
    let nested = |depth: usize| format!(r#"{{"action":"subscribe","x":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
    assert!(parse(Encoding::Json, nested(100).as_bytes()).is_ok());
    assert_eq!(parse(Encoding::Json, nested(30_000).as_bytes()).unwrap_err().code, ErrorCode::InvalidSyntax);
    // 30,000 arrays of one, each within the last.
    let mut msgpack = rmp_serde::to_vec(&json!({"action": "subscribe", "x": 0})).unwrap();
    assert_eq!(msgpack.pop(), Some(0));
    let with = |tail: &[u8]| [&msgpack[..], tail].concat();
    assert!(parse(Encoding::MessagePack, &with(&[0x91, 0x91, 0x90])).is_ok());
    assert!(parse(Encoding::MessagePack, &with(&[0x91; 30_000])).is_err());
    assert!(parse(Encoding::MessagePack, &with(&[&[0x91; 30_000][..], &[0x90]].concat())).is_err());
}

#[test]
fn msgpack_of_other_forms_is_refused() {
    // A string of 4 GiB, an array of 4 G items, a map with an integer as key, bytes behind the request, nothing.
    for bytes in [
        &[0xdb, 0xff, 0xff, 0xff, 0xff][..],
        &[0xdd, 0xff, 0xff, 0xff, 0xff],
        &[0x81, 0x01, 0x01],
        &[&rmp_serde::to_vec(&json!({"action": "subscribe"})).unwrap()[..], &[0xc0]].concat(),
        &[],
    ] {
        assert_eq!(parse(Encoding::MessagePack, bytes).unwrap_err().code, ErrorCode::InvalidSyntax, "{bytes:x?}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
        for encoding in Encoding::ALL {
            let _ = parse(encoding, &bytes);
        }
    }

    #[test]
    fn damaged_requests_are_read_or_refused(at in 0usize..200, byte: u8, cut in 0usize..200) {
        let request = json!({
            "action": "subscribe", "id": "x", "trades": ["AAPL", "*"], "max_rate": 2.5,
            "since": {"epoch": 1, "trades": {"AAPL": 7}},
        });
        for encoding in Encoding::ALL {
            let mut bytes = match encoding {
                Encoding::Json => request.to_string().into_bytes(),
                Encoding::MessagePack => rmp_serde::to_vec(&request).unwrap(),
            };
            let at = at % bytes.len();
            bytes[at] = byte;
            let _ = parse(encoding, &bytes);
            bytes.truncate(cut % bytes.len());
            prop_assert!(parse(encoding, &bytes).is_err());
        }
    }
}
