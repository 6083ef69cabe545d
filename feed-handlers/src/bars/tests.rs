//! Tests of `bars`.

use std::collections::BTreeMap;

use proptest::prelude::*;
use protocol::Decimal;
use protocol::Interval::{Day, Hour, Hours4, Minute, Minutes5, Minutes15, Seconds5};

use super::*;

const SECOND: i64 = 1_000_000_000;
const LATENESS: i64 = 2 * SECOND;

fn decimal(text: &str) -> Decimal {
    Decimal::parse(text.as_bytes()).unwrap()
}

fn trade(price: Decimal, size: Decimal) -> Trade {
    Trade { id: None, price, size, taker: None }
}

/// `instrument price size second`, of source 0 or of the one behind an `@`; `clock second`, the same; `silence second`.
/// Events are received the moment they happen.
fn run(script: &[&str]) -> (Bars, Vec<(InstrumentId, Finished)>, Vec<Minutes>) {
    let mut bars = Bars::new(LATENESS);
    let (mut out, mut minutes) = (Vec::new(), Vec::new());
    for line in script {
        let (line, source) = line.split_once(" @").unwrap_or((line, "0"));
        let source = SourceId(source.parse().unwrap());
        let words: Vec<&str> = line.split(' ').collect();
        let ns = words[words.len() - 1].parse::<i64>().unwrap() * SECOND;
        let mut on_finished = |instrument: InstrumentId, finished: Finished| out.push((instrument, finished));
        match words[..] {
            ["clock", _] => bars.on_clock(source, ns, ns, &mut on_finished),
            ["silence", _] => bars.on_silence(ns, &mut |_, instrument, finished| on_finished(instrument, finished)),
            [instrument, price, size, _] => minutes.push(bars.on_trade(
                InstrumentId(instrument.parse().unwrap()),
                source,
                &trade(decimal(price), decimal(size)),
                ns,
                ns,
                &mut on_finished,
            )),
            _ => panic!("{line}"),
        }
    }
    (bars, out, minutes)
}

fn shown(bar: &Bar) -> String {
    let Bar { start_ns, open, high, low, close, volume, trades, vwap } = bar;
    format!("@{} {open} {high} {low} {close} v{volume} n{trades} vw{vwap}", start_ns / SECOND)
}

/// The finished bars of some intervals, and how many trades were too late for each of these.
#[track_caller]
fn check(intervals: &[Interval], script: &[&str], expected: &[&str], late: &[u64]) {
    let (bars, out, _) = run(script);
    let got: Vec<String> = out
        .iter()
        .filter_map(|(instrument, finished)| match finished {
            Finished::Bar(interval, bar) if intervals.contains(interval) => {
                Some(format!("{} {} {}", instrument.0, interval.name(), shown(bar)))
            }
            _ => None,
        })
        .collect();
    assert_eq!(got, expected, "{script:?}");
    let counted: Vec<u64> = intervals.iter().map(|interval| bars.late(*interval)).collect();
    assert_eq!(counted, late, "{script:?}");
}

#[test]
fn a_bar_sums_its_trades_up() {
    check(
        &[Minute],
        &["0 10.50 2 61", "0 11.00 0.5 61", "0 9.9 1.25 90", "0 10 1 119", "clock 122"],
        &["0 1m @60 10.50 11.00 9.9 10 v4.75 n4 vw10.289474"],
        &[0],
    );
    check(
        &[Minute],
        &["3 100.00 0.10 -1", "clock 2"],
        &["3 1m @-60 100.00 100.00 100.00 100.00 v0.10 n1 vw100.00"],
        &[0],
    );
    check(&[Minute], &["0 1 1 0", "0 2 2 0", "clock 62"], &["0 1m @0 1 2 1 2 v3 n2 vw1.6667"], &[0]);
}

#[test]
fn a_bar_is_final_once_when_the_clock_is_past_its_lateness() {
    check(&[Minute], &["0 1 1 59", "clock 61"], &[], &[0]);
    let bar = "0 1m @0 1 1 1 1 v1 n1 vw1";
    check(&[Minute], &["0 1 1 59", "clock 62", "clock 62", "clock 300"], &[bar], &[0]);
    // A trade of another instrument moves the clock too.
    check(&[Minute], &["0 1 1 59", "1 1 1 62"], &[bar], &[0]);
    // A minute without a trade has no bar.
    check(&[Minute], &["0 1 1 0", "0 2 1 130", "clock 200"], &[bar, "0 1m @120 2 2 2 2 v1 n1 vw2"], &[0]);
    check(&[Minute], &["clock 500"], &[], &[0]);
}

