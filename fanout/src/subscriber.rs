//! One client as the hub sees it: what it subscribes to, and what it has yet to be sent.
//!
//! A client that keeps up holds nothing while it is quiet: its outbox is filled by what is published until its turn comes
//! (see the hub's rounds), written then, and its buffer goes back to the hub's pool. A client whose socket
//! is full, or who catches up from the log, is *held*: it keeps the rest of the one frame that was cut and
//! its places in the streams, and no reference to any message, so that what it costs does not grow with the
//! message rate.

use std::collections::HashMap;
use std::rc::Rc;

use protocol::{ChannelId, ChannelKind, Encoding, Freshness, InstrumentTable};

use crate::log::{Log, Numbered};

/// What a subscription listens to: one channel, or a kind for all instruments but the streams of single sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Target {
    Channel(ChannelId),
    All(ChannelKind, Freshness),
}

impl Target {
    pub(crate) fn kind(self) -> ChannelKind {
        match self {
            Target::Channel(channel) => channel.kind(),
            Target::All(kind, _) => kind,
        }
    }

    pub(crate) fn covers(self, channel: ChannelId, instruments: &InstrumentTable) -> bool {
        match self {
            Target::Channel(one) => one == channel,
            Target::All(kind, freshness) => {
                kind == channel.kind()
                    && freshness == channel.freshness()
                    && !instruments.is_single_source(channel.instrument())
            }
        }
    }
}

/// A place in a channel's list of listeners.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Listener {
    pub(crate) slot: u32,
    /// Index in the subscriber's `subscriptions`.
    pub(crate) subscription: u32,
}

/// A client's subscription. `listener` is its index in the target's list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subscription {
    pub(crate) target: Target,
    pub(crate) listener: u32,
    /// Least time between two messages of a conflated channel, ms; 0 for every message.
    pub(crate) interval_ms: u32,
}

impl Subscription {
    /// `listener` of a subscription that is covered by a `*` of the same client, which listens for it.
    pub(crate) const SHADOWED: u32 = u32::MAX;
}

/// Whether a client has something coming.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pending {
    Nothing,
    /// Data, which waits for the end of the client's rest.
    Resting,
    /// It stands in the line of those to be flushed.
    Ready,
}

/// Something to be written.
#[derive(Clone, Debug)]
pub(crate) enum Parcel {
    /// Adjacent frames of a segment, in the client's encoding.
    Run { segment: Rc<Numbered>, start: u32, end: u32 },
    /// The last value of a conflated channel.
    Latest { channel: ChannelId, frame: Rc<[u8]> },
}

/// A conflated channel that this client wants at most every `interval_ms`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    pub(crate) channel: ChannelId,
    pub(crate) next_ms: u64,
    /// A newer value waits for `next_ms`.
    pub(crate) waiting: bool,
}

/// The places in the streams of a client that is not fully served.
#[derive(Debug, Default)]
pub(crate) struct Held {
    /// The socket is full; nothing is written until it is writable again.
    pub(crate) blocked: bool,
    /// When the socket first refused, ms; meaningful while `blocked`.
    pub(crate) blocked_since_ms: u64,
    /// Rest of the frame that the socket took a part of. At most one frame.
    pub(crate) partial: Vec<u8>,
    /// Log position of the next sequenced message to look at.
    pub(crate) position: u64,
    /// From this position on every wanted channel is served; before it only those in `resumed`.
    pub(crate) live_from: u64,
    /// Channels that are being resumed, and the next number each needs. Sorted by channel.
    pub(crate) resumed: Vec<(ChannelId, u64)>,
    /// Channels of which retained messages were lost while waiting, and the first number lost. Sorted.
    pub(crate) lost: Vec<(ChannelId, u64)>,
    /// Conflated messages from this running number on are owed (their channels' latest, that is).
    pub(crate) conflated_from: u64,
    /// Conflated channels whose latest is owed whatever its number. Sorted, no doubles.
    pub(crate) owed: Vec<ChannelId>,
    /// The subscribed channels, sorted, for looking up while scanning the log.
    pub(crate) wanted: Vec<ChannelId>,
}

impl Held {
    pub(crate) fn owe(&mut self, channel: ChannelId) {
        if let Err(at) = self.owed.binary_search(&channel) {
            self.owed.insert(at, channel);
        }
    }

