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
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use anyhow::Context as _;
use entitlements::{AddressLimit, Connections, Roster, TrustedProxies};
use fanout::{HubConfig, Interest, Sequencer, SequencerConfig};
use feed_handlers::arbitration::{Arbitration, ArbitrationSettings};
use feed_handlers::bars::Bars;
use feed_handlers::dead_letter::{DeadLetters, dead_letters};
use feed_handlers::doorbell::{Doorbell, WaitStrategy};
use feed_handlers::indicators::IndicatorTable;
use feed_handlers::source::Stop;
use protocol::InstrumentTable;

use crate::admin::{AdminListeners, AdminServer, AdminState, Check, Phase};
use crate::config::{self, AuditSink, Config, ConfigError, Wait};
use crate::context::{Context, wall_ns};
use crate::demo::Welcome;
use crate::door::{Entrance, UserStore};
use crate::feeds::Feeds;
use crate::jwks::Refresher;
use crate::metrics::{Kind, Metrics};
use crate::platform::audit::{Audit, Sink};
use crate::platform::courier::Courier;
use crate::platform::dead_letters::DeadLetterFile;
use crate::platform::kafka::{self, Reach};
use crate::platform::market_data_processed::{Processed, Writer};
use crate::platform::rights::{Rights, RightsThread};
use crate::platform::spool::{self, SpoolWriter};
use crate::roster::LiveSessions;
use crate::sequencing::{Reported, Sequencing, SharedSequencing, SourceStreams, Waiting};
use crate::shard::{self, Bell};
use crate::signals::{self, LatestMarket};
use crate::store_health;
use crate::transport::listener::{self, Listening};
use crate::transport::tls::{Certificates, Watch};

