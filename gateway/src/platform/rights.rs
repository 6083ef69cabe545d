//! Changes of users' rights: from Kafka into the entitlement store in Redis, which tells all gateways.
//!
//! A thread of its own, `kafka-rights`, with one consumer; the gateways of a fleet are one group, so that each change is taken by
//! one of them. `events` reads what a record says, `fold` makes the new record of it.
//!
//! **Invariant**: an offset is committed only after Redis has what the record says, or the topic of dead letters the record.
//! While either is away the partitions are paused and the record waits, as long as it takes. It may come again, then: what is
//! not newer than what Redis knows of its row changes nothing.

mod events;
mod fold;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use entitlements::{ChangeError, Health, Redis, Store, StoreError};
use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{Message, OwnedMessage};
use rdkafka::topic_partition_list::TopicPartitionList;

use self::events::{Event, Kind, decode};
use super::dead_letter_topic::{DeadLetterTopic, NotKept};
use super::kafka::{self, Reach};
use crate::config::{self, ConfigError};
use crate::metrics::{Counter, ThreadMetrics};

/// How long to wait for a record before the next look at everything else.
const IDLE: Duration = Duration::from_millis(100);
/// Between two attempts while something is away.
const AGAIN: Duration = Duration::from_millis(50);
/// How often offsets are committed, at most.
const COMMIT: Duration = Duration::from_secs(1);
/// How long a question to the cluster may take, and how often it is asked while nothing is known of it.
const QUESTION: Duration = Duration::from_secs(1);
/// How long Kafka has for the last commit when the process ends.
const LAST: Duration = Duration::from_secs(3);

/// What the consumer tells of itself.
struct Group {
    reach: Arc<Reach>,
    /// Whether more was handed on than a commit has been asked for.
    uncommitted: AtomicBool,
    /// Commits that have no answer yet.
    commits: AtomicI64,
}

// Relaxed, in these: the consumer's own thread alone looks, and nothing stands behind them.

impl Group {
    fn commit(&self, consumer: &BaseConsumer<Group>) {
        if !self.uncommitted.swap(false, Ordering::Relaxed) {
            return;
        }
        match consumer.commit_consumer_state(CommitMode::Async) {
            Ok(()) => drop(self.commits.fetch_add(1, Ordering::Relaxed)),
            Err(error) => self.not_committed(&error),
        }
    }

    fn not_committed(&self, error: &KafkaError) {
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::NoOffset) {
            tracing::debug!(%error, "offsets are not committed yet");
            self.uncommitted.store(true, Ordering::Relaxed);
        }
    }
}

impl ClientContext for Group {
    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
            self.reach.away(reason);
        }
        tracing::debug!(%error, reason, "Kafka, for rights");
    }
}

impl ConsumerContext for Group {
    /// What is given up is committed first, so that whoever gets it goes on from there.
    fn pre_rebalance(&self, consumer: &BaseConsumer<Group>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Revoke(_) = rebalance {
            self.commit(consumer);
        }
    }

    /// What was paused when it was given up last is not so any more.
    fn post_rebalance(&self, consumer: &BaseConsumer<Group>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Assign(partitions) = rebalance
            && let Err(error) = consumer.resume(partitions)
        {
            tracing::debug!(%error, "new partitions are not resumed");
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, _: &TopicPartitionList) {
        self.commits.fetch_sub(1, Ordering::Relaxed);
        match result {
            Ok(()) => self.reach.up(),
            Err(error) => self.not_committed(&error),
        }
    }
}

/// The consumer, and what it has given beyond what is being worked on.
struct Intake {
    consumer: BaseConsumer<Group>,
    /// Records that came although their partitions were to be paused: a handful at most, since they are paused at each look.
    early: VecDeque<OwnedMessage>,
    is_paused: bool,
    stop: Arc<AtomicBool>,
    committed: Instant,
    looked: Option<Instant>,
    complaint: Option<String>,
}

impl Intake {
    fn is_stopped(&self) -> bool {
        // Relaxed: nothing stands behind it.
        self.stop.load(Ordering::Relaxed)
    }

    fn poll(&mut self, timeout: Duration) -> Option<OwnedMessage> {
        match self.consumer.poll(timeout)? {
            Ok(record) => {
                self.consumer.context().reach.up();
                self.complaint = None;
                Some(record.detach())
            }
            Err(error) => {
                let complaint = Some(error.to_string());
                if self.complaint != complaint {
                    tracing::warn!(%error, "changes of rights cannot be read from Kafka");
                    self.complaint = complaint;
                }
                None
            }
        }
    }

