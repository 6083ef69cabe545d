//! Every venue that is spoken to over a WebSocket, played on this machine from the first byte: handshake, sign-in,
//! subscriptions, its own frames; and what it does to its clients: it refuses them, finds that they ask too much, cuts the
//! line, goes silent, says what nobody understands.
#![cfg(not(loom))]

#[path = "support/roles.rs"]
mod roles;
#[path = "support/stage.rs"]
mod stage;
mod support;

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use feed_handlers::dead_letter::{DeadLetterOffice, dead_letters};
use feed_handlers::feed::{FeedCounter, QuoteOrigin};
use feed_handlers::source::{Credentials, FeedState, FeedStatus, Live, LiveSettings, Secret, Stop, Timings};
use futures_util::future::join_all;
use protocol::{Tick, TickBody};
use roles::{
    KEY, Refusal, Role, SECRET, alpaca, binance, coinbase, coinbase_advanced, kraken, polygon, roles, roles_with_bars,
    text, texts,
};
use serde_json::{Value, json};
use stage::{Actor, Stage, Words};
use support::{Listener, PATIENCE, feed_with};
use tokio::net::TcpStream;

/// Supervision that never interferes on its own, and comes back at once.
const PATIENT: Timings = Timings {
    connect: PATIENCE,
    answer: PATIENCE,
    stale: PATIENCE,
    silence: PATIENCE,
    backoff_min: Duration::from_millis(1),
    backoff_max: Duration::from_millis(20),
    throttled: PATIENCE,
    refused: PATIENCE,
};

impl Role {
    fn settings(&self, url: String, timings: Timings) -> LiveSettings {
        LiveSettings {
            url: Some(url),
            symbols: self.symbols.iter().map(|&symbol| symbol.to_owned()).collect(),
            encoding: self.encoding,
            bars: self.bars,
            credentials: Credentials { key: Some(Secret::new(KEY)), secret: Some(Secret::new(SECRET)) },
            timings,
            ..LiveSettings::of(self.venue)
        }
    }

    /// Its address without what the client adds to it.
    fn url(&self, stage: &Stage) -> String {
        let path = self.query.split('?').next().unwrap_or_default();
        stage.url("ws", if path == "/" { "" } else { path })
    }

    /// The next client, up to its sign-in.
    async fn greet(&self, stage: &Stage) -> Actor {
        let mut actor = stage.accept().await;
        assert_eq!(actor.path, self.query, "{:?}", self.venue);
        if let Some((name, value)) = self.header {
            assert_eq!(actor.header(name), Some(value));
        }
        assert_eq!(actor.header("sec-websocket-extensions"), None);
        if let Some(greeting) = &self.greeting {
            actor.say(greeting).await;
        }
        if let Some((said, _)) = &self.sign_in {
            assert_eq!(value(actor.hear().await), *said);
        }
        actor
    }

    /// The next client, signed in and subscribed.
    async fn accept(&self, stage: &Stage) -> Actor {
        let mut actor = self.greet(stage).await;
        if let Some((_, answer)) = &self.sign_in {
            actor.say(answer).await;
        }
        for (said, answers) in &self.subscribes {
            assert_eq!(value(actor.hear().await), *said);
            for answer in answers {
                actor.say(answer).await;
            }
        }
        actor
    }

    async fn say_all(&self, actor: &mut Actor, frames: &[Words]) {
        for frame in frames {
            actor.say(frame).await;
        }
        actor.handled().await;
    }
}

/// What the client said, read as the venue would.
fn value(words: Words) -> Value {
    match words {
        Words::Text(text) => serde_json::from_str(&text).expect("JSON"),
        Words::Binary(bytes) => rmp_serde::from_slice(&bytes).expect("MessagePack"),
    }
}

/// The source under test and who listens to it.
struct Heard {
    listener: Listener,
    status: Arc<FeedStatus>,
    office: DeadLetterOffice,
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
}

impl Heard {
    fn start(settings: &LiveSettings) -> Heard {
        let (letters, office) = dead_letters();
        let (feed, listener) = feed_with(settings.venue, settings.quotes, 1 << 12, Some(letters));
        let live = Live::new(settings).unwrap();
        let (status, stop) = (live.status(), Stop::new());
        let thread = live.spawn(feed, Arc::clone(&stop)).unwrap();
        Heard { listener, status, office, stop, thread: Some(thread) }
    }

