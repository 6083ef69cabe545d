//! What a venue has told of one product's bars: what of it is news, what was told before, and when a bar is final.
//!
//! Pure, a part of the feed. Of each interval it keeps the last bar that is final and the one in progress, so a correction is
//! known as long as no later bar is final. Deliberately absent: older bars. What a series tells again of them, or corrects
//! that late, is outdated.

use protocol::{Bar, Interval, TickBody, VenueBar};

use super::{Feed, FeedCounter};
use crate::decode::event::{Bar as ToldBar, Part};
use crate::quality::Order;
use crate::validation::Limits;
use crate::venue::{BARS_SETTLE_NS, BarUpdates};

/// Days of exchanges begin at their own midnight, of which none is off the quarters of an hour, ns.
const DAYS_BEGIN_NS: i64 = 900_000_000_000;

/// The bars of one product.
#[derive(Debug, Default)]
pub(super) struct ProductBars(Vec<Told>);

/// What was told of one interval.
#[derive(Debug)]
struct Told {
    interval: Interval,
    /// The last one that is final, with its begin, Unix ns.
    finished: Option<(i64, VenueBar)>,
    /// Later than `finished`.
    current: Option<Current>,
}

#[derive(Clone, Copy, Debug)]
struct Current {
    start_ns: i64,
    bar: VenueBar,
    /// The line was cut since: what was told of it last need not be all.
    is_cut: bool,
}

/// What is new.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct News {
    /// The bar before, which is final now, with its begin.
    pub(super) completed: Option<(i64, VenueBar)>,
    /// The bar that was told. One that is final may be so for the second time, corrected.
    pub(super) bar: VenueBar,
}

/// Why a bar is no news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stale {
    /// It was told before, as it is.
    Repeated,
    /// A later one was told before.
    Outdated,
}

impl ProductBars {
    /// Takes in the bar that begins at `start_ns`.
    ///
    /// # Errors
    /// [`Stale`] where it is no news.
    pub(super) fn tell(&mut self, start_ns: i64, bar: VenueBar, updates: BarUpdates) -> Result<News, Stale> {
        let known = self.0.iter().position(|told| told.interval == bar.interval());
        let at = known.unwrap_or_else(|| {
            self.0.push(Told { interval: bar.interval(), finished: None, current: None });
            self.0.len() - 1
        });
        self.0[at].tell(start_ns, bar, updates)
    }

    /// Of what is in progress, the rest may have been missed.
    pub(super) fn cut(&mut self) {
        self.0.iter_mut().filter_map(|told| told.current.as_mut()).for_each(|current| current.is_cut = true);
    }
}

impl Told {
    fn tell(&mut self, start_ns: i64, bar: VenueBar, updates: BarUpdates) -> Result<News, Stale> {
        if let Some((finished_ns, finished)) = self.finished
            && start_ns <= finished_ns
        {
            let corrected = bar.finished();
            return match start_ns == finished_ns {
                false => Err(Stale::Outdated),
                true if corrected == finished => Err(Stale::Repeated),
                true => {
                    self.finished = Some((start_ns, corrected));
                    Ok(News { completed: None, bar: corrected })
                }
            };
        }
        let mut completed = None;
        if let Some(current) = &mut self.current {
            if start_ns < current.start_ns && !bar.is_final() {
                return Err(Stale::Outdated);
            }
            if start_ns == current.start_ns && bar == current.bar {
                current.is_cut = false;
                return Err(Stale::Repeated);
            }
            if start_ns > current.start_ns && updates == BarUpdates::Pushed && !current.is_cut {
                completed = Some((current.start_ns, current.bar.finished()));
                self.finished = completed;
            }
        }
        if bar.is_final() {
            self.finished = Some((start_ns, bar));
            self.current = self.current.filter(|current| current.start_ns > start_ns);
        } else {
            self.current = Some(Current { start_ns, bar, is_cut: false });
        }
        Ok(News { completed, bar })
    }
}

