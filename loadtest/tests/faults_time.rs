//! A server that delays what it sends, or whose clock differs, is caught.

mod support;

use std::time::Duration;

use support::cases::{BROADCAST, check, check_script, settings};
use support::{Deed, Server, Settings, run};

/// Messages are stamped, and leave 200 ms later. Beside the other tests of a machine with few cores, nothing is ever early,
/// but some are later than that.
#[test]
fn a_delay_shows_in_the_latency_and_breaks_its_threshold() {
    let held = Duration::from_millis(200);
    for (limit, status) in [("--max-p50=190ms", 1), ("--max-p50=250ms", 0)] {
        let run = check_script(move |_, _| Deed::Held(held), &[limit], status);
        let (p50, p99) = (run.figure("latency", "p50").unwrap(), run.figure("latency", "p99").unwrap());
        assert!((200_000_000..215_000_000).contains(&p50), "{p50} ns");
        assert!((200_000_000..400_000_000).contains(&p99), "{p99} ns");
    }
}

/// A tenth is held: the 99th percentile shows it, and the median does not.
#[test]
fn a_delay_of_some_shows_in_the_tail() {
    let script = |_, seq| if seq % 10 == 0 && seq > 200 { Deed::Held(Duration::from_millis(300)) } else { Deed::Send };
    let run = check_script(script, &["--max-p99", "250ms"], 1);
    // What is held holds what is behind it, so that from the 210th on half of the messages are late, by 0 to 300 ms.
    assert!(run.figure("latency", "p99").unwrap() >= 250_000_000);
    assert!(run.figure("latency", "p50").unwrap() < 250_000_000);
}

/// Latency is the difference of two clocks; where the server's is ahead, it is nonsense, and the run says so.
#[test]
fn a_clock_that_is_ahead_makes_the_run_invalid() {
    let run = check(Settings { ahead: Duration::from_secs(5), ..settings() }, &BROADCAST, 2);
    assert_eq!(run.count("from_the_future"), 1_600);
    let invalid = run.invalid();
    assert!(invalid.contains("clock"), "{invalid}");
    assert!(run.stdout.contains("INVALID"), "{}", run.stdout);
}

#[test]
fn a_clock_within_the_tolerance_does_no_harm() {
    let arguments: Vec<&str> = BROADCAST.into_iter().chain(["--clock-tolerance", "10s"]).collect();
    check(Settings { ahead: Duration::from_secs(5), ..settings() }, &arguments, 0);
}

/// The time to the upgrade counts from when the connection was to be made.
#[test]
fn a_slow_accept_shows_in_the_handshake() {
    let server = Server::start(Settings { accept_delay: Duration::from_millis(300), ..settings() });
    let run = run(&server, &BROADCAST);
    assert_eq!(run.status, Some(0), "{run:#?}");
    for distribution in ["handshake", "ready"] {
        let phases = run.report.as_ref().unwrap()["phases"].as_array().unwrap();
        let p50 = phases.iter().find_map(|phase| phase[distribution]["p50"].as_u64()).unwrap();
        assert!((300_000_000..400_000_000).contains(&p50), "{distribution}: {p50} ns");
    }
}
