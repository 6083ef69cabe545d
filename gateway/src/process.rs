//! The whole process: built from a configuration, run until told to stop, drained. A test can do the same
//! with ports of its own.
//!
//! ```text
//! source thread -> ring -> sequencer thread -> queue -> shard threads -> sockets
//!                                                       admin thread
//! ```

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use anyhow::Context as _;
use entitlements::{AddressLimit, Connections};
use fanout::{HubConfig, Interest, Sequencer, SequencerConfig};
use feed_handlers::bars::Bars;
use feed_handlers::doorbell::{Doorbell, WaitStrategy};
use feed_handlers::feed::{Feed, FeedCounter, FeedCounters, UnknownSymbols};
use feed_handlers::ring;
use feed_handlers::source::{
    Bursts, CoinbaseLive, CoinbaseSettings, FeedStatus, Replay, Simulator, SimulatorSettings, StartGate, Stop, Timings,
    default_symbols,
};
use feed_handlers::venue::Venue;
use protocol::message::FeedState;
use protocol::{InstrumentTable, SourceId};

use crate::admin::{AdminListeners, AdminServer, AdminState, Check, Phase};
use crate::config::{self, Config, ConfigError, FeedKind, Speed, Symbols, Wait};
use crate::context::{AwaitClients, Context, wall_ns};
use crate::demo::Welcome;
use crate::door::Entrance;
use crate::metrics::{Kind, Metrics};
use crate::sequencing::{self, Reported, Sequencing, SharedSequencing, Waiting};
use crate::shard::{self, Bell};
use crate::transport::listener::{self, Listening};
use crate::transport::tls::{Certificates, Watch};

/// One-minute bars.
const BAR_NS: i64 = 60_000_000_000;

/// A running gateway.
#[derive(Debug)]
pub struct Gateway {
    clients: Vec<SocketAddr>,
    tls_clients: Vec<SocketAddr>,
    admin_addresses: Vec<SocketAddr>,
    feed: String,
    symbol: String,
    entrance: Entrance,
    certificates: Option<Watch>,
    certificate_file: Option<PathBuf>,
    context: Arc<Context>,
    state: Arc<AdminState>,
    stop: Arc<Stop>,
    finish: Arc<AtomicBool>,
    doorbell: Arc<Doorbell>,
    bells: Vec<Arc<Bell>>,
    source: JoinHandle<()>,
    sequencer: JoinHandle<()>,
    shards: Vec<JoinHandle<()>>,
    admin: AdminServer,
}

/// A source that is checked and ready to start.
enum Source {
    Simulator(Simulator),
    Replay(Replay),
    Coinbase(CoinbaseLive),
}

impl Source {
    fn status(&self) -> Arc<FeedStatus> {
        match self {
            Source::Simulator(source) => source.status(),
            Source::Replay(source) => source.status(),
            Source::Coinbase(source) => source.status(),
        }
    }

    fn spawn(self, feed: Feed, stop: Arc<Stop>) -> std::io::Result<JoinHandle<()>> {
        match self {
            Source::Simulator(source) => source.spawn(feed, stop),
            Source::Replay(source) => source.spawn(feed, stop),
            Source::Coinbase(source) => source.spawn(feed, stop),
        }
    }
}

