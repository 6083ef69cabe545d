//! Runs that never were, as a recorder would have recorded them, for the tests of what is made of them.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use crate::facts::Facts;
use crate::outcome::{Better, Ended, Ending, Finding, HarnessLimits, Header, Judged, Outcome, Recorder, Unit};
use crate::sample::{Counts, Fault, FaultKind, Gauges, Sample};
use crate::server::{Reading, SourceKind};
use crate::thresholds::{Nanos, Thresholds};

const SECOND: i64 = 1_000_000_000;

/// 2026-11-20T12:00:00Z.
pub(crate) const STARTED_NS: i64 = 1_795_176_000 * SECOND;

/// Two workers of 500 clients each, a warm-up and three phases of which one has stalled clients; everything held.
pub(crate) fn held() -> Outcome {
    // Made once: adding up histograms takes a while without optimisation.
    static HELD: LazyLock<Outcome> = LazyLock::new(|| {
        Script::default().run(&Thresholds { max_p99: Some(Nanos(60_000_000)), ..Thresholds::default() })
    });
    HELD.clone()
}

/// The same, but messages got lost, one was there twice, and a threshold is about something that was not there.
pub(crate) fn broken() -> Outcome {
    let script = Script { faults: true, ..Script::default() };
    let limits = Thresholds {
        max_p99: Some(Nanos(20_000_000)),
        max_rss: Some("1GiB".parse().unwrap()),
        ..Thresholds::default()
    };
    let unmeasured = Thresholds { min_handshakes: Some(5_000.0), ..limits };
    script.run(&unmeasured)
}

/// The harness was the bottleneck, and somebody lost patience.
pub(crate) fn invalid() -> Outcome {
    let script = Script { worker_share: 0.99, ending: Ending::Interrupted, ..Script::default() };
    script.run(&Thresholds::default())
}

/// Nothing happened at all.
pub(crate) fn empty() -> Outcome {
    let recorder = Recorder::new(header());
    let ended = Ended { at_ns: STARTED_NS, ending: Ending::Complete, needs_data: false, invalid: Vec::new() };
    recorder.finish(ended, &Thresholds::default())
}

pub(crate) fn header() -> Header {
    let limits = [("net.core.somaxconn", "4096"), ("net.ipv4.ip_local_port_range", "32768 60999")];
    Header {
        scenario: "slow".to_owned(),
        settings: serde_json::json!({"clients": 1_000, "rate": 300.0, "share": 0.1, "channel": "trades", "symbols": ["BTC/USD"]}),
        command: "loadtest slow --clients 1000 --share 0.1 --target ws://127.0.0.1:8080/stream --key *** --secret ***"
            .to_owned(),
        targets: vec!["ws://127.0.0.1:8080/stream".to_owned()],
        facts: Facts {
            version: "0.1.0".to_owned(),
            commit: "0123456789ab".to_owned(),
            host: "bench-1".to_owned(),
            cpu_model: "A Processor <fast> @ 3.0 GHz".to_owned(),
            cores: 2,
            memory_bytes: 8 << 30,
            kernel: "Linux 6.1.0".to_owned(),
            clock_source: "tsc".to_owned(),
            cpu_quota: Some("max 100000".to_owned()),
            load_average: Some(0.25),
            limits: limits.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        },
        started_ns: STARTED_NS,
        latency_from: "the gateway's read of the venue's socket (rx)".to_owned(),
        interval_ns: SECOND.unsigned_abs(),
        limits: HarnessLimits::default(),
    }
}

/// What is to happen.
struct Script {
    faults: bool,
    worker_share: f64,
    ending: Ending,
    /// Times all latencies and the server's processor time.
    slowness: f64,
}

impl Default for Script {
    fn default() -> Script {
        Script { faults: false, worker_share: 0.62, ending: Ending::Complete, slowness: 1.0 }
    }
}

/// The same run as [`held`], with latencies and server costs this many times as high.
pub(crate) fn slower(slowness: f64) -> Outcome {
    Script { slowness, ..Script::default() }.run(&Thresholds::default())
}

