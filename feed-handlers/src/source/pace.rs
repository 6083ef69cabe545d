//! At what pace things are said to a venue, and when what it said is to be had anew.
//!
//! Pure, owned by the connection that says them. Deliberately absent: what is said.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// The wait before a thing is asked for a second time. It doubles with each further time.
const RENEWAL_WAIT_MIN: Duration = Duration::from_secs(1);

/// The longest of these waits, and how long it must have been asked for nothing to start anew.
const RENEWAL_WAIT_MAX: Duration = Duration::from_secs(60);

/// At most `burst` at once, and one more after each `every`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pace {
    /// At least 1.
    pub(super) burst: u32,
    pub(super) every: Duration,
}

impl Pace {
    /// `rate` a second, of which `burst` may come at once. A venue that counts by the second sees at most the sum.
    pub(super) const fn per_second(rate: u64, burst: u32) -> Pace {
        Pace { burst, every: Duration::from_micros(1_000_000 / rate) }
    }
}

/// Lets things through at a pace.
pub(super) struct Bucket {
    pace: Pace,
    /// When all that was let through is paid for.
    paid_at: Instant,
    held_until: Instant,
}

impl Bucket {
    pub(super) fn new(pace: Pace, now: Instant) -> Bucket {
        Bucket { pace, paid_at: now, held_until: now }
    }

    /// When the next one may go.
    pub(super) fn ready_at(&self) -> Instant {
        let credit = self.pace.every * (self.pace.burst - 1);
        let ready = self.paid_at.checked_sub(credit).unwrap_or(self.held_until);
        ready.max(self.held_until)
    }

    /// One went.
    pub(super) fn take(&mut self, now: Instant) {
        self.paid_at = self.paid_at.max(now) + self.pace.every;
    }

    /// None before `until`.
    pub(super) fn hold(&mut self, until: Instant) {
        self.held_until = self.held_until.max(until);
    }
}

/// What is to be asked for anew, such as a book that cannot be believed any more, and when. What comes and is of no use is
/// asked for ever more rarely.
///
/// Holds one entry for each thing that was ever asked for: a product of which the feed keeps a book, or a request.
pub(super) struct Renewals<K> {
    due: Vec<(Instant, K)>,
    asked: HashMap<K, Asked>,
    bucket: Bucket,
}

/// When a thing was to be had last, and how often in a row.
struct Asked {
    at: Instant,
    times: u32,
}

impl<K: Clone + Eq + Hash> Renewals<K> {
    pub(super) fn new(pace: Pace, now: Instant) -> Renewals<K> {
        Renewals { due: Vec::new(), asked: HashMap::new(), bucket: Bucket::new(pace, now) }
    }

    pub(super) fn ask(&mut self, thing: K, now: Instant) {
        if self.due.iter().any(|(_, waiting)| *waiting == thing) {
            return;
        }
        let asked = self.asked.entry(thing.clone()).or_insert(Asked { at: now, times: 0 });
        if asked.times > 0 && now.saturating_duration_since(asked.at) >= RENEWAL_WAIT_MAX {
            asked.times = 0;
        }
        if asked.times > 0 {
            let doubled = RENEWAL_WAIT_MIN.saturating_mul(1u32.checked_shl(asked.times - 1).unwrap_or(u32::MAX));
            asked.at = now.max(asked.at + doubled.min(RENEWAL_WAIT_MAX));
        } else {
            asked.at = now;
        }
        asked.times = asked.times.saturating_add(1);
        self.due.push((asked.at, thing));
    }

    /// None before `until`.
    pub(super) fn hold(&mut self, until: Instant) {
        self.bucket.hold(until);
    }

    /// The next one that is due, if there is one.
    pub(super) fn due(&mut self, now: Instant) -> Option<K> {
        if self.bucket.ready_at() > now {
            return None;
        }
        let at = self.due.iter().position(|(at, _)| *at <= now)?;
        self.bucket.take(now);
        Some(self.due.remove(at).1)
    }

    /// When the next one is due, which may be past.
    pub(super) fn next_at(&self) -> Option<Instant> {
        Some(self.due.iter().map(|(at, _)| *at).min()?.max(self.bucket.ready_at()))
    }
}
