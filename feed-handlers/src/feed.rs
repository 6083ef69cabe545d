//! The feed: frames of one source in, ticks in its ring out.
//!
//! Owned by the source's thread, the only producer of the ring. For each frame: decode, put the venue's name to an
//! instrument, hold the venue's numbers against what came before, publish. What leaves here is in the venue's order: no
//! trade id of a product that numbers its trades repeats or goes back, and neither does the sequence of its quotes, but
//! where times say that the numbers began anew.
//! Every event that is left out is counted by reason, and a frame that holds something invalid becomes a dead letter.
//! Allocates only when it meets a new product, and for books.
//!
//! What the source has to do about a frame, it is told by the [`Outcome`] and by [`Feed::poll_resync`].
//!
//! Deliberately absent: sockets and clocks (a source passes the time of receipt).

mod bars;
mod books;
mod old_trades;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use foldhash::fast::RandomState;
use protocol::{Decimal, InstrumentId, InstrumentTable, Quote, SourceId, Tick, TickBody, TickFlags, Trade};

use self::bars::ProductBars;
use self::books::{Applied, Loss, ProductBook};
use self::old_trades::OldTrade;
use crate::book::Book;
use crate::continuity::{Rising, TradeIds, TradeVerdict};
use crate::dead_letter::{DeadLetter, DeadLetters};
use crate::decode::event::{
    Age, BookBegin, BookEnd, BookScope, Control, ControlKind, Event, Heartbeat, Level, Part, Quote as VenueQuote,
    Symbol, Top, Trade as VenueTrade,
};
use crate::decode::{DecodeError, Reason};
use crate::lap::{LapNumbers, LapTimes};
use crate::quality::{Order, QualityWriter};
use crate::ring::Publisher;
use crate::symbols::SymbolBuffer;
use crate::validation::{Finding, LastPrices, Limits};
use crate::venue::{self, Venue};

pub use self::books::BookCheck;
pub use crate::counters::{FeedCounter, FeedCounters};

/// How much of a refused frame is shown in the log.
const SAMPLE_BYTES_MAX: usize = 200;

/// A trade or quote that is so much later than the last one of its product, ns, is no repeat, however low its number: the
/// venue began its numbers anew, or the last one was wrong. Lines differ by less, and what is told again bears its old time.
const NUMBERS_ANEW_NS: i64 = 10_000_000_000;

/// Least time between two samples of refused frames in the log, and between two errors of the venue, ns.
const SAMPLE_INTERVAL_NS: i64 = 1_000_000_000;

/// What to do with a product that is no known instrument yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownSymbols {
    /// Make it one, as long as the table has room.
    Learn,
    /// Leave its events out.
    Refuse,
}

/// Where the quotes of a feed come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuoteOrigin {
    /// The venue's own quotes. Books are read, checked for form and counted, and not kept.
    Quotes,
    /// The tops of the books, which are kept; the venue's own quotes are counted.
    Books {
        /// Levels a side, where the venue sends a window of the book and does not say what falls out of it.
        depth: Option<usize>,
    },
}

/// What a feed is made with.
pub struct FeedParts {
    pub source: SourceId,
    pub venue: Venue,
    pub instruments: Arc<InstrumentTable>,
    pub unknown: UnknownSymbols,
    pub quotes: QuoteOrigin,
    /// What can be believed.
    pub limits: Limits,
    pub publisher: Publisher<Tick>,
    pub counters: Arc<FeedCounters>,
    pub quality: QualityWriter,
    /// Where refused frames go; `None` leaves it at counting them.
    pub dead_letters: Option<DeadLetters>,
}

/// What a frame says to whoever keeps the connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The last control message in it.
    pub control: Option<ControlKind>,
    /// Whether anything in it was market data or a sign of life.
    pub is_alive: bool,
}

/// What the source is asked for, since what came before cannot be believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resync {
    /// A new snapshot of the book of the product of this name, as the venue writes it.
    Book(Box<str>),
    /// A new connection: something is missing, and nobody knows of which product.
    Line,
}

