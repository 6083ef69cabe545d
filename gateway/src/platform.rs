//! What the gateway tells the platform around it, and is told by it.

pub(crate) mod audit;
pub(crate) mod courier;
pub(crate) mod dead_letters;
pub(crate) mod kafka;
pub(crate) mod market_data_processed;
pub(crate) mod market_data_raw;
mod rotating_file;
pub(crate) mod spool;
pub(crate) mod topics;
