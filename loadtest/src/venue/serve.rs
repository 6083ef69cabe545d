//! The venue's thread: one loop over its lines, its market and its schedules.
//!
//! What is due at a turn goes to every line in one write. Waits that are long are spent in `epoll`, the last
//! millisecond or two of each in `nanosleep`, since `epoll` counts in milliseconds; a line's request waits that long
//! at worst.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};
use protocol::CloseCode;

use super::line::{Line, LineEnd};
use super::market::{Channel, Market};
use super::schedule::Schedule;
use super::{Shared, VenueSettings};
use crate::clock::{nanos, wall_ns};

/// Shortest wait: above 5,000 frames a second they leave in small batches, ten at 50,000, instead of with a system call
/// for each. It shows in the lag.
const WAIT_MIN: Duration = Duration::from_micros(200);

/// What the last part of a wait is left to `nanosleep`.
const FINE: Duration = Duration::from_millis(2);

/// How late the kernel may end a sleep to save wake-ups; its default is 50 us.
const TIMER_SLACK_NS: u64 = 1_000;

/// Frames in one turn: 300 KB, so that lines are served at least that often while a backlog is made up for.
const FRAMES_MAX: usize = 1_024;

/// Between two readings of how far wall time is from the monotonic one: NTP may set it meanwhile.
const WALL_INTERVAL: Duration = Duration::from_secs(1);

/// Open connections, at most; more are refused at once.
const LINES_MAX: usize = 1_024;

/// How long lines that are open may take what waits for them when the venue is closed.
const FAREWELL: Duration = Duration::from_millis(500);

const READ_BYTES: usize = 64 * 1024;

const LISTENER: Token = Token(usize::MAX);
const WAKER: Token = Token(usize::MAX - 1);

pub(super) struct Server {
    poll: Poll,
    waker: Arc<Waker>,
    listener: TcpListener,
    lines: Vec<Option<(TcpStream, Line)>>,
    market: Market,
    frames: Schedule,
    heartbeats: Schedule,
    /// The product whose heartbeat is next.
    beat: usize,
    shared: Arc<Shared>,
    start: Instant,
    /// Wall time at `start`, Unix ns, by the latest reading.
    wall_ns: i64,
    batch: Batch,
    buffer: Box<[u8]>,
}

/// The frames of a turn.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    /// Of each frame: its end in `bytes`, its product, its channel, and when it was due (ns since the start).
    frames: Vec<(usize, usize, Channel, u64)>,
}

