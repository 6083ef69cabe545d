//! Whether the harness was the bottleneck: then the figures are its own, and the run is invalid.

use std::collections::BTreeMap;

use super::{Judged, Outcome, Phase};
use crate::units::{count, duration, percent};

/// A shorter phase says nothing of the harness: a burst of connects within it is late by its own length.
const SHORT_SECONDS: f64 = 0.1;

/// What is to be said of the harness, sentences with the figures that each rests on.
#[derive(Debug, Default)]
pub(super) struct Doubts {
    /// Why the figures must not be believed.
    pub(super) reasons: Vec<String>,
    /// The same of phases whose figures do not count.
    pub(super) notes: Vec<String>,
}

/// `needs_data`: the run is about messages.
pub(super) fn doubts(outcome: &Outcome, needs_data: bool) -> Doubts {
    let mut doubts = Doubts::default();
    for phase in outcome.phases.iter().filter(|phase| phase.judged != Judged::Nothing) {
        let counts = phase.judged == Judged::Everything;
        let late = [workers(outcome, phase), schedule_lag(outcome, phase), read_lag(outcome, phase)];
        let spoils = counts && phase.seconds() >= SHORT_SECONDS;
        if spoils { &mut doubts.reasons } else { &mut doubts.notes }.extend(late.into_iter().flatten());
        // However short it was: clients that were to be there were not.
        if counts { &mut doubts.reasons } else { &mut doubts.notes }.extend(clients(phase));
    }
    doubts.reasons.extend(clocks(outcome));
    if needs_data {
        doubts.reasons.extend(silence(outcome));
    }
    if outcome.phases.iter().all(|phase| phase.counts.connects == 0 && phase.counts.bytes == 0) {
        doubts.reasons.push("Nothing happened: no client connected, and nothing was received.".to_owned());
    }
    doubts
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
    let clients = &phase.clients;
    // A client that the server refused or dropped, be it in an earlier phase, is the server's doing, and a threshold's matter.
    let accounted = clients.ready + clients.stalled + clients.gone;
    (accounted < phase.planned).then(|| {
        format!(
            "Phase {}: of {} clients planned only {} were ready at its end ({} still connecting).",
            phase.name,
            count(phase.planned),
            count(clients.ready + clients.stalled),
            count(clients.connecting),
        )
    })
}

/// Clients were ready all the time, and had nothing to check and to time.
fn silence(outcome: &Outcome) -> Option<String> {
    let total = |of: fn(&Phase) -> u64| outcome.counted().map(of).sum::<u64>();
    let ready = outcome.counted().map(|phase| phase.clients.ready).max().unwrap_or(0);
    let heartbeats = total(|phase| phase.counts.heartbeats);
    (ready > 0 && total(|phase| phase.counts.messages) == 0).then(|| {
        let else_came = match heartbeats {
            0 => "and no heartbeat either".to_owned(),
            1 => "only 1 heartbeat".to_owned(),
            more => format!("only {} heartbeats", count(more)),
        };
        format!(
            "No message came to {} clients that were ready, {else_came}: is anything traded in the channels that they \
             subscribe to?",
            count(ready),
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

    /// Of a run that holds everything, after a change of one phase; the first is a warm-up.
    fn changed(phase: usize, change: &dyn Fn(&mut Phase)) -> Doubts {
        let mut outcome = testing::held();
        change(&mut outcome.phases[phase]);
        doubts(&outcome, true)
    }

    #[test]
    fn a_run_that_measured_the_harness_says_why() {
        let check = |change: &dyn Fn(&mut Phase), expected: Option<&str>| {
            let Doubts { reasons, notes } = changed(1, change);
            assert_eq!(notes, Vec::<String>::new());
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
        check(&|phase| (phase.clients.ready, phase.clients.connecting) = (990, 10), Some("(10 still connecting)"));
        // The server's doing, whenever it was; counts are of the phase, and say nothing of that.
        check(&|phase| (phase.clients.ready, phase.clients.gone) = (990, 10), None);
        check(&|phase| (phase.clients.ready, phase.counts.lost) = (990, 10), Some("only 990 were ready"));
        check(&|phase| (phase.clients.ready, phase.clients.stalled) = (900, 100), None);
        check(
            &|phase| (phase.counts.from_the_future, phase.ahead_ns_max) = (7, 3_000_000_000),
            Some("7 messages were stamped later than they arrived, up to 3.00 s (1.00 ms is allowed)"),
        );
        assert_eq!(testing::empty().invalid, ["Nothing happened: no client connected, and nothing was received."]);
        check(&|phase| (phase.judged, phase.clients.ready) = (Judged::Nothing, 0), None);
    }

    #[test]
    fn where_figures_do_not_count_the_harness_may_be_late() {
        let check = |phase: usize, change: &dyn Fn(&mut Phase), noted: &str| {
            let Doubts { reasons, notes } = changed(phase, change);
            assert_eq!(reasons, Vec::<String>::new());
            assert!(notes.len() == 1 && notes[0].contains(noted), "{noted}: {notes:?}");
        };
        check(0, &|phase| phase.schedule_lag = timed(79_800_000), "late for its own schedule (p99 79.8 ms");
        check(0, &|phase| phase.workers = [(0, 0.99)].into(), "out of processor time");
        check(0, &|phase| phase.clients.ready = 990, "only 990 were ready");
        let short = |phase: &mut Phase| {
            phase.end_ns = phase.start_ns + 99_000_000;
            phase.schedule_lag = timed(60_000_000);
        };
        check(1, &short, "late for its own schedule");
    }

    #[test]
    fn a_run_about_messages_without_any_is_none() {
        let check = |needs_data: bool, heartbeats: u64, ready: u64, expected: Option<&str>| {
            let mut outcome = testing::held();
            for phase in &mut outcome.phases {
                (phase.counts.messages, phase.latency) = (0, None);
                (phase.counts.heartbeats, phase.clients.ready, phase.clients.gone) = (heartbeats, ready, 1_000 - ready);
            }
            let reasons = doubts(&outcome, needs_data).reasons;
            assert_eq!(reasons.len(), usize::from(expected.is_some()), "{reasons:?}");
            assert!(expected.is_none_or(|words| reasons[0].contains(words)), "{reasons:?}");
        };
        check(true, 0, 1_000, Some("No message came to 1,000 clients that were ready, and no heartbeat either"));
        check(true, 5, 1_000, Some("only 15 heartbeats"));
        check(false, 5, 1_000, None);
        // The server dropped them all: a threshold's matter.
        check(true, 0, 0, None);
    }
}
