//! The live source: Coinbase Exchange's public WebSocket feed, on a thread of its own that runs a
//! single-threaded tokio runtime.
//!
//! Connects, subscribes in batches, hands every frame to the feed, and supervises the line: the venue sends a
//! heartbeat a second for each product, so a line that is silent is dead, whatever TCP says. After every end
//! of a connection it comes back, with exponential backoff and full jitter, and subscribes anew; the feed then
//! finds out by the venue's numbers what was missed.
//!
//! Deliberately absent: signed subscriptions, compression, and the venue's order-by-order channel.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::tungstenite::http::Uri;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Bytes, Error, Message};
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream, connect_async_tls_with_config};

use super::random::Random;
use super::{FeedState, FeedStatus, LINE_BYTES_MAX, Stop, wall_ns};
use crate::feed::{Feed, FeedCounter};

/// Products in one subscribe message.
const BATCH_PRODUCTS: usize = 100;

/// Products on one connection: 20 subscribe messages of at most 4 KB each fit into the socket's buffers, so
/// that they can be written before anything is read. The venue lists fewer than 1,000.
const PRODUCTS_MAX: usize = 2_000;

/// Longest of the [`Timings`]: such a time can be added to any clock.
const TIMING_MAX: Duration = Duration::from_secs(86_400);

/// Largest message: a book snapshot has several MB.
const MESSAGE_BYTES_MAX: usize = LINE_BYTES_MAX;

/// The times by which a connection is supervised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timings {
    /// From the start of a connection to the last subscribe message written.
    pub connect: Duration,
    /// Without a frame for this long, the source is stale. `stale <= silence`
    pub stale: Duration,
    /// Without a frame for this long, the line is given up.
    pub silence: Duration,
    /// Upper bound of the wait before the first attempt to reconnect; it doubles with each further one.
    pub backoff_min: Duration,
    /// Upper bound of every wait. `backoff_min <= backoff_max`
    pub backoff_max: Duration,
}

impl Default for Timings {
    fn default() -> Timings {
        Timings {
            connect: Duration::from_secs(10),
            stale: Duration::from_secs(3),
            silence: Duration::from_secs(10),
            backoff_min: Duration::from_millis(250),
            backoff_max: Duration::from_secs(30),
        }
    }
}

/// What to connect to, and what for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoinbaseSettings {
    /// `wss://...`; `ws://...` is for tests on the same machine.
    pub url: String,
    /// As the venue writes them (`BTC-USD`) or canonical (`BTC/USD`).
    pub products: Vec<String>,
    /// The venue's channels: `heartbeat` is always among them, since the line is supervised by it.
    pub channels: Vec<String>,
    pub timings: Timings,
}

impl Default for CoinbaseSettings {
    fn default() -> CoinbaseSettings {
        CoinbaseSettings {
            url: "wss://ws-feed.exchange.coinbase.com".into(),
            products: vec!["BTC-USD".into(), "ETH-USD".into()],
            channels: vec!["ticker".into(), "matches".into()],
            timings: Timings::default(),
        }
    }
}

/// Why settings are refused. Begins with the name of the setting.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LiveError {
    #[error("url: `{url}` is no ws:// or wss:// address")]
    Url { url: String },
    #[error("products: 1 to {PRODUCTS_MAX} are needed, not {count}")]
    ProductCount { count: usize },
    #[error("products: `{product}` is no product (A-Z, 0-9, and a dash or a slash)")]
    Product { product: String },
    #[error("channels: `{channel}` is no channel name")]
    Channel { channel: String },
    #[error("timings: all above 0 and at most a day, stale <= silence and backoff_min <= backoff_max are needed")]
    Timings,
    #[error("tls: {0}")]
    Tls(String),
}

