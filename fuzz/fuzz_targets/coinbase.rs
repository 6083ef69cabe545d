//! Any bytes as a Coinbase frame: no panic, no event beside an error, and no number that is not in the frame.
//!
//! Run from the repository's root, with real frames to start from; the first directory takes what is found:
//! `mkdir -p fuzz/corpus/coinbase; cargo +nightly fuzz run coinbase fuzz/corpus/coinbase fuzz/seeds/coinbase`

#![no_main]

use feed_handlers::decode::coinbase::{Event, decode};
use libfuzzer_sys::fuzz_target;
use protocol::Decimal;

fuzz_target!(|frame: &[u8]| {
    let mut events = 0u64;
    let result = decode(frame, &mut |event| {
        events += 1;
        let numbers = match event {
            Event::Match(trade) | Event::LastMatch(trade) => [Some(trade.price), Some(trade.size), None, None],
            Event::Ticker(t) => [t.best_bid, t.best_bid_size, t.best_ask, t.best_ask_size],
            Event::Level(level) => [Some(level.price), Some(level.size), None, None],
            _ => [None; 4],
        };
        for number in numbers.into_iter().flatten() {
            assert!(stands_in(frame, number), "{number} is not in the frame");
        }
    });
    assert!(result.is_ok() || events == 0, "{events} events beside {result:?}");
});

/// Whether these digits, and no others around them, stand somewhere in the frame.
fn stands_in(frame: &[u8], number: Decimal) -> bool {
    let in_number = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'+' | b'e' | b'E');
    frame
        .split(|byte| !in_number(byte))
        .filter_map(|text| Decimal::parse(text).ok())
        .any(|other| (other.mantissa(), other.scale()) == (number.mantissa(), number.scale()))
}
