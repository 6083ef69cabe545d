//! Two runs side by side: what changed, what is noise, and what cannot be compared.

use super::*;
use crate::report::table::Style;
use crate::report::testing;

fn change<'a>(comparison: &'a Comparison, phase: &str, figure: &str) -> &'a Change {
    let phase = comparison.phases.iter().find(|it| it.name == phase).unwrap();
    phase.changes.iter().find(|it| it.figure == figure).unwrap()
}

#[test]
fn a_run_does_not_differ_from_itself() {
    let run = testing::held();
    let comparison = Comparison::of(&run, &run);
    assert_eq!(comparison.warnings, Vec::<String>::new());
    assert_eq!(comparison.phases.len(), 4);
    for change in comparison.phases.iter().flat_map(|phase| &phase.changes) {
        assert!(matches!(change.verdict, Verdict::Same | Verdict::Unknown), "{change:?}");
        assert_eq!(change.share(), Some(0.0), "{change:?}");
    }
    assert!(comparison.failures(0.0).is_empty());
}

#[test]
fn what_got_worse_is_told_and_decides() {
    let (fast, slow) = (testing::held(), testing::slower(1.2));
    let worse = Comparison::of(&fast, &slow);
    let check = |comparison: &Comparison, figure: &str, share: f64, verdict: Verdict| {
        let change = change(comparison, "baseline", figure);
        assert!((change.share().unwrap() - share).abs() < 0.01, "{change:?}");
        assert_eq!(change.verdict, verdict, "{change:?}");
    };
    check(&worse, "latency p50", 0.2, Verdict::Worse);
    check(&worse, "latency p99", 0.2, Verdict::Worse);
    check(&worse, "server CPU/message", 0.2, Verdict::Worse);
    check(&worse, "messages", 0.0, Verdict::Same);
    check(&worse, "server RSS, highest", 0.0, Verdict::Same);
    let better = Comparison::of(&slow, &fast);
    check(&better, "latency p99", 1.0 / 1.2 - 1.0, Verdict::Better);
    assert!(better.failures(0.0).is_empty());
    // p99 and the server's CPU, in each of three phases; the warm-up decides nothing.
    assert_eq!(worse.failures(0.1).len(), 6, "{:?}", worse.failures(0.1));
    assert!(worse.failures(0.1).iter().all(|failure| !failure.starts_with("warm-up")));
    assert!(worse.failures(0.3).is_empty());
}

#[test]
fn memory_for_each_client_decides_where_clients_are_all_that_grows() {
    let check = |scenario: &str, expected: usize| {
        let grown = |bytes: f64| {
            let mut run = testing::held();
            run.header.scenario = scenario.to_owned();
            for phase in &mut run.phases {
                phase.server.as_mut().unwrap().rss_growth_per_client_bytes = Some(bytes);
            }
            run
        };
        let failures = Comparison::of(&grown(500.0), &grown(700.0)).failures(0.1);
        assert_eq!(failures.len(), expected, "{scenario}: {failures:?}");
    };
    check("idle", 3);
    check("broadcast", 0);
}

#[test]
fn a_small_change_is_noise() {
    let comparison = Comparison::of(&testing::held(), &testing::slower(1.03));
    assert_eq!(change(&comparison, "baseline", "latency p99").verdict, Verdict::Same);
    assert_eq!(change(&comparison, "baseline", "server CPU/message").verdict, Verdict::Same);
}

#[test]
fn a_single_message_decides_nothing() {
    let (a, mut b) = (testing::held(), testing::held());
    let latency = b.phases[1].latency.as_mut().unwrap();
    latency.histogram.record(10_000_000_000);
    b.phases[1].latency = Distribution::of(latency.histogram.clone());
    let comparison = Comparison::of(&a, &b);
    let max = change(&comparison, "baseline", "latency max");
    assert!(max.share().unwrap() > 10.0, "{max:?}");
    assert_eq!(max.verdict, Verdict::Unknown);
}

#[test]
fn runs_that_can_not_be_compared_are_told() {
    let check = |change: &dyn Fn(&mut Outcome), expected: &str| {
        let (a, mut b) = (testing::held(), testing::held());
        change(&mut b);
        let warnings = Comparison::of(&a, &b).warnings;
        assert!(warnings.len() == 1 && warnings[0].contains(expected), "{expected}: {warnings:?}");
    };
    check(&|b| b.header.facts.kernel = "Linux 7".to_owned(), "The kernel differs: Linux 6.1.0 and Linux 7.");
    check(&|b| b.header.facts.cores = 64, "number of cores");
    check(&|b| b.header.scenario = "idle".to_owned(), "scenario differs: slow and idle");
    check(&|b| b.header.settings["rate"] = 5.into(), "setting rate differs: 300.0 and 5");
    check(&|b| b.header.settings["new"] = 5.into(), "setting new differs: nothing and 5");
    check(&|b| b.invalid.push("Too slow.".to_owned()), "B is invalid: Too slow.");
    check(&|b| b.ending = Ending::Interrupted, "B was interrupted");
    check(&|b| b.phases.truncate(3), "Phase recovered is in A only");
}

#[test]
fn phases_of_one_name_are_counted() {
    let (a, mut b) = (testing::held(), testing::held());
    b.phases[3].name = "baseline".to_owned();
    let expected = ["Phase recovered is in A only.", "Phase baseline (2) is in B only."];
    assert_eq!(Comparison::of(&a, &b).warnings, expected);
}

#[test]
fn places_are_no_settings() {
    let (a, mut b) = (testing::held(), testing::held());
    b.header.settings["target"] = "ws://other/stream".into();
    b.header.settings["pid"] = 7.into();
    assert_eq!(Comparison::of(&a, &b).warnings, Vec::<String>::new());
}

#[test]
fn the_text_fits_a_terminal() {
    let text = Comparison::of(&testing::held(), &testing::slower(1.2)).text(Style::Plain);
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    assert!(text.contains("latency p99") && text.contains("worse") && text.contains("+20"), "{text}");
}
