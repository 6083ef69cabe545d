//! A feed under watch: frames go in, and what becomes of each is held against its bytes and against the counters.
//!
//! For the tests that damage recordings, and for the fuzz target of the feed, which includes this file. What is asked:
//! - Every frame raises a counter beside those of frames and bytes, and every event of it exactly one.
//! - What is refused is counted by its reason, and the frame is one dead letter, untouched.
//! - What is published is counted as such. Its prices are above zero and stand in a frame that was taken in, a bid is not
//!   above its ask, its times are within the limits, and trade ids that have no holes rise or begin anew.

// Each user takes what it needs.
#![allow(dead_code)]

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use feed_handlers::dead_letter::{DeadLetterOffice, dead_letters};
use feed_handlers::decode::event::{Age, BookScope, Event, Symbol};
use feed_handlers::decode::{DecodeError, Reason, alpha_vantage, binance};
use feed_handlers::doorbell::{Doorbell, WaitStrategy};
use feed_handlers::feed::{Feed, FeedCounter as C, FeedCounters, FeedParts, QuoteOrigin, UnknownSymbols};
use feed_handlers::order_book::OrderBooks;
use feed_handlers::quality::Quality;
use feed_handlers::ring::{Polled, Reader, ring};
use feed_handlers::validation::Limits;
use feed_handlers::venue::{TradeIds, Venue};
use protocol::{Decimal, InstrumentId, InstrumentTable, SourceId, Tick, TickBody};

/// More than any frame of a recording, whatever is repeated in it, publishes.
const TICKS_A_FRAME_MAX: usize = 1_024;
/// Few, so that the table is full at times.
const INSTRUMENTS_MAX: usize = 24;
/// Numbers that are lower begin anew where the time is so much later, ns.
const ANEW_NS: i64 = 10_000_000_000;
/// Of the recordings of ITCH, Unix ns.
const MIDNIGHT_NS: i64 = 1_692_676_800_000_000_000;

/// What becomes of an event, or of a change to a book as a whole: each ends as one of these.
const FATES: [C; 36] = [
    C::Trades,
    C::Duplicates,
    C::OldState,
    C::InvalidTrades,
    C::UnknownSymbols,
    C::Quotes,
    C::UntimedQuotes,
    C::StaleQuotes,
    C::OneSidedQuotes,
    C::SupersededQuotes,
    C::CrossedQuotes,
    C::InvalidQuotes,
    C::VenueBars,
    C::RepeatedBars,
    C::OutdatedBars,
    C::BarsInProgress,
    C::OtherBars,
    C::EmptyBars,
    C::InvalidBars,
    C::Heartbeats,
    C::StaleHeartbeats,
    C::LineHeartbeats,
    C::InvalidMessages,
    C::InvalidLevels,
    C::Subscriptions,
    C::Notes,
    C::VenueErrors,
    C::UnknownTypes,
    C::SameTops,
    C::StaleBookChanges,
    C::WaitingBookChanges,
    C::BookGaps,
    C::BookChecksums,
    C::BookFaults,
    C::BookOverflows,
    C::BookCrosses,
];

/// What is refused, whichever the reason.
const REFUSALS: [C; 7] = [
    C::MalformedFrames,
    C::InvalidTrades,
    C::InvalidQuotes,
    C::InvalidBars,
    C::InvalidMessages,
    C::InvalidLevels,
    C::CrossedQuotes,
];

/// What the ring is to bear out. Bars stand for those as well that the next one completed.
const PUBLISHED: [C; 7] = [C::Trades, C::Quotes, C::VenueBars, C::Heartbeats, C::Gaps, C::TradesMissed, C::Outliers];

