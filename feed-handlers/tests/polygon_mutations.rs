//! Damaged Polygon frames: whatever happens to the bytes of a real frame, the decoder does not panic, loses no
//! element, and says no number that is not in the element's field.

mod damage;

use damage::json::{Outcome, check_list, is_top, json_frames, undamaged};
use damage::{is, outcome};
use feed_handlers::decode::event::{Event, Top};
use feed_handlers::decode::polygon::decode;
use proptest::prelude::*;
use serde_json::Value;

const FRAMES: [&str; 5] = [
    r#"[{"ev":"T","sym":"AAPL","i":"143541","x":4,"p":297.845,"s":40,"t":1781622376036,"pt":1781622376029,"q":4938312,"z":3,"ds":"40.0"},{"ev":"Q","sym":"AAPL","i":[604],"bx":15,"ax":12,"bp":297.83,"ap":297.86,"bs":80,"as":81,"t":1781622375952,"q":44424715,"z":3}]"#,
    r#"[{"ev":"A","sym":"FCX","v":4989,"op":75.98,"vw":78.0894,"o":78.1,"c":78.08,"h":78.125,"l":78.07,"z":62,"s":1788877043000,"e":1788877044000,"dv":"4989.0","dav":"4332125.038360"}]"#,
    r#"[{"ev":"XT","pair":"BTC-USD","p":33021.9,"t":1610462007425,"s":0.01616617,"c":[2],"i":14272084,"x":3},{"ev":"XQ","pair":"BTC-USD","bp":33052.79,"bs":0.48,"ap":33073.19,"as":0.601,"t":1610462411115}]"#,
    r#"[{"ev":"C","p":"USD/CNH","x":"44","a":6.83366,"b":6.83363,"t":1536036818784},{"ev":"LULD","h":3.63,"l":2.97,"T":"ATHR"}]"#,
    r#"[{"ev":"status","status":"success","message":"subscribed to: T.AAPL"}]"#,
];

fn read(frame: &[u8]) -> Outcome<'_> {
    outcome(frame, |frame, mut on_event| decode(frame, &mut on_event))
}

/// Whether another parser finds in the element what the event says.
fn agrees(element: &Value, event: &Event<'_>) -> bool {
    let kind = element["ev"].as_str().unwrap_or_default();
    let first = |keys: [&str; 2]| keys.map(|key| &element[key]).into_iter().find(|v| !v.is_null()).unwrap().clone();
    let side = |top: Option<Top>, price: &str, size: &str| is_top(element, top, price, size);
    match event {
        Event::Trade(trade) => is(&element["p"], trade.price) && is(&first(["ds", "s"]), trade.size),
        Event::Quote(quote) if kind == "C" => side(quote.bid, "b", "none") && side(quote.ask, "a", "none"),
        Event::Quote(quote) => side(quote.bid, "bp", "bs") && side(quote.ask, "ap", "as"),
        Event::Bar(bar) => {
            let prices = [("o", bar.open), ("h", bar.high), ("l", bar.low), ("c", bar.close)];
            prices.into_iter().all(|(key, price)| is(&element[key], price))
                && (is(&first(["dv", "v"]), bar.volume))
                && bar.vwap.is_none_or(|vwap| is(&element["vw"], vwap))
        }
        Event::Ignored { kind } => element["ev"].as_str().map(str::as_bytes) == Some(kind),
        Event::Control(_) => kind == "status",
        Event::Invalid { .. } => true,
        other => panic!("{other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_damage_makes_a_number_up_or_loses_an_element(frame in json_frames(&FRAMES)) {
        check_list(&frame, read(&frame), agrees)?;
    }
}

#[test]
fn undamaged_frames_are_all_read() {
    undamaged(&FRAMES, read);
}
