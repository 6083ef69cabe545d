//! The coordinator: starts the workers, leads them through the phases of a scenario, and hands what they tell to the
//! recorder. One thread, and one for each worker that only reads its lines. Deliberately absent: connections of its own.

mod find_max;
mod rights;
mod script;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};

use crate::clock::wall_ns;
use crate::orders::{Assignment, Job, Mark, Order, TurnedAway, Word};
use crate::outcome::{Ended, Ending, Header, Judged, Outcome, Recorder};
use crate::platform::Platform;
use crate::report::live::LiveLine;
use crate::scenario::Scenario;
use crate::server::Sampler;

/// How often the live line is drawn anew and the servers' readings are fetched.
const LOOK: Duration = Duration::from_millis(200);

/// How long workers get for what takes them milliseconds.
const ANSWER: Duration = Duration::from_secs(20);

/// A phase begins so long after its order, so that all workers begin it together.
const LEAD_NS: i64 = 20_000_000;

/// Why a run ended early.
#[derive(Debug)]
pub enum Halt {
    /// Somebody asked for it.
    Interrupted,
    /// It could not begin: the target's or the system's words.
    TurnedAway(TurnedAway, String),
    /// The server lets clients in, and what the run is about does not happen there.
    Unavailable(String),
    /// It cannot be done as asked.
    Wrong(anyhow::Error),
    Failed(anyhow::Error),
}

impl From<anyhow::Error> for Halt {
    fn from(error: anyhow::Error) -> Halt {
        Halt::Failed(error)
    }
}

#[derive(Debug)]
struct Worker {
    child: Child,
    /// Closed to let the worker end.
    orders: Option<ChildStdin>,
}