/// What a frame said, as far as it is held against the counters.
#[derive(Default)]
struct Said {
    /// Events that have a fate, and changes to books where books are kept.
    events: u64,
    /// Of them, trades of before: where one shows a loss, the gap is its fate.
    old_trades: u64,
    /// Names, which have a fate only where they are refused.
    names: u64,
    levels: u64,
    snapshots: u64,
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fate {
    pub(crate) ticks: u64,
    pub(crate) is_refused: bool,
}

/// A feed, all that it writes to, and what it was given.
pub(crate) struct Ledger {
    venue: Venue,
    keeps_books: bool,
    limits: Limits,
    feed: Feed,
    orders: OrderBooks,
    reader: Reader<Tick>,
    office: DeadLetterOffice,
    /// All counters, as they stood after the last frame.
    counts: Vec<(C, u64)>,
    /// The numbers of all frames: mantissa and scale, or the mantissa alone of a venue that writes no point.
    numbers: HashSet<(i64, Option<u8>)>,
    /// Id and time of each instrument's last trade.
    latest_trades: HashMap<InstrumentId, (u64, i64)>,
}

impl Ledger {
    pub(crate) fn new(venue: Venue, quotes: QuoteOrigin, limits: Limits) -> Ledger {
        let (letters, office) = dead_letters();
        let mut feed = Feed::new(FeedParts {
            source: SourceId(7),
            venue,
            instruments: Arc::new(InstrumentTable::with_capacity(INSTRUMENTS_MAX)),
            unknown: UnknownSymbols::Learn,
            quotes,
            limits,
            publisher: ring(TICKS_A_FRAME_MAX, Arc::new(Doorbell::new(WaitStrategy::Park))),
            counters: Arc::new(FeedCounters::new()),
            quality: Quality::new(300_000_000_000).0,
            dead_letters: Some(letters),
        });
        // Kite says numbers, which come from configuration: that of the recorded packet.
        assert!(venue != Venue::Kite || feed.learn_token(408_065, "INFY"));
        let reader = feed.publisher().reader();
        Ledger {
            venue,
            keeps_books: quotes != QuoteOrigin::Quotes,
            limits,
            feed,
            orders: OrderBooks::new(64),
            reader,
            office,
            counts: C::iter().map(|counter| (counter, 0)).collect(),
            numbers: HashSet::new(),
            latest_trades: HashMap::new(),
        }
    }

    pub(crate) fn connection_lost(&mut self) {
        self.feed.connection_lost();
        if self.venue == Venue::Itch {
            self.orders.lose();
        }
    }

    pub(crate) fn start_lap(&mut self) {
        self.feed.start_lap();
    }

    /// Takes in a frame.
    ///
    /// # Panics
    /// Where anything of what is asked does not hold.
    pub(crate) fn take(&mut self, frame: &[u8], ts_recv: i64) -> Fate {
        self.note_numbers(frame);
        let (venue, orders, keeps_books) = (self.venue, &mut self.orders, self.keeps_books);
        let mut said = Said::default();
        self.feed.handle(frame, ts_recv, |on_event| {
            decode(venue, orders, frame, &mut |event| {
                said.note(&event, keeps_books);
                on_event(event);
            })
        });
        while self.feed.poll_resync().is_some() {}
        let rises = self.rises();
        let rise = |counter| rise_of(&rises, counter);
        let shown = || format!("{:?} of {}: {rises:?}", self.venue, frame.escape_ascii());

        assert_eq!((rise(C::Frames), rise(C::Bytes)), (1, frame.len() as u64), "{}", shown());
        assert!(
            rises.iter().any(|(counter, _)| !matches!(counter, C::Frames | C::Bytes)),
            "nothing is counted: {}",
            shown()
        );
        let fates: u64 = FATES.into_iter().map(rise).sum();
        let least = said.events - said.old_trades.min(rise(C::Gaps));
        assert!(
            (least..=said.events + said.names).contains(&fates),
            "{} events have {fates} fates: {}",
            said.events,
            shown()
        );
        assert_eq!((rise(C::BookLevels), rise(C::BookSnapshots)), (said.levels, said.snapshots), "{}", shown());
        assert!(rise(C::MalformedFrames) == 0 || said.events == 0, "events beside an error: {}", shown());

        let refusals: u64 = REFUSALS.into_iter().map(rise).sum();
        let reasons: u64 = Reason::ALL.into_iter().map(|reason| rise(C::Malformed(reason))).sum();
        assert_eq!(refusals, reasons, "{}", shown());
        let is_refused = refusals > 0;
        let letters: Vec<_> = std::iter::from_fn(|| self.office.take_within(Duration::ZERO).ok()).collect();
        assert_eq!(letters.len(), usize::from(is_refused), "{}", shown());
        assert_eq!(rise(C::DeadLetters), u64::from(is_refused), "{}", shown());
        for letter in letters {
            assert_eq!((&*letter.frame, letter.ts_recv, letter.source), (frame, ts_recv, SourceId(7)), "{}", shown());
            assert!(rise(C::Malformed(letter.reason)) > 0, "{:?}: {}", letter.reason, shown());
        }
        let ticks = self.check_ticks(frame, ts_recv, &rises);
        Fate { ticks, is_refused }
    }

