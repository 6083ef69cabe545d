//! Exact decimals as venues write them: an `i64` mantissa and a count of fractional digits.
//!
//! Trailing zeros are kept, because a price is printed back with the digits that the venue sent
//! (`14.7550` stays `14.7550`). No rounding happens anywhere in this file.

use std::cmp::Ordering;

/// Largest number of fractional digits. `10^18 < i64::MAX`, so every scale has a power that fits.
pub const SCALE_MAX: u8 = 18;

const POWERS: [i64; SCALE_MAX as usize + 1] = {
    let mut powers = [1i64; SCALE_MAX as usize + 1];
    let mut i = 1;
    while i < powers.len() {
        powers[i] = powers[i - 1] * 10;
        i += 1;
    }
    powers
};

/// An exact decimal: `mantissa / 10^scale`, `scale <= 18`.
///
/// Equality and order are numeric: `1.50 == 1.5`. Printing keeps the scale.
#[derive(Clone, Copy, Debug, Default)]
pub struct Decimal {
    mantissa: i64,
    scale: u8,
}

/// Why a text is no [`Decimal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecimalError {
    #[error("not a decimal number")]
    Malformed,
    #[error("a number of more than 18 digits")]
    OutOfRange,
}

impl Decimal {
    /// Zero, with no fractional digits.
    pub const ZERO: Decimal = Decimal { mantissa: 0, scale: 0 };

    /// `mantissa / 10^scale`; `None` where `scale` is above [`SCALE_MAX`].
    pub const fn new(mantissa: i64, scale: u8) -> Option<Decimal> {
        if scale > SCALE_MAX { None } else { Some(Decimal { mantissa, scale }) }
    }

    /// Reads a JSON-style number: optional sign, digits, optional fraction, optional exponent
    /// (`1E-8`, `1e-08`). Anything else, such as `0.-10000`, `NaN` or an empty text, is refused.
    ///
    /// Zeros at the end of the fraction are kept, but where the number would not fit with them: venues that write
    /// eight fractional digits have tokens of which a level holds more than 92,233,720,368.
    ///
    /// # Errors
    /// [`DecimalError::Malformed`] for text that is no number, [`DecimalError::OutOfRange`] where the
    /// mantissa does not fit an `i64` or more than 18 fractional digits would be needed.
    #[inline]
    pub fn parse(text: &[u8]) -> Result<Decimal, DecimalError> {
        match Decimal::parse_plain(text) {
            Some(decimal) => Ok(decimal),
            None => Decimal::parse_any(text),
        }
    }

    /// Digits with a point among them or none, at most 18 of them: nearly every price there is. `None` for all else.
    #[inline]
    fn parse_plain(text: &[u8]) -> Option<Decimal> {
        // 18 digits and a point: no digit overflows.
        if text.is_empty() || text.len() > 19 {
            return None;
        }
        let mut mantissa = 0u64;
        let mut point = text.len();
        for (at, byte) in text.iter().enumerate() {
            let digit = byte.wrapping_sub(b'0');
            if digit <= 9 {
                mantissa = mantissa * 10 + u64::from(digit);
            } else if *byte == b'.' && point == text.len() {
                point = at;
            } else {
                return None;
            }
        }
        let fraction = (text.len() - point).saturating_sub(1);
        let has_digits_around = point > 0 && (point == text.len() || fraction > 0);
        let fits = text.len() <= 18 || point < text.len();
        (has_digits_around && fits).then_some(Decimal { mantissa: mantissa as i64, scale: fraction as u8 })
    }

    fn parse_any(text: &[u8]) -> Result<Decimal, DecimalError> {
        let (is_negative, rest) = match text {
            [b'-', rest @ ..] => (true, rest),
            _ => (false, text),
        };
        let (whole, rest) = split_digits(rest);
        let (fraction, rest) = match rest {
            [b'.', rest @ ..] => split_digits(rest),
            _ => (&b""[..], rest),
        };
        // A point wants digits around it.
        if whole.is_empty() || fraction.is_empty() && text.contains(&b'.') {
            return Err(DecimalError::Malformed);
        }
        let exponent = match rest {
            [] => 0,
            [b'e' | b'E', rest @ ..] => parse_exponent(rest)?,
            _ => return Err(DecimalError::Malformed),
        };
        let zeros = fraction.iter().rev().take_while(|digit| **digit == b'0').count();
        let shorter = &fraction[..fraction.len() - zeros];
        Decimal::assemble(is_negative, whole, fraction, exponent)
            .or_else(|| Decimal::assemble(is_negative, whole, shorter, exponent))
            .ok_or(DecimalError::OutOfRange)
    }

