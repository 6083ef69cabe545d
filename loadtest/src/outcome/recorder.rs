//! Adds up what workers and servers tell, on the coordinator's thread.

use std::collections::BTreeMap;

use super::intervals::Intervals;
use super::servers::{Servers, Stretch};
use super::{Distribution, Ending, FORMAT, Finding, Header, Judged, Outcome, Phase, Rates, validity};
use crate::sample::{Counts, Fault, FaultKind, Gauges, Sample};
use crate::server::Reading;
use crate::thresholds::Thresholds;
use crate::timings::Timings;

/// Faults of one kind that a report tells in words.
const FAULTS_PER_KIND_MAX: usize = 20;

/// A run in the making.
#[derive(Debug)]
pub struct Recorder {
    header: Header,
    phases: Vec<Recording>,
    intervals: Intervals,
    servers: Servers,
    faults: BTreeMap<FaultKind, Vec<Fault>>,
    faults_left_out: u64,
    findings: Vec<Finding>,
    /// When the first client began to connect, Unix ns, to an interval's length.
    first_connect_ns: Option<i64>,
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Unix ns.
    pub at_ns: i64,
    pub ending: Ending,
    /// Whether the run is about messages, so that one without any shows nothing.
    pub needs_data: bool,
    /// What was to be done and was not, or another reason why the figures must not be believed, in sentences.
    pub invalid: Vec<String>,
}

/// How things stand, for the live line. Rates, latencies and shares are those of the last second or so, counts those of the
/// run so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Live {
    pub connecting: u64,
    pub ready: u64,
    pub stalled: u64,
    /// A second.
    pub messages: f64,
    pub bytes: f64,
    pub handshakes: f64,
    /// ns.
    pub p50: Option<u64>,
    pub p99: Option<u64>,
    pub missing: u64,
    pub announced: u64,
    pub duplicates: u64,
    pub reordered: u64,
    pub malformed: u64,
    pub lost: u64,
    pub refused: u64,
    /// 99th percentile of the harness's own lag, ns.
    pub schedule_lag_p99: Option<u64>,
    /// The busiest worker's share of a core.
    pub worker_share: f64,
    /// Share of one core, all watched servers.
    pub server_share: Option<f64>,
    pub server_rss_bytes: Option<u64>,
}

/// A phase in the making.
#[derive(Debug)]
struct Recording {
    name: String,
    judged: Judged,
    planned: u64,
    begun_ns: i64,
    /// Earliest start and latest end of its samples, Unix ns.
    bounds_ns: Option<(i64, i64)>,
    upgraded_ns: Option<(i64, i64)>,
    ahead_ns_max: u64,
    counts: Counts,
    workers: BTreeMap<u32, Worker>,
    timings: PhaseTimings,
}

#[derive(Clone, Copy, Debug, Default)]
struct Worker {
    span_ns: u64,
    cpu_ns: u64,
    at_ns: i64,
    gauges: Gauges,
}

/// Made when something is recorded: a histogram takes a quarter of a megabyte, and a soak has many phases.
#[derive(Debug, Default)]
struct PhaseTimings {
    latency: Option<Timings>,
    handshake: Option<Timings>,
    ready: Option<Timings>,
    first_message: Option<Timings>,
    effect: Option<Timings>,
    command: Option<Timings>,
    schedule_lag: Option<Timings>,
    read_lag: Option<Timings>,
}

impl Recorder {
    pub fn new(header: Header) -> Recorder {
        Recorder {
            intervals: Intervals::new(header.interval_ns),
            header,
            phases: Vec::new(),
            servers: Servers::default(),
            faults: BTreeMap::new(),
            faults_left_out: 0,
            findings: Vec::new(),
            first_connect_ns: None,
        }
    }

    /// Begins a phase; returns the index that its samples carry. `planned` is how many clients are to be connected in it
    /// (0: not said).
    pub fn begin_phase(&mut self, name: &str, judged: Judged, planned: u64, at_ns: i64) -> u32 {
        self.phases.push(Recording {
            name: name.to_owned(),
            judged,
            planned,
            begun_ns: at_ns,
            bounds_ns: None,
            upgraded_ns: None,
            ahead_ns_max: 0,
            counts: Counts::default(),
            workers: BTreeMap::new(),
            timings: PhaseTimings::default(),
        });
        self.phases.len() as u32 - 1
    }

