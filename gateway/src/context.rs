//! What all shards share: read by every session, written by nobody once the process runs, but for counters
//! and flags.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use entitlements::{AddressLimit, Connections, Door, TrustedProxies};
use feed_handlers::source::StartGate;
use protocol::{Freshness, InstrumentTable};

use crate::config::{Drain, Server, Session};
use crate::platform::audit::Audit;

/// The shared surroundings of the shards.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) server: Server,
    pub(crate) session: Session,
    pub(crate) drain: Drain,
    pub(crate) door: Arc<Door>,
    pub(crate) audit: Audit,
    pub(crate) connections: Connections,
    pub(crate) addresses: AddressLimit,
    pub(crate) proxies: TrustedProxies,
    pub(crate) instruments: Arc<InstrumentTable>,
    /// Of all sequence numbers of this process: Unix ms of its start.
    pub(crate) epoch: u64,
    pub(crate) delay: Duration,
    /// Names of the sources, by their id.
    pub(crate) venues: Vec<String>,
    pub(crate) draining: AtomicBool,
    pub(crate) start: Option<AwaitClients>,
    /// Zero of the monotonic clock of all shards.
    pub(crate) started: Instant,
}

/// Holds the source back until enough clients have subscribed.
#[derive(Debug)]
pub(crate) struct AwaitClients {
    pub(crate) gate: Arc<StartGate>,
    pub(crate) clients: usize,
    pub(crate) subscribed: AtomicUsize,
}

impl Context {
    pub(crate) fn is_draining(&self) -> bool {
        // Relaxed: whoever acts on it was woken for it, which orders the two.
        self.draining.load(Ordering::Relaxed)
    }

    /// A client has made its first subscription.
    pub(crate) fn client_subscribed(&self) {
        if let Some(start) = &self.start {
            // Relaxed: the gate itself orders what was done before it opened.
            let subscribed = start.subscribed.fetch_add(1, Ordering::Relaxed) + 1;
            if subscribed >= start.clients {
                start.gate.open();
            }
        }
    }

    /// By how much data of this freshness is held back, ms.
    pub(crate) fn delayed_ms(&self, freshness: Freshness) -> u64 {
        match freshness {
            Freshness::RealTime => 0,
            Freshness::Delayed => self.delay.as_millis() as u64,
        }
    }

    pub(crate) fn now(&self) -> Now {
        Now { mono_ms: self.started.elapsed().as_millis() as u64, wall_ns: wall_ns() }
    }
}

/// One reading of both clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    /// Milliseconds since the process started, never going back.
    pub(crate) mono_ms: u64,
    /// Unix ns.
    pub(crate) wall_ns: i64,
}

impl Now {
    /// Unix seconds.
    pub(crate) fn wall_s(self) -> i64 {
        self.wall_ns.div_euclid(1_000_000_000)
    }
}

/// This machine's wall clock, Unix ns.
pub(crate) fn wall_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