impl Server {
    pub(super) fn bind(settings: &VenueSettings, shared: Arc<Shared>) -> io::Result<Server> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let mut listener = TcpListener::bind(settings.listen)?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let (start, wall_ns) = wall_of_start(None);
        Ok(Server {
            poll,
            waker,
            listener,
            lines: Vec::new(),
            market: Market::new(&settings.products, settings.trade_share, settings.popularity, settings.seed),
            frames: Schedule::new(settings.rate, 0),
            // One a second for each product, spread over the second.
            heartbeats: Schedule::new(settings.products.len() as f64, 0),
            beat: 0,
            shared,
            start,
            wall_ns,
            batch: Batch::default(),
            buffer: vec![0; READ_BYTES].into(),
        })
    }

    pub(super) fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    pub(super) fn waker(&self) -> Arc<Waker> {
        Arc::clone(&self.waker)
    }

    pub(super) fn run(mut self) {
        // Without it, sleeps end 50 us late: worth having, not worth failing for.
        let _ = nix::sys::prctl::set_timerslack(TIMER_SLACK_NS);
        let mut events = Events::with_capacity(256);
        let mut wall_read = Instant::now();
        while !self.shared.stop.load(Ordering::Relaxed) {
            if wall_read.elapsed() >= WALL_INTERVAL {
                self.wall_ns = wall_of_start(Some(self.start)).1;
                wall_read = Instant::now();
            }
            let now = self.now();
            self.fill(now);
            self.deliver();
            // Only behind what was due by then at the old rate.
            if self.batch.frames.len() < FRAMES_MAX {
                self.take_wishes();
            }
            let wait = self.wait();
            let coarse = if wait >= FINE { wait - FINE / 2 } else { Duration::ZERO };
            match self.poll.poll(&mut events, Some(Duration::from_millis(coarse.as_millis() as u64))) {
                Err(error) if error.kind() != ErrorKind::Interrupted => {
                    panic!("Invariant: an epoll set that was made can be waited for ({error})")
                }
                _ => {}
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.accept(),
                    WAKER => {}
                    Token(at) => self.serve(at, event.is_readable()),
                }
            }
            if coarse.is_zero() {
                thread::sleep(self.wait());
            }
        }
        self.close();
    }

    /// ns since the start.
    fn now(&self) -> u64 {
        nanos(self.start.elapsed())
    }

    fn wall(&self, ns: u64) -> i64 {
        self.wall_ns + ns as i64
    }

    /// Until the next frame is due; nothing while a backlog is made up for.
    fn wait(&self) -> Duration {
        if self.batch.frames.len() == FRAMES_MAX {
            return Duration::ZERO;
        }
        let due = [self.frames.next_due(), self.heartbeats.next_due()].into_iter().flatten().min();
        // Whatever is due, a change of the rate is seen within a minute even if waking the thread failed.
        let until = due.map_or(Duration::from_secs(60), |due| Duration::from_nanos(due.saturating_sub(self.now())));
        until.clamp(WAIT_MIN, Duration::from_secs(60))
    }

    /// Writes what is due.
    fn fill(&mut self, now: u64) {
        let Batch { bytes, frames } = &mut self.batch;
        bytes.clear();
        frames.clear();
        // These first: they are few, and a machine that is too slow for the others still shows life.
        while frames.len() < FRAMES_MAX
            && let Some(due) = self.heartbeats.take_due(now)
        {
            self.market.write_heartbeat(self.beat, self.wall_ns + due as i64, bytes);
            frames.push((bytes.len(), self.beat, Channel::Heartbeat, due));
            self.beat = (self.beat + 1) % self.market.products();
        }
        while frames.len() < FRAMES_MAX
            && let Some(due) = self.frames.take_due(now)
        {
            let (product, channel) = self.market.write_next(self.wall_ns + due as i64, bytes);
            frames.push((bytes.len(), product, channel, due));
        }
    }

    /// Hands the turn's frames to the lines that want them.
    fn deliver(&mut self) {
        if self.batch.frames.is_empty() {
            return;
        }
        let now = self.now();
        let shared = Arc::clone(&self.shared);
        let counters = &shared.counters;
        let mut lag = shared.lag.lock().unwrap_or_else(PoisonError::into_inner);
        let mut of_channel = [0u64; 3];
        for (_, _, channel, due) in &self.batch.frames {
            of_channel[index(*channel)] += 1;
            if *channel != Channel::Heartbeat {
                lag.record(now.saturating_sub(*due));
            }
        }
        drop(lag);
        add(&counters.made, of_channel.iter().sum());
        let sent = [&counters.tickers, &counters.matches, &counters.heartbeats];
        for at in 0..self.lines.len() {
            let Some((socket, line)) = &mut self.lines[at] else { continue };
            if line.is_closing() {
                continue;
            }
            let delivered = if line.wants_all() {
                sent.iter().zip(of_channel).for_each(|(counter, count)| add(counter, count));
                self.batch.send_all(socket, line)
            } else {
                self.batch.send_wanted(line, |channel| add(sent[index(channel)], 1)).and_then(|()| write(socket, line))
            };
            if let Err(end) = delivered {
                self.end(at, &end);
            }
        }
    }

    /// What the handle asks for.
    fn take_wishes(&mut self) {
        let mut wishes = self.shared.wishes.lock().unwrap_or_else(PoisonError::into_inner);
        let (rate, trade_share) = (wishes.rate.take(), wishes.trade_share.take());
        drop(wishes);
        if let Some(share) = trade_share {
            self.market.set_trade_share(share);
        }
        if let Some(rate) = rate {
            self.frames.set_rate(rate, self.now());
        }
    }

    fn accept(&mut self) {
        loop {
            let mut socket = match self.listener.accept() {
                Ok((socket, _)) => socket,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                // Nobody waits any more, or the one who did is gone.
                Err(_) => return,
            };
            let free = self.lines.iter().position(Option::is_none).unwrap_or(self.lines.len());
            // Without it, frames of a quiet line wait for the acknowledgement of those before.
            let registered = socket.set_nodelay(true).and_then(|()| {
                let interest = Interest::READABLE | Interest::WRITABLE;
                self.poll.registry().register(&mut socket, Token(free), interest)
            });
            if free >= LINES_MAX || registered.is_err() {
                continue;
            }
            if free == self.lines.len() {
                self.lines.push(None);
            }
            self.lines[free] = Some((socket, Line::new(self.market.products())));
            add(&self.shared.counters.lines, 1);
            add(&self.shared.counters.lines_open, 1);
        }
    }

    /// Reads and writes what a line's socket allows.
    fn serve(&mut self, at: usize, is_readable: bool) {
        let now_ns = self.wall(self.now());
        let Some(Some((socket, line))) = self.lines.get_mut(at) else { return };
        let mut served = Ok(());
        while is_readable && served.is_ok() {
            match socket.read(&mut self.buffer) {
                Ok(0) => served = Err(LineEnd::Closed),
                Ok(count) => served = line.receive(&mut self.buffer[..count], &mut self.market, now_ns),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => served = Err(LineEnd::Closed),
            }
        }
        if let Err(end) = served.and_then(|()| write(socket, line)) {
            self.end(at, &end);
        }
    }

    fn end(&mut self, at: usize, end: &LineEnd) {
        if let Some((mut socket, _)) = self.lines[at].take() {
            // The socket is closed with the line, so nothing is lost where this fails.
            let _ = self.poll.registry().deregister(&mut socket);
            let counters = &self.shared.counters;
            counters.lines_open.fetch_sub(1, Ordering::Relaxed);
            add(&counters.lines_slow, u64::from(matches!(end, LineEnd::TooSlow)));
        }
    }

    /// Tells the lines that the venue goes away, and gives them a moment to take what waits.
    fn close(mut self) {
        let until = Instant::now() + FAREWELL;
        for (_, line) in self.lines.iter_mut().flatten() {
            line.close(CloseCode::GoingAway);
        }
        let mut events = Events::with_capacity(256);
        loop {
            for at in 0..self.lines.len() {
                let Some((socket, line)) = &mut self.lines[at] else { continue };
                if let Err(end) = write(socket, line) {
                    self.end(at, &end);
                }
            }
            let left = until.saturating_duration_since(Instant::now());
            let is_over = left.is_zero() || self.lines.iter().all(Option::is_none);
            if is_over || self.poll.poll(&mut events, Some(left)).is_err() {
                return;
            }
        }
    }
}

