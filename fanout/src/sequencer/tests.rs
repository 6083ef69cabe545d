//! Tests of the sequencer: numbers, the delayed twin of every channel, and what is encoded at all.

use protocol::frame::frame_len;
use protocol::{Decimal, Side};

use super::*;

const SYMBOLS: [&str; 3] = ["BTC/USD", "ETH/USD", "AAPL"];
const DELAY_NS: i64 = 10_000_000_000;

struct Rig {
    sequencer: Sequencer,
    interest: Arc<Interest>,
    trade_id: u64,
}

/// A published message: channel, number, and its frame in each encoding (empty where it has none).
type Message = (ChannelId, u64, [Vec<u8>; Encoding::COUNT]);

impl Rig {
    fn new() -> Rig {
        Rig::with(|_| ())
    }

    fn with(adjust: impl FnOnce(&mut SequencerConfig)) -> Rig {
        let mut config = SequencerConfig {
            delay_ns: Some(DELAY_NS),
            delay_bytes_max: 1 << 20,
            segment_bytes_max: 1 << 20,
            venues: vec!["coinbase".into()],
        };
        adjust(&mut config);
        let instruments = Arc::new(InstrumentTable::with_capacity(SYMBOLS.len()));
        for symbol in SYMBOLS {
            instruments.learn(symbol).unwrap();
        }
        let interest = Arc::new(Interest::new(2, instruments.clone()));
        Rig { sequencer: Sequencer::new(config, instruments, interest.clone()), interest, trade_id: 0 }
    }

    fn publish(&mut self, instrument: u32, body: Body, ts_recv: i64) {
        let kind = if let Body::Quote(_) = body { ChannelKind::Quotes } else { ChannelKind::Trades };
        let instrument = InstrumentId(instrument);
        self.sequencer.publish(Update {
            instrument,
            kind,
            source: SourceId(0),
            ts_event: ts_recv - 1,
            ts_recv,
            flags: protocol::TickFlags::NONE,
            body,
        });
    }

    fn trade(&mut self, instrument: u32, ts_recv: i64) {
        self.trade_id += 1;
        let (price, size) = (decimal("43521.10"), decimal("0.0100"));
        self.publish(
            instrument,
            Body::Trade(Trade { id: Some(self.trade_id), price, size, taker: Some(Side::Buy) }),
            ts_recv,
        );
    }

    fn quote(&mut self, instrument: u32, bid: &str, ts_recv: i64) {
        let (bid, ask, size) = (decimal(bid), decimal("99999"), decimal("1"));
        self.publish(instrument, Body::Quote(Quote { bid, bid_size: size, ask, ask_size: size }), ts_recv);
    }

    fn segments(&mut self) -> Vec<Arc<Segment>> {
        self.sequencer.take_segments().collect()
    }

    fn messages(&mut self) -> Vec<Message> {
        self.segments().iter().flat_map(|segment| messages(segment)).collect()
    }
}

fn messages(segment: &Segment) -> Vec<Message> {
    let frames = |index| Encoding::ALL.map(|e| segment.bytes(segment.frame_range(index, e), e).to_vec());
    let messages: Vec<Message> =
        segment.publications().iter().enumerate().map(|(i, p)| (p.channel, p.seq, frames(i))).collect();
    for (channel, seq, frames) in &messages {
        assert_eq!(channel.kind().class(), segment.class());
        for frame in frames.iter().filter(|frame| !frame.is_empty()) {
            assert_eq!(frame_len(frame), Some(frame.len()), "{channel:?} {seq} is one whole frame");
        }
    }
    messages
}

fn numbers(messages: &[Message]) -> Vec<(ChannelId, u64)> {
    messages.iter().map(|(channel, seq, _)| (*channel, *seq)).collect()
}

fn decimal(text: &str) -> Decimal {
    Decimal::parse(text.as_bytes()).unwrap()
}

fn trades(instrument: u32, freshness: Freshness) -> ChannelId {
    ChannelId::new(InstrumentId(instrument), ChannelKind::Trades, freshness)
}

fn quotes(instrument: u32, freshness: Freshness) -> ChannelId {
    ChannelId::new(InstrumentId(instrument), ChannelKind::Quotes, freshness)
}

use Freshness::{Delayed, RealTime};

#[test]
fn every_channel_counts_from_one() {
    let mut rig = Rig::new();
    rig.interest.add(0, quotes(0, RealTime), Encoding::Json);
    rig.trade(0, 1);
    rig.quote(0, "1", 2);
    rig.trade(2, 3);
    rig.publish(0, Body::VenueGap { missed: 3 }, 4);
    rig.trade(0, 5);
    rig.quote(0, "2", 6);
    let published = rig.messages();
    let sequenced = [(0, 1), (2, 1), (0, 2), (0, 3)].map(|(i, seq)| (trades(i, RealTime), seq));
    let conflated = [1, 2].map(|seq| (quotes(0, RealTime), seq));
    assert_eq!(numbers(&published), [&sequenced[..], &conflated[..]].concat());
    assert_eq!(rig.segments().len(), 0, "handed out once");
    assert_eq!(rig.sequencer.instruments(), 3);
}

