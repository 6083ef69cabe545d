//! The reader of signals: from the platform's topic to the sequencer. A thread of its own.
//!
//! Every node that serves clients reads all partitions, so it takes part in no group; it only keeps its place under a group's
//! name that is its own (`kafka.client_id` and `kafka.node`). A record's place is committed once the sequencer has handed it
//! to all shards: what was read and not handed on when the process ends is read again by the next. At the very first start it
//! begins with what is new.
//!
//! Queue: [`QUEUE`] signals of at most [`SIGNAL_BYTES_MAX`] bytes, filled here, emptied by the sequencer. Full: the reader
//! waits, Kafka's client stops fetching, and the records stay with the broker.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, SendTimeoutError, Sender, bounded};
use fanout::{Body, Update};
use feed_handlers::doorbell::Doorbell;
use feed_handlers::source::Stop;
use protocol::{InstrumentTable, SourceId, TickFlags};
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::signal::{SIGNAL_BYTES_MAX, Signal};
use crate::context::wall_ns;
use crate::metrics::{Counter, Gauge, ThreadMetrics};
use crate::platform::kafka::Reach;

/// Signals that may wait for the sequencer.
const QUEUE: usize = 1_024;
/// How long to wait for a record before looking at everything else.
const IDLE: Duration = Duration::from_millis(100);
/// How long a question to the cluster may take.
const QUESTION: Duration = Duration::from_secs(2);
/// How long after a failure it is asked again.
const AGAIN: Duration = Duration::from_millis(500);
/// How often places are committed.
const COMMIT: Duration = Duration::from_secs(1);
/// How often the topic is looked at for new partitions.
const LOOK: Duration = Duration::from_secs(30);

/// The sequencer's end of the queue.
#[derive(Clone, Debug)]
pub(crate) struct SignalQueue {
    receiver: Receiver<Update>,
    /// How many were handed to all shards.
    handed: Arc<AtomicU64>,
}

impl SignalQueue {
    pub(crate) fn take(&self) -> Option<Update> {
        self.receiver.try_recv().ok()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.receiver.is_empty()
    }

    /// So many more of those that were taken are with all shards.
    pub(crate) fn hand_on(&self, count: u64) {
        // Release: who sees the count may commit what it counts.
        self.handed.fetch_add(count, Ordering::Release);
    }
}

/// The reader's end.
#[derive(Debug)]
pub(crate) struct SignalInlet {
    sender: Sender<Update>,
    handed: Arc<AtomicU64>,
}

pub(crate) fn queue() -> (SignalInlet, SignalQueue) {
    let (sender, receiver) = bounded(QUEUE);
    let handed = Arc::new(AtomicU64::new(0));
    (SignalInlet { sender, handed: handed.clone() }, SignalQueue { receiver, handed })
}

/// Tells [`Reach`] what Kafka's client finds.
struct Watching(Arc<Reach>);

impl ClientContext for Watching {
    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
            self.0.away(reason);
        }
        tracing::debug!(%error, reason, "Kafka");
    }
}

impl ConsumerContext for Watching {}

/// A record that the sequencer has, or has had: its place among all that were given to it, and its successor in Kafka.
#[derive(Clone, Copy, Debug)]
struct Given {
    count: u64,
    partition: i32,
    next: i64,
}

pub(crate) struct Reader {
    consumer: BaseConsumer<Watching>,
    topic: String,
    inlet: SignalInlet,
    doorbell: Arc<Doorbell>,
    instruments: Arc<InstrumentTable>,
    reach: Arc<Reach>,
    stop: Arc<Stop>,
    metrics: Arc<ThreadMetrics>,
    /// Partitions that are read.
    partitions: i32,
    given: u64,
    waiting: VecDeque<Given>,
    /// By partition, where the next process is to begin, as far as that is not committed.
    done: BTreeMap<i32, i64>,
}

