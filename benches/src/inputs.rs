//! One trade, one quote, one bar, one tick, with the digits of real ones. Pure.

use protocol::{Bar, Decimal, InstrumentId, Quote, Side, SourceId, Stamp, Tick, TickBody, TickFlags, Trade};

pub const SYMBOL: &str = "BTC/USD";
/// The venue as clients see it.
pub const VENUE: &str = "coinbase";
/// The venue's time of the inputs, Unix ns.
pub const NOW_NS: i64 = 1_790_733_794_331_644_000;

pub const STAMP: Stamp =
    Stamp { seq: 1_234_567, ts_event: NOW_NS, ts_recv: NOW_NS + 8_467_222, flags: TickFlags::NONE };

/// The decimal that `text` spells.
///
/// # Panics
/// Where it spells none.
pub fn decimal(text: &str) -> Decimal {
    Decimal::parse(text.as_bytes()).expect("a decimal")
}

pub fn trade() -> Trade {
    Trade { id: Some(1_100_243_492), price: decimal("83425.96"), size: decimal("0.00214590"), taker: Some(Side::Sell) }
}

pub fn quote() -> Quote {
    Quote {
        bid: decimal("83425.95"),
        bid_size: decimal("0.10000000"),
        ask: decimal("83425.96"),
        ask_size: decimal("0.39004000"),
    }
}

pub fn bar() -> Bar {
    Bar {
        start_ns: 1_790_733_780_000_000_000,
        open: decimal("83401.12"),
        high: decimal("83440.00"),
        low: decimal("83399.99"),
        close: decimal("83425.96"),
        volume: decimal("12.40217731"),
        trades: 412,
        vwap: decimal("83419.662871"),
    }
}

/// A trade as it travels through the ring; `id` tells it from others.
pub fn tick(id: u64) -> Tick {
    Tick {
        instrument: InstrumentId(3),
        source: SourceId(0),
        flags: TickFlags::default(),
        ts_event: NOW_NS,
        ts_recv: STAMP.ts_recv,
        body: TickBody::Trade(Trade { id: Some(id), ..trade() }),
    }
}

/// A frame of Kite with `count` full packets of as many instruments, the first ones of NSE: one of INFY with the tokens,
/// the last trade and the exchange's time changed.
pub fn full_packets(count: u16, time_ns: i64) -> Vec<u8> {
    let seconds = u32::try_from(time_ns / 1_000_000_000).unwrap_or(u32::MAX).to_be_bytes();
    let mut frame = count.to_be_bytes().to_vec();
    for n in 0..count {
        let mut packet = FULL_PACKET.map(u32::to_be_bytes);
        packet[0] = ((u32::from(n) + 1) << 8 | 1).to_be_bytes();
        packet[2] = (u32::from(n) % 97 + 1).to_be_bytes();
        (packet[11], packet[15]) = (seconds, seconds);
        frame.extend(184u16.to_be_bytes());
        packet.iter().for_each(|word| frame.extend(word));
    }
    frame
}

/// The words of a full packet: the summary, times and open interest, five bids and five asks.
const FULL_PACKET: [u32; 46] = [
    0x00063a01, 0x000266ba, 0x00000007, 0x0002656d, 0x00123217, 0x0003e9bb, 0x00058a01, 0x000264f3, 0x0002673c,
    0x000261c9, 0x0002646c, 0x60e2947f, 0x00000000, 0x00000000, 0x00000000, 0x60e2947f, 0x00000005, 0x0002669c,
    0x00010000, 0x0000008c, 0x00026674, 0x00020000, 0x00000002, 0x0002666f, 0x00010000, 0x000000db, 0x0002666a,
    0x00070000, 0x00000032, 0x00026665, 0x00010000, 0x000000ac, 0x000266ba, 0x00030000, 0x0000002c, 0x000266bf,
    0x00030000, 0x0000012e, 0x000266c9, 0x00030000, 0x0000008d, 0x000266ce, 0x00020000, 0x000002d4, 0x000266d3,
    0x00050000,
];
