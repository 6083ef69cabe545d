//! A capture that is played arrives: every match once, in order, with the venue's digits, at whatever pace the
//! readers have; it waits for its gate, goes round in laps, and ends when told.
#![cfg(not(loom))]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use feed_handlers::feed::FeedCounter;
use feed_handlers::source::{FeedState, Replay, Speed, StartGate, Stop};
use protocol::TickBody;
use support::{Listener, Scratch, TradeText, captured_frames, captures, feed_and_listener, match_frame, ticker_frame};

/// Three products, `matches` trades each, a ticker after each trade.
fn small_capture(matches: u64) -> String {
    let mut text = String::from("{\"type\":\"subscriptions\",\"channels\":[]}\n");
    for n in 0..matches {
        for (i, product) in ["BTC-USD", "ETH-USD", "SOL-BTC"].into_iter().enumerate() {
            let (id, at) = (100 * (i as u64 + 1) + n, 10 * n + i as u64);
            text += &match_frame(product, id, at);
            text.push('\n');
            text += &ticker_frame(product, id, at + 1);
            text.push('\n');
        }
    }
    text
}

/// The lists of trade ids, per symbol in order of first sight.
fn ids(listener: &Listener) -> Vec<(String, Vec<u64>)> {
    let mut ids: Vec<(String, Vec<u64>)> = Vec::new();
    for trade in listener.trades() {
        match ids.iter_mut().find(|(symbol, _)| *symbol == trade.symbol) {
            Some((_, ids)) => ids.push(trade.id),
            None => ids.push((trade.symbol, vec![trade.id])),
        }
    }
    ids
}

#[test]
fn every_match_of_a_capture_arrives_once_however_slow_the_reader() {
    for path in captures() {
        let frames = captured_frames(&path);
        let expected: Vec<TradeText> = frames.iter().filter_map(|frame| TradeText::of_frame(frame)).collect();
        assert!(!expected.is_empty());
        let (feed, mut listener) = feed_and_listener(4);
        let (stop, replay) = (Stop::new(), Replay::open(&path).unwrap().speed(Speed::Max));
        assert_eq!(replay.capture().frames(), frames.len() as u64);
        let symbols: Vec<String> = replay.symbols().collect();
        let status = replay.status();
        let thread = replay.spawn(feed, Arc::clone(&stop)).unwrap();
        // The reader reads nothing until the ring is full, and the replay must wait for it.
        listener.read_until("the first ticks", |listener| !listener.ticks.is_empty());
        let deadline = Instant::now() + support::PATIENCE;
        while status.state() == FeedState::Up && listener.lag() < 3 {
            assert!(Instant::now() < deadline, "the ring does not fill");
            std::thread::yield_now();
        }
        listener.read_until("the end", |_| status.state() == FeedState::Ended);
        listener.read();
        assert_eq!(listener.trades(), expected, "{}", path.display());
        assert_eq!(listener.lost, 0);
        listener.assert_forward();
        assert_eq!(listener.count(FeedCounter::Frames), frames.len() as u64);
        for counter in [FeedCounter::Gaps, FeedCounter::Duplicates, FeedCounter::MalformedFrames] {
            assert_eq!(listener.count(counter), 0, "{}", counter.name());
        }
        for tick in &listener.ticks {
            assert!(symbols.contains(&listener.symbol(tick)));
        }
        stop.stop();
        thread.join().unwrap();
    }
}

#[test]
fn laps_go_on_rising() {
    const MATCHES: u64 = 5;
    const LAPS: u64 = 7;
    let file = Scratch::new(&small_capture(MATCHES));
    let (feed, mut listener) = feed_and_listener(16);
    let stop = Stop::new();
    let replay = Replay::open(&file.0).unwrap().speed(Speed::Max).repeat(true);
    assert_eq!(replay.symbols().collect::<Vec<_>>(), ["BTC/USD", "ETH/USD", "SOL/BTC"]);
    let thread = replay.spawn(feed, Arc::clone(&stop)).unwrap();
    let wanted = (3 * MATCHES * LAPS) as usize;
    listener.read_until("seven laps", |listener| listener.trades().len() >= wanted);
    stop.stop();
    thread.join().unwrap();
    for (symbol, ids) in ids(&listener) {
        assert!(ids.windows(2).all(|pair| pair[1] == pair[0] + 1), "{symbol}: {ids:?}");
        assert!(ids.len() as u64 >= MATCHES * (LAPS - 1), "{symbol}: {ids:?}");
    }
    listener.assert_forward();
    assert!(listener.ticks.iter().all(|tick| !matches!(tick.body, TickBody::Gap { .. })));
    assert_eq!((listener.lost, listener.count(FeedCounter::Duplicates)), (0, 0));
    assert_eq!(listener.count(FeedCounter::StaleQuotes), 0);
}

