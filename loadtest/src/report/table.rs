//! The outcome as text for a terminal, at most 100 columns wide but for words that can't be cut.

use super::grids::{Cell, Grid, grids};
use crate::outcome::{Ending, Judged, Outcome, Standing};
use crate::units::{bytes, count, duration_f64, time};

/// Columns of the whole.
const WIDTH: usize = 100;

/// Faults that are told; the other reports have more.
const FAULTS_MAX: usize = 8;

/// Whether escape sequences are understood where the text goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    Plain,
    Coloured,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Ink {
    Bold,
    Dim,
    Green,
    Red,
    Yellow,
}

/// The report.
pub fn text(outcome: &Outcome, style: Style) -> String {
    let mut out = Writer { text: String::new(), style };
    headline(&mut out, outcome);
    for grid in grids(outcome) {
        out.grid(&grid);
    }
    if outcome.phases.iter().any(|phase| phase.judged == Judged::FaultsOnly) {
        let note = out.inked(Ink::Dim, "  * figures are not held to thresholds, faults are");
        out.line(&note);
    }
    codes(&mut out, outcome);
    findings(&mut out, outcome);
    faults(&mut out, outcome);
    verdicts(&mut out, outcome);
    out.text
}

/// With escape sequences around it, where they are understood.
pub(crate) fn inked(style: Style, ink: Ink, text: &str) -> String {
    let code = match ink {
        Ink::Bold => "1",
        Ink::Dim => "2",
        Ink::Green => "1;32",
        Ink::Red => "1;31",
        Ink::Yellow => "1;33",
    };
    match style {
        Style::Plain => text.to_owned(),
        Style::Coloured => format!("\x1b[{code}m{text}\x1b[0m"),
    }
}

struct Writer {
    text: String,
    style: Style,
}

impl Writer {
    fn line(&mut self, line: &str) {
        self.text.push_str(line.trim_end());
        self.text.push('\n');
    }

    fn inked(&self, ink: Ink, text: &str) -> String {
        inked(self.style, ink, text)
    }

