//! The live source of any venue that speaks FIX 4.4 market data, on a thread of its own that runs a single-threaded tokio
//! runtime.
//!
//! Connects over TCP, with TLS where the address says so, does what the connection's [`Session`] says, and hands every
//! message to the feed. After every end it comes back with exponential backoff and full jitter. At the end of the process
//! it says goodbye and waits a second for the venue to say it too.
//!
//! Passwords and API keys are masked in whatever the venue says before the feed sees it, in every error, and in our own messages where
//! the log shows them (`debug`). Deliberately absent: orders; other versions of FIX and other encodings; a store of
//! messages, since nothing that we say is worth being sent again.

mod frames;
mod message;
mod numbers;
mod session;
mod settings;
mod signature;
mod subscriptions;

use std::borrow::Cow;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, sleep_until, timeout};
use tokio_rustls::TlsConnector;

use self::frames::{Frames, Piece};
use self::numbers::Numbers;
use self::session::{Act, Credential, Ending, Plan, Session, Taking};
use self::settings::Address;
use self::signature::SigningKey;
use super::backoff::{Backoff, Rest};
use super::dial::{DialError, Line, dial};
use super::http_settings::introduce;
use super::http_stream::spawn_to_its_end;
use super::random::Random;
use super::script::Product;
use super::{FeedStatus, Secret, Stop, Timings, secret, tls, wall_ns};
use crate::decode::event::{Event, Part};
use crate::decode::fix_session::{SessionMessage, text_ranges};
use crate::decode::{DecodeError, fix};
use crate::feed::{Feed, FeedCounter};

pub use self::settings::{FixChannel, FixDialect, FixNumbers, FixQuotes, FixSettings, FixSettingsError};

/// Read at once.
const CHUNK_BYTES: usize = 64 << 10;

/// Market data of a venue over FIX.
pub struct FixLive {
    address: Address,
    tls: Option<TlsConnector>,
    plan: Arc<Plan>,
    products: Vec<Product>,
    secrets: Vec<Secret>,
    timings: Timings,
    status: Arc<FeedStatus>,
}

