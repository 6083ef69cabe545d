//! What a venue is told, and what it does by itself: all that its connections differ in, as plain data.
//!
//! Made once, from the settings, by the venue's file in `venues/`; read by [`super::dialogue`], which says it, and by
//! [`super::live`], which connects. Holds secrets in the open, so nothing here can be printed. Deliberately absent:
//! sockets, clocks, and the meaning of what the venue answers.

use std::time::Duration;

use super::live_settings::{LiveError, LiveSettings};
use super::secret::Secret;
use crate::decode::DecodeError;
use crate::decode::event::Event;
use crate::feed::QuoteOrigin;
use crate::venue::Venue;

pub(super) use super::pace::Pace;

/// Longest name of a product at a venue, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// All that is particular about the connections to a venue.
pub(super) struct Script {
    /// May hold secrets.
    pub(super) url: String,
    /// Names and values; these may be secrets.
    pub(super) headers: Vec<(&'static str, String)>,
    /// Who speaks first.
    pub(super) opening: Opening,
    /// To be answered by [`crate::decode::event::Control::Authenticated`].
    pub(super) sign_in: Option<Request>,
    /// What subscribes to everything, in batches that the venue takes.
    pub(super) subscribes: Vec<Request>,
    /// Whether subscriptions are answered.
    pub(super) answers: Answers,
    /// How often we may say something, pings included.
    pub(super) pace: Pace,
    /// How often we send a WebSocket ping.
    pub(super) ping: Option<Duration>,
    pub(super) life: SignOfLife,
    /// How long the venue keeps a connection; it is made anew before.
    pub(super) lifetime: Option<Duration>,
    pub(super) renewal: Renewal,
    /// What the venue calls the instruments.
    pub(super) names: Vec<Name>,
}

/// Who speaks first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opening {
    Us,
    /// Nothing may be said before [`crate::decode::event::Control::Connected`].
    Venue,
}

/// Whether a venue answers a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answers {
    Acknowledged,
    /// Only its data show that it was taken.
    Silent,
}

/// What shows that the line lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SignOfLife {
    /// Market data and heartbeats: the venue is never without them.
    Data,
    /// Anything that comes, answers to our pings too: the market may well be quiet for hours.
    Traffic,
}

/// A message of ours. Never shown, since it may sign in.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Request {
    Text(String),
    Binary(Vec<u8>),
}

/// How a book that cannot be believed any more is had anew.
pub(super) enum Renewal {
    /// There are no books, or only a new connection brings them.
    Line,
    /// By these messages about the product of this name.
    Requests(RenewalRequests),
    /// By a `GET` of this address with a query of the product's name; `decode` reads the answer.
    Fetch { url: String, query: fn(&str) -> String, decode: DecodeBook, pace: Pace },
}

/// What is to be said so that the book of the product of this name is sent anew.
pub(super) type RenewalRequests = Box<dyn Fn(&str) -> Vec<Request> + Send + Sync>;

/// Decodes the book of the product of this name.
pub(super) type DecodeBook =
    for<'a> fn(body: &'a [u8], name: &'a str, on_event: &mut dyn FnMut(Event<'a>)) -> Result<(), DecodeError>;

/// What the venue calls an instrument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) said: Said,
    /// Canonical.
    pub(super) symbol: String,
}

/// A name, or a number in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Text(String),
    Token(u32),
}

/// A product to subscribe to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Product {
    /// As the venue writes it: of characters that need no escape in JSON or in a URL.
    pub(super) name: String,
    /// Canonical.
    pub(super) symbol: String,
}

/// The products of the settings: each symbol as `name_of` translates it, or, where it is written `NAME=SYMBOL`, by
/// the name that is given.
pub(super) fn products(
    settings: &LiveSettings,
    count_max: usize,
    name_of: impl Fn(&str) -> Option<String>,
) -> Result<Vec<Product>, LiveError> {
    let count = settings.symbols.len();
    if count == 0 || count > count_max {
        return Err(LiveError::SymbolCount { count, count_max });
    }
    let mut products: Vec<Product> = Vec::with_capacity(count);
    for given in &settings.symbols {
        let refused = |why| LiveError::Symbol { symbol: given.clone(), why };
        let (name, symbol) = match given.split_once('=') {
            Some((name, symbol)) => (Some(name.to_owned()), symbol),
            None => (name_of(given), given.as_str()),
        };
        protocol::check_symbol(symbol).map_err(|_| refused("is no symbol of 1 to 32 characters A-Z, 0-9, . - _ /"))?;
        let name = name.ok_or_else(|| refused("has no name at the venue: write NAME=SYMBOL"))?;
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'/' | b':');
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(is_plain) {
            return Err(refused("has a name that no venue writes: A-Z, a-z, 0-9 and . - _ / : are allowed"));
        }
        products.push(Product { name, symbol: symbol.to_owned() });
    }
    let mut names: Vec<&str> = products.iter().map(|product| product.name.as_str()).collect();
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(LiveError::Symbol { symbol: twice[0].to_owned(), why: "stands there twice" });
    }
    Ok(products)
}

/// The names of products whose venue writes them as it takes them.
pub(super) fn names(products: &[Product]) -> Vec<Name> {
    let name = |product: &Product| Name { said: Said::Text(product.name.clone()), symbol: product.symbol.clone() };
    products.iter().map(name).collect()
}