    /// Whether the message at `position` is to be delivered, given that its channel is subscribed.
    pub(crate) fn wants(&self, position: u64, channel: ChannelId, seq: u64) -> bool {
        match self.resumed.binary_search_by_key(&channel, |(c, _)| *c) {
            Ok(found) => seq >= self.resumed[found].1,
            Err(_) => position >= self.live_from,
        }
    }

    /// The lowest number that is still to be delivered, where the channel is being resumed; 0 elsewhere.
    pub(crate) fn needs(&self, channel: ChannelId) -> u64 {
        self.resumed.binary_search_by_key(&channel, |(c, _)| *c).map_or(0, |found| self.resumed[found].1)
    }

    /// Goes back to `position` for a channel that is resumed. What the others have had by now does not come
    /// again: those that are resumed too need the numbers after it, the rest are live from here on.
    pub(crate) fn rewind(&mut self, position: u64, log: &Log) {
        if !self.resumed.is_empty() {
            for numbered in log.from(position).take_while(|numbered| numbered.first < self.position) {
                for (at, publication) in (numbered.first..self.position).zip(numbered.segment.publications()) {
                    let found = self.resumed.binary_search_by_key(&publication.channel, |(c, _)| *c);
                    if let Some(found) = found.ok().filter(|_| at >= position) {
                        self.resumed[found].1 = self.resumed[found].1.max(publication.seq + 1);
                    }
                }
            }
        }
        self.live_from = self.live_from.max(self.position);
        self.position = position;
    }
}

/// Inserts or replaces in a vector sorted by channel.
pub(crate) fn insert_sorted(entries: &mut Vec<(ChannelId, u64)>, channel: ChannelId, value: u64) {
    match entries.binary_search_by_key(&channel, |(c, _)| *c) {
        Ok(found) => entries[found].1 = value,
        Err(at) => entries.insert(at, (channel, value)),
    }
}

/// One client. 144 bytes while idle, and 24 per subscription with its place in the channel's list.
#[derive(Debug)]
pub(crate) struct Subscriber {
    pub(crate) generation: u32,
    pub(crate) open: bool,
    /// Whether something is coming for it, and stands in the hub's line.
    pub(crate) pending: Pending,
    /// Was written to a moment ago; see the hub's rounds.
    pub(crate) resting: bool,
    pub(crate) encoding: Encoding,
    /// Kinds subscribed by `*`: bit `kind * Freshness::COUNT + freshness`.
    pub(crate) all: u64,
    pub(crate) outbox: Vec<Parcel>,
    pub(crate) held: Option<Box<Held>>,
    /// Stands in the hub's list of held clients.
    pub(crate) listed: bool,
    /// Control lane: complete frames that pass all data. `control_written` bytes of it are sent.
    pub(crate) control: Vec<u8>,
    pub(crate) control_written: u32,
    pub(crate) subscriptions: Vec<Subscription>,
    /// Where each target stands in `subscriptions`, once there are more than [`SEARCHED_MAX`].
    // Boxed: 8 bytes for the many that have none, where the map itself would take 48.
    #[allow(clippy::box_collection)]
    pub(crate) places: Option<Box<HashMap<Target, u32>>>,
    /// Present while some subscription has an interval. Sorted by channel; one for each channel of which a
    /// message has come.
    #[expect(clippy::box_collection, reason = "8 bytes instead of 24 in the many clients without")]
    pub(crate) paces: Option<Box<Vec<Pace>>>,
    pub(crate) last_sent_ms: u64,
    /// Earliest deadline that stands in the wheel, but for the one below, ms.
    pub(crate) armed_ms: u64,
    /// When the next heartbeat may be due, as it stands in the wheel, ms.
    pub(crate) quiet_ms: u64,
}

/// So many subscriptions are searched one by one; a hash of a target costs about as much.
const SEARCHED_MAX: usize = 32;

const _: () = assert!(ChannelId::PER_INSTRUMENT <= 64, "a bit of `all` for each kind and freshness");

impl Subscriber {
    /// Index of the subscription with this target.
    pub(crate) fn find(&self, target: Target) -> Option<usize> {
        match &self.places {
            Some(places) => places.get(&target).map(|place| *place as usize),
            None => self.subscriptions.iter().position(|s| s.target == target),
        }
    }

