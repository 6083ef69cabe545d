//! Raw signals become signals for the clients, statistics and dead letters, each once, also where the gateway is killed in
//! between.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message, OwnedMessage};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rustix::process::Signal;
use serde_json::{Value, json};
use support::kafka::{Cluster, is_here};
use support::program::{Program, spawn};
use support::{Client, Directory, fetch, wait_until};

const RAW: &str = "raw-signals";
const TRADING: &str = "trading-signals";
const STATISTICS: &str = "signal-stats";
const DEAD: &str = "gateway-dead-letter";

fn cluster() -> Cluster {
    let cluster = Cluster::start(1);
    for topic in [RAW, TRADING, STATISTICS, DEAD] {
        let settings: &[_] = if topic == STATISTICS { &[("cleanup.policy", "compact")] } else { &[] };
        cluster.create_topic(topic, 3, settings);
    }
    cluster
}

fn start(files: &Directory, brokers: &str) -> Program {
    let config = format!("[kafka]\nbrokers = [\"{brokers}\"]\nnode = \"node-1\"\n");
    spawn(&[], &["--config", &files.write("gateway.toml", config)])
}

fn await_processing(program: &Program) {
    wait_until("signals to be processed", || !fetch(program.admin, "/readyz").1.contains("\"signal"));
}

/// All committed records of some topics.
struct Records {
    consumer: BaseConsumer,
    all: Vec<OwnedMessage>,
}

impl Records {
    fn of(cluster: &Cluster, topics: &[&str]) -> Records {
        let mut client = cluster.client();
        client.set("group.id", format!("test-{}", topics[0])).set("auto.offset.reset", "earliest");
        let consumer: BaseConsumer = client.set("isolation.level", "read_committed").create().unwrap();
        consumer.subscribe(topics).unwrap();
        Records { consumer, all: Vec::new() }
    }

    /// Once there are so many.
    fn await_count(&mut self, count: usize) -> &[OwnedMessage] {
        wait_until(&format!("{count} records"), || {
            while let Some(record) = self.consumer.poll(Duration::from_millis(100)) {
                // An error is that of a broker which is away.
                self.all.extend(record.ok().map(|record| record.detach()));
            }
            self.all.len() >= count
        });
        &self.all
    }
}

fn producer(cluster: &Cluster) -> BaseProducer {
    cluster.client().set("acks", "all").set("enable.idempotence", "true").create().unwrap()
}

fn uuid(number: u64) -> String {
    format!("00000000-0000-4000-8000-{number:012x}")
}

fn signal(number: u64, symbol: &str, confidence: f64) -> Value {
    json!({
        "id": uuid(number), "source_id": "model-1", "source_type": "ai_model", "symbol": symbol, "category": "crypto",
        "signal_type": if number.is_multiple_of(2) { "buy" } else { "sell" }, "confidence_level": confidence,
        "generated_at": "2026-09-30T02:03:14Z",
    })
}

fn produce(producer: &BaseProducer, key: &str, record: &[u8]) {
    let mut record = BaseRecord::to(RAW).key(key).payload(record);
    while let Err((_, back)) = producer.send(record) {
        producer.poll(Duration::from_millis(10));
        record = back;
    }
}

fn value(record: &OwnedMessage) -> Value {
    serde_json::from_slice(record.payload().unwrap()).unwrap()
}

/// The newest statistics of each symbol: count, buys, sells, and the highest confidence.
fn statistics(records: &[OwnedMessage]) -> BTreeMap<String, (u64, u64, u64, f64)> {
    let of = |record: &OwnedMessage| {
        let value = value(record);
        let number = |key: &str| value[key].as_u64().unwrap();
        let symbol = value["symbol"].as_str().unwrap().to_owned();
        (symbol, (number("count"), number("buys"), number("sells"), value["max_confidence"].as_f64().unwrap()))
    };
    records.iter().map(of).collect()
}

