//! Which conflated messages anybody wants: written by the shards, read by the sequencer.
//!
//! One bit per channel and encoding and shard. The sequencer encodes a conflated message only where some
//! shard has a subscriber for it. A shard that gets its first subscriber also asks for the last value, which
//! the sequencer publishes in the order of everything else, so that a snapshot can neither be missed nor
//! overtake a newer value. Sequenced channels are always encoded, because they are retained.
//!
//! A `*` subscription has a bit for its kind, so that instruments that appear later are wanted as well. It stands for none of
//! the streams of single sources ([`InstrumentTable::is_single_source`]).
//!
//! Bounded by construction: bits, no queue. Only conflated channels have them: 2 bits * 6 channels * 2 encodings, so 4
//! bytes for each instrument and shard.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use protocol::{ChannelId, ChannelKind, Encoding, Freshness, InstrumentId, InstrumentTable};

/// Bits of an instrument: one for each conflated kind, freshness and encoding, and some to spare, so that instruments do
/// not share words unevenly.
const BITS_PER_INSTRUMENT: usize =
    (ChannelKind::CONFLATED_COUNT * Freshness::COUNT * Encoding::COUNT).next_power_of_two();

/// The table of all shards.
#[derive(Debug)]
pub struct Interest {
    instruments: Arc<InstrumentTable>,
    shards: Box<[ShardInterest]>,
    /// Some shard has asked for a last value since the sequencer last looked.
    asked: AtomicBool,
}

#[derive(Debug)]
struct ShardInterest {
    wanted: Box<[AtomicU64]>,
    asked: Box<[AtomicU64]>,
    /// The kinds wanted for every instrument: the bits of the first instrument's channels.
    wanted_all: AtomicU64,
    /// The kinds whose last values are asked for, of every instrument.
    asked_all: AtomicU64,
}

const _: () = assert!(BITS_PER_INSTRUMENT <= 64, "an instrument's bits share one word");

/// The bit of a kind in `wanted_all`; none for a sequenced one.
fn kind_bit(kind: ChannelKind, freshness: Freshness, encoding: Encoding) -> u64 {
    bit(ChannelId::new(InstrumentId(0), kind, freshness), encoding).map_or(0, |(_, mask)| mask)
}

/// Word and mask of a conflated channel. Sequenced channels are always wanted, and have none.
fn bit(channel: ChannelId, encoding: Encoding) -> Option<(usize, u64)> {
    let kind = channel.kind().conflated_index()?;
    let within = (kind * Freshness::COUNT + channel.freshness() as usize) * Encoding::COUNT + encoding as usize;
    let bit = channel.instrument().index() * BITS_PER_INSTRUMENT + within;
    Some((bit / 64, 1 << (bit % 64)))
}

/// The channel of a bit, counted from the first of the table; `None` for the bits that are to spare.
fn channel_of(bit: usize) -> Option<(ChannelId, Encoding)> {
    let (instrument, within) = (bit / BITS_PER_INSTRUMENT, bit % BITS_PER_INSTRUMENT);
    let (stream, encoding) = (within / Encoding::COUNT, Encoding::ALL[within % Encoding::COUNT]);
    let kind = *ChannelKind::CONFLATED.get(stream / Freshness::COUNT)?;
    let freshness = if stream.is_multiple_of(Freshness::COUNT) { Freshness::RealTime } else { Freshness::Delayed };
    Some((ChannelId::new(InstrumentId(instrument as u32), kind, freshness), encoding))
}

impl Interest {
    /// A table for `shards` shards and as many instruments as their table may learn.
    pub fn new(shards: usize, instruments: Arc<InstrumentTable>) -> Interest {
        let words = (instruments.capacity() * BITS_PER_INSTRUMENT).div_ceil(64);
        let bits = || (0..words).map(|_| AtomicU64::new(0)).collect();
        Interest {
            instruments,
            shards: (0..shards)
                .map(|_| ShardInterest {
                    wanted: bits(),
                    asked: bits(),
                    wanted_all: AtomicU64::new(0),
                    asked_all: AtomicU64::new(0),
                })
                .collect(),
            asked: AtomicBool::new(false),
        }
    }

