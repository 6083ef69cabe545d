//! What does it cost to decode what the other venues send?
//!
//! - `kite`: frames of 100 full packets, each a trade and a quote, two ticks. Beside it: all the fields of a packet, five
//!   levels a side, by our reader; and into floats and a list, as the venue's own clients do.
//! - `itch`: messages behind their lengths, from memory, some megabytes over and over. From the recordings that
//!   `GATEWAY_CAPTURES` names, or drawn by the shares that they have on a day. Beside it: only the lengths; and what of
//!   them needs no book, as an event.
//! - the JSON of each other venue: market data frames, recorded ones where `GATEWAY_CAPTURES` is set and one or two copied
//!   ones without it, against serde_json into a `Value` and into structs that borrow from the frame and hold what ours
//!   gives. Prices as numbers become floats there, prices and times as texts stay texts: less than ours does, which gives
//!   exact decimals and times in ns.

use std::borrow::Cow;
use std::hint::black_box;

use benches::{NOW_NS, full_packets, recorded};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use feed_handlers::decode::event::Event;
use feed_handlers::decode::framed::Framed;
use feed_handlers::decode::{itch, kite};
use feed_handlers::venue::Venue;
use serde::Deserialize;

const PACKETS: u16 = 100;

fn kite(c: &mut Criterion) {
    let frame = full_packets(PACKETS, NOW_NS);
    let mut group = c.benchmark_group("venues/kite");
    group.throughput(Throughput::Elements(2 * u64::from(PACKETS)));
    group.bench_function("ours", |b| {
        b.iter(|| {
            let mut ticks = 0;
            let decoded = kite::decode_binary(black_box(&frame), &mut |event| {
                black_box(&event);
                ticks += 1;
            });
            assert_eq!((decoded, ticks), (Ok(()), 2 * PACKETS));
        });
    });
    group.bench_function("ours, all fields", |b| {
        b.iter(|| {
            for packet in kite::packets(black_box(&frame)).expect("a good frame") {
                let Some(kite::Packet::Full(full)) = packet else { panic!("a full packet") };
                let s = full.summary();
                black_box((s.token(), s.last_price(), s.last_quantity(), s.average_price(), s.volume()));
                black_box((s.buy_quantity(), s.sell_quantity(), s.open(), s.high(), s.low(), s.close()));
                black_box((full.last_trade_time(), full.open_interest(), full.exchange_time()));
                full.depth().for_each(|level| _ = black_box(level));
            }
        });
    });
    group.bench_function("floats and a list", |b| b.iter(|| floats(black_box(&frame))));
    group.finish();
}

/// As the clients in other languages: every number a float, the levels in a list of each packet.
fn floats(frame: &[u8]) {
    let word = |bytes: &[u8], at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
    let mut rest = &frame[2..];
    while let [high, low, behind @ ..] = rest {
        let (packet, next) = behind.split_at(usize::from(u16::from_be_bytes([*high, *low])));
        let price = |at: usize| f64::from(word(packet, at)) / 100.0;
        black_box((word(packet, 0), [4, 12, 28, 32, 36, 40].map(price)));
        black_box([8, 16, 20, 24, 44, 48, 52, 56, 60].map(|at| word(packet, at)));
        let levels: Vec<_> =
            (64..184).step_by(12).map(|at| (word(packet, at), price(at + 4), word(packet, at + 8) >> 16)).collect();
        black_box(levels);
        rest = next;
    }
}

const ITCH_BYTES: usize = 4 << 20;

/// Messages behind their lengths, and how many.
fn messages() -> (Vec<u8>, u64) {
    let names = ["itch/synthetic-ritch-first6000.itch", "itch/nasdaq-2023-08-22-message-samples.itch"];
    let once = match recorded(&names) {
        Some(paths) => {
            let read = |path| std::fs::read(path).expect("a recording that can be read");
            paths.iter().flat_map(read).collect::<Vec<u8>>()
        }
        None => {
            eprintln!("GATEWAY_CAPTURES names no folder of captures: a mix of eight types by their shares");
            drawn()
        }
    };
    let of_once = Framed::new(&once).count() as u64;
    let times = ITCH_BYTES.div_ceil(once.len());
    (once.repeat(times), of_once * times as u64)
}

