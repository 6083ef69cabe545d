//! A venue of one's own: a WebSocket server on this machine that speaks Coinbase Exchange's side.
//!
//! It has a history, the frames of a capture. Frames are played to the client while there is one, pass unseen
//! while there is none, and a client that subscribes is told the last match and the last ticker of every
//! product, as the venue does. The test decides what happens when.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::{WebSocketStream, accept_async};

use crate::support::{PATIENCE, TradeText};

/// What happened at the venue, and up to where.
pub(crate) struct History {
    pub(crate) frames: Vec<String>,
    /// The next frame.
    pub(crate) at: usize,
    pub(crate) products: Vec<String>,
    /// The last match of each product before the first frame.
    before: HashMap<String, String>,
}

impl History {
    /// Takes what is news out of recorded frames; what they told of old state is used to begin with.
    pub(crate) fn new(recorded: &[String]) -> History {
        let (mut frames, mut products, mut before) = (Vec::new(), Vec::new(), HashMap::new());
        for frame in recorded {
            let value: serde_json::Value = serde_json::from_str(frame).expect("a recorded frame");
            let Some(product) = value["product_id"].as_str().map(str::to_owned) else { continue };
            if !products.contains(&product) {
                products.push(product.clone());
            }
            match value["type"].as_str() {
                Some("last_match") => {
                    before.insert(product, frame.clone());
                }
                Some("match" | "ticker" | "l2update" | "heartbeat") => frames.push(frame.clone()),
                _ => {}
            }
        }
        History { frames, at: 0, products, before }
    }

    /// All trades of the history.
    pub(crate) fn trades(&self) -> Vec<TradeText> {
        self.frames.iter().filter_map(|frame| TradeText::of_frame(frame)).collect()
    }

    /// Trades among the next `count` frames.
    pub(crate) fn trades_ahead(&self, count: usize) -> u64 {
        let end = (self.at + count).min(self.frames.len());
        self.frames[self.at..end].iter().filter(|frame| TradeText::of_frame(frame).is_some()).count() as u64
    }

    /// The old state that a client gets when it subscribes now.
    fn old_state(&self) -> Vec<String> {
        let mut state = Vec::new();
        for product in &self.products {
            let named = format!("\"product_id\":\"{product}\"");
            let latest = |kind: &str| {
                let kind = format!("\"type\":\"{kind}\"");
                self.frames[..self.at].iter().rfind(|frame| frame.contains(&kind) && frame.contains(&named))
            };
            let last_match = latest("match").map(|frame| frame.replace("\"match\"", "\"last_match\""));
            state.extend(last_match.or_else(|| self.before.get(product).cloned()));
            state.extend(latest("ticker").cloned());
        }
        state
    }
}

/// How the line is cut.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cut {
    /// The venue says goodbye.
    Close,
    /// The connection ends between two frames.
    End,
    /// The connection ends in the middle of a frame.
    MidFrame,
    /// The connection is reset; what is on its way is lost.
    Reset,
}

pub(crate) struct Venue {
    listener: TcpListener,
    pub(crate) history: History,
}

