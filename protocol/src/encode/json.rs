//! Market data as JSON text. Prices and sizes have the digits that the venue sent.

use std::io::Write;

use serde_json::Value;

use crate::encode::{Stamp, taker};
use crate::{Bar, Decimal, Indicators, Interval, Quote, TickFlags, Trade, format_rfc3339};

pub(super) fn trade(symbol: &str, venue: &str, trade: &Trade, stamp: Stamp, out: &mut Vec<u8>) {
    out.extend_from_slice(br#"[{"T":"t","S":"#);
    text(symbol, out);
    if let Some(id) = trade.id {
        unsigned(r#","i":"#, id, out);
    }
    out.extend_from_slice(br#","x":"#);
    text(venue, out);
    decimal(r#","p":"#, trade.price, out);
    decimal(r#","s":"#, trade.size, out);
    if let Some(side) = trade.taker {
        out.extend_from_slice(br#","tks":""#);
        out.extend_from_slice(taker(side).as_bytes());
        out.push(b'"');
    }
    flags(stamp.flags, out);
    end(stamp, out);
}

pub(super) fn quote(symbol: &str, quote: &Quote, stamp: Stamp, out: &mut Vec<u8>) {
    out.extend_from_slice(br#"[{"T":"q","S":"#);
    text(symbol, out);
    decimal(r#","bp":"#, quote.bid, out);
    decimal(r#","bs":"#, quote.bid_size, out);
    decimal(r#","ap":"#, quote.ask, out);
    decimal(r#","as":"#, quote.ask_size, out);
    flags(stamp.flags, out);
    end(stamp, out);
}

pub(super) fn bar(tag: &str, symbol: &str, interval: Option<Interval>, bar: &Bar, stamp: Stamp, out: &mut Vec<u8>) {
    out.extend_from_slice(br#"[{"T":""#);
    out.extend_from_slice(tag.as_bytes());
    out.extend_from_slice(br#"","S":"#);
    text(symbol, out);
    if let Some(interval) = interval {
        out.extend_from_slice(br#","iv":"#);
        text(interval.name(), out);
    }
    decimal(r#","o":"#, bar.open, out);
    decimal(r#","h":"#, bar.high, out);
    decimal(r#","l":"#, bar.low, out);
    decimal(r#","c":"#, bar.close, out);
    decimal(r#","v":"#, bar.volume, out);
    unsigned(r#","n":"#, bar.trades, out);
    decimal(r#","vw":"#, bar.vwap, out);
    end(stamp, out);
}

pub(super) fn indicators(symbol: &str, interval: Interval, indicators: &Indicators, stamp: Stamp, out: &mut Vec<u8>) {
    out.extend_from_slice(br#"[{"T":"indicators","S":"#);
    text(symbol, out);
    out.extend_from_slice(br#","iv":"#);
    text(interval.name(), out);
    for (key, value) in indicators.values() {
        out.extend_from_slice(b",\"");
        out.extend_from_slice(key.as_bytes());
        out.extend_from_slice(b"\":");
        float(value, out);
    }
    if let Some(rsi) = indicators.rsi {
        out.extend_from_slice(br#","rsi_signal":"#);
        text(rsi.signal.name(), out);
    }
    end(stamp, out);
}

pub(super) fn venue_gap(symbol: &str, channel: &str, missed: u64, stamp: Stamp, out: &mut Vec<u8>) {
    out.extend_from_slice(br#"[{"T":"gap","channel":"#);
    text(channel, out);
    out.extend_from_slice(br#","S":"#);
    text(symbol, out);
    unsigned(r#","reason":"venue","missed":"#, missed, out);
    end(stamp, out);
}

/// All but the end of a document.
pub(super) fn document<'a>(
    tag: &str,
    symbol: &str,
    fields: impl Iterator<Item = (&'a String, &'a Value)>,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(br#"[{"T":"#);
    text(tag, out);
    out.extend_from_slice(br#","S":"#);
    text(symbol, out);
    for (key, value) in fields {
        out.push(b',');
        text(key, out);
        // Writing into a vector does not fail.
        let _ = write!(out, ":{value}");
    }
}

/// What is told only where it is so.
fn flags(flags: TickFlags, out: &mut Vec<u8>) {
    if flags.outlier {
        out.extend_from_slice(br#","outlier":true"#);
    }
    if flags.mock {
        out.extend_from_slice(br#","mock":true"#);
    }
}

/// The keys that every message ends with: venue time, receive time, sequence.
pub(super) fn end(stamp: Stamp, out: &mut Vec<u8>) {
    out.extend_from_slice(br#","t":""#);
    format_rfc3339(stamp.ts_event, out);
    out.extend_from_slice(br#"","rx":"#);
    if stamp.ts_recv < 0 {
        out.push(b'-');
    }
    digits(stamp.ts_recv.unsigned_abs(), out);
    unsigned(r#","seq":"#, stamp.seq, out);
    out.extend_from_slice(b"}]");
}

fn decimal(key: &str, value: Decimal, out: &mut Vec<u8>) {
    out.extend_from_slice(key.as_bytes());
    value.write_to(out);
}

/// The fewest digits that name the number, without an exponent.
fn float(value: f64, out: &mut Vec<u8>) {
    if value.is_finite() {
        // Writing into a vector does not fail.
        let _ = write!(out, "{value}");
    } else {
        debug_assert!(false, "an indicator is finite");
        out.extend_from_slice(b"null");
    }
}

fn unsigned(key: &str, value: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(key.as_bytes());
    digits(value, out);
}

fn digits(mut value: u64, out: &mut Vec<u8>) {
    // u64::MAX has 20 digits.
    let mut buffer = [0; 20];
    let mut at = buffer.len();
    loop {
        at -= 1;
        buffer[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&buffer[at..]);
}

/// A quoted string. Symbols and venues are plain by their alphabet; anything else is escaped all the same, so that
/// no name can break out of its message.
fn text(value: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for &byte in value.as_bytes() {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            0..0x20 => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            }
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}
