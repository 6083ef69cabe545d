//! A worker process: one thread, one epoll set, very many clients.
//!
//! It reads orders from its standard input (a second thread, which only waits for lines) and writes words to its standard
//! output. Everything that is to happen at a time of its own (connects, returns, commands, the end of an interval) is
//! planned as a monotonic time and woken for by one timer. Deliberately absent: totals and judgements.

mod jobs;
mod settle;
mod timer;

use std::borrow::Cow;
use std::io::{self, BufRead, Write};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::thread;

use anyhow::Context as _;
use mio::{Events, Interest, Poll, Token, Waker};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use crate::client::{Client, Ending, Shared, Stage};
use crate::clock::Clock;
use crate::orders::{Assignment, Order, TurnedAway, Word};
use crate::sample::FaultKind;
use crate::transport::{Opening, Transport, tls_config};

use jobs::Jobs;
use settle::Settle;
use timer::Timer;

/// One read takes at most so much, so that no client keeps the others waiting: 1,000 messages of 150 bytes and more.
const READ_BYTES: usize = 256 << 10;

/// Readinesses taken at once.
const EVENTS: usize = 1_024;

/// Length of an interval, ns. Intervals end at whole seconds of the wall clock, so that those of all workers are the same.
pub const INTERVAL_NS: u64 = 1_000_000_000;

/// Of so many clients of a worker, one has its bytes' arrival noted by the kernel.
const STAMPED_EVERY: usize = 64;

/// Attempts of a client that is told to come back later.
const ATTEMPTS_MAX: u8 = 30;

const ORDERS: Token = Token(usize::MAX);
const TIMER: Token = Token(usize::MAX - 1);

#[derive(Debug)]
struct Entry {
    client: Client,
    transport: Option<Transport>,
    /// What the socket did not take yet.
    unsent: Vec<u8>,
    /// Not reading, on purpose.
    stalled: bool,
    /// The server refused or dropped it, and no connection was begun since.
    gone: bool,
    attempts: u8,
}

#[derive(Debug)]
struct Worker {
    poll: Poll,
    timer: Timer,
    clock: Clock,
    shared: Shared,
    entries: Vec<Entry>,
    buffer: Vec<u8>,
    /// Clients that may have more to read.
    again: Vec<usize>,
    jobs: Jobs,
    settle: Option<Settle>,
    /// End of the interval, monotonic ns.
    interval_end_ns: u64,
    /// Clients between the start of a connection and the answer to their subscription.
    under_way: usize,
    /// Whether any client has had a session.
    ever_live: bool,
    turned_away: bool,
    tls: Option<Arc<ClientConfig>>,
    names: Vec<Option<ServerName<'static>>>,
}

/// Whether the loop goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    On,
    End,
}

/// Runs a worker: the assignment is the first line of standard input.
///
/// # Errors
/// The assignment cannot be read, or the system refuses an epoll set.
pub fn run() -> anyhow::Result<()> {
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).context("reading the assignment")?;
    let assignment: Assignment = serde_json::from_str(&line).context("reading the assignment")?;
    let poll = Poll::new().context("an epoll set")?;
    let waker = Waker::new(poll.registry(), ORDERS).context("an event descriptor")?;
    let (sender, orders) = mpsc::channel();
    thread::Builder::new()
        .name("orders".to_owned())
        .spawn(move || {
            for line in io::stdin().lock().lines() {
                let order = line.map_err(|e| e.to_string()).and_then(|line| {
                    serde_json::from_str::<Order>(&line).map_err(|e| format!("an order that is none: {e}"))
                });
                if sender.send(order).is_err() || waker.wake().is_err() {
                    return;
                }
            }
            // Standard input is over: so is the coordinator.
            drop(sender);
            let _ = waker.wake();
        })
        .context("a thread for orders")?;
    match Worker::new(assignment, poll)?.turn(&orders) {
        // Sockets' errors are endings of clients: this is the coordinator's end of standard output. It ended the run, and
        // says itself why.
        Err(error) if is_broken_pipe(&error) => Ok(()),
        turned => turned,
    }
}

/// Whether nobody reads any more what was to be written.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let causes = || error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    causes().any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}

