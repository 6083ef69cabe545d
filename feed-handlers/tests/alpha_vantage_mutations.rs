//! Damaged answers of Alpha Vantage: whatever happens to the bytes, the decoder does not panic, always says something,
//! and says no number that is not in the answer.

mod damage;

use damage::json::{Outcome, check_grammar, check_is_told, json_frames, undamaged};
use damage::{numbers, outcome, stands_in};
use feed_handlers::decode::alpha_vantage::decode_answer;
use feed_handlers::decode::event::Event;
use proptest::prelude::*;

const ANSWERS: [&str; 6] = [
    r#"{"Global Quote": {"01. symbol": "MSFT", "02. open": "112.6300", "03. high": "113.1700", "04. low": "110.6400", "05. price": "112.1300", "06. volume": "29062853", "07. latest trading day": "2018-10-05", "10. change percent": "-0.5852%"}}"#,
    r#"{"Meta Data": {"2. Symbol": "MSFT", "3. Last Refreshed": "2017-12-18 14:56:00", "6. Time Zone": "US/Eastern"}, "Time Series (1min)": {"2017-12-18 14:56:00": {"1. open": "86.4900", "2. high": "86.5000", "3. low": "86.4750", "4. close": "86.5001", "5. volume": "10494"}, "2017-12-18 14:55:00": {"1. open": "86.4900", "2. high": "86.5000", "3. low": "86.4801", "4. close": "86.5000", "5. volume": "12682"}}}"#,
    r#"{"Meta Data": {"2. From Symbol": "EUR", "3. To Symbol": "USD", "7. Time Zone": "UTC"}, "Time Series FX (5min)": {"2024-01-12 21:55:00": {"1. open": "1.09510", "2. high": "1.0952", "3. low": "1.0950", "4. close": "1.0951"}}}"#,
    r#"{"Realtime Currency Exchange Rate": {"1. From_Currency Code": "EUR", "3. To_Currency Code": "USD", "5. Exchange Rate": "1.19805000", "6. Last Refreshed": "2021-04-17 16:43:37", "7. Time Zone": "UTC", "8. Bid Price": "1.19800000", "9. Ask Price": "1.19810000"}}"#,
    r#"{"Note": "Our standard API call frequency is 5 calls per minute and 500 calls per day."}"#,
    r#"{"Global Quote": {}}"#,
];

fn read(answer: &[u8]) -> Outcome<'_> {
    outcome(answer, |answer, mut on_event| decode_answer(answer, Some(b"EUR/USD"), &mut on_event))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_damage_makes_a_number_up(answer in json_frames(&ANSWERS)) {
        let outcome = read(&answer);
        check_grammar(&answer, &outcome)?;
        check_is_told(&answer, &outcome)?;
        for event in outcome.iter().flatten() {
            // Currencies have no volume, and so the zero of their bars stands nowhere.
            let untold = |number: &protocol::Decimal| matches!(event, Event::Bar(_)) && number.is_zero();
            for number in numbers(event).into_iter().filter(|number| !untold(number)) {
                prop_assert!(stands_in(&answer, number), "{number} in {}", answer.escape_ascii());
            }
        }
    }
}

#[test]
fn undamaged_answers_are_all_read() {
    undamaged(&ANSWERS, read);
}
