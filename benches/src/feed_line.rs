//! A feed with its ring and the ring's reader, all on the bench's thread: what a frame costs from the venue's bytes to
//! the tick in the hand of whoever reads it.
//!
//! Frames are played in laps, as a capture is: ids, sequences and times go on where the last lap ended, so that no
//! trade is ever a repeat. Deliberately absent: threads and sockets.

use std::sync::Arc;

use feed_handlers::counters::{FeedCounter, FeedCounters};
use feed_handlers::doorbell::{Doorbell, WaitStrategy};
use feed_handlers::feed::{Feed, FeedParts, QuoteOrigin, UnknownSymbols};
use feed_handlers::quality::Quality;
use feed_handlers::ring::{Polled, Reader, ring};
use feed_handlers::validation::Limits;
use feed_handlers::venue::Venue;
use protocol::{InstrumentTable, SourceId, Tick};

/// Slots of the ring: the gateway's own number is larger, but the reader here is never far behind.
const SLOTS: usize = 1 << 12;
const INSTRUMENTS: usize = 1_024;
/// When the first frame is received, Unix ns: later than any lap will come (the year 2255), so that no event is of the
/// future.
const RECEIVED_NS: i64 = 9_000_000_000_000_000_000;
/// Between two frames, ns.
const STEP_NS: i64 = 1_000;

/// A feed whose ticks are read as soon as each frame is handled.
pub struct FeedLine {
    feed: Feed,
    reader: Reader<Tick>,
    received_ns: i64,
}

impl FeedLine {
    /// A feed of `venue` that has seen nothing yet and learns every product.
    pub fn new(venue: Venue, quotes: QuoteOrigin) -> FeedLine {
        let publisher = ring(SLOTS, Arc::new(Doorbell::new(WaitStrategy::Spin)));
        let reader = publisher.reader();
        let feed = Feed::new(FeedParts {
            source: SourceId(0),
            venue,
            instruments: Arc::new(InstrumentTable::with_capacity(INSTRUMENTS)),
            unknown: UnknownSymbols::Learn,
            quotes,
            limits: Limits::RECORDED,
            publisher,
            counters: Arc::new(FeedCounters::new()),
            quality: Quality::new(i64::MAX).0,
            dead_letters: None,
        });
        FeedLine { feed, reader, received_ns: RECEIVED_NS }
    }

    /// Takes in a frame and hands its ticks to `on_tick`, as they come out of the ring.
    ///
    /// # Panics
    /// Where a tick is lost: a frame has fewer than the ring has slots.
    #[inline]
    pub fn handle(&mut self, frame: &[u8], mut on_tick: impl FnMut(&Tick)) {
        self.received_ns += STEP_NS;
        self.feed.handle_frame(frame, self.received_ns);
        loop {
            match self.reader.poll() {
                Polled::Record(tick) => on_tick(&tick),
                Polled::Empty => return,
                Polled::Lapped { lost } => panic!("{lost} ticks lost"),
            }
        }
    }

    /// The frames start again from the first one.
    pub fn start_lap(&mut self) {
        self.feed.start_lap();
    }

    /// How often something was counted.
    pub fn count(&self, counter: FeedCounter) -> u64 {
        self.feed.counters().count(counter)
    }
}