/// The feed of one source.
pub struct Feed {
    source: SourceId,
    venue: Venue,
    instruments: Arc<InstrumentTable>,
    unknown: UnknownSymbols,
    quotes: QuoteOrigin,
    limits: Limits,
    publisher: Publisher<Tick>,
    counters: Arc<FeedCounters>,
    quality: QualityWriter,
    dead_letters: Option<DeadLetters>,
    /// Index into `products` by the venue's name. Holds only products that are instruments, so the instrument
    /// table bounds it, and the names are the venue's: a quick hash will do.
    by_name: HashMap<Box<[u8]>, usize, RandomState>,
    /// The same by the number that the venue's directory gives the product.
    by_token: HashMap<u32, usize, RandomState>,
    /// The same by instrument: a venue may have several names for one, and its numbers are those of the instrument.
    by_instrument: HashMap<InstrumentId, usize, RandomState>,
    products: Vec<Product>,
    /// Products of which the frame under way held old trades.
    with_old_trades: Vec<usize>,
    times: LapTimes,
    /// The number of the connection's last message.
    line: Option<u64>,
    /// What the events that follow in the frame are marked with.
    flags: TickFlags,
    /// All of it is made up.
    is_mock: bool,
    /// The product whose book is being changed.
    book: Option<usize>,
    /// What of the frame under way was invalid first.
    fault: Option<(Part, Reason)>,
    /// Whether anything in the frame under way was counted.
    is_counted: bool,
    outcome: Outcome,
    resyncs: VecDeque<Resync>,
    refusals: Sampler,
    venue_errors: Sampler,
}

/// What the feed remembers of one product.
struct Product {
    /// As the venue writes it.
    name: Box<str>,
    instrument: InstrumentId,
    trades: TradeIds,
    old: Option<OldTrade>,
    trade_lap: LapNumbers,
    tickers: Rising<u64>,
    ticker_lap: LapNumbers,
    heartbeats: Rising<i64>,
    /// The next ticker is the first of a subscription: old state, which may well be known already.
    awaits_old_ticker: bool,
    /// Where quotes come from books.
    book: Option<Box<ProductBook>>,
    /// The last quote made of the book.
    top: Option<Quote>,
    /// Time, price, size and number of the last trade.
    told: Option<(i64, Decimal, Decimal, Option<u64>)>,
    prices: LastPrices,
    bars: ProductBars,
    /// Times of the latest trade and quote that were published, Unix ns.
    latest_trade: i64,
    latest_quote: i64,
    /// Its new snapshot has been asked for.
    awaits_snapshot: bool,
}

impl Feed {
    /// A feed that has seen nothing yet.
    pub fn new(parts: FeedParts) -> Feed {
        let FeedParts { source, venue, instruments, unknown, quotes, limits, .. } = parts;
        let FeedParts { publisher, counters, quality, dead_letters, .. } = parts;
        Feed {
            source,
            venue,
            instruments,
            unknown,
            quotes,
            limits,
            publisher,
            counters,
            quality,
            dead_letters,
            by_name: HashMap::default(),
            by_token: HashMap::default(),
            by_instrument: HashMap::default(),
            products: Vec::new(),
            with_old_trades: Vec::new(),
            times: LapTimes::default(),
            line: None,
            flags: TickFlags::default(),
            is_mock: false,
            book: None,
            fault: None,
            is_counted: false,
            outcome: Outcome::default(),
            resyncs: VecDeque::new(),
            refusals: Sampler::default(),
            venue_errors: Sampler::default(),
        }
    }

