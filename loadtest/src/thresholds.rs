//! What a run is held to: the limits that the user names, and those that hold unasked, because a server that loses or
//! repeats messages must be caught without asking.
//!
//! Faults are counted over all phases that are judged at all; figures over those that count ([`Judged`]), the worst phase
//! deciding. A limit on something that was not measured is broken, never silently kept.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::outcome::{Better, Distribution, Judged, Outcome, Phase, Unit};
use crate::sample::Counts;
use crate::units;

/// Limits, on the command line and in a scenario file (`[thresholds]`, same names).
#[derive(Clone, Debug, Default, PartialEq, clap::Args, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
#[command(next_help_heading = "Thresholds (exit status 1 where one breaks)")]
pub struct Thresholds {
    /// Median latency of messages, at most.
    #[arg(long, value_name = "DURATION")]
    pub max_p50: Option<Nanos>,
    /// 99th percentile of the latency, at most.
    #[arg(long, value_name = "DURATION")]
    pub max_p99: Option<Nanos>,
    /// 99.9th percentile of the latency, at most.
    #[arg(long, value_name = "DURATION")]
    pub max_p999: Option<Nanos>,
    /// Longest latency of all.
    #[arg(long, value_name = "DURATION")]
    pub max_latency: Option<Nanos>,
    /// Messages of sequenced channels that did not come, announced or not, at most.
    #[arg(long, value_name = "N")]
    pub max_gaps: Option<u64>,
    /// Messages of sequenced channels that neither came nor were announced, at most [default: 0, unless --max-gaps is given]
    #[arg(long, value_name = "N")]
    pub max_missing: Option<u64>,
    /// Messages that came twice, at most [default: 0]
    #[arg(long, value_name = "N")]
    pub max_duplicates: Option<u64>,
    /// Messages that came behind a later one, at most [default: 0]
    #[arg(long, value_name = "N")]
    pub max_reordered: Option<u64>,
    /// Messages that are none of the protocol, at most [default: 0]
    #[arg(long, value_name = "N")]
    pub max_malformed: Option<u64>,
    /// Connections that the server ended unasked, at most [default: 0]
    #[arg(long, value_name = "N")]
    pub max_lost: Option<u64>,
    /// Sessions that are not told of a change of their user's rights, at most [default: 0]
    #[arg(long, value_name = "N")]
    pub max_untold: Option<u64>,
    /// 99th percentile of the time to the finished upgrade, at most.
    #[arg(long, value_name = "DURATION")]
    pub max_handshake_p99: Option<Nanos>,
    /// 99th percentile of the time to the answer to the first subscribe, at most.
    #[arg(long, value_name = "DURATION")]
    pub max_ready_p99: Option<Nanos>,
    /// Messages a second over all clients, at least.
    #[arg(long, value_name = "MSG/S")]
    pub min_rate: Option<f64>,
    /// Finished upgrades a second, at least.
    #[arg(long, value_name = "N/S")]
    pub min_handshakes: Option<f64>,
    /// Processor time of the server for each message delivered, at most (needs --pid or --metrics).
    #[arg(long, value_name = "DURATION")]
    pub max_server_cpu_per_message: Option<Nanos>,
    /// Growth of the server's resident memory for each client, at most (needs --pid or --metrics).
    #[arg(long, value_name = "BYTES")]
    pub max_memory_per_client: Option<Bytes>,
    /// The server's resident memory, at most (needs --pid or --metrics).
    #[arg(long, value_name = "BYTES")]
    pub max_rss: Option<Bytes>,
}

/// A limit and how it went.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Verdict {
    /// The flag without its dashes.
    pub name: String,
    /// What it is about, in words.
    pub subject: String,
    pub unit: Unit,
    /// `Lower`: the limit is the most that is allowed; `Higher`: the least.
    pub better: Better,
    pub limit: f64,
    /// `None` where there was nothing to measure.
    pub measured: Option<f64>,
    /// The phase that decided, where one did.
    pub phase: Option<String>,
    /// Nobody asked for it.
    pub by_default: bool,
    pub held: bool,
}

