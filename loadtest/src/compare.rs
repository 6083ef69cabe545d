//! Two runs side by side: what changed from A to B, phase by phase, and whether that is more than noise. Reads JSON reports;
//! runs on the main thread, measures nothing.
//!
//! A change counts where it is more than [`NOISE_SHARE`] and, for what is timed, the two histograms can't be told to have the
//! same percentile by chance and the seconds of the two phases do not scatter as much. Figures without a spread (processor
//! time, memory) have only the first rule.

mod noise;
mod text;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::Value;

use crate::outcome::{Better, Distribution, Ending, Judged, Outcome, Phase, Standing, Unit};
use crate::report::json;
use crate::units;

/// A smaller change says nothing on any machine.
const NOISE_SHARE: f64 = 0.05;

/// The scenario in which memory grows by nothing but clients: elsewhere there is data in it too.
const MEMORY_SCENARIO: &str = "idle";

/// Settings that say where, not what.
const PLACES: [&str; 8] = ["target", "targets", "source", "sources", "pid", "pids", "metrics", "outputs"];

/// `loadtest compare A.json B.json`.
#[derive(Clone, Debug, clap::Args)]
pub struct CompareArgs {
    /// Report of the run to compare with.
    pub a: PathBuf,
    /// Report of the run that is compared.
    pub b: PathBuf,
    /// Exit status 1 where the p99 latency, the server's CPU per message or (idle) its memory per client got worse by more (10%
    /// or 0.1) in a phase whose figures count.
    #[arg(long, value_name = "SHARE", value_parser = units::parse_share)]
    pub fail_above: Option<f64>,
}

/// Reads both reports and says how they differ.
///
/// # Errors
/// Where a report can't be read, with its name.
pub fn run(args: &CompareArgs) -> anyhow::Result<Comparison> {
    let read = |path: &Path| json::read(path).with_context(|| format!("reading {}", path.display()));
    Ok(Comparison::of(&read(&args.a)?, &read(&args.b)?))
}

/// How two runs differ.
#[derive(Clone, Debug)]
pub struct Comparison {
    a: Run,
    b: Run,
    /// Why the runs can't be compared, or not well.
    pub warnings: Vec<String>,
    pub phases: Vec<PhaseChange>,
}

/// What a run says of itself.
#[derive(Clone, Debug)]
struct Run {
    scenario: String,
    started_ns: i64,
    commit: String,
    servers: Vec<String>,
}

/// A phase that both runs have.
#[derive(Clone, Debug)]
pub struct PhaseChange {
    pub name: String,
    pub changes: Vec<Change>,
}

/// A figure that at least one of the runs has.
#[derive(Clone, Debug)]
pub struct Change {
    pub figure: &'static str,
    pub unit: Unit,
    pub better: Better,
    pub a: Option<f64>,
    pub b: Option<f64>,
    pub verdict: Verdict,
    /// Whether `--fail-above` is about it.
    pub decides: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not more than noise.
    Same,
    Better,
    Worse,
    /// More than noise, but neither good nor bad.
    Other,
    /// One of the runs lacks it, or it rests on too little.
    Unknown,
}

impl Change {
    /// `0.1` is 10 % more in B; `None` where it can't be said.
    pub fn share(&self) -> Option<f64> {
        let (a, b) = (self.a?, self.b?);
        (a > 0.0).then(|| b / a - 1.0)
    }
}

impl Comparison {
    pub fn of(a: &Outcome, b: &Outcome) -> Comparison {
        let mut warnings = warnings(a, b);
        let mut phases = Vec::new();
        let (named_a, named_b) = (named(a), named(b));
        for (name, phase, index) in &named_a {
            match named_b.iter().find(|other| other.0 == *name) {
                Some((_, other, other_index)) => {
                    let changes = changes((a, phase, *index), (b, other, *other_index));
                    phases.push(PhaseChange { name: name.clone(), changes });
                }
                None => warnings.push(format!("Phase {name} is in A only.")),
            }
        }
        for (name, ..) in named_b.iter().filter(|phase| named_a.iter().all(|other| other.0 != phase.0)) {
            warnings.push(format!("Phase {name} is in B only."));
        }
        Comparison { a: Run::of(a), b: Run::of(b), warnings, phases }
    }

    /// Everything, for a terminal.
    pub fn text(&self, style: crate::report::table::Style) -> String {
        text::text(self, style)
    }

    /// What got worse by more than a share and decides, in words.
    pub fn failures(&self, share_max: f64) -> Vec<String> {
        let of = |phase: &PhaseChange| {
            let name = phase.name.clone();
            let worse = |change: &&Change| change.decides && change.share().is_some_and(|share| share > share_max);
            let words = move |change: &Change| {
                let share = units::percent(change.share().unwrap_or_default());
                format!("{name}: {} is {share} higher, more than {}", change.figure, units::percent(share_max))
            };
            phase.changes.iter().filter(worse).map(words).collect::<Vec<String>>()
        };
        self.phases.iter().flat_map(of).collect()
    }
}

