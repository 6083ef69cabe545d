//! What the tests of the sources share: a feed with a ring and one reader, who notes every tick.

// Each test file is a crate of its own and uses a part of this.
#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use feed_handlers::dead_letter::DeadLetters;
use feed_handlers::doorbell::{Doorbell, WaitStrategy};
use feed_handlers::feed::{Feed, FeedCounter, FeedCounters, FeedParts, QuoteOrigin, UnknownSymbols};
use feed_handlers::ring::{Polled, Reader, ring};
use feed_handlers::venue::Venue;
use protocol::{InstrumentTable, Side, SourceId, Tick, TickBody};

/// Nothing in these tests takes a tenth of this on an idle machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The reading side of a feed under test.
pub(crate) struct Listener {
    pub(crate) instruments: Arc<InstrumentTable>,
    pub(crate) counters: Arc<FeedCounters>,
    /// Every tick read so far, in order.
    pub(crate) ticks: Vec<Tick>,
    /// Records that the ring overwrote before they were read.
    pub(crate) lost: u64,
    doorbell: Arc<Doorbell>,
    reader: Reader<Tick>,
}

/// A feed of Coinbase Exchange whose ring holds `capacity` ticks, and its only reader.
pub(crate) fn feed_and_listener(capacity: usize) -> (Feed, Listener) {
    feed_of(Venue::Coinbase, capacity, None)
}

/// The same for another venue, with a place for refused frames where there is one.
pub(crate) fn feed_of(venue: Venue, capacity: usize, dead_letters: Option<DeadLetters>) -> (Feed, Listener) {
    feed_with(venue, QuoteOrigin::Quotes, capacity, dead_letters)
}

/// The same with quotes of either origin.
pub(crate) fn feed_with(
    venue: Venue,
    quotes: QuoteOrigin,
    capacity: usize,
    dead_letters: Option<DeadLetters>,
) -> (Feed, Listener) {
    let doorbell = Arc::new(Doorbell::new(WaitStrategy::Park));
    let instruments = Arc::new(InstrumentTable::with_capacity(1_024));
    let counters = Arc::new(FeedCounters::new());
    let publisher = ring(capacity, Arc::clone(&doorbell));
    let reader = publisher.reader();
    let feed = Feed::new(FeedParts {
        source: SourceId(0),
        venue,
        instruments: Arc::clone(&instruments),
        unknown: UnknownSymbols::Learn,
        quotes,
        limits: feed_handlers::validation::Limits::RECORDED,
        quality: feed_handlers::quality::Quality::new(i64::MAX).0,
        publisher,
        counters: Arc::clone(&counters),
        dead_letters,
    });
    (feed, Listener { instruments, counters, ticks: Vec::new(), lost: 0, doorbell, reader })
}

impl Listener {
    /// Reads what is there.
    pub(crate) fn read(&mut self) {
        loop {
            match self.reader.poll() {
                Polled::Record(tick) => self.ticks.push(tick),
                Polled::Lapped { lost } => self.lost += lost,
                Polled::Empty => return,
            }
        }
    }

    /// Reads until `ready`; whatever is published rings the doorbell that this waits for.
    #[track_caller]
    pub(crate) fn read_until(&mut self, what: &str, mut ready: impl FnMut(&Listener) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.read();
            if ready(self) {
                return;
            }
            assert!(Instant::now() < deadline, "not in {PATIENCE:?}: {what}");
            // What does not ring (a counter, a state) is looked at this often.
            self.doorbell.wait(|| self.reader.lag() > 0, Some(Duration::from_millis(1)));
        }
    }

    /// Published and not yet read.
    pub(crate) fn lag(&self) -> u64 {
        self.reader.lag()
    }

    pub(crate) fn count(&self, counter: FeedCounter) -> u64 {
        self.counters.count(counter)
    }

    pub(crate) fn symbol(&self, tick: &Tick) -> String {
        self.instruments.symbol(tick.instrument).to_owned()
    }

    /// The trades read so far, as text with the venue's digits.
    pub(crate) fn trades(&self) -> Vec<TradeText> {
        let trade = |tick: &Tick| match tick.body {
            TickBody::Trade(trade) => Some(TradeText {
                symbol: self.symbol(tick),
                id: trade.id.unwrap(),
                price: trade.price.to_string(),
                size: trade.size.to_string(),
                taker: if trade.taker == Some(Side::Buy) { "buy" } else { "sell" },
            }),
            _ => None,
        };
        self.ticks.iter().filter_map(trade).collect()
    }

    /// That nothing runs backward within an instrument and a kind of tick.
    #[track_caller]
    pub(crate) fn assert_forward(&self) {
        let mut latest = std::collections::HashMap::new();
        for tick in &self.ticks {
            let kind = match tick.body {
                TickBody::Trade(_) | TickBody::Gap { .. } => "trades",
                TickBody::Quote(_) => "quotes",
                TickBody::Bar(bar) => bar.interval().name(),
                TickBody::Heartbeat => "heartbeats",
            };
            let last = latest.insert((tick.instrument, kind), tick.ts_event).unwrap_or(i64::MIN);
            assert!(tick.ts_event >= last, "back in time: {} {tick:?}", self.symbol(tick));
        }
    }
}

