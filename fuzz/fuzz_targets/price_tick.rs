//! Any bytes as a `price_tick` record: no panic, events or an error, and no number that is not in the record.

#![no_main]

mod claims;

use feed_handlers::decode::price_tick::decode;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|frame: &[u8]| claims::check_text(frame, |frame, mut on_event| decode(frame, &mut on_event)));
