//! The pricing stream of OANDA against a venue that misbehaves: chunks that end anywhere, a line that is cut, goes silent
//! or brings garbage, and answers that are no stream.
#![cfg(not(loom))]

#[path = "support/http_venue.rs"]
mod http_venue;
mod support;

use std::time::{Duration, Instant};

use feed_handlers::feed::FeedCounter;
use feed_handlers::source::{FeedState, OandaLive, OandaSettings, Secret, Timings};
use feed_handlers::venue::Venue;
use http_venue::{Exchange, HttpVenue, Live, SECRET, log, patient};
use protocol::TickBody;

const HEARTBEAT: &str = "{\"type\":\"HEARTBEAT\",\"time\":\"2026-10-27T08:38:44.327443673Z\"}\n";

/// What the venue sent, with a name that takes two bytes a letter here and there.
fn price(instrument: &str, ms: u32) -> String {
    format!(
        "{{\"type\":\"PRICE\",\"time\":\"2026-10-27T08:38:45.{ms:03}097022Z\",\"bids\":[{{\"price\":\"1.19195\",\"liquidity\":10000000}}],\
         \"asks\":[{{\"price\":\"1.19218\",\"liquidity\":10000000}}],\"closeoutBid\":\"1.19180\",\"closeoutAsk\":\"1.19233\",\
         \"status\":\"tradeable\",\"tradeable\":true,\"instrument\":\"{instrument}\",\"note\":\"Zürich é\"}}\n"
    )
}

fn settings(url: String, timings: Timings) -> OandaSettings {
    let symbols = vec!["EUR/USD".into(), "DE30_EUR=DE30/EUR".into()];
    let base = OandaSettings::new("101-004-1234567-001", Secret::new(SECRET), symbols);
    OandaSettings { url, timings, ..base }
}

fn start(settings: &OandaSettings) -> Live {
    let oanda = OandaLive::new(settings).unwrap();
    Live::start(Venue::Oanda, oanda.status(), |feed, stop| oanda.spawn(feed, stop))
}

async fn accept_stream(venue: &HttpVenue) -> Exchange {
    let mut line = venue.accept().await;
    line.begin("application/octet-stream").await;
    line
}

#[tokio::test]
async fn asks_for_the_stream_and_takes_in_what_comes() {
    let venue = HttpVenue::open().await;
    let live = start(&settings(venue.url() + "/", patient()));
    assert_eq!(live.status.state(), FeedState::Down);
    let mut line = accept_stream(&venue).await;
    let path = "/v3/accounts/101-004-1234567-001/pricing/stream?instruments=EUR_USD%2CDE30_EUR";
    assert_eq!(line.target, path);
    assert_eq!(line.header("authorization"), format!("Bearer {SECRET}"));
    assert_eq!(line.header("host"), venue.url().trim_start_matches("http://"));
    line.chunk(HEARTBEAT).await;
    live.until_count(FeedCounter::LineHeartbeats, 1).await;
    live.until_state(FeedState::Up).await;
    line.chunk(price("EUR_USD", 1) + &price("DE30_EUR", 2)).await;
    live.until("two prices", || live.quotes() == 2).await;
    assert_eq!(live.count(FeedCounter::MalformedFrames), 0);
    assert_eq!(live.status.trouble(), None);
    let listener = live.end();
    let symbols: Vec<_> = listener.ticks.iter().map(|tick| listener.symbol(tick)).collect();
    assert_eq!(symbols, ["EUR/USD", "DE30/EUR"]);
    let TickBody::Quote(quote) = listener.ticks[0].body else { panic!("no quote") };
    assert_eq!([quote.bid, quote.bid_size, quote.ask].map(|n| n.to_string()), ["1.19195", "10000000", "1.19218"]);
}

#[tokio::test]
async fn chunks_may_end_anywhere() {
    let venue = HttpVenue::open().await;
    let live = start(&settings(venue.url(), patient()));
    let mut line = accept_stream(&venue).await;
    let (mut frames, mut bytes) = (0, 0);
    // A chunk a byte: in letters of two bytes, in numbers, in between `\r` and `\n`. Blank lines are no frames.
    let body = format!("\r\n{}\n\r\n{}\r\n{HEARTBEAT} \n", price("EUR_USD", 1), price("EUR_USD", 2).trim_end());
    for text in body.lines().filter(|text| !text.trim().is_empty()) {
        frames += 1;
        bytes += text.len() as u64;
    }
    for byte in body.as_bytes() {
        line.chunk([*byte]).await;
    }
    // The last line; all others were taken in before.
    live.until_count(FeedCounter::LineHeartbeats, 1).await;
    // And the `\r` of one line.
    assert_eq!([FeedCounter::Frames, FeedCounter::Bytes].map(|c| live.count(c)), [frames, bytes + 1]);
    // The chunks' own lengths may be cut too.
    let line_of_chunk = price("EUR_USD", 3);
    for byte in format!("{:x}\r\n{line_of_chunk}\r\n", line_of_chunk.len()).as_bytes() {
        line.raw([*byte]).await;
    }
    live.until("the third price", || live.quotes() == 3).await;
    assert_eq!(live.count(FeedCounter::Frames), frames + 1);
    assert_eq!(live.count(FeedCounter::MalformedFrames), 0);
    live.end();
}

