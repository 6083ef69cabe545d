//! The open orders of Nasdaq's book, and what ITCH messages mean with them: trades, and the best bid and ask.
//!
//! Pure, and owned by the feed that the messages come to. An execution names an order and neither its price nor its side,
//! so all orders of all stocks are kept, and for each stock the shares at each price. A quote is handed out at the end of
//! each message that moved a top.
//!
//! Nasdaq sends no snapshot. A book of which anything is missing stays wrong until the day's messages begin anew, and so
//! do the tops that it would give: a stock is quoted only as long as nothing speaks against its book. It is quoted no more
//! after a message about an order that nobody knows, and no stock is after [`OrderBooks::lose`]. Trades go on: an order
//! that is known keeps its price.
//!
//! Deliberately absent: the place of an order in its queue, who placed it, depth beyond the top, and taking a trade back.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasherDefault, Hasher};

use protocol::{Decimal, Side};

use crate::decode::event::{Age, Event, Part, Quote, Symbol, Top, Trade};
use crate::decode::itch::{self, Body, Directory, Message, MessageError, OrderAdded, Price4, Stock, decode_message};
use crate::decode::{DecodeError, Reason};

/// Most orders that are open at one time, unless told otherwise. A slot takes 25 bytes, and the table doubles when it is
/// seven eighths full: at most 420 MB, and 630 MB in the moment in which it grows for the last time.
pub const ORDERS_MAX: usize = 14_000_000;

/// All open orders of a day, and the books that they make.
///
/// At `orders_max` open orders a new one is refused ([`Reason::OrderLimit`]), and its stock is quoted no more.
#[derive(Debug)]
pub struct OrderBooks {
    orders: HashMap<u64, Order, BuildHasherDefault<ReferenceHasher>>,
    orders_max: usize,
    /// By locate, which is below 65,536: 104 bytes each, 7 MB for all, and 16 bytes for each price.
    books: Vec<StockBook>,
    /// Nothing of the day was missed, as far as the numbers of the line tell.
    is_whole: bool,
}

#[derive(Clone, Copy, Debug)]
struct Order {
    locate: u16,
    side: Side,
    /// Above 0.
    shares: u32,
    price: Price4,
}

/// What is known about the name that a locate stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Listing {
    #[default]
    Unknown,
    /// Handed out as a [`Event::Directory`].
    Told,
    /// A stock for tests, whose trades nobody made.
    Test,
}

#[derive(Debug, Default)]
struct StockBook {
    listing: Listing,
    /// An order is missing from the levels, or one that is gone is in them.
    is_broken: bool,
    bids: Ladder,
    asks: Ladder,
    /// What was handed out last.
    told: (Option<Row>, Option<Row>),
}

/// A price and the shares at it.
type Row = (u32, u64);

/// One side's prices.
#[derive(Debug, Default)]
struct Ladder {
    /// Best last, because there most changes are. Shares are above 0, and those of 14 million orders fit 64 bits.
    rows: Vec<Row>,
}

impl OrderBooks {
    /// No order is open.
    pub fn new(orders_max: usize) -> OrderBooks {
        OrderBooks { orders: HashMap::default(), orders_max, books: Vec::new(), is_whole: true }
    }

    /// How many orders are open.
    pub fn open_orders(&self) -> usize {
        self.orders.len()
    }

    /// Whether quotes can be made: nothing was lost since the day's messages began.
    pub fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// Messages were lost, or the first ones of the day were never there. All books are dropped, and no stock is quoted
    /// before the day's messages begin again. The orders stay, for the prices of their executions.
    pub fn lose(&mut self) {
        self.is_whole = false;
        for book in &mut self.books {
            let listing = book.listing;
            *book = StockBook { listing, ..StockBook::default() };
        }
    }

    /// Forgets everything: the messages that follow are those of a day from its first.
    pub fn start_day(&mut self) {
        self.orders.clear();
        self.books.clear();
        self.is_whole = true;
    }

    /// Decodes one message and applies it, as [`Self::apply`]. A message of an unknown type is
    /// [`Event::Ignored`], and an order without a side an [`Event::Invalid`].
    ///
    /// # Errors
    /// [`DecodeError::Length`] where the message is none by its length. No event has been handed out then.
    pub fn decode<'a>(
        &mut self,
        message: &'a [u8],
        midnight_ns: i64,
        on_event: &mut dyn FnMut(Event<'a>),
    ) -> Result<(), DecodeError> {
        match decode_message(message, midnight_ns) {
            Ok(decoded) => self.apply(&decoded, on_event),
            Err(MessageError::UnknownType { .. }) => on_event(Event::Ignored { kind: &message[..1] }),
            Err(MessageError::Empty) => return Err(DecodeError::Length { stated: 0, found: 0 }),
            Err(MessageError::Length { length, expected, .. }) => {
                return Err(DecodeError::Length { stated: expected, found: length });
            }
            Err(MessageError::Side { .. }) => {
                on_event(Event::Invalid { symbol: None, part: Part::Level, reason: Reason::Side });
            }
        }
        Ok(())
    }

