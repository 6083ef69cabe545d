//! What operators and the platform's tools change: records, API keys, blocks, denied tokens. Each change is announced.
//!
//! Asked by people and seldom, so that a change may take several round trips. It is asked whether the store counts as up or not:
//! see [`Redis::ready`].

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use ipnet::IpNet;
use redis::Script;
use serde_json::{Map, Value};

use super::names::{CHANGES, IP_BLOCKLIST};
use super::{Kept, Redis};
use crate::address::parse_network;
use crate::api_key::ApiKeyRecord;
use crate::principal::User;
use crate::store::StoreError;
use crate::token::TokenHash;

static PUT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("put.lua")));

/// Highest version of a record: Redis's scripts count in floating point, which is exact up to here.
pub const RECORD_VERSION_MAX: u64 = (1 << 53) - 1;

/// How often a change is tried again that somebody else was faster than.
const ATTEMPTS: u32 = 64;

/// Why a record was not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    #[error("version {version} is not newer than version {there}, which is there")]
    Outdated { version: u64, there: u64 },
    #[error("a version of at most {RECORD_VERSION_MAX} is needed, and {version} would be next")]
    Version { version: u64 },
    #[error("others kept changing the record meanwhile: {ATTEMPTS} attempts came too late")]
    Overtaken,
}