/// A running gateway.
#[derive(Debug)]
pub struct Gateway {
    clients: Vec<SocketAddr>,
    tls_clients: Vec<SocketAddr>,
    admin_addresses: Vec<SocketAddr>,
    feed: String,
    symbol: String,
    entrance: Entrance,
    token_keys: Option<Refresher>,
    certificates: Option<Watch>,
    certificate_file: Option<PathBuf>,
    context: Arc<Context>,
    roster: Arc<LiveSessions>,
    state: Arc<AdminState>,
    stop: Arc<Stop>,
    finish: Arc<AtomicBool>,
    doorbell: Arc<Doorbell>,
    bells: Vec<Arc<Bell>>,
    sources: Vec<JoinHandle<()>>,
    dead_letters: Option<JoinHandle<()>>,
    /// Takes changes of rights from Kafka, where there is one and the rights are in Redis.
    rights: Option<RightsThread>,
    /// In the order in which they end.
    audit: Vec<JoinHandle<()>>,
    signals: Vec<JoinHandle<()>>,
    sequencer: JoinHandle<()>,
    market_data: Option<JoinHandle<()>>,
    shards: Vec<JoinHandle<()>>,
    admin: AdminServer,
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
        let metrics = Arc::new(Metrics::new());
        let entrance = Entrance::open(config, state, &metrics)?;
        let certificates = Certificates::open(&config.server.tls).map_err(ConfigError::from)?.map(Arc::new);
        let stop = Stop::new();
        let mut feeds = Feeds::open(config, &stop)?;
        let venues = feeds.names();
        let instruments = Arc::new(InstrumentTable::with_capacity(config.fanout.instruments_max));
        for symbol in feeds.symbols() {
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

        feeds.collect(&metrics);
        let store = entrance.door.store();
        store_health::collect(store.clone(), &metrics);
        let mut checks = vec![feeds.check(), store_health::check(store.clone())];
        let dead_letters = keep_dead_letters(&config.dead_letters, state, &venues, &metrics)?;
        let (audit, audit_threads) = keep_audit(config, state, &metrics, &mut checks)?;
        let (inlet, signal_queue) = config.kafka.is_used().then(signals::queue).unzip();
        let (signals_reach, processing_reach) = (Arc::new(Reach::new()), Arc::new(Reach::new()));
        let processes = inlet.is_some() && config.kafka.process_signals;
        let market = processes.then(|| Arc::new(LatestMarket::with_capacity(instruments.capacity())));
        for (name, reach, is_used) in
            [("signals", &signals_reach, inlet.is_some()), ("signal_processing", &processing_reach, processes)]
        {
            if is_used {
                let reach = reach.clone();
                checks.push(Check::warning(name, move || reach.check()));
            }
        }
        let rights = rights_from_kafka(config, &entrance.users, &metrics, &mut checks)?;
        let admin_state = AdminState::new(config, metrics.clone(), checks, feeds.views());
        let doorbell = Arc::new(Doorbell::new(match config.sequencer.wait {
            Wait::Park => WaitStrategy::Park,
            Wait::Yield => WaitStrategy::Yield,
            Wait::Spin => WaitStrategy::Spin,
        }));
        let interest = Arc::new(Interest::new(shards, instruments.clone()));
        let context = Arc::new(Context {
            server: config.server.clone(),
            session: config.session.clone(),
            drain: config.drain.clone(),
            door: entrance.door.clone(),
            audit,
            connections: Connections::new(entrance.door.store().clone()),
            addresses: AddressLimit::new(config.server.connections_per_address),
            proxies: TrustedProxies::new(config.server.trusted_proxies.clone()),
            instruments: instruments.clone(),
            epoch: (wall_ns() / 1_000_000) as u64,
            delay: config.sequencer.delay(),
            venues: venues.clone(),
            draining: AtomicBool::new(false),
            start: feeds.take_gate(),
            started: Instant::now(),
        });

        let (publishers, sequenced) = feeds.rings(&doorbell);

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
        let roster: Arc<LiveSessions> = Arc::new(LiveSessions::new(context.clone(), queues.clone()));
        if let UserStore::Redis(store) = &entrance.users {
            store.attach(&(roster.clone() as Arc<dyn Roster>));
        }
        let (processed, market_data) = publish_market_data(&config.kafka, &instruments, &venues, &metrics)?.unzip();
        let sequencing = SharedSequencing::new(Sequencing {
            feeds: sequenced,
            instruments: instruments.clone(),
            arbitration: Arbitration::new(feeds.ranks(), arbitration_settings(&config.feed.arbitration)),
            source_streams: SourceStreams::new(venues.clone()),
            sequencer: Sequencer::new(
                SequencerConfig {
                    delay_ns: Some(i64::try_from(config.sequencer.delay().as_nanos()).unwrap_or(i64::MAX)),
                    delay_bytes_max: config.sequencer.delay_bytes_max,
                    segment_bytes_max: config.fanout.segment_bytes_max,
                    venues: venues.clone(),
                },
                instruments.clone(),
                interest.clone(),
            ),
            processed,
            bars: Bars::new(i64::try_from(config.sequencer.bar_lateness.as_nanos()).unwrap_or(i64::MAX)),
            indicators: config.sequencer.indicators.then(IndicatorTable::default),
            received: i64::MIN,
            shards: queues,
            signals: signal_queue.clone(),
            market: market.clone(),
            signals_open: 0,
            metrics: metrics.register("sequencer"),
            trades: Vec::new(),
            oldest: None,
            reported: Reported::default(),
            turned: Instant::now(),
            wakes_at: i64::MIN,
        });
        let stand_in = sequencing.clone();
        doorbell.set_stand_in(move || stand_in.stand_in());
        let waiting = Waiting { doorbell: doorbell.clone(), interest, signals: signal_queue, finish: finish.clone() };
        let sequencer = std::thread::Builder::new().name("sequencer".into()).spawn(move || sequencing.run(&waiting))?;
        let node = config.kafka.node.clone().unwrap_or_else(host_name);
        let mut signals = Vec::new();
        if let Some(inlet) = inlet {
            let kafka = &config.kafka;
            let reader = signals::Reader::new(signals::ReaderParts {
                client: kafka::client(kafka)?,
                topic: kafka.topics.trading_signals.clone(),
                group: format!("{}-{node}", kafka.client_id),
                inlet,
                doorbell: doorbell.clone(),
                instruments: instruments.clone(),
                reach: signals_reach,
                stop: stop.clone(),
                metrics: metrics.register("signals"),
            });
            signals.push(reader.map_err(|error| ConfigError::of("kafka", error))?.spawn()?);
        }
        if let Some(market) = market {
            let kafka = &config.kafka;
            let processor = signals::Processor::new(signals::ProcessorParts {
                client: kafka::client(kafka)?,
                topics: signals::SignalTopics {
                    raw: kafka.topics.raw_signals.clone(),
                    trading: kafka.topics.trading_signals.clone(),
                    statistics: kafka.topics.signal_stats.clone(),
                    dead_letter: kafka.topics.dead_letter.clone(),
                },
                group: format!("{}-signals", kafka.client_id),
                transactional_id: format!("{}-{node}-signals", kafka.client_id),
                confidence_above: kafka.confidence_above,
                market,
                instruments: instruments.clone(),
                reach: processing_reach,
                stop: stop.clone(),
                metrics: metrics.register("signal_processing"),
            });
            signals.push(processor.spawn()?);
        }
        let (description, symbols) = (feeds.description().to_owned(), feeds.symbols().to_owned());
        let (letters, dead_letters) = dead_letters.unzip();
        let sources = feeds.start(publishers, &instruments, letters.as_ref(), &stop)?;
        let certificates =
            certificates.map(|files| Watch::start(files, metrics.register("certificates"))).transpose()?;
        let token_keys =
            entrance.jwks.clone().map(|jwks| Refresher::start(jwks, entrance.door.tokens().clone())).transpose()?;
        let rights = rights.map(Rights::spawn).transpose()?;
        let admin = admin.serve(admin_state.clone())?;
        admin_state.enter(Phase::Serving);
        tracing::info!(?clients, ?tls_clients, admin = ?admin_addresses, shards, feeds = ?venues, "serving");
        Ok(Gateway {
            clients,
            tls_clients,
            admin_addresses,
            feed: description,
            symbol: symbols.first().cloned().unwrap_or_else(|| "*".to_owned()),
            entrance,
            token_keys,
            certificates,
            certificate_file: config.server.tls.certificate_file.clone(),
            context,
            roster,
            state: admin_state,
            stop,
            finish,
            doorbell,
            bells,
            sources,
            dead_letters,
            rights,
            audit: audit_threads,
            signals,
            sequencer,
            market_data,
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

    /// The sessions of this process, as a store sees them.
    #[doc(hidden)]
    pub fn roster(&self) -> Arc<dyn Roster> {
        self.roster.clone()
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

    /// Reads the users file and the TLS certificate again. What the file has changed holds for live sessions at once. A
    /// certificate is for new connections.
    pub fn reload(&self) {
        if let Some(certificates) = &self.certificates {
            certificates.reload();
        }
        let UserStore::Embedded(users) = &self.entrance.users else { return };
        let before = users.users();
        match users.reload() {
            Ok(users) => {
                self.roster.compare(&before, &users);
                tracing::info!("users reloaded");
            }
            Err(error) => tracing::error!(%error, "users not reloaded: the old ones stay"),
        }
    }

    /// Sends everybody away and ends: sources first, then what they brought is handed to the clients, then
    /// the clients are let go.
    pub fn drain(self) {
        tracing::info!("draining");
        drop((self.certificates, self.token_keys, self.rights));
        self.state.enter(Phase::Draining);
        self.context.draining.store(true, Ordering::Relaxed);
        self.bells.iter().for_each(|bell| bell.ring());
        self.stop.stop();
        self.sources.into_iter().for_each(|thread| join(thread, "source"));
        self.signals.into_iter().for_each(|thread| join(thread, "signals"));
        // It ends with the last of them.
        self.dead_letters.into_iter().for_each(|thread| join(thread, "dead letters"));
        // Release: the sequencer sees all that the source wrote before it ended.
        self.finish.store(true, Ordering::Release);
        self.doorbell.ring();
        join(self.sequencer, "sequencer");
        // It ends with it.
        self.market_data.into_iter().for_each(|thread| join(thread, "market data"));
        self.roster.end();
        self.bells.iter().for_each(|bell| bell.ring());
        self.shards.into_iter().for_each(|thread| join(thread, "shard"));
        self.admin.stop();
        // Those who know the sessions and, with them, the store, which takes back what is registered there.
        drop((self.roster, self.entrance, self.state));
        // It ends with the last who could record something.
        drop(self.context);
        self.audit.into_iter().for_each(|thread| join(thread, "audit"));
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

fn arbitration_settings(config: &config::Arbitration) -> ArbitrationSettings {
    let ns = |duration: std::time::Duration| i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
    ArbitrationSettings { stale_after_ns: ns(config.stale_after), fail_back_after_ns: ns(config.fail_back_after) }
}

/// Opens the file of dead letters and starts its thread. `None` where none are kept: no directory is known for them, or
/// it is so configured.
fn keep_dead_letters(
    config: &config::DeadLetters,
    state: Option<&Path>,
    sources: &[String],
    metrics: &Metrics,
) -> anyhow::Result<Option<(DeadLetters, JoinHandle<()>)>> {
    let file = config.file.clone().or_else(|| state.map(|directory| directory.join("dead-letters.jsonl")));
    let Some(file) = file.filter(|_| config.keep) else { return Ok(None) };
    let thread = metrics.register("dead_letters");
    let kept = DeadLetterFile::open(&file, config.file_bytes_max as u64, sources.to_vec(), thread);
    let kept = kept.map_err(|e| ConfigError::of("dead_letters.file", format_args!("{}: {e}", file.display())))?;
    let (letters, office) = dead_letters();
    Ok(Some((letters, kept.spawn(office)?)))
}

/// Starts the audit. Nothing is kept where it is so configured, or no directory is known for the file.
fn keep_audit(
    config: &Config,
    state: Option<&Path>,
    metrics: &Arc<Metrics>,
    checks: &mut Vec<Check>,
) -> anyhow::Result<(Audit, Vec<JoinHandle<()>>)> {
    let counted = metrics.register("audit");
    let Config { audit, kafka, .. } = config;
    let file = audit.file.clone().or_else(|| state.map(|directory| directory.join("audit.jsonl")));
    let (sink, courier) = match (audit.to, file) {
        (AuditSink::Off, _) | (AuditSink::File, None) => return Ok((Audit::off(counted), Vec::new())),
        (AuditSink::Stdout, _) => (Sink::StandardOutput, None),
        (AuditSink::Kafka, _) => {
            let (spool, courier, reach) = send_to_kafka(kafka, state, metrics)?;
            checks.push(Check::warning("kafka", move || reach.check()));
            (Sink::Spool(spool), Some(courier))
        }
        (AuditSink::File, Some(file)) => {
            let sink = Sink::file(&file, audit.file_bytes_max as u64)
                .map_err(|e| ConfigError::of("audit.file", format_args!("{}: {e}", file.display())))?;
            (sink, None)
        }
    };
    let (audit, thread) = Audit::start(sink, &kafka.topics, counted)?;
    Ok((audit, [Some(thread), courier].into_iter().flatten().collect()))
}

/// Starts the courier, and opens the spool that it takes its lines from.
fn send_to_kafka(
    config: &config::Kafka,
    state: Option<&Path>,
    metrics: &Arc<Metrics>,
) -> anyhow::Result<(SpoolWriter, JoinHandle<()>, Arc<Reach>)> {
    let directory = config.spool.clone().or_else(|| state.map(|directory| directory.join("kafka")));
    let directory =
        directory.ok_or_else(|| ConfigError::of("kafka.spool", "is absent, and there is no state directory"))?;
    let (writer, reader) = spool::open(&directory, config.spool_bytes_max as u64)
        .map_err(|error| ConfigError::of("kafka.spool", format_args!("{}: {error}", directory.display())))?;
    let reach = Arc::new(Reach::new());
    let watched = reach.clone();
    metrics.collect(move |out| {
        let up = u64::from(watched.is_up());
        out.sample(Kind::Gauge, "gateway_kafka_up", "Whether Kafka takes what it is given.", &[], up);
    });
    let courier = Courier::new(&kafka::client(config)?, reader, reach.clone(), metrics.register("kafka"));
    let courier = courier.map_err(|error| ConfigError::of("kafka", error))?;
    Ok((writer, courier.spawn()?, reach))
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Joins those who take changes of rights from Kafka, where there is one and the rights are in Redis.
fn rights_from_kafka(
    config: &Config,
    users: &UserStore,
    metrics: &Metrics,
    checks: &mut Vec<Check>,
) -> anyhow::Result<Option<Rights>> {
    let UserStore::Redis(store) = users else { return Ok(None) };
    if !config.kafka.is_used() {
        return Ok(None);
    }
    let reach = Arc::new(Reach::new());
    let rights = Rights::open(&config.kafka, store.clone(), reach.clone(), metrics.register("kafka_rights"))?;
    checks.push(Check::warning("kafka_rights", move || reach.check()));
    Ok(Some(rights))
}

/// Starts the thread that gives Kafka what clients get, where that is wanted.
fn publish_market_data(
    config: &config::Kafka,
    instruments: &Arc<InstrumentTable>,
    venues: &[String],
    metrics: &Metrics,
) -> anyhow::Result<Option<(Processed, JoinHandle<()>)>> {
    if !config.publish_market_data {
        return Ok(None);
    }
    let topic = config.topics.market_data_processed.clone();
    let writer = Writer::new(&kafka::client(config)?, topic, metrics.register("market_data"));
    let writer = writer.map_err(|error| ConfigError::of("kafka", error))?;
    Ok(Some(writer.spawn(instruments.clone(), venues.to_vec())?))
}

fn join(thread: JoinHandle<()>, name: &str) {
    if thread.join().is_err() {
        tracing::error!(name, "a thread panicked");
    }
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
