//! Server-sent events: from the bytes of an HTTP body, cut wherever the network cuts them, to whole events.
//!
//! Pure, but for what it keeps of an unfinished event; owned by the task that reads the body. It follows the grammar of
//! <https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation>: lines end with CR, LF
//! or both, `data` may have several, a line with a leading colon is a comment, and an event that the body ends in the
//! middle of does not happen. Deliberately absent: reconnecting, and the check for UTF-8; bytes that are none are left
//! to whoever reads the data.

use memchr::{memchr, memchr2};

/// One event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SseEvent<'a> {
    /// `message` where the server names none.
    pub kind: &'a [u8],
    /// Its `data` lines, with a line feed between two of them.
    pub data: &'a [u8],
    /// The last id that the server gave, with this event or before; empty where it gave none.
    pub id: &'a [u8],
}

/// Why an event cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SseError {
    /// The rest of the body makes no sense then; the connection is to be closed.
    #[error("an event of more than {event_bytes_max} bytes")]
    TooLong { event_bytes_max: usize },
}

/// An unfinished event, and what is remembered from one event to the next.
///
/// **Invariant**: all that it keeps is `event_bytes_max` long at most.
#[derive(Debug)]
pub struct SseParser {
    event_bytes_max: usize,
    /// The line that the last chunk ended in the middle of.
    line: Vec<u8>,
    kind: Vec<u8>,
    /// Each line of data with its line feed.
    data: Vec<u8>,
    id: Vec<u8>,
    retry_ms: Option<u64>,
    /// The body's first line may begin with a byte order mark.
    is_first_line: bool,
    /// The last chunk ended with CR: an LF at the begin of the next one ends no other line.
    is_after_cr: bool,
}

impl SseParser {
    /// `event_bytes_max` bounds the longest event, its field names and id included.
    pub const fn new(event_bytes_max: usize) -> SseParser {
        SseParser {
            event_bytes_max,
            line: Vec::new(),
            kind: Vec::new(),
            data: Vec::new(),
            id: Vec::new(),
            retry_ms: None,
            is_first_line: true,
            is_after_cr: false,
        }
    }

    /// The last id that the server gave, to be sent as `Last-Event-ID` when connecting anew.
    pub fn last_event_id(&self) -> &[u8] {
        &self.id
    }

    /// How long the server wants to be left alone before a reconnection, ms, where it said so.
    pub const fn retry_ms(&self) -> Option<u64> {
        self.retry_ms
    }

