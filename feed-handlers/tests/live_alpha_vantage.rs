//! Polling Alpha Vantage against a venue that misbehaves: errors with status 200, refusals, answers about nothing, and
//! answers that never come. Whatever happens, no more is asked than the budget allows.
#![cfg(not(loom))]

#[path = "support/http_venue.rs"]
mod http_venue;
mod support;

use std::time::{Duration, Instant};

use feed_handlers::feed::FeedCounter;
use feed_handlers::source::{
    AlphaVantageLive, AlphaVantageSettings, EquityFunction, FeedState, IntradayInterval, PollBudget, PollTimings,
    Secret,
};
use feed_handlers::venue::Venue;
use http_venue::{HttpVenue, Live, SECRET, SECRET_IN_QUERY, log};
use protocol::{Interval, Tick, TickBody};
use support::PATIENCE;

const QUOTE: &str = r#"{
    "Global Quote": {
        "01. symbol": "MSFT",
        "02. open": "112.6300",
        "03. high": "113.1700",
        "04. low": "110.6400",
        "05. price": "112.1300",
        "06. volume": "29062853",
        "07. latest trading day": "2018-10-05",
        "08. previous close": "112.7900",
        "09. change": "-0.6600",
        "10. change percent": "-0.5852%"
    }
}"#;

const RATE: &str = r#"{
    "Realtime Currency Exchange Rate": {
        "1. From_Currency Code": "EUR",
        "2. From_Currency Name": "Euro",
        "3. To_Currency Code": "USD",
        "4. To_Currency Name": "United States Dollar",
        "5. Exchange Rate": "1.16240000",
        "6. Last Refreshed": "2026-09-30 19:23:21",
        "7. Time Zone": "UTC",
        "8. Bid Price": "1.16236000",
        "9. Ask Price": "1.16241000"
    }
}"#;

const SERIES: &str = r#"{
    "Meta Data": {
        "1. Information": "Intraday (1min) prices and volumes",
        "2. Symbol": "MSFT",
        "3. Last Refreshed": "2017-12-18 14:57:00",
        "4. Interval": "1min",
        "5. Output Size": "Compact",
        "6. Time Zone": "US/Eastern"
    },
    "Time Series (1min)": {
        "2017-12-18 14:57:00": {"1. open": "86.3", "2. high": "86.4", "3. low": "86.2", "4. close": "86.35", "5. volume": "1200"},
        "2017-12-18 14:56:00": {"1. open": "86.2", "2. high": "86.3", "3. low": "86.1", "4. close": "86.3", "5. volume": "900"}
    }
}"#;

/// Asks ten times a second, and comes back at once.
fn settings(venue: &HttpVenue, symbols: &[&str]) -> AlphaVantageSettings {
    let symbols = symbols.iter().map(|symbol| (*symbol).to_owned()).collect();
    let timings = PollTimings {
        request: PATIENCE,
        stale: PATIENCE,
        backoff_min: Duration::from_millis(1),
        backoff_max: Duration::from_millis(5),
        throttled: PATIENCE,
        refused: PATIENCE,
    };
    let base = AlphaVantageSettings::new(Secret::new(SECRET), symbols);
    let budget = PollBudget { per_minute: 620, per_day: None };
    AlphaVantageSettings { url: venue.url() + "/query", budget, timings, ..base }
}

fn start(settings: &AlphaVantageSettings) -> Live {
    let polls = AlphaVantageLive::new(settings).unwrap();
    Live::start(Venue::AlphaVantage, polls.status(), |feed, stop| polls.spawn(feed, stop))
}

/// Waits for so many bars, most of which are told again.
async fn until_bars(live: &Live, count: u64) {
    let bars = || live.count(FeedCounter::VenueBars) + live.count(FeedCounter::RepeatedBars);
    live.until("the bars", || bars() == count).await;
}

#[tokio::test]
async fn every_symbol_is_asked_for_in_turn_at_the_venues_pace() {
    let venue = HttpVenue::open().await;
    let live = start(&settings(&venue, &["MSFT", "EUR/USD"]));
    let begun = Instant::now();
    for turn in 0..3u64 {
        let asked = venue.accept().await;
        assert_eq!(asked.target, format!("/query?function=GLOBAL_QUOTE&symbol=MSFT&apikey={SECRET_IN_QUERY}"));
        asked.answer("200 OK", "content-type: application/json\r\n", QUOTE).await;
        until_bars(&live, turn + 1).await;
        live.until_state(FeedState::Up).await;
        let asked = venue.accept().await;
        let query =
            format!("function=CURRENCY_EXCHANGE_RATE&from_currency=EUR&to_currency=USD&apikey={SECRET_IN_QUERY}");
        assert_eq!(asked.target, format!("/query?{query}"));
        asked.answer("200 OK", "", RATE).await;
        live.until("the quote", || live.quotes() == turn + 1).await;
    }
    // Five waits of a tenth of a second lie between six requests.
    assert!(begun.elapsed() >= Duration::from_millis(450), "{:?}", begun.elapsed());
    assert_eq!((live.count(FeedCounter::Frames), live.count(FeedCounter::MalformedFrames)), (6, 0));
    let listener = live.end();
    let symbols: Vec<String> = listener.ticks.iter().map(|tick| listener.symbol(tick)).collect();
    assert_eq!(symbols, ["MSFT", "EUR/USD", "EUR/USD", "EUR/USD"], "the day is over, and told once");
    let TickBody::Bar(day) = listener.ticks[0].body else { panic!("no bar") };
    assert_eq!(
        (day.interval(), day.is_final(), day.bar(0).close.to_string()),
        (Interval::Day, true, "112.1300".into())
    );
}

