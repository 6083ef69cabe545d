//! Damaged Alpaca frames in JSON and in MessagePack: whatever happens to the bytes of a frame, the decoders do not
//! panic, lose no element, and say no number that is not there.

mod damage;

use damage::json::{Outcome, check_list, is_top, json_frames, undamaged};
use damage::{damaged, is, numbers, outcome};
use feed_handlers::decode::alpaca::{decode, decode_msgpack};
use feed_handlers::decode::event::{Event, Top};
use proptest::prelude::*;
use protocol::Decimal;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

const FRAMES: [&str; 4] = [
    r#"[{"T":"t","S":"AAPL","i":1465,"x":"P","p":162.91,"s":71,"c":["@","F","T","I"],"z":"C","t":"2023-04-06T11:54:26.83915973Z"},{"T":"q","S":"AMD","bx":"K","bp":91.95,"bs":2,"ax":"Q","ap":91.98,"as":1,"c":["R"],"z":"C","t":"2023-04-06T11:54:21.670905508Z"}]"#,
    r#"[{"T":"b","S":"SPY","o":388.985,"h":389.13,"l":388.975,"c":389.12,"v":49378,"n":461,"vw":389.062639,"t":"2021-02-22T19:15:00Z"}]"#,
    r#"[{"T":"success","msg":"authenticated"},{"T":"subscription","trades":["AAPL"],"bars":["AAPL"]}]"#,
    r#"[{"T":"error","code":406,"msg":"connection limit exceeded"},{"T":"x","S":"GOOGL","i":465,"p":105.31,"s":300,"a":"C"}]"#,
];

fn read(frame: &[u8]) -> Outcome<'_> {
    outcome(frame, |frame, mut on_event| decode(frame, &mut on_event))
}

fn msgpack(frame: &str) -> Vec<u8> {
    rmp_serde::to_vec(&serde_json::from_str::<Value>(frame).unwrap()).unwrap()
}

fn msgpack_frames() -> impl Strategy<Value = Vec<u8>> {
    // Heads of values of all kinds, and small numbers, which are lengths.
    let telling =
        b"\x00\x01\x02\x80\x81\x90\x91\xa0\xa1\xa2\xc0\xc1\xc2\xc4\xc7\xca\xcb\xcc\xcf\xd3\xd6\xd7\xd9\xdc\xdf\xff";
    damaged(FRAMES.map(msgpack).to_vec(), telling)
}

/// Whether another parser finds in the element what the event says.
fn agrees(element: &Value, event: &Event<'_>) -> bool {
    let side = |top: Option<Top>, price: &str, size: &str| is_top(element, top, price, size);
    match event {
        Event::Trade(trade) => is(&element["p"], trade.price) && is(&element["s"], trade.size),
        Event::Quote(quote) => side(quote.bid, "bp", "bs") && side(quote.ask, "ap", "as"),
        Event::Bar(bar) => {
            let prices = [("o", bar.open), ("h", bar.high), ("l", bar.low), ("c", bar.close), ("v", bar.volume)];
            prices.into_iter().chain(bar.vwap.map(|vwap| ("vw", vwap))).all(|(key, price)| is(&element[key], price))
        }
        Event::Ignored { kind } => element["T"].as_str().map(str::as_bytes) == Some(kind),
        Event::Control(_) => element["T"].is_string(),
        Event::Invalid { .. } => true,
        other => panic!("{other:?}"),
    }
}

/// What another reader finds in a MessagePack frame: its numbers, and how many elements its outermost list has.
#[derive(Default)]
struct Found {
    numbers: Vec<Decimal>,
    elements: Option<usize>,
}

impl Found {
    fn of(text: &str) -> Found {
        Found { numbers: Decimal::parse(text.as_bytes()).into_iter().collect(), elements: None }
    }
}

impl<'de> Deserialize<'de> for Found {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Found, D::Error> {
        deserializer.deserialize_any(Numbers)
    }
}

struct Numbers;

impl<'de> Visitor<'de> for Numbers {
    type Value = Found;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("anything")
    }

    fn visit_unit<E>(self) -> Result<Found, E> {
        Ok(Found::default())
    }

    fn visit_bool<E>(self, _: bool) -> Result<Found, E> {
        Ok(Found::default())
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Found, E> {
        Ok(Found::of(&String::from_utf8_lossy(bytes)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Found, E> {
        Ok(Found::of(text))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Found, E> {
        Ok(Found::of(&number.to_string()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Found, E> {
        Ok(Found::of(&number.to_string()))
    }

    fn visit_f32<E>(self, number: f32) -> Result<Found, E> {
        Ok(Found::of(&number.to_string()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Found, E> {
        Ok(Found::of(&number.to_string()))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, extension: D) -> Result<Found, D::Error> {
        serde::de::IgnoredAny::deserialize(extension).map(|_| Found::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Found, A::Error> {
        let (mut numbers, mut elements) = (Vec::new(), 0);
        while let Some(element) = list.next_element::<Found>()? {
            numbers.extend(element.numbers);
            elements += 1;
        }
        Ok(Found { numbers, elements: Some(elements) })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Found, A::Error> {
        let mut numbers = Vec::new();
        while let Some((key, value)) = map.next_entry::<Found, Found>()? {
            numbers.extend(key.numbers.into_iter().chain(value.numbers));
        }
        Ok(Found { numbers, elements: None })
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_damage_to_json_makes_a_number_up_or_loses_an_element(frame in json_frames(&FRAMES)) {
        check_list(&frame, read(&frame), agrees)?;
    }

    #[test]
    fn no_damage_to_msgpack_makes_a_number_up_or_loses_an_element(frame in msgpack_frames()) {
        let outcome = outcome(&frame, |frame, mut on_event| decode_msgpack(frame, &mut on_event));
        let mut rest = &frame[..];
        let found = Found::deserialize(&mut rmp_serde::Deserializer::new(&mut rest));
        match found {
            Ok(Found { numbers: theirs, elements: Some(count) }) if rest.is_empty() => {
                let events = outcome.map_err(|error| TestCaseError::fail(error.to_string()))?;
                prop_assert_eq!(events.len(), count.max(1), "{:02x?}", frame);
                for number in events.iter().flat_map(numbers) {
                    prop_assert!(theirs.contains(&number), "{number} in {frame:02x?}");
                }
            }
            _ => prop_assert!(outcome.is_err(), "{:02x?}", frame),
        }
    }

    #[test]
    fn no_bytes_at_all_are_a_panic(frame: Vec<u8>) {
        let _ = decode_msgpack(&frame, &mut |_| {});
    }
}

#[test]
fn undamaged_frames_are_all_read_and_say_the_same() {
    let packed = FRAMES.map(msgpack);
    let of_msgpack =
        undamaged(&packed, |frame| outcome(frame, |frame, mut on_event| decode_msgpack(frame, &mut on_event)));
    assert_eq!(undamaged(&FRAMES, read), of_msgpack);
}
