//! A sequencer and the hub of one shard, as the gateway wires them, without threads and sockets: what is written
//! goes where the bench says. One thread, the bench's.

use std::io::{self, Write};
use std::sync::Arc;

use entitlements::{Grant, Principal, Tier, Tiers, User, decide};
use fanout::{
    Body, Hub, HubConfig, Interest, Sequencer, SequencerConfig, SlowConsumer, SubscribeOptions, Subscribed,
    SubscriberKey, Update,
};
use protocol::{AssetClass, Channel, ChannelKind, Encoding, InstrumentId, InstrumentTable, Selector, SourceId};

use crate::inputs::{NOW_NS, STAMP, VENUE, quote, trade};

/// A socket whose buffer is full.
#[derive(Debug, Default)]
pub struct FullSocket;

impl Write for FullSocket {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A signed-in user of `tier` with every category.
pub fn principal(tier: Tier) -> Principal {
    let user = User::new("somebody", tier);
    Principal::new(&user, &Tiers::default())
}

/// Leave to receive one instrument's channel in real time.
///
/// # Panics
/// Never: the enterprise tier has every channel.
pub fn grant(kind: ChannelKind, instrument: InstrumentId) -> Grant {
    let channel = Channel { kind, selector: Selector::One(instrument) };
    decide(&principal(Tier::Enterprise), channel, Some(AssetClass::Crypto), 0).expect("an enterprise user may")
}

/// A process of one shard.
#[derive(Debug)]
pub struct Shard {
    pub sequencer: Sequencer,
    pub hub: Hub,
    pub instruments: Arc<InstrumentTable>,
}

impl Shard {
    /// A shard that knows `instruments` instruments, and nobody yet. It retains `retain_bytes` of sequenced messages:
    /// little, so that the benches measure a log that is full and lets go as much as it takes in.
    pub fn new(instruments: usize, retain_bytes: usize) -> Shard {
        let table = Arc::new(InstrumentTable::with_capacity(instruments));
        for index in 0..instruments {
            table.learn(&format!("S{index:05}/USD")).expect("the table has room");
        }
        let interest = Arc::new(Interest::new(1, table.clone()));
        // The gateway's defaults, but for the delay line, which is no part of the way to clients in real time.
        let sequencer = SequencerConfig {
            delay_ns: None,
            delay_bytes_max: 0,
            segment_bytes_max: 256 << 10,
            venues: vec![VENUE.into()],
        };
        let hub = HubConfig {
            shard: 0,
            slow_consumer: SlowConsumer::Gap,
            retain_bytes,
            control_bytes_max: 64 << 10,
            heartbeat_ms: 15_000,
            stall_ms: 30_000,
        };
        Shard {
            sequencer: Sequencer::new(sequencer, table.clone(), interest.clone()),
            hub: Hub::new(hub, table.clone(), interest, 0),
            instruments: table,
        }
    }

    /// Takes in a client that reads JSON.
    pub fn client(&mut self) -> SubscriberKey {
        self.hub.open(Encoding::Json, 0)
    }

    /// # Panics
    /// Where the client has the subscription already.
    pub fn subscribe(&mut self, client: SubscriberKey, kind: ChannelKind, instrument: u32) {
        let grant = grant(kind, InstrumentId(instrument));
        let subscribed = self.hub.subscribe(client, grant, SubscribeOptions::default(), 0);
        assert_eq!(subscribed, Subscribed::New);
    }

    /// Numbers and encodes a trade.
    pub fn trade(&mut self, instrument: u32) {
        self.update(instrument, ChannelKind::Trades, Body::Trade(trade()));
    }

    /// Numbers a quote, and encodes it where somebody listens.
    pub fn quote(&mut self, instrument: u32) {
        self.update(instrument, ChannelKind::Quotes, Body::Quote(quote()));
    }

    fn update(&mut self, instrument: u32, kind: ChannelKind, body: Body) {
        let (instrument, source) = (InstrumentId(instrument), SourceId(0));
        self.sequencer.publish(Update {
            instrument,
            kind,
            source,
            ts_event: NOW_NS,
            ts_recv: STAMP.ts_recv,
            flags: protocol::TickFlags::NONE,
            body,
        });
    }

    /// Hands what the sequencer has to the hub, as the shard's thread does at the start of its turn.
    pub fn hand_over(&mut self) {
        for segment in self.sequencer.take_segments() {
            self.hub.publish(segment, 0);
        }
    }

    /// The end of the turn, and further ones until no client has anything coming: each is flushed into `socket`.
    pub fn flush(&mut self, socket: &mut impl Write) {
        while self.hub.has_dirty() {
            while let Some(client) = self.hub.next_dirty() {
                self.hub.flush(client, socket, 0);
            }
        }
    }
}