    /// A shard's first subscriber came: encode this channel from now on and publish its last value once.
    pub fn add(&self, shard: usize, channel: ChannelId, encoding: Encoding) {
        let Some((word, mask)) = bit(channel, encoding) else { return };
        let Some(shard_words) = self.shards.get(shard).filter(|s| word < s.wanted.len()) else { return };
        // Release, made visible by the request that follows.
        shard_words.wanted[word].fetch_or(mask, Ordering::Release);
        self.ask(shard, channel, encoding);
    }

    /// A shard's last subscriber left.
    pub fn remove(&self, shard: usize, channel: ChannelId, encoding: Encoding) {
        let Some((word, mask)) = bit(channel, encoding) else { return };
        let Some(shard) = self.shards.get(shard).filter(|s| word < s.wanted.len()) else { return };
        // Relaxed: encoding a message that nobody wants any more is harmless.
        shard.wanted[word].fetch_and(!mask, Ordering::Relaxed);
        shard.asked[word].fetch_and(!mask, Ordering::Relaxed);
    }

    /// A shard's first `*` subscriber came: encode this kind for every instrument, also for later ones, and
    /// publish all last values once.
    pub fn add_all(&self, shard: usize, kind: ChannelKind, freshness: Freshness, encoding: Encoding) {
        let Some(shard) = self.shards.get(shard) else { return };
        let bit = kind_bit(kind, freshness, encoding);
        // Release: as in `add`.
        shard.wanted_all.fetch_or(bit, Ordering::Release);
        shard.asked_all.fetch_or(bit, Ordering::Release);
        self.raise_flag();
    }

    /// A shard's last `*` subscriber left.
    pub fn remove_all(&self, shard: usize, kind: ChannelKind, freshness: Freshness, encoding: Encoding) {
        if let Some(shard) = self.shards.get(shard) {
            // Relaxed: as in `remove`.
            shard.wanted_all.fetch_and(!kind_bit(kind, freshness, encoding), Ordering::Relaxed);
        }
    }

    fn ask(&self, shard: usize, channel: ChannelId, encoding: Encoding) {
        let Some((word, mask)) = bit(channel, encoding) else { return };
        let Some(word) = self.shards.get(shard).and_then(|s| s.asked.get(word)) else { return };
        // Release, read by `take_asked` (Acquire): whoever sees the request also sees the channel wanted.
        word.fetch_or(mask, Ordering::Release);
        self.raise_flag();
    }

    fn raise_flag(&self) {
        // Release, and an exchange rather than a store: whoever reads the flag as another shard wrote it after
        // this one must see this shard's bits as well.
        self.asked.swap(true, Ordering::Release);
    }

    /// The encodings in which some shard wants the channel.
    pub fn wanted(&self, channel: ChannelId) -> impl Iterator<Item = Encoding> + use<> {
        let word = bit(channel, Encoding::ALL[0]).map_or(usize::MAX, |(word, _)| word);
        // Relaxed: a subscription that is missed here is served by its own request for the last value.
        let (one, all) = self.shards.iter().fold((0, 0), |(one, all), shard| {
            let bits = shard.wanted.get(word).map_or(0, |w| w.load(Ordering::Relaxed));
            (one | bits, all | shard.wanted_all.load(Ordering::Relaxed))
        });
        let all = if all != 0 && self.instruments.is_single_source(channel.instrument()) { 0 } else { all };
        let (kind, freshness) = (channel.kind(), channel.freshness());
        Encoding::ALL.into_iter().filter(move |encoding| {
            one & bit(channel, *encoding).map_or(0, |(_, mask)| mask) != 0
                || all & kind_bit(kind, freshness, *encoding) != 0
        })
    }

    /// Whether [`Self::take_asked`] has something to give.
    pub fn is_asked(&self) -> bool {
        // Relaxed: only a hint to go and look; the taking itself acquires.
        self.asked.load(Ordering::Relaxed)
    }