impl Gateway {
    /// Checks everything, binds the ports, starts the threads. `state` is the directory for what outlives
    /// the process.
    ///
    /// # Errors
    /// [`ConfigError`], with the key, for what the configuration has wrong, a port in use included; nothing
    /// is left started. Others where the system fails.
    pub fn start(config: &Config, state: Option<&Path>) -> anyhow::Result<Gateway> {
        raise_descriptor_limit();
        let entrance = Entrance::open(config, state)?;
        let certificates = Certificates::open(&config.server.tls).map_err(ConfigError::from)?.map(Arc::new);
        let stop = Stop::new();
        let (source, symbols, start) = open_source(&config.feed, &stop)?;
        let venues = vec![venue_name(config.feed.kind).to_owned()];
        let instruments = Arc::new(InstrumentTable::with_capacity(config.fanout.instruments_max));
        for symbol in &symbols {
            let learnt = instruments.learn(symbol);
            learnt.map_err(|error| ConfigError::of("fanout.instruments_max", format_args!("{symbol}: {error}")))?;
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let shards = config.server.shard_count(cores);
        let unsent = config.session.unsent_bytes_max;
        let mut listening: Vec<Vec<Listening>> = (0..shards).map(|_| Vec::new()).collect();
        let clients = listen("server.listen", &config.server.listen, unsent, None, &mut listening)?;
        let tls = &config.server.tls.listen;
        let tls_clients = listen("server.tls.listen", tls, unsent, certificates.as_ref(), &mut listening)?;
        let admin = AdminListeners::bind(&config.admin)?;
        let admin_addresses = admin.addresses().to_vec();

        let metrics = Arc::new(Metrics::new());
        let status = source.status();
        let counters = Arc::new(FeedCounters::new());
        collect_feed(&metrics, &venues[0], counters.clone(), status.clone());
        let checks = vec![feed_check(status.clone())];
        let admin_state = AdminState::new(config, metrics.clone(), checks);
        let doorbell = Arc::new(Doorbell::new(match config.sequencer.wait {
            Wait::Park => WaitStrategy::Park,
            Wait::Yield => WaitStrategy::Yield,
            Wait::Spin => WaitStrategy::Spin,
        }));
        let interest = Arc::new(Interest::new(shards, config.fanout.instruments_max));
        let context = Arc::new(Context {
            server: config.server.clone(),
            session: config.session.clone(),
            drain: config.drain.clone(),
            door: entrance.door.clone(),
            connections: Connections::new(),
            addresses: AddressLimit::new(config.server.connections_per_address),
            instruments: instruments.clone(),
            epoch: (wall_ns() / 1_000_000) as u64,
            delay: config.sequencer.delay(),
            venues: venues.clone(),
            draining: AtomicBool::new(false),
            users_read: AtomicU64::new(0),
            start,
            started: Instant::now(),
        });

        let publisher = ring::ring(config.feed.ring_capacity, doorbell.clone());
        let reader = publisher.reader();
        let unknown = match config.feed.unknown_symbols {
            config::UnknownSymbols::Learn => UnknownSymbols::Learn,
            config::UnknownSymbols::Refuse => UnknownSymbols::Refuse,
        };
        let feed = Feed::new(SourceId(0), Venue::Coinbase, instruments.clone(), unknown, publisher, counters);

        let mut queues = Vec::new();
        let mut shard_threads = Vec::new();
        for (index, listeners) in listening.into_iter().enumerate() {
            let (queue, port) = shard::port(config.fanout.shard_queue)?;
            queues.push(queue);
            let parts = shard::ShardParts {
                listeners,
                context: context.clone(),
                interest: interest.clone(),
                sequencer: doorbell.clone(),
                hub: hub_config(config, index),
                round_max: config.fanout.round_max,
                metrics: metrics.register(crate::metrics::SHARD),
                core: config.server.pin.applies(cores).then_some((index + 1) % cores),
            };
            let thread = std::thread::Builder::new().name(format!("shard-{index}"));
            shard_threads.push(thread.spawn(move || {
                if let Err(error) = shard::run(port, parts) {
                    tracing::error!(index, %error, "a shard has failed");
                }
            })?);
        }
        let finish = Arc::new(AtomicBool::new(false));
        let bells = queues.iter().map(shard::ShardQueue::bell).collect();
        let sequencing = SharedSequencing::new(Sequencing {
            feeds: vec![sequencing::Feed { reader, status, told: FeedState::Up }],
            sequencer: Sequencer::new(
                SequencerConfig {
                    delay_ns: Some(i64::try_from(config.sequencer.delay().as_nanos()).unwrap_or(i64::MAX)),
                    delay_bytes_max: config.sequencer.delay_bytes_max,
                    segment_bytes_max: config.fanout.segment_bytes_max,
                    venues,
                },
                instruments,
                interest.clone(),
            ),
            bars: Bars::new(BAR_NS, i64::try_from(config.sequencer.bar_lateness.as_nanos()).unwrap_or(i64::MAX)),
            shards: queues,
            metrics: metrics.register("sequencer"),
            trades: Vec::new(),
            oldest: None,
            reported: Reported::default(),
            turned: Instant::now(),
            wakes_at: i64::MIN,
        });
        let stand_in = sequencing.clone();
        doorbell.set_stand_in(move || stand_in.stand_in());
        let waiting = Waiting { doorbell: doorbell.clone(), interest, finish: finish.clone() };
        let sequencer = std::thread::Builder::new().name("sequencer".into()).spawn(move || sequencing.run(&waiting))?;
        let source = source.spawn(feed, stop.clone())?;
        let certificates =
            certificates.map(|files| Watch::start(files, metrics.register("certificates"))).transpose()?;
        let admin = admin.serve(admin_state.clone())?;
        admin_state.enter(Phase::Serving);
        tracing::info!(?clients, ?tls_clients, admin = ?admin_addresses, shards, feed = venue_name(config.feed.kind), "serving");
        Ok(Gateway {
            clients,
            tls_clients,
            admin_addresses,
            feed: describe(&config.feed, symbols.len()),
            symbol: symbols.first().cloned().unwrap_or_else(|| "*".to_owned()),
            entrance,
            certificates,
            certificate_file: config.server.tls.certificate_file.clone(),
            context,
            state: admin_state,
            stop,
            finish,
            doorbell,
            bells,
            source,
            sequencer,
            shards: shard_threads,
            admin,
        })
    }

    /// Where clients connect, with the real ports.
    pub fn clients(&self) -> &[SocketAddr] {
        &self.clients
    }

    /// Where clients connect over TLS, with the real ports.
    pub fn tls_clients(&self) -> &[SocketAddr] {
        &self.tls_clients
    }

    /// Where operators look, with the real ports.
    pub fn admin(&self) -> &[SocketAddr] {
        &self.admin_addresses
    }

    /// Who may sign in.
    pub fn entrance(&self) -> &Entrance {
        &self.entrance
    }

    /// What the terminal shows at the start: addresses, the demo users' credentials, commands to try.
    ///
    /// # Errors
    /// Where no token can be made for the demo users.
    pub fn welcome(&self) -> anyhow::Result<String> {
        let credentials = self.entrance.credentials()?;
        let welcome = Welcome {
            clients: &self.clients,
            tls_clients: &self.tls_clients,
            admin: &self.admin_addresses,
            feed: &self.feed,
            symbol: &self.symbol,
            credentials: &credentials,
            certificate: self.certificate_file.as_deref(),
        };
        Ok(welcome.text())
    }

    /// Reads the users file and the TLS certificate again. Sessions of users that are gone or blocked end; the others
    /// keep what they hold until they sign in again. A certificate is for new connections.
    pub fn reload(&self) {
        if let Some(certificates) = &self.certificates {
            certificates.reload();
        }
        match self.entrance.door.reload() {
            Ok(_) => {
                self.context.users_read.fetch_add(1, Ordering::Release);
                self.bells.iter().for_each(|bell| bell.ring());
                tracing::info!("users reloaded");
            }
            Err(error) => tracing::error!(%error, "users not reloaded: the old ones stay"),
        }
    }

    /// Sends everybody away and ends: sources first, then what they brought is handed to the clients, then
    /// the clients are let go.
    pub fn drain(self) {
        tracing::info!("draining");
        drop(self.certificates);
        self.state.enter(Phase::Draining);
        self.context.draining.store(true, Ordering::Relaxed);
        self.bells.iter().for_each(|bell| bell.ring());
        self.stop.stop();
        join(self.source, "source");
        // Release: the sequencer sees all that the source wrote before it ended.
        self.finish.store(true, Ordering::Release);
        self.doorbell.ring();
        join(self.sequencer, "sequencer");
        self.bells.iter().for_each(|bell| bell.ring());
        self.shards.into_iter().for_each(|thread| join(thread, "shard"));
        self.admin.stop();
        tracing::info!("drained");
    }
}

/// Runs a gateway until SIGTERM or SIGINT. SIGHUP reads the users and the certificate again.
///
/// # Errors
/// As [`Gateway::start`].
pub fn run(config: &Config, state: Option<&Path>, greet: impl FnOnce(&str)) -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    // Before anybody is told that the gateway runs: a signal that comes earlier would just kill it.
    let (mut terminate, mut interrupt, mut hangup) = {
        let _within = runtime.enter();
        (
            signal(SignalKind::terminate()).context("SIGTERM cannot be watched")?,
            signal(SignalKind::interrupt()).context("SIGINT cannot be watched")?,
            signal(SignalKind::hangup()).context("SIGHUP cannot be watched")?,
        )
    };
    let gateway = Gateway::start(config, state)?;
    greet(&gateway.welcome()?);
    runtime.block_on(async {
        loop {
            tokio::select! {
                _ = terminate.recv() => return,
                _ = interrupt.recv() => return,
                _ = hangup.recv() => gateway.reload(),
            }
        }
    });
    gateway.drain();
    Ok(())
}

