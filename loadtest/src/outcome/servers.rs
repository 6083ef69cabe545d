//! The watched servers over time, and what a phase cost them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::server::{Reading, SourceKind};

/// As many as points of the run; beyond, every other reading goes.
const READINGS_MAX: usize = 1_200;

/// A figure at a moment between two readings is drawn between them; one this far outside is not known, ns.
const BEYOND_NS_MAX: i64 = 2_500_000_000;

/// What is drawn over time of a metrics page, where it has it. Whatever else moved is told by phase.
const DRAWN: [&str; 4] =
    ["gateway_connections", "gateway_outbox_behind", "gateway_retained_bytes", "gateway_delay_line_bytes"];

/// A watched process or metrics page.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ServerSeries {
    /// `pid 123` or an address.
    pub source: String,
    pub kind: SourceKind,
    /// What the server calls itself, where it says so.
    pub identity: Option<String>,
    pub points: Vec<ServerPoint>,
    /// Readings that failed, and the first failure in words.
    pub failures: u64,
    pub failure: Option<String>,
}

/// A reading, compared with the one before.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ServerPoint {
    /// s since the start of the run.
    pub t: f64,
    /// Processor time since the point before, as a share of one core.
    pub cpu_share: Option<f64>,
    pub rss_bytes: Option<u64>,
    pub threads: Option<u64>,
    pub descriptors: Option<u64>,
    /// Gauges of its metrics page.
    pub gauges: BTreeMap<String, f64>,
}

/// What a phase cost all watched servers together. Processor time and memory are those of the processes where any is
/// watched, else those that the metrics pages tell: one server may be watched both ways.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ServerPhase {
    /// ns.
    pub cpu_ns: Option<u64>,
    /// Of one core.
    pub cpu_share: Option<f64>,
    /// For each message that a client received, ns; `None` where none did.
    pub cpu_ns_per_message: Option<f64>,
    /// At the start, at the end, and the highest seen in the phase.
    pub rss_bytes_start: Option<u64>,
    pub rss_bytes_end: Option<u64>,
    pub rss_bytes_max: Option<u64>,
    /// From before the first client of the run to the end of this phase, by the clients ready then.
    pub rss_growth_per_client_bytes: Option<f64>,
    /// By how much each counter moved in the phase; those that did not are left out.
    pub counters: BTreeMap<String, f64>,
}

/// Readings by source.
#[derive(Debug, Default)]
pub(super) struct Servers {
    sources: BTreeMap<String, Source>,
}

#[derive(Debug, Default)]
struct Source {
    kind: SourceKind,
    identity: Option<String>,
    readings: Vec<Reading>,
    failures: u64,
    failure: Option<String>,
}

/// A phase, as far as its cost asks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stretch {
    pub(super) start_ns: i64,
    pub(super) end_ns: i64,
    pub(super) messages: u64,
    pub(super) clients: u64,
    /// When the first client of the run began to connect, Unix ns.
    pub(super) first_connect_ns: Option<i64>,
}

impl Servers {
    pub(super) fn add(&mut self, reading: &Reading) {
        let source = self.sources.entry(reading.source.clone()).or_default();
        source.kind = reading.kind;
        if let Some(error) = &reading.error {
            source.failures += 1;
            source.failure.get_or_insert_with(|| error.clone());
            return;
        }
        if source.identity.is_none() {
            source.identity.clone_from(&reading.identity);
        }
        source.readings.push(reading.clone());
        if source.readings.len() > READINGS_MAX {
            let mut index = 0;
            source.readings.retain(|_| {
                index += 1;
                index % 2 == 1
            });
        }
    }

    /// The latest readings together, for the live line: share of a core since the readings before, resident bytes.
    pub(super) fn latest(&self) -> (Option<f64>, Option<u64>) {
        let share = self.total(|source| match source.readings.as_slice() {
            [.., before, last] => cpu_share(before, last),
            _ => None,
        });
        (share, self.total(|source| source.readings.last()?.rss_bytes.map(|bytes| bytes as f64)).map(|b| b as u64))
    }

    pub(super) fn phase(&self, stretch: &Stretch) -> Option<ServerPhase> {
        if self.sources.is_empty() {
            return None;
        }
        let Stretch { start_ns, end_ns, messages, clients, first_connect_ns } = *stretch;
        let seconds = (end_ns - start_ns) as f64 / 1e9;
        let cpu_ns = self.total(|source| {
            let spent = source.at(end_ns, Reading::cpu)? - source.at(start_ns, Reading::cpu)?;
            // A process that began anew counts from nothing: then it is not known.
            (spent >= 0.0).then_some(spent)
        });
        let rss = |at_ns| self.total(|source| source.at(at_ns, Reading::rss));
        let rss_before = first_connect_ns.and_then(|first_ns| self.total(|source| source.rss_before(first_ns)));
        let growth = |clients: u64| Some((rss(end_ns)? - rss_before?) / clients as f64);
        let bytes = |value: Option<f64>| value.map(|bytes| bytes as u64);
        Some(ServerPhase {
            cpu_ns: cpu_ns.map(|ns| ns as u64),
            cpu_share: cpu_ns.filter(|_| seconds > 0.0).map(|ns| ns / 1e9 / seconds),
            cpu_ns_per_message: cpu_ns.filter(|_| messages > 0).map(|ns| ns / messages as f64),
            rss_bytes_start: bytes(rss(start_ns)),
            rss_bytes_end: bytes(rss(end_ns)),
            rss_bytes_max: bytes(self.total(|source| source.rss_max(start_ns, end_ns))),
            rss_growth_per_client_bytes: (clients > 0).then(|| growth(clients)).flatten(),
            counters: self.counters(start_ns, end_ns),
        })
    }

