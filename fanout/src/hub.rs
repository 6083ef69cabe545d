//! The hub of one shard: who listens to what, and what each client is to be sent next. Owned by the shard's
//! thread; nothing in it is shared but the segments' bytes.
//!
//! The turn of a shard: [`Hub::publish`] each segment that has come, then [`Hub::flush`] every client that
//! [`Hub::next_dirty`] names, into its socket, with one vectored write as a rule. Between turns a client that
//! keeps up holds nothing (see `subscriber`).
//!
//! - Sequenced messages go to a client in order, either straight from the turn or from the retained log.
//!   What the log has lost by then is announced to the client, or it is disconnected: [`SlowConsumer`].
//! - Conflated messages go out as they come while the socket takes them; afterwards a client is owed the
//!   latest of each channel that moved meanwhile.
//! - Control messages pass all data, except the rest of a frame that is already partly sent.
//!
//! Bounds: outbox, one turn of publications; control lane, `control_bytes_max`; held state, 40 bytes for each
//! channel that the client listens to; retained log, `retain_bytes`.

use std::io::{self, IoSlice, Write};
use std::rc::Rc;
use std::sync::Arc;

use entitlements::Grant;
use protocol::message::{Gap, GapReason, Heartbeat, Position, ServerMessage};
use protocol::{Channel, ChannelId, ChannelKind, Class, Encoding, Freshness, InstrumentId, InstrumentTable, Selector};

use crate::log::{Log, Numbered};
use crate::subscriber::{Held, Listener, Pace, Parcel, Subscriber, Subscription, Target, insert_sorted};
use crate::wheel::Wheel;
use crate::{Interest, Publication, Segment};

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

/// What a subscription may ask for besides its channel.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SubscribeOptions {
    /// The client has everything up to this number: send what came after it.
    pub since: Option<u64>,
    /// Least time between two messages of a conflated channel, ms; 0 for every message.
    pub interval_ms: u32,
}

/// How a subscription went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subscribed {
    New,
    /// The client had it already; its options are replaced.
    Unchanged,
    /// `since` is ahead of the channel, whose last number is given. Subscribed all the same.
    Ahead {
        last: u64,
    },
}

/// How a flush went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flushed {
    /// Everything is written.
    Done,
    /// The socket took all it was offered, and there is more: the client is dirty again in the next turn.
    More,
    /// The socket is full: call [`Hub::writable`] when it is not.
    Blocked,
    /// The socket is gone, or never was.
    Closed,
}

/// What a client's deadline brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// The deadline fired; the hub has done its part. The session may have one of its own.
    Fired(SubscriberKey),
    /// The client's socket has taken nothing for `stall_ms`.
    Stalled(SubscriberKey),
}

/// The last value of a conflated channel in one encoding.
#[derive(Debug, Default)]
struct Latest {
    seq: u64,
    /// Running number of the conflated message; 0 before the first.
    number: u64,
    frame: Vec<u8>,
}

#[derive(Debug, Default)]
struct ChannelState {
    /// Last number seen. Sequenced channels only.
    seq: u64,
    /// Last number that the retained log has dropped. Sequenced channels only.
    evicted: u64,
    listeners: Vec<Listener>,
    /// Listeners by encoding. Conflated channels only.
    demand: [u32; Encoding::COUNT],
    latest: Option<Box<[Latest; Encoding::COUNT]>>,
}

#[derive(Debug, Default)]
struct AllState {
    listeners: Vec<Listener>,
    demand: [u32; Encoding::COUNT],
}

/// Most slices in one vectored write. Runs are adjacent frames, so that one client rarely needs more.
const SLICES: usize = 64;
/// Largest outbox, in parcels, that is kept for use again: 64 * 32 bytes.
const OUTBOX_KEPT: usize = 64;
/// Most bytes that a client which catches up is offered in one turn, so that it does not hold up the others.
const CATCH_UP_BYTES: usize = 256 * 1024;
/// Most messages that are looked at for it in one turn.
const CATCH_UP_MESSAGES: usize = 8 * 1024;
/// Most channels whose last number a heartbeat lists.
const HEARTBEAT_CHANNELS: usize = 64;

/// Delivery for the clients of one shard.
#[derive(Debug)]
pub struct Hub {
    config: HubConfig,
    instruments: Arc<InstrumentTable>,
    interest: Arc<Interest>,
    channels: Vec<ChannelState>,
    all: [[AllState; Freshness::COUNT]; ChannelKind::COUNT],
    subscribers: Vec<Subscriber>,
    vacant: Vec<u32>,
    log: Log,
    /// Running number of the next conflated message, from 1.
    conflated_next: u64,
    dirty: Vec<u32>,
    /// Clients that had their share of this turn and have more coming.
    later: Vec<u32>,
    /// Clients that are held, for the log's eviction to look at; those that no longer are leave it then.
    held: Vec<u32>,
    /// Clients that lost retained messages under [`SlowConsumer::Disconnect`].
    overrun: Vec<SubscriberKey>,
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
            channels: Vec::new(),
            all: Default::default(),
            subscribers: Vec::new(),
            vacant: Vec::new(),
            conflated_next: 1,
            dirty: Vec::new(),
            later: Vec::new(),
            held: Vec::new(),
            overrun: Vec::new(),
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

    /// How many clients are held back from the live stream: their socket is full, or they catch up.
    pub fn held_count(&mut self) -> usize {
        let subscribers = &mut self.subscribers;
        self.held.retain(|slot| {
            let subscriber = &mut subscribers[*slot as usize];
            subscriber.listed = subscriber.held.is_some();
            subscriber.listed
        });
        self.held.len()
    }

