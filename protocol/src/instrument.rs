//! Instruments: canonical symbols and their small dense ids.
//!
//! The table is shared by all threads and only ever grows. Looking a symbol up takes a sharded lock, so
//! ticks carry the id, and only sign-ins, subscriptions and the first sight of a product look up by name.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use dashmap::DashMap;

/// Longest canonical symbol, in bytes.
pub const SYMBOL_BYTES_MAX: usize = 32;

/// Dense index of an instrument, in order of first sight. Valid for the life of the process only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InstrumentId(pub u32);

impl InstrumentId {
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// What an instrument is, by the form of its symbol: `AAPL` is an equity, `EUR/USD` foreign exchange,
/// `BTC/USD` crypto.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AssetClass {
    Equity,
    Forex,
    Crypto,
}

/// ISO 4217 currencies that venues quote against each other; a pair of two of these is foreign exchange.
const FIAT: [&str; 24] = [
    "AUD", "BRL", "CAD", "CHF", "CNH", "CNY", "CZK", "DKK", "EUR", "GBP", "HKD", "HUF", "INR", "JPY", "KRW", "MXN",
    "NOK", "NZD", "PLN", "SEK", "SGD", "TRY", "USD", "ZAR",
];

impl AssetClass {
    /// The class of a canonical symbol.
    pub fn of(symbol: &str) -> AssetClass {
        match split_source(symbol).0.split_once('/') {
            None => AssetClass::Equity,
            Some((base, quote)) if FIAT.contains(&base) && FIAT.contains(&quote) => AssetClass::Forex,
            Some(_) => AssetClass::Crypto,
        }
    }

    /// The platform's name of the class, as it stands in a user's `categories`.
    pub const fn name(self) -> &'static str {
        match self {
            AssetClass::Equity => "equity",
            AssetClass::Forex => "forex",
            AssetClass::Crypto => "crypto",
        }
    }
}

/// The text is no canonical symbol: empty, longer than 32 bytes, or with other characters than
/// `A-Z 0-9 . - / _`, or with a second such name behind an `@`, that of its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a symbol: 1 to 32 of A-Z, 0-9 and . - _ /")]
pub struct SymbolError;

/// The table holds as many instruments as `instruments_max` allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableFull {
    #[error("the instrument table is full ({capacity} instruments)")]
    Full { capacity: usize },
    #[error(transparent)]
    Symbol(#[from] SymbolError),
}

/// What the table knows of an instrument.
#[derive(Debug)]
struct Known {
    symbol: Box<str>,
    is_single_source: bool,
}

/// Canonical symbols and their ids: append-only, shared, readable without a lock by id.
#[derive(Debug)]
pub struct InstrumentTable {
    ids: DashMap<Box<str>, InstrumentId>,
    /// Written once each, at the index the id gives. `count <= known.len()`.
    known: Box<[OnceLock<Known>]>,
    count: AtomicU32,
}

impl InstrumentTable {
    /// A table of at most `capacity` instruments (32 bytes reserved for each).
    pub fn with_capacity(capacity: usize) -> InstrumentTable {
        InstrumentTable {
            ids: DashMap::new(),
            known: (0..capacity).map(|_| OnceLock::new()).collect(),
            count: AtomicU32::new(0),
        }
    }

    /// How many instruments may be learnt.
    pub fn capacity(&self) -> usize {
        self.known.len()
    }

    /// How many instruments are known; ids below this number may not all be readable yet by [`Self::symbol`]
    /// while another thread is learning.
    pub fn len(&self) -> usize {
        // Relaxed: a count for gauges and loops; the symbol itself is read through its OnceLock.
        self.count.load(Ordering::Relaxed) as usize
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The id of a canonical symbol, if the instrument is known.
    pub fn find(&self, symbol: &str) -> Option<InstrumentId> {
        self.ids.get(symbol).map(|id| *id)
    }

    /// The id of a canonical symbol, which is learnt if it is new.
    ///
    /// # Errors
    /// [`TableFull::Full`] at `capacity`, [`TableFull::Symbol`] where the text is no symbol.
    pub fn learn(&self, symbol: &str) -> Result<InstrumentId, TableFull> {
        if let Some(id) = self.find(symbol) {
            return Ok(id);
        }
        check_symbol(symbol)?;
        // The entry's lock makes the id unique; two new symbols may race only for the count.
        let entry = self.ids.entry(symbol.into());
        if let dashmap::Entry::Occupied(known) = &entry {
            return Ok(*known.get());
        }
        let capacity = self.capacity();
        let id = self
            .count
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |n| ((n as usize) < capacity).then_some(n + 1))
            .map_err(|_| TableFull::Full { capacity })?;
        let known = Known { symbol: symbol.into(), is_single_source: split_source(symbol).1.is_some() };
        let fresh = self.known[id as usize].set(known).is_ok();
        debug_assert!(fresh, "Invariant: an id is given out once");
        let id = InstrumentId(id);
        entry.insert(id);
        Ok(id)
    }

