//! How loaded a shard is, and so how far apart the rounds begin in which it writes to its clients. Pure; owned by the
//! shard's thread.
//!
//! The load is what the shard would need of its core if every message had a write of its own: deliveries a second times
//! the time of a write. Below half a core there are no rounds, and nothing waits. From there on they come to be apart,
//! since each message that shares a write is a write less; so a busy shard keeps a part of its core free, which it needs
//! for bursts, instead of writing the same bytes in more pieces.
//!
//! How far apart depends on how long the fan-out of one message takes. Who is last in a line of a thousand gets it
//! milliseconds after who is first, whatever the shard does; a wait of the same order adds little to that and saves whole
//! rounds of writes. A message that goes to few is not late for any of them, and waits for [`ROUND_MIN`] at most. Where
//! the shard is still busy nearly all the time, rounds are stretched until it is not, or they are as long as they may be.

use std::time::Duration;

use fanout::HubCounters;

/// Load at which there begin to be rounds.
const FIRST_LOAD: f64 = 0.5;
/// Load from which on they are as far apart as they may.
const FULL_LOAD: f64 = 1.5;
/// How far apart rounds may be at least.
const ROUND_MIN: Duration = Duration::from_millis(5);
/// How far apart they may be, in times that the fan-out of one message takes: at two, half of the core stays free.
const ROUND_FAN_OUTS: f64 = 2.0;
/// How far apart they may be for that, at most; beyond it only where the shard is busy.
const ROUND_FAN_OUTS_MAX: Duration = Duration::from_millis(12);
/// Share of its time that a shard is busy, above which rounds are stretched.
const BUSY_MAX: f64 = 0.90;
/// Share of its time below which they shrink again.
const BUSY_MIN: f64 = 0.82;
/// How fast they stretch, and shrink: this much in a window.
const STRETCH: Duration = Duration::from_millis(1);
const SHRINK: Duration = Duration::from_micros(250);
/// How long deliveries and writes are counted before the load is worked out again.
const WINDOW: Duration = Duration::from_millis(50);
/// Weight of the newest window: the load follows a change within some 150 ms.
const NEWEST: f64 = 0.3;

/// A turn of the shard's loop.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    /// Since the turn before.
    pub(super) elapsed: Duration,
    /// Part of it that the shard had nothing to do.
    pub(super) slept: Duration,
    /// Part of it that clients were flushed.
    pub(super) writing: Duration,
}

/// What a shard has written, and what follows from it.
#[derive(Debug)]
pub(super) struct Load {
    round_max: Duration,
    /// Since the window began.
    elapsed: Duration,
    busy: Duration,
    writing: Duration,
    /// How far apart rounds are to begin because the shard is busy.
    stretched: Duration,
    /// At the beginning of the window.
    before: HubCounters,
    /// Time of a write, smoothed, seconds.
    write_s: f64,
    /// Clients that a message goes to, smoothed.
    fan_out: f64,
    /// Smoothed, cores.
    load: f64,
}

impl Load {
    pub(super) fn new(round_max: Duration) -> Load {
        Load {
            round_max,
            elapsed: Duration::ZERO,
            busy: Duration::ZERO,
            writing: Duration::ZERO,
            stretched: Duration::ZERO,
            before: HubCounters::default(),
            write_s: 0.0,
            fan_out: 0.0,
            load: 0.0,
        }
    }

    /// Takes in that `turn` has passed, with the hub's totals as they are now. True where [`Self::round_ms`] may have
    /// changed.
    pub(super) fn add(&mut self, turn: Turn, totals: &HubCounters) -> bool {
        self.elapsed += turn.elapsed;
        self.busy += turn.elapsed.saturating_sub(turn.slept);
        self.writing += turn.writing;
        if self.elapsed < WINDOW {
            return false;
        }
        let before = std::mem::replace(&mut self.before, *totals);
        let writes = totals.writes - before.writes;
        let deliveries = (totals.messages_delivered - before.messages_delivered) as f64;
        let messages = totals.messages_fanned_out - before.messages_fanned_out;
        // A long sleep is as many quiet windows as fit.
        let windows = self.elapsed.as_secs_f64() / WINDOW.as_secs_f64();
        let newest = 1.0 - (1.0 - NEWEST).powf(windows);
        if writes > 0 {
            smooth(&mut self.write_s, self.writing.as_secs_f64() / writes as f64, newest);
        }
        if messages > 0 {
            smooth(&mut self.fan_out, deliveries / messages as f64, newest);
        }
        self.load += (deliveries / self.elapsed.as_secs_f64() * self.write_s - self.load) * newest;
        let busy = self.busy.as_secs_f64() / self.elapsed.as_secs_f64();
        if busy > BUSY_MAX {
            self.stretched = (self.stretched.max(self.fan_outs()) + STRETCH).min(self.round_max);
        } else if busy < BUSY_MIN {
            self.stretched = self.stretched.saturating_sub(SHRINK.mul_f64(windows));
        }
        (self.elapsed, self.busy, self.writing) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
        true
    }

