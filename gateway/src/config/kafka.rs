//! The `[kafka]` table: the platform's broker, what goes there, and what comes from there.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::units;

/// `[kafka]`. Without brokers there is no Kafka.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Kafka {
    /// `HOST:PORT` of some of them; they tell of the others.
    pub brokers: Vec<String>,
    /// As brokers see this gateway in their logs and quotas.
    pub client_id: String,
    pub security: KafkaSecurity,
    /// Login by SCRAM-SHA-512.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// File with the password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// PEM file with the authorities that have to vouch for the brokers; absent: those that the system trusts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// PEM files with this gateway's own certificate and its key, where the brokers ask for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
    /// Directory of what is to go there and must not be lost; absent: `kafka` in the state directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spool: Option<PathBuf>,
    /// Bound of it. Beyond, the oldest is lost.
    #[serde(with = "units::bytes")]
    pub spool_bytes_max: usize,
    /// Whether what clients get in real time goes there too.
    pub publish_market_data: bool,
    pub topics: Topics,
}

/// How brokers are spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KafkaSecurity {
    Plaintext,
    Tls,
    /// With a login, and without TLS: within a network that nobody else is in.
    Sasl,
    SaslTls,
}

impl KafkaSecurity {
    pub const fn has_tls(self) -> bool {
        matches!(self, KafkaSecurity::Tls | KafkaSecurity::SaslTls)
    }

    pub const fn has_login(self) -> bool {
        matches!(self, KafkaSecurity::Sasl | KafkaSecurity::SaslTls)
    }
}

/// `[kafka.topics]`: their names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Topics {
    /// What the source `kafka` reads.
    pub market_data_raw: String,
    /// Where `kafka.publish_market_data` goes.
    pub market_data_processed: String,
    pub user_events: String,
    pub compliance_events: String,
}

impl Topics {
    /// Each with its key in the configuration.
    pub fn all(&self) -> [(&'static str, &str); 4] {
        [
            ("market_data_raw", &self.market_data_raw),
            ("market_data_processed", &self.market_data_processed),
            ("user_events", &self.user_events),
            ("compliance_events", &self.compliance_events),
        ]
    }
}

impl Default for Topics {
    fn default() -> Topics {
        Topics {
            market_data_raw: "market-data-raw".to_owned(),
            market_data_processed: "market-data-processed".to_owned(),
            user_events: "user-events".to_owned(),
            compliance_events: "compliance-events".to_owned(),
        }
    }
}

impl Default for Kafka {
    fn default() -> Kafka {
        Kafka {
            brokers: Vec::new(),
            client_id: "signal-gateway".to_owned(),
            security: KafkaSecurity::Plaintext,
            username: None,
            password_file: None,
            ca_file: None,
            certificate_file: None,
            key_file: None,
            spool: None,
            spool_bytes_max: 1 << 30,
            publish_market_data: false,
            topics: Topics::default(),
        }
    }
}

impl Kafka {
    /// Whether there is one.
    pub fn is_used(&self) -> bool {
        !self.brokers.is_empty()
    }
}
