//! A whole session in MessagePack: the same maps with the same keys in binary frames, read here by a decoder
//! that is not the gateway's.

mod support;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Instant;

use protocol::frame::Opcode;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Value as Json, json};
use support::{Client, End, Line, PATIENCE, Running, Venue, start};

/// A MessagePack value.
#[derive(Clone, Debug, PartialEq)]
enum Value {
    Nil,
    Bool(bool),
    Unsigned(u64),
    Negative(i64),
    Float(f64),
    Text(String),
    /// Seconds and nanoseconds.
    Time(u64, u32),
    Array(Vec<Value>),
    Map(BTreeMap<String, Value>),
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Value, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Value;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("what the protocol uses of MessagePack")
            }

            fn visit_unit<E>(self) -> Result<Value, E> {
                Ok(Value::Nil)
            }

            fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
                Ok(Value::Bool(value))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
                Ok(Value::Unsigned(value))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
                Ok(Value::Negative(value))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
                Ok(Value::Float(value))
            }

            fn visit_str<E>(self, value: &str) -> Result<Value, E> {
                Ok(Value::Text(value.to_owned()))
            }

            fn visit_newtype_struct<D: Deserializer<'de>>(self, extension: D) -> Result<Value, D::Error> {
                let (kind, bytes) = <(i8, serde_bytes_of::Bytes)>::deserialize(extension)?;
                assert_eq!(kind, -1, "a timestamp");
                Ok(timestamp(&bytes.0))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
                let mut values = Vec::new();
                while let Some(value) = list.next_element()? {
                    values.push(value);
                }
                Ok(Value::Array(values))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
                let mut map = BTreeMap::new();
                while let Some((key, value)) = entries.next_entry::<String, Value>()? {
                    assert!(map.insert(key, value).is_none(), "a key is there once");
                }
                Ok(Value::Map(map))
            }
        }

        from.deserialize_any(Any)
    }
}

/// Bytes of an extension, which serde has no owned type for.
mod serde_bytes_of {
    pub(super) struct Bytes(pub(super) Vec<u8>);

    impl<'de> serde::Deserialize<'de> for Bytes {
        fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Bytes, D::Error> {
            struct Owned;

            impl serde::de::Visitor<'_> for Owned {
                type Value = Bytes;

                fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    out.write_str("bytes")
                }

                fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Bytes, E> {
                    Ok(Bytes(bytes.to_vec()))
                }
            }

            from.deserialize_bytes(Owned)
        }
    }
}

/// The timestamp extension's three forms, by MessagePack's specification.
fn timestamp(bytes: &[u8]) -> Value {
    match bytes.len() {
        4 => Value::Time(u64::from(u32::from_be_bytes(bytes.try_into().unwrap())), 0),
        8 => {
            let word = u64::from_be_bytes(bytes.try_into().unwrap());
            Value::Time(word & 0x3_ffff_ffff, (word >> 34) as u32)
        }
        12 => Value::Time(
            u64::from_be_bytes(bytes[4..].try_into().unwrap()),
            u32::from_be_bytes(bytes[..4].try_into().unwrap()),
        ),
        length => panic!("a timestamp of {length} bytes"),
    }
}

/// The next message, the only one in its frame.
#[track_caller]
fn receive(client: &mut Client) -> BTreeMap<String, Value> {
    let bytes = client.next_binary().unwrap_or_else(|end| panic!("the connection has ended: {end:?}"));
    match rmp_serde::from_slice(&bytes).unwrap() {
        Value::Array(mut messages) if messages.len() == 1 => match messages.remove(0) {
            Value::Map(message) => message,
            other => panic!("no map: {other:?}"),
        },
        other => panic!("no array of one message: {other:?}"),
    }
}

fn text(value: &str) -> Value {
    Value::Text(value.to_owned())
}

/// The next message of a type.
#[track_caller]
fn receive_of(client: &mut Client, kind: &str) -> BTreeMap<String, Value> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let message = receive(client);
        if message["T"] == text(kind) {
            return message;
        }
        assert!(Instant::now() < deadline, "no {kind} came, but {message:?}");
    }
}

fn send(client: &mut Client, request: Json) {
    client.send_binary(&rmp_serde::to_vec_named(&request).unwrap());
}

