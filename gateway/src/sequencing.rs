//! Sequencing: rings of ticks in, segments of encoded messages out to every shard.
//!
//! A *turn* takes what the rings have and hands on what came of it. Turns are taken by the sequencer's thread, which goes
//! round until the rings are empty and then sleeps on the doorbell that feeds and shards ring. While ticks come so
//! seldom that each would wake it, the feed that has one takes the turn itself, and the thread sleeps on: a tick on an
//! idle gateway then crosses to another thread once, not twice ([`SharedSequencing::stand_in`]).
//!
//! The thread waits for nobody but a shard whose queue is full; a live feed then laps it, which is counted here and
//! announced where trades are missing.

mod source_streams;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fanout::{Body, Interest, Sequencer, Update};
use feed_handlers::arbitration::{Arbitration, SourceState, Verdict};
use feed_handlers::bars::{Bars, Finished};
use feed_handlers::doorbell::Doorbell;
use feed_handlers::indicators::IndicatorTable;
use feed_handlers::ring::{Backlog, Polled, Reader};
use feed_handlers::source::FeedStatus;
use protocol::message::FeedState;
use protocol::{
    ChannelKind, Class, InstrumentId, InstrumentTable, Interval, SourceId, Tick, TickBody, TickFlags, Trade,
};

use crate::context::wall_ns;
use crate::metrics::{Counter, Gauge, Histogram, ThreadMetrics};
use crate::platform::market_data_processed::Processed;
use crate::shard::{Input, ShardQueue};
use crate::signals::{LatestMarket, SignalQueue};

pub(crate) use self::source_streams::{SourceStreams, source_symbol};

/// Naps in a round of the shards' writes.
const ROUND_NAPS: u32 = 8;

/// Ticks taken from one ring before the others have their turn.
const TICKS_PER_TURN: usize = 4096;
/// The same where a feed stands in: it has a socket to read.
const TICKS_PER_STAND_IN: usize = 64;
/// A feed stands in only where the turn before is longer ago. Ticks that follow each other faster are better taken
/// together, while the feed goes on reading.
const STAND_IN_PAUSE: Duration = Duration::from_micros(100);
/// Longest sleep, so that a change of a source's state is told in time.
const SLEEP_MAX: Duration = Duration::from_millis(250);

/// A source as the sequencer sees it.
pub(crate) struct Feed {
    pub(crate) reader: Reader<Tick>,
    pub(crate) status: Arc<FeedStatus>,
    /// What the clients were told last.
    pub(crate) told: FeedState,
    /// What arbitration was told last.
    pub(crate) state: SourceState,
}

