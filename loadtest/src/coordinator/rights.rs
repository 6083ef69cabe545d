//! `rights`: users' records change in Redis, as a steady stream and all at once, and every session has to be told.

use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};

use super::{ANSWER, Coordinator, Halt, LEAD_NS, Patience};
use crate::orders::{Job, Order};
use crate::outcome::{Better, Finding, Judged, Unit};
use crate::platform::{Changes, Pattern, PlatformError, Written};
use crate::units::{count, duration};

/// How long a burst's phase goes on after the last change: what it does to the rest is seen then, too.
const LINGER: Duration = Duration::from_secs(1);

impl From<PlatformError> for Halt {
    fn from(error: PlatformError) -> Halt {
        match error {
            PlatformError::Away { .. } => Halt::Unavailable(error.to_string()),
            PlatformError::Address | PlatformError::Credentials => Halt::Wrong(error.into()),
        }
    }
}

impl Coordinator {
    pub(super) fn change_rights(&mut self) -> Result<(), Halt> {
        let scenario = &self.scenario;
        let (clients, bursts) = (scenario.clients, scenario.bursts);
        let stream = Pattern::Stream { rate: scenario.rate, for_ns: scenario.duration_ns };
        self.prepare(clients)?;
        self.change("stream", stream)?;
        for burst in 1..=bursts {
            self.change(&format!("burst {burst}"), Pattern::Burst)?;
        }
        Ok(())
    }

    /// A phase in which users are changed. It ends when all sessions were told, or have had the time to be.
    fn change(&mut self, name: &str, pattern: Pattern) -> Result<(), Halt> {
        let length = match pattern {
            Pattern::Stream { for_ns, .. } => Duration::from_nanos(for_ns),
            Pattern::Burst => LINGER,
        };
        let phase = self.begin(name, Judged::Everything, self.scenario.clients, Job::Hold, length)?;
        let platform = self.platform.take().context("Invariant: the users of a run that changes them are in Redis")?;
        let lead = Duration::from_nanos(LEAD_NS.unsigned_abs());
        let changes = Changes::begin(platform, pattern, lead).context("a thread for the platform")?;
        let until = Instant::now() + lead + length + ANSWER;
        let waited = self.wait(until, Patience::Interruptible, |_| changes.is_over());
        let (platform, written) = changes.end();
        self.platform = Some(platform);
        if !waited? {
            return Err(Halt::Failed(anyhow!("the changes of {name} do not come to an end")));
        }
        let written = written?;
        self.recorder.add_lag(phase, &written.lag);
        let wait_ns = self.scenario.settle_ns;
        self.settled(&Order::Await { versions: written.versions.clone(), wait_ns }, wait_ns)?;
        if pattern == Pattern::Burst {
            self.pass(LINGER)?;
        }
        self.tell_what_was_written(name, pattern, &written);
        Ok(())
    }

    fn tell_what_was_written(&mut self, name: &str, pattern: Pattern, written: &Written) {
        let users = written.versions.iter().filter(|version| **version > 0).count() as u64;
        let text = format!(
            "{} of {} users were changed in {}.",
            count(users),
            count(written.versions.len() as u64),
            duration(written.took_ns),
        );
        let name = match pattern {
            Pattern::Stream { .. } => format!("{name}: changes written"),
            Pattern::Burst => format!("{name}: changes written at once"),
        };
        self.recorder.finding(Finding {
            name,
            value: written.changes as f64,
            unit: Unit::Count,
            better: Better::Neither,
            text,
        });
    }
}
