//! Who is to be flushed next. Owned by the shard's thread, as all of the hub.
//!
//! Clients with something coming stand in one line and are served from its front, so that what comes while the
//! line is long goes along with each client's next write, and nobody waits longer than one round.
//!
//! A write costs about the same for one message as for twenty. Under load, therefore, a client *rests* after a
//! write: data that comes meanwhile waits and goes out together when the rest is over. How long, the owner of the hub
//! says ([`Hub::set_rest_ms`]): not at all on a shard with time to spare. Control messages end a rest.
//!
//! Bounds: the line and the rests, an entry for each client, and stale ones of clients that left meanwhile.

use std::collections::VecDeque;

use super::{Hub, SubscriberKey};
use crate::subscriber::{Parcel, Pending, Subscriber};

/// The line of clients to be flushed, and those that rest.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    /// Clients that are to be flushed, the first first. Stale where the client is not [`Pending::Ready`].
    line: VecDeque<u32>,
    /// Clients that rest and when they were flushed, ms, which rises.
    resting: VecDeque<(u32, u64)>,
    /// How long a rest is, ms.
    rest_ms: u64,
    /// Clients that are [`Pending::Resting`]: they rest, and data waits.
    waiting: usize,
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
        if self.rest_ms > 0 && !subscriber.resting {
            subscriber.resting = true;
            self.resting.push_back((slot, now_ms));
        }
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

    /// How long clients rest after a write, ms. Shorter than before, it holds for those that rest already.
    pub fn set_rest_ms(&mut self, rest_ms: u64) {
        self.rounds.rest_ms = rest_ms;
    }

    /// Ends the rests that are over.
    pub fn end_rests(&mut self, now_ms: u64) {
        let Hub { rounds, subscribers, .. } = self;
        while let Some((slot, flushed_ms)) = rounds.resting.front().copied() {
            if now_ms < flushed_ms + rounds.rest_ms {
                return;
            }
            rounds.resting.pop_front();
            let subscriber = &mut subscribers[slot as usize];
            subscriber.resting = false;
            if subscriber.pending == Pending::Resting {
                rounds.urgent(subscriber, slot);
            }
        }
    }

    /// When [`Self::end_rests`] has something to do, ms; `None` where nothing waits for it.
    pub fn next_rest_end_ms(&self) -> Option<u64> {
        let (_, flushed_ms) = self.rounds.resting.front().filter(|_| self.rounds.waiting > 0)?;
        Some(flushed_ms + self.rounds.rest_ms)
    }

    pub(super) fn mark_dirty(&mut self, slot: u32) {
        self.rounds.urgent(&mut self.subscribers[slot as usize], slot);
    }
}

/// Has a client flushed in its turn, with an outbox that was used before if there is one.
pub(super) fn open_outbox(subscriber: &mut Subscriber, slot: u32, rounds: &mut Rounds, pool: &mut Vec<Vec<Parcel>>) {
    rounds.data(subscriber, slot);
    if subscriber.outbox.capacity() == 0 {
        subscriber.outbox = pool.pop().unwrap_or_else(|| Vec::with_capacity(1));
    }
}