/// What a turn works on.
pub(crate) struct Sequencing {
    pub(crate) feeds: Vec<Feed>,
    pub(crate) instruments: Arc<InstrumentTable>,
    pub(crate) arbitration: Arbitration,
    pub(crate) source_streams: SourceStreams,
    pub(crate) sequencer: Sequencer,
    /// Where all of it goes to Kafka too.
    pub(crate) processed: Option<Processed>,
    pub(crate) bars: Bars,
    /// `None` where they are not wanted.
    pub(crate) indicators: Option<IndicatorTable>,
    /// When the last tick was received, Unix ns.
    pub(crate) received: i64,
    pub(crate) shards: Vec<ShardQueue>,
    /// Signals out of Kafka; `None` without it.
    pub(crate) signals: Option<SignalQueue>,
    /// What signals are joined with, where this node processes them.
    pub(crate) market: Option<Arc<LatestMarket>>,
    /// Signals that were taken and are not yet with the shards.
    pub(crate) signals_open: u64,
    pub(crate) metrics: Arc<ThreadMetrics>,
    /// By instrument: the last trade id, and whether ticks of its source have been lost since.
    pub(crate) trades: Vec<LastTrade>,
    /// `ts_recv` of the first tick since segments were last handed on, Unix ns.
    pub(crate) oldest: Option<i64>,
    pub(crate) reported: Reported,
    /// When the last turn ended.
    pub(crate) turned: Instant,
    /// When the sleeping thread will come back by itself, Unix ns.
    pub(crate) wakes_at: i64,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LastTrade {
    id: u64,
    source: u8,
    suspect: bool,
}

/// What the sequencer's thread waits with.
pub(crate) struct Waiting {
    pub(crate) doorbell: Arc<Doorbell>,
    pub(crate) interest: Arc<Interest>,
    pub(crate) signals: Option<SignalQueue>,
    /// Set when the sources have ended: the thread empties the rings and ends too.
    pub(crate) finish: Arc<AtomicBool>,
}

/// The sequencing of the gateway, for whoever takes its next turn. `None` when it has ended, so that the shards' input
/// ends too.
#[derive(Clone)]
pub(crate) struct SharedSequencing(Arc<Mutex<Option<Sequencing>>>);

impl SharedSequencing {
    pub(crate) fn new(sequencing: Sequencing) -> SharedSequencing {
        SharedSequencing(Arc::new(Mutex::new(Some(sequencing))))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Sequencing>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The sequencer's thread: takes turns until told to finish and the rings are empty.
    pub(crate) fn run(&self, waiting: &Waiting) {
        let Waiting { doorbell, interest, signals, finish } = waiting;
        let backlogs: Vec<Backlog> = self.lock().iter().flat_map(Sequencing::backlogs).collect();
        loop {
            // Acquire: pairs with the Release of who set it, after the sources had ended.
            let finishing = finish.load(Ordering::Acquire);
            let mut held = self.lock();
            let Some(sequencing) = held.as_mut() else { return };
            let Turn { worked, next_due } = sequencing.turn(TICKS_PER_TURN);
            if worked {
                let nap = sequencing.nap();
                drop(held);
                if !nap.is_zero() {
                    std::thread::sleep(nap);
                }
                continue;
            }
            if finishing {
                *held = None;
                return;
            }
            let sleep = sequencing.fall_asleep(next_due);
            drop(held);
            let ready = || {
                backlogs.iter().any(|backlog| !backlog.is_empty())
                    || interest.is_asked()
                    || signals.as_ref().is_some_and(|signals| !signals.is_empty())
                    // Relaxed: a hint to go round; the loop acquires.
                    || finish.load(Ordering::Relaxed)
            };
            doorbell.wait(ready, Some(sleep));
        }
    }

    /// Takes the turn on the thread of a feed that would have to wake the sequencer's. False where that thread is to be
    /// woken: it works, ticks come thick, or there is more to do than a feed has time for.
    pub(crate) fn stand_in(&self) -> bool {
        let Ok(mut held) = self.0.try_lock() else { return false };
        let Some(sequencing) = held.as_mut() else { return false };
        if !sequencing.is_calm() {
            return false;
        }
        let Turn { next_due, .. } = sequencing.turn(TICKS_PER_STAND_IN);
        sequencing.feeds.iter().all(|feed| feed.reader.lag() == 0)
            && sequencing.signals.as_ref().is_none_or(SignalQueue::is_empty)
            && next_due.is_none_or(|due| due >= sequencing.wakes_at)
    }
}

/// What came of a turn.
struct Turn {
    /// There were ticks.
    worked: bool,
    /// When the delay line has something for the clients, Unix ns.
    next_due: Option<i64>,
}

impl Sequencing {
    fn backlogs(&self) -> impl Iterator<Item = Backlog> {
        self.feeds.iter().map(|feed| feed.reader.backlog())
    }

    fn turn(&mut self, ticks_max: usize) -> Turn {
        // Before the ticks: who may bring them depends on it.
        self.tell_feed_states();
        let worked = self.take_ticks(ticks_max) | self.take_signals();
        self.pass_silence(worked);
        self.sequencer.serve_snapshots();
        let next_due = self.sequencer.release_delayed(wall_ns());
        self.hand_on();
        self.report();
        self.turned = Instant::now();
        Turn { worked, next_due }
    }

    /// How long to sleep where nothing is to be done before `next_due`.
    fn fall_asleep(&mut self, next_due: Option<i64>) -> Duration {
        let now = wall_ns();
        let sleep =
            next_due.map_or(SLEEP_MAX, |at| Duration::from_nanos(u64::try_from(at - now).unwrap_or(0)).min(SLEEP_MAX));
        self.wakes_at = now + sleep.as_nanos() as i64;
        sleep
    }

