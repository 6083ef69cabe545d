//! A MessagePack reader over borrowed bytes: finds where values begin and end.
//!
//! It builds no tree, allocates nothing and does not recurse, so it needs no bound on nesting: each step takes at
//! least one byte of the frame, whatever counts and lengths are announced. Deliberately absent: the check for valid
//! UTF-8, because texts that are used are compared with, or parsed as, ASCII.
//!
//! Format: <https://github.com/msgpack/msgpack/blob/master/spec.md>.

use std::fmt::{LowerExp, Write};

use protocol::{Decimal, parse_rfc3339};

use super::field::number;
use super::{DecodeError, Reason};

/// The extension type of a timestamp.
const TIMESTAMP: i8 = -1;
const SECOND: i64 = 1_000_000_000;

/// One MessagePack value; of arrays and maps only how many elements, or pairs, they have.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value<'a> {
    /// The key did not occur.
    Absent,
    Nil,
    Bool,
    Unsigned(u64),
    /// Below zero.
    Negative(i64),
    Float32(f32),
    Float64(f64),
    Text(&'a [u8]),
    Binary,
    Array(u32),
    Map(u32),
    Extension {
        kind: i8,
        data: &'a [u8],
    },
}

/// A place in the bytes. After an error the place is of no use.
#[derive(Clone, Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes, at: 0 }
    }

    /// Steps over one value. Of an array or a map it steps over the head alone: its parts are next.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] where the bytes end before it does, [`DecodeError::Syntax`] at the one byte that
    /// begins no value.
    pub(super) fn head(&mut self) -> Result<Value<'a>, DecodeError> {
        let first = self.number::<1>()?[0];
        Ok(match first {
            0x00..=0x7f => Value::Unsigned(first.into()),
            0x80..=0x8f => Value::Map((first & 0x0f).into()),
            0x90..=0x9f => Value::Array((first & 0x0f).into()),
            0xa0..=0xbf => Value::Text(self.take((first & 0x1f).into())?),
            0xc0 => Value::Nil,
            0xc1 => return Err(DecodeError::Syntax { offset: self.at - 1 }),
            0xc2 | 0xc3 => Value::Bool,
            0xc4..=0xc6 => {
                let length = self.length(first - 0xc4)?;
                self.take(length)?;
                Value::Binary
            }
            0xc7..=0xc9 => {
                let length = self.length(first - 0xc7)?;
                self.extension(length)?
            }
            0xca => Value::Float32(f32::from_be_bytes(self.number()?)),
            0xcb => Value::Float64(f64::from_be_bytes(self.number()?)),
            0xcc => Value::Unsigned(u8::from_be_bytes(self.number()?).into()),
            0xcd => Value::Unsigned(u16::from_be_bytes(self.number()?).into()),
            0xce => Value::Unsigned(u32::from_be_bytes(self.number()?).into()),
            0xcf => Value::Unsigned(u64::from_be_bytes(self.number()?)),
            0xd0 => signed(i8::from_be_bytes(self.number()?).into()),
            0xd1 => signed(i16::from_be_bytes(self.number()?).into()),
            0xd2 => signed(i32::from_be_bytes(self.number()?).into()),
            0xd3 => signed(i64::from_be_bytes(self.number()?)),
            0xd4..=0xd8 => self.extension(1 << (first - 0xd4))?,
            0xd9..=0xdb => {
                let length = self.length(first - 0xd9)?;
                Value::Text(self.take(length)?)
            }
            0xdc => Value::Array(u16::from_be_bytes(self.number()?).into()),
            0xdd => Value::Array(u32::from_be_bytes(self.number()?)),
            0xde => Value::Map(u16::from_be_bytes(self.number()?).into()),
            0xdf => Value::Map(u32::from_be_bytes(self.number()?)),
            0xe0..=0xff => signed(i8::from_be_bytes([first]).into()),
        })
    }

    /// Steps over one value with all its parts.
    ///
    /// # Errors
    /// As [`Self::head`].
    pub(super) fn value(&mut self) -> Result<Value<'a>, DecodeError> {
        let value = self.head()?;
        self.parts(value)?;
        Ok(value)
    }

    /// Steps over the parts of a value whose head was read.
    ///
    /// # Errors
    /// As [`Self::head`].
    pub(super) fn parts(&mut self, value: Value<'a>) -> Result<(), DecodeError> {
        let count = |value| match value {
            Value::Array(count) => u64::from(count),
            Value::Map(count) => 2 * u64::from(count),
            _ => 0,
        };
        let mut due = count(value);
        while due > 0 {
            // More parts than a u64 counts need more bytes than any frame has.
            due = (due - 1).saturating_add(count(self.head()?));
        }
        Ok(())
    }

    /// Checks that nothing is left.
    ///
    /// # Errors
    /// [`DecodeError::Syntax`] where something follows.
    pub(super) fn end(&self) -> Result<(), DecodeError> {
        if self.at == self.bytes.len() { Ok(()) } else { Err(DecodeError::Syntax { offset: self.at }) }
    }

    fn truncated(&self) -> DecodeError {
        DecodeError::Truncated { offset: self.bytes.len() }
    }

    fn number<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let bytes = *rest.first_chunk().ok_or_else(|| self.truncated())?;
        self.at += N;
        Ok(bytes)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let taken = rest.get(..length).ok_or_else(|| self.truncated())?;
        self.at += length;
        Ok(taken)
    }

    /// A length of one, two or four bytes, for `width` 0, 1 or 2.
    fn length(&mut self, width: u8) -> Result<usize, DecodeError> {
        let length = match width {
            0 => u8::from_be_bytes(self.number()?).into(),
            1 => u16::from_be_bytes(self.number()?).into(),
            _ => u32::from_be_bytes(self.number()?),
        };
        // Where an address has 16 bits, no frame is as long as that.
        usize::try_from(length).map_err(|_| self.truncated())
    }

    fn extension(&mut self, length: usize) -> Result<Value<'a>, DecodeError> {
        let kind = i8::from_be_bytes(self.number()?);
        Ok(Value::Extension { kind, data: self.take(length)? })
    }
}

