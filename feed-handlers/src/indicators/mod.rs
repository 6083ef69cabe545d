//! Technical indicators of finished bars: moving averages, RSI, MACD, Bollinger bands, ATR, ADX.
//!
//! Pure, owned by whoever takes the sequencer's turn. A bar costs the same however long its series is, and a series holds
//! its last 50 closes and some sums. Values, and the bar from which on there is one, are those of TA-Lib, as
//! `tests/indicators.rs` checks against it to nine digits. It departs from TA-Lib in two things, both where prices are
//! tiny: TA-Lib takes what is below `1e-14` for zero, which for a coin of 0.00001 it is not; and its Bollinger bands take
//! the difference of two large sums, where these are exact.
//!
//! Deliberately absent: periods other than the platform's, and bars where nothing was traded; an indicator counts bars.

mod closes;

use protocol::{Bar, Bollinger, Indicators, InstrumentId, Interval, Macd, Rsi, RsiSignal};

use self::closes::Closes;

const SHORT: usize = 20;
const LONG: usize = 50;
/// Widths of Bollinger bands to either side, standard deviations.
const DEVIATIONS: f64 = 2.0;
const FAST: usize = 12;
const SLOW: usize = 26;
const SIGNAL: usize = 9;
/// Wilder's period, of RSI, ATR and ADX.
const WILDER: u32 = 14;
const OVERBOUGHT: f64 = 70.0;
const OVERSOLD: f64 = 30.0;

/// The series of all instruments and intervals.
///
/// Memory: 8 bytes for an instrument and interval, and from its first bar on about 200 bytes and another 200 as its window of
/// closes fills, which takes 50 bars.
#[derive(Debug)]
pub struct IndicatorTable {
    series: [Vec<Option<Box<Series>>>; Interval::COUNT],
}

impl Default for IndicatorTable {
    fn default() -> IndicatorTable {
        IndicatorTable { series: std::array::from_fn(|_| Vec::new()) }
    }
}

impl IndicatorTable {
    /// Takes in the instrument's next finished bar of the interval.
    pub fn on_bar(&mut self, instrument: InstrumentId, interval: Interval, bar: &Bar) -> Indicators {
        let series = &mut self.series[interval as usize];
        if series.len() <= instrument.index() {
            series.resize_with(instrument.index() + 1, || None);
        }
        series[instrument.index()].get_or_insert_default().on_bar(bar)
    }
}

/// The indicators of one series of bars.
#[derive(Debug, Default)]
pub struct Series {
    /// Bars before the next one.
    bars: u32,
    closes: Closes,
    /// Of the bar before.
    high: f64,
    low: f64,
    close: f64,
    /// The exponential averages of MACD: of the closes over 12 and 26 bars, and of their difference over 9.
    fast: f64,
    slow: f64,
    signal: f64,
    /// Averages of rises, falls and true ranges; sums while there are too few bars.
    gain: f64,
    loss: f64,
    true_range: f64,
    /// Wilder's running sums of upward and downward movement and of true ranges.
    up: f64,
    down: f64,
    range: f64,
    /// The average of DX; the sum while there are too few bars.
    adx: f64,
}

impl Series {
    /// Takes in the next finished bar.
    pub fn on_bar(&mut self, bar: &Bar) -> Indicators {
        let (high, low, close) = (bar.high.to_f64(), bar.low.to_f64(), bar.close.to_f64());
        let index = self.bars;
        self.bars = self.bars.saturating_add(1);
        self.closes.push(bar.close);
        let indicators = Indicators {
            start_ns: bar.start_ns,
            bollinger: self.bollinger(),
            sma_50: self.closes.mean(LONG),
            macd: self.macd(index as usize, close),
            rsi: if index == 0 { None } else { self.rsi(index, close - self.close) },
            atr: None,
            adx: None,
        };
        let indicators = if index == 0 {
            indicators
        } else {
            let true_range = (high - low).max((high - self.close).abs()).max((low - self.close).abs());
            let (atr, adx) = (self.atr(index, true_range), self.adx(index, high, low, true_range));
            Indicators { atr, adx, ..indicators }
        };
        (self.high, self.low, self.close) = (high, low, close);
        indicators
    }

