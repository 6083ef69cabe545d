//! What do bars of seven intervals and their indicators cost a trade, and what do they hold?
//!
//! One core, a million trades a second of the venue's time, spread over 1, 500 and 10,000 instruments; the time of receipt
//! does not matter. Each step takes in a batch of trades and goes on where the one before it stopped, so that bars of 5 s and
//! of a minute become final as they would, and the longer ones are folded from them.
//!
//! - `trade`: ours with and without indicators, against what one would otherwise write: a map from instrument and
//!   interval to a bar of floats, each trade into all seven. Both give the minute in progress after each trade, with its mean.
//! - `indicators`: one finished bar into a series of them.
//! - `memory`: what 10,000 instruments hold at worst, by what it is for; printed, not timed. Everything has been busy for
//!   weeks, so that every window is full; every channel has had a message, real-time and delayed. The retained log and the
//!   delay line, which have bounds of their own, are left small.

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;

use benches::{NOW_NS, bar, trade};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use fanout::{Body, Hub, HubConfig, Interest, Sequencer, SequencerConfig, SlowConsumer, Update};
use feed_handlers::bars::{Bars, Finished};
use feed_handlers::indicators::{IndicatorTable, Series};
use protocol::{Bar, ChannelKind, Decimal, InstrumentId, InstrumentTable, Interval, SourceId, Trade};

const BATCH: u32 = 10_000;
const STEP_NS: i64 = 1_000;
const INSTRUMENTS: [u32; 3] = [1, 500, 10_000];
const LATENESS_NS: i64 = 10_000_000_000;

/// Trades of the instruments in turn, a microsecond apart.
struct Market {
    instruments: u32,
    count: u64,
    trade: Trade,
}

impl Market {
    fn new(instruments: u32) -> Market {
        Market { instruments, count: 0, trade: trade() }
    }

    fn batch(&mut self) -> impl Iterator<Item = (InstrumentId, Trade, i64)> {
        let (first, instruments, trade) = (self.count, u64::from(self.instruments), self.trade);
        self.count += u64::from(BATCH);
        (first..self.count).map(move |n| {
            // 7919 is prime, so that each has its turn, and neighbours in time are none in memory.
            let instrument = InstrumentId((n * 7_919 % instruments) as u32);
            let price = Decimal::new(trade.price.mantissa() + (n * 31 % 997) as i64, trade.price.scale());
            (instrument, Trade { price: price.unwrap_or(trade.price), ..trade }, NOW_NS + n as i64 * STEP_NS)
        })
    }
}

fn ours(group: &mut BenchmarkGroup<'_, WallTime>, instruments: u32, with_indicators: bool) {
    let mut market = Market::new(instruments);
    let mut bars = Bars::new(LATENESS_NS);
    let mut table = IndicatorTable::default();
    let name = if with_indicators { "bars and indicators" } else { "bars" };
    group.bench_function(BenchmarkId::new(name, instruments), |b| {
        b.iter(|| {
            for (instrument, trade, ts_event) in market.batch() {
                let mut finished = |instrument: InstrumentId, finished: Finished| match finished {
                    Finished::Bar(interval, bar) if with_indicators => {
                        black_box(table.on_bar(instrument, interval, &bar));
                    }
                    finished => _ = black_box(finished),
                };
                black_box(bars.on_trade(instrument, SourceId(0), &trade, ts_event, 0, &mut finished));
            }
        });
    });
}

/// Each trade into a bar of floats of each interval; a bar is finished by the first trade behind it.
fn map_of_floats(group: &mut BenchmarkGroup<'_, WallTime>, instruments: u32) {
    #[derive(Clone, Copy, Default)]
    struct FloatBar {
        start_ns: i64,
        open: f64,
        high: f64,
        low: f64,
        close: f64,
        volume: f64,
        turnover: f64,
        trades: u64,
    }
    let mut market = Market::new(instruments);
    let mut bars: HashMap<(InstrumentId, Interval), FloatBar> = HashMap::new();
    group.bench_function(BenchmarkId::new("map of floats", instruments), |b| {
        b.iter(|| {
            for (instrument, trade, ts_event) in market.batch() {
                let (price, size) = (trade.price.to_f64(), trade.size.to_f64());
                for interval in Interval::ALL {
                    let start_ns = ts_event - ts_event.rem_euclid(interval.ns());
                    let bar = bars.entry((instrument, interval)).or_default();
                    if bar.start_ns != start_ns {
                        black_box(&*bar);
                        *bar = FloatBar { start_ns, open: price, high: price, low: price, ..FloatBar::default() };
                    }
                    bar.high = bar.high.max(price);
                    bar.low = bar.low.min(price);
                    bar.close = price;
                    bar.volume += size;
                    bar.turnover += price * size;
                    bar.trades += 1;
                }
                let minute = &bars[&(instrument, Interval::Minute)];
                black_box((minute, minute.open, minute.turnover / minute.volume));
            }
        });
    });
}

