//! Any bytes as a Kraken frame: no panic, events or an error, and no number that is not in the frame.

#![no_main]

mod claims;

use feed_handlers::decode::kraken::decode;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|frame: &[u8]| claims::check_text(frame, |frame, mut on_event| decode(frame, &mut on_event)));