    /// Waits for a state without holding the venue up.
    async fn until(&self, state: FeedState) {
        let deadline = Instant::now() + PATIENCE;
        while self.status.state() != state {
            assert!(Instant::now() < deadline, "not {state:?} but {:?}", self.status.state());
            tokio::task::yield_now().await;
        }
    }

    /// The ticks since the last call, in a few words each.
    fn ticks(&mut self) -> Vec<String> {
        self.listener.read();
        let ticks = std::mem::take(&mut self.listener.ticks);
        let told = |tick: &Tick| {
            let symbol = self.listener.symbol(tick);
            match tick.body {
                TickBody::Trade(trade) => format!("{symbol} trade {} @ {}", trade.size, trade.price),
                TickBody::Quote(quote) => {
                    format!("{symbol} quote {} @ {} | {} @ {}", quote.bid_size, quote.bid, quote.ask_size, quote.ask)
                }
                TickBody::Bar(bar) => {
                    let (interval, state) = (bar.interval().name(), if bar.is_final() { "" } else { " so far" });
                    format!("{symbol} {interval} {}{state}", bar.bar(tick.ts_event).close)
                }
                TickBody::Gap { missed } => format!("{symbol} gap {missed}"),
                TickBody::Heartbeat => format!("{symbol} heartbeat"),
            }
        };
        ticks.iter().map(told).collect()
    }

    fn count(&self, counter: FeedCounter) -> u64 {
        self.listener.count(counter)
    }

    fn trouble(&self) -> String {
        self.status.trouble().expect("a reason").to_string()
    }

    fn end(mut self) {
        self.stop.stop();
        self.thread.take().unwrap().join().unwrap();
        assert_eq!(self.status.state(), FeedState::Down);
    }
}

#[tokio::test]
async fn every_venue_is_greeted_subscribed_to_and_heard() {
    for role in roles().into_iter().chain(roles_with_bars()) {
        let stage = Stage::open().await;
        let mut heard = Heard::start(&role.settings(role.url(&stage), PATIENT));
        let mut actor = role.accept(&stage).await;
        role.say_all(&mut actor, &role.frames).await;
        assert_eq!(heard.ticks(), role.ticks, "{:?}", role.venue);
        assert_eq!(heard.status.state(), FeedState::Up, "{:?}", role.venue);
        assert_eq!(heard.status.trouble(), None);
        assert_eq!((heard.count(FeedCounter::Reconnects), heard.count(FeedCounter::DeadLetters)), (0, 0));
        assert_eq!(heard.count(FeedCounter::UnknownSymbols), 0, "{:?}", role.venue);
        heard.end();
    }
}

#[tokio::test]
async fn after_a_cut_everything_is_subscribed_anew_and_nothing_repeats() {
    for role in roles().into_iter().chain(roles_with_bars()) {
        let stage = Stage::open().await;
        let mut heard = Heard::start(&role.settings(role.url(&stage), PATIENT));
        let mut actor = role.accept(&stage).await;
        role.say_all(&mut actor, &role.frames).await;
        heard.ticks();
        drop(actor);
        let mut actor = role.accept(&stage).await;
        role.say_all(&mut actor, &role.later).await;
        assert_eq!(heard.ticks(), role.later_ticks, "{:?}", role.venue);
        assert_eq!(heard.count(FeedCounter::Reconnects), 1);
        assert_eq!(heard.status.state(), FeedState::Up);
        heard.end();
    }
}

/// That the client stays away for at least half of `wait` from `since` on, and then comes back.
#[must_use = "the end of this line would be the source's next trouble"]
async fn assert_stays_away(stage: &Stage, since: Instant, wait: Duration, role: &Role) -> TcpStream {
    let line = stage.accept_raw().await;
    assert!(since.elapsed() >= wait / 2, "{:?} is back after {:?}", role.venue, since.elapsed());
    line
}

