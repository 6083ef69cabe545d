//! The server-sent events of IEX Cloud against a venue that misbehaves: events that are cut anywhere, comments, silence,
//! garbage, a cut line, answers that are no events, and a venue that says when to come back.
#![cfg(not(loom))]

#[path = "support/http_venue.rs"]
mod http_venue;
mod support;

use std::time::{Duration, Instant};

use feed_handlers::feed::FeedCounter;
use feed_handlers::source::{FeedState, IexCloudLive, IexCloudSettings, Secret, Timings};
use feed_handlers::venue::Venue;
use http_venue::{Exchange, HttpVenue, Live, SECRET, SECRET_IN_QUERY, log, patient};
use protocol::TickBody;
use support::PATIENCE;

/// An object of the endpoint `tops`, without a sale: a quote and nothing else.
fn tops(symbol: &str, ms: u32) -> String {
    format!(
        "{{\"symbol\":\"{symbol}\",\"sector\":\"téchnologyhardwareequipment\",\"securityType\":\"commonstock\",\
         \"bidPrice\":185.5900,\"bidSize\":100,\"askPrice\":185.6400,\"askSize\":100,\"lastUpdated\":1529689042{ms:03},\
         \"lastSalePrice\":0,\"lastSaleSize\":0,\"lastSaleTime\":0,\"volume\":312038,\"marketPercent\":0.03250}}"
    )
}

fn settings(url: String, timings: Timings) -> IexCloudSettings {
    let symbols = vec!["AAPL".into(), "BRK.B".into(), "BTC/USD".into()];
    let base = IexCloudSettings::new(Secret::new(SECRET), symbols);
    IexCloudSettings { url: url + "/stable", endpoint: "tops".into(), timings, ..base }
}

fn start(settings: &IexCloudSettings) -> Live {
    let iex = IexCloudLive::new(settings).unwrap();
    Live::start(Venue::IexCloud, iex.status(), |feed, stop| iex.spawn(feed, stop))
}

async fn accept_stream(venue: &HttpVenue) -> Exchange {
    let mut line = venue.accept().await;
    line.begin("text/event-stream;charset=utf-8").await;
    line
}

#[tokio::test]
async fn asks_for_events_and_takes_in_their_data() {
    let venue = HttpVenue::open().await;
    let deep = IexCloudSettings {
        endpoint: "deep".into(),
        channels: vec!["trades".into(), "book".into()],
        ..settings(venue.url(), patient())
    };
    for (settings, target) in [
        (settings(venue.url(), patient()), "/stable/tops?token=TOKEN&symbols=aapl%2cbrk.b%2cbtcusd"),
        (deep, "/stable/deep?token=TOKEN&symbols=aapl%2cbrk.b%2cbtcusd&channels=trades%2Cbook"),
    ] {
        let live = start(&settings);
        let mut line = accept_stream(&venue).await;
        assert_eq!(line.target, target.replace("TOKEN", SECRET_IN_QUERY));
        assert_eq!(line.header("accept"), "text/event-stream");
        assert_eq!(live.status.state(), FeedState::Down);
        line.chunk(format!("data: [{}]\n\n", tops("AAPL", 1))).await;
        live.until("a quote", || live.quotes() == 1).await;
        live.until_state(FeedState::Up).await;
        line.chunk(format!("data: [{},{}]\n\n", tops("AAPL", 2), tops("BRK.B", 2))).await;
        live.until("two more", || live.quotes() == 3).await;
        assert_eq!((live.count(FeedCounter::Frames), live.count(FeedCounter::MalformedFrames)), (2, 0));
        let listener = live.end();
        let symbols: Vec<_> = listener.ticks.iter().map(|tick| listener.symbol(tick)).collect();
        assert_eq!(symbols, ["AAPL", "AAPL", "BRK.B"]);
        let TickBody::Quote(quote) = listener.ticks[0].body else { panic!("no quote") };
        assert_eq!([quote.bid, quote.bid_size, quote.ask].map(|n| n.to_string()), ["185.5900", "100", "185.6400"]);
    }
}

#[tokio::test]
async fn events_may_be_cut_anywhere() {
    let venue = HttpVenue::open().await;
    let live = start(&settings(venue.url(), patient()));
    let mut line = accept_stream(&venue).await;
    // Comments, both ends of lines, data of several lines, fields that nobody uses, and an event without data.
    let (first, second) = (tops("AAPL", 1), tops("BRK.B", 2));
    let body = format!(
        ":hello\n\ndata: [{first}]\r\n\r\n: still here\r\nid: 7\r\nevent: quote\r\n\r\ndata: [{first},\ndata:{second}\ndata: ]\n\n"
    );
    for byte in body.as_bytes() {
        line.chunk([*byte]).await;
    }
    live.until("all quotes", || live.quotes() == 3).await;
    assert_eq!((live.count(FeedCounter::Frames), live.count(FeedCounter::MalformedFrames)), (2, 0));
    assert_eq!(live.count(FeedCounter::Bytes), (first.len() * 2 + second.len() + 7) as u64);
    live.end();
}

