//! Any bytes as an Alpaca frame in MessagePack: no panic, and events or an error.

#![no_main]

mod claims;

use feed_handlers::decode::alpaca::decode_msgpack;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|frame: &[u8]| claims::check(frame, |frame, mut on_event| decode_msgpack(frame, &mut on_event), |_| {}));
