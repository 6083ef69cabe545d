//! The tick: one normalised market event, `Copy` and of fixed size, as it travels from a feed to the
//! sequencer.

use crate::{Decimal, InstrumentId, Interval, VenueBar};

/// Which configured source a tick came from: its index in the order of configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SourceId(pub u8);

/// The side of the order that took liquidity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Side {
    Buy = 0,
    Sell = 1,
}

impl Side {
    pub const fn opposite(self) -> Side {
        match self {
            Side::Buy => Side::Sell,
            Side::Sell => Side::Buy,
        }
    }
}

/// A trade, with the venue's exact digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trade {
    /// The venue's number of the trade, contiguous per instrument where the venue numbers trades so. `None` where it
    /// gives none.
    pub id: Option<u64>,
    pub price: Decimal,
    pub size: Decimal,
    /// `None` where the venue does not tell it.
    pub taker: Option<Side>,
}

/// Best bid and ask. A zero size means that the venue did not tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quote {
    pub bid: Decimal,
    pub bid_size: Decimal,
    pub ask: Decimal,
    pub ask_size: Decimal,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TickBody {
    Trade(Trade),
    Quote(Quote),
    /// The venue made a bar, which begins at `ts_event`.
    Bar(VenueBar),
    /// The venue's own numbering shows that trades are missing before this point; `missed >= 1`.
    Gap {
        missed: u64,
    },
    /// Nothing happened at the venue up to `ts_event`; carries the clock of the venue forward.
    Heartbeat,
}

/// What there is to say of a tick beside what happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TickFlags {
    /// The price is far from the last one of its instrument and source.
    pub outlier: bool,
    /// From a source that makes its data up.
    pub mock: bool,
}

impl TickFlags {
    /// Nothing to say.
    pub const NONE: TickFlags = TickFlags { outlier: false, mock: false };
}

/// One normalised market event. At most 128 bytes (see `TICK_WORDS`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tick {
    pub instrument: InstrumentId,
    pub source: SourceId,
    pub flags: TickFlags,
    /// The venue's time of the event, Unix ns.
    pub ts_event: i64,
    /// When our socket read returned the frame, Unix ns of this machine's clock.
    pub ts_recv: i64,
    pub body: TickBody,
}

/// Words of a tick in a ring slot: a slot is these and its sequence word, two cache lines together.
/// head + ts_event + ts_recv + number + scales + 6 mantissas.
pub const TICK_WORDS: usize = 11;

const TRADE: u64 = 0;
const QUOTE: u64 = 1;
const GAP: u64 = 2;
const HEARTBEAT: u64 = 3;
const BAR: u64 = 4;

/// Where the parts of word 0 begin: the instrument is in bits 0 to 31.
const SOURCE_BIT: u32 = 32;
const BODY_BIT: u32 = 40;
const TAKER_BIT: u32 = 43;
const NUMBERED_BIT: u32 = 45;
const OUTLIER_BIT: u32 = 46;
const MOCK_BIT: u32 = 47;
const INTERVAL_BIT: u32 = 48;
const FINAL_BIT: u32 = 51;

/// Where the decimals are.
const SCALES_WORD: usize = 4;
const MANTISSAS_WORD: usize = 5;

impl Tick {
    /// Packs the tick into words for a ring slot.
    ///
    /// Word 0 holds instrument, source, kind of body and flags, for a bar also its interval and whether it is final; word 3
    /// the trade's id, a bar's trades or how many were missed; word 4 the scales of the decimals, 8 bits each, and the words
    /// from 5 on their mantissas.
    pub fn to_words(&self) -> [u64; TICK_WORDS] {
        let mut words = [0u64; TICK_WORDS];
        let (kind, number) = match self.body {
            TickBody::Trade(trade) => {
                put_decimals(&mut words, [trade.price, trade.size]);
                let taker = trade.taker.map_or(0, |side| 1 + side as u64);
                (TRADE | taker << (TAKER_BIT - BODY_BIT), trade.id)
            }
            TickBody::Quote(quote) => {
                put_decimals(&mut words, [quote.bid, quote.bid_size, quote.ask, quote.ask_size]);
                (QUOTE, None)
            }
            TickBody::Bar(bar) => {
                words[SCALES_WORD] = bar.scales();
                for (word, mantissa) in words[MANTISSAS_WORD..].iter_mut().zip(bar.mantissas()) {
                    *word = mantissa as u64;
                }
                let interval = (bar.interval() as u64) << (INTERVAL_BIT - BODY_BIT);
                let is_final = u64::from(bar.is_final()) << (FINAL_BIT - BODY_BIT);
                (BAR | interval | is_final, Some(bar.trades()))
            }
            TickBody::Gap { missed } => (GAP, Some(missed)),
            TickBody::Heartbeat => (HEARTBEAT, None),
        };
        words[0] = u64::from(self.instrument.0)
            | u64::from(self.source.0) << SOURCE_BIT
            | kind << BODY_BIT
            | u64::from(number.is_some()) << NUMBERED_BIT
            | u64::from(self.flags.outlier) << OUTLIER_BIT
            | u64::from(self.flags.mock) << MOCK_BIT;
        words[1] = self.ts_event as u64;
        words[2] = self.ts_recv as u64;
        words[3] = number.unwrap_or(0);
        words
    }

