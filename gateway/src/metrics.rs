//! Counters, gauges and latency histograms: arrays of atomics per thread, summed when they are scraped.
//!
//! Each thread of the gateway registers once and writes its own array, so that counting never bounces a
//! cache line between cores. The admin thread reads. Deliberately absent: labels that a client or a venue
//! could make up; every label here comes from a closed set.

mod exposition;
mod names;
mod process;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

pub use exposition::{Exposition, Kind};
pub use names::{Counter, Gauge, Histogram, ShardGauge};

/// The area of the threads that have [`ShardGauge`]s.
pub const SHARD: &str = "shard";

/// Upper bounds of the histograms' buckets, ns: 1, 2 and 5 of each decade from 1 us to 10 s.
const BUCKETS: [u64; 22] = {
    let mut bounds = [0; 22];
    let (mut i, mut decade) = (0, 1_000);
    while i < 22 {
        bounds[i] = decade * [1, 2, 5][i % 3];
        if i % 3 == 2 {
            decade *= 10;
        }
        i += 1;
    }
    bounds
};

/// One thread's counters. Aligned so that no two threads' share a cache line, nor the pair of lines that
/// x86 fetches together.
///
/// Everything is Relaxed: these are numbers to look at, and order no other memory. Adding is a real
/// `fetch_add`, so a second thread that counts here is slow and not wrong.
#[derive(Debug)]
#[repr(align(128))]
pub struct ThreadMetrics {
    area: &'static str,
    counters: [AtomicU64; Counter::COUNT],
    gauges: [AtomicU64; Gauge::COUNT],
    /// ns.
    shard_gauges: [AtomicU64; ShardGauge::COUNT],
    histograms: [Cells; Histogram::COUNT],
}

#[derive(Debug)]
struct Cells {
    /// One for each bound, not cumulative, and one for what is above all of them.
    buckets: [AtomicU64; BUCKETS.len() + 1],
    sum_ns: AtomicU64,
}

impl ThreadMetrics {
    /// Counts on: `n` more.
    pub fn add(&self, counter: Counter, n: u64) {
        self.counters[counter as usize].fetch_add(n, Ordering::Relaxed);
    }

    /// Sets this thread's part of a gauge; the scrape shows the sum over threads.
    pub fn set(&self, gauge: Gauge, value: u64) {
        self.gauges[gauge as usize].store(value, Ordering::Relaxed);
    }

    /// Sets what a shard shows for itself.
    pub fn set_shard(&self, gauge: ShardGauge, value: Duration) {
        let ns = u64::try_from(value.as_nanos()).unwrap_or(u64::MAX);
        self.shard_gauges[gauge as usize].store(ns, Ordering::Relaxed);
    }

    /// Counts a latency in, ns. Negative ones, which a clock set back gives, count as 0.
    pub fn observe(&self, histogram: Histogram, ns: i64) {
        let ns = u64::try_from(ns).unwrap_or(0);
        let cells = &self.histograms[histogram as usize];
        let bucket = BUCKETS.partition_point(|bound| *bound < ns);
        cells.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        cells.sum_ns.fetch_add(ns, Ordering::Relaxed);
    }
}

/// What another crate counts, written into the scrape.
type Collector = Box<dyn Fn(&mut Exposition) + Send + Sync>;

/// All metrics of the process.
pub struct Metrics {
    started: SystemTime,
    /// Threads are never taken out: what an ended one counted stays counted.
    threads: Mutex<Vec<Arc<ThreadMetrics>>>,
    collectors: Mutex<Vec<Collector>>,
}

impl Metrics {
    /// No threads yet. The process counts as started now.
    pub fn new() -> Metrics {
        Metrics { started: SystemTime::now(), threads: Mutex::new(Vec::new()), collectors: Mutex::new(Vec::new()) }
    }

