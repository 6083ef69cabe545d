//! Tables of what is refused, marked and let through, and what holds for any prices.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::decode::event::{Event, Symbol};
use crate::venue::Venue;

const SECOND: i64 = 1_000_000_000;
const NOW: i64 = 1_700_000_000 * SECOND;

fn decimal(text: &str) -> Decimal {
    Decimal::parse(text.as_bytes()).unwrap()
}

fn trade(price: &str, size: &str) -> Trade {
    Trade { id: None, price: decimal(price), size: decimal(size), taker: None }
}

fn quote(bid: &str, bid_size: &str, ask: &str, ask_size: &str) -> Quote {
    Quote { bid: decimal(bid), bid_size: decimal(bid_size), ask: decimal(ask), ask_size: decimal(ask_size) }
}

#[track_caller]
fn check_time(limits: Limits, ahead: i64, expected: Result<(), Reason>) {
    assert_eq!(limits.check_time(NOW + ahead, NOW), expected);
    // The same for whatever has the time.
    let finding = expected.map(|()| Finding::Sound);
    let last = &mut LastPrices::default();
    assert_eq!(limits.check_trade(&trade("1", "1"), NOW + ahead, NOW, last), finding);
    assert_eq!(limits.check_quote(&quote("1", "1", "2", "1"), NOW + ahead, NOW, last), finding);
    assert_eq!(limits.check_bar(&Bar { start: NOW + ahead, ..bar("1", "1", "1", "1", "1") }, NOW), finding);
}

#[test]
fn times_are_near_the_receipt() {
    let day = 86_400 * SECOND;
    for (limits, ahead, expected) in [
        (Limits::LIVE, 0, Ok(())),
        (Limits::LIVE, 10 * SECOND, Ok(())),
        (Limits::LIVE, 10 * SECOND + 1, Err(Reason::Future)),
        (Limits::LIVE, i64::MAX - NOW, Err(Reason::Future)),
        (Limits::LIVE, -day, Ok(())),
        (Limits::LIVE, -day - 1, Err(Reason::Ancient)),
        (Limits::RECORDED, -day - 1, Ok(())),
        (Limits::RECORDED, -3 * NOW, Ok(())),
        (Limits::RECORDED, 11 * SECOND, Err(Reason::Future)),
    ] {
        check_time(limits, ahead, expected);
    }
    assert_eq!(Limits::LIVE.check_time(i64::MIN, i64::MAX), Err(Reason::Ancient));
    assert_eq!(Limits::LIVE.check_time(i64::MAX, i64::MIN), Err(Reason::Future));
}

#[track_caller]
fn check_trade(price: &str, size: &str, expected: Result<Finding, Reason>) {
    let mut last = LastPrices::default();
    assert_eq!(Limits::LIVE.check_trade(&trade(price, size), NOW, NOW, &mut last), expected, "{price} x {size}");
    assert_eq!(last.trade.price > 0.0, expected.is_ok());
}

#[test]
fn trades_have_a_price_and_a_size() {
    check_trade("0.00000001", "985", Ok(Finding::Sound));
    check_trade("14.7550", "0", Ok(Finding::Sound));
    check_trade("0.0", "1", Err(Reason::Price));
    check_trade("-1", "1", Err(Reason::Price));
    check_trade("1", "-0.001", Err(Reason::Size));
}

#[track_caller]
fn check_quote([bid, bid_size, ask, ask_size]: [&str; 4], expected: Result<Finding, Reason>) {
    let mut last = LastPrices::default();
    let quote = quote(bid, bid_size, ask, ask_size);
    assert_eq!(Limits::LIVE.check_quote(&quote, NOW, NOW, &mut last), expected, "{quote:?}");
    assert_eq!(last.quote.price > 0.0, expected.is_ok());
}

#[test]
fn quotes_have_two_sides_that_do_not_cross() {
    check_quote(["1.13028", "1000000", "1.13057", "0"], Ok(Finding::Sound));
    check_quote(["1.10", "1", "1.1", "1"], Ok(Finding::Locked));
    check_quote(["1.11", "1", "1.1", "1"], Err(Reason::Crossed));
    check_quote(["0", "0", "1.1", "1"], Err(Reason::Price));
    check_quote(["1.1", "1", "0.00", "0"], Err(Reason::Price));
    check_quote(["-2", "1", "-1", "1"], Err(Reason::Price));
    check_quote(["1", "-1", "2", "1"], Err(Reason::Size));
    check_quote(["1", "1", "2", "-1"], Err(Reason::Size));
}

