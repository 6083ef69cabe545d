//! The `[feed]` tables: which source ticks come from, and what each kind of source needs.
//!
//! Deliberately absent: the sources themselves; this only says what was asked for.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use feed_handlers::venue::Venue;
use serde::{Deserialize, Serialize};

use super::{Source, units};

/// `[feed]`: where ticks come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Feed {
    pub kind: FeedKind,
    /// Ticks that the ring between feed and sequencer holds; rounded up to a power of two.
    pub ring_capacity: usize,
    pub unknown_symbols: UnknownSymbols,
    pub limits: Limits,
    pub arbitration: Arbitration,
    pub simulator: Simulator,
    pub replay: Replay,
    pub coinbase: Coinbase,
    /// The live sources, the most preferred first.
    pub sources: Vec<Source>,
}

impl Feed {
    /// Whether one of the sources is the platform's Kafka.
    pub fn reads_kafka(&self) -> bool {
        self.kind == FeedKind::Live && self.sources.iter().any(|source| source.venue == Venue::Kafka)
    }
}

impl Default for Feed {
    fn default() -> Feed {
        Feed {
            kind: FeedKind::Simulator,
            ring_capacity: 65_536,
            unknown_symbols: UnknownSymbols::Learn,
            limits: Limits::default(),
            arbitration: Arbitration::default(),
            simulator: Simulator::default(),
            replay: Replay::default(),
            coinbase: Coinbase::default(),
            sources: Vec::new(),
        }
    }
}

/// `[feed.limits]`: what can be believed of what venues say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Furthest that an event may lie ahead of its receipt.
    #[serde(with = "units::duration")]
    pub future_max: Duration,
    /// Longest that an event of a live source may lie before its receipt; recordings may be of any age.
    #[serde(with = "units::duration")]
    pub age_max: Duration,
    /// Furthest that a price may lie from the last one, as a share of that.
    pub outlier_ratio: f64,
    pub outliers: Outliers,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            future_max: Duration::from_secs(10),
            age_max: Duration::from_secs(86_400),
            outlier_ratio: 0.2,
            outliers: Outliers::Flag,
        }
    }
}

/// What happens to prices that are too far from the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outliers {
    /// They are published, and counted.
    Flag,
    Drop,
}

/// `[feed.arbitration]`: when one source of an instrument takes over from another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Arbitration {
    /// Silence on an instrument after which another source may take it over.
    #[serde(with = "units::duration")]
    pub stale_after: Duration,
    /// How long a preferred source must have been well again before it takes back.
    #[serde(with = "units::duration")]
    pub fail_back_after: Duration,
}

impl Default for Arbitration {
    fn default() -> Arbitration {
        Arbitration { stale_after: Duration::from_secs(10), fail_back_after: Duration::from_secs(5) }
    }
}

/// Which of the feed's own tables is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FeedKind {
    Simulator,
    Replay,
    Coinbase,
    /// Those of `feed.sources`.
    Live,
}

/// What happens to a product that was not configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnknownSymbols {
    Learn,
    Refuse,
}

/// `[feed.simulator]`: a market that is made up, in a real venue's wire format.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Simulator {
    pub symbols: Symbols,
    /// Messages a second, all symbols together.
    pub rate: f64,
    /// Part of the messages that are trades, 0 to 1; the others are quotes.
    pub trade_share: f64,
    /// Exponent of the symbols' popularity; 0 makes them equal.
    pub zipf: f64,
    pub bursts: Bursts,
    pub seed: u64,
}

impl Default for Simulator {
    fn default() -> Simulator {
        Simulator {
            symbols: Symbols::default(),
            rate: 100.0,
            trade_share: 0.5,
            zipf: 1.0,
            bursts: Bursts::default(),
            seed: 1,
        }
    }
}

/// The simulated instruments: named, or so many with made-up names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Symbols {
    /// Canonical pairs, such as `BTC/USD`, the most popular first.
    List(Vec<String>),
    Count(usize),
}

impl Default for Symbols {
    fn default() -> Symbols {
        let pairs = [
            "BTC/USD", "ETH/USD", "SOL/USD", "XRP/USD", "DOGE/USD", "ADA/USD", "LINK/USD", "LTC/USD", "AVAX/USD",
            "ETH/BTC",
        ];
        Symbols::List(pairs.map(str::to_owned).to_vec())
    }
}

impl Serialize for Symbols {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Symbols::List(symbols) => symbols.serialize(to),
            Symbols::Count(count) => count.serialize(to),
        }
    }
}

impl<'de> Deserialize<'de> for Symbols {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Symbols, D::Error> {
        struct Either;

        impl<'de> serde::de::Visitor<'de> for Either {
            type Value = Symbols;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a list of symbols such as [\"BTC/USD\"], or how many to make up")
            }

