//! Every match of a recorded Coinbase session leaves the feed exactly once, in order, with the venue's digits;
//! counted by a parser that shares nothing with the decoder.
//!
//! The recordings are not part of the repository: `GATEWAY_CAPTURES` names the directory that holds them.

#![cfg(not(loom))]

mod real_frames;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use feed_handlers::doorbell::{Doorbell, WaitStrategy};
use feed_handlers::feed::{Feed, FeedCounter, FeedCounters, FeedParts, QuoteOrigin, UnknownSymbols};
use feed_handlers::ring::{Polled, Reader, ring};
use feed_handlers::venue::Venue;
use protocol::{InstrumentTable, SourceId, Tick, TickBody, parse_rfc3339};
use serde_json::Value;

/// A feed with a reader that takes each frame's ticks at once, as text with all their digits.
struct Bench {
    feed: Feed,
    reader: Reader<Tick>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Out {
    symbol: String,
    ts_event: i64,
    what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    Trade { id: u64, price: String, size: String, taker: String },
    Quote { bid: String, bid_size: String, ask: String, ask_size: String },
    Gap { missed: u64 },
    Heartbeat,
}

/// When all frames come, Unix ns: after every recording.
const RECEIVED: i64 = 2_000_000_000_000_000_000;

impl Bench {
    fn new() -> Bench {
        let publisher = ring(8, Arc::new(Doorbell::new(WaitStrategy::Park)));
        let instruments = Arc::new(InstrumentTable::with_capacity(64));
        let counters = Arc::new(FeedCounters::new());
        let mut feed = Feed::new(FeedParts {
            source: SourceId(0),
            venue: Venue::Coinbase,
            instruments,
            unknown: UnknownSymbols::Learn,
            quotes: QuoteOrigin::Quotes,
            limits: feed_handlers::validation::Limits::RECORDED,
            quality: feed_handlers::quality::Quality::new(i64::MAX).0,
            publisher,
            counters,
            dead_letters: None,
        });
        let reader = feed.publisher().reader();
        Bench { feed, reader }
    }

    fn take(&mut self, frame: &str) -> Vec<Out> {
        self.feed.handle_frame(frame.as_bytes(), RECEIVED);
        let mut out = Vec::new();
        loop {
            match self.reader.poll() {
                Polled::Record(tick) => out.push(self.out(&tick)),
                Polled::Empty => return out,
                Polled::Lapped { lost } => panic!("{lost} ticks of one frame were lost"),
            }
        }
    }

    fn take_all<'a>(&mut self, frames: impl IntoIterator<Item = &'a String>) -> Vec<Out> {
        frames.into_iter().flat_map(|frame| self.take(frame)).collect()
    }

    fn out(&self, tick: &Tick) -> Out {
        let what = match tick.body {
            TickBody::Trade(t) => What::Trade {
                id: t.id.expect("the venue numbers its trades"),
                price: t.price.to_string(),
                size: t.size.to_string(),
                taker: format!("{:?}", t.taker.expect("the venue tells it")).to_lowercase(),
            },
            TickBody::Quote(q) => What::Quote {
                bid: q.bid.to_string(),
                bid_size: q.bid_size.to_string(),
                ask: q.ask.to_string(),
                ask_size: q.ask_size.to_string(),
            },
            TickBody::Bar(bar) => panic!("the venue makes none: {bar:?}"),
            TickBody::Gap { missed } => What::Gap { missed },
            TickBody::Heartbeat => What::Heartbeat,
        };
        Out { symbol: self.feed.instruments().symbol(tick.instrument).to_owned(), ts_event: tick.ts_event, what }
    }

    fn count(&self, counter: FeedCounter) -> u64 {
        self.feed.counters().count(counter)
    }
}

/// What the tick of a frame must be, by serde_json.
fn expected_trade(frame: &Value) -> Out {
    let text = |key: &str| frame[key].as_str().unwrap().to_owned();
    // The venue tells the maker's side.
    let taker = match frame["side"].as_str().unwrap() {
        "buy" => "sell",
        "sell" => "buy",
        other => panic!("side {other}"),
    };
    Out {
        symbol: text("product_id").replace('-', "/"),
        ts_event: parse_rfc3339(text("time").as_bytes()).unwrap(),
        what: What::Trade {
            id: frame["trade_id"].as_u64().unwrap(),
            price: text("price"),
            size: text("size"),
            taker: taker.into(),
        },
    }
}

