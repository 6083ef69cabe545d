//! Documents: messages whose fields come as they are from elsewhere, such as a trading signal from the platform. What does
//! not depend on the stream is written once, when the document is made; the stream adds time and number.

use serde_json::{Map, Value};

use super::{Stamp, json, msgpack};
use crate::Encoding;
use crate::frame::encode_frame_with;

/// Most fields of a document, nested ones not counted: as many as fit the short form of a MessagePack map, less those of
/// the stream.
pub const DOCUMENT_FIELDS_MAX: usize = 200;

/// A message of which everything is written but `t`, `rx` and `seq`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// From the array's bracket to the end of the last field.
    json: Box<[u8]>,
    msgpack: Box<[u8]>,
}

/// The document has more fields than [`DOCUMENT_FIELDS_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{fields} fields, and at most {DOCUMENT_FIELDS_MAX} are taken")]
pub struct TooManyFields {
    pub fields: usize,
}

impl Document {
    /// A document with the tag `T`, the symbol `S`, and these fields. Fields of the names that the message itself has are left
    /// out.
    ///
    /// # Errors
    /// [`TooManyFields`].
    pub fn new(tag: &str, symbol: &str, fields: &Map<String, Value>) -> Result<Document, TooManyFields> {
        if fields.len() > DOCUMENT_FIELDS_MAX {
            return Err(TooManyFields { fields: fields.len() });
        }
        let fields = || fields.iter().filter(|(key, _)| !matches!(key.as_str(), "T" | "S" | "t" | "rx" | "seq"));
        let (mut text, mut packed) = (Vec::new(), Vec::new());
        json::document(tag, symbol, fields(), &mut text);
        msgpack::document(tag, symbol, fields().count(), fields(), &mut packed);
        Ok(Document { json: text.into(), msgpack: packed.into() })
    }

    /// Appends the message as one server frame.
    pub fn encode(&self, encoding: Encoding, stamp: Stamp, out: &mut Vec<u8>) {
        encode_frame_with(encoding.opcode(), out, |out| match encoding {
            Encoding::Json => {
                out.extend_from_slice(&self.json);
                json::end(stamp, out);
            }
            Encoding::MessagePack => {
                out.extend_from_slice(&self.msgpack);
                msgpack::end(stamp, out);
            }
        });
    }

    /// Bytes that it holds.
    pub fn bytes(&self) -> usize {
        self.json.len() + self.msgpack.len()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::TickFlags;
    use crate::frame::server_frame;

    const STAMP: Stamp = Stamp {
        seq: 7,
        ts_event: 1_790_733_794_331_000_000,
        ts_recv: 1_790_733_794_340_111_222,
        flags: TickFlags::NONE,
    };

    fn fields(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(fields) => fields,
            _ => panic!("an object"),
        }
    }

    #[test]
    fn both_encodings_say_the_same() {
        let fields = fields(json!({
            "id": "a\"b", "entry_price": 83425.9601, "analysis_data": {"rsi": [1, -2, null, true]}, "seq": 1, "T": "x",
        }));
        let document = Document::new("signal", "BTC/USD", &fields).unwrap();
        let mut frame = Vec::new();
        document.encode(Encoding::Json, STAMP, &mut frame);
        let text = String::from_utf8(server_frame(&frame).unwrap().1.to_vec()).unwrap();
        let head = r#"[{"T":"signal","S":"BTC/USD","analysis_data":{"rsi":[1,-2,null,true]},"entry_price":83425.9601,"id":"a\"b","#;
        let tail = r#""t":"2026-09-30T02:03:14.331Z","rx":1790733794340111222,"seq":7}]"#;
        assert_eq!(text, format!("{head}{tail}"));
        let mut frame = Vec::new();
        document.encode(Encoding::MessagePack, STAMP, &mut frame);
        let packed = server_frame(&frame).unwrap().1.to_vec();
        assert_eq!(packed[..2], [0x91, 0x88]);
        let from_text: Value = serde_json::from_str(&text).unwrap();
        let position = packed.windows(3).position(|window| window == [0xa1, b't', 0xd7]).unwrap();
        // The timestamp is an extension, which a plain value has no place for.
        let mut plain = packed[..position].to_vec();
        plain[1] = 0x85;
        let from_packed: Value = rmp_serde::from_slice(&plain).unwrap();
        for key in ["T", "S", "id", "entry_price", "analysis_data"] {
            assert_eq!(from_packed[0][key], from_text[0][key], "{key}");
        }
    }

    #[test]
    fn fields_are_bounded() {
        let many = |count: usize| (0..count).map(|i| (format!("f{i}"), Value::Null)).collect::<Map<_, _>>();
        assert!(Document::new("signal", "A", &many(DOCUMENT_FIELDS_MAX)).is_ok());
        let fields = DOCUMENT_FIELDS_MAX + 1;
        assert_eq!(Document::new("signal", "A", &many(fields)), Err(TooManyFields { fields }));
    }
}
