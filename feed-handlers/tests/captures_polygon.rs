//! Recorded and published Polygon frames say what a parser that shares nothing with the decoder reads in them.

mod captures;

use std::collections::BTreeMap;

use captures::{directory, line, lines};
use feed_handlers::decode::polygon::decode;
use serde_json::Value;

fn decoded(frame: &str) -> Vec<String> {
    let mut out = Vec::new();
    decode(frame.as_bytes(), &mut |event| out.push(line(&event))).unwrap_or_else(|error| panic!("{error}: {frame}"));
    out
}

/// A number or the text of one, with its digits; `-` where it is absent.
fn digits(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) => text.clone(),
        number => number.to_string(),
    }
}

/// What the line of an element's event must be.
fn expected(element: &Value) -> String {
    let text = |key: &str| element[key].as_str().unwrap_or("-").to_owned();
    let number = |key: &str| digits(&element[key]);
    let millis = |key: &str| element[key].as_i64().unwrap();
    let rather = |first: &str, second: &str| if element[first].is_null() { number(second) } else { number(first) };
    let side = |price: &str, size: &str| match element[price].as_f64() {
        None | Some(0.0) => "-".into(),
        Some(_) => format!("{}x{}", number(price), number(size)),
    };
    let ns = |key: &str| format!("{}000000", millis(key));
    match text("ev").as_str() {
        kind @ ("T" | "XT") => {
            let symbol = text(if kind == "T" { "sym" } else { "pair" });
            format!("trade {symbol} id={} {} x {} at {}", number("i"), number("p"), rather("ds", "s"), ns("t"))
        }
        kind @ ("Q" | "XQ") => {
            let symbol = text(if kind == "Q" { "sym" } else { "pair" });
            format!("quote {symbol} seq={} {} {} at {}", number("q"), side("bp", "bs"), side("ap", "as"), ns("t"))
        }
        "C" => format!("quote {} seq=- {} {} at {}", text("p"), side("b", "none"), side("a", "none"), ns("t")),
        kind @ ("A" | "AM" | "CA" | "XA") => {
            let symbol = text(if kind.starts_with('A') { "sym" } else { "pair" });
            let length = if element["e"].is_null() { 60_000 } else { millis("e") - millis("s") };
            if length == 0 {
                return format!("invalid {symbol} Bar time");
            }
            let prices = ["o", "h", "l", "c"].map(number).join(" ");
            let (volume, vwap) = (rather("dv", "v"), number("vw"));
            format!("bar {symbol} {length}000000 at {} {prices} volume {volume} vwap {vwap} trades -", ns("s"))
        }
        "status" => match text("status").as_str() {
            "connected" => "control connected".into(),
            "auth_success" => "control authenticated".into(),
            "success" => "control subscribed".into(),
            "auth_failed" | "auth_timeout" => format!("control auth refused: {}", text("message")),
            "max_connections" => format!("control throttled: {}", text("message")),
            other => panic!("a status that no capture had: {other}"),
        },
        kind => format!("ignored {kind}"),
    }
}

#[test]
fn every_element_of_every_capture_says_what_stands_in_it() {
    let Some(directory) = directory("polygon") else { return };
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for file in ["polygon-live.jsonl", "polygon-doc-examples.jsonl", "polygon-status-errors.jsonl"] {
        for frame in lines(&directory.join(file)) {
            let elements: Vec<Value> = serde_json::from_str(&frame).unwrap();
            let told = decoded(&frame);
            assert_eq!(told, elements.iter().map(expected).collect::<Vec<_>>(), "{frame}");
            for line in told {
                *counts.entry(line.split(' ').next().unwrap().to_owned()).or_default() += 1;
            }
        }
    }
    let counted: Vec<_> = counts.iter().map(|(kind, count)| (kind.as_str(), *count)).collect();
    assert_eq!(counted, [("bar", 7), ("control", 6), ("ignored", 7), ("invalid", 1), ("quote", 5), ("trade", 5)]);
}

#[test]
fn the_live_frames_say_what_was_written_down_about_them() {
    let Some(directory) = directory("polygon") else { return };
    let told: Vec<String> = lines(&directory.join("polygon-live.jsonl")).iter().flat_map(|f| decoded(f)).collect();
    assert_eq!(
        told,
        [
            "control connected",
            "control authenticated",
            "control subscribed",
            "quote AAPL seq=44424715 297.83x80 297.86x80 at 1781622375952000000",
            "trade AAPL id=143541 297.845 x 40.0 at 1781622376036000000",
            "bar FCX 1000000000 at 1788877043000000000 78.1 78.125 78.07 78.08 volume 4989.0 vwap 78.0894 trades -",
            "ignored LULD",
            "trade AAPL id=5096 161.87 x 300 at 1651684192462000000",
        ]
    );
}
