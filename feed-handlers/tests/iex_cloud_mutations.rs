//! Damaged events of IEX Cloud: whatever happens to the bytes, the decoder does not panic, loses no object, and says no
//! number that is not in the frame.

mod damage;

use damage::json::{Outcome, check_json, json_frames, undamaged};
use damage::outcome;
use feed_handlers::decode::event::Event;
use feed_handlers::decode::iex_cloud::decode;
use proptest::prelude::*;

const FRAMES: [&str; 6] = [
    r#"[{"symbol":"AAPL","bidPrice":185.5900,"bidSize":100,"askPrice":185.6400,"askSize":100,"lastUpdated":1529689042490,"lastSalePrice":185.6300,"lastSaleSize":100,"lastSaleTime":1529689042476,"seq":102528},{"symbol":"AAPL","price":185.8350,"size":100,"time":1529689336332,"seq":2926}]"#,
    r#"[{"symbol":"AAPL","messageType":"book","data":{"bids":[{"price":185.76,"size":100,"timestamp":1529689655974}],"asks":[{"price":190.34,"size":100,"timestamp":1529688635926}]},"seq":5458}]"#,
    r#"[{"symbol":"AAPL","messageType":"trades","data":{"price":185.8100,"size":100,"tradeId":517936386,"timestamp":1529689623331},"seq":2964},{"symbol":"AAPL","messageType":"ssr","data":{"isSSR":false,"detail":" "}}]"#,
    r#"[{"symbol":"AAPL","calculationPrice":"tops","latestPrice":170.59,"latestUpdate":1510941879189,"iexRealtimePrice":170.39,"iexRealtimeSize":200,"iexLastUpdated":1510942738831,"delayedPrice":170.59,"iexBidPrice":166.18,"iexBidSize":100,"iexAskPrice":172,"iexAskSize":315}]"#,
    r#"[{"symbol":"BTCUSDT","calculationPrice":"realtime","latestPrice":"6576.4","latestUpdate":1541618875327,"iexLastUpdated":null,"bidPrice":"6576.40","bidSize":"0.60331","askPrice":6578.77,"askSize":0.490818}]"#,
    r#"{"symbol":"BTCUSD","bids":[{"price":"1000","size":"0.5","timestamp":1574688905930}],"asks":[{"price":"10421","size":"0.76747926","timestamp":1572620748579}]}"#,
];

fn read(frame: &[u8]) -> Outcome<'_> {
    outcome(frame, |frame, mut on_event| decode(frame, &mut on_event))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_damage_makes_a_number_up_or_loses_an_object(frame in json_frames(&FRAMES)) {
        let outcome = read(&frame);
        if let (Some(parsed), Ok(events)) = (check_json(&frame, &outcome)?, &outcome) {
            let objects = parsed.as_array().map_or(1, Vec::len);
            let is_level = |event: &&Event<'_>| matches!(event, Event::Level(_) | Event::BookEnd(_));
            let said = events.len() - events.iter().filter(is_level).count();
            prop_assert!(said >= objects, "{events:?} of {}", frame.escape_ascii());
        }
    }
}

#[test]
fn undamaged_frames_are_all_read() {
    undamaged(&FRAMES, read);
}
