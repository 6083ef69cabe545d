//! What the benches share: inputs that look like the real ones, and a shard without its sockets.
//!
//! Each bench is one file below `benches/`, states its question in its header, and runs on one thread unless it says
//! otherwise. `README.md` has what was measured. Deliberately absent: the code that ours is compared with, which
//! stands in the bench that needs it.

mod feed_line;
mod frames;
mod inputs;
mod shard;

pub use feed_line::FeedLine;
pub use frames::{Frames, recorded};
pub use inputs::{NOW_NS, STAMP, SYMBOL, VENUE, bar, decimal, full_packets, quote, tick, trade};
pub use shard::{FullSocket, Shard, grant, principal};

/// The gateway's allocator, for ours and for what it is compared with.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
