//! Any bytes as a `price_tick` record: no panic, no event beside an error, and no number that is not in the record.
//!
//! Run from the repository's root, with records to start from; the first directory takes what is found:
//! `mkdir -p fuzz/corpus/price_tick; cargo +nightly fuzz run price_tick fuzz/corpus/price_tick fuzz/seeds/price_tick`

#![no_main]

mod claims;

use feed_handlers::decode::price_tick::decode;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|frame: &[u8]| claims::check_text(frame, |frame, mut on_event| decode(frame, &mut on_event)));
