//! The topic `market-data-processed`: what clients get in real time, for the platform.
//!
//! One record for each trade, quote, finished bar and its indicators of the plain streams, and for each gap between trades: the
//! JSON object that clients get, under the symbol as its key. Bars in progress stay out, and so do streams of a single source.
//!
//! A thread of its own, `market-data`, encodes and gives to Kafka. Between it and the sequencer is a queue of [`QUEUE`] updates,
//! which whoever takes the sequencer's turn fills and never waits for: when it is full, the newest is dropped. The thread looks at
//! it by itself, every [`LINGER`], so that nobody has to wake it. Behind it librdkafka holds [`BUFFERED_KIB`] at most, and each
//! record for [`KEPT_MS`] at most; beyond, the newest is dropped too. What is dropped or fails is counted by
//! `gateway_market_data_records_total{result}`, and shows in a record's `seq`.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, TryRecvError, bounded};
use fanout::{Body, Update};
use protocol::frame::server_frame;
use protocol::{ChannelKind, Encoding, InstrumentTable, split_source};
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};

use crate::metrics::{Counter, ThreadMetrics};

/// Updates that may wait to be encoded, each of less than 400 bytes: 25 MiB.
const QUEUE: usize = 65_536;
/// Updates that are encoded before Kafka's answers are looked at.
const BATCH: usize = 1024;
/// How long a record may wait for others to go along.
const LINGER: Duration = Duration::from_millis(5);
/// What Kafka has not got yet, KiB.
const BUFFERED_KIB: &str = "65536";
/// How long Kafka has for a record, ms. Later, nobody trades by it.
const KEPT_MS: &str = "30000";
/// How long Kafka has for what is left when the process ends.
const LAST: Duration = Duration::from_secs(2);

const _: () = assert!(size_of::<(u64, Update)>() < 400);

/// Where updates go in. The thread ends with it.
pub(crate) struct Processed {
    queue: Sender<(u64, Update)>,
    metrics: Arc<ThreadMetrics>,
}

impl Processed {
    /// Takes an update that was given this number, where it is one for the topic and there is room.
    pub(crate) fn offer(&self, seq: u64, update: &Update) {
        let is_wanted = match &update.body {
            Body::Trade(_) | Body::Quote(_) | Body::Indicators(_) | Body::VenueGap { .. } => true,
            // It came from Kafka.
            Body::Document { .. } => false,
            Body::Bar(_) => !matches!(update.kind, ChannelKind::UpdatedBars | ChannelKind::DailyBars),
        };
        if is_wanted && self.queue.try_send((seq, update.clone())).is_err() {
            self.metrics.add(Counter::MarketDataDropped, 1);
        }
    }
}

/// Counts what became of the records.
struct Counted(Arc<ThreadMetrics>);

impl ClientContext for Counted {
    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
            tracing::warn!(reason, "Kafka takes no market data");
        }
    }
}

impl ProducerContext for Counted {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let counter = if result.is_ok() { Counter::MarketDataDelivered } else { Counter::MarketDataFailed };
        self.0.add(counter, 1);
    }
}

/// What the thread owns.
pub(crate) struct Writer {
    producer: BaseProducer<Counted>,
    topic: String,
    metrics: Arc<ThreadMetrics>,
}

impl Writer {
    /// A writer to the topic, for clients that come in like this.
    ///
    /// # Errors
    /// What Kafka's client finds wrong with its settings.
    pub(crate) fn new(client: &ClientConfig, topic: String, metrics: Arc<ThreadMetrics>) -> Result<Writer, KafkaError> {
        let mut client = client.clone();
        client.set("enable.idempotence", "true").set("acks", "all").set("compression.codec", "lz4");
        client.set("linger.ms", LINGER.as_millis().to_string()).set("message.timeout.ms", KEPT_MS);
        client.set("queue.buffering.max.kbytes", BUFFERED_KIB).set("queue.buffering.max.messages", "1000000");
        // A symbol is where the platform's producers in Java put it.
        client.set("partitioner", "murmur2_random");
        Ok(Writer { producer: client.create_with_context(Counted(metrics.clone()))?, topic, metrics })
    }

