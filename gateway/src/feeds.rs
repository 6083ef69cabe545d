//! The feeds of the process: from what is configured to threads that fill rings.
//!
//! [`Feeds::open`] checks and prepares all of them, without a thread or a connection; [`Feeds::start`] starts them. Each
//! has a source, a ring, counters and a state of its own, and its place in the list is its [`SourceId`].

mod check;
mod live;
mod report;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::thread::JoinHandle;
use std::time::Duration;

use feed_handlers::arbitration::{Rank, SourceState};
use feed_handlers::dead_letter::DeadLetters;
use feed_handlers::doorbell::Doorbell;
use feed_handlers::feed::{Feed, FeedCounters, FeedParts, QuoteOrigin, UnknownSymbols};
use feed_handlers::quality::{FRESH_MAX_NS, Quality, QualityWriter};
use feed_handlers::ring::{self, Publisher};
use feed_handlers::source::{
    Bursts, FeedStatus, Replay, Simulator, SimulatorSettings, StartGate, Stop, default_symbols,
};
use feed_handlers::validation::{Limits, Outliers};
use feed_handlers::venue::Venue;
use protocol::message::FeedState;
use protocol::{InstrumentTable, SourceId, Tick};

pub use self::check::check;
use self::live::LiveSource;
pub(crate) use self::report::FeedView;
use crate::admin::Check;
use crate::config::{self, Config, ConfigError, FeedKind, Speed, Symbols};
use crate::context::AwaitClients;
use crate::metrics::Metrics;
use crate::sequencing;

/// A source that is checked and ready to start.
enum Source {
    Simulator(Box<Simulator>),
    Replay(Box<Replay>),
    Live(Box<LiveSource>),
}

impl Source {
    fn status(&self) -> Arc<FeedStatus> {
        match self {
            Source::Simulator(source) => source.status(),
            Source::Replay(source) => source.status(),
            Source::Live(source) => source.status(),
        }
    }

    fn spawn(self, feed: Feed, stop: Arc<Stop>) -> std::io::Result<JoinHandle<()>> {
        match self {
            Source::Simulator(source) => source.spawn(feed, stop),
            Source::Replay(source) => source.spawn(feed, stop),
            Source::Live(source) => source.spawn(feed, stop),
        }
    }
}

/// A feed that is checked and ready to start.
struct Planned {
    /// As clients see it in `x`.
    name: String,
    venue: Venue,
    /// It makes its data up.
    is_mock: bool,
    /// And clients are told so with each message. The simulator's are known to be in a simulated market.
    marks_mock: bool,
    quotes: QuoteOrigin,
    limits: Limits,
    source: Source,
    status: Arc<FeedStatus>,
    counters: Arc<FeedCounters>,
    quality: (QualityWriter, Arc<Quality>),
}

/// Where a feed's data is from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    Simulated,
    /// It may be of any age.
    Recorded,
    Live,
}

impl Planned {
    /// A feed with the venue's own quotes.
    fn new(config: &config::Feed, name: &str, venue: Venue, source: Source, origin: Origin) -> Planned {
        Planned {
            name: name.to_owned(),
            venue,
            is_mock: origin == Origin::Simulated,
            marks_mock: false,
            quotes: QuoteOrigin::Quotes,
            limits: limits(&config.limits, origin),
            status: source.status(),
            source,
            counters: Arc::new(FeedCounters::new()),
            quality: Quality::new(if origin == Origin::Recorded { i64::MAX } else { FRESH_MAX_NS }),
        }
    }
}

/// All feeds, not started yet.
pub(crate) struct Feeds {
    planned: Vec<Planned>,
    /// The canonical symbols that are known from the start, without repeats.
    symbols: Vec<String>,
    /// What holds them back until clients are there.
    gate: Option<AwaitClients>,
    unknown: UnknownSymbols,
    ring_capacity: usize,
    description: String,
}

/// The writing ends of the rings, for [`Feeds::start`].
pub(crate) struct Publishers(Vec<Publisher<Tick>>);

