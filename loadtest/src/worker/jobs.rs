//! What a phase asks of a worker: who connects, returns, is cut or stalled, and which commands go out, each at its intended
//! time, which does not move when the worker or the server is late.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::{Entry, Stage, Worker, drop_connection, send, tell};
use crate::client::Client;
use crate::orders::{Job, Word};

/// Connects and commands begun in one turn of the loop, so that sockets are read in between.
const STARTS_A_TURN: usize = 64;

/// How soon a command is tried again that found every client busy, ns.
const BUSY_NS: u64 = 1_000_000;

#[derive(Debug, Default)]
pub(super) struct Jobs {
    populate: Option<Populate>,
    churn: Option<Churn>,
    cuts: Option<Cuts>,
    /// When, what the connection counts from (`None`: from then), and who.
    returns: BinaryHeap<Reverse<(u64, Option<u64>, usize)>>,
    /// The phase that is told when nobody is under way any more.
    arriving: Option<u32>,
}

#[derive(Debug)]
struct Populate {
    /// The next client of this worker, by its number in the run.
    next: u64,
    from: u64,
    to: u64,
    start_ns: u64,
    /// `None`: all at once.
    rate: Option<f64>,
}

#[derive(Debug)]
struct Churn {
    /// Commands of all workers until this worker's next one.
    next: u64,
    start_ns: u64,
    rate: f64,
    /// The client whose turn it is.
    turn: usize,
    /// Not before this, ns: every client was busy.
    wait_ns: u64,
}

#[derive(Clone, Copy, Debug)]
struct Cuts {
    share: f64,
    every_ns: u64,
    next_ns: u64,
    until_ns: u64,
}

impl Populate {
    fn intended_ns(&self) -> u64 {
        self.start_ns + self.rate.map_or(0, |rate| ((self.next - self.from) as f64 / rate * 1e9) as u64)
    }
}

impl Churn {
    fn intended_ns(&self) -> u64 {
        self.start_ns + (self.next as f64 / self.rate * 1e9) as u64
    }
}

impl Jobs {
    pub(super) fn comes_back(&mut self, at_ns: u64, intended_ns: Option<u64>, index: usize) {
        self.returns.push(Reverse((at_ns, intended_ns, index)));
    }

    pub(super) fn next_due_ns(&self) -> u64 {
        let populate = self.populate.as_ref().map(Populate::intended_ns);
        let churn = self.churn.as_ref().map(|churn| churn.intended_ns().max(churn.wait_ns));
        let cuts = self.cuts.as_ref().map(|cuts| cuts.next_ns);
        let returns = self.returns.peek().map(|Reverse((at_ns, ..))| *at_ns);
        [populate, churn, cuts, returns].into_iter().flatten().min().unwrap_or(u64::MAX)
    }

    /// Whether there is more to do than one turn took.
    pub(super) fn is_overdue(&self, now_ns: u64) -> bool {
        self.next_due_ns() <= now_ns
    }
}

impl Worker {
    /// Begins a phase.
    pub(super) fn begin(&mut self, phase: u32, job: Job, start_ns: i64) {
        let now = self.shared.now;
        // Where the order came late, the schedule stands all the same.
        let start_ns = now.mono_ns.saturating_add_signed(start_ns - now.wall_ns);
        let (worker, workers) = (u64::from(self.shared.assignment.worker), u64::from(self.shared.assignment.workers));
        self.jobs.populate = None;
        self.jobs.churn = None;
        self.jobs.cuts = None;
        self.jobs.arriving = None;
        for index in 0..self.entries.len() {
            if std::mem::take(&mut self.entries[index].stalled) {
                self.again.push(index);
            }
        }
        match job {
            Job::Hold => {}
            Job::Populate { from, to, rate } => {
                self.jobs.arriving = Some(phase);
                self.shrink(to);
                // The first number of this worker that is not below `from`.
                let next = from + (worker + workers - from % workers) % workers;
                self.jobs.populate = Some(Populate { next, from, to, start_ns, rate });
            }
            Job::Stall => {
                for entry in &mut self.entries {
                    entry.stalled = entry.client.is_to_stall() && entry.client.stage() == Stage::Live;
                }
            }
            Job::Churn { rate } => {
                self.jobs.churn = Some(Churn { next: worker, start_ns, rate, turn: 0, wait_ns: 0 });
            }
            Job::Cut { share, every_ns, for_ns } => {
                let until_ns = start_ns + for_ns;
                let next_ns = start_ns + every_ns;
                self.jobs.cuts = (next_ns <= until_ns).then_some(Cuts { share, every_ns, next_ns, until_ns });
            }
            Job::Return { within_ns } => {
                self.jobs.arriving = Some(phase);
                self.cut(1.0, |random| start_ns + random.below(within_ns.max(1)));
            }
        }
    }