/// Why a connection came to its end, or to no beginning.
#[derive(Debug, thiserror::Error)]
enum LineEnd {
    #[error("{0}")]
    NotConnected(#[from] DialError),
    #[error("not connected within {0:?}")]
    ConnectTimeout(Duration),
    #[error("what we say was not taken within {0:?}")]
    WriteTimeout(Duration),
    #[error("closed by the venue without an answer to the sign-in, as venues do that do not know who we are")]
    ClosedAtSignIn,
    #[error("closed by the venue")]
    Closed,
    #[error("broken: {0}")]
    Broken(io::Error),
    #[error("{0}")]
    Given(#[from] Ending),
}

impl LineEnd {
    fn rest(&self, timings: &Timings) -> Rest {
        match self {
            LineEnd::Given(Ending::Refused { .. } | Ending::RequestsRefused { .. } | Ending::OtherParties { .. }) => {
                Rest::Long(timings.refused, None)
            }
            LineEnd::Given(Ending::Throttled) => Rest::Long(timings.throttled, None),
            LineEnd::Given(Ending::Closing | Ending::NumbersReset) => Rest::None,
            _ => Rest::Backoff,
        }
    }
}

impl FixLive {
    /// # Errors
    /// [`FixSettingsError`] where a setting is out of its range.
    pub fn new(settings: &FixSettings) -> Result<FixLive, FixSettingsError> {
        FixLive::with_tls(settings, || tls::client_config().map_err(|error| FixSettingsError::Tls(error.to_string())))
    }

    fn with_tls(
        settings: &FixSettings,
        tls: impl FnOnce() -> Result<Arc<ClientConfig>, FixSettingsError>,
    ) -> Result<FixLive, FixSettingsError> {
        let (address, products) = settings::checked(settings)?;
        let tls = if address.is_tls { Some(TlsConnector::from(tls()?)) } else { None };
        let credential = credential(settings)?;
        let FixSettings { dialect, username, password, heartbeat, numbers, quotes, timings, .. } = settings.clone();
        let names: Vec<String> = products.iter().map(|product| product.name.clone()).collect();
        // An API key is one; a mere name is not, and may well be a word that the venue's texts need.
        let api_key = username.clone().filter(|_| dialect == FixDialect::Binance);
        let secrets = password.into_iter().chain(api_key).collect();
        let plan = Plan {
            sender: settings.sender_comp_id.clone(),
            target: settings.target_comp_id.clone(),
            dialect,
            username,
            credential,
            heartbeat,
            numbering: numbers,
            quotes,
            requests: subscriptions::requests(&settings.channels, &names, settings.symbols_per_request),
        };
        Ok(FixLive { address, tls, plan: Arc::new(plan), products, secrets, timings, status: FeedStatus::new() })
    }

    pub fn status(&self) -> Arc<FeedStatus> {
        Arc::clone(&self.status)
    }

    /// Starts the thread, which ends after `stop`. The feed is one of [`Venue::Fix`](crate::venue::Venue::Fix) with quotes
    /// of [`FixQuotes::origin`].
    ///
    /// # Errors
    /// What the system says when it has no thread or no event queue to give.
    pub fn spawn(self, feed: Feed, stop: Arc<Stop>) -> io::Result<JoinHandle<()>> {
        spawn_to_its_end("feed-fix", self.status(), async move || self.run(feed, &stop).await)
    }

    /// Keeps a connection until the stop.
    async fn run(self, mut feed: Feed, stop: &Stop) {
        introduce(&self.products, &mut feed);
        let Timings { backoff_min, backoff_max, .. } = self.timings;
        let mut backoff = Backoff::new(backoff_min, backoff_max, Random::from_system());
        let mut numbers = Numbers::FIRST;
        let mut is_first = true;
        while !stop.is_stopped() {
            let published = feed.publisher().published();
            let connected = tokio::select! {
                biased;
                () = stop.stopped() => return,
                connected = self.connect() => connected,
            };
            let end = match connected {
                Err(end) => end,
                Ok(line) => {
                    if !std::mem::take(&mut is_first) {
                        feed.counters().add(FeedCounter::Reconnects, 1);
                    }
                    let end = self.listen(line, &mut feed, &mut numbers, stop).await;
                    feed.connection_lost();
                    end
                }
            };
            if stop.is_stopped() {
                return;
            }
            // As with the other sources, one that brought something new was a good one.
            let was_good = feed.publisher().published() > published;
            let wait = backoff.wait_after(end.rest(&self.timings), was_good);
            let end = String::from_utf8_lossy(&secret::masked(&self.secrets, end.to_string().as_bytes())).into_owned();
            self.status.set_troubled(super::FeedState::Down, &end);
            tracing::warn!(host = self.address.host, ?wait, "the line to the venue is down: {end}");
            tokio::select! {
                biased;
                () = stop.stopped() => return,
                () = sleep(wait) => {}
            }
        }
    }

    async fn connect(&self) -> Result<Line, LineEnd> {
        let Address { host, port, .. } = &self.address;
        match timeout(self.timings.connect, dial(host, *port, self.tls.as_ref())).await {
            Ok(dialled) => {
                let line = dialled?;
                tracing::info!(host, "connected to the venue");
                Ok(line)
            }
            Err(_) => Err(LineEnd::ConnectTimeout(self.timings.connect)),
        }
    }

    /// Does what the session says and hands every message to the feed, until the line is at its end.
    async fn listen(&self, mut line: Line, feed: &mut Feed, numbers: &mut Numbers, stop: &Stop) -> LineEnd {
        let mut session = Session::new(Arc::clone(&self.plan), self.timings, *numbers, Instant::now());
        let (mut frames, mut chunk) = (Frames::default(), vec![0; CHUNK_BYTES]);
        let mut is_stopping = false;
        let end = loop {
            let due = match session.poll(Instant::now(), wall_ns()) {
                Act::Wait(due) => due,
                Act::End(ending) => break ending.into(),
                Act::Send(message) => match self.say(&message, &mut line).await {
                    Ok(()) => continue,
                    Err(end) => break end,
                },
            };
            if let Some(state) = session.state() {
                self.status.tell(state, &self.address.host, self.timings.stale);
            }
            tokio::select! {
                biased;
                () = stop.stopped(), if !is_stopping => {
                    is_stopping = true;
                    session.stop(Instant::now());
                }
                read = line.read(&mut chunk) => match read {
                    Ok(0) if session.is_signed_in() => break LineEnd::Closed,
                    Ok(0) => break LineEnd::ClosedAtSignIn,
                    Ok(length) => {
                        let ts_recv = wall_ns();
                        frames.handle_chunk(&chunk[..length], |piece| self.take_in(piece, ts_recv, &mut session, feed));
                    }
                    Err(error) => break LineEnd::Broken(error),
                },
                () = sleep_until(due.into()) => {}
            }
        };
        *numbers = session.numbers();
        end
    }

    async fn say(&self, message: &[u8], line: &mut Line) -> Result<(), LineEnd> {
        tracing::debug!(host = self.address.host, message = message::shown(message), "we say");
        let write = async {
            line.write_all(message).await?;
            line.flush().await
        };
        match timeout(self.timings.answer, write).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(LineEnd::Broken(error)),
            Err(_) => Err(LineEnd::WriteTimeout(self.timings.answer)),
        }
    }

    /// Hands a piece of the stream to the session and, as far as it says, to the feed.
    fn take_in(&self, piece: Piece<'_>, ts_recv: i64, session: &mut Session, feed: &mut Feed) {
        let now = Instant::now();
        let frame = match piece {
            Piece::Message(frame) => frame,
            Piece::Garbage(bytes, error) => return self.refuse(bytes, error, ts_recv, session, feed),
        };
        let message = match SessionMessage::read(frame) {
            Ok(message) => message,
            Err(error) => return self.refuse(frame, error, ts_recv, session, feed),
        };
        let taking = session.handle(&message, now);
        let frame = self.without_secrets(frame, &message);
        let outcome = match taking {
            Taking::All => feed.handle_frame(&frame, ts_recv),
            Taking::AllButPrices => {
                let mut books = 0;
                let outcome = feed.handle(&frame, ts_recv, |on_event| {
                    fix::decode(&frame, &mut |event| match event {
                        Event::BookBegin(_) => books += 1,
                        // Its number is not the next either, whether it says so or not.
                        Event::LineSequence(_)
                        | Event::Level(_)
                        | Event::BookEnd(_)
                        | Event::Invalid { part: Part::Level, .. } => {}
                        event => on_event(event),
                    })
                });
                feed.counters().add(FeedCounter::StaleBookChanges, books);
                outcome
            }
            Taking::Known => {
                feed.counters().add(FeedCounter::ResentMessages, 1);
                feed.handle(&frame, ts_recv, |_| Ok(()))
            }
            Taking::Nothing => feed.handle(&frame, ts_recv, |on_event| {
                on_event(Event::Ignored { kind: b"of another session" });
                Ok(())
            }),
        };
        session.handle_outcome(outcome);
        while let Some(resync) = feed.poll_resync() {
            tracing::debug!(host = self.address.host, ?resync, "something is missing");
            session.handle_resync(&resync, now);
        }
    }

    /// What is no message is counted and kept by the feed, and ignored by the session.
    fn refuse(&self, bytes: &[u8], error: DecodeError, ts_recv: i64, session: &mut Session, feed: &mut Feed) {
        session.handle_garbage();
        feed.handle(&secret::masked(&self.secrets, bytes), ts_recv, |_| Err(error));
    }

    /// A whole message without our password, and with a checksum that holds. Only texts can repeat it: elsewhere the same
    /// bytes are a price.
    fn without_secrets<'a>(&self, frame: &'a [u8], message: &SessionMessage<'_>) -> Cow<'a, [u8]> {
        let mut masked = Cow::Borrowed(frame);
        if self.secrets.is_empty() || message.is_market_data() {
            return masked;
        }
        for range in text_ranges(frame) {
            if let Cow::Owned(text) = secret::masked(&self.secrets, &frame[range.clone()]) {
                masked.to_mut()[range].copy_from_slice(&text);
            }
        }
        if let Cow::Owned(masked) = &mut masked {
            let summed = masked.len() - message::TRAILER_BYTES;
            let trailer = message::trailer(&masked[..summed]);
            masked[summed..].copy_from_slice(trailer.as_bytes());
        }
        masked
    }
}

/// What the password of the settings is: said, or a key to sign with.
fn credential(settings: &FixSettings) -> Result<Credential, FixSettingsError> {
    match (settings.dialect, &settings.password) {
        (_, None) => Ok(Credential::None),
        (FixDialect::Standard, Some(password)) => Ok(Credential::Password(password.clone())),
        (FixDialect::Binance, Some(pem)) => {
            let refused =
                FixSettingsError::Binance { setting: "secret", needed: "it is no private key of Ed25519 in PEM" };
            SigningKey::from_pem(pem).map(Credential::Signature).ok_or(refused)
        }
    }
}

#[cfg(test)]
mod tests;
