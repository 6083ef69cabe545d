//! Frames of Coinbase's `ws-feed`, and files of other venues: from the recordings that `GATEWAY_CAPTURES` names, or a few
//! frames that were copied from them. Reads files; nothing here is measured.

use std::path::{Path, PathBuf};

/// Most frames of one type that are taken from the recordings: enough that a branch predictor cannot know them by
/// heart, few enough (about 200 KB) to stay in the second-level cache.
const OF_A_TYPE_MAX: usize = 1_000;

/// Where the recordings stand below `GATEWAY_CAPTURES`.
const RECORDINGS: [&str; 2] =
    ["coinbase/coinbase-2021-04-17.ws.txt", "coinbase/coinbase-exchange-live-2026-09-30.jsonl"];

const TICKERS: [&str; 2] = [
    r#"{"type":"ticker","sequence":333938798,"product_id":"BAND-GBP","price":"14.7775","open_24h":"14.6647","volume_24h":"94381.28000000","low_24h":"14.3691","high_24h":"16.55","volume_30d":"2295579.57000000","best_bid":"14.7550","best_ask":"14.8060","side":"buy","time":"2021-04-17T16:43:30.244075Z","trade_id":881613,"last_size":"0.04"}"#,
    r#"{"type":"ticker","sequence":177100030,"product_id":"SKL-BTC","price":"0.00001305","open_24h":"0.00001248","volume_24h":"1403422.00000000","low_24h":"0.00001193","high_24h":"0.00001398","volume_30d":"69413187.60000000","best_bid":"0.00001303","best_ask":"0.00001306","side":"buy","time":"2021-04-17T16:43:37.089723Z","trade_id":280232,"last_size":"985"}"#,
];
const MATCHES: [&str; 2] = [
    r#"{"type":"match","trade_id":280232,"maker_order_id":"2a0da34e-61f7-4c36-88e5-c9dd15927b16","taker_order_id":"3c82abaa-c01e-4608-be59-6a1e69742891","side":"sell","size":"985","price":"0.00001305","product_id":"SKL-BTC","sequence":177100030,"time":"2021-04-17T16:43:37.089723Z"}"#,
    r#"{"type":"match","trade_id":1100243492,"maker_order_id":"bc4a4f45-f5f9-42f7-b0e9-2548fb14e550","taker_order_id":"b5d87128-75fa-4642-9a29-e85819dde27b","side":"buy","size":"0.00000009","price":"83425.96","product_id":"BTC-USD","sequence":136999329371,"time":"2026-09-30T02:03:14.331644Z"}"#,
];
const L2_UPDATES: [&str; 2] = [
    r#"{"type":"l2update","product_id":"SKL-BTC","changes":[["sell","0.00001306","660.5"]],"time":"2021-04-17T16:43:37.075687Z"}"#,
    r#"{"type":"l2update","product_id":"BTC-USD","changes":[["buy","83362.67","0.00000000"],["buy","83353.87","1.05243862"],["buy","83423.53","0.00004104"],["sell","83477.48","0.35118591"],["sell","83483.20","0.00000000"],["sell","83425.97","0.39004000"]],"time":"2026-09-30T02:03:14.348896Z"}"#,
];

/// Frames of the three types that make up nearly all of a session.
#[derive(Debug, Default)]
pub struct Frames {
    pub ticker: Vec<String>,
    pub matches: Vec<String>,
    /// Of one change each, as the venue wrote them before 2022.
    pub l2update: Vec<String>,
    /// Of several changes.
    pub l2_batch: Vec<String>,
    /// Whole books. None among the copied ones.
    pub snapshots: Vec<String>,
}

/// The recordings of these names below `GATEWAY_CAPTURES`; `None` where it is not set.
pub fn recorded(names: &[&str]) -> Option<Vec<PathBuf>> {
    let root = PathBuf::from(std::env::var_os("GATEWAY_CAPTURES")?);
    Some(names.iter().map(|name| root.join(name)).collect())
}

impl Frames {
    /// Those of the recordings where `GATEWAY_CAPTURES` is set, else the copied ones. Says which on standard error.
    ///
    /// # Panics
    /// Where a recording cannot be read.
    pub fn load() -> Frames {
        let Some(root) = std::env::var_os("GATEWAY_CAPTURES") else {
            eprintln!("GATEWAY_CAPTURES names no folder of captures: two copied frames of each type");
            return Frames::copied();
        };
        let mut frames = Frames::default();
        for recording in RECORDINGS {
            let path = Path::new(&root).join(recording);
            let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            // A line of the older recording has the time of its arrival before the frame.
            text.lines().filter_map(|line| line.find('{').map(|at| &line[at..])).for_each(|frame| frames.take(frame));
        }
        let counts = [&frames.ticker, &frames.matches, &frames.l2update, &frames.l2_batch].map(Vec::len);
        let [ticker, matches, single, batch] = counts;
        eprintln!("recorded frames: {ticker} ticker, {matches} match, {single} and {batch} l2update");
        assert!(!counts.contains(&0), "the recordings have frames of each type");
        frames
    }

    /// The copied ones: the same on every machine.
    pub fn copied() -> Frames {
        let mut frames = Frames::default();
        TICKERS.iter().chain(&MATCHES).chain(&L2_UPDATES).for_each(|frame| frames.take(frame));
        frames
    }

    fn take(&mut self, frame: &str) {
        let of_type = |name: &str| frame.strip_prefix(r#"{"type":""#).is_some_and(|rest| rest.starts_with(name));
        let list = if of_type("ticker\"") {
            &mut self.ticker
        } else if of_type("match\"") {
            &mut self.matches
        } else if of_type("l2update\"") && frame.contains("],[") {
            &mut self.l2_batch
        } else if of_type("l2update\"") {
            &mut self.l2update
        } else if of_type("snapshot\"") {
            &mut self.snapshots
        } else {
            return;
        };
        if list.len() < OF_A_TYPE_MAX {
            list.push(frame.to_owned());
        }
    }
}
