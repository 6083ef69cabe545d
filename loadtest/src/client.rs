//! One client of the server under test, sans-IO: bytes of its socket in, bytes to send and an ending out. From the upgrade
//! over the sign-in and the subscription to the check of every message, and, after a cut, the return with `since`.
//!
//! Owned by its worker's thread, which lends it everything that clients share as a [`Shared`]. A silent client holds its
//! subscriptions and nothing else. Deliberately absent: sockets, TLS, and when to do what, which is the worker's business.

mod answer;
mod data;
mod requests;
mod rights;
mod upgrade;

use std::ops::ControlFlow;
use std::time::Duration;

use protocol::{ChannelKind, Encoding};

use crate::check::Sequence;
use crate::clock::Now;
use crate::message::Message;
use crate::orders::{Assignment, Basket, SignIn, WireEncoding};
use crate::random::Random;
use crate::sample::FaultKind;
use crate::scan::{Scanned, scan};
use crate::symbols::{Board, Key, Symbols};
use crate::tally::Tally;
use crate::wire;

pub use requests::Requests;

use rights::Rights;

/// What the clients of a worker share.
#[derive(Debug)]
pub struct Shared {
    pub assignment: Assignment,
    pub requests: Requests,
    pub encoding: Encoding,
    pub symbols: Symbols,
    /// One for each epoch that was seen: one for each server process.
    pub boards: Vec<Board>,
    pub tally: Tally,
    pub random: Random,
    pub now: Now,
    /// Whether clients are being waited for: then heartbeats say what they have to reach.
    pub settling: bool,
    /// What the client in hand wants to send.
    pub out: Vec<u8>,
    /// Data messages until the next one that is checked field by field.
    until_check: u64,
    /// For the full parser.
    messages: Vec<Message>,
}

impl Shared {
    pub fn new(assignment: Assignment, now: Now) -> Shared {
        let mut random = Random::of_stream(assignment.seed, u64::MAX - u64::from(assignment.worker));
        Shared {
            requests: Requests::new(&assignment, &mut random),
            encoding: match assignment.encoding {
                WireEncoding::Json => Encoding::Json,
                WireEncoding::MessagePack => Encoding::MessagePack,
            },
            symbols: Symbols::new(&assignment.interest.symbols),
            boards: Vec::new(),
            tally: Tally::new(assignment.worker, now),
            random,
            now,
            settling: false,
            out: Vec::new(),
            until_check: 1,
            messages: Vec::new(),
            assignment,
        }
    }

    /// The board of an epoch, by its place.
    pub fn board(&mut self, epoch: u64) -> u16 {
        let found = self.boards.iter().position(|board| board.epoch == epoch).unwrap_or_else(|| {
            self.boards.push(Board::new(epoch));
            self.boards.len() - 1
        });
        // Servers that restart 65,535 times in a run are beyond what can be told apart.
        u16::try_from(found).unwrap_or(u16::MAX)
    }
}

/// How far a client has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Without a connection.
    Away,
    /// TCP, then TLS.
    Connecting,
    /// The upgrade was asked for.
    Upgrading,
    /// Upgraded; the sign-in is not answered.
    SigningIn,
    /// The first subscription is not answered.
    Subscribing,
    Live,
}

/// Why a connection is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The server said no, in these words.
    Refused {
        text: String,
        /// To come back is worth it, after this.
        retry_after: Option<Duration>,
    },
    /// The connection ended, or the server closed it, without being asked.
    Lost { text: String },
    /// The server broke the protocol.
    Broken { text: String },
}

/// One channel that a client is subscribed to.
#[derive(Clone, Copy, Debug)]
struct Slot {
    key: Key,
    /// An unsubscription is under way: messages may still come.
    leaving: bool,
    /// Subscribed to, or begun anew, later than the client's first subscription.
    late: bool,
    sequence: Sequence,
}

/// A command that is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pending {
    id: u64,
    /// Monotonic ns.
    intended_ns: u64,
    change: Change,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    /// The subscription after the sign-in: everything.
    All,
    Add(Key),
    Remove(Key),
}

/// The id of the subscription after a sign-in.
const FIRST_ID: u64 = 1;

#[derive(Debug)]
pub struct Client {
    /// Within the run.
    number: u64,
    stage: Stage,
    /// Its messages are not timed, because it will be or was stalled.
    untimed: bool,
    /// A data message came on this connection.
    had_data: bool,
    /// It came back with `since`, and whether it got everything is not settled.
    returned: bool,
    /// Place in [`Shared::boards`].
    board: u16,
    /// Faults in what it was sent, and how many there were when it last returned.
    faults: u32,
    faults_at_return: u32,
    next_id: u64,
    reader: wire::Reader,
    /// By key.
    slots: Vec<Slot>,
    /// By how much its data is held back, ms.
    delayed_ms: u64,
    /// Once it was told that they are others than at the sign-in.
    rights: Option<Box<Rights>>,
    /// When the connection was meant to begin, monotonic ns.
    intended_ns: u64,
    /// When the first subscription was answered, Unix ns: what is stamped earlier was sent to catch up, and is not timed.
    live_ns: i64,
    pending: Option<Box<Pending>>,
}