fn trades(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("trade");
    group.throughput(Throughput::Elements(u64::from(BATCH)));
    for instruments in INSTRUMENTS {
        ours(&mut group, instruments, true);
        ours(&mut group, instruments, false);
        map_of_floats(&mut group, instruments);
    }
    group.finish();
}

fn indicators(criterion: &mut Criterion) {
    let mut series = Series::default();
    let (bar, mut close) = (bar(), 0);
    criterion.bench_function("indicators/one bar", |b| {
        b.iter(|| {
            close += 1;
            series.on_bar(black_box(&moved(&bar, close)))
        });
    });
}

/// The bar with other prices.
fn moved(bar: &Bar, n: i64) -> Bar {
    let by = |price: Decimal| Decimal::new(price.mantissa() + n * 7 % 311, price.scale()).unwrap_or(price);
    Bar { open: by(bar.open), high: by(bar.high), low: by(bar.low), close: by(bar.close), ..*bar }
}

/// Bytes that this process has in memory.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0) * 4_096
}

fn memory(_: &mut Criterion) {
    const MANY: u32 = 10_000;
    let mut before = resident();
    let mut told = |what: &str| {
        let now = resident();
        println!("memory/{what}: {:.1} MiB", now.saturating_sub(before) as f64 / f64::from(1 << 20));
        before = now;
    };
    let ids = || (0..MANY).map(InstrumentId);

    let table = Arc::new(InstrumentTable::with_capacity(MANY as usize));
    for id in ids() {
        table.learn(&format!("S{:05}/USD", id.0)).expect("the table has room");
    }
    told("instruments and their symbols");

    // A trade of each in each second around midnight, where every interval has two bars.
    let midnight = NOW_NS - NOW_NS.rem_euclid(Interval::Day.ns()) + Interval::Day.ns();
    let mut bars = Bars::new(LATENESS_NS);
    for second in -90..LATENESS_NS / 1_000_000_000 {
        for id in ids() {
            bars.on_trade(id, SourceId(0), &trade(), midnight + second * 1_000_000_000, 0, &mut |_, finished| {
                black_box(finished);
            });
        }
    }
    told("bars in progress");

    let mut indicators = IndicatorTable::default();
    for n in 0..60 {
        let bar = moved(&bar(), n);
        for (id, interval) in ids().flat_map(|id| Interval::ALL.map(|interval| (id, interval))) {
            black_box(indicators.on_bar(id, interval, &bar));
        }
    }
    told("indicators");

    let interest = Arc::new(Interest::new(1, table.clone()));
    let config = SequencerConfig {
        delay_ns: Some(1),
        delay_bytes_max: 1 << 20,
        segment_bytes_max: 256 << 10,
        venues: vec!["VENUE".to_owned()],
    };
    let mut sequencer = Sequencer::new(config, table.clone(), interest.clone());
    let config = HubConfig {
        shard: 0,
        slow_consumer: SlowConsumer::Gap,
        retain_bytes: 1 << 20,
        control_bytes_max: 64 << 10,
        heartbeat_ms: 15_000,
        stall_ms: 30_000,
    };
    let mut hub = Hub::new(config, table, interest, 0);
    let value = Body::Indicators(indicators.on_bar(InstrumentId(0), Interval::Minute, &bar()));
    for id in ids() {
        for kind in ChannelKind::ALL.into_iter().filter(|kind| !kind.is_signals()) {
            let body = match kind.name().split('.').next() {
                Some("trades") => Body::Trade(trade()),
                Some("quotes") => Body::Quote(benches::quote()),
                Some("indicators") => value.clone(),
                _ => Body::Bar(bar()),
            };
            let (source, ts_event, ts_recv) = (SourceId(0), NOW_NS, 0);
            sequencer.publish(Update {
                instrument: id,
                kind,
                source,
                ts_event,
                ts_recv,
                flags: protocol::TickFlags::NONE,
                body,
            });
        }
        sequencer.release_delayed(1);
        for segment in sequencer.take_segments() {
            hub.publish(segment, 0);
        }
    }
    told("numbers, last values and channels, with a log of 1 MiB");
    black_box((&bars, &indicators, &sequencer, &hub));
}

// Memory first: what the others leave behind would be taken for it.
criterion_group!(benches, memory, trades, indicators);
criterion_main!(benches);
