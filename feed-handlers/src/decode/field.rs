//! Values of JSON fields: from what the scanner found to numbers, texts and times, or the reason why not.
//!
//! Pure. An absent key and a `null` are the same to all of these.

use protocol::{Decimal, DecimalError, parse_rfc3339};

use super::event::{Symbol, Top};
use super::json::{Kind, Value};
use super::{DecodeError, Reason};

pub(super) fn required<T>(read: Result<Option<T>, Reason>, field: &'static str) -> Result<T, DecodeError> {
    optional(read, field)?.ok_or(DecodeError::Missing { field })
}

pub(super) fn optional<T>(read: Result<Option<T>, Reason>, field: &'static str) -> Result<Option<T>, DecodeError> {
    read.map_err(|reason| DecodeError::Field { field, reason })
}

/// What a part of a message cannot do without.
pub(super) fn present<T>(read: Result<Option<T>, Reason>) -> Result<T, Reason> {
    read?.ok_or(Reason::MissingField)
}

/// A side of a quote from a venue that leaves out, or fills with zeros, the side where nobody stands.
pub(super) fn quoted(price: Option<Decimal>, size: Option<Decimal>) -> Option<Top> {
    let price = price.filter(|price| !price.is_zero())?;
    if size.is_some_and(Decimal::is_zero) {
        return None;
    }
    Some(Top { price, size })
}

/// Such a side where its keys may be left out.
pub(super) fn top(price: Value<'_>, size: Value<'_>) -> Result<Option<Top>, Reason> {
    Ok(quoted(decimal(price)?, decimal(size)?))
}

/// Such a side from a venue that always writes the price, if only as a zero or `null`.
pub(super) fn present_top(price: Value<'_>, size: Value<'_>) -> Result<Option<Top>, Reason> {
    if price.kind == Kind::Absent {
        return Err(Reason::MissingField);
    }
    top(price, size)
}

/// An instrument by the venue's name of it.
pub(super) fn symbol(value: Value<'_>) -> Result<Symbol<'_>, Reason> {
    plain(value).map(Symbol::Text)
}

pub(super) fn text<'a>(value: Value<'a>, field: &'static str) -> Result<&'a [u8], DecodeError> {
    plain(value).map_err(|reason| match reason {
        Reason::MissingField => DecodeError::Missing { field },
        _ => DecodeError::Field { field, reason },
    })
}

pub(super) fn array<'a>(value: Value<'a>, field: &'static str) -> Result<&'a [u8], DecodeError> {
    match value.kind {
        Kind::Array => Ok(value.raw),
        Kind::Absent | Kind::Null => Err(DecodeError::Missing { field }),
        _ => Err(DecodeError::Field { field, reason: Reason::FieldType }),
    }
}

/// The list in a part of a message. A `null` is an empty one, as Go writes it.
pub(super) fn list(value: Value<'_>) -> Result<&[u8], Reason> {
    match value.kind {
        Kind::Array => Ok(value.raw),
        Kind::Null => Ok(b"[]"),
        Kind::Absent => Err(Reason::MissingField),
        _ => Err(Reason::FieldType),
    }
}

pub(super) fn plain(value: Value<'_>) -> Result<&[u8], Reason> {
    match value.kind {
        Kind::Text => Ok(value.raw),
        Kind::Absent | Kind::Null => Err(Reason::MissingField),
        _ => Err(Reason::FieldType),
    }
}

/// The characters of a string or a bare number, `None` for an absent value. The venue writes prices as strings
/// and ids as numbers; either is read in either form, because the text is exact in both.
pub(super) fn scalar(value: Value<'_>) -> Result<Option<&[u8]>, Reason> {
    match value.kind {
        Kind::Text | Kind::Number => Ok(Some(value.raw)),
        Kind::Absent | Kind::Null => Ok(None),
        _ => Err(Reason::FieldType),
    }
}

pub(super) fn decimal(value: Value<'_>) -> Result<Option<Decimal>, Reason> {
    let Some(digits) = scalar(value)? else { return Ok(None) };
    number(digits).map(Some)
}

pub(super) fn number(digits: &[u8]) -> Result<Decimal, Reason> {
    Decimal::parse(digits).map_err(|error| match error {
        DecimalError::Malformed => Reason::Number,
        DecimalError::OutOfRange => Reason::NumberRange,
    })
}

pub(super) fn integer(value: Value<'_>) -> Result<Option<u64>, Reason> {
    let Some(digits) = scalar(value)? else { return Ok(None) };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Reason::Number);
    }
    let number = digits.iter().try_fold(0u64, |n, digit| n.checked_mul(10)?.checked_add(u64::from(digit - b'0')));
    number.filter(|n| i64::try_from(*n).is_ok()).map(Some).ok_or(Reason::NumberRange)
}

pub(super) fn time(value: Value<'_>) -> Result<Option<i64>, Reason> {
    match value.kind {
        Kind::Absent | Kind::Null => Ok(None),
        Kind::Text => parse_rfc3339(value.raw).map(Some).ok_or(Reason::Time),
        _ => Err(Reason::FieldType),
    }
}

/// An integer count of `unit_ns` since 1970, as Unix ns.
pub(super) fn unix_time(value: Value<'_>, unit_ns: i64) -> Result<Option<i64>, Reason> {
    let Some(count) = integer(value)? else { return Ok(None) };
    let time = i64::try_from(count).ok().and_then(|count| count.checked_mul(unit_ns));
    time.map(Some).ok_or(Reason::Time)
}

/// Seconds since 1970, with up to nine digits behind the point, as Unix ns.
pub(super) fn unix_seconds(value: Value<'_>) -> Result<Option<i64>, Reason> {
    let Some(text) = scalar(value)? else { return Ok(None) };
    parse_unix_seconds(text).map(Some).ok_or(Reason::Time)
}

fn parse_unix_seconds(text: &[u8]) -> Option<i64> {
    let (seconds, fraction) = match text.iter().position(|byte| *byte == b'.') {
        Some(point) => (&text[..point], Some(&text[point + 1..])),
        None => (text, None),
    };
    let number = |digits: &[u8]| {
        let digit =
            |n: i64, byte: &u8| n.checked_mul(10)?.checked_add(byte.is_ascii_digit().then(|| i64::from(byte - b'0'))?);
        if digits.is_empty() { None } else { digits.iter().try_fold(0, digit) }
    };
    let ns = match fraction {
        Some(digits) if digits.len() <= 9 => number(digits)? * 10i64.pow(9 - digits.len() as u32),
        Some(_) => return None,
        None => 0,
    };
    number(seconds)?.checked_mul(1_000_000_000)?.checked_add(ns)
}

pub(super) fn boolean(value: Value<'_>) -> Result<Option<bool>, Reason> {
    match value.kind {
        Kind::Bool => Ok(Some(value.raw == b"true")),
        Kind::Absent | Kind::Null => Ok(None),
        _ => Err(Reason::FieldType),
    }
}

/// What there is of a text, to be shown: as the venue wrote it, escapes and all.
pub(super) fn shown(value: Value<'_>) -> &[u8] {
    match value.kind {
        Kind::Text | Kind::EscapedText => value.raw,
        _ => b"",
    }
}
