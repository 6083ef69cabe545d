//! The live source of any venue that speaks over a WebSocket, on a thread of its own that runs a single-threaded tokio
//! runtime.
//!
//! Connects, does what the connection's [`Dialogue`] says, hands every frame to the feed, and fetches books where the
//! venue has them elsewhere. After every end of a connection it comes back, with exponential backoff and full jitter,
//! and subscribes anew; the feed then finds out by the venue's numbers what was missed. A connection that has reached
//! the age to which the venue lets it live is ended and made anew at once.
//!
//! Secrets are masked in whatever the venue says before the feed sees it, and in every error. Deliberately absent:
//! compression, which is not offered, and all that is particular about a venue: see [`super::venues`].

use std::borrow::Cow;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::time::{sleep_until, timeout};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue, Request as Upgrade, StatusCode, header};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Bytes, Error, Message};
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream, connect_async_tls_with_config};

use super::backoff::{Backoff, Rest};
use super::dialogue::{Act, Dialogue, Ending};
use super::http::{FetchError, FetchLimits, FetchRequest, Fetched, fetch};
use super::live_settings::{Credentials, Encoding, LiveError, LiveSettings};
use super::random::Random;
use super::script::{Name, Renewal, Request, Said, Script};
use super::secret::{self, Secret};
use super::timings::Timings;
use super::{FeedState, FeedStatus, LINE_BYTES_MAX, Stop, tls, venues, wall_ns};
use crate::feed::{Feed, FeedCounter};
use crate::venue::Venue;

/// Largest message: a book snapshot has several MB.
const MESSAGE_BYTES_MAX: usize = LINE_BYTES_MAX;

/// Largest book that is fetched: 5,000 levels a side of 60 bytes are 600 KB.
const BOOK_BYTES_MAX: usize = 8 << 20;

/// How long a venue that says "too much" over HTTP, and not for how long, is left alone.
const RETRY_AFTER: Duration = Duration::from_secs(60);

/// The live feed of a venue.
pub struct Live {
    venue: Venue,
    /// The host of the URL, for the log: addresses can hold secrets.
    host: String,
    upgrade: Upgrade<()>,
    connector: Connector,
    script: Arc<Script>,
    /// Where books are fetched.
    books: Option<FetchRequest>,
    secrets: Vec<Secret>,
    timings: Timings,
    status: Arc<FeedStatus>,
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A book under way: of which product, and what came.
type Fetching = Pin<Box<dyn Future<Output = (Box<str>, Result<Fetched, FetchError>)> + Send>>;

/// Why a connection came to its end, or to no beginning.
#[derive(Debug, thiserror::Error)]
enum LineEnd {
    #[error("cannot connect: {0}")]
    NotConnected(Error),
    #[error("the venue answers {0} to the handshake")]
    NotUpgraded(StatusCode),
    #[error("the venue refuses our credentials: it answers {0} to the handshake")]
    Refused(StatusCode),
    #[error("the venue says that we ask too much: it answers {status} to the handshake")]
    Throttled { status: StatusCode, retry_after: Option<Duration> },
    #[error("not connected within {0:?}")]
    ConnectTimeout(Duration),
    #[error("what we say was not taken within {0:?}")]
    WriteTimeout(Duration),
    #[error("closed by the venue ({0})")]
    Closed(String),
    #[error("broken: {0}")]
    Broken(Error),
    #[error("{0}")]
    Given(#[from] Ending),
}

impl LineEnd {
    fn rest(&self, timings: &Timings) -> Rest {
        match self {
            LineEnd::Refused(_) | LineEnd::Given(Ending::Refused) => Rest::Long(timings.refused, None),
            LineEnd::Given(Ending::Throttled) => Rest::Long(timings.throttled, None),
            LineEnd::Throttled { retry_after, .. } => Rest::Long(timings.throttled, *retry_after),
            LineEnd::Given(Ending::Closing | Ending::Aged) => Rest::None,
            _ => Rest::Backoff,
        }
    }
}

impl Live {
    /// # Errors
    /// [`LiveError`] where a setting is out of its range.
    pub fn new(settings: &LiveSettings) -> Result<Live, LiveError> {
        let LiveSettings { venue, timings, .. } = *settings;
        if !timings.are_valid() {
            return Err(LiveError::Timings);
        }
        if settings.encoding == Encoding::MessagePack && venue != Venue::Alpaca {
            return Err(LiveError::Encoding { venue });
        }
        if settings.bars && !venue.offers_bars() {
            return Err(LiveError::Bars { venue });
        }
        let script = venues::script(settings)?;
        let mut upgrade = script.url.as_str().into_client_request().map_err(|_| LiveError::Url)?;
        let (host, scheme) = (upgrade.uri().host().unwrap_or_default().to_owned(), upgrade.uri().scheme_str());
        let connector = match scheme {
            Some("wss") if !host.is_empty() => {
                Connector::Rustls(tls::client_config().map_err(|error| LiveError::Tls(error.to_string()))?)
            }
            Some("ws") if !host.is_empty() => Connector::Plain,
            _ => return Err(LiveError::Url),
        };
        for (name, value) in &script.headers {
            let value = HeaderValue::from_str(value).map_err(|_| LiveError::CredentialBytes)?;
            upgrade.headers_mut().insert(HeaderName::from_static(name), value);
        }
        let books = match &script.renewal {
            Renewal::Fetch { url, .. } => Some(books_request(url, &timings)?),
            Renewal::Line | Renewal::Requests(_) => None,
        };
        let Credentials { key, secret } = settings.credentials.clone();
        Ok(Live {
            venue,
            host,
            upgrade,
            connector,
            script: Arc::new(script),
            books,
            secrets: [key, secret].into_iter().flatten().collect(),
            timings,
            status: FeedStatus::new(),
        })
    }

