//! Venue decoders: bytes of one frame in, borrowed events out. Pure, and without allocation.
//!
//! One file a venue. A decoder knows what a venue writes and nothing of what came before: duplicates, gaps
//! and old state are for [`crate::feed`]. Any thread may decode; there is no state to own.

pub mod alpaca;
mod alpaca_msgpack;
pub mod alpha_vantage;
mod backwards;
pub mod binance;
pub mod coinbase;
pub mod coinbase_advanced;
pub mod eastern;
pub mod event;
mod field;
pub mod finnhub;
pub mod fix;
mod fix_fields;
pub mod fix_session;
pub mod framed;
pub mod iex_cloud;
pub mod itch;
mod json;
pub mod kite;
pub mod kraken;
mod kraken_v1;
mod lanes;
pub mod mold;
pub mod mold_merge;
mod msgpack;
pub mod oanda;
pub mod polygon;
pub mod price_tick;
pub mod soup;
pub mod sse;
#[cfg(test)]
mod testing;

/// Why a frame, or a part of one, is refused. A closed set: counters are kept by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The frame ends in the middle of a value.
    Truncated,
    /// The frame is not of the form that the venue writes: no JSON, no MessagePack.
    Syntax,
    /// Objects and arrays are nested deeper than any venue nests them.
    Depth,
    /// A field that the message cannot do without is absent or null.
    MissingField,
    /// A field is there, but holds no value of the kind that belongs there.
    FieldType,
    /// A number that is none: `0.-10000`, `NaN`, an empty text.
    Number,
    /// A number of more digits than an exact decimal holds, or an integer above `i64::MAX`.
    NumberRange,
    /// No RFC 3339 time in UTC, or one that Unix nanoseconds cannot express (the year 0001).
    Time,
    /// Neither `buy` nor `sell`.
    Side,
    /// A price of zero or less.
    Price,
    /// A size below zero.
    Size,
    /// A stated length or count that is not that of what is there.
    Length,
    /// A stated checksum that is not that of the bytes.
    Checksum,
    /// A time further ahead of the receipt than clocks differ.
    Future,
    /// A time longer before the receipt than live data may be.
    Ancient,
    /// A quote whose bid is above its ask.
    Crossed,
    /// A price too far from the last one of its instrument, where such are not let through.
    Outlier,
    /// A bar whose high is below its low, or whose open or close is outside of them.
    BarRange,
    /// A message about an order that is not open as far as is known, or that adds one which is.
    UnknownOrder,
    /// An order beyond the most that are kept.
    OrderLimit,
}

impl Reason {
    pub const COUNT: usize = 20;
    pub const ALL: [Reason; Self::COUNT] = [
        Reason::Truncated,
        Reason::Syntax,
        Reason::Depth,
        Reason::MissingField,
        Reason::FieldType,
        Reason::Number,
        Reason::NumberRange,
        Reason::Time,
        Reason::Side,
        Reason::Price,
        Reason::Size,
        Reason::Length,
        Reason::Checksum,
        Reason::Future,
        Reason::Ancient,
        Reason::Crossed,
        Reason::Outlier,
        Reason::BarRange,
        Reason::UnknownOrder,
        Reason::OrderLimit,
    ];

    /// The label under which the reason is counted.
    pub const fn name(self) -> &'static str {
        match self {
            Reason::Truncated => "truncated",
            Reason::Syntax => "syntax",
            Reason::Depth => "depth",
            Reason::MissingField => "missing_field",
            Reason::FieldType => "field_type",
            Reason::Number => "number",
            Reason::NumberRange => "number_range",
            Reason::Time => "time",
            Reason::Side => "side",
            Reason::Price => "price",
            Reason::Size => "size",
            Reason::Length => "length",
            Reason::Checksum => "checksum",
            Reason::Future => "future",
            Reason::Ancient => "ancient",
            Reason::Crossed => "crossed",
            Reason::Outlier => "outlier",
            Reason::BarRange => "bar_range",
            Reason::UnknownOrder => "unknown_order",
            Reason::OrderLimit => "order_limit",
        }
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a frame gave no event at all. Offsets count bytes from the start of the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("the frame ends inside a value, at byte {offset}")]
    Truncated { offset: usize },
    #[error("malformed at byte {offset}")]
    Syntax { offset: usize },
    #[error("nested deeper than {depth_max} at byte {offset}")]
    Depth { offset: usize, depth_max: usize },
    #[error("a length of {stated} is stated, and {found} it is")]
    Length { stated: usize, found: usize },
    #[error("a checksum of {stated} is stated, and {found} it is")]
    Checksum { stated: u32, found: u32 },
    #[error("the lengths of the parts do not add up, at byte {offset}")]
    Framing { offset: usize },
    #[error("field `{field}` is missing")]
    Missing { field: &'static str },
    #[error("field `{field}` is invalid ({reason})")]
    Field { field: &'static str, reason: Reason },
}

impl DecodeError {
    /// Under what the frame is counted.
    pub const fn reason(self) -> Reason {
        match self {
            DecodeError::Truncated { .. } => Reason::Truncated,
            DecodeError::Syntax { .. } => Reason::Syntax,
            DecodeError::Depth { .. } => Reason::Depth,
            DecodeError::Length { .. } => Reason::Length,
            DecodeError::Checksum { .. } => Reason::Checksum,
            DecodeError::Framing { .. } => Reason::Length,
            DecodeError::Missing { .. } => Reason::MissingField,
            DecodeError::Field { reason, .. } => reason,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_stand_at_their_own_index() {
        for (index, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index, "{reason}");
        }
    }
}
