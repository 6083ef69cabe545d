//! Messages of the server, read in full and checked field by field: control, everything that `scan` is not sure about, and
//! a sample of the rest.
//!
//! Pure. It reads by the words of PROTOCOL.md, with serde, and not with the gateway's own code: a message that only the
//! gateway can read is a fault. Keys that are not known are ignored, as the protocol asks of clients.

mod value;

use protocol::{ChannelKind, Encoding, Interval, parse_rfc3339};
use serde_json::{Map, Value};

pub use value::timestamp_ns;

/// One message.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// A trade, quote or bar.
    Data(Data),
    /// The venue's own numbering shows that `missed` messages never reached the gateway. Numbered like a trade.
    VenueGap {
        data: Data,
        missed: u64,
    },
    /// Messages that this client will not get. `to` is absent where nobody knows it.
    Gap {
        kind: ChannelKind,
        symbol: String,
        from: u64,
        to: Option<u64>,
    },
    /// The first message of a connection.
    Connected,
    Authenticated {
        epoch: u64,
        delayed_ms: u64,
    },
    Subscription(Subscription),
    Error(ErrorMessage),
    Heartbeat {
        last: Vec<(ChannelKind, String, u64)>,
    },
    Draining {
        reconnect_ms: u64,
    },
    /// The user's rights are others from now on.
    Entitlement {
        delayed_ms: u64,
        /// Of the user's record.
        version: u64,
    },
    /// Something that this version of the protocol does not know, or that needs no check.
    Other,
}

/// What data messages have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Data {
    pub kind: ChannelKind,
    pub symbol: String,
    /// At least 1.
    pub seq: u64,
    /// Unix ns.
    pub rx_ns: i64,
    /// The venue's time, Unix ns.
    pub event_ns: i64,
}

/// Everything that a session is subscribed to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscription {
    /// Of the request; 0 where it is absent or not one of ours.
    pub id: u64,
    pub epoch: u64,
    pub channels: Box<[Vec<String>; ChannelKind::COUNT]>,
}

/// A refusal, in the server's words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErrorMessage {
    pub code: u16,
    pub id: u64,
    /// Code, text, detail and what it concerns.
    pub text: String,
}

/// Appends the messages of a payload.
///
/// # Errors
/// In words, what is wrong with the payload or with one of its messages.
pub fn parse(encoding: Encoding, payload: &[u8], out: &mut Vec<Message>) -> Result<(), String> {
    let Value::Array(messages) = value::read(encoding, payload)? else {
        return Err("no array of messages".to_owned());
    };
    for message in messages {
        let Value::Object(fields) = message else { return Err("a message that is no map".to_owned()) };
        let tag = text(&fields, "T")?;
        out.push(read(tag, &fields).map_err(|what| format!("{what} in a message with T \"{tag}\""))?);
    }
    Ok(())
}

fn read(tag: &str, fields: &Map<String, Value>) -> Result<Message, String> {
    Ok(match tag {
        "t" => {
            unsigned(fields, "i")?;
            text(fields, "x")?;
            quantity(fields, &["p", "s"])?;
            if !matches!(text(fields, "tks")?, "B" | "S") {
                return Err("\"tks\" is neither B nor S".to_owned());
            }
            Message::Data(data(ChannelKind::Trades, fields)?)
        }
        "q" => {
            quantity(fields, &["bp", "bs", "ap", "as"])?;
            Message::Data(data(ChannelKind::Quotes, fields)?)
        }
        "b" | "u" | "d" => {
            quantity(fields, &["o", "h", "l", "c", "v", "vw"])?;
            unsigned(fields, "n")?;
            let kind = match tag {
                "u" => ChannelKind::UpdatedBars,
                "d" => ChannelKind::DailyBars,
                // Bars of a minute do not say so.
                _ if !fields.contains_key("iv") => ChannelKind::Bars,
                _ => ChannelKind::bars(interval(fields)?),
            };
            Message::Data(data(kind, fields)?)
        }
        "indicators" => Message::Data(data(ChannelKind::indicators(interval(fields)?), fields)?),
        "gap" if text(fields, "reason")? == "venue" => {
            let data = data(channel(fields)?, fields)?;
            Message::VenueGap { data, missed: unsigned(fields, "missed")? }
        }
        "gap" => {
            let (kind, symbol) = (channel(fields)?, text(fields, "S")?.to_owned());
            let from = unsigned(fields, "from")?;
            let to = if fields.contains_key("to") { Some(unsigned(fields, "to")?) } else { None };
            if to.is_some_and(|to| to < from) {
                return Err("a gap that ends before it begins".to_owned());
            }
            Message::Gap { kind, symbol, from, to }
        }
        "success" => match text(fields, "msg")? {
            "connected" => Message::Connected,
            "authenticated" => Message::Authenticated {
                epoch: unsigned(fields, "epoch")?,
                delayed_ms: if fields.contains_key("delayed_ms") { unsigned(fields, "delayed_ms")? } else { 0 },
            },
            _ => Message::Other,
        },
        "subscription" => {
            let mut channels = Box::<[Vec<String>; ChannelKind::COUNT]>::default();
            for kind in ChannelKind::ALL {
                if kind.is_always_listed() || fields.contains_key(kind.name()) {
                    channels[kind as usize] = texts(fields, kind.name())?;
                }
            }
            Message::Subscription(Subscription { id: id(fields), epoch: unsigned(fields, "epoch")?, channels })
        }
        "error" => Message::Error(ErrorMessage {
            code: u16::try_from(unsigned(fields, "code")?).map_err(|_| "\"code\" is above 65535")?,
            id: id(fields),
            text: error_text(fields)?,
        }),
        "heartbeat" => {
            time(fields)?;
            Message::Heartbeat { last: last_numbers(fields)? }
        }
        "entitlement" => {
            text(fields, "tier")?;
            text(fields, "status")?;
            Message::Entitlement { delayed_ms: unsigned(fields, "delayed_ms")?, version: unsigned(fields, "version")? }
        }
        "draining" => Message::Draining { reconnect_ms: unsigned(fields, "reconnect_ms")? },
        _ => Message::Other,
    })
}

