//! Tests of `message`: what the protocol's own encoders write is read, and what is wrong is named.

use proptest::prelude::*;
use protocol::command::RequestId;
use protocol::frame::server_frame;
use protocol::message::{ErrorMessage as WrittenError, Gap, GapReason, Heartbeat, Position, Session, SubscriptionAck};
use protocol::message::{ServerMessage, SymbolLists};
use protocol::{
    Bar, Decimal, ErrorCode, Indicators, Side, Stamp, Trade, encode_bar, encode_indicators, encode_trade,
    encode_venue_gap,
};

use super::*;
use crate::scan::{self, scan};

const STAMP: Stamp = Stamp {
    seq: 17,
    ts_event: 1_790_733_794_331_644_000,
    ts_recv: 1_790_733_794_340_111_222,
    flags: protocol::TickFlags::NONE,
};

#[track_caller]
fn check(write: impl Fn(Encoding, &mut Vec<u8>), expected: Message) {
    for encoding in Encoding::ALL {
        let mut frame = Vec::new();
        write(encoding, &mut frame);
        let mut out = Vec::new();
        assert_eq!(parse(encoding, server_frame(&frame).unwrap().1, &mut out), Ok(()));
        assert_eq!(out, std::slice::from_ref(&expected), "{encoding:?}");
    }
}

fn trade() -> Trade {
    let decimal = |text: &str| Decimal::parse(text.as_bytes()).unwrap();
    Trade { id: Some(1_054_879_221), price: decimal("83425.96"), size: decimal("0.00000009"), taker: Some(Side::Buy) }
}

fn data() -> Data {
    Data {
        kind: ChannelKind::Trades,
        symbol: "BTC/USD".to_owned(),
        seq: STAMP.seq,
        rx_ns: STAMP.ts_recv,
        event_ns: STAMP.ts_event,
    }
}

#[test]
fn bars_and_indicators_are_of_the_interval_that_they_name() {
    let price = trade().price;
    let bar = Bar {
        start_ns: STAMP.ts_event,
        open: price,
        high: price,
        low: price,
        close: price,
        volume: price,
        trades: 3,
        vwap: price,
    };
    let indicators = Indicators { start_ns: STAMP.ts_event, sma_50: Some(3.5), ..Indicators::default() };
    let (seq, rx) = (STAMP.seq, STAMP.ts_recv);
    for kind in ChannelKind::ALL {
        let Some(interval) = kind.interval() else { continue };
        let is_indicators = kind == ChannelKind::indicators(interval);
        let write = |encoding, out: &mut Vec<u8>| {
            if is_indicators {
                encode_indicators(encoding, "BTC/USD", interval, &indicators, seq, rx, out);
            } else {
                encode_bar(encoding, "BTC/USD", kind, &bar, seq, rx, out);
            }
        };
        check(write, Message::Data(Data { kind, ..data() }));
        // What is read without the full parser is read alike, or left to it.
        for encoding in Encoding::ALL {
            let mut frame = Vec::new();
            write(encoding, &mut frame);
            let found = scan(encoding, server_frame(&frame).unwrap().1, scan::Stamp::Rx).map(|found| found.kind);
            let is_common = !is_indicators && (kind == ChannelKind::Bars || !kind.name().starts_with("bars."));
            assert_eq!(found, is_common.then_some(kind), "{encoding:?}");
        }
    }
}

