//! Figures as people write and read them: durations, bytes, counts, rates, times.

use protocol::format_rfc3339;

/// Units of a duration with their length in ns, longest first.
const DURATIONS: [(&str, f64); 7] =
    [("h", 3.6e12), ("min", 6e10), ("m", 6e10), ("s", 1e9), ("ms", 1e6), ("us", 1e3), ("ns", 1.0)];

/// Units of an amount of memory. `KB` is 1,000, `KiB` is 1,024.
const SIZES: [(&str, f64); 8] = [
    ("TB", 1e12),
    ("GiB", 1_073_741_824.0),
    ("GB", 1e9),
    ("MiB", 1_048_576.0),
    ("MB", 1e6),
    ("KiB", 1_024.0),
    ("KB", 1e3),
    ("B", 1.0),
];

/// A duration such as `20ms`, `1.5s` or `2us`, in ns.
///
/// # Errors
/// In words, where it is none.
pub fn parse_duration_ns(text: &str) -> Result<u64, String> {
    let text = text.replace("µs", "us");
    parse(&text, &DURATIONS).ok_or_else(|| format!("{text:?} is no duration: write a number and ns, us, ms, s, m or h"))
}

/// An amount of memory such as `512B`, `9KB` or `1.5GiB`, in bytes. A bare number is bytes.
///
/// # Errors
/// In words, where it is none.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let with_unit = if text.ends_with('B') { text.to_owned() } else { format!("{text}B") };
    parse(&with_unit, &SIZES)
        .ok_or_else(|| format!("{text:?} is no amount of memory: write a number and B, KB, KiB, MB, MiB, GB or GiB"))
}

/// A share such as `10%` or `0.1`.
///
/// # Errors
/// In words, where it is none.
pub fn parse_share(text: &str) -> Result<f64, String> {
    let number = match text.strip_suffix('%') {
        Some(number) => number.trim().parse::<f64>().map(|percent| percent / 100.0),
        None => text.parse(),
    };
    number
        .ok()
        .filter(|share| share.is_finite() && *share >= 0.0)
        .ok_or_else(|| format!("{text:?} is no share: write 10% or 0.1"))
}

fn parse(text: &str, units: &[(&str, f64)]) -> Option<u64> {
    let text = text.trim();
    let unit_at = text.find(|c: char| c != '.' && !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(unit_at);
    let number: f64 = number.parse().ok()?;
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim())?;
    let value = number * factor;
    // Whole numbers are exact up to 2^53: 104 days, 9 PB.
    (value < 9e15).then(|| value.round() as u64)
}

/// Three digits and a unit: `812 ns`, `4.07 us`, `20.0 ms`, `1.25 s`.
pub fn duration(ns: u64) -> String {
    duration_f64(ns as f64)
}

/// Of a duration that need not be whole, such as an average.
pub fn duration_f64(ns: f64) -> String {
    // Each up to where three digits would show the next unit's.
    let (value, unit) = match ns {
        _ if ns < 999.5 => return format!("{} ns", number(ns)),
        _ if ns < 999.5e3 => (ns / 1e3, "us"),
        _ if ns < 999.5e6 => (ns / 1e6, "ms"),
        _ if ns < 120e9 => (ns / 1e9, "s"),
        _ if ns < 7_200e9 => (ns / 6e10, "min"),
        _ => (ns / 3.6e12, "h"),
    };
    format!("{} {unit}", three(value))
}

/// `512 B`, `8.79 KiB`, `1.25 GiB`; a loss has a minus.
pub fn bytes(bytes: f64) -> String {
    let size = bytes.abs();
    if size < 1_024.0 {
        format!("{} B", short(bytes))
    } else if size < 1_048_576.0 {
        format!("{} KiB", three(bytes / 1_024.0))
    } else if size < 1_073_741_824.0 {
        format!("{} MiB", three(bytes / 1_048_576.0))
    } else {
        format!("{} GiB", three(bytes / 1_073_741_824.0))
    }
}

