//! One client's TLS against rustls' client: handshakes, records in pieces, refusals, and bytes that nobody sent.

use std::collections::VecDeque;
use std::io::{Read, Write};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use proptest::prelude::*;
use rustls::{AlertDescription, ClientConnection, ConnectionTrafficSecrets};

use super::*;
use crate::transport::tls::testing::{Files, Identity, connection};

/// Both ends of a connection, in memory.
struct Pair {
    client: ClientConnection,
    session: TlsSession,
    sealer: Sealer,
    /// What the session has said of the client's data.
    heard: Vec<u8>,
    /// What the client has read.
    read: VecDeque<u8>,
}

impl Pair {
    /// Before the first byte.
    fn with(client: ClientConnection, config: Arc<ServerConfig>) -> Pair {
        let session = TlsSession::accept(config).unwrap();
        Pair { client, session, sealer: Sealer::default(), heard: Vec::new(), read: VecDeque::new() }
    }

    /// After the handshake.
    fn new() -> Pair {
        let identity = Identity::new();
        let mut pair = Pair::with(identity.client(), Files::new(&identity).open().current());
        pair.exchange().unwrap();
        assert!(!pair.client.is_handshaking() && !pair.session.is_handshaking());
        pair
    }

    /// What the client has to send.
    fn client_sends(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.client.wants_write() {
            self.client.write_tls(&mut bytes).unwrap();
        }
        bytes
    }

    fn receive(&mut self, bytes: &mut [u8]) -> Result<(), TlsError> {
        let Pair { session, heard, .. } = self;
        session.receive(bytes, &mut |plaintext| heard.extend_from_slice(plaintext))
    }

    /// Gives the client what there is for it.
    fn client_receives(&mut self, mut bytes: &[u8]) -> Result<(), rustls::Error> {
        while !bytes.is_empty() {
            self.client.read_tls(&mut bytes).unwrap();
            self.client.process_new_packets()?;
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = self.client.reader().read(&mut buffer) {
                self.read.extend(&buffer[..read]);
            }
        }
        Ok(())
    }

    fn answer(&mut self) -> Vec<u8> {
        let unsent = self.session.unsent().to_vec();
        self.session.advance(unsent.len());
        unsent
    }

    /// Carries bytes until neither has any.
    fn exchange(&mut self) -> Result<(), TlsError> {
        loop {
            let mut bytes = self.client_sends();
            let received = self.receive(&mut bytes);
            let answer = self.answer();
            let heard = self.client_receives(&answer);
            received?;
            heard?;
            if answer.is_empty() && !self.client.wants_write() {
                return Ok(());
            }
        }
    }

