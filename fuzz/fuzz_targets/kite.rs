//! Any bytes as a Kite frame, of either kind: no panic, events or an error, and no packet without an event.

#![no_main]

mod claims;

use feed_handlers::decode::event::Event;
use feed_handlers::decode::kite::{Packet, decode, decode_binary, decode_text, packets};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|frame: &[u8]| {
    claims::check_text(frame, |frame, mut on_event| decode_text(frame, &mut on_event));
    claims::check(frame, |frame, mut on_event| decode(frame, &mut on_event), |_| {});
    claims::check(frame, |frame, mut on_event| decode_binary(frame, &mut on_event), |_| {});
    let Ok(packets) = packets(frame) else { return };
    let mut count = 0;
    for packet in packets {
        count += 1;
        if let Some(Packet::Full(full)) = packet {
            assert!(full.depth().count() <= 10);
        }
    }
    let mut said = 0;
    decode_binary(frame, &mut |event| said += usize::from(!matches!(event, Event::Trade(_))))
        .expect("packets that fill the frame");
    // A frame without packets says so.
    assert_eq!(said, count.max(1));
});
