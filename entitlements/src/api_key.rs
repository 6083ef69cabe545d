//! API keys: a public prefix, and a secret that is made from the system's randomness, kept only as a salted hash, and compared
//! in constant time.
//!
//! The hash is one round of HMAC-SHA-256 under a key that is kept elsewhere than the hashes ([`HashKey`]), or of plain
//! SHA-256 where there is none. One round is right for secrets of 256 random bits and wrong for passwords: there is nothing
//! to guess, and a sign-in must stay cheap. Nothing here prints a secret through `Debug`.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use aws_lc_rs::{constant_time, digest, hmac};
use serde_json::{Value, json};

use crate::principal::is_user_id;
use crate::record::RecordError;
use crate::tiers::Kinds;
use crate::token::TokenHash;

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

/// The key under which secrets are hashed: without it, hashes that were stolen say nothing, not even whether a guess is right.
/// All gateways that share a store share it.
#[derive(Clone)]
pub struct HashKey(hmac::Key);

impl HashKey {
    /// Shortest key: as long as the hash.
    pub const BYTES_MIN: usize = HASH_BYTES;

    /// `None` for a key of less than [`Self::BYTES_MIN`] bytes.
    pub fn new(key: &[u8]) -> Option<HashKey> {
        (key.len() >= Self::BYTES_MIN).then(|| HashKey(hmac::Key::new(hmac::HMAC_SHA256, key)))
    }
}

impl fmt::Debug for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashKey(***)")
    }
}

/// Salted hash of an API secret, written `hmac-sha256:<salt>:<hash>` or `sha256:<salt>:<hash>` with 32 and 64 hexadecimal
/// digits, where `hash = HMAC-SHA-256(key, salt secret)` or `SHA-256(salt secret)`.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretHash {
    keyed: bool,
    salt: [u8; SALT_BYTES],
    hash: [u8; HASH_BYTES],
}

impl SecretHash {
    /// Hashes `secret` with a fresh salt, under `key` where there is one.
    ///
    /// # Errors
    /// [`NoRandomness`] where the system has none to give.
    pub fn of(secret: &str, key: Option<&HashKey>) -> Result<SecretHash, NoRandomness> {
        let salt = random_bytes()?;
        Ok(SecretHash { keyed: key.is_some(), hash: hash(key, &salt, secret), salt })
    }

    /// Whether `secret` is the one that was hashed. Takes as long for a wrong secret as for the right one. A hash under a key
    /// matches nothing where there is no key.
    pub fn matches(&self, secret: &str, key: Option<&HashKey>) -> bool {
        let known = !self.keyed || key.is_some();
        let hashed = hash(key.filter(|_| self.keyed), &self.salt, secret);
        constant_time::verify_slices_are_equal(&self.hash, &hashed).is_ok() && known
    }

    /// A hash that no secret matches, to spend the same time on a key that does not exist.
    pub(crate) const fn of_nothing() -> SecretHash {
        SecretHash { keyed: true, salt: [0; SALT_BYTES], hash: [0; HASH_BYTES] }
    }
}

fn hash(key: Option<&HashKey>, salt: &[u8; SALT_BYTES], secret: &str) -> [u8; HASH_BYTES] {
    let mut hash = [0; HASH_BYTES];
    match key {
        Some(HashKey(key)) => {
            let mut context = hmac::Context::with_key(key);
            context.update(salt);
            context.update(secret.as_bytes());
            hash.copy_from_slice(context.sign().as_ref());
        }
        None => {
            let mut context = digest::Context::new(&digest::SHA256);
            context.update(salt);
            context.update(secret.as_bytes());
            hash.copy_from_slice(context.finish().as_ref());
        }
    }
    hash
}

/// The text is no secret hash. It is not repeated here: it may be a secret that was put in the wrong place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected hmac-sha256: or sha256:<salt of 32 hexadecimal digits>:<hash of 64 hexadecimal digits>")]
pub struct SecretHashError;

impl FromStr for SecretHash {
    type Err = SecretHashError;

