//! The configuration: one TOML file, changed by the environment and by `--replay`, read once at the start
//! into typed values, checked as a whole before any port is bound.
//!
//! Deliberately absent: changes at run time. What may change while the gateway runs (the users) is a file
//! of its own.

mod entitlements;
mod feed;
mod kafka;
mod overrides;
mod sections;
mod source;
#[cfg(test)]
mod tests;
mod tls;
mod units;
mod validate;

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use self::entitlements::{Entitlements, Jwks, RedisMode, RedisStore, RedisUrl, SignIns, TokenKey};
pub use feed::{
    Arbitration, Bursts, Coinbase, Feed, FeedKind, Limits, Outliers, Replay, Simulator, Speed, SpeedError, Symbols,
    UnknownSymbols, Url,
};
pub use kafka::{Kafka, KafkaSecurity, Topics};
use overrides::Override;
pub use sections::{
    Admin, Audit, AuditSink, DeadLetters, Drain, Fanout, Log, LogFormat, Pin, ProxyProtocol, Sequencer, Server,
    Session, SlowConsumer, Wait,
};
pub use source::{Dialect, Numbers, Quotes, SeriesInterval, Source, SourceEncoding};
pub use tls::Tls;
pub use units::{QuantityError, format_bytes, format_duration, parse_bytes, parse_duration};

/// The whole configuration, with a struct for each table. It holds no secret that its `Debug` or
/// `Serialize` would print.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub server: Server,
    pub session: Session,
    pub fanout: Fanout,
    pub sequencer: Sequencer,
    pub feed: Feed,
    pub dead_letters: DeadLetters,
    pub audit: Audit,
    pub kafka: Kafka,
    pub entitlements: Entitlements,
    pub admin: Admin,
    pub log: Log,
    pub drain: Drain,
}

/// What the command line changes of `[feed]`: `--replay FILE` and its companions. What is absent here
/// stays as it is configured.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReplayOptions {
    pub file: PathBuf,
    pub speed: Option<Speed>,
    pub repeat: bool,
    pub after_clients: Option<usize>,
}

/// One thing that is wrong with the configuration. Displays as one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key, with dots, as in the file; empty where the file as a whole is meant.
    pub key: String,
    /// Where the value was set, where that is known: a file or a variable.
    pub origin: Option<String>,
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(origin) = &self.origin {
            write!(out, "{origin}: ")?;
        }
        if !self.key.is_empty() {
            write!(out, "{}: ", self.key)?;
        }
        out.write_str(&self.message)
    }
}

/// Why the configuration cannot be used. Displays as one line for each problem.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n"))]
pub struct ConfigError {
    /// At least one.
    pub problems: Vec<Problem>,
}

impl ConfigError {
    /// An error about one key.
    pub fn of(key: &str, message: impl fmt::Display) -> ConfigError {
        ConfigError { problems: vec![Problem { key: key.to_owned(), origin: None, message: one_line(&message) }] }
    }
}

impl ConfigError {
    /// The same about another key, where it is one about `from`.
    pub(crate) fn about(mut self, from: &str, to: &str) -> ConfigError {
        for problem in self.problems.iter_mut().filter(|_| !to.is_empty()) {
            if let Some(rest) = problem.key.strip_prefix(from) {
                problem.key = format!("{to}{rest}");
            }
        }
        self
    }
}

impl Config {
    /// Reads the file, if one is given, lays the environment's `GATEWAY_` variables and the command line's
    /// replay over it, and checks the whole.
    ///
    /// # Errors
    /// [`ConfigError`] names each key that is wrong, or the file, where it cannot be read as TOML.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
        replay: Option<&ReplayOptions>,
    ) -> Result<Config, ConfigError> {
        let origin = file.map(|file| file.display().to_string());
        let problem = |key: String, origin: Option<String>, message| ConfigError {
            problems: vec![Problem { key, origin, message }],
        };
        let mut table = match file {
            Some(file) => {
                let text = std::fs::read_to_string(file)
                    .map_err(|e| problem(String::new(), origin.clone(), format!("cannot be read: {e}")))?;
                parse_table(&text).map_err(|message| problem(String::new(), origin.clone(), message))?
            }
            None => toml::Table::new(),
        };
        let in_file = table.clone();
        let overrides = overrides::from_environment(environment);
        for change in &overrides {
            change
                .apply(&mut table)
                .map_err(|message| problem(change.key(), Some(change.variable.clone()), message))?;
        }
        let origin_of = |key: &str| {
            let variable = overrides.iter().find(|change| change.concerns(key, &in_file));
            variable.map(|change: &Override| change.variable.clone()).or_else(|| origin.clone())
        };
        let mut config: Config = serde_path_to_error::deserialize(table).map_err(|e| {
            let key = e.path().to_string();
            let origin = origin_of(&key);
            problem(key, origin, one_line(&e.inner().message()))
        })?;
        if let Some(replay) = replay {
            config.apply(replay);
        }
        config.validate().map_err(|mut e| {
            for problem in &mut e.problems {
                problem.origin = origin_of(&problem.key);
            }
            e
        })?;
        let delay = if config.is_demo() { Sequencer::DELAY_DEMO } else { Sequencer::DELAY };
        config.sequencer.delay.get_or_insert(delay);
        Ok(config)
    }

    /// Whether the three demo users stand in for a users file or a shared store.
    pub fn is_demo(&self) -> bool {
        self.entitlements.users.is_none() && !self.entitlements.redis.is_used()
    }

    /// The effective configuration as a TOML document, without any secret.
    pub fn to_toml(&self) -> String {
        // Every value is a TOML type and every map key a field name; there is nothing to fail on.
        toml::to_string(self).unwrap_or_else(|e| panic!("Invariant: a configuration is TOML: {e}"))
    }

    fn apply(&mut self, replay: &ReplayOptions) {
        self.feed.kind = FeedKind::Replay;
        self.feed.replay.file = Some(replay.file.clone());
        self.feed.replay.repeat |= replay.repeat;
        if let Some(speed) = replay.speed {
            self.feed.replay.speed = speed;
        }
        if let Some(clients) = replay.after_clients {
            self.feed.replay.after_clients = clients;
        }
    }
}

/// Parses a TOML document; an error is one line with the place.
fn parse_table(text: &str) -> Result<toml::Table, String> {
    text.parse().map_err(|e: toml::de::Error| {
        let before = e.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        format!("line {line}: {}", one_line(&e.message()))
    })
}

/// Messages of libraries may run over several lines; ours do not.
fn one_line(message: &impl fmt::Display) -> String {
    let text = message.to_string();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
