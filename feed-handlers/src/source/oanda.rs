//! The live source of OANDA v20: the pricing stream of an account, one JSON object a line.
//!
//! Runs on a thread of its own. The instruments stand in the request: there is nothing to subscribe to, and other
//! instruments are another connection. The venue sends a heartbeat every 5 s, so a line without prices and heartbeats for
//! 10 s is dead. Its prices are what it is ready to deal at, at most four a second and instrument; it numbers nothing,
//! so what a cut line loses is not told, and every price is the whole state.
//!
//! Limits of the venue: 2 new connections a second, kept here; 20 streams a user, which is for whoever configures.
//! Deliberately absent: accounts, orders, candles and transactions.
//!
//! <https://developer.oanda.com/rest-live-v20/pricing-ep/>.

use std::time::Duration;

use hyper::header::{self, HeaderName};

use super::http::FetchRequest;
use super::http_settings::{HttpSettingsError, base_url, check_secret, is_currency, listed, products};
use super::http_stream::{self, Framing, HttpStream, Life};
use super::lines::Lines;
use super::{FeedStatus, Secret, Timings};
use crate::decode::event::Event;
use crate::decode::sse::SseError;
use crate::decode::{DecodeError, oanda};

/// Longest line. A price with the deepest ladder seen has a few hundred bytes.
const LINE_BYTES_MAX: usize = 64 << 10;

/// Instruments in one request: their names make an address of 10 KB at most. An account has some 130.
const INSTRUMENTS_MAX: usize = 500;

/// What to connect to, and what for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OandaSettings {
    /// `https://stream-fxtrade.oanda.com`, or `https://stream-fxpractice.oanda.com` for practice accounts;
    /// `http://...` is for tests on the same machine.
    pub url: String,
    /// The account's id, such as `101-004-1234567-001`.
    pub account: String,
    /// What the account's owner was given to sign in with.
    pub token: Secret,
    /// Canonical (`EUR/USD`), or with the venue's name before it (`DE30_EUR=DE30/EUR`).
    pub symbols: Vec<String>,
    pub timings: Timings,
}

impl OandaSettings {
    /// The settings of a live account but for what nobody else can know.
    pub fn new(account: &str, token: Secret, symbols: Vec<String>) -> OandaSettings {
        let timings = Timings { stale: Duration::from_secs(7), silence: Duration::from_secs(10), ..Timings::default() };
        OandaSettings {
            url: "https://stream-fxtrade.oanda.com".into(),
            account: account.into(),
            token,
            symbols,
            timings,
        }
    }
}

/// The pricing stream of an account at OANDA.
pub type OandaLive = HttpStream<Lines>;

impl OandaLive {
    /// # Errors
    /// [`HttpSettingsError`] where a setting is out of its range.
    pub fn new(settings: &OandaSettings) -> Result<OandaLive, HttpSettingsError> {
        let OandaSettings { url, account, token, symbols, timings } = settings;
        if !timings.are_valid() {
            return Err(HttpSettingsError::Timings);
        }
        check_secret("token", token)?;
        if account.is_empty() || !account.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            return Err(HttpSettingsError::Account { account: account.clone() });
        }
        let products = products(symbols, INSTRUMENTS_MAX, "a pair like EUR/USD", instrument)?;
        let base = base_url(url)?;
        let url = format!("{base}/v3/accounts/{account}/pricing/stream?instruments={}", listed(&products));
        let request = FetchRequest::new(&url, http_stream::limits(timings))?
            .with_header(header::AUTHORIZATION, &format!("Bearer {}", token.reveal()))?
            .with_header(HeaderName::from_static("accept-datetime-format"), "RFC3339")?;
        Ok(HttpStream {
            thread: "feed-oanda",
            request,
            framing: Lines::new(LINE_BYTES_MAX),
            decode,
            secret: token.clone(),
            life: Life::Frames,
            content_type: None,
            timings: *timings,
            products,
            status: FeedStatus::new(),
        })
    }
}

impl Framing for Lines {
    fn start(&mut self) {
        *self = Lines::new(LINE_BYTES_MAX);
    }

    fn handle_chunk(&mut self, chunk: &[u8], mut on_frame: &mut dyn FnMut(&[u8])) -> Result<(), SseError> {
        Lines::handle_chunk(self, chunk, &mut on_line(&mut on_frame));
        Ok(())
    }

    /// A body that ends is one whose last line may have no end.
    fn finish(&mut self, mut on_frame: &mut dyn FnMut(&[u8])) {
        Lines::finish(self, &mut on_line(&mut on_frame));
    }

    fn retry(&self) -> Option<Duration> {
        None
    }
}

/// Blank lines are no frames.
fn on_line(on_frame: &mut impl FnMut(&[u8])) -> impl FnMut(&[u8]) {
    |line| {
        if !line.trim_ascii().is_empty() {
            on_frame(line);
        }
    }
}

fn decode<'a>(frame: &'a [u8], mut on_event: &mut dyn FnMut(Event<'a>)) -> Result<(), DecodeError> {
    oanda::decode(frame, &mut on_event)
}

/// `EUR_USD` for `EUR/USD`.
fn instrument(symbol: &str) -> Option<String> {
    let (base, quote) = symbol.split_once('/')?;
    (is_currency(base) && is_currency(quote)).then(|| format!("{base}_{quote}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> OandaSettings {
        OandaSettings::new("101-004-1234567-001", Secret::new("T0K3N"), vec!["EUR/USD".into()])
    }

    #[track_caller]
    fn check_refused(change: impl FnOnce(&mut OandaSettings), message: &str) {
        let mut settings = settings();
        change(&mut settings);
        let refused = OandaLive::new(&settings).err().expect(message).to_string();
        assert!(refused.starts_with(message) && !refused.contains('\n') && !refused.contains("T0K3N"), "{refused}");
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        assert!(OandaLive::new(&settings()).is_ok());
        for url in
            ["", "stream-fxtrade.oanda.com", "wss://stream-fxtrade.oanda.com", "https://a?b=c", "https://a:T0K3N@b"]
        {
            check_refused(|s| s.url = url.into(), "url: ");
        }
        check_refused(|s| s.account.clear(), "account: ");
        check_refused(|s| s.account = "../x".into(), "account: `../x`");
        check_refused(|s| s.token = Secret::new(""), "token: it is empty");
        check_refused(|s| s.token = Secret::new("T0K3N\r\nhost: elsewhere"), "token: no header can hold it");
        check_refused(|s| s.symbols.clear(), "symbols: 1 to 500 are needed, not 0");
        check_refused(|s| s.symbols = vec!["A/B".into(); 501], "symbols: 1 to 500 are needed, not 501");
        for symbol in ["", "EURUSD", "EUR/", "/USD", "EUR_USD", "eur/usd", "A/B&c", "A,B=A/B", "=A/B", "A_B=a"] {
            check_refused(|s| s.symbols.push(symbol.into()), &format!("symbols: `{symbol}` is neither a pair like"));
        }
        check_refused(|s| s.symbols.push("EUR_USD=EUR/USD".into()), "symbols: the venue's name `EUR_USD` stands");
        check_refused(|s| s.timings.refused = Duration::ZERO, "timings: ");
        check_refused(|s| s.timings.connect = Duration::ZERO, "timings: ");
        check_refused(|s| s.timings.stale = Duration::from_secs(11), "timings: ");
    }

    #[test]
    fn secrets_are_not_shown() {
        let shown = format!("{:?} {:?}", settings(), OandaLive::new(&settings()).unwrap().request);
        assert!(shown.contains("stream-fxtrade.oanda.com") && !shown.contains("T0K3N"), "{shown}");
    }
}
