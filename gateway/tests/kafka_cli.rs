//! `gateway kafka` against a real broker: the topics are as the platform has them, in the eyes of Kafka's own tools.

mod support;

use std::process::Output;

use support::Directory;
use support::kafka::{Cluster, is_here};
use support::program::run;

#[track_caller]
fn printed(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[track_caller]
fn failed(output: &Output, code: i32, part: &str) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{error}");
    assert!(error.starts_with("gateway: ") && error.contains(part) && error.lines().count() == 1, "{error}");
}

#[test]
fn topics_are_created_once_and_found() {
    if !is_here() {
        return;
    }
    let cluster = Cluster::start(1);
    let files = Directory::new();
    let brokers = format!("[kafka]\nbrokers = [\"{}\"]\n", cluster.bootstrap());
    let config = files.write("gateway.toml", format!("{brokers}[kafka.topics]\nuser_events = \"our.user-events\"\n"));
    let gateway = |arguments: &[&str]| run(&[], &[&["kafka"], arguments, &["--config", &config]].concat());
    failed(&gateway(&["check"]), 1, "our.user-events is missing; compliance-events is missing");
    // One node cannot have three copies.
    failed(&gateway(&["create-topics"]), 1, "market-data-raw");
    let created = printed(&gateway(&["create-topics", "--replication", "1"]));
    assert_eq!(created.lines().filter(|line| line.starts_with("created ")).count(), 20, "{created}");
    let again = printed(&gateway(&["create-topics", "--replication", "1"]));
    assert_eq!(again.lines().filter(|line| line.starts_with("there before ")).count(), 20, "{again}");
    let checked = printed(&gateway(&["check"]));
    let expected =
        ["broker  1 at 127.0.0.1:", "topic   our.user-events: 24 partitions", "compliance-events: 6 partitions"];
    assert!(expected.iter().all(|part| checked.contains(part)), "{checked}");
    let described = cluster.tool("org.apache.kafka.tools.TopicCommand", &["--describe"]);
    for (topic, count, settings) in [
        ("our.user-events", 24, ["retention.ms=2592000000", "compression.type=snappy"]),
        ("signal-stats", 12, ["cleanup.policy=compact", "compression.type=producer"]),
        ("insider-trading-events", 4, ["retention.ms=31536000000", "compression.type=gzip"]),
    ] {
        let line = described.lines().find(|line| line.starts_with(&format!("Topic: {topic}\t"))).unwrap();
        assert!(line.contains(&format!("PartitionCount: {count}\t")), "{line}");
        assert!(settings.iter().all(|setting| line.contains(setting)), "{line}");
    }
}

#[test]
fn a_cluster_that_cannot_be_reached_says_why() {
    let files = Directory::new();
    let config = files.write("gateway.toml", "[kafka]\nbrokers = [\"127.0.0.1:1\"]\n");
    failed(&run(&[], &["kafka", "check", "--config", &config]), 1, "Kafka at 127.0.0.1:1 is away: ");
    failed(&run(&[], &["kafka", "check"]), 64, "kafka.brokers");
}
