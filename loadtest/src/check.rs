//! The numbering of one channel as one client sees it: what is missing, repeated, out of order, announced.
//!
//! Pure; each client has one [`Sequence`] for each channel. It remembers the last number and which of the 64 up to it came,
//! so that a message that was overtaken is told from one that never came: a number counts as missing when it falls out of
//! these 64, or when the client is asked to settle. Deliberately absent: the reading of messages.

/// How many numbers up to the last one are remembered.
const WINDOW: u64 = 64;

/// What a number told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Finding {
    /// Numbers that are now known never to have come.
    pub missing: u64,
    /// The first of them.
    pub missing_from: u64,
    pub duplicate: bool,
    pub reordered: bool,
}

impl Finding {
    pub fn is_clean(&self) -> bool {
        *self == Finding::default()
    }

    fn lacks(&mut self, count: u64, from: u64) {
        if count > 0 && self.missing == 0 {
            self.missing_from = from;
        }
        self.missing += count;
    }
}

/// The place of a client in one channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sequence {
    /// The highest number so far; 0: none yet.
    last: u64,
    /// The number that the client began with; what is below it was never due.
    first: u64,
    /// Bit `i`: number `last - i` came, was announced, or was never due.
    window: u64,
    /// Whether a number below the window is lacking, so that one that comes later may be new.
    holes: bool,
}

impl Sequence {
    /// The highest number so far; `None` before the first one.
    pub fn last(&self) -> Option<u64> {
        (self.last > 0).then_some(self.last)
    }

    /// A message with that number came. Numbers begin with 1.
    #[inline]
    pub fn came(&mut self, number: u64) -> Finding {
        if number == self.last + 1 && self.last > 0 && self.window >> (WINDOW - 1) == 1 {
            self.last = number;
            self.window = self.window << 1 | 1;
            return Finding::default();
        }
        self.came_otherwise(number)
    }

    #[cold]
    fn came_otherwise(&mut self, number: u64) -> Finding {
        let mut finding = Finding::default();
        if self.last == 0 {
            *self = Sequence { last: number, first: number, window: u64::MAX, holes: false };
        } else if number > self.last {
            self.advance(number, &mut finding);
            self.window |= 1;
        } else {
            let back = self.last - number;
            if number < self.first {
                finding.reordered = true;
            } else if back < WINDOW {
                let bit = 1 << back;
                finding.duplicate = self.window & bit != 0;
                finding.reordered = !finding.duplicate;
                self.window |= bit;
            } else {
                // A number that was counted as missing already stays so, and is also out of order.
                finding.duplicate = !self.holes;
                finding.reordered = self.holes;
            }
        }
        finding
    }

    /// Makes `number` the last one, itself not marked as having come.
    fn advance(&mut self, number: u64, finding: &mut Finding) {
        let by = number - self.last;
        // Numbers that leave the window: those of the old window first, then those that are skipped at once.
        let leaving = by.min(WINDOW);
        let gone = if leaving == WINDOW { self.window } else { self.window >> (WINDOW - leaving) };
        let absent = leaving - u64::from(gone.count_ones());
        if absent > 0 {
            // The highest clear bit of the leaving part is the lowest number of them.
            let lowest = (0..leaving).rev().find(|bit| gone >> bit & 1 == 0).unwrap_or(0);
            finding.lacks(absent, self.last - (WINDOW - leaving) - lowest);
        }
        let skipped = by.saturating_sub(WINDOW);
        finding.lacks(skipped, self.last + 1);
        self.holes |= absent + skipped > 0;
        self.window = if leaving == WINDOW { 0 } else { self.window << leaving };
        self.last = number;
    }

    /// The server says that `from` to `to` will not come. Returns how many numbers that concerns that had not come.
    pub fn announced(&mut self, from: u64, to: u64) -> (u64, Finding) {
        let mut finding = Finding::default();
        if to < from || to == 0 {
            return (0, finding);
        }
        if self.last == 0 {
            *self = Sequence { last: to, first: to + 1, window: u64::MAX, holes: false };
            return (to - from + 1, finding);
        }
        let mut accounted = 0;
        if to > self.last {
            let before = from.max(self.last + 1);
            if before > self.last + 1 {
                // What lies between the last number and the gap was not announced.
                self.advance(before - 1, &mut finding);
            }
            accounted += to - before + 1;
            let by = to - self.last;
            let mut left = Finding::default();
            self.advance(to, &mut left);
            // Of what `advance` found lacking, what lies in the gap is not.
            let skipped = by.saturating_sub(WINDOW);
            if left.missing > skipped {
                finding.lacks(left.missing - skipped, left.missing_from);
            }
            self.window |= if by >= WINDOW { u64::MAX } else { (1 << by) - 1 };
        }
        // What is within the window and had not come.
        let (start, top) = (from.max(self.first), self.last);
        for back in 0..WINDOW.min(top) {
            let number = top - back;
            if number < start {
                break;
            }
            if number <= to && self.window >> back & 1 == 0 {
                self.window |= 1 << back;
                accounted += 1;
            }
        }
        (accounted, finding)
    }

    /// Nothing more will come up to `target` (0: up to the last number): what lacks now is missing.
    pub fn settle(&mut self, target: u64) -> Finding {
        let mut finding = Finding::default();
        if self.last == 0 {
            return finding;
        }
        let absent = WINDOW - u64::from(self.window.count_ones());
        if absent > 0 {
            let lowest = (0..WINDOW).rev().find(|bit| self.window >> bit & 1 == 0).unwrap_or(0);
            finding.lacks(absent, self.last - lowest);
        }
        if target > self.last {
            finding.lacks(target - self.last, self.last + 1);
            self.last = target;
        }
        self.holes |= finding.missing > 0;
        self.window = u64::MAX;
        finding
    }

    /// Whether everything up to `target` is here.
    pub fn has_all(&self, target: u64) -> bool {
        self.last >= target && self.window == u64::MAX
    }

    /// A conflated channel's next number: how many values it replaced, and whether it is no news.
    #[inline]
    pub fn came_conflated(&mut self, number: u64) -> (u64, Finding) {
        let last = self.last;
        if number > last {
            self.last = number;
            return (if last == 0 { 0 } else { number - last - 1 }, Finding::default());
        }
        (0, Finding { duplicate: number == last, reordered: number < last, ..Finding::default() })
    }
}

#[cfg(test)]
mod tests;