impl Feed {
    /// A bar that the venue made. It may be of any age: a series tells what was before.
    pub(super) fn handle_bar(&mut self, bar: &ToldBar<'_>, ts_recv: i64) {
        self.outcome.is_alive = true;
        let Some(at) = self.product(bar.symbol) else { return };
        let limits = Limits { age_max_ns: None, ..self.limits };
        if let Err(reason) = limits.check_bar(bar, ts_recv) {
            return self.leave_out(FeedCounter::InvalidBars, Part::Bar, reason, ts_recv);
        }
        let Some(interval) = interval_of(bar) else { return self.count(FeedCounter::OtherBars) };
        if bar.trades == Some(0) {
            return self.count(FeedCounter::EmptyBars);
        }
        let end_ns = bar.start.saturating_add(interval.ns());
        let updates = self.venue.bar_updates();
        let has_settled = updates == BarUpdates::Polled && ts_recv.saturating_sub(end_ns) >= BARS_SETTLE_NS;
        let told = VenueBar::new(interval, !bar.in_progress || has_settled, &values(bar));
        let News { completed, bar: news } = match self.products[at].bars.tell(bar.start, told, updates) {
            Ok(news) => news,
            Err(Stale::Repeated) => return self.count(FeedCounter::RepeatedBars),
            Err(Stale::Outdated) => return self.count(FeedCounter::OutdatedBars),
        };
        match interval {
            Interval::Day => self.quality.accept_untimed(ts_recv),
            _ => self.quality.accept(end_ns.min(ts_recv), ts_recv, Order::Kept),
        }
        if let Some((start_ns, completed)) = completed {
            self.publish(FeedCounter::CompletedBars, at, start_ns, ts_recv, TickBody::Bar(completed));
        }
        if news.is_final() || matches!(interval, Interval::Minute | Interval::Day) {
            self.publish(FeedCounter::VenueBars, at, bar.start, ts_recv, TickBody::Bar(news));
        } else {
            self.count(FeedCounter::BarsInProgress);
        }
    }
}

/// The interval of ours that the bar is of.
fn interval_of(bar: &ToldBar<'_>) -> Option<Interval> {
    let interval = Interval::ALL.into_iter().find(|interval| interval.ns() == bar.interval_ns)?;
    let begins_at = if interval == Interval::Day { DAYS_BEGIN_NS } else { interval.ns() };
    (bar.start.rem_euclid(begins_at) == 0).then_some(interval)
}

