//! Times that a venue writes as a clock shows them, `2017-12-18 14:56:00`, without saying where the clock hangs: in
//! New York or in Greenwich.
//!
//! Pure, any thread. The rule of New York's clock is that of the Energy Policy Act of 2005, in force since 2007:
//! daylight time from the second Sunday of March at 2:00 until the first Sunday of November at 2:00. Deliberately
//! absent: other zones, and the years before 2007, whose rules were others.

use protocol::parse_rfc3339;

const NANOS_PER_SECOND: i64 = 1_000_000_000;
const SECONDS_PER_HOUR: i64 = 3_600;
const SECONDS_PER_DAY: i64 = 86_400;
/// What the clock of New York lacks to UTC, seconds.
const STANDARD: i64 = 5 * SECONDS_PER_HOUR;
const DAYLIGHT: i64 = 4 * SECONDS_PER_HOUR;

/// The Unix ns at which clocks in New York show `text`, written as `2017-12-18 14:56:00` or, for midnight,
/// `2017-12-18`.
///
/// The hour that occurs twice in autumn is taken for the first, of daylight time. `None` for any other text, for the
/// hour that does not occur in spring, and before 2007.
pub fn us_eastern(text: &[u8]) -> Option<i64> {
    let shown = utc(text)? / NANOS_PER_SECOND;
    let year = text.get(..4)?;
    if year < &b"2007"[..] {
        return None;
    }
    let two = 2 * SECONDS_PER_HOUR;
    let daylight_from = first_sunday(year, b"-03-01")? + 7 * SECONDS_PER_DAY + two;
    let daylight_to = first_sunday(year, b"-11-01")? + two;
    if (daylight_from..daylight_from + SECONDS_PER_HOUR).contains(&shown) {
        return None;
    }
    let behind = if (daylight_from..daylight_to).contains(&shown) { DAYLIGHT } else { STANDARD };
    (shown + behind).checked_mul(NANOS_PER_SECOND)
}

/// The Unix ns at which clocks in Greenwich show `text`, of the same form.
pub fn utc(text: &[u8]) -> Option<i64> {
    let mut rfc3339 = *b"0000-00-00T00:00:00Z";
    match text {
        [day @ .., b' ', h1, h2, b':', m1, m2, b':', s1, s2] if day.len() == 10 => {
            rfc3339[..10].copy_from_slice(day);
            rfc3339[11..19].copy_from_slice(&[*h1, *h2, b':', *m1, *m2, b':', *s1, *s2]);
        }
        day if day.len() == 10 => rfc3339[..10].copy_from_slice(day),
        _ => return None,
    }
    parse_rfc3339(&rfc3339)
}

/// Midnight of the first Sunday from `day` of `year` on, in seconds of a clock that is not put forward or back.
fn first_sunday(year: &[u8], day: &[u8]) -> Option<i64> {
    let mut text = *b"0000-00-00";
    text[..4].copy_from_slice(year);
    text[4..].copy_from_slice(day);
    let midnight = utc(&text)? / NANOS_PER_SECOND;
    // 1970-01-04 was a Sunday.
    let since_sunday = (midnight / SECONDS_PER_DAY - 3).rem_euclid(7);
    Some(midnight + (7 - since_sunday) % 7 * SECONDS_PER_DAY)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<&str>) {
        let expected = expected.map(|text| parse_rfc3339(text.as_bytes()).unwrap());
        assert_eq!(us_eastern(text.as_bytes()), expected, "{text}");
    }

    #[test]
    fn new_york_is_four_or_five_hours_behind() {
        check("2017-12-18 14:56:00", Some("2017-12-18T19:56:00Z"));
        check("2018-10-05", Some("2018-10-05T04:00:00Z"));
        check("2023-08-22 00:00:00", Some("2023-08-22T04:00:00Z"));
        check("2026-12-31 23:59:59", Some("2027-01-01T04:59:59Z"));
        // The days of the change, which begin in one time and end in the other: by the tables of the Navy.
        for (year, spring, autumn) in [
            ("2007", "03-11", "11-04"),
            ("2015", "03-08", "11-01"),
            ("2020", "03-08", "11-01"),
            ("2021", "03-14", "11-07"),
            ("2026", "03-08", "11-01"),
            ("2032", "03-14", "11-07"),
        ] {
            check(&format!("{year}-{spring} 01:59:59"), Some(&format!("{year}-{spring}T06:59:59Z")));
            check(&format!("{year}-{spring} 02:00:00"), None);
            check(&format!("{year}-{spring} 02:59:59"), None);
            check(&format!("{year}-{spring} 03:00:00"), Some(&format!("{year}-{spring}T07:00:00Z")));
            check(&format!("{year}-{autumn} 00:59:59"), Some(&format!("{year}-{autumn}T04:59:59Z")));
            check(&format!("{year}-{autumn} 01:30:00"), Some(&format!("{year}-{autumn}T05:30:00Z")));
            check(&format!("{year}-{autumn} 02:00:00"), Some(&format!("{year}-{autumn}T07:00:00Z")));
        }
    }

    #[test]
    fn other_texts_are_no_times() {
        for text in [
            "",
            "2017-12-18T14:56:00",
            "2017-12-18 14:56",
            "2017-12-18 14:56:00Z",
            "2017-12-18 24:00:00",
            "2017-02-29",
            "2017-12-1",
            "2006-07-01 12:00:00",
            "0001-01-01",
            "9999-01-01",
            "20a7-12-18",
            "2017-12-18é",
        ] {
            check(text, None);
        }
        assert_eq!(utc(b"2017-12-20 19:23:21"), parse_rfc3339(b"2017-12-20T19:23:21Z"));
        assert_eq!(utc(b"1970-01-01"), Some(0));
    }

    proptest! {
        #[test]
        fn never_panics(bytes: Vec<u8>) {
            let _ = (us_eastern(&bytes), utc(&bytes));
        }

        /// Whatever the year, the clock goes on as time does but for the two hours of the change.
        #[test]
        fn later_on_the_clock_is_later(year in 2007u32..2200, a in 0u32..360, b in 0u32..360) {
            let at = |day: u32| us_eastern(format!("{year}-{:02}-{:02}", day / 30 + 1, day % 28 + 1).as_bytes()).unwrap();
            let text = |day: u32| (day / 30, day % 28);
            prop_assert_eq!(at(a).cmp(&at(b)), text(a).cmp(&text(b)));
        }
    }
}