/// The live feed of Coinbase Exchange.
pub struct CoinbaseLive {
    url: String,
    /// The host of the URL, for the log: addresses can hold secrets.
    host: String,
    connector: Connector,
    /// The messages that subscribe to everything.
    subscribes: Vec<String>,
    timings: Timings,
    status: Arc<FeedStatus>,
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Why a connection came to its end, or to no beginning.
#[derive(Debug, thiserror::Error)]
enum LineEnd {
    #[error("cannot connect: {0}")]
    NotConnected(Error),
    #[error("not connected and subscribed within {0:?}")]
    ConnectTimeout(Duration),
    #[error("closed by the venue ({0})")]
    Closed(String),
    #[error("broken: {0}")]
    Broken(Error),
    #[error("silent for {0:?}")]
    Silent(Duration),
}

impl CoinbaseLive {
    /// # Errors
    /// [`LiveError`] where a setting is out of its range.
    pub fn new(settings: &CoinbaseSettings) -> Result<CoinbaseLive, LiveError> {
        let CoinbaseSettings { url, products, channels, timings } = settings;
        let uri: Uri = url.parse().map_err(|_| LiveError::Url { url: url.clone() })?;
        let (Some(host), Some(scheme @ ("ws" | "wss"))) = (uri.host(), uri.scheme_str()) else {
            return Err(LiveError::Url { url: url.clone() });
        };
        let connector = if scheme == "wss" { Connector::Rustls(Arc::new(tls_config()?)) } else { Connector::Plain };
        let products = products.iter().map(|product| venue_name(product)).collect::<Result<Vec<_>, _>>()?;
        if products.is_empty() || products.len() > PRODUCTS_MAX {
            return Err(LiveError::ProductCount { count: products.len() });
        }
        if let Some(channel) = channels.iter().find(|c| c.is_empty() || !c.bytes().all(is_channel_byte)) {
            return Err(LiveError::Channel { channel: channel.clone() });
        }
        let Timings { connect, stale, silence, backoff_min, backoff_max } = *timings;
        let times = [connect, stale, silence, backoff_min, backoff_max];
        let in_range = |time: &Duration| !time.is_zero() && *time <= TIMING_MAX;
        if !times.iter().all(in_range) || stale > silence || backoff_min > backoff_max {
            return Err(LiveError::Timings);
        }
        Ok(CoinbaseLive {
            url: url.clone(),
            host: host.to_owned(),
            connector,
            subscribes: products.chunks(BATCH_PRODUCTS).map(|batch| subscribe(batch, channels)).collect(),
            timings: *timings,
            status: FeedStatus::new(),
        })
    }

    pub fn status(&self) -> Arc<FeedStatus> {
        Arc::clone(&self.status)
    }