fn open(gateway: &Running, path: &str, headers: &[(&str, &str)]) -> Client {
    let mut client = Client::upgrade(gateway.address, path, headers).unwrap();
    let greeting = receive(&mut client);
    assert_eq!(greeting, BTreeMap::from([("T".to_owned(), text("success")), ("msg".to_owned(), text("connected"))]));
    client
}

fn signed_in(gateway: &Running, path: &str, headers: &[(&str, &str)]) -> Client {
    let mut client = open(gateway, path, headers);
    let user = &gateway.users[1];
    send(&mut client, json!({"action": "auth", "key": user.key, "secret": user.secret}));
    let answer = receive(&mut client);
    assert_eq!((&answer["msg"], &answer["user"]), (&text("authenticated"), &text("demo-premium")));
    client
}

const HEADER: [(&str, &str); 1] = [("Content-Type", "application/msgpack")];

fn started(venue: &Venue) -> (Running, Line) {
    let gateway = start(&venue.settings(r#"["BTC-USD","ETH-USD"]"#));
    let line = venue.accept();
    (gateway, line)
}

#[test]
fn a_session_from_the_sign_in_to_the_close() {
    let venue = Venue::bind();
    let (gateway, mut line) = started(&venue);
    let mut client = signed_in(&gateway, "/v1beta3/crypto/us", &HEADER);
    let request = json!({"action": "subscribe", "id": "first", "trades": ["BTC/USD", "NOPE/USD"], "quotes": ["*"], "updatedBars": ["BTC/USD"]});
    send(&mut client, request);
    let error = receive_of(&mut client, "error");
    assert_eq!((&error["code"], &error["S"], &error["id"]), (&Value::Unsigned(420), &text("NOPE/USD"), &text("first")));
    let answer = receive_of(&mut client, "subscription");
    assert_eq!(answer["trades"], Value::Array(vec![text("BTC/USD")]));
    assert_eq!((&answer["bars"], &answer["id"]), (&Value::Array(vec![]), &text("first")));
    line.trade("BTC-USD", "83425.96");
    let trade = receive_of(&mut client, "t");
    assert_eq!((&trade["S"], &trade["x"], &trade["tks"]), (&text("BTC/USD"), &text("COINBASE"), &text("S")));
    assert_eq!((&trade["p"], &trade["s"]), (&Value::Float(83425.96), &Value::Float(0.5)));
    assert_eq!((&trade["i"], &trade["seq"]), (&Value::Unsigned(1), &Value::Unsigned(1)));
    assert_eq!(trade["t"], Value::Time(1_767_225_600, 1_000_000));
    assert!(matches!(trade["rx"], Value::Unsigned(ns) if ns > 1_700_000_000_000_000_000));
    let bar = receive_of(&mut client, "u");
    assert_eq!(
        (&bar["c"], &bar["n"], &bar["t"]),
        (&Value::Float(83425.96), &Value::Unsigned(1), &Value::Time(1_767_225_600, 0))
    );
    line.quote("ETH-USD", "10.25", "10.50");
    let quote = receive_of(&mut client, "q");
    let told = ["bp", "bs", "ap", "as"].map(|key| quote[key].clone());
    assert_eq!(told, [10.25, 1.5, 10.5, 2.25].map(Value::Float));
    line.lose_trades("BTC-USD", 2);
    line.trade("BTC-USD", "1");
    let gap = receive_of(&mut client, "gap");
    assert_eq!((&gap["missed"], &gap["reason"]), (&Value::Unsigned(2), &text("venue")));
    send(&mut client, json!({"action": "unsubscribe", "id": 2, "trades": ["BTC/USD"], "updatedBars": ["BTC/USD"]}));
    let answer = receive_of(&mut client, "subscription");
    assert_eq!((&answer["trades"], &answer["id"]), (&Value::Array(vec![]), &Value::Unsigned(2)));
    client.send_frame(Opcode::Close, &1000u16.to_be_bytes());
    assert_eq!(client.next_binary(), Err(End::Closed(1000, "normal".into())));
}

#[test]
fn both_encodings_say_the_same() {
    let venue = Venue::bind();
    let (gateway, mut line) = started(&venue);
    let mut packed = signed_in(&gateway, "/stream?encoding=msgpack", &[]);
    send(&mut packed, json!({"action": "subscribe", "trades": ["*"]}));
    receive_of(&mut packed, "subscription");
    let mut plain = gateway.premium();
    plain.subscribe(r#"{"action":"subscribe","trades":["*"]}"#);
    line.trades("BTC-USD", 50);
    line.trades("ETH-USD", 50);
    for _ in 0..100 {
        let (packed, plain) = (receive_of(&mut packed, "t"), plain.receive_of(&["t"]));
        let keys: Vec<&String> = plain.value.as_object().unwrap().keys().collect();
        assert_eq!(packed.keys().collect::<Vec<_>>(), keys);
        for key in ["i", "rx", "seq"] {
            assert_eq!(packed[key], Value::Unsigned(plain.number(key)));
        }
        for key in ["p", "s"] {
            assert_eq!(packed[key], Value::Float(plain.digits(key).parse().unwrap()));
        }
        assert_eq!((&packed["S"], &packed["tks"]), (&text(plain.symbol()), &text(plain["tks"].as_str().unwrap())));
    }
}

#[test]
fn what_came_while_nobody_listened_in_messagepack_is_resumed_in_it() {
    let venue = Venue::bind();
    let (gateway, mut line) = started(&venue);
    let mut plain = gateway.premium();
    let epoch = plain.subscribe(r#"{"action":"subscribe","trades":["BTC/USD"]}"#)["epoch"].clone();
    line.trades("BTC-USD", 20);
    line.quote("BTC-USD", "10.25", "10.50");
    plain.receive_many(&["t"], 20);
    let mut client = signed_in(&gateway, "/stream", &HEADER);
    let since = json!({"epoch": epoch, "trades": {"BTC/USD": 5}});
    send(&mut client, json!({"action": "subscribe", "trades": ["BTC/USD"], "since": since}));
    for seq in 6..=20 {
        assert_eq!(receive_of(&mut client, "t")["seq"], Value::Unsigned(seq));
    }
    // The last quote, too, though nobody had asked for it in this encoding.
    send(&mut client, json!({"action": "subscribe", "quotes": ["BTC/USD"]}));
    assert_eq!(receive_of(&mut client, "q")["bp"], Value::Float(10.25));
}

#[test]
fn bad_messagepack_gets_a_clear_answer() {
    let venue = Venue::bind();
    let (gateway, _line) = started(&venue);
    let mut client = signed_in(&gateway, "/stream", &HEADER);
    let nested = |depth: usize| [vec![0x91; depth], vec![0xc0]].concat();
    let request = rmp_serde::to_vec_named(&json!({"action": "subscribe"})).unwrap();
    for bytes in [
        &[][..],
        &[0xc1],
        // A map and a text that claim more than is there.
        &[0xdf, 0xff, 0xff, 0xff, 0xff],
        &[0xdb, 0x7f, 0xff, 0xff, 0xff, b'x'],
        &[0x90],
        &nested(60_000),
        &request[..request.len() - 1],
        &[&request[..], &[0xc0]].concat(),
        br#"{"action":"subscribe"}"#,
    ] {
        client.send_binary(bytes);
        assert_eq!(
            receive_of(&mut client, "error")["code"],
            Value::Unsigned(400),
            "{:?}",
            &bytes[..bytes.len().min(20)]
        );
    }
    client.send_binary(&request);
    receive_of(&mut client, "subscription");
    // Text where binary belongs ends it.
    client.send(r#"{"action":"subscribe"}"#);
    assert_eq!(receive_of(&mut client, "error")["code"], Value::Unsigned(400));
    assert_eq!(client.next_binary(), Err(End::Closed(1003, "unsupported data".into())));
    // A sign-in that fails is told in MessagePack.
    let mut client = open(&gateway, "/stream", &HEADER);
    send(&mut client, json!({"action": "auth", "key": "nobody", "secret": "x"}));
    assert_eq!(receive(&mut client)["code"], Value::Unsigned(402));
    assert_eq!(client.next_binary(), Err(End::Closed(3500, "auth failed".into())));
    gateway.serves();
}
