//! Several lines of MoldUDP64 into one: every message once, in order, or said to be lost.
//!
//! Pure, and owned by the thread that reads the lines; time comes from its caller. What comes early waits in a window for
//! what is missing; a hole is asked for again after a moment, in which another line may fill it, and given up when nothing
//! of it came for long. Lines are equals: whichever is first counts.
//!
//! What is far from all that came before, another session or numbers beyond the window, is held until a second datagram
//! agrees: one that strayed here or is damaged must not make all true ones look old.
//!
//! Deliberately absent: sockets, and telling a true datagram from a forged one. Whoever can send to the group can
//! make messages up, and can only be kept out by the network.

use std::collections::BTreeMap;

use super::mold::{Downstream, HEADER_BYTES, Session, request};

/// Where the first session begins for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At its message 1: what was sent before is asked for.
    Beginning,
    /// At the first message that comes.
    Now,
}

/// How patient the merge is, and what it keeps. Times are ns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MergeLimits {
    pub start: Start,
    /// How old a hole is when it is asked for. Between 0 and `give_up_ns`.
    pub request_after_ns: i64,
    /// How long an answer may take before the hole is asked for again; above 0.
    pub request_again_ns: i64,
    /// How long nothing of a hole may come before it counts as lost; above 0.
    pub give_up_ns: i64,
    /// Most messages that wait; beyond it the first hole counts as lost at once. Above 0. Numbers that are further ahead
    /// than this are held until a second datagram agrees.
    pub window_messages: usize,
    /// Most bytes of messages that wait, likewise.
    pub window_bytes: usize,
}

impl MergeLimits {
    /// Another line is some ms behind at most; an answer takes as long. Half a million messages of some 40 bytes are
    /// about a second of the busiest part of a day, and with the tree around them 50 MB.
    pub const DEFAULT: MergeLimits = MergeLimits {
        start: Start::Beginning,
        request_after_ns: 5_000_000,
        request_again_ns: 50_000_000,
        give_up_ns: 2_000_000_000,
        window_messages: 500_000,
        window_bytes: 32 << 20,
    };
}

/// What comes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery<'a> {
    /// The messages that follow are those of this session.
    Session(&'a Session),
    /// The message of this number.
    Message { sequence: u64, message: &'a [u8] },
    /// The messages from this number on will not come, and whatever is known from them is incomplete.
    Lost { sequence: u64, count: u64 },
    /// The session is over: all of it was delivered, or said to be lost.
    End,
}

/// What came and what became of it, in messages unless said otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MergeCounts {
    pub delivered: u64,
    /// Seen before, mostly by another line.
    pub duplicates: u64,
    /// Came before the ones in front of them.
    pub early: u64,
    pub lost: u64,
    /// Requests made.
    pub requests: u64,
    /// Datagrams of a session that is over, and those that were held and that nothing agreed with.
    pub stale_datagrams: u64,
}

/// A datagram that is far from all that came before.
#[derive(Debug)]
struct Held {
    session: Session,
    sequence: u64,
    next_sequence: u64,
    /// Of one datagram: 64 KiB at most.
    messages: Vec<(u64, Box<[u8]>)>,
}

/// The merge of the lines of one feed.
#[derive(Debug)]
pub struct MoldMerge {
    limits: MergeLimits,
    session: Option<Session>,
    /// The session before: what comes late of it does not bring it back.
    previous: Option<Session>,
    /// The number of the message that is delivered next.
    next: u64,
    /// All messages below this number have been sent. `next <= sent`.
    sent: u64,
    /// Messages that wait, all above `next`.
    waiting: BTreeMap<u64, Box<[u8]>>,
    waiting_bytes: usize,
    /// The session has this many messages, and no more.
    end: Option<u64>,
    is_ended: bool,
    /// Since when the first hole has been as it is.
    hole_since: Option<i64>,
    requested_at: Option<i64>,
    held: Option<Held>,
    counts: MergeCounts,
}

impl MoldMerge {
    pub fn new(limits: MergeLimits) -> MoldMerge {
        MoldMerge {
            limits,
            session: None,
            previous: None,
            next: 1,
            sent: 1,
            waiting: BTreeMap::new(),
            waiting_bytes: 0,
            end: None,
            is_ended: false,
            hole_since: None,
            requested_at: None,
            held: None,
            counts: MergeCounts::default(),
        }
    }

