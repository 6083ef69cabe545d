//! What is said to a venue, and when: sign-in, subscriptions within the venue's pace, pings, books had anew; and when a
//! connection is to be given up.
//!
//! Pure: one [`Dialogue`] for each connection, driven by [`super::live`], the source's thread. Outcomes of frames and the
//! time go in, [`Act`]s come out. Deliberately absent: sockets, the clock, the backoff between connections, and the
//! meaning of frames, which the feed has.
//!
//! ```text
//! Opening -(Connected)-> SigningIn -(Authenticated)-> Subscribing -(all said)-> Listening
//! ```
//! The first two are left out where the venue has no such step. Each step that waits for the venue has a deadline; from
//! the first subscription on, silence is what ends a connection.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::FeedState;
use super::pace::{Bucket, Pace, Renewals};
use super::script::{Answers, Opening, Renewal, Request, Script, SignOfLife};
use super::timings::Timings;
use crate::decode::event::ControlKind;
use crate::feed::{Outcome, Resync};

/// What is to be done now.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Act {
    Send(Request),
    /// A WebSocket ping.
    Ping,
    /// Ask for the book of the product of this name over HTTP, and tell how that went.
    Fetch(Box<str>),
    /// Give the connection up.
    End(Ending),
    /// Nothing before then, unless something comes.
    Wait(Instant),
}

/// Why a connection is given up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Ending {
    #[error("the venue did not greet us within {0:?}")]
    NotGreeted(Duration),
    #[error("the sign-in was not answered within {0:?}")]
    SignInUnanswered(Duration),
    #[error("no subscription was answered within {0:?}")]
    SubscriptionUnanswered(Duration),
    #[error("the venue refuses our credentials")]
    Refused,
    #[error("the venue says that we ask too much")]
    Throttled,
    #[error("the venue is about to close the connection")]
    Closing,
    #[error("the connection is as old as the venue lets it become")]
    Aged,
    #[error("silent for {0:?}")]
    Silent(Duration),
    #[error("a message of the connection is missing")]
    LineGap,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
enum Phase {
    Opening,
    SigningIn,
    Subscribing,
    Listening,
}

/// The talk on one connection.
pub(super) struct Dialogue {
    script: Arc<Script>,
    timings: Timings,
    phase: Phase,
    /// When the phase began.
    since: Instant,
    /// What is to be said, in this order.
    outbox: VecDeque<Request>,
    bucket: Bucket,
    /// The last sign of life.
    latest: Instant,
    next_ping: Option<Instant>,
    ends_at: Option<Instant>,
    /// Whether the venue answered a subscription, be it by data.
    is_heard: bool,
    is_stale: bool,
    ending: Option<Ending>,
    renewals: Renewals<Box<str>>,
    /// A book is on its way.
    is_fetching: bool,
}

impl Dialogue {
    /// A connection stands, and nothing was said.
    pub(super) fn new(script: Arc<Script>, timings: Timings, now: Instant) -> Dialogue {
        let mut dialogue = Dialogue {
            timings,
            phase: Phase::Opening,
            since: now,
            outbox: VecDeque::new(),
            bucket: Bucket::new(script.pace, now),
            latest: now,
            next_ping: script.ping.map(|every| now + every),
            ends_at: script.lifetime.map(|lifetime| now + lifetime),
            is_heard: false,
            is_stale: false,
            ending: None,
            renewals: Renewals::new(renewal_pace(&script.renewal), now),
            is_fetching: false,
            script,
        };
        if dialogue.script.opening == Opening::Us {
            dialogue.sign_in(now);
        }
        dialogue
    }

    /// The feed took in a frame, with this outcome.
    pub(super) fn handle_frame(&mut self, outcome: Outcome, now: Instant) {
        if outcome.is_alive {
            self.is_heard = true;
            self.live(now);
        } else if outcome.control != Some(ControlKind::Error) {
            self.handle_traffic(now);
        }
        match outcome.control {
            Some(ControlKind::Connected) if self.phase == Phase::Opening => self.sign_in(now),
            Some(ControlKind::Authenticated) if self.phase == Phase::SigningIn => self.subscribe(now),
            Some(ControlKind::Subscribed) => self.is_heard = true,
            Some(ControlKind::AuthRefused) => self.end(Ending::Refused),
            Some(ControlKind::Throttled) => self.end(Ending::Throttled),
            Some(ControlKind::Closing) => self.end(Ending::Closing),
            // What was refused is counted and shown by the feed; the rest of what we subscribed to may well come.
            Some(ControlKind::Connected | ControlKind::Authenticated | ControlKind::Error | ControlKind::Note)
            | None => {}
        }
    }

    /// Something came that is no frame of the feed, such as the answer to a ping.
    pub(super) fn handle_traffic(&mut self, now: Instant) {
        if self.script.life == SignOfLife::Traffic {
            if self.script.answers == Answers::Silent && self.phase == Phase::Listening {
                self.is_heard = true;
            }
            self.live(now);
        }
    }

    /// The feed asks for this.
    pub(super) fn handle_resync(&mut self, resync: Resync, now: Instant) {
        match (resync, &self.script.renewal) {
            (Resync::Line, _) | (Resync::Book(_), Renewal::Line) => self.end(Ending::LineGap),
            (Resync::Book(name), _) => self.renewals.ask(name, now),
        }
    }

