//! The brokers that tests start: one and three nodes take records and give them back, a node that was killed or
//! paused comes back, and clients come in over TLS with a password. All by the Kafka client as it is compiled here.

mod support;

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, DeliveryResult, Message};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use support::kafka::{Cluster, is_here};
use support::{PATIENCE, wait_until};

const TOPIC: &str = "raw-signals";

/// Says how long a start took, to who asks with `--nocapture`.
fn timed<T>(what: &str, start: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let started = start();
    println!("{what}: {:.1} s", began.elapsed().as_secs_f64());
    started
}

/// Notes what became of each record.
#[derive(Default)]
struct Deliveries {
    failed: Mutex<Vec<KafkaError>>,
}

impl ClientContext for Deliveries {
    fn error(&self, error: KafkaError, reason: &str) {
        // Of a node that is away, most of them; whoever looks for a failure wants to see them.
        println!("{error}: {reason}");
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            self.failed.lock().unwrap().push(error.clone());
        }
    }
}

/// A client that gives up on a node which does not answer after 5 s instead of a minute.
fn client(cluster: &Cluster) -> ClientConfig {
    let mut client = cluster.client();
    client.set("socket.timeout.ms", "5000");
    client
}

/// Produces records of these numbers as the platform does, and waits until the cluster has them.
#[track_caller]
fn produce(cluster: &Cluster, codec: &str, numbers: std::ops::Range<u32>) {
    let mut config = client(cluster);
    config.set("enable.idempotence", "true").set("acks", "all").set("compression.codec", codec);
    let producer = ThreadedProducer::from_config_and_context(&config, Deliveries::default()).unwrap();
    for number in numbers {
        // Long and alike enough that every codec has something to do.
        let (key, payload) = (format!("SYMBOL{}", number % 7), format!("{number} {}", codec.repeat(200)));
        producer.send(BaseRecord::to(TOPIC).key(&key).payload(&payload)).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(PATIENCE).unwrap();
    assert_eq!(*producer.context().failed.lock().unwrap(), []);
}

/// A member of a group that reads from the beginning.
fn consumer(cluster: &Cluster, group: &str) -> BaseConsumer {
    let mut config = client(cluster);
    config
        .set("group.id", group)
        .set("session.timeout.ms", "3000")
        .set("auto.offset.reset", "earliest")
        .set("check.crcs", "true");
    let consumer: BaseConsumer = config.create().unwrap();
    consumer.subscribe(&[TOPIC]).unwrap();
    consumer
}

/// Consumes until every number was seen.
#[track_caller]
fn consume(consumer: &BaseConsumer, mut numbers: BTreeSet<u32>) {
    let number = |record: BorrowedMessage<'_>| {
        let text = record.payload_view::<str>().unwrap().unwrap();
        text.split(' ').next().unwrap().parse::<u32>().unwrap()
    };
    wait_until("the records", || {
        // An error is that of a node which is away; the next poll goes on.
        if let Some(Ok(record)) = consumer.poll(Duration::from_millis(100)) {
            numbers.remove(&number(record));
        }
        numbers.is_empty()
    });
}

#[test]
fn the_client_has_what_the_platform_asks_for() {
    let built_in = ClientConfig::new().create_native_config().unwrap().get("builtin.features").unwrap();
    for feature in ["gzip", "snappy", "lz4", "zstd", "ssl", "sasl_scram"] {
        assert!(built_in.split(',').any(|known| known == feature), "{feature} is not among {built_in}");
    }
}

#[test]
fn one_node_gives_back_what_each_codec_has_packed() {
    if !is_here() {
        return;
    }
    let cluster = timed("one node", || Cluster::start(1));
    cluster.create_topic(TOPIC, 3, &[("compression.type", "producer")]);
    let codecs = ["none", "gzip", "snappy", "lz4", "zstd"];
    for (codec, first) in codecs.iter().zip((0..).step_by(100)) {
        produce(&cluster, codec, first..first + 100);
    }
    consume(&consumer(&cluster, "codecs"), (0..500).collect());
}

