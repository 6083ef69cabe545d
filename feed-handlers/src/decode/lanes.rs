//! Sixteen bytes looked at together: where among them something else begins.
//!
//! Pure. The processor's vector instructions by way of `wide`, which also has a form for those that have none.

use wide::u8x16;

/// Bytes that are looked at together.
pub(super) const LANES: usize = 16;

/// Bit `i` is set where byte `i` is no decimal digit; the bits from [`LANES`] on are not.
#[inline]
pub(super) fn no_digits(bytes: &[u8; LANES]) -> u32 {
    let digits = u8x16::new(*bytes) ^ u8x16::splat(b'0');
    // Digits become 0 to 9, all else more.
    digits.max(u8x16::splat(10)).simd_eq(digits).to_bitmask()
}

/// Bit `i` is set where byte `i` is none of the plain text of a JSON string: a quote, a backslash or a control character.
#[inline]
pub(super) fn specials(bytes: &[u8; LANES]) -> u32 {
    let bytes = u8x16::new(*bytes);
    let is = |byte| bytes.simd_eq(u8x16::splat(byte));
    let is_control = bytes.min(u8x16::splat(0x1f)).simd_eq(bytes);
    (is(b'"') | is(b'\\') | is_control).to_bitmask()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_in_every_lane_is_told_apart() {
        for byte in 0..=u8::MAX {
            for lane in 0..LANES {
                let mut bytes = [b'7'; LANES];
                bytes[lane] = byte;
                let expected = |is: bool| if is { 1 << lane } else { 0 };
                assert_eq!(no_digits(&bytes), expected(!byte.is_ascii_digit()), "{byte} in {lane}");
                assert_eq!(specials(&bytes), expected(byte < 0x20 || matches!(byte, b'"' | b'\\')), "{byte} in {lane}");
            }
        }
        assert_eq!((no_digits(b"83362.67\",\"0.000"), specials(b"83362.67\",\"0.000")), (0x1720, 0x500));
    }
}
