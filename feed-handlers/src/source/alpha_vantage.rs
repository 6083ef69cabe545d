//! The live source of Alpha Vantage: one REST request after the other, in turn for every symbol, under the budget that
//! the key has a minute and a day.
//!
//! Runs on a thread of its own. When to ask is [`PollSchedule`]'s; a failed request has spent its turn like any other, so
//! that one symbol which always fails does not starve the others. The venue answers 200 whatever went wrong, so a good
//! answer is one with market data in it. After a refusal for asking too much, nothing is asked until the next minute,
//! and for twice as long after each further one, up to an hour: the venue does not say whether it means the minute or
//! the day, and asking is what costs. The data of a free key is not real-time.
//!
//! Deliberately absent: daily and longer series, `datatype=csv`, and requests for several symbols at once, whose answers
//! are of another form.
//!
//! <https://www.alphavantage.co/documentation/>.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use hyper::StatusCode;
use tokio::time::{Instant, sleep_until};

use super::backoff::Backoff;
use super::http::{FetchLimits, FetchRequest, Fetched, fetch};
use super::http_settings::{HttpSettingsError, base_url, check_secret, introduce, is_currency, is_equity, products};
use super::http_stream::{shown, spawn};
use super::poll_schedule::{PollBudget, PollSchedule, Turn};
use super::random::Random;
use super::script::Product;
use super::{FeedState, FeedStatus, Secret, Stop, wall_ns};
use crate::decode::alpha_vantage::decode_answer;
use crate::decode::event::{ControlKind, Event};
use crate::feed::Feed;

/// Longest answer. The full series of a month by the minute has some 3 MB.
const ANSWER_BYTES_MAX: usize = 8 << 20;

/// Symbols of one source.
const SYMBOLS_MAX: usize = 1_000;

/// Longest wait after a refusal for asking too much, unless the settings or the venue want more.
const THROTTLED_WAIT_MAX: Duration = Duration::from_secs(3_600);

/// Longest of the [`PollTimings`]: such a time can be added to any clock.
const TIMING_MAX: Duration = Duration::from_secs(86_400);

/// What is asked for equities. Pairs are asked for their exchange rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EquityFunction {
    /// `GLOBAL_QUOTE`: the bar of the day so far.
    GlobalQuote,
    /// `TIME_SERIES_INTRADAY`: the last 100 bars, of which the feed takes what is new.
    Intraday(IntradayInterval),
}

/// Length of an intraday bar: of the venue's, those that are ours as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntradayInterval {
    Minute,
    FiveMinutes,
    FifteenMinutes,
    Hour,
}

impl IntradayInterval {
    const fn name(self) -> &'static str {
        match self {
            IntradayInterval::Minute => "1min",
            IntradayInterval::FiveMinutes => "5min",
            IntradayInterval::FifteenMinutes => "15min",
            IntradayInterval::Hour => "60min",
        }
    }
}

/// The times by which polling is supervised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PollTimings {
    /// For a whole request, from connecting to the last byte of the answer.
    pub request: Duration,
    /// Without a good answer for this long, and for as long as two requests are apart, the source is stale.
    pub stale: Duration,
    /// Upper bound of the wait after a request that failed; it doubles with each further one.
    pub backoff_min: Duration,
    /// Upper bound of every such wait. `backoff_min <= backoff_max`
    pub backoff_max: Duration,
    /// The wait after the venue says that we ask too much; it doubles with each further time, up to an hour.
    pub throttled: Duration,
    /// The wait after the venue refuses the key.
    pub refused: Duration,
}

impl Default for PollTimings {
    fn default() -> PollTimings {
        PollTimings {
            request: Duration::from_secs(20),
            stale: Duration::from_secs(60),
            backoff_min: Duration::from_secs(1),
            backoff_max: Duration::from_secs(60),
            // Into the next minute, whoever's.
            throttled: Duration::from_secs(62),
            refused: Duration::from_secs(300),
        }
    }
}

/// What to ask, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlphaVantageSettings {
    /// `https://www.alphavantage.co/query`; `http://...` is for tests on the same machine.
    pub url: String,
    /// The key, which stands in the address.
    pub api_key: Secret,
    /// Canonical (`AAPL`, `EUR/USD`), or with the venue's name before it (`TSCO.LON=TSCO`).
    pub symbols: Vec<String>,
    pub equities: EquityFunction,
    pub budget: PollBudget,
    pub timings: PollTimings,
}