    /// Starts the thread, which ends after `stop`.
    ///
    /// # Errors
    /// What the system says when it has no thread or no event queue to give.
    pub fn spawn(self, mut feed: Feed, stop: Arc<Stop>) -> std::io::Result<JoinHandle<()>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        thread::Builder::new().name("feed-coinbase".into()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    biased;
                    () = stop.stopped() => {}
                    () = self.run(&mut feed) => {}
                }
            });
            self.status.set(FeedState::Down);
            // Not waiting for a name that is still being resolved.
            runtime.shutdown_background();
        })
    }

    /// Keeps a connection, for ever.
    async fn run(&self, feed: &mut Feed) {
        let mut backoff = Backoff::new(&self.timings, Random::from_system());
        let mut is_first = true;
        loop {
            let end = match self.connect().await {
                Err(end) => end,
                Ok(socket) => {
                    if !std::mem::take(&mut is_first) {
                        feed.counters().add(FeedCounter::Reconnects, 1);
                    }
                    let published = feed.publisher().published();
                    let end = self.listen(socket, feed).await;
                    feed.connection_lost();
                    // A connection that brought something new was a good one, however short. Acks, errors and old
                    // state alone are not: a venue that refuses us is not to be asked again and again.
                    if feed.publisher().published() > published {
                        backoff.reset();
                    }
                    end
                }
            };
            self.status.set(FeedState::Down);
            let wait = backoff.next_wait();
            tracing::warn!(host = self.host, ?wait, "the line to the venue is down: {end}");
            tokio::time::sleep(wait).await;
        }
    }

    /// Connects and subscribes.
    async fn connect(&self) -> Result<Socket, LineEnd> {
        let attempt = async {
            let config = WebSocketConfig::default()
                .max_message_size(Some(MESSAGE_BYTES_MAX))
                .max_frame_size(Some(MESSAGE_BYTES_MAX));
            let connector = Some(self.connector.clone());
            let (mut socket, _) = connect_async_tls_with_config(&self.url, Some(config), true, connector).await?;
            for message in &self.subscribes {
                socket.feed(Message::text(message)).await?;
            }
            socket.flush().await?;
            Ok(socket)
        };
        match timeout(self.timings.connect, attempt).await {
            Ok(Ok(socket)) => {
                tracing::info!(host = self.host, subscribes = self.subscribes.len(), "connected to the venue");
                Ok(socket)
            }
            Ok(Err(error)) => Err(LineEnd::NotConnected(error)),
            Err(_) => Err(LineEnd::ConnectTimeout(self.timings.connect)),
        }
    }

    /// Hands every frame to the feed until the line is at its end.
    async fn listen(&self, mut socket: Socket, feed: &mut Feed) -> LineEnd {
        let mut latest = Instant::now();
        // Looks after the silence. Frames do not touch it: when it fires, it sees what came in between.
        let mut watch = std::pin::pin!(sleep_until(latest + self.timings.stale));
        loop {
            tokio::select! {
                biased;
                message = socket.next() => {
                    let ts_recv = wall_ns();
                    match payload(message) {
                        Ok(Some(frame)) => feed.handle_frame(&frame, ts_recv),
                        Ok(None) => continue,
                        Err(end) => return end,
                    }
                    latest = Instant::now();
                    self.status.set(FeedState::Up);
                }
                () = &mut watch => {
                    let silent = latest.elapsed();
                    if silent >= self.timings.silence {
                        return LineEnd::Silent(silent);
                    }
                    let next = if silent < self.timings.stale {
                        self.timings.stale
                    } else {
                        if self.status.set(FeedState::Stale) {
                            tracing::warn!(host = self.host, ?silent, "the venue is silent");
                        }
                        self.timings.silence
                    };
                    watch.as_mut().reset(latest + next);
                }
            }
        }
    }
}

/// The venue's frame in a message, if it is one and not the line's own traffic.
fn payload(message: Option<Result<Message, Error>>) -> Result<Option<Bytes>, LineEnd> {
    match message {
        Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => Ok(Some(message.into_data())),
        Some(Ok(Message::Close(Some(close)))) => {
            Err(LineEnd::Closed(format!("{} {:?}", close.code, close.reason.as_str())))
        }
        Some(Ok(Message::Close(None))) | None => Err(LineEnd::Closed("without a reason".into())),
        // Pings are answered below us; they prove that the line lives, but not that the feed does.
        Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => Ok(None),
        Some(Err(error)) => Err(LineEnd::Broken(error)),
    }
}

/// The provider is named, not taken from the process: there is one, and a test must not have to install it.
fn tls_config() -> Result<ClientConfig, LiveError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let roots = RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| LiveError::Tls(error.to_string()))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// The venue's name of a product that is given by either name.
fn venue_name(product: &str) -> Result<String, LiveError> {
    let name = product.replace('/', "-");
    let allowed = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'-';
    if name.is_empty() || name.len() > 32 || !name.bytes().all(allowed) {
        return Err(LiveError::Product { product: product.to_owned() });
    }
    Ok(name)
}

fn is_channel_byte(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'
}

/// `{"type":"subscribe","product_ids":["BTC-USD"],"channels":["heartbeat","ticker"]}`. Names hold no byte that
/// would need an escape.
fn subscribe(products: &[String], channels: &[String]) -> String {
    let channels: Vec<&str> =
        std::iter::once("heartbeat").chain(channels.iter().map(String::as_str).filter(|c| *c != "heartbeat")).collect();
    let (products, channels) = (products.join("\",\""), channels.join("\",\""));
    format!("{{\"type\":\"subscribe\",\"product_ids\":[\"{products}\"],\"channels\":[\"{channels}\"]}}")
}