    /// `None` where the number does not fit with just these digits.
    fn assemble(is_negative: bool, whole: &[u8], fraction: &[u8], exponent: i32) -> Option<Decimal> {
        let mut digits = whole.iter().chain(fraction);
        let mut mantissa = digits.try_fold(0i64, |n, digit| n.checked_mul(10)?.checked_add(i64::from(digit - b'0')))?;
        let mut scale = i32::try_from(fraction.len()).ok()?.saturating_sub(exponent);
        if mantissa == 0 {
            scale = scale.clamp(0, i32::from(SCALE_MAX));
        }
        while scale < 0 {
            mantissa = mantissa.checked_mul(10)?;
            scale += 1;
        }
        Decimal::new(if is_negative { -mantissa } else { mantissa }, u8::try_from(scale).ok()?)
    }

    /// The digits without the point.
    pub const fn mantissa(self) -> i64 {
        self.mantissa
    }

    /// How many of the digits stand behind the point.
    pub const fn scale(self) -> u8 {
        self.scale
    }

    pub const fn is_zero(self) -> bool {
        self.mantissa == 0
    }

    pub const fn is_positive(self) -> bool {
        self.mantissa > 0
    }

    /// The nearest `f64`. Exact digits are lost beyond 2^53; only MessagePack clients see this value.
    pub fn to_f64(self) -> f64 {
        // Division by an exact power of ten (up to 10^22) rounds once, which is the nearest double
        // wherever the mantissa itself is exact.
        self.mantissa as f64 / POWERS[usize::from(self.scale)] as f64
    }

    /// The same value with exactly `scale` fractional digits, or `None` where that would lose digits
    /// or overflow.
    pub fn rescale(self, scale: u8) -> Option<Decimal> {
        if scale > SCALE_MAX {
            return None;
        }
        let mantissa = if scale >= self.scale {
            self.mantissa.checked_mul(POWERS[usize::from(scale - self.scale)])?
        } else {
            let power = POWERS[usize::from(self.scale - scale)];
            if self.mantissa % power != 0 {
                return None;
            }
            self.mantissa / power
        };
        Some(Decimal { mantissa, scale })
    }

    /// The exact sum, with the larger of the two scales; `None` on overflow.
    pub fn checked_add(self, other: Decimal) -> Option<Decimal> {
        let scale = self.scale.max(other.scale);
        let (a, b) = (self.rescale(scale)?, other.rescale(scale)?);
        Some(Decimal { mantissa: a.mantissa.checked_add(b.mantissa)?, scale })
    }

