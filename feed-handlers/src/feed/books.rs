//! A product's book within its feed: whether it may be believed, and what is to be done where it may not.
//!
//! Pure, owned by the feed's thread. A book is *live* from a snapshot on, for as long as the venue's own numbers and
//! checksums say that no change is missing. A venue that sends changes only, and snapshots elsewhere when asked, has its
//! changes kept while the snapshot is on its way.
//!
//! Bounds: [`WAITING_LEVELS_MAX`] levels wait for a snapshot; with more, all of them go and the snapshot is asked for
//! again. The levels of the book itself are bounded by [`Book`].

use crate::book::Book;
use crate::decode::event::{BookBegin, BookEnd, BookScope, Level};

/// Levels of changes that may wait for a snapshot: some seconds of the busiest products.
pub(super) const WAITING_LEVELS_MAX: usize = 50_000;

/// How the venue lets a book be checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BookCheck {
    /// Not at all.
    Trust,
    /// By Kraken's checksum of the ten best levels of each side.
    KrakenChecksum,
}

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Applied {
    /// The book is live, and as of this change.
    Live,
    /// It was older than the snapshot.
    Stale,
    /// The book waits for a snapshot.
    Waiting,
    /// It needs a new snapshot: a change is missing, a level could not be read, or a checksum does not fit.
    Lost(Loss),
}

/// Why a book is not to be believed any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    /// The numbers of changes have a hole, or go back.
    Gap,
    Checksum,
    /// A level could not be read.
    Level,
    /// No snapshot came while changes gathered.
    Overflow,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No snapshot yet, or not to be believed since.
    Waiting,
    Live,
}

/// A change that waits for the snapshot.
#[derive(Clone, Debug)]
struct WaitingChange {
    updates: Option<(u64, u64)>,
    levels: usize,
}

/// The book of one product.
#[derive(Debug)]
pub(super) struct ProductBook {
    book: Book,
    check: BookCheck,
    state: State,
    /// The venue's number of the last change in the book.
    last: Option<u64>,
    /// A change was applied since the snapshot. From then on each follows on the one before.
    is_in_step: bool,
    /// The change under way.
    begun: Option<(BookScope, Option<(u64, u64)>)>,
    /// Whether it is applied, as far as its levels go.
    takes_levels: bool,
    is_faulty: bool,
    /// Changes that wait, the oldest first, and their levels one after the other.
    changes: Vec<WaitingChange>,
    levels: Vec<Level>,
}

impl ProductBook {
    pub(super) fn new(book: Book, check: BookCheck) -> ProductBook {
        ProductBook {
            book,
            check,
            state: State::Waiting,
            last: None,
            is_in_step: false,
            begun: None,
            takes_levels: false,
            is_faulty: false,
            changes: Vec::new(),
            levels: Vec::new(),
        }
    }

    pub(super) fn book(&self) -> &Book {
        &self.book
    }

    pub(super) fn is_live(&self) -> bool {
        self.state == State::Live
    }

    /// What was known is not to be believed: only a snapshot makes the book live again.
    pub(super) fn lose(&mut self) {
        self.state = State::Waiting;
        self.begun = None;
        self.takes_levels = false;
        self.changes.clear();
        self.levels.clear();
        self.book.clear();
    }

    pub(super) fn begin(&mut self, begin: &BookBegin<'_>) {
        self.begun = Some((begin.scope, begin.updates));
        self.is_faulty = false;
        if begin.scope == BookScope::Snapshot {
            self.book.clear();
            self.takes_levels = true;
            return;
        }
        self.takes_levels = self.is_live() && !self.is_stale(begin.updates) && !self.is_gap(begin.updates);
        if !self.is_live() {
            self.changes.push(WaitingChange { updates: begin.updates, levels: 0 });
        }
    }

    /// A level of the change under way.
    pub(super) fn level(&mut self, level: Level) {
        if self.takes_levels {
            self.book.apply(level);
        } else if self.begun.is_some_and(|(scope, _)| scope == BookScope::Change)
            && !self.is_live()
            && let Some(change) = self.changes.last_mut()
        {
            change.levels += 1;
            self.levels.push(level);
        }
    }

    /// A level of the change under way could not be read.
    pub(super) fn fault(&mut self) {
        self.is_faulty = true;
    }

