//! What the admin port tells of the entitlement store: readiness, and what it has counted.

use std::sync::Arc;

use entitlements::{Health, Store, StoreCounts};

use crate::admin::Check;
use crate::metrics::{Exposition, Kind, Metrics};

/// Without its store, a gateway serves whom it has, and nobody new unless it is told to.
pub(crate) fn check(store: Arc<dyn Store>) -> Check {
    Check::new("entitlements", move || match store.health() {
        Health::Up => Ok(()),
        Health::Away { for_s } => Err(format!("the store is away for {for_s} s")),
    })
}

pub(crate) fn collect(store: Arc<dyn Store>, metrics: &Metrics) {
    metrics.collect(move |out| expose(store.health(), store.counts(), out));
}

fn expose(health: Health, counts: StoreCounts, out: &mut Exposition) {
    let up = u64::from(health == Health::Up);
    out.sample(Kind::Gauge, "gateway_entitlement_store_up", "Whether the entitlement store answers.", &[], up);
    let StoreCounts { late, failed, senseless, outages, losses, decided_alone, closes_deferred, announcements } =
        counts;
    let name = "gateway_entitlement_store_failures_total";
    for (reason, count) in [("late", late), ("failed", failed), ("senseless", senseless)] {
        let help = "Questions to the entitlement store without an answer that can be used, by reason.";
        out.sample(Kind::Counter, name, help, &[("reason", reason)], count);
    }
    for (name, help, count) in [
        ("gateway_entitlement_store_outages_total", "Times that the entitlement store went away.", outages),
        ("gateway_entitlement_store_losses_total", "Times that the entitlement store had lost what it held.", losses),
        (
            "gateway_entitlement_store_announcements_total",
            "Changes that the entitlement store announced.",
            announcements,
        ),
        (
            "gateway_entitlement_store_closes_deferred_total",
            "Ended sessions that stay registered until the next comparison: too many ended at a time.",
            closes_deferred,
        ),
        (
            "gateway_limits_decided_alone_total",
            "Charges that this node decided by its own count, without the entitlement store.",
            decided_alone,
        ),
    ] {
        out.sample(Kind::Counter, name, help, &[], count);
    }
}
