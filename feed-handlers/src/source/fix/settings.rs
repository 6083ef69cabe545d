//! What a FIX source is made with: with whom to speak, who we are, what to ask for, and why such settings are refused.
//!
//! Plain data, any thread. Shows no secret. Deliberately absent: where settings come from.

use std::ops::RangeInclusive;
use std::time::Duration;

use hyper::Uri;

use crate::feed::QuoteOrigin;
use crate::source::http_settings::{HttpSettingsError, products};
use crate::source::script::Product;
use crate::source::{Secret, Timings};

/// Instruments of one session. A venue that lets less be asked for says so.
pub(super) const SYMBOLS_MAX: usize = 2_000;

/// Longest CompID, name or password.
const TEXT_BYTES_MAX: usize = 256;

/// Longest interval of heartbeats.
const HEARTBEAT_MAX: Duration = Duration::from_secs(300);

/// The levels a side that can be asked for.
const DEPTHS: RangeInclusive<usize> = 1..=100_000;

/// Those that Binance has as a book.
const BINANCE_DEPTHS: RangeInclusive<usize> = 2..=5_000;

/// The heartbeats that Binance takes.
const BINANCE_HEARTBEATS: RangeInclusive<Duration> = Duration::from_secs(5)..=Duration::from_secs(60);

/// What quotes are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FixQuotes {
    /// The best prices: every message is a snapshot of them (264=1, 265=0).
    Best,
    /// The changes of a book (265=1), of so many levels a side or, with `None`, of all.
    Books { depth: Option<usize> },
}

impl FixQuotes {
    /// What the feed is to be made with: what a venue says of prices in FIX is always a book.
    pub const fn origin(self, dialect: FixDialect) -> QuoteOrigin {
        match (self, dialect) {
            (FixQuotes::Best, _) => QuoteOrigin::Books { depth: Some(1) },
            (FixQuotes::Books { depth }, FixDialect::Standard) => QuoteOrigin::Books { depth },
            // The depth is that of snapshots; changes go beyond it, and say what goes away.
            (FixQuotes::Books { .. }, FixDialect::Binance) => QuoteOrigin::Books { depth: None },
        }
    }
}

/// In what a venue departs from the standard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FixDialect {
    Standard,
    /// Signs in by a signature (96) in place of a password, and has one kind of book.
    Binance,
}

impl FixDialect {
    /// What is asked for as the depth (264) of a whole book.
    pub(super) const fn depth_of_all(self) -> usize {
        match self {
            FixDialect::Standard => 0,
            FixDialect::Binance => *BINANCE_DEPTHS.end(),
        }
    }
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FixChannel {
    /// Bids and offers.
    Quotes,
    Trades,
}

/// How both sides count their messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FixNumbers {
    /// From 1 with each connection (141=Y).
    Anew,
    /// On from the connection before, so that what was missed in between is sent again. A new process begins at 1.
    Continued,
}

/// With whom to speak, who we are, and what to ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FixSettings {
    /// `fixs://host:port`; `fix://host:port` without TLS, for tests and for lines that something else protects.
    pub url: String,
    /// Who we are (49), and who the venue is (56).
    pub sender_comp_id: String,
    pub target_comp_id: String,
    pub dialect: FixDialect,
    /// For Binance an API key.
    pub username: Option<Secret>,
    /// For Binance the private key of Ed25519, as PEM, which signs and is not said.
    pub password: Option<Secret>,
    /// After how long without anything else both sides send a heartbeat (108). Whole seconds.
    pub heartbeat: Duration,
    pub numbers: FixNumbers,
    /// Canonical, where the venue writes the same, or with the venue's name before it (`EURUSD=EUR/USD`).
    pub symbols: Vec<String>,
    /// Each is asked for by itself, since a venue may have only one of them.
    pub channels: Vec<FixChannel>,
    pub quotes: FixQuotes,
    /// Instruments in one request.
    pub symbols_per_request: usize,
    pub timings: Timings,
}

impl FixSettings {
    /// Quotes and trades of these symbols, and nothing that only some venues have.
    pub fn new(url: &str, sender_comp_id: &str, target_comp_id: &str, symbols: Vec<String>) -> FixSettings {
        let heartbeat = Duration::from_secs(10);
        FixSettings {
            url: url.into(),
            sender_comp_id: sender_comp_id.into(),
            target_comp_id: target_comp_id.into(),
            dialect: FixDialect::Standard,
            username: None,
            password: None,
            heartbeat,
            numbers: FixNumbers::Anew,
            symbols,
            channels: vec![FixChannel::Quotes, FixChannel::Trades],
            quotes: FixQuotes::Best,
            symbols_per_request: 50,
            timings: Timings::of_heartbeat(heartbeat),
        }
    }
}

