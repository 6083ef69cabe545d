//! Trading signals, from the platform to the clients.

mod market;
mod processor;
mod reader;
mod repeats;
mod signal;
mod statistics;

pub(crate) use self::market::LatestMarket;
pub(crate) use self::processor::{Processor, ProcessorParts, SignalTopics};
pub(crate) use self::reader::{Reader, ReaderParts, SignalQueue, queue};