impl Run {
    fn of(outcome: &Outcome) -> Run {
        Run {
            scenario: outcome.header.scenario.clone(),
            started_ns: outcome.header.started_ns,
            commit: outcome.header.facts.commit.clone(),
            servers: outcome.servers.iter().filter_map(|server| server.identity.clone()).collect(),
        }
    }
}

/// Phases by name and index; those of the same name are counted.
fn named(outcome: &Outcome) -> Vec<(String, &Phase, u32)> {
    let mut seen = BTreeMap::new();
    let name = |(index, phase): (usize, &'_ Phase)| {
        let times: &mut u32 = seen.entry(phase.name.clone()).or_default();
        *times += 1;
        let name = if *times == 1 { phase.name.clone() } else { format!("{} ({times})", phase.name) };
        (name, index as u32)
    };
    let names: Vec<(String, u32)> = outcome.phases.iter().enumerate().map(name).collect();
    names.into_iter().zip(&outcome.phases).map(|((name, index), phase)| (name, phase, index)).collect()
}

fn warnings(a: &Outcome, b: &Outcome) -> Vec<String> {
    let mut warnings = Vec::new();
    for (which, outcome) in [("A", a), ("B", b)] {
        if outcome.standing() == Standing::Invalid {
            warnings.push(format!("{which} is invalid: {}", outcome.invalid.join(" ")));
        }
        if outcome.ending == Ending::Interrupted {
            warnings.push(format!("{which} was interrupted."));
        }
    }
    let (facts_a, facts_b) = (&a.header.facts, &b.header.facts);
    let memory = |bytes: u64| units::bytes(bytes as f64);
    for (what, a, b) in [
        ("scenario", a.header.scenario.clone(), b.header.scenario.clone()),
        ("start of latency", a.header.latency_from.clone(), b.header.latency_from.clone()),
        ("machine", facts_a.host.clone(), facts_b.host.clone()),
        ("processor", facts_a.cpu_model.clone(), facts_b.cpu_model.clone()),
        ("number of cores", facts_a.cores.to_string(), facts_b.cores.to_string()),
        ("memory", memory(facts_a.memory_bytes), memory(facts_b.memory_bytes)),
        ("processor quota", format!("{:?}", facts_a.cpu_quota), format!("{:?}", facts_b.cpu_quota)),
        ("kernel", facts_a.kernel.clone(), facts_b.kernel.clone()),
        ("clock source", facts_a.clock_source.clone(), facts_b.clock_source.clone()),
    ] {
        if a != b {
            warnings.push(format!("The {what} differs: {a} and {b}."));
        }
    }
    let (mut settings_a, mut settings_b) = (BTreeMap::new(), BTreeMap::new());
    flatten("", &a.header.settings, &mut settings_a);
    flatten("", &b.header.settings, &mut settings_b);
    let names = settings_a.keys().chain(settings_b.keys().filter(|name| !settings_a.contains_key(*name)));
    for name in names {
        let value = |settings: &BTreeMap<String, String>| settings.get(name).cloned().unwrap_or("nothing".to_owned());
        let (a, b) = (value(&settings_a), value(&settings_b));
        if a != b {
            warnings.push(format!("The setting {name} differs: {a} and {b}."));
        }
    }
    warnings
}

/// Settings by their path, `a.b`, but for those that say where.
fn flatten(path: &str, value: &Value, settings: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields.iter().filter(|(name, _)| !PLACES.contains(&name.as_str())) {
                flatten(&if path.is_empty() { name.clone() } else { format!("{path}.{name}") }, value, settings);
            }
        }
        Value::Null => {}
        other => {
            settings.insert(path.to_owned(), other.to_string());
        }
    }
}

type Side<'a> = (&'a Outcome, &'a Phase, u32);

