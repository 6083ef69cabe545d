//! A client of the gateway, on tungstenite: frames that break RFC 6455 fail the test that reads them.

use std::collections::VecDeque;
use std::net::{SocketAddr, TcpStream};
use std::ops::Index;
use std::time::{Duration, Instant};

use gateway::demo::Credential;
use protocol::frame::{Opcode, encode_client_frame};
use serde_json::Value;
use socket2::{Domain, Socket, Type};
use tungstenite::client::IntoClientRequest;
use tungstenite::handshake::HandshakeError;
use tungstenite::{Bytes, Error, Message, WebSocket};

use super::tls::{Trust, Wire};
use super::{PATIENCE, connect, now_ns};

/// The masks of RFC 6455 hide nothing from a server.
pub const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// One message of the server.
#[derive(Clone, Debug, PartialEq)]
pub struct Received {
    /// As it came, without the array around it.
    pub text: String,
    pub value: Value,
    /// When this side had it, Unix ns.
    pub at_ns: i64,
}

impl Index<&str> for Received {
    type Output = Value;

    fn index(&self, key: &str) -> &Value {
        &self.value[key]
    }
}

impl Received {
    pub fn kind(&self) -> &str {
        self.value["T"].as_str().unwrap_or_default()
    }

    #[track_caller]
    pub fn number(&self, key: &str) -> u64 {
        self.value[key].as_u64().unwrap_or_else(|| panic!("no number {key} in {}", self.text))
    }

    #[track_caller]
    pub fn symbol(&self) -> &str {
        self.value["S"].as_str().unwrap_or_else(|| panic!("no symbol in {}", self.text))
    }

    /// The digits of a number as they were sent.
    #[track_caller]
    pub fn digits(&self, key: &str) -> &str {
        let mark = format!("\"{key}\":");
        let from = self.text.find(&mark).unwrap_or_else(|| panic!("no {key} in {}", self.text)) + mark.len();
        let rest = &self.text[from..];
        &rest[..rest.find([',', '}']).unwrap()]
    }
}

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// A close frame with this code and reason.
    Closed(u16, String),
    /// No close frame.
    Lost,
}

/// A refused upgrade.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub status: u16,
    pub body: String,
}

pub struct Client {
    socket: WebSocket<Wire>,
    waiting: VecDeque<Received>,
    /// The acknowledgement of the sign-in, where it has come.
    pub session: Value,
}

