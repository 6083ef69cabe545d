//! The words every part of the gateway shares: decimals, times, instruments, ticks, channels, and what
//! client and server say to each other. Pure: no sockets, no threads, no clock.

mod bar;
mod channel;
mod code;
pub mod command;
mod decimal;
mod digits;
mod encode;
pub mod frame;
mod indicators;
mod instrument;
pub mod message;
#[cfg(test)]
mod testing;
mod tick;
mod time;

pub use bar::{Bar, Interval, VenueBar};
pub use channel::{Channel, ChannelId, ChannelKind, Class, Freshness, Selector};
pub use code::{CloseCode, ErrorCode};
pub use decimal::{Decimal, DecimalError, SCALE_MAX};
pub use digits::eight_digits;
pub use encode::{
    DOCUMENT_FIELDS_MAX, Document, Encoding, Stamp, TooManyFields, encode_bar, encode_indicators, encode_quote,
    encode_trade, encode_venue_gap,
};
pub use indicators::{Bollinger, Indicators, Macd, Rsi, RsiSignal};
pub use instrument::{
    AssetClass, InstrumentId, InstrumentTable, SYMBOL_BYTES_MAX, SymbolError, TableFull, check_symbol, split_source,
};
pub use message::ServerMessage;
pub use tick::{Quote, Side, SourceId, TICK_WORDS, Tick, TickBody, TickFlags, Trade};
pub use time::{format_rfc3339, parse_rfc3339};
