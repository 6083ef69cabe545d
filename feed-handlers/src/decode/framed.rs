//! Messages behind their lengths, `[u16 big-endian][message]` one after the other: the form inside MoldUDP64 and
//! Kite frames, and of the files in which Nasdaq hands out a day.
//!
//! Pure, any thread. Deliberately absent: what the messages are.

use super::DecodeError;

/// Messages behind their lengths.
///
/// Ends with the bytes. Where a length goes beyond them it gives one error and ends, for nobody can know where
/// the next message would begin. A message may be empty.
#[derive(Clone, Debug)]
pub struct Framed<'a> {
    rest: &'a [u8],
    /// Of `rest` in the bytes that were given.
    offset: usize,
}

impl<'a> Framed<'a> {
    /// The messages of a file, or of a part of it that begins at a message.
    pub const fn new(bytes: &'a [u8]) -> Framed<'a> {
        Framed { rest: bytes, offset: 0 }
    }

    /// How many bytes were gone through: behind them no whole message was found yet.
    pub const fn offset(&self) -> usize {
        self.offset
    }
}

impl<'a> Iterator for Framed<'a> {
    type Item = Result<&'a [u8], DecodeError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        match split_first(self.rest) {
            Some((message, rest)) => {
                self.offset += 2 + message.len();
                self.rest = rest;
                Some(Ok(message))
            }
            None if self.rest.is_empty() => None,
            None => {
                let offset = self.offset + self.rest.len();
                self.rest = &[];
                Some(Err(DecodeError::Truncated { offset }))
            }
        }
    }
}

/// A packet's messages, of which it is known that they fill it to the last byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packed<'a> {
    rest: &'a [u8],
}

impl<'a> Packed<'a> {
    pub(super) const EMPTY: Packed<'static> = Packed { rest: &[] };

    /// The `count` messages that `packet` holds from `offset` on.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] where the packet ends before them, [`DecodeError::Framing`] where it goes on.
    pub(super) fn new(packet: &'a [u8], offset: usize, count: u16) -> Result<Packed<'a>, DecodeError> {
        let rest = packet.get(offset..).ok_or(DecodeError::Truncated { offset: packet.len() })?;
        let mut unchecked = rest;
        for _ in 0..count {
            (_, unchecked) = split_first(unchecked).ok_or(DecodeError::Truncated { offset: packet.len() })?;
        }
        if !unchecked.is_empty() {
            return Err(DecodeError::Framing { offset: packet.len() - unchecked.len() });
        }
        Ok(Packed { rest })
    }
}

impl<'a> Iterator for Packed<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        let (message, rest) = split_first(self.rest)?;
        self.rest = rest;
        Some(message)
    }
}

#[inline]
fn split_first(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

/// The `N` bytes at `AT` of a message. That they are in it is checked when the program is built.
#[inline(always)]
pub(super) fn chunk<const AT: usize, const N: usize, const LENGTH: usize>(message: &[u8; LENGTH]) -> &[u8; N] {
    const { assert!(AT + N <= LENGTH, "the field ends inside the message") };
    message[AT..].first_chunk().expect("Invariant: the field ends inside the message")
}

#[inline(always)]
pub(super) fn u16_at<const AT: usize, const LENGTH: usize>(message: &[u8; LENGTH]) -> u16 {
    u16::from_be_bytes(*chunk::<AT, 2, LENGTH>(message))
}

#[inline(always)]
pub(super) fn u32_at<const AT: usize, const LENGTH: usize>(message: &[u8; LENGTH]) -> u32 {
    u32::from_be_bytes(*chunk::<AT, 4, LENGTH>(message))
}

#[inline(always)]
pub(super) fn i32_at<const AT: usize, const LENGTH: usize>(message: &[u8; LENGTH]) -> i32 {
    i32::from_be_bytes(*chunk::<AT, 4, LENGTH>(message))
}

#[inline(always)]
pub(super) fn u64_at<const AT: usize, const LENGTH: usize>(message: &[u8; LENGTH]) -> u64 {
    u64::from_be_bytes(*chunk::<AT, 8, LENGTH>(message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bytes: &[u8], expected: &[Result<&[u8], DecodeError>]) {
        assert_eq!(Framed::new(bytes).collect::<Vec<_>>(), expected, "{bytes:?}");
    }

    #[test]
    fn a_file_gives_its_messages_and_says_where_it_is_cut() {
        check(b"", &[]);
        check(b"\0\x01S", &[Ok(b"S")]);
        check(b"\0\0\0\x02ab", &[Ok(b""), Ok(b"ab")]);
        check(b"\0\x01S\0", &[Ok(b"S"), Err(DecodeError::Truncated { offset: 4 })]);
        check(b"\0\x01S\0\x02a", &[Ok(b"S"), Err(DecodeError::Truncated { offset: 6 })]);
        let mut cut = Framed::new(b"\0\x01S\0\x02a");
        assert_eq!((cut.next(), cut.offset()), (Some(Ok(&b"S"[..])), 3));
    }

    #[test]
    fn a_packet_is_refused_unless_its_messages_fill_it() {
        let packed = |packet, count| Packed::new(packet, 1, count).map(Iterator::collect::<Vec<_>>);
        assert_eq!(packed(b"x", 0), Ok(vec![]));
        assert_eq!(packed(b"x\0\x01S\0\0", 2), Ok(vec![&b"S"[..], b""]));
        assert_eq!(packed(b"x\0\x01S", 2), Err(DecodeError::Truncated { offset: 4 }));
        assert_eq!(packed(b"x\0\x02S", 1), Err(DecodeError::Truncated { offset: 4 }));
        assert_eq!(packed(b"", 0), Err(DecodeError::Truncated { offset: 0 }));
        assert_eq!(packed(b"x\0\x01S\0", 1), Err(DecodeError::Framing { offset: 4 }));
    }
}
