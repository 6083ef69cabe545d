//! Every recorded answer of Alpha Vantage says what another parser finds in it.
//!
//! The recordings are not part of the repository: `GATEWAY_CAPTURES` names the directory that holds them.

mod captures;

use feed_handlers::decode::alpha_vantage::{decode, decode_answer};
use protocol::parse_rfc3339;
use serde_json::Value;

fn lines(frame: &[u8], asked: Option<&str>) -> Vec<String> {
    let mut lines = Vec::new();
    decode_answer(frame, asked.map(str::as_bytes), &mut |event| lines.push(captures::line(&event))).unwrap();
    lines
}

#[test]
fn every_minute_of_the_recorded_series_comes_oldest_first() {
    let Some(directory) = captures::directory("alphavantage") else { return };
    let frame = std::fs::read(directory.join("time_series_intraday.msft-1min-2017-12-18.json")).unwrap();
    let parsed: Value = serde_json::from_slice(&frame).unwrap();
    // The other parser sorts the keys.
    let minutes: Vec<(&String, &Value)> = parsed["Time Series (1min)"].as_object().unwrap().iter().collect();
    assert_eq!(minutes.len(), 100);
    let expected: Vec<String> = minutes
        .iter()
        .enumerate()
        .map(|(index, (label, bar))| {
            let (day, time) = label.split_once(' ').unwrap();
            let shown = parse_rfc3339(format!("{day}T{time}Z").as_bytes()).unwrap();
            // In December, New York is five hours behind.
            let start = shown + 5 * 3_600 * 1_000_000_000;
            let field = |key: &str| bar[key].as_str().unwrap();
            let prices = ["1. open", "2. high", "3. low", "4. close"].map(field).join(" ");
            let (volume, state) = (field("5. volume"), if index == 99 { " in progress" } else { "" });
            format!("bar MSFT 60000000000 at {start} {prices} volume {volume} vwap - trades -{state}")
        })
        .collect();
    assert_eq!(lines(&frame, None), expected);
    assert_eq!(lines(&frame, Some("MSFT")), expected);
    assert!(
        expected[99].contains(" at 1513626960000000000 86.4900 86.5000 86.4750 86.5000 volume 10494 "),
        "{expected:?}"
    );
}

#[test]
fn other_recorded_answers_are_what_they_are() {
    let Some(directory) = captures::directory("alphavantage") else { return };
    let day = std::fs::read(directory.join("global_quote.msft-2018-10-05.json")).unwrap();
    let bar = "bar MSFT 86400000000000 at 1538712000000000000 112.6300 113.1700 110.6400 112.1300 volume 29062853 vwap - trades - in progress";
    assert_eq!(lines(&day, None), [bar]);
    // Without bid and ask.
    let rate = std::fs::read(directory.join("currency_exchange_rate.btc-cny-2017-12-20.json")).unwrap();
    assert_eq!(lines(&rate, Some("BTC/CNY")), ["ignored Realtime Currency Exchange Rate"]);

    let refusals: Vec<String> = captures::lines(&directory.join("soft-errors.jsonl"))
        .iter()
        .flat_map(|frame| lines(frame.as_bytes(), None))
        .map(|line| line[..line.len().min(24)].to_owned())
        .collect();
    let expected = [
        "control throttled: Thank",
        "control throttled: Thank",
        "control error: an empty ",
        "control error: an empty ",
    ];
    assert_eq!(refusals, expected);
}

#[test]
fn a_cut_answer_is_refused() {
    let Some(directory) = captures::directory("alphavantage") else { return };
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let frame = std::fs::read(&path).unwrap();
        let first = frame.split(|byte| *byte == b'\n').next().unwrap();
        let frame = if path.ends_with("soft-errors.jsonl") { first } else { frame.trim_ascii_end() };
        for end in (0..frame.len()).step_by(7) {
            assert!(decode(&frame[..end], &mut |event| panic!("{event:?}")).is_err(), "{} to {end}", path.display());
        }
    }
}
