//! Tests of `encode`.

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::testing::{json_text, read_back};
use crate::{Bollinger, Decimal, Macd, Rsi, RsiSignal, format_rfc3339};

fn decimal(text: &str) -> Decimal {
    Decimal::parse(text.as_bytes()).unwrap()
}

/// 2026-09-30T02:03:14.331644Z
const STAMP: Stamp =
    Stamp { seq: 17, ts_event: 1_790_733_794_331_644_000, ts_recv: 1_790_733_794_340_111_222, flags: TickFlags::NONE };

/// The JSON text must be exactly this, and MessagePack must hold the same keys and values.
#[track_caller]
fn check(encode: impl Fn(Encoding, &mut Vec<u8>), json: &str) {
    let mut frame = Vec::new();
    encode(Encoding::Json, &mut frame);
    assert_eq!(json_text(&frame), json);
    let from_json = read_back(Encoding::Json, &frame);
    frame.clear();
    encode(Encoding::MessagePack, &mut frame);
    same(&from_json, &read_back(Encoding::MessagePack, &frame));
}

/// Keys whose values are floats in MessagePack, whatever their digits.
const FLOATS: [&str; 23] = [
    "p",
    "s",
    "bp",
    "bs",
    "ap",
    "as",
    "o",
    "h",
    "l",
    "c",
    "v",
    "vw",
    "sma_20",
    "sma_50",
    "rsi",
    "macd",
    "macd_signal",
    "macd_hist",
    "bb_upper",
    "bb_middle",
    "bb_lower",
    "atr",
    "adx",
];

/// Equal but for the type of prices, sizes and indicators, which are always floats in MessagePack.
#[track_caller]
fn same(json: &Value, msgpack: &Value) {
    let (json, msgpack) = (json.as_object().unwrap(), msgpack.as_object().unwrap());
    assert!(json.keys().eq(msgpack.keys()), "{json:?} {msgpack:?}");
    for (key, value) in json {
        if FLOATS.contains(&key.as_str()) {
            assert!(msgpack[key].is_f64(), "{key}");
            assert_eq!(value.as_f64(), msgpack[key].as_f64(), "{key}");
        } else {
            assert_eq!(value, &msgpack[key], "{key}");
        }
    }
}

#[test]
fn writes_trades() {
    let trade = Trade {
        id: Some(1_054_879_221),
        price: decimal("83425.96"),
        size: decimal("0.00000009"),
        taker: Some(Side::Buy),
    };
    check(
        |encoding, out| encode_trade(encoding, "BTC/USD", "COINBASE", &trade, STAMP, out),
        r#"[{"T":"t","S":"BTC/USD","i":1054879221,"x":"COINBASE","p":83425.96,"s":0.00000009,"tks":"B","t":"2026-09-30T02:03:14.331644Z","rx":1790733794340111222,"seq":17}]"#,
    );
    let trade = Trade { id: Some(0), price: decimal("14.7550"), size: decimal("985"), taker: Some(Side::Sell) };
    check(
        |encoding, out| encode_trade(encoding, "AAPL", "IEX", &trade, STAMP, out),
        r#"[{"T":"t","S":"AAPL","i":0,"x":"IEX","p":14.7550,"s":985,"tks":"S","t":"2026-09-30T02:03:14.331644Z","rx":1790733794340111222,"seq":17}]"#,
    );
}

