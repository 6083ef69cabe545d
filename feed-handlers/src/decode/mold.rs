//! MoldUDP64: the datagrams in which Nasdaq sends ITCH, and the request for those that were lost.
//!
//! Pure, any thread. A datagram numbers its messages without holes within a session, and a session ends with the day.
//! Deliberately absent: what is missing, and which of two lines was first, which only somebody with a memory can say.
//!
//! Layout: Nasdaq MoldUDP64 protocol specification 1.00; numbers are big-endian.

use super::DecodeError;
use super::framed::{Packed, chunk, u16_at, u64_at};

/// Bytes in front of the messages.
pub const HEADER_BYTES: usize = 20;

/// The name of a session, ten characters, padded with spaces to the left.
pub type Session = [u8; 10];

/// The count that says that the session is over.
const END_OF_SESSION: u16 = 0xffff;

/// One datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Downstream<'a> {
    /// `sequence` is the number of the first message; the last one's is below `u64::MAX`.
    Messages { session: &'a Session, sequence: u64, count: u16, messages: Packed<'a> },
    /// Nothing new; sent each second that passes without a message. `sequence` is the number of the next one.
    Heartbeat { session: &'a Session, sequence: u64 },
    /// There will be no message of the number `sequence`, or later.
    EndOfSession { session: &'a Session, sequence: u64 },
}

impl<'a> Downstream<'a> {
    /// The numbered messages: none in a heartbeat.
    pub fn messages(self) -> impl Iterator<Item = (u64, &'a [u8])> {
        let (sequence, messages) = match self {
            Downstream::Messages { sequence, messages, .. } => (sequence, messages),
            Downstream::Heartbeat { sequence, .. } | Downstream::EndOfSession { sequence, .. } => {
                (sequence, Packed::EMPTY)
            }
        };
        // The messages first: where they end, no number is asked for, and none can overflow.
        messages.zip(sequence..).map(|(message, sequence)| (sequence, message))
    }

    /// The number of its first message, or of the next one where it holds none.
    pub const fn sequence(self) -> u64 {
        match self {
            Downstream::Messages { sequence, .. }
            | Downstream::Heartbeat { sequence, .. }
            | Downstream::EndOfSession { sequence, .. } => sequence,
        }
    }

    /// The number of the first message that this datagram does not hold.
    pub fn next_sequence(self) -> u64 {
        match self {
            Downstream::Messages { sequence, count, .. } => sequence + u64::from(count),
            Downstream::Heartbeat { .. } | Downstream::EndOfSession { .. } => self.sequence(),
        }
    }

    pub const fn session(self) -> &'a Session {
        match self {
            Downstream::Messages { session, .. }
            | Downstream::Heartbeat { session, .. }
            | Downstream::EndOfSession { session, .. } => session,
        }
    }
}

/// Reads one datagram as a whole.
///
/// # Errors
/// [`DecodeError::Truncated`] where it ends before its messages do, [`DecodeError::Framing`] where something follows
/// them, or their numbers go beyond 64 bits.
pub fn decode(datagram: &[u8]) -> Result<Downstream<'_>, DecodeError> {
    let header: &[u8; HEADER_BYTES] =
        datagram.first_chunk().ok_or(DecodeError::Truncated { offset: datagram.len() })?;
    let (session, sequence, count) = (chunk::<0, 10, _>(header), u64_at::<10, _>(header), u16_at::<18, _>(header));
    if matches!(count, 0 | END_OF_SESSION) {
        if datagram.len() > HEADER_BYTES {
            return Err(DecodeError::Framing { offset: HEADER_BYTES });
        }
        return Ok(match count {
            0 => Downstream::Heartbeat { session, sequence },
            _ => Downstream::EndOfSession { session, sequence },
        });
    }
    if sequence.checked_add(u64::from(count)).is_none() {
        return Err(DecodeError::Framing { offset: 10 });
    }
    let messages = Packed::new(datagram, HEADER_BYTES, count)?;
    Ok(Downstream::Messages { session, sequence, count, messages })
}

/// The datagram that asks a re-request server for `count` messages from the number `sequence` on. It answers with as
/// many as one datagram holds, and is to be asked again for the others.
pub fn request(session: &Session, sequence: u64, count: u16) -> [u8; HEADER_BYTES] {
    let mut datagram = [0; HEADER_BYTES];
    datagram[..10].copy_from_slice(session);
    datagram[10..18].copy_from_slice(&sequence.to_be_bytes());
    datagram[18..].copy_from_slice(&count.to_be_bytes());
    datagram
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header as Nasdaq sent it on 2023-08-22.
    const HEADER: [u8; 20] = *b"000010059B\0\0\0\0\x01\x22\x0e\x5d\0\x26";

    fn datagram(sequence: u64, count: u16, messages: &[&[u8]]) -> Vec<u8> {
        let mut bytes = request(b"000010059B", sequence, count).to_vec();
        for message in messages {
            bytes.extend((message.len() as u16).to_be_bytes());
            bytes.extend_from_slice(message);
        }
        bytes
    }

    #[track_caller]
    fn check(datagram: &[u8], expected: Result<(u64, &[&[u8]]), DecodeError>) {
        let read = decode(datagram).map(|packet| {
            let (numbers, messages): (Vec<u64>, Vec<&[u8]>) = packet.messages().unzip();
            let from = packet.next_sequence() - messages.len() as u64;
            assert_eq!(numbers, (from..packet.next_sequence()).collect::<Vec<_>>());
            assert_eq!(packet.session(), b"000010059B");
            (from, messages)
        });
        assert_eq!(read, expected.map(|(from, messages)| (from, messages.to_vec())), "{}", datagram.escape_ascii());
    }

    #[test]
    fn numbers_the_messages_of_a_datagram() {
        check(&datagram(19_009_117, 3, &[b"A", b"", b"BC"]), Ok((19_009_117, &[b"A", b"", b"BC"])));
        check(&datagram(u64::MAX - 1, 1, &[b"A"]), Ok((u64::MAX - 1, &[b"A"])));
    }

    #[test]
    fn tells_heartbeats_and_the_end() {
        let session = b"000010059B";
        check(&datagram(7, 0, &[]), Ok((7, &[])));
        assert_eq!(decode(&datagram(7, 0, &[])), Ok(Downstream::Heartbeat { session, sequence: 7 }));
        assert_eq!(decode(&datagram(7, 0xffff, &[])), Ok(Downstream::EndOfSession { session, sequence: 7 }));
        check(&datagram(u64::MAX, 0, &[]), Ok((u64::MAX, &[])));
    }

    #[test]
    fn refuses_what_does_not_add_up() {
        let whole = datagram(5, 2, &[b"AB", b"C"]);
        for end in 0..whole.len() {
            check(&whole[..end], Err(DecodeError::Truncated { offset: end }));
        }
        check(&[&whole[..], b"\0"].concat(), Err(DecodeError::Framing { offset: whole.len() }));
        check(&datagram(5, 1, &[b"AB", b"C"]), Err(DecodeError::Framing { offset: 24 }));
        check(&datagram(5, 0, &[b"AB"]), Err(DecodeError::Framing { offset: 20 }));
        check(&datagram(5, 0xffff, &[b"AB"]), Err(DecodeError::Framing { offset: 20 }));
        check(&datagram(u64::MAX, 1, &[b"AB"]), Err(DecodeError::Framing { offset: 10 }));
        check(&HEADER, Err(DecodeError::Truncated { offset: 20 }));
    }

    #[test]
    fn writes_requests() {
        assert_eq!(request(b"000010059B", 0x0122_0e5d, 0x26), HEADER);
    }
}
