//! A venue of one's own over HTTP: a server on this machine that reads requests and says, byte by byte, what the test
//! wants it to say. And the log of the sources, in which no secret may appear.

// Each test file is a crate of its own and uses a part of this.
#![allow(dead_code)]

use std::fmt::{Debug, Write as _};
use std::sync::{Arc, Mutex, Once};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use feed_handlers::dead_letter::{DeadLetterOffice, dead_letters};
use feed_handlers::feed::{Feed, FeedCounter, QuoteOrigin};
use feed_handlers::source::{FeedState, FeedStatus, Stop, Timings};
use feed_handlers::venue::Venue;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::support::{Listener, PATIENCE, feed_with};

/// What every source under test signs in with. It has bytes that an address cannot hold as they are.
pub(crate) const SECRET: &str = "S3CR3T+k/y=";

/// How the secret looks in an address.
pub(crate) const SECRET_IN_QUERY: &str = "S3CR3T%2Bk%2Fy%3D";

/// Supervision that never interferes on its own, and comes back at once.
pub(crate) fn patient() -> Timings {
    Timings {
        connect: PATIENCE,
        stale: PATIENCE,
        silence: PATIENCE,
        backoff_min: Duration::from_millis(1),
        backoff_max: Duration::from_millis(5),
        throttled: Duration::from_millis(1),
        refused: PATIENCE,
        ..Timings::default()
    }
}

pub(crate) struct HttpVenue(TcpListener);

impl HttpVenue {
    pub(crate) async fn open() -> HttpVenue {
        HttpVenue(TcpListener::bind("127.0.0.1:0").await.expect("a port"))
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.0.local_addr().expect("bound"))
    }

    /// The next connection, before its request is read.
    pub(crate) async fn accept_raw(&self) -> TcpStream {
        let (socket, _) = timeout(PATIENCE, self.0.accept()).await.expect("the client comes").expect("accept");
        socket.set_nodelay(true).expect("no delay");
        socket
    }

    /// The next request.
    pub(crate) async fn accept(&self) -> Exchange {
        let mut socket = self.accept_raw().await;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(timeout(PATIENCE, socket.read_u8()).await.expect("a request").expect("a request"));
        }
        let head = String::from_utf8(head).expect("text");
        let mut lines = head.trim_end().split("\r\n").map(str::to_owned);
        let target = lines.next().expect("a request line");
        let target = target.strip_prefix("GET ").and_then(|line| line.strip_suffix(" HTTP/1.1")).expect("a GET");
        Exchange { socket, target: target.to_owned(), headers: lines.collect() }
    }

    /// Whether nobody comes within `time`.
    pub(crate) async fn nobody_comes_for(&self, time: Duration) -> bool {
        timeout(time, self.0.accept()).await.is_err()
    }
}

/// A request, and the connection to answer it on.
pub(crate) struct Exchange {
    pub(crate) socket: TcpStream,
    /// Path and query.
    pub(crate) target: String,
    headers: Vec<String>,
}

impl Exchange {
    #[track_caller]
    pub(crate) fn header(&self, name: &str) -> &str {
        let value = |line| str::split_once(line, ": ").filter(|(found, _)| found.eq_ignore_ascii_case(name));
        self.headers.iter().find_map(|line| value(line)).expect(name).1
    }

    pub(crate) async fn raw(&mut self, bytes: impl AsRef<[u8]>) {
        self.socket.write_all(bytes.as_ref()).await.expect("write");
    }

    /// Begins an endless answer.
    pub(crate) async fn begin(&mut self, content_type: &str) {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ntransfer-encoding: chunked\r\n\r\n");
        self.raw(head).await;
    }

