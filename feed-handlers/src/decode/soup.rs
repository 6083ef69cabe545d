//! SoupBinTCP: the packets in which Nasdaq speaks ITCH, and other things, over TCP. Both ways, so that either end can
//! be played.
//!
//! Pure, any thread. A packet is `[u16 length][type][payload]`, the length without itself. Sequenced packets bear no
//! number: who reads them counts, from the number that the login was answered with. Deliberately absent: that count,
//! and the timers (a heartbeat after a second of silence, dead after fifteen).
//!
//! Layout: Nasdaq SoupBinTCP 3.00 and 4.0; numbers are big-endian, or ASCII digits padded with spaces to the left.

use super::DecodeError;
use super::Reason;
use super::framed::chunk;

/// Longest payload: what the length can say, less the type.
pub const PAYLOAD_BYTES_MAX: usize = u16::MAX as usize - 1;

/// What a server says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerPacket<'a> {
    /// For people to read.
    Debug(&'a [u8]),
    /// `sequence` is the number of the next sequenced packet.
    LoginAccepted {
        session: &'a [u8],
        sequence: u64,
    },
    /// `A` not authorised, `S` no such session.
    LoginRejected {
        reason: u8,
    },
    Sequenced(&'a [u8]),
    Unsequenced(&'a [u8]),
    Heartbeat,
    EndOfSession,
    /// Of a type that the specification does not know.
    Unknown {
        kind: u8,
    },
}

/// What a client says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientPacket<'a> {
    /// For people to read.
    Debug(&'a [u8]),
    Login(Login<'a>),
    Unsequenced(&'a [u8]),
    Heartbeat,
    Logout,
    /// Of a type that the specification does not know.
    Unknown {
        kind: u8,
    },
}

/// Who asks for what.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Login<'a> {
    /// 6 characters at most.
    pub user: &'a [u8],
    /// 10 characters at most.
    pub password: &'a [u8],
    /// 10 characters at most; empty for the session that is on.
    pub session: &'a [u8],
    /// The first packet that is wanted: 1 for all of the session, `None` for those from now on.
    pub sequence: Option<u64>,
}

impl std::fmt::Debug for Login<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login")
            .field("user", &self.user.escape_ascii())
            .field("password", &"***")
            .field("session", &self.session.escape_ascii())
            .field("sequence", &self.sequence)
            .finish()
    }
}

/// Where the packet ends that `stream` begins with; `None` where that has not arrived yet.
///
/// # Errors
/// [`DecodeError::Framing`] for a length of 0: a packet has a type at least, and the stream is not one of packets.
pub fn packet_end(stream: &[u8]) -> Result<Option<usize>, DecodeError> {
    let Some(length) = stream.first_chunk() else { return Ok(None) };
    match usize::from(u16::from_be_bytes(*length)) {
        0 => Err(DecodeError::Framing { offset: 0 }),
        length => Ok(Some(2 + length).filter(|end| *end <= stream.len())),
    }
}

impl<'a> ServerPacket<'a> {
    /// Reads one packet, its length included.
    ///
    /// # Errors
    /// [`DecodeError`] where it is not as long as its length or its type wants it, or its number is none.
    pub fn decode(packet: &'a [u8]) -> Result<ServerPacket<'a>, DecodeError> {
        let (kind, payload) = split(packet)?;
        Ok(match kind {
            b'+' => ServerPacket::Debug(payload),
            b'A' => {
                let payload = exact::<30>(payload)?;
                let (session, sequence) = (chunk::<0, 10, _>(payload), chunk::<10, 20, _>(payload));
                let sequence = number(sequence)?.ok_or(DecodeError::Missing { field: "sequence" })?;
                ServerPacket::LoginAccepted { session: session.trim_ascii(), sequence }
            }
            b'J' => ServerPacket::LoginRejected { reason: exact::<1>(payload)?[0] },
            b'S' => ServerPacket::Sequenced(payload),
            b'U' => ServerPacket::Unsequenced(payload),
            b'H' => exact::<0>(payload).map(|_| ServerPacket::Heartbeat)?,
            b'Z' => exact::<0>(payload).map(|_| ServerPacket::EndOfSession)?,
            kind => ServerPacket::Unknown { kind },
        })
    }

    /// Appends the packet, its length included. What is longer than its field or than [`PAYLOAD_BYTES_MAX`] is cut.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            ServerPacket::Debug(text) => packet(out, b'+', &[text]),
            ServerPacket::LoginAccepted { session, sequence } => {
                packet(out, b'A', &[&right::<10>(session), &digits(Some(sequence))]);
            }
            ServerPacket::LoginRejected { reason } => packet(out, b'J', &[&[reason]]),
            ServerPacket::Sequenced(payload) => packet(out, b'S', &[payload]),
            ServerPacket::Unsequenced(payload) => packet(out, b'U', &[payload]),
            ServerPacket::Heartbeat => packet(out, b'H', &[]),
            ServerPacket::EndOfSession => packet(out, b'Z', &[]),
            ServerPacket::Unknown { kind } => packet(out, kind, &[]),
        }
    }
}