    /// The first column to the left, figures to the right.
    fn grid(&mut self, grid: &Grid) {
        let width = |column: usize| {
            let cells = grid.rows.iter().map(|row| row[column].text.chars().count());
            cells.chain([grid.heading[column].chars().count()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..grid.heading.len()).map(width).collect();
        let room = WIDTH.saturating_sub(widths.iter().sum());
        let gap = (room / (widths.len() - 1).max(1)).clamp(1, 3);
        let padded = |column: usize, text: &str| match column {
            0 => format!("{text:<0$}", widths[0]),
            _ => format!("{text:>0$}", widths[column] + gap),
        };
        let heading: String = grid.heading.iter().enumerate().map(|(column, text)| padded(column, text)).collect();
        self.line("");
        self.line(&self.inked(Ink::Bold, grid.title));
        self.line(&self.inked(Ink::Dim, heading.trim_end()));
        for row in &grid.rows {
            let cell = |(column, cell): (usize, &Cell)| {
                let text = padded(column, &cell.text);
                if cell.bad { self.inked(Ink::Red, &text) } else { text }
            };
            let line: String = row.iter().enumerate().map(cell).collect();
            self.line(&line);
        }
    }

    /// Words broken into lines, those after the first indented.
    fn words(&mut self, first: &str, indent: usize, text: &str) {
        let mut line = first.to_owned();
        for word in text.split_whitespace() {
            if line.chars().count() + 1 + word.chars().count() > WIDTH && line.trim() != first.trim() {
                self.line(&std::mem::replace(&mut line, " ".repeat(indent)));
            }
            if !line.ends_with(' ') && !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        self.line(&line);
    }
}

fn headline(out: &mut Writer, outcome: &Outcome) {
    let header = &outcome.header;
    let title = format!("loadtest {}, {} ", header.scenario, duration_f64(outcome.seconds() * 1e9));
    let word = match outcome.standing() {
        Standing::Held => out.inked(Ink::Green, "HELD"),
        Standing::Broken => out.inked(Ink::Red, "BROKEN"),
        Standing::Invalid => out.inked(Ink::Yellow, "INVALID: the figures below must not be used"),
    };
    let title = out.inked(Ink::Bold, &title);
    out.line("");
    out.line(&format!("{title} {word}"));
    for reason in &outcome.invalid {
        out.words("  !", 4, reason);
    }
    for note in &outcome.notes {
        out.words("  note:", 4, note);
    }
    if outcome.ending == Ending::Interrupted {
        out.line("  ! Interrupted: the figures are of what was done until then.");
    }
    out.words("", 2, &header.command);
    let facts = &header.facts;
    let machine = format!(
        "{}, {} on {} ({} cores, {}, {}), commit {}",
        time(header.started_ns),
        facts.host,
        facts.cpu_model,
        facts.cores,
        bytes(facts.memory_bytes as f64),
        facts.kernel,
        facts.commit,
    );
    out.words("", 2, &machine);
    out.words("", 2, &format!("latency counts from {}", header.latency_from));
}

fn codes(out: &mut Writer, outcome: &Outcome) {
    for phase in &outcome.phases {
        for (what, codes) in [("errors", &phase.counts.errors), ("closes", &phase.counts.closes)] {
            if !codes.is_empty() {
                let codes: Vec<String> = codes.iter().map(|(code, n)| format!("{code} x {}", count(*n))).collect();
                out.words("  ", 4, &format!("{}: {what} by code: {}", phase.name, codes.join(", ")));
            }
        }
    }
    for server in outcome.servers.iter().filter(|server| server.failures > 0) {
        let why = server.failure.as_deref().unwrap_or_default();
        out.words("  !", 4, &format!("{}: {} readings failed: {why}", server.source, count(server.failures)));
    }
}

fn findings(out: &mut Writer, outcome: &Outcome) {
    if outcome.findings.is_empty() {
        return;
    }
    out.line("");
    for finding in &outcome.findings {
        let first = format!("{}: {}.", finding.name, finding.unit.text(finding.value));
        out.words(&first, 2, &finding.text);
    }
}

fn faults(out: &mut Writer, outcome: &Outcome) {
    if outcome.faults.is_empty() {
        return;
    }
    out.line("");
    for fault in outcome.faults.iter().take(FAULTS_MAX) {
        let at = (fault.at_ns - outcome.header.started_ns) as f64 / 1e9;
        out.words(&format!("  {at:>8.3} s"), 13, &format!("client {}: {}", fault.client, fault.text));
    }
    let more = outcome.faults.len().saturating_sub(FAULTS_MAX) as u64 + outcome.faults_left_out;
    if more > 0 {
        out.line(&format!("  and {} more", count(more)));
    }
}

fn verdicts(out: &mut Writer, outcome: &Outcome) {
    out.line("");
    for verdict in &outcome.verdicts {
        let word = if verdict.held { out.inked(Ink::Green, "held  ") } else { out.inked(Ink::Red, "BROKEN") };
        let phase = verdict.phase.as_ref().map_or_else(String::new, |phase| format!("  in {phase}"));
        out.line(&format!(
            "{word}  {:<27} {:>13}  {}{phase}",
            verdict.name,
            verdict.measured_text(),
            verdict.limit_text(),
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::testing;

    #[test]
    fn a_report_fits_the_terminal_and_tells_what_counts() {
        let check = |outcome: &Outcome, words: &[&str]| {
            let text = text(outcome, Style::Plain);
            for line in text.lines() {
                assert!(line.chars().count() <= WIDTH, "{line}");
            }
            assert!(!text.contains('\x1b'), "{text}");
            for word in words {
                assert!(text.contains(word), "{word:?} in\n{text}");
            }
        };
        check(&testing::held(), &["HELD", "loadtest slow", "CPU/message", "stalled", "growth/client"]);
        check(&testing::broken(), &["BROKEN", "max-missing", "at most 0", "trades BTC/USD 1017", "not measured"]);
        check(&testing::invalid(), &["INVALID", "out of processor time", "Interrupted"]);
        check(&testing::empty(), &["INVALID", "Nothing happened"]);
    }

    #[test]
    fn colours_are_all_that_a_terminal_gets_more() {
        let outcome = testing::broken();
        let coloured = text(&outcome, Style::Coloured);
        let mut plain = String::new();
        let mut rest = coloured.as_str();
        while let Some(at) = rest.find('\x1b') {
            plain.push_str(&rest[..at]);
            rest = &rest[at + rest[at..].find('m').unwrap() + 1..];
        }
        plain.push_str(rest);
        let trimmed = |text: &str| text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
        assert_eq!(trimmed(&plain), trimmed(&text(&outcome, Style::Plain)));
    }
}
