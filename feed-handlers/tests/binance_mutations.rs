//! Damaged frames of Binance: whatever happens to the bytes of a real frame, the decoder does not panic, and says no
//! number that is not in the frame.

mod damage;

use damage::json::{Outcome, check_is_told, check_json, json_frames, undamaged};
use damage::outcome;
use feed_handlers::decode::binance::{TimeUnit, decode, decode_depth, decode_in};
use feed_handlers::decode::event::Symbol;
use proptest::prelude::*;

const FRAMES: &[&[u8]] = &[
    br#"{"stream":"btcusdt@trade","data":{"e":"trade","E":1789295134226,"s":"BTCUSDT","t":388510,"p":"76745.19000000","q":"0.00065000","T":1789295134225,"m":false,"M":true}}"#,
    br#"{"e":"aggTrade","E":1616176861895,"s":"BTCUSDT","a":640283266,"p":"58942.01000000","q":"0.00035600","f":716849523,"l":716849523,"T":1616176861893,"m":true,"M":true}"#,
    br#"{"u":499869768,"s":"NKNUSDT","b":"0.35210000","B":"672.00000000","a":"0.35260000","A":"3199.00000000"}"#,
    br#"{"stream":"nknusdt@depth@100ms","data":{"e":"depthUpdate","E":1633998513366,"s":"NKNUSDT","U":499869765,"u":499869767,"b":[["0.35120000","6567.00000000"],["0.35080000","8246.00000000"]],"a":[["0.35340000","0.00000000"]]}}"#,
    br#"{"stream":"ethusdt@depth20","data":{"lastUpdateId":17044571457,"bids":[["1782.00000000","6.48300000"],["1781.95000000","0.03000000"]],"asks":[["1782.01000000","15.46080000"]]}}"#,
    br#"{"stream":"btcusdt@kline_1m","data":{"e":"kline","E":1653818762502,"s":"BTCUSDT","k":{"t":1653818760000,"T":1653818819999,"s":"BTCUSDT","i":"1M","f":1384844002,"L":1384844032,"o":"29038.46000000","c":"29038.47000000","h":"29038.48000000","l":"29038.45000000","v":"0.20926000","n":31,"x":false,"q":"6076.58918320"}}}"#,
    br#"{"stream":"!bookTicker@arr","data":[{"u":7,"s":"NKNUSDT","b":"0.35210000","B":"672.1","a":"0.35260000","A":"3199.2"},{"u":8,"s":"BTCUSDT","b":"1.5","B":"2","a":"1.6","A":"3"}]}"#,
    br#"{"error":{"code":2,"msg":"Invalid request: too many parameters"},"id":7}"#,
    br#"{"result":null,"id":1}"#,
];

fn check(frame: &[u8], outcome: &Outcome<'_>) -> Result<(), TestCaseError> {
    check_json(frame, outcome)?;
    check_is_told(frame, outcome)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_damage_makes_a_number_up(frame in json_frames(FRAMES)) {
        for unit in [TimeUnit::Milliseconds, TimeUnit::Microseconds] {
            check(&frame, &outcome(&frame, |frame, mut on_event| decode_in(unit, frame, &mut on_event)))?;
        }
        let symbol = Symbol::Text(b"ETHUSDT");
        check(&frame, &outcome(&frame, |frame, mut on_event| decode_depth(frame, symbol, &mut on_event)))?;
    }
}

#[test]
fn undamaged_frames_are_all_read() {
    undamaged(FRAMES, |frame| outcome(frame, |frame, mut on_event| decode(frame, &mut on_event)));
}
