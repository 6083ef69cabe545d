//! Nasdaq ITCH against a venue that misbehaves: datagrams that are lost on one line, on the other, or on both; a server
//! that answers in parts; garbage, silence, the end of a session and the next one. And a day from a file.
#![cfg(not(loom))]

#[path = "support/http_venue.rs"]
mod http_venue;
mod support;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use feed_handlers::decode::mold::{Session, request};
use feed_handlers::decode::mold_merge::MergeLimits;
use feed_handlers::feed::FeedCounter;
use feed_handlers::source::{FeedState, ItchFile, ItchLine, ItchUdp, ItchUdpSettings, Speed, StartGate, Stop};
use feed_handlers::venue::Venue;
use http_venue::{Live, log};
use protocol::TickBody;
use support::{Listener, PATIENCE, feed_of};
use tokio::net::UdpSocket;
use tokio::time::timeout;

/// 2023-08-22 in New York.
const MIDNIGHT: i64 = 1_692_676_800_000_000_000;
const FIRST: &Session = b"000010059A";
const SECOND: &Session = b"000010059B";

/// What all messages begin with: stock 7, a time in the morning.
fn head(kind: u8) -> Vec<u8> {
    let mut bytes = vec![kind, 0, 7, 0, 0];
    bytes.extend(&34_200_000_000_000u64.to_be_bytes()[2..]);
    bytes
}

/// A hidden trade of this match number.
fn print(number: u64) -> Vec<u8> {
    let mut bytes = head(b'P');
    bytes.extend([0; 8]);
    bytes.push(b'B');
    bytes.extend(100u32.to_be_bytes());
    bytes.extend(b"GOOGL   ");
    bytes.extend(1_284_600u32.to_be_bytes());
    bytes.extend(number.to_be_bytes());
    bytes
}

fn add(order: u64, side: u8, shares: u32, price: u32) -> Vec<u8> {
    let mut bytes = head(b'A');
    bytes.extend(order.to_be_bytes());
    bytes.push(side);
    bytes.extend(shares.to_be_bytes());
    bytes.extend(b"GOOGL   ");
    bytes.extend(price.to_be_bytes());
    bytes
}

fn executed(order: u64, shares: u32, number: u64) -> Vec<u8> {
    let mut bytes = head(b'E');
    bytes.extend(order.to_be_bytes());
    bytes.extend(shares.to_be_bytes());
    bytes.extend(number.to_be_bytes());
    bytes
}

fn datagram(session: &Session, sequence: u64, messages: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = request(session, sequence, messages.len() as u16).to_vec();
    bytes.extend(framed(messages));
    bytes
}

fn framed(messages: &[Vec<u8>]) -> Vec<u8> {
    let with_length = |m: &Vec<u8>| [&(m.len() as u16).to_be_bytes()[..], m].concat();
    messages.iter().flat_map(with_length).collect()
}

/// The venue's side: it sends to the two lines, and is asked.
struct Nasdaq {
    lines: Vec<SocketAddr>,
    sender: UdpSocket,
    server: UdpSocket,
    live: Live,
}

impl Nasdaq {
    async fn start(change: impl FnOnce(&mut ItchUdpSettings)) -> Nasdaq {
        let [sender, server] =
            [UdpSocket::bind("127.0.0.1:0").await, UdpSocket::bind("127.0.0.1:0").await].map(Result::unwrap);
        let line = ItchLine { address: "127.0.0.1:0".parse().unwrap(), interface: Ipv4Addr::UNSPECIFIED };
        let mut settings = ItchUdpSettings {
            rerequest: server.local_addr().ok(),
            midnight_ns: Some(MIDNIGHT),
            stale: PATIENCE * 2,
            silence: PATIENCE * 2,
            // An idle machine that is not idle must not lose anything.
            limits: MergeLimits { give_up_ns: i64::MAX, ..MergeLimits::DEFAULT },
            ..ItchUdpSettings::new(vec![line; 2])
        };
        change(&mut settings);
        let source = ItchUdp::bind(settings).unwrap();
        let lines = source.local_addresses().unwrap();
        let live = Live::start(Venue::Itch, source.status(), |feed, stop| source.spawn(feed, stop));
        Nasdaq { lines, sender, server, live }
    }

    async fn send(&self, line: usize, datagram: &[u8]) {
        self.sender.send_to(datagram, self.lines[line]).await.unwrap();
    }

    /// Waits until the server is asked for this, however often it was asked for something else.
    async fn asked(&self, expected: &[u8]) -> SocketAddr {
        let mut bytes = [0; 64];
        let asked = async {
            loop {
                let (length, who) = self.server.recv_from(&mut bytes).await.unwrap();
                if &bytes[..length] == expected {
                    return who;
                }
            }
        };
        timeout(PATIENCE, asked).await.expect("the request")
    }

