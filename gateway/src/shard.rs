//! A shard: one thread that owns its listening sockets, its clients' connections and their hub, and shares
//! no lock with another shard.
//!
//! Handshakes and sign-ins are tasks of the shard's `LocalRuntime`. Signed-in clients are slots in a slab,
//! watched by an epoll set of the shard's own (edge-triggered), which itself is one descriptor to the
//! runtime. The loop of the main task: take what came (segments, bytes, arrivals, deadlines), then flush
//! some of the clients that have something coming, then let the other tasks run. So an idle shard adds no delay, and
//! a busy one gathers more messages for each write; under load, clients are written to in rounds (`load`).

mod answers;
mod changes;
mod load;
mod slots;
mod users;

use std::collections::{HashMap, HashSet};
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, TryRecvError, TrySendError};
use entitlements::{AddressBlocks, Credential, LiveSession, TokenHash};
use fanout::{Flushed, Hub, HubConfig, HubCounters, Interest, Segment, SubscriberKey, Timer};
use feed_handlers::doorbell::Doorbell;
use mio::{Events, Poll, Token, Waker};
use protocol::message::{ErrorMessage, FeedState};
use protocol::{CloseCode, ErrorCode, ServerMessage};

use self::answers::Answers;
use self::changes::Changes;
use self::load::Load;
use self::slots::Slots;
use self::users::UserSlots;
use crate::context::{Context, Now, wall_ns};
use crate::epoll_set::EpollSet;
use crate::metrics::{Counter, Gauge, Histogram, ShardGauge, ThreadMetrics};
use crate::roster::UserChange;
use crate::session::{Next, Session, Turn, close};
use crate::sign_in::SignedIn;
use tokio::sync::mpsc;

use crate::transport::listener::{self, Arrivals, Listening};
use crate::transport::stream::{Scratch, Stream};

/// What the sequencer and the roster tell the shards.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    Segment {
        segment: Arc<Segment>,
        /// Unix ns of the socket read that brought the oldest live message of the batch; `None` for what was held back.
        ts_recv: Option<i64>,
    },
    /// A source changed its state; it is named by its place in the configuration.
    Feed { source: usize, state: FeedState },
    /// Users' rights are others.
    Entitlements(Arc<[UserChange]>),
    /// Tokens are denied.
    TokensDenied(Arc<HashSet<TokenHash>>),
    /// API keys, by prefix, with the version of the record that each has now.
    Keys(Arc<HashMap<Arc<str>, Option<u64>>>),
    /// The addresses that are blocked.
    Blocks(Arc<AddressBlocks>),
    /// Whoever asks is sent all sessions.
    ListSessions(mpsc::UnboundedSender<Vec<LiveSession>>),
}

/// The sequencer's side of a shard's queue. Bound: `fanout.shard_queue` inputs of at most
/// `fanout.segment_bytes_max` for each encoding. Full: the sequencer waits, since a shard never waits for its
/// clients and so always comes round.
#[derive(Clone, Debug)]
pub(crate) struct ShardQueue {
    sender: Sender<Input>,
    bell: Arc<Bell>,
}

/// Wakes a shard, once for any number of inputs.
#[derive(Debug)]
pub(crate) struct Bell {
    waker: Waker,
    /// Rung, and the shard has not looked yet.
    rung: AtomicBool,
    /// How far apart the shard's rounds of writes begin, ms; 0 while it writes at once.
    round_ms: AtomicU64,
}

impl Bell {
    pub(crate) fn ring(&self) {
        // AcqRel: the shard's swap in `answer` sees what was queued before this.
        if !self.rung.swap(true, Ordering::AcqRel)
            && let Err(error) = self.waker.wake()
        {
            tracing::error!(%error, "a shard could not be woken");
        }
    }

    fn answer(&self) {
        self.rung.swap(false, Ordering::AcqRel);
    }
}

impl ShardQueue {
    /// Puts an input in and wakes the shard. True where it had to wait for room.
    pub(crate) fn push(&self, input: Input) -> bool {
        let waited = match self.sender.try_send(input) {
            Ok(()) => false,
            Err(TrySendError::Full(input)) => {
                self.bell.ring();
                // An error means that the shard has ended, which only happens on the way out.
                let _ = self.sender.send(input);
                true
            }
            Err(TrySendError::Disconnected(_)) => false,
        };
        self.bell.ring();
        waited
    }

