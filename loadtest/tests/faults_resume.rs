//! A server that does not resume exactly where the client stopped is caught.

mod support;

use support::cases::{check_counts, settings};
use support::{Resume, Settings};

/// Everybody is cut once, and returns with `since`.
const RECONNECT: [&str; 15] = [
    "reconnect",
    "--clients",
    "4",
    "--symbol",
    "BTC/USD",
    "--channel",
    "trades",
    "--within",
    "500ms",
    "--duration",
    "2s",
    "--warm-up",
    "0s",
    "--max-lag",
    "1h",
];

/// Trades go on until after the return, and end before the run does. What was on its way to a client when it was cut is
/// sent again, so that the server has sent more than was received.
const COUNTS: [&str; 4] = ["missing", "duplicates", "reordered", "announced"];

fn settings_with(resume: Resume) -> Settings {
    Settings { trades: 700, rate: 200, resume, ..settings() }
}

#[test]
fn an_exact_resume_is_found_exact() {
    let run = check_counts(settings_with(Resume::Exact), &RECONNECT, &COUNTS, 0);
    assert_eq!((run.count("resumed"), run.count("missing"), run.count("duplicates")), (4, 0, 0));
}

#[test]
fn a_resume_that_skips_one_is_caught() {
    let run = check_counts(settings_with(Resume::SkipsOne), &RECONNECT, &COUNTS, 1);
    assert_eq!((run.count("resumed"), run.count("missing"), run.count("duplicates")), (0, 4, 0));
}

#[test]
fn a_resume_that_repeats_one_is_caught() {
    let run = check_counts(settings_with(Resume::RepeatsOne), &RECONNECT, &COUNTS, 1);
    assert_eq!((run.count("resumed"), run.count("missing"), run.count("duplicates")), (0, 0, 4));
}
