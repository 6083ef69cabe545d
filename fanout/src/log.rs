//! The retained log: the sequenced messages of the last while, from which a client that fell behind or
//! came back is served. Owned by one shard; the frames in it are shared with all other shards.
//!
//! Positions count sequenced messages from the start of the process and never come back, so `position`
//! orders all of them: `first <= position < next`.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use crate::Segment;

/// A segment as one shard sees it, with the running number of its first message within its class.
#[derive(Debug)]
pub(crate) struct Numbered {
    pub(crate) first: u64,
    pub(crate) segment: Arc<Segment>,
}

impl Numbered {
    /// Number after the last message.
    pub(crate) fn end(&self) -> u64 {
        self.first + self.segment.publications().len() as u64
    }
}

/// Sequenced segments in order, bounded by `bytes_max`; the oldest go first.
#[derive(Debug)]
pub(crate) struct Log {
    segments: VecDeque<Rc<Numbered>>,
    /// Positions of messages in front of which numbers of their channel are missing, because the delay line
    /// threw them away, and the first of those numbers. In order; none as a rule.
    holes: VecDeque<(u64, u64)>,
    next: u64,
    bytes: usize,
    bytes_max: usize,
}

impl Log {
    pub(crate) fn new(bytes_max: usize) -> Log {
        Log { segments: VecDeque::new(), holes: VecDeque::new(), next: 0, bytes: 0, bytes_max }
    }

    /// Position of the oldest message.
    pub(crate) fn first(&self) -> u64 {
        self.segments.front().map_or(self.next, |numbered| numbered.first)
    }

    /// Position of the message that comes next.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Bytes held, with bookkeeping.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn push(&mut self, segment: Arc<Segment>) -> Rc<Numbered> {
        self.bytes += segment.footprint_bytes();
        let numbered = Rc::new(Numbered { first: self.next, segment });
        self.next = numbered.end();
        self.segments.push_back(numbered.clone());
        numbered
    }

    /// Takes out the oldest segment while the log is over its bound. The newest one always stays.
    pub(crate) fn evict(&mut self) -> Option<Rc<Numbered>> {
        if self.bytes <= self.bytes_max || self.segments.len() <= 1 {
            return None;
        }
        let evicted = self.segments.pop_front()?;
        self.bytes -= evicted.segment.footprint_bytes();
        // The evicted segment's own holes stay until the next one goes, for those who lose it.
        while self.holes.pop_front_if(|(position, _)| *position < evicted.first).is_some() {}
        Some(evicted)
    }

    /// Notes that the numbers from `from` on are missing in front of the message at `position`.
    pub(crate) fn push_hole(&mut self, position: u64, from: u64) {
        self.holes.push_back((position, from));
    }

    /// The first number missing in front of the message at `position`, if one is.
    pub(crate) fn hole_before(&self, position: u64) -> Option<u64> {
        let found = self.holes.binary_search_by_key(&position, |(p, _)| *p).ok()?;
        Some(self.holes[found].1)
    }

    /// The segments from the one that holds `position` on. A position before the log starts at its front.
    pub(crate) fn from(&self, position: u64) -> impl Iterator<Item = &Rc<Numbered>> {
        let index = self.segments.partition_point(|s| s.end() <= position);
        self.segments.range(index..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SegmentBuilder;
    use protocol::{ChannelId, Class, Encoding};

    fn segment(publications: &[(u32, u64)]) -> Arc<Segment> {
        let mut builder = SegmentBuilder::new(Class::Sequenced);
        for (channel, seq) in publications {
            builder.push(ChannelId(*channel), *seq, [Encoding::Json], |_, out| out.extend_from_slice(b"frame"));
        }
        builder.finish().unwrap()
    }

    #[test]
    fn positions_are_found_and_outlive_eviction() {
        let mut log = Log::new(0);
        log.push(segment(&[(1, 1), (2, 1), (1, 2)]));
        log.push(segment(&[(2, 2)]));
        log.push(segment(&[(1, 3), (1, 4)]));
        assert_eq!(log.next(), 6);
        let firsts = |log: &Log, position| log.from(position).map(|s| s.first).collect::<Vec<_>>();
        assert_eq!(firsts(&log, 2), [0, 3, 4]);
        assert_eq!(firsts(&log, 3), [3, 4]);
        assert_eq!(firsts(&log, 6), [0u64; 0]);
        assert_eq!(log.evict().unwrap().first, 0);
        assert_eq!(log.evict().unwrap().first, 3);
        assert!(log.evict().is_none(), "the newest segment stays");
        assert_eq!(firsts(&log, 0), [4]);
    }
}