    /// The next record, where one comes soon.
    fn next(&mut self) -> Option<OwnedMessage> {
        if let Some(record) = self.early.pop_front() {
            return Some(record);
        }
        self.set_paused(false);
        let record = self.poll(IDLE);
        if record.is_none() {
            self.look();
        }
        if record.is_none() || self.committed.elapsed() >= COMMIT {
            self.consumer.context().commit(&self.consumer);
            self.committed = Instant::now();
        }
        record
    }

    /// Waits a moment, in which no more records come and the group sees that this member lives. False once it is to stop.
    fn hold_on(&mut self) -> bool {
        self.is_paused = false;
        self.set_paused(true);
        if let Some(record) = self.poll(AGAIN) {
            self.early.push_back(record);
        }
        !self.is_stopped()
    }

    fn set_paused(&mut self, paused: bool) {
        if self.is_paused == paused {
            return;
        }
        let set = self.consumer.assignment().and_then(|all| match paused {
            true => self.consumer.pause(&all),
            false => self.consumer.resume(&all),
        });
        match set {
            Ok(()) => self.is_paused = paused,
            Err(error) => tracing::debug!(%error, paused, "partitions are not paused or resumed"),
        }
    }

    /// Whether Kafka is there, as long as that is not known.
    fn look(&mut self) {
        let reach = &self.consumer.context().reach;
        if reach.is_up() || self.looked.is_some_and(|looked| looked.elapsed() < QUESTION) {
            return;
        }
        match self.consumer.client().fetch_metadata(None, QUESTION) {
            Ok(_) => reach.up(),
            Err(error) => reach.away(error),
        }
        self.looked = Some(Instant::now());
    }

    /// The record has been handed on.
    fn handed_on(&self, record: &OwnedMessage) {
        match self.consumer.store_offset(record.topic(), record.partition(), record.offset()) {
            Ok(()) => self.consumer.context().uncommitted.store(true, Ordering::Relaxed),
            // Another gateway has its partition by now, and finds it done.
            Err(error) => tracing::debug!(%error, "an offset is not kept"),
        }
    }

