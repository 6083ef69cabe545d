//! The simulator: a feed without a venue, on a std thread of its own, that goes through the decoder like any
//! other.
//!
//! Open loop, as a venue is: what is due at a time is sent at that time, whether the readers keep up or not,
//! and the times are computed from the start, so that the rate does not drift. After a stall (a machine
//! asleep, a thread without a core) at most one second of it is made up for.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::market::{KNOWN, Market};
use super::{FeedState, FeedStatus, Stop, wall_ns};
use crate::feed::Feed;

/// Shortest wait: at high rates messages are sent in small batches, 20 at 100,000 a second, instead of with a
/// system call for each.
const WAIT_MIN: Duration = Duration::from_micros(200);

/// Longest backlog that is made up for after a stall.
const BACKLOG_MAX: Duration = Duration::from_secs(1);

/// Frames between two looks at the stop and at the clock.
const FRAMES_MAX: usize = 1_024;

/// Messages a second, at most: ten times what one thread can write and decode.
const RATE_MAX: f64 = 10_000_000.0;

/// Times of a higher rate, which recur.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bursts {
    /// How many times the rate; at least 1.
    pub factor: f64,
    /// From the start of one to the start of the next.
    pub every: Duration,
    /// `length <= every`. A burst is at the end of each `every`.
    pub length: Duration,
}

/// What is simulated.
#[derive(Clone, Debug, PartialEq)]
pub struct SimulatorSettings {
    /// Canonical symbols of pairs (`BTC/USD`), the most popular first.
    pub symbols: Vec<String>,
    /// Trades and quotes a second, over all symbols; heartbeats (one a second for each symbol) come on top.
    pub rate: f64,
    /// Share of trades among them, 0 to 1; the others are quotes.
    pub trade_share: f64,
    /// Exponent of the popularity, 0 (all alike) to 10: the `i`th symbol gets a share proportional to `1 / i^zipf`.
    pub zipf: f64,
    pub bursts: Option<Bursts>,
    /// Same seed, same prices in the same order.
    pub seed: u64,
}

impl Default for SimulatorSettings {
    fn default() -> SimulatorSettings {
        SimulatorSettings {
            symbols: default_symbols(KNOWN.len()),
            rate: 100.0,
            trade_share: 0.5,
            zipf: 1.0,
            bursts: None,
            seed: 1,
        }
    }
}

/// So many symbols: ten real pairs, then `SIM11/USD`, `SIM12/USD` and so on.
pub fn default_symbols(count: usize) -> Vec<String> {
    let known = KNOWN.iter().map(|(symbol, ..)| symbol.to_string());
    known.chain((KNOWN.len() + 1..).map(|n| format!("SIM{n}/USD"))).take(count).collect()
}

/// Why settings are refused. Begins with the name of the setting.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SimulatorError {
    #[error("symbols: at least one is needed")]
    NoSymbol,
    #[error("symbols: `{symbol}` is no pair such as BTC/USD (A-Z, 0-9, `.` and `_` on both sides, 32 in all)")]
    Symbol { symbol: String },
    #[error("symbols: `{symbol}` stands there twice")]
    Twice { symbol: String },
    #[error("rate: {rate} is not between 0.001 and {RATE_MAX} messages a second")]
    Rate { rate: f64 },
    #[error("trade_share: {share} is not between 0 and 1")]
    TradeShare { share: f64 },
    #[error("zipf: {exponent} is not between 0 and 10")]
    Zipf { exponent: f64 },
    #[error(
        "bursts: a factor of at least 1, and 0 < length <= every, are needed, and at most {RATE_MAX} messages a second"
    )]
    Bursts,
}

