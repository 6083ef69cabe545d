//! Tests of `bars::venue`, through the bars that it is a part of.

use std::collections::BTreeMap;

use proptest::prelude::*;
use protocol::{Bar, Decimal, InstrumentId, Interval, SourceId, Trade, VenueBar};

use crate::bars::{Bars, Finished, start};

const SECOND: i64 = 1_000_000_000;
const HOUR: i64 = 3_600;
const INSTRUMENT: InstrumentId = InstrumentId(2);

fn decimal(text: &str) -> Decimal {
    Decimal::parse(text.as_bytes()).unwrap()
}

fn shown(bar: &Bar) -> String {
    let Bar { start_ns, open, high, low, close, volume, trades, vwap } = bar;
    format!("{} {open} {high} {low} {close} v{volume} n{trades} vw{vwap}", start_ns / SECOND)
}

/// `bar INTERVAL SECOND OPEN HIGH LOW CLOSE VOLUME TRADES MEAN`, `~bar ...` for one in progress; `trade PRICE SIZE SECOND`;
/// `clock SECOND`. What goes out: `b` for finished bars, `u` for minutes, `d` for days.
struct Market {
    bars: Bars,
    out: Vec<String>,
    left_out: usize,
}

impl Market {
    fn new() -> Market {
        Market { bars: Bars::new(2 * SECOND), out: Vec::new(), left_out: 0 }
    }

    fn take(&mut self, line: &str) {
        let Market { bars, out, left_out } = self;
        let mut on_finished = |instrument, finished| {
            assert_eq!(instrument, INSTRUMENT);
            out.push(match finished {
                // Made of trades alone, and not what this is about.
                Finished::Bar(Interval::Seconds5, _) => return,
                Finished::Bar(interval, bar) => format!("b {} {}", interval.name(), shown(&bar)),
                Finished::Minute(bar) => format!("u {}", shown(&bar)),
                Finished::Day(bar) => format!("d {}", shown(&bar)),
            });
        };
        let words: Vec<&str> = line.split(' ').collect();
        let ns = |text: &str| text.parse::<i64>().unwrap() * SECOND;
        match words[..] {
            [kind @ ("bar" | "~bar"), interval, start, open, high, low, close, volume, trades, vwap] => {
                let [open, high, low, close, volume, vwap] = [open, high, low, close, volume, vwap].map(decimal);
                let trades = trades.parse().unwrap();
                let bar = Bar { start_ns: ns(start), open, high, low, close, volume, trades, vwap };
                let venue_bar = VenueBar::new(Interval::from_name(interval).unwrap(), kind == "bar", &bar);
                if !bars.on_venue_bar(INSTRUMENT, &venue_bar, bar.start_ns, &mut on_finished) {
                    *left_out += 1;
                }
            }
            ["trade", price, size, at] => {
                let trade = Trade { id: None, price: decimal(price), size: decimal(size), taker: None };
                let minutes = bars.on_trade(INSTRUMENT, SourceId(1), &trade, ns(at), ns(at), &mut on_finished);
                let minutes = [minutes.corrected, minutes.current].into_iter().flatten();
                out.extend(minutes.map(|bar| format!("u {}", shown(&bar))));
            }
            ["clock", at] => bars.on_clock(SourceId(1), ns(at), ns(at), &mut on_finished),
            _ => panic!("{line}"),
        }
    }

    /// Takes a line, and compares what goes out.
    #[track_caller]
    fn check(&mut self, line: &str, expected: &[&str]) {
        self.take(line);
        assert_eq!(std::mem::take(&mut self.out), expected, "{line}");
    }
}

