//! Sequenced channels: the retained log, what is missing in it, and going back in it. Owned by the shard's
//! thread, as all of the hub.
//!
//! A number can be missing for two reasons. It never came to this shard, because the delay line dropped it: a
//! *hole*. Or the log has let it go to stay within `retain_bytes`: it is *evicted*. Each client that was to have
//! it is told with a `gap` before the next message of the channel; one that waited for what was evicted may be
//! disconnected instead, see [`SlowConsumer`].
//!
//! How a client that goes back is served is in `held`.

use std::sync::Arc;

use entitlements::Grant;
use protocol::message::{Gap, GapReason, ServerMessage};
use protocol::{ChannelId, Class, Encoding, InstrumentId, InstrumentTable};

use super::flush::Cursor;
use super::rounds::open_outbox;
use super::{Hub, SlowConsumer, Subscribed, SubscriberKey, all_of};
use crate::subscriber::{Subscriber, insert_sorted};
use crate::{Publication, Segment};

impl Hub {
    pub(super) fn publish_sequenced(&mut self, segment: Arc<Segment>) {
        let numbered = self.log.push(segment);
        for (index, publication) in numbered.segment.publications().iter().enumerate() {
            let channel = publication.channel;
            let state = self.channel(channel);
            let expected = state.seq + 1;
            // The first number that this shard sees is 1, unless the delay line dropped what came before.
            let hole = (publication.seq != expected).then_some(expected);
            state.seq = publication.seq;
            state.retained.get_or_insert_default().push_back((publication.seq, numbered.first + index as u64));
            if let Some(from) = hole {
                self.log.push_hole(numbered.first + index as u64, from);
                self.announce_hole(channel, from, publication.seq - 1);
            }
            let Hub { channels, all, subscribers, rounds, pool, counters, instruments, .. } = self;
            let mut fanned_out = false;
            let all = all_of(all, channel, instruments);
            let ranges = Encoding::ALL.map(|encoding| numbered.segment.frame_range(index, encoding));
            let (one, all) = (rounds.in_turn(channels.entry(channel).listeners()), rounds.in_turn(&all.listeners));
            for listener in one.chain(all) {
                let subscriber = &mut subscribers[listener.slot as usize];
                if subscriber.held.is_some() {
                    continue;
                }
                fanned_out = true;
                open_outbox(subscriber, listener.slot, rounds, pool);
                let range = &ranges[subscriber.encoding as usize];
                subscriber.push_run(&numbered, range.start, range.end);
            }
            counters.messages_fanned_out += u64::from(fanned_out);
        }
        self.evict();
    }

    /// Tells those who are served live. The others find the hole in the log.
    fn announce_hole(&mut self, channel: ChannelId, from: u64, to: u64) {
        let listeners: Vec<u32> = self
            .channels
            .get(channel)
            .into_iter()
            .flat_map(|state| state.listeners())
            .chain(&all_of(&self.all, channel, &self.instruments).listeners)
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
                let state = self.channels.entry(publication.channel);
                state.evicted = publication.seq;
                if let Some(retained) = &mut state.retained {
                    retained.pop_front();
                    if retained.is_empty() {
                        state.retained = None;
                    }
                }
            }
            let Hub { held: slots, subscribers, overrun, config, log, instruments, .. } = self;
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
                        if subscriber.wants(&held, channel, instruments)
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

    /// Serves one channel of a `*` subscription from `since` on; see
    /// [`SubscribeOptions::since`](crate::SubscribeOptions::since).
    pub fn resume_within_all(
        &mut self,
        key: SubscriberKey,
        grant: Grant,
        instrument: InstrumentId,
        since: u64,
    ) -> Subscribed {
        let channel = ChannelId::new(instrument, grant.channel().kind, grant.freshness());
        let instruments = self.instruments.clone();
        let covered = self.subscriber(key).is_some_and(|s| s.has_all(channel, &instruments));
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

    /// Sends the client back to `since` in one channel; the others go on from where they are.
    pub(super) fn resume(&mut self, slot: u32, channel: ChannelId, since: u64) {
        let evicted = self.channel(channel).evicted;
        if since < evicted {
            self.send_gap(slot, channel, since + 1, evicted);
        }
        let since = since.max(evicted);
        let position = self.channel(channel).retained.as_ref().and_then(|retained| {
            let newer = retained.partition_point(|(seq, _)| *seq <= since);
            retained.get(newer).map(|(_, position)| *position)
        });
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
}

pub(super) fn write_gap(
    instruments: &InstrumentTable,
    subscriber: &mut Subscriber,
    channel: ChannelId,
    from: u64,
    to: u64,
) {
    let message = ServerMessage::Gap(Gap {
        channel: channel.kind(),
        symbol: instruments.symbol(channel.instrument()),
        from,
        to: Some(to),
        reason: GapReason::Retention,
    });
    message.encode(subscriber.encoding, &mut subscriber.control);
}
