//! Random operations on a hub, against a naive model of what each client must read.
//!
//! A client's stream is judged as the client itself would: markers in the control lane say from where on a
//! channel was subscribed, resumed or ended, and from then on its numbers go up by one, or a notice covers
//! what is missing. A failing case is printed by proptest with its seed and made small.

use proptest::prelude::*;

use super::*;

const CLIENTS: usize = 3;
const INSTRUMENTS: u32 = SYMBOLS.len() as u32;
const KINDS: [ChannelKind; 3] = [ChannelKind::Trades, ChannelKind::Bars, ChannelKind::Quotes];
const CONTROL_BYTES_MAX: usize = 400;

#[derive(Clone, Debug)]
enum Op {
    /// A segment of so many messages; the bool skips a number first, as a full delay line does.
    Publish(Vec<(u32, ChannelKind, bool)>),
    PublishQuotes(Vec<u32>),
    ServeSnapshots,
    Subscribe {
        client: usize,
        kind: ChannelKind,
        instrument: Option<u32>,
        /// How far back of the last number.
        since: Option<u64>,
        interval_ms: u32,
    },
    ResumeWithinAll {
        client: usize,
        kind: ChannelKind,
        instrument: u32,
        back: u64,
    },
    Unsubscribe {
        client: usize,
        kind: ChannelKind,
        instrument: Option<u32>,
    },
    Say {
        client: usize,
    },
    /// The socket takes so many bytes from now on.
    Room {
        client: usize,
        bytes: usize,
    },
    Turn,
    /// How long clients rest after a write.
    Rest {
        ms: u64,
    },
    Advance {
        ms: u64,
    },
    Reopen {
        client: usize,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let client = 0..CLIENTS;
    let instrument = 0..INSTRUMENTS;
    let kind = proptest::sample::select(&KINDS[..]);
    let sequenced = proptest::sample::select(&KINDS[..2]);
    let target = || proptest::option::weighted(0.7, 0..INSTRUMENTS);
    let message = (instrument.clone(), sequenced.clone(), proptest::bool::weighted(0.03));
    prop_oneof![
        6 => proptest::collection::vec(message, 1..6).prop_map(Op::Publish),
        5 => proptest::collection::vec(instrument.clone(), 1..5).prop_map(Op::PublishQuotes),
        2 => Just(Op::ServeSnapshots),
        4 => (client.clone(), kind.clone(), target(), proptest::option::weighted(0.6, 0..12u64), prop_oneof![3 => Just(0u32), 1 => Just(50u32)])
            .prop_map(|(client, kind, instrument, since, interval_ms)| Op::Subscribe { client, kind, instrument, since, interval_ms }),
        1 => (client.clone(), sequenced, instrument, 0..12u64)
            .prop_map(|(client, kind, instrument, back)| Op::ResumeWithinAll { client, kind, instrument, back }),
        2 => (client.clone(), kind, target()).prop_map(|(client, kind, instrument)| Op::Unsubscribe { client, kind, instrument }),
        1 => client.clone().prop_map(|client| Op::Say { client }),
        5 => (client.clone(), 0..8 * FRAME_BYTES).prop_map(|(client, bytes)| Op::Room { client, bytes }),
        6 => Just(Op::Turn),
        1 => (0..200u64).prop_map(|ms| Op::Advance { ms }),
        1 => (0..3u64).prop_map(|ms| Op::Advance { ms }),
        1 => prop_oneof![Just(0), 1..5u64].prop_map(|ms| Op::Rest { ms }),
        1 => client.prop_map(|client| Op::Reopen { client }),
    ]
}

/// What a marker in the control lane tells the reader about one channel.
#[derive(Clone, Copy, Debug)]
enum Marker {
    /// Nothing more comes.
    End,
    /// Subscribed anew: everything after `last` comes, and perhaps what the client had still waiting.
    From { last: u64 },
    /// Resumed: `since + 1` comes next.
    After { since: u64 },
}

/// One channel as the client reads it.
#[derive(Clone, Debug, Default)]
struct Reading {
    /// The number that must come next, if the first one since the marker has come.
    next: Option<u64>,
    /// The first number after the marker is at most this, or what is before it is announced.
    at_most: u64,
    /// The numbers announced as missing since the marker.
    gaps: Vec<(u64, u64)>,
}

impl Reading {
    fn mark(marker: Marker) -> Option<Reading> {
        let (next, at_most) = match marker {
            Marker::End => return None,
            Marker::From { last } => (None, last + 1),
            Marker::After { since } => (Some(since + 1), since + 1),
        };
        Some(Reading { next, at_most, gaps: Vec::new() })
    }

