//! A server that does not let the program in: it ends with exit status 69 and the server's own words.

mod support;

use support::cases::{BROADCAST, settings};
use support::{Door, Server, Settings, run, run_at};

#[track_caller]
fn check_refused(door: Door, words: &str) {
    let server = Server::start(Settings { door, ..settings() });
    for sign_in in ["header", "message"] {
        let arguments: Vec<&str> = BROADCAST.into_iter().chain(["--auth", sign_in]).collect();
        let run = run(&server, &arguments);
        assert_eq!(run.status, Some(69), "{sign_in}: {run:#?}");
        assert!(run.stderr.contains(words), "{sign_in}: {run:#?}");
        assert!(!format!("{run:?}").contains("not-a-secret"), "{run:#?}");
        // The words of the workers that are sent home would stand before it.
        assert!(!run.stderr.contains("telling the coordinator"), "{sign_in}: {run:#?}");
    }
}

#[test]
fn a_refusal_before_the_upgrade_is_told_in_the_servers_words() {
    check_refused(Door::Http401, "the credentials are not valid");
}

#[test]
fn a_failed_sign_in_is_told_in_the_servers_words() {
    check_refused(Door::Error402, "auth failed");
}

#[test]
fn a_missing_entitlement_is_told_in_the_servers_words() {
    check_refused(Door::Error409, "insufficient subscription");
}

#[test]
fn nobody_at_the_target_is_told_with_its_address() {
    // A port that was bound a moment ago, and is free now.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let run = run_at(&format!("ws://{closed}/stream"), &BROADCAST);
    assert_eq!(run.status, Some(69), "{run:#?}");
    assert!(run.stderr.contains(&closed.to_string()), "{run:#?}");
}