/// A duration in ns, written like `20ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Nanos(pub u64);

/// An amount of memory in bytes, written like `512B`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Bytes(pub u64);

/// Where a verdict's figure comes from.
enum Subject {
    /// Added up over all judged phases; the second says whether there was anything to find a fault in.
    Faults(fn(&Counts) -> u64, fn(&Counts) -> bool),
    /// The worst of the phases that count.
    Figure(fn(&Phase) -> Option<f64>),
}

struct Row {
    name: &'static str,
    subject: &'static str,
    unit: Unit,
    better: Better,
    asked: Option<f64>,
    default: Option<f64>,
    of: Subject,
}

impl Thresholds {
    /// Every limit that is in force, and how the run stands to it.
    pub fn judge(&self, outcome: &Outcome) -> Vec<Verdict> {
        self.rows(outcome).into_iter().filter_map(|row| row.judge(outcome)).collect()
    }

    /// These, and where one is not given, the other's.
    #[must_use]
    pub fn or(self, other: Thresholds) -> Thresholds {
        Thresholds {
            max_p50: self.max_p50.or(other.max_p50),
            max_p99: self.max_p99.or(other.max_p99),
            max_p999: self.max_p999.or(other.max_p999),
            max_latency: self.max_latency.or(other.max_latency),
            max_gaps: self.max_gaps.or(other.max_gaps),
            max_missing: self.max_missing.or(other.max_missing),
            max_duplicates: self.max_duplicates.or(other.max_duplicates),
            max_reordered: self.max_reordered.or(other.max_reordered),
            max_malformed: self.max_malformed.or(other.max_malformed),
            max_lost: self.max_lost.or(other.max_lost),
            max_untold: self.max_untold.or(other.max_untold),
            max_handshake_p99: self.max_handshake_p99.or(other.max_handshake_p99),
            max_ready_p99: self.max_ready_p99.or(other.max_ready_p99),
            min_rate: self.min_rate.or(other.min_rate),
            min_handshakes: self.min_handshakes.or(other.min_handshakes),
            max_server_cpu_per_message: self.max_server_cpu_per_message.or(other.max_server_cpu_per_message),
            max_memory_per_client: self.max_memory_per_client.or(other.max_memory_per_client),
            max_rss: self.max_rss.or(other.max_rss),
        }
    }

