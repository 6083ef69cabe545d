//! Records that come out of Kafka ([`Venue::Kafka`]): what is taken of them, and how their source is.
//!
//! Owned by the thread that reads the topic, which is none of this crate's. It hands in each record, and says when the
//! brokers answer and when they do not; decoding, choice and state are here. Deliberately absent: Kafka.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{FeedState, FeedStatus, wall_ns};
use crate::decode::event::{Event, Symbol};
use crate::feed::Feed;
use crate::symbols::SymbolBuffer;
use crate::venue::Venue;

/// What stands for every symbol.
const ALL: &str = "*";

/// Longest silence that may be asked for: it can be added to any clock.
const STALE_MAX: Duration = Duration::from_secs(86_400);

/// Why records cannot be taken as they are configured to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordsError {
    #[error("symbols: `{name}`: {error}")]
    Symbol { name: String, error: protocol::SymbolError },
    #[error("symbols: `{name}`: the name before `=` is empty")]
    Name { name: String },
    #[error("silence: above 0 and at most a day")]
    Silence,
}

/// What is taken of the records, and the state of their source, before there is a feed.
#[derive(Debug)]
pub struct Records {
    choice: Choice,
    /// Names of the ingesters' own, and the symbols that they stand for.
    names: Vec<(String, String)>,
    stale: Duration,
    status: Arc<FeedStatus>,
}

impl Records {
    /// Takes records of these symbols, canonical or as `NAME=SYMBOL`; of all, where there is none or a `*`. After `stale`
    /// without a record that is wanted the source is stale.
    ///
    /// # Errors
    /// [`RecordsError`] where a symbol is none, or the silence is out of range.
    pub fn new(symbols: &[String], stale: Duration) -> Result<Records, RecordsError> {
        if stale.is_zero() || stale > STALE_MAX {
            return Err(RecordsError::Silence);
        }
        let (mut names, mut chosen) = (Vec::new(), Chosen::default());
        for configured in symbols.iter().filter(|symbol| *symbol != ALL) {
            let (name, symbol) = match configured.split_once('=') {
                Some(("", _)) => return Err(RecordsError::Name { name: configured.clone() }),
                Some((name, symbol)) => (Some(name), symbol),
                None => (None, configured.as_str()),
            };
            protocol::check_symbol(symbol).map_err(|error| RecordsError::Symbol { name: configured.clone(), error })?;
            match name {
                Some(name) => {
                    chosen.names.insert(name.as_bytes().into());
                    names.push((name.to_owned(), symbol.to_owned()));
                }
                None => {
                    chosen.symbols.insert(symbol.into());
                }
            }
        }
        let takes_all = symbols.is_empty() || symbols.iter().any(|symbol| symbol == ALL);
        let choice = if takes_all { Choice::All } else { Choice::Only(chosen) };
        Ok(Records { choice, names, stale, status: FeedStatus::new() })
    }

    pub fn status(&self) -> Arc<FeedStatus> {
        Arc::clone(&self.status)
    }

    /// The place where the reader of `topic` hands them in. The feed is one of [`Venue::Kafka`].
    pub fn into_feed(self, mut feed: Feed, topic: &str) -> RecordFeed {
        let Records { choice, names, stale, status } = self;
        for (name, symbol) in &names {
            if !feed.learn_name(name.as_bytes(), symbol) {
                tracing::warn!(name, symbol, "no room for another instrument");
            }
        }
        RecordFeed { feed, choice, stale, status, topic: topic.to_owned(), heard: Instant::now() }
    }
}

/// Whose records are taken.
#[derive(Debug)]
enum Choice {
    All,
    Only(Chosen),
}

#[derive(Debug, Default)]
struct Chosen {
    symbols: HashSet<Box<str>>,
    /// As the ingesters write them.
    names: HashSet<Box<[u8]>>,
}

