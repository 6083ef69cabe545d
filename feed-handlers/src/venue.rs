//! The venues that feeds speak to: what each is called, how its frames are decoded, and what its numbers promise.
//!
//! A new venue is a decoder in `decode/`, a variant here, and a line in each table.

use crate::decode::event::Event;
use crate::decode::{DecodeError, coinbase};

/// A venue, and the dialect that its frames are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Venue {
    /// Coinbase Exchange, `ws-feed`.
    Coinbase,
}

/// What a venue's trade ids say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TradeIds {
    /// Each trade of an instrument has the next number: a hole is a loss, a repeat a duplicate.
    Contiguous,
    /// Trades of an instrument bear different numbers, in no order that could be relied on.
    Distinct,
    /// There are none.
    Absent,
}

impl Venue {
    pub const ALL: [Venue; 1] = [Venue::Coinbase];

    /// The venue as clients see it in `x`, and as configuration names it in lower case.
    pub const fn name(self) -> &'static str {
        match self {
            Venue::Coinbase => "COINBASE",
        }
    }

    pub const fn trade_ids(self) -> TradeIds {
        match self {
            Venue::Coinbase => TradeIds::Contiguous,
        }
    }

    /// Decodes one frame and hands its events to `on_event`, in order.
    ///
    /// # Errors
    /// [`DecodeError`] where the frame cannot be read. No event has been handed out then.
    pub fn decode<'a>(self, frame: &'a [u8], on_event: &mut impl FnMut(Event<'a>)) -> Result<(), DecodeError> {
        match self {
            Venue::Coinbase => coinbase::decode(frame, on_event),
        }
    }
}
