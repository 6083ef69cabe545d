//! The order book of one instrument by price levels, as far as its venue tells it.
//!
//! Pure, and owned by the feed that the instrument's levels come from. It applies levels in the order in which they come
//! and says what that did; what to do about a lost change, a wrong checksum or a crossed book is for its owner.
//! Deliberately absent: single orders, times, and repairing anything.

use std::cmp::Ordering;
use std::collections::VecDeque;

use protocol::{Decimal, Side};

use crate::decode::event::Level;

/// Most levels a side holds: more than twice the largest side that was ever recorded (44,000 levels). Each takes 32
/// bytes, so a full book takes 6.4 MB, and at most twice that because its rows grow by doubling.
pub const LEVELS_MAX: usize = 100_000;

/// Kraken's checksum is over this many levels of each side.
const CHECKSUM_LEVELS: usize = 10;

/// What applying a level did to the book.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// The price was not in the book and is now.
    Added,
    /// The price was in the book and has the new size.
    Changed,
    /// The price was in the book and is no longer.
    Removed,
    /// A removal of a price that was not in the book, which is harmless: nothing changed.
    Absent,
    /// The side is full and the level worse than all of it: nothing changed but [`Book::dropped`].
    Dropped,
}

/// How the best bid and the best ask stand to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// The bid is below the ask, or there is none of one of them.
    Open,
    /// They are equal.
    Locked,
    /// The bid is above the ask.
    Crossed,
}

/// Price and size of a level, with the digits of the latest write.
pub type Row = (Decimal, Decimal);

/// A book. Prices are compared as numbers (`1.50` is `1.5`); what comes out has the digits that came in last.
#[derive(Clone, Debug)]
pub struct Book {
    bids: Ladder,
    asks: Ladder,
    depth: Option<usize>,
    dropped: u64,
}

impl Book {
    /// An empty book of all levels that the venue tells, [`LEVELS_MAX`] a side at most.
    pub fn new() -> Book {
        Book { bids: Ladder::new(Side::Buy), asks: Ladder::new(Side::Sell), depth: None, dropped: 0 }
    }

    /// An empty book of which [`Book::truncate`] leaves the best `depth` levels a side: for venues that tell no more, and
    /// do not say which levels fall out.
    pub fn with_depth(depth: usize) -> Book {
        Book { depth: Some(depth), ..Book::new() }
    }

    /// Puts the level's size to its price, or removes the price where the size is zero.
    ///
    /// In a side of [`LEVELS_MAX`] levels a new price takes the place of the worst, and that is counted.
    pub fn apply(&mut self, level: Level) -> Applied {
        debug_assert!(level.price.is_positive() && level.size.mantissa() >= 0, "{level:?}");
        let ladder = match level.side {
            Side::Buy => &mut self.bids,
            Side::Sell => &mut self.asks,
        };
        ladder.apply(level.price, level.size, &mut self.dropped)
    }

    /// Cuts each side to the depth that the book was made with. To be called when a change is complete, never between
    /// its levels: a change may bring a better price before it removes another, and cutting in between would drop
    /// a level that the venue still counts on.
    pub fn truncate(&mut self) {
        if let Some(depth) = self.depth {
            self.bids.truncate(depth);
            self.asks.truncate(depth);
        }
    }

    /// Empties the book, as before a snapshot. Keeps its memory, because what follows is about as large.
    pub fn clear(&mut self) {
        self.bids.rows.clear();
        self.asks.rows.clear();
    }

    /// The best bid and the best ask, each as price and size, where there is one.
    pub fn top(&self) -> (Option<Row>, Option<Row>) {
        (self.bids.rows.back().copied(), self.asks.rows.back().copied())
    }

    /// Whether the book is in order. A venue's book may be locked or crossed for a moment; one that stays so is wrong.
    pub fn spread(&self) -> Spread {
        match self.top() {
            (Some((bid, _)), Some((ask, _))) => match numeric(bid, ask) {
                Ordering::Less => Spread::Open,
                Ordering::Equal => Spread::Locked,
                Ordering::Greater => Spread::Crossed,
            },
            _ => Spread::Open,
        }
    }

