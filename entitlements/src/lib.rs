//! Who may have what: sign-in, tiers, limits, and the decision on each subscription.
//!
//! [`decide`] alone makes a [`Grant`], and the fan-out takes nothing but a `Grant`, so the check cannot be
//! forgotten. [`Door`] turns credentials into a [`Principal`], with what a [`Store`] has of the user. But for the store in
//! Redis (feature `redis`) there are no sockets and no runtime here; callers pass `now` in, only the embedded limiter reads
//! the clock, and the one file that is read is the users file, at start and on reload.

mod address;
mod api_key;
mod connections;
mod decide;
pub mod demo;
mod door;
mod jwks;
mod limits;
mod principal;
mod record;
mod store;
mod tiers;
mod token;
mod window;

pub use address::{AddressBlocks, NetworkError, TrustedProxies, parse_network};
pub use api_key::{
    ApiKey, ApiKeyRecord, HashKey, KEY_PREFIX_BYTES_MAX, NoRandomness, SecretHash, SecretHashError, is_key_prefix,
    random_bytes,
};
pub use connections::{AddressLimit, AddressPermit, ConnectionPermit, Connections, LimitReached, Update};
pub use decide::{Denial, Grant, decide};
pub use door::{Attempts, Credentials, Door, DoorRules, Fail, IssueError, KeySource, Refusal, SignInError};
pub use jwks::{JWKS_KEYS_MAX, JwksError, parse_jwks};
pub use limits::{Charge, Limiter, Meter, QUOTAS_MAX, Quota, Subject, Verdict};
pub use principal::{
    Categories, Category, Credential, Limits, Principal, Status, Tier, USER_ID_BYTES_MAX, User, is_user_id,
};
pub use record::RecordError;
pub use store::{
    Answer, Change, ConnectionsExceeded, Embedded, EmbeddedError, Health, LiveSession, Roster, SessionRecord, Store,
    StoreCounts, StoreError, UserLookup, Users, UsersError,
};
#[cfg(feature = "redis")]
pub use store::{ChangeError, RECORD_VERSION_MAX, Redis, RedisLogin, RedisMode, RedisSettings, RedisTls};
pub use tiers::{Kinds, Rights, Tiers};
pub use token::{Algorithm, Claims, TokenHash, TokenHashes, TokenKey, TokenKeyError, TokenRules, Tokens, claimed_end};