impl Venue {
    pub(crate) async fn open(history: History) -> Venue {
        Venue { listener: TcpListener::bind("127.0.0.1:0").await.expect("a port"), history }
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}", self.listener.local_addr().expect("bound"))
    }

    /// The next connection, before its handshake.
    pub(crate) async fn accept_raw(&self) -> TcpStream {
        let (stream, _) =
            timeout(PATIENCE, self.listener.accept()).await.expect("the client comes back").expect("accept");
        stream.set_nodelay(true).expect("no delay");
        stream
    }

    /// The next client, once it subscribed to every product: acknowledged, and told the old state.
    pub(crate) async fn accept(&self) -> Line {
        let socket = accept_async(self.accept_raw().await).await.expect("handshake");
        let mut line = Line { socket, subscribes: Vec::new() };
        let mut subscribed: Vec<String> = Vec::new();
        while subscribed.len() < self.history.products.len() {
            let message = line.next().await;
            let subscribe: serde_json::Value = serde_json::from_str(message.to_text().expect("text")).expect("JSON");
            assert_eq!(subscribe["type"], "subscribe");
            let names = |key: &str| -> Vec<String> {
                let list = subscribe[key].as_array().expect(key);
                list.iter().map(|name| name.as_str().expect(key).to_owned()).collect()
            };
            let batch = names("product_ids");
            subscribed.extend_from_slice(&batch);
            let channels = names("channels");
            line.subscribes.push((batch, channels.clone()));
            let acknowledged: Vec<_> =
                channels.iter().map(|name| serde_json::json!({"name": name, "product_ids": subscribed})).collect();
            line.send(&serde_json::json!({"type": "subscriptions", "channels": acknowledged}).to_string()).await;
        }
        let asked: HashSet<&String> = subscribed.iter().collect();
        assert_eq!(asked, self.history.products.iter().collect(), "every product once");
        for frame in self.history.old_state() {
            line.send(&frame).await;
        }
        line
    }

    /// Sends the next frames of the history.
    pub(crate) async fn play(&mut self, line: &mut Line, count: usize) {
        let end = (self.history.at + count).min(self.history.frames.len());
        for frame in &self.history.frames[self.history.at..end] {
            line.socket.feed(Message::text(frame)).await.expect("feed");
        }
        line.socket.flush().await.expect("flush");
        self.history.at = end;
    }

    /// Sends the history to its end.
    pub(crate) async fn play_rest(&mut self, line: &mut Line) {
        self.play(line, self.history.frames.len() - self.history.at).await;
    }

    /// Lets the next frames happen while nobody listens.
    pub(crate) fn pass(&mut self, count: usize) {
        self.history.at = (self.history.at + count).min(self.history.frames.len());
    }

    /// Cuts the line in one of the ways.
    pub(crate) async fn cut(&self, mut line: Line, cut: Cut) {
        match cut {
            Cut::Close => {
                let goodbye = CloseFrame { code: CloseCode::Away, reason: "maintenance\n".into() };
                line.socket.close(Some(goodbye)).await.expect("close");
                // The client's answer, or its end of the line, whichever it gives.
                while let Some(Ok(_)) = timeout(PATIENCE, line.socket.next()).await.expect("the client closes") {}
            }
            Cut::End => {}
            Cut::MidFrame => {
                let frame = self.history.frames[self.history.at.min(self.history.frames.len() - 1)].as_bytes();
                // A text frame whose length stands in the first two bytes after the header's.
                let head = [0x81, 126, (frame.len() >> 8) as u8, frame.len() as u8];
                let half = if frame.len() < 126 { Vec::new() } else { [&head, &frame[..frame.len() / 2]].concat() };
                line.raw(&half).await;
            }
            Cut::Reset => line.socket.get_ref().set_zero_linger().expect("linger"),
        }
    }
}

/// A client's connection.
pub(crate) struct Line {
    pub(crate) socket: WebSocketStream<TcpStream>,
    /// `(product_ids, channels)` of each subscribe.
    pub(crate) subscribes: Vec<(Vec<String>, Vec<String>)>,
}

impl Line {
    pub(crate) async fn send(&mut self, frame: &str) {
        self.socket.send(Message::text(frame)).await.expect("send");
    }

    /// Bytes past the WebSocket layer.
    pub(crate) async fn raw(&mut self, bytes: &[u8]) {
        self.socket.get_mut().write_all(bytes).await.expect("write");
    }

    pub(crate) async fn next(&mut self) -> Message {
        timeout(PATIENCE, self.socket.next()).await.expect("a message").expect("a line").expect("a message")
    }

    /// Waits until the client handled all that was sent: it answers a ping after what came before it.
    pub(crate) async fn handled(&mut self) {
        self.socket.send(Message::Ping("handled?".into())).await.expect("ping");
        while !matches!(self.next().await, Message::Pong(_)) {}
    }

    /// Waits until the client gave the line up, with a sign of life every now and then that says nothing of the
    /// market.
    pub(crate) async fn until_given_up(mut self) {
        let given_up = async {
            loop {
                if self.socket.send(Message::Ping("alive".into())).await.is_err() {
                    return;
                }
                let answer = timeout(Duration::from_millis(20), self.socket.next()).await;
                if let Ok(None | Some(Err(_) | Ok(Message::Close(_)))) = answer {
                    return;
                }
            }
        };
        timeout(PATIENCE, given_up).await.expect("the client gives up");
    }
}
