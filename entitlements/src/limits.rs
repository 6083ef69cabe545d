//! Counted limits: what is metered, of whom, and what came of it. Who counts is the [`Store`](crate::Store): the gateways of a
//! fleet together in Redis, one gateway alone in its memory ([`Limiter`]).

use std::cmp::Reverse;
use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::window::Window;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Meter {
    /// Requests at the HTTP door: upgrades.
    Connect,
    /// Requests of a signed-in client: `subscribe`, `unsubscribe`, `auth`.
    Command,
    /// Sign-ins, by address.
    SignIn,
    /// Live signals handed to a user.
    Signals,
}

impl Meter {
    pub const COUNT: usize = 4;
    pub const ALL: [Meter; Self::COUNT] = [Meter::Connect, Meter::Command, Meter::SignIn, Meter::Signals];

    /// The `endpoint` in the names of the platform's keys, and the label of counters.
    pub const fn name(self) -> &'static str {
        match self {
            Meter::Connect => "connect",
            Meter::Command => "command",
            Meter::SignIn => "sign_in",
            Meter::Signals => "signals",
        }
    }
}

/// Who is counted: the user where it is known, else the address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    User(Arc<str>),
    Address(IpAddr),
}

/// At most `limit` within any `length_s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Seconds: a multiple of 3.
    pub length_s: u32,
    /// `u32::MAX`: no limit, and nothing is counted.
    pub limit: u32,
}

impl Quota {
    pub const fn per_minute(limit: u32) -> Quota {
        Quota { length_s: 60, limit }
    }

    pub const fn per_hour(limit: u32) -> Quota {
        Quota { length_s: 3_600, limit }
    }

    pub const fn per_day(limit: u32) -> Quota {
        Quota { length_s: 86_400, limit }
    }

    pub const fn is_unlimited(self) -> bool {
        self.limit == u32::MAX
    }
}

/// Most quotas of one charge.
pub const QUOTAS_MAX: usize = 2;

/// A question to the limiter: may `subject` have `cost` more? Counted in all quotas, or in none where one is exhausted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    pub subject: Subject,
    pub meter: Meter,
    /// Of different lengths; at most [`QUOTAS_MAX`] that are limited.
    pub quotas: Vec<Quota>,
    /// 0: nothing is counted, and the answer is whether one more would be allowed.
    pub cost: u32,
}

impl Charge {
    fn limited(&self) -> impl Iterator<Item = Quota> + '_ {
        self.quotas.iter().copied().filter(|quota| !quota.is_unlimited())
    }
}

/// The answer to a [`Charge`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub allowed: bool,
    /// The quota that is nearest to its limit; where refused, the one that the client has to wait for longest.
    pub quota: Quota,
    /// How much is left of it.
    pub remaining: u32,
    /// After what time all of it is there again, if nothing more is taken.
    pub resets_in: Duration,
    /// After what time the same charge would be allowed; zero where it was.
    pub retry_after: Duration,
}

impl Verdict {
    /// Of a charge that nothing limits.
    pub const UNLIMITED: Verdict = Verdict {
        allowed: true,
        quota: Quota { length_s: 60, limit: u32::MAX },
        remaining: u32::MAX,
        resets_in: Duration::ZERO,
        retry_after: Duration::ZERO,
    };
}

/// A store's time: Unix ms.
pub(crate) type UnixMs = u64;

/// Maps of subjects, each behind a lock of its own: limits are asked from all shards.
const PARTS: usize = 16;

/// Subjects of one part above which those are forgotten of which nothing is counted any more.
const SWEPT_ABOVE: usize = 1_024;

/// Windows by subject and meter, in this process's memory. 512 bytes and a name for each subject that was counted within its
/// longest window; the rest is forgotten. The embedded store's limiter, and Redis's while that is away.
pub struct Limiter {
    hasher: RandomState,
    parts: [Mutex<Part>; PARTS],
}

#[derive(Default)]
struct Part {
    counted: HashMap<(Subject, Meter), Vec<Counted>>,
    /// Size above which the next sweep comes.
    sweep_above: usize,
}

struct Counted {
    length_s: u32,
    window: Window,
}

impl Default for Limiter {
    fn default() -> Limiter {
        Limiter { hasher: RandomState::new(), parts: Default::default() }
    }
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Limiter")
    }
}

impl Limiter {
    fn part(&self, subject: &Subject) -> &Mutex<Part> {
        &self.parts[self.hasher.hash_one(subject) as usize % PARTS]
    }

    /// Decides a charge at `now_ms` and counts it where it is allowed.
    pub fn take(&self, charge: &Charge, now_ms: UnixMs) -> Verdict {
        self.with_windows(charge, now_ms, |windows| decide(windows, charge, now_ms)).unwrap_or(Verdict::UNLIMITED)
    }

    /// Counts what was allowed elsewhere, also above the limit.
    pub fn note(&self, charge: &Charge, now_ms: UnixMs) {
        self.with_windows(charge, now_ms, |windows| count(windows, charge, now_ms));
    }

    /// What is done with the windows of the charge's subject and meter; `None` where nothing limits it.
    fn with_windows<T>(&self, charge: &Charge, now_ms: UnixMs, with: impl FnOnce(&mut Vec<Counted>) -> T) -> Option<T> {
        charge.limited().next()?;
        let mut part = self.part(&charge.subject).lock().unwrap_or_else(PoisonError::into_inner);
        part.sweep(now_ms);
        Some(with(part.counted.entry((charge.subject.clone(), charge.meter)).or_default()))
    }
}

