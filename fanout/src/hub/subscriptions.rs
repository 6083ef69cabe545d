//! Subscriptions, and each channel's list of those who listen. Owned by the shard's thread, as all of the hub.
//!
//! A client that has both `*` and one of the channels which it covers is to get each message once: the explicit
//! subscription is *shadowed*, it stands in no list while the `*` listens for it.
//!
//! Invariant: among a client's subscriptions that cover a channel exactly one is listed. A subscription and its
//! place in the list name each other by index, so that both are left by a swap, without a search.
//!
//! Whether a client may subscribe is not asked here: the [`Grant`] is the answer.

use entitlements::Grant;
use protocol::{Channel, ChannelId, ChannelKind, Class, Freshness, Selector};

use super::flush::Cursor;
use super::{Hub, SubscriberKey};
use crate::subscriber::{Held, Listener, Subscriber, Subscription, Target};

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

/// What a channel is to listen to, of either freshness.
fn targets(channel: Channel) -> impl Iterator<Item = Target> {
    [Freshness::RealTime, Freshness::Delayed].into_iter().map(move |freshness| match channel.selector {
        Selector::All => Target::All(channel.kind, freshness),
        Selector::One(instrument) => Target::Channel(ChannelId::new(instrument, channel.kind, freshness)),
    })
}

impl Hub {
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
        let known = subscriber.find(target);
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

    /// Ends a subscription; false where the client had none. Nothing of it is sent from now on, although it may
    /// stand in the outbox of this turn: the answer to the request passes the data.
    pub fn unsubscribe(&mut self, key: SubscriberKey, kind: ChannelKind, selector: Selector, now_ms: u64) -> bool {
        let Some(subscriber) = self.subscriber(key) else { return false };
        let Some(index) = targets(Channel { kind, selector }).find_map(|target| subscriber.find(target)) else {
            return false;
        };
        self.end_subscription(key.slot, index, now_ms);
        true
    }

    /// Replaces the subscription to the grant's channel of the other freshness; its interval is kept. False where the client
    /// had none.
    ///
    /// From delayed to real time, a sequenced channel of one instrument goes on after the last number that the client was
    /// sent, so that it misses nothing. A `*` goes on with what is new: to look for each of its instruments in the log would
    /// hold up the others. From real time to delayed, numbers that the client has come again: they are of another stream.
    pub fn regrant(&mut self, key: SubscriberKey, grant: Grant, now_ms: u64) -> bool {
        let Some(subscriber) = self.subscriber(key) else { return false };
        let channel = grant.channel();
        let Some(index) = targets(channel).find_map(|target| subscriber.find(target)) else { return false };
        let Subscription { target: before, interval_ms, .. } = subscriber.subscriptions[index];
        let Some(target) = targets(channel).nth(grant.freshness() as usize).filter(|target| *target != before) else {
            return false;
        };
        let was_sent = match before {
            Target::Channel(channel) => self.last_sent(key.slot, channel),
            Target::All(..) => 0,
        };
        self.end_subscription(key.slot, index, now_ms);
        if interval_ms > 0 {
            self.subscribers[key.slot as usize].paces.get_or_insert_default();
        }
        self.add_subscription(key.slot, target, interval_ms, now_ms);
        if let Target::Channel(channel) = target
            && channel.kind().class() == Class::Sequenced
            && channel.freshness() == Freshness::RealTime
        {
            let since = was_sent.min(self.channel(channel).seq);
            self.resume(key.slot, channel, since);
        }
        true
    }

