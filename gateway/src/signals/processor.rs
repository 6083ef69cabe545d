//! The processing of signals: raw ones of models and analysts in, those for the clients and the statistics out. A thread of its
//! own, which shares the partitions of `raw-signals` with the other nodes' as a group.
//!
//! Exactly once: what comes of a batch of records and the places behind them are written in one transaction, so either all of it
//! counts or the batch is done again. What is remembered (statistics, ids) is read from Kafka whenever partitions change hands or a
//! transaction fails: `signal-stats` from its beginning, and the ids of what stands before the place in each partition.
//!
//! Bound: [`BATCH`] records, and 16 MiB that Kafka's client fetches ahead; more stays with the broker.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use feed_handlers::source::Stop;
use protocol::InstrumentTable;
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Message, OwnedHeaders, OwnedMessage};
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::market::LatestMarket;
use super::repeats::{REMEMBERED, Repeats};
use super::signal::Signal;
use super::statistics::StatisticsTable;
use crate::context::wall_ns;
use crate::metrics::{Counter, ThreadMetrics};
use crate::platform::dead_letter_topic::headers;
use crate::platform::kafka::Reach;

/// Records of one transaction.
const BATCH: usize = 1_000;
/// How long to wait for a record before looking at everything else.
const IDLE: Duration = Duration::from_millis(100);
/// How long a question to the cluster, or a step of a transaction, may take.
const QUESTION: Duration = Duration::from_secs(10);
/// How long after a failure it is tried again.
const AGAIN: Duration = Duration::from_millis(500);

/// What the processing is made of.
pub(crate) struct ProcessorParts {
    pub(crate) client: ClientConfig,
    pub(crate) topics: SignalTopics,
    pub(crate) group: String,
    /// Of this node alone.
    pub(crate) transactional_id: String,
    /// Only signals of more confidence go to the clients.
    pub(crate) confidence_above: f64,
    pub(crate) market: Arc<LatestMarket>,
    pub(crate) instruments: Arc<InstrumentTable>,
    pub(crate) reach: Arc<Reach>,
    pub(crate) stop: Arc<Stop>,
    pub(crate) metrics: Arc<ThreadMetrics>,
}

/// Their names.
#[derive(Clone, Debug)]
pub(crate) struct SignalTopics {
    pub(crate) raw: String,
    pub(crate) trading: String,
    pub(crate) statistics: String,
    pub(crate) dead_letter: String,
}

/// Notes when partitions change hands.
struct Watching {
    reach: Arc<Reach>,
    reassigned: AtomicBool,
}

impl ClientContext for Watching {
    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
            self.reach.away(reason);
        }
        tracing::debug!(%error, reason, "Kafka, for raw signals");
    }
}

impl ConsumerContext for Watching {
    fn post_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Assign(partitions) = rebalance {
            tracing::info!(partitions = partitions.count(), "processes signals of other partitions");
        }
        // Release: pairs with the look after each poll, on the same thread as a rule.
        self.reassigned.store(true, Ordering::Release);
    }
}

/// For what reads to an end, which Kafka's client calls an error.
struct Quiet;

impl ClientContext for Quiet {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "Kafka, for what is remembered of signals");
    }
}

impl ConsumerContext for Quiet {}

pub(crate) struct Processor(ProcessorParts);

impl Processor {
    pub(crate) fn new(parts: ProcessorParts) -> Processor {
        Processor(parts)
    }

    /// Starts the thread, which ends with the stop.
    ///
    /// # Errors
    /// The system's, where there is no thread to be had.
    pub(crate) fn spawn(self) -> io::Result<JoinHandle<()>> {
        std::thread::Builder::new().name("signal-processing".to_owned()).spawn(move || {
            let Processor(parts) = self;
            while !parts.stop.is_stopped() {
                let worked = Work::begin(&parts).and_then(|mut work| work.run());
                if let Err(error) = worked {
                    tracing::warn!(%error, "the processing of signals begins again");
                    parts.reach.away(error);
                    parts.stop.wait_until(Instant::now() + AGAIN);
                }
            }
        })
    }
}

