//! Finnhub: <https://finnhub.io/docs/api/websocket-trades>.
//!
//! Trades only. The token stands in the address, one message subscribes to one symbol, and none is answered but by an
//! error where there are too many (50 on the free plan). Now and then the venue writes a ping; our own pings show that
//! the line lives. One connection for a token; a second one ends the first.

use std::time::Duration;

use protocol::AssetClass;

use crate::source::live_settings::{LiveError, LiveSettings};
use crate::source::script::{
    Answers, Opening, Pace, Renewal, Request, Script, SignOfLife, key, names, only_quotes, pair, products, url,
    with_query,
};

/// Of the largest plan no limit is stated; at our pace a thousand take 100 s.
const PRODUCTS_MAX: usize = 1_000;

/// The venue states no limit for messages; its requests are limited to 30 a second.
const PACE: Pace = Pace::per_second(10, 10);

pub(super) fn script(settings: &LiveSettings) -> Result<Script, LiveError> {
    only_quotes(settings)?;
    let products = products(settings, PRODUCTS_MAX, name)?;
    Ok(Script {
        url: with_query(&url(settings, "wss://ws.finnhub.io"), &[("token", key(settings)?)]),
        headers: Vec::new(),
        opening: Opening::Us,
        sign_in: None,
        subscribes: products
            .iter()
            .map(|product| Request::Text(format!(r#"{{"type":"subscribe","symbol":"{}"}}"#, product.name)))
            .collect(),
        answers: Answers::Silent,
        pace: PACE,
        ping: Some(Duration::from_secs(10)),
        life: SignOfLife::Traffic,
        lifetime: None,
        renewal: Renewal::Line,
        names: names(&products),
    })
}

/// Stocks as they are, forex of OANDA, crypto of Coinbase where it is quoted in a currency and of Binance where it is
/// not; the instruments of other exchanges are to be named.
fn name(symbol: &str) -> Option<String> {
    match AssetClass::of(symbol) {
        AssetClass::Equity => Some(symbol.to_owned()),
        AssetClass::Forex => pair(symbol).map(|(base, quote)| format!("OANDA:{base}_{quote}")),
        AssetClass::Crypto => pair(symbol).map(|(base, quote)| match quote {
            "USD" | "EUR" | "GBP" => format!("COINBASE:{base}-{quote}"),
            _ => format!("BINANCE:{base}{quote}"),
        }),
    }
}
