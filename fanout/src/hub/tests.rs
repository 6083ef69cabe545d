//! Tests of the hub: a rig with clients on sockets that can be made to refuse, and virtual time.
//!
//! Segments are made by hand here, with frames that say which message they are; the sequencer's own are in
//! `tests/`. Each file is about one promise.

mod blocked;
mod conflation;
mod delivery;
mod pacing;
mod regrant;
mod resume;
mod retention;
mod rounds;
mod simulation;
mod timers;
mod wildcard;

use std::collections::{BTreeMap, HashMap};
use std::io::{self, IoSlice, Write};

use entitlements::{Grant, Principal, Tier, Tiers, User, decide};
use protocol::frame::{Opcode, encode_frame, frame_len, server_frame};
use protocol::{Channel, InstrumentId, Selector};
use serde::Deserialize;

use super::flush::SLICES;
use super::held::CATCH_UP_MESSAGES;
use super::timers::HEARTBEAT_CHANNELS;
use super::*;
use crate::SegmentBuilder;
use crate::subscriber::Subscription;

/// Length of every data frame here: 2 bytes of header and 14 of text.
const FRAME_BYTES: usize = 16;
/// What the log accounts for a segment of one message in both encodings.
const SEGMENT_BYTES: usize = 200 + size_of::<crate::Publication>() + 2 * FRAME_BYTES;
const HEARTBEAT_MS: u64 = 15_000;
const STALL_MS: u64 = 30_000;

const SYMBOLS: [&str; 4] = ["BTC/USD", "ETH/USD", "SOL/USD", "BTC/USD@KRAKEN"];
/// The last of them, a stream of a single source: `*` is not about it.
const ALONE: u32 = 3;

fn channel(kind: ChannelKind, instrument: u32) -> ChannelId {
    ChannelId::new(InstrumentId(instrument), kind, Freshness::RealTime)
}

fn trades(instrument: u32) -> ChannelId {
    channel(ChannelKind::Trades, instrument)
}

fn quotes(instrument: u32) -> ChannelId {
    channel(ChannelKind::Quotes, instrument)
}

fn one(instrument: u32) -> Selector {
    Selector::One(InstrumentId(instrument))
}

fn grant(kind: ChannelKind, selector: Selector) -> Grant {
    let user = User::new("somebody", Tier::Enterprise);
    decide(&Principal::new(&user, &Tiers::default()), Channel { kind, selector }, None, 0).unwrap()
}

fn since(seq: u64) -> SubscribeOptions {
    SubscribeOptions { since: Some(seq), ..SubscribeOptions::default() }
}

fn every(interval_ms: u32) -> SubscribeOptions {
    SubscribeOptions { interval_ms, ..SubscribeOptions::default() }
}

/// A frame that says which message it is, always `FRAME_BYTES` long.
fn encode_test_frame(encoding: Encoding, channel: ChannelId, seq: u64, out: &mut Vec<u8>) {
    let text = format!("{} {:>4} {:>7}", encoding as u8, channel.0, seq);
    encode_frame(encoding.opcode(), text.as_bytes(), out);
}

fn segment(messages: &[(ChannelId, u64)], encodings: &[Encoding]) -> Arc<Segment> {
    let mut builder = SegmentBuilder::new(messages[0].0.kind().class());
    for (channel, seq) in messages {
        builder.push(*channel, *seq, encodings.iter().copied(), |encoding, out| {
            encode_test_frame(encoding, *channel, *seq, out);
        });
    }
    builder.finish().unwrap()
}

