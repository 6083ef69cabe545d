//! What does it cost to decode a venue's frame?
//!
//! Ours (`feed_handlers::decode::coinbase`) against serde_json and simd-json into structs that borrow from the frame:
//! once with prices and times left as text (`_text`: less than ours does), and once with the same exact decimals and
//! times in ns as ours (`_values`: the same work). `ours_to_ring` is all of the way: the frame through the feed (names,
//! numbers, validation, counters) into its ring, and its ticks out of that. Its book updates go into books, whose tops
//! become quotes. Frames as `Frames::load` finds them: recorded ones where `GATEWAY_CAPTURES` is set, taken in turn.
//!
//! simd-json writes into its input, so that each frame is first copied for it, 200 to 400 bytes; its buffers are kept.
//! A venue's socket gives bytes, so that serde_json's `from_slice` checks UTF-8 on the way; ours looks at bytes
//! throughout and takes no text for granted.

use std::collections::BTreeSet;
use std::hint::black_box;

use benches::{FeedLine, Frames};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use feed_handlers::counters::FeedCounter;
use feed_handlers::decode::coinbase;
use feed_handlers::feed::QuoteOrigin;
use feed_handlers::venue::Venue;
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

/// The frames of the day of the first: laps of several years would soon be out of time.
fn of_one_day(frames: &[String]) -> Vec<&[u8]> {
    let day = |frame: &String| frame.find(r#""time":""#).map(|at| frame[at + 8..at + 18].to_owned());
    let first = frames.first().and_then(day);
    frames.iter().filter(|frame| day(frame) == first).map(String::as_bytes).collect()
}

/// Whole books of the products of the frames: recorded ones, or one of two levels far from every price.
fn books(frames: &[&[u8]], recorded: &[String]) -> Vec<String> {
    let product = |frame: &str| {
        let rest = &frame[frame.find(r#""product_id":""#).expect("a product") + 14..];
        rest[..rest.find('"').expect("a text")].to_owned()
    };
    let products: BTreeSet<String> =
        frames.iter().map(|frame| product(std::str::from_utf8(frame).expect("JSON is UTF-8"))).collect();
    let book = |name: String| {
        let recorded = recorded.iter().find(|frame| product(frame) == name);
        recorded.cloned().unwrap_or_else(|| {
            let (bids, asks) = (r#"[["0.00000001","1"]]"#, r#"[["99999999","1"]]"#);
            format!(r#"{{"type":"snapshot","product_id":"{name}","bids":{bids},"asks":{asks}}}"#)
        })
    };
    products.into_iter().map(book).collect()
}

fn to_ring(c: &mut Criterion, name: &str, frames: &[String], snapshots: &[String]) {
    let frames = of_one_day(frames);
    let is_book = name.starts_with("decode/l2");
    let quotes = if is_book { QuoteOrigin::Books { depth: None } } else { QuoteOrigin::Quotes };
    let mut line = FeedLine::new(Venue::Coinbase, quotes);
    if is_book {
        books(&frames, snapshots).iter().for_each(|book| line.handle(book.as_bytes(), |_| {}));
    }
    let mut ticks = 0u64;
    frames.iter().for_each(|frame| line.handle(frame, |_| ticks += 1));
    line.start_lap();
    eprintln!("{name}: {} frames to {ticks} ticks, {} tops as before", frames.len(), line.count(FeedCounter::SameTops));
    assert_eq!((line.count(FeedCounter::MalformedFrames), line.count(FeedCounter::WaitingBookChanges)), (0, 0));

    let mut group = c.benchmark_group(name);
    group.throughput(Throughput::Elements(1));
    let mut at = 0;
    group.bench_function("ours_to_ring", |b| {
        b.iter(|| {
            line.handle(black_box(frames[at]), |tick| _ = black_box(tick));
            at += 1;
            if at == frames.len() {
                at = 0;
                line.start_lap();
            }
        });
    });
    group.finish();
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
    compare::<L2Updates>(c, "decode/l2batch", &frames.l2_batch);
    to_ring(c, "decode/ticker", &frames.ticker, &[]);
    to_ring(c, "decode/match", &frames.matches, &[]);
    to_ring(c, "decode/l2update", &frames.l2update, &frames.snapshots);
    to_ring(c, "decode/l2batch", &frames.l2_batch, &frames.snapshots);
}

criterion_group!(benches, decode);
criterion_main!(benches);
