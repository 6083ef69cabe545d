//! Signals out of Kafka reach the clients that may have them, each in order and with its number, and no others.

mod support;

use std::collections::HashMap;
use std::time::Duration;

use entitlements::ApiKey;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rustix::process::Signal;
use serde_json::{Value, json};
use support::client::assert_contiguous;
use support::kafka::{Cluster, is_here};
use support::program::{Program, spawn};
use support::{Client, Directory, Received, fetch, metric, wait_until};

const TOPIC: &str = "trading-signals";

/// A gateway with users of its own, that reads signals from a cluster.
struct Rig {
    files: Directory,
    keys: HashMap<&'static str, ApiKey>,
    program: Program,
}

impl Rig {
    fn start(brokers: &str) -> Rig {
        let files = Directory::new();
        let mut keys = HashMap::new();
        let mut users = String::new();
        for (id, rights) in [
            ("all", "tier = \"premium\"\ncategories = [\"crypto\", \"equity\", \"forex\", \"commodity\"]"),
            ("crypto", "tier = \"premium\"\ncategories = [\"crypto\"]"),
            ("free", "tier = \"free\"\ncategories = [\"crypto\"]"),
            ("none", "tier = \"premium\"\ncategories = []"),
        ] {
            let key = ApiKey::generate(None).unwrap();
            users += &format!("[[users]]\nid = \"{id}\"\n{rights}\n{}\n", key.to_toml());
            keys.insert(id, key);
        }
        files.write("users.toml", users);
        files.write("gateway.toml", format!("[kafka]\nbrokers = [\"{brokers}\"]\nnode = \"node-1\"\n"));
        let program = run(&files);
        Rig { files, keys, program }
    }

    /// Kills the gateway, and starts it again.
    fn start_again(&mut self) {
        self.program.signal(Signal::KILL);
        self.program.end();
        self.program = run(&self.files);
    }

    fn client(&self, user: &str) -> Client {
        let mut client = Client::open(self.program.address);
        client.authenticate(self.keys[user].id(), self.keys[user].secret());
        client
    }

