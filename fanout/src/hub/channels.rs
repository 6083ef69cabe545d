//! The hub's table of channels. Owned by the shard's thread, as all of the hub.
//!
//! An instrument has [`ChannelId::PER_INSTRUMENT`] channels, most of which nobody has ever published to or listened to. So
//! an instrument costs a row of places, 4 bytes for each of its channels, and a channel costs a [`ChannelState`] from its
//! first message or listener on. Channels are never taken out: their numbers go on while the process lives.
//!
//! States are kept in blocks, so that the table grows without moving what it has and without reserving twice as much.

use protocol::{ChannelId, ChannelKind, Freshness, InstrumentId, InstrumentTable};

use super::ChannelState;

/// States of a block: about 20 KiB.
const BLOCK: usize = 256;

/// Where a channel's state is: 0 for nowhere, else one more than its index.
type Place = u32;

#[derive(Debug, Default)]
pub(super) struct Channels {
    rows: Vec<[Place; ChannelId::PER_INSTRUMENT]>,
    blocks: Vec<Vec<ChannelState>>,
}

impl Channels {
    /// The channel's state, if it has one.
    pub(super) fn get(&self, channel: ChannelId) -> Option<&ChannelState> {
        let index = self.index(channel)?;
        self.blocks.get(index / BLOCK)?.get(index % BLOCK)
    }

    /// The channel's state, made where there is none yet.
    pub(super) fn entry(&mut self, channel: ChannelId) -> &mut ChannelState {
        let (row, column) = (channel.instrument().index(), channel.index() % ChannelId::PER_INSTRUMENT);
        if row >= self.rows.len() {
            self.rows.resize(row + 1, [0; ChannelId::PER_INSTRUMENT]);
        }
        let place = &mut self.rows[row][column];
        if *place == 0 {
            if self.blocks.last().is_none_or(|block| block.len() == BLOCK) {
                self.blocks.push(Vec::with_capacity(BLOCK));
            }
            let before = (self.blocks.len() - 1) * BLOCK;
            let block = &mut self.blocks[before / BLOCK];
            block.push(ChannelState::default());
            *place = (before + block.len()) as Place;
        }
        let index = *place as usize - 1;
        &mut self.blocks[index / BLOCK][index % BLOCK]
    }

    /// The channels that a `*` of this kind and freshness covers and that have a state, in the order of their instruments.
    pub(super) fn covered(
        &self,
        kind: ChannelKind,
        freshness: Freshness,
        instruments: &InstrumentTable,
    ) -> impl Iterator<Item = ChannelId> + use<> {
        let column = ChannelId::new(InstrumentId(0), kind, freshness).index();
        let used = self.rows.iter().zip(0..).filter(|(row, _)| row[column] != 0).map(|(_, index)| InstrumentId(index));
        let covered = used.filter(|instrument| !instruments.is_single_source(*instrument));
        let channels: Vec<ChannelId> = covered.map(|instrument| ChannelId::new(instrument, kind, freshness)).collect();
        channels.into_iter()
    }

    fn index(&self, channel: ChannelId) -> Option<usize> {
        let row = self.rows.get(channel.instrument().index())?;
        (row[channel.index() % ChannelId::PER_INSTRUMENT] as usize).checked_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_has_a_state_from_its_first_use_on() {
        let mut channels = Channels::default();
        let ids: Vec<ChannelId> = (0..ChannelId::PER_INSTRUMENT as u32 * 40).step_by(3).map(ChannelId).collect();
        assert!(ids.len() > BLOCK);
        for (seq, id) in (1..).zip(&ids) {
            assert!(channels.get(*id).is_none());
            channels.entry(*id).seq = seq;
        }
        for (seq, id) in (1..).zip(&ids) {
            assert_eq!(channels.get(*id).map(|state| state.seq), Some(seq));
            assert_eq!(channels.entry(*id).seq, seq);
            assert!(channels.get(ChannelId(id.0 + 1)).is_none());
        }
        let instruments = InstrumentTable::with_capacity(40);
        let is_alone = |index: usize| index % 5 == 4;
        for index in 0..40 {
            instruments.learn(&format!("S{index}{}", if is_alone(index) { "@ALONE" } else { "" })).unwrap();
        }
        for kind in ChannelKind::ALL {
            for freshness in [Freshness::RealTime, Freshness::Delayed] {
                let expected = ids.iter().copied().filter(|id| {
                    id.kind() == kind && id.freshness() == freshness && !is_alone(id.instrument().index())
                });
                assert!(channels.covered(kind, freshness, &instruments).eq(expected), "{kind:?} {freshness:?}");
            }
        }
    }
}