#[test]
fn the_gate_holds_the_first_frame_back() {
    let file = Scratch::new(&small_capture(3));
    let (feed, mut listener) = feed_and_listener(64);
    let stop = Stop::new();
    let gate = StartGate::closed(&stop);
    let replay = Replay::open(&file.0).unwrap().speed(Speed::Max).hold(Arc::clone(&gate));
    let status = replay.status();
    assert_eq!(status.state(), FeedState::Down);
    let thread = replay.spawn(feed, Arc::clone(&stop)).unwrap();
    listener.read_until("held", |_| status.state() == FeedState::Held);
    assert!(status.state().is_up());
    assert_eq!(listener.count(FeedCounter::Frames), 0);
    gate.open();
    listener.read_until("the end", |_| status.state() == FeedState::Ended);
    listener.read();
    assert_eq!(listener.trades().len(), 9);
    // Ended is no end: the ring lives on, and the source is up, until the stop.
    assert!(status.state().is_up() && !thread.is_finished());
    stop.stop();
    thread.join().unwrap();
}

#[test]
fn a_held_replay_can_be_stopped() {
    let file = Scratch::new(&small_capture(1));
    let (feed, listener) = feed_and_listener(64);
    let stop = Stop::new();
    let gate = StartGate::closed(&stop);
    let thread = Replay::open(&file.0).unwrap().hold(gate).spawn(feed, Arc::clone(&stop)).unwrap();
    stop.stop();
    thread.join().unwrap();
    assert_eq!(listener.count(FeedCounter::Frames), 0);
}

#[test]
fn the_recorded_pace_is_kept() {
    // 0, 2 and 4 s on the recorder's clock, then 200 s nothing.
    let mut text = String::from("wss://ws-feed.example <-> 1618677816.8434298\n");
    for (i, seconds) in ["1618677817.0", "1618677819.0", "1618677821", "1618678021.0"].into_iter().enumerate() {
        text += &format!("{seconds}: {}\n", match_frame("BTC-USD", 1 + i as u64, i as u64));
    }
    let file = Scratch::new(&text);
    let (feed, mut listener) = feed_and_listener(64);
    let stop = Stop::new();
    let replay = Replay::open(&file.0).unwrap().speed(Speed::Real(20.0));
    let status = replay.status();
    let start = Instant::now();
    let thread = replay.spawn(feed, Arc::clone(&stop)).unwrap();
    listener.read_until("three trades", |listener| listener.trades().len() == 3);
    assert!(start.elapsed() >= Duration::from_millis(200), "{:?}", start.elapsed());
    // The fourth is due 10 s later: the stop does not wait for it.
    assert_eq!(status.state(), FeedState::Up);
    stop.stop();
    thread.join().unwrap();
    listener.read();
    if start.elapsed() < Duration::from_secs(10) {
        assert_eq!(listener.trades().len(), 3);
    }
}

#[test]
fn malformed_frames_in_a_capture_are_counted_and_the_rest_arrives() {
    let good = match_frame("BTC-USD", 7, 10);
    let lines = [
        match_frame("BTC-USD", 5, 1),
        "not json".into(),
        good[..100].into(),
        r#"{"type":"match","trade_id":6}"#.into(),
        good.replace("\"0.070\"", "\"0.-10000\""),
        r#"{"type":"status","products":[]}"#.into(),
        match_frame("BTC-USD", 6, 5),
        good,
    ];
    let file = Scratch::new(&lines.join("\n"));
    let (feed, mut listener) = feed_and_listener(64);
    let stop = Stop::new();
    let replay = Replay::open(&file.0).unwrap().speed(Speed::Max);
    let status = replay.status();
    let thread = replay.spawn(feed, Arc::clone(&stop)).unwrap();
    listener.read_until("the end", |_| status.state() == FeedState::Ended);
    listener.read();
    assert_eq!(ids(&listener), [("BTC/USD".to_owned(), vec![5, 6, 7])]);
    assert_eq!(listener.count(FeedCounter::MalformedFrames), 4);
    assert_eq!(listener.count(FeedCounter::UnknownTypes), 1);
    stop.stop();
    thread.join().unwrap();
}

#[test]
fn a_capture_that_is_gone_since_it_was_opened_puts_the_source_down() {
    let file = Scratch::new(&small_capture(1));
    let (feed, mut listener) = feed_and_listener(64);
    let stop = Stop::new();
    let gate = StartGate::closed(&stop);
    let replay = Replay::open(&file.0).unwrap().speed(Speed::Max).hold(Arc::clone(&gate));
    let status = replay.status();
    let thread = replay.spawn(feed, Arc::clone(&stop)).unwrap();
    listener.read_until("held", |_| status.state() == FeedState::Held);
    drop(file);
    gate.open();
    listener.read_until("down", |_| status.state() == FeedState::Down);
    assert!(!status.state().is_up() && listener.ticks.is_empty());
    stop.stop();
    thread.join().unwrap();
}