    fn reads(&self) -> bool {
        let (status, body) = fetch(self.program.admin, "/readyz");
        assert_eq!(status, 200, "market data can do without Kafka: {body}");
        !body.contains(r#""check":"signals""#)
    }

    fn await_reading(&self) {
        wait_until("signals to be read", || self.reads());
    }
}

fn run(files: &Directory) -> Program {
    let users = files.path().join("users.toml");
    let config = files.path().join("gateway.toml");
    let settings = [("entitlements.users", users.to_str().unwrap()), ("sequencer.delay", "2s")];
    spawn(&settings, &["--config", config.to_str().unwrap()])
}

fn producer(cluster: &Cluster) -> BaseProducer {
    cluster.client().set("acks", "all").set("enable.idempotence", "true").set("linger.ms", "0").create().unwrap()
}

fn uuid(number: u64) -> String {
    format!("00000000-0000-4000-8000-{number:012x}")
}

fn signal(number: u64, symbol: &str, category: &str) -> Value {
    json!({
        "id": uuid(number), "source_id": "model-1", "source_type": "ai_model", "symbol": symbol, "category": category,
        "signal_type": "buy", "entry_price": "101.2500", "confidence_level": 88,
        "generated_at": "2026-09-30T02:03:14.331Z", "of_tomorrow": {"a": [1, null]},
    })
}

fn produce(producer: &BaseProducer, key: &str, record: &[u8]) {
    let mut record = BaseRecord::to(TOPIC).key(key).payload(record);
    while let Err((_, back)) = producer.send(record) {
        producer.poll(Duration::from_millis(10));
        record = back;
    }
}

fn send(producer: &BaseProducer, signals: &[Value]) {
    for signal in signals {
        produce(producer, signal["symbol"].as_str().unwrap(), signal.to_string().as_bytes());
    }
    producer.flush(Duration::from_secs(30)).unwrap();
}

/// Where the gateway would begin after a restart, in the first partition.
fn committed(cluster: &Cluster) -> Offset {
    let consumer: BaseConsumer = cluster.client().set("group.id", "signal-gateway-node-1").create().unwrap();
    let mut places = TopicPartitionList::new();
    places.add_partition(TOPIC, 0);
    let places = consumer.committed_offsets(places, Duration::from_secs(10)).unwrap();
    places.elements()[0].offset()
}

fn ids(messages: &[Received]) -> Vec<String> {
    messages.iter().map(|message| message["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn each_gets_the_signals_of_its_categories() {
    if !is_here() {
        return;
    }
    let cluster = Cluster::start(1);
    cluster.create_topic(TOPIC, 3, &[]);
    let rig = Rig::start(&cluster.bootstrap());
    rig.await_reading();
    let subscribed = |user: &str, symbols: &str| {
        let mut client = rig.client(user);
        let answer = client.subscribe(&format!(r#"{{"action":"subscribe","signals":[{symbols}]}}"#));
        (client, answer)
    };
    // XAU/USD looks like any pair, and its signals are of a category of their own.
    let (mut all, answer) = subscribed("all", r#""*""#);
    assert_eq!(answer["signals"], json!(["*"]), "{}", answer.text);
    let (mut commodity, answer) = subscribed("all", r#""@commodity","aapl""#);
    assert_eq!(answer["signals"], json!(["@COMMODITY", "AAPL"]), "{}", answer.text);
    let (mut crypto, _) = subscribed("crypto", r#""*","BTC/USD","XAU/USD""#);
    let (mut free, answer) = subscribed("free", r#""@crypto""#);
    assert_eq!(answer["delayed_ms"], json!(2_000), "{}", answer.text);
    let mut none = rig.client("none");
    let refused = none.request(r#"{"action":"subscribe","signals":["*"]}"#);
    assert_eq!((refused.kind(), refused.number("code"), &refused["channel"]), ("error", 411, &json!("signals")));

    let signals = [
        signal(1, "BTC/USD", "crypto"),
        signal(2, "XAU/USD", "commodity"),
        signal(3, "AAPL", "equity"),
        signal(4, "BTC/USD", "crypto"),
        signal(5, "EUR/USD", "forex"),
        signal(6, "XAU/USD", "commodity"),
        signal(7, "BTC/USD", "crypto"),
    ];
    let producer = producer(&cluster);
    let of = |numbers: &[u64]| numbers.iter().map(|number| uuid(*number)).collect::<Vec<_>>();
    let mut expired = signal(8, "BTC/USD", "crypto");
    expired["expires_at"] = json!("2026-09-30T02:03:15Z");
    send(&producer, &[expired]);
    produce(&producer, "BTC/USD", b"{\"id\":1}");
    send(&producer, &signals);
    let mut got = all.receive_many(&["signal"], 7);
    let btc: Vec<Received> = got.iter().filter(|message| message.symbol() == "BTC/USD").cloned().collect();
    assert_eq!(ids(&btc), of(&[1, 4, 7]));
    assert_contiguous(&btc, 1);
    assert_eq!((&btc[0]["of_tomorrow"], &btc[0]["t"]), (&json!({"a": [1, null]}), &json!("2026-09-30T02:03:14.331Z")));
    got.sort_by_key(|message| message["id"].to_string());
    assert_eq!(ids(&got), of(&[1, 2, 3, 4, 5, 6, 7]));
    let mut got = commodity.receive_many(&["signal"], 3);
    got.sort_by_key(|message| message["id"].to_string());
    assert_eq!(ids(&got), of(&[2, 3, 6]));
    // The same signal by two subscriptions comes once.
    assert_eq!(ids(&crypto.receive_many(&["signal"], 3)), of(&[1, 4, 7]));
    assert_eq!(ids(&free.receive_many(&["signal"], 3)), of(&[1, 4, 7]));
    let counted = |result: &str| metric(rig.program.admin, &format!("gateway_signals_total{{result=\"{result}\"}}"));
    assert_eq!((counted("expired"), counted("malformed"), counted("read")), (1.0, 1.0, 7.0));

    // Nothing of what was not theirs is on its way either: what comes next is what was sent next.
    let answer = crypto.subscribe(r#"{"action":"unsubscribe","signals":["*"]}"#);
    assert_eq!(answer["signals"], json!(["BTC/USD", "XAU/USD"]), "{}", answer.text);
    send(&producer, &[signal(9, "ETH/USD", "crypto"), signal(10, "BTC/USD", "crypto")]);
    assert_eq!(ids(&[crypto.receive_of(&["signal"])]), of(&[10]));
    let mut got = all.receive_many(&["signal"], 2);
    got.sort_by_key(|message| message["id"].to_string());
    assert_eq!(ids(&got), of(&[9, 10]));
}

#[test]
fn what_was_not_handed_on_is_read_again_after_a_kill() {
    if !is_here() {
        return;
    }
    let mut cluster = Cluster::start(1);
    cluster.create_topic(TOPIC, 1, &[]);
    let mut rig = Rig::start(&cluster.bootstrap());
    rig.await_reading();
    let producer = producer(&cluster);
    let subscribe = |rig: &Rig| {
        let mut client = rig.client("all");
        client.subscribe(r#"{"action":"subscribe","signals":["BTC/USD"]}"#);
        client
    };
    let mut client = subscribe(&rig);
    send(&producer, &[signal(1, "BTC/USD", "crypto")]);
    assert_eq!(ids(&[client.receive_of(&["signal"])]), [uuid(1)]);
    wait_until("its place to be committed", || committed(&cluster) == Offset::Offset(1));

    // Away from the start, and what is sent once it is back is read.
    cluster.kill(0);
    rig.start_again();
    assert!(!rig.reads());
    let mut client = subscribe(&rig);
    let trade = client.subscribe(r#"{"action":"subscribe","trades":["BTC/USD"]}"#);
    assert_eq!(trade["signals"], json!(["BTC/USD"]));
    client.receive_of(&["t"]);
    cluster.start_again(0);
    rig.await_reading();
    send(&producer, &[signal(2, "BTC/USD", "crypto")]);
    assert_eq!(ids(&[client.receive_of(&["signal"])]), [uuid(2)]);

    // What is sent while the gateway is down is for whoever is there when it is back.
    rig.program.signal(Signal::KILL);
    rig.program.end();
    send(&producer, &[signal(3, "BTC/USD", "crypto"), signal(4, "BTC/USD", "crypto")]);
    rig.program = run(&rig.files);
    wait_until("what was sent meanwhile", || {
        metric(rig.program.admin, "gateway_signals_total{result=\"read\"}") >= 2.0
    });
    let mut client = rig.client("all");
    let epoch = client.subscribe(r#"{"action":"subscribe","bars":["BTC/USD"]}"#).number("epoch");
    let since = format!(
        r#"{{"action":"subscribe","signals":["BTC/USD"],"since":{{"epoch":{epoch},"signals.crypto":{{"BTC/USD":0}}}}}}"#
    );
    client.subscribe(&since);
    let mut got = Vec::new();
    while got.last() != Some(&uuid(4)) {
        got.extend(ids(&[client.receive_of(&["signal"])]));
    }
    // The second may come again: its place need not have been committed before the kill.
    let new = got.strip_prefix(&[uuid(2)]).unwrap_or(&got);
    assert_eq!(new, [uuid(3), uuid(4)]);
}
