//! Which signals were processed already, by their ids. Pure.
//!
//! Bound: [`REMEMBERED`] ids of 16 bytes, twice with the order in which they came: about 10 MiB. The oldest is forgotten, so a
//! repeat is found as long as no more than so many others came between.

use std::collections::{HashSet, VecDeque};

/// Ids that are remembered.
pub(crate) const REMEMBERED: usize = 200_000;

#[derive(Debug)]
pub(crate) struct Repeats {
    ids: HashSet<u128>,
    order: VecDeque<u128>,
    max: usize,
}

impl Repeats {
    pub(crate) fn new(max: usize) -> Repeats {
        Repeats { ids: HashSet::new(), order: VecDeque::new(), max }
    }

    /// Remembers an id. False where it was known.
    pub(crate) fn is_new(&mut self, id: u128) -> bool {
        if !self.ids.insert(id) {
            return false;
        }
        self.order.push_back(id);
        if self.order.len() > self.max
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_the_newest() {
        let mut repeats = Repeats::new(3);
        assert_eq!([1, 2, 3, 1, 2].map(|id| repeats.is_new(id)), [true, true, true, false, false]);
        assert!(repeats.is_new(4));
        assert_eq!([2, 3, 4].map(|id| repeats.is_new(id)), [false; 3]);
        assert!(repeats.is_new(1), "the oldest is forgotten");
    }
}