    /// The book that was asked for came; whether it was of use, the feed tells.
    pub(super) fn handle_fetched(&mut self) {
        self.is_fetching = false;
    }

    /// The book of the product of this name did not come. It is asked for again, not before `retry_after`.
    pub(super) fn handle_fetch_failed(&mut self, name: Box<str>, retry_after: Option<Duration>, now: Instant) {
        self.is_fetching = false;
        self.renewals.ask(name, now);
        if let Some(wait) = retry_after {
            self.renewals.hold(now + wait);
        }
    }

    /// How the source is now; `None` where that is not settled yet.
    pub(super) fn state(&self) -> Option<FeedState> {
        match (self.is_heard, self.is_stale) {
            (false, _) => None,
            (true, false) => Some(FeedState::Up),
            (true, true) => Some(FeedState::Stale),
        }
    }

    /// What is to be done now. To be called again, once it is done, until it is to wait.
    pub(super) fn poll(&mut self, now: Instant) -> Act {
        if let Some(ending) = self.overdue(now) {
            return Act::End(self.ending.get_or_insert(ending).clone());
        }
        if self.phase >= Phase::Subscribing && self.next_ping.is_some_and(|at| at <= now) {
            self.next_ping = self.script.ping.map(|every| now + every);
            self.bucket.take(now);
            return Act::Ping;
        }
        if let Renewal::Requests(requests) = &self.script.renewal
            && self.outbox.is_empty()
            && let Some(name) = self.renewals.due(now)
        {
            self.outbox.extend(requests(&name));
        }
        if self.bucket.ready_at() <= now
            && let Some(request) = self.outbox.pop_front()
        {
            self.bucket.take(now);
            if self.outbox.is_empty() && self.phase == Phase::Subscribing {
                (self.phase, self.since) = (Phase::Listening, now);
                // What is subscribed last is not older than this.
                self.latest = now;
            }
            return Act::Send(request);
        }
        if matches!(self.script.renewal, Renewal::Fetch { .. })
            && !self.is_fetching
            && let Some(name) = self.renewals.due(now)
        {
            self.is_fetching = true;
            return Act::Fetch(name);
        }
        Act::Wait(self.next_at(now))
    }

    fn end(&mut self, ending: Ending) {
        self.ending.get_or_insert(ending);
    }

    fn live(&mut self, now: Instant) {
        self.latest = now;
        self.is_stale = false;
    }

    fn sign_in(&mut self, now: Instant) {
        match self.script.sign_in.clone() {
            Some(request) => {
                (self.phase, self.since) = (Phase::SigningIn, now);
                self.outbox.push_back(request);
            }
            None => self.subscribe(now),
        }
    }

    fn subscribe(&mut self, now: Instant) {
        (self.phase, self.since, self.latest) = (Phase::Subscribing, now, now);
        self.outbox.extend(self.script.subscribes.iter().cloned());
    }

    /// Why the connection is to be given up, if it is. Marks it as stale where it is only that.
    fn overdue(&mut self, now: Instant) -> Option<Ending> {
        if self.ending.is_some() {
            return self.ending.clone();
        }
        if self.ends_at.is_some_and(|at| at <= now) {
            return Some(Ending::Aged);
        }
        let Timings { answer, stale, silence, .. } = self.timings;
        let waited = now.saturating_duration_since(self.since);
        match self.phase {
            Phase::Opening => return (waited >= answer).then_some(Ending::NotGreeted(answer)),
            Phase::SigningIn => return (waited >= answer).then_some(Ending::SignInUnanswered(answer)),
            Phase::Listening if self.awaits_answer() && waited >= answer => {
                return Some(Ending::SubscriptionUnanswered(answer));
            }
            Phase::Subscribing | Phase::Listening => {}
        }
        let silent = now.saturating_duration_since(self.latest);
        self.is_stale = silent >= stale;
        (silent >= silence).then_some(Ending::Silent(silent))
    }

    fn awaits_answer(&self) -> bool {
        !self.is_heard && self.script.answers == Answers::Acknowledged
    }

    /// When the next thing is due.
    fn next_at(&self, now: Instant) -> Instant {
        let Timings { answer, stale, silence, .. } = self.timings;
        let mut next = match self.phase {
            Phase::Opening | Phase::SigningIn => self.since + answer,
            Phase::Subscribing | Phase::Listening if self.is_stale => self.latest + silence,
            Phase::Subscribing | Phase::Listening => self.latest + stale,
        };
        let mut sooner = |at: Instant| next = next.min(at);
        if self.phase == Phase::Listening && self.awaits_answer() {
            sooner(self.since + answer);
        }
        if self.phase >= Phase::Subscribing {
            self.next_ping.into_iter().for_each(&mut sooner);
        }
        self.ends_at.into_iter().for_each(&mut sooner);
        if !self.outbox.is_empty() {
            sooner(self.bucket.ready_at());
        } else if !self.is_fetching
            && let Some(at) = self.renewals.next_at()
        {
            sooner(at);
        }
        next.max(now)
    }
}

/// At what pace books are had anew.
fn renewal_pace(renewal: &Renewal) -> Pace {
    match renewal {
        Renewal::Fetch { pace, .. } => *pace,
        // What is said has the pace of all that is said.
        Renewal::Line | Renewal::Requests(_) => Pace { burst: 1, every: Duration::ZERO },
    }
}

#[cfg(test)]
mod tests;
