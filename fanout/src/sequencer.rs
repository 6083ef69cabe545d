//! The sequencer: numbers every update of every channel, keeps last values, holds back what delayed users
//! may only see later, and encodes each message once per encoding. Owned by one thread.
//!
//! Pure: it is told the time. It knows neither rings nor shards; it fills segments that its thread hands on.

use std::sync::Arc;

use protocol::{
    Bar, ChannelId, ChannelKind, Class, Document, Encoding, Freshness, Indicators, InstrumentId, InstrumentTable,
    Interval, Quote, SourceId, Stamp, TickFlags, Trade, encode_bar, encode_indicators, encode_quote, encode_trade,
    encode_venue_gap,
};

use crate::delay::{DelayLine, Numbered};
use crate::{Interest, Segment, SegmentBuilder};

/// What an update says.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    Trade(Trade),
    Quote(Quote),
    Bar(Bar),
    /// As of a finished bar of the channel's interval.
    Indicators(Indicators),
    /// The venue's numbering shows that messages are missing at this place.
    VenueGap {
        missed: u64,
    },
    /// What the platform says, such as a signal.
    Document {
        document: Arc<Document>,
        /// When it is of no use to anybody any more, Unix ns; `i64::MAX` for never.
        expires_at: i64,
    },
}

/// One event for one channel, not yet numbered.
#[derive(Clone, Debug, PartialEq)]
pub struct Update {
    pub instrument: InstrumentId,
    pub kind: ChannelKind,
    pub source: SourceId,
    /// Venue time, Unix ns.
    pub ts_event: i64,
    /// Time of our socket read, Unix ns.
    pub ts_recv: i64,
    pub flags: TickFlags,
    pub body: Body,
}

impl Update {
    /// Appends the update as a frame for clients. `seq` is the number that it was given, `venue` the name of its source.
    pub fn encode(&self, encoding: Encoding, seq: u64, symbol: &str, venue: &str, out: &mut Vec<u8>) {
        let Update { kind, ts_event, ts_recv, flags, .. } = *self;
        let stamp = Stamp { seq, ts_event, ts_recv, flags };
        match &self.body {
            Body::Trade(trade) => encode_trade(encoding, symbol, venue, trade, stamp, out),
            Body::Quote(quote) => encode_quote(encoding, symbol, quote, stamp, out),
            Body::Bar(bar) => encode_bar(encoding, symbol, kind, bar, seq, ts_recv, out),
            Body::Indicators(indicators) => {
                // Only kinds of an interval carry indicators.
                let interval = kind.interval().unwrap_or(Interval::Minute);
                encode_indicators(encoding, symbol, interval, indicators, seq, ts_recv, out);
            }
            Body::Document { document, .. } => document.encode(encoding, stamp, out),
            Body::VenueGap { missed } => encode_venue_gap(encoding, symbol, kind, *missed, stamp, out),
        }
    }
}

/// How the sequencer cuts segments and holds data back.
#[derive(Clone, Debug)]
pub struct SequencerConfig {
    /// How long users without real-time access wait, ns; `None` where there are no such users.
    pub delay_ns: Option<i64>,
    /// Bound of the delay line, bytes.
    pub delay_bytes_max: usize,
    /// A segment is closed when an encoding reaches this many bytes.
    pub segment_bytes_max: usize,
    /// Names of the sources by [`SourceId`], as clients see them.
    pub venues: Vec<String>,
}

#[derive(Clone, Debug, Default)]
struct InstrumentState {
    /// Last number given out, per kind. The delayed channel of a kind has the numbers of the live one.
    seqs: [u64; ChannelKind::COUNT],
    /// Last values by [`ChannelKind::conflated_index`]: allocated when the instrument has one.
    last: [[Option<Box<Numbered>>; Freshness::COUNT]; ChannelKind::CONFLATED_COUNT],
}

/// Numbers and encodes updates.
#[derive(Debug)]
pub struct Sequencer {
    instruments: Arc<InstrumentTable>,
    interest: Arc<Interest>,
    venues: Vec<String>,
    segment_bytes_max: usize,
    delay: Option<DelayLine>,
    states: Vec<InstrumentState>,
    open: SegmentBuilder,
    open_conflated: SegmentBuilder,
    ready: Vec<Arc<Segment>>,
}

impl Sequencer {
    pub fn new(config: SequencerConfig, instruments: Arc<InstrumentTable>, interest: Arc<Interest>) -> Sequencer {
        Sequencer {
            instruments,
            interest,
            venues: config.venues,
            segment_bytes_max: config.segment_bytes_max,
            delay: config.delay_ns.map(|delay_ns| DelayLine::new(delay_ns, config.delay_bytes_max)),
            states: Vec::new(),
            open: SegmentBuilder::new(Class::Sequenced),
            open_conflated: SegmentBuilder::new(Class::Conflated),
            ready: Vec::new(),
        }
    }