            fn visit_i64<E: serde::de::Error>(self, count: i64) -> Result<Symbols, E> {
                let unexpected = serde::de::Unexpected::Signed(count);
                usize::try_from(count).map(Symbols::Count).map_err(|_| E::invalid_value(unexpected, &self))
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, list: A) -> Result<Symbols, A::Error> {
                Vec::deserialize(serde::de::value::SeqAccessDeserializer::new(list)).map(Symbols::List)
            }
        }

        from.deserialize_any(Either)
    }
}

/// `[feed.simulator.bursts]`: for `length` out of `every`, the rate is multiplied by `factor`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Bursts {
    /// At least 1; 1 means no bursts.
    pub factor: f64,
    #[serde(with = "units::duration")]
    pub every: Duration,
    #[serde(with = "units::duration")]
    pub length: Duration,
}

impl Default for Bursts {
    fn default() -> Bursts {
        Bursts { factor: 1.0, every: Duration::from_secs(10), length: Duration::from_secs(1) }
    }
}

/// `[feed.replay]`: a recorded session of the venue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Replay {
    /// Required where `feed.kind` is `replay`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    pub speed: Speed,
    /// Starts again at the end, with ids and times that go on rising.
    #[serde(rename = "loop")]
    pub repeat: bool,
    /// Waits at the start until so many clients have subscribed.
    pub after_clients: usize,
}

impl Default for Replay {
    fn default() -> Replay {
        Replay { file: None, speed: Speed::Times(1.0), repeat: false, after_clients: 0 }
    }
}

/// How fast a capture is replayed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Speed {
    /// So many times as fast as it was recorded; finite and above 0.
    Times(f64),
    /// As fast as the gateway takes it, without losing any.
    Max,
}

/// The text is neither `max` nor a finite number above 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no speed: write 1, 10, any other number above 0, or max")]
pub struct SpeedError;

impl std::str::FromStr for Speed {
    type Err = SpeedError;

    fn from_str(text: &str) -> Result<Speed, SpeedError> {
        match text {
            "max" => Ok(Speed::Max),
            number => number.parse().map_err(|_| SpeedError).and_then(Speed::times),
        }
    }
}

impl Speed {
    fn times(factor: f64) -> Result<Speed, SpeedError> {
        if factor.is_finite() && factor > 0.0 { Ok(Speed::Times(factor)) } else { Err(SpeedError) }
    }
}

impl fmt::Display for Speed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Speed::Times(factor) => write!(out, "{factor}"),
            Speed::Max => out.write_str("max"),
        }
    }
}

impl Serialize for Speed {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Speed {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Speed, D::Error> {
        struct NumberOrMax;

        impl serde::de::Visitor<'_> for NumberOrMax {
            type Value = Speed;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("\"max\" or a number above 0")
            }

            fn visit_i64<E: serde::de::Error>(self, factor: i64) -> Result<Speed, E> {
                Speed::times(factor as f64).map_err(E::custom)
            }

            fn visit_f64<E: serde::de::Error>(self, factor: f64) -> Result<Speed, E> {
                Speed::times(factor).map_err(E::custom)
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Speed, E> {
                text.parse().map_err(E::custom)
            }
        }

        from.deserialize_any(NumberOrMax)
    }
}

/// `[feed.coinbase]`: the venue itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Coinbase {
    pub url: Url,
    /// The venue's product ids, such as `BTC-USD`.
    pub products: Vec<String>,
    /// A connection that brings nothing for so long is dropped and made anew.
    #[serde(with = "units::duration")]
    pub silence_timeout: Duration,
}

impl Default for Coinbase {
    fn default() -> Coinbase {
        Coinbase {
            url: Url("wss://ws-feed.exchange.coinbase.com".to_owned()),
            products: ["BTC-USD", "ETH-USD", "SOL-USD"].map(str::to_owned).to_vec(),
            silence_timeout: Duration::from_secs(10),
        }
    }
}

/// An address of a venue. It may hold a password or a key, so it is only printed masked.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Url(pub(super) String);

impl Url {
    /// The whole address, for connecting. Never for a log.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Url {
    /// The address with user, password and query hidden.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (address, query) = self.0.split_at(self.0.find(['?', '#']).unwrap_or(self.0.len()));
        let scheme_end = address.find("://").map_or(0, |at| at + 3);
        let (scheme, rest) = address.split_at(scheme_end);
        let authority_end = rest.find('/').unwrap_or(rest.len());
        let host = match rest[..authority_end].rfind('@') {
            Some(at) => format!("***{}", &rest[at..]),
            None => rest.to_owned(),
        };
        write!(out, "{scheme}{host}{}", if query.is_empty() { "" } else { "?***" })
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Url({self})")
    }
}

impl Serialize for Url {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}