#[test]
fn tells_what_is_only_there_sometimes() {
    let trade = Trade { id: None, price: decimal("14.7550"), size: decimal("985"), taker: None };
    let stamp = Stamp { seq: 1, ts_event: 0, ts_recv: 2, flags: TickFlags { outlier: true, mock: true } };
    check(
        |encoding, out| encode_trade(encoding, "A", "X", &trade, stamp, out),
        r#"[{"T":"t","S":"A","x":"X","p":14.7550,"s":985,"outlier":true,"mock":true,"t":"1970-01-01T00:00:00Z","rx":2,"seq":1}]"#,
    );
    let quote = Quote { bid: decimal("1"), bid_size: decimal("0"), ask: decimal("2"), ask_size: decimal("3") };
    let stamp = Stamp { flags: TickFlags { outlier: true, mock: false }, ..stamp };
    check(
        |encoding, out| encode_quote(encoding, "A", &quote, stamp, out),
        r#"[{"T":"q","S":"A","bp":1,"bs":0,"ap":2,"as":3,"outlier":true,"t":"1970-01-01T00:00:00Z","rx":2,"seq":1}]"#,
    );
}

#[test]
fn writes_quotes() {
    let quote = Quote {
        bid: decimal("83425.95"),
        bid_size: decimal("0.10000000"),
        ask: decimal("83425.96"),
        ask_size: Decimal::ZERO,
    };
    check(
        |encoding, out| encode_quote(encoding, "BTC/USD", &quote, STAMP, out),
        r#"[{"T":"q","S":"BTC/USD","bp":83425.95,"bs":0.10000000,"ap":83425.96,"as":0,"t":"2026-09-30T02:03:14.331644Z","rx":1790733794340111222,"seq":17}]"#,
    );
}

