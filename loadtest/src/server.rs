//! The server as it is from outside: processor time and memory over time, from `/proc/PID` and from its metrics page. Read
//! by a thread of its own, so that a page that hangs delays nobody.
//!
//! Deliberately absent: what a figure means for a run (that is [`crate::outcome`]'s).

mod page;
mod process;

use std::collections::BTreeMap;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use page::Page;
use process::Process;

/// What a source said at one moment.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// `pid 123` or the address of the metrics page.
    pub source: String,
    pub kind: SourceKind,
    /// Unix ns.
    pub at_ns: i64,
    /// Processor time since the process began, user and system, ns; to 10 ms.
    pub cpu_ns: Option<u64>,
    pub rss_bytes: Option<u64>,
    pub threads: Option<u64>,
    pub descriptors: Option<u64>,
    /// Samples of a metrics page by their whole name, labels included; histogram buckets left out.
    pub metrics: BTreeMap<String, f64>,
    /// What the server calls itself, where it says so.
    pub identity: Option<String>,
    /// Why there is nothing, in words.
    pub error: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceKind {
    /// `/proc/PID`.
    #[default]
    Process,
    /// A metrics page.
    Metrics,
}

/// How much trouble a reading of a process may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Care {
    /// What the kernel has at hand: resident memory may be off by some hundred KB, for each processor counts by itself first.
    Usual,
    /// Resident memory to the page, which walks all of the process's memory: some ms for a GB.
    Exact,
}

/// Reads all sources, over and over.
#[derive(Debug)]
pub struct Sampler {
    readings: Receiver<Reading>,
    /// Asks for a reading at once; dropping it ends the thread.
    asks: Sender<Sender<()>>,
}

impl Sampler {
    /// Reads all sources once, and then every `interval` on a thread of its own.
    ///
    /// # Errors
    /// In words, where a source can't be read now: there is no such process, nothing answers at the address.
    pub fn start(pids: &[u32], metrics: &[String], interval: Duration) -> Result<Sampler, String> {
        let mut sources: Vec<Source> = pids.iter().map(|pid| Source::Process(Process::new(*pid))).collect();
        for url in metrics {
            sources.push(Source::Page(Page::parse(url)?));
        }
        let (readings_in, readings) = mpsc::channel();
        for source in &sources {
            let reading = source.read(Care::Exact);
            if let Some(error) = reading.error {
                return Err(format!("{}: {error}", reading.source));
            }
            // The other end is here.
            let _ = readings_in.send(reading);
        }
        let (asks, asked) = mpsc::channel();
        let spawned = thread::Builder::new()
            .name("server-readings".to_owned())
            .spawn(move || read_all(&sources, interval, &asked, &readings_in));
        spawned.map_err(|error| format!("no thread for readings of the server: {error}"))?;
        Ok(Sampler { readings, asks })
    }

    /// What was read since the last call; never waits.
    pub fn readings(&self) -> impl Iterator<Item = Reading> + '_ {
        self.readings.try_iter()
    }

    /// Reads all sources now, exactly, and waits until that is done, a second for each at most: for the ends of a phase. The
    /// readings come with the others.
    pub fn read_now(&self) {
        let (done_in, done) = mpsc::channel();
        if self.asks.send(done_in).is_ok() {
            // An error is the answer too: the thread is gone, or has done it.
            let _ = done.recv();
        }
    }
}

#[derive(Debug)]
enum Source {
    Process(Process),
    Page(Page),
}

impl Source {
    fn read(&self, care: Care) -> Reading {
        let (source, kind, read) = match self {
            Source::Process(process) => (process.name(), SourceKind::Process, process.read(care)),
            Source::Page(page) => (page.name(), SourceKind::Metrics, page.read()),
        };
        let reading = read.unwrap_or_else(|error| Reading { error: Some(error), ..Reading::default() });
        Reading { source, kind, at_ns: unix_ns(), ..reading }
    }
}

fn read_all(sources: &[Source], interval: Duration, asked: &Receiver<Sender<()>>, readings: &Sender<Reading>) {
    let mut due = Instant::now() + interval;
    loop {
        let asker = match asked.recv_timeout(due.saturating_duration_since(Instant::now())) {
            Ok(asker) => Some(asker),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let care = if asker.is_some() { Care::Exact } else { Care::Usual };
        for source in sources {
            if readings.send(source.read(care)).is_err() {
                return;
            }
        }
        if asker.is_none() {
            // On the grid; what a slow source made late is left out.
            while due <= Instant::now() {
                due += interval.max(Duration::from_millis(1));
            }
        }
    }
}

fn unix_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_process_is_read_when_asked() {
        // An hour: whatever comes was asked for.
        let sampler = Sampler::start(&[std::process::id()], &[], Duration::from_secs(3_600)).unwrap();
        let before: Vec<Reading> = sampler.readings().collect();
        sampler.read_now();
        let after: Vec<Reading> = sampler.readings().collect();
        assert_eq!((before.len(), after.len()), (1, 1));
        let (before, after) = (&before[0], &after[0]);
        assert!(after.at_ns >= before.at_ns && after.cpu_ns >= before.cpu_ns, "{before:?} {after:?}");
        assert!(after.rss_bytes.unwrap() > 100_000, "{after:?}");
        assert!(after.threads.unwrap() >= 2 && after.descriptors.unwrap() >= 3, "{after:?}");
    }

    #[test]
    fn readings_come_by_themselves() {
        let sampler = Sampler::start(&[std::process::id()], &[], Duration::from_millis(5)).unwrap();
        assert!(sampler.readings.recv().is_ok() && sampler.readings.recv().is_ok());
    }

    #[test]
    fn what_can_not_be_read_is_refused_at_the_start() {
        // Above the most that a 64-bit kernel gives out, 2^22.
        let error = Sampler::start(&[4_194_305], &[], Duration::from_secs(1)).unwrap_err();
        assert!(error.contains("pid 4194305"), "{error}");
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let url = format!("http://{closed}/metrics");
        let error = Sampler::start(&[], std::slice::from_ref(&url), Duration::from_secs(1)).unwrap_err();
        assert!(error.starts_with(&url), "{error}");
    }
}
