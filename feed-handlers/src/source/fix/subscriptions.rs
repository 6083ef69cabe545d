//! What is asked for on one session: requests for market data (35=V) in batches, at a pace, and anew where what came of
//! them cannot be believed.
//!
//! Pure, owned by the session. A request that is asked for anew is ended first (263=2), and then made under a new id, so
//! that its snapshots come again. One that is refused for an instrument that the venue does not know is made in halves, so
//! that one wrong name does not cost the others. Deliberately absent: what came of a request, which the feed knows.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use super::message::Fields;
use super::settings::{FixChannel, FixDialect, FixQuotes};
use crate::decode::fix_session::SessionMessage;
use crate::source::pace::{Bucket, Pace, Renewals};

/// No venue is known to take less. Binance takes 10,000 messages a minute.
const PACE: Pace = Pace::per_second(10, 10);

/// The requests of one session.
pub(super) struct Subscriptions {
    dialect: FixDialect,
    quotes: FixQuotes,
    requests: Vec<Request>,
    /// What is to be said, in this order.
    due: VecDeque<(usize, Wish)>,
    bucket: Bucket,
    /// By place in `requests`.
    renewals: Renewals<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Begin,
    End,
}

/// A part of what is asked for.
#[derive(Clone, Debug)]
pub(super) struct Request {
    channel: FixChannel,
    names: Vec<String>,
    /// How often it was made: part of its id.
    round: u32,
    /// The number of the message that made it last.
    number: Option<u64>,
    /// Why the venue does not take it.
    refusal: Option<Box<[u8]>>,
}

impl Request {
    fn new(channel: FixChannel, names: &[String]) -> Request {
        Request { channel, names: names.to_vec(), round: 0, number: None, refusal: None }
    }
}

/// The requests for these instruments, each channel by itself.
pub(super) fn requests(channels: &[FixChannel], names: &[String], names_per_request: usize) -> Vec<Request> {
    let batches = |channel: &FixChannel| {
        let channel = *channel;
        names.chunks(names_per_request).map(move |names| Request::new(channel, names))
    };
    channels.iter().flat_map(batches).collect()
}

impl Subscriptions {
    /// Nothing is asked for before [`Self::start`].
    pub(super) fn new(dialect: FixDialect, quotes: FixQuotes, requests: Vec<Request>, now: Instant) -> Subscriptions {
        let at_once = Pace { burst: 1, every: Duration::ZERO };
        Subscriptions {
            dialect,
            quotes,
            requests,
            due: VecDeque::new(),
            bucket: Bucket::new(PACE, now),
            renewals: Renewals::new(at_once, now),
        }
    }

    /// Asks for everything.
    pub(super) fn start(&mut self) {
        self.due = (0..self.requests.len()).map(|at| (at, Wish::Begin)).collect();
    }

    /// The fields of the request that is to go now as the message of this number, if one is.
    pub(super) fn poll(&mut self, number: u64, now: Instant) -> Option<Fields> {
        if self.due.is_empty()
            && let Some(at) = self.renewals.due(now)
        {
            self.due.extend([(at, Wish::End), (at, Wish::Begin)]);
        }
        if self.bucket.ready_at() > now {
            return None;
        }
        let (at, wish) = self.due.pop_front()?;
        self.bucket.take(now);
        let request = &mut self.requests[at];
        if wish == Wish::Begin {
            request.round += 1;
            request.number = Some(number);
        }
        Some(fields(request_id(at, request), request, wish, (self.dialect, self.quotes)))
    }

    /// When the next request is to go, if there is one.
    pub(super) fn next_at(&self) -> Option<Instant> {
        if self.due.is_empty() { self.renewals.next_at() } else { Some(self.bucket.ready_at()) }
    }

