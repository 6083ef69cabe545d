//! What a run is to do: defaults of the subcommand, over them a TOML file, over it the flags; checked as a whole.
//!
//! [`Wishes`] is what somebody asked for, the same names on the command line and in a file; [`Scenario`] is what came of it.
//! Deliberately absent: credentials, which are never written down, and outputs.

mod resolve;

use std::path::Path;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::orders::{ChannelName, Interest, SignIn, WireEncoding};
use crate::scan::Stamp;
use crate::thresholds::{Nanos, Thresholds};

pub use resolve::ScenarioError;

/// The kinds of run, named as the subcommands are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Connect,
    Idle,
    Broadcast,
    Watchlist,
    Signals,
    Slow,
    Churn,
    Reconnect,
    Rights,
    Soak,
    FindMax,
}

impl Kind {
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Connect => "connect",
            Kind::Idle => "idle",
            Kind::Broadcast => "broadcast",
            Kind::Watchlist => "watchlist",
            Kind::Signals => "signals",
            Kind::Slow => "slow",
            Kind::Churn => "churn",
            Kind::Reconnect => "reconnect",
            Kind::Rights => "rights",
            Kind::Soak => "soak",
            Kind::FindMax => "find-max",
        }
    }

    /// Whether it is about messages, so that a run without any shows nothing.
    pub const fn needs_data(self) -> bool {
        match self {
            Kind::Connect | Kind::Idle | Kind::Churn | Kind::Rights => false,
            Kind::Broadcast | Kind::Watchlist | Kind::Signals | Kind::Slow => true,
            Kind::Reconnect | Kind::Soak | Kind::FindMax => true,
        }
    }
}

/// What `find-max` raises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Raise {
    /// How many clients there are.
    Clients,
    /// How many messages a second a venue sends that the gateway listens to.
    Rate,
}

/// How a change of a user's record is announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Announce {
    /// With the whole record.
    Record,
    /// With the user's id alone: the gateway reads the record.
    User,
    /// Not at all: the gateway finds it when it looks.
    Nothing,
}

