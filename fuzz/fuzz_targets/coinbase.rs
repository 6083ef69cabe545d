//! Any bytes as a Coinbase frame: no panic, events or an error, and no number that is not in the frame. What the venue's
//! usual layout is read by, and what reads any layout, say the same.

#![no_main]

mod claims;

use feed_handlers::decode::Reason;
use feed_handlers::decode::coinbase::decode;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|frame: &[u8]| {
    claims::check_text(frame, |frame, mut on_event| decode(frame, &mut on_event));
    // A blank in front means nothing, and is not usual.
    let unusual = [b" ", frame].concat();
    assert_eq!(told(frame), told(&unusual));
});

/// The events with all their digits.
fn told(frame: &[u8]) -> Result<Vec<String>, Reason> {
    let mut events = Vec::new();
    decode(frame, &mut |event| events.push(format!("{event:?}"))).map_err(|error| error.reason())?;
    Ok(events)
}
