//! The bytes of a FIX 4.4 message: where it ends, whether it is whole, its fields, and their values.
//!
//! Pure, and without allocation. Fields end with SOH (0x01), but for those that hold raw data, whose length another
//! field tells. Deliberately absent: what the fields mean, which is for [`super::fix`], and a dictionary: groups are
//! told apart by their first tag.
//!
//! Form: <https://www.fixtrading.org/standards/tagvalue-online/>.

use protocol::{Decimal, parse_rfc3339};

use super::json::{Kind, Value};
use super::{DecodeError, Reason, field};

const SOH: u8 = 1;

/// How every message begins; the digits of its length follow.
pub(crate) const BEGIN: &[u8] = b"8=FIX.4.4\x019=";

/// `10=`, three digits, SOH.
const TRAILER_BYTES: usize = 7;

/// Longest body that is waited for: a book of 5,000 levels a side needs half a megabyte.
const BODY_BYTES_MAX: usize = 16 << 20;

/// Digits of a length, leading zeros included (Binance writes seven).
const LENGTH_DIGITS_MAX: usize = 9;

/// Where the message at the beginning of `bytes` ends, by its own length; `None` where more bytes are needed.
///
/// Its checksum is not looked at: a message that is garbled inside is refused by [`super::fix::decode`], and the one
/// after it can still be found.
///
/// # Errors
/// [`DecodeError`] where no message begins or its length leads to no end: the stream cannot be followed any further.
/// [`DecodeError::Length`] tells, as `found`, the length up to where the first checksum stands.
pub fn frame_end(bytes: &[u8]) -> Result<Option<usize>, DecodeError> {
    let Some((start, stated)) = head(bytes)? else { return Ok(None) };
    let end = start + stated;
    if bytes.len() < end + TRAILER_BYTES {
        return Ok(None);
    }
    if is_trailer(&bytes[end - 1..end + TRAILER_BYTES]) {
        return Ok(Some(end + TRAILER_BYTES));
    }
    let body = &bytes[start..];
    let found = memchr::memmem::find(body, b"\x0110=").map_or(body.len(), |at| at + 1);
    Err(DecodeError::Length { stated, found })
}

/// Begin and length of the body. `length > 0`.
fn head(bytes: &[u8]) -> Result<Option<(usize, usize)>, DecodeError> {
    let wrong = |(ours, theirs): (&u8, &u8)| ours != theirs;
    if let Some(offset) = BEGIN.iter().zip(bytes).position(wrong) {
        return Err(DecodeError::Syntax { offset });
    }
    let mut length = 0;
    for (count, byte) in bytes.iter().skip(BEGIN.len()).enumerate() {
        let offset = BEGIN.len() + count;
        match byte {
            b'0'..=b'9' if count < LENGTH_DIGITS_MAX => length = length * 10 + usize::from(byte - b'0'),
            &SOH if length == 0 || length > BODY_BYTES_MAX => {
                return Err(DecodeError::Field { field: "BodyLength", reason: Reason::NumberRange });
            }
            &SOH => return Ok(Some((offset + 1, length))),
            _ => return Err(DecodeError::Syntax { offset }),
        }
    }
    Ok(None)
}

/// Whether it is the SOH in front of a checksum and the checksum.
fn is_trailer(bytes: &[u8]) -> bool {
    matches!(bytes, [SOH, b'1', b'0', b'=', b'0'..=b'9', b'0'..=b'9', b'0'..=b'9', SOH])
}

/// The fields of the one message that `frame` holds, those between its length and its checksum, both of which hold.
///
/// # Errors
/// [`DecodeError`] where it is no message, not a whole one, or more than one.
pub(super) fn fields(frame: &[u8]) -> Result<Fields<'_>, DecodeError> {
    let length = frame.len();
    let Some((start, stated)) = head(frame)? else { return Err(DecodeError::Truncated { offset: length }) };
    match frame_end(frame)? {
        Some(end) if end == length => {}
        Some(end) => return Err(DecodeError::Syntax { offset: end }),
        // As it ends like a whole message, it is its length that is wrong.
        None if length > start + TRAILER_BYTES && is_trailer(&frame[length - TRAILER_BYTES - 1..]) => {
            return Err(DecodeError::Length { stated, found: length - TRAILER_BYTES - start });
        }
        None => return Err(DecodeError::Truncated { offset: length }),
    }
    let (summed, trailer) = frame.split_at(start + stated);
    let digits = trailer[3..6].iter().fold(0, |n, digit| n * 10 + u32::from(digit - b'0'));
    let sum = summed.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    if digits != u32::from(sum) {
        return Err(DecodeError::Checksum { stated: digits, found: sum.into() });
    }
    Ok(Fields { bytes: summed, at: start, raw: None })
}

/// One field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Field<'a> {
    pub(super) tag: u32,
    /// Without its SOH. Of raw data the bytes themselves, which may hold any.
    pub(super) value: &'a [u8],
}