fn data(kind: ChannelKind, fields: &Map<String, Value>) -> Result<Data, String> {
    let symbol = text(fields, "S")?;
    if symbol.is_empty() {
        return Err("\"S\" is empty".to_owned());
    }
    let seq = unsigned(fields, "seq")?;
    if seq == 0 {
        return Err("\"seq\" is 0".to_owned());
    }
    let rx_ns = fields.get("rx").and_then(Value::as_i64).ok_or("\"rx\" is no integer of 64 bits")?;
    Ok(Data { kind, symbol: symbol.to_owned(), seq, rx_ns, event_ns: time(fields)? })
}

fn text<'a>(fields: &'a Map<String, Value>, key: &str) -> Result<&'a str, String> {
    fields.get(key).and_then(Value::as_str).ok_or_else(|| format!("\"{key}\" is no text"))
}

fn unsigned(fields: &Map<String, Value>, key: &str) -> Result<u64, String> {
    fields.get(key).and_then(Value::as_u64).ok_or_else(|| format!("\"{key}\" is no unsigned integer"))
}

/// Prices and sizes: numbers, and none below zero that is a size.
fn quantity(fields: &Map<String, Value>, keys: &[&str]) -> Result<(), String> {
    for key in keys {
        let value = fields.get(*key).and_then(Value::as_f64).ok_or_else(|| format!("\"{key}\" is no number"))?;
        if matches!(*key, "s" | "bs" | "as" | "v") && value < 0.0 {
            return Err(format!("\"{key}\" is negative"));
        }
    }
    Ok(())
}

fn time(fields: &Map<String, Value>) -> Result<i64, String> {
    parse_rfc3339(text(fields, "t")?.as_bytes()).ok_or_else(|| "\"t\" is no time".to_owned())
}

fn channel(fields: &Map<String, Value>) -> Result<ChannelKind, String> {
    ChannelKind::from_name(text(fields, "channel")?).ok_or_else(|| "\"channel\" is no channel".to_owned())
}

fn interval(fields: &Map<String, Value>) -> Result<Interval, String> {
    Interval::from_name(text(fields, "iv")?).ok_or_else(|| "\"iv\" is no interval".to_owned())
}

fn texts(fields: &Map<String, Value>, key: &str) -> Result<Vec<String>, String> {
    let list = fields.get(key).and_then(Value::as_array).ok_or_else(|| format!("\"{key}\" is no list"))?;
    list.iter()
        .map(|item| item.as_str().map(str::to_owned).ok_or_else(|| format!("\"{key}\" lists what is no text")))
        .collect()
}

/// Our own ids are numbers.
fn id(fields: &Map<String, Value>) -> u64 {
    fields.get("id").and_then(Value::as_u64).unwrap_or(0)
}

fn error_text(fields: &Map<String, Value>) -> Result<String, String> {
    let mut out = format!("{} {}", unsigned(fields, "code")?, text(fields, "msg")?);
    for key in ["detail", "channel", "S", "symbols", "retry_after"] {
        match fields.get(key) {
            None => {}
            Some(Value::String(value)) => out.push_str(&format!(", {key} {value}")),
            Some(Value::Array(list)) if list.len() > 5 => {
                out.push_str(&format!(", {key} {} and {} more", Value::from(&list[..5]), list.len() - 5));
            }
            Some(value) => out.push_str(&format!(", {key} {value}")),
        }
    }
    Ok(out)
}

fn last_numbers(fields: &Map<String, Value>) -> Result<Vec<(ChannelKind, String, u64)>, String> {
    let mut last = Vec::new();
    let Some(channels) = fields.get("seq") else { return Ok(last) };
    for (name, symbols) in channels.as_object().ok_or("\"seq\" is no map")? {
        let kind = ChannelKind::from_name(name).ok_or("\"seq\" names no channel")?;
        for (symbol, number) in symbols.as_object().ok_or("\"seq\" holds no map of symbols")? {
            last.push((kind, symbol.clone(), number.as_u64().ok_or("\"seq\" holds no number")?));
        }
    }
    Ok(last)
}

#[cfg(test)]
mod tests;
