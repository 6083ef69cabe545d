//! A run against a server that does wrong, and the harness's counts held against the server's.

use std::sync::atomic::Ordering;

use super::program::{Run, run};
use super::server::{Server, Settings};

/// Arguments of a run that reads one channel from the first trade to the last. The harness shares a loaded machine with
/// other tests here, so that its own lag is no reason to call a run invalid.
pub const BROADCAST: [&str; 13] = [
    "broadcast",
    "--clients",
    "4",
    "--symbol",
    "BTC/USD",
    "--channel",
    "trades",
    "--warm-up",
    "0s",
    "--duration",
    "2s",
    "--max-lag",
    "1h",
];

/// Everybody is sent 400 trades within a second.
pub fn settings() -> Settings {
    Settings { clients: 4, trades: 400, rate: 400, ..Settings::default() }
}

/// Runs the program against such a server, and holds all its counts against the server's.
#[track_caller]
pub fn check(settings: Settings, arguments: &[&str], status: i32) -> Run {
    let counts = ["messages", "missing", "duplicates", "reordered", "announced", "malformed"];
    check_counts(settings, arguments, &counts, status)
}

/// As [`check`], for these counts.
#[track_caller]
pub fn check_counts(settings: Settings, arguments: &[&str], counts: &[&str], status: i32) -> Run {
    let server = Server::start(settings);
    let run = run(&server, arguments);
    assert_eq!(run.status, Some(status), "{run:#?}");
    let tally = server.tally();
    for name in counts {
        let counted = match *name {
            "messages" => &tally.messages,
            "missing" => &tally.missing,
            "duplicates" => &tally.duplicates,
            "reordered" => &tally.reordered,
            "announced" => &tally.announced,
            "malformed" => &tally.malformed,
            _ => panic!("the server does not count {name}"),
        };
        assert_eq!(run.count(name), counted.load(Ordering::Relaxed), "{name}: {run:#?}");
    }
    run
}

/// As [`check`], with the script.
#[track_caller]
pub fn check_script(
    script: impl Fn(usize, u64) -> super::Deed + Send + Sync + 'static,
    arguments: &[&str],
    status: i32,
) -> Run {
    let arguments: Vec<&str> = BROADCAST.iter().chain(arguments).copied().collect();
    check(Settings { script: Box::new(script), ..settings() }, &arguments, status)
}
