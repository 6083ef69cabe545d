//! What the settings of the sources over HTTP have in common: what may stand in them, and why one is refused.
//!
//! Pure. Deliberately absent: what only one venue knows, such as its names of instruments.

use super::Secret;
use super::http::RequestError;
use super::script::Product;
use crate::feed::Feed;

/// Longest name of an instrument at a venue, bytes.
const NAME_BYTES_MAX: usize = 64;

/// Why settings are refused. Begins with the name of the setting, and shows no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HttpSettingsError {
    #[error("url: no http:// or https:// address without name, password and query")]
    Url,
    #[error("{setting}: {error}")]
    Secret { setting: &'static str, error: &'static str },
    #[error("account: `{account}` is no account (letters, digits and dashes)")]
    Account { account: String },
    #[error("endpoint: `{endpoint}` is no endpoint (letters and digits)")]
    Endpoint { endpoint: String },
    #[error("symbols: 1 to {max} are needed, not {count}")]
    SymbolCount { count: usize, max: usize },
    #[error("symbols: `{symbol}` is neither {form} nor NAME=SYMBOL")]
    Symbol { symbol: String, form: &'static str },
    #[error("symbols: the venue's name `{name}` stands there twice")]
    Twice { name: String },
    #[error("budget: at least one request a minute and a day is needed")]
    Budget,
    #[error("timings: all above 0 and at most a day, stale <= silence and backoff_min <= backoff_max are needed")]
    Timings,
    #[error("tls: {0}")]
    Tls(String),
}

impl From<RequestError> for HttpSettingsError {
    fn from(error: RequestError) -> HttpSettingsError {
        match error {
            RequestError::Url => HttpSettingsError::Url,
            RequestError::Header => HttpSettingsError::Secret { setting: "token", error: "no header can hold it" },
            RequestError::Tls(error) => HttpSettingsError::Tls(error),
        }
    }
}

/// The address without a slash at its end.
pub(super) fn base_url(url: &str) -> Result<&str, HttpSettingsError> {
    if url.contains(['?', '#']) { Err(HttpSettingsError::Url) } else { Ok(url.trim_end_matches('/')) }
}

pub(super) fn check_secret(setting: &'static str, secret: &Secret) -> Result<(), HttpSettingsError> {
    if secret.reveal().trim().is_empty() {
        return Err(HttpSettingsError::Secret { setting, error: "it is empty" });
    }
    Ok(())
}

/// The instruments of the settings: each symbol, which is canonical, with the name that `name_of` makes of it, or, where
/// it is written `NAME=SYMBOL`, with the name that is given. `form` says what `name_of` takes.
pub(super) fn products(
    symbols: &[String],
    max: usize,
    form: &'static str,
    name_of: impl Fn(&str) -> Option<String>,
) -> Result<Vec<Product>, HttpSettingsError> {
    if symbols.is_empty() || symbols.len() > max {
        return Err(HttpSettingsError::SymbolCount { count: symbols.len(), max });
    }
    let mut products: Vec<Product> = Vec::with_capacity(symbols.len());
    for given in symbols {
        let (name, symbol) = match given.split_once('=') {
            Some((name, symbol)) => (Some(name.to_owned()), symbol),
            None => (name_of(given), given.as_str()),
        };
        // None of these has a meaning in an address, or in a list of names that stands there.
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'/' | b':');
        let is_name = |name: &String| (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_plain);
        let name = name.filter(is_name).filter(|_| protocol::check_symbol(symbol).is_ok());
        let name = name.ok_or_else(|| HttpSettingsError::Symbol { symbol: given.clone(), form })?;
        if products.iter().any(|known| known.name == name) {
            return Err(HttpSettingsError::Twice { name });
        }
        products.push(Product { name, symbol: symbol.to_owned() });
    }
    Ok(products)
}

/// The names of the products, as a list in an address.
pub(super) fn listed(products: &[Product]) -> String {
    let names: Vec<&str> = products.iter().map(|product| product.name.as_str()).collect();
    names.join("%2C")
}

/// Tells the feed what the venue calls the instruments.
pub(super) fn introduce(products: &[Product], feed: &mut Feed) {
    for Product { name, symbol } in products {
        if !feed.learn_name(name.as_bytes(), symbol) {
            tracing::warn!(symbol, "no room for this instrument: it will not be heard");
        }
    }
}

/// Whether it is the name of a currency or of one side of a pair.
pub(super) fn is_currency(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
}

/// Whether it is the symbol of an equity, such as `AAPL`, `BRK.B` or `BAC-Q`.
pub(super) fn is_equity(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-');
    text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric()) && text.bytes().all(allowed)
}