    pub(crate) fn bell(&self) -> Arc<Bell> {
        self.bell.clone()
    }

    /// Whether a few inputs more would not have to wait: half of the queue is empty.
    pub(crate) fn has_ample_room(&self) -> bool {
        self.sender.capacity().is_none_or(|capacity| self.sender.len() <= capacity / 2)
    }

    /// How far apart the shard's rounds of writes begin; zero while it writes at once.
    pub(crate) fn round(&self) -> Duration {
        // Relaxed: a hint.
        Duration::from_millis(self.bell.round_ms.load(Ordering::Relaxed))
    }
}

/// The queue into a shard that is yet to be set up.
pub(crate) struct ShardPort {
    poll: Poll,
    receiver: Receiver<Input>,
    bell: Arc<Bell>,
}

/// What a shard needs beside its queue.
#[derive(Debug)]
pub(crate) struct ShardParts {
    pub(crate) listeners: Vec<Listening>,
    pub(crate) context: Arc<Context>,
    pub(crate) interest: Arc<Interest>,
    /// The sequencer's doorbell.
    pub(crate) sequencer: Arc<Doorbell>,
    pub(crate) hub: HubConfig,
    /// How far apart its rounds of writes may begin while it is busy.
    pub(crate) round_max: Duration,
    pub(crate) metrics: Arc<ThreadMetrics>,
    /// The core to run on, where threads are pinned.
    pub(crate) core: Option<usize>,
}

/// Makes a shard's queue and epoll set, before its thread starts, so that failures end the start.
///
/// # Errors
/// The system's, where it has no descriptors left.
pub(crate) fn port(capacity: usize) -> io::Result<(ShardQueue, ShardPort)> {
    let poll = Poll::new()?;
    let bell = Arc::new(Bell {
        waker: Waker::new(poll.registry(), WAKE)?,
        rung: AtomicBool::new(false),
        round_ms: AtomicU64::new(0),
    });
    let (sender, receiver) = crossbeam::channel::bounded(capacity);
    Ok((ShardQueue { sender, bell: bell.clone() }, ShardPort { poll, receiver, bell }))
}

const WAKE: Token = Token(usize::MAX);

/// Sockets that the epoll set reports at a time.
const EVENTS: usize = 1024;
/// Inputs that are taken in before clients are flushed.
const INPUTS_PER_TURN: usize = 256;
/// Clients that are flushed before the shard looks again at what came: some hundred microseconds.
const FLUSHES_PER_TURN: usize = 64;
/// Sessions whose rights are decided on anew in one turn: no more than are written to in it.
const CHANGES_PER_TURN: usize = FLUSHES_PER_TURN;
/// Bytes read from one client before the others have their turn.
const READ_BYTES_PER_TURN: usize = 256 * 1024;
/// How long a client may take to answer our close frame with its own.
const LINGER_MS: u64 = 2_000;

/// One client's socket and session.
#[derive(Debug)]
struct Connection {
    key: SubscriberKey,
    stream: Stream,
    session: Session,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// A close frame is queued; when it is written, our side is shut.
    Closing {
        reason: Counter,
        until_ms: u64,
    },
    /// Our side is shut. Input is thrown away until the client closes or the deadline passes.
    Shut {
        reason: Counter,
        until_ms: u64,
    },
}

