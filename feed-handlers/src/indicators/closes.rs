//! The last closes of a series, for means and deviations. Pure.
//!
//! Kept as whole multiples of a power of ten, in 4 bytes each while they fit, which prices with their few digits nearly
//! always do: very many series have such a window. Sums are then exact, so nothing drifts over the years, and what a bar's
//! window comes to does not depend on the bars before it. Where they do not fit they become floats, for good.

use protocol::Decimal;

/// The longest period of an average.
const CLOSES_MAX: usize = super::LONG;

/// A ring of the last [`CLOSES_MAX`] closes, which grows as they come.
#[derive(Debug, Default)]
pub(super) struct Closes {
    kept: Kept,
    /// Where the next one goes, once there are as many as are kept.
    next: u8,
}

#[derive(Debug)]
enum Kept {
    /// Multiples of `1 / 10^scale`.
    Whole {
        scale: u8,
        closes: Vec<i32>,
    },
    Floats(Vec<f64>),
}

impl Default for Kept {
    fn default() -> Kept {
        Kept::Whole { scale: 0, closes: Vec::new() }
    }
}

impl Closes {
    pub(super) fn push(&mut self, close: Decimal) {
        if let Kept::Whole { scale, closes } = &mut self.kept {
            match whole(close, scale, closes) {
                Some(close) => return put(closes, &mut self.next, close),
                None => {
                    let unit = power(*scale);
                    let floats = closes.iter().map(|close| f64::from(*close) / unit).collect();
                    self.kept = Kept::Floats(floats);
                }
            }
        }
        if let Kept::Floats(closes) = &mut self.kept {
            put(closes, &mut self.next, close.to_f64());
        }
    }

    /// The mean of the last `count`, which is at least 1; `None` where there are not so many.
    pub(super) fn mean(&self, count: usize) -> Option<f64> {
        Some(match &self.kept {
            Kept::Whole { scale, closes } => {
                let sum: i64 = last(closes, self.next, count)?.map(i64::from).sum();
                sum as f64 / (count as f64 * power(*scale))
            }
            Kept::Floats(closes) => last(closes, self.next, count)?.sum::<f64>() / count as f64,
        })
    }

    /// The standard deviation of the last `count`, as of a whole population.
    pub(super) fn deviation(&self, count: usize) -> Option<f64> {
        Some(match &self.kept {
            Kept::Whole { scale, closes } => {
                let (mut sum, mut squares) = (0i64, 0i128);
                for close in last(closes, self.next, count)?.map(i64::from) {
                    sum += close;
                    squares += i128::from(close * close);
                }
                // 50 * 50 * 2^62 is below 2^74.
                let square = count as i128 * squares - i128::from(sum) * i128::from(sum);
                (square as f64).sqrt() / (count as f64 * power(*scale))
            }
            Kept::Floats(closes) => {
                let mean = self.mean(count)?;
                let squares: f64 = last(closes, self.next, count)?.map(|close| (close - mean) * (close - mean)).sum();
                (squares / count as f64).sqrt()
            }
        })
    }
}

fn power(scale: u8) -> f64 {
    // Exact: 10^22 is the last one that is.
    10f64.powi(i32::from(scale))
}

/// The close in the unit of the others, or all of them in a finer one.
fn whole(close: Decimal, scale: &mut u8, closes: &mut [i32]) -> Option<i32> {
    let (mut mantissa, mut digits) = (close.mantissa(), close.scale());
    while digits > *scale && mantissa % 10 == 0 {
        (mantissa, digits) = (mantissa / 10, digits - 1);
    }
    let finer = 10i32.checked_pow(u32::from(digits.saturating_sub(*scale)))?;
    if finer > 1 {
        if !closes.iter().all(|close| close.checked_mul(finer).is_some()) {
            return None;
        }
        closes.iter_mut().for_each(|close| *close *= finer);
        *scale = digits;
    }
    let coarser = 10i64.checked_pow(u32::from(*scale - digits))?;
    i32::try_from(mantissa.checked_mul(coarser)?).ok()
}

fn put<T>(closes: &mut Vec<T>, next: &mut u8, close: T) {
    if closes.len() < CLOSES_MAX {
        if closes.len() == closes.capacity() {
            closes.reserve_exact(closes.len().clamp(8, 16).min(CLOSES_MAX - closes.len()));
        }
        closes.push(close);
    } else {
        closes[usize::from(*next)] = close;
        *next = (*next + 1) % CLOSES_MAX as u8;
    }
}

/// The last `count`, from the oldest on.
fn last<T: Copy>(closes: &[T], next: u8, count: usize) -> Option<impl Iterator<Item = T>> {
    let skip = closes.len().checked_sub(count)?;
    let (newer, older) = closes.split_at(usize::from(next));
    Some(older.iter().chain(newer).copied().skip(skip))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn window(texts: &[&str]) -> Closes {
        let mut closes = Closes::default();
        texts.iter().for_each(|text| closes.push(Decimal::parse(text.as_bytes()).unwrap()));
        closes
    }

    #[track_caller]
    fn check(texts: &[&str], is_whole: bool, mean: f64, deviation: f64) {
        let closes = window(texts);
        assert_eq!(matches!(closes.kept, Kept::Whole { .. }), is_whole, "{texts:?}");
        assert_eq!(closes.mean(texts.len()), Some(mean), "{texts:?}");
        assert_eq!(closes.deviation(texts.len()), Some(deviation), "{texts:?}");
        assert_eq!((closes.mean(texts.len() + 1), closes.deviation(texts.len() + 1)), (None, None));
    }

    #[test]
    fn closes_are_whole_while_they_fit() {
        check(&["2", "4", "4", "4", "5", "5", "7", "9"], true, 5.0, 2.0);
        check(&["83425.96000000", "83425.98"], true, 83425.97, 0.01);
        check(&["1", "1.5", "2.00"], true, 1.5, (1.0f64 / 6.0).sqrt());
        check(&["0.00000001", "0.00000003"], true, 0.00000002, 0.00000001);
        check(&["30000000", "10000000.001"], false, 20000000.0005, 9999999.9995);
        check(&["9223372036854775807", "9223372036854775807"], false, 9223372036854775807.0, 0.0);
        check(&["1", "0.000000000000000001"], false, 0.5, 0.5);
    }

    proptest! {
        #[test]
        fn equals_the_mean_of_all(
            closes in proptest::collection::vec((1i64..2_000_000_000, 0u8..8), 1..130), count in 1usize..=CLOSES_MAX,
        ) {
            let mut window = Closes::default();
            let mut all: Vec<f64> = Vec::new();
            for (mantissa, scale) in closes {
                let close = Decimal::new(mantissa, scale).unwrap();
                window.push(close);
                all.push(close.to_f64());
                let Some(from) = all.len().checked_sub(count) else {
                    prop_assert_eq!(window.mean(count), None);
                    continue;
                };
                let mean = all[from..].iter().sum::<f64>() / count as f64;
                let squares = all[from..].iter().map(|close| (close - mean).powi(2)).sum::<f64>();
                let deviation = (squares / count as f64).sqrt();
                prop_assert!((window.mean(count).unwrap() - mean).abs() <= mean * 1e-12);
                prop_assert!((window.deviation(count).unwrap() - deviation).abs() <= mean * 1e-12);
            }
        }
    }
}