    /// Appends the decimal as a JSON number, with all its fractional digits.
    pub fn write_to(self, out: &mut Vec<u8>) {
        // 1 sign + 19 digits + 1 point + 1 leading zero = 22 bytes at most.
        let mut buffer = [0u8; 24];
        let mut at = buffer.len();
        let mut rest = self.mantissa.unsigned_abs();
        let mut written = 0u8;
        loop {
            if written == self.scale && written > 0 {
                at -= 1;
                buffer[at] = b'.';
            }
            at -= 1;
            buffer[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
            written += 1;
            if rest == 0 && written > self.scale {
                break;
            }
        }
        if self.mantissa < 0 {
            at -= 1;
            buffer[at] = b'-';
        }
        out.extend_from_slice(&buffer[at..]);
    }
}

/// The digits that `text` begins with, and what follows them.
fn split_digits(text: &[u8]) -> (&[u8], &[u8]) {
    text.split_at(text.iter().take_while(|byte| byte.is_ascii_digit()).count())
}

/// What follows an `e`.
fn parse_exponent(text: &[u8]) -> Result<i32, DecimalError> {
    let (is_negative, text) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    let (digits, rest) = split_digits(text);
    if digits.is_empty() || !rest.is_empty() {
        return Err(DecimalError::Malformed);
    }
    let exponent = digits.iter().fold(0i32, |n, digit| n.saturating_mul(10).saturating_add(i32::from(digit - b'0')));
    Ok(if is_negative { -exponent } else { exponent })
}

impl std::fmt::Display for Decimal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = Vec::with_capacity(24);
        self.write_to(&mut text);
        f.write_str(&String::from_utf8_lossy(&text))
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Decimal) -> Ordering {
        let scale = self.scale.max(other.scale);
        let widen = |d: &Decimal| i128::from(d.mantissa) * i128::from(POWERS[usize::from(scale - d.scale)]);
        widen(self).cmp(&widen(other))
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Decimal) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Decimal {
    fn eq(&self, other: &Decimal) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Decimal {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(text: &str, expected: Result<(i64, u8), DecimalError>) {
        assert_eq!(Decimal::parse(text.as_bytes()).map(|d| (d.mantissa, d.scale)), expected, "{text}");
    }

    #[test]
    fn reads_what_venues_write() {
        check("14.7550", Ok((147_550, 4)));
        check("0.00000000", Ok((0, 8)));
        check("0.0", Ok((0, 1)));
        check("985", Ok((985, 0)));
        check("-1.5", Ok((-15, 1)));
        check("1E-8", Ok((1, 8)));
        check("1e-08", Ok((1, 8)));
        check("1.5E3", Ok((1500, 0)));
        check("9223372036854775807", Ok((i64::MAX, 0)));
        check("0e400000000000", Ok((0, 0)));
        check("0E-25", Ok((0, 18)));
    }

    #[test]
    fn zeros_at_the_end_give_way_to_a_number_that_fits() {
        check("92233720368.54775807", Ok((i64::MAX, 8)));
        check("92233720368.54775800", Ok((9_223_372_036_854_775_800, 8)));
        check("920450188216.00000000", Ok((920_450_188_216, 0)));
        check("-920450188216.50000000", Ok((-9_204_501_882_165, 1)));
        check("1.5000000000000000000000", Ok((15, 1)));
        check("0.00000000000000000000", Ok((0, 18)));
        check("1.50000000000000000000e3", Ok((1_500, 0)));
        check("920450188216.00000001", Err(DecimalError::OutOfRange));
    }

    #[test]
    fn refuses_what_is_no_number() {
        for text in ["", "-", ".", "1.", ".5", "0.-10000", "1e", "1e+", "NaN", "1 ", " 1", "1,5", "0x1", "--1", "+1"] {
            check(text, Err(DecimalError::Malformed));
        }
        for text in ["9223372036854775808", "1e19", "1e-19", "0.0000000000000000001", "1e99999999999999"] {
            check(text, Err(DecimalError::OutOfRange));
        }
    }

    #[test]
    fn compares_numerically() {
        let parse = |t: &str| Decimal::parse(t.as_bytes()).unwrap();
        assert_eq!(parse("1.50"), parse("1.5"));
        assert!(parse("0.00000001") > parse("0.0"));
        assert!(parse("-2") < parse("-1.999999"));
        assert_eq!(parse("0.10").checked_add(parse("0.025")).unwrap().to_string(), "0.125");
    }

    proptest! {
        #[test]
        fn prints_back_what_it_read(mantissa: i64, scale in 0..=SCALE_MAX) {
            let decimal = Decimal::new(mantissa, scale).unwrap();
            let text = decimal.to_string();
            // -2^63 has no positive twin to be read through.
            prop_assume!(mantissa != i64::MIN);
            let again = Decimal::parse(text.as_bytes()).unwrap();
            prop_assert_eq!((again.mantissa, again.scale), (mantissa, scale));
            prop_assert_eq!(text.parse::<f64>().unwrap().is_sign_negative(), mantissa < 0);
        }

        #[test]
        fn never_panics(bytes: Vec<u8>) {
            let _ = Decimal::parse(&bytes);
        }
    }
}