impl SimulatorSettings {
    fn check(&self) -> Result<(), SimulatorError> {
        if self.symbols.is_empty() {
            return Err(SimulatorError::NoSymbol);
        }
        let mut sorted: Vec<&String> = self.symbols.iter().collect();
        sorted.sort_unstable();
        if let Some(pair) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(SimulatorError::Twice { symbol: pair[0].clone() });
        }
        // The venue writes a pair with a dash, so a dash of the symbol's own would be read as another pair.
        let allowed = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_');
        let is_part = |part: &str| !part.is_empty() && part.bytes().all(allowed);
        let is_symbol =
            |s: &str| s.len() <= 32 && s.split_once('/').is_some_and(|(base, quote)| is_part(base) && is_part(quote));
        if let Some(symbol) = self.symbols.iter().find(|symbol| !is_symbol(symbol)) {
            return Err(SimulatorError::Symbol { symbol: symbol.clone() });
        }
        if !(0.001..=RATE_MAX).contains(&self.rate) {
            return Err(SimulatorError::Rate { rate: self.rate });
        }
        if !(0.0..=1.0).contains(&self.trade_share) {
            return Err(SimulatorError::TradeShare { share: self.trade_share });
        }
        if !(0.0..=10.0).contains(&self.zipf) {
            return Err(SimulatorError::Zipf { exponent: self.zipf });
        }
        if let Some(Bursts { factor, every, length }) = self.bursts
            && !(factor >= 1.0 && self.rate * factor <= RATE_MAX && !length.is_zero() && length <= every)
        {
            return Err(SimulatorError::Bursts);
        }
        Ok(())
    }
}

/// A simulated venue.
#[derive(Debug)]
pub struct Simulator {
    market: Market,
    messages: Schedule,
    heartbeats: Schedule,
    status: Arc<FeedStatus>,
}

impl Simulator {
    /// # Errors
    /// [`SimulatorError`] where a setting is out of its range.
    pub fn new(settings: &SimulatorSettings) -> Result<Simulator, SimulatorError> {
        settings.check()?;
        Ok(Simulator {
            market: Market::new(&settings.symbols, settings.trade_share, settings.zipf, settings.seed),
            messages: Schedule::new(settings.rate, settings.bursts),
            // One a second for each symbol, spread over the second.
            heartbeats: Schedule::new(settings.symbols.len() as f64, None),
            status: FeedStatus::new(),
        })
    }

    pub fn status(&self) -> Arc<FeedStatus> {
        Arc::clone(&self.status)
    }

    /// Starts the thread, which ends after `stop`.
    ///
    /// # Errors
    /// What the system says when it has no thread to give.
    pub fn spawn(self, feed: Feed, stop: Arc<Stop>) -> std::io::Result<JoinHandle<()>> {
        thread::Builder::new().name("feed-simulator".into()).spawn(move || self.run(feed, &stop))
    }

    fn run(mut self, mut feed: Feed, stop: &Stop) {
        let mut frame = Vec::new();
        self.market.write_subscriptions(&mut frame);
        feed.handle_frame(&frame, wall_ns());
        self.status.set(FeedState::Up);
        tracing::info!(symbols = self.market.products(), "simulator starts");
        let start = Instant::now();
        loop {
            let elapsed = start.elapsed();
            let mut frames = 0;
            // These first: they are few, and a machine that is too slow for the messages still shows life.
            while frames < FRAMES_MAX
                && let Some(n) = self.heartbeats.take_due(elapsed)
            {
                let index = n % self.market.products() as u64;
                self.market.write_heartbeat(index as usize, wall_ns(), &mut frame);
                feed.handle_frame(&frame, wall_ns());
                frames += 1;
            }
            while frames < FRAMES_MAX && self.messages.take_due(elapsed).is_some() {
                self.market.write_next(wall_ns(), &mut frame);
                feed.handle_frame(&frame, wall_ns());
                frames += 1;
            }
            let stopped = if frames == FRAMES_MAX {
                stop.is_stopped()
            } else {
                let next = self.messages.next_due().min(self.heartbeats.next_due());
                stop.wait_until(start + next.max(elapsed + WAIT_MIN))
            };
            if stopped {
                return;
            }
        }
    }
}

