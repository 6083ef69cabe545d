//! Market data as MessagePack: the same maps as in JSON, with prices and sizes as float 64, which is what the
//! client libraries of this encoding expect, and `t` as a timestamp (extension type -1).
//!
//! The formats are those of <https://github.com/msgpack/msgpack/blob/master/spec.md>, each in its shortest form.

use serde_json::Value;

use crate::encode::{Stamp, taker};
use crate::{Bar, Decimal, Indicators, Interval, Quote, TickFlags, Trade};

/// The extension type of timestamps.
pub(crate) const TIMESTAMP_TYPE: i8 = -1;

/// `t`, `rx` and `seq`, with which every message ends.
const END_ENTRIES: u8 = 3;

pub(super) fn trade(symbol: &str, venue: &str, trade: &Trade, stamp: Stamp, out: &mut Vec<u8>) {
    let known = u8::from(trade.id.is_some()) + u8::from(trade.taker.is_some()) + flag_entries(stamp.flags);
    start("t", 5 + known + END_ENTRIES, out);
    entry("S", symbol, out);
    if let Some(id) = trade.id {
        unsigned("i", id, out);
    }
    entry("x", venue, out);
    decimal("p", trade.price, out);
    decimal("s", trade.size, out);
    if let Some(side) = trade.taker {
        entry("tks", taker(side), out);
    }
    flags(stamp.flags, out);
    end(stamp, out);
}

pub(super) fn quote(symbol: &str, quote: &Quote, stamp: Stamp, out: &mut Vec<u8>) {
    start("q", 6 + flag_entries(stamp.flags) + END_ENTRIES, out);
    entry("S", symbol, out);
    decimal("bp", quote.bid, out);
    decimal("bs", quote.bid_size, out);
    decimal("ap", quote.ask, out);
    decimal("as", quote.ask_size, out);
    flags(stamp.flags, out);
    end(stamp, out);
}

pub(super) fn bar(tag: &str, symbol: &str, interval: Option<Interval>, bar: &Bar, stamp: Stamp, out: &mut Vec<u8>) {
    start(tag, 9 + u8::from(interval.is_some()) + END_ENTRIES, out);
    entry("S", symbol, out);
    if let Some(interval) = interval {
        entry("iv", interval.name(), out);
    }
    decimal("o", bar.open, out);
    decimal("h", bar.high, out);
    decimal("l", bar.low, out);
    decimal("c", bar.close, out);
    decimal("v", bar.volume, out);
    unsigned("n", bar.trades, out);
    decimal("vw", bar.vwap, out);
    end(stamp, out);
}

pub(super) fn indicators(symbol: &str, interval: Interval, indicators: &Indicators, stamp: Stamp, out: &mut Vec<u8>) {
    // At most 3 + 11 + 1 + 3.
    let values = indicators.values().count() as u8 + u8::from(indicators.rsi.is_some());
    start("indicators", 3 + values + END_ENTRIES, out);
    entry("S", symbol, out);
    entry("iv", interval.name(), out);
    for (key, value) in indicators.values() {
        text(key, out);
        float(value, out);
    }
    if let Some(rsi) = indicators.rsi {
        entry("rsi_signal", rsi.signal.name(), out);
    }
    end(stamp, out);
}

pub(super) fn venue_gap(symbol: &str, channel: &str, missed: u64, stamp: Stamp, out: &mut Vec<u8>) {
    start("gap", 5 + END_ENTRIES, out);
    entry("channel", channel, out);
    entry("S", symbol, out);
    entry("reason", "venue", out);
    unsigned("missed", missed, out);
    end(stamp, out);
}

/// All but the end of a document.
pub(super) fn document<'a>(
    tag: &str,
    symbol: &str,
    count: usize,
    fields: impl Iterator<Item = (&'a String, &'a Value)>,
    out: &mut Vec<u8>,
) {
    // `DOCUMENT_FIELDS_MAX`, 2 and 3 are below 256.
    start(tag, 2 + count as u8 + END_ENTRIES, out);
    entry("S", symbol, out);
    for (key, value) in fields {
        text(key, out);
        if let Err(error) = rmp_serde::encode::write_named(out, value) {
            panic!("Invariant: a JSON value can always be packed ({error})");
        }
    }
}

/// An array of one map of `entries`, of which the first is `T`.
fn start(tag: &str, entries: u8, out: &mut Vec<u8>) {
    if entries < 16 {
        out.extend_from_slice(&[0x91, 0x80 | entries]);
    } else {
        out.extend_from_slice(&[0x91, 0xde, 0, entries]);
    }
    entry("T", tag, out);
}

/// How many entries [`flags`] writes.
fn flag_entries(flags: TickFlags) -> u8 {
    u8::from(flags.outlier) + u8::from(flags.mock)
}

/// What is told only where it is so.
fn flags(flags: TickFlags, out: &mut Vec<u8>) {
    for (key, _) in [("outlier", flags.outlier), ("mock", flags.mock)].into_iter().filter(|(_, is_so)| *is_so) {
        text(key, out);
        out.push(0xc3);
    }
}

pub(super) fn end(stamp: Stamp, out: &mut Vec<u8>) {
    text("t", out);
    timestamp(stamp.ts_event, out);
    match u64::try_from(stamp.ts_recv) {
        Ok(ns) => unsigned("rx", ns, out),
        Err(_) => {
            text("rx", out);
            out.push(0xd3);
            out.extend_from_slice(&stamp.ts_recv.to_be_bytes());
        }
    }
    unsigned("seq", stamp.seq, out);
}