    /// Whether a feed may take the next turn: there is little to do, and no shard that would make it wait.
    fn is_calm(&self) -> bool {
        !self.sequencer.is_asked()
            && self.turned.elapsed() >= STAND_IN_PAUSE
            && self.shards.iter().all(|shard| shard.round().is_zero() && shard.has_ample_room())
    }

    /// How long to let ticks gather. While all shards write in rounds, what is handed on waits for the next one anyway:
    /// a small part of a round, so that thousands of ticks a second do not wake this thread, and it not the shards, for
    /// each of them.
    fn nap(&self) -> Duration {
        self.shards.iter().map(ShardQueue::round).min().unwrap_or_default() / ROUND_NAPS
    }

    fn take_ticks(&mut self, ticks_max: usize) -> bool {
        let mut worked = false;
        for index in 0..self.feeds.len() {
            let mut taken = 0;
            while taken < ticks_max {
                match self.feeds[index].reader.poll() {
                    Polled::Record(tick) => {
                        self.oldest.get_or_insert(tick.ts_recv);
                        self.take(&tick);
                        taken += 1;
                        if self.sequencer.has_full_segment() {
                            self.hand_on();
                        }
                    }
                    Polled::Lapped { lost } => {
                        self.metrics.add(Counter::RingLapped, lost);
                        tracing::warn!(lost, "the sequencer was lapped by a feed");
                        let of_feed = self.trades.iter_mut().filter(|last| usize::from(last.source) == index);
                        of_feed.for_each(|last| last.suspect = true);
                    }
                    Polled::Empty => break,
                }
            }
            self.metrics.add(Counter::RingRecords, taken as u64);
            worked |= taken > 0;
        }
        worked
    }

    /// Takes the signals that have come.
    fn take_signals(&mut self) -> bool {
        let mut worked = false;
        while let Some(update) = self.signals.as_ref().and_then(SignalQueue::take) {
            worked = true;
            self.signals_open += 1;
            self.oldest.get_or_insert(update.ts_recv);
            self.received = self.received.max(update.ts_recv);
            self.count(Class::Sequenced);
            self.sequencer.publish(update);
            if self.sequencer.has_full_segment() {
                self.hand_on();
            }
        }
        worked
    }

    /// Sends a tick into the streams that it belongs to: the instrument's plain one, if arbitration has its source make it,
    /// and that of its source alone, if there is one.
    fn take(&mut self, tick: &Tick) {
        self.received = tick.ts_recv;
        match self.arbitration.offer(tick, tick.ts_recv) {
            Verdict::Publish => self.publish(tick),
            Verdict::PublishAfterSwitch { .. } => {
                self.metrics.add(Counter::SourceSwitches, 1);
                self.publish(tick);
            }
            Verdict::Standby => self.metrics.add(Counter::TicksStandby, 1),
            Verdict::Behind => self.metrics.add(Counter::TicksBehind, 1),
        }
        if let Some(instrument) = self.source_streams.find(&self.instruments, tick.instrument, tick.source) {
            self.publish(&Tick { instrument, ..*tick });
        }
    }

