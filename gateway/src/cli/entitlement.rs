//! `gateway entitlement`: what operators look at and change in the store in Redis, which tells the gateways.
//!
//! Deliberately absent: users in a file. Who changes these edits the file.

use std::io::{IsTerminal, Read};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use clap::builder::{NonEmptyStringValueParser, PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use entitlements::{
    Categories, Category, RECORD_VERSION_MAX, Redis, Status, Tier, TokenHash, User, claimed_end, is_key_prefix,
    parse_network,
};
use ipnet::IpNet;

use super::{no_record, store, user_id};
use crate::config::{Config, ConfigError, parse_duration};
use crate::door::{open_redis, unix_seconds};

/// Longest text that is read as a token: the door takes none of more than 8 KiB.
const TOKEN_BYTES_MAX: u64 = 16 * 1024;

/// Longest time for which a token is denied, s: 136 years. Redis's own bound lies beyond.
const DENIED_S_MAX: u64 = u32::MAX as u64;

#[derive(Subcommand, Clone, Debug, PartialEq)]
pub enum Action {
    /// Print a user's record as JSON
    Show {
        #[command(flatten)]
        user: OfUser,
    },
    /// Change what is given of a user's record, and print the new one; with --tier it may be a new user's
    Set {
        #[command(flatten)]
        user: OfUser,
        #[command(flatten)]
        changes: Changes,
    },
    /// Cancel a user's subscription: the free channels stay, delayed, and nothing else
    Revoke {
        #[command(flatten)]
        user: OfUser,
    },
    /// Block a user, or an address: live sessions end, and nobody comes in again
    Block {
        #[command(flatten)]
        target: Target,
        /// Why; needed with --address, and kept beside it
        #[arg(long, value_name = "TEXT", conflicts_with = "user", required_unless_present = "user",
              value_parser = NonEmptyStringValueParser::new())]
        reason: Option<String>,
    },
    /// Take a block back: a user's subscription is active again
    Unblock {
        #[command(flatten)]
        target: Target,
    },
    /// Take an API key out: live sessions by it end, and it opens no more
    RevokeKey {
        /// The key's id: what stands before the dot
        #[arg(value_name = "KEY", value_parser = key_prefix)]
        key: Arc<str>,
    },
    /// Deny a token, which is read from standard input, until it has expired: live sessions by it end
    DenyToken {
        /// The token's SHA-256 instead of the token, 64 hexadecimal digits
        #[arg(long, value_name = "HEX", value_parser = token_hash, requires = "ttl")]
        hash: Option<TokenHash>,
        /// For how long, such as 24h or 90d, instead of until the token's own end
        #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
        ttl: Option<Duration>,
    },
}

#[derive(Args, Clone, Debug, PartialEq)]
pub struct OfUser {
    /// The user's id
    #[arg(value_name = "USER", value_parser = user_id)]
    pub user: Arc<str>,
}

/// One of both.
#[derive(Args, Clone, Debug, PartialEq)]
#[group(required = true, multiple = false)]
pub struct Target {
    /// The user's id
    #[arg(value_name = "USER", value_parser = user_id)]
    pub user: Option<Arc<str>>,
    /// An address or a network, such as 192.0.2.7 or 2001:db8::/32
    #[arg(long, value_name = "CIDR", value_parser = parse_network)]
    pub address: Option<IpNet>,
}

/// What is to change of a record.
#[derive(Args, Clone, Debug, Default, PartialEq)]
pub struct Changes {
    /// What the user pays for
    #[arg(long, value_parser = one_of(&Tier::ALL, Tier::name))]
    pub tier: Option<Tier>,
    /// State of the subscription; only an active one opens more than the free channels
    #[arg(long, value_parser = one_of(&Status::ALL, Status::name))]
    pub status: Option<Status>,
    /// All categories that are to be the user's, such as crypto,forex; '' for none
    #[arg(long, value_name = "LIST", value_parser = categories)]
    pub categories: Option<Categories>,
    /// Live data, or delayed; "tier" for as the tier has it, here and below
    #[arg(long, value_name = "true|false|tier", value_parser = own_flag)]
    pub real_time: Option<Own<bool>>,
    /// Live connections of the user
    #[arg(long, value_name = "N|tier", value_parser = own_limit)]
    pub max_connections: Option<Own<u32>>,
    /// Channels of one connection
    #[arg(long, value_name = "N|tier", value_parser = own_limit)]
    pub max_channels: Option<Own<u32>>,
    /// Live signals in any day
    #[arg(long, value_name = "N|tier", value_parser = own_limit)]
    pub max_signals_per_day: Option<Own<u32>>,
    /// The new record's version, which has to be newer than that which is there [default: one more]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=RECORD_VERSION_MAX))]
    pub version: Option<u64>,
}

