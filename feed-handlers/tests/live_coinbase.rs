//! The live source against a venue that misbehaves: the line is cut in every way, goes silent, brings garbage, or
//! starts again from the beginning. Whatever happens, no trade arrives twice, nothing runs backward, and what
//! was missed is announced with its number.
#![cfg(not(loom))]

mod support;
#[path = "support/venue.rs"]
mod venue;

use std::collections::HashMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use feed_handlers::feed::FeedCounter;
use feed_handlers::source::{FeedState, FeedStatus, Live as Source, LiveSettings, Stop, Timings};
use futures_util::SinkExt;
use protocol::TickBody;
use support::{Listener, PATIENCE, captured_frames, captures, feed_and_listener, match_frame, ticker_frame};
use tokio::io::AsyncWriteExt;
use tokio_tungstenite::tungstenite::Message;
use venue::{Cut, History, Venue};

/// Supervision that never interferes on its own, and comes back at once.
const PATIENT: Timings = Timings {
    connect: PATIENCE,
    answer: PATIENCE,
    stale: PATIENCE,
    silence: PATIENCE,
    backoff_min: Duration::from_millis(1),
    backoff_max: Duration::from_millis(20),
    throttled: PATIENCE,
    refused: PATIENCE,
};

/// The source under test and who listens to it.
struct Live {
    listener: Listener,
    status: Arc<FeedStatus>,
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
}

impl Live {
    fn start(venue: &Venue, timings: Timings) -> Live {
        let (feed, listener) = feed_and_listener(1 << 16);
        let settings = LiveSettings {
            url: Some(venue.url()),
            symbols: venue.history.products.iter().map(|product| product.replacen('-', "/", 1)).collect(),
            timings,
            ..LiveSettings::of(feed_handlers::venue::Venue::Coinbase)
        };
        let live = Source::new(&settings).unwrap();
        let (status, stop) = (live.status(), Stop::new());
        let thread = live.spawn(feed, Arc::clone(&stop)).unwrap();
        Live { listener, status, stop, thread: Some(thread) }
    }

    /// Waits for a state without holding the venue up.
    async fn until(&self, state: FeedState) {
        let deadline = Instant::now() + PATIENCE;
        while self.status.state() != state {
            assert!(Instant::now() < deadline, "not {state:?} but {:?}", self.status.state());
            tokio::task::yield_now().await;
        }
    }

    fn count(&self, counter: FeedCounter) -> u64 {
        self.listener.count(counter)
    }

    /// Ends the source and reads the rest.
    fn end(mut self) -> Listener {
        self.stop.stop();
        self.thread.take().unwrap().join().unwrap();
        assert_eq!(self.status.state(), FeedState::Down);
        self.listener.read();
        self.listener
    }
}

/// A history of three products, 400 trades with a ticker each.
fn made() -> History {
    let mut made = Vec::new();
    for product in ["BTC-USD", "ETH-USD", "SOL-BTC"] {
        made.push(match_frame(product, 999, 0).replace("\"match\"", "\"last_match\""));
    }
    for n in 0..400u64 {
        let product = ["BTC-USD", "ETH-USD", "SOL-BTC"][(n % 7 % 3) as usize];
        let id =
            1_000 + made.iter().filter(|f: &&String| f.contains(product) && f.contains("\"match\"")).count() as u64;
        made.push(match_frame(product, id, 10 * n));
        made.push(ticker_frame(product, id, 10 * n + 1));
    }
    History::new(&made)
}

/// Histories to test with: one made here, and the captures where there are any.
fn histories() -> Vec<History> {
    let mut histories = vec![made()];
    // Short ones are no use here: a line that is cut twenty times wants more frames than that.
    histories
        .extend(captures().iter().map(|path| History::new(&captured_frames(path))).filter(|h| h.frames.len() > 400));
    histories
}