/// A field of a record that is not ours, and what it holds.
type Own = (&'static str, Value);

impl Kept {
    /// A field that is not ours: of a hash, the JSON in its text.
    fn field(&self, name: &str) -> Option<Value> {
        match self {
            Kept::Text(json) => serde_json::from_slice::<Map<String, Value>>(json).ok()?.remove(name),
            Kept::Hash(fields) => {
                let (pairs, _) = fields.as_chunks::<2>();
                let [_, value] = pairs.iter().find(|[field, _]| field == name.as_bytes())?;
                serde_json::from_slice(value).ok()
            }
            Kept::Other => None,
        }
    }
}

/// A record in JSON with one more field.
fn with_own(json: &str, (name, value): &Own) -> String {
    let mut record: Map<String, Value> = serde_json::from_str(json).unwrap_or_default();
    record.insert((*name).to_owned(), value.clone());
    Value::Object(record).to_string()
}

impl Redis {
    /// A user's record as it is now.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn record(&self, id: &Arc<str>) -> Result<Option<User>, StoreError> {
        self.shared.read_user(id).await
    }

    /// Changes a user's record, and announces it: `change` is given the one that is there, and says what it is to be. The new
    /// one's version is `version`, or one more than that which is there. Where somebody else puts another one in between, it is
    /// read and changed anew. What others keep in the record beside our fields stays, and so does its form.
    ///
    /// # Errors
    /// [`StoreError`], [`ChangeError`], and what `change` objects to.
    pub async fn change<E: From<StoreError> + From<ChangeError>>(
        &self,
        id: &Arc<str>,
        version: Option<u64>,
        change: impl Fn(Option<&User>) -> Result<User, E>,
    ) -> Result<User, E> {
        let changed = self.attempt::<E>(id, version, |before, _| Ok(Some((change(before)?, None))));
        changed.await?.ok_or_else(|| E::from(ChangeError::Overtaken))
    }

    /// The same, for who keeps something of its own in the record, in the field `own`, which changes together with it: `change` is
    /// given both as they are there, and where it returns `None`, both stay.
    ///
    /// # Errors
    /// As [`Redis::change`].
    pub async fn change_with<E: From<StoreError> + From<ChangeError>>(
        &self,
        id: &Arc<str>,
        own: &'static str,
        change: impl Fn(Option<&User>, Option<&Value>) -> Result<Option<(User, Value)>, E>,
    ) -> Result<Option<User>, E> {
        let changed = self.attempt::<E>(id, None, |before, kept| {
            let there = kept.and_then(|kept| kept.field(own));
            let changed = change(before, there.as_ref())?;
            Ok(changed.map(|(user, value)| (user, Some((own, value)))))
        });
        changed.await
    }

    async fn attempt<E: From<StoreError> + From<ChangeError>>(
        &self,
        id: &Arc<str>,
        version: Option<u64>,
        change: impl Fn(Option<&User>, Option<&Kept>) -> Result<Option<(User, Option<Own>)>, E>,
    ) -> Result<Option<User>, E> {
        let shared = &self.shared;
        for _ in 0..ATTEMPTS {
            let kept = shared.read_record(id).await?;
            let before = kept.as_ref().map(|kept| shared.understand(id, kept)).transpose()?;
            let there = before.as_ref().map_or(0, |before| before.version);
            let Some((user, own)) = change(before.as_ref(), kept.as_ref())? else { return Ok(None) };
            let user = User { version: version.unwrap_or(there.saturating_add(1)), ..user };
            if user.version > RECORD_VERSION_MAX {
                return Err(ChangeError::Version { version: user.version }.into());
            }
            if user.version <= there {
                return Err(ChangeError::Outdated { version: user.version, there }.into());
            }
            let json = match &kept {
                Some(Kept::Text(json)) => user.to_json_within(json),
                _ => user.to_json(),
            };
            let json = own.as_ref().map_or_else(|| json.clone(), |own| with_own(&json, own));
            let before = before.filter(|_| matches!(kept, Some(Kept::Hash(_))));
            if self.place(&user, &json, own.as_ref(), before.as_ref(), Some(there)).await? {
                shared.remember(&user);
                return Ok(Some(user));
            }
        }
        Err(ChangeError::Overtaken.into())
    }

    /// Puts a record in the place of one of an older version, and announces it. False where the one that is there is not
    /// older.
    ///
    /// # Errors
    /// [`StoreError::Away`].
    pub async fn put(&self, user: &User) -> Result<bool, StoreError> {
        self.place(user, &user.to_json(), None, None, None).await
    }

    /// Puts a record that is newer than that which is there, and, with `there`, where that has just this version. `json` has what is
    /// somebody's `own`. Of one that is
    /// kept as a hash, only the fields change that differ from `before`.
    async fn place(
        &self,
        user: &User,
        json: &str,
        own: Option<&Own>,
        before: Option<&User>,
        there: Option<u64>,
    ) -> Result<bool, StoreError> {
        let mut put = PUT.key(self.shared.names.entitlement(&user.id));
        put.arg(json).arg(user.version).arg(CHANGES).arg(there.map_or_else(String::new, |there| there.to_string()));
        let before = before.map(User::to_hash);
        for (i, (name, value)) in user.to_hash().into_iter().enumerate() {
            if before.as_ref().is_none_or(|before| before[i].1 != value) {
                put.arg(name).arg(value);
            }
        }
        if let Some((name, value)) = own {
            put.arg(*name).arg(value.to_string());
        }
        Ok(self.shared.run::<u64>(&put).await? == 1)
    }

    /// Keeps an API key, and announces it: sessions by an older record of it end.
    ///
    /// # Errors
    /// [`StoreError::Away`].
    pub async fn put_key(&self, prefix: &str, key: &ApiKeyRecord) -> Result<(), StoreError> {
        let mut put = redis::cmd("SET");
        self.shared.ask::<()>(put.arg(self.shared.names.api_key(prefix)).arg(key.to_json())).await?;
        self.announce_key(prefix).await
    }

    /// Takes an API key out, and announces it. False where there was none.
    ///
    /// # Errors
    /// [`StoreError::Away`].
    pub async fn remove_key(&self, prefix: &str) -> Result<bool, StoreError> {
        let gone: u64 = self.shared.ask(redis::cmd("DEL").arg(self.shared.names.api_key(prefix))).await?;
        self.announce_key(prefix).await?;
        Ok(gone > 0)
    }

    async fn announce_key(&self, prefix: &str) -> Result<(), StoreError> {
        self.shared.announce(&serde_json::json!({ "api_key": prefix }).to_string()).await
    }

    /// Blocks a network, and announces it.
    ///
    /// # Errors
    /// [`StoreError::Away`].
    pub async fn block(&self, network: IpNet, reason: &str) -> Result<(), StoreError> {
        let mut command = redis::cmd("HSET");
        self.shared.ask::<()>(command.arg(IP_BLOCKLIST).arg(network.to_string()).arg(reason)).await?;
        self.shared.announce(r#"{"ip_blocklist":true}"#).await
    }

    /// Takes a block back, in whichever way the network is written there. False where there was none.
    ///
    /// # Errors
    /// [`StoreError::Away`].
    pub async fn unblock(&self, network: IpNet) -> Result<bool, StoreError> {
        let mut there: Vec<String> = self.shared.ask(redis::cmd("HKEYS").arg(IP_BLOCKLIST)).await?;
        there.retain(|written| parse_network(written) == Ok(network));
        if there.is_empty() {
            return Ok(false);
        }
        let gone: u64 = self.shared.ask(redis::cmd("HDEL").arg(IP_BLOCKLIST).arg(there)).await?;
        self.shared.announce(r#"{"ip_blocklist":true}"#).await?;
        Ok(gone > 0)
    }

    /// Denies a token for so long, and announces it.
    ///
    /// # Errors
    /// [`StoreError::Away`].
    pub async fn deny(&self, token: &TokenHash, ttl: Duration) -> Result<(), StoreError> {
        let mut command = redis::cmd("SET");
        command.arg(self.shared.names.denied(token)).arg("1").arg("EX").arg(ttl.as_secs().max(1));
        self.shared.ask::<()>(&command).await?;
        self.shared.announce(&format!(r#"{{"token_hash":"{token}"}}"#)).await
    }
}
