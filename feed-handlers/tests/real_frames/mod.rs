//! Frames of Coinbase's `ws-feed` as it sent them in 2021 and 2026, one of each kind and each oddity, for the
//! tests that must run where no captures are.

// Each test takes those it needs.
#![allow(dead_code)]

pub(crate) const SKL_MATCH: &str = r#"{"type":"match","trade_id":280232,"maker_order_id":"2a0da34e-61f7-4c36-88e5-c9dd15927b16","taker_order_id":"3c82abaa-c01e-4608-be59-6a1e69742891","side":"sell","size":"985","price":"0.00001305","product_id":"SKL-BTC","sequence":177100030,"time":"2021-04-17T16:43:37.089723Z"}"#;
pub(crate) const BTC_MATCH: &str = r#"{"type":"match","trade_id":1100243492,"maker_order_id":"bc4a4f45-f5f9-42f7-b0e9-2548fb14e550","taker_order_id":"b5d87128-75fa-4642-9a29-e85819dde27b","side":"buy","size":"0.00000009","price":"83425.96","product_id":"BTC-USD","sequence":136999329371,"time":"2026-09-30T02:03:14.331644Z"}"#;
pub(crate) const BAND_LAST_MATCH: &str = r#"{"type":"last_match","trade_id":881613,"maker_order_id":"27fff20b-af29-4f45-8744-56dd1ef57dc0","taker_order_id":"1da6ce16-c8da-4732-9f71-6049f4c6aaf8","side":"sell","size":"0.04","price":"14.7775","product_id":"BAND-GBP","sequence":333938798,"time":"2021-04-17T16:43:30.244075Z"}"#;
pub(crate) const BAND_TICKER: &str = r#"{"type":"ticker","sequence":333938798,"product_id":"BAND-GBP","price":"14.7775","open_24h":"14.6647","volume_24h":"94381.28000000","low_24h":"14.3691","high_24h":"16.55","volume_30d":"2295579.57000000","best_bid":"14.7550","best_ask":"14.8060","side":"buy","time":"2021-04-17T16:43:30.244075Z","trade_id":881613,"last_size":"0.04"}"#;
pub(crate) const BTC_HEARTBEAT: &str = r#"{"type":"heartbeat","last_trade_id":1092969669,"product_id":"BTC-USD","sequence":136118091026,"time":"2026-09-15T11:01:54.000000Z"}"#;
pub(crate) const SKL_LEVEL: &str = r#"{"type":"l2update","product_id":"SKL-BTC","changes":[["sell","0.00001306","660.5"]],"time":"2021-04-17T16:43:37.075687Z"}"#;
pub(crate) const BTC_LEVELS: &str = r#"{"type":"l2update","product_id":"BTC-USD","changes":[["buy","83362.67","0.00000000"],["buy","83353.87","1.05243862"],["buy","83423.53","0.00004104"],["sell","83477.48","0.35118591"],["sell","83483.20","0.00000000"],["sell","83425.97","0.39004000"]],"time":"2026-09-30T02:03:14.348896Z"}"#;
/// The beginning of a snapshot, its lists closed early.
pub(crate) const BAND_SNAPSHOT: &str = r#"{"type":"snapshot","product_id":"BAND-GBP","asks":[["14.8024","12.77"],["14.8069","12.49"],["14.8095","12.73"],["14.8098","123.10"]],"bids":[["14.7550","0.04"]]}"#;
pub(crate) const SUBSCRIPTIONS: &str = r#"{"type":"subscriptions","channels":[{"name":"level2","product_ids":["DASH-BTC","CRV-EUR","SKL-GBP"]},{"name":"ticker","product_ids":["YFI-BTC"]}]}"#;

pub(crate) const ALL: [&str; 9] = [
    SKL_MATCH,
    BTC_MATCH,
    BAND_LAST_MATCH,
    BAND_TICKER,
    BTC_HEARTBEAT,
    SKL_LEVEL,
    BTC_LEVELS,
    BAND_SNAPSHOT,
    SUBSCRIPTIONS,
];
