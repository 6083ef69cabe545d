//! Tests of `wire`.

use proptest::prelude::*;
use protocol::frame::encode_frame;

use super::*;

/// What was read, in a form that can be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Owned {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong,
    Close(Option<(u16, Vec<u8>)>),
}

impl From<Message<'_>> for Owned {
    fn from(message: Message<'_>) -> Owned {
        match message {
            Message::Text(payload) => Owned::Text(payload.to_vec()),
            Message::Binary(payload) => Owned::Binary(payload.to_vec()),
            Message::Ping(payload) => Owned::Ping(payload.to_vec()),
            Message::Pong => Owned::Pong,
            Message::Close(close) => Owned::Close(close.map(|(code, reason)| (code, reason.to_vec()))),
        }
    }
}

/// Reads `bytes` as a socket would yield them in those pieces.
fn read_in_pieces<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<Owned>, WireError> {
    let mut reader = Reader::default();
    let mut messages = Vec::new();
    for piece in pieces {
        let mut bytes = reader.take_rest();
        bytes.extend_from_slice(piece);
        let flow = reader.read(&bytes, |message| {
            messages.push(message.into());
            ControlFlow::Continue(())
        })?;
        assert!(flow.is_continue());
    }
    Ok(messages)
}

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode_frame(Opcode::Text, payload, &mut out);
    out[0] = first;
    out
}

/// One of everything: lengths in 7, 16 and 64 bits, control frames between fragments.
fn everything() -> (Vec<u8>, Vec<Owned>) {
    let long = vec![b'x'; 300];
    let longest = vec![b'y'; 70_000];
    let mut bytes = Vec::new();
    let mut expected = Vec::new();
    for (first, payload, message) in [
        (0x81, &b"[]"[..], Some(Owned::Text(b"[]".to_vec()))),
        (0x82, &long, Some(Owned::Binary(long.clone()))),
        (0x01, b"in ", None),
        (0x89, b"ping", Some(Owned::Ping(b"ping".to_vec()))),
        (0x00, b"three ", None),
        (0x8a, b"", Some(Owned::Pong)),
        (0x80, b"parts", Some(Owned::Text(b"in three parts".to_vec()))),
        (0x81, b"", Some(Owned::Text(Vec::new()))),
        (0x81, &longest, Some(Owned::Text(longest.clone()))),
        (0x88, b"\x03\xe9going away", Some(Owned::Close(Some((1001, b"going away".to_vec()))))),
        (0x88, b"", Some(Owned::Close(None))),
    ] {
        bytes.extend(frame(first, payload));
        expected.extend(message);
    }
    (bytes, expected)
}

#[test]
fn messages_are_whole_at_every_split() {
    let (bytes, expected) = everything();
    for at in 0..=bytes.len() {
        // The inside of the longest message is all alike.
        if at > 1_000 && at + 1_000 < bytes.len() && at % 997 != 0 {
            continue;
        }
        let (head, tail) = bytes.split_at(at);
        assert_eq!(read_in_pieces([head, tail]).as_ref(), Ok(&expected), "split at {at}");
    }
}

#[test]
fn a_silent_reader_holds_nothing() {
    let (bytes, _) = everything();
    let mut reader = Reader::default();
    assert_eq!(reader.read(&bytes, |_| ControlFlow::Continue(())), Ok(ControlFlow::Continue(())));
    assert!(reader.is_idle());
    assert_eq!(std::mem::size_of::<Reader>(), 8);
    assert_eq!(reader.read(&bytes[..1], |_| ControlFlow::Continue(())), Ok(ControlFlow::Continue(())));
    assert!(!reader.is_idle());
    assert_eq!(reader.take_rest(), &bytes[..1]);
    assert!(reader.is_idle());
}

#[test]
fn a_break_stops_the_reading() {
    let bytes = [frame(0x81, b"1"), frame(0x81, b"2")].concat();
    let mut seen = 0;
    let flow = Reader::default().read(&bytes, |_| {
        seen += 1;
        ControlFlow::Break(())
    });
    assert_eq!((flow, seen), (Ok(ControlFlow::Break(())), 1));
}

#[test]
fn what_breaks_the_protocol_is_named() {
    let check = |bytes: Vec<u8>, error| assert_eq!(read_in_pieces([&bytes[..]]), Err(error), "{bytes:?}");
    check(vec![0x81, 0x81, 0, 0, 0, 0, 0], WireError::Masked);
    check(frame(0xc1, b""), WireError::ReservedBits);
    check(frame(0x83, b""), WireError::UnknownOpcode { opcode: 3 });
    check(frame(0x09, b""), WireError::ControlFragmented);
    check(frame(0x89, &[0; 126]), WireError::ControlTooLong { bytes: 126 });
    check(frame(0x80, b""), WireError::UnexpectedContinuation);
    check([frame(0x01, b"a"), frame(0x81, b"b")].concat(), WireError::Interrupted);
    check(frame(0x88, b"\x03"), WireError::BadClose);
    let announced = (MESSAGE_BYTES_MAX + 1) as u64;
    check([&[0x81, 127][..], &announced.to_be_bytes()].concat(), WireError::TooBig { bytes: announced });
}

proptest! {
    #[test]
    fn never_panics_and_reads_the_same_in_any_pieces(bytes: Vec<u8>, cuts in prop::collection::vec(0usize..64, 0..8)) {
        let whole = read_in_pieces([&bytes[..]]);
        let mut pieces = Vec::new();
        let mut rest = &bytes[..];
        for cut in cuts {
            let (piece, tail) = rest.split_at(cut.min(rest.len()));
            pieces.push(piece);
            rest = tail;
        }
        pieces.push(rest);
        prop_assert_eq!(read_in_pieces(pieces), whole);
    }
}
