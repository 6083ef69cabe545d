//! The doorbell: how a thread that reads rings sleeps while they are all empty, and how a publisher wakes
//! it without paying for that while it is awake. An eventcount: one word and, for parked waiters, a
//! condition variable.
//!
//! Any thread may ring and any thread may wait; in the gateway every feed's thread rings, and the sequencer
//! waits for all of its rings on one doorbell.
//!
//! A wake-up costs tens of microseconds until the woken thread has a core. Where the waiters' work is small and behind a
//! lock, the ringer can do it instead: the doorbell's *stand-in* ([`Doorbell::set_stand_in`]).
//!
//! Deliberately absent: memory of rings. A ring that comes while nobody waits leaves no trace, so whatever a
//! waiter is to notice (records, a stop flag) belongs in the condition that it passes to
//! [`Doorbell::wait`]. Then no wake-up is lost: the waiter announces itself before it looks at the
//! condition, the ringer changes the condition before it looks for waiters, and a full fence on both sides
//! lets at least one of them see the other.

use std::{
    fmt,
    str::FromStr,
    sync::{OnceLock, PoisonError},
    time::{Duration, Instant},
};

use crossbeam::utils::CachePadded;

use crate::sync::{AtomicU64, Condvar, Mutex, MutexGuard, Ordering, fence, spin_loop, yield_now};

/// How a thread waits on a [`Doorbell`] while there is nothing to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WaitStrategy {
    /// Looks again and again: the shortest delay, for a core that belongs to the waiting thread.
    Spin,
    /// Looks again after each offer of the core to another thread.
    Yield,
    /// Spins for a few microseconds, then sleeps in the kernel until rung.
    #[default]
    Park,
}

impl WaitStrategy {
    /// Every strategy, in the order of falling cost while idle.
    pub const ALL: [WaitStrategy; 3] = [WaitStrategy::Spin, WaitStrategy::Yield, WaitStrategy::Park];

    /// The name in configuration.
    pub fn name(self) -> &'static str {
        match self {
            WaitStrategy::Spin => "spin",
            WaitStrategy::Yield => "yield",
            WaitStrategy::Park => "park",
        }
    }
}

impl fmt::Display for WaitStrategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A text that names no [`WaitStrategy`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown wait strategy {given:?}: one of spin, yield, park")]
pub struct UnknownWaitStrategy {
    pub given: String,
}

impl FromStr for WaitStrategy {
    type Err = UnknownWaitStrategy;

    /// Parses a [`WaitStrategy::name`], which is lower case.
    ///
    /// # Errors
    /// [`UnknownWaitStrategy`] for any other text.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named = WaitStrategy::ALL.into_iter().find(|strategy| strategy.name() == text);
        named.ok_or_else(|| UnknownWaitStrategy { given: text.to_owned() })
    }
}

/// Why [`Doorbell::wait`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// The condition holds.
    Ready,
    /// Somebody rang; the condition may hold or not. What was written before that ring is visible.
    Rung,
    /// The time is over; the condition did not hold when last looked at.
    TimedOut,
}

/// The state word counts waiters in bits 0..16, those of them that are parked in bits 16..32, and rings, as
/// far as there was somebody to hear them, in bits 32..64 (wrapping).
///
/// One word for all three, so that its modification order decides every race: a ring either comes before a
/// waiter's step from spinning to parked, which then sees the changed count and does not sleep, or after
/// it, and then sees that it must use the condition variable.
const WAITER: u64 = 1;
const WAITERS: u64 = 0xffff;
const PARKED: u64 = 1 << 16;
const ALL_PARKED: u64 = 0xffff << 16;
const RUNG: u64 = 1 << 32;

/// Looks at the condition before a waiter parks. A pause is 40 to 140 cycles on current x86, so this is 1 to
/// 5 us at 3 GHz: the order of what a sleep and a wake-up in the kernel cost, which bounds the loss to twice
/// the best choice whatever comes next.
const PARK_SPINS: u32 = if cfg!(loom) { 1 } else { 100 };

