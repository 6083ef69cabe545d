//! What every decoder promises, whatever the bytes: no panic, either events or an error, never both and never neither, and,
//! of a venue that writes its numbers as text, no number that is not in the frame.

// Each target takes what it needs.
#![allow(dead_code)]

use feed_handlers::decode::DecodeError;
use feed_handlers::decode::event::{Event, Top};
use protocol::Decimal;

/// Checks the promises of `decode` for a frame in which numbers stand as text.
pub(crate) fn check_text<'a>(
    frame: &'a [u8],
    decode: impl FnOnce(&'a [u8], &mut dyn FnMut(Event<'a>)) -> Result<(), DecodeError>,
) {
    check(frame, decode, |number| assert!(stands_in(frame, number), "{number} is not in the frame"));
}

/// Checks the promises of `decode`, and hands each number of each event to `on_number`.
pub(crate) fn check<'a>(
    frame: &'a [u8],
    decode: impl FnOnce(&'a [u8], &mut dyn FnMut(Event<'a>)) -> Result<(), DecodeError>,
    on_number: impl Fn(Decimal),
) {
    let mut events = 0u64;
    let result = decode(frame, &mut |event| {
        events += 1;
        numbers(&event).into_iter().flatten().for_each(&on_number);
    });
    assert_eq!(result.is_ok(), events > 0, "{events} events beside {result:?}");
}

/// Every decimal of an event.
fn numbers(event: &Event<'_>) -> [Option<Decimal>; 6] {
    match event {
        Event::Trade(trade) => [Some(trade.price), Some(trade.size), None, None, None, None],
        Event::Quote(quote) => {
            let price = |top: Option<Top>| top.map(|top| top.price);
            let size = |top: Option<Top>| top.and_then(|top| top.size);
            [price(quote.bid), size(quote.bid), price(quote.ask), size(quote.ask), None, None]
        }
        Event::Bar(bar) => [Some(bar.open), Some(bar.high), Some(bar.low), Some(bar.close), Some(bar.volume), bar.vwap],
        Event::Level(level) => [Some(level.price), Some(level.size), None, None, None, None],
        _ => [None; 6],
    }
}

/// Whether these digits, and no others around them, stand somewhere in the frame.
pub(crate) fn stands_in(frame: &[u8], number: Decimal) -> bool {
    let in_number = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'+' | b'e' | b'E');
    frame
        .split(|byte| !in_number(byte))
        .filter_map(|text| Decimal::parse(text).ok())
        .any(|other| (other.mantissa(), other.scale()) == (number.mantissa(), number.scale()))
}
