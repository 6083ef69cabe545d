//! The whole way inside the crate: updates into the sequencer, its segments into the hubs of two shards, bytes
//! out to clients that are live or delayed, in either encoding.

use std::sync::Arc;

use entitlements::{Grant, Principal, Tier, Tiers, User, decide};
use fanout::{
    Body, Flushed, Hub, HubConfig, Interest, Sequencer, SequencerConfig, SlowConsumer, SubscribeOptions, Subscribed,
    SubscriberKey, Update,
};
use protocol::frame::{frame_len, server_frame};
use protocol::{
    Channel, ChannelKind, Decimal, Encoding, InstrumentId, InstrumentTable, Quote, Selector, Side, SourceId, Trade,
};
use serde_json::Value;

const DELAY_NS: i64 = 1_000;
const SHARDS: usize = 2;
const SYMBOLS: [&str; 3] = ["BTC/USD", "ETH/USD", "BTC/USD@KRAKEN"];
/// The stream of a single source among them.
const ALONE: u32 = 2;

struct Client {
    shard: usize,
    key: SubscriberKey,
    encoding: Encoding,
    tier: Tier,
    received: Vec<u8>,
}

struct Process {
    sequencer: Sequencer,
    hubs: Vec<Hub>,
    clients: Vec<Client>,
}

impl Process {
    fn new(delay_bytes_max: usize) -> Process {
        let instruments = Arc::new(InstrumentTable::with_capacity(SYMBOLS.len()));
        for symbol in SYMBOLS {
            instruments.learn(symbol).unwrap();
        }
        let interest = Arc::new(Interest::new(SHARDS, instruments.clone()));
        let config = SequencerConfig {
            delay_ns: Some(DELAY_NS),
            delay_bytes_max,
            segment_bytes_max: 1_000,
            venues: vec!["coinbase".into()],
        };
        let hub = |shard| {
            let config = HubConfig {
                shard,
                slow_consumer: SlowConsumer::Gap,
                retain_bytes: 1 << 20,
                control_bytes_max: 1 << 16,
                heartbeat_ms: 15_000,
                stall_ms: 30_000,
            };
            Hub::new(config, instruments.clone(), interest.clone(), 0)
        };
        Process {
            hubs: (0..SHARDS).map(hub).collect(),
            sequencer: Sequencer::new(config, instruments.clone(), interest.clone()),
            clients: Vec::new(),
        }
    }

    fn client(&mut self, shard: usize, encoding: Encoding, tier: Tier) -> usize {
        let key = self.hubs[shard].open(encoding, 0);
        self.clients.push(Client { shard, key, encoding, tier, received: Vec::new() });
        self.clients.len() - 1
    }

    fn subscribe(&mut self, client: usize, kind: ChannelKind, instrument: u32) {
        self.subscribe_to(client, kind, Selector::One(InstrumentId(instrument)));
    }

    fn subscribe_to(&mut self, client: usize, kind: ChannelKind, selector: Selector) {
        let Client { shard, key, tier, .. } = self.clients[client];
        let grant = grant(tier, kind, selector);
        let subscribed = self.hubs[shard].subscribe(key, grant, SubscribeOptions::default(), 0);
        assert_eq!(subscribed, Subscribed::New);
    }

    fn unsubscribe(&mut self, client: usize, kind: ChannelKind, instrument: u32) {
        let Client { shard, key, .. } = self.clients[client];
        assert!(self.hubs[shard].unsubscribe(key, kind, Selector::One(InstrumentId(instrument)), 0));
    }

    /// One turn of the sequencer and of every shard at `now` (Unix ns).
    fn turn(&mut self, now: i64) {
        self.sequencer.release_delayed(now);
        self.sequencer.serve_snapshots();
        for segment in self.sequencer.take_segments() {
            self.hubs.iter_mut().for_each(|hub| hub.publish(segment.clone(), 0));
        }
        for client in &mut self.clients {
            while self.hubs[client.shard].flush(client.key, &mut client.received, 0) != Flushed::Done {}
        }
    }

    fn trade(&mut self, instrument: u32, ts_recv: i64) {
        let (price, size) = (decimal("43521.10"), decimal("0.0100"));
        let body = Body::Trade(Trade { id: Some(ts_recv as u64), price, size, taker: Some(Side::Sell) });
        self.publish(instrument, ChannelKind::Trades, ts_recv, body);
    }

    fn quote(&mut self, instrument: u32, ts_recv: i64) {
        let (bid, ask, size) = (decimal("1.10"), decimal("1.20"), decimal("3"));
        let body = Body::Quote(Quote { bid, bid_size: size, ask, ask_size: size });
        self.publish(instrument, ChannelKind::Quotes, ts_recv, body);
    }