impl Choice {
    /// Whether the event is about an instrument that is wanted. A record that does not tell one always is.
    fn takes(&self, event: &Event<'_>) -> bool {
        let Choice::Only(chosen) = self else { return true };
        let symbol = match event {
            Event::Trade(trade) => trade.symbol,
            Event::Quote(quote) => quote.symbol,
            Event::Invalid { symbol: Some(symbol), .. } => *symbol,
            _ => return true,
        };
        let Symbol::Text(name) = symbol else { return true };
        let mut buffer = SymbolBuffer::default();
        let canonical = Venue::Kafka.symbol_form().canonical(name, &mut buffer);
        // A name that is no symbol is nobody's choice.
        chosen.names.contains(name) || canonical.is_ok_and(|symbol| chosen.symbols.contains(symbol))
    }
}

/// Where the records are handed in.
pub struct RecordFeed {
    feed: Feed,
    choice: Choice,
    stale: Duration,
    status: Arc<FeedStatus>,
    topic: String,
    /// When the last record came, or the brokers answered again.
    heard: Instant,
}

impl RecordFeed {
    /// A record has come, which may hold anything.
    pub fn record(&mut self, record: &[u8]) {
        let RecordFeed { feed, choice, .. } = self;
        let outcome = feed.handle(record, wall_ns(), |on_event| {
            Venue::Kafka.decode(record, &mut |event| {
                if choice.takes(&event) {
                    on_event(event);
                }
            })
        });
        if outcome.is_alive {
            self.heard = Instant::now();
            self.status.tell(FeedState::Up, &self.topic, self.stale);
        }
    }

    /// The brokers answer, and records are awaited.
    pub fn answered(&mut self) {
        if self.status.state() == FeedState::Down {
            self.heard = Instant::now();
            self.status.tell(FeedState::Up, &self.topic, self.stale);
        }
    }

    /// Nothing comes just now.
    pub fn idle(&mut self) {
        if self.status.state() == FeedState::Up && self.heard.elapsed() >= self.stale {
            self.status.tell(FeedState::Stale, &self.topic, self.stale);
        }
    }

    /// The brokers do not answer, or have not what they are asked for.
    pub fn down(&mut self, why: &str) {
        if self.status.set_troubled(FeedState::Down, why) {
            tracing::warn!(topic = self.topic, why, "the topic cannot be read");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(symbols: &[&str]) -> Result<Records, RecordsError> {
        let symbols: Vec<String> = symbols.iter().map(|symbol| (*symbol).to_owned()).collect();
        Records::new(&symbols, Duration::from_secs(60))
    }

    /// Which of these names a choice takes.
    #[track_caller]
    fn check(symbols: &[&str], taken: &[&str], left: &[&str]) {
        let choice = records(symbols).unwrap().choice;
        let takes = |name: &str| {
            let record = format!(r#"{{"symbol":"{name}","timestamp":1618677817075,"price":1,"volume":1}}"#);
            let mut trades = 0;
            let decoded = Venue::Kafka.decode(record.as_bytes(), &mut |event| {
                trades += usize::from(matches!(event, Event::Trade(_)) && choice.takes(&event));
            });
            assert_eq!(decoded, Ok(()));
            trades == 1
        };
        assert_eq!(taken.iter().chain(left).map(|name| takes(name)).collect::<Vec<_>>(), {
            let mut expected = vec![true; taken.len()];
            expected.resize(taken.len() + left.len(), false);
            expected
        });
    }

    #[test]
    fn symbols_are_chosen_in_whatever_form_they_come() {
        check(&["BTC/USD"], &["BTC/USD", "btc-usd", " BTCUSD "], &["BTC/EUR", "AAPL", "no symbol"]);
        check(&["TSCO.LON=TSCO"], &["TSCO.LON"], &["TSCO"]);
        check(&[], &["AAPL", "BTC-USD"], &[]);
        check(&["AAPL", "*"], &["AAPL", "BTC-USD"], &[]);
    }

    #[test]
    fn what_is_wrong_is_told() {
        let check = |symbols: &[&str], expected: &str| {
            let error = records(symbols).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        };
        check(&["btc usd"], "symbols: `btc usd`: ");
        check(&["=AAPL"], "symbols: `=AAPL`: the name before");
        check(&["X=*"], "symbols: `X=*`: ");
        for silence in [Duration::ZERO, STALE_MAX + Duration::from_nanos(1)] {
            assert_eq!(Records::new(&[], silence).unwrap_err(), RecordsError::Silence);
        }
    }
}