    /// The canonical symbol of an id; empty for an id that this table never gave out.
    pub fn symbol(&self, id: InstrumentId) -> &str {
        self.known(id).map_or("", |known| &known.symbol)
    }

    /// Whether the instrument is one source's stream alone, `BTC/USD@COINBASE`: nothing that `*` means. False for an id
    /// that this table never gave out.
    pub fn is_single_source(&self, id: InstrumentId) -> bool {
        self.known(id).is_some_and(|known| known.is_single_source)
    }

    fn known(&self, id: InstrumentId) -> Option<&Known> {
        self.known.get(id.index())?.get()
    }
}

/// A symbol without its source, and the source where it names one: `BTC/USD@COINBASE` is `BTC/USD` of `COINBASE`.
pub fn split_source(symbol: &str) -> (&str, Option<&str>) {
    symbol.split_once('@').map_or((symbol, None), |(plain, source)| (plain, Some(source)))
}

/// Whether `text` has the form of a canonical symbol.
///
/// # Errors
/// [`SymbolError`] where it has not.
pub fn check_symbol(text: &str) -> Result<(), SymbolError> {
    let allowed = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_' | b'/');
    let (plain, source) = split_source(text);
    let is_name = |text: &str| !text.is_empty() && text.bytes().all(allowed);
    if text.len() > SYMBOL_BYTES_MAX || !is_name(plain) || !source.is_none_or(is_name) {
        return Err(SymbolError);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn learns_once_and_refuses_when_full() {
        let table = InstrumentTable::with_capacity(2);
        let btc = table.learn("BTC/USD").unwrap();
        assert_eq!(table.learn("BTC/USD"), Ok(btc));
        let eth = table.learn("ETH/USD").unwrap();
        assert_ne!(btc, eth);
        assert_eq!(table.learn("SOL/USD"), Err(TableFull::Full { capacity: 2 }));
        assert_eq!(table.learn("ETH/USD"), Ok(eth));
        assert_eq!((table.symbol(btc), table.symbol(eth), table.len()), ("BTC/USD", "ETH/USD", 2));
        assert_eq!(table.find("SOL/USD"), None);
        assert_eq!(table.symbol(InstrumentId(9)), "");
    }

    #[test]
    fn refuses_what_is_no_symbol() {
        let table = InstrumentTable::with_capacity(8);
        for text in ["", "btc/usd", "BTC USD", "A\n", "\u{0}", &"A".repeat(33)] {
            assert_eq!(table.learn(text), Err(TableFull::Symbol(SymbolError)), "{text:?}");
        }
        assert!(table.is_empty());
    }

    #[test]
    fn a_symbol_with_a_source_is_that_sources_alone() {
        let table = InstrumentTable::with_capacity(4);
        for (symbol, split) in [("BTC/USD@KRAKEN", ("BTC/USD", Some("KRAKEN"))), ("BTC/USD", ("BTC/USD", None))] {
            assert_eq!(split_source(symbol), split);
            assert_eq!(table.is_single_source(table.learn(symbol).unwrap()), split.1.is_some(), "{symbol}");
        }
        assert!(!table.is_single_source(InstrumentId(2)) && !table.is_single_source(InstrumentId(9)), "not given out");
    }

    #[test]
    fn threads_agree_on_ids() {
        let table = InstrumentTable::with_capacity(64);
        let ids: Vec<Vec<InstrumentId>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| (0..64).map(|i| table.learn(&format!("S{i}/USD")).unwrap()).collect()))
                .collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        assert!(ids.iter().all(|seen| *seen == ids[0]));
        assert_eq!(table.len(), 64);
        for (i, id) in ids[0].iter().enumerate() {
            assert_eq!(table.symbol(*id), format!("S{i}/USD"));
        }
    }

    #[test]
    fn classes_follow_the_symbol() {
        assert_eq!(AssetClass::of("AAPL"), AssetClass::Equity);
        assert_eq!(AssetClass::of("EUR/USD"), AssetClass::Forex);
        assert_eq!(AssetClass::of("BTC/USD"), AssetClass::Crypto);
        assert_eq!(AssetClass::of("SKL/BTC"), AssetClass::Crypto);
    }
}
