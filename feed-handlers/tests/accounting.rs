//! Recorded frames of every venue through the whole feed, as they are and damaged: each is accounted for as ticks, as
//! something left out that has a counter, or as a dead letter, and no price is published that is not in a frame.
//! What exactly is asked stands in `ledger`.
//!
//! The recordings are not part of the repository: `GATEWAY_CAPTURES` names the directory that holds them.

#![cfg(not(loom))]

mod captures;
mod damage;
mod ledger;

use std::path::Path;

use damage::{OF_JSON, damaged_run};
use feed_handlers::decode::framed::Framed;
use feed_handlers::feed::QuoteOrigin;
use feed_handlers::validation::Limits;
use feed_handlers::venue::Venue;
use ledger::Ledger;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use protocol::parse_rfc3339;

/// After every recording.
const RECEIVED: i64 = 2_000_000_000_000_000_000;

const OF_FRAMING: &[u8] = b"\x00\x01\x02\x0c\x13\x1f\x24\x28\x2c\xb8\xffABCDEFPQRSUX";
const OF_FIX: &[u8] = b"\x010123456789=.-XWABY";

/// The recorded frames of a venue, in order.
fn frames(directory: &Path, is_wanted: fn(&str) -> bool) -> Vec<Vec<u8>> {
    let entries = std::fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).collect();
    paths.retain(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(is_wanted));
    paths.sort();
    let mut frames: Vec<Vec<u8>> = paths.iter().flat_map(|path| frames_of(path)).collect();
    frames.retain(|frame| !frame.is_empty());
    assert!(!frames.is_empty(), "{}", directory.display());
    frames
}

/// The frames of a file, whose form its name tells.
fn frames_of(path: &Path) -> Vec<Vec<u8>> {
    let bytes = std::fs::read(path).unwrap();
    let name = path.to_str().unwrap();
    if name.ends_with(".itch") {
        return Framed::new(&bytes).map(|message| message.unwrap().to_vec()).collect();
    }
    if name.ends_with(".packet.bin") {
        // A packet alone: a frame says how many there are, and how long each is.
        return vec![[&[0, 1][..], &(bytes.len() as u16).to_be_bytes(), &bytes].concat()];
    }
    if name.ends_with(".bin") || name.ends_with(".json") {
        return vec![bytes];
    }
    bytes.split(|byte| *byte == b'\n').filter(|line| !line.starts_with(b"wss://")).map(frame_of).collect()
}

/// The frame in a line, without what the recorder put before it.
fn frame_of(line: &[u8]) -> Vec<u8> {
    if let Some(at) = memchr::memmem::find(line, br#""frame": "#) {
        return line[at + 9..].strip_suffix(b"}").unwrap().to_vec();
    }
    let is_bare = matches!(line.first(), Some(b'{' | b'[' | b'8'));
    let start =
        if is_bare { 0 } else { line.iter().position(|byte| matches!(byte, b'{' | b'[')).unwrap_or(line.len()) };
    line[start..].to_vec()
}

/// A venue, and what there is of it.
struct Recorded {
    venue: Venue,
    frames: Vec<Vec<u8>>,
    /// When some of the frames were live.
    live: i64,
    telling: &'static [u8],
}

impl Recorded {
    fn read(venue: Venue, directory: &str, is_wanted: fn(&str) -> bool, live: &str) -> Option<Recorded> {
        let telling = match venue {
            Venue::Kite | Venue::Itch => OF_FRAMING,
            Venue::Fix => OF_FIX,
            _ => OF_JSON,
        };
        let frames = frames(&captures::directory(directory)?, is_wanted);
        Some(Recorded { venue, frames, live: parse_rfc3339(live.as_bytes()).unwrap(), telling })
    }

    /// Plays the frames as they are, of which at least `ticks` come without and with books, then damaged.
    fn check(self, ticks: [u64; 2]) {
        let Recorded { venue, frames, live, telling } = self;
        for (quotes, least) in [QuoteOrigin::Quotes, QuoteOrigin::Books { depth: None }].into_iter().zip(ticks) {
            let mut ledger = Ledger::new(venue, quotes, Limits::RECORDED);
            let published: u64 = frames.iter().map(|frame| ledger.take(frame, RECEIVED).ticks).sum();
            assert!(published >= least, "{venue:?}, {quotes:?}: {published}");
        }
        let books = |depth| QuoteOrigin::Books { depth };
        let origins = proptest::sample::select(vec![QuoteOrigin::Quotes, books(None), books(Some(25))]);
        let config = ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() };
        let strategy = (damaged_run(frames, telling), origins, any::<bool>());
        let result = TestRunner::new(config).run(&strategy, |(run, quotes, is_live)| {
            let (limits, ts_recv) = if is_live { (Limits::LIVE, live) } else { (Limits::RECORDED, RECEIVED) };
            let mut ledger = Ledger::new(venue, quotes, limits);
            for frame in run {
                ledger.take(&frame, ts_recv);
            }
            Ok(())
        });
        result.unwrap_or_else(|error| panic!("{error}"));
    }
}

macro_rules! accounted_for {
    ($($test:ident: $venue:ident, $directory:literal, $is_wanted:expr, $live:literal, $ticks:expr;)*) => {
        $(
            #[test]
            fn $test() {
                let recorded = Recorded::read(Venue::$venue, $directory, $is_wanted, $live);
                recorded.into_iter().for_each(|recorded| recorded.check($ticks));
            }
        )*
    };
}

accounted_for! {
    coinbase: Coinbase, "coinbase", |n| n.contains("2021") && !n.contains("meta") || n.contains("exchange"), "2021-04-17T16:43:40Z", [208, 1879];
    coinbase_advanced: CoinbaseAdvanced, "coinbase", |n| n.contains("advanced"), "2026-09-30T02:03:16Z", [3, 4];
    polygon: Polygon, "polygon", |_| true, "2026-06-16T15:06:17Z", [8, 4];
    alpaca: Alpaca, "alpaca", |_| true, "2023-04-06T11:54:27Z", [6, 4];
    finnhub: Finnhub, "finnhub", |_| true, "2023-02-10T18:54:03Z", [26, 26];
    binance: Binance, "binance", |n| !n.contains("meta"), "2021-10-12T00:28:33Z", [98, 17];
    kraken: Kraken, "kraken", |n| n.starts_with("kraken-v2"), "2026-08-16T23:37:06Z", [3, 6];
    kite: Kite, "kite", |n| n.ends_with(".bin"), "2021-07-05T05:11:28Z", [3, 1];
    oanda: Oanda, "oanda", |_| true, "2016-10-17T12:00:00Z", [12, 0];
    iex_cloud: IexCloud, "iexcloud", |_| true, "2018-06-22T17:37:23Z", [10, 8];
    alpha_vantage: AlphaVantage, "alphavantage", |_| true, "2018-10-05T20:00:00Z", [0, 0];
    fix: Fix, "fix", |_| true, "2024-10-19T05:40:12Z", [3, 4];
    itch: Itch, "itch", |n| n.ends_with(".itch"), "2023-08-22T07:10:00Z", [2445, 2432];
}
