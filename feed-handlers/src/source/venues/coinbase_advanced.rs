//! Coinbase Advanced Trade: <https://docs.cdp.coinbase.com/coinbase-app/advanced-trade-apis/websocket/websocket-channels>.
//!
//! Everything is public: `heartbeats` (one a second for the connection, and what keeps quiet channels open),
//! `market_trades`, either `ticker` or, for quotes of books, `level2`, and `candles`, of 5 minutes, where bars are
//! wanted. Each message subscribes to one channel. The connection numbers all that it sends, so a hole makes a new
//! connection: few products on each lose less by that.

use crate::feed::QuoteOrigin;
use crate::source::live_settings::{LiveError, LiveSettings};
use crate::source::script::{
    Answers, Opening, Pace, Renewal, Request, Script, SignOfLife, dashed, names, products, quoted, url,
};

/// Products in one subscribe message.
const BATCH: usize = 50;

const PRODUCTS_MAX: usize = 500;

/// Who is not signed in may send about 8 messages a second.
const PACE: Pace = Pace::per_second(4, 4);

pub(super) fn script(settings: &LiveSettings) -> Result<Script, LiveError> {
    let products = products(settings, PRODUCTS_MAX, dashed)?;
    let quotes = match settings.quotes {
        QuoteOrigin::Quotes => "ticker",
        QuoteOrigin::Books { .. } => "level2",
    };
    let mut subscribes = vec![Request::Text(r#"{"type":"subscribe","channel":"heartbeats"}"#.to_owned())];
    for batch in products.chunks(BATCH) {
        let batch = quoted(batch.iter().map(|product| product.name.as_str()));
        let channels = ["market_trades", quotes].into_iter().chain(settings.bars.then_some("candles"));
        subscribes.extend(channels.map(|channel| message("subscribe", &batch, channel)));
    }
    Ok(Script {
        url: url(settings, "wss://advanced-trade-ws.coinbase.com"),
        headers: Vec::new(),
        opening: Opening::Us,
        sign_in: None,
        subscribes,
        answers: Answers::Acknowledged,
        pace: PACE,
        ping: None,
        life: SignOfLife::Data,
        lifetime: None,
        renewal: Renewal::Requests(Box::new(|name| {
            let name = quoted([name].into_iter());
            ["unsubscribe", "subscribe"].map(|action| message(action, &name, "level2")).into()
        })),
        names: names(&products),
    })
}

/// `{"type":"subscribe","product_ids":["BTC-USD"],"channel":"ticker"}`
fn message(action: &str, products: &str, channel: &str) -> Request {
    Request::Text(format!(r#"{{"type":"{action}","product_ids":[{products}],"channel":"{channel}"}}"#))
}
