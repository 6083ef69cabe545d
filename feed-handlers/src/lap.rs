//! Laps: how a capture that is played over and over goes on where it ended, instead of starting again.
//!
//! Pure, owned by the feed's thread. Each lap's ids, sequences and times are shifted by a constant, so
//! everything downstream sees a venue that never stops. In the first lap nothing is shifted.

/// Time between the last event of a lap and the first of the next: 1 s, ns. More than the bars' lateness is not
/// needed, and less would make the seam look like one instant.
const SEAM_NS: i64 = 1_000_000_000;

/// The numbers of one product: trade ids or ticker sequences.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LapNumbers {
    shift: u64,
    /// As the capture writes them: the lowest that is published, and the highest that is known.
    lowest: Option<u64>,
    highest: Option<u64>,
}

impl LapNumbers {
    /// The number to use in this lap for one that the capture's own events bear.
    pub(crate) fn shifted(&mut self, number: u64) -> u64 {
        self.lowest = Some(self.lowest.map_or(number, |lowest| lowest.min(number)));
        self.shifted_old(number)
    }

    /// The same for a number from before the capture: the next lap need not leave room for it.
    pub(crate) fn shifted_old(&mut self, number: u64) -> u64 {
        self.highest = self.highest.max(Some(number));
        number.saturating_add(self.shift)
    }

    /// From now on the capture's lowest number follows right after its highest of this lap.
    pub(crate) fn start_lap(&mut self) {
        if let (Some(lowest), Some(highest)) = (self.lowest, self.highest) {
            self.shift = self.shift.saturating_add(highest - lowest).saturating_add(1);
        }
    }
}

/// The times of a feed, Unix ns.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LapTimes {
    shift: i64,
    /// As the capture writes them.
    earliest: Option<i64>,
    latest: Option<i64>,
}

impl LapTimes {
    /// The time to use in this lap; `None` once it lies after the year 2261.
    pub(crate) fn shifted(&mut self, time: i64) -> Option<i64> {
        let shifted = time.checked_add(self.shift)?;
        self.earliest = Some(self.earliest.map_or(time, |earliest| earliest.min(time)));
        self.latest = self.latest.max(Some(time));
        Some(shifted)
    }

    /// From now on the capture's earliest time follows a second after its latest of this lap.
    pub(crate) fn start_lap(&mut self) {
        if let (Some(earliest), Some(latest)) = (self.earliest, self.latest) {
            self.shift = self.shift.saturating_add(latest.saturating_sub(earliest)).saturating_add(SEAM_NS);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_contiguous() {
        let mut ids = LapNumbers::default();
        let mut seen = Vec::new();
        for _ in 0..3 {
            let old = ids.shifted_old(99);
            seen.push((old, [100, 101, 102].map(|id| ids.shifted(id))));
            ids.start_lap();
        }
        assert_eq!(seen, [(99, [100, 101, 102]), (102, [103, 104, 105]), (105, [106, 107, 108])]);
    }

    #[test]
    fn the_highest_that_is_known_counts() {
        let mut ids = LapNumbers::default();
        assert_eq!((ids.shifted(10), ids.shifted_old(20)), (10, 20));
        ids.start_lap();
        assert_eq!((ids.shifted(10), ids.shifted_old(20)), (21, 31));
    }

    #[test]
    fn a_product_without_events_is_not_shifted() {
        let mut ids = LapNumbers::default();
        ids.start_lap();
        assert_eq!(ids.shifted_old(7), 7);
        ids.start_lap();
        assert_eq!(ids.shifted_old(7), 7);
    }

    #[test]
    fn times_go_on_after_a_second() {
        let mut times = LapTimes::default();
        let mut seen = Vec::new();
        for _ in 0..3 {
            seen.push([500, 400, 900].map(|time| times.shifted(time).unwrap()));
            times.start_lap();
        }
        let lap = 500 + SEAM_NS;
        assert_eq!(seen, [[500, 400, 900], [500, 400, 900].map(|t| t + lap), [500, 400, 900].map(|t| t + 2 * lap)]);
    }

    #[test]
    fn the_end_of_time_is_no_time() {
        let mut times = LapTimes::default();
        assert_eq!((times.shifted(i64::MIN), times.shifted(i64::MAX)), (Some(i64::MIN), Some(i64::MAX)));
        times.start_lap();
        assert_eq!(times.shifted(1), None);
        assert_eq!(times.shifted(i64::MIN), Some(-1));
    }
}
