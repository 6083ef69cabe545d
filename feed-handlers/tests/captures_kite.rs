//! Every recorded Kite packet says what its recorded JSON says, and what a reading by offsets finds in its bytes.
//!
//! The recordings are not part of the repository: `GATEWAY_CAPTURES` names the directory that holds them.

mod captures;

use std::path::Path;

use feed_handlers::decode::kite::{Packet, Summary, decode, packets};
use protocol::Side;
use serde_json::{Value, json};

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn number(decimal: impl ToString) -> f64 {
    decimal.to_string().parse().unwrap()
}

/// The fields that packets of the modes `quote` and `full` share, under the names of the recorded JSON.
fn summary(summary: Summary<'_>) -> Value {
    json!({
        "instrument_token": summary.token(),
        "last_price": number(summary.last_price()),
        "last_quantity": summary.last_quantity(),
        "average_price": number(summary.average_price()),
        "volume": summary.volume(),
        "buy_quantity": summary.buy_quantity(),
        "sell_quantity": summary.sell_quantity(),
        "ohlc": {
            "open": number(summary.open()),
            "high": number(summary.high()),
            "low": number(summary.low()),
            "close": number(summary.close()),
        },
    })
}

/// The parts of `whole` that `part` has, numbers as floats.
#[track_caller]
fn check_part(part: &Value, whole: &Value) {
    match part {
        Value::Object(members) => members.iter().for_each(|(key, value)| check_part(value, &whole[key])),
        Value::Number(number) => assert_eq!(number.as_f64(), whole.as_f64(), "{part} and {whole}"),
        other => assert_eq!(other, whole),
    }
}

#[test]
fn packets_hold_what_their_json_holds() {
    let Some(directory) = captures::directory("kite") else { return };
    let full = std::fs::read(directory.join("ticker_full.packet.bin")).unwrap();
    let Some(Packet::Full(full)) = Packet::read(&full) else { panic!("{full:?}") };
    let recorded = json(&directory.join("ticker_full.json"));
    check_part(&summary(full.summary()), &recorded);
    let open_interest = [full.open_interest(), full.open_interest_high(), full.open_interest_low()];
    assert_eq!(open_interest.map(|oi| json!(oi)), ["oi", "oi_day_high", "oi_day_low"].map(|key| recorded[key].clone()));
    // Both at 2021-07-05T10:41:27+05:30.
    let time = Some(1_625_461_887_000_000_000);
    assert_eq!((full.last_trade_time(), full.exchange_time()), (time, time));
    for (side, key) in [(Side::Buy, "buy"), (Side::Sell, "sell")] {
        let levels = full.depth().filter(|level| level.side == side);
        let levels: Vec<(f64, u64, u64)> =
            levels.map(|l| (number(l.price), u64::from(l.quantity), u64::from(l.orders))).collect();
        let recorded = recorded["depth"][key].as_array().unwrap().iter();
        let field = |level: &Value, key: &str| level[key].as_u64().unwrap();
        let recorded: Vec<(f64, u64, u64)> = recorded
            .map(|level| (level["price"].as_f64().unwrap(), field(level, "quantity"), field(level, "orders")))
            .collect();
        assert_eq!(levels, recorded);
    }

    let quote = std::fs::read(directory.join("ticker_quote.packet.bin")).unwrap();
    let Some(Packet::Quote(quote)) = Packet::read(&quote) else { panic!("{quote:?}") };
    check_part(&summary(quote), &json(&directory.join("ticker_quote.json")));
}

#[test]
fn frames_say_what_is_published_about_them() {
    #[track_caller]
    fn check(path: &Path, expected: &[&str]) {
        let frame = std::fs::read(path).unwrap();
        let mut lines = Vec::new();
        decode(&frame, &mut |event| lines.push(captures::line(&event))).unwrap();
        assert_eq!(lines, expected, "{}", path.display());
    }
    let Some(directory) = captures::directory("kite") else { return };
    check(&directory.join("heartbeat.frame.bin"), &["heartbeat - at -"]);
    check(&directory.join("js-ltp-mode.frame.bin"), &["ignored ltp"]);
    check(&directory.join("index-nifty50-2017-03.frame.bin"), &["ignored index"]);
    check(
        &directory.join("derived-multi-packet.frame.bin"),
        &[
            "trade #408065 id=- 1573.70 x 7 at 1625461887000000000",
            "quote #408065 seq=- 1573.40x5 1573.70x172 at 1625461887000000000",
            "ignored quote",
            "ignored ltp",
            "ignored index",
        ],
    );

    let frame = std::fs::read(directory.join("js-ltp-mode.frame.bin")).unwrap();
    let Some(Some(Packet::Ltp(ltp))) = packets(&frame).unwrap().next() else { panic!("{frame:?}") };
    assert_eq!((ltp.token(), ltp.last_price().to_string()), (884_737, "392.95".into()));
    let frame = std::fs::read(directory.join("index-nifty50-2017-03.frame.bin")).unwrap();
    let Some(Some(Packet::Index(nifty))) = packets(&frame).unwrap().next() else { panic!("{frame:?}") };
    let values = [nifty.last_price(), nifty.high(), nifty.low(), nifty.open(), nifty.close(), nifty.change_percent()];
    let values = values.map(|value| value.to_string()).join(" ");
    assert_eq!(values, "9126.85 9167.60 9116.30 9166.95 9126.85 -0.36");
}
