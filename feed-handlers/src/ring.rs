//! The broadcast ring: how records travel from one feed's thread to every thread that reads them, without a
//! lock and without waiting for the slowest.
//!
//! One [`Publisher`], owned by the feed's thread, overwrites the oldest record when the ring is full. Any
//! number of [`Reader`]s, each owned by its thread, see every record in order; one that falls a whole ring
//! behind is told how many records it lost. A record is delivered or counted as lost, never both, never torn.
//!
//! Capacity: that of [`ring`], in records of 128 bytes each. Filled by the publisher, emptied by nobody.
//! When full, the oldest record goes, unless the publisher waits for [`Publisher::room`].
//!
//! How: each slot is a sequence lock, a stamp and the record's words, all of them atomics, so that a read
//! that races with a write is an ordinary read of a stale or mixed record, which the stamp then betrays. The
//! record at position `p` (0, 1, 2, …) lives in slot `p % capacity`; its stamp is `2p + 1` while it is
//! written and `2p + 2` once it is there. So a stamp halved is the number of records whose writing was
//! finished when it was set, whatever the slot.
//!
//! Deliberately absent: a second producer (feeds have a ring each), blocking (see
//! [`Doorbell`](crate::doorbell::Doorbell)), and a mark for the end of the stream (sources announce their
//! state elsewhere).

use std::{cell::RefCell, marker::PhantomData, sync::Arc};

use crossbeam::utils::CachePadded;
use protocol::{TICK_WORDS, Tick};

use crate::{
    doorbell::Doorbell,
    sync::{AtomicU64, Ordering, fence},
};

/// Words of a record in a slot.
pub const SLOT_WORDS: usize = TICK_WORDS;

// The stamp and the words fill a slot of 128 bytes, two cache lines that x86 fetches as a pair.
const _: () = assert!((1 + SLOT_WORDS) * size_of::<u64>() <= 128);

/// What a ring carries: a value that packs into at most [`SLOT_WORDS`] words.
pub trait Record: Copy {
    /// How many words the record needs, from the first; the rest is not carried and arrives as zero.
    const WORDS: usize = SLOT_WORDS;

    fn to_words(&self) -> [u64; SLOT_WORDS];

    /// The inverse of [`Self::to_words`].
    fn from_words(words: &[u64; SLOT_WORDS]) -> Self;
}

impl Record for Tick {
    fn to_words(&self) -> [u64; SLOT_WORDS] {
        Tick::to_words(self)
    }

    fn from_words(words: &[u64; SLOT_WORDS]) -> Self {
        Tick::from_words(words)
    }
}

struct Slot {
    /// 0 before the first record, then `2p + 1` and `2p + 2` for the positions `p` that live here. Rises only.
    stamp: AtomicU64,
    words: [AtomicU64; SLOT_WORDS],
}

impl Slot {
    fn empty() -> Slot {
        Slot { stamp: AtomicU64::new(0), words: std::array::from_fn(|_| AtomicU64::new(0)) }
    }
}

/// What publisher and readers share. Written by the publisher only.
struct Shared {
    /// A power of two of them, at least 2.
    slots: Box<[CachePadded<Slot>]>,
    /// How many records were published: the position of the next one.
    end: CachePadded<AtomicU64>,
}

impl Shared {
    fn slot(&self, position: u64) -> &Slot {
        // The length is a power of two: the remainder is a mask, in which the upper half of the position has
        // no part.
        &self.slots[position as usize & (self.slots.len() - 1)]
    }

    fn capacity(&self) -> u64 {
        self.slots.len() as u64
    }
}

/// A reader's position as the publisher sees it. Written by that reader only, on a line of its own.
type Place = CachePadded<AtomicU64>;

/// The place of a reader that was dropped.
const GONE: u64 = u64::MAX;