/// That the trades of the history arrived once each, in order, with their digits, and that every one that did
/// not was announced in a gap in its place. Returns how many were missed.
#[track_caller]
fn assert_continuous(history: &History, listener: &Listener) -> u64 {
    listener.assert_forward();
    assert_eq!(listener.lost, 0);
    let mut expected: HashMap<String, Vec<_>> = HashMap::new();
    for trade in history.trades() {
        expected.entry(trade.symbol.clone()).or_default().push(trade);
    }
    let mut missed_in_all = 0;
    for (symbol, expected) in expected {
        let mut expected = expected.into_iter();
        let mut arrived = listener.trades().into_iter().filter(|trade| trade.symbol == symbol);
        for tick in listener.ticks.iter().filter(|tick| listener.symbol(tick) == symbol) {
            match tick.body {
                TickBody::Gap { missed } => {
                    missed_in_all += missed;
                    for _ in 0..missed {
                        expected.next().expect("a gap is no larger than what is missing");
                    }
                }
                TickBody::Trade(_) => assert_eq!(arrived.next(), expected.next()),
                _ => {}
            }
        }
        let unannounced: Vec<_> = expected.collect();
        assert!(unannounced.is_empty(), "{symbol}: neither arrived nor missed: {unannounced:?}");
    }
    missed_in_all
}

#[tokio::test]
async fn twenty_cuts_lose_nothing_unannounced() {
    const CUTS: usize = 20;
    for history in histories() {
        let mut venue = Venue::open(history).await;
        let mut live = Live::start(&venue, PATIENT);
        let part = venue.history.frames.len() / (2 * CUTS + 1);
        let (mut missed, mut duplicates) = (0, 0);
        for n in 0..CUTS {
            let mut line = venue.accept().await;
            venue.play(&mut line, part).await;
            line.handled().await;
            live.listener.read();
            let cut = [Cut::Close, Cut::End, Cut::MidFrame, Cut::Reset][n % 4];
            venue.cut(line, cut).await;
            // After some cuts nothing is missed, after others the venue begins a little earlier than it ended.
            match n % 5 {
                0 => {}
                1 => {
                    venue.history.at -= part / 2;
                    duplicates += venue.history.trades_ahead(part / 2);
                }
                _ => {
                    missed += venue.history.trades_ahead(part);
                    venue.pass(part);
                }
            }
        }
        let mut line = venue.accept().await;
        venue.play_rest(&mut line).await;
        line.handled().await;
        assert_eq!(live.count(FeedCounter::Reconnects), CUTS as u64);
        assert_eq!(live.count(FeedCounter::Duplicates), duplicates);
        assert_eq!(live.count(FeedCounter::TradesMissed), missed);
        assert!(missed > 0);
        assert_eq!(live.status.state(), FeedState::Up);
        let listener = live.end();
        assert_eq!(assert_continuous(&venue.history, &listener), missed);
    }
}

#[tokio::test]
async fn cuts_without_warning_lose_nothing_unannounced() {
    for history in histories() {
        let mut venue = Venue::open(history).await;
        let live = Live::start(&venue, PATIENT);
        // What comes before the first trade that a client knows of is not missed, so it is told of one.
        let mut line = venue.accept().await;
        line.handled().await;
        venue.cut(line, Cut::End).await;
        // From here on it may be anywhere when it is cut off: what it did not get is missed.
        for n in 0..20 {
            let mut line = venue.accept().await;
            venue.play(&mut line, 5 + 3 * n).await;
            venue.cut(line, [Cut::Reset, Cut::End, Cut::MidFrame][n % 3]).await;
        }
        let mut line = venue.accept().await;
        venue.play_rest(&mut line).await;
        line.handled().await;
        let listener = live.end();
        assert_continuous(&venue.history, &listener);
    }
}