/// Why settings are refused. Begins with the name of the setting, and shows no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FixSettingsError {
    #[error("url: fix://HOST:PORT or fixs://HOST:PORT is needed")]
    Url,
    #[error("{setting}: 1 to {TEXT_BYTES_MAX} printable characters of ASCII are needed")]
    Text { setting: &'static str },
    #[error("heartbeat: whole seconds from 1 to 300 are needed")]
    Heartbeat,
    #[error("timings: a line must be silent for longer than a heartbeat of {heartbeat:?} before it is given up")]
    SilenceBelowHeartbeat { heartbeat: Duration },
    #[error("channels: at least one of quotes and trades is needed, and each once")]
    Channels,
    #[error("depth: {} to {} levels are needed", depths.start(), depths.end())]
    Depth { depths: RangeInclusive<usize> },
    #[error("{setting}: {needed}, for Binance")]
    Binance { setting: &'static str, needed: &'static str },
    #[error("symbols_per_request: 1 to {SYMBOLS_MAX} are needed")]
    SymbolsPerRequest,
    #[error(transparent)]
    Shared(#[from] HttpSettingsError),
    #[error("tls: {0}")]
    Tls(String),
}

/// Where the venue is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) is_tls: bool,
}

/// Checks the settings, and gives where the venue is and what it calls the instruments.
pub(super) fn checked(settings: &FixSettings) -> Result<(Address, Vec<Product>), FixSettingsError> {
    let is_binance = settings.dialect == FixDialect::Binance;
    let address = address(&settings.url).ok_or(FixSettingsError::Url)?;
    let texts = [
        ("sender_comp_id", Some(settings.sender_comp_id.as_str())),
        ("target_comp_id", Some(settings.target_comp_id.as_str())),
        ("key", settings.username.as_ref().map(Secret::reveal)),
        ("secret", settings.password.as_ref().filter(|_| !is_binance).map(Secret::reveal)),
    ];
    for (setting, text) in texts {
        // Anything else would end the field, or be read in another way by the other side.
        let is_plain = |text: &str| {
            (1..=TEXT_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
        };
        if text.is_some_and(|text| !is_plain(text)) {
            return Err(FixSettingsError::Text { setting });
        }
    }
    let FixSettings { heartbeat, timings, channels, quotes, symbols_per_request, .. } = settings;
    if heartbeat.subsec_nanos() != 0 || heartbeat.is_zero() || *heartbeat > HEARTBEAT_MAX {
        return Err(FixSettingsError::Heartbeat);
    }
    if !timings.are_valid() {
        return Err(HttpSettingsError::Timings.into());
    }
    if timings.silence <= *heartbeat {
        return Err(FixSettingsError::SilenceBelowHeartbeat { heartbeat: *heartbeat });
    }
    if !matches!(channels[..], [_]) && !matches!(channels[..], [one, other] if one != other) {
        return Err(FixSettingsError::Channels);
    }
    let depths = if is_binance { BINANCE_DEPTHS } else { DEPTHS };
    if matches!(quotes, FixQuotes::Books { depth: Some(depth) } if !depths.contains(depth)) {
        return Err(FixSettingsError::Depth { depths });
    }
    if is_binance {
        check_binance(settings)?;
    }
    if !(1..=SYMBOLS_MAX).contains(symbols_per_request) {
        return Err(FixSettingsError::SymbolsPerRequest);
    }
    // Binance joins the sides of a pair.
    let name_of = |symbol: &str| Some(if is_binance { symbol.replacen('/', "", 1) } else { symbol.to_owned() });
    let products = products(&settings.symbols, SYMBOLS_MAX, "a symbol", name_of)?;
    Ok((address, products))
}

/// What only Binance needs.
fn check_binance(settings: &FixSettings) -> Result<(), FixSettingsError> {
    let refused = |setting, needed| Err(FixSettingsError::Binance { setting, needed });
    if settings.username.is_none() {
        return refused("key", "an API key is needed");
    }
    if settings.password.is_none() {
        return refused("secret", "the private key of Ed25519 is needed, as PEM");
    }
    if settings.quotes == FixQuotes::Best && settings.channels.contains(&FixChannel::Quotes) {
        // Its best prices come as changes that do not say which price goes away.
        return refused("quotes", "books are needed");
    }
    if !BINANCE_HEARTBEATS.contains(&settings.heartbeat) {
        return refused("heartbeat", "5 to 60 seconds are needed");
    }
    Ok(())
}

fn address(url: &str) -> Option<Address> {
    let uri: Uri = url.parse().ok()?;
    let is_tls = match uri.scheme_str()? {
        "fix" => false,
        "fixs" => true,
        _ => return None,
    };
    let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'))?;
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
        return None;
    }
    // An IPv6 address stands in brackets.
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = authority.port_u16().filter(|port| *port > 0)?;
    (!host.is_empty()).then_some(Address { host, port, is_tls })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> FixSettings {
        let symbols = vec!["EUR/USD".into(), "VENUE:USDJPY=USD/JPY".into()];
        let base = FixSettings::new("fixs://fix.example.com:9000", "US", "VENUE", symbols);
        FixSettings { username: Some(Secret::new("us")), password: Some(Secret::new("P4SS")), ..base }
    }

    #[track_caller]
    fn check_refused(change: impl FnOnce(&mut FixSettings), message: &str) {
        let mut settings = settings();
        change(&mut settings);
        let refused = checked(&settings).expect_err(message).to_string();
        assert!(refused.starts_with(message) && !refused.contains('\n') && !refused.contains("P4SS"), "{refused}");
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        let (address, products) = checked(&settings()).unwrap();
        assert_eq!(address, Address { host: "fix.example.com".into(), port: 9_000, is_tls: true });
        let names: Vec<_> = products.iter().map(|product| (product.name.as_str(), product.symbol.as_str())).collect();
        assert_eq!(names, [("EUR/USD", "EUR/USD"), ("VENUE:USDJPY", "USD/JPY")]);
        for url in ["", "fix.example.com:9000", "fix://h", "fix://h:0", "tcp://h:1", "fix://a:P4SS@h:1", "fix://h:1/x"]
        {
            check_refused(|s| s.url = url.into(), "url: ");
        }
        check_refused(|s| s.sender_comp_id.clear(), "sender_comp_id: ");
        check_refused(|s| s.target_comp_id = "A\x01B".into(), "target_comp_id: ");
        check_refused(|s| s.username = Some(Secret::new("P4SS\x01554=x")), "key: ");
        check_refused(|s| s.password = Some(Secret::new("P4SS\u{e9}")), "secret: ");
        check_refused(|s| s.heartbeat = Duration::ZERO, "heartbeat: ");
        check_refused(|s| s.heartbeat = Duration::from_millis(1_500), "heartbeat: ");
        check_refused(|s| s.heartbeat = Duration::from_secs(301), "heartbeat: ");
        check_refused(|s| s.heartbeat = Duration::from_secs(24), "timings: a line must be silent for longer");
        check_refused(|s| s.timings.answer = Duration::ZERO, "timings: all above 0");
        check_refused(|s| s.channels.clear(), "channels: ");
        check_refused(|s| s.channels = vec![FixChannel::Trades; 2], "channels: ");
        check_refused(|s| s.quotes = FixQuotes::Books { depth: Some(0) }, "depth: ");
        check_refused(|s| s.symbols_per_request = 0, "symbols_per_request: ");
        check_refused(|s| s.symbols.clear(), "symbols: 1 to 2000 are needed, not 0");
        check_refused(|s| s.symbols = vec!["eur/usd".into()], "symbols: `eur/usd` is neither");
        check_refused(|s| s.symbols.push("A\x01B=EUR/USD".into()), "symbols: ");
        check_refused(|s| s.symbols.push("EUR/USD".into()), "symbols: the venue's name `EUR/USD` stands there twice");
    }

    #[test]
    fn secrets_are_not_shown() {
        assert!(!format!("{:?}", settings()).contains("P4SS"));
    }

    #[test]
    fn binance_needs_its_own() {
        let binance = || FixSettings {
            dialect: FixDialect::Binance,
            password: Some(Secret::new("-----BEGIN PRIVATE KEY-----\nP4SS\n-----END PRIVATE KEY-----")),
            quotes: FixQuotes::Books { depth: None },
            symbols: vec!["BTC/USDT".into(), "1000SATSUSDT=1000SATS/USDT".into()],
            ..settings()
        };
        let names: Vec<_> = checked(&binance()).unwrap().1.into_iter().map(|product| product.name).collect();
        assert_eq!(names, ["BTCUSDT", "1000SATSUSDT"]);
        let check = |change: fn(&mut FixSettings), message| {
            check_refused(|settings| (*settings = binance(), change(settings)).1, message);
        };
        check(|s| s.username = None, "key: an API key is needed, for Binance");
        check(|s| s.password = None, "secret: the private key");
        check(|s| s.quotes = FixQuotes::Best, "quotes: books are needed");
        check(|s| s.quotes = FixQuotes::Books { depth: Some(1) }, "depth: 2 to 5000 levels");
        check(|s| s.heartbeat = Duration::from_secs(2), "heartbeat: 5 to 60 seconds");
    }
}
