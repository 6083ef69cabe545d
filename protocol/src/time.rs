//! RFC 3339 times in UTC, to and from Unix nanoseconds, without a calendar library on the tick path.
//!
//! The calendar arithmetic is Howard Hinnant's `days_from_civil` and `civil_from_days`
//! (<https://howardhinnant.github.io/date_algorithms.html>).

use crate::digits::eight_digits;

const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// Reads `2021-04-17T16:43:37.075687Z`: 0 to 9 fractional digits, upper-case `T` and `Z` only, as all the
/// venues write it. Returns Unix nanoseconds; `None` for any other text and for years whose nanoseconds
/// do not fit an `i64` (before 1678 or after 2261, so also the year 0001 that old recordings hold).
pub fn parse_rfc3339(text: &[u8]) -> Option<i64> {
    let (head, tail) = text.split_first_chunk()?;
    let (seconds, nanos) = (unix_seconds(head)?, nanoseconds(tail)?);
    seconds.checked_mul(NANOS_PER_SECOND)?.checked_add(nanos)
}

/// `2021-04-17T16:43:37` in Unix seconds.
fn unix_seconds(text: &[u8; 19]) -> Option<i64> {
    // Three words of eight characters, the last of which overlaps the one before: `2021-04-`, `17T16:43`, `16:43:37`.
    let word = |at: usize| text[at..].first_chunk().map_or(0, |chunk| u64::from_le_bytes(*chunk));
    let is_formed = are_digits(word(0), [255, 255, 255, 255, 0, 255, 255, 0])
        && are_digits(word(8), [255, 255, 0, 255, 255, 0, 255, 255])
        && are_digits(word(11), [255, 255, 0, 255, 255, 0, 255, 255])
        && (text[4], text[7], text[10], text[13], text[16]) == (b'-', b'-', b'T', b':', b':');
    if !is_formed {
        return None;
    }
    let two = |at: usize| i64::from(text[at] - b'0') * 10 + i64::from(text[at + 1] - b'0');
    let year = two(0) * 100 + two(2);
    let (month, day) = (two(5), two(8));
    let (hour, minute, second) = (two(11), two(14), two(17));
    // A leap second (60) is read as the first of the next minute, as POSIX time does.
    let ranges = (1..=12).contains(&month) && (1..=days_in(year, month)).contains(&day);
    if !ranges || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    Some(days_from_civil(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second)
}

/// `.075687Z` in nanoseconds: a point and 1 to 9 digits, or none of them.
fn nanoseconds(text: &[u8]) -> Option<i64> {
    if let Some(&[b'.', ref digits @ .., b'Z']) = text.first_chunk::<8>().filter(|_| text.len() == 8) {
        // Microseconds, as most venues write them: the eight digits of a word, of which the first two are zeros.
        let mut word = [b'0'; 8];
        word[2..].copy_from_slice(digits);
        let word = u64::from_le_bytes(word);
        return are_digits(word, [255; 8]).then(|| eight_digits(word & u64::from_le_bytes([0x0f; 8])) as i64 * 1_000);
    }
    let digits = match text {
        b"Z" => return Some(0),
        [b'.', digits @ .., b'Z'] => digits,
        _ => return None,
    };
    if !matches!(digits.len(), 1..=9) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = digits.iter().fold(0, |number, digit| number * 10 + i64::from(digit - b'0'));
    Some(number * 10i64.pow(9 - digits.len() as u32))
}

/// Whether the bytes of `word` for which `places` has a 255 are digits.
fn are_digits(word: u64, places: [u8; 8]) -> bool {
    let places = u64::from_le_bytes(places);
    // A digit is 0x30 to 0x39: the upper half is 3, also after adding 6, which carries from 0x3a on.
    let upper = u64::from_le_bytes([0xf0; 8]) & places;
    let digits = u64::from_le_bytes([0x30; 8]) & places;
    word & upper == digits && (word & places).wrapping_add(u64::from_le_bytes([6; 8]) & places) & upper == digits
}

/// Appends Unix nanoseconds as `2021-04-17T16:43:37.075687Z`, the fraction without trailing zeros, and
/// without the point where it is zero, as Alpaca writes it.
pub fn format_rfc3339(nanos: i64, out: &mut Vec<u8>) {
    let (seconds, fraction) = (nanos.div_euclid(NANOS_PER_SECOND), nanos.rem_euclid(NANOS_PER_SECOND));
    let (days, second_of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil_from_days(days);
    let mut text = *b"0000-00-00T00:00:00";
    let mut put = |at: usize, width: usize, mut value: i64| {
        for digit in text[at..at + width].iter_mut().rev() {
            *digit = b'0' + (value % 10) as u8;
            value /= 10;
        }
    };
    put(0, 4, year);
    put(5, 2, month);
    put(8, 2, day);
    put(11, 2, second_of_day / 3_600);
    put(14, 2, second_of_day / 60 % 60);
    put(17, 2, second_of_day % 60);
    out.extend_from_slice(&text);
    if fraction > 0 {
        let mut digits = *b".000000000";
        let mut rest = fraction;
        for digit in digits[1..].iter_mut().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        let end = digits.iter().rposition(|d| *d != b'0').map_or(0, |last| last + 1);
        out.extend_from_slice(&digits[..end]);
    }
    out.push(b'Z');
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970. `year >= 0`.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    // Years that begin with March, so that the leap day is their last; the first of them may be the one before 0.
    let (year, month) = if month <= 2 { (year + 399, month + 9) } else { (year + 400, month - 3) };
    let (year, month) = (year as u32, month as u32);
    let days_of_years = 365 * year + year / 4 - year / 100 + year / 400;
    i64::from(days_of_years + (153 * month + 2) / 5) + day - 1 - (719_468 + 146_097)
}

fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let mp = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = year_of_era + era * 400;
    (if month <= 2 { year + 1 } else { year }, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(text: &str, nanos: i64, printed: &str) {
        assert_eq!(parse_rfc3339(text.as_bytes()), Some(nanos), "{text}");
        let mut out = Vec::new();
        format_rfc3339(nanos, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), printed);
    }

    #[test]
    fn reads_and_writes_venue_times() {
        check("1970-01-01T00:00:00Z", 0, "1970-01-01T00:00:00Z");
        check("2021-04-17T16:43:37.075687Z", 1_618_677_817_075_687_000, "2021-04-17T16:43:37.075687Z");
        check("2023-04-06T11:54:26.83915973Z", 1_680_782_066_839_159_730, "2023-04-06T11:54:26.83915973Z");
        check("2026-09-15T11:01:54.000000Z", 1_789_470_114_000_000_000, "2026-09-15T11:01:54Z");
        check("2024-02-29T23:59:59.999999999Z", 1_709_251_199_999_999_999, "2024-02-29T23:59:59.999999999Z");
    }

    #[test]
    fn refuses_other_texts() {
        for text in [
            "",
            "2021-04-17",
            "2021-04-17T16:43:37",
            "2021-04-17T16:43:37.Z",
            "2021-04-17T16:43:37.0000000001Z",
            "2021-02-30T16:43:37Z",
            "2021-13-01T16:43:37Z",
            "2021-04-17T24:00:00Z",
            "2021-04-17T16:43:37+00:00",
            "0001-01-01T00:00:00.000000Z",
            "20a1-04-17T16:43:37Z",
        ] {
            assert_eq!(parse_rfc3339(text.as_bytes()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn round_trips(nanos in -9_000_000_000_000_000_000i64..9_000_000_000_000_000_000) {
            let mut out = Vec::new();
            format_rfc3339(nanos, &mut out);
            prop_assert_eq!(parse_rfc3339(&out), Some(nanos));
        }

        #[test]
        fn never_panics(bytes: Vec<u8>) {
            let _ = parse_rfc3339(&bytes);
        }
    }
}