impl<'a> ClientPacket<'a> {
    /// Reads one packet, its length included.
    ///
    /// # Errors
    /// [`DecodeError`] where it is not as long as its length or its type wants it, or its number is none.
    pub fn decode(packet: &'a [u8]) -> Result<ClientPacket<'a>, DecodeError> {
        let (kind, payload) = split(packet)?;
        Ok(match kind {
            b'+' => ClientPacket::Debug(payload),
            b'L' => {
                let payload = exact::<46>(payload)?;
                ClientPacket::Login(Login {
                    user: chunk::<0, 6, _>(payload).trim_ascii(),
                    password: chunk::<6, 10, _>(payload).trim_ascii(),
                    session: chunk::<16, 10, _>(payload).trim_ascii(),
                    sequence: number(chunk::<26, 20, _>(payload))?.filter(|sequence| *sequence != 0),
                })
            }
            b'U' => ClientPacket::Unsequenced(payload),
            b'R' => exact::<0>(payload).map(|_| ClientPacket::Heartbeat)?,
            b'O' => exact::<0>(payload).map(|_| ClientPacket::Logout)?,
            kind => ClientPacket::Unknown { kind },
        })
    }

    /// Appends the packet, its length included. What is longer than its field or than [`PAYLOAD_BYTES_MAX`] is cut.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            ClientPacket::Debug(text) => packet(out, b'+', &[text]),
            ClientPacket::Login(Login { user, password, session, sequence }) => {
                let (user, password) = (left::<6>(user), left::<10>(password));
                packet(out, b'L', &[&user, &password, &right::<10>(session), &digits(sequence)]);
            }
            ClientPacket::Unsequenced(payload) => packet(out, b'U', &[payload]),
            ClientPacket::Heartbeat => packet(out, b'R', &[]),
            ClientPacket::Logout => packet(out, b'O', &[]),
            ClientPacket::Unknown { kind } => packet(out, kind, &[]),
        }
    }
}

/// A packet's type and payload.
fn split(packet: &[u8]) -> Result<(u8, &[u8]), DecodeError> {
    let end = packet_end(packet)?.ok_or(DecodeError::Truncated { offset: packet.len() })?;
    match packet {
        [_, _, kind, payload @ ..] if packet.len() == end => Ok((*kind, payload)),
        _ => Err(DecodeError::Framing { offset: end }),
    }
}

fn exact<const LENGTH: usize>(payload: &[u8]) -> Result<&[u8; LENGTH], DecodeError> {
    payload.try_into().map_err(|_| DecodeError::Length { stated: payload.len(), found: LENGTH })
}

/// The number of a field; `None` for one of spaces.
fn number(field: &[u8; 20]) -> Result<Option<u64>, DecodeError> {
    let digits = field.trim_ascii();
    if digits.is_empty() {
        return Ok(None);
    }
    let invalid = |reason| DecodeError::Field { field: "sequence", reason };
    if !digits.iter().all(u8::is_ascii_digit) {
        return Err(invalid(Reason::Number));
    }
    let number = digits.iter().try_fold(0u64, |n, digit| n.checked_mul(10)?.checked_add(u64::from(digit - b'0')));
    number.map(Some).ok_or(invalid(Reason::NumberRange))
}

