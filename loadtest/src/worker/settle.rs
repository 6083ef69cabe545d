//! The end of a stretch of data: which numbers there are, and whether every client has them.
//!
//! Losses at the tail show only in comparison: what any client of any worker has seen, every subscriber has to get. With changed
//! records of users it is the same: each of a user's sessions has to be told of the last one.

use super::{Stage, Worker, tell};
use crate::orders::{ChannelName, Mark, Word};
use crate::sample::FaultKind;
use crate::symbols::Key;
use protocol::Class;

/// How often those who lack something are looked at, ns.
const LOOK_NS: u64 = 20_000_000;

/// What clients are waited for to have.
#[derive(Debug)]
enum Due {
    /// What the boards say.
    Messages,
    /// These versions of their users' records, by user.
    Versions(Vec<u64>),
}

#[derive(Debug)]
pub(super) struct Settle {
    due: Due,
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
                let Some(channel) = ChannelName::of(key.kind()) else { continue };
                let symbol = self.shared.symbols.name(key.symbol()).to_owned();
                marks.push(Mark { epoch: board.epoch, channel, symbol, last });
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
        self.wait_for(Due::Messages, wait_ns);
    }

    pub(super) fn begin_awaiting(&mut self, versions: Vec<u64>, wait_ns: u64) {
        self.wait_for(Due::Versions(versions), wait_ns);
    }

    fn wait_for(&mut self, due: Due, wait_ns: u64) {
        let now_ns = self.shared.now.mono_ns;
        let waiting = (0..self.entries.len()).filter(|index| self.is_settling(*index)).collect();
        self.settle = Some(Settle { due, until_ns: now_ns + wait_ns, next_ns: now_ns, waiting });
    }

    fn is_settling(&self, index: usize) -> bool {
        let entry = &self.entries[index];
        entry.client.stage() == Stage::Live && !entry.stalled
    }

    fn has(&self, due: &Due, index: usize) -> bool {
        let client = &self.entries[index].client;
        match due {
            Due::Messages => client.has_everything(&self.shared),
            Due::Versions(versions) => client.version() >= version_of(client.number(), versions),
        }
    }

    /// A session that was not told of its user's last change.
    fn is_untold(&mut self, index: usize, versions: &[u64]) {
        let client = &self.entries[index].client;
        let (number, has, due) = (client.number(), client.version(), version_of(client.number(), versions));
        let tally = &mut self.shared.tally;
        tally.sample.counts.untold += 1;
        tally.fault(FaultKind::Untold, number, self.shared.now, || {
            let at_last = if has == 0 { "nothing".to_owned() } else { format!("version {has}") };
            format!("it was not told of version {due} of its user's record; it was told of {at_last}")
        });
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
        settle.waiting.retain(|index| self.is_settling(*index) && !self.has(&settle.due, *index));
        settle.next_ns = (now_ns + LOOK_NS).min(settle.until_ns);
        if !settle.waiting.is_empty() && now_ns < settle.until_ns {
            self.settle = Some(settle);
            return Ok(());
        }
        match &settle.due {
            Due::Messages => {
                for index in 0..self.entries.len() {
                    if self.is_settling(index) {
                        self.entries[index].client.settle(&mut self.shared);
                    }
                }
            }
            Due::Versions(versions) => {
                for index in settle.waiting {
                    self.is_untold(index, versions);
                }
            }
        }
        self.shared.settling = false;
        self.end_interval()?;
        tell(&Word::Settled)
    }
}

/// The version that the client's user has by now; 0 where it was not changed.
fn version_of(client: u64, versions: &[u64]) -> u64 {
    let users = versions.len().max(1) as u64;
    usize::try_from(client % users).ok().and_then(|user| versions.get(user)).copied().unwrap_or(0)
}
