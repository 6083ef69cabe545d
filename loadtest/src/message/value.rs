//! JSON and MessagePack as one tree of values. Unlike serde_json's own reading it refuses a key that is there twice, and it
//! reads a MessagePack timestamp as the RFC 3339 text that it is in JSON.

use std::fmt;

use protocol::{Encoding, format_rfc3339};
use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

/// Deepest nesting that is read; a heartbeat has 4 levels.
const DEPTH_MAX: usize = 16;

/// The whole payload as one value.
///
/// # Errors
/// In words, where and what is wrong.
pub(super) fn read(encoding: Encoding, payload: &[u8]) -> Result<Value, String> {
    match encoding {
        Encoding::Json => {
            let mut reader = serde_json::Deserializer::from_slice(payload);
            let value = Node { depth: 0 }.deserialize(&mut reader).map_err(|e| format!("no JSON: {e}"))?;
            reader.end().map_err(|e| format!("no JSON: {e}"))?;
            Ok(value)
        }
        Encoding::MessagePack => {
            let mut rest = payload;
            let mut reader = rmp_serde::Deserializer::new(&mut rest);
            reader.set_max_depth(DEPTH_MAX);
            let value = Node { depth: 0 }.deserialize(&mut reader).map_err(|e| format!("no MessagePack: {e}"))?;
            drop(reader);
            if rest.is_empty() { Ok(value) } else { Err("bytes behind the MessagePack".to_owned()) }
        }
    }
}

/// Unix ns of a MessagePack timestamp of 4, 8 or 12 bytes; `None` for any other length, and for times that no `i64` of ns holds.
pub fn timestamp_ns(bytes: &[u8]) -> Option<i64> {
    let (seconds, nanos) = match bytes.len() {
        4 => (i64::from(u32::from_be_bytes(bytes.try_into().ok()?)), 0),
        8 => {
            let both = u64::from_be_bytes(bytes.try_into().ok()?);
            ((both & 0x3_ffff_ffff) as i64, (both >> 34) as i64)
        }
        12 => {
            let (nanos, seconds) = bytes.split_at(4);
            let nanos = u32::from_be_bytes(nanos.try_into().ok()?);
            (i64::from_be_bytes(seconds.try_into().ok()?), i64::from(nanos))
        }
        _ => return None,
    };
    if nanos > 999_999_999 {
        return None;
    }
    i64::try_from(i128::from(seconds) * 1_000_000_000 + i128::from(nanos)).ok()
}

#[derive(Clone, Copy)]
struct Node {
    depth: usize,
}

impl Node {
    fn inner<E: serde::de::Error>(self) -> Result<Node, E> {
        if self.depth < DEPTH_MAX { Ok(Node { depth: self.depth + 1 }) } else { Err(E::custom("nested too deeply")) }
    }
}

impl<'de> DeserializeSeed<'de> for Node {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a message")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inner = self.inner()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(inner)? {
            list.push(item);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let inner = self.inner()?;
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let value = entries.next_value_seed(inner)?;
            if map.insert(key, value).is_some() {
                return Err(A::Error::custom("a key twice in one map"));
            }
        }
        Ok(map.into())
    }

    /// An extension of MessagePack.
    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        let (tag, Bytes(bytes)) = <(i8, Bytes)>::deserialize(deserializer)?;
        let ns = (tag == -1).then(|| timestamp_ns(&bytes)).flatten();
        let ns = ns.ok_or_else(|| D::Error::custom("an extension that is no timestamp"))?;
        let mut text = Vec::with_capacity(30);
        format_rfc3339(ns, &mut text);
        Ok(String::from_utf8_lossy(&text).into_owned().into())
    }
}

struct Bytes(Vec<u8>);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        struct BytesVisitor;
        impl Visitor<'_> for BytesVisitor {
            type Value = Bytes;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the bytes of an extension")
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes(bytes.into()))
            }
        }
        deserializer.deserialize_bytes(BytesVisitor)
    }
}