/// The client's end of a connection: takes `room` bytes more, then refuses.
#[derive(Default)]
struct Socket {
    received: Vec<u8>,
    /// `None`: takes everything.
    room: Option<usize>,
    writes: usize,
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let offered: usize = slices.iter().map(|slice| slice.len()).sum();
        assert!(offered > 0, "an empty write");
        self.writes += 1;
        let taken = offered.min(self.room.unwrap_or(usize::MAX));
        if taken == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if let Some(room) = &mut self.room {
            *room -= taken;
        }
        self.received.extend(slices.iter().flat_map(|slice| slice.iter()).take(taken));
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a client reads from its socket.
#[derive(Clone, Debug, PartialEq)]
enum Seen {
    Data(ChannelId, u64),
    Gap(ChannelId, u64, u64),
    /// Last numbers by channel.
    Heartbeat(Vec<(ChannelId, u64)>),
    /// Text that a test put into the control lane.
    Control(String),
}

#[derive(Deserialize)]
#[serde(tag = "T", rename_all = "lowercase")]
enum ControlMessage {
    Gap {
        channel: String,
        #[serde(rename = "S")]
        symbol: String,
        from: u64,
        to: u64,
        reason: String,
    },
    Heartbeat {
        seq: BTreeMap<String, BTreeMap<String, u64>>,
    },
}

fn parse(encoding: Encoding, opcode: Opcode, payload: &[u8]) -> Seen {
    assert_eq!(opcode, encoding.opcode());
    let id = |channel_name: &str, symbol: &str| {
        let instrument = SYMBOLS.iter().position(|s| *s == symbol).unwrap() as u32;
        channel(ChannelKind::from_name(channel_name).unwrap(), instrument)
    };
    let control = match encoding {
        Encoding::Json if payload[0] == b'[' => serde_json::from_slice::<[ControlMessage; 1]>(payload).unwrap(),
        Encoding::MessagePack if payload[0] == 0x91 => rmp_serde::from_slice(payload).unwrap(),
        _ => {
            let text = std::str::from_utf8(payload).unwrap();
            let Some(text) = text.strip_prefix(['0', '1']) else { return Seen::Control(text.to_owned()) };
            assert_eq!(payload[0], b'0' + encoding as u8, "a frame in the client's own encoding");
            let numbers: Vec<u64> = text.split_ascii_whitespace().map(|n| n.parse().unwrap()).collect();
            return Seen::Data(ChannelId(numbers[0] as u32), numbers[1]);
        }
    };
    match &control[0] {
        ControlMessage::Gap { channel, symbol, from, to, reason } => {
            assert_eq!(reason, "retention");
            Seen::Gap(id(channel, symbol), *from, *to)
        }
        ControlMessage::Heartbeat { seq } => Seen::Heartbeat(
            seq.iter().flat_map(|(kind, of)| of.iter().map(|(symbol, seq)| (id(kind, symbol), *seq))).collect(),
        ),
    }
}

/// A hub with its clients.
struct Rig {
    hub: Hub,
    interest: Arc<Interest>,
    instruments: Arc<InstrumentTable>,
    sockets: HashMap<SubscriberKey, (Encoding, Socket)>,
    now_ms: u64,
    /// Last number given out, by channel.
    seqs: BTreeMap<ChannelId, u64>,
}

impl Rig {
    fn new() -> Rig {
        Rig::with(|_| ())
    }

    fn with(adjust: impl FnOnce(&mut HubConfig)) -> Rig {
        let mut config = HubConfig {
            shard: 0,
            slow_consumer: SlowConsumer::Gap,
            retain_bytes: 1 << 20,
            control_bytes_max: 4096,
            heartbeat_ms: HEARTBEAT_MS,
            stall_ms: STALL_MS,
        };
        adjust(&mut config);
        let instruments = Arc::new(InstrumentTable::with_capacity(SYMBOLS.len()));
        for symbol in SYMBOLS {
            instruments.learn(symbol).unwrap();
        }
        let interest = Arc::new(Interest::new(1, instruments.clone()));
        let now_ms = 1_000;
        let hub = Hub::new(config, instruments.clone(), interest.clone(), now_ms);
        Rig { hub, interest, instruments, sockets: HashMap::new(), now_ms, seqs: BTreeMap::new() }
    }

    /// A hub whose log holds `messages` segments of one message each.
    fn retaining(messages: usize) -> Rig {
        Rig::with(|config| config.retain_bytes = messages * SEGMENT_BYTES)
    }

    fn client(&mut self) -> SubscriberKey {
        self.client_in(Encoding::Json)
    }

    fn client_in(&mut self, encoding: Encoding) -> SubscriberKey {
        let key = self.hub.open(encoding, self.now_ms);
        assert!(self.sockets.insert(key, (encoding, Socket::default())).is_none(), "keys are not used again");
        key
    }

    fn subscribe(&mut self, key: SubscriberKey, kind: ChannelKind, selector: Selector) {
        let subscribed = self.subscribe_with(key, kind, selector, SubscribeOptions::default());
        assert_eq!(subscribed, Subscribed::New);
    }

    fn subscribe_with(
        &mut self,
        key: SubscriberKey,
        kind: ChannelKind,
        selector: Selector,
        options: SubscribeOptions,
    ) -> Subscribed {
        self.hub.subscribe(key, grant(kind, selector), options, self.now_ms)
    }

    fn unsubscribe(&mut self, key: SubscriberKey, kind: ChannelKind, selector: Selector) {
        assert!(self.hub.unsubscribe(key, kind, selector, self.now_ms));
    }

    fn next_seq(&mut self, channel: ChannelId) -> u64 {
        let seq = self.seqs.entry(channel).or_default();
        *seq += 1;
        *seq
    }

    /// One segment with the next message of each channel, in that order and both encodings.
    fn publish(&mut self, channels: &[ChannelId]) -> Arc<Segment> {
        let messages: Vec<_> = channels.iter().map(|channel| (*channel, self.next_seq(*channel))).collect();
        let segment = segment(&messages, &Encoding::ALL);
        self.hub.publish(segment.clone(), self.now_ms);
        segment
    }

