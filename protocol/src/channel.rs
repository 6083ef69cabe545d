//! Channels: what a client subscribes to, and the dense ids by which the fan-out knows them.

use crate::{InstrumentId, Interval};

/// How messages of a channel are delivered to a client that cannot keep up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Every message, in order, numbered; a client that fell behind is served from the retained log.
    Sequenced,
    /// The latest value; a client that fell behind gets the newest when it can take it.
    Conflated,
}

/// The kinds of channel, named as clients name them. Their order is that of acknowledgements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum ChannelKind {
    Trades = 0,
    Quotes = 1,
    /// Finished one-minute bars.
    Bars = 2,
    /// The one-minute bar in progress, and earlier ones that a late trade has changed.
    UpdatedBars = 3,
    /// The day's bar, in progress and finished.
    DailyBars = 4,
    /// Finished bars of the other intervals.
    Bars5s = 5,
    Bars5m = 6,
    Bars15m = 7,
    Bars1h = 8,
    Bars4h = 9,
    Bars1d = 10,
    /// Indicators as of each finished bar of an interval.
    Indicators5s = 11,
    Indicators1m = 12,
    Indicators5m = 13,
    Indicators15m = 14,
    Indicators1h = 15,
    Indicators4h = 16,
    Indicators1d = 17,
    /// Trading signals, a kind for each category, so that a client without a category never stands in a list that a signal of
    /// it goes to. Clients ask for all of theirs as [`ChannelKind::SIGNALS_NAME`].
    SignalsEquity = 18,
    SignalsForex = 19,
    SignalsCrypto = 20,
    SignalsCommodity = 21,
}

impl ChannelKind {
    pub const COUNT: usize = 22;
    pub const ALL: [ChannelKind; Self::COUNT] = [
        ChannelKind::Trades,
        ChannelKind::Quotes,
        ChannelKind::Bars,
        ChannelKind::UpdatedBars,
        ChannelKind::DailyBars,
        ChannelKind::Bars5s,
        ChannelKind::Bars5m,
        ChannelKind::Bars15m,
        ChannelKind::Bars1h,
        ChannelKind::Bars4h,
        ChannelKind::Bars1d,
        ChannelKind::Indicators5s,
        ChannelKind::Indicators1m,
        ChannelKind::Indicators5m,
        ChannelKind::Indicators15m,
        ChannelKind::Indicators1h,
        ChannelKind::Indicators4h,
        ChannelKind::Indicators1d,
        ChannelKind::SignalsEquity,
        ChannelKind::SignalsForex,
        ChannelKind::SignalsCrypto,
        ChannelKind::SignalsCommodity,
    ];

    /// How many kinds are of [`Class::Conflated`].
    pub const CONFLATED_COUNT: usize = 3;

