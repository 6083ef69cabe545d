//! Sources: what brings the venue's frames to a [`crate::feed::Feed`].
//!
//! Every source runs on one thread of its own, which owns its `Feed` and so is the only producer of that
//! feed's ring. A source knows sockets, files and clocks, and nothing of the meaning of a frame beyond what it
//! needs to pace or supervise; whatever it reads goes through the same decoder. Sources share nothing but
//! a [`Stop`], by which the process ends them, and their [`FeedStatus`], by which they tell how they are.

mod alpha_vantage;
mod backoff;
mod capture;
mod dial;
mod dialogue;
mod fix;
pub mod http;
mod http_settings;
mod http_stream;
mod iex_cloud;
mod itch_file;
mod itch_udp;
mod lines;
mod live;
mod live_settings;
mod market;
mod oanda;
mod pace;
mod poll_schedule;
mod random;
mod records;
mod replay;
mod script;
mod secret;
mod simulator;
mod timings;
mod tls;
mod venues;

pub use alpha_vantage::{AlphaVantageLive, AlphaVantageSettings, EquityFunction, IntradayInterval, PollTimings};
pub use capture::{Capture, CaptureError, CaptureReader, CapturedFrame, LINE_BYTES_MAX};
pub use fix::{FixChannel, FixDialect, FixLive, FixNumbers, FixQuotes, FixSettings, FixSettingsError};
pub use http_settings::HttpSettingsError;
pub use iex_cloud::{IexCloudLive, IexCloudSettings};
pub use itch_file::ItchFile;
pub use itch_udp::{ItchLine, ItchUdp, ItchUdpError, ItchUdpSettings};
pub use live::Live;
pub use live_settings::{Credentials, Encoding, LiveError, LiveSettings};
pub use oanda::{OandaLive, OandaSettings};
pub use poll_schedule::PollBudget;
pub use records::{RecordFeed, Records, RecordsError};
pub use replay::{Replay, Speed, SpeedError};
pub use secret::Secret;
pub use simulator::{Bursts, Simulator, SimulatorError, SimulatorSettings, default_symbols};
pub use timings::Timings;

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How a source is, for readiness and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FeedState {
    /// Nothing comes: not started, not connected, or failed for good.
    Down = 0,
    /// Connected, but silent for longer than the venue ever is.
    Stale = 1,
    /// Frames come.
    Up = 2,
    /// Ready, and held back until its [`StartGate`] opens.
    Held = 3,
    /// The capture was played to its end.
    Ended = 4,
}

impl FeedState {
    pub const ALL: [FeedState; 5] =
        [FeedState::Down, FeedState::Stale, FeedState::Up, FeedState::Held, FeedState::Ended];

    /// The name of the state, as labels and logs write it.
    pub const fn name(self) -> &'static str {
        match self {
            FeedState::Down => "down",
            FeedState::Stale => "stale",
            FeedState::Up => "up",
            FeedState::Held => "held",
            FeedState::Ended => "ended",
        }
    }

    /// Whether the source does all that it can do: a replay that waits for clients or that came to its end
    /// is as well as one that plays.
    pub const fn is_up(self) -> bool {
        matches!(self, FeedState::Up | FeedState::Held | FeedState::Ended)
    }
}

/// The state of one source: written by its thread, read by anyone.
#[derive(Debug)]
pub struct FeedStatus {
    state: AtomicU8,
    /// Why it is not up.
    trouble: Mutex<Option<Arc<str>>>,
}

impl FeedStatus {
    fn new() -> Arc<FeedStatus> {
        Arc::new(FeedStatus { state: AtomicU8::new(FeedState::Down as u8), trouble: Mutex::new(None) })
    }

    /// Why the source is not up, in words for whoever runs it and without secrets, as far as there is more to say than
    /// its state.
    pub fn trouble(&self) -> Option<Arc<str>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// As [`Self::set`], to a state in which the source is not up, for this reason. Who sees the state finds its reason.
    fn set_troubled(&self, state: FeedState, trouble: &str) -> bool {
        debug_assert!(!state.is_up());
        self.set_trouble(Some(trouble));
        self.set(state)
    }

    /// Tells everybody how a live source of `host` is, in words where that changed: heard, or silent for `stale`.
    fn tell(&self, state: FeedState, host: &str, stale: Duration) {
        if self.state() == state {
            return;
        }
        if state == FeedState::Stale {
            let trouble = format!("silent for {stale:?}");
            tracing::warn!(host, "the venue is {trouble}");
            self.set_troubled(state, &trouble);
        } else {
            tracing::info!(host, "the venue is heard");
            self.set(state);
        }
    }

    fn set_trouble(&self, trouble: Option<&str>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble.map(Arc::from);
    }

    pub fn state(&self) -> FeedState {
        // Relaxed: a gauge; nothing else is read on the strength of it.
        let state = self.state.load(Ordering::Relaxed);
        FeedState::ALL.get(usize::from(state)).copied().unwrap_or(FeedState::Down)
    }

    /// Sets the state and tells whether it is another one than before. Only the source's thread calls this, for
    /// every frame, so it does not write what stands there.
    fn set(&self, state: FeedState) -> bool {
        let changes = self.state() != state;
        if changes {
            if state.is_up() {
                self.set_trouble(None);
            }
            // Relaxed: see `state`. The reason has a lock of its own.
            self.state.store(state as u8, Ordering::Relaxed);
        }
        changes
    }
}

