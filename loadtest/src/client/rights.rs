//! What a client is told of its user's rights while its session lives, and what comes of it.

use super::{Client, Shared, Slot};
use crate::check::Sequence;
use crate::orders::Timed;

/// The last thing that it was told.
#[derive(Debug)]
pub(super) struct Rights {
    version: u64,
    /// The acknowledgement that has to follow has not come.
    unacknowledged: bool,
    /// When the change was written that made delayed data real-time, and by how much it had been delayed, ns; until data shows it.
    unfelt: Option<(i64, i64)>,
}

impl Client {
    /// The version of its user's record that it was told of; 0 where it was not.
    pub fn version(&self) -> u64 {
        self.rights.as_ref().map_or(0, |rights| rights.version)
    }

    /// The user's rights are others from now on.
    pub(super) fn told(&mut self, delayed_ms: u64, version: u64, shared: &mut Shared) {
        let sample = &mut shared.tally.sample;
        sample.counts.told += 1;
        if version <= self.version() {
            return self.malformed(shared, || format!("it was told of version {version} behind a later one"));
        }
        let before_ms = std::mem::replace(&mut self.delayed_ms, delayed_ms);
        let mut unfelt = None;
        if shared.assignment.timed == Timed::Rights {
            let written_ns = i64::try_from(version.saturating_mul(1_000)).unwrap_or(i64::MAX);
            sample.latency.record(u64::try_from(shared.now.wall_ns - written_ns).unwrap_or(0));
            let delay_ns = i64::try_from(before_ms.saturating_mul(1_000_000)).unwrap_or(i64::MAX);
            unfelt = (delayed_ms < before_ms).then_some((written_ns, delay_ns));
        }
        if delayed_ms > before_ms {
            // It goes on with the numbers that the delayed data has by now.
            for slot in &mut self.slots {
                *slot = Slot { late: true, sequence: Sequence::default(), ..*slot };
            }
        }
        self.rights = Some(Box::new(Rights { version, unacknowledged: true, unfelt }));
    }

    /// Whether an acknowledgement is the one that follows a change of rights, which is the answer to no request.
    pub(super) fn take_acknowledgement_of_rights(&mut self, id: u64) -> bool {
        let rights = self.rights.as_mut().filter(|_| id == 0);
        rights.is_some_and(|rights| std::mem::take(&mut rights.unacknowledged))
    }

    /// A data message came that is stamped so. What is younger than the delay was, nobody had under the rights before.
    pub(super) fn feel(&mut self, stamp_ns: i64, shared: &mut Shared) {
        let Some(rights) = &mut self.rights else { return };
        let now_ns = shared.now.wall_ns;
        if let Some((written_ns, _)) = rights.unfelt.take_if(|(_, delay_ns)| now_ns - stamp_ns < *delay_ns) {
            shared.tally.sample.effect.record(u64::try_from(now_ns - written_ns).unwrap_or(0));
        }
    }
}
