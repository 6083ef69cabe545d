//! Damaged lines of OANDA: whatever happens to the bytes of a real line, the decoder does not panic, and says no
//! number that is not in the line.

mod damage;

use damage::json::{Outcome, check_is_told, check_json, json_frames, undamaged};
use damage::outcome;
use feed_handlers::decode::oanda::decode;
use proptest::prelude::*;

const LINES: &[&[u8]] = &[
    br#"{"type":"PRICE","time":"2023-09-29T20:58:00.136640494Z","bids":[{"price":"0.86582","liquidity":10000000}],"asks":[{"price":"0.86704","liquidity":10000000}],"closeoutBid":"0.86582","closeoutAsk":"0.86704","status":"non-tradeable","tradeable":false,"instrument":"EUR_GBP"}"#,
    br#"{"type":"PRICE","time":"1506291639.888097022","bids":[{"price":"1.19195","liquidity":10000000.0},{"price":"1.19197","liquidity":500000}],"asks":[{"price":"1.19218","liquidity":10000000},{"price":"1.19216","liquidity":500000}],"status":"tradeable","tradeable":true,"instrument":"EUR_USD"}"#,
    br#"{"type":"HEARTBEAT","time":"2016-10-27T08:38:44.327443673Z"}"#,
    br#"{"prices":[{"status":"tradeable","asks":[{"price":"1.12170","liquidity":10000000}],"bids":[{"price":"1.12157","liquidity":10000000}],"instrument":"EUR_USD","time":"2016-10-05T05:28:16.729643492Z"}]}"#,
    br#"{"errorMessage":"Insufficient authorization to perform request."}"#,
];

fn read(line: &[u8]) -> Outcome<'_> {
    outcome(line, |line, mut on_event| decode(line, &mut on_event))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_damage_makes_a_number_up(line in json_frames(LINES)) {
        let outcome = read(&line);
        if line.trim_ascii().is_empty() {
            prop_assert_eq!(outcome, Ok(vec![]));
        } else {
            check_json(&line, &outcome)?;
            check_is_told(&line, &outcome)?;
        }
    }
}

#[test]
fn undamaged_lines_are_all_read() {
    assert_eq!(undamaged(LINES, read).len(), LINES.len());
}
