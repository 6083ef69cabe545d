//! The door: credentials in, a principal out.
//!
//! Every failure looks the same from outside, but for two that are not about the credentials: too many attempts, and a store
//! that is away. Which check refused is a [`Refusal`], a label for counters and the operator's log. Shared by all threads; a
//! sign-in takes no lock. Deliberately absent: counting connections, which is the caller's (see
//! [`Connections`](crate::Connections)).

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::api_key::{HashKey, SecretHash, is_key_prefix};
use crate::connections::counted_as;
use crate::limits::{Charge, Meter, Quota, Subject, Verdict};
use crate::principal::{Categories, Credential, Principal, Status, Tier, User, is_user_id};
use crate::store::{Answer, Store, StoreError, UserLookup};
use crate::tiers::Tiers;
use crate::token::{TokenHashes, Tokens};

/// What a client shows at the door.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// Id and secret of an API key.
    Key { key: String, secret: String },
    /// A JSON Web Token.
    Token(String),
    /// The names (SAN) in a client's certificate that TLS has verified, in order.
    Certificate(Vec<String>),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Credentials::Key { .. } => "Key(***)",
            Credentials::Token(_) => "Token(***)",
            Credentials::Certificate(names) => return write!(f, "Certificate({names:?})"),
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
    KeyExpired,
    /// On the deny list.
    TokenDenied,
    UnknownCertificate,
    /// The address has used up its attempts.
    TooManyAttempts,
    StoreAway,
    /// What the store has of the user or the key cannot be understood.
    Record,
}

impl Refusal {
    pub const COUNT: usize = 19;
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
        Refusal::KeyExpired,
        Refusal::TokenDenied,
        Refusal::UnknownCertificate,
        Refusal::TooManyAttempts,
        Refusal::StoreAway,
        Refusal::Record,
    ];

    /// Whether another try with other credentials might have been let in: what counts as a failed attempt.
    pub const fn is_about_credentials(self) -> bool {
        !matches!(self, Refusal::TooManyAttempts | Refusal::StoreAway | Refusal::Record)
    }

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
            Refusal::KeyExpired => "key_expired",
            Refusal::TokenDenied => "token_denied",
            Refusal::UnknownCertificate => "unknown_certificate",
            Refusal::TooManyAttempts => "too_many_attempts",
            Refusal::StoreAway => "store_away",
            Refusal::Record => "record",
        }
    }
}

/// A refused sign-in. Its text may go to the client: it is the same whatever was wrong with the credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignInError {
    reason: Refusal,
    retry_after: Option<Duration>,
    /// Of the attempts, where they are used up.
    verdict: Option<Verdict>,
}

impl SignInError {
    /// After so long the store may be back.
    const STORE_RETRY: Duration = Duration::from_secs(1);

    /// The client protocol's error code: 402 auth failed, 429 too many requests, 503 temporarily unavailable.
    pub const fn code(self) -> u16 {
        match self.reason {
            Refusal::TooManyAttempts => 429,
            Refusal::StoreAway | Refusal::Record => 503,
            _ => 402,
        }
    }

    /// For counters and the operator's log only.
    pub const fn reason(self) -> Refusal {
        self.reason
    }

    /// After what time another try makes sense, where the credentials are not at fault.
    pub const fn retry_after(self) -> Option<Duration> {
        self.retry_after
    }

    /// What was said of the address's attempts, where they are used up.
    pub const fn verdict(self) -> Option<Verdict> {
        self.verdict
    }
}

impl fmt::Display for SignInError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.code() {
            429 => "too many sign-in attempts",
            503 => "sign-in is temporarily unavailable",
            _ => "authentication failed",
        })
    }
}

impl std::error::Error for SignInError {}

impl From<Refusal> for SignInError {
    fn from(reason: Refusal) -> SignInError {
        let away = matches!(reason, Refusal::StoreAway | Refusal::Record);
        SignInError { reason, retry_after: away.then_some(SignInError::STORE_RETRY), verdict: None }
    }
}

