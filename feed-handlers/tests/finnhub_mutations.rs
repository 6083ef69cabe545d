//! Damaged Finnhub frames: whatever happens to the bytes of a real frame, the decoder does not panic, loses no trade,
//! and says no number that is not in the trade's field.

mod damage;

use damage::{OF_JSON, damaged, is, is_beside_the_grammar, numbers, outcome, stands_in};
use feed_handlers::decode::event::{Event, Symbol};
use feed_handlers::decode::finnhub::decode;
use proptest::prelude::*;
use serde_json::Value;

const FRAMES: [&str; 4] = [
    r#"{"data":[{"c":["1","8","12"],"p":133.22,"s":"AAPL","t":1618417965944,"v":13},{"c":["1","12"],"p":133.215,"s":"AAPL","t":1618417966750,"v":50}],"type":"trade"}"#,
    r#"{"data":[{"c":null,"p":95372.09,"s":"BINANCE:BTCUSDT","t":1768655932976,"v":0.00063},{"c":null,"p":1.08345,"s":"OANDA:EUR_USD","t":1768655933296,"v":0}],"type":"trade"}"#,
    r#"{"type":"ping"}"#,
    r#"{"msg":"Subscribing to too many symbols","type":"error"}"#,
];

fn frames() -> impl Strategy<Value = Vec<u8>> {
    damaged(FRAMES.map(|frame| frame.as_bytes().to_vec()).to_vec(), OF_JSON)
}

/// Whether another parser finds in the element what the event says.
fn agrees(element: &Value, event: &Event<'_>) -> bool {
    match event {
        Event::Trade(trade) => {
            let symbol = element["s"].as_str().unwrap_or_default();
            is(&element["p"], trade.price)
                && is(&element["v"], trade.size)
                && trade.size.mantissa() != 0
                && trade.symbol == Symbol::Text(symbol.as_bytes())
        }
        Event::Ignored { kind } => *kind == b"price_update" && is(&element["v"], protocol::Decimal::ZERO),
        Event::Invalid { .. } => true,
        other => panic!("{other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_damage_makes_a_number_up_or_loses_a_trade(frame in frames()) {
        let outcome = outcome(&frame, |frame, mut on_event| decode(frame, &mut on_event));
        for number in outcome.iter().flatten().flat_map(numbers) {
            prop_assert!(stands_in(&frame, number), "{number} in {}", frame.escape_ascii());
        }
        match serde_json::from_slice::<Value>(&frame) {
            // An escape may hide a key from us.
            Ok(_) if frame.contains(&b'\\') => {}
            Ok(message) if message["type"] == "trade" && message["data"].is_array() => {
                let elements = message["data"].as_array().unwrap();
                let events = outcome.map_err(|error| TestCaseError::fail(error.to_string()))?;
                prop_assert_eq!(events.len(), elements.len().max(1), "{}", frame.escape_ascii());
                for (element, event) in elements.iter().zip(&events) {
                    prop_assert!(agrees(element, event), "{event:?} of {element}");
                }
            }
            Ok(message) => {
                let events = outcome.map_or(0, |events| events.len());
                let is_other = message["type"].as_str().is_some_and(|kind| kind != "trade");
                prop_assert_eq!(events, usize::from(is_other), "{}", message);
            }
            Err(error) => prop_assert!(outcome.is_err() || is_beside_the_grammar(&frame, &error), "{error}"),
        }
    }

    #[test]
    fn no_bytes_at_all_are_a_panic(frame: Vec<u8>) {
        let _ = decode(&frame, &mut |_| {});
    }
}

/// The strategies must not be so rough that nothing they make is ever read.
#[test]
fn undamaged_frames_are_all_read() {
    for frame in FRAMES {
        let events = outcome(frame.as_bytes(), |frame, mut on_event| decode(frame, &mut on_event)).unwrap();
        assert!(!events.iter().any(|event| matches!(event, Event::Invalid { .. })), "{events:?}");
    }
}