/// Settings, each of which has a default.
#[derive(Clone, Debug, Default, clap::Args, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Wishes {
    /// Where to connect: ws:// or wss://, repeated for several gateways [default: ws://127.0.0.1:8080/stream]
    #[arg(long, value_name = "URL")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub target: Vec<String>,
    /// Clients, all together.
    #[arg(long, short = 'n', value_name = "N")]
    pub clients: Option<u64>,
    /// Clients that connect in a second, before what is measured begins.
    #[arg(long, value_name = "N/S")]
    pub ramp: Option<f64>,
    /// connect: clients a second in the ramp. churn: commands a second, all clients together. rights: users that are changed
    /// in a second.
    #[arg(long, value_name = "N/S")]
    pub rate: Option<f64>,
    /// From when all clients are ready to when counting begins.
    #[arg(long, value_name = "DURATION")]
    pub warm_up: Option<Nanos>,
    /// How long is counted (each time, where a scenario counts several times).
    #[arg(long, short = 'd', value_name = "DURATION")]
    pub duration: Option<Nanos>,
    /// How long clients get at the end to receive what others have received.
    #[arg(long, value_name = "DURATION")]
    pub settle: Option<Nanos>,
    /// How long all clients get to be ready, beyond the time that the ramp takes.
    #[arg(long, value_name = "DURATION")]
    pub connect_timeout: Option<Nanos>,

    /// Channels to subscribe to, repeated.
    #[arg(long, value_name = "CHANNEL", help_heading = "Subscriptions")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub channel: Vec<ChannelName>,
    /// Symbols, repeated; `*` for all.
    #[arg(long, value_name = "SYMBOL", help_heading = "Subscriptions")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub symbol: Vec<String>,
    /// How many symbols there are, the most popular first: those that the simulator makes up, or --symbol-pattern's.
    #[arg(long, value_name = "S", help_heading = "Subscriptions")]
    pub symbols: Option<u32>,
    /// A file with one symbol a line, the most popular first.
    #[arg(long, value_name = "FILE", help_heading = "Subscriptions")]
    pub symbol_list: Option<String>,
    /// How the names of --symbols are made: {} is a number from 1, {:03} the same with leading zeros.
    #[arg(long, value_name = "PATTERN", help_heading = "Subscriptions")]
    pub symbol_pattern: Option<String>,
    /// How many of the symbols each client takes.
    #[arg(long, value_name = "K", help_heading = "Subscriptions")]
    pub symbols_each: Option<u32>,
    /// How unequal the symbols' popularity is: the i-th is taken with a weight of 1/i^EXPONENT; 0 makes them equal.
    #[arg(long, value_name = "EXPONENT", help_heading = "Subscriptions")]
    pub zipf: Option<f64>,
    /// Most messages a second for each symbol of a conflated channel.
    #[arg(long, value_name = "N/S", help_heading = "Subscriptions")]
    pub max_rate: Option<f64>,
    /// The same seed draws the same symbols and the same clients.
    #[arg(long, value_name = "N", help_heading = "Subscriptions")]
    pub seed: Option<u64>,

    /// How clients sign in.
    #[arg(long, value_name = "HOW", help_heading = "Connections")]
    pub auth: Option<SignIn>,
    /// How messages are written.
    #[arg(long, value_name = "ENCODING", help_heading = "Connections")]
    pub encoding: Option<WireEncoding>,
    /// Addresses to connect from: A or A-B, repeated.
    #[arg(long, value_name = "ADDRESS", help_heading = "Connections", conflicts_with = "sources")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub source: Vec<String>,
    /// How many addresses from 127.0.0.1 on to connect from; by default as many as the clients need.
    #[arg(long, value_name = "N", help_heading = "Connections")]
    pub sources: Option<u32>,
    /// Worker processes; by default as many as descriptors demand, and at most half the cores.
    #[arg(long, value_name = "N", help_heading = "Connections")]
    pub workers: Option<u32>,
    /// PEM file with the authority that signed the servers' certificates, instead of the public ones.
    #[arg(long, value_name = "FILE", help_heading = "Connections")]
    pub ca: Option<String>,
    /// Take any certificate.
    #[arg(long, help_heading = "Connections", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub insecure: Option<bool>,

    /// What the latency of a message counts from: rx (the gateway's socket read) or event (the venue's time).
    #[arg(long, value_name = "STAMP", help_heading = "Measuring")]
    pub from: Option<Stamp>,
    /// How far ahead of this machine's clock messages may be stamped.
    #[arg(long, value_name = "DURATION", help_heading = "Measuring")]
    pub clock_tolerance: Option<Nanos>,
    /// The run is invalid where the harness itself was later than this (99th percentile).
    #[arg(long, value_name = "DURATION", help_heading = "Measuring")]
    pub max_lag: Option<Nanos>,
    /// Check every field of one message in N.
    #[arg(long, value_name = "N", help_heading = "Measuring")]
    pub check_every: Option<u64>,
    /// A process of the server, for its processor time and memory, repeated.
    #[arg(long, value_name = "PID", help_heading = "Measuring")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pid: Vec<u32>,
    /// A metrics page of the server, for the same and more, repeated.
    #[arg(long, value_name = "URL", help_heading = "Measuring")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<String>,

    /// slow: share of the clients that stop reading.
    #[arg(long, value_name = "SHARE", help_heading = "Scenarios")]
    pub share: Option<f64>,
    /// slow: how long they do not read.
    #[arg(long, value_name = "DURATION", help_heading = "Scenarios")]
    pub stall: Option<Nanos>,
    /// signals: share of the clients that are cut each time; 0 for none.
    #[arg(long, value_name = "SHARE", help_heading = "Scenarios")]
    pub cut_share: Option<f64>,
    /// signals: how often.
    #[arg(long, value_name = "DURATION", help_heading = "Scenarios")]
    pub cut_every: Option<Nanos>,
    /// reconnect: all clients return within this time.
    #[arg(long, value_name = "DURATION", help_heading = "Scenarios")]
    pub within: Option<Nanos>,
    /// rights: how many users the clients are spread over.
    #[arg(long, value_name = "U", help_heading = "Scenarios")]
    pub users: Option<u64>,
    /// rights: the Redis that the gateway has its users' records in, redis://HOST:PORT; the password comes from the
    /// environment (LOADTEST_REDIS_PASSWORD) or a file.
    #[arg(long, value_name = "URL", help_heading = "Scenarios")]
    pub redis: Option<String>,
    /// rights: a file with the password of Redis.
    #[arg(long, value_name = "FILE", help_heading = "Scenarios")]
    pub redis_password_file: Option<String>,
    /// rights: the file with the HS256 secret that the gateway checks tokens with (secret_file of a token key).
    #[arg(long, value_name = "FILE", help_heading = "Scenarios")]
    pub token_secret_file: Option<String>,
    /// rights: the kid of that key, where the gateway has several.
    #[arg(long, value_name = "KID", help_heading = "Scenarios")]
    pub token_kid: Option<String>,
    /// rights: how a change is announced.
    #[arg(long, value_name = "HOW", help_heading = "Scenarios")]
    pub announce: Option<Announce>,
    /// rights: how often all users are changed at once.
    #[arg(long, value_name = "N", help_heading = "Scenarios")]
    pub bursts: Option<u32>,
    /// soak: length of a phase.
    #[arg(long, value_name = "DURATION", help_heading = "Scenarios")]
    pub every: Option<Nanos>,
    /// find-max: what is raised.
    #[arg(long, value_name = "WHAT", help_heading = "Scenarios")]
    pub raise: Option<Raise>,
    /// find-max: the first step, clients or messages a second.
    #[arg(long, value_name = "N", help_heading = "Scenarios")]
    pub lowest: Option<f64>,
    /// find-max: the last step.
    #[arg(long, value_name = "N", help_heading = "Scenarios")]
    pub highest: Option<f64>,
    /// find-max: by how much each step is larger than the one before.
    #[arg(long, value_name = "FACTOR", help_heading = "Scenarios")]
    pub factor: Option<f64>,
    /// find-max: length of a step.
    #[arg(long, value_name = "DURATION", help_heading = "Scenarios")]
    pub step: Option<Nanos>,
    /// find-max: how near to each other the last good and the first broken step have to come, as a share.
    #[arg(long, value_name = "SHARE", help_heading = "Scenarios")]
    pub precision: Option<f64>,
    /// find-max --raise rate: where the venue listens that the gateway's feed has to be pointed at.
    #[arg(long, value_name = "ADDRESS", help_heading = "Scenarios")]
    pub venue_listen: Option<String>,

    #[command(flatten)]
    pub thresholds: Thresholds,
}

