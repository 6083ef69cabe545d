//! The delay line: what users without real-time access will see later.
//!
//! Holds updates as they are (not encoded: 15 minutes of a busy market in frames would be several times
//! larger) until they are due, then gives them back in the order in which they came. Owned by the sequencer.
//!
//! Capacity: `bytes_max`. Filled and emptied by the sequencer. When full, the newcomer is left out and counted,
//! so that what is due next is still there however long it stays full; the hub then announces the hole in front
//! of the next message of that channel. The last quarter is kept for sequenced messages: a flood of quotes does
//! not cost a trade.

use std::collections::VecDeque;

use protocol::Class;

use crate::sequencer::Update;

/// An update with the number it has in its channel.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Numbered {
    pub(crate) seq: u64,
    pub(crate) update: Update,
}

#[derive(Debug)]
pub(crate) struct DelayLine {
    delay_ns: i64,
    entries_max: usize,
    /// In order of arrival. `ts_recv` may step back with the clock; an entry then waits for the one before it.
    entries: VecDeque<Numbered>,
    dropped: u64,
}

impl DelayLine {
    pub(crate) fn new(delay_ns: i64, bytes_max: usize) -> DelayLine {
        DelayLine {
            delay_ns,
            entries_max: (bytes_max / size_of::<Numbered>()).max(1),
            entries: VecDeque::new(),
            dropped: 0,
        }
    }

    pub(crate) fn push(&mut self, entry: Numbered) {
        let room = match entry.update.kind.class() {
            Class::Sequenced => self.entries_max,
            Class::Conflated => self.entries_max - self.entries_max / 4,
        };
        if self.entries.len() >= room {
            self.dropped += 1;
            return;
        }
        if self.entries.len() == self.entries.capacity() {
            // Doubles as the queue itself would, but not beyond the bound.
            let more = self.entries.len().max(64).min(self.entries_max - self.entries.len());
            self.entries.reserve_exact(more);
        }
        self.entries.push_back(entry);
    }

    /// The next update that is due at `now` (Unix ns).
    pub(crate) fn pop_due(&mut self, now: i64) -> Option<Numbered> {
        self.next_due().filter(|due| *due <= now)?;
        self.entries.pop_front()
    }

    /// When the next update is due, Unix ns.
    pub(crate) fn next_due(&self) -> Option<i64> {
        self.entries.front().map(|entry| entry.update.ts_recv.saturating_add(self.delay_ns))
    }

    pub(crate) fn bytes(&self) -> usize {
        self.entries.len() * size_of::<Numbered>()
    }

    /// Entries for which memory is taken.
    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.entries.capacity()
    }

    /// Updates left out because the line was full.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }
}