#[test]
fn a_node_that_was_killed_has_what_it_had() {
    if !is_here() {
        return;
    }
    let mut cluster = Cluster::start(1);
    cluster.create_topic(TOPIC, 3, &[]);
    produce(&cluster, "lz4", 0..100);
    let reader = consumer(&cluster, "before");
    consume(&reader, (0..100).collect());
    cluster.kill(0);
    timed("one node again", || cluster.start_again(0));
    produce(&cluster, "lz4", 100..200);
    // Who was there before goes on, and who is new begins at the beginning.
    consume(&reader, (100..200).collect());
    consume(&consumer(&cluster, "after"), (0..200).collect());
}

#[test]
fn three_nodes_do_without_any_one_of_them() {
    if !is_here() {
        return;
    }
    let mut cluster = timed("three nodes", || Cluster::start(3));
    cluster.create_topic(TOPIC, 6, &[]);
    produce(&cluster, "lz4", 0..100);
    let reader = consumer(&cluster, "reader");
    consume(&reader, (0..100).collect());

    let leader = cluster.leader(TOPIC, 0).unwrap();
    cluster.kill(leader);
    produce(&cluster, "lz4", 100..200);
    consume(&reader, (100..200).collect());
    assert_ne!(cluster.leader(TOPIC, 0), Some(leader));
    timed("one node of three again", || cluster.start_again(leader));

    let leader = cluster.leader(TOPIC, 0).unwrap();
    cluster.pause(leader);
    produce(&cluster, "lz4", 200..300);
    consume(&reader, (200..300).collect());
    cluster.resume(leader);
    cluster.wait_until_whole();
    consume(&consumer(&cluster, "after"), (0..300).collect());
}

/// Notes what a client complains of.
#[derive(Default)]
struct Complaints(Mutex<Vec<(KafkaError, String)>>);

impl ClientContext for Complaints {
    fn error(&self, error: KafkaError, reason: &str) {
        self.0.lock().unwrap().push((error, reason.to_owned()));
    }
}

impl ConsumerContext for Complaints {}

/// Asks with one setting that is wrong, until the client complains in these words.
#[track_caller]
fn refused(cluster: &Cluster, key: &str, value: &str, code: RDKafkaErrorCode, words: &str) {
    let mut config = cluster.client();
    config.set(key, value);
    let client = BaseConsumer::from_config_and_context(&config, Complaints::default()).unwrap();
    wait_until(words, || {
        assert!(client.fetch_metadata(None, Duration::from_millis(100)).is_err(), "{key} is wrong, and it came in");
        client.poll(Duration::ZERO);
        let complaints = client.context().0.lock().unwrap();
        complaints.iter().any(|(error, reason)| error.rdkafka_error_code() == Some(code) && reason.contains(words))
    });
}

#[test]
fn clients_come_in_over_tls_with_a_password() {
    if !is_here() {
        return;
    }
    let cluster = timed("one node with TLS", || Cluster::start_secured(1));
    cluster.create_topic(TOPIC, 3, &[]);
    produce(&cluster, "lz4", 0..100);
    consume(&consumer(&cluster, "secured"), (0..100).collect());

    refused(&cluster, "sasl.password", "another", RDKafkaErrorCode::Authentication, "SCRAM-SHA-512");
    let stranger = support::tls::Pems::new().certificate;
    refused(&cluster, "ssl.ca.pem", &stranger, RDKafkaErrorCode::SSL, "certificate");
}

#[test]
fn its_own_tools_work() {
    if !is_here() {
        return;
    }
    let cluster = Cluster::start(1);
    cluster.create_topic(TOPIC, 3, &[("retention.ms", "604800000")]);
    let told = cluster.tool("org.apache.kafka.tools.TopicCommand", &["--describe", "--topic", TOPIC]);
    assert!(told.contains("PartitionCount: 3") && told.contains("retention.ms=604800000"), "{told}");
}
