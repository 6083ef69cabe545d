//! Any bytes as a FIX message, and as the fields of one: no panic, events or an error, and no number that is not in it.

#![no_main]

mod claims;

use feed_handlers::decode::fix::{decode, frame_end};
use feed_handlers::decode::fix_session::SessionMessage;
use libfuzzer_sys::fuzz_target;
use protocol::Decimal;

fuzz_target!(|bytes: &[u8]| {
    check(bytes);
    // No fuzzer finds a checksum, so that bytes alone would never come behind it.
    let mut frame = format!("8=FIX.4.4\x019={}\x01", bytes.len()).into_bytes();
    frame.extend_from_slice(bytes);
    let sum = frame.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    frame.extend_from_slice(format!("10={sum:03}\x01").as_bytes());
    check(&frame);
});

fn check(frame: &[u8]) {
    let is_message = decode(frame, &mut |_| {}).is_ok();
    assert!(!is_message || frame_end(frame) == Ok(Some(frame.len())));
    let _ = SessionMessage::read(frame);
    let decode = |frame, mut on_event: &mut dyn FnMut(_)| decode(frame, &mut on_event);
    claims::check(frame, decode, |number| {
        // A deletion tells no size.
        let is_nothing = number.mantissa() == 0 && number.scale() == 0;
        assert!(is_nothing || stands_in(frame, number), "{number} is not in the message");
    });
}

/// Whether a value of the message has these digits. A point need not have digits on both sides.
fn stands_in(frame: &[u8], number: Decimal) -> bool {
    frame.split(|byte| matches!(byte, 1 | b'=')).any(|text| {
        let text = String::from_utf8_lossy(text.strip_suffix(b".").unwrap_or(text)).into_owned();
        let text = if text.starts_with('.') { format!("0{text}") } else { text.replacen("-.", "-0.", 1) };
        let parsed = Decimal::parse(text.as_bytes());
        parsed.is_ok_and(|other| (other.mantissa(), other.scale()) == (number.mantissa(), number.scale()))
    })
}
