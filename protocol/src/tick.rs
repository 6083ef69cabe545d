//! The tick: one normalised market event, `Copy` and of fixed size, as it travels from a feed to the
//! sequencer.

use crate::{Decimal, InstrumentId};

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

/// A trade, with the venue's exact digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trade {
    /// The venue's trade id, contiguous per product where the venue numbers trades.
    pub id: u64,
    pub price: Decimal,
    pub size: Decimal,
    pub taker: Side,
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
    /// The venue's own numbering shows that trades are missing before this point; `missed >= 1`.
    Gap {
        missed: u64,
    },
    /// Nothing happened at the venue up to `ts_event`; carries the clock of the venue forward.
    Heartbeat,
}

/// One normalised market event. At most 128 bytes (see `TICK_WORDS`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tick {
    pub instrument: InstrumentId,
    pub source: SourceId,
    /// The venue's time of the event, Unix ns.
    pub ts_event: i64,
    /// When our socket read returned the frame, Unix ns of this machine's clock.
    pub ts_recv: i64,
    pub body: TickBody,
}

/// Words of a tick in a ring slot: a slot is these and its sequence word, two cache lines together.
/// head + ts_event + ts_recv + 4 * mantissa + trade id = 8 words used at most.
pub const TICK_WORDS: usize = 8;

const TRADE: u64 = 0;
const QUOTE: u64 = 1;
const GAP: u64 = 2;
const HEARTBEAT: u64 = 3;

impl Tick {
    /// Packs the tick into words for a ring slot.
    ///
    /// Word 0: instrument in bits 0..32, source in 32..40, body tag in 40..42, taker in 42, and four scales
    /// of 5 bits each from bit 43.
    pub fn to_words(&self) -> [u64; TICK_WORDS] {
        let mut words = [0u64; TICK_WORDS];
        let (tag, taker, decimals, extra) = match self.body {
            TickBody::Trade(t) => (TRADE, t.taker as u64, [t.price, t.size, Decimal::ZERO, Decimal::ZERO], t.id),
            TickBody::Quote(q) => (QUOTE, 0, [q.bid, q.bid_size, q.ask, q.ask_size], 0),
            TickBody::Gap { missed } => (GAP, 0, [Decimal::ZERO; 4], missed),
            TickBody::Heartbeat => (HEARTBEAT, 0, [Decimal::ZERO; 4], 0),
        };
        words[0] = u64::from(self.instrument.0) | u64::from(self.source.0) << 32 | tag << 40 | taker << 42;
        words[1] = self.ts_event as u64;
        words[2] = self.ts_recv as u64;
        words[3] = extra;
        for (i, decimal) in decimals.iter().enumerate() {
            words[0] |= u64::from(decimal.scale()) << (43 + 5 * i);
            words[4 + i] = decimal.mantissa() as u64;
        }
        words
    }

    /// Unpacks what [`Self::to_words`] packed. Words of any other origin give some tick or other, never a
    /// panic.
    pub fn from_words(words: &[u64; TICK_WORDS]) -> Tick {
        let head = words[0];
        let decimal =
            |i: usize| Decimal::new(words[4 + i] as i64, (head >> (43 + 5 * i) & 31) as u8).unwrap_or_default();
        let body = match head >> 40 & 3 {
            TRADE => TickBody::Trade(Trade {
                id: words[3],
                price: decimal(0),
                size: decimal(1),
                taker: if head >> 42 & 1 == 0 { Side::Buy } else { Side::Sell },
            }),
            QUOTE => {
                TickBody::Quote(Quote { bid: decimal(0), bid_size: decimal(1), ask: decimal(2), ask_size: decimal(3) })
            }
            GAP => TickBody::Gap { missed: words[3] },
            _ => TickBody::Heartbeat,
        };
        Tick {
            instrument: InstrumentId(head as u32),
            source: SourceId((head >> 32) as u8),
            ts_event: words[1] as i64,
            ts_recv: words[2] as i64,
            body,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decimals() -> impl Strategy<Value = Decimal> {
        (any::<i64>(), 0u8..=18).prop_map(|(mantissa, scale)| Decimal::new(mantissa, scale).unwrap())
    }

    fn bodies() -> impl Strategy<Value = TickBody> {
        prop_oneof![
            (any::<u64>(), decimals(), decimals(), any::<bool>()).prop_map(|(id, price, size, buy)| {
                TickBody::Trade(Trade { id, price, size, taker: if buy { Side::Buy } else { Side::Sell } })
            }),
            (decimals(), decimals(), decimals(), decimals())
                .prop_map(|(bid, bid_size, ask, ask_size)| TickBody::Quote(Quote { bid, bid_size, ask, ask_size })),
            any::<u64>().prop_map(|missed| TickBody::Gap { missed }),
            Just(TickBody::Heartbeat),
        ]
    }

    proptest! {
        #[test]
        fn words_round_trip(instrument: u32, source: u8, ts_event: i64, ts_recv: i64, body in bodies()) {
            let tick = Tick { instrument: InstrumentId(instrument), source: SourceId(source), ts_event, ts_recv, body };
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
