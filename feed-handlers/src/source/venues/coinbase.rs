//! Coinbase Exchange: <https://docs.cdp.coinbase.com/exchange/websocket-feed/overview>.
//!
//! Everything is public: `matches`, `heartbeat` (one a second for each product, by which the line is supervised), and
//! either `ticker` or, for quotes of books, `level2_batch`. Absent: the signed channels `level2` and `full`.

use crate::feed::QuoteOrigin;
use crate::source::live_settings::{LiveError, LiveSettings};
use crate::source::script::{
    Answers, Opening, Pace, Renewal, Request, Script, SignOfLife, dashed, names, products, quoted, url,
};

/// Products in one subscribe message.
const BATCH: usize = 100;

/// Products on one connection; the venue lists fewer than 1,000.
const PRODUCTS_MAX: usize = 2_000;

/// The venue allows 100 messages a second on a connection.
const PACE: Pace = Pace::per_second(50, 20);

pub(super) fn script(settings: &LiveSettings) -> Result<Script, LiveError> {
    let products = products(settings, PRODUCTS_MAX, dashed)?;
    let quotes = match settings.quotes {
        QuoteOrigin::Quotes => "ticker",
        QuoteOrigin::Books { .. } => "level2_batch",
    };
    let subscribe = |batch: &[_]| message("subscribe", batch, &["heartbeat", quotes, "matches"]);
    Ok(Script {
        url: url(settings, "wss://ws-feed.exchange.coinbase.com"),
        headers: Vec::new(),
        opening: Opening::Us,
        sign_in: None,
        subscribes: products
            .chunks(BATCH)
            .map(|batch| batch.iter().map(|product| product.name.as_str()).collect::<Vec<_>>())
            .map(|batch| subscribe(&batch))
            .collect(),
        answers: Answers::Acknowledged,
        pace: PACE,
        ping: None,
        life: SignOfLife::Data,
        lifetime: None,
        renewal: Renewal::Requests(Box::new(|name| {
            ["unsubscribe", "subscribe"].map(|action| message(action, &[name], &["level2_batch"])).into()
        })),
        names: names(&products),
    })
}

/// `{"type":"subscribe","product_ids":["BTC-USD"],"channels":["heartbeat","ticker"]}`
fn message(action: &str, products: &[&str], channels: &[&str]) -> Request {
    let (products, channels) = (quoted(products.iter().copied()), quoted(channels.iter().copied()));
    Request::Text(format!(r#"{{"type":"{action}","product_ids":[{products}],"channels":[{channels}]}}"#))
}
