//! What a client asks for: requests out of JSON text or MessagePack.
//!
//! Runs on the thread that owns the session. Requests are rare, so they go through a generic tree of values, which
//! lets an error still name the request's id. Deliberately absent: what the words mean. Symbols are not looked up
//! here, and nobody's rights are.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{ChannelKind, Encoding, ErrorCode};

/// Most symbols, positions and unknown channels together in one request.
pub const ITEMS_MAX: usize = 10_000;

/// Longest `id` that is text, in bytes.
pub const ID_BYTES_MAX: usize = 64;

/// Deepest nesting of a MessagePack request; a real one has 4 levels (request, `since`, channel, symbol). JSON has
/// serde_json's own bound of 128.
const DEPTH_MAX: usize = 16;

/// The range of `max_rate`, in messages a second for each symbol.
pub const MAX_RATE: std::ops::RangeInclusive<f64> = 0.01..=1000.0;

/// A client's name for a request, echoed as it came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum RequestId {
    /// At most [`ID_BYTES_MAX`] bytes.
    Text(Box<str>),
    Unsigned(u64),
    Negative(i64),
}

/// One request.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    pub id: Option<RequestId>,
    pub action: Action,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Auth(AuthFields),
    Subscribe(Subscription),
    Unsubscribe(Subscription),
}

/// What a client signs in with.
#[derive(Clone, PartialEq, Eq)]
pub enum AuthFields {
    Key { key: String, secret: String },
    Token(String),
}

impl std::fmt::Debug for AuthFields {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            AuthFields::Key { .. } => "Key(***)",
            AuthFields::Token(_) => "Token(***)",
        })
    }
}

/// What to subscribe to, or to unsubscribe from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Subscription {
    /// Each once; those of one channel in the request's order.
    pub items: Vec<Item>,
    /// Symbols of signals, each once: `@` and a category for all of it, `*` for all categories.
    pub signals: Vec<String>,
    /// Keys that list symbols and are no channel of this server, as they came. Empty lists are left out, because
    /// client libraries send one for every channel they know.
    pub unknown_channels: Vec<String>,
    pub since: Option<Since>,
    /// Most messages a second for each symbol of a conflated channel; within [`MAX_RATE`].
    pub max_rate: Option<f64>,
}

/// One symbol of one channel.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Item {
    pub channel: ChannelKind,
    /// Trimmed and in capitals, not looked up; `*` for all.
    pub symbol: String,
}

/// Up to where a client has everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Since {
    pub epoch: u64,
    /// The last sequence number received, by channel and symbol.
    pub positions: Vec<(ChannelKind, String, u64)>,
}

/// Why a request was refused as a whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {detail}", code.message())]
pub struct CommandError {
    pub code: ErrorCode,
    /// The request's id, where it could be read.
    pub id: Option<RequestId>,
    /// What is wrong, for the person who wrote the client.
    pub detail: &'static str,
}

/// Reads one message of a client.
///
/// # Errors
/// [`CommandError`] with 400 for what is no request, 422, 423 or 424 for a part that is out of its bounds.
pub fn parse(encoding: Encoding, bytes: &[u8]) -> Result<Request, CommandError> {
    let unreadable = |detail| CommandError { code: ErrorCode::InvalidSyntax, id: None, detail };
    let value = match encoding {
        Encoding::Json => serde_json::from_slice(bytes).map_err(|_| unreadable("not a JSON text"))?,
        Encoding::MessagePack => read_msgpack(bytes).ok_or_else(|| unreadable("not one MessagePack object"))?,
    };
    let Value::Object(mut fields) = value else {
        return Err(unreadable("not an object"));
    };
    let id = match fields.remove("id") {
        None | Some(Value::Null) => None,
        Some(value) => Some(
            request_id(value)
                .ok_or_else(|| unreadable("id is neither a text of at most 64 bytes nor an integer of 64 bits"))?,
        ),
    };
    match action(fields) {
        Ok(action) => Ok(Request { id, action }),
        Err((code, detail)) => Err(CommandError { code, id, detail }),
    }
}

type Refusal = (ErrorCode, &'static str);

const fn syntax(detail: &'static str) -> Refusal {
    (ErrorCode::InvalidSyntax, detail)
}

fn read_msgpack(mut bytes: &[u8]) -> Option<Value> {
    let mut deserializer = rmp_serde::Deserializer::new(&mut bytes);
    deserializer.set_max_depth(DEPTH_MAX);
    let value = Value::deserialize(&mut deserializer).ok()?;
    bytes.is_empty().then_some(value)
}

fn request_id(value: Value) -> Option<RequestId> {
    match value {
        Value::String(text) if text.len() <= ID_BYTES_MAX => Some(RequestId::Text(text.into())),
        Value::Number(number) => match number.as_u64() {
            Some(unsigned) => Some(RequestId::Unsigned(unsigned)),
            None => number.as_i64().map(RequestId::Negative),
        },
        _ => None,
    }
}

fn action(fields: Map<String, Value>) -> Result<Action, Refusal> {
    match fields.get("action").and_then(Value::as_str) {
        Some("auth") => auth(&fields).map(Action::Auth),
        Some("subscribe") => subscription(fields, true).map(Action::Subscribe),
        Some("unsubscribe") => subscription(fields, false).map(Action::Unsubscribe),
        Some(_) => Err(syntax("action is none of auth, subscribe, unsubscribe")),
        None => Err(syntax("action is missing or no text")),
    }
}

fn auth(fields: &Map<String, Value>) -> Result<AuthFields, Refusal> {
    let text = |name| match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(syntax("key, secret and token are texts")),
    };
    match (text("key")?, text("secret")?, text("token")?) {
        (None, None, Some(token)) => Ok(AuthFields::Token(token)),
        // How Alpaca's libraries send an OAuth token.
        (Some(key), Some(token), None) if key == "oauth" => Ok(AuthFields::Token(token)),
        (Some(key), Some(secret), None) => Ok(AuthFields::Key { key, secret }),
        _ => Err(syntax("auth takes key and secret, or token")),
    }
}

