//! Tests of `frame`.

use std::ops::ControlFlow;

use proptest::prelude::*;

use super::*;

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A message with its bytes, to be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Owned {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, String)>),
}

impl From<Message<'_>> for Owned {
    fn from(message: Message<'_>) -> Owned {
        match message {
            Message::Text(text) => Owned::Text(text.into()),
            Message::Binary(bytes) => Owned::Binary(bytes.into()),
            Message::Ping(bytes) => Owned::Ping(bytes.into()),
            Message::Pong(bytes) => Owned::Pong(bytes.into()),
            Message::Close(close) => Owned::Close(close.map(|(code, reason)| (code, reason.into()))),
        }
    }
}

/// Feeds the pieces until an error, and returns what was handed over.
fn read(pieces: &[&[u8]], bytes_max: usize) -> (Vec<Owned>, Result<(), FrameError>, MessageReader) {
    let mut reader = MessageReader::new();
    let mut messages = Vec::new();
    for piece in pieces {
        let result = reader.feed(&mut piece.to_vec(), bytes_max, &mut |message| {
            messages.push(message.into());
            ControlFlow::Continue(())
        });
        if result.is_err() {
            return (messages, result, reader);
        }
    }
    (messages, Ok(()), reader)
}

/// Reads the stream at once and byte by byte; both must give the messages and then the error.
#[track_caller]
fn check(stream: &[u8], messages: &[Owned], result: Result<(), FrameError>) {
    let bytes: Vec<&[u8]> = stream.chunks(1).collect();
    for (how, pieces) in [("at once", &[stream][..]), ("byte by byte", &bytes)] {
        let (seen, ended, _) = read(pieces, 1_000);
        assert_eq!((seen.as_slice(), ended), (messages, result), "{how}");
    }
}

fn client(frames: &[(Opcode, bool, &[u8])]) -> Vec<u8> {
    let mut stream = Vec::new();
    for (opcode, last, payload) in frames {
        encode_client_fragment(*opcode, *last, payload, MASK, &mut stream);
    }
    stream
}

#[test]
fn writes_the_frames_of_the_rfc() {
    // RFC 6455 section 5.7.
    let mut out = Vec::new();
    encode_frame(Opcode::Text, b"Hello", &mut out);
    assert_eq!(out, [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]);
    out.clear();
    encode_client_frame(Opcode::Text, b"Hello", MASK, &mut out);
    assert_eq!(out, [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]);
    out.clear();
    encode_frame(Opcode::Binary, &[0; 256], &mut out);
    assert_eq!(out[..4], [0x82, 0x7e, 0x01, 0x00]);
    out.clear();
    encode_frame(Opcode::Binary, &[0; 65_536], &mut out);
    assert_eq!(out[..10], [0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0]);
    out.clear();
    encode_close(CloseCode::GoingAway, &mut out);
    assert_eq!(out, b"\x88\x0c\x03\xe9going away");
}