    /// Reads what was published, and returns how much it was.
    fn check_ticks(&mut self, frame: &[u8], ts_recv: i64, rises: &[(C, u64)]) -> u64 {
        let mut published = PUBLISHED.map(|counter| (counter, 0));
        let mut total = 0;
        loop {
            let tick = match self.reader.poll() {
                Polled::Record(tick) => tick,
                Polled::Empty => break,
                Polled::Lapped { lost } => panic!("{lost} ticks of one frame were lost"),
            };
            let mut add = |counter, n| {
                published.iter_mut().filter(|(own, _)| *own == counter).for_each(|(_, count)| *count += n);
            };
            match tick.body {
                TickBody::Trade(_) => add(C::Trades, 1),
                TickBody::Quote(_) => add(C::Quotes, 1),
                TickBody::Bar(_) => add(C::VenueBars, 1),
                TickBody::Heartbeat => add(C::Heartbeats, 1),
                TickBody::Gap { missed } => {
                    add(C::Gaps, 1);
                    add(C::TradesMissed, missed);
                }
            }
            if tick.flags.outlier {
                add(C::Outliers, 1);
            }
            total += 1;
            self.check_tick(&tick, frame, ts_recv);
        }
        for (counter, count) in published {
            let completed = if counter == C::VenueBars { rise_of(rises, C::CompletedBars) } else { 0 };
            assert_eq!(count, rise_of(rises, counter) + completed, "{counter:?} of {}", frame.escape_ascii());
        }
        total
    }

    fn check_tick(&mut self, tick: &Tick, frame: &[u8], ts_recv: i64) {
        let shown = || format!("{tick:?} of {}", frame.escape_ascii());
        assert_eq!((tick.source, tick.ts_recv), (SourceId(7), ts_recv), "{}", shown());
        assert!((tick.instrument.0 as usize) < self.feed.instruments().len(), "{}", shown());
        // Bars may be of any age.
        let age_max_ns = self.limits.age_max_ns.filter(|_| !matches!(tick.body, TickBody::Bar(_)));
        let limits = Limits { age_max_ns, ..self.limits };
        assert_eq!(limits.check_time(tick.ts_event, ts_recv), Ok(()), "{}", shown());
        let prices = match tick.body {
            TickBody::Trade(trade) => {
                let least = i64::from(!self.venue.has_trades_of_nothing());
                assert!(trade.size.mantissa() >= least, "{}", shown());
                assert!(self.stands_in_frames(trade.size), "{} is nowhere: {}", trade.size, shown());
                if let (TradeIds::Contiguous, Some(id)) = (self.venue.trade_ids(), trade.id) {
                    let latest = self.latest_trades.insert(tick.instrument, (id, tick.ts_event));
                    let follows = latest.is_none_or(|(latest, time)| id > latest || tick.ts_event > time + ANEW_NS);
                    assert!(follows, "after {latest:?}: {}", shown());
                }
                vec![trade.price]
            }
            TickBody::Quote(quote) => {
                assert!(quote.bid <= quote.ask, "{}", shown());
                assert!(quote.bid_size.mantissa() >= 0 && quote.ask_size.mantissa() >= 0, "{}", shown());
                // Nasdaq's are sums over orders, and not all venues tell them.
                for size in [quote.bid_size, quote.ask_size] {
                    let is_told = self.venue != Venue::Itch && !size.is_zero();
                    assert!(!is_told || self.stands_in_frames(size), "{size} is nowhere: {}", shown());
                }
                vec![quote.bid, quote.ask]
            }
            TickBody::Bar(bar) => {
                let bar = bar.bar(tick.ts_event);
                assert!(bar.low <= bar.open.min(bar.close) && bar.open.max(bar.close) <= bar.high, "{}", shown());
                vec![bar.open, bar.high, bar.low, bar.close]
            }
            TickBody::Heartbeat | TickBody::Gap { .. } => Vec::new(),
        };
        for price in prices {
            assert!(price.is_positive(), "{}", shown());
            assert!(self.stands_in_frames(price), "{price} is nowhere: {}", shown());
        }
    }

    /// By how much each counter rose since the last time, of those that did.
    fn rises(&mut self) -> Vec<(C, u64)> {
        let counters = self.feed.counters();
        let rise = |(counter, before): &mut (C, u64)| {
            let now = counters.count(*counter);
            let rise = now - std::mem::replace(before, now);
            (rise > 0).then_some((*counter, rise))
        };
        self.counts.iter_mut().filter_map(rise).collect()
    }

    fn stands_in_frames(&self, number: Decimal) -> bool {
        let scale = (!is_binary(self.venue)).then_some(number.scale());
        // What MessagePack holds as a float has no digits of its own.
        let may_be_float = self.venue == Venue::Alpaca;
        self.numbers.contains(&(number.mantissa(), scale)) || may_be_float && self.numbers.contains(&normal(number))
    }