    /// The key under which clients list symbols of this kind.
    pub const fn name(self) -> &'static str {
        match self {
            ChannelKind::Trades => "trades",
            ChannelKind::Quotes => "quotes",
            ChannelKind::Bars => "bars",
            ChannelKind::UpdatedBars => "updatedBars",
            ChannelKind::DailyBars => "dailyBars",
            ChannelKind::Bars5s => "bars.5s",
            ChannelKind::Bars5m => "bars.5m",
            ChannelKind::Bars15m => "bars.15m",
            ChannelKind::Bars1h => "bars.1h",
            ChannelKind::Bars4h => "bars.4h",
            ChannelKind::Bars1d => "bars.1d",
            ChannelKind::Indicators5s => "indicators.5s",
            ChannelKind::Indicators1m => "indicators.1m",
            ChannelKind::Indicators5m => "indicators.5m",
            ChannelKind::Indicators15m => "indicators.15m",
            ChannelKind::Indicators1h => "indicators.1h",
            ChannelKind::Indicators4h => "indicators.4h",
            ChannelKind::Indicators1d => "indicators.1d",
            ChannelKind::SignalsEquity => "signals.equity",
            ChannelKind::SignalsForex => "signals.forex",
            ChannelKind::SignalsCrypto => "signals.crypto",
            ChannelKind::SignalsCommodity => "signals.commodity",
        }
    }

    /// The kind of that name. `bars.1m` is another name of `bars`.
    pub fn from_name(name: &str) -> Option<ChannelKind> {
        let name = if name == "bars.1m" { "bars" } else { name };
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    pub const fn class(self) -> Class {
        match self.conflated_index() {
            None => Class::Sequenced,
            Some(_) => Class::Conflated,
        }
    }

    /// Where a conflated kind stands among its like, below [`Self::CONFLATED_COUNT`]; `None` for a sequenced one.
    pub const fn conflated_index(self) -> Option<usize> {
        match self {
            ChannelKind::Quotes => Some(0),
            ChannelKind::UpdatedBars => Some(1),
            ChannelKind::DailyBars => Some(2),
            _ => None,
        }
    }

    /// The conflated kinds by [`Self::conflated_index`].
    pub const CONFLATED: [ChannelKind; Self::CONFLATED_COUNT] =
        [ChannelKind::Quotes, ChannelKind::UpdatedBars, ChannelKind::DailyBars];

    /// Finished bars of the interval.
    pub const fn bars(interval: Interval) -> ChannelKind {
        match interval {
            Interval::Seconds5 => ChannelKind::Bars5s,
            Interval::Minute => ChannelKind::Bars,
            Interval::Minutes5 => ChannelKind::Bars5m,
            Interval::Minutes15 => ChannelKind::Bars15m,
            Interval::Hour => ChannelKind::Bars1h,
            Interval::Hours4 => ChannelKind::Bars4h,
            Interval::Day => ChannelKind::Bars1d,
        }
    }

    /// Indicators of the interval.
    pub const fn indicators(interval: Interval) -> ChannelKind {
        match interval {
            Interval::Seconds5 => ChannelKind::Indicators5s,
            Interval::Minute => ChannelKind::Indicators1m,
            Interval::Minutes5 => ChannelKind::Indicators5m,
            Interval::Minutes15 => ChannelKind::Indicators15m,
            Interval::Hour => ChannelKind::Indicators1h,
            Interval::Hours4 => ChannelKind::Indicators4h,
            Interval::Day => ChannelKind::Indicators1d,
        }
    }

    /// The interval of the kind's bars or indicators; `None` of what has no bars.
    pub const fn interval(self) -> Option<Interval> {
        Some(match self {
            ChannelKind::Trades | ChannelKind::Quotes => return None,
            ChannelKind::SignalsEquity
            | ChannelKind::SignalsForex
            | ChannelKind::SignalsCrypto
            | ChannelKind::SignalsCommodity => return None,
            ChannelKind::Bars5s | ChannelKind::Indicators5s => Interval::Seconds5,
            ChannelKind::Bars | ChannelKind::UpdatedBars | ChannelKind::Indicators1m => Interval::Minute,
            ChannelKind::Bars5m | ChannelKind::Indicators5m => Interval::Minutes5,
            ChannelKind::Bars15m | ChannelKind::Indicators15m => Interval::Minutes15,
            ChannelKind::Bars1h | ChannelKind::Indicators1h => Interval::Hour,
            ChannelKind::Bars4h | ChannelKind::Indicators4h => Interval::Hours4,
            ChannelKind::Bars1d | ChannelKind::DailyBars | ChannelKind::Indicators1d => Interval::Day,
        })
    }

    /// The key under which clients ask for signals, whatever their category.
    pub const SIGNALS_NAME: &'static str = "signals";

    /// The kinds of signals.
    pub const SIGNALS: [ChannelKind; 4] = [
        ChannelKind::SignalsEquity,
        ChannelKind::SignalsForex,
        ChannelKind::SignalsCrypto,
        ChannelKind::SignalsCommodity,
    ];

    /// Whether it is one of [`Self::SIGNALS`].
    pub const fn is_signals(self) -> bool {
        self as u8 >= ChannelKind::SignalsEquity as u8
    }

    /// The kinds that a name stands for: those of all categories for [`Self::SIGNALS_NAME`], else one; none for a name of
    /// nothing.
    pub fn all_of_name(name: &str) -> &'static [ChannelKind] {
        if name == Self::SIGNALS_NAME {
            return &Self::SIGNALS;
        }
        let kind = Self::from_name(name);
        kind.and_then(|kind| Self::ALL.get(kind as usize..=kind as usize)).unwrap_or_default()
    }

    /// Whether an acknowledgement has the key also where it lists nothing: Alpaca's clients look for these.
    pub const fn is_always_listed(self) -> bool {
        matches!(self, ChannelKind::Trades | ChannelKind::Quotes | ChannelKind::Bars | ChannelKind::UpdatedBars)
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
        assert_eq!(ChannelKind::from_name("bars.1m"), Some(ChannelKind::Bars));
        assert_eq!(ChannelKind::from_name("Trades"), None);
        assert_eq!(ChannelKind::from_name("indicators"), None);
    }

    #[test]
    fn signals_are_a_kind_for_each_category() {
        let signals: Vec<_> = ChannelKind::ALL.into_iter().filter(|kind| kind.is_signals()).collect();
        assert_eq!(signals, ChannelKind::SIGNALS);
        assert!(signals.iter().all(|kind| kind.class() == Class::Sequenced && kind.interval().is_none()));
        assert_eq!(ChannelKind::all_of_name("signals"), ChannelKind::SIGNALS);
        assert_eq!(ChannelKind::all_of_name("signals.crypto"), [ChannelKind::SignalsCrypto]);
        assert_eq!(ChannelKind::all_of_name("bars.1m"), [ChannelKind::Bars]);
        assert!(ChannelKind::all_of_name("signal").is_empty());
    }

    #[test]
    fn conflated_kinds_are_numbered_and_intervals_have_their_kinds() {
        let conflated: Vec<_> = ChannelKind::ALL.into_iter().filter(|kind| kind.class() == Class::Conflated).collect();
        assert_eq!(conflated, ChannelKind::CONFLATED);
        for (index, kind) in ChannelKind::CONFLATED.into_iter().enumerate() {
            assert_eq!(kind.conflated_index(), Some(index));
        }
        for interval in Interval::ALL {
            for kind in [ChannelKind::bars(interval), ChannelKind::indicators(interval)] {
                assert_eq!((kind.interval(), kind.class()), (Some(interval), Class::Sequenced));
                assert!(kind == ChannelKind::Bars || kind.name().ends_with(&format!(".{}", interval.name())));
            }
        }
    }
}
