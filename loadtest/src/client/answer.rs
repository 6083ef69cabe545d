//! What the server says apart from data, and what the client says next.

use std::time::Duration;

use protocol::{ChannelKind, Class};

use super::{Change, Client, Ending, FIRST_ID, Pending, Shared, Slot, Stage};
use crate::check::Sequence;
use crate::message::{ErrorMessage, Message, Subscription};
use crate::orders::Basket;
use crate::sample::FaultKind;
use crate::symbols::Key;

/// The errors that are about a part of a resumption only: the subscription stands.
const INVALID_SINCE: u16 = 422;

impl Client {
    pub(super) fn control(&mut self, message: Message, shared: &mut Shared) -> Result<(), Ending> {
        match message {
            Message::Connected if self.stage == Stage::SigningIn && Client::signs_in_by_message(shared) => {
                let mask = shared.random.mask();
                shared.requests.write_auth(self.number, shared.now, shared.encoding, mask, &mut shared.out);
            }
            Message::Authenticated { epoch, delayed_ms } if self.stage == Stage::SigningIn => {
                self.delayed_ms = delayed_ms;
                self.stage = Stage::Subscribing;
                self.subscribe(epoch, shared);
            }
            Message::Entitlement { delayed_ms, version } => self.told(delayed_ms, version, shared),
            Message::Subscription(subscription) => self.acknowledged(&subscription, shared),
            Message::Error(error) => return self.refused(error, shared),
            Message::Heartbeat { last } => {
                shared.tally.sample.counts.heartbeats += 1;
                for (kind, symbol, number) in last {
                    let Some(symbol) = shared.symbols.find(symbol.as_bytes()) else { continue };
                    if kind.class() == Class::Sequenced
                        && let Some(board) = shared.boards.get_mut(usize::from(self.board))
                    {
                        let key = Key::new(symbol, kind);
                        board.raise(key, number);
                        if shared.settling {
                            board.raise_target(key, number);
                        }
                    }
                }
            }
            Message::Gap { kind, symbol, from, to } => {
                let symbol = shared.symbols.learn(&symbol);
                self.announced(Key::new(symbol, kind), from, to, shared);
            }
            Message::Connected | Message::Authenticated { .. } | Message::Draining { .. } | Message::Other => {}
            // Data is read elsewhere.
            Message::Data(_) | Message::VenueGap { .. } => {}
        }
        Ok(())
    }

    /// Subscribes to everything after a sign-in, with `since` where the client was there before.
    fn subscribe(&mut self, epoch: u64, shared: &mut Shared) {
        let before = shared.boards.get(usize::from(self.board)).map_or(0, |board| board.epoch);
        let positions: Vec<(Key, u64)> = self
            .slots
            .iter()
            .filter(|slot| slot.key.kind().class() == Class::Sequenced)
            .filter_map(|slot| Some((slot.key, slot.sequence.last()?)))
            .collect();
        self.returned = !positions.is_empty();
        self.faults_at_return = self.faults;
        // Conflated channels are numbered by epoch too, and their latest value comes again.
        for slot in &mut self.slots {
            if slot.key.kind().class() == Class::Conflated {
                slot.sequence = Sequence::default();
            }
        }
        self.slots.retain(|slot| !slot.leaving);
        let since = self.returned.then_some((before, &positions[..]));
        let keys = self.slots.iter().map(|slot| slot.key);
        let mask = shared.random.mask();
        shared.requests.write_subscribe(FIRST_ID, keys, since, &shared.symbols, shared.encoding, mask, &mut shared.out);
        self.board = shared.board(epoch);
        self.next_id = FIRST_ID + 1;
        let intended_ns = self.intended_ns;
        self.pending = Some(Box::new(Pending { id: FIRST_ID, intended_ns, change: Change::All }));
    }

    /// The channel whose change comes next when subscriptions are changed for their own sake: one is given up where the
    /// client has as many as it began with, and another one taken then.
    pub fn next_change(&self, shared: &mut Shared) -> Option<Key> {
        let interest = &shared.assignment.interest;
        let begun_with = shared.requests.basket_len() * interest.channels.len();
        if self.slots.len() >= begun_with.max(1) {
            let at = shared.random.below(self.slots.len() as u64) as usize;
            return Some(self.slots.get(at)?.key);
        }
        let (symbols, channels) = (interest.symbols.len() as u64, interest.channels.len() as u64);
        // One in two is free at worst, unless the client has nearly everything.
        (0..64).find_map(|_| {
            let symbol = shared.random.below(symbols) as u32;
            let channel = shared.assignment.interest.channels.get(shared.random.below(channels) as usize)?;
            let key = Key::new(symbol, channel.kind());
            self.slot_at(key).is_err().then_some(key)
        })
    }