    fn from_str(text: &str) -> Result<SecretHash, SecretHashError> {
        let (name, rest) = text.split_once(':').ok_or(SecretHashError)?;
        let keyed = match name {
            "hmac-sha256" => true,
            "sha256" => false,
            _ => return Err(SecretHashError),
        };
        let (salt, hash) = rest.split_once(':').ok_or(SecretHashError)?;
        let parts = parse_hex(salt).zip(parse_hex(hash));
        parts.map(|(salt, hash)| SecretHash { keyed, salt, hash }).ok_or(SecretHashError)
    }
}

impl fmt::Display for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = if self.keyed { "hmac-sha256" } else { "sha256" };
        write!(f, "{name}:{}:{}", hex(&self.salt), hex(&self.hash))
    }
}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash(***)")
    }
}

/// Longest prefix of an API key, in bytes.
pub const KEY_PREFIX_BYTES_MAX: usize = 64;

/// Whether a text can be the prefix of an API key: 1 to [`KEY_PREFIX_BYTES_MAX`] letters, digits, `-` and `_`.
pub fn is_key_prefix(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=KEY_PREFIX_BYTES_MAX).contains(&text.len()) && text.bytes().all(fits)
}

/// An API key as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKeyRecord {
    pub user: Arc<str>,
    pub hash: SecretHash,
    /// Kinds of channel that the key is for, within what its user may have.
    pub scope: Kinds,
    /// Unix s from which it no longer opens; `None`: no end.
    pub expires_at: Option<i64>,
}

impl ApiKeyRecord {
    /// Reads `{"user_id":"alice","secret_hash":"hmac-sha256:...","scopes":["trades"],"expires_at":1790000000}`; without
    /// `scopes` it is for all kinds, without `expires_at` for good.
    ///
    /// # Errors
    /// [`RecordError`] names the first field that is wrong; values are not repeated.
    pub fn from_json(json: &[u8]) -> Result<ApiKeyRecord, RecordError> {
        let wrong = |field, problem: &str| RecordError { field, problem: problem.to_owned() };
        let value: Value = serde_json::from_slice(json).map_err(|_| wrong("", "is no JSON"))?;
        let field = |name: &str| value.get(name).filter(|value| !value.is_null());
        let user = field("user_id").and_then(Value::as_str).filter(|id| is_user_id(id));
        let hash = field("secret_hash").and_then(|hash| hash.as_str()?.parse().ok());
        let scope = match field("scopes") {
            None => Kinds::ALL,
            Some(scopes) => {
                serde_json::from_value(scopes.clone()).map_err(|_| wrong("scopes", "expected a list of channels"))?
            }
        };
        let expires_at = match field("expires_at") {
            None => None,
            Some(at) => Some(at.as_i64().ok_or_else(|| wrong("expires_at", "expected Unix seconds"))?),
        };
        Ok(ApiKeyRecord {
            user: user.ok_or_else(|| wrong("user_id", "expected a user's id"))?.into(),
            hash: hash.ok_or_else(|| wrong("secret_hash", &SecretHashError.to_string()))?,
            scope,
            expires_at,
        })
    }

    /// Tells this record from others of the same key: sessions by another one end.
    pub fn version(&self) -> u64 {
        TokenHash::of(&self.to_json()).prefix()
    }

    /// The record in the form that [`ApiKeyRecord::from_json`] reads.
    pub fn to_json(&self) -> String {
        let mut record = json!({ "user_id": &*self.user, "secret_hash": self.hash.to_string() });
        if self.scope != Kinds::ALL {
            record["scopes"] = self.scope.names().collect();
        }
        if let Some(at) = self.expires_at {
            record["expires_at"] = at.into();
        }
        record.to_string()
    }
}

/// A new API key. The secret is shown once to whoever asked for the key; only the hash is kept.
pub struct ApiKey {
    id: String,
    secret: String,
    hash: SecretHash,
}