#[test]
fn late_trades_find_their_bars_or_are_counted() {
    // By the venue's time the trade at 58 opens its bars.
    check(
        &[Minute],
        &["0 1 1 59", "0 3 1 60", "0 2 1 58", "clock 62", "0 9 1 59", "1 9 1 0", "clock 122"],
        &["0 1m @0 2 2 1 1 v2 n2 vw1.5", "0 1m @60 3 3 3 3 v1 n1 vw3"],
        &[2],
    );
    // Too late for 5 s and for the minute, but not for the 5 minutes, which have each trade once.
    check(
        &[Seconds5, Minute, Minutes5],
        &["0 4 1 1", "0 5 1 2", "clock 8", "0 6 1 0", "0 7 1 63", "0 1 1 4", "clock 400"],
        &[
            "0 5s @0 4 5 4 5 v2 n2 vw4.5",
            "0 1m @0 6 6 4 5 v3 n3 vw5",
            "0 5s @60 7 7 7 7 v1 n1 vw7",
            "0 1m @60 7 7 7 7 v1 n1 vw7",
            "0 5m @0 6 7 1 7 v5 n5 vw4.6",
        ],
        &[2, 1, 0],
    );
}

#[test]
fn bars_come_by_end_then_by_interval_and_by_instrument() {
    check(
        &[Seconds5, Minute],
        &["7 1 1 61", "2 1 1 59", "9 1 1 58", "2 1 1 61", "clock 1000"],
        &["2 5s @55", "9 5s @55", "2 1m @0", "9 1m @0", "2 5s @60", "7 5s @60", "2 1m @60", "7 1m @60"]
            .map(|head| format!("{head} 1 1 1 1 v1 n1 vw1"))
            .each_ref()
            .map(|line| &**line),
        &[0, 0],
    );
}

#[test]
fn intervals_begin_at_whole_multiples_in_utc() {
    // 2026-09-30 13:17:23 UTC.
    check(
        &Interval::ALL,
        &["0 1 1 1790774243", "clock 1790900000"],
        &[
            "5s @1790774240",
            "1m @1790774220",
            "5m @1790774100",
            "15m @1790774100",
            "1h @1790773200",
            "4h @1790769600",
            "1d @1790726400",
        ]
        .map(|head| format!("0 {head} 1 1 1 1 v1 n1 vw1"))
        .each_ref()
        .map(|line| &**line),
        &[0; 7],
    );
}

#[test]
fn longer_bars_are_folded_as_the_shorter_ones_become_final() {
    check(
        &[Hour, Hours4, Day],
        &["0 5 1 100", "0 3 2 7000", "0 8 1 90000", "clock 180000"],
        &[
            "0 1h @0 5 5 5 5 v1 n1 vw5",
            "0 1h @3600 3 3 3 3 v2 n1 vw3",
            "0 4h @0 5 5 3 3 v3 n2 vw3.6667",
            "0 1d @0 5 5 3 3 v3 n2 vw3.6667",
            "0 1h @90000 8 8 8 8 v1 n1 vw8",
            "0 4h @86400 8 8 8 8 v1 n1 vw8",
            "0 1d @86400 8 8 8 8 v1 n1 vw8",
        ],
        &[0; 3],
    );
    check(&[Minutes15], &["0 5 1 100", "clock 901"], &[], &[0]);
}

#[test]
fn minutes_tell_what_a_trade_has_changed() {
    let minutes = |script: &[&str]| {
        let (_, _, minutes) = run(script);
        let Minutes { corrected, current } = *minutes.last().unwrap();
        (corrected.map(|bar| shown(&bar)), current.map(|bar| shown(&bar)))
    };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(minutes(&["1 5 1 59"]), (None, some("@0 5 5 5 5 v1 n1 vw5")));
    assert_eq!(minutes(&["1 5 1 59", "1 6 1 60"]), (None, some("@60 6 6 6 6 v1 n1 vw6")));
    let corrected = (some("@0 5 5 4 4 v2 n2 vw4.5"), some("@60 6 6 6 6 v1 n1 vw6"));
    assert_eq!(minutes(&["1 5 1 58", "1 6 1 60", "1 4 1 59"]), corrected);
    // Too late for the minute.
    assert_eq!(minutes(&["1 5 1 59", "1 6 1 62", "1 4 1 59"]), (None, None));
}

