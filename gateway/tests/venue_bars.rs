//! Bars that venues make: what clients see of a stock that nobody tells the trades of, and of one whose trades join.

mod support;

use support::client::assert_contiguous;
use support::polled::{day, series};
use support::venue::time_of;
use support::{Directory, PolledVenue, Received, Running, Venue, now_ns, program, start};

const MINUTE_MS: u64 = 60_000;

/// Alpha Vantage's part of `feed.sources`, asked without a budget to speak of.
fn polled(venue: &PolledVenue, directory: &Directory, more: &str) -> String {
    let (url, key) = (&venue.url, directory.write("key", "K3Y"));
    format!(
        r#"{{venue="alpha_vantage",url="{url}",symbols=["MSFT"],key_file="{key}",requests_per_minute=60000,requests_per_day=1000000{more}}}"#
    )
}

fn until_repeated(gateway: &Running, count: f64) {
    let repeated = r#"gateway_feed_events_total{source="alpha_vantage",event="repeated_bars"}"#;
    gateway.await_metric(repeated, |n| n >= count);
}

#[test]
fn the_day_of_a_stock_that_is_polled_is_told_with_each_change() {
    let (venue, directory) = (PolledVenue::bind(), Directory::new());
    let sources = format!("[{}]", polled(&venue, &directory, ""));
    let gateway = start(&[("feed.kind", "live"), ("feed.sources", &sources)]);
    let mut client = gateway.premium();
    client.subscribe(r#"{"action":"subscribe","dailyBars":["MSFT"],"bars.1d":["MSFT"]}"#);
    // It begins at midnight in New York, 4 or 5 hours after ours.
    let mut today = Vec::new();
    protocol::format_rfc3339(now_ns() - 5 * 3_600_000_000_000, &mut today);
    let today = String::from_utf8(today).unwrap()[..10].to_owned();
    for (price, seq) in [("112.1300", 1), ("112.1400", 2)] {
        let asked = venue.answer(&day("MSFT", &today, price));
        assert_eq!(asked, "GET /query?function=GLOBAL_QUOTE&symbol=MSFT&apikey=K3Y HTTP/1.1");
        let told = client.receive_of(&["b", "d"]);
        assert_eq!((told.kind(), told.symbol(), told.number("seq")), ("d", "MSFT", seq));
        let digits = ["o", "h", "l", "c", "v"].map(|key| told.digits(key));
        assert_eq!(digits, ["112.6300", "113.1700", "110.6400", price, "29062853"]);
        assert_eq!((&told["n"], &told["vw"]), (&0.into(), &0.into()), "nobody told them: {}", told.text);
        let start = told["t"].as_str().unwrap();
        assert!([4, 5].map(|hour| format!("{today}T0{hour}:00:00Z")).contains(&start.to_owned()), "{start}");
        // The same again is nothing new.
        venue.answer(&day("MSFT", &today, price));
        until_repeated(&gateway, seq as f64);
    }
    // A day that is over is final. That it is not the latest any more, the next one shows.
    venue.answer(&day("MSFT", "2018-10-05", "112.1300"));
    let told = client.receive_of(&["b", "d"]);
    assert_eq!((told.kind(), &told["iv"], &told["t"]), ("b", &"1d".into(), &"2018-10-05T04:00:00Z".into()));
    venue.answer(&day("MSFT", &today, "112.1500"));
    let told = client.receive_of(&["b", "d"]);
    assert_eq!((told.kind(), told.digits("c"), told.number("seq")), ("d", "112.1500", 3));
    // Who comes later is told what is known.
    let mut late = gateway.premium();
    late.subscribe(r#"{"action":"subscribe","dailyBars":["MSFT"]}"#);
    let known = late.receive_of(&["d"]);
    assert_eq!((known.digits("c"), known.number("seq")), ("112.1500", 3));
    let fresh = r#"gateway_feed_quality_ratio{source="alpha_vantage",aspect="fresh"}"#;
    assert_eq!(gateway.metric(fresh), 1.0, "a day has no time to be late by");
}

/// `MINUTE VOLUME COUNT`, with a dash for what is not told.
fn shown(bar: &Received) -> String {
    let start = protocol::parse_rfc3339(bar["t"].as_str().unwrap().as_bytes()).unwrap();
    let first = protocol::parse_rfc3339(time_of(0).as_bytes()).unwrap();
    let count = bar["n"].as_u64().filter(|n| *n > 0).map_or("-".to_owned(), |n| n.to_string());
    format!("{} {} {count}", (start - first) / 60_000_000_000, bar.digits("v"))
}

#[test]
fn trades_that_join_make_the_bars_from_the_next_one_on() {
    let (venue, directory, exchange) = (PolledVenue::bind(), Directory::new(), Venue::bind());
    // A line of Coinbase's that calls the stock by another name.
    let line = format!(r#"{{venue="coinbase",url="{}",symbols=["BTC-USD=MSFT"],silence_timeout="1h"}}"#, exchange.url);
    let sources = format!("[{},{line}]", polled(&venue, &directory, r#",interval="1m""#));
    let gateway = start(&[("feed.kind", "live"), ("feed.sources", &sources), ("feed.limits.age_max", "87600h")]);
    let mut line = exchange.accept();
    let mut client = gateway.premium();
    client.subscribe(r#"{"action":"subscribe","bars":["MSFT"],"bars.5m":["MSFT"],"indicators.1m":["MSFT"]}"#);
    let mut alone = gateway.premium();
    alone.subscribe(r#"{"action":"subscribe","bars":["MSFT@ALPHA_VANTAGE"]}"#);
    let ticks = |count: f64| gateway.await_metric("gateway_ring_records_total", |n| n >= count);

    let asked = venue.answer(&series("MSFT", &[(0, 10), (1, 11), (2, 12)]));
    assert!(asked.contains("function=TIME_SERIES_INTRADAY&symbol=MSFT&interval=1min&"), "{asked}");
    ticks(3.0);
    // Ours of this minute are not all of its trades, so it is the venue's.
    line.trade_at("BTC-USD", "86.30", 3 * MINUTE_MS + 30_000);
    ticks(4.0);
    venue.answer(&series("MSFT", &[(1, 11), (2, 12), (3, 13)]));
    ticks(5.0);
    for seconds in [250, 320] {
        line.trade_at("BTC-USD", "86.35", 1_000 * seconds);
    }
    ticks(7.0);
    // Of five minutes the venue knows all.
    venue.answer(&series("MSFT", &[(3, 13), (4, 14), (5, 15)]));
    ticks(9.0);
    line.trade_at("BTC-USD", "86.40", 380_000);

    let mut minutes = Vec::new();
    let mut fives = Vec::new();
    let mut indicators = 0;
    while minutes.len() < 6 || indicators < 6 {
        let told = client.receive_of(&["b", "indicators"]);
        match (told.kind(), told["iv"].as_str()) {
            ("indicators", _) => indicators += 1,
            (_, Some("5m")) => fives.push(told),
            _ => minutes.push(told),
        }
    }
    assert_contiguous(&minutes, 1);
    let minutes: Vec<String> = minutes.iter().map(shown).collect();
    assert_eq!(minutes, ["0 10 -", "1 11 -", "2 12 -", "3 13 -", "4 0.50000000 1", "5 0.50000000 1"]);
    assert_eq!(fives.iter().map(shown).collect::<Vec<_>>(), ["0 60 -"]);
    // The venue's bars of 4 and 5; ours of 3, and of the five minutes that it is one of.
    assert_eq!(gateway.metric(r#"gateway_bars_superseded_total{maker="venue"}"#), 2.0);
    assert_eq!(gateway.metric(r#"gateway_bars_superseded_total{maker="gateway"}"#), 2.0);

    let all = alone.receive_many(&["b"], 6);
    assert_contiguous(&all, 1);
    let all: Vec<String> = all.iter().map(shown).collect();
    assert_eq!(all, ["0 10 -", "1 11 -", "2 12 -", "3 13 -", "4 14 -", "5 15 -"]);
}

#[test]
fn a_check_shows_bars() {
    let (venue, directory) = (PolledVenue::bind(), Directory::new());
    let sources = format!("[{}]", polled(&venue, &directory, r#",interval="1m""#));
    let settings = [("feed.kind", "live"), ("feed.sources", &*sources)];
    let output = std::thread::scope(|scope| {
        let check = scope.spawn(|| program::run(&settings, &["feed", "check", "alpha_vantage", "--duration", "1s"]));
        venue.answer(&series("MSFT", &[(0, 10), (1, 11)]));
        // It goes on asking to its end.
        drop(venue);
        check.join().unwrap()
    });
    let shown = String::from_utf8(output.stdout).unwrap();
    for expected in [
        "  bar    MSFT  1m  86.20 86.40 86.10 86.30 x 10  2026-01-01T00:00:00Z\n",
        "  bar    MSFT  1m  86.20 86.40 86.10 86.30 x 11  2026-01-01T00:01:00Z\n",
        "MSFT  0 trades, 0 quotes, 2 bars, 0 trades missing\n",
    ] {
        assert!(shown.contains(expected), "{expected:?} in {shown}");
    }
}
