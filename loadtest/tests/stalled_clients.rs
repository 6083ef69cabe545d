//! Clients that do not read on purpose: they are told apart from the others, and what the others noticed is told.

mod support;

use support::{Server, Settings, run};

#[test]
fn who_does_not_read_counts_once_and_is_not_timed() {
    // More than the run is long.
    let server = Server::start(Settings { clients: 8, trades: 4_000, rate: 400, ..Settings::default() });
    let arguments =
        "slow --clients 8 --share 0.5 --symbol BTC/USD --warm-up 0s --duration 1s --stall 2s --settle 2s --max-lag 1h";
    let run = run(&server, &arguments.split(' ').collect::<Vec<_>>());
    assert_eq!(run.status, Some(0), "{run:#?}");
    let report = run.report.as_ref().unwrap();
    let clients_of = |name: &str| {
        let phase = report["phases"].as_array().unwrap().iter().find(|phase| phase["name"] == name).unwrap();
        ["ready", "stalled", "connecting", "gone"].map(|gauge| phase["clients"][gauge].as_u64().unwrap())
    };
    assert_eq!(clients_of("baseline"), [8, 0, 0, 0]);
    let [ready, stalled, ..] = clients_of("stalled");
    assert!(ready + stalled == 8 && (1..8).contains(&stalled), "{ready} {stalled}");
    assert_eq!(clients_of("recovered"), [8, 0, 0, 0]);
    // What piled up for two seconds is in no latency.
    assert!(run.figure("latency", "max").unwrap() < 1_500_000_000);
    let finding = &report["findings"][0];
    assert!(finding["text"].as_str().unwrap().contains(&format!("while {stalled} did not read")), "{finding}");
}
