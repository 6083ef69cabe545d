//! What the gateway tells the platform around it, and what it is told.

pub(crate) mod audit;
pub(crate) mod courier;
pub(crate) mod dead_letter_topic;
pub(crate) mod dead_letters;
pub(crate) mod kafka;
pub(crate) mod market_data_processed;
pub(crate) mod market_data_raw;
pub(crate) mod rights;
mod rotating_file;
pub(crate) mod spool;
pub(crate) mod topics;
