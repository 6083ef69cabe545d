//! Segments: batches of encoded messages, written once by the sequencer and shared by every shard and
//! client of the process.
//!
//! A segment holds messages of one delivery class, back to back in each encoding and each already a complete
//! WebSocket frame. Whoever delivers a message refers to a byte range of it; consecutive messages are
//! adjacent, so a client that takes a run of them needs a single range.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use protocol::{ChannelId, Class, Encoding};

/// One message of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publication {
    pub channel: ChannelId,
    /// Number of the message in its channel, from 1. A conflated channel may repeat its latest number where
    /// a shard asked for the last value.
    pub seq: u64,
    /// Where the message's frame ends, per encoding; it begins where the one before it ends. Equal ends mean
    /// that the message was not encoded this way, because nobody wanted it.
    ends: [u32; Encoding::COUNT],
}

/// An immutable batch of encoded messages.
#[derive(Debug)]
pub struct Segment {
    class: Class,
    publications: Box<[Publication]>,
    frames: [Bytes; Encoding::COUNT],
}

impl Segment {
    pub fn class(&self) -> Class {
        self.class
    }

    pub fn publications(&self) -> &[Publication] {
        &self.publications
    }

    /// The byte range of one message's frame; empty where it was not encoded this way.
    pub fn frame_range(&self, index: usize, encoding: Encoding) -> Range<u32> {
        let e = encoding as usize;
        let start = index.checked_sub(1).map_or(0, |before| self.publications[before].ends[e]);
        start..self.publications[index].ends[e]
    }

    /// The bytes of a range that [`Self::frame_range`] gave, or of several adjacent ones.
    pub fn bytes(&self, range: Range<u32>, encoding: Encoding) -> &[u8] {
        &self.frames[encoding as usize][range.start as usize..range.end as usize]
    }

    /// Index of the message whose frame holds the byte at `offset`.
    pub fn index_at(&self, offset: u32, encoding: Encoding) -> usize {
        self.publications.partition_point(|p| p.ends[encoding as usize] <= offset)
    }

    /// How many messages have their frames in `range`, which starts and ends with a frame.
    pub fn count(&self, range: Range<u32>, encoding: Encoding) -> usize {
        if range.is_empty() {
            return 0;
        }
        let (first, last) = (self.index_at(range.start, encoding), self.index_at(range.end - 1, encoding));
        match self.class {
            Class::Sequenced => last + 1 - first,
            // Messages in between may not be encoded this way.
            Class::Conflated => (first..=last).filter(|index| !self.frame_range(*index, encoding).is_empty()).count(),
        }
    }

    /// Bytes that holding this segment costs, with its bookkeeping.
    pub fn footprint_bytes(&self) -> usize {
        // Two reference counts, four boxes and what the allocator adds to each: about 200 bytes.
        const OVERHEAD_BYTES: usize = 200;
        let frames: usize = self.frames.iter().map(Bytes::len).sum();
        frames + size_of_val::<[Publication]>(&self.publications) + OVERHEAD_BYTES
    }
}

/// Collects messages into the next [`Segment`]. Its buffers are kept between segments.
#[derive(Debug)]
pub struct SegmentBuilder {
    class: Class,
    publications: Vec<Publication>,
    frames: [Vec<u8>; Encoding::COUNT],
}

impl SegmentBuilder {
    pub fn new(class: Class) -> SegmentBuilder {
        SegmentBuilder { class, publications: Vec::new(), frames: Default::default() }
    }

    /// Adds a message: `encode` appends its frame in each of the wanted encodings.
    pub fn push(
        &mut self,
        channel: ChannelId,
        seq: u64,
        encodings: impl IntoIterator<Item = Encoding>,
        mut encode: impl FnMut(Encoding, &mut Vec<u8>),
    ) {
        for encoding in encodings {
            encode(encoding, &mut self.frames[encoding as usize]);
        }
        // A segment is cut at `segment_bytes_max` (far below 4 GiB), so the ends fit.
        let ends = std::array::from_fn(|e| self.frames[e].len() as u32);
        self.publications.push(Publication { channel, seq, ends });
    }

    pub fn is_empty(&self) -> bool {
        self.publications.is_empty()
    }

    /// Bytes collected in the fullest encoding.
    pub fn bytes(&self) -> usize {
        self.frames.iter().map(Vec::len).max().unwrap_or_default()
    }

    /// The collected messages as a segment; `None` when there are none.
    pub fn finish(&mut self) -> Option<Arc<Segment>> {
        if self.publications.is_empty() {
            return None;
        }
        let segment = Segment {
            class: self.class,
            publications: self.publications.as_slice().into(),
            frames: std::array::from_fn(|e| Bytes::copy_from_slice(&self.frames[e])),
        };
        self.publications.clear();
        self.frames.iter_mut().for_each(Vec::clear);
        Some(Arc::new(segment))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_found_by_index_and_by_offset() {
        let mut builder = SegmentBuilder::new(Class::Sequenced);
        assert!(builder.finish().is_none());
        for (i, text) in ["one", "three", "fifteen"].iter().enumerate() {
            let encodings = if i == 1 { vec![Encoding::Json] } else { Encoding::ALL.to_vec() };
            builder.push(ChannelId(i as u32), i as u64 + 1, encodings, |_, out| out.extend_from_slice(text.as_bytes()));
        }
        assert_eq!(builder.bytes(), 15);
        let segment = builder.finish().unwrap();
        assert!(builder.is_empty());
        let text = |i, encoding| segment.bytes(segment.frame_range(i, encoding), encoding);
        assert_eq!(text(1, Encoding::Json), b"three");
        assert_eq!(text(1, Encoding::MessagePack), b"");
        assert_eq!(text(2, Encoding::MessagePack), b"fifteen");
        assert_eq!(segment.bytes(0..8, Encoding::Json), b"onethree");
        for (offset, index) in [(0, 0), (2, 0), (3, 1), (7, 1), (8, 2), (14, 2), (15, 3)] {
            assert_eq!(segment.index_at(offset, Encoding::Json), index);
        }
        assert_eq!(segment.index_at(3, Encoding::MessagePack), 2);
    }

    #[test]
    fn messages_are_counted_as_far_as_they_are_encoded() {
        let mut builder = SegmentBuilder::new(Class::Conflated);
        for (i, encodings) in [&Encoding::ALL[..], &Encoding::ALL[..1], &Encoding::ALL[..]].into_iter().enumerate() {
            builder.push(ChannelId(i as u32), 1, encodings.iter().copied(), |_, out| out.extend_from_slice(b"frame"));
        }
        let segment = builder.finish().unwrap();
        for (encoding, range, count) in [
            (Encoding::Json, 0..15, 3),
            (Encoding::Json, 5..10, 1),
            (Encoding::Json, 5..5, 0),
            (Encoding::MessagePack, 0..10, 2),
            (Encoding::MessagePack, 5..10, 1),
        ] {
            assert_eq!(segment.count(range.clone(), encoding), count, "{encoding:?} {range:?}");
        }
    }
}