impl Feeds {
    /// Checks what is configured, as far as that goes without a connection.
    ///
    /// # Errors
    /// [`ConfigError`] with the key that is wrong.
    pub(crate) fn open(config: &Config, stop: &Arc<Stop>) -> anyhow::Result<Feeds> {
        let Config { feed: config, kafka, .. } = config;
        let (planned, symbols, gate) = match config.kind {
            FeedKind::Simulator => {
                let (simulator, symbols) = open_simulator(&config.simulator)?;
                let source = Source::Simulator(Box::new(simulator));
                (vec![Planned::new(config, "SIMULATOR", Venue::Coinbase, source, Origin::Simulated)], symbols, None)
            }
            FeedKind::Replay => {
                let (replay, gate) = open_replay(&config.replay, stop)?;
                let (symbols, source) = (replay.symbols().collect(), Source::Replay(Box::new(replay)));
                (vec![Planned::new(config, "COINBASE", Venue::Coinbase, source, Origin::Recorded)], symbols, gate)
            }
            FeedKind::Coinbase => open_live(config, kafka, &[coinbase(&config.coinbase)], "feed.coinbase")?,
            FeedKind::Live => open_live(config, kafka, &config.sources, "")?,
        };
        let description = describe(config, symbols.len());
        let unknown = match config.unknown_symbols {
            config::UnknownSymbols::Learn => UnknownSymbols::Learn,
            config::UnknownSymbols::Refuse => UnknownSymbols::Refuse,
        };
        let ring_capacity = config.ring_capacity;
        Ok(Feeds { planned, symbols, gate, unknown, ring_capacity, description })
    }

    /// The feeds' names, by their [`SourceId`]s.
    pub(crate) fn names(&self) -> Vec<String> {
        self.planned.iter().map(|feed| feed.name.clone()).collect()
    }

    /// How much each is preferred, by their [`SourceId`]s: real before made up, then in the order of configuration.
    pub(crate) fn ranks(&self) -> Vec<Rank> {
        let rank = |(order, feed): (usize, &Planned)| Rank {
            is_mock: feed.is_mock,
            order: u16::try_from(order).unwrap_or(u16::MAX),
        };
        self.planned.iter().enumerate().map(rank).collect()
    }

    /// The canonical symbols that are known from the start.
    pub(crate) fn symbols(&self) -> &[String] {
        &self.symbols
    }

    /// What they are, for whoever looks at the terminal.
    pub(crate) fn description(&self) -> &str {
        &self.description
    }

    /// What holds them back until clients are there, to be told of the clients.
    pub(crate) fn take_gate(&mut self) -> Option<AwaitClients> {
        self.gate.take()
    }

    /// The feeds, to be looked at while they run.
    pub(crate) fn views(&self) -> Vec<FeedView> {
        let view = |feed: &Planned| FeedView {
            name: feed.name.clone(),
            venue: feed.venue,
            is_mock: feed.is_mock,
            status: feed.status.clone(),
            counters: feed.counters.clone(),
            quality: feed.quality.1.clone(),
        };
        self.planned.iter().map(view).collect()
    }

    /// Shows the feeds' counters, states and quality in the metrics.
    pub(crate) fn collect(&self, metrics: &Metrics) {
        let views = self.views();
        metrics.collect(move |out| FeedView::expose_all(&views, out));
    }

    /// Leaves the feed of that name, in any case of letters, and no other. False where there is none.
    fn keep_only(&mut self, name: &str) -> bool {
        self.planned.retain(|feed| feed.name.eq_ignore_ascii_case(name));
        !self.planned.is_empty()
    }

    /// What readiness asks of the feeds.
    pub(crate) fn check(&self) -> Check {
        let feeds: Vec<(String, Arc<FeedStatus>)> =
            self.planned.iter().map(|feed| (feed.name.clone(), feed.status.clone())).collect();
        Check::new("feed", move || feeds_up(&feeds))
    }

    /// Makes the rings. Returns their writing ends, and what the sequencer reads.
    pub(crate) fn rings(&self, doorbell: &Arc<Doorbell>) -> (Publishers, Vec<sequencing::Feed>) {
        let rings = self.planned.iter().map(|feed| {
            let publisher = ring::ring(self.ring_capacity, doorbell.clone());
            let reader = publisher.reader();
            (
                publisher,
                sequencing::Feed { reader, status: feed.status.clone(), told: FeedState::Up, state: SourceState::Up },
            )
        });
        let (publishers, feeds) = rings.unzip();
        (Publishers(publishers), feeds)
    }

    /// Starts the threads.
    ///
    /// # Errors
    /// The system's, where a thread or what it needs is not to be had.
    pub(crate) fn start(
        self,
        publishers: Publishers,
        instruments: &Arc<InstrumentTable>,
        dead_letters: Option<&DeadLetters>,
        stop: &Arc<Stop>,
    ) -> std::io::Result<Vec<JoinHandle<()>>> {
        let unknown = self.unknown;
        let start = |(id, (planned, publisher)): (usize, (Planned, Publisher<Tick>))| {
            let Planned { venue, marks_mock, quotes, limits, source, counters, quality: (quality, _), .. } = planned;
            let mut feed = Feed::new(FeedParts {
                source: SourceId(u8::try_from(id).unwrap_or(u8::MAX)),
                venue,
                instruments: instruments.clone(),
                unknown,
                quotes,
                limits,
                publisher,
                counters,
                quality,
                dead_letters: dead_letters.cloned(),
            });
            if marks_mock {
                feed.mark_as_mock();
            }
            source.spawn(feed, stop.clone())
        };
        self.planned.into_iter().zip(publishers.0).enumerate().map(start).collect()
    }
}

