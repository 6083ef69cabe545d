//! One connection to the venue, without its socket: bytes come in, and what is to be sent waits in `out`.
//!
//! The venue's thread owns it. First the upgrade of RFC 6455, then `subscribe` and `unsubscribe` as Coinbase Exchange
//! has them (<https://docs.cdp.coinbase.com/exchange/websocket-feed/overview>). Deliberately absent: signed
//! subscriptions and compression; the venue's deadline for the first subscribe.

use std::ops::ControlFlow;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use protocol::CloseCode;
use protocol::frame::{Message, MessageReader, Opcode, encode_close, encode_frame, encode_frame_with};
use serde_json::{Map, Value, json};

use super::market::{Channel, Market};

/// Longest head of the upgrade request.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Longest message of a client: a subscribe to 2,000 products has 64 KB.
const MESSAGE_BYTES_MAX: usize = 1024 * 1024;

/// What may wait for a client that does not read, beyond what the kernel holds: four seconds of 50,000 frames of 300
/// bytes. A venue that kept more would hide how slow its reader is.
pub(super) const OUT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The answer to an upgrade, up to its key.
const SWITCHING: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: ";

/// Why a line comes to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum LineEnd {
    #[error("closed")]
    Closed,
    #[error("no WebSocket upgrade: {0}")]
    NoUpgrade(&'static str),
    #[error("{OUT_BYTES_MAX} bytes wait for it")]
    TooSlow,
}

#[derive(Debug)]
enum State {
    /// The head of the upgrade request so far.
    Head(Vec<u8>),
    Open(MessageReader),
    /// Nothing is read any more; what waits is still sent.
    Closing,
}

#[derive(Debug)]
pub(super) struct Line {
    state: State,
    /// What each product is subscribed to: bits of [`Channel`].
    wants: Vec<u8>,
    /// Whether that is everything.
    wants_all: bool,
    /// What is to be sent, and how much of it has been.
    out: Vec<u8>,
    sent: usize,
}

impl Line {
    pub(super) fn new(products: usize) -> Line {
        Line { state: State::Head(Vec::new()), wants: vec![0; products], wants_all: false, out: Vec::new(), sent: 0 }
    }

    /// What is to be sent.
    pub(super) fn out(&self) -> &[u8] {
        &self.out[self.sent..]
    }

    /// So much of it was.
    pub(super) fn handle_sent(&mut self, bytes: usize) {
        self.sent += bytes;
        debug_assert!(self.sent <= self.out.len());
        if self.sent == self.out.len() {
            self.out.clear();
            self.sent = 0;
        }
    }

    /// Whether it is to be dropped as soon as nothing waits.
    pub(super) fn is_closing(&self) -> bool {
        matches!(self.state, State::Closing)
    }

    pub(super) fn wants_all(&self) -> bool {
        self.wants_all
    }

    pub(super) fn wants(&self, product: usize, channel: Channel) -> bool {
        self.wants.get(product).is_some_and(|wants| wants & channel as u8 != 0)
    }

    /// Queues frames.
    ///
    /// # Errors
    /// [`LineEnd::TooSlow`] where too much waits already.
    pub(super) fn send(&mut self, frames: &[u8]) -> Result<(), LineEnd> {
        // Moved to the front only when at least as much is dropped as moved, so that a byte is moved once on average.
        if self.sent > self.out.len() / 2 {
            self.out.drain(..self.sent);
            self.sent = 0;
        }
        if self.out.len() - self.sent + frames.len() > OUT_BYTES_MAX {
            return Err(LineEnd::TooSlow);
        }
        self.out.extend_from_slice(frames);
        Ok(())
    }

    /// Says goodbye; what waits goes first.
    pub(super) fn close(&mut self, code: CloseCode) {
        if matches!(self.state, State::Open(_)) {
            encode_close(code, &mut self.out);
        }
        self.state = State::Closing;
    }

