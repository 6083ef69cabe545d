//! WebSocket frames (RFC 6455), sans-IO: the frames of both sides written, and those of clients read.
//!
//! The server never masks, so a frame written once serves every client, header included. Writing is pure and
//! belongs to no thread; reading is in [`reader`](self::MessageReader). Deliberately absent: the HTTP upgrade,
//! extensions (no compression), and answering: pong and close are the session's business.

mod reader;

pub use reader::{FrameError, Message, MessageReader};

use crate::CloseCode;

/// Longest payload of a control frame, in bytes.
pub const CONTROL_BYTES_MAX: usize = 125;

/// Longest header of a server's frame: 2 bytes and a 64-bit length.
pub const HEADER_BYTES_MAX: usize = 10;

const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    Continuation = 0,
    Text = 1,
    Binary = 2,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

impl Opcode {
    const fn from_bits(bits: u8) -> Option<Opcode> {
        Some(match bits {
            0 => Opcode::Continuation,
            1 => Opcode::Text,
            2 => Opcode::Binary,
            8 => Opcode::Close,
            9 => Opcode::Ping,
            10 => Opcode::Pong,
            _ => return None,
        })
    }

    const fn is_control(self) -> bool {
        self as u8 >= 8
    }
}

/// Bytes of a server frame's header for that payload: 2, 4 or 10.
pub const fn header_len(payload_len: usize) -> usize {
    match payload_len {
        0..=125 => 2,
        126..=0xffff => 4,
        _ => HEADER_BYTES_MAX,
    }
}

/// Total length of the server frame that starts at `bytes[0]`, or `None` where its header is not complete.
pub fn frame_len(bytes: &[u8]) -> Option<usize> {
    let (header, payload) = unmasked_lengths(bytes)?;
    header.checked_add(payload)
}

/// Opcode and payload of the complete server frame at the start of `bytes`, as a client reads it; `None` where
/// bytes are missing or the opcode is unknown.
pub fn server_frame(bytes: &[u8]) -> Option<(Opcode, &[u8])> {
    let (header, payload) = unmasked_lengths(bytes)?;
    let opcode = Opcode::from_bits(bytes[0] & 0x0f)?;
    Some((opcode, bytes.get(header..header.checked_add(payload)?)?))
}

fn unmasked_lengths(bytes: &[u8]) -> Option<(usize, usize)> {
    match bytes.get(1)? & 0x7f {
        126 => Some((4, usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)))),
        127 => Some((10, usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?)),
        short => Some((2, usize::from(short))),
    }
}

/// Appends a complete unmasked frame, as a server sends it.
pub fn encode_frame(opcode: Opcode, payload: &[u8], out: &mut Vec<u8>) {
    encode_header(FIN | opcode as u8, payload.len(), 0, out);
    out.extend_from_slice(payload);
}

/// Appends a complete unmasked frame whose payload `write` appends in place, so that it is not copied.
pub fn encode_frame_with(opcode: Opcode, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    // Data messages are 100 to 300 bytes, so most of them need exactly the 4 bytes that are reserved here; the
    // others are moved by 2 down or 6 up.
    const RESERVED_HEADER: usize = 4;
    let start = out.len();
    out.extend_from_slice(&[0; RESERVED_HEADER]);
    write(out);
    let payload_len = out.len() - start - RESERVED_HEADER;
    let len = payload_len as u64;
    let first = FIN | opcode as u8;
    match header_len(payload_len) {
        2 => {
            out.copy_within(start + RESERVED_HEADER.., start + 2);
            out.truncate(start + 2 + payload_len);
            out[start] = first;
            out[start + 1] = len as u8;
        }
        4 => {
            out[start] = first;
            out[start + 1] = 126;
            out[start + 2..start + 4].copy_from_slice(&(len as u16).to_be_bytes());
        }
        _ => {
            out.extend_from_slice(&[0; HEADER_BYTES_MAX - RESERVED_HEADER]);
            out.copy_within(start + RESERVED_HEADER..start + RESERVED_HEADER + payload_len, start + HEADER_BYTES_MAX);
            out[start] = first;
            out[start + 1] = 127;
            out[start + 2..start + HEADER_BYTES_MAX].copy_from_slice(&len.to_be_bytes());
        }
    }
}

/// Appends a close frame with that code and its reason.
pub fn encode_close(code: CloseCode, out: &mut Vec<u8>) {
    encode_frame_with(Opcode::Close, out, |out| {
        out.extend_from_slice(&code.code().to_be_bytes());
        out.extend_from_slice(code.reason().as_bytes());
    });
}

/// Appends a complete masked frame, as a client sends it. `mask` should be fresh and random for each frame.
pub fn encode_client_frame(opcode: Opcode, payload: &[u8], mask: [u8; 4], out: &mut Vec<u8>) {
    encode_client_fragment(opcode, true, payload, mask, out);
}

/// Appends one masked fragment of a message; `last` marks its end, and all but the first are
/// [`Opcode::Continuation`].
pub fn encode_client_fragment(opcode: Opcode, last: bool, payload: &[u8], mask: [u8; 4], out: &mut Vec<u8>) {
    encode_header(if last { FIN } else { 0 } | opcode as u8, payload.len(), MASKED, out);
    out.extend_from_slice(&mask);
    let start = out.len();
    out.extend_from_slice(payload);
    unmask(&mut out[start..], mask, 0);
}

fn encode_header(first: u8, payload_len: usize, masked: u8, out: &mut Vec<u8>) {
    let len = payload_len as u64;
    match header_len(payload_len) {
        2 => out.extend_from_slice(&[first, masked | len as u8]),
        4 => {
            out.extend_from_slice(&[first, masked | 126]);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        _ => {
            out.extend_from_slice(&[first, masked | 127]);
            out.extend_from_slice(&len.to_be_bytes());
        }
    }
}

/// XORs `bytes` with the mask, starting `phase` bytes into it. Masking and unmasking are the same.
fn unmask(bytes: &mut [u8], mut mask: [u8; 4], phase: usize) {
    mask.rotate_left(phase % 4);
    let word = u32::from_ne_bytes(mask);
    let mut words = bytes.chunks_exact_mut(4);
    for chunk in &mut words {
        let masked = u32::from_ne_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]);
        chunk.copy_from_slice(&(masked ^ word).to_ne_bytes());
    }
    for (byte, mask) in words.into_remainder().iter_mut().zip(mask) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests;
