//! The run over time: what all workers saw in each stretch of a second or so. Bounded however long the run is: beyond
//! [`POINTS_MAX`] points two neighbours become one, and a point is twice as long.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::sample::{Counts, Gauges, Sample};
use crate::timings::Timings;

/// 20 minutes of seconds; a chart is hardly wider in pixels.
const POINTS_MAX: usize = 1_200;

/// Points do not get longer than two hours: phases are not joined, and where they alone are more than [`POINTS_MAX`],
/// longer points would not make them fewer.
const INTERVAL_NS_MAX: i64 = 3_600_000_000_000;

/// How many points behind the newest one stay open for samples that are on their way. A later sample is added too, only
/// at the price of unpacking.
const OPEN_POINTS: i64 = 3;

/// The run over time.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Series {
    /// Length of a point, ns.
    pub interval_ns: u64,
    /// By phase, then by time.
    pub points: Vec<Point>,
}

/// One stretch of one phase. A phase's first and last point may be shorter than the interval; rates allow for that.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Point {
    /// End of the stretch, s since the start of the run.
    pub t: f64,
    /// Index into the phases.
    pub phase: u32,
    /// A second.
    pub messages: f64,
    pub bytes: f64,
    pub handshakes: f64,
    /// Latency of messages, ns; `None` where there were none.
    pub p50: Option<u64>,
    pub p90: Option<u64>,
    pub p99: Option<u64>,
    pub max: Option<u64>,
    /// Clients at the end of the stretch.
    pub connecting: u64,
    pub ready: u64,
    pub stalled: u64,
    /// In the stretch.
    pub missing: u64,
    pub announced: u64,
    pub duplicates: u64,
    pub reordered: u64,
    pub malformed: u64,
    pub lost: u64,
    pub refused: u64,
    /// Processor time as a share of one core: the busiest worker's, and all workers' together.
    pub worker_share_max: f64,
    pub worker_share_sum: f64,
    /// 99th percentiles of the harness's own lag, ns (of two joined points the greater).
    pub schedule_lag_p99: Option<u64>,
    pub read_lag_p99: Option<u64>,
}

/// The latencies behind a point.
#[derive(Clone, Debug)]
pub struct Interval {
    /// Index into the phases.
    pub phase: u32,
    /// Unix ns.
    pub start_ns: i64,
    pub span_ns: u64,
    /// [`Timings::pack`]: unpacked, those of a long run would be hundreds of megabytes.
    packed: Vec<u8>,
}

impl Interval {
    pub fn latency(&self) -> Timings {
        unpack(&self.packed)
    }
}

/// Phase, and the interval's number since 1970.
type Key = (u32, i64);

/// Points in the making.
#[derive(Debug)]
pub(super) struct Intervals {
    interval_ns: i64,
    points_max: usize,
    open: BTreeMap<Key, Open>,
    closed: BTreeMap<Key, Closed>,
}

#[derive(Debug, Default)]
struct Open {
    seen: Seen,
    latency: Timings,
    schedule_lag: Timings,
    read_lag: Timings,
}

#[derive(Debug)]
struct Closed {
    seen: Seen,
    /// [`Timings::pack`].
    latency: Vec<u8>,
    schedule_lag_p99: Option<u64>,
    read_lag_p99: Option<u64>,
}

/// What is small enough to be kept as it is.
#[derive(Debug, Default)]
struct Seen {
    counts: Counts,
    workers: BTreeMap<u32, Worker>,
    /// Earliest start and latest end of a sample, Unix ns.
    bounds_ns: Option<(i64, i64)>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Worker {
    at_ns: i64,
    span_ns: u64,
    cpu_ns: u64,
    messages: u64,
    bytes: u64,
    upgrades: u64,
    gauges: Gauges,
}

impl Intervals {
    /// `interval_ns` of 0 is taken for 1.
    pub(super) fn new(interval_ns: u64) -> Intervals {
        let interval_ns = i64::try_from(interval_ns).unwrap_or(i64::MAX).max(1);
        Intervals { interval_ns, points_max: POINTS_MAX, open: BTreeMap::new(), closed: BTreeMap::new() }
    }

    /// `phase` is the sample's, checked.
    pub(super) fn add(&mut self, phase: u32, sample: &Sample) {
        // By the middle: an interval that ends a little behind its second is still that second's.
        let middle = sample.at_ns - i64::try_from(sample.span_ns / 2).unwrap_or(0);
        let key = (phase, middle.div_euclid(self.interval_ns));
        let slot = self.open.entry(key).or_default();
        slot.seen.add(&Seen::of(sample));
        slot.latency.add(&sample.latency);
        slot.schedule_lag.add(&sample.schedule_lag);
        slot.read_lag.add(&sample.read_lag);
        while let Some(entry) = self.open.first_entry()
            && (entry.key().0 < phase || entry.key().1 + OPEN_POINTS < key.1)
        {
            let (key, open) = entry.remove_entry();
            self.close(key, open);
        }
    }

