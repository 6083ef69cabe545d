//! The way of a client's bytes into its socket. Owned by the shard's thread, as all of the hub.
//!
//! The order is: the rest of the frame that is partly sent, the control lane, the outbox. One run of frames is written
//! from where it lies. Several short ones are copied together first: the system takes some 60 ns for each piece of a
//! vectored write and we some 40, a copy of a frame some 10 (`benches/README.md`, outbox flush). Long ones are not. An
//! outbox that is empty goes back to the pool.
//!
//! The socket itself is the caller's: it is only a [`Write`] here, and whether it can be written is told to
//! [`Hub::writable`].

use std::io::{self, IoSlice, Write};

use protocol::Encoding;

use super::{Hub, SubscriberKey};
use crate::subscriber::{Parcel, Subscriber};

/// Most slices in one vectored write. Runs are adjacent frames, so that one client rarely needs more.
pub(super) const SLICES: usize = 64;

/// Up to this mean length, pieces are copied together: copying so much takes about as long as handing the piece over.
/// So at most `SLICES` times as much is copied at a time, 64 KiB.
const COPIED_BYTES_MEAN_MAX: usize = 1024;

/// Largest outbox, in parcels, that is kept for use again: 64 * 32 bytes.
const OUTBOX_KEPT: usize = 64;

/// How a flush went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flushed {
    /// Everything is written.
    Done,
    /// The socket took all it was offered, and there is more: the client stands at the end of the line again.
    More,
    /// The socket is full: call [`Hub::writable`] when it is not.
    Blocked,
    /// The socket is gone, or never was.
    Closed,
}