#[tokio::test]
async fn bars_are_asked_for_where_they_are_wanted() {
    let venue = HttpVenue::open().await;
    let equities = EquityFunction::Intraday(IntradayInterval::Minute);
    let live = start(&AlphaVantageSettings { equities, ..settings(&venue, &["MSFT"]) });
    let mut asked = venue.accept().await;
    let query = format!("function=TIME_SERIES_INTRADAY&symbol=MSFT&interval=1min&apikey={SECRET_IN_QUERY}");
    assert_eq!(asked.target, format!("/query?{query}"));
    // In pieces, and without a word of its length.
    asked.begin("application/json").await;
    for part in SERIES.as_bytes().chunks(7) {
        asked.chunk(part).await;
    }
    asked.end().await;
    until_bars(&live, 2).await;
    live.until_state(FeedState::Up).await;
    let listener = live.end();
    let closes = |tick: &Tick| match tick.body {
        TickBody::Bar(bar) => format!("{} {}", bar.interval().name(), bar.bar(0).close),
        _ => panic!("{tick:?}"),
    };
    assert_eq!(listener.ticks.iter().map(closes).collect::<Vec<_>>(), ["1m 86.3", "1m 86.35"], "oldest first");
}

#[tokio::test]
async fn no_more_is_asked_in_a_day_than_the_key_has() {
    let venue = HttpVenue::open().await;
    let budget = PollBudget { per_minute: 6_000, per_day: Some(8) };
    let symbols = ["A", "B", "C", "D", "E", "F", "G"];
    let live = start(&AlphaVantageSettings { budget, ..settings(&venue, &symbols) });
    // Half of the budget at once, the next in some hours.
    for symbol in &symbols[..4] {
        let asked = venue.accept().await;
        assert!(asked.target.contains(&format!("symbol={symbol}&")), "{}", asked.target);
        asked.answer("200 OK", "", QUOTE).await;
    }
    assert!(venue.nobody_comes_for(Duration::from_secs(1)).await);
    until_bars(&live, 4).await;
    live.end();
}

