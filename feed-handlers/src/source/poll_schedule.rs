//! What to ask a REST venue next, and when: in turn for every symbol, under a budget a minute and one a day that all of
//! them share.
//!
//! Pure: time comes in, and only differences of it count. Owned by the source's thread, and persisted nowhere, so that
//! a process which starts again may ask more in a day than it was told; the venue's refusal is the guard then.
//!
//! Requests are spread evenly over the minute: a venue that counts minutes of its own, or a second, is content with it
//! too. Of the day's budget the first round of all symbols, at most half of the budget, is asked as fast as the minute
//! allows, and the rest is spread evenly over the day. With a budget of `d` and a first round of `b`, one request
//! is allowed every `day / (d - b)` and `b` are saved up at most, so that no day, whenever it begins, holds more than
//! `b + (d - b)`.

use std::time::{Duration, Instant};

/// A little more than a minute: requests that leave us a minute apart can reach the venue less than that apart.
const MINUTE: Duration = Duration::from_secs(62);

const DAY: Duration = Duration::from_secs(86_400);

/// How many requests are allowed. All are at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PollBudget {
    /// In any minute.
    pub per_minute: u32,
    /// In any 24 hours; `None` for no such limit.
    pub per_day: Option<u32>,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Ask for the symbol of this index. The request counts as sent.
    Ask(usize),
    /// Ask again then.
    Wait(Instant),
}

/// The turns of all symbols.
pub(super) struct PollSchedule {
    symbols: usize,
    next: usize,
    minute: Pace,
    day: Option<Pace>,
    held_until: Option<Instant>,
}

/// One request every `interval`, and as many more at once as were saved up, `1 + tolerance / interval` at most.
struct Pace {
    interval: Duration,
    tolerance: Duration,
    /// When the next request were due if all had been sent at their time.
    due: Option<Instant>,
}

impl Pace {
    fn new(interval: Duration, at_once: u32) -> Pace {
        Pace { interval, tolerance: interval * at_once.saturating_sub(1), due: None }
    }

    /// From when on a request is allowed; `None` for at any time.
    fn allowed_from(&self) -> Option<Instant> {
        // Too early for the clock to express is long ago.
        self.due.and_then(|due| due.checked_sub(self.tolerance))
    }

    fn on_sent(&mut self, now: Instant) {
        self.due = Some(self.due.map_or(now, |due| due.max(now)) + self.interval);
    }
}

impl PollSchedule {
    /// Turns for `symbols`, of which there is one at least.
    pub(super) fn new(symbols: usize, budget: PollBudget) -> PollSchedule {
        debug_assert!(symbols > 0 && budget.per_minute > 0 && budget.per_day != Some(0));
        let day = budget.per_day.map(|per_day| {
            let first_round = u32::try_from(symbols).unwrap_or(u32::MAX).min(per_day / 2).max(1);
            Pace::new(share(DAY, per_day - first_round), first_round)
        });
        PollSchedule { symbols, next: 0, minute: Pace::new(share(MINUTE, budget.per_minute), 1), day, held_until: None }
    }

    /// From one request to the next, once the first round is over.
    pub(super) fn interval(&self) -> Duration {
        self.day.as_ref().map_or(self.minute.interval, |day| day.interval.max(self.minute.interval))
    }

    /// From one turn of a symbol to its next, once the first round is over.
    pub(super) fn round(&self) -> Duration {
        self.interval().saturating_mul(u32::try_from(self.symbols).unwrap_or(u32::MAX))
    }

    pub(super) fn poll(&mut self, now: Instant) -> Turn {
        let paces = [self.minute.allowed_from(), self.day.as_ref().and_then(Pace::allowed_from), self.held_until];
        if let Some(from) = paces.into_iter().flatten().max().filter(|from| *from > now) {
            return Turn::Wait(from);
        }
        self.minute.on_sent(now);
        if let Some(day) = &mut self.day {
            day.on_sent(now);
        }
        let turn = self.next;
        self.next = (turn + 1) % self.symbols;
        Turn::Ask(turn)
    }

    /// Asks for nothing before `until`, whatever was saved up.
    pub(super) fn hold(&mut self, until: Instant) {
        self.held_until = self.held_until.max(Some(until));
    }
}

