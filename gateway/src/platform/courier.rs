//! The courier: takes lines from the spool to Kafka, in order, and forgets them once they are there.
//!
//! A thread of its own. Each line is JSON and names its `topic` and `key`. A batch is given again, as far as it failed, until Kafka
//! has all of it; so a line comes at least once, and again where this process ended in between: its `id` tells. While Kafka is
//! away the lines wait in the spool, whose bound is theirs.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use serde::Deserialize;

use super::kafka::Reach;
use super::spool::{Batch, SpoolReader};
use crate::metrics::{Counter, ThreadMetrics};

/// Lines that are given to Kafka together.
const BATCH_BYTES: usize = 256 << 10;
/// How long to wait for lines before the next look whether Kafka is there.
const IDLE: Duration = Duration::from_secs(1);
/// How long a question to the cluster may take.
const QUESTION: Duration = Duration::from_secs(1);
/// How long after a failure the rest of a batch is given again.
const AGAIN: Duration = Duration::from_millis(500);
/// How long Kafka has for what is left when the process ends. The rest waits for the next start.
const LAST: Duration = Duration::from_secs(5);

/// What of a line says where it goes.
#[derive(Deserialize)]
struct Address<'a> {
    #[serde(borrow)]
    topic: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    key: std::borrow::Cow<'a, str>,
}

/// What became of the records that were given, by their places in the batch.
struct Outcome {
    reach: Arc<Reach>,
    delivered: AtomicU64,
    failed: Mutex<Vec<(usize, KafkaError)>>,
}

impl ClientContext for Outcome {
    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
            self.reach.away(reason);
        }
        tracing::debug!(%error, reason, "Kafka");
    }
}

impl ProducerContext for Outcome {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, place: usize) {
        match result {
            Ok(_) => {
                // Relaxed: a count.
                self.delivered.fetch_add(1, Ordering::Relaxed);
                self.reach.up();
            }
            Err((error, _)) => {
                self.failed.lock().unwrap_or_else(PoisonError::into_inner).push((place, error.clone()));
            }
        }
    }
}

pub(crate) struct Courier {
    producer: BaseProducer<Outcome>,
    reach: Arc<Reach>,
    spool: SpoolReader,
    metrics: Arc<ThreadMetrics>,
}

impl Courier {
    /// # Errors
    /// What Kafka's client finds wrong with its settings.
    pub(crate) fn new(
        client: &ClientConfig,
        spool: SpoolReader,
        reach: Arc<Reach>,
        metrics: Arc<ThreadMetrics>,
    ) -> Result<Courier, KafkaError> {
        let mut client = client.clone();
        client.set("enable.idempotence", "true").set("acks", "all").set("compression.codec", "zstd");
        // Until it is there: whoever gives up is the courier.
        client.set("message.timeout.ms", "0").set("linger.ms", "5");
        let outcome = Outcome { reach: reach.clone(), delivered: AtomicU64::new(0), failed: Mutex::default() };
        Ok(Courier { producer: client.create_with_context(outcome)?, reach, spool, metrics })
    }

    /// Starts the thread, which ends once nobody writes to the spool any more.
    ///
    /// # Errors
    /// The system's, where there is no thread to be had.
    pub(crate) fn spawn(mut self) -> io::Result<JoinHandle<()>> {
        std::thread::Builder::new().name("kafka-out".to_owned()).spawn(move || {
            while !self.spool.is_over() {
                match self.spool.next(BATCH_BYTES, IDLE) {
                    Ok(batch) if batch.lines.is_empty() => self.look(),
                    Ok(batch) => {
                        if !self.deliver(&batch) {
                            return;
                        }
                        if let Err(error) = self.spool.handed_on(&batch) {
                            tracing::error!(%error, "what Kafka has cannot be noted: after a restart it gets some of it again");
                        }
                    }
                    Err(error) => {
                        tracing::error!(%error, "what waits for Kafka cannot be read");
                        self.producer.poll(AGAIN);
                    }
                }
            }
        })
    }

    /// Whether Kafka is there, while there is nothing for it.
    fn look(&self) {
        match self.producer.client().fetch_metadata(None, QUESTION) {
            Ok(_) => self.reach.up(),
            Err(error) => self.reach.away(error),
        }
    }

    /// Gives Kafka all lines until it has them. False where the process ends first.
    fn deliver(&mut self, batch: &Batch) -> bool {
        let lines: Vec<&[u8]> = batch.lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
        let mut left: Vec<usize> = (0..lines.len()).collect();
        let mut deadline = None;
        loop {
            left.retain(|place| self.give(*place, lines[*place], &mut deadline));
            while self.producer.in_flight_count() > 0 {
                self.producer.poll(Duration::from_millis(100));
                if self.is_late(&mut deadline) {
                    return false;
                }
            }
            self.producer.poll(Duration::ZERO);
            let outcome = self.producer.context();
            self.metrics.add(Counter::KafkaDelivered, outcome.delivered.swap(0, Ordering::Relaxed));
            let failed = std::mem::take(&mut *outcome.failed.lock().unwrap_or_else(PoisonError::into_inner));
            left.clear();
            for (place, error) in failed {
                if error.rdkafka_error_code() == Some(RDKafkaErrorCode::MessageSizeTooLarge) {
                    self.lose(lines[place], &error);
                } else {
                    self.reach.away(&error);
                    left.push(place);
                }
            }
            if left.is_empty() {
                return true;
            }
            left.sort_unstable();
            self.metrics.add(Counter::KafkaRepeated, left.len() as u64);
            let again = Instant::now() + AGAIN;
            while let Some(rest) = again.checked_duration_since(Instant::now()) {
                self.producer.poll(rest);
            }
            if self.is_late(&mut deadline) {
                return false;
            }
        }
    }

    /// Whether the process ends and Kafka has had its time.
    fn is_late(&self, deadline: &mut Option<Instant>) -> bool {
        if !self.spool.is_closed() {
            return false;
        }
        Instant::now() >= *deadline.get_or_insert_with(|| Instant::now() + LAST)
    }

    /// Puts one line into the client's queue. False where it goes nowhere.
    fn give(&self, place: usize, line: &[u8], deadline: &mut Option<Instant>) -> bool {
        let address: Address<'_> = match serde_json::from_slice(line) {
            Ok(address) => address,
            Err(error) => {
                self.lose(line, &error);
                return false;
            }
        };
        let mut record = BaseRecord::with_opaque_to(&address.topic, place).key(&*address.key).payload(line);
        loop {
            match self.producer.send(record) {
                Ok(()) => return true,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) if !self.is_late(deadline) => {
                    self.producer.poll(Duration::from_millis(10));
                    record = back;
                }
                Err((error, _)) => {
                    // As if Kafka itself had refused it: it is given again, or is too large for that.
                    let failed = &self.producer.context().failed;
                    failed.lock().unwrap_or_else(PoisonError::into_inner).push((place, error));
                    return true;
                }
            }
        }
    }

    fn lose(&self, line: &[u8], why: &dyn std::fmt::Display) {
        self.metrics.add(Counter::KafkaLost, 1);
        tracing::error!(%why, bytes = line.len(), "a record for Kafka is lost");
    }
}