/// Turns of a spinning waiter between two looks at the clock, which cost about as much as one pause.
const CLOCK_TURNS: u32 = 32;

/// Wakes threads that wait for a condition which other threads make true. See the module's text.
pub struct Doorbell {
    strategy: WaitStrategy,
    stand_in: OnceLock<StandIn>,
    state: CachePadded<AtomicU64>,
    /// Orders a ringer's notification against a waiter between its last look and its sleep. Guards no data.
    gate: Mutex<()>,
    bell: Condvar,
}

/// Does what the waiters would do if they were woken; true where nothing is left for them.
///
/// It must take in every change made before it was called, or say false. It may be called by several threads at a time,
/// and while a waiter is about to wake for another reason.
pub type StandIn = Box<dyn Fn() -> bool + Send + Sync>;

impl Doorbell {
    pub fn new(strategy: WaitStrategy) -> Doorbell {
        Doorbell {
            strategy,
            stand_in: OnceLock::new(),
            state: CachePadded::new(AtomicU64::new(0)),
            gate: Mutex::new(()),
            bell: Condvar::new(),
        }
    }

    /// Gives the doorbell somebody who works in place of waiters that sleep: see [`Self::ring_or_stand_in`]. Only the
    /// first one counts.
    pub fn set_stand_in(&self, stand_in: impl Fn() -> bool + Send + Sync + 'static) {
        // An error is a second stand-in, which does not count.
        let _ = self.stand_in.set(Box::new(stand_in));
    }

    pub fn strategy(&self) -> WaitStrategy {
        self.strategy
    }

    /// Wakes every thread that is waiting now. Call it after the change that they wait for.
    ///
    /// Costs a fence and a load while nobody waits, one atomic addition more while somebody spins, and a
    /// system call only while somebody is parked.
    pub fn ring(&self) {
        // Pairs with the fence in `register`: puts the caller's change before this look for waiters. Of that
        // fence and this one the first decides: either the waiter sees the change, or this load its +WAITER.
        fence(Ordering::SeqCst);
        // Must see, by the fences, the +WAITER of every waiter that did not see the caller's change.
        if self.state.load(Ordering::Relaxed) & WAITERS == 0 {
            return;
        }
        // Relaxed: the fence above already releases; a waiter that acquires the new count in `is_rung` sees the
        // caller's change as well.
        let before = self.state.fetch_add(RUNG, Ordering::Relaxed);
        if before & ALL_PARKED != 0 {
            // A waiter holds the gate from its last look at the count until it sleeps: with the gate in hand,
            // it either sleeps and is woken below, or has yet to look and will see the count.
            drop(self.lock());
            self.bell.notify_all();
        }
    }

    /// As [`Self::ring`], but where all waiters are parked, the stand-in is asked first to do their work on this thread.
    /// That saves the wake-up, some tens of microseconds until another thread has a core.
    pub fn ring_or_stand_in(&self) {
        // As in `ring`.
        fence(Ordering::SeqCst);
        let state = self.state.load(Ordering::Relaxed);
        if state & WAITERS == 0 {
            return;
        }
        // A waiter that is about to park has not seen the change, and need not: either the stand-in takes it in, or the
        // waiter is rung, which it sees before it sleeps.
        let all_parked = state & WAITERS == (state & ALL_PARKED) / PARKED;
        if all_parked && self.stand_in.get().is_some_and(|stand_in| stand_in()) {
            return;
        }
        self.ring();
    }

