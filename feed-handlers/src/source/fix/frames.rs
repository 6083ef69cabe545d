//! FIX messages in a stream of bytes: whole ones, from chunks that end anywhere, and what is none.
//!
//! Pure, but for what it keeps of an unfinished message; owned by the connection. What is no message ends where the next
//! one begins. Keeps one message at most, of the length that [`fix::frame_end`] waits for. Deliberately absent: whether a
//! message's checksum holds, and what it says.

use memchr::memmem;

use crate::decode::{DecodeError, fix};

/// Most that is handed out of what is no message, so that an endless one is not kept.
const GARBAGE_BYTES_MAX: usize = 64 << 10;

/// A part of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// A message as far as its length tells.
    Message(&'a [u8]),
    /// No message, and why.
    Garbage(&'a [u8], DecodeError),
}

/// What came and was not handed out yet.
#[derive(Debug, Default)]
pub(super) struct Frames {
    bytes: Vec<u8>,
    /// Up to where it is known that no other message begins inside the one that is waited for.
    searched: usize,
}

impl Frames {
    /// Takes the next bytes, and hands out the pieces that they complete.
    pub(super) fn handle_chunk(&mut self, chunk: &[u8], mut on_piece: impl FnMut(Piece<'_>)) {
        self.bytes.extend_from_slice(chunk);
        let mut at = 0;
        while at < self.bytes.len() {
            let rest = &self.bytes[at..];
            match fix::frame_end(rest) {
                Ok(Some(end)) => {
                    on_piece(Piece::Message(&rest[..end]));
                    at += end;
                }
                Ok(None) => match begin_after_trailer(rest, self.searched) {
                    // Its length is too great: waiting for it would swallow the messages that follow.
                    Some(begin) => {
                        on_piece(Piece::Garbage(&rest[..begin], DecodeError::Truncated { offset: begin }));
                        at += begin;
                    }
                    None => {
                        self.searched = rest.len();
                        break;
                    }
                },
                Err(error) => {
                    let garbage = garbage_bytes(rest);
                    on_piece(Piece::Garbage(&rest[..garbage], error));
                    at += garbage;
                }
            }
            self.searched = 0;
        }
        self.bytes.drain(..at);
    }
}

/// Where a message begins right behind the checksum of another, beyond the begin of `bytes`.
fn begin_after_trailer(bytes: &[u8], searched: usize) -> Option<usize> {
    const TRAILER: &[u8] = b"\x0110=000\x01";
    let from = searched.saturating_sub(fix::BEGIN.len()).max(TRAILER.len());
    let begins = memmem::find_iter(bytes.get(from..)?, fix::BEGIN).map(|begin| from + begin);
    let is_behind_trailer = |begin: &usize| {
        let trailer = &bytes[begin - TRAILER.len()..*begin];
        trailer.iter().zip(TRAILER).all(|(byte, form)| byte == form || (*form == b'0' && byte.is_ascii_digit()))
    };
    let mut begins = begins.filter(is_behind_trailer);
    begins.next()
}

/// How much of `bytes`, where no message begins, is none for sure.
fn garbage_bytes(bytes: &[u8]) -> usize {
    let garbage = memmem::find(&bytes[1..], fix::BEGIN).map_or_else(
        || {
            // Its last bytes may be the begin of the next message.
            let first = bytes.len().saturating_sub(fix::BEGIN.len() - 1).max(1);
            (first..bytes.len()).find(|from| fix::BEGIN.starts_with(&bytes[*from..])).unwrap_or(bytes.len())
        },
        |begin| begin + 1,
    );
    garbage.min(GARBAGE_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::super::message::framed;
    use super::*;
    use proptest::prelude::*;

    /// What comes of these chunks: messages as they are, garbage behind a `!`.
    fn pieces<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<String> {
        let (mut frames, mut found) = (Frames::default(), Vec::new());
        for chunk in chunks {
            frames.handle_chunk(chunk, |piece| match piece {
                Piece::Message(frame) => found.push(shown(frame)),
                Piece::Garbage(bytes, _) => found.push(format!("!{}", shown(bytes))),
            });
        }
        found
    }

    fn shown(bytes: &[u8]) -> String {
        String::from_utf8_lossy(bytes).replace('\x01', "|")
    }

    fn heartbeat(number: u32) -> Vec<u8> {
        framed(format!("35=0\x0134={number}\x01").as_bytes())
    }

    #[track_caller]
    fn check(bytes: &[u8], expected: &[&[u8]]) {
        let found = pieces([bytes]);
        let expected: Vec<String> = expected.iter().map(|piece| shown(piece)).collect();
        assert_eq!(found, expected, "{}", shown(bytes));
    }

    #[test]
    fn what_is_no_message_ends_where_the_next_one_begins() {
        let [one, two] = [1, 2].map(heartbeat);
        let join = |parts: &[&[u8]]| parts.concat();
        check(&join(&[&one, &two]), &[&one, &two]);
        check(&join(&[b"HTTP/1.1 400\r\n", &one]), &[b"!HTTP/1.1 400\r\n", &one]);
        check(&join(&[&one, b"\0\xff", &two]), &[&one, &join(&[b"!", b"\0\xff"]), &two]);
        // The begin of a message that was cut.
        check(&join(&[&one[..16], &two]), &[&join(&[b"!", &one[..16]]), &two]);
        // Lengths that lead nowhere: too small, too great with others behind it, and of an absurd number of digits.
        let small = shown(&one).replace("9=10|", "9=7|").replace('|', "\x01");
        check(&join(&[small.as_bytes(), &two]), &[&join(&[b"!", small.as_bytes()]), &two]);
        let great = shown(&one).replace("9=10|", "9=90000|").replace('|', "\x01");
        check(&join(&[great.as_bytes(), &two, &one]), &[&join(&[b"!", great.as_bytes()]), &two, &one]);
        let absurd = shown(&one).replace("9=10|", "9=9999999999|").replace('|', "\x01");
        check(&join(&[absurd.as_bytes(), &two]), &[&join(&[b"!", absurd.as_bytes()]), &two]);
        // Another version of FIX.
        check(b"8=FIX.4.2\x019=5\x01", &[b"!8=FIX.4.2\x019=5\x01"]);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut frames = Frames::default();
        let mut handed = 0;
        for _ in 0..100 {
            frames.handle_chunk(&[b'8'; 10_000], |piece| match piece {
                Piece::Garbage(bytes, _) => handed += bytes.len(),
                Piece::Message(_) => panic!("no message"),
            });
            assert!(frames.bytes.len() < fix::BEGIN.len());
        }
        assert!(handed > 999_000);
        // A length beyond the greatest is none.
        frames = Frames::default();
        frames.handle_chunk(b"8=FIX.4.4\x019=99999999\x0135=0\x01", |_| {});
        assert!(frames.bytes.is_empty());
    }

    proptest! {
        #[test]
        fn chunks_may_end_anywhere(
            parts in proptest::collection::vec((0u32..4, any::<u8>()), 1..12),
            sizes in proptest::collection::vec(1usize..40, 1..200),
        ) {
            // Of messages alone, since how much garbage is handed out at once is as the chunks have it.
            let whole: Vec<u8> = parts.iter().flat_map(|(kind, byte)| match kind {
                0 => vec![*byte | 0x80; 3],
                _ => heartbeat(u32::from(*byte)),
            }).collect();
            let (mut rest, mut chunks) = (&whole[..], Vec::new());
            for size in sizes.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (chunk, others) = rest.split_at((*size).min(rest.len()));
                chunks.push(chunk);
                rest = others;
            }
            let found = pieces(chunks);
            let messages: Vec<_> = found.iter().filter(|piece| !piece.starts_with('!')).cloned().collect();
            let expected: Vec<_> =
                parts.iter().filter(|(kind, _)| *kind != 0).map(|(_, byte)| shown(&heartbeat(u32::from(*byte)))).collect();
            prop_assert_eq!(messages, expected);
        }
    }
}