    /// Seals slices whole. The bytes, and the number of pieces.
    fn seal(&mut self, slices: &[IoSlice<'_>]) -> (Vec<u8>, usize) {
        let (mut bytes, mut taken, mut pieces) = (Vec::new(), 0, 0);
        loop {
            let (piece, sealed) = self.sealer.seal(&mut self.session, slices, taken).unwrap();
            if piece == 0 {
                return (bytes, pieces);
            }
            let unsent = self.session.unsent().to_vec();
            self.session.advance(unsent.len());
            bytes.extend_from_slice(&unsent);
            bytes.extend_from_slice(sealed);
            taken += piece;
            pieces += 1;
        }
    }

    /// What the client reads of so many bytes.
    fn read(&mut self, count: usize) -> Vec<u8> {
        self.read.drain(..count).collect()
    }
}

/// Headers of the records in these bytes: type and length.
fn records(mut bytes: &[u8]) -> Vec<(u8, usize)> {
    let mut records = Vec::new();
    while let [kind, _, _, high, low, rest @ ..] = bytes {
        let length = usize::from(*high) << 8 | usize::from(*low);
        records.push((*kind, length));
        bytes = &rest[length..];
    }
    records
}

#[test]
fn data_goes_both_ways() {
    let mut pair = Pair::new();
    pair.client.writer().write_all(b"hello").unwrap();
    pair.exchange().unwrap();
    assert_eq!(pair.heard, b"hello");
    let (bytes, _) = pair.seal(&[IoSlice::new(b"one"), IoSlice::new(b""), IoSlice::new(b" record")]);
    // Application data: the content, its type, the tag.
    assert_eq!(records(&bytes), [(23, 10 + 1 + 16)], "one record for one flush");
    pair.client_receives(&bytes).unwrap();
    assert_eq!(pair.read(10), b"one record");
}

#[test]
fn a_silent_client_holds_no_buffer() {
    let mut pair = Pair::new();
    pair.client.writer().write_all(&[7; 40_000]).unwrap();
    pair.exchange().unwrap();
    let (bytes, _) = pair.seal(&[IoSlice::new(&[1; 100_000])]);
    pair.session.keep(&bytes);
    pair.answer();
    assert_eq!((pair.session.partial.capacity(), pair.session.unsent.capacity()), (0, 0));
}

#[test]
fn slices_are_cut_into_pieces_of_whole_records() {
    let check = |lengths: &[usize], expected: &[usize]| {
        let mut pair = Pair::new();
        let content: Vec<Vec<u8>> = lengths.iter().enumerate().map(|(i, length)| vec![i as u8; *length]).collect();
        let slices: Vec<IoSlice<'_>> = content.iter().map(|bytes| IoSlice::new(bytes)).collect();
        let (bytes, _) = pair.seal(&slices);
        let sizes: Vec<usize> = records(&bytes).iter().map(|(_, length)| length - 17).collect();
        assert_eq!(sizes, expected, "{lengths:?}");
        pair.client_receives(&bytes).unwrap();
        assert_eq!(pair.read(lengths.iter().sum()), content.concat());
    };
    const RECORD: usize = 16_384;
    check(&[], &[]);
    check(&[0, 0], &[]);
    check(&[RECORD], &[RECORD]);
    check(&[RECORD - 1, 1], &[RECORD]);
    check(&[RECORD, 1], &[RECORD, 1]);
    check(&[1, 2 * RECORD], &[RECORD, RECORD, 1]);
    check(&[2 * RECORD, 5], &[RECORD, RECORD, 5]);
    check(&[5 * RECORD + 3], &[RECORD, RECORD, RECORD, RECORD, RECORD, 3]);
    check(&[100; 1000], &[RECORD, RECORD, RECORD, RECORD, RECORD, RECORD, 100_000 - 6 * RECORD]);
}

#[test]
fn bytes_may_come_one_by_one() {
    let identity = Identity::new();
    let mut pair = Pair::with(identity.client(), Files::new(&identity).open().current());
    pair.client.writer().write_all(b"early").unwrap();
    while pair.client.is_handshaking() || pair.client.wants_write() {
        for byte in pair.client_sends() {
            pair.receive(&mut [byte]).unwrap();
        }
        let answer = pair.answer();
        pair.client_receives(&answer).unwrap();
    }
    assert_eq!(pair.heard, b"early");
    assert_eq!(pair.session.partial.capacity(), 0);
}

#[test]
fn what_comes_with_the_end_of_the_handshake_is_heard() {
    let identity = Identity::new();
    let mut pair = Pair::with(identity.client(), Files::new(&identity).open().current());
    let mut hello = pair.client_sends();
    pair.receive(&mut hello).unwrap();
    let answer = pair.answer();
    pair.client_receives(&answer).unwrap();
    pair.client.writer().write_all(b"GET /stream").unwrap();
    let mut finished = pair.client_sends();
    pair.receive(&mut finished).unwrap();
    assert_eq!(pair.heard, b"GET /stream");
    // The ticket waits, so that it goes out with the answer.
    assert_eq!(records(pair.session.unsent()).len(), TICKETS);
}

const TICKETS: usize = 1;

#[test]
fn a_client_may_update_its_keys_and_ask_for_ours() {
    let mut pair = Pair::new();
    for round in 0..5u8 {
        pair.client.refresh_traffic_keys().unwrap();
        pair.client.writer().write_all(&[round]).unwrap();
        pair.exchange().unwrap();
        let (bytes, _) = pair.seal(&[IoSlice::new(&[round; 3])]);
        assert_eq!(records(&bytes).len(), 2, "our key update, and the data");
        pair.client_receives(&bytes).unwrap();
        assert_eq!(pair.read(3), [round; 3]);
    }
    assert_eq!(pair.heard, [0, 1, 2, 3, 4]);
}

/// A client's record that rustls would not write: content of this type, encrypted with what the client would use next.
fn forge(secrets: &(u64, ConnectionTrafficSecrets), nth: u64, kind: u8, content: &[u8]) -> Vec<u8> {
    let (sequence, ConnectionTrafficSecrets::Aes256Gcm { key, iv }) = secrets else { panic!("not AES-256-GCM") };
    let mut nonce: [u8; 12] = iv.as_ref().try_into().unwrap();
    for (byte, sequence) in nonce[4..].iter_mut().zip((sequence + nth).to_be_bytes()) {
        *byte ^= sequence;
    }
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key.as_ref()).unwrap());
    let mut record = [content, &[kind]].concat();
    let length = (record.len() + 16) as u16;
    let header = [&[23, 3, 3][..], &length.to_be_bytes()].concat();
    let nonce = Nonce::assume_unique_for_key(nonce);
    key.seal_in_place_append_tag(nonce, Aad::from(&header), &mut record).unwrap();
    [header, record].concat()
}

