//! Alpaca's frames in MessagePack: the same maps as in JSON, with floats for prices and timestamps for times.
//!
//! Pure, as its twin [`super::alpaca`], which says what the fields mean. A price comes as a float and leaves as the
//! shortest decimal that is that float, which is what the JSON of the same message shows.
//!
//! Deliberately absent: binary texts, and maps with keys that are no texts, whose values are stepped over.

use protocol::Decimal;

use super::alpaca::{Element, Field};
use super::event::{EMPTY_LIST, Event, NO_OBJECT};
use super::msgpack::{Reader, Value};
use super::{DecodeError, Reason};

/// Decodes one frame in MessagePack and hands its events to `on_event`, in order. Never panics, whatever the bytes.
///
/// # Errors
/// [`DecodeError`] where the frame is no MessagePack array. No event has been handed out then.
pub fn decode_msgpack<'a>(frame: &'a [u8], on_event: &mut impl FnMut(Event<'a>)) -> Result<(), DecodeError> {
    let mut reader = Reader::new(frame);
    let Value::Array(count) = reader.value()? else {
        return Err(DecodeError::Field { field: "frame", reason: Reason::FieldType });
    };
    reader.end()?;
    reader = Reader::new(frame);
    reader.head()?;
    for _ in 0..count {
        let head = reader.head()?;
        let Value::Map(pairs) = head else {
            reader.parts(head)?;
            on_event(NO_OBJECT);
            continue;
        };
        let mut element = Element::filled(Value::Absent);
        for _ in 0..pairs {
            let key = reader.value()?;
            let value = reader.value()?;
            if let Value::Text(key) = key {
                element.set(key, value);
            }
        }
        on_event(element.event());
    }
    if count == 0 {
        on_event(EMPTY_LIST);
    }
    Ok(())
}

