//! Where the gateways of a fleet remember together: users' records, API keys, denied tokens, blocked addresses, who is
//! connected, and what was counted.
//!
//! [`Store`] is what the door and the sessions ask. Two keep it: [`Embedded`] in this process, from a file of users, and
//! `Redis`, which other gateways and the platform share. Both answer the same (`tests/stores.rs`).
//!
//! An answer is a future without a borrow, so that a session may leave the asking to a task. The embedded store's is
//! ready at once.

mod embedded;
#[cfg(feature = "redis")]
mod redis;

use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

pub use self::embedded::{Embedded, EmbeddedError, Users, UsersError};
#[cfg(feature = "redis")]
pub use self::redis::{ChangeError, RECORD_VERSION_MAX, Redis, RedisLogin, RedisMode, RedisSettings, RedisTls};
use crate::address::AddressBlocks;
use crate::api_key::ApiKeyRecord;
use crate::limits::{Charge, Verdict};
use crate::principal::{Credential, User};
use crate::record::RecordError;
use crate::token::{TokenHash, TokenHashes};

/// What a store says, once it has.
pub type Answer<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Why a store has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It cannot be reached, does not answer in time, or was given up after several such failures.
    #[error("the entitlement store is away")]
    Away,
    /// What it holds cannot be understood.
    #[error("the record of {key}: {error}")]
    Record { key: String, error: RecordError },
}

/// A user's record and whether the token that was shown is denied, read at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserLookup {
    pub user: Option<User>,
    pub token_denied: bool,
}

/// A session to be registered, before its client is told that it is signed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRecord {
    /// Unique on this node and for its whole life.
    pub number: u64,
    pub user: Arc<str>,
    /// Of the tier, as in `premium`.
    pub role: &'static str,
    pub address: IpAddr,
    /// As the client names itself; at most 256 bytes.
    pub agent: Box<str>,
    /// The user's connections on all nodes together may be so many, this one included.
    pub connections_max: u32,
    /// When it was last active: Unix s.
    pub active_at: i64,
}

/// What is known of a live session when all are listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveSession {
    pub number: u64,
    pub user: Arc<str>,
    pub role: &'static str,
    pub address: IpAddr,
    /// When the client last asked for something: Unix s.
    pub active_at: i64,
    /// What it was signed in by.
    pub credential: Option<Credential>,
}

/// The user has as many connections as it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("connection limit of {limit} reached")]
pub struct ConnectionsExceeded {
    pub limit: u32,
}

/// Something that changed while sessions live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The record of a user, as it is now. Older versions than a session holds are to be ignored.
    User(User),
    /// There is no such user any more.
    Gone(Arc<str>),
    /// A token is denied from now on.
    Token(TokenHash),
    /// The record of an API key is of this version now; `None`: it is gone. Sessions by another version end.
    Key(Arc<str>, Option<u64>),
    /// The list of blocked addresses is another: see [`Store::blocks`].
    Blocks,
}

/// How a store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    Up,
    /// Without answers since so long, in seconds.
    Away {
        for_s: u64,
    },
}

/// What a store that may be away has counted since it was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreCounts {
    /// Questions without an answer in time.
    pub late: u64,
    /// Questions that failed on the way or that the server refused.
    pub failed: u64,
    /// Answers that mean nothing: the key holds something else.
    pub senseless: u64,
    /// Times that it went away.
    pub outages: u64,
    /// Times that it was found to have lost what it held, or a part of it.
    pub losses: u64,
    /// Charges that this node decided by its own count alone.
    pub decided_alone: u64,
    /// Sessions that ended while too many others did, and stay registered until the next comparison.
    pub closes_deferred: u64,
    /// Changes heard of: announcements.
    pub announcements: u64,
}

/// The sessions of this node, as a store asks for them: which users' records to watch, what to register anew, whom to tell.
pub trait Roster: Send + Sync {
    /// Users with at least one live session here.
    fn users(&self) -> Vec<Arc<str>>;
    /// All live sessions here.
    fn sessions(&self) -> Answer<Vec<LiveSession>>;
    /// Applies changes to the live sessions. In order; returns without waiting for clients.
    fn apply(&self, changes: Vec<Change>);
}

/// What a store is asked. See the module's page.
pub trait Store: fmt::Debug + Send + Sync {
    /// A user's record, and whether a token is denied: one round trip.
    fn user(&self, id: &Arc<str>, token: Option<TokenHashes>) -> Answer<Result<UserLookup, StoreError>>;

    /// A user's record as this node read it last, for while the store is away. A store that is never away remembers nobody.
    fn remembered_user(&self, _id: &str) -> Option<User> {
        None
    }

    /// Whether this node has heard that a token is denied.
    fn remembers_denied(&self, _token: &TokenHash) -> bool {
        false
    }

    /// An API key as this node read it last.
    fn remembered_key(&self, _prefix: &str) -> Option<ApiKeyRecord> {
        None
    }

    /// An API key by its prefix.
    fn api_key(&self, prefix: &str) -> Answer<Result<Option<ApiKeyRecord>, StoreError>>;

    /// The user whom a client's certificate stands for, by a name in it (SAN).
    fn certificate(&self, name: &str) -> Answer<Result<Option<Arc<str>>, StoreError>>;

    /// Decides a charge, and counts it where it is allowed: one round trip, atomically over all nodes. While the store is
    /// away, this node alone decides.
    fn take(&self, charge: Charge) -> Answer<Verdict>;

    /// Counts a connection of the user and registers the session. While the store is away it always succeeds, and the
    /// session is registered once the store is back.
    fn open(&self, session: SessionRecord) -> Answer<Result<(), ConnectionsExceeded>>;

    /// Takes a session back. Returns at once: it is done soon.
    fn close(&self, number: u64, user: &Arc<str>);

    /// The addresses that are blocked, as of the last news.
    fn blocks(&self) -> Arc<AddressBlocks>;

    fn health(&self) -> Health;

    /// For metrics. All zero for a store that is never away.
    fn counts(&self) -> StoreCounts {
        StoreCounts::default()
    }
}
