//! Bars: what the trades of each instrument come to, interval by interval of the venue's clock; and those that venues make,
//! where we have not seen the trades ([`venue`]).
//!
//! Pure, owned by whoever takes the sequencer's turn. All sums are exact integers; nothing is a float. Deliberately
//! absent: empty bars, and corrections of a bar of ours that was handed out; a trade that comes too late for its bar is
//! counted instead.
//!
//! **Time** is event time. A bar opens with its earliest trade and closes with its latest, whatever the order in which they
//! came, and is final once the clock of its source is `lateness` past its end; so a source gives the same bars however fast
//! it is played. The clock of a source is the latest time of its events, quotes and heartbeats included. Each source has
//! its own, and a bar goes by that of the source which brings its instrument's trades: one that lags by minutes, or that is
//! played from another year, finishes its bars in its own time, neither hurried by the others nor holding them back. The
//! clock of a source that falls silent runs on with the time of receipt ([`Bars::on_silence`]), so that its last bars
//! become final too. When an instrument goes over to another source, its bars go along; what was final stays so.
//!
//! **Invariant:** no event is far ahead of the time (feeds refuse those that are more than 10 s ahead of their receipt):
//! one that were would finish all bars of its source at once.
//!
//! **Intervals** are a chain, as each divides the next. A trade is added to the bars of 5 s and of a minute; what a minute came
//! to is folded into the bar of 5 minutes when it is final, that into the one of 15, and so on, which is as exact as adding
//! each trade to all seven, and takes 155 ns a trade instead of 250 (`benches/benches/bars.rs`). A trade that is too late for
//! its minute is added to the shortest bar that is not final.

mod builder;
mod sum;
#[cfg(test)]
mod tests;
mod venue;

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use protocol::{Bar, InstrumentId, Interval, SourceId, Trade, VenueBar};

use self::builder::Builder;
use self::venue::VenueBars;

/// So many intervals get each trade; the later ones are folded from the last of these.
const DIRECT: usize = 2;

/// A source that brought nothing for so long is silent, ns of the time of receipt. Longer than the second between the
/// heartbeats of a venue that has them, by enough for a slow line.
const SILENCE_NS: i64 = 5_000_000_000;

/// What came of a trade, of a venue's bar or of the time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Finished {
    /// A bar is final. Each is handed out once.
    Bar(Interval, Bar),
    /// What the day of a minute that became final, or that itself did, has come to.
    Day(Bar),
    /// A minute as the venue tells it, in progress or corrected.
    Minute(Bar),
}

/// The minutes that a trade has changed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Minutes {
    /// One before the minute in progress, which has a late trade more.
    pub corrected: Option<Bar>,
    /// The latest one; `None` where the trade was too late for any.
    pub current: Option<Bar>,
}

/// The bars of all instruments.
///
/// Memory: 112 bytes for each bar in progress. An active instrument has one of each interval, and for as long as the lateness
/// lasts a few of 5 s and now and then two of a longer one; about 1.5 KiB with its place, and 1.1 KiB more where a venue
/// tells its bars. The entries that wait for a clock are 16 bytes for each bar in progress.
#[derive(Debug)]
pub struct Bars {
    lateness_ns: i64,
    instruments: Vec<InstrumentBars>,
    clocks: Vec<Clock>,
    late: [u64; Interval::COUNT],
    superseded: u64,
}

/// The bars in progress of one instrument.
#[derive(Debug)]
struct InstrumentBars {
    /// By interval, and then by start.
    bars: Vec<Builder>,
    /// How many there are of each interval.
    counts: [u16; Interval::COUNT],
    /// Who brings its trades; `None` before the first.
    source: Option<SourceId>,
    /// The time of the first trade, Unix ns; `i64::MAX` before it.
    from_ns: i64,
    /// The last bars that went out as final, by interval, until a venue tells bars too.
    finals: [BarNumber; Interval::COUNT],
    venue: Option<Box<VenueBars>>,
    /// What the clock of a former source says is final, is. `end + lateness > final_ns` for each bar.
    final_ns: i64,
}

/// Which bar of its interval, counted from 1970: half as large as its begin. There are seven of them for each instrument.
#[derive(Clone, Copy, Debug)]
struct BarNumber(i32);

// All that Unix nanoseconds can express, also of the shortest interval.
const _: () = assert!(i64::MAX / Interval::Seconds5.ns() < i32::MAX as i64);

impl BarNumber {
    const NONE: BarNumber = BarNumber(i32::MIN);

    fn of(interval: Interval, start_ns: i64) -> BarNumber {
        BarNumber((start_ns / interval.ns()) as i32)
    }

