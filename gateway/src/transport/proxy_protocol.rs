//! The PROXY protocol, version 2 (haproxy's `proxy-protocol.txt`, section 2.2): what a proxy says of the client before the
//! client's own first byte. Bytes in, an address out; the reading is `opening`'s.
//!
//! Deliberately absent: version 1, which is text of unknown length, and what the TLVs behind the addresses say.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Longest header: what the specification says that a receiver should take at once, 16 bytes and 520 of addresses and TLVs.
pub(crate) const HEADER_BYTES_MAX: usize = 536;

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, length of what follows.
const FIXED_BYTES: usize = 16;

/// How far a header has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Header {
    /// It has at least so many bytes, and more than there are: at most [`HEADER_BYTES_MAX`].
    Partial { need: usize },
    /// The client's address; `None` where the proxy speaks for itself.
    Complete(Option<IpAddr>),
}

/// Why there is no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProxyError {
    #[error("the connection does not begin with a header of the PROXY protocol, version 2")]
    Signature,
    #[error("version or command {byte:#04x} is unknown")]
    Command { byte: u8 },
    #[error("family {byte:#04x} is not TCP over IPv4 or IPv6")]
    Family { byte: u8 },
    #[error("a header of {need} bytes is longer than {HEADER_BYTES_MAX}")]
    TooLong { need: usize },
    #[error("the addresses need {need} bytes and have {have}")]
    Addresses { need: usize, have: usize },
}

/// Reads all that has come of a header, and nothing of what follows it. Who reads no more than is needed at a time leaves the
/// client's bytes where they are.
///
/// # Errors
/// [`ProxyError`], as soon as it is certain.
pub(crate) fn parse(input: &[u8]) -> Result<Header, ProxyError> {
    let signature = &input[..input.len().min(SIGNATURE.len())];
    if !SIGNATURE.starts_with(signature) {
        return Err(ProxyError::Signature);
    }
    let Some((fixed, rest)) = input.split_first_chunk::<FIXED_BYTES>() else {
        return Ok(Header::Partial { need: FIXED_BYTES });
    };
    let [.., command, family, high, low] = *fixed;
    let length = usize::from(u16::from_be_bytes([high, low]));
    let need = FIXED_BYTES + length;
    if !matches!(command, 0x20 | 0x21) {
        return Err(ProxyError::Command { byte: command });
    }
    if need > HEADER_BYTES_MAX {
        return Err(ProxyError::TooLong { need });
    }
    // 0x20 is LOCAL, the proxy's own look at us; the family 0 is that of a client the proxy cannot name.
    let addresses_need = match (command, family) {
        (0x20, _) | (_, 0x00) => 0,
        (_, 0x11) => 12,
        (_, 0x21) => 36,
        _ => return Err(ProxyError::Family { byte: family }),
    };
    if length < addresses_need {
        return Err(ProxyError::Addresses { need: addresses_need, have: length });
    }
    if rest.len() < length {
        return Ok(Header::Partial { need });
    }
    // Source, destination, source port, destination port, TLVs: only the first is of interest.
    Ok(Header::Complete(match addresses_need {
        12 => rest.first_chunk::<4>().map(|octets| IpAddr::V4(Ipv4Addr::from(*octets))),
        36 => rest.first_chunk::<16>().map(|octets| IpAddr::V6(Ipv6Addr::from(*octets)).to_canonical()),
        _ => None,
    }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, body].concat()
    }

    fn tcp4(tlvs: &[u8]) -> Vec<u8> {
        header(0x21, 0x11, &[&[203, 0, 113, 9, 10, 0, 0, 1, 0x30, 0x39, 0x01, 0xbb], tlvs].concat())
    }

    fn tcp6(source: &str) -> Vec<u8> {
        let source: Ipv6Addr = source.parse().unwrap();
        header(0x21, 0x21, &[&source.octets()[..], &[0; 20]].concat())
    }

    #[test]
    fn headers_name_the_client() {
        let check = |bytes: Vec<u8>, client: Option<&str>| {
            let client = client.map(|text| text.parse().unwrap());
            assert_eq!(parse(&bytes), Ok(Header::Complete(client)), "{bytes:02x?}");
            // What follows is not looked at, and what is missing is asked for.
            assert_eq!(parse(&[&bytes[..], b"GET /"].concat()), Ok(Header::Complete(client)));
            for cut in 0..bytes.len() {
                let need = if cut < FIXED_BYTES { FIXED_BYTES } else { bytes.len() };
                assert_eq!(parse(&bytes[..cut]), Ok(Header::Partial { need }), "{cut} of {bytes:02x?}");
            }
        };
        check(tcp4(&[]), Some("203.0.113.9"));
        check(tcp4(&[0x04, 0, 2, 0, 0]), Some("203.0.113.9"));
        check(tcp4(&[0xff; HEADER_BYTES_MAX - FIXED_BYTES - 12]), Some("203.0.113.9"));
        check(tcp6("2001:db8::1"), Some("2001:db8::1"));
        check(tcp6("::ffff:203.0.113.9"), Some("203.0.113.9"));
        check(header(0x20, 0x00, &[]), None);
        check(header(0x20, 0x11, &[1; 12]), None);
        check(header(0x20, 0x31, &[]), None);
        check(header(0x21, 0x00, &[]), None);
        check(header(0x21, 0x00, &[7; 9]), None);
    }

    #[test]
    fn what_is_no_header_is_refused() {
        let check = |bytes: &[u8], error: ProxyError| assert_eq!(parse(bytes), Err(error), "{bytes:02x?}");
        check(b"G", ProxyError::Signature);
        check(b"PROXY TCP4 203.0.113.9 10.0.0.1 1 2\r\n", ProxyError::Signature);
        check(b"\r\n\r\n\r", ProxyError::Signature);
        check(b"\x16\x03\x01\x02\x00", ProxyError::Signature);
        check(&header(0x11, 0x11, &[0; 12]), ProxyError::Command { byte: 0x11 });
        check(&header(0x22, 0x11, &[0; 12]), ProxyError::Command { byte: 0x22 });
        check(&header(0x21, 0x12, &[0; 12]), ProxyError::Family { byte: 0x12 });
        check(&header(0x21, 0x31, &[0; 216]), ProxyError::Family { byte: 0x31 });
        check(&header(0x21, 0x11, &[0; 11]), ProxyError::Addresses { need: 12, have: 11 });
        check(&header(0x21, 0x21, &[0; 12]), ProxyError::Addresses { need: 36, have: 12 });
        // Before the rest of it has come.
        let long = header(0x21, 0x11, &[0; 600]);
        check(&long[..FIXED_BYTES], ProxyError::TooLong { need: 616 });
    }

    proptest! {
        #[test]
        fn no_bytes_panic(
            start in 0..=FIXED_BYTES,
            command in prop_oneof![Just(0x20u8), Just(0x21), any::<u8>()],
            family in prop_oneof![Just(0x11u8), Just(0x21), any::<u8>()],
            rest in proptest::collection::vec(any::<u8>(), 0..700),
        ) {
            // Random bytes alone would hardly ever get behind the signature.
            let fixed = [&SIGNATURE[..], &[command, family, 0, 36]].concat();
            let bytes = [&fixed[..start], &rest].concat();
            if let Ok(Header::Partial { need }) = parse(&bytes) {
                prop_assert!(bytes.len() < need && need <= HEADER_BYTES_MAX);
            }
        }
    }
}