impl AlphaVantageSettings {
    /// The settings of a free key.
    pub fn new(api_key: Secret, symbols: Vec<String>) -> AlphaVantageSettings {
        AlphaVantageSettings {
            url: "https://www.alphavantage.co/query".into(),
            api_key,
            symbols,
            equities: EquityFunction::GlobalQuote,
            budget: PollBudget { per_minute: 5, per_day: Some(25) },
            timings: PollTimings::default(),
        }
    }
}

/// The polls of Alpha Vantage.
pub struct AlphaVantageLive {
    polls: Vec<Poll>,
    schedule: PollSchedule,
    api_key: Secret,
    timings: PollTimings,
    status: Arc<FeedStatus>,
    /// How long to wait when the venue next says that we ask too much.
    throttled_wait: Duration,
}

/// What is asked for one symbol.
struct Poll {
    product: Product,
    request: FetchRequest,
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Reply {
    /// Market data.
    Data,
    /// The venue does not take the key.
    Refused(String),
    /// We ask too much.
    Throttled { retry_after: Option<Duration> },
    /// There is nothing for this symbol, or nothing that can be read; the venue is well.
    Nothing,
    /// The venue is not well, or not there.
    Failed(String),
}

impl AlphaVantageLive {
    /// # Errors
    /// [`HttpSettingsError`] where a setting is out of its range.
    pub fn new(settings: &AlphaVantageSettings) -> Result<AlphaVantageLive, HttpSettingsError> {
        let AlphaVantageSettings { url, api_key, symbols, equities, budget, timings } = settings;
        let PollTimings { request, stale, backoff_min, backoff_max, throttled, refused } = *timings;
        let times = [request, stale, backoff_min, backoff_max, throttled, refused];
        let in_range = |time: &Duration| !time.is_zero() && *time <= TIMING_MAX;
        if !times.iter().all(in_range) || backoff_min > backoff_max {
            return Err(HttpSettingsError::Timings);
        }
        if budget.per_minute == 0 || budget.per_day == Some(0) {
            return Err(HttpSettingsError::Budget);
        }
        check_secret("api_key", api_key)?;
        let key = api_key.reveal_in_address();
        let limits = FetchLimits { connect: request, total: request, body_bytes_max: ANSWER_BYTES_MAX };
        let base = FetchRequest::new(base_url(url)?, limits)?;
        let products = products(symbols, SYMBOLS_MAX, "a symbol like AAPL or EUR/USD", name)?;
        let poll = |product: Product| {
            let request = base.with_query(&format!("{}&apikey={key}", query(&product.name, *equities)))?;
            Ok(Poll { product, request })
        };
        let polls = products.into_iter().map(poll).collect::<Result<Vec<_>, HttpSettingsError>>()?;
        Ok(AlphaVantageLive {
            schedule: PollSchedule::new(polls.len(), *budget),
            polls,
            api_key: api_key.clone(),
            timings: *timings,
            status: FeedStatus::new(),
            throttled_wait: throttled,
        })
    }

    pub fn status(&self) -> Arc<FeedStatus> {
        Arc::clone(&self.status)
    }

    /// Starts the thread, which ends after `stop`.
    ///
    /// # Errors
    /// What the system says when it has no thread or no event queue to give.
    pub fn spawn(self, feed: Feed, stop: Arc<Stop>) -> std::io::Result<JoinHandle<()>> {
        spawn("feed-alpha-vantage", self.status(), stop, async move || self.run(feed).await)
    }

    /// Asks, for ever.
    async fn run(mut self, mut feed: Feed) {
        for poll in &self.polls {
            introduce(std::slice::from_ref(&poll.product), &mut feed);
        }
        let mut backoff = Backoff::new(self.timings.backoff_min, self.timings.backoff_max, Random::from_system());
        let stale_after = self.timings.stale.max(self.schedule.interval() * 2);
        let mut latest = Instant::now();
        tracing::info!(symbols = self.polls.len(), round = ?self.schedule.round(), "asking the venue in turn");
        loop {
            match self.schedule.poll(Instant::now().into_std()) {
                Turn::Ask(at) => {
                    let reply = self.ask(at, &mut feed).await;
                    if reply == Reply::Data {
                        latest = Instant::now();
                        backoff.reset();
                    }
                    self.handle_reply(at, reply, &mut backoff);
                }
                Turn::Wait(until) => {
                    let (until, stale_at) = (Instant::from_std(until), latest + stale_after);
                    if self.status.state() == FeedState::Up && stale_at < until {
                        sleep_until(stale_at).await;
                        self.set_state(FeedState::Stale, "no good answer came for long");
                    }
                    sleep_until(until).await;
                }
            }
        }
    }

