//! Damaged Finnhub frames: whatever happens to the bytes of a real frame, the decoder does not panic, loses no trade,
//! and says no number that is not in the trade's field.

mod damage;

use damage::json::{Outcome, check_elements, check_json, json_frames, may_hide_a_key, undamaged};
use damage::{is, outcome};
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

fn read(frame: &[u8]) -> Outcome<'_> {
    outcome(frame, |frame, mut on_event| decode(frame, &mut on_event))
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
    fn no_damage_makes_a_number_up_or_loses_a_trade(frame in json_frames(&FRAMES)) {
        let outcome = read(&frame);
        let Some(message) = check_json(&frame, &outcome)?.filter(|_| !may_hide_a_key(&frame)) else { return Ok(()) };
        match message["data"].as_array().filter(|_| message["type"] == "trade") {
            Some(elements) => check_elements(&frame, elements, outcome, agrees)?,
            None => {
                let events = outcome.map_or(0, |events| events.len());
                let is_other = message["type"].as_str().is_some_and(|kind| kind != "trade");
                prop_assert_eq!(events, usize::from(is_other), "{}", message);
            }
        }
    }
}

#[test]
fn undamaged_frames_are_all_read() {
    undamaged(&FRAMES, read);
}
