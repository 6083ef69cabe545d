//! Continuity: what the venue's own numbers say about order, repetition and loss, for one product.
//!
//! Pure, owned by the feed's thread. The venue numbers trades without holes, so a hole is a loss and a repeated
//! number a duplicate. It numbers tickers with holes, so these can only be kept from going back. Deliberately absent:
//! numbers that begin anew at a lower one, which only times tell from repeats; the feed then begins anew too.

/// What to do with a `match`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TradeVerdict {
    /// A trade not seen before, after `missed` ones that never came and were not announced as missed yet.
    Fresh { missed: u64 },
    /// The id is not above the one of the last trade.
    Duplicate,
}

/// The trade ids of one product.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TradeIds {
    /// The last trade that came as a `match`.
    last: Option<u64>,
    /// The highest id that needs no announcement any more: that of the last trade, of a trade before the first
    /// subscription, or of one announced as missed. `known >= last`.
    known: Option<u64>,
    /// The next `last_match` starts the product anew, so it shows no loss.
    anew: bool,
}

impl TradeIds {
    /// A trade that happens now.
    ///
    /// An id above the last trade's but at or below a `last_match` is a trade that was on its way when that was
    /// sent. It was never delivered, so it is fresh; it was told as old state or as missed, so no gap is left.
    pub(crate) fn on_match(&mut self, id: u64) -> TradeVerdict {
        if self.is_repeat(id) {
            return TradeVerdict::Duplicate;
        }
        let missed = self.known.map_or(0, |known| id.saturating_sub(known).saturating_sub(1));
        self.last = Some(id);
        self.known = self.known.max(Some(id));
        self.anew = false;
        debug_assert!(self.known >= self.last, "Invariant: known >= last");
        TradeVerdict::Fresh { missed }
    }

    /// Whether the id is not above that of the last trade.
    pub(crate) fn is_repeat(&self, id: u64) -> bool {
        self.last.is_some_and(|last| id <= last)
    }

    /// The last trade before a subscription. Returns how many trades were missed up to and including it, of
    /// which none was announced before; 0 where the product was never seen.
    pub(crate) fn on_last_match(&mut self, id: u64) -> u64 {
        let missed = match self.known {
            Some(known) if !self.anew => id.saturating_sub(known),
            _ => 0,
        };
        self.known = self.known.max(Some(id));
        self.anew = false;
        missed
    }

    /// What follows is another recording of the product, with higher ids: its first `last_match` shows no loss.
    pub(crate) fn start_anew(&mut self) {
        self.anew = true;
    }
}

/// A number or time that must rise: the ticker sequence or the heartbeat time of one product.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rising<T>(Option<T>);

impl<T: Ord + Copy> Rising<T> {
    /// Whether `next` is above everything before it; if so, it is the new highest.
    pub(crate) fn rises_to(&mut self, next: T) -> bool {
        let rises = self.0.is_none_or(|last| next > last);
        if rises {
            self.0 = Some(next);
        }
        rises
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Match(u64),
        LastMatch(u64),
        Anew,
    }
    use Step::{Anew, LastMatch, Match};

    /// What becomes of each step: `id` a trade, `-n` a gap of n, `0` a duplicate; nothing for old state.
    fn run(steps: &[Step]) -> Vec<i64> {
        let mut ids = TradeIds::default();
        let mut out = Vec::new();
        for step in steps {
            match *step {
                Match(id) => match ids.on_match(id) {
                    TradeVerdict::Fresh { missed } => {
                        out.extend((missed > 0).then_some(-(missed as i64)));
                        out.push(id as i64);
                    }
                    TradeVerdict::Duplicate => out.push(0),
                },
                LastMatch(id) => {
                    let missed = ids.on_last_match(id);
                    out.extend((missed > 0).then_some(-(missed as i64)));
                }
                Anew => ids.start_anew(),
            }
        }
        out
    }

    #[track_caller]
    fn check(steps: &[Step], expected: &[i64]) {
        assert_eq!(run(steps), expected, "{steps:?}");
    }

    #[test]
    fn holes_are_losses_and_repetitions_duplicates() {
        check(&[Match(7), Match(8), Match(8), Match(7), Match(9)], &[7, 8, 0, 0, 9]);
        check(&[Match(7), Match(11), Match(12)], &[7, -3, 11, 12]);
        check(&[LastMatch(6), Match(7), Match(8)], &[7, 8]);
        check(&[LastMatch(6), Match(9)], &[-2, 9]);
        check(&[Match(0), Match(1)], &[0, 1]);
    }

    #[test]
    fn a_reconnect_shows_what_was_missed_once() {
        check(&[Match(7), LastMatch(7), Match(8)], &[7, 8]);
        check(&[Match(7), LastMatch(10), Match(11)], &[7, -3, 11]);
        check(&[Match(7), LastMatch(10), LastMatch(10), LastMatch(12), Match(13)], &[7, -3, -2, 13]);
        check(&[Match(7), LastMatch(5), Match(6), Match(8)], &[7, 0, 8]);
    }

    #[test]
    fn a_trade_that_was_on_its_way_is_delivered() {
        check(&[LastMatch(7), Match(7), Match(8)], &[7, 8]);
        check(&[LastMatch(7), Match(6), Match(7), Match(8)], &[6, 7, 8]);
        check(&[Match(5), LastMatch(8), Match(7), Match(8), Match(9)], &[5, -3, 7, 8, 9]);
    }

    #[test]
    fn another_recording_begins_without_a_loss() {
        check(&[LastMatch(4), Match(5), Anew, LastMatch(5), Match(6)], &[5, 6]);
        check(&[LastMatch(4), Match(5), Anew, LastMatch(6), Match(6), Match(7)], &[5, 6, 7]);
        check(&[Match(5), Anew, Match(6), LastMatch(8)], &[5, 6, -2]);
        check(&[Match(5), Anew, LastMatch(6), LastMatch(8), Match(9)], &[5, -2, 9]);
    }

    #[test]
    fn the_ends_of_the_range_do_no_harm() {
        check(&[Match(0), Match(i64::MAX as u64), Match(1)], &[0, -(i64::MAX - 1), i64::MAX, 0]);
        assert_eq!(TradeIds::default().on_match(u64::MAX), TradeVerdict::Fresh { missed: 0 });
    }

    #[test]
    fn rising_never_goes_back() {
        let mut sequence = Rising::default();
        let rises = [5, 5, 4, 6, -1, 7].map(|n| sequence.rises_to(n));
        assert_eq!(rises, [true, false, false, true, false, true]);
    }

    proptest! {
        #[test]
        fn every_id_is_delivered_once_in_order_or_announced(
            first in 0u64..5,
            steps in proptest::collection::vec((0u64..30, any::<bool>()), 1..40),
        ) {
            let mut script = vec![LastMatch(first)];
            script.extend(steps.iter().map(|&(id, is_match)| if is_match { Match(id) } else { LastMatch(id) }));
            let out = run(&script);
            let delivered: Vec<i64> = out.iter().copied().filter(|n| *n > 0).collect();
            prop_assert!(delivered.is_sorted_by(|a, b| a < b));
            // Everything after the baseline was delivered or announced, at least once, up to the highest seen.
            let highest = script.iter().map(|step| match step { Match(id) | LastMatch(id) => *id, Anew => 0 }).max();
            let announced: i64 = out.iter().filter(|n| **n < 0).map(|n| -n).sum();
            let above = delivered.iter().filter(|id| **id > first as i64).count() as i64;
            prop_assert!(announced + above >= highest.unwrap_or(0) as i64 - first as i64);
        }
    }
}
