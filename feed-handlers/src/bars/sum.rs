//! Exact sums of decimals, and their quotients. Pure.
//!
//! Deliberately absent: floats. A sum is exact up to 38 digits; beyond these the last ones go.

use protocol::{Decimal, SCALE_MAX};

/// A sum of decimals, none of them below zero: `mantissa / 10^scale`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sum {
    pub(super) mantissa: i128,
    /// At most 36: two factors' together.
    pub(super) scale: u8,
}

impl Sum {
    pub(super) fn add(&mut self, other: Sum) {
        // Nearly always: a venue writes its prices and its sizes with the same digits.
        if self.scale == other.scale
            && let Some(sum) = self.mantissa.checked_add(other.mantissa)
        {
            self.mantissa = sum;
            return;
        }
        self.add_scaled(other);
    }

    #[cold]
    fn add_scaled(&mut self, other: Sum) {
        let Sum { mut mantissa, mut scale } = other;
        loop {
            // Both in the finer scale, as long as they fit.
            let (coarse, fine) = if self.scale < scale { (self.mantissa, mantissa) } else { (mantissa, self.mantissa) };
            let shift = u32::from(self.scale.abs_diff(scale));
            let sum = 10i128.checked_pow(shift).and_then(|power| coarse.checked_mul(power)?.checked_add(fine));
            if let Some(sum) = sum {
                *self = Sum { mantissa: sum, scale: self.scale.max(scale) };
                return;
            }
            // The last digit of the finer one goes.
            if self.scale < scale {
                (mantissa, scale) = (mantissa / 10, scale - 1);
            } else if self.scale > 0 {
                *self = Sum { mantissa: self.mantissa / 10, scale: self.scale - 1 };
                if scale > self.scale {
                    (mantissa, scale) = (mantissa / 10, scale - 1);
                }
            } else {
                *self = Sum { mantissa: i128::MAX, scale: 0 };
                return;
            }
        }
    }

    /// As a decimal, with fewer fractional digits where it does not fit; the largest one where none does.
    pub(super) fn decimal(self) -> Decimal {
        (0..=self.scale.min(SCALE_MAX))
            .rev()
            .find_map(|scale| {
                let power = 10i128.checked_pow(u32::from(self.scale - scale))?;
                decimal(rounded(self.mantissa, power), scale)
            })
            .or_else(|| Decimal::new(i64::MAX, 0))
            .unwrap_or_default()
    }

    /// The quotient, rounded half up, with `scale` fractional digits, or with fewer where so many do not fit.
    /// `None` for a divisor of zero.
    pub(super) fn divided_by(self, divisor: Sum, scale: u8) -> Option<Decimal> {
        if divisor.mantissa == 0 {
            return None;
        }
        (0..=scale).rev().find_map(|scale| {
            let shift = i32::from(scale) + i32::from(divisor.scale) - i32::from(self.scale);
            let power = 10i128.checked_pow(shift.unsigned_abs())?;
            let quotient = if shift >= 0 {
                rounded(self.mantissa.checked_mul(power)?, divisor.mantissa)
            } else {
                rounded(self.mantissa, divisor.mantissa.checked_mul(power)?)
            };
            decimal(quotient, scale)
        })
    }
}

/// `n / d` rounded half up, for `n >= 0` and `d > 0`.
fn rounded(n: i128, d: i128) -> i128 {
    // One instruction where both fit, which they do but for very active instruments; else a division in software.
    if let (Ok(n), Ok(d)) = (u64::try_from(n), u64::try_from(d)) {
        let (quotient, rest) = (n / d, n % d);
        return i128::from(quotient) + i128::from(rest >= d - rest);
    }
    let (quotient, rest) = (n / d, n % d);
    if rest >= d - rest { quotient + 1 } else { quotient }
}

fn decimal(mantissa: i128, scale: u8) -> Option<Decimal> {
    Decimal::new(i64::try_from(mantissa).ok()?, scale)
}

/// Without the zeros at the end, but with no fewer than `scale_min` fractional digits.
pub(super) fn trimmed(decimal: Decimal, scale_min: u8) -> Decimal {
    let (mut mantissa, mut scale) = (decimal.mantissa(), decimal.scale());
    while scale > scale_min && mantissa % 10 == 0 {
        (mantissa, scale) = (mantissa / 10, scale - 1);
    }
    Decimal::new(mantissa, scale).unwrap_or(decimal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(text: &str) -> Sum {
        let decimal = Decimal::parse(text.as_bytes()).unwrap();
        Sum { mantissa: i128::from(decimal.mantissa()), scale: decimal.scale() }
    }

    #[test]
    fn sums_are_exact_in_the_finer_scale() {
        for (parts, expected) in [
            (&["1.5", "2.25"][..], "3.75"),
            (&["0.000000000000000001", "9"], "9.000000000000000001"),
            (&["1.50", "1.50"], "3.00"),
            (&["9223372036854775807", "1"], "9223372036854775807"),
        ] {
            let mut total = Sum::default();
            parts.iter().for_each(|part| total.add(sum(part)));
            assert_eq!(total.decimal().to_string(), expected, "{parts:?}");
        }
    }

    #[test]
    fn a_sum_beyond_its_digits_loses_the_last_ones_and_never_wraps() {
        let mut total = Sum { mantissa: i128::MAX - 5, scale: 2 };
        total.add(Sum { mantissa: 1_000, scale: 0 });
        assert_eq!((total.mantissa, total.scale), ((i128::MAX - 5) / 10 + 10_000, 1));
        let mut full = Sum { mantissa: i128::MAX, scale: 0 };
        full.add(Sum { mantissa: 1, scale: 36 });
        assert_eq!((full.mantissa, full.scale), (i128::MAX, 0));
        full.add(Sum { mantissa: 1, scale: 0 });
        assert_eq!((full.mantissa, full.scale), (i128::MAX, 0));
    }

    #[test]
    fn quotients_are_rounded_half_up() {
        for (n, d, scale, expected) in
            [("1", "3", 4, "0.3333"), ("2", "3", 4, "0.6667"), ("1", "8", 2, "0.13"), ("10.00", "0.5", 0, "20")]
        {
            assert_eq!(sum(n).divided_by(sum(d), scale).unwrap().to_string(), expected, "{n} / {d}");
        }
        assert!(sum("1").divided_by(sum("0"), 2).is_none());
        assert_eq!(trimmed(Decimal::parse(b"1.2500").unwrap(), 1).to_string(), "1.25");
        assert_eq!(trimmed(Decimal::parse(b"1.00").unwrap(), 1).to_string(), "1.0");
    }
}
