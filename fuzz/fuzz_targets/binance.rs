//! Any bytes as a Binance frame, and as the answer to a request for a book: no panic, events or an error, and no number that
//! is not in it.

#![no_main]

mod claims;

use feed_handlers::decode::binance::{TimeUnit, decode_depth, decode_in};
use feed_handlers::decode::event::Symbol;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|frame: &[u8]| {
    for unit in [TimeUnit::Milliseconds, TimeUnit::Microseconds] {
        claims::check_text(frame, |frame, mut on_event| decode_in(unit, frame, &mut on_event));
    }
    claims::check_text(frame, |frame, mut on_event| decode_depth(frame, Symbol::Text(b"X"), &mut on_event));
});
