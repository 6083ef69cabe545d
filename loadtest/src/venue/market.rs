//! The venue's market: an endless series of Coinbase Exchange `ws-feed` frames, in the form in which the venue writes
//! them, each a complete WebSocket frame.
//!
//! Pure; the venue's thread owns it. The same seed and the same times give the same bytes, and nothing is allocated
//! once the buffer has grown. It keeps the venue's promises, so that a gap behind it is always a fault of the
//! gateway: trade ids are contiguous for each product, sequences rise, times never run back, the bid stays below the
//! ask, and `side` is the maker's in a match but the taker's in a ticker.
//!
//! Deliberately absent: books, and any realism of prices beyond a bounded random walk. The gateway's simulator has a
//! market much like this; it is not shared, because this program knows of the gateway nothing but its protocol.

use protocol::frame::{Opcode, encode_frame_with};
use protocol::{Decimal, format_rfc3339};

use super::Popularity;
use crate::random::Random;

/// Digits behind the point of a size, as the venue has for most products.
const SIZE_SCALE: u8 = 8;

/// Which of the venue's channels a frame belongs to; bits, so that a line can hold what it wants in a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Channel {
    Ticker = 1,
    Matches = 2,
    Heartbeat = 4,
}

impl Channel {
    pub(super) const ALL: [Channel; 3] = [Channel::Ticker, Channel::Matches, Channel::Heartbeat];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Channel::Ticker => "ticker",
            Channel::Matches => "matches",
            Channel::Heartbeat => "heartbeat",
        }
    }

    pub(super) fn from_name(name: &str) -> Option<Channel> {
        Self::ALL.into_iter().find(|channel| channel.name() == name)
    }
}

#[derive(Debug)]
struct Product {
    /// As the venue writes it: `BTC-USD`.
    name: Box<str>,
    /// Digits behind the point of a price.
    scale: u8,
    /// Where the walk began, in ticks; it stays within half and twice of this. `open >= 1000`
    open: i64,
    /// In ticks. `open / 2 <= mid <= open * 2`
    mid: i64,
    low: i64,
    high: i64,
    sequence: u64,
    /// Of the latest trade; the product was traded before the venue was started.
    trade_id: u64,
    last_price: i64,
    /// Mantissa at `SIZE_SCALE`.
    last_size: i64,
    taker_buys: bool,
    /// Sum of all sizes, mantissa at `SIZE_SCALE`.
    volume: i64,
    /// Time of the latest frame, Unix ns.
    time_ns: i64,
}

/// Every product, and who is next.
#[derive(Debug)]
pub(super) struct Market {
    products: Vec<Product>,
    choice: Choice,
    /// Share of matches among the frames; the others are tickers.
    trade_share: f64,
    random: Random,
}

#[derive(Debug)]
enum Choice {
    /// `shares[i]` = share of the frames that go to products `0..=i`; the last is 1.0.
    Drawn {
        shares: Vec<f64>,
    },
    InTurn {
        next: usize,
    },
}

impl Market {
    /// A market of these products (`BTC-USD`), of which there is at least one, the most popular first.
    pub(super) fn new(products: &[String], trade_share: f64, popularity: Popularity, seed: u64) -> Market {
        let mut random = Random::seeded(seed);
        let choice = match popularity {
            Popularity::RoundRobin => Choice::InTurn { next: 0 },
            Popularity::Zipf(exponent) => Choice::Drawn { shares: shares(products.len(), exponent) },
        };
        Market {
            products: products.iter().map(|name| Product::new(name, &mut random)).collect(),
            choice,
            trade_share,
            random,
        }
    }

    pub(super) fn products(&self) -> usize {
        self.products.len()
    }

    pub(super) fn name(&self, product: usize) -> &str {
        self.products.get(product).map_or("", |product| &product.name)
    }

    pub(super) fn find(&self, name: &str) -> Option<usize> {
        self.products.iter().position(|product| *product.name == *name)
    }