/// A trade as a subscriber sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TradeText {
    pub(crate) symbol: String,
    pub(crate) id: u64,
    pub(crate) price: String,
    pub(crate) size: String,
    pub(crate) taker: &'static str,
}

impl TradeText {
    /// Reads a `match` frame with a JSON parser that shares nothing with the decoder; `None` for other frames.
    pub(crate) fn of_frame(frame: &str) -> Option<TradeText> {
        let value: serde_json::Value = serde_json::from_str(frame).ok()?;
        let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
        (value["type"] == "match").then(|| TradeText {
            symbol: text("product_id").replacen('-', "/", 1),
            id: value["trade_id"].as_u64().expect("trade_id"),
            price: text("price"),
            size: text("size"),
            taker: if value["side"] == "sell" { "buy" } else { "sell" },
        })
    }
}

/// The server's frames in a capture, read without the code under test.
pub(crate) fn captured_frames(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).expect("capture");
    let frame = |line: &str| {
        let start = if line.starts_with('{') { 0 } else { line.find(": {").map(|colon| colon + 2)? };
        (!line.contains("://") || line.starts_with(|c: char| c.is_ascii_digit())).then(|| line[start..].to_owned())
    };
    text.lines().filter_map(frame).collect()
}

/// Captures of Coinbase Exchange in the folder that `GATEWAY_CAPTURES` names; none, with a line to say so,
/// where it is not set.
pub(crate) fn captures() -> Vec<PathBuf> {
    let Some(folder) = std::env::var_os("GATEWAY_CAPTURES") else {
        println!("left out: GATEWAY_CAPTURES is not set");
        return Vec::new();
    };
    let folder = Path::new(&folder).join("coinbase");
    ["coinbase-2021-04-17.ws.txt", "coinbase-exchange-live-2026-09-30.jsonl"].map(|name| folder.join(name)).into()
}

/// A file that is removed at the end of its test.
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new(content: &str) -> Scratch {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        // Relaxed: the number need only be another one each time.
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("gateway-source-{}-{n}", std::process::id()));
        std::fs::write(&path, content).expect("temporary file");
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A `match` frame; `at` is its time in ms after 2026-09-30T02:03:00Z, below a minute.
pub(crate) fn match_frame(product: &str, id: u64, at: u64) -> String {
    let (seconds, ms) = (at / 1_000, at % 1_000);
    format!(
        r#"{{"type":"match","trade_id":{id},"maker_order_id":"bc4a4f45-f5f9-42f7-b0e9-2548fb14e550","taker_order_id":"b5d87128-75fa-4642-9a29-e85819dde27b","side":"buy","size":"0.0{id}0","price":"83425.{ms:03}","product_id":"{product}","sequence":{},"time":"2026-09-30T02:03:{seconds:02}.{ms:03}Z"}}"#,
        1_000 + at,
    )
}

/// A `ticker` frame after the trade `id`.
pub(crate) fn ticker_frame(product: &str, id: u64, at: u64) -> String {
    let (seconds, ms) = (at / 1_000, at % 1_000);
    format!(
        r#"{{"type":"ticker","sequence":{},"product_id":"{product}","price":"83425.96","open_24h":"82000.00","volume_24h":"5123.40000000","low_24h":"81000.00","high_24h":"84000.00","volume_30d":"170000.00000000","best_bid":"83425.95","best_bid_size":"0.10000000","best_ask":"83425.{:02}","best_ask_size":"0.25000000","side":"sell","time":"2026-09-30T02:03:{seconds:02}.{ms:03}Z","trade_id":{id},"last_size":"0.01"}}"#,
        1_000 + at,
        96 + at % 4,
    )
}
