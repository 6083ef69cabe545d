//! A FIX 4.4 session as the side that begins it: sign-in, numbers, heartbeats, test requests, what is sent again, and when
//! it is given up.
//!
//! Pure: one [`Session`] for each connection, driven by the source's thread. Messages and the time go in, [`Act`]s come
//! out. Deliberately absent: sockets, the clock, the backoff between connections, what market data says, which the feed
//! has, and what is asked for, which is in [`Subscriptions`].
//!
//! A hole in the venue's numbers has two answers. What is missing is asked for (35=2), as the standard wants it; of what
//! comes then, trades are taken, since nobody else can tell them. Prices are not: they are older than those that came
//! meanwhile, and waiting for them would hold up every price. So the messages behind a hole are taken at once, and all
//! prices are asked for anew, whose snapshots stand for whatever was missed ([`Session::handle_resync`]).
//!
//! What we are asked to send again is filled by a gap (35=4, 123=Y): heartbeats of then mean nothing, and requests for
//! market data that did not arrive are made anew, under new ids.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::message::{self, Fields, Header};
use super::numbers::{Incoming, Numbers, Place};
use super::settings::{FixDialect, FixNumbers, FixQuotes};
use super::signature::SigningKey;
use super::subscriptions::{Request, Subscriptions};
use crate::decode::event::ControlKind;
use crate::decode::fix_session::SessionMessage;
use crate::feed::{Outcome, Resync};
use crate::source::{FeedState, Secret, Timings};

/// The most messages that are asked for again: older trades are worth less than the time that they take.
const RESEND_MAX: u64 = 10_000;

/// How long the venue may take to say goodbye too.
const LOGOUT_WAIT: Duration = Duration::from_secs(1);

/// Longest interval of heartbeats that a venue may put in place of ours.
const HEARTBEAT_MAX: u64 = 300;

/// Who we are, and what is asked for: the same for all sessions of a source.
pub(super) struct Plan {
    pub(super) sender: String,
    pub(super) target: String,
    pub(super) dialect: FixDialect,
    pub(super) username: Option<Secret>,
    pub(super) credential: Credential,
    /// Whole seconds.
    pub(super) heartbeat: Duration,
    pub(super) numbering: FixNumbers,
    pub(super) quotes: FixQuotes,
    pub(super) requests: Vec<Request>,
}

/// What shows that we are who we say.
pub(super) enum Credential {
    None,
    Password(Secret),
    Signature(SigningKey),
}

/// What is to be done now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Act {
    Send(Vec<u8>),
    /// Give the connection up.
    End(Ending),
    /// Nothing before then, unless something comes.
    Wait(Instant),
}

/// What of a message is for the feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taking {
    All,
    /// It was missed and is sent again: all but the prices, for which it is too late.
    AllButPrices,
    /// Nothing: it came before.
    Known,
    /// Nothing: it is no message of this session.
    Nothing,
}

/// Why a session is given up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Ending {
    #[error("the sign-in was not answered within {0:?}")]
    SignInUnanswered(Duration),
    #[error("what comes is no FIX 4.4, and the sign-in was not answered within {0:?}")]
    NoFix(Duration),
    #[error("the venue refuses to sign us in: `{text}`")]
    Refused { text: String },
    #[error("the venue refuses all that we ask for: `{text}`")]
    RequestsRefused { text: String },
    #[error("the venue says that we ask too much")]
    Throttled,
    #[error("the venue ended the session: `{text}`")]
    LoggedOut { text: String },
    #[error("the venue is about to close the connection")]
    Closing,
    #[error("the venue counts from 1 again")]
    NumbersReset,
    #[error("silent for {0:?}, our test request included")]
    Silent(Duration),
    #[error("a message has the number {found}, and {expected} is the next")]
    NumberTooLow { expected: u64, found: u64 },
    #[error("a message is from `{sender}` to `{target}`, who are not on this line")]
    OtherParties { sender: String, target: String },
    #[error("too many holes in the numbers of messages")]
    Holes,
    #[error("we end it")]
    Stopped,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    SigningIn,
    SignedIn,
    /// We said goodbye, and the venue is to say it too.
    Leaving,
}

/// A message of ours that is to go, but for what is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Saying {
    Logon,
    /// With the id of the test request that it answers.
    Heartbeat(Option<String>),
    TestRequest,
    ResendRequest(RangeInclusive<u64>),
    /// In place of the messages from the first number up to the one before the second.
    GapFill(u64, u64),
    Logout(&'static str),
}