    fn publish(&mut self, tick: &Tick) {
        if let Some(market) = &self.market {
            market.note(tick);
        }
        let Tick { instrument, source, flags, ts_event, ts_recv, body } = *tick;
        let Sequencing { sequencer, processed, bars, indicators, metrics, .. } = self;
        let mut outlet = Outlet { sequencer, processed: processed.as_ref() };
        let mut finished = |instrument: InstrumentId, finished: Finished| {
            publish_finished(&mut outlet, indicators.as_mut(), metrics, source, ts_recv, instrument, finished);
        };
        let update = |kind, body| Update { instrument, kind, source, ts_event, ts_recv, flags, body };
        match body {
            TickBody::Trade(trade) => {
                let minutes = bars.on_trade(instrument, source, &trade, ts_event, ts_recv, &mut finished);
                let missed = self.missed_before(instrument, source, &trade);
                if let Some(missed) = missed {
                    self.count(Class::Sequenced);
                    self.send(update(ChannelKind::Trades, Body::VenueGap { missed }));
                }
                self.count(Class::Sequenced);
                self.send(update(ChannelKind::Trades, Body::Trade(trade)));
                // The minute in progress comes last, so that it is what stays as the channel's last value.
                for bar in [minutes.corrected, minutes.current].into_iter().flatten() {
                    self.count(Class::Conflated);
                    self.send(update(ChannelKind::UpdatedBars, Body::Bar(bar)));
                }
            }
            TickBody::Quote(quote) => {
                bars.on_clock(source, ts_event, ts_recv, &mut finished);
                self.count(Class::Conflated);
                self.send(update(ChannelKind::Quotes, Body::Quote(quote)));
            }
            TickBody::Bar(bar) => {
                if !bars.on_venue_bar(instrument, &bar, ts_event, &mut finished) {
                    metrics.add(Counter::VenueBarsSuperseded, 1);
                }
            }
            TickBody::Gap { missed } => {
                // After a lap the next trade's id tells the whole gap, this one included.
                if !self.trades.get(instrument.index()).is_some_and(|last| last.suspect) {
                    self.count(Class::Sequenced);
                    self.send(update(ChannelKind::Trades, Body::VenueGap { missed }));
                    self.skip_trades(instrument, missed);
                }
            }
            TickBody::Heartbeat => bars.on_clock(source, ts_event, ts_recv, &mut finished),
        }
    }

    /// The bars of sources that have fallen silent become final too. While ticks come, time is when the last one was
    /// received: a replay that waits for the shards is not silent.
    fn pass_silence(&mut self, worked: bool) {
        let now = if worked { self.received } else { wall_ns() };
        let Sequencing { sequencer, processed, bars, indicators, metrics, .. } = self;
        let mut outlet = Outlet { sequencer, processed: processed.as_ref() };
        bars.on_silence(now, &mut |source, instrument, finished| {
            publish_finished(&mut outlet, indicators.as_mut(), metrics, source, now, instrument, finished);
        });
    }

    fn send(&mut self, update: Update) {
        Outlet { sequencer: &mut self.sequencer, processed: self.processed.as_ref() }.publish(update);
    }

    fn count(&self, class: Class) {
        self.metrics.add(counter(class), 1);
    }

    /// How many trades of the instrument are missing before this one, if ticks were lost in the ring. What
    /// the venue left out is not asked here: its feed says so itself.
    fn missed_before(&mut self, instrument: InstrumentId, source: SourceId, trade: &Trade) -> Option<u64> {
        if self.trades.len() <= instrument.index() {
            self.trades.resize_with(instrument.index() + 1, LastTrade::default);
        }
        // Without a number there is nothing to tell a gap by.
        let id = trade.id?;
        let last = &mut self.trades[instrument.index()];
        let before = std::mem::replace(last, LastTrade { id, source: source.0, suspect: false });
        let missed = id.saturating_sub(before.id).saturating_sub(1);
        // The numbers of two sources have nothing to do with each other.
        (before.suspect && before.source == source.0 && missed > 0).then_some(missed)
    }

    fn skip_trades(&mut self, instrument: InstrumentId, missed: u64) {
        if let Some(last) = self.trades.get_mut(instrument.index()) {
            last.id = last.id.saturating_add(missed);
        }
    }

    fn hand_on(&mut self) {
        let ts_recv = self.oldest.take();
        if let Some(ts_recv) = ts_recv {
            self.metrics.observe(Histogram::TickToSegment, wall_ns() - ts_recv);
        }
        for segment in self.sequencer.take_segments() {
            self.metrics.add(Counter::SegmentsPublished, 1);
            self.metrics.add(Counter::SegmentBytes, segment.footprint_bytes() as u64);
            push_all(&self.shards, &self.metrics, || Input::Segment { segment: segment.clone(), ts_recv });
        }
        if let Some(signals) = &self.signals {
            signals.hand_on(std::mem::take(&mut self.signals_open));
        }
    }