/// 10,000 messages of the types that are nearly all of a day, in no order that a processor could foresee.
fn drawn() -> Vec<u8> {
    // Of a thousand; and the length.
    const SHARES: [(u8, u64, u16); 8] = [
        (b'A', 430, 36),
        (b'D', 415, 19),
        (b'U', 70, 35),
        (b'E', 35, 31),
        (b'X', 25, 23),
        (b'F', 10, 40),
        (b'P', 10, 44),
        (b'C', 5, 36),
    ];
    let (mut out, mut state) = (Vec::new(), 1u64);
    for n in 0..10_000u64 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mut draw = (state >> 33) % 1_000;
        let drawn = SHARES.iter().find(|(_, share, _)| {
            let is_it = draw < *share;
            draw = draw.saturating_sub(*share);
            is_it
        });
        let (kind, _, length) = drawn.expect("the shares are a thousand");
        let mut message = vec![0; usize::from(*length)];
        (message[0], message[2]) = (*kind, n as u8);
        message[7..11].copy_from_slice(&(n as u32).to_be_bytes());
        message[11..19].copy_from_slice(&state.to_be_bytes());
        if matches!(kind, b'A' | b'F' | b'P') {
            message[19] = if state & 1 << 40 == 0 { b'B' } else { b'S' };
            message[24..32].copy_from_slice(b"AAPL    ");
        }
        out.extend(length.to_be_bytes());
        out.extend(message);
    }
    out
}

fn itch(c: &mut Criterion) {
    let (bytes, count) = messages();
    let mut group = c.benchmark_group("venues/itch");
    group.throughput(Throughput::Elements(count));
    let midnight_ns = NOW_NS;
    group.bench_function("ours", |b| {
        b.iter(|| {
            for message in Framed::new(black_box(&bytes)) {
                let message = message.expect("a whole message");
                black_box(itch::decode_message(message, midnight_ns).expect("a good message"));
            }
        });
    });
    group.bench_function("ours, as events", |b| {
        b.iter(|| {
            for message in Framed::new(black_box(&bytes)) {
                let message = itch::decode_message(message.expect("a whole message"), midnight_ns);
                black_box(itch::event(&message.expect("a good message")));
            }
        });
    });
    group.bench_function("lengths alone", |b| {
        b.iter(|| {
            for message in Framed::new(black_box(&bytes)) {
                black_box(message.expect("a whole message"));
            }
        });
    });
    group.finish();
}

/// What is read of a frame by serde; a text that may have an escape is one that may be copied.
type Text<'a> = Option<Cow<'a, str>>;

#[derive(Deserialize)]
#[allow(dead_code)]
struct Polygon<'a> {
    ev: &'a str,
    sym: Option<&'a str>,
    i: Option<serde_json::Value>,
    p: Option<f64>,
    s: Option<f64>,
    bp: Option<f64>,
    bs: Option<f64>,
    ap: Option<f64>,
    #[serde(rename = "as")]
    ask_size: Option<f64>,
    t: Option<i64>,
    q: Option<u64>,
}

#[derive(Deserialize)]
#[allow(dead_code, non_snake_case)]
struct Alpaca<'a> {
    T: &'a str,
    S: Option<&'a str>,
    i: Option<u64>,
    p: Option<f64>,
    s: Option<f64>,
    bp: Option<f64>,
    bs: Option<f64>,
    ap: Option<f64>,
    #[serde(rename = "as")]
    ask_size: Option<f64>,
    t: Option<&'a str>,
}

#[derive(Deserialize)]
#[allow(dead_code)]
struct Binance<'a> {
    #[serde(borrow)]
    stream: Text<'a>,
    data: BinanceData<'a>,
}

#[derive(Deserialize)]
#[allow(dead_code, non_snake_case)]
struct BinanceData<'a> {
    e: Option<&'a str>,
    E: Option<i64>,
    s: Option<&'a str>,
    t: Option<u64>,
    u: Option<u64>,
    U: Option<u64>,
    p: Option<&'a str>,
    q: Option<&'a str>,
    T: Option<i64>,
    m: Option<bool>,
    B: Option<&'a str>,
    A: Option<&'a str>,
    b: Option<BinanceSide<'a>>,
    a: Option<BinanceSide<'a>>,
}

/// A price, or levels, or a number.
#[derive(Deserialize)]
#[serde(untagged)]
#[allow(dead_code)]
enum BinanceSide<'a> {
    Price(&'a str),
    Levels(#[serde(borrow)] Vec<(&'a str, &'a str)>),
    Number(u64),
}

#[derive(Deserialize)]
#[allow(dead_code)]
struct Kraken<'a> {
    channel: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(borrow)]
    data: Vec<KrakenData<'a>>,
}

