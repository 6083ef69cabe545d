//! The `[entitlements]` tables: users, tiers and the keys that tokens are checked with.
//!
//! Deliberately absent: secrets. Each stands in a file of its own that is named here.

use std::path::PathBuf;
use std::time::Duration;

use entitlements::{Algorithm, Tiers};
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
            tiers: Tiers::default(),
            token_keys: Vec::new(),
        }
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
