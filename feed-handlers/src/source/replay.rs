//! The replay: a capture file played into a feed, on a std thread of its own.
//!
//! Paced by the recorder's clock where the capture has it, else by the venue's times in the frames; or as
//! fast as the readers of the ring take it. Unlike a live venue a file can wait, so a replay never laps a
//! reader at any speed: before each frame it sees to it that the ring has room.
//!
//! Played to its end once, the source goes on to be up, in the state `ended`; its feed lives until the stop.

use std::collections::HashSet;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::capture::{Capture, CaptureError, CapturedFrame};
use super::{FeedState, FeedStatus, StartGate, Stop, wall_ns};
use crate::decode::coinbase::decode;
use crate::decode::event::{Age, Event, Symbol};
use crate::feed::Feed;

/// Ticks that a frame makes at most: a gap, and the trade that showed it. The smallest ring holds as many.
const FRAME_TICKS: u64 = 2;

/// How long a replay waits before it looks for room again: a reader frees thousands of slots in this time,
/// and a ring of 65,536 lasts for several of these pauses, so the pause costs no throughput.
const ROOM_PAUSE: Duration = Duration::from_micros(200);

/// A longer pause on the clock of the capture, either way, is none: the clock was set, a frame has an absurd
/// time, or two captures were put together. What follows is played on from there.
const PAUSE_MAX: Duration = Duration::from_secs(300);

/// How fast a capture is played.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Speed {
    /// So many times as fast as it was recorded; finite and above 0.
    Real(f64),
    /// As fast as the readers take it.
    Max,
}

/// The text is no speed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no speed: a number above 0 (1 is as recorded, 10 ten times as fast), or `max`")]
pub struct SpeedError(String);

impl FromStr for Speed {
    type Err = SpeedError;

    fn from_str(text: &str) -> Result<Speed, SpeedError> {
        match text.parse::<f64>() {
            _ if text == "max" => Ok(Speed::Max),
            Ok(factor) if factor.is_finite() && factor > 0.0 => Ok(Speed::Real(factor)),
            _ => Err(SpeedError(text.to_owned())),
        }
    }
}

impl std::fmt::Display for Speed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Speed::Real(factor) => write!(f, "{factor}"),
            Speed::Max => f.write_str("max"),
        }
    }
}

/// Plays a capture file. Played once, as recorded, and at once, unless told otherwise.
#[derive(Debug)]
pub struct Replay {
    capture: Capture,
    /// As the venue writes them.
    products: Vec<Box<str>>,
    speed: Speed,
    repeat: bool,
    gate: Option<Arc<StartGate>>,
    status: Arc<FeedStatus>,
}

impl Replay {
    /// Reads the capture through once: checks it, and collects the products in it.
    ///
    /// # Errors
    /// [`CaptureError`] where the file is no capture, or a cut one.
    pub fn open(path: &Path) -> Result<Replay, CaptureError> {
        let mut products: Vec<Box<str>> = Vec::new();
        let mut seen: HashSet<Box<str>> = HashSet::new();
        let capture = Capture::open(path, |frame| {
            // What is malformed is counted when it is played.
            let _ = decode(frame.bytes, &mut |event| {
                if let Some(product) = product(&event)
                    && let Ok(product) = std::str::from_utf8(product)
                    && !seen.contains(product)
                {
                    seen.insert(product.into());
                    products.push(product.into());
                }
            });
        })?;
        Ok(Replay { capture, products, speed: Speed::Real(1.0), repeat: false, gate: None, status: FeedStatus::new() })
    }

    pub fn speed(self, speed: Speed) -> Replay {
        Replay { speed, ..self }
    }

    /// Begins again at the end of the capture, without end. Ids, sequences and times go on rising.
    pub fn repeat(self, repeat: bool) -> Replay {
        Replay { repeat, ..self }
    }

    /// Holds the first frame back until the gate opens.
    pub fn hold(self, gate: Arc<StartGate>) -> Replay {
        Replay { gate: Some(gate), ..self }
    }

    /// The canonical symbols of the products in the capture, in order of first sight, so that their instruments
    /// can be known before the first tick. A malformed product is among them as it is.
    pub fn symbols(&self) -> impl Iterator<Item = String> {
        self.products.iter().map(|product| product.replacen('-', "/", 1))
    }

    pub fn capture(&self) -> &Capture {
        &self.capture
    }

    pub fn status(&self) -> Arc<FeedStatus> {
        Arc::clone(&self.status)
    }