    /// Takes a client in.
    pub fn open(&mut self, encoding: Encoding, now_ms: u64) -> SubscriberKey {
        let slot = self.vacant.pop().unwrap_or_else(|| {
            self.subscribers.push(Subscriber {
                generation: 0,
                open: false,
                dirty: false,
                encoding,
                all: 0,
                outbox: Vec::new(),
                held: None,
                listed: false,
                control: Vec::new(),
                control_written: 0,
                subscriptions: Vec::new(),
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

    /// Gives the client what the grant allows.
    pub fn subscribe(
        &mut self,
        key: SubscriberKey,
        grant: Grant,
        options: SubscribeOptions,
        now_ms: u64,
    ) -> Subscribed {
        let Some(subscriber) = self.subscriber(key) else { return Subscribed::Unchanged };
        let channel = grant.channel();
        let target = match channel.selector {
            Selector::All => Target::All(channel.kind, grant.freshness()),
            Selector::One(instrument) => Target::Channel(ChannelId::new(instrument, channel.kind, grant.freshness())),
        };
        let known = subscriber.subscriptions.iter().position(|s| s.target == target);
        let paced = options.interval_ms > 0 && channel.kind.class() == Class::Conflated;
        let interval_ms = if paced { options.interval_ms } else { 0 };
        if paced {
            subscriber.paces.get_or_insert_default();
        }
        if let Some(known) = known {
            subscriber.subscriptions[known].interval_ms = interval_ms;
            self.restart_pace(key.slot, target, now_ms);
        } else {
            self.add_subscription(key.slot, target, interval_ms, now_ms);
        }
        if let (Some(since), Target::Channel(channel)) = (options.since, target)
            && channel.kind().class() == Class::Sequenced
        {
            let last = self.channel(channel).seq;
            if since > last {
                return Subscribed::Ahead { last };
            }
            self.resume(key.slot, channel, since);
        }
        if known.is_some() { Subscribed::Unchanged } else { Subscribed::New }
    }

    /// Serves one channel of a `*` subscription from `since` on; see [`SubscribeOptions::since`].
    pub fn resume_within_all(
        &mut self,
        key: SubscriberKey,
        grant: Grant,
        instrument: InstrumentId,
        since: u64,
    ) -> Subscribed {
        let channel = ChannelId::new(instrument, grant.channel().kind, grant.freshness());
        let covered = self.subscriber(key).is_some_and(|s| s.has_all(channel.kind(), channel.freshness()));
        if !covered || channel.kind().class() != Class::Sequenced {
            return Subscribed::Unchanged;
        }
        let last = self.channel(channel).seq;
        if since > last {
            return Subscribed::Ahead { last };
        }
        self.resume(key.slot, channel, since);
        Subscribed::Unchanged
    }

    /// Ends a subscription; false where the client had none.
    pub fn unsubscribe(
        &mut self,
        key: SubscriberKey,
        grant_kind: ChannelKind,
        selector: Selector,
        now_ms: u64,
    ) -> bool {
        let Some(subscriber) = self.subscriber(key) else { return false };
        let matches = |target: Target| match (target, selector) {
            (Target::Channel(channel), Selector::One(instrument)) => {
                channel.instrument() == instrument && channel.kind() == grant_kind
            }
            (Target::All(kind, _), Selector::All) => kind == grant_kind,
            _ => false,
        };
        let Some(index) = subscriber.subscriptions.iter().position(|s| matches(s.target)) else { return false };
        let target = subscriber.subscriptions[index].target;
        self.drop_subscription(key.slot, index);
        if let Target::All(..) = target {
            // What the `*` had covered listens for itself again.
            for index in 0..self.subscribers[key.slot as usize].subscriptions.len() {
                let covered = self.subscribers[key.slot as usize].subscriptions[index].target;
                if covered.kind() == target.kind() && covered.freshness() == target.freshness() {
                    self.list(key.slot, index, now_ms);
                }
            }
        }
        true
    }

    /// The client's subscriptions: the kind and the instruments.
    pub fn subscriptions(&self, key: SubscriberKey) -> impl Iterator<Item = (ChannelKind, Selector)> + '_ {
        let subscriber = self.subscribers.get(key.slot as usize).filter(|s| s.open && s.generation == key.generation);
        subscriber.into_iter().flat_map(|s| &s.subscriptions).map(|s| match s.target {
            Target::Channel(channel) => (channel.kind(), Selector::One(channel.instrument())),
            Target::All(kind, _) => (kind, Selector::All),
        })
    }

    /// Whether the client has this subscription, of either freshness.
    pub fn is_subscribed(&self, key: SubscriberKey, channel: Channel) -> bool {
        self.subscriptions(key).any(|(kind, selector)| kind == channel.kind && selector == channel.selector)
    }

    /// How many subscriptions the client has.
    pub fn subscription_count(&self, key: SubscriberKey) -> usize {
        self.subscriptions(key).count()
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

    /// Whether data waits for the client because its socket is full or it catches up.
    pub fn is_held(&self, key: SubscriberKey) -> bool {
        let subscriber = self.subscribers.get(key.slot as usize).filter(|s| s.open && s.generation == key.generation);
        subscriber.is_some_and(|s| s.held.is_some())
    }

    /// Subscriptions of all clients.
    pub fn subscriptions_total(&self) -> u64 {
        self.subscriptions_total
    }

    /// Bytes waiting in the client's control lane.
    pub fn control_pending_bytes(&mut self, key: SubscriberKey) -> usize {
        self.subscriber(key).map_or(0, |s| s.control_pending().len())
    }

    /// Takes a segment in: every listener's outbox gets its messages, or its place in the stream stays.
    pub fn publish(&mut self, segment: Arc<Segment>, now_ms: u64) {
        match segment.class() {
            Class::Sequenced => self.publish_sequenced(segment),
            Class::Conflated => self.publish_conflated(segment, now_ms),
        }
    }

    /// The next client to be flushed in this turn. `None` ends the turn: who had its share and has more
    /// coming is named again in the next one.
    pub fn next_dirty(&mut self) -> Option<SubscriberKey> {
        while let Some(slot) = self.dirty.pop() {
            let subscriber = &mut self.subscribers[slot as usize];
            if std::mem::take(&mut subscriber.dirty) && subscriber.open {
                return Some(SubscriberKey { slot, generation: subscriber.generation });
            }
        }
        std::mem::swap(&mut self.dirty, &mut self.later);
        None
    }

    /// Whether some client is to be flushed.
    pub fn has_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// The client's socket takes bytes again.
    pub fn writable(&mut self, key: SubscriberKey) {
        let Some(subscriber) = self.subscriber(key) else { return };
        if let Some(held) = subscriber.held.as_mut().filter(|held| held.blocked) {
            held.blocked = false;
            let paced = subscriber.next_paced_ms();
            self.mark_dirty(key.slot);
            if let Some(next_ms) = paced {
                self.arm(key, next_ms);
            }
        }
    }

    /// Clients that are to be disconnected because they lost messages ([`SlowConsumer::Disconnect`]).
    pub fn take_overrun(&mut self) -> Vec<SubscriberKey> {
        std::mem::take(&mut self.overrun)
    }

    /// Wakes the client's session at a time of its own: [`Self::poll_timer`] will name it at or after it.
    pub fn arm(&mut self, key: SubscriberKey, deadline_ms: u64) {
        let deadline_ms = deadline_ms.min(self.wheel.horizon_ms());
        let Some(subscriber) = self.subscriber(key) else { return };
        if deadline_ms < subscriber.armed_ms.min(subscriber.quiet_ms) {
            subscriber.armed_ms = deadline_ms;
            self.wheel.arm(deadline_ms, key);
        }
    }

    /// Puts the client's next heartbeat into the wheel, unless it is there: the one wake-up that is far off, so
    /// that it must not be left behind and made anew for each of the near ones.
    fn arm_quiet(&mut self, key: SubscriberKey, deadline_ms: u64) {
        let deadline_ms = deadline_ms.min(self.wheel.horizon_ms());
        let Some(subscriber) = self.subscriber(key).filter(|s| s.quiet_ms == u64::MAX) else { return };
        subscriber.quiet_ms = deadline_ms;
        self.wheel.arm(deadline_ms, key);
    }

    /// When [`Self::poll_timer`] is to be called next, ms.
    pub fn next_timer_ms(&self) -> Option<u64> {
        self.wheel.next_poll_ms()
    }

    /// The next client whose deadline has passed. Heartbeats and paced messages are the hub's own affair.
    pub fn poll_timer(&mut self, now_ms: u64, now_ns: i64) -> Option<Timer> {
        loop {
            if self.due.is_empty() {
                let mut due = std::mem::take(&mut self.due);
                self.wheel.poll(now_ms, &mut due);
                self.due = due;
            }
            let key = self.due.pop()?;
            let Some(subscriber) = self.subscriber(key) else { continue };
            // An entry that an earlier deadline had overtaken; what counts is still to come.
            if subscriber.armed_ms.min(subscriber.quiet_ms) > now_ms {
                continue;
            }
            for deadline_ms in [&mut subscriber.armed_ms, &mut subscriber.quiet_ms] {
                if *deadline_ms <= now_ms {
                    *deadline_ms = u64::MAX;
                }
            }
            return Some(self.fire(key, now_ms, now_ns));
        }
    }

    fn fire(&mut self, key: SubscriberKey, now_ms: u64, now_ns: i64) -> Timer {
        let HubConfig { stall_ms, heartbeat_ms, .. } = self.config;
        let subscriber = &mut self.subscribers[key.slot as usize];
        if let Some(held) = subscriber.held.as_ref().filter(|held| held.blocked) {
            let give_up = held.blocked_since_ms + stall_ms;
            if now_ms >= give_up {
                return Timer::Stalled(key);
            }
            self.arm(key, give_up.min(now_ms + heartbeat_ms));
            return Timer::Fired(key);
        }
        self.send_paced(key.slot, now_ms);
        let subscriber = &mut self.subscribers[key.slot as usize];
        // A heartbeat passes data: behind messages that still wait, it would look like their loss.
        let served = subscriber.held.is_none() && subscriber.outbox.is_empty();
        if served && now_ms >= subscriber.last_sent_ms + heartbeat_ms {
            subscriber.last_sent_ms = now_ms;
            // A client that is silent long enough keeps no buffers.
            subscriber.subscriptions.shrink_to_fit();
            self.heartbeat(key, now_ns);
        }
        let subscriber = &self.subscribers[key.slot as usize];
        let (quiet, paced) = (subscriber.last_sent_ms + heartbeat_ms, subscriber.next_paced_ms());
        self.arm_quiet(key, quiet);
        if let Some(next_ms) = paced {
            self.arm(key, next_ms);
        }
        Timer::Fired(key)
    }

    /// Writes what the client has coming. `io` is its socket, or anything that takes bytes.
    pub fn flush(&mut self, key: SubscriberKey, io: &mut impl Write, now_ms: u64) -> Flushed {
        if self.subscriber(key).is_none() {
            return Flushed::Closed;
        }
        let subscriber = &self.subscribers[key.slot as usize];
        if subscriber.held.as_ref().is_some_and(|held| held.blocked) {
            return Flushed::Blocked;
        }
        let caught_up = self.fill_from_places(key.slot);
        let subscriber = &mut self.subscribers[key.slot as usize];
        let mut cursor = Cursor::default();
        let blocked = loop {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let (used, offered) = cursor.gather(subscriber, &mut slices);
            if offered == 0 {
                break false;
            }
            match io.write_vectored(&slices[..used]) {
                Ok(0) => return Flushed::Closed,
                Ok(written) => {
                    self.counters.writes += 1;
                    self.counters.bytes_written += written as u64;
                    subscriber.last_sent_ms = now_ms;
                    cursor.advance(subscriber, written);
                    // A short write means that the socket is full: asking again would only fail.
                    if written < offered {
                        break true;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Flushed::Closed,
            }
        };
        self.counters.messages_delivered += cursor.delivered;
        if blocked {
            self.counters.blocked += 1;
            self.hold(key.slot, &cursor, now_ms);
            return Flushed::Blocked;
        }
        let mut outbox = std::mem::take(&mut subscriber.outbox);
        outbox.clear();
        recycle(&mut self.pool, outbox);
        if subscriber.control_written > 0 {
            subscriber.control = Vec::new();
            subscriber.control_written = 0;
        }
        if caught_up {
            subscriber.held = None;
            Flushed::Done
        } else {
            if let Some(held) = &mut subscriber.held {
                held.partial = Vec::new();
            }
            if !std::mem::replace(&mut subscriber.dirty, true) {
                self.later.push(key.slot);
            }
            Flushed::More
        }
    }
}

/// How far a flush has come in a client's parcels.
#[derive(Debug, Default)]
struct Cursor {
    /// Index of the first parcel that is not wholly written.
    parcel: usize,
    /// Bytes of it that are.
    written: usize,
    /// Bytes of the partial frame that are written.
    partial_written: usize,
    delivered: u64,
}

impl Parcel {
    fn bytes(&self, encoding: Encoding) -> &[u8] {
        match self {
            Parcel::Run { segment, start, end } => segment.segment.bytes(*start..*end, encoding),
            Parcel::Latest { frame, .. } => frame,
        }
    }

    fn messages(&self, encoding: Encoding) -> u64 {
        match self {
            Parcel::Run { segment, start, end } => segment.segment.count(*start..*end, encoding) as u64,
            Parcel::Latest { .. } => 1,
        }
    }
}

impl Cursor {
    /// Fills the slices with what is to be written, in order. Returns how many are used and their bytes.
    fn gather<'a>(&self, subscriber: &'a Subscriber, slices: &mut [IoSlice<'a>; SLICES]) -> (usize, usize) {
        let partial = subscriber.held.as_ref().map_or(&[][..], |held| &held.partial[self.partial_written..]);
        // A parcel is never partly written here: a short write ends the flush, and `hold` takes it apart.
        let parcels = subscriber.outbox.iter().skip(self.parcel).map(|parcel| parcel.bytes(subscriber.encoding));
        let (mut used, mut offered) = (0, 0);
        for bytes in [partial, subscriber.control_pending()].into_iter().chain(parcels) {
            if used == SLICES {
                break;
            }
            if !bytes.is_empty() {
                slices[used] = IoSlice::new(bytes);
                used += 1;
                offered += bytes.len();
            }
        }
        (used, offered)
    }

    fn advance(&mut self, subscriber: &mut Subscriber, mut written: usize) {
        let encoding = subscriber.encoding;
        let mut take = |have: usize| {
            let taken = written.min(have);
            written -= taken;
            taken
        };
        if let Some(held) = &mut subscriber.held {
            self.partial_written += take(held.partial.len() - self.partial_written);
        }
        subscriber.control_written += take(subscriber.control_pending().len()) as u32;
        while let Some(parcel) = subscriber.outbox.get(self.parcel) {
            let bytes = parcel.bytes(encoding).len();
            self.written += take(bytes - self.written);
            if self.written < bytes {
                return;
            }
            self.delivered += parcel.messages(encoding);
            self.parcel += 1;
            self.written = 0;
        }
    }
}

impl Hub {
    fn subscriber(&mut self, key: SubscriberKey) -> Option<&mut Subscriber> {
        self.subscribers.get_mut(key.slot as usize).filter(|s| s.open && s.generation == key.generation)
    }

    fn channel(&mut self, channel: ChannelId) -> &mut ChannelState {
        let index = channel.index();
        if index >= self.channels.len() {
            // Whole instruments at a time.
            self.channels
                .resize_with((index / ChannelId::PER_INSTRUMENT + 1) * ChannelId::PER_INSTRUMENT, Default::default);
        }
        &mut self.channels[index]
    }

    fn mark_dirty(&mut self, slot: u32) {
        let subscriber = &mut self.subscribers[slot as usize];
        if !subscriber.dirty {
            subscriber.dirty = true;
            self.dirty.push(slot);
        }
    }

    // Subscriptions and their lists.

    fn listeners(&mut self, target: Target) -> &mut Vec<Listener> {
        match target {
            Target::Channel(channel) => &mut self.channel(channel).listeners,
            Target::All(kind, freshness) => &mut self.all[kind as usize][freshness as usize].listeners,
        }
    }

    fn add_subscription(&mut self, slot: u32, target: Target, interval_ms: u32, now_ms: u64) {
        self.subscriptions_total += 1;
        let subscriber = &mut self.subscribers[slot as usize];
        let index = subscriber.subscriptions.len();
        subscriber.subscriptions.push(Subscription { target, listener: Subscription::SHADOWED, interval_ms });
        let mut shadowed = false;
        match target {
            Target::Channel(channel) => {
                shadowed = subscriber.has_all(channel.kind(), channel.freshness());
                if let Some(held) = &mut subscriber.held
                    && let Err(at) = held.wanted.binary_search(&channel)
                {
                    held.wanted.insert(at, channel);
                }
            }
            Target::All(kind, freshness) => subscriber.all |= Subscriber::all_bit(kind, freshness),
        }
        if shadowed {
            return;
        }
        self.list(slot, index, now_ms);
        if let Target::All(kind, freshness) = target {
            for i in 0..index {
                let covered = self.subscribers[slot as usize].subscriptions[i].target;
                if covered.kind() == kind && covered.freshness() == freshness {
                    self.unlist(slot, i);
                }
            }
        }
    }

    /// Puts a shadowed subscription into its target's list.
    fn list(&mut self, slot: u32, index: usize, now_ms: u64) {
        let target = self.subscribers[slot as usize].subscriptions[index].target;
        let listeners = self.listeners(target);
        let listener = listeners.len() as u32;
        listeners.push(Listener { slot, subscription: index as u32 });
        let subscriber = &mut self.subscribers[slot as usize];
        subscriber.subscriptions[index].listener = listener;
        if target.kind().class() == Class::Conflated {
            let encoding = subscriber.encoding;
            self.raise_demand(target, encoding);
            self.send_snapshots(slot, target, now_ms);
        }
    }

    /// Takes a subscription out of its target's list; it becomes shadowed.
    fn unlist(&mut self, slot: u32, index: usize) {
        let Subscription { target, listener, .. } = self.subscribers[slot as usize].subscriptions[index];
        if listener == Subscription::SHADOWED {
            return;
        }
        self.subscribers[slot as usize].subscriptions[index].listener = Subscription::SHADOWED;
        let listeners = self.listeners(target);
        listeners.swap_remove(listener as usize);
        if let Some(moved) = listeners.get(listener as usize).copied() {
            self.subscribers[moved.slot as usize].subscriptions[moved.subscription as usize].listener = listener;
        }
        let listeners = self.listeners(target);
        if listeners.is_empty() {
            *listeners = Vec::new();
        }
        if target.kind().class() == Class::Conflated {
            let encoding = self.subscribers[slot as usize].encoding;
            self.lower_demand(target, encoding);
        }
    }

    fn drop_subscriptions(&mut self, slot: u32) {
        let subscriber = &mut self.subscribers[slot as usize];
        // First and as a whole, not channel by channel.
        subscriber.paces = None;
        if let Some(Held { resumed, lost, owed, wanted, .. }) = subscriber.held.as_deref_mut() {
            resumed.clear();
            lost.clear();
            owed.clear();
            wanted.clear();
        }
        while let Some(last) = self.subscribers[slot as usize].subscriptions.len().checked_sub(1) {
            self.drop_subscription(slot, last);
        }
    }

    fn drop_subscription(&mut self, slot: u32, index: usize) {
        let shadowed = self.subscribers[slot as usize].subscriptions[index].listener == Subscription::SHADOWED;
        self.unlist(slot, index);
        self.subscriptions_total -= 1;
        let subscriber = &mut self.subscribers[slot as usize];
        let dropped = subscriber.subscriptions.swap_remove(index);
        let moved = subscriber.subscriptions.get(index).copied();
        match dropped.target {
            Target::All(kind, freshness) => subscriber.all &= !Subscriber::all_bit(kind, freshness),
            Target::Channel(channel) => {
                if let Some(held) = &mut subscriber.held
                    && let Ok(at) = held.wanted.binary_search(&channel)
                {
                    held.wanted.remove(at);
                }
            }
        }
        let all = subscriber.all;
        if let Some(held) = &mut subscriber.held {
            let Held { resumed, lost, owed, wanted, .. } = &mut **held;
            // An explicit subscription and a `*` may both cover a channel; the one that stays still serves it.
            let stays = |channel: ChannelId| {
                !dropped.target.covers(channel)
                    || all & Subscriber::all_bit(channel.kind(), channel.freshness()) != 0
                    || wanted.binary_search(&channel).is_ok()
            };
            resumed.retain(|(channel, _)| stays(*channel));
            lost.retain(|(channel, _)| stays(*channel));
            owed.retain(|channel| stays(*channel));
        }
        // The pace is that of the subscription which listens.
        if let Some(paces) = subscriber.paces.as_mut().filter(|_| !shadowed) {
            paces.retain(|pace| !dropped.target.covers(pace.channel));
            if subscriber.subscriptions.iter().all(|s| s.interval_ms == 0) {
                subscriber.paces = None;
            }
        }
        if let Some(Subscription { target, listener, .. }) = moved
            && listener != Subscription::SHADOWED
        {
            self.listeners(target)[listener as usize].subscription = index as u32;
        }
    }

    // Conflated channels: demand, last values, pace.

    fn raise_demand(&mut self, target: Target, encoding: Encoding) {
        let shard = self.config.shard;
        match target {
            Target::Channel(channel) => {
                let state = self.channel(channel);
                state.demand[encoding as usize] += 1;
                // Without a last value here, the sequencer is asked for it, by every newcomer until it comes.
                let first = state.demand[encoding as usize] == 1;
                if first || state.latest.as_ref().is_none_or(|latest| latest[encoding as usize].number == 0) {
                    self.interest.add(shard, channel, encoding);
                }
            }
            Target::All(kind, freshness) => {
                self.all[kind as usize][freshness as usize].demand[encoding as usize] += 1;
                self.interest.add_all(shard, kind, freshness, encoding);
            }
        }
    }

    fn lower_demand(&mut self, target: Target, encoding: Encoding) {
        let (shard, e) = (self.config.shard, encoding as usize);
        match target {
            Target::Channel(channel) => {
                let all = self.all[channel.kind() as usize][channel.freshness() as usize].demand[e];
                let state = self.channel(channel);
                state.demand[e] -= 1;
                if state.demand[e] == 0 {
                    if all == 0 {
                        // It will no longer be kept up to date.
                        state.latest.iter_mut().for_each(|latest| latest[e] = Latest::default());
                    }
                    self.interest.remove(shard, channel, encoding);
                }
            }
            Target::All(kind, freshness) => {
                let all = &mut self.all[kind as usize][freshness as usize];
                all.demand[e] -= 1;
                if all.demand[e] == 0 {
                    self.interest.remove_all(shard, kind, freshness, encoding);
                    let of_kind = self.channels.iter_mut().enumerate().filter(|(index, _)| {
                        let channel = ChannelId(*index as u32);
                        channel.kind() == kind && channel.freshness() == freshness
                    });
                    for (_, state) in of_kind.filter(|(_, state)| state.demand[e] == 0) {
                        state.latest.iter_mut().for_each(|latest| latest[e] = Latest::default());
                    }
                }
            }
        }
    }

    /// Sends the last values that this shard has of what was just subscribed to.
    fn send_snapshots(&mut self, slot: u32, target: Target, now_ms: u64) {
        match target {
            Target::Channel(channel) => self.send_latest(slot, channel, now_ms),
            Target::All(..) => {
                for channel in (0..self.channels.len() as u32).map(ChannelId).filter(|c| target.covers(*c)) {
                    self.send_latest(slot, channel, now_ms);
                }
            }
        }
    }

    fn send_latest(&mut self, slot: u32, channel: ChannelId, now_ms: u64) {
        let Some(state) = self.channels.get(channel.index()) else { return };
        let subscriber = &mut self.subscribers[slot as usize];
        let latest = state.latest.as_ref().map(|latest| &latest[subscriber.encoding as usize]);
        let Some(latest) = latest.filter(|latest| latest.number > 0) else { return };
        if subscriber.paces.is_some() {
            let interval_ms = subscriber.interval_ms(channel);
            if interval_ms > 0 {
                let next_ms = now_ms + u64::from(interval_ms);
                let pace = Pace { channel, next_ms, waiting: false };
                let paces = subscriber.paces.get_or_insert_default();
                match paces.binary_search_by_key(&channel, |p| p.channel) {
                    Ok(found) => paces[found] = pace,
                    Err(at) => paces.insert(at, pace),
                }
            }
        }
        match &mut subscriber.held {
            Some(held) => held.owe(channel),
            None => {
                subscriber.outbox.push(Parcel::Latest { channel, frame: latest.frame.as_slice().into() });
                self.mark_dirty(slot);
            }
        }
    }

    /// Sends the last values that have waited for their interval.
    fn send_paced(&mut self, slot: u32, now_ms: u64) {
        let Some(paces) = &mut self.subscribers[slot as usize].paces else { return };
        let due: Vec<ChannelId> = paces
            .iter_mut()
            .filter(|pace| pace.waiting && pace.next_ms <= now_ms)
            .map(|pace| {
                pace.waiting = false;
                pace.channel
            })
            .collect();
        for channel in due {
            self.send_latest(slot, channel, now_ms);
        }
    }

    /// A subscription's interval has changed: what waited for the old one goes now.
    fn restart_pace(&mut self, slot: u32, target: Target, now_ms: u64) {
        let subscriber = &mut self.subscribers[slot as usize];
        let Some(paces) = &mut subscriber.paces else { return };
        let waiting: Vec<ChannelId> =
            paces.iter().filter(|p| p.waiting && target.covers(p.channel)).map(|p| p.channel).collect();
        paces.retain(|pace| !target.covers(pace.channel));
        if subscriber.subscriptions.iter().all(|s| s.interval_ms == 0) {
            subscriber.paces = None;
        }
        for channel in waiting {
            self.send_latest(slot, channel, now_ms);
        }
    }

    fn publish_conflated(&mut self, segment: Arc<Segment>, now_ms: u64) {
        let numbered = Rc::new(Numbered { first: self.conflated_next, segment });
        self.conflated_next = numbered.end();
        let mut late = Vec::new();
        for (index, publication) in numbered.segment.publications().iter().enumerate() {
            let channel = publication.channel;
            self.channel(channel);
            let Hub { channels, all, subscribers, dirty, counters, pool, .. } = self;
            let state = &mut channels[channel.index()];
            let all = &all[channel.kind() as usize][channel.freshness() as usize];
            let mut fresh = [false; Encoding::COUNT];
            let ranges = Encoding::ALL.map(|encoding| numbered.segment.frame_range(index, encoding));
            for encoding in Encoding::ALL {
                let (e, range) = (encoding as usize, ranges[encoding as usize].clone());
                if range.is_empty() || state.demand[e] + all.demand[e] == 0 {
                    continue;
                }
                let latest = &mut state.latest.get_or_insert_default()[e];
                // A last value that another shard had asked for, and that is known here.
                if latest.number > 0 && publication.seq <= latest.seq {
                    continue;
                }
                latest.seq = publication.seq;
                latest.number = numbered.first + index as u64;
                latest.frame.clear();
                latest.frame.extend_from_slice(numbered.segment.bytes(range, encoding));
                fresh[e] = true;
            }
            for listener in state.listeners.iter().chain(&all.listeners) {
                let subscriber = &mut subscribers[listener.slot as usize];
                let e = subscriber.encoding as usize;
                if !fresh[e] {
                    continue;
                }
                if subscriber.paces.is_some() {
                    match hold_back(subscriber, channel, now_ms) {
                        Pacing::Send => {}
                        Pacing::Wait { until_ms } => {
                            counters.conflated += 1;
                            // A blocked client is woken when its socket takes bytes again.
                            if subscriber.held.as_ref().is_none_or(|held| !held.blocked) {
                                late.push((listener.slot, until_ms));
                            }
                            continue;
                        }
                    }
                }
                if subscriber.held.is_some() {
                    counters.conflated += 1;
                    continue;
                }
                if !subscriber.dirty {
                    subscriber.dirty = true;
                    dirty.push(listener.slot);
                    if subscriber.outbox.capacity() == 0 {
                        subscriber.outbox = pool.pop().unwrap_or_default();
                    }
                }
                subscriber.push_run(&numbered, ranges[e].start, ranges[e].end);
            }
        }
        for (slot, until_ms) in late {
            let generation = self.subscribers[slot as usize].generation;
            self.arm(SubscriberKey { slot, generation }, until_ms);
        }
    }

    // Sequenced channels: the log and its readers.

    fn publish_sequenced(&mut self, segment: Arc<Segment>) {
        let numbered = self.log.push(segment);
        for (index, publication) in numbered.segment.publications().iter().enumerate() {
            let channel = publication.channel;
            let state = self.channel(channel);
            let expected = state.seq + 1;
            // The first number that this shard sees is 1, unless the delay line dropped what came before.
            let hole = (publication.seq != expected).then_some(expected);
            state.seq = publication.seq;
            if let Some(from) = hole {
                self.log.push_hole(numbered.first + index as u64, from);
                self.announce_hole(channel, from, publication.seq - 1);
            }
            let Hub { channels, all, subscribers, dirty, pool, .. } = self;
            let all = &all[channel.kind() as usize][channel.freshness() as usize];
            let ranges = Encoding::ALL.map(|encoding| numbered.segment.frame_range(index, encoding));
            for listener in channels[channel.index()].listeners.iter().chain(&all.listeners) {
                let subscriber = &mut subscribers[listener.slot as usize];
                if subscriber.held.is_some() {
                    continue;
                }
                if !subscriber.dirty {
                    subscriber.dirty = true;
                    dirty.push(listener.slot);
                    if subscriber.outbox.capacity() == 0 {
                        subscriber.outbox = pool.pop().unwrap_or_default();
                    }
                }
                let range = &ranges[subscriber.encoding as usize];
                subscriber.push_run(&numbered, range.start, range.end);
            }
        }
        self.evict();
    }

    /// Tells those who are served live. The others find the hole in the log.
    fn announce_hole(&mut self, channel: ChannelId, from: u64, to: u64) {
        let listeners: Vec<u32> = self.channels[channel.index()]
            .listeners
            .iter()
            .chain(&self.all[channel.kind() as usize][channel.freshness() as usize].listeners)
            .map(|listener| listener.slot)
            .filter(|slot| self.subscribers[*slot as usize].held.is_none())
            .collect();
        for slot in listeners {
            self.send_gap(slot, channel, from, to);
        }
    }

    fn send_gap(&mut self, slot: u32, channel: ChannelId, from: u64, to: u64) {
        self.counters.gaps_announced += 1;
        write_gap(&self.instruments, &mut self.subscribers[slot as usize], channel, from, to);
        self.mark_dirty(slot);
    }

    /// Keeps the log within its bound, and notes for every held client what it loses by that.
    fn evict(&mut self) {
        while let Some(evicted) = self.log.evict() {
            for publication in evicted.segment.publications() {
                self.channels[publication.channel.index()].evicted = publication.seq;
            }
            let Hub { held: slots, subscribers, overrun, config, log, .. } = self;
            slots.retain(|slot| {
                let subscriber = &mut subscribers[*slot as usize];
                let Some(mut held) = subscriber.held.take() else {
                    subscriber.listed = false;
                    return false;
                };
                let had_lost = !held.lost.is_empty();
                if held.position < evicted.end() {
                    let from = held.position.saturating_sub(evicted.first) as usize;
                    for (index, publication) in evicted.segment.publications().iter().enumerate().skip(from) {
                        let position = evicted.first + index as u64;
                        let &Publication { channel, seq, .. } = publication;
                        if subscriber.wants(&held, channel)
                            && held.wants(position, channel, seq)
                            && let Err(at) = held.lost.binary_search_by_key(&channel, |(c, _)| *c)
                        {
                            let from = log.hole_before(position).map_or(seq, |from| from.max(held.needs(channel)));
                            held.lost.insert(at, (channel, from));
                        }
                    }
                    held.position = evicted.end();
                }
                let loses = !had_lost && !held.lost.is_empty();
                subscriber.held = Some(held);
                if loses && config.slow_consumer == SlowConsumer::Disconnect {
                    overrun.push(SubscriberKey { slot: *slot, generation: subscriber.generation });
                }
                true
            });
        }
    }

    /// Sends the client back to `since` in one channel; the others go on from where they are.
    fn resume(&mut self, slot: u32, channel: ChannelId, since: u64) {
        let ChannelState { seq: last, evicted, .. } = *self.channel(channel);
        if since < evicted {
            self.send_gap(slot, channel, since + 1, evicted);
        }
        let since = since.max(evicted);
        let position = if since < last { self.log.position_after(channel, since) } else { None };
        self.take_back(slot, &Cursor::default());
        if let Some(held) = &mut self.subscribers[slot as usize].held {
            if let Some(position) = position.filter(|position| *position < held.position) {
                held.rewind(position, &self.log);
            }
            insert_sorted(&mut held.resumed, channel, since + 1);
            held.lost.retain(|(lost, _)| *lost != channel);
        }
        self.mark_dirty(slot);
    }

    /// Puts what a held client's places call for into its outbox, up to the bounds of a turn. True where
    /// that was all, so that the client is live once it is written.
    fn fill_from_places(&mut self, slot: u32) -> bool {
        let Some(mut held) = self.subscribers[slot as usize].held.take() else { return true };
        self.fill_latest(slot, &mut held);
        let Hub { log, subscribers, channels, instruments, counters, config, .. } = self;
        let subscriber = &mut subscribers[slot as usize];
        let encoding = subscriber.encoding;
        // Notices wait where the control lane has no room for them, and what comes after them waits too.
        let has_room = |subscriber: &Subscriber| subscriber.control_pending().len() <= config.control_bytes_max;
        held.lost.retain(|(channel, from)| {
            let waits = !has_room(subscriber);
            if !waits {
                counters.gaps_announced += 1;
                write_gap(instruments, subscriber, *channel, *from, channels[channel.index()].evicted);
            }
            waits
        });
        let (mut bytes, mut messages) = (0, 0);
        'log: for numbered in log.from(held.position) {
            let skip = held.position.saturating_sub(numbered.first) as usize;
            held.position = held.position.max(numbered.first);
            for (index, publication) in numbered.segment.publications().iter().enumerate().skip(skip) {
                if bytes >= CATCH_UP_BYTES || messages >= CATCH_UP_MESSAGES || !has_room(subscriber) {
                    break 'log;
                }
                let &Publication { channel, seq, .. } = publication;
                if subscriber.wants(&held, channel) && held.wants(held.position, channel, seq) {
                    let hole = log.hole_before(held.position).map(|from| from.max(held.needs(channel)));
                    if let Some(from) = hole.filter(|from| *from < seq) {
                        counters.gaps_announced += 1;
                        write_gap(instruments, subscriber, channel, from, seq - 1);
                    }
                    let range = numbered.segment.frame_range(index, encoding);
                    bytes += range.len();
                    subscriber.push_run(numbered, range.start, range.end);
                }
                messages += 1;
                held.position += 1;
            }
        }
        let caught_up = held.position == log.next() && held.lost.is_empty();
        subscriber.held = Some(held);
        caught_up
    }

    /// The latest of every conflated channel that is owed, in the order in which they came.
    fn fill_latest(&mut self, slot: u32, held: &mut Held) {
        let subscriber = &mut self.subscribers[slot as usize];
        let e = subscriber.encoding as usize;
        let channels = &self.channels;
        let number = |channel: ChannelId| -> u64 {
            channels.get(channel.index()).and_then(|s| s.latest.as_ref()).map_or(0, |latest| latest[e].number)
        };
        let mut owed = std::mem::take(&mut held.owed);
        if held.conflated_from < self.conflated_next {
            let moved = |channel: &ChannelId| number(*channel) >= held.conflated_from;
            // What waits for its interval is sent by the timer.
            let paced = |channel: ChannelId| subscriber.is_waiting(channel);
            for subscription in &subscriber.subscriptions {
                match subscription.target {
                    Target::Channel(channel) => owed.extend(Some(channel).filter(moved).filter(|c| !paced(*c))),
                    Target::All(..) => owed.extend(
                        (0..channels.len() as u32)
                            .map(ChannelId)
                            .filter(|c| subscription.target.covers(*c))
                            .filter(moved)
                            .filter(|c| !paced(*c)),
                    ),
                }
            }
            held.conflated_from = self.conflated_next;
        }
        owed.sort_unstable_by_key(|channel| (number(*channel), *channel));
        owed.dedup();
        for channel in owed.into_iter().filter(|channel| number(*channel) > 0) {
            if let Some(latest) = channels[channel.index()].latest.as_ref() {
                let frame = latest[e].frame.as_slice().into();
                subscriber.outbox.push(Parcel::Latest { channel, frame });
            }
        }
    }

    /// The socket is full: the client is held until it is writable.
    fn hold(&mut self, slot: u32, cursor: &Cursor, now_ms: u64) {
        self.take_back(slot, cursor);
        let subscriber = &mut self.subscribers[slot as usize];
        if let Some(held) = &mut subscriber.held {
            held.blocked = true;
            held.blocked_since_ms = now_ms;
        }
        // What is sent of the control lane is let go; all of it with its buffer.
        if subscriber.control_pending().is_empty() {
            subscriber.control = Vec::new();
        } else {
            subscriber.control.drain(..subscriber.control_written as usize);
        }
        subscriber.control_written = 0;
        let key = SubscriberKey { slot, generation: subscriber.generation };
        self.arm(key, now_ms + self.config.stall_ms.min(self.config.heartbeat_ms));
    }

    /// Turns what is left in the outbox into places in the streams, from which it is found again. A client
    /// that was served live is held from now on.
    fn take_back(&mut self, slot: u32, cursor: &Cursor) {
        let subscriber = &mut self.subscribers[slot as usize];
        let encoding = subscriber.encoding;
        let was_live = subscriber.held.is_none();
        let mut held = subscriber.held.take().unwrap_or_else(|| {
            Box::new(Held {
                position: self.log.next(),
                conflated_from: self.conflated_next,
                wanted: subscriber.wanted(),
                ..Held::default()
            })
        });
        held.partial.drain(..cursor.partial_written);
        let mut outbox = std::mem::take(&mut subscriber.outbox);
        for (i, parcel) in outbox.drain(..).enumerate().skip(cursor.parcel) {
            let written = if i == cursor.parcel { cursor.written } else { 0 };
            match parcel {
                Parcel::Run { segment, start, end } => {
                    let offset = start + written as u32;
                    let mut index = segment.segment.index_at(offset, encoding);
                    let frame = segment.segment.frame_range(index, encoding);
                    self.counters.messages_delivered += segment.segment.count(start..frame.start, encoding) as u64;
                    if offset > frame.start {
                        self.counters.messages_delivered += 1;
                        held.partial = segment.segment.bytes(offset..frame.end, encoding).to_vec();
                        index += 1;
                        if frame.end >= end {
                            continue;
                        }
                    }
                    let first_unsent = segment.first + index as u64;
                    match segment.segment.class() {
                        Class::Sequenced if segment.first < self.log.first() => {
                            // So much came in this turn that the log has let it go before it was written.
                            let unsent = segment.segment.publications().iter().enumerate().skip(index);
                            for (_, p) in
                                unsent.take_while(|(i, _)| segment.segment.frame_range(*i, encoding).end <= end)
                            {
                                if let Err(at) = held.lost.binary_search_by_key(&p.channel, |(c, _)| *c) {
                                    held.lost.insert(at, (p.channel, p.seq));
                                }
                            }
                        }
                        Class::Sequenced => held.position = held.position.min(first_unsent),
                        Class::Conflated => held.conflated_from = held.conflated_from.min(first_unsent),
                    }
                }
                Parcel::Latest { channel, frame } => {
                    if written > 0 {
                        self.counters.messages_delivered += 1;
                        held.partial = frame[written..].to_vec();
                    } else {
                        held.owed.push(channel);
                    }
                }
            }
        }
        held.owed.sort_unstable();
        held.owed.dedup();
        if was_live && !held.lost.is_empty() && self.config.slow_consumer == SlowConsumer::Disconnect {
            self.overrun.push(SubscriberKey { slot, generation: subscriber.generation });
        }
        subscriber.held = Some(held);
        recycle(&mut self.pool, outbox);
        if !subscriber.listed {
            subscriber.listed = true;
            self.held.push(slot);
        }
    }

    /// Tells a quiet client that it missed nothing: the last number of each sequenced channel it has.
    fn heartbeat(&mut self, key: SubscriberKey, now_ns: i64) {
        self.counters.heartbeats += 1;
        let instruments = self.instruments.clone();
        let subscriber = &self.subscribers[key.slot as usize];
        let sequenced =
            |s: &&Subscription| s.listener != Subscription::SHADOWED && s.target.kind().class() == Class::Sequenced;
        let seq: Vec<Position<'_>> = subscriber
            .subscriptions
            .iter()
            .filter(sequenced)
            .flat_map(|subscription| {
                let channels = match subscription.target {
                    Target::Channel(channel) => channel.0..channel.0 + 1,
                    Target::All(..) => 0..self.channels.len() as u32,
                };
                channels.map(ChannelId).filter(|channel| subscription.target.covers(*channel))
            })
            .filter_map(|channel| Some((channel, self.channels.get(channel.index())?.seq)))
            .filter(|(_, seq)| *seq > 0)
            .take(HEARTBEAT_CHANNELS)
            .map(|(channel, seq)| Position {
                channel: channel.kind(),
                symbol: instruments.symbol(channel.instrument()),
                seq,
            })
            .collect();
        let message = ServerMessage::Heartbeat(Heartbeat { t: now_ns, seq: &seq });
        self.control(key, |encoding, out| message.encode(encoding, out));
    }
}

fn write_gap(instruments: &InstrumentTable, subscriber: &mut Subscriber, channel: ChannelId, from: u64, to: u64) {
    let message = ServerMessage::Gap(Gap {
        channel: channel.kind(),
        symbol: instruments.symbol(channel.instrument()),
        from,
        to: Some(to),
        reason: GapReason::Retention,
    });
    message.encode(subscriber.encoding, &mut subscriber.control);
}

/// Keeps an emptied outbox for use again, if it has a buffer and not a large one.
fn recycle(pool: &mut Vec<Vec<Parcel>>, outbox: Vec<Parcel>) {
    if (1..=OUTBOX_KEPT).contains(&outbox.capacity()) {
        pool.push(outbox);
    }
}

enum Pacing {
    Send,
    Wait { until_ms: u64 },
}

/// Whether a conflated message goes to a paced client now.
fn hold_back(subscriber: &mut Subscriber, channel: ChannelId, now_ms: u64) -> Pacing {
    let interval_ms = u64::from(subscriber.interval_ms(channel));
    if interval_ms == 0 {
        return Pacing::Send;
    }
    let held = subscriber.held.is_some();
    let Some(paces) = &mut subscriber.paces else { return Pacing::Send };
    let at = match paces.binary_search_by_key(&channel, |p| p.channel) {
        Ok(found) => found,
        Err(at) => {
            paces.insert(at, Pace { channel, next_ms: 0, waiting: false });
            at
        }
    };
    let pace = &mut paces[at];
    if pace.next_ms > now_ms || held {
        pace.waiting = true;
        return Pacing::Wait { until_ms: pace.next_ms.max(now_ms) };
    }
    pace.next_ms = now_ms + interval_ms;
    pace.waiting = false;
    Pacing::Send
}

#[cfg(test)]
mod tests;