/// Runs a shard to its end: until all inputs are taken and all clients are gone.
///
/// # Errors
/// The system's, where the runtime or a listener cannot be set up.
pub(crate) fn run(port: ShardPort, parts: ShardParts) -> io::Result<()> {
    if let Some(core) = parts.core {
        pin_to(core);
    }
    let runtime = tokio::runtime::LocalRuntime::new()?;
    runtime.block_on(async {
        let arrivals = Rc::new(Arrivals::default());
        let mut accepting = Vec::new();
        for Listening { socket, certificates } in parts.listeners {
            let listener = tokio::net::TcpListener::from_std(socket)?;
            let (context, metrics) = (parts.context.clone(), parts.metrics.clone());
            let task = listener::accept(listener, certificates, context, metrics, arrivals.clone());
            accepting.push(tokio::task::spawn_local(task));
        }
        let (instruments, now_ms) = (parts.context.instruments.clone(), parts.context.now().mono_ms);
        let hub = Hub::new(parts.hub, instruments, parts.interest.clone(), now_ms);
        let shard = Shard {
            hub,
            interest: parts.interest,
            sequencer: parts.sequencer,
            connections: Slots::default(),
            live: 0,
            live_tls: 0,
            sockets: EpollSet::new(port.poll)?,
            receiver: port.receiver,
            bell: port.bell,
            arrivals,
            reread: Vec::new(),
            scratch: vec![0; 64 * 1024].into_boxed_slice(),
            tls_scratch: Scratch::default(),
            feeds: vec![FeedState::Up; parts.context.venues.len()],
            users: UserSlots::default(),
            changes: Changes::default(),
            answers: Rc::new(Answers::default()),
            context: parts.context,
            metrics: parts.metrics,
            counted: HubCounters::default(),
            load: Load::new(parts.round_max),
            turned: Instant::now(),
            slept: Duration::ZERO,
            oldest: None,
            drain: None,
        };
        shard.run(accepting).await
    })
}

fn pin_to(core: usize) {
    let mut set = rustix::thread::CpuSet::new();
    set.set(core);
    if let Err(error) = rustix::thread::sched_setaffinity(None, &set) {
        tracing::warn!(core, %error, "the thread could not be pinned");
    }
}

/// The way out.
#[derive(Clone, Copy, Debug)]
struct Draining {
    since_ms: u64,
    /// All inputs have been taken; clients are let go as they are served.
    inputs_over: bool,
}

struct Shard {
    hub: Hub,
    interest: Arc<Interest>,
    /// The sequencer's doorbell, for when a subscription asks it for last values.
    sequencer: Arc<Doorbell>,
    /// By the hub's slots.
    connections: Slots<Connection>,
    live: usize,
    /// Those of them that speak TLS.
    live_tls: usize,
    sockets: EpollSet,
    receiver: Receiver<Input>,
    bell: Arc<Bell>,
    arrivals: Rc<Arrivals>,
    /// Clients that had more to read than a turn allows.
    reread: Vec<SubscriberKey>,
    /// Where sockets are read into; no client has a buffer of its own.
    scratch: Box<[u8]>,
    tls_scratch: Scratch,
    /// How the sources are, by their place in the configuration.
    feeds: Vec<FeedState>,
    /// Which of the connections are a user's.
    users: UserSlots,
    /// Users whose sessions are to be told of other rights.
    changes: Changes,
    /// What sessions have waited for.
    answers: Rc<Answers>,
    context: Arc<Context>,
    metrics: Arc<ThreadMetrics>,
    counted: HubCounters,
    load: Load,
    /// When clients were last flushed.
    turned: Instant,
    /// How long it has had nothing to do since.
    slept: Duration,
    /// Socket read of the oldest live message of this turn, Unix ns.
    oldest: Option<i64>,
    drain: Option<Draining>,
}