#[test]
fn the_day_is_told_with_each_minute_and_at_its_end() {
    let days = |script: &[&str]| -> Vec<String> {
        let day = |(_, finished): &(_, Finished)| match finished {
            Finished::Day(bar) => Some(shown(bar)),
            Finished::Bar(..) | Finished::Minute(_) => None,
        };
        run(script).1.iter().filter_map(day).collect()
    };
    // The minute in progress counts as well.
    assert_eq!(days(&["0 5 1 100", "0 7 1 121", "clock 122"]), ["@0 5 7 5 7 v2 n2 vw6"]);
    assert_eq!(
        days(&["0 5 1 100", "0 7 1 3700", "0 6 1 86399", "0 9 1 86401", "clock 86470"]),
        [
            "@0 5 5 5 5 v1 n1 vw5",
            "@0 5 7 5 7 v2 n2 vw6",
            // The last minute of the day brings the final bar alone.
            "@0 5 7 5 6 v3 n3 vw6",
            "@86400 9 9 9 9 v1 n1 vw9",
        ]
    );
}

#[test]
fn each_source_has_its_own_clock() {
    // One that lags by an hour, or was recorded years before, loses no trade to one that does not.
    check(
        &[Minute],
        &["0 1 1 3600 @0", "1 2 1 10 @1", "clock 4000 @0", "1 3 1 30 @1", "clock 61 @1", "clock 62 @1"],
        &["0 1m @3600 1 1 1 1 v1 n1 vw1", "1 1m @0 2 3 2 3 v2 n2 vw2.5"],
        &[0],
    );
    // A silent one is not held back: 5 s after its last event its clock goes on, whatever the others do.
    check(&[Minute], &["0 1 1 50 @0", "1 1 1 66 @1", "silence 66"], &[], &[0]);
    check(&[Minute], &["0 1 1 50 @0", "1 1 1 66 @1", "silence 67"], &["0 1m @0 1 1 1 1 v1 n1 vw1"], &[0]);
    // And when it comes back, it finds its clock where the time is.
    check(&[Minute], &["0 1 1 50", "silence 67", "0 1 1 59"], &["0 1m @0 1 1 1 1 v1 n1 vw1"], &[1]);
    check(&[Minute], &["silence 1000"], &[], &[0]);
}

#[test]
fn bars_go_over_to_another_source_with_their_instrument() {
    // What waited for the first clock waits for the second.
    check(
        &[Minute],
        &["0 1 1 50 @0", "0 2 1 55 @1", "clock 70 @0", "0 3 1 59 @1", "clock 62 @1"],
        &["0 1m @0 1 3 1 3 v3 n3 vw2"],
        &[0],
    );
    // The second is ahead: the bar is final before the trade is taken in.
    check(
        &[Minute],
        &["0 1 1 50 @0", "clock 70 @1", "0 2 1 71 @1", "clock 122 @1"],
        &["0 1m @0 1 1 1 1 v1 n1 vw1", "0 1m @60 2 2 2 2 v1 n1 vw2"],
        &[0],
    );
    // The second is behind: what was final stays so, and comes once.
    check(
        &[Minute],
        &["0 1 1 50 @0", "clock 62 @0", "0 2 1 58 @1", "0 3 1 63 @1", "0 4 1 64 @0", "clock 130 @1", "clock 130 @0"],
        &["0 1m @0 1 1 1 1 v1 n1 vw1", "0 1m @60 3 4 3 4 v2 n2 vw3.5"],
        &[1],
    );
}