/// When the messages of a stream are due, as a function of their number and not of each other.
#[derive(Clone, Debug)]
struct Schedule {
    /// Messages a second outside of bursts.
    rate: f64,
    /// Length of a period, s; a burst is at its end.
    every: f64,
    /// From the start of a period to its burst, s. `quiet <= every`
    quiet: f64,
    /// Messages a second in a burst. `burst_rate >= rate`
    burst_rate: f64,
    /// The number of the next message, from 0.
    next: u64,
}

impl Schedule {
    fn new(rate: f64, bursts: Option<Bursts>) -> Schedule {
        let Bursts { factor, every, length } =
            bursts.unwrap_or(Bursts { factor: 1.0, every: Duration::from_secs(1), length: Duration::ZERO });
        let (every, length) = (every.as_secs_f64(), length.as_secs_f64());
        Schedule { rate, every, quiet: every - length, burst_rate: rate * factor, next: 0 }
    }

    /// Messages in a whole period.
    fn per_period(&self) -> f64 {
        self.rate * self.quiet + self.burst_rate * (self.every - self.quiet)
    }

    /// How many messages are due up to a time after the start, as a real number.
    fn due(&self, elapsed: Duration) -> f64 {
        let elapsed = elapsed.as_secs_f64();
        let periods = (elapsed / self.every).floor();
        let rest = elapsed - periods * self.every;
        let burst = (rest - self.quiet).max(0.0);
        periods * self.per_period() + self.rate * (rest - burst) + self.burst_rate * burst
    }

    /// When the next message is due, after the start: the inverse of [`Self::due`].
    fn next_due(&self) -> Duration {
        let number = self.next as f64;
        let periods = (number / self.per_period()).floor();
        let rest = number - periods * self.per_period();
        let quiet = self.rate * self.quiet;
        let within = if rest <= quiet { rest / self.rate } else { self.quiet + (rest - quiet) / self.burst_rate };
        Duration::try_from_secs_f64(periods * self.every + within).unwrap_or(Duration::MAX)
    }

