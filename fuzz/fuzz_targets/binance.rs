//! Any bytes as a Binance frame: no panic, no event beside an error, and no number that is not in it.
//!
//! Run from the repository's root, with real frames to start from; the first directory takes what is found:
//! `mkdir -p fuzz/corpus/binance; cargo +nightly fuzz run binance fuzz/corpus/binance fuzz/seeds/binance`

#![no_main]

use feed_handlers::decode::DecodeError;
use feed_handlers::decode::binance::{TimeUnit, decode_depth, decode_in};
use feed_handlers::decode::event::{Event, Symbol};
use libfuzzer_sys::fuzz_target;
use protocol::Decimal;

fuzz_target!(|frame: &[u8]| {
    for unit in [TimeUnit::Milliseconds, TimeUnit::Microseconds] {
        let mut events = Vec::new();
        let result = decode_in(unit, frame, &mut |event| events.push(event));
        check(frame, result, &events);
    }
    let mut events = Vec::new();
    let result = decode_depth(frame, Symbol::Text(b"X"), &mut |event| events.push(event));
    check(frame, result, &events);
});

fn check(frame: &[u8], result: Result<(), DecodeError>, events: &[Event<'_>]) {
    // Whatever is read says something.
    assert_eq!(result.is_ok(), !events.is_empty(), "{events:?} beside {result:?}");
    for number in events.iter().flat_map(numbers) {
        assert!(stands_in(frame, number), "{number} is not in the frame");
    }
}

fn numbers(event: &Event<'_>) -> Vec<Decimal> {
    match event {
        Event::Trade(trade) => vec![trade.price, trade.size],
        Event::Quote(quote) => {
            let tops = [quote.bid, quote.ask].into_iter().flatten();
            tops.flat_map(|top| [Some(top.price), top.size]).flatten().collect()
        }
        Event::Level(level) => vec![level.price, level.size],
        Event::Bar(bar) => vec![bar.open, bar.high, bar.low, bar.close, bar.volume],
        _ => vec![],
    }
}

/// Whether these digits, and no others around them, stand somewhere in the frame.
fn stands_in(frame: &[u8], number: Decimal) -> bool {
    let in_number = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'+' | b'e' | b'E');
    frame
        .split(|byte| !in_number(byte))
        .filter_map(|text| Decimal::parse(text).ok())
        .any(|other| (other.mantissa(), other.scale()) == (number.mantissa(), number.scale()))
}