    pub(super) fn finish(self, started_ns: i64) -> Vec<ServerSeries> {
        let series = |(source, watched): (String, Source)| ServerSeries {
            source,
            kind: watched.kind,
            points: watched.points(started_ns),
            identity: watched.identity,
            failures: watched.failures,
            failure: watched.failure,
        };
        self.sources.into_iter().map(series).collect()
    }

    /// The sum over the sources that count for processor time and memory; `None` where one of them does not know.
    fn total(&self, of: impl Fn(&Source) -> Option<f64>) -> Option<f64> {
        let processes = self.sources.values().any(|source| source.kind == SourceKind::Process);
        let counted = self.sources.values().filter(|source| !processes || source.kind == SourceKind::Process);
        counted.map(of).reduce(|a, b| Some(a? + b?)).flatten()
    }

    fn counters(&self, start_ns: i64, end_ns: i64) -> BTreeMap<String, f64> {
        let mut moved = BTreeMap::new();
        for source in self.sources.values() {
            let Some(last) = source.readings.iter().rfind(|reading| reading.at_ns <= end_ns + BEYOND_NS_MAX) else {
                continue;
            };
            for name in last.metrics.keys().filter(|name| is_counter(name)) {
                let at = |at_ns| source.at(at_ns, |reading| reading.metrics.get(name).copied());
                if let (Some(start), Some(end)) = (at(start_ns), at(end_ns))
                    && end > start
                {
                    *moved.entry(name.clone()).or_default() += end - start;
                }
            }
        }
        moved
    }
}

/// By the convention of its name.
fn is_counter(name: &str) -> bool {
    name.split('{').next().is_some_and(|name| name.ends_with("_total") || name.ends_with("_count"))
}

impl Reading {
    fn cpu(&self) -> Option<f64> {
        self.cpu_ns.map(|ns| ns as f64)
    }

    fn rss(&self) -> Option<f64> {
        self.rss_bytes.map(|bytes| bytes as f64)
    }
}

fn cpu_share(before: &Reading, after: &Reading) -> Option<f64> {
    let span = after.at_ns - before.at_ns;
    let spent = after.cpu_ns?.checked_sub(before.cpu_ns?)?;
    (span > 0).then(|| spent as f64 / span as f64)
}

impl Source {
    /// A figure at a moment, on the line between the readings around it.
    fn at(&self, at_ns: i64, figure: impl Fn(&Reading) -> Option<f64>) -> Option<f64> {
        let after = self.readings.partition_point(|reading| reading.at_ns < at_ns);
        match (after.checked_sub(1).and_then(|before| self.readings.get(before)), self.readings.get(after)) {
            (Some(a), Some(b)) => {
                let share = (at_ns - a.at_ns) as f64 / (b.at_ns - a.at_ns).max(1) as f64;
                let (from, to) = (figure(a)?, figure(b)?);
                Some(from + (to - from) * share)
            }
            (Some(nearest), None) | (None, Some(nearest)) => {
                figure(nearest).filter(|_| (nearest.at_ns - at_ns).abs() <= BEYOND_NS_MAX)
            }
            (None, None) => None,
        }
    }

    fn rss_before(&self, at_ns: i64) -> Option<f64> {
        self.readings.iter().rfind(|reading| reading.at_ns <= at_ns)?.rss()
    }

    fn rss_max(&self, start_ns: i64, end_ns: i64) -> Option<f64> {
        let within = self.readings.iter().filter(|reading| (start_ns..=end_ns).contains(&reading.at_ns));
        let ends = [self.at(start_ns, Reading::rss), self.at(end_ns, Reading::rss)];
        within.map(Reading::rss).chain(ends).flatten().reduce(f64::max)
    }

