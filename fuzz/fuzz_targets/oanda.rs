//! Any bytes as a line of OANDA: no panic, events or an error, and no number that is not in it. A blank line is neither.

#![no_main]

mod claims;

use feed_handlers::decode::oanda::decode;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|line: &[u8]| {
    if line.trim_ascii().is_empty() {
        return assert_eq!(decode(line, &mut |event| panic!("{event:?}")), Ok(()));
    }
    claims::check_text(line, |line, mut on_event| decode(line, &mut on_event));
});
