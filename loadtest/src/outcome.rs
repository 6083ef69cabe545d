//! The result of a run: what the JSON report holds, what every other report is drawn from, and what `compare` reads back.
//! Built by a [`Recorder`] on the coordinator's thread; plain data from then on.
//!
//! How a run is recorded:
//! ```text
//! let mut recorder = Recorder::new(header);
//! let phase = recorder.begin_phase("measured", Judged::Everything, planned_clients, now_ns);   // workers are told `phase`
//! recorder.add(&sample); recorder.add_server(&reading); let live = recorder.live();
//! recorder.finding(Finding { .. });                                    // what only the scenario can say
//! let outcome = recorder.finish(Ended { .. }, &thresholds);            // validity and verdicts are in it
//! report::write_all(&outcome, &outputs)?; exit(outcome.exit_status());
//! ```
//! Workers do well to end their intervals at whole multiples of `interval_ns` of the wall clock: then points of the series
//! and samples are the same stretches of time.
//!
//! Deliberately absent: a clock. Whoever records says when things were.

mod distribution;
mod intervals;
mod recorder;
mod servers;
mod validity;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::facts::Facts;
use crate::sample::{Counts, Fault, Gauges};
use crate::thresholds::Verdict;
use crate::units;

pub use distribution::Distribution;
pub use intervals::{Interval, Point, Series};
pub use recorder::{Ended, Live, Recorder};
pub use servers::{ServerPhase, ServerPoint, ServerSeries};

/// What a report of this version opens with; another one is not read.
pub const FORMAT: &str = "signal-gateway loadtest/1";

/// Everything that is known of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// [`FORMAT`].
    pub format: String,
    pub header: Header,
    /// Unix ns.
    pub ended_ns: i64,
    pub ending: Ending,
    /// Why the figures must not be believed; empty where they may.
    pub invalid: Vec<String>,
    /// What the harness did badly where it does not count: in a warm-up, or for less than a tenth of a second.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Every threshold and how it went.
    pub verdicts: Vec<Verdict>,
    /// What only the scenario can say.
    pub findings: Vec<Finding>,
    pub phases: Vec<Phase>,
    pub series: Series,
    /// One for each process or metrics page that was watched.
    pub servers: Vec<ServerSeries>,
    /// The first ones of each kind.
    pub faults: Vec<Fault>,
    /// How many more workers told of.
    pub faults_left_out: u64,
    /// What each point of the series was made of, for the interval log; not in the JSON.
    #[serde(skip)]
    pub intervals: Vec<Interval>,
}

/// What is known before the first client connects.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Header {
    /// Name of the subcommand.
    pub scenario: String,
    /// All settings as they were after defaults, file and flags; holds no secret.
    pub settings: serde_json::Value,
    /// The command line, credentials masked ([`crate::facts::masked_command`]).
    pub command: String,
    pub targets: Vec<String>,
    pub facts: Facts,
    /// Unix ns.
    pub started_ns: i64,
    /// What a message's latency counts from, in words.
    pub latency_from: String,
    /// Length of a point of the series at the start, ns; doubles where a run gets long.
    pub interval_ns: u64,
    pub limits: HarnessLimits,
}

/// Beyond these the harness measured itself, and the run is invalid; in phases whose figures do not count, that is noted.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct HarnessLimits {
    /// Processor time of a worker over a phase, as a share of one core.
    pub cpu_share_max: f64,
    /// 99th percentile of the harness's own lag in a phase, ns.
    pub lag_ns_max: u64,
    /// From when on a message counts as from the future, ns.
    pub clock_tolerance_ns: u64,
}