    /// Waits until `ready()` is true, somebody rings, or `timeout` is over (`None`: no limit), whichever is
    /// first. `ready` is called often and should only load a few atomics; it holds no lock of the doorbell.
    ///
    /// A waiter in [`WaitStrategy::Spin`] or `Yield` overruns its timeout by up to 32 turns.
    pub fn wait(&self, ready: impl Fn() -> bool, timeout: Option<Duration>) -> Wake {
        // Without a word to anybody while there is work: a busy reader costs the ringers nothing.
        if ready() {
            return Wake::Ready;
        }
        // A limit beyond what the clock can express is no limit.
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut waiter = self.register();
        let mut turn = 0u32;
        loop {
            if ready() {
                return Wake::Ready;
            }
            if waiter.is_rung() {
                return Wake::Rung;
            }
            if turn.is_multiple_of(CLOCK_TURNS) && deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Wake::TimedOut;
            }
            match self.strategy {
                WaitStrategy::Yield => yield_now(),
                WaitStrategy::Park if turn >= PARK_SPINS => return waiter.park(deadline),
                WaitStrategy::Spin | WaitStrategy::Park => spin_loop(),
            }
            turn = turn.wrapping_add(1);
        }
    }

    fn register(&self) -> Waiter<'_> {
        // Relaxed: the fence below orders it; the value is the latest in any case, as of every
        // read-modify-write.
        let before = self.state.fetch_add(WAITER, Ordering::Relaxed);
        debug_assert!(before & WAITERS < WAITERS, "Invariant: fewer than 65,536 threads wait on one doorbell");
        // Pairs with the fence in `ring`: puts +WAITER before the looks at the condition that follow.
        fence(Ordering::SeqCst);
        Waiter { doorbell: self, share: WAITER, seen: before / RUNG }
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        // Guards no data, so that a panic elsewhere leaves nothing broken behind.
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Doorbell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Doorbell { strategy, stand_in, state, gate: _, bell: _ } = self;
        let stand_in = stand_in.get().is_some();
        f.debug_struct("Doorbell")
            .field("strategy", strategy)
            .field("stand_in", &stand_in)
            .field("state", state)
            .finish()
    }
}

/// One thread's presence at the doorbell; taken back on drop, so that a `ready` that panics leaves no ghost.
struct Waiter<'a> {
    doorbell: &'a Doorbell,
    /// What this waiter added to the state word: `WAITER`, or `WAITER + PARKED`.
    share: u64,
    /// The count of rings when it registered.
    seen: u64,
}