#[tokio::test]
async fn what_goes_wrong_for_one_symbol_does_not_stop_the_others() {
    let venue = HttpVenue::open().await;
    let live = start(&settings(&venue, &["NONE", "MSFT"]));
    let wrong = [
        ("200 OK", "{}"),
        ("200 OK", r#"{"Global Quote": {}}"#),
        (
            "200 OK",
            r#"{"Error Message": "Invalid API call. Please retry or visit the documentation for GLOBAL_QUOTE."}"#,
        ),
        ("200 OK", "<html>not JSON</html>"),
        ("200 OK", r#"{"Global Quote": {"01. symbol": "NONE""#),
        ("500 Internal Server Error", "oops"),
        ("404 Not Found", ""),
    ];
    for (turn, (status, body)) in wrong.into_iter().enumerate() {
        let asked = venue.accept().await;
        assert!(asked.target.contains("symbol=NONE&"), "{}", asked.target);
        asked.answer(status, "", body).await;
        let asked = venue.accept().await;
        assert!(asked.target.contains("symbol=MSFT&"), "{}", asked.target);
        asked.answer("200 OK", "", QUOTE).await;
        until_bars(&live, turn as u64 + 1).await;
        live.until_state(FeedState::Up).await;
    }
    assert_eq!((live.count(FeedCounter::VenueErrors), live.count(FeedCounter::MalformedFrames)), (3, 2));
    assert_eq!(*live.dead.take().unwrap().frame, *b"<html>not JSON</html>");
    for reason in ["status 500 Internal Server Error, `oops`", "symbol=\"NONE\""] {
        assert!(log().iter().any(|line| line.contains(reason)), "{reason}: {:#?}", log());
    }
    live.end();
}

/// The venue's ways to say that we ask too much, of all its years.
#[tokio::test]
async fn a_throttled_key_is_not_used_before_the_next_minute() {
    let soft = [
        r#"{"Note": "Thank you for using Alpha Vantage! Our standard API call frequency is 5 calls per minute and 500 calls per day."}"#.into(),
        format!(r#"{{"Information": "We have detected your API key as {SECRET} and our standard API rate limit is 25 requests per day."}}"#),
        r#"{"Information": "Please consider spreading out your free API requests more sparingly. (25 requests per day)"}"#.into(),
    ];
    let answers = soft.map(|body| ("200 OK", "", body));
    let hard = [
        ("429 Too Many Requests", "retry-after: 3\r\n", String::new()),
        ("503 Busy", "retry-after: 3\r\n", String::new()),
    ];
    for (status, headers, body) in answers.into_iter().chain(hard) {
        let venue = HttpVenue::open().await;
        let live = start(&settings(&venue, &["MSFT", "EUR/USD"]));
        venue.accept().await.answer("200 OK", "", QUOTE).await;
        live.until_state(FeedState::Up).await;
        venue.accept().await.answer(status, headers, &body).await;
        live.until_state(FeedState::Stale).await;
        assert!(venue.nobody_comes_for(Duration::from_millis(500)).await, "{status} {body}");
        assert_eq!(live.count(FeedCounter::MalformedFrames), 0);
        live.end();
    }
    assert!(log().iter().any(|line| line.contains("the venue says that we ask too much")));
    assert!(log().iter().any(|line| line.contains("your API key as *********** and")), "{:#?}", log());
}

#[tokio::test]
async fn a_refused_key_is_not_used_again_soon() {
    let soft = r#"{"Error Message": "the parameter apikey is invalid or missing. Please claim your free API key."}"#;
    for (status, body) in [("200 OK", soft), ("401 Unauthorized", "who?"), ("403 Forbidden", "")] {
        let venue = HttpVenue::open().await;
        let live = start(&settings(&venue, &["MSFT"]));
        venue.accept().await.answer("200 OK", "", QUOTE).await;
        live.until_state(FeedState::Up).await;
        venue.accept().await.answer(status, "", body).await;
        live.until_state(FeedState::Down).await;
        assert!(venue.nobody_comes_for(Duration::from_millis(500)).await, "{status} {body}");
        live.end();
    }
    assert!(log().iter().any(|line| line.contains("the venue refuses the key")));
}

#[tokio::test]
async fn an_answer_that_does_not_come_is_given_up() {
    let venue = HttpVenue::open().await;
    let base = settings(&venue, &["MSFT"]);
    let timings = PollTimings { request: Duration::from_secs(1), ..base.timings };
    let live = start(&AlphaVantageSettings { timings, ..base });
    // Not at all, not to its end, cut in the middle, longer than any is.
    let _hanging = venue.accept().await;
    let mut line = venue.accept().await;
    line.begin("application/json").await;
    line.chunk(&QUOTE[..100]).await;
    line.until_given_up().await;
    let mut line = venue.accept().await;
    line.raw(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{}", QUOTE.len(), &QUOTE[..100])).await;
    drop(line);
    drop(venue.accept_raw().await);
    venue.accept().await.raw("HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n").await;
    venue.accept().await.answer("200 OK", "", QUOTE).await;
    until_bars(&live, 1).await;
    live.until_state(FeedState::Up).await;
    // Half an answer is none, whatever could be read of it.
    assert_eq!((live.count(FeedCounter::Frames), live.count(FeedCounter::MalformedFrames)), (1, 0));
    for reason in ["no answer of 127.0.0.1 within 1s", "does not speak HTTP, or broke off"] {
        assert!(log().iter().any(|line| line.contains(reason)), "{reason}: {:#?}", log());
    }
    live.end();
}

#[tokio::test]
async fn a_venue_without_good_answers_is_stale() {
    let venue = HttpVenue::open().await;
    let base = settings(&venue, &["MSFT"]);
    // The next request is an hour away.
    let budget = PollBudget { per_minute: 5, per_day: Some(24) };
    let timings = PollTimings { stale: Duration::from_millis(1), ..base.timings };
    let live = start(&AlphaVantageSettings { budget, timings, ..base });
    venue.accept().await.answer("200 OK", "", QUOTE).await;
    live.until_state(FeedState::Up).await;
    // It is not stale for want of requests that the budget does not have.
    assert!(venue.nobody_comes_for(Duration::from_millis(300)).await);
    assert_eq!(live.status.state(), FeedState::Up);
    live.end();
    // Ten a second, of which all but the first say nothing.
    let base = settings(&venue, &["MSFT"]);
    let timings = PollTimings { stale: Duration::from_secs(1), ..base.timings };
    let live = start(&AlphaVantageSettings { timings, ..base });
    venue.accept().await.answer("200 OK", "", QUOTE).await;
    live.until_state(FeedState::Up).await;
    while live.status.state() == FeedState::Up {
        venue.accept().await.answer("200 OK", "", "{}").await;
    }
    live.until_state(FeedState::Stale).await;
    venue.accept().await.answer("200 OK", "", QUOTE).await;
    live.until_state(FeedState::Up).await;
    live.end();
}

#[tokio::test]
async fn it_stops_wherever_it_is() {
    let venue = HttpVenue::open().await;
    // While it waits for an answer.
    let live = start(&settings(&venue, &["MSFT"]));
    let _hanging = venue.accept().await;
    live.end();
    // While it waits for its turn.
    let budget = PollBudget { per_minute: 1, per_day: Some(1) };
    let live = start(&AlphaVantageSettings { budget, ..settings(&venue, &["MSFT"]) });
    venue.accept().await.answer("200 OK", "", QUOTE).await;
    live.until_state(FeedState::Up).await;
    live.end();
}
