//! `gateway kafka`: whether the platform's Kafka is as this gateway needs it, and the platform's topics.

use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail};
use clap::Subcommand;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::ClientContext;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;

use super::block_on;
use crate::config::{Config, ConfigError};
use crate::platform::{kafka, topics};

/// How long to try to reach a broker.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long one question may take, since an attempt to connect may come first.
const QUESTION: Duration = Duration::from_secs(2);
/// How long Kafka may take to create the topics.
const CREATION: Duration = Duration::from_secs(60);

#[derive(Subcommand, Clone, Debug, PartialEq)]
pub enum Action {
    /// Connect, and say which brokers there are and whether the topics are that the gateway reads and writes
    Check,
    /// Create the platform's topics, with their partitions, retention and compression; those that are there stay as they are
    CreateTopics {
        /// Copies of each partition
        #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(i32).range(1..=32))]
        replication: i32,
    },
}

/// Remembers why there is no connection: the answer to a question says only that there is none.
#[derive(Clone, Default)]
struct Trouble(Arc<Mutex<Option<String>>>);

impl ClientContext for Trouble {
    fn error(&self, error: KafkaError, reason: &str) {
        // That all are away says less than why one is.
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::AllBrokersDown) {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.to_owned());
        }
    }
}

struct Connected {
    admin: AdminClient<Trouble>,
    metadata: Metadata,
}

/// # Errors
/// Where no broker answers, with what the last attempt failed of.
fn connect(client: &ClientConfig, brokers: &[String]) -> anyhow::Result<Connected> {
    let trouble = Trouble::default();
    let admin = AdminClient::from_config_and_context(client, trouble.clone())?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        match admin.inner().fetch_metadata(None, QUESTION) {
            Ok(metadata) => return Ok(Connected { admin, metadata }),
            Err(error) if Instant::now() >= deadline => {
                let why = trouble.0.lock().unwrap_or_else(PoisonError::into_inner).take();
                bail!("Kafka at {} is away: {}", brokers.join(", "), why.unwrap_or_else(|| error.to_string()));
            }
            Err(_) => {}
        }
    }
}

/// Does what is asked, and returns what is to be printed.
///
/// # Errors
/// [`ConfigError`] where no brokers are configured, or a file is wrong; others where Kafka is away or not as it should be.
pub fn kafka_command(config: &Config, action: &Action) -> anyhow::Result<String> {
    if !config.kafka.is_used() {
        return Err(ConfigError::of("kafka.brokers", "names none").into());
    }
    let client = kafka::client(&config.kafka)?;
    let connected = connect(&client, &config.kafka.brokers)?;
    match action {
        Action::Check => check(config, &connected.metadata),
        Action::CreateTopics { replication } => create_topics(config, &connected.admin, *replication),
    }
}

fn check(config: &Config, metadata: &Metadata) -> anyhow::Result<String> {
    let mut text = String::new();
    for broker in metadata.brokers() {
        writeln!(text, "broker  {} at {}:{}", broker.id(), broker.host(), broker.port())?;
    }
    let mut wrong = Vec::new();
    let topics = &config.kafka.topics;
    let of_rights = topics.of_rights().into_iter().filter(|_| config.entitlements.redis.is_used());
    let is_used = |key: &str| match key {
        "market_data_raw" => config.feed.reads_kafka(),
        _ => config.kafka.publish_market_data,
    };
    let of_market = topics.of_market_data().into_iter().filter(|(key, _)| is_used(key));
    let of_processing = topics.of_processing().into_iter().filter(|_| config.kafka.process_signals);
    for (_, name) in
        topics.of_audit().into_iter().chain(topics.of_signals()).chain(of_processing).chain(of_rights).chain(of_market)
    {
        let partitions = metadata.topics().iter().find(|topic| topic.name() == name).map(|topic| topic.partitions());
        match partitions {
            None => wrong.push(format!("{name} is missing")),
            Some(partitions) => {
                let led = partitions.iter().filter(|partition| partition.leader() >= 0).count();
                writeln!(text, "topic   {name}: {} partitions", partitions.len())?;
                if led < partitions.len() {
                    wrong.push(format!("{} partitions of {name} have no leader", partitions.len() - led));
                }
            }
        }
    }
    if wrong.is_empty() { Ok(text) } else { Err(anyhow!("{}", wrong.join("; "))) }
}

fn create_topics(config: &Config, admin: &AdminClient<Trouble>, replication: i32) -> anyhow::Result<String> {
    let topics = topics::of_the_platform(&config.kafka.topics);
    let settings: Vec<_> = topics.iter().map(topics::Topic::settings).collect();
    let wanted: Vec<NewTopic<'_>> = topics
        .iter()
        .zip(&settings)
        .map(|(topic, settings)| {
            let new = NewTopic::new(&topic.name, topic.partitions, TopicReplication::Fixed(replication));
            settings.iter().fold(new, |new, (name, value)| new.set(name, value))
        })
        .collect();
    let options = AdminOptions::new().request_timeout(Some(CREATION)).operation_timeout(Some(CREATION));
    let created = block_on(admin.create_topics(&wanted, &options))??;
    let (mut text, mut wrong) = (String::new(), Vec::new());
    for (topic, created) in topics.iter().zip(created) {
        match created {
            Ok(name) => writeln!(text, "created      {name}: {} partitions", topic.partitions)?,
            Err((name, RDKafkaErrorCode::TopicAlreadyExists)) => writeln!(text, "there before {name}")?,
            Err((name, error)) => wrong.push(format!("{name}: {error}")),
        }
    }
    if wrong.is_empty() { Ok(text) } else { Err(anyhow!("not created: {}", wrong.join("; "))) }
}