/// Makes a ring of at least `capacity` records, rounded up to a power of two and at least 2, each 128 bytes.
/// Readers come from [`Publisher::reader`].
///
/// Several rings may share one `doorbell`, so that one thread can wait for all of them.
pub fn ring<T: Record>(capacity: usize, doorbell: Arc<Doorbell>) -> Publisher<T> {
    const { assert!(T::WORDS <= SLOT_WORDS, "a record does not fit its slot") };
    let capacity = capacity.max(2).next_power_of_two();
    let slots = (0..capacity).map(|_| CachePadded::new(Slot::empty())).collect();
    let shared = Arc::new(Shared { slots, end: CachePadded::new(AtomicU64::new(0)) });
    Publisher { shared, published: 0, places: RefCell::new(Vec::new()), doorbell, record: PhantomData }
}

/// The writing end of a ring. There is one: it is no `Clone`, and may move to another thread but not be
/// shared.
pub struct Publisher<T> {
    shared: Arc<Shared>,
    /// The position of the next record; `shared.end` is its copy for the readers.
    published: u64,
    /// The places of the readers made by this publisher; the dropped ones are thrown out in passing.
    places: RefCell<Vec<Arc<Place>>>,
    doorbell: Arc<Doorbell>,
    record: PhantomData<fn(T)>,
}

impl<T: Record> Publisher<T> {
    /// Puts a record in place of the oldest. Never waits, and does not ring the doorbell: publish what
    /// belongs together, then [`Self::ring`] once.
    pub fn publish(&mut self, record: &T) {
        let position = self.published;
        let slot = self.shared.slot(position);
        // Relaxed: the fence below orders it before the words.
        slot.stamp.store(2 * position + 1, Ordering::Relaxed);
        // Pairs with the fence in `Reader::poll`: who read one of the words below must see the stamp above.
        fence(Ordering::Release);
        for (cell, word) in slot.words.iter().zip(record.to_words()).take(T::WORDS) {
            // Relaxed: the fence above and the stamp below order it.
            cell.store(word, Ordering::Relaxed);
        }
        // Release: pairs with the first load in `Reader::poll`; who sees this stamp must see the words.
        slot.stamp.store(2 * position + 2, Ordering::Release);
        self.published = position + 1;
        // Release: pairs with `Reader::lag`; who sees this end must find the record in its slot.
        self.shared.end.store(self.published, Ordering::Release);
    }

    /// Has the records taken: by the threads that wait for them, or here and now by the doorbell's stand-in.
    pub fn ring(&self) {
        self.doorbell.ring_or_stand_in();
    }

    /// A reader of what is published from now on.
    pub fn reader(&self) -> Reader<T> {
        let place = Arc::new(CachePadded::new(AtomicU64::new(self.published)));
        self.places.borrow_mut().push(Arc::clone(&place));
        Reader { shared: Arc::clone(&self.shared), position: self.published, place, record: PhantomData }
    }

    /// How many records can be published now without lapping any reader: 0 when one is already a whole ring
    /// behind, [`Self::capacity`] when there is no reader.
    ///
    /// Only [`Self::publish`] makes it smaller. Costs a look at each reader's position, a cache line that the
    /// reader writes, so a source asks once per frame and not once per record.
    pub fn room(&self) -> usize {
        let mut slowest = self.published;
        self.places.borrow_mut().retain(|place| {
            // Acquire: pairs with the store in `Reader::step_to`; a read of a slot that the reader has
            // already left must be over before the slot is overwritten.
            let position = place.load(Ordering::Acquire);
            if position != GONE {
                slowest = slowest.min(position);
            }
            position != GONE
        });
        // A lag above the capacity is a reader that was lapped and does not know yet.
        let lag = self.published - slowest;
        self.shared.capacity().saturating_sub(lag) as usize
    }

    /// How many records were published since the ring was made.
    pub fn published(&self) -> u64 {
        self.published
    }

    /// How many records the ring holds.
    pub fn capacity(&self) -> usize {
        self.shared.slots.len()
    }
}

/// What [`Reader::poll`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Polled<T> {
    /// The next record.
    Record(T),
    /// Nothing was published since the last record.
    Empty,
    /// The publisher was a whole ring ahead: the next `lost >= 1` records are gone for this reader, which goes
    /// on after them.
    Lapped { lost: u64 },
}