/// What a reader is made of.
pub(crate) struct ReaderParts {
    pub(crate) client: ClientConfig,
    pub(crate) topic: String,
    pub(crate) group: String,
    pub(crate) inlet: SignalInlet,
    pub(crate) doorbell: Arc<Doorbell>,
    pub(crate) instruments: Arc<InstrumentTable>,
    pub(crate) reach: Arc<Reach>,
    pub(crate) stop: Arc<Stop>,
    pub(crate) metrics: Arc<ThreadMetrics>,
}

impl Reader {
    /// # Errors
    /// What Kafka's client finds wrong with its settings.
    pub(crate) fn new(parts: ReaderParts) -> Result<Reader, KafkaError> {
        let ReaderParts { mut client, topic, group, inlet, doorbell, instruments, reach, stop, metrics } = parts;
        client.set("group.id", group).set("enable.auto.commit", "false").set("enable.auto.offset.store", "false");
        // A place that is gone by retention: what is still there, all of it.
        client.set("auto.offset.reset", "earliest").set("isolation.level", "read_committed");
        // 16 MiB at most are fetched ahead.
        client.set("queued.max.messages.kbytes", "16384").set("fetch.message.max.bytes", "1048576");
        let consumer = client.create_with_context(Watching(reach.clone()))?;
        Ok(Reader {
            consumer,
            topic,
            inlet,
            doorbell,
            instruments,
            reach,
            stop,
            metrics,
            partitions: 0,
            given: 0,
            waiting: VecDeque::new(),
            done: BTreeMap::new(),
        })
    }