    fn rows(&self, outcome: &Outcome) -> Vec<Row> {
        let nanos = |name, subject, asked: Option<Nanos>, of| Row {
            name,
            subject,
            unit: Unit::Nanoseconds,
            better: Better::Lower,
            asked: asked.map(|nanos| nanos.0 as f64),
            default: None,
            of: Subject::Figure(of),
        };
        let bytes = |name, subject, asked: Option<Bytes>, of| Row {
            name,
            subject,
            unit: Unit::Bytes,
            better: Better::Lower,
            asked: asked.map(|bytes| bytes.0 as f64),
            default: None,
            of: Subject::Figure(of),
        };
        let least = |name, subject, asked: Option<f64>, of| Row {
            name,
            subject,
            unit: Unit::PerSecond,
            better: Better::Higher,
            asked,
            default: None,
            of: Subject::Figure(of),
        };
        let faults = |name, subject, asked: Option<u64>, default: Option<u64>, of, any| Row {
            name,
            subject,
            unit: Unit::Count,
            better: Better::Lower,
            asked: asked.map(|count| count as f64),
            default: default.map(|count| count as f64),
            of: Subject::Faults(of, any),
        };
        // Who allows gaps of any kind allows missing messages as much.
        let missing = if self.max_gaps.is_some() { None } else { Some(0) };
        let sequenced: fn(&Counts) -> bool = |counts| counts.sequenced > 0;
        let messages: fn(&Counts) -> bool = |counts| counts.messages > 0 || counts.malformed > 0;
        let told: fn(&Counts) -> bool = |counts| counts.told > 0 || counts.untold > 0;
        let upgrades: fn(&Counts) -> bool = |counts| counts.upgrades > 0;
        let gaps: fn(&Counts) -> u64 = |counts| counts.missing + counts.announced;
        vec![
            nanos("max-p50", "latency p50", self.max_p50, |phase| at(&phase.latency, |it| it.p50)),
            nanos("max-p99", "latency p99", self.max_p99, |phase| at(&phase.latency, |it| it.p99)),
            nanos("max-p999", "latency p99.9", self.max_p999, |phase| at(&phase.latency, |it| it.p999)),
            nanos("max-latency", "longest latency", self.max_latency, |phase| at(&phase.latency, |it| it.max)),
            faults("max-gaps", "missing and announced messages", self.max_gaps, None, gaps, sequenced),
            faults("max-missing", "missing messages", self.max_missing, missing, |counts| counts.missing, sequenced),
            faults("max-duplicates", "duplicates", self.max_duplicates, Some(0), |counts| counts.duplicates, messages),
            faults(
                "max-reordered",
                "reordered messages",
                self.max_reordered,
                Some(0),
                |counts| counts.reordered,
                messages,
            ),
            faults(
                "max-malformed",
                "malformed messages",
                self.max_malformed,
                Some(0),
                |counts| counts.malformed,
                messages,
            ),
            faults("max-lost", "connections lost", self.max_lost, Some(0), |counts| counts.lost, upgrades),
            faults(
                "max-untold",
                "sessions not told of a change",
                self.max_untold,
                outcome.phases.iter().any(|phase| told(&phase.counts)).then_some(0),
                |counts| counts.untold,
                told,
            ),
            nanos("max-handshake-p99", "handshake p99", self.max_handshake_p99, |phase| {
                at(&phase.handshake, |it| it.p99)
            }),
            nanos("max-ready-p99", "time to ready p99", self.max_ready_p99, |phase| at(&phase.ready, |it| it.p99)),
            least("min-rate", "messages a second", self.min_rate, |phase| Some(phase.rates.messages)),
            least("min-handshakes", "handshakes a second", self.min_handshakes, |phase| phase.rates.handshakes),
            nanos(
                "max-server-cpu-per-message",
                "server CPU per delivered message",
                self.max_server_cpu_per_message,
                |phase| phase.server.as_ref()?.cpu_ns_per_message,
            ),
            bytes("max-memory-per-client", "server memory per client", self.max_memory_per_client, |phase| {
                phase.server.as_ref()?.rss_growth_per_client_bytes
            }),
            bytes("max-rss", "server resident memory", self.max_rss, |phase| {
                phase.server.as_ref()?.rss_bytes_max.map(|bytes| bytes as f64)
            }),
        ]
    }
}

fn at(distribution: &Option<Distribution>, of: fn(&Distribution) -> u64) -> Option<f64> {
    distribution.as_ref().map(|distribution| of(distribution) as f64)
}

impl Row {
    fn judge(self, outcome: &Outcome) -> Option<Verdict> {
        let limit = self.asked.or(self.default)?;
        let by_default = self.asked.is_none();
        let (measured, phase) = match self.of {
            Subject::Faults(of, any) => {
                let mut counts = Counts::default();
                outcome.phases.iter().filter(|it| it.judged != Judged::Nothing).for_each(|it| counts.add(&it.counts));
                let found = of(&counts);
                // Unasked, nothing to find a fault in is no fault.
                let known = by_default || found > 0 || any(&counts);
                (known.then_some(found as f64), None)
            }
            Subject::Figure(of) => {
                let figures = outcome.counted().filter_map(|phase| Some((of(phase)?, phase)));
                let worst = match self.better {
                    Better::Higher => figures.min_by(|a, b| a.0.total_cmp(&b.0)),
                    Better::Lower | Better::Neither => figures.max_by(|a, b| a.0.total_cmp(&b.0)),
                };
                (worst.as_ref().map(|worst| worst.0), worst.map(|worst| worst.1.name.clone()))
            }
        };
        let held = measured.is_some_and(|measured| match self.better {
            Better::Higher => measured >= limit,
            Better::Lower | Better::Neither => measured <= limit,
        });
        Some(Verdict {
            name: self.name.to_owned(),
            subject: self.subject.to_owned(),
            unit: self.unit,
            better: self.better,
            limit,
            measured,
            phase,
            by_default,
            held,
        })
    }
}