#[derive(Deserialize)]
#[allow(dead_code)]
struct KrakenData<'a> {
    #[serde(borrow)]
    symbol: Cow<'a, str>,
    side: Option<&'a str>,
    price: Option<f64>,
    qty: Option<f64>,
    trade_id: Option<u64>,
    timestamp: Option<&'a str>,
    bids: Option<Vec<KrakenLevel>>,
    asks: Option<Vec<KrakenLevel>>,
    checksum: Option<u32>,
}

#[derive(Deserialize)]
#[allow(dead_code)]
struct KrakenLevel {
    price: f64,
    qty: f64,
}

#[derive(Deserialize)]
#[allow(dead_code)]
struct Finnhub<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(borrow)]
    data: Vec<FinnhubTrade<'a>>,
}

#[derive(Deserialize)]
#[allow(dead_code)]
struct FinnhubTrade<'a> {
    s: &'a str,
    p: f64,
    v: f64,
    t: i64,
}

#[derive(Deserialize)]
#[allow(dead_code)]
struct Oanda<'a> {
    instrument: &'a str,
    time: &'a str,
    #[serde(borrow)]
    bids: Vec<OandaLevel<'a>>,
    #[serde(borrow)]
    asks: Vec<OandaLevel<'a>>,
}

#[derive(Deserialize)]
#[allow(dead_code)]
struct OandaLevel<'a> {
    price: &'a str,
    liquidity: f64,
}

/// What serde reads a venue's frame into.
trait Dialect {
    type Message<'a>: Deserialize<'a>;
}

macro_rules! dialects {
    ($($name:ident: $message:ty;)+) => {$(
        struct $name;
        impl Dialect for $name {
            type Message<'a> = $message;
        }
    )+};
}

dialects! {
    PolygonFrames: Vec<Polygon<'a>>;
    AlpacaFrames: Vec<Alpaca<'a>>;
    BinanceFrames: Binance<'a>;
    KrakenFrames: Kraken<'a>;
    FinnhubFrames: Finnhub<'a>;
    OandaFrames: Oanda<'a>;
}

/// How many market data events a frame gives, none where it is refused.
fn events(venue: Venue, frame: &str) -> u64 {
    let mut count = 0;
    let decoded = venue.decode(frame.as_bytes(), &mut |event| {
        count += u64::from(matches!(event, Event::Trade(_) | Event::Quote(_) | Event::Level(_)));
    });
    if decoded.is_ok() { count } else { 0 }
}

