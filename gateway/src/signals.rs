//! Trading signals, from the platform to the clients.

mod reader;
mod signal;

pub(crate) use self::reader::{Reader, ReaderParts, SignalQueue, queue};