    /// Whether every number of the range is announced as missing.
    fn announced(&self, from: u64, until: u64) -> bool {
        (from..until).all(|seq| self.gaps.iter().any(|(from, to)| (*from..=*to).contains(&seq)))
    }

    fn read(&mut self, seq: u64) {
        assert!(
            !self.gaps.iter().any(|(from, to)| (*from..=*to).contains(&seq)),
            "{seq} was announced as missing: {self:?}"
        );
        match self.next {
            Some(next) => {
                assert!(seq >= next, "{seq} comes again: {self:?}");
                assert!(self.announced(next, seq), "{next} to {} are missing: {self:?}", seq - 1);
            }
            None => {
                assert!(seq <= self.at_most || self.announced(self.at_most, seq), "{seq} is not the first: {self:?}")
            }
        }
        self.next = Some(seq + 1);
    }

    /// Everything up to `last` has come or is announced.
    fn finish(&self, channel: ChannelId, last: u64) {
        let next = self.next.unwrap_or(self.at_most);
        assert!(self.announced(next, last + 1), "{channel:?}: {next} to {last} never came: {self:?}");
    }
}

#[derive(Debug)]
struct Client {
    key: SubscriberKey,
    /// What the client has subscribed to, by the model.
    subscribed: Vec<(ChannelKind, Option<u32>)>,
    markers: Vec<(ChannelId, Marker)>,
    /// The channels that are to come.
    reading: HashMap<ChannelId, Reading>,
    /// Last number of each conflated channel.
    latest: HashMap<ChannelId, u64>,
}

impl Client {
    fn covers(&self, kind: ChannelKind, instrument: u32) -> bool {
        instrument != ALONE && self.subscribed.contains(&(kind, None))
            || self.subscribed.contains(&(kind, Some(instrument)))
    }
}

struct Simulation {
    rig: Rig,
    clients: Vec<Client>,
    segments: Vec<Arc<Segment>>,
}

impl Simulation {
    fn new(retained: usize) -> Simulation {
        let mut rig = Rig::with(|config| {
            config.retain_bytes = retained * SEGMENT_BYTES;
            config.control_bytes_max = CONTROL_BYTES_MAX;
            config.heartbeat_ms = 1 << 40;
            config.stall_ms = 1 << 40;
        });
        let clients = (0..CLIENTS).map(|i| Simulation::open(&mut rig, Encoding::ALL[i % 2])).collect();
        Simulation { rig, clients, segments: Vec::new() }
    }

    fn open(rig: &mut Rig, encoding: Encoding) -> Client {
        Client {
            key: rig.client_in(encoding),
            subscribed: Vec::new(),
            markers: Vec::new(),
            reading: HashMap::new(),
            latest: HashMap::new(),
        }
    }

    fn last(&self, channel: ChannelId) -> u64 {
        self.rig.seqs.get(&channel).copied().unwrap_or(0)
    }

