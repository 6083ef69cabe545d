//! Any bytes as the data of an IEX Cloud event: no panic, no event beside an error, and no number that is not in the frame.
//!
//! Run from the repository's root, with real frames to start from; the first directory takes what is found:
//! `mkdir -p fuzz/corpus/iex_cloud; cargo +nightly fuzz run iex_cloud fuzz/corpus/iex_cloud fuzz/seeds/iex_cloud`

#![no_main]

mod claims;

use feed_handlers::decode::iex_cloud::decode;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|frame: &[u8]| claims::check_text(frame, |frame, mut on_event| decode(frame, &mut on_event)));
