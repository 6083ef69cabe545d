//! How many ticks a second does one core take from the venue's bytes to bars and their indicators?
//!
//! On one thread: frames of Coinbase through the feed into its ring, each tick out of it, trades into bars of seven
//! intervals, finished bars into their indicators. In the gateway the ring lies between two threads, so that this is
//! more than either of them does. Numbers, encoding and clients are for `hub_publish` and `encode`.
//!
//! Frames are of 500 products, in the layout of the recorded ones, rendered before. A lap of 10,000 frames is a second of
//! the venue's time, so that a bar becomes final a hundred times as often for each trade as it would at a million ticks
//! a second: what it costs is told as more than it is. `without` is the same feed and ring, and nobody who makes bars.

use std::hint::black_box;

use benches::{FeedLine, NOW_NS};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use feed_handlers::bars::{Bars, Finished};
use feed_handlers::feed::QuoteOrigin;
use feed_handlers::indicators::IndicatorTable;
use feed_handlers::venue::Venue;
use protocol::{InstrumentId, Tick, TickBody, format_rfc3339};

const FRAMES: u64 = 10_000;
const PRODUCTS: u64 = 500;
const STEP_NS: i64 = 1_000;
const LATENESS_NS: i64 = 10_000_000_000;

/// A frame of every product in turn; each `quotes_every`th is a ticker, none where that is 0.
fn frames(quotes_every: u64) -> Vec<String> {
    let frame = |n: u64| {
        let mut time = Vec::new();
        format_rfc3339(NOW_NS + n as i64 * STEP_NS, &mut time);
        let time = String::from_utf8(time).expect("a time is ASCII");
        // 7919 is prime, so that each has its turn, and neighbours in time are none in memory.
        let (product, count) = (n * 7_919 % PRODUCTS, n / PRODUCTS);
        let (cents, sequence) = (10 + n * 31 % 89, 136_999_329_371 + n);
        if quotes_every > 0 && n.is_multiple_of(quotes_every) {
            format!(
                r#"{{"type":"ticker","sequence":{sequence},"product_id":"P{product:03}-USD","price":"83425.{cents}","open_24h":"83425.96","volume_24h":"94381.28000000","low_24h":"81369.10","high_24h":"84416.55","volume_30d":"2295579.57000000","best_bid":"83425.{cents}","best_bid_size":"0.10000000","best_ask":"83426.{cents}","best_ask_size":"0.39004000","side":"buy","time":"{time}","trade_id":{count},"last_size":"0.04"}}"#
            )
        } else {
            format!(
                r#"{{"type":"match","trade_id":{},"maker_order_id":"bc4a4f45-f5f9-42f7-b0e9-2548fb14e550","taker_order_id":"b5d87128-75fa-4642-9a29-e85819dde27b","side":"buy","size":"0.00214590","price":"83425.{cents}","product_id":"P{product:03}-USD","sequence":{sequence},"time":"{time}"}}"#,
                1_100_243_492 + count
            )
        }
    };
    (0..FRAMES).map(frame).collect()
}

/// Who reads the ring, as the gateway's sequencing does.
struct Reader {
    bars: Bars,
    indicators: IndicatorTable,
    finished: u64,
}

impl Reader {
    fn on_tick(&mut self, tick: &Tick) {
        let Reader { bars, indicators, finished } = self;
        let mut out = |instrument: InstrumentId, done: Finished| match done {
            Finished::Bar(interval, bar) => {
                *finished += 1;
                black_box(indicators.on_bar(instrument, interval, &bar));
            }
            Finished::Day(bar) | Finished::Minute(bar) => _ = black_box(bar),
        };
        let Tick { instrument, source, ts_event, ts_recv, .. } = *tick;
        match tick.body {
            TickBody::Trade(trade) => {
                black_box(bars.on_trade(instrument, source, &trade, ts_event, ts_recv, &mut out));
            }
            body => {
                bars.on_clock(source, ts_event, ts_recv, &mut out);
                black_box(body);
            }
        }
    }
}

fn pipeline(c: &mut Criterion) {
    for (name, quotes_every) in [("pipeline/trades", 0), ("pipeline/trades and quotes", 2)] {
        let frames = frames(quotes_every);
        let mut group = c.benchmark_group(name);
        group.throughput(Throughput::Elements(FRAMES));
        for with_bars in [true, false] {
            let mut line = FeedLine::new(Venue::Coinbase, QuoteOrigin::Quotes);
            let mut reader =
                Reader { bars: Bars::new(LATENESS_NS), indicators: IndicatorTable::default(), finished: 0 };
            let mut lap = || {
                let mut ticks = 0;
                for frame in &frames {
                    line.handle(black_box(frame.as_bytes()), |tick| {
                        ticks += 1;
                        if with_bars {
                            reader.on_tick(tick);
                        } else {
                            black_box(tick);
                        }
                    });
                }
                line.start_lap();
                ticks
            };
            // The first quote of a product may be old state, which is known by its number only.
            assert_eq!([lap(), lap()], [FRAMES; 2], "a tick for each frame");
            group.bench_function(if with_bars { "bars and indicators" } else { "without" }, |b| b.iter(&mut lap));
            eprintln!("{} bars became final", reader.finished);
        }
        group.finish();
    }
}

criterion_group!(benches, pipeline);
criterion_main!(benches);
