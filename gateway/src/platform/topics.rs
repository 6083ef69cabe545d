//! The platform's topics as it has them: partitions, how long records stay, and how they are packed.
//!
//! Source: the platform's contract. What this gateway names otherwise (`[kafka.topics]`) is created under that name.

use std::time::Duration;

use crate::config::Topics;

const DAY: Duration = Duration::from_secs(86_400);

/// How long records stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    For(Duration),
    /// The newest of each key, for good.
    Newest,
    /// As the brokers have it.
    Default,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Topic {
    pub(crate) name: String,
    pub(crate) partitions: i32,
    pub(crate) kept: Kept,
    /// `producer`: as whoever writes has packed them.
    pub(crate) compression: &'static str,
}

/// All of them.
pub(crate) fn of_the_platform(names: &Topics) -> Vec<Topic> {
    let topic =
        |name: &str, partitions, kept, compression| Topic { name: name.to_owned(), partitions, kept, compression };
    let days = |days: u32| Kept::For(DAY * days);
    vec![
        topic(&names.market_data_raw, 24, days(7), "lz4"),
        topic(&names.market_data_processed, 12, days(30), "lz4"),
        topic(&names.raw_signals, 12, days(7), "lz4"),
        topic(&names.trading_signals, 12, days(7), "lz4"),
        topic(&names.signal_stats, 12, Kept::Newest, "producer"),
        topic("news-sentiment-stream", 8, days(30), "gzip"),
        topic("insider-trading-events", 4, days(365), "gzip"),
        topic("ai-decisions", 12, Kept::Default, "producer"),
        topic("user-notifications", 12, Kept::Default, "producer"),
        topic("portfolio-updates", 12, Kept::Default, "producer"),
        topic("trade-executions", 12, Kept::Default, "producer"),
        topic(&names.user_events, 24, days(30), "snappy"),
        topic("user-segments", 12, Kept::Default, "producer"),
        topic("signal-deliveries", 12, days(365), "producer"),
        topic(&names.compliance_events, 6, days(90), "gzip"),
        topic(&names.payment_events, 6, days(90), "gzip"),
        topic(&names.user_subscriptions, 6, Kept::Default, "producer"),
        topic(&names.signal_subscriptions, 6, Kept::Default, "producer"),
        topic(&names.users, 6, Kept::Default, "producer"),
        topic(&names.dead_letter, 3, days(30), "producer"),
    ]
}

impl Topic {
    /// The settings of Kafka that make it so.
    pub(crate) fn settings(&self) -> Vec<(&'static str, String)> {
        let mut settings = vec![("compression.type", self.compression.to_owned())];
        match self.kept {
            Kept::For(time) => settings.push(("retention.ms", time.as_millis().to_string())),
            Kept::Newest => settings.push(("cleanup.policy", "compact".to_owned())),
            Kept::Default => {}
        }
        settings
    }
}
