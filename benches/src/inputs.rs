//! One trade, one quote, one bar, one tick, with the digits of real ones. Pure.

use protocol::{Bar, Decimal, InstrumentId, Quote, Side, SourceId, Stamp, Tick, TickBody, TickFlags, Trade};

pub const SYMBOL: &str = "BTC/USD";
/// The venue as clients see it.
pub const VENUE: &str = "coinbase";
/// The venue's time of the inputs, Unix ns.
pub const NOW_NS: i64 = 1_790_733_794_331_644_000;

pub const STAMP: Stamp = Stamp { seq: 1_234_567, ts_event: NOW_NS, ts_recv: NOW_NS + 8_467_222 };

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
