//! Which of a shard's clients are a user's: a change of the user's record is about those alone, among very many. Pure.
//!
//! 8 bytes for each slot, and an entry for each user that is connected here.

use std::collections::HashMap;
use std::sync::Arc;

const NONE: u32 = u32::MAX;

/// A slot's neighbours among those of its user.
#[derive(Clone, Copy, Debug)]
struct Link {
    previous: u32,
    next: u32,
}

const ALONE: Link = Link { previous: NONE, next: NONE };

/// Slots by user.
#[derive(Debug, Default)]
pub(super) struct UserSlots {
    /// The first slot of each user; a user without slots is not in it.
    heads: HashMap<Arc<str>, u32>,
    /// By slot. What stands in a slot that no user has means nothing.
    links: Vec<Link>,
}

impl UserSlots {
    /// Gives a free slot to a user.
    pub(super) fn insert(&mut self, user: &Arc<str>, slot: u32) {
        if self.links.len() <= slot as usize {
            self.links.resize(slot as usize + 1, ALONE);
        }
        let next = self.heads.insert(user.clone(), slot).unwrap_or(NONE);
        self.links[slot as usize] = Link { previous: NONE, next };
        if next != NONE {
            self.links[next as usize].previous = slot;
        }
    }

    /// Takes back a slot that the user has.
    pub(super) fn remove(&mut self, user: &Arc<str>, slot: u32) {
        let Link { previous, next } = self.links[slot as usize];
        if next != NONE {
            self.links[next as usize].previous = previous;
        }
        if previous != NONE {
            self.links[previous as usize].next = next;
        } else if next != NONE {
            if let Some(head) = self.heads.get_mut(user) {
                *head = next;
            }
        } else {
            self.heads.remove(user);
        }
    }

    /// The user's slots.
    pub(super) fn of(&self, user: &str) -> impl Iterator<Item = u32> + '_ {
        let some = |slot: u32| (slot != NONE).then_some(slot);
        let first = self.heads.get(user).copied();
        std::iter::successors(first, move |slot| some(self.links[*slot as usize].next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(slots: &UserSlots, user: &str) -> Vec<u32> {
        let mut of: Vec<u32> = slots.of(user).collect();
        of.sort_unstable();
        of
    }

    #[test]
    fn slots_come_and_go_in_any_order() {
        let (alice, bob): (Arc<str>, Arc<str>) = ("alice".into(), "bob".into());
        let orders = [[0, 2, 4], [0, 4, 2], [2, 0, 4], [2, 4, 0], [4, 0, 2], [4, 2, 0]];
        for order in orders {
            let mut slots = UserSlots::default();
            for slot in 0..6 {
                slots.insert(if slot % 2 == 0 { &alice } else { &bob }, slot);
            }
            let mut left = vec![0, 2, 4];
            for slot in order {
                assert_eq!(sorted(&slots, "alice"), left);
                slots.remove(&alice, slot);
                left.retain(|other| *other != slot);
            }
            assert_eq!((sorted(&slots, "alice"), sorted(&slots, "bob")), (vec![], vec![1, 3, 5]));
            assert_eq!(slots.heads.len(), 1);
            slots.insert(&bob, 4);
            assert_eq!(sorted(&slots, "bob"), [1, 3, 4, 5]);
        }
        assert_eq!(UserSlots::default().of("nobody").count(), 0);
    }
}