/// rustls keeps offsets into what it was given of a handshake message in pieces; writing in between must not harm.
#[test]
fn a_handshake_message_may_come_in_pieces_between_our_writes() {
    let mut pair = Pair::new();
    let other = Identity::new().client();
    let secrets = std::mem::replace(&mut pair.client, other).dangerous_extract_secrets().unwrap().tx;
    // A key update (24) of one byte, which asks for none of ours.
    pair.receive(&mut forge(&secrets, 0, 22, &[24, 0, 0])).unwrap();
    assert!(pair.session.partial_bytes() > 0);
    for _ in 0..3 {
        assert_eq!(pair.seal(&[IoSlice::new(b"data")]).1, 1);
    }
    let mut rest = forge(&secrets, 1, 22, &[1, 0]);
    let (first, last) = rest.split_at_mut(9);
    pair.receive(first).unwrap();
    assert_eq!(pair.seal(&[IoSlice::new(b"data")]).1, 1);
    pair.receive(last).unwrap();
    assert_eq!(pair.session.partial.capacity(), 0);
    assert_eq!(pair.seal(&[IoSlice::new(b"data")]).1, 1);

    // Data in the middle of a handshake message is against RFC 8446, 5.1.
    let mut pair = Pair::new();
    let other = Identity::new().client();
    let secrets = std::mem::replace(&mut pair.client, other).dangerous_extract_secrets().unwrap().tx;
    pair.receive(&mut forge(&secrets, 0, 22, &[24, 0, 0])).unwrap();
    assert!(pair.receive(&mut forge(&secrets, 1, 23, b"data")).is_err());
    assert!(pair.sealer.seal(&mut pair.session, &[IoSlice::new(b"more")], 0).is_err());
    assert!(pair.receive(&mut forge(&secrets, 2, 23, b"data")).is_err());
    pair.session.close();
}

#[test]
fn each_side_may_end() {
    let mut pair = Pair::new();
    pair.client.writer().write_all(b"bye").unwrap();
    pair.client.send_close_notify();
    pair.exchange().unwrap();
    assert_eq!((pair.heard.as_slice(), pair.session.is_closed()), (&b"bye"[..], true));
    // It ended its side, not ours.
    let (bytes, _) = pair.seal(&[IoSlice::new(b"good bye")]);
    pair.session.keep(&bytes);
    pair.session.close();
    pair.session.close();
    let answer = pair.answer();
    assert_eq!(records(&answer).len(), 2);
    pair.client_receives(&answer).unwrap();
    assert_eq!(pair.read(8), b"good bye");
    assert_eq!(pair.client.reader().read(&mut [0]).unwrap(), 0, "the end is no truncation");
    let refused = pair.sealer.seal(&mut pair.session, &[IoSlice::new(b"more")], 0);
    assert!(matches!(refused, Err(TlsError::Closed)), "{refused:?}");
}