/// Settings of one kind of run, all known and consistent.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub kind: Kind,
    pub targets: Vec<String>,
    pub clients: u64,
    /// Clients a second.
    pub ramp: f64,
    /// Commands a second.
    pub rate: f64,
    pub warm_up_ns: u64,
    pub duration_ns: u64,
    pub settle_ns: u64,
    pub connect_timeout_ns: u64,
    pub interest: Interest,
    pub seed: u64,
    pub sign_in: SignIn,
    pub encoding: WireEncoding,
    pub source: Vec<String>,
    pub sources: Option<u32>,
    pub workers: Option<u32>,
    pub ca: Option<String>,
    pub insecure: bool,
    pub stamp: Stamp,
    pub clock_tolerance_ns: u64,
    pub max_lag_ns: u64,
    pub check_every: u64,
    pub pids: Vec<u32>,
    pub metrics: Vec<String>,
    pub stall_share: f64,
    pub stall_ns: u64,
    pub cut_share: f64,
    pub cut_every_ns: u64,
    pub within_ns: u64,
    pub users: u64,
    pub redis: String,
    pub redis_password_file: Option<String>,
    pub token_secret_file: Option<String>,
    pub token_kid: Option<String>,
    pub announce: Announce,
    pub bursts: u32,
    pub every_ns: u64,
    pub raise: Raise,
    pub lowest: f64,
    pub highest: f64,
    pub factor: f64,
    pub step_ns: u64,
    pub precision: f64,
    pub venue_listen: std::net::SocketAddr,
    pub thresholds: Thresholds,
}

