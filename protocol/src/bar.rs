//! The bar: what the trades of one interval came to. A value only; `feed-handlers` builds it from trades.

use crate::Decimal;

/// Open, high, low, close, volume, count and volume-weighted mean price of the trades of one interval.
///
/// `low <= open, close, vwap <= high` and `trades >= 1`: an interval without a trade has no bar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bar {
    /// When the interval starts (inclusive), Unix ns of the venue's clock.
    pub start_ns: i64,
    pub open: Decimal,
    pub high: Decimal,
    pub low: Decimal,
    pub close: Decimal,
    /// The exact sum of the sizes.
    pub volume: Decimal,
    /// How many trades.
    pub trades: u64,
    /// Sum of price times size over volume, rounded half up at four digits behind the prices' own.
    pub vwap: Decimal,
}