    /// The change under way is complete.
    pub(super) fn end(&mut self, end: &BookEnd) -> Applied {
        let Some((scope, updates)) = self.begun.take() else { return Applied::Waiting };
        self.takes_levels = false;
        if self.is_faulty {
            self.lose();
            return Applied::Lost(Loss::Level);
        }
        match scope {
            BookScope::Snapshot => {
                self.state = State::Live;
                self.last = updates.map(|(_, last)| last);
                self.is_in_step = false;
                if let Err(loss) = self.apply_waiting() {
                    self.lose();
                    return Applied::Lost(loss);
                }
            }
            BookScope::Change if !self.is_live() => {
                if self.levels.len() > WAITING_LEVELS_MAX {
                    self.lose();
                    return Applied::Lost(Loss::Overflow);
                }
                return Applied::Waiting;
            }
            BookScope::Change if self.is_stale(updates) => return Applied::Stale,
            BookScope::Change if self.is_gap(updates) => {
                self.lose();
                return Applied::Lost(Loss::Gap);
            }
            BookScope::Change => self.step_to(updates),
        }
        self.book.truncate();
        let fits = match (self.check, end.checksum) {
            (BookCheck::KrakenChecksum, Some(checksum)) => self.book.checksum_kraken() == checksum,
            _ => true,
        };
        if !fits {
            self.lose();
            return Applied::Lost(Loss::Checksum);
        }
        Applied::Live
    }

    /// The changes that came before the snapshot did, as far as they are newer.
    fn apply_waiting(&mut self) -> Result<(), Loss> {
        let (changes, levels) = (std::mem::take(&mut self.changes), std::mem::take(&mut self.levels));
        let mut rest = &levels[..];
        for change in changes {
            let (own, others) = rest.split_at(change.levels);
            rest = others;
            // Without numbers nothing says which of the two is newer: the snapshot came last.
            if change.updates.is_none() || self.is_stale(change.updates) {
                continue;
            }
            if self.is_gap(change.updates) {
                return Err(Loss::Gap);
            }
            for level in own {
                self.book.apply(*level);
            }
            self.step_to(change.updates);
        }
        Ok(())
    }

    fn step_to(&mut self, updates: Option<(u64, u64)>) {
        if let Some((_, last)) = updates {
            self.last = Some(last);
            self.is_in_step = true;
        }
    }

    /// Whether the book has all of these updates already: of the first ones after a snapshot it may.
    fn is_stale(&self, updates: Option<(u64, u64)>) -> bool {
        matches!((updates, self.last), (Some((_, last)), Some(known)) if !self.is_in_step && last <= known)
    }

    /// Whether these updates do not follow on those in the book. The first ones after a snapshot may reach back before it.
    /// Later, going back is as bad as a hole: a number was wrong, this one or that of the last change, and were it that, all
    /// that come would look old.
    fn is_gap(&self, updates: Option<(u64, u64)>) -> bool {
        let (Some((first, _)), Some(known)) = (updates, self.last) else { return false };
        let next = known.saturating_add(1);
        if self.is_in_step { first != next } else { first > next }
    }
}

#[cfg(test)]
mod tests {
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
        book.end(&BookEnd { checksum: None, time: None })
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
    fn what_waits_is_bounded() {
        let mut book = ProductBook::new(Book::new(), BookCheck::Trust);
        let change = BookBegin { symbol: Symbol::Text(b"A"), scope: BookScope::Change, updates: Some((1, 1)) };
        let level = Level { side: Side::Buy, price: Decimal::new(1, 0).unwrap(), size: Decimal::new(1, 0).unwrap() };
        book.begin(&change);
        for _ in 0..=WAITING_LEVELS_MAX {
            book.level(level);
        }
        assert_eq!(book.end(&BookEnd { checksum: None, time: None }), Lost(Loss::Overflow));
        assert!(book.levels.is_empty() && book.changes.is_empty());
    }

    /// The venue's own book: is it a bid, price, size.
    type Truth = BTreeMap<(bool, i64), i64>;

    fn tell(
        book: &mut ProductBook,
        scope: BookScope,
        updates: (u64, u64),
        levels: impl Iterator<Item = (bool, i64, i64)>,
    ) {
        book.begin(&BookBegin { symbol: Symbol::Text(b"A"), scope, updates: Some(updates) });
        for (is_bid, price, size) in levels {
            let side = if is_bid { Side::Buy } else { Side::Sell };
            let [price, size] = [price, size].map(|n| Decimal::new(n, 0).unwrap());
            book.level(Level { side, price, size });
        }
        let _ = book.end(&BookEnd { checksum: None, time: None });
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
}
