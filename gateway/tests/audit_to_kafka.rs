//! What the audit tells reaches Kafka, once Kafka is there, and in full: also what was told while it was away, and by a
//! process that was killed meanwhile.

mod support;

use std::collections::HashMap;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rustix::process::Signal;
use serde_json::Value;
use support::kafka::{Cluster, PASSWORD, USER, is_here};
use support::program::{Program, spawn};
use support::{Client, Directory, fetch, metric, wait_until};

const TOPICS: [&str; 2] = ["user-events", "compliance-events"];

/// All records of both topics, by their ids: the topic, the key, and what they say.
struct Records {
    consumer: BaseConsumer,
    all: HashMap<String, (String, String, Value)>,
}

impl Records {
    fn of(mut client: ClientConfig) -> Records {
        client.set("group.id", "audit").set("auto.offset.reset", "earliest");
        let consumer: BaseConsumer = client.create().unwrap();
        consumer.subscribe(&TOPICS).unwrap();
        Records { consumer, all: HashMap::new() }
    }

    fn read(&mut self) {
        while let Some(record) = self.consumer.poll(Duration::from_millis(100)) {
            // An error is that of a broker which is away.
            let Ok(record) = record else { continue };
            let told: Value = serde_json::from_slice(record.payload().unwrap()).unwrap();
            let key = String::from_utf8(record.key().unwrap().to_vec()).unwrap();
            let id = told["id"].as_str().unwrap().to_owned();
            self.all.insert(id, (record.topic().to_owned(), key, told));
        }
    }

    /// How many there are of an event, once there are at least `count`.
    fn count(&mut self, event: &str, count: usize) -> usize {
        let mut found = 0;
        wait_until(&format!("{count} records of {event}"), || {
            self.read();
            found = self.all.values().filter(|(.., told)| told["event"] == event).count();
            found >= count
        });
        found
    }
}

fn config(files: &Directory, brokers: &str, more: &str) -> String {
    let spool = files.path().join("spool");
    let text = format!(
        "[audit]\nto = \"kafka\"\n[kafka]\nbrokers = [\"{brokers}\"]\nspool = \"{}\"\n{more}\n\
         [entitlements.sign_ins]\nattempts_max = 1000\n",
        spool.display()
    );
    files.write("gateway.toml", text)
}

#[track_caller]
fn start(config: &str) -> Program {
    spawn(&[("audit.to", "kafka")], &["--config", config])
}

fn stop(mut program: Program, signal: Signal) {
    program.signal(signal);
    program.end();
}

/// A demo user comes and goes.
fn visit(program: &Program) {
    drop(Client::signed_in(program.address, &program.users[1]).close());
}

fn warned(program: &Program) -> bool {
    let (status, body) = fetch(program.admin, "/readyz");
    assert_eq!(status, 200, "clients can do without Kafka: {body}");
    body.contains(r#""warnings":[{"check":"kafka","reason":"away for"#)
}

fn is_refused(program: &Program) {
    let refused = Client::upgrade(program.address, "/stream?token=nonsense", &[]).err().unwrap();
    assert_eq!(refused.status, 401);
}

#[test]
fn nothing_is_missing_though_kafka_was_away_and_the_gateway_killed() {
    if !is_here() {
        return;
    }
    let mut cluster = Cluster::start(1);
    TOPICS.iter().for_each(|topic| cluster.create_topic(topic, 3, &[]));
    let mut records = Records::of(cluster.client());
    let files = Directory::new();
    let config = config(&files, &cluster.bootstrap(), "");
    let program = start(&config);
    for _ in 0..5 {
        visit(&program);
        is_refused(&program);
    }
    assert_eq!((records.count("connected", 5), records.count("sign_in_refused", 5)), (5, 5));
    for (topic, key, told) in records.all.values() {
        let (expected_topic, expected_key) = match told["event"].as_str().unwrap() {
            "connected" => ("user-events", "demo-premium"),
            _ => ("compliance-events", "127.0.0.1"),
        };
        assert_eq!((topic.as_str(), key.as_str()), (expected_topic, expected_key), "{told}");
    }
    wait_until("Kafka to be up", || !warned(&program));
    assert_eq!(metric(program.admin, "gateway_kafka_up"), 1.0);

    // Away: clients notice nothing, and what is told waits, also beyond the end of the process.
    cluster.kill(0);
    for _ in 0..5 {
        visit(&program);
        is_refused(&program);
    }
    wait_until("Kafka to be away", || warned(&program));
    stop(program, Signal::KILL);
    let program = start(&config);
    is_refused(&program);
    assert!(warned(&program), "not there from the start");
    cluster.start_again(0);
    assert_eq!((records.count("connected", 10), records.count("sign_in_refused", 11)), (10, 11));
    wait_until("Kafka to be up", || !warned(&program));
    assert_eq!(metric(program.admin, "gateway_kafka_records_total{result=\"lost\"}"), 0.0);
    stop(program, Signal::TERM);
}

#[test]
fn over_tls_with_a_password() {
    if !is_here() {
        return;
    }
    let cluster = Cluster::start_secured(1);
    TOPICS.iter().for_each(|topic| cluster.create_topic(topic, 1, &[]));
    let files = Directory::new();
    let (ca, password) = (files.write("ca.crt", cluster.authority()), files.write("password", PASSWORD));
    let wrong = files.write("wrong", "another password");
    let login = |password: &str| {
        format!("security = \"sasl-tls\"\nusername = \"{USER}\"\npassword_file = \"{password}\"\nca_file = \"{ca}\"")
    };
    let refused = start(&config(&files, &cluster.bootstrap(), &login(&wrong)));
    is_refused(&refused);
    wait_until("Kafka to be away", || warned(&refused));
    stop(refused, Signal::TERM);
    // What the one could not deliver, the next does.
    let program = start(&config(&files, &cluster.bootstrap(), &login(&password)));
    assert_eq!(Records::of(cluster.client()).count("sign_in_refused", 1), 1);
    stop(program, Signal::TERM);
}