fn subscription(fields: Map<String, Value>, resumable: bool) -> Result<Subscription, Refusal> {
    let mut subscription = Subscription::default();
    let mut seen = HashSet::new();
    let mut count = 0;
    for (name, value) in fields {
        if name == ChannelKind::SIGNALS_NAME {
            subscription.signals = signals(value, &mut count)?;
            continue;
        }
        // Signals of a category are `@CATEGORY` of `signals`, and no channel by themselves.
        match (ChannelKind::from_name(&name).filter(|kind| !kind.is_signals()), value) {
            (Some(_), Value::Null) => {}
            (Some(channel), Value::Array(symbols)) => {
                bound(&mut count, symbols.len())?;
                for symbol in symbols {
                    let Value::String(symbol) = symbol else {
                        return Err(syntax("a channel lists symbols as texts"));
                    };
                    let item = Item { channel, symbol: canonical(&symbol) };
                    if seen.insert(item.clone()) {
                        subscription.items.push(item);
                    }
                }
            }
            (Some(_), _) => return Err(syntax("a channel takes a list of symbols")),
            (None, Value::Object(since)) if resumable && name == "since" => {
                subscription.since = Some(read_since(since, &mut count)?);
            }
            (None, Value::Null) => {}
            (None, _) if resumable && name == "since" => {
                return Err((ErrorCode::InvalidSince, "since is no object"));
            }
            (None, value) if resumable && name == "max_rate" => {
                subscription.max_rate = Some(read_max_rate(&value)?);
            }
            (None, Value::Array(list)) if !list.is_empty() && list.iter().all(Value::is_string) => {
                bound(&mut count, 1)?;
                subscription.unknown_channels.push(name);
            }
            (None, _) => {}
        }
    }
    Ok(subscription)
}

fn signals(value: Value, count: &mut usize) -> Result<Vec<String>, Refusal> {
    let symbols = match value {
        Value::Null => return Ok(Vec::new()),
        Value::Array(symbols) => symbols,
        _ => return Err(syntax("a channel takes a list of symbols")),
    };
    bound(count, symbols.len())?;
    let mut seen = HashSet::new();
    let mut signals = Vec::new();
    for symbol in symbols {
        let symbol = canonical(symbol.as_str().ok_or(syntax("a channel lists symbols as texts"))?);
        if seen.insert(symbol.clone()) {
            signals.push(symbol);
        }
    }
    Ok(signals)
}

fn bound(count: &mut usize, more: usize) -> Result<(), Refusal> {
    *count += more;
    if *count > ITEMS_MAX { Err((ErrorCode::TooManyItems, "at most 10000 symbols in one request")) } else { Ok(()) }
}

fn canonical(symbol: &str) -> String {
    symbol.trim().to_ascii_uppercase()
}

fn read_since(fields: Map<String, Value>, count: &mut usize) -> Result<Since, Refusal> {
    const INVALID: ErrorCode = ErrorCode::InvalidSince;
    let mut epoch = None;
    let mut positions = Vec::new();
    for (name, value) in fields {
        match (ChannelKind::from_name(&name), value) {
            (None, value) if name == "epoch" => epoch = value.as_u64(),
            (Some(channel), Value::Object(symbols)) => {
                bound(count, symbols.len())?;
                for (symbol, seq) in symbols {
                    let seq = seq.as_u64().ok_or((INVALID, "a sequence number is an unsigned integer"))?;
                    positions.push((channel, canonical(&symbol), seq));
                }
            }
            (Some(_), _) => return Err((INVALID, "a channel in since holds sequence numbers by symbol")),
            (None, _) => return Err((INVALID, "since names an unknown channel")),
        }
    }
    let epoch = epoch.ok_or((INVALID, "since has no epoch, or one that is no unsigned integer"))?;
    Ok(Since { epoch, positions })
}

fn read_max_rate(value: &Value) -> Result<f64, Refusal> {
    match value.as_f64() {
        Some(rate) if MAX_RATE.contains(&rate) => Ok(rate),
        _ => Err((ErrorCode::InvalidMaxRate, "max_rate is a number from 0.01 to 1000")),
    }
}

#[cfg(test)]
mod tests;