impl Shard {
    async fn run(mut self, accepting: Vec<tokio::task::JoinHandle<()>>) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        let mut accepting = Some(accepting);
        loop {
            let mut worked = self.take_inputs();
            worked |= self.apply_changes();
            worked |= self.take_events(&mut events)?;
            worked |= self.take_arrivals();
            worked |= self.take_answers();
            worked |= self.take_deadlines();
            if self.interest.is_asked() {
                self.sequencer.ring();
            }
            self.flush_some();
            self.report();
            if self.context.is_draining() {
                if let Some(tasks) = accepting.take() {
                    tasks.into_iter().for_each(|task| task.abort());
                    self.announce_drain();
                }
                if self.drained() {
                    self.report();
                    return Ok(());
                }
            }
            if worked || !self.reread.is_empty() || self.hub.has_dirty() {
                tokio::task::yield_now().await;
                continue;
            }
            let deadline = self.next_deadline();
            let sleep = async {
                match deadline {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            let idle = Instant::now();
            tokio::select! {
                ready = self.sockets.ready() => ready?,
                () = self.arrivals.came() => {}
                () = self.answers.came() => {}
                () = sleep => {}
            }
            self.slept += idle.elapsed();
        }
    }

    /// When to come back though nothing happens.
    fn next_deadline(&self) -> Option<Instant> {
        let timer_ms = self.hub.next_timer_ms().into_iter().chain(self.hub.next_round_ms());
        let drain_ms = self.drain.map(|_| self.context.now().mono_ms + 20);
        let at_ms = timer_ms.chain(drain_ms).min()?;
        Some(self.context.started + Duration::from_millis(at_ms))
    }

    fn take_inputs(&mut self) -> bool {
        self.bell.answer();
        let now = self.context.now();
        for taken in 0..INPUTS_PER_TURN {
            match self.receiver.try_recv() {
                Ok(Input::Segment { segment, ts_recv }) => {
                    self.metrics.add(Counter::SegmentsTaken, 1);
                    self.oldest = self.oldest.or(ts_recv);
                    self.hub.publish(segment, now.mono_ms);
                }
                Ok(Input::Feed { source, state }) => self.announce_feed(source, state),
                Ok(Input::Entitlements(changes)) => {
                    self.changes.put(&changes);
                    while self.changes.are_too_many() {
                        self.apply_changes();
                    }
                }
                Ok(Input::TokensDenied(tokens)) => {
                    let is_denied = |session: &Session| match session.principal().credential() {
                        Some(Credential::Token(token)) => token.iter().any(|hash| tokens.contains(&hash)),
                        _ => false,
                    };
                    self.close_where(CloseCode::Revoked, is_denied);
                }
                Ok(Input::Keys(keys)) => {
                    let is_withdrawn = |session: &Session| match session.principal().credential() {
                        Some(Credential::Key { prefix, version }) => {
                            keys.get(prefix).is_some_and(|now| *now != Some(*version))
                        }
                        _ => false,
                    };
                    self.close_where(CloseCode::Revoked, is_withdrawn);
                }
                Ok(Input::Blocks(blocks)) if blocks.is_empty() => {}
                Ok(Input::Blocks(blocks)) => {
                    self.close_where(CloseCode::AddressBlocked, |session| blocks.reason(session.address()).is_some());
                }
                Ok(Input::ListSessions(asker)) => {
                    let open = self.connections.iter().filter(|connection| connection.state == State::Open);
                    // Whoever asked may have gone.
                    let _ = asker.send(open.map(|connection| connection.session.listed()).collect());
                }
                Err(TryRecvError::Empty) => return taken > 0,
                Err(TryRecvError::Disconnected) => {
                    if let Some(drain) = &mut self.drain {
                        drain.inputs_over = true;
                    }
                    return taken > 0;
                }
            }
        }
        true
    }

    fn announce_feed(&mut self, source: usize, state: FeedState) {
        let Some(known) = self.feeds.get_mut(source) else { return };
        *known = state;
        if self.context.is_draining() {
            // It is us who end the source, and the clients have been told so.
            return;
        }
        let Some(venue) = self.context.venues.get(source) else { return };
        for connection in self.connections.iter().filter(|c| c.state == State::Open) {
            connection.session.announce_feed(connection.key, &mut self.hub, venue, state);
        }
    }

    fn take_events(&mut self, events: &mut Events) -> io::Result<bool> {
        let mut worked = false;
        for key in std::mem::take(&mut self.reread) {
            worked = true;
            self.read(key);
        }
        loop {
            self.sockets.take(events)?;
            for event in events.iter() {
                // Also for a wake-up: it may be about inputs that came after this turn's were taken.
                worked = true;
                if event.token() == WAKE {
                    continue;
                }
                let key = key_of(event.token());
                if event.is_writable() {
                    self.writable(key);
                }
                if event.is_readable() || event.is_read_closed() || event.is_error() {
                    self.read(key);
                }
            }
            if events.iter().count() < EVENTS {
                return Ok(worked);
            }
        }
    }

    /// A client's socket takes bytes again.
    fn writable(&mut self, key: SubscriberKey) {
        let Some(connection) = self.connection(key) else { return };
        match connection.stream.writable() {
            Ok(true) => self.hub.writable(key),
            Ok(false) => {}
            Err(_) => self.end(key, Counter::ClosedLost),
        }
    }

    /// Reads what a client's socket has. Sockets are edge-triggered: a short read means that it is empty,
    /// and the end of the stream is reported as an event of its own.
    fn read(&mut self, key: SubscriberKey) {
        let mut read = 0;
        loop {
            let Shard { connections, scratch, tls_scratch, .. } = self;
            let connection = connections.get_mut(key.slot);
            let Some(connection) = connection.filter(|connection| connection.key == key) else { return };
            let state = connection.state;
            if connection.session.is_waiting() {
                // It is read again when it goes on.
                return;
            }
            let taken = match connection.stream.read(scratch, tls_scratch) {
                Ok(0) => return self.end(key, Counter::ClosedByClient),
                Ok(taken) => taken,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::InvalidData => {
                    return self.end(key, Counter::ClosedProtocol);
                }
                Err(_) => return self.end(key, Counter::ClosedLost),
            };
            self.metrics.add(Counter::BytesRead, taken as u64);
            read += taken;
            if state == State::Open {
                // Not the shard's while its session is at work; a read does not allocate.
                let mut scratch = std::mem::take(&mut self.scratch);
                self.turn(key, |session, turn| session.receive(&mut scratch[..taken], turn));
                self.scratch = scratch;
            }
            if read >= READ_BYTES_PER_TURN {
                return self.reread.push(key);
            }
        }
    }

    /// Lets a session work, and does what it asks for.
    fn turn(&mut self, key: SubscriberKey, work: impl FnOnce(&mut Session, &mut Turn<'_>) -> Next) {
        let now = self.context.now();
        let Shard { connections, hub, context, metrics, feeds, .. } = self;
        let connection = connections.get_mut(key.slot);
        let Some(connection) = connection.filter(|c| c.key == key && c.state == State::Open) else { return };
        let session = &mut connection.session;
        let had_subscribed = session.has_subscribed();
        let next = work(session, &mut Turn { key, hub, context, metrics, now });
        if !had_subscribed {
            announce_faults(session, key, hub, &context.venues, feeds);
        }
        self.proceed(key, next);
    }

    /// Takes changes of users' rights to some of their sessions, and to no other.
    fn apply_changes(&mut self) -> bool {
        for applied in 0..CHANGES_PER_TURN {
            let Shard { changes, users, connections, .. } = self;
            let key = |slot: u32| connections.get(slot).map(|connection| connection.key);
            let next = changes.next(|user, sessions| sessions.extend(users.of(user).filter_map(key)));
            let Some((key, rights)) = next else { return applied > 0 };
            self.turn(key, |session, turn| session.apply_rights(rights.as_ref(), turn));
        }
        true
    }

    /// Lets go whom this is about.
    fn close_where(&mut self, code: CloseCode, is_meant: impl Fn(&Session) -> bool) {
        let open = self.connections.iter().filter(|connection| connection.state == State::Open);
        let meant: Vec<SubscriberKey> = open.filter(|c| is_meant(&c.session)).map(|c| c.key).collect();
        for key in meant {
            self.turn(key, |session, turn| session.revoke(code, turn));
        }
    }

    /// Lets sessions go on that have waited for the store.
    fn take_answers(&mut self) -> bool {
        let mut worked = false;
        while let Some((key, answer)) = self.answers.take() {
            worked = true;
            self.turn(key, |session, turn| session.resume(answer, turn));
            if self.connection(key).is_some_and(|connection| !connection.session.is_waiting()) {
                // Nothing was read meanwhile, and what came is not reported again.
                self.reread.push(key);
            }
        }
        worked
    }

    fn connection(&mut self, key: SubscriberKey) -> Option<&mut Connection> {
        self.connections.get_mut(key.slot).filter(|connection| connection.key == key)
    }

    /// Does what a session asks for.
    fn proceed(&mut self, key: SubscriberKey, next: Next) {
        let now_ms = self.context.now().mono_ms;
        if next == Next::Wait {
            let question = self.connection(key).and_then(|connection| connection.session.take_question());
            if let Some(question) = question {
                self.answers.await_for(key, question);
            }
        }
        if let Next::Close(code) = next
            && let Some(connection) = self.connection(key)
        {
            let had_waited = connection.session.stop_waiting();
            // A client that does not even take the close frame is cut off.
            let until_ms = now_ms + LINGER_MS;
            connection.state = State::Closing { reason: closed_counter(code), until_ms };
            self.hub.arm(key, until_ms);
            if had_waited {
                self.reread.push(key);
            }
        }
    }

    fn take_arrivals(&mut self) -> bool {
        let mut worked = false;
        while let Some(arrival) = self.arrivals.take() {
            worked = true;
            self.take_over(arrival);
        }
        worked
    }

    /// Makes a slot of a connection that has signed in.
    fn take_over(&mut self, arrival: SignedIn) {
        let SignedIn { mut stream, encoding, principal, permit, address, reader, early } = arrival;
        let now = self.context.now();
        let key = self.hub.open(encoding, now.mono_ms);
        if let Err(error) = self.sockets.add(stream.socket(), token_of(key)) {
            tracing::warn!(%error, "a client's socket could not be watched");
            self.hub.close(key);
            self.metrics.add(Counter::ClosedInternal, 1);
            return;
        }
        self.live_tls += usize::from(stream.is_tls());
        self.users.insert(principal.user(), key.slot);
        let session = Session::new(principal, permit, address, encoding, reader, now);
        let connection = Connection { key, stream, session, state: State::Open };
        self.connections.put(key.slot, connection);
        self.live += 1;
        self.turn(key, |session, turn| {
            let mut next = session.handle_timer(key, turn.hub, now);
            if next == Next::Continue && turn.context.door.store().blocks().reason(session.address()).is_some() {
                next = session.revoke(CloseCode::AddressBlocked, turn);
            }
            // News that came between the sign-in and now passed this shard by. Of the same version they may differ too:
            // where nobody counts versions. Older ones are behind what the sign-in has read, and newer news are on their way.
            let rights = session.known_rights();
            if next == Next::Continue && rights.as_ref().is_none_or(|r| r.version() >= session.principal().version()) {
                next = session.apply_rights(rights.as_ref(), turn);
            }
            for message in &early {
                if !matches!(next, Next::Close(_)) {
                    next = session.handle(message.message(), turn);
                }
            }
            next
        });
        if self.drain.is_some() {
            self.turn(key, |_, turn| close(turn.hub, key, CloseCode::GoingAway));
        }
    }

    fn take_deadlines(&mut self) -> bool {
        let now = self.context.now();
        let mut worked = false;
        while let Some(timer) = self.hub.poll_timer(now.mono_ms, now.wall_ns) {
            worked = true;
            match timer {
                Timer::Stalled(key) => {
                    self.metrics.add(Counter::SlowConsumerDisconnects, 1);
                    self.end(key, Counter::ClosedStalled);
                }
                Timer::Fired(key) => self.deadline(key, now),
            }
        }
        for key in self.hub.take_overrun() {
            self.metrics.add(Counter::SlowConsumerDisconnects, 1);
            self.hub.control(key, |encoding, out| {
                ServerMessage::Error(ErrorMessage::new(ErrorCode::SlowClient)).encode(encoding, out);
            });
            let next = close(&mut self.hub, key, CloseCode::SlowClient);
            self.proceed(key, next);
        }
        worked
    }

    fn deadline(&mut self, key: SubscriberKey, now: Now) {
        let Shard { connections, hub, .. } = self;
        let Some(connection) = connections.get_mut(key.slot) else { return };
        match connection.state {
            State::Open => {
                let next = connection.session.handle_timer(key, hub, now);
                self.proceed(key, next);
            }
            State::Closing { reason, until_ms } | State::Shut { reason, until_ms } if now.mono_ms >= until_ms => {
                self.end(key, reason)
            }
            State::Closing { until_ms, .. } | State::Shut { until_ms, .. } => hub.arm(key, until_ms),
        }
    }

    /// Flushes the clients at the front of the line.
    fn flush_some(&mut self) {
        let begun = Instant::now();
        let now_ms = self.context.now().mono_ms;
        self.hub.begin_round(now_ms);
        for _ in 0..FLUSHES_PER_TURN {
            let Some(key) = self.hub.next_dirty() else {
                self.observe_latency();
                break;
            };
            self.flush(key, now_ms);
        }
        let turn = load::Turn {
            elapsed: begun - self.turned,
            slept: std::mem::take(&mut self.slept),
            writing: begun.elapsed(),
        };
        self.turned = begun;
        if self.load.add(turn, self.hub.counters()) {
            let round_ms = self.load.round_ms();
            self.hub.set_round_ms(round_ms);
            // Relaxed: a hint.
            self.bell.round_ms.store(round_ms, Ordering::Relaxed);
        }
    }

    fn flush(&mut self, key: SubscriberKey, now_ms: u64) {
        let Shard { connections, hub, tls_scratch, .. } = self;
        let Some(connection) = connections.get_mut(key.slot) else { return };
        let closing = match connection.state {
            State::Open => None,
            State::Closing { reason, .. } => Some(reason),
            State::Shut { .. } => return,
        };
        match hub.flush(key, &mut connection.stream.writer(tls_scratch), now_ms) {
            Flushed::Done => {
                if let Some(reason) = closing {
                    self.shut(key, reason, now_ms);
                }
            }
            Flushed::More | Flushed::Blocked => {}
            Flushed::Closed => self.end(key, Counter::ClosedLost),
        }
    }

    /// Tells how long the oldest tick since the line was last empty took to be written to everybody.
    fn observe_latency(&mut self) {
        if let Some(ts_recv) = self.oldest.take() {
            self.metrics.observe(Histogram::TickToWrite, wall_ns() - ts_recv);
        }
    }

    /// Everything is written, the close frame last: shuts our side and gives the client time for its own.
    fn shut(&mut self, key: SubscriberKey, reason: Counter, now_ms: u64) {
        let Some(connection) = self.connection(key) else { return };
        connection.stream.shut();
        let until_ms = now_ms + LINGER_MS;
        connection.state = State::Shut { reason, until_ms };
        self.hub.arm(key, until_ms);
    }

    /// Lets a client go now.
    fn end(&mut self, key: SubscriberKey, reason: Counter) {
        let taken = self.connections.take_if(key.slot, |connection| connection.key == key);
        let Some(mut connection) = taken else { return };
        let reason = match connection.state {
            State::Open => reason,
            State::Closing { reason, .. } | State::Shut { reason, .. } => reason,
        };
        self.users.remove(connection.session.principal().user(), key.slot);
        self.sockets.remove(connection.stream.socket());
        self.hub.close(key);
        self.live -= 1;
        self.live_tls -= usize::from(connection.stream.is_tls());
        self.metrics.add(reason, 1);
    }

    /// Tells every client that the server is about to stop, and when to come back: spread, so that they do
    /// not all come at once.
    fn announce_drain(&mut self) {
        let spread_ms = self.context.drain.spread.as_millis() as u64;
        let now_ms = self.context.now().mono_ms;
        self.drain = Some(Draining { since_ms: now_ms, inputs_over: false });
        for connection in self.connections.iter().filter(|c| c.state == State::Open) {
            let reconnect_ms = share(connection.key, spread_ms);
            self.hub.control(connection.key, |encoding, out| {
                ServerMessage::Draining { reconnect_ms }.encode(encoding, out);
            });
        }
    }

    /// Lets clients go as their time comes and they have everything. True when the last one is gone, or the
    /// time is over.
    fn drained(&mut self) -> bool {
        let Some(drain) = self.drain else { return false };
        let (now_ms, spread_ms) = (self.context.now().mono_ms, self.context.drain.spread.as_millis() as u64);
        let over = now_ms >= drain.since_ms + self.context.drain.timeout.as_millis() as u64;
        if drain.inputs_over || over {
            let due: Vec<SubscriberKey> = self
                .connections
                .iter()
                .filter(|c| c.state == State::Open && (over || now_ms >= drain.since_ms + share(c.key, spread_ms)))
                .map(|c| c.key)
                .collect();
            for key in due {
                // The close frame passes data that waits, so only those who have everything get it.
                if over || !self.hub.is_owed(key) {
                    let next = close(&mut self.hub, key, CloseCode::GoingAway);
                    self.proceed(key, next);
                }
            }
        }
        if self.live == 0 && drain.inputs_over {
            return true;
        }
        // Beyond the timeout clients have the linger time to take their close frame.
        now_ms >= drain.since_ms + self.context.drain.timeout.as_millis() as u64 + LINGER_MS
    }

    /// Brings the shared metrics up to date with this turn.
    fn report(&mut self) {
        let now = *self.hub.counters();
        let before = std::mem::replace(&mut self.counted, now);
        for (counter, now, before) in [
            (Counter::MessagesDelivered, now.messages_delivered, before.messages_delivered),
            (Counter::BytesWritten, now.bytes_written, before.bytes_written),
            (Counter::Writes, now.writes, before.writes),
            (Counter::WritesBlocked, now.blocked, before.blocked),
            (Counter::ConflatedUpdates, now.conflated, before.conflated),
            (Counter::GapsAnnounced, now.gaps_announced, before.gaps_announced),
            (Counter::HeartbeatsSent, now.heartbeats, before.heartbeats),
        ] {
            if now > before {
                self.metrics.add(counter, now - before);
            }
        }
        self.metrics.set_shard(ShardGauge::Round, Duration::from_millis(self.load.round_ms()));
        self.metrics.set(Gauge::Connections, self.live as u64);
        self.metrics.set(Gauge::TlsConnections, self.live_tls as u64);
        self.metrics.set(Gauge::Subscriptions, self.hub.subscriptions_total());
        self.metrics.set(Gauge::ClientsBehind, self.hub.held_count() as u64);
        self.metrics.set(Gauge::RetainedBytes, self.hub.retained_bytes() as u64);
    }
}

/// Tells a client that has just made its first subscription which sources bring nothing.
fn announce_faults(session: &Session, key: SubscriberKey, hub: &mut Hub, venues: &[String], feeds: &[FeedState]) {
    for (venue, state) in venues.iter().zip(feeds).filter(|(_, state)| **state != FeedState::Up) {
        session.announce_feed(key, hub, venue, *state);
    }
}

/// A client's share of a span of time: the same for the same slot, evenly spread over slots.
fn share(key: SubscriberKey, span_ms: u64) -> u64 {
    // Fibonacci hashing of the slot.
    (u64::from(key.slot.wrapping_mul(2_654_435_769)) * span_ms) >> 32
}

fn token_of(key: SubscriberKey) -> Token {
    // A generation of all ones with a slot of all ones would be WAKE; there are never so many slots.
    Token((u64::from(key.generation) << 32 | u64::from(key.slot)) as usize)
}

fn key_of(token: Token) -> SubscriberKey {
    SubscriberKey { slot: token.0 as u32, generation: (token.0 as u64 >> 32) as u32 }
}

fn closed_counter(code: CloseCode) -> Counter {
    match code {
        CloseCode::Normal => Counter::ClosedByClient,
        CloseCode::GoingAway => Counter::ClosedDrain,
        CloseCode::ProtocolError | CloseCode::UnsupportedData | CloseCode::InvalidPayload => Counter::ClosedProtocol,
        CloseCode::TooBig => Counter::ClosedTooBig,
        CloseCode::SlowClient => Counter::ClosedSlowConsumer,
        CloseCode::ControlLaneFull => Counter::ClosedControlFull,
        CloseCode::AuthTimeout => Counter::ClosedAuthTimeout,
        CloseCode::AuthFailed | CloseCode::ConnectionLimit | CloseCode::TooManyAttempts | CloseCode::Unavailable => {
            Counter::ClosedAuth
        }
        CloseCode::TokenExpired => Counter::ClosedTokenExpired,
        CloseCode::Revoked | CloseCode::AddressBlocked => Counter::ClosedRevoked,
        CloseCode::InternalError => Counter::ClosedInternal,
    }
}
