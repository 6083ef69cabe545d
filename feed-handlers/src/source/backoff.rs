//! How long to wait before the next attempt: anything up to a bound that doubles each time ("full jitter", so that
//! gateways which lost the venue together do not come back together).
//! <https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>
//!
//! Owned by the source's thread. Deliberately absent: the clock, and when an attempt was a good one.

use std::time::Duration;

use super::random::Random;

pub(super) struct Backoff {
    min: Duration,
    max: Duration,
    /// Attempts since the last good one.
    attempts: u32,
    random: Random,
}

/// How long to stay away after the end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// As the backoff says.
    Backoff,
    /// Not at all, if the connection was a good one.
    None,
    /// At least half of this, whatever the backoff says; and no less than what the venue asked for.
    Long(Duration, Option<Duration>),
}

impl Backoff {
    /// Waits up to `min` first, and never longer than `max`. `min <= max`
    pub(super) fn new(min: Duration, max: Duration, random: Random) -> Backoff {
        debug_assert!(min <= max);
        Backoff { min, max, attempts: 0, random }
    }

    /// The last attempt was a good one.
    pub(super) fn reset(&mut self) {
        self.attempts = 0;
    }

    /// How long to stay away after a connection, which was a good one or not.
    pub(super) fn wait_after(&mut self, rest: Rest, was_good: bool) -> Duration {
        if was_good {
            self.reset();
        }
        match rest {
            Rest::None if was_good => Duration::ZERO,
            Rest::None | Rest::Backoff => self.next_wait(),
            Rest::Long(wait, at_least) => {
                let wait = wait.mul_f64(0.5 + 0.5 * self.random.unit()).max(self.next_wait());
                wait.max(at_least.unwrap_or_default())
            }
        }
    }

    pub(super) fn next_wait(&mut self) -> Duration {
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
        let (min, max) = (Duration::from_millis(250), Duration::from_secs(30));
        let mut longest = [Duration::ZERO; 12];
        for seed in 0..200 {
            let mut backoff = Backoff::new(min, max, Random::seeded(seed));
            backoff.attempts = u32::MAX;
            assert!(backoff.next_wait() < max);
            backoff.reset();
            for longest in &mut longest {
                *longest = backoff.next_wait().max(*longest);
            }
        }
        for (attempt, longest) in longest.into_iter().enumerate() {
            let bound = Duration::from_millis(250 << attempt).min(max);
            // The longest of 200 is below nine tenths of the bound once in 10^9.
            assert!(longest < bound && longest > bound.mul_f64(0.9), "{attempt}: {longest:?} of {bound:?}");
        }
    }

    #[test]
    fn a_connection_tells_how_long_to_stay_away() {
        let (min, max, long) = (Duration::from_millis(250), Duration::from_secs(30), Duration::from_secs(60));
        for seed in 0..200 {
            let mut backoff = Backoff::new(min, max, Random::seeded(seed));
            backoff.attempts = u32::MAX;
            assert_eq!(backoff.wait_after(Rest::None, true), Duration::ZERO);
            assert!(backoff.wait_after(Rest::Backoff, true) < min);
            assert!(backoff.wait_after(Rest::None, false) < 2 * min);
            let wait = backoff.wait_after(Rest::Long(long, None), false);
            assert!(wait >= long / 2 && wait < long, "{wait:?}");
            assert_eq!(backoff.wait_after(Rest::Long(long, Some(2 * long)), false), 2 * long);
        }
    }
}
