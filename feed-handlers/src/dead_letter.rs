//! Dead letters: what was refused, untouched, with the reason, for whoever wants to look at it or play it again.
//!
//! Feeds put them in, one thread of the process takes them out and keeps them. Bounds: [`LETTERS_MAX`] letters and
//! [`BYTES_MAX`] bytes, together for all feeds. When full the letter goes, and [`FeedCounter::DeadLettersDropped`] says so:
//! a venue that sends nothing but nonsense must not stop the sensible ones.
//!
//! [`FeedCounter::DeadLettersDropped`]: crate::counters::FeedCounter::DeadLettersDropped

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use protocol::SourceId;

use crate::decode::Reason;
use crate::decode::event::Part;

/// Letters that may wait.
pub const LETTERS_MAX: usize = 4_096;
/// Bytes of frames that may wait, all together.
pub const BYTES_MAX: usize = 16 << 20;

/// One frame that was refused, or that has a part which was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    pub source: SourceId,
    /// What of the frame was refused first; [`Part::Message`] where it was the whole.
    pub part: Part,
    pub reason: Reason,
    /// When it came, Unix ns.
    pub ts_recv: i64,
    /// The frame as it came.
    pub frame: Box<[u8]>,
}

/// The box that letters are put into.
#[derive(Clone, Debug)]
pub struct DeadLetters {
    sender: Sender<DeadLetter>,
    bytes: Arc<AtomicUsize>,
}

/// The box's other side.
#[derive(Debug)]
pub struct DeadLetterOffice {
    receiver: Receiver<DeadLetter>,
    bytes: Arc<AtomicUsize>,
}

/// Makes a box, and the side from which it is emptied.
pub fn dead_letters() -> (DeadLetters, DeadLetterOffice) {
    let (sender, receiver) = bounded(LETTERS_MAX);
    let bytes = Arc::new(AtomicUsize::new(0));
    (DeadLetters { sender, bytes: bytes.clone() }, DeadLetterOffice { receiver, bytes })
}

impl DeadLetters {
    /// Puts a letter in; false where there is no room, or nobody takes letters out any more.
    #[must_use]
    pub fn offer(&self, letter: DeadLetter) -> bool {
        let size = letter.frame.len();
        // Relaxed, here and below: a bound on memory; the channel hands the letters over.
        if self.bytes.fetch_add(size, Ordering::Relaxed) + size > BYTES_MAX {
            self.bytes.fetch_sub(size, Ordering::Relaxed);
            return false;
        }
        match self.sender.try_send(letter) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.bytes.fetch_sub(size, Ordering::Relaxed);
                false
            }
        }
    }
}

impl DeadLetterOffice {
    /// The next letter; waits for one. `None` when all boxes are gone and it is empty.
    pub fn take(&self) -> Option<DeadLetter> {
        self.receiver.recv().ok().map(|letter| self.taken(letter))
    }

    /// The next letter if there is one within `timeout`.
    ///
    /// # Errors
    /// [`RecvTimeoutError`] where there is none: none yet, or none any more.
    pub fn take_within(&self, timeout: std::time::Duration) -> Result<DeadLetter, RecvTimeoutError> {
        self.receiver.recv_timeout(timeout).map(|letter| self.taken(letter))
    }

    fn taken(&self, letter: DeadLetter) -> DeadLetter {
        self.bytes.fetch_sub(letter.frame.len(), Ordering::Relaxed);
        letter
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn letter(bytes: usize) -> DeadLetter {
        let frame = vec![b'x'; bytes].into();
        DeadLetter { source: SourceId(1), part: Part::Message, reason: Reason::Syntax, ts_recv: 7, frame }
    }

    #[test]
    fn letters_come_out_as_they_went_in() {
        let (letters, office) = dead_letters();
        assert!(letters.offer(letter(3)) && letters.offer(letter(0)));
        drop(letters);
        assert_eq!([office.take(), office.take(), office.take()], [Some(letter(3)), Some(letter(0)), None]);
    }

    #[test]
    fn a_full_box_takes_none() {
        let (letters, office) = dead_letters();
        for _ in 0..LETTERS_MAX {
            assert!(letters.offer(letter(1)));
        }
        assert!(!letters.offer(letter(1)));
        assert_eq!(office.take(), Some(letter(1)));
        assert!(letters.offer(letter(1)));
    }

    #[test]
    fn bytes_are_bounded_too() {
        let (letters, office) = dead_letters();
        assert!(!letters.offer(letter(BYTES_MAX + 1)));
        assert!(letters.offer(letter(BYTES_MAX)));
        assert!(!letters.offer(letter(1)) && letters.offer(letter(0)));
        assert!(office.take().is_some());
        assert!(letters.offer(letter(1)));
    }

    #[test]
    fn nobody_takes_letters_to_a_closed_office() {
        let (letters, office) = dead_letters();
        drop(office);
        assert!(!letters.offer(letter(1)));
        assert_eq!(letters.bytes.load(Ordering::Relaxed), 0);
    }
}
