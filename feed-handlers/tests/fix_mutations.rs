//! Damaged FIX messages: whatever happens to the bytes of a real message, the decoder does not panic, and says no
//! number that is not in the message; nothing of one whose checksum fails.

mod damage;

use damage::damaged;
use feed_handlers::decode::event::{Event, Level};
use feed_handlers::decode::fix::{decode, frame_end};
use feed_handlers::decode::fix_session::SessionMessage;
use proptest::prelude::*;
use protocol::Decimal;

/// What stands between the length and the checksum of messages.
const BODIES: &[&[u8]] = &[
    b"35=W\x0134=136232\x0149=XCT1\x0152=20200603-12:00:00.106\x0156=Q004\x0155=EUR/USD\x01262=0\x01268=2\x01269=0\x01270=1.11941\x01271=1000000\x01299=0\x01106=1\x01269=1\x01270=1.11944\x01271=1000000\x01299=0\x01106=1\x01",
    b"35=X\x0149=SPOT\x0156=EXAMPLE\x0134=16\x0152=20241019-05:40:11.466313\x01262=TRADE_3\x01268=3\x01279=0\x01269=2\x01270=10.00000\x01271=0.01000\x0155=BNBBUSD\x011003=0\x0160=20241019-05:40:11.464000\x01279=0\x01269=2\x01270=10.50000\x01271=0.01000\x011003=1\x01279=0\x01269=2\x01270=.75\x01271=3.\x011003=2\x01272=20241019\x01273=05:40:11.464\x01",
    b"35=X\x0134=9\x0152=20241019-05:40:11.466313\x01268=3\x01279=0\x01269=0\x01270=601.5\x01271=3\x0155=BNBBUSD\x0125043=10\x0125044=12\x01279=2\x01269=1\x01270=602.25\x01279=1\x01269=1\x01270=603\x01271=4.50\x0155=BTCUSDT\x01",
    b"35=Y\x0134=5\x0152=20241019-05:39:36.688964\x01262=B\x01281=2\x0125016=-1191\x0158=Similar subscription\x01",
    b"35=0\x0134=5\x0152=20241019-05:39:36\x0195=3\x0196=a\x01b\x01112=T\x01",
];

const LIKELY: &[u8] = b"\x01\x01\x01=0123456789.-+e:X";

fn framed(body: &[u8]) -> Vec<u8> {
    let mut frame = format!("8=FIX.4.4\x019={}\x01", body.len()).into_bytes();
    frame.extend_from_slice(body);
    let sum = frame.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    frame.extend_from_slice(format!("10={sum:03}\x01").as_bytes());
    frame
}

/// Whether a field holds these digits.
fn stands_in(frame: &[u8], number: Decimal) -> bool {
    let values = frame.split(|byte| matches!(byte, 1 | b'='));
    values.filter(|text| !text.is_empty()).any(|text| {
        // A point of FIX need not have digits on both sides.
        let text = String::from_utf8_lossy(text.strip_suffix(b".").unwrap_or(text)).into_owned();
        let text = if text.starts_with('.') { format!("0{text}") } else { text.replacen("-.", "-0.", 1) };
        let parsed = Decimal::parse(text.as_bytes());
        parsed.is_ok_and(|other| (other.mantissa(), other.scale()) == (number.mantissa(), number.scale()))
    })
}

fn numbers(event: &Event<'_>) -> Vec<Decimal> {
    match event {
        // A deletion tells no size.
        Event::Level(Level { price, size, .. }) if size.is_zero() => vec![*price],
        other => damage::numbers(other),
    }
}

fn check(frame: &[u8]) -> Result<(), TestCaseError> {
    let mut events = Vec::new();
    let result = decode(frame, &mut |event| events.push(event));
    prop_assert!(result.is_ok() != events.is_empty(), "{:?} after {:?}", result, events);
    for number in events.iter().flat_map(numbers) {
        prop_assert!(stands_in(frame, number), "{number} in {}", frame.escape_ascii());
    }
    if result.is_ok() {
        prop_assert_eq!(frame_end(frame), Ok(Some(frame.len())));
        let _ = SessionMessage::read(frame);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    /// The frame is made after the damage, so that it is what the fields say that is damaged.
    #[test]
    fn no_damaged_field_makes_a_number_up(body in damaged(BODIES.iter().map(|body| body.to_vec()).collect(), LIKELY)) {
        check(&framed(&body))?;
    }

    #[test]
    fn one_changed_byte_is_always_found(body in proptest::sample::select(BODIES), at: proptest::sample::Index, byte: u8) {
        let mut frame = framed(body);
        let at = at.index(frame.len());
        prop_assume!(frame[at] != byte);
        frame[at] = byte;
        let result = decode(&frame, &mut |_| {});
        prop_assert!(result.is_err(), "{}", frame.escape_ascii());
    }

    #[test]
    fn no_bytes_at_all_are_a_panic(bytes: Vec<u8>, splice: proptest::sample::Index) {
        check(&bytes)?;
        let mut frame = framed(BODIES[0]);
        let at = splice.index(frame.len());
        frame.splice(at..at, bytes);
        check(&frame)?;
    }
}

/// The strategies must not be so rough that nothing they make is ever read.
#[test]
fn undamaged_messages_are_all_read() {
    for body in BODIES {
        let mut events = Vec::new();
        let frame = framed(body);
        assert_eq!(decode(&frame, &mut |event| events.push(event)), Ok(()), "{}", body.escape_ascii());
        assert!(!events.iter().any(|event| matches!(event, Event::Invalid { .. })), "{events:?}");
        assert!(events.len() > 1, "{}", body.escape_ascii());
    }
}
