//! Recorded and published Alpaca frames say what a parser that shares nothing with the decoder reads in them, and the
//! same once another crate has written them as MessagePack.

mod captures;

use std::collections::BTreeMap;

use captures::{directory, line, lines};
use feed_handlers::decode::alpaca::{decode, decode_msgpack};
use protocol::parse_rfc3339;
use serde_json::Value;

const FILES: [&str; 3] = ["alpaca-live.jsonl", "alpaca-doc-examples.jsonl", "alpaca-errors.jsonl"];

fn decoded(frame: &str) -> Vec<String> {
    let mut out = Vec::new();
    decode(frame.as_bytes(), &mut |event| out.push(line(&event))).unwrap_or_else(|error| panic!("{error}: {frame}"));
    out
}

/// What the line of an element's event must be.
fn expected(element: &Value) -> String {
    let text = |key: &str| element[key].as_str().unwrap_or("-").to_owned();
    let number = |key: &str| if element[key].is_null() { "-".into() } else { element[key].to_string() };
    let side = |price: &str, size: &str| {
        let stands = element[price].as_f64() != Some(0.0) && element[size].as_f64() != Some(0.0);
        if stands { format!("{}x{}", number(price), number(size)) } else { "-".into() }
    };
    let symbol = text("S");
    let time = parse_rfc3339(text("t").as_bytes()).unwrap_or_default();
    match text("T").as_str() {
        "t" => format!("trade {symbol} id={} {} x {} at {time}", number("i"), number("p"), number("s")),
        "q" => format!("quote {symbol} seq=- {} {} at {time}", side("bp", "bs"), side("ap", "as")),
        "b" => {
            let prices = ["o", "h", "l", "c"].map(number).join(" ");
            let (volume, vwap, trades) = (number("v"), number("vw"), number("n"));
            format!("bar {symbol} 60000000000 at {time} {prices} volume {volume} vwap {vwap} trades {trades}")
        }
        "success" => format!("control {}", text("msg")),
        "subscription" => "control subscribed".into(),
        "error" => match element["code"].as_u64().unwrap() {
            401 | 402 | 404 | 409 => format!("control auth refused: {}", text("msg")),
            405..=407 => format!("control throttled: {}", text("msg")),
            _ => format!("control error: {}", text("msg")),
        },
        kind => format!("ignored {kind}"),
    }
}

/// The message in MessagePack: times that the vendor's own clients read as timestamps are written as such.
fn msgpack(value: &Value, is_time: bool, out: &mut Vec<u8>) {
    match value {
        Value::Array(elements) => {
            rmp::encode::write_array_len(out, elements.len() as u32).unwrap();
            elements.iter().for_each(|element| msgpack(element, false, out));
        }
        Value::Object(members) => {
            rmp::encode::write_map_len(out, members.len() as u32).unwrap();
            for (key, value) in members {
                rmp::encode::write_str(out, key).unwrap();
                msgpack(value, key == "t", out);
            }
        }
        Value::String(text) if is_time => {
            let time = parse_rfc3339(text.as_bytes()).unwrap();
            rmp::encode::write_ext_meta(out, 8, -1).unwrap();
            out.extend((((time % 1_000_000_000) as u64) << 34 | (time / 1_000_000_000) as u64).to_be_bytes());
        }
        other => out.extend(rmp_serde::to_vec(other).unwrap()),
    }
}

#[test]
fn every_element_of_every_capture_says_what_stands_in_it() {
    let Some(directory) = directory("alpaca") else { return };
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for frame in FILES.iter().flat_map(|file| lines(&directory.join(file))) {
        let elements: Vec<Value> = serde_json::from_str(&frame).unwrap();
        let told = decoded(&frame);
        assert_eq!(told, elements.iter().map(expected).collect::<Vec<_>>(), "{frame}");
        for line in told {
            *counts.entry(line.split(' ').next().unwrap().to_owned()).or_default() += 1;
        }
    }
    let counted: Vec<_> = counts.iter().map(|(kind, count)| (kind.as_str(), *count)).collect();
    assert_eq!(counted, [("bar", 1), ("control", 16), ("ignored", 5), ("quote", 2), ("trade", 4)]);
}

#[test]
fn msgpack_says_what_the_json_says() {
    let Some(directory) = directory("alpaca") else { return };
    for frame in FILES.iter().flat_map(|file| lines(&directory.join(file))) {
        let mut packed = Vec::new();
        msgpack(&serde_json::from_str(&frame).unwrap(), false, &mut packed);
        let mut out = Vec::new();
        decode_msgpack(&packed, &mut |event| out.push(line(&event))).unwrap();
        assert_eq!(out, decoded(&frame), "{frame}");
    }
}

#[test]
fn the_live_frames_say_what_was_written_down_about_them() {
    let Some(directory) = directory("alpaca") else { return };
    let told: Vec<String> = lines(&directory.join("alpaca-live.jsonl")).iter().flat_map(|f| decoded(f)).collect();
    assert_eq!(
        told,
        [
            "control connected",
            "control authenticated",
            "control subscribed",
            "quote AMD seq=- 91.95x2 91.98x1 at 1680782061670905508",
            "trade AAPL id=628 162.92 x 3 at 1680782066838232225",
            "trade AAPL id=75 162.92 x 3 at 1680782066838562809",
            // The venue trims zeros: `…26.83915973Z`.
            "trade AAPL id=1465 162.91 x 71 at 1680782066839159730",
        ]
    );
}
