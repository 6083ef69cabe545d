//! `[[feed.sources]]`: the live sources, for `feed.kind = "live"`, the most preferred first.
//!
//! Deliberately absent: what only a connection can show. Whether a venue takes these settings, its source says when it is
//! made, before anything is started.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use feed_handlers::venue::Venue;
use serde::{Deserialize, Serialize};

use super::{Url, units};

/// One live source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// The venue's name in lower case, such as `coinbase` or `alpha_vantage`.
    #[serde(with = "venue_name")]
    pub venue: Venue,
    /// The source as clients see it in `x`, and behind `@`: A-Z, 0-9 and . - _. Absent: the venue's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Not for Nasdaq ITCH, which tells all stocks; for Kafka `*`, or none, is whatever comes. Canonical, such as `BTC/USD` or
    /// `AAPL`, or with the venue's own name before it (`BINANCE:BTCUSDT=BTC/USDT`); for Kite always with the instrument's token
    /// (`408065=INFY`).
    #[serde(default)]
    pub symbols: Vec<String>,
    /// Absent: the venue's own address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<Url>,
    /// Where books are fetched, for Binance. Absent: the venue's own address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_url: Option<Url>,
    /// What quotes are made of.
    #[serde(default)]
    pub quotes: Quotes,
    /// Levels a side of the books that quotes are made of, where the venue offers several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub depth: Option<usize>,
    /// Whether the bars that the venue makes are subscribed too, beside trades and quotes.
    #[serde(default)]
    pub bars: bool,
    /// Alpha Vantage: bars of this interval in place of the day's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<SeriesInterval>,
    /// How the venue is to write, where it leaves the choice.
    #[serde(default)]
    pub encoding: SourceEncoding,
    /// Files that hold the key, and its secret or access token; white space around them does not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_file: Option<PathBuf>,
    /// Names of variables of the environment that hold them, in place of files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_variable: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_variable: Option<String>,
    /// OANDA's account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// FIX: who we are (SenderCompID), and who the venue is (TargetCompID).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender_comp_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_comp_id: Option<String>,
    /// In what the venue departs from the standard.
    #[serde(default)]
    pub dialect: Dialect,
    /// After how long without anything else both sides send a heartbeat, in whole seconds.
    #[serde(default, with = "units::optional_duration", skip_serializing_if = "Option::is_none")]
    pub heartbeat: Option<Duration>,
    /// How both sides count their messages.
    #[serde(default)]
    pub numbers: Numbers,
    /// Instruments in one request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub symbols_per_request: Option<usize>,
    /// IEX Cloud's endpoint, and the channels of its `deep` one. For FIX `quotes`, `trades`, or both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub channels: Vec<String>,
    /// Alpha Vantage's requests a minute and a day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_minute: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_day: Option<u32>,
    /// Nasdaq ITCH: the addresses of its lines, multicast groups or our own; each carries the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<SocketAddr>,
    /// The address of the interface on which groups are joined. Absent: the system's choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<Ipv4Addr>,
    /// The server that says again what both lines lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_server: Option<SocketAddr>,
    /// Nasdaq ITCH from a file of length-framed messages, in place of lines, and the day in New York that it is of:
    /// `2023-08-22`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub day: Option<String>,
    /// A connection that shows no sign of life for so long is dropped and made anew. Absent: what suits the venue.
    #[serde(default, with = "units::optional_duration", skip_serializing_if = "Option::is_none")]
    pub silence_timeout: Option<Duration>,
    /// Whether it makes its data up; real sources are preferred.
    #[serde(default)]
    pub mock: bool,
}

impl Source {
    /// A source with the venue's own address, and nothing else said.
    pub fn of(venue: Venue, symbols: Vec<String>) -> Source {
        Source {
            venue,
            name: None,
            symbols,
            url: None,
            snapshot_url: None,
            quotes: Quotes::default(),
            depth: None,
            bars: false,
            interval: None,
            encoding: SourceEncoding::default(),
            key_file: None,
            secret_file: None,
            key_variable: None,
            secret_variable: None,
            account: None,
            sender_comp_id: None,
            target_comp_id: None,
            dialect: Dialect::default(),
            heartbeat: None,
            numbers: Numbers::default(),
            symbols_per_request: None,
            endpoint: None,
            channels: Vec::new(),
            requests_per_minute: None,
            requests_per_day: None,
            lines: Vec::new(),
            interface: None,
            request_server: None,
            file: None,
            day: None,
            silence_timeout: None,
            mock: false,
        }
    }

    /// The source as clients see it.
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or(self.venue.name())
    }
}

/// What quotes are made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Quotes {
    /// The venue's own quotes.
    #[default]
    Quotes,
    /// The tops of its books.
    Books,
}

/// An interval of which Alpha Vantage has series, and we have bars.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SeriesInterval {
    #[serde(rename = "1m")]
    Minute,
    #[serde(rename = "5m")]
    Minutes5,
    #[serde(rename = "15m")]
    Minutes15,
    #[serde(rename = "1h")]
    Hour,
}

/// How the venue is to write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceEncoding {
    #[default]
    Json,
    Msgpack,
}

/// In what a venue departs from FIX.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    #[default]
    Standard,
    Binance,
}

/// How both sides of a FIX session count their messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Numbers {
    /// From 1 with each connection.
    #[default]
    Anew,
    /// On from the connection before.
    Continued,
}

mod venue_name {
    use super::Venue;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(venue: &Venue, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&venue.name().to_lowercase())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Venue, D::Error> {
        let name = String::deserialize(from)?;
        Venue::ALL.into_iter().find(|venue| venue.name().to_lowercase() == name).ok_or_else(|| {
            let names: Vec<String> = Venue::ALL.iter().map(|venue| venue.name().to_lowercase()).collect();
            D::Error::custom(format_args!("`{name}` is no venue: one of {}", names.join(", ")))
        })
    }
}