#[test]
fn a_minute_of_the_venue_is_in_all_longer_bars() {
    let mut market = Market::new();
    market
        .check("bar 1m 180 10 12 9 11 4 3 10.5", &["b 1m 180 10 12 9 11 v4 n3 vw10.5", "d 0 10 12 9 11 v4 n3 vw10.5"]);
    // The last one of five.
    market.check(
        "bar 1m 240 11 11.5 8 8.5 2 2 9",
        &["b 1m 240 11 11.5 8 8.5 v2 n2 vw9", "b 5m 0 10 12 8 8.5 v6 n5 vw10.0", "d 0 10 12 8 8.5 v6 n5 vw10.0"],
    );
    market.check("~bar 1m 300 8 8 8 8 1 1 8", &["u 300 8 8 8 8 v1 n1 vw8"]);
    market.check("bar 1m 300 8 8 7 8 2 2 8", &["b 1m 300 8 8 7 8 v2 n2 vw8", "d 0 10 12 7 8 v8 n7 vw9.5"]);
    // The rest of five minutes had no trade, and neither had those until the next day: they are over all the same.
    let [fives, day] = ["8 8 7 8 v2 n2 vw8", "10 12 7 8 v8 n7 vw9.5"];
    market.check(
        "~bar 1m 86400 9 9 9 9 1 1 9",
        &[
            &format!("b 5m 300 {fives}"),
            &format!("b 15m 0 {day}"),
            &format!("b 1h 0 {day}"),
            &format!("b 4h 0 {day}"),
            &format!("b 1d 0 {day}"),
            &format!("d 0 {day}"),
            "u 86400 9 9 9 9 v1 n1 vw9",
        ],
    );
    assert_eq!((market.left_out, market.bars.superseded()), (0, 0));
}

#[test]
fn what_a_venue_does_not_tell_is_not_told() {
    let mut market = Market::new();
    market.take("bar 1m 0 10 10 10 10 4 0 0");
    market.take("bar 1m 60 11 11 11 11 4 7 11");
    market.out.clear();
    market.check(
        "bar 1m 240 12 12 12 12 0 0 0",
        &["b 1m 240 12 12 12 12 v0 n0 vw0", "b 5m 0 10 12 10 12 v8 n0 vw0", "d 0 10 12 10 12 v8 n0 vw0"],
    );
}

#[test]
fn a_correction_is_in_the_longer_bars_that_are_not_final() {
    let mut market = Market::new();
    market.take("bar 1m 0 10 10 10 10 4 1 10");
    market.out.clear();
    market.check("bar 1m 0 10 11 10 11 5 2 10.2", &["u 0 10 11 10 11 v5 n2 vw10.2"]);
    market.take("bar 1m 60 9 9 9 9 1 1 9");
    market.out.clear();
    market.check(
        "bar 1m 240 9 9 9 9 1 1 9",
        &["b 1m 240 9 9 9 9 v1 n1 vw9", "b 5m 0 10 11 9 9 v7 n4 vw9.8571", "d 0 10 11 9 9 v7 n4 vw9.8571"],
    );
    // Too late for those of five minutes.
    market.check("bar 1m 240 9 20 9 9 1 1 9", &["u 240 9 20 9 9 v1 n1 vw9"]);
    market.check("bar 1m 180 9 20 9 9 1 1 9", &[]);
    assert_eq!(market.left_out, 1);
}

#[test]
fn intervals_that_the_venue_tells_are_not_folded() {
    let mut market = Market::new();
    // Of an exchange's day.
    market.check("~bar 1d 14400 9 12 8 10 90 0 0", &["d 14400 9 12 8 10 v90 n0 vw0"]);
    market.check("bar 5m 72000 10 10 10 10 1 1 10", &["b 5m 72000 10 10 10 10 v1 n1 vw10"]);
    market.check(
        "bar 5m 72600 11 11 11 11 1 1 11",
        &["b 5m 72600 11 11 11 11 v1 n1 vw11", "b 15m 72000 10 11 10 11 v2 n2 vw10.5"],
    );
    market.check("~bar 1d 14400 9 12 8 11 91 0 0", &["d 14400 9 12 8 11 v91 n0 vw0"]);
    market.check(
        "bar 5m 87000 12 12 12 12 1 1 12",
        &[
            "b 1h 72000 10 11 10 11 v2 n2 vw10.5",
            "b 4h 72000 10 11 10 11 v2 n2 vw10.5",
            "b 5m 87000 12 12 12 12 v1 n1 vw12",
            "b 15m 86400 12 12 12 12 v1 n1 vw12",
        ],
    );
    market.check("bar 1d 14400 9 12 8 11 92 0 0", &["b 1d 14400 9 12 8 11 v92 n0 vw0", "d 14400 9 12 8 11 v92 n0 vw0"]);
    market.check("bar 1d 14400 9 12 8 11 93 0 0", &["d 14400 9 12 8 11 v93 n0 vw0"]);
    market.check("bar 1d -72000 9 12 8 11 93 0 0", &[]);
}