    /// The number of the next message, if it is due. Messages that are overdue by more than the backlog are
    /// passed over.
    fn take_due(&mut self, elapsed: Duration) -> Option<u64> {
        let oldest = self.due(elapsed.saturating_sub(BACKLOG_MAX)) as u64;
        let number = self.next.max(oldest);
        if number as f64 > self.due(elapsed) {
            return None;
        }
        self.next = number + 1;
        Some(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seconds(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[track_caller]
    fn check(schedule: &Schedule, from: f64, to: f64, messages: usize) {
        let mut schedule = schedule.clone();
        schedule.next = schedule.due(seconds(from)).ceil() as u64;
        let mut taken = 0;
        while schedule.next_due() < seconds(to) {
            schedule.next += 1;
            taken += 1;
        }
        assert!(messages.abs_diff(taken) <= 1, "{from}..{to}: {taken}, not {messages}");
    }

    #[test]
    fn messages_are_spread_as_asked() {
        let even = Schedule::new(100.0, None);
        check(&even, 0.0, 1.0, 100);
        check(&even, 3600.0, 3600.5, 50);
        let bursts = Bursts { factor: 20.0, every: seconds(10.0), length: seconds(1.0) };
        let bursty = Schedule::new(100.0, Some(bursts));
        check(&bursty, 0.0, 9.0, 900);
        check(&bursty, 9.0, 10.0, 2_000);
        check(&bursty, 10.0, 11.0, 100);
        check(&bursty, 49.5, 50.5, 1_050);
        check(&bursty, 0.0, 100.0, 29_000);
        check(&Schedule::new(0.5, None), 0.0, 60.0, 30);
    }

    #[test]
    fn a_stall_is_made_up_for_by_a_second_at_most() {
        let mut schedule = Schedule::new(1_000.0, None);
        assert_eq!(schedule.take_due(Duration::ZERO), Some(0));
        assert_eq!(schedule.take_due(Duration::ZERO), None);
        let taken = std::iter::from_fn(|| schedule.take_due(seconds(0.5))).count();
        assert_eq!(taken, 500);
        let first = schedule.take_due(seconds(3600.0));
        assert_eq!(first, Some(3_599_000));
        let taken = std::iter::from_fn(|| schedule.take_due(seconds(3600.0))).count();
        assert_eq!(taken, 1_000);
    }

    proptest! {
        /// Whoever wakes up when the next message is due finds it due, at most a rounding later.
        #[test]
        fn a_message_is_due_when_it_is_due(
            rate in 0.001..1e6f64, factor in 1.0..50.0f64, every in 0.1..100.0f64, part in 0.01..1.0f64, next in 0u64..1_000_000_000,
        ) {
            let bursts = Bursts { factor, every: seconds(every), length: seconds(every * part) };
            let mut schedule = Schedule::new(rate, Some(bursts));
            schedule.next = next;
            let due = schedule.next_due();
            // Doubles of 1e12 seconds are 0.1 ms apart.
            let rounding = Duration::from_micros(1) + due.mul_f64(1e-9);
            prop_assert!(schedule.due(due + rounding) >= next as f64);
            prop_assert!(schedule.due(due.saturating_sub(rounding)) <= next as f64);
        }
    }

    #[track_caller]
    fn check_refused(change: impl FnOnce(&mut SimulatorSettings), message: &str) {
        let mut settings = SimulatorSettings::default();
        change(&mut settings);
        let refused = Simulator::new(&settings).unwrap_err().to_string();
        assert!(refused.starts_with(message), "{refused}");
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        assert!(Simulator::new(&SimulatorSettings::default()).is_ok());
        check_refused(|s| s.symbols.clear(), "symbols: at least one");
        check_refused(|s| s.symbols.push("btc/usd".into()), "symbols: `btc/usd` is no pair");
        check_refused(|s| s.symbols.push("BTC-USD".into()), "symbols: `BTC-USD` is no pair");
        check_refused(|s| s.symbols.push("AAPL".into()), "symbols: `AAPL` is no pair");
        check_refused(|s| s.symbols.push("BTC/".into()), "symbols: `BTC/` is no pair");
        check_refused(|s| s.symbols.push("A/B/C".into()), "symbols: `A/B/C` is no pair");
        check_refused(|s| s.symbols.push(format!("{}/USD", "A".repeat(29))), "symbols: `AAA");
        check_refused(|s| s.symbols.push("BTC/USD".into()), "symbols: `BTC/USD` stands there twice");
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e9] {
            check_refused(|s| s.rate = rate, &format!("rate: {rate} is not between"));
        }
        check_refused(|s| s.trade_share = 1.5, "trade_share: 1.5");
        check_refused(|s| s.zipf = -1.0, "zipf: -1");
        for (factor, every, length) in
            [(0.5, 10.0, 1.0), (f64::NAN, 10.0, 1.0), (2.0, 1.0, 2.0), (2.0, 1.0, 0.0), (1e6, 10.0, 1.0)]
        {
            let bursts = Some(Bursts { factor, every: seconds(every), length: seconds(length) });
            check_refused(|s| s.bursts = bursts, "bursts: ");
        }
    }

    #[test]
    fn symbols_are_named_and_numbered() {
        let symbols = default_symbols(12);
        assert_eq!((symbols[0].as_str(), symbols[9].as_str()), ("BTC/USD", "ETH/BTC"));
        assert_eq!(symbols[10..], ["SIM11/USD", "SIM12/USD"]);
        assert!(Simulator::new(&SimulatorSettings { symbols: default_symbols(5_000), ..Default::default() }).is_ok());
    }
}
