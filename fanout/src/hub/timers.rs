//! Deadlines of the clients: heartbeats, paced messages, stalled sockets, and those of the sessions. Owned by
//! the shard's thread, as all of the hub; the time is the caller's.
//!
//! A client has at most two deadlines that count, the next heartbeat and the earliest of all others. Entries of
//! the wheel that have been overtaken are not taken out of it: they are passed over when they fire.

use protocol::Class;
use protocol::message::{Heartbeat, Position, ServerMessage};

use super::{Hub, HubConfig, SubscriberKey};
use crate::subscriber::{Subscription, Target};

/// Most channels whose last number a heartbeat lists.
pub(super) const HEARTBEAT_CHANNELS: usize = 64;

/// What a client's deadline brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// The deadline fired; the hub has done its part. The session may have one of its own.
    Fired(SubscriberKey),
    /// The client's socket has taken nothing for `stall_ms`.
    Stalled(SubscriberKey),
}

impl Hub {
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
    pub(super) fn arm_quiet(&mut self, key: SubscriberKey, deadline_ms: u64) {
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
                let (one, all) = match subscription.target {
                    Target::Channel(channel) => (Some(channel), None),
                    Target::All(kind, freshness) => (None, Some(self.channels.covered(kind, freshness, &instruments))),
                };
                one.into_iter().chain(all.into_iter().flatten())
            })
            .filter_map(|channel| Some((channel, self.channels.get(channel)?.seq)))
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