    fn end(self) -> Listener {
        self.live.end()
    }
}

fn trade_ids(listener: &Listener) -> Vec<u64> {
    let id = |body: &TickBody| match body {
        TickBody::Trade(trade) => trade.id,
        _ => None,
    };
    listener.ticks.iter().filter_map(|tick| id(&tick.body)).collect()
}

fn quotes(listener: &Listener) -> Vec<String> {
    let quote = |body: &TickBody| match body {
        TickBody::Quote(q) => Some(format!("{}x{} {}x{}", q.bid, q.bid_size, q.ask, q.ask_size)),
        _ => None,
    };
    listener.ticks.iter().filter_map(|tick| quote(&tick.body)).collect()
}

#[tokio::test]
async fn what_either_line_brings_arrives_once_and_in_order() {
    let nasdaq = Nasdaq::start(|_| {}).await;
    assert_eq!(nasdaq.live.status.state(), FeedState::Down);
    for sequence in 1..=30 {
        let bytes = datagram(FIRST, sequence, &[print(sequence)]);
        if sequence % 3 != 0 {
            nasdaq.send(0, &bytes).await;
        }
        if sequence % 3 != 1 {
            nasdaq.send(1, &bytes).await;
        }
    }
    nasdaq.live.until_count(FeedCounter::Trades, 30).await;
    // Every third came on both.
    nasdaq.live.until_count(FeedCounter::LineRepeats, 10).await;
    assert_eq!(nasdaq.live.status.state(), FeedState::Up);
    assert_eq!(nasdaq.live.count(FeedCounter::LineGaps), 0);
    let listener = nasdaq.end();
    assert_eq!(trade_ids(&listener), (1..=30).collect::<Vec<_>>());
    assert_eq!(listener.symbol(&listener.ticks[0]), "GOOGL");
    assert_eq!(listener.ticks[0].ts_event, MIDNIGHT + 34_200_000_000_000);
}

#[tokio::test]
async fn what_neither_line_brings_is_asked_for() {
    let nasdaq = Nasdaq::start(|_| {}).await;
    nasdaq.send(0, &datagram(FIRST, 1, &[print(1)])).await;
    nasdaq.send(1, &datagram(FIRST, 4, &[print(4)])).await;
    let who = nasdaq.asked(&request(FIRST, 2, 2)).await;
    // As many as fit, and the others when asked again.
    nasdaq.server.send_to(&datagram(FIRST, 2, &[print(2)]), who).await.unwrap();
    nasdaq.asked(&request(FIRST, 3, 1)).await;
    // Somebody else's answer is not heard.
    nasdaq.sender.send_to(&datagram(FIRST, 3, &[print(666)]), who).await.unwrap();
    nasdaq.server.send_to(&datagram(FIRST, 3, &[print(3)]), who).await.unwrap();
    nasdaq.live.until_count(FeedCounter::Trades, 4).await;
    assert_eq!(nasdaq.live.count(FeedCounter::LineGaps), 0);
    assert_eq!(trade_ids(&nasdaq.end()), [1, 2, 3, 4]);
}

#[tokio::test]
async fn what_is_lost_ends_the_quotes_until_the_next_session() {
    let nasdaq = Nasdaq::start(|s| s.limits.give_up_ns = 100_000_000).await;
    let book = [add(1, b'B', 100, 1_000_000), add(2, b'S', 50, 1_010_000)];
    nasdaq.send(0, &datagram(FIRST, 1, &book)).await;
    nasdaq.live.until_count(FeedCounter::Quotes, 1).await;
    // Nobody ever sends the third.
    nasdaq.send(0, &datagram(FIRST, 4, &[add(3, b'B', 1, 1_005_000), executed(1, 40, 77)])).await;
    nasdaq.live.until_count(FeedCounter::Trades, 1).await;
    assert_eq!(nasdaq.live.count(FeedCounter::LineGaps), 1);
    nasdaq.live.until_count(FeedCounter::LineLost, 1).await;
    assert!(log().iter().any(|line| line.contains("messages are lost")), "{:?}", log());
    // The first one did not say that it ends: one datagram alone may have strayed here.
    nasdaq.send(0, &datagram(SECOND, 1, &book)).await;
    nasdaq.send(1, &datagram(SECOND, 1, &book)).await;
    nasdaq.live.until_count(FeedCounter::Quotes, 2).await;
    let listener = nasdaq.end();
    assert_eq!(trade_ids(&listener), [77]);
    assert_eq!(quotes(&listener), ["100.0000x100 101.0000x50"; 2]);
}

