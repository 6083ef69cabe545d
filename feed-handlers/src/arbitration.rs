//! Arbitration: which of its sources makes an instrument's plain stream, tick by tick.
//!
//! Pure, owned by whoever takes the sequencer's turn. Ticks of all sources are offered in the order in which they are
//! taken from the rings; of each the answer is whether it goes out. The time is passed in, and is that of receipt (one
//! clock for all sources): staleness is about what reaches us, not about what a venue's clock says.
//!
//! **Who is active.** An instrument has at most one active source, and what others bring stands by. The first that brings
//! anything is the first active one. Another takes over with a trade or quote of its own, never with a gap or a heartbeat,
//! where
//! - the active source has brought nothing of the instrument for `stale_after`, heartbeats included: the other's tick proves
//!   that there is something to bring;
//! - or the active source is not up, and the other is;
//! - or the other ranks better, and has earned it: it is up, has been for `fail_back_after` since it last failed, and where it
//!   fell silent on this instrument alone, it has brought ticks of it again for as long, without another silence. A source
//!   that has never failed owes nothing, so that who was quickest at the start does not stay.
//!
//! Any source may be the one that takes over, the best of those that speak or not: continuity first. A better one that
//! speaks takes over from it with its own next tick.
//!
//! **Never backwards.** Within one source, order is the feed's business: trades that come late are published, and merged
//! into their bars. Across a switch nothing goes back: from then on, and for as long as the new source is active, its trades
//! must be later than every trade published before the switch, and its quotes not earlier than every quote. A trade at the
//! very time of the last one is left out, because it is most likely the same trade: no two venues number trades alike, so
//! time is all there is to tell repeats by. What that costs is a trade now and then that shares its time with the last one
//! of the other source; what it buys is that no trade counts twice. A source does not become active with a tick that is
//! behind, so a source that lags takes over where it has caught up. One venue's time too far ahead would shut the others out
//! until they reach it; [`crate::validation`] bounds that to `future_max`.
//!
//! **Bars that venues make** are arbitrated by themselves, for each instrument and interval: who tells days may stay silent on
//! minutes, and a bar says nothing about who has trades. Their source has fallen silent where it has brought none for twice
//! the interval and `stale_after`. After a switch, a bar must begin after every final one before it, and one in progress not
//! before every one that was shown.
//!
//! Deliberately absent: the trade ids of different sources, which cannot be compared; whoever looks for holes in ids must
//! start anew at a switch. [`protocol::TickFlags::mock`]: the rank goes by source, so a line that carries made-up and real
//! data gives each a source of its own.

#[cfg(all(test, not(loom)))]
mod tests;

use std::collections::HashMap;

use protocol::{InstrumentId, Interval, SourceId, Tick, TickBody};

/// How much a source is preferred: the lowest first, real before mock, then in the order of configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rank {
    /// Whether the source makes its data up.
    pub is_mock: bool,
    /// Place in the configured order, the most preferred first. Of equals the lower [`SourceId`] goes first.
    pub order: u16,
}

impl Rank {
    /// That of a source that nobody ranked.
    pub const LAST_REAL: Rank = Rank { is_mock: false, order: u16::MAX };
}

/// How a source is, as far as arbitration is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SourceState {
    Up,
    /// Connected, and silent for longer than it should be.
    Stale,
    /// Nothing can come.
    Down,
}

#[cfg(not(loom))]
impl From<crate::source::FeedState> for SourceState {
    /// A replay that waits or has ended brings nothing: others may take over.
    fn from(state: crate::source::FeedState) -> SourceState {
        use crate::source::FeedState;
        match state {
            FeedState::Up => SourceState::Up,
            FeedState::Stale => SourceState::Stale,
            FeedState::Down | FeedState::Held | FeedState::Ended => SourceState::Down,
        }
    }
}

/// When sources take over from each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArbitrationSettings {
    /// Silence on an instrument after which another source may take it over, ns.
    pub stale_after_ns: i64,
    /// How long a preferred source must have been well again before it takes back, ns.
    pub fail_back_after_ns: i64,
}

impl Default for ArbitrationSettings {
    /// 10 s and 5 s.
    fn default() -> ArbitrationSettings {
        ArbitrationSettings { stale_after_ns: 10_000_000_000, fail_back_after_ns: 5_000_000_000 }
    }
}

/// What becomes of a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is the active source's.
    Publish,
    /// Its source is active from this tick on.
    PublishAfterSwitch { from: SourceId, to: SourceId },
    /// Another source is active.
    Standby,
    /// It may be a repeat of what the source before published, or is older than that.
    Behind,
}

impl Verdict {
    /// Whether the tick goes out.
    pub const fn is_published(self) -> bool {
        matches!(self, Verdict::Publish | Verdict::PublishAfterSwitch { .. })
    }
}

