//! Tests of `message`.

use super::*;
use crate::testing::{json_text, read_back};

/// The JSON text must be exactly this, and MessagePack must hold the same.
#[track_caller]
fn check(message: &ServerMessage<'_>, json: &str) {
    let mut frame = Vec::new();
    message.encode(Encoding::Json, &mut frame);
    assert_eq!(json_text(&frame), json);
    let from_json = read_back(Encoding::Json, &frame);
    frame.clear();
    message.encode(Encoding::MessagePack, &mut frame);
    assert_eq!(read_back(Encoding::MessagePack, &frame), from_json);
}

#[test]
fn writes_successes() {
    check(&ServerMessage::connected(), r#"[{"T":"success","msg":"connected"}]"#);
    check(
        &ServerMessage::authenticated(Session {
            epoch: 1_763_654_400_123,
            user: "demo-free",
            tier: "free",
            delayed_ms: 10_000,
            heartbeat_ms: 15_000,
        }),
        r#"[{"T":"success","msg":"authenticated","epoch":1763654400123,"user":"demo-free","tier":"free","delayed_ms":10000,"heartbeat_ms":15000}]"#,
    );
}

#[test]
fn writes_errors() {
    check(
        &ServerMessage::Error(ErrorMessage::new(ErrorCode::InvalidSyntax)),
        r#"[{"T":"error","code":400,"msg":"invalid syntax"}]"#,
    );
    let id = RequestId::Text("a\"b".into());
    let all = ErrorMessage {
        code: ErrorCode::UnknownSymbol,
        id: Some(&id),
        channel: Some("trades"),
        symbols: &["NOPE/USD"],
        detail: Some("why"),
        retry_after: Some(Duration::from_millis(1_500)),
    };
    check(
        &ServerMessage::Error(all),
        r#"[{"T":"error","code":420,"msg":"unknown symbol","id":"a\"b","channel":"trades","S":"NOPE/USD","detail":"why","retry_after":1.5}]"#,
    );
    let id = RequestId::Negative(-1);
    check(
        &ServerMessage::Error(ErrorMessage {
            id: Some(&id),
            symbols: &["A", "B"],
            ..ErrorMessage::new(ErrorCode::UnknownSymbol)
        }),
        r#"[{"T":"error","code":420,"msg":"unknown symbol","id":-1,"symbols":["A","B"]}]"#,
    );
}

#[test]
fn writes_subscriptions_with_all_channels() {
    let ack = SubscriptionAck {
        id: None,
        channels: SymbolLists::default(),
        epoch: 3,
        delayed_ms: None,
        unchanged: SymbolLists::default(),
    };
    check(
        &ServerMessage::Subscription(ack.clone()),
        r#"[{"T":"subscription","trades":[],"quotes":[],"bars":[],"updatedBars":[],"epoch":3}]"#,
    );
    let id = RequestId::Unsigned(u64::MAX);
    let mut full = SubscriptionAck { id: Some(&id), delayed_ms: Some(900_000), ..ack };
    full.channels.push(ChannelKind::Quotes, "*");
    full.channels.push(ChannelKind::Trades, "BTC/USD");
    full.channels.push(ChannelKind::Trades, "AAPL");
    full.unchanged.push(ChannelKind::Trades, "AAPL");
    check(
        &ServerMessage::Subscription(full),
        r#"[{"T":"subscription","id":18446744073709551615,"trades":["BTC/USD","AAPL"],"quotes":["*"],"bars":[],"updatedBars":[],"epoch":3,"delayed_ms":900000,"unchanged":{"trades":["AAPL"]}}]"#,
    );
}

#[test]
fn writes_heartbeats() {
    let position = |channel, symbol, seq| Position { channel, symbol, seq };
    check(
        &ServerMessage::Heartbeat(Heartbeat { t: 1_790_733_794_331_644_001, seq: &[] }),
        r#"[{"T":"heartbeat","t":"2026-09-30T02:03:14.331644001Z","seq":{}}]"#,
    );
    let seq = [
        position(ChannelKind::Trades, "BTC/USD", 17),
        position(ChannelKind::UpdatedBars, "AAPL", 4),
        position(ChannelKind::Trades, "AAPL", 9),
    ];
    check(
        &ServerMessage::Heartbeat(Heartbeat { t: 1_790_733_794_000_000_000, seq: &seq }),
        r#"[{"T":"heartbeat","t":"2026-09-30T02:03:14Z","seq":{"trades":{"BTC/USD":17,"AAPL":9},"updatedBars":{"AAPL":4}}}]"#,
    );
}

#[test]
fn writes_gaps_notices_and_feed_states() {
    let gap = Gap {
        channel: ChannelKind::Trades,
        symbol: "BTC/USD",
        from: 1_042,
        to: Some(1_100),
        reason: GapReason::Retention,
    };
    check(
        &ServerMessage::Gap(gap),
        r#"[{"T":"gap","channel":"trades","S":"BTC/USD","from":1042,"to":1100,"reason":"retention"}]"#,
    );
    check(
        &ServerMessage::Gap(Gap { to: None, reason: GapReason::Epoch, ..gap }),
        r#"[{"T":"gap","channel":"trades","S":"BTC/USD","from":1042,"reason":"epoch"}]"#,
    );
    check(&ServerMessage::Draining { reconnect_ms: 1_200 }, r#"[{"T":"draining","reconnect_ms":1200}]"#);
    for (state, name) in [(FeedState::Up, "up"), (FeedState::Stale, "stale"), (FeedState::Down, "down")] {
        check(
            &ServerMessage::Feed { source: "coinbase", state },
            &format!(r#"[{{"T":"feed","source":"coinbase","state":"{name}"}}]"#),
        );
    }
}

#[test]
fn a_full_acknowledgement_is_one_frame() {
    let symbols: Vec<String> = (0..10_000).map(|i| format!("S{i}/USD")).collect();
    let mut channels = SymbolLists::default();
    symbols.iter().for_each(|symbol| channels.push(ChannelKind::Trades, symbol));
    let ack = SubscriptionAck { id: None, channels, epoch: 1, delayed_ms: None, unchanged: SymbolLists::default() };
    for encoding in Encoding::ALL {
        let mut frame = Vec::new();
        ServerMessage::Subscription(ack.clone()).encode(encoding, &mut frame);
        assert_eq!(read_back(encoding, &frame)["trades"].as_array().map(Vec::len), Some(10_000));
    }
}

#[test]
fn writes_entitlements() {
    let entitlement = |delayed_ms, reason| ServerMessage::Entitlement {
        tier: "free",
        status: "cancelled",
        delayed_ms,
        version: 8,
        reason,
    };
    check(
        &entitlement(900_000, Some("the subscription is cancelled")),
        r#"[{"T":"entitlement","tier":"free","status":"cancelled","delayed_ms":900000,"version":8,"reason":"the subscription is cancelled"}]"#,
    );
    check(
        &entitlement(0, None),
        r#"[{"T":"entitlement","tier":"free","status":"cancelled","delayed_ms":0,"version":8}]"#,
    );
}