    /// Starts the thread, and returns where updates go in. `venues` are the names of the sources by their ids.
    ///
    /// # Errors
    /// The system's, where there is no thread to be had.
    pub(crate) fn spawn(
        self,
        instruments: Arc<InstrumentTable>,
        venues: Vec<String>,
    ) -> io::Result<(Processed, JoinHandle<()>)> {
        let (queue, updates) = bounded(QUEUE);
        let metrics = self.metrics.clone();
        let thread = std::thread::Builder::new().name("market-data".to_owned());
        let thread = thread.spawn(move || self.run(&updates, &instruments, &venues))?;
        Ok((Processed { queue, metrics }, thread))
    }

    fn run(self, updates: &Receiver<(u64, Update)>, instruments: &InstrumentTable, venues: &[String]) {
        let mut frame = Vec::new();
        loop {
            let mut taken = 0;
            let ended = loop {
                match updates.try_recv() {
                    Ok((seq, update)) => self.give(seq, &update, instruments, venues, &mut frame),
                    Err(TryRecvError::Empty) => break false,
                    Err(TryRecvError::Disconnected) => break true,
                }
                taken += 1;
                if taken == BATCH {
                    break false;
                }
            };
            if ended {
                break;
            }
            // Returns at once where there are answers, and so the rest of the time is waited for.
            let next = Instant::now() + if taken == BATCH { Duration::ZERO } else { LINGER };
            loop {
                let rest = next.saturating_duration_since(Instant::now());
                self.producer.poll(rest);
                if rest.is_zero() {
                    break;
                }
            }
        }
        if let Err(error) = self.producer.flush(LAST) {
            tracing::warn!(%error, records = self.producer.in_flight_count(), "Kafka has not got the last market data");
        }
    }

    fn give(&self, seq: u64, update: &Update, instruments: &InstrumentTable, venues: &[String], frame: &mut Vec<u8>) {
        let symbol = instruments.symbol(update.instrument);
        if split_source(symbol).1.is_some() {
            return;
        }
        let venue = venues.get(usize::from(update.source.0)).map_or("", String::as_str);
        frame.clear();
        update.encode(Encoding::Json, seq, symbol, venue, frame);
        // Clients get an array of one.
        let Some((_, [b'[', object @ .., b']'])) = server_frame(frame) else { return };
        match self.producer.send(BaseRecord::to(&self.topic).key(symbol).payload(object)) {
            Ok(()) => {}
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                self.metrics.add(Counter::MarketDataDropped, 1);
            }
            Err((error, _)) => {
                tracing::debug!(%error, "Kafka");
                self.metrics.add(Counter::MarketDataFailed, 1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use protocol::{Bar, Decimal, InstrumentId, SourceId, TickFlags};

    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn a_full_queue_drops_the_newest() {
        let metrics = Metrics::new();
        let (queue, updates) = bounded(2);
        let processed = Processed { queue, metrics: metrics.register("market_data") };
        let update = |kind, body| Update {
            instrument: InstrumentId(0),
            kind,
            source: SourceId(0),
            ts_event: 0,
            ts_recv: 0,
            flags: TickFlags::NONE,
            body,
        };
        let one = Decimal::new(1, 0).unwrap();
        let (open, high, low, close, volume, vwap) = (one, one, one, one, one, one);
        let bar = Bar { start_ns: 0, open, high, low, close, volume, trades: 1, vwap };
        let gap = update(ChannelKind::Trades, Body::VenueGap { missed: 1 });
        for seq in 1..=3 {
            // What is not for the topic takes no room.
            for kind in [ChannelKind::UpdatedBars, ChannelKind::DailyBars] {
                processed.offer(seq, &update(kind, Body::Bar(bar)));
            }
            processed.offer(seq, &gap);
        }
        assert_eq!(updates.try_iter().collect::<Vec<_>>(), [(1, gap.clone()), (2, gap)]);
        assert_eq!(metrics.total(Counter::MarketDataDropped), 1);
    }
}