/// The arbitration of all instruments.
///
/// Memory: 32 bytes an instrument, and some 50 for each interval that venues tell bars of; 48 more for what two sources have
/// brought.
#[derive(Debug)]
pub struct Arbitration {
    settings: ArbitrationSettings,
    /// By source id, 256 at most.
    sources: Vec<Source>,
    /// By instrument.
    streams: Vec<Stream>,
    /// Of the bars that venues make.
    bars: HashMap<(InstrumentId, Interval), Stream>,
    /// Of the streams with several sources, in the order in which they turned out to be such.
    contests: Vec<Contest>,
}

#[derive(Clone, Copy, Debug)]
struct Source {
    rank: Rank,
    state: SourceState,
    /// Since when it is up; `i64::MIN` where it has never failed.
    up_since: i64,
    /// It was reported up before, so the next time is a recovery.
    has_been_up: bool,
}

impl Source {
    /// One that nobody has said anything about: the tick that it brings is the sign that it is up.
    fn new(rank: Rank) -> Source {
        Source { rank, state: SourceState::Up, up_since: i64::MIN, has_been_up: false }
    }
}

/// The lowest times at which something may be published without going back. In a stream of bars both hold, of those in
/// progress `quote` and of those that are final `trade`.
#[derive(Clone, Copy, Debug)]
struct Floor {
    trade: i64,
    quote: i64,
}

impl Floor {
    const NONE: Floor = Floor { trade: i64::MIN, quote: i64::MIN };

    fn admits(&self, kind: Kind, ts_event: i64) -> bool {
        match kind {
            Kind::Trade | Kind::Bar { is_final: true } => ts_event >= self.trade,
            Kind::Quote | Kind::Bar { is_final: false } => ts_event >= self.quote,
        }
    }

