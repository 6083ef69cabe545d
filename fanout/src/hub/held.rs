//! Clients that are held: their socket is full, or they catch up from the log. Owned by the shard's thread, as
//! all of the hub.
//!
//! A held client keeps places in the streams, not messages: [`Hub::take_back`] turns what is left of its outbox
//! into them, and [`Hub::fill_from_places`] finds from them what it is to be sent, a bounded share in each turn.
//! When they have come to the end of the log, and that is written, it is served live again.

use protocol::{ChannelId, Class};

use super::flush::{Cursor, recycle};
use super::sequenced::write_gap;
use super::{Hub, SlowConsumer, SubscriberKey};
use crate::Publication;
use crate::subscriber::{Held, Parcel, Subscriber, Target};

/// Most bytes that a client which catches up is offered in one turn, so that it does not hold up the others.
const CATCH_UP_BYTES: usize = 256 * 1024;

/// Most messages that are looked at for it in one turn.
pub(super) const CATCH_UP_MESSAGES: usize = 8 * 1024;

impl Hub {
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

    /// Whether data waits for the client: its socket is full, it catches up, or its turn is yet to come.
    pub fn is_owed(&self, key: SubscriberKey) -> bool {
        let subscriber = self.subscribers.get(key.slot as usize).filter(|s| s.open && s.generation == key.generation);
        subscriber.is_some_and(|s| s.held.is_some() || !s.outbox.is_empty())
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

    /// The socket is full: the client is held until it is writable.
    pub(super) fn hold(&mut self, slot: u32, cursor: &Cursor, now_ms: u64) {
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
    pub(super) fn take_back(&mut self, slot: u32, cursor: &Cursor) {
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

    /// Puts what a held client's places call for into its outbox, up to the bounds of a turn. True where
    /// that was all, so that the client is live once it is written.
    pub(super) fn fill_from_places(&mut self, slot: u32) -> bool {
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
                write_gap(
                    instruments,
                    subscriber,
                    *channel,
                    *from,
                    channels.get(*channel).map_or(0, |state| state.evicted),
                );
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
                if subscriber.wants(&held, channel, instruments) && held.wants(held.position, channel, seq) {
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
        let encoding = subscriber.encoding;
        let (channels, instruments) = (&self.channels, &self.instruments);
        let number = |channel: ChannelId| -> u64 {
            channels.get(channel).and_then(|state| state.latest(encoding)).map_or(0, |latest| latest.number)
        };
        let mut owed = std::mem::take(&mut held.owed);
        if held.conflated_from < self.conflated_next {
            let moved = |channel: &ChannelId| number(*channel) >= held.conflated_from;
            // What waits for its interval is sent by the timer.
            let paced = |channel: ChannelId| subscriber.is_waiting(channel);
            for subscription in &subscriber.subscriptions {
                match subscription.target {
                    Target::Channel(channel) => owed.extend(Some(channel).filter(moved).filter(|c| !paced(*c))),
                    Target::All(kind, freshness) => {
                        owed.extend(
                            channels.covered(kind, freshness, instruments).filter(moved).filter(|c| !paced(*c)),
                        );
                    }
                }
            }
            held.conflated_from = self.conflated_next;
        }
        owed.sort_unstable_by_key(|channel| (number(*channel), *channel));
        owed.dedup();
        for channel in owed.into_iter().filter(|channel| number(*channel) > 0) {
            if let Some(latest) = channels.get(channel).and_then(|state| state.latest(encoding)) {
                let frame = latest.frame.as_slice().into();
                subscriber.outbox.push(Parcel::Latest { channel, frame });
            }
        }
    }
}
