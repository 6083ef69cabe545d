//! A product's book: the cases one by one, and whatever is lost, late or told twice against the venue's own book.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use protocol::{Decimal, Side};

use super::*;
use crate::decode::event::Symbol;

/// What comes: updates `first..=last`, and the size that the level at a price of 1 has then.
enum Step {
    Snapshot(u64, i64),
    Change(u64, u64, i64),
    /// Without numbers.
    Bare(BookScope, i64),
    Faulty(u64),
    Lose,
}
use Step::{Bare, Change, Faulty, Lose, Snapshot};

fn take(book: &mut ProductBook, scope: BookScope, updates: Option<(u64, u64)>, size: Option<i64>) -> Applied {
    book.begin(&BookBegin { symbol: Symbol::Text(b"A"), scope, updates });
    match size {
        Some(size) => {
            let [price, size] = [1, size].map(|n| Decimal::new(n, 0).unwrap());
            book.level(Level { side: Side::Buy, price, size });
        }
        None => book.fault(),
    }
    book.end(&BookEnd { checksum: None, time: None }, 0)
}

/// What becomes of each step, and the size in the book after it.
#[track_caller]
fn check(steps: &[Step], expected: &[(Applied, i64)]) {
    let mut book = ProductBook::new(Book::new(), BookCheck::Trust);
    let mut seen = Vec::new();
    for step in steps {
        let applied = match *step {
            Snapshot(last, size) => take(&mut book, BookScope::Snapshot, Some((last, last)), Some(size)),
            Change(first, last, size) => take(&mut book, BookScope::Change, Some((first, last)), Some(size)),
            Bare(scope, size) => take(&mut book, scope, None, Some(size)),
            Faulty(number) => take(&mut book, BookScope::Change, Some((number, number)), None),
            Lose => {
                book.lose();
                Applied::Waiting
            }
        };
        seen.push((applied, book.book().top().0.map_or(0, |(_, size)| size.mantissa())));
    }
    assert_eq!(seen, expected);
}

use Applied::{Live, Lost, Stale, Waiting};

#[test]
fn changes_follow_each_other_from_the_snapshot_on() {
    check(
        &[Snapshot(10, 5), Change(11, 12, 6), Change(13, 13, 7), Change(15, 15, 8), Change(16, 16, 9)],
        &[(Live, 5), (Live, 6), (Live, 7), (Lost(Loss::Gap), 0), (Waiting, 0)],
    );
}

#[test]
fn changes_that_go_back_end_the_book() {
    check(&[Snapshot(10, 5), Change(11, 12, 6), Change(12, 12, 7)], &[(Live, 5), (Live, 6), (Lost(Loss::Gap), 0)]);
    // The wrong number is the one before.
    check(
        &[Snapshot(10, 5), Change(11, 912, 6), Change(13, 13, 7), Snapshot(13, 8), Change(14, 14, 9)],
        &[(Live, 5), (Live, 6), (Lost(Loss::Gap), 0), (Live, 8), (Live, 9)],
    );
}

#[test]
fn a_snapshot_meets_the_changes_that_came_before_it() {
    check(
        &[Change(8, 9, 3), Change(10, 12, 4), Change(13, 14, 6), Snapshot(11, 5), Change(15, 15, 7)],
        &[(Waiting, 0), (Waiting, 0), (Waiting, 0), (Live, 6), (Live, 7)],
    );
    // All of them are older; the first that comes later reaches back before the snapshot.
    check(
        &[Change(8, 9, 3), Snapshot(11, 5), Change(9, 11, 1), Change(10, 12, 7)],
        &[(Waiting, 0), (Live, 5), (Stale, 5), (Live, 7)],
    );
    // The snapshot is too old for what was kept.
    check(&[Change(14, 15, 3), Snapshot(11, 5), Snapshot(15, 6)], &[(Waiting, 0), (Lost(Loss::Gap), 0), (Live, 6)]);
}

#[test]
fn without_numbers_the_snapshot_came_last() {
    check(
        &[
            Bare(BookScope::Change, 3),
            Bare(BookScope::Snapshot, 5),
            Bare(BookScope::Change, 6),
            Lose,
            Bare(BookScope::Change, 7),
            Bare(BookScope::Snapshot, 8),
        ],
        &[(Waiting, 0), (Live, 5), (Live, 6), (Waiting, 0), (Waiting, 0), (Live, 8)],
    );
}

#[test]
fn a_level_that_cannot_be_read_ends_the_book() {
    check(
        &[Snapshot(10, 5), Faulty(11), Change(12, 12, 6), Snapshot(12, 7)],
        &[(Live, 5), (Lost(Loss::Level), 0), (Waiting, 0), (Live, 7)],
    );
}

