//! Channels: what a client subscribes to, and the dense ids by which the fan-out knows them.

use crate::InstrumentId;

/// How messages of a channel are delivered to a client that cannot keep up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Every message, in order, numbered; a client that fell behind is served from the retained log.
    Sequenced,
    /// The latest value; a client that fell behind gets the newest when it can take it.
    Conflated,
}

/// The kinds of channel, named as clients name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum ChannelKind {
    Trades = 0,
    Quotes = 1,
    /// Finished one-minute bars.
    Bars = 2,
    /// The one-minute bar in progress.
    UpdatedBars = 3,
}

impl ChannelKind {
    pub const COUNT: usize = 4;
    pub const ALL: [ChannelKind; Self::COUNT] =
        [ChannelKind::Trades, ChannelKind::Quotes, ChannelKind::Bars, ChannelKind::UpdatedBars];

    /// The key under which clients list symbols of this kind.
    pub const fn name(self) -> &'static str {
        match self {
            ChannelKind::Trades => "trades",
            ChannelKind::Quotes => "quotes",
            ChannelKind::Bars => "bars",
            ChannelKind::UpdatedBars => "updatedBars",
        }
    }

    /// The kind of that name.
    pub fn from_name(name: &str) -> Option<ChannelKind> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    pub const fn class(self) -> Class {
        match self {
            ChannelKind::Trades | ChannelKind::Bars => Class::Sequenced,
            ChannelKind::Quotes | ChannelKind::UpdatedBars => Class::Conflated,
        }
    }
}

/// Whether a stream is live or held back by the configured delay. The two are separate channels, so a
/// client without real-time access never shares a subscriber list with one that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Freshness {
    RealTime = 0,
    Delayed = 1,
}

impl Freshness {
    pub const COUNT: usize = 2;
}

/// Which instruments of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Selector {
    /// `*`: every instrument, also those that appear later.
    All,
    One(InstrumentId),
}

/// What one subscription asks for, resolved against the instrument table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Channel {
    pub kind: ChannelKind,
    pub selector: Selector,
}

/// Dense index of one stream of messages: instrument, kind and freshness.
///
/// `id = (instrument * ChannelKind::COUNT + kind) * Freshness::COUNT + freshness`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelId(pub u32);

impl ChannelId {
    /// Channels that each instrument takes up.
    pub const PER_INSTRUMENT: usize = ChannelKind::COUNT * Freshness::COUNT;

    pub const fn new(instrument: InstrumentId, kind: ChannelKind, freshness: Freshness) -> ChannelId {
        let stream = instrument.0 * ChannelKind::COUNT as u32 + kind as u32;
        ChannelId(stream * Freshness::COUNT as u32 + freshness as u32)
    }

    pub const fn index(self) -> usize {
        self.0 as usize
    }

    pub const fn instrument(self) -> InstrumentId {
        InstrumentId(self.0 / Self::PER_INSTRUMENT as u32)
    }

    pub const fn kind(self) -> ChannelKind {
        ChannelKind::ALL[self.0 as usize / Freshness::COUNT % ChannelKind::COUNT]
    }

    pub const fn freshness(self) -> Freshness {
        if self.0.is_multiple_of(Freshness::COUNT as u32) { Freshness::RealTime } else { Freshness::Delayed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_dense_and_hold_their_parts() {
        let mut expected = 0;
        for instrument in (0..3).map(InstrumentId) {
            for kind in ChannelKind::ALL {
                for freshness in [Freshness::RealTime, Freshness::Delayed] {
                    let id = ChannelId::new(instrument, kind, freshness);
                    assert_eq!(id.index(), expected);
                    assert_eq!((id.instrument(), id.kind(), id.freshness()), (instrument, kind, freshness));
                    expected += 1;
                }
            }
        }
    }

    #[test]
    fn names_are_read_back() {
        for kind in ChannelKind::ALL {
            assert_eq!(ChannelKind::from_name(kind.name()), Some(kind));
        }
        assert_eq!(ChannelKind::from_name("Trades"), None);
    }
}