    fn publish(&mut self, instrument: u32, kind: ChannelKind, ts_recv: i64, body: Body) {
        let (instrument, source) = (InstrumentId(instrument), SourceId(0));
        self.sequencer.publish(Update {
            instrument,
            kind,
            source,
            ts_event: ts_recv - 10,
            ts_recv,
            flags: protocol::TickFlags::NONE,
            body,
        });
    }

    /// The messages that have come to a client since the last look.
    fn read(&mut self, client: usize) -> Vec<Value> {
        let Client { encoding, received, .. } = &mut self.clients[client];
        let mut messages = Vec::new();
        let mut at = 0;
        while at < received.len() {
            let (opcode, payload) = server_frame(&received[at..]).expect("a whole frame");
            assert_eq!(opcode, encoding.opcode());
            let array: Value = match encoding {
                Encoding::Json => serde_json::from_slice(payload).unwrap(),
                Encoding::MessagePack => without_extensions(payload),
            };
            messages.extend(array.as_array().unwrap().iter().cloned());
            at += frame_len(&received[at..]).unwrap();
        }
        received.clear();
        messages
    }
}

/// A MessagePack array of one map, of which the numbers and texts are kept.
fn without_extensions(payload: &[u8]) -> Value {
    #[derive(serde::Deserialize)]
    struct Known {
        #[serde(rename = "T")]
        tag: String,
        #[serde(rename = "S")]
        symbol: String,
        seq: u64,
    }
    let [Known { tag, symbol, seq }]: [Known; 1] = rmp_serde::from_slice(payload).unwrap();
    serde_json::json!([{"T": tag, "S": symbol, "seq": seq}])
}

fn grant(tier: Tier, kind: ChannelKind, selector: Selector) -> Grant {
    let user = User::new("somebody", tier);
    let mut tiers = Tiers::default();
    tiers.free.wildcard = true;
    decide(&Principal::new(&user, &tiers), Channel { kind, selector }, None, 0).unwrap()
}

fn decimal(text: &str) -> Decimal {
    Decimal::parse(text.as_bytes()).unwrap()
}

/// Tag, symbol and number of each message.
fn what(messages: &[Value]) -> Vec<(String, String, u64)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    messages.iter().map(|m| (text(&m["T"]), text(&m["S"]), m["seq"].as_u64().unwrap())).collect()
}

fn numbered(tag: &str, symbol: &str, numbers: impl IntoIterator<Item = u64>) -> Vec<(String, String, u64)> {
    numbers.into_iter().map(|seq| (tag.to_owned(), symbol.to_owned(), seq)).collect()
}

#[test]
fn every_client_of_every_shard_reads_every_trade() {
    let mut process = Process::new(1 << 20);
    for shard in 0..SHARDS {
        for encoding in Encoding::ALL {
            let client = process.client(shard, encoding, Tier::Enterprise);
            process.subscribe(client, ChannelKind::Trades, 1);
        }
    }
    for i in 0..100 {
        process.trade(i % 2, i64::from(i));
        if i % 7 == 0 {
            process.turn(0);
        }
    }
    process.turn(0);
    for client in 0..process.clients.len() {
        assert_eq!(what(&process.read(client)), numbered("t", "ETH/USD", 1..=50));
    }
}

#[test]
fn a_delayed_client_reads_the_same_bytes_later() {
    let mut process = Process::new(1 << 20);
    let live = process.client(0, Encoding::Json, Tier::Enterprise);
    let delayed = process.client(1, Encoding::Json, Tier::Free);
    for client in [live, delayed] {
        process.subscribe(client, ChannelKind::Trades, 0);
        process.subscribe(client, ChannelKind::Quotes, 0);
    }
    for i in 0..20 {
        process.trade(0, i);
        process.quote(0, i);
        process.turn(i);
    }
    let bytes = process.clients[live].received.clone();
    assert_eq!(process.read(live).len(), 40);
    assert_eq!(process.clients[delayed].received, b"", "nothing before its time");
    for i in 0..20 {
        process.turn(i + DELAY_NS - 1);
        process.turn(i + DELAY_NS);
    }
    assert_eq!(process.clients[delayed].received, bytes);
    assert_eq!(process.clients[live].received, b"");
}

