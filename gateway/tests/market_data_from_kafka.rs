//! What other ingesters put into `market-data-raw` reaches clients as if it came from a venue, from the moment that the source
//! is up; what breaks the contract becomes dead letters; Kafka may go away and come back.

mod support;

use std::path::Path;

use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::Value;
use support::kafka::{Cluster, is_here};
use support::{Client, Directory, PATIENCE, Running, fetch, now_ns, start_from, wait_until};

const TOPIC: &str = "our.market-data-raw";
const UP: &str = r#"gateway_feed_up{source="kafka"}"#;

/// Another ingester.
struct Ingester(BaseProducer);

impl Ingester {
    fn of(cluster: &Cluster) -> Ingester {
        Ingester(cluster.client().set("acks", "all").set("compression.codec", "lz4").create().unwrap())
    }

    /// Puts a record into a partition, and waits until it is there.
    #[track_caller]
    fn put(&self, partition: i32, record: Option<&str>) {
        let mut message: BaseRecord<'_, str, str> = BaseRecord::to(TOPIC).partition(partition);
        message.payload = record;
        self.0.send(message).map_err(|(error, _)| error).unwrap();
        self.0.flush(PATIENCE).unwrap();
    }

    /// A tick of now.
    #[track_caller]
    fn tick(&self, partition: i32, symbol: &str, price: &str, more: &str) {
        let ms = now_ns() / 1_000_000;
        let tick = format!(r#"{{"symbol":"{symbol}","timestamp":{ms},"price":{price},"volume":100{more}}}"#);
        self.put(partition, Some(&tick));
    }
}

/// A gateway whose one source is the topic.
fn started(cluster: &Cluster, files: &Directory, source: &str) -> Running {
    let text = format!(
        "[feed]\nkind = \"live\"\n[[feed.sources]]\nvenue = \"kafka\"\n{source}\n\
         [kafka]\nbrokers = [\"{}\"]\n[kafka.topics]\nmarket_data_raw = \"{TOPIC}\"\n\
         [dead_letters]\nfile = \"{}\"\n",
        cluster.bootstrap(),
        letters(files)
    );
    start_from(Some(Path::new(&files.write("gateway.toml", text))), &[])
}

fn letters(files: &Directory) -> String {
    files.path().join("letters.jsonl").display().to_string()
}

fn subscribed(gateway: &Running) -> Client {
    let mut client = gateway.premium();
    client.subscribe(r#"{"action":"subscribe","trades":["*"],"quotes":["*"]}"#);
    client
}

/// Asserts that the next trade is this one.
#[track_caller]
fn trade(client: &mut Client, symbol: &str, price: &str) {
    let told = client.receive_of(&["t"]);
    let expected = (symbol, price, "100", &Value::from("KAFKA"));
    assert_eq!((told.symbol(), told.digits("p"), told.digits("s"), &told["x"]), expected, "{}", told.text);
}

/// The only feed's state, and its trouble.
fn state(gateway: &Running) -> (String, Value) {
    let (_, body) = fetch(gateway.admin, "/v1/feeds");
    let feed = &serde_json::from_str::<Value>(&body).unwrap()["feeds"][0];
    (feed["state"].as_str().unwrap().to_owned(), feed["trouble"].clone())
}

#[test]
fn records_reach_clients_and_bad_ones_are_dead_letters() {
    if !is_here() {
        return;
    }
    let cluster = Cluster::start(1);
    cluster.create_topic(TOPIC, 2, &[]);
    let ingester = Ingester::of(&cluster);
    ingester.tick(0, "AAPL", "1.00", "");
    let files = Directory::new();
    let gateway = started(&cluster, &files, "symbols = [\"AAPL\", \"CABLE=GBP/USD\"]");
    let mut client = subscribed(&gateway);
    gateway.await_metric(UP, |up| up == 1.0);

    // Not what was there before, and nobody else's symbols.
    ingester.tick(0, "MSFT", "300.00", "");
    ingester.tick(1, " aapl ", "134.1600", r#","bid":134.15,"ask":"134.17","bid_size":3,"source_provider":"other""#);
    trade(&mut client, "AAPL", "134.1600");
    let quote = client.receive_of(&["q"]);
    assert_eq!((quote.symbol(), quote.digits("bp"), quote.digits("ap")), ("AAPL", "134.15", "134.17"));
    ingester.tick(0, "CABLE", "1.25", "");
    trade(&mut client, "GBP/USD", "1.25");

    ingester.tick(0, "AAPL", "0", "");
    ingester.put(0, Some("no tick"));
    ingester.put(0, None);
    ingester.tick(0, "AAPL", "134.20", "");
    trade(&mut client, "AAPL", "134.20");
    gateway.await_metric(r#"gateway_dead_letters_total{result="written"}"#, |written| written == 3.0);
    let kept = std::fs::read_to_string(letters(&files)).unwrap();
    let kept: Vec<Value> = kept.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let reasons: Vec<_> = kept.iter().map(|letter| letter["reason"].as_str().unwrap()).collect();
    assert_eq!(reasons, ["price", "syntax", "truncated"]);
    assert_eq!((&kept[1]["source"], &kept[1]["frame"]), (&"KAFKA".into(), &"no tick".into()));

    // A partition that was not there at the start is read from its beginning.
    cluster.tool("org.apache.kafka.tools.TopicCommand", &["--alter", "--topic", TOPIC, "--partitions", "3"]);
    wait_until("a leader of the new partition", || cluster.leader(TOPIC, 2).is_some());
    Ingester::of(&cluster).tick(2, "AAPL", "134.30", "");
    trade(&mut client, "AAPL", "134.30");
}

#[test]
fn kafka_may_go_away_and_come_back() {
    if !is_here() {
        return;
    }
    let mut cluster = Cluster::start(1);
    let files = Directory::new();
    // Without a choice of symbols, whatever comes is taken.
    let gateway = started(&cluster, &files, "silence_timeout = \"2s\"");
    wait_until("the missing topic to be noticed", || {
        let (state, trouble) = state(&gateway);
        state == "down" && trouble.as_str().is_some_and(|trouble| trouble.contains(TOPIC))
    });
    cluster.create_topic(TOPIC, 2, &[]);
    // Stale, where that took longer than the silence.
    wait_until("the topic to be read", || state(&gateway).0 != "down");
    let mut client = subscribed(&gateway);
    Ingester::of(&cluster).tick(0, "BTC-USD", "64000.5", "");
    trade(&mut client, "BTC/USD", "64000.5");
    wait_until("silence to be noticed", || state(&gateway) == ("stale".to_owned(), "silent for 2s".into()));

    cluster.kill(0);
    wait_until("Kafka to be missed", || state(&gateway).0 == "down");
    assert!(state(&gateway).1.is_string(), "no reason is told");
    assert_eq!(fetch(gateway.admin, "/readyz").0, 503);
    cluster.start_again(0);
    wait_until("the topic to be read again", || state(&gateway).0 != "down");
    Ingester::of(&cluster).tick(1, "ETH-USD", "3000.25", "");
    trade(&mut client, "ETH/USD", "3000.25");
    assert_ne!(state(&gateway).0, "down");
    gateway.drain();
}