    pub(super) fn set_trade_share(&mut self, share: f64) {
        self.trade_share = share;
    }

    /// Appends the next frame, whose time is `time_ns` (Unix ns); returns its product and channel.
    pub(super) fn write_next(&mut self, time_ns: i64, out: &mut Vec<u8>) -> (usize, Channel) {
        let index = match &mut self.choice {
            Choice::InTurn { next } => {
                let index = *next;
                *next = (index + 1) % self.products.len();
                index
            }
            Choice::Drawn { shares } => {
                let drawn = self.random.unit();
                shares.partition_point(|share| *share <= drawn)
            }
        };
        let is_trade = self.random.unit() < self.trade_share;
        let product = &mut self.products[index];
        product.time_ns = product.time_ns.max(time_ns);
        let random = &mut self.random;
        if is_trade {
            product.trade(random);
            encode_frame_with(Opcode::Text, out, |out| product.write_match("match", random, out));
            (index, Channel::Matches)
        } else {
            product.drift(random);
            encode_frame_with(Opcode::Text, out, |out| product.write_ticker(random, out));
            (index, Channel::Ticker)
        }
    }

    /// Appends the heartbeat of a product.
    pub(super) fn write_heartbeat(&mut self, index: usize, time_ns: i64, out: &mut Vec<u8>) {
        let product = &mut self.products[index];
        product.time_ns = product.time_ns.max(time_ns);
        encode_frame_with(Opcode::Text, out, |out| {
            out.extend_from_slice(br#"{"type":"heartbeat""#);
            number(out, "last_trade_id", product.trade_id);
            text(out, "product_id", &product.name);
            number(out, "sequence", product.sequence);
            product.write_time(out);
            out.push(b'}');
        });
    }

    /// Appends what the venue says first about a product that was subscribed: how things stand.
    pub(super) fn write_state(&mut self, index: usize, channel: Channel, time_ns: i64, out: &mut Vec<u8>) {
        let (product, random) = (&mut self.products[index], &mut self.random);
        product.time_ns = product.time_ns.max(time_ns);
        match channel {
            Channel::Matches => {
                encode_frame_with(Opcode::Text, out, |out| product.write_match("last_match", random, out));
            }
            Channel::Ticker => encode_frame_with(Opcode::Text, out, |out| product.write_ticker(random, out)),
            Channel::Heartbeat => {}
        }
    }
}

/// Cumulated shares of so many products, of which the `i`th gets one proportional to `1 / i^exponent`.
fn shares(count: usize, exponent: f64) -> Vec<f64> {
    let weights = (1..=count).map(|rank| (rank as f64).powf(-exponent));
    let total: f64 = weights.clone().sum();
    let mut sum = 0.0;
    let mut shares: Vec<f64> = weights
        .map(|weight| {
            sum += weight / total;
            sum
        })
        .collect();
    // Rounding may leave the sum short of 1, and then a number above it would find no product.
    if let Some(last) = shares.last_mut() {
        *last = 1.0;
    }
    shares
}

impl Product {
    fn new(name: &str, random: &mut Random) -> Product {
        let open = 1_000 + random.below(99_000) as i64;
        let sequence = 1 + random.below(1_000_000_000);
        Product {
            name: name.into(),
            scale: 2 + random.below(5) as u8,
            open,
            mid: open,
            low: open,
            high: open,
            sequence,
            trade_id: 1 + random.below(sequence),
            last_price: open,
            last_size: size(random),
            taker_buys: true,
            volume: 0,
            time_ns: i64::MIN,
        }
    }

    /// One step of the walk: a tick up, a tick down, or none; turned back at its bounds.
    fn drift(&mut self, random: &mut Random) {
        let step = random.below(3) as i64 - 1;
        self.mid = (self.mid + step).clamp(self.open / 2, self.open * 2);
        // The venue's numbers rise by what happened in the book in between too, which is not sent here.
        self.sequence += 1 + random.below(20);
    }