/// How long to wait before the next attempt: anything up to a bound that doubles each time ("full jitter", so
/// that gateways which lost the venue together do not come back together).
/// <https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>
struct Backoff {
    min: Duration,
    max: Duration,
    /// Attempts since the last good connection.
    attempts: u32,
    random: Random,
}

impl Backoff {
    fn new(timings: &Timings, random: Random) -> Backoff {
        Backoff { min: timings.backoff_min, max: timings.backoff_max, attempts: 0, random }
    }

    fn reset(&mut self) {
        self.attempts = 0;
    }

    fn next_wait(&mut self) -> Duration {
        let bound = self.min.saturating_mul(1u32.checked_shl(self.attempts).unwrap_or(u32::MAX)).min(self.max);
        self.attempts = self.attempts.saturating_add(1);
        bound.mul_f64(self.random.unit())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound_and_start_anew() {
        let timings = Timings::default();
        let mut longest = [Duration::ZERO; 12];
        for seed in 0..200 {
            let mut backoff = Backoff::new(&timings, Random::seeded(seed));
            backoff.attempts = u32::MAX;
            assert!(backoff.next_wait() < timings.backoff_max);
            backoff.reset();
            for longest in &mut longest {
                *longest = backoff.next_wait().max(*longest);
            }
        }
        for (attempt, longest) in longest.into_iter().enumerate() {
            let bound = Duration::from_millis(250 << attempt).min(Duration::from_secs(30));
            // The longest of 200 is below nine tenths of the bound once in 10^9.
            assert!(longest < bound && longest > bound.mul_f64(0.9), "{attempt}: {longest:?} of {bound:?}");
        }
    }

    #[test]
    fn subscribes_in_batches() {
        let products = (0..250).map(|n| format!("P{n}/USD")).collect();
        let channels = vec!["matches".into(), "heartbeat".into()];
        let url = "ws://localhost:1".into();
        let live = CoinbaseLive::new(&CoinbaseSettings { url, products, channels, ..Default::default() }).unwrap();
        let mut seen = Vec::new();
        for message in &live.subscribes {
            let message: serde_json::Value = serde_json::from_str(message).unwrap();
            assert_eq!(message["type"], "subscribe");
            assert_eq!(message["channels"], serde_json::json!(["heartbeat", "matches"]));
            let batch = message["product_ids"].as_array().unwrap();
            assert!(batch.len() <= BATCH_PRODUCTS);
            seen.extend(batch.iter().map(|p| p.as_str().unwrap().to_owned()));
        }
        assert_eq!(live.subscribes.len(), 3);
        assert_eq!(seen, (0..250).map(|n| format!("P{n}-USD")).collect::<Vec<_>>());
    }

    #[track_caller]
    fn check_refused(change: impl FnOnce(&mut CoinbaseSettings), message: &str) {
        let mut settings = CoinbaseSettings::default();
        change(&mut settings);
        let refused = CoinbaseLive::new(&settings).err().expect(message).to_string();
        assert!(refused.starts_with(message) && !refused.contains('\n'), "{refused}");
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        assert!(CoinbaseLive::new(&CoinbaseSettings::default()).is_ok());
        for url in ["", "ws-feed.exchange.coinbase.com", "https://ws-feed.exchange.coinbase.com", "wss://", "ws:///x"] {
            check_refused(|s| s.url = url.into(), "url: ");
        }
        check_refused(|s| s.products.clear(), "products: 1 to 2000 are needed, not 0");
        check_refused(|s| s.products = vec!["A-B".into(); 2_001], "products: 1 to 2000 are needed, not 2001");
        for product in ["", "btc-usd", "BTC-USD\"", "BTC USD", &"A".repeat(33)] {
            check_refused(|s| s.products.push(product.into()), "products: `");
        }
        check_refused(|s| s.channels.push("mat\"ches".into()), "channels: ");
        check_refused(|s| s.timings.connect = Duration::ZERO, "timings: ");
        check_refused(|s| s.timings.stale = Duration::from_secs(11), "timings: ");
        check_refused(|s| s.timings.backoff_min = Duration::from_secs(31), "timings: ");
    }
}
