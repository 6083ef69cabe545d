//! The load-test harness: very many clients of a gateway, each of which checks every message that it gets.
//!
//! A customer of the gateway: it knows the protocol and nothing else of it.

pub mod check;
pub mod cli;
pub mod client;
pub mod clock;
pub mod compare;
pub mod coordinator;
pub mod facts;
pub mod message;
pub mod orders;
pub mod outcome;
pub mod plan;
pub mod platform;
pub mod random;
pub mod report;
pub mod sample;
pub mod scan;
pub mod scenario;
pub mod server;
pub mod symbols;
pub mod tally;
pub mod thresholds;
pub mod timings;
pub mod transport;
pub mod units;
pub mod venue;
pub mod wire;
pub mod worker;