fn entry(key: &str, value: &str, out: &mut Vec<u8>) {
    text(key, out);
    text(value, out);
}

fn decimal(key: &str, value: Decimal, out: &mut Vec<u8>) {
    text(key, out);
    float(value.to_f64(), out);
}

fn float(value: f64, out: &mut Vec<u8>) {
    out.push(0xcb);
    out.extend_from_slice(&value.to_be_bytes());
}

fn unsigned(key: &str, value: u64, out: &mut Vec<u8>) {
    text(key, out);
    match value {
        0..=0x7f => out.push(value as u8),
        0x80..=0xff => out.extend_from_slice(&[0xcc, value as u8]),
        0x100..=0xffff => {
            out.push(0xcd);
            out.extend_from_slice(&(value as u16).to_be_bytes());
        }
        0x1_0000..=0xffff_ffff => {
            out.push(0xce);
            out.extend_from_slice(&(value as u32).to_be_bytes());
        }
        _ => {
            out.push(0xcf);
            out.extend_from_slice(&value.to_be_bytes());
        }
    }
}

fn text(value: &str, out: &mut Vec<u8>) {
    match value.len() {
        len @ 0..=31 => out.push(0xa0 | len as u8),
        len @ 32..=0xff => out.extend_from_slice(&[0xd9, len as u8]),
        len @ 0x100..=0xffff => {
            out.push(0xda);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            out.push(0xdb);
            out.extend_from_slice(&(len as u32).to_be_bytes());
        }
    }
    out.extend_from_slice(value.as_bytes());
}

fn timestamp(ns: i64, out: &mut Vec<u8>) {
    let (bytes, len) = timestamp_bytes(ns);
    match len {
        4 => out.push(0xd6),
        8 => out.push(0xd7),
        _ => out.extend_from_slice(&[0xc7, 12]),
    }
    out.push(TIMESTAMP_TYPE as u8);
    out.extend_from_slice(&bytes[..len]);
}

/// Unix ns as the bytes of a timestamp 32, 64 or 96, whichever is the shortest that holds it, and their count.
pub(crate) fn timestamp_bytes(ns: i64) -> ([u8; 12], usize) {
    let (seconds, nanos) = (ns.div_euclid(1_000_000_000), ns.rem_euclid(1_000_000_000) as u32);
    let mut bytes = [0; 12];
    let len = match u64::try_from(seconds) {
        Ok(seconds @ 0..=0xffff_ffff) if nanos == 0 => {
            bytes[..4].copy_from_slice(&(seconds as u32).to_be_bytes());
            4
        }
        // An i64 of ns ends in 2262, whose seconds fit the 34 bits of this format.
        Ok(seconds) => {
            bytes[..8].copy_from_slice(&(u64::from(nanos) << 34 | seconds).to_be_bytes());
            8
        }
        Err(_) => {
            bytes[..4].copy_from_slice(&nanos.to_be_bytes());
            bytes[4..].copy_from_slice(&seconds.to_be_bytes());
            12
        }
    };
    (bytes, len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(write: impl FnOnce(&mut Vec<u8>), start: &[u8], len: usize) {
        let mut out = Vec::new();
        write(&mut out);
        assert_eq!((&out[..start.len()], out.len()), (start, len));
    }

    #[test]
    fn everything_has_its_shortest_form() {
        let keyed = |value| move |out: &mut Vec<u8>| unsigned("k", value, out);
        check(keyed(0x7f), &[0xa1, b'k', 0x7f], 3);
        check(keyed(0x80), &[0xa1, b'k', 0xcc, 0x80], 4);
        check(keyed(0xff), &[0xa1, b'k', 0xcc, 0xff], 4);
        check(keyed(0x100), &[0xa1, b'k', 0xcd, 0x01, 0x00], 5);
        check(keyed(0xffff), &[0xa1, b'k', 0xcd, 0xff, 0xff], 5);
        check(keyed(0x1_0000), &[0xa1, b'k', 0xce, 0x00, 0x01, 0x00, 0x00], 7);
        check(keyed(0xffff_ffff), &[0xa1, b'k', 0xce, 0xff, 0xff, 0xff, 0xff], 7);
        check(keyed(0x1_0000_0000), &[0xa1, b'k', 0xcf, 0, 0, 0, 1, 0, 0, 0, 0], 11);
        for (len, start) in [
            (0, &[0xa0][..]),
            (31, &[0xbf]),
            (32, &[0xd9, 32]),
            (255, &[0xd9, 0xff]),
            (256, &[0xda, 1, 0]),
            (65_535, &[0xda, 0xff, 0xff]),
            (65_536, &[0xdb, 0, 1, 0, 0]),
        ] {
            check(|out| text(&"x".repeat(len), out), start, start.len() + len);
        }
        const SECOND: i64 = 1_000_000_000;
        check(|out| timestamp(0, out), &[0xd6, 0xff, 0, 0, 0, 0], 6);
        check(|out| timestamp(0xffff_ffff * SECOND, out), &[0xd6, 0xff, 0xff, 0xff, 0xff, 0xff], 6);
        check(|out| timestamp(0x1_0000_0000 * SECOND, out), &[0xd7, 0xff, 0, 0, 0, 1, 0, 0, 0, 0], 10);
        check(|out| timestamp(1, out), &[0xd7, 0xff, 0, 0, 0, 4, 0, 0, 0, 0], 10);
        check(|out| timestamp(-1, out), &[0xc7, 12, 0xff, 0x3b, 0x9a, 0xc9, 0xff, 0xff], 15);
    }
}