#[tokio::test]
async fn comes_back_after_every_kind_of_cut() {
    let venue = HttpVenue::open().await;
    let live = start(&settings(venue.url(), patient()));
    let begun = Instant::now();
    for cut in 0..4 {
        let mut line = accept_stream(&venue).await;
        line.chunk(price("EUR_USD", cut)).await;
        live.until("the price", || live.quotes() == u64::from(cut) + 1).await;
        // A part of the next line, which nobody can believe.
        let part = &price("EUR_USD", 99)[..200];
        match cut {
            0 => drop(line),
            1 => {
                line.chunk(part).await;
                drop(line);
            }
            2 => {
                line.raw(format!("ff\r\n{part}")).await;
                line.reset();
            }
            _ => {
                // Whole as HTTP has it, and the last line but for its end.
                line.chunk(price("EUR_USD", 50).trim_end()).await;
                line.end().await;
            }
        }
        live.until_state(FeedState::Down).await;
    }
    let mut line = accept_stream(&venue).await;
    line.chunk(HEARTBEAT).await;
    live.until_state(FeedState::Up).await;
    assert_eq!((live.quotes(), live.count(FeedCounter::Reconnects)), (5, 4));
    assert_eq!(live.count(FeedCounter::MalformedFrames), 0);
    // No more than two connections a second, however short the backoff.
    assert!(begun.elapsed() >= Duration::from_millis(1_900), "{:?}", begun.elapsed());
    live.end();
}

#[tokio::test]
async fn a_silent_line_is_stale_and_then_given_up() {
    let venue = HttpVenue::open().await;
    let quick = Timings { stale: Duration::from_millis(100), silence: Duration::from_secs(2), ..patient() };
    let live = start(&settings(venue.url(), quick));
    let mut line = accept_stream(&venue).await;
    line.chunk(HEARTBEAT).await;
    live.until_count(FeedCounter::LineHeartbeats, 1).await;
    live.until_state(FeedState::Stale).await;
    // It lives on with the next line.
    line.chunk(price("EUR_USD", 1)).await;
    live.until("up, or given up since", || live.status.state() != FeedState::Stale).await;
    // Chunks without a line that can be believed are no sign of life.
    line.until_given_up_in_spite_of("\ngarbage\n").await;
    let mut line = accept_stream(&venue).await;
    line.chunk(HEARTBEAT).await;
    live.until_count(FeedCounter::LineHeartbeats, 2).await;
    assert_eq!(live.count(FeedCounter::Reconnects), 1);
    assert!(log().iter().any(|line| line.contains("the venue is silent")));
    assert!(log().iter().any(|line| line.contains("is down: silent for")));
    live.end();
}

#[tokio::test]
async fn garbage_is_counted_and_the_line_goes_on() {
    let venue = HttpVenue::open().await;
    let live = start(&settings(venue.url(), patient()));
    let mut line = accept_stream(&venue).await;
    line.chunk(HEARTBEAT).await;
    let good = price("EUR_USD", 1);
    let malformed = [
        "garbage".into(),
        "[]".into(),
        good[..good.len() - 2].into(),
        good.replace("1.19195", "0.-10000"),
        good.replace("2026-10-27", "0001-01-01"),
        "x".repeat(300_000),
        format!("{{\"a\":{}", "[".repeat(10_000)),
        format!("we know you: {SECRET}"),
    ];
    for garbage in &malformed {
        line.chunk(garbage.trim_end().to_owned() + "\n").await;
    }
    line.chunk(b"\0\xff\xfe\n").await;
    line.chunk("{\"type\":\"SURPRISE\"}\n").await;
    line.chunk(good.as_str()).await;
    live.until_count(FeedCounter::Frames, malformed.len() as u64 + 4).await;
    live.until("the good one", || live.quotes() == 1).await;
    assert_eq!(live.count(FeedCounter::MalformedFrames), malformed.len() as u64 + 1);
    assert_eq!((live.count(FeedCounter::UnknownTypes), live.count(FeedCounter::Reconnects)), (1, 0));
    // What was refused is kept as it came, but for the secret.
    let letters: Vec<_> = (0..=malformed.len()).map(|_| live.dead.take().unwrap().frame).collect();
    assert_eq!(*letters[0], *b"garbage");
    assert_eq!(letters[5].len(), 64 << 10);
    assert_eq!(*letters[7], *b"we know you: ***********");
    live.end();
}