    /// `i64::MIN` where there is none.
    fn start_ns(self, interval: Interval) -> i64 {
        if self.0 == i32::MIN { i64::MIN } else { i64::from(self.0) * interval.ns() }
    }
}

/// The clock of a source, and what waits for it.
#[derive(Debug)]
struct Clock {
    /// `i64::MIN` before the first event.
    now_ns: i64,
    /// The latest event time, and when the latest event was received, Unix ns.
    event_ns: i64,
    heard_ns: i64,
    /// An entry for each bar in progress of the source's instruments. There may be more: of instruments that have gone
    /// over to another source, and doubles of those that came back.
    due: BinaryHeap<Reverse<Due>>,
}

/// By end, then by interval, so that a bar is folded into the longer one before that is due itself; then by instrument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    end_ns: i64,
    interval: Interval,
    instrument: InstrumentId,
}

impl Bars {
    /// Bars that become final `lateness_ns` (at least 0; a smaller value counts as this) of event time after their end.
    pub fn new(lateness_ns: i64) -> Bars {
        Bars {
            lateness_ns: lateness_ns.max(0),
            instruments: Vec::new(),
            clocks: Vec::new(),
            late: [0; Interval::COUNT],
            superseded: 0,
        }
    }

    /// Takes in a bar that a venue made and that begins at `start_ns` (Unix ns), and hands out what comes of it. False where
    /// the bar itself does not go out: our own stands in its place, or a later one went out before.
    pub fn on_venue_bar(
        &mut self,
        instrument: InstrumentId,
        bar: &VenueBar,
        start_ns: i64,
        out: &mut impl FnMut(InstrumentId, Finished),
    ) -> bool {
        let of_instrument = self.instrument(instrument);
        let own_ns = of_instrument.from_ns;
        let of_minutes = of_instrument.range(Interval::Minute);
        let minute = of_instrument.bars[of_minutes].last().map(|bar| bar.start_ns);
        let finals = of_instrument.finals;
        let finals_ns = || Interval::ALL.map(|interval| finals[interval as usize].start_ns(interval));
        let venue = of_instrument.venue.get_or_insert_with(|| Box::new(VenueBars::new(&finals_ns(), minute)));
        venue.tell(bar, start_ns, own_ns, &mut |finished| out(instrument, finished))
    }

    /// Takes in a trade of the instrument at `ts_event` that was received at `ts_recv` (both Unix ns), after handing out
    /// the bars that this time finishes, by end, then by interval and by instrument.
    pub fn on_trade(
        &mut self,
        instrument: InstrumentId,
        source: SourceId,
        trade: &Trade,
        ts_event: i64,
        ts_recv: i64,
        out: &mut impl FnMut(InstrumentId, Finished),
    ) -> Minutes {
        self.go_over(instrument, source);
        self.on_clock(source, ts_event, ts_recv, out);
        let Bars { lateness_ns, instruments, clocks, late, .. } = self;
        let clock = &mut clocks[usize::from(source.0)];
        let of_instrument = &mut instruments[instrument.index()];
        if of_instrument.from_ns == i64::MAX {
            of_instrument.from_ns = ts_event;
        }
        let final_ns = of_instrument.final_ns.max(clock.now_ns);
        let mut minute = None;
        for interval in Interval::ALL {
            let place = of_instrument.place(interval, ts_event);
            let at = match place {
                Ok(at) => at,
                Err(at) => {
                    let start_ns = start(ts_event, interval);
                    let end_ns = start_ns.saturating_add(interval.ns());
                    if end_ns.saturating_add(*lateness_ns) <= final_ns {
                        late[interval as usize] += 1;
                        continue;
                    }
                    let builder = Builder::new(interval, start_ns, trade, ts_event);
                    of_instrument.insert(at, builder);
                    clock.due.push(Reverse(Due { end_ns, interval, instrument }));
                    at
                }
            };
            if place.is_ok() {
                of_instrument.bars[at].add(trade, ts_event);
            }
            if interval == Interval::Minute {
                minute = Some(at);
            }
            if interval as usize + 1 >= DIRECT {
                break;
            }
        }
        let Some(at) = minute else { return Minutes::default() };
        let latest = of_instrument.range(Interval::Minute).end - 1;
        let mut bar = |at: usize| {
            let minute = of_instrument.bars[at];
            of_instrument.admits_progress(&minute).then(|| minute.bar())
        };
        Minutes { corrected: if at == latest { None } else { bar(at) }, current: bar(latest) }
    }

