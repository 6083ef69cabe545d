//! API secrets: made from the system's randomness, kept only as salted hashes, compared in constant time.
//!
//! The hash is one round of SHA-256, which is right for secrets of 256 random bits and wrong for passwords: there
//! is nothing to guess, and a sign-in must stay cheap. Nothing here prints a secret through `Debug`.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::{constant_time, digest};

const SALT_BYTES: usize = 16;
const HASH_BYTES: usize = digest::SHA256_OUTPUT_LEN;

/// The operating system gave no random bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gave no random bytes")]
pub struct NoRandomness;

/// `N` bytes from the system's cryptographic randomness.
///
/// # Errors
/// [`NoRandomness`] where the system has none to give.
pub fn random_bytes<const N: usize>() -> Result<[u8; N], NoRandomness> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| NoRandomness)?;
    Ok(bytes)
}

/// Salted hash of an API secret, written `sha256:<salt>:<hash>` with 32 and 64 hexadecimal digits, where
/// `hash = SHA-256(salt, secret)`.
#[derive(Clone)]
pub struct SecretHash {
    salt: [u8; SALT_BYTES],
    hash: [u8; HASH_BYTES],
}

impl SecretHash {
    /// Hashes `secret` with a fresh salt.
    ///
    /// # Errors
    /// [`NoRandomness`] where the system has none to give.
    pub fn of(secret: &str) -> Result<SecretHash, NoRandomness> {
        let salt = random_bytes()?;
        Ok(SecretHash { hash: hash(&salt, secret), salt })
    }

    /// Whether `secret` is the one that was hashed. Takes as long for a wrong secret as for the right one.
    pub fn matches(&self, secret: &str) -> bool {
        constant_time::verify_slices_are_equal(&self.hash, &hash(&self.salt, secret)).is_ok()
    }

    /// A hash that no secret matches, to spend the same time on a key that does not exist.
    pub(crate) const fn of_nothing() -> SecretHash {
        SecretHash { salt: [0; SALT_BYTES], hash: [0; HASH_BYTES] }
    }
}

fn hash(salt: &[u8; SALT_BYTES], secret: &str) -> [u8; HASH_BYTES] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(salt);
    context.update(secret.as_bytes());
    let mut hash = [0; HASH_BYTES];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

/// The text is no secret hash. It is not repeated here: it may be a secret that was put in the wrong place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected sha256:<salt of 32 hexadecimal digits>:<hash of 64 hexadecimal digits>")]
pub struct SecretHashError;

impl FromStr for SecretHash {
    type Err = SecretHashError;

    fn from_str(text: &str) -> Result<SecretHash, SecretHashError> {
        let (salt, hash) = text.strip_prefix("sha256:").and_then(|rest| rest.split_once(':')).ok_or(SecretHashError)?;
        let parts = parse_hex(salt).zip(parse_hex(hash));
        parts.map(|(salt, hash)| SecretHash { salt, hash }).ok_or(SecretHashError)
    }
}

impl fmt::Display for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}:{}", hex(&self.salt), hex(&self.hash))
    }
}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash(***)")
    }
}

/// A new API key. The secret is shown once to whoever asked for the key; only the hash is kept.
pub struct ApiKey {
    id: String,
    secret: String,
    hash: SecretHash,
}

impl ApiKey {
    /// Makes a key of 256 random bits.
    ///
    /// # Errors
    /// [`NoRandomness`] where the system has none to give.
    pub fn generate() -> Result<ApiKey, NoRandomness> {
        let id = format!("AK{}", hex(&random_bytes::<10>()?).to_uppercase());
        let secret = hex(&random_bytes::<32>()?);
        let hash = SecretHash::of(&secret)?;
        Ok(ApiKey { id, secret, hash })
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    pub fn secret(&self) -> &str {
        &self.secret
    }

    pub fn hash(&self) -> &SecretHash {
        &self.hash
    }

    /// The lines for the users file, to be put below the user they belong to.
    pub fn to_toml(&self) -> String {
        format!("[[users.keys]]\nid = \"{}\"\nsecret_hash = \"{}\"\n", self.id, self.hash)
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKey({}, ***)", self.id)
    }
}

/// Lower-case hexadecimal digits of `bytes`.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|n| char::from(b"0123456789abcdef"[n as usize])).collect()
}

/// The bytes that exactly `2 * N` hexadecimal digits stand for.
fn parse_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    let pairs: &[[u8; 2]; N] = pairs.try_into().ok()?;
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(pairs) {
        let digit = |of: u8| char::from(of).to_digit(16);
        *byte = (digit(pair[0])? * 16 + digit(pair[1])?) as u8;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_the_sha_256_of_salt_and_secret() {
        // printf '0123456789abcdefhello' | sha256sum
        let known = "sha256:30313233343536373839616263646566:\
                     5be4ea4bf778800563dd08f63dadc4e3d7e31737bb332d38952ebd664fd8ef33";
        let hash: SecretHash = known.parse().unwrap();
        assert!(hash.matches("hello"));
        assert!(!hash.matches("hellp"));
        assert_eq!(hash.to_string(), known);
    }

    #[test]
    fn salts_are_fresh_and_written_hashes_read_back() {
        let (one, two) = (SecretHash::of("hello").unwrap(), SecretHash::of("hello").unwrap());
        assert_ne!(one.to_string(), two.to_string());
        for hash in [one, two] {
            let read: SecretHash = hash.to_string().parse().unwrap();
            assert!(read.matches("hello") && !read.matches(""));
        }
    }

    #[test]
    fn refuses_other_texts() {
        let (salt, hash) = ("0".repeat(32), "0".repeat(64));
        assert!(format!("sha256:{salt}:{hash}").parse::<SecretHash>().is_ok());
        for text in [
            String::new(),
            "hello".to_owned(),
            format!("sha512:{salt}:{hash}"),
            format!("{salt}:{hash}"),
            format!("sha256:{salt}"),
            format!("sha256:{salt}:{hash}0"),
            format!("sha256:{salt}:{hash}00"),
            format!("sha256:{salt}0:{hash}"),
            format!("sha256:{}:{hash}", &salt[2..]),
            format!("sha256:{salt}:{}", &hash[2..]),
            format!("sha256:{salt}:{hash}:"),
            format!("sha256:{salt}:{}+0", &hash[2..]),
            format!("sha256:{salt}:{}é", &hash[2..]),
        ] {
            assert_eq!(text.parse::<SecretHash>().map(drop), Err(SecretHashError), "{text}");
        }
    }

    #[test]
    fn new_keys_differ_and_their_lines_hold_no_secret() {
        let (one, two) = (ApiKey::generate().unwrap(), ApiKey::generate().unwrap());
        assert_ne!(one.id(), two.id());
        assert_ne!(one.secret(), two.secret());
        assert_eq!((one.id().len(), one.secret().len()), (22, 64));
        assert!(one.hash().matches(one.secret()) && !one.hash().matches(two.secret()));
        assert!(!one.to_toml().contains(one.secret()));
    }
}
