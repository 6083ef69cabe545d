//! How messages are put into frames: all that the protocol allows, and more than our gateway does.

use protocol::Encoding;
use protocol::frame::{Opcode, encode_frame, server_frame};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// One message in a frame, as our gateway does it.
    Single,
    /// All that is due in one array.
    Arrays,
    /// Each message in three fragments, with a ping between them.
    Fragments,
}

impl Framing {
    /// Appends messages, of which each is a whole frame that holds an array of one.
    pub fn write(self, encoding: Encoding, frames: &[Vec<u8>], out: &mut Vec<u8>) {
        match self {
            Framing::Single => frames.iter().for_each(|frame| out.extend_from_slice(frame)),
            // 15 is the most that MessagePack's shortest array holds.
            Framing::Arrays => {
                frames.chunks(15).for_each(|some| encode_frame(encoding.opcode(), &array(encoding, some), out))
            }
            Framing::Fragments => frames.iter().for_each(|frame| fragments(encoding, payload(frame), out)),
        }
    }
}

/// What a frame of one message holds.
pub fn payload(frame: &[u8]) -> &[u8] {
    server_frame(frame).expect("a whole frame").1
}

fn array(encoding: Encoding, frames: &[Vec<u8>]) -> Vec<u8> {
    let payloads = frames.iter().map(|frame| payload(frame));
    match encoding {
        Encoding::Json => {
            let inside: Vec<&[u8]> = payloads.map(|payload| &payload[1..payload.len() - 1]).collect();
            [b"[", inside.join(&b","[..]).as_slice(), b"]"].concat()
        }
        Encoding::MessagePack => {
            // A message's own array is the one byte 0x91.
            let mut all = vec![0x90 | frames.len() as u8];
            payloads.for_each(|payload| all.extend_from_slice(&payload[1..]));
            all
        }
    }
}

fn fragments(encoding: Encoding, payload: &[u8], out: &mut Vec<u8>) {
    let cuts = [0, payload.len() / 3, payload.len() / 3 * 2, payload.len()];
    for (i, cut) in cuts.windows(2).enumerate() {
        let (part, opcode) = (&payload[cut[0]..cut[1]], if i == 0 { encoding.opcode() } else { Opcode::Continuation });
        let start = out.len();
        encode_frame(opcode, part, out);
        if i < 2 {
            // Not the last one.
            out[start] &= 0x7f;
        }
        if i == 0 {
            encode_frame(Opcode::Ping, b"between", out);
        }
    }
}