/// Binds the addresses for every shard, and gives each shard its sockets. Returns the addresses with the real ports.
fn listen(
    key: &str,
    addresses: &[SocketAddr],
    unsent_bytes_max: usize,
    certificates: Option<&Arc<Certificates>>,
    shards: &mut [Vec<Listening>],
) -> Result<Vec<SocketAddr>, ConfigError> {
    let mut bound = Vec::new();
    for address in addresses {
        let refused = |e| ConfigError::of(key, format_args!("{address} cannot be bound: {e}"));
        let sockets = listener::bind(*address, shards.len(), unsent_bytes_max).map_err(refused)?;
        bound.push(sockets[0].local_addr().map_err(refused)?);
        for (shard, socket) in shards.iter_mut().zip(sockets) {
            shard.push(Listening { socket, certificates: certificates.cloned() });
        }
    }
    Ok(bound)
}

fn join(thread: JoinHandle<()>, name: &str) {
    if thread.join().is_err() {
        tracing::error!(name, "a thread panicked");
    }
}

fn open_source(feed: &config::Feed, stop: &Arc<Stop>) -> anyhow::Result<(Source, Vec<String>, Option<AwaitClients>)> {
    match feed.kind {
        FeedKind::Simulator => {
            let config::Simulator { symbols, rate, trade_share, zipf, bursts, seed } = &feed.simulator;
            let symbols = match symbols {
                Symbols::List(symbols) => symbols.clone(),
                Symbols::Count(count) => default_symbols(*count),
            };
            let config::Bursts { factor, every, length } = *bursts;
            let settings = SimulatorSettings {
                symbols: symbols.clone(),
                rate: *rate,
                trade_share: *trade_share,
                zipf: *zipf,
                bursts: (factor > 1.0).then_some(Bursts { factor, every, length }),
                seed: *seed,
            };
            let simulator = Simulator::new(&settings).map_err(|e| ConfigError::of("feed.simulator", e))?;
            Ok((Source::Simulator(simulator), symbols, None))
        }
        FeedKind::Replay => {
            let config::Replay { file, speed, repeat, after_clients } = &feed.replay;
            let Some(file) = file else {
                return Err(ConfigError::of("feed.replay.file", "needed where feed.kind is replay").into());
            };
            let replay = Replay::open(file).map_err(|e| ConfigError::of("feed.replay.file", e))?;
            let speed = match speed {
                Speed::Times(factor) => feed_handlers::source::Speed::Real(*factor),
                Speed::Max => feed_handlers::source::Speed::Max,
            };
            let mut replay = replay.speed(speed).repeat(*repeat);
            let symbols = replay.symbols().collect();
            let start = (*after_clients > 0).then(|| AwaitClients {
                gate: StartGate::closed(stop),
                clients: *after_clients,
                subscribed: AtomicUsize::new(0),
            });
            if let Some(start) = &start {
                replay = replay.hold(start.gate.clone());
            }
            Ok((Source::Replay(replay), symbols, start))
        }
        FeedKind::Coinbase => {
            let config::Coinbase { url, products, silence_timeout } = &feed.coinbase;
            let timings = Timings::default();
            let settings = CoinbaseSettings {
                url: url.expose().to_owned(),
                products: products.clone(),
                timings: Timings { silence: *silence_timeout, stale: timings.stale.min(*silence_timeout), ..timings },
                ..CoinbaseSettings::default()
            };
            let live = CoinbaseLive::new(&settings).map_err(|e| ConfigError::of("feed.coinbase", e))?;
            let symbols = products.iter().map(|product| product.replacen('-', "/", 1)).collect();
            Ok((Source::Coinbase(live), symbols, None))
        }
    }
}

