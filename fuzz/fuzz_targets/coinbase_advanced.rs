//! Any bytes as a Coinbase Advanced frame: no panic, no event beside an error, and no number that is not in the frame.
//!
//! Run from the repository's root, with real frames to start from; the first directory takes what is found:
//! `mkdir -p fuzz/corpus/coinbase_advanced; cargo +nightly fuzz run coinbase_advanced fuzz/corpus/coinbase_advanced fuzz/seeds/coinbase_advanced`

#![no_main]

mod claims;

use feed_handlers::decode::coinbase_advanced::decode;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|frame: &[u8]| claims::check_text(frame, |frame, mut on_event| decode(frame, &mut on_event)));
