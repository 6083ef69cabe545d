//! Recorded Finnhub frames say what a parser that shares nothing with the decoder reads in them.

mod captures;

use captures::{directory, line, lines};
use feed_handlers::decode::finnhub::decode;
use serde_json::Value;

fn decoded(frame: &str) -> Vec<String> {
    let mut out = Vec::new();
    decode(frame.as_bytes(), &mut |event| out.push(line(&event))).unwrap_or_else(|error| panic!("{error}: {frame}"));
    out
}

/// What the lines of a frame's events must be.
fn expected(frame: &Value) -> Vec<String> {
    match frame["type"].as_str().unwrap() {
        "trade" => frame["data"].as_array().unwrap().iter().map(expected_trade).collect(),
        "ping" => vec!["heartbeat - at -".into()],
        "error" => vec![format!("control error: {}", frame["msg"].as_str().unwrap())],
        kind => vec![format!("ignored {kind}")],
    }
}

fn expected_trade(element: &Value) -> String {
    let symbol = element["s"].as_str().unwrap();
    format!("trade {symbol} id=- {} x {} at {}000000", element["p"], element["v"], element["t"])
}

#[test]
fn every_element_of_every_capture_says_what_stands_in_it() {
    let Some(directory) = directory("finnhub") else { return };
    let (mut trades, mut steps_back, mut repeats) = (0, 0, 0);
    let frames = lines(&directory.join("finnhub-live.jsonl"));
    for frame in &frames {
        let told = decoded(frame);
        let value: Value = serde_json::from_str(frame).unwrap();
        assert_eq!(told, expected(&value), "{frame}");
        let Some(elements) = value["data"].as_array() else { continue };
        trades += told.len();
        steps_back += elements.windows(2).filter(|pair| pair[1]["t"].as_i64() < pair[0]["t"].as_i64()).count();
        repeats += told.windows(2).filter(|pair| pair[1] == pair[0]).count();
    }
    // One of the frames goes back in time, and has three trades in a row that are alike.
    assert_eq!((frames.len(), trades, steps_back, repeats), (8, 26, 1, 2));
}

#[test]
fn crypto_has_no_conditions_and_keeps_its_exchange() {
    let Some(directory) = directory("finnhub") else { return };
    let first = &lines(&directory.join("finnhub-live.jsonl"))[0];
    assert_eq!(decoded(first), ["trade BINANCE:BTCUSDT id=- 7296.89 x 0.011467 at 1575526691134000000"]);
}
