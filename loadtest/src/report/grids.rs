//! The figures of a run as grids of words, for the terminal and for the page.

use crate::outcome::{Distribution, Judged, Outcome, Phase};
use crate::units::{bytes, count, duration, duration_f64, number, percent};

/// Rows under a heading; the first column is a phase's name. Columns that would be empty are left out.
pub(super) struct Grid {
    /// What it is about.
    pub(super) title: &'static str,
    pub(super) heading: Vec<&'static str>,
    pub(super) rows: Vec<Vec<Cell>>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Cell {
    pub(super) text: String,
    /// What should not be there.
    pub(super) bad: bool,
}

impl From<String> for Cell {
    fn from(text: String) -> Cell {
        Cell { text, bad: false }
    }
}

/// All grids that have a figure.
pub(super) fn grids(outcome: &Outcome) -> Vec<Grid> {
    let all =
        [latency(outcome), rights(outcome), connections(outcome), messages(outcome), server(outcome), harness(outcome)];
    all.into_iter().filter_map(Grid::without_empty).collect()
}

impl Grid {
    fn new(title: &'static str, heading: &[&'static str], rows: impl Iterator<Item = Vec<Cell>>) -> Grid {
        Grid { title, heading: heading.to_vec(), rows: rows.collect() }
    }

    fn without_empty(self) -> Option<Grid> {
        let used = |column: &usize| *column == 0 || self.rows.iter().any(|row| !row[*column].text.is_empty());
        let columns: Vec<usize> = (0..self.heading.len()).filter(used).collect();
        let heading = columns.iter().map(|column| self.heading[*column]).collect();
        let cut = |row: &Vec<Cell>| columns.iter().map(|column| row[*column].clone()).collect();
        let rows = self.rows.iter().map(cut).collect();
        (columns.len() > 1).then_some(Grid { title: self.title, heading, rows })
    }
}

fn latency(outcome: &Outcome) -> Grid {
    let row = |phase: &Phase| {
        let at = |of: fn(&Distribution) -> u64| {
            Cell::from(phase.latency.as_ref().map_or_else(String::new, |latency| duration(of(latency))))
        };
        vec![
            name(phase),
            duration_f64(phase.seconds() * 1e9).into(),
            count(phase.clients.ready + phase.clients.stalled).into(),
            if phase.counts.messages > 0 { number(phase.rates.messages).into() } else { Cell::default() },
            at(|latency| latency.p50),
            at(|latency| latency.p90),
            at(|latency| latency.p99),
            at(|latency| latency.p999),
            at(|latency| latency.p9999),
            at(|latency| latency.max),
        ]
    };
    let heading = ["phase", "time", "clients", "msg/s", "p50", "p90", "p99", "p99.9", "p99.99", "max"];
    let title =
        if outcome.phases.iter().any(was_told) { "From a change to the session" } else { "Latency of messages" };
    Grid::new(title, &heading, outcome.phases.iter().map(row))
}

/// Whether rights changed in it.
fn was_told(phase: &Phase) -> bool {
    phase.counts.told > 0 || phase.counts.untold > 0
}

fn rights(outcome: &Outcome) -> Grid {
    let row = |phase: &Phase| {
        let at = |of: fn(&Distribution) -> u64| {
            Cell::from(phase.effect.as_ref().map_or_else(String::new, |effect| duration(of(effect))))
        };
        let told = count(phase.counts.told).into();
        vec![name(phase), told, bad(phase.counts.untold), at(|it| it.p50), at(|it| it.p99), at(|it| it.max)]
    };
    let heading = ["phase", "told", "untold", "data by it p50", "p99", "max"];
    Grid::new("Rights", &heading, outcome.phases.iter().filter(|phase| was_told(phase)).map(row))
}