#[test]
fn plain_http_is_told_so() {
    let identity = Identity::new();
    for request in ["GET /stream HTTP/1.1\r\n\r\n", "P", "CONNECT x:1 HTTP/1.1\r\n"] {
        let mut pair = Pair::with(identity.client(), Files::new(&identity).open().current());
        let refused = pair.receive(&mut request.as_bytes().to_vec());
        assert!(matches!(refused, Err(TlsError::PlainHttp)), "{request}: {refused:?}");
        let answer = String::from_utf8(pair.answer()).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{head}");
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["error"], "TLS_REQUIRED");
    }
}

#[test]
fn tls_1_2_is_refused_with_an_alert() {
    let identity = Identity::new();
    let client = connection(&identity.client_config(&[&rustls::version::TLS12]));
    let mut pair = Pair::with(client, Files::new(&identity).open().current());
    let mut hello = pair.client_sends();
    let refused = pair.receive(&mut hello).unwrap_err();
    assert_eq!(refused.counter(), Counter::HandshakeTlsVersion, "{refused}");
    let answer = pair.answer();
    let told = pair.client_receives(&answer).unwrap_err();
    assert_eq!(told, rustls::Error::AlertReceived(AlertDescription::ProtocolVersion));
}

#[test]
fn a_client_that_does_not_trust_us_is_counted_as_that() {
    let (ours, other) = (Identity::new(), Identity::new());
    let mut pair = Pair::with(other.client(), Files::new(&ours).open().current());
    let mut hello = pair.client_sends();
    pair.receive(&mut hello).unwrap();
    let answer = pair.answer();
    assert!(pair.client_receives(&answer).is_err());
    let mut alert = pair.client_sends();
    let refused = pair.receive(&mut alert).unwrap_err();
    assert_eq!(refused.counter(), Counter::HandshakeTlsAlert, "{refused}");
}

#[test]
fn what_is_no_tls_is_refused_with_an_alert() {
    let identity = Identity::new();
    let check = |bytes: &[u8]| {
        let mut pair = Pair::with(identity.client(), Files::new(&identity).open().current());
        let refused = pair.receive(&mut bytes.to_vec()).unwrap_err();
        assert_eq!(refused.counter(), Counter::HandshakeTlsMalformed, "{refused}");
        assert_eq!(records(&pair.answer()), [(21, 2)], "an alert");
    };
    check(b"\x00\x00\x00\x00\x00");
    check(b"\x16\x03\x01\x00\x00");
    check(b"\x16\x03\x01\xff\xff");
    check(b"\x16\x03\x01\x00\x05\x02\x00\x00\x01\x00");
    check(b"\x17\x03\x03\x00\x01\x00");
}

#[test]
fn a_handshake_message_without_end_is_refused() {
    let identity = Identity::new();
    let mut pair = Pair::with(identity.client(), Files::new(&identity).open().current());
    // A hello that announces nearly 64 KiB, which rustls would take, in records of 16 KiB.
    let mut first = vec![0x16, 3, 1, 0x40, 0, 1, 0, 0xff, 0xf0];
    first.resize(5 + 0x4000, 0);
    let mut next = vec![0x16, 3, 1, 0x40, 0];
    next.resize(5 + 0x4000, 0);
    pair.receive(&mut first).unwrap();
    let mut refused = Ok(());
    for _ in 0..2 {
        refused = refused.and_then(|()| pair.receive(&mut next.clone()));
    }
    assert!(matches!(refused, Err(TlsError::TooLarge)), "{refused:?}");
}