    pub(crate) async fn chunk(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        self.raw([format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()).await;
    }

    /// Ends the answer as HTTP has it.
    pub(crate) async fn end(mut self) {
        self.raw("0\r\n\r\n").await;
    }

    /// Ends the connection with a reset; what is on its way is lost.
    pub(crate) fn reset(self) {
        self.socket.set_zero_linger().expect("linger");
    }

    /// A whole answer. `status` as `429 Too Many Requests`; `headers` each with its end.
    pub(crate) async fn answer(mut self, status: &str, headers: &str, body: &str) {
        let length = body.len();
        self.raw(format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\n\r\n{body}")).await;
    }

    /// Sends this chunk again and again until the client ends the connection.
    pub(crate) async fn until_given_up_in_spite_of(mut self, chunk: &str) {
        let chunk = format!("{:x}\r\n{chunk}\r\n", chunk.len());
        let given_up = async {
            while self.socket.write_all(chunk.as_bytes()).await.is_ok() {
                if let Ok(Ok(0) | Err(_)) = timeout(Duration::from_millis(20), self.socket.read(&mut [0; 64])).await {
                    return;
                }
            }
        };
        timeout(PATIENCE, given_up).await.expect("the client gives up");
    }

    /// Waits until the client ended the connection.
    pub(crate) async fn until_given_up(mut self) {
        let mut rest = [0; 64];
        while let Ok(1..) = timeout(PATIENCE, self.socket.read(&mut rest)).await.expect("the client gives up") {}
    }
}

/// A source under test, and who listens to it.
pub(crate) struct Live {
    pub(crate) listener: Listener,
    pub(crate) dead: DeadLetterOffice,
    pub(crate) status: Arc<FeedStatus>,
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
}

impl Live {
    pub(crate) fn start(
        venue: Venue,
        status: Arc<FeedStatus>,
        spawn: impl FnOnce(Feed, Arc<Stop>) -> std::io::Result<JoinHandle<()>>,
    ) -> Live {
        Live::start_with(venue, QuoteOrigin::Quotes, status, spawn)
    }

    /// The same with quotes of either origin.
    pub(crate) fn start_with(
        venue: Venue,
        quotes: QuoteOrigin,
        status: Arc<FeedStatus>,
        spawn: impl FnOnce(Feed, Arc<Stop>) -> std::io::Result<JoinHandle<()>>,
    ) -> Live {
        record_log();
        let (letters, dead) = dead_letters();
        let (feed, listener) = feed_with(venue, quotes, 1 << 16, Some(letters));
        let stop = Stop::new();
        let thread = spawn(feed, Arc::clone(&stop)).expect("a thread");
        Live { listener, dead, status, stop, thread: Some(thread) }
    }

    pub(crate) fn count(&self, counter: FeedCounter) -> u64 {
        self.listener.count(counter)
    }

    pub(crate) fn quotes(&self) -> u64 {
        self.count(FeedCounter::Quotes)
    }

    pub(crate) async fn until_count(&self, counter: FeedCounter, count: u64) {
        self.until(&format!("{count} {}", counter.name()), || self.count(counter) >= count).await;
        assert_eq!(self.count(counter), count, "{}", counter.name());
    }

    pub(crate) async fn until_state(&self, state: FeedState) {
        self.until(state.name(), || self.status.state() == state).await;
    }

    /// Waits without holding the venue up.
    pub(crate) async fn until(&self, what: &str, ready: impl Fn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !ready() {
            assert!(Instant::now() < deadline, "not in {PATIENCE:?}: {what}; the log: {:#?}", log());
            tokio::task::yield_now().await;
        }
    }

    /// Ends the source, and sees to it that nothing anywhere shows the secret.
    pub(crate) fn end(mut self) -> Listener {
        self.stop.stop();
        self.thread.take().expect("running").join().expect("no panic");
        assert_eq!(self.status.state(), FeedState::Down);
        for line in log() {
            assert!(!line.contains(SECRET) && !line.contains(SECRET_IN_QUERY), "a secret in the log: {line}");
        }
        self.listener.read();
        self.listener
    }
}

/// All that the process logged so far.
static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

pub(crate) fn log() -> Vec<String> {
    LINES.lock().expect("no panic").clone()
}

fn record_log() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| tracing::subscriber::set_global_default(Recorder).expect("the first"));
}

/// Notes every event with all its fields, of every level.
struct Recorder;

impl Subscriber for Recorder {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("feed_handlers")
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(event.metadata().level().to_string());
        event.record(&mut line);
        LINES.lock().expect("no panic").push(line.0);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = write!(self.0, " {}={value:?}", field.name());
    }
}
