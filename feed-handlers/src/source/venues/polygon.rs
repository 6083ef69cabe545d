//! Polygon.io (Massive): <https://massive.com/docs/websocket/quickstart>.
//!
//! One cluster, and so one source, for each class of asset: stocks (`T`, `Q`), crypto (`XT`, `XQ`), forex (`C`, which
//! has no trades); and bars of a minute where they are wanted (`AM`, `XA`, `CA`). The venue greets, then takes the key,
//! then subscriptions. It has no heartbeat: our pings, at the distance at which its own clients send them or closer,
//! show that the line lives. One connection for a key and class; a second one evicts the first, which is why a
//! connection counts as good only once data flowed.

use std::time::Duration;

use protocol::AssetClass;

use crate::source::live_settings::{LiveError, LiveSettings};
use crate::source::script::{
    Answers, Name, Opening, Pace, Product, Renewal, Request, Said, Script, SignOfLife, dashed, json_text, key, names,
    only_quotes, products, url,
};

/// Products in one subscribe message.
const BATCH: usize = 200;

const PRODUCTS_MAX: usize = 10_000;

/// The venue states no limit.
const PACE: Pace = Pace::per_second(10, 5);

pub(super) fn script(settings: &LiveSettings) -> Result<Script, LiveError> {
    only_quotes(settings)?;
    let products = products(settings, PRODUCTS_MAX, |symbol| match AssetClass::of(symbol) {
        AssetClass::Equity => Some(symbol.to_owned()),
        AssetClass::Crypto | AssetClass::Forex => dashed(symbol),
    })?;
    let class = products.first().map_or(AssetClass::Equity, |product| AssetClass::of(&product.symbol));
    if let Some(other) = products.iter().find(|product| AssetClass::of(&product.symbol) != class) {
        let why = "is of another class than the first one: each class is a source of its own";
        return Err(LiveError::Symbol { symbol: other.symbol.clone(), why });
    }
    let (address, ticks, bars): (_, &[&str], _) = match class {
        AssetClass::Equity => ("wss://socket.massive.com/stocks", &["T", "Q"], "AM"),
        AssetClass::Crypto => ("wss://socket.massive.com/crypto", &["XT", "XQ"], "XA"),
        AssetClass::Forex => ("wss://socket.massive.com/forex", &["C"], "CA"),
    };
    let bars = settings.bars.then_some(bars);
    let subscribe = |batch: &[Product]| {
        let parameters: Vec<String> = batch
            .iter()
            .flat_map(|product| {
                ticks.iter().copied().chain(bars).map(move |channel| format!("{channel}.{}", product.name))
            })
            .collect();
        Request::Text(format!(r#"{{"action":"subscribe","params":"{}"}}"#, parameters.join(",")))
    };
    let mut names = names(&products);
    if class == AssetClass::Forex {
        // Asked for as `EUR-USD`, it comes as `EUR/USD`.
        let slashed = |p: &Product| p.name.replacen('-', "/", 1);
        names.extend(products.iter().map(|p| Name { said: Said::Text(slashed(p)), symbol: p.symbol.clone() }));
    }
    Ok(Script {
        url: url(settings, address),
        headers: Vec::new(),
        opening: Opening::Venue,
        sign_in: Some(Request::Text(format!(r#"{{"action":"auth","params":{}}}"#, json_text(key(settings)?)))),
        subscribes: products.chunks(BATCH).map(subscribe).collect(),
        answers: Answers::Acknowledged,
        pace: PACE,
        ping: Some(Duration::from_secs(10)),
        life: SignOfLife::Traffic,
        lifetime: None,
        renewal: Renewal::Line,
        names,
    })
}