    /// Counts an interval of a worker. One of a phase that has not begun is a mistake of the harness, and counts to the
    /// last one that has.
    ///
    /// # Panics
    /// Where no phase has begun.
    pub fn add(&mut self, sample: &Sample) {
        debug_assert!((sample.phase as usize) < self.phases.len());
        let last = self.phases.len().checked_sub(1).expect("Invariant: a phase begins before its samples");
        let index = last.min(sample.phase as usize);
        self.phases[index].add(sample);
        self.intervals.add(index as u32, sample);
        let start_ns = start_ns(sample);
        if sample.counts.connects > 0 {
            self.first_connect_ns = Some(self.first_connect_ns.map_or(start_ns, |first| first.min(start_ns)));
        }
        for fault in &sample.faults {
            let faults = self.faults.entry(fault.kind).or_default();
            if faults.len() < FAULTS_PER_KIND_MAX {
                faults.push(fault.clone());
            } else {
                self.faults_left_out += 1;
            }
        }
    }

    /// By how much the coordinator itself was late with what it did in a phase.
    pub fn add_lag(&mut self, phase: u32, lag: &Timings) {
        if let Some(phase) = self.phases.get_mut(phase as usize)
            && lag.count() > 0
        {
            phase.timings.schedule_lag.get_or_insert_default().add(lag);
        }
    }

    pub fn add_server(&mut self, reading: &Reading) {
        self.servers.add(reading);
    }