impl Worker {
    fn new(assignment: Assignment, poll: Poll) -> anyhow::Result<Worker> {
        let clock = Clock::start();
        let timer = Timer::new().context("a timer descriptor")?;
        timer.register(poll.registry(), TIMER).context("registering the timer")?;
        let tls = if assignment.targets.iter().any(|target| target.tls) {
            Some(tls_config(&assignment.tls).context("setting up TLS")?)
        } else {
            None
        };
        let names = assignment
            .targets
            .iter()
            .map(|target| {
                let name = target.tls.then(|| ServerName::try_from(target.host.clone())).transpose();
                name.with_context(|| format!("{} is no name for a certificate", target.host))
            })
            .collect::<anyhow::Result<_>>()?;
        let shared = Shared::new(assignment, clock.now());
        Ok(Worker {
            poll,
            timer,
            clock,
            shared,
            entries: Vec::new(),
            buffer: vec![0; READ_BYTES],
            again: Vec::new(),
            jobs: Jobs::default(),
            settle: None,
            interval_end_ns: 0,
            under_way: 0,
            ever_live: false,
            turned_away: false,
            tls,
            names,
        })
    }

    fn turn(mut self, orders: &Receiver<Result<Order, String>>) -> anyhow::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        self.plan_interval();
        loop {
            self.timer.arm(self.next_due_ns(), self.clock.mono_ns()).context("setting the timer")?;
            let at_once = !self.again.is_empty() || self.jobs.is_overdue(self.clock.mono_ns());
            match self.poll.poll(&mut events, at_once.then_some(std::time::Duration::ZERO)) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error).context("waiting for sockets"),
            }
            let again = std::mem::take(&mut self.again);
            let mut ordered = false;
            for event in &events {
                match event.token() {
                    ORDERS => ordered = true,
                    TIMER => {}
                    Token(index) => self.ready(index, event.is_writable(), event.is_read_closed())?,
                }
            }
            for index in again {
                self.ready(index, false, true)?;
            }
            self.shared.now = self.clock.now();
            if ordered && self.obey_all(orders)? == Flow::End {
                return Ok(());
            }
            self.work()?;
            self.settle()?;
            if self.shared.now.mono_ns >= self.interval_end_ns {
                self.end_interval()?;
                self.plan_interval();
            }
        }
    }

    /// Does what was ordered until now.
    fn obey_all(&mut self, orders: &Receiver<Result<Order, String>>) -> anyhow::Result<Flow> {
        loop {
            match orders.try_recv() {
                Ok(order) => {
                    if self.obey(order.map_err(anyhow::Error::msg)?)? == Flow::End {
                        return Ok(Flow::End);
                    }
                }
                Err(TryRecvError::Empty) => return Ok(Flow::On),
                // The coordinator has ended, and has said why.
                Err(TryRecvError::Disconnected) => return Ok(Flow::End),
            }
        }
    }

    fn next_due_ns(&self) -> u64 {
        let settle_ns = self.settle.as_ref().map_or(u64::MAX, |settle| settle.next_ns());
        self.interval_end_ns.min(self.jobs.next_due_ns()).min(settle_ns)
    }

    fn plan_interval(&mut self) {
        let now = self.clock.now();
        let into = u64::try_from(now.wall_ns).unwrap_or(0) % INTERVAL_NS;
        self.interval_end_ns = now.mono_ns + INTERVAL_NS - into;
    }

    fn end_interval(&mut self) -> anyhow::Result<()> {
        let gauges = &mut self.shared.tally.sample.gauges;
        *gauges = Default::default();
        for entry in &self.entries {
            // Each client counts once.
            match entry.client.stage() {
                Stage::Away => gauges.gone += u64::from(entry.gone),
                Stage::Live if entry.stalled => gauges.stalled += 1,
                Stage::Live => gauges.ready += 1,
                _ => gauges.connecting += 1,
            }
        }
        self.shared.tally.end_interval(self.clock.now(), |sample| tell(&Word::Sample(Cow::Borrowed(sample))))
    }

    fn obey(&mut self, order: Order) -> anyhow::Result<Flow> {
        match order {
            Order::Phase { index, job, start_ns } => {
                self.end_interval()?;
                self.shared.tally.begin_phase(index);
                self.begin(index, job, start_ns);
            }
            Order::Survey => tell(&Word::Surveyed { marks: self.survey() })?,
            Order::Baseline { marks } => self.baseline(&marks),
            Order::Settle { marks, wait_ns } => self.begin_settling(&marks, wait_ns),
            Order::Await { versions, wait_ns } => self.begin_awaiting(versions, wait_ns),
            Order::End => {
                self.end_interval()?;
                tell(&Word::Ended)?;
                return Ok(Flow::End);
            }
        }
        Ok(Flow::On)
    }

    /// A client's socket may be ready.
    fn ready(&mut self, index: usize, writable: bool, more: bool) -> anyhow::Result<()> {
        let Some(entry) = self.entries.get_mut(index) else { return Ok(()) };
        let Some(transport) = &mut entry.transport else { return Ok(()) };
        if entry.stalled {
            return Ok(());
        }
        let shared = &mut self.shared;
        if entry.client.stage() == Stage::Connecting {
            match transport.go_on() {
                Ok(Opening::UnderWay) => return Ok(()),
                Ok(Opening::Open) => {
                    let target = target_of(entry.client.number(), shared);
                    entry.client.opened(target, shared);
                    let sent = send(transport, &mut entry.unsent, &mut shared.out);
                    if let Err(error) = sent {
                        let ending = entry.client.cut_off(&error.to_string());
                        return self.end(index, ending);
                    }
                }
                Err(error) => {
                    let ending = entry.client.cut_off(&error.to_string());
                    return self.end(index, ending);
                }
            }
        } else if writable
            && !entry.unsent.is_empty()
            && let Err(error) = send(transport, &mut entry.unsent, &mut Vec::new())
        {
            let ending = entry.client.cut_off(&error.to_string());
            return self.end(index, ending);
        } else if writable && let Err(error) = transport.flush() {
            let ending = entry.client.cut_off(&error.to_string());
            return self.end(index, ending);
        }
        match read(entry, &mut self.buffer, &self.clock, shared) {
            Ok(Reading { became_live, drained }) => {
                if became_live {
                    self.under_way -= 1;
                    self.ever_live = true;
                    entry.attempts = 0;
                }
                if !drained || (more && !self.again.contains(&index)) {
                    self.again.push(index);
                }
                Ok(())
            }
            Err(ReadError::Nothing) => Ok(()),
            Err(ReadError::Ended { ending, became_live }) => {
                if became_live {
                    self.under_way -= 1;
                    self.ever_live = true;
                }
                self.end(index, ending)
            }
        }
    }

    /// A connection is over that was not meant to be.
    fn end(&mut self, index: usize, ending: Ending) -> anyhow::Result<()> {
        let entry = &mut self.entries[index];
        let stage = entry.client.stage();
        if !matches!(stage, Stage::Away | Stage::Live) {
            self.under_way -= 1;
        }
        drop_connection(entry);
        entry.client.ended();
        entry.gone = true;
        let number = entry.client.number();
        let shared = &mut self.shared;
        let now = shared.now;
        let turned_away = match &ending {
            Ending::Refused { text, retry_after } => {
                shared.tally.sample.counts.refused += 1;
                shared.tally.fault(FaultKind::Refused, number, now, || text.clone());
                if let Some(after) = retry_after
                    && entry.attempts < ATTEMPTS_MAX
                {
                    entry.attempts += 1;
                    // Spread, as clients are asked to come back.
                    let after_ns = crate::clock::nanos(*after) as f64 * (0.5 + shared.random.unit());
                    let intended_ns = entry.client.intended_ns();
                    self.jobs.comes_back(now.mono_ns + after_ns as u64, Some(intended_ns), index);
                    return Ok(());
                }
                TurnedAway::Refused
            }
            Ending::Lost { text } => {
                shared.tally.sample.counts.lost += 1;
                shared.tally.fault(FaultKind::Lost, number, now, || text.clone());
                if stage == Stage::Connecting { TurnedAway::Unreachable } else { TurnedAway::Refused }
            }
            Ending::Broken { text } => {
                let counts = &mut shared.tally.sample.counts;
                counts.lost += 1;
                counts.malformed += 1;
                shared.tally.fault(FaultKind::Malformed, number, now, || text.clone());
                TurnedAway::Refused
            }
        };
        if !self.ever_live && !std::mem::replace(&mut self.turned_away, true) {
            let (Ending::Refused { text, .. } | Ending::Lost { text } | Ending::Broken { text }) = ending;
            let authority = &shared.assignment.targets[target_of(number, shared)].authority;
            tell(&Word::TurnedAway { reason: turned_away, text: format!("{authority}: {text}") })?;
        }
        Ok(())
    }

    /// Begins a connection of a client that has none.
    fn connect(&mut self, index: usize, intended_ns: u64) -> anyhow::Result<()> {
        let shared = &mut self.shared;
        let entry = &mut self.entries[index];
        let number = entry.client.number();
        let target_index = target_of(number, shared);
        let assignment = &shared.assignment;
        let target = &assignment.targets[target_index];
        let sources = &assignment.sources;
        let turn = usize::try_from(number).unwrap_or(0) / assignment.targets.len();
        let source = (!sources.is_empty()).then(|| sources[turn % sources.len()]);
        let tls = match (&self.tls, &self.names[target_index]) {
            (Some(config), Some(name)) => Some((config, name)),
            _ => None,
        };
        let connected = Transport::connect(target.address, source, index.is_multiple_of(STAMPED_EVERY), tls);
        let registered = connected.and_then(|mut transport| {
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(transport.socket(), Token(index), interest)?;
            Ok(transport)
        });
        entry.client.begin(intended_ns, shared);
        entry.gone = false;
        self.under_way += 1;
        match registered {
            Ok(transport) => {
                entry.transport = Some(transport);
                Ok(())
            }
            Err(error) => {
                let exhausted = error.raw_os_error().is_some_and(|errno| {
                    let out_of =
                        [nix::errno::Errno::EMFILE, nix::errno::Errno::ENFILE, nix::errno::Errno::EADDRNOTAVAIL];
                    out_of.iter().any(|code| *code as i32 == errno)
                });
                if exhausted && !std::mem::replace(&mut self.turned_away, true) {
                    let text = format!("client {number}: {error}");
                    tell(&Word::TurnedAway { reason: TurnedAway::Exhausted, text })?;
                }
                let ending = entry.client.cut_off(&error.to_string());
                self.end(index, ending)?;
                // The server has no part in that.
                self.entries[index].gone &= !exhausted;
                Ok(())
            }
        }
    }
}

