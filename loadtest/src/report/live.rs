//! What is to be seen while a run is under way: a bar and a line on a terminal, a plain line every ten seconds elsewhere. On
//! standard error, so that standard output is the report's alone.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::outcome::Live;
use crate::units;

/// How often a plain line is written.
const PLAIN_EVERY: Duration = Duration::from_secs(10);

/// The live line.
#[derive(Debug)]
pub struct LiveLine {
    form: Form,
    phase: String,
    planned: Duration,
    begun: Instant,
    updated: Instant,
}

#[derive(Debug)]
enum Form {
    Bar(ProgressBar),
    Plain,
}

impl LiveLine {
    /// A bar where standard error is a terminal, else plain lines.
    pub fn new() -> LiveLine {
        let form = if io::stderr().is_terminal() { Form::Bar(bar()) } else { Form::Plain };
        let now = Instant::now();
        LiveLine { form, phase: String::new(), planned: Duration::ZERO, begun: now, updated: now }
    }

    /// A phase begins; `planned` is how long it is meant to take (zero: not known).
    pub fn phase(&mut self, name: &str, planned: Duration) {
        let now = Instant::now();
        (self.phase, self.planned, self.begun) = (name.to_owned(), planned, now);
        match &self.form {
            Form::Bar(bar) => {
                bar.set_length(milliseconds(planned));
                bar.set_position(0);
                bar.set_prefix(name.to_owned());
            }
            Form::Plain => {
                self.updated = now;
                plain(&format!("{name}: begins"));
            }
        }
    }

    /// Shows how things stand; meant to be called a few times a second.
    pub fn update(&mut self, live: &Live) {
        let now = Instant::now();
        let elapsed = now - self.begun;
        match &self.form {
            Form::Bar(bar) => {
                bar.set_position(milliseconds(elapsed.min(self.planned)));
                bar.set_message(line(live));
            }
            Form::Plain if now - self.updated >= PLAIN_EVERY => {
                self.updated = now;
                plain(&format!("{} {}: {}", self.phase, progress(elapsed, self.planned), line(live)));
            }
            Form::Plain => {}
        }
    }

    /// Writes a line that stays, such as what a step found.
    pub fn say(&self, text: &str) {
        match &self.form {
            Form::Bar(bar) => bar.println(text),
            Form::Plain => plain(text),
        }
    }

    /// Takes the bar away.
    pub fn finish(self) {
        if let Form::Bar(bar) = self.form {
            bar.finish_and_clear();
        }
    }
}

impl Default for LiveLine {
    fn default() -> LiveLine {
        LiveLine::new()
    }
}

fn bar() -> ProgressBar {
    // A few times a second is enough for people, and the harness has better to do.
    let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr_with_hz(5));
    let style = ProgressStyle::with_template("{prefix:.bold} {bar:16.cyan/dim} {wide_msg}");
    bar.with_style(style.expect("Invariant: the template is a constant that is understood").progress_chars("━━─"))
}

/// Standard error may be gone; the run is not to end by that.
fn plain(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn progress(elapsed: Duration, planned: Duration) -> String {
    match planned.as_secs() {
        0 => format!("{} s", elapsed.as_secs()),
        planned => format!("{} of {planned} s", elapsed.as_secs()),
    }
}

/// Everything that one glances at, what is nothing left out.
fn line(live: &Live) -> String {
    let mut parts = vec![format!("{} clients", units::count(live.ready + live.stalled))];
    let mut part = |shown: bool, text: &dyn Fn() -> String| {
        if shown {
            parts.push(text());
        }
    };
    part(live.connecting > 0, &|| format!("{} connecting", units::count(live.connecting)));
    part(live.stalled > 0, &|| format!("{} stalled", units::count(live.stalled)));
    part(live.handshakes > 0.0, &|| format!("{} handshakes/s", units::number(live.handshakes)));
    part(true, &|| format!("{} msg/s", units::number(live.messages)));
    if let (Some(p50), Some(p99)) = (live.p50, live.p99) {
        part(true, &|| format!("p50 {} p99 {}", units::duration(p50), units::duration(p99)));
    }
    part(true, &|| format!("gaps {}", units::count(live.missing + live.announced)));
    for (name, count) in [
        ("duplicates", live.duplicates),
        ("reordered", live.reordered),
        ("malformed", live.malformed),
        ("lost", live.lost),
        ("refused", live.refused),
    ] {
        part(count > 0, &|| format!("{name} {}", units::count(count)));
    }
    if let Some(share) = live.server_share {
        part(true, &|| format!("server {}", units::percent(share)));
    }
    if let Some(rss) = live.server_rss_bytes {
        part(true, &|| units::bytes(rss as f64));
    }
    part(true, &|| format!("harness {}", units::percent(live.worker_share)));
    if let Some(lag) = live.schedule_lag_p99 {
        part(true, &|| format!("lag {}", units::duration(lag)));
    }
    parts.join(" · ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_what_there_is() {
        let check = |live: &Live, expected: &str| assert_eq!(line(live), expected);
        check(&Live::default(), "0 clients · 0 msg/s · gaps 0 · harness 0 %");
        let live = Live {
            ready: 900,
            stalled: 100,
            messages: 299_900.4,
            p50: Some(4_100_000),
            p99: Some(14_200_000),
            missing: 2,
            announced: 40,
            duplicates: 1,
            server_share: Some(0.81),
            server_rss_bytes: Some(50_331_648),
            worker_share: 0.634,
            schedule_lag_p99: Some(120_000),
            ..Live::default()
        };
        check(
            &live,
            "1,000 clients · 100 stalled · 299,900 msg/s · p50 4.10 ms p99 14.2 ms · gaps 42 · duplicates 1 · \
             server 81 % · 48.0 MiB · harness 63.4 % · lag 120 us",
        );
    }

    #[test]
    fn progress_is_told_with_and_without_an_end() {
        assert_eq!(progress(Duration::from_secs(12), Duration::from_secs(30)), "12 of 30 s");
        assert_eq!(progress(Duration::from_secs(12), Duration::ZERO), "12 s");
    }
}