impl Batch {
    /// Gives everything to a line that wants it; copies only what its socket does not take.
    fn send_all(&self, socket: &mut TcpStream, line: &mut Line) -> Result<(), LineEnd> {
        let written = if line.out().is_empty() { write_some(socket, &self.bytes)? } else { 0 };
        line.send(&self.bytes[written..])?;
        write(socket, line)
    }

    /// Queues what a line wants of it.
    fn send_wanted(&self, line: &mut Line, mut on_frame: impl FnMut(Channel)) -> Result<(), LineEnd> {
        let mut start = 0;
        for (end, product, channel, _) in &self.frames {
            if line.wants(*product, *channel) {
                line.send(&self.bytes[start..*end])?;
                on_frame(*channel);
            }
            start = *end;
        }
        Ok(())
    }
}

/// Writes what waits for a line, as far as its socket takes it.
fn write(socket: &mut TcpStream, line: &mut Line) -> Result<(), LineEnd> {
    if !line.out().is_empty() {
        let written = write_some(socket, line.out())?;
        line.handle_sent(written);
    }
    if line.is_closing() && line.out().is_empty() { Err(LineEnd::Closed) } else { Ok(()) }
}

/// Writes until the socket takes no more; returns how much it took.
fn write_some(socket: &mut TcpStream, bytes: &[u8]) -> Result<usize, LineEnd> {
    let mut written = 0;
    while written < bytes.len() {
        match socket.write(&bytes[written..]) {
            Ok(0) => return Err(LineEnd::Closed),
            Ok(count) => written += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(_) => return Err(LineEnd::Closed),
        }
    }
    Ok(written)
}

fn index(channel: Channel) -> usize {
    (channel as u8).trailing_zeros() as usize
}

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

/// A moment of the monotonic clock, and what the wall clock showed then, Unix ns. With `start` the wall time of that
/// moment as it follows from now.
fn wall_of_start(start: Option<Instant>) -> (Instant, i64) {
    // The thread may lose its core between the two clocks, so the closest of a few readings counts.
    let readings = (0..5).map(|_| {
        let before = Instant::now();
        let wall = wall_ns();
        (before.elapsed(), before, wall)
    });
    let (_, at, wall) = readings.min_by_key(|(apart, ..)| *apart).expect("Invariant: there are readings");
    let start = start.unwrap_or(at);
    (start, wall - nanos(at.saturating_duration_since(start)) as i64)
}