    /// Adds a subscription at the end.
    pub(crate) fn push_subscription(&mut self, subscription: Subscription) {
        if self.subscriptions.capacity() == 0 {
            // Very many clients have a single subscription.
            self.subscriptions.reserve_exact(1);
        }
        self.subscriptions.push(subscription);
        let place = self.subscriptions.len() - 1;
        match &mut self.places {
            Some(places) => {
                places.insert(subscription.target, place as u32);
            }
            None if place >= SEARCHED_MAX => {
                let targets = self.subscriptions.iter().enumerate().map(|(place, s)| (s.target, place as u32));
                self.places = Some(Box::new(targets.collect()));
            }
            None => {}
        }
    }

    /// Takes a subscription out; the last one moves to its place.
    pub(crate) fn swap_remove_subscription(&mut self, index: usize) -> Subscription {
        let removed = self.subscriptions.swap_remove(index);
        if let Some(places) = &mut self.places {
            places.remove(&removed.target);
            if let Some(moved) = self.subscriptions.get(index) {
                places.insert(moved.target, index as u32);
            }
        }
        if self.subscriptions.is_empty() {
            self.places = None;
        }
        removed
    }

    pub(crate) fn all_bit(kind: ChannelKind, freshness: Freshness) -> u64 {
        1 << (kind as usize * Freshness::COUNT + freshness as usize)
    }

    /// Whether a `*` of this client covers the channel.
    pub(crate) fn has_all(&self, channel: ChannelId, instruments: &InstrumentTable) -> bool {
        Self::is_in_all(self.all, channel, instruments)
    }

    /// Whether `all`, the kinds that a client has by `*`, covers the channel.
    pub(crate) fn is_in_all(all: u64, channel: ChannelId, instruments: &InstrumentTable) -> bool {
        all & Self::all_bit(channel.kind(), channel.freshness()) != 0
            && !instruments.is_single_source(channel.instrument())
    }

    /// Whether a message of the channel goes to this client. Only for clients that are held.
    pub(crate) fn wants(&self, held: &Held, channel: ChannelId, instruments: &InstrumentTable) -> bool {
        self.has_all(channel, instruments) || held.wanted.binary_search(&channel).is_ok()
    }

    /// The interval of the subscription that serves a channel, ms.
    pub(crate) fn interval_ms(&self, channel: ChannelId, instruments: &InstrumentTable) -> u32 {
        self.subscriptions
            .iter()
            .find(|s| s.listener != Subscription::SHADOWED && s.target.covers(channel, instruments))
            .map_or(0, |s| s.interval_ms)
    }

    /// When the first message that waits for its interval may go, ms.
    pub(crate) fn next_paced_ms(&self) -> Option<u64> {
        self.paces.as_ref()?.iter().filter(|pace| pace.waiting).map(|pace| pace.next_ms).min()
    }

    /// Whether a newer value of the channel waits for its interval.
    pub(crate) fn is_waiting(&self, channel: ChannelId) -> bool {
        self.paces.as_ref().is_some_and(|paces| {
            paces.binary_search_by_key(&channel, |p| p.channel).is_ok_and(|found| paces[found].waiting)
        })
    }

    /// The explicitly subscribed channels, sorted.
    pub(crate) fn wanted(&self) -> Vec<ChannelId> {
        let mut wanted: Vec<ChannelId> = self
            .subscriptions
            .iter()
            .filter_map(|s| if let Target::Channel(channel) = s.target { Some(channel) } else { None })
            .collect();
        wanted.sort_unstable();
        wanted
    }

    /// Appends frames to the outbox, as part of the last run where they are adjacent.
    pub(crate) fn push_run(&mut self, segment: &Rc<Numbered>, start: u32, end: u32) {
        if let Some(Parcel::Run { segment: last, end: last_end, .. }) = self.outbox.last_mut()
            && *last_end == start
            && Rc::ptr_eq(last, segment)
        {
            *last_end = end;
            return;
        }
        self.outbox.push(Parcel::Run { segment: segment.clone(), start, end });
    }

    /// Bytes of the control lane that are not sent yet.
    pub(crate) fn control_pending(&self) -> &[u8] {
        &self.control[self.control_written as usize..]
    }
}