fn digits(number: Option<u64>) -> [u8; 20] {
    let mut field = [b' '; 20];
    let Some(mut rest) = number else { return field };
    // u64::MAX has 20 digits.
    for place in field.iter_mut().rev() {
        *place = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    field
}

/// `text` in a field that is padded to the right.
fn left<const WIDTH: usize>(text: &[u8]) -> [u8; WIDTH] {
    let mut field = [b' '; WIDTH];
    field.iter_mut().zip(text).for_each(|(place, byte)| *place = *byte);
    field
}

/// `text` in a field that is padded to the left.
fn right<const WIDTH: usize>(text: &[u8]) -> [u8; WIDTH] {
    let text = &text[..text.len().min(WIDTH)];
    let mut field = [b' '; WIDTH];
    field[WIDTH - text.len()..].copy_from_slice(text);
    field
}

fn packet(out: &mut Vec<u8>, kind: u8, parts: &[&[u8]]) {
    let begin = out.len();
    out.extend_from_slice(&[0, 0, kind]);
    parts.iter().for_each(|part| out.extend_from_slice(part));
    out.truncate(begin + 3 + PAYLOAD_BYTES_MAX);
    let length = u16::try_from(out.len() - begin - 2).unwrap_or(u16::MAX);
    out[begin..begin + 2].copy_from_slice(&length.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn server(bytes: &[u8], expected: Result<ServerPacket<'_>, DecodeError>) {
        assert_eq!(ServerPacket::decode(bytes), expected, "{}", bytes.escape_ascii());
        if let Ok(packet) = expected {
            let mut out = Vec::new();
            packet.encode(&mut out);
            assert_eq!(out, bytes, "{packet:?}");
        }
    }

    #[track_caller]
    fn client(bytes: &[u8], expected: Result<ClientPacket<'_>, DecodeError>) {
        assert_eq!(ClientPacket::decode(bytes), expected, "{}", bytes.escape_ascii());
        if let Ok(packet) = expected {
            let mut out = Vec::new();
            packet.encode(&mut out);
            assert_eq!(out, bytes, "{packet:?}");
        }
    }

    #[test]
    fn servers_and_clients_are_understood() {
        // As Nasdaq's servers and clients sent them.
        server(b"\0\x01H", Ok(ServerPacket::Heartbeat));
        client(b"\0\x01R", Ok(ClientPacket::Heartbeat));

        server(b"\0\x01Z", Ok(ServerPacket::EndOfSession));
        server(b"\0\x06+hello", Ok(ServerPacket::Debug(b"hello")));
        let accepted = ServerPacket::LoginAccepted { session: b"010059B", sequence: 1 };
        server(b"\0\x1fA   010059B                   1", Ok(accepted));
        let last = ServerPacket::LoginAccepted { session: b"", sequence: u64::MAX };
        server(b"\0\x1fA          18446744073709551615", Ok(last));
        server(b"\0\x02JA", Ok(ServerPacket::LoginRejected { reason: b'A' }));
        server(b"\0\x03SXY", Ok(ServerPacket::Sequenced(b"XY")));
        server(b"\0\x01S", Ok(ServerPacket::Sequenced(b"")));
        server(b"\0\x03UXY", Ok(ServerPacket::Unsequenced(b"XY")));
        server(b"\0\x01?", Ok(ServerPacket::Unknown { kind: b'?' }));

        let login = Login { user: b"USER", password: b"SECRET", session: b"", sequence: None };
        client(b"\0\x2fLUSER  SECRET                                  ", Ok(ClientPacket::Login(login)));
        let resumed = Login { session: b"010059B", sequence: Some(19_009_117), ..login };
        client(b"\0\x2fLUSER  SECRET       010059B            19009117", Ok(ClientPacket::Login(resumed)));
        client(b"\0\x01O", Ok(ClientPacket::Logout));
        client(b"\0\x04UABC", Ok(ClientPacket::Unsequenced(b"ABC")));
        client(b"\0\x02+x", Ok(ClientPacket::Debug(b"x")));
    }

    #[test]
    fn a_password_is_not_shown() {
        let login = Login { user: b"USER", password: b"SECRET", session: b"", sequence: None };
        assert!(!format!("{:?}", ClientPacket::Login(login)).contains("SECRET"));
    }

    #[test]
    fn packets_of_another_length_are_refused() {
        server(b"", Err(DecodeError::Truncated { offset: 0 }));
        server(b"\0\x02H", Err(DecodeError::Truncated { offset: 3 }));
        server(b"\0\0", Err(DecodeError::Framing { offset: 0 }));
        server(b"\0\x01HH", Err(DecodeError::Framing { offset: 3 }));
        server(b"\0\x02HH", Err(DecodeError::Length { stated: 1, found: 0 }));
        server(b"\0\x01J", Err(DecodeError::Length { stated: 0, found: 1 }));
        client(b"\0\x03Lab", Err(DecodeError::Length { stated: 2, found: 46 }));
        let number = |reason| Err(DecodeError::Field { field: "sequence", reason });
        server(b"\0\x1fA   010059B                  1x", number(Reason::Number));
        server(b"\0\x1fA   010059B18446744073709551616", number(Reason::NumberRange));
        server(b"\0\x1fA   010059B                    ", Err(DecodeError::Missing { field: "sequence" }));
    }

    #[test]
    fn finds_the_end_of_a_packet_in_a_stream() {
        let stream = b"\0\x01H\0\x03SXY";
        for (from, to, expected) in
            [(0, 0, None), (0, 1, None), (0, 2, None), (0, 3, Some(3)), (0, 8, Some(3)), (3, 7, None), (3, 8, Some(5))]
        {
            assert_eq!(packet_end(&stream[from..to]), Ok(expected), "{from}..{to}");
        }
        assert_eq!(packet_end(b"\0\0S"), Err(DecodeError::Framing { offset: 0 }));
    }

    #[test]
    fn what_is_too_long_is_cut() {
        let mut out = Vec::new();
        ServerPacket::Sequenced(&vec![7; PAYLOAD_BYTES_MAX + 10]).encode(&mut out);
        assert_eq!(ServerPacket::decode(&out), Ok(ServerPacket::Sequenced(&vec![7; PAYLOAD_BYTES_MAX])));
        let mut out = Vec::new();
        let login = Login { user: b"LONGUSER", password: b"", session: b"", sequence: None };
        ClientPacket::Login(login).encode(&mut out);
        let cut = Login { user: b"LONGUS", ..login };
        assert_eq!(ClientPacket::decode(&out), Ok(ClientPacket::Login(cut)));
    }

    proptest! {
        #[test]
        fn never_panics(bytes: Vec<u8>) {
            let _ = (packet_end(&bytes), ServerPacket::decode(&bytes), ClientPacket::decode(&bytes));
            let whole = [&(bytes.len() as u16).to_be_bytes()[..], &bytes].concat();
            let _ = (ServerPacket::decode(&whole), ClientPacket::decode(&whole));
        }
    }
}
