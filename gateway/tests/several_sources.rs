//! Two sources of one instrument: subscribers see one continuous stream, whichever of them is well, and each source alone
//! where they ask for it.

mod support;

use support::client::{Received, assert_contiguous};
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

/// Trades and bars in progress, up to the trade at this price.
fn until(client: &mut Client, price: &str) -> Vec<Received> {
    let mut messages: Vec<Received> = Vec::new();
    while messages.last().is_none_or(|last| last.kind() != "t" || last.digits("p") != price) {
        messages.push(client.receive_of(&["t", "u"]));
    }
    messages
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
    let trades = until(&mut plain, "99.00");
    assert_contiguous(&trades, 1);
    let told: Vec<(String, String)> =
        trades.iter().map(|t| (t["x"].as_str().unwrap().to_owned(), t["t"].as_str().unwrap().to_owned())).collect();
    let expected: Vec<(String, String)> =
        expected.into_iter().map(|(source, ms)| (source.to_owned(), support::venue::time_of(ms))).collect();
    assert_eq!(told[..expected.len()], expected);
    // As times: as texts, 00.5Z is behind 00.51Z.
    let at = |told: &(String, String)| protocol::parse_rfc3339(told.1.as_bytes()).unwrap();
    assert!(told.windows(2).all(|pair| at(&pair[0]) < at(&pair[1])), "never back in time, and nothing twice: {told:?}");
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

/// `*` has each instrument once, whatever others have asked for; who wants a source's stream as well names it.
#[test]
fn all_is_without_the_streams_of_single_sources() {
    let (first, second) = (Venue::bind(), Venue::bind());
    let gateway = started(&first, &second);
    let (mut first_line, _second_line) = (first.accept(), second.accept());
    let subscribed = |symbols: &str, since: &str| {
        let mut client = gateway.premium();
        let lists = format!(r#""trades":{symbols},"updatedBars":{symbols}"#);
        let answer = client.subscribe(&format!(r#"{{"action":"subscribe",{lists}{since}}}"#));
        (client, answer.number("epoch"))
    };
    let (mut alone, epoch) = subscribed(r#"["BTC/USD@FIRST"]"#, "");
    let (mut everything, _) = subscribed(r#"["*"]"#, "");
    let (mut both, _) = subscribed(r#"["*","BTC/USD@FIRST"]"#, "");
    for ms in 1..=9 {
        first_line.trade_at(PRODUCT, "100.00", 10 * ms);
    }
    first_line.trade_at(PRODUCT, "101.00", 100);

    let of = |messages: &[Received], kind: &str, symbol: &str| -> Vec<Received> {
        messages.iter().filter(|m| m.kind() == kind && m.symbol() == symbol).cloned().collect()
    };
    for (client, symbol, other) in
        [(&mut alone, "BTC/USD@FIRST", "BTC/USD"), (&mut everything, "BTC/USD", "BTC/USD@FIRST")]
    {
        let seen = until(client, "101.00");
        let trades = of(&seen, "t", symbol);
        assert_contiguous(&trades, 1);
        assert_eq!(trades.len(), 10, "{symbol}");
        assert!(of(&seen, "t", other).is_empty() && of(&seen, "u", other).is_empty(), "beside {symbol}: {seen:?}");
    }
    // The plain one comes first, and both to the end.
    let seen = [until(&mut both, "101.00"), until(&mut both, "101.00")].concat();
    for symbol in ["BTC/USD", "BTC/USD@FIRST"] {
        let trades = of(&seen, "t", symbol);
        assert_contiguous(&trades, 1);
        assert_eq!(trades.len(), 10, "{symbol}");
    }

    // Neither does a newcomer get its last values, nor what is retained of it.
    let since = format!(r#","since":{{"epoch":{epoch},"trades":{{"BTC/USD":0,"BTC/USD@FIRST":0}}}}"#);
    let (mut late, _) = subscribed(r#"["*"]"#, &since);
    first_line.trade_at(PRODUCT, "102.00", 110);
    let seen = until(&mut late, "102.00");
    assert_eq!(of(&seen, "t", "BTC/USD").len(), 11);
    assert!(!of(&seen, "u", "BTC/USD").is_empty(), "the last value");
    assert!(seen.iter().all(|message| message.symbol() == "BTC/USD"), "{seen:?}");
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
