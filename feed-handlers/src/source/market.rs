//! The simulated market: an endless series of Coinbase Exchange `ws-feed` frames, byte for byte in the form in
//! which the venue writes them.
//!
//! Pure: the same seed and the same clock give the same bytes, and nothing is allocated once the buffer has
//! grown. It keeps the venue's promises, so that a gap or a stale quote behind a simulator is always a fault
//! of ours: trade ids are contiguous per product, sequences rise, times never run back, the bid stays below
//! the ask, and `side` is the maker's in a match but the taker's in a ticker.
//!
//! Deliberately absent: books, and any realism of prices beyond a bounded random walk.

use protocol::{Decimal, format_rfc3339};

use super::random::Random;

/// Digits after the point of a size, as the venue has for most products.
const SIZE_SCALE: u8 = 8;

/// Symbols that the simulator knows a likely price of: `(symbol, price in ticks, scale of the tick)`.
pub(super) const KNOWN: [(&str, i64, u8); 10] = [
    ("BTC/USD", 8_342_596, 2),
    ("ETH/USD", 267_160, 2),
    ("SOL/USD", 15_872, 2),
    ("XRP/USD", 24_318, 4),
    ("DOGE/USD", 16_204, 5),
    ("ADA/USD", 5_931, 4),
    ("LTC/USD", 8_417, 2),
    ("LINK/USD", 14_652, 3),
    ("AVAX/USD", 2_148, 2),
    ("ETH/BTC", 3_202, 5),
];

#[derive(Debug)]
struct Product {
    /// As the venue writes it: `BTC-USD`.
    name: Box<str>,
    /// Digits after the point of a price.
    scale: u8,
    /// Where the walk began, in ticks; it stays within half and twice of this.
    open: i64,
    /// In ticks. `open / 2 <= mid <= open * 2`
    mid: i64,
    low: i64,
    high: i64,
    sequence: u64,
    /// Of the latest trade; the product was traded before the simulation began.
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

#[derive(Debug)]
pub(super) struct Market {
    products: Vec<Product>,
    /// `popularity[i]` = share of the messages that go to products `0..=i`; the last is 1.0.
    popularity: Vec<f64>,
    /// Share of trades among the messages; the others are tickers.
    trade_share: f64,
    random: Random,
}

impl Market {
    /// A market of these canonical symbols, the first the most popular: the `i`th gets a share of the messages
    /// that is proportional to `1 / (i + 1)^zipf`. `symbols` is not empty.
    pub(super) fn new(symbols: &[String], trade_share: f64, zipf: f64, seed: u64) -> Market {
        let mut random = Random::seeded(seed);
        let products = symbols.iter().map(|symbol| Product::new(symbol, &mut random)).collect();
        let weights = (1..=symbols.len()).map(|rank| (rank as f64).powf(-zipf));
        let total: f64 = weights.clone().sum();
        let mut popularity: Vec<f64> = weights
            .scan(0.0, |sum, weight| {
                *sum += weight / total;
                Some(*sum)
            })
            .collect();
        // Rounding may leave the sum short of 1, and then a number above it would find no product.
        if let Some(last) = popularity.last_mut() {
            *last = 1.0;
        }
        Market { products, popularity, trade_share, random }
    }

    pub(super) fn products(&self) -> usize {
        self.products.len()
    }

