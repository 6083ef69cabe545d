//! Streams of single sources, such as `BTC/USD@COINBASE`, beside the plain ones that arbitration makes.
//!
//! Owned by whoever takes the sequencer's turn. Such a stream is an instrument of its own, which exists from the first
//! subscription to it on ([`source_symbol`]); the sequencer finds it here when ticks of that source and instrument come,
//! whoever makes the plain stream. Where nobody has asked for one, a tick costs a look at a number.
//!
//! Bound: three quarters of the instrument table, which they share with the instruments.

use std::collections::HashMap;

use protocol::{InstrumentId, InstrumentTable, SourceId, split_source};

/// The instrument of `symbol`, `BTC/USD@COINBASE`, where both of its parts are known; it is learnt if it is new. `None` for
/// any other text.
pub(crate) fn source_symbol(symbol: &str, instruments: &InstrumentTable, sources: &[String]) -> Option<InstrumentId> {
    let (plain, Some(source)) = split_source(symbol) else { return None };
    instruments.find(plain)?;
    // Clients must not fill the table with them: the last quarter is for instruments.
    let has_room = instruments.len() < instruments.capacity() / 4 * 3;
    if !has_room || !sources.iter().any(|known| known == source) {
        return instruments.find(symbol);
    }
    // A full table, or a name too long with its source.
    instruments.learn(symbol).ok()
}

/// The streams that somebody has asked for.
#[derive(Debug, Default)]
pub(crate) struct SourceStreams {
    /// Names of the sources by their ids.
    sources: Vec<String>,
    streams: HashMap<(InstrumentId, SourceId), InstrumentId>,
    /// Instruments of the table that have been looked at.
    seen: u32,
}

impl SourceStreams {
    pub(crate) fn new(sources: Vec<String>) -> SourceStreams {
        SourceStreams { sources, ..SourceStreams::default() }
    }

    /// The stream of this source alone, if there is one.
    pub(crate) fn find(
        &mut self,
        instruments: &InstrumentTable,
        instrument: InstrumentId,
        source: SourceId,
    ) -> Option<InstrumentId> {
        if (self.seen as usize) < instruments.len() {
            self.look(instruments);
        }
        if self.streams.is_empty() {
            return None;
        }
        self.streams.get(&(instrument, source)).copied()
    }

    /// Finds the streams among the instruments that are new.
    #[cold]
    fn look(&mut self, instruments: &InstrumentTable) {
        while (self.seen as usize) < instruments.len() {
            let id = InstrumentId(self.seen);
            let symbol = instruments.symbol(id);
            if symbol.is_empty() {
                // Somebody is about to write it: it is looked at with the next tick.
                return;
            }
            self.seen += 1;
            let (plain, Some(source)) = split_source(symbol) else { continue };
            let source = self.sources.iter().position(|known| known == source).and_then(|at| u8::try_from(at).ok());
            if let (Some(plain), Some(source)) = (instruments.find(plain), source) {
                self.streams.insert((plain, SourceId(source)), id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_exists_from_the_first_subscription_on() {
        let instruments = InstrumentTable::with_capacity(8);
        let sources = ["COINBASE", "KRAKEN"].map(str::to_owned).to_vec();
        let btc = instruments.learn("BTC/USD").unwrap();
        let mut streams = SourceStreams::new(sources.clone());
        let kraken = SourceId(1);
        assert_eq!(streams.find(&instruments, btc, kraken), None);
        for unknown in ["BTC/USD", "BTC/USD@", "BTC/USD@BINANCE", "ETH/USD@KRAKEN", "@KRAKEN", "BTC/USD@KRAKEN@KRAKEN"]
        {
            assert_eq!(source_symbol(unknown, &instruments, &sources), None, "{unknown}");
        }
        assert_eq!(instruments.len(), 1);
        let alone = source_symbol("BTC/USD@KRAKEN", &instruments, &sources).unwrap();
        assert_eq!(source_symbol("BTC/USD@KRAKEN", &instruments, &sources), Some(alone));
        assert_eq!(streams.find(&instruments, btc, kraken), Some(alone));
        assert_eq!(streams.find(&instruments, btc, SourceId(0)), None);
        for symbol in ["ETH/USD", "SOL/USD", "XRP/USD", "ADA/USD"] {
            instruments.learn(symbol).unwrap();
        }
        assert_eq!(source_symbol("ETH/USD@KRAKEN", &instruments, &sources), None, "the rest is for instruments");
        assert_eq!(source_symbol("BTC/USD@KRAKEN", &instruments, &sources), Some(alone));
        assert_eq!(streams.find(&instruments, btc, kraken), Some(alone));
    }
}
