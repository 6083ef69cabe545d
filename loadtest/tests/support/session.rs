//! One connection of the faulty server: a thread that reads, and one that answers and sends what is due.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use protocol::command::{self, Action, Request, RequestId, Subscription};
use protocol::frame::{Message, MessageReader, Opcode, encode_close, encode_frame};
use protocol::message::{ErrorMessage, Gap, GapReason, Heartbeat, Position, Session, SubscriptionAck, SymbolLists};
use protocol::{
    ChannelKind, CloseCode, Decimal, Encoding, ErrorCode, ServerMessage, Side, Stamp, Trade, encode_trade,
    encode_venue_gap,
};
use tungstenite::handshake::derive_accept_key;

use super::server::{Deed, Door, Resume, Shared, Tally};

/// Silence before a heartbeat.
const HEARTBEAT: Duration = Duration::from_millis(200);

/// What the reading thread tells.
enum Event {
    Request(Request),
    Ping(Vec<u8>),
    /// The client closed, or is gone.
    Over,
}

/// Serves one connection to its end.
pub fn serve(mut stream: TcpStream, index: usize, shared: &Arc<Shared>) {
    stream.set_nodelay(true).unwrap();
    stream.set_write_timeout(Some(super::PATIENCE)).unwrap();
    // A client that goes away is no fault of the test.
    let _ = upgrade(&mut stream, shared).and_then(|upgraded| match upgraded {
        Some((encoding, signed_in)) => Connection::run(stream, index, shared, encoding, signed_in),
        None => Ok(()),
    });
}

/// Answers the upgrade; `None` where it is refused. Says how to speak, and whether the request held credentials.
fn upgrade(stream: &mut TcpStream, shared: &Shared) -> io::Result<Option<(Encoding, bool)>> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let header = |name: &str| {
        let lines = head.lines().skip(1).filter_map(|line| line.split_once(':'));
        lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned()).next()
    };
    std::thread::sleep(shared.settings.accept_delay);
    if shared.settings.door == Door::Http401 {
        let body = r#"{"error":"INVALID_TOKEN","message":"the credentials are not valid"}"#;
        let length = body.len();
        write!(
            stream,
            "HTTP/1.1 401 Unauthorized\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        )?;
        return Ok(None);
    }
    let accept = derive_accept_key(header("Sec-WebSocket-Key").expect("a key").as_bytes());
    write!(
        stream,
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    )?;
    let is_msgpack = header("Content-Type").is_some_and(|kind| kind == "application/msgpack")
        || head.lines().next().unwrap().contains("encoding=msgpack");
    let encoding = if is_msgpack { Encoding::MessagePack } else { Encoding::Json };
    Ok(Some((encoding, header("X-API-Key").is_some() || header("Authorization").is_some())))
}

/// Reads until the client is gone.
fn read(mut stream: TcpStream, encoding: Encoding, events: &Sender<Event>) {
    let (mut reader, mut buffer) = (MessageReader::new(), vec![0; 64 * 1024]);
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        let mut is_over = false;
        let mut on_message = |message: Message<'_>| {
            let event = match message {
                Message::Text(text) => Event::Request(command::parse(encoding, text.as_bytes()).unwrap()),
                Message::Binary(bytes) => Event::Request(command::parse(encoding, bytes).unwrap()),
                Message::Ping(payload) => Event::Ping(payload.to_vec()),
                Message::Pong(_) => return ControlFlow::Continue(()),
                Message::Close(_) => {
                    is_over = true;
                    return ControlFlow::Break(());
                }
            };
            if events.send(event).is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        };
        reader.feed(&mut buffer[..count], 1 << 20, &mut on_message).unwrap();
        if is_over {
            break;
        }
    }
    let _ = events.send(Event::Over);
}

