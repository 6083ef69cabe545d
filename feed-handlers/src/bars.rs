//! Bars: what the trades of each instrument come to, interval by interval of the venue's clock.
//!
//! Pure, owned by the sequencer's thread. Time is event time: a bar is finished once the latest event seen
//! anywhere is `lateness` past its end, so a stream gives the same bars however fast it is played. All
//! sums are exact integers; nothing is a float. Deliberately absent: empty bars, and corrections of a bar that
//! was handed out; a trade that comes too late for its bar is counted instead.

use protocol::{Bar, Decimal, InstrumentId, SourceId, Trade};

/// Fractional digits of a volume-weighted mean price, beyond those of the prices.
const VWAP_DIGITS: i32 = 4;

/// Most fractional digits of a decimal.
const SCALE_MAX: i32 = 18;

/// The bars of all instruments.
///
/// Memory: about 200 bytes for each bar in progress, of which an instrument has one and, for as long as
/// the lateness lasts, a second.
#[derive(Debug)]
pub struct Bars {
    interval_ns: i64,
    lateness_ns: i64,
    /// The latest event time seen, Unix ns.
    watermark: i64,
    /// Bars in progress by instrument, oldest first. `end > watermark - lateness` for each.
    open: Vec<Vec<BarBuilder>>,
    /// Where the bars in progress are, in no order.
    places: Vec<(i64, InstrumentId)>,
    /// The lowest end in `places`; `i64::MAX` when there is none.
    next_end: i64,
    /// The places of the bars being closed, kept for its capacity.
    due: Vec<(i64, InstrumentId)>,
    late: u64,
}

impl Bars {
    /// Bars of `interval_ns` (at least 1), aligned to the Unix epoch, each finished `lateness_ns` (at
    /// least 0) of event time after its end. Smaller values count as these.
    pub fn new(interval_ns: i64, lateness_ns: i64) -> Bars {
        Bars {
            interval_ns: interval_ns.max(1),
            lateness_ns: lateness_ns.max(0),
            watermark: i64::MIN,
            open: Vec::new(),
            places: Vec::new(),
            next_end: i64::MAX,
            due: Vec::new(),
            late: 0,
        }
    }

    /// Takes in a trade of the instrument at `ts_event` (Unix ns), after handing out the bars that this time
    /// finishes. Trades of one instrument come in the venue's order: the first opens, the last closes.
    pub fn on_trade(
        &mut self,
        instrument: InstrumentId,
        trade: &Trade,
        ts_event: i64,
        out: &mut impl FnMut(InstrumentId, Bar),
    ) {
        self.advance(ts_event, out);
        let start = ts_event.saturating_sub(ts_event.rem_euclid(self.interval_ns));
        let end = start.saturating_add(self.interval_ns);
        if self.is_finished(end) {
            self.late += 1;
            return;
        }
        if self.open.len() <= instrument.index() {
            self.open.resize_with(instrument.index() + 1, Vec::new);
        }
        let bars = &mut self.open[instrument.index()];
        match bars.binary_search_by_key(&start, |bar| bar.start_ns) {
            Ok(at) => bars[at].add(trade),
            Err(at) => {
                bars.insert(at, BarBuilder::new(start, trade));
                self.places.push((end, instrument));
                self.next_end = self.next_end.min(end);
            }
        }
    }

    /// The clock of a source stands at `ts_event` (Unix ns): hands out the bars that this finishes, by end and
    /// then by instrument. There is one clock for all: the latest of what any source says.
    pub fn on_clock(&mut self, _source: SourceId, ts_event: i64, out: &mut impl FnMut(InstrumentId, Bar)) {
        self.advance(ts_event, out);
    }

    /// The instrument's latest bar in progress.
    pub fn current(&self, instrument: InstrumentId) -> Option<Bar> {
        self.open.get(instrument.index())?.last().map(BarBuilder::bar)
    }

    /// How many trades came after their bar was finished, and are in none.
    pub fn late(&self) -> u64 {
        self.late
    }

    fn is_finished(&self, end: i64) -> bool {
        end.saturating_add(self.lateness_ns) <= self.watermark
    }

    fn advance(&mut self, ts_event: i64, out: &mut impl FnMut(InstrumentId, Bar)) {
        if ts_event <= self.watermark {
            return;
        }
        self.watermark = ts_event;
        if !self.is_finished(self.next_end) || self.places.is_empty() {
            return;
        }
        let mut due = std::mem::take(&mut self.due);
        let mut next_end = i64::MAX;
        self.places.retain(|&(end, instrument)| {
            let is_due = end.saturating_add(self.lateness_ns) <= self.watermark;
            if is_due {
                due.push((end, instrument));
            } else {
                next_end = next_end.min(end);
            }
            !is_due
        });
        self.next_end = next_end;
        due.sort_unstable();
        for (_, instrument) in due.drain(..) {
            // An instrument's bars are closed oldest first, in the order in which they stand.
            let bar = self.open[instrument.index()].remove(0);
            out(instrument, bar.bar());
        }
        self.due = due;
    }
}

