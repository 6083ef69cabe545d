//! Zerodha Kite: <https://kite.trade/docs/connect/v3/websocket/>.
//!
//! Instruments are numbers, so each is to be written with its own: `408065=INFY`. Key and access token stand in the
//! address; the token is good for a day, and a bad one is refused at the handshake. Mode `full`: the only one with times
//! and quotes. No subscription is answered; a frame of one byte a second shows that the line lives. 3,000 instruments a
//! connection, 3 connections a key.

use crate::source::live_settings::{LiveError, LiveSettings};
use crate::source::script::{
    Answers, Name, Opening, Pace, Product, Renewal, Request, Said, Script, SignOfLife, credentials, only_quotes,
    products, url, with_query,
};

/// Instruments in one message.
const BATCH: usize = 500;

const PRODUCTS_MAX: usize = 3_000;

/// The venue states no limit for messages.
const PACE: Pace = Pace::per_second(4, 2);

pub(super) fn script(settings: &LiveSettings) -> Result<Script, LiveError> {
    only_quotes(settings)?;
    let products = products(settings, PRODUCTS_MAX, |_| None)?;
    let (key, token) = credentials(settings)?;
    let subscribe = |batch: &[Name]| {
        let tokens: Vec<String> = batch.iter().map(token_text).collect();
        let tokens = tokens.join(",");
        [format!(r#"{{"a":"subscribe","v":[{tokens}]}}"#), format!(r#"{{"a":"mode","v":["full",[{tokens}]]}}"#)]
            .map(Request::Text)
    };
    let names: Vec<Name> = products.iter().map(name).collect::<Result<_, _>>()?;
    Ok(Script {
        url: with_query(&url(settings, "wss://ws.kite.trade"), &[("api_key", key), ("access_token", token)]),
        headers: vec![("x-kite-version", "3".to_owned())],
        opening: Opening::Us,
        sign_in: None,
        subscribes: names.chunks(BATCH).flat_map(subscribe).collect(),
        answers: Answers::Silent,
        pace: PACE,
        ping: None,
        life: SignOfLife::Data,
        lifetime: None,
        renewal: Renewal::Line,
        names,
    })
}

fn name(product: &Product) -> Result<Name, LiveError> {
    let token = product.name.parse().map_err(|_| LiveError::Symbol {
        symbol: product.name.clone(),
        why: "is no instrument token: write TOKEN=SYMBOL",
    })?;
    Ok(Name { said: Said::Token(token), symbol: product.symbol.clone() })
}

fn token_text(name: &Name) -> String {
    match &name.said {
        Said::Token(token) => token.to_string(),
        Said::Text(text) => text.clone(),
    }
}
