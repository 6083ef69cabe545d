//! A client's data messages: numbering, latency, and what to do about what lacks.

use protocol::Class;

use super::{Client, Shared, Slot, Stage};
use crate::check::{Finding, Sequence};
use crate::orders::Timed;
use crate::sample::FaultKind;
use crate::scan::Scanned;
use crate::symbols::{Board, Key};

impl Client {
    /// A trade, quote or bar.
    #[inline]
    pub(super) fn data(&mut self, found: Scanned<'_>, shared: &mut Shared) {
        let known = shared.symbols.find(found.symbol).map(|symbol| Key::new(symbol, found.kind));
        let at = match known.map(|key| (key, self.slot_at(key))) {
            Some((_, Ok(at))) => at,
            _ => match self.slot_of_wildcard(&found, shared) {
                Some(at) => at,
                None => return self.unasked(&found, shared),
            },
        };
        let slot = &mut self.slots[at];
        let counts = &mut shared.tally.sample.counts;
        counts.messages += 1;
        let finding = match found.kind.class() {
            Class::Sequenced => {
                counts.sequenced += 1;
                if let Some(board) = shared.boards.get_mut(usize::from(self.board)) {
                    board.raise(slot.key, found.seq);
                }
                slot.sequence.came(found.seq)
            }
            Class::Conflated => {
                let (left_out, finding) = slot.sequence.came_conflated(found.seq);
                counts.conflated += left_out;
                finding
            }
        };
        if !finding.is_clean() {
            let key = slot.key;
            self.tell(key, found.seq, finding, shared);
        }
        if !self.had_data {
            self.had_data = true;
            shared.tally.sample.first_message.record(shared.now.mono_ns.saturating_sub(self.intended_ns));
        }
        if self.untimed || self.stage != Stage::Live || found.stamp_ns < self.live_ns {
            return;
        }
        if shared.assignment.timed == Timed::Rights {
            return self.feel(found.stamp_ns, shared);
        }
        let late = shared.now.wall_ns - found.stamp_ns;
        match u64::try_from(late) {
            Ok(late) => shared.tally.sample.latency.record(late),
            Err(_) => self.came_before_its_time(late.unsigned_abs(), shared),
        }
    }

    #[cold]
    fn slot_of_wildcard(&mut self, found: &Scanned<'_>, shared: &mut Shared) -> Option<usize> {
        if !Client::is_wild(found.kind, shared) {
            return None;
        }
        let name = std::str::from_utf8(found.symbol).ok()?;
        let key = Key::new(shared.symbols.learn(name), found.kind);
        let at = self.slot_at(key).unwrap_or_else(|at| {
            self.slots.insert(at, Slot { key, leaving: false, late: true, sequence: Sequence::default() });
            at
        });
        Some(at)
    }

    #[cold]
    fn unasked(&mut self, found: &Scanned<'_>, shared: &mut Shared) {
        let what = format!("{} of {}", found.kind.name(), String::from_utf8_lossy(found.symbol));
        self.malformed(shared, || format!("a message of a channel that the client has not subscribed: {what}"));
    }

    #[cold]
    fn came_before_its_time(&mut self, ahead_ns: u64, shared: &mut Shared) {
        let sample = &mut shared.tally.sample;
        sample.latency.record(0);
        if ahead_ns > shared.assignment.clock_tolerance_ns {
            sample.counts.from_the_future += 1;
            sample.ahead_ns_max = sample.ahead_ns_max.max(ahead_ns);
            shared.tally.fault(FaultKind::FromTheFuture, self.number, shared.now, || {
                format!("a message is stamped {:.3} ms later than it arrived", ahead_ns as f64 / 1e6)
            });
        }
    }

    /// Counts a finding and puts it in words.
    #[cold]
    pub(super) fn tell(&mut self, key: Key, number: u64, finding: Finding, shared: &mut Shared) {
        let Finding { missing, missing_from, duplicate, reordered } = finding;
        self.faults += 1;
        let Shared { tally, symbols, now, .. } = shared;
        let channel = || format!("{} of {}", key.kind().name(), symbols.name(key.symbol()));
        let counts = &mut tally.sample.counts;
        counts.missing += missing;
        counts.duplicates += u64::from(duplicate);
        counts.reordered += u64::from(reordered);
        if missing > 0 {
            tally.fault(FaultKind::Missing, self.number, *now, || {
                format!("{missing} of the {} never came, the first is number {missing_from}", channel())
            });
        }
        if duplicate {
            tally.fault(FaultKind::Duplicate, self.number, *now, || {
                format!("number {number} of the {} came again", channel())
            });
        }
        if reordered {
            tally.fault(FaultKind::Reordered, self.number, *now, || {
                format!("number {number} of the {} came behind a later one", channel())
            });
        }
    }