    /// Numbers the update and publishes it to its real-time channel; keeps it for the delayed one. Returns its number.
    pub fn publish(&mut self, update: Update) -> u64 {
        let index = update.instrument.index();
        if index >= self.states.len() {
            self.states.resize_with(index + 1, InstrumentState::default);
        }
        let seq = &mut self.states[index].seqs[update.kind as usize];
        *seq += 1;
        let seq = *seq;
        let numbered = Numbered { seq, update };
        self.emit(&numbered, Freshness::RealTime);
        if let Some(delay) = &mut self.delay {
            delay.push(numbered);
        }
        seq
    }

    /// Publishes what is due at `now` (Unix ns) to the delayed channels. Returns when to come back.
    pub fn release_delayed(&mut self, now: i64) -> Option<i64> {
        while let Some(numbered) = self.delay.as_mut().and_then(|line| line.pop_due(now)) {
            // Expired while it was held back: a hole in the delayed channel's numbers, which its listeners are told of.
            let is_over = matches!(numbered.update.body, Body::Document { expires_at, .. } if expires_at <= now);
            if !is_over {
                self.emit(&numbered, Freshness::Delayed);
            }
        }
        self.delay.as_ref().and_then(DelayLine::next_due)
    }

    /// Publishes the last values that shards have asked for.
    pub fn serve_snapshots(&mut self) {
        let Sequencer { interest, states, open_conflated, instruments, venues, .. } = self;
        interest.take_asked(states.len(), |channel, encoding| {
            let last = states.get(channel.instrument().index()).and_then(|state| {
                let kind = channel.kind().conflated_index()?;
                state.last[kind][channel.freshness() as usize].as_deref()
            });
            if let Some(numbered) = last {
                open_conflated.push(channel, numbered.seq, [encoding], |encoding, out| {
                    encode_update(encoding, instruments, venues, numbered, out);
                });
            }
        });
        self.cut_if_full();
    }

    /// Whether a shard waits for [`Self::serve_snapshots`].
    pub fn is_asked(&self) -> bool {
        self.interest.is_asked()
    }

    /// Closes the open segments and hands out all that are ready, in order.
    pub fn take_segments(&mut self) -> impl Iterator<Item = Arc<Segment>> + '_ {
        self.cut();
        self.ready.drain(..)
    }

    /// Whether a segment has been closed because it was full, so that the thread should hand it on now.
    pub fn has_full_segment(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Updates that the full delay line has thrown away so far.
    pub fn delay_dropped(&self) -> u64 {
        self.delay.as_ref().map_or(0, DelayLine::dropped)
    }

    /// Bytes that the delay line holds.
    pub fn delay_bytes(&self) -> usize {
        self.delay.as_ref().map_or(0, DelayLine::bytes)
    }

    /// Instruments that have had an update.
    pub fn instruments(&self) -> usize {
        self.states.len()
    }

    fn emit(&mut self, numbered: &Numbered, freshness: Freshness) {
        let update = &numbered.update;
        let channel = ChannelId::new(update.instrument, update.kind, freshness);
        let Sequencer { instruments, venues, states, interest, open, open_conflated, .. } = self;
        match update.kind.conflated_index() {
            None => open.push(channel, numbered.seq, Encoding::ALL, |encoding, out| {
                encode_update(encoding, instruments, venues, numbered, out);
            }),
            Some(kind) => {
                let last = &mut states[update.instrument.index()].last[kind][freshness as usize];
                match last {
                    Some(last) => last.as_mut().clone_from(numbered),
                    None => *last = Some(Box::new(numbered.clone())),
                }
                let mut wanted = interest.wanted(channel).peekable();
                if wanted.peek().is_some() {
                    open_conflated.push(channel, numbered.seq, wanted, |encoding, out| {
                        encode_update(encoding, instruments, venues, numbered, out);
                    });
                }
            }
        }
        self.cut_if_full();
    }

    fn cut_if_full(&mut self) {
        if self.open.bytes().max(self.open_conflated.bytes()) >= self.segment_bytes_max {
            self.cut();
        }
    }

    fn cut(&mut self) {
        self.ready.extend(self.open.finish());
        self.ready.extend(self.open_conflated.finish());
    }
}

fn encode_update(
    encoding: Encoding,
    instruments: &InstrumentTable,
    venues: &[String],
    numbered: &Numbered,
    out: &mut Vec<u8>,
) {
    let Numbered { seq, update } = numbered;
    let symbol = instruments.symbol(update.instrument);
    let venue = venues.get(usize::from(update.source.0)).map_or("", String::as_str);
    update.encode(encoding, *seq, symbol, venue, out);
}

#[cfg(test)]
mod tests;