/// The two sides of a pair; `None` for what is no pair.
pub(super) fn pair(symbol: &str) -> Option<(&str, &str)> {
    symbol.split_once('/').filter(|(base, quote)| !base.is_empty() && !quote.is_empty() && !quote.contains('/'))
}

/// `BTC/USD` as `BTC-USD`.
pub(super) fn dashed(symbol: &str) -> Option<String> {
    pair(symbol).map(|(base, quote)| format!("{base}-{quote}"))
}

/// The address that is set, or the venue's own.
pub(super) fn url(settings: &LiveSettings, default: &str) -> String {
    settings.url.clone().unwrap_or_else(|| default.to_owned())
}

/// The address with parameters of this name and value added.
pub(super) fn with_query(url: &str, parameters: &[(&str, &str)]) -> String {
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
    // Without a path, a request would begin with the question mark, and no server takes that.
    let has_path = url.split_once("://").is_some_and(|(_, rest)| rest.contains('/'));
    let joint = match (url.contains('?'), has_path) {
        (true, _) => "&",
        (false, true) => "?",
        (false, false) => "/?",
    };
    format!("{url}{joint}{query}")
}

/// `"A","B"`, of names that need no escape.
pub(super) fn quoted<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.map(|name| format!("\"{name}\"")).collect();
    names.join(",")
}

/// A text as JSON writes it, in its quotation marks.
pub(super) fn json_text(text: &str) -> String {
    let mut json = String::with_capacity(text.len() + 2);
    json.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => json.extend(['\\', c]),
            '\0'..='\x1f' => json.push_str(&format!("\\u{:04x}", u32::from(c))),
            _ => json.push(c),
        }
    }
    json.push('"');
    json
}

/// Refuses books where the venue has none that this source takes.
pub(super) fn only_quotes(settings: &LiveSettings) -> Result<(), LiveError> {
    match settings.quotes {
        QuoteOrigin::Quotes => Ok(()),
        QuoteOrigin::Books { .. } => Err(LiveError::Books { venue: settings.venue }),
    }
}

/// The two credentials, of which the venue needs both.
pub(super) fn credentials(settings: &LiveSettings) -> Result<(&str, &str), LiveError> {
    Ok((key(settings)?, needed(settings.venue, "credentials.secret", settings.credentials.secret.as_ref())?))
}

/// The key, where the venue needs only that.
pub(super) fn key(settings: &LiveSettings) -> Result<&str, LiveError> {
    needed(settings.venue, "credentials.key", settings.credentials.key.as_ref())
}

fn needed<'a>(venue: Venue, what: &'static str, secret: Option<&'a Secret>) -> Result<&'a str, LiveError> {
    let text = secret.map(Secret::reveal).filter(|text| !text.is_empty());
    text.ok_or(LiveError::Credentials { what, venue })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(symbols: &[&str]) -> LiveSettings {
        let symbols = symbols.iter().map(|&symbol| symbol.to_owned()).collect();
        LiveSettings { symbols, ..LiveSettings::of(Venue::Coinbase) }
    }

    #[test]
    fn symbols_have_names() {
        let check = |symbols: &[&str], expected: &[(&str, &str)]| {
            let products = products(&settings(symbols), 9, dashed).unwrap();
            let found: Vec<_> = products.iter().map(|p| (p.name.as_str(), p.symbol.as_str())).collect();
            assert_eq!(found, expected);
        };
        check(&["BTC/USD"], &[("BTC-USD", "BTC/USD")]);
        check(&["btc:usd=BTC/USD", "ETH/USD"], &[("btc:usd", "BTC/USD"), ("ETH-USD", "ETH/USD")]);
        // Two names of one instrument are the operator's business.
        check(&["A=X/Y", "B=X/Y"], &[("A", "X/Y"), ("B", "X/Y")]);
    }

    #[test]
    fn what_is_no_symbol_is_refused() {
        let check = |symbols: &[&str], expected: &str| {
            let refused = products(&settings(symbols), 2, dashed).expect_err(expected).to_string();
            assert!(refused.starts_with("symbols: ") && refused.contains(expected), "{symbols:?}: {refused}");
        };
        check(&[], "not 0");
        check(&["A/B", "C/D", "E/F"], "not 3");
        for symbol in ["", "btc/usd", "BTC USD", "B\"C/USD", "X=", "X=btc"] {
            check(&[symbol], "is no symbol");
        }
        for symbol in ["BTC", "/USD", "BTC/", "A/B/C"] {
            check(&[symbol], "has no name");
        }
        for symbol in ["=BTC/USD", "A B=BTC/USD", "A\"=BTC/USD", "A\\=BTC/USD", "A&B=BTC/USD"] {
            check(&[symbol], "that no venue writes");
        }
        check(&["A/B", "A/B"], "twice");
        check(&["A/B", "A-B=C/D"], "twice");
    }

    #[test]
    fn texts_are_escaped() {
        for text in ["", "plain", "\"", "\\", "a\"b\\c\u{1}\n\u{7f}\u{1f600}"] {
            let value: serde_json::Value = serde_json::from_str(&json_text(text)).unwrap();
            assert_eq!(value, text);
        }
        assert_eq!(with_query("ws://h/p", &[("token", "a&b=c d")]), "ws://h/p?token=a%26b%3Dc+d");
        assert_eq!(with_query("ws://h/p?x=1", &[("y", "2")]), "ws://h/p?x=1&y=2");
        assert_eq!(with_query("ws://h", &[("x", "1"), ("y", "2")]), "ws://h/?x=1&y=2");
    }
}
