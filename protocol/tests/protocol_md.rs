//! PROTOCOL.md is what the code does: its examples are read by the server's parser or are, to the letter, what its
//! encoders write, and its tables hold every code.

use std::collections::BTreeSet;
use std::time::Duration;

use protocol::command::{self, RequestId};
use protocol::frame::server_frame;
use protocol::message::{ErrorMessage, FeedState, Gap, GapReason, Heartbeat, Position, Session};
use protocol::message::{SubscriptionAck, SymbolLists};
use protocol::{
    Bar, Bollinger, ChannelKind, CloseCode, Decimal, Document, Encoding, ErrorCode, Indicators, Interval, Macd, Quote,
    Rsi, RsiSignal, ServerMessage, Side, Stamp, Trade, encode_bar, encode_indicators, encode_quote, encode_trade,
    encode_venue_gap,
};

const DOCUMENT: &str = include_str!("../../PROTOCOL.md");

/// The lines of all `json` blocks.
fn examples() -> Vec<&'static str> {
    let mut lines = Vec::new();
    let mut inside = false;
    for line in DOCUMENT.lines() {
        match line {
            "```json" => inside = true,
            "```" => inside = false,
            _ if inside => lines.push(line),
            _ => {}
        }
    }
    lines
}

fn decimal(text: &str) -> Decimal {
    Decimal::parse(text.as_bytes()).unwrap()
}

fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut frame = Vec::new();
    write(&mut frame);
    String::from_utf8(server_frame(&frame).unwrap().1.to_vec()).unwrap()
}

fn data_messages() -> Vec<String> {
    let json = Encoding::Json;
    let stamp = |seq| Stamp {
        seq,
        ts_event: 1_790_733_794_331_644_000,
        ts_recv: 1_790_733_794_340_111_222,
        flags: protocol::TickFlags::NONE,
    };
    let trade = Trade {
        id: Some(1_054_879_221),
        price: decimal("83425.96"),
        size: decimal("0.00000009"),
        taker: Some(Side::Buy),
    };
    let quote = Quote {
        bid: decimal("83425.95"),
        bid_size: decimal("0.10000000"),
        ask: decimal("83425.96"),
        ask_size: decimal("0.25117384"),
    };
    let finished = Bar {
        start_ns: 1_790_733_780_000_000_000,
        open: decimal("83420.10"),
        high: decimal("83431.00"),
        low: decimal("83418.55"),
        close: decimal("83425.96"),
        volume: decimal("1.20837511"),
        trades: 412,
        vwap: decimal("83424.701934"),
    };
    let in_progress = Bar {
        high: decimal("83426.00"),
        volume: decimal("0.31000201"),
        trades: 97,
        vwap: decimal("83422.915500"),
        ..finished
    };
    let day = Bar {
        start_ns: 1_790_726_400_000_000_000,
        open: decimal("83011.70"),
        low: decimal("82990.01"),
        volume: decimal("912.00418840"),
        trades: 60_112,
        vwap: decimal("83204.118302"),
        ..finished
    };
    // Of a venue that tells neither count nor mean.
    let exchanges_day = Bar {
        start_ns: 1_790_740_800_000_000_000,
        open: decimal("112.6300"),
        high: decimal("113.1700"),
        low: decimal("110.6400"),
        close: decimal("112.1300"),
        volume: decimal("29062853"),
        trades: 0,
        vwap: Decimal::ZERO,
    };
    let seconds = Bar {
        start_ns: 1_790_733_825_000_000_000,
        volume: decimal("0.04110000"),
        trades: 31,
        vwap: decimal("83424.0102"),
        ..finished
    };
    let indicators = Indicators {
        start_ns: finished.start_ns,
        bollinger: Some(Bollinger { upper: 83451.5, middle: 83402.25, lower: 83353.0 }),
        sma_50: Some(83377.125),
        macd: Some(Macd { macd: 12.5, signal: 9.75 }),
        rsi: Some(Rsi { value: 61.75, signal: RsiSignal::Neutral }),
        atr: Some(14.375),
        adx: Some(22.5),
    };
    let fields = serde_json::json!({
        "category": "crypto", "confidence_level": 88.5, "entry_price": "83425.9600",
        "expires_at": "2026-09-30T03:03:14Z", "generated_at": "2026-09-30T02:03:14.331644Z",
        "id": "0b9f1c1e-6f0a-4d5e-9a51-2f4c8f6f0a11", "signal_type": "buy", "source_type": "ai_model",
    });
    let signal = Document::new("signal", "BTC/USD", fields.as_object().unwrap()).unwrap();
    vec![
        text(|out| encode_trade(json, "BTC/USD", "COINBASE", &trade, stamp(17), out)),
        text(|out| encode_quote(json, "BTC/USD", &quote, stamp(205), out)),
        text(|out| encode_bar(json, "BTC/USD", ChannelKind::Bars, &finished, 3, 1_790_733_839_988_123_456, out)),
        text(|out| encode_bar(json, "BTC/USD", ChannelKind::UpdatedBars, &in_progress, 88, stamp(0).ts_recv, out)),
        text(|out| encode_bar(json, "BTC/USD", ChannelKind::DailyBars, &day, 124, stamp(0).ts_recv, out)),
        text(|out| encode_bar(json, "MSFT", ChannelKind::DailyBars, &exchanges_day, 2, stamp(0).ts_recv, out)),
        text(|out| encode_bar(json, "BTC/USD", ChannelKind::Bars5s, &seconds, 36, 1_790_733_839_988_123_456, out)),
        text(|out| encode_indicators(json, "BTC/USD", Interval::Minute, &indicators, 61, stamp(0).ts_recv, out)),
        text(|out| encode_venue_gap(json, "BTC/USD", ChannelKind::Trades, 12, stamp(18), out)),
        text(|out| signal.encode(json, stamp(4), out)),
    ]
}