    /// An event of the source at `ts_event`, received at `ts_recv` (both Unix ns): hands out the bars that this finishes,
    /// by end, then by interval and by instrument.
    pub fn on_clock(
        &mut self,
        source: SourceId,
        ts_event: i64,
        ts_recv: i64,
        out: &mut impl FnMut(InstrumentId, Finished),
    ) {
        let clock = self.clock(source);
        clock.heard_ns = clock.heard_ns.max(ts_recv);
        if ts_event > clock.event_ns {
            clock.event_ns = ts_event;
        }
        self.advance(source, ts_event, out);
    }

    /// Lets the clocks of silent sources run on; `now` is the time of receipt up to which all events have been taken in,
    /// Unix ns. Hands out as [`Self::on_clock`] does, and says whose clock it was.
    pub fn on_silence(&mut self, now: i64, out: &mut impl FnMut(SourceId, InstrumentId, Finished)) {
        for index in 0..self.clocks.len() {
            let Clock { event_ns, heard_ns, .. } = self.clocks[index];
            let silent_ns = now.saturating_sub(heard_ns);
            if event_ns > i64::MIN && silent_ns > SILENCE_NS {
                let source = SourceId(index as u8);
                let now_ns = event_ns.saturating_add(silent_ns - SILENCE_NS);
                self.advance(source, now_ns, &mut |instrument, finished| out(source, instrument, finished));
            }
        }
    }

    /// How many trades came after their bar of the interval was final, and are missing in it.
    pub fn late(&self, interval: Interval) -> u64 {
        self.late[interval as usize]
    }

    /// How many finished bars of ours were left out because the venue's stands in their place.
    pub fn superseded(&self) -> u64 {
        self.superseded
    }

    fn instrument(&mut self, instrument: InstrumentId) -> &mut InstrumentBars {
        if self.instruments.len() <= instrument.index() {
            self.instruments.resize_with(instrument.index() + 1, || InstrumentBars {
                bars: Vec::new(),
                counts: [0; Interval::COUNT],
                source: None,
                from_ns: i64::MAX,
                finals: [BarNumber::NONE; Interval::COUNT],
                venue: None,
                final_ns: i64::MIN,
            });
        }
        &mut self.instruments[instrument.index()]
    }

    fn clock(&mut self, source: SourceId) -> &mut Clock {
        let index = usize::from(source.0);
        if self.clocks.len() <= index {
            let clock = || Clock { now_ns: i64::MIN, event_ns: i64::MIN, heard_ns: i64::MIN, due: BinaryHeap::new() };
            self.clocks.resize_with(index + 1, clock);
        }
        &mut self.clocks[index]
    }

    /// The source brings the instrument's trades from now on: its bars wait for that source's clock.
    fn go_over(&mut self, instrument: InstrumentId, source: SourceId) {
        let of_instrument = self.instrument(instrument);
        if of_instrument.source == Some(source) {
            return;
        }
        if let Some(before) = of_instrument.source.replace(source) {
            let before_ns = self.clocks.get(usize::from(before.0)).map_or(i64::MIN, |clock| clock.now_ns);
            let of_instrument = &mut self.instruments[instrument.index()];
            of_instrument.final_ns = of_instrument.final_ns.max(before_ns);
        }
        self.clock(source);
        let Bars { instruments, clocks, .. } = self;
        let due = &mut clocks[usize::from(source.0)].due;
        let bars = &instruments[instrument.index()].bars;
        due.extend(bars.iter().map(|bar| Reverse(Due { end_ns: bar.end_ns(), interval: bar.interval, instrument })));
        // Sources that take turns again and again leave entries behind.
        if due.len() > 64 * instruments.len().max(64) {
            let mut kept: Vec<_> = std::mem::take(due).into_vec();
            kept.retain(|Reverse(Due { end_ns, interval, instrument })| {
                let of_instrument = &instruments[instrument.index()];
                of_instrument.source == Some(source) && of_instrument.place(*interval, end_ns - 1).is_ok()
            });
            kept.sort_unstable();
            kept.dedup();
            *due = kept.into();
        }
    }

