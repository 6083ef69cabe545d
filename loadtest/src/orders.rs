//! What coordinator and workers say to each other: one JSON line each, orders on the worker's standard input, words on its
//! standard output. Times that cross are Unix ns. A worker ends when its standard input does.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use protocol::ChannelKind;
use serde::{Deserialize, Serialize};

use crate::sample::Sample;
use crate::scan::Stamp;

/// The first line: what a worker is to be.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Assignment {
    /// From 0; client `g` of the run belongs to worker `g % workers`.
    pub worker: u32,
    pub workers: u32,
    /// Most clients that the run will have, those of all workers.
    pub clients_max: u64,
    /// At least one; client `g` connects to `g % targets`.
    pub targets: Vec<Target>,
    /// Addresses to connect from, used in turn; empty: the system chooses.
    pub sources: Vec<IpAddr>,
    pub credentials: Option<Credentials>,
    pub sign_in: SignIn,
    pub encoding: WireEncoding,
    pub interest: Interest,
    pub seed: u64,
    pub stamp: Stamp,
    pub timed: Timed,
    /// How far ahead of this machine's clock a message may be, ns.
    pub clock_tolerance_ns: u64,
    /// One message of so many is checked field by field; at least 1.
    pub check_every: u64,
    /// Clients whose messages are not timed, because they will be stalled.
    pub stalled_share: f64,
    pub tls: TlsTrust,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Target {
    pub address: SocketAddr,
    /// For `Host` and for the certificate, without the port.
    pub host: String,
    /// `Host` as it is sent.
    pub authority: String,
    /// Path and query.
    pub path: String,
    pub tls: bool,
}

/// What clients sign in with. In no report and in no `Debug`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Credentials {
    Key {
        key: String,
        secret: String,
    },
    Token(String),
    /// Client `g` is the user `g % users`, with a token of that user's own.
    Users {
        signer: TokenSigner,
        users: u64,
    },
}

/// Makes tokens of any user.
#[derive(Clone, Serialize, Deserialize)]
pub struct TokenSigner {
    /// The secret that the gateway checks tokens with (HS256).
    pub secret: Vec<u8>,
    pub kid: Option<String>,
}

/// What the latency is that is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Timed {
    /// That of data messages.
    Messages,
    /// From a change of a user's record to the message about it. The record's version is when it was written, Unix us.
    Rights,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Credentials::Key { .. } => "Key(***)",
            Credentials::Token(_) => "Token(***)",
            Credentials::Users { .. } => "Users(***)",
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum SignIn {
    /// In the upgrade request.
    Header,
    /// By an `auth` message.
    Message,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum WireEncoding {
    Json,
    #[value(name = "msgpack")]
    #[serde(rename = "msgpack")]
    MessagePack,
}

/// Whose certificate a server may show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TlsTrust {
    /// One that a public authority signed.
    Public,
    /// One that an authority in this PEM text signed.
    Authority(String),
    /// Any.
    Anybody,
}

/// What clients subscribe to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interest {
    pub channels: Vec<ChannelName>,
    pub symbols: Vec<String>,
    pub basket: Basket,
    pub max_rate: Option<f64>,
}

/// A channel by its name in the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "camelCase")]
pub enum ChannelName {
    Trades,
    Quotes,
    Bars,
    #[value(name = "updatedBars")]
    UpdatedBars,
    #[value(name = "dailyBars")]
    #[serde(rename = "dailyBars")]
    DailyBars,
    #[value(name = "bars.5s")]
    #[serde(rename = "bars.5s")]
    Bars5s,
    #[value(name = "bars.5m")]
    #[serde(rename = "bars.5m")]
    Bars5m,
    #[value(name = "bars.15m")]
    #[serde(rename = "bars.15m")]
    Bars15m,
    #[value(name = "bars.1h")]
    #[serde(rename = "bars.1h")]
    Bars1h,
    #[value(name = "bars.4h")]
    #[serde(rename = "bars.4h")]
    Bars4h,
    #[value(name = "bars.1d")]
    #[serde(rename = "bars.1d")]
    Bars1d,
    #[value(name = "indicators.5s")]
    #[serde(rename = "indicators.5s")]
    Indicators5s,
    #[value(name = "indicators.1m")]
    #[serde(rename = "indicators.1m")]
    Indicators1m,
    #[value(name = "indicators.5m")]
    #[serde(rename = "indicators.5m")]
    Indicators5m,
    #[value(name = "indicators.15m")]
    #[serde(rename = "indicators.15m")]
    Indicators15m,
    #[value(name = "indicators.1h")]
    #[serde(rename = "indicators.1h")]
    Indicators1h,
    #[value(name = "indicators.4h")]
    #[serde(rename = "indicators.4h")]
    Indicators4h,
    #[value(name = "indicators.1d")]
    #[serde(rename = "indicators.1d")]
    Indicators1d,
}

