//! The gateway process: configuration, sign-in and sessions, the threads between feeds and clients, and
//! the ports that operators look at. `main.rs` is the program; everything is here, so that a test can build
//! the whole process in itself.

pub mod admin;
pub mod cli;
pub mod config;
mod context;
pub mod demo;
pub mod door;
mod epoll_set;
pub mod feeds;
mod jwks;
pub mod logging;
pub mod metrics;
mod platform;
pub mod process;
mod roster;
mod secure_headers;
mod sequencing;
mod session;
mod shard;
mod sign_in;
mod signals;
mod store_health;
mod transport;
