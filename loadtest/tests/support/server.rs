//! A server that speaks the gateway's protocol, and does wrong where it is told to.
//!
//! There is one channel of trades for each symbol that clients name, and all of them have the same numbers: half a second
//! after so many clients have subscribed, trade `n` is due in `n / rate` seconds, up to the last one. Only heartbeats follow.
//! So everybody who reads to the end has read the same, and what the server counted can be held against what the
//! harness counted, to the message.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use super::framing::Framing;
use super::session;

/// From the last client's subscription to the first trade: everybody knows by then that all are there, so that whoever
/// does not get the first trade lacks it.
const BEFORE_TRADES: Duration = Duration::from_millis(500);

/// What is done about one trade for one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed {
    Send,
    Skip,
    Twice,
    /// Behind the next one.
    Late,
    /// So much later than it is stamped, and everything after it with it.
    Held(Duration),
    /// It is announced as a gap instead.
    Announce,
    /// The venue's own gap, which takes the trade's number, of so many trades.
    VenueGap(u64),
    /// With another number than its own.
    Numbered(u64),
    /// The payload of a frame in its place.
    Instead(Vec<u8>),
    /// The payload of a frame besides.
    Besides(Vec<u8>),
    /// Nothing more comes, not even a heartbeat; the connection stays.
    Silence,
    /// The connection ends without a word.
    Cut,
    /// The connection is closed with that code.
    Close(protocol::CloseCode),
}

/// Who is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    Open,
    /// HTTP 401 before the upgrade.
    Http401,
    /// Error 402 and close 3500 after it.
    Error402,
    /// Error 409 for every symbol.
    Error409,
}

/// What a client that returns with `since` gets first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume {
    Exact,
    /// The first of what it lacks is left out.
    SkipsOne,
    /// The last of what it has comes again.
    RepeatsOne,
}

pub type Script = dyn Fn(usize, u64) -> Deed + Send + Sync;

pub struct Settings {
    /// Trades begin when so many connections have subscribed.
    pub clients: usize,
    /// The number of the last trade.
    pub trades: u64,
    /// Trades a second.
    pub rate: u64,
    /// By how much the server's clock is ahead.
    pub ahead: Duration,
    pub door: Door,
    pub resume: Resume,
    pub framing: Framing,
    /// From a connection to the answer to its upgrade.
    pub accept_delay: Duration,
    /// By connection, counted from 0 as they come, and number of the trade.
    pub script: Box<Script>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            clients: 4,
            trades: 1_000,
            rate: 500,
            ahead: Duration::ZERO,
            door: Door::Open,
            resume: Resume::Exact,
            framing: Framing::Single,
            accept_delay: Duration::ZERO,
            script: Box::new(|_, _| Deed::Send),
        }
    }
}

/// What the server did, counted as the harness is to count it.
#[derive(Debug, Default)]
pub struct Tally {
    /// Trades that went out, each time that they did.
    pub messages: AtomicU64,
    pub missing: AtomicU64,
    pub duplicates: AtomicU64,
    pub reordered: AtomicU64,
    pub announced: AtomicU64,
    pub malformed: AtomicU64,
    pub connections: AtomicU64,
    pub resumed: AtomicU64,
}

impl Tally {
    pub fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Ordering::Relaxed);
    }
}

pub struct Shared {
    pub settings: Settings,
    pub tally: Tally,
    pub epoch: u64,
    pub stop: AtomicBool,
    subscribed: AtomicUsize,
    /// When trades began.
    start: Mutex<Option<Instant>>,
}

impl Shared {
    /// A connection has subscribed for the first time.
    pub fn count_subscriber(&self) {
        if self.subscribed.fetch_add(1, Ordering::SeqCst) + 1 == self.settings.clients {
            *self.start.lock().unwrap() = Some(Instant::now() + BEFORE_TRADES);
        }
    }

    /// The number of the last trade that is due; 0 before the first one.
    pub fn published(&self) -> u64 {
        let Some(start) = *self.start.lock().unwrap() else { return 0 };
        // Nothing before the start: this is 0 then.
        let due =
            Instant::now().saturating_duration_since(start).as_nanos() * u128::from(self.settings.rate) / 1_000_000_000;
        u64::try_from(due).unwrap().min(self.settings.trades)
    }

    /// Until the trade behind the last one that is due; at most until the next look at whether they have begun.
    pub fn until_next(&self) -> Duration {
        let Some(start) = *self.start.lock().unwrap() else { return super::LOOK };
        let published = self.published();
        if published == self.settings.trades {
            return super::LOOK;
        }
        let next = Duration::from_nanos((published + 1) * 1_000_000_000 / self.settings.rate);
        (start + next).saturating_duration_since(Instant::now())
    }

    /// The server's clock, Unix ns.
    pub fn wall_ns(&self) -> i64 {
        let now = SystemTime::now() + self.settings.ahead;
        now.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as i64
    }
}

/// A server that runs. Dropping it ends it.
pub struct Server {
    pub address: SocketAddr,
    pub shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

impl Server {
    pub fn start(settings: Settings) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            settings,
            tally: Tally::default(),
            epoch: 1_763_654_400_123,
            stop: AtomicBool::new(false),
            subscribed: AtomicUsize::new(0),
            start: Mutex::new(None),
        });
        let of_acceptor = Arc::clone(&shared);
        let acceptor = std::thread::spawn(move || accept(&listener, &of_acceptor));
        Server { address, shared, acceptor: Some(acceptor) }
    }

    pub fn url(&self) -> String {
        format!("ws://{}/stream", self.address)
    }

    pub fn tally(&self) -> &Tally {
        &self.shared.tally
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut sessions = Vec::new();
    for (index, stream) in listener.incoming().enumerate() {
        if shared.stop.load(Ordering::SeqCst) {
            break;
        }
        let (stream, shared) = (stream.unwrap(), Arc::clone(shared));
        Tally::add(&shared.tally.connections, 1);
        sessions.push(std::thread::spawn(move || session::serve(stream, index, &shared)));
    }
    for session in sessions {
        session.join().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        // Wakes the acceptor.
        let _ = TcpStream::connect(self.address);
        let ended = self.acceptor.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            ended.unwrap().expect("a session of the server panicked");
        }
    }
}
