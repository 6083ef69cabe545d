//! The store in Redis as the commands ask it: once, with patience, and with an answer that says why there is none.

use std::time::Duration;

use anyhow::anyhow;
use entitlements::{Redis, StoreError};

use super::block_on;
use crate::config::{Config, RedisStore};

/// How long a command waits for the store to be up: longer than an attempt to connect takes (4 s), so that what that failed of
/// is known by then.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a command waits for an answer, where the gateways wait less. Nobody's ticks wait behind it.
const ANSWER: Duration = Duration::from_secs(2);

/// The same configuration, for a command that asks a store in Redis.
pub(super) fn patient(config: &Config) -> Config {
    let mut config = config.clone();
    let timeout = &mut config.entitlements.redis.timeout;
    *timeout = ANSWER.max(*timeout);
    config
}

/// Asks the store, once it is up.
///
/// # Errors
/// Where it is away, with the reason, and whatever the question ends with.
pub(super) fn ask<T>(
    redis: &Redis,
    config: &RedisStore,
    question: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    let answer = block_on(async {
        redis.ready(PATIENCE).await?;
        question.await
    })?;
    answer.map_err(|error| match error.downcast_ref() {
        Some(StoreError::Away) => {
            let urls = config.urls.iter().map(|url| url.as_str()).collect::<Vec<_>>().join(", ");
            let reason = redis.trouble().unwrap_or_else(|| "no answer".to_owned());
            anyhow!("the entitlement store at {urls} is away: {reason}")
        }
        _ => error,
    })
}
