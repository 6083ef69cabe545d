//! Damaged frames: whatever happens to the bytes of a real frame, the decoder does not panic, and says no number
//! that is not in the frame.

mod damage;
mod real_frames;

use damage::json::{Outcome, check_is_found, json_frames, undamaged};
use damage::outcome;
use feed_handlers::decode::coinbase::decode;
use feed_handlers::decode::event::{Event, Symbol, Top};
use proptest::prelude::*;
use protocol::Decimal;
use serde_json::Value;

fn read(frame: &[u8]) -> Outcome<'_> {
    outcome(frame, |frame, mut on_event| decode(frame, &mut on_event))
}

/// Whether another parser finds in its fields what the event says.
fn agrees(frame: &Value, event: &Event<'_>) -> bool {
    let text = |key: &str| match &frame[key] {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    let is = |key: &str, number: Option<Decimal>| Decimal::parse(text(key).as_bytes()).ok() == number;
    match event {
        Event::Trade(trade) => {
            Symbol::Text(text("product_id").as_bytes()) == trade.symbol
                && text("trade_id").parse().ok() == trade.id
                && is("price", Some(trade.price))
                && is("size", Some(trade.size))
        }
        Event::Quote(quote) => {
            let side = |price: &str, size: &str, top: Option<Top>| match top {
                Some(top) => is(price, Some(top.price)) && is(size, top.size),
                None => is(price, None),
            };
            Symbol::Text(text("product_id").as_bytes()) == quote.symbol
                && text("sequence").parse().ok() == quote.sequence
                && side("best_bid", "best_bid_size", quote.bid)
                && side("best_ask", "best_ask_size", quote.ask)
        }
        _ => true,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_damage_makes_a_number_up(frame in json_frames(&real_frames::ALL)) {
        check_is_found(&frame, &read(&frame), |frame| vec![frame], agrees)?;
    }
}

#[test]
fn undamaged_frames_are_all_read() {
    undamaged(&real_frames::ALL, read);
}