/// A line of a worker, or its end.
type Heard = (usize, Option<anyhow::Result<Word<'static>>>);

#[derive(Debug)]
pub struct Coordinator {
    scenario: Scenario,
    workers: Vec<Worker>,
    heard: Receiver<Heard>,
    recorder: Recorder,
    sampler: Option<Sampler>,
    /// Users whose records the scenario changes.
    platform: Option<Platform>,
    live: LiveLine,
    stop: Arc<AtomicBool>,
    drawn: Instant,
    /// The phase in progress.
    phase: u32,
    /// Workers whose clients have all arrived in it.
    arrived: usize,
    surveyed: usize,
    settled: usize,
    ended: usize,
    marks: Vec<Mark>,
    /// Whether any client had a session.
    ever_ready: bool,
    turned_away: Option<(TurnedAway, String, Instant)>,
    /// Why the figures must not be believed, as far as only the script knows.
    invalid: Vec<String>,
}

impl Coordinator {
    /// Starts the workers.
    ///
    /// # Errors
    /// A process cannot be started, or the server's processor time and memory cannot be read.
    pub fn start(
        scenario: Scenario,
        assignments: &[Assignment],
        header: Header,
        platform: Option<Platform>,
        stop: Arc<AtomicBool>,
    ) -> anyhow::Result<Coordinator> {
        let sampler = if scenario.pids.is_empty() && scenario.metrics.is_empty() {
            None
        } else {
            let sampler = Sampler::start(&scenario.pids, &scenario.metrics, Duration::from_secs(1));
            Some(sampler.map_err(anyhow::Error::msg).context("watching the server")?)
        };
        let (sender, heard) = mpsc::channel();
        let mut coordinator = Coordinator {
            scenario,
            workers: Vec::new(),
            heard,
            recorder: Recorder::new(header),
            sampler,
            platform,
            live: LiveLine::new(),
            stop,
            drawn: Instant::now(),
            phase: 0,
            arrived: 0,
            surveyed: 0,
            settled: 0,
            ended: 0,
            marks: Vec::new(),
            ever_ready: false,
            turned_away: None,
            invalid: Vec::new(),
        };
        for assignment in assignments {
            let worker = start_worker(coordinator.workers.len(), sender.clone())?;
            coordinator.workers.push(worker);
            let index = coordinator.workers.len() - 1;
            coordinator.write_line(index, assignment)?;
        }
        Ok(coordinator)
    }

    /// Runs the scenario to its end, or until somebody stops it, and judges it.
    ///
    /// # Errors
    /// Any [`Halt`] but [`Halt::Interrupted`]: there is nothing to report.
    pub fn run(mut self) -> Result<Outcome, Halt> {
        let played = self.play();
        let ending = match played {
            Ok(()) => Ending::Complete,
            Err(Halt::Interrupted) => Ending::Interrupted,
            Err(halt) => return Err(halt),
        };
        self.read_servers();
        for worker in 0..self.workers.len() {
            self.order(worker, &Order::End)?;
        }
        let all = self.workers.len();
        if !self.wait(Instant::now() + ANSWER, Patience::Uninterrupted, |this| this.ended == all)? {
            return Err(Halt::Failed(anyhow!("a worker does not end")));
        }
        if let Some(platform) = self.platform.take()
            && let Err(error) = platform.close()
        {
            self.live.say(&format!("the records of the users were left in Redis: {error}"));
        }
        self.look();
        let needs_data = self.scenario.kind.needs_data();
        let ended = Ended { at_ns: wall_ns(), ending, needs_data, invalid: std::mem::take(&mut self.invalid) };
        let thresholds = self.thresholds();
        let Coordinator { recorder, live, workers, .. } = self;
        live.finish();
        drop(workers);
        Ok(recorder.finish(ended, &thresholds))
    }

    fn order(&mut self, worker: usize, order: &Order) -> Result<(), Halt> {
        self.write_line(worker, order).map_err(Halt::Failed)
    }

    fn write_line(&mut self, worker: usize, what: &impl serde::Serialize) -> anyhow::Result<()> {
        let mut line = serde_json::to_vec(what).context("writing an order")?;
        line.push(b'\n');
        let orders = self.workers[worker].orders.as_mut().context("a worker takes no orders any more")?;
        orders.write_all(&line).and_then(|()| orders.flush()).with_context(|| format!("ordering worker {worker}"))
    }

    /// Begins a phase in all workers.
    fn begin(&mut self, name: &str, judged: Judged, planned: u64, job: Job, length: Duration) -> Result<u32, Halt> {
        self.read_servers();
        let now_ns = wall_ns();
        self.phase = self.recorder.begin_phase(name, judged, planned, now_ns);
        self.arrived = 0;
        self.live.phase(name, length);
        let order = Order::Phase { index: self.phase, job, start_ns: now_ns + LEAD_NS };
        for worker in 0..self.workers.len() {
            self.order(worker, &order)?;
        }
        Ok(self.phase)
    }

    /// Lets the phase go on for that long.
    fn pass(&mut self, length: Duration) -> Result<(), Halt> {
        self.wait(Instant::now() + length, Patience::Interruptible, |_| false).map(|_| ())
    }

    /// Waits until no client is under way any more; `false` where that took too long.
    fn arrive(&mut self, limit: Duration) -> Result<bool, Halt> {
        let all = self.workers.len();
        self.wait(Instant::now() + limit, Patience::Interruptible, |this| this.arrived == all)
    }

    /// The highest numbers that anybody has seen.
    fn survey(&mut self) -> Result<Vec<Mark>, Halt> {
        self.surveyed = 0;
        self.marks.clear();
        for worker in 0..self.workers.len() {
            self.order(worker, &Order::Survey)?;
        }
        let all = self.workers.len();
        if !self.wait(Instant::now() + ANSWER, Patience::Interruptible, |this| this.surveyed == all)? {
            return Err(Halt::Failed(anyhow!("a worker does not tell its numbers")));
        }
        Ok(merged(std::mem::take(&mut self.marks)))
    }

    /// All clients are ready: what comes from here on is due to each.
    fn baseline(&mut self) -> Result<(), Halt> {
        let marks = self.survey()?;
        for worker in 0..self.workers.len() {
            self.order(worker, &Order::Baseline { marks: marks.clone() })?;
        }
        Ok(())
    }

    /// Gives clients time to receive what others have received; what they lack then is missing.
    fn settle(&mut self) -> Result<(), Halt> {
        let marks = self.survey()?;
        let wait_ns = self.scenario.settle_ns;
        self.settled(&Order::Settle { marks, wait_ns }, wait_ns)
    }

    /// Gives an order that takes so long at most, and waits until all have done it.
    fn settled(&mut self, order: &Order, wait_ns: u64) -> Result<(), Halt> {
        self.settled = 0;
        for worker in 0..self.workers.len() {
            self.order(worker, order)?;
        }
        let all = self.workers.len();
        let limit = Duration::from_nanos(wait_ns) + ANSWER;
        if !self.wait(Instant::now() + limit, Patience::Interruptible, |this| this.settled == all)? {
            return Err(Halt::Failed(anyhow!("a worker does not settle")));
        }
        Ok(())
    }

    fn wait(&mut self, until: Instant, patience: Patience, done: impl Fn(&Coordinator) -> bool) -> Result<bool, Halt> {
        loop {
            if done(self) {
                return Ok(true);
            }
            // Relaxed: the flag is all that the signal's handler tells.
            if patience == Patience::Interruptible && self.stop.load(Ordering::Relaxed) {
                return Err(Halt::Interrupted);
            }
            self.check_turned_away()?;
            let now = Instant::now();
            if now >= until {
                return Ok(false);
            }
            if now - self.drawn >= LOOK {
                self.look();
            }
            match self.heard.recv_timeout(LOOK.min(until - now)) {
                Ok((worker, heard)) => self.hear(worker, heard)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(Halt::Failed(anyhow!("all workers are gone"))),
            }
        }
    }

    fn hear(&mut self, worker: usize, heard: Option<anyhow::Result<Word<'static>>>) -> Result<(), Halt> {
        match heard {
            Some(Ok(word)) => self.take(word),
            Some(Err(error)) => return Err(Halt::Failed(error.context(format!("worker {worker}")))),
            None if self.ended > 0 => {}
            None => {
                let status = self.workers[worker].child.wait().map_or_else(|e| e.to_string(), |s| s.to_string());
                return Err(Halt::Failed(anyhow!("worker {worker} ended early: {status}")));
            }
        }
        Ok(())
    }

    fn take(&mut self, word: Word<'static>) {
        match word {
            Word::Sample(sample) => {
                self.ever_ready |= sample.gauges.ready > 0;
                self.recorder.add(&sample);
            }
            Word::Arrived { phase } => self.arrived += usize::from(phase == self.phase),
            Word::Surveyed { marks } => {
                self.surveyed += 1;
                self.marks.extend(marks);
            }
            Word::Settled => self.settled += 1,
            Word::TurnedAway { reason, text } => {
                // Others may have got in: their next sample tells.
                self.turned_away.get_or_insert((reason, text, Instant::now()));
            }
            Word::Ended => self.ended += 1,
        }
    }

    fn check_turned_away(&mut self) -> Result<(), Halt> {
        let Some((reason, text, since)) = &self.turned_away else { return Ok(()) };
        if *reason == TurnedAway::Exhausted || (!self.ever_ready && since.elapsed() > Duration::from_millis(1_200)) {
            return Err(Halt::TurnedAway(*reason, text.clone()));
        }
        if self.ever_ready {
            self.turned_away = None;
        }
        Ok(())
    }

    fn look(&mut self) {
        if let Some(sampler) = &self.sampler {
            for reading in sampler.readings() {
                self.recorder.add_server(&reading);
            }
        }
        self.live.update(&self.recorder.live());
        self.drawn = Instant::now();
    }

    /// Reads the servers now, for the border of two phases.
    fn read_servers(&mut self) {
        if let Some(sampler) = &self.sampler {
            sampler.read_now();
            for reading in sampler.readings() {
                self.recorder.add_server(&reading);
            }
        }
    }
}

/// Whether a wait ends when somebody stops the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Patience {
    Interruptible,
    Uninterrupted,
}

