//! What operators see of the sources: `gateway feed check`, `/v1/feeds`, the quality of what they bring, and dead letters.

mod support;

use std::net::TcpListener;

use serde_json::Value;
use support::{Directory, Venue, fetch, program, start};

const CHECK: [&str; 5] = ["feed", "check", "coinbase", "--duration", "2s"];

#[test]
fn a_check_shows_what_a_source_says() {
    let venue = Venue::bind();
    let settings = venue.settings(r#"["BTC-USD"]"#);
    let output = std::thread::scope(|scope| {
        let check = scope.spawn(|| program::run(&settings, &CHECK));
        let mut line = venue.accept();
        line.trade("BTC-USD", "100.50");
        line.quote("BTC-USD", "100.40", "100.60");
        line.lose_trades("BTC-USD", 3);
        line.trade("BTC-USD", "100.70");
        line.send("{\"type\":\"mat");
        let output = check.join().unwrap();
        drop(line);
        output
    });
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{shown}{}", String::from_utf8_lossy(&output.stderr));
    for expected in [
        "COINBASE (coinbase), for 2 s\n",
        "  up\n",
        "  trade  BTC/USD  100.50 x 0.50000000  2026-01-01T00:00:00.001Z\n",
        "  quote  BTC/USD  100.40 x 1.5  100.60 x 2.25  2026-01-01T00:00:00.002Z\n",
        "  gap    BTC/USD  3 trades are missing  ",
        "BTC/USD  2 trades, 1 quotes, 3 trades missing\n",
        r#""malformed_frames":1"#,
        r#""trades":2"#,
    ] {
        assert!(shown.contains(expected), "{expected:?} in {shown}");
    }
}

#[test]
fn a_check_explains_why_a_source_is_not_well() {
    // Nobody listens at this port any more.
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("ws://{closed}/?key=geheim");
    let settings = [("feed.kind", "coinbase"), ("feed.coinbase.url", &url)];
    let output = program::run(&settings, &CHECK);
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("COINBASE is down: ") && told.contains("refused"), "{told}");
    assert!(!told.contains("geheim") && !String::from_utf8(output.stdout).unwrap().contains("geheim"), "{told}");
    let output = program::run(&settings, &["feed", "check", "kraken"]);
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(64), "{told}");
    assert_eq!(told, "gateway: feed: there is no source `kraken`, but COINBASE\n");
}

#[test]
fn feeds_are_shown_with_their_quality_and_what_they_refused_is_kept() {
    let venue = Venue::bind();
    let directory = Directory::new();
    let letters = directory.path().join("letters.jsonl");
    let file = letters.display().to_string();
    let settings = [&venue.settings(r#"["BTC-USD"]"#)[..], &[("dead_letters.file", &*file)]].concat();
    let gateway = start(&settings);
    let mut line = venue.accept();
    let refused = "{\"type\":\"match\",\"nonsense\":\u{e9}}";
    line.trades("BTC-USD", 3);
    line.send(refused);
    gateway.await_metric(r#"gateway_feed_events_total{source="coinbase",event="malformed_frames"}"#, |n| n == 1.0);
    let (status, body) = fetch(gateway.admin, "/v1/feeds");
    assert_eq!(status, 200);
    let body: Value = serde_json::from_str(&body).unwrap();
    let feed = &body["feeds"][0];
    assert_eq!(
        (&feed["name"], &feed["venue"], &feed["state"], &feed["mock"], &feed["trouble"]),
        (&"COINBASE".into(), &"coinbase".into(), &"up".into(), &false.into(), &Value::Null)
    );
    assert_eq!((&feed["counters"]["trades"], &feed["counters"]["dead_letters"]), (&3.into(), &1.into()));
    // Three of four could be believed; the made-up times are of months ago.
    let quality = &feed["quality"];
    assert_eq!((&quality["valid"], &quality["unique"], &quality["in_order"]), (&0.75.into(), &1.0.into(), &1.0.into()));
    assert_eq!((&quality["fresh"], &quality["score"]), (&0.0.into(), &0.0.into()));
    let score = r#"gateway_feed_quality_ratio{source="coinbase",aspect="valid"}"#;
    assert_eq!(gateway.metric(score), 0.75);

    gateway.await_metric(r#"gateway_dead_letters_total{result="written"}"#, |written| written == 1.0);
    let kept = std::fs::read_to_string(&letters).unwrap();
    let letter: Value = serde_json::from_str(&kept).unwrap();
    assert_eq!(
        (&letter["source"], &letter["part"], &letter["reason"]),
        (&"COINBASE".into(), &"message".into(), &"syntax".into())
    );
    assert_eq!(letter["frame"], refused);
}
