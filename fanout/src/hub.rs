//! The hub of one shard: who listens to what, and what each client is to be sent next. Owned by the shard's
//! thread; nothing in it is shared but the segments' bytes.
//!
//! The turn of a shard: [`Hub::publish`] each segment that has come, then [`Hub::flush`] some of the clients that
//! [`Hub::next_dirty`] names, into their sockets, with one vectored write as a rule. A client that keeps up holds
//! nothing once it is flushed (see `subscriber`).
//!
//! - Sequenced messages go to a client in order, either straight from the turn or from the retained log.
//!   What the log has lost by then is announced to the client, or it is disconnected: [`SlowConsumer`].
//! - Conflated messages go out as they come while the socket takes them; afterwards a client is owed the
//!   latest of each channel that moved meanwhile.
//! - Control messages pass all data, except the rest of a frame that is already partly sent.
//!
//! Bounds: outbox, what is published in one round and one rest; control lane, `control_bytes_max`; held state, 40 bytes for each
//! channel that the client listens to; retained log, `retain_bytes`.
//!
//! Here are the hub's state, its clients' coming and going, and the control lane. What it does with them is
//! one module for each noun: `channels`, the table of them; `subscriptions` and their lists of listeners; `conflated` and `sequenced`, the two
//! classes of channel; `held`, the clients that are not served live; `rounds`, who is flushed when; `flush`, the way into
//! the socket; `timers`.

mod channels;
mod conflated;
mod flush;
mod held;
mod rounds;
mod sequenced;
mod subscriptions;
mod timers;

use std::collections::VecDeque;
use std::sync::Arc;

use protocol::{ChannelId, ChannelKind, Class, Encoding, Freshness, InstrumentTable};

use self::channels::Channels;
use self::conflated::Latest;
pub use self::flush::Flushed;
use self::rounds::Rounds;
pub use self::subscriptions::{SubscribeOptions, Subscribed};
pub use self::timers::Timer;
use crate::log::Log;
use crate::subscriber::{Listener, Parcel, Pending, Subscriber};
use crate::wheel::Wheel;
use crate::{Interest, Segment};

/// What becomes of a client whose missed messages are no longer retained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlowConsumer {
    /// It is told which messages are gone, and goes on.
    Gap,
    /// It is disconnected, and may resume.
    Disconnect,
}

/// Bounds and policies of a hub.
#[derive(Clone, Debug)]
pub struct HubConfig {
    /// Index of the shard in the [`Interest`] table.
    pub shard: usize,
    pub slow_consumer: SlowConsumer,
    /// Bound of the retained log, bytes (shared with the other shards' logs).
    pub retain_bytes: usize,
    /// Bound of one client's control lane, bytes.
    pub control_bytes_max: usize,
    /// A client that was sent nothing for so long gets a heartbeat, ms.
    pub heartbeat_ms: u64,
    /// A client whose socket takes nothing for so long is dropped, ms.
    pub stall_ms: u64,
}

/// What the hub did, for metrics. All are totals.
#[derive(Clone, Copy, Debug, Default)]
pub struct HubCounters {
    pub messages_delivered: u64,
    /// Messages that went into the outbox of at least one client.
    pub messages_fanned_out: u64,
    pub bytes_written: u64,
    pub writes: u64,
    /// Conflated messages that were not sent when they came, because the client was held or paced.
    pub conflated: u64,
    pub gaps_announced: u64,
    pub heartbeats: u64,
    /// Times a client's socket was full.
    pub blocked: u64,
}

/// Names a client of this hub. Keys are not used again for another client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SubscriberKey {
    pub slot: u32,
    pub generation: u32,
}

/// What the hub knows of a channel. 32 bytes: there are 28 for each instrument of which bars and indicators come, in real
/// time and delayed.
#[derive(Debug, Default)]
struct ChannelState {
    /// Last number seen. Sequenced channels only.
    seq: u64,
    /// Last number that the retained log has dropped. Sequenced channels only.
    evicted: u64,
    /// Numbers and log positions of the retained messages, both rising: where a client resumes. 16 bytes for each
    /// message of the log. Sequenced channels only; `None` while none is retained.
    #[expect(clippy::box_collection, reason = "8 bytes instead of 32 in the many channels without")]
    retained: Option<Box<VecDeque<(u64, u64)>>>,
    /// `None` while nobody listens to the channel itself, and none of its values are kept.
    audience: Option<Box<Audience>>,
}

