//! `find-max`: raises the number of clients or the rate of messages until a limit breaks, then halves the way between the
//! last step that held and the first that did not.

use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::{Coordinator, Halt};
use crate::outcome::{Better, Finding, Judged, Phase, Unit};
use crate::scenario::Raise;
use crate::units::{count, duration, percent};
use crate::venue::{Popularity, Venue, VenueHandle, VenueSettings};

/// How long the server gets to come back to itself after a step that broke.
const RECOVERY: Duration = Duration::from_secs(15);

/// What a step showed.
enum Step {
    Held,
    /// In words.
    Broke(String),
    /// The harness was at its end, not the server.
    Harness(String),
}

/// What is being raised.
enum Raised {
    Clients { now: u64 },
    Rate(VenueHandle),
}

impl Raised {
    fn describe(&self, value: f64) -> String {
        match self {
            Raised::Clients { .. } => format!("{} clients", count(value as u64)),
            Raised::Rate(_) => format!("{} messages/s", count(value as u64)),
        }
    }
}

impl Coordinator {
    pub(super) fn find_max(&mut self) -> Result<(), Halt> {
        let scenario = self.scenario.clone();
        let mut raised = match scenario.raise {
            Raise::Clients => Raised::Clients { now: 0 },
            Raise::Rate => {
                let started = Venue::start(VenueSettings {
                    listen: scenario.venue_listen,
                    products: scenario.interest.symbols.clone(),
                    rate: scenario.lowest,
                    trade_share: 1.0,
                    popularity: Popularity::Zipf(0.0),
                    seed: scenario.seed,
                });
                let venue = started.map_err(|error| {
                    let is_of_the_settings = error.is_of_the_settings();
                    let error = anyhow::Error::from(error).context("opening the venue (--venue-listen)");
                    if is_of_the_settings { Halt::Wrong(error) } else { Halt::Failed(error) }
                })?;
                self.live.say(&format!("the venue listens at {}: the gateway's feed has to be there", venue.url()));
                self.populate("ramp", Judged::FaultsOnly, 0, scenario.clients, Some(scenario.ramp))?;
                Raised::Rate(venue)
            }
        };
        let mut good: Option<f64> = None;
        let mut broken: Option<(f64, String)> = None;
        let mut next = scenario.lowest;
        loop {
            match self.step(&mut raised, next, Judged::Nothing, "")? {
                Step::Held => {
                    self.live.say(&format!("{}: held", raised.describe(next)));
                    good = Some(next);
                    if next >= scenario.highest && broken.is_none() {
                        break;
                    }
                }
                Step::Broke(what) => {
                    self.live.say(&format!("{}: broke, {what}", raised.describe(next)));
                    broken = Some((next, what));
                    self.recover(&mut raised, good.unwrap_or(scenario.lowest))?;
                }
                Step::Harness(what) => {
                    self.live.say(&format!("{}: {what}", raised.describe(next)));
                    let at = raised.describe(next);
                    self.invalid.push(format!("The harness was at its end before the server was, at {at}: {what}."));
                    break;
                }
            }
            next = match (good, &broken) {
                (Some(good), None) => (good * scenario.factor).min(scenario.highest),
                (Some(good), Some((broken, _))) => {
                    let middle = (good * broken).sqrt();
                    let middle = if scenario.raise == Raise::Clients { middle.round() } else { middle };
                    if broken / good <= 1.0 + scenario.precision || middle <= good || middle >= *broken {
                        break;
                    }
                    middle
                }
                // Even the first step broke.
                (None, _) => break,
            };
        }
        self.tell_found(&raised, good, broken.as_ref());
        // The step that is the answer, once more, held to all thresholds.
        let answer = good.unwrap_or(scenario.lowest);
        self.step(&mut raised, answer, Judged::Everything, "confirmed: ")?;
        Ok(())
    }

    fn tell_found(&mut self, raised: &Raised, good: Option<f64>, broken: Option<&(f64, String)>) {
        let unit = match raised {
            Raised::Clients { .. } => Unit::Count,
            Raised::Rate(_) => Unit::PerSecond,
        };
        let text = match broken {
            Some((value, what)) => format!("The next step, {}, broke: {what}.", raised.describe(*value)),
            None => "No step broke.".to_owned(),
        };
        self.recorder.finding(Finding {
            name: "highest step that held".to_owned(),
            value: good.unwrap_or(0.0),
            unit,
            better: Better::Higher,
            text,
        });
        if let Some((value, what)) = broken {
            let text = format!("{what}.");
            let name = "lowest step that broke".to_owned();
            self.recorder.finding(Finding { name, value: *value, unit, better: Better::Higher, text });
        }
    }