    /// Writes what the venue answers to a subscribe.
    pub(super) fn write_subscriptions(&self, out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(br#"{"type":"subscriptions","channels":["#);
        for (i, channel) in ["ticker", "matches", "heartbeat"].into_iter().enumerate() {
            out.extend_from_slice(if i == 0 { br#"{"name":""# } else { br#",{"name":""# });
            out.extend_from_slice(channel.as_bytes());
            out.extend_from_slice(br#"","product_ids":["#);
            for (j, product) in self.products.iter().enumerate() {
                out.extend_from_slice(if j == 0 { b"\"" } else { b",\"" });
                out.extend_from_slice(product.name.as_bytes());
                out.push(b'"');
            }
            out.extend_from_slice(b"]}");
        }
        out.extend_from_slice(b"]}");
    }

    /// Writes the next `match` or `ticker`, of a product drawn by popularity.
    pub(super) fn write_next(&mut self, now_ns: i64, out: &mut Vec<u8>) {
        let drawn = self.random.unit();
        let index = self.popularity.partition_point(|share| *share <= drawn);
        let is_trade = self.random.unit() < self.trade_share;
        let Some(product) = self.products.get_mut(index) else { return };
        product.tick_clock(now_ns);
        out.clear();
        if is_trade {
            product.trade(&mut self.random);
            product.write_match(&mut self.random, out);
        } else {
            product.drift(&mut self.random);
            product.write_ticker(&mut self.random, out);
        }
    }

    /// Writes the heartbeat of the product at `index`; nothing for an index past the last product.
    pub(super) fn write_heartbeat(&mut self, index: usize, now_ns: i64, out: &mut Vec<u8>) {
        out.clear();
        let Some(product) = self.products.get_mut(index) else { return };
        product.tick_clock(now_ns);
        out.extend_from_slice(br#"{"type":"heartbeat""#);
        number(out, "last_trade_id", product.trade_id);
        text(out, "product_id", &product.name);
        number(out, "sequence", product.sequence);
        product.write_time(out);
        out.push(b'}');
    }
}

impl Product {
    fn new(symbol: &str, random: &mut Random) -> Product {
        let known = KNOWN.iter().find(|(known, ..)| *known == symbol);
        let (open, scale) = match known {
            Some((_, ticks, scale)) => (*ticks, *scale),
            None => (1_000 + random.below(99_000) as i64, 2 + random.below(5) as u8),
        };
        let sequence = 1 + random.below(1_000_000_000);
        Product {
            name: symbol.replace('/', "-").into(),
            scale,
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

    /// The time of the product's next frame: the machine's clock may be set back, the venue's never runs so.
    fn tick_clock(&mut self, now_ns: i64) {
        self.time_ns = self.time_ns.max(now_ns);
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

    fn write_match(&self, random: &mut Random, out: &mut Vec<u8>) {
        out.extend_from_slice(br#"{"type":"match""#);
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
        // `open >= 1000` ticks, so `mid >= 500` and the bid is positive.
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

    /// Writes the time with six digits, as the venue does.
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
    let mut digits = [0u8; 20];
    let mut rest = value;
    let mut at = digits.len();
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
    for nibble in (0..32).rev() {
        if matches!(nibble, 23 | 19 | 15 | 11) {
            out.push(b'-');
        }
        out.push(b"0123456789abcdef"[(bits >> (4 * nibble) & 0xf) as usize]);
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    /// 2026-09-15T12:00:00Z
    const NOON: i64 = 1_789_473_600_000_000_000;

    fn market(trade_share: f64, zipf: f64, seed: u64) -> Market {
        let symbols: Vec<String> = KNOWN.iter().map(|(symbol, ..)| symbol.to_string()).collect();
        Market::new(&symbols, trade_share, zipf, seed)
    }

    fn frames(market: &mut Market, count: usize) -> Vec<String> {
        let mut out = Vec::new();
        (0..count as i64)
            .map(|i| {
                market.write_next(NOON + i * 1_234_567, &mut out);
                String::from_utf8(out.clone()).unwrap()
            })
            .collect()
    }

    /// The text of a value, without its quotes.
    fn value<'a>(frame: &'a str, key: &str) -> &'a str {
        let start = frame.split_once(&format!("\"{key}\":")).expect(key).1;
        start.split([',', '}']).next().unwrap().trim_matches('"')
    }

    /// The same frames for the same seed, for ever; their form is that of recorded frames.
    #[test]
    fn writes_these_bytes() {
        assert_eq!(
            frames(&mut market(1.0, 1.0, 1), 1),
            [
                r#"{"type":"match","trade_id":109048799,"maker_order_id":"3316b851-7edb-49ec-9588-ceb81a667937","taker_order_id":"0f1fd6f5-d7e6-480c-beba-dfa444a52451","side":"buy","size":"0.59530000","price":"2671.59","product_id":"ETH-USD","sequence":184678590,"time":"2026-09-15T12:00:00.000000Z"}"#
            ]
        );
        assert_eq!(
            frames(&mut market(0.0, 1.0, 1), 1),
            [
                r#"{"type":"ticker","sequence":184678590,"product_id":"ETH-USD","price":"2671.60","open_24h":"2671.60","volume_24h":"0.00000000","low_24h":"2671.60","high_24h":"2671.60","volume_30d":"0.00000000","best_bid":"2671.59","best_bid_size":"0.56990000","best_ask":"2671.61","best_ask_size":"0.00062590","side":"buy","time":"2026-09-15T12:00:00.000000Z","trade_id":109048798,"last_size":"0.09868000"}"#
            ]
        );
        let mut out = Vec::new();
        market(0.5, 1.0, 1).write_heartbeat(9, NOON, &mut out);
        assert_eq!(
            std::str::from_utf8(&out).unwrap(),
            r#"{"type":"heartbeat","last_trade_id":79479596,"product_id":"ETH-BTC","sequence":108245078,"time":"2026-09-15T12:00:00.000000Z"}"#
        );
        let market = Market::new(&["BTC/USD".into(), "ETH/USD".into()], 0.5, 1.0, 1);
        market.write_subscriptions(&mut out);
        assert_eq!(
            std::str::from_utf8(&out).unwrap(),
            r#"{"type":"subscriptions","channels":[{"name":"ticker","product_ids":["BTC-USD","ETH-USD"]},{"name":"matches","product_ids":["BTC-USD","ETH-USD"]},{"name":"heartbeat","product_ids":["BTC-USD","ETH-USD"]}]}"#
        );
    }

    #[test]
    fn keeps_the_venues_promises() {
        let mut seen: HashMap<String, (u64, u64, String)> = HashMap::new();
        for frame in frames(&mut market(0.5, 1.0, 2), 20_000) {
            let trade_id: u64 = value(&frame, "trade_id").parse().unwrap();
            let is_trade = value(&frame, "type") == "match";
            let (id, sequence, time) = seen
                .entry(value(&frame, "product_id").into())
                .or_insert_with(|| (trade_id - u64::from(is_trade), 0, String::new()));
            let next: u64 = value(&frame, "sequence").parse().unwrap();
            assert!(next > *sequence, "{frame}");
            *sequence = next;
            assert!(value(&frame, "time") >= time.as_str(), "{frame}");
            *time = value(&frame, "time").into();
            assert_eq!(time.len(), "2026-09-15T12:00:00.000000Z".len());
            if is_trade {
                *id += 1;
                assert!(value(&frame, "size").parse::<f64>().unwrap() > 0.0);
            } else {
                let [bid, ask] = ["best_bid", "best_ask"].map(|key| value(&frame, key).parse::<f64>().unwrap());
                assert!(0.0 < bid && bid < ask, "{frame}");
            }
            assert_eq!(trade_id, *id, "{frame}");
        }
        assert_eq!(seen.len(), KNOWN.len());
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_turn_time() {
        let mut market = Market::new(&["BTC/USD".into()], 1.0, 0.0, 3);
        let mut out = Vec::new();
        market.write_next(NOON, &mut out);
        market.write_next(NOON - 1, &mut out);
        assert_eq!(value(std::str::from_utf8(&out).unwrap(), "time"), "2026-09-15T12:00:00.000000Z");
    }

    #[track_caller]
    fn check_shares(trade_share: f64, zipf: f64, first: f64, last: f64) {
        const FRAMES: usize = 50_000;
        let (mut products, mut trades) = (HashMap::<String, usize>::new(), 0);
        for frame in frames(&mut market(trade_share, zipf, 4), FRAMES) {
            *products.entry(value(&frame, "product_id").into()).or_default() += 1;
            trades += usize::from(value(&frame, "type") == "match");
        }
        // Five standard deviations of a share near 0.5 over this many draws are 0.011.
        let near = |count: usize, share: f64| (count as f64 / FRAMES as f64 - share).abs() < 0.012;
        assert!(near(trades, trade_share), "{trades}");
        assert!(near(products["BTC-USD"], first) && near(products["ETH-BTC"], last), "{products:?}");
    }

    #[test]
    fn popularity_and_trade_share_are_as_asked() {
        check_shares(0.5, 0.0, 0.1, 0.1);
        // The sum of 1/i for 1..=10 is 2.929.
        check_shares(0.25, 1.0, 0.3414, 0.0341);
        check_shares(1.0, 2.0, 0.6453, 0.0065);
    }
}
