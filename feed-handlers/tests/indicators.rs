//! Indicators are TA-Lib's: each value, and the bar from which on there is one, over series of 200 bars.
//!
//! `reference/indicators.csv` is what TA-Lib 0.8 computed; `reference/indicators.py` beside it writes it anew.

use std::collections::BTreeMap;

use feed_handlers::indicators::{IndicatorTable, Series};
use protocol::{Bar, Decimal, InstrumentId, Interval, RsiSignal};

const REFERENCE: &str = include_str!("reference/indicators.csv");

fn bar(start_ns: i64, high: &str, low: &str, close: &str) -> Bar {
    let decimal = |text: &str| Decimal::parse(text.as_bytes()).unwrap();
    let close = decimal(close);
    Bar {
        start_ns,
        open: close,
        high: decimal(high),
        low: decimal(low),
        close,
        volume: decimal("1"),
        trades: 1,
        vwap: close,
    }
}

/// Nine digits; of a difference of prices, those that doubles of the size of the price can hold.
#[track_caller]
fn check(value: f64, expected: f64, close: f64, what: &str) {
    let error = (value - expected).abs();
    assert!(error <= 1e-9 * expected.abs() + 1e-12 * close, "{what}: {value}, not {expected}");
}

#[test]
fn values_are_those_of_ta_lib() {
    let mut lines = REFERENCE.lines();
    let names: Vec<&str> = lines.next().unwrap().split(',').skip(4).collect();
    let mut series: BTreeMap<&str, (i64, Series)> = BTreeMap::new();
    let mut checked: BTreeMap<&str, usize> = BTreeMap::new();
    for line in lines {
        let fields: Vec<&str> = line.split(',').collect();
        let (index, series) = series.entry(fields[0]).or_default();
        let indicators = series.on_bar(&bar(*index, fields[1], fields[2], fields[3]));
        assert_eq!(indicators.start_ns, *index);
        let close: f64 = fields[3].parse().unwrap();
        let values: BTreeMap<&str, f64> = indicators.values().collect();
        for (name, expected) in names.iter().zip(&fields[4..]) {
            let what = format!("{name} of {} at bar {index}", fields[0]);
            match (values.get(name), *expected) {
                (None, "") => {}
                (Some(value), expected) if !expected.is_empty() => {
                    check(*value, expected.parse().unwrap(), close, &what);
                    *checked.entry(name).or_default() += 1;
                }
                (value, expected) => panic!("{what}: {value:?}, not {expected:?}"),
            }
        }
        let signal = indicators.rsi.map(|rsi| rsi.signal);
        let expected = match values.get("rsi") {
            None => None,
            Some(_) if fields[0] == "flat" => Some(RsiSignal::Neutral),
            Some(rsi) if *rsi > 70.0 => Some(RsiSignal::Overbought),
            Some(rsi) if *rsi < 30.0 => Some(RsiSignal::Oversold),
            Some(_) => Some(RsiSignal::Neutral),
        };
        assert_eq!(signal, expected, "bar {index} of {}", fields[0]);
        *index += 1;
    }
    assert_eq!(series.len(), 9);
    // By the first bar with a value: 200 less 19, 49, 14, 33 and so on.
    let counts = names.iter().map(|name| checked[name] / 9).collect::<Vec<_>>();
    assert_eq!(counts, [181, 151, 186, 167, 167, 167, 181, 181, 181, 186, 173]);
}

#[test]
fn instruments_and_intervals_have_series_of_their_own() {
    let mut table = IndicatorTable::default();
    let mut alone: [Series; 3] = Default::default();
    let places =
        [(InstrumentId(0), Interval::Minute), (InstrumentId(0), Interval::Day), (InstrumentId(70), Interval::Minute)];
    for index in 0..60 {
        for (at, (instrument, interval)) in places.into_iter().enumerate() {
            let close = format!("{}.5", 10 + (index * (at as i64 + 3)) % 7);
            let bar = bar(index, "20", "9", &close);
            assert_eq!(table.on_bar(instrument, interval, &bar), alone[at].on_bar(&bar));
        }
    }
}

/// After a month of 5-second bars, sums have not drifted: what a window comes to depends on its
/// bars alone.
#[test]
fn windows_do_not_drift() {
    let mut series = Series::default();
    for index in 0..500_000i64 {
        let close = format!("{}.{:02}", 80_000 + index * 7_919 % 9_973, index * 31 % 100);
        series.on_bar(&bar(index, &close, &close, &close));
    }
    let mut fresh = Series::default();
    let mut last = (None, None);
    for index in 0..50 {
        let close = format!("1.0{}", index % 10);
        let bar = bar(index, &close, &close, &close);
        let (long, short) = (series.on_bar(&bar), fresh.on_bar(&bar));
        last = ((long.bollinger, long.sma_50).into(), (short.bollinger, short.sma_50).into());
    }
    assert!(last.0.is_some());
    assert_eq!(last.0, last.1);
}