    /// Takes what arrived at `now_ns` (Unix ns).
    ///
    /// # Errors
    /// Why the line is at its end at once.
    pub(super) fn receive(&mut self, bytes: &mut [u8], market: &mut Market, now_ns: i64) -> Result<(), LineEnd> {
        let State::Head(head) = &mut self.state else {
            self.read(bytes, market, now_ns);
            return Ok(());
        };
        head.extend_from_slice(bytes);
        let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") else {
            let fits = head.len() <= HEAD_BYTES_MAX;
            return if fits { Ok(()) } else { Err(LineEnd::NoUpgrade("its head is too long")) };
        };
        let mut rest = head.split_off(end + 4);
        let accept = accept_key(head).map_err(LineEnd::NoUpgrade)?;
        for part in [SWITCHING, &accept, "\r\n\r\n"] {
            self.out.extend_from_slice(part.as_bytes());
        }
        self.state = State::Open(MessageReader::new());
        self.read(&mut rest, market, now_ns);
        Ok(())
    }

    fn read(&mut self, bytes: &mut [u8], market: &mut Market, now_ns: i64) {
        let State::Open(reader) = &mut self.state else { return };
        let (out, wants) = (&mut self.out, &mut self.wants);
        let mut closed = false;
        let read = reader.feed(bytes, MESSAGE_BYTES_MAX, &mut |message| {
            match message {
                Message::Text(text) => answer(text, wants, market, now_ns, out),
                Message::Binary(_) => refuse("a binary message", out),
                Message::Ping(payload) => encode_frame(Opcode::Pong, payload, out),
                Message::Pong(_) => {}
                Message::Close(_) => {
                    closed = true;
                    return ControlFlow::Break(());
                }
            }
            ControlFlow::Continue(())
        });
        let everything = Channel::ALL.into_iter().fold(0, |bits, channel| bits | channel as u8);
        self.wants_all = self.wants.iter().all(|wants| *wants == everything);
        match read {
            Err(error) => self.close(error.close_code()),
            Ok(()) if closed => self.close(CloseCode::Normal),
            Ok(()) => {}
        }
    }
}

/// What an upgrade request is answered with.
fn accept_key(head: &[u8]) -> Result<String, &'static str> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut headers);
    request.parse(head).map_err(|_| "the request is malformed")?;
    if request.method != Some("GET") {
        return Err("it is no GET");
    }
    let header = |name: &str| {
        let header = request.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        header.map(|header| header.value)
    };
    if !header("upgrade").is_some_and(|value| value.eq_ignore_ascii_case(b"websocket")) {
        return Err("it asks for none");
    }
    let key = header("sec-websocket-key").ok_or("it has no key")?;
    // RFC 6455, 4.2.2: the digest of the key with this text behind it.
    let keyed = [key, b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"].concat();
    Ok(BASE64.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &keyed)))
}

/// Answers one message of a client.
fn answer(text: &str, wants: &mut [u8], market: &mut Market, now_ns: i64, out: &mut Vec<u8>) {
    let request: Map<String, Value> = match serde_json::from_str(text) {
        Ok(request) => request,
        Err(_) => return refuse("Malformed JSON", out),
    };
    let is_subscribe = match request.get("type").and_then(Value::as_str) {
        Some("subscribe") => true,
        Some("unsubscribe") => false,
        _ => return refuse("Type has to be either subscribe or unsubscribe", out),
    };
    let asked = match asked(&request, market) {
        Ok(asked) => asked,
        Err(reason) => return refuse(&reason, out),
    };
    let mut fresh = Vec::new();
    for (product, channel) in asked {
        let bits = &mut wants[product];
        if is_subscribe && *bits & channel as u8 == 0 {
            fresh.push((product, channel));
        }
        *bits = if is_subscribe { *bits | channel as u8 } else { *bits & !(channel as u8) };
    }
    let channels: Vec<Value> = Channel::ALL
        .into_iter()
        .map(|channel| {
            let is_wanted = |product: &usize| wants[*product] & channel as u8 != 0;
            let products: Vec<&str> = (0..market.products()).filter(is_wanted).map(|at| market.name(at)).collect();
            json!({"name": channel.name(), "product_ids": products})
        })
        .collect();
    write_json(&json!({"type": "subscriptions", "channels": channels}), out);
    for (product, channel) in fresh {
        market.write_state(product, channel, now_ns, out);
    }
}

