//! The feed: frames of one source in, ticks in its ring out.
//!
//! Owned by the source's thread, the only producer of the ring. For each frame: decode, put the venue's name to an
//! instrument, hold the venue's numbers against what came before, publish. What leaves here is in the venue's order: no
//! trade id of a product that numbers its trades repeats or goes back, and neither does the sequence of its quotes.
//! Every event that is left out is counted by reason, and a frame that holds something invalid becomes a dead letter.
//! Allocates only when it meets a new product, and for books.
//!
//! What the source has to do about a frame, it is told by the [`Outcome`] and by [`Feed::poll_resync`].
//!
//! Deliberately absent: sockets and clocks (a source passes the time of receipt).

mod books;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use protocol::{Decimal, InstrumentId, InstrumentTable, Quote, SourceId, Tick, TickBody, TickFlags, Trade};

use self::books::{Applied, Loss, ProductBook};
use crate::book::Book;
use crate::continuity::{Rising, TradeIds, TradeVerdict};
use crate::dead_letter::{DeadLetter, DeadLetters};
use crate::decode::event::{
    Age, BookBegin, BookEnd, BookScope, Control, ControlKind, Event, Heartbeat, Level, Part, Quote as VenueQuote,
    Symbol, Top, Trade as VenueTrade,
};
use crate::decode::{DecodeError, Reason};
use crate::lap::{LapNumbers, LapTimes};
use crate::ring::Publisher;
use crate::venue::{self, Venue};

pub use self::books::BookCheck;
pub use crate::counters::{FeedCounter, FeedCounters};

/// Longest product name, in bytes: that of a canonical symbol.
const PRODUCT_BYTES_MAX: usize = 32;

/// How much of a refused frame is shown in the log.
const SAMPLE_BYTES_MAX: usize = 200;

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
    pub publisher: Publisher<Tick>,
    pub counters: Arc<FeedCounters>,
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
    publisher: Publisher<Tick>,
    counters: Arc<FeedCounters>,
    dead_letters: Option<DeadLetters>,
    /// Index into `products` by the venue's name. Holds only products that are instruments, so the instrument
    /// table bounds it.
    by_name: HashMap<Box<[u8]>, usize>,
    /// The same by the number that the venue's directory gives the product.
    by_token: HashMap<u32, usize>,
    products: Vec<Product>,
    times: LapTimes,
    /// The number of the connection's last message.
    line: Option<u64>,
    /// What the events that follow in the frame are marked with.
    flags: TickFlags,
    /// The product whose book is being changed.
    book: Option<usize>,
    /// What of the frame under way was invalid first.
    fault: Option<(Part, Reason)>,
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
    /// Its new snapshot has been asked for.
    awaits_snapshot: bool,
}

impl Feed {
    /// A feed that has seen nothing yet.
    pub fn new(parts: FeedParts) -> Feed {
        let FeedParts { source, venue, instruments, unknown, quotes, publisher, counters, dead_letters } = parts;
        Feed {
            source,
            venue,
            instruments,
            unknown,
            quotes,
            publisher,
            counters,
            dead_letters,
            by_name: HashMap::new(),
            by_token: HashMap::new(),
            products: Vec::new(),
            times: LapTimes::default(),
            line: None,
            flags: TickFlags::default(),
            book: None,
            fault: None,
            outcome: Outcome::default(),
            resyncs: VecDeque::new(),
            refusals: Sampler::default(),
            venue_errors: Sampler::default(),
        }
    }

