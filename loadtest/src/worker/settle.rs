//! The end of a stretch of data: which numbers there are, and whether every client has them.
//!
//! Losses at the tail show only in comparison: what any client of any worker has seen, every subscriber has to get.

use super::{Stage, Worker, tell};
use crate::orders::{ChannelName, Mark, Word};
use crate::symbols::Key;
use protocol::Class;

/// How often those who lack something are looked at, ns.
const LOOK_NS: u64 = 20_000_000;

#[derive(Debug)]
pub(super) struct Settle {
    until_ns: u64,
    next_ns: u64,
    /// Clients that lacked something at the last look.
    waiting: Vec<usize>,
}

impl Settle {
    pub(super) fn next_ns(&self) -> u64 {
        self.next_ns
    }
}

impl Worker {
    /// The highest number of every sequenced channel.
    pub(super) fn survey(&self) -> Vec<Mark> {
        let mut marks = Vec::new();
        for board in &self.shared.boards {
            for (key, last) in board.iter().filter(|(key, _)| key.kind().class() == Class::Sequenced) {
                let symbol = self.shared.symbols.name(key.symbol()).to_owned();
                marks.push(Mark { epoch: board.epoch, channel: ChannelName::of(key.kind()), symbol, last });
            }
        }
        marks
    }

    pub(super) fn baseline(&mut self, marks: &[Mark]) {
        let now_ns = self.shared.now.wall_ns;
        self.each_mark(marks, |board, key, last| board.set_baseline(key, last));
        for board in &mut self.shared.boards {
            board.baseline_ns = now_ns;
        }
    }

    pub(super) fn begin_settling(&mut self, marks: &[Mark], wait_ns: u64) {
        self.each_mark(marks, |board, key, last| board.raise_target(key, last));
        self.shared.settling = true;
        let now_ns = self.shared.now.mono_ns;
        let waiting = (0..self.entries.len()).filter(|index| self.is_settling(*index)).collect();
        self.settle = Some(Settle { until_ns: now_ns + wait_ns, next_ns: now_ns, waiting });
    }

    fn is_settling(&self, index: usize) -> bool {
        let entry = &self.entries[index];
        entry.client.stage() == Stage::Live && !entry.stalled
    }

    fn each_mark(&mut self, marks: &[Mark], mut set: impl FnMut(&mut crate::symbols::Board, Key, u64)) {
        for mark in marks {
            let key = Key::new(self.shared.symbols.learn(&mark.symbol), mark.channel.kind());
            let board = usize::from(self.shared.board(mark.epoch));
            if let Some(board) = self.shared.boards.get_mut(board) {
                set(board, key, mark.last);
            }
        }
    }

    /// Looks whether everybody has everything, and counts what lacks when the time is over.
    pub(super) fn settle(&mut self) -> anyhow::Result<()> {
        let now_ns = self.shared.now.mono_ns;
        let Some(mut settle) = self.settle.take() else { return Ok(()) };
        if settle.next_ns > now_ns {
            self.settle = Some(settle);
            return Ok(());
        }
        settle
            .waiting
            .retain(|index| self.is_settling(*index) && !self.entries[*index].client.has_everything(&self.shared));
        settle.next_ns = (now_ns + LOOK_NS).min(settle.until_ns);
        if !settle.waiting.is_empty() && now_ns < settle.until_ns {
            self.settle = Some(settle);
            return Ok(());
        }
        for index in 0..self.entries.len() {
            if self.is_settling(index) {
                self.entries[index].client.settle(&mut self.shared);
            }
        }
        self.shared.settling = false;
        self.end_interval()?;
        tell(&Word::Settled)
    }
}
