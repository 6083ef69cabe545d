//! Quantities as they stand in the configuration: durations such as `"250ms"` and sizes such as `"64MiB"`,
//! with their serde adapters.
//!
//! Deliberately absent: fractions (`"1.5s"` is `"1500ms"`) and decimal sizes (`MB`), so that one quantity
//! has one spelling and a size is always what it looks like in a memory dump.

use std::time::Duration;

/// Read only: what is printed has hours, so that the configuration prints as it was before there were days.
const DAY: (&str, u128) = ("d", 24 * 3_600_000_000_000);
const NANOS: [(&str, u128); 6] = [
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];
const BYTES: [(&str, u128); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// The text is no quantity of the expected kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    #[error("`{text}` is no duration: write a whole number and a unit, such as 10s, 250ms, 15m, 1h or 90d")]
    Duration { text: String },
    #[error("`{text}` is no size: write a whole number and a unit, such as 64KiB, 16MiB or 512B")]
    Size { text: String },
}

/// Reads `10s`, `250ms`, `15m`, `1h`, `90d`, `50us` or `100ns`.
///
/// # Errors
/// [`QuantityError::Duration`] for any other text, and for more nanoseconds than an `i64` holds (292 years).
pub fn parse_duration(text: &str) -> Result<Duration, QuantityError> {
    parse(text, NANOS.iter().chain([&DAY]))
        .filter(|nanos| *nanos <= i64::MAX as u128)
        .map(|nanos| Duration::from_nanos(nanos as u64))
        .ok_or_else(|| QuantityError::Duration { text: text.to_owned() })
}

/// Reads `512B`, `64KiB`, `16MiB` or `1GiB`. Returns bytes.
///
/// # Errors
/// [`QuantityError::Size`] for any other text, and for more bytes than a `usize` holds.
pub fn parse_bytes(text: &str) -> Result<usize, QuantityError> {
    parse(text, BYTES.iter())
        .and_then(|bytes| usize::try_from(bytes).ok())
        .ok_or_else(|| QuantityError::Size { text: text.to_owned() })
}

/// Writes a duration in the largest unit that holds it exactly.
pub fn format_duration(duration: Duration) -> String {
    format(duration.as_nanos(), &NANOS, "0s")
}

/// Writes a size in the largest unit that holds it exactly.
pub fn format_bytes(bytes: usize) -> String {
    format(bytes as u128, &BYTES, "0B")
}

fn parse<'a>(text: &str, mut units: impl Iterator<Item = &'a (&'a str, u128)>) -> Option<u128> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok().map(|number| u128::from(number) * factor)
}

fn format(value: u128, units: &[(&str, u128)], zero: &str) -> String {
    let exact = units.iter().find(|(_, factor)| value >= *factor && value.is_multiple_of(*factor));
    exact.map_or_else(|| zero.to_owned(), |(unit, factor)| format!("{}{unit}", value / factor))
}

/// For `#[serde(with = "units::duration")]` on a [`Duration`].
pub(super) mod duration {
    use std::time::Duration;

    use serde::{Deserializer, Serializer};

    pub(in crate::config) fn serialize<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&super::format_duration(*duration))
    }

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        from.deserialize_any(super::Text("a duration such as \"10s\"", super::parse_duration))
    }
}

/// For `#[serde(with = "units::optional_duration")]` on an `Option<Duration>`.
pub(super) mod optional_duration {
    use std::time::Duration;

    use serde::{Deserializer, Serializer};

    pub(in crate::config) fn serialize<S: Serializer>(duration: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => super::duration::serialize(duration, to),
            None => to.serialize_none(),
        }
    }

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
        super::duration::deserialize(from).map(Some)
    }
}

/// For `#[serde(with = "units::bytes")]` on a `usize` that counts bytes.
pub(super) mod bytes {
    use serde::{Deserializer, Serializer};

    // serde hands the field over by reference.
    #[allow(clippy::trivially_copy_pass_by_ref)]
    pub(in crate::config) fn serialize<S: Serializer>(bytes: &usize, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&super::format_bytes(*bytes))
    }

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<usize, D::Error> {
        from.deserialize_any(super::Text("a size such as \"64KiB\"", super::parse_bytes))
    }
}

/// Reads a string through a parser; everything else is refused with what was expected.
struct Text<T>(&'static str, fn(&str) -> Result<T, QuantityError>);

impl<T> serde::de::Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(self.0)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        (self.1)(text).map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, nanos: u64, printed: &str) {
        let duration = parse_duration(text).unwrap();
        assert_eq!(duration, Duration::from_nanos(nanos), "{text}");
        assert_eq!(format_duration(duration), printed);
    }

    #[test]
    fn durations_have_units() {
        check("10s", 10_000_000_000, "10s");
        check("250ms", 250_000_000, "250ms");
        check("15m", 900_000_000_000, "15m");
        check("60m", 3_600_000_000_000, "1h");
        check("1500ms", 1_500_000_000, "1500ms");
        check("90d", 7_776_000_000_000_000, "2160h");
        check("0s", 0, "0s");
        check("7 ns", 7, "7ns");
        for text in
            ["", "10", "s", "-1s", "1.5s", "10 sec", "10S", "300000000h", "200000d", "99999999999999999999s", "١s"]
        {
            assert_eq!(parse_duration(text), Err(QuantityError::Duration { text: text.to_owned() }));
        }
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(parse_bytes("64KiB"), Ok(65_536));
        assert_eq!(parse_bytes("1 GiB"), Ok(1 << 30));
        assert_eq!(format_bytes(64 << 20), "64MiB");
        assert_eq!(format_bytes(1_000), "1000B");
        for text in ["", "64", "64KB", "64MB", "64mib", "-1B", "99999999999999999GiB"] {
            assert_eq!(parse_bytes(text), Err(QuantityError::Size { text: text.to_owned() }));
        }
    }

    proptest! {
        #[test]
        fn quantities_round_trip(nanos in 0..i64::MAX as u64, bytes: usize) {
            let duration = Duration::from_nanos(nanos);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
            prop_assert_eq!(parse_bytes(&format_bytes(bytes)), Ok(bytes));
        }
    }
}
