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
    pub sign_ins: SignIns,
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
            sign_ins: SignIns::default(),
            tiers: Tiers::default(),
            token_keys: Vec::new(),
        }
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
