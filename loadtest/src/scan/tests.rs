//! Tests of `scan`: what it understands it understands as the full parser does.

use proptest::prelude::*;
use protocol::frame::server_frame;
use protocol::{Bar, Decimal, Quote, Side, Trade, encode_bar, encode_quote, encode_trade, encode_venue_gap};

use super::*;
use crate::message::{Message, parse};

fn decimals() -> impl Strategy<Value = Decimal> {
    (0i64..1_000_000_000_000, 0usize..9).prop_map(|(mantissa, scale)| {
        let digits = format!("{mantissa:0>10}");
        let (whole, fraction) = digits.split_at(digits.len() - scale);
        let text = if scale == 0 { whole.to_owned() } else { format!("{whole}.{fraction}") };
        let text = text.trim_start_matches('0');
        let text = if text.is_empty() || text.starts_with('.') { format!("0{text}") } else { text.to_owned() };
        Decimal::parse(text.as_bytes()).unwrap()
    })
}

/// Every kind of data message, as the encoders write it.
fn payloads(encoding: Encoding, symbol: &str, numbers: [Decimal; 4], id: u64, stamp: protocol::Stamp) -> Vec<Vec<u8>> {
    let [a, b, c, d] = numbers;
    let trade = Trade {
        id: Some(id),
        price: a,
        size: b,
        taker: Some(if id.is_multiple_of(2) { Side::Buy } else { Side::Sell }),
    };
    let quote = Quote { bid: a, bid_size: b, ask: c, ask_size: d };
    let bar = Bar { start_ns: stamp.ts_event, open: a, high: b, low: c, close: d, volume: a, trades: id, vwap: b };
    let mut frames = vec![Vec::new(); 5];
    encode_trade(encoding, symbol, "COINBASE", &trade, stamp, &mut frames[0]);
    encode_quote(encoding, symbol, &quote, stamp, &mut frames[1]);
    encode_bar(encoding, symbol, ChannelKind::Bars, &bar, stamp.seq, stamp.ts_recv, &mut frames[2]);
    encode_bar(encoding, symbol, ChannelKind::UpdatedBars, &bar, stamp.seq, stamp.ts_recv, &mut frames[3]);
    encode_bar(encoding, symbol, ChannelKind::DailyBars, &bar, stamp.seq, stamp.ts_recv, &mut frames[4]);
    frames.iter().map(|frame| server_frame(frame).unwrap().1.to_vec()).collect()
}

fn full(encoding: Encoding, payload: &[u8], stamp: Stamp) -> Option<(ChannelKind, String, u64, i64)> {
    let mut out = Vec::new();
    parse(encoding, payload, &mut out).ok()?;
    let [Message::Data(data)] = &out[..] else { return None };
    let stamp_ns = if stamp == Stamp::Rx { data.rx_ns } else { data.event_ns };
    Some((data.kind, data.symbol.clone(), data.seq, stamp_ns))
}

fn scanned(encoding: Encoding, payload: &[u8], stamp: Stamp) -> Option<(ChannelKind, String, u64, i64)> {
    let found = scan(encoding, payload, stamp)?;
    Some((found.kind, String::from_utf8_lossy(found.symbol).into_owned(), found.seq, found.stamp_ns))
}

proptest! {
    #[test]
    fn real_messages_are_understood_as_the_full_parser_does(
        symbol in "[A-Z0-9][A-Z0-9/._-]{0,31}",
        numbers in [decimals(), decimals(), decimals(), decimals()],
        id: u64,
        seq in 1u64..1_000_000_000_000,
        ts_event in 0i64..4_000_000_000_000_000_000,
        ts_recv in 0i64..4_000_000_000_000_000_000,
    ) {
        let stamp = protocol::Stamp { seq, ts_event, ts_recv, flags: protocol::TickFlags::NONE };
        for encoding in Encoding::ALL {
            for payload in payloads(encoding, &symbol, numbers, id, stamp) {
                for wanted in [Stamp::Rx, Stamp::Event] {
                    let found = scanned(encoding, &payload, wanted);
                    prop_assert!(found.is_some(), "{}", String::from_utf8_lossy(&payload));
                    prop_assert_eq!(found, full(encoding, &payload, wanted));
                }
            }
        }
    }

    /// One byte changed: whatever is still understood, and is a message at all, reads alike.
    #[test]
    fn a_changed_byte_misleads_nobody(at in 0usize..200, byte: u8, numbers in [decimals(), decimals(), decimals(), decimals()]) {
        let stamp = protocol::Stamp { seq: 17, ts_event: 1_790_733_794_331_644_000, ts_recv: 1_790_733_794_340_111_222, flags: protocol::TickFlags::NONE };
        for encoding in Encoding::ALL {
            for mut payload in payloads(encoding, "BTC/USD", numbers, 5, stamp) {
                let at = at % payload.len();
                payload[at] = byte;
                let (found, expected) = (scanned(encoding, &payload, Stamp::Rx), full(encoding, &payload, Stamp::Rx));
                if let (Some(found), Some(expected)) = (found, expected) {
                    prop_assert_eq!(found, expected);
                }
            }
        }
    }

    #[test]
    fn never_panics(bytes: Vec<u8>) {
        for encoding in Encoding::ALL {
            let _ = scan(encoding, &bytes, Stamp::Event);
        }
    }
}

#[test]
fn what_is_not_one_plain_message_is_left_to_the_full_parser() {
    let one = r#"{"T":"t","S":"A","i":1,"x":"X","p":1,"s":2,"tks":"B","t":"2026-09-30T02:03:14Z","rx":1,"seq":1}"#;
    let check = |payload: &str, understood: bool| {
        assert_eq!(scan(Encoding::Json, payload.as_bytes(), Stamp::Rx).is_some(), understood, "{payload}");
    };
    check(&format!("[{one}]"), true);
    check(&format!("[{one},{one}]"), false);
    check(&format!("[{}]", one.replace(r#""x":"X""#, r#""x":{"n":1}"#)), false);
    check(&format!("[{}]", one.replace(r#""S":"A""#, r#""S":"A\"""#)), false);
    check(&format!("[{}]", one.replace(r#""seq":1"#, r#""seq":0"#)), false);
    check(&format!("[{}]", one.replace(r#""seq":1"#, r#""seq":01"#)), false);
    check(&format!("[{}]", one.replace(r#""seq":1"#, r#""seq":1.0"#)), false);
    check(&format!("[{}]", one.replace(r#""T":"t""#, r#""T":"gap""#)), false);
    check("[]", false);
    let mut gap = Vec::new();
    let stamp = protocol::Stamp { seq: 1, ts_event: 0, ts_recv: 0, flags: protocol::TickFlags::NONE };
    for encoding in Encoding::ALL {
        gap.clear();
        encode_venue_gap(encoding, "A", ChannelKind::Trades, 3, stamp, &mut gap);
        assert_eq!(scan(encoding, server_frame(&gap).unwrap().1, Stamp::Rx), None);
    }
}
