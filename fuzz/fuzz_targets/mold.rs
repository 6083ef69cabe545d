//! Datagrams of MoldUDP64, one after the other, through the merge of lines: each number comes once and in order, or is said to
//! be lost, and time and requests never stand still on a hole.
//!
//! Steps of a byte that says how many ms pass, a length of two bytes and a datagram of that length.

#![no_main]

use feed_handlers::decode::mold;
use feed_handlers::decode::mold_merge::{Delivery, MergeLimits, MoldMerge, Start};
use libfuzzer_sys::fuzz_target;

const NANOS_PER_MILLISECOND: i64 = 1_000_000;

fuzz_target!(|input: &[u8]| {
    let Some((settings, mut rest)) = input.split_first() else { return };
    let start = if settings & 1 == 0 { Start::Beginning } else { Start::Now };
    let limits = MergeLimits { start, window_messages: 8, window_bytes: 200, ..MergeLimits::DEFAULT };
    let (mut merge, mut now) = (MoldMerge::new(limits), 0);
    // The number that is next, as far as it is told.
    let mut next = None;
    while let Some((&[passes, high, low], behind)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes([high, low])).min(behind.len());
        let (datagram, behind) = behind.split_at(length);
        rest = behind;
        now += i64::from(passes) * NANOS_PER_MILLISECOND;
        let mut deliver = |delivery: Delivery<'_>| match delivery {
            Delivery::Session(_) => next = None,
            Delivery::Message { sequence, .. } => {
                assert_eq!(*next.get_or_insert(sequence), sequence);
                next = Some(sequence + 1);
            }
            Delivery::Lost { sequence, count } => {
                assert_eq!(*next.get_or_insert(sequence), sequence);
                assert!(count > 0);
                next = Some(sequence + count);
            }
            Delivery::End => {}
        };
        merge.handle_timeout(now, &mut deliver);
        if let Ok(packet) = mold::decode(datagram) {
            merge.handle(packet, now, &mut deliver);
        }
        assert_eq!(merge.poll_timeout().is_some(), merge.has_hole());
        if let Some(request) = merge.poll_request(now, 100) {
            assert!(mold::decode(&request).is_ok() || request[18..] != [0, 0]);
            assert_eq!(merge.poll_request(now, 100), None, "it is asked for again at once");
        }
    }
});
