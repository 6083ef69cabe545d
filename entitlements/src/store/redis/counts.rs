//! What the store counts for metrics.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::store::StoreCounts;

/// One of them. Relaxed throughout: a number to look at.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn one(&self) {
        self.add(1);
    }

    pub(super) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// [`StoreCounts`] in the making.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) late: Count,
    pub(super) failed: Count,
    pub(super) senseless: Count,
    pub(super) outages: Count,
    pub(super) losses: Count,
    pub(super) decided_alone: Count,
    pub(super) closes_deferred: Count,
    pub(super) announcements: Count,
}

impl Counts {
    pub(super) fn read(&self) -> StoreCounts {
        StoreCounts {
            late: self.late.read(),
            failed: self.failed.read(),
            senseless: self.senseless.read(),
            outages: self.outages.read(),
            losses: self.losses.read(),
            decided_alone: self.decided_alone.read(),
            closes_deferred: self.closes_deferred.read(),
            announcements: self.announcements.read(),
        }
    }
}