    /// Applies one message and hands out what it says: names, trades, and then the top of its book where that is another
    /// one now. A message that says nothing of these and is no order's is [`Event::Ignored`].
    pub fn apply<'a>(&mut self, message: &Message<'a>, on_event: &mut dyn FnMut(Event<'a>)) {
        let locate = message.locate;
        match message.body {
            Body::OrderAdded(added) => {
                self.meet(locate, added.stock, on_event);
                let outcome = self.add(locate, &added);
                self.finish(message, outcome, on_event);
            }
            Body::OrderExecuted { order, shares, match_number } => {
                let outcome = self.reduce(locate, order, Some(shares)).map(|order| {
                    self.tell_trade(message, &order, shares, order.price, match_number, on_event);
                });
                self.finish(message, outcome, on_event);
            }
            Body::OrderExecutedAtPrice { order, shares, match_number, is_printable, price } => {
                let outcome = self.reduce(locate, order, Some(shares)).map(|order| {
                    if is_printable {
                        self.tell_trade(message, &order, shares, price, match_number, on_event);
                    }
                });
                self.finish(message, outcome, on_event);
            }
            Body::OrderReduced { order, shares } => {
                let outcome = self.reduce(locate, order, Some(shares)).map(drop);
                self.finish(message, outcome, on_event);
            }
            Body::OrderDeleted { order } => {
                let outcome = self.reduce(locate, order, None).map(drop);
                self.finish(message, outcome, on_event);
            }
            Body::OrderReplaced { order, new_order, shares, price } => {
                let outcome = self
                    .reduce(locate, order, None)
                    .and_then(|old| self.open(new_order, Order { locate, side: old.side, shares, price }));
                self.finish(message, outcome, on_event);
            }
            Body::Directory(directory) => self.list(message, &directory, on_event),
            Body::HiddenTrade { stock, .. } => {
                self.meet(locate, stock, on_event);
                self.tell(message, on_event);
            }
            Body::CrossTrade { stock, .. } => {
                self.meet(locate, stock, on_event);
                self.tell(message, on_event);
            }
            Body::SystemEvent { event: b'O' } => {
                self.start_day();
                self.tell(message, on_event);
            }
            _ => self.tell(message, on_event),
        }
    }