    /// Commits what was handed on, and waits until Kafka has it.
    fn finish(&mut self) {
        let group = self.consumer.context().clone();
        group.commit(&self.consumer);
        let deadline = Instant::now() + LAST;
        while group.commits.load(Ordering::Relaxed) > 0 && Instant::now() < deadline {
            self.hold_on();
        }
    }
}

/// Why a change is not in Redis.
#[derive(Debug, thiserror::Error)]
enum NotTaken {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Change(#[from] ChangeError),
}

/// The process ends before the record could be handed on.
struct Stopped;

/// Takes changes of rights from Kafka into Redis.
pub(crate) struct Rights {
    intake: Intake,
    kinds: [(String, Kind); 4],
    letters: DeadLetterTopic,
    store: Arc<Redis>,
    runtime: tokio::runtime::Runtime,
    metrics: Arc<ThreadMetrics>,
}

impl Rights {
    /// Becomes a member of the group.
    ///
    /// # Errors
    /// [`ConfigError`] for what the configuration has wrong; others where the system fails.
    pub(crate) fn open(
        config: &config::Kafka,
        store: Arc<Redis>,
        reach: Arc<Reach>,
        metrics: Arc<ThreadMetrics>,
    ) -> anyhow::Result<Rights> {
        let wrong = |error: KafkaError| ConfigError::of("kafka", error);
        let client = kafka::client(config)?;
        let letters = DeadLetterTopic::new(&client, &config.topics.dead_letter).map_err(wrong)?;
        let mut client = client;
        client.set("group.id", config.rights_group()).set("group.protocol", "classic");
        client.set("partition.assignment.strategy", "cooperative-sticky").set("auto.offset.reset", "earliest");
        client.set("enable.auto.commit", "false").set("enable.auto.offset.store", "false");
        // Another gateway goes on after 6 s, the least that brokers take by default, with what a dead one had.
        client.set("session.timeout.ms", "6000").set("heartbeat.interval.ms", "2000");
        // A topic that is created later is found soon.
        client.set("topic.metadata.refresh.interval.ms", "10000");
        let group = Group { reach, uncommitted: AtomicBool::new(false), commits: AtomicI64::new(0) };
        let consumer: BaseConsumer<Group> = client.create_with_context(group).map_err(wrong)?;
        let topics = &config.topics;
        let kinds = [
            (topics.payment_events.clone(), Kind::Payments),
            (topics.user_subscriptions.clone(), Kind::Subscriptions),
            (topics.signal_subscriptions.clone(), Kind::Signals),
            (topics.users.clone(), Kind::Users),
        ];
        let names: Vec<&str> = kinds.iter().map(|(name, _)| name.as_str()).collect();
        consumer.subscribe(&names).map_err(wrong)?;
        let intake = Intake {
            consumer,
            early: VecDeque::new(),
            is_paused: false,
            stop: Arc::default(),
            committed: Instant::now(),
            looked: None,
            complaint: None,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        Ok(Rights { intake, kinds, letters, store, runtime: runtime.context("no runtime for rights")?, metrics })
    }

    /// Starts the thread.
    ///
    /// # Errors
    /// The system's, where there is no thread to be had.
    pub(crate) fn spawn(self) -> io::Result<RightsThread> {
        let stop = self.intake.stop.clone();
        let thread = std::thread::Builder::new().name("kafka-rights".to_owned()).spawn(move || self.run())?;
        Ok(RightsThread { stop, thread: Some(thread) })
    }

    fn run(mut self) {
        while !self.intake.is_stopped() {
            let Some(record) = self.intake.next() else { continue };
            let Ok(counter) = self.take(&record) else { break };
            self.metrics.add(counter, 1);
            self.intake.handed_on(&record);
        }
        self.intake.finish();
    }

    /// Hands a record on: to Redis, or to the dead letters. Returns what became of it.
    fn take(&mut self, record: &OwnedMessage) -> Result<Counter, Stopped> {
        let kind = self.kinds.iter().find(|(name, _)| name == record.topic()).map(|(_, kind)| *kind);
        let decoded = match kind {
            Some(kind) => decode(kind, record.key(), record.payload(), record.timestamp().to_millis()),
            None => Err("nobody knows the topic".to_owned()),
        };
        let mut became = if record.payload().is_none() { Counter::RightsEmpty } else { Counter::RightsOld };
        match decoded {
            Ok(events) => {
                for event in &events {
                    match self.apply(event)? {
                        Ok(true) => became = Counter::RightsApplied,
                        Ok(false) => {}
                        Err(reason) => return self.bury(record, &reason),
                    }
                }
                Ok(became)
            }
            Err(reason) => self.bury(record, &reason),
        }
    }

    /// Changes the user's record, once Redis is there. Returns whether there was something to change, or why that cannot be.
    fn apply(&mut self, event: &Event) -> Result<Result<bool, String>, Stopped> {
        loop {
            if self.store.health() == Health::Up {
                let changed = self.store.change_with(&event.user, fold::FIELD, |user, sources| {
                    Ok::<_, NotTaken>(fold::fold(user, sources, event))
                });
                match self.runtime.block_on(changed) {
                    Ok(changed) => return Ok(Ok(changed.is_some())),
                    Err(NotTaken::Store(StoreError::Away) | NotTaken::Change(ChangeError::Overtaken)) => {}
                    Err(NotTaken::Store(StoreError::Record { error, .. })) => {
                        return Ok(Err(format!("the user's record in Redis: {error}")));
                    }
                    Err(error) => return Ok(Err(error.to_string())),
                }
            }
            if !self.intake.hold_on() {
                return Err(Stopped);
            }
        }
    }

    fn bury(&mut self, record: &OwnedMessage, reason: &str) -> Result<Counter, Stopped> {
        let (topic, partition, offset) = (record.topic(), record.partition(), record.offset());
        match self.letters.keep(record, reason, || self.intake.hold_on()) {
            Ok(()) => {
                tracing::warn!(topic, partition, offset, reason, "a change of rights is a dead letter");
                Ok(Counter::RightsDeadLetter)
            }
            Err(NotKept::GivenUp) => Err(Stopped),
            Err(error @ NotKept::TooLarge) => {
                tracing::error!(topic, partition, offset, reason, %error, "a change of rights is lost");
                Ok(Counter::RightsLost)
            }
        }
    }
}

/// The running thread. Dropping it commits what was handed on, leaves the group, and ends it.
#[derive(Debug)]
pub(crate) struct RightsThread {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for RightsThread {
    fn drop(&mut self) {
        // Relaxed: nothing stands behind it.
        self.stop.store(true, Ordering::Relaxed);
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread of rights from Kafka panicked");
        }
    }
}
