//! `gateway key`: a new API key, kept in the store in Redis where there is one, and else as lines for the users file.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use entitlements::{ApiKey, ApiKeyRecord, Kinds};
use protocol::format_rfc3339;

use super::{no_record, store, user_id};
use crate::config::{Config, parse_duration};
use crate::door::{hash_key, open_redis, unix_seconds};

/// What a new key is for.
#[derive(Args, Clone, Debug, PartialEq)]
pub struct KeyRequest {
    /// The user's id
    #[arg(long, value_name = "NAME", value_parser = user_id)]
    pub user: Arc<str>,
    /// Channels that the key is for, within what its user may have, such as trades,quotes; without it, all
    #[arg(long, value_name = "LIST", value_parser = scopes)]
    pub scopes: Option<Kinds>,
    /// How long the key opens, such as 90d or 12h; without it, for good
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub ttl: Option<Duration>,
}

fn scopes(text: &str) -> Result<Kinds, String> {
    let names = text.split(',').map(str::trim);
    names.into_iter().try_fold(Kinds::NONE, |all, name| {
        let known = || Kinds::ALL.names().collect::<Vec<_>>().join(", ");
        all.with_named(name).ok_or_else(|| format!("{name:?} is none of {}", known()))
    })
}

/// A new API key: the secret, which is shown here only, and, without a store in Redis, the lines for the users file.
///
/// # Errors
/// [`ConfigError`](crate::config::ConfigError) for a hash key that cannot be read; others where the store has no such user or is
/// away, or the system has no randomness.
pub fn key(config: &Config, request: &KeyRequest) -> anyhow::Result<String> {
    let KeyRequest { user, scopes, ttl } = request;
    let ends = match ttl {
        None => None,
        Some(ttl) if ttl.as_secs() == 0 => bail!("a key opens for at least one second"),
        Some(ttl) => Some(End::new(unix_seconds(), *ttl).context("no key opens so long")?),
    };
    let entitlements = &config.entitlements;
    let key = ApiKey::generate(hash_key(entitlements)?.as_ref())?;
    if !entitlements.redis.is_used() {
        return Ok(lines(&key, user, *scopes, ends.as_ref()));
    }
    let record = ApiKeyRecord {
        user: user.clone(),
        hash: key.hash().clone(),
        scope: scopes.unwrap_or(Kinds::ALL),
        expires_at: ends.as_ref().map(|end| end.at),
    };
    let redis = open_redis(&store::patient(config).entitlements.redis)?;
    store::ask(&redis, &entitlements.redis, async {
        redis.record(user).await?.with_context(|| no_record(user))?;
        Ok(redis.put_key(key.id(), &record).await?)
    })?;
    let (id, secret) = (key.id(), key.secret());
    let mut text = format!(
        "# The API key of {user}, which the store has now. The secret is shown here and nowhere else.\n\
         key     {id}\n\
         secret  {secret}\n"
    );
    if let Some(end) = ends {
        writeln!(text, "until   {}", end.text)?;
    }
    Ok(text)
}

/// When a key no longer opens.
struct End {
    /// Unix s.
    at: i64,
    /// RFC 3339.
    text: String,
}

impl End {
    /// `None` beyond the year 2261, which is where Unix ns end.
    fn new(now: i64, ttl: Duration) -> Option<End> {
        let at = now.checked_add_unsigned(ttl.as_secs())?;
        let mut text = Vec::new();
        format_rfc3339(at.checked_mul(1_000_000_000)?, &mut text);
        Some(End { at, text: String::from_utf8(text).ok()? })
    }
}

fn lines(key: &ApiKey, user: &str, scopes: Option<Kinds>, end: Option<&End>) -> String {
    let (id, secret, mut lines) = (key.id(), key.secret(), key.to_toml());
    if let Some(scopes) = scopes {
        let names: Vec<_> = scopes.names().map(|name| format!("{name:?}")).collect();
        lines += &format!("scopes = [{}]\n", names.join(", "));
    }
    if let Some(end) = end {
        lines += &format!("expires_at = {}\n", end.text);
    }
    format!(
        "# The API key of {user}. The secret is shown here and nowhere else.\n\
         # key     {id}\n\
         # secret  {secret}\n\
         # For the users file, below the [[users]] of {user}:\n\
         {lines}"
    )
}

#[cfg(test)]
mod tests {
    use protocol::ChannelKind;

    use super::*;

    #[test]
    fn scopes_are_channels() {
        let expected = Kinds::NONE.with(ChannelKind::Trades).with(ChannelKind::Quotes);
        assert_eq!(scopes("trades, quotes"), Ok(expected));
        for text in ["", "trades,", "books"] {
            assert!(scopes(text).unwrap_err().contains("is none of trades, quotes, bars"), "{text}");
        }
    }

    #[test]
    fn ends_are_within_time() {
        let end = End::new(1_763_654_400, Duration::from_secs(90 * 86_400)).unwrap();
        assert_eq!((end.at, end.text.as_str()), (1_771_430_400, "2026-02-18T16:00:00Z"));
        assert!(End::new(1_763_654_400, Duration::from_secs(250 * 365 * 86_400)).is_none());
    }
}
