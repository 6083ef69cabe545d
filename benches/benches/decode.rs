//! What does it cost to decode a venue's frame?
//!
//! Ours (`feed_handlers::decode::coinbase`) against serde_json and simd-json into structs that borrow from the frame:
//! once with prices and times left as text (`_text`: less than ours does), and once with the same exact decimals and
//! times in ns as ours (`_values`: the same work). Frames as `Frames::load` finds them: recorded ones where
//! `GATEWAY_CAPTURES` is set, taken in turn.
//!
//! simd-json writes into its input, so that each frame is first copied for it, 200 to 400 bytes; its buffers are kept.
//! A venue's socket gives bytes, so that serde_json's `from_slice` checks UTF-8 on the way; ours looks at bytes
//! throughout and takes no text for granted.

use std::hint::black_box;

use benches::Frames;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use feed_handlers::decode::coinbase;
use protocol::{Decimal, parse_rfc3339};
use serde::Deserialize;

/// A type of frame and the struct that serde reads it into.
trait Kind {
    type Message<'a>: Deserialize<'a> + Values;
}

/// Reads the text fields as ours does.
trait Values {
    /// # Panics
    /// Where a field is not what it should be: the frames are known to be good.
    fn take_values(&self);
}

fn decimal(text: &str) -> Decimal {
    Decimal::parse(text.as_bytes()).expect("a decimal")
}

fn time(text: &str) -> i64 {
    parse_rfc3339(text.as_bytes()).expect("a time")
}

#[derive(Deserialize)]
struct Ticker<'a> {
    product_id: &'a str,
    sequence: u64,
    best_bid: &'a str,
    best_bid_size: Option<&'a str>,
    best_ask: &'a str,
    best_ask_size: Option<&'a str>,
    time: &'a str,
}

impl Values for Ticker<'_> {
    fn take_values(&self) {
        let sizes = [self.best_bid_size, self.best_ask_size].map(|size| size.map(decimal));
        let prices = [self.best_bid, self.best_ask].map(decimal);
        black_box((self.product_id, self.sequence, prices, sizes, time(self.time)));
    }
}

struct Tickers;

impl Kind for Tickers {
    type Message<'a> = Ticker<'a>;
}

#[derive(Deserialize)]
struct Match<'a> {
    product_id: &'a str,
    trade_id: u64,
    side: &'a str,
    price: &'a str,
    size: &'a str,
    time: &'a str,
}

impl Values for Match<'_> {
    fn take_values(&self) {
        let numbers = [self.price, self.size].map(decimal);
        black_box((self.product_id, self.trade_id, self.side == "buy", numbers, time(self.time)));
    }
}

struct Matches;

impl Kind for Matches {
    type Message<'a> = Match<'a>;
}

#[derive(Deserialize)]
struct L2Update<'a> {
    product_id: &'a str,
    #[serde(borrow)]
    changes: Vec<(&'a str, &'a str, &'a str)>,
    time: &'a str,
}

impl Values for L2Update<'_> {
    fn take_values(&self) {
        // As ours hands them out: one by one, kept by nobody.
        for (side, price, size) in &self.changes {
            black_box((*side == "buy", decimal(price), decimal(size)));
        }
        black_box((self.product_id, time(self.time)));
    }
}

struct L2Updates;

impl Kind for L2Updates {
    type Message<'a> = L2Update<'a>;
}

/// The frames one after the other, without end.
fn next<'a>(frames: &'a [String]) -> impl FnMut() -> &'a [u8] {
    let mut at = 0;
    move || {
        let frame = frames[at].as_bytes();
        at = if at + 1 == frames.len() { 0 } else { at + 1 };
        frame
    }
}

fn compare<K: Kind>(c: &mut Criterion, name: &str, frames: &[String]) {
    let mut group = c.benchmark_group(name);
    group.throughput(Throughput::Elements(1));

    let mut frame = next(frames);
    group.bench_function("ours", |b| {
        b.iter(|| {
            let decoded = coinbase::decode(black_box(frame()), &mut |event| {
                black_box(event);
            });
            decoded.expect("a good frame");
        });
    });

    for with_values in [false, true] {
        let suffix = if with_values { "values" } else { "text" };
        let mut frame = next(frames);
        group.bench_function(format!("serde_json_{suffix}"), |b| {
            b.iter(|| {
                let message: K::Message<'_> = serde_json::from_slice(black_box(frame())).expect("a good frame");
                finish(with_values, &message);
            });
        });
        let mut frame = next(frames);
        let (mut buffers, mut copy) = (simd_json::Buffers::default(), Vec::new());
        group.bench_function(format!("simd_json_{suffix}"), |b| {
            b.iter(|| {
                copy.clear();
                copy.extend_from_slice(black_box(frame()));
                let message: K::Message<'_> =
                    simd_json::serde::from_slice_with_buffers(&mut copy, &mut buffers).expect("a good frame");
                finish(with_values, &message);
            });
        });
    }
    group.finish();
}

fn finish<M: Values>(with_values: bool, message: &M) {
    black_box(message);
    if with_values {
        message.take_values();
    }
}

fn decode(c: &mut Criterion) {
    let frames = Frames::load();
    compare::<Tickers>(c, "decode/ticker", &frames.ticker);
    compare::<Matches>(c, "decode/match", &frames.matches);
    compare::<L2Updates>(c, "decode/l2update", &frames.l2update);
}

criterion_group!(benches, decode);
criterion_main!(benches);