/// The side that answers and sends.
struct Connection<'a> {
    stream: TcpStream,
    index: usize,
    shared: &'a Shared,
    encoding: Encoding,
    /// By symbol, the last number that was dealt with.
    places: HashMap<String, u64>,
    has_subscribed: bool,
    /// Trades that wait for the one behind them, by symbol.
    late: HashMap<String, Vec<u8>>,
    /// What is to be sent, and when.
    queue: VecDeque<(Instant, Vec<u8>)>,
    is_silent: bool,
    spoke: Instant,
}

impl Connection<'_> {
    fn run(
        stream: TcpStream,
        index: usize,
        shared: &Arc<Shared>,
        encoding: Encoding,
        signed_in: bool,
    ) -> io::Result<()> {
        let (sender, events) = channel();
        let of_reader = stream.try_clone()?;
        let reader = std::thread::spawn(move || read(of_reader, encoding, &sender));
        let mut connection = Connection {
            stream,
            index,
            shared,
            encoding,
            places: HashMap::new(),
            has_subscribed: false,
            late: HashMap::new(),
            queue: VecDeque::new(),
            is_silent: false,
            spoke: Instant::now(),
        };
        let served = connection.serve(&events, signed_in);
        let _ = connection.stream.shutdown(Shutdown::Both);
        reader.join().unwrap();
        served
    }

    fn serve(&mut self, events: &Receiver<Event>, signed_in: bool) -> io::Result<()> {
        self.say(&ServerMessage::connected())?;
        if signed_in && self.sign_in()?.is_break() {
            return Ok(());
        }
        loop {
            if self.shared.stop.load(Ordering::SeqCst) {
                return Ok(());
            }
            if self.advance()?.is_break() {
                return Ok(());
            }
            self.flush()?;
            let until_sent = self.queue.front().map(|(at, _)| at.saturating_duration_since(Instant::now()));
            let wait = self.shared.until_next().min(super::LOOK).min(until_sent.unwrap_or(super::LOOK));
            match events.recv_timeout(wait) {
                Ok(Event::Request(request)) => {
                    if self.answer(request)?.is_break() {
                        return Ok(());
                    }
                }
                Ok(Event::Ping(payload)) => {
                    let mut out = Vec::new();
                    encode_frame(Opcode::Pong, &payload, &mut out);
                    self.stream.write_all(&out)?;
                }
                Ok(Event::Over) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    fn say(&mut self, message: &ServerMessage<'_>) -> io::Result<()> {
        let mut out = Vec::new();
        message.encode(self.encoding, &mut out);
        self.stream.write_all(&out)
    }

    fn close(&mut self, code: CloseCode) -> io::Result<ControlFlow<()>> {
        let mut out = Vec::new();
        encode_close(code, &mut out);
        self.stream.write_all(&out)?;
        Ok(ControlFlow::Break(()))
    }

    fn sign_in(&mut self) -> io::Result<ControlFlow<()>> {
        if self.shared.settings.door == Door::Error402 {
            self.say(&ServerMessage::Error(ErrorMessage::new(ErrorCode::AuthFailed)))?;
            return self.close(CloseCode::AuthFailed);
        }
        let epoch = self.shared.epoch;
        let session = Session { epoch, user: "demo-enterprise", tier: "enterprise", delayed_ms: 0, heartbeat_ms: 200 };
        self.say(&ServerMessage::authenticated(session))?;
        Ok(ControlFlow::Continue(()))
    }

    fn answer(&mut self, request: Request) -> io::Result<ControlFlow<()>> {
        match request.action {
            Action::Auth(_) => return self.sign_in(),
            Action::Subscribe(subscription) => self.subscribe(request.id.as_ref(), &subscription)?,
            Action::Unsubscribe(subscription) => {
                for item in &subscription.items {
                    self.places.remove(&item.symbol);
                }
                self.acknowledge(request.id.as_ref())?;
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn subscribe(&mut self, id: Option<&RequestId>, subscription: &Subscription) -> io::Result<()> {
        if self.shared.settings.door == Door::Error409 {
            let symbols: Vec<&str> = subscription.items.iter().map(|item| item.symbol.as_str()).collect();
            let refused = ErrorMessage {
                id,
                channel: Some("trades"),
                symbols: &symbols,
                ..ErrorMessage::new(ErrorCode::InsufficientSubscription)
            };
            self.say(&ServerMessage::Error(refused))?;
            return self.acknowledge(id);
        }
        let published = self.shared.published();
        let since = subscription.since.as_ref();
        for item in &subscription.items {
            assert_eq!(item.channel, ChannelKind::Trades, "this server has trades only");
            let position = since.and_then(|since| {
                assert_eq!(since.epoch, self.shared.epoch);
                since.positions.iter().find(|(_, symbol, _)| *symbol == item.symbol).map(|(.., seq)| *seq)
            });
            let tally = &self.shared.tally;
            let place = match (position, self.shared.settings.resume) {
                (None, _) => published,
                (Some(position), Resume::Exact) => position,
                (Some(position), Resume::SkipsOne) => {
                    Tally::add(&tally.missing, 1);
                    position + 1
                }
                (Some(position), Resume::RepeatsOne) => {
                    Tally::add(&tally.duplicates, u64::from(position > 0));
                    position.saturating_sub(1)
                }
            };
            if position.is_some() {
                Tally::add(&tally.resumed, 1);
            }
            self.places.insert(item.symbol.clone(), place);
        }
        self.acknowledge(id)?;
        if !std::mem::replace(&mut self.has_subscribed, true) {
            self.shared.count_subscriber();
        }
        Ok(())
    }

    fn acknowledge(&mut self, id: Option<&RequestId>) -> io::Result<()> {
        let mut channels = SymbolLists::default();
        let symbols: Vec<String> = self.places.keys().cloned().collect();
        for symbol in &symbols {
            channels.push(ChannelKind::Trades, symbol);
        }
        let unchanged = SymbolLists::default();
        let ack = SubscriptionAck { id, channels, epoch: self.shared.epoch, delayed_ms: None, unchanged };
        self.say(&ServerMessage::Subscription(ack))
    }

    /// Deals with the trades that are due.
    fn advance(&mut self) -> io::Result<ControlFlow<()>> {
        let published = self.shared.published();
        let mut symbols: Vec<String> = self.places.keys().cloned().collect();
        symbols.sort_unstable();
        let mut batch = Vec::new();
        for symbol in symbols {
            let from = self.places[&symbol] + 1;
            for seq in from..=published {
                self.places.insert(symbol.clone(), seq);
                let deed = (self.shared.settings.script)(self.index, seq);
                if self.is_silent {
                    Tally::add(&self.shared.tally.missing, 1);
                } else if self.deal(&symbol, seq, deed, &mut batch)?.is_break() {
                    self.queue_batch(&mut batch, Duration::ZERO);
                    self.flush()?;
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
        self.queue_batch(&mut batch, Duration::ZERO);
        Ok(ControlFlow::Continue(()))
    }

    fn deal(&mut self, symbol: &str, seq: u64, deed: Deed, batch: &mut Vec<Vec<u8>>) -> io::Result<ControlFlow<()>> {
        let tally = &self.shared.tally;
        let waits = self.late.remove(symbol);
        match deed {
            Deed::Send => batch.push(self.trade(symbol, seq)),
            Deed::Skip => Tally::add(&tally.missing, 1),
            Deed::Twice => {
                let trade = self.trade(symbol, seq);
                batch.extend([trade.clone(), trade]);
                Tally::add(&tally.messages, 1);
                Tally::add(&tally.duplicates, 1);
            }
            Deed::Late => {
                let trade = self.trade(symbol, seq);
                self.late.insert(symbol.to_owned(), trade);
                Tally::add(&tally.reordered, 1);
            }
            Deed::Held(by) => {
                self.queue_batch(batch, Duration::ZERO);
                batch.push(self.trade(symbol, seq));
                self.queue_batch(batch, by);
            }
            Deed::Announce => {
                let gap = Gap {
                    channel: ChannelKind::Trades,
                    symbol,
                    from: seq,
                    to: Some(seq),
                    reason: GapReason::Retention,
                };
                let mut out = Vec::new();
                ServerMessage::Gap(gap).encode(self.encoding, &mut out);
                batch.push(out);
                Tally::add(&tally.announced, 1);
            }
            Deed::VenueGap(missed) => {
                let mut out = Vec::new();
                encode_venue_gap(self.encoding, symbol, ChannelKind::Trades, missed, self.stamp(seq), &mut out);
                batch.push(out);
                // It is numbered as a trade is.
                Tally::add(&tally.messages, 1);
                Tally::add(&tally.announced, missed);
            }
            Deed::Numbered(number) => batch.push(self.trade(symbol, number)),
            Deed::Instead(payload) => {
                batch.push(self.frame(&payload));
                Tally::add(&tally.malformed, 1);
                Tally::add(&tally.missing, 1);
            }
            Deed::Besides(payload) => {
                batch.push(self.frame(&payload));
                batch.push(self.trade(symbol, seq));
                Tally::add(&tally.malformed, 1);
            }
            Deed::Silence => {
                self.is_silent = true;
                Tally::add(&tally.missing, 1);
            }
            Deed::Cut => return Ok(ControlFlow::Break(())),
            Deed::Close(code) => {
                self.queue_batch(batch, Duration::ZERO);
                self.flush()?;
                return self.close(code);
            }
        }
        batch.extend(waits);
        Ok(ControlFlow::Continue(()))
    }

    fn frame(&self, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        encode_frame(self.encoding.opcode(), payload, &mut out);
        out
    }

    fn stamp(&self, seq: u64) -> Stamp {
        let now = self.shared.wall_ns();
        Stamp { seq, ts_event: now, ts_recv: now, flags: protocol::TickFlags::NONE }
    }

    fn trade(&self, symbol: &str, seq: u64) -> Vec<u8> {
        Tally::add(&self.shared.tally.messages, 1);
        let decimal = |mantissa, scale| Decimal::new(mantissa, scale).unwrap();
        let price = decimal(8_342_596 + seq as i64, 2);
        let trade = Trade { id: Some(seq), price, size: decimal(1_000_000, 8), taker: Some(Side::Buy) };
        let mut out = Vec::new();
        encode_trade(self.encoding, symbol, "COINBASE", &trade, self.stamp(seq), &mut out);
        out
    }

    fn queue_batch(&mut self, batch: &mut Vec<Vec<u8>>, by: Duration) {
        if batch.is_empty() {
            return;
        }
        let mut out = Vec::new();
        self.shared.settings.framing.write(self.encoding, batch, &mut out);
        batch.clear();
        // Nothing overtakes what is held.
        let at = Instant::now() + by;
        let at = self.queue.back().map_or(at, |(last, _)| at.max(*last));
        self.queue.push_back((at, out));
    }

    /// Sends what is to be sent by now, or a heartbeat.
    fn flush(&mut self) -> io::Result<()> {
        while let Some((at, _)) = self.queue.front()
            && *at <= Instant::now()
            && let Some((_, bytes)) = self.queue.pop_front()
        {
            self.stream.write_all(&bytes)?;
            self.spoke = Instant::now();
        }
        if !self.is_silent && self.has_subscribed && self.queue.is_empty() && self.spoke.elapsed() >= HEARTBEAT {
            let channel = ChannelKind::Trades;
            let begun = self.places.iter().filter(|(_, seq)| **seq > 0);
            let places: Vec<_> = begun.map(|(symbol, seq)| Position { channel, symbol, seq: *seq }).collect();
            let mut out = Vec::new();
            ServerMessage::Heartbeat(Heartbeat { t: self.shared.wall_ns(), seq: &places })
                .encode(self.encoding, &mut out);
            self.stream.write_all(&out)?;
            self.spoke = Instant::now();
        }
        Ok(())
    }
}