#[test]
fn writes_bars() {
    let bar = Bar {
        start_ns: 1_790_733_780_000_000_000,
        open: decimal("1.10"),
        high: decimal("1.30"),
        low: decimal("1.05"),
        close: decimal("1.20"),
        volume: decimal("300.5"),
        trades: 400,
        vwap: decimal("1.171234"),
    };
    for (kind, head) in [
        (ChannelKind::Bars, r#""T":"b","S":"XRP/USD""#),
        (ChannelKind::UpdatedBars, r#""T":"u","S":"XRP/USD""#),
        (ChannelKind::DailyBars, r#""T":"d","S":"XRP/USD""#),
        (ChannelKind::Bars5s, r#""T":"b","S":"XRP/USD","iv":"5s""#),
        (ChannelKind::Bars1d, r#""T":"b","S":"XRP/USD","iv":"1d""#),
    ] {
        check(
            |encoding, out| encode_bar(encoding, "XRP/USD", kind, &bar, 70_000, STAMP.ts_recv, out),
            &format!(
                r#"[{{{head},"o":1.10,"h":1.30,"l":1.05,"c":1.20,"v":300.5,"n":400,"vw":1.171234,"t":"2026-09-30T02:03:00Z","rx":1790733794340111222,"seq":70000}}]"#
            ),
        );
    }
    // What the venue that made the bar does not tell is zero: clients made for Alpaca's stream cannot do without the fields.
    let bar = Bar { trades: 0, vwap: Decimal::ZERO, ..bar };
    check(
        |encoding, out| encode_bar(encoding, "A", ChannelKind::DailyBars, &bar, 1, STAMP.ts_recv, out),
        r#"[{"T":"d","S":"A","o":1.10,"h":1.30,"l":1.05,"c":1.20,"v":300.5,"n":0,"vw":0,"t":"2026-09-30T02:03:00Z","rx":1790733794340111222,"seq":1}]"#,
    );
}

#[test]
fn writes_indicators() {
    let start_ns = 1_790_733_780_000_000_000;
    let few = Indicators { start_ns, ..Indicators::default() };
    let all = Indicators {
        start_ns,
        bollinger: Some(Bollinger { upper: 12.0, middle: 10.5, lower: 9.0 }),
        sma_50: Some(0.1),
        macd: Some(Macd { macd: -0.5, signal: 0.25 }),
        rsi: Some(Rsi { value: 70.5, signal: RsiSignal::Overbought }),
        atr: Some(1e-9),
        adx: Some(1e20),
    };
    for (indicators, values) in [
        (few, ""),
        (
            all,
            r#","sma_20":10.5,"sma_50":0.1,"rsi":70.5,"macd":-0.5,"macd_signal":0.25,"macd_hist":-0.75,"bb_upper":12,"bb_middle":10.5,"bb_lower":9,"atr":0.000000001,"adx":100000000000000000000,"rsi_signal":"overbought""#,
        ),
    ] {
        check(
            |encoding, out| {
                encode_indicators(encoding, "AAPL", Interval::Hours4, &indicators, 9, STAMP.ts_recv, out);
            },
            &format!(
                r#"[{{"T":"indicators","S":"AAPL","iv":"4h"{values},"t":"2026-09-30T02:03:00Z","rx":1790733794340111222,"seq":9}}]"#
            ),
        );
    }
}

#[test]
fn writes_venue_gaps() {
    check(
        |encoding, out| encode_venue_gap(encoding, "BTC/USD", ChannelKind::Trades, 12, STAMP, out),
        r#"[{"T":"gap","channel":"trades","S":"BTC/USD","reason":"venue","missed":12,"t":"2026-09-30T02:03:14.331644Z","rx":1790733794340111222,"seq":17}]"#,
    );
}

#[test]
fn no_name_breaks_out_of_its_message() {
    let quote = Quote { bid: Decimal::ZERO, bid_size: Decimal::ZERO, ask: Decimal::ZERO, ask_size: Decimal::ZERO };
    for symbol in ["\"}]", "a\\", "\u{0}\u{1f}\n", "é€", &"Ä".repeat(200), &"x".repeat(70_000)] {
        for encoding in Encoding::ALL {
            let mut frame = Vec::new();
            encode_quote(encoding, symbol, &quote, STAMP, &mut frame);
            assert_eq!(read_back(encoding, &frame)["S"], symbol, "{encoding:?}");
        }
    }
}

#[test]
fn encodings_are_read_back_by_name() {
    for encoding in Encoding::ALL {
        assert_eq!(Encoding::from_name(encoding.name()), Some(encoding));
    }
    assert_eq!(Encoding::from_name("sbe"), None);
}

proptest! {
    #[test]
    fn any_trade_keeps_its_digits(
        id: u64,
        price in (any::<i64>(), 0u8..=18),
        size in (-(1i64 << 53)..=1 << 53, 0u8..=18),
        ts_event: i64,
        ts_recv: i64,
        seq: u64,
    ) {
        let (price, size) = (Decimal::new(price.0, price.1).unwrap(), Decimal::new(size.0, size.1).unwrap());
        let trade = Trade { id: Some(id), price, size, taker: Some(Side::Buy) };
        let stamp = Stamp { seq, ts_event, ts_recv, flags: TickFlags::NONE };
        let mut time = Vec::new();
        format_rfc3339(ts_event, &mut time);
        let time = String::from_utf8(time).unwrap();

        let mut frame = Vec::new();
        encode_trade(Encoding::Json, "BTC/USD", "X", &trade, stamp, &mut frame);
        let text = json_text(&frame);
        let digits = format!(r#""p":{price},"s":{size},"#);
        prop_assert!(text.contains(&digits), "{} in {}", digits, text);
        let json = read_back(Encoding::Json, &frame);

        frame.clear();
        encode_trade(Encoding::MessagePack, "BTC/USD", "X", &trade, stamp, &mut frame);
        let msgpack = read_back(Encoding::MessagePack, &frame);
        prop_assert_eq!(msgpack["p"].as_f64(), Some(price.to_f64()));
        // Up to 2^53 the mantissa is exact, and the float is the one nearest to the digits.
        prop_assert_eq!(msgpack["s"].as_f64(), size.to_string().parse().ok());
        for message in [json, msgpack] {
            prop_assert_eq!(&message["i"], id);
            prop_assert_eq!(&message["seq"], seq);
            prop_assert_eq!(&message["rx"], ts_recv);
            prop_assert_eq!(&message["t"], &time);
        }
    }
}
