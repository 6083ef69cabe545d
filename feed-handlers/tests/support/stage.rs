//! A venue of one's own, of any kind: a WebSocket server on this machine that speaks the venue's side from the first byte.
//! The test says its lines; what the client says is held against what the venue would take.

// Each test file is a crate of its own and uses a part of this.
#![allow(dead_code)]

use futures_util::{SinkExt, StreamExt};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async};

use crate::support::PATIENCE;

/// What is said on a line, by either side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Words {
    Text(String),
    Binary(Vec<u8>),
}

impl From<&str> for Words {
    fn from(text: &str) -> Words {
        Words::Text(text.into())
    }
}

impl From<Words> for Message {
    fn from(words: Words) -> Message {
        match words {
            Words::Text(text) => Message::text(text),
            Words::Binary(bytes) => Message::binary(bytes),
        }
    }
}

pub(crate) struct Stage {
    listener: TcpListener,
}

impl Stage {
    pub(crate) async fn open() -> Stage {
        Stage { listener: TcpListener::bind("127.0.0.1:0").await.expect("a port") }
    }

    /// Its address, `scheme://127.0.0.1:port/path`.
    pub(crate) fn url(&self, scheme: &str, path: &str) -> String {
        format!("{scheme}://{}{path}", self.listener.local_addr().expect("bound"))
    }

    /// The next connection, before its handshake.
    pub(crate) async fn accept_raw(&self) -> TcpStream {
        let (stream, _) =
            timeout(PATIENCE, self.listener.accept()).await.expect("the client comes back").expect("accept");
        stream.set_nodelay(true).expect("no delay");
        stream
    }

    /// The next client, after the handshake.
    pub(crate) async fn accept(&self) -> Actor {
        let (mut path, mut headers) = (String::new(), Vec::new());
        // The library's error is what it is.
        #[allow(clippy::result_large_err)]
        let note = |request: &Request, response: Response| {
            path = request.uri().to_string();
            let text = |value: &tokio_tungstenite::tungstenite::http::HeaderValue| value.to_str().unwrap().to_owned();
            headers = request.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect();
            Ok(response)
        };
        let socket = accept_hdr_async(self.accept_raw().await, note).await.expect("handshake");
        Actor { socket, path, headers }
    }

    /// Answers the next connection's request with this response, whatever it is, and ends it. Returns the request's
    /// first line.
    pub(crate) async fn answer(&self, response: &str) -> String {
        use tokio::io::AsyncReadExt;
        let mut stream = self.accept_raw().await;
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let read = timeout(PATIENCE, stream.read_buf(&mut request)).await.expect("a request").expect("read");
            assert!(read > 0, "a whole request");
        }
        stream.write_all(response.as_bytes()).await.expect("write");
        stream.shutdown().await.expect("shutdown");
        let request = String::from_utf8(request).expect("text");
        request.lines().next().expect("a line").to_owned()
    }
}

/// The venue's end of a line.
pub(crate) struct Actor {
    pub(crate) socket: WebSocketStream<TcpStream>,
    /// With the query.
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
}

impl Actor {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(crate) async fn say(&mut self, words: &Words) {
        self.socket.send(words.clone().into()).await.expect("send");
    }

    /// The client's next words, pings aside.
    pub(crate) async fn hear(&mut self) -> Words {
        loop {
            let message = timeout(PATIENCE, self.socket.next()).await.expect("words").expect("a line").expect("words");
            match message {
                Message::Text(text) => return Words::Text(text.as_str().to_owned()),
                Message::Binary(bytes) => return Words::Binary(bytes.to_vec()),
                Message::Ping(_) | Message::Pong(_) => {}
                Message::Close(_) | Message::Frame(_) => panic!("the client has no more to say: {message:?}"),
            }
        }
    }

    /// Waits until the client handled all that was said: it answers a ping after what came before it.
    pub(crate) async fn handled(&mut self) {
        self.socket.send(Message::Ping("handled?".into())).await.expect("ping");
        loop {
            match timeout(PATIENCE, self.socket.next()).await.expect("an answer").expect("a line").expect("an answer") {
                Message::Pong(_) => return,
                Message::Ping(_) => {}
                message => panic!("nobody asked for {message:?}"),
            }
        }
    }

    /// Waits until the client ends the line.
    pub(crate) async fn ended(mut self) {
        let ended = async { while let Some(Ok(_)) = self.socket.next().await {} };
        timeout(PATIENCE, ended).await.expect("the client ends the line");
    }
}
