//! One timer for everything that a worker has planned. A timer descriptor, because the epoll timeout counts whole
//! milliseconds and is late by the thread's timer slack, and a connect that is late is measured as a slow server.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

#[derive(Debug)]
pub(super) struct Timer {
    descriptor: TimerFd,
    /// What it is set for, monotonic ns of the worker's clock.
    armed_ns: Option<u64>,
}

impl Timer {
    pub(super) fn new() -> io::Result<Timer> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        Ok(Timer { descriptor: TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?, armed_ns: None })
    }

    pub(super) fn register(&self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(&mut SourceFd(&self.descriptor.as_fd().as_raw_fd()), token, Interest::READABLE)
    }

    /// Wakes the loop at `due_ns`, or at once where that is over.
    pub(super) fn arm(&mut self, due_ns: u64, now_ns: u64) -> io::Result<()> {
        // The epoll set reports each expiration once, so that it need not be read; one that is over must be set anew.
        if self.armed_ns == Some(due_ns) && due_ns > now_ns {
            return Ok(());
        }
        // 0 would switch the timer off.
        let after = Duration::from_nanos(due_ns.saturating_sub(now_ns).max(1));
        self.descriptor.set(Expiration::OneShot(TimeSpec::from_duration(after)), TimerSetTimeFlags::empty())?;
        self.armed_ns = Some(due_ns);
        Ok(())
    }
}