    /// Asks for the symbol of this index, and hands the answer to the feed.
    async fn ask(&self, at: usize, feed: &mut Feed) -> Reply {
        let poll = &self.polls[at];
        match fetch(&poll.request).await {
            Err(error) => Reply::Failed(error.to_string()),
            Ok(Fetched { status, retry_after, body }) => {
                let body = self.api_key.masked(&body);
                match status {
                    StatusCode::OK => take_in(&body, &poll.product.name, feed),
                    StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Reply::Refused(shown(&body)),
                    StatusCode::TOO_MANY_REQUESTS => Reply::Throttled { retry_after },
                    _ if retry_after.is_some() => Reply::Throttled { retry_after },
                    _ => Reply::Failed(format!("status {status}, `{}`", shown(&body))),
                }
            }
        }
    }

    /// Draws the consequences.
    fn handle_reply(&mut self, at: usize, reply: Reply, backoff: &mut Backoff) {
        let symbol = self.polls[at].product.symbol.clone();
        let wait = match reply {
            Reply::Data => {
                self.throttled_wait = self.timings.throttled;
                self.set_state(FeedState::Up, "the venue answers");
                return;
            }
            Reply::Nothing => {
                tracing::warn!(symbol, "the venue has nothing for this symbol that can be used");
                return;
            }
            Reply::Throttled { retry_after } => {
                let wait = self.throttled_wait.max(retry_after.unwrap_or_default());
                self.throttled_wait = (self.throttled_wait * 2).min(THROTTLED_WAIT_MAX.max(self.timings.throttled));
                tracing::warn!(symbol, ?wait, "the venue says that we ask too much");
                self.set_state(FeedState::Stale, "the venue says that we ask too much");
                wait
            }
            Reply::Refused(said) => {
                tracing::warn!(symbol, said, "the venue refuses the key");
                self.set_state(FeedState::Down, "the venue refuses the key");
                self.timings.refused
            }
            Reply::Failed(why) => {
                tracing::warn!(symbol, "no answer of the venue: {why}");
                self.set_state(FeedState::Down, "the venue does not answer");
                backoff.next_wait()
            }
        };
        self.schedule.hold((Instant::now() + wait).into_std());
    }