/// Who listens to a channel, and what they were told last.
#[derive(Debug, Default)]
struct Audience {
    listeners: Vec<Listener>,
    /// Listeners by encoding. Conflated channels only.
    demand: [u32; Encoding::COUNT],
    /// Conflated channels only.
    latest: Option<Box<[Latest; Encoding::COUNT]>>,
}

impl ChannelState {
    fn listeners(&self) -> &[Listener] {
        self.audience.as_ref().map_or(&[], |audience| &audience.listeners)
    }

    fn latest(&self, encoding: Encoding) -> Option<&Latest> {
        Some(&self.audience.as_ref()?.latest.as_ref()?[encoding as usize])
    }

    /// Forgets the last value in this encoding: it will no longer be kept up to date.
    fn forget_latest(&mut self, encoding: Encoding) {
        if let Some(latest) = self.audience.as_mut().and_then(|audience| audience.latest.as_mut()) {
            latest[encoding as usize] = Latest::default();
        }
    }

    /// Lets go of an audience that has left.
    fn let_go(&mut self) {
        let is_left = |audience: &Audience| {
            audience.listeners.is_empty()
                && audience.demand == [0; Encoding::COUNT]
                && audience.latest.as_ref().is_none_or(|latest| latest.iter().all(|latest| latest.number == 0))
        };
        if self.audience.as_deref().is_some_and(is_left) {
            self.audience = None;
        }
    }
}

/// Who listens to all channels of a kind and freshness.
#[derive(Debug, Default)]
struct AllState {
    listeners: Vec<Listener>,
    /// Listeners by encoding. Conflated kinds only.
    demand: [u32; Encoding::COUNT],
}

/// By kind and freshness.
type All = [[AllState; Freshness::COUNT]; ChannelKind::COUNT];

/// Who listens to the channel by `*`: nobody to a stream of a single source.
fn all_of<'a>(all: &'a All, channel: ChannelId, instruments: &InstrumentTable) -> &'a AllState {
    static NOBODY: AllState = AllState { listeners: Vec::new(), demand: [0; Encoding::COUNT] };
    let state = &all[channel.kind() as usize][channel.freshness() as usize];
    // Instruments are looked at only where it matters: most ticks have no such listeners.
    if !state.listeners.is_empty() && instruments.is_single_source(channel.instrument()) { &NOBODY } else { state }
}

/// Delivery for the clients of one shard.
#[derive(Debug)]
pub struct Hub {
    config: HubConfig,
    instruments: Arc<InstrumentTable>,
    interest: Arc<Interest>,
    channels: Channels,
    all: All,
    subscribers: Vec<Subscriber>,
    vacant: Vec<u32>,
    log: Log,
    /// Running number of the next conflated message, from 1.
    conflated_next: u64,
    rounds: Rounds,
    /// Clients that are held, for the log's eviction to look at; those that no longer are leave it then.
    held: Vec<u32>,
    /// Clients that lost retained messages under [`SlowConsumer::Disconnect`].
    overrun: Vec<SubscriberKey>,
    /// Where short runs are copied together for a write; 64 KiB at most.
    scratch: Vec<u8>,
    /// Empty outboxes for use again.
    pool: Vec<Vec<Parcel>>,
    wheel: Wheel<SubscriberKey>,
    due: Vec<SubscriberKey>,
    subscriptions_total: u64,
    counters: HubCounters,
}

impl Hub {
    pub fn new(config: HubConfig, instruments: Arc<InstrumentTable>, interest: Arc<Interest>, now_ms: u64) -> Hub {
        Hub {
            log: Log::new(config.retain_bytes),
            config,
            instruments,
            interest,
            channels: Channels::default(),
            all: Default::default(),
            subscribers: Vec::new(),
            vacant: Vec::new(),
            conflated_next: 1,
            rounds: Rounds::default(),
            held: Vec::new(),
            overrun: Vec::new(),
            scratch: Vec::new(),
            pool: Vec::new(),
            wheel: Wheel::new(now_ms),
            due: Vec::new(),
            subscriptions_total: 0,
            counters: HubCounters::default(),
        }
    }

    pub fn counters(&self) -> &HubCounters {
        &self.counters
    }

    /// Bytes that the retained log holds.
    pub fn retained_bytes(&self) -> usize {
        self.log.bytes()
    }

    /// Subscriptions of all clients.
    pub fn subscriptions_total(&self) -> u64 {
        self.subscriptions_total
    }

