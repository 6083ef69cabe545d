//! What a worker counts between two samples. Owned by the worker's thread; deliberately absent: totals, which the
//! coordinator makes.

use crate::clock::{Now, process_cpu_ns};
use crate::sample::{Fault, FaultKind, Sample};

/// Faults of one kind that a worker puts in words in one phase; the counts go on.
const TOLD_MAX: u32 = 8;

/// The interval in progress.
#[derive(Debug)]
pub struct Tally {
    pub sample: Sample,
    began: Now,
    cpu_ns: u64,
    /// By kind.
    told: [u32; FaultKind::COUNT],
}

impl Tally {
    pub fn new(worker: u32, now: Now) -> Tally {
        Tally { sample: Sample::new(worker, 0), began: now, cpu_ns: process_cpu_ns(), told: [0; FaultKind::COUNT] }
    }

    /// Puts a fault in words, unless enough of its kind were.
    pub fn fault(&mut self, kind: FaultKind, client: u64, now: Now, text: impl FnOnce() -> String) {
        let told = &mut self.told[kind as usize];
        if *told < TOLD_MAX {
            *told += 1;
            self.sample.faults.push(Fault { kind, at_ns: now.wall_ns, client, text: text() });
        }
    }

    /// Ends the interval: completes the sample, hands it to `tell`, and begins the next one.
    pub fn end_interval<T>(&mut self, now: Now, tell: impl FnOnce(&Sample) -> T) -> T {
        let cpu_ns = process_cpu_ns();
        let sample = &mut self.sample;
        sample.at_ns = now.wall_ns;
        sample.span_ns = now.mono_ns - self.began.mono_ns;
        sample.cpu_ns = cpu_ns.saturating_sub(self.cpu_ns);
        let told = tell(sample);
        self.began = now;
        self.cpu_ns = cpu_ns;
        sample.clear();
        told
    }

    /// A new phase: samples from now on are its own.
    pub fn begin_phase(&mut self, phase: u32) {
        self.sample.phase = phase;
        self.told = [0; FaultKind::COUNT];
    }

    /// An upgrade finished.
    pub fn upgraded(&mut self, now: Now) {
        self.sample.counts.upgrades += 1;
        let first = self.sample.upgraded_ns.map_or(now.wall_ns, |(first, _)| first);
        self.sample.upgraded_ns = Some((first, now.wall_ns));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    #[test]
    fn an_interval_begins_where_the_last_one_ended() {
        let clock = Clock::start();
        let start = clock.now();
        let mut tally = Tally::new(3, start);
        tally.begin_phase(2);
        tally.sample.counts.messages = 5;
        tally.sample.latency.record(10);
        let later = Now { wall_ns: start.wall_ns + 1_000, mono_ns: start.mono_ns + 1_000 };
        let seen =
            tally.end_interval(later, |sample| (sample.worker, sample.phase, sample.counts.messages, sample.span_ns));
        assert_eq!(seen, (3, 2, 5, 1_000));
        let latest = Now { wall_ns: later.wall_ns + 500, mono_ns: later.mono_ns + 500 };
        let seen = tally.end_interval(latest, |sample| {
            (sample.phase, sample.counts.messages, sample.latency.count(), sample.span_ns)
        });
        assert_eq!(seen, (2, 0, 0, 500));
    }

    #[test]
    fn only_the_first_faults_of_a_kind_are_told() {
        let now = Clock::start().now();
        let mut tally = Tally::new(0, now);
        for _ in 0..100 {
            tally.fault(FaultKind::Missing, 1, now, || "missing".to_owned());
        }
        tally.fault(FaultKind::Lost, 1, now, || "lost".to_owned());
        assert_eq!(tally.sample.faults.len(), TOLD_MAX as usize + 1);
    }
}