fn target_of(number: u64, shared: &Shared) -> usize {
    usize::try_from(number).unwrap_or(0) % shared.assignment.targets.len()
}

fn drop_connection(entry: &mut Entry) {
    if let Some(mut transport) = entry.transport.take() {
        transport.reset_on_drop();
    }
    entry.unsent = Vec::new();
    entry.stalled = false;
}

/// Sends what waits and then `out`, which is emptied.
fn send(transport: &mut Transport, unsent: &mut Vec<u8>, out: &mut Vec<u8>) -> io::Result<()> {
    unsent.append(out);
    if unsent.is_empty() {
        return Ok(());
    }
    let sent = transport.write(unsent)?;
    unsent.drain(..sent);
    if unsent.is_empty() {
        // A silent client holds no buffer.
        *unsent = Vec::new();
    }
    Ok(())
}

struct Reading {
    became_live: bool,
    drained: bool,
}

enum ReadError {
    Nothing,
    Ended { ending: Ending, became_live: bool },
}

/// One read of a client's socket, and everything that it tells.
fn read(entry: &mut Entry, buffer: &mut Vec<u8>, clock: &Clock, shared: &mut Shared) -> Result<Reading, ReadError> {
    let Entry { client, transport, unsent, .. } = entry;
    let Some(transport) = transport else { return Err(ReadError::Nothing) };
    let rest = client.take_rest();
    let start = rest.len();
    if buffer.len() < start + READ_BYTES {
        buffer.resize(start + READ_BYTES, 0);
    }
    buffer[..start].copy_from_slice(&rest);
    let received = transport.read(&mut buffer[start..start + READ_BYTES]);
    shared.now = clock.now();
    let before = client.stage();
    let ended = |client: &Client, ending| {
        let became_live = before != Stage::Live && client.stage() == Stage::Live;
        Err(ReadError::Ended { ending, became_live })
    };
    let received = match received {
        Ok(received) if received.len > 0 => received,
        nothing => {
            // What was taken out has to be there again.
            client.put_back(&buffer[..start]);
            return match nothing {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(ReadError::Nothing),
                Err(error) => {
                    let ending = client.cut_off(&error.to_string());
                    ended(client, ending)
                }
                Ok(_) => {
                    let ending = client.cut_off("the server ended the connection");
                    ended(client, ending)
                }
            };
        }
    };
    shared.tally.sample.counts.bytes += received.len as u64;
    // What piled up while a client did not read on purpose is no lag of the harness.
    if let Some(kernel_ns) = received.kernel_ns.filter(|_| !client.is_to_stall()) {
        let lay = shared.now.wall_ns.saturating_sub(kernel_ns);
        shared.tally.sample.read_lag.record(u64::try_from(lay).unwrap_or(0));
    }
    if let Err(ending) = client.receive(&buffer[..start + received.len], shared) {
        shared.out.clear();
        return ended(client, ending);
    }
    if !shared.out.is_empty()
        && let Err(error) = send(transport, unsent, &mut shared.out)
    {
        let ending = client.cut_off(&error.to_string());
        return ended(client, ending);
    }
    let became_live = before != Stage::Live && client.stage() == Stage::Live;
    Ok(Reading { became_live, drained: received.drained })
}

/// Says a word to the coordinator.
fn tell(word: &Word<'_>) -> anyhow::Result<()> {
    let mut line = serde_json::to_vec(word).context("writing a word")?;
    line.push(b'\n');
    let mut out = io::stdout().lock();
    out.write_all(&line).and_then(|()| out.flush()).context("telling the coordinator")
}
