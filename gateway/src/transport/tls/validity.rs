//! From when until when a certificate is valid: the one thing that an operator is to be told and rustls does not look
//! at in a server's own certificate. Pure.
//!
//! Reads just so much DER as lies before the validity (RFC 5280, 4.1). Deliberately absent: any checking; whether the
//! certificate is sound is for rustls and the clients.

use std::ops::RangeInclusive;

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
/// `version [0] EXPLICIT`, which may be absent.
const VERSION: u8 = 0xa0;

/// The times, Unix seconds, within which the certificate is valid. `None` where these bytes are no certificate.
pub(crate) fn validity(certificate: &[u8]) -> Option<RangeInclusive<i64>> {
    let (certificate, _) = element(certificate, SEQUENCE)?;
    let (mut fields, _) = element(certificate, SEQUENCE)?;
    if let Some((_, rest)) = element(fields, VERSION) {
        fields = rest;
    }
    for tag in [INTEGER, SEQUENCE, SEQUENCE] {
        // Serial number, signature algorithm, issuer.
        (_, fields) = element(fields, tag)?;
    }
    let (times, _) = element(fields, SEQUENCE)?;
    let (not_before, times) = time(times)?;
    let (not_after, _) = time(times)?;
    Some(not_before..=not_after)
}

/// The content of the element at the start, which has this tag, and what follows it.
fn element(input: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (first, rest) = input.split_first()?;
    if *first != tag {
        return None;
    }
    let (length, rest) = rest.split_first()?;
    let (length, rest) = match length {
        0..=0x7f => (usize::from(*length), rest),
        // So many bytes of length follow; a certificate of 4 GiB is none.
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

/// The time at the start, Unix seconds, and what follows it.
fn time(input: &[u8]) -> Option<(i64, &[u8])> {
    let (year, digits, rest) = if let Some((text, rest)) = element(input, UTC_TIME) {
        let (year, digits) = text.split_at_checked(2)?;
        let year = number(year)?;
        // RFC 5280, 4.1.2.5.1: years from 50 on are those of the last century.
        (if year >= 50 { 1900 + year } else { 2000 + year }, digits, rest)
    } else {
        let (text, rest) = element(input, GENERALIZED_TIME)?;
        let (year, digits) = text.split_at_checked(4)?;
        (number(year)?, digits, rest)
    };
    let digits = digits.strip_suffix(b"Z").filter(|digits| digits.len() == 10)?;
    let mut pairs = digits.chunks_exact(2).map(number);
    let mut pair = || pairs.next().flatten();
    let (month, day, hour, minute, second) = (pair()?, pair()?, pair()?, pair()?, pair()?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    Some((days(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second, rest))
}

fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |number, digit| digit.is_ascii_digit().then(|| number * 10 + i64::from(digit - b'0')))
}

/// Days of the Gregorian calendar since 1970-01-01. The year is counted from March, so that the leap day is its last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    /// A certificate that is valid between these days.
    fn certificate(from: (i32, u8, u8), until: (i32, u8, u8)) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.not_before = date_time_ymd(from.0, from.1, from.2);
        params.not_after = date_time_ymd(until.0, until.1, until.2);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn the_times_are_those_of_the_certificate() {
        let check = |from, until, expected| assert_eq!(validity(&certificate(from, until)), Some(expected));
        check((1970, 1, 1), (2000, 2, 29), 0..=951_782_400);
        check((1999, 12, 31), (2026, 11, 20), 946_598_400..=1_795_132_800);
        check((2024, 2, 28), (2024, 3, 1), 1_709_078_400..=1_709_251_200);
        // From 2050 on times are written with four digits of the year.
        check((2049, 12, 31), (2050, 1, 1), 2_524_521_600..=2_524_608_000);
        check((2000, 1, 1), (4096, 1, 1), 946_684_800..=67_090_118_400);
    }

    #[test]
    fn what_is_cut_is_no_certificate() {
        let whole = certificate((2020, 1, 1), (2030, 1, 1));
        // The outermost length covers all of it.
        for length in 0..whole.len() {
            assert_eq!(validity(&whole[..length]), None, "{length}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0usize..700, byte: u8) {
            let _ = validity(&bytes);
            let mut changed = certificate((2020, 1, 1), (2030, 1, 1));
            let at = at % changed.len();
            changed[at] = byte;
            let _ = validity(&changed);
        }
    }
}