fn signed(number: i64) -> Value<'static> {
    u64::try_from(number).map_or(Value::Negative(number), Value::Unsigned)
}

impl<'a> Value<'a> {
    pub(super) fn plain(self) -> Result<&'a [u8], Reason> {
        match self {
            Value::Text(text) => Ok(text),
            Value::Absent | Value::Nil => Err(Reason::MissingField),
            _ => Err(Reason::FieldType),
        }
    }

    /// A number, or the text of one. A float is the number of the fewest digits that is nearest to no other float:
    /// the one that was written down before it became a float, where that had 15 digits or fewer.
    pub(super) fn decimal(self) -> Result<Option<Decimal>, Reason> {
        match self {
            Value::Absent | Value::Nil => Ok(None),
            Value::Unsigned(n) => i64::try_from(n).map_err(|_| Reason::NumberRange).map(|n| Decimal::new(n, 0)),
            Value::Negative(n) => Ok(Decimal::new(n, 0)),
            Value::Float32(float) => shortest(float).map(Some),
            Value::Float64(float) => shortest(float).map(Some),
            Value::Text(text) => number(text).map(Some),
            _ => Err(Reason::FieldType),
        }
    }

    pub(super) fn integer(self) -> Result<Option<u64>, Reason> {
        match self {
            Value::Absent | Value::Nil => Ok(None),
            Value::Unsigned(n) if i64::try_from(n).is_ok() => Ok(Some(n)),
            Value::Unsigned(_) => Err(Reason::NumberRange),
            Value::Negative(_) => Err(Reason::Number),
            _ => Err(Reason::FieldType),
        }
    }

    /// A timestamp, or the RFC 3339 text of a time.
    pub(super) fn time(self) -> Result<Option<i64>, Reason> {
        match self {
            Value::Absent | Value::Nil => Ok(None),
            Value::Extension { kind: TIMESTAMP, data } => timestamp(data).map(Some).ok_or(Reason::Time),
            Value::Text(text) => parse_rfc3339(text).map(Some).ok_or(Reason::Time),
            _ => Err(Reason::FieldType),
        }
    }

    pub(super) fn shown(self) -> &'a [u8] {
        self.plain().unwrap_or_default()
    }
}

