//! What the tests of the `loadtest` program share: a server that misbehaves on purpose and counts what it did, and the
//! program itself, run to its end.
//!
//! Every wait ends at [`PATIENCE`] with a message; nothing sleeps in place of a condition.

// Each test file is a program of its own and uses its part of this; nothing outside it can.
#![allow(dead_code, unreachable_pub, unused_imports)]

pub mod cases;
pub mod framing;
pub mod gateway;
pub mod program;
pub mod server;
pub mod session;

use std::time::{Duration, Instant};

pub use framing::Framing;
pub use program::{Run, run, run_at, run_with};
pub use server::{Deed, Door, Resume, Server, Settings};

/// How long anything may take before a test fails; far beyond what a loaded machine needs.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Between two looks at a condition that nothing announces.
pub const LOOK: Duration = Duration::from_millis(5);

#[track_caller]
pub fn wait_until(what: &str, mut is: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < until, "waited for {what}");
        std::thread::sleep(LOOK);
    }
}
