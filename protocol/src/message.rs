//! The control lane: what the server says apart from market data.
//!
//! Written on the thread that owns the session, one complete WebSocket frame each, which holds an array of one
//! message. These messages are rare, so they go through serde. Deliberately absent: market data, which is in
//! `encode`, and the frames without content of ours (ping, pong, close), which are in `frame`.

use std::time::Duration;

use serde::ser::{SerializeMap, SerializeTuple};
use serde::{Serialize, Serializer};

use crate::command::RequestId;
use crate::encode::{TIMESTAMP_TYPE, timestamp_bytes};
use crate::frame::encode_frame_with;
use crate::{ChannelKind, Encoding, ErrorCode, format_rfc3339};

/// One message on the control lane.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "T", rename_all = "lowercase")]
pub enum ServerMessage<'a> {
    /// See [`ServerMessage::connected`] and [`ServerMessage::authenticated`].
    Success(Success<'a>),
    Error(ErrorMessage<'a>),
    Subscription(SubscriptionAck<'a>),
    Heartbeat(Heartbeat<'a>),
    Gap(Gap<'a>),
    /// The server is about to stop.
    Draining {
        /// How long to wait before connecting again, ms; spread over the clients.
        reconnect_ms: u64,
    },
    /// A source of market data changed its state.
    Feed {
        source: &'a str,
        state: FeedState,
    },
    /// What the user may have is another from now on.
    Entitlement {
        /// The tier whose rights apply.
        tier: &'a str,
        status: &'a str,
        /// By how much this user's data is held back from now on, ms; 0 with real-time access.
        delayed_ms: u64,
        /// Of the user's record; 0 where nobody counts them.
        version: u64,
        /// For people; its text may change.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<&'a str>,
    },
}

impl<'a> ServerMessage<'a> {
    /// The first message of every connection.
    pub const fn connected() -> ServerMessage<'static> {
        ServerMessage::Success(Success { msg: "connected", session: None })
    }

    /// The answer to a sign-in that succeeded.
    pub const fn authenticated(session: Session<'a>) -> ServerMessage<'a> {
        ServerMessage::Success(Success { msg: "authenticated", session: Some(session) })
    }

    /// Appends the message as one complete WebSocket frame: text for JSON, binary for MessagePack.
    pub fn encode(&self, encoding: Encoding, out: &mut Vec<u8>) {
        encode_frame_with(encoding.opcode(), out, |out| {
            let written = match encoding {
                Encoding::Json => serde_json::to_writer(out, &[self]).map_err(|e| e.to_string()),
                Encoding::MessagePack => rmp_serde::encode::write_named(out, &[self]).map_err(|e| e.to_string()),
            };
            if let Err(error) = written {
                panic!("Invariant: a control message can always be written ({error})");
            }
        });
    }
}

/// `success`: made by [`ServerMessage::connected`] and [`ServerMessage::authenticated`].
#[derive(Clone, Debug)]
pub struct Success<'a> {
    msg: &'static str,
    session: Option<Session<'a>>,
}

impl Serialize for Success<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let session = self.session.as_ref();
        let mut map = serializer.serialize_map(Some(1 + if session.is_some() { 5 } else { 0 }))?;
        map.serialize_entry("msg", self.msg)?;
        if let Some(session) = session {
            map.serialize_entry("epoch", &session.epoch)?;
            map.serialize_entry("user", session.user)?;
            map.serialize_entry("tier", session.tier)?;
            map.serialize_entry("delayed_ms", &session.delayed_ms)?;
            map.serialize_entry("heartbeat_ms", &session.heartbeat_ms)?;
        }
        map.end()
    }
}

/// What a client is told when it is signed in.
#[derive(Clone, Copy, Debug)]
pub struct Session<'a> {
    /// The epoch of all sequence numbers of this server.
    pub epoch: u64,
    pub user: &'a str,
    pub tier: &'a str,
    /// By how much this user's data is held back, ms; 0 with real-time access.
    pub delayed_ms: u64,
    /// After how long without a message a heartbeat comes, ms.
    pub heartbeat_ms: u64,
}