fn lists<'a>(items: &[(ChannelKind, &'a str)]) -> SymbolLists<'a> {
    let mut lists = SymbolLists::default();
    items.iter().for_each(|(channel, symbol)| lists.push(*channel, symbol));
    lists
}

fn control_messages() -> Vec<String> {
    use ChannelKind::{Bars, Quotes, Trades};
    let id = RequestId::Unsigned;
    let (id_7, id_8, id_9, id_text) = (id(7), id(8), id(9), RequestId::Text("b".into()));
    let error = ErrorMessage::new;
    let position = |channel, symbol, seq| Position { channel, symbol, seq };
    let seq = [position(Trades, "BTC/USD", 17), position(Trades, "ETH/USD", 9), position(Bars, "BTC/USD", 3)];
    let gap = Gap { channel: Trades, symbol: "BTC/USD", from: 1_042, to: Some(1_100), reason: GapReason::Retention };
    let epoch = 1_763_654_400_123;
    let mut signals = SymbolLists::default();
    ["@CRYPTO", "AAPL"].into_iter().for_each(|symbol| signals.push_signals(symbol));
    let messages = [
        ServerMessage::connected(),
        ServerMessage::authenticated(Session {
            epoch,
            user: "demo-free",
            tier: "free",
            delayed_ms: 10_000,
            heartbeat_ms: 15_000,
        }),
        ServerMessage::Subscription(SubscriptionAck {
            id: Some(&id_7),
            channels: lists(&[(Trades, "BTC/USD"), (Quotes, "BTC/USD")]),
            epoch,
            delayed_ms: None,
            unchanged: SymbolLists::default(),
        }),
        ServerMessage::Subscription(SubscriptionAck {
            id: Some(&id_text),
            channels: lists(&[(Trades, "BTC/USD"), (Trades, "ETH/USD"), (Quotes, "*")]),
            epoch,
            delayed_ms: Some(10_000),
            unchanged: lists(&[(Trades, "BTC/USD")]),
        }),
        ServerMessage::Subscription(SubscriptionAck {
            id: Some(&id_9),
            channels: signals,
            epoch,
            delayed_ms: None,
            unchanged: SymbolLists::default(),
        }),
        ServerMessage::Error(ErrorMessage {
            id: Some(&id_7),
            channel: Some("trades"),
            symbols: &["NOPE/USD"],
            ..error(ErrorCode::UnknownSymbol)
        }),
        ServerMessage::Error(ErrorMessage {
            id: Some(&id_7),
            channel: Some("statuses"),
            ..error(ErrorCode::UnknownChannel)
        }),
        ServerMessage::Error(ErrorMessage {
            detail: Some(command::parse(Encoding::Json, b"{}").unwrap_err().detail),
            ..error(ErrorCode::InvalidSyntax)
        }),
        ServerMessage::Error(ErrorMessage {
            id: Some(&id_8),
            retry_after: Some(Duration::from_millis(500)),
            ..error(ErrorCode::TooManyRequests)
        }),
        ServerMessage::Error(ErrorMessage {
            id: Some(&id_9),
            channel: Some("trades"),
            symbols: &["BTC/USD", "ETH/USD"],
            ..error(ErrorCode::InsufficientSubscription)
        }),
        ServerMessage::Heartbeat(Heartbeat { t: 1_790_733_794_331_644_000, seq: &seq }),
        ServerMessage::Gap(gap),
        ServerMessage::Gap(Gap { to: None, reason: GapReason::Epoch, ..gap }),
        ServerMessage::Feed { source: "COINBASE", state: FeedState::Stale },
        ServerMessage::Draining { reconnect_ms: 1_200 },
        ServerMessage::Entitlement {
            tier: "free",
            status: "cancelled",
            delayed_ms: 900_000,
            version: 8,
            reason: Some("the free tier applies while the subscription is cancelled"),
        },
        ServerMessage::Entitlement { tier: "premium", status: "active", delayed_ms: 0, version: 9, reason: None },
    ];
    messages.iter().map(|message| text(|out| message.encode(Encoding::Json, out))).collect()
}

