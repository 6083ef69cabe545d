//! A venue: a server that speaks Coinbase Exchange's WebSocket feed to the gateway's live source, so that a run knows
//! when each tick was meant to be sent.
//!
//! Open loop: frames are due on an absolute schedule, whether the gateway keeps up or not, and `time` in each is when
//! it was due, to the microsecond. What is measured from there holds everything that the gateway and the venue's own
//! lateness add; the lateness is counted apart ([`VenueHandle::lag`]). The market goes on while nobody is connected,
//! so a gateway that comes back learns from the trade ids what it missed.
//!
//! One thread owns listener, lines, market and schedule ([`serve`]); the handle speaks to it through [`Shared`].
//! Deliberately absent: `level2` and `full` channels, signed subscriptions, TLS.

mod line;
mod market;
mod schedule;
mod serve;

use std::fmt::Write as _;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mio::Waker;

use crate::timings::Timings;

/// Frames a second, at most: far above what one thread can write.
pub const RATE_MAX: f64 = 10_000_000.0;

/// Products, at most: those that the gateway's live source takes on one connection.
pub const PRODUCTS_MAX: usize = 2_000;

/// Between two lines of [`run`].
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// How often [`run`] looks whether it is to stop.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Which product a frame is about.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Popularity {
    /// Drawn: the `i`th product gets a share proportional to `1 / i^exponent`; 0 (all alike) to 10.
    Zipf(f64),
    /// One after the other.
    RoundRobin,
}

/// What a venue does.
#[derive(Clone, Debug, PartialEq)]
pub struct VenueSettings {
    /// Port 0 takes a free one.
    pub listen: SocketAddr,
    /// The most popular first; as the venue writes them (`BTC-USD`) or as the gateway does (`BTC/USD`).
    pub products: Vec<String>,
    /// Matches and tickers a second, all products together, 0 to [`RATE_MAX`]; heartbeats (one a second for each
    /// product) come on top.
    pub rate: f64,
    /// Share of matches among them, 0 to 1; the others are tickers.
    pub trade_share: f64,
    pub popularity: Popularity,
    /// The same seed makes the same market.
    pub seed: u64,
}

impl Default for VenueSettings {
    fn default() -> VenueSettings {
        VenueSettings {
            listen: SocketAddr::from(([127, 0, 0, 1], 9200)),
            products: product_names(10),
            rate: 100.0,
            trade_share: 0.5,
            popularity: Popularity::Zipf(1.0),
            seed: 1,
        }
    }
}

/// So many products: ten real pairs, then `SIM11-USD`, `SIM12-USD` and so on, as in the gateway's simulator.
pub fn product_names(count: usize) -> Vec<String> {
    let real = [
        "BTC-USD", "ETH-USD", "SOL-USD", "XRP-USD", "DOGE-USD", "ADA-USD", "LTC-USD", "LINK-USD", "AVAX-USD", "ETH-BTC",
    ];
    let made_up = (real.len() + 1..).map(|n| format!("SIM{n}-USD"));
    real.into_iter().map(str::to_owned).chain(made_up).take(count).collect()
}

/// Why a venue is not opened. What is wrong with a setting begins with its name.
#[derive(Debug, thiserror::Error)]
pub enum VenueError {
    #[error("products: 1 to {PRODUCTS_MAX} are needed, not {count}")]
    ProductCount { count: usize },
    #[error("products: `{product}` is no pair such as BTC-USD (A-Z and 0-9 on both sides, 32 in all)")]
    Product { product: String },
    #[error("products: `{product}` stands there twice")]
    Twice { product: String },
    #[error("rate: {rate} is not between 0 and {RATE_MAX} frames a second")]
    Rate { rate: f64 },
    #[error("trade_share: {share} is not between 0 and 1")]
    TradeShare { share: f64 },
    #[error("popularity: the exponent {exponent} is not between 0 and 10")]
    Zipf { exponent: f64 },
    #[error("listen: {address}: {error}")]
    Listen { address: SocketAddr, error: io::Error },
    #[error("the venue's thread: {0}")]
    Thread(io::Error),
}

impl VenueError {
    /// Whether other settings would do: all but a thread that the system refuses.
    pub fn is_of_the_settings(&self) -> bool {
        !matches!(self, VenueError::Thread(_))
    }
}

