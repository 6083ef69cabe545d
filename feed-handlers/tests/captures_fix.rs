//! The recorded FIX messages: the valid ones say what their fields hold, and the published ones whose length or
//! checksum is wrong are refused for just that.
//!
//! The recordings are not part of the repository: `GATEWAY_CAPTURES` names the directory that holds them.

use std::path::Path;

use feed_handlers::decode::event::{Event, Symbol};
use feed_handlers::decode::fix::{decode, frame_end};
use feed_handlers::decode::{DecodeError, Reason};

/// The lines of a file, each a message; `None`, said aloud, where there are no captures.
fn messages(name: &str) -> Option<Vec<Vec<u8>>> {
    let Some(root) = std::env::var_os("GATEWAY_CAPTURES") else {
        println!("left out: GATEWAY_CAPTURES names no directory of captures");
        return None;
    };
    let text = std::fs::read(Path::new(&root).join("fix").join(name)).unwrap();
    Some(text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect())
}

/// The values of a tag, in order; the messages hold no raw data.
fn values(message: &[u8], tag: &str) -> Vec<String> {
    let text = std::str::from_utf8(message).unwrap();
    let field = |field: &str| field.strip_prefix(tag)?.strip_prefix('=').map(str::to_owned);
    text.split('\x01').filter_map(field).collect()
}

#[test]
fn valid_messages_say_what_their_fields_hold() {
    let Some(messages) = messages("fix44-valid.txt") else { return };
    assert_eq!(messages.len(), 3);
    for message in &messages {
        assert_eq!(frame_end(message), Ok(Some(message.len())));
        let mut events = Vec::new();
        decode(message, &mut |event| events.push(event)).unwrap();
        let sequence = values(message, "34")[0].parse().unwrap();
        assert_eq!(events[0], Event::LineSequence(sequence));
        let symbol = values(message, "55").pop();
        let mut prices = Vec::new();
        let mut sizes = Vec::new();
        let mut ids = Vec::new();
        for event in &events {
            match event {
                Event::Level(level) => {
                    prices.push(level.price);
                    sizes.push(level.size);
                }
                Event::Trade(trade) => {
                    prices.push(trade.price);
                    sizes.push(trade.size);
                    ids.push(trade.id.unwrap().to_string());
                    assert_eq!(trade.symbol, Symbol::Text(symbol.as_ref().unwrap().as_bytes()));
                }
                Event::BookBegin(begin) => {
                    assert_eq!(begin.symbol, Symbol::Text(symbol.as_ref().unwrap().as_bytes()));
                }
                _ => {}
            }
        }
        let digits = |numbers: Vec<protocol::Decimal>| numbers.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(digits(prices), values(message, "270"));
        assert_eq!(digits(sizes), values(message, "271"));
        assert_eq!(ids, values(message, "1003"));
    }
    // One after the other, as a stream brings them, in chunks of any size.
    let stream = messages.concat();
    for chunk_bytes in [1, 7, 64, stream.len()] {
        let (mut pending, mut found) = (Vec::new(), Vec::new());
        for chunk in stream.chunks(chunk_bytes) {
            pending.extend_from_slice(chunk);
            while let Some(end) = frame_end(&pending).unwrap() {
                found.push(pending.drain(..end).collect::<Vec<_>>());
            }
        }
        assert_eq!(found, messages, "chunks of {chunk_bytes} bytes");
        assert!(pending.is_empty());
    }
}

#[test]
fn messages_as_published_with_wrong_lengths_and_checksums_are_refused() {
    let Some(messages) = messages("fix44-bad-checksum-or-length.txt") else { return };
    let mut refused = Vec::new();
    for message in &messages {
        let mut events = 0;
        let error = decode(message, &mut |_| events += 1).unwrap_err();
        assert_eq!(events, 0);
        refused.push((values(message, "35").remove(0), error));
    }
    let length = |kind: &str, stated, found| (kind.to_owned(), DecodeError::Length { stated, found });
    assert_eq!(refused, [length("W", 107, 103), length("Y", 218, 214), length("V", 132, 133)]);

    // With the length put right, the checksum is wrong too.
    for (message, (_, error)) in messages.iter().zip(refused) {
        let DecodeError::Length { stated, found } = error else { panic!("{error:?}") };
        let text = String::from_utf8(message.clone()).unwrap();
        let width = values(message, "9")[0].len();
        let righted = text.replacen(&format!("9={stated:0width$}"), &format!("9={found:0width$}"), 1);
        let error = decode(righted.as_bytes(), &mut |_| {}).unwrap_err();
        assert_eq!(error.reason(), Reason::Checksum, "{error}: {righted}");
    }
}