impl Client {
    pub fn new(number: u64, shared: &Shared) -> Client {
        let assignment = &shared.assignment;
        Client {
            number,
            stage: Stage::Away,
            untimed: crate::random::is_of_share(assignment.seed, number, assignment.stalled_share),
            had_data: false,
            returned: false,
            board: 0,
            faults: 0,
            faults_at_return: 0,
            next_id: FIRST_ID,
            reader: wire::Reader::default(),
            slots: Vec::new(),
            delayed_ms: 0,
            rights: None,
            intended_ns: 0,
            live_ns: 0,
            pending: None,
        }
    }

    pub fn number(&self) -> u64 {
        self.number
    }

    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// Whether it is one of those that are stalled on purpose.
    pub fn is_to_stall(&self) -> bool {
        self.untimed
    }

    /// Whether a command is unanswered.
    pub fn is_busy(&self) -> bool {
        self.pending.is_some()
    }

    /// When its connection was meant to begin, monotonic ns.
    pub fn intended_ns(&self) -> u64 {
        self.intended_ns
    }

    /// A connection is being opened that was meant to begin then.
    pub fn begin(&mut self, intended_ns: u64, shared: &mut Shared) {
        self.stage = Stage::Connecting;
        self.intended_ns = intended_ns;
        self.had_data = false;
        self.reader = wire::Reader::default();
        self.pending = None;
        self.rights = None;
        if self.slots.is_empty() {
            self.slots = draw(self.number, shared);
        }
        shared.tally.sample.counts.connects += 1;
    }

    /// TCP and TLS stand: the upgrade request goes out.
    pub fn opened(&mut self, target: usize, shared: &mut Shared) {
        self.stage = Stage::Upgrading;
        shared.requests.write_upgrade(target, self.number, shared.now, &mut shared.out);
    }

    /// The connection is over, whoever ended it. What had not arrived until now will come again after a return.
    pub fn ended(&mut self) {
        self.stage = Stage::Away;
        self.reader = wire::Reader::default();
        self.pending = None;
    }

    /// The client leaves for good: it forgets where it stood.
    pub fn forget(&mut self) {
        self.ended();
        self.slots = Vec::new();
        self.returned = false;
    }

    /// What must stand before the next bytes of the socket.
    pub fn take_rest(&mut self) -> Vec<u8> {
        self.reader.take_rest()
    }

    /// Nothing came behind what [`take_rest`](Self::take_rest) gave.
    pub fn put_back(&mut self, rest: &[u8]) {
        self.reader.keep(rest);
    }

    /// Bytes from the server, behind what [`take_rest`](Self::take_rest) gave.
    ///
    /// # Errors
    /// Why the connection is over.
    pub fn receive(&mut self, bytes: &[u8], shared: &mut Shared) -> Result<(), Ending> {
        let mut bytes = bytes;
        if self.stage == Stage::Upgrading {
            match upgrade::read(bytes, shared.requests.accept())? {
                None => {
                    self.reader.keep(bytes);
                    return Ok(());
                }
                Some(head_len) => bytes = &bytes[head_len..],
            }
            self.stage = Stage::SigningIn;
            shared.tally.upgraded(shared.now);
            shared.tally.sample.handshake.record(shared.now.mono_ns.saturating_sub(self.intended_ns));
        }
        let mut reader = std::mem::take(&mut self.reader);
        let mut ending = None;
        let read = reader.read(bytes, |message| match self.message(message, shared) {
            Ok(()) => ControlFlow::Continue(()),
            Err(end) => {
                ending = Some(end);
                ControlFlow::Break(())
            }
        });
        self.reader = reader;
        match (ending, read) {
            (Some(ending), _) => Err(ending),
            (None, Err(error)) => Err(Ending::Broken { text: error.to_string() }),
            (None, Ok(_)) => Ok(()),
        }
    }

    /// The server ended the connection, or the network did.
    pub fn cut_off(&mut self, why: &str) -> Ending {
        let rest = self.reader.take_rest();
        if self.stage == Stage::Upgrading && !rest.is_empty() {
            return upgrade::refusal_in_part(&rest);
        }
        let text = match self.stage {
            Stage::Connecting => format!("connecting: {why}"),
            Stage::Upgrading => format!("no answer to the upgrade: {why}"),
            Stage::SigningIn => format!("no answer to the sign-in: {why}"),
            Stage::Subscribing => format!("no answer to the subscription: {why}"),
            Stage::Away | Stage::Live => why.to_owned(),
        };
        Ending::Lost { text }
    }