    fn close(&mut self, key: Key, open: Open) {
        let closed = Closed {
            seen: open.seen,
            latency: open.latency.pack(),
            schedule_lag_p99: open.schedule_lag.percentile(99.0),
            read_lag_p99: open.read_lag.percentile(99.0),
        };
        self.insert(key, closed);
        if self.closed.len() > self.points_max && self.interval_ns < INTERVAL_NS_MAX {
            self.halve();
        }
    }

    fn insert(&mut self, key: Key, closed: Closed) {
        match self.closed.remove(&key) {
            Some(mut earlier) => {
                earlier.add(&closed);
                self.closed.insert(key, earlier);
            }
            None => {
                self.closed.insert(key, closed);
            }
        }
    }

    /// Makes points twice as long.
    fn halve(&mut self) {
        self.interval_ns = self.interval_ns.saturating_mul(2);
        for ((phase, index), closed) in std::mem::take(&mut self.closed) {
            self.insert((phase, index.div_euclid(2)), closed);
        }
        for ((phase, index), open) in std::mem::take(&mut self.open) {
            self.open.entry((phase, index.div_euclid(2))).or_default().absorb(&open);
        }
    }

    /// The last point that every worker is likely to have told of, for the live line.
    pub(super) fn latest(&self, started_ns: i64) -> Option<Point> {
        let (newest, slot) = self.open.last_key_value()?;
        let before = self.open.get(&(newest.0, newest.1 - 1));
        let (key, slot) = match before {
            Some(before) if before.seen.workers.len() >= slot.seen.workers.len() => ((newest.0, newest.1 - 1), before),
            _ => (*newest, slot),
        };
        let lags = (slot.schedule_lag.percentile(99.0), slot.read_lag.percentile(99.0));
        Some(point(key.0, &slot.seen, &slot.latency, lags, started_ns))
    }

    pub(super) fn finish(mut self, started_ns: i64) -> (Series, Vec<Interval>) {
        for (key, open) in std::mem::take(&mut self.open) {
            self.close(key, open);
        }
        let mut points = Vec::with_capacity(self.closed.len());
        let mut intervals = Vec::with_capacity(self.closed.len());
        for ((phase, _), closed) in self.closed {
            let latency = unpack(&closed.latency);
            let lags = (closed.schedule_lag_p99, closed.read_lag_p99);
            points.push(point(phase, &closed.seen, &latency, lags, started_ns));
            let (start_ns, end_ns) = closed.seen.bounds_ns.unwrap_or_default();
            intervals.push(Interval { phase, start_ns, span_ns: end_ns.abs_diff(start_ns), packed: closed.latency });
        }
        let interval_ns = self.interval_ns.unsigned_abs();
        (Series { interval_ns, points }, intervals)
    }
}

impl Open {
    fn absorb(&mut self, other: &Open) {
        self.seen.add(&other.seen);
        self.latency.add(&other.latency);
        self.schedule_lag.add(&other.schedule_lag);
        self.read_lag.add(&other.read_lag);
    }
}

impl Closed {
    fn add(&mut self, other: &Closed) {
        self.seen.add(&other.seen);
        let mut latency = unpack(&self.latency);
        latency.add(&unpack(&other.latency));
        self.latency = latency.pack();
        self.schedule_lag_p99 = self.schedule_lag_p99.max(other.schedule_lag_p99);
        self.read_lag_p99 = self.read_lag_p99.max(other.read_lag_p99);
    }
}

fn unpack(bytes: &[u8]) -> Timings {
    Timings::unpack(bytes).expect("Invariant: what was packed here is a histogram")
}

impl Seen {
    fn of(sample: &Sample) -> Seen {
        let worker = Worker {
            at_ns: sample.at_ns,
            span_ns: sample.span_ns,
            cpu_ns: sample.cpu_ns,
            messages: sample.counts.messages,
            bytes: sample.counts.bytes,
            upgrades: sample.counts.upgrades,
            gauges: sample.gauges,
        };
        let start_ns = sample.at_ns - i64::try_from(sample.span_ns).unwrap_or(0);
        Seen {
            counts: sample.counts.clone(),
            workers: BTreeMap::from([(sample.worker, worker)]),
            bounds_ns: Some((start_ns, sample.at_ns)),
        }
    }

