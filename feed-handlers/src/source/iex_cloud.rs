//! The live source of IEX Cloud: server-sent events of one endpoint.
//!
//! Runs on a thread of its own. The symbols stand in the request, so there is nothing to subscribe to; the last state of
//! each comes first after connecting. The venue documents no heartbeat: whatever comes, a comment too, shows that the
//! line lives, and since nothing needs to come outside of trading hours, a silent line is left alone for minutes. When it
//! comes back is the venue's to say (`retry:`). The service ended in August 2024; what still speaks its language is
//! reached by `url`.
//!
//! Deliberately absent: `Last-Event-ID`, since the venue documents no ids, and its REST endpoints.

use std::time::Duration;

use hyper::header;

use super::http::FetchRequest;
use super::http_settings::{HttpSettingsError, base_url, check_secret, is_currency, is_equity, listed, products};
use super::http_stream::{self, Framing, HttpStream, Life};
use super::{FeedStatus, Secret, Timings};
use crate::decode::event::Event;
use crate::decode::sse::{SseError, SseParser};
use crate::decode::{DecodeError, iex_cloud};

/// Largest event. One with the whole depth of 50 books has some 200 KB.
const EVENT_BYTES_MAX: usize = 1 << 20;

/// Symbols on one connection, by the venue's rules.
const SYMBOLS_MAX: usize = 50;

/// Longest wait that the venue may ask for by `retry:`.
const RETRY_MAX: Duration = Duration::from_secs(600);

/// What to connect to, and what for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IexCloudSettings {
    /// With the version in its path: `https://cloud-sse.iexapis.com/stable`; `http://...` is for tests on the same
    /// machine.
    pub url: String,
    /// `stocksUS`, `stocksUS1Second`, `tops`, `last`, `deep`, `cryptoQuotes`, `cryptoBook` and their like.
    pub endpoint: String,
    /// For the endpoint `deep`: `trades`, `book` and so on. Empty for the others.
    pub channels: Vec<String>,
    /// The publishable token, which stands in the address.
    pub token: Secret,
    /// Canonical (`AAPL`, `BTC/USD`), or with the venue's name before it (`BRK.A=BRK-A`).
    pub symbols: Vec<String>,
    pub timings: Timings,
}

impl IexCloudSettings {
    /// The settings for quotes of stocks but for what nobody else can know.
    pub fn new(token: Secret, symbols: Vec<String>) -> IexCloudSettings {
        let timings =
            Timings { stale: Duration::from_secs(60), silence: Duration::from_secs(600), ..Timings::default() };
        IexCloudSettings {
            url: "https://cloud-sse.iexapis.com/stable".into(),
            endpoint: "stocksUS".into(),
            channels: Vec::new(),
            token,
            symbols,
            timings,
        }
    }
}

/// A stream of events of IEX Cloud.
pub type IexCloudLive = HttpStream<Events>;

impl IexCloudLive {
    /// # Errors
    /// [`HttpSettingsError`] where a setting is out of its range.
    pub fn new(settings: &IexCloudSettings) -> Result<IexCloudLive, HttpSettingsError> {
        let IexCloudSettings { url, endpoint, channels, token, symbols, timings } = settings;
        if !timings.are_valid() {
            return Err(HttpSettingsError::Timings);
        }
        check_secret("token", token)?;
        let is_name = |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if let Some(name) = std::iter::once(endpoint).chain(channels).find(|name| !is_name(name)) {
            return Err(HttpSettingsError::Endpoint { endpoint: name.clone() });
        }
        let products = products(symbols, SYMBOLS_MAX, "a symbol like AAPL or BTC/USD", venue_symbol)?;
        // Asked for in lower case, named in upper case.
        let symbols = listed(&products).to_ascii_lowercase();
        let (base, token_text) = (base_url(url)?, token.reveal_in_address());
        let mut url = format!("{base}/{endpoint}?token={token_text}&symbols={symbols}");
        if !channels.is_empty() {
            url = format!("{url}&channels={}", channels.join("%2C"));
        }
        let request = FetchRequest::new(&url, http_stream::limits(timings))?
            .with_header(header::ACCEPT, "text/event-stream")?
            .with_header(header::CACHE_CONTROL, "no-store")?;
        Ok(HttpStream {
            thread: "feed-iex-cloud",
            request,
            framing: Events { parser: SseParser::new(EVENT_BYTES_MAX), retry: None },
            decode,
            secret: token.clone(),
            life: Life::Bytes,
            content_type: Some("text/event-stream"),
            timings: *timings,
            products,
            status: FeedStatus::new(),
        })
    }
}

