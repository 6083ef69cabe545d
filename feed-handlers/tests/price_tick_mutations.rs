//! Damaged `price_tick` records: whatever happens to the bytes, the decoder does not panic, says who it is from before
//! anything else, and says no number that is not in its field.

mod damage;

use damage::{OF_JSON, damaged, is, is_beside_the_grammar, numbers, outcome, stands_in};
use feed_handlers::decode::event::{Event, Symbol};
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
            let side = |top: Option<feed_handlers::decode::event::Top>, price: &str, size: &str| {
                top.is_none_or(|top| is(&record[price], top.price) && top.size.is_none_or(|it| is(&record[size], it)))
            };
            named(quote.symbol) && side(quote.bid, "bid", "bid_size") && side(quote.ask, "ask", "ask_size")
        }
        _ => true,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_damage_makes_a_number_up(
        record in damaged(RECORDS.map(|record| record.as_bytes().to_vec()).to_vec(), OF_JSON),
    ) {
        let read = outcome(&record, |record, mut on_event| decode(record, &mut on_event));
        let parsed = serde_json::from_slice::<Value>(&record);
        if let Err(error) = &parsed {
            prop_assert!(read.is_err() || is_beside_the_grammar(&record, error), "{error}: {}", record.escape_ascii());
        }
        let Ok(events) = read else { return Ok(()) };
        let [Event::Provider { .. }, Event::Trade(trade), ..] = events[..] else { panic!("{events:?}") };
        prop_assert!(trade.price.is_positive() && trade.size.mantissa() >= 0, "{trade:?}");
        for number in events.iter().flat_map(numbers) {
            prop_assert!(stands_in(&record, number), "{number} in {}", record.escape_ascii());
        }
        // An escape may hide a key.
        if let (Ok(parsed), false) = (parsed, record.contains(&b'\\')) {
            for event in &events {
                prop_assert!(agrees(&parsed, event), "{event:?} in {}", record.escape_ascii());
            }
        }
    }
}

/// The strategies must not be so rough that nothing they make is ever read.
#[test]
fn undamaged_records_are_all_read() {
    for record in RECORDS {
        let events = outcome(record.as_bytes(), |record, mut on_event| decode(record, &mut on_event)).unwrap();
        assert!(events.len() >= 2 && !events.iter().any(|event| matches!(event, Event::Invalid { .. })), "{events:?}");
    }
}