/// One membership of the group, with its producer.
struct Work<'a> {
    parts: &'a ProcessorParts,
    consumer: BaseConsumer<Watching>,
    producer: BaseProducer<DefaultProducerContext>,
    statistics: StatisticsTable,
    repeats: Repeats,
}

/// What came of one batch.
#[derive(Default)]
struct Batch {
    /// By partition, the place behind what was processed.
    places: BTreeMap<i32, i64>,
    /// Symbols whose statistics are others.
    folded: BTreeSet<String>,
    counts: Vec<Counter>,
}

impl<'a> Work<'a> {
    fn begin(parts: &'a ProcessorParts) -> Result<Work<'a>, KafkaError> {
        let mut reading = parts.client.clone();
        reading.set("group.id", &parts.group).set("enable.auto.commit", "false").set("auto.offset.reset", "earliest");
        reading.set("partition.assignment.strategy", "cooperative-sticky").set("isolation.level", "read_committed");
        reading.set("session.timeout.ms", "6000").set("queued.max.messages.kbytes", "16384");
        let context = Watching { reach: parts.reach.clone(), reassigned: AtomicBool::new(false) };
        let mut writing = parts.client.clone();
        writing.set("transactional.id", &parts.transactional_id).set("transaction.timeout.ms", "10000");
        writing.set("compression.codec", "lz4").set("linger.ms", "0").set("partitioner", "murmur2_random");
        // Before it takes part in the group: the cluster may not be there, or not have the topics of transactions yet.
        let producer: BaseProducer = writing.create()?;
        producer.init_transactions(QUESTION)?;
        let consumer: BaseConsumer<Watching> = reading.create_with_context(context)?;
        consumer.subscribe(&[&parts.topics.raw])?;
        parts.reach.up();
        let repeats = Repeats::new(REMEMBERED);
        Ok(Work { parts, consumer, producer, statistics: StatisticsTable::default(), repeats })
    }

    fn run(&mut self) -> Result<(), KafkaError> {
        while !self.parts.stop.is_stopped() {
            let Some(first) = self.poll(IDLE)? else { continue };
            self.producer.begin_transaction()?;
            let done = self.process(first).and_then(|batch| match batch {
                Some(batch) => self.commit(batch).map(Some),
                None => Ok(None),
            });
            let batch = match done {
                Ok(batch) => batch,
                Err(error) if is_fatal(&error) => return Err(error),
                Err(error) => {
                    tracing::warn!(%error, "signals are processed again");
                    None
                }
            };
            let Some(batch) = batch else {
                self.producer.abort_transaction(QUESTION)?;
                self.go_back()?;
                continue;
            };
            self.parts.reach.up();
            batch.counts.into_iter().for_each(|counter| self.parts.metrics.add(counter, 1));
        }
        Ok(())
    }

    /// The next record. Where partitions have changed hands, what is remembered is made anew first, and nothing is returned.
    fn poll(&mut self, wait: Duration) -> Result<Option<OwnedMessage>, KafkaError> {
        let polled = self.consumer.poll(wait).transpose();
        let record = match polled {
            Ok(record) => record.map(|record| record.detach()),
            Err(error) if is_fatal(&error) => return Err(error),
            Err(error) => {
                tracing::debug!(%error, "raw signals cannot be read");
                self.parts.reach.away(error);
                None
            }
        };
        // Acquire: pairs with `post_rebalance`.
        if self.consumer.context().reassigned.swap(false, Ordering::AcqRel) {
            self.go_back()?;
            return Ok(None);
        }
        Ok(record)
    }

    /// Processes a record and those that wait behind it. `None` where partitions changed hands meanwhile: nothing of it counts.
    fn process(&mut self, first: OwnedMessage) -> Result<Option<Batch>, KafkaError> {
        let mut batch = Batch::default();
        let mut next = Some(first);
        while let Some(record) = next {
            self.process_one(&record, &mut batch)?;
            batch.places.insert(record.partition(), record.offset() + 1);
            if batch.counts.len() >= BATCH {
                break;
            }
            let polled = self.consumer.poll(Duration::ZERO).transpose();
            if self.consumer.context().reassigned.load(Ordering::Acquire) {
                return Ok(None);
            }
            next = polled.ok().flatten().map(|record| record.detach());
        }
        for symbol in &batch.folded {
            if let Some(statistics) = self.statistics.of(symbol) {
                let record = serde_json::to_vec(statistics).unwrap_or_default();
                send(&self.producer, &self.parts.topics.statistics, symbol.as_bytes(), Some(&record), None)?;
            }
        }
        Ok(Some(batch))
    }

    fn process_one(&mut self, record: &OwnedMessage, batch: &mut Batch) -> Result<(), KafkaError> {
        let ProcessorParts { topics, confidence_above, market, instruments, .. } = self.parts;
        let now = wall_ns();
        let signal = match Signal::parse(record.payload().unwrap_or_default()) {
            Ok(signal) => signal,
            Err(error) => {
                let headers = headers(record, &error.to_string());
                let topic = &topics.dead_letter;
                let kept = send(&self.producer, topic, topics.raw.as_bytes(), record.payload(), Some(headers));
                batch.counts.push(match kept {
                    Ok(()) => Counter::RawSignalsDeadLetter,
                    Err(error) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::MessageSizeTooLarge) => {
                        tracing::error!(%error, partition = record.partition(), offset = record.offset(), "a dead letter is lost");
                        Counter::RawSignalsLost
                    }
                    Err(error) => return Err(error),
                });
                return Ok(());
            }
        };
        if signal.has_expired(now) {
            batch.counts.push(Counter::RawSignalsExpired);
            return Ok(());
        }
        if !self.repeats.is_new(signal.id) {
            batch.counts.push(Counter::RawSignalsRepeated);
            return Ok(());
        }
        self.statistics.fold(&signal);
        batch.folded.insert(signal.symbol.clone());
        if signal.confidence <= *confidence_above {
            batch.counts.push(Counter::RawSignalsUnsure);
            return Ok(());
        }
        let joined = market.join(instruments.find(&signal.symbol), now);
        let enriched = signal.enriched(joined);
        send(&self.producer, &topics.trading, signal.symbol.as_bytes(), Some(enriched.as_bytes()), None)?;
        batch.counts.push(Counter::RawSignalsPublished);
        Ok(())
    }

