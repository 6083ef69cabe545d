//! What the gateway tells the platform around it.

pub(crate) mod audit;
pub(crate) mod courier;
pub(crate) mod dead_letters;
pub(crate) mod kafka;
mod rotating_file;
pub(crate) mod spool;
pub(crate) mod topics;