    pub fn status(&self) -> Arc<FeedStatus> {
        Arc::clone(&self.status)
    }

    /// The canonical symbols that it subscribes to.
    pub fn symbols(&self) -> impl Iterator<Item = &str> {
        self.script.names.iter().map(|name| name.symbol.as_str())
    }

    /// Starts the thread, which ends after `stop`. The feed is to be one of the same venue and origin of quotes.
    ///
    /// # Errors
    /// What the system says when it has no thread or no event queue to give.
    pub fn spawn(self, mut feed: Feed, stop: Arc<Stop>) -> std::io::Result<JoinHandle<()>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let name = format!("feed-{}", self.venue.name().to_ascii_lowercase());
        thread::Builder::new().name(name).spawn(move || {
            self.introduce(&mut feed);
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

    /// Tells the feed what the venue calls the instruments.
    fn introduce(&self, feed: &mut Feed) {
        for Name { said, symbol } in &self.script.names {
            let is_known = match said {
                Said::Text(name) => feed.learn_name(name.as_bytes(), symbol),
                Said::Token(token) => feed.learn_token(*token, symbol),
            };
            if !is_known {
                tracing::warn!(host = self.host, symbol, "no room for this instrument: it will not be heard");
            }
        }
    }

    /// Keeps a connection, for ever.
    async fn run(&self, feed: &mut Feed) {
        let Timings { backoff_min, backoff_max, .. } = self.timings;
        let mut backoff = Backoff::new(backoff_min, backoff_max, Random::from_system());
        let mut is_first = true;
        loop {
            let published = feed.publisher().published();
            let end = match self.connect().await {
                Err(end) => end,
                Ok(socket) => {
                    if !std::mem::take(&mut is_first) {
                        feed.counters().add(FeedCounter::Reconnects, 1);
                    }
                    let end = self.listen(socket, feed).await;
                    feed.connection_lost();
                    end
                }
            };
            // A connection that brought something new was a good one, however short. Acks, errors and old state alone are
            // not: a venue that refuses us is not to be asked again and again.
            let was_good = feed.publisher().published() > published;
            let wait = backoff.wait_after(end.rest(&self.timings), was_good);
            let end = self.masked(&end.to_string());
            self.status.set_troubled(FeedState::Down, &end);
            tracing::warn!(host = self.host, ?wait, "the line to the venue is down: {end}");
            tokio::time::sleep(wait).await;
        }
    }

    async fn connect(&self) -> Result<Socket, LineEnd> {
        let config = WebSocketConfig::default()
            .max_message_size(Some(MESSAGE_BYTES_MAX))
            .max_frame_size(Some(MESSAGE_BYTES_MAX));
        let connector = Some(self.connector.clone());
        let attempt = connect_async_tls_with_config(self.upgrade.clone(), Some(config), true, connector);
        match timeout(self.timings.connect, attempt).await {
            Ok(Ok((socket, _))) => {
                tracing::info!(host = self.host, "connected to the venue");
                Ok(socket)
            }
            Ok(Err(Error::Http(answer))) => Err(match answer.status() {
                status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => LineEnd::Refused(status),
                // 418 is how Binance says that it said 429 before.
                status @ (StatusCode::TOO_MANY_REQUESTS | StatusCode::IM_A_TEAPOT) => {
                    let seconds =
                        answer.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
                    // No longer than a day, whatever it says.
                    let retry_after = seconds.map(|seconds: u64| Duration::from_secs(seconds.min(86_400)));
                    LineEnd::Throttled { status, retry_after }
                }
                status => LineEnd::NotUpgraded(status),
            }),
            Ok(Err(error)) => Err(LineEnd::NotConnected(error)),
            Err(_) => Err(LineEnd::ConnectTimeout(self.timings.connect)),
        }
    }

    /// Does what the dialogue says and hands every frame to the feed, until the line is at its end.
    async fn listen(&self, mut socket: Socket, feed: &mut Feed) -> LineEnd {
        let mut dialogue = Dialogue::new(Arc::clone(&self.script), self.timings, Instant::now());
        let mut fetching: Option<Fetching> = None;
        // Frames do not touch it where what is due next only moved away: when it fires, it sees what came in between.
        let mut timer = std::pin::pin!(sleep_until(tokio::time::Instant::now()));
        loop {
            let due = match dialogue.poll(Instant::now()) {
                Act::Wait(due) => tokio::time::Instant::from_std(due),
                Act::End(ending) => return ending.into(),
                Act::Fetch(name) => {
                    match self.fetch_book(&name) {
                        Some(book) => fetching = Some(book),
                        None => dialogue.handle_fetch_failed(name, None, Instant::now()),
                    }
                    continue;
                }
                act @ (Act::Send(_) | Act::Ping) => match self.say(act, &mut socket).await {
                    Ok(()) => continue,
                    Err(end) => return end,
                },
            };
            if let Some(state) = dialogue.state() {
                self.status.tell(state, &self.host, self.timings.stale);
            }
            if due < timer.deadline() || timer.is_elapsed() {
                timer.as_mut().reset(due);
            }
            tokio::select! {
                biased;
                // First, and seldom: a busy line must not hold it back.
                (name, fetched) = completed(&mut fetching) => {
                    fetching = None;
                    self.take_book(name, fetched, feed, &mut dialogue);
                }
                message = socket.next() => {
                    let ts_recv = wall_ns();
                    let outcome = match payload(message) {
                        Ok(Some(frame)) => Some(feed.handle_frame(&self.without_secrets(&frame), ts_recv)),
                        Ok(None) => None,
                        Err(end) => return end,
                    };
                    let now = Instant::now();
                    match outcome {
                        Some(outcome) => dialogue.handle_frame(outcome, now),
                        None => dialogue.handle_traffic(now),
                    }
                }
                () = &mut timer => continue,
            }
            while let Some(resync) = feed.poll_resync() {
                tracing::debug!(host = self.host, ?resync, "something is missing");
                dialogue.handle_resync(resync, Instant::now());
            }
        }
    }

    async fn say(&self, act: Act, socket: &mut Socket) -> Result<(), LineEnd> {
        let message = match act {
            Act::Send(Request::Text(text)) => Message::text(text),
            Act::Send(Request::Binary(bytes)) => Message::binary(bytes),
            _ => Message::Ping(Bytes::new()),
        };
        match timeout(self.timings.answer, socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(LineEnd::Broken(error)),
            Err(_) => Err(LineEnd::WriteTimeout(self.timings.answer)),
        }
    }

    /// Asks for the book of the product of this name; `None` where there is no way to.
    fn fetch_book(&self, name: &str) -> Option<Fetching> {
        let Renewal::Fetch { query, .. } = self.script.renewal else { return None };
        let request = self.books.as_ref()?.with_query(&query(name)).ok()?;
        let name = name.into();
        Some(Box::pin(async move { (name, fetch(&request).await) }))
    }

    /// Hands a book that came to the feed, or has it asked for again.
    fn take_book(
        &self,
        name: Box<str>,
        fetched: Result<Fetched, FetchError>,
        feed: &mut Feed,
        dialogue: &mut Dialogue,
    ) {
        let Renewal::Fetch { decode, .. } = self.script.renewal else { return };
        let failure = match fetched {
            Ok(Fetched { status: StatusCode::OK, body, .. }) => {
                let outcome = feed.handle(&body, wall_ns(), |on_event| decode(&body, &name, on_event));
                if outcome.is_alive {
                    return dialogue.handle_fetched();
                }
                ("the answer is no book".to_owned(), None)
            }
            Ok(Fetched { status, retry_after, .. }) => {
                let too_much = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::IM_A_TEAPOT);
                let retry_after = retry_after.or(too_much.then_some(RETRY_AFTER));
                (format!("the venue answers {status}"), retry_after)
            }
            Err(error) => (error.to_string(), None),
        };
        let (why, retry_after) = failure;
        tracing::warn!(host = self.host, product = &*name, ?retry_after, "a book did not come: {}", self.masked(&why));
        dialogue.handle_fetch_failed(name, retry_after, Instant::now());
    }

    /// What the venue said, without our secrets.
    fn without_secrets<'a>(&self, said: &'a [u8]) -> Cow<'a, [u8]> {
        secret::masked(&self.secrets, said)
    }

