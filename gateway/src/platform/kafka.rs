//! The platform's Kafka: how to come in, and whether it is there.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rdkafka::ClientConfig;

use crate::config::{self, ConfigError, KafkaSecurity};

/// What every client of Kafka needs to come in.
///
/// # Errors
/// [`ConfigError`], with the key, for a file that cannot be read or is none of what it should be.
pub(crate) fn client(config: &config::Kafka) -> Result<ClientConfig, ConfigError> {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", config.brokers.join(",")).set("client.id", &config.client_id);
    // A broker that comes back is found within a second, and one that is away costs an attempt a second.
    client.set("reconnect.backoff.ms", "50").set("reconnect.backoff.max.ms", "1000");
    // One that says nothing any more is left after 10 s instead of a minute.
    client.set("socket.timeout.ms", "10000");
    client.set(
        "security.protocol",
        match config.security {
            KafkaSecurity::Plaintext => "plaintext",
            KafkaSecurity::Tls => "ssl",
            KafkaSecurity::Sasl => "sasl_plaintext",
            KafkaSecurity::SaslTls => "sasl_ssl",
        },
    );
    if config.security.has_login() {
        client.set("sasl.mechanism", "SCRAM-SHA-512");
        client.set("sasl.username", config.username.as_deref().unwrap_or_default());
        let key = "kafka.password_file";
        client.set("sasl.password", text(key, &config.password_file)?.unwrap_or_default());
    }
    for (setting, key, file) in [
        ("ssl.ca.pem", "kafka.ca_file", &config.ca_file),
        ("ssl.certificate.pem", "kafka.certificate_file", &config.certificate_file),
        ("ssl.key.pem", "kafka.key_file", &config.key_file),
    ] {
        if let Some(text) = text(key, file)? {
            client.set(setting, text);
        }
    }
    Ok(client)
}

fn text(key: &str, file: &Option<PathBuf>) -> Result<Option<String>, ConfigError> {
    let read = |file: &Path| {
        let wrong = |error: &dyn fmt::Display| ConfigError::of(key, format_args!("{}: {error}", file.display()));
        let text = std::fs::read_to_string(file).map_err(|error| wrong(&error))?;
        let text = text.trim_end_matches(['\n', '\r']);
        if text.is_empty() { Err(wrong(&"is empty")) } else { Ok(text.to_owned()) }
    };
    file.as_deref().map(read).transpose()
}

/// Whether Kafka takes what it is given, for readiness and metrics.
#[derive(Debug)]
pub(crate) struct Reach(Mutex<State>);

#[derive(Debug)]
enum State {
    Up,
    Away { since: Instant, why: String },
}

impl Reach {
    /// Nothing is known yet: it is away until it has answered.
    pub(crate) fn new() -> Reach {
        Reach(Mutex::new(State::Away { since: Instant::now(), why: "no answer yet".to_owned() }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_up(&self) -> bool {
        matches!(*self.state(), State::Up)
    }

    /// It has answered.
    pub(crate) fn up(&self) {
        let before = std::mem::replace(&mut *self.state(), State::Up);
        if let State::Away { since, .. } = before {
            tracing::info!(after_s = since.elapsed().as_secs(), "Kafka is up");
        }
    }

    /// It has not, and this is why.
    pub(crate) fn away(&self, why: impl fmt::Display) {
        let mut state = self.state();
        let why = why.to_string();
        match &mut *state {
            State::Away { why: before, .. } => *before = why,
            State::Up => {
                tracing::warn!(why, "Kafka is away");
                *state = State::Away { since: Instant::now(), why };
            }
        }
    }

    /// # Errors
    /// Since when it is away, and why.
    pub(crate) fn check(&self) -> Result<(), String> {
        match &*self.state() {
            State::Up => Ok(()),
            State::Away { since, why } => Err(format!("away for {} s: {why}", since.elapsed().as_secs())),
        }
    }
}
