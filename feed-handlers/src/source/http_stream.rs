//! A live source that reads one endless HTTP answer: OANDA's lines, IEX Cloud's server-sent events.
//!
//! Runs on the source's thread. Connects, hands every frame to the feed, and supervises the line: nothing that lives for
//! a while makes the source stale, and for a while longer ends the connection. After every end it comes back with
//! exponential backoff and full jitter, no sooner than the venue asked for, and never twice within
//! [`CONNECT_INTERVAL`]. A venue that refuses who we are is asked again after a long time only. Deliberately absent:
//! what the frames say, and how the body is cut into them ([`Framing`]).

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use hyper::StatusCode;
use hyper::body::Bytes;
use hyper::header;
use tokio::time::{Instant, sleep, sleep_until};

use super::backoff::Backoff;
use super::http::{self, Answer, FetchError, FetchLimits, FetchRequest};
use super::http_settings::introduce;
use super::random::Random;
use super::script::Product;
use super::{FeedState, FeedStatus, Secret, Stop, Timings, wall_ns};
use crate::decode::DecodeError;
use crate::decode::event::{ControlKind, Event};
use crate::decode::sse::SseError;
use crate::feed::{Feed, FeedCounter};

/// Between the starts of two connections, so that there are no more than two a second.
pub(super) const CONNECT_INTERVAL: Duration = Duration::from_millis(500);

/// Longest body of an answer that refuses us.
const REFUSAL_BYTES_MAX: usize = 4 << 10;

/// How much of it is shown.
const SHOWN_BYTES_MAX: usize = 200;

/// Decodes one frame; a venue's decoder.
pub(super) type Decode = for<'a> fn(&'a [u8], &mut dyn FnMut(Event<'a>)) -> Result<(), DecodeError>;

/// How a body is cut into frames.
pub trait Framing: Send + 'static {
    /// A new body begins.
    fn start(&mut self);

    /// Takes the next bytes, and hands out the frames that they complete.
    ///
    /// # Errors
    /// What makes the rest of the body worthless.
    fn handle_chunk(&mut self, chunk: &[u8], on_frame: &mut dyn FnMut(&[u8])) -> Result<(), SseError>;

    /// The body came to its own end.
    fn finish(&mut self, on_frame: &mut dyn FnMut(&[u8]));

    /// How long the venue wants to be left alone after this body.
    fn retry(&self) -> Option<Duration>;
}

/// What shows that a line lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// Frames with market data or heartbeats.
    Frames,
    /// Whatever comes: the venue has no heartbeats but comments.
    Bytes,
}

/// The stream of a venue, cut into frames by `F`.
pub struct HttpStream<F> {
    /// The name of its thread.
    pub(super) thread: &'static str,
    pub(super) request: FetchRequest,
    pub(super) framing: F,
    pub(super) decode: Decode,
    /// What the request signs in with.
    pub(super) secret: Secret,
    pub(super) life: Life,
    /// What the answer's content has to be.
    pub(super) content_type: Option<&'static str>,
    pub(super) timings: Timings,
    /// What is asked for.
    pub(super) products: Vec<Product>,
    pub(super) status: Arc<FeedStatus>,
}

/// Why a connection came to its end, or to no beginning.
#[derive(Debug, thiserror::Error)]
enum LineEnd {
    #[error("{0}")]
    NotConnected(FetchError),
    #[error("the venue refuses who we are, or what we ask: status {status}, `{said}`")]
    Refused { status: StatusCode, said: String },
    #[error("the venue has us wait: status {status}, `{said}`")]
    Throttled { status: StatusCode, retry_after: Option<Duration>, said: String },
    #[error("no stream: status {status}, `{said}`")]
    Status { status: StatusCode, retry_after: Option<Duration>, said: String },
    #[error("no stream of events but `{0}`")]
    ContentType(String),
    #[error("the venue said {0:?}")]
    Said(ControlKind),
    #[error("closed by the venue")]
    Closed,
    #[error("broken: {0}")]
    Broken(FetchError),
    #[error("unreadable: {0}")]
    Unreadable(SseError),
    #[error("silent for {0:?}")]
    Silent(Duration),
}

