//! The fan-out core: numbering and encoding on one side (the sequencer), delivery on the other (the hub of
//! each shard), shared immutable segments of encoded frames between them.
//!
//! Pure: segments, grants and the time go in, bytes for a writer come out. No sockets, no threads, no clock.

mod delay;
mod hub;
mod interest;
mod log;
mod segment;
mod sequencer;
mod subscriber;
mod wheel;

pub use hub::{Flushed, Hub, HubConfig, HubCounters, SlowConsumer, SubscribeOptions, Subscribed, SubscriberKey, Timer};
pub use interest::Interest;
pub use segment::{Publication, Segment, SegmentBuilder};
pub use sequencer::{Body, Sequencer, SequencerConfig, Update};