    pub fn counts(&self) -> MergeCounts {
        self.counts
    }

    /// Whether messages are known to be missing.
    pub fn has_hole(&self) -> bool {
        self.next < self.sent
    }

    /// Takes in a datagram of any line, or the answer to a request, at `now` (monotonic, ns).
    pub fn handle(&mut self, datagram: Downstream<'_>, now: i64, deliver: &mut dyn FnMut(Delivery<'_>)) {
        if self.previous.as_ref() == Some(datagram.session()) {
            self.counts.stale_datagrams += 1;
            return;
        }
        let held = match self.is_far(datagram) {
            true if self.is_agreed_with(datagram) => self.held.take(),
            true => return self.hold(datagram),
            false => None,
        };
        if self.session.as_ref() != Some(datagram.session()) {
            self.begin_session(datagram, deliver);
        }
        let before = self.next;
        for (sequence, message) in held.into_iter().flat_map(|held| held.messages) {
            self.take_in(sequence, &message, deliver);
        }
        for (sequence, message) in datagram.messages() {
            self.take_in(sequence, message, deliver);
        }
        if self.end.is_none() {
            self.sent = self.sent.max(datagram.next_sequence());
        }
        if let Downstream::EndOfSession { sequence, .. } = datagram
            && sequence == self.sent
        {
            // No end is before what was sent already, and none is taken back.
            self.end = Some(sequence);
        }
        self.look(before, now, deliver);
    }

    /// Lets time pass: gives up a hole for which it is too late. To be called when [`Self::poll_timeout`] says so.
    pub fn handle_timeout(&mut self, now: i64, deliver: &mut dyn FnMut(Delivery<'_>)) {
        let give_up = self.limits.give_up_ns;
        if self.hole_since.is_some_and(|since| now.saturating_sub(since) >= give_up) {
            let before = self.next;
            self.lose_hole(deliver);
            self.look(before, now, deliver);
        }
    }

    /// The request that is due, if one is: to be sent to a re-request server. `count_max` is the most that it is asked for
    /// at once.
    pub fn poll_request(&mut self, now: i64, count_max: u16) -> Option<[u8; HEADER_BYTES]> {
        let session = self.session?;
        if self.request_due()? > now {
            return None;
        }
        let hole = self.hole_end() - self.next;
        // The two highest counts are not for requests: the highest marks the end of a session.
        let count = u16::try_from(hole).unwrap_or(u16::MAX).min(count_max).min(u16::MAX - 1);
        self.requested_at = Some(now);
        self.counts.requests += 1;
        Some(request(&session, self.next, count))
    }

    /// When something is due at the latest.
    pub fn poll_timeout(&self) -> Option<i64> {
        let give_up = self.hole_since?.saturating_add(self.limits.give_up_ns);
        Some(self.request_due().map_or(give_up, |due| due.min(give_up)))
    }

    fn request_due(&self) -> Option<i64> {
        let first = self.hole_since?.saturating_add(self.limits.request_after_ns);
        Some(match self.requested_at {
            Some(at) => at.saturating_add(self.limits.request_again_ns),
            None => first,
        })
    }

    /// Whether the datagram is of a session that nobody expects, or of numbers beyond the window.
    fn is_far(&self, datagram: Downstream<'_>) -> bool {
        match &self.session {
            None => false,
            Some(session) if session == datagram.session() => datagram.sequence() > self.beyond(self.sent),
            Some(_) => !self.is_ended,
        }
    }

    /// The number of a window's messages after `sequence`.
    fn beyond(&self, sequence: u64) -> u64 {
        sequence.saturating_add(self.limits.window_messages as u64)
    }

    /// Whether it is like the one that is held, or goes on where that ends.
    fn is_agreed_with(&self, datagram: Downstream<'_>) -> bool {
        self.held.as_ref().is_some_and(|held| {
            let reach = held.sequence..=self.beyond(held.next_sequence);
            held.session == *datagram.session() && reach.contains(&datagram.sequence())
        })
    }

    fn hold(&mut self, datagram: Downstream<'_>) {
        let (session, sequence, next_sequence) = (*datagram.session(), datagram.sequence(), datagram.next_sequence());
        let messages = datagram.messages().map(|(sequence, message)| (sequence, message.into())).collect();
        if self.held.replace(Held { session, sequence, next_sequence, messages }).is_some() {
            self.counts.stale_datagrams += 1;
        }
    }

    fn begin_session(&mut self, datagram: Downstream<'_>, deliver: &mut dyn FnMut(Delivery<'_>)) {
        let is_first = self.session.is_none();
        // What is missing of the session before will not come any more.
        while self.has_hole() {
            self.lose_hole(deliver);
        }
        self.end_session(deliver);
        self.previous = self.session.replace(*datagram.session());
        self.next = if is_first && self.limits.start == Start::Now { datagram.sequence() } else { 1 };
        self.sent = self.next;
        (self.end, self.is_ended) = (None, false);
        (self.hole_since, self.requested_at) = (None, None);
        deliver(Delivery::Session(datagram.session()));
    }

    fn take_in(&mut self, sequence: u64, message: &[u8], deliver: &mut dyn FnMut(Delivery<'_>)) {
        if self.end.is_some_and(|end| sequence >= end) || sequence < self.next {
            self.counts.duplicates += 1;
            return;
        }
        if sequence == self.next {
            self.deliver(sequence, message, deliver);
            return self.deliver_waiting(deliver);
        }
        if self.waiting.contains_key(&sequence) {
            self.counts.duplicates += 1;
            return;
        }
        while self.next < sequence && !self.has_room(message.len()) {
            if self.waiting.is_empty() {
                // A window that is smaller than one message.
                self.lose_until(sequence, deliver);
            } else {
                self.lose_hole(deliver);
            }
        }
        if sequence == self.next {
            self.deliver(sequence, message, deliver);
            self.deliver_waiting(deliver);
        } else if sequence > self.next {
            self.counts.early += 1;
            self.waiting_bytes += message.len();
            self.waiting.insert(sequence, message.into());
            self.sent = self.sent.max(sequence + 1);
        } else {
            self.counts.duplicates += 1;
        }
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.waiting.len() < self.limits.window_messages && self.waiting_bytes + bytes <= self.limits.window_bytes
    }

    fn deliver(&mut self, sequence: u64, message: &[u8], deliver: &mut dyn FnMut(Delivery<'_>)) {
        debug_assert_eq!(sequence, self.next);
        self.next += 1;
        self.sent = self.sent.max(self.next);
        self.counts.delivered += 1;
        deliver(Delivery::Message { sequence, message });
    }

    fn deliver_waiting(&mut self, deliver: &mut dyn FnMut(Delivery<'_>)) {
        while let Some(entry) = self.waiting.first_entry().filter(|entry| *entry.key() == self.next) {
            let (sequence, message) = entry.remove_entry();
            self.waiting_bytes -= message.len();
            self.deliver(sequence, &message, deliver);
        }
    }

    /// The number of the first message behind the first hole.
    fn hole_end(&self) -> u64 {
        self.waiting.first_key_value().map_or(self.sent, |(sequence, _)| *sequence)
    }

    fn lose_hole(&mut self, deliver: &mut dyn FnMut(Delivery<'_>)) {
        self.lose_until(self.hole_end(), deliver);
    }

    fn lose_until(&mut self, end: u64, deliver: &mut dyn FnMut(Delivery<'_>)) {
        let count = end - self.next;
        deliver(Delivery::Lost { sequence: self.next, count });
        self.counts.lost = self.counts.lost.saturating_add(count);
        self.next = end;
        self.sent = self.sent.max(end);
        self.deliver_waiting(deliver);
    }

    /// Looks at what is missing now, when `before` was the next one before.
    fn look(&mut self, before: u64, now: i64, deliver: &mut dyn FnMut(Delivery<'_>)) {
        if !self.has_hole() {
            (self.hole_since, self.requested_at) = (None, None);
        } else if self.next != before || self.hole_since.is_none() {
            // It is a new hole, or a part of it came. A request that was answered may be followed by the next at once.
            let was_asked_for = self.requested_at.take().is_some();
            let head_start = if was_asked_for { self.limits.request_after_ns } else { 0 };
            self.hole_since = Some(now.saturating_sub(head_start));
        }
        if self.end.is_some_and(|end| self.next >= end) {
            self.end_session(deliver);
        }
    }

    fn end_session(&mut self, deliver: &mut dyn FnMut(Delivery<'_>)) {
        if self.session.is_some() && !std::mem::replace(&mut self.is_ended, true) {
            deliver(Delivery::End);
        }
    }
}

#[cfg(test)]
mod tests;
