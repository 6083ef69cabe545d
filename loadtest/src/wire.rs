//! Frames of a server out of a byte stream, sans-IO: bytes as the socket yields them in, whole messages out.
//!
//! Owned by the client that it reads for. A reader holds nothing while nothing is partly received: 8 bytes. Deliberately
//! absent: extensions, of which none is offered, and answering pings, which is the client's business.

use std::ops::ControlFlow;

use protocol::frame::Opcode;

/// Longest message that is read, bytes. A server's longest answer lists 10,000 symbols of 32 bytes in several channels.
pub const MESSAGE_BYTES_MAX: usize = 16 << 20;

const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const MASKED: u8 = 0x80;

/// One message of a server, or a control frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    Text(&'a [u8]),
    Binary(&'a [u8]),
    Ping(&'a [u8]),
    Pong,
    /// Code and reason, where they were given.
    Close(Option<(u16, &'a [u8])>),
}

/// How a server broke RFC 6455.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    #[error("a server's frame with a mask")]
    Masked,
    #[error("reserved bits set without an extension")]
    ReservedBits,
    #[error("unknown opcode {opcode}")]
    UnknownOpcode { opcode: u8 },
    #[error("a control frame in fragments")]
    ControlFragmented,
    #[error("a control frame of {bytes} bytes")]
    ControlTooLong { bytes: u64 },
    #[error("a continuation without a message")]
    UnexpectedContinuation,
    #[error("a new message inside a fragmented one")]
    Interrupted,
    #[error("a message of at least {bytes} bytes")]
    TooBig { bytes: u64 },
    #[error("a close frame of one byte")]
    BadClose,
}

/// What is held of a message that has not arrived completely.
#[derive(Debug, Default)]
struct Partial {
    /// The start of a frame; less than a whole one.
    rest: Vec<u8>,
    /// A fragmented message so far.
    message: Option<(Opcode, Vec<u8>)>,
}

/// Reads the frames of one connection.
#[derive(Debug, Default)]
pub struct Reader(Option<Box<Partial>>);

#[derive(Clone, Copy)]
struct Header {
    opcode: Opcode,
    last: bool,
    payload_len: usize,
    len: usize,
}

impl Header {
    /// Reads a header at the start of `bytes`; `Ok(None)` where more bytes are needed.
    fn decode(bytes: &[u8]) -> Result<Option<Header>, WireError> {
        let &[first, second, ..] = bytes else { return Ok(None) };
        if first & RESERVED != 0 {
            return Err(WireError::ReservedBits);
        }
        if second & MASKED != 0 {
            return Err(WireError::Masked);
        }
        let opcode = match first & 0x0f {
            0 => Opcode::Continuation,
            1 => Opcode::Text,
            2 => Opcode::Binary,
            8 => Opcode::Close,
            9 => Opcode::Ping,
            10 => Opcode::Pong,
            opcode => return Err(WireError::UnknownOpcode { opcode }),
        };
        let (payload_len, len) = match second {
            126 => match bytes.get(2..4).and_then(|len| len.try_into().ok()) {
                Some(len) => (u64::from(u16::from_be_bytes(len)), 4),
                None => return Ok(None),
            },
            127 => match bytes.get(2..10).and_then(|len| len.try_into().ok()) {
                Some(len) => (u64::from_be_bytes(len), 10),
                None => return Ok(None),
            },
            short => (u64::from(short), 2),
        };
        let last = first & FIN != 0;
        if opcode as u8 >= 8 {
            if !last {
                return Err(WireError::ControlFragmented);
            }
            if payload_len > 125 {
                return Err(WireError::ControlTooLong { bytes: payload_len });
            }
        }
        match usize::try_from(payload_len) {
            Ok(payload_len) if payload_len <= MESSAGE_BYTES_MAX => Ok(Some(Header { opcode, last, payload_len, len })),
            _ => Err(WireError::TooBig { bytes: payload_len }),
        }
    }
}

impl Reader {
    /// What must stand before the next bytes of the socket: the start of a frame, taken out of the reader.
    pub fn take_rest(&mut self) -> Vec<u8> {
        let Some(partial) = &mut self.0 else { return Vec::new() };
        let rest = std::mem::take(&mut partial.rest);
        if partial.message.is_none() {
            self.0 = None;
        }
        rest
    }

    /// Keeps bytes for [`take_rest`](Self::take_rest).
    pub fn keep(&mut self, rest: &[u8]) {
        if !rest.is_empty() {
            self.0.get_or_insert_default().rest = rest.to_vec();
        }
    }

    /// Hands every whole message in `bytes` to `on_message` and keeps what is left. `bytes` begins with what
    /// [`take_rest`](Self::take_rest) gave. Stops where `on_message` breaks; the bytes behind are dropped then.
    ///
    /// # Errors
    /// [`WireError`]: the connection is of no use any more.
    pub fn read(
        &mut self,
        bytes: &[u8],
        mut on_message: impl FnMut(Message<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, WireError> {
        let mut at = 0;
        while let Some(header) = Header::decode(&bytes[at..])? {
            let start = at + header.len;
            let Some(payload) = bytes.get(start..start + header.payload_len) else { break };
            at = start + header.payload_len;
            let flow = match (header.opcode, header.last) {
                // The usual case: a whole data message in a frame.
                (Opcode::Text, true) if self.0.is_none() => on_message(Message::Text(payload)),
                (Opcode::Binary, true) if self.0.is_none() => on_message(Message::Binary(payload)),
                (Opcode::Ping, _) => on_message(Message::Ping(payload)),
                (Opcode::Pong, _) => on_message(Message::Pong),
                (Opcode::Close, _) => on_message(Message::Close(match payload {
                    [] => None,
                    [_] => return Err(WireError::BadClose),
                    [high, low, reason @ ..] => Some((u16::from_be_bytes([*high, *low]), reason)),
                })),
                (opcode, last) => self.fragment(opcode, last, payload, &mut on_message)?,
            };
            if flow.is_break() {
                return Ok(flow);
            }
        }
        self.keep(&bytes[at..]);
        Ok(ControlFlow::Continue(()))
    }

    fn fragment(
        &mut self,
        opcode: Opcode,
        last: bool,
        payload: &[u8],
        on_message: &mut impl FnMut(Message<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, WireError> {
        let partial = self.0.get_or_insert_default();
        match (&mut partial.message, opcode) {
            (None, Opcode::Continuation) => return Err(WireError::UnexpectedContinuation),
            (Some(_), Opcode::Text | Opcode::Binary) => return Err(WireError::Interrupted),
            (Some((_, message)), _) => {
                let bytes = message.len() + payload.len();
                if bytes > MESSAGE_BYTES_MAX {
                    return Err(WireError::TooBig { bytes: bytes as u64 });
                }
                message.extend_from_slice(payload);
            }
            (none, _) => *none = Some((opcode, payload.to_vec())),
        }
        if !last {
            return Ok(ControlFlow::Continue(()));
        }
        let whole = partial.message.take();
        self.0 = None;
        Ok(match whole {
            Some((Opcode::Text, message)) => on_message(Message::Text(&message)),
            Some((_, message)) => on_message(Message::Binary(&message)),
            None => ControlFlow::Continue(()),
        })
    }

    /// Whether nothing is partly received.
    pub fn is_idle(&self) -> bool {
        self.0.is_none()
    }
}

#[cfg(test)]
mod tests;