    fn commit(&mut self, batch: Batch) -> Result<Batch, KafkaError> {
        let mut places = TopicPartitionList::new();
        for (partition, next) in &batch.places {
            places.add_partition_offset(&self.parts.topics.raw, *partition, Offset::Offset(*next))?;
        }
        let Some(group) = self.consumer.group_metadata() else {
            return Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::UnknownMemberId));
        };
        self.producer.send_offsets_to_transaction(&places, &group, QUESTION)?;
        self.producer.commit_transaction(QUESTION)?;
        Ok(batch)
    }

    /// Goes back to what counts: the committed places, and what is remembered up to there.
    fn go_back(&mut self) -> Result<(), KafkaError> {
        self.consumer.context().reassigned.store(false, Ordering::Release);
        let raw = &self.parts.topics.raw;
        self.statistics = StatisticsTable::default();
        self.repeats = Repeats::new(REMEMBERED);
        let assigned = self.consumer.assignment()?;
        if assigned.count() == 0 {
            return Ok(());
        }
        let committed = self.consumer.committed_offsets(assigned, QUESTION)?;
        let (mut places, mut ids) = (TopicPartitionList::new(), BTreeMap::new());
        let share = (REMEMBERED / committed.count()) as i64;
        for element in committed.elements() {
            let partition = element.partition();
            let (low, _) = self.consumer.fetch_watermarks(raw, partition, QUESTION)?;
            let place = match element.offset() {
                Offset::Offset(offset) => offset.max(low),
                _ => low,
            };
            places.add_partition_offset(raw, partition, Offset::Offset(place))?;
            if place > low {
                ids.insert(partition, ((place - share).max(low), place));
            }
        }
        self.consumer.seek_partitions(places, QUESTION)?;
        let repeats = &mut self.repeats;
        self.parts.read(raw, &ids, &mut |record| {
            if let Ok(signal) = Signal::parse(record) {
                repeats.is_new(signal.id);
            }
        })?;
        let mut all = BTreeMap::new();
        let topic = &self.parts.topics.statistics;
        let metadata = self.consumer.fetch_metadata(Some(topic), QUESTION)?;
        for partition in metadata.topics().iter().flat_map(|topic| topic.partitions()) {
            let (low, high) = self.consumer.fetch_watermarks(topic, partition.id(), QUESTION)?;
            if high > low {
                all.insert(partition.id(), (low, high));
            }
        }
        let statistics = &mut self.statistics;
        self.parts.read(topic, &all, &mut |record| {
            if let Err(error) = statistics.restore(record) {
                tracing::warn!(%error, "a record of statistics is left out");
            }
        })
    }
}