#[test]
fn trades_that_join_take_over_with_the_first_whole_bar() {
    let mut market = Market::new();
    let day = 2 * 24 * HOUR;
    market.take("~bar 1d 14400 9 12 8 10 90 0 0");
    market.take(&format!("bar 1m {day} 10 10 10 10 1 1 10"));
    market.out.clear();
    let at = |second: i64| day + second;
    market.check(&format!("trade 20 1 {}", at(90)), &[]);
    market.check(&format!("~bar 1m {} 10 20 10 20 5 5 15", at(60)), &[&format!("u {} 10 20 10 20 v5 n5 vw15", at(60))]);
    // Ours of that minute has but one trade.
    market.check(&format!("trade 21 1 {}", at(125)), &[&format!("u {} 21 21 21 21 v1 n1 vw21", at(120))]);
    market
        .check(&format!("bar 1m {} 10 20 10 20 6 6 15", at(60)), &[&format!("b 1m {} 10 20 10 20 v6 n6 vw15", at(60))]);
    market.check(&format!("~bar 1m {} 21 21 21 21 1 1 21", at(120)), &[]);
    market.check(&format!("clock {}", at(182)), &[&format!("b 1m {} 21 21 21 21 v1 n1 vw21", at(120))]);
    market.check(&format!("bar 1m {} 21 21 21 21 1 1 21", at(120)), &[]);
    // The venue's minutes make the longer bars up to their ends, those after the first trade too.
    let whole = format!("b 5m {day} 10 21 10 21 v8 n9 vw15.125");
    market.check(&format!("bar 1m {} 21 21 21 21 0 1 21", at(240)), &[&whole]);
    market.check(&format!("clock {}", at(302)), &[]);
    // The day remains the venue's; ours of tomorrow are whole.
    let exchanges = at(4 * HOUR);
    market.check(&format!("~bar 1d {exchanges} 9 30 8 10 99 0 0"), &[&format!("d {exchanges} 9 30 8 10 v99 n0 vw0")]);
    let tomorrow = day + 24 * HOUR;
    market.take(&format!("trade 22 1 {tomorrow}"));
    market.out.clear();
    market.check(
        &format!("clock {}", tomorrow + 62),
        &[&format!("b 1m {tomorrow} 22 22 22 22 v1 n1 vw22"), &format!("d {tomorrow} 22 22 22 22 v1 n1 vw22")],
    );
    // Our minute, and what it was folded into.
    assert_eq!(market.bars.superseded(), 6);
    market.check(&format!("bar 1d {} 9 30 8 10 99 0 0", tomorrow + 4 * HOUR), &[]);
}

#[test]
fn what_a_venue_tells_late_does_not_go_back_behind_trades() {
    let mut market = Market::new();
    let day = 24 * HOUR;
    market.take(&format!("trade 20 1 {}", day + 30));
    market.take(&format!("trade 20 1 {}", day + 90));
    market.out.clear();
    // History: of these minutes there is none of ours, and of that day neither.
    market.check(
        &format!("clock {}", day + 122),
        &[&format!("b 1m {} 20 20 20 20 v1 n1 vw20", day + 60), &format!("d {day} 20 20 20 20 v2 n2 vw20")],
    );
    for line in ["bar 1m {} 9 9 9 9 1 1 9", "bar 1m {} 8 9 9 9 1 1 9", "~bar 1d {} 9 9 9 9 1 1 9"] {
        market.check(&line.replace("{}", "0"), &[]);
    }
    // Of days none of ours is final yet, but a later one is in progress.
    market.check("bar 1d 14400 9 9 9 9 1 1 9", &["b 1d 14400 9 9 9 9 v1 n1 vw9"]);
}