fn connections(outcome: &Outcome) -> Grid {
    let row = |phase: &Phase| {
        let pair = |timings: &Option<Distribution>| {
            let text = |it: &Distribution| format!("{} / {}", duration(it.p50), duration(it.p99));
            Cell::from(timings.as_ref().map_or_else(String::new, text))
        };
        vec![
            name(phase),
            shown(phase.counts.upgrades),
            optional(phase.rates.handshakes, number),
            pair(&phase.handshake),
            pair(&phase.ready),
            pair(&phase.first_message),
            pair(&phase.command),
            bad(phase.counts.refused),
            bad(phase.counts.lost),
            shown(phase.counts.resumed),
        ]
    };
    let phases = outcome.phases.iter().filter(|phase| {
        phase.counts.connects > 0 || phase.command.is_some() || phase.counts.lost > 0 || phase.counts.resumed > 0
    });
    let heading = [
        "phase",
        "upgrades",
        "a second",
        "handshake",
        "ready",
        "first message",
        "command",
        "refused",
        "lost",
        "resumed",
    ];
    Grid::new("Connections (p50 / p99)", &heading, phases.map(row))
}

fn messages(outcome: &Outcome) -> Grid {
    let row = |phase: &Phase| {
        let counts = &phase.counts;
        let fault = |n: u64| Cell { text: count(n), bad: n > 0 };
        vec![
            name(phase),
            count(counts.messages).into(),
            bytes(counts.bytes as f64).into(),
            fault(counts.missing),
            fault(counts.announced),
            fault(counts.duplicates),
            fault(counts.reordered),
            fault(counts.malformed),
            shown(counts.conflated),
            bad(counts.errors.values().sum()),
        ]
    };
    let heading = [
        "phase",
        "received",
        "bytes",
        "missing",
        "announced",
        "duplicates",
        "reordered",
        "malformed",
        "conflated",
        "errors",
    ];
    Grid::new("Messages", &heading, outcome.phases.iter().filter(|phase| phase.counts.bytes > 0).map(row))
}

fn server(outcome: &Outcome) -> Grid {
    let row = |phase: &Phase| {
        let server = phase.server.as_ref()?;
        let size = |value: Option<u64>| optional(value.map(|value| value as f64), bytes);
        Some(vec![
            name(phase),
            optional(server.cpu_share, percent),
            optional(server.cpu_ns_per_message, duration_f64),
            size(server.rss_bytes_start),
            size(server.rss_bytes_end),
            size(server.rss_bytes_max),
            optional(server.rss_growth_per_client_bytes, bytes),
        ])
    };
    let heading = ["phase", "CPU", "CPU/message", "RSS at start", "at end", "highest", "growth/client"];
    Grid::new("Server", &heading, outcome.phases.iter().filter_map(row))
}

fn harness(outcome: &Outcome) -> Grid {
    let limits = &outcome.header.limits;
    let row = |phase: &Phase| {
        let lag = |lag: &Option<Distribution>, of: fn(&Distribution) -> u64| {
            let text = lag.as_ref().map_or_else(String::new, |lag| duration(of(lag)));
            Cell { text, bad: lag.as_ref().is_some_and(|lag| lag.p99 > limits.lag_ns_max) }
        };
        let share = phase.worker_share_max();
        let busiest = Cell {
            text: share.map_or_else(String::new, percent),
            bad: share.is_some_and(|share| share > limits.cpu_share_max),
        };
        vec![
            name(phase),
            count(phase.workers.len() as u64).into(),
            busiest,
            lag(&phase.schedule_lag, |lag| lag.p99),
            lag(&phase.schedule_lag, |lag| lag.max),
            lag(&phase.read_lag, |lag| lag.p99),
            lag(&phase.read_lag, |lag| lag.max),
        ]
    };
    let heading = ["phase", "workers", "busiest", "late p99", "late max", "read lag p99", "read lag max"];
    Grid::new("Harness", &heading, outcome.phases.iter().filter(|phase| !phase.workers.is_empty()).map(row))
}

fn name(phase: &Phase) -> Cell {
    let note = match phase.judged {
        Judged::Everything | Judged::Nothing => "",
        Judged::FaultsOnly => " *",
    };
    format!("{}{note}", phase.name).into()
}

fn optional(value: Option<f64>, text: fn(f64) -> String) -> Cell {
    value.map_or_else(String::new, text).into()
}

/// Nothing where there was none.
fn shown(n: u64) -> Cell {
    if n > 0 { count(n).into() } else { Cell::default() }
}

fn bad(n: u64) -> Cell {
    Cell { bad: n > 0, ..shown(n) }
}