impl From<StoreError> for SignInError {
    fn from(error: StoreError) -> SignInError {
        match error {
            StoreError::Away => Refusal::StoreAway.into(),
            StoreError::Record { .. } => Refusal::Record.into(),
        }
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
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What counts as a sign-in attempt of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Attempts {
    /// Those that were refused. So many clients behind one address do not lock each other out.
    Failed,
    All,
}

/// What happens to sign-ins while the store is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fail {
    /// A good token or a known key opens. Whom this node does not remember gets the connection, and nothing else until the
    /// store is back.
    Open,
    /// Nobody new comes in.
    Closed,
}

/// How strict the door is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DoorRules {
    pub attempts: Attempts,
    /// Attempts of one address.
    pub attempts_quota: Quota,
    pub fail: Fail,
}

impl Default for DoorRules {
    fn default() -> DoorRules {
        DoorRules { attempts: Attempts::Failed, attempts_quota: Quota { length_s: 300, limit: 10 }, fail: Fail::Closed }
    }
}

/// Fetches the keys that the issuer of tokens publishes.
pub trait KeySource: fmt::Debug + Send + Sync {
    /// Fetches them because a token names one that is not known, and puts them into `tokens`. True where there may be new
    /// ones: not where they were fetched a moment ago.
    fn refresh(&self, tokens: &Arc<Tokens>) -> Answer<bool>;
}

/// Signs clients in: credentials against the token keys and the store.
#[derive(Debug)]
pub struct Door {
    store: Arc<dyn Store>,
    tokens: Arc<Tokens>,
    key_source: Option<Arc<dyn KeySource>>,
    hash_key: Option<HashKey>,
    tiers: Tiers,
    rules: DoorRules,
}

impl Door {
    pub fn new(store: Arc<dyn Store>, tokens: Tokens, tiers: Tiers) -> Door {
        let rules = DoorRules::default();
        Door { store, tokens: Arc::new(tokens), key_source: None, hash_key: None, tiers, rules }
    }

    /// With the key that the hashes of API secrets are made under.
    pub fn with_hash_key(self, hash_key: Option<HashKey>) -> Door {
        Door { hash_key, ..self }
    }

    /// With keys that the issuer publishes.
    pub fn with_key_source(self, key_source: Option<Arc<dyn KeySource>>) -> Door {
        Door { key_source, ..self }
    }

    pub fn with_rules(self, rules: DoorRules) -> Door {
        Door { rules, ..self }
    }

    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    pub fn tokens(&self) -> &Arc<Tokens> {
        &self.tokens
    }

    pub fn tiers(&self) -> &Tiers {
        &self.tiers
    }

    pub fn hash_key(&self) -> Option<&HashKey> {
        self.hash_key.as_ref()
    }

    /// Signs in from `address` at `now` (Unix seconds): at most three round trips to the store, one or two as a rule.
    ///
    /// # Errors
    /// [`SignInError`], the same to the client whatever was wrong with its credentials.
    pub async fn sign_in(
        &self,
        credentials: &Credentials,
        address: IpAddr,
        now: i64,
    ) -> Result<Arc<Principal>, SignInError> {
        let all = self.rules.attempts == Attempts::All;
        self.charge_attempt(address, u32::from(all)).await?;
        match self.principal(credentials, now).await {
            Err(refused) if !all && refused.reason.is_about_credentials() => {
                // Of attempts that were made at the same time, only so many learn that theirs was wrong.
                self.charge_attempt(address, 1).await?;
                Err(refused)
            }
            signed_in => signed_in,
        }
    }

    async fn charge_attempt(&self, address: IpAddr, cost: u32) -> Result<(), SignInError> {
        let subject = Subject::Address(counted_as(address));
        let charge = Charge { subject, meter: Meter::SignIn, quotas: vec![self.rules.attempts_quota], cost };
        let verdict = self.store.take(charge).await;
        if verdict.allowed {
            return Ok(());
        }
        let (reason, retry_after) = (Refusal::TooManyAttempts, Some(verdict.retry_after));
        Err(SignInError { reason, retry_after, verdict: Some(verdict) })
    }

    async fn principal(&self, credentials: &Credentials, now: i64) -> Result<Arc<Principal>, SignInError> {
        let principal = match credentials {
            Credentials::Key { key, secret } => self.by_key(key, secret, now).await?,
            Credentials::Token(token) => self.by_token(token, now).await?,
            Credentials::Certificate(names) => self.by_certificate(names).await?,
        };
        if principal.status() == Status::Blocked {
            return Err(Refusal::Blocked.into());
        }
        Ok(principal)
    }

