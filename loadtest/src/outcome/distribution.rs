//! Durations in figures that people ask for, with the histogram they come from.

use serde::{Deserialize, Serialize};

use crate::timings::Timings;

/// Percentiles of some durations, ns. `p999` is the 99.9th, `p9999` the 99.99th.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Distribution {
    /// At least 1.
    pub count: u64,
    pub min: u64,
    pub mean: f64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p999: u64,
    pub p9999: u64,
    pub max: u64,
    /// All of it, HdrHistogram V2 in base64.
    pub histogram: Timings,
}

impl Distribution {
    /// `None` where nothing was timed.
    pub fn of(timings: Timings) -> Option<Distribution> {
        let at = |percentile| timings.percentile(percentile);
        let histogram = timings.histogram();
        Some(Distribution {
            count: timings.count(),
            min: histogram.min(),
            mean: histogram.mean(),
            p50: at(50.0)?,
            p90: at(90.0)?,
            p99: at(99.0)?,
            p999: at(99.9)?,
            p9999: at(99.99)?,
            max: histogram.max(),
            histogram: timings,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_histogram() {
        let mut timings = Timings::new();
        (1..=10_000).for_each(|n| timings.record(n * 1_000));
        let distribution = Distribution::of(timings).unwrap();
        let check = |measured: u64, exact: u64| {
            // Three significant digits.
            assert!(measured.abs_diff(exact) * 1_000 <= exact, "{measured} {exact}");
        };
        assert_eq!(distribution.count, 10_000);
        check(distribution.min, 1_000);
        check(distribution.p50, 5_000_000);
        check(distribution.p90, 9_000_000);
        check(distribution.p99, 9_900_000);
        check(distribution.p999, 9_990_000);
        check(distribution.p9999, 9_999_000);
        check(distribution.max, 10_000_000);
        check(distribution.mean as u64, 5_000_500);
    }

    #[test]
    fn nothing_timed_is_no_distribution() {
        assert!(Distribution::of(Timings::new()).is_none());
    }
}