fn bar(open: &str, high: &str, low: &str, close: &str, volume: &str) -> Bar<'static> {
    Bar {
        symbol: Symbol::Text(b"MSFT"),
        interval_ns: 60 * SECOND,
        start: NOW - 60 * SECOND,
        open: decimal(open),
        high: decimal(high),
        low: decimal(low),
        close: decimal(close),
        volume: decimal(volume),
        vwap: None,
        trades: None,
        in_progress: false,
    }
}

#[track_caller]
fn check_bar([open, high, low, close, volume]: [&str; 5], expected: Result<Finding, Reason>) {
    let bar = bar(open, high, low, close, volume);
    assert_eq!(Limits::LIVE.check_bar(&bar, NOW), expected, "{bar:?}");
}

#[test]
fn bars_hold_what_they_say() {
    check_bar(["2", "3", "1", "2.5", "0"], Ok(Finding::Sound));
    check_bar(["1.50", "1.5", "1.500", "1.5", "10"], Ok(Finding::Sound));
    check_bar(["3", "3", "1", "1", "10"], Ok(Finding::Sound));
    check_bar(["2", "1", "3", "2", "10"], Err(Reason::BarRange));
    check_bar(["3.01", "3", "1", "2", "10"], Err(Reason::BarRange));
    check_bar(["0.99", "3", "1", "2", "10"], Err(Reason::BarRange));
    check_bar(["2", "3", "1", "3.01", "10"], Err(Reason::BarRange));
    check_bar(["2", "3", "1", "0.99", "10"], Err(Reason::BarRange));
    check_bar(["2", "3", "0", "2", "10"], Err(Reason::Price));
    check_bar(["-2", "3", "1", "2", "10"], Err(Reason::Price));
    check_bar(["2", "3", "1", "2", "-1"], Err(Reason::Size));
}

/// Checks trades at these prices one after the other. A letter each: `s`ound, `o`utlier, `x` refused.
fn run(limits: Limits, prices: &[&str]) -> String {
    let mut last = LastPrices::default();
    let letter = |price: &&str| match limits.check_trade(&trade(price, "1"), NOW, NOW, &mut last) {
        Ok(Finding::Sound) => 's',
        Ok(Finding::Outlier) => 'o',
        Err(Reason::Outlier) => 'x',
        other => panic!("{other:?}"),
    };
    prices.iter().map(letter).collect()
}

#[track_caller]
fn check_outliers(prices: &[&str], expected: &str) {
    assert_eq!(run(Limits::LIVE, prices), expected, "{prices:?}");
    let dropping = Limits { outliers: Outliers::Drop, ..Limits::LIVE };
    assert_eq!(run(dropping, prices), expected.replace('o', "x"), "{prices:?}");
    let any = Limits { outlier_ratio: f64::INFINITY, ..Limits::LIVE };
    assert_eq!(run(any, prices), "s".repeat(prices.len()), "{prices:?}");
}

#[test]
fn a_typo_is_an_outlier_and_moves_nothing() {
    check_outliers(&["100", "120", "96", "97"], "ssss");
    check_outliers(&["100", "120.01", "79.99", "100"], "soos");
    check_outliers(&["100", "1", "101", "10000", "102"], "sosos");
    // Two of a kind and one that is not, for ever: none agrees with the one before.
    check_outliers(&["100", "1", "1", "10000", "1", "1", "10000", "100"], "soooooos");
    // Interrupted by a sound one, the row begins anew.
    check_outliers(&["100", "200", "200", "100", "200", "200", "100"], "soosoos");
}

#[test]
fn a_true_jump_is_marked_three_times() {
    check_outliers(&["100", "200", "201", "199", "200", "190"], "soooss");
    check_outliers(&["100", "50", "1", "1", "1.1", "1"], "soooos");
    // A slide that runs away from the reference agrees with itself.
    check_outliers(&["100", "79", "70", "62", "55", "50"], "soooss");
}

