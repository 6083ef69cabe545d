//! The topic of what came from Kafka and could not be understood: the bytes as they came, where they stood, and why.
//!
//! Owned by the thread that consumes, which commits an offset only after [`DeadLetterTopic::keep`] has returned. Deliberately
//! absent: frames of feeds, which are `dead_letters`'.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Message, OwnedHeaders, OwnedMessage};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};

/// How often the caller is asked whether to wait on.
const LOOK: Duration = Duration::from_millis(50);
/// How long after a refusal the record is given again.
const AGAIN: Duration = Duration::from_millis(500);
/// Longest record that is tried, beyond any that brokers take by default (1 MiB): whether it fits is theirs to say.
const RECORD_BYTES_MAX: &str = "67108864";

/// Why a record is not in the topic.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotKept {
    /// The caller did not want to wait any longer. It may be there all the same.
    #[error("nobody waited for it")]
    GivenUp,
    /// It never will be.
    #[error("Kafka finds it too large")]
    TooLarge,
}

/// What became of the one record that is under way.
#[derive(Default)]
struct Outcome(Mutex<Option<Result<(), KafkaError>>>);

impl Outcome {
    fn set(&self, outcome: Option<Result<(), KafkaError>>) -> Option<Result<(), KafkaError>> {
        std::mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), outcome)
    }
}

impl ClientContext for Outcome {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "Kafka, for dead letters");
    }
}

impl ProducerContext for Outcome {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        self.set(Some(result.as_ref().map(|_| ()).map_err(|(error, _)| error.clone())));
    }
}

/// The topic, to write to.
pub(crate) struct DeadLetterTopic {
    settings: ClientConfig,
    producer: BaseProducer<Outcome>,
    topic: String,
}

impl DeadLetterTopic {
    /// `client` is what every client of Kafka needs to come in.
    ///
    /// # Errors
    /// What Kafka's client finds wrong with its settings.
    pub(crate) fn new(client: &ClientConfig, topic: &str) -> Result<DeadLetterTopic, KafkaError> {
        let mut settings = client.clone();
        settings.set("enable.idempotence", "true").set("acks", "all").set("compression.codec", "zstd");
        // Until it is there: whoever gives up is the caller. One at a time, so that there is nothing to wait for.
        settings.set("message.timeout.ms", "0").set("linger.ms", "0").set("message.max.bytes", RECORD_BYTES_MAX);
        let producer = settings.create_with_context(Outcome::default())?;
        Ok(DeadLetterTopic { settings, producer, topic: topic.to_owned() })
    }

    /// Writes a record that was consumed, untouched and with the reason, and returns once Kafka has confirmed it. While it has not,
    /// `wait` is asked again and again whether to go on, and may do something else meanwhile.
    ///
    /// # Errors
    /// [`NotKept`].
    pub(crate) fn keep(
        &mut self,
        input: &OwnedMessage,
        reason: &str,
        mut wait: impl FnMut() -> bool,
    ) -> Result<(), NotKept> {
        let headers = headers(input, reason);
        loop {
            self.producer.context().set(None);
            let record = BaseRecord::to(&self.topic).key(input.topic()).headers(headers.clone());
            let record = match input.payload() {
                Some(payload) => record.payload(payload),
                None => record,
            };
            let mut outcome =
                self.producer.send(record).err().map(|(error, _): (_, BaseRecord<'_, str, [u8]>)| Err(error));
            while outcome.is_none() {
                self.producer.poll(LOOK);
                outcome = self.producer.context().set(None);
                if outcome.is_none() && !wait() {
                    return Err(NotKept::GivenUp);
                }
            }
            let Some(Err(error)) = outcome else { return Ok(()) };
            match error.rdkafka_error_code() {
                Some(RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidMessageSize) => {
                    return Err(NotKept::TooLarge);
                }
                // An idempotent producer that has lost its place writes no more; another one begins anew.
                Some(RDKafkaErrorCode::Fatal) => match self.settings.create_with_context(Outcome::default()) {
                    Ok(producer) => self.producer = producer,
                    Err(error) => tracing::error!(%error, "no producer for dead letters"),
                },
                _ => {}
            }
            tracing::warn!(%error, topic = self.topic, "a dead letter is not written yet");
            let again = Instant::now() + AGAIN;
            while Instant::now() < again {
                self.producer.poll(LOOK);
                if !wait() {
                    return Err(NotKept::GivenUp);
                }
            }
        }
    }
}

/// The record's own headers, and after them where it stood and what is wrong with it.
pub(crate) fn headers(input: &OwnedMessage, reason: &str) -> OwnedHeaders {
    let own = input.headers().cloned().unwrap_or_default();
    let (partition, offset) = (input.partition().to_string(), input.offset().to_string());
    let timestamp = input.timestamp().to_millis().map(|ms| ms.to_string());
    let ours = [
        ("source.topic", Some(input.topic().as_bytes())),
        ("source.partition", Some(partition.as_bytes())),
        ("source.offset", Some(offset.as_bytes())),
        ("source.timestamp", timestamp.as_deref().map(str::as_bytes)),
        ("source.key", input.key()),
        ("reason", Some(reason.as_bytes())),
    ];
    ours.into_iter().fold(own, |all, (key, value)| all.insert(Header { key, value }))
}

#[cfg(test)]
mod tests {
    use rdkafka::Timestamp;
    use rdkafka::message::Headers;

    use super::*;

    #[test]
    fn a_record_keeps_its_own_headers_and_gets_ours() {
        let own = OwnedHeaders::new().insert(Header { key: "trace", value: Some("7") });
        let timestamp = Timestamp::CreateTime(5);
        let input = OwnedMessage::new(None, None, "topic".to_owned(), timestamp, 3, 9, Some(own));
        let headers = headers(&input, "op: is missing");
        let told: Vec<_> = headers.iter().map(|header| (header.key, header.value)).collect();
        let text = |text: &'static str| Some(text.as_bytes());
        let expected = [
            ("trace", text("7")),
            ("source.topic", text("topic")),
            ("source.partition", text("3")),
            ("source.offset", text("9")),
            ("source.timestamp", text("5")),
            ("source.key", None),
            ("reason", text("op: is missing")),
        ];
        assert_eq!(told, expected);
    }
}