fn limits(config: &config::Limits, origin: Origin) -> Limits {
    let ns = |duration: Duration| i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
    Limits {
        future_max_ns: ns(config.future_max),
        age_max_ns: (origin != Origin::Recorded).then(|| ns(config.age_max)),
        outlier_ratio: config.outlier_ratio,
        outliers: match config.outliers {
            config::Outliers::Flag => Outliers::Flag,
            config::Outliers::Drop => Outliers::Drop,
        },
    }
}

/// Why the feeds are not ready: with several, one that brings something is enough.
fn feeds_up(feeds: &[(String, Arc<FeedStatus>)]) -> Result<(), String> {
    if feeds.iter().any(|(_, status)| status.state().is_up()) {
        return Ok(());
    }
    let states: Vec<String> = match feeds {
        [(_, status)] => vec![status.state().name().to_owned()],
        feeds => feeds.iter().map(|(name, status)| format!("{name} {}", status.state().name())).collect(),
    };
    Err(states.join(", "))
}

fn open_simulator(config: &config::Simulator) -> Result<(Simulator, Vec<String>), ConfigError> {
    let config::Simulator { symbols, rate, trade_share, zipf, bursts, seed } = config;
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
    Ok((simulator, symbols))
}

fn open_replay(config: &config::Replay, stop: &Arc<Stop>) -> Result<(Replay, Option<AwaitClients>), ConfigError> {
    let config::Replay { file, speed, repeat, after_clients } = config;
    let Some(file) = file else {
        return Err(ConfigError::of("feed.replay.file", "needed where feed.kind is replay"));
    };
    let replay = Replay::open(file).map_err(|e| ConfigError::of("feed.replay.file", e))?;
    let speed = match speed {
        Speed::Times(factor) => feed_handlers::source::Speed::Real(*factor),
        Speed::Max => feed_handlers::source::Speed::Max,
    };
    let replay = replay.speed(speed).repeat(*repeat);
    let gate = (*after_clients > 0).then(|| AwaitClients {
        gate: StartGate::closed(stop),
        clients: *after_clients,
        subscribed: AtomicUsize::new(0),
    });
    match gate {
        Some(gate) => Ok((replay.hold(gate.gate.clone()), Some(gate))),
        None => Ok((replay, None)),
    }
}

type Opened = (Vec<Planned>, Vec<String>, Option<AwaitClients>);

/// The live sources, and their symbols without repeats. `key` names the one source where it is not of `feed.sources`.
fn open_live(
    config: &config::Feed,
    kafka: &config::Kafka,
    sources: &[config::Source],
    key: &str,
) -> Result<Opened, ConfigError> {
    let (mut planned, mut symbols): (_, Vec<String>) = (Vec::new(), Vec::new());
    for (index, configured) in sources.iter().enumerate() {
        let source = LiveSource::open(index, configured, kafka).map_err(|error| error.about("feed.sources[0]", key))?;
        let source = Source::Live(Box::new(source));
        let origin = if configured.file.is_some() { Origin::Recorded } else { Origin::Live };
        planned.push(Planned {
            is_mock: configured.mock,
            marks_mock: configured.mock,
            quotes: live::quotes(configured),
            ..Planned::new(config, configured.name(), configured.venue, source, origin)
        });
        for symbol in configured.symbols.iter().filter_map(|symbol| live::symbol(configured.venue, symbol)) {
            if !symbols.iter().any(|known| known == symbol) {
                symbols.push(symbol.to_owned());
            }
        }
    }
    Ok((planned, symbols, None))
}

/// `feed.coinbase` as a source like any other.
fn coinbase(config: &config::Coinbase) -> config::Source {
    let config::Coinbase { url, products, silence_timeout } = config;
    config::Source {
        url: Some(url.clone()),
        silence_timeout: Some(*silence_timeout),
        ..config::Source::of(Venue::Coinbase, products.iter().map(|product| product.replacen('-', "/", 1)).collect())
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
        FeedKind::Live => feed.sources.iter().map(config::Source::name).collect::<Vec<_>>().join(", "),
    };
    format!("{kind}, {symbols} symbols")
}
