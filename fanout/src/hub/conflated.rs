//! Conflated channels: last values, the demand for them, and the pace at which clients want them. Owned by the
//! shard's thread, as all of the hub.
//!
//! The last value of a channel is kept in each encoding that some listener of this shard reads, and let go with
//! the last of them; what nobody reads is neither encoded by the sequencer ([`Interest`]) nor copied here.
//!
//! A message is sent as it comes to a client that is served live. A paced client, or one that is held, is sent
//! the latest when its interval ends or its socket takes bytes again; nothing between is kept for it.
//!
//! [`Interest`]: crate::Interest

use std::rc::Rc;
use std::sync::Arc;

use protocol::{ChannelId, Encoding};

use super::rounds::open_outbox;
use super::{Hub, SubscriberKey, all_of};
use crate::Segment;
use crate::log::Numbered;
use crate::subscriber::{Pace, Parcel, Subscriber, Subscription, Target};

/// The last value of a conflated channel in one encoding.
#[derive(Debug, Default)]
pub(super) struct Latest {
    pub(super) seq: u64,
    /// Running number of the conflated message; 0 before the first.
    pub(super) number: u64,
    pub(super) frame: Vec<u8>,
}

impl Hub {
    pub(super) fn publish_conflated(&mut self, segment: Arc<Segment>, now_ms: u64) {
        let numbered = Rc::new(Numbered { first: self.conflated_next, segment });
        self.conflated_next = numbered.end();
        let mut late = Vec::new();
        for (index, publication) in numbered.segment.publications().iter().enumerate() {
            let channel = publication.channel;
            let Hub { channels, all, subscribers, rounds, counters, pool, instruments, .. } = self;
            let all = all_of(all, channel, instruments);
            let state = channels.entry(channel);
            if state.audience.is_none() && all.listeners.is_empty() {
                // Another shard's clients want it.
                continue;
            }
            let state = state.audience.get_or_insert_default();
            let mut fanned_out = false;
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
            let (one, all) = (rounds.in_turn(&state.listeners), rounds.in_turn(&all.listeners));
            for listener in one.chain(all) {
                let subscriber = &mut subscribers[listener.slot as usize];
                let e = subscriber.encoding as usize;
                if !fresh[e] {
                    continue;
                }
                if subscriber.paces.is_some() {
                    // Not looked for: what listens names the subscription.
                    let &Subscription { target, interval_ms, .. } =
                        &subscriber.subscriptions[listener.subscription as usize];
                    debug_assert!(target.covers(channel, instruments));
                    match hold_back(subscriber, channel, interval_ms, now_ms) {
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
                fanned_out = true;
                open_outbox(subscriber, listener.slot, rounds, pool);
                subscriber.push_run(&numbered, ranges[e].start, ranges[e].end);
            }
            counters.messages_fanned_out += u64::from(fanned_out);
        }
        for (slot, until_ms) in late {
            let generation = self.subscribers[slot as usize].generation;
            self.arm(SubscriberKey { slot, generation }, until_ms);
        }
    }

    pub(super) fn raise_demand(&mut self, target: Target, encoding: Encoding) {
        let shard = self.config.shard;
        match target {
            Target::Channel(channel) => {
                let state = self.channel(channel).audience.get_or_insert_default();
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

    pub(super) fn lower_demand(&mut self, target: Target, encoding: Encoding) {
        let (shard, e) = (self.config.shard, encoding as usize);
        match target {
            Target::Channel(channel) => {
                let all = all_of(&self.all, channel, &self.instruments).demand[e];
                let state = self.channel(channel);
                let audience = state.audience.get_or_insert_default();
                audience.demand[e] -= 1;
                if audience.demand[e] == 0 {
                    if all == 0 {
                        state.forget_latest(encoding);
                    }
                    state.let_go();
                    self.interest.remove(shard, channel, encoding);
                }
            }
            Target::All(kind, freshness) => {
                let all = &mut self.all[kind as usize][freshness as usize];
                all.demand[e] -= 1;
                if all.demand[e] == 0 {
                    self.interest.remove_all(shard, kind, freshness, encoding);
                    for channel in self.channels.covered(kind, freshness, &self.instruments) {
                        let state = self.channels.entry(channel);
                        if state.audience.as_ref().is_none_or(|audience| audience.demand[e] == 0) {
                            state.forget_latest(encoding);
                            state.let_go();
                        }
                    }
                }
            }
        }
    }

    /// Sends the last values that this shard has of what was just subscribed to.
    pub(super) fn send_snapshots(&mut self, slot: u32, target: Target, now_ms: u64) {
        match target {
            Target::Channel(channel) => self.send_latest(slot, channel, now_ms),
            Target::All(kind, freshness) => {
                for channel in self.channels.covered(kind, freshness, &self.instruments) {
                    self.send_latest(slot, channel, now_ms);
                }
            }
        }
    }

    fn send_latest(&mut self, slot: u32, channel: ChannelId, now_ms: u64) {
        let Some(state) = self.channels.get(channel) else { return };
        let subscriber = &mut self.subscribers[slot as usize];
        let Some(latest) = state.latest(subscriber.encoding).filter(|latest| latest.number > 0) else { return };
        if subscriber.paces.is_some() {
            let interval_ms = subscriber.interval_ms(channel, &self.instruments);
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
    pub(super) fn send_paced(&mut self, slot: u32, now_ms: u64) {
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
    pub(super) fn restart_pace(&mut self, slot: u32, target: Target, now_ms: u64) {
        let Hub { subscribers, instruments, .. } = self;
        let subscriber = &mut subscribers[slot as usize];
        let Some(paces) = &mut subscriber.paces else { return };
        let waiting: Vec<ChannelId> =
            paces.iter().filter(|p| p.waiting && target.covers(p.channel, instruments)).map(|p| p.channel).collect();
        paces.retain(|pace| !target.covers(pace.channel, instruments));
        if subscriber.subscriptions.iter().all(|s| s.interval_ms == 0) {
            subscriber.paces = None;
        }
        for channel in waiting {
            self.send_latest(slot, channel, now_ms);
        }
    }
}

enum Pacing {
    Send,
    Wait { until_ms: u64 },
}

/// Whether a conflated message goes to a paced client now, given the interval of the subscription that listens.
fn hold_back(subscriber: &mut Subscriber, channel: ChannelId, interval_ms: u32, now_ms: u64) -> Pacing {
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
    pace.next_ms = now_ms + u64::from(interval_ms);
    pace.waiting = false;
    Pacing::Send
}