/// The signal by which sources are told to end. Set once, never taken back; threads and tasks can wait for
/// it.
#[derive(Debug, Default)]
pub struct Stop {
    stopped: AtomicBool,
    /// Guards no data: it orders a change against the check of a thread that is about to wait.
    lock: Mutex<()>,
    changed: Condvar,
    tasks: tokio::sync::Notify,
}

impl Stop {
    pub fn new() -> Arc<Stop> {
        Arc::new(Stop::default())
    }

    /// Tells everybody who holds this to end.
    pub fn stop(&self) {
        // Release: who sees the stop sees what its caller did before.
        self.stopped.store(true, Ordering::Release);
        self.wake();
        self.tasks.notify_waiters();
    }

    pub fn is_stopped(&self) -> bool {
        // Acquire: pairs with `stop`.
        self.stopped.load(Ordering::Acquire)
    }

    /// Waits for the stop or for `deadline`, whichever is first, and tells whether it was the stop.
    pub fn wait_until(&self, deadline: Instant) -> bool {
        self.wait(Some(deadline), || false);
        self.is_stopped()
    }

    /// Waits for the stop.
    pub fn wait_forever(&self) {
        self.wait(None, || false);
    }

    /// Waits for the stop, in a task.
    pub async fn stopped(&self) {
        // Made before the check: a `stop` after the check then wakes it, even if it was not polled yet.
        let woken = self.tasks.notified();
        if !self.is_stopped() {
            woken.await;
        }
    }

    /// Waits until `ready`, the stop or the deadline.
    fn wait(&self, deadline: Option<Instant>, ready: impl Fn() -> bool) {
        let mut guard = self.lock();
        while !self.is_stopped() && !ready() {
            guard = match deadline {
                None => self.changed.wait(guard).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let Some(left) = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
                    else {
                        return;
                    };
                    self.changed.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// Wakes the threads that wait, so that they look again.
    fn wake(&self) {
        drop(self.lock());
        self.changed.notify_all();
    }

    /// The lock guards no data, so a thread that panicked with it left nothing half done.
    fn lock(&self) -> MutexGuard<'_, ()> {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Holds a replay back until whoever counts the clients opens it. Once open, open for good.
#[derive(Debug)]
pub struct StartGate {
    open: AtomicBool,
    /// A source that waits for the gate also waits for the end.
    stop: Arc<Stop>,
}

impl StartGate {
    /// A closed gate for sources that are ended by `stop`.
    pub fn closed(stop: &Arc<Stop>) -> Arc<StartGate> {
        Arc::new(StartGate { open: AtomicBool::new(false), stop: Arc::clone(stop) })
    }

    /// Lets the sources behind the gate start.
    pub fn open(&self) {
        // Release: who starts sees what was done before the gate was opened.
        if !self.open.swap(true, Ordering::Release) {
            self.stop.wake();
        }
    }

    pub fn is_open(&self) -> bool {
        // Acquire: pairs with `open`.
        self.open.load(Ordering::Acquire)
    }

    /// Waits until the gate is open or the stop is set, and tells whether it is open.
    pub fn wait(&self) -> bool {
        self.stop.wait(None, || self.is_open());
        self.is_open()
    }
}

/// This machine's wall clock, Unix ns.
fn wall_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn a_stop_ends_every_wait() {
        let stop = Stop::new();
        let gate = StartGate::closed(&stop);
        let threads = [
            thread::spawn({
                let stop = Arc::clone(&stop);
                move || stop.wait_until(Instant::now() + Duration::from_secs(3600))
            }),
            thread::spawn({
                let gate = Arc::clone(&gate);
                move || !gate.wait()
            }),
            thread::spawn({
                let stop = Arc::clone(&stop);
                move || {
                    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                    runtime.block_on(stop.stopped());
                    true
                }
            }),
        ];
        stop.stop();
        for thread in threads {
            assert!(thread.join().unwrap());
        }
        assert!(stop.is_stopped() && !gate.is_open());
        stop.wait_forever();
    }

    #[test]
    fn a_deadline_is_no_stop() {
        let stop = Stop::new();
        let start = Instant::now();
        assert!(!stop.wait_until(start + Duration::from_millis(5)));
        assert!(start.elapsed() >= Duration::from_millis(5));
        assert!(!stop.wait_until(start));
    }

    #[test]
    fn a_gate_opens_once() {
        let stop = Stop::new();
        let gate = StartGate::closed(&stop);
        let waiting = thread::spawn({
            let gate = Arc::clone(&gate);
            move || gate.wait()
        });
        gate.open();
        gate.open();
        assert!(waiting.join().unwrap());
        assert!(gate.wait());
    }

    #[test]
    fn states_are_kept_by_their_number() {
        let status = FeedStatus::new();
        assert_eq!(status.state(), FeedState::Down);
        for state in FeedState::ALL {
            status.set_trouble(Some("cut"));
            let changed = status.state() != state;
            assert_eq!(status.set(state), changed);
            assert_eq!(status.state(), state);
            assert_eq!(status.trouble().is_some(), !(changed && state.is_up()), "{state:?}");
        }
    }
}