    #[inline]
    fn message(&mut self, message: wire::Message<'_>, shared: &mut Shared) -> Result<(), Ending> {
        let (encoding, payload) = match message {
            wire::Message::Text(payload) => (Encoding::Json, payload),
            wire::Message::Binary(payload) => (Encoding::MessagePack, payload),
            wire::Message::Ping(payload) => {
                let mask = shared.random.mask();
                protocol::frame::encode_client_frame(protocol::frame::Opcode::Pong, payload, mask, &mut shared.out);
                return Ok(());
            }
            wire::Message::Pong => return Ok(()),
            wire::Message::Close(close) => {
                let (code, reason) = close.unwrap_or((1005, b""));
                *shared.tally.sample.counts.closes.entry(code).or_default() += 1;
                let text = format!("the server closed: {code} {}", String::from_utf8_lossy(reason));
                return Err(Ending::Lost { text });
            }
        };
        if encoding != shared.encoding {
            self.malformed(shared, || "a frame of the other encoding's kind".to_owned());
            return Ok(());
        }
        // A sample is read in full; the rest only where a glance does not tell enough.
        if let Some(found) = scan(encoding, payload, shared.assignment.stamp) {
            shared.until_check -= 1;
            if shared.until_check > 0 {
                self.data(found, shared);
                return Ok(());
            }
            shared.until_check = shared.assignment.check_every.max(1);
        }
        let mut messages = std::mem::take(&mut shared.messages);
        let parsed = crate::message::parse(encoding, payload, &mut messages);
        let mut done = Ok(());
        for message in messages.drain(..) {
            done = done.and_then(|()| self.read_in_full(message, shared));
        }
        shared.messages = messages;
        if let Err(what) = parsed {
            self.malformed(shared, || {
                let start = &payload[..payload.len().min(200)];
                format!("{what}: {}", String::from_utf8_lossy(start))
            });
        }
        done
    }

    fn read_in_full(&mut self, message: Message, shared: &mut Shared) -> Result<(), Ending> {
        match message {
            Message::Data(data) => {
                shared.tally.sample.counts.schema_checked += 1;
                self.data(self.as_scanned(&data, shared), shared);
            }
            Message::VenueGap { data, missed } => {
                shared.tally.sample.counts.announced += missed;
                self.data(self.as_scanned(&data, shared), shared);
            }
            control => return self.control(control, shared),
        }
        Ok(())
    }

    fn as_scanned<'a>(&self, data: &'a crate::message::Data, shared: &Shared) -> Scanned<'a> {
        let stamp_ns = match shared.assignment.stamp {
            crate::scan::Stamp::Rx => data.rx_ns,
            crate::scan::Stamp::Event => data.event_ns,
        };
        Scanned { kind: data.kind, symbol: data.symbol.as_bytes(), seq: data.seq, stamp_ns }
    }

    fn malformed(&mut self, shared: &mut Shared, text: impl FnOnce() -> String) {
        self.faults += 1;
        shared.tally.sample.counts.malformed += 1;
        shared.tally.fault(FaultKind::Malformed, self.number, shared.now, text);
    }

    fn is_wild(kind: ChannelKind, shared: &Shared) -> bool {
        let interest = &shared.assignment.interest;
        interest.basket == Basket::Wildcard && interest.channels.iter().any(|channel| channel.kind() == kind)
    }

    fn slot_at(&self, key: Key) -> Result<usize, usize> {
        self.slots.binary_search_by_key(&key, |slot| slot.key)
    }

    /// Whether the sign-in goes by a message of its own. Without credentials it does too: the server says at once then what
    /// it thinks of that, and not when it has waited for long enough.
    fn signs_in_by_message(shared: &Shared) -> bool {
        shared.assignment.sign_in == SignIn::Message || shared.assignment.credentials.is_none()
    }
}

/// What a client subscribes to: the same whenever it is asked with that seed.
fn draw(number: u64, shared: &Shared) -> Vec<Slot> {
    let assignment = &shared.assignment;
    let interest = &assignment.interest;
    let symbols = shared.requests.basket(number);
    let mut slots: Vec<Slot> = symbols
        .into_iter()
        .flat_map(|symbol| interest.channels.iter().map(move |channel| Key::new(symbol, channel.kind())))
        .map(|key| Slot { key, leaving: false, late: false, sequence: Sequence::default() })
        .collect();
    slots.sort_unstable_by_key(|slot| slot.key);
    slots.dedup_by_key(|slot| slot.key);
    slots
}

#[cfg(test)]
mod tests;
