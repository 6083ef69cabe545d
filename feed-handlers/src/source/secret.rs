//! A key or a token: usable for signing in, and never shown.
//!
//! Plain data, any thread. Deliberately absent: wiping memory, since the copies that sockets and TLS make of it are
//! out of reach.

use std::borrow::Cow;

use form_urlencoded::byte_serialize;
use memchr::memmem;

/// Text that signs in. Its `Debug` shows that there is one, and nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    text: String,
    /// As an address holds it, where that is another text.
    in_address: Option<String>,
}

impl Secret {
    pub fn new(text: impl Into<String>) -> Secret {
        let text = text.into();
        let in_address: String = byte_serialize(text.as_bytes()).collect();
        Secret { in_address: Some(in_address).filter(|in_address| *in_address != text), text }
    }

    pub(super) fn reveal(&self) -> &str {
        &self.text
    }

    /// As an address holds it.
    pub(super) fn reveal_in_address(&self) -> &str {
        self.in_address.as_deref().unwrap_or(&self.text)
    }

    /// What the venue sent, with `*` wherever it repeats the secret: frames reach the log and the dead letters, and
    /// venues do write keys into their errors ("We have detected your API key as ..."), and addresses. All other
    /// bytes stay in their places.
    pub(super) fn masked<'a>(&self, frame: &'a [u8]) -> Cow<'a, [u8]> {
        let mut masked = Cow::Borrowed(frame);
        for text in [Some(&self.text), self.in_address.as_ref()].into_iter().flatten().filter(|text| !text.is_empty()) {
            for at in memmem::find_iter(frame, text.as_bytes()) {
                masked.to_mut()[at..at + text.len()].fill(b'*');
            }
        }
        masked
    }
}

/// As [`Secret::masked`], for all of them.
pub(super) fn masked<'a>(secrets: &[Secret], frame: &'a [u8]) -> Cow<'a, [u8]> {
    let mut masked = Cow::Borrowed(frame);
    for secret in secrets {
        let more = match secret.masked(&masked) {
            Cow::Owned(more) => more,
            Cow::Borrowed(_) => continue,
        };
        masked = Cow::Owned(more);
    }
    masked
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(secret: &str, frame: &str, expected: &str) {
        assert_eq!(&*Secret::new(secret).masked(frame.as_bytes()), expected.as_bytes());
    }

    #[test]
    fn is_masked_in_what_the_venue_says() {
        check("K3Y", "your key is K3Y, K3YK3Y!", "your key is ***, ******!");
        check("K3Y", "your key is K3", "your key is K3");
        check("", "anything", "anything");
        check("**", "*****K", "*****K");
        check("K/Y", "not found: /?key=K%2FY&a=K/Y K%2", "not found: /?key=*****&a=*** K%2");
    }

    #[test]
    fn is_not_shown() {
        let shown = format!("{:?}", Some(Secret::new("K3Y")));
        assert_eq!(shown, "Some(Secret(***))");
    }
}
