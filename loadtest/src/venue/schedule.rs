//! When the frames of a venue are due: a function of their number and of the rate, never of when the frame before
//! was really sent. So a stall delays nothing but what fell into it, and the mean rate does not drift.
//!
//! Pure; the venue's thread owns it. Deliberately absent: any bound of the backlog. What was due during a stall is
//! still due after it.

const NS_PER_SECOND: f64 = 1e9;

/// Due times of an endless series, numbered from 0, in ns since the venue's start.
#[derive(Clone, Debug)]
pub(super) struct Schedule {
    /// Frames a second; 0 means none.
    rate: f64,
    /// When the rate last changed, ns.
    anchor_ns: u64,
    /// How far the series had come by then: frame `n` is due when this plus what the rate adds reaches `n`.
    /// Up to 2^53 frames (five thousand years at 50,000 a second) it tells single frames apart.
    position: f64,
    /// The number of the next frame.
    next: u64,
}

impl Schedule {
    /// A series whose first frame is due at `start_ns`. `rate` is finite and not below 0.
    pub(super) fn new(rate: f64, start_ns: u64) -> Schedule {
        debug_assert!(rate.is_finite() && rate >= 0.0);
        Schedule { rate, anchor_ns: start_ns, position: 0.0, next: 0 }
    }

    /// Goes on at another rate from `now_ns` on. What was due by then and is not taken yet stays due, but its time is
    /// reckoned back at the new rate: take what is due first.
    pub(super) fn set_rate(&mut self, rate: f64, now_ns: u64) {
        debug_assert!(rate.is_finite() && rate >= 0.0);
        let elapsed = now_ns.saturating_sub(self.anchor_ns) as f64 / NS_PER_SECOND;
        self.position += elapsed * self.rate;
        self.anchor_ns = self.anchor_ns.max(now_ns);
        self.rate = rate;
    }

    /// When the next frame is due, ns; `None` where the rate is 0.
    pub(super) fn next_due(&self) -> Option<u64> {
        let ahead = (self.next as f64 - self.position) / self.rate * NS_PER_SECOND;
        // Below 0 where the rate changed before what was due by then was taken.
        let due = if ahead < 0.0 {
            self.anchor_ns.saturating_sub(-ahead as u64)
        } else {
            self.anchor_ns.saturating_add(ahead as u64)
        };
        (self.rate > 0.0).then_some(due)
    }

    /// The due time of the next frame, ns, if it has come; the frame is taken then.
    pub(super) fn take_due(&mut self, now_ns: u64) -> Option<u64> {
        let due = self.next_due().filter(|due| *due <= now_ns)?;
        self.next += 1;
        Some(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: u64 = 1_000_000_000;

    fn taken(schedule: &mut Schedule, now_ns: u64) -> Vec<u64> {
        std::iter::from_fn(|| schedule.take_due(now_ns)).collect()
    }

    #[track_caller]
    fn check(rate: f64, until_ns: u64, expected: &[u64]) {
        assert_eq!(taken(&mut Schedule::new(rate, 0), until_ns), expected);
    }

    #[test]
    fn frames_are_due_at_their_number_over_the_rate() {
        check(4.0, SECOND, &[0, SECOND / 4, SECOND / 2, SECOND / 4 * 3, SECOND]);
        check(0.5, 3 * SECOND, &[0, 2 * SECOND]);
        check(1e9, 3, &[0, 1, 2, 3]);
        check(0.0, u64::MAX, &[]);
    }

    #[test]
    fn after_a_stall_everything_is_due_at_the_time_it_was_meant_for() {
        let mut schedule = Schedule::new(1_000.0, 0);
        assert_eq!(taken(&mut schedule, 0), [0]);
        let late = taken(&mut schedule, 3_600 * SECOND);
        assert_eq!(late.len(), 3_600_000);
        // A double may be short of the whole ns.
        assert!(late.iter().zip(1u64..).all(|(due, n)| due.abs_diff(n * 1_000_000) <= 1));
    }

    #[test]
    fn a_rate_of_nothing_sends_nothing_until_it_is_raised() {
        let mut schedule = Schedule::new(10.0, 0);
        assert_eq!(taken(&mut schedule, SECOND / 2).len(), 6);
        schedule.set_rate(0.0, SECOND / 2);
        assert_eq!(schedule.next_due(), None);
        assert!(taken(&mut schedule, 100 * SECOND).is_empty());
        schedule.set_rate(1.0, 100 * SECOND);
        assert_eq!(taken(&mut schedule, 102 * SECOND), [101 * SECOND, 102 * SECOND]);
    }

    proptest! {
        /// However often the rate changes, as many frames are due as the rates add up to, and never one before the
        /// last.
        #[test]
        fn the_count_is_the_integral_of_the_rate(
            steps in proptest::collection::vec((0u64..2_000_000_000, 0.0..20_000.0f64), 1..12),
        ) {
            let mut schedule = Schedule::new(0.0, 0);
            let (mut now, mut integral, mut count, mut rate, mut last) = (0, 0.0, 0usize, 0.0, 0);
            for (span, next_rate) in steps {
                now += span;
                integral += span as f64 / NS_PER_SECOND * rate;
                for due in taken(&mut schedule, now) {
                    prop_assert!(last <= due && due <= now);
                    last = due;
                    count += 1;
                }
                // The first is due at once; a rounding may keep the last one back.
                prop_assert!((count as f64 - 1.0 - integral.floor()).abs() <= 1.0, "{count} of {integral}");
                schedule.set_rate(next_rate, now);
                rate = next_rate;
            }
        }
    }
}