#[tokio::test]
async fn the_venue_says_when_to_come_back() {
    let venue = HttpVenue::open().await;
    let live = start(&settings(venue.url(), patient()));
    let mut line = accept_stream(&venue).await;
    line.chunk(format!("retry: 1200\ndata: [{}]\n\n", tops("AAPL", 1))).await;
    live.until("the quote", || live.quotes() == 1).await;
    // In the middle of an event, which does not happen then.
    line.chunk(format!("data: [{}]\n", tops("AAPL", 2))).await;
    let begun = Instant::now();
    line.end().await;
    // What it said stays said, though nobody repeats it.
    let line = accept_stream(&venue).await;
    let first = begun.elapsed();
    line.reset();
    let _line = accept_stream(&venue).await;
    let second = begun.elapsed() - first;
    for wait in [first, second] {
        assert!(wait >= Duration::from_millis(1_150), "{wait:?}");
    }
    assert_eq!((live.quotes(), live.count(FeedCounter::MalformedFrames)), (1, 0));
    live.until_count(FeedCounter::Reconnects, 2).await;
    live.end();
}

#[tokio::test]
async fn a_comment_is_a_sign_of_life_and_silence_is_none() {
    let venue = HttpVenue::open().await;
    let quick = Timings { stale: Duration::from_millis(100), silence: Duration::from_secs(2), ..patient() };
    let live = start(&settings(venue.url(), quick));
    let mut line = accept_stream(&venue).await;
    live.until_state(FeedState::Stale).await;
    line.chunk(": still here\n\n").await;
    live.until("up, or given up since", || live.status.state() != FeedState::Stale).await;
    line.until_given_up().await;
    let mut line = accept_stream(&venue).await;
    line.chunk(format!("data: [{}]\n\n", tops("AAPL", 1))).await;
    live.until("the quote", || live.quotes() == 1).await;
    assert!(log().iter().any(|line| line.contains("is down: silent for")));
    live.end();
}

#[tokio::test]
async fn garbage_is_counted_and_the_line_goes_on() {
    let venue = HttpVenue::open().await;
    let live = start(&settings(venue.url(), patient()));
    let mut line = accept_stream(&venue).await;
    let malformed = ["garbage", "", "17", "[{]", &tops("AAPL", 1)[..100], &format!("[\"{SECRET}\"")];
    for garbage in malformed {
        line.chunk(format!("data: {garbage}\n\n")).await;
    }
    line.chunk(b"data: \xff\xfe\0\n\n").await;
    line.chunk("data: [{\"nothing\":null}]\n\ndata: []\n\n").await;
    line.chunk(format!("data: [{}]\n\n", tops("AAPL", 1))).await;
    live.until("the good one", || live.quotes() == 1).await;
    assert_eq!(live.count(FeedCounter::Frames), malformed.len() as u64 + 4);
    assert_eq!(live.count(FeedCounter::MalformedFrames), malformed.len() as u64 + 1);
    assert_eq!((live.count(FeedCounter::InvalidMessages), live.count(FeedCounter::Reconnects)), (1, 0));
    for _ in 0..malformed.len() + 2 {
        let letter = live.dead.take().unwrap();
        assert!(!String::from_utf8_lossy(&letter.frame).contains(SECRET));
    }
    live.end();
}

#[tokio::test]
async fn an_event_without_end_ends_the_line() {
    let venue = HttpVenue::open().await;
    let live = start(&settings(venue.url(), patient()));
    let mut line = accept_stream(&venue).await;
    line.chunk("data: [").await;
    let part = [b'x'; 64 << 10];
    // The client leaves at a megabyte, whether or not all that was sent by then.
    let _ = tokio::time::timeout(PATIENCE, async {
        for _ in 0..64 {
            let chunk = [b"10000\r\n", &part[..], b"\r\n"].concat();
            if tokio::io::AsyncWriteExt::write_all(&mut line.socket, &chunk).await.is_err() {
                break;
            }
        }
    })
    .await;
    let mut line = accept_stream(&venue).await;
    line.chunk(format!("data: [{}]\n\n", tops("AAPL", 1))).await;
    live.until("the quote", || live.quotes() == 1).await;
    assert!(log().iter().any(|line| line.contains("unreadable: an event of more than 1048576 bytes")));
    live.end();
}

#[tokio::test]
async fn an_answer_that_is_no_stream_is_no_end() {
    let venue = HttpVenue::open().await;
    let live = start(&settings(venue.url(), patient()));
    let mut line = venue.accept().await;
    line.begin("text/html").await;
    line.until_given_up().await;
    venue.accept().await.answer("204 No Content", "", "").await;
    // Addresses that are told again hold the token too.
    let asked = venue.accept().await;
    let said = format!("no idea what {} is", asked.target);
    asked.answer("501 Not Implemented", "", &said).await;
    let begun = Instant::now();
    venue.accept().await.answer("503 Service Unavailable", "retry-after: 1\r\n", "later").await;
    let line = venue.accept().await;
    assert!(begun.elapsed() >= Duration::from_millis(950), "{:?}", begun.elapsed());
    line.answer("403 Forbidden", "", &format!("The API key {SECRET} is not valid.")).await;
    live.until("told", || log().iter().any(|line| line.contains("The API key *********** is not valid."))).await;
    assert!(venue.nobody_comes_for(Duration::from_millis(800)).await);
    assert_eq!((live.status.state(), live.count(FeedCounter::Frames)), (FeedState::Down, 0));
    for reason in [
        "no stream of events but `text/html`",
        "status 204 No Content",
        "what /stable/tops?token=*",
        "status 503 Service Unavailable",
    ] {
        assert!(log().iter().any(|line| line.contains(reason)), "{reason}: {:#?}", log());
    }
    live.end();
}
