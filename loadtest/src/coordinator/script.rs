//! The phases of each kind of run.

use std::time::Duration;

use super::{Coordinator, Halt};
use crate::orders::Job;
use crate::outcome::{Better, Finding, Judged, Phase, Unit};
use crate::scenario::Kind;
use crate::thresholds::{Nanos, Thresholds};
use crate::units::{count, duration};

/// After all have arrived: what comes first still comes.
const LINGER: Duration = Duration::from_secs(1);

/// The limit of `find-max` where none is given, ns.
const FIND_MAX_P99_NS: u64 = 20_000_000;

impl Coordinator {
    /// What the run is held to.
    pub(super) fn thresholds(&self) -> Thresholds {
        let mut thresholds = self.scenario.thresholds.clone();
        if self.scenario.kind == Kind::FindMax {
            thresholds.max_p99.get_or_insert(Nanos(FIND_MAX_P99_NS));
        }
        thresholds
    }

    pub(super) fn play(&mut self) -> Result<(), Halt> {
        let scenario = self.scenario.clone();
        let clients = scenario.clients;
        let duration = Duration::from_nanos(scenario.duration_ns);
        match scenario.kind {
            Kind::Connect => {
                self.populate("ramp", Judged::Everything, 0, clients, Some(scenario.rate))?;
                self.pass(LINGER)?;
                self.populate("leave", Judged::FaultsOnly, clients, 0, None)?;
                self.pass(LINGER)?;
                self.populate("storm", Judged::Everything, 0, clients, None)?;
                self.pass(LINGER)?;
            }
            Kind::Idle => {
                self.hold("before", Judged::FaultsOnly, 0, 2 * LINGER)?;
                self.populate("ramp", Judged::FaultsOnly, 0, clients, Some(scenario.ramp))?;
                self.hold("idle", Judged::Everything, clients, duration)?;
            }
            Kind::Broadcast | Kind::Watchlist => {
                self.prepare(clients)?;
                self.hold("measured", Judged::Everything, clients, duration)?;
                self.settle()?;
            }
            Kind::Signals => {
                self.prepare(clients)?;
                let job = if scenario.cut_share > 0.0 {
                    // Who is cut last has half an interval to be back before the phase is over.
                    let for_ns = scenario.duration_ns.saturating_sub(scenario.cut_every_ns / 2);
                    Job::Cut { share: scenario.cut_share, every_ns: scenario.cut_every_ns, for_ns }
                } else {
                    Job::Hold
                };
                self.begin("measured", Judged::Everything, clients, job, duration)?;
                self.pass(duration)?;
                // Who was cut at last has to be back before anybody can say what is missing.
                self.hold("back", Judged::FaultsOnly, clients, LINGER)?;
                self.settle()?;
            }
            Kind::Slow => {
                self.prepare(clients)?;
                self.hold("baseline", Judged::Everything, clients, duration)?;
                self.settle()?;
                let baseline = self.phase;
                let stall = Duration::from_nanos(scenario.stall_ns);
                let stalled = self.begin("stalled", Judged::Everything, clients, Job::Stall, stall)?;
                self.pass(stall)?;
                self.hold("recovered", Judged::Everything, clients, duration)?;
                self.settle()?;
                self.tell_effect_of_the_stalled(baseline, stalled);
            }
            Kind::Churn => {
                self.prepare(clients)?;
                self.hold("baseline", Judged::Everything, clients, duration)?;
                self.settle()?;
                self.begin("churn", Judged::Everything, clients, Job::Churn { rate: scenario.rate }, duration)?;
                self.pass(duration)?;
                self.hold("after", Judged::Everything, clients, duration)?;
                self.settle()?;
            }
            Kind::Reconnect => {
                self.prepare(clients)?;
                self.hold("before", Judged::Everything, clients, duration)?;
                self.settle()?;
                let within = Duration::from_nanos(scenario.within_ns);
                let job = Job::Return { within_ns: scenario.within_ns };
                self.begin("return", Judged::Everything, clients, job, within)?;
                self.arrive(within + Duration::from_nanos(scenario.connect_timeout_ns))?;
                self.hold("after", Judged::Everything, clients, duration)?;
                self.settle()?;
            }
            Kind::Rights => self.change_rights()?,
            Kind::Soak => {
                self.prepare(clients)?;
                let every = Duration::from_nanos(scenario.every_ns);
                let mut left = duration;
                let mut number = 1;
                while !left.is_zero() {
                    let length = every.min(left);
                    self.hold(&format!("soak {number}"), Judged::Everything, clients, length)?;
                    self.settle()?;
                    left -= length;
                    number += 1;
                }
            }
            Kind::FindMax => self.find_max()?,
        }
        Ok(())
    }

    /// What those who read on noticed. Clients that are stalled are timed in no phase, so both figures are of the others.
    fn tell_effect_of_the_stalled(&mut self, baseline: u32, stalled: u32) {
        let phase = |index| self.recorder.phase(index);
        let (Some(before), Some(stalled)) = (phase(baseline), phase(stalled)) else { return };
        let p99 = |phase: &Phase| phase.latency.as_ref().map(|latency| latency.p99).filter(|p99| *p99 > 0);
        let (Some(before_ns), Some(stalled_ns)) = (p99(&before), p99(&stalled)) else { return };
        let text = format!(
            "Clients that read had a p99 of {} while {} did not read, and of {} before.",
            duration(stalled_ns),
            count(stalled.clients.stalled),
            duration(before_ns),
        );
        self.recorder.finding(Finding {
            name: "effect of the stalled on the others' p99".to_owned(),
            value: stalled_ns as f64 / before_ns as f64 - 1.0,
            unit: Unit::Share,
            better: Better::Lower,
            text,
        });
    }

    /// All clients connect and have settled in.
    pub(super) fn prepare(&mut self, clients: u64) -> Result<(), Halt> {
        let (ramp, warm_up) = (self.scenario.ramp, Duration::from_nanos(self.scenario.warm_up_ns));
        self.populate("ramp", Judged::FaultsOnly, 0, clients, Some(ramp))?;
        // A phase of no length would show nothing but what the end of a phase costs the harness.
        if !warm_up.is_zero() {
            self.hold("warm-up", Judged::FaultsOnly, clients, warm_up)?;
        }
        self.baseline()
    }

    pub(super) fn hold(&mut self, name: &str, judged: Judged, clients: u64, length: Duration) -> Result<(), Halt> {
        self.begin(name, judged, clients, Job::Hold, length)?;
        self.pass(length)
    }

    /// From so many clients to so many. Who does not arrive in time is told of by the phase.
    pub(super) fn populate(
        &mut self,
        name: &str,
        judged: Judged,
        from: u64,
        to: u64,
        rate: Option<f64>,
    ) -> Result<(), Halt> {
        let seconds = rate.map_or(0.0, |rate| to.saturating_sub(from) as f64 / rate);
        // Above 30 years nobody waits anyway.
        let length = Duration::from_secs_f64(seconds.min(1e9));
        self.begin(name, judged, to, Job::Populate { from, to, rate }, length)?;
        self.arrive(length + Duration::from_nanos(self.scenario.connect_timeout_ns))?;
        Ok(())
    }
}