    /// Puts a marker into the client's stream, in front of whatever follows. Not bounded by the lane, as the
    /// reader must not miss one.
    fn mark(&mut self, client: usize, channel: ChannelId, marker: Marker) {
        let client = &mut self.clients[client];
        let text = format!("marker {}", client.markers.len());
        client.markers.push((channel, marker));
        let subscriber = &mut self.rig.hub.subscribers[client.key.slot as usize];
        encode_frame(subscriber.encoding.opcode(), text.as_bytes(), &mut subscriber.control);
        self.rig.hub.mark_dirty(client.key.slot);
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::Publish(messages) => {
                let numbered: Vec<_> = messages
                    .into_iter()
                    .map(|(instrument, kind, skip)| {
                        let channel = channel(kind, instrument);
                        if skip {
                            self.rig.next_seq(channel);
                        }
                        (channel, self.rig.next_seq(channel))
                    })
                    .collect();
                self.rig.hub.publish(segment(&numbered, &Encoding::ALL), self.rig.now_ms);
            }
            Op::PublishQuotes(instruments) => {
                let mut builder = SegmentBuilder::new(Class::Conflated);
                for instrument in instruments {
                    let (channel, seq) = (quotes(instrument), self.rig.next_seq(quotes(instrument)));
                    let mut wanted = self.rig.interest.wanted(channel).peekable();
                    if wanted.peek().is_some() {
                        builder
                            .push(channel, seq, wanted, |encoding, out| encode_test_frame(encoding, channel, seq, out));
                    }
                }
                if let Some(segment) = builder.finish() {
                    self.segments.push(segment.clone());
                    self.rig.hub.publish(segment, self.rig.now_ms);
                }
            }
            Op::ServeSnapshots => self.rig.serve_snapshots(),
            Op::Subscribe { client, kind, instrument, since, interval_ms } => {
                self.subscribe(client, kind, instrument, since, interval_ms);
            }
            Op::ResumeWithinAll { client, kind, instrument, back } => {
                let channel = channel(kind, instrument);
                let since = self.last(channel).saturating_sub(back);
                if instrument != ALONE && self.clients[client].subscribed.contains(&(kind, None)) {
                    self.mark(client, channel, Marker::After { since });
                }
                let key = self.clients[client].key;
                self.rig.hub.resume_within_all(key, grant(kind, Selector::All), InstrumentId(instrument), since);
            }
            Op::Unsubscribe { client, kind, instrument } => {
                // A shard flushes between what it publishes and what it reads.
                self.rig.turn();
                let selector = instrument.map_or(Selector::All, one);
                let entry = (kind, instrument);
                let known = self.clients[client].subscribed.contains(&entry);
                let done = self.rig.hub.unsubscribe(self.clients[client].key, kind, selector, self.rig.now_ms);
                assert_eq!(done, known);
                self.clients[client].subscribed.retain(|s| *s != entry);
                for i in (0..INSTRUMENTS).filter(|i| known && instrument.is_none_or(|one| one == *i)) {
                    if !self.clients[client].covers(kind, i) {
                        self.mark(client, channel(kind, i), Marker::End);
                    }
                }
            }
            Op::Say { client } => {
                self.rig.say(self.clients[client].key, "hello");
            }
            Op::Room { client, bytes } => {
                let key = self.clients[client].key;
                self.rig.limit(key, bytes);
                self.rig.hub.writable(key);
            }
            Op::Turn => {
                self.rig.turn();
                self.check_memory();
            }
            Op::Advance { ms } => {
                self.rig.advance(ms);
            }
            Op::Rest { ms } => self.rig.hub.set_round_ms(ms),
            Op::Reopen { client } => {
                self.rig.hub.close(self.clients[client].key);
                self.clients[client] = Simulation::open(&mut self.rig, Encoding::ALL[client % 2]);
            }
        }
        for client in 0..CLIENTS {
            self.read(client);
        }
    }

    fn subscribe(
        &mut self,
        client: usize,
        kind: ChannelKind,
        instrument: Option<u32>,
        since: Option<u64>,
        interval_ms: u32,
    ) {
        // One in twelve is ahead of the channel.
        let since = instrument.and(since).map(|back| match back {
            11 => self.last(channel(kind, instrument.unwrap_or(0))) + 1,
            _ => self.last(channel(kind, instrument.unwrap_or(0))).saturating_sub(back),
        });
        let known = self.clients[client].subscribed.contains(&(kind, instrument));
        let mut expected = if known { Subscribed::Unchanged } else { Subscribed::New };
        for i in (0..INSTRUMENTS).filter(|i| instrument.map_or(*i != ALONE, |one| one == *i)) {
            let (channel, covered) = (channel(kind, i), self.clients[client].covers(kind, i));
            let last = self.last(channel);
            match since.filter(|_| kind.class() == Class::Sequenced) {
                Some(since) if since <= last => self.mark(client, channel, Marker::After { since }),
                ahead => {
                    if !covered {
                        self.mark(client, channel, Marker::From { last });
                    }
                    if ahead.is_some() {
                        expected = Subscribed::Ahead { last };
                    }
                }
            }
        }
        if !known {
            self.clients[client].subscribed.push((kind, instrument));
        }
        let options = SubscribeOptions { since, interval_ms };
        let selector = instrument.map_or(Selector::All, one);
        assert_eq!(self.rig.subscribe_with(self.clients[client].key, kind, selector, options), expected);
    }

