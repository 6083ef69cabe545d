//! Who may have what: sign-in, tiers, limits, and the decision on each subscription.
//!
//! [`decide`] alone makes a [`Grant`], and the fan-out takes nothing but a `Grant`, so the check cannot be
//! forgotten. [`Door`] turns credentials into a [`Principal`]. No sockets, no clock and no async here: callers
//! pass `now` in, and the one file that is read is the users file, at start and on reload.

mod connections;
mod decide;
pub mod demo;
mod door;
mod principal;
mod secret;
mod store;
mod tiers;
mod token;

pub use connections::{AddressLimit, AddressPermit, ConnectionPermit, Connections, LimitReached};
pub use decide::{Denial, Grant, decide};
pub use door::{Credentials, Door, IssueError, Refusal, SignInError};
pub use principal::{Categories, Category, Limits, Principal, Status, Tier, User};
pub use secret::{ApiKey, NoRandomness, SecretHash, SecretHashError, random_bytes};
pub use store::{Embedded, StoreError, Users, UsersError};
pub use tiers::{Kinds, Rights, Tiers};
pub use token::{Algorithm, Claims, TokenKey, TokenKeyError, TokenRules, Tokens};
