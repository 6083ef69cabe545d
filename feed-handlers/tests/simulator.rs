//! The simulator goes the whole way through the decoder: what comes out is contiguous, valid and no faster than
//! asked, and it waits for nobody.
#![cfg(not(loom))]

mod support;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use feed_handlers::feed::FeedCounter;
use feed_handlers::source::{FeedState, Simulator, SimulatorSettings, Stop, default_symbols};
use protocol::{InstrumentId, TickBody};
use support::feed_and_listener;

#[test]
fn what_it_sends_is_flawless() {
    const TICKS: usize = 20_000;
    let (feed, mut listener) = feed_and_listener(1 << 16);
    let stop = Stop::new();
    let symbols = default_symbols(50);
    let settings = SimulatorSettings { symbols: symbols.clone(), rate: 20_000.0, ..Default::default() };
    let simulator = Simulator::new(&settings).unwrap();
    let status = simulator.status();
    let start = Instant::now();
    let thread = simulator.spawn(feed, Arc::clone(&stop)).unwrap();
    let mut heartbeats = 0;
    listener.read_until("ticks and heartbeats", |listener| {
        heartbeats = listener.count(FeedCounter::Heartbeats);
        listener.ticks.len() >= TICKS && heartbeats >= 50
    });
    assert_eq!(status.state(), FeedState::Up);
    let sent = listener.count(FeedCounter::Trades) + listener.count(FeedCounter::Quotes);
    let due = start.elapsed().as_secs_f64() * settings.rate;
    assert!(sent as f64 <= due + 1.0, "{sent} sent, {due} due");
    stop.stop();
    thread.join().unwrap();
    listener.read();

    assert_eq!(listener.lost, 0);
    listener.assert_forward();
    let mut trades: HashMap<InstrumentId, u64> = HashMap::new();
    for tick in &listener.ticks {
        match tick.body {
            TickBody::Trade(trade) => {
                let id = trade.id.expect("the venue numbers its trades");
                let last = trades.insert(tick.instrument, id);
                assert!(last.is_none_or(|last| id == last + 1), "{tick:?}");
                assert!(trade.price.is_positive() && trade.size.is_positive(), "{tick:?}");
            }
            TickBody::Quote(quote) => {
                assert!(quote.bid.is_positive() && quote.bid < quote.ask, "{tick:?}");
                assert!(quote.bid_size.is_positive() && quote.ask_size.is_positive(), "{tick:?}");
            }
            TickBody::Bar(_) | TickBody::Gap { .. } => panic!("no trade and no quote: {tick:?}"),
            TickBody::Heartbeat => {}
        }
    }
    let mut learnt: Vec<String> = listener.ticks.iter().map(|tick| listener.symbol(tick)).collect();
    learnt.sort();
    learnt.dedup();
    let mut expected = symbols;
    expected.sort();
    assert_eq!(learnt, expected);
    assert_eq!(listener.count(FeedCounter::Subscriptions), 1);
    let left_out = [
        FeedCounter::Duplicates,
        FeedCounter::OldState,
        FeedCounter::StaleQuotes,
        FeedCounter::UntimedQuotes,
        FeedCounter::OneSidedQuotes,
        FeedCounter::CrossedQuotes,
        FeedCounter::InvalidTrades,
        FeedCounter::InvalidQuotes,
        FeedCounter::MalformedFrames,
        FeedCounter::UnknownSymbols,
        FeedCounter::UnknownTypes,
    ];
    for counter in left_out {
        assert_eq!(listener.count(counter), 0, "{}", counter.name());
    }
}

#[test]
fn it_waits_for_no_reader() {
    let (feed, mut listener) = feed_and_listener(64);
    let stop = Stop::new();
    let settings = SimulatorSettings { rate: 50_000.0, trade_share: 1.0, ..Default::default() };
    let thread = Simulator::new(&settings).unwrap().spawn(feed, Arc::clone(&stop)).unwrap();
    let deadline = Instant::now() + support::PATIENCE;
    while listener.count(FeedCounter::Trades) < 1_000 {
        assert!(Instant::now() < deadline, "it waits for its reader");
        std::thread::yield_now();
    }
    stop.stop();
    thread.join().unwrap();
    listener.read();
    let published = listener.count(FeedCounter::Trades) + listener.count(FeedCounter::Heartbeats);
    assert!(listener.lost > 0);
    assert_eq!(listener.lost + listener.ticks.len() as u64, published);
}
