//! Damaged frames: whatever happens to the bytes of a real frame, the decoder does not panic, and says no number
//! that is not in the frame.

mod real_frames;

use feed_handlers::decode::coinbase::decode;
use feed_handlers::decode::event::{Event, Symbol, Top};
use proptest::prelude::*;
use proptest::sample::Index;
use protocol::Decimal;
use serde_json::Value;

/// One damage. Places are relative, so that they fall into whatever is left of the frame.
#[derive(Clone, Debug)]
enum Damage {
    Cut(Index),
    Set(Index, u8),
    Insert(Index, u8),
    Remove(Index, usize),
    Repeat(Index, usize),
    /// A stretch of another frame in place of one of this.
    Graft(Index, usize, usize, Index),
}

impl Damage {
    fn apply(&self, frame: &mut Vec<u8>) {
        if frame.is_empty() {
            return;
        }
        let stretch = |from: usize, count: usize, len: usize| from..(from + count).min(len);
        match *self {
            Damage::Cut(at) => frame.truncate(at.index(frame.len())),
            Damage::Set(at, byte) => {
                let at = at.index(frame.len());
                frame[at] = byte;
            }
            Damage::Insert(at, byte) => frame.insert(at.index(frame.len()), byte),
            Damage::Remove(at, count) => {
                frame.drain(stretch(at.index(frame.len()), count, frame.len()));
            }
            Damage::Repeat(at, count) => {
                let range = stretch(at.index(frame.len()), count, frame.len());
                let copy = frame[range.clone()].to_vec();
                frame.splice(range.start..range.start, copy);
            }
            Damage::Graft(at, count, donor, from) => {
                let donor = real_frames::ALL[donor].as_bytes();
                let taken = donor[stretch(from.index(donor.len()), count, donor.len())].to_vec();
                frame.splice(stretch(at.index(frame.len()), count, frame.len()), taken);
            }
        }
    }
}

/// Bytes that mean something to a JSON parser or in a number are likelier than others.
fn bytes() -> impl Strategy<Value = u8> {
    prop_oneof![3 => proptest::sample::select(br#"{}[]:,"\ 0123456789.-+eEtfnu"#.to_vec()), 1 => any::<u8>()]
}

fn damages() -> impl Strategy<Value = Damage> {
    prop_oneof![
        1 => any::<Index>().prop_map(Damage::Cut),
        4 => (any::<Index>(), bytes()).prop_map(|(at, byte)| Damage::Set(at, byte)),
        4 => (any::<Index>(), bytes()).prop_map(|(at, byte)| Damage::Insert(at, byte)),
        3 => (any::<Index>(), 1usize..24).prop_map(|(at, count)| Damage::Remove(at, count)),
        2 => (any::<Index>(), 1usize..64).prop_map(|(at, count)| Damage::Repeat(at, count)),
        2 => (any::<Index>(), 1usize..64, 0..real_frames::ALL.len(), any::<Index>())
            .prop_map(|(at, count, donor, from)| Damage::Graft(at, count, donor, from)),
    ]
}

fn damaged_frames() -> impl Strategy<Value = Vec<u8>> {
    let frame = proptest::sample::select(real_frames::ALL.to_vec());
    (frame, proptest::collection::vec(damages(), 0..4)).prop_map(|(frame, damages)| {
        let mut frame = frame.as_bytes().to_vec();
        damages.iter().for_each(|damage| damage.apply(&mut frame));
        frame
    })
}

/// Every decimal of an event.
fn numbers(event: &Event<'_>) -> Vec<Decimal> {
    match event {
        Event::Trade(trade) => vec![trade.price, trade.size],
        Event::Quote(quote) => {
            let tops = [quote.bid, quote.ask].into_iter().flatten();
            tops.flat_map(|top| std::iter::once(top.price).chain(top.size)).collect()
        }
        Event::Level(level) => vec![level.price, level.size],
        _ => vec![],
    }
}

/// Whether these digits, and no others around them, stand somewhere in the frame.
fn stands_in(frame: &[u8], number: Decimal) -> bool {
    let in_number = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'+' | b'e' | b'E');
    frame
        .split(|byte| !in_number(byte))
        .filter_map(|text| Decimal::parse(text).ok())
        .any(|other| (other.mantissa(), other.scale()) == (number.mantissa(), number.scale()))
}

/// Whether another parser finds in its fields what the event says.
fn agrees(frame: &Value, event: &Event<'_>) -> bool {
    let text = |key: &str| match &frame[key] {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    let is = |key: &str, number: Option<Decimal>| Decimal::parse(text(key).as_bytes()).ok() == number;
    match event {
        Event::Trade(trade) => {
            Symbol::Text(text("product_id").as_bytes()) == trade.symbol
                && text("trade_id").parse().ok() == trade.id
                && is("price", Some(trade.price))
                && is("size", Some(trade.size))
        }
        Event::Quote(quote) => {
            let side = |price: &str, size: &str, top: Option<Top>| match top {
                Some(top) => is(price, Some(top.price)) && is(size, top.size),
                None => is(price, None),
            };
            Symbol::Text(text("product_id").as_bytes()) == quote.symbol
                && text("sequence").parse().ok() == quote.sequence
                && side("best_bid", "best_bid_size", quote.bid)
                && side("best_ask", "best_ask_size", quote.ask)
        }
        _ => true,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_damage_makes_a_number_up(frame in damaged_frames()) {
        let mut events = Vec::new();
        let result = decode(&frame, &mut |event| events.push(event));
        prop_assert!(result.is_ok() || events.is_empty(), "{:?} after {:?}", result, events);
        for event in &events {
            for number in numbers(event) {
                prop_assert!(stands_in(&frame, number), "{number} in {}", frame.escape_ascii());
            }
        }
        match serde_json::from_slice::<Value>(&frame) {
            // A bare number may print differently than it was written, and an escape hide a key.
            Ok(value) if !frame.contains(&b'\\') => {
                for event in &events {
                    prop_assert!(agrees(&value, event), "{event:?} in {}", frame.escape_ascii());
                }
            }
            Ok(_) => {}
            // What only the other parser refuses is no fault of the grammar: half of a surrogate pair, a number
            // that no float holds, bytes that are no UTF-8.
            Err(error) => {
                let is_beside = frame.contains(&b'\\') || !frame.is_ascii() || error.to_string().contains("number out of range");
                prop_assert!(result.is_err() || is_beside, "{error}: {}", frame.escape_ascii());
            }
        }
    }

    #[test]
    fn no_bytes_at_all_are_a_panic(frame: Vec<u8>) {
        let _ = decode(&frame, &mut |_| {});
    }
}

/// The strategies must not be so rough that nothing they make is ever read.
#[test]
fn undamaged_frames_are_all_read() {
    for frame in real_frames::ALL {
        let mut events = 0;
        assert_eq!(decode(frame.as_bytes(), &mut |_| events += 1), Ok(()), "{frame}");
        assert!(events > 0, "{frame}");
    }
}
