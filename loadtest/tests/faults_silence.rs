//! A server that lets clients in and then has nothing for them, or drops one before anything counts.

mod support;

use support::cases::{BROADCAST, check, settings};
use support::{Deed, Server, Settings, run};

/// Nothing was lost, repeated or late, because there was nothing.
#[test]
fn a_run_without_a_message_is_invalid() {
    let run = check(Settings { trades: 0, ..settings() }, &BROADCAST, 2);
    let invalid = run.invalid();
    assert!(invalid.contains("No message came to 4 clients that were ready"), "{invalid}");
    assert!(run.stdout.contains("INVALID"), "{}", run.stdout);
}

#[test]
fn who_looks_for_nothing_misses_nothing() {
    let server = Server::start(Settings { trades: 0, ..settings() });
    let arguments = ["idle", "--clients", "4", "--duration", "1s", "--max-lag", "1h", "--channel", "trades"];
    let run = run(&server, &arguments);
    assert_eq!(run.status, Some(0), "{run:#?}");
}

/// A step in which nothing happens neither holds nor breaks.
#[test]
fn a_search_among_nothing_is_refused() {
    let server = Server::start(Settings { trades: 0, ..settings() });
    let arguments = ["find-max", "--lowest", "2", "--highest", "4", "--warm-up", "0s", "--step", "1s"];
    let run = run(&server, &arguments);
    assert_eq!(run.status, Some(69), "{run:#?}");
    assert!(run.stderr.contains("is anything traded"), "{run:#?}");
    assert!(!run.stderr.contains("telling the coordinator"), "{run:#?}");
}

#[test]
fn a_venue_that_cannot_listen_is_refused() {
    let server = Server::start(settings());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let run = run(&server, &["find-max", "--raise", "rate", "--clients", "4", "--venue-listen", &address]);
    assert_eq!(run.status, Some(64), "{run:#?}");
    assert!(run.stderr.contains(&address) && run.stderr.contains("venue-listen"), "{run:#?}");
}

/// A client that is lost in the warm-up is missed in all that follows; it is the server that lost it.
#[test]
fn a_client_lost_before_anything_counts_breaks_a_threshold() {
    let script = |client, seq| if (client, seq) == (3, 100) { Deed::Cut } else { Deed::Send };
    let settings = Settings { trades: 1_600, script: Box::new(script), ..settings() };
    // The hundredth trade is due three quarters of a second after the last client came.
    let mut arguments = BROADCAST;
    let warm_up = arguments.iter().position(|argument| *argument == "0s").unwrap();
    arguments[warm_up] = "2s";
    let server = Server::start(settings);
    let run = run(&server, &arguments);
    assert_eq!((run.status, run.invalid()), (Some(1), String::new()), "{run:#?}");
    assert_eq!(run.count("lost"), 1);
    let phases = run.report.as_ref().unwrap()["phases"].as_array().unwrap();
    let clients = &phases.last().unwrap()["clients"];
    assert_eq!((clients["ready"].as_u64(), clients["gone"].as_u64()), (Some(3), Some(1)));
    let verdicts = run.report.as_ref().unwrap()["verdicts"].as_array().unwrap();
    let broken: Vec<_> =
        verdicts.iter().filter(|it| it["held"] == false).map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!(broken, ["max-lost"]);
}
