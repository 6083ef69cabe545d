//! The latencies of every interval as an HdrHistogram interval log, for the readers of such logs. Values are ns, the
//! column of maxima is ms, the tag is the phase.
//!
//! Format: <https://github.com/HdrHistogram/HdrHistogram>, `HistogramLogWriter`.

use std::io::{self, Write};
use std::time::{Duration, UNIX_EPOCH};

use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};

use crate::outcome::Outcome;

/// Writes the log; intervals without a message are left out.
///
/// # Errors
/// Those of writing.
pub fn write(outcome: &Outcome, to: &mut impl Write) -> io::Result<()> {
    let started_ns = outcome.header.started_ns;
    let started = UNIX_EPOCH + since(0, started_ns);
    let mut serializer = V2DeflateSerializer::new();
    let mut builder = IntervalLogWriterBuilder::new();
    builder
        .add_comment(&format!("[loadtest {}: {}]", outcome.header.scenario, outcome.header.command.replace('\n', " ")))
        .add_comment("[Latency of messages in ns; maxima in ms; tags are phases]")
        .with_start_time(started)
        .with_base_time(started)
        .with_max_value_divisor(1e6);
    let mut log = builder.begin_log_with(to, &mut serializer)?;
    for interval in &outcome.intervals {
        let latency = interval.latency();
        if latency.count() == 0 {
            continue;
        }
        let name = outcome.phases.get(interval.phase as usize).map_or("", |phase| phase.name.as_str());
        let tag: String = name.chars().map(|c| if c == ',' || c.is_whitespace() { '_' } else { c }).collect();
        let start = since(started_ns, interval.start_ns);
        let span = Duration::from_nanos(interval.span_ns);
        log.write_histogram(latency.histogram(), start, span, Tag::new(&tag).filter(|_| !tag.is_empty()))
            .map_err(|error| io::Error::other(format!("{error:?}")))?;
    }
    Ok(())
}

fn since(from_ns: i64, to_ns: i64) -> Duration {
    Duration::from_nanos(u64::try_from(to_ns - from_ns).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD as BASE64;
    use hdrhistogram::Histogram;
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    use super::*;
    use crate::report::testing;

    #[test]
    fn a_reader_of_logs_finds_every_message_in_its_phase() {
        let outcome = testing::held();
        let mut log = Vec::new();
        write(&outcome, &mut log).unwrap();
        let mut sums = vec![0; outcome.phases.len()];
        let mut last_start = Duration::ZERO;
        for entry in IntervalLogIterator::new(&log) {
            let LogEntry::Interval(interval) = entry.unwrap() else { continue };
            let bytes = BASE64.decode(interval.encoded_histogram()).unwrap();
            let histogram: Histogram<u64> = Deserializer::new().deserialize(&mut bytes.as_slice()).unwrap();
            let tag = interval.tag().unwrap();
            let phase = outcome.phases.iter().position(|phase| phase.name.replace(' ', "_") == tag.as_str());
            sums[phase.unwrap()] += histogram.len();
            assert!(interval.start_timestamp() >= last_start && interval.duration() > Duration::ZERO);
            assert!((interval.max() - histogram.max() as f64 / 1e6).abs() < 0.01);
            last_start = interval.start_timestamp();
        }
        let expected: Vec<u64> = outcome.phases.iter().map(|phase| phase.counts.messages).collect();
        assert_eq!(sums, expected);
        assert!(sums.iter().any(|sum| *sum > 0));
    }
}