/// What the bar says, zero for what it does not.
fn values(bar: &ToldBar<'_>) -> Bar {
    Bar {
        start_ns: bar.start,
        open: bar.open,
        high: bar.high,
        low: bar.low,
        close: bar.close,
        volume: bar.volume,
        trades: bar.trades.unwrap_or_default(),
        vwap: bar.vwap.unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use protocol::Decimal;

    use super::*;

    const MINUTE: i64 = 60_000_000_000;

    /// A bar of the minute of that number, told by its close, and whether it is final.
    type Step = (i64, i64, bool);

    fn bar(close: i64, is_final: bool) -> VenueBar {
        let price = Decimal::new(close, 0).unwrap();
        let volume = Decimal::ZERO;
        let bar =
            Bar { start_ns: 0, open: price, high: price, low: price, close: price, volume, trades: 0, vwap: volume };
        VenueBar::new(Interval::Minute, is_final, &bar)
    }

    fn step(start_ns: i64, bar: VenueBar) -> Step {
        (start_ns / MINUTE, bar.bar(0).close.mantissa(), bar.is_final())
    }

    /// What is published of a bar, or why it is not.
    #[track_caller]
    fn check(
        bars: &mut ProductBars,
        updates: BarUpdates,
        (minute, close, is_final): Step,
        expected: Result<&[Step], Stale>,
    ) {
        let told = bars.tell(minute * MINUTE, bar(close, is_final), updates);
        let published = told.map(|News { completed, bar }| {
            let completed = completed.map(|(start_ns, bar)| step(start_ns, bar));
            completed.into_iter().chain([step(minute * MINUTE, bar)]).collect::<Vec<_>>()
        });
        assert_eq!(published.as_deref().map_err(|stale| *stale), expected, "{minute} {close} {is_final}");
    }

    #[test]
    fn a_bar_is_final_when_the_venue_says_so() {
        let mut bars = ProductBars::default();
        for updates in [BarUpdates::Pushed, BarUpdates::Polled] {
            bars.0.clear();
            check(&mut bars, updates, (1, 5, false), Ok(&[(1, 5, false)]));
            check(&mut bars, updates, (1, 5, false), Err(Stale::Repeated));
            check(&mut bars, updates, (1, 6, false), Ok(&[(1, 6, false)]));
            check(&mut bars, updates, (1, 6, true), Ok(&[(1, 6, true)]));
            check(&mut bars, updates, (1, 6, true), Err(Stale::Repeated));
            check(&mut bars, updates, (0, 6, true), Err(Stale::Outdated));
            check(&mut bars, updates, (2, 7, true), Ok(&[(2, 7, true)]));
            // A correction, also where it is told as an update.
            check(&mut bars, updates, (2, 8, true), Ok(&[(2, 8, true)]));
            check(&mut bars, updates, (2, 9, false), Ok(&[(2, 9, true)]));
            check(&mut bars, updates, (2, 9, false), Err(Stale::Repeated));
            check(&mut bars, updates, (1, 9, true), Err(Stale::Outdated));
        }
    }

    #[test]
    fn what_is_told_last_is_final_where_every_change_is_told() {
        let mut bars = ProductBars::default();
        let pushed = BarUpdates::Pushed;
        check(&mut bars, pushed, (1, 5, false), Ok(&[(1, 5, false)]));
        check(&mut bars, pushed, (2, 6, false), Ok(&[(1, 5, true), (2, 6, false)]));
        check(&mut bars, pushed, (1, 5, false), Err(Stale::Repeated));
        check(&mut bars, pushed, (1, 4, false), Ok(&[(1, 4, true)]));
        check(&mut bars, pushed, (2, 6, false), Err(Stale::Repeated));
        // After a cut it is final only if it is told again.
        bars.cut();
        check(&mut bars, pushed, (4, 7, false), Ok(&[(4, 7, false)]));
        check(&mut bars, pushed, (3, 7, false), Err(Stale::Outdated));
        check(&mut bars, pushed, (3, 7, true), Ok(&[(3, 7, true)]));
        bars.cut();
        check(&mut bars, pushed, (4, 7, false), Err(Stale::Repeated));
        check(&mut bars, pushed, (5, 8, true), Ok(&[(4, 7, true), (5, 8, true)]));
    }

    #[test]
    fn what_an_answer_said_last_need_not_be_all() {
        let mut bars = ProductBars::default();
        let polled = BarUpdates::Polled;
        check(&mut bars, polled, (1, 5, false), Ok(&[(1, 5, false)]));
        check(&mut bars, polled, (2, 6, false), Ok(&[(2, 6, false)]));
        check(&mut bars, polled, (1, 5, true), Ok(&[(1, 5, true)]));
        check(&mut bars, polled, (2, 6, false), Err(Stale::Repeated));
    }

    #[test]
    fn each_interval_stands_for_itself() {
        let mut bars = ProductBars::default();
        let day = VenueBar::new(Interval::Day, true, &bar(5, true).bar(0));
        assert!(bars.tell(10 * MINUTE, day, BarUpdates::Pushed).is_ok());
        check(&mut bars, BarUpdates::Pushed, (1, 5, false), Ok(&[(1, 5, false)]));
        assert_eq!(bars.tell(10 * MINUTE, day, BarUpdates::Pushed), Err(Stale::Repeated));
    }
}
