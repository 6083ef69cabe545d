//! Frames of any venue, one after the other through its whole feed: whatever becomes of a frame is counted, and no price
//! is published that is not in one. What exactly is asked stands in the `ledger` of the feed's tests.
//!
//! The first byte is the venue, the second where quotes come from and how old a frame may be, four are the time of
//! receipt in seconds. Then come steps, each but the last before a `\xff\xfe`: a cut line where it begins with 0, a lap
//! where it begins with 1, else a frame behind that byte, which says how many seconds passed: none where it is a `.`, one
//! where it is the next character.

#![no_main]

#[path = "../../feed-handlers/tests/ledger/mod.rs"]
mod ledger;

use feed_handlers::feed::QuoteOrigin;
use feed_handlers::validation::Limits;
use feed_handlers::venue::Venue;
use ledger::Ledger;
use libfuzzer_sys::fuzz_target;

const NANOS_PER_SECOND: i64 = 1_000_000_000;
const STEP_END: &[u8] = b"\xff\xfe";

fuzz_target!(|input: &[u8]| {
    let Some((&[venue, settings, s1, s2, s3, s4], mut rest)) = input.split_first_chunk() else { return };
    let venue = Venue::ALL[usize::from(venue) % Venue::ALL.len()];
    let quotes = match settings % 4 {
        0 => QuoteOrigin::Quotes,
        1 => QuoteOrigin::Books { depth: None },
        2 => QuoteOrigin::Books { depth: Some(10) },
        _ => QuoteOrigin::Books { depth: Some(1) },
    };
    let limits = if settings & 4 == 0 { Limits::RECORDED } else { Limits::LIVE };
    let mut ts_recv = i64::from(u32::from_be_bytes([s1, s2, s3, s4])) * NANOS_PER_SECOND;
    let mut ledger = Ledger::new(venue, quotes, limits);
    while !rest.is_empty() {
        let end = rest.windows(STEP_END.len()).position(|bytes| bytes == STEP_END);
        let (step, behind) = rest.split_at(end.unwrap_or(rest.len()));
        rest = behind.get(STEP_END.len()..).unwrap_or_default();
        match step.split_first() {
            None => {}
            Some((0, _)) => ledger.connection_lost(),
            Some((1, _)) => ledger.start_lap(),
            Some((passed, frame)) => {
                ts_recv += i64::from(passed.saturating_sub(b'.')) * NANOS_PER_SECOND;
                ledger.take(frame, ts_recv);
            }
        }
    }
});
