//! Tests of `plan`.

use super::*;
use crate::scenario::{Kind, Wishes};

const SYSTEM: System = System { descriptors: 20_000, ports: (32_768, 60_999), cores: 2 };

fn planned(clients: u64, wishes: Wishes, system: &System) -> Result<(u64, usize), PlanError> {
    let scenario = Wishes { clients: Some(clients), ..wishes }.resolve(Kind::Broadcast).unwrap();
    let assignments = plan(&scenario, None, system)?;
    Ok((assignments.len() as u64, assignments[0].sources.len()))
}

#[test]
fn a_run_is_spread_as_descriptors_and_ports_demand() {
    let check = |clients, wishes, cores, expected: (u64, usize)| {
        let system = System { cores, ..SYSTEM };
        assert_eq!(planned(clients, wishes, &system), Ok(expected), "{clients} clients");
    };
    let wishes = Wishes::default;
    check(1, wishes(), 16, (1, 0));
    check(1_000, wishes(), 2, (1, 0));
    check(1_000, wishes(), 8, (4, 0));
    check(10_000, wishes(), 2, (1, 0));
    check(10_001, wishes(), 2, (1, 2));
    check(20_000, wishes(), 2, (2, 2));
    check(100_000, wishes(), 2, (6, 10));
    check(1_000, Wishes { workers: Some(3), sources: Some(4), ..wishes() }, 2, (3, 4));
    check(1_000, Wishes { source: vec!["127.0.0.5-127.0.0.9".to_owned()], ..wishes() }, 2, (1, 5));
    // No worker without a client.
    check(2, Wishes { workers: Some(8), ..wishes() }, 2, (2, 0));
}

#[test]
fn what_does_not_fit_is_refused_with_the_number_that_is_needed() {
    let check = |clients, wishes, named: &[&str]| {
        let error = planned(clients, wishes, &SYSTEM).expect_err("too many");
        assert!(error.is_of_the_machine());
        let text = error.to_string();
        assert!(named.iter().all(|part| text.contains(part)), "{text}");
    };
    let wishes = Wishes::default;
    check(100_000, Wishes { workers: Some(2), ..wishes() }, &["50032 descriptors", "have 20000", "--workers 6"]);
    let one = Wishes { source: vec!["127.0.0.1".to_owned()], ..wishes() };
    check(100_000, one, &["32768 to 60999", "give 26820", "Use 4 source addresses (--sources)"]);
    // Nothing listens at this address (of RFC 5737), and nothing is asked of it.
    let away = Wishes { target: vec!["ws://192.0.2.1:80/".to_owned()], ..wishes() };
    check(30_000, away, &["1 source addresses", "--source FIRST-LAST"]);
}

#[test]
fn several_targets_have_ports_each() {
    let targets = (1..=4).map(|port| format!("ws://127.0.0.1:{port}/")).collect();
    let one = Wishes { source: vec!["127.0.0.1".to_owned()], target: targets, ..Wishes::default() };
    assert_eq!(planned(100_000, one, &SYSTEM), Ok((6, 1)));
}

#[test]
fn addresses_are_read() {
    let check = |url: &str, address: &str, authority: &str, path: &str, tls: bool| {
        let read = target(url).unwrap();
        assert_eq!(read.address, address.parse().unwrap(), "{url}");
        assert_eq!((&*read.authority, &*read.path, read.tls), (authority, path, tls), "{url}");
    };
    check("ws://127.0.0.1:8080/stream", "127.0.0.1:8080", "127.0.0.1:8080", "/stream", false);
    check("ws://127.0.0.1", "127.0.0.1:80", "127.0.0.1", "/stream", false);
    check("wss://127.0.0.1/v2/iex?a=b", "127.0.0.1:443", "127.0.0.1", "/v2/iex?a=b", true);
    check("ws://[::1]:9/", "[::1]:9", "[::1]:9", "/", false);
    check("ws://127.0.0.1:1?token=x", "127.0.0.1:1", "127.0.0.1:1", "/?token=x", false);
    for url in ["", "http://a/", "ws://", "ws://127.0.0.1:x/", "ws://u:p@127.0.0.1/", "ws://127.0.0.1/a b"] {
        let error = target(url).expect_err(url).to_string();
        assert!(error.starts_with("target"), "{error}");
    }
    let error = target("ftp://a/?token=hidden").unwrap_err().to_string();
    assert!(!error.contains("hidden"), "{error}");
}

#[test]
fn source_addresses_are_read() {
    assert_eq!(source_range("127.0.0.1-127.0.0.3").unwrap().len(), 3);
    assert_eq!(source_range("::1").unwrap().len(), 1);
    for text in ["", "a", "127.0.0.3-127.0.0.1", "::1-::2", "10.0.0.0-10.255.0.0"] {
        assert!(source_range(text).is_err(), "{text}");
    }
}