/// A setting of the user's own, or none: as the tier has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Own<T>(Option<T>);

fn own<T>(text: &str, read: impl Fn(&str) -> Option<T>, expected: &str) -> Result<Own<T>, String> {
    match text {
        "tier" => Ok(Own(None)),
        text => read(text).map(|value| Own(Some(value))).ok_or_else(|| format!("expected {expected}, or tier")),
    }
}

fn own_flag(text: &str) -> Result<Own<bool>, String> {
    own(text, |text| text.parse().ok(), "true or false")
}

fn own_limit(text: &str) -> Result<Own<u32>, String> {
    own(text, |text| text.parse().ok().filter(|limit| *limit > 0), "a whole number of at least 1")
}

fn one_of<T: Copy + Send + Sync>(all: &'static [T], name: fn(T) -> &'static str) -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(all.iter().map(|one| name(*one))).map(move |chosen| {
        let chosen = all.iter().find(|one| name(**one) == chosen);
        *chosen.expect("Invariant: clap lets only these names through")
    })
}

fn categories(text: &str) -> Result<Categories, String> {
    let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
    names.into_iter().try_fold(Categories::NONE, |all, name| match Category::from_name(name) {
        Some(category) => Ok(all.with(category)),
        None => Err(format!("{name:?} is none of {}", Category::ALL.map(Category::name).join(", "))),
    })
}

fn key_prefix(text: &str) -> Result<Arc<str>, &'static str> {
    if is_key_prefix(text) { Ok(text.into()) } else { Err("expected the id of an API key, without its secret") }
}

fn token_hash(text: &str) -> Result<TokenHash, &'static str> {
    TokenHash::from_hex(text).ok_or("expected 64 hexadecimal digits")
}

impl Changes {
    /// Without a record that is there, a new user's, who has no categories but those that are given.
    fn of(&self, id: &Arc<str>, before: Option<&User>) -> anyhow::Result<User> {
        let mut user = match (before, self.tier) {
            (Some(before), _) => before.clone(),
            (None, Some(tier)) => User { categories: Categories::NONE, ..User::new(id, tier) },
            (None, None) => bail!("there is no record of {id}: --tier makes one"),
        };
        user.tier = self.tier.unwrap_or(user.tier);
        user.status = self.status.unwrap_or(user.status);
        user.categories = self.categories.unwrap_or(user.categories);
        user.real_time = self.real_time.map_or(user.real_time, |own| own.0);
        user.connections = self.max_connections.map_or(user.connections, |own| own.0);
        user.channels = self.max_channels.map_or(user.channels, |own| own.0);
        user.signals_per_day = self.max_signals_per_day.map_or(user.signals_per_day, |own| own.0);
        Ok(user)
    }
}

/// Does what is asked, and returns what is to be printed. `input` is where a token comes from: never from the arguments, which
/// others on the machine see.
///
/// # Errors
/// [`ConfigError`] where no store in Redis is configured; others where that is away, or what is asked cannot be.
pub fn entitlement(config: &Config, action: &Action, input: &mut impl Read) -> anyhow::Result<String> {
    check_shared(config)?;
    let denial = match action {
        Action::DenyToken { hash, ttl } => match denial(config, *hash, *ttl, input)? {
            Some(denial) => Some(denial),
            None => return Ok("the token has expired: there is nothing to deny\n".to_owned()),
        },
        _ => None,
    };
    let redis = open_redis(&store::patient(config).entitlements.redis)?;
    store::ask(&redis, &config.entitlements.redis, async {
        match (action, denial) {
            (_, Some((token, ttl))) => {
                redis.deny(&token, ttl).await?;
                Ok(format!("denied for {} s: {token}\n", ttl.as_secs()))
            }
            (action, None) => act(&redis, action).await,
        }
    })
}

