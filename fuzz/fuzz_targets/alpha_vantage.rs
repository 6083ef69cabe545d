//! Any bytes as an answer of Alpha Vantage: no panic, and events or an error.

#![no_main]

mod claims;

use feed_handlers::decode::alpha_vantage::{decode, decode_answer};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|frame: &[u8]| {
    // The volume of currencies is a zero that stands nowhere, so that numbers are not looked up.
    claims::check(frame, |frame, mut on_event| decode(frame, &mut on_event), |_| {});
    claims::check(frame, |frame, mut on_event| decode_answer(frame, Some(b"EUR/USD"), &mut on_event), |_| {});
});