    /// Takes in one frame of the venue, which came at `ts_recv` (Unix ns of this machine's clock), publishes
    /// its ticks, and rings the doorbell if there are any. Whatever the bytes: a frame that cannot be read is counted,
    /// put among the dead letters, and one of them a second is shown in the log. Of every frame something is counted
    /// beside [`FeedCounter::Frames`] and its bytes.
    pub fn handle_frame(&mut self, frame: &[u8], ts_recv: i64) -> Outcome {
        let venue = self.venue;
        self.handle(frame, ts_recv, |on_event| venue.decode(frame, on_event))
    }

    /// As [`Self::handle_frame`], for bytes that are not in the form of the venue's frames, such as the answer to a
    /// request for a book: `decode` reads them.
    pub fn handle<'a>(
        &mut self,
        frame: &'a [u8],
        ts_recv: i64,
        decode: impl FnOnce(&mut dyn FnMut(Event<'a>)) -> Result<(), DecodeError>,
    ) -> Outcome {
        self.count(FeedCounter::Frames);
        self.counters.add(FeedCounter::Bytes, frame.len() as u64);
        self.outcome = Outcome::default();
        self.flags = TickFlags { mock: self.is_mock, ..TickFlags::NONE };
        self.is_counted = false;
        let published = self.publisher.published();
        if let Err(error) = decode(&mut |event| self.handle_event(event, ts_recv)) {
            self.refuse(frame, error, ts_recv);
        }
        self.settle_old_trades(ts_recv);
        if let Some((part, reason)) = self.fault.take() {
            self.bury(frame, part, reason, ts_recv);
        }
        if !self.is_counted {
            self.count(FeedCounter::QuietFrames);
        }
        if self.publisher.published() != published {
            self.publisher.ring();
        }
        self.outcome
    }

    /// From now on everything is marked as made up.
    pub fn mark_as_mock(&mut self) {
        self.is_mock = true;
    }

    /// What is to be asked of the venue, since something that it said is missing. Each is told once, and again only if
    /// what came then was of no use either.
    pub fn poll_resync(&mut self) -> Option<Resync> {
        self.resyncs.pop_front()
    }

    /// The line to the venue was cut. What each product's next subscription says first, a `last_match` and a
    /// `ticker`, is old state again; books start with their next snapshot.
    pub fn connection_lost(&mut self) {
        self.line = None;
        self.resyncs.clear();
        self.lose_books();
        for product in &mut self.products {
            product.awaits_old_ticker = true;
            product.awaits_snapshot = false;
            product.bars.cut();
        }
    }

    fn lose_books(&mut self) {
        self.book = None;
        self.products.iter_mut().filter_map(|product| product.book.as_mut()).for_each(|book| book.lose());
    }

    /// The capture that was played starts again from its first frame. Its trade ids, sequences and times are
    /// shifted from now on, so that they follow those of the lap that ended.
    pub fn start_lap(&mut self) {
        self.times.start_lap();
        self.line = None;
        for product in &mut self.products {
            product.trade_lap.start_lap();
            product.ticker_lap.start_lap();
            product.trades.start_anew();
            product.awaits_old_ticker = true;
            product.prices.forget();
        }
    }

    /// The venue calls the instrument `symbol` by this name, told by whoever subscribed to it: it is no unknown one.
    /// A name that is known already stays with its instrument. Returns whether the name is known now: the instrument
    /// table may be full, or `symbol` no symbol.
    pub fn learn_name(&mut self, name: &[u8], symbol: &str) -> bool {
        if self.by_name.contains_key(name) {
            return true;
        }
        let Ok(instrument) = self.instruments.learn(symbol) else { return false };
        self.add_name(name, instrument);
        true
    }

    /// As [`Self::learn_name`], for a venue that says numbers for names.
    pub fn learn_token(&mut self, token: u32, symbol: &str) -> bool {
        if self.by_token.contains_key(&token) {
            return true;
        }
        let Ok(instrument) = self.instruments.learn(symbol) else { return false };
        let known = self.by_instrument.get(&instrument).copied();
        let at = known.unwrap_or_else(|| self.add_product(token.to_string().into(), instrument));
        self.by_token.insert(token, at);
        true
    }

    /// The ring's writing end, for its readers and its room.
    pub fn publisher(&mut self) -> &mut Publisher<Tick> {
        &mut self.publisher
    }

    /// What this feed counts.
    pub fn counters(&self) -> &Arc<FeedCounters> {
        &self.counters
    }

    /// The instruments that this feed's products become.
    pub fn instruments(&self) -> &Arc<InstrumentTable> {
        &self.instruments
    }

    fn handle_event(&mut self, event: Event<'_>, ts_recv: i64) {
        match event {
            Event::Trade(trade) => {
                self.outcome.is_alive = true;
                match trade.age {
                    Age::Live => self.handle_trade(&trade, ts_recv),
                    Age::Old => self.take_old_trade(&trade),
                }
            }
            Event::Quote(quote) => {
                self.outcome.is_alive = true;
                match self.quotes {
                    QuoteOrigin::Quotes => self.handle_quote(&quote, ts_recv),
                    QuoteOrigin::Books { .. } => self.count(FeedCounter::SupersededQuotes),
                }
            }
            Event::Bar(bar) => self.handle_bar(&bar, ts_recv),
            Event::BookBegin(begin) => self.begin_book(&begin),
            Event::Level(level) => self.handle_level(level),
            Event::BookEnd(end) => self.end_book(&end, ts_recv),
            Event::Heartbeat(heartbeat) => self.handle_heartbeat(&heartbeat, ts_recv),
            Event::LineSequence(number) => self.handle_line_sequence(number),
            Event::Directory { token, symbol } => self.handle_directory(token, symbol),
            Event::Provider { is_mock, .. } => self.flags.mock = is_mock || self.is_mock,
            Event::Control(control) => self.handle_control(control, ts_recv),
            Event::Ignored { .. } => self.count(FeedCounter::UnknownTypes),
            Event::Invalid { part, reason, .. } => self.handle_invalid(part, reason, ts_recv),
        }
    }

    fn handle_invalid(&mut self, part: Part, reason: Reason, ts_recv: i64) {
        let counter = match part {
            Part::Trade => FeedCounter::InvalidTrades,
            Part::Quote => FeedCounter::InvalidQuotes,
            Part::Level => FeedCounter::InvalidLevels,
            Part::Bar => FeedCounter::InvalidBars,
            Part::Message => FeedCounter::InvalidMessages,
        };
        if part == Part::Level {
            match self.book {
                // A level of a book that nobody knows: it may be any.
                None if self.keeps_books() => self.ask_for_a_new_line(),
                None => {}
                Some(_) => self.open_book().into_iter().for_each(ProductBook::fault),
            }
        }
        self.leave_out(counter, part, reason, ts_recv);
    }

    fn handle_control(&mut self, control: Control<'_>, ts_recv: i64) {
        self.outcome.control = Some(control.kind());
        let (text, detail) = match control {
            Control::Subscribed => return self.count(FeedCounter::Subscriptions),
            Control::Connected | Control::Authenticated | Control::Closing | Control::Note => {
                return self.count(FeedCounter::Notes);
            }
            Control::Error { text, detail } => (text, detail),
            Control::AuthRefused { text } | Control::Throttled { text } => (text, &b""[..]),
        };
        self.count(FeedCounter::VenueErrors);
        if self.venue_errors.is_due(ts_recv) {
            tracing::warn!(message = %shown(text), reason = %shown(detail), "the venue reports an error");
        }
    }

    /// The connection's own numbers have no holes: one that is not the next tells that something was lost on the way.
    fn handle_line_sequence(&mut self, number: u64) {
        let expected = self.line.map(|last| last.saturating_add(1));
        self.line = Some(number);
        if expected.is_some_and(|expected| number != expected) {
            self.count(FeedCounter::LineGaps);
            self.ask_for_a_new_line();
        }
    }

    /// Something is missing, and nobody knows of which product.
    fn ask_for_a_new_line(&mut self) {
        self.lose_books();
        // Whatever is done about it brings the snapshots of all of them.
        for product in &mut self.products {
            product.awaits_snapshot = product.book.is_some();
        }
        self.ask(Resync::Line);
    }

    fn keeps_books(&self) -> bool {
        matches!(self.quotes, QuoteOrigin::Books { .. })
    }

    fn handle_directory(&mut self, token: u32, symbol: &[u8]) {
        match self.by_name.get(symbol).copied().or_else(|| self.meet_product(symbol)) {
            Some(at) => {
                self.by_token.insert(token, at);
            }
            None => self.count(FeedCounter::UnknownSymbols),
        }
    }

    fn handle_trade(&mut self, trade: &VenueTrade<'_>, ts_recv: i64) {
        let Some(at) = self.product(trade.symbol) else { return };
        self.settle_old_trades_of(at, ts_recv);
        let product = &mut self.products[at];
        let (mut id, mut missed) = (trade.id, 0);
        if let (Some(number), venue::TradeIds::Contiguous) = (trade.id, self.venue.trade_ids()) {
            let number = product.trade_lap.shifted(number);
            let is_no_repeat = is_much_later(trade.time, product.latest_trade, &self.limits, ts_recv);
            if is_no_repeat && product.trades.is_repeat(number) {
                product.trades = TradeIds::default();
            }
            match product.trades.on_match(number) {
                TradeVerdict::Fresh { missed: before } => missed = before,
                TradeVerdict::Duplicate => {
                    self.quality.repeat(ts_recv);
                    return self.count(FeedCounter::Duplicates);
                }
            }
            id = Some(number);
        }
        let told = (trade.time, trade.price, trade.size, trade.id);
        let is_same = product.told.replace(told) == Some(told);
        if is_same && self.venue.tells_trades_again() {
            self.quality.repeat(ts_recv);
            return self.count(FeedCounter::Duplicates);
        }
        let body = Trade { id, price: trade.price, size: trade.size, taker: trade.taker };
        let checked = self.checked_trade(at, &body, trade.time, ts_recv);
        if missed > 0 {
            // Whatever becomes of this trade, those before it are missing.
            let ts_event = checked.map_or(ts_recv, |(ts_event, _)| ts_event);
            self.publish_gap(at, missed, ts_event, ts_recv);
        }
        match checked {
            Ok((ts_event, finding)) => {
                let latest = &mut self.products[at].latest_trade;
                let order = if ts_event < *latest { Order::Broken } else { Order::Kept };
                *latest = ts_event.max(*latest);
                self.quality.accept(ts_event, ts_recv, order);
                self.mark(finding);
                self.publish(FeedCounter::Trades, at, ts_event, ts_recv, TickBody::Trade(body));
            }
            Err(reason) => self.leave_out(FeedCounter::InvalidTrades, Part::Trade, reason, ts_recv),
        }
    }

    /// When the trade happened, and how it looks.
    fn checked_trade(&mut self, at: usize, trade: &Trade, time: i64, ts_recv: i64) -> Result<(i64, Finding), Reason> {
        let ts_event = self.times.shifted(time).ok_or(Reason::Time)?;
        if trade.size.is_zero() && !self.venue.has_trades_of_nothing() {
            return Err(Reason::Size);
        }
        let last = &mut self.products[at].prices;
        Ok((ts_event, self.limits.check_trade(trade, ts_event, ts_recv, last)?))
    }

    /// Marks the tick that is published next.
    fn mark(&mut self, finding: Finding) {
        self.flags.outlier = finding == Finding::Outlier;
        if self.flags.outlier {
            self.count(FeedCounter::Outliers);
        }
    }

    fn handle_quote(&mut self, quote: &VenueQuote<'_>, ts_recv: i64) {
        let Some(at) = self.product(quote.symbol) else { return };
        let product = &mut self.products[at];
        let is_old_state = std::mem::replace(&mut product.awaits_old_ticker, false) || quote.age == Age::Old;
        let time = match (quote.time, self.venue.quote_times()) {
            (Some(time), _) => time,
            (None, venue::QuoteTimes::Never) => ts_recv,
            (None, venue::QuoteTimes::Told) => return self.count(FeedCounter::UntimedQuotes),
        };
        if let Some(sequence) = quote.sequence {
            let sequence = product.ticker_lap.shifted(sequence);
            if is_much_later(time, product.latest_quote, &self.limits, ts_recv) {
                product.tickers = Rising::default();
            }
            if !product.tickers.rises_to(sequence) {
                return self.count(if is_old_state { FeedCounter::OldState } else { FeedCounter::StaleQuotes });
            }
        }
        if quote.age == Age::Old {
            return self.count(FeedCounter::OldState);
        }
        let Some(sides) = self.both_sides(quote.bid, quote.ask) else { return };
        self.publish_quote(at, sides, time, ts_recv);
    }

    /// The two sides as a quote; `None`, counted, where one is missing.
    fn both_sides(&mut self, bid: Option<Top>, ask: Option<Top>) -> Option<Quote> {
        let (Some(bid), Some(ask)) = (bid, ask) else {
            self.count(FeedCounter::OneSidedQuotes);
            return None;
        };
        let size = |top: Top| top.size.unwrap_or(Decimal::ZERO);
        Some(Quote { bid: bid.price, bid_size: size(bid), ask: ask.price, ask_size: size(ask) })
    }

    fn publish_quote(&mut self, at: usize, quote: Quote, time: i64, ts_recv: i64) {
        let checked = self.times.shifted(time).ok_or(Reason::Time).and_then(|ts_event| {
            let last = &mut self.products[at].prices;
            self.limits.check_quote(&quote, ts_event, ts_recv, last).map(|finding| (ts_event, finding))
        });
        match checked {
            Ok((ts_event, finding)) => {
                let latest = &mut self.products[at].latest_quote;
                let order = if ts_event < *latest { Order::Broken } else { Order::Kept };
                *latest = ts_event.max(*latest);
                self.quality.accept(ts_event, ts_recv, order);
                self.mark(finding);
                self.publish(FeedCounter::Quotes, at, ts_event, ts_recv, TickBody::Quote(quote));
            }
            Err(Reason::Crossed) => {
                self.leave_out(FeedCounter::CrossedQuotes, Part::Quote, Reason::Crossed, ts_recv);
            }
            Err(reason) => self.leave_out(FeedCounter::InvalidQuotes, Part::Quote, reason, ts_recv),
        }
    }

    fn begin_book(&mut self, begin: &BookBegin<'_>) {
        self.book = None;
        if begin.scope == BookScope::Snapshot {
            self.count(FeedCounter::BookSnapshots);
        }
        let QuoteOrigin::Books { depth } = self.quotes else { return };
        let Some(at) = self.product(begin.symbol) else { return };
        self.book = Some(at);
        let (check, product) = (self.venue.book_check(), &mut self.products[at]);
        let book = product.book.get_or_insert_with(|| {
            let book = depth.map_or_else(Book::new, Book::with_depth);
            Box::new(ProductBook::new(book, check))
        });
        book.begin(begin);
        let waits = !book.is_live() && begin.scope == BookScope::Change;
        if waits && !std::mem::replace(&mut product.awaits_snapshot, true) {
            let name = product.name.clone();
            self.ask(Resync::Book(name));
        }
    }

    fn open_book(&mut self) -> Option<&mut ProductBook> {
        self.products[self.book?].book.as_deref_mut()
    }

    fn handle_level(&mut self, level: Level) {
        self.count(FeedCounter::BookLevels);
        if let Some(book) = self.open_book() {
            book.level(level);
        }
    }

    fn end_book(&mut self, end: &BookEnd, ts_recv: i64) {
        self.outcome.is_alive = true;
        let Some(at) = self.book.take() else { return };
        let product = &mut self.products[at];
        let Some(book) = product.book.as_deref_mut() else { return };
        match book.end(end, ts_recv) {
            Applied::Live => {
                product.awaits_snapshot = false;
                let (bid, ask) = book.book().top();
                let top = |(price, size)| Top { price, size: Some(size) };
                self.publish_top(at, bid.map(top), ask.map(top), end.time.unwrap_or(ts_recv), ts_recv);
            }
            Applied::Stale => self.count(FeedCounter::StaleBookChanges),
            Applied::Waiting => self.count(FeedCounter::WaitingBookChanges),
            Applied::Lost(loss) => {
                product.awaits_snapshot = true;
                let name = product.name.clone();
                self.count(match loss {
                    Loss::Gap => FeedCounter::BookGaps,
                    Loss::Checksum => FeedCounter::BookChecksums,
                    Loss::Level => FeedCounter::BookFaults,
                    Loss::Overflow => FeedCounter::BookOverflows,
                    Loss::Crossed => FeedCounter::BookCrosses,
                });
                self.ask(Resync::Book(name));
            }
        }
    }

    /// The top of a book as a quote, where it is another one than before.
    fn publish_top(&mut self, at: usize, bid: Option<Top>, ask: Option<Top>, time: i64, ts_recv: i64) {
        let Some(quote) = self.both_sides(bid, ask) else { return };
        if self.products[at].top.replace(quote) == Some(quote) {
            return self.count(FeedCounter::SameTops);
        }
        self.publish_quote(at, quote, time, ts_recv);
    }

    fn ask(&mut self, resync: Resync) {
        if !self.resyncs.contains(&resync) {
            self.resyncs.push_back(resync);
        }
    }

    fn handle_heartbeat(&mut self, heartbeat: &Heartbeat<'_>, ts_recv: i64) {
        self.outcome.is_alive = true;
        let (Some(symbol), Some(time)) = (heartbeat.symbol, heartbeat.time) else {
            return self.count(FeedCounter::LineHeartbeats);
        };
        let Some(at) = self.product(symbol) else { return };
        let Some(ts_event) = self.times.shifted(time) else { return self.count(FeedCounter::StaleHeartbeats) };
        // It drives the bars of all instruments of the source: one absurd time would finish them all.
        if let Err(reason) = self.limits.check_time(ts_event, ts_recv) {
            return self.leave_out(FeedCounter::InvalidMessages, Part::Message, reason, ts_recv);
        }
        if !self.products[at].heartbeats.rises_to(ts_event) {
            return self.count(FeedCounter::StaleHeartbeats);
        }
        self.publish(FeedCounter::Heartbeats, at, ts_event, ts_recv, TickBody::Heartbeat);
    }

    fn publish_gap(&mut self, at: usize, missed: u64, ts_event: i64, ts_recv: i64) {
        self.counters.add(FeedCounter::TradesMissed, missed);
        self.publish(FeedCounter::Gaps, at, ts_event, ts_recv, TickBody::Gap { missed });
    }

    fn publish(&mut self, counter: FeedCounter, at: usize, ts_event: i64, ts_recv: i64, body: TickBody) {
        let instrument = self.products[at].instrument;
        let (source, flags) = (self.source, self.flags);
        self.publisher.publish(&Tick { instrument, source, flags, ts_event, ts_recv, body });
        self.flags.outlier = false;
        self.count(counter);
    }

    /// The index of a product, or `None`, counted, where its name is no instrument.
    fn product(&mut self, symbol: Symbol<'_>) -> Option<usize> {
        let found = match symbol {
            Symbol::Text(name) => self.by_name.get(name).copied().or_else(|| self.meet_product(name)),
            Symbol::Token(token) => self.by_token.get(&token).copied(),
        };
        if found.is_none() {
            self.count(FeedCounter::UnknownSymbols);
        }
        found
    }

    /// Finds or learns the instrument of a product that is met for the first time.
    #[cold]
    fn meet_product(&mut self, name: &[u8]) -> Option<usize> {
        let mut buffer = SymbolBuffer::default();
        let symbol = self.venue.symbol_form().canonical(name, &mut buffer).ok()?;
        let instrument = match self.unknown {
            UnknownSymbols::Learn => self.instruments.learn(symbol).ok()?,
            UnknownSymbols::Refuse => self.instruments.find(symbol)?,
        };
        Some(self.add_name(name, instrument))
    }

    fn add_name(&mut self, name: &[u8], instrument: InstrumentId) -> usize {
        let known = self.by_instrument.get(&instrument).copied();
        let at = known.unwrap_or_else(|| self.add_product(String::from_utf8_lossy(name).into(), instrument));
        self.by_name.insert(name.into(), at);
        at
    }

    fn add_product(&mut self, name: Box<str>, instrument: InstrumentId) -> usize {
        let at = self.products.len();
        self.products.push(Product {
            name,
            instrument,
            trades: TradeIds::default(),
            old: None,
            trade_lap: LapNumbers::default(),
            tickers: Rising::default(),
            ticker_lap: LapNumbers::default(),
            heartbeats: Rising::default(),
            awaits_old_ticker: true,
            book: None,
            top: None,
            told: None,
            prices: LastPrices::default(),
            bars: ProductBars::default(),
            latest_trade: i64::MIN,
            latest_quote: i64::MIN,
            awaits_snapshot: false,
        });
        self.by_instrument.insert(instrument, at);
        at
    }

    fn refuse(&mut self, frame: &[u8], error: DecodeError, ts_recv: i64) {
        self.leave_out(FeedCounter::MalformedFrames, Part::Message, error.reason(), ts_recv);
        if self.refusals.is_due(ts_recv) {
            tracing::warn!(%error, bytes = frame.len(), frame = %shown(frame), "a frame of the venue was refused");
        }
    }

    fn leave_out(&mut self, counter: FeedCounter, part: Part, reason: Reason, ts_recv: i64) {
        self.quality.refuse(ts_recv);
        self.count(counter);
        self.count(FeedCounter::Malformed(reason));
        self.fault.get_or_insert((part, reason));
    }

    /// Puts the frame among the dead letters.
    fn bury(&mut self, frame: &[u8], part: Part, reason: Reason, ts_recv: i64) {
        let Some(dead_letters) = &self.dead_letters else { return };
        let letter = DeadLetter { source: self.source, part, reason, ts_recv, frame: frame.into() };
        let kept = dead_letters.offer(letter);
        self.count(if kept { FeedCounter::DeadLetters } else { FeedCounter::DeadLettersDropped });
    }

    fn count(&mut self, counter: FeedCounter) {
        self.is_counted = true;
        self.counters.add(counter, 1);
    }
}

/// Whether `time` is that of no repeat, and can be believed. `latest` is `i64::MIN` before there is anything to repeat.
fn is_much_later(time: i64, latest: i64, limits: &Limits, ts_recv: i64) -> bool {
    let is_later = latest > i64::MIN && time.saturating_sub(latest) > NUMBERS_ANEW_NS;
    is_later && limits.check_time(time, ts_recv).is_ok()
}

/// The beginning of a text from the venue, safe to print.
fn shown(text: &[u8]) -> impl std::fmt::Display {
    text[..text.len().min(SAMPLE_BYTES_MAX)].escape_ascii()
}

/// Lets one in a second through, by the time of receipt.
#[derive(Default)]
struct Sampler {
    latest: Option<i64>,
}

impl Sampler {
    fn is_due(&mut self, now: i64) -> bool {
        // A clock that was set back must not silence the log.
        let is_due = self.latest.is_none_or(|latest| now < latest || now.saturating_sub(latest) >= SAMPLE_INTERVAL_NS);
        if is_due {
            self.latest = Some(now);
        }
        is_due
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