#[test]
fn sources_that_take_turns_leave_nothing_behind() {
    let mut bars = Bars::new(LATENESS);
    let one = trade(decimal("1"), decimal("1"));
    for turn in 0..10_000 {
        bars.on_trade(InstrumentId(0), SourceId(turn as u8 % 2), &one, 50 * SECOND, 0, &mut |_, _| {});
    }
    assert!(bars.clocks.iter().all(|clock| clock.due.len() <= 64 * 64 + 2), "{}", bars.clocks[0].due.len());
    let mut finished = Vec::new();
    bars.on_clock(SourceId(0), 100 * SECOND, 0, &mut |_, _| panic!("not of this source any more"));
    bars.on_clock(SourceId(1), 100 * SECOND, 0, &mut |_, f| finished.push(f));
    let trades: Vec<_> = finished
        .iter()
        .filter_map(|f| if let Finished::Bar(interval, bar) = f { Some((*interval, bar.trades)) } else { None })
        .collect();
    assert_eq!(trades, [(Seconds5, 10_000), (Minute, 10_000)]);
}

#[test]
fn absurd_numbers_bend_but_do_not_break() {
    let max = i64::MAX.to_string();
    let tiny = "0.000000000000000001";
    let (.., minutes) = run(&[&format!("0 {max} {max} 0"), &format!("0 {tiny} {tiny} 0"), &format!("0 {max} {max} 1")]);
    let bar = minutes[2].current.unwrap();
    assert_eq!((bar.high.to_string(), bar.low.to_string()), (max.clone(), tiny.into()));
    assert_eq!((bar.volume.to_string(), bar.vwap.to_string()), (max.clone(), max));
    for ns in [i64::MIN, i64::MIN + 1, -1, i64::MAX - 1, i64::MAX] {
        let mut bars = Bars::new(-1);
        let one = decimal("1");
        for ns in [ns, 0, ns] {
            bars.on_trade(InstrumentId(0), SourceId(255), &trade(one, one), ns, ns, &mut |_, _| {});
            bars.on_silence(i64::MAX, &mut |_, _, _| {});
        }
        bars.on_clock(SourceId(255), i64::MAX, i64::MIN, &mut |_, _| {});
        assert!(bars.clocks[255].due.is_empty());
    }
}

/// Instrument, time, price, size.
type Known = (u32, i64, Decimal, Decimal);

/// Made from all trades at once, every sum at 18 digits.
#[track_caller]
fn check_bar(bar: &Bar, trades: &[Known]) {
    let at_18 = |d: Decimal| i128::from(d.mantissa()) * 10i128.pow(18 - u32::from(d.scale()));
    let prices = || trades.iter().map(|trade| trade.2);
    // Of equal times the first that came opens, and the last closes.
    let open = trades.iter().min_by_key(|trade| trade.1).unwrap().2;
    let close = trades.iter().max_by_key(|trade| trade.1).unwrap().2;
    assert_eq!((bar.open, bar.close), (open, close));
    assert_eq!((Some(bar.high), Some(bar.low)), (prices().max(), prices().min()));
    assert_eq!(bar.trades, trades.len() as u64);
    assert_eq!(at_18(bar.volume), trades.iter().map(|trade| at_18(trade.3)).sum::<i128>());
    assert!(bar.low <= bar.vwap && bar.vwap <= bar.high);
    let scale = prices().map(Decimal::scale).max().unwrap();
    assert!(scale <= bar.vwap.scale() && bar.vwap.scale() <= scale + 4);
    // |vwap * volume - turnover| <= volume / 2 units of the last digit, all at 8 + 13 digits.
    let units = |d: Decimal, digits: u8| i128::from(d.mantissa()) * 10i128.pow(u32::from(digits - d.scale()));
    let turnover: i128 = trades.iter().map(|(_, _, price, size)| units(*price, 8) * units(*size, 13)).sum();
    let error = (units(bar.vwap, 8) * units(bar.volume, 13) - turnover).abs();
    assert!(2 * error <= units(bar.volume, 13) * 10i128.pow(u32::from(8 - scale - 4)));
}

fn trades(spread: std::ops::Range<i64>) -> impl Strategy<Value = Vec<Known>> {
    let trade = (0u32..3, spread, 1i64..1_000_000, 0u8..5, 1i64..1_000_000, 0u8..9);
    let known = trade.prop_map(|(instrument, time, price, price_scale, size, size_scale)| {
        let decimal = |mantissa, scale| Decimal::new(mantissa, scale).unwrap();
        (instrument, time * SECOND / 4, decimal(price, price_scale), decimal(size, size_scale))
    });
    proptest::collection::vec(known, 1..80)
}