    /// The levels of a side, the best first.
    pub fn levels(&self, side: Side) -> impl ExactSizeIterator<Item = Row> + '_ {
        match side {
            Side::Buy => self.bids.best_first(),
            Side::Sell => self.asks.best_first(),
        }
    }

    /// How many levels [`LEVELS_MAX`] has kept out since the book was made. Those that [`Book::truncate`] cuts off are
    /// none of them.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Kraken's checksum of the book: CRC-32 over the best 10 asks, then the best 10 bids, each as the digits of its
    /// price and then of its size, without the point and leading zeros. The digits must be the venue's own, trailing
    /// zeros and all. <https://docs.kraken.com/api/docs/guides/spot-ws-book-v2>
    pub fn checksum_kraken(&self) -> u32 {
        let mut crc = Crc32::new();
        let asks = self.asks.best_first().take(CHECKSUM_LEVELS);
        for (price, size) in asks.chain(self.bids.best_first().take(CHECKSUM_LEVELS)) {
            crc.digits(price);
            crc.digits(size);
        }
        crc.value()
    }
}

impl Default for Book {
    fn default() -> Book {
        Book::new()
    }
}

/// One side of a book.
#[derive(Clone, Debug)]
struct Ladder {
    side: Side,
    /// Worst first, best last, no price twice. Open at both ends: what changes is near the best, and a snapshot that
    /// comes best first grows at the worst. A `Vec` would move all levels for each one of those.
    rows: VecDeque<Row>,
}

impl Ladder {
    fn new(side: Side) -> Ladder {
        Ladder { side, rows: VecDeque::new() }
    }

    fn apply(&mut self, price: Decimal, size: Decimal, dropped: &mut u64) -> Applied {
        match self.find(price) {
            Ok(at) if size.is_zero() => {
                self.rows.remove(at);
                Applied::Removed
            }
            Ok(at) => {
                self.rows[at] = (price, size);
                Applied::Changed
            }
            Err(_) if size.is_zero() => Applied::Absent,
            Err(at) if self.rows.len() < LEVELS_MAX => {
                self.rows.insert(at, (price, size));
                Applied::Added
            }
            Err(at) => {
                *dropped += 1;
                // The worst is at 0, so a place of 0 is before it.
                let Some(at) = at.checked_sub(1) else { return Applied::Dropped };
                self.rows.pop_front();
                self.rows.insert(at, (price, size));
                Applied::Added
            }
        }
    }

    /// Where the price is, or where it belongs.
    fn find(&self, price: Decimal) -> Result<usize, usize> {
        match self.side {
            Side::Buy => self.rows.binary_search_by(|row| numeric(row.0, price)),
            Side::Sell => self.rows.binary_search_by(|row| numeric(price, row.0)),
        }
    }

    fn truncate(&mut self, depth: usize) {
        self.rows.drain(..self.rows.len().saturating_sub(depth));
    }

    fn best_first(&self) -> std::iter::Rev<std::iter::Copied<std::collections::vec_deque::Iter<'_, Row>>> {
        self.rows.iter().copied().rev()
    }
}

/// The order of two prices. A venue mostly writes the prices of an instrument with the same number of decimals, and then
/// the digits decide without 128-bit arithmetic.
fn numeric(a: Decimal, b: Decimal) -> Ordering {
    if a.scale() == b.scale() { a.mantissa().cmp(&b.mantissa()) } else { a.cmp(&b) }
}

/// CRC-32 of IEEE 802.3, a byte at a time: a book's checksum is over some 300 bytes.
struct Crc32(u32);

impl Crc32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut byte = 0;
        while byte < 256 {
            let mut crc = byte as u32;
            let mut bit = 0;
            while bit < 8 {
                crc = if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 };
                bit += 1;
            }
            table[byte] = crc;
            byte += 1;
        }
        table
    };

    fn new() -> Crc32 {
        Crc32(!0)
    }

    fn update(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0 >> 8 ^ Self::TABLE[usize::from(self.0 as u8 ^ byte)];
        }
    }

    /// Takes in the digits of a number, without the point and the zeros in front: those of its mantissa.
    fn digits(&mut self, number: Decimal) {
        // `u64::MAX` has 20.
        let mut digits = [0u8; 20];
        let mut at = digits.len();
        let mut rest = number.mantissa().unsigned_abs();
        while rest > 0 {
            at -= 1;
            digits[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        self.update(&digits[at..]);
    }

    fn value(&self) -> u32 {
        !self.0
    }
}

#[cfg(test)]
mod tests;
