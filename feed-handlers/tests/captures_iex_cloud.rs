//! Every recorded object of IEX Cloud says what another parser finds in it, and the recorded event stream holds its
//! object, however it is cut.
//!
//! The recordings are not part of the repository: `GATEWAY_CAPTURES` names the directory that holds them.

mod captures;

use feed_handlers::decode::event::{BookEnd, Event};
use feed_handlers::decode::iex_cloud::decode;
use feed_handlers::decode::sse::SseParser;
use protocol::Decimal;
use serde_json::Value;

fn lines(frame: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let result = decode(frame.as_bytes(), &mut |event| {
        lines.push(match event {
            Event::BookBegin(book) => format!("book {:?}", book.scope),
            Event::Level(level) => format!("{:?} {} x {}", level.side, number(level.price), number(level.size)),
            Event::BookEnd(BookEnd { time, .. }) => format!("end at {}", time.map_or("-".into(), |t| t.to_string())),
            event => captures::line(&event),
        });
    });
    result.unwrap_or_else(|error| panic!("{error}: {frame}"));
    lines
}

/// As the other parser prints it.
fn number(decimal: Decimal) -> String {
    decimal.to_string().parse::<f64>().unwrap().to_string()
}

fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.as_f64().unwrap(), |text| text.parse().unwrap()).to_string()
}

fn ns(value: &Value) -> i64 {
    value.as_i64().unwrap() * 1_000_000
}

/// The lines of an object that has levels, by the other parser.
fn expected_book(object: &Value) -> Vec<String> {
    let mut lines = vec!["book Snapshot".to_owned()];
    let mut times = Vec::new();
    for (key, side) in [("bids", "Buy"), ("asks", "Sell")] {
        for level in object[key].as_array().unwrap() {
            lines.push(format!("{side} {} x {}", shown(&level["price"]), shown(&level["size"])));
            times.push(ns(&level["timestamp"]));
        }
    }
    lines.push(format!("end at {}", times.iter().max().unwrap()));
    lines
}

#[test]
fn the_socket_of_2018_says_what_it_said() {
    let Some(directory) = captures::directory("iexcloud") else { return };
    let frames = captures::lines(&directory.join("iex-socket-2018.jsonl"));
    assert_eq!(frames.len(), 10);
    for frame in &frames {
        let parsed: Value = serde_json::from_str(frame).unwrap();
        let expected = match parsed["messageType"].as_str() {
            Some("book") => expected_book(&parsed["data"]),
            Some("trades") => {
                let data = &parsed["data"];
                vec![format!(
                    "trade AAPL id={} 185.8100 x {} at {}",
                    data["tradeId"],
                    data["size"],
                    ns(&data["timestamp"])
                )]
            }
            Some(kind) => vec![format!("ignored {kind}")],
            None if parsed["time"].is_u64() => {
                vec![format!("trade AAPL id=- 185.8350 x {} at {}", parsed["size"], ns(&parsed["time"]))]
            }
            None => vec![
                format!("quote AAPL seq=102528 185.5900x100 185.6400x100 at {}", ns(&parsed["lastUpdated"])),
                format!("trade AAPL id=- 185.6300 x 100 at {}", ns(&parsed["lastSaleTime"])),
            ],
        };
        assert_eq!(lines(frame), expected, "{frame}");
    }
}

#[test]
fn the_rest_answers_that_have_the_form_of_events_are_read() {
    let Some(directory) = captures::directory("iexcloud") else { return };
    let mut kinds = Vec::new();
    for frame in captures::lines(&directory.join("iexcloud-rest-v1.jsonl")) {
        let parsed: Value = serde_json::from_str(&frame).unwrap();
        let lines = lines(&frame);
        if parsed["bids"].is_array() {
            assert_eq!(lines, expected_book(&parsed));
        }
        kinds.extend(lines.into_iter().map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" ")));
    }
    let expected = [
        "book Snapshot",
        "Buy 1000",
        "Sell 10421",
        "end at",
        "quote BTCUSDT",
        "ignored price",
        "ignored forex",
        "ignored forex",
        "quote AAPL",
        "trade AAPL",
    ];
    assert_eq!(kinds[..expected.len()], expected);
    for frame in captures::lines(&directory.join("iex-rest-2017.jsonl")) {
        assert!(!lines(&frame).is_empty(), "{frame}");
    }
}

#[test]
fn the_event_of_the_documentation_holds_its_quote() {
    let Some(directory) = captures::directory("iexcloud") else { return };
    let body = std::fs::read(directory.join("iexcloud-sse-doc-example.sse.txt")).unwrap();
    for size in [1, 2, 7, 100, body.len()] {
        let mut parser = SseParser::new(1 << 16);
        let mut found = Vec::new();
        for chunk in body.chunks(size) {
            let mut on_event = |event: feed_handlers::decode::sse::SseEvent<'_>| {
                found.extend(lines(std::str::from_utf8(event.data).unwrap()));
            };
            parser.handle_chunk(chunk, &mut on_event).unwrap();
        }
        assert_eq!(found, ["quote SPY seq=- 474.69x100 474.77x100 at 1704906277470000000"], "in chunks of {size}");
    }
}
