//! What does it cost to write a message to clients?
//!
//! Ours (`protocol::encode_*`) against serde_json and rmp-serde of a struct with the same fields, each into a buffer
//! that is kept, as a complete WebSocket frame, with the venue's time formatted from ns.
//!
//! The struct's prices are `f64`, which is what one would pick: in JSON that loses the venue's digits (`0.00214590`
//! becomes `0.0021459`), which ours keeps. In MessagePack both write float 64, and the bytes are the same; the bench
//! checks both before it measures.

use std::hint::black_box;

use benches::{STAMP, SYMBOL, VENUE, bar, quote, trade};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use protocol::frame::{Opcode, encode_frame_with, server_frame};
use protocol::{ChannelKind, Decimal, Encoding, Side, encode_bar, encode_quote, encode_trade, format_rfc3339};
use serde::ser::{Serialize, Serializer};
use serde_json::{Map, Value};

/// A venue's time: text in JSON, a MessagePack timestamp of 64 bits in the other.
#[derive(Clone, Copy)]
struct Time(i64);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            let mut text = Vec::with_capacity(30);
            format_rfc3339(self.0, &mut text);
            serializer.serialize_str(std::str::from_utf8(&text).expect("a time is ASCII"))
        } else {
            // The shortest form: 32 bits of seconds, or 30 bits of ns over 34 bits of seconds. Extension type -1.
            let (seconds, nanos) = (self.0.div_euclid(1_000_000_000) as u64, self.0.rem_euclid(1_000_000_000) as u64);
            let long = (nanos << 34 | seconds).to_be_bytes();
            let bytes = if nanos == 0 { &long[4..] } else { &long[..] };
            serializer.serialize_newtype_struct("_ExtStruct", &(-1i8, Bytes(bytes)))
        }
    }
}

struct Bytes<'a>(&'a [u8]);

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

#[derive(serde::Serialize)]
struct Trade<'a> {
    #[serde(rename = "T")]
    tag: &'a str,
    #[serde(rename = "S")]
    symbol: &'a str,
    i: u64,
    x: &'a str,
    p: f64,
    s: f64,
    tks: &'a str,
    t: Time,
    rx: i64,
    seq: u64,
}

#[derive(serde::Serialize)]
struct Quote<'a> {
    #[serde(rename = "T")]
    tag: &'a str,
    #[serde(rename = "S")]
    symbol: &'a str,
    bp: f64,
    bs: f64,
    ap: f64,
    #[serde(rename = "as")]
    ask_size: f64,
    t: Time,
    rx: i64,
    seq: u64,
}

#[derive(serde::Serialize)]
struct Bar<'a> {
    #[serde(rename = "T")]
    tag: &'a str,
    #[serde(rename = "S")]
    symbol: &'a str,
    o: f64,
    h: f64,
    l: f64,
    c: f64,
    v: f64,
    n: u64,
    vw: f64,
    t: Time,
    rx: i64,
    seq: u64,
}

fn trade_struct(trade: &protocol::Trade) -> Trade<'static> {
    let tks = if trade.taker == Some(Side::Buy) { "B" } else { "S" };
    let [p, s] = [trade.price, trade.size].map(Decimal::to_f64);
    let (t, rx, seq) = (Time(STAMP.ts_event), STAMP.ts_recv, STAMP.seq);
    Trade { tag: "t", symbol: SYMBOL, i: trade.id.unwrap_or(0), x: VENUE, p, s, tks, t, rx, seq }
}

fn quote_struct(quote: &protocol::Quote) -> Quote<'static> {
    let [bp, bs, ap, ask_size] = [quote.bid, quote.bid_size, quote.ask, quote.ask_size].map(Decimal::to_f64);
    let (t, rx, seq) = (Time(STAMP.ts_event), STAMP.ts_recv, STAMP.seq);
    Quote { tag: "q", symbol: SYMBOL, bp, bs, ap, ask_size, t, rx, seq }
}

