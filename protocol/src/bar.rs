//! Bars and their intervals: what the trades of one interval came to. Values only; `feed-handlers` builds them from
//! trades, or takes those that venues made.

use crate::Decimal;

/// How long a bar lasts. Intervals start at whole multiples of their length since the Unix epoch, in UTC: a day at 00:00,
/// four hours at 00:00, 04:00 and so on. Each length divides the ones after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Interval {
    Seconds5 = 0,
    Minute = 1,
    Minutes5 = 2,
    Minutes15 = 3,
    Hour = 4,
    Hours4 = 5,
    Day = 6,
}

impl Interval {
    pub const COUNT: usize = 7;
    pub const ALL: [Interval; Self::COUNT] = [
        Interval::Seconds5,
        Interval::Minute,
        Interval::Minutes5,
        Interval::Minutes15,
        Interval::Hour,
        Interval::Hours4,
        Interval::Day,
    ];

    /// As it stands in the names of channels, and in `iv`.
    pub const fn name(self) -> &'static str {
        match self {
            Interval::Seconds5 => "5s",
            Interval::Minute => "1m",
            Interval::Minutes5 => "5m",
            Interval::Minutes15 => "15m",
            Interval::Hour => "1h",
            Interval::Hours4 => "4h",
            Interval::Day => "1d",
        }
    }

    /// The interval of that name.
    pub fn from_name(name: &str) -> Option<Interval> {
        Self::ALL.into_iter().find(|interval| interval.name() == name)
    }

    /// Its length, ns.
    pub const fn ns(self) -> i64 {
        const SECOND: i64 = 1_000_000_000;
        match self {
            Interval::Seconds5 => 5 * SECOND,
            Interval::Minute => 60 * SECOND,
            Interval::Minutes5 => 300 * SECOND,
            Interval::Minutes15 => 900 * SECOND,
            Interval::Hour => 3_600 * SECOND,
            Interval::Hours4 => 14_400 * SECOND,
            Interval::Day => 86_400 * SECOND,
        }
    }
}

/// Open, high, low, close, volume, count and volume-weighted mean price of the trades of one interval.
///
/// `low <= open, close <= high`: an interval without a trade has no bar. Of a bar that is made of trades, also
/// `low <= vwap <= high` and `trades >= 1`; a venue may leave odd lots out of the one and not of the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bar {
    /// When the interval starts (inclusive), Unix ns of the venue's clock.
    pub start_ns: i64,
    /// The price of the earliest trade by the venue's time; of several at that time, of the one that came first.
    pub open: Decimal,
    pub high: Decimal,
    pub low: Decimal,
    /// The price of the latest trade by the venue's time; of several at that time, of the one that came last.
    pub close: Decimal,
    /// The exact sum of the sizes.
    pub volume: Decimal,
    /// How many trades. Zero means that the venue which made the bar did not tell it.
    pub trades: u64,
    /// Sum of price times size over volume, rounded half up at four digits behind the prices' own. Zero means that the venue
    /// which made the bar did not tell it.
    pub vwap: Decimal,
}

/// A bar that a venue made, as a tick carries it: it begins at the tick's `ts_event`.
///
/// The digits of its decimals stand together: 64 bytes instead of 112, so that no tick is larger for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VenueBar {
    trades: u64,
    /// Open, high, low, close, volume, vwap.
    mantissas: [i64; 6],
    scales: [u8; 6],
    interval: Interval,
    is_final: bool,
}

const _: () = assert!(size_of::<VenueBar>() == 64);

impl VenueBar {
    /// `bar` without its begin. `is_final` where the venue will say no more of it, but for corrections.
    pub fn new(interval: Interval, is_final: bool, bar: &Bar) -> VenueBar {
        let Bar { start_ns: _, open, high, low, close, volume, trades, vwap } = *bar;
        VenueBar::of_parts(interval, is_final, trades, [open, high, low, close, volume, vwap])
    }

    pub(crate) fn of_parts(interval: Interval, is_final: bool, trades: u64, decimals: [Decimal; 6]) -> VenueBar {
        let (mantissas, scales) = (decimals.map(Decimal::mantissa), decimals.map(Decimal::scale));
        VenueBar { trades, mantissas, scales, interval, is_final }
    }

    /// The bar that begins at `start_ns`.
    pub fn bar(&self, start_ns: i64) -> Bar {
        // The scales are those of decimals.
        let decimal = |i: usize| Decimal::new(self.mantissas[i], self.scales[i]).unwrap_or_default();
        let [open, high, low, close, volume, vwap] = std::array::from_fn(decimal);
        Bar { start_ns, open, high, low, close, volume, trades: self.trades, vwap }
    }

    /// The same bar, final.
    pub fn finished(self) -> VenueBar {
        VenueBar { is_final: true, ..self }
    }

    pub fn interval(&self) -> Interval {
        self.interval
    }

    pub fn is_final(&self) -> bool {
        self.is_final
    }

    pub(crate) fn trades(&self) -> u64 {
        self.trades
    }

    pub(crate) fn mantissas(&self) -> [i64; 6] {
        self.mantissas
    }

    /// All of them, 8 bits each.
    pub(crate) fn scales(&self) -> u64 {
        self.scales.iter().rev().fold(0, |scales, scale| scales << 8 | u64::from(*scale))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_nest_and_their_names_are_read_back() {
        for pair in Interval::ALL.windows(2) {
            assert!(pair[0].ns() < pair[1].ns() && pair[1].ns() % pair[0].ns() == 0, "{pair:?}");
        }
        for (index, interval) in Interval::ALL.into_iter().enumerate() {
            assert_eq!((Interval::from_name(interval.name()), interval as usize), (Some(interval), index));
        }
        assert_eq!(Interval::from_name("2m"), None);
    }
}
