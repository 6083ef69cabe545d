//! Decoding and publishing allocate nothing once every product was met.
//!
//! In a test binary of its own, because it counts with a global allocator.

#![cfg(not(loom))]
// Only a global allocator can count allocations, and its trait is unsafe.
#![allow(unsafe_code)]

mod real_frames;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use feed_handlers::decode::coinbase::decode;
use feed_handlers::doorbell::{Doorbell, WaitStrategy};
use feed_handlers::feed::{Feed, FeedCounter, FeedCounters, FeedParts, QuoteOrigin, UnknownSymbols};
use feed_handlers::ring::{Polled, ring};
use feed_handlers::venue::Venue;
use protocol::{InstrumentTable, SourceId};

thread_local! {
    /// Allocations of this thread; the test harness has others.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call goes to `System` with the arguments it came with, so `System` keeps the contract. Counting
// allocates nothing: the cell is a constant without a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: see above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: see above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: see above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn allocations_of(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

#[test]
fn the_counter_counts() {
    assert!(allocations_of(|| drop(std::hint::black_box(Box::new(7u64)))) > 0);
}

#[test]
fn decoding_allocates_nothing() {
    for frame in real_frames::ALL {
        let mut events = 0;
        let allocations = allocations_of(|| decode(frame.as_bytes(), &mut |_| events += 1).unwrap());
        assert_eq!(allocations, 0, "{frame}");
        assert!(events > 0, "{frame}");
        // Neither does refusing.
        let cut = &frame.as_bytes()[..frame.len() - 1];
        assert_eq!(allocations_of(|| assert!(decode(cut, &mut |_| {}).is_err())), 0, "{frame}");
    }
}

/// When all frames come, Unix ns: after every recording.
const RECEIVED: i64 = 4_000_000_000_000_000_000;

#[test]
fn a_warm_feed_allocates_nothing() {
    let publisher = ring(8, Arc::new(Doorbell::new(WaitStrategy::Park)));
    let instruments = Arc::new(InstrumentTable::with_capacity(8));
    let mut feed = Feed::new(FeedParts {
        source: SourceId(0),
        venue: Venue::Coinbase,
        instruments,
        unknown: UnknownSymbols::Learn,
        quotes: QuoteOrigin::Quotes,
        limits: feed_handlers::validation::Limits::RECORDED,
        quality: feed_handlers::quality::Quality::new(i64::MAX).0,
        publisher,
        counters: Arc::new(FeedCounters::new()),
        dead_letters: None,
    });
    let mut reader = feed.publisher().reader();
    // Frames that are left out cost nothing either: cut ones, and products that are no symbols.
    let cut = &real_frames::BTC_MATCH[..200];
    let strange = real_frames::BTC_MATCH.replace("BTC-USD", "btc usd");
    for lap in 0..3 {
        for frame in real_frames::ALL.into_iter().chain([cut, &strange]) {
            let allocations = allocations_of(|| {
                feed.handle_frame(frame.as_bytes(), RECEIVED + lap);
                while let Polled::Record(tick) = reader.poll() {
                    std::hint::black_box(tick);
                }
            });
            assert!(allocations == 0 || lap == 0, "{allocations} in lap {lap}: {frame}");
        }
        feed.start_lap();
    }
    assert_eq!(feed.counters().count(FeedCounter::Trades), 2 * 3);
    assert_eq!(feed.counters().count(FeedCounter::Quotes), 3);
}