/// A place between two fields of a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a> {
    /// Up to the checksum, so that places in it are offsets in the frame.
    bytes: &'a [u8],
    at: usize,
    /// Tag and length of the raw data that may come next.
    raw: Option<(u32, usize)>,
}

impl<'a> Fields<'a> {
    /// Where in the frame the next field begins.
    pub(super) const fn offset(&self) -> usize {
        self.at
    }

    /// Steps over the next field; `None` at the end.
    ///
    /// # Errors
    /// [`DecodeError`] where no `tag=value` stands, or raw data that are not as long as is told. After an error the
    /// place is of no use.
    pub(super) fn next(&mut self) -> Result<Option<Field<'a>>, DecodeError> {
        let rest = &self.bytes[self.at..];
        if rest.is_empty() {
            return Ok(None);
        }
        let syntax = DecodeError::Syntax { offset: self.at };
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        // No tag has more digits, and nine of them fit.
        if !(1..=9).contains(&digits) || rest[0] == b'0' || rest.get(digits) != Some(&b'=') {
            return Err(syntax);
        }
        let tag = rest[..digits].iter().fold(0, |n, digit| n * 10 + u32::from(digit - b'0'));
        let rest = &rest[digits + 1..];
        let length = match self.raw.take() {
            Some((raw_tag, stated)) if raw_tag == tag => {
                if rest.get(stated) != Some(&SOH) {
                    let found = memchr::memchr(SOH, rest).unwrap_or(rest.len());
                    return Err(DecodeError::Length { stated, found });
                }
                stated
            }
            _ => memchr::memchr(SOH, rest).ok_or(syntax)?,
        };
        let value = &rest[..length];
        if let Some(raw_tag) = raw_tag(tag) {
            let length = field::required(integer(Some(value)), "length of raw data")?;
            self.raw = Some((raw_tag, usize::try_from(length).unwrap_or(usize::MAX)));
        }
        self.at += digits + 1 + length + 1;
        Ok(Some(Field { tag, value }))
    }
}

/// The tag of the raw data whose length the field `length_tag` tells.
fn raw_tag(length_tag: u32) -> Option<u32> {
    match length_tag {
        // SignatureLength alone stands behind what it measures in number.
        93 => Some(89),
        90 | 95 | 212 | 348 | 350 | 352 | 354 | 356 | 358 | 360 | 362 | 364 | 445 | 618 | 621 => Some(length_tag + 1),
        _ => None,
    }
}

pub(super) fn integer(value: Option<&[u8]>) -> Result<Option<u64>, Reason> {
    field::integer(value.map_or(Value::ABSENT, |raw| Value { kind: Kind::Text, raw }))
}

/// A FIX float: no exponent, and a point that need not have digits on both sides (`23.`, `.5`).
pub(super) fn decimal(value: Option<&[u8]>) -> Result<Option<Decimal>, Reason> {
    let Some(raw) = value else { return Ok(None) };
    if !raw.iter().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'-')) {
        return Err(Reason::Number);
    }
    let parse = |raw| field::decimal(Value { kind: Kind::Text, raw });
    match raw {
        [whole @ .., b'.'] if !whole.contains(&b'.') => parse(whole),
        [b'.', ..] | [b'-', b'.', ..] => {
            // A zero goes in front of the point. Longer texts have more digits than a decimal holds.
            let mut buffer = [b'0'; 24];
            let sign = usize::from(raw[0] == b'-');
            let text = buffer.get_mut(..=raw.len()).ok_or(Reason::NumberRange)?;
            text[..sign].copy_from_slice(&raw[..sign]);
            text[sign + 1..].copy_from_slice(&raw[sign..]);
            parse(text)
        }
        _ => parse(raw),
    }
}

/// `20241019-05:40:11.466313`, in UTC, with up to nine digits of a second, as Unix ns.
pub(super) fn timestamp(value: Option<&[u8]>) -> Result<Option<i64>, Reason> {
    let Some(text) = value else { return Ok(None) };
    let (date, time) = text.split_at_checked(9).ok_or(Reason::Time)?;
    match date {
        [date @ .., b'-'] => date_and_time(date, time).map(Some),
        _ => Err(Reason::Time),
    }
}

/// `20241019` and `05:40:11.466313`, in UTC, as Unix ns.
pub(super) fn date_and_time(date: &[u8], time: &[u8]) -> Result<i64, Reason> {
    // Written as RFC 3339, which has the same parts: 10 of a date, T, at most 18 of a time, Z.
    let mut text = [0u8; 30];
    let text = text.get_mut(..12 + time.len()).ok_or(Reason::Time)?;
    let [y0, y1, y2, y3, m0, m1, d0, d1] = *date else { return Err(Reason::Time) };
    text[..11].copy_from_slice(&[y0, y1, y2, y3, b'-', m0, m1, b'-', d0, d1, b'T']);
    text[11..11 + time.len()].copy_from_slice(time);
    text[11 + time.len()] = b'Z';
    parse_rfc3339(text).ok_or(Reason::Time)
}
