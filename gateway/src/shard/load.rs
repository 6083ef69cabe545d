//! How loaded a shard is, and so how long its clients rest between two writes. Pure; owned by the shard's thread.
//!
//! The load is what the shard would need of its core if every message had a write of its own: deliveries a second times
//! the time of a write. Below half a core nothing waits. From there on the rest grows, since each message that shares
//! a write is a write less; at [`FULL_LOAD`] and above it is as long as it may be. So an idle shard adds no delay, and a
//! busy one keeps a part of its core free, which it needs for bursts, instead of writing the same bytes in more pieces.

use std::time::Duration;

/// Load at which clients begin to rest.
const FIRST_LOAD: f64 = 0.5;
/// Load from which on they rest as long as they may.
const FULL_LOAD: f64 = 1.6;
/// How long deliveries and writes are counted before the load is worked out again.
const WINDOW: Duration = Duration::from_millis(50);
/// Weight of the newest window: the load follows a change within some 150 ms.
const NEWEST: f64 = 0.3;

/// What a shard has written, and what follows from it.
#[derive(Debug)]
pub(crate) struct Load {
    rest_ms_max: u64,
    /// Since the window began.
    elapsed: Duration,
    writing: Duration,
    writes: u64,
    messages: u64,
    /// Smoothed, seconds.
    write_s: f64,
    /// Smoothed, cores.
    load: f64,
}

impl Load {
    pub(crate) fn new(rest_max: Duration) -> Load {
        Load {
            rest_ms_max: rest_max.as_millis() as u64,
            elapsed: Duration::ZERO,
            writing: Duration::ZERO,
            writes: 0,
            messages: 0,
            write_s: 0.0,
            load: 0.0,
        }
    }

    /// Counts what was written in a span of time, `writing` of which it took. True when the rest may have changed.
    pub(crate) fn add(&mut self, elapsed: Duration, writing: Duration, writes: u64, messages: u64) -> bool {
        self.elapsed += elapsed;
        self.writing += writing;
        self.writes += writes;
        self.messages += messages;
        if self.elapsed < WINDOW {
            return false;
        }
        if self.writes > 0 {
            let write_s = self.writing.as_secs_f64() / self.writes as f64;
            self.write_s += (write_s - self.write_s) * if self.write_s == 0.0 { 1.0 } else { NEWEST };
        }
        // A long sleep is a quiet window, however many windows it was.
        let rate = self.messages as f64 / self.elapsed.as_secs_f64();
        self.load += (rate * self.write_s - self.load) * NEWEST;
        (self.elapsed, self.writing, self.writes, self.messages) = (Duration::ZERO, Duration::ZERO, 0, 0);
        true
    }

    /// How long clients rest between two writes, ms.
    pub(crate) fn rest_ms(&self) -> u64 {
        let share = (self.load - FIRST_LOAD) / (FULL_LOAD - FIRST_LOAD);
        (share.clamp(0.0, 1.0) * self.rest_ms_max as f64).round() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITE: Duration = Duration::from_micros(5);

    /// The rest after two seconds of so many messages a second, each write with so many of them.
    fn rest_after(messages_per_second: u64, messages_per_write: u64) -> u64 {
        let mut load = Load::new(Duration::from_millis(8));
        for _ in 0..2_000 {
            let messages = messages_per_second / 1_000;
            let writes = messages / messages_per_write;
            load.add(Duration::from_millis(1), WRITE * writes as u32, writes, messages);
        }
        load.rest_ms()
    }

    #[test]
    fn clients_rest_the_longer_the_more_there_is_to_write() {
        assert_eq!(rest_after(0, 1), 0);
        assert_eq!(rest_after(40_000, 1), 0, "a fifth of a core");
        assert_eq!(rest_after(100_000, 1), 0, "half a core");
        assert_eq!(rest_after(200_000, 1), 4);
        assert_eq!(rest_after(320_000, 1), 8);
        assert_eq!(rest_after(10_000_000, 100), 8);
    }

    #[test]
    fn that_messages_share_writes_does_not_end_the_rests() {
        assert_eq!(rest_after(320_000, 4), 8);
    }

    #[test]
    fn the_rest_ends_when_the_load_does() {
        let mut load = Load::new(Duration::from_millis(8));
        let second = |load: &mut Load, messages| {
            for _ in 0..1_000 {
                load.add(Duration::from_millis(1), WRITE * messages as u32, messages, messages);
            }
        };
        second(&mut load, 1_000);
        assert_eq!(load.rest_ms(), 8);
        second(&mut load, 10);
        assert_eq!(load.rest_ms(), 0);
        second(&mut load, 1_000);
        assert_eq!(load.rest_ms(), 8);
        load.add(Duration::from_secs(10), WRITE, 1, 1);
        load.add(Duration::from_secs(10), WRITE, 1, 1);
        load.add(Duration::from_secs(10), WRITE, 1, 1);
        load.add(Duration::from_secs(10), WRITE, 1, 1);
        assert!(load.rest_ms() < 8);
    }
}