    fn list<'a>(&mut self, message: &Message<'a>, directory: &Directory<'a>, on_event: &mut dyn FnMut(Event<'a>)) {
        let is_test = directory.authenticity == b'T';
        self.book(message.locate).listing = if is_test { Listing::Test } else { Listing::Told };
        self.tell_or(is_test.then_some(b"R"), message, on_event);
    }

    /// Who comes late learns a stock's name by the first message that bears it.
    fn meet<'a>(&mut self, locate: u16, stock: Stock<'a>, on_event: &mut dyn FnMut(Event<'a>)) {
        let book = self.book(locate);
        if book.listing == Listing::Unknown {
            book.listing = Listing::Told;
            on_event(Event::Directory { token: u32::from(locate), symbol: stock.text() });
        }
    }

    /// What the message says by itself, unless it is of a stock for tests.
    fn tell<'a>(&mut self, message: &Message<'a>, on_event: &mut dyn FnMut(Event<'a>)) {
        let is_test = self.book(message.locate).listing == Listing::Test;
        let kind: Option<&'static [u8; 1]> = match message.body {
            Body::HiddenTrade { .. } if is_test => Some(b"P"),
            Body::CrossTrade { .. } if is_test => Some(b"Q"),
            _ => None,
        };
        self.tell_or(kind, message, on_event);
    }

    fn tell_or<'a>(
        &mut self,
        ignored: Option<&'static [u8; 1]>,
        message: &Message<'a>,
        on_event: &mut dyn FnMut(Event<'a>),
    ) {
        match ignored {
            Some(kind) => on_event(Event::Ignored { kind }),
            None => itch::event(message).into_iter().for_each(on_event),
        }
    }

    fn tell_trade<'a>(
        &self,
        message: &Message<'a>,
        order: &Order,
        shares: u32,
        price: Price4,
        match_number: u64,
        on_event: &mut dyn FnMut(Event<'a>),
    ) {
        if self.books[usize::from(order.locate)].listing == Listing::Test {
            let is_at_price = matches!(message.body, Body::OrderExecutedAtPrice { .. });
            return on_event(Event::Ignored { kind: if is_at_price { b"C" } else { b"E" } });
        }
        let taker = match order.side {
            Side::Buy => Side::Sell,
            Side::Sell => Side::Buy,
        };
        on_event(Event::Trade(Trade {
            symbol: Symbol::Token(u32::from(order.locate)),
            id: Some(match_number).filter(|id| i64::try_from(*id).is_ok()),
            price: price.decimal(),
            size: size(u64::from(shares)),
            taker: Some(taker),
            time: message.time,
            age: Age::Live,
        }));
    }

    /// The end of a message of orders: what was wrong with it, and the book's top where it is another one now.
    fn finish<'a>(&mut self, message: &Message<'a>, outcome: Result<(), Reason>, on_event: &mut dyn FnMut(Event<'a>)) {
        let symbol = Symbol::Token(u32::from(message.locate));
        let is_whole = self.is_whole;
        let book = self.book(message.locate);
        if let Err(reason) = outcome {
            book.is_broken = true;
            on_event(Event::Invalid { symbol: Some(symbol), part: Part::Level, reason });
        }
        if book.is_broken || !is_whole || book.listing == Listing::Test {
            return;
        }
        let now = (book.bids.rows.last().copied(), book.asks.rows.last().copied());
        if std::mem::replace(&mut book.told, now) == now {
            return;
        }
        let top = |(price, shares): Row| Top { price: Price4(price).decimal(), size: Some(size(shares)) };
        let (bid, ask) = (now.0.map(top), now.1.map(top));
        on_event(Event::Quote(Quote { symbol, bid, ask, sequence: None, time: Some(message.time), age: Age::Live }));
    }

    fn add(&mut self, locate: u16, added: &OrderAdded<'_>) -> Result<(), Reason> {
        let &OrderAdded { order, side, shares, price, .. } = added;
        self.open(order, Order { locate, side, shares, price })
    }

    fn open(&mut self, reference: u64, order: Order) -> Result<(), Reason> {
        if order.shares == 0 {
            return Err(Reason::Size);
        }
        if order.price.0 == 0 {
            return Err(Reason::Price);
        }
        let has_room = self.orders.len() < self.orders_max;
        match self.orders.entry(reference) {
            Entry::Occupied(_) => return Err(Reason::UnknownOrder),
            Entry::Vacant(_) if !has_room => return Err(Reason::OrderLimit),
            Entry::Vacant(free) => _ = free.insert(order),
        }
        if self.is_whole {
            self.book(order.locate).ladder(order.side).add(order.side, order.price.0, u64::from(order.shares));
        }
        Ok(())
    }

    /// Takes `shares` off an order, or all of them; gives the order as it was before. Nothing changes on an error.
    fn reduce(&mut self, locate: u16, reference: u64, shares: Option<u32>) -> Result<Order, Reason> {
        let Entry::Occupied(mut entry) = self.orders.entry(reference) else { return Err(Reason::UnknownOrder) };
        let order = *entry.get();
        if order.locate != locate {
            return Err(Reason::UnknownOrder);
        }
        let shares = shares.unwrap_or(order.shares);
        let left = order.shares.checked_sub(shares).filter(|_| shares > 0).ok_or(Reason::Size)?;
        if left == 0 {
            entry.remove();
        } else {
            entry.get_mut().shares = left;
        }
        if self.is_whole {
            self.book(locate).ladder(order.side).take(order.side, order.price.0, u64::from(shares));
        }
        Ok(order)
    }

    #[inline]
    fn book(&mut self, locate: u16) -> &mut StockBook {
        let at = usize::from(locate);
        if at >= self.books.len() {
            self.books.resize_with(at + 1, StockBook::default);
        }
        &mut self.books[at]
    }
}

impl StockBook {
    fn ladder(&mut self, side: Side) -> &mut Ladder {
        match side {
            Side::Buy => &mut self.bids,
            Side::Sell => &mut self.asks,
        }
    }
}

impl Ladder {
    /// Where the price is, or where it belongs.
    fn find(&self, side: Side, price: u32) -> Result<usize, usize> {
        match side {
            Side::Buy => self.rows.binary_search_by(|row| row.0.cmp(&price)),
            Side::Sell => self.rows.binary_search_by(|row| price.cmp(&row.0)),
        }
    }

    fn add(&mut self, side: Side, price: u32, shares: u64) {
        match self.find(side, price) {
            Ok(at) => self.rows[at].1 += shares,
            Err(at) => self.rows.insert(at, (price, shares)),
        }
    }

    fn take(&mut self, side: Side, price: u32, shares: u64) {
        let at = self.find(side, price).expect("Invariant: the shares of every open order stand at its price");
        if self.rows[at].1 == shares {
            self.rows.remove(at);
        } else {
            debug_assert!(self.rows[at].1 > shares);
            self.rows[at].1 -= shares;
        }
    }
}

fn size(shares: u64) -> Decimal {
    // The sum of a level is below 14 million times 2^32, which 64 bits with a sign hold.
    i64::try_from(shares).ok().and_then(|shares| Decimal::new(shares, 0)).unwrap_or(Decimal::ZERO)
}

/// Spreads order references, which Nasdaq counts up, over the table. Against somebody who picks them it is no defence, and
/// the bound on the orders is one on the memory only.
#[derive(Clone, Copy, Debug, Default)]
struct ReferenceHasher(u64);

impl Hasher for ReferenceHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    #[inline]
    fn write_u64(&mut self, n: u64) {
        // The two halves of the product: the table looks at the highest bits and the lowest.
        let product = u128::from(self.0 ^ n ^ 0x9e37_79b9_7f4a_7c15) * 0xd6e8_feb8_6659_fd93;
        self.0 = (product >> 64) as u64 ^ product as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests;