#[test]
fn a_book_that_stays_crossed_is_wrong() {
    let mut book = ProductBook::new(Book::new(), BookCheck::Trust);
    let mut take = |scope, is_bid, price, size, ts_recv| {
        book.begin(&BookBegin { symbol: Symbol::Text(b"A"), scope, updates: None });
        let side = if is_bid { Side::Buy } else { Side::Sell };
        let [price, size] = [price, size].map(|n| Decimal::new(n, 0).unwrap());
        book.level(Level { side, price, size });
        book.end(&BookEnd { checksum: None, time: None }, ts_recv)
    };
    let end = CROSSED_MAX_NS;
    assert_eq!(take(BookScope::Snapshot, true, 10, 1, 0), Live);
    assert_eq!(take(BookScope::Change, false, 9, 1, 1), Live);
    assert_eq!(take(BookScope::Change, false, 12, 1, end + 1), Live);
    // It was matched after all, and crosses again.
    assert_eq!(take(BookScope::Change, false, 9, 0, end + 2), Live);
    assert_eq!(take(BookScope::Change, false, 9, 1, end + 3), Live);
    assert_eq!(take(BookScope::Change, false, 12, 2, 2 * end + 3), Live);
    assert_eq!(take(BookScope::Change, false, 12, 1, 2 * end + 4), Lost(Loss::Crossed));
    assert_eq!(take(BookScope::Snapshot, true, 10, 1, 2 * end + 5), Live);
}

#[test]
fn what_waits_is_bounded() {
    let mut book = ProductBook::new(Book::new(), BookCheck::Trust);
    let change = BookBegin { symbol: Symbol::Text(b"A"), scope: BookScope::Change, updates: Some((1, 1)) };
    let level = Level { side: Side::Buy, price: Decimal::new(1, 0).unwrap(), size: Decimal::new(1, 0).unwrap() };
    book.begin(&change);
    for _ in 0..=WAITING_LEVELS_MAX {
        book.level(level);
    }
    assert_eq!(book.end(&BookEnd { checksum: None, time: None }, 0), Lost(Loss::Overflow));
    assert!(book.levels.is_empty() && book.changes.is_empty());
}

/// The venue's own book: is it a bid, price, size.
type Truth = BTreeMap<(bool, i64), i64>;

fn tell(book: &mut ProductBook, scope: BookScope, updates: (u64, u64), levels: impl Iterator<Item = (bool, i64, i64)>) {
    book.begin(&BookBegin { symbol: Symbol::Text(b"A"), scope, updates: Some(updates) });
    for (is_bid, price, size) in levels {
        let side = if is_bid { Side::Buy } else { Side::Sell };
        let [price, size] = [price, size].map(|n| Decimal::new(n, 0).unwrap());
        book.level(Level { side, price, size });
    }
    let _ = book.end(&BookEnd { checksum: None, time: None }, 0);
}

fn held(book: &Book) -> Truth {
    let levels = |side| book.levels(side).map(move |(price, size)| (side, price.mantissa(), size.mantissa()));
    let levels = levels(Side::Buy).chain(levels(Side::Sell));
    levels.map(|(side, price, size)| ((side == Side::Buy, price), size)).collect()
}

proptest! {
    /// Whatever of the numbered changes is lost, comes late or twice, and whenever there is a snapshot, an old one too: a
    /// live book is the venue's as of the last number in it.
    #[test]
    fn a_live_book_is_that_of_the_venue(
        changes in vec(vec((any::<bool>(), 1i64..6, 0i64..4), 0..4), 1..40),
        steps in vec((0u8..8, any::<Index>()), 1..80),
    ) {
        let mut truths = vec![Truth::new()];
        for change in &changes {
            let mut truth = truths[truths.len() - 1].clone();
            truth.extend(change.iter().map(|&(is_bid, price, size)| ((is_bid, price), size)));
            truth.retain(|_, size| *size > 0);
            truths.push(truth);
        }
        let mut book = ProductBook::new(Book::new(), BookCheck::Trust);
        // The changes from `first` to `last` in one, as the venue sums them up.
        let change = |book: &mut ProductBook, first: usize, last: usize| {
            let levels = changes[first - 1..last].iter().flatten().copied();
            tell(book, BookScope::Change, (first as u64, last as u64), levels);
        };
        let mut next = 1;
        for (step, index) in steps {
            let is_over = next > changes.len();
            match step {
                0..=2 if !is_over => change(&mut book, next, next),
                3 if next < changes.len() => {
                    change(&mut book, next, next + 1);
                    next += 1;
                }
                5 => {
                    let again = 1 + index.index(next.min(changes.len()));
                    change(&mut book, again, again);
                }
                6 => {
                    let at = index.index(next);
                    let levels = truths[at].iter().map(|(&(is_bid, price), &size)| (is_bid, price, size));
                    tell(&mut book, BookScope::Snapshot, (at as u64, at as u64), levels);
                }
                7 => book.lose(),
                // A change that never comes.
                _ => {}
            }
            next += usize::from(step < 5 && !is_over);
            if book.is_live() {
                let last = book.last.expect("all are numbered") as usize;
                prop_assert_eq!(held(book.book()), truths[last].clone(), "as of {}", last);
            }
        }
    }
}