impl Verdict {
    /// `at most 20 ms`.
    pub fn limit_text(&self) -> String {
        let side = if self.better == Better::Higher { "at least" } else { "at most" };
        format!("{side} {}", self.unit.text(self.limit))
    }

    pub fn measured_text(&self) -> String {
        self.measured.map_or_else(|| "not measured".to_owned(), |measured| self.unit.text(measured))
    }
}

impl FromStr for Nanos {
    type Err = String;

    fn from_str(text: &str) -> Result<Nanos, String> {
        units::parse_duration_ns(text).map(Nanos)
    }
}

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Bytes, String> {
        units::parse_bytes(text).map(Bytes)
    }
}

impl TryFrom<String> for Nanos {
    type Error = String;

    fn try_from(text: String) -> Result<Nanos, String> {
        text.parse()
    }
}

impl TryFrom<String> for Bytes {
    type Error = String;

    fn try_from(text: String) -> Result<Bytes, String> {
        text.parse()
    }
}

impl From<Nanos> for String {
    fn from(nanos: Nanos) -> String {
        nanos.to_string()
    }
}

impl From<Bytes> for String {
    fn from(bytes: Bytes) -> String {
        bytes.to_string()
    }
}

/// Exactly, so that it is read back as it was.
impl fmt::Display for Nanos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ns, units) = (self.0, [(1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "us")]);
        let whole = units.into_iter().find(|(unit, _)| ns > 0 && ns.is_multiple_of(*unit));
        let (unit, name) = whole.unwrap_or((1, "ns"));
        write!(f, "{}{name}", ns / unit)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}B", self.0)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::report::testing;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        thresholds: Thresholds,
    }

    fn parsed(flags: &[&str]) -> Result<Thresholds, clap::Error> {
        Command::try_parse_from(["loadtest"].iter().chain(flags)).map(|command| command.thresholds)
    }

    /// Names of the verdicts that did not hold, after `change` to a run that holds everything.
    fn broken(flags: &[&str], change: &dyn Fn(&mut Outcome)) -> Vec<String> {
        let mut outcome = testing::held();
        change(&mut outcome);
        let verdicts = parsed(flags).unwrap().judge(&outcome);
        verdicts.into_iter().filter(|verdict| !verdict.held).map(|verdict| verdict.name).collect()
    }

    #[test]
    fn a_server_that_loses_or_repeats_is_caught_unasked() {
        let check = |change: &dyn Fn(&mut Counts), expected: &[&str]| {
            assert_eq!(broken(&[], &|outcome| change(&mut outcome.phases[1].counts)), expected);
            // In the warm-up too, but not where something is meant to break.
            assert_eq!(broken(&[], &|outcome| change(&mut outcome.phases[0].counts)), expected);
            let probing = |outcome: &mut Outcome| {
                outcome.phases[1].judged = Judged::Nothing;
                change(&mut outcome.phases[1].counts);
            };
            assert_eq!(broken(&[], &probing), Vec::<String>::new());
        };
        check(&|_| (), &[]);
        check(&|counts| counts.missing = 1, &["max-missing"]);
        check(&|counts| counts.duplicates = 1, &["max-duplicates"]);
        check(&|counts| counts.reordered = 1, &["max-reordered"]);
        check(&|counts| counts.malformed = 1, &["max-malformed"]);
        check(&|counts| counts.lost = 1, &["max-lost"]);
        check(&|counts| counts.untold = 1, &["max-untold"]);
        check(&|counts| counts.announced = 1, &[]);
    }

    #[test]
    fn limits_hold_or_break_by_the_worst_phase() {
        let check = |flags: &[&str], change: &dyn Fn(&mut Outcome), expected: &[&str]| {
            assert_eq!(broken(flags, change), expected, "{flags:?}");
        };
        let nothing = |_: &mut Outcome| ();
        let lose =
            |outcome: &mut Outcome| (outcome.phases[1].counts.missing, outcome.phases[2].counts.announced) = (2, 3);
        let slow = |outcome: &mut Outcome| outcome.phases[2].latency.as_mut().unwrap().p99 = 1_000_000_000;
        let slow_warm_up = |outcome: &mut Outcome| outcome.phases[0].latency.as_mut().unwrap().p99 = 1_000_000_000;
        check(&["--max-p99", "60ms"], &nothing, &[]);
        check(&["--max-p99", "60ms"], &slow, &["max-p99"]);
        check(&["--max-p99", "60ms"], &slow_warm_up, &[]);
        check(
            &["--max-p50", "1us", "--max-p999", "1us", "--max-latency", "1us"],
            &nothing,
            &["max-p50", "max-p999", "max-latency"],
        );
        check(&["--max-gaps", "5"], &lose, &[]);
        check(&["--max-gaps", "4"], &lose, &["max-gaps"]);
        check(&["--max-gaps", "5", "--max-missing", "1"], &lose, &["max-missing"]);
        check(&["--max-duplicates", "0"], &nothing, &[]);
        check(&["--min-rate", "1000"], &nothing, &[]);
        check(&["--min-rate", "2000"], &nothing, &["min-rate"]);
        check(&["--max-server-cpu-per-message", "1us"], &nothing, &["max-server-cpu-per-message"]);
        check(&["--max-server-cpu-per-message", "1s"], &nothing, &[]);
        check(&["--max-memory-per-client", "512B"], &nothing, &["max-memory-per-client"]);
        check(&["--max-memory-per-client", "9KB"], &nothing, &[]);
        check(&["--max-rss", "1MB"], &nothing, &["max-rss"]);
    }

    #[test]
    fn what_was_not_measured_does_not_pass() {
        let check = |flags: &[&str], change: &dyn Fn(&mut Outcome)| {
            assert_eq!(broken(flags, change), [flags[0].trim_start_matches('-')], "{flags:?}");
        };
        let quiet = |outcome: &mut Outcome| {
            for phase in &mut outcome.phases {
                (phase.latency, phase.handshake, phase.ready, phase.server) = (None, None, None, None);
                (phase.counts, phase.rates.handshakes) = (Counts::default(), None);
            }
        };
        for name in ["p50", "p99", "p999", "latency", "handshake-p99", "ready-p99", "server-cpu-per-message"] {
            check(&[&format!("--max-{name}"), "1h"], &quiet);
        }
        for name in ["gaps", "missing", "duplicates", "reordered", "malformed", "lost", "untold"] {
            check(&[&format!("--max-{name}"), "1000"], &quiet);
        }
        check(&["--max-rss", "1TB"], &quiet);
        check(&["--max-memory-per-client", "1TB"], &quiet);
        check(&["--min-handshakes", "0"], &quiet);
    }

    #[test]
    fn flags_and_files_say_the_same_and_flags_win() {
        let flags = parsed(&["--max-p99", "20ms", "--max-gaps", "3", "--max-memory-per-client", "512B"]).unwrap();
        let file: Thresholds =
            toml::from_str("max-p99 = \"20ms\"\nmax-gaps = 3\nmax-memory-per-client = \"512B\"\n").unwrap();
        assert_eq!(flags, file);
        let back: Thresholds = serde_json::from_value(serde_json::to_value(&flags).unwrap()).unwrap();
        assert_eq!(back, flags);
        let file: Thresholds = toml::from_str("max-p99 = \"1s\"\nmax-lost = 1\n").unwrap();
        let both = flags.or(file);
        assert_eq!((both.max_p99, both.max_lost, both.max_gaps), (Some(Nanos(20_000_000)), Some(1), Some(3)));
    }

    #[test]
    fn what_is_no_limit_is_refused() {
        for flags in [&["--max-p99", "20"], &["--max-gaps", "-1"], &["--max-rss", "big"]] {
            assert!(parsed(flags).is_err(), "{flags:?}");
        }
        for text in ["max-p99 = 20", "max-p98 = \"1s\"", "max-gaps = \"many\""] {
            assert!(toml::from_str::<Thresholds>(text).is_err(), "{text}");
        }
    }
}