    /// Takes one more channel, or gives up one that it took: a command that was meant to go out at `intended_ns`.
    pub fn change_subscription(&mut self, key: Key, intended_ns: u64, shared: &mut Shared) {
        let id = self.next_id;
        self.next_id += 1;
        let change = match self.slot_at(key) {
            Ok(at) => {
                self.slots[at].leaving = true;
                Change::Remove(key)
            }
            Err(at) => {
                self.slots.insert(at, Slot { key, leaving: false, late: true, sequence: Sequence::default() });
                Change::Add(key)
            }
        };
        let mask = shared.random.mask();
        let adds = matches!(change, Change::Add(_));
        shared.requests.write_change(id, key, adds, &shared.symbols, shared.encoding, mask, &mut shared.out);
        self.pending = Some(Box::new(Pending { id, intended_ns, change }));
    }

    fn acknowledged(&mut self, subscription: &Subscription, shared: &mut Shared) {
        let Some(pending) = self.pending.take_if(|pending| pending.id == subscription.id) else {
            if self.take_acknowledgement_of_rights(subscription.id) {
                return self.check_subscription(subscription, shared);
            }
            return self.malformed(shared, || format!("an answer to nothing that was asked: id {}", subscription.id));
        };
        let took_ns = shared.now.mono_ns.saturating_sub(pending.intended_ns);
        match pending.change {
            Change::All => {
                self.stage = Stage::Live;
                self.live_ns = shared.now.wall_ns;
                shared.tally.sample.ready.record(took_ns);
            }
            Change::Add(_) => shared.tally.sample.command.record(took_ns),
            Change::Remove(key) => {
                shared.tally.sample.command.record(took_ns);
                if let Ok(at) = self.slot_at(key) {
                    self.slots.remove(at);
                }
            }
        }
        self.check_subscription(subscription, shared);
    }

    fn check_subscription(&mut self, subscription: &Subscription, shared: &mut Shared) {
        if !self.is_subscribed_to_exactly(subscription, shared) {
            self.malformed(shared, || {
                let counts = subscription.channels.each_ref().map(Vec::len);
                format!("the acknowledgement does not list what the client is subscribed to: {counts:?} symbols")
            });
        }
    }

    fn is_subscribed_to_exactly(&self, subscription: &Subscription, shared: &Shared) -> bool {
        let interest = &shared.assignment.interest;
        let wild = interest.basket == Basket::Wildcard;
        let mut listed = 0;
        for kind in ChannelKind::ALL {
            for symbol in &subscription.channels[kind as usize] {
                let asked = if wild {
                    symbol == "*" && interest.channels.iter().any(|channel| channel.kind() == kind)
                } else {
                    let symbol = shared.symbols.find(symbol.as_bytes());
                    symbol.is_some_and(|symbol| self.slot_at(Key::new(symbol, kind)).is_ok())
                };
                if !asked {
                    return false;
                }
                listed += 1;
            }
        }
        listed == if wild { interest.channels.len() } else { self.slots.len() }
    }

    fn refused(&mut self, error: ErrorMessage, shared: &mut Shared) -> Result<(), Ending> {
        *shared.tally.sample.counts.errors.entry(error.code).or_default() += 1;
        shared.tally.fault(FaultKind::Error, self.number, shared.now, || error.text.clone());
        let concerns_all = self.stage != Stage::Live || error.id == FIRST_ID;
        if concerns_all && error.code != INVALID_SINCE {
            // 429: more requests than the server takes for now.
            let retry_after = (error.code == 429).then_some(Duration::from_millis(500));
            return Err(Ending::Refused { text: error.text, retry_after });
        }
        // A command that was refused changed nothing.
        if let Some(pending) = self.pending.take_if(|pending| pending.id == error.id && error.code != INVALID_SINCE) {
            match pending.change {
                Change::Add(key) => {
                    if let Ok(at) = self.slot_at(key) {
                        self.slots.remove(at);
                    }
                }
                Change::Remove(key) => {
                    if let Ok(at) = self.slot_at(key) {
                        self.slots[at].leaving = false;
                    }
                }
                Change::All => {}
            }
        } else if self.pending.as_ref().is_some_and(|pending| pending.id == error.id) {
            // Only a position was refused: that channel goes on from now.
            for slot in &mut self.slots {
                if slot.key.kind().class() == Class::Sequenced {
                    slot.sequence = Sequence::default();
                    slot.late = true;
                }
            }
        }
        Ok(())
    }
}