    /// Above what is published now.
    fn rise(&mut self, kind: Kind, ts_event: i64) {
        let next = ts_event.saturating_add(1);
        match kind {
            Kind::Trade => self.trade = self.trade.max(next),
            Kind::Quote => self.quote = self.quote.max(ts_event),
            Kind::Bar { is_final } => {
                let lowest = if is_final { next } else { ts_event };
                (self.trade, self.quote) = (self.trade.max(lowest), self.quote.max(lowest));
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Trade,
    Quote,
    Bar { is_final: bool },
}

impl Kind {
    fn of(body: &TickBody) -> Option<Kind> {
        match body {
            TickBody::Trade(_) => Some(Kind::Trade),
            TickBody::Quote(_) => Some(Kind::Quote),
            TickBody::Bar(bar) => Some(Kind::Bar { is_final: bar.is_final() }),
            TickBody::Gap { .. } | TickBody::Heartbeat => None,
        }
    }
}

/// What is known of an instrument's plain stream, or of its bars of one interval.
#[derive(Clone, Copy, Debug)]
struct Stream {
    /// When the active source last brought anything, of this machine's clock, ns.
    heard: i64,
    /// Above all that was published, whoever brought it.
    floor: Floor,
    /// Its place in `contests`; [`UNCONTESTED`] while one source alone has brought it.
    contest: u32,
    active: Option<SourceId>,
}

const UNCONTESTED: u32 = u32::MAX;

impl Stream {
    const UNKNOWN: Stream = Stream { heard: i64::MIN, floor: Floor::NONE, contest: UNCONTESTED, active: None };
}

const _: () = assert!(size_of::<Stream>() == 32 && size_of::<Contest>() == 48);

/// What is known of a stream that several sources have brought.
#[derive(Clone, Copy, Debug)]
struct Contest {
    /// Above all that was published before the last switch.
    floor: Floor,
    /// A source that lost the instrument by silence, though it was up, and has not taken it back.
    lapsed: Option<Lapse>,
}

#[derive(Clone, Copy, Debug)]
struct Lapse {
    source: SourceId,
    /// When it spoke first after its silence and last, ns; `None` while it is silent.
    returned: Option<(i64, i64)>,
}

impl Arbitration {
    /// Arbitration between sources of these ranks, the first that of `SourceId(0)`. Each counts as up until
    /// [`Self::set_source_state`] says otherwise.
    pub fn new(ranks: Vec<Rank>, settings: ArbitrationSettings) -> Arbitration {
        let sources = ranks.into_iter().map(Source::new).collect();
        Arbitration { settings, sources, streams: Vec::new(), bars: HashMap::new(), contests: Vec::new() }
    }

    /// Ranks a source, which may be a new one. Holds from the next tick on.
    pub fn set_rank(&mut self, source: SourceId, rank: Rank) {
        self.source_mut(source).rank = rank;
    }

    /// A source is in this state, `now_ns` by the clock of [`Self::offer`]. Repeating a state changes nothing.
    pub fn set_source_state(&mut self, source: SourceId, state: SourceState, now_ns: i64) {
        let source = self.source_mut(source);
        if state == SourceState::Up {
            if source.state != SourceState::Up {
                source.up_since = if source.has_been_up { now_ns } else { i64::MIN };
            }
            source.has_been_up = true;
        }
        source.state = state;
    }

    /// Whether this tick, received or taken at `now_ns`, is published. Allocates for new instruments only, for the first bars
    /// of one, and for what turns out to have a second source.
    pub fn offer(&mut self, tick: &Tick, now_ns: i64) -> Verdict {
        let Arbitration { settings, sources, streams, bars, contests } = self;
        let (stream, settings) = match tick.body {
            TickBody::Bar(bar) => {
                let stale_after_ns = settings.stale_after_ns.saturating_add(2 * bar.interval().ns());
                let stream = bars.entry((tick.instrument, bar.interval())).or_insert(Stream::UNKNOWN);
                (stream, ArbitrationSettings { stale_after_ns, ..*settings })
            }
            _ => {
                let index = tick.instrument.index();
                if index >= streams.len() {
                    streams.resize(index + 1, Stream::UNKNOWN);
                }
                (&mut streams[index], *settings)
            }
        };
        let kind = Kind::of(&tick.body);
        stream.offer(&Offer { tick, kind, now_ns, settings, sources }, contests)
    }

    /// The source whose ticks make the instrument's plain stream; `None` before the first tick.
    pub fn active(&self, instrument: InstrumentId) -> Option<SourceId> {
        self.streams.get(instrument.index())?.active
    }

    /// How many streams several sources have brought.
    pub fn contested(&self) -> usize {
        self.contests.len()
    }

    fn source_mut(&mut self, id: SourceId) -> &mut Source {
        let index = usize::from(id.0);
        if index >= self.sources.len() {
            self.sources.resize(index + 1, Source::new(Rank::LAST_REAL));
        }
        &mut self.sources[index]
    }
}

/// A tick that is offered to its stream.
#[derive(Clone, Copy)]
struct Offer<'a> {
    tick: &'a Tick,
    kind: Option<Kind>,
    now_ns: i64,
    settings: ArbitrationSettings,
    sources: &'a [Source],
}

impl Stream {
    fn offer(&mut self, offer: &Offer<'_>, contests: &mut Vec<Contest>) -> Verdict {
        let Offer { tick, kind, now_ns, .. } = *offer;
        match self.active {
            Some(active) if active != tick.source => return self.offer_of_another(offer, active, contests),
            Some(_) => {}
            None => self.active = Some(tick.source),
        }
        self.heard = now_ns;
        if let Some(kind) = kind {
            if let Some(contest) = contests.get(self.contest as usize)
                && !contest.floor.admits(kind, tick.ts_event)
            {
                return Verdict::Behind;
            }
            self.floor.rise(kind, tick.ts_event);
        }
        Verdict::Publish
    }

    fn offer_of_another(&mut self, offer: &Offer<'_>, active: SourceId, contests: &mut Vec<Contest>) -> Verdict {
        let Offer { tick, kind, now_ns, settings, sources } = *offer;
        let ArbitrationSettings { stale_after_ns, fail_back_after_ns } = settings;
        let (candidate, holder) = (source(sources, tick.source), source(sources, active));
        if self.contest == UNCONTESTED {
            // Not more contests than streams, of which there are eight for each instrument at most.
            self.contest = contests.len() as u32;
            contests.push(Contest { floor: Floor::NONE, lapsed: None });
        }
        let contest = &mut contests[self.contest as usize];
        let lapse = contest.lapsed.as_mut().filter(|lapse| lapse.source == tick.source);
        let returned_at = lapse.map(|lapse| {
            let since = match lapse.returned {
                Some((since, last)) if now_ns.saturating_sub(last) < stale_after_ns => since,
                _ => now_ns,
            };
            lapse.returned = Some((since, now_ns));
            since
        });
        let Some(kind) = kind else { return Verdict::Standby };

        let is_silent = now_ns.saturating_sub(self.heard) >= stale_after_ns;
        let is_up = candidate.state == SourceState::Up;
        let takes_over = if is_silent {
            true
        } else if holder.state != SourceState::Up {
            is_up
        } else {
            let well_since = candidate.up_since.max(returned_at.unwrap_or(i64::MIN));
            let is_better = (candidate.rank, tick.source.0) < (holder.rank, active.0);
            is_better && is_up && now_ns.saturating_sub(well_since) >= fail_back_after_ns
        };
        if !takes_over {
            return Verdict::Standby;
        }
        if !self.floor.admits(kind, tick.ts_event) {
            return Verdict::Behind;
        }
        if is_silent && holder.state == SourceState::Up {
            contest.lapsed = Some(Lapse { source: active, returned: None });
        } else if returned_at.is_some() {
            contest.lapsed = None;
        }
        contest.floor = self.floor;
        self.floor.rise(kind, tick.ts_event);
        self.active = Some(tick.source);
        self.heard = now_ns;
        Verdict::PublishAfterSwitch { from: active, to: tick.source }
    }
}

fn source(sources: &[Source], id: SourceId) -> Source {
    sources.get(usize::from(id.0)).copied().unwrap_or(Source::new(Rank::LAST_REAL))
}