/// Reads a scenario file.
///
/// # Errors
/// It can't be read, or it holds what is no setting: the error names line and key.
pub fn read_file(path: &Path) -> anyhow::Result<Wishes> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("in {}", path.display()))
}

impl Wishes {
    /// These, and where one is not given, the other's.
    #[must_use]
    pub fn or(self, other: Wishes) -> Wishes {
        let list = |ours: Vec<String>, theirs| if ours.is_empty() { theirs } else { ours };
        // Each of these names which symbols there are: those of the file do not mix with those of the flags.
        let names_symbols = !self.symbol.is_empty() || self.symbols.is_some() || self.symbol_list.is_some();
        let named = if names_symbols { Wishes::default() } else { other.clone() };
        let sourced = if self.sources.is_some() || !self.source.is_empty() { Wishes::default() } else { other.clone() };
        Wishes {
            target: list(self.target, other.target),
            clients: self.clients.or(other.clients),
            ramp: self.ramp.or(other.ramp),
            rate: self.rate.or(other.rate),
            warm_up: self.warm_up.or(other.warm_up),
            duration: self.duration.or(other.duration),
            settle: self.settle.or(other.settle),
            connect_timeout: self.connect_timeout.or(other.connect_timeout),
            channel: if self.channel.is_empty() { other.channel } else { self.channel },
            symbol: list(self.symbol, named.symbol),
            symbols: self.symbols.or(named.symbols),
            symbol_list: self.symbol_list.or(named.symbol_list),
            symbol_pattern: self.symbol_pattern.or(other.symbol_pattern),
            symbols_each: self.symbols_each.or(other.symbols_each),
            zipf: self.zipf.or(other.zipf),
            max_rate: self.max_rate.or(other.max_rate),
            seed: self.seed.or(other.seed),
            auth: self.auth.or(other.auth),
            encoding: self.encoding.or(other.encoding),
            source: list(self.source, sourced.source),
            sources: self.sources.or(sourced.sources),
            workers: self.workers.or(other.workers),
            ca: self.ca.or(other.ca),
            insecure: self.insecure.or(other.insecure),
            from: self.from.or(other.from),
            clock_tolerance: self.clock_tolerance.or(other.clock_tolerance),
            max_lag: self.max_lag.or(other.max_lag),
            check_every: self.check_every.or(other.check_every),
            pid: if self.pid.is_empty() { other.pid } else { self.pid },
            metrics: list(self.metrics, other.metrics),
            share: self.share.or(other.share),
            stall: self.stall.or(other.stall),
            cut_share: self.cut_share.or(other.cut_share),
            cut_every: self.cut_every.or(other.cut_every),
            within: self.within.or(other.within),
            users: self.users.or(other.users),
            redis: self.redis.or(other.redis),
            redis_password_file: self.redis_password_file.or(other.redis_password_file),
            token_secret_file: self.token_secret_file.or(other.token_secret_file),
            token_kid: self.token_kid.or(other.token_kid),
            announce: self.announce.or(other.announce),
            bursts: self.bursts.or(other.bursts),
            every: self.every.or(other.every),
            raise: self.raise.or(other.raise),
            lowest: self.lowest.or(other.lowest),
            highest: self.highest.or(other.highest),
            factor: self.factor.or(other.factor),
            step: self.step.or(other.step),
            precision: self.precision.or(other.precision),
            venue_listen: self.venue_listen.or(other.venue_listen),
            thresholds: self.thresholds.or(other.thresholds),
        }
    }
}

#[cfg(test)]
mod tests;