    /// Counters for one more thread. `area` is what the thread is, such as [`SHARD`] or `sequencer`. Shards are
    /// numbered as they register.
    pub fn register(&self, area: &'static str) -> Arc<ThreadMetrics> {
        let thread = Arc::new(ThreadMetrics {
            area,
            counters: std::array::from_fn(|_| AtomicU64::new(0)),
            gauges: std::array::from_fn(|_| AtomicU64::new(0)),
            shard_gauges: std::array::from_fn(|_| AtomicU64::new(0)),
            histograms: std::array::from_fn(|_| Cells {
                buckets: std::array::from_fn(|_| AtomicU64::new(0)),
                sum_ns: AtomicU64::new(0),
            }),
        });
        lock(&self.threads).push(Arc::clone(&thread));
        thread
    }

    /// Adds a source of metrics that are counted elsewhere; it is called at every scrape, on the admin
    /// thread, and must not block.
    pub fn collect(&self, collector: impl Fn(&mut Exposition) + Send + Sync + 'static) {
        lock(&self.collectors).push(Box::new(collector));
    }

    /// A counter over all threads.
    pub fn total(&self, counter: Counter) -> u64 {
        lock(&self.threads).iter().map(|t| t.counters[counter as usize].load(Ordering::Relaxed)).sum()
    }

    /// A gauge over all threads.
    pub fn gauge(&self, gauge: Gauge) -> u64 {
        lock(&self.threads).iter().map(|t| t.gauges[gauge as usize].load(Ordering::Relaxed)).sum()
    }

    /// Everything in the Prometheus text format.
    pub fn render(&self) -> String {
        let mut out = Exposition::default();
        self.render_process(&mut out);
        for counter in Counter::ALL {
            out.sample(Kind::Counter, counter.name(), counter.help(), counter.labels(), self.total(counter));
        }
        for gauge in Gauge::ALL {
            out.sample(Kind::Gauge, gauge.name(), gauge.help(), &[], self.gauge(gauge));
        }
        self.render_shards(&mut out);
        for histogram in Histogram::ALL {
            let (buckets, sum_ns) = self.histogram(histogram);
            out.histogram(histogram.name(), histogram.help(), &BUCKETS, &buckets, sum_ns);
        }
        for collector in lock(&self.collectors).iter() {
            collector(&mut out);
        }
        out.into_text()
    }

    fn histogram(&self, histogram: Histogram) -> ([u64; BUCKETS.len() + 1], u64) {
        let mut buckets = [0; BUCKETS.len() + 1];
        let mut sum_ns = 0u64;
        for thread in lock(&self.threads).iter() {
            let cells = &thread.histograms[histogram as usize];
            for (total, cell) in buckets.iter_mut().zip(&cells.buckets) {
                *total += cell.load(Ordering::Relaxed);
            }
            sum_ns = sum_ns.wrapping_add(cells.sum_ns.load(Ordering::Relaxed));
        }
        (buckets, sum_ns)
    }

    fn render_process(&self, out: &mut Exposition) {
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        out.sample(Kind::Gauge, "gateway_build_info", "The version that runs; always 1.", &version, 1);
        let mut areas: Vec<(&'static str, u64)> = Vec::new();
        for thread in lock(&self.threads).iter() {
            match areas.iter_mut().find(|(area, _)| *area == thread.area) {
                Some((_, count)) => *count += 1,
                None => areas.push((thread.area, 1)),
            }
        }
        for (area, count) in areas {
            out.sample(Kind::Gauge, "gateway_threads", "Threads by what they do.", &[("area", area)], count);
        }
        process::render(out, self.started);
    }

    fn render_shards(&self, out: &mut Exposition) {
        for gauge in ShardGauge::ALL {
            for (index, thread) in lock(&self.threads).iter().filter(|thread| thread.area == SHARD).enumerate() {
                let ns = thread.shard_gauges[gauge as usize].load(Ordering::Relaxed);
                let labels = [("shard", &*index.to_string())];
                out.sample(Kind::Gauge, gauge.name(), gauge.help(), &labels, exposition::seconds(ns));
            }
        }
    }
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new()
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Metrics").field("threads", &lock(&self.threads).len()).finish_non_exhaustive()
    }
}

