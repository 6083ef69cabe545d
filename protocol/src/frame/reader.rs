//! Reading a client's frames: bytes as the socket yields them in, whole messages out.
//!
//! It runs on the thread that owns the connection. A reader keeps no buffer of its own while no message is partly
//! received: it is 8 bytes in a silent session. Deliberately absent: a UTF-8 check of unfinished messages (text is
//! checked once, when it is complete), and any reading of a server's frames in fragments, which ours never sends.

use std::ops::ControlFlow;

use super::{CONTROL_BYTES_MAX, FIN, HEADER_BYTES_MAX, MASKED, Opcode, unmask};
use crate::CloseCode;

/// Bits that stand for extensions, of which none is negotiated.
const RESERVED: u8 = 0x70;

/// Longest header of a client's frame: that of a server's and the mask.
const CLIENT_HEADER_BYTES_MAX: usize = HEADER_BYTES_MAX + 4;

/// One message of a client, or a control frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    Text(&'a str),
    Binary(&'a [u8]),
    Ping(&'a [u8]),
    Pong(&'a [u8]),
    /// The client's close code and reason, if it gave them.
    Close(Option<(u16, &'a str)>),
}

/// How a client broke the protocol. The session is over: [`FrameError::close_code`] says how to close it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("a client's frame without a mask")]
    Unmasked,
    #[error("reserved bits set without an extension")]
    ReservedBits,
    #[error("unknown opcode {opcode}")]
    UnknownOpcode { opcode: u8 },
    #[error("a fragmented control frame")]
    ControlFragmented,
    #[error("a control frame longer than 125 bytes")]
    ControlTooLong,
    #[error("a continuation without a message")]
    UnexpectedContinuation,
    #[error("a new message inside a fragmented one")]
    Interrupted,
    #[error("a length above 2^63")]
    BadLength,
    #[error("a message of at least {bytes} bytes, {bytes_max} are allowed")]
    TooBig { bytes: u64, bytes_max: usize },
    #[error("text that is not UTF-8")]
    NotUtf8,
    #[error("a malformed close frame")]
    BadClose,
}

impl FrameError {
    /// The code to close the connection with: 1002, 1007 or 1009.
    pub const fn close_code(self) -> CloseCode {
        match self {
            FrameError::TooBig { .. } => CloseCode::TooBig,
            FrameError::NotUtf8 => CloseCode::InvalidPayload,
            _ => CloseCode::ProtocolError,
        }
    }
}

/// A client frame's header, checked.
#[derive(Clone, Copy, Debug)]
struct Header {
    opcode: Opcode,
    last: bool,
    mask: [u8; 4],
    /// Payload bytes; `<= bytes_max`, and `<= 125` in a control frame, once [`admit`] let it pass.
    payload_len: u64,
    /// Bytes of the header itself, mask included.
    len: usize,
}

impl Header {
    /// Reads a header at the start of `bytes`; `Ok(None)` where more bytes are needed. What can be refused is
    /// refused at its first bytes already.
    fn decode(bytes: &[u8]) -> Result<Option<Header>, FrameError> {
        let Some(&first) = bytes.first() else { return Ok(None) };
        if first & RESERVED != 0 {
            return Err(FrameError::ReservedBits);
        }
        let bits = first & 0x0f;
        let opcode = Opcode::from_bits(bits).ok_or(FrameError::UnknownOpcode { opcode: bits })?;
        let last = first & FIN != 0;
        if opcode.is_control() && !last {
            return Err(FrameError::ControlFragmented);
        }
        let Some(&second) = bytes.get(1) else { return Ok(None) };
        if second & MASKED == 0 {
            return Err(FrameError::Unmasked);
        }
        if opcode.is_control() && usize::from(second & 0x7f) > CONTROL_BYTES_MAX {
            return Err(FrameError::ControlTooLong);
        }
        // A length in more bytes than it needs breaks RFC 6455 5.2, but it is harmless, and clients that do it
        // exist; so it passes, as in most servers.
        let (payload_len, at) = match second & 0x7f {
            126 => match bytes.get(2..4) {
                Some(len) => (u64::from(u16::from_be_bytes([len[0], len[1]])), 4),
                None => return Ok(None),
            },
            127 => match bytes.get(2..10).and_then(|len| len.try_into().ok()) {
                Some(len) => (u64::from_be_bytes(len), 10),
                None => return Ok(None),
            },
            short => (u64::from(short), 2),
        };
        if payload_len > i64::MAX as u64 {
            return Err(FrameError::BadLength);
        }
        let Some(mask) = bytes.get(at..at + 4) else { return Ok(None) };
        let mask = [mask[0], mask[1], mask[2], mask[3]];
        Ok(Some(Header { opcode, last, mask, payload_len, len: at + 4 }))
    }
}

/// What a reader holds of a frame or message that has not arrived completely.
#[derive(Debug, Default)]
struct Partial {
    /// The first bytes of a header; `header_len < CLIENT_HEADER_BYTES_MAX`.
    header: [u8; CLIENT_HEADER_BYTES_MAX],
    header_len: usize,
    /// The frame whose payload is being received, and how much of it is here.
    frame: Option<(Header, u64)>,
    /// Whether a data message has begun, and of which kind.
    message: Option<Opcode>,
    /// The unmasked payload of that message so far; never more than `bytes_max` bytes, and its capacity at most
    /// twice what has really arrived.
    data: Vec<u8>,
    /// The unmasked payload of the control frame being received; at most 125 bytes.
    control: Vec<u8>,
}

impl Partial {
    fn is_idle(&self) -> bool {
        self.header_len == 0 && self.frame.is_none() && self.message.is_none()
    }

    /// The payload of a buffered frame is complete.
    fn finish(
        &mut self,
        header: Header,
        on_message: &mut impl FnMut(Message<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, FrameError> {
        if header.opcode.is_control() {
            return hand_over(header.opcode, &std::mem::take(&mut self.control), on_message);
        }
        match self.message {
            Some(opcode) if header.last => {
                self.message = None;
                hand_over(opcode, &std::mem::take(&mut self.data), on_message)
            }
            _ => Ok(ControlFlow::Continue(())),
        }
    }
}

/// Reads the messages of one client out of what its socket yields.
///
/// At most `bytes_max` of a message are held, and nothing between messages. After an error, after a
/// [`Message::Close`] and after the callback said `Break`, the rest of the input is dropped, and the reader is
/// not to be fed again.
#[derive(Debug, Default)]
pub struct MessageReader {
    partial: Option<Box<Partial>>,
}

impl MessageReader {
    pub const fn new() -> MessageReader {
        MessageReader { partial: None }
    }

    /// Whether no message is partly received, so that nothing is allocated.
    pub const fn is_idle(&self) -> bool {
        self.partial.is_none()
    }

    /// Takes what arrived, unmasks it in place and hands over each message that is complete by it.
    ///
    /// # Errors
    /// A [`FrameError`] at the first byte that breaks the protocol; the messages before it were handed over. A
    /// message above `bytes_max` is refused by its announced length, before it is buffered.
    pub fn feed(
        &mut self,
        input: &mut [u8],
        bytes_max: usize,
        on_message: &mut impl FnMut(Message<'_>) -> ControlFlow<()>,
    ) -> Result<(), FrameError> {
        let result = self.read(input, bytes_max, on_message);
        let over = !matches!(result, Ok(ControlFlow::Continue(())));
        if over || self.partial.as_ref().is_some_and(|partial| partial.is_idle()) {
            self.partial = None;
        }
        result.map(|_| ())
    }

    fn read(
        &mut self,
        mut input: &mut [u8],
        bytes_max: usize,
        on_message: &mut impl FnMut(Message<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, FrameError> {
        loop {
            if let Some(partial) = &mut self.partial
                && let Some((header, received)) = &mut partial.frame
            {
                let missing = header.payload_len - *received;
                let take = usize::try_from(missing).unwrap_or(usize::MAX).min(input.len());
                let (payload, rest) = input.split_at_mut(take);
                unmask(payload, header.mask, (*received % 4) as usize);
                let buffer = if header.opcode.is_control() { &mut partial.control } else { &mut partial.data };
                buffer.extend_from_slice(payload);
                *received += take as u64;
                if *received < header.payload_len {
                    return Ok(ControlFlow::Continue(()));
                }
                let header = *header;
                partial.frame = None;
                input = rest;
                if partial.finish(header, on_message)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            if input.is_empty() {
                return Ok(ControlFlow::Continue(()));
            }
            let Some((header, rest)) = self.header(input)? else { return Ok(ControlFlow::Continue(())) };
            input = rest;
            let (message, buffered) = match &self.partial {
                Some(partial) => (partial.message, partial.data.len()),
                None => (None, 0),
            };
            admit(&header, message, buffered, bytes_max)?;
            // A whole message, or a control frame between fragments, needs no buffer at all.
            let whole = header.opcode.is_control() || (header.last && message.is_none());
            match usize::try_from(header.payload_len) {
                Ok(payload_len) if whole && payload_len <= input.len() => {
                    let (payload, rest) = input.split_at_mut(payload_len);
                    unmask(payload, header.mask, 0);
                    if hand_over(header.opcode, payload, on_message)?.is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                    input = rest;
                }
                _ => {
                    let partial = self.partial.get_or_insert_default();
                    if !header.opcode.is_control() && message.is_none() {
                        partial.message = Some(header.opcode);
                    }
                    partial.frame = Some((header, 0));
                }
            }
        }
    }

    /// Reads the next header and returns it with the input behind it; keeps its first bytes where the input
    /// ends within it.
    fn header<'a>(&mut self, input: &'a mut [u8]) -> Result<Option<(Header, &'a mut [u8])>, FrameError> {
        let kept = self.partial.as_ref().map_or(0, |partial| partial.header_len);
        let (decoded, known) = if kept == 0 {
            (Header::decode(input)?, 0)
        } else {
            let mut bytes = [0; CLIENT_HEADER_BYTES_MAX];
            let take = input.len().min(CLIENT_HEADER_BYTES_MAX - kept);
            if let Some(partial) = &self.partial {
                bytes[..kept].copy_from_slice(&partial.header[..kept]);
            }
            bytes[kept..kept + take].copy_from_slice(&input[..take]);
            (Header::decode(&bytes[..kept + take])?, kept)
        };
        if let Some(header) = decoded {
            if let Some(partial) = &mut self.partial {
                partial.header_len = 0;
            }
            return Ok(Some((header, &mut input[header.len - known..])));
        }
        // An incomplete header is shorter than the longest one, so the rest of the input fits.
        let partial = self.partial.get_or_insert_default();
        partial.header[kept..kept + input.len()].copy_from_slice(input);
        partial.header_len = kept + input.len();
        Ok(None)
    }
}

/// Whether a frame may follow: `message` is the kind of an unfinished message, `buffered` its bytes so far.
fn admit(header: &Header, message: Option<Opcode>, buffered: usize, bytes_max: usize) -> Result<(), FrameError> {
    match (header.opcode, message) {
        (opcode, _) if opcode.is_control() => return Ok(()),
        (Opcode::Continuation, None) => return Err(FrameError::UnexpectedContinuation),
        (Opcode::Text | Opcode::Binary, Some(_)) => return Err(FrameError::Interrupted),
        _ => {}
    }
    // No overflow: `payload_len <= i64::MAX` and `buffered <= isize::MAX`.
    let bytes = header.payload_len + buffered as u64;
    if bytes > bytes_max as u64 { Err(FrameError::TooBig { bytes, bytes_max }) } else { Ok(()) }
}

/// Checks a complete message and hands it over. A close ends the reading.
fn hand_over(
    opcode: Opcode,
    payload: &[u8],
    on_message: &mut impl FnMut(Message<'_>) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, FrameError> {
    let message = match opcode {
        Opcode::Text => Message::Text(std::str::from_utf8(payload).map_err(|_| FrameError::NotUtf8)?),
        Opcode::Binary | Opcode::Continuation => Message::Binary(payload),
        Opcode::Ping => Message::Ping(payload),
        Opcode::Pong => Message::Pong(payload),
        Opcode::Close => {
            let close = match payload {
                [] => None,
                [_] => return Err(FrameError::BadClose),
                [high, low, reason @ ..] => {
                    let code = u16::from_be_bytes([*high, *low]);
                    // 1004, 1005, 1006 and 1015 never stand in a frame; 1012 to 1014 are registered since.
                    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
                        return Err(FrameError::BadClose);
                    }
                    Some((code, std::str::from_utf8(reason).map_err(|_| FrameError::NotUtf8)?))
                }
            };
            let _ = on_message(Message::Close(close));
            return Ok(ControlFlow::Break(()));
        }
    };
    Ok(on_message(message))
}
