//! `gateway feed check NAME`: connects to one source, looks at it for a while, and says what it saw.
//!
//! It starts the source as the gateway would, with a ring that nobody else reads, and no clients. What the venue says is
//! shown as it comes; at the end stands how the source was, and why where it was not well.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::bail;
use feed_handlers::doorbell::{Doorbell, WaitStrategy};
use feed_handlers::feed::FeedCounter;
use feed_handlers::ring::Polled;
use feed_handlers::source::Stop;
use protocol::{InstrumentTable, Tick, TickBody};

use super::Feeds;
use crate::config::{Config, ConfigError};

/// Lines of ticks that are shown.
const LINES_MAX: usize = 20;

/// Looks at the source of that name for so long, and writes what it sees.
///
/// # Errors
/// [`ConfigError`] where the configuration is wrong or has no such source; others where the source was not well, with
/// the reason, or the system fails.
pub fn check(config: &Config, name: &str, duration: Duration, out: &mut impl Write) -> anyhow::Result<()> {
    let stop = Stop::new();
    let mut feeds = Feeds::open(config, &stop)?;
    let names = feeds.names();
    if !feeds.keep_only(name) {
        let known = names.join(", ");
        return Err(ConfigError::of("feed", format_args!("there is no source `{name}`, but {known}")).into());
    }
    let view = feeds.views().remove(0);
    let instruments = Arc::new(InstrumentTable::with_capacity(config.fanout.instruments_max));
    for symbol in feeds.symbols() {
        instruments.learn(symbol)?;
    }
    let doorbell = Arc::new(Doorbell::new(WaitStrategy::Park));
    let (publishers, mut sequenced) = feeds.rings(&doorbell);
    let mut reader = sequenced.remove(0).reader;
    writeln!(out, "{} ({}), for {} s", view.name, view.venue.name().to_lowercase(), duration.as_secs())?;
    let threads = feeds.start(publishers, &instruments, None, &stop)?;
    let end = Instant::now() + duration;
    let mut seen = Seen::default();
    let mut state = None;
    while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        let now = (view.status.state(), view.status.trouble());
        if state.as_ref() != Some(&now) {
            let why = now.1.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
            writeln!(out, "  {}{why}", now.0.name())?;
            state = Some(now);
        }
        doorbell.wait(|| reader.lag() > 0, Some(left.min(Duration::from_millis(100))));
        loop {
            match reader.poll() {
                Polled::Record(tick) => seen.take(&tick, &instruments, out)?,
                Polled::Lapped { lost } => seen.lost += lost,
                Polled::Empty => break,
            }
        }
    }
    // Before it is ended, which is no trouble of its own.
    let (last, trouble) = (view.status.state(), view.status.trouble());
    let report = view.to_json();
    stop.stop();
    threads.into_iter().for_each(|thread| drop(thread.join()));
    seen.show(out)?;
    writeln!(out, "quality  {}", report["quality"])?;
    writeln!(out, "counted  {}", report["counters"])?;
    if last.is_up() {
        return Ok(());
    }
    let why = trouble.as_deref().unwrap_or("nothing came").to_owned();
    let refused = view.counters.count(FeedCounter::MalformedFrames);
    let hint = if refused > 0 { format!("; {refused} frames could not be read") } else { String::new() };
    bail!("{} is {}: {why}{hint}", view.name, last.name())
}

/// What came.
#[derive(Default)]
struct Seen {
    shown: usize,
    lost: u64,
    counts: BTreeMap<String, Counts>,
}

/// What came of one symbol.
#[derive(Clone, Copy, Default)]
struct Counts {
    trades: u64,
    quotes: u64,
    bars: u64,
    /// Trades.
    missing: u64,
}

impl Seen {
    fn take(&mut self, tick: &Tick, instruments: &InstrumentTable, out: &mut impl Write) -> std::io::Result<()> {
        let symbol = instruments.symbol(tick.instrument);
        let counts = self.counts.entry(symbol.to_owned()).or_default();
        let mut time = Vec::new();
        protocol::format_rfc3339(tick.ts_event, &mut time);
        let time = String::from_utf8_lossy(&time);
        let line = match tick.body {
            TickBody::Trade(trade) => {
                counts.trades += 1;
                format!("trade  {symbol}  {} x {}  {time}", trade.price, trade.size)
            }
            TickBody::Quote(quote) => {
                counts.quotes += 1;
                let protocol::Quote { bid, bid_size, ask, ask_size } = quote;
                format!("quote  {symbol}  {bid} x {bid_size}  {ask} x {ask_size}  {time}")
            }
            TickBody::Bar(bar) => {
                counts.bars += 1;
                let protocol::Bar { open, high, low, close, volume, .. } = bar.bar(tick.ts_event);
                let (interval, state) = (bar.interval().name(), if bar.is_final() { "" } else { "  in progress" });
                format!("bar    {symbol}  {interval}  {open} {high} {low} {close} x {volume}  {time}{state}")
            }
            TickBody::Gap { missed } => {
                counts.missing += missed;
                format!("gap    {symbol}  {missed} trades are missing  {time}")
            }
            TickBody::Heartbeat => return Ok(()),
        };
        self.shown += 1;
        match self.shown {
            ..=LINES_MAX => writeln!(out, "  {line}"),
            shown if shown == LINES_MAX + 1 => writeln!(out, "  ..."),
            _ => Ok(()),
        }
    }

    fn show(&self, out: &mut impl Write) -> std::io::Result<()> {
        for (symbol, Counts { trades, quotes, bars, missing }) in &self.counts {
            writeln!(out, "{symbol}  {trades} trades, {quotes} quotes, {bars} bars, {missing} trades missing")?;
        }
        if self.lost > 0 {
            writeln!(out, "{} ticks came faster than they could be shown", self.lost)?;
        }
        Ok(())
    }
}