    /// The last number of a sequenced channel before those that the client is yet to be sent.
    fn last_sent(&mut self, slot: u32, channel: ChannelId) -> u64 {
        if !self.subscribers[slot as usize].outbox.is_empty() {
            self.take_back(slot, &Cursor::default());
        }
        let Some(state) = self.channels.get(channel) else { return 0 };
        let Some(held) = self.subscribers[slot as usize].held.as_deref() else { return state.seq };
        let lost = held.lost.binary_search_by_key(&channel, |(lost, _)| *lost).ok().map(|found| held.lost[found].1);
        let waits = state.retained.as_deref().and_then(|retained| {
            let from = retained.partition_point(|(_, position)| *position < held.position);
            retained.range(from..).find(|(seq, position)| held.wants(*position, channel, *seq)).map(|(seq, _)| *seq)
        });
        lost.or(waits).map_or(state.seq, |first| first - 1)
    }

    /// Ends a subscription. What of it stands in the outbox is taken back.
    fn end_subscription(&mut self, slot: u32, index: usize, now_ms: u64) {
        let subscriber = &self.subscribers[slot as usize];
        let target = subscriber.subscriptions[index].target;
        if !subscriber.outbox.is_empty() {
            self.take_back(slot, &Cursor::default());
        }
        self.drop_subscription(slot, index);
        if let Target::All(..) = target {
            // What the `*` had covered listens for itself again.
            for index in 0..self.subscribers[slot as usize].subscriptions.len() {
                if self.shadows(target, slot, index) {
                    self.list(slot, index, now_ms);
                }
            }
        }
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
        let subscriber = self.subscribers.get(key.slot as usize).filter(|s| s.open && s.generation == key.generation);
        subscriber.is_some_and(|subscriber| targets(channel).any(|target| subscriber.find(target).is_some()))
    }

    /// How many subscriptions the client has.
    pub fn subscription_count(&self, key: SubscriberKey) -> usize {
        self.subscriptions(key).count()
    }

    pub(super) fn drop_subscriptions(&mut self, slot: u32) {
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
        let Hub { subscribers, instruments, .. } = self;
        let subscriber = &mut subscribers[slot as usize];
        let dropped = subscriber.swap_remove_subscription(index);
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
                !dropped.target.covers(channel, instruments)
                    || Subscriber::is_in_all(all, channel, instruments)
                    || wanted.binary_search(&channel).is_ok()
            };
            resumed.retain(|(channel, _)| stays(*channel));
            lost.retain(|(channel, _)| stays(*channel));
            owed.retain(|channel| stays(*channel));
        }
        // The pace is that of the subscription which listens.
        if let Some(paces) = subscriber.paces.as_mut().filter(|_| !shadowed) {
            paces.retain(|pace| !dropped.target.covers(pace.channel, instruments));
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

    fn add_subscription(&mut self, slot: u32, target: Target, interval_ms: u32, now_ms: u64) {
        self.subscriptions_total += 1;
        let Hub { subscribers, instruments, .. } = self;
        let subscriber = &mut subscribers[slot as usize];
        let index = subscriber.subscriptions.len();
        subscriber.push_subscription(Subscription { target, listener: Subscription::SHADOWED, interval_ms });
        let mut shadowed = false;
        match target {
            Target::Channel(channel) => {
                shadowed = subscriber.has_all(channel, instruments);
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
        if let Target::All(..) = target {
            for i in 0..index {
                if self.shadows(target, slot, i) {
                    self.unlist(slot, i);
                }
            }
        }
    }

    /// Whether a `*` of the client listens for this explicit subscription of it.
    fn shadows(&self, all: Target, slot: u32, index: usize) -> bool {
        match self.subscribers[slot as usize].subscriptions[index].target {
            Target::Channel(channel) => all.covers(channel, &self.instruments),
            Target::All(..) => false,
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
        } else if let Target::Channel(channel) = target {
            self.channel(channel).let_go();
        }
    }

    fn listeners(&mut self, target: Target) -> &mut Vec<Listener> {
        match target {
            Target::Channel(channel) => &mut self.channel(channel).audience.get_or_insert_default().listeners,
            Target::All(kind, freshness) => &mut self.all[kind as usize][freshness as usize].listeners,
        }
    }
}
