//! The frames that come all the time, read by the layout in which the venue writes them.
//!
//! `match`, `ticker` and `l2update` are nearly all that the venue sends, and it has written each with the same keys in the
//! same order for years. Compared piece by piece with what is expected, such a frame is read once and from front to
//! back, several times faster than by its grammar. Whatever does not fit, be it one space more, a key less, an escape, or
//! a number that is none, is `None` here and read by its grammar instead: this file decides how fast a frame is
//! read, never what it says.

use protocol::{Decimal, Side, parse_rfc3339};

use super::Reason;
use crate::decode::event::{Age, BookBegin, BookEnd, BookScope, Event, Level, Part, Quote, Symbol, Top, Trade};
use crate::decode::field::number;
use crate::decode::json::{plain_end, special_bytes};

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

/// Digits that a decimal and an integer may have here: so many fit an `i64` whatever they are.
const DIGITS_MAX: usize = 18;

/// Bytes of `2021-04-17T16:43:37.075687Z`, as which nearly all times are written.
const TIME_BYTES: usize = 27;

const POWERS: [u64; DIGITS_MAX + 1] = {
    let mut powers = [1; DIGITS_MAX + 1];
    let mut i = 1;
    while i < powers.len() {
        powers[i] = powers[i - 1] * 10;
        i += 1;
    }
    powers
};

/// The number that the digits at the beginning of `bytes` make, and how many they are. More than [`DIGITS_MAX`] make
/// some number or other.
///
/// Eight digits at a time, without a branch for each: a price has from three to ten, in no order that a processor
/// could foresee.
#[inline]
fn digits(bytes: &[u8]) -> (u64, usize) {
    const HIGHS: u64 = u64::from_le_bytes([0x80; 8]);
    let (mut value, mut count) = (0u64, 0);
    while let Some(chunk) = bytes.get(count..).and_then(<[u8]>::first_chunk::<8>) {
        // Digits become 0 to 9, all else more.
        let word = u64::from_le_bytes(*chunk) ^ u64::from_le_bytes([b'0'; 8]);
        // The lowest bit set marks the first that is more than 9; bits above it may be wrong through the carry.
        let others = (word.wrapping_add(u64::from_le_bytes([0x76; 8])) | word) & HIGHS;
        let n = others.trailing_zeros() as usize / 8;
        if n == 0 {
            return (value, count);
        }
        value = value.wrapping_mul(POWERS[n]).wrapping_add(eight_digits(word << (8 * (8 - n))));
        count += n;
        if n < 8 {
            return (value, count);
        }
    }
    while let Some(digit) = bytes.get(count).map(|byte| byte.wrapping_sub(b'0')).filter(|digit| *digit <= 9) {
        value = value.wrapping_mul(10).wrapping_add(u64::from(digit));
        count += 1;
    }
    (value, count)
}

/// The number that eight digits make, one in each byte, the first in the lowest. Neighbours are joined, then pairs, then
/// fours. <https://johnnylee-sde.github.io/Fast-numeric-string-to-int/>
#[inline]
const fn eight_digits(word: u64) -> u64 {
    const PAIRS: u64 = 0x0000_00ff_0000_00ff;
    let pairs = word.wrapping_mul(10).wrapping_add(word >> 8);
    let low = (pairs & PAIRS).wrapping_mul(100 + (1_000_000 << 32));
    let high = (pairs >> 16 & PAIRS).wrapping_mul(1 + (10_000 << 32));
    low.wrapping_add(high) >> 32
}

