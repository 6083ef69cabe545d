//! Quality: how good what a source brings has been over the last minute, in four ratios and a score.
//!
//! The feed's thread writes through its [`QualityWriter`], of which there is one; anyone may read the [`Quality`]. Nothing is
//! locked and nothing is read, modified and written in one step: a single writer stores what it has counted, in a slot for each
//! second, and readers add up the slots of the window. A slot that is being started anew while it is read is left out.
//!
//! The score is the **least** of the four ratios, not their product or mean: each is a promise of its own, and a source that
//! breaks one wholly (every time is an hour old) is no good however well it keeps the others. It also says at once which one
//! to look at.
//!
//! Deliberately absent: what is valid, a repeat or out of order, which the feed knows; and instruments, so that a source's
//! figures do not grow with the venue's catalogue.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering, fence};

use crate::arbitration::SourceState;

/// Seconds that the ratios are of, the one under way included.
pub const WINDOW_SECONDS: usize = 60;

/// Live data that is older than this when it comes is not fresh, ns: 5 minutes.
pub const FRESH_MAX_NS: i64 = 300_000_000_000;

const SECOND_NS: i64 = 1_000_000_000;

/// The second of a slot that holds nothing.
const NO_SECOND: i64 = i64::MIN;

/// Whether an event follows what its instrument has brought before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Kept,
    /// Its time is before that of the last one of its instrument and kind.
    Broken,
}

/// What is counted of each event.
#[derive(Clone, Copy)]
enum Count {
    /// Believed and new.
    Accepted,
    Invalid,
    Duplicate,
    /// Accepted, and before its predecessor.
    OutOfOrder,
    /// Accepted, and old when it came.
    Late,
}

const COUNTS: usize = 5;

/// One second: 32 bytes.
#[derive(Debug)]
struct Slot {
    /// Which second of the receipt's clock the counts are of.
    second: AtomicI64,
    counts: [AtomicU32; COUNTS],
}

/// The quality of one source: 1.9 KB.
#[derive(Debug)]
pub struct Quality {
    slots: [Slot; WINDOW_SECONDS],
    /// The latest time of any accepted event, Unix ns; `i64::MIN` before the first.
    newest: AtomicI64,
    fresh_max_ns: i64,
}

/// The writing side, for the thread of the feed.
#[derive(Debug)]
pub struct QualityWriter {
    quality: Arc<Quality>,
    /// The second under way, where its slot is, and the counts that stand there.
    second: i64,
    slot: usize,
    counts: [u32; COUNTS],
    newest: i64,
}

/// How good a source was over the window. Ratios are 0 to 1; 1 where there was nothing to judge by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QualityReport {
    /// Events that could be believed, of all.
    pub valid: f64,
    /// Events that were new, of those that could be believed.
    pub unique: f64,
    /// Events not before their predecessor, of the new ones.
    pub in_order: f64,
    /// Events that were not old when they came, of the new ones; 0 while the source is stale or down.
    pub fresh: f64,
    /// The least of the four.
    pub score: f64,
    /// Events of the window, whatever became of them.
    pub events: u64,
    /// How long ago the newest event of the source happened, by the venue's clock against ours, ns; negative where the
    /// venue's is ahead. `None` before the first.
    pub newest_age_ns: Option<i64>,
}

impl Quality {
    /// For a source whose data is fresh up to `fresh_max_ns` of age: [`FRESH_MAX_NS`] for live ones, `i64::MAX` for
    /// recordings, whose age says nothing.
    pub fn new(fresh_max_ns: i64) -> (QualityWriter, Arc<Quality>) {
        let slot = || Slot { second: AtomicI64::new(NO_SECOND), counts: [const { AtomicU32::new(0) }; COUNTS] };
        let slots = std::array::from_fn(|_| slot());
        let quality = Arc::new(Quality { slots, newest: AtomicI64::new(i64::MIN), fresh_max_ns });
        let writer = QualityWriter {
            quality: Arc::clone(&quality),
            second: NO_SECOND,
            slot: 0,
            counts: [0; COUNTS],
            newest: i64::MIN,
        };
        (writer, quality)
    }

