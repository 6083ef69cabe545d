//! Whether the harness was the bottleneck: then the figures are its own, and the run is invalid.

use std::collections::BTreeMap;

use super::{Judged, Outcome, Phase};
use crate::units::{count, duration, percent};

/// Why the figures must not be believed, each reason a sentence with the figures that it rests on.
pub(super) fn reasons(outcome: &Outcome) -> Vec<String> {
    let mut reasons = Vec::new();
    for phase in outcome.phases.iter().filter(|phase| phase.judged != Judged::Nothing) {
        reasons.extend(workers(outcome, phase));
        reasons.extend(schedule_lag(outcome, phase));
        reasons.extend(read_lag(outcome, phase));
        reasons.extend(clients(phase));
    }
    reasons.extend(clocks(outcome));
    if outcome.phases.iter().all(|phase| phase.counts.connects == 0 && phase.counts.bytes == 0) {
        reasons.push("Nothing happened: no client connected, and nothing was received.".to_owned());
    }
    reasons
}

fn workers(outcome: &Outcome, phase: &Phase) -> Option<String> {
    let share_max = outcome.header.limits.cpu_share_max;
    let busy: BTreeMap<_, _> = phase.workers.iter().filter(|(_, share)| **share > share_max).collect();
    let (worker, share) = busy.iter().max_by(|a, b| a.1.total_cmp(b.1))?;
    Some(format!(
        "Phase {}: {} of {} workers were out of processor time (worker {worker} used {} of a core, at most {} is allowed). \
         Use more workers, fewer clients or a lower rate.",
        phase.name,
        busy.len(),
        phase.workers.len(),
        percent(**share),
        percent(share_max),
    ))
}

fn schedule_lag(outcome: &Outcome, phase: &Phase) -> Option<String> {
    let lag = phase.schedule_lag.as_ref()?;
    (lag.p99 > outcome.header.limits.lag_ns_max).then(|| {
        format!(
            "Phase {}: the harness was late for its own schedule (p99 {}, at most {} is allowed).",
            phase.name,
            duration(lag.p99),
            duration(outcome.header.limits.lag_ns_max),
        )
    })
}

/// Where server and clients share cores, received bytes wait for the harness as they would for any client; it spoils a run
/// only where most of the latency is that.
fn read_lag(outcome: &Outcome, phase: &Phase) -> Option<String> {
    let (lag, latency) = (phase.read_lag.as_ref()?, phase.latency.as_ref()?);
    (lag.p99 > outcome.header.limits.lag_ns_max && lag.p99 > latency.p99 / 2).then(|| {
        format!(
            "Phase {}: received bytes waited for the harness (p99 {}, where the measured latency's p99 is {}).",
            phase.name,
            duration(lag.p99),
            duration(latency.p99),
        )
    })
}

fn clients(phase: &Phase) -> Option<String> {
    // A client that the server refused or dropped is the server's doing, and a threshold's matter.
    let accounted = phase.clients.ready + phase.clients.stalled + phase.counts.refused + phase.counts.lost;
    (accounted < phase.planned).then(|| {
        format!(
            "Phase {}: of {} clients planned only {} were ready at its end ({} still connecting).",
            phase.name,
            count(phase.planned),
            count(phase.clients.ready + phase.clients.stalled),
            count(phase.clients.connecting),
        )
    })
}

fn clocks(outcome: &Outcome) -> Option<String> {
    let future: u64 = outcome.phases.iter().map(|phase| phase.counts.from_the_future).sum();
    let ahead_ns = outcome.phases.iter().map(|phase| phase.ahead_ns_max).max().unwrap_or(0);
    (future > 0).then(|| {
        format!(
            "{} messages were stamped later than they arrived, up to {} ({} is allowed): the clocks of the two hosts differ. \
             Synchronise them, or raise the tolerance.",
            count(future),
            duration(ahead_ns),
            duration(outcome.header.limits.clock_tolerance_ns),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Distribution;
    use crate::report::testing;
    use crate::timings::Timings;

    fn timed(ns: u64) -> Option<Distribution> {
        let mut timings = Timings::new();
        timings.record(ns);
        Distribution::of(timings)
    }

    #[test]
    fn a_run_that_measured_the_harness_says_why() {
        let check = |change: &dyn Fn(&mut Phase), expected: Option<&str>| {
            let mut outcome = testing::held();
            change(&mut outcome.phases[1]);
            let reasons = reasons(&outcome);
            match expected {
                Some(words) => assert!(reasons.len() == 1 && reasons[0].contains(words), "{words}: {reasons:?}"),
                None => assert_eq!(reasons, Vec::<String>::new()),
            }
        };
        check(&|_| (), None);
        check(&|phase| phase.workers = [(0, 0.5), (1, 0.95)].into(), None);
        check(
            &|phase| phase.workers = [(0, 0.5), (1, 0.97)].into(),
            Some("Phase baseline: 1 of 2 workers were out of processor time (worker 1 used 97 %"),
        );
        check(&|phase| phase.schedule_lag = timed(49_000_000), None);
        check(
            &|phase| phase.schedule_lag = timed(60_000_000),
            Some("late for its own schedule (p99 60.0 ms, at most 50.0 ms"),
        );
        // Half of what was measured, or too little to matter.
        check(&|phase| (phase.read_lag, phase.latency) = (timed(60_000_000), timed(200_000_000)), None);
        check(&|phase| (phase.read_lag, phase.latency) = (timed(9_000_000), timed(10_000_000)), None);
        check(
            &|phase| (phase.read_lag, phase.latency) = (timed(60_000_000), timed(80_000_000)),
            Some("received bytes waited for the harness"),
        );
        check(&|phase| phase.clients.ready = 990, Some("of 1,000 clients planned only 990 were ready"));
        // The server's doing.
        check(&|phase| (phase.clients.ready, phase.counts.lost) = (990, 10), None);
        check(&|phase| (phase.clients.ready, phase.counts.refused) = (990, 10), None);
        check(
            &|phase| (phase.counts.from_the_future, phase.ahead_ns_max) = (7, 3_000_000_000),
            Some("7 messages were stamped later than they arrived, up to 3.00 s (1.00 ms is allowed)"),
        );
        assert_eq!(testing::empty().invalid, ["Nothing happened: no client connected, and nothing was received."]);
        check(&|phase| (phase.judged, phase.clients.ready) = (Judged::Nothing, 0), None);
    }
}
