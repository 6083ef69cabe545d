//! A shard's connections by the slot that the hub gave each of them. Pure.
//!
//! Kept in blocks, so that the table grows without moving what it has: one that doubles leaves as much again behind, which an
//! allocator may keep.

/// Slots of a block: some 36 KiB of connections.
const BLOCK: usize = 256;

#[derive(Debug)]
pub(super) struct Slots<T> {
    blocks: Vec<Box<[Option<T>]>>,
}

impl<T> Default for Slots<T> {
    fn default() -> Slots<T> {
        Slots { blocks: Vec::new() }
    }
}

impl<T> Slots<T> {
    pub(super) fn get(&self, slot: u32) -> Option<&T> {
        self.blocks.get(slot as usize / BLOCK)?[slot as usize % BLOCK].as_ref()
    }

    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut T> {
        self.slot(slot)?.as_mut()
    }

    /// Puts something into a slot, in place of what may be there.
    pub(super) fn put(&mut self, slot: u32, value: T) {
        while self.blocks.len() * BLOCK <= slot as usize {
            self.blocks.push((0..BLOCK).map(|_| None).collect());
        }
        self.blocks[slot as usize / BLOCK][slot as usize % BLOCK] = Some(value);
    }

    /// Empties a slot, where what is in it is meant.
    pub(super) fn take_if(&mut self, slot: u32, is_meant: impl FnOnce(&mut T) -> bool) -> Option<T> {
        self.slot(slot)?.take_if(is_meant)
    }

    /// What is in the slots that are not empty, in their order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.blocks.iter().flatten().flatten()
    }

    fn slot(&mut self, slot: u32) -> Option<&mut Option<T>> {
        Some(&mut self.blocks.get_mut(slot as usize / BLOCK)?[slot as usize % BLOCK])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_stays_until_it_is_taken() {
        let mut slots = Slots::default();
        assert!(slots.get(0).is_none() && slots.get_mut(700).is_none());
        for slot in [0, 255, 256, 1_000] {
            slots.put(slot, slot * 10);
        }
        *slots.get_mut(256).unwrap() += 1;
        assert_eq!(slots.iter().copied().collect::<Vec<_>>(), [0, 2_550, 2_561, 10_000]);
        assert_eq!(slots.take_if(255, |value| *value == 7), None);
        assert_eq!(slots.take_if(255, |value| *value == 2_550), Some(2_550));
        assert_eq!(slots.get(255), None);
        assert_eq!(slots.take_if(9_999, |_| true), None);
        assert_eq!(slots.get(257), None);
        slots.put(0, 5);
        assert_eq!(slots.iter().copied().collect::<Vec<_>>(), [5, 2_561, 10_000]);
    }
}
