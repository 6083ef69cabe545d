//! Bars that venues make, of one instrument: folded into the longer ones, and put beside our own.
//!
//! Pure, part of [`super::Bars`]. Of two bars of the same interval and begin, one goes out:
//! - Our own, made of trades, where the trades began before it did: it is whole.
//! - The venue's, where they did not, or where there are none. It was made of trades that we have not seen.
//!
//! So where trades join an instrument whose bars a venue tells, the minute under way is the venue's and the next one ours,
//! and the day is the venue's to its end. Neither goes out twice, and none after a later one.
//!
//! **Intervals** that the venue does not tell are folded from the next shorter one that it does, as ours are. No clock
//! moves them: a venue may tell bars by the minute or by the hour, and each instrument in its turn. A longer bar is
//! final with the last of its parts, or with the first one after it. A bar is taken into the longer one when the next
//! one comes, or when it is the last of it, so what the venue corrects until then is in it.
//!
//! Deliberately absent: corrections of folded bars; what a venue tells of itself twice ([`crate::feed`]); which of several
//! venues is heard ([`crate::arbitration`]).

#[cfg(test)]
mod tests;

use protocol::{Bar, Interval, VenueBar};

use super::builder::Builder;
use super::{Finished, start};

/// The venue's bars of one instrument: 1.1 KiB.
#[derive(Debug)]
pub(super) struct VenueBars {
    lanes: [Lane; Interval::COUNT],
}

/// Those of one interval. Times are begins of bars, Unix ns, `i64::MIN` before the first.
#[derive(Clone, Copy, Debug)]
struct Lane {
    /// The first that the venue told; `i64::MAX` where it tells none of this interval, and they are folded.
    from_ns: i64,
    /// The latest that the venue said is final.
    told_ns: i64,
    /// Told: that bar, unless it is in the longer one already. Folded: the bar in progress.
    part: Option<Builder>,
    /// The latest that went out as final, the venue's or ours.
    final_ns: i64,
    /// The latest that went out in progress; of a day, when ours begins.
    shown_ns: i64,
}

const _: () = assert!(size_of::<VenueBars>() <= 1_100);

impl Lane {
    fn is_told(&self) -> bool {
        self.from_ns < i64::MAX
    }
}

impl VenueBars {
    /// Of an instrument of which ours went out as final up to `finals_ns` already, and which has this minute in progress.
    pub(super) fn new(finals_ns: &[i64; Interval::COUNT], minute: Option<i64>) -> VenueBars {
        let shown_ns = minute.unwrap_or(finals_ns[Interval::Minute as usize]);
        let lane = |interval: Interval| Lane {
            from_ns: i64::MAX,
            told_ns: i64::MIN,
            part: None,
            final_ns: finals_ns[interval as usize],
            shown_ns: if shown_ns > i64::MIN { start(shown_ns, interval) } else { shown_ns },
        };
        VenueBars { lanes: Interval::ALL.map(lane) }
    }

    /// Takes in a bar that begins at `start_ns`; our trades began at `own_ns`. Hands out what came of it, and says whether
    /// the bar itself did.
    pub(super) fn tell(&mut self, bar: &VenueBar, start_ns: i64, own_ns: i64, out: &mut impl FnMut(Finished)) -> bool {
        let (interval, bar, is_final) = (bar.interval(), bar.bar(start_ns), bar.is_final());
        let lane = &mut self.lanes[interval as usize];
        if !lane.is_told() {
            (lane.from_ns, lane.part) = (start_ns, None);
        }
        if start_ns < lane.told_ns {
            return false;
        }
        if start_ns == lane.told_ns {
            if let Some(part) = lane.part.as_mut().filter(|part| part.start_ns == start_ns) {
                *part = Builder::of_bar(interval, &bar);
            }
            let went_out = lane.final_ns == start_ns && self.covers(interval, start_ns, own_ns);
            // A minute goes out behind the one in progress too, as one does that a late trade has changed.
            return went_out
                && (interval == Interval::Minute || self.shows(interval, start_ns))
                && show(interval, bar, out);
        }
        self.pass(interval, start_ns, own_ns, out);
        if !is_final {
            let is_shown = self.covers(interval, start_ns, own_ns) && self.shows(interval, start_ns);
            return is_shown && show(interval, bar, out);
        }
        let goes_out = self.covers(interval, start_ns, own_ns) && self.finishes(interval, start_ns);
        if goes_out {
            out(Finished::Bar(interval, bar));
        }
        let part = Builder::of_bar(interval, &bar);
        let lane = &mut self.lanes[interval as usize];
        (lane.told_ns, lane.part) = (start_ns, Some(part));
        if longer(interval).is_some_and(|longer| part.end_ns().rem_euclid(longer.ns()) == 0) {
            self.fold_latest(interval, own_ns, out);
        }
        match interval {
            Interval::Day if goes_out && self.shows(interval, start_ns) => out(Finished::Day(bar)),
            Interval::Day => {}
            _ => self.show_day(&part, own_ns, out),
        }
        goes_out
    }

    /// Whether a bar of ours goes out as final; our trades began at `own_ns`.
    pub(super) fn admits_own(&mut self, interval: Interval, start_ns: i64, own_ns: i64) -> bool {
        !self.covers(interval, start_ns, own_ns) && self.finishes(interval, start_ns)
    }