    /// A segment for each of the next `count` messages of a channel.
    fn publish_each(&mut self, channel: ChannelId, count: usize) {
        for _ in 0..count {
            self.publish(&[channel]);
        }
    }

    /// The end of a shard's turn, and of those that follow while somebody has more coming.
    fn turn(&mut self) {
        self.hub.begin_round(self.now_ms);
        while self.hub.has_dirty() {
            self.flush_dirty();
        }
    }

    /// The end of one turn: who was flushed, in order, and how it went.
    fn flush_dirty(&mut self) -> Vec<(SubscriberKey, Flushed)> {
        let mut flushed = Vec::new();
        for _ in 0..self.hub.dirty_count() {
            let Some(key) = self.hub.next_dirty() else { break };
            if let Some((_, socket)) = self.sockets.get_mut(&key) {
                flushed.push((key, self.hub.flush(key, socket, self.now_ms)));
                assert_ne!(flushed.last().unwrap().1, Flushed::Closed);
            }
        }
        flushed
    }

    /// From now on the client's socket takes so many bytes.
    fn limit(&mut self, key: SubscriberKey, bytes: usize) {
        self.sockets.get_mut(&key).unwrap().1.room = Some(bytes);
    }

    /// The client's socket takes so many bytes more, and says so; then the turn ends.
    fn make_room(&mut self, key: SubscriberKey, bytes: usize) {
        self.limit(key, bytes);
        self.hub.writable(key);
        self.turn();
    }

    /// The client reads everything there is.
    fn drain(&mut self, key: SubscriberKey) -> Vec<Seen> {
        self.sockets.get_mut(&key).unwrap().1.room = None;
        self.hub.writable(key);
        self.turn();
        let seen = self.seen(key);
        assert!(self.sockets[&key].1.received.is_empty(), "a frame is cut");
        seen
    }

    /// What has come to the client since the last look, as far as it is complete.
    fn seen(&mut self, key: SubscriberKey) -> Vec<Seen> {
        let (encoding, socket) = self.sockets.get_mut(&key).unwrap();
        let mut seen = Vec::new();
        let mut at = 0;
        while let Some((opcode, payload)) = server_frame(&socket.received[at..]) {
            seen.push(parse(*encoding, opcode, payload));
            at += frame_len(&socket.received[at..]).unwrap();
        }
        socket.received.drain(..at);
        seen
    }

    fn say(&mut self, key: SubscriberKey, text: &str) -> bool {
        self.hub.control(key, |encoding, out| encode_frame(encoding.opcode(), text.as_bytes(), out))
    }

    /// Moves the clock on, firing what comes due on the way, and names the sessions that were woken.
    fn advance(&mut self, by_ms: u64) -> Vec<Timer> {
        let end = self.now_ms + by_ms;
        let mut fired = Vec::new();
        while let Some(next_ms) = self.hub.next_timer_ms().filter(|next_ms| *next_ms <= end) {
            self.now_ms = next_ms.max(self.now_ms);
            while let Some(timer) = self.hub.poll_timer(self.now_ms, 0) {
                fired.push(timer);
            }
            self.turn();
        }
        self.now_ms = end;
        fired
    }

    /// What the sequencer does: publishes each last value that was asked for, of the channels that have one.
    fn serve_snapshots(&mut self) {
        let mut asked = Vec::new();
        self.interest.take_asked(SYMBOLS.len(), |channel, encoding| asked.push((channel, encoding)));
        for (channel, encoding) in asked {
            if let Some(seq) = self.seqs.get(&channel) {
                self.hub.publish(segment(&[(channel, *seq)], &[encoding]), self.now_ms);
            }
        }
    }

    /// A conflated message as the sequencer publishes it: in the encodings that are wanted, or not at all.
    fn publish_wanted(&mut self, channel: ChannelId) {
        let seq = self.next_seq(channel);
        let wanted: Vec<Encoding> = self.interest.wanted(channel).collect();
        if !wanted.is_empty() {
            self.hub.publish(segment(&[(channel, seq)], &wanted), self.now_ms);
        }
    }
}

/// The messages `numbers` of a channel.
fn data(channel: ChannelId, numbers: impl IntoIterator<Item = u64>) -> Vec<Seen> {
    numbers.into_iter().map(|seq| Seen::Data(channel, seq)).collect()
}

/// The numbers of a channel's messages among what was seen.
fn numbers_of(seen: &[Seen], channel: ChannelId) -> Vec<u64> {
    seen.iter()
        .filter_map(|s| if let Seen::Data(c, seq) = s { (*c == channel).then_some(*seq) } else { None })
        .collect()
}
