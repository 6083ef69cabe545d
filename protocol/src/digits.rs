//! Digits, eight at a time.

/// The number that eight digits make, 0 to 9 in each byte, the first in the lowest.
///
/// Neighbours are joined, then pairs, then fours: three multiplications, and no branch that would depend on how many
/// digits there are. <https://johnnylee-sde.github.io/Fast-numeric-string-to-int/>
#[inline]
pub const fn eight_digits(word: u64) -> u64 {
    const PAIRS: u64 = 0x0000_00ff_0000_00ff;
    let pairs = word.wrapping_mul(10).wrapping_add(word >> 8);
    let low = (pairs & PAIRS).wrapping_mul(100 + (1_000_000 << 32));
    let high = (pairs >> 16 & PAIRS).wrapping_mul(1 + (10_000 << 32));
    low.wrapping_add(high) >> 32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn eight_digits_are_their_number(number in 0..100_000_000u64) {
            let digits: [u8; 8] = format!("{number:08}").into_bytes().try_into().unwrap();
            prop_assert_eq!(eight_digits(u64::from_le_bytes(digits.map(|digit| digit - b'0'))), number);
        }
    }
}
