//! Every line of the recorded OANDA streams says what another parser finds in it.
//!
//! The recordings are not part of the repository: `GATEWAY_CAPTURES` names the directory that holds them.

use std::path::{Path, PathBuf};

use feed_handlers::decode::event::{Age, Event, Quote, Symbol, Top};
use feed_handlers::decode::oanda::decode;
use protocol::{Decimal, parse_rfc3339};
use serde_json::Value;

fn captures() -> Option<PathBuf> {
    let Some(root) = std::env::var_os("GATEWAY_CAPTURES") else {
        println!("left out: GATEWAY_CAPTURES names no directory of captures");
        return None;
    };
    Some(Path::new(&root).join("oanda"))
}

/// The best of the buckets, by sorting all of them as floats, which these prices survive.
fn best(buckets: &Value, is_bid: bool) -> Option<Top> {
    let mut buckets = buckets.as_array().unwrap().clone();
    let price = |bucket: &Value| bucket["price"].as_str().unwrap().parse::<f64>().unwrap();
    buckets.sort_by(|a, b| price(a).total_cmp(&price(b)));
    let best = if is_bid { buckets.last() } else { buckets.first() }?;
    let decimal = |text: &str| Decimal::parse(text.as_bytes()).unwrap();
    let size = Some(decimal(&best["liquidity"].to_string()));
    Some(Top { price: decimal(best["price"].as_str().unwrap()), size })
}

fn check_quote(quote: &Quote<'_>, price: &Value) {
    let text = |key: &str| price[key].as_str().unwrap();
    let (bid, ask) = (best(&price["bids"], true), best(&price["asks"], false));
    assert_eq!((quote.bid, quote.ask), (bid, ask), "{price}");
    // Equality is of the value; this of the digits.
    assert_eq!(format!("{:?} {:?}", quote.bid, quote.ask), format!("{bid:?} {ask:?}"), "{price}");
    assert_eq!(quote.symbol, Symbol::Text(text("instrument").as_bytes()));
    assert_eq!(quote.time, Some(parse_rfc3339(text("time").as_bytes()).unwrap()));
    assert_eq!(quote.age == Age::Live, text("status") == "tradeable", "{price}");
    assert_eq!(quote.sequence, None);
}

#[test]
fn every_line_of_every_capture_says_what_stands_in_it() {
    let Some(directory) = captures() else { return };
    let (mut quotes, mut heartbeats, mut blank, mut old, mut locked, mut unsorted) = (0, 0, 0, 0, 0, 0);
    for entry in std::fs::read_dir(directory).unwrap() {
        let body = std::fs::read(entry.unwrap().path()).unwrap();
        for line in body.split(|byte| *byte == b'\n') {
            let mut events = Vec::new();
            decode(line, &mut |event| events.push(event)).unwrap();
            if line.trim_ascii().is_empty() {
                assert_eq!(events, []);
                blank += 1;
                continue;
            }
            let value: Value = serde_json::from_slice(line).unwrap();
            let prices = value["prices"].as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
            assert_eq!(events.len(), prices.len(), "{value}");
            for (event, price) in events.iter().zip(&prices) {
                match event {
                    Event::Quote(quote) => {
                        check_quote(quote, price);
                        quotes += 1;
                        old += u32::from(quote.age == Age::Old);
                        locked += u32::from(quote.bid.unwrap().price == quote.ask.unwrap().price);
                        unsorted += u32::from(
                            price["bids"][0]["price"].as_str().unwrap() != quote.bid.unwrap().price.to_string(),
                        );
                    }
                    Event::Heartbeat(heartbeat) => {
                        assert_eq!(price["type"], "HEARTBEAT");
                        assert_eq!(heartbeat.time, parse_rfc3339(price["time"].as_str().unwrap().as_bytes()));
                        heartbeats += 1;
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
    }
    // Three copies of the weekend and unsorted lines at most; every kind of line occurs.
    assert!(quotes >= 10 && heartbeats >= 3, "{quotes} quotes, {heartbeats} heartbeats: the captures are not there");
    assert!(blank > 0 && old > 0 && locked > 0 && unsorted > 0, "{blank} {old} {locked} {unsorted}");
}

/// The body as it would arrive, cut into chunks of every size: what is left of a line waits for its end.
#[test]
fn chunks_of_any_size_make_the_same_lines() {
    let Some(directory) = captures() else { return };
    let body = std::fs::read(directory.join("oanda-stream-body.raw.txt")).unwrap();
    let said = |chunk_bytes: usize| {
        let (mut said, mut pending) = (Vec::new(), Vec::new());
        for chunk in body.chunks(chunk_bytes) {
            pending.extend_from_slice(chunk);
            while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = pending.drain(..=end).collect();
                decode(&line, &mut |event| said.push(format!("{event:?}"))).unwrap();
            }
        }
        decode(&pending, &mut |event| said.push(format!("{event:?}"))).unwrap();
        said
    };
    let whole = said(body.len());
    assert_eq!(whole.len(), 3, "{whole:?}");
    for chunk_bytes in 1..200 {
        assert_eq!(said(chunk_bytes), whole, "chunks of {chunk_bytes} bytes");
    }
}