    /// Goes to that load and stays there.
    fn step(&mut self, raised: &mut Raised, value: f64, judged: Judged, prefix: &str) -> Result<Step, Halt> {
        let name = raised.describe(value);
        let clients = self.raise(raised, value)?;
        if !self.warm_up().is_zero() {
            self.hold(&format!("{prefix}{name}, warm-up"), Judged::Nothing, clients, self.warm_up())?;
        }
        self.baseline()?;
        let length = Duration::from_nanos(self.scenario.step_ns);
        let index = self.begin(&format!("{prefix}{name}"), judged, clients, crate::orders::Job::Hold, length)?;
        self.pass(length)?;
        self.settle()?;
        self.read_servers();
        let phase = self.recorder.phase(index).context("Invariant: a phase that was begun is known")?;
        if phase.counts.messages == 0 {
            let hint = match raised {
                Raised::Clients { .. } => "is anything traded in the channels that clients subscribe to?".to_owned(),
                Raised::Rate(venue) => format!("is the gateway's feed pointed at {}?", venue.url()),
            };
            return Err(Halt::Unavailable(format!("no message came in a step of find-max: {hint}")));
        }
        Ok(self.judge(&phase, clients))
    }

    fn warm_up(&self) -> Duration {
        Duration::from_nanos(self.scenario.warm_up_ns)
    }

    /// Returns how many clients there are then.
    fn raise(&mut self, raised: &mut Raised, value: f64) -> Result<u64, Halt> {
        match raised {
            Raised::Clients { now } => {
                let to = value as u64;
                let name = format!("to {} clients", count(to));
                let rate = self.scenario.ramp;
                self.populate(&name, Judged::Nothing, *now, to, Some(rate))?;
                *now = to;
                Ok(to)
            }
            Raised::Rate(venue) => {
                venue.set_rate(value).context("setting the venue's rate")?;
                Ok(self.scenario.clients)
            }
        }
    }

    /// Goes back to a load that held, until messages come in time again.
    fn recover(&mut self, raised: &mut Raised, value: f64) -> Result<(), Halt> {
        let clients = self.raise(raised, value)?;
        let limit_ns = self.thresholds().max_p99.map_or(u64::MAX, |limit| limit.0);
        self.begin("recovery", Judged::Nothing, clients, crate::orders::Job::Hold, RECOVERY)?;
        // The first second still has what was left behind.
        self.pass(Duration::from_millis(1_500))?;
        self.wait(Instant::now() + RECOVERY, super::Patience::Interruptible, |this| {
            this.recorder.live().p99.is_some_and(|p99| p99 <= limit_ns)
        })?;
        Ok(())
    }

    fn judge(&self, phase: &Phase, clients: u64) -> Step {
        let thresholds = self.thresholds();
        if let Some(share) = phase.worker_share_max().filter(|share| *share > 0.95) {
            return Step::Harness(format!("a worker used {} of a core", percent(share)));
        }
        let counts = &phase.counts;
        let faults = [
            ("missing", counts.missing, thresholds.max_missing.or(thresholds.max_gaps).unwrap_or(0)),
            ("missing or announced as missing", counts.missing + counts.announced, thresholds.max_gaps.unwrap_or(0)),
            ("repeated", counts.duplicates, thresholds.max_duplicates.unwrap_or(0)),
            ("out of order", counts.reordered, thresholds.max_reordered.unwrap_or(0)),
            ("malformed", counts.malformed, thresholds.max_malformed.unwrap_or(0)),
        ];
        if let Some((what, number, _)) = faults.into_iter().find(|(_, number, limit)| number > limit) {
            return Step::Broke(format!("{} messages were {what}", count(number)));
        }
        if counts.lost > thresholds.max_lost.unwrap_or(0) {
            return Step::Broke(format!("{} connections were lost", count(counts.lost)));
        }
        if phase.clients.ready < clients {
            let (ready, clients) = (count(phase.clients.ready), count(clients));
            return Step::Broke(format!("only {ready} of {clients} clients were ready"));
        }
        let latency = phase.latency.as_ref();
        let limits = [
            ("p50", thresholds.max_p50, latency.map(|latency| latency.p50)),
            ("p99", thresholds.max_p99, latency.map(|latency| latency.p99)),
            ("p99.9", thresholds.max_p999, latency.map(|latency| latency.p999)),
            ("longest latency", thresholds.max_latency, latency.map(|latency| latency.max)),
        ];
        for (what, limit, measured) in limits {
            match (limit, measured) {
                (Some(limit), Some(measured)) if measured > limit.0 => {
                    return Step::Broke(format!("{what} was {}, above {}", duration(measured), duration(limit.0)));
                }
                _ => {}
            }
        }
        Step::Held
    }
}