/// The session on one connection.
pub(super) struct Session {
    plan: Arc<Plan>,
    timings: Timings,
    phase: Phase,
    /// When the phase began.
    since: Instant,
    /// The number of our next message.
    next: u64,
    incoming: Incoming,
    heartbeat: Duration,
    outbox: VecDeque<Saying>,
    subscriptions: Subscriptions,
    /// When something was asked for again last, and the number of that request.
    missed_at: Instant,
    resend_request: Option<u64>,
    /// When we said something last, and when the venue did.
    latest_said: Instant,
    latest: Instant,
    /// A test request is out.
    is_tested: bool,
    tests: u64,
    is_stale: bool,
    /// Market data or a heartbeat came.
    is_heard: bool,
    came_garbage: bool,
    /// What the venue said last when it refused something.
    refusal: String,
    ending: Option<Ending>,
}

impl Session {
    /// A connection stands, and nothing was said. `numbers` are those with which the connection before ended.
    pub(super) fn new(plan: Arc<Plan>, timings: Timings, numbers: Numbers, now: Instant) -> Session {
        let numbers = match plan.numbering {
            FixNumbers::Anew => Numbers::FIRST,
            FixNumbers::Continued => numbers,
        };
        Session {
            timings,
            phase: Phase::SigningIn,
            since: now,
            next: numbers.next,
            incoming: Incoming::new(numbers.expected),
            heartbeat: plan.heartbeat,
            outbox: VecDeque::from([Saying::Logon]),
            subscriptions: Subscriptions::new(plan.dialect, plan.quotes, plan.requests.clone(), now),
            missed_at: now,
            resend_request: None,
            latest_said: now,
            latest: now,
            is_tested: false,
            tests: 0,
            is_stale: false,
            is_heard: false,
            came_garbage: false,
            refusal: String::new(),
            ending: None,
            plan,
        }
    }

    /// With what numbers the next connection goes on, where it does.
    pub(super) fn numbers(&self) -> Numbers {
        match self.ending {
            // Either side has forgotten, as venues do at the end of their day.
            Some(Ending::NumberTooLow { .. } | Ending::NumbersReset) => Numbers::FIRST,
            _ => Numbers { next: self.next, expected: self.incoming.expected() },
        }
    }

    pub(super) fn is_signed_in(&self) -> bool {
        self.phase == Phase::SignedIn
    }

    /// Takes in a whole message of the venue.
    pub(super) fn handle(&mut self, message: &SessionMessage<'_>, now: Instant) -> Taking {
        if message.sender != self.plan.target.as_bytes() || message.target != self.plan.sender.as_bytes() {
            let (sender, target) = (shown(message.sender), shown(message.target));
            self.leave(Ending::OtherParties { sender, target }, "CompID problem");
            return Taking::Nothing;
        }
        (self.latest, self.is_tested, self.is_stale) = (now, false, false);
        // What ends the session does so whatever its number is.
        if message.kind == b"5" {
            self.handle_logout(message);
            return Taking::All;
        }
        if self.phase == Phase::SigningIn {
            match message.kind {
                b"A" => self.handle_logon(message, now),
                b"3" => self.leave(Ending::Refused { text: shown(message.text) }, ""),
                // Nothing else may come before the answer.
                _ => return Taking::Nothing,
            }
        } else if message.kind == b"A" && message.resets_numbers {
            self.leave(Ending::NumbersReset, "");
            return Taking::Nothing;
        }
        let taking = self.count(message, now);
        if matches!(taking, Taking::All | Taking::AllButPrices) {
            self.handle_content(message, now);
        }
        taking
    }

    /// Bytes came that are no message. FIX has them ignored: a number that is missing then shows.
    pub(super) fn handle_garbage(&mut self) {
        self.came_garbage = true;
    }

    /// The feed took in a message, with this outcome.
    pub(super) fn handle_outcome(&mut self, outcome: Outcome) {
        self.is_heard |= outcome.is_alive && self.phase == Phase::SignedIn;
        let ending = match outcome.control {
            Some(ControlKind::Throttled) => Ending::Throttled,
            Some(ControlKind::AuthRefused) => Ending::Refused { text: self.refusal.clone() },
            Some(ControlKind::Closing) => Ending::Closing,
            _ => return,
        };
        match (&self.ending, &ending) {
            // It is why the venue refuses or ends the session.
            (Some(_), Ending::Throttled) => self.ending = Some(ending),
            (Some(_), _) => {}
            (None, _) => self.leave(ending, ""),
        }
    }

    /// The feed asks for this.
    pub(super) fn handle_resync(&mut self, resync: &Resync, now: Instant) {
        match resync {
            Resync::Line => self.subscriptions.renew_all(now),
            Resync::Book(name) => self.subscriptions.renew(name, now),
        }
    }