    /// Takes in one frame of the venue, which came at `ts_recv` (Unix ns of this machine's clock), publishes
    /// its ticks, and rings the doorbell if there are any. Whatever the bytes: a frame that cannot be read is counted,
    /// put among the dead letters, and one of them a second is shown in the log.
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
        self.flags = TickFlags::default();
        let published = self.publisher.published();
        if let Err(error) = decode(&mut |event| self.handle_event(event, ts_recv)) {
            self.refuse(frame, error, ts_recv);
        }
        if let Some((part, reason)) = self.fault.take() {
            self.bury(frame, part, reason, ts_recv);
        }
        if self.publisher.published() != published {
            self.publisher.ring();
        }
        self.outcome
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
        self.book = None;
        self.resyncs.clear();
        for product in &mut self.products {
            product.awaits_old_ticker = true;
            product.awaits_snapshot = false;
            if let Some(book) = &mut product.book {
                book.lose();
            }
        }
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
        let at = self.add_product(String::from_utf8_lossy(name).into(), instrument);
        self.by_name.insert(name.into(), at);
        true
    }

    /// As [`Self::learn_name`], for a venue that says numbers for names.
    pub fn learn_token(&mut self, token: u32, symbol: &str) -> bool {
        if self.by_token.contains_key(&token) {
            return true;
        }
        let Ok(instrument) = self.instruments.learn(symbol) else { return false };
        let at = self.add_product(token.to_string().into(), instrument);
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
                    Age::Old => self.handle_old_trade(&trade, ts_recv),
                }
            }
            Event::Quote(quote) => {
                self.outcome.is_alive = true;
                match self.quotes {
                    QuoteOrigin::Quotes => self.handle_quote(&quote, ts_recv),
                    QuoteOrigin::Books { .. } => self.count(FeedCounter::SupersededQuotes),
                }
            }
            Event::Bar(_) => self.count(FeedCounter::VenueBars),
            Event::BookBegin(begin) => self.begin_book(&begin),
            Event::Level(level) => self.handle_level(level),
            Event::BookEnd(end) => self.end_book(&end, ts_recv),
            Event::Heartbeat(heartbeat) => self.handle_heartbeat(&heartbeat, ts_recv),
            Event::LineSequence(number) => self.handle_line_sequence(number),
            Event::Directory { token, symbol } => self.handle_directory(token, symbol),
            Event::Provider { is_mock, .. } => self.flags.mock = is_mock,
            Event::Control(control) => self.handle_control(control, ts_recv),
            Event::Ignored { .. } => self.count(FeedCounter::UnknownTypes),
            Event::Invalid { part, reason, .. } => self.handle_invalid(part, reason),
        }
    }

    fn handle_invalid(&mut self, part: Part, reason: Reason) {
        let counter = match part {
            Part::Trade => FeedCounter::InvalidTrades,
            Part::Quote => FeedCounter::InvalidQuotes,
            Part::Level => FeedCounter::InvalidLevels,
            Part::Bar => FeedCounter::InvalidBars,
            Part::Message => FeedCounter::InvalidMessages,
        };
        if part == Part::Level
            && let Some(book) = self.open_book()
        {
            book.fault();
        }
        self.leave_out(counter, part, reason);
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
            self.ask(Resync::Line);
        }
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
        let product = &mut self.products[at];
        let (mut id, mut missed) = (trade.id, 0);
        if let (Some(number), venue::TradeIds::Contiguous) = (trade.id, self.venue.trade_ids()) {
            let number = product.trade_lap.shifted(number);
            match product.trades.on_match(number) {
                TradeVerdict::Fresh { missed: before } => missed = before,
                TradeVerdict::Duplicate => return self.count(FeedCounter::Duplicates),
            }
            id = Some(number);
        }
        let Some(ts_event) = self.times.shifted(trade.time) else {
            return self.leave_out(FeedCounter::InvalidTrades, Part::Trade, Reason::Time);
        };
        if missed > 0 {
            self.publish_gap(at, missed, ts_event, ts_recv);
        }
        if !trade.price.is_positive() {
            return self.leave_out(FeedCounter::InvalidTrades, Part::Trade, Reason::Price);
        }
        if !trade.size.is_positive() {
            return self.leave_out(FeedCounter::InvalidTrades, Part::Trade, Reason::Size);
        }
        let body = TickBody::Trade(Trade { id, price: trade.price, size: trade.size, taker: trade.taker });
        self.publish(FeedCounter::Trades, at, ts_event, ts_recv, body);
    }

    fn handle_old_trade(&mut self, trade: &VenueTrade<'_>, ts_recv: i64) {
        let Some(at) = self.product(trade.symbol) else { return };
        let (Some(id), venue::TradeIds::Contiguous) = (trade.id, self.venue.trade_ids()) else {
            return self.count(FeedCounter::OldState);
        };
        let product = &mut self.products[at];
        let id = product.trade_lap.shifted_old(id);
        let missed = product.trades.on_last_match(id);
        if missed == 0 {
            return self.count(FeedCounter::OldState);
        }
        match self.times.shifted(trade.time) {
            Some(ts_event) => self.publish_gap(at, missed, ts_event, ts_recv),
            None => self.leave_out(FeedCounter::InvalidTrades, Part::Trade, Reason::Time),
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
            if !product.tickers.rises_to(sequence) {
                return self.count(if is_old_state { FeedCounter::OldState } else { FeedCounter::StaleQuotes });
            }
        }
        if quote.age == Age::Old {
            return self.count(FeedCounter::OldState);
        }
        let Some(checked) = self.checked_quote(quote.bid, quote.ask) else { return };
        let Some(ts_event) = self.times.shifted(time) else {
            return self.leave_out(FeedCounter::InvalidQuotes, Part::Quote, Reason::Time);
        };
        self.publish(FeedCounter::Quotes, at, ts_event, ts_recv, TickBody::Quote(checked));
    }

    /// The two sides as a quote; `None`, counted, where they make none.
    fn checked_quote(&mut self, bid: Option<Top>, ask: Option<Top>) -> Option<Quote> {
        let (Some(bid), Some(ask)) = (bid, ask) else {
            self.count(FeedCounter::OneSidedQuotes);
            return None;
        };
        let bid_size = bid.size.unwrap_or(Decimal::ZERO);
        let ask_size = ask.size.unwrap_or(Decimal::ZERO);
        if !bid.price.is_positive() || !ask.price.is_positive() {
            self.leave_out(FeedCounter::InvalidQuotes, Part::Quote, Reason::Price);
            return None;
        }
        if bid_size < Decimal::ZERO || ask_size < Decimal::ZERO {
            self.leave_out(FeedCounter::InvalidQuotes, Part::Quote, Reason::Size);
            return None;
        }
        if bid.price > ask.price {
            self.count(FeedCounter::CrossedQuotes);
            return None;
        }
        Some(Quote { bid: bid.price, bid_size, ask: ask.price, ask_size })
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
        match book.end(end) {
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
                });
                self.ask(Resync::Book(name));
            }
        }
    }

    /// The top of a book as a quote, where it is another one than before.
    fn publish_top(&mut self, at: usize, bid: Option<Top>, ask: Option<Top>, time: i64, ts_recv: i64) {
        let Some(quote) = self.checked_quote(bid, ask) else { return };
        if self.products[at].top == Some(quote) {
            return self.count(FeedCounter::SameTops);
        }
        let Some(ts_event) = self.times.shifted(time) else {
            return self.leave_out(FeedCounter::InvalidQuotes, Part::Quote, Reason::Time);
        };
        self.products[at].top = Some(quote);
        self.publish(FeedCounter::Quotes, at, ts_event, ts_recv, TickBody::Quote(quote));
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
        match self.times.shifted(time) {
            Some(ts_event) if self.products[at].heartbeats.rises_to(ts_event) => {
                self.publish(FeedCounter::Heartbeats, at, ts_event, ts_recv, TickBody::Heartbeat);
            }
            _ => self.count(FeedCounter::StaleHeartbeats),
        }
    }

    fn publish_gap(&mut self, at: usize, missed: u64, ts_event: i64, ts_recv: i64) {
        self.counters.add(FeedCounter::TradesMissed, missed);
        self.publish(FeedCounter::Gaps, at, ts_event, ts_recv, TickBody::Gap { missed });
    }

    fn publish(&mut self, counter: FeedCounter, at: usize, ts_event: i64, ts_recv: i64, body: TickBody) {
        let instrument = self.products[at].instrument;
        let (source, flags) = (self.source, self.flags);
        self.publisher.publish(&Tick { instrument, source, flags, ts_event, ts_recv, body });
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
        let mut buffer = [0u8; PRODUCT_BYTES_MAX];
        let symbol = canonical_symbol(name, &mut buffer)?;
        let instrument = match self.unknown {
            UnknownSymbols::Learn => self.instruments.learn(symbol).ok()?,
            UnknownSymbols::Refuse => self.instruments.find(symbol)?,
        };
        let at = self.add_product(String::from_utf8_lossy(name).into(), instrument);
        self.by_name.insert(name.into(), at);
        Some(at)
    }

    fn add_product(&mut self, name: Box<str>, instrument: InstrumentId) -> usize {
        let at = self.products.len();
        self.products.push(Product {
            name,
            instrument,
            trades: TradeIds::default(),
            trade_lap: LapNumbers::default(),
            tickers: Rising::default(),
            ticker_lap: LapNumbers::default(),
            heartbeats: Rising::default(),
            awaits_old_ticker: true,
            book: None,
            top: None,
            awaits_snapshot: false,
        });
        at
    }

    fn refuse(&mut self, frame: &[u8], error: DecodeError, ts_recv: i64) {
        self.leave_out(FeedCounter::MalformedFrames, Part::Message, error.reason());
        if self.refusals.is_due(ts_recv) {
            tracing::warn!(%error, bytes = frame.len(), frame = %shown(frame), "a frame of the venue was refused");
        }
    }

    fn leave_out(&mut self, counter: FeedCounter, part: Part, reason: Reason) {
        self.count(counter);
        self.count(FeedCounter::Malformed(reason));
        self.fault.get_or_insert((part, reason));
    }

    /// Puts the frame among the dead letters.
    fn bury(&self, frame: &[u8], part: Part, reason: Reason, ts_recv: i64) {
        let Some(dead_letters) = &self.dead_letters else { return };
        let letter = DeadLetter { source: self.source, part, reason, ts_recv, frame: frame.into() };
        let kept = dead_letters.offer(letter);
        self.count(if kept { FeedCounter::DeadLetters } else { FeedCounter::DeadLettersDropped });
    }

    fn count(&self, counter: FeedCounter) {
        self.counters.add(counter, 1);
    }
}

/// `BTC-USD` as `BTC/USD`. `None` for a name that is too long, has no dash, or a slash already: two names never
/// become one symbol.
fn canonical_symbol<'a>(name: &[u8], buffer: &'a mut [u8; PRODUCT_BYTES_MAX]) -> Option<&'a str> {
    let symbol = buffer.get_mut(..name.len())?;
    symbol.copy_from_slice(name);
    let dash = symbol.iter().position(|byte| *byte == b'-')?;
    let is_pair = dash > 0 && dash + 1 < symbol.len() && !symbol.contains(&b'/');
    symbol[dash] = b'/';
    std::str::from_utf8(symbol).ok().filter(|_| is_pair)
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