    /// Unpacks what [`Self::to_words`] packed. Words of any other origin give some tick or other, never a
    /// panic.
    pub fn from_words(words: &[u64; TICK_WORDS]) -> Tick {
        let head = words[0];
        let bit = |bit: u32| head >> bit & 1 == 1;
        let decimal = |i: usize| decimal(words, i);
        let body = match head >> BODY_BIT & 7 {
            TRADE => TickBody::Trade(Trade {
                id: bit(NUMBERED_BIT).then_some(words[3]),
                price: decimal(0),
                size: decimal(1),
                taker: match head >> TAKER_BIT & 3 {
                    1 => Some(Side::Buy),
                    2 => Some(Side::Sell),
                    _ => None,
                },
            }),
            QUOTE => {
                TickBody::Quote(Quote { bid: decimal(0), bid_size: decimal(1), ask: decimal(2), ask_size: decimal(3) })
            }
            BAR => TickBody::Bar(venue_bar(words)),
            GAP => TickBody::Gap { missed: words[3] },
            _ => TickBody::Heartbeat,
        };
        Tick {
            instrument: InstrumentId(head as u32),
            source: SourceId((head >> SOURCE_BIT) as u8),
            flags: TickFlags { outlier: bit(OUTLIER_BIT), mock: bit(MOCK_BIT) },
            ts_event: words[1] as i64,
            ts_recv: words[2] as i64,
            body,
        }
    }
}

/// Apart from the rest, since it is much more to unpack, and seldom: one in thousands of ticks.
#[cold]
#[inline(never)]
fn venue_bar(words: &[u64; TICK_WORDS]) -> VenueBar {
    let interval = Interval::ALL.get((words[0] >> INTERVAL_BIT & 7) as usize).copied().unwrap_or(Interval::Day);
    let is_final = words[0] >> FINAL_BIT & 1 == 1;
    VenueBar::of_parts(interval, is_final, words[3], std::array::from_fn(|i| decimal(words, i)))
}

fn decimal(words: &[u64; TICK_WORDS], i: usize) -> Decimal {
    Decimal::new(words[MANTISSAS_WORD + i] as i64, (words[SCALES_WORD] >> (8 * i)) as u8).unwrap_or_default()
}

fn put_decimals<const N: usize>(words: &mut [u64; TICK_WORDS], decimals: [Decimal; N]) {
    for (i, decimal) in decimals.iter().enumerate() {
        words[MANTISSAS_WORD + i] = decimal.mantissa() as u64;
        words[SCALES_WORD] |= u64::from(decimal.scale()) << (8 * i);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decimals() -> impl Strategy<Value = Decimal> {
        (any::<i64>(), 0u8..=18).prop_map(|(mantissa, scale)| Decimal::new(mantissa, scale).unwrap())
    }

    fn sides() -> impl Strategy<Value = Option<Side>> {
        prop_oneof![Just(None), Just(Some(Side::Buy)), Just(Some(Side::Sell))]
    }

    fn bodies() -> impl Strategy<Value = TickBody> {
        prop_oneof![
            (any::<Option<u64>>(), decimals(), decimals(), sides())
                .prop_map(|(id, price, size, taker)| TickBody::Trade(Trade { id, price, size, taker })),
            (decimals(), decimals(), decimals(), decimals())
                .prop_map(|(bid, bid_size, ask, ask_size)| TickBody::Quote(Quote { bid, bid_size, ask, ask_size })),
            (0..Interval::COUNT, any::<bool>(), any::<u64>(), prop::array::uniform6(decimals())).prop_map(
                |(interval, is_final, trades, decimals)| {
                    TickBody::Bar(VenueBar::of_parts(Interval::ALL[interval], is_final, trades, decimals))
                }
            ),
            any::<u64>().prop_map(|missed| TickBody::Gap { missed }),
            Just(TickBody::Heartbeat),
        ]
    }

    proptest! {
        #[test]
        fn words_round_trip(head: (u32, u8, bool, bool), ts_event: i64, ts_recv: i64, body in bodies()) {
            let (instrument, source, outlier, mock) = head;
            let (instrument, source) = (InstrumentId(instrument), SourceId(source));
            let flags = TickFlags { outlier, mock };
            let tick = Tick { instrument, source, flags, ts_event, ts_recv, body };
            let again = Tick::from_words(&tick.to_words());
            prop_assert_eq!(again, tick);
            prop_assert_eq!(again.to_words(), tick.to_words());
        }

        #[test]
        fn any_words_are_some_tick(words: [u64; TICK_WORDS]) {
            let _ = Tick::from_words(&words);
        }
    }

    #[test]
    fn a_tick_is_small() {
        assert!(size_of::<Tick>() <= 128);
        const { assert!((TICK_WORDS + 1) * 8 <= 128) };
    }
}