    /// Takes the next bytes of the body, and hands out the events that they complete.
    ///
    /// # Errors
    /// [`SseError::TooLong`]; what was kept is dropped.
    pub fn handle_chunk(&mut self, mut chunk: &[u8], on_event: &mut impl FnMut(SseEvent<'_>)) -> Result<(), SseError> {
        if std::mem::take(&mut self.is_after_cr) && !chunk.is_empty() {
            chunk = chunk.strip_prefix(b"\n").unwrap_or(chunk);
        } else if chunk.is_empty() {
            return Ok(());
        }
        while let Some(end) = memchr2(b'\r', b'\n', chunk) {
            let (line, rest) = chunk.split_at(end);
            self.admit(line.len())?;
            if self.line.is_empty() {
                self.handle_line(line, on_event)?;
            } else {
                let mut whole = std::mem::take(&mut self.line);
                whole.extend_from_slice(line);
                let handled = self.handle_line(&whole, on_event);
                // Its memory serves the next line.
                whole.clear();
                self.line = whole;
                handled?;
            }
            chunk = match rest {
                [b'\r', b'\n', rest @ ..] | [_, rest @ ..] => rest,
                [] => rest,
            };
            self.is_after_cr = rest == b"\r";
        }
        self.admit(chunk.len())?;
        self.line.extend_from_slice(chunk);
        Ok(())
    }

    /// Whether so many bytes more may be kept.
    fn admit(&mut self, more: usize) -> Result<(), SseError> {
        let kept = self.line.len() + self.kind.len() + self.data.len() + self.id.len();
        if kept + more > self.event_bytes_max {
            *self = SseParser::new(self.event_bytes_max);
            return Err(SseError::TooLong { event_bytes_max: self.event_bytes_max });
        }
        Ok(())
    }

    fn handle_line(&mut self, line: &[u8], on_event: &mut impl FnMut(SseEvent<'_>)) -> Result<(), SseError> {
        let line = match std::mem::take(&mut self.is_first_line) {
            true => line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line),
            false => line,
        };
        if line.is_empty() {
            self.dispatch(on_event);
            return Ok(());
        }
        let (field, value) = match memchr(b':', line) {
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (line, &b""[..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"data" => {
                self.admit(value.len() + 1)?;
                self.data.extend_from_slice(value);
                self.data.push(b'\n');
            }
            b"event" => replace(&mut self.kind, value),
            b"id" if memchr(0, value).is_none() => replace(&mut self.id, value),
            b"retry" if !value.is_empty() && value.iter().all(u8::is_ascii_digit) => {
                let ms =
                    value.iter().try_fold(0u64, |ms, digit| ms.checked_mul(10)?.checked_add(u64::from(digit - b'0')));
                self.retry_ms = ms.or(self.retry_ms);
            }
            // A comment, which has no name, or a field of another time.
            _ => {}
        }
        Ok(())
    }

    /// The event is complete. Without data it was none.
    fn dispatch(&mut self, on_event: &mut impl FnMut(SseEvent<'_>)) {
        if let Some((_, data)) = self.data.split_last() {
            let kind = if self.kind.is_empty() { b"message" } else { self.kind.as_slice() };
            on_event(SseEvent { kind, data, id: &self.id });
        }
        self.data.clear();
        self.kind.clear();
    }
}

fn replace(field: &mut Vec<u8>, value: &[u8]) {
    field.clear();
    field.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Owned = (String, String, String);

    fn owned(event: SseEvent<'_>) -> Owned {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (text(event.kind), text(event.data), text(event.id))
    }

    fn events<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<Owned> {
        let mut parser = SseParser::new(1_000);
        let mut events = Vec::new();
        for chunk in chunks {
            parser.handle_chunk(chunk, &mut |event| events.push(owned(event))).unwrap();
        }
        events
    }

    /// Checks the body as a whole, in single bytes, and cut into two at each place.
    #[track_caller]
    fn check(body: &str, expected: &[(&str, &str, &str)]) {
        let expected: Vec<Owned> =
            expected.iter().map(|(kind, data, id)| ((*kind).into(), (*data).into(), (*id).into())).collect();
        assert_eq!(events([body.as_bytes()]), expected, "{body:?}");
        assert_eq!(events(body.as_bytes().chunks(1)), expected, "{body:?} in bytes");
        for cut in 0..=body.len() {
            let (head, tail) = body.as_bytes().split_at(cut);
            assert_eq!(events([head, b"", tail]), expected, "{body:?} cut at {cut}");
        }
    }

    #[test]
    fn reads_the_examples_of_the_standard() {
        check("data: YHOO\ndata: +2\ndata: 10\n\n", &[("message", "YHOO\n+2\n10", "")]);
        check(
            ": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event",
            &[("message", "first event", "1"), ("message", "second event", "")],
        );
        check("data\n\ndata\ndata\n\ndata:", &[("message", "", ""), ("message", "\n", "")]);
        check("data:test\n\ndata: test\n\n", &[("message", "test", ""), ("message", "test", "")]);
    }

    #[test]
    fn reads_what_servers_send() {
        // As the documentation of IEX Cloud shows it, cut.
        check(
            "data: [{\"symbol\":\"SPY\",\"iexBidPrice\":474.69}]\n\n",
            &[("message", "[{\"symbol\":\"SPY\",\"iexBidPrice\":474.69}]", "")],
        );
        check("data: a\r\n\r\ndata: b\r\n\r\n", &[("message", "a", ""), ("message", "b", "")]);
        check("data: a\r\rdata: b\r\r", &[("message", "a", ""), ("message", "b", "")]);
        check("data: a\r\n\ndata: b\n\r\n", &[("message", "a", ""), ("message", "b", "")]);
        check("\u{feff}data: a\n\n\u{feff}data: b\n\n", &[("message", "a", "")]);
        check("event: trade\ndata: 1\n\ndata: 2\n\n", &[("trade", "1", ""), ("message", "2", "")]);
        check("event: ping\n\ndata: 2\n\n", &[("message", "2", "")]);
        check("id: 7\n\nid: a\0b\ndata: 1\n\n", &[("message", "1", "7")]);
        check("data: {\"a\": \"b:c\"}\nunknown: x\n:\n\n\n\n", &[("message", "{\"a\": \"b:c\"}", "")]);
        check("", &[]);
    }

    #[test]
    fn remembers_the_id_and_the_time_to_wait() {
        let mut parser = SseParser::new(100);
        let mut check = |chunk: &[u8], id: &[u8], retry_ms: Option<u64>| {
            parser.handle_chunk(chunk, &mut |_| {}).unwrap();
            assert_eq!((parser.last_event_id(), parser.retry_ms()), (id, retry_ms), "{}", chunk.escape_ascii());
        };
        check(b"", b"", None);
        check(b"retry: 3000\nid: 42\n", b"42", Some(3_000));
        check(b"retry: soon\nretry:\nretry: -1\n", b"42", Some(3_000));
        check(b"retry: 99999999999999999999\nid\n", b"", Some(3_000));
    }

    #[test]
    fn an_event_has_a_longest_length() {
        let long = |event_bytes_max: usize, chunks: &[&[u8]]| {
            let mut parser = SseParser::new(event_bytes_max);
            let mut events = 0;
            let result = chunks.iter().try_for_each(|chunk| parser.handle_chunk(chunk, &mut |_| events += 1));
            (result.is_err(), events)
        };
        let endless: Vec<&[u8]> = vec![b"data: 0123456789"; 1_000];
        assert_eq!(long(100, &endless), (true, 0));
        let lines: Vec<&[u8]> = vec![b"data: 0123456789\n"; 1_000];
        assert_eq!(long(100, &lines), (true, 0));
        let small: Vec<&[u8]> = vec![b"data: 0123456789\n\n"; 1_000];
        assert_eq!(long(100, &small), (false, 1_000));
        let comments: Vec<&[u8]> = vec![b": 0123456789\n"; 1_000];
        assert_eq!(long(100, &comments), (false, 0));
        let mut parser = SseParser::new(4);
        assert_eq!(parser.handle_chunk(b"data: 1", &mut |_| {}), Err(SseError::TooLong { event_bytes_max: 4 }));
    }

    /// The grammar, read at leisure and with the whole body at hand.
    fn naive(body: &str) -> Vec<Owned> {
        let body = body.strip_prefix('\u{feff}').unwrap_or(body).replace("\r\n", "\n").replace('\r', "\n");
        let mut lines: Vec<&str> = body.split('\n').collect();
        lines.pop();
        let (mut events, mut id) = (Vec::new(), String::new());
        let (mut kind, mut data) = (String::new(), Vec::new());
        for line in lines {
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "" if line.is_empty() => {
                    let kind = std::mem::take(&mut kind);
                    let kind = if kind.is_empty() { "message".into() } else { kind };
                    if !data.is_empty() {
                        events.push((kind, std::mem::take(&mut data).join("\n"), id.clone()));
                    }
                }
                "data" => data.push(value),
                "event" => kind = value.into(),
                "id" if !value.contains('\0') => id = value.into(),
                _ => {}
            }
        }
        events
    }

    proptest! {
        #[test]
        fn cuts_do_not_matter(
            pieces in proptest::collection::vec(
                proptest::sample::select(vec![
                    "data", "event", "id", "retry", ":", " ", "\n", "\r", "\r\n", "\n\n", "data: 1\n\n", "x", "\0", "\u{feff}",
                ]),
                0..40,
            ),
            sizes in proptest::collection::vec(1usize..9, 1..9),
        ) {
            let body = pieces.concat();
            let (mut chunks, mut rest) = (Vec::new(), body.as_bytes());
            for size in sizes.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (chunk, tail) = rest.split_at((*size).min(rest.len()));
                chunks.push(chunk);
                rest = tail;
            }
            prop_assert_eq!(events(chunks), naive(&body));
        }

        #[test]
        fn keeps_no_more_than_it_may(chunks: Vec<Vec<u8>>, event_bytes_max in 0usize..64) {
            let mut parser = SseParser::new(event_bytes_max);
            for chunk in &chunks {
                let _ = parser.handle_chunk(chunk, &mut |event| assert!(event.data.len() <= event_bytes_max));
                let kept = parser.line.len() + parser.kind.len() + parser.data.len() + parser.id.len();
                prop_assert!(kept <= event_bytes_max);
            }
        }
    }
}