#[tokio::test]
async fn who_is_refused_says_so_and_stays_away() {
    let wait = Duration::from_millis(500);
    for role in roles() {
        let stage = Stage::open().await;
        let heard = Heard::start(&role.settings(role.url(&stage), Timings { refused: wait, ..PATIENT }));
        let since = match role.refusal {
            Refusal::Never => {
                heard.end();
                continue;
            }
            Refusal::Words(words) => {
                let mut actor = role.greet(&stage).await;
                let since = Instant::now();
                actor.say(&words.into()).await;
                actor.ended().await;
                since
            }
            Refusal::Status(status) => {
                let since = Instant::now();
                let request = stage.answer(&format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n")).await;
                assert_eq!(request, format!("GET {} HTTP/1.1", role.query));
                since
            }
        };
        let _line = assert_stays_away(&stage, since, wait, &role).await;
        assert!(heard.trouble().starts_with("the venue refuses our credentials"), "{}", heard.trouble());
        assert_eq!(heard.status.state(), FeedState::Down);
        heard.end();
    }
}

#[tokio::test]
async fn who_asks_too_much_stays_away() {
    let wait = Duration::from_millis(500);
    for role in roles() {
        let stage = Stage::open().await;
        let heard = Heard::start(&role.settings(role.url(&stage), Timings { throttled: wait, ..PATIENT }));
        let mut since = Instant::now();
        match &role.throttling {
            Some(words) => {
                let mut actor = role.accept(&stage).await;
                role.say_all(&mut actor, &role.frames).await;
                since = Instant::now();
                actor.say(words).await;
                actor.ended().await;
            }
            None => _ = stage.answer("HTTP/1.1 429 Too Many Requests\r\ncontent-length: 0\r\n\r\n").await,
        }
        let _line = assert_stays_away(&stage, since, wait, &role).await;
        assert!(heard.trouble().starts_with("the venue says that we ask too much"), "{}", heard.trouble());
        heard.end();
    }
    // What the venue asks for counts, where it is more.
    let (stage, role) = (Stage::open().await, coinbase());
    let heard =
        Heard::start(&role.settings(role.url(&stage), Timings { throttled: Duration::from_millis(1), ..PATIENT }));
    let since = Instant::now();
    stage.answer("HTTP/1.1 429 Too Many Requests\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n").await;
    let _line = assert_stays_away(&stage, since, Duration::from_secs(2), &role).await;
    heard.end();
}

#[tokio::test]
async fn a_silent_line_shows_as_stale_and_is_made_anew() {
    let timings = Timings { stale: Duration::from_secs(1), silence: Duration::from_secs(3), ..PATIENT };
    let play = async |role: Role| {
        let stage = Stage::open().await;
        let mut heard = Heard::start(&role.settings(role.url(&stage), timings));
        let mut actor = role.accept(&stage).await;
        role.say_all(&mut actor, &role.frames).await;
        // From here on it does not even answer pings.
        heard.until(FeedState::Stale).await;
        assert!(heard.trouble().starts_with("silent"), "{}", heard.trouble());
        let mut actor = role.accept(&stage).await;
        heard.ticks();
        role.say_all(&mut actor, &role.later).await;
        assert_eq!(heard.ticks(), role.later_ticks, "{:?}", role.venue);
        assert_eq!(heard.status.state(), FeedState::Up);
        assert_eq!(heard.status.trouble(), None);
        heard.end();
    };
    join_all(roles().into_iter().map(play)).await;
}

#[tokio::test]
async fn a_venue_that_does_not_answer_is_given_up() {
    let timings = Timings { answer: Duration::from_secs(1), ..PATIENT };
    let play = async |role: Role| {
        let stage = Stage::open().await;
        let heard = Heard::start(&role.settings(role.url(&stage), timings));
        let Some((_, answer)) = &role.sign_in else { return heard.end() };
        // No greeting; no answer to the sign-in; none to the subscription.
        stage.accept().await.ended().await;
        assert_eq!(heard.status.state(), FeedState::Down);
        role.greet(&stage).await.ended().await;
        let mut actor = role.greet(&stage).await;
        actor.say(answer).await;
        assert_eq!(value(actor.hear().await), role.subscribes[0].0);
        actor.ended().await;
        let mut actor = role.accept(&stage).await;
        role.say_all(&mut actor, &role.frames).await;
        assert_eq!(heard.status.state(), FeedState::Up);
        heard.end();
    };
    join_all(roles().into_iter().map(play)).await;
}

#[tokio::test]
async fn garbage_becomes_dead_letters_and_the_line_stays() {
    for role in roles() {
        let stage = Stage::open().await;
        let mut heard = Heard::start(&role.settings(role.url(&stage), PATIENT));
        let mut actor = role.accept(&stage).await;
        role.say_all(&mut actor, &role.garbage).await;
        role.say_all(&mut actor, &role.frames).await;
        assert_eq!(heard.ticks(), role.ticks, "{:?}", role.venue);
        let garbage = role.garbage.len() as u64;
        assert_eq!(heard.count(FeedCounter::MalformedFrames), garbage, "{:?}", role.venue);
        for words in &role.garbage {
            let bytes = match words {
                Words::Text(text) => text.as_bytes(),
                Words::Binary(bytes) => bytes,
            };
            assert_eq!(&*heard.office.take().expect("a letter").frame, bytes, "{:?}", role.venue);
        }
        assert_eq!(heard.count(FeedCounter::Reconnects), 0);
        heard.end();
    }
}

#[tokio::test]
async fn secrets_do_not_come_back_in_what_the_venue_says() {
    for role in [polygon(), alpaca()] {
        let stage = Stage::open().await;
        let heard = Heard::start(&role.settings(role.url(&stage), PATIENT));
        let mut actor = role.accept(&stage).await;
        // No JSON, so that the whole of it is kept.
        role.say_all(&mut actor, &texts(&["your key K3Y-0001 and your secret S3CR3T-0002 are wrong"])).await;
        let letter = heard.office.take().expect("a letter");
        assert_eq!(&*letter.frame, b"your key ******** and your secret *********** are wrong".as_slice());
        let goodbye = tokio_tungstenite::tungstenite::protocol::CloseFrame {
            code: tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode::Policy,
            reason: "no K3Y-0001".into(),
        };
        actor.socket.close(Some(goodbye)).await.unwrap();
        actor.ended().await;
        heard.until(FeedState::Down).await;
        let _line = stage.accept_raw().await;
        assert_eq!(heard.trouble(), r#"closed by the venue (1008 "no ********")"#);
        heard.end();
    }
}

#[tokio::test]
async fn a_venue_that_closes_is_connected_to_anew_at_once() {
    let (stage, role) = (Stage::open().await, binance());
    // The backoff would be an hour.
    let hour = Duration::from_secs(3_600);
    let timings = Timings { backoff_min: hour, backoff_max: hour, ..PATIENT };
    let mut heard = Heard::start(&role.settings(role.url(&stage), timings));
    let mut actor = role.accept(&stage).await;
    role.say_all(&mut actor, &role.frames).await;
    actor.say(&text(r#"{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1770123456789}}"#)).await;
    actor.ended().await;
    heard.ticks();
    let mut actor = role.accept(&stage).await;
    role.say_all(&mut actor, &role.later).await;
    assert_eq!(heard.ticks(), role.later_ticks);
    heard.end();
}

#[tokio::test]
async fn a_hole_in_the_numbers_of_the_line_makes_it_anew() {
    let (stage, role) = (Stage::open().await, coinbase_advanced());
    let mut heard = Heard::start(&role.settings(role.url(&stage), PATIENT));
    let mut actor = role.accept(&stage).await;
    role.say_all(&mut actor, &role.frames).await;
    heard.ticks();
    // The next is 4.
    actor.say(&text(r#"{"channel":"heartbeats","timestamp":"2026-09-07T23:37:22.675755362Z","sequence_num":5,"events":[{"current_time":"2026-09-07 23:37:22.674409 +0000 UTC m=+139651.272674714","heartbeat_counter":139651}]}"#)).await;
    actor.ended().await;
    let mut actor = role.accept(&stage).await;
    role.say_all(&mut actor, &role.later).await;
    assert_eq!(heard.ticks(), role.later_ticks);
    assert_eq!(heard.count(FeedCounter::LineGaps), 1);
    heard.end();
}

#[tokio::test]
async fn a_book_with_another_checksum_is_taken_anew() {
    let stage = Stage::open().await;
    let role = kraken();
    let quotes = QuoteOrigin::Books { depth: Some(10) };
    let settings = LiveSettings { quotes, ..role.settings(role.url(&stage), PATIENT) };
    let mut heard = Heard::start(&settings);
    let mut actor = stage.accept().await;
    let book = json!({"channel": "book", "depth": 10, "symbol": ["BTC/USD"]});
    assert_eq!(value(actor.hear().await), role.subscribes[0].0);
    assert_eq!(value(actor.hear().await), json!({"method": "subscribe", "params": book}));
    let frame = |kind: &str, bid: &str, checksum: u32| {
        text(&format!(
            r#"{{"channel":"book","type":"{kind}","data":[{{"symbol":"BTC/USD","bids":[{{"price":{bid},"qty":2.50000000}}],"asks":[{{"price":101.5,"qty":1.00000000}}],"checksum":{checksum},"timestamp":"2026-08-16T23:37:05.723653Z"}}]}}"#
        ))
    };
    // Asks first, then bids, prices and quantities without point and leading zeros.
    let good = crc32(b"10151000000001005250000000");
    actor.say(&frame("snapshot", "100.5", good)).await;
    actor.handled().await;
    assert_eq!(heard.ticks(), ["BTC/USD quote 2.50000000 @ 100.5 | 1.00000000 @ 101.5"]);
    actor.say(&frame("update", "100.6", good)).await;
    assert_eq!(value(actor.hear().await), json!({"method": "unsubscribe", "params": book}));
    assert_eq!(value(actor.hear().await), json!({"method": "subscribe", "params": book}));
    // What comes before the new snapshot is not believed.
    actor.say(&frame("update", "100.7", good)).await;
    actor.say(&frame("snapshot", "100.4", crc32(b"10151000000001004250000000"))).await;
    actor.handled().await;
    assert_eq!(heard.ticks(), ["BTC/USD quote 2.50000000 @ 100.4 | 1.00000000 @ 101.5"]);
    assert_eq!(heard.count(FeedCounter::BookChecksums), 1);
    assert_eq!(heard.count(FeedCounter::Reconnects), 0);
    heard.end();
}

/// CRC-32 of IEEE 802.3, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc: u32, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}

#[tokio::test]
async fn books_of_changes_are_stitched_to_a_snapshot_that_is_fetched() {
    let (stage, rest, role) = (Stage::open().await, Stage::open().await, binance());
    let settings = LiveSettings {
        quotes: QuoteOrigin::Books { depth: None },
        snapshot_url: Some(rest.url("http", "/api/v3/depth")),
        ..role.settings(role.url(&stage), PATIENT)
    };
    let mut heard = Heard::start(&settings);
    let mut actor = stage.accept().await;
    let streams = json!(["btcusdt@trade", "btcusdt@depth@100ms"]);
    assert_eq!(value(actor.hear().await), json!({"method": "SUBSCRIBE", "params": streams, "id": 1}));
    actor.say(&text(r#"{"result":null,"id":1}"#)).await;
    let change = |first: u64, last: u64, bids: &str| {
        text(&format!(
            r#"{{"stream":"btcusdt@depth@100ms","data":{{"e":"depthUpdate","E":1633998512068,"s":"BTCUSDT","U":{first},"u":{last},"b":{bids},"a":[]}}}}"#
        ))
    };
    let snapshot = |last: u64| {
        let body =
            format!(r#"{{"lastUpdateId":{last},"bids":[["10.0","1.0"],["9.0","4.0"]],"asks":[["11.0","3.0"]]}}"#);
        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    };
    let request = "GET /api/v3/depth?symbol=BTCUSDT&limit=1000 HTTP/1.1";
    // The first change asks for the snapshot; those up to it wait, or are in it already.
    actor.say(&change(90, 95, r#"[["10.0","7.0"]]"#)).await;
    actor.say(&change(96, 103, r#"[["10.5","2.0"]]"#)).await;
    actor.handled().await;
    assert_eq!(rest.answer(&snapshot(100)).await, request);
    heard.listener.read_until("the book", |listener| listener.count(FeedCounter::Quotes) == 1);
    assert_eq!(heard.ticks(), ["BTC/USDT quote 2.0 @ 10.5 | 3.0 @ 11.0"]);
    actor.say(&change(104, 104, r#"[["10.5","0.0"]]"#)).await;
    actor.handled().await;
    assert_eq!(heard.ticks(), ["BTC/USDT quote 1.0 @ 10.0 | 3.0 @ 11.0"]);
    // A change is missing. The first answer is none, the second too old, the third bridges.
    actor.say(&change(106, 106, r#"[["10.6","1.0"]]"#)).await;
    rest.answer("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n").await;
    actor.say(&change(107, 108, r#"[["10.7","1.0"]]"#)).await;
    actor.handled().await;
    assert_eq!(rest.answer(&snapshot(90)).await, request);
    rest.answer(&snapshot(106)).await;
    actor.say(&change(107, 109, r#"[["10.8","1.0"]]"#)).await;
    heard.listener.read_until("the book", |listener| listener.count(FeedCounter::Quotes) == 3);
    assert_eq!(heard.ticks(), ["BTC/USDT quote 1.0 @ 10.8 | 3.0 @ 11.0"]);
    assert_eq!(heard.count(FeedCounter::BookGaps), 2);
    assert_eq!(heard.count(FeedCounter::Reconnects), 0);
    heard.end();
}
