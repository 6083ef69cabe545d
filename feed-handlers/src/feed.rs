//! The feed: frames of one source in, ticks in its ring out.
//!
//! Owned by the source's thread, the only producer of the ring. For each frame: decode, put the product's name
//! to an instrument, hold the venue's numbers against what came before, publish. What leaves here is in the
//! venue's order: no trade id of a product repeats or goes back, and neither does the sequence of its quotes.
//! Every event that is left out is counted by reason. Allocates only when it meets a new product.
//!
//! Deliberately absent: sockets and clocks (a source passes the time of receipt), and books: their levels
//! are decoded, checked and counted, but there is no channel to publish them on.

use std::collections::HashMap;
use std::sync::Arc;

use protocol::{Decimal, InstrumentId, InstrumentTable, Quote, SourceId, Tick, TickBody, TickFlags, Trade};

use crate::continuity::{Rising, TradeIds, TradeVerdict};
use crate::decode::event::{
    Age, BookScope, Control, Event, Heartbeat, Part, Quote as VenueQuote, Symbol, Trade as VenueTrade,
};
use crate::decode::{DecodeError, Reason};
use crate::lap::{LapNumbers, LapTimes};
use crate::ring::Publisher;
use crate::venue::Venue;

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

/// The feed of one source.
pub struct Feed {
    source: SourceId,
    venue: Venue,
    instruments: Arc<InstrumentTable>,
    unknown: UnknownSymbols,
    publisher: Publisher<Tick>,
    counters: Arc<FeedCounters>,
    /// Index into `products` by the venue's name. Holds only products that are instruments, so the instrument
    /// table bounds it.
    by_name: HashMap<Box<[u8]>, usize>,
    products: Vec<Product>,
    times: LapTimes,
    refusals: Sampler,
    venue_errors: Sampler,
}

/// What the feed remembers of one product.
struct Product {
    instrument: InstrumentId,
    trades: TradeIds,
    trade_lap: LapNumbers,
    tickers: Rising<u64>,
    ticker_lap: LapNumbers,
    heartbeats: Rising<i64>,
    /// The next ticker is the first of a subscription: old state, which may well be known already.
    awaits_old_ticker: bool,
}

impl Feed {
    /// A feed that publishes to `publisher` and has seen nothing yet.
    pub fn new(
        source: SourceId,
        venue: Venue,
        instruments: Arc<InstrumentTable>,
        unknown: UnknownSymbols,
        publisher: Publisher<Tick>,
        counters: Arc<FeedCounters>,
    ) -> Feed {
        Feed {
            source,
            venue,
            instruments,
            unknown,
            publisher,
            counters,
            by_name: HashMap::new(),
            products: Vec::new(),
            times: LapTimes::default(),
            refusals: Sampler::default(),
            venue_errors: Sampler::default(),
        }
    }

    /// Takes in one frame of the venue, which came at `ts_recv` (Unix ns of this machine's clock), publishes
    /// its ticks, at most two, and rings the doorbell if there are any. Whatever the bytes: a frame that cannot
    /// be read is counted, and one of them a second is shown in the log.
    pub fn handle_frame(&mut self, frame: &[u8], ts_recv: i64) {
        self.count(FeedCounter::Frames);
        self.counters.add(FeedCounter::Bytes, frame.len() as u64);
        let published = self.publisher.published();
        if let Err(error) = self.venue.decode(frame, &mut |event| self.handle_event(event, ts_recv)) {
            self.refuse(frame, error, ts_recv);
        }
        if self.publisher.published() != published {
            self.publisher.ring();
        }
    }

    /// The line to the venue was cut. What each product's next subscription says first, a `last_match` and a
    /// `ticker`, is old state again.
    pub fn connection_lost(&mut self) {
        for product in &mut self.products {
            product.awaits_old_ticker = true;
        }
    }