/// `error`: a request, or a part of one, that was refused.
#[derive(Clone, Copy, Debug)]
pub struct ErrorMessage<'a> {
    pub code: ErrorCode,
    /// The request's id.
    pub id: Option<&'a RequestId>,
    /// The channel as the client wrote it.
    pub channel: Option<&'a str>,
    /// The symbols that were refused for this reason: `S` where it is one, `symbols` where there are several.
    pub symbols: &'a [&'a str],
    /// More for the person who wrote the client; never a secret.
    pub detail: Option<&'a str>,
    /// When to try again; in seconds on the wire.
    pub retry_after: Option<Duration>,
}

impl<'a> ErrorMessage<'a> {
    /// An error about nothing in particular.
    pub const fn new(code: ErrorCode) -> ErrorMessage<'a> {
        ErrorMessage { code, id: None, channel: None, symbols: &[], detail: None, retry_after: None }
    }
}

impl Serialize for ErrorMessage<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let optional = [
            self.id.is_some(),
            self.channel.is_some(),
            !self.symbols.is_empty(),
            self.detail.is_some(),
            self.retry_after.is_some(),
        ];
        let mut map = serializer.serialize_map(Some(2 + optional.into_iter().filter(|present| *present).count()))?;
        map.serialize_entry("code", &self.code.code())?;
        map.serialize_entry("msg", self.code.message())?;
        if let Some(id) = self.id {
            map.serialize_entry("id", id)?;
        }
        if let Some(channel) = self.channel {
            map.serialize_entry("channel", channel)?;
        }
        match self.symbols {
            [] => {}
            [symbol] => map.serialize_entry("S", symbol)?,
            symbols => map.serialize_entry("symbols", symbols)?,
        }
        if let Some(detail) = self.detail {
            map.serialize_entry("detail", detail)?;
        }
        if let Some(retry_after) = self.retry_after {
            map.serialize_entry("retry_after", &retry_after.as_secs_f64())?;
        }
        map.end()
    }
}

/// Symbols by channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SymbolLists<'a> {
    /// Boxed: there are many kinds, and messages are passed by value.
    lists: Box<[Vec<&'a str>; ChannelKind::COUNT]>,
    /// Of signals as clients ask for them, whatever the category.
    signals: Vec<&'a str>,
}

impl<'a> SymbolLists<'a> {
    pub fn push(&mut self, channel: ChannelKind, symbol: &'a str) {
        self.lists[channel as usize].push(symbol);
    }

    /// Adds to [`ChannelKind::SIGNALS_NAME`].
    pub fn push_signals(&mut self, symbol: &'a str) {
        self.signals.push(symbol);
    }

    pub fn list(&self, channel: ChannelKind) -> &[&'a str] {
        &self.lists[channel as usize]
    }

    pub fn is_empty(&self) -> bool {
        self.lists.iter().all(Vec::is_empty) && self.signals.is_empty()
    }

    /// The lists that are not empty, or of which `always` is true, by name.
    fn entries(&self, always: impl Fn(ChannelKind) -> bool) -> impl Iterator<Item = (&'static str, &[&'a str])> {
        let of_kind = ChannelKind::ALL.into_iter().map(move |kind| (kind.name(), self.list(kind), always(kind)));
        of_kind
            .chain([(ChannelKind::SIGNALS_NAME, self.signals.as_slice(), false)])
            .filter(|(_, list, always)| *always || !list.is_empty())
            .map(|(name, list, _)| (name, list))
    }
}

/// Only the channels that list something.
impl Serialize for SymbolLists<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let listed = || self.entries(|_| false);
        let mut map = serializer.serialize_map(Some(listed().count()))?;
        for (name, list) in listed() {
            map.serialize_entry(name, list)?;
        }
        map.end()
    }
}

/// `subscription`: everything the session is subscribed to after a request. The channels that
/// [`ChannelKind::is_always_listed`] names are there also without a symbol.
#[derive(Clone, Debug)]
pub struct SubscriptionAck<'a> {
    pub id: Option<&'a RequestId>,
    pub channels: SymbolLists<'a>,
    pub epoch: u64,
    /// By how much the data is held back, ms, where it is.
    pub delayed_ms: Option<u64>,
    /// What the request named and was so already: neither an error nor a change.
    pub unchanged: SymbolLists<'a>,
}

