//! A venue whose every frame the test decides: it speaks Coinbase Exchange's feed to the gateway's live source.

use std::collections::HashMap;
use std::net::{TcpListener, TcpStream};

use protocol::format_rfc3339;
use tungstenite::{Message, WebSocket};

use super::PATIENCE;

/// 2026-01-01, the first of the made-up times.
const START_NS: i64 = 1_767_225_600_000_000_000;

pub struct Venue {
    listener: TcpListener,
    pub url: String,
}

/// The gateway's connection to the venue, subscribed.
pub struct Line {
    socket: WebSocket<TcpStream>,
    sequence: u64,
    trades: HashMap<String, u64>,
}

impl Venue {
    pub fn bind() -> Venue {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("ws://{}", listener.local_addr().unwrap());
        Venue { listener, url }
    }

    /// The settings of a gateway that listens to this venue for these products (a TOML list). Silence is no
    /// fault of a test's venue.
    pub fn settings<'a>(&'a self, products: &'a str) -> [(&'a str, &'a str); 5] {
        [
            ("feed.kind", "coinbase"),
            ("feed.coinbase.url", &self.url),
            ("feed.coinbase.products", products),
            ("feed.coinbase.silence_timeout", "1h"),
            // Its times are made up.
            ("feed.limits.age_max", "87600h"),
        ]
    }

    /// Takes the gateway's connection and its subscription.
    #[track_caller]
    pub fn accept(&self) -> Line {
        let (stream, _) = self.listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut socket = tungstenite::accept(stream).unwrap();
        let request = socket.read().unwrap().into_text().unwrap();
        assert!(request.contains(r#""type":"subscribe""#), "{request}");
        Line { socket, sequence: 1_000_000, trades: HashMap::new() }
    }
}

impl Line {
    /// Sends a frame as it is.
    pub fn send(&mut self, frame: &str) {
        self.socket.send(Message::text(frame)).unwrap();
    }

    /// A trade at this price, of size 0.5; returns its id. Ids of a product run from 1.
    pub fn trade(&mut self, product: &str, price: &str) -> u64 {
        let id = self.trades.entry(product.to_owned()).or_default();
        *id += 1;
        let id = *id;
        let (sequence, time) = self.next();
        self.send(&match_frame(product, id, price, "0.50000000", sequence, &time));
        id
    }

    /// So many trades at prices that count up by a cent from 100.00.
    pub fn trades(&mut self, product: &str, count: u64) {
        for _ in 0..count {
            let next = self.trades.get(product).copied().unwrap_or_default() + 1;
            self.trade(product, &price_of(next));
        }
    }

    /// A trade at this price, so many milliseconds after the first of the made-up times; returns its id.
    pub fn trade_at(&mut self, product: &str, price: &str, ms: u64) -> u64 {
        let id = self.trades.entry(product.to_owned()).or_default();
        *id += 1;
        let id = *id;
        self.sequence += 1;
        self.send(&match_frame(product, id, price, "0.50000000", self.sequence, &time_of(ms)));
        id
    }

    /// Trades that the gateway never sees.
    pub fn lose_trades(&mut self, product: &str, count: u64) {
        *self.trades.entry(product.to_owned()).or_default() += count;
    }

    /// A quote at these prices.
    pub fn quote(&mut self, product: &str, bid: &str, ask: &str) {
        let (sequence, time) = self.next();
        self.send(&format!(
            r#"{{"type":"ticker","sequence":{sequence},"product_id":"{product}","price":"{bid}","open_24h":"1","volume_24h":"1","low_24h":"1","high_24h":"1","volume_30d":"1","best_bid":"{bid}","best_bid_size":"1.5","best_ask":"{ask}","best_ask_size":"2.25","side":"buy","time":"{time}","trade_id":1,"last_size":"1"}}"#
        ));
    }

    fn next(&mut self) -> (u64, String) {
        self.sequence += 1;
        // A millisecond after the other.
        (self.sequence, time_of(self.sequence - 1_000_000))
    }
}

/// The venue's time so many milliseconds after the first.
pub fn time_of(ms: u64) -> String {
    let mut text = Vec::new();
    format_rfc3339(START_NS + ms as i64 * 1_000_000, &mut text);
    String::from_utf8(text).unwrap()
}

/// The price of the trade with that id in [`Line::trades`].
pub fn price_of(id: u64) -> String {
    let cents = 10_000 + id;
    format!("{}.{:02}", cents / 100, cents % 100)
}

/// A `match` as the venue writes it.
pub fn match_frame(product: &str, id: u64, price: &str, size: &str, sequence: u64, time: &str) -> String {
    format!(
        r#"{{"type":"match","trade_id":{id},"maker_order_id":"d50ec984-77a8-460a-b958-66f114b0de9b","taker_order_id":"ac928c66-ca53-498f-9c13-a110027a60e8","side":"buy","size":"{size}","price":"{price}","product_id":"{product}","sequence":{sequence},"time":"{time}"}}"#
    )
}