    /// Whether a minute or a day of ours goes out in progress, or one that a late trade has corrected.
    pub(super) fn admits_own_progress(&mut self, interval: Interval, start_ns: i64, own_ns: i64) -> bool {
        // A corrected minute goes out whichever is the latest.
        !self.covers(interval, start_ns, own_ns) && (self.shows(interval, start_ns) || interval == Interval::Minute)
    }

    /// Whether the bar is the venue's, and not ours. Of two that are folded, neither of them whole, it is that which began
    /// first. The day of an exchange stands for ours in which it begins.
    fn covers(&self, interval: Interval, start_ns: i64, own_ns: i64) -> bool {
        let base = || self.lanes[..interval as usize].iter().rfind(|lane| lane.is_told());
        let is_venues = || self.lanes[interval as usize].is_told() || base().is_some_and(|base| base.from_ns < own_ns);
        start(start_ns, interval) < own_ns && is_venues()
    }

    /// Whether no later one has gone out as final, nor this one.
    fn finishes(&mut self, interval: Interval, start_ns: i64) -> bool {
        let last = &mut self.lanes[interval as usize].final_ns;
        let is_later = start_ns > *last;
        *last = start_ns.max(*last);
        is_later
    }

    /// Whether no later one has gone out in progress. The day of an exchange counts as ours in which it begins.
    fn shows(&mut self, interval: Interval, start_ns: i64) -> bool {
        let (start_ns, last) = (start(start_ns, interval), &mut self.lanes[interval as usize].shown_ns);
        *last = start_ns.max(*last);
        start_ns == *last
    }

    /// A later bar of the interval begins: those that are folded from it and end before are final.
    fn pass(&mut self, interval: Interval, start_ns: i64, own_ns: i64, out: &mut impl FnMut(Finished)) {
        self.fold_latest(interval, own_ns, out);
        for lane in interval as usize + 1..Interval::COUNT {
            if self.lanes[lane].is_told() {
                return;
            }
            if let Some(part) = self.lanes[lane].part.take_if(|part| part.end_ns() <= start_ns) {
                self.finish(part, own_ns, out);
            }
        }
    }

    /// Takes the latest bar that was told into the longer one.
    fn fold_latest(&mut self, interval: Interval, own_ns: i64, out: &mut impl FnMut(Finished)) {
        if let Some(part) = self.lanes[interval as usize].part.take() {
            self.fold(part, own_ns, out);
        }
    }

    /// Takes a finished bar into the longer one, unless the venue tells that.
    fn fold(&mut self, part: Builder, own_ns: i64, out: &mut impl FnMut(Finished)) {
        let Some(next) = longer(part.interval).filter(|next| !self.lanes[*next as usize].is_told()) else { return };
        let lane = &mut self.lanes[next as usize];
        if let Some(before) = lane.part.take_if(|before| before.end_ns() <= part.start_ns) {
            self.finish(before, own_ns, out);
        }
        let lane = &mut self.lanes[next as usize];
        match &mut lane.part {
            Some(folded) => folded.merge(&part),
            none => *none = Some(part.widened(next, start(part.start_ns, next))),
        }
        if let Some(folded) = lane.part.take_if(|folded| folded.end_ns() <= part.end_ns()) {
            self.finish(folded, own_ns, out);
        }
    }

    /// A folded bar is final.
    fn finish(&mut self, folded: Builder, own_ns: i64, out: &mut impl FnMut(Finished)) {
        let Builder { interval, start_ns, .. } = folded;
        if self.covers(interval, start_ns, own_ns) && self.finishes(interval, start_ns) {
            out(Finished::Bar(interval, folded.bar()));
            if interval == Interval::Day && self.shows(interval, start_ns) {
                out(Finished::Day(folded.bar()));
            }
        }
        self.fold(folded, own_ns, out);
    }

    /// What the day of a bar that became final has come to, where the day is folded from bars like it.
    fn show_day(&mut self, part: &Builder, own_ns: i64, out: &mut impl FnMut(Finished)) {
        let base = self.lanes.iter().rposition(Lane::is_told);
        if base != Some(part.interval as usize) {
            return;
        }
        let start_ns = start(part.start_ns, Interval::Day);
        let parts = self.lanes[part.interval as usize..].iter().filter_map(|lane| lane.part);
        let mut parts = parts.filter(|part| start(part.start_ns, Interval::Day) == start_ns);
        // There is none where the day itself has become final.
        let Some(first) = parts.next() else { return };
        let mut day = first.widened(Interval::Day, start_ns);
        parts.for_each(|part| day.merge(&part));
        if self.covers(Interval::Day, start_ns, own_ns) && self.shows(Interval::Day, start_ns) {
            out(Finished::Day(day.bar()));
        }
    }
}

fn longer(interval: Interval) -> Option<Interval> {
    Interval::ALL.get(interval as usize + 1).copied()
}

/// Hands out a bar in progress, or a corrected one, of an interval of which a channel shows that.
fn show(interval: Interval, bar: Bar, out: &mut impl FnMut(Finished)) -> bool {
    out(match interval {
        Interval::Minute => Finished::Minute(bar),
        Interval::Day => Finished::Day(bar),
        _ => return false,
    });
    true
}