    /// Judges what has come to a client.
    fn read(&mut self, client: usize) {
        let client = &mut self.clients[client];
        for seen in self.rig.seen(client.key) {
            match seen {
                Seen::Control(text) => {
                    if let Some(number) = text.strip_prefix("marker ") {
                        let (channel, marker) = client.markers[number.parse::<usize>().unwrap()];
                        match Reading::mark(marker) {
                            Some(reading) => client.reading.insert(channel, reading),
                            None => client.reading.remove(&channel),
                        };
                    }
                }
                Seen::Gap(channel, from, to) => {
                    assert!(from <= to);
                    client.reading.get_mut(&channel).expect("a gap in what is subscribed").gaps.push((from, to));
                }
                Seen::Data(channel, seq) if channel.kind().class() == Class::Sequenced => {
                    client.reading.get_mut(&channel).expect("data of what is subscribed").read(seq);
                }
                Seen::Data(channel, seq) => {
                    assert!(client.reading.contains_key(&channel), "{channel:?} is not subscribed");
                    let latest = client.latest.entry(channel).or_default();
                    assert!(seq >= *latest, "{channel:?}: {seq} after {latest}");
                    *latest = seq;
                }
                Seen::Heartbeat(_) => panic!("nobody is quiet for so long"),
            }
        }
    }

    /// After a turn nothing but the log and the outboxes of those who rest hold on to messages.
    fn check_memory(&mut self) {
        let resting = |client: &Client| {
            let subscriber = &self.rig.hub.subscribers[client.key.slot as usize];
            assert!(subscriber.pending != Pending::Ready, "a turn ends with an empty line");
            assert!(subscriber.outbox.is_empty() || subscriber.pending == Pending::Resting);
            assert!(subscriber.pending == Pending::Nothing || subscriber.resting);
            subscriber.pending == Pending::Resting
        };
        let resting: Vec<bool> = self.clients.iter().map(resting).collect();
        if resting.contains(&true) {
            return;
        }
        assert!(self.segments.iter().all(|segment| Arc::strong_count(segment) == 1));
        self.segments.clear();
        for client in &self.clients {
            let subscriber = &self.rig.hub.subscribers[client.key.slot as usize];
            assert_eq!(subscriber.outbox.capacity(), 0);
            let markers = client.markers.len() * 20;
            assert!(subscriber.control.len() <= CONTROL_BYTES_MAX + 200 + markers, "{}", subscriber.control.len());
            if let Some(held) = &subscriber.held {
                assert!(held.blocked, "whoever is not is served to the end of the turn");
                assert!(held.partial.len() < FRAME_BYTES);
            }
        }
    }

    /// All sockets take everything again, and time passes: every promise must be kept by then.
    fn finish(&mut self) {
        self.rig.serve_snapshots();
        for client in 0..CLIENTS {
            let key = self.clients[client].key;
            self.rig.sockets.get_mut(&key).unwrap().1.room = None;
            self.rig.hub.writable(key);
        }
        self.rig.hub.set_round_ms(0);
        self.rig.turn();
        // Longer than any interval.
        self.rig.advance(100);
        self.rig.turn();
        self.check_memory();
        assert_eq!(self.rig.hub.held_count(), 0);
        for client in 0..CLIENTS {
            self.read(client);
            let client = &self.clients[client];
            assert!(self.rig.sockets[&client.key].1.received.is_empty(), "a frame is cut");
            for (kind, i) in KINDS.into_iter().flat_map(|kind| (0..INSTRUMENTS).map(move |i| (kind, i))) {
                let channel = channel(kind, i);
                if client.covers(kind, i) {
                    match kind.class() {
                        Class::Sequenced => client.reading[&channel].finish(channel, self.last(channel)),
                        Class::Conflated => {
                            let latest = client.latest.get(&channel).copied().unwrap_or(0);
                            assert_eq!(latest, self.last(channel), "the last value of {channel:?}");
                        }
                    }
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4 * ProptestConfig::default().cases, ..ProptestConfig::default() })]

    #[test]
    fn every_client_reads_what_the_model_says(retained in 2..12usize, ops in proptest::collection::vec(op(), 1..120)) {
        let mut simulation = Simulation::new(retained);
        for op in ops {
            simulation.run(op);
        }
        simulation.finish();
    }
}