/// A reading end of a ring: one thread's, with a position of its own. Dropping it gives its place back.
pub struct Reader<T> {
    shared: Arc<Shared>,
    /// The position of the next record to read.
    position: u64,
    /// `position` for the publisher's eyes.
    place: Arc<Place>,
    record: PhantomData<fn() -> T>,
}

impl<T: Record> Reader<T> {
    /// The next record, if there is one. Never waits for the publisher, nor the publisher for it.
    ///
    /// The records delivered and those counted in [`Polled::Lapped`] together are exactly those before
    /// [`Self::position`], from where the reader started.
    pub fn poll(&mut self) -> Polled<T> {
        let complete = 2 * self.position + 2;
        let slot = self.shared.slot(self.position);
        // Acquire: pairs with the last stamp in `Publisher::publish`; must see the words written before it.
        let stamp = slot.stamp.load(Ordering::Acquire);
        if stamp < complete {
            return Polled::Empty;
        }
        if stamp > complete {
            return self.lapped(stamp);
        }
        let mut words = [0u64; SLOT_WORDS];
        for (word, cell) in words.iter_mut().zip(&slot.words).take(T::WORDS) {
            // Relaxed: the stamps on both sides tell whether all the words belong to one record.
            *word = cell.load(Ordering::Relaxed);
        }
        // Pairs with the fence in `Publisher::publish`: if a word above came from a later record, the load
        // below must see that record's stamp.
        fence(Ordering::Acquire);
        // Relaxed: ordered by the fence above.
        let stamp = slot.stamp.load(Ordering::Relaxed);
        if stamp != complete {
            return self.lapped(stamp);
        }
        self.step_to(self.position + 1);
        Polled::Record(T::from_words(&words))
    }

    /// How many published records are ahead of this reader. While it is not 0, [`Self::poll`] is not
    /// [`Polled::Empty`]: the condition to wait for.
    pub fn lag(&self) -> u64 {
        // Acquire: pairs with the last store in `Publisher::publish`; `poll` must find the record complete.
        self.shared.end.load(Ordering::Acquire).saturating_sub(self.position)
    }

    /// What this reader has yet to take, for the eyes of any thread.
    pub fn backlog(&self) -> Backlog {
        Backlog { shared: Arc::clone(&self.shared), place: Arc::clone(&self.place) }
    }

    /// The position of the next record to read: how many were published before it.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Goes on half a ring behind the publisher. The oldest record still there would be the next one to be
    /// overwritten, and the reader lapped again at once, for ever if it is no faster than the publisher;
    /// half a ring is time to catch up in.
    #[cold]
    fn lapped(&mut self, stamp: u64) -> Polled<T> {
        // Relaxed: any value serves; the stamp, already seen, says that there are at least as many.
        let end = self.shared.end.load(Ordering::Relaxed).max(stamp / 2);
        let next = end - self.shared.capacity() / 2;
        // The stamp is one of position + capacity or later, so that end >= position + capacity.
        debug_assert!(next > self.position, "Invariant: a lapped reader has lost a record");
        let lost = next - self.position;
        self.step_to(next);
        Polled::Lapped { lost }
    }

    fn step_to(&mut self, position: u64) {
        self.position = position;
        // Release: pairs with `Publisher::room`; the reads of the slots before this position are over.
        self.place.store(position, Ordering::Release);
    }
}

impl<T> Drop for Reader<T> {
    fn drop(&mut self) {
        // Relaxed: a reader that is gone reads nothing that the publisher could disturb.
        self.place.store(GONE, Ordering::Relaxed);
    }
}

/// How far behind a reader is, to be seen without it. See [`Reader::backlog`].
pub struct Backlog {
    shared: Arc<Shared>,
    place: Arc<Place>,
}

