//! A comparison as text for a terminal.

use super::{Comparison, Run, Verdict};
use crate::report::table::{Ink, Style, inked};
use crate::units::{percent, time};

pub(super) fn text(comparison: &Comparison, style: Style) -> String {
    let mut out = String::new();
    let mut line = |text: &str| {
        out.push_str(text.trim_end());
        out.push('\n');
    };
    for (name, run) in [("A", &comparison.a), ("B", &comparison.b)] {
        line(&format!("{name}  {}", described(run)));
    }
    for warning in &comparison.warnings {
        line(&inked(style, Ink::Yellow, &format!("!  {warning}")));
    }
    for phase in &comparison.phases {
        line("");
        line(&inked(style, Ink::Bold, &phase.name));
        line(&inked(style, Ink::Dim, &format!("{:<22}{:>14}{:>14}{:>12}", "", "A", "B", "change")));
        for change in &phase.changes {
            let value = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| change.unit.text(value));
            let share = change
                .share()
                .map_or_else(String::new, |share| format!("{}{}", if share > 0.0 { "+" } else { "" }, percent(share)));
            let verdict = match change.verdict {
                Verdict::Same | Verdict::Unknown => String::new(),
                Verdict::Other => "changed".to_owned(),
                Verdict::Better => inked(style, Ink::Green, "better"),
                Verdict::Worse => inked(style, Ink::Red, "worse"),
            };
            let figures = format!("{:<22}{:>14}{:>14}{share:>12}", change.figure, value(change.a), value(change.b));
            line(&format!("{figures}  {verdict}"));
        }
    }
    out
}

fn described(run: &Run) -> String {
    let servers = if run.servers.is_empty() { String::new() } else { format!(", server {}", run.servers.join(", ")) };
    format!("{} of {}, commit {}{servers}", run.scenario, time(run.started_ns), run.commit)
}