#[test]
fn what_the_server_sends_is_what_its_encoders_write() {
    let documented: BTreeSet<&str> = examples().into_iter().filter(|line| line.starts_with('[')).collect();
    let written = [data_messages(), control_messages()].concat();
    let written: BTreeSet<&str> = written.iter().map(String::as_str).collect();
    let missing: Vec<_> = written.difference(&documented).collect();
    let unknown: Vec<_> = documented.difference(&written).collect();
    assert!(missing.is_empty() && unknown.is_empty(), "not in the document: {missing:#?}\nnot written: {unknown:#?}");
}

#[test]
fn every_kind_of_message_has_an_example() {
    let tags: BTreeSet<String> = examples()
        .into_iter()
        .filter(|line| line.starts_with('['))
        .map(|line| {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            value[0]["T"].as_str().expect("a T").to_owned()
        })
        .collect();
    let expected = [
        "b",
        "d",
        "draining",
        "entitlement",
        "error",
        "feed",
        "gap",
        "heartbeat",
        "indicators",
        "q",
        "signal",
        "subscription",
        "success",
        "t",
        "u",
    ];
    assert_eq!(tags, expected.into_iter().map(str::to_owned).collect());
}

#[test]
fn what_the_client_sends_is_understood() {
    let mut actions = BTreeSet::new();
    for line in examples().into_iter().filter(|line| line.starts_with('{')) {
        let value: serde_json::Value = serde_json::from_str(line).expect(line);
        if value.get("action").is_none() {
            // The body of an HTTP refusal.
            assert!(value["error"].is_string() && value["message"].is_string(), "{line}");
            continue;
        }
        for encoding in Encoding::ALL {
            let bytes = match encoding {
                Encoding::Json => line.as_bytes().to_vec(),
                Encoding::MessagePack => rmp_serde::to_vec(&value).unwrap(),
            };
            let request = command::parse(encoding, &bytes).expect(line);
            assert_eq!(serde_json::json!(request.id), value["id"], "{line}");
            actions.insert(match request.action {
                command::Action::Auth(_) => "auth",
                command::Action::Subscribe(subscription) | command::Action::Unsubscribe(subscription) => {
                    let asked = subscription.items.len() + subscription.signals.len();
                    assert!(asked > 0 && subscription.unknown_channels.is_empty(), "{line}");
                    assert_eq!(subscription.since.is_some(), value.get("since").is_some(), "{line}");
                    assert_eq!(subscription.max_rate, value["max_rate"].as_f64(), "{line}");
                    if value["action"] == "subscribe" { "subscribe" } else { "unsubscribe" }
                }
            });
        }
    }
    assert_eq!(actions, ["auth", "subscribe", "unsubscribe"].into());
}

/// The rows of the table under a heading, as their cells.
fn table(heading: &str) -> Vec<Vec<&'static str>> {
    DOCUMENT
        .lines()
        .skip_while(|line| *line != heading)
        .skip(1)
        .take_while(|line| !line.starts_with("## "))
        .filter(|line| line.starts_with("| ") && line.as_bytes()[2].is_ascii_digit())
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect()
}

#[test]
fn the_tables_hold_every_code() {
    let errors: Vec<(u16, &str)> =
        table("## Error codes").into_iter().map(|row| (row[0].parse().unwrap(), row[1])).collect();
    assert_eq!(errors, ErrorCode::ALL.map(|error| (error.code(), error.message())));

    let closes: Vec<(u16, &str, bool)> =
        table("## Close codes").into_iter().map(|row| (row[0].parse().unwrap(), row[1], row[3] == "yes")).collect();
    assert_eq!(closes, CloseCode::ALL.map(|close| (close.code(), close.reason(), close.reconnect())));
}

#[test]
fn channels_have_the_class_that_is_told() {
    for kind in ChannelKind::ALL {
        let row = DOCUMENT
            .lines()
            .find(|line| {
                let told = line.ends_with("| sequenced |") || line.ends_with("| conflated |");
                told && line.contains(&format!("`{}`", kind.name()))
            })
            .unwrap_or_else(|| panic!("no class told for {}", kind.name()));
        let class = format!("{:?}", kind.class()).to_lowercase();
        assert!(row.contains(&class), "{row}");
    }
}

#[test]
fn bounds_are_those_that_are_told() {
    assert_eq!((command::ITEMS_MAX, command::ID_BYTES_MAX), (10_000, 64));
    assert_eq!((*command::MAX_RATE.start(), *command::MAX_RATE.end()), (0.01, 1000.0));
    for told in
        ["| symbols in one request, positions in `since` included | 10,000 |", "at most 64 bytes", "0.01 to 1000"]
    {
        assert!(DOCUMENT.contains(told), "{told}");
    }
}