/// The products and channels that a request names: `product_ids` counts for all channels without a list of their own.
fn asked(request: &Map<String, Value>, market: &Market) -> Result<Vec<(usize, Channel)>, String> {
    let products = |list: Option<&Value>| -> Result<Vec<usize>, String> {
        let list = match list {
            None => &[][..],
            Some(Value::Array(list)) => list,
            Some(_) => return Err("product_ids is no list".to_owned()),
        };
        let find = |name: &Value| {
            let found = name.as_str().and_then(|name| market.find(name));
            found.ok_or_else(|| format!("{} is not a valid product", name.as_str().unwrap_or("")))
        };
        list.iter().map(find).collect()
    };
    let common = products(request.get("product_ids"))?;
    let Some(Value::Array(channels)) = request.get("channels") else {
        return Err("channels is no list".to_owned());
    };
    let mut asked = Vec::new();
    for entry in channels {
        let (name, own) = match entry {
            Value::Object(entry) => (entry.get("name").and_then(Value::as_str), entry.get("product_ids")),
            entry => (entry.as_str(), None),
        };
        let name = name.ok_or("a channel has no name")?;
        let channel = Channel::from_name(name).ok_or_else(|| format!("{name} is not a valid channel"))?;
        let listed = own.map(|own| products(Some(own))).transpose()?;
        asked.extend(listed.as_ref().unwrap_or(&common).iter().map(|product| (*product, channel)));
    }
    Ok(asked)
}

fn refuse(reason: &str, out: &mut Vec<u8>) {
    write_json(&json!({"type": "error", "message": "Failed to subscribe", "reason": reason}), out);
}

fn write_json(value: &Value, out: &mut Vec<u8>) {
    encode_frame_with(Opcode::Text, out, |out| out.extend_from_slice(value.to_string().as_bytes()));
}

#[cfg(test)]
mod tests {
    use protocol::frame::{encode_client_frame, frame_len, server_frame};

    use super::super::Popularity;
    use super::*;

    const UPGRADE: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

    fn market() -> Market {
        Market::new(&["BTC-USD".into(), "ETH-USD".into()], 1.0, Popularity::RoundRobin, 1)
    }

    fn masked(text: &str) -> Vec<u8> {
        let mut out = Vec::new();
        encode_client_frame(Opcode::Text, text.as_bytes(), [1, 2, 3, 4], &mut out);
        out
    }

    /// The JSON of the frames that wait, which are sent by this.
    fn sent(line: &mut Line) -> Vec<Value> {
        let (mut frames, mut bytes) = (Vec::new(), line.out());
        while let Some(len) = frame_len(bytes) {
            let (_, payload) = server_frame(bytes).unwrap();
            frames.push(serde_json::from_slice(payload).unwrap());
            bytes = &bytes[len..];
        }
        line.handle_sent(line.out().len());
        frames
    }

    fn open(market: &mut Market) -> Line {
        let mut line = Line::new(market.products());
        line.receive(&mut UPGRADE.to_vec(), market, 0).unwrap();
        line.handle_sent(line.out().len());
        line
    }