impl Drop for Worker {
    fn drop(&mut self) {
        // A worker ends with its standard input; one that does not is stuck, and has nothing to tell any more.
        self.orders = None;
        for _ in 0..100 {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start_worker(index: usize, sender: Sender<Heard>) -> anyhow::Result<Worker> {
    let program = std::env::current_exe().context("finding this program")?;
    // A group of its own: an interrupt from the terminal is for the coordinator alone.
    let mut child = Command::new(program)
        .arg("worker")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .with_context(|| format!("starting worker {index}"))?;
    let out = child.stdout.take().context("a worker without standard output")?;
    let orders = child.stdin.take();
    thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
        for line in BufReader::new(out).lines() {
            let word = line.map_err(anyhow::Error::from).and_then(|line| {
                serde_json::from_str(&line).with_context(|| format!("a line that is no word: {line:.200}"))
            });
            if sender.send((index, Some(word))).is_err() {
                return;
            }
        }
        // Nobody listens where the run is over.
        let _ = sender.send((index, None));
    })?;
    Ok(Worker { child, orders })
}

/// The highest of each channel's numbers.
fn merged(mut marks: Vec<Mark>) -> Vec<Mark> {
    let key = |mark: &Mark| (mark.epoch, mark.channel.kind(), mark.symbol.clone());
    marks.sort_by_cached_key(|mark| (key(mark), std::cmp::Reverse(mark.last)));
    marks.dedup_by(|later, first| key(later) == key(first));
    marks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::orders::ChannelName;

    #[test]
    fn of_each_channel_the_highest_number_counts() {
        let mark =
            |epoch, symbol: &str, last| Mark { epoch, channel: ChannelName::Trades, symbol: symbol.to_owned(), last };
        let marks = vec![mark(1, "A", 5), mark(2, "A", 1), mark(1, "B", 2), mark(1, "A", 7)];
        assert_eq!(merged(marks), [mark(1, "A", 7), mark(1, "B", 2), mark(2, "A", 1)]);
    }
}
