//! Damaged `price_tick` records: whatever happens to the bytes, the decoder does not panic, says who it is from before
//! anything else, and says no number that is not in its field.

mod damage;

use damage::json::{Outcome, check_is_found, is_top, json_frames, undamaged};
use damage::{is, outcome};
use feed_handlers::decode::event::{Event, Symbol, Top};
use feed_handlers::decode::price_tick::decode;
use proptest::prelude::*;
use serde_json::Value;

const RECORDS: [&str; 3] = [
    r#"{"symbol":" aapl ","timestamp":1618677817075,"price":134.1600,"volume":100,"bid":134.15,"ask":134.17,"bid_size":3,"ask_size":"2.5","source_provider":"alpha_vantage","is_mock":true}"#,
    r#"{"symbol":"EUR/USD","timestamp":"2021-04-17T16:43:37.075Z","price":"1.1980","volume":0}"#,
    r#"{"symbol":"BTC-USD","timestamp":"2021-04-17T18:43:37+02:00","price":61000.5,"volume":12,"bid":"61000","ask":"61001","source_provider":"coinbase"}"#,
];

/// Whether another parser finds in the record what the event says.
fn agrees(record: &Value, event: &Event<'_>) -> bool {
    let named = |symbol: Symbol<'_>| match symbol {
        Symbol::Text(name) => record["symbol"].as_str().is_some_and(|text| text.trim_ascii().as_bytes() == name),
        Symbol::Token(_) => false,
    };
    match event {
        Event::Provider { name, is_mock } => {
            record["source_provider"].as_str().unwrap_or_default().as_bytes() == *name
                && record["is_mock"].as_bool().unwrap_or_default() == *is_mock
        }
        Event::Trade(trade) => {
            named(trade.symbol) && is(&record["price"], trade.price) && is(&record["volume"], trade.size)
        }
        Event::Quote(quote) => {
            let side = |top: Option<Top>, price: &str, size: &str| is_top(record, top, price, size);
            named(quote.symbol) && side(quote.bid, "bid", "bid_size") && side(quote.ask, "ask", "ask_size")
        }
        _ => true,
    }
}

fn read(record: &[u8]) -> Outcome<'_> {
    outcome(record, |record, mut on_event| decode(record, &mut on_event))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_damage_makes_a_number_up(record in json_frames(&RECORDS)) {
        let outcome = read(&record);
        check_is_found(&record, &outcome, |record| vec![record], agrees)?;
        if let Ok(events) = outcome {
            let [Event::Provider { .. }, Event::Trade(trade), ..] = events[..] else { panic!("{events:?}") };
            prop_assert!(trade.price.is_positive() && trade.size.mantissa() >= 0, "{trade:?}");
        }
    }
}

#[test]
fn undamaged_records_are_all_read() {
    undamaged(&RECORDS, read);
}