    /// The venue refuses a message of ours, which may be one of the requests.
    pub(super) fn handle_refusal(&mut self, message: &SessionMessage<'_>) {
        let is_meant = |at: usize, request: &Request| match message.kind {
            b"Y" => request_id(at, request).as_bytes() == message.request,
            _ => request.number.is_some() && request.number == message.refused_number,
        };
        let Some(at) = self.requests.iter().enumerate().position(|(at, request)| is_meant(at, request)) else { return };
        let request = &mut self.requests[at];
        request.number = None;
        if !is_about_symbol(message) || request.names.len() == 1 {
            request.refusal = Some(message.text.into());
            return;
        }
        let half = request.names.split_off(request.names.len() / 2);
        let half = Request::new(request.channel, &half);
        self.requests.push(half);
        self.due.extend([(at, Wish::Begin), (self.requests.len() - 1, Wish::Begin)]);
    }

    /// The venue has not got these messages of ours: what they asked for is asked for anew.
    pub(super) fn handle_lost(&mut self, numbers: &RangeInclusive<u64>, now: Instant) {
        for (at, request) in self.requests.iter().enumerate() {
            if request.number.is_some_and(|number| numbers.contains(&number)) {
                self.renewals.ask(at, now);
            }
        }
    }

    /// The prices of the instrument of this name are asked for anew.
    pub(super) fn renew(&mut self, name: &str, now: Instant) {
        for at in self.taken_quotes() {
            if self.requests[at].names.iter().any(|known| known == name) {
                self.renewals.ask(at, now);
            }
        }
    }

    /// All prices are asked for anew.
    pub(super) fn renew_all(&mut self, now: Instant) {
        for at in self.taken_quotes() {
            self.renewals.ask(at, now);
        }
    }

    /// The requests for prices that were made and not refused.
    fn taken_quotes(&self) -> Vec<usize> {
        let is_taken =
            |at: &usize| self.requests[*at].channel == FixChannel::Quotes && self.requests[*at].number.is_some();
        (0..self.requests.len()).filter(is_taken).collect()
    }

    /// Why nothing is to be expected: what the venue said when it refused the last of all requests.
    pub(super) fn refusal(&self) -> Option<&[u8]> {
        let is_hopeless = self.requests.iter().all(|request| request.refusal.is_some());
        if is_hopeless { self.requests.last()?.refusal.as_deref() } else { None }
    }
}

/// Whether a refusal may be that of one symbol alone: one that is not known, or a value that is wrong.
fn is_about_symbol(message: &SessionMessage<'_>) -> bool {
    matches!((message.kind, message.refusal_reason), (b"Y", b"0") | (b"3", b"5") | (b"j", b"2"))
}

/// `Q3-1`: what it is for, its place, and how often it was made.
fn request_id(at: usize, request: &Request) -> String {
    let channel = match request.channel {
        FixChannel::Quotes => 'Q',
        FixChannel::Trades => 'T',
    };
    format!("{channel}{at}-{}", request.round)
}

fn fields(id: String, request: &Request, wish: Wish, (dialect, quotes): (FixDialect, FixQuotes)) -> Fields {
    // Depth of the book, 0 for all of it; whether changes come or whole snapshots; what entries are asked for.
    let (depth, update_type, entries) = match (request.channel, quotes) {
        // A trade in a snapshot would be an old one.
        (FixChannel::Trades, _) => (1, 1, &[2][..]),
        (FixChannel::Quotes, FixQuotes::Best) => (1, 0, &[0, 1][..]),
        (FixChannel::Quotes, FixQuotes::Books { depth }) => (depth.unwrap_or(dialect.depth_of_all()), 1, &[0, 1][..]),
    };
    let subscribes = match wish {
        Wish::Begin => 1,
        Wish::End => 2,
    };
    let mut fields = Fields::default()
        .with(262, id)
        .with(263, subscribes)
        .with(264, depth)
        .with_some(265, (dialect == FixDialect::Standard).then_some(update_type));
    if request.channel == FixChannel::Quotes {
        // One entry for each price and side: other books cannot be kept.
        fields = fields.with(266, 'Y');
    }
    fields = fields.with(267, entries.len());
    fields = entries.iter().fold(fields, |fields, entry| fields.with(269, entry));
    fields = fields.with(146, request.names.len());
    request.names.iter().fold(fields, |fields, name| fields.with(55, name))
}