impl ChannelName {
    pub const fn kind(self) -> ChannelKind {
        match self {
            ChannelName::Trades => ChannelKind::Trades,
            ChannelName::Quotes => ChannelKind::Quotes,
            ChannelName::Bars => ChannelKind::Bars,
            ChannelName::UpdatedBars => ChannelKind::UpdatedBars,
            ChannelName::DailyBars => ChannelKind::DailyBars,
            ChannelName::Bars5s => ChannelKind::Bars5s,
            ChannelName::Bars5m => ChannelKind::Bars5m,
            ChannelName::Bars15m => ChannelKind::Bars15m,
            ChannelName::Bars1h => ChannelKind::Bars1h,
            ChannelName::Bars4h => ChannelKind::Bars4h,
            ChannelName::Bars1d => ChannelKind::Bars1d,
            ChannelName::Indicators5s => ChannelKind::Indicators5s,
            ChannelName::Indicators1m => ChannelKind::Indicators1m,
            ChannelName::Indicators5m => ChannelKind::Indicators5m,
            ChannelName::Indicators15m => ChannelKind::Indicators15m,
            ChannelName::Indicators1h => ChannelKind::Indicators1h,
            ChannelName::Indicators4h => ChannelKind::Indicators4h,
            ChannelName::Indicators1d => ChannelKind::Indicators1d,
        }
    }

    /// `None` of what the harness does not subscribe to.
    pub const fn of(kind: ChannelKind) -> Option<ChannelName> {
        Some(match kind {
            ChannelKind::Trades => ChannelName::Trades,
            ChannelKind::Quotes => ChannelName::Quotes,
            ChannelKind::Bars => ChannelName::Bars,
            ChannelKind::UpdatedBars => ChannelName::UpdatedBars,
            ChannelKind::DailyBars => ChannelName::DailyBars,
            ChannelKind::Bars5s => ChannelName::Bars5s,
            ChannelKind::Bars5m => ChannelName::Bars5m,
            ChannelKind::Bars15m => ChannelName::Bars15m,
            ChannelKind::Bars1h => ChannelName::Bars1h,
            ChannelKind::Bars4h => ChannelName::Bars4h,
            ChannelKind::Bars1d => ChannelName::Bars1d,
            ChannelKind::Indicators5s => ChannelName::Indicators5s,
            ChannelKind::Indicators1m => ChannelName::Indicators1m,
            ChannelKind::Indicators5m => ChannelName::Indicators5m,
            ChannelKind::Indicators15m => ChannelName::Indicators15m,
            ChannelKind::Indicators1h => ChannelName::Indicators1h,
            ChannelKind::Indicators4h => ChannelName::Indicators4h,
            ChannelKind::Indicators1d => ChannelName::Indicators1d,
            ChannelKind::SignalsEquity
            | ChannelKind::SignalsForex
            | ChannelKind::SignalsCrypto
            | ChannelKind::SignalsCommodity => return None,
        })
    }
}

/// Which of the symbols a client takes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Basket {
    /// Every one.
    All,
    /// `*`.
    Wildcard,
    /// So many, drawn for each client; the `i`th symbol with a weight of `1 / i^exponent`.
    Drawn { each: u32, exponent: f64 },
}

/// What a worker is to do next.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// A new phase begins; what the one before still had to do is dropped.
    Phase { index: u32, job: Job, start_ns: i64 },
    /// Tell what the highest numbers are. Answered by [`Word::Surveyed`].
    Survey,
    /// What anybody has seen when all clients are ready: whoever has nothing of a channel that goes on from here lacks it.
    Baseline { marks: Vec<Mark> },
    /// Clients get so long to reach these numbers, then what lacks is missing. Answered by [`Word::Settled`].
    Settle { marks: Vec<Mark>, wait_ns: u64 },
    /// Clients get so long to be told of the versions that their users' records have by now, by user and 0 where one was not
    /// changed. Answered by [`Word::Settled`].
    Await { versions: Vec<u64>, wait_ns: u64 },
    /// The end: a last sample, and [`Word::Ended`].
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Job {
    /// Clients stay as they are.
    Hold,
    /// Clients `from..to` connect, or, where `to < from`, those from `to` on leave. `rate` a second in all workers together;
    /// `None`: all at once. Answered by [`Word::Arrived`] when none is under way any more.
    Populate { from: u64, to: u64, rate: Option<f64> },
    /// The clients of `stalled_share` stop reading until the next phase.
    Stall,
    /// So many subscribe and unsubscribe commands a second, in all workers together.
    Churn { rate: f64 },
    /// Every so often this share of the clients is cut and returns at once; none any more after `for_ns`.
    Cut { share: f64, every_ns: u64, for_ns: u64 },
    /// All are cut, and return within this time. Answered by [`Word::Arrived`].
    Return { within_ns: u64 },
}

/// The highest number of a channel in an epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    pub epoch: u64,
    pub channel: ChannelName,
    pub symbol: String,
    pub last: u64,
}

/// What a worker tells.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::large_enum_variant, reason = "words are made and taken one at a time")]
pub enum Word<'a> {
    /// At the end of each interval and phase.
    Sample(Cow<'a, Sample>),
    /// Nobody of that phase is under way any more.
    Arrived {
        phase: u32,
    },
    Surveyed {
        marks: Vec<Mark>,
    },
    Settled,
    /// The first client was turned away before any had a session.
    TurnedAway {
        reason: TurnedAway,
        text: String,
    },
    Ended,
}

/// Why a run cannot begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TurnedAway {
    /// Nobody answers at the target.
    Unreachable,
    /// The server said no.
    Refused,
    /// No descriptor or port was left.
    Exhausted,
}