    /// Starts the thread, which ends after `stop`.
    ///
    /// # Errors
    /// What the system says when it has no thread to give.
    pub fn spawn(self, feed: Feed, stop: Arc<Stop>) -> std::io::Result<JoinHandle<()>> {
        thread::Builder::new().name("feed-replay".into()).spawn(move || self.run(feed, &stop))
    }

    fn run(self, mut feed: Feed, stop: &Stop) {
        let path = self.capture.path().display();
        if let Some(gate) = &self.gate {
            self.status.set(FeedState::Held);
            if !gate.wait() {
                return;
            }
        }
        self.status.set(FeedState::Up);
        tracing::info!(%path, frames = self.capture.frames(), speed = %self.speed, "replay starts");
        loop {
            match self.play(&mut feed, stop) {
                Ok(Played::Stopped) => return,
                Ok(Played::ToTheEnd) if self.repeat => feed.start_lap(),
                Ok(Played::ToTheEnd) => {
                    self.status.set(FeedState::Ended);
                    tracing::info!(%path, "replay ended");
                    break;
                }
                // The file was whole when it was opened, so it was changed since.
                Err(error) => {
                    self.status.set(FeedState::Down);
                    tracing::error!(%error, "replay failed");
                    break;
                }
            }
        }
        // The feed, and with it the ring, lives as long as the process wants its sources to.
        stop.wait_forever();
    }

    /// Plays the capture once.
    fn play(&self, feed: &mut Feed, stop: &Stop) -> Result<Played, CaptureError> {
        let mut reader = self.capture.reader()?;
        let mut pace = Pace::new(self.speed);
        let mut room = Room::default();
        while let Some(frame) = reader.next_frame()? {
            let stopped = match pace.due(&frame, Instant::now()) {
                Some(due) => stop.wait_until(due),
                None => stop.is_stopped(),
            };
            if stopped || !room.wait(feed, stop) {
                return Ok(Played::Stopped);
            }
            feed.handle_frame(frame.bytes, wall_ns());
        }
        Ok(Played::ToTheEnd)
    }
}

enum Played {
    ToTheEnd,
    Stopped,
}

/// What the ring takes without lapping a reader.
#[derive(Default)]
pub(super) struct Room {
    /// So many records may be published in all, by what the readers had read when last asked.
    end: u64,
}

impl Room {
    /// Waits until there is room for the ticks of a frame; false at the stop.
    pub(super) fn wait(&mut self, feed: &mut Feed, stop: &Stop) -> bool {
        let publisher = feed.publisher();
        let need = publisher.published() + FRAME_TICKS;
        while self.end < need {
            self.end = publisher.published() + publisher.room() as u64;
            if self.end < need && stop.wait_until(Instant::now() + ROOM_PAUSE) {
                return false;
            }
        }
        true
    }
}

/// When each frame of one lap is due.
struct Pace {
    speed: Speed,
    /// A moment on the clock of the capture (Unix ns), and when that was on ours.
    anchor: Option<(i64, Instant)>,
    /// The latest time of the capture, Unix ns.
    latest_ns: i64,
    /// Products of which a ticker was seen: the first one tells old state under its old time.
    tickers: HashSet<Box<[u8]>>,
}

impl Pace {
    fn new(speed: Speed) -> Pace {
        Pace { speed, anchor: None, latest_ns: 0, tickers: HashSet::new() }
    }

    /// When the frame is due; `None` is now. Frames without a time follow the one before at once.
    fn due(&mut self, frame: &CapturedFrame<'_>, now: Instant) -> Option<Instant> {
        let Speed::Real(factor) = self.speed else { return None };
        let at_ns = frame.recorded_ns.or_else(|| self.venue_time(frame.bytes))?;
        let jump = at_ns.abs_diff(self.latest_ns) > PAUSE_MAX.as_nanos() as u64;
        let (anchor_ns, anchor) = match self.anchor {
            Some(anchor) if !jump => anchor,
            _ => {
                self.latest_ns = at_ns;
                *self.anchor.insert((at_ns, now))
            }
        };
        self.latest_ns = self.latest_ns.max(at_ns);
        let recorded = Duration::from_nanos(u64::try_from(at_ns.saturating_sub(anchor_ns)).unwrap_or(0));
        let played = Duration::try_from_secs_f64(recorded.as_secs_f64() / factor).unwrap_or(Duration::MAX);
        Some(anchor.checked_add(played).unwrap_or(now + PAUSE_MAX))
    }