/// The data of events, whatever they are called: the venue names none.
pub struct Events {
    parser: SseParser,
    /// What earlier bodies said of it.
    retry: Option<Duration>,
}

impl Framing for Events {
    fn start(&mut self) {
        self.retry = self.retry();
        self.parser = SseParser::new(EVENT_BYTES_MAX);
    }

    fn handle_chunk(&mut self, chunk: &[u8], on_frame: &mut dyn FnMut(&[u8])) -> Result<(), SseError> {
        self.parser.handle_chunk(chunk, &mut |event| on_frame(event.data))
    }

    /// An event that the body ends in the middle of does not happen.
    fn finish(&mut self, _: &mut dyn FnMut(&[u8])) {}

    fn retry(&self) -> Option<Duration> {
        self.parser.retry_ms().map(|ms| Duration::from_millis(ms).min(RETRY_MAX)).or(self.retry)
    }
}

fn decode<'a>(frame: &'a [u8], mut on_event: &mut dyn FnMut(Event<'a>)) -> Result<(), DecodeError> {
    iex_cloud::decode(frame, &mut on_event)
}

/// `SPY` for itself, `BTCUSD` for `BTC/USD`.
fn venue_symbol(symbol: &str) -> Option<String> {
    match symbol.split_once('/') {
        Some((base, quote)) => (is_currency(base) && is_currency(quote)).then(|| format!("{base}{quote}")),
        None => is_equity(symbol).then(|| symbol.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> IexCloudSettings {
        IexCloudSettings::new(Secret::new("T0K3N"), vec!["AAPL".into()])
    }

    #[track_caller]
    fn check_refused(change: impl FnOnce(&mut IexCloudSettings), message: &str) {
        let mut settings = settings();
        change(&mut settings);
        let refused = IexCloudLive::new(&settings).err().expect(message).to_string();
        assert!(refused.starts_with(message) && !refused.contains('\n') && !refused.contains("T0K3N"), "{refused}");
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        assert!(IexCloudLive::new(&settings()).is_ok());
        for url in ["", "cloud-sse.iexapis.com", "wss://cloud-sse.iexapis.com", "https://a?token=T0K3N"] {
            check_refused(|s| s.url = url.into(), "url: ");
        }
        check_refused(|s| s.endpoint.clear(), "endpoint: ``");
        check_refused(|s| s.endpoint = "tops?x".into(), "endpoint: `tops?x`");
        check_refused(|s| s.channels.push("a&b".into()), "endpoint: `a&b`");
        check_refused(|s| s.token = Secret::new(""), "token: it is empty");
        check_refused(|s| s.symbols.clear(), "symbols: 1 to 50 are needed, not 0");
        check_refused(|s| s.symbols = vec!["A".into(); 51], "symbols: 1 to 50 are needed, not 51");
        for symbol in ["", "aapl", "A B", "A&b", "BTC/", "-A", "A,B=A", &"A".repeat(33)] {
            check_refused(|s| s.symbols.push(symbol.into()), &format!("symbols: `{symbol}` is neither a symbol like"));
        }
        check_refused(|s| s.symbols.push("AAPL=APPLE".into()), "symbols: the venue's name `AAPL` stands");
        check_refused(|s| s.timings.refused = Duration::ZERO, "timings: ");
        check_refused(|s| s.timings.stale = Duration::from_secs(601), "timings: ");
    }

    #[test]
    fn secrets_are_not_shown() {
        let shown = format!("{:?} {:?}", settings(), IexCloudLive::new(&settings()).unwrap().request);
        assert!(shown.contains("cloud-sse.iexapis.com") && !shown.contains("T0K3N"), "{shown}");
    }
}