impl Hub {
    /// Writes what the client has coming. `io` is its socket, or anything that takes bytes.
    pub fn flush(&mut self, key: SubscriberKey, io: &mut impl Write, now_ms: u64) -> Flushed {
        if self.subscriber(key).is_none() {
            return Flushed::Closed;
        }
        let subscriber = &self.subscribers[key.slot as usize];
        if subscriber.held.as_ref().is_some_and(|held| held.blocked) {
            return Flushed::Blocked;
        }
        let caught_up = self.fill_from_places(key.slot);
        let subscriber = &mut self.subscribers[key.slot as usize];
        let mut cursor = Cursor::default();
        let blocked = loop {
            let Offer { taken, offered, all } = cursor.offer(subscriber, &mut self.scratch, io);
            if offered == 0 {
                break false;
            }
            match taken {
                Ok(0) => return Flushed::Closed,
                Ok(written) => {
                    self.counters.writes += 1;
                    self.counters.bytes_written += written as u64;
                    subscriber.last_sent_ms = now_ms;
                    cursor.advance(subscriber, written);
                    // A short write means that the socket is full: asking again would only fail.
                    if written < offered {
                        break true;
                    }
                    if all {
                        break false;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Flushed::Closed,
            }
        };
        self.counters.messages_delivered += cursor.delivered;
        if blocked {
            self.counters.blocked += 1;
            self.hold(key.slot, &cursor, now_ms);
            return Flushed::Blocked;
        }
        let mut outbox = std::mem::take(&mut subscriber.outbox);
        outbox.clear();
        recycle(&mut self.pool, outbox);
        if subscriber.control_written > 0 {
            subscriber.control = Vec::new();
            subscriber.control_written = 0;
        }
        if caught_up {
            subscriber.held = None;
            self.rounds.flushed(subscriber, key.slot, now_ms);
            Flushed::Done
        } else {
            if let Some(held) = &mut subscriber.held {
                held.partial = Vec::new();
            }
            self.mark_dirty(key.slot);
            Flushed::More
        }
    }
}

/// How far a flush has come in a client's parcels.
#[derive(Debug, Default)]
pub(super) struct Cursor {
    /// Index of the first parcel that is not wholly written.
    pub(super) parcel: usize,
    /// Bytes of it that are.
    pub(super) written: usize,
    /// Bytes of the partial frame that are written.
    pub(super) partial_written: usize,
    delivered: u64,
}

/// What was given to the socket at a time.
struct Offer {
    /// Bytes that it took.
    taken: io::Result<usize>,
    /// Bytes that it was given.
    offered: usize,
    /// There was no more to give.
    all: bool,
}

impl Cursor {
    /// Gives the socket what is to be written, or as much of it as fits one write.
    fn offer(&self, subscriber: &Subscriber, scratch: &mut Vec<u8>, io: &mut impl Write) -> Offer {
        if let ([parcel], None, 0) = (&subscriber.outbox[..], &subscriber.held, subscriber.control.len()) {
            let bytes = parcel.bytes(subscriber.encoding);
            return Offer { taken: io.write(bytes), offered: bytes.len(), all: true };
        }
        let mut slices = [IoSlice::new(&[]); SLICES];
        let (used, offered) = self.gather(subscriber, &mut slices);
        let slices = &slices[..used];
        let taken = match slices {
            [] => Ok(0),
            [one] => io.write(one),
            many if offered > many.len() * COPIED_BYTES_MEAN_MAX => io.write_vectored(many),
            many => {
                scratch.clear();
                many.iter().for_each(|slice| scratch.extend_from_slice(slice));
                io.write(scratch)
            }
        };
        Offer { taken, offered, all: used < SLICES }
    }

    /// Fills the slices with what is to be written, in order. Returns how many are used and their bytes.
    fn gather<'a>(&self, subscriber: &'a Subscriber, slices: &mut [IoSlice<'a>; SLICES]) -> (usize, usize) {
        let partial = subscriber.held.as_ref().map_or(&[][..], |held| &held.partial[self.partial_written..]);
        // A parcel is never partly written here: a short write ends the flush, and `hold` takes it apart.
        let parcels = subscriber.outbox.iter().skip(self.parcel).map(|parcel| parcel.bytes(subscriber.encoding));
        let (mut used, mut offered) = (0, 0);
        for bytes in [partial, subscriber.control_pending()].into_iter().chain(parcels) {
            if used == SLICES {
                break;
            }
            if !bytes.is_empty() {
                slices[used] = IoSlice::new(bytes);
                used += 1;
                offered += bytes.len();
            }
        }
        (used, offered)
    }

    fn advance(&mut self, subscriber: &mut Subscriber, mut written: usize) {
        let encoding = subscriber.encoding;
        let mut take = |have: usize| {
            let taken = written.min(have);
            written -= taken;
            taken
        };
        if let Some(held) = &mut subscriber.held {
            self.partial_written += take(held.partial.len() - self.partial_written);
        }
        subscriber.control_written += take(subscriber.control_pending().len()) as u32;
        while let Some(parcel) = subscriber.outbox.get(self.parcel) {
            let bytes = parcel.bytes(encoding).len();
            self.written += take(bytes - self.written);
            if self.written < bytes {
                return;
            }
            self.delivered += parcel.messages(encoding);
            self.parcel += 1;
            self.written = 0;
        }
    }
}

impl Parcel {
    fn bytes(&self, encoding: Encoding) -> &[u8] {
        match self {
            Parcel::Run { segment, start, end } => segment.segment.bytes(*start..*end, encoding),
            Parcel::Latest { frame, .. } => frame,
        }
    }

    fn messages(&self, encoding: Encoding) -> u64 {
        match self {
            Parcel::Run { segment, start, end } => segment.segment.count(*start..*end, encoding) as u64,
            Parcel::Latest { .. } => 1,
        }
    }
}

/// Keeps an emptied outbox for use again, if it has a buffer and not a large one.
pub(super) fn recycle(pool: &mut Vec<Vec<Parcel>>, outbox: Vec<Parcel>) {
    if (1..=OUTBOX_KEPT).contains(&outbox.capacity()) {
        pool.push(outbox);
    }
}
