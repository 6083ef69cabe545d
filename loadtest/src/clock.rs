//! Time: Unix nanoseconds for what crosses a process or a wire, monotonic nanoseconds for what is planned and timed here.
//! Each worker has a clock of its own; the coordinator speaks to workers in Unix time. Deliberately absent: sleeping.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};

/// Both times, read together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Unix ns.
    pub wall_ns: i64,
    /// Since the clock was made, ns; never goes back.
    pub mono_ns: u64,
}

/// The clock of one thread.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
}

impl Clock {
    pub fn start() -> Clock {
        Clock { started: Instant::now() }
    }

    /// Since the clock was made, ns.
    pub fn mono_ns(&self) -> u64 {
        nanos(self.started.elapsed())
    }

    pub fn now(&self) -> Now {
        Now { wall_ns: wall_ns(), mono_ns: self.mono_ns() }
    }
}

/// Unix ns; 0 on a machine whose clock stands before 1970.
pub fn wall_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// Processor time of all threads of this process, ns; 0 where the system does not tell.
pub fn process_cpu_ns() -> u64 {
    let Ok(spent) = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID) else { return 0 };
    nanos(Duration::from(spent))
}

/// A duration as ns, the longest that fit where it is longer (584 years).
pub fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_times_go_on() {
        let clock = Clock::start();
        let (first, second) = (clock.now(), clock.now());
        assert!(second.mono_ns >= first.mono_ns);
        // Any run of this test is later than the year 2020.
        assert!(first.wall_ns > 1_577_836_800_000_000_000);
    }

    #[test]
    fn work_takes_processor_time() {
        let before = process_cpu_ns();
        let mut sum = 0u64;
        while process_cpu_ns() == before {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(process_cpu_ns() > before);
    }
}
