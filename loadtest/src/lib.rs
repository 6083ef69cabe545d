//! The load-test harness: very many clients of a gateway, each of which checks every message that it gets.
//!
//! A customer of the gateway: it knows the protocol and nothing else of it.

pub mod sample;
pub mod timings;
