//! A product's book within its feed: whether it may be believed, and what is to be done where it may not.
//!
//! Pure, owned by the feed's thread. A book is *live* from a snapshot on, for as long as the venue's own numbers and
//! checksums say that no change is missing. A venue that sends changes only, and snapshots elsewhere when asked, has its
//! changes kept while the snapshot is on its way.
//!
//! Bounds: [`WAITING_LEVELS_MAX`] levels wait for a snapshot; with more, all of them go and the snapshot is asked for
//! again. The levels of the book itself are bounded by [`Book`].

use crate::book::{Book, Spread};
use crate::decode::event::{BookBegin, BookEnd, BookScope, Level};

/// Levels of changes that may wait for a snapshot: some seconds of the busiest products.
pub(super) const WAITING_LEVELS_MAX: usize = 50_000;

/// A book that is crossed for longer, ns, has a level that is wrong: a venue's own crosses are matched within moments.
pub(super) const CROSSED_MAX_NS: i64 = 5_000_000_000;

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
    /// Its best bid stayed above its best ask.
    Crossed,
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
    /// Since when it is crossed, by receipt.
    crossed_since: Option<i64>,
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
            crossed_since: None,
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

    /// The change under way, which came at `ts_recv`, is complete.
    pub(super) fn end(&mut self, end: &BookEnd, ts_recv: i64) -> Applied {
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
                self.crossed_since = None;
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
        if self.stays_crossed(ts_recv) {
            self.lose();
            return Applied::Lost(Loss::Crossed);
        }
        Applied::Live
    }

    fn stays_crossed(&mut self, ts_recv: i64) -> bool {
        let is_crossed = self.book.spread() == Spread::Crossed;
        self.crossed_since = is_crossed.then(|| self.crossed_since.unwrap_or(ts_recv));
        self.crossed_since.is_some_and(|since| ts_recv.saturating_sub(since) > CROSSED_MAX_NS)
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
mod tests;