impl ApiKey {
    /// Makes a key of 256 random bits, its hash under `key` where there is one.
    ///
    /// # Errors
    /// [`NoRandomness`] where the system has none to give.
    pub fn generate(key: Option<&HashKey>) -> Result<ApiKey, NoRandomness> {
        let id = format!("AK{}", hex(&random_bytes::<10>()?).to_uppercase());
        let secret = hex(&random_bytes::<32>()?);
        let hash = SecretHash::of(&secret, key)?;
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
pub(crate) fn parse_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
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
    fn without_a_key_it_is_the_sha_256_of_salt_and_secret() {
        // printf '0123456789abcdefhello' | sha256sum
        let known = "sha256:30313233343536373839616263646566:\
                     5be4ea4bf778800563dd08f63dadc4e3d7e31737bb332d38952ebd664fd8ef33";
        let hash: SecretHash = known.parse().unwrap();
        assert!(hash.matches("hello", None) && hash.matches("hello", Some(&key(1))));
        assert!(!hash.matches("hellp", None));
        assert_eq!(hash.to_string(), known);
    }

    fn key(byte: u8) -> HashKey {
        HashKey::new(&[byte; 32]).unwrap()
    }

    #[test]
    fn under_a_key_it_is_the_hmac_and_matches_under_no_other() {
        // printf '0123456789abcdefhello' | openssl dgst -sha256 -mac HMAC -macopt hexkey:0101...01
        let known = "hmac-sha256:30313233343536373839616263646566:\
                     4ab88c1f74840f73986819ae3b7aff6267c2994f5018f243df75ed43450bcfb8";
        let hash: SecretHash = known.parse().unwrap();
        assert!(hash.matches("hello", Some(&key(1))) && !hash.matches("hellp", Some(&key(1))));
        assert!(!hash.matches("hello", Some(&key(2))) && !hash.matches("hello", None));
        assert_eq!(hash.to_string(), known);
        assert!(HashKey::new(&[0; 31]).is_none());
    }

    #[test]
    fn records_read_back() {
        let hash = SecretHash::of("hello", Some(&key(1))).unwrap();
        let scope = Kinds::NONE.with(protocol::ChannelKind::Trades);
        for (scope, expires_at) in [(Kinds::ALL, None), (scope, Some(1_790_000_000))] {
            let record = ApiKeyRecord { user: "alice".into(), hash: hash.clone(), scope, expires_at };
            assert_eq!(ApiKeyRecord::from_json(record.to_json().as_bytes()), Ok(record));
        }
        let good = ApiKeyRecord { user: "alice".into(), hash, scope: Kinds::ALL, expires_at: None }.to_json();
        for (from, to, error) in [
            ("alice", "a b", "user_id: expected a user's id"),
            ("hmac-", "md5-", "secret_hash: expected hmac-sha256: or sha256:"),
            ("\"user_id\"", "\"scopes\":[\"books\"],\"user_id\"", "scopes: expected a list of channels"),
            ("\"user_id\"", "\"expires_at\":\"soon\",\"user_id\"", "expires_at: expected Unix seconds"),
            ("{", "", ": is no JSON"),
        ] {
            let error_text = ApiKeyRecord::from_json(good.replace(from, to).as_bytes()).unwrap_err().to_string();
            assert!(error_text.starts_with(error), "{error_text}");
        }
    }

    #[test]
    fn salts_are_fresh_and_written_hashes_read_back() {
        let (one, two) = (SecretHash::of("hello", None).unwrap(), SecretHash::of("hello", None).unwrap());
        assert_ne!(one.to_string(), two.to_string());
        for hash in [one, two] {
            let read: SecretHash = hash.to_string().parse().unwrap();
            assert!(read.matches("hello", None) && !read.matches("", None));
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
        let (one, two) = (ApiKey::generate(None).unwrap(), ApiKey::generate(None).unwrap());
        assert_ne!(one.id(), two.id());
        assert_ne!(one.secret(), two.secret());
        assert_eq!((one.id().len(), one.secret().len()), (22, 64));
        assert!(one.hash().matches(one.secret(), None) && !one.hash().matches(two.secret(), None));
        assert!(!one.to_toml().contains(one.secret()));
    }
}