fn bar_struct(bar: &protocol::Bar) -> Bar<'static> {
    let [o, h, l, c, v, vw] = [bar.open, bar.high, bar.low, bar.close, bar.volume, bar.vwap].map(Decimal::to_f64);
    let (t, rx, seq) = (Time(bar.start_ns), STAMP.ts_recv, STAMP.seq);
    Bar { tag: "b", symbol: SYMBOL, o, h, l, c, v, n: bar.trades, vw, t, rx, seq }
}

/// An array of one message, in a frame, by serde.
fn by_serde(encoding: Encoding, message: &impl Serialize, out: &mut Vec<u8>) {
    match encoding {
        Encoding::Json => encode_frame_with(Opcode::Text, out, |out| {
            serde_json::to_writer(out, &[message]).expect("a message is JSON");
        }),
        Encoding::MessagePack => encode_frame_with(Opcode::Binary, out, |out| {
            rmp_serde::encode::write_named(out, &[message]).expect("a message is MessagePack");
        }),
    }
}

/// Both say the same; in MessagePack byte by byte, in JSON field by field.
fn check(encoding: Encoding, ours: impl Fn(&mut Vec<u8>), theirs: impl Fn(&mut Vec<u8>)) {
    let (mut a, mut b) = (Vec::new(), Vec::new());
    ours(&mut a);
    theirs(&mut b);
    if encoding == Encoding::MessagePack {
        assert_eq!(a, b);
        return;
    }
    let [a, b] = [a, b].map(|frame| {
        let payload = server_frame(&frame).expect("a whole frame").1;
        let [message]: [Map<String, Value>; 1] = serde_json::from_slice(payload).expect("a frame of JSON");
        message
    });
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
    for (field, value) in &a {
        match (value.as_f64(), b[field].as_f64()) {
            // What reads them back here may miss the nearest float by one.
            (Some(ours), Some(theirs)) => assert!((ours - theirs).abs() <= ours.abs() * f64::EPSILON, "{field}"),
            _ => assert_eq!(value, &b[field], "{field}"),
        }
    }
}

fn compare<T, M: Serialize>(
    c: &mut Criterion,
    what: &str,
    value: T,
    ours: impl Fn(Encoding, &T, &mut Vec<u8>),
    message: impl Fn(&T) -> M,
) {
    let mut group = c.benchmark_group(format!("encode/{what}"));
    group.throughput(Throughput::Elements(1));
    let mut out = Vec::with_capacity(1_024);
    for encoding in Encoding::ALL {
        check(encoding, |out| ours(encoding, &value, out), |out| by_serde(encoding, &message(&value), out));
        group.bench_function(format!("ours/{}", encoding.name()), |b| {
            b.iter(|| {
                out.clear();
                ours(encoding, black_box(&value), &mut out);
                black_box(&out);
            });
        });
        group.bench_function(format!("serde/{}", encoding.name()), |b| {
            b.iter(|| {
                out.clear();
                by_serde(encoding, &message(black_box(&value)), &mut out);
                black_box(&out);
            });
        });
    }
    group.finish();
}

fn encode(c: &mut Criterion) {
    let ours = |encoding, trade: &_, out: &mut _| encode_trade(encoding, black_box(SYMBOL), VENUE, trade, STAMP, out);
    compare(c, "trade", trade(), ours, trade_struct);
    let ours = |encoding, quote: &_, out: &mut _| encode_quote(encoding, black_box(SYMBOL), quote, STAMP, out);
    compare(c, "quote", quote(), ours, quote_struct);
    let ours = |encoding, bar: &_, out: &mut _| {
        encode_bar(encoding, black_box(SYMBOL), ChannelKind::Bars, bar, STAMP.seq, STAMP.ts_recv, out);
    };
    compare(c, "bar", bar(), ours, bar_struct);
}

criterion_group!(benches, encode);
criterion_main!(benches);