/// The source's name as clients see it in `x`.
fn venue_name(kind: FeedKind) -> &'static str {
    match kind {
        FeedKind::Simulator => "SIMULATOR",
        FeedKind::Replay | FeedKind::Coinbase => "COINBASE",
    }
}

fn describe(feed: &config::Feed, symbols: usize) -> String {
    let kind = match feed.kind {
        FeedKind::Simulator => format!("simulator, {} messages/s", feed.simulator.rate),
        FeedKind::Replay => {
            let file = feed.replay.file.as_deref().map(|f| f.display().to_string()).unwrap_or_default();
            format!("replay of {file}, speed {}", feed.replay.speed)
        }
        FeedKind::Coinbase => format!("Coinbase Exchange, {}", feed.coinbase.url),
    };
    format!("{kind}, {symbols} symbols")
}

fn hub_config(config: &Config, shard: usize) -> HubConfig {
    HubConfig {
        shard,
        slow_consumer: match config.session.slow_consumer {
            config::SlowConsumer::Gap => fanout::SlowConsumer::Gap,
            config::SlowConsumer::Disconnect => fanout::SlowConsumer::Disconnect,
        },
        retain_bytes: config.fanout.retain_bytes,
        control_bytes_max: config.session.control_bytes_max,
        heartbeat_ms: config.session.heartbeat.as_millis() as u64,
        stall_ms: config.session.stall_timeout.as_millis() as u64,
    }
}

fn feed_check(status: Arc<FeedStatus>) -> Check {
    Check::new("feed", move || {
        let state = status.state();
        if state.is_up() { Ok(()) } else { Err(state.name().to_owned()) }
    })
}

fn collect_feed(metrics: &Metrics, venue: &str, counters: Arc<FeedCounters>, status: Arc<FeedStatus>) {
    let venue = venue.to_lowercase();
    metrics.collect(move |out| {
        for counter in FeedCounter::iter() {
            let labels = [("source", venue.as_str()), ("event", counter.name())];
            let help = "What the feeds did with what their venues sent, by event.";
            out.sample(Kind::Counter, "gateway_feed_events_total", help, &labels, counters.count(counter));
        }
        let labels = [("source", venue.as_str())];
        let up = u64::from(status.state().is_up());
        out.sample(Kind::Gauge, "gateway_feed_up", "Whether the source does all it can do.", &labels, up);
    });
}

/// A client takes a descriptor, and the usual soft limit is 1024.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
    {
        tracing::warn!(%error, ?current, "the limit of open files could not be raised");
    }
}
