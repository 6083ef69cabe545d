//! Damage to frames, and what may be asked of a decoder that reads a damaged one; for the tests of all venues.

// Each test takes what it needs.
#![allow(dead_code)]

pub(crate) mod json;

use feed_handlers::decode::DecodeError;
use feed_handlers::decode::event::{Event, Quote, Top};
use proptest::prelude::*;
use proptest::sample::Index;
use protocol::Decimal;

/// Bytes that mean something to a JSON parser or in a number.
pub(crate) const OF_JSON: &[u8] = br#"{}[]:,"\ 0123456789.-+eEtfnu"#;

/// One damage. Places are relative, so that they fall into whatever is left of the frame.
#[derive(Clone, Debug)]
enum Damage {
    Cut(Index),
    Set(Index, u8),
    Insert(Index, u8),
    Remove(Index, usize),
    Repeat(Index, usize),
    /// A stretch of another frame in place of one of this.
    Graft(Index, usize, Vec<u8>, Index),
}

impl Damage {
    fn apply(&self, frame: &mut Vec<u8>) {
        if frame.is_empty() {
            return;
        }
        let stretch = |from: usize, count: usize, len: usize| from..(from + count).min(len);
        match self {
            Damage::Cut(at) => frame.truncate(at.index(frame.len())),
            Damage::Set(at, byte) => {
                let at = at.index(frame.len());
                frame[at] = *byte;
            }
            Damage::Insert(at, byte) => frame.insert(at.index(frame.len()), *byte),
            Damage::Remove(at, count) => {
                frame.drain(stretch(at.index(frame.len()), *count, frame.len()));
            }
            Damage::Repeat(at, count) => {
                let range = stretch(at.index(frame.len()), *count, frame.len());
                let copy = frame[range.clone()].to_vec();
                frame.splice(range.start..range.start, copy);
            }
            Damage::Graft(at, count, donor, from) => {
                let taken = donor[stretch(from.index(donor.len()), *count, donor.len())].to_vec();
                frame.splice(stretch(at.index(frame.len()), *count, frame.len()), taken);
            }
        }
    }
}

/// Any damage, of which stretches of `donors` are a part. The bytes of `telling` are likelier than others.
fn damage(donors: Vec<Vec<u8>>, telling: &'static [u8]) -> impl Strategy<Value = Damage> {
    let byte = move || prop_oneof![3 => proptest::sample::select(telling), 1 => any::<u8>()];
    let donor = proptest::sample::select(donors);
    prop_oneof![
        1 => any::<Index>().prop_map(Damage::Cut),
        4 => (any::<Index>(), byte()).prop_map(|(at, byte)| Damage::Set(at, byte)),
        4 => (any::<Index>(), byte()).prop_map(|(at, byte)| Damage::Insert(at, byte)),
        3 => (any::<Index>(), 1usize..24).prop_map(|(at, count)| Damage::Remove(at, count)),
        2 => (any::<Index>(), 1usize..64).prop_map(|(at, count)| Damage::Repeat(at, count)),
        2 => (any::<Index>(), 1usize..64, donor, any::<Index>())
            .prop_map(|(at, count, donor, from)| Damage::Graft(at, count, donor, from)),
    ]
}

/// One of `frames`, none of them empty, with up to three damages. The bytes of `telling` are likelier than others.
pub(crate) fn damaged(frames: Vec<Vec<u8>>, telling: &'static [u8]) -> impl Strategy<Value = Vec<u8>> {
    let damages = proptest::collection::vec(damage(frames.clone(), telling), 0..4);
    (proptest::sample::select(frames), damages).prop_map(|(mut frame, damages)| {
        damages.iter().for_each(|damage| damage.apply(&mut frame));
        frame
    })
}

/// Up to two dozen of `frames` in their order, each with up to two damages.
pub(crate) fn damaged_run(frames: Vec<Vec<u8>>, telling: &'static [u8]) -> impl Strategy<Value = Vec<Vec<u8>>> {
    let damages = proptest::collection::vec(damage(frames.clone(), telling), 0..3);
    (any::<Index>(), proptest::collection::vec(damages, 1..24)).prop_map(move |(start, damages)| {
        let run = frames.iter().cycle().skip(start.index(frames.len())).cloned();
        let damage_all = |(mut frame, damages): (Vec<u8>, Vec<Damage>)| {
            damages.iter().for_each(|damage| damage.apply(&mut frame));
            frame
        };
        run.zip(damages).map(damage_all).collect()
    })
}

/// What `decode` says to a frame: events or an error, never both.
pub(crate) fn outcome<'a>(
    frame: &'a [u8],
    decode: impl FnOnce(&'a [u8], &mut dyn FnMut(Event<'a>)) -> Result<(), DecodeError>,
) -> Result<Vec<Event<'a>>, DecodeError> {
    let mut events = Vec::new();
    let result = decode(frame, &mut |event| events.push(event));
    assert!(result.is_ok() || events.is_empty(), "{result:?} after {events:?}");
    result.map(|()| events)
}

fn tops(quote: &Quote<'_>) -> impl Iterator<Item = Top> {
    [quote.bid, quote.ask].into_iter().flatten()
}

/// Every decimal of an event.
pub(crate) fn numbers(event: &Event<'_>) -> Vec<Decimal> {
    match event {
        Event::Trade(trade) => vec![trade.price, trade.size],
        Event::Quote(quote) => tops(quote).flat_map(|top| std::iter::once(top.price).chain(top.size)).collect(),
        Event::Bar(bar) => [bar.open, bar.high, bar.low, bar.close, bar.volume].into_iter().chain(bar.vwap).collect(),
        Event::Level(level) => vec![level.price, level.size],
        _ => vec![],
    }
}

/// Whether these digits, and no others around them, stand somewhere in the frame.
pub(crate) fn stands_in(frame: &[u8], number: Decimal) -> bool {
    let in_number = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'+' | b'e' | b'E');
    frame
        .split(|byte| !in_number(byte))
        .filter_map(|text| Decimal::parse(text).ok())
        .any(|other| (other.mantissa(), other.scale()) == (number.mantissa(), number.scale()))
}

/// Whether what serde_json says against a frame is no fault of the grammar: half of a surrogate pair, a number that no
/// float holds, bytes that are no UTF-8.
pub(crate) fn is_beside_the_grammar(frame: &[u8], error: &serde_json::Error) -> bool {
    frame.contains(&b'\\') || !frame.is_ascii() || error.to_string().contains("number out of range")
}

/// Whether another parser finds `number` in the field, which may be a number or the text of one.
pub(crate) fn is(field: &serde_json::Value, number: Decimal) -> bool {
    let ours: f64 = number.to_string().parse().expect("a decimal prints as a number");
    let theirs = match field {
        serde_json::Value::String(text) => text.parse().ok(),
        field => field.as_f64(),
    };
    // Their reading of a bare number may be off by a bit.
    theirs.is_some_and(|theirs| (theirs - ours).abs() <= ours.abs() * 1e-14)
}
