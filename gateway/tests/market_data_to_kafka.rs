//! What clients get in real time goes to `market-data-processed` as well, letter for letter; and whether Kafka is there is no
//! matter to them.

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use serde_json::Value;
use support::kafka::{Cluster, is_here};
use support::{Client, Running, Venue, start, wait_until};

const TOPIC: &str = "market-data-processed";
const PRODUCT: &str = "BTC-USD";
const DELIVERED: &str = r#"gateway_market_data_records_total{result="delivered"}"#;

fn started(venue: &Venue, brokers: &str) -> Running {
    let brokers = format!("[\"{brokers}\"]");
    let kafka = [("kafka.brokers", brokers.as_str()), ("kafka.publish_market_data", "true")];
    start(&[&venue.settings(r#"["BTC-USD"]"#)[..], &kafka].concat())
}

fn subscribed(gateway: &Running) -> Client {
    let mut client = gateway.premium();
    let lists = r#""trades":["*","BTC/USD@COINBASE"],"bars":["*"],"bars.5s":["*"],"indicators.5s":["*"]"#;
    client.subscribe(&format!(r#"{{"action":"subscribe",{lists}}}"#));
    client
}

/// All records of the topic, once `wanted` are among them: their keys and what they say.
fn records(cluster: &Cluster, wanted: &BTreeSet<String>) -> Vec<(String, String)> {
    let mut client = cluster.client();
    let consumer: BaseConsumer = client.set("group.id", "test").set("auto.offset.reset", "earliest").create().unwrap();
    consumer.subscribe(&[TOPIC]).unwrap();
    let mut found = Vec::new();
    wait_until("the records", || {
        if let Some(Ok(record)) = consumer.poll(Duration::from_millis(100)) {
            let text = |bytes: Option<&[u8]>| String::from_utf8(bytes.unwrap().to_vec()).unwrap();
            found.push((text(record.key()), text(record.payload())));
        }
        wanted.iter().all(|wanted| found.iter().any(|(_, told)| told == wanted))
    });
    found
}

#[test]
fn what_clients_get_goes_to_kafka() {
    if !is_here() {
        return;
    }
    let mut cluster = Cluster::start(1);
    cluster.create_topic(TOPIC, 3, &[]);
    let venue = Venue::bind();
    let gateway = started(&venue, &cluster.bootstrap());
    let mut line = venue.accept();
    let mut client = subscribed(&gateway);
    line.quote(PRODUCT, "99.90", "100.10");
    for ms in [10, 20, 120_000, 120_010] {
        line.trade_at(PRODUCT, "100.00", ms);
    }
    // The minute and its first five seconds are over by the third.
    let mut told = BTreeSet::new();
    let count = |told: &BTreeSet<String>, kind: &str| told.iter().filter(|text| text.contains(kind)).count();
    while count(&told, r#""T":"t""#) < 4 || count(&told, r#""T":"b""#) < 2 || count(&told, r#""T":"indicators""#) < 1 {
        let message = client.receive_of(&["t", "b", "indicators"]);
        if !message.symbol().contains('@') {
            told.insert(message.text);
        }
    }
    let records = records(&cluster, &told);
    assert!(records.iter().all(|(key, _)| key == "BTC/USD"), "{records:?}");
    let kinds: BTreeSet<String> = records
        .iter()
        .map(|(_, told)| serde_json::from_str::<Value>(told).unwrap()["T"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(kinds.iter().map(String::as_str).collect::<Vec<_>>(), ["b", "indicators", "q", "t"]);
    let trades = records.iter().filter(|(_, told)| told.contains(r#""T":"t""#)).count();
    assert_eq!(trades, 4, "the stream of one source is not for the topic");
    gateway.await_metric(DELIVERED, |delivered| delivered >= told.len() as f64);

    // Kafka is away, which clients do not notice, and then it goes on.
    let mut trade = |ms: u64, price: &str| {
        line.trade_at(PRODUCT, price, ms);
        loop {
            let trade = client.receive_of(&["t"]);
            if !trade.symbol().contains('@') && trade.digits("p") == price {
                return trade.text;
            }
        }
    };
    cluster.kill(0);
    trade(120_020, "100.01");
    cluster.start_again(0);
    let after = trade(120_030, "100.02");
    self::records(&cluster, &BTreeSet::from([after]));
    gateway.drain();
}

#[test]
fn clients_do_not_notice_that_kafka_is_away() {
    let venue = Venue::bind();
    // Nobody listens there.
    let gateway = started(&venue, "127.0.0.1:1");
    let mut line = venue.accept();
    let mut client = subscribed(&gateway);
    line.trades(PRODUCT, 1000);
    let mut last = 0;
    while last < 1000 {
        let trade = client.receive_of(&["t"]);
        if !trade.symbol().contains('@') {
            last = trade.number("i");
        }
    }
    assert_eq!(gateway.metric(DELIVERED), 0.0);
    gateway.drain();
}