impl Backlog {
    /// Whether there is nothing to take. Where the reader is polled at the same time, this may be over already.
    pub fn is_empty(&self) -> bool {
        // Relaxed: who finds a backlog polls, which acquires. An older place makes a backlog of none, not none of one.
        let position = self.place.load(Ordering::Relaxed);
        // Acquire: as in `Reader::lag`. A reader that is gone has no backlog.
        self.shared.end.load(Ordering::Acquire) <= position
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;
    use protocol::{Decimal, InstrumentId, Quote, SourceId, TickBody};

    use super::*;
    use crate::doorbell::WaitStrategy;

    impl Record for u64 {
        const WORDS: usize = 1;

        fn to_words(&self) -> [u64; SLOT_WORDS] {
            // The last word is beyond `WORDS`: it must not arrive.
            [*self, 0, 0, 0, 0, 0, 0, 0, 0, 0, u64::MAX]
        }

        fn from_words(words: &[u64; SLOT_WORDS]) -> u64 {
            assert_eq!(words[1..], [0; SLOT_WORDS - 1]);
            words[0]
        }
    }

    fn numbers(capacity: usize) -> Publisher<u64> {
        ring(capacity, Arc::new(Doorbell::new(WaitStrategy::Park)))
    }

    /// Publishes records that carry their own position.
    fn publish(publisher: &mut Publisher<u64>, count: u64) {
        for _ in 0..count {
            let position = publisher.published();
            publisher.publish(&position);
        }
    }

    #[test]
    fn ends_move_between_threads() {
        fn is_send<T: Send>() {}
        is_send::<Publisher<Tick>>();
        is_send::<Reader<Tick>>();
    }

    #[test]
    fn a_slot_is_two_cache_lines() {
        assert_eq!(size_of::<CachePadded<Slot>>(), 128);
    }

    #[test]
    fn capacity_is_rounded_up() {
        let check = |asked, expected| assert_eq!(numbers(asked).capacity(), expected, "{asked}");
        check(0, 2);
        check(1, 2);
        check(2, 2);
        check(3, 4);
        check(8, 8);
        check(1000, 1024);
    }

    #[test]
    fn a_tick_arrives_as_it_was() {
        let decimal = |mantissa| Decimal::new(mantissa, 2).unwrap();
        let tick = Tick {
            flags: protocol::TickFlags { outlier: true, mock: false },
            instrument: InstrumentId(7),
            source: SourceId(3),
            ts_event: 1_700_000_000_123_456_789,
            ts_recv: -1,
            body: TickBody::Quote(Quote {
                bid: decimal(6_500_001),
                bid_size: decimal(1),
                ask: decimal(6_500_002),
                ask_size: decimal(i64::MAX),
            }),
        };
        let mut publisher = ring(4, Arc::new(Doorbell::new(WaitStrategy::Park)));
        let mut reader = publisher.reader();
        publisher.publish(&tick);
        assert_eq!(reader.poll(), Polled::Record(tick));
        assert_eq!(reader.poll(), Polled::Empty);
    }

    #[test]
    fn a_reader_starts_at_the_end() {
        let mut publisher = numbers(4);
        publish(&mut publisher, 3);
        let mut reader = publisher.reader();
        assert_eq!((reader.position(), reader.lag()), (3, 0));
        assert_eq!(reader.poll(), Polled::Empty);
        publish(&mut publisher, 1);
        assert_eq!((reader.position(), reader.lag()), (3, 1));
        assert_eq!(reader.poll(), Polled::Record(3));
        assert_eq!((reader.position(), reader.lag()), (4, 0));
    }

    #[test]
    fn a_whole_ring_behind_is_not_lapped_and_one_more_is() {
        let check = |published: u64, expected: &[Polled<u64>]| {
            let mut publisher = numbers(4);
            let mut reader = publisher.reader();
            publish(&mut publisher, published);
            let polled: Vec<_> = expected.iter().map(|_| reader.poll()).collect();
            assert_eq!(polled, expected, "{published} published");
        };
        use Polled::{Empty, Lapped, Record};
        check(0, &[Empty]);
        check(4, &[Record(0), Record(1), Record(2), Record(3), Empty]);
        check(5, &[Lapped { lost: 3 }, Record(3), Record(4), Empty]);
        check(8, &[Lapped { lost: 6 }, Record(6), Record(7), Empty]);
        check(401, &[Lapped { lost: 399 }, Record(399), Record(400), Empty]);
    }

    #[test]
    fn room_is_that_of_the_slowest_reader() {
        let mut publisher = numbers(4);
        publish(&mut publisher, 9);
        assert_eq!(publisher.room(), 4, "nobody reads");
        let mut slow = publisher.reader();
        let mut fast = publisher.reader();
        assert_eq!(publisher.room(), 4);
        publish(&mut publisher, 3);
        assert_eq!(fast.poll(), Polled::Record(9));
        assert_eq!(publisher.room(), 1);
        assert_eq!(slow.poll(), Polled::Record(9));
        assert_eq!(publisher.room(), 2);
        publish(&mut publisher, 2);
        assert_eq!(publisher.room(), 0);
        publish(&mut publisher, 1);
        assert_eq!(publisher.room(), 0, "lapped");
        assert_eq!(slow.poll(), Polled::Lapped { lost: 3 });
        assert_eq!(publisher.room(), 0, "the other one still is");
        drop(fast);
        assert_eq!(publisher.room(), 2);
        assert_eq!(publisher.places.borrow().len(), 1);
        drop(slow);
        assert_eq!(publisher.room(), 4);
        assert!(publisher.places.borrow().is_empty());
    }

    #[test]
    fn a_reader_outlives_its_publisher() {
        let mut publisher = numbers(4);
        let mut reader = publisher.reader();
        publish(&mut publisher, 1);
        drop(publisher);
        assert_eq!(reader.poll(), Polled::Record(0));
        assert_eq!(reader.poll(), Polled::Empty);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 256 }) })]

        /// Against the naive model: a reader is a position, and is lapped when more than a ring behind.
        #[test]
        fn any_turns_of_publishing_and_reading(
            capacity in 1usize..9,
            turns in prop::collection::vec((0u64..12, 0usize..12, 0usize..12), 1..30),
        ) {
            let mut publisher = numbers(capacity);
            let capacity = publisher.capacity() as u64;
            let mut readers = [(publisher.reader(), 0u64), (publisher.reader(), 0u64)];
            for (published, first, second) in turns {
                publish(&mut publisher, published);
                let end = publisher.published();
                for ((reader, position), polls) in readers.iter_mut().zip([first, second]) {
                    for _ in 0..polls {
                        let expected = match end - *position {
                            0 => Polled::Empty,
                            lag if lag > capacity => Polled::Lapped { lost: lag - capacity / 2 },
                            _ => Polled::Record(*position),
                        };
                        prop_assert_eq!(reader.lag(), end - *position);
                        prop_assert_eq!(reader.poll(), expected);
                        *position += match expected {
                            Polled::Empty => 0,
                            Polled::Record(_) => 1,
                            Polled::Lapped { lost } => lost,
                        };
                        prop_assert_eq!(reader.position(), *position);
                    }
                }
                let slowest = readers[0].1.min(readers[1].1);
                prop_assert_eq!(publisher.room() as u64, capacity.saturating_sub(end - slowest));
            }
        }
    }
}