    /// The source is to end.
    pub(super) fn stop(&mut self, now: Instant) {
        let is_known = self.phase == Phase::SignedIn;
        self.leave(Ending::Stopped, "");
        if is_known {
            (self.phase, self.since) = (Phase::Leaving, now);
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

    /// What is to be done now; `wall_ns` is the time that our message bears, Unix ns. To be called again, once it is done,
    /// until it is to wait.
    pub(super) fn poll(&mut self, now: Instant, wall_ns: i64) -> Act {
        if self.ending.is_none() {
            self.look_at_time(now);
        }
        if let Some(saying) = self.outbox.pop_front() {
            return Act::Send(self.say(&saying, now, wall_ns));
        }
        if let Some(ending) = &self.ending {
            let goodbye = self.since + LOGOUT_WAIT;
            if self.phase == Phase::Leaving && now < goodbye {
                return Act::Wait(goodbye);
            }
            return Act::End(ending.clone());
        }
        if self.phase == Phase::SignedIn
            && let Some(fields) = self.subscriptions.poll(self.next, now)
        {
            return Act::Send(self.send("V", None, |_| fields, now, wall_ns));
        }
        Act::Wait(self.next_at().max(now))
    }

    /// Gives the session up, for this reason unless there is one already, and says goodbye with these words.
    fn leave(&mut self, ending: Ending, words: &'static str) {
        if self.ending.is_none() {
            self.ending = Some(ending);
            self.outbox.retain(|saying| *saying != Saying::Logon);
            self.outbox.push_back(Saying::Logout(words));
        }
    }

    fn handle_logout(&mut self, message: &SessionMessage<'_>) {
        let text = shown(message.text);
        match self.phase {
            // It is the answer to ours.
            Phase::Leaving => self.phase = Phase::SignedIn,
            Phase::SigningIn => self.leave(Ending::Refused { text }, ""),
            Phase::SignedIn => self.leave(Ending::LoggedOut { text }, ""),
        }
    }

    fn handle_logon(&mut self, message: &SessionMessage<'_>, now: Instant) {
        if self.plan.numbering == FixNumbers::Anew || message.resets_numbers {
            // What it counted before is nothing that we miss.
            self.incoming = Incoming::new(message.number);
        }
        if let Some(seconds @ 1..=HEARTBEAT_MAX) = message.heartbeat {
            self.heartbeat = Duration::from_secs(seconds);
            let Timings { stale, silence, .. } = Timings::of_heartbeat(self.heartbeat);
            if self.heartbeat > self.plan.heartbeat {
                self.timings.stale = stale.max(self.timings.stale);
                self.timings.silence = silence.max(self.timings.silence);
            }
        }
        (self.phase, self.since) = (Phase::SignedIn, now);
        self.subscriptions.start();
    }

    /// Holds the number of a message against those before it.
    fn count(&mut self, message: &SessionMessage<'_>, now: Instant) -> Taking {
        let expected = self.incoming.expected();
        match self.incoming.place(message) {
            Place::Next => Taking::All,
            Place::BehindHole(hole) => {
                self.miss(hole, now);
                Taking::All
            }
            Place::InHole => Taking::AllButPrices,
            Place::Known => Taking::Known,
            Place::TooLow => {
                self.leave(Ending::NumberTooLow { expected, found: message.number }, "MsgSeqNum too low");
                Taking::Nothing
            }
        }
    }

    /// Has the messages of these numbers sent again, unless they are too many.
    fn miss(&mut self, hole: RangeInclusive<u64>, now: Instant) {
        if hole.end() - hole.start() >= RESEND_MAX {
            return;
        }
        if !self.incoming.wait_for(hole.clone()) {
            return self.leave(Ending::Holes, "too many gaps");
        }
        self.missed_at = now;
        self.outbox.push_back(Saying::ResendRequest(hole));
    }

    fn handle_content(&mut self, message: &SessionMessage<'_>, now: Instant) {
        match message.kind {
            b"1" => {
                let id = message.test_request.map(|id| String::from_utf8_lossy(id).into_owned());
                self.outbox.push_back(Saying::Heartbeat(id));
            }
            b"2" => self.fill_gap(message, now),
            b"3" if message.refused_kind == b"2" || self.resend_request == message.refused_number => {
                // It sends nothing again.
                self.incoming.give_up();
            }
            b"3" | b"j" | b"Y" => {
                self.refusal = shown(message.text);
                self.subscriptions.handle_refusal(message);
            }
            _ => {}
        }
        if let Some(text) = self.subscriptions.refusal() {
            let text = shown(text);
            self.leave(Ending::RequestsRefused { text }, "");
        }
    }

    /// The venue wants messages of ours again.
    fn fill_gap(&mut self, message: &SessionMessage<'_>, now: Instant) {
        let (Some(begin), Some(end)) = (message.begin, message.end) else { return };
        let last = self.next - 1;
        let end = if end == 0 { last } else { end.min(last) };
        let begin = begin.max(1);
        // Numbers that were not used yet cannot be missing.
        if begin <= end {
            self.outbox.push_back(Saying::GapFill(begin, end + 1));
            self.subscriptions.handle_lost(&(begin..=end), now);
        }
    }

    /// Whether there is anything to be said or given up because of the time.
    fn look_at_time(&mut self, now: Instant) {
        let Timings { answer, stale, silence, .. } = self.timings;
        if self.phase == Phase::SigningIn {
            if now.saturating_duration_since(self.since) >= answer {
                let ending = if self.came_garbage { Ending::NoFix(answer) } else { Ending::SignInUnanswered(answer) };
                self.ending = Some(ending);
            }
            return;
        }
        let silent = now.saturating_duration_since(self.latest);
        if silent >= silence {
            self.ending = Some(Ending::Silent(silent));
            return;
        }
        self.is_stale = silent >= stale;
        if self.is_stale && !std::mem::replace(&mut self.is_tested, true) {
            self.outbox.push_back(Saying::TestRequest);
        }
        if self.incoming.waits() && now.saturating_duration_since(self.missed_at) >= answer {
            self.incoming.give_up();
        }
        if self.outbox.is_empty() && now.saturating_duration_since(self.latest_said) >= self.heartbeat {
            self.outbox.push_back(Saying::Heartbeat(None));
        }
    }

    /// When the next thing is due.
    fn next_at(&self) -> Instant {
        let Timings { answer, stale, silence, .. } = self.timings;
        if self.phase == Phase::SigningIn {
            return self.since + answer;
        }
        let silent = self.latest + if self.is_stale { silence } else { stale };
        let resent = self.incoming.waits().then_some(self.missed_at + answer);
        let heartbeat = self.latest_said + self.heartbeat;
        [Some(heartbeat), resent, self.subscriptions.next_at()].into_iter().flatten().fold(silent, Instant::min)
    }

    fn say(&mut self, saying: &Saying, now: Instant, wall_ns: i64) -> Vec<u8> {
        let none = Fields::default();
        let (kind, in_place_of, fields) = match saying {
            Saying::Logon => {
                let plan = Arc::clone(&self.plan);
                return self.send("A", None, |header| logon(&plan, header), now, wall_ns);
            }
            Saying::Heartbeat(id) => ("0", None, none.with_some(112, id.as_ref())),
            Saying::TestRequest => {
                self.tests += 1;
                ("1", None, none.with(112, self.tests))
            }
            Saying::ResendRequest(numbers) => {
                self.resend_request = Some(self.next);
                ("2", None, none.with(7, numbers.start()).with(16, numbers.end()))
            }
            Saying::GapFill(first, next) => ("4", Some(*first), none.with(123, 'Y').with(36, next)),
            Saying::Logout(words) => ("5", None, none.with_some(58, Some(words).filter(|words| !words.is_empty()))),
        };
        self.send(kind, in_place_of, |_| fields, now, wall_ns)
    }

    /// The message, under the next number or in place of one that was sent before.
    fn send(
        &mut self,
        kind: &str,
        in_place_of: Option<u64>,
        fields: impl FnOnce(&Header<'_>) -> Fields,
        now: Instant,
        wall_ns: i64,
    ) -> Vec<u8> {
        let number = in_place_of.unwrap_or(self.next);
        if in_place_of.is_none() {
            self.next += 1;
        }
        self.latest_said = now;
        let header = Header {
            kind,
            sender: &self.plan.sender,
            target: &self.plan.target,
            number,
            is_resent: in_place_of.is_some(),
            sent: &message::sending_time(wall_ns),
        };
        message::message(&header, &fields(&header))
    }
}

/// What the sign-in says behind its header.
fn logon(plan: &Plan, header: &Header<'_>) -> Fields {
    let Plan { dialect, username, credential, heartbeat, numbering, .. } = plan;
    let fields = Fields::default()
        .with(98, 0)
        .with(108, heartbeat.as_secs())
        .with_some(141, (*numbering == FixNumbers::Anew).then_some('Y'))
        .with_some(553, username.as_ref().map(Secret::reveal));
    let fields = match credential {
        Credential::None => fields,
        Credential::Password(password) => fields.with(554, password.reveal()),
        Credential::Signature(key) => {
            let signature = key.sign(header);
            fields.with(95, signature.len()).with(96, signature)
        }
    };
    match dialect {
        FixDialect::Standard => fields,
        // MessageHandling: in the order in which we say it.
        FixDialect::Binance => fields.with(25035, 2),
    }
}

/// The beginning of a text of the venue's, safe to print.
fn shown(text: &[u8]) -> String {
    crate::source::http_stream::shown(text)
}

#[cfg(test)]
mod tests;
