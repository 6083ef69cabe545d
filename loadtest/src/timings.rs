//! Durations of a run: a histogram of nanoseconds that is recorded by one thread, sent between processes, and added up.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer as HdrDeserializer, Serializer as _, V2Serializer};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longest duration that is told apart, ns: one hour. Longer ones count as this.
const LONGEST_NS: u64 = 3_600_000_000_000;

/// Durations in ns, told apart by three significant digits; empty until the first one comes.
#[derive(Clone)]
pub struct Timings(Histogram<u64>);

impl Timings {
    pub fn new() -> Timings {
        let histogram = Histogram::new_with_bounds(1, LONGEST_NS, 3);
        Timings(histogram.expect("Invariant: the bounds of a histogram are constants that it takes"))
    }

    /// Counts one duration, ns.
    pub fn record(&mut self, ns: u64) {
        self.0.saturating_record(ns);
    }

    /// Counts all of another's durations too.
    pub fn add(&mut self, other: &Timings) {
        if other.0.is_empty() {
            return;
        }
        self.0.add(&other.0).expect("Invariant: all timings have the same bounds");
    }

    /// How many durations there are.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The duration that `percentile` (0 to 100) of all are not above, ns; `None` where there are none.
    pub fn percentile(&self, percentile: f64) -> Option<u64> {
        (!self.0.is_empty()).then(|| self.0.value_at_percentile(percentile))
    }

    /// The histogram itself, for logs and for drawing.
    pub fn histogram(&self) -> &Histogram<u64> {
        &self.0
    }

    /// All of it in HdrHistogram's V2 form: a kilobyte or two, where the histogram itself is a quarter of a megabyte.
    pub fn pack(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        V2Serializer::new().serialize(&self.0, &mut bytes).expect("Invariant: writing to memory does not fail");
        bytes
    }

    /// What was packed.
    ///
    /// # Errors
    /// In words, where the bytes are no histogram, or one of durations that are not told apart here.
    pub fn unpack(mut bytes: &[u8]) -> Result<Timings, String> {
        let histogram: Histogram<u64> =
            HdrDeserializer::new().deserialize(&mut bytes).map_err(|error| error.to_string())?;
        let mut timings = Timings::new();
        timings.0.add(histogram).map_err(|error| error.to_string())?;
        Ok(timings)
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.0.reset();
    }
}

impl Default for Timings {
    fn default() -> Timings {
        Timings::new()
    }
}

impl fmt::Debug for Timings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Timings({} up to {} ns)", self.0.len(), self.0.max())
    }
}

impl Serialize for Timings {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.is_empty() {
            return serializer.serialize_str("");
        }
        serializer.serialize_str(&BASE64.encode(self.pack()))
    }
}

impl<'de> Deserialize<'de> for Timings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Timings, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.is_empty() {
            return Ok(Timings::new());
        }
        let bytes = BASE64.decode(text).map_err(D::Error::custom)?;
        Timings::unpack(&bytes).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_crosses_a_process_boundary_is_what_was_recorded() {
        let mut timings = Timings::new();
        for ns in [0, 1, 999, 1_500_000, LONGEST_NS, u64::MAX] {
            timings.record(ns);
        }
        let text = serde_json::to_string(&timings).unwrap();
        let back: Timings = serde_json::from_str(&text).unwrap();
        assert_eq!(back.0, timings.0);
        assert_eq!(back.count(), 6);
    }

    #[test]
    fn nothing_recorded_is_an_empty_text_and_has_no_percentile() {
        assert_eq!(serde_json::to_string(&Timings::new()).unwrap(), "\"\"");
        let back: Timings = serde_json::from_str("\"\"").unwrap();
        assert_eq!(back.percentile(99.0), None);
    }

    #[test]
    fn what_is_no_histogram_is_refused() {
        for text in ["\"!\"", "\"AAAA\"", "1"] {
            assert!(serde_json::from_str::<Timings>(text).is_err(), "{text}");
        }
    }
}