    fn trade(&mut self, random: &mut Random) {
        self.drift(random);
        self.trade_id += 1;
        self.taker_buys = random.below(2) == 0;
        self.last_price = if self.taker_buys { self.mid + 1 } else { self.mid - 1 };
        self.last_size = size(random);
        self.low = self.low.min(self.last_price);
        self.high = self.high.max(self.last_price);
        self.volume = self.volume.saturating_add(self.last_size);
    }

    fn write_match(&self, kind: &str, random: &mut Random, out: &mut Vec<u8>) {
        for part in ["{\"type\":\"", kind, "\""] {
            out.extend_from_slice(part.as_bytes());
        }
        number(out, "trade_id", self.trade_id);
        order_id(out, "maker_order_id", random);
        order_id(out, "taker_order_id", random);
        text(out, "side", if self.taker_buys { "sell" } else { "buy" });
        decimal(out, "size", self.last_size, SIZE_SCALE);
        decimal(out, "price", self.last_price, self.scale);
        text(out, "product_id", &self.name);
        number(out, "sequence", self.sequence);
        self.write_time(out);
        out.push(b'}');
    }

    fn write_ticker(&self, random: &mut Random, out: &mut Vec<u8>) {
        out.extend_from_slice(br#"{"type":"ticker""#);
        number(out, "sequence", self.sequence);
        text(out, "product_id", &self.name);
        decimal(out, "price", self.last_price, self.scale);
        decimal(out, "open_24h", self.open, self.scale);
        decimal(out, "volume_24h", self.volume, SIZE_SCALE);
        decimal(out, "low_24h", self.low, self.scale);
        decimal(out, "high_24h", self.high, self.scale);
        decimal(out, "volume_30d", self.volume, SIZE_SCALE);
        // `mid >= open / 2 >= 500`, so the bid is positive.
        decimal(out, "best_bid", self.mid - 1, self.scale);
        decimal(out, "best_bid_size", size(random), SIZE_SCALE);
        decimal(out, "best_ask", self.mid + 1, self.scale);
        decimal(out, "best_ask_size", size(random), SIZE_SCALE);
        text(out, "side", if self.taker_buys { "buy" } else { "sell" });
        self.write_time(out);
        number(out, "trade_id", self.trade_id);
        decimal(out, "last_size", self.last_size, SIZE_SCALE);
        out.push(b'}');
    }

    /// Writes the time with six digits, as the venue does; what is below a microsecond is cut off.
    fn write_time(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b",\"time\":\"");
        let start = out.len();
        format_rfc3339(self.time_ns - self.time_ns.rem_euclid(1_000), out);
        out.pop();
        // `2021-04-17T16:43:37` is 19 bytes; the formatter leaves trailing zeros out, and the point with them.
        if out.len() - start == 19 {
            out.push(b'.');
        }
        out.resize(start + 26, b'0');
        out.extend_from_slice(b"Z\"");
    }
}

/// A size above 0 and below 100, as a mantissa at `SIZE_SCALE`: each order of magnitude as likely as the next.
fn size(random: &mut Random) -> i64 {
    (1 + random.below(9_999) as i64) * 10i64.pow(random.below(7) as u32)
}

fn text(out: &mut Vec<u8>, key: &str, value: &str) {
    for part in [",\"", key, "\":\"", value, "\""] {
        out.extend_from_slice(part.as_bytes());
    }
}

fn number(out: &mut Vec<u8>, key: &str, value: u64) {
    for part in [",\"", key, "\":"] {
        out.extend_from_slice(part.as_bytes());
    }
    // 20 digits hold the largest value.
    let mut digits = [0u8; 20];
    let (mut rest, mut at) = (value, digits.len());
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

fn decimal(out: &mut Vec<u8>, key: &str, mantissa: i64, scale: u8) {
    for part in [",\"", key, "\":\""] {
        out.extend_from_slice(part.as_bytes());
    }
    Decimal::new(mantissa, scale).unwrap_or_default().write_to(out);
    out.push(b'"');
}

/// Writes a random version 4 UUID.
fn order_id(out: &mut Vec<u8>, key: &str, random: &mut Random) {
    for part in [",\"", key, "\":\""] {
        out.extend_from_slice(part.as_bytes());
    }
    let bits = u128::from(random.next_u64()) << 64 | u128::from(random.next_u64());
    let bits = bits & !(0xf << 76) & !(0b11 << 62) | 4 << 76 | 0b10 << 62;
    let mut digits = *b"00000000-0000-0000-0000-000000000000";
    let mut rest = bits;
    for digit in digits.iter_mut().rev().filter(|digit| **digit != b'-') {
        *digit = b"0123456789abcdef"[(rest & 0xf) as usize];
        rest >>= 4;
    }
    out.extend_from_slice(&digits);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use protocol::frame::server_frame;
    use protocol::{frame, parse_rfc3339};
    use serde_json::Value;

    use super::*;

    /// 2026-09-15T12:00:00Z
    const NOON: i64 = 1_789_473_600_000_000_000;

    fn market(trade_share: f64, popularity: Popularity, seed: u64) -> Market {
        let products: Vec<String> = (1..=10).map(|n| format!("P{n}-USD")).collect();
        Market::new(&products, trade_share, popularity, seed)
    }

    /// The JSON of so many frames, 1,234,567 ns apart.
    fn frames(market: &mut Market, count: i64) -> Vec<Value> {
        let mut out = Vec::new();
        for i in 0..count {
            market.write_next(NOON + i * 1_234_567, &mut out);
        }
        payloads(&out)
    }

    fn payloads(mut bytes: &[u8]) -> Vec<Value> {
        let mut payloads = Vec::new();
        while let Some(len) = frame::frame_len(bytes) {
            let (opcode, payload) = server_frame(bytes).unwrap();
            assert_eq!(opcode, Opcode::Text);
            payloads.push(serde_json::from_slice(payload).unwrap());
            bytes = &bytes[len..];
        }
        assert!(bytes.is_empty());
        payloads
    }

    fn float(frame: &Value, key: &str) -> f64 {
        frame[key].as_str().unwrap().parse().unwrap()
    }

    /// The form of frames that were recorded at the venue.
    #[test]
    fn writes_frames_in_the_venues_form() {
        let mut out = Vec::new();
        market(1.0, Popularity::Zipf(1.0), 1).write_next(NOON + 1_000, &mut out);
        let (_, payload) = server_frame(&out).unwrap();
        let written = String::from_utf8(payload.to_vec()).unwrap();
        // Of what is random, the digits.
        let shape: String = written.chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect();
        assert!(shape.starts_with(r#"{"type":"match","trade_id":9"#), "{written}");
        assert!(written.ends_with(r#","time":"2026-09-15T12:00:00.000001Z"}"#), "{written}");
        let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
        assert_eq!(
            keys(&payloads(&out)[0]),
            "maker_order_id price product_id sequence side size taker_order_id time trade_id type"
        );
        out.clear();
        let mut quotes = market(0.0, Popularity::Zipf(1.0), 1);
        quotes.write_next(NOON, &mut out);
        assert_eq!(
            keys(&payloads(&out)[0]),
            "best_ask best_ask_size best_bid best_bid_size high_24h last_size low_24h open_24h price product_id \
             sequence side time trade_id type volume_24h volume_30d"
        );
        out.clear();
        quotes.write_heartbeat(3, NOON, &mut out);
        assert_eq!(keys(&payloads(&out)[0]), "last_trade_id product_id sequence time type");
        assert_eq!(payloads(&out)[0]["product_id"], "P4-USD");
    }

    #[test]
    fn the_same_seed_writes_the_same_bytes() {
        let written = |seed| {
            let (mut market, mut out) = (market(0.5, Popularity::Zipf(1.0), seed), Vec::new());
            for i in 0..100 {
                market.write_next(NOON + i, &mut out);
            }
            out
        };
        assert_eq!(written(7), written(7));
        assert_ne!(written(7), written(8));
    }

    #[test]
    fn keeps_the_venues_promises() {
        let mut market = market(0.5, Popularity::Zipf(1.0), 2);
        let mut seen: HashMap<String, (u64, u64, i64)> = HashMap::new();
        for (index, product) in (0..market.products()).map(|n| (n, market.name(n).to_owned())).collect::<Vec<_>>() {
            let mut out = Vec::new();
            market.write_state(index, Channel::Matches, NOON, &mut out);
            let state = &payloads(&out)[0];
            assert_eq!(state["type"], "last_match");
            seen.insert(product, (state["trade_id"].as_u64().unwrap(), 0, NOON));
        }
        for frame in frames(&mut market, 20_000) {
            let (id, sequence, time) = seen.get_mut(frame["product_id"].as_str().unwrap()).unwrap();
            let next = frame["sequence"].as_u64().unwrap();
            assert!(next > *sequence, "{frame}");
            *sequence = next;
            let at = parse_rfc3339(frame["time"].as_str().unwrap().as_bytes()).unwrap();
            assert!(at >= *time && frame["time"].as_str().unwrap().len() == 27, "{frame}");
            *time = at;
            if frame["type"] == "match" {
                *id += 1;
                assert!(float(&frame, "size") > 0.0 && float(&frame, "price") > 0.0, "{frame}");
            } else {
                assert!(0.0 < float(&frame, "best_bid") && float(&frame, "best_bid") < float(&frame, "best_ask"));
            }
            assert_eq!(frame["trade_id"], *id, "{frame}");
        }
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_turn_time() {
        let (mut market, mut out) = (Market::new(&["BTC-USD".into()], 1.0, Popularity::RoundRobin, 3), Vec::new());
        market.write_next(NOON, &mut out);
        market.write_next(NOON - 1, &mut out);
        assert_eq!(payloads(&out)[1]["time"], "2026-09-15T12:00:00.000000Z");
    }

    #[track_caller]
    fn check_shares(trade_share: f64, popularity: Popularity, first: f64, last: f64) {
        const FRAMES: i64 = 50_000;
        let (mut products, mut trades) = (HashMap::<String, usize>::new(), 0);
        for frame in frames(&mut market(trade_share, popularity, 4), FRAMES) {
            *products.entry(frame["product_id"].as_str().unwrap().into()).or_default() += 1;
            trades += usize::from(frame["type"] == "match");
        }
        // Five standard deviations of a share near 0.5 over this many draws are 0.011.
        let near = |count: usize, share: f64| (count as f64 / FRAMES as f64 - share).abs() < 0.012;
        assert!(near(trades, trade_share), "{trades}");
        assert!(near(products["P1-USD"], first) && near(products["P10-USD"], last), "{products:?}");
    }

    #[test]
    fn popularity_and_trade_share_are_as_asked() {
        check_shares(0.5, Popularity::Zipf(0.0), 0.1, 0.1);
        // The sum of 1/i for 1..=10 is 2.929.
        check_shares(0.25, Popularity::Zipf(1.0), 0.3414, 0.0341);
        check_shares(1.0, Popularity::Zipf(2.0), 0.6453, 0.0065);
        check_shares(0.0, Popularity::RoundRobin, 0.1, 0.1);
    }

    #[test]
    fn order_ids_are_uuids() {
        let (mut out, mut random) = (Vec::new(), Random::seeded(5));
        for _ in 0..100 {
            out.clear();
            order_id(&mut out, "id", &mut random);
            let id = std::str::from_utf8(&out).unwrap().strip_prefix(",\"id\":\"").unwrap().strip_suffix('"').unwrap();
            let parts: Vec<usize> = id.split('-').map(str::len).collect();
            assert_eq!(parts, [8, 4, 4, 4, 12], "{id}");
            assert!(id.as_bytes()[14] == b'4' && b"89ab".contains(&id.as_bytes()[19]), "{id}");
        }
    }
}