impl ProcessorParts {
    /// Reads ranges of a topic's partitions: from the first place up to before the second, as far as it is committed.
    fn read(
        &self,
        topic: &str,
        ranges: &BTreeMap<i32, (i64, i64)>,
        take: &mut dyn FnMut(&[u8]),
    ) -> Result<(), KafkaError> {
        if ranges.is_empty() {
            return Ok(());
        }
        let mut client = self.client.clone();
        // It takes part in no group, and Kafka's client wants a name all the same.
        client.set("group.id", &self.group).set("enable.auto.commit", "false").set("enable.partition.eof", "true");
        client.set("isolation.level", "read_committed").set("auto.offset.reset", "earliest");
        let reader: BaseConsumer<Quiet> = client.create_with_context(Quiet)?;
        let mut places = TopicPartitionList::new();
        for (partition, (from, _)) in ranges {
            places.add_partition_offset(topic, *partition, Offset::Offset(*from))?;
        }
        reader.assign(&places)?;
        let mut left: BTreeSet<i32> = ranges.keys().copied().collect();
        let deadline = Instant::now() + 6 * QUESTION;
        while !left.is_empty() && !self.stop.is_stopped() {
            match reader.poll(IDLE) {
                Some(Ok(record)) => {
                    let end = ranges.get(&record.partition()).map_or(0, |(_, end)| *end);
                    if record.offset() < end {
                        take(record.payload().unwrap_or_default());
                    }
                    if record.offset() + 1 >= end {
                        left.remove(&record.partition());
                    }
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    left.remove(&partition);
                }
                Some(Err(error)) => tracing::debug!(%error, topic, "cannot be read yet"),
                None => {}
            }
            if Instant::now() >= deadline {
                return Err(KafkaError::MessageConsumption(RDKafkaErrorCode::OperationTimedOut));
            }
        }
        Ok(())
    }
}

/// Gives Kafka's client a record, once there is room in its queue.
fn send(
    producer: &BaseProducer,
    topic: &str,
    key: &[u8],
    payload: Option<&[u8]>,
    headers: Option<OwnedHeaders>,
) -> Result<(), KafkaError> {
    let mut record = BaseRecord::<[u8], [u8]>::to(topic).key(key);
    record.payload = payload;
    record.headers = headers;
    let deadline = Instant::now() + QUESTION;
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) if Instant::now() < deadline => {
                producer.poll(Duration::from_millis(10));
                record = back;
            }
            Err((error, _)) => return Err(error),
        }
    }
}

/// Whether neither consumer nor producer can go on.
fn is_fatal(error: &KafkaError) -> bool {
    let code = error.rdkafka_error_code();
    let fatal = matches!(error, KafkaError::Transaction(error) if error.is_fatal());
    fatal || matches!(code, Some(RDKafkaErrorCode::Fatal | RDKafkaErrorCode::Fenced))
}
