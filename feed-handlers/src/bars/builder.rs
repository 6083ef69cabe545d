//! One bar in progress. Pure.

use protocol::{Bar, Decimal, Interval, SCALE_MAX, Trade};

use super::sum::{Sum, trimmed};

/// Fractional digits of a volume-weighted mean price, beyond those of the prices.
const VWAP_DIGITS: u8 = 4;

/// The scale of a turnover that is not known, since a venue told no mean.
const UNKNOWN: u8 = u8::MAX;

/// The sums and extremes of the trades of one interval. It has at least one trade, or none of which it knows, where a venue
/// does not tell how many there were.
///
/// There are ten of them for each active instrument, so the digits of its decimals stand together: 112 bytes, not 176.
#[derive(Clone, Copy, Debug)]
pub(super) struct Builder {
    pub(super) start_ns: i64,
    /// Time of the trade that opens: the earliest, and of several the one that came first.
    open_ns: i64,
    /// Time of the trade that closes: the latest, and of several the one that came last.
    close_ns: i64,
    trades: u64,
    open: i64,
    high: i64,
    low: i64,
    close: i64,
    volume: i128,
    /// Of price times size.
    turnover: i128,
    open_scale: u8,
    high_scale: u8,
    low_scale: u8,
    close_scale: u8,
    volume_scale: u8,
    turnover_scale: u8,
    /// Most fractional digits among the prices.
    price_scale: u8,
    pub(super) interval: Interval,
}

const _: () = assert!(size_of::<Builder>() <= 112);

impl Builder {
    pub(super) fn new(interval: Interval, start_ns: i64, trade: &Trade, ts_event: i64) -> Builder {
        let (price, scale) = (trade.price.mantissa(), trade.price.scale());
        let (volume, turnover) = amounts(trade.price, trade.size);
        Builder {
            start_ns,
            open_ns: ts_event,
            close_ns: ts_event,
            trades: 1,
            open: price,
            high: price,
            low: price,
            close: price,
            volume: volume.mantissa,
            turnover: turnover.mantissa,
            open_scale: scale,
            high_scale: scale,
            low_scale: scale,
            close_scale: scale,
            volume_scale: volume.scale,
            turnover_scale: turnover.scale,
            price_scale: scale,
            interval,
        }
    }

    /// What a venue's bar tells.
    pub(super) fn of_bar(interval: Interval, bar: &Bar) -> Builder {
        let Bar { start_ns, open, high, low, close, volume, trades, vwap } = *bar;
        let (volume, turnover) = amounts(vwap, volume);
        Builder {
            start_ns,
            // Between bars, any time within them tells which is earlier.
            open_ns: start_ns,
            close_ns: start_ns,
            trades,
            open: open.mantissa(),
            high: high.mantissa(),
            low: low.mantissa(),
            close: close.mantissa(),
            volume: volume.mantissa,
            turnover: turnover.mantissa,
            open_scale: open.scale(),
            high_scale: high.scale(),
            low_scale: low.scale(),
            close_scale: close.scale(),
            volume_scale: volume.scale,
            turnover_scale: if vwap.is_zero() { UNKNOWN } else { turnover.scale },
            price_scale: [open, high, low, close].map(Decimal::scale).into_iter().max().unwrap_or_default(),
            interval,
        }
    }

    /// The bar of the longer interval that begins at `start_ns`, as far as this one makes it up.
    pub(super) fn widened(&self, interval: Interval, start_ns: i64) -> Builder {
        Builder { start_ns, interval, ..*self }
    }

    pub(super) fn end_ns(&self) -> i64 {
        self.start_ns.saturating_add(self.interval.ns())
    }

    pub(super) fn holds(&self, ts_event: i64) -> bool {
        self.start_ns <= ts_event && ts_event < self.end_ns()
    }