impl Script {
    fn run(&self, thresholds: &Thresholds) -> Outcome {
        let mut recorder = Recorder::new(header());
        let phases = [
            ("warm-up", Judged::FaultsOnly, 5),
            ("baseline", Judged::Everything, 20),
            ("stalled clients", Judged::Everything, 20),
            ("recovered", Judged::Everything, 15),
        ];
        let mut noise = Noise(7);
        let mut second = 0;
        recorder.add_server(&self.reading(0));
        for (name, judged, seconds) in phases {
            let phase = recorder.begin_phase(name, judged, 1_000, STARTED_NS + second * SECOND);
            for _ in 0..seconds {
                second += 1;
                for worker in 0..2 {
                    recorder.add(&self.sample(worker, phase, second, &mut noise));
                }
                recorder.add_server(&self.reading(second));
            }
        }
        recorder.finding(Finding {
            name: "Effect of the stalled".to_owned(),
            value: 0.04,
            unit: Unit::Share,
            better: Better::Lower,
            text: "The others' p99 while clients were stalled, against the baseline.".to_owned(),
        });
        let ended =
            Ended { at_ns: STARTED_NS + second * SECOND, ending: self.ending, needs_data: true, invalid: Vec::new() };
        recorder.finish(ended, thresholds)
    }

    fn sample(&self, worker: u32, phase: u32, second: i64, noise: &mut Noise) -> Sample {
        let mut sample = Sample {
            worker,
            phase,
            at_ns: STARTED_NS + second * SECOND,
            span_ns: SECOND.unsigned_abs(),
            cpu_ns: (self.worker_share * (0.97 + 0.06 * noise.next()) * 1e9) as u64,
            ..Sample::default()
        };
        let stalled = if phase == 2 { 50 } else { 0 };
        sample.gauges = Gauges { ready: 500 - stalled, stalled, ..Gauges::default() };
        if second == 1 {
            (sample.counts.connects, sample.counts.upgrades) = (500, 500);
            for _ in 0..500 {
                let upgraded = 1_000_000 + (noise.next().powi(2) * 80e6) as u64;
                sample.handshake.record(upgraded);
                sample.ready.record(upgraded + 400_000);
                sample.first_message.record(upgraded + 3_000_000);
            }
        }
        let load = 1.0 + 0.08 * (second as f64 / 6.0).sin() + if phase == 2 { 0.15 } else { 0.0 };
        let messages = 600 + (noise.next() * 20.0) as u64;
        for _ in 0..messages {
            let tail = if noise.next() > 0.995 { 6.0 * noise.next() } else { 0.0 };
            let ms = self.slowness * load * (1.2 + 5.0 * noise.next() + 4.0 * noise.next().powi(8) + tail);
            sample.latency.record((ms * 1e6) as u64);
            sample.read_lag.record((ms * 1e5) as u64);
            sample.schedule_lag.record(20_000 + (noise.next() * 900_000.0) as u64);
        }
        sample.counts = Counts { messages, sequenced: messages, bytes: messages * 148, ..sample.counts };
        if self.faults && second == 31 && worker == 1 {
            sample.counts.missing = 3;
            sample.counts.duplicates = 1;
            sample.counts.errors = BTreeMap::from([(405, 2)]);
            let fault = |kind, client, text: &str| Fault {
                kind,
                at_ns: sample.at_ns - 4_000_000,
                client,
                text: text.to_owned(),
            };
            sample.faults = vec![
                fault(FaultKind::Missing, 917, "trades BTC/USD 1017 to 1019 did not come and were not announced"),
                fault(FaultKind::Duplicate, 918, "trades BTC/USD 1016 came again </script><script>alert(1)</script>"),
            ];
        }
        sample
    }

    fn reading(&self, second: i64) -> Reading {
        Reading {
            source: "pid 4711".to_owned(),
            kind: SourceKind::Process,
            at_ns: STARTED_NS + second * SECOND,
            cpu_ns: Some(((second as f64 + 0.2 * (second as f64 / 5.0).sin()) * 0.05e9 * self.slowness) as u64),
            rss_bytes: Some(if second == 0 { 11_000_000 } else { 11_600_000 + (second as u64).min(30) * 180_000 }),
            threads: Some(4),
            descriptors: Some(if second == 0 { 14 } else { 1_014 }),
            identity: Some("gateway".to_owned()),
            ..Reading::default()
        }
    }
}

/// Numbers that look random and are the same in every run (a linear congruential generator, Knuth's constants).
struct Noise(u64);

impl Noise {
    /// From 0 to 1.
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }
}