    /// How good the source was in the window that ends at `now_ns` (Unix ns of the receipt's clock), it being in this
    /// state now.
    pub fn report(&self, state: SourceState, now_ns: i64) -> QualityReport {
        let last = now_ns.div_euclid(SECOND_NS);
        let window = last.saturating_sub(WINDOW_SECONDS as i64 - 1)..=last;
        let mut totals = [0u64; COUNTS];
        for slot in &self.slots {
            if let Some(counts) = slot.read(|second| window.contains(&second)) {
                totals.iter_mut().zip(counts).for_each(|(total, count)| *total += u64::from(count));
            }
        }
        let of = |count: Count| totals[count as usize];
        let (accepted, duplicate) = (of(Count::Accepted), of(Count::Duplicate));
        let believed = accepted + duplicate;
        let events = believed + of(Count::Invalid);
        let valid = ratio(believed, events);
        let unique = ratio(accepted, believed);
        let in_order = ratio(accepted.saturating_sub(of(Count::OutOfOrder)), accepted);
        let fresh = match state {
            SourceState::Up => ratio(accepted.saturating_sub(of(Count::Late)), accepted),
            SourceState::Stale | SourceState::Down => 0.0,
        };
        // Relaxed: a time on its own.
        let newest = self.newest.load(Ordering::Relaxed);
        let newest_age_ns = (newest != i64::MIN).then(|| now_ns.saturating_sub(newest));
        let score = valid.min(unique).min(in_order).min(fresh);
        QualityReport { valid, unique, in_order, fresh, score, events, newest_age_ns }
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 1.0 } else { part as f64 / whole as f64 }
}

impl Slot {
    /// The counts, if they are of a second that is asked for, and of one only.
    fn read(&self, is_asked: impl FnOnce(i64) -> bool) -> Option<[u32; COUNTS]> {
        // Acquire: sees the zeros that were written before this second was.
        let second = self.second.load(Ordering::Acquire);
        if second == NO_SECOND || !is_asked(second) {
            return None;
        }
        // Relaxed: counts may be of different moments of the second, of which each is as good.
        let counts = std::array::from_fn(|count| self.counts[count].load(Ordering::Relaxed));
        // Acquire: counts of a later second come with the mark that was set before them.
        fence(Ordering::Acquire);
        (self.second.load(Ordering::Relaxed) == second).then_some(counts)
    }

    /// Starts the slot anew. For the writer only.
    fn start(&self, second: i64) {
        // Relaxed, with the fence: whoever sees one of the zeros, or a count of the new second, sees this mark.
        self.second.store(NO_SECOND, Ordering::Relaxed);
        fence(Ordering::Release);
        for count in &self.counts {
            count.store(0, Ordering::Relaxed);
        }
        // Release: whoever sees the second sees the zeros.
        self.second.store(second, Ordering::Release);
    }
}

impl QualityWriter {
    /// An event that came at `ts_recv` (Unix ns), is believed and new, and has no time of day: it counts as fresh.
    pub fn accept_untimed(&mut self, ts_recv: i64) {
        self.turn_to(ts_recv);
        self.add(Count::Accepted);
    }

    /// An event of `ts_event` that came at `ts_recv` (both Unix ns), is believed and new.
    pub fn accept(&mut self, ts_event: i64, ts_recv: i64, order: Order) {
        self.accept_untimed(ts_recv);
        if order == Order::Broken {
            self.add(Count::OutOfOrder);
        }
        if ts_recv.saturating_sub(ts_event) >= self.quality.fresh_max_ns {
            self.add(Count::Late);
        }
        if ts_event > self.newest {
            self.newest = ts_event;
            // Relaxed: a time on its own.
            self.quality.newest.store(ts_event, Ordering::Relaxed);
        }
    }

    /// A frame, or an event, that came at `ts_recv` and cannot be believed.
    pub fn refuse(&mut self, ts_recv: i64) {
        self.turn_to(ts_recv);
        self.add(Count::Invalid);
    }

    /// An event that came at `ts_recv` and had come before.
    pub fn repeat(&mut self, ts_recv: i64) {
        self.turn_to(ts_recv);
        self.add(Count::Duplicate);
    }

    /// What readers see.
    pub fn quality(&self) -> &Arc<Quality> {
        &self.quality
    }