#[test]
fn the_delayed_twin_has_the_same_numbers_and_bytes_and_is_complete() {
    let mut rig = Rig::new();
    for freshness in [RealTime, Delayed] {
        rig.interest.add(0, quotes(1, freshness), Encoding::Json);
        rig.interest.add(1, quotes(1, freshness), Encoding::MessagePack);
    }
    let mut live = Vec::new();
    for i in 0..100 {
        rig.trade(i % 3, i64::from(i) * 1_000);
        rig.quote(1, &i.to_string(), i64::from(i) * 1_000 + 1);
        live.extend(rig.messages());
    }
    assert_eq!(live.len(), 200);
    assert!(live.iter().all(|(channel, ..)| channel.freshness() == RealTime));

    let mut delayed = Vec::new();
    let mut next = rig.sequencer.release_delayed(0);
    while let Some(due) = next {
        assert_eq!(rig.sequencer.release_delayed(due - 1), Some(due));
        assert_eq!(rig.messages(), [], "nothing comes early");
        next = rig.sequencer.release_delayed(due);
        for (channel, seq, frames) in rig.messages() {
            assert_eq!(channel.freshness(), Delayed);
            delayed.push((ChannelId::new(channel.instrument(), channel.kind(), RealTime), seq, frames, due));
        }
    }
    let twins: Vec<Message> =
        delayed.iter().map(|(channel, seq, frames, _)| (*channel, *seq, frames.clone())).collect();
    assert_eq!(twins, live);
    for (i, (.., due)) in delayed.iter().enumerate() {
        let ts_recv = i as i64 / 2 * 1_000 + i as i64 % 2;
        assert_eq!(*due, ts_recv + DELAY_NS, "exactly the delay");
    }
    assert_eq!((rig.sequencer.delay_bytes(), rig.sequencer.delay_dropped()), (0, 0));
}

#[test]
fn a_clock_that_steps_back_keeps_the_order() {
    let mut rig = Rig::new();
    rig.trade(0, 5_000);
    rig.trade(0, 1_000);
    rig.messages();
    assert_eq!(rig.sequencer.release_delayed(4_999 + DELAY_NS), Some(5_000 + DELAY_NS));
    assert_eq!(rig.sequencer.release_delayed(5_000 + DELAY_NS), None);
    assert_eq!(numbers(&rig.messages()), [1, 2].map(|seq| (trades(0, Delayed), seq)));
}

#[test]
fn without_a_delay_there_is_nothing_to_release() {
    let mut rig = Rig::with(|config| config.delay_ns = None);
    rig.trade(0, 1);
    rig.messages();
    assert_eq!(rig.sequencer.release_delayed(i64::MAX), None);
    assert_eq!((rig.messages(), rig.sequencer.delay_bytes()), (vec![], 0));
}

#[test]
fn a_full_delay_line_leaves_newcomers_out_and_counts_them() {
    let mut rig = Rig::with(|config| config.delay_bytes_max = 10 * size_of::<Numbered>() + 1);
    for i in 0..25 {
        rig.trade(0, i);
        assert!(rig.sequencer.delay_bytes() <= 10 * size_of::<Numbered>());
    }
    assert_eq!(rig.sequencer.delay_dropped(), 15);
    rig.messages();
    assert_eq!(rig.sequencer.release_delayed(i64::MAX), None);
    assert_eq!(numbers(&rig.messages()), (1..=10).map(|seq| (trades(0, Delayed), seq)).collect::<Vec<_>>());
    rig.trade(0, 25);
    rig.messages();
    assert_eq!(rig.sequencer.release_delayed(i64::MAX), None);
    assert_eq!(numbers(&rig.messages()), [(trades(0, Delayed), 26)], "there is room again");
}

#[test]
fn conflated_updates_leave_the_last_quarter_of_the_delay_line_alone() {
    let mut line = DelayLine::new(DELAY_NS, 8 * size_of::<Numbered>());
    let mut push = |kind| {
        let body = Body::VenueGap { missed: 1 };
        let (instrument, source) = (InstrumentId(0), SourceId(0));
        line.push(Numbered {
            seq: 1,
            update: Update {
                instrument,
                kind,
                source,
                ts_event: 0,
                ts_recv: 0,
                flags: protocol::TickFlags::NONE,
                body,
            },
        });
        (line.bytes() / size_of::<Numbered>(), line.dropped())
    };
    for held in 1..=6 {
        assert_eq!(push(ChannelKind::Quotes), (held, 0));
    }
    assert_eq!(push(ChannelKind::Quotes), (6, 1));
    assert_eq!(push(ChannelKind::Trades), (7, 1));
    assert_eq!(push(ChannelKind::Bars), (8, 1));
    assert_eq!(push(ChannelKind::Trades), (8, 2));
}

