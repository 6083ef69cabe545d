//! Any bytes as an Alpaca frame in MessagePack: no panic, and no event beside an error.
//!
//! Run from the repository's root, with whole frames to start from; the first directory takes what is found:
//! `mkdir -p fuzz/corpus/alpaca_msgpack; cargo +nightly fuzz run alpaca_msgpack fuzz/corpus/alpaca_msgpack fuzz/seeds/alpaca_msgpack`

#![no_main]

mod claims;

use feed_handlers::decode::alpaca::decode_msgpack;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|frame: &[u8]| claims::check(frame, |frame, mut on_event| decode_msgpack(frame, &mut on_event), |_| {}));
