//! Damaged datagrams of ITCH: whatever happens to the bytes, nothing panics, a datagram is taken as a whole or refused,
//! and what a message is said to hold stands in it.

mod damage;

use damage::damaged;
use feed_handlers::decode::event::Event;
use feed_handlers::decode::framed::Framed;
use feed_handlers::decode::itch::{Body, decode_message, event};
use feed_handlers::decode::mold::{self, HEADER_BYTES};
use feed_handlers::decode::soup::{ClientPacket, ServerPacket, packet_end};
use proptest::prelude::*;

/// As Nasdaq sent them: an order, its like with a name, an execution, a hidden trade, a deletion, a market event.
const MESSAGES: [&[u8]; 6] = [
    b"A\x15\x98\0\0\x1f\x1a\xce\xd8S\x06\0\0\0\0\x01f\xb5>B\0\0\0\x64IVOO    \0\rU\xac",
    b"F\x06\xca\0\0\x1f\x1a\xce\xd9\x996\0\0\0\0\x01 \xbeuS\0\0\0dCASY    \0&\xfd@FLTU",
    b"E\t)\0\x02\x1f\x1a\xce\xd8\xf0a\0\0\0\0\x01f\x92\x9a\0\0\0\x19\0\0\0\0\0\x03\xe6;",
    b"P\x11\x93\0\x02\x1f\x1a\xce\xe4b\xa9\0\0\0\0\0\0\0\0B\0\0\0dGOOGL   \0\x13\x99\xf8\0\0\0\0\0\x03\xe6B",
    b"D\r\x19\0\0\x1f\x1a\xce\xd8@\xed\0\0\0\0\x01e\xb5\x1a",
    b"S\0\0\0\0\x1f\x1a\xce\xdb\x02\xf0Q",
];

fn datagrams() -> Vec<Vec<u8>> {
    let datagram = |messages: &[&[u8]]| {
        let mut datagram = mold::request(b"000010059B", 19_009_117, messages.len() as u16).to_vec();
        for message in messages {
            datagram.extend((message.len() as u16).to_be_bytes());
            datagram.extend_from_slice(message);
        }
        datagram
    };
    vec![datagram(&MESSAGES), datagram(&MESSAGES[..1]), datagram(&MESSAGES[3..]), datagram(&[])]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_datagram_is_whole_or_refused(
        datagram in damaged(datagrams(), b"\x00\x01\x0c\x13\x1f\x24\x28\xffABDEFPSUX"),
        midnight: i64,
    ) {
        let Ok(packet) = mold::decode(&datagram) else { return Ok(()) };
        let mut end = HEADER_BYTES;
        let mut expected = u64::from_be_bytes(datagram[10..18].try_into().unwrap());
        for (sequence, bytes) in packet.messages() {
            prop_assert_eq!(sequence, expected);
            prop_assert_eq!(&datagram[end + 2..end + 2 + bytes.len()], bytes);
            (end, expected) = (end + 2 + bytes.len(), expected + 1);
            let Ok(message) = decode_message(bytes, midnight) else { continue };
            if let Body::OrderAdded(order) = message.body {
                let (shares, price) = (order.shares.to_be_bytes(), order.price.0.to_be_bytes());
                prop_assert_eq!((&bytes[20..24], &bytes[32..36]), (&shares[..], &price[..]));
            }
            if let Some(Event::Trade(trade)) = event(&message) {
                let price = u32::from_be_bytes(if bytes[0] == b'P' { &bytes[32..36] } else { &bytes[27..31] }.try_into().unwrap());
                prop_assert_eq!((trade.price.mantissa(), trade.price.scale()), (i64::from(price), 4));
            }
        }
        prop_assert_eq!((end, expected), (datagram.len(), packet.next_sequence()));
    }

    /// A file is gone through to its end, whatever is in it.
    #[test]
    fn a_damaged_file_loses_no_byte(file in damaged(datagrams(), b"\x00\x01\x0c\xffAS")) {
        let mut framed = Framed::new(&file);
        let bytes: usize = framed.by_ref().filter_map(Result::ok).map(|message| message.len() + 2).sum();
        prop_assert_eq!(bytes, framed.offset());
        prop_assert!(bytes <= file.len());
    }

    #[test]
    fn no_bytes_at_all_are_a_panic(bytes: Vec<u8>, midnight: i64) {
        let _ = mold::decode(&bytes).map(|packet| packet.messages().count());
        let _ = decode_message(&bytes, midnight).map(|message| event(&message).is_some());
        let _ = (packet_end(&bytes), ServerPacket::decode(&bytes), ClientPacket::decode(&bytes));
    }
}

/// The strategies must not be so rough that nothing they make is ever read.
#[test]
fn undamaged_datagrams_are_all_read() {
    for datagram in datagrams() {
        let packet = mold::decode(&datagram).unwrap();
        assert!(packet.messages().all(|(_, message)| decode_message(message, 0).is_ok()), "{packet:?}");
    }
}