    fn masked(&self, text: &str) -> String {
        String::from_utf8_lossy(&self.without_secrets(text.as_bytes())).into_owned()
    }
}

/// Waits for the book under way, for ever where there is none.
async fn completed(fetching: &mut Option<Fetching>) -> (Box<str>, Result<Fetched, FetchError>) {
    match fetching {
        Some(fetching) => fetching.await,
        None => std::future::pending().await,
    }
}

/// The request for books at this address, without its query.
fn books_request(url: &str, timings: &Timings) -> Result<FetchRequest, LiveError> {
    let limits = FetchLimits {
        connect: timings.connect,
        total: timings.connect + timings.answer,
        body_bytes_max: BOOK_BYTES_MAX,
    };
    FetchRequest::new(url, limits).map_err(|_| LiveError::SnapshotUrl)
}

/// The venue's frame in a message, if it is one and not the line's own traffic.
fn payload(message: Option<Result<Message, Error>>) -> Result<Option<Bytes>, LineEnd> {
    match message {
        Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => Ok(Some(message.into_data())),
        Some(Ok(Message::Close(Some(close)))) => {
            Err(LineEnd::Closed(format!("{} {:?}", close.code, close.reason.as_str())))
        }
        Some(Ok(Message::Close(None))) | None => Err(LineEnd::Closed("without a reason".into())),
        // Pings are answered below us.
        Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => Ok(None),
        Some(Err(error)) => Err(LineEnd::Broken(error)),
    }
}
