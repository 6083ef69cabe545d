//! The Prometheus text format, version 0.0.4: families with HELP and TYPE, each family's samples together.
//!
//! Format: <https://prometheus.io/docs/instrumenting/exposition_formats/>.

use std::fmt::{Display, Write};

/// What a family of samples is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// One scrape in the making.
#[derive(Debug, Default)]
pub struct Exposition {
    /// Families in the order of their first sample. The format wants the lines of one family together, and
    /// collectors may come back to one.
    families: Vec<(&'static str, String)>,
}

impl Exposition {
    /// Adds a sample. The name is a whole metric name; the first sample of a name describes its family.
    pub fn sample(&mut self, kind: Kind, name: &'static str, help: &str, labels: &[(&str, &str)], value: impl Display) {
        let lines = self.family(kind, name, help);
        write_sample(lines, name, "", labels, value);
    }

    /// Adds a histogram whose bounds and sum are ns and are shown in seconds. `counts` are not cumulative
    /// and hold one more than `bounds_ns`: what is above the last bound.
    pub(super) fn histogram(&mut self, name: &'static str, help: &str, bounds_ns: &[u64], counts: &[u64], sum_ns: u64) {
        debug_assert_eq!(counts.len(), bounds_ns.len() + 1);
        let lines = self.family(Kind::Histogram, name, help);
        let mut cumulative = 0;
        for (i, count) in counts.iter().enumerate() {
            cumulative += count;
            let bound = bounds_ns.get(i).map_or_else(|| "+Inf".to_owned(), |bound| seconds(*bound));
            write_sample(lines, name, "_bucket", &[("le", &bound)], cumulative);
        }
        write_sample(lines, name, "_sum", &[], seconds(sum_ns));
        write_sample(lines, name, "_count", &[], cumulative);
    }

    /// The whole text.
    pub(super) fn into_text(self) -> String {
        self.families.into_iter().map(|(_, lines)| lines).collect()
    }

    fn family(&mut self, kind: Kind, name: &'static str, help: &str) -> &mut String {
        let at = self.families.iter().position(|(known, _)| *known == name).unwrap_or_else(|| {
            let help = help.replace('\\', r"\\").replace('\n', r"\n");
            let described = format!("# HELP {name} {help}\n# TYPE {name} {}\n", kind.name());
            self.families.push((name, described));
            self.families.len() - 1
        });
        &mut self.families[at].1
    }
}

fn write_sample(out: &mut String, name: &str, suffix: &str, labels: &[(&str, &str)], value: impl Display) {
    out.push_str(name);
    out.push_str(suffix);
    for (i, (label, text)) in labels.iter().enumerate() {
        let text = text.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n");
        // Writing to a String cannot fail.
        let _ = write!(out, "{}{label}=\"{text}\"", if i == 0 { '{' } else { ',' });
    }
    let _ = writeln!(out, "{} {value}", if labels.is_empty() { "" } else { "}" });
}

/// Nanoseconds as seconds, exactly and without trailing zeros.
pub(super) fn seconds(ns: u64) -> String {
    let text = format!("{}.{:09}", ns / 1_000_000_000, ns % 1_000_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_stay_together_and_labels_are_escaped() {
        let mut out = Exposition::default();
        out.sample(Kind::Counter, "a_total", "First.", &[("reason", "x")], 1);
        out.sample(Kind::Gauge, "b", "Second,\nin two lines.", &[], 0.5);
        out.sample(Kind::Counter, "a_total", "First.", &[("reason", "q\"\\\n"), ("side", "in")], 2);
        let expected = "# HELP a_total First.\n# TYPE a_total counter\na_total{reason=\"x\"} 1\n\
                        a_total{reason=\"q\\\"\\\\\\n\",side=\"in\"} 2\n\
                        # HELP b Second,\\nin two lines.\n# TYPE b gauge\nb 0.5\n";
        assert_eq!(out.into_text(), expected);
    }

    #[test]
    fn seconds_are_exact() {
        for (ns, text) in [(0, "0"), (1, "0.000000001"), (1_000_000_000, "1"), (10_000_000_000, "10")] {
            assert_eq!(seconds(ns), text);
        }
    }
}