impl LineEnd {
    /// How long the settings want the venue to be left alone after this.
    fn rest(&self, timings: &Timings) -> Duration {
        match self {
            LineEnd::Refused { .. } | LineEnd::Said(ControlKind::AuthRefused) => timings.refused,
            LineEnd::Throttled { .. } | LineEnd::Said(ControlKind::Throttled) => timings.throttled,
            _ => Duration::ZERO,
        }
    }

    /// How long the venue wants to be left alone.
    fn retry_after(&self) -> Option<Duration> {
        match self {
            LineEnd::Throttled { retry_after, .. } | LineEnd::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// The bounds of a stream's requests. Only refusals are read as a whole.
pub(super) fn limits(timings: &Timings) -> FetchLimits {
    FetchLimits { connect: timings.connect, total: timings.connect * 2, body_bytes_max: REFUSAL_BYTES_MAX }
}

/// Starts the thread of a source, which ends after `stop` and leaves `status` down.
///
/// # Errors
/// What the system says when it has no thread or no event queue to give.
pub(super) fn spawn(
    name: &str,
    status: Arc<FeedStatus>,
    stop: Arc<Stop>,
    run: impl AsyncFnOnce() + Send + 'static,
) -> std::io::Result<JoinHandle<()>> {
    spawn_to_its_end(name, status, async move || {
        tokio::select! {
            biased;
            () = stop.stopped() => {}
            () = run() => {}
        }
    })
}

/// As [`spawn`], for a source that looks after the stop by itself.
pub(super) fn spawn_to_its_end(
    name: &str,
    status: Arc<FeedStatus>,
    run: impl AsyncFnOnce() + Send + 'static,
) -> std::io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    thread::Builder::new().name(name.into()).spawn(move || {
        runtime.block_on(run());
        status.set(FeedState::Down);
        // Not waiting for a name that is still being resolved.
        runtime.shutdown_background();
    })
}

impl<F: Framing> HttpStream<F> {
    pub fn status(&self) -> Arc<FeedStatus> {
        Arc::clone(&self.status)
    }

    /// Starts the thread, which ends after `stop`.
    ///
    /// # Errors
    /// What the system says when it has no thread or no event queue to give.
    pub fn spawn(self, feed: Feed, stop: Arc<Stop>) -> std::io::Result<JoinHandle<()>> {
        spawn(self.thread, self.status(), stop, async move || self.run(feed).await)
    }

    /// Keeps a connection, for ever.
    async fn run(mut self, mut feed: Feed) {
        introduce(&self.products, &mut feed);
        let Timings { backoff_min, backoff_max, .. } = self.timings;
        let (mut backoff, mut random) =
            (Backoff::new(backoff_min, backoff_max, Random::from_system()), Random::from_system());
        let mut is_first = true;
        loop {
            let start = Instant::now();
            let end = match self.connect(&mut feed).await {
                Err(end) => end,
                Ok(answer) => {
                    if !std::mem::take(&mut is_first) {
                        feed.counters().add(FeedCounter::Reconnects, 1);
                    }
                    let (end, was_alive) = self.listen(answer, &mut feed).await;
                    feed.connection_lost();
                    // Market data or a heartbeat came: it was a good connection, however short.
                    if was_alive {
                        backoff.reset();
                    }
                    end
                }
            };
            self.status.set(FeedState::Down);
            self.status.set_trouble(Some(&end.to_string()));
            // Jitter comes on top of what the venue asked for: it asks everybody for the same.
            let at_least = end.retry_after().or(self.framing.retry()).unwrap_or_default();
            let long = end.rest(&self.timings).mul_f64(0.5 + 0.5 * random.unit());
            let pace = (start + CONNECT_INTERVAL).saturating_duration_since(Instant::now());
            let wait = long.max(at_least + backoff.next_wait()).max(pace);
            tracing::warn!(host = self.request.host(), ?wait, "the line to the venue is down: {end}");
            sleep(wait).await;
        }
    }

    /// Asks for the stream.
    async fn connect(&mut self, feed: &mut Feed) -> Result<Answer, LineEnd> {
        let answer = http::stream(&self.request).await.map_err(LineEnd::NotConnected)?;
        if answer.status != StatusCode::OK {
            return Err(self.refusal(answer, feed).await);
        }
        if let Some(expected) = self.content_type {
            let content_type = answer.headers.get(header::CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
            let essence = content_type.split(|byte| *byte == b';').next().unwrap_or_default();
            if !essence.trim_ascii().eq_ignore_ascii_case(expected.as_bytes()) {
                return Err(LineEnd::ContentType(shown(&self.secret.masked(content_type))));
            }
        }
        tracing::info!(host = self.request.host(), "connected to the venue");
        Ok(answer)
    }

    /// An answer that is no stream. What it says of the reason goes to the feed, where it is of the venue's form.
    async fn refusal(&self, answer: Answer, feed: &mut Feed) -> LineEnd {
        let (status, retry_after) = (answer.status, answer.retry_after());
        // Without the text the status has to do.
        let body = answer.whole_body(Instant::now() + self.timings.connect, limits(&self.timings)).await;
        let body = body.unwrap_or_default();
        let masked = self.secret.masked(&body);
        if masked.trim_ascii_start().starts_with(b"{") {
            feed.handle(&masked, wall_ns(), |on_event| (self.decode)(&masked, on_event));
        }
        let said = shown(&masked);
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => {
                LineEnd::Refused { status, said }
            }
            StatusCode::TOO_MANY_REQUESTS => LineEnd::Throttled { status, retry_after, said },
            _ => LineEnd::Status { status, retry_after, said },
        }
    }

    /// Hands every frame to the feed until the line is at its end, and tells whether any of them lived.
    async fn listen(&mut self, mut answer: Answer, feed: &mut Feed) -> (LineEnd, bool) {
        self.framing.start();
        let (mut latest, mut was_alive) = (Instant::now(), false);
        // Looks after the silence. Frames do not touch it: when it fires, it sees what came in between.
        let mut watch = std::pin::pin!(sleep_until(latest + self.timings.stale));
        loop {
            tokio::select! {
                biased;
                chunk = answer.next_chunk() => {
                    let (is_alive, end) = self.handle_chunk(chunk, feed);
                    was_alive |= is_alive;
                    if let Some(end) = end {
                        return (end, was_alive);
                    }
                    if is_alive || self.life == Life::Bytes {
                        latest = Instant::now();
                        self.status.set(FeedState::Up);
                    }
                }
                () = &mut watch => {
                    let silent = latest.elapsed();
                    if silent >= self.timings.silence {
                        return (LineEnd::Silent(silent), was_alive);
                    }
                    let next = if silent < self.timings.stale {
                        self.timings.stale
                    } else {
                        if self.status.set(FeedState::Stale) {
                            self.status.set_trouble(Some("the venue is silent"));
                            tracing::warn!(host = self.request.host(), ?silent, "the venue is silent");
                        }
                        self.timings.silence
                    };
                    watch.as_mut().reset(latest + next);
                }
            }
        }
    }

    /// Takes the frames out of what came, and tells whether there was life in them and whether the line is at its end.
    fn handle_chunk(&mut self, chunk: Result<Option<Bytes>, FetchError>, feed: &mut Feed) -> (bool, Option<LineEnd>) {
        let ts_recv = wall_ns();
        let (mut is_alive, mut said) = (false, None);
        let (decode, secret) = (self.decode, &self.secret);
        let mut on_frame = |frame: &[u8]| {
            let frame = secret.masked(frame);
            let outcome = feed.handle(&frame, ts_recv, |on_event| decode(&frame, on_event));
            is_alive |= outcome.is_alive;
            if let Some(ControlKind::AuthRefused | ControlKind::Throttled | ControlKind::Closing) = outcome.control {
                said = outcome.control;
            }
        };
        let end = match chunk {
            Ok(Some(chunk)) => self.framing.handle_chunk(&chunk, &mut on_frame).err().map(LineEnd::Unreadable),
            Ok(None) => {
                self.framing.finish(&mut on_frame);
                Some(LineEnd::Closed)
            }
            Err(error) => Some(LineEnd::Broken(error)),
        };
        (is_alive, said.map(LineEnd::Said).or(end))
    }
}

/// The beginning of a text from the venue, safe to print.
pub(super) fn shown(text: &[u8]) -> String {
    let text = text.trim_ascii();
    text[..text.len().min(SHOWN_BYTES_MAX)].escape_ascii().to_string()
}
