//! A shard's own epoll set, which its async runtime watches as one descriptor. Owned by the shard's thread.
//! The one place of this crate with `unsafe`.

#![allow(unsafe_code)]

use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use mio::event::Source;
use mio::{Events, Interest, Poll, Token};
use tokio::io::Interest as Readiness;
use tokio::io::unix::AsyncFd;

/// mio's poll, and nothing that could exchange it for another.
#[derive(Debug)]
struct OwnPoll(Poll);

impl AsRawFd for OwnPoll {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Sockets that are reported when they can be read or written, edge-triggered.
#[derive(Debug)]
pub(crate) struct EpollSet {
    poll: AsyncFd<OwnPoll>,
}

impl EpollSet {
    /// Makes the set known to the current runtime.
    ///
    /// # Errors
    /// The system's, where the runtime can watch no more descriptors.
    pub(crate) fn new(poll: Poll) -> io::Result<EpollSet> {
        // SAFETY: `as_raw_fd` must give the same open descriptor until the `AsyncFd` is dropped. It is that of the
        // `Poll` inside, which owns it and closes it when dropped, and this module never takes it out or
        // replaces it.
        let poll = unsafe { AsyncFd::register_with_interest(OwnPoll(poll), Readiness::READABLE) }?;
        Ok(EpollSet { poll })
    }

    /// Waits until a socket of the set is ready.
    pub(crate) async fn ready(&self) -> io::Result<()> {
        // Cleared before the set is emptied: what becomes ready from here on is a new edge.
        self.poll.readable().await?.clear_ready();
        Ok(())
    }

    /// Takes what is ready now.
    pub(crate) fn take(&mut self, events: &mut Events) -> io::Result<()> {
        loop {
            match self.poll.get_mut().0.poll(events, Some(Duration::ZERO)) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    /// Watches a socket for reading and writing.
    pub(crate) fn add(&self, socket: &mut impl Source, token: Token) -> io::Result<()> {
        self.poll.get_ref().0.registry().register(socket, token, Interest::READABLE | Interest::WRITABLE)
    }

    /// Watches it no longer.
    pub(crate) fn remove(&self, socket: &mut impl Source) {
        // Closing the socket, which follows, takes it out of the set in any case.
        let _ = self.poll.get_ref().0.registry().deregister(socket);
    }
}