    /// The second of `ts_recv` is under way. Any other than before starts a slot anew, also one that is past: a clock that
    /// was set back is right from then on.
    fn turn_to(&mut self, ts_recv: i64) {
        let second = ts_recv.div_euclid(SECOND_NS);
        if second == self.second {
            return;
        }
        self.second = second;
        self.slot = second.rem_euclid(WINDOW_SECONDS as i64) as usize;
        self.counts = [0; COUNTS];
        self.quality.slots[self.slot].start(second);
    }

    fn add(&mut self, count: Count) {
        let count = count as usize;
        self.counts[count] = self.counts[count].saturating_add(1);
        // Relaxed: a number on its own; its second was stored before, and readers look at it again.
        self.quality.slots[self.slot].counts[count].store(self.counts[count], Ordering::Relaxed);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::collections::VecDeque;
    use std::sync::atomic::AtomicBool;

    use proptest::prelude::*;

    use super::*;

    const MINUTE_NS: i64 = 60 * SECOND_NS;

    /// What a source brings, and the second in which it comes.
    #[derive(Clone, Copy, Debug)]
    enum Brought {
        Good,
        Broken,
        Old,
        Bad,
        Again,
    }
    use Brought::{Again, Bad, Broken, Good, Old};

    fn bring(writer: &mut QualityWriter, what: Brought, at: i64) {
        match what {
            Good => writer.accept(at - FRESH_MAX_NS + 1, at, Order::Kept),
            Broken => writer.accept(at, at, Order::Broken),
            Old => writer.accept(at - FRESH_MAX_NS, at, Order::Kept),
            Bad => writer.refuse(at),
            Again => writer.repeat(at),
        }
    }

    /// Brings each at its second and compares valid, unique, in order and fresh at second `now`, in that order.
    #[track_caller]
    fn check(brought: &[(Brought, i64)], now: i64, expected: [f64; 4]) {
        let (mut writer, quality) = Quality::new(FRESH_MAX_NS);
        for (what, second) in brought {
            bring(&mut writer, *what, second * SECOND_NS);
        }
        let report = quality.report(SourceState::Up, now * SECOND_NS);
        assert_eq!([report.valid, report.unique, report.in_order, report.fresh], expected);
        assert_eq!(report.score, expected.into_iter().fold(1.0, f64::min));
    }

    #[test]
    fn each_fault_lowers_its_own_ratio() {
        check(&[], 7, [1.0; 4]);
        check(&[(Good, 1), (Good, 2)], 7, [1.0; 4]);
        check(&[(Good, 1), (Good, 2), (Good, 3), (Bad, 3)], 7, [0.75, 1.0, 1.0, 1.0]);
        check(&[(Good, 1), (Again, 2)], 7, [1.0, 0.5, 1.0, 1.0]);
        check(&[(Good, 1), (Broken, 1), (Good, 2), (Good, 2)], 7, [1.0, 1.0, 0.75, 1.0]);
        check(&[(Good, 1), (Old, 2)], 7, [1.0, 1.0, 1.0, 0.5]);
        check(&[(Bad, 1)], 7, [0.0, 1.0, 1.0, 1.0]);
        check(&[(Bad, 1), (Again, 1), (Again, 1), (Good, 1), (Good, 1)], 7, [0.8, 0.5, 1.0, 1.0]);
    }

    #[test]
    fn what_is_older_than_the_window_is_forgotten() {
        check(&[(Bad, 0), (Good, 30)], 59, [0.5, 1.0, 1.0, 1.0]);
        check(&[(Bad, 0), (Good, 30)], 60, [1.0; 4]);
        check(&[(Bad, 0), (Good, 60)], 60, [1.0; 4]);
        check(&[(Bad, 0), (Good, 30)], 1_000_000, [1.0; 4]);
        // Times before 1970 are seconds as well.
        check(&[(Bad, -61), (Good, -30), (Bad, -1)], -1, [0.5, 1.0, 1.0, 1.0]);
    }

    #[test]
    fn a_clock_that_was_set_back_is_right_from_then_on() {
        check(&[(Good, 5_000), (Bad, 1_000)], 1_000, [0.0, 1.0, 1.0, 1.0]);
        check(&[(Bad, 5_000), (Good, 1_000), (Bad, 5_001)], 5_001, [0.0, 1.0, 1.0, 1.0]);
    }

    #[test]
    fn a_source_that_is_not_up_is_not_fresh() {
        let (mut writer, quality) = Quality::new(FRESH_MAX_NS);
        bring(&mut writer, Good, SECOND_NS);
        for (state, fresh) in [(SourceState::Up, 1.0), (SourceState::Stale, 0.0), (SourceState::Down, 0.0)] {
            let report = quality.report(state, SECOND_NS);
            assert_eq!((report.fresh, report.score, report.valid, report.events), (fresh, fresh, 1.0, 1), "{state:?}");
        }
    }

    #[test]
    fn recordings_do_not_grow_old() {
        let (mut writer, quality) = Quality::new(i64::MAX);
        writer.accept(5, i64::MAX - 1, Order::Kept);
        assert_eq!(quality.report(SourceState::Up, i64::MAX - 1).score, 1.0);
    }

    #[test]
    fn the_newest_event_has_an_age() {
        let (mut writer, quality) = Quality::new(FRESH_MAX_NS);
        let age = |now| quality.report(SourceState::Up, now).newest_age_ns;
        assert_eq!(age(50), None);
        writer.accept(40, 45, Order::Kept);
        writer.accept(30, 46, Order::Broken);
        writer.refuse(47);
        assert_eq!((age(50), age(39)), (Some(10), Some(-1)));
    }

    #[test]
    fn a_reader_never_mixes_seconds() {
        // One slot, started anew all the time. Its seconds bring nothing but refused events and nothing but repeats by turns.
        let (mut writer, quality) = Quality::new(FRESH_MAX_NS);
        let window = WINDOW_SECONDS as i64;
        let is_done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let _done = DoneOnDrop(&is_done);
                let mut read = 0;
                while read < 400_000 {
                    let mut lap = 0;
                    let counts = quality.slots[0].read(|second| {
                        lap = second / window;
                        true
                    });
                    let Some(counts) = counts else { continue };
                    let (invalid, duplicate) = (counts[Count::Invalid as usize], counts[Count::Duplicate as usize]);
                    let (brought, other) = if lap % 2 == 0 { (invalid, duplicate) } else { (duplicate, invalid) };
                    assert!(brought <= 1 && other == 0, "{counts:?} in lap {lap}");
                    read += 1;
                }
            });
            for lap in 0.. {
                let at = lap * window * SECOND_NS;
                if lap % 2 == 0 {
                    writer.refuse(at)
                } else {
                    writer.repeat(at)
                }
                if is_done.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
    }