/// One bar in progress. It has at least one trade.
#[derive(Debug)]
struct BarBuilder {
    start_ns: i64,
    open: Decimal,
    high: Decimal,
    low: Decimal,
    close: Decimal,
    trades: u64,
    /// Most fractional digits among the prices.
    price_scale: i32,
    volume: Sum,
    /// Of price times size.
    turnover: Sum,
}

impl BarBuilder {
    fn new(start_ns: i64, first: &Trade) -> BarBuilder {
        let price = first.price;
        let mut bar = BarBuilder {
            start_ns,
            open: price,
            high: price,
            low: price,
            close: price,
            trades: 0,
            price_scale: 0,
            volume: Sum::default(),
            turnover: Sum::default(),
        };
        bar.add(first);
        bar
    }

    fn add(&mut self, trade: &Trade) {
        self.high = self.high.max(trade.price);
        self.low = self.low.min(trade.price);
        self.close = trade.price;
        self.trades += 1;
        let (price_scale, size_scale) = (i32::from(trade.price.scale()), i32::from(trade.size.scale()));
        self.price_scale = self.price_scale.max(price_scale);
        self.volume.add(i128::from(trade.size.mantissa()), size_scale);
        // Two factors below 2^63: below 2^126.
        let product = i128::from(trade.price.mantissa()) * i128::from(trade.size.mantissa());
        self.turnover.add(product, price_scale + size_scale);
    }

    fn bar(&self) -> Bar {
        Bar {
            start_ns: self.start_ns,
            open: self.open,
            high: self.high,
            low: self.low,
            close: self.close,
            volume: self.volume.decimal(),
            trades: self.trades,
            vwap: self.vwap(),
        }
    }

    fn vwap(&self) -> Decimal {
        let scale = (self.price_scale + VWAP_DIGITS).min(SCALE_MAX);
        let mean = self.turnover.divided_by(&self.volume, scale).map(|mean| trimmed(mean, self.price_scale));
        // Between the two by its nature; a sum that lost digits, or a volume of zero, must not show.
        mean.unwrap_or(self.close).clamp(self.low, self.high)
    }
}

/// A sum of decimals, `mantissa / 10^scale`. Exact up to 38 digits; beyond these the last ones go.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    mantissa: i128,
    scale: i32,
}

impl Sum {
    fn add(&mut self, mut mantissa: i128, mut scale: i32) {
        loop {
            // Both in the finer scale, as long as they fit.
            let (coarse, fine) = if self.scale < scale { (self.mantissa, mantissa) } else { (mantissa, self.mantissa) };
            let shift = self.scale.abs_diff(scale);
            let sum = 10i128.checked_pow(shift).and_then(|power| coarse.checked_mul(power)?.checked_add(fine));
            if let Some(sum) = sum {
                *self = Sum { mantissa: sum, scale: self.scale.max(scale) };
                return;
            }
            if self.scale >= scale {
                self.mantissa /= 10;
                self.scale -= 1;
            } else {
                mantissa /= 10;
                scale -= 1;
            }
        }
    }

    /// As a decimal: exact where it has no more than 18 digits, else rounded half up to as many fractional
    /// digits as fit; the largest decimal where not even its whole part fits.
    fn decimal(&self) -> Decimal {
        (0..=self.scale.min(SCALE_MAX))
            .rev()
            .find_map(|scale| {
                let power = 10i128.checked_pow(u32::try_from(self.scale - scale).ok()?)?;
                decimal(rounded(self.mantissa, power), scale)
            })
            .or_else(|| Decimal::new(i64::MAX, 0))
            .unwrap_or_default()
    }

    /// The quotient, rounded half up, with `scale` fractional digits, or with fewer where so many do not fit.
    /// `None` for a divisor of zero.
    fn divided_by(&self, divisor: &Sum, scale: i32) -> Option<Decimal> {
        if divisor.mantissa == 0 {
            return None;
        }
        (0..=scale).rev().find_map(|scale| {
            let shift = scale - (self.scale - divisor.scale);
            let power = 10i128.checked_pow(shift.unsigned_abs())?;
            let quotient = if shift >= 0 {
                rounded(self.mantissa.checked_mul(power)?, divisor.mantissa)
            } else {
                rounded(self.mantissa, divisor.mantissa.checked_mul(power)?)
            };
            decimal(quotient, scale)
        })
    }
}