/// A part of `time`, rounded up; all of it where there are no parts.
fn share(time: Duration, parts: u32) -> Duration {
    time / parts.max(1) + Duration::from_nanos(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Requests sent by somebody who comes by whenever a turn may be due, and `late` after it. After a request nothing
    /// may be asked for `hold`.
    fn run(
        schedule: &mut PollSchedule,
        time: Duration,
        mut late: impl FnMut() -> Duration,
        mut hold: impl FnMut() -> Duration,
    ) -> Vec<(Duration, usize)> {
        let start = Instant::now();
        let (mut now, mut held_until, mut sent) = (start, start, Vec::new());
        while now < start + time {
            match schedule.poll(now) {
                Turn::Ask(symbol) => {
                    assert!(now >= held_until);
                    sent.push((now - start, symbol));
                    held_until = now + hold();
                    schedule.hold(held_until);
                }
                Turn::Wait(until) => {
                    assert!(until > now);
                    now = until + late();
                }
            }
        }
        sent
    }

    fn on_time() -> Duration {
        Duration::ZERO
    }

    /// Most requests in any window that is as long as `window`, its end not included.
    fn most_within(sent: &[(Duration, usize)], window: Duration) -> usize {
        let ahead = |from: usize| sent[from..].iter().take_while(|(at, _)| *at < sent[from].0 + window).count();
        (0..sent.len()).map(ahead).max().unwrap_or(0)
    }

    fn schedule(symbols: usize, per_minute: u32, per_day: Option<u32>) -> PollSchedule {
        PollSchedule::new(symbols, PollBudget { per_minute, per_day })
    }

    #[track_caller]
    fn check(symbols: usize, per_minute: u32, per_day: Option<u32>, hours: u32, expected: &[u64]) {
        let time = Duration::from_secs(3_600) * hours;
        let sent = run(&mut schedule(symbols, per_minute, per_day), time, on_time, on_time);
        let seconds: Vec<u64> = sent.iter().take(expected.len()).map(|(at, _)| at.as_secs()).collect();
        assert_eq!(seconds, expected);
        for (turn, (_, symbol)) in sent.iter().enumerate() {
            assert_eq!(*symbol, turn % symbols);
        }
    }

    #[test]
    fn requests_are_spread_evenly() {
        check(2, 5, None, 1, &[0, 12, 24, 37, 49, 62, 74]);
        // One symbol has had its first round at once; then the other 24 requests of a day are an hour apart.
        check(1, 5, Some(25), 100, &[0, 3_600, 7_200, 10_800]);
        // Three at the beginning, and 22 a day.
        check(3, 5, Some(25), 100, &[0, 12, 24, 3_927, 7_854]);
        // A first round takes half of the budget at most: 12, and then 13 a day.
        check(100, 60, Some(25), 100, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 6_646]);
        check(1, 1, Some(1), 100, &[0, 86_400, 172_800]);
        check(1, 1, Some(2), 100, &[0, 86_400, 172_800]);
    }

    #[test]
    fn the_budget_of_a_day_is_used() {
        let day_and_a_bit = DAY + Duration::from_secs(1);
        for (symbols, per_day) in [(1, 25), (5, 25), (100, 25), (100, 500), (3, 2)] {
            let sent = run(&mut schedule(symbols, 5, Some(per_day)), day_and_a_bit, on_time, on_time);
            assert_eq!(sent.len(), per_day as usize, "{symbols} {per_day}");
        }
    }

    #[test]
    fn a_hold_delays_and_loses_no_turn() {
        let (mut schedule, now) = (schedule(3, 60, None), Instant::now());
        assert_eq!(schedule.poll(now), Turn::Ask(0));
        let (early, late) = (now + Duration::from_secs(30), now + Duration::from_secs(90));
        schedule.hold(late);
        schedule.hold(early);
        assert_eq!(schedule.poll(early), Turn::Wait(late));
        assert_eq!(schedule.poll(late), Turn::Ask(1));
        // Nothing was saved up.
        assert!(matches!(schedule.poll(late), Turn::Wait(_)));
    }

    #[test]
    fn a_round_is_as_long_as_the_budget_makes_it() {
        assert_eq!(schedule(10, 5, None).round().as_secs(), 124);
        assert_eq!(schedule(10, 5, Some(25)).round().as_secs(), 10 * 86_400 / 15);
    }

    proptest! {
        /// However late we come: never more than the budget in any minute or any day, and everybody in turn.
        #[test]
        fn never_more_than_the_budget_and_fair(
            symbols in 1usize..20,
            per_minute in 1u32..30,
            per_day in proptest::option::of(1u32..200),
            lateness in prop::collection::vec(0u64..400_000, 1..50),
            holds in prop::collection::vec(0u64..200_000, 1..50),
        ) {
            // Mostly on time, and seldom held: both only make it easier.
            let seldom = |ms: &u64| Duration::from_millis(if ms.is_multiple_of(3) { *ms } else { 0 });
            let mut late = lateness.iter().cycle().map(seldom);
            let mut holds = holds.iter().cycle().map(seldom);
            let time = if per_day.is_some() { 3 * DAY } else { Duration::from_secs(2_000) };
            let (mut late, mut hold) = (|| late.next().unwrap(), || holds.next().unwrap());
            let sent = run(&mut schedule(symbols, per_minute, per_day), time, &mut late, &mut hold);
            prop_assert!(most_within(&sent, Duration::from_secs(60)) <= per_minute as usize);
            prop_assert!(per_day.is_none_or(|per_day| most_within(&sent, DAY) <= per_day as usize));
            for (turn, (_, symbol)) in sent.iter().enumerate() {
                prop_assert_eq!(*symbol, turn % symbols);
            }
            prop_assert!(!sent.is_empty());
        }
    }
}