#[test]
fn frames_written_in_place_are_the_same_and_have_their_length() {
    for len in [0, 1, 125, 126, 127, 65_535, 65_536, 70_000] {
        let payload: Vec<u8> = (0..len).map(|i| i as u8).collect();
        let mut copied = b"before".to_vec();
        encode_frame(Opcode::Text, &payload, &mut copied);
        let mut in_place = b"before".to_vec();
        encode_frame_with(Opcode::Text, &mut in_place, |out| out.extend_from_slice(&payload));
        assert!(in_place == copied, "{len}");

        let frame = &copied[6..];
        let header = header_len(len);
        assert_eq!(frame.len(), header + len);
        for end in 0..header {
            assert_eq!((frame_len(&frame[..end]), server_frame(&frame[..end])), (None, None), "{len}: {end}");
        }
        assert_eq!(frame_len(&frame[..header]), Some(frame.len()));
        assert!(server_frame(frame) == Some((Opcode::Text, &payload[..])), "{len}");
        if len > 0 {
            assert_eq!(server_frame(&frame[..frame.len() - 1]), None, "{len}");
        }
    }
    // A length that no memory holds is no reason to overflow.
    assert_eq!(frame_len(&[0x82, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), None);
}

#[test]
fn reads_messages_pipelined_fragmented_and_interleaved() {
    use Opcode::*;
    check(&client(&[(Text, true, b"Hello")]), &[Owned::Text("Hello".into())], Ok(()));
    check(&client(&[(Text, true, b""), (Binary, true, b"")]), &[Owned::Text("".into()), Owned::Binary(vec![])], Ok(()));
    check(
        &client(&[
            (Text, false, b"Hel"),
            (Ping, true, b"?"),
            (Continuation, false, b""),
            (Pong, true, b""),
            (Continuation, true, b"lo"),
            (Binary, true, &[7; 300]),
        ]),
        &[Owned::Ping(b"?".to_vec()), Owned::Pong(vec![]), Owned::Text("Hello".into()), Owned::Binary(vec![7; 300])],
        Ok(()),
    );
    // A character may be cut by fragments: only the whole message has to be UTF-8.
    let euro = "€".as_bytes();
    check(&client(&[(Text, false, &euro[..1]), (Continuation, true, &euro[1..])]), &[Owned::Text("€".into())], Ok(()));
    // alpaca-py ends a fragmented message with an empty fragment.
    check(&client(&[(Binary, false, b"ab"), (Continuation, true, b"")]), &[Owned::Binary(b"ab".to_vec())], Ok(()));
    check(&client(&[(Close, true, b"")]), &[Owned::Close(None)], Ok(()));
    check(&client(&[(Close, true, b"\x03\xe8bye")]), &[Owned::Close(Some((1000, "bye".into())))], Ok(()));
    // A length in more bytes than it needs.
    check(b"\x81\xfe\x00\x02\0\0\0\0ok", &[Owned::Text("ok".into())], Ok(()));
    check(b"\x81\xff\0\0\0\0\0\0\x00\x02\0\0\0\0ok", &[Owned::Text("ok".into())], Ok(()));
}

#[test]
fn refuses_what_breaks_the_protocol() {
    use FrameError::*;
    use Opcode::*;
    let first = Owned::Text("1".into());
    #[track_caller]
    fn refused(after: &[u8], error: FrameError, close: CloseCode) {
        let mut stream = client(&[(Text, true, b"1")]);
        stream.extend_from_slice(after);
        check(&stream, &[Owned::Text("1".into())], Err(error));
        assert_eq!(error.close_code(), close);
    }
    refused(b"\x81\x05Hello", Unmasked, CloseCode::ProtocolError);
    refused(b"\xc1\x80\0\0\0\0", ReservedBits, CloseCode::ProtocolError);
    refused(b"\x91", ReservedBits, CloseCode::ProtocolError);
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        refused(&[0x80 | opcode, 0x80], UnknownOpcode { opcode }, CloseCode::ProtocolError);
    }
    refused(&client(&[(Ping, false, b"")]), ControlFragmented, CloseCode::ProtocolError);
    refused(&client(&[(Ping, true, &[0; 126])]), ControlTooLong, CloseCode::ProtocolError);
    refused(&client(&[(Continuation, true, b"x")]), UnexpectedContinuation, CloseCode::ProtocolError);
    refused(&client(&[(Text, false, b"x"), (Text, true, b"y")]), Interrupted, CloseCode::ProtocolError);
    refused(b"\x82\xff\x80\0\0\0\0\0\0\0\0\0\0\0", BadLength, CloseCode::ProtocolError);
    refused(&client(&[(Text, true, b"\xff")]), NotUtf8, CloseCode::InvalidPayload);
    refused(&client(&[(Text, false, b"\xe2"), (Continuation, true, b"x")]), NotUtf8, CloseCode::InvalidPayload);
    refused(&client(&[(Close, true, b"\x03")]), BadClose, CloseCode::ProtocolError);
    for code in [0u16, 999, 1004, 1005, 1006, 1015, 1100, 2999, 5000] {
        refused(&client(&[(Close, true, &code.to_be_bytes())]), BadClose, CloseCode::ProtocolError);
    }
    refused(&client(&[(Close, true, b"\x03\xe8\xff")]), NotUtf8, CloseCode::InvalidPayload);
    let too_big = TooBig { bytes: 1_001, bytes_max: 1_000 };
    refused(&client(&[(Text, true, &[b'x'; 1_001])]), too_big, CloseCode::TooBig);
    refused(&client(&[(Text, false, &[b'x'; 600]), (Continuation, true, &[b'x'; 401])]), too_big, CloseCode::TooBig);
    // The limit itself is allowed.
    let long = "x".repeat(1_000);
    check(&client(&[(Text, true, b"1"), (Text, true, long.as_bytes())]), &[first, Owned::Text(long.clone())], Ok(()));
}

#[test]
fn refuses_a_message_by_its_announced_length() {
    let mut stream = Vec::new();
    encode_client_frame(Opcode::Binary, &vec![0; 100_000], MASK, &mut stream);
    // Not a byte of the payload is needed for it.
    let (_, result, reader) = read(&[&stream[..14]], 65_536);
    assert_eq!(result, Err(FrameError::TooBig { bytes: 100_000, bytes_max: 65_536 }));
    assert!(reader.is_idle());
}

#[test]
fn holds_memory_only_within_a_message() {
    assert_eq!(size_of::<MessageReader>(), 8);
    let stream =
        client(&[(Opcode::Text, false, b"Hel"), (Opcode::Ping, true, b""), (Opcode::Continuation, true, b"lo")]);
    for end in 0..=stream.len() {
        let (_, result, reader) = read(&[&stream[..end]], 1_000);
        assert_eq!((result, reader.is_idle()), (Ok(()), end == 0 || end == stream.len()), "{end}");
    }
    let (_, _, reader) = read(&[&client(&[(Opcode::Text, true, b"a"), (Opcode::Binary, true, b"b")])], 1_000);
    assert!(reader.is_idle());
}

