//! Any bytes as a Polygon frame: no panic, events or an error, and no number that is not in the frame,
//! but the volume of an index, which is zero because nobody trades it.

#![no_main]

mod claims;

use feed_handlers::decode::polygon::decode;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|frame: &[u8]| {
    let decode = |frame, mut on_event: &mut dyn FnMut(_)| decode(frame, &mut on_event);
    claims::check(frame, decode, |number| {
        let is_of_an_index = number.mantissa() == 0 && number.scale() == 0;
        assert!(is_of_an_index || claims::stands_in(frame, number), "{number} is not in the frame");
    });
});