impl VenueSettings {
    /// The settings with every product as the venue writes it.
    ///
    /// # Errors
    /// The first of them that is out of its range.
    fn checked(mut self) -> Result<VenueSettings, VenueError> {
        if !(1..=PRODUCTS_MAX).contains(&self.products.len()) {
            return Err(VenueError::ProductCount { count: self.products.len() });
        }
        for product in &mut self.products {
            *product = venue_name(product).ok_or_else(|| VenueError::Product { product: product.clone() })?;
        }
        let mut sorted: Vec<&String> = self.products.iter().collect();
        sorted.sort_unstable();
        if let Some(pair) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(VenueError::Twice { product: pair[0].clone() });
        }
        check_rate(self.rate)?;
        check_trade_share(self.trade_share)?;
        match self.popularity {
            Popularity::Zipf(exponent) if !(0.0..=10.0).contains(&exponent) => Err(VenueError::Zipf { exponent }),
            _ => Ok(self),
        }
    }
}

fn venue_name(product: &str) -> Option<String> {
    let name = product.replace('/', "-");
    let is_part = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
    let is_pair = name.len() <= 32 && name.split_once('-').is_some_and(|(base, quote)| is_part(base) && is_part(quote));
    is_pair.then_some(name)
}

fn check_rate(rate: f64) -> Result<(), VenueError> {
    if (0.0..=RATE_MAX).contains(&rate) { Ok(()) } else { Err(VenueError::Rate { rate }) }
}

fn check_trade_share(share: f64) -> Result<(), VenueError> {
    if (0.0..=1.0).contains(&share) { Ok(()) } else { Err(VenueError::TradeShare { share }) }
}

/// What was sent so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Frames that the market made, whoever was connected.
    pub made: u64,
    /// Frames handed to lines, each as often as there were lines that wanted it. The `last_match` and the `ticker`
    /// that answer a subscribe are not among them.
    pub matches: u64,
    pub tickers: u64,
    pub heartbeats: u64,
    /// Connections accepted, and those of them that are open.
    pub lines: u64,
    pub lines_open: u64,
    /// Connections that were cut because they did not read.
    pub lines_slow: u64,
}

/// What a handle and the venue's thread share.
#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    /// Of the first field, the wishes that the thread has not seen yet.
    wishes: Mutex<Wishes>,
    counters: Counters,
    lag: Mutex<Timings>,
}

#[derive(Debug, Default)]
struct Wishes {
    rate: Option<f64>,
    trade_share: Option<f64>,
}

/// As [`Sent`]. Written by the venue's thread alone; they order nothing, so relaxed access does.
#[derive(Debug, Default)]
struct Counters {
    made: AtomicU64,
    matches: AtomicU64,
    tickers: AtomicU64,
    heartbeats: AtomicU64,
    lines: AtomicU64,
    lines_open: AtomicU64,
    lines_slow: AtomicU64,
}

/// Opens venues.
#[derive(Debug)]
pub struct Venue;

impl Venue {
    /// Binds, and starts the venue's thread. The first frame is due at once.
    ///
    /// # Errors
    /// [`VenueError`] for settings out of range, and for what the system says to the port or the thread.
    pub fn start(settings: VenueSettings) -> Result<VenueHandle, VenueError> {
        let settings = settings.checked()?;
        let listen = settings.listen;
        let refused = |error| VenueError::Listen { address: listen, error };
        let shared = Arc::new(Shared::default());
        let server = serve::Server::bind(&settings, Arc::clone(&shared)).map_err(refused)?;
        let address = server.address().map_err(refused)?;
        let waker = server.waker();
        let thread =
            thread::Builder::new().name("venue".into()).spawn(move || server.run()).map_err(VenueError::Thread)?;
        Ok(VenueHandle { address, products: settings.products, shared, waker, thread: Some(thread) })
    }
}

/// A venue that runs. Dropping it closes its lines and ends its thread.
#[derive(Debug)]
pub struct VenueHandle {
    address: SocketAddr,
    products: Vec<String>,
    shared: Arc<Shared>,
    waker: Arc<Waker>,
    thread: Option<JoinHandle<()>>,
}

impl VenueHandle {
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// What the gateway connects to.
    pub fn url(&self) -> String {
        format!("ws://{}", self.address)
    }

    /// Another rate from now on, frames a second. What was due before is still sent.
    ///
    /// # Errors
    /// [`VenueError::Rate`]
    pub fn set_rate(&self, rate: f64) -> Result<(), VenueError> {
        check_rate(rate)?;
        self.wish(|wishes| wishes.rate = Some(rate));
        Ok(())
    }

