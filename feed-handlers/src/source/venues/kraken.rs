//! Kraken WebSocket v2: <https://docs.kraken.com/api/docs/websocket-v2/trade>.
//!
//! Public: `trade`, with the last 50 as a snapshot, which shows what a cut of the line cost; and either `ticker`, told
//! at each change of the best prices, or, for quotes of books, `book`, whose changes bear a checksum; `ohlc` of a
//! minute where bars are wanted, with the latest ones as a snapshot. Each symbol and channel is answered by itself. The
//! connection has a heartbeat a second once anything is subscribed.

use crate::feed::QuoteOrigin;
use crate::source::live_settings::{LiveError, LiveSettings};
use crate::source::script::{
    Answers, Opening, Pace, Product, Renewal, Request, Script, SignOfLife, names, pair, products, quoted, url,
};

/// Symbols in one subscribe message.
const BATCH: usize = 100;

const PRODUCTS_MAX: usize = 2_000;

/// The venue states no limit for messages.
const PACE: Pace = Pace::per_second(5, 5);

/// The depths of book that the venue has.
const DEPTHS: [usize; 5] = [10, 25, 100, 500, 1_000];

const TRADES: &str = r#""channel":"trade","snapshot":true"#;
const BARS: &str = r#""channel":"ohlc","interval":1,"snapshot":true"#;

pub(super) fn script(settings: &LiveSettings) -> Result<Script, LiveError> {
    let products = products(settings, PRODUCTS_MAX, |symbol| pair(symbol).map(|_| symbol.to_owned()))?;
    let (quotes, renewal) = match settings.quotes {
        QuoteOrigin::Quotes => (r#""channel":"ticker","event_trigger":"bbo""#.to_owned(), Renewal::Line),
        QuoteOrigin::Books { depth } => {
            let depth = depth.filter(|depth| DEPTHS.contains(depth)).ok_or(LiveError::Depth { depths: &DEPTHS })?;
            let book = format!(r#""channel":"book","depth":{depth}"#);
            (book.clone(), renewal(book))
        }
    };
    let subscribe = |batch: &[Product]| {
        let symbols = quoted(batch.iter().map(|product| product.name.as_str()));
        let channels = [TRADES, &quotes].into_iter().chain(settings.bars.then_some(BARS));
        channels.map(|channel| message("subscribe", channel, &symbols)).collect::<Vec<_>>()
    };
    Ok(Script {
        url: url(settings, "wss://ws.kraken.com/v2"),
        headers: Vec::new(),
        opening: Opening::Us,
        sign_in: None,
        subscribes: products.chunks(BATCH).flat_map(subscribe).collect(),
        answers: Answers::Acknowledged,
        pace: PACE,
        ping: None,
        life: SignOfLife::Data,
        lifetime: None,
        renewal,
        names: names(&products),
    })
}

/// The book of one symbol is left and taken again, at the same depth.
fn renewal(book: String) -> Renewal {
    Renewal::Requests(Box::new(move |name| {
        let symbol = quoted([name].into_iter());
        ["unsubscribe", "subscribe"].map(|method| message(method, &book, &symbol)).into()
    }))
}

/// `{"method":"subscribe","params":{"channel":"book","depth":25,"symbol":["MINA/GBP"]}}`
fn message(method: &str, channel: &str, symbols: &str) -> Request {
    Request::Text(format!(r#"{{"method":"{method}","params":{{{channel},"symbol":[{symbols}]}}}}"#))
}