/// `n / d` rounded half up, for `n >= 0` and `d > 0`.
fn rounded(n: i128, d: i128) -> i128 {
    let (quotient, rest) = (n / d, n % d);
    if rest >= d - rest { quotient + 1 } else { quotient }
}

fn decimal(mantissa: i128, scale: i32) -> Option<Decimal> {
    Decimal::new(i64::try_from(mantissa).ok()?, u8::try_from(scale).ok()?)
}

/// Without the zeros at the end, but with no fewer than `scale_min` fractional digits.
fn trimmed(decimal: Decimal, scale_min: i32) -> Decimal {
    let mut trimmed = decimal;
    while i32::from(trimmed.scale()) > scale_min {
        match trimmed.rescale(trimmed.scale() - 1) {
            Some(shorter) => trimmed = shorter,
            None => break,
        }
    }
    trimmed
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use protocol::Side;
    use std::collections::BTreeMap;

    const MINUTE: i64 = 60;
    const LATENESS: i64 = 2;
    const FEED: SourceId = SourceId(0);

    fn decimal(text: &str) -> Decimal {
        Decimal::parse(text.as_bytes()).unwrap()
    }

    fn trade(price: Decimal, size: Decimal) -> Trade {
        Trade { id: Some(1), price, size, taker: Some(Side::Buy) }
    }

    /// `instrument price size second`, or `clock second`.
    fn run(script: &[&str]) -> (Bars, Vec<String>) {
        let mut bars = Bars::new(MINUTE, LATENESS);
        let mut out = Vec::new();
        let mut on_bar = |instrument: InstrumentId, bar: Bar| out.push(format!("{} {}", instrument.0, shown(&bar)));
        for line in script {
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["clock", second] => bars.on_clock(FEED, second.parse().unwrap(), &mut on_bar),
                [instrument, price, size, second] => bars.on_trade(
                    InstrumentId(instrument.parse().unwrap()),
                    &trade(decimal(price), decimal(size)),
                    second.parse().unwrap(),
                    &mut on_bar,
                ),
                _ => panic!("{line}"),
            }
        }
        (bars, out)
    }

    fn shown(bar: &Bar) -> String {
        let Bar { start_ns, open, high, low, close, volume, trades, vwap } = bar;
        format!("@{start_ns} {open} {high} {low} {close} v{volume} n{trades} vw{vwap}")
    }

    #[track_caller]
    fn check(script: &[&str], expected: &[&str], late: u64) {
        let (bars, out) = run(script);
        assert_eq!(out, expected, "{script:?}");
        assert_eq!(bars.late(), late);
    }

    #[test]
    fn a_bar_sums_its_trades_up() {
        check(
            &["0 10.50 2 61", "0 11.00 0.5 61", "0 9.9 1.25 90", "0 10 1 119", "clock 122"],
            &["0 @60 10.50 11.00 9.9 10 v4.75 n4 vw10.289474"],
            0,
        );
        check(&["3 100.00 0.10 -1", "clock 2"], &["3 @-60 100.00 100.00 100.00 100.00 v0.10 n1 vw100.00"], 0);
        check(&["0 1 1 0", "0 2 2 0", "clock 62"], &["0 @0 1 2 1 2 v3 n2 vw1.6667"], 0);
    }

    #[test]
    fn a_bar_is_finished_once_when_the_clock_is_past_its_lateness() {
        check(&["0 1 1 59", "clock 61"], &[], 0);
        check(&["0 1 1 59", "clock 62", "clock 62", "clock 300"], &["0 @0 1 1 1 1 v1 n1 vw1"], 0);
        // A trade of another instrument moves the clock too.
        check(&["0 1 1 59", "1 1 1 62"], &["0 @0 1 1 1 1 v1 n1 vw1"], 0);
        // A minute without a trade has no bar.
        check(&["0 1 1 0", "0 2 1 130", "clock 200"], &["0 @0 1 1 1 1 v1 n1 vw1", "0 @120 2 2 2 2 v1 n1 vw2"], 0);
        check(&["clock 500"], &[], 0);
    }

    #[test]
    fn late_trades_find_their_bar_or_are_counted() {
        check(
            &["0 1 1 59", "0 3 1 60", "0 2 1 58", "clock 62", "0 9 1 59", "1 9 1 0", "clock 122"],
            &["0 @0 1 2 1 2 v2 n2 vw1.5", "0 @60 3 3 3 3 v1 n1 vw3"],
            2,
        );
    }

    #[test]
    fn bars_come_by_end_and_then_by_instrument() {
        check(
            &["7 1 1 61", "2 1 1 59", "9 1 1 58", "2 1 1 61", "clock 1000"],
            &["2 @0", "9 @0", "2 @60", "7 @60"]
                .map(|head| format!("{head} 1 1 1 1 v1 n1 vw1"))
                .each_ref()
                .map(|s| &**s),
            0,
        );
    }

    #[test]
    fn the_current_bar_is_the_latest_in_progress() {
        let current = |script: &[&str]| run(script).0.current(InstrumentId(1)).map(|bar| shown(&bar));
        assert_eq!(current(&[]), None);
        assert_eq!(current(&["5 1 1 1"]), None);
        assert_eq!(current(&["1 5 1 59", "1 6 1 60", "1 4 1 59"]).unwrap(), "@60 6 6 6 6 v1 n1 vw6");
        assert_eq!(current(&["1 5 1 59", "clock 62"]), None);
    }

    #[test]
    fn absurd_numbers_bend_but_do_not_break() {
        let max = i64::MAX.to_string();
        let tiny = "0.000000000000000001";
        let (bars, _) = run(&[&format!("0 {max} {max} 0"), &format!("0 {tiny} {tiny} 0"), &format!("0 {max} {max} 1")]);
        let bar = bars.current(InstrumentId(0)).unwrap();
        assert_eq!((bar.high.to_string(), bar.low.to_string()), (max.clone(), tiny.into()));
        assert_eq!((bar.volume.to_string(), bar.vwap.to_string()), (max.clone(), max));
        for second in [i64::MIN, i64::MAX, i64::MIN] {
            let mut bars = Bars::new(0, -1);
            let one = decimal("1");
            bars.on_trade(InstrumentId(0), &trade(one, one), second, &mut |_, _| {});
            bars.on_clock(FEED, i64::MAX, &mut |_, _| {});
            assert!(bars.current(InstrumentId(0)).is_none() || second == i64::MAX);
        }
    }

    proptest! {
        /// Against bars made from all trades at once, with every sum at 18 digits.
        #[test]
        fn equals_bars_made_afterwards(
            trades in proptest::collection::vec(
                (0u32..4, 0i64..400, 1i64..1_000_000, 0u8..5, 1i64..1_000_000, 0u8..9), 1..60,
            ),
        ) {
            let mut bars = Bars::new(MINUTE, LATENESS);
            let mut got = Vec::new();
            let mut on_bar = |instrument: InstrumentId, bar: Bar| got.push((bar.start_ns, instrument.0, bar));
            let mut model: BTreeMap<(i64, u32), Vec<(Decimal, Decimal)>> = BTreeMap::new();
            let (mut latest, mut late) = (i64::MIN, 0);
            for &(instrument, second, price, price_scale, size, size_scale) in &trades {
                let (price, size) = (Decimal::new(price, price_scale).unwrap(), Decimal::new(size, size_scale).unwrap());
                bars.on_trade(InstrumentId(instrument), &trade(price, size), second, &mut on_bar);
                latest = latest.max(second);
                let start = second / MINUTE * MINUTE;
                if start + MINUTE + LATENESS <= latest {
                    late += 1;
                } else {
                    model.entry((start, instrument)).or_default().push((price, size));
                }
            }
            bars.on_clock(FEED, 10_000, &mut on_bar);
            prop_assert_eq!(bars.late(), late);
            prop_assert_eq!(got.len(), model.len());
            for ((start, instrument, bar), (key, trades)) in got.iter().zip(&model) {
                prop_assert_eq!(&(*start, *instrument), key);
                let at_18 = |d: Decimal| i128::from(d.mantissa()) * 10i128.pow(18 - u32::from(d.scale()));
                let prices = || trades.iter().map(|(price, _)| *price);
                prop_assert_eq!((bar.open, bar.close), (trades[0].0, trades[trades.len() - 1].0));
                prop_assert_eq!((Some(bar.high), Some(bar.low)), (prices().max(), prices().min()));
                prop_assert_eq!(bar.trades, trades.len() as u64);
                prop_assert_eq!(at_18(bar.volume), trades.iter().map(|(_, size)| at_18(*size)).sum::<i128>());
                prop_assert!(bar.low <= bar.vwap && bar.vwap <= bar.high);
                let scale = prices().map(Decimal::scale).max().unwrap();
                prop_assert!(scale <= bar.vwap.scale() && bar.vwap.scale() <= scale + 4);
                // |vwap * volume - turnover| <= volume / 2 units of the last digit, all at 8 + 13 digits.
                let units = |d: Decimal, digits: u8| i128::from(d.mantissa()) * 10i128.pow(u32::from(digits - d.scale()));
                let turnover: i128 = trades.iter().map(|(price, size)| units(*price, 8) * units(*size, 13)).sum();
                let error = (units(bar.vwap, 8) * units(bar.volume, 13) - turnover).abs();
                prop_assert!(2 * error <= units(bar.volume, 13) * 10i128.pow(u32::from(8 - scale - 4)));
            }
        }
    }
}