    /// Starts the thread, which ends with the stop.
    ///
    /// # Errors
    /// The system's, where there is no thread to be had.
    pub(crate) fn spawn(mut self) -> io::Result<JoinHandle<()>> {
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || self.run())
    }

    fn run(&mut self) {
        let (mut look_at, mut commit_at) = (Instant::now(), Instant::now() + COMMIT);
        while !self.stop.is_stopped() {
            if Instant::now() >= look_at {
                let looked = self.look();
                look_at = Instant::now() + if looked.is_ok() { LOOK } else { AGAIN };
                match looked {
                    Ok(()) => self.reach.up(),
                    Err(error) => self.reach.away(error),
                }
            }
            if self.partitions == 0 {
                self.stop.wait_until(look_at);
                continue;
            }
            if let Err(error) = self.read() {
                // Kafka's client goes on trying by itself, and says so more often than anybody would read.
                tracing::debug!(%error, "signals cannot be read");
                self.reach.away(error);
                look_at = look_at.min(Instant::now() + AGAIN);
            }
            if Instant::now() >= commit_at {
                self.commit(CommitMode::Async);
                commit_at = Instant::now() + COMMIT;
            }
        }
        self.commit(CommitMode::Sync);
    }

    /// Begins to read partitions that are not read yet, where the process before has left them.
    fn look(&mut self) -> Result<(), KafkaError> {
        let metadata = self.consumer.fetch_metadata(Some(&self.topic), QUESTION)?;
        let topic = metadata.topics().iter().find(|topic| topic.name() == self.topic);
        let unknown = KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopicOrPartition);
        let count = topic.map(|topic| topic.partitions().len() as i32).filter(|count| *count > 0).ok_or(unknown)?;
        if count <= self.partitions {
            return Ok(());
        }
        let mut asked = TopicPartitionList::new();
        asked.add_partition_range(&self.topic, self.partitions, count - 1);
        let committed = self.consumer.committed_offsets(asked, QUESTION)?;
        let mut places = TopicPartitionList::new();
        for element in committed.elements() {
            let partition = element.partition();
            let place = match element.offset() {
                Offset::Offset(offset) => offset,
                // Read for the first time: what is new, of a topic that was there; all, of partitions that came later.
                _ => {
                    let (low, high) = self.consumer.fetch_watermarks(&self.topic, partition, QUESTION)?;
                    let place = if self.partitions == 0 { high } else { low };
                    self.done.insert(partition, place);
                    place
                }
            };
            places.add_partition_offset(&self.topic, partition, Offset::Offset(place))?;
        }
        self.consumer.incremental_assign(&places)?;
        tracing::info!(topic = self.topic, from = self.partitions, to = count - 1, "reads partitions");
        self.partitions = count;
        // So that a process which ends before its first signal has a place all the same.
        self.commit(CommitMode::Sync);
        Ok(())
    }

    /// Takes what has come, for a while at most.
    fn read(&mut self) -> Result<(), KafkaError> {
        let mut wait = IDLE;
        for _ in 0..QUEUE {
            let (partition, next, update) = match self.consumer.poll(wait) {
                None => return Ok(()),
                Some(Err(error)) => return Err(error),
                Some(Ok(record)) => (record.partition(), record.offset() + 1, self.update_of(&record)),
            };
            self.reach.up();
            wait = Duration::ZERO;
            if let Some(update) = update {
                if !self.give(update) {
                    return Ok(());
                }
                self.given += 1;
            }
            // What is not for the clients is done with as soon as what came before it is.
            self.waiting.push_back(Given { count: self.given, partition, next });
        }
        Ok(())
    }

    /// What a record says; `None` where it is of no use, which is counted.
    fn update_of(&self, record: &BorrowedMessage<'_>) -> Option<Update> {
        let refused = |counter, why: &dyn std::fmt::Display| {
            self.metrics.add(counter, 1);
            tracing::warn!(partition = record.partition(), offset = record.offset(), %why, "a signal is not handed on");
        };
        let now = wall_ns();
        let signal = match Signal::parse(record.payload().unwrap_or_default()) {
            Ok(signal) => signal,
            Err(error) => {
                refused(Counter::SignalsMalformed, &error);
                return None;
            }
        };
        if signal.has_expired(now) {
            self.metrics.add(Counter::SignalsExpired, 1);
            return None;
        }
        let document = match signal.document() {
            Ok(document) => document,
            Err(error) => {
                refused(Counter::SignalsMalformed, &error);
                return None;
            }
        };
        let instrument = match self.instruments.learn(&signal.symbol) {
            Ok(instrument) => instrument,
            Err(error) => {
                refused(Counter::SignalsWithoutRoom, &error);
                return None;
            }
        };
        Some(Update {
            instrument,
            kind: signal.category.signals(),
            source: SourceId(0),
            ts_event: signal.generated_at,
            ts_recv: now,
            flags: TickFlags::NONE,
            body: Body::Document { document: Arc::new(document), expires_at: signal.expires_at },
        })
    }

    /// Gives the sequencer an update. False where the process ends first.
    fn give(&self, mut update: Update) -> bool {
        loop {
            match self.inlet.sender.send_timeout(update, IDLE) {
                Ok(()) => {
                    self.metrics.add(Counter::SignalsRead, 1);
                    self.doorbell.ring();
                    return true;
                }
                Err(SendTimeoutError::Timeout(back)) if !self.stop.is_stopped() => {
                    self.doorbell.ring();
                    update = back;
                }
                Err(_) => return false,
            }
        }
    }

    /// Notes in Kafka what the shards have.
    fn commit(&mut self, mode: CommitMode) {
        // Acquire: pairs with `SignalQueue::hand_on`.
        let handed = self.inlet.handed.load(Ordering::Acquire);
        while let Some(given) = self.waiting.pop_front_if(|given| given.count <= handed) {
            self.done.insert(given.partition, given.next);
        }
        self.metrics.set(Gauge::SignalsUncommitted, self.waiting.len() as u64);
        if self.done.is_empty() {
            return;
        }
        let mut places = TopicPartitionList::new();
        for (partition, next) in &self.done {
            if let Err(error) = places.add_partition_offset(&self.topic, *partition, Offset::Offset(*next)) {
                tracing::error!(%error, partition, next, "a place cannot be noted");
            }
        }
        match self.consumer.commit(&places, mode) {
            Ok(()) => self.done.clear(),
            Err(error) => tracing::warn!(%error, "places are not committed: they are committed again, later"),
        }
    }
}

const _: () = assert!(SIGNAL_BYTES_MAX <= 1 << 20, "a record is fetched at a time");