fn changes(a: Side<'_>, b: Side<'_>) -> Vec<Change> {
    let mut changes = Vec::new();
    let idle = [a.0, b.0].iter().all(|run| run.header.scenario == MEMORY_SCENARIO);
    rates(&mut changes, a, b);
    latencies(&mut changes, a, b);
    let p99 = |changes: &mut Vec<Change>, figure, of: fn(&Phase) -> &Option<Distribution>| {
        let (a, b) = (of(a.1).as_ref(), of(b.1).as_ref());
        let verdict = noise::percentile(a, b, 0.99);
        let value = |it: Option<&Distribution>| it.map(|it| it.p99 as f64);
        push(changes, figure, Unit::Nanoseconds, Better::Lower, (value(a), value(b)), verdict, false);
    };
    p99(&mut changes, "handshake p99", |phase| &phase.handshake);
    p99(&mut changes, "time to ready p99", |phase| &phase.ready);
    p99(&mut changes, "first message p99", |phase| &phase.first_message);
    p99(&mut changes, "effect p99", |phase| &phase.effect);
    p99(&mut changes, "command p99", |phase| &phase.command);
    let plain = |changes: &mut Vec<Change>, figure, unit, better, of: &dyn Fn(&Phase) -> Option<f64>, decides| {
        push(changes, figure, unit, better, (of(a.1), of(b.1)), None, decides);
    };
    let nanos = Unit::Nanoseconds;
    plain(&mut changes, "handshakes", Unit::PerSecond, Better::Higher, &|phase| phase.rates.handshakes, false);
    plain(&mut changes, "server CPU/message", nanos, Better::Lower, &|it| it.server.as_ref()?.cpu_ns_per_message, true);
    plain(&mut changes, "server CPU", Unit::Share, Better::Neither, &|it| it.server.as_ref()?.cpu_share, false);
    let growth = |it: &Phase| it.server.as_ref()?.rss_growth_per_client_bytes;
    plain(&mut changes, "memory/client", Unit::Bytes, Better::Lower, &growth, idle);
    let rss = |it: &Phase| it.server.as_ref()?.rss_bytes_max.map(|bytes| bytes as f64);
    plain(&mut changes, "server RSS, highest", Unit::Bytes, Better::Lower, &rss, false);
    let lost = |it: &Phase| Some((it.counts.missing + it.counts.announced) as f64);
    plain(&mut changes, "gaps", Unit::Count, Better::Lower, &lost, false);
    // Nothing in both is nothing to tell.
    changes.retain(|change| change.a.is_some_and(|a| a != 0.0) || change.b.is_some_and(|b| b != 0.0));
    // A warm-up, or a step that was to break, decides nothing.
    let counts = [a.1, b.1].iter().all(|phase| phase.judged == Judged::Everything);
    changes.iter_mut().for_each(|change| change.decides &= counts);
    changes
}

fn rates(changes: &mut Vec<Change>, a: Side<'_>, b: Side<'_>) {
    let value = |side: Side<'_>| (side.1.counts.messages > 0).then_some(side.1.rates.messages);
    let scatter = noise::seconds(a.0, a.2, b.0, b.2, |point| Some(point.messages));
    push(changes, "messages", Unit::PerSecond, Better::Higher, (value(a), value(b)), scatter, false);
}

fn latencies(changes: &mut Vec<Change>, a: Side<'_>, b: Side<'_>) {
    let (latency_a, latency_b) = (a.1.latency.as_ref(), b.1.latency.as_ref());
    let mut row = |figure, share: f64, of: fn(&Distribution) -> u64, seconds: Option<bool>| {
        let value = |latency: Option<&Distribution>| latency.map(|latency| of(latency) as f64);
        let by_chance = noise::percentile(latency_a, latency_b, share);
        // Both have to see a difference, where both can tell.
        let differ = by_chance.map(|differ| differ && seconds.unwrap_or(true));
        let values = (value(latency_a), value(latency_b));
        let change = Change {
            figure,
            unit: Unit::Nanoseconds,
            better: Better::Lower,
            a: values.0,
            b: values.1,
            verdict: Verdict::Unknown,
            decides: figure == "latency p99",
        };
        // Without enough messages beyond a percentile, it is an accident.
        let verdict = differ.map_or(Verdict::Unknown, |differ| judged(&change, Some(differ)));
        changes.push(Change { verdict, ..change });
    };
    let seconds = |of| noise::seconds(a.0, a.2, b.0, b.2, of);
    row("latency p50", 0.5, |it| it.p50, seconds(|point| point.p50.map(|ns| ns as f64)));
    row("latency p90", 0.9, |it| it.p90, seconds(|point| point.p90.map(|ns| ns as f64)));
    row("latency p99", 0.99, |it| it.p99, seconds(|point| point.p99.map(|ns| ns as f64)));
    row("latency p99.9", 0.999, |it| it.p999, None);
    row("latency p99.99", 0.9999, |it| it.p9999, None);
    row("latency max", 1.0, |it| it.max, None);
}

/// `differ`: whether the scatter allows to speak of a difference; `None` where it is not known.
fn push(
    changes: &mut Vec<Change>,
    figure: &'static str,
    unit: Unit,
    better: Better,
    values: (Option<f64>, Option<f64>),
    differ: Option<bool>,
    decides: bool,
) {
    let change = Change { figure, unit, better, a: values.0, b: values.1, verdict: Verdict::Unknown, decides };
    changes.push(Change { verdict: judged(&change, differ), ..change });
}

fn judged(change: &Change, differ: Option<bool>) -> Verdict {
    let (Some(a), Some(b)) = (change.a, change.b) else {
        return Verdict::Unknown;
    };
    // From nothing, anything is more.
    let beyond = change.share().map_or(a != b, |share| share.abs() > NOISE_SHARE);
    if !beyond || differ == Some(false) {
        return Verdict::Same;
    }
    match (change.better, b < a) {
        (Better::Neither, _) => Verdict::Other,
        (Better::Lower, true) | (Better::Higher, false) => Verdict::Better,
        (Better::Lower, false) | (Better::Higher, true) => Verdict::Worse,
    }
}

#[cfg(test)]
mod tests;