/// The Unix ns of a timestamp in one of its three forms.
fn timestamp(data: &[u8]) -> Option<i64> {
    let (seconds, nanos) = if let Ok(seconds) = <[u8; 4]>::try_from(data) {
        (u32::from_be_bytes(seconds).into(), 0)
    } else if let Ok(both) = <[u8; 8]>::try_from(data) {
        let both = u64::from_be_bytes(both);
        ((both & ((1 << 34) - 1)).cast_signed(), (both >> 34).cast_signed())
    } else {
        let (nanos, seconds) = data.split_first_chunk::<4>()?;
        (i64::from_be_bytes(seconds.try_into().ok()?), u32::from_be_bytes(*nanos).into())
    };
    if nanos >= SECOND {
        return None;
    }
    seconds.checked_mul(SECOND)?.checked_add(nanos)
}

/// Where the text of a float is made: `-1.7976931348623157e308` is the longest.
#[derive(Default)]
struct Digits {
    bytes: [u8; 24],
    length: usize,
}

impl Write for Digits {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let end = self.length + text.len();
        self.bytes.get_mut(self.length..end).ok_or(std::fmt::Error)?.copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}

fn shortest(float: impl LowerExp) -> Result<Decimal, Reason> {
    let mut digits = Digits::default();
    write!(digits, "{float:e}").map_err(|_| Reason::NumberRange)?;
    number(&digits.bytes[..digits.length])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8]) -> Result<Value<'_>, DecodeError> {
        let mut reader = Reader::new(bytes);
        let value = reader.value()?;
        reader.end()?;
        Ok(value)
    }

    #[track_caller]
    fn check(bytes: &[u8], expected: Result<Value<'_>, DecodeError>) {
        assert_eq!(read(bytes), expected, "{bytes:02x?}");
        // A value that can be read cannot be read any more when its end is missing.
        if expected.is_ok() {
            for end in 0..bytes.len() {
                assert_eq!(read(&bytes[..end]), Err(DecodeError::Truncated { offset: end }), "{:02x?}", &bytes[..end]);
            }
        }
    }

    #[test]
    fn finds_values() {
        check(b"\x00", Ok(Value::Unsigned(0)));
        check(b"\x7f", Ok(Value::Unsigned(127)));
        check(b"\xff", Ok(Value::Negative(-1)));
        check(b"\xe0", Ok(Value::Negative(-32)));
        check(b"\xc0", Ok(Value::Nil));
        check(b"\xc2", Ok(Value::Bool));
        check(b"\xc3", Ok(Value::Bool));
        check(b"\xcc\xff", Ok(Value::Unsigned(255)));
        check(b"\xcd\x01\0", Ok(Value::Unsigned(256)));
        check(b"\xce\0\x01\0\0", Ok(Value::Unsigned(65_536)));
        check(b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff", Ok(Value::Unsigned(u64::MAX)));
        check(b"\xd0\x80", Ok(Value::Negative(-128)));
        check(b"\xd1\xff\0", Ok(Value::Negative(-256)));
        check(b"\xd2\0\0\0\x07", Ok(Value::Unsigned(7)));
        check(b"\xd3\x80\0\0\0\0\0\0\0", Ok(Value::Negative(i64::MIN)));
        check(b"\xca\x3f\xc0\0\0", Ok(Value::Float32(1.5)));
        check(b"\xcb\xbf\xf8\0\0\0\0\0\0", Ok(Value::Float64(-1.5)));
        for text in [&b"\xa0"[..], b"\xd9\0", b"\xda\0\0", b"\xdb\0\0\0\0"] {
            check(text, Ok(Value::Text(b"")));
        }
        for text in [&b"\xa2\"\\"[..], b"\xd9\x02\"\\", b"\xda\0\x02\"\\", b"\xdb\0\0\0\x02\"\\"] {
            check(text, Ok(Value::Text(br#""\"#)));
        }
        for binary in [&b"\xc4\x01x"[..], b"\xc5\0\x01x", b"\xc6\0\0\0\x01x"] {
            check(binary, Ok(Value::Binary));
        }
        let extension = |data| Ok(Value::Extension { kind: -2, data });
        check(b"\xd4\xfe1", extension(b"1"));
        check(b"\xd5\xfe12", extension(b"12"));
        check(b"\xd6\xfe1234", extension(b"1234"));
        check(b"\xd7\xfe12345678", extension(b"12345678"));
        check(b"\xd8\xfe1234567812345678", extension(b"1234567812345678"));
        for any in [&b"\xc7\x03\xfe123"[..], b"\xc8\0\x03\xfe123", b"\xc9\0\0\0\x03\xfe123"] {
            check(any, extension(b"123"));
        }
        for list in [&b"\x92\x01\x91\xc0"[..], b"\xdc\0\x02\x01\x91\xc0", b"\xdd\0\0\0\x02\x01\x91\xc0"] {
            check(list, Ok(Value::Array(2)));
        }
        for map in [&b"\x81\xa1x\x80"[..], b"\xde\0\x01\xa1x\x80", b"\xdf\0\0\0\x01\xa1x\x80"] {
            check(map, Ok(Value::Map(1)));
        }
    }

    #[test]
    fn says_where_it_stops() {
        let truncated = |offset| Err(DecodeError::Truncated { offset });
        check(b"\xc1", Err(DecodeError::Syntax { offset: 0 }));
        check(b"\x92\x01\xc1", Err(DecodeError::Syntax { offset: 2 }));
        check(b"\x01\x01", Err(DecodeError::Syntax { offset: 1 }));
        // What is announced costs nothing until it is there.
        check(b"\xdf\xff\xff\xff\xff", truncated(5));
        check(&b"\xdf\xff\xff\xff\xff".repeat(1_000), truncated(5_000));
        check(b"\xdb\xff\xff\xff\xffx", truncated(6));
        check(b"\xc9\xff\xff\xff\xff\xff", truncated(6));
        // Neither is there a stack that nesting could fill.
        check(&b"\x91".repeat(1 << 20), truncated(1 << 20));
        let mut deep = b"\x91".repeat(1 << 20);
        deep.push(0xc0);
        assert_eq!(read(&deep), Ok(Value::Array(1)));
    }

    #[test]
    fn numbers_become_decimals() {
        #[track_caller]
        fn check(value: Value<'_>, expected: Result<Option<&str>, Reason>) {
            let text = value.decimal().map(|decimal| decimal.map(|decimal| decimal.to_string()));
            assert_eq!(text, expected.map(|text| text.map(str::to_owned)), "{value:?}");
        }
        let found = |text| Ok(Some(text));
        check(Value::Unsigned(49_378), found("49378"));
        check(Value::Unsigned(i64::MAX as u64), found("9223372036854775807"));
        check(Value::Unsigned(1 << 63), Err(Reason::NumberRange));
        check(Value::Negative(-7), found("-7"));
        check(Value::Float64(162.92), found("162.92"));
        check(Value::Float64(140.0), found("140"));
        check(Value::Float64(0.1 + 0.2), found("0.30000000000000004"));
        check(Value::Float64(0.00000001), found("0.00000001"));
        check(Value::Float64(-0.0), found("0"));
        check(Value::Float64(1e18), found("1000000000000000000"));
        check(Value::Float64(1e19), Err(Reason::NumberRange));
        check(Value::Float64(1e-19), Err(Reason::NumberRange));
        check(Value::Float64(-f64::MAX), Err(Reason::NumberRange));
        check(Value::Float64(-5e-324), Err(Reason::NumberRange));
        check(Value::Float64(f64::NAN), Err(Reason::Number));
        check(Value::Float64(f64::NEG_INFINITY), Err(Reason::Number));
        check(Value::Float32(162.92), found("162.92"));
        check(Value::Float32(f32::MAX), Err(Reason::NumberRange));
        check(Value::Text(b"40.0"), found("40.0"));
        check(Value::Text(b"0.-10000"), Err(Reason::Number));
        check(Value::Nil, Ok(None));
        check(Value::Absent, Ok(None));
        for value in [Value::Bool, Value::Binary, Value::Array(0), Value::Map(0)] {
            check(value, Err(Reason::FieldType));
        }
    }

    #[test]
    fn timestamps_become_nanoseconds() {
        #[track_caller]
        fn check(kind: i8, data: &[u8], expected: Result<i64, Reason>) {
            let value = Value::Extension { kind, data };
            assert_eq!(value.time(), expected.map(Some), "{value:?}");
        }
        check(-1, &1_680_782_066u32.to_be_bytes(), Ok(1_680_782_066_000_000_000));
        check(-1, &u32::MAX.to_be_bytes(), Ok(4_294_967_295_000_000_000));
        let both = |nanos: u64, seconds: u64| (nanos << 34 | seconds).to_be_bytes();
        check(-1, &both(838_232_225, 1_680_782_066), Ok(1_680_782_066_838_232_225));
        check(-1, &both(999_999_999, 1 << 32), Ok(4_294_967_296_999_999_999));
        check(-1, &both(1_000_000_000, 1_680_782_066), Err(Reason::Time));
        check(-1, &both(0, (1 << 34) - 1), Err(Reason::Time));
        let long = |nanos: u32, seconds: i64| [&nanos.to_be_bytes()[..], &seconds.to_be_bytes()].concat();
        check(-1, &long(838_232_225, 1_680_782_066), Ok(1_680_782_066_838_232_225));
        check(-1, &long(1, -1), Ok(-999_999_999));
        check(-1, &long(1_000_000_000, 0), Err(Reason::Time));
        check(-1, &long(0, i64::MAX), Err(Reason::Time));
        // The year 0001.
        check(-1, &long(0, -62_135_596_800), Err(Reason::Time));
        for length in [0, 1, 2, 3, 5, 7, 9, 11, 13, 16] {
            check(-1, &vec![0; length], Err(Reason::Time));
        }
        check(1, &[0; 4], Err(Reason::FieldType));
        assert_eq!(Value::Text(b"2023-04-06T11:54:26.838232225Z").time(), Ok(Some(1_680_782_066_838_232_225)));
        assert_eq!(Value::Text(b"now").time(), Err(Reason::Time));
        assert_eq!(Value::Unsigned(1_680_782_066).time(), Err(Reason::FieldType));
        assert_eq!(Value::Nil.time(), Ok(None));
    }

    #[test]
    fn integers_are_those_that_ids_may_be() {
        assert_eq!(Value::Unsigned(52_983_525_033_527).integer(), Ok(Some(52_983_525_033_527)));
        assert_eq!(Value::Unsigned(1 << 63).integer(), Err(Reason::NumberRange));
        assert_eq!(Value::Negative(-1).integer(), Err(Reason::Number));
        assert_eq!(Value::Float64(1.0).integer(), Err(Reason::FieldType));
        assert_eq!(Value::Absent.integer(), Ok(None));
    }

    proptest! {
        #[test]
        fn agrees_with_another_reader(bytes in proptest::collection::vec(prop_oneof![any::<u8>(), 0x80u8..=0xdf], 0..48)) {
            let mut theirs = rmp_serde::Deserializer::from_read_ref(&bytes);
            let ignored: Result<serde::de::IgnoredAny, _> = serde::Deserialize::deserialize(&mut theirs);
            prop_assert_eq!(Reader::new(&bytes).value().is_ok(), ignored.is_ok(), "{:?}", ignored);
        }

        #[test]
        fn a_decimal_survives_being_a_float(mantissa in -999_999_999_999_999i64..=999_999_999_999_999, scale in 0u8..=9) {
            let decimal = Decimal::new(mantissa, scale).unwrap();
            let float: f64 = decimal.to_string().parse().unwrap();
            prop_assert_eq!(Value::Float64(float).decimal(), Ok(Some(decimal)));
        }

        #[test]
        fn any_float_is_a_number_or_refused(bits: u64) {
            let float = f64::from_bits(bits);
            if let Ok(Some(decimal)) = Value::Float64(float).decimal() {
                prop_assert_eq!(decimal.to_string().parse::<f64>().unwrap(), float);
            }
        }
    }
}