    fn bollinger(&self) -> Option<Bollinger> {
        let middle = self.closes.mean(SHORT)?;
        let width = DEVIATIONS * self.closes.deviation(SHORT)?;
        Some(Bollinger { upper: middle + width, middle, lower: middle - width })
    }

    /// Both averages begin with the 26th bar, each with the mean of its own period; the signal begins with the mean of
    /// nine differences, and only then is anything told.
    fn macd(&mut self, index: usize, close: f64) -> Option<Macd> {
        const FIRST: usize = SLOW - 1;
        const TOLD: usize = FIRST + SIGNAL - 1;
        if index < FIRST {
            return None;
        }
        if index == FIRST {
            self.fast = self.closes.mean(FAST)?;
            self.slow = self.closes.mean(SLOW)?;
        } else {
            self.fast = follow(self.fast, close, FAST);
            self.slow = follow(self.slow, close, SLOW);
        }
        let macd = self.fast - self.slow;
        if index <= TOLD {
            self.signal += macd;
            if index < TOLD {
                return None;
            }
            self.signal /= SIGNAL as f64;
        } else {
            self.signal = follow(self.signal, macd, SIGNAL);
        }
        Some(Macd { macd, signal: self.signal })
    }

    fn rsi(&mut self, index: u32, change: f64) -> Option<Rsi> {
        self.gain = wilder(self.gain, change.max(0.0), index, 1);
        self.loss = wilder(self.loss, (-change).max(0.0), index, 1);
        if index < WILDER {
            return None;
        }
        let moved = self.gain + self.loss;
        if moved == 0.0 {
            // As TA-Lib has it. But a price that never moved was not sold down.
            return Some(Rsi { value: 0.0, signal: RsiSignal::Neutral });
        }
        let value = 100.0 * (self.gain / moved);
        let signal = if value > OVERBOUGHT {
            RsiSignal::Overbought
        } else if value < OVERSOLD {
            RsiSignal::Oversold
        } else {
            RsiSignal::Neutral
        };
        Some(Rsi { value, signal })
    }

    fn atr(&mut self, index: u32, true_range: f64) -> Option<f64> {
        self.true_range = wilder(self.true_range, true_range, index, 1);
        (index >= WILDER).then_some(self.true_range)
    }

    /// The sums of movement are of 13 bars first, and then lose a 14th of themselves with each bar; from the 14th bar on
    /// there is a DX, and of 14 of these an average.
    fn adx(&mut self, index: u32, high: f64, low: f64, true_range: f64) -> Option<f64> {
        let (rise, fall) = (high - self.high, self.low - low);
        let up = if rise > 0.0 && rise > fall { rise } else { 0.0 };
        let down = if fall > 0.0 && fall > rise { fall } else { 0.0 };
        for (sum, more) in [(&mut self.up, up), (&mut self.down, down), (&mut self.range, true_range)] {
            let kept = if index < WILDER { *sum } else { *sum - *sum / f64::from(WILDER) };
            *sum = kept + more;
        }
        if index < WILDER {
            return None;
        }
        // The directional indicators are both of the same range, which cancels.
        let moved = self.up + self.down;
        let told = index >= 2 * WILDER - 1;
        if self.range > 0.0 && moved > 0.0 {
            let dx = 100.0 * ((self.up - self.down).abs() / moved);
            self.adx = wilder(self.adx, dx, index, WILDER);
        } else if index == 2 * WILDER - 1 {
            // No movement: the DX of this bar counts as none, but the sum becomes an average all the same.
            self.adx /= f64::from(WILDER);
        }
        told.then_some(self.adx)
    }
}

/// An exponential average of `period` after one value more.
fn follow(average: f64, value: f64, period: usize) -> f64 {
    let weight = 2.0 / (period as f64 + 1.0);
    (value - average) * weight + average
}

/// Wilder's average after one value more: of the first 14 values, which come with the bars from `first` on, the sum and at
/// last the mean; then a 14th of each new one.
fn wilder(average: f64, value: f64, index: u32, first: u32) -> f64 {
    let period = f64::from(WILDER);
    let last = first + WILDER - 1;
    if index < last {
        average + value
    } else if index == last {
        (average + value) / period
    } else {
        (average * (period - 1.0) + value) / period
    }
}