/// `1,234,567`.
pub fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `0.25`, `12.3`, `1,234`.
pub fn number(value: f64) -> String {
    if value.abs() < 999.5 {
        short(value)
    } else {
        format!("{}{}", if value < 0.0 { "-" } else { "" }, count(value.abs().round() as u64))
    }
}

/// `63 %`, `0.42 %`.
pub fn percent(share: f64) -> String {
    format!("{} %", short(share * 100.0))
}

/// `2026-09-30T02:03:14Z`, whole seconds.
pub fn time(unix_ns: i64) -> String {
    let mut text = Vec::new();
    format_rfc3339(unix_ns - unix_ns.rem_euclid(1_000_000_000), &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

/// Three significant digits, but all that stand before the point.
fn three(value: f64) -> String {
    let size = value.abs();
    let digits = if size >= 99.95 {
        0
    } else if size >= 9.995 {
        1
    } else {
        2
    };
    format!("{value:.digits$}")
}

/// Without zeros behind the point that say nothing.
fn short(value: f64) -> String {
    let text = three(value);
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        let check = |text: &str, expected: Option<u64>| assert_eq!(parse_duration_ns(text).ok(), expected, "{text}");
        check("20ms", Some(20_000_000));
        check("1.5 s", Some(1_500_000_000));
        check("2us", Some(2_000));
        check("2µs", Some(2_000));
        check("10m", Some(600_000_000_000));
        check("10min", Some(600_000_000_000));
        check("2h", Some(7_200_000_000_000));
        check("0ns", Some(0));
        for text in ["", "20", "ms", "-1ms", "1e3ms", "20 parsecs", "1.2.3s", "ns20", "99999999h"] {
            check(text, None);
        }
    }

    #[test]
    fn amounts_of_memory_are_read() {
        let check = |text: &str, expected: Option<u64>| assert_eq!(parse_bytes(text).ok(), expected, "{text}");
        check("512", Some(512));
        check("512B", Some(512));
        check("9KB", Some(9_000));
        check("1.5 MiB", Some(1_572_864));
        check("2GiB", Some(2_147_483_648));
        for text in ["", "B", "-1B", "9XB", "KB9"] {
            check(text, None);
        }
    }

    #[test]
    fn shares_are_read() {
        let check = |text: &str, expected: Option<f64>| assert_eq!(parse_share(text).ok(), expected, "{text}");
        check("10%", Some(0.1));
        check("2.5 %", Some(0.025));
        check("0.1", Some(0.1));
        for text in ["", "%", "-1%", "NaN", "inf", "ten"] {
            check(text, None);
        }
    }

    #[test]
    fn figures_are_written_with_three_digits_that_say_something() {
        let check = |text: String, expected: &str| assert_eq!(text, expected);
        check(duration(0), "0 ns");
        check(duration(812), "812 ns");
        check(duration_f64(0.25), "0.25 ns");
        check(duration(4_070), "4.07 us");
        check(duration(999_700), "1.00 ms");
        check(duration(20_000_000), "20.0 ms");
        check(duration(123_400_000), "123 ms");
        check(duration(1_250_000_000), "1.25 s");
        check(duration(119_000_000_000), "119 s");
        check(duration(180_000_000_000), "3.00 min");
        check(duration(10_800_000_000_000), "3.00 h");
        check(bytes(512.0), "512 B");
        check(bytes(463.25), "463 B");
        check(bytes(-2_048.0), "-2.00 KiB");
        check(bytes(1_572_864.0), "1.50 MiB");
        check(bytes(8_589_934_592.0), "8.00 GiB");
        check(count(0), "0");
        check(count(999), "999");
        check(count(1_234_567), "1,234,567");
        check(number(0.25), "0.25");
        check(number(12.0), "12");
        check(number(1_234.6), "1,235");
        check(number(-1_234.6), "-1,235");
        check(percent(0.63), "63 %");
        check(percent(0.0042), "0.42 %");
        check(time(1_795_176_000_999_999_999), "2026-11-20T12:00:00Z");
    }
}
