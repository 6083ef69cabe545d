//! Damaged frames of Kite: whatever happens to the bytes, the decoder does not panic, accounts for every packet, and
//! says no number that a reading by offsets does not find.

mod damage;

use damage::{damaged, outcome};
use feed_handlers::decode::event::{Event, Symbol};
use feed_handlers::decode::kite::{decode, packets};
use proptest::prelude::*;

/// A full packet of a share as it was sent, one of its currency twin, and shorter packets beside them.
fn frames() -> Vec<Vec<u8>> {
    let numbers: [u32; 31] = [
        0x0006_3a01,
        157_370,
        7,
        157_037,
        1_192_471,
        256_443,
        363_009,
        156_915,
        157_500,
        156_105,
        156_780,
        1_625_461_887,
        0,
        0,
        0,
        1_625_461_887,
        5,
        157_340,
        0x0001_0000,
        140,
        157_300,
        0x0002_0000,
        2,
        157_295,
        0x0001_0000,
        219,
        157_290,
        0x0007_0000,
        50,
        157_285,
        0x0001_0000,
    ];
    let mut full: Vec<u8> = numbers.iter().flat_map(|number| number.to_be_bytes()).collect();
    full.extend([172u32, 157_370, 0x0003_0000].iter().flat_map(|number| number.to_be_bytes()));
    full.resize(184, 0);
    let mut currency = full.clone();
    currency[3] = 3;
    let mut index = full[..32].to_vec();
    index[3] = 9;
    let packets: [&[u8]; 5] = [&full, &currency, &full[..44], &full[..8], &index];
    let frame = |packets: &[&[u8]]| {
        let mut frame = (packets.len() as u16).to_be_bytes().to_vec();
        packets.iter().for_each(|packet| {
            frame.extend((packet.len() as u16).to_be_bytes());
            frame.extend_from_slice(packet);
        });
        frame
    };
    vec![frame(&packets), frame(&packets[..1]), frame(&packets[2..]), br#"{"type":"error","data":"x"}"#.to_vec()]
}

/// The packets of a binary frame, by its lengths; `None` where they do not fill it.
fn cut(frame: &[u8]) -> Option<Vec<&[u8]>> {
    let count = usize::from(u16::from_be_bytes([*frame.first()?, *frame.get(1)?]));
    let (mut packets, mut at) = (Vec::new(), 2);
    for _ in 0..count {
        let length = usize::from(u16::from_be_bytes([*frame.get(at)?, *frame.get(at + 1)?]));
        packets.push(frame.get(at + 2..at + 2 + length)?);
        at += 2 + length;
    }
    (at == frame.len()).then_some(packets)
}

/// The unsigned number at `at`.
fn number(packet: &[u8], at: usize) -> i64 {
    packet[at..at + 4].iter().fold(0, |n, byte| n << 8 | i64::from(*byte))
}

/// A number that is a price is signed.
fn signed(packet: &[u8], at: usize) -> i64 {
    i64::from(number(packet, at) as u32 as i32)
}

fn check(frame: &[u8]) -> Result<(), TestCaseError> {
    let read = outcome(frame, |frame, mut on_event| decode(frame, &mut on_event));
    if frame.len() < 2 || frame[0] == b'{' {
        return Ok(());
    }
    let Some(cut) = cut(frame) else {
        prop_assert!(read.is_err(), "{:?}", read);
        return Ok(());
    };
    prop_assert_eq!(packets(frame).map(Iterator::count), Ok(cut.len()));
    let events = read.unwrap();
    if cut.is_empty() {
        prop_assert_eq!(events, [Event::Ignored { kind: b"empty" }]);
        return Ok(());
    }
    let mut events = events.iter().peekable();
    for packet in cut {
        let is_full = packet.len() == 184 && packet[3] != 9;
        let symbol = packet.get(..4).map(|token| Symbol::Token(number(token, 0) as u32));
        if let Some(Event::Trade(trade)) = events.next_if(|event| matches!(event, Event::Trade(_))) {
            prop_assert!(is_full && Some(trade.symbol) == symbol);
            let told = (trade.price.mantissa(), trade.size.mantissa(), trade.time);
            prop_assert_eq!(told, (signed(packet, 4), number(packet, 8), number(packet, 44) * 1_000_000_000));
        }
        match events.next() {
            Some(Event::Quote(quote)) => {
                prop_assert!(is_full && Some(quote.symbol) == symbol);
                let time = number(packet, 60) * 1_000_000_000;
                prop_assert_eq!(quote.time, Some(time).filter(|time| *time != 0));
                for (top, at) in [(quote.bid, 64), (quote.ask, 124)] {
                    let level = (signed(packet, at + 4), number(packet, at));
                    let is_level = level.0 != 0 && level.1 != 0;
                    let top = top.map(|top| (top.price.mantissa(), top.size.unwrap().mantissa()));
                    prop_assert_eq!(top, is_level.then_some(level));
                }
            }
            Some(Event::Ignored { .. }) => prop_assert!(matches!(packet.len(), 8 | 28 | 32 | 44 | 164)),
            Some(Event::Invalid { symbol: named, .. }) => prop_assert!(!is_full && *named == symbol),
            other => prop_assert!(false, "{other:?}"),
        }
    }
    prop_assert_eq!(events.next(), None);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_damage_makes_a_number_up(frame in damaged(frames(), b"\x00\x01\x03\x08\x09\x1c\x20\x2c\xb8\xff{\"")) {
        check(&frame)?;
    }

    /// Damage that leaves the lengths alone, so that the fields are what is damaged.
    #[test]
    fn no_field_is_read_beside_its_place(
        at in any::<proptest::sample::Index>(),
        bytes in proptest::collection::vec(any::<u8>(), 1..40),
    ) {
        let mut frame = frames().swap_remove(1);
        let from = 4 + at.index(frame.len() - 4);
        let to = (from + bytes.len()).min(frame.len());
        frame[from..to].copy_from_slice(&bytes[..to - from]);
        check(&frame)?;
    }

    #[test]
    fn no_bytes_at_all_are_a_panic(frame: Vec<u8>) {
        check(&frame)?;
    }
}

/// The strategies must not be so rough that nothing they make is ever read.
#[test]
fn undamaged_frames_are_all_read() {
    for frame in frames() {
        let events = outcome(&frame, |frame, mut on_event| decode(frame, &mut on_event)).unwrap();
        assert!(!events.is_empty() && !events.iter().any(|event| matches!(event, Event::Invalid { .. })), "{events:?}");
    }
}