/// Every interleaving of small models, with the reorderings that the orderings above permit.
#[cfg(all(test, loom))]
mod loom_tests {
    use loom::thread;

    use super::*;
    use crate::{doorbell::WaitStrategy, sync::explore};

    /// A record of two words that know each other and their position.
    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Pair(u64);

    impl Record for Pair {
        const WORDS: usize = 2;

        fn to_words(&self) -> [u64; SLOT_WORDS] {
            std::array::from_fn(|word| if word == 1 { !self.0 } else { self.0 })
        }

        fn from_words(words: &[u64; SLOT_WORDS]) -> Pair {
            assert_eq!(words[0], !words[1], "torn");
            Pair(words[0])
        }
    }

    fn pairs() -> Publisher<Pair> {
        ring(2, Arc::new(Doorbell::new(WaitStrategy::Park)))
    }

    fn publish(publisher: &mut Publisher<Pair>, count: u64) {
        for _ in 0..count {
            let position = publisher.published();
            publisher.publish(&Pair(position));
        }
    }

    /// Polls, and holds what comes against the position that it came from.
    fn poll(reader: &mut Reader<Pair>) -> Polled<Pair> {
        let before = reader.position();
        let polled = reader.poll();
        match polled {
            Polled::Record(record) => assert_eq!((record, reader.position()), (Pair(before), before + 1)),
            Polled::Empty => assert_eq!(reader.position(), before),
            Polled::Lapped { lost } => {
                assert!(lost >= 1);
                assert_eq!(reader.position(), before + lost);
            }
        }
        polled
    }