    /// The capture that was played starts again from its first frame. Its trade ids, sequences and times are
    /// shifted from now on, so that they follow those of the lap that ended.
    pub fn start_lap(&mut self) {
        self.times.start_lap();
        for product in &mut self.products {
            product.trade_lap.start_lap();
            product.ticker_lap.start_lap();
            product.trades.start_anew();
            product.awaits_old_ticker = true;
        }
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
            Event::Trade(trade) => match trade.age {
                Age::Live => self.handle_trade(&trade, ts_recv),
                Age::Old => self.handle_old_trade(&trade, ts_recv),
            },
            Event::Quote(quote) => self.handle_quote(&quote, ts_recv),
            Event::BookBegin(book) => {
                if book.scope == BookScope::Snapshot {
                    self.count(FeedCounter::BookSnapshots);
                }
            }
            Event::Level(_) => self.count(FeedCounter::BookLevels),
            Event::BookEnd(_) | Event::LineSequence(_) | Event::Directory { .. } => {}
            Event::Bar(_) => self.count(FeedCounter::UnknownTypes),
            Event::Heartbeat(heartbeat) => self.handle_heartbeat(&heartbeat, ts_recv),
            Event::Control(control) => self.handle_control(control, ts_recv),
            Event::Ignored { .. } => self.count(FeedCounter::UnknownTypes),
            Event::Invalid { part, reason, .. } => {
                let counter = match part {
                    Part::Trade => FeedCounter::InvalidTrades,
                    Part::Quote => FeedCounter::InvalidQuotes,
                    Part::Level => FeedCounter::InvalidLevels,
                    Part::Bar | Part::Message => FeedCounter::MalformedFrames,
                };
                self.leave_out(counter, reason);
            }
        }
    }

    fn handle_control(&mut self, control: Control<'_>, ts_recv: i64) {
        let (text, detail) = match control {
            Control::Subscribed => return self.count(FeedCounter::Subscriptions),
            Control::Connected | Control::Authenticated | Control::Closing | Control::Note => return,
            Control::Error { text, detail } => (text, detail),
            Control::AuthRefused { text } | Control::Throttled { text } => (text, &b""[..]),
        };
        self.count(FeedCounter::VenueErrors);
        if self.venue_errors.is_due(ts_recv) {
            tracing::warn!(message = %shown(text), reason = %shown(detail), "the venue reports an error");
        }
    }

    fn handle_trade(&mut self, trade: &VenueTrade<'_>, ts_recv: i64) {
        let Some(at) = self.product(trade.symbol) else { return };
        let product = &mut self.products[at];
        let mut missed = 0;
        let mut id = None;
        if let Some(number) = trade.id {
            let number = product.trade_lap.shifted(number);
            match product.trades.on_match(number) {
                TradeVerdict::Fresh { missed: before } => missed = before,
                TradeVerdict::Duplicate => return self.count(FeedCounter::Duplicates),
            }
            id = Some(number);
        }
        let Some(ts_event) = self.times.shifted(trade.time) else {
            return self.leave_out(FeedCounter::InvalidTrades, Reason::Time);
        };
        if missed > 0 {
            self.publish_gap(at, missed, ts_event, ts_recv);
        }
        if !trade.price.is_positive() {
            return self.leave_out(FeedCounter::InvalidTrades, Reason::Price);
        }
        if !trade.size.is_positive() {
            return self.leave_out(FeedCounter::InvalidTrades, Reason::Size);
        }
        let body = TickBody::Trade(Trade { id, price: trade.price, size: trade.size, taker: trade.taker });
        self.publish(FeedCounter::Trades, at, ts_event, ts_recv, body);
    }

    fn handle_old_trade(&mut self, trade: &VenueTrade<'_>, ts_recv: i64) {
        let Some(at) = self.product(trade.symbol) else { return };
        let Some(id) = trade.id else { return self.count(FeedCounter::OldState) };
        let product = &mut self.products[at];
        let id = product.trade_lap.shifted_old(id);
        let missed = product.trades.on_last_match(id);
        if missed == 0 {
            return self.count(FeedCounter::OldState);
        }
        match self.times.shifted(trade.time) {
            Some(ts_event) => self.publish_gap(at, missed, ts_event, ts_recv),
            None => self.leave_out(FeedCounter::InvalidTrades, Reason::Time),
        }
    }

    fn handle_quote(&mut self, quote: &VenueQuote<'_>, ts_recv: i64) {
        let Some(at) = self.product(quote.symbol) else { return };
        let product = &mut self.products[at];
        let is_old_state = std::mem::replace(&mut product.awaits_old_ticker, false);
        let Some(time) = quote.time else { return self.count(FeedCounter::UntimedQuotes) };
        if let Some(sequence) = quote.sequence {
            let sequence = product.ticker_lap.shifted(sequence);
            if !product.tickers.rises_to(sequence) {
                return self.count(if is_old_state { FeedCounter::OldState } else { FeedCounter::StaleQuotes });
            }
        }
        let (Some(bid), Some(ask)) = (quote.bid, quote.ask) else {
            return self.count(FeedCounter::OneSidedQuotes);
        };
        let bid_size = bid.size.unwrap_or(Decimal::ZERO);
        let ask_size = ask.size.unwrap_or(Decimal::ZERO);
        if !bid.price.is_positive() || !ask.price.is_positive() {
            return self.leave_out(FeedCounter::InvalidQuotes, Reason::Price);
        }
        if bid_size < Decimal::ZERO || ask_size < Decimal::ZERO {
            return self.leave_out(FeedCounter::InvalidQuotes, Reason::Size);
        }
        if bid.price > ask.price {
            return self.count(FeedCounter::CrossedQuotes);
        }
        let Some(ts_event) = self.times.shifted(time) else {
            return self.leave_out(FeedCounter::InvalidQuotes, Reason::Time);
        };
        let body = TickBody::Quote(Quote { bid: bid.price, bid_size, ask: ask.price, ask_size });
        self.publish(FeedCounter::Quotes, at, ts_event, ts_recv, body);
    }

    fn handle_heartbeat(&mut self, heartbeat: &Heartbeat<'_>, ts_recv: i64) {
        let (Some(symbol), Some(time)) = (heartbeat.symbol, heartbeat.time) else { return };
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
        let flags = TickFlags::default();
        self.publisher.publish(&Tick { instrument, source: self.source, flags, ts_event, ts_recv, body });
        self.count(counter);
    }

    /// The index of a product, or `None`, counted, where its name is no instrument.
    fn product(&mut self, symbol: Symbol<'_>) -> Option<usize> {
        let Symbol::Text(name) = symbol else {
            self.count(FeedCounter::UnknownSymbols);
            return None;
        };
        let known = self.by_name.get(name).copied();
        let found = known.or_else(|| self.meet_product(name));
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
        let at = self.products.len();
        self.products.push(Product {
            instrument,
            trades: TradeIds::default(),
            trade_lap: LapNumbers::default(),
            tickers: Rising::default(),
            ticker_lap: LapNumbers::default(),
            heartbeats: Rising::default(),
            awaits_old_ticker: true,
        });
        self.by_name.insert(name.into(), at);
        Some(at)
    }

    fn refuse(&mut self, frame: &[u8], error: DecodeError, ts_recv: i64) {
        self.leave_out(FeedCounter::MalformedFrames, error.reason());
        if self.refusals.is_due(ts_recv) {
            tracing::warn!(%error, bytes = frame.len(), frame = %shown(frame), "a frame of the venue was refused");
        }
    }

    fn leave_out(&self, counter: FeedCounter, reason: Reason) {
        self.count(counter);
        self.count(FeedCounter::Malformed(reason));
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
mod tests {
    use super::*;
    use crate::doorbell::{Doorbell, WaitStrategy};
    use crate::ring::{Polled, Reader, ring};

    /// What happens to a feed. The numbers are trade id, sequence and second of the day.
    enum Step {
        Match(u64, i64),
        LastMatch(u64, i64),
        Ticker(u64, i64),
        Heartbeat(i64),
        Frame(String),
        ConnectionLost,
        Lap,
    }
    use Step::{ConnectionLost, Frame, Heartbeat as Beat, Lap, LastMatch, Match, Ticker};

    const MIDNIGHT_NS: i64 = 1_618_617_600_000_000_000;

    fn time(second: i64) -> String {
        let mut out = Vec::new();
        protocol::format_rfc3339(MIDNIGHT_NS + second * 1_000_000_000, &mut out);
        String::from_utf8(out).unwrap()
    }

    impl Step {
        fn frame(&self) -> String {
            let trade = |kind, id, second| {
                format!(
                    r#"{{"type":"{kind}","trade_id":{id},"maker_order_id":"2a0da34e-61f7-4c36-88e5-c9dd15927b16","taker_order_id":"3c82abaa-c01e-4608-be59-6a1e69742891","side":"sell","size":"985","price":"0.00001305","product_id":"SKL-BTC","sequence":177100030,"time":"{}"}}"#,
                    time(second)
                )
            };
            match self {
                Match(id, second) => trade("match", id, *second),
                LastMatch(id, second) => trade("last_match", id, *second),
                Ticker(sequence, second) => format!(
                    r#"{{"type":"ticker","sequence":{sequence},"product_id":"SKL-BTC","price":"0.00001305","open_24h":"0.00001","volume_24h":"94381.28000000","low_24h":"0.00001","high_24h":"0.00002","volume_30d":"2295579.57000000","best_bid":"0.00001300","best_ask":"0.00001306","side":"buy","time":"{}","trade_id":881613,"last_size":"985"}}"#,
                    time(*second)
                ),
                Beat(second) => format!(
                    r#"{{"type":"heartbeat","last_trade_id":1092969669,"product_id":"SKL-BTC","sequence":136118091026,"time":"{}"}}"#,
                    time(*second)
                ),
                Frame(frame) => frame.clone(),
                ConnectionLost | Lap => unreachable!("no frame"),
            }
        }
    }

    fn new_feed(unknown: UnknownSymbols, known: &[&str]) -> (Feed, Reader<Tick>) {
        let instruments = Arc::new(InstrumentTable::with_capacity(2));
        for symbol in known {
            instruments.learn(symbol).unwrap();
        }
        let publisher = ring(64, Arc::new(Doorbell::new(WaitStrategy::Park)));
        let mut feed =
            Feed::new(SourceId(3), Venue::Coinbase, instruments, unknown, publisher, Arc::new(FeedCounters::new()));
        let reader = feed.publisher().reader();
        (feed, reader)
    }

    /// What comes out, each tick in a few words.
    fn drain(reader: &mut Reader<Tick>) -> Vec<String> {
        std::iter::from_fn(|| match reader.poll() {
            Polled::Record(tick) => Some(tick),
            Polled::Empty => None,
            Polled::Lapped { lost } => panic!("{lost} ticks lost"),
        })
        .map(|tick| {
            assert_eq!((tick.source, tick.ts_recv), (SourceId(3), 77));
            let second = (tick.ts_event - MIDNIGHT_NS) as f64 / 1e9;
            match tick.body {
                TickBody::Trade(t) => {
                    let (id, taker) = (t.id.unwrap(), t.taker.unwrap());
                    format!("trade {id} {}x{} {taker:?} @{second}", t.price, t.size)
                }
                TickBody::Quote(q) => format!("quote {}x{} {}x{} @{second}", q.bid, q.bid_size, q.ask, q.ask_size),
                TickBody::Gap { missed } => format!("gap {missed} @{second}"),
                TickBody::Heartbeat => format!("heartbeat @{second}"),
            }
        })
        .collect()
    }

    fn trade(id: u64, second: i64) -> String {
        format!("trade {id} 0.00001305x985 Buy @{second}")
    }

    fn quote(second: i64) -> String {
        format!("quote 0.00001300x0 0.00001306x0 @{second}")
    }

    /// Takes the steps, then compares the ticks, and all counters that are not 0 save those of frames and bytes.
    #[track_caller]
    fn check(steps: &[Step], ticks: &[String], counts: &[(FeedCounter, u64)]) {
        let (mut feed, mut reader) = new_feed(UnknownSymbols::Learn, &[]);
        for step in steps {
            match step {
                ConnectionLost => feed.connection_lost(),
                Lap => feed.start_lap(),
                _ => feed.handle_frame(step.frame().as_bytes(), 77),
            }
        }
        assert_eq!(drain(&mut reader), ticks);
        let counters = feed.counters();
        for counter in FeedCounter::iter().filter(|c| !matches!(c, FeedCounter::Frames | FeedCounter::Bytes)) {
            let expected = counts.iter().find(|(c, _)| *c == counter).map_or(0, |(_, n)| *n);
            assert_eq!(counters.count(counter), expected, "{counter:?}");
        }
    }

    use FeedCounter as C;

    #[test]
    fn a_match_is_a_trade_of_the_taker() {
        check(
            &[LastMatch(4, 1), Match(5, 2), Match(6, 2), Match(6, 2), Match(5, 2)],
            &[trade(5, 2), trade(6, 2)],
            &[(C::OldState, 1), (C::Trades, 2), (C::Duplicates, 2)],
        );
    }

    #[test]
    fn missing_trades_are_announced_before_the_next_one() {
        check(
            &[Match(5, 2), Match(9, 3)],
            &[trade(5, 2), "gap 3 @3".into(), trade(9, 3)],
            &[(C::Trades, 2), (C::Gaps, 1), (C::TradesMissed, 3)],
        );
    }

    #[test]
    fn a_cut_line_repeats_nothing_and_announces_what_was_missed() {
        check(
            &[
                Ticker(10, 1),
                Match(5, 2),
                Ticker(11, 2),
                ConnectionLost,
                LastMatch(8, 4),
                Ticker(14, 4),
                Match(8, 4),
                Match(9, 5),
                Ticker(15, 5),
                ConnectionLost,
                Ticker(15, 5),
                LastMatch(9, 5),
                Match(9, 5),
                Ticker(15, 5),
            ],
            &[
                quote(1),
                trade(5, 2),
                quote(2),
                "gap 3 @4".into(),
                quote(4),
                // Its own last_match announced it, and then it came after all.
                trade(8, 4),
                trade(9, 5),
                quote(5),
            ],
            &[
                (C::Quotes, 4),
                (C::Trades, 3),
                (C::Gaps, 1),
                (C::TradesMissed, 3),
                (C::OldState, 2),
                (C::Duplicates, 1),
                (C::StaleQuotes, 1),
            ],
        );
    }

    #[test]
    fn quotes_do_not_go_back() {
        let with = |from: &str, to: &str| Frame(Ticker(20, 9).frame().replace(from, to));
        check(
            &[
                with(&format!(r#""time":"{}","#, time(9)), ""),
                Ticker(10, 3),
                Ticker(9, 2),
                Ticker(10, 3),
                Ticker(12, 4),
                with(r#""best_bid":"0.00001300","#, ""),
                // It has both sides, but that sequence is past.
                Ticker(20, 9),
            ],
            &[quote(3), quote(4)],
            &[(C::Quotes, 2), (C::StaleQuotes, 3), (C::UntimedQuotes, 1), (C::OneSidedQuotes, 1)],
        );
    }

    #[test]
    fn absurd_quotes_are_left_out() {
        let with = |sequence, from: &str, to: &str| Frame(Ticker(sequence, 9).frame().replace(from, to));
        let sized = |bid_size: &str| format!(r#""best_bid":"0.00001306","best_bid_size":"{bid_size}","#);
        check(
            &[
                with(1, r#""best_bid":"0.00001300""#, r#""best_bid":"0.00001307""#),
                with(2, r#""best_bid":"0.00001300""#, r#""best_bid":"0""#),
                with(3, r#""best_ask":"0.00001306""#, r#""best_ask":"-1""#),
                with(4, r#""best_bid":"0.00001300","#, &sized("-0.1")),
                with(5, r#""best_bid":"0.00001300","#, &sized("0.10")),
            ],
            &["quote 0.00001306x0.10 0.00001306x0 @9".into()],
            &[
                (C::CrossedQuotes, 1),
                (C::InvalidQuotes, 3),
                (C::Malformed(Reason::Price), 2),
                (C::Malformed(Reason::Size), 1),
                (C::Quotes, 1),
            ],
        );
    }

    #[test]
    fn absurd_trades_are_left_out_but_not_missed() {
        let with = |id, from: &str, to: &str| Frame(Match(id, 2).frame().replace(from, to));
        check(
            &[
                Match(5, 1),
                with(6, "\"985\"", "\"0.00000000\""),
                with(7, "\"985\"", "\"-1\""),
                with(8, "\"0.00001305\"", "\"0\""),
                Match(9, 3),
                // One that cannot be read has no id to go on.
                with(10, "\"0.00001305\"", "\"0.-1305\""),
                Match(11, 4),
            ],
            &[trade(5, 1), trade(9, 3), "gap 1 @4".into(), trade(11, 4)],
            &[
                (C::Trades, 3),
                (C::InvalidTrades, 3),
                (C::Malformed(Reason::Size), 2),
                (C::Malformed(Reason::Price), 1),
                (C::Malformed(Reason::Number), 1),
                (C::MalformedFrames, 1),
                (C::Gaps, 1),
                (C::TradesMissed, 1),
            ],
        );
    }

    #[test]
    fn heartbeats_carry_the_clock_and_are_no_gap() {
        check(
            &[Match(5, 1), Beat(2), Beat(3), Beat(3), Beat(1), Match(6, 3)],
            &[trade(5, 1), "heartbeat @2".into(), "heartbeat @3".into(), trade(6, 3)],
            &[(C::Trades, 2), (C::Heartbeats, 2), (C::StaleHeartbeats, 2)],
        );
    }

    #[test]
    fn other_messages_are_counted() {
        let product = r#""product_id":"SKL-BTC""#;
        let frames = [
            format!(r#"{{"type":"snapshot",{product},"bids":[["1","2"],["0.9","0.-10000"]],"asks":[["1.1","2"]]}}"#),
            format!(
                r#"{{"type":"l2update",{product},"changes":[["sell","0.00001306","660.5"]],"time":"{}"}}"#,
                time(1)
            ),
            r#"{"type":"subscriptions","channels":[]}"#.into(),
            r#"{"type":"error","message":"Failed to subscribe","reason":"level2 requires authentication"}"#.into(),
            format!(r#"{{"type":"received",{product}}}"#),
            r#"{"type":"tick"#.into(),
        ];
        check(
            &frames.map(Frame),
            &[],
            &[
                (C::BookSnapshots, 1),
                (C::BookLevels, 3),
                (C::InvalidLevels, 1),
                (C::Malformed(Reason::Number), 1),
                (C::Subscriptions, 1),
                (C::VenueErrors, 1),
                (C::UnknownTypes, 1),
                (C::MalformedFrames, 1),
                (C::Malformed(Reason::Truncated), 1),
            ],
        );
    }

    #[test]
    fn laps_go_on_where_the_last_one_ended() {
        let lap = || [Ticker(10, 0), LastMatch(4, 0), Match(5, 1), Match(7, 2), Beat(2), Ticker(13, 2)];
        let mut steps = Vec::from(lap());
        steps.push(Lap);
        steps.extend(lap());
        let ticks = |id: u64, second: i64| {
            [
                quote(second),
                trade(id, second + 1),
                format!("gap 1 @{}", second + 2),
                trade(id + 2, second + 2),
                format!("heartbeat @{}", second + 2),
                quote(second + 2),
            ]
        };
        check(
            &steps,
            &[ticks(5, 0), ticks(8, 3)].concat(),
            &[(C::Quotes, 4), (C::OldState, 2), (C::Trades, 4), (C::Gaps, 2), (C::TradesMissed, 2), (C::Heartbeats, 2)],
        );
    }

    #[test]
    fn a_capture_played_again_without_a_lap_repeats_nothing() {
        let play = || [Ticker(10, 0), LastMatch(4, 0), Match(5, 1), Match(6, 2), Beat(2), Ticker(13, 2)];
        let mut steps = Vec::from(play());
        steps.push(ConnectionLost);
        steps.extend(play());
        check(
            &steps,
            &[quote(0), trade(5, 1), trade(6, 2), "heartbeat @2".into(), quote(2)],
            &[
                (C::Quotes, 2),
                (C::OldState, 3),
                (C::Trades, 2),
                (C::Heartbeats, 1),
                (C::Duplicates, 2),
                (C::StaleHeartbeats, 1),
                (C::StaleQuotes, 1),
            ],
        );
    }

    #[test]
    fn unknown_products_are_learnt_or_refused() {
        let check = |unknown, names: &[&str], expected: &[&str]| {
            let (mut feed, mut reader) = new_feed(unknown, &["BTC/USD"]);
            for name in names {
                feed.handle_frame(Match(1, 1).frame().replace("SKL-BTC", name).as_bytes(), 77);
            }
            let mut symbols = Vec::new();
            while let Polled::Record(tick) = reader.poll() {
                symbols.push(feed.instruments().symbol(tick.instrument).to_owned());
            }
            assert_eq!(symbols, expected, "{unknown:?} {names:?}");
            let refused = names.len() - expected.len();
            assert_eq!(feed.counters().count(C::UnknownSymbols), refused as u64, "{unknown:?} {names:?}");
        };
        check(UnknownSymbols::Learn, &["ETH-USD", "BTC-USD"], &["ETH/USD", "BTC/USD"]);
        check(UnknownSymbols::Refuse, &["ETH-USD", "BTC-USD"], &["BTC/USD"]);
        // The table holds two.
        check(UnknownSymbols::Learn, &["ETH-USD", "SOL-USD", "BTC-USD"], &["ETH/USD", "BTC/USD"]);
        let no_products = ["", "BTC", "-USD", "BTC-", "BTC/USD", "A/B-C", "btc-usd", "B C-USD", &"A-".repeat(40)];
        check(UnknownSymbols::Learn, &no_products, &[]);
        check(UnknownSymbols::Refuse, &no_products, &[]);
    }

    #[test]
    fn samples_are_a_second_apart() {
        let mut sampler = Sampler::default();
        let due =
            [5, 6, 1_000_000_004, 1_000_000_005, 1_000_000_006, 7, 8, i64::MIN, i64::MAX].map(|t| sampler.is_due(t));
        assert_eq!(due, [true, false, false, true, false, true, false, true, true]);
        assert_eq!(shown(b"a\n\xff").to_string(), r"a\n\xff");
        assert_eq!(shown(&[b'x'; 500]).to_string().len(), SAMPLE_BYTES_MAX);
    }
}
