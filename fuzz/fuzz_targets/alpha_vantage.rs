//! Any bytes as an answer of Alpha Vantage: no panic, and no event beside an error.
//!
//! Run from the repository's root, with answers to start from; the first directory takes what is found:
//! `mkdir -p fuzz/corpus/alpha_vantage; cargo +nightly fuzz run alpha_vantage fuzz/corpus/alpha_vantage fuzz/seeds/alpha_vantage`

#![no_main]

mod claims;

use feed_handlers::decode::alpha_vantage::{decode, decode_answer};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|frame: &[u8]| {
    // The volume of currencies is a zero that stands nowhere, so that numbers are not looked up.
    claims::check(frame, |frame, mut on_event| decode(frame, &mut on_event), |_| {});
    claims::check(frame, |frame, mut on_event| decode_answer(frame, Some(b"EUR/USD"), &mut on_event), |_| {});
});