    fn advance(&mut self, source: SourceId, now_ns: i64, out: &mut impl FnMut(InstrumentId, Finished)) {
        let Bars { lateness_ns, instruments, clocks, superseded, .. } = self;
        let clock = &mut clocks[usize::from(source.0)];
        // Also where the time is not new: an instrument that went over may have brought bars that are final here.
        clock.now_ns = clock.now_ns.max(now_ns);
        while let Some(&Reverse(Due { end_ns, interval, instrument })) = clock.due.peek() {
            if end_ns.saturating_add(*lateness_ns) > clock.now_ns {
                return;
            }
            clock.due.pop();
            let of_instrument = &mut instruments[instrument.index()];
            if of_instrument.source != Some(source) {
                continue;
            }
            let Ok(at) = of_instrument.place(interval, end_ns - 1) else { continue };
            let finished = of_instrument.remove(at);
            if of_instrument.admits(&finished) {
                out(instrument, Finished::Bar(interval, finished.bar()));
            } else {
                *superseded += 1;
            }
            if let Some(longer) = Interval::ALL.get(interval as usize + 1).filter(|_| interval as usize + 1 >= DIRECT)
                && let Some(end_ns) = of_instrument.fold(&finished, *longer)
            {
                clock.due.push(Reverse(Due { end_ns, interval: *longer, instrument }));
            }
            let day = match interval {
                Interval::Day => Some(finished),
                // The day's last minute is followed by the day itself.
                Interval::Minute if end_ns.rem_euclid(Interval::Day.ns()) != 0 => of_instrument.day(&finished),
                _ => None,
            };
            if let Some(day) = day.filter(|day| of_instrument.admits_progress(day)) {
                out(instrument, Finished::Day(day.bar()));
            }
        }
    }
}

impl InstrumentBars {
    /// Where the bars of an interval stand.
    fn range(&self, interval: Interval) -> std::ops::Range<usize> {
        let from = self.counts[..interval as usize].iter().map(|count| usize::from(*count)).sum();
        from..from + usize::from(self.counts[interval as usize])
    }

    /// Where the bar that holds this time stands, or is to be inserted.
    fn place(&self, interval: Interval, ts_event: i64) -> Result<usize, usize> {
        let range = self.range(interval);
        // The newest is the one, nearly always.
        let older = self.bars[range.clone()].iter().rev().take_while(|bar| bar.start_ns > ts_event).count();
        let at = range.end - older;
        match at.checked_sub(1).filter(|at| *at >= range.start && self.bars[*at].holds(ts_event)) {
            Some(at) => Ok(at),
            None => Err(at),
        }
    }

    fn insert(&mut self, at: usize, builder: Builder) {
        if self.bars.len() == self.bars.capacity() {
            // Two at a time: there are about ten, and very many instruments.
            self.bars.reserve_exact(2);
        }
        self.bars.insert(at, builder);
        self.counts[builder.interval as usize] += 1;
    }

    fn remove(&mut self, at: usize) -> Builder {
        let builder = self.bars.remove(at);
        self.counts[builder.interval as usize] -= 1;
        builder
    }

    /// Adds a finished bar to the longer one that it is a part of. Where that is new, its end.
    fn fold(&mut self, finished: &Builder, longer: Interval) -> Option<i64> {
        match self.place(longer, finished.start_ns) {
            Ok(at) => {
                self.bars[at].merge(finished);
                None
            }
            Err(at) => {
                let builder = finished.widened(longer, start(finished.start_ns, longer));
                self.insert(at, builder);
                Some(builder.end_ns())
            }
        }
    }

    /// Whether a finished bar goes out, and not the venue's.
    fn admits(&mut self, bar: &Builder) -> bool {
        match &mut self.venue {
            Some(venue) => venue.admits_own(bar.interval, bar.start_ns, self.from_ns),
            None => {
                self.finals[bar.interval as usize] = BarNumber::of(bar.interval, bar.start_ns);
                true
            }
        }
    }

    /// The same for a minute or a day in progress.
    fn admits_progress(&mut self, bar: &Builder) -> bool {
        let from_ns = self.from_ns;
        self.venue.as_mut().is_none_or(|venue| venue.admits_own_progress(bar.interval, bar.start_ns, from_ns))
    }

    /// What the day of a finished minute has come to: all its bars in progress that no other holds.
    fn day(&self, minute: &Builder) -> Option<Builder> {
        let start_ns = start(minute.start_ns, Interval::Day);
        let folded = &self.bars[self.range(Interval::ALL[DIRECT - 1]).start..];
        let mut parts = folded.iter().filter(|bar| start(bar.start_ns, Interval::Day) == start_ns);
        let mut day = parts.next()?.widened(Interval::Day, start_ns);
        parts.for_each(|part| day.merge(part));
        Some(day)
    }
}

/// When the interval that holds this time begins.
fn start(ts_event: i64, interval: Interval) -> i64 {
    // The first one may have begun before the time that can be told.
    ts_event.saturating_sub(ts_event.rem_euclid(interval.ns()))
}
