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
        "BTC/USD  2 trades, 1 quotes, 0 bars, 3 trades missing\n",
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

/// A message of Nasdaq ITCH with its length before it, from hexadecimal digits.
fn itch(digits: &str) -> Vec<u8> {
    let digits: Vec<u8> = digits.bytes().filter(u8::is_ascii_hexdigit).collect();
    let message: Vec<u8> =
        digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect();
    [&(message.len() as u16).to_be_bytes()[..], &message].concat()
}

#[test]
fn a_day_of_nasdaq_is_played_from_its_file() {
    let directory = Directory::new();
    let messages = [
        // The directory says that 0x1598 is IVOO.
        itch("52 1598 0000 1f1aced80000 49564f4f20202020 51 4e 00000064 4e 51 2020 50 4e 20 31 59 00000000 4e"),
        // Buy 100 at 87.39, sell 200 at 87.45; 25 of the first are executed.
        itch("41 1598 0000 1f1aced85306 000000000166b53e 42 00000064 49564f4f20202020 000d55ac"),
        itch("41 1598 0000 1f1aced85307 000000000166b53f 53 000000c8 49564f4f20202020 000d5804"),
        itch("45 1598 0002 1f1aced8f061 000000000166b53e 00000019 000000000003e63b"),
    ];
    let file = directory.write("day.itch", messages.concat());
    let sources = format!(r#"[{{venue="nasdaq_itch",name="NASDAQ",file="{file}",day="2023-08-22"}}]"#);
    let settings = [("feed.kind", "live"), ("feed.sources", &*sources)];
    let output = program::run(&settings, &["feed", "check", "nasdaq", "--duration", "1s"]);
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{shown}{}", String::from_utf8_lossy(&output.stderr));
    for expected in [
        "  ended\n",
        "  quote  IVOO  87.3900 x 100  87.4500 x 200  2023-08-22T13:29:59.999894279Z",
        "  trade  IVOO  87.3900 x 25  2023-08-22T13:29:59.999934561Z",
        "  quote  IVOO  87.3900 x 75  87.4500 x 200  2023-08-22T13:29:59.999934561Z",
    ] {
        assert!(shown.contains(expected), "{expected:?} in {shown}");
    }
}