impl Serialize for SubscriptionAck<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let optional = [self.id.is_some(), self.delayed_ms.is_some(), !self.unchanged.is_empty()];
        let present = optional.into_iter().filter(|present| *present).count();
        let listed = || self.channels.entries(ChannelKind::is_always_listed);
        let mut map = serializer.serialize_map(Some(listed().count() + 1 + present))?;
        if let Some(id) = self.id {
            map.serialize_entry("id", id)?;
        }
        for (name, list) in listed() {
            map.serialize_entry(name, list)?;
        }
        map.serialize_entry("epoch", &self.epoch)?;
        if let Some(delayed_ms) = self.delayed_ms {
            map.serialize_entry("delayed_ms", &delayed_ms)?;
        }
        if !self.unchanged.is_empty() {
            map.serialize_entry("unchanged", &self.unchanged)?;
        }
        map.end()
    }
}

/// `heartbeat`: nothing else was to say for a while.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Heartbeat<'a> {
    /// The server's time, Unix ns.
    #[serde(serialize_with = "timestamp")]
    pub t: i64,
    /// The last sequence number of each channel, in any order.
    #[serde(serialize_with = "positions")]
    pub seq: &'a [Position<'a>],
}

/// The last sequence number of one symbol's channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position<'a> {
    pub channel: ChannelKind,
    pub symbol: &'a str,
    pub seq: u64,
}

/// As `{"trades":{"BTC/USD":17}}`.
fn positions<S: Serializer>(positions: &[Position<'_>], serializer: S) -> Result<S::Ok, S::Error> {
    struct OfKind<'a>(&'a [Position<'a>], ChannelKind);

    impl OfKind<'_> {
        fn iter(&self) -> impl Iterator<Item = &Position<'_>> {
            self.0.iter().filter(|position| position.channel == self.1)
        }
    }

    impl Serialize for OfKind<'_> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut map = serializer.serialize_map(Some(self.iter().count()))?;
            for position in self.iter() {
                map.serialize_entry(position.symbol, &position.seq)?;
            }
            map.end()
        }
    }

    let kinds =
        || ChannelKind::ALL.map(|kind| OfKind(positions, kind)).into_iter().filter(|k| k.iter().next().is_some());
    let mut map = serializer.serialize_map(Some(kinds().count()))?;
    for kind in kinds() {
        map.serialize_entry(kind.1.name(), &kind)?;
    }
    map.end()
}

/// `gap`: messages that this client will not get.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Gap<'a> {
    #[serde(serialize_with = "channel_name")]
    pub channel: ChannelKind,
    #[serde(rename = "S")]
    pub symbol: &'a str,
    /// The first sequence number that is missing.
    pub from: u64,
    /// The last one; absent with [`GapReason::Epoch`], where nobody knows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<u64>,
    pub reason: GapReason,
}

/// Why messages are missing. (A gap in the venue's own numbering is market data: `encode_venue_gap`.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum GapReason {
    /// They are no longer retained.
    Retention,
    /// `since` names another epoch: the numbering began anew.
    Epoch,
}

/// The state of a source of market data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FeedState {
    /// Connected, and its messages arrive.
    Up,
    /// Connected, and silent for longer than it should be.
    Stale,
    /// Not connected.
    Down,
}

fn channel_name<S: Serializer>(channel: &ChannelKind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(channel.name())
}

/// RFC 3339 in JSON, a timestamp extension in MessagePack.
fn timestamp<S: Serializer>(ns: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    struct Extension(i64);
    struct Bytes<'a>(&'a [u8]);

    impl Serialize for Extension {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let (bytes, len) = timestamp_bytes(self.0);
            let mut tuple = serializer.serialize_tuple(2)?;
            tuple.serialize_element(&TIMESTAMP_TYPE)?;
            tuple.serialize_element(&Bytes(&bytes[..len]))?;
            tuple.end()
        }
    }

    impl Serialize for Bytes<'_> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_bytes(self.0)
        }
    }

    if serializer.is_human_readable() {
        let mut text = Vec::with_capacity(30);
        format_rfc3339(*ns, &mut text);
        serializer.serialize_str(&String::from_utf8_lossy(&text))
    } else {
        serializer.serialize_newtype_struct(rmp_serde::MSGPACK_EXT_STRUCT_NAME, &Extension(*ns))
    }
}

#[cfg(test)]
mod tests;