    /// How far apart rounds may begin for the time that the fan-out of one message takes.
    fn fan_outs(&self) -> Duration {
        let fan_outs = Duration::from_secs_f64(self.fan_out * self.write_s * ROUND_FAN_OUTS);
        fan_outs.clamp(ROUND_MIN, ROUND_FAN_OUTS_MAX)
    }

    /// How far apart rounds are to begin, ms; 0 for no rounds.
    pub(super) fn round_ms(&self) -> u64 {
        let share = ((self.load - FIRST_LOAD) / (FULL_LOAD - FIRST_LOAD)).clamp(0.0, 1.0);
        let round = self.fan_outs().max(self.stretched).min(self.round_max);
        (share * round.as_secs_f64() * 1e3).round() as u64
    }
}

/// Moves a smoothed value, which is 0 before the first one, towards the newest.
fn smooth(value: &mut f64, newest: f64, weight: f64) {
    *value += (newest - *value) * if *value == 0.0 { 1.0 } else { weight };
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const WRITE: Duration = Duration::from_micros(5);

    /// A shard, ms by ms.
    struct Shard {
        load: Load,
        totals: HubCounters,
        /// Share of its time that it sleeps, %.
        sleeps: u32,
    }

    impl Shard {
        fn new() -> Shard {
            Shard { load: Load::new(16 * MS), totals: HubCounters::default(), sleeps: 15 }
        }

        /// A second with so many messages, each to so many clients, so many of them in a write.
        fn second(&mut self, messages: u64, clients: u64, in_a_write: u64) -> u64 {
            for _ in 0..1_000 {
                let deliveries = messages * clients / 1_000;
                let writes = deliveries / in_a_write;
                self.totals.messages_fanned_out += messages / 1_000;
                self.totals.messages_delivered += deliveries;
                self.totals.writes += writes;
                let turn = Turn { elapsed: MS, slept: MS * self.sleeps / 100, writing: WRITE * writes as u32 };
                self.load.add(turn, &self.totals);
            }
            self.load.round_ms()
        }
    }

    #[test]
    fn rounds_are_the_further_apart_the_more_there_is_to_write() {
        assert_eq!(Shard::new().second(0, 0, 1), 0);
        assert_eq!(Shard::new().second(1_000, 40, 1), 0, "a fifth of a core");
        assert_eq!(Shard::new().second(1_000, 100, 1), 0, "half a core");
        assert!((2..=3).contains(&Shard::new().second(5_000, 40, 1)), "one core");
        assert_eq!(Shard::new().second(20_000, 40, 1), 5, "four cores");
    }

    #[test]
    fn what_goes_to_many_at_once_comes_in_rounds_further_apart() {
        assert_eq!(Shard::new().second(1_000, 400, 1), 5, "5 ms for twice the fan-out of 2 ms");
        assert_eq!(Shard::new().second(1_000, 1_000, 1), 10);
        assert_eq!(Shard::new().second(1_000, 15_000, 1), 12, "the longest for this reason");
    }

    #[test]
    fn that_messages_share_writes_does_not_end_the_rounds() {
        assert_eq!(Shard::new().second(1_000, 1_000, 10), 10);
    }

    #[test]
    fn rounds_are_stretched_while_the_shard_is_busy() {
        let mut shard = Shard::new();
        shard.sleeps = 5;
        assert_eq!(shard.second(20_000, 40, 1), 16, "the longest there may be");
        shard.sleeps = 15;
        assert_eq!(shard.second(20_000, 40, 1), 16, "busy enough to stay so");
        shard.sleeps = 60;
        assert_eq!(shard.second(20_000, 40, 1), 11);
        assert_eq!(shard.second(20_000, 40, 1), 6);
        assert_eq!(shard.second(20_000, 40, 1), 5);
    }

    #[test]
    fn the_rounds_end_when_the_load_does() {
        let mut shard = Shard::new();
        assert_eq!(shard.second(1_000, 1_000, 10), 10);
        assert_eq!(shard.second(1_000, 10, 1), 0);
        assert_eq!(shard.second(1_000, 1_000, 10), 10);
        // Silence is silence, however few turns it has.
        let turn = Turn { elapsed: 2_000 * MS, slept: 2_000 * MS, writing: Duration::ZERO };
        shard.load.add(turn, &shard.totals);
        assert_eq!(shard.load.round_ms(), 0);
    }
}
