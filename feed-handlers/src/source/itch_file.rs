//! A day of Nasdaq ITCH from a file, played into a feed, on a std thread of its own.
//!
//! The file is as Nasdaq hands it out: each message behind its length, until a length of 0 or the end of the file. It is
//! played by the times of its messages, or as fast as the readers of the ring take it; before each message it sees to
//! it that the ring has room. Held in memory is one message and what is open in the books.
//!
//! Deliberately absent: unpacking, which `gzip -d` does, and playing a day again: its numbers would be of the same day.

use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::replay::{Room, Speed};
use super::{FeedState, FeedStatus, StartGate, Stop, wall_ns};
use crate::feed::Feed;
use crate::order_book::{ORDERS_MAX, OrderBooks};

/// Read at once, so that a message costs no call of the system.
const BUFFER_BYTES: usize = 1 << 20;

/// Plays a file of ITCH messages; as recorded and at once, unless told otherwise.
#[derive(Debug)]
pub struct ItchFile {
    path: PathBuf,
    file: File,
    midnight_ns: i64,
    speed: Speed,
    gate: Option<Arc<StartGate>>,
    status: Arc<FeedStatus>,
}

impl ItchFile {
    /// Opens the file of the day that begins in New York at `midnight_ns`, Unix ns
    /// ([`us_eastern`](crate::decode::eastern::us_eastern)).
    ///
    /// # Errors
    /// What the system says about the file.
    pub fn open(path: &Path, midnight_ns: i64) -> std::io::Result<ItchFile> {
        let file = File::open(path)?;
        let (path, status) = (path.to_owned(), FeedStatus::new());
        Ok(ItchFile { path, file, midnight_ns, speed: Speed::Real(1.0), gate: None, status })
    }

    pub fn speed(self, speed: Speed) -> ItchFile {
        ItchFile { speed, ..self }
    }

    /// Holds the first message back until the gate opens.
    pub fn hold(self, gate: Arc<StartGate>) -> ItchFile {
        ItchFile { gate: Some(gate), ..self }
    }

    pub fn status(&self) -> Arc<FeedStatus> {
        Arc::clone(&self.status)
    }

    /// Starts the thread, which ends after `stop`. The feed is one of [`Venue::Itch`](crate::venue::Venue::Itch).
    ///
    /// # Errors
    /// What the system says when it has no thread to give.
    pub fn spawn(self, feed: Feed, stop: Arc<Stop>) -> std::io::Result<JoinHandle<()>> {
        thread::Builder::new().name("feed-itch-file".into()).spawn(move || self.run(feed, &stop))
    }

    fn run(mut self, mut feed: Feed, stop: &Stop) {
        if let Some(gate) = &self.gate {
            self.status.set(FeedState::Held);
            if !gate.wait() {
                return;
            }
        }
        self.status.set(FeedState::Up);
        let path = self.path.display().to_string();
        tracing::info!(path, speed = %self.speed, "replay starts");
        match self.play(&mut feed, stop) {
            Ok(false) => return,
            Ok(true) => {
                self.status.set(FeedState::Ended);
                tracing::info!(path, "replay ended");
            }
            Err(error) => {
                self.status.set_troubled(FeedState::Down, &format!("the file cannot be read on: {error}"));
                tracing::error!(path, %error, "replay failed");
            }
        }
        // The feed, and with it the ring, lives as long as the process wants its sources to.
        stop.wait_forever();
    }

    /// Plays the file; false at the stop.
    fn play(&mut self, feed: &mut Feed, stop: &Stop) -> std::io::Result<bool> {
        let mut reader = BufReader::with_capacity(BUFFER_BYTES, &mut self.file);
        let mut books = OrderBooks::new(ORDERS_MAX);
        let (mut message, mut room) = (Vec::new(), Room::default());
        let mut pace = Pace { speed: self.speed, anchor: None };
        while next_message(&mut reader, &mut message)? {
            let stopped = match pace.due(&message, Instant::now()) {
                Some(due) => stop.wait_until(due),
                None => stop.is_stopped(),
            };
            if stopped || !room.wait(feed, stop) {
                return Ok(false);
            }
            feed.handle(&message, wall_ns(), |on_event| books.decode(&message, self.midnight_ns, on_event));
        }
        Ok(true)
    }
}

/// Reads the next message; false at the end.
fn next_message(reader: &mut impl Read, message: &mut Vec<u8>) -> std::io::Result<bool> {
    let mut length = [0; 2];
    if reader.read(&mut length[..1])? == 0 {
        return Ok(false);
    }
    reader.read_exact(&mut length[1..]).map_err(cut)?;
    message.resize(usize::from(u16::from_be_bytes(length)), 0);
    reader.read_exact(message).map_err(cut)?;
    Ok(!message.is_empty())
}

fn cut(error: std::io::Error) -> std::io::Error {
    match error.kind() {
        ErrorKind::UnexpectedEof => std::io::Error::new(error.kind(), "it ends inside a message"),
        _ => error,
    }
}

/// When each message is due.
struct Pace {
    speed: Speed,
    /// A time of the file, ns since midnight, and when that was on our clock.
    anchor: Option<(u64, Instant)>,
}

impl Pace {
    /// `None` is now: at full speed, and for what is too short to have a time.
    fn due(&mut self, message: &[u8], now: Instant) -> Option<Instant> {
        let Speed::Real(factor) = self.speed else { return None };
        let time = message.get(5..11)?.iter().fold(0, |ns, byte| ns << 8 | u64::from(*byte));
        let (from, start) = *self.anchor.get_or_insert((time, now));
        let recorded = Duration::from_nanos(time.saturating_sub(from));
        let played = Duration::try_from_secs_f64(recorded.as_secs_f64() / factor).ok()?;
        start.checked_add(played)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bytes: &[u8], expected: Result<&[&[u8]], &str>) {
        let (mut reader, mut message, mut messages) = (bytes, Vec::new(), Vec::new());
        let end = loop {
            match next_message(&mut reader, &mut message) {
                Ok(true) => messages.push(message.clone()),
                Ok(false) => break Ok(()),
                Err(error) => break Err(error.to_string()),
            }
        };
        let read = end.map(|()| messages);
        assert_eq!(read, expected.map(|m| m.iter().map(|m| m.to_vec()).collect()).map_err(str::to_owned), "{bytes:?}");
    }

    #[test]
    fn a_file_ends_with_its_bytes_or_with_a_length_of_zero() {
        check(b"", Ok(&[]));
        check(b"\0\x01S\0\x02ab", Ok(&[b"S", b"ab"]));
        check(b"\0\x01S\0\0\0\x02ab", Ok(&[b"S"]));
        check(b"\0\x01S\0", Err("it ends inside a message"));
        check(b"\0\x02a", Err("it ends inside a message"));
    }

    #[test]
    fn the_times_of_the_messages_set_the_pace() {
        let start = Instant::now();
        let check = |speed: Speed, expected: [Option<u64>; 3]| {
            let mut pace = Pace { speed, anchor: None };
            for (ms, expected) in [1_000u64, 3_000, 2_000].into_iter().zip(expected) {
                let mut message = [0; 12];
                message[3..11].copy_from_slice(&(ms * 1_000_000).to_be_bytes());
                assert_eq!(pace.due(&message, start), expected.map(|ms| start + Duration::from_millis(ms)), "{speed}");
            }
            assert_eq!(pace.due(b"S", start), None);
        };
        check(Speed::Real(1.0), [Some(0), Some(2_000), Some(1_000)]);
        check(Speed::Real(10.0), [Some(0), Some(200), Some(100)]);
        check(Speed::Max, [None; 3]);
    }
}
