//! The `[kafka]` table: the platform's broker, what goes there, and what comes from there.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::units;

/// `[kafka]`. Without brokers there is no Kafka.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Kafka {
    /// `HOST:PORT` of some of them; they tell of the others.
    pub brokers: Vec<String>,
    /// As brokers see this gateway in their logs and quotas.
    pub client_id: String,
    /// Names this node: under it Kafka knows how far it has come. Absent: the host's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
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
    /// Group in which the gateways of a fleet share the changes of rights; absent: the client id and `-rights`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rights_group: Option<String>,
    /// Whether what clients get in real time goes there too.
    pub publish_market_data: bool,
    /// Whether this node takes part in the processing of raw signals.
    pub process_signals: bool,
    /// Signals of more confidence than this go to the clients; 0 to 100.
    pub confidence_above: f64,
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
    pub market_data_raw: String,
    /// Where `kafka.publish_market_data` goes.
    pub market_data_processed: String,
    pub user_events: String,
    pub compliance_events: String,
    pub raw_signals: String,
    pub trading_signals: String,
    pub signal_stats: String,
    pub payment_events: String,
    pub user_subscriptions: String,
    pub signal_subscriptions: String,
    pub users: String,
    pub dead_letter: String,
}

impl Topics {
    /// What the audit is written to, each with its key in the configuration.
    pub fn of_audit(&self) -> [(&'static str, &str); 2] {
        [("user_events", &self.user_events), ("compliance_events", &self.compliance_events)]
    }

    /// What changes of rights are read from, and where those go that cannot be understood.
    pub fn of_rights(&self) -> [(&'static str, &str); 5] {
        [
            ("payment_events", &self.payment_events),
            ("user_subscriptions", &self.user_subscriptions),
            ("signal_subscriptions", &self.signal_subscriptions),
            ("users", &self.users),
            ("dead_letter", &self.dead_letter),
        ]
    }

    /// What signals are read from.
    pub fn of_signals(&self) -> [(&'static str, &str); 1] {
        [("trading_signals", &self.trading_signals)]
    }

    /// What raw signals are read from, and where their statistics go.
    pub fn of_processing(&self) -> [(&'static str, &str); 2] {
        [("raw_signals", &self.raw_signals), ("signal_stats", &self.signal_stats)]
    }

    /// What the source `kafka` reads, and where `kafka.publish_market_data` goes.
    pub fn of_market_data(&self) -> [(&'static str, &str); 2] {
        [("market_data_raw", &self.market_data_raw), ("market_data_processed", &self.market_data_processed)]
    }

    pub fn all(&self) -> Vec<(&'static str, &str)> {
        let others = self.of_signals().into_iter().chain(self.of_processing()).chain(self.of_market_data());
        self.of_audit().into_iter().chain(self.of_rights()).chain(others).collect()
    }
}

impl Default for Topics {
    fn default() -> Topics {
        Topics {
            market_data_raw: "market-data-raw".to_owned(),
            market_data_processed: "market-data-processed".to_owned(),
            user_events: "user-events".to_owned(),
            compliance_events: "compliance-events".to_owned(),
            raw_signals: "raw-signals".to_owned(),
            trading_signals: "trading-signals".to_owned(),
            signal_stats: "signal-stats".to_owned(),
            payment_events: "payment-events".to_owned(),
            user_subscriptions: "cdc.finance.user_subscriptions".to_owned(),
            signal_subscriptions: "cdc.signals.signal_subscriptions".to_owned(),
            users: "cdc.user_management.users".to_owned(),
            dead_letter: "gateway-dead-letter".to_owned(),
        }
    }
}

impl Default for Kafka {
    fn default() -> Kafka {
        Kafka {
            brokers: Vec::new(),
            client_id: "signal-gateway".to_owned(),
            node: None,
            security: KafkaSecurity::Plaintext,
            username: None,
            password_file: None,
            ca_file: None,
            certificate_file: None,
            key_file: None,
            spool: None,
            spool_bytes_max: 1 << 30,
            rights_group: None,
            publish_market_data: false,
            process_signals: true,
            confidence_above: 75.0,
            topics: Topics::default(),
        }
    }
}

impl Kafka {
    /// Whether there is one.
    pub fn is_used(&self) -> bool {
        !self.brokers.is_empty()
    }

    /// The group in which the gateways of a fleet share the changes of rights.
    pub fn rights_group(&self) -> String {
        self.rights_group.clone().unwrap_or_else(|| format!("{}-rights", self.client_id))
    }
}