    fn note_numbers(&mut self, frame: &[u8]) {
        if is_binary(self.venue) {
            for at in 0..frame.len() {
                let number = |bytes: &[u8]| bytes.iter().fold(0u64, |n, byte| n << 8 | u64::from(*byte));
                let places = [frame.get(at..at + 4), frame.get(at..at + 8)].into_iter().flatten();
                self.numbers.extend(places.map(|bytes| (number(bytes) as i64, None)));
            }
            return;
        }
        self.numbers.extend(frame.split(|byte| !in_number(*byte)).flat_map(spellings));
        if self.venue == Venue::Alpaca && frame.first().is_some_and(|byte| *byte >= 0x80) {
            self.numbers.extend((0..frame.len()).filter_map(|at| in_msgpack(&frame[at..])).map(normal));
        }
    }
}

fn rise_of(rises: &[(C, u64)], counter: C) -> u64 {
    rises.iter().find(|(own, _)| *own == counter).map_or(0, |(_, rise)| *rise)
}

impl Said {
    fn note(&mut self, event: &Event<'_>, keeps_books: bool) {
        match event {
            Event::BookBegin(begin) => self.snapshots += u64::from(begin.scope == BookScope::Snapshot),
            Event::BookEnd(_) => self.events += u64::from(keeps_books),
            Event::Level(_) => self.levels += 1,
            Event::Directory { .. } => self.names += 1,
            Event::LineSequence(_) | Event::Provider { .. } => {}
            Event::Trade(trade) => {
                self.events += 1;
                self.old_trades += u64::from(trade.age == Age::Old);
            }
            Event::Quote(_) | Event::Bar(_) | Event::Heartbeat(_) | Event::Control(_) => self.events += 1,
            Event::Ignored { .. } | Event::Invalid { .. } => self.events += 1,
        }
    }
}

/// As the venue's source does.
fn decode<'a>(
    venue: Venue,
    orders: &mut OrderBooks,
    frame: &'a [u8],
    mut on_event: &mut dyn FnMut(Event<'a>),
) -> Result<(), DecodeError> {
    match venue {
        Venue::Itch => orders.decode(frame, MIDNIGHT_NS, on_event),
        Venue::AlphaVantage => alpha_vantage::decode_answer(frame, Some(b"BTC/CNY"), &mut on_event),
        Venue::Binance if frame.starts_with(br#"{"lastUpdateId""#) => {
            binance::decode_depth(frame, Symbol::Text(b"NKNUSDT"), &mut on_event)
        }
        _ => venue.decode(frame, on_event),
    }
}

/// Whether the venue writes numbers as whole ones, the place of the point known.
fn is_binary(venue: Venue) -> bool {
    matches!(venue, Venue::Kite | Venue::Itch)
}

fn in_number(byte: u8) -> bool {
    byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'+' | b'e' | b'E')
}

/// What a run of characters of a number may be read as. In FIX a point need not have digits on both sides.
fn spellings(text: &[u8]) -> impl Iterator<Item = (i64, Option<u8>)> {
    let mut fix = text.strip_suffix(b".").unwrap_or(text).to_vec();
    if let Some(point) = fix.iter().position(|byte| *byte == b'.').filter(|at| matches!(fix[..*at], [] | [b'-'])) {
        fix.insert(point, b'0');
    }
    let read = [Decimal::parse(text).ok(), Decimal::parse(&fix).ok()];
    read.into_iter().flatten().map(|number| (number.mantissa(), Some(number.scale())))
}

/// The number without the zeros behind it.
fn normal(number: Decimal) -> (i64, Option<u8>) {
    let (mut mantissa, mut scale) = (number.mantissa(), number.scale());
    while scale > 0 && mantissa % 10 == 0 {
        (mantissa, scale) = (mantissa / 10, scale - 1);
    }
    (mantissa, Some(scale))
}

/// The number at the begin of these bytes of MessagePack, if there is one.
fn in_msgpack(bytes: &[u8]) -> Option<Decimal> {
    let rest = &bytes[1..];
    let whole = |n: Option<i64>| Decimal::new(n?, 0);
    let shown = |float: f64| Decimal::parse(format!("{float}").as_bytes()).ok();
    match bytes[0] {
        byte @ (0x00..=0x7f | 0xe0..=0xff) => whole(Some(i64::from(byte as i8))),
        0xca => Decimal::parse(format!("{}", f32::from_be_bytes(*rest.first_chunk()?)).as_bytes()).ok(),
        0xcb => shown(f64::from_be_bytes(*rest.first_chunk()?)),
        0xcc => whole(rest.first().map(|n| i64::from(*n))),
        0xcd => whole(Some(u16::from_be_bytes(*rest.first_chunk()?).into())),
        0xce => whole(Some(u32::from_be_bytes(*rest.first_chunk()?).into())),
        0xcf => whole(i64::try_from(u64::from_be_bytes(*rest.first_chunk()?)).ok()),
        0xd0 => whole(rest.first().map(|n| i64::from(*n as i8))),
        0xd1 => whole(Some(i16::from_be_bytes(*rest.first_chunk()?).into())),
        0xd2 => whole(Some(i32::from_be_bytes(*rest.first_chunk()?).into())),
        0xd3 => whole(Some(i64::from_be_bytes(*rest.first_chunk()?))),
        _ => None,
    }
}
