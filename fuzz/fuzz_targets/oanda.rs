//! Any bytes as a line of OANDA: no panic, no event beside an error, and no number that is not in it.
//!
//! Run from the repository's root, with real frames to start from; the first directory takes what is found:
//! `mkdir -p fuzz/corpus/oanda; cargo +nightly fuzz run oanda fuzz/corpus/oanda fuzz/seeds/oanda`

#![no_main]

use feed_handlers::decode::event::Event;
use feed_handlers::decode::oanda::decode;
use libfuzzer_sys::fuzz_target;
use protocol::Decimal;

fuzz_target!(|line: &[u8]| {
    let mut events = Vec::new();
    let result = decode(line, &mut |event| events.push(event));
    // Whatever is read, but for a blank line, says something.
    let says = result.is_ok() && !line.trim_ascii().is_empty();
    assert_eq!(says, !events.is_empty(), "{events:?} beside {result:?}");
    for number in events.iter().flat_map(numbers) {
        assert!(stands_in(line, number), "{number} is not in the line");
    }
});

fn numbers(event: &Event<'_>) -> Vec<Decimal> {
    match event {
        Event::Quote(quote) => {
            let tops = [quote.bid, quote.ask].into_iter().flatten();
            tops.flat_map(|top| [Some(top.price), top.size]).flatten().collect()
        }
        _ => vec![],
    }
}

/// Whether these digits, and no others around them, stand somewhere in the line.
fn stands_in(line: &[u8], number: Decimal) -> bool {
    let in_number = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'+' | b'e' | b'E');
    line.split(|byte| !in_number(byte))
        .filter_map(|text| Decimal::parse(text).ok())
        .any(|other| (other.mantissa(), other.scale()) == (number.mantissa(), number.scale()))
}
