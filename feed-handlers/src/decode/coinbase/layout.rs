//! The frames that come all the time, read by the layout in which the venue writes them.
//!
//! `match`, `ticker` and `l2update` are nearly all that the venue sends, and it has written each with the same keys in the
//! same order for years. Compared piece by piece with what is expected, such a frame is read once and from front to
//! back, several times faster than by its grammar. Whatever does not fit, be it one space more, a key less, an escape, or
//! a number that is none, is `None` here and read by its grammar instead: this file decides how fast a frame is
//! read, never what it says.

use arrayvec::ArrayVec;
use protocol::{Decimal, Side, eight_digits, parse_rfc3339};

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

const POWERS: [u64; LANES] = {
    let mut powers = [1; LANES];
    let mut i = 1;
    while i < LANES {
        powers[i] = powers[i - 1] * 10;
        i += 1;
    }
    powers
};

/// The number that the first `count` bytes make, all of them digits. `1 <= count < LANES`.
#[inline]
fn number_of(bytes: &[u8; LANES], count: usize) -> u64 {
    debug_assert!((1..LANES).contains(&count));
    // What is no digit is shifted out, and zeros are shifted in before the first.
    let digits = u128::from_le_bytes(*bytes) ^ u128::from_le_bytes([b'0'; LANES]);
    if count <= 8 {
        return eight_digits((digits as u64) << (8 * (8 - count)));
    }
    sixteen_digits(digits << (8 * (LANES - count)))
}

/// As [`eight_digits`]; rare, and so out of the way.
#[cold]
fn sixteen_digits(digits: u128) -> u64 {
    eight_digits(digits as u64) * POWERS[8] + eight_digits((digits >> 64) as u64)
}

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
        self.rest = &self.rest[count..];
        Some(number_of(lanes, count))
    }

    /// A decimal without a sign or an exponent up to a quote, over which it steps.
    #[inline(always)]
    fn decimal(&mut self) -> Option<Decimal> {
        match self.short_decimal() {
            Some(decimal) => Some(decimal),
            None => self.long_decimal(),
        }
    }

    #[cold]
    fn long_decimal(&mut self) -> Option<Decimal> {
        Decimal::parse(self.text()?).ok()
    }

    /// One that takes at most [`LANES`] bytes with its quote. Where there is none, nothing is stepped over.
    ///
    /// Where it ends, and so where the next field begins, is known before its value is.
    #[inline(always)]
    fn short_decimal(&mut self) -> Option<Decimal> {
        let lanes = self.rest.first_chunk()?;
        let others = no_digits(lanes);
        let whole = others.trailing_zeros() as usize;
        if !matches!(whole, 1..LANES) {
            return None;
        }
        let mut mantissa = number_of(lanes, whole);
        let (mut end, mut places) = (whole, 0);
        if lanes[whole] == b'.' {
            end = (others & (others - 1)).trailing_zeros() as usize;
            places = end - whole - 1;
            if places == 0 || end >= LANES {
                return None;
            }
            mantissa = mantissa * POWERS[places] + number_of(self.rest[whole + 1..].first_chunk()?, places);
        }
        if lanes[end] != b'"' {
            return None;
        }
        let decimal = Decimal::new(mantissa as i64, places as u8)?;
        self.rest = &self.rest[end + 1..];
        Some(decimal)
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
        let side = self.side_of_change()?;
        let price = self.decimal()?;
        self.literal(br#",""#)?;
        let size = self.decimal()?;
        let has_more = self.literal(b"],").is_some();
        if !has_more {
            self.literal(b"]")?;
        }
        Some((Level::new(side, price, size).ok()?, has_more))
    }

    /// `["buy","` or `["sell","`.
    #[inline]
    fn side_of_change(&mut self) -> Option<Side> {
        if self.literal(br#"["buy",""#).is_some() {
            return Some(Side::Buy);
        }
        self.literal(br#"["sell",""#).map(|()| Side::Sell)
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