    pub(super) fn add(&mut self, trade: &Trade, ts_event: i64) {
        let (mantissa, scale) = (trade.price.mantissa(), trade.price.scale());
        if is_above(mantissa, scale, self.high, self.high_scale) {
            (self.high, self.high_scale) = (mantissa, scale);
        }
        if is_above(self.low, self.low_scale, mantissa, scale) {
            (self.low, self.low_scale) = (mantissa, scale);
        }
        if ts_event < self.open_ns {
            (self.open, self.open_scale, self.open_ns) = (mantissa, scale, ts_event);
        }
        if ts_event >= self.close_ns {
            (self.close, self.close_scale, self.close_ns) = (mantissa, scale, ts_event);
        }
        let (volume, turnover) = amounts(trade.price, trade.size);
        self.trades = self.trades.saturating_add(1);
        self.add_sums(scale, volume, turnover);
    }

    /// Takes in what another bar came to. Its trades are of other times than this one's, so that the order in which bars
    /// are taken in does not matter.
    pub(super) fn merge(&mut self, other: &Builder) {
        if is_above(other.high, other.high_scale, self.high, self.high_scale) {
            (self.high, self.high_scale) = (other.high, other.high_scale);
        }
        if is_above(self.low, self.low_scale, other.low, other.low_scale) {
            (self.low, self.low_scale) = (other.low, other.low_scale);
        }
        if other.open_ns < self.open_ns {
            (self.open, self.open_scale, self.open_ns) = (other.open, other.open_scale, other.open_ns);
        }
        if other.close_ns >= self.close_ns {
            (self.close, self.close_scale, self.close_ns) = (other.close, other.close_scale, other.close_ns);
        }
        let counts = self.trades > 0 && other.trades > 0;
        self.trades = if counts { self.trades.saturating_add(other.trades) } else { 0 };
        let has_mean = self.turnover_scale != UNKNOWN && other.turnover_scale != UNKNOWN;
        if !has_mean {
            (self.turnover, self.turnover_scale) = (0, 0);
        }
        let turnover = if has_mean { other.turnover() } else { Sum::default() };
        self.add_sums(other.price_scale, other.volume(), turnover);
        if !has_mean {
            self.turnover_scale = UNKNOWN;
        }
    }

    fn add_sums(&mut self, price_scale: u8, volume: Sum, turnover: Sum) {
        self.price_scale = self.price_scale.max(price_scale);
        let mut sum = self.volume();
        sum.add(volume);
        (self.volume, self.volume_scale) = (sum.mantissa, sum.scale);
        let mut sum = self.turnover();
        sum.add(turnover);
        (self.turnover, self.turnover_scale) = (sum.mantissa, sum.scale);
    }

    fn volume(&self) -> Sum {
        Sum { mantissa: self.volume, scale: self.volume_scale }
    }

    fn turnover(&self) -> Sum {
        Sum { mantissa: self.turnover, scale: self.turnover_scale }
    }

    pub(super) fn bar(&self) -> Bar {
        // Scales are those of decimals.
        let price = |mantissa, scale| Decimal::new(mantissa, scale).unwrap_or_default();
        let (high, low) = (price(self.high, self.high_scale), price(self.low, self.low_scale));
        let close = price(self.close, self.close_scale);
        let mean = (self.turnover_scale != UNKNOWN).then(|| {
            let scale = (self.price_scale + VWAP_DIGITS).min(SCALE_MAX);
            let mean = self.turnover().divided_by(self.volume(), scale).map(|mean| trimmed(mean, self.price_scale));
            // Between the two by its nature; a sum that lost digits, or a volume of zero, must not show.
            mean.unwrap_or(close).clamp(low, high)
        });
        Bar {
            start_ns: self.start_ns,
            open: price(self.open, self.open_scale),
            high,
            low,
            close,
            volume: self.volume().decimal(),
            trades: self.trades,
            vwap: mean.unwrap_or_default(),
        }
    }
}

/// Volume and turnover of what was traded at this price.
fn amounts(price: Decimal, size: Decimal) -> (Sum, Sum) {
    // Two factors below 2^63: below 2^126.
    let product = i128::from(price.mantissa()) * i128::from(size.mantissa());
    (
        Sum { mantissa: i128::from(size.mantissa()), scale: size.scale() },
        Sum { mantissa: product, scale: price.scale() + size.scale() },
    )
}

/// Whether the first decimal is the greater one.
fn is_above(a: i64, a_scale: u8, b: i64, b_scale: u8) -> bool {
    if a_scale == b_scale { a > b } else { Decimal::new(a, a_scale) > Decimal::new(b, b_scale) }
}
