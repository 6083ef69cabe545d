//! Damaged lines of OANDA: whatever happens to the bytes of a real line, the decoder does not panic, and says no
//! number that is not in the line.

mod damage;

use damage::{OF_JSON, damaged, is_beside_the_grammar, numbers, outcome, stands_in};
use feed_handlers::decode::DecodeError;
use feed_handlers::decode::event::Event;
use feed_handlers::decode::oanda::decode;
use proptest::prelude::*;

const LINES: &[&[u8]] = &[
    br#"{"type":"PRICE","time":"2023-09-29T20:58:00.136640494Z","bids":[{"price":"0.86582","liquidity":10000000}],"asks":[{"price":"0.86704","liquidity":10000000}],"closeoutBid":"0.86582","closeoutAsk":"0.86704","status":"non-tradeable","tradeable":false,"instrument":"EUR_GBP"}"#,
    br#"{"type":"PRICE","time":"1506291639.888097022","bids":[{"price":"1.19195","liquidity":10000000.0},{"price":"1.19197","liquidity":500000}],"asks":[{"price":"1.19218","liquidity":10000000},{"price":"1.19216","liquidity":500000}],"status":"tradeable","tradeable":true,"instrument":"EUR_USD"}"#,
    br#"{"type":"HEARTBEAT","time":"2016-10-27T08:38:44.327443673Z"}"#,
    br#"{"prices":[{"status":"tradeable","asks":[{"price":"1.12170","liquidity":10000000}],"bids":[{"price":"1.12157","liquidity":10000000}],"instrument":"EUR_USD","time":"2016-10-05T05:28:16.729643492Z"}]}"#,
    br#"{"errorMessage":"Insufficient authorization to perform request."}"#,
];

/// What must hold of a reader of JSON: no number that is not in the line, and nothing taken for JSON that another
/// parser refuses.
fn check(line: &[u8], read: &Result<Vec<Event<'_>>, DecodeError>) -> Result<(), TestCaseError> {
    for number in read.iter().flatten().flat_map(numbers) {
        prop_assert!(stands_in(line, number), "{number} in {}", line.escape_ascii());
    }
    if let Err(error) = serde_json::from_slice::<serde_json::Value>(line) {
        let is_grammar = !is_beside_the_grammar(line, &error);
        prop_assert!(read.is_err() || !is_grammar, "{error}: {}", line.escape_ascii());
    }
    // Whatever is read says something.
    prop_assert!(read.as_ref().map_or(true, |events| !events.is_empty()), "{}", line.escape_ascii());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_damage_makes_a_number_up(line in damaged(LINES.iter().map(|line| line.to_vec()).collect(), OF_JSON)) {
        let read = outcome(&line, |line, mut on_event| decode(line, &mut on_event));
        if line.trim_ascii().is_empty() {
            prop_assert_eq!(read, Ok(vec![]));
        } else {
            check(&line, &read)?;
        }
    }

    #[test]
    fn no_bytes_at_all_are_a_panic(line: Vec<u8>) {
        let _ = decode(&line, &mut |_| {});
    }
}

/// The strategies must not be so rough that nothing they make is ever read.
#[test]
fn undamaged_lines_are_all_read() {
    for line in LINES {
        let mut events = 0;
        assert_eq!(decode(line, &mut |_| events += 1), Ok(()), "{}", line.escape_ascii());
        assert_eq!(events, 1, "{}", line.escape_ascii());
    }
}