fn decide(windows: &mut Vec<Counted>, charge: &Charge, now_ms: UnixMs) -> Verdict {
    let cost = charge.cost.max(1);
    let mut verdict: Option<Verdict> = None;
    for quota in charge.limited() {
        let window = window_of(windows, quota.length_s);
        let total = window.total(quota.length_s, now_ms);
        let allowed = total.saturating_add(cost) <= quota.limit;
        let retry_after_ms = match allowed {
            true => 0,
            false => window.falls_to_in_ms(quota.length_s, now_ms, quota.limit.saturating_sub(cost)).max(1),
        };
        let this = Verdict {
            allowed,
            quota,
            remaining: quota.limit.saturating_sub(total),
            resets_in: Duration::ZERO,
            retry_after: Duration::from_millis(retry_after_ms),
        };
        let tighter = |before: &Verdict| {
            (this.allowed, Reverse(this.retry_after), this.remaining)
                < (before.allowed, Reverse(before.retry_after), before.remaining)
        };
        if verdict.as_ref().is_none_or(tighter) {
            verdict = Some(this);
        }
    }
    let mut verdict = verdict.unwrap_or(Verdict::UNLIMITED);
    if verdict.allowed && charge.cost > 0 {
        count(windows, charge, now_ms);
        verdict.remaining = verdict.remaining.saturating_sub(charge.cost);
    }
    let length_s = verdict.quota.length_s;
    verdict.resets_in = Duration::from_millis(window_of(windows, length_s).empties_in_ms(length_s, now_ms));
    verdict
}

fn count(windows: &mut Vec<Counted>, charge: &Charge, now_ms: UnixMs) {
    for quota in charge.limited() {
        window_of(windows, quota.length_s).add(quota.length_s, now_ms, charge.cost);
    }
}

fn window_of(windows: &mut Vec<Counted>, length_s: u32) -> &mut Window {
    let place = windows.iter().position(|counted| counted.length_s == length_s).unwrap_or_else(|| {
        windows.push(Counted { length_s, window: Window::default() });
        windows.len() - 1
    });
    &mut windows[place].window
}

impl Part {
    /// Forgets who has nothing counted any more, once the part has doubled since the last time.
    fn sweep(&mut self, now_ms: UnixMs) {
        if self.counted.len() < self.sweep_above.max(SWEPT_ABOVE) {
            return;
        }
        self.counted.retain(|_, windows| !windows.iter_mut().all(|c| c.window.is_empty(c.length_s, now_ms)));
        self.sweep_above = self.counted.len() * 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: UnixMs = 1_763_654_400_000;

    fn charge(user: &str, quotas: &[Quota], cost: u32) -> Charge {
        Charge { subject: Subject::User(user.into()), meter: Meter::Command, quotas: quotas.to_vec(), cost }
    }

    #[test]
    fn all_quotas_are_counted_or_none() {
        let limiter = Limiter::default();
        let one = charge("alice", &[Quota::per_minute(2), Quota::per_hour(3)], 1);
        let first = limiter.take(&one, T0);
        assert_eq!((first.allowed, first.quota.limit, first.remaining), (true, 2, 1));
        assert!(limiter.take(&one, T0 + 500).allowed);
        let refused = limiter.take(&one, T0 + 1_000);
        assert_eq!((refused.allowed, refused.quota.limit, refused.remaining), (false, 2, 0));
        assert_eq!(refused.retry_after, Duration::from_secs(60));
        let later = limiter.take(&one, T0 + 61_000);
        assert_eq!((later.allowed, later.quota.limit, later.remaining), (true, 3, 0));
        let refused = limiter.take(&one, T0 + 61_000);
        assert_eq!((refused.allowed, refused.quota.length_s), (false, 3_600));
        assert!(limiter.take(&one, T0 + 61_000 + refused.retry_after.as_millis() as u64).allowed);
    }

    #[test]
    fn subjects_and_meters_are_apart_and_unlimited_is_not_counted() {
        let limiter = Limiter::default();
        let alice = charge("alice", &[Quota::per_minute(1)], 1);
        assert!(limiter.take(&alice, T0).allowed);
        assert!(!limiter.take(&alice, T0).allowed);
        assert!(limiter.take(&charge("bob", &[Quota::per_minute(1)], 1), T0).allowed);
        assert!(limiter.take(&Charge { meter: Meter::Connect, ..alice.clone() }, T0).allowed);
        let address = Subject::Address("192.0.2.1".parse().unwrap());
        assert!(limiter.take(&Charge { subject: address, ..alice }, T0).allowed);
        assert_eq!(limiter.take(&charge("carol", &[Quota::per_minute(u32::MAX)], 1), T0), Verdict::UNLIMITED);
    }

    #[test]
    fn asking_counts_nothing_and_noting_counts_beyond() {
        let limiter = Limiter::default();
        let quotas = [Quota::per_minute(2)];
        for _ in 0..3 {
            assert!(limiter.take(&charge("alice", &quotas, 0), T0).allowed);
        }
        limiter.note(&charge("alice", &quotas, 5), T0);
        let asked = limiter.take(&charge("alice", &quotas, 0), T0);
        assert_eq!((asked.allowed, asked.remaining), (false, 0));
        assert!(!limiter.take(&charge("bob", &quotas, 3), T0).allowed);
        assert!(limiter.take(&charge("bob", &quotas, 2), T0).allowed);
    }

    #[test]
    fn who_has_nothing_counted_is_forgotten() {
        let limiter = Limiter::default();
        for user in 0..50_000 {
            limiter.take(&charge(&user.to_string(), &[Quota::per_minute(1)], 1), T0 + user * 10);
        }
        let kept: usize = limiter.parts.iter().map(|part| part.lock().unwrap().counted.len()).sum();
        assert!(kept < 40_000, "{kept}");
    }
}