#[test]
fn a_break_or_a_close_ends_the_reading() {
    let stream = client(&[(Opcode::Text, true, b"1"), (Opcode::Text, true, b"2")]);
    let mut reader = MessageReader::new();
    let mut count = 0;
    let result = reader.feed(&mut stream.clone(), 1_000, &mut |_| {
        count += 1;
        ControlFlow::Break(())
    });
    assert_eq!((result, count, reader.is_idle()), (Ok(()), 1, true));

    let stream = client(&[(Opcode::Text, false, b"1"), (Opcode::Close, true, b""), (Opcode::Text, true, b"2")]);
    let (messages, result, reader) = read(&[&stream], 1_000);
    assert_eq!((messages, result, reader.is_idle()), (vec![Owned::Close(None)], Ok(()), true));
}

/// A message, the lengths at which it is cut into fragments, and whether a ping stands between them.
fn sent() -> impl Strategy<Value = (Owned, Vec<usize>, bool)> {
    let message = prop_oneof![
        ".{0,200}".prop_map(Owned::Text),
        prop::collection::vec(any::<u8>(), 0..400).prop_map(Owned::Binary),
        prop::collection::vec(any::<u8>(), 0..=125).prop_map(Owned::Ping),
        prop::collection::vec(any::<u8>(), 0..=125).prop_map(Owned::Pong),
    ];
    (message, prop::collection::vec(0usize..400, 0..4), any::<bool>())
}

proptest! {
    #[test]
    fn any_split_of_the_stream_gives_the_same_messages(
        sent in prop::collection::vec(sent(), 0..6),
        mask: [u8; 4],
        mut cuts in prop::collection::vec(0usize..3_000, 0..12),
    ) {
        let mut stream = Vec::new();
        let mut expected = Vec::new();
        for (message, fragments, ping) in sent {
            let (opcode, payload) = match &message {
                Owned::Text(text) => (Opcode::Text, text.as_bytes()),
                Owned::Binary(bytes) => (Opcode::Binary, &bytes[..]),
                Owned::Ping(bytes) => (Opcode::Ping, &bytes[..]),
                Owned::Pong(bytes) => (Opcode::Pong, &bytes[..]),
                Owned::Close(_) => unreachable!("not generated"),
            };
            if matches!(message, Owned::Ping(_) | Owned::Pong(_)) {
                encode_client_frame(opcode, payload, mask, &mut stream);
            } else {
                let mut rest = payload;
                let mut opcode = opcode;
                for len in fragments {
                    let (fragment, tail) = rest.split_at(len.min(rest.len()));
                    encode_client_fragment(opcode, false, fragment, mask, &mut stream);
                    (opcode, rest) = (Opcode::Continuation, tail);
                    if ping {
                        encode_client_frame(Opcode::Ping, b"between", mask, &mut stream);
                        expected.push(Owned::Ping(b"between".to_vec()));
                    }
                }
                encode_client_fragment(opcode, true, rest, mask, &mut stream);
            }
            expected.push(message);
        }
        cuts.retain(|cut| *cut <= stream.len());
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &stream[cut[0]..cut[1]]).collect();
        let (messages, result, reader) = read(&pieces, 4_096);
        prop_assert_eq!(result, Ok(()));
        prop_assert_eq!(messages, expected);
        prop_assert!(reader.is_idle());
    }

    #[test]
    fn any_bytes_are_read_or_refused(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..64), 0..8)) {
        let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
        let whole = pieces.concat();
        let split = read(&pieces, 1_000);
        let at_once = read(&[&whole], 1_000);
        // Random bytes soon hold a close frame, after which no more may be fed.
        if !split.0.iter().any(|message| matches!(message, Owned::Close(_))) {
            prop_assert_eq!((split.0, split.1), (at_once.0, at_once.1));
        }
        let _ = (frame_len(&whole), server_frame(&whole));
    }

    #[test]
    fn almost_valid_frames_never_panic(
        opcode in prop::sample::select(vec![0u8, 1, 2, 8, 9, 10]),
        last: bool,
        len in prop::sample::select(vec![0u8, 1, 2, 5, 125, 126, 127]),
        tail in prop::collection::vec(any::<u8>(), 0..160),
    ) {
        let mut stream = vec![if last { FIN } else { 0 } | opcode, MASKED | len];
        stream.extend(tail);
        let _ = read(&[&stream], 1_000);
        let _ = read(&stream.chunks(3).collect::<Vec<_>>(), 1_000);
    }
}