#[test]
fn what_a_server_writes_is_read() {
    check(|encoding, out| encode_trade(encoding, "BTC/USD", "COINBASE", &trade(), STAMP, out), Message::Data(data()));
    check(
        |encoding, out| encode_venue_gap(encoding, "BTC/USD", ChannelKind::Trades, 12, STAMP, out),
        Message::VenueGap { data: data(), missed: 12 },
    );
    let gap = |to| Gap { channel: ChannelKind::Trades, symbol: "A", from: 5, to, reason: GapReason::Retention };
    for to in [Some(9), None] {
        let read = Message::Gap { kind: ChannelKind::Trades, symbol: "A".to_owned(), from: 5, to };
        check(|encoding, out| ServerMessage::Gap(gap(to)).encode(encoding, out), read);
    }
    check(|encoding, out| ServerMessage::connected().encode(encoding, out), Message::Connected);
    let session = Session { epoch: 9, user: "u", tier: "free", delayed_ms: 10_000, heartbeat_ms: 15_000 };
    check(
        |encoding, out| ServerMessage::authenticated(session).encode(encoding, out),
        Message::Authenticated { epoch: 9, delayed_ms: 10_000 },
    );
    let mut channels = SymbolLists::default();
    channels.push(ChannelKind::Quotes, "A");
    let id = RequestId::Unsigned(7);
    let ack =
        SubscriptionAck { id: Some(&id), channels, epoch: 9, delayed_ms: None, unchanged: SymbolLists::default() };
    let mut read = Subscription { id: 7, epoch: 9, ..Subscription::default() };
    read.channels[ChannelKind::Quotes as usize].push("A".to_owned());
    check(|encoding, out| ServerMessage::Subscription(ack.clone()).encode(encoding, out), Message::Subscription(read));
    let error = WrittenError { symbols: &["NOPE/USD"], ..WrittenError::new(ErrorCode::UnknownSymbol) };
    check(
        |encoding, out| ServerMessage::Error(error).encode(encoding, out),
        Message::Error(ErrorMessage { code: 420, id: 0, text: "420 unknown symbol, S NOPE/USD".to_owned() }),
    );
    let positions = [Position { channel: ChannelKind::Trades, symbol: "A", seq: 3 }];
    check(
        |encoding, out| ServerMessage::Heartbeat(Heartbeat { t: 1_000, seq: &positions }).encode(encoding, out),
        Message::Heartbeat { last: vec![(ChannelKind::Trades, "A".to_owned(), 3)] },
    );
    check(
        |encoding, out| ServerMessage::Draining { reconnect_ms: 5 }.encode(encoding, out),
        Message::Draining { reconnect_ms: 5 },
    );
}

#[test]
fn what_is_wrong_is_named() {
    let check = |payload: &str, what: &str| {
        let error = parse(Encoding::Json, payload.as_bytes(), &mut Vec::new()).expect_err(payload);
        assert!(error.contains(what), "{payload}: {error}");
    };
    let trade = |old: &str, new: &str| {
        let whole =
            r#"[{"T":"t","S":"A","i":1,"x":"X","p":1.5,"s":2,"tks":"B","t":"2026-09-30T02:03:14Z","rx":1,"seq":1}]"#;
        assert!(parse(Encoding::Json, whole.as_bytes(), &mut Vec::new()).is_ok());
        assert!(whole.contains(old));
        whole.replace(old, new)
    };
    check("[", "no JSON");
    check("[] []", "no JSON");
    check("{}", "no array");
    check("[1]", "no map");
    check("[{}]", "\"T\"");
    check(&trade("1.5", "\"1.5\""), "\"p\" is no number");
    check(&trade("\"s\":2", "\"s\":-2"), "\"s\" is negative");
    check(&trade("\"B\"", "\"X\""), "neither B nor S");
    check(&trade("\"seq\":1", "\"seq\":0"), "\"seq\" is 0");
    check(&trade("\"seq\":1", "\"seq\":-1"), "\"seq\" is no unsigned integer");
    check(&trade("\"seq\":1", "\"seq\":1,\"seq\":1"), "twice");
    check(&trade("\"rx\":1", "\"rx\":1.5"), "\"rx\" is no integer");
    check(&trade("2026-09-30T", "2026-13-30T"), "no time");
    check(&trade("\"i\":1", "\"i\":\"1\""), "\"i\" is no unsigned");
    check(r#"[{"T":"gap","channel":"trades","S":"A","from":5,"to":4,"reason":"retention"}]"#, "ends before");
    check(&format!("{}{}", "[".repeat(40), "]".repeat(40)), "deep");
}

#[test]
fn what_is_unknown_is_passed_over() {
    let mut out = Vec::new();
    let payload = br#"[{"T":"novelty","x":null},{"T":"feed","source":"A","state":"up","new":[{"deep":true}]}]"#;
    assert_eq!(parse(Encoding::Json, payload, &mut out), Ok(()));
    assert_eq!(out, [Message::Other, Message::Other]);
}

proptest! {
    #[test]
    fn never_panics(bytes: Vec<u8>) {
        for encoding in Encoding::ALL {
            let _ = parse(encoding, &bytes, &mut Vec::new());
        }
    }
}