#[tokio::test]
async fn garbage_is_a_dead_letter_and_no_end() {
    let nasdaq = Nasdaq::start(|_| {}).await;
    let whole = datagram(FIRST, 1, &[print(1)]);
    for garbage in [&b"hello"[..], b"", &whole[..whole.len() - 1]] {
        nasdaq.send(0, garbage).await;
    }
    nasdaq.live.until_count(FeedCounter::MalformedFrames, 3).await;
    assert_eq!(nasdaq.live.status.state(), FeedState::Down);
    // In a whole datagram, a message that is none costs nobody the next one.
    nasdaq.send(0, &datagram(FIRST, 1, &[b"P too short".to_vec(), print(2)])).await;
    nasdaq.live.until_count(FeedCounter::Trades, 1).await;
    assert_eq!(nasdaq.live.count(FeedCounter::MalformedFrames), 4);
    assert_eq!(nasdaq.live.count(FeedCounter::DeadLetters), 4);
    assert_eq!(trade_ids(&nasdaq.end()), [2]);
}

#[tokio::test]
async fn silence_is_told_and_passes() {
    let nasdaq = Nasdaq::start(|s| {
        s.stale = Duration::from_millis(100);
        // Long enough after it for a busy machine to see the state between.
        s.silence = Duration::from_secs(2);
    })
    .await;
    nasdaq.send(0, &request(FIRST, 1, 0)).await;
    nasdaq.live.until_state(FeedState::Stale).await;
    nasdaq.live.until_state(FeedState::Down).await;
    nasdaq.live.until("a reason", || nasdaq.live.status.trouble().is_some()).await;
    assert!(nasdaq.live.status.trouble().unwrap().starts_with("no datagram on any line for"));
    nasdaq.send(1, &request(FIRST, 1, 0)).await;
    nasdaq.live.until_state(FeedState::Up).await;
    nasdaq.end();
}

#[tokio::test]
async fn a_session_ends_and_another_begins() {
    let nasdaq = Nasdaq::start(|s| (s.stale, s.silence) = (Duration::from_millis(50), Duration::from_millis(50))).await;
    nasdaq.send(0, &datagram(FIRST, 1, &[print(1)])).await;
    nasdaq.send(0, &request(FIRST, 2, 0xffff)).await;
    nasdaq.live.until_state(FeedState::Ended).await;
    nasdaq.send(1, &request(FIRST, 2, 0xffff)).await;
    nasdaq.send(1, &datagram(SECOND, 1, &[print(2)])).await;
    nasdaq.live.until_count(FeedCounter::Trades, 2).await;
    // What comes late of the first one is of no interest.
    nasdaq.send(0, &datagram(FIRST, 1, &[print(1)])).await;
    nasdaq.send(0, &datagram(SECOND, 2, &[print(3)])).await;
    nasdaq.live.until_count(FeedCounter::Trades, 3).await;
    assert_eq!(nasdaq.live.count(FeedCounter::StaleDatagrams), 1);
    assert_eq!(nasdaq.live.count(FeedCounter::LineGaps), 0);
    assert_eq!(trade_ids(&nasdaq.end()), [1, 2, 3]);
}

/// A ring of 64 and a thousand trades: a file waits for its readers.
#[test]
fn a_file_is_played_to_its_end_without_loss() {
    let path = std::env::temp_dir().join(format!("itch-{}.itch", std::process::id()));
    let check = |bytes: &[u8], trades: u64, state: FeedState| {
        std::fs::write(&path, bytes).unwrap();
        let (feed, mut listener) = feed_of(Venue::Itch, 64, None);
        let stop = Stop::new();
        let gate = StartGate::closed(&stop);
        let file = ItchFile::open(&path, MIDNIGHT).unwrap().speed(Speed::Max).hold(std::sync::Arc::clone(&gate));
        let status = file.status();
        let thread = file.spawn(feed, std::sync::Arc::clone(&stop)).unwrap();
        listener.read_until("held", |_| status.state() == FeedState::Held);
        gate.open();
        listener.read_until("the end", |l| status.state() == state && l.lag() == 0);
        stop.stop();
        thread.join().unwrap();
        assert_eq!((trade_ids(&listener), listener.lost), ((1..=trades).collect(), 0));
        assert_eq!(status.trouble().is_some(), state == FeedState::Down);
    };
    let messages: Vec<Vec<u8>> = (1..=1_000).map(print).collect();
    let bytes = framed(&messages);
    check(&bytes, 1_000, FeedState::Ended);
    check(&[&bytes[..], b"\0\0 behind the end"].concat(), 1_000, FeedState::Ended);
    check(&bytes[..bytes.len() - 1], 999, FeedState::Down);
    std::fs::remove_file(&path).unwrap();
    assert!(ItchFile::open(&path, MIDNIGHT).is_err());
}