    /// The time of what a frame tells as new, Unix ns.
    fn venue_time(&mut self, frame: &[u8]) -> Option<i64> {
        let mut latest = None;
        // What is malformed is counted when it is played.
        let _ = decode(frame, &mut |event| {
            match event {
                // The first one of a product is of a subscription: old state.
                Event::Quote(quote) => {
                    let Symbol::Text(product) = quote.symbol else { return };
                    if self.tickers.contains(product) {
                        latest = latest.max(quote.time);
                    } else {
                        self.tickers.insert(product.into());
                    }
                }
                Event::Trade(trade) if trade.age == Age::Live => latest = latest.max(Some(trade.time)),
                Event::Heartbeat(heartbeat) => latest = latest.max(heartbeat.time),
                Event::BookEnd(book) => latest = latest.max(book.time),
                _ => {}
            }
        });
        latest
    }
}

/// The product that an event is about.
fn product<'a>(event: &Event<'a>) -> Option<&'a [u8]> {
    let symbol = match *event {
        Event::Trade(trade) => trade.symbol,
        Event::Quote(quote) => quote.symbol,
        Event::BookBegin(book) => book.symbol,
        Event::Heartbeat(heartbeat) => heartbeat.symbol?,
        _ => return None,
    };
    match symbol {
        Symbol::Text(name) => Some(name),
        Symbol::Token(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_speeds() {
        for (text, speed) in
            [("1", Speed::Real(1.0)), ("0.5", Speed::Real(0.5)), ("10", Speed::Real(10.0)), ("max", Speed::Max)]
        {
            assert_eq!(text.parse(), Ok(speed));
            assert_eq!(speed.to_string(), text);
        }
        for text in ["", "0", "-1", "inf", "NaN", "fast", "Max", "1x"] {
            let message = text.parse::<Speed>().unwrap_err().to_string();
            assert!(message.starts_with(&format!("`{text}` is no speed")), "{message}");
        }
    }

    /// `frames`: `(frame, recorder's time in ms, expected due time in ms after the start)`.
    #[track_caller]
    fn check_pace(speed: f64, frames: &[(&str, Option<i64>, Option<u64>)]) {
        let start = Instant::now();
        let mut pace = Pace::new(Speed::Real(speed));
        for (text, recorded_ms, expected_ms) in frames {
            let frame = CapturedFrame { bytes: text.as_bytes(), recorded_ns: recorded_ms.map(|ms| ms * 1_000_000) };
            let due = pace.due(&frame, start);
            assert_eq!(due, expected_ms.map(|ms| start + Duration::from_millis(ms)), "{text} {recorded_ms:?}");
        }
    }

    #[test]
    fn the_recorders_clock_sets_the_pace() {
        let day = 86_400_000;
        check_pace(
            10.0,
            &[
                ("{}", Some(day), Some(0)),
                ("{}", Some(day + 1_000), Some(100)),
                ("{}", Some(day + 500), Some(50)),
                ("not json", Some(day + 250_000), Some(25_000)),
                // Longer than any pause: the clock was set, or captures were put together.
                ("{}", Some(9 * day), Some(0)),
                ("{}", Some(9 * day + 2_000), Some(200)),
                ("{}", Some(day), Some(0)),
                ("{}", Some(day + 10), Some(1)),
            ],
        );
    }

    #[test]
    fn without_it_the_venues_times_do() {
        let frame = |kind: &str, time: &str| {
            format!(
                r#"{{"type":"{kind}","trade_id":1,"sequence":1,"side":"sell","size":"1","price":"1","product_id":"BTC-USD","time":"2021-04-17T16:43:{time}Z"}}"#
            )
        };
        check_pace(
            0.5,
            &[
                (r#"{"type":"subscriptions","channels":[]}"#, None, None),
                // Old state: what happened last before the subscription.
                (&frame("last_match", "00"), None, None),
                (&frame("ticker", "00"), None, None),
                (&frame("match", "30.5"), None, Some(0)),
                (&frame("ticker", "31.5"), None, Some(2_000)),
                (&frame("match", "32"), None, Some(3_000)),
                (&frame("heartbeat", "31.75"), None, Some(2_500)),
                ("garbage", None, None),
            ],
        );
    }

    #[test]
    fn absurd_times_and_speeds_do_not_panic() {
        let frames = [0, i64::MAX, i64::MIN, -1, 1, i64::MAX - 1, i64::MAX];
        for speed in [f64::MIN_POSITIVE, f64::MAX, f64::NAN, -1.0] {
            let mut pace = Pace::new(Speed::Real(speed));
            for at in frames {
                pace.due(&CapturedFrame { bytes: b"{}", recorded_ns: Some(at) }, Instant::now());
            }
        }
    }
}