impl Default for HarnessLimits {
    fn default() -> HarnessLimits {
        HarnessLimits { cpu_share_max: 0.95, lag_ns_max: 50_000_000, clock_tolerance_ns: 1_000_000 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// The scenario ran to its end.
    Complete,
    /// Somebody stopped it; the figures are of what was done until then.
    Interrupted,
}

/// Which thresholds and which limits of the harness a phase is held to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Judged {
    /// What is measured: all of them.
    Everything,
    /// Warm-up and the like: a lost message is one, but figures do not count.
    FaultsOnly,
    /// Meant to break something (a step of `find-max`).
    Nothing,
}

/// A stretch of the run in which the load was of one kind.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Phase {
    pub name: String,
    pub judged: Judged,
    /// How many clients were meant to be connected; 0 where that is not said.
    pub planned: u64,
    /// Unix ns, of the workers' first and last interval.
    pub start_ns: i64,
    pub end_ns: i64,
    pub counts: Counts,
    /// By how much the message furthest from the future was ahead of this machine's clock, ns; 0 without any.
    #[serde(default)]
    pub ahead_ns_max: u64,
    pub rates: Rates,
    /// How the clients stood at the end.
    pub clients: Gauges,
    /// `None` where there was nothing to time. All of these as in [`crate::sample::Sample`].
    pub latency: Option<Distribution>,
    pub handshake: Option<Distribution>,
    pub ready: Option<Distribution>,
    pub first_message: Option<Distribution>,
    #[serde(default)]
    pub effect: Option<Distribution>,
    pub command: Option<Distribution>,
    pub schedule_lag: Option<Distribution>,
    pub read_lag: Option<Distribution>,
    /// Processor time of each worker, as a share of one core.
    pub workers: BTreeMap<u32, f64>,
    /// The watched servers together; `None` where none was.
    pub server: Option<ServerPhase>,
}

impl Phase {
    /// Length, s; 0 where nothing came of it.
    pub fn seconds(&self) -> f64 {
        (self.end_ns - self.start_ns).max(0) as f64 / 1e9
    }

    /// The busiest worker's share of one core.
    pub fn worker_share_max(&self) -> Option<f64> {
        self.workers.values().copied().reduce(f64::max)
    }
}

/// Counts by the time they took, a second.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Rates {
    pub messages: f64,
    pub bytes: f64,
    /// Between the first and the last finished upgrade of the phase, not over all of it; `None` below two upgrades.
    pub handshakes: Option<f64>,
    pub commands: f64,
}

/// A figure that the scenario itself found (the highest rate that held, memory for each client).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Finding {
    pub name: String,
    pub value: f64,
    pub unit: Unit,
    pub better: Better,
    /// What it means or how it came about, a sentence; may be empty.
    pub text: String,
}

/// What a figure counts; reports write it accordingly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    Nanoseconds,
    Bytes,
    PerSecond,
    /// 1 is the whole.
    Share,
    Count,
}

impl Unit {
    /// A figure of this unit as people read it.
    pub fn text(self, value: f64) -> String {
        match self {
            Unit::Nanoseconds => units::duration_f64(value),
            Unit::Bytes => units::bytes(value),
            Unit::PerSecond => format!("{}/s", units::number(value)),
            Unit::Share => units::percent(value),
            Unit::Count => units::number(value),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    Lower,
    Higher,
    Neither,
}

/// What is to be said of a run in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Every threshold held.
    Held,
    /// At least one threshold broke.
    Broken,
    /// The figures must not be believed, whatever the thresholds say.
    Invalid,
}

impl Outcome {
    pub fn standing(&self) -> Standing {
        if !self.invalid.is_empty() {
            Standing::Invalid
        } else if self.verdicts.iter().any(|verdict| !verdict.held) {
            Standing::Broken
        } else {
            Standing::Held
        }
    }

    /// What the process ends with: 130 where it was interrupted, else 0 held, 1 broken, 2 invalid.
    pub fn exit_status(&self) -> u8 {
        match (self.ending, self.standing()) {
            (Ending::Interrupted, _) => 130,
            (_, Standing::Held) => 0,
            (_, Standing::Broken) => 1,
            (_, Standing::Invalid) => 2,
        }
    }

    /// Length of the run, s.
    pub fn seconds(&self) -> f64 {
        (self.ended_ns - self.header.started_ns).max(0) as f64 / 1e9
    }

    /// Phases whose figures count.
    pub fn counted(&self) -> impl Iterator<Item = &Phase> {
        self.phases.iter().filter(|phase| phase.judged == Judged::Everything)
    }
}