async fn act(redis: &Redis, action: &Action) -> anyhow::Result<String> {
    match action {
        Action::Show { user: OfUser { user } } => printed(&redis.record(user).await?.with_context(|| no_record(user))?),
        Action::Set { user: OfUser { user }, changes } => {
            let changed = redis.change(user, changes.version, |before| changes.of(user, before));
            printed(&changed.await?)
        }
        Action::Revoke { user: OfUser { user } } => {
            with_status(redis, user, Status::Cancelled, |user| match user.status {
                Status::Blocked => Err(anyhow!("{} is blocked, and would be less so by this", user.id)),
                _ => Ok(()),
            })
            .await
        }
        Action::Block { target: Target { user: Some(user), .. }, .. } => {
            with_status(redis, user, Status::Blocked, |_| Ok(())).await
        }
        Action::Unblock { target: Target { user: Some(user), .. } } => {
            with_status(redis, user, Status::Active, |user| match user.status {
                Status::Blocked => Ok(()),
                status => Err(anyhow!("{} is not blocked: its subscription is {}", user.id, status.name())),
            })
            .await
        }
        Action::Block { target: Target { address: Some(network), .. }, reason } => {
            redis.block(*network, reason.as_deref().unwrap_or_default()).await?;
            Ok(format!("blocked: {network}\n"))
        }
        Action::Unblock { target: Target { address: Some(network), .. } } => match redis.unblock(*network).await? {
            true => Ok(format!("no longer blocked: {network}\n")),
            false => bail!("{network} is not on the list of blocked addresses"),
        },
        Action::RevokeKey { key } => match redis.remove_key(key).await? {
            true => Ok(format!("no longer there: {key}\n")),
            false => bail!("there is no API key {key}"),
        },
        Action::Block { .. } | Action::Unblock { .. } => bail!("neither a user nor an address is named"),
        Action::DenyToken { .. } => bail!("no token is named"),
    }
}

/// Gives a user another status, where `check` has nothing against it.
async fn with_status(
    redis: &Redis,
    id: &Arc<str>,
    status: Status,
    check: impl Fn(&User) -> anyhow::Result<()>,
) -> anyhow::Result<String> {
    let changed = redis.change(id, None, |before| {
        let before = before.with_context(|| no_record(id))?;
        check(before)?;
        Ok::<_, anyhow::Error>(User { status, ..before.clone() })
    });
    printed(&changed.await?)
}

fn printed(user: &User) -> anyhow::Result<String> {
    let record: serde_json::Value = serde_json::from_str(&user.to_json())?;
    Ok(format!("{record:#}\n"))
}

/// # Errors
/// Where the users stand in a file, or are the demo's.
fn check_shared(config: &Config) -> Result<(), ConfigError> {
    let entitlements = &config.entitlements;
    if entitlements.redis.is_used() {
        return Ok(());
    }
    Err(match &entitlements.users {
        Some(file) => ConfigError::of(
            "entitlements.redis.urls",
            format_args!(
                "names no store: users stand in {}, which to edit, then send the gateway SIGHUP",
                file.display()
            ),
        ),
        None => ConfigError::of(
            "entitlements.redis.urls",
            "names no store, and the demo users do not change: write a users file, name it in entitlements.users, and send \
             the gateway SIGHUP after each change",
        ),
    })
}

/// Which token to deny, and for how long; `None` where it has expired.
fn denial(
    config: &Config,
    hash: Option<TokenHash>,
    ttl: Option<Duration>,
    input: &mut impl Read,
) -> anyhow::Result<Option<(TokenHash, Duration)>> {
    let (hash, end) = match hash {
        Some(hash) => (hash, None),
        None => {
            let token = read_token(input)?;
            (TokenHash::of(&token), claimed_end(&token))
        }
    };
    let left_s = match (ttl, end) {
        (Some(ttl), _) => ttl.as_secs(),
        // The gateways take it for as long as the issuer's clock may be off.
        (None, Some(end)) => {
            let leeway_s = config.entitlements.leeway.as_secs();
            u64::try_from(end.saturating_add_unsigned(leeway_s).saturating_sub(unix_seconds())).unwrap_or(0)
        }
        (None, None) => bail!("this is no token, or one without an end: check it, or say for how long with --ttl"),
    };
    Ok((left_s > 0).then(|| (hash, Duration::from_secs(left_s.min(DENIED_S_MAX)))))
}

