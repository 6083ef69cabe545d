//! A sliding window that counts exactly: never more than the limit within any window's length.
//!
//! The length is cut into [`BUCKETS`] buckets. What was counted stays counted until its whole bucket has left the window, so
//! a place comes back at most one bucket's width (a second, of a minute) later than it could, and never earlier. The
//! total is kept beside the buckets: counting costs the same however long the window is. The script that counts in Redis
//! (`store/redis/take.lua`) does the same steps.

/// Into how many buckets a window is cut.
pub(crate) const BUCKETS: usize = 60;

/// Slots: the buckets of a full window, and the one that has begun.
const SLOTS: usize = BUCKETS + 1;

/// What was counted lately. 256 bytes.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    /// Number of the newest bucket: Unix ms by the bucket's width.
    newest: u64,
    /// Sum of `counts`.
    total: u32,
    /// By the bucket's number modulo [`SLOTS`].
    counts: [u32; SLOTS],
}

impl Default for Window {
    fn default() -> Window {
        Window { newest: 0, total: 0, counts: [0; SLOTS] }
    }
}

const fn width_ms(length_s: u32) -> u64 {
    length_s as u64 * 1_000 / BUCKETS as u64
}

/// After how long nothing that is counted now is in a window of `length_s` any more.
#[cfg(feature = "redis")]
pub(crate) const fn kept_ms(length_s: u32) -> u64 {
    SLOTS as u64 * width_ms(length_s)
}

impl Window {
    /// Forgets the buckets that have left the window by `now_ms`. A clock that goes back changes nothing.
    fn advance(&mut self, length_s: u32, now_ms: u64) {
        let bucket = now_ms / width_ms(length_s);
        if bucket <= self.newest {
            return;
        }
        let gone = (bucket - self.newest).min(SLOTS as u64);
        for number in bucket - gone + 1..=bucket {
            let slot = &mut self.counts[(number % SLOTS as u64) as usize];
            self.total -= std::mem::take(slot);
        }
        self.newest = bucket;
    }

    /// What the window of `length_s` (a multiple of 60 s / 1000) holds at `now_ms` (Unix ms).
    pub(crate) fn total(&mut self, length_s: u32, now_ms: u64) -> u32 {
        self.advance(length_s, now_ms);
        self.total
    }

    /// Counts `cost` at `now_ms`, whatever the limit.
    pub(crate) fn add(&mut self, length_s: u32, now_ms: u64, cost: u32) {
        self.advance(length_s, now_ms);
        let slot = &mut self.counts[(self.newest % SLOTS as u64) as usize];
        let cost = cost.min(u32::MAX - self.total);
        *slot += cost;
        self.total += cost;
    }

    /// After how many ms the window will hold at most `most`; 0 where it does.
    pub(crate) fn falls_to_in_ms(&mut self, length_s: u32, now_ms: u64, most: u32) -> u64 {
        self.advance(length_s, now_ms);
        let mut left = self.total;
        let mut after = self.newest.saturating_sub(BUCKETS as u64);
        let oldest = after;
        while left > most && after <= self.newest {
            left -= self.counts[(after % SLOTS as u64) as usize];
            after += 1;
        }
        if after == oldest {
            return 0;
        }
        // The bucket `after - 1` leaves with the beginning of the one that is a whole window and one further.
        ((after + BUCKETS as u64) * width_ms(length_s)).saturating_sub(now_ms)
    }

    /// After how many ms the window will hold nothing; 0 where it does.
    pub(crate) fn empties_in_ms(&mut self, length_s: u32, now_ms: u64) -> u64 {
        if self.total(length_s, now_ms) == 0 {
            return 0;
        }
        let is_counted = |after: &u64| self.counts[((self.newest - after) % SLOTS as u64) as usize] > 0;
        let after = (0..=self.newest.min(BUCKETS as u64)).find(is_counted).unwrap_or(0);
        ((self.newest - after + SLOTS as u64) * width_ms(length_s)).saturating_sub(now_ms)
    }

    /// Whether nothing is counted any more at `now_ms`.
    pub(crate) fn is_empty(&mut self, length_s: u32, now_ms: u64) -> bool {
        self.total(length_s, now_ms) == 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const T0: u64 = 1_763_654_400_000;

    #[test]
    fn a_place_comes_back_a_window_and_at_most_a_bucket_later() {
        let mut window = Window::default();
        window.add(60, T0 + 250, 3);
        window.add(60, T0 + 1_500, 1);
        assert_eq!(window.total(60, T0 + 59_999), 4);
        assert_eq!(window.total(60, T0 + 60_999), 4);
        assert_eq!(window.falls_to_in_ms(60, T0 + 2_000, 4), 0);
        assert_eq!(window.falls_to_in_ms(60, T0 + 2_000, 3), 59_000);
        assert_eq!(window.falls_to_in_ms(60, T0 + 2_000, 0), 60_000);
        assert_eq!(window.total(60, T0 + 61_000), 1);
        assert_eq!(window.total(60, T0 + 62_000), 0);
        assert!(window.is_empty(60, T0 + 62_000));
    }

    #[test]
    fn a_clock_that_goes_back_gives_nothing_back() {
        let mut window = Window::default();
        window.add(3_600, T0, 7);
        assert_eq!(window.total(3_600, T0 - 10_000_000), 7);
        window.add(3_600, T0 - 10_000_000, 1);
        assert_eq!(window.total(3_600, T0), 8);
    }

    proptest! {
        /// Against a list of all times: never fewer than a true window of that length, never more than one of a bucket longer.
        #[test]
        fn agrees_with_a_list_of_times(steps in prop::collection::vec((0..20_000u64, 0..4u32), 1..200)) {
            let (mut window, mut times, mut now) = (Window::default(), Vec::new(), T0);
            for (step, cost) in steps {
                now += step;
                window.add(60, now, cost);
                times.extend(std::iter::repeat_n(now, cost as usize));
                let within = |ms: u64| times.iter().filter(|time| **time + ms > now).count() as u32;
                let total = window.total(60, now);
                prop_assert!(within(60_000) <= total && total <= within(61_000), "{total}");
                let most = total / 2;
                let wait = window.clone().falls_to_in_ms(60, now, most);
                prop_assert!(window.clone().total(60, now + wait) <= most);
                prop_assert!(wait == 0 || window.clone().total(60, now + wait - 1) > most);
                prop_assert_eq!(window.clone().empties_in_ms(60, now), window.clone().falls_to_in_ms(60, now, 0));
            }
        }
    }
}
