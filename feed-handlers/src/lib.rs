//! From a venue's bytes to normalised ticks in a ring.

pub mod arbitration;
pub mod bars;
pub mod book;
mod continuity;
pub mod counters;
pub mod dead_letter;
pub mod decode;
pub mod doorbell;
pub mod feed;
pub mod indicators;
mod lap;
pub mod order_book;
pub mod quality;
pub mod ring;
#[cfg(not(loom))]
pub mod source;
pub mod symbols;
mod sync;
pub mod validation;
pub mod venue;
