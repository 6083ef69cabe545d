//! Damaged Kraken frames: whatever happens to the bytes of a real frame, the decoder does not panic, loses no element, and
//! says no number that is not in the element's field.

mod damage;

use damage::json::{Outcome, check_is_found, is_top, json_frames, undamaged};
use damage::{is, outcome};
use feed_handlers::decode::event::{Event, Symbol, Top};
use feed_handlers::decode::kraken::decode;
use proptest::prelude::*;
use serde_json::Value;

const FRAMES: [&str; 8] = [
    r#"{"channel":"book","type":"snapshot","data":[{"symbol":"ETH/USD","bids":[{"price":1797.24,"qty":0.43393711},{"price":1797.10,"qty":139.10616250}],"asks":[{"price":1797.25,"qty":1.40355852}],"checksum":2606672715}]}"#,
    r#"{"channel":"book","type":"update","data":[{"symbol":"MINA/GBP","bids":[{"price":0.0279,"qty":0.00000000},{"price":0.0020,"qty":5220.00000000}],"asks":[],"checksum":222201382,"timestamp":"2026-08-16T23:37:05.723653Z"}]}"#,
    r#"{"channel":"trade","type":"update","data":[{"symbol":"BTC/USD","side":"buy","price":77120.0,"qty":0.00048389,"ord_type":"limit","trade_id":105702534,"timestamp":"2026-08-22T17:30:53.355059Z"},{"symbol":"BTC/USD","side":"sell","price":77120.1,"qty":3.5,"ord_type":"market","trade_id":105702535,"timestamp":"2026-08-22T17:30:53.355061Z"}]}"#,
    r#"{"channel":"ticker","type":"snapshot","data":[{"symbol":"BTC/USD","bid":62703.4,"bid_qty":0.0318498,"ask":62710.3,"ask_qty":0.00191335,"last":62702.9,"volume":1947.83637005,"timestamp":"2026-07-08T05:24:41.204829Z"}]}"#,
    r#"{"channel":"ohlc","type":"update","data":[{"symbol":"MATIC/USD","open":0.5624,"high":0.5628,"low":0.5622,"close":0.5627,"trades":12,"volume":30927.68066226,"vwap":0.5626,"interval_begin":"2023-10-04T16:25:00.000000000Z","interval":5}]}"#,
    r#"{"method":"subscribe","result":{"channel":"book","depth":25,"snapshot":true,"symbol":"MINA/GBP"},"success":true,"time_in":"2026-08-16T23:37:04.849274Z"}"#,
    r#"{"error":"Subscription depth not supported","method":"subscribe","success":false}"#,
    r#"{"channel":"heartbeat"}"#,
];

fn read(frame: &[u8]) -> Outcome<'_> {
    outcome(frame, |frame, mut on_event| decode(frame, &mut on_event))
}

/// Whether another parser finds in the element what the event says.
fn agrees(element: &Value, event: &Event<'_>) -> bool {
    let symbol = |symbol: Symbol<'_>| element["symbol"].as_str().map(|s| Symbol::Text(s.as_bytes())) == Some(symbol);
    let id = |key: &str| element[key].as_u64().or_else(|| element[key].as_str()?.parse().ok());
    let side = |top: Option<Top>, price: &str, size: &str| is_top(element, top, price, size);
    let level = |level: &Value, price, size| is(&level["price"], price) && is(&level["qty"], size);
    match event {
        Event::Trade(trade) => {
            symbol(trade.symbol)
                && id("trade_id") == trade.id
                && is(&element["price"], trade.price)
                && is(&element["qty"], trade.size)
        }
        Event::Quote(quote) => {
            symbol(quote.symbol) && side(quote.bid, "bid", "bid_qty") && side(quote.ask, "ask", "ask_qty")
        }
        Event::Bar(bar) => {
            let prices = [("open", bar.open), ("high", bar.high), ("low", bar.low), ("close", bar.close)];
            symbol(bar.symbol)
                && prices.iter().all(|(key, price)| is(&element[key], *price))
                && is(&element["volume"], bar.volume)
                && bar.vwap.is_none_or(|vwap| is(&element["vwap"], vwap))
        }
        Event::Level(found) => ["bids", "asks"]
            .iter()
            .filter_map(|key| element[key].as_array())
            .flatten()
            .any(|one| level(one, found.price, found.size)),
        Event::BookBegin(book) => symbol(book.symbol),
        Event::BookEnd(book) => book.checksum.is_none_or(|checksum| id("checksum") == Some(u64::from(checksum))),
        _ => true,
    }
}

fn elements(frame: &Value) -> Vec<&Value> {
    frame["data"].as_array().into_iter().flatten().collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_damage_makes_a_number_up(frame in json_frames(&FRAMES)) {
        check_is_found(&frame, &read(&frame), elements, agrees)?;
    }
}

#[test]
fn undamaged_frames_are_all_read() {
    let events = undamaged(&FRAMES, read);
    assert!(!events.iter().any(|event| matches!(event, Event::Ignored { .. })), "{events:?}");
}