impl Client {
    /// Upgrades `path` with these headers.
    pub fn upgrade(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Result<Client, Refused> {
        Client::upgrade_on(connect(address).into(), path, headers)
    }

    pub fn upgrade_on(stream: Wire, path: &str, headers: &[(&str, &str)]) -> Result<Client, Refused> {
        let address = stream.socket().peer_addr().unwrap();
        let mut request = format!("ws://{address}{path}").into_client_request().unwrap();
        for (name, value) in headers {
            let name = http::HeaderName::from_bytes(name.as_bytes()).unwrap();
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        match tungstenite::client(request, stream) {
            Ok((socket, response)) => {
                assert_eq!(response.status(), 101);
                Ok(Client { socket, waiting: VecDeque::new(), session: Value::Null })
            }
            Err(HandshakeError::Failure(Error::Http(response))) => {
                let body = response.body().clone().unwrap_or_default();
                Err(Refused { status: response.status().as_u16(), body: String::from_utf8(body).unwrap() })
            }
            Err(error) => panic!("neither upgraded nor refused: {error}"),
        }
    }

    /// Connects, and reads `connected`.
    #[track_caller]
    pub fn open(address: SocketAddr) -> Client {
        let mut client = Client::upgrade(address, "/stream", &[]).unwrap();
        assert_eq!(client.receive().text, r#"{"T":"success","msg":"connected"}"#);
        client
    }

    /// Connects and signs in with an `auth` message.
    #[track_caller]
    pub fn signed_in(address: SocketAddr, user: &Credential) -> Client {
        let mut client = Client::open(address);
        client.authenticate(&user.key, &user.secret);
        client
    }

    /// Connects over TLS and signs in with an `auth` message.
    #[track_caller]
    pub fn over_tls(address: SocketAddr, trust: &Trust, user: &Credential) -> Client {
        Client::sign_in_on(trust.shake(connect(address)), user)
    }

    /// Upgrades and signs in over a connection that there is.
    #[track_caller]
    pub fn sign_in_on(stream: Wire, user: &Credential) -> Client {
        let mut client = Client::upgrade_on(stream, "/stream", &[]).unwrap();
        assert_eq!(client.receive()["msg"], "connected");
        client.authenticate(&user.key, &user.secret);
        client
    }

    /// Connects and signs in with a token in the request.
    #[track_caller]
    pub fn with_token(address: SocketAddr, token: &str) -> Client {
        Client::upgrade(address, &format!("/stream?token={token}"), &[]).unwrap().greeted()
    }

    /// Reads the greeting of an upgrade that has signed in.
    #[track_caller]
    pub fn greeted(mut self) -> Client {
        assert_eq!(self.receive()["msg"], "connected");
        self.session = self.receive().value;
        assert_eq!(self.session["msg"], "authenticated");
        self
    }

    /// Connects with a receive buffer that holds next to nothing, and signs in: once it stops reading, the
    /// gateway notices soon.
    #[track_caller]
    pub fn with_small_buffer(address: SocketAddr, user: &Credential) -> Client {
        Client::sign_in_on(Client::small_socket(address).into(), user)
    }

    /// A connection with such a buffer.
    #[track_caller]
    pub fn small_socket(address: SocketAddr) -> TcpStream {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        // Before connecting, so that the window is never larger.
        socket.set_recv_buffer_size(4096).unwrap();
        socket.connect(&address.into()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.into()
    }

    /// Gives the connection an ordinary receive buffer. In one that holds less than a segment, the system's sender may fall
    /// back to a segment each 200 ms, which is no matter of the gateway's.
    #[track_caller]
    pub fn enlarge_buffer(&self) {
        let socket = self.socket.get_ref().socket();
        socket2::SockRef::from(socket).set_recv_buffer_size(1 << 20).unwrap();
    }

    #[track_caller]
    pub fn authenticate(&mut self, key: &str, secret: &str) {
        let answer = self.request(&serde_json::json!({"action": "auth", "key": key, "secret": secret}).to_string());
        assert_eq!(answer["msg"], "authenticated", "{}", answer.text);
        self.session = answer.value;
    }

    pub fn send(&mut self, text: &str) {
        // Where the gateway has closed already, the test will see how.
        let _ = self.socket.send(Message::text(text));
    }

    pub fn send_binary(&mut self, bytes: &[u8]) {
        let _ = self.socket.send(Message::binary(bytes.to_vec()));
    }

    /// Writes bytes to the socket as they are.
    pub fn send_raw(&mut self, bytes: &[u8]) {
        use std::io::Write;
        let _ = self.socket.get_mut().write_all(bytes);
    }

    /// Writes bytes to the socket beneath TLS.
    pub fn send_beneath_tls(&mut self, bytes: &[u8]) {
        use std::io::Write;
        let _ = self.socket.get_ref().socket().write_all(bytes);
    }

    /// Writes one masked frame.
    pub fn send_frame(&mut self, opcode: Opcode, payload: &[u8]) {
        let mut frame = Vec::new();
        encode_client_frame(opcode, payload, MASK, &mut frame);
        self.send_raw(&frame);
    }

    /// Sends a request and returns the next message that is no data.
    #[track_caller]
    pub fn request(&mut self, text: &str) -> Received {
        self.send(text);
        self.receive_of(&["success", "subscription", "error"])
    }

    /// Subscribes, and takes the acknowledgement.
    #[track_caller]
    pub fn subscribe(&mut self, text: &str) -> Received {
        let answer = self.request(text);
        assert_eq!(answer.kind(), "subscription", "{}", answer.text);
        answer
    }

    /// The next message.
    #[track_caller]
    pub fn receive(&mut self) -> Received {
        match self.next() {
            Ok(message) => message,
            Err(end) => panic!("the connection has ended: {end:?}"),
        }
    }

    /// The next message of one of these types; others are passed over.
    #[track_caller]
    pub fn receive_of(&mut self, kinds: &[&str]) -> Received {
        // Heartbeats keep coming: silence alone would not end the wait.
        let deadline = Instant::now() + PATIENCE;
        loop {
            let message = self.receive();
            if kinds.contains(&message.kind()) {
                return message;
            }
            assert!(Instant::now() < deadline, "none of {kinds:?} came for {PATIENCE:?}, but {}", message.text);
        }
    }

    /// So many messages of these types.
    #[track_caller]
    pub fn receive_many(&mut self, kinds: &[&str], count: usize) -> Vec<Received> {
        (0..count).map(|_| self.receive_of(kinds)).collect()
    }

    /// Everything until the connection ends, and how it did.
    #[track_caller]
    pub fn drain(&mut self) -> (Vec<Received>, End) {
        let mut messages = Vec::new();
        loop {
            match self.next() {
                Ok(message) => messages.push(message),
                Err(end) => return (messages, end),
            }
        }
    }

    /// The payload of the next pong.
    #[track_caller]
    pub fn pong(&mut self) -> Bytes {
        loop {
            match self.read() {
                Ok(Message::Pong(payload)) => return payload,
                Ok(Message::Text(text)) => self.take(text.as_str()),
                other => panic!("no pong: {other:?}"),
            }
        }
    }

    /// The next message, or how the connection ended.
    #[track_caller]
    pub fn next(&mut self) -> Result<Received, End> {
        loop {
            if let Some(message) = self.waiting.pop_front() {
                return Ok(message);
            }
            match self.read()? {
                Message::Text(text) => self.take(text.as_str()),
                Message::Close(Some(frame)) => {
                    // Lets tungstenite write its own close, as a client does.
                    let _ = self.socket.flush();
                    return Err(End::Closed(frame.code.into(), frame.reason.to_string()));
                }
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("unexpected: {other:?}"),
            }
        }
    }

    /// The next binary message, or how the connection ended.
    #[track_caller]
    pub fn next_binary(&mut self) -> Result<Bytes, End> {
        loop {
            match self.read()? {
                Message::Binary(bytes) => return Ok(bytes),
                Message::Close(Some(frame)) => return Err(End::Closed(frame.code.into(), frame.reason.to_string())),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("unexpected: {other:?}"),
            }
        }
    }

    #[track_caller]
    fn read(&mut self) -> Result<Message, End> {
        match self.socket.read() {
            Ok(message) => Ok(message),
            Err(Error::Io(error)) if error.kind() == std::io::ErrorKind::WouldBlock => {
                panic!("nothing came for {PATIENCE:?}")
            }
            Err(Error::Io(_) | Error::ConnectionClosed | Error::AlreadyClosed) => Err(End::Lost),
            Err(Error::Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake)) => Err(End::Lost),
            Err(error) => panic!("the gateway broke RFC 6455: {error}"),
        }
    }

    #[track_caller]
    fn take(&mut self, text: &str) {
        let array: Vec<Value> = serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"));
        let at_ns = now_ns();
        assert_eq!(array.len(), 1, "one message in each frame: {text}");
        let text = text.trim_start_matches('[').trim_end_matches(']').to_owned();
        self.waiting.extend(array.into_iter().map(|value| Received { text: text.clone(), value, at_ns }));
    }

    /// What the connection itself gives next; nothing where it was ended as it should be, behind the last frame.
    pub fn read_raw(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        use std::io::Read;
        self.socket.get_mut().read(buffer)
    }

    pub fn set_patience(&mut self, patience: Duration) {
        self.socket.get_ref().socket().set_read_timeout(Some(patience)).unwrap();
    }

    /// Says goodbye and waits for the answer.
    #[track_caller]
    pub fn close(mut self) -> End {
        self.socket.close(None).unwrap();
        self.drain().1
    }
}

/// Asserts that messages of one symbol are numbered without a hole from `first` on.
#[track_caller]
pub fn assert_contiguous(messages: &[Received], first: u64) {
    for (message, expected) in messages.iter().zip(first..) {
        assert_eq!(message.number("seq"), expected, "{}", message.text);
    }
}