impl<'a> Field<'a> for Value<'a> {
    fn plain(self) -> Result<&'a [u8], Reason> {
        Value::plain(self)
    }

    fn decimal(self) -> Result<Option<Decimal>, Reason> {
        Value::decimal(self)
    }

    fn integer(self) -> Result<Option<u64>, Reason> {
        Value::integer(self)
    }

    fn time(self) -> Result<Option<i64>, Reason> {
        Value::time(self)
    }

    fn shown(self) -> &'a [u8] {
        Value::shown(self)
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::{Part, Symbol};
    use super::super::{alpaca, testing};
    use super::*;

    /// A MessagePack value to be written by the `rmp` crate.
    enum Packed<'a> {
        Nil,
        Int(i64),
        Float(f64),
        Text(&'a str),
        /// Unix ns, as the shortest timestamp that holds it.
        Time(i64),
        List(Vec<Packed<'a>>),
        Map(Vec<(Packed<'a>, Packed<'a>)>),
    }
    use Packed::{Float, Int, List, Map, Nil, Text, Time};

    impl Packed<'_> {
        fn write(&self, out: &mut Vec<u8>) {
            match self {
                Nil => rmp::encode::write_nil(out).unwrap(),
                Int(n) => drop(rmp::encode::write_sint(out, *n).unwrap()),
                Float(n) => rmp::encode::write_f64(out, *n).unwrap(),
                Text(text) => rmp::encode::write_str(out, text).unwrap(),
                Time(time) => {
                    let (seconds, nanos) = (time.div_euclid(1_000_000_000), time.rem_euclid(1_000_000_000));
                    let data = match (u32::try_from(seconds), u64::try_from(seconds)) {
                        (Ok(seconds), _) if nanos == 0 => seconds.to_be_bytes().to_vec(),
                        (_, Ok(seconds)) if seconds >> 34 == 0 => {
                            ((nanos as u64) << 34 | seconds).to_be_bytes().to_vec()
                        }
                        _ => [&(nanos as u32).to_be_bytes()[..], &seconds.to_be_bytes()].concat(),
                    };
                    rmp::encode::write_ext_meta(out, data.len() as u32, -1).unwrap();
                    out.extend(data);
                }
                List(elements) => {
                    rmp::encode::write_array_len(out, elements.len() as u32).unwrap();
                    elements.iter().for_each(|element| element.write(out));
                }
                Map(pairs) => {
                    rmp::encode::write_map_len(out, pairs.len() as u32).unwrap();
                    for (key, value) in pairs {
                        key.write(out);
                        value.write(out);
                    }
                }
            }
        }
    }

    fn packed(value: &Packed<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        value.write(&mut out);
        out
    }

    fn map<'a, const N: usize>(pairs: [(&'a str, Packed<'a>); N]) -> Packed<'a> {
        Map(pairs.into_iter().map(|(key, value)| (Text(key), value)).collect())
    }

    fn events(frame: &[u8]) -> Result<Vec<Event<'_>>, DecodeError> {
        testing::events(|mut on_event| decode_msgpack(frame, &mut on_event))
    }

    /// The events, with the digits of their numbers, are those of the same message in JSON.
    #[track_caller]
    fn check(message: Packed<'_>, json: &str) {
        let expected = testing::events(|mut on_event| alpaca::decode(json.as_bytes(), &mut on_event)).unwrap();
        let frame = packed(&message);
        testing::check(json, events(&frame), Ok(&expected));
        for end in 0..frame.len() {
            assert_eq!(events(&frame[..end]), Err(DecodeError::Truncated { offset: end }), "{json}");
        }
    }

    fn trade() -> Packed<'static> {
        map([
            ("T", Text("t")),
            ("S", Text("AAPL")),
            ("i", Int(52_983_525_033_527)),
            ("x", Text("P")),
            ("p", Float(162.91)),
            ("s", Int(71)),
            ("c", List(vec![Text("@"), Text("F")])),
            ("z", Text("C")),
            ("t", Time(1_680_782_066_839_159_730)),
        ])
    }
    const TRADE: &str = r#"{"T":"t","S":"AAPL","i":52983525033527,"x":"P","p":162.91,"s":71,"c":["@","F"],"z":"C","t":"2023-04-06T11:54:26.83915973Z"}"#;

    #[test]
    fn says_what_the_json_says() {
        check(List(vec![trade()]), &format!("[{TRADE}]"));
        let bitcoin = [
            ("T", Text("t")),
            ("S", Text("BTC/USD")),
            ("i", Int(7_456_836_641_300_628_344)),
            ("p", Float(66_832.6)),
            ("s", Float(0.000946)),
            ("t", Time(1_775_276_072_161_121_311)),
            ("tks", Text("B")),
        ];
        check(
            List(vec![map(bitcoin)]),
            r#"[{"T":"t","S":"BTC/USD","i":7456836641300628344,"p":66832.6,"s":0.000946,"t":"2026-04-04T04:14:32.161121311Z","tks":"B"}]"#,
        );
        check(
            List(vec![map([
                ("T", Text("q")),
                ("S", Text("AMD")),
                ("bx", Text("K")),
                ("bp", Float(91.95)),
                ("bs", Int(2)),
                ("ap", Float(0.0)),
                ("as", Int(0)),
                ("t", Time(1_614_021_300_000_000_000)),
            ])]),
            r#"[{"T":"q","S":"AMD","bx":"K","bp":91.95,"bs":2,"ap":0,"as":0,"t":"2021-02-22T19:15:00Z"}]"#,
        );
        for kind in ["b", "u", "d"] {
            check(
                List(vec![map([
                    ("T", Text(kind)),
                    ("S", Text("SPY")),
                    ("o", Float(388.985)),
                    ("h", Float(389.0)),
                    ("l", Float(388.975)),
                    ("c", Float(389.0)),
                    ("v", Int(49_378)),
                    ("n", Int(461)),
                    ("vw", Float(389.062639)),
                    ("t", Time(-1)),
                ])]),
                &format!(
                    r#"[{{"T":"{kind}","S":"SPY","o":388.985,"h":389,"l":388.975,"c":389,"v":49378,"n":461,"vw":389.062639,"t":"1969-12-31T23:59:59.999999999Z"}}]"#
                ),
            );
        }
        check(
            List(vec![
                map([("T", Text("success")), ("msg", Text("connected"))]),
                map([("T", Text("subscription")), ("trades", List(vec![Text("AAPL")]))]),
                map([("T", Text("error")), ("code", Int(406)), ("msg", Text("connection limit exceeded"))]),
                map([("T", Text("x")), ("S", Text("AAPL"))]),
                trade(),
            ]),
            &format!(
                r#"[{{"T":"success","msg":"connected"}},{{"T":"subscription","trades":["AAPL"]}},{{"T":"error","code":406,"msg":"connection limit exceeded"}},{{"T":"x","S":"AAPL"}},{TRADE}]"#
            ),
        );
        check(List(vec![]), "[]");
        // More elements than a short head counts.
        check(List((0..20).map(|_| trade()).collect()), &format!("[{}]", [TRADE; 20].join(",")));
    }

    #[test]
    fn marks_what_cannot_be_believed() {
        check(
            List(vec![trade(), Int(7), map([("S", Text("AAPL"))]), map([("T", Int(7))]), Nil, List(vec![trade()])]),
            &format!(r#"[{TRADE},7,{{"S":"AAPL"}},{{"T":7}},null,[{TRADE}]]"#),
        );
        check(
            List(vec![map([("T", Text("t")), ("S", Text("AAPL")), ("p", Nil)])]),
            r#"[{"T":"t","S":"AAPL","p":null}]"#,
        );
        let invalid = |pair: (&'static str, Packed<'static>), reason| {
            let key = pair.0;
            let Map(mut pairs) = trade() else { unreachable!("a trade is a map") };
            pairs.retain(|(old, _)| !matches!(old, Text(old) if *old == key));
            pairs.push((Text(key), pair.1));
            let frame = packed(&List(vec![Map(pairs)]));
            let symbol = Some(Symbol::Text(b"AAPL"));
            assert_eq!(events(&frame), Ok(vec![Event::Invalid { symbol, part: Part::Trade, reason }]), "{key}");
        };
        invalid(("p", Float(f64::NAN)), Reason::Number);
        invalid(("p", Float(1e300)), Reason::NumberRange);
        invalid(("p", List(vec![])), Reason::FieldType);
        invalid(("t", Int(1_680_782_066)), Reason::FieldType);
        invalid(("t", Time(i64::MIN)), Reason::Time);
        invalid(("t", Text("0001-01-01T00:00:00Z")), Reason::Time);
    }

    #[test]
    fn keys_that_are_no_texts_are_stepped_over() {
        let Map(mut pairs) = trade() else { unreachable!("a trade is a map") };
        pairs.insert(0, (Int(7), trade()));
        pairs.insert(3, (List(vec![Text("p")]), Map(vec![(Nil, Nil)])));
        pairs.push((Text("new"), map([("p", Int(1))])));
        check(List(vec![Map(pairs)]), &format!("[{TRADE}]"));
    }

    #[test]
    fn refuses_frames_that_are_no_list() {
        let error = DecodeError::Field { field: "frame", reason: Reason::FieldType };
        assert_eq!(events(&packed(&trade())), Err(error));
        assert_eq!(events(b"\xc0"), Err(error));
        assert_eq!(events(b"\xc1"), Err(DecodeError::Syntax { offset: 0 }));
        assert_eq!(events(b"\x90\x90"), Err(DecodeError::Syntax { offset: 1 }));
        // A fault at the end of the frame lets nothing of its beginning out.
        let mut frame = packed(&List(vec![trade(), Nil]));
        *frame.last_mut().unwrap() = 0xc1;
        assert_eq!(events(&frame), Err(DecodeError::Syntax { offset: frame.len() - 1 }));
    }
}
