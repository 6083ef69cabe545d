//! Technical indicators as of one finished bar. Values only; `feed-handlers` computes them.

/// Where an RSI stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RsiSignal {
    /// Above 70.
    Overbought,
    /// Below 30.
    Oversold,
    Neutral,
}

impl RsiSignal {
    /// As it stands in `rsi_signal`.
    pub const fn name(self) -> &'static str {
        match self {
            RsiSignal::Overbought => "overbought",
            RsiSignal::Oversold => "oversold",
            RsiSignal::Neutral => "neutral",
        }
    }
}

/// Wilder's relative strength index over 14 bars.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rsi {
    /// 0 to 100.
    pub value: f64,
    pub signal: RsiSignal,
}

/// Moving average convergence/divergence, 12/26/9. The histogram is `macd - signal`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Macd {
    /// The average over 12 bars minus the one over 26, exponential both.
    pub macd: f64,
    /// The exponential average of `macd` over 9 bars.
    pub signal: f64,
}

/// Bollinger bands: the mean of 20 bars, and two standard deviations (of the population) to either side.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bollinger {
    pub upper: f64,
    /// The simple moving average over 20 bars.
    pub middle: f64,
    pub lower: f64,
}

/// What the closes, highs and lows of an interval's bars come to, up to one of them. `None` where there have been too few
/// bars. All are finite.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Indicators {
    /// When the bar's interval starts, Unix ns of the venue's clock.
    pub start_ns: i64,
    /// Holds the simple moving average over 20 bars as well. From the 20th bar on.
    pub bollinger: Option<Bollinger>,
    /// The simple moving average over 50 bars. From the 50th bar on.
    pub sma_50: Option<f64>,
    /// From the 34th bar on.
    pub macd: Option<Macd>,
    /// From the 15th bar on.
    pub rsi: Option<Rsi>,
    /// Wilder's average true range over 14 bars. From the 15th bar on.
    pub atr: Option<f64>,
    /// Wilder's average directional movement index over 14 bars, 0 to 100. From the 28th bar on.
    pub adx: Option<f64>,
}

impl Indicators {
    /// The values that there are, by the keys under which clients get them, in the order in which they are written.
    pub fn values(&self) -> impl Iterator<Item = (&'static str, f64)> {
        let Indicators { start_ns: _, bollinger, sma_50, macd, rsi, atr, adx } = *self;
        [
            ("sma_20", bollinger.map(|bands| bands.middle)),
            ("sma_50", sma_50),
            ("rsi", rsi.map(|rsi| rsi.value)),
            ("macd", macd.map(|macd| macd.macd)),
            ("macd_signal", macd.map(|macd| macd.signal)),
            ("macd_hist", macd.map(|macd| macd.macd - macd.signal)),
            ("bb_upper", bollinger.map(|bands| bands.upper)),
            ("bb_middle", bollinger.map(|bands| bands.middle)),
            ("bb_lower", bollinger.map(|bands| bands.lower)),
            ("atr", atr),
            ("adx", adx),
        ]
        .into_iter()
        .filter_map(|(key, value)| Some((key, value?)))
    }
}
