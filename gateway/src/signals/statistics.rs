//! Running statistics of each symbol's signals, as they stand in the platform's `signal-stats`. Pure.

use std::collections::HashMap;

use protocol::format_rfc3339;
use serde::{Deserialize, Serialize};

use super::signal::{Signal, SignalType};

/// Of one symbol; as JSON, one record of the topic.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Statistics {
    pub(crate) symbol: String,
    pub(crate) count: u64,
    pub(crate) buys: u64,
    pub(crate) sells: u64,
    pub(crate) mean_confidence: f64,
    pub(crate) max_confidence: f64,
    /// When the newest was generated, RFC 3339.
    pub(crate) last_at: String,
    /// The same as a number, Unix ns.
    last_ns: i64,
}

impl Statistics {
    fn fold(&mut self, signal: &Signal) {
        self.count += 1;
        match signal.signal_type {
            SignalType::Buy => self.buys += 1,
            SignalType::Sell => self.sells += 1,
            SignalType::Hold | SignalType::Exit => {}
        }
        // Welford's: no sum that grows.
        self.mean_confidence += (signal.confidence - self.mean_confidence) / self.count as f64;
        self.max_confidence = self.max_confidence.max(signal.confidence);
        if self.count == 1 || signal.generated_at > self.last_ns {
            self.last_ns = signal.generated_at;
            let mut text = Vec::with_capacity(30);
            format_rfc3339(signal.generated_at, &mut text);
            self.last_at = String::from_utf8_lossy(&text).into_owned();
        }
    }
}

/// Those of all symbols. Bound: one for each symbol of a signal ever processed, some 200 bytes each.
#[derive(Debug, Default)]
pub(crate) struct StatisticsTable(HashMap<String, Statistics>);

impl StatisticsTable {
    /// Takes what a record of the topic says; the newest record of a symbol counts.
    ///
    /// # Errors
    /// Where it is none.
    pub(crate) fn restore(&mut self, record: &[u8]) -> Result<(), serde_json::Error> {
        let statistics: Statistics = serde_json::from_slice(record)?;
        self.0.insert(statistics.symbol.clone(), statistics);
        Ok(())
    }

    /// Those of a symbol, once there is a signal of it.
    pub(crate) fn of(&self, symbol: &str) -> Option<&Statistics> {
        self.0.get(symbol)
    }

    /// Folds a signal in, and returns its symbol's statistics.
    pub(crate) fn fold(&mut self, signal: &Signal) -> &Statistics {
        let statistics = self.0.entry(signal.symbol.clone()).or_default();
        if statistics.symbol.is_empty() {
            statistics.symbol.clone_from(&signal.symbol);
        }
        statistics.fold(signal);
        statistics
    }
}

#[cfg(test)]
mod tests {
    use super::super::signal::tests::signal;
    use super::*;

    #[test]
    fn folds_every_signal_and_goes_on_after_a_restart() {
        let mut table = StatisticsTable::default();
        for (signal_type, confidence, second) in [("buy", 80.0, 2), ("sell", 40.0, 3), ("hold", 90.0, 1)] {
            table.fold(&signal("BTC/USD", signal_type, confidence, second));
        }
        let record = serde_json::to_vec(table.fold(&signal("BTC/USD", "exit", 30.0, 0))).unwrap();
        let mut again = StatisticsTable::default();
        again.restore(&record).unwrap();
        let statistics = again.fold(&signal("BTC/USD", "buy", 60.0, 2)).clone();
        assert_eq!((statistics.count, statistics.buys, statistics.sells), (5, 2, 1));
        assert!((statistics.mean_confidence - 60.0).abs() < 1e-9, "{statistics:?}");
        assert_eq!((statistics.max_confidence, statistics.last_at.as_str()), (90.0, "2026-09-30T02:03:03Z"));
        assert!(again.restore(b"{\"count\":\"many\"}").is_err());
    }
}
