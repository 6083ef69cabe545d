//! Two sources of one instrument: subscribers see one continuous stream, whichever of them is well, and each source alone
//! where they ask for it.

mod support;

use support::client::assert_contiguous;
use support::{Client, Running, Venue, start};

const PRODUCT: &str = "BTC-USD";

fn started(first: &Venue, second: &Venue) -> Running {
    let source = |name, venue: &Venue| {
        let url = &venue.url;
        format!(r#"{{venue="coinbase",name="{name}",url="{url}",symbols=["BTC/USD"],silence_timeout="1h"}}"#)
    };
    let sources = format!("[{},{}]", source("FIRST", first), source("SECOND", second));
    start(&[
        ("feed.kind", "live"),
        ("feed.sources", &sources),
        ("feed.limits.age_max", "87600h"),
        ("feed.arbitration.stale_after", "1h"),
        ("feed.arbitration.fail_back_after", "100ms"),
    ])
}

fn subscribed(gateway: &Running, symbol: &str) -> Client {
    let mut client = gateway.premium();
    client.subscribe(&format!(r#"{{"action":"subscribe","trades":["{symbol}"]}}"#));
    client
}

#[test]
fn another_source_goes_on_where_one_stops() {
    let (first, second) = (Venue::bind(), Venue::bind());
    let gateway = started(&first, &second);
    let (mut first_line, mut second_line) = (first.accept(), second.accept());
    let mut plain = subscribed(&gateway, "BTC/USD");
    let mut alone = subscribed(&gateway, "BTC/USD@SECOND");
    let ticks = |gateway: &Running, count: f64| gateway.await_metric("gateway_ring_records_total", |n| n >= count);

    // Both are well: the first one's trades, and none of the second's.
    let mut expected = Vec::new();
    for ms in 1..=5u64 {
        first_line.trade_at(PRODUCT, "100.00", 10 * ms);
        expected.push(("FIRST", 10 * ms));
    }
    ticks(&gateway, 5.0);
    for ms in 1..=5u64 {
        second_line.trade_at(PRODUCT, "100.01", 10 * ms + 1);
    }
    ticks(&gateway, 10.0);

    // The first is cut off: the second goes on, but not with what was there already.
    drop(first_line);
    gateway.await_metric(r#"gateway_feed_up{source="first"}"#, |up| up == 0.0);
    second_line.trade_at(PRODUCT, "100.01", 50);
    for ms in 6..=9u64 {
        second_line.trade_at(PRODUCT, "100.01", 10 * ms);
        expected.push(("SECOND", 10 * ms));
    }
    ticks(&gateway, 15.0);

    // The first comes back, and after a while its trades are those that go out again.
    let mut first_line = first.accept();
    // Its ids go on.
    first_line.lose_trades(PRODUCT, 5);
    let mut ms = 10;
    while gateway.metric("gateway_source_switches_total") < 2.0 {
        first_line.trade_at(PRODUCT, "100.00", 10 * ms);
        second_line.trade_at(PRODUCT, "100.01", 10 * ms + 5);
        ms += 1;
        ticks(&gateway, 15.0 + 2.0 * (ms - 10) as f64);
    }
    // One more, that the reader knows the end by.
    first_line.trade_at(PRODUCT, "99.00", 10 * ms);
    let mut trades = Vec::new();
    while trades.last().is_none_or(|last: &support::client::Received| last.digits("p") != "99.00") {
        trades.push(plain.receive_of(&["t"]));
    }
    assert_contiguous(&trades, 1);
    let told: Vec<(String, String)> =
        trades.iter().map(|t| (t["x"].as_str().unwrap().to_owned(), t["t"].as_str().unwrap().to_owned())).collect();
    let expected: Vec<(String, String)> =
        expected.into_iter().map(|(source, ms)| (source.to_owned(), support::venue::time_of(ms))).collect();
    assert_eq!(told[..expected.len()], expected);
    assert!(told.windows(2).all(|pair| pair[0].1 < pair[1].1), "never back in time, and nothing twice: {told:?}");
    let sources: Vec<&str> = told.iter().map(|(source, _)| source.as_str()).collect();
    let switches = sources.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert_eq!((sources.first(), sources.last(), switches), (Some(&"FIRST"), Some(&"FIRST"), 2));

    // Whoever asked for the second source has all of its trades, with its own ids.
    let count = 10 + (ms - 10) as usize;
    let all = alone.receive_many(&["t"], count);
    assert_contiguous(&all, 1);
    assert!(all.iter().all(|t| t["x"] == "SECOND" && t.symbol() == "BTC/USD@SECOND"));
    assert_eq!(all.iter().map(|t| t.number("i")).collect::<Vec<_>>(), (1..=count as u64).collect::<Vec<_>>());
    assert!(gateway.metric(r#"gateway_ticks_left_out_total{reason="standby"}"#) > 0.0);
    assert!(gateway.metric(r#"gateway_ticks_left_out_total{reason="behind"}"#) >= 1.0);
}

#[test]
fn unknown_sources_are_unknown_symbols() {
    let (first, second) = (Venue::bind(), Venue::bind());
    let gateway = started(&first, &second);
    let _lines = (first.accept(), second.accept());
    let mut client = gateway.premium();
    for symbol in ["BTC/USD@THIRD", "BTC/USD@", "ETH/USD@FIRST", "@FIRST"] {
        client.send(&format!(r#"{{"action":"subscribe","trades":["{symbol}"]}}"#));
        let refused = client.receive_of(&["error", "subscription"]);
        assert_eq!(refused.kind(), "error", "{symbol}: {}", refused.text);
        assert_eq!(client.receive_of(&["error", "subscription"]).kind(), "subscription");
    }
}