#[tokio::test]
async fn a_venue_that_starts_again_from_the_beginning_is_not_heard_twice() {
    for history in histories() {
        let mut venue = Venue::open(history).await;
        let live = Live::start(&venue, PATIENT);
        let trades = venue.history.trades().len() as u64;
        let third = venue.history.frames.len() / 3;
        let mut sent = 0;
        for end in [third, 2 * third] {
            let mut line = venue.accept().await;
            sent += venue.history.trades_ahead(end);
            venue.play(&mut line, end).await;
            line.handled().await;
            venue.cut(line, Cut::End).await;
            venue.history.at = 0;
        }
        let mut line = venue.accept().await;
        venue.play_rest(&mut line).await;
        line.handled().await;
        assert_eq!(live.count(FeedCounter::Trades), trades);
        assert_eq!(live.count(FeedCounter::TradesMissed), 0);
        assert!(sent > 0);
        assert_eq!(live.count(FeedCounter::Duplicates), sent);
        let listener = live.end();
        assert_eq!(assert_continuous(&venue.history, &listener), 0);
    }
}

#[tokio::test]
async fn every_connection_subscribes_to_everything_in_batches() {
    let frames: Vec<String> = (0..250).map(|n| match_frame(&format!("P{n}-USD"), 1, n)).collect();
    let venue = Venue::open(History::new(&frames)).await;
    let live = Live::start(&venue, PATIENT);
    for _ in 0..3 {
        let mut line = venue.accept().await;
        let sizes: Vec<usize> = line.subscribes.iter().map(|(products, _)| products.len()).collect();
        assert_eq!(sizes, [100, 100, 50]);
        for (_, channels) in &line.subscribes {
            assert_eq!(channels, &["heartbeat", "ticker", "matches"]);
        }
        line.handled().await;
        venue.cut(line, Cut::End).await;
    }
    assert_eq!(live.count(FeedCounter::Subscriptions), 9);
    live.end();
}

#[tokio::test]
async fn a_silent_line_is_given_up() {
    let mut venue = Venue::open(made()).await;
    let quick = Timings { stale: Duration::from_millis(500), silence: Duration::from_secs(1), ..PATIENT };
    let live = Live::start(&venue, quick);
    let mut line = venue.accept().await;
    venue.play(&mut line, 10).await;
    // Pings go on; a feed that sends nothing else is dead all the same.
    line.until_given_up().await;
    venue.pass(10);
    let mut line = venue.accept().await;
    venue.play_rest(&mut line).await;
    line.handled().await;
    assert!(live.count(FeedCounter::Reconnects) >= 1);
    let listener = live.end();
    assert!(assert_continuous(&venue.history, &listener) > 0);
}

#[tokio::test]
async fn a_silence_shows_before_the_line_is_given_up() {
    let mut venue = Venue::open(made()).await;
    let live = Live::start(&venue, Timings { stale: Duration::from_millis(20), ..PATIENT });
    assert_eq!(live.status.state(), FeedState::Down);
    let mut line = venue.accept().await;
    venue.play(&mut line, 10).await;
    live.until(FeedState::Stale).await;
    assert!(!live.status.state().is_up());
    venue.play(&mut line, 10).await;
    line.handled().await;
    // The same line goes on: nothing was given up, and nothing was lost.
    assert_eq!((live.count(FeedCounter::Trades), live.count(FeedCounter::Reconnects)), (10, 0));
    live.end();
}