    fn points(&self, started_ns: i64) -> Vec<ServerPoint> {
        let gauges = |reading: &Reading| {
            let value = |name: &&str| Some(((*name).to_owned(), *reading.metrics.get(*name)?));
            DRAWN.iter().filter_map(value).collect()
        };
        let point = |(index, reading): (usize, &Reading)| ServerPoint {
            t: (reading.at_ns - started_ns) as f64 / 1e9,
            cpu_share: index.checked_sub(1).and_then(|before| cpu_share(&self.readings[before], reading)),
            rss_bytes: reading.rss_bytes,
            threads: reading.threads,
            descriptors: reading.descriptors,
            gauges: gauges(reading),
        };
        self.readings.iter().enumerate().map(point).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn reading(source: &str, second: i64, cpu_ns: u64, rss_bytes: u64) -> Reading {
        Reading {
            source: source.to_owned(),
            kind: if source.starts_with("pid") { SourceKind::Process } else { SourceKind::Metrics },
            at_ns: second * SECOND,
            cpu_ns: Some(cpu_ns),
            rss_bytes: Some(rss_bytes),
            metrics: BTreeMap::from([
                ("gateway_writes_total".to_owned(), cpu_ns as f64),
                ("gateway_connections".to_owned(), 5.0),
            ]),
            ..Reading::default()
        }
    }

    fn watched(readings: &[Reading]) -> Servers {
        let mut servers = Servers::default();
        readings.iter().for_each(|reading| servers.add(reading));
        servers
    }

    /// From 2.5 s to 4.5 s; the first client came at 1.2 s.
    const STRETCH: Stretch = Stretch {
        start_ns: 5 * SECOND / 2,
        end_ns: 9 * SECOND / 2,
        messages: 1_000,
        clients: 10,
        first_connect_ns: Some(6 * SECOND / 5),
    };

    #[test]
    fn what_a_phase_costs_is_between_the_readings_around_its_ends() {
        let readings: Vec<_> = (0..8_u64)
            .map(|second| reading("pid 1", second as i64, second * 500_000_000, 1_000 + second * 100))
            .collect();
        let phase = watched(&readings).phase(&STRETCH).unwrap();
        assert_eq!(phase.cpu_ns, Some(1_000_000_000));
        assert_eq!(phase.cpu_share, Some(0.5));
        assert_eq!(phase.cpu_ns_per_message, Some(1_000_000.0));
        assert_eq!(
            (phase.rss_bytes_start, phase.rss_bytes_end, phase.rss_bytes_max),
            (Some(1_250), Some(1_450), Some(1_450))
        );
        // From the reading before the first client, 1,100.
        assert_eq!(phase.rss_growth_per_client_bytes, Some(35.0));
        assert_eq!(phase.counters, BTreeMap::from([("gateway_writes_total".to_owned(), 1e9)]));
    }

    #[test]
    fn servers_are_added_up_and_one_watched_twice_counts_once() {
        let of = |sources: &[&str]| {
            let readings: Vec<_> = (0..8_u64)
                .flat_map(|second| {
                    sources.iter().map(move |it| reading(it, second as i64, second * 500_000_000, 1_000))
                })
                .collect();
            watched(&readings).phase(&STRETCH).unwrap()
        };
        let check = |sources: &[&str], cpu_ns: u64, rss_bytes: u64| {
            let phase = of(sources);
            assert_eq!((phase.cpu_ns, phase.rss_bytes_end), (Some(cpu_ns), Some(rss_bytes)), "{sources:?}");
        };
        check(&["pid 1", "pid 2"], 2_000_000_000, 2_000);
        check(&["http://a/metrics"], 1_000_000_000, 1_000);
        check(&["http://a/metrics", "http://b/metrics"], 2_000_000_000, 2_000);
        check(&["pid 1", "http://a/metrics"], 1_000_000_000, 1_000);
    }

    #[test]
    fn what_is_not_known_is_not_made_up() {
        let restarted = [
            reading("pid 1", 2, 9, 1),
            reading("pid 1", 3, 9, 1),
            reading("pid 1", 4, 1, 1),
            reading("pid 1", 5, 2, 1),
        ];
        assert_eq!(watched(&restarted).phase(&STRETCH).unwrap().cpu_ns, None);
        let gone = [reading("pid 1", 0, 1, 1), reading("pid 1", 1, 2, 1)];
        assert_eq!(watched(&gone).phase(&STRETCH).unwrap().cpu_ns, None);
        let failed = Reading { error: Some("gone".to_owned()), ..reading("pid 1", 3, 0, 0) };
        let servers = watched(&[failed.clone(), failed]);
        assert_eq!(servers.phase(&STRETCH).unwrap().rss_bytes_end, None);
        let series = servers.finish(0);
        assert_eq!((series[0].failures, series[0].failure.as_deref(), series[0].points.len()), (2, Some("gone"), 0));
        assert!(Servers::default().phase(&STRETCH).is_none());
    }

    #[test]
    fn a_long_run_keeps_a_reading_now_and_then() {
        let readings: Vec<_> =
            (0..5_000_u64).map(|second| reading("pid 1", second as i64, second * 250_000_000, 1)).collect();
        let series = watched(&readings).finish(0);
        let points = &series[0].points;
        assert!(points.len() <= READINGS_MAX && points.len() >= READINGS_MAX / 2, "{}", points.len());
        assert_eq!(points[0].cpu_share, None);
        assert!(points[1..].iter().all(|point| point.cpu_share == Some(0.25)));
        assert_eq!(points[0].gauges["gateway_connections"], 5.0);
    }
}
