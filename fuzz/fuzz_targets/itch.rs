//! Any bytes as an ITCH message, as a MoldUDP64 datagram of such, as a file of them, and as a SoupBinTCP packet: no panic,
//! and every byte of what is taken is accounted for.

#![no_main]

use feed_handlers::decode::framed::Framed;
use feed_handlers::decode::itch::{decode_message, event};
use feed_handlers::decode::mold::{self, HEADER_BYTES};
use feed_handlers::decode::soup::{ClientPacket, ServerPacket, packet_end};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    check_message(bytes);
    if let Ok(packet) = mold::decode(bytes) {
        let mut end = HEADER_BYTES;
        for (_, message) in packet.messages() {
            end += 2 + message.len();
            check_message(message);
        }
        assert_eq!(end, bytes.len());
    }
    let mut framed = Framed::new(bytes);
    for message in framed.by_ref().filter_map(Result::ok) {
        check_message(message);
    }
    assert!(framed.offset() <= bytes.len());
    if let Ok(Some(end)) = packet_end(bytes) {
        let packet = &bytes[..end];
        let mut again = Vec::new();
        // Blanks may stand on either side of a name, and are written on one.
        if let Ok(read @ (ServerPacket::Sequenced(_) | ServerPacket::Unsequenced(_))) = ServerPacket::decode(packet) {
            read.encode(&mut again);
            assert_eq!(again, packet);
        }
        let _ = ClientPacket::decode(packet);
    }
});

fn check_message(bytes: &[u8]) {
    for midnight in [0, i64::MAX, i64::MIN] {
        if let Ok(message) = decode_message(bytes, midnight) {
            let _ = event(&message);
        }
    }
}