fn expected_quote(frame: &Value) -> Out {
    let text = |key: &str| frame[key].as_str().unwrap().to_owned();
    let size = |key: &str| frame[key].as_str().unwrap_or("0").to_owned();
    Out {
        symbol: text("product_id").replace('-', "/"),
        ts_event: parse_rfc3339(text("time").as_bytes()).unwrap(),
        what: What::Quote {
            bid: text("best_bid"),
            bid_size: size("best_bid_size"),
            ask: text("best_ask"),
            ask_size: size("best_ask_size"),
        },
    }
}

/// The directory of the Coinbase captures, or `None`, said aloud, where there is none.
fn captures() -> Option<PathBuf> {
    let Some(root) = std::env::var_os("GATEWAY_CAPTURES") else {
        println!("left out: GATEWAY_CAPTURES names no directory of captures");
        return None;
    };
    Some(Path::new(&root).join("coinbase"))
}

/// The server's frames of a capture, in order.
fn frames(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    let is_timed = path.to_str().unwrap().ends_with(".ws.txt");
    text.lines()
        .filter(|line| !line.is_empty() && !line.starts_with("wss://"))
        .map(|line| if is_timed { line.split_once(": ").unwrap().1 } else { line })
        .map(str::to_owned)
        .collect()
}

fn kind(frame: &str) -> String {
    let frame: Value = serde_json::from_str(frame).unwrap();
    frame["type"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn every_match_of_every_capture_comes_once_in_order_with_its_digits() {
    let Some(directory) = captures() else { return };
    let mut matches_in_all = 0;
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let is_feed = (name.ends_with(".ws.txt") || name.ends_with(".jsonl")) && !name.contains("advanced");
        if !is_feed {
            continue;
        }
        let frames = frames(&path);
        let parsed: Vec<Value> = frames.iter().map(|frame| serde_json::from_str(frame).unwrap()).collect();
        let of_type = |kind: &str| parsed.iter().filter(|frame| frame["type"] == kind).collect::<Vec<_>>();

        let mut bench = Bench::new();
        let out = bench.take_all(&frames);
        let is_trade = |out: &&Out| matches!(out.what, What::Trade { .. });
        let is_quote = |out: &&Out| matches!(out.what, What::Quote { .. });
        let trades: Vec<Out> = out.iter().filter(is_trade).cloned().collect();
        let quotes: Vec<Out> = out.iter().filter(is_quote).cloned().collect();
        let matches: Vec<Out> = of_type("match").into_iter().map(expected_trade).collect();
        assert_eq!(trades, matches, "{name}");
        assert_eq!(quotes, of_type("ticker").into_iter().map(expected_quote).collect::<Vec<_>>(), "{name}");
        assert_eq!(out.len(), trades.len() + quotes.len(), "{name}: a gap or a heartbeat of no frame");
        let levels = |frame: &&Value| {
            ["changes", "bids", "asks"].iter().filter_map(|key| frame[key].as_array()).map(Vec::len).sum::<usize>()
        };
        let level_count: usize = parsed.iter().map(|frame| levels(&frame)).sum();
        assert_eq!(bench.count(FeedCounter::BookLevels), level_count as u64, "{name}");
        assert_eq!(bench.count(FeedCounter::Frames), frames.len() as u64, "{name}");
        assert_eq!(bench.count(FeedCounter::Bytes), frames.iter().map(|f| f.len() as u64).sum::<u64>(), "{name}");
        matches_in_all += matches.len();
        println!("{name}: {} frames, {} matches, {level_count} levels", frames.len(), matches.len());
    }
    assert!(matches_in_all >= 97 + 4, "the captures are not where they should be");
}

#[test]
fn the_recording_of_2021_counts_as_published() {
    let Some(directory) = captures() else { return };
    let frames = frames(&directory.join("coinbase-2021-04-17.ws.txt"));
    let mut kinds: BTreeMap<String, u64> = BTreeMap::new();
    for frame in &frames {
        *kinds.entry(kind(frame)).or_default() += 1;
    }
    let counted = kinds.iter().map(|(kind, count)| (kind.as_str(), *count)).collect::<Vec<_>>();
    let published = [
        ("l2update", 9719),
        ("last_match", 10),
        ("match", 97),
        ("snapshot", 10),
        ("subscriptions", 3),
        ("ticker", 107),
    ];
    assert_eq!(counted, published);

    let mut bench = Bench::new();
    bench.take_all(&frames);
    let snapshot_levels: usize = frames
        .iter()
        .filter(|frame| kind(frame) == "snapshot")
        .map(|frame| serde_json::from_str::<Value>(frame).unwrap())
        .map(|frame| frame["bids"].as_array().unwrap().len() + frame["asks"].as_array().unwrap().len())
        .sum();
    for counter in FeedCounter::iter().filter(|counter| *counter != FeedCounter::Bytes) {
        let expected = match counter {
            FeedCounter::Frames => 9946,
            FeedCounter::Trades => 97,
            FeedCounter::Quotes => 107,
            FeedCounter::OldState => 10,
            FeedCounter::BookSnapshots => 10,
            FeedCounter::BookLevels => 9719 + snapshot_levels as u64,
            FeedCounter::Subscriptions => 3,
            // Nothing in it is malformed, repeated, missing or old.
            _ => 0,
        };
        assert_eq!(bench.count(counter), expected, "{counter:?}");
    }
}

#[test]
fn laps_of_a_capture_are_one_endless_session() {
    let Some(directory) = captures() else { return };
    let frames = frames(&directory.join("coinbase-2021-04-17.ws.txt"));
    let mut bench = Bench::new();
    let mut latest: BTreeMap<String, (u64, i64)> = BTreeMap::new();
    for lap in 1..=3 {
        let out = bench.take_all(&frames);
        assert_eq!(out.len(), 97 + 107, "lap {lap}");
        for Out { symbol, ts_event, what } in out {
            let What::Trade { id, .. } = what else { continue };
            if let Some((last, time)) = latest.insert(symbol.clone(), (id, ts_event)) {
                assert_eq!(id, last + 1, "{symbol} in lap {lap}");
                assert!(ts_event >= time, "{symbol} in lap {lap}");
            }
        }
        bench.feed.start_lap();
    }
    assert_eq!(bench.count(FeedCounter::Gaps) + bench.count(FeedCounter::Duplicates), 0);
}

/// Twenty times the line is cut, some frames pass unseen, and the venue begins anew with the last match and
/// ticker of each product, as it does.
#[test]
fn a_line_cut_twenty_times_repeats_nothing_and_announces_what_is_missing() {
    let Some(directory) = captures() else { return };
    let frames = frames(&directory.join("coinbase-2021-04-17.ws.txt"));
    // Without the books, so that the cuts fall among the trades; opened by the last matches and first tickers.
    let frames: Vec<(Value, String)> = frames
        .into_iter()
        .map(|frame| (serde_json::from_str::<Value>(&frame).unwrap(), frame))
        .filter(|(value, _)| ["match", "last_match", "ticker"].contains(&value["type"].as_str().unwrap()))
        .collect();
    let products: BTreeSet<&str> = frames.iter().map(|(value, _)| value["product_id"].as_str().unwrap()).collect();
    let every = frames.len() / 21;

    let mut bench = Bench::new();
    let mut out = Vec::new();
    let mut cuts = 0;
    for (at, (_, frame)) in frames.iter().enumerate() {
        let in_cycle = at % every;
        // The first frames of each cycle but the first pass unseen, a different number each time.
        let unseen = (cuts * 3 + 1) % every;
        if at >= every && cuts < 20 && in_cycle == 0 {
            bench.feed.connection_lost();
            cuts += 1;
        }
        let unseen = if cuts == 0 { 0 } else { unseen };
        if in_cycle < unseen && at < every * 21 {
            if in_cycle + 1 == unseen {
                for product in &products {
                    let seen = || frames[..=at].iter().rev().filter(|(value, _)| value["product_id"] == **product);
                    if let Some((_, ticker)) = seen().find(|(value, _)| value["type"] == "ticker") {
                        out.extend(bench.take(ticker));
                    }
                    if let Some((_, last)) = seen().find(|(value, _)| value["type"] != "ticker") {
                        let last = last.replace(r#""type":"match""#, r#""type":"last_match""#);
                        let told = bench.take(&last);
                        assert!(told.iter().all(|out| matches!(out.what, What::Gap { .. })), "{told:?}");
                        out.extend(told);
                    }
                }
            }
            continue;
        }
        out.extend(bench.take(frame));
    }
    assert_eq!(cuts, 20);

    let expected: Vec<Out> =
        frames.iter().filter(|(value, _)| value["type"] == "match").map(|(value, _)| expected_trade(value)).collect();
    for product in &products {
        let symbol = product.replace('-', "/");
        let of_product = |out: &&Out| out.symbol == symbol;
        let mut due = expected.iter().filter(of_product);
        // Trades and gaps together account for every match of the capture, each once and in order.
        for Out { what, ts_event, .. } in out.iter().filter(of_product) {
            match what {
                What::Trade { .. } => {
                    assert_eq!(due.next().map(|out| (&out.what, out.ts_event)), Some((what, *ts_event)), "{symbol}");
                }
                What::Gap { missed } => {
                    for _ in 0..*missed {
                        assert!(due.next().is_some_and(|out| out.ts_event <= *ts_event), "{symbol}");
                    }
                }
                _ => {}
            }
        }
        assert_eq!(due.next(), None, "{symbol}");
        let times = |is_quote: bool| {
            let chosen = move |out: &&Out| matches!(out.what, What::Quote { .. }) == is_quote;
            out.iter().filter(of_product).filter(chosen).map(|out| out.ts_event).collect::<Vec<_>>()
        };
        assert!(times(true).is_sorted() && times(false).is_sorted(), "{symbol}: time goes back");
    }
    assert!(bench.count(FeedCounter::TradesMissed) > 0, "no cut hit a trade");
    assert_eq!(bench.count(FeedCounter::Duplicates), 0);
}

#[test]
fn real_frames_become_their_ticks() {
    #[track_caller]
    fn check(frame: &str, symbol: &str, time: &str, expected: Option<What>) {
        let ts_event = parse_rfc3339(time.as_bytes()).unwrap();
        let expected: Vec<Out> =
            expected.into_iter().map(|what| Out { symbol: symbol.into(), ts_event, what }).collect();
        assert_eq!(Bench::new().take(frame), expected, "{frame}");
    }
    let trade = |id, price: &str, size: &str, taker: &str| {
        Some(What::Trade { id, price: price.into(), size: size.into(), taker: taker.into() })
    };
    let quote = |bid: &str, bid_size: &str, ask: &str, ask_size: &str| {
        let [bid, bid_size, ask, ask_size] = [bid, bid_size, ask, ask_size].map(str::to_owned);
        Some(What::Quote { bid, bid_size, ask, ask_size })
    };
    use real_frames::*;
    check(SKL_MATCH, "SKL/BTC", "2021-04-17T16:43:37.089723Z", trade(280_232, "0.00001305", "985", "buy"));
    check(BTC_MATCH, "BTC/USD", "2026-09-30T02:03:14.331644Z", trade(1_100_243_492, "83425.96", "0.00000009", "sell"));
    check(BAND_TICKER, "BAND/GBP", "2021-04-17T16:43:30.244075Z", quote("14.7550", "0", "14.8060", "0"));
    check(BTC_HEARTBEAT, "BTC/USD", "2026-09-15T11:01:54.000000Z", Some(What::Heartbeat));
    for frame in [BAND_LAST_MATCH, SKL_LEVEL, BTC_LEVELS, BAND_SNAPSHOT, SUBSCRIPTIONS] {
        check(frame, "", "1970-01-01T00:00:00Z", None);
    }
}