/// Every trade is in each of its bars that was not final when it came, and in no other.
#[track_caller]
fn check_all(trades: &[Known]) {
    let mut bars = Bars::new(LATENESS);
    let (mut got, mut days) = (Vec::new(), BTreeMap::new());
    let mut on_finished = |instrument: InstrumentId, finished: Finished| match finished {
        Finished::Bar(interval, bar) => got.push((bar.start_ns + interval.ns(), interval, instrument.0, bar)),
        Finished::Day(bar) => _ = days.insert((bar.start_ns, instrument.0), bar),
        Finished::Minute(bar) => panic!("no venue told {bar:?}"),
    };
    let mut model: BTreeMap<(i64, Interval, u32), Vec<Known>> = BTreeMap::new();
    let (mut clock, mut late) = (i64::MIN, [0; Interval::COUNT]);
    for known @ &(instrument, time, price, size) in trades {
        bars.on_trade(InstrumentId(instrument), SourceId(0), &trade(price, size), time, 0, &mut on_finished);
        clock = clock.max(time);
        for interval in Interval::ALL {
            let end = time.div_euclid(interval.ns()) * interval.ns() + interval.ns();
            if end + LATENESS <= clock {
                late[interval as usize] += 1;
            } else {
                model.entry((end, interval, instrument)).or_default().push(*known);
            }
        }
    }
    bars.on_clock(SourceId(0), i64::MAX, 0, &mut on_finished);
    assert_eq!(Interval::ALL.map(|interval| bars.late(interval)), late);
    // In order, within what each step of the clock has finished.
    let mut sorted = got.clone();
    sorted.sort_by_key(|(end, interval, instrument, _)| (*end, *interval, *instrument));
    assert!(got == sorted);
    assert_eq!(got.len(), model.len());
    for ((end, interval, instrument, bar), (key, trades)) in got.iter().zip(&model) {
        assert_eq!(&(*end, *interval, *instrument), key);
        check_bar(bar, trades);
        if *interval == Day {
            assert_eq!(days.get(&(bar.start_ns, *instrument)), Some(bar), "the last that is told of a day");
        }
    }
    // Nothing stays behind.
    assert!(bars.instruments.iter().all(|i| i.bars.is_empty() && i.counts == [0; Interval::COUNT]));
    assert!(bars.clocks.iter().all(|clock| clock.due.is_empty()));
}

proptest! {
    /// Over five minutes, a week, and with times before the epoch.
    #[test]
    fn bars_equal_those_made_afterwards(
        minutes in trades(0..1_200), week in trades(0..2_400_000), before in trades(-400_000..400_000)
    ) {
        for trades in [minutes, week, before] {
            check_all(&trades);
        }
    }

    /// Trades that come up to the lateness out of order give the very bars that they give in order.
    #[test]
    fn order_within_the_lateness_does_not_matter(
        trades in trades(0..1_200), delays in proptest::collection::vec(0..LATENESS, 80)
    ) {
        // Times of their own, so that there is an order.
        let mut ordered: Vec<Known> = trades.iter().zip(0..).map(|(t, n)| (t.0, t.1 + n, t.2, t.3)).collect();
        ordered.sort_by_key(|trade| trade.1);
        let mut shuffled: Vec<_> = ordered.iter().zip(&delays).map(|(trade, delay)| (trade.1 + delay, *trade)).collect();
        shuffled.sort_by_key(|(arrival, trade)| (*arrival, trade.1));
        let finished = |trades: &mut dyn Iterator<Item = Known>| {
            let mut bars = Bars::new(LATENESS);
            let mut out = Vec::new();
            let mut on_finished = |instrument, finished| {
                if let Finished::Bar(..) = finished {
                    out.push((instrument, finished));
                }
            };
            for (instrument, time, price, size) in trades {
                bars.on_trade(InstrumentId(instrument), SourceId(0), &trade(price, size), time, 0, &mut on_finished);
            }
            bars.on_clock(SourceId(0), i64::MAX, 0, &mut on_finished);
            assert_eq!(Interval::ALL.map(|interval| bars.late(interval)), [0; Interval::COUNT]);
            out
        };
        let in_order = finished(&mut ordered.into_iter());
        prop_assert_eq!(finished(&mut shuffled.into_iter().map(|(_, trade)| trade)), in_order);
    }
}
