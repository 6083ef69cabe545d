//! A coarse timer wheel: one per shard, instead of a timer per client.
//!
//! Times are milliseconds of the shard's monotonic clock. A deadline fires on the first poll at or after it,
//! never before it, up to one `TICK_MS` late. Deadlines beyond the horizon are walked there in steps: their
//! owner is woken early and arms itself again, which costs one needless call every `HORIZON_MS`.

/// Granularity.
const TICK_MS: u64 = 10;
/// 4096 slots * 10 ms = 41 s: the default heartbeat of 15 s fits with room.
const SLOTS: usize = 4096;
const HORIZON_MS: u64 = (SLOTS as u64 - 1) * TICK_MS;

#[derive(Debug)]
pub(crate) struct Wheel<T> {
    slots: Box<[Vec<T>]>,
    /// Tick up to which everything has fired.
    tick: u64,
    armed: usize,
}

impl<T> Wheel<T> {
    pub(crate) fn new(now_ms: u64) -> Wheel<T> {
        Wheel { slots: (0..SLOTS).map(|_| Vec::new()).collect(), tick: now_ms / TICK_MS, armed: 0 }
    }

    /// The latest deadline that can be told from the others now, ms.
    pub(crate) fn horizon_ms(&self) -> u64 {
        self.tick * TICK_MS + HORIZON_MS
    }

    /// Wakes `owner` at `deadline_ms`, or at the horizon if that is earlier.
    pub(crate) fn arm(&mut self, deadline_ms: u64, owner: T) {
        let tick = deadline_ms.min(self.horizon_ms()).div_ceil(TICK_MS).max(self.tick + 1);
        self.slots[tick as usize % SLOTS].push(owner);
        self.armed += 1;
    }

    /// Moves everybody whose time has come to `due`.
    pub(crate) fn poll(&mut self, now_ms: u64, due: &mut Vec<T>) {
        let now = now_ms / TICK_MS;
        // After a long pause one round is enough: every slot is due by then.
        let rounds = now.saturating_sub(self.tick).min(SLOTS as u64);
        for tick in now - rounds + 1..=now {
            let slot = &mut self.slots[tick as usize % SLOTS];
            self.armed -= slot.len();
            due.append(slot);
        }
        self.tick = self.tick.max(now);
    }

    /// How many wake-ups are in the wheel, those included that an earlier one has overtaken.
    #[cfg(test)]
    pub(crate) fn armed(&self) -> usize {
        self.armed
    }

    /// When to poll next; `None` while nobody waits.
    pub(crate) fn next_poll_ms(&self) -> Option<u64> {
        if self.armed == 0 {
            return None;
        }
        // Looks at most a second ahead, so that an almost empty wheel costs 100 looks a second at most.
        let ahead = (1..=100u64).find(|i| !self.slots[(self.tick + i) as usize % SLOTS].is_empty()).unwrap_or(100);
        Some((self.tick + ahead) * TICK_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fired(wheel: &mut Wheel<u32>, now_ms: u64) -> Vec<u32> {
        let mut due = Vec::new();
        wheel.poll(now_ms, &mut due);
        due
    }

    #[test]
    fn deadlines_fire_once_and_never_early() {
        let mut wheel = Wheel::new(1_000);
        assert_eq!(wheel.next_poll_ms(), None);
        wheel.arm(1_025, 1);
        wheel.arm(1_000, 2);
        wheel.arm(900_000, 3);
        assert_eq!(wheel.next_poll_ms(), Some(1_010));
        assert_eq!(fired(&mut wheel, 1_005), [0u32; 0]);
        assert_eq!(fired(&mut wheel, 1_010), [2]);
        assert_eq!(fired(&mut wheel, 1_029), [0u32; 0]);
        assert_eq!(fired(&mut wheel, 1_030), [1]);
        assert_eq!(fired(&mut wheel, 1_000 + HORIZON_MS), [3], "woken at the horizon");
        assert_eq!(wheel.next_poll_ms(), None);
    }

    #[test]
    fn a_long_pause_fires_everything() {
        let mut wheel = Wheel::new(0);
        for i in 0..100 {
            wheel.arm(u64::from(i) * 37, i);
        }
        let mut all = fired(&mut wheel, 10_000_000);
        all.sort_unstable();
        assert_eq!(all, (0..100).collect::<Vec<_>>());
        assert_eq!(fired(&mut wheel, 10_000_000), [0u32; 0]);
        wheel.arm(5, 7);
        assert_eq!(fired(&mut wheel, 10_000_010), [7], "a deadline in the past fires at the next tick");
    }
}