#[test]
fn quotes_are_held_against_quotes() {
    let mut last = LastPrices::default();
    let mut finding = |quote: &Quote| Limits::LIVE.check_quote(quote, NOW, NOW, &mut last).unwrap();
    assert_eq!(finding(&quote("99", "1", "101", "1")), Finding::Sound);
    // Wide, with the same middle.
    assert_eq!(finding(&quote("1", "1", "199", "1")), Finding::Sound);
    assert_eq!(finding(&quote("1", "1", "300", "1")), Finding::Outlier);
    assert_eq!(finding(&quote("150", "1", "150", "1")), Finding::Outlier);
    assert_eq!(finding(&quote("100", "1", "100", "1")), Finding::Locked);
    assert_eq!(Limits::LIVE.check_trade(&trade("500", "1"), NOW, NOW, &mut last), Ok(Finding::Sound));
    assert_eq!(Limits::LIVE.check_quote(&quote("99", "1", "101", "1"), NOW, NOW, &mut last), Ok(Finding::Sound));
    last.forget();
    assert_eq!(Limits::LIVE.check_trade(&trade("1", "1"), NOW, NOW, &mut last), Ok(Finding::Sound));
}

#[test]
fn a_recorded_day_is_sound() {
    let Ok(captures) = std::env::var("GATEWAY_CAPTURES") else {
        return println!("left out: GATEWAY_CAPTURES is not set");
    };
    let text = std::fs::read_to_string(format!("{captures}/coinbase/coinbase-2021-04-17.ws.txt")).unwrap();
    let mut last: HashMap<Vec<u8>, LastPrices> = HashMap::new();
    let (mut trades, mut quotes) = (0, 0);
    for line in text.lines() {
        let Some((stamp, frame)) = line.split_once(": ") else { continue };
        let Ok(seconds) = stamp.parse::<f64>() else { continue };
        let ts_recv = (seconds * 1e9) as i64;
        let mut on_event = |event: Event<'_>| match event {
            Event::Trade(trade) => {
                let Symbol::Text(name) = trade.symbol else { panic!("{trade:?}") };
                let last = last.entry(name.to_vec()).or_default();
                let body = Trade { id: trade.id, price: trade.price, size: trade.size, taker: trade.taker };
                // As if it were live: within a day, and not ahead.
                let finding = Limits::LIVE.check_trade(&body, trade.time, ts_recv, last);
                assert_eq!(finding, Ok(Finding::Sound), "{trade:?}");
                trades += 1;
            }
            Event::Quote(event) => {
                let (Some(bid), Some(ask), Some(time)) = (event.bid, event.ask, event.time) else { return };
                let Symbol::Text(name) = event.symbol else { panic!("{event:?}") };
                let zero = Decimal::ZERO;
                let quote = Quote { bid: bid.price, bid_size: zero, ask: ask.price, ask_size: zero };
                let finding = Limits::LIVE.check_quote(&quote, time, ts_recv, last.entry(name.to_vec()).or_default());
                assert_eq!(finding, Ok(Finding::Sound), "{event:?}");
                quotes += 1;
            }
            _ => {}
        };
        // Lines that are no frames of the venue: what the client sent, and the configuration.
        let _ = Venue::Coinbase.decode(frame.as_bytes(), &mut on_event);
    }
    assert_eq!((trades, quotes), (107, 107));
}

proptest! {
    #[test]
    fn no_price_however_strange_is_marked_for_ever(
        prices in proptest::collection::vec((1..=i64::MAX, 0..=18u8), 0..20),
        steady in (1..=i64::MAX, 0..=18u8),
    ) {
        let limits = Limits::LIVE;
        let mut last = LastPrices::default();
        let mut check = |(mantissa, scale)| {
            let price = Decimal::new(mantissa, scale).unwrap();
            let trade = Trade { id: None, price, size: Decimal::ZERO, taker: None };
            limits.check_trade(&trade, NOW, NOW, &mut last).unwrap()
        };
        for price in prices {
            check(price);
        }
        let findings: Vec<Finding> = (0..=AGREEING).map(|_| check(steady)).collect();
        prop_assert_eq!(*findings.last().unwrap(), Finding::Sound);
    }

    #[test]
    fn what_is_within_the_ratio_is_never_marked(start in 1_000..1_000_000_000i64, steps in proptest::collection::vec(-199..=199i64, 1..50)) {
        let mut last = LastPrices::default();
        let mut price = start;
        for step in steps {
            let trade = Trade { id: None, price: Decimal::new(price, 4).unwrap(), size: Decimal::ZERO, taker: None };
            prop_assert_eq!(Limits::LIVE.check_trade(&trade, NOW, NOW, &mut last), Ok(Finding::Sound));
            price = (price + price * step / 1_000).max(1_000);
        }
    }
}
