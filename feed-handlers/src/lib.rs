//! From a venue's bytes to normalised ticks in a ring.

pub mod bars;
mod continuity;
pub mod counters;
pub mod decode;
pub mod doorbell;
pub mod feed;
mod lap;
pub mod ring;
#[cfg(not(loom))]
pub mod source;
mod sync;
pub mod venue;