#[tokio::test]
async fn garbage_is_counted_and_the_line_goes_on() {
    let mut venue = Venue::open(made()).await;
    let live = Live::start(&venue, PATIENT);
    let mut line = venue.accept().await;
    venue.play(&mut line, 10).await;
    let good = match_frame("BTC-USD", 9_999, 50_000);
    let malformed = [
        String::new(),
        "garbage".into(),
        "[]".into(),
        "null".into(),
        good[..good.len() - 1].into(),
        good.replace("83425.000", "8e999999999"),
        good.replace("9999,", "-1,"),
        good.replace("2026-09-30", "0001-01-01"),
        format!("{{\"a\":{}", "[".repeat(100_000)),
        "x".repeat(1 << 20),
    ];
    for frame in &malformed {
        line.send(frame).await;
    }
    line.socket.send(Message::binary(vec![0u8, 159, 146, 150])).await.unwrap();
    line.send(r#"{"type":"surprise","product_id":"BTC-USD"}"#).await;
    line.send(r#"{"type":"error","message":"Failed to subscribe","reason":"unknown product"}"#).await;
    venue.play_rest(&mut line).await;
    line.handled().await;
    assert_eq!(live.count(FeedCounter::MalformedFrames), malformed.len() as u64 + 1);
    assert_eq!((live.count(FeedCounter::UnknownTypes), live.count(FeedCounter::VenueErrors)), (1, 1));
    assert_eq!(live.count(FeedCounter::Reconnects), 0);
    let listener = live.end();
    assert_eq!(assert_continuous(&venue.history, &listener), 0);
}

#[tokio::test]
async fn a_broken_line_is_made_anew() {
    let mut venue = Venue::open(made()).await;
    let live = Live::start(&venue, PATIENT);
    let broken: [&[u8]; 4] = [
        // Text that is no UTF-8, an unknown opcode, a frame of 2^62 bytes, a masked frame from a server.
        &[0x81, 2, 0xc3, 0x28],
        &[0x83, 0],
        &[0x82, 127, 0x40, 0, 0, 0, 0, 0, 0, 0],
        &[0x81, 0x81, 1, 2, 3, 4, 5],
    ];
    for bytes in broken {
        let mut line = venue.accept().await;
        venue.play(&mut line, 20).await;
        line.handled().await;
        line.raw(bytes).await;
        // It is the client that ends this line.
        line.until_given_up().await;
    }
    let mut line = venue.accept().await;
    venue.play_rest(&mut line).await;
    line.handled().await;
    assert_eq!(live.count(FeedCounter::Reconnects), broken.len() as u64);
    // The last tickers, which the venue sent again, were taken for what they are.
    assert_eq!(live.count(FeedCounter::StaleQuotes), 0);
    let listener = live.end();
    assert_eq!(assert_continuous(&venue.history, &listener), 0);
}

#[tokio::test]
async fn it_comes_back_until_the_venue_takes_it() {
    let mut venue = Venue::open(made()).await;
    let live = Live::start(&venue, Timings { connect: Duration::from_secs(2), ..PATIENT });
    for _ in 0..3 {
        // Closed before the handshake, then refused in it.
        drop(venue.accept_raw().await);
        let mut stream = venue.accept_raw().await;
        stream.write_all(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        assert_eq!(live.status.state(), FeedState::Down);
    }
    // Never answered.
    let _hanging = venue.accept_raw().await;
    let mut line = venue.accept().await;
    venue.play_rest(&mut line).await;
    line.handled().await;
    // The first connection that stood is no reconnect.
    assert_eq!(live.count(FeedCounter::Reconnects), 0);
    assert_eq!(live.status.state(), FeedState::Up);
    let listener = live.end();
    assert_eq!(assert_continuous(&venue.history, &listener), 0);
}

#[tokio::test]
async fn it_stops_wherever_it_is() {
    let venue = Venue::open(made()).await;
    // While it connects: the handshake is never answered.
    let live = Live::start(&venue, PATIENT);
    let _hanging = venue.accept_raw().await;
    live.end();
    // While it is connected.
    let live = Live::start(&venue, PATIENT);
    let mut line = venue.accept().await;
    line.handled().await;
    live.end();
    // While it waits to come back, up to an hour.
    let hour = Duration::from_secs(3_600);
    let live = Live::start(&venue, Timings { backoff_min: hour, backoff_max: hour, ..PATIENT });
    let line = venue.accept().await;
    live.until(FeedState::Up).await;
    venue.cut(line, Cut::End).await;
    live.until(FeedState::Down).await;
    live.end();
}
