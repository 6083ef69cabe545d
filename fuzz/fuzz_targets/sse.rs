//! Any bytes as a body of server-sent events: no panic, and the same events however the body is cut.

#![no_main]

use feed_handlers::decode::sse::SseParser;
use libfuzzer_sys::fuzz_target;

const EVENT_BYTES_MAX: usize = 1 << 20;

type Event = (Vec<u8>, Vec<u8>, Vec<u8>);

fn events(body: &[u8], size: usize) -> Vec<Event> {
    let mut parser = SseParser::new(EVENT_BYTES_MAX);
    let mut events = Vec::new();
    for chunk in body.chunks(size) {
        let read = parser.handle_chunk(chunk, &mut |event| {
            events.push((event.kind.to_vec(), event.data.to_vec(), event.id.to_vec()));
        });
        assert!(read.is_ok() || body.len() > EVENT_BYTES_MAX);
    }
    events
}

fuzz_target!(|input: &[u8]| {
    let Some((size, body)) = input.split_first() else { return };
    // An event is refused where it is too long, which depends on the cuts.
    if body.len() <= EVENT_BYTES_MAX / 2 {
        assert_eq!(events(body, usize::from(*size).max(1)), events(body, body.len().max(1)));
    }
});