    fn set_state(&self, state: FeedState, reason: &str) {
        let changes = self.status.set(state);
        if !state.is_up() {
            self.status.set_trouble(Some(reason));
        }
        if changes {
            tracing::info!(state = state.name(), reason, "the source changed its state");
        }
    }
}

/// Hands an answer to the question for the instrument of this name to the feed, and tells what it is.
fn take_in(body: &[u8], name: &str, feed: &mut Feed) -> Reply {
    let mut has_data = false;
    let outcome = feed.handle(body, wall_ns(), |on_event| {
        decode_answer(body, Some(name.as_bytes()), &mut |event| {
            has_data |= matches!(event, Event::Bar(_) | Event::Quote(_) | Event::Trade(_));
            on_event(event);
        })
    });
    match outcome.control {
        Some(ControlKind::AuthRefused) => Reply::Refused(shown(body)),
        Some(ControlKind::Throttled) => Reply::Throttled { retry_after: None },
        _ if has_data => Reply::Data,
        _ => Reply::Nothing,
    }
}

/// The venue's name of a canonical symbol: the same.
fn name(symbol: &str) -> Option<String> {
    let is_known = match symbol.split_once('/') {
        Some((base, quote)) => is_currency(base) && is_currency(quote),
        None => is_equity(symbol),
    };
    is_known.then(|| symbol.to_owned())
}

/// What to ask for the instrument of this name, but for the key.
fn query(name: &str, equities: EquityFunction) -> String {
    match (name.split_once('/'), equities) {
        (Some((from, to)), _) => format!("function=CURRENCY_EXCHANGE_RATE&from_currency={from}&to_currency={to}"),
        (None, EquityFunction::GlobalQuote) => format!("function=GLOBAL_QUOTE&symbol={name}"),
        (None, EquityFunction::Intraday(interval)) => {
            format!("function=TIME_SERIES_INTRADAY&symbol={name}&interval={}", interval.name())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> AlphaVantageSettings {
        AlphaVantageSettings::new(Secret::new("K3Y"), vec!["AAPL".into(), "EUR/USD".into()])
    }

    #[track_caller]
    fn check_refused(change: impl FnOnce(&mut AlphaVantageSettings), message: &str) {
        let mut settings = settings();
        change(&mut settings);
        let refused = AlphaVantageLive::new(&settings).err().expect(message).to_string();
        assert!(refused.starts_with(message) && !refused.contains('\n') && !refused.contains("K3Y"), "{refused}");
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        assert!(AlphaVantageLive::new(&settings()).is_ok());
        for url in ["", "www.alphavantage.co/query", "ftp://www.alphavantage.co", "https://", "https://me:K3Y@host/"] {
            check_refused(|s| s.url = url.into(), "url: ");
        }
        check_refused(|s| s.url += "?apikey=K3Y", "url: ");
        check_refused(|s| s.api_key = Secret::new(" "), "api_key: it is empty");
        check_refused(|s| s.symbols.clear(), "symbols: 1 to 1000 are needed, not 0");
        check_refused(|s| s.symbols = vec!["A".into(); 1_001], "symbols: 1 to 1000 are needed, not 1001");
        for symbol in ["", "aapl", "A&apikey=X", "EUR/", "/USD", "EUR/USD/JPY", ".A", "A&b=A", &"A".repeat(33)] {
            check_refused(|s| s.symbols.push(symbol.into()), &format!("symbols: `{symbol}` is neither a symbol like"));
        }
        check_refused(|s| s.symbols.push("AAPL=APPLE".into()), "symbols: the venue's name `AAPL` stands");
        check_refused(|s| s.budget.per_minute = 0, "budget: ");
        check_refused(|s| s.budget.per_day = Some(0), "budget: ");
        check_refused(|s| s.timings.request = Duration::ZERO, "timings: ");
        check_refused(|s| s.timings.stale = Duration::from_secs(86_401), "timings: ");
        check_refused(|s| s.timings.backoff_min = Duration::from_secs(61), "timings: ");
    }

    #[test]
    fn secrets_are_not_shown() {
        let shown = format!("{:?} {:?}", settings(), AlphaVantageLive::new(&settings()).unwrap().polls[0].request);
        assert!(shown.contains("www.alphavantage.co") && !shown.contains("K3Y"), "{shown}");
    }

    #[track_caller]
    fn check_query(symbol: &str, equities: EquityFunction, expected: &str) {
        assert_eq!(query(symbol, equities), expected);
    }

    #[test]
    fn the_asset_class_decides_what_is_asked() {
        let intraday = EquityFunction::Intraday(IntradayInterval::FifteenMinutes);
        check_query("BRK.B", EquityFunction::GlobalQuote, "function=GLOBAL_QUOTE&symbol=BRK.B");
        check_query("AAPL", intraday, "function=TIME_SERIES_INTRADAY&symbol=AAPL&interval=15min");
        let rate = "function=CURRENCY_EXCHANGE_RATE&from_currency=BTC&to_currency=CNY";
        check_query("BTC/CNY", EquityFunction::GlobalQuote, rate);
        check_query("BTC/CNY", intraday, rate);
    }

    /// How long nothing is asked after a reply, in whole seconds.
    fn hold(live: &mut AlphaVantageLive, reply: Reply) -> u64 {
        let mut backoff = Backoff::new(live.timings.backoff_min, live.timings.backoff_max, Random::seeded(1));
        live.schedule = PollSchedule::new(2, PollBudget { per_minute: u32::MAX, per_day: None });
        let now = Instant::now();
        live.handle_reply(0, reply, &mut backoff);
        match live.schedule.poll(now.into_std()) {
            Turn::Ask(_) => 0,
            Turn::Wait(until) => (until - now.into_std()).as_secs(),
        }
    }

    #[test]
    fn who_asks_too_much_waits_longer_each_time() {
        let mut live = AlphaVantageLive::new(&settings()).unwrap();
        let throttled = |seconds| Reply::Throttled { retry_after: Some(Duration::from_secs(seconds)) };
        let waits: Vec<_> = (0..9).map(|_| hold(&mut live, throttled(1))).collect();
        assert_eq!(waits, [62, 124, 248, 496, 992, 1_984, 3_600, 3_600, 3_600]);
        assert_eq!(live.status.state(), FeedState::Stale);
        // The venue may ask for more, and a good answer ends it.
        assert_eq!(hold(&mut live, throttled(7_200)), 7_200);
        assert_eq!(hold(&mut live, Reply::Data), 0);
        assert_eq!(live.status.state(), FeedState::Up);
        assert_eq!(hold(&mut live, Reply::Throttled { retry_after: None }), 62);
    }

    #[test]
    fn other_replies_have_their_own_waits() {
        let mut live = AlphaVantageLive::new(&settings()).unwrap();
        assert_eq!(hold(&mut live, Reply::Data), 0);
        assert_eq!((hold(&mut live, Reply::Nothing), live.status.state()), (0, FeedState::Up));
        assert_eq!((hold(&mut live, Reply::Refused("no".into())), live.status.state()), (300, FeedState::Down));
        assert_eq!(hold(&mut live, Reply::Data), 0);
        assert_eq!((hold(&mut live, Reply::Failed("no".into())), live.status.state()), (0, FeedState::Down));
    }
}
