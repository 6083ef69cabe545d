//! The data lane: market data as complete WebSocket frames, written once per encoding for all clients.
//!
//! The sequencer calls these on its own thread for every message, so they are written by hand: the venue's exact
//! digits, no allocation but the growth of `out`, no intermediate tree. Each appends one server frame that holds
//! an array of one message. Control messages, which are rare and varied, are in `message`.

mod document;
mod json;
mod msgpack;

pub use document::{DOCUMENT_FIELDS_MAX, Document, TooManyFields};
pub(crate) use msgpack::{TIMESTAMP_TYPE, timestamp_bytes};

use crate::frame::{Opcode, encode_frame_with};
use crate::{Bar, ChannelKind, Indicators, Interval, Quote, Side, TickFlags, Trade};

/// How a session's messages are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Encoding {
    /// Text frames.
    #[default]
    Json = 0,
    /// Binary frames.
    MessagePack = 1,
}

impl Encoding {
    pub const COUNT: usize = 2;
    pub const ALL: [Encoding; Self::COUNT] = [Encoding::Json, Encoding::MessagePack];

    /// The value of `?encoding=`.
    pub const fn name(self) -> &'static str {
        match self {
            Encoding::Json => "json",
            Encoding::MessagePack => "msgpack",
        }
    }

    /// The encoding of that name.
    pub fn from_name(name: &str) -> Option<Encoding> {
        Self::ALL.into_iter().find(|encoding| encoding.name() == name)
    }

    /// The opcode of the frames, of both sides.
    pub const fn opcode(self) -> Opcode {
        match self {
            Encoding::Json => Opcode::Text,
            Encoding::MessagePack => Opcode::Binary,
        }
    }
}

/// Where a message stands: in its channel's numbering and in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Sequence number within the channel and epoch, from 1.
    pub seq: u64,
    /// The venue's time of the event, Unix ns.
    pub ts_event: i64,
    /// When our socket read returned it, Unix ns.
    pub ts_recv: i64,
    /// What is told of it beside, in trades and quotes.
    pub flags: TickFlags,
}

/// Appends a trade: `T` is `t`.
pub fn encode_trade(encoding: Encoding, symbol: &str, venue: &str, trade: &Trade, stamp: Stamp, out: &mut Vec<u8>) {
    encode_frame_with(encoding.opcode(), out, |out| match encoding {
        Encoding::Json => json::trade(symbol, venue, trade, stamp, out),
        Encoding::MessagePack => msgpack::trade(symbol, venue, trade, stamp, out),
    });
}

/// Appends a quote: `T` is `q`.
pub fn encode_quote(encoding: Encoding, symbol: &str, quote: &Quote, stamp: Stamp, out: &mut Vec<u8>) {
    encode_frame_with(encoding.opcode(), out, |out| match encoding {
        Encoding::Json => json::quote(symbol, quote, stamp, out),
        Encoding::MessagePack => msgpack::quote(symbol, quote, stamp, out),
    });
}

/// Appends a bar: `T` is `u` in [`ChannelKind::UpdatedBars`], `d` in [`ChannelKind::DailyBars`], `b` otherwise, with the
/// interval in `iv` unless that is a minute. `ts_recv` is that of the event that brought it about, Unix ns.
pub fn encode_bar(
    encoding: Encoding,
    symbol: &str,
    kind: ChannelKind,
    bar: &Bar,
    seq: u64,
    ts_recv: i64,
    out: &mut Vec<u8>,
) {
    let tag = match kind {
        ChannelKind::UpdatedBars => "u",
        ChannelKind::DailyBars => "d",
        _ => "b",
    };
    let interval = kind.interval().filter(|interval| tag == "b" && *interval != Interval::Minute);
    let stamp = Stamp { seq, ts_event: bar.start_ns, ts_recv, flags: TickFlags::NONE };
    encode_frame_with(encoding.opcode(), out, |out| match encoding {
        Encoding::Json => json::bar(tag, symbol, interval, bar, stamp, out),
        Encoding::MessagePack => msgpack::bar(tag, symbol, interval, bar, stamp, out),
    });
}

/// Appends the indicators as of a finished bar of the interval: `T` is `indicators`. `ts_recv` as for bars.
pub fn encode_indicators(
    encoding: Encoding,
    symbol: &str,
    interval: Interval,
    indicators: &Indicators,
    seq: u64,
    ts_recv: i64,
    out: &mut Vec<u8>,
) {
    let stamp = Stamp { seq, ts_event: indicators.start_ns, ts_recv, flags: TickFlags::NONE };
    encode_frame_with(encoding.opcode(), out, |out| match encoding {
        Encoding::Json => json::indicators(symbol, interval, indicators, stamp, out),
        Encoding::MessagePack => msgpack::indicators(symbol, interval, indicators, stamp, out),
    });
}

/// Appends the notice that the venue itself skipped `missed` messages before this point. It takes a sequence
/// number of its own in the channel.
pub fn encode_venue_gap(
    encoding: Encoding,
    symbol: &str,
    kind: ChannelKind,
    missed: u64,
    stamp: Stamp,
    out: &mut Vec<u8>,
) {
    encode_frame_with(encoding.opcode(), out, |out| match encoding {
        Encoding::Json => json::venue_gap(symbol, kind.name(), missed, stamp, out),
        Encoding::MessagePack => msgpack::venue_gap(symbol, kind.name(), missed, stamp, out),
    });
}

/// `tks`, the side of the taker, as Alpaca's crypto stream writes it.
const fn taker(side: Side) -> &'static str {
    match side {
        Side::Buy => "B",
        Side::Sell => "S",
    }
}

#[cfg(test)]
mod tests;