    /// However the bytes are cut, the answer is that of RFC 6455's own example.
    #[test]
    fn upgrades_whatever_the_cuts() {
        let whole: Vec<u8> =
            [UPGRADE, &masked(r#"{"type":"subscribe","product_ids":["BTC-USD"],"channels":["ticker"]}"#)].concat();
        for cut in 1..whole.len() {
            let (mut market, mut line) = (market(), Line::new(2));
            let (mut first, mut second) = (whole[..cut].to_vec(), whole[cut..].to_vec());
            line.receive(&mut first, &mut market, 0).unwrap();
            line.receive(&mut second, &mut market, 0).unwrap();
            let text = String::from_utf8_lossy(line.out());
            assert!(text.starts_with("HTTP/1.1 101 ") && text.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"));
            assert!(line.wants(0, Channel::Ticker) && !line.wants(1, Channel::Ticker), "{cut}");
        }
    }

    #[test]
    fn what_is_no_upgrade_is_refused() {
        for head in ["\r\n\r\n", "GET / HTTP/1.1\r\n\r\n", "POST / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n"] {
            let refused = Line::new(2).receive(&mut head.as_bytes().to_vec(), &mut market(), 0);
            assert!(matches!(refused, Err(LineEnd::NoUpgrade(_))), "{head}: {refused:?}");
        }
        let endless = Line::new(2).receive(&mut vec![b'a'; HEAD_BYTES_MAX + 1], &mut market(), 0);
        assert!(matches!(endless, Err(LineEnd::NoUpgrade(_))));
    }

    #[test]
    fn a_subscribe_is_answered_with_everything_and_the_state_of_what_is_new() {
        let mut market = market();
        let mut line = open(&mut market);
        let subscribe = r#"{"type":"subscribe","product_ids":["BTC-USD"],"channels":["heartbeat","matches"]}"#;
        line.receive(&mut masked(subscribe), &mut market, 0).unwrap();
        let frames = sent(&mut line);
        assert_eq!(
            frames[0],
            json!({"type": "subscriptions", "channels": [
                {"name": "ticker", "product_ids": []},
                {"name": "matches", "product_ids": ["BTC-USD"]},
                {"name": "heartbeat", "product_ids": ["BTC-USD"]},
            ]})
        );
        assert_eq!(
            (frames.len(), &frames[1]["type"], &frames[1]["product_id"]),
            (2, &json!("last_match"), &json!("BTC-USD"))
        );
        assert!(line.wants(0, Channel::Matches) && !line.wants(1, Channel::Matches) && !line.wants_all());
        let all = r#"{"type":"subscribe","channels":[{"name":"ticker","product_ids":["BTC-USD","ETH-USD"]},{"name":"matches","product_ids":["ETH-USD"]},{"name":"heartbeat","product_ids":["ETH-USD","BTC-USD"]}]}"#;
        line.receive(&mut masked(all), &mut market, 0).unwrap();
        assert!(line.wants_all());
        let kinds: Vec<Value> = sent(&mut line).into_iter().map(|mut frame| frame["type"].take()).collect();
        assert_eq!(kinds, ["subscriptions", "ticker", "ticker", "last_match"]);
        let less = r#"{"type":"unsubscribe","product_ids":["BTC-USD"],"channels":["ticker"]}"#;
        line.receive(&mut masked(less), &mut market, 0).unwrap();
        assert!(!line.wants(0, Channel::Ticker) && line.wants(1, Channel::Ticker) && !line.wants_all());
    }

    #[track_caller]
    fn check_refused(request: &str, reason: &str) {
        let mut market = market();
        let mut line = open(&mut market);
        line.receive(&mut masked(request), &mut market, 0).unwrap();
        let expected = json!({"type": "error", "message": "Failed to subscribe", "reason": reason});
        assert_eq!(sent(&mut line), [expected], "{request}");
        assert!(!line.is_closing());
    }

    #[test]
    fn what_is_no_subscription_is_refused_as_a_whole() {
        check_refused("[", "Malformed JSON");
        check_refused("{}", "Type has to be either subscribe or unsubscribe");
        check_refused(r#"{"type":"subscribe","product_ids":["BTC-USD"]}"#, "channels is no list");
        check_refused(r#"{"type":"subscribe","product_ids":1,"channels":[]}"#, "product_ids is no list");
        check_refused(
            r#"{"type":"subscribe","product_ids":["BTC-USD","NO-USD"],"channels":["ticker"]}"#,
            "NO-USD is not a valid product",
        );
        check_refused(
            r#"{"type":"subscribe","product_ids":[],"channels":["level2"]}"#,
            "level2 is not a valid channel",
        );
    }

    #[test]
    fn a_broken_frame_and_a_close_end_the_line() {
        let mut market = market();
        let mut line = open(&mut market);
        line.receive(&mut [0x81, 0x01, b'x'], &mut market, 0).unwrap();
        assert!(line.is_closing());
        assert_eq!(line.out()[..4], [0x88, line.out()[1], 0x03, 0xea], "1002");
        let mut line = open(&mut market);
        let mut close = Vec::new();
        encode_client_frame(Opcode::Close, &1000u16.to_be_bytes(), [0; 4], &mut close);
        line.receive(&mut close, &mut market, 0).unwrap();
        assert!(line.is_closing() && line.out()[0] == 0x88);
    }

    #[test]
    fn what_waits_is_bounded_and_leaves_in_order() {
        let mut line = open(&mut market());
        let mut expected = Vec::new();
        for n in 0..200u8 {
            line.send(&[n; 10]).unwrap();
            expected.extend([n; 10]);
            let take = line.out().len().min(7);
            assert_eq!(line.out()[..take], expected[..take]);
            line.handle_sent(take);
            expected.drain(..take);
        }
        assert_eq!(line.out(), expected);
        let room = OUT_BYTES_MAX - line.out().len();
        assert!(matches!(line.send(&vec![0; room + 1]), Err(LineEnd::TooSlow)));
        line.send(&vec![0; room]).unwrap();
    }
}