#[test]
fn each_signal_is_joined_counted_and_passed_on_or_not() {
    if !is_here() {
        return;
    }
    let cluster = cluster();
    let files = Directory::new();
    let program = start(&files, &cluster.bootstrap());
    await_processing(&program);
    let mut client = Client::signed_in(program.address, &program.users[2]);
    client.subscribe(r#"{"action":"subscribe","signals":["*"],"quotes":["BTC/USD"],"trades":["BTC/USD"]}"#);
    // So that there is something to join with.
    client.receive_of(&["q"]);
    client.receive_of(&["t"]);
    let producer = producer(&cluster);
    let mut expired = signal(9, "BTC/USD", 99.0);
    expired["expires_at"] = json!("2026-09-30T02:03:15Z");
    for signal in [
        signal(1, "btc/usd ", 80.0),
        signal(2, "BTC/USD", 75.0),
        signal(1, "BTC/USD", 80.0),
        expired,
        signal(3, "NEW/USD", 75.5),
        signal(4, "BTC/USD", 90.0),
    ] {
        produce(&producer, "BTC/USD", signal.to_string().as_bytes());
    }
    let malformed: [&[u8]; 3] = [b"\xff\x00not JSON", b"{}", b"{\"id\":\"7\",\"symbol\":\"BTC/USD\"}"];
    malformed.iter().for_each(|record| produce(&producer, "somebody", record));
    producer.flush(Duration::from_secs(30)).unwrap();

    let got = client.receive_many(&["signal"], 3);
    let ids: Vec<&str> = got.iter().map(|message| message["id"].as_str().unwrap()).collect();
    assert_eq!(ids, [uuid(1), uuid(3), uuid(4)], "in order, the partition's");
    let joined = &got[0]["market_data"];
    assert_eq!((got[0].symbol(), &joined["status"]), ("BTC/USD", &json!("found")), "{}", got[0].text);
    let price = |key: &str| joined[key].as_str().unwrap().parse::<f64>().unwrap();
    assert!((price("ask") - price("bid") - price("spread")).abs() < 1e-6 && price("last") > 0.0, "{joined}");
    assert!(joined["age_ms"].is_u64());
    assert_eq!(got[1]["market_data"], json!({"status": "missing"}));

    let mut letters = Records::of(&cluster, &[DEAD]);
    let mut found = BTreeSet::new();
    for letter in letters.await_count(3) {
        let header = |name: &str| {
            let header = letter.headers().unwrap().iter().find(|header| header.key == name).unwrap();
            String::from_utf8(header.value.unwrap().to_vec()).unwrap()
        };
        assert_eq!(
            (letter.key(), header("source.topic"), header("source.key")),
            (Some(RAW.as_bytes()), RAW.into(), "somebody".into())
        );
        found.insert((letter.payload().unwrap().to_vec(), header("reason")));
    }
    let reasons = ["not a JSON object", "id is missing", "id is not a UUID"];
    let expected = malformed.iter().zip(reasons).map(|(record, reason)| (record.to_vec(), reason.to_owned()));
    assert_eq!(found, expected.collect());
    let mut records = Records::of(&cluster, &[STATISTICS]);
    wait_until("the statistics", || {
        let found = statistics(records.await_count(1));
        found.get("BTC/USD") == Some(&(3, 2, 1, 90.0)) && found.get("NEW/USD") == Some(&(1, 0, 1, 75.5))
    });
}

#[test]
fn every_signal_counts_once_though_the_gateway_is_killed_again_and_again() {
    if !is_here() {
        return;
    }
    const COUNT: u64 = 6_000;
    const KILLS: u64 = 4;
    let cluster = cluster();
    let files = Directory::new();
    let producer = producer(&cluster);
    let mut program = start(&files, &cluster.bootstrap());
    await_processing(&program);
    let mut trading = Records::of(&cluster, &[TRADING]);
    for part in 0..=KILLS {
        for number in (0..COUNT).filter(|number| number % (KILLS + 1) == part) {
            let symbol = format!("S{}/USD", number % 7);
            // Each comes twice, the second time perhaps to another run of the gateway.
            let record = signal(number, &symbol, 80.0).to_string();
            (0..2).for_each(|_| produce(&producer, &symbol, record.as_bytes()));
        }
        producer.flush(Duration::from_secs(30)).unwrap();
        if part < KILLS {
            // In the middle of it.
            trading.await_count(trading.all.len() + 1);
            program.signal(Signal::KILL);
            program.end();
            program = start(&files, &cluster.bootstrap());
        }
    }
    trading.await_count(COUNT as usize);
    // A last one tells that nothing comes after.
    produce(&producer, "END/USD", signal(COUNT, "END/USD", 80.0).to_string().as_bytes());
    let end = |records: &[OwnedMessage]| records.iter().any(|record| value(record)["symbol"] == "END/USD");
    wait_until("the last one", || {
        producer.poll(Duration::ZERO);
        end(trading.await_count(1))
    });
    let ids: Vec<Value> = trading.all.iter().map(|record| value(record)["id"].clone()).collect();
    let distinct: BTreeSet<&str> = ids.iter().filter_map(Value::as_str).collect();
    assert_eq!((ids.len(), distinct.len()), (COUNT as usize + 1, COUNT as usize + 1));
    let mut records = Records::of(&cluster, &[STATISTICS]);
    let mut counted = 0;
    wait_until("the statistics", || {
        let found = statistics(records.await_count(1));
        counted = found.values().map(|(count, ..)| count).sum();
        counted > COUNT
    });
    assert_eq!(counted, COUNT + 1);
}