    /// Says so when its thread has ended, by a failed assertion too.
    struct DoneOnDrop<'a>(&'a AtomicBool);

    impl Drop for DoneOnDrop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    proptest! {
        #[test]
        fn the_window_holds_what_the_last_minute_brought(
            steps in proptest::collection::vec(
                (0..20_000_000_000i64, prop_oneof![Just(Good), Just(Broken), Just(Old), Just(Bad), Just(Again)]),
                1..80,
            ),
            after in 0..2 * MINUTE_NS,
        ) {
            let (mut writer, quality) = Quality::new(FRESH_MAX_NS);
            let mut now = 1_700_000_000_123_456_789;
            let mut brought = VecDeque::new();
            for (pause, what) in steps {
                now += pause;
                bring(&mut writer, what, now);
                brought.push_back((now, what));
            }
            now += after;
            brought.retain(|(at, _)| now / SECOND_NS - at / SECOND_NS < WINDOW_SECONDS as i64);
            let of = |wanted: fn(&Brought) -> bool| brought.iter().filter(|(_, what)| wanted(what)).count() as u64;
            let report = quality.report(SourceState::Up, now);
            let all = brought.len() as u64;
            let accepted = of(|what| matches!(what, Good | Broken | Old));
            prop_assert_eq!(report.events, all);
            prop_assert_eq!(report.valid, ratio(all - of(|what| matches!(what, Bad)), all));
            prop_assert_eq!(report.unique, ratio(accepted, accepted + of(|what| matches!(what, Again))));
            prop_assert_eq!(report.in_order, ratio(accepted - of(|what| matches!(what, Broken)), accepted));
            prop_assert_eq!(report.fresh, ratio(accepted - of(|what| matches!(what, Old)), accepted));
            for part in [report.valid, report.unique, report.in_order, report.fresh] {
                prop_assert!((0.0..=1.0).contains(&part) && report.score <= part);
            }
        }
    }
}