#[tokio::test]
async fn a_refusal_is_told_and_not_tried_again_soon() {
    for status in ["401 Unauthorized", "403 Forbidden", "404 Not Found"] {
        let venue = HttpVenue::open().await;
        let live = start(&settings(venue.url(), patient()));
        let line = venue.accept().await;
        let body = format!("{{\"errorMessage\":\"Insufficient authorization to perform request for {SECRET}.\"}}");
        line.answer(status, "content-type: application/json\r\n", &body).await;
        live.until_count(FeedCounter::VenueErrors, 1).await;
        assert!(venue.nobody_comes_for(Duration::from_millis(800)).await);
        assert_eq!(live.status.state(), FeedState::Down);
        let told = format!("refuses who we are, or what we ask: status {status}");
        assert!(log().iter().any(|line| line.contains(&told)), "{:#?}", log());
        assert!(live.status.trouble().is_some_and(|trouble| trouble.contains(&told) && !trouble.contains(SECRET)));
        live.end();
    }
    // In the end it is.
    let venue = HttpVenue::open().await;
    let live = start(&settings(venue.url(), Timings { refused: Duration::from_millis(1_800), ..patient() }));
    let begun = Instant::now();
    venue.accept().await.answer("401 Unauthorized", "", "no JSON").await;
    let mut line = accept_stream(&venue).await;
    assert!(begun.elapsed() >= Duration::from_millis(850), "{:?}", begun.elapsed());
    line.chunk(HEARTBEAT).await;
    live.until_state(FeedState::Up).await;
    assert_eq!((live.count(FeedCounter::Frames), live.count(FeedCounter::Reconnects)), (1, 0));
    live.end();
}

#[tokio::test]
async fn a_venue_that_is_asked_too_much_is_left_alone_for_as_long_as_it_says() {
    let venue = HttpVenue::open().await;
    let live = start(&settings(venue.url(), patient()));
    let line = venue.accept().await;
    let begun = Instant::now();
    line.answer("429 Too Many Requests", "retry-after: 1\r\n", "{\"errorMessage\":\"slow down\"}").await;
    let _line = venue.accept().await;
    assert!(begun.elapsed() >= Duration::from_millis(950), "{:?}", begun.elapsed());
    assert_eq!(live.count(FeedCounter::VenueErrors), 1);
    live.end();
}

#[tokio::test]
async fn an_answer_that_is_no_stream_is_no_end() {
    let venue = HttpVenue::open().await;
    let live = start(&settings(venue.url(), Timings { connect: Duration::from_secs(2), ..patient() }));
    // Another address would be told the token.
    let elsewhere = HttpVenue::open().await;
    let location = format!("location: {}/\r\n", elsewhere.url());
    venue.accept().await.answer("302 Found", &location, "").await;
    venue.accept().await.answer("503 Service Unavailable", "", "<html>later</html>").await;
    venue.accept().await.raw("SSH-2.0-OpenSSH_9.6\r\n").await;
    drop(venue.accept_raw().await);
    // 200, and an error in it.
    let body = "{\"errorMessage\":\"The provided request was forbidden, for some reason.\"}";
    venue.accept().await.answer("200 OK", "", body).await;
    live.until_count(FeedCounter::VenueErrors, 1).await;
    // Never answered.
    let _hanging = venue.accept().await;
    let mut line = accept_stream(&venue).await;
    line.chunk(HEARTBEAT).await;
    live.until_state(FeedState::Up).await;
    assert!(elsewhere.nobody_comes_for(Duration::from_millis(1)).await);
    for reason in
        ["status 302 Found", "`<html>later</html>`", "does not speak HTTP", "no answer of 127.0.0.1 within 2s"]
    {
        assert!(log().iter().any(|line| line.contains(reason)), "{reason}: {:#?}", log());
    }
    live.end();
}

#[tokio::test]
async fn it_stops_wherever_it_is() {
    let venue = HttpVenue::open().await;
    // While it waits for an answer.
    let live = start(&settings(venue.url(), patient()));
    let _hanging = venue.accept().await;
    live.end();
    // While it reads.
    let live = start(&settings(venue.url(), patient()));
    let mut line = accept_stream(&venue).await;
    line.chunk(HEARTBEAT).await;
    live.until_state(FeedState::Up).await;
    live.end();
    // While it waits to come back.
    let hour = Duration::from_secs(3_600);
    let live = start(&settings(venue.url(), Timings { backoff_min: hour, backoff_max: hour, ..patient() }));
    let mut line = accept_stream(&venue).await;
    line.chunk(HEARTBEAT).await;
    live.until_state(FeedState::Up).await;
    drop(line);
    live.until_state(FeedState::Down).await;
    live.end();
}