/// What is left of the frame.
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
    #[inline]
    fn text(&mut self) -> Option<&'a [u8]> {
        let end = plain_end(self.rest, 0);
        let (text, rest) = self.rest.split_at_checked(end)?;
        self.rest = rest;
        self.literal(b"\"")?;
        Some(text)
    }

    /// The text of `N` bytes, at least 8, up to a quote, over which it steps.
    #[inline]
    fn text_of<const N: usize>(&mut self) -> Option<()> {
        let (text, rest) = self.rest.split_first_chunk::<N>()?;
        // Words that overlap at the end, and one branch for all of them.
        let mut special = 0;
        for at in (0..N - 7).step_by(8).chain([N - 8]) {
            special |= special_bytes(u64::from_le_bytes(*text[at..].first_chunk()?));
        }
        if special != 0 {
            return None;
        }
        self.rest = rest;
        self.literal(b"\"")
    }

    /// An integer of at most 18 digits, as JSON writes it.
    #[inline]
    fn integer(&mut self) -> Option<u64> {
        let (value, count) = digits(self.rest);
        let is_plain = matches!(count, 1..=DIGITS_MAX) && (self.rest[0] != b'0' || count == 1);
        self.rest = self.rest.get(count..)?;
        is_plain.then_some(value)
    }

    /// A decimal of at most 18 digits, without a sign or an exponent, up to a quote, over which it steps.
    #[inline]
    fn decimal(&mut self) -> Option<Decimal> {
        let (mut mantissa, mut count) = digits(self.rest);
        let mut rest = self.rest.get(count..)?;
        let mut scale = 0;
        if let [b'.', fraction @ ..] = rest {
            let (value, places) = digits(fraction);
            if places == 0 || count == 0 || count + places > DIGITS_MAX {
                return None;
            }
            mantissa = mantissa * POWERS[places] + value;
            (scale, count) = (places, count + places);
            rest = fraction.get(places..)?;
        }
        let decimal = Decimal::new(i64::try_from(mantissa).ok()?, u8::try_from(scale).ok()?)?;
        self.rest = rest;
        self.literal(b"\"")?;
        matches!(count, 1..=DIGITS_MAX).then_some(decimal)
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
    #[inline]
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
    #[inline]
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

    /// From behind `"product_id":"` on. Nothing is handed out before all of the frame is in the layout, so several changes
    /// are walked twice.
    #[inline]
    fn changes(&mut self, on_event: &mut impl FnMut(Event<'a>)) -> Option<()> {
        let symbol = Symbol::Text(self.text()?);
        self.literal(br#","changes":["#)?;
        let begin = Event::BookBegin(BookBegin { symbol, scope: BookScope::Change, updates: None });
        let event = |level| match level {
            Ok(level) => Event::Level(level),
            Err(reason) => Event::Invalid { symbol: Some(symbol), part: Part::Level, reason },
        };
        let mut changes = *self;
        let (first, mut has_more) = self.change()?;
        let is_only = !has_more;
        while has_more {
            has_more = self.skip_change()?;
        }
        let end = self.end_of_changes()?;
        on_event(begin);
        if is_only {
            on_event(event(first));
        } else {
            while let Some((level, has_more)) = changes.change() {
                on_event(event(level));
                if !has_more {
                    break;
                }
            }
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

    /// One change, whose numbers may be none, and whether another follows.
    #[inline]
    fn change(&mut self) -> Option<(Result<Level, Reason>, bool)> {
        self.literal(br#"[""#)?;
        let side = self.side()?;
        self.literal(br#",""#)?;
        let price = self.any_decimal()?;
        self.literal(br#",""#)?;
        let size = self.any_decimal()?;
        let has_more = self.end_of_change()?;
        Some((price.and_then(|price| Level::new(side, price, size?)), has_more))
    }

    #[inline]
    fn skip_change(&mut self) -> Option<bool> {
        self.literal(br#"[""#)?;
        self.side()?;
        self.literal(br#",""#)?;
        self.text()?;
        self.literal(br#",""#)?;
        self.text()?;
        self.end_of_change()
    }

    /// The end of a change, and whether another follows.
    #[inline]
    fn end_of_change(&mut self) -> Option<bool> {
        self.literal(b"]")?;
        Some(self.literal(b",").is_some())
    }

    /// A text up to a quote, over which it steps, as a decimal if it is one.
    #[inline]
    fn any_decimal(&mut self) -> Option<Result<Decimal, Reason>> {
        let mut plain = *self;
        if let Some(decimal) = plain.decimal() {
            *self = plain;
            return Some(Ok(decimal));
        }
        Some(number(self.text()?))
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