impl Waiter<'_> {
    fn is_rung(&self) -> bool {
        // Acquire: pairs with the fence in `ring`, whose caller's change the woken thread is to see.
        self.doorbell.state.load(Ordering::Acquire) / RUNG != self.seen
    }

    /// Sleeps until rung or `deadline`.
    ///
    /// The condition needs no further look: it was false after the registration, and whoever makes it true
    /// after that rings and finds a waiter.
    fn park(&mut self, deadline: Option<Instant>) -> Wake {
        // Relaxed: only its place among the changes of this one word counts (see `WAITER`); `is_rung`
        // acquires.
        self.doorbell.state.fetch_add(PARKED, Ordering::Relaxed);
        self.share += PARKED;
        let mut gate = self.doorbell.lock();
        while !self.is_rung() {
            gate = match deadline {
                None => self.doorbell.bell.wait(gate).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Wake::TimedOut;
                    }
                    self.doorbell.bell.wait_timeout(gate, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        Wake::Rung
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        // Relaxed: a ringer that still sees the waiter rings once for nothing.
        self.doorbell.state.fetch_sub(self.share, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicBool, AtomicUsize},
        },
        thread,
    };

    use super::*;

    /// Longer than any of these tests takes unless a wake-up is lost.
    const FOREVER: Duration = Duration::from_secs(600);

    #[test]
    fn strategies_have_names() {
        let check = |text: &str, expected: Option<WaitStrategy>| {
            let parsed = text.parse::<WaitStrategy>();
            assert_eq!(parsed.clone().ok(), expected, "{text:?}");
            match parsed {
                Ok(strategy) => assert_eq!(strategy.to_string(), text),
                Err(error) => {
                    assert_eq!(error.to_string(), format!("unknown wait strategy {text:?}: one of spin, yield, park"))
                }
            }
        };
        check("spin", Some(WaitStrategy::Spin));
        check("yield", Some(WaitStrategy::Yield));
        check("park", Some(WaitStrategy::Park));
        check("Park", None);
        check(" park", None);
        check("", None);
    }

    #[test]
    fn a_true_condition_needs_no_ring() {
        for strategy in WaitStrategy::ALL {
            let doorbell = Doorbell::new(strategy);
            assert_eq!(doorbell.wait(|| true, None), Wake::Ready, "{strategy}");
            assert_eq!(doorbell.wait(|| true, Some(Duration::ZERO)), Wake::Ready, "{strategy}");
            assert_eq!(doorbell.state.load(Ordering::Relaxed), 0, "{strategy}");
        }
    }

    #[test]
    fn silence_ends_with_the_timeout() {
        for strategy in WaitStrategy::ALL {
            let doorbell = Doorbell::new(strategy);
            for timeout in [Duration::ZERO, Duration::from_micros(1), Duration::from_millis(3)] {
                let start = Instant::now();
                assert_eq!(doorbell.wait(|| false, Some(timeout)), Wake::TimedOut, "{strategy} {timeout:?}");
                assert!(start.elapsed() >= timeout, "{strategy} {timeout:?}");
                assert_eq!(doorbell.state.load(Ordering::Relaxed), 0, "{strategy} {timeout:?}");
            }
        }
    }

    #[test]
    fn a_limit_beyond_the_clock_is_no_limit() {
        for strategy in WaitStrategy::ALL {
            let doorbell = Doorbell::new(strategy);
            let looks = AtomicUsize::new(0);
            let third = || looks.fetch_add(1, Ordering::Relaxed) == 2;
            assert_eq!(doorbell.wait(third, Some(Duration::MAX)), Wake::Ready, "{strategy}");
        }
    }

    #[test]
    fn a_ring_while_nobody_waits_leaves_no_trace() {
        let doorbell = Doorbell::new(WaitStrategy::Park);
        doorbell.ring();
        assert_eq!(doorbell.state.load(Ordering::Relaxed), 0);
        assert_eq!(doorbell.wait(|| false, Some(Duration::from_millis(1))), Wake::TimedOut);
    }

    #[test]
    fn a_ring_wakes_every_waiter_in_any_phase() {
        for strategy in WaitStrategy::ALL {
            let doorbell = Doorbell::new(strategy);
            thread::scope(|scope| {
                let waiters: Vec<_> = (0..3).map(|_| scope.spawn(|| doorbell.wait(|| false, Some(FOREVER)))).collect();
                // All three are there, and parked where the strategy parks.
                let phase = if strategy == WaitStrategy::Park { 3 * (PARKED + WAITER) } else { 3 * WAITER };
                while doorbell.state.load(Ordering::Relaxed) != phase {
                    yield_now();
                }
                doorbell.ring();
                for waiter in waiters {
                    assert_eq!(waiter.join().unwrap(), Wake::Rung, "{strategy}");
                }
            });
            assert_eq!(doorbell.state.load(Ordering::Relaxed), RUNG, "{strategy}: one ring heard, nobody left");
        }
    }

    #[test]
    fn the_count_of_rings_may_wrap() {
        let doorbell = Doorbell::new(WaitStrategy::Park);
        doorbell.state.store(u64::from(u32::MAX) * RUNG, Ordering::Relaxed);
        thread::scope(|scope| {
            let waiter = scope.spawn(|| doorbell.wait(|| false, Some(FOREVER)));
            while doorbell.state.load(Ordering::Relaxed) & ALL_PARKED == 0 {
                yield_now();
            }
            doorbell.ring();
            assert_eq!(waiter.join().unwrap(), Wake::Rung);
        });
        assert_eq!(doorbell.state.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_panicking_condition_leaves_no_waiter_behind() {
        let doorbell = Arc::new(Doorbell::new(WaitStrategy::Park));
        let inside = Arc::clone(&doorbell);
        let looks = AtomicUsize::new(0);
        // The second look is the one after the registration.
        let waiter = thread::spawn(move || {
            inside.wait(|| if looks.fetch_add(1, Ordering::Relaxed) == 1 { panic!("on purpose") } else { false }, None)
        });
        assert!(waiter.join().is_err());
        assert_eq!(doorbell.state.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_stand_in_works_while_waiters_sleep() {
        let doorbell = Arc::new(Doorbell::new(WaitStrategy::Park));
        let asked = Arc::new(AtomicUsize::new(0));
        let willing = Arc::new(AtomicBool::new(true));
        let (count, will) = (Arc::clone(&asked), Arc::clone(&willing));
        doorbell.set_stand_in(move || {
            count.fetch_add(1, Ordering::Relaxed);
            will.load(Ordering::Relaxed)
        });
        doorbell.ring_or_stand_in();
        assert_eq!(asked.load(Ordering::Relaxed), 0, "nobody waits");
        thread::scope(|scope| {
            let waiter = scope.spawn(|| doorbell.wait(|| false, Some(FOREVER)));
            while doorbell.state.load(Ordering::Relaxed) != PARKED + WAITER {
                yield_now();
            }
            doorbell.ring_or_stand_in();
            assert_eq!(asked.load(Ordering::Relaxed), 1);
            assert_eq!(doorbell.state.load(Ordering::Relaxed), PARKED + WAITER, "the waiter sleeps on");
            willing.store(false, Ordering::Relaxed);
            doorbell.ring_or_stand_in();
            assert_eq!(waiter.join().unwrap(), Wake::Rung, "the stand-in could not do it");
            assert_eq!(asked.load(Ordering::Relaxed), 2);
        });
    }

    #[test]
    fn who_is_awake_needs_no_stand_in() {
        let doorbell = Arc::new(Doorbell::new(WaitStrategy::Yield));
        doorbell.set_stand_in(|| panic!("nobody sleeps"));
        thread::scope(|scope| {
            let waiter = scope.spawn(|| doorbell.wait(|| false, Some(FOREVER)));
            while doorbell.state.load(Ordering::Relaxed) != WAITER {
                yield_now();
            }
            doorbell.ring_or_stand_in();
            assert_eq!(waiter.join().unwrap(), Wake::Rung);
        });
    }

    /// Two threads take turns, each waking the other: a lost wake-up stops both.
    #[test]
    fn turns_are_never_lost() {
        let rounds = if cfg!(miri) { 20 } else { 5_000 };
        for strategy in [WaitStrategy::Yield, WaitStrategy::Park] {
            let (ping, pong) = (Doorbell::new(strategy), Doorbell::new(strategy));
            let turn = AtomicUsize::new(0);
            let alone = AtomicBool::new(false);
            let play = |own: &Doorbell, other: &Doorbell, first: usize| {
                for round in 0..rounds {
                    let due = 2 * round + first;
                    while turn.load(Ordering::Acquire) != due {
                        let woken = own.wait(|| turn.load(Ordering::Acquire) == due, Some(FOREVER));
                        alone.fetch_or(woken == Wake::TimedOut, Ordering::Relaxed);
                    }
                    turn.store(due + 1, Ordering::Release);
                    other.ring();
                }
            };
            thread::scope(|scope| {
                scope.spawn(|| play(&ping, &pong, 0));
                play(&pong, &ping, 1);
            });
            assert!(!alone.load(Ordering::Relaxed), "{strategy}: a wake-up was lost");
            assert_eq!(turn.load(Ordering::Relaxed), 2 * rounds, "{strategy}");
        }
    }
}

/// Every interleaving. A lost wake-up leaves a parked thread that nobody will wake, which loom reports as a
/// deadlock; the plain store makes sure that it is the fences that carry the condition.
#[cfg(all(test, loom))]
mod loom_tests {
    use std::sync::Arc;

    use loom::thread;

    use super::*;
    use crate::sync::explore;

    #[test]
    fn a_change_before_the_ring_wakes_the_waiter() {
        for strategy in WaitStrategy::ALL {
            explore(None, move || {
                let doorbell = Arc::new(Doorbell::new(strategy));
                let changed = Arc::new(AtomicU64::new(0));
                let (bell, flag) = (Arc::clone(&doorbell), Arc::clone(&changed));
                let ringer = thread::spawn(move || {
                    flag.store(1, Ordering::Relaxed);
                    bell.ring();
                });
                let woken = doorbell.wait(|| changed.load(Ordering::Relaxed) == 1, None);
                // After a ring as after a true condition, the change is there.
                assert_eq!(changed.load(Ordering::Relaxed), 1, "{woken:?}");
                ringer.join().unwrap();
                assert_eq!(doorbell.state.load(Ordering::Relaxed) % RUNG, 0);
            });
        }
    }

    #[test]
    fn two_ringers_and_one_waiter_for_both() {
        explore(Some(3), || {
            let doorbell = Arc::new(Doorbell::new(WaitStrategy::Park));
            let changes = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
            let ringers = [0, 1].map(|own| {
                let (bell, flags) = (Arc::clone(&doorbell), Arc::clone(&changes));
                thread::spawn(move || {
                    flags[own].store(1, Ordering::Relaxed);
                    bell.ring();
                })
            });
            let all = || changes.iter().all(|flag| flag.load(Ordering::Relaxed) == 1);
            while !all() {
                doorbell.wait(all, None);
            }
            for ringer in ringers {
                ringer.join().unwrap();
            }
        });
    }

    /// Work is done by the waiter, or by a stand-in while the waiter is not at it: none is left when all sleep.
    #[test]
    fn what_a_stand_in_leaves_the_waiter_does() {
        explore(Some(3), || {
            let doorbell = Arc::new(Doorbell::new(WaitStrategy::Park));
            let waiting = Arc::new(AtomicU64::new(0));
            let done = Arc::new(Mutex::new(0));
            let take = {
                let (waiting, done) = (Arc::clone(&waiting), Arc::clone(&done));
                move || {
                    let Ok(mut done) = done.try_lock() else { return false };
                    *done += waiting.swap(0, Ordering::Relaxed);
                    // A look, so that the model has a step between the work and the end of the lock.
                    waiting.load(Ordering::Relaxed) == 0
                }
            };
            doorbell.set_stand_in(take.clone());
            let ringers = [0, 1].map(|_| {
                let (bell, waiting) = (Arc::clone(&doorbell), Arc::clone(&waiting));
                thread::spawn(move || {
                    waiting.fetch_add(1, Ordering::Relaxed);
                    bell.ring_or_stand_in();
                })
            });
            let ended = Arc::new(AtomicU64::new(0));
            let waiter = {
                let (bell, waiting) = (Arc::clone(&doorbell), Arc::clone(&waiting));
                let (done, ended) = (Arc::clone(&done), Arc::clone(&ended));
                thread::spawn(move || {
                    let ready = || waiting.load(Ordering::Relaxed) > 0 || ended.load(Ordering::Relaxed) == 1;
                    while ended.load(Ordering::Relaxed) == 0 {
                        let mut done = done.lock().unwrap();
                        *done += waiting.swap(0, Ordering::Relaxed);
                        if *done == 2 {
                            return;
                        }
                        drop(done);
                        bell.wait(ready, None);
                    }
                })
            };
            for ringer in ringers {
                ringer.join().unwrap();
            }
            // What is still to be done the waiter has been rung for, and only that wakes it.
            if waiting.load(Ordering::Relaxed) == 0 {
                ended.store(1, Ordering::Relaxed);
                doorbell.ring();
            }
            waiter.join().unwrap();
            assert_eq!(*done.lock().unwrap(), 2);
        });
    }

    #[test]
    fn one_ring_wakes_two_waiters() {
        explore(Some(3), || {
            let doorbell = Arc::new(Doorbell::new(WaitStrategy::Park));
            let changed = Arc::new(AtomicU64::new(0));
            let waiters = [0, 1].map(|_| {
                let (bell, flag) = (Arc::clone(&doorbell), Arc::clone(&changed));
                thread::spawn(move || {
                    bell.wait(|| flag.load(Ordering::Relaxed) == 1, None);
                    assert_eq!(flag.load(Ordering::Relaxed), 1);
                })
            });
            changed.store(1, Ordering::Relaxed);
            doorbell.ring();
            for waiter in waiters {
                waiter.join().unwrap();
            }
        });
    }
}
