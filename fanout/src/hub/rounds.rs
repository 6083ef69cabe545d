//! Who is to be flushed next. Owned by the shard's thread, as all of the hub.
//!
//! Clients with something coming stand in one line and are served from its front, so that what comes while the
//! line is long goes along with each client's next write, and nobody waits longer than one round. While the shard
//! keeps up, each message finds the line empty, and its listeners join from another one of them on each time: nobody
//! is always the first to know, or the last.
//!
//! A write costs about the same for one message as for twenty. Under load, therefore, clients are served in
//! *rounds*: who has been written to *rests* until the next round begins, and data that comes meanwhile goes out
//! together. How far apart rounds begin, the owner of the hub says ([`Hub::set_round_ms`]): on a shard with time to
//! spare there are none, and nobody rests. Control messages end a client's rest. A client's place in the round is
//! about the same each time, so that nothing waits longer than from one round to the next.
//!
//! That all rests end together, and not each a while after the client's own write, makes the writes of a round follow
//! each other without a pause: each pause would cost another wake-up of the shard, and of who reads.
//!
//! Bounds: the line and the rests, an entry for each client, and stale ones of clients that left meanwhile.

use std::collections::VecDeque;

use super::{Hub, SubscriberKey};
use crate::subscriber::{Listener, Parcel, Pending, Subscriber};

/// The line of clients to be flushed, and those that rest.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    /// Clients that are to be flushed, the first first. Stale where the client is not [`Pending::Ready`].
    line: VecDeque<u32>,
    /// Clients that have been written to in this round.
    resting: Vec<u32>,
    /// When this round began, ms. Meaningful while somebody rests.
    began_ms: u64,
    /// From the beginning of a round to that of the next, ms. 0: no rounds.
    round_ms: u64,
    /// Clients that are [`Pending::Resting`]: they rest, and data waits.
    waiting: usize,
    /// Messages that found the line empty.
    begun: u32,
}

impl Rounds {
    /// Data has come for the client.
    pub(super) fn data(&mut self, subscriber: &mut Subscriber, slot: u32) {
        if subscriber.pending != Pending::Nothing {
            return;
        }
        if subscriber.resting {
            subscriber.pending = Pending::Resting;
            self.waiting += 1;
        } else {
            subscriber.pending = Pending::Ready;
            self.line.push_back(slot);
        }
    }

    /// A message's listeners, from any one of them on if the line is empty, since they make the order in it.
    pub(super) fn in_turn<'a>(&mut self, listeners: &'a [Listener]) -> impl Iterator<Item = &'a Listener> + use<'a> {
        let mut first = 0;
        if listeners.len() > 1 && self.line.is_empty() {
            // Fibonacci hashing of a running number: evenly spread, and for no list the same ones every few messages.
            self.begun = self.begun.wrapping_add(1);
            first = (u64::from(self.begun.wrapping_mul(2_654_435_769)) * listeners.len() as u64) >> 32;
        }
        let (before, from) = listeners.split_at(first as usize);
        from.iter().chain(before)
    }

    /// Something has come for the client that does not wait.
    pub(super) fn urgent(&mut self, subscriber: &mut Subscriber, slot: u32) {
        match subscriber.pending {
            Pending::Ready => return,
            Pending::Resting => self.waiting -= 1,
            Pending::Nothing => {}
        }
        subscriber.pending = Pending::Ready;
        self.line.push_back(slot);
    }

    /// The client has been written to.
    pub(super) fn flushed(&mut self, subscriber: &mut Subscriber, slot: u32, now_ms: u64) {
        if self.round_ms == 0 || subscriber.resting {
            return;
        }
        if self.resting.is_empty() {
            self.began_ms = now_ms;
        }
        subscriber.resting = true;
        self.resting.push(slot);
    }

    /// The client is no more.
    pub(super) fn forget(&mut self, subscriber: &mut Subscriber) {
        if subscriber.pending == Pending::Resting {
            self.waiting -= 1;
        }
        subscriber.pending = Pending::Nothing;
        subscriber.resting = false;
    }
}

impl Hub {
    /// The next client to be flushed. `None` where nobody has anything coming that does not rest.
    pub fn next_dirty(&mut self) -> Option<SubscriberKey> {
        while let Some(slot) = self.rounds.line.pop_front() {
            let subscriber = &mut self.subscribers[slot as usize];
            if subscriber.open && subscriber.pending == Pending::Ready {
                subscriber.pending = Pending::Nothing;
                return Some(SubscriberKey { slot, generation: subscriber.generation });
            }
        }
        None
    }

    /// Whether some client is to be flushed.
    pub fn has_dirty(&self) -> bool {
        !self.rounds.line.is_empty()
    }

    /// How many clients are to be flushed, at most.
    pub fn dirty_count(&self) -> usize {
        self.rounds.line.len()
    }

    /// How far apart rounds begin, ms; 0 for no rounds. Holds for the one under way too.
    pub fn set_round_ms(&mut self, round_ms: u64) {
        self.rounds.round_ms = round_ms;
    }

    /// Begins the next round if it is time: nobody rests any more.
    pub fn begin_round(&mut self, now_ms: u64) {
        let Hub { rounds, subscribers, .. } = self;
        if rounds.resting.is_empty() || now_ms < rounds.began_ms + rounds.round_ms {
            return;
        }
        let mut resting = std::mem::take(&mut rounds.resting);
        for slot in resting.drain(..) {
            let subscriber = &mut subscribers[slot as usize];
            subscriber.resting = false;
            if subscriber.pending == Pending::Resting {
                rounds.urgent(subscriber, slot);
            }
        }
        rounds.resting = resting;
    }

    /// When the next round begins, ms; `None` where nothing waits for it.
    pub fn next_round_ms(&self) -> Option<u64> {
        (self.rounds.waiting > 0).then_some(self.rounds.began_ms + self.rounds.round_ms)
    }

    pub(super) fn mark_dirty(&mut self, slot: u32) {
        self.rounds.urgent(&mut self.subscribers[slot as usize], slot);
    }
}

/// Has a client flushed in its turn, with an outbox that was used before if there is one.
// Once for each message and listener: a call takes 16 instructions of 112.
#[inline]
pub(super) fn open_outbox(subscriber: &mut Subscriber, slot: u32, rounds: &mut Rounds, pool: &mut Vec<Vec<Parcel>>) {
    rounds.data(subscriber, slot);
    if subscriber.outbox.capacity() == 0 {
        subscriber.outbox = pool.pop().unwrap_or_else(|| Vec::with_capacity(1));
    }
}