/// The lists stay whole whatever happens to a thread that holds them.
fn lock<T>(list: &Mutex<T>) -> MutexGuard<'_, T> {
    list.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn threads_are_summed() {
        let metrics = Metrics::new();
        let (one, two) = (metrics.register("shard"), metrics.register("shard"));
        one.add(Counter::MessagesDelivered, 40);
        two.add(Counter::MessagesDelivered, 2);
        one.set(Gauge::Connections, 7);
        two.set(Gauge::Connections, 5);
        one.set(Gauge::Connections, 3);
        drop(two);
        assert_eq!((metrics.total(Counter::MessagesDelivered), metrics.gauge(Gauge::Connections)), (42, 8));
        let text = metrics.render();
        assert!(text.contains("\ngateway_messages_delivered_total 42\n"), "{text}");
        assert!(text.contains("\ngateway_connections 8\n"), "{text}");
        assert!(text.contains("\ngateway_threads{area=\"shard\"} 2\n"), "{text}");
    }

    #[test]
    fn shards_are_told_apart() {
        let metrics = Metrics::new();
        let (one, _, two) = (metrics.register(SHARD), metrics.register("sequencer"), metrics.register(SHARD));
        one.set_shard(ShardGauge::Round, Duration::from_millis(12));
        two.set_shard(ShardGauge::Round, Duration::from_millis(3));
        two.set_shard(ShardGauge::Round, Duration::ZERO);
        let text = metrics.render();
        let shown: Vec<&str> = text.lines().filter(|line| line.starts_with("gateway_shard_round_seconds")).collect();
        let expected =
            [r#"gateway_shard_round_seconds{shard="0"} 0.012"#, r#"gateway_shard_round_seconds{shard="1"} 0"#];
        assert_eq!(shown, expected);
    }

    #[test]
    fn latencies_fall_into_buckets() {
        let metrics = Metrics::new();
        let thread = metrics.register("shard");
        for ns in [-5, 1_000, 1_001, 2_000, 60_000_000_000] {
            thread.observe(Histogram::TickToWrite, ns);
        }
        let text = metrics.render();
        let name = Histogram::TickToWrite.name();
        for (bound, count) in [("0.000001", 2), ("0.000002", 4), ("10", 4), ("+Inf", 5)] {
            assert!(text.contains(&format!("\n{name}_bucket{{le=\"{bound}\"}} {count}\n")), "{bound}: {text}");
        }
        assert!(text.contains(&format!("\n{name}_count 5\n")), "{text}");
        assert!(text.contains(&format!("\n{name}_sum 60.000004001\n")), "{text}");
    }

    #[test]
    fn every_series_is_there_once_and_well_formed() {
        let metrics = Metrics::new();
        metrics.register("shard");
        let text = metrics.render();
        let mut series = HashSet::new();
        let mut described = HashSet::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# ") {
                let mut words = rest.split(' ');
                if words.next() == Some("TYPE") {
                    let name = words.next().unwrap();
                    assert!(described.insert(name.to_owned()), "{name} is described twice");
                    assert_eq!(words.next() == Some("counter"), name.ends_with("_total"), "{name}");
                }
                continue;
            }
            let (key, value) = line.rsplit_once(' ').unwrap();
            assert!(value.parse::<f64>().is_ok(), "{line}");
            assert!(series.insert(key.to_owned()), "{key} is there twice");
            let name = key.split('{').next().unwrap();
            assert!(name.starts_with("gateway_") || name.starts_with("process_"), "{name}");
            let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
            assert!(described.contains(family), "{name} stands before its TYPE");
        }
        assert!(series.len() >= Counter::COUNT + Gauge::COUNT);
    }

    #[test]
    fn collectors_take_part() {
        let metrics = Metrics::new();
        metrics.collect(|out| out.sample(Kind::Counter, "gateway_feed_frames_total", "Frames.", &[("source", "a")], 9));
        let text = metrics.render();
        assert!(text.contains("# TYPE gateway_feed_frames_total counter\n"), "{text}");
        assert!(text.contains("\ngateway_feed_frames_total{source=\"a\"} 9\n"), "{text}");
    }
}
