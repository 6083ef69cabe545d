//! Reading our own frames back in tests, with decoders that are not ours.

use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::frame::server_frame;
use crate::{Encoding, format_rfc3339};

/// The one message in the one frame that `bytes` is. A MessagePack timestamp comes back as RFC 3339, so that both
/// encodings of a message read alike.
#[track_caller]
pub(crate) fn read_back(encoding: Encoding, bytes: &[u8]) -> Value {
    let (opcode, payload) = server_frame(bytes).expect("a complete frame");
    assert_eq!(opcode, encoding.opcode());
    assert_eq!(crate::frame::frame_len(bytes), Some(bytes.len()), "one frame");
    let value = match encoding {
        Encoding::Json => serde_json::from_slice(payload).expect("JSON"),
        Encoding::MessagePack => {
            let mut rest = payload;
            let Node(value) = Node::deserialize(&mut rmp_serde::Deserializer::new(&mut rest)).expect("MessagePack");
            assert!(rest.is_empty(), "bytes behind the message");
            value
        }
    };
    match value {
        Value::Array(mut messages) if messages.len() == 1 => messages.remove(0),
        other => panic!("no array of one: {other}"),
    }
}

/// The payload of a JSON frame, as text.
#[track_caller]
pub(crate) fn json_text(bytes: &[u8]) -> &str {
    std::str::from_utf8(server_frame(bytes).expect("a complete frame").1).expect("UTF-8")
}

struct Node(Value);

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a message")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node(value.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(Node(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Node(list.into()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut map = Map::new();
        while let Some((key, Node(value))) = entries.next_entry::<String, Node>()? {
            assert!(map.insert(key, value).is_none(), "a key twice");
        }
        Ok(Node(map.into()))
    }

    /// An extension. The layouts are those of the MessagePack specification, read independently of the encoder.
    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        struct Bytes(Vec<u8>);
        impl<'de> Deserialize<'de> for Bytes {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
                struct BytesVisitor;
                impl Visitor<'_> for BytesVisitor {
                    type Value = Bytes;
                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("bytes")
                    }
                    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Bytes, E> {
                        Ok(Bytes(bytes.into()))
                    }
                }
                deserializer.deserialize_bytes(BytesVisitor)
            }
        }
        let (tag, Bytes(bytes)) = <(i8, Bytes)>::deserialize(deserializer)?;
        assert_eq!(tag, -1, "only timestamps are extensions");
        let (seconds, nanos) = match bytes.len() {
            4 => (i64::from(u32::from_be_bytes(bytes.try_into().unwrap())), 0),
            8 => {
                let both = u64::from_be_bytes(bytes.try_into().unwrap());
                ((both & 0x3_ffff_ffff) as i64, (both >> 34) as i64)
            }
            _ => {
                let nanos = u32::from_be_bytes(bytes[..4].try_into().unwrap());
                (i64::from_be_bytes(bytes[4..].try_into().unwrap()), i64::from(nanos))
            }
        };
        assert!((0..1_000_000_000).contains(&nanos));
        let mut text = Vec::new();
        let ns = i64::try_from(i128::from(seconds) * 1_000_000_000 + i128::from(nanos)).expect("an i64 of ns");
        format_rfc3339(ns, &mut text);
        Ok(Node(String::from_utf8(text).unwrap().into()))
    }
}
