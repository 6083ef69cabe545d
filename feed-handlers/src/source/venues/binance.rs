//! Binance spot: <https://github.com/binance/binance-spot-api-docs/blob/master/web-socket-streams.md>.
//!
//! Public: `trade`, and either `bookTicker` or, for quotes of books, the changes `depth@100ms`, whose snapshot is
//! fetched over HTTP; and `kline_1m` where bars are wanted. Streams are named in lower case, products in upper case. 5
//! messages a second, pings included, 1,024 streams a connection, and 24 hours of life.

use std::time::Duration;

use crate::decode::binance::decode_depth;
use crate::decode::event::Symbol;
use crate::feed::QuoteOrigin;
use crate::source::live_settings::{LiveError, LiveSettings};
use crate::source::script::{
    Answers, Opening, Pace, Renewal, Request, Script, SignOfLife, names, pair, products, quoted, url,
};

/// Streams in one subscribe message.
const BATCH: usize = 200;

/// On one connection.
const STREAMS_MAX: usize = 1_024;

const PACE: Pace = Pace::per_second(3, 2);

/// A snapshot of 1,000 levels weighs 50 of the 6,000 that an address may ask for in a minute: three quarters of it.
const FETCH_PACE: Pace = Pace { burst: 3, every: Duration::from_millis(667) };

/// A little less than the venue's 24 hours.
const LIFETIME: Duration = Duration::from_secs(24 * 3_600 - 300);

pub(super) fn script(settings: &LiveSettings) -> Result<Script, LiveError> {
    let quotes = match settings.quotes {
        QuoteOrigin::Quotes => "bookTicker",
        QuoteOrigin::Books { .. } => "depth@100ms",
    };
    let channels: Vec<&str> = ["trade", quotes].into_iter().chain(settings.bars.then_some("kline_1m")).collect();
    let count_max = STREAMS_MAX / channels.len();
    let products = products(settings, count_max, |symbol| pair(symbol).map(|(base, quote)| [base, quote].concat()))?;
    let streams: Vec<String> = products
        .iter()
        .map(|product| product.name.to_ascii_lowercase())
        .flat_map(|name| channels.iter().map(move |channel| format!("{name}@{channel}")))
        .collect();
    let subscribe = |(n, batch): (usize, &[String])| {
        let streams = quoted(batch.iter().map(String::as_str));
        Request::Text(format!(r#"{{"method":"SUBSCRIBE","params":[{streams}],"id":{}}}"#, n + 1))
    };
    let renewal = match settings.quotes {
        QuoteOrigin::Quotes => Renewal::Line,
        QuoteOrigin::Books { .. } => Renewal::Fetch {
            url: snapshot_url(settings)?,
            query: |name| format!("symbol={name}&limit=1000"),
            decode: |body, name, mut on_event| decode_depth(body, Symbol::Text(name.as_bytes()), &mut on_event),
            pace: FETCH_PACE,
        },
    };
    Ok(Script {
        url: url(settings, "wss://data-stream.binance.vision/stream"),
        headers: Vec::new(),
        opening: Opening::Us,
        sign_in: None,
        subscribes: streams.chunks(BATCH).enumerate().map(subscribe).collect(),
        answers: Answers::Acknowledged,
        pace: PACE,
        ping: Some(Duration::from_secs(10)),
        life: SignOfLife::Traffic,
        lifetime: Some(LIFETIME),
        renewal,
        names: names(&products),
    })
}

/// Where books are fetched. One who names another stream names its books too: they must be of the same venue.
fn snapshot_url(settings: &LiveSettings) -> Result<String, LiveError> {
    match (&settings.snapshot_url, &settings.url) {
        (Some(url), _) => Ok(url.clone()),
        (None, None) => Ok("https://data-api.binance.vision/api/v3/depth".to_owned()),
        (None, Some(_)) => Err(LiveError::SnapshotUrlMissing),
    }
}