#[test]
fn the_delay_line_stays_within_its_bound() {
    for entries in [1, 2, 63, 64, 65, 100, 1_000] {
        let mut line = DelayLine::new(DELAY_NS, entries * size_of::<Numbered>());
        let (instrument, kind, source) = (InstrumentId(0), ChannelKind::Trades, SourceId(0));
        for seq in 0..3 * entries as u64 {
            line.push(Numbered {
                seq,
                update: Update {
                    instrument,
                    kind,
                    source,
                    ts_event: 0,
                    ts_recv: 0,
                    flags: protocol::TickFlags::NONE,
                    body: Body::VenueGap { missed: 1 },
                },
            });
            assert!(line.capacity() <= entries, "{} of {entries}", line.capacity());
        }
        assert_eq!((line.bytes(), line.dropped()), (entries * size_of::<Numbered>(), 2 * entries as u64));
    }
}

#[test]
fn conflated_messages_are_encoded_where_somebody_wants_them() {
    let mut rig = Rig::new();
    let check = |rig: &mut Rig, wanted: &[Encoding]| {
        rig.quote(0, "1", 1);
        let published = rig.messages();
        let encoded =
            |encoding: Encoding| published.first().is_some_and(|(.., frames)| !frames[encoding as usize].is_empty());
        assert_eq!(Encoding::ALL.into_iter().filter(|e| encoded(*e)).collect::<Vec<_>>(), wanted);
        assert_eq!(published.len(), usize::from(!wanted.is_empty()), "not published where nobody wants it");
    };
    check(&mut rig, &[]);
    rig.interest.add(1, quotes(0, RealTime), Encoding::MessagePack);
    check(&mut rig, &[Encoding::MessagePack]);
    rig.interest.add_all(0, ChannelKind::Quotes, RealTime, Encoding::Json);
    check(&mut rig, &Encoding::ALL);
    rig.interest.remove(1, quotes(0, RealTime), Encoding::MessagePack);
    check(&mut rig, &[Encoding::Json]);
    rig.interest.remove_all(0, ChannelKind::Quotes, RealTime, Encoding::Json);
    check(&mut rig, &[]);
    // The kind and the instrument beside it, and the delayed twin, are no reason.
    rig.interest.add(0, quotes(1, RealTime), Encoding::Json);
    rig.interest.add(0, quotes(0, Delayed), Encoding::Json);
    rig.interest.add_all(0, ChannelKind::UpdatedBars, RealTime, Encoding::Json);
    check(&mut rig, &[]);
}

#[test]
fn a_last_value_is_given_to_whoever_asks_and_only_then() {
    let mut rig = Rig::new();
    rig.quote(0, "1", 1);
    rig.quote(0, "2", 2);
    rig.quote(1, "3", 3);
    assert!(!rig.sequencer.is_asked());
    rig.interest.add(0, quotes(0, RealTime), Encoding::Json);
    rig.interest.add(0, quotes(2, RealTime), Encoding::Json);
    assert!(rig.sequencer.is_asked());
    rig.sequencer.serve_snapshots();
    let published = rig.messages();
    assert_eq!(numbers(&published), [(quotes(0, RealTime), 2)], "of the channels that have one");
    assert!(published[0].2[Encoding::MessagePack as usize].is_empty(), "in the encoding that was asked for");
    rig.sequencer.serve_snapshots();
    assert_eq!(rig.messages(), []);

    rig.interest.add_all(1, ChannelKind::Quotes, RealTime, Encoding::MessagePack);
    rig.sequencer.serve_snapshots();
    assert_eq!(numbers(&rig.messages()), [(quotes(0, RealTime), 2), (quotes(1, RealTime), 1)]);

    // The delayed twin has no last value before it is due.
    rig.interest.add(0, quotes(0, Delayed), Encoding::Json);
    rig.sequencer.serve_snapshots();
    assert_eq!(rig.messages(), []);
    rig.sequencer.release_delayed(1 + DELAY_NS);
    assert_eq!(numbers(&rig.messages()), [(quotes(0, Delayed), 1)]);
    rig.interest.add(1, quotes(0, Delayed), Encoding::Json);
    rig.sequencer.serve_snapshots();
    assert_eq!(numbers(&rig.messages()), [(quotes(0, Delayed), 1)]);
}

#[test]
fn segments_are_cut_at_the_bound_and_nothing_is_lost() {
    let mut rig = Rig::with(|config| config.segment_bytes_max = 1_000);
    rig.interest.add(0, quotes(1, RealTime), Encoding::Json);
    let mut segments = Vec::new();
    for i in 0..50 {
        rig.trade(0, i);
        rig.quote(1, "1", i);
        if rig.sequencer.has_full_segment() {
            segments.extend(rig.segments());
        }
    }
    assert!(segments.len() > 4, "{} segments", segments.len());
    segments.extend(rig.segments());
    for segment in &segments {
        let last = segment.publications().len() - 1;
        for encoding in Encoding::ALL {
            let range = segment.frame_range(last, encoding);
            assert!(range.start < 1_000, "the one that reaches the bound is the last: {range:?}");
        }
    }
    let published: Vec<Message> = segments.iter().flat_map(|segment| messages(segment)).collect();
    for channel in [trades(0, RealTime), quotes(1, RealTime)] {
        let of_channel: Vec<u64> = published.iter().filter(|m| m.0 == channel).map(|m| m.1).collect();
        assert_eq!(of_channel, (1..=50).collect::<Vec<_>>());
    }
}
