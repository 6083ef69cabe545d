//! A venue that is asked, and answers what the test decides: it speaks Alpha Vantage's side of HTTP.

use std::io::{Read, Write};
use std::net::TcpListener;

use super::PATIENCE;

pub struct PolledVenue {
    listener: TcpListener,
    pub url: String,
}

impl PolledVenue {
    pub fn bind() -> PolledVenue {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/query", listener.local_addr().unwrap());
        PolledVenue { listener, url }
    }

    /// Takes the next request, and answers it with this body; returns what was asked.
    #[track_caller]
    pub fn answer(&self, body: &str) -> String {
        let (mut stream, _) = self.listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.extend(byte);
        }
        let length = body.len();
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}").unwrap();
        String::from_utf8(head).unwrap().lines().next().unwrap().to_owned()
    }
}

/// A series of minutes, each with its volume, of the evening of 2025-12-31 in New York: from 19:00 on, which is the first
/// of the made-up times of [`super::venue`].
pub fn series(symbol: &str, minutes: &[(u32, u32)]) -> String {
    let bars: Vec<String> = minutes
        .iter()
        .rev()
        .map(|(minute, volume)| {
            format!(
                r#""2025-12-31 19:{minute:02}:00":{{"1. open":"86.20","2. high":"86.40","3. low":"86.10","4. close":"86.30","5. volume":"{volume}"}}"#
            )
        })
        .collect();
    let meta = format!(r#""Meta Data":{{"2. Symbol":"{symbol}","4. Interval":"1min","6. Time Zone":"US/Eastern"}}"#);
    format!(r#"{{{meta},"Time Series (1min)":{{{}}}}}"#, bars.join(","))
}

/// The day so far.
pub fn day(symbol: &str, day: &str, price: &str) -> String {
    format!(
        r#"{{"Global Quote":{{"01. symbol":"{symbol}","02. open":"112.6300","03. high":"113.1700","04. low":"110.6400","05. price":"{price}","06. volume":"29062853","07. latest trading day":"{day}"}}}}"#
    )
}