    fn tell_feed_states(&mut self) {
        for (source, feed) in self.feeds.iter_mut().enumerate() {
            let now = feed.status.state();
            let state = SourceState::from(now);
            if feed.state != state {
                feed.state = state;
                let id = SourceId(u8::try_from(source).unwrap_or(u8::MAX));
                self.arbitration.set_source_state(id, state, wall_ns());
            }
            let state = told_state(now);
            if feed.told != state {
                feed.told = state;
                push_all(&self.shards, &self.metrics, || Input::Feed { source, state });
            }
        }
    }

    fn report(&mut self) {
        let now = Reported {
            delay_dropped: self.sequencer.delay_dropped(),
            bars_late: self.bars.late(Interval::Seconds5),
            bars_superseded: self.bars.superseded(),
        };
        let before = std::mem::replace(&mut self.reported, now);
        self.metrics.add(Counter::DelayLineDropped, now.delay_dropped - before.delay_dropped);
        self.metrics.add(Counter::BarsLateTrades, now.bars_late - before.bars_late);
        self.metrics.add(Counter::OwnBarsSuperseded, now.bars_superseded - before.bars_superseded);
        self.metrics.set(Gauge::DelayLineBytes, self.sequencer.delay_bytes() as u64);
        self.metrics.set(Gauge::Instruments, self.sequencer.instruments() as u64);
    }
}

/// Where updates go out: to the clients, and to Kafka where that is wanted.
struct Outlet<'a> {
    sequencer: &'a mut Sequencer,
    processed: Option<&'a Processed>,
}

impl Outlet<'_> {
    fn publish(&mut self, update: Update) {
        match self.processed {
            None => {
                self.sequencer.publish(update);
            }
            Some(processed) => {
                let seq = self.sequencer.publish(update.clone());
                processed.offer(seq, &update);
            }
        }
    }
}

/// A finished bar goes out with its indicators behind it.
fn publish_finished(
    outlet: &mut Outlet<'_>,
    indicators: Option<&mut IndicatorTable>,
    metrics: &ThreadMetrics,
    source: SourceId,
    ts_recv: i64,
    instrument: InstrumentId,
    finished: Finished,
) {
    let mut publish = |kind: ChannelKind, ts_event: i64, body: Body| {
        metrics.add(counter(kind.class()), 1);
        let flags = TickFlags::NONE;
        outlet.publish(Update { instrument, kind, source, ts_event, ts_recv, flags, body });
    };
    match finished {
        Finished::Bar(interval, bar) => {
            metrics.add(Counter::BarsClosed, 1);
            publish(ChannelKind::bars(interval), bar.start_ns, Body::Bar(bar));
            if let Some(table) = indicators {
                let indicators = table.on_bar(instrument, interval, &bar);
                publish(ChannelKind::indicators(interval), bar.start_ns, Body::Indicators(indicators));
            }
        }
        Finished::Day(bar) => publish(ChannelKind::DailyBars, bar.start_ns, Body::Bar(bar)),
        Finished::Minute(bar) => publish(ChannelKind::UpdatedBars, bar.start_ns, Body::Bar(bar)),
    }
}

fn counter(class: Class) -> Counter {
    match class {
        Class::Sequenced => Counter::SequencedMessages,
        Class::Conflated => Counter::ConflatedMessages,
    }
}

/// Totals that the metrics already have.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reported {
    delay_dropped: u64,
    bars_late: u64,
    bars_superseded: u64,
}

fn push_all(shards: &[ShardQueue], metrics: &ThreadMetrics, input: impl Fn() -> Input) {
    for shard in shards {
        metrics.add(Counter::SegmentsQueued, 1);
        if shard.push(input()) {
            metrics.add(Counter::ShardQueueFull, 1);
        }
    }
}

/// What clients are told of a source's state: a replay that waits or has ended brings nothing, and is no
/// fault either.
fn told_state(state: feed_handlers::source::FeedState) -> FeedState {
    use feed_handlers::source::FeedState as Source;
    match state {
        Source::Up => FeedState::Up,
        Source::Stale | Source::Held | Source::Ended => FeedState::Stale,
        Source::Down => FeedState::Down,
    }
}