#[test]
fn a_forged_record_ends_the_connection() {
    let mut pair = Pair::new();
    pair.client.writer().write_all(b"true").unwrap();
    let mut bytes = pair.client_sends();
    *bytes.last_mut().unwrap() ^= 1;
    let refused = pair.receive(&mut bytes).unwrap_err();
    assert!(matches!(refused, TlsError::Tls(rustls::Error::DecryptError)), "{refused}");
    assert_eq!(pair.heard, b"");
    let alert = pair.answer();
    let told = pair.client_receives(&alert).unwrap_err();
    assert_eq!(told, rustls::Error::AlertReceived(AlertDescription::BadRecordMac));
    // Whoever goes on all the same gets an error each time, and no panic.
    assert!(pair.receive(&mut [1, 2, 3]).is_err());
    assert!(pair.sealer.seal(&mut pair.session, &[IoSlice::new(b"more")], 0).is_err());
    pair.session.close();
}

#[test]
fn a_returning_client_resumes_until_the_certificate_is_another() {
    let identity = Identity::new();
    let files = Files::new(&identity);
    let certificates = files.open();
    let config = identity.client_config(rustls::ALL_VERSIONS);
    let connect = || {
        let mut pair = Pair::with(connection(&config), certificates.current());
        pair.exchange().unwrap();
        (pair.client.handshake_kind(), pair.session.is_resumed())
    };
    use rustls::HandshakeKind::{Full, Resumed};
    assert_eq!(connect(), (Some(Full), false));
    assert_eq!(connect(), (Some(Resumed), true));
    assert_eq!(connect(), (Some(Resumed), true), "a resumption brings a new ticket");
    let metrics = crate::metrics::Metrics::new().register("certificates");
    certificates.reload(&metrics);
    assert_eq!(connect(), (Some(Full), false));
}

proptest! {
    /// However the network cuts the client's bytes, the same is heard.
    #[test]
    fn cuts_do_not_matter(
        messages in proptest::collection::vec(1usize..30_000, 1..6),
        cuts in proptest::collection::vec(1usize..20_000, 1..20),
    ) {
        let mut pair = Pair::new();
        let mut sent = Vec::new();
        let mut bytes = Vec::new();
        for (i, length) in messages.iter().enumerate() {
            let message = vec![i as u8; *length];
            pair.client.writer().write_all(&message).unwrap();
            sent.extend_from_slice(&message);
            bytes.extend(pair.client_sends());
        }
        let mut rest = bytes.as_mut_slice();
        for cut in cuts.iter().cycle() {
            let at = (*cut).min(rest.len());
            let (piece, after) = std::mem::take(&mut rest).split_at_mut(at);
            pair.receive(piece).unwrap();
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(&pair.heard, &sent);
        prop_assert_eq!(pair.session.partial.capacity(), 0);
    }

    /// Whatever comes instead of what the client sent, in the handshake or after it: an error at most, and whoever
    /// goes on after an error gets another.
    #[test]
    fn no_bytes_panic(
        noise in proptest::collection::vec(any::<u8>(), 0..600),
        at in 0usize..600,
        cut in 1usize..300,
        done: bool,
    ) {
        let mut pair = if done {
            Pair::new()
        } else {
            let identity = Identity::new();
            Pair::with(identity.client(), Files::new(&identity).open().current())
        };
        if done {
            pair.client.writer().write_all(&[5; 200]).unwrap();
        }
        let mut bytes = pair.client_sends();
        for (byte, noise) in bytes.iter_mut().skip(at).zip(&noise) {
            *byte ^= noise;
        }
        bytes.extend_from_slice(&noise);
        for piece in bytes.chunks_mut(cut) {
            let _ = pair.receive(piece);
            let _ = pair.sealer.seal(&mut pair.session, &[IoSlice::new(b"data")], 0).map(|_| ());
        }
        pair.session.close();
    }
}
