//! The next bytes of a frame, looked at together: where the decimals among them end is known before their values are, so
//! that one field is not waited for to begin with the next.

use protocol::{Decimal, eight_digits};

use crate::decode::lanes::{LANES, no_digits};

/// Digits that a decimal may have before its point, and behind it: what makes one word.
const WORD: usize = 8;

/// Bytes within which decimals end.
const REACH: usize = 2 * LANES;

const POWERS: [u64; WORD + 1] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000];

/// The bytes, and where among the first [`REACH`] of them something else than a digit stands that was not stepped over.
pub(super) struct Window<'a> {
    bytes: &'a [u8; 3 * LANES],
    others: u32,
}

impl<'a> Window<'a> {
    /// `None` where less than a window is left.
    #[inline(always)]
    pub(super) fn new(rest: &'a [u8]) -> Option<Window<'a>> {
        let bytes: &[u8; 3 * LANES] = rest.first_chunk()?;
        let (first, second) = (bytes.first_chunk()?, bytes[LANES..].first_chunk()?);
        Some(Window { bytes, others: no_digits(first) | no_digits(second) << LANES })
    }

    /// The decimal from `start` on, without a sign or an exponent and with at most [`WORD`] digits on either side of its
    /// point, and where it ends. All that is before `start` has been stepped over.
    #[inline(always)]
    pub(super) fn decimal(&mut self, start: usize) -> Option<(Decimal, usize)> {
        let mut end = self.next_other()?;
        let (mut mantissa, _) = self.number(start, end)?;
        let mut scale = 0;
        if self.bytes[end] == b'.' {
            let from = end + 1;
            end = self.next_other()?;
            let (fraction, places) = self.number(from, end)?;
            (mantissa, scale) = (mantissa * POWERS[places] + fraction, places);
        }
        // At most 16 digits.
        Some((Decimal::new(mantissa as i64, scale as u8)?, end))
    }

    /// Steps over `text`, which holds no digit and stands where a decimal ended, at `start`: so its first byte has been
    /// stepped over. Returns where it ends.
    #[inline(always)]
    pub(super) fn literal<const N: usize>(&mut self, start: usize, text: &[u8; N]) -> Option<usize> {
        for _ in 1..N {
            self.others &= self.others.wrapping_sub(1);
        }
        (self.bytes[start..].first_chunk() == Some(text)).then_some(start + N)
    }

    #[inline(always)]
    fn next_other(&mut self) -> Option<usize> {
        let at = self.others.trailing_zeros() as usize;
        self.others &= self.others.wrapping_sub(1);
        (at < REACH).then_some(at)
    }

    /// The number that the digits from `from` to `end` make, and how many they are: 1 to [`WORD`].
    #[inline(always)]
    fn number(&self, from: usize, end: usize) -> Option<(u64, usize)> {
        let count = end.wrapping_sub(from);
        if !matches!(count, 1..=WORD) {
            return None;
        }
        let word = u64::from_le_bytes(*self.bytes[from..].first_chunk()?) ^ u64::from_le_bytes([b'0'; WORD]);
        // What is no digit is shifted out, and zeros are shifted in before the first.
        Some((eight_digits(word << (8 * (WORD - count))), count))
    }
}