#[test]
fn what_a_full_delay_line_dropped_is_announced_to_delayed_clients_only() {
    let mut process = Process::new(1_000);
    let live = process.client(0, Encoding::Json, Tier::Enterprise);
    let delayed = process.client(0, Encoding::Json, Tier::Free);
    for client in [live, delayed] {
        process.subscribe(client, ChannelKind::Trades, 0);
    }
    for i in 0..5 {
        process.trade(0, i);
    }
    process.turn(DELAY_NS + 100);
    assert_eq!(what(&process.read(delayed)), numbered("t", "BTC/USD", 1..=5));
    for i in 0..100 {
        process.trade(0, DELAY_NS + i);
    }
    process.turn(3 * DELAY_NS);
    let dropped = process.sequencer.delay_dropped();
    assert!(dropped > 80, "{dropped}");
    let read = process.read(delayed);
    assert_eq!(what(&read), numbered("t", "BTC/USD", 6..=105 - dropped));
    process.trade(0, 3 * DELAY_NS);
    process.turn(5 * DELAY_NS);
    let read = process.read(delayed);
    let gap = serde_json::json!({
        "T": "gap", "channel": "trades", "S": "BTC/USD", "from": 106 - dropped, "to": 105, "reason": "retention",
    });
    assert_eq!(read[0], gap);
    assert_eq!(what(&read[1..]), numbered("t", "BTC/USD", [106]));
    assert_eq!(what(&process.read(live)), numbered("t", "BTC/USD", 1..=106));
}

#[test]
fn a_newcomer_reads_the_last_value_once_and_never_a_stale_one() {
    let mut process = Process::new(1 << 20);
    let early = process.client(0, Encoding::Json, Tier::Enterprise);
    process.subscribe(early, ChannelKind::Quotes, 0);
    process.quote(0, 1);
    process.quote(1, 2);
    process.turn(0);
    assert_eq!(what(&process.read(early)), numbered("q", "BTC/USD", [1]));

    // In the same shard, in another one, and in another encoding; of a channel that nobody had wanted.
    let late = [
        process.client(0, Encoding::Json, Tier::Enterprise),
        process.client(1, Encoding::Json, Tier::Enterprise),
        process.client(1, Encoding::MessagePack, Tier::Enterprise),
    ];
    for client in late {
        process.subscribe(client, ChannelKind::Quotes, 0);
        process.subscribe(client, ChannelKind::Quotes, 1);
    }
    process.turn(0);
    for client in late {
        let mut read = what(&process.read(client));
        read.sort();
        assert_eq!(read, [numbered("q", "BTC/USD", [1]), numbered("q", "ETH/USD", [1])].concat());
    }
    assert_eq!(process.read(early).len(), 0, "what others ask for is no news to it");

    for client in late {
        process.unsubscribe(client, ChannelKind::Quotes, 1);
    }
    process.quote(1, 3);
    process.quote(1, 4);
    process.turn(0);
    for client in late {
        process.subscribe(client, ChannelKind::Quotes, 1);
        process.turn(0);
        assert_eq!(what(&process.read(client)), numbered("q", "ETH/USD", [3]));
    }
}

/// Of what is published once as the arbitrated stream and once as its source's, `*` is the first.
#[test]
fn all_is_the_arbitrated_streams_live_and_delayed() {
    let mut process = Process::new(1 << 20);
    let wishes = [
        vec![Selector::All],
        vec![Selector::One(InstrumentId(ALONE))],
        vec![Selector::One(InstrumentId(ALONE)), Selector::All],
    ];
    let mut clients = Vec::new();
    for (tier, shard) in [Tier::Enterprise, Tier::Free].into_iter().flat_map(|tier| [(tier, 0), (tier, 1)]) {
        for (wishes, of_wishes) in wishes.iter().zip([["BTC/USD"].as_slice(), &[SYMBOLS[2]], &["BTC/USD", SYMBOLS[2]]])
        {
            let client = process.client(shard, Encoding::Json, tier);
            for kind in [ChannelKind::Trades, ChannelKind::Quotes] {
                wishes.iter().for_each(|wish| process.subscribe_to(client, kind, *wish));
            }
            clients.push((client, of_wishes));
        }
    }
    for instrument in [0, ALONE] {
        process.trade(instrument, 1);
        process.quote(instrument, 1);
    }
    process.turn(0);
    process.turn(1 + DELAY_NS);
    for (client, symbols) in clients {
        let mut read = what(&process.read(client));
        read.sort();
        let expected = ["q", "t"].map(|tag| symbols.iter().flat_map(move |symbol| numbered(tag, symbol, [1])));
        assert_eq!(read, expected.into_iter().flatten().collect::<Vec<_>>());
    }
}
