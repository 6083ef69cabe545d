//! What a live source is made with: the venue, the symbols, who we are, and why such settings are refused.
//!
//! Plain data, any thread. Shows no secret, and no address, which may hold one. Deliberately absent: where settings come
//! from, and what becomes of them, which is [`super::script`].

use super::secret::Secret;
use super::timings::Timings;
use crate::feed::QuoteOrigin;
use crate::venue::Venue;

/// In what form a venue writes, where it leaves the choice to us.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    #[default]
    Json,
    /// Alpaca only.
    MessagePack,
}

/// Who we are to the venue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    /// An API key or, for Finnhub, the token.
    pub key: Option<Secret>,
    /// The key's secret or, for Kite, the access token.
    pub secret: Option<Secret>,
}

/// What to connect to, and what for.
#[derive(Clone, PartialEq, Eq)]
pub struct LiveSettings {
    pub venue: Venue,
    /// `wss://...`; `ws://...` is for tests on the same machine. `None` for the venue's own address. Never shown.
    pub url: Option<String>,
    /// `https://...`, where books are fetched: for Binance, and needed there where `url` is set and quotes come from books.
    pub snapshot_url: Option<String>,
    /// Canonical (`BTC/USD`, `AAPL`), or with the venue's name before it (`BINANCE:BTCUSDT=BTC/USDT`); for Kite always
    /// with the instrument's token (`408065=INFY`).
    pub symbols: Vec<String>,
    /// What the feed makes its quotes of: it is to be made with the same.
    pub quotes: QuoteOrigin,
    /// Whether the bars that the venue makes are subscribed too, where it has any ([`Venue::offers_bars`]).
    pub bars: bool,
    pub encoding: Encoding,
    pub credentials: Credentials,
    pub timings: Timings,
}

impl LiveSettings {
    /// The venue's own address and timings; no symbols yet, and no credentials.
    pub fn of(venue: Venue) -> LiveSettings {
        LiveSettings {
            venue,
            url: None,
            snapshot_url: None,
            symbols: Vec::new(),
            quotes: QuoteOrigin::Quotes,
            bars: false,
            encoding: Encoding::Json,
            credentials: Credentials::default(),
            timings: Timings::of(venue),
        }
    }
}

/// Without addresses, which may hold secrets.
impl std::fmt::Debug for LiveSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LiveSettings")
            .field("venue", &self.venue)
            .field("symbols", &self.symbols)
            .field("quotes", &self.quotes)
            .field("bars", &self.bars)
            .field("encoding", &self.encoding)
            .field("credentials", &self.credentials)
            .field("timings", &self.timings)
            .finish_non_exhaustive()
    }
}

/// Why settings are refused. Begins with the name of the setting, and shows no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LiveError {
    #[error("venue: {} has no WebSocket that is spoken here", venue.name())]
    NoWebSocket { venue: Venue },
    #[error("url: a ws:// or wss:// address is needed")]
    Url,
    #[error("snapshot_url: an https:// address is needed")]
    SnapshotUrl,
    #[error("snapshot_url: needed where url is set and quotes come from books")]
    SnapshotUrlMissing,
    #[error("symbols: 1 to {count_max} are needed, not {count}")]
    SymbolCount { count: usize, count_max: usize },
    #[error("symbols: `{symbol}` {why}")]
    Symbol { symbol: String, why: &'static str },
    #[error("{what}: {} needs it", venue.name())]
    Credentials { what: &'static str, venue: Venue },
    #[error("credentials: they hold bytes that no header or address can hold")]
    CredentialBytes,
    #[error("quotes: {} gives no books that quotes could come from", venue.name())]
    Books { venue: Venue },
    #[error("bars: {} gives none that could be subscribed", venue.name())]
    Bars { venue: Venue },
    #[error("quotes: the depth of books is to be one of {depths:?}")]
    Depth { depths: &'static [usize] },
    #[error("encoding: {} writes JSON only", venue.name())]
    Encoding { venue: Venue },
    #[error("timings: all above 0 and at most a day, stale <= silence and backoff_min <= backoff_max are needed")]
    Timings,
    #[error("tls: {0}")]
    Tls(String),
}
