//! Three demo users, one per tier, so that a gateway without any configuration can be tried.
//!
//! Everything secret about them is derived from one master secret with HMAC-SHA-256, so another process with the
//! same master secret (`gateway token`) and a restarted gateway agree on keys and tokens. Whether demo users may
//! be let in at all, and where the master secret is kept, is the caller's to say.

use std::fmt;

use aws_lc_rs::hmac;

use crate::api_key::{NoRandomness, SecretHash, hex};
use crate::principal::{Tier, User};
use crate::store::Users;
use crate::token::{Algorithm, TokenKey, TokenKeyError};

/// The `kid` of the demo's token key.
pub const KID: &str = "demo";

/// A demo user and how to sign in as it.
#[derive(Clone)]
pub struct DemoUser {
    tier: Tier,
    secret: String,
}

impl DemoUser {
    pub fn tier(&self) -> Tier {
        self.tier
    }

    /// The user's id, as in `demo-free`; also the id of its API key.
    pub fn id(&self) -> &'static str {
        match self.tier {
            Tier::Free => "demo-free",
            Tier::Premium => "demo-premium",
            Tier::Enterprise => "demo-enterprise",
        }
    }

    /// The API key's secret.
    pub fn secret(&self) -> &str {
        &self.secret
    }
}

impl fmt::Debug for DemoUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DemoUser({}, ***)", self.id())
    }
}

/// Why there is no demo.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DemoError {
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
    #[error(transparent)]
    TokenKey(#[from] TokenKeyError),
}

/// The demo users' store, credentials and token key.
#[derive(Debug)]
pub struct Demo {
    pub users: Users,
    pub credentials: [DemoUser; 3],
    pub token_key: TokenKey,
}

/// The demo as `master` has it: the same credentials each time, for the same 32 bytes.
///
/// # Errors
/// [`DemoError`] where the system has no randomness for the salts.
pub fn users(master: &[u8; 32]) -> Result<Demo, DemoError> {
    let master = hmac::Key::new(hmac::HMAC_SHA256, master);
    let derived = |purpose: &str| hmac::sign(&master, format!("signal-gateway demo {purpose}").as_bytes());
    let credentials = Tier::ALL.map(|tier| {
        let user = DemoUser { tier, secret: String::new() };
        let secret = hex(derived(&format!("api-secret {}", user.id())).as_ref());
        DemoUser { secret, ..user }
    });
    let mut users = Vec::with_capacity(credentials.len());
    for demo in &credentials {
        let user = User::new(demo.id(), demo.tier);
        users.push((user, vec![(demo.id().to_owned(), SecretHash::of(&demo.secret, None)?)]));
    }
    let token_key = TokenKey::new(KID, Algorithm::HS256, derived("token-key").as_ref())?;
    Ok(Demo { users: Users::of(users), credentials, token_key })
}
