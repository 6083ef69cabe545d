//! What the tests of the decoders share: the events of a frame, and short words for those that are expected.

use protocol::{Decimal, Side, parse_rfc3339};

use super::event::{BookBegin, BookEnd, BookScope, Event, Level, Part, Symbol, Top};
use super::{DecodeError, Reason};

/// What a frame is expected to say.
pub(super) type Expected<'e, 'a> = Result<&'e [Event<'a>], DecodeError>;

/// What `decode` hands out: events or an error, never both.
#[track_caller]
pub(super) fn events<'a>(
    decode: impl FnOnce(&mut dyn FnMut(Event<'a>)) -> Result<(), DecodeError>,
) -> Result<Vec<Event<'a>>, DecodeError> {
    let mut events = Vec::new();
    let result = decode(&mut |event| events.push(event));
    assert!(result.is_ok() || events.is_empty(), "{events:?} beside {result:?}");
    result.map(|()| events)
}

/// Equality of decimals is numeric and hides a lost zero; the derived text shows mantissa and scale.
#[track_caller]
pub(super) fn check(
    frame: impl std::fmt::Display,
    found: Result<Vec<Event<'_>>, DecodeError>,
    expected: Expected<'_, '_>,
) {
    assert_eq!(found.as_deref(), expected.as_ref().copied(), "{frame}");
    assert_eq!(format!("{found:?}"), format!("{expected:?}"), "{frame}");
}

pub(super) fn missing(field: &'static str) -> Expected<'static, 'static> {
    Err(DecodeError::Missing { field })
}

pub(super) fn invalid(field: &'static str, reason: Reason) -> Expected<'static, 'static> {
    Err(DecodeError::Field { field, reason })
}

/// An invalid part of a frame, and the name of what it was about, if that could be read.
pub(super) fn bad(name: Option<&str>, part: Part, reason: Reason) -> Event<'_> {
    Event::Invalid { symbol: name.map(symbol), part, reason }
}

pub(super) fn symbol(name: &str) -> Symbol<'_> {
    Symbol::Text(name.as_bytes())
}

pub(super) fn decimal(text: &str) -> Decimal {
    Decimal::parse(text.as_bytes()).unwrap()
}

/// Unix ns of a time in RFC 3339.
pub(super) fn at(text: &str) -> i64 {
    parse_rfc3339(text.as_bytes()).unwrap()
}

/// A side of a quote; its size may be untold.
pub(super) fn top<'t>(price: &str, size: impl Into<Option<&'t str>>) -> Option<Top> {
    Some(Top { price: decimal(price), size: size.into().map(decimal) })
}

pub(super) fn level<'a>(side: Side, price: &str, size: &str) -> Event<'a> {
    Event::Level(Level { side, price: decimal(price), size: decimal(size) })
}

/// The beginning of a change to a book without numbers.
pub(super) fn begin(name: &str, scope: BookScope) -> Event<'_> {
    Event::BookBegin(BookBegin { symbol: symbol(name), scope, updates: None })
}

/// The end of a change to a book without a checksum.
pub(super) fn end<'a>(time: Option<i64>) -> Event<'a> {
    Event::BookEnd(BookEnd { checksum: None, time })
}