/// The market data frames of the recordings, or the copied ones: those that both sides can read.
fn frames<D: Dialect>(venue: Venue, recordings: &[&str], copied: &[&str]) -> Vec<String> {
    let mut frames: Vec<String> = Vec::new();
    for path in recorded(recordings).unwrap_or_default() {
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        // The time of receipt may stand before a frame.
        frames.extend(text.lines().filter_map(|line| line.find(['{', '[']).map(|at| line[at..].to_owned())));
    }
    if frames.is_empty() {
        frames.extend(copied.iter().map(|frame| (*frame).to_owned()));
    }
    frames.retain(|frame| events(venue, frame) > 0 && serde_json::from_str::<D::Message<'_>>(frame).is_ok());
    assert!(frames.len() >= copied.len().min(2), "market data of {venue:?}");
    frames
}

fn compare<D: Dialect>(c: &mut Criterion, venue: Venue, recordings: &[&str], copied: &[&str]) {
    let frames = frames::<D>(venue, recordings, copied);
    let (count, bytes) = (frames.len() as u64, frames.iter().map(String::len).sum::<usize>() as u64);
    let events: u64 = frames.iter().map(|frame| events(venue, frame)).sum();
    eprintln!("{}: {count} frames, {} bytes each, {events} events in all", venue.name(), bytes / count);
    let mut group = c.benchmark_group(format!("venues/{}", venue.name().to_lowercase()));
    group.throughput(Throughput::Elements(1));
    let next = || {
        let mut turn = frames.iter().cycle();
        move || turn.next().expect("there are frames").as_bytes()
    };
    let mut frame = next();
    group.bench_function("ours", |b| {
        b.iter(|| {
            let decoded = venue.decode(black_box(frame()), &mut |event| _ = black_box(event));
            decoded.expect("a good frame");
        });
    });
    let mut frame = next();
    group.bench_function("serde_json_struct", |b| {
        b.iter(|| {
            let message: D::Message<'_> = serde_json::from_slice(black_box(frame())).expect("a good frame");
            black_box(&message);
        });
    });
    let mut frame = next();
    group.bench_function("serde_json_value", |b| {
        b.iter(|| {
            let message: serde_json::Value = serde_json::from_slice(black_box(frame())).expect("a good frame");
            black_box(&message);
        });
    });
    group.finish();
}

fn json(c: &mut Criterion) {
    compare::<PolygonFrames>(
        c,
        Venue::Polygon,
        &["polygon/polygon-live.jsonl", "polygon/polygon-doc-examples.jsonl"],
        &[
            r#"[{"ev":"Q","sym":"AAPL","i":[604],"bx":15,"ax":12,"bp":297.83,"ap":297.86,"bs":80,"as":80,"t":1781622375952,"pt":1781622375952,"q":44424715,"z":3}]"#,
            r#"[{"ev":"T","sym":"AAPL","i":"143541","x":4,"p":297.845,"s":40,"t":1781622376036,"pt":1781622376029,"q":4938312,"z":3,"trfi":202,"trft":1781622376036,"ds":"40.0"}]"#,
        ],
    );
    compare::<AlpacaFrames>(
        c,
        Venue::Alpaca,
        &["alpaca/alpaca-live.jsonl", "alpaca/alpaca-doc-examples.jsonl"],
        &[
            r#"[{"T":"q","S":"AMD","bx":"K","bp":91.95,"bs":2,"ax":"Q","ap":91.98,"as":1,"c":["R"],"z":"C","t":"2023-04-06T11:54:21.670905508Z"}]"#,
            r#"[{"T":"t","S":"AAPL","i":628,"x":"K","p":162.92,"s":3,"c":["@","F","T","I"],"z":"C","t":"2023-04-06T11:54:26.838232225Z"}]"#,
        ],
    );
    compare::<BinanceFrames>(
        c,
        Venue::Binance,
        &["binance/binance-2021-10-12.ws.txt", "binance/binance-testnet-2026-09-13.jsonl"],
        &[
            r#"{"stream":"btcusdt@trade","data":{"e":"trade","E":1789295134226,"s":"BTCUSDT","t":388510,"p":"76745.19000000","q":"0.00065000","T":1789295134225,"m":false,"M":true}}"#,
            r#"{"stream":"btcusdt@bookTicker","data":{"u":1801512,"s":"BTCUSDT","b":"76745.18000000","B":"8.74206000","a":"76745.19000000","A":"12.06313000"}}"#,
        ],
    );
    compare::<KrakenFrames>(
        c,
        Venue::Kraken,
        &["kraken/kraken-v2-live-samples.jsonl"],
        &[
            r#"{"channel":"trade","type":"update","data":[{"symbol":"BTC/USD","side":"buy","price":77120.0,"qty":0.00048389,"ord_type":"limit","trade_id":105702534,"timestamp":"2026-08-22T17:30:53.355059Z"}]}"#,
        ],
    );
    compare::<FinnhubFrames>(
        c,
        Venue::Finnhub,
        &["finnhub/finnhub-live.jsonl"],
        &[
            r#"{"data":[{"c":null,"p":7296.89,"s":"BINANCE:BTCUSDT","t":1575526691134,"v":0.011467}],"type":"trade"}"#,
            r#"{"data":[{"c":["1","8","12"],"p":133.22,"s":"AAPL","t":1618417965944,"v":13},{"c":["1","12"],"p":133.22,"s":"AAPL","t":1618417965944,"v":87}],"type":"trade"}"#,
        ],
    );
    compare::<OandaFrames>(
        c,
        Venue::Oanda,
        &["oanda/oanda-stream-live.jsonl", "oanda/oanda-stream-2016-reserialised.jsonl"],
        &[
            r#"{"type":"PRICE","time":"2019-01-31T18:16:38.818627106Z","bids":[{"price":"0.72711","liquidity":10000000}],"asks":[{"price":"0.72725","liquidity":10000000}],"closeoutBid":"0.72696","closeoutAsk":"0.72740","status":"tradeable","tradeable":true,"instrument":"USD_CAD"}"#,
        ],
    );
}

criterion_group!(benches, kite, itch, json);
criterion_main!(benches);
