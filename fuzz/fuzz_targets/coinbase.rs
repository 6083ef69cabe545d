//! Any bytes as a Coinbase frame: no panic, no event beside an error, and no number that is not in the frame.
//!
//! Run from the repository's root, with real frames to start from; the first directory takes what is found:
//! `mkdir -p fuzz/corpus/coinbase; cargo +nightly fuzz run coinbase fuzz/corpus/coinbase fuzz/seeds/coinbase`

#![no_main]

mod claims;

use feed_handlers::decode::coinbase::decode;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|frame: &[u8]| claims::check_text(frame, |frame, mut on_event| decode(frame, &mut on_event)));
