//! How Binance has a sign-in signed: by Ed25519, over what the message says of itself.
//!
//! Pure. The key is read once, when the source is made, and never shown. Deliberately absent: keys under a password.
//!
//! <https://github.com/binance/binance-spot-api-docs/blob/master/fix-api.md#how-to-sign-logona-request>.

use aws_lc_rs::signature::Ed25519KeyPair;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;

use super::message::Header;
use crate::source::Secret;

/// A private key that signs.
pub(super) struct SigningKey(Ed25519KeyPair);

impl SigningKey {
    /// Reads a key as OpenSSL writes it (`-----BEGIN PRIVATE KEY-----`); `None` where it is none of Ed25519.
    pub(super) fn from_pem(pem: &Secret) -> Option<SigningKey> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.reveal().as_bytes()).ok()?;
        Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der()).ok().map(SigningKey)
    }

    /// The signature of a message with this header, as RawData (96) bears it.
    pub(super) fn sign(&self, header: &Header<'_>) -> String {
        let Header { kind, sender, target, number, sent, .. } = *header;
        let signed = [kind, sender, target, &number.to_string(), sent].join("\x01");
        STANDARD.encode(self.0.sign(signed.as_bytes()))
    }
}

/// The key that Binance's documentation signs its example with.
#[cfg(test)]
pub(super) const PUBLISHED_KEY: &str = "-----BEGIN PRIVATE KEY-----\n\
    MC4CAQAwBQYDK2VwBCIEIIJEYWtGBrhACmb9Dvy+qa8WEf0lQOl1s4CLIAB9m89u\n\
    -----END PRIVATE KEY-----";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_as_the_published_example() {
        let key = SigningKey::from_pem(&Secret::new(PUBLISHED_KEY)).unwrap();
        let header = Header {
            kind: "A",
            sender: "EXAMPLE",
            target: "SPOT",
            number: 1,
            is_resent: false,
            sent: "20240627-11:17:25.223",
        };
        let published = "4MHXelVVcpkdwuLbl6n73HQUXUf1dse2PCgT1DYqW9w8AVZ1RACFGM+5UdlGPrQHrgtS3CvsRURC1oj73j8gCA==";
        assert_eq!(key.sign(&header), published);
    }

    #[test]
    fn what_is_no_key_is_none() {
        for text in ["", "P4SS", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"] {
            assert!(SigningKey::from_pem(&Secret::new(text)).is_none(), "{text}");
        }
    }
}