    /// Takes a client in.
    pub fn open(&mut self, encoding: Encoding, now_ms: u64) -> SubscriberKey {
        let slot = self.vacant.pop().unwrap_or_else(|| {
            self.subscribers.push(Subscriber {
                generation: 0,
                open: false,
                pending: Pending::Nothing,
                resting: false,
                encoding,
                all: 0,
                outbox: Vec::new(),
                held: None,
                listed: false,
                control: Vec::new(),
                control_written: 0,
                subscriptions: Vec::new(),
                places: None,
                paces: None,
                last_sent_ms: 0,
                armed_ms: u64::MAX,
                quiet_ms: u64::MAX,
            });
            (self.subscribers.len() - 1) as u32
        });
        let subscriber = &mut self.subscribers[slot as usize];
        subscriber.open = true;
        subscriber.encoding = encoding;
        subscriber.last_sent_ms = now_ms;
        subscriber.armed_ms = u64::MAX;
        subscriber.quiet_ms = u64::MAX;
        let key = SubscriberKey { slot, generation: subscriber.generation };
        self.arm_quiet(key, now_ms + self.config.heartbeat_ms);
        key
    }

    /// Lets a client go, with all it held.
    pub fn close(&mut self, key: SubscriberKey) {
        if self.subscriber(key).is_none() {
            return;
        }
        self.drop_subscriptions(key.slot);
        let subscriber = &mut self.subscribers[key.slot as usize];
        self.rounds.forget(subscriber);
        subscriber.open = false;
        subscriber.generation = subscriber.generation.wrapping_add(1);
        subscriber.all = 0;
        subscriber.held = None;
        subscriber.paces = None;
        subscriber.outbox = Vec::new();
        subscriber.control = Vec::new();
        subscriber.control_written = 0;
        subscriber.subscriptions = Vec::new();
        self.vacant.push(key.slot);
    }

    /// Appends complete frames to the client's control lane. False where the lane is full: the client reads
    /// none of the answers to what it sends.
    pub fn control(&mut self, key: SubscriberKey, write: impl FnOnce(Encoding, &mut Vec<u8>)) -> bool {
        let bytes_max = self.config.control_bytes_max;
        let Some(subscriber) = self.subscriber(key) else { return true };
        if subscriber.control_pending().len() > bytes_max {
            return false;
        }
        write(subscriber.encoding, &mut subscriber.control);
        self.mark_dirty(key.slot);
        true
    }

    /// Bytes waiting in the client's control lane.
    pub fn control_pending_bytes(&mut self, key: SubscriberKey) -> usize {
        self.subscriber(key).map_or(0, |s| s.control_pending().len())
    }

    /// The last thing that the client will be sent: ends its subscriptions, forgets the data that waits for it
    /// (but for the rest of a frame that is partly sent), and appends what `write` gives, a close frame.
    pub fn finish(&mut self, key: SubscriberKey, write: impl FnOnce(&mut Vec<u8>)) {
        if self.subscriber(key).is_none() {
            return;
        }
        self.drop_subscriptions(key.slot);
        let (position, conflated_from) = (self.log.next(), self.conflated_next);
        let subscriber = &mut self.subscribers[key.slot as usize];
        subscriber.outbox.clear();
        if let Some(held) = &mut subscriber.held {
            held.position = position;
            held.live_from = position;
            held.conflated_from = conflated_from;
        }
        write(&mut subscriber.control);
        self.mark_dirty(key.slot);
    }

    /// Takes a segment in: every listener's outbox gets its messages, or its place in the stream stays.
    pub fn publish(&mut self, segment: Arc<Segment>, now_ms: u64) {
        match segment.class() {
            Class::Sequenced => self.publish_sequenced(segment),
            Class::Conflated => self.publish_conflated(segment, now_ms),
        }
    }

    /// Clients that are to be disconnected because they lost messages ([`SlowConsumer::Disconnect`]).
    pub fn take_overrun(&mut self) -> Vec<SubscriberKey> {
        std::mem::take(&mut self.overrun)
    }

    fn subscriber(&mut self, key: SubscriberKey) -> Option<&mut Subscriber> {
        self.subscribers.get_mut(key.slot as usize).filter(|s| s.open && s.generation == key.generation)
    }

    fn channel(&mut self, channel: ChannelId) -> &mut ChannelState {
        self.channels.entry(channel)
    }
}

#[cfg(test)]
mod tests;