proptest! {
    /// The minutes of one market, told by a venue, come to the same longer bars as its trades, each once and in order.
    #[test]
    fn folded_bars_equal_those_of_trades(
        trades in prop::collection::vec((0i64..40_000, 1i64..100, 1i64..100), 1..60),
    ) {
        let (mut own, mut venue) = (Bars::new(0), Bars::new(0));
        let (mut expected, mut got) = (Vec::new(), Vec::new());
        let mut at = 0;
        for (wait, price, size) in trades {
            // Mostly within a minute, now and then hours apart.
            at += if wait % 5 == 0 { wait } else { wait % 50 } * SECOND;
            let [price, size] = [price, size].map(|n| Decimal::new(n, 1).unwrap());
            let trade = Trade { id: None, price, size, taker: None };
            own.on_trade(INSTRUMENT, SourceId(0), &trade, at, at, &mut |_, finished| expected.push(finished));
        }
        let end_ns = at + 3 * 24 * HOUR * SECOND;
        own.on_clock(SourceId(0), end_ns, end_ns, &mut |_, finished| expected.push(finished));
        let minutes = expected.iter().filter_map(|finished| match finished {
            Finished::Bar(Interval::Minute, bar) => Some(*bar),
            _ => None,
        });
        let next = start(end_ns, Interval::Day);
        let minutes: Vec<Bar> = minutes.collect();
        for minute in &minutes {
            let told = VenueBar::new(Interval::Minute, true, minute);
            prop_assert!(venue.on_venue_bar(INSTRUMENT, &told, minute.start_ns, &mut |_, finished| got.push(finished)));
        }
        let told = VenueBar::new(Interval::Minute, false, &minutes[0]);
        venue.on_venue_bar(INSTRUMENT, &told, next, &mut |_, finished| got.push(finished));
        let values = |finished: &[Finished]| {
            let mut bars: BTreeMap<_, Vec<_>> = BTreeMap::new();
            for finished in finished {
                if let Finished::Bar(interval, bar) = finished
                    && *interval != Interval::Seconds5
                {
                    // The mean of means is rounded twice.
                    bars.entry(*interval).or_default().push(Bar { vwap: Decimal::ZERO, ..*bar });
                }
            }
            bars
        };
        prop_assert_eq!(values(&got), values(&expected));
        // The day grows, and ends as the finished one.
        let days: Vec<_> = got.iter().filter_map(|f| match f { Finished::Day(bar) => Some(*bar), _ => None }).collect();
        prop_assert!(days.windows(2).all(|pair| (pair[0].start_ns, pair[0].trades) <= (pair[1].start_ns, pair[1].trades)));
        let ended = got.iter().filter_map(|f| match f { Finished::Bar(Interval::Day, bar) => Some(*bar), _ => None });
        prop_assert!(ended.into_iter().all(|day| days.contains(&day)));
    }

    /// Whatever venue and trades tell, and in whatever order: a final bar goes out once, and none after a later one.
    #[test]
    fn no_final_bar_goes_out_twice_or_goes_back(
        steps in prop::collection::vec((0u8..8, 0i64..5_000, 0i64..60), 1..120),
        drift in 0i64..20,
    ) {
        let mut market = Market::new();
        for (step, (kind, minute, second)) in (0i64..).zip(steps) {
            // From wherever in three days to mostly forward.
            let minute = if drift == 0 { minute } else { step * drift + minute % 7 };
            let at = minute * 60;
            market.take(&match kind {
                0 => format!("bar 1m {at} 2 3 1 2 5 1 2"),
                1 => format!("~bar 1m {at} 2 3 1 2 5 1 2"),
                2 => format!("bar 5m {} 2 3 1 2 5 1 2", at - at % 300),
                3 => format!("bar 1d {} 2 3 1 2 5 1 2", at - at % (24 * HOUR) + 4 * HOUR),
                4 => format!("~bar 1d {} 2 3 1 2 5 1 2", at - at % (24 * HOUR) + 4 * HOUR),
                5 => format!("clock {at}"),
                _ => format!("trade 2 1 {}", at + second),
            });
        }
        let mut finals: BTreeMap<String, i64> = BTreeMap::new();
        let mut days = None;
        for line in &market.out {
            let words: Vec<&str> = line.split(' ').collect();
            if let ["b", interval, start, ..] = words[..] {
                let start = start.parse().unwrap();
                let last = finals.insert(interval.to_owned(), start);
                prop_assert!(last.is_none_or(|last| last < start), "{line} in {:#?}", market.out);
            }
            if let ["d", start, ..] = words[..] {
                // An exchange's day stands for ours.
                let day = start.parse::<i64>().unwrap().div_euclid(24 * HOUR);
                let last = days.replace(day);
                prop_assert!(last.is_none_or(|last| last <= day), "{line} in {:#?}", market.out);
            }
        }
    }
}