    /// Does everything whose time has come.
    pub(super) fn work(&mut self) -> anyhow::Result<()> {
        self.populate()?;
        self.bring_back()?;
        self.churn()?;
        let now_ns = self.shared.now.mono_ns;
        if let Some(cuts) = &mut self.jobs.cuts
            && cuts.next_ns <= now_ns
        {
            let (share, next_ns) = (cuts.share, cuts.next_ns);
            cuts.next_ns += cuts.every_ns;
            if cuts.next_ns > cuts.until_ns {
                self.jobs.cuts = None;
            }
            self.lag(next_ns);
            self.cut(share, |_| now_ns);
        }
        if let Some(phase) = self.jobs.arriving
            && self.jobs.populate.is_none()
            && self.jobs.returns.is_empty()
            && self.under_way == 0
        {
            self.jobs.arriving = None;
            self.end_interval()?;
            tell(&Word::Arrived { phase })?;
        }
        Ok(())
    }

    fn populate(&mut self) -> anyhow::Result<()> {
        let workers = u64::from(self.shared.assignment.workers);
        for _ in 0..STARTS_A_TURN {
            let Some(populate) = &mut self.jobs.populate else { return Ok(()) };
            if populate.next >= populate.to {
                self.jobs.populate = None;
                return Ok(());
            }
            let (intended_ns, number) = (populate.intended_ns(), populate.next);
            if intended_ns > self.clock.mono_ns() {
                return Ok(());
            }
            let paced = populate.rate.is_some();
            populate.next += workers;
            if paced {
                self.lag(intended_ns);
            }
            let index = usize::try_from(number / workers).unwrap_or(usize::MAX);
            if index == self.entries.len() {
                let client = Client::new(number, &self.shared);
                self.entries.push(Entry {
                    client,
                    transport: None,
                    unsent: Vec::new(),
                    stalled: false,
                    gone: false,
                    attempts: 0,
                });
            }
            if self.entries.get(index).is_some_and(|entry| entry.transport.is_none()) {
                self.connect(index, intended_ns)?;
            }
        }
        Ok(())
    }

    /// Clients from that number on leave.
    fn shrink(&mut self, to: u64) {
        for entry in self.entries.iter_mut().filter(|entry| entry.client.number() >= to) {
            if !matches!(entry.client.stage(), Stage::Away | Stage::Live) {
                self.under_way -= 1;
            }
            drop_connection(entry);
            entry.client.forget();
            entry.gone = false;
        }
        let entries = &self.entries;
        self.jobs.returns.retain(|Reverse((_, _, index))| entries[*index].client.number() < to);
    }

    fn bring_back(&mut self) -> anyhow::Result<()> {
        for _ in 0..STARTS_A_TURN {
            let now_ns = self.clock.mono_ns();
            let Some(Reverse((at_ns, intended_ns, index))) = self.jobs.returns.peek().copied() else { return Ok(()) };
            if at_ns > now_ns {
                return Ok(());
            }
            self.jobs.returns.pop();
            self.lag(at_ns);
            if self.entries[index].transport.is_none() {
                self.connect(index, intended_ns.unwrap_or(at_ns))?;
            }
        }
        Ok(())
    }

    /// Cuts a share of the clients that have a session, without a word; each returns when `back` says.
    fn cut(&mut self, share: f64, mut back: impl FnMut(&mut crate::random::Random) -> u64) {
        for (index, entry) in self.entries.iter_mut().enumerate() {
            if entry.client.stage() != Stage::Live || self.shared.random.unit() >= share {
                continue;
            }
            drop_connection(entry);
            entry.client.cut(&mut self.shared);
            let at_ns = back(&mut self.shared.random);
            self.jobs.returns.push(Reverse((at_ns, None, index)));
        }
    }

    fn churn(&mut self) -> anyhow::Result<()> {
        let workers = u64::from(self.shared.assignment.workers);
        for _ in 0..STARTS_A_TURN {
            self.shared.now = self.clock.now();
            let now_ns = self.shared.now.mono_ns;
            let Some(churn) = &mut self.jobs.churn else { return Ok(()) };
            let intended_ns = churn.intended_ns();
            if intended_ns.max(churn.wait_ns) > now_ns {
                return Ok(());
            }
            let count = self.entries.len();
            let free = (0..count).map(|step| (churn.turn + step) % count).find(|index| {
                let client = &self.entries[*index].client;
                client.stage() == Stage::Live && !client.is_busy()
            });
            let Some(index) = free else {
                // The command waits, and its time does not move.
                churn.wait_ns = now_ns + BUSY_NS;
                return Ok(());
            };
            churn.turn = index + 1;
            churn.next += workers;
            self.lag(intended_ns);
            let entry = &mut self.entries[index];
            let Some(key) = entry.client.next_change(&mut self.shared) else { continue };
            entry.client.change_subscription(key, intended_ns, &mut self.shared);
            let Some(transport) = &mut entry.transport else { continue };
            if let Err(error) = send(transport, &mut entry.unsent, &mut self.shared.out) {
                let ending = entry.client.cut_off(&error.to_string());
                self.end(index, ending)?;
            }
        }
        Ok(())
    }

    /// Something that was intended for then is done now.
    fn lag(&mut self, intended_ns: u64) {
        let lag_ns = self.clock.mono_ns().saturating_sub(intended_ns);
        self.shared.tally.sample.schedule_lag.record(lag_ns);
    }
}
