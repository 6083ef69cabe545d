//! A key or a token: usable for signing in, and never shown.
//!
//! Plain data, any thread. Deliberately absent: wiping memory, since the copies that sockets and TLS make of it are
//! out of reach.

use std::borrow::Cow;

use memchr::memmem;

/// Text that signs in. Its `Debug` shows that there is one, and nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    pub(super) fn reveal(&self) -> &str {
        &self.0
    }

    /// What the venue sent, with `*` wherever it repeats the secret: frames reach the log and the dead letters, and
    /// venues do write keys into their errors ("We have detected your API key as ..."). All other bytes stay in
    /// their places.
    pub(super) fn masked<'a>(&self, frame: &'a [u8]) -> Cow<'a, [u8]> {
        let finder = memmem::Finder::new(self.0.as_bytes());
        if self.0.is_empty() || finder.find(frame).is_none() {
            return Cow::Borrowed(frame);
        }
        let mut masked = frame.to_vec();
        for at in finder.find_iter(frame) {
            masked[at..at + self.0.len()].fill(b'*');
        }
        Cow::Owned(masked)
    }
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
    }

    #[test]
    fn is_not_shown() {
        let shown = format!("{:?}", Some(Secret::new("K3Y")));
        assert_eq!(shown, "Some(Secret(***))");
    }
}