    /// Adds a figure that only the scenario knows.
    pub fn finding(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    /// A phase as it stands, for a scenario that decides by it. What the server cost is known up to the last reading.
    pub fn phase(&self, index: u32) -> Option<Phase> {
        Some(self.phases.get(index as usize)?.phase(&self.servers, self.first_connect_ns))
    }

    pub fn live(&self) -> Live {
        let mut counts = Counts::default();
        self.phases.iter().for_each(|phase| counts.add(&phase.counts));
        let (server_share, server_rss_bytes) = self.servers.latest();
        let point = self.intervals.latest(self.header.started_ns).unwrap_or_default();
        Live {
            connecting: point.connecting,
            ready: point.ready,
            stalled: point.stalled,
            messages: point.messages,
            bytes: point.bytes,
            handshakes: point.handshakes,
            p50: point.p50,
            p99: point.p99,
            missing: counts.missing,
            announced: counts.announced,
            duplicates: counts.duplicates,
            reordered: counts.reordered,
            malformed: counts.malformed,
            lost: counts.lost,
            refused: counts.refused,
            schedule_lag_p99: point.schedule_lag_p99,
            worker_share: point.worker_share_max,
            server_share,
            server_rss_bytes,
        }
    }

    /// The run as a whole, judged.
    pub fn finish(self, ended: Ended, thresholds: &Thresholds) -> Outcome {
        let phases = self.phases.iter().map(|phase| phase.phase(&self.servers, self.first_connect_ns)).collect();
        let (series, intervals) = self.intervals.finish(self.header.started_ns);
        let mut outcome = Outcome {
            format: FORMAT.to_owned(),
            ended_ns: ended.at_ns,
            ending: ended.ending,
            invalid: ended.invalid,
            notes: Vec::new(),
            verdicts: Vec::new(),
            findings: self.findings,
            phases,
            series,
            servers: self.servers.finish(self.header.started_ns),
            faults: self.faults.into_values().flatten().collect(),
            faults_left_out: self.faults_left_out,
            intervals,
            header: self.header,
        };
        let doubts = validity::doubts(&outcome, ended.needs_data);
        outcome.invalid.extend(doubts.reasons);
        outcome.notes = doubts.notes;
        outcome.verdicts = thresholds.judge(&outcome);
        outcome
    }
}

fn start_ns(sample: &Sample) -> i64 {
    sample.at_ns.saturating_sub_unsigned(sample.span_ns)
}

/// The earlier start and the later end.
fn widest(a: Option<(i64, i64)>, b: Option<(i64, i64)>) -> Option<(i64, i64)> {
    match (a, b) {
        (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
        (a, b) => a.or(b),
    }
}

impl Recording {
    fn add(&mut self, sample: &Sample) {
        self.bounds_ns = widest(self.bounds_ns, Some((start_ns(sample), sample.at_ns)));
        self.upgraded_ns = widest(self.upgraded_ns, sample.upgraded_ns);
        self.ahead_ns_max = self.ahead_ns_max.max(sample.ahead_ns_max);
        self.counts.add(&sample.counts);
        let worker = self.workers.entry(sample.worker).or_default();
        worker.span_ns += sample.span_ns;
        worker.cpu_ns += sample.cpu_ns;
        if sample.at_ns >= worker.at_ns {
            (worker.at_ns, worker.gauges) = (sample.at_ns, sample.gauges);
        }
        let timings = &mut self.timings;
        for (ours, theirs) in [
            (&mut timings.latency, &sample.latency),
            (&mut timings.handshake, &sample.handshake),
            (&mut timings.ready, &sample.ready),
            (&mut timings.first_message, &sample.first_message),
            (&mut timings.effect, &sample.effect),
            (&mut timings.command, &sample.command),
            (&mut timings.schedule_lag, &sample.schedule_lag),
            (&mut timings.read_lag, &sample.read_lag),
        ] {
            if theirs.count() > 0 {
                ours.get_or_insert_default().add(theirs);
            }
        }
    }

    fn phase(&self, servers: &Servers, first_connect_ns: Option<i64>) -> Phase {
        let (start_ns, end_ns) = self.bounds_ns.unwrap_or((self.begun_ns, self.begun_ns));
        let seconds = (end_ns - start_ns) as f64 / 1e9;
        let rate = |count: u64| if seconds > 0.0 { count as f64 / seconds } else { 0.0 };
        let gauges = || self.workers.values().map(|worker| worker.gauges);
        let clients = Gauges {
            connecting: gauges().map(|gauges| gauges.connecting).sum(),
            ready: gauges().map(|gauges| gauges.ready).sum(),
            stalled: gauges().map(|gauges| gauges.stalled).sum(),
            gone: gauges().map(|gauges| gauges.gone).sum(),
        };
        let share = |worker: &Worker| worker.cpu_ns as f64 / worker.span_ns.max(1) as f64;
        let stretch = Stretch {
            start_ns,
            end_ns,
            messages: self.counts.messages,
            clients: clients.ready + clients.stalled,
            first_connect_ns,
        };
        let distribution = |timings: &Option<Timings>| timings.clone().and_then(Distribution::of);
        let commands = self.timings.command.as_ref().map_or(0, Timings::count);
        Phase {
            name: self.name.clone(),
            judged: self.judged,
            planned: self.planned,
            start_ns,
            end_ns,
            rates: Rates {
                messages: rate(self.counts.messages),
                bytes: rate(self.counts.bytes),
                handshakes: self.handshakes_per_second(),
                commands: rate(commands),
            },
            counts: self.counts.clone(),
            ahead_ns_max: self.ahead_ns_max,
            clients,
            latency: distribution(&self.timings.latency),
            handshake: distribution(&self.timings.handshake),
            ready: distribution(&self.timings.ready),
            first_message: distribution(&self.timings.first_message),
            effect: distribution(&self.timings.effect),
            command: distribution(&self.timings.command),
            schedule_lag: distribution(&self.timings.schedule_lag),
            read_lag: distribution(&self.timings.read_lag),
            workers: self.workers.iter().map(|(id, worker)| (*id, share(worker))).collect(),
            server: servers.phase(&stretch),
        }
    }

    /// From the first to the last finished upgrade, the first one left out: `n` of them are `n - 1` steps.
    fn handshakes_per_second(&self) -> Option<f64> {
        let (first_ns, last_ns) = self.upgraded_ns?;
        let seconds = (last_ns - first_ns) as f64 / 1e9;
        (self.counts.upgrades >= 2 && seconds > 0.0).then(|| (self.counts.upgrades - 1) as f64 / seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Standing;
    use crate::report::testing::{STARTED_NS, header};

    const SECOND: i64 = 1_000_000_000;

    fn sample(worker: u32, phase: u32, second: i64) -> Sample {
        Sample { worker, phase, at_ns: STARTED_NS + second * SECOND, span_ns: 1_000_000_000, ..Sample::default() }
    }

    fn finished(recorder: Recorder) -> Outcome {
        let ended =
            Ended { at_ns: STARTED_NS + 10 * SECOND, ending: Ending::Complete, needs_data: false, invalid: Vec::new() };
        recorder.finish(ended, &Thresholds::default())
    }

    #[test]
    fn a_phase_is_the_sum_of_its_samples() {
        let mut recorder = Recorder::new(header());
        let first = recorder.begin_phase("first", Judged::Everything, 0, STARTED_NS);
        let second = recorder.begin_phase("second", Judged::Everything, 0, STARTED_NS + 2 * SECOND);
        for (worker, phase, at, messages) in
            [(0, first, 1, 10), (1, first, 1, 20), (0, first, 2, 30), (1, second, 3, 5)]
        {
            let mut sample = sample(worker, phase, at);
            (sample.counts.messages, sample.counts.bytes) = (messages, 100 * messages);
            sample.cpu_ns = 250_000_000;
            sample.gauges.ready = messages;
            (0..messages).for_each(|n| sample.latency.record(n * 1_000_000));
            recorder.add(&sample);
        }
        assert_eq!(recorder.phase(first).unwrap().counts.messages, 60);
        let outcome = finished(recorder);
        let [first, second] = outcome.phases.as_slice() else { panic!("{:?}", outcome.phases) };
        assert_eq!((first.counts.messages, first.rates.messages, first.seconds()), (60, 30.0, 2.0));
        // Each worker's last word: 30 and 20.
        assert_eq!(first.clients.ready, 50);
        assert_eq!(first.latency.as_ref().unwrap().count, 60);
        assert_eq!(first.workers, BTreeMap::from([(0, 0.25), (1, 0.25)]));
        assert_eq!((second.counts.messages, second.clients.ready), (5, 5));
        assert_eq!((outcome.standing(), outcome.exit_status()), (Standing::Held, 0));
    }

    #[test]
    fn a_storm_is_rated_by_its_own_length() {
        let mut recorder = Recorder::new(header());
        let phase = recorder.begin_phase("storm", Judged::Everything, 0, STARTED_NS);
        for (worker, from, to, upgrades) in [(0, 100, 300, 501), (1, 200, 600, 500)] {
            let mut sample = sample(worker, phase, 1);
            (sample.counts.connects, sample.counts.upgrades) = (upgrades, upgrades);
            sample.upgraded_ns = Some((STARTED_NS + from * 1_000_000, STARTED_NS + to * 1_000_000));
            recorder.add(&sample);
        }
        // 1,000 steps in half a second.
        assert_eq!(finished(recorder).phases[0].rates.handshakes, Some(2_000.0));
    }

    #[test]
    fn faults_are_told_up_to_a_number_of_each_kind() {
        let mut recorder = Recorder::new(header());
        let phase = recorder.begin_phase("all", Judged::Everything, 0, STARTED_NS);
        let mut sample = sample(0, phase, 1);
        for client in 0..30 {
            for kind in [FaultKind::Missing, FaultKind::Lost] {
                sample.faults.push(Fault { kind, at_ns: 0, client, text: String::new() });
            }
        }
        recorder.add(&sample);
        let outcome = finished(recorder);
        assert_eq!((outcome.faults.len(), outcome.faults_left_out), (40, 20));
    }

    #[test]
    fn the_live_line_tells_of_the_last_second_and_of_all_faults() {
        let mut recorder = Recorder::new(header());
        assert_eq!(recorder.live().ready, 0);
        let phase = recorder.begin_phase("all", Judged::Everything, 0, STARTED_NS);
        for second in 1..=9 {
            let mut sample = sample(0, phase, second);
            (sample.counts.messages, sample.counts.missing, sample.gauges.ready) = (second as u64, 1, 7);
            recorder.add(&sample);
        }
        let live = recorder.live();
        // The newest second may lack samples yet.
        assert_eq!((live.messages, live.missing, live.ready), (8.0, 9, 7));
    }

    #[test]
    fn how_a_run_ends_is_its_exit_status() {
        let check = |missing: u64, ending: Ending, invalid: &[&str], expected: u8| {
            let mut recorder = Recorder::new(header());
            let phase = recorder.begin_phase("all", Judged::Everything, 0, STARTED_NS);
            let mut sample = sample(0, phase, 1);
            (sample.counts.missing, sample.counts.connects) = (missing, 1);
            recorder.add(&sample);
            let invalid = invalid.iter().map(|reason| (*reason).to_owned()).collect();
            let outcome = recorder
                .finish(Ended { at_ns: STARTED_NS, ending, needs_data: false, invalid }, &Thresholds::default());
            assert_eq!(outcome.exit_status(), expected);
        };
        check(0, Ending::Complete, &[], 0);
        check(1, Ending::Complete, &[], 1);
        check(1, Ending::Complete, &["No message came."], 2);
        check(0, Ending::Interrupted, &[], 130);
    }
}