    async fn by_key(&self, key: &str, secret: &str, now: i64) -> Result<Arc<Principal>, SignInError> {
        static NOBODY: SecretHash = SecretHash::of_nothing();
        let known = if is_key_prefix(key) {
            match self.store.api_key(key).await {
                Err(StoreError::Away) if self.rules.fail == Fail::Open => self.store.remembered_key(key),
                known => known?,
            }
        } else {
            None
        };
        // An unknown key costs one hash too, so that time does not tell which keys exist.
        let matches = known.as_ref().map_or(&NOBODY, |key| &key.hash).matches(secret, self.hash_key.as_ref());
        let record = match known {
            None => return Err(Refusal::UnknownKey.into()),
            Some(_) if !matches => return Err(Refusal::WrongSecret.into()),
            Some(record) => record,
        };
        if record.expires_at.is_some_and(|at| now >= at) {
            return Err(Refusal::KeyExpired.into());
        }
        let (user, _) = self.user(&record.user, None).await?;
        let credential = Credential::Key { prefix: key.into(), version: record.version() };
        let principal = Principal::new(&user, &self.tiers).scoped(record.scope).by(credential);
        Ok(Arc::new(principal.until(record.expires_at.unwrap_or(i64::MAX))))
    }

    async fn by_token(&self, token: &str, now: i64) -> Result<Arc<Principal>, SignInError> {
        let claims = match self.tokens.verify(token, now) {
            Err(Refusal::TokenUnknownKey) => {
                let source = self.key_source.as_ref().ok_or(Refusal::TokenUnknownKey)?;
                if !source.refresh(&self.tokens).await {
                    return Err(Refusal::TokenUnknownKey.into());
                }
                self.tokens.verify(token, now)?
            }
            verified => verified?,
        };
        let hashes = TokenHashes::of(token);
        let (user, token_denied) = self.user(&claims.user.into(), Some(hashes)).await?;
        if token_denied {
            return Err(Refusal::TokenDenied.into());
        }
        Ok(Arc::new(Principal::new(&user, &self.tiers).until(claims.expires_at).by(Credential::Token(hashes))))
    }

    /// The certificate was verified by TLS; the first of its names that stands for a user counts.
    async fn by_certificate(&self, names: &[String]) -> Result<Arc<Principal>, SignInError> {
        for name in names {
            if let Some(id) = self.store.certificate(name).await? {
                let (user, _) = self.user(&id, None).await?;
                return Ok(Arc::new(Principal::new(&user, &self.tiers)));
            }
        }
        Err(Refusal::UnknownCertificate.into())
    }

    /// The user's record, and whether the token is denied.
    async fn user(&self, id: &Arc<str>, token: Option<TokenHashes>) -> Result<(User, bool), SignInError> {
        match self.store.user(id, token).await {
            Ok(UserLookup { user, token_denied }) => Ok((user.ok_or(Refusal::UnknownUser)?, token_denied)),
            Err(StoreError::Away) if self.rules.fail == Fail::Open => {
                let nothing = User { categories: Categories::NONE, ..User::new(id, Tier::Free) };
                let is_denied = |token: TokenHashes| token.iter().any(|hash| self.store.remembers_denied(&hash));
                let token_denied = token.is_some_and(is_denied);
                Ok((self.store.remembered_user(id).unwrap_or(nothing), token_denied))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Issues a token for a user of the store, from `now` (Unix seconds) for `ttl` (whole seconds).
    ///
    /// # Errors
    /// [`IssueError`] where the user is unknown, no HS256 key is configured, `ttl` is out of range, or the store is away.
    pub async fn issue(&self, user: &str, ttl: Duration, now: i64) -> Result<String, IssueError> {
        let unknown = || IssueError::UnknownUser { user: user.to_owned() };
        if !is_user_id(user) {
            return Err(unknown());
        }
        self.store.user(&user.into(), None).await?.user.ok_or_else(unknown)?;
        self.tokens.issue(user, ttl, now)
    }
}