    /// Hands out and forgets the last values asked for, of all shards together. A `*` asks for those of the first
    /// `instruments` instruments: all that the caller has a value of.
    pub fn take_asked(&self, instruments: usize, mut each: impl FnMut(ChannelId, Encoding)) {
        // Acquire: sees the request bits that were set before the flag.
        if !self.asked.swap(false, Ordering::Acquire) {
            return;
        }
        let words = self.shards.first().map_or(0, |s| s.asked.len());
        for word in 0..words {
            let mut bits = self.shards.iter().fold(0, |bits, shard| {
                // Acquire, pairs with `add`. The load first keeps idle words shared between the caches.
                if shard.asked[word].load(Ordering::Relaxed) == 0 {
                    bits
                } else {
                    bits | shard.asked[word].swap(0, Ordering::Acquire)
                }
            });
            while bits != 0 {
                let index = word * 64 + bits.trailing_zeros() as usize;
                if let Some((channel, encoding)) = channel_of(index) {
                    each(channel, encoding);
                }
                bits &= bits - 1;
            }
        }
        // Acquire, pairs with `add_all`.
        let all = self.shards.iter().fold(0, |all, shard| all | shard.asked_all.swap(0, Ordering::Acquire));
        for bit in (0..u64::BITS as usize).filter(|bit| all & 1 << bit != 0) {
            let Some((first, encoding)) = channel_of(bit) else { continue };
            let instruments = (0..instruments as u32).map(InstrumentId);
            for instrument in instruments.filter(|instrument| !self.instruments.is_single_source(*instrument)) {
                each(ChannelId::new(instrument, first.kind(), first.freshness()), encoding);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interest_is_the_union_of_the_shards() {
        let interest = Interest::new(2, Arc::new(InstrumentTable::with_capacity(4)));
        let channel = ChannelId::new(InstrumentId(3), ChannelKind::DailyBars, Freshness::Delayed);
        let neighbour = ChannelId::new(InstrumentId(3), ChannelKind::DailyBars, Freshness::RealTime);
        let wanted = |i: &Interest| i.wanted(channel).collect::<Vec<_>>();
        assert!(wanted(&interest).is_empty() && !interest.is_asked());
        interest.add(0, channel, Encoding::Json);
        interest.add(1, channel, Encoding::MessagePack);
        assert_eq!(wanted(&interest), [Encoding::Json, Encoding::MessagePack]);
        let mut asked = Vec::new();
        interest.take_asked(0, |c, e| asked.push((c, e)));
        assert_eq!(asked, [(channel, Encoding::Json), (channel, Encoding::MessagePack)]);
        interest.take_asked(0, |_, _| panic!("asked once"));
        interest.remove(0, channel, Encoding::Json);
        assert_eq!(wanted(&interest), [Encoding::MessagePack]);
        assert!(interest.wanted(neighbour).next().is_none());
    }

    #[test]
    fn every_conflated_channel_has_bits_of_its_own() {
        let mut seen = std::collections::HashSet::new();
        for channel in (0..5 * ChannelId::PER_INSTRUMENT as u32).map(ChannelId) {
            for encoding in Encoding::ALL {
                let bit = bit(channel, encoding);
                assert_eq!(bit.is_some(), channel.kind().class() == protocol::Class::Conflated, "{channel:?}");
                let Some((word, mask)) = bit else { continue };
                assert!(mask.is_power_of_two() && seen.insert((word, mask)));
                let index = word * 64 + mask.trailing_zeros() as usize;
                assert_eq!(channel_of(index), Some((channel, encoding)));
            }
        }
    }

    #[test]
    fn channels_beyond_the_table_and_sequenced_ones_are_never_wanted() {
        let interest = Interest::new(1, Arc::new(InstrumentTable::with_capacity(1)));
        let beyond = ChannelId::new(InstrumentId(1_000_000), ChannelKind::Quotes, Freshness::RealTime);
        let sequenced = ChannelId::new(InstrumentId(0), ChannelKind::Bars5s, Freshness::RealTime);
        for channel in [beyond, sequenced] {
            interest.add(0, channel, Encoding::Json);
            assert!(interest.wanted(channel).next().is_none());
        }
        assert!(!interest.is_asked());
    }
}