    fn add(&mut self, other: &Seen) {
        self.counts.add(&other.counts);
        self.bounds_ns = match (self.bounds_ns, other.bounds_ns) {
            (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
            (a, b) => a.or(b),
        };
        for (id, theirs) in &other.workers {
            let ours = self.workers.entry(*id).or_default();
            ours.span_ns += theirs.span_ns;
            ours.cpu_ns += theirs.cpu_ns;
            ours.messages += theirs.messages;
            ours.bytes += theirs.bytes;
            ours.upgrades += theirs.upgrades;
            if theirs.at_ns >= ours.at_ns {
                (ours.at_ns, ours.gauges) = (theirs.at_ns, theirs.gauges);
            }
        }
    }
}

/// Rates are each worker's own, added up: workers need not have looked at the same time.
fn point(phase: u32, seen: &Seen, latency: &Timings, lags: (Option<u64>, Option<u64>), started_ns: i64) -> Point {
    let workers = || seen.workers.values();
    let rate = |of: fn(&Worker) -> u64| -> f64 {
        workers().filter(|w| w.span_ns > 0).map(|w| of(w) as f64 * 1e9 / w.span_ns as f64).sum()
    };
    let shares = || workers().filter(|w| w.span_ns > 0).map(|w| w.cpu_ns as f64 / w.span_ns as f64);
    let end_ns = seen.bounds_ns.map_or(started_ns, |bounds| bounds.1);
    Point {
        t: (end_ns - started_ns) as f64 / 1e9,
        phase,
        messages: rate(|w| w.messages),
        bytes: rate(|w| w.bytes),
        handshakes: rate(|w| w.upgrades),
        p50: latency.percentile(50.0),
        p90: latency.percentile(90.0),
        p99: latency.percentile(99.0),
        max: latency.percentile(100.0),
        connecting: workers().map(|w| w.gauges.connecting).sum(),
        ready: workers().map(|w| w.gauges.ready).sum(),
        stalled: workers().map(|w| w.gauges.stalled).sum(),
        missing: seen.counts.missing,
        announced: seen.counts.announced,
        duplicates: seen.counts.duplicates,
        reordered: seen.counts.reordered,
        malformed: seen.counts.malformed,
        lost: seen.counts.lost,
        refused: seen.counts.refused,
        worker_share_max: shares().fold(0.0, f64::max),
        worker_share_sum: shares().sum(),
        schedule_lag_p99: lags.0,
        read_lag_p99: lags.1,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// `messages` in the second that ends at `second`, 1 ms late each.
    fn sample(worker: u32, second: i64, messages: u64) -> Sample {
        let mut sample = Sample { worker, at_ns: second * 1_000_000_000, span_ns: SECOND, ..Sample::default() };
        sample.counts.messages = messages;
        sample.gauges.ready = messages;
        (0..messages).for_each(|_| sample.latency.record(1_000_000));
        sample
    }

    fn recorded(points_max: usize, samples: &[(u32, Sample)]) -> (Series, Vec<Interval>) {
        let mut intervals = Intervals { points_max, ..Intervals::new(SECOND) };
        samples.iter().for_each(|(phase, sample)| intervals.add(*phase, sample));
        intervals.finish(0)
    }

    #[test]
    fn workers_of_one_second_are_one_point() {
        let mut half = sample(1, 1, 10);
        // Began late: ten in half a second are twenty a second.
        half.span_ns = SECOND / 2;
        let samples = [(0, sample(0, 1, 5)), (0, half), (0, sample(0, 2, 7)), (1, sample(0, 2, 3))];
        let (series, intervals) = recorded(100, &samples);
        let seen: Vec<_> =
            series.points.iter().map(|point| (point.phase, point.t, point.messages, point.ready)).collect();
        assert_eq!(seen, [(0, 1.0, 25.0, 15), (0, 2.0, 7.0, 7), (1, 2.0, 3.0, 3)]);
        assert_eq!(series.points[0].p99, sample(0, 1, 1).latency.percentile(99.0));
        let counts: Vec<_> = intervals.iter().map(|interval| interval.latency().count()).collect();
        assert_eq!(counts, [15, 7, 3]);
    }

    #[test]
    fn a_quiet_second_has_no_latency() {
        let (series, _) = recorded(100, &[(0, sample(0, 1, 0))]);
        assert_eq!((series.points[0].p50, series.points[0].max), (None, None));
    }

    #[test]
    fn a_long_run_has_longer_points() {
        let samples: Vec<_> = (1..=50).map(|second| (0, sample(0, second, 2))).collect();
        let (series, intervals) = recorded(10, &samples);
        assert!(series.points.len() <= 11, "{}", series.points.len());
        assert_eq!(series.interval_ns, 8 * SECOND);
        assert_eq!(intervals.iter().map(|interval| interval.latency().count()).sum::<u64>(), 100);
        // Joining changes no rate.
        assert!(series.points.iter().all(|point| point.messages == 2.0), "{series:?}");
        assert!(series.points.windows(2).all(|pair| pair[0].t < pair[1].t));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// However late samples come, and however often points are joined, none is lost and none counts twice.
        #[test]
        fn every_message_is_in_one_point(order in proptest::collection::vec((0_u32..3, 1_i64..30, 0_u32..2, 0_u64..4), 0..24)) {
            let samples: Vec<_> =
                order.iter().map(|(worker, second, phase, messages)| (*phase, sample(*worker, *second, *messages))).collect();
            let (series, intervals) = recorded(4, &samples);
            let of = |phase: u32| -> u64 {
                order.iter().filter(|sample| sample.2 == phase).map(|sample| sample.3).sum()
            };
            for phase in 0..2 {
                let counted: u64 = intervals.iter().filter(|it| it.phase == phase).map(|it| it.latency().count()).sum();
                prop_assert_eq!(counted, of(phase));
            }
            prop_assert_eq!(series.points.len(), intervals.len());
        }
    }
}