    /// Reads to the end, which must be that of `publisher`.
    fn drain(reader: &mut Reader<Pair>, publisher: &Publisher<Pair>) {
        while poll(reader) != Polled::Empty {}
        assert_eq!(reader.position(), publisher.published());
    }

    #[test]
    fn overwritten_records_are_counted_and_never_torn() {
        explore(Some(3), || {
            let mut publisher = pairs();
            let mut reader = publisher.reader();
            let writer = thread::spawn(move || {
                publish(&mut publisher, 4);
                publisher
            });
            for _ in 0..2 {
                poll(&mut reader);
            }
            let publisher = writer.join().unwrap();
            drain(&mut reader, &publisher);
        });
    }

    #[test]
    fn a_read_that_races_with_its_overwriting_is_lapped() {
        explore(None, || {
            let mut publisher = pairs();
            let mut reader = publisher.reader();
            publish(&mut publisher, 2);
            let writer = thread::spawn(move || {
                publish(&mut publisher, 1);
                publisher
            });
            poll(&mut reader);
            let publisher = writer.join().unwrap();
            drain(&mut reader, &publisher);
        });
    }

    #[test]
    fn readers_do_not_disturb_each_other() {
        explore(Some(3), || {
            let mut publisher = pairs();
            let mut here = publisher.reader();
            let mut there = publisher.reader();
            publish(&mut publisher, 2);
            let other = thread::spawn(move || {
                poll(&mut there);
                there
            });
            let writer = thread::spawn(move || {
                publish(&mut publisher, 1);
                publisher
            });
            poll(&mut here);
            let publisher = writer.join().unwrap();
            drain(&mut here, &publisher);
            drain(&mut other.join().unwrap(), &publisher);
        });
    }

    /// Checks the arithmetic. Not the orderings of a reader's place: they forbid a read that sees a store from
    /// its own future, which loom never tries.
    #[test]
    fn who_publishes_into_room_laps_nobody() {
        explore(None, || {
            let mut publisher = pairs();
            let mut reader = publisher.reader();
            publish(&mut publisher, 2);
            let writer = thread::spawn(move || {
                let room = publisher.room() as u64;
                publish(&mut publisher, room);
                publisher
            });
            for _ in 0..2 {
                assert!(matches!(poll(&mut reader), Polled::Record(_)));
            }
            let publisher = writer.join().unwrap();
            drain(&mut reader, &publisher);
        });
    }

    #[test]
    fn lag_promises_something_to_poll() {
        explore(None, || {
            let mut publisher = pairs();
            let mut reader = publisher.reader();
            let writer = thread::spawn(move || publish(&mut publisher, 3));
            if reader.lag() > 0 {
                assert_ne!(poll(&mut reader), Polled::Empty);
            }
            writer.join().unwrap();
        });
    }

    #[test]
    fn two_rings_share_a_doorbell_and_no_record_sleeps() {
        explore(Some(2), || {
            let doorbell = Arc::new(Doorbell::new(WaitStrategy::Park));
            let mut readers = Vec::new();
            let writers = [0, 1].map(|_| {
                let mut publisher: Publisher<Pair> = ring(2, Arc::clone(&doorbell));
                readers.push(publisher.reader());
                thread::spawn(move || {
                    publish(&mut publisher, 1);
                    publisher.ring();
                })
            });
            let mut records = 0;
            while records < 2 {
                doorbell.wait(|| readers.iter().any(|reader| reader.lag() > 0), None);
                for reader in &mut readers {
                    records += u64::from(matches!(poll(reader), Polled::Record(_)));
                }
            }
            for writer in writers {
                writer.join().unwrap();
            }
        });
    }
}
