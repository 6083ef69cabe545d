//! The `[entitlements]` tables: users, tiers and the keys that tokens are checked with.
//!
//! Deliberately absent: secrets. Each stands in a file of its own that is named here.

use std::path::PathBuf;
use std::time::Duration;

use entitlements::{Algorithm, Attempts, DoorRules, Fail, Quota, Tiers};
use serde::{Deserialize, Serialize};

use super::units;

/// `[entitlements]`: who may sign in, and what they may have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Entitlements {
    /// TOML file of users. Absent: three demo users.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub users: Option<PathBuf>,
    /// `iss` that tokens must carry, where set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// `aud` that tokens must carry, where set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
    /// How far the clock of who issued a token may differ from ours; whole seconds.
    #[serde(with = "units::duration")]
    pub leeway: Duration,
    /// File with the key that the hashes of API secrets are made under: at least 32 bytes, the same on all gateways that share a
    /// store. Absent: secrets are hashed without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hash_key_file: Option<PathBuf>,
    pub sign_ins: SignIns,
    pub redis: RedisStore,
    pub jwks: Jwks,
    /// What each tier may have. A tier in the file may name only what it changes.
    pub tiers: Tiers,
    pub token_keys: Vec<TokenKey>,
}

impl Default for Entitlements {
    fn default() -> Entitlements {
        Entitlements {
            users: None,
            issuer: None,
            audience: None,
            leeway: Duration::from_secs(5),
            hash_key_file: None,
            sign_ins: SignIns::default(),
            redis: RedisStore::default(),
            jwks: Jwks::default(),
            tiers: Tiers::default(),
            token_keys: Vec::new(),
        }
    }
}

/// `[entitlements.jwks]`: the keys that the issuer of tokens publishes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Jwks {
    /// Where; absent: nowhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    #[serde(with = "units::duration")]
    pub refresh: Duration,
    /// After a fetch, an unknown `kid` leads to no other one for so long.
    #[serde(with = "units::duration")]
    pub cooldown: Duration,
    /// So long keys hold on while they cannot be fetched.
    #[serde(with = "units::duration")]
    pub stale_max: Duration,
}

impl Default for Jwks {
    fn default() -> Jwks {
        let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
        Jwks { url: None, refresh: minutes(10), cooldown: minutes(1) / 2, stale_max: minutes(24 * 60) }
    }
}

/// `[entitlements.redis]`: the store that gateways and the platform share. Without addresses there is none, and the users are
/// those of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RedisStore {
    /// `redis://` or, over TLS, `rediss://`, without user and password. One server; some nodes of a cluster; or the sentinels.
    pub urls: Vec<RedisUrl>,
    pub mode: RedisMode,
    /// Name of the master that the sentinels watch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub master: Option<String>,
    /// User of Redis's access control list; absent: the default user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// File with the password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// The same at the sentinels, where these ask for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sentinel_username: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sentinel_password_file: Option<PathBuf>,
    /// PEM file with the authorities that have to vouch for servers with `rediss://`; absent: those of the web.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// PEM files with this gateway's own certificate and its key, where the servers ask for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
    /// An answer that takes longer is none.
    #[serde(with = "units::duration")]
    pub timeout: Duration,
    /// How often the records of connected users are read again, for changes that nobody announced.
    #[serde(with = "units::duration")]
    pub refresh: Duration,
    /// A node that has not been heard of for so long is dead, and its sessions are taken back.
    #[serde(with = "units::duration")]
    pub lease: Duration,
    /// Sessions go on for so long whose users' records were lost with the database.
    #[serde(with = "units::duration")]
    pub grace: Duration,
    /// Whether the user's id stands in braces in the names of keys, which keeps all of one user's in one slot of a cluster.
    pub hash_tags: bool,
}

/// What is at the addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RedisMode {
    Single,
    Cluster,
    Sentinel,
}

impl Default for RedisStore {
    fn default() -> RedisStore {
        RedisStore {
            urls: Vec::new(),
            mode: RedisMode::Single,
            master: None,
            username: None,
            password_file: None,
            sentinel_username: None,
            sentinel_password_file: None,
            ca_file: None,
            certificate_file: None,
            key_file: None,
            timeout: Duration::from_millis(50),
            refresh: Duration::from_secs(2),
            lease: Duration::from_secs(15),
            grace: Duration::from_secs(300),
            hash_tags: true,
        }
    }
}

impl RedisStore {
    /// Whether there is such a store.
    pub fn is_used(&self) -> bool {
        !self.urls.is_empty()
    }
}

/// An address of Redis. It holds no password, so that the configuration may be printed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct RedisUrl(String);

impl RedisUrl {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for RedisUrl {
    type Error = &'static str;

    fn try_from(url: String) -> Result<RedisUrl, &'static str> {
        let uri: http::Uri = url.parse().map_err(|_| "expected an address such as redis://127.0.0.1:6379")?;
        if !matches!(uri.scheme_str(), Some("redis" | "rediss")) || uri.host().is_none_or(str::is_empty) {
            return Err("expected an address such as redis://127.0.0.1:6379 or rediss://redis.example.com:6380");
        }
        // The text is not repeated: it may hold the password.
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err("holds a user or password: these go into username and password_file");
        }
        Ok(RedisUrl(url))
    }
}

/// `[entitlements.sign_ins]`: how strict the door is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SignIns {
    /// What counts as an attempt.
    pub attempts: Attempts,
    /// Attempts of one address in 5 minutes.
    pub attempts_max: u32,
    /// What happens to new sign-ins while the store is away.
    pub fail: Fail,
}

impl Default for SignIns {
    fn default() -> SignIns {
        let DoorRules { attempts, attempts_quota, fail } = DoorRules::default();
        SignIns { attempts, attempts_max: attempts_quota.limit, fail }
    }
}

impl SignIns {
    /// The same as the door takes it.
    pub fn rules(&self) -> DoorRules {
        let attempts_quota = Quota { limit: self.attempts_max, ..DoorRules::default().attempts_quota };
        DoorRules { attempts: self.attempts, attempts_quota, fail: self.fail }
    }
}

/// `[[entitlements.token_keys]]`: a key that tokens may be signed with. Its algorithm is pinned here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenKey {
    pub kid: String,
    pub algorithm: Algorithm,
    /// File with the shared secret, for HS256: at least 32 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_file: Option<PathBuf>,
    /// PEM file with the public key, for RS256 and ES256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key_file: Option<PathBuf>,
}
