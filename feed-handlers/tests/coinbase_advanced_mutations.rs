//! Damaged Coinbase Advanced frames: whatever happens to the bytes of a real frame, the decoder does not panic, loses no
//! element, and says no number that is not in the element's field.

mod damage;

use damage::json::{Outcome, check_is_found, is_top, json_frames, undamaged};
use damage::{is, outcome};
use feed_handlers::decode::coinbase_advanced::decode;
use feed_handlers::decode::event::{Event, Symbol, Top};
use proptest::prelude::*;
use serde_json::Value;

const FRAMES: [&str; 8] = [
    r#"{"channel":"market_trades","timestamp":"2026-09-30T02:39:59.551901038Z","sequence_num":247,"events":[{"type":"update","trades":[{"product_id":"ETH-USD","trade_id":"846155167","price":"2667.2","size":"0.84275842","time":"2026-09-30T02:39:59.4104Z","side":"SELL"},{"product_id":"BTC-USD","trade_id":"1100253573","price":"83320.66","size":"0.0041608","time":"2026-09-30T02:39:59.416138Z","side":"BUY"}]}]}"#,
    r#"{"channel":"l2_data","timestamp":"2026-09-30T02:39:59.566460558Z","sequence_num":248,"events":[{"type":"update","product_id":"ETH-USD","updates":[{"side":"bid","event_time":"2026-09-30T02:39:59.537106Z","price_level":"2667.24","new_quantity":"0"},{"side":"offer","event_time":"2026-09-30T02:39:59.537106Z","price_level":"2671.72","new_quantity":"12.23396382"}]}]}"#,
    r#"{"channel":"l2_data","client_id":"","timestamp":"2026-09-07T01:57:58.894355Z","sequence_num":0,"events":[{"type":"snapshot","product_id":"BTC-PERP-INTX","updates":[{"side":"offer","event_time":"1970-01-01T00:00:00Z","price_level":"79944.1","new_quantity":"1.2"}]}]}"#,
    r#"{"channel":"heartbeats","timestamp":"2026-09-07T23:37:22.675755362Z","sequence_num":3,"events":[{"current_time":"2026-09-07 23:37:22.674409 +0000 UTC m=+139651.272674714","heartbeat_counter":139651}]}"#,
    r#"{"channel":"ticker","timestamp":"2026-04-07T14:30:05.000000Z","sequence_num":5,"events":[{"type":"update","tickers":[{"type":"ticker","product_id":"BTC-USD","price":"68920.50","best_bid":"68920.40","best_bid_quantity":"0.20","best_ask":"68920.5","best_ask_quantity":"1.10"}]}]}"#,
    r#"{"channel":"candles","timestamp":"2026-04-07T14:30:05.000000Z","sequence_num":3,"events":[{"type":"update","candles":[{"start":"1775521800","high":"68950.00","low":"68850.00","open":"68900.00","close":"68920.50","volume":"42.15000000","product_id":"BTC-USD"}]}]}"#,
    r#"{"channel":"subscriptions","timestamp":"2026-09-07T23:37:22.278662782Z","sequence_num":1,"events":[{"subscriptions":{"level2":["BTC-PERP-INTX","ETH-PERP-INTX"]}}]}"#,
    r#"{"type":"error","message":"failure to subscribe"}"#,
];

fn read(frame: &[u8]) -> Outcome<'_> {
    outcome(frame, |frame, mut on_event| decode(frame, &mut on_event))
}

/// Whether another parser finds in the element what the event says.
fn agrees(element: &Value, event: &Event<'_>) -> bool {
    let symbol =
        |symbol: Symbol<'_>| element["product_id"].as_str().map(|s| Symbol::Text(s.as_bytes())) == Some(symbol);
    let id = |key: &str| element[key].as_u64().or_else(|| element[key].as_str()?.parse().ok());
    let side = |top: Option<Top>, price: &str, size: &str| is_top(element, top, price, size);
    match event {
        Event::Trade(trade) => {
            symbol(trade.symbol)
                && id("trade_id") == trade.id
                && is(&element["price"], trade.price)
                && is(&element["size"], trade.size)
        }
        Event::Quote(quote) => {
            symbol(quote.symbol)
                && side(quote.bid, "best_bid", "best_bid_quantity")
                && side(quote.ask, "best_ask", "best_ask_quantity")
        }
        Event::Bar(bar) => {
            let prices = [("open", bar.open), ("high", bar.high), ("low", bar.low), ("close", bar.close)];
            symbol(bar.symbol)
                && prices.iter().all(|(key, price)| is(&element[key], *price))
                && is(&element["volume"], bar.volume)
                && id("start") == u64::try_from(bar.start / 1_000_000_000).ok()
        }
        Event::Level(level) => is(&element["price_level"], level.price) && is(&element["new_quantity"], level.size),
        Event::BookBegin(book) => symbol(book.symbol),
        _ => true,
    }
}

/// The elements of `events`, and those of the lists in them.
fn elements(frame: &Value) -> Vec<&Value> {
    let parts = frame["events"].as_array().into_iter().flatten();
    parts
        .flat_map(|part| {
            let lists = ["trades", "updates", "tickers", "candles"].into_iter();
            std::iter::once(part).chain(lists.filter_map(|key| part[key].as_array()).flatten())
        })
        .collect()
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
