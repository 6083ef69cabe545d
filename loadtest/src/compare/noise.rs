//! Whether two runs differ by more than chance.

use crate::outcome::{Distribution, Outcome, Point};

/// 99 % of a normal distribution lie within as many standard deviations.
const DEVIATIONS: f64 = 2.576;

/// A percentile with fewer durations beyond it is an accident.
const BEYOND_MIN: f64 = 10.0;

/// Fewer seconds have no scatter worth the name.
const SECONDS_MIN: usize = 5;

/// Whether the percentiles of two histograms differ, by the ranks between which each lies with 99 % confidence. Messages that
/// many clients get at once are not independent, so this alone sees differences too easily. `None` where one is missing or
/// has too little beyond it.
pub(super) fn percentile(a: Option<&Distribution>, b: Option<&Distribution>, share: f64) -> Option<bool> {
    let (a, b) = (between(a?, share)?, between(b?, share)?);
    Some(a.1 < b.0 || b.1 < a.0)
}

/// The durations between which the true percentile lies, ns.
fn between(distribution: &Distribution, share: f64) -> Option<(u64, u64)> {
    let count = distribution.count as f64;
    if count * (1.0 - share) < BEYOND_MIN {
        return None;
    }
    let deviation = DEVIATIONS * (share * (1.0 - share) / count).sqrt();
    let at = |share: f64| distribution.histogram.histogram().value_at_quantile(share.clamp(0.0, 1.0));
    Some((at(share - deviation), at(share + deviation)))
}

/// Whether a figure's mean over the points of two phases differs, by how much it scatters from point to point. Neighbouring
/// seconds are alike, so the error of the mean is taken twice as large as that of independent ones. `None` below
/// [`SECONDS_MIN`] points.
pub(super) fn seconds(
    a: &Outcome,
    phase_a: u32,
    b: &Outcome,
    phase_b: u32,
    figure: fn(&Point) -> Option<f64>,
) -> Option<bool> {
    let (mean_a, error_a) = mean(a, phase_a, figure)?;
    let (mean_b, error_b) = mean(b, phase_b, figure)?;
    Some((mean_a - mean_b).abs() > 2.0 * (error_a.powi(2) + error_b.powi(2)).sqrt())
}

/// Mean, and its error.
fn mean(outcome: &Outcome, phase: u32, figure: fn(&Point) -> Option<f64>) -> Option<(f64, f64)> {
    let points = outcome.series.points.iter().filter(|point| point.phase == phase);
    let values: Vec<f64> = points.filter_map(figure).collect();
    if values.len() < SECONDS_MIN {
        return None;
    }
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0);
    Some((mean, 2.0 * (variance / count).sqrt()))
}