    /// Another share of matches, 0 to 1, from now on.
    ///
    /// # Errors
    /// [`VenueError::TradeShare`]
    pub fn set_trade_share(&self, share: f64) -> Result<(), VenueError> {
        check_trade_share(share)?;
        self.wish(|wishes| wishes.trade_share = Some(share));
        Ok(())
    }

    fn wish(&self, change: impl FnOnce(&mut Wishes)) {
        change(&mut self.shared.wishes.lock().unwrap_or_else(PoisonError::into_inner));
        // It wakes up for the next frame anyway.
        let _ = self.waker.wake();
    }

    pub fn sent(&self) -> Sent {
        let Counters { made, matches, tickers, heartbeats, lines, lines_open, lines_slow } = &self.shared.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Sent {
            made: read(made),
            matches: read(matches),
            tickers: read(tickers),
            heartbeats: read(heartbeats),
            lines: read(lines),
            lines_open: read(lines_open),
            lines_slow: read(lines_slow),
        }
    }

    /// By how much frames were later than due when they were handed to the sockets, ns: all of them so far.
    pub fn lag(&self) -> Timings {
        self.shared.lag.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// As [`Self::lag`], of the frames since the last call.
    pub fn take_lag(&self) -> Timings {
        std::mem::take(&mut *self.shared.lag.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The settings with which a gateway listens to this venue, for its environment.
    pub fn gateway_environment(&self) -> [(&'static str, String); 3] {
        [
            ("GATEWAY_FEED__KIND", "coinbase".to_owned()),
            ("GATEWAY_FEED__COINBASE__URL", self.url()),
            ("GATEWAY_FEED__COINBASE__PRODUCTS", format!("[\"{}\"]", self.products.join("\",\""))),
        ]
    }
}

impl Drop for VenueHandle {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        let _ = self.waker.wake();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was shown when it happened.
            let _ = thread.join();
        }
    }
}

/// A venue as a program: opens it, says so, reports every ten seconds, and closes it when `stop` is set.
///
/// `gateway_env` names a file that gets the settings of a gateway that listens to this venue, as lines that a shell
/// reads (`set -a; . FILE; gateway`).
///
/// # Errors
/// Where the venue cannot be opened, or the file or standard output cannot be written.
pub fn run(settings: VenueSettings, gateway_env: Option<&Path>, stop: &AtomicBool) -> anyhow::Result<()> {
    let (rate, count) = (settings.rate, settings.products.len());
    let venue = Venue::start(settings)?;
    if let Some(file) = gateway_env {
        let mut lines = String::new();
        for (key, value) in venue.gateway_environment() {
            writeln!(lines, "{key}='{value}'")?;
        }
        std::fs::write(file, lines).map_err(|error| anyhow::anyhow!("{}: {error}", file.display()))?;
    }
    let mut out = io::stdout().lock();
    writeln!(out, "venue at {}: {count} products, {rate} frames a second", venue.url())?;
    out.flush()?;
    let (mut reported, mut before) = (Instant::now(), Sent::default());
    while !stop.load(Ordering::Relaxed) {
        thread::sleep(LOOK_INTERVAL);
        if reported.elapsed() >= REPORT_INTERVAL {
            let (span, sent) = (reported.elapsed(), venue.sent());
            report(&mut out, span, &before, &sent, &venue.take_lag())?;
            (reported, before) = (Instant::now(), sent);
        }
    }
    report(&mut out, reported.elapsed(), &before, &venue.sent(), &venue.take_lag())?;
    Ok(())
}

fn report(out: &mut impl Write, span: Duration, before: &Sent, sent: &Sent, lag: &Timings) -> io::Result<()> {
    let per_second = (sent.made - before.made) as f64 / span.as_secs_f64();
    let ms = |percentile| lag.percentile(percentile).map_or(0.0, |ns| ns as f64 / 1e6);
    writeln!(
        out,
        "{} lines, {per_second:.0} frames/s; {} matches, {} tickers, {} heartbeats sent; late by p50 {:.3} p99 {:.3} \
         max {:.3} ms{}",
        sent.lines_open,
        sent.matches,
        sent.tickers,
        sent.heartbeats,
        ms(50.0),
        ms(99.0),
        ms(100.0),
        if sent.lines_slow > before.lines_slow { "; A LINE DID NOT READ AND WAS CUT" } else { "" },
    )?;
    out.flush()
}

#[cfg(test)]
mod tests;
