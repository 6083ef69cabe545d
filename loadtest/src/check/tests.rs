//! Tests of `check`.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// `(missing, duplicates, reordered)` after these numbers and settling at `target`.
fn totals(numbers: impl IntoIterator<Item = u64>, target: u64) -> (u64, u64, u64) {
    let mut sequence = Sequence::default();
    let mut sums = (0, 0, 0);
    let mut add = |finding: Finding| {
        sums.0 += finding.missing;
        sums.1 += u64::from(finding.duplicate);
        sums.2 += u64::from(finding.reordered);
    };
    for number in numbers {
        add(sequence.came(number));
    }
    add(sequence.settle(target));
    sums
}

#[test]
fn each_fault_is_counted_once() {
    let check = |numbers: &[u64], target, expected| {
        assert_eq!(totals(numbers.iter().copied(), target), expected, "{numbers:?} to {target}");
    };
    check(&[], 0, (0, 0, 0));
    check(&[1, 2, 3], 3, (0, 0, 0));
    check(&[500, 501], 501, (0, 0, 0));
    check(&[1, 2, 4], 4, (1, 0, 0));
    check(&[1, 3, 2, 4], 4, (0, 0, 1));
    check(&[1, 2, 2, 3, 1], 3, (0, 2, 0));
    check(&[1, 2], 5, (3, 0, 0));
    check(&[2, 1, 3], 3, (0, 0, 1));
    check(&[1, 100], 100, (98, 0, 0));
    check(&[1, 1_000_000], 1_000_000, (999_998, 0, 0));
    // Behind the window: what has no hole below it can only be a repetition.
    check(&[&(1..200).collect::<Vec<_>>()[..], &[3]].concat(), 199, (0, 1, 0));
    check(&[&[1], &(3..200).collect::<Vec<_>>()[..], &[2]].concat(), 199, (1, 0, 1));
}

#[test]
fn the_first_missing_number_is_named() {
    let check = |numbers: &[u64], target, from| {
        let mut sequence = Sequence::default();
        let mut first = 0;
        for number in numbers {
            let finding = sequence.came(*number);
            first = if first == 0 { finding.missing_from } else { first };
        }
        let settled = sequence.settle(target);
        assert_eq!(if first == 0 { settled.missing_from } else { first }, from, "{numbers:?}");
    };
    check(&[1, 2, 4, 5], 5, 3);
    check(&[1, 2, 4, 70], 70, 3);
    check(&[7, 100], 100, 8);
    check(&[1, 2], 9, 3);
}

#[test]
fn an_announced_gap_is_not_missing() {
    let check = |before: &[u64], gap: (u64, u64), after: &[u64], announced, missing| {
        let mut sequence = Sequence::default();
        let mut lacking: u64 = before.iter().map(|number| sequence.came(*number).missing).sum();
        let (accounted, finding) = sequence.announced(gap.0, gap.1);
        lacking += finding.missing;
        for number in after {
            let finding = sequence.came(*number);
            assert!(!finding.duplicate && !finding.reordered, "{number} after {gap:?}");
            lacking += finding.missing;
        }
        lacking += sequence.settle(0).missing;
        assert_eq!((accounted, lacking), (announced, missing), "{before:?} {gap:?} {after:?}");
    };
    check(&[1, 2], (3, 10), &[11, 12], 8, 0);
    check(&[1, 2], (3, 1_000), &[1_001], 998, 0);
    check(&[1, 2], (5, 10), &[11], 6, 2);
    check(&[1, 2], (500, 1_000), &[1_001], 501, 497);
    check(&[1, 2, 5], (3, 4), &[6], 2, 0);
    check(&[1, 2, 3], (1, 3), &[4], 0, 0);
    check(&[1, 2, 3], (9, 5), &[4], 0, 0);
    check(&[], (1, 7), &[8], 7, 0);
    check(&[1, 2, 4], (100, 200), &[201], 101, 96);
}

#[test]
fn a_conflated_channel_may_leave_out_but_not_go_back() {
    let mut sequence = Sequence::default();
    assert_eq!(sequence.came_conflated(7), (0, Finding::default()));
    assert_eq!(sequence.came_conflated(8), (0, Finding::default()));
    assert_eq!(sequence.came_conflated(11), (2, Finding::default()));
    assert!(sequence.came_conflated(11).1.duplicate);
    assert!(sequence.came_conflated(9).1.reordered);
}

/// The rules in words, over a set of everything that came.
fn naive(numbers: &[u64]) -> (u64, u64, u64) {
    let mut seen = BTreeSet::new();
    let (mut duplicates, mut reordered) = (0, 0);
    let first = numbers[0];
    let mut last = 0;
    for number in numbers {
        if *number < first {
            reordered += 1;
            continue;
        }
        if !seen.insert(*number) {
            duplicates += 1;
        } else if *number < last {
            reordered += 1;
        }
        last = last.max(*number);
    }
    let missing = (first..=last).filter(|number| !seen.contains(number)).count() as u64;
    (missing, duplicates, reordered)
}

proptest! {
    /// Within the window the check is exact, whatever comes.
    #[test]
    fn equals_the_naive_model(start in 1u64..1_000_000, steps in prop::collection::vec(-20i64..40, 1..40)) {
        let mut highest = start;
        let mut numbers = vec![start];
        for step in steps {
            let number = highest.saturating_add_signed(step).max(highest.saturating_sub(60)).max(1);
            highest = highest.max(number);
            numbers.push(number);
        }
        // What a number means that falls behind the window is another test's.
        let mut top = 0;
        numbers.retain(|number| { let near = *number + WINDOW > top; top = top.max(*number); near });
        prop_assert_eq!(totals(numbers.iter().copied(), 0), naive(&numbers));
    }

    /// Whatever comes, nothing panics and everything due is accounted for.
    #[test]
    fn any_numbers(numbers in prop::collection::vec(1u64..200, 1..200)) {
        let (missing, duplicates, reordered) = totals(numbers.iter().copied(), 0);
        let fresh = numbers.len() as u64 - duplicates;
        let last = *numbers.iter().max().unwrap_or(&0);
        let due = last - numbers[0] + 1;
        prop_assert!(missing <= due);
        prop_assert!(fresh + missing >= due);
        prop_assert!(reordered <= fresh);
    }
}