    /// The server announced that numbers will not come.
    pub(super) fn announced(&mut self, key: Key, from: u64, to: Option<u64>, shared: &mut Shared) {
        let Ok(at) = self.slot_at(key) else { return };
        self.faults += 1;
        let Some(to) = to else {
            // Of another epoch: how many is not known, and the numbering begins anew.
            shared.tally.sample.counts.announced += 1;
            self.slots[at].sequence = Sequence::default();
            self.slots[at].late = true;
            return;
        };
        let (count, finding) = self.slots[at].sequence.announced(from, to);
        shared.tally.sample.counts.announced += count;
        if let Some(board) = shared.boards.get_mut(usize::from(self.board)) {
            board.raise(key, to);
        }
        if !finding.is_clean() {
            self.tell(key, to, finding, shared);
        }
    }

    /// Whether everything up to the boards' targets is here.
    pub fn has_everything(&self, shared: &Shared) -> bool {
        let Some(board) = shared.boards.get(usize::from(self.board)) else { return true };
        self.due().all(|slot| match slot.sequence.last() {
            Some(_) => slot.sequence.has_all(board.target(slot.key)),
            None => board.target(slot.key) <= self.due_from(slot, board),
        })
    }

    /// Nothing more is waited for: what lacks is missing.
    pub fn settle(&mut self, shared: &mut Shared) {
        let Some(board) = shared.boards.get(usize::from(self.board)) else { return };
        let mut findings = Vec::new();
        for at in 0..self.slots.len() {
            let slot = self.slots[at];
            if slot.leaving || slot.key.kind().class() != Class::Sequenced {
                continue;
            }
            let target = board.target(slot.key);
            if slot.sequence.last().is_none() {
                let from = self.due_from(&slot, board);
                if target <= from {
                    continue;
                }
                // It should have begun with the next number at the latest.
                self.slots[at].sequence.came(from + 1);
                let rest = self.slots[at].sequence.settle(target);
                let finding = Finding { missing: rest.missing + 1, missing_from: from + 1, ..Finding::default() };
                findings.push((slot.key, target, finding));
                continue;
            }
            let finding = self.slots[at].sequence.settle(target);
            if !finding.is_clean() {
                findings.push((slot.key, target, finding));
            }
        }
        for (key, target, finding) in findings {
            self.tell(key, target, finding, shared);
        }
        self.settle_return(shared);
    }

    /// A return that went on without a fault until now is one that went well.
    pub(super) fn settle_return(&mut self, shared: &mut Shared) {
        if std::mem::take(&mut self.returned) && self.faults == self.faults_at_return {
            shared.tally.sample.counts.resumed += 1;
        }
    }

    /// The connection is cut from this side: what was overtaken will not come any more, and the client returns with the
    /// numbers that it has.
    pub fn cut(&mut self, shared: &mut Shared) {
        self.settle_return(shared);
        for at in 0..self.slots.len() {
            let Slot { key, sequence, .. } = &mut self.slots[at];
            if key.kind().class() == Class::Sequenced {
                let (key, last) = (*key, sequence.last().unwrap_or(0));
                let finding = sequence.settle(0);
                if !finding.is_clean() {
                    self.tell(key, last, finding, shared);
                }
            }
        }
        self.ended();
    }

    fn due(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter().filter(|slot| !slot.leaving && slot.key.kind().class() == Class::Sequenced)
    }

    /// The number behind which a channel of which nothing came is due: the baseline, for who was live by then.
    fn due_from(&self, slot: &Slot, board: &Board) -> u64 {
        let by_then = self.live_ns > 0 && self.live_ns <= board.baseline_ns && !slot.late;
        if by_then { board.baseline(slot.key) } else { u64::MAX }
    }
}