fn read_token(input: &mut impl Read) -> anyhow::Result<String> {
    if std::io::stdin().is_terminal() {
        eprintln!("gateway: the token, and then Ctrl-D:");
    }
    let mut text = String::new();
    input.take(TOKEN_BYTES_MAX).read_to_string(&mut text).context("the token cannot be read")?;
    let token = text.trim();
    if token.is_empty() || token.contains(char::is_whitespace) {
        bail!("expected one token on standard input, and nothing else");
    }
    Ok(token.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_given_changes() {
        let id: Arc<str> = "alice".into();
        let before = User { channels: Some(7), connections: Some(2), version: 3, ..User::new("alice", Tier::Free) };
        let unchanged = Changes::default().of(&id, Some(&before)).unwrap();
        assert_eq!(unchanged, before);
        let changes = Changes {
            tier: Some(Tier::Premium),
            max_channels: Some(Own(None)),
            real_time: Some(Own(Some(false))),
            ..Changes::default()
        };
        let expected = User { tier: Tier::Premium, channels: None, real_time: Some(false), ..before.clone() };
        assert_eq!(changes.of(&id, Some(&before)).unwrap(), expected);
        // A new user has what is given, and nothing else.
        let new = changes.of(&id, None).unwrap();
        assert_eq!((new.tier, new.status, new.categories), (Tier::Premium, Status::Active, Categories::NONE));
        let error = Changes::default().of(&id, None).unwrap_err();
        assert_eq!(error.to_string(), "there is no record of alice: --tier makes one");
    }

    #[test]
    fn values_are_read_or_refused() {
        assert_eq!(categories("crypto, forex"), Ok(Categories::NONE.with(Category::Crypto).with(Category::Forex)));
        assert_eq!(categories(""), Ok(Categories::NONE));
        assert_eq!(categories("bonds"), Err("\"bonds\" is none of equity, forex, crypto, commodity".to_owned()));
        assert_eq!((own_limit("7"), own_limit("tier")), (Ok(Own(Some(7))), Ok(Own(None))));
        for text in ["0", "-1", "", "4294967296", "Tier"] {
            assert_eq!(own_limit(text), Err("expected a whole number of at least 1, or tier".to_owned()), "{text}");
        }
        assert_eq!((own_flag("false"), own_flag("yes").is_err()), (Ok(Own(Some(false))), true));
    }

    #[test]
    fn a_token_is_denied_until_nobody_takes_it() {
        let config = Config::default();
        let token = |end: i64| {
            use base64::Engine;
            let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(format!("{{\"exp\":{end}}}"));
            format!("e30.{claims}.x\n")
        };
        let denied = |text: &str, ttl: Option<u64>| {
            denial(&config, None, ttl.map(Duration::from_secs), &mut text.as_bytes()).map_err(|error| error.to_string())
        };
        let good = token(unix_seconds() + 100);
        let (hash, ttl) = denied(&good, None).unwrap().unwrap();
        // The leeway is 5 s; the test may be slow.
        assert!(hash == TokenHash::of(good.trim()) && (60..=105).contains(&ttl.as_secs()), "{ttl:?}");
        assert_eq!(denied(&good, Some(7)), Ok(Some((hash, Duration::from_secs(7)))));
        assert_eq!(denied(&token(unix_seconds() - 6), None), Ok(None));
        assert_eq!(denied(&token(i64::MAX), None).unwrap().unwrap().1.as_secs(), DENIED_S_MAX);
        assert!(denied("opaque", None).unwrap_err().contains("--ttl"));
        assert!(denied("opaque", Some(7)).is_ok());
        for text in ["", "\n", "two tokens"] {
            assert!(denied(text, Some(7)).unwrap_err().contains("expected one token"), "{text:?}");
        }
    }
}
