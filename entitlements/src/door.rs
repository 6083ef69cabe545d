//! The door: credentials in, a principal out.
//!
//! Every failure looks the same from outside. Which check refused is a [`Refusal`], a label for counters and the
//! operator's log. Shared by all threads; a sign-in takes no lock. Deliberately absent: counting attempts and
//! connections, which are the caller's (see [`Connections`](crate::Connections)).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::principal::{Principal, Status};
use crate::store::{Embedded, StoreError, Users};
use crate::token::Tokens;

/// What a client shows at the door.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// Id and secret of an API key.
    Key { key: String, secret: String },
    /// A JSON Web Token.
    Token(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Credentials::Key { .. } => "Key(***)",
            Credentials::Token(_) => "Token(***)",
        })
    }
}

/// Why a sign-in was refused: a closed set of labels, never for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Refusal {
    UnknownKey,
    WrongSecret,
    /// No token at all, too long, or its header cannot be read, which includes `alg: none`.
    TokenMalformed,
    /// Another algorithm than the key's.
    TokenAlgorithm,
    /// No `kid` where one is needed, or one that is not configured.
    TokenUnknownKey,
    TokenSignature,
    /// `sub` or `exp` is missing, or a claim is of the wrong form.
    TokenClaims,
    TokenExpired,
    /// `nbf` or `iat` is in the future.
    TokenNotYetValid,
    TokenIssuer,
    TokenAudience,
    /// A good token of a user that the store does not know.
    UnknownUser,
    Blocked,
}

impl Refusal {
    pub const COUNT: usize = 13;
    pub const ALL: [Refusal; Self::COUNT] = [
        Refusal::UnknownKey,
        Refusal::WrongSecret,
        Refusal::TokenMalformed,
        Refusal::TokenAlgorithm,
        Refusal::TokenUnknownKey,
        Refusal::TokenSignature,
        Refusal::TokenClaims,
        Refusal::TokenExpired,
        Refusal::TokenNotYetValid,
        Refusal::TokenIssuer,
        Refusal::TokenAudience,
        Refusal::UnknownUser,
        Refusal::Blocked,
    ];

    /// The label.
    pub const fn name(self) -> &'static str {
        match self {
            Refusal::UnknownKey => "unknown_key",
            Refusal::WrongSecret => "wrong_secret",
            Refusal::TokenMalformed => "token_malformed",
            Refusal::TokenAlgorithm => "token_algorithm",
            Refusal::TokenUnknownKey => "token_unknown_key",
            Refusal::TokenSignature => "token_signature",
            Refusal::TokenClaims => "token_claims",
            Refusal::TokenExpired => "token_expired",
            Refusal::TokenNotYetValid => "token_not_yet_valid",
            Refusal::TokenIssuer => "token_issuer",
            Refusal::TokenAudience => "token_audience",
            Refusal::UnknownUser => "unknown_user",
            Refusal::Blocked => "blocked",
        }
    }
}

/// A refused sign-in. Its text is the same whatever the reason, and may go to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("authentication failed")]
pub struct SignInError {
    reason: Refusal,
}

impl SignInError {
    /// The client protocol's error code: 402 auth failed.
    pub const CODE: u16 = 402;

    /// For counters and the operator's log only.
    pub const fn reason(self) -> Refusal {
        self.reason
    }
}

impl From<Refusal> for SignInError {
    fn from(reason: Refusal) -> SignInError {
        SignInError { reason }
    }
}

/// Why no token was issued.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    #[error("no user {user:?}")]
    UnknownUser { user: String },
    #[error("no HS256 key is configured to sign tokens with")]
    NoSigningKey,
    #[error("a token lives for at least one second, and not beyond the range of time")]
    Ttl,
    #[error("the token could not be signed")]
    Signing,
}

/// Signs clients in against the embedded store and the configured token keys.
#[derive(Debug)]
pub struct Door {
    store: Embedded,
    tokens: Tokens,
}

impl Door {
    pub fn new(store: Embedded, tokens: Tokens) -> Door {
        Door { store, tokens }
    }

    /// Signs in at `now` (Unix seconds). By key, all sign-ins of a user share one principal.
    ///
    /// # Errors
    /// [`SignInError`], the same to the client whatever the reason.
    pub fn sign_in(&self, credentials: &Credentials, now: i64) -> Result<Arc<Principal>, SignInError> {
        let users = self.store.users();
        let principal = match credentials {
            Credentials::Key { key, secret } => users.by_key(key, secret)?.clone(),
            Credentials::Token(token) => {
                let claims = self.tokens.verify(token, now)?;
                let principal = users.principal(&claims.user).ok_or(Refusal::UnknownUser)?;
                Arc::new(principal.until(claims.expires_at))
            }
        };
        if principal.status() == Status::Blocked {
            return Err(Refusal::Blocked.into());
        }
        Ok(principal)
    }

    /// Issues a token for a user of the store, from `now` (Unix seconds) for `ttl` (whole seconds).
    ///
    /// # Errors
    /// [`IssueError`] where the user is unknown, no HS256 key is configured, or `ttl` is out of range.
    pub fn issue(&self, user: &str, ttl: Duration, now: i64) -> Result<String, IssueError> {
        match self.store.users().principal(user) {
            Some(_) => self.tokens.issue(user, ttl, now),
            None => Err(IssueError::UnknownUser { user: user.to_owned() }),
        }
    }

    /// The users as of now.
    pub fn users(&self) -> Arc<Users> {
        self.store.users()
    }

    /// Reads the users file again; later sign-ins see the new users, live sessions keep what they hold.
    ///
    /// # Errors
    /// [`StoreError`]; the old users stay.
    pub fn reload(&self) -> Result<Arc<Users>, StoreError> {
        self.store.reload()
    }
}
