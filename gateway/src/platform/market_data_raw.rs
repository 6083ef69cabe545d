//! The topic `market-data-raw` as a source: what the platform's other ingesters have read.
//!
//! A thread of its own, `feed-kafka`, reads all partitions from their ends on, as every node of the gateway does: old ticks
//! are of no use to anybody, so nothing is committed, and no group is joined. Partitions that the topic gets later are read
//! from their beginnings. Where the brokers were away for a short while it goes on where it was; after a long one, at the
//! ends again.
//!
//! What waits in memory to be taken is bounded by [`QUEUED_KIB`]. Deliberately absent: what a record says, which is the
//! business of [`feed_handlers::source::Records`].

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use feed_handlers::feed::Feed;
use feed_handlers::source::{FeedStatus, RecordFeed, Records, Stop};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

/// How long to wait for a record before the next look at the clock and at the end of the process.
const POLL: Duration = Duration::from_millis(100);
/// How often the brokers are asked for the topic's partitions.
const LOOK: Duration = Duration::from_secs(5);
/// The same, while they do not answer.
const AGAIN: Duration = Duration::from_millis(500);
/// How long a question to them may take.
const QUESTION: Duration = Duration::from_secs(1);
/// After so long without an answer, what came meanwhile is left out: it would come late, and all at once.
const AWAY_MAX: Duration = Duration::from_secs(60);
/// What librdkafka fetches ahead, KiB: a second of 100,000 records of 160 bytes.
const QUEUED_KIB: &str = "16384";

/// The topic, checked and ready to be read.
pub(crate) struct MarketDataRaw {
    consumer: BaseConsumer,
    topic: String,
    records: Records,
}

impl MarketDataRaw {
    /// A reader of the topic, for clients that come in like this.
    ///
    /// # Errors
    /// What Kafka's client finds wrong with its settings.
    pub(crate) fn new(client: &ClientConfig, topic: &str, records: Records) -> Result<MarketDataRaw, KafkaError> {
        let mut client = client.clone();
        // librdkafka wants the name of a group, though there is none where partitions are assigned by hand.
        let name = client.get("client.id").unwrap_or("signal-gateway").to_owned();
        client.set("group.id", name).set("enable.auto.commit", "false").set("enable.auto.offset.store", "false");
        // Where the topic was made anew.
        client.set("auto.offset.reset", "latest");
        // Full, it would pause for a second else.
        client.set("queued.max.messages.kbytes", QUEUED_KIB).set("fetch.queue.backoff.ms", "10");
        client.set("fetch.error.backoff.ms", "100");
        Ok(MarketDataRaw { consumer: client.create()?, topic: topic.to_owned(), records })
    }

    pub(crate) fn status(&self) -> Arc<FeedStatus> {
        self.records.status()
    }

    /// Starts the thread, which ends after `stop`.
    ///
    /// # Errors
    /// The system's, where there is no thread to be had.
    pub(crate) fn spawn(self, feed: Feed, stop: Arc<Stop>) -> io::Result<JoinHandle<()>> {
        std::thread::Builder::new().name("feed-kafka".to_owned()).spawn(move || {
            let MarketDataRaw { consumer, topic, records } = self;
            let records = records.into_feed(feed, &topic);
            Reader { consumer, topic, records, followed: BTreeSet::new(), away: None }.run(&stop);
        })
    }
}

/// What the thread owns.
struct Reader {
    consumer: BaseConsumer,
    topic: String,
    records: RecordFeed,
    /// The partitions that are read.
    followed: BTreeSet<i32>,
    /// Since when the brokers do not answer.
    away: Option<Instant>,
}

impl Reader {
    fn run(mut self, stop: &Stop) {
        let mut look = Instant::now();
        while !stop.is_stopped() {
            if Instant::now() >= look {
                let wait = self.look();
                look = Instant::now() + wait;
            }
            match self.consumer.poll(POLL) {
                // Without a value it is no price tick, and refused like any other.
                Some(Ok(record)) => self.records.record(record.payload().unwrap_or_default()),
                Some(Err(error)) => {
                    tracing::debug!(%error, "Kafka");
                    if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
                        self.lost(&error.to_string());
                        look = Instant::now() + AGAIN;
                    }
                }
                None => self.records.idle(),
            }
        }
    }

    /// Sees to it that all partitions are read; returns how long to wait until the next time.
    fn look(&mut self) -> Duration {
        match self.follow() {
            Ok(()) => {
                self.away = None;
                self.records.answered();
                LOOK
            }
            Err(why) => {
                self.lost(&why);
                AGAIN
            }
        }
    }

    fn lost(&mut self, why: &str) {
        self.records.down(why);
        if self.away.get_or_insert_with(Instant::now).elapsed() < AWAY_MAX || self.followed.is_empty() {
            return;
        }
        match self.consumer.unassign() {
            Ok(()) => self.followed.clear(),
            Err(error) => tracing::warn!(%error, "what Kafka has kept will come late"),
        }
    }

    /// Reads those partitions that are not read yet.
    fn follow(&mut self) -> Result<(), String> {
        let metadata = self.consumer.fetch_metadata(Some(&self.topic), QUESTION).map_err(|e| e.to_string())?;
        let topic = metadata.topics().first().ok_or_else(|| format!("no word of the topic {}", self.topic))?;
        if let Some(error) = topic.error() {
            return Err(format!("the topic {}: {}", self.topic, RDKafkaErrorCode::from(error)));
        }
        let mut list = TopicPartitionList::new();
        for partition in topic.partitions().iter().filter(|partition| !self.followed.contains(&partition.id())) {
            let offset = if !self.followed.is_empty() {
                Offset::Beginning
            } else if partition.leader() < 0 {
                // Nobody knows where its end is before it has a leader.
                Offset::End
            } else {
                // Asked for here, so that nothing is missed from the moment that the source is up.
                let ends = self.consumer.fetch_watermarks(&self.topic, partition.id(), QUESTION);
                Offset::Offset(ends.map_err(|error| format!("the end of partition {}: {error}", partition.id()))?.1)
            };
            list.add_partition_offset(&self.topic, partition.id(), offset).map_err(|e| e.to_string())?;
        }
        if list.count() > 0 {
            self.consumer.incremental_assign(&list).map_err(|e| e.to_string())?;
            self.followed.extend(list.elements().iter().map(|element| element.partition()));
            tracing::info!(topic = self.topic, partitions = self.followed.len(), "the topic is read");
        }
        if self.followed.is_empty() { Err(format!("the topic {} has no partitions", self.topic)) } else { Ok(()) }
    }
}
