//! The frames that come all the time, read by the layout in which the venue writes them.
//!
//! `match`, `ticker` and `l2update` are nearly all that the venue sends, and it has written each with the same keys in the
//! same order for years. Compared piece by piece with what is expected, such a frame is read once and from front to
//! back, several times faster than by its grammar. Whatever does not fit, be it one space more, a key less, an escape, or
//! a number that is none, is `None` here and read by its grammar instead: this file decides how fast a frame is
//! read, never what it says.

use arrayvec::ArrayVec;
use protocol::{Decimal, Side, eight_digits, parse_rfc3339};

use super::window::Window;
use crate::decode::event::{Age, BookBegin, BookEnd, BookScope, Event, Level, Quote, Symbol, Top, Trade};
use crate::decode::json::plain_end;
use crate::decode::lanes::{LANES, no_digits, specials};

/// Decodes a frame in one of the usual layouts. `None`, without any event, where it is in another.
#[inline]
pub(super) fn decode<'a>(frame: &'a [u8], on_event: &mut impl FnMut(Event<'a>)) -> Option<()> {
    let mut cursor = Cursor { rest: frame };
    cursor.literal(br#"{"type":""#)?;
    match cursor.rest.first()? {
        b'm' => {
            cursor.literal(br#"match","trade_id":"#)?;
            on_event(Event::Trade(cursor.trade()?));
        }
        b't' => {
            cursor.literal(br#"ticker","sequence":"#)?;
            on_event(Event::Quote(cursor.quote()?));
        }
        b'l' => {
            cursor.literal(br#"l2update","product_id":""#)?;
            cursor.changes(on_event)?;
        }
        _ => return None,
    }
    Some(())
}

/// Bytes of `2021-04-17T16:43:37.075687Z`, as which nearly all times are written.
const TIME_BYTES: usize = 27;

/// Changes that are kept until all of their frame has been seen, 40 bytes each. A batch has some tens of them.
const CHANGES: usize = 64;

/// What is left of the frame.
///
/// What a message is made of is `inline(always)`: handed over in memory, a decimal or a level costs as much as it takes to
/// read it.
#[derive(Clone, Copy)]
struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    /// Steps over exactly this text.
    #[inline]
    fn literal<const N: usize>(&mut self, text: &[u8; N]) -> Option<()> {
        let (head, rest) = self.rest.split_first_chunk::<N>()?;
        (head == text).then(|| self.rest = rest)
    }

    /// The text up to the next quote, over which it steps. It holds no escape.
    #[inline(always)]
    fn text(&mut self) -> Option<&'a [u8]> {
        let end = plain_end(self.rest, 0);
        let (text, rest) = self.rest.split_at_checked(end)?;
        self.rest = rest;
        self.literal(b"\"")?;
        Some(text)
    }

    /// The text of `N` bytes, at least 16, up to a quote, over which it steps.
    #[inline]
    fn text_of<const N: usize>(&mut self) -> Option<()> {
        let (text, rest) = self.rest.split_first_chunk::<N>()?;
        // Lanes that overlap at the end, and one branch for all of them.
        let mut special = 0;
        for at in (0..N - (LANES - 1)).step_by(LANES).chain([N - LANES]) {
            special |= specials(text[at..].first_chunk()?);
        }
        if special != 0 {
            return None;
        }
        self.rest = rest;
        self.literal(b"\"")
    }

    /// An integer of at most 15 digits, as JSON writes it.
    #[inline]
    fn integer(&mut self) -> Option<u64> {
        let lanes = self.rest.first_chunk()?;
        let count = no_digits(lanes).trailing_zeros() as usize;
        if !matches!(count, 1..LANES) || (lanes[0] == b'0' && count > 1) {
            return None;
        }
        // What is no digit is shifted out, and zeros are shifted in before the first: two words of eight digits.
        let digits = (u128::from_le_bytes(*lanes) ^ u128::from_le_bytes([b'0'; LANES])) << (8 * (LANES - count));
        self.rest = &self.rest[count..];
        Some(eight_digits(digits as u64) * 100_000_000 + eight_digits((digits >> 64) as u64))
    }

    /// A decimal up to a quote, over which it steps.
    #[inline(always)]
    fn decimal(&mut self) -> Option<Decimal> {
        let in_window = |mut window: Window<'_>| {
            let (decimal, end) = window.decimal(0)?;
            Some((decimal, window.literal(end, b"\"")?))
        };
        match Window::new(self.rest).and_then(in_window) {
            Some((decimal, end)) => {
                self.rest = &self.rest[end..];
                Some(decimal)
            }
            None => self.long_decimal(),
        }
    }

    #[cold]
    fn long_decimal(&mut self) -> Option<Decimal> {
        Decimal::parse(self.text()?).ok()
    }

    /// Price and size of a change, `83362.67","0.00000000"`, over which it steps.
    #[inline(always)]
    fn price_and_size(&mut self) -> Option<(Decimal, Decimal)> {
        let in_window = |mut window: Window<'_>| {
            let (price, end) = window.decimal(0)?;
            let start = window.literal(end, br#"",""#)?;
            let (size, end) = window.decimal(start)?;
            Some((price, size, window.literal(end, b"\"")?))
        };
        match Window::new(self.rest).and_then(in_window) {
            Some((price, size, end)) => {
                self.rest = &self.rest[end..];
                Some((price, size))
            }
            None => self.long_price_and_size(),
        }
    }

    #[cold]
    fn long_price_and_size(&mut self) -> Option<(Decimal, Decimal)> {
        let price = self.decimal()?;
        self.literal(br#",""#)?;
        Some((price, self.decimal()?))
    }

    /// A time up to a quote, over which it steps; where it is none, nothing is stepped over.
    #[inline]
    fn time(&mut self) -> Option<i64> {
        if let Some((text, rest)) = self.rest.split_first_chunk::<TIME_BYTES>()
            && let [b'"', rest @ ..] = rest
            && let Some(time) = parse_rfc3339(text)
        {
            self.rest = rest;
            return Some(time);
        }
        let mut behind = *self;
        let time = parse_rfc3339(behind.text()?)?;
        *self = behind;
        Some(time)
    }

    #[inline]
    fn end(&self) -> Option<()> {
        self.rest.is_empty().then_some(())
    }

    /// From behind `"trade_id":` on.
    #[inline(always)]
    fn trade(&mut self) -> Option<Trade<'a>> {
        let id = self.integer()?;
        self.literal(br#","maker_order_id":""#)?;
        self.text_of::<36>()?;
        self.literal(br#","taker_order_id":""#)?;
        self.text_of::<36>()?;
        self.literal(br#","side":""#)?;
        let maker = self.side()?;
        self.literal(br#","size":""#)?;
        let size = self.decimal()?;
        self.literal(br#","price":""#)?;
        let price = self.decimal()?;
        self.literal(br#","product_id":""#)?;
        let symbol = Symbol::Text(self.text()?);
        self.literal(br#","sequence":"#)?;
        self.integer()?;
        self.literal(br#","time":""#)?;
        let time = self.time()?;
        self.literal(b"}")?;
        self.end()?;
        Some(Trade { symbol, id: Some(id), price, size, taker: Some(maker.opposite()), time, age: Age::Live })
    }

    /// From behind `"sequence":` on; with the sizes that there are since 2022, or without.
    #[inline(always)]
    fn quote(&mut self) -> Option<Quote<'a>> {
        let sequence = self.integer()?;
        self.literal(br#","product_id":""#)?;
        let symbol = Symbol::Text(self.text()?);
        self.literal(br#","price":""#)?;
        self.text()?;
        self.literal(br#","open_24h":""#)?;
        self.text()?;
        self.literal(br#","volume_24h":""#)?;
        self.text()?;
        self.literal(br#","low_24h":""#)?;
        self.text()?;
        self.literal(br#","high_24h":""#)?;
        self.text()?;
        self.literal(br#","volume_30d":""#)?;
        self.text()?;
        self.literal(br#","best_bid":""#)?;
        let bid = self.decimal()?;
        let bid_size = self.literal(br#","best_bid_size":""#).map(|()| self.decimal());
        self.literal(br#","best_ask":""#)?;
        let ask = self.decimal()?;
        let ask_size = self.literal(br#","best_ask_size":""#).map(|()| self.decimal());
        self.literal(br#","side":""#)?;
        self.text()?;
        self.literal(br#","time":""#)?;
        let time = self.time()?;
        self.literal(br#","trade_id":"#)?;
        self.integer()?;
        self.literal(br#","last_size":""#)?;
        self.text()?;
        self.literal(b"}")?;
        self.end()?;
        // A size that is there and cannot be read makes the whole of it another layout.
        let bid = Top { price: bid, size: bid_size.map_or(Some(None), |size| size.map(Some))? };
        let ask = Top { price: ask, size: ask_size.map_or(Some(None), |size| size.map(Some))? };
        let (bid, ask) = (Some(bid), Some(ask));
        Some(Quote { symbol, bid, ask, sequence: Some(sequence), time: Some(time), age: Age::Live })
    }

    /// From behind `"product_id":"` on. Nothing is handed out before all of the frame is in the layout.
    #[inline]
    fn changes(&mut self, on_event: &mut impl FnMut(Event<'a>)) -> Option<()> {
        let symbol = Symbol::Text(self.text()?);
        let begin = Event::BookBegin(BookBegin { symbol, scope: BookScope::Change, updates: None });
        self.literal(br#","changes":["#)?;
        let (first, has_more) = self.change()?;
        if has_more {
            return self.several_changes(begin, first, on_event);
        }
        let end = self.end_of_changes()?;
        on_event(begin);
        on_event(Event::Level(first));
        on_event(end);
        Some(())
    }

    /// From behind the first of several changes on. They are kept until the end of the frame has been seen; those that
    /// find no place are walked twice.
    #[inline]
    fn several_changes(&mut self, begin: Event<'a>, first: Level, on_event: &mut impl FnMut(Event<'a>)) -> Option<()> {
        let (mut kept, mut has_more) = (ArrayVec::<Level, CHANGES>::new(), true);
        kept.push(first);
        while has_more && !kept.is_full() {
            let (level, more) = self.change()?;
            kept.push(level);
            has_more = more;
        }
        let (mut others, mut has_others) = (*self, has_more);
        while has_more {
            (_, has_more) = self.change()?;
        }
        let end = self.end_of_changes()?;
        on_event(begin);
        kept.iter().for_each(|level| on_event(Event::Level(*level)));
        while has_others && let Some((level, has_more)) = others.change() {
            on_event(Event::Level(level));
            has_others = has_more;
        }
        on_event(end);
        Some(())
    }

    /// From behind the last change to the end of the frame.
    #[inline]
    fn end_of_changes(&mut self) -> Option<Event<'a>> {
        self.literal(br#"],"time":""#)?;
        let time = self.time();
        if time.is_none() {
            // It may be a time out of range, which is none.
            self.text()?;
        }
        self.literal(b"}")?;
        self.end()?;
        Some(Event::BookEnd(BookEnd { checksum: None, time }))
    }

    /// One change, and whether another follows.
    #[inline(always)]
    fn change(&mut self) -> Option<(Level, bool)> {
        // Two ways through the same code: sides come in runs, and what is foreseen is not waited for.
        if self.literal(br#"["buy",""#).is_some() {
            return self.change_of(Side::Buy);
        }
        self.literal(br#"["sell",""#)?;
        self.change_of(Side::Sell)
    }

    #[inline(always)]
    fn change_of(&mut self, side: Side) -> Option<(Level, bool)> {
        let (price, size) = self.price_and_size()?;
        let has_more = self.literal(b"],").is_some();
        if !has_more {
            self.literal(b"]")?;
        }
        Some((Level::new(side, price, size).ok()?, has_more))
    }

    /// `buy"` or `sell"`.
    #[inline]
    fn side(&mut self) -> Option<Side> {
        if self.literal(b"buy\"").is_some() {
            return Some(Side::Buy);
        }
        self.literal(b"sell\"").map(|()| Side::Sell)
    }
}
