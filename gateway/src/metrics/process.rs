//! What the process itself uses, under the names that every Prometheus client library has for it. Read at each scrape, on
//! the admin thread.
//!
//! Whatever the system does not tell is left out of the scrape: a missing sample is better than a wrong one.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use super::exposition::{Exposition, Kind, seconds};

/// Writes the process's samples. `started` is when it started, by the wall clock.
pub(super) fn render(out: &mut Exposition, started: SystemTime) {
    let mut gauge = |name, help, value: Option<u64>| {
        if let Some(value) = value {
            out.sample(Kind::Gauge, name, help, &[], value);
        }
    };
    let started = started.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    gauge("process_start_time_seconds", "When the process started, Unix seconds.", Some(started));
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    gauge("process_resident_memory_bytes", "Resident memory.", resident_bytes(&status));
    gauge("process_threads", "Threads of the process, those of libraries included.", threads(&status));
    gauge("process_open_fds", "Open file descriptors.", open_fds());
    gauge("process_max_fds", "File descriptors that the process may have open.", getrlimit(Resource::Nofile).current);
    if let Some(ns) = cpu_ns() {
        let help = "User and system time of all threads, ended ones included.";
        out.sample(Kind::Counter, "process_cpu_seconds_total", help, &[], seconds(ns));
    }
}

/// Resident memory, from the text of `/proc/self/status`.
fn resident_bytes(status: &str) -> Option<u64> {
    field(status, "VmRSS:")?.strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

fn threads(status: &str) -> Option<u64> {
    field(status, "Threads:")?.parse().ok()
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

/// The directory's size is their number from Linux 6.2 on, and 0 before. Counting its entries has the kernel make one for
/// each connection, so it is only done where there is no other way; it counts the descriptor that reads the directory too.
fn open_fds() -> Option<u64> {
    const DIRECTORY: &str = "/proc/self/fd";
    match fs::metadata(DIRECTORY).ok()?.size() {
        0 => Some((fs::read_dir(DIRECTORY).ok()?.count() as u64).saturating_sub(1)),
        open => Some(open),
    }
}

/// As the scheduler has it, ns: `/proc/self/stat` tells the same in steps of 10 ms.
fn cpu_ns() -> Option<u64> {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let (whole, ns) = (u64::try_from(time.tv_sec).ok()?, u64::try_from(time.tv_nsec).ok()?);
    whole.checked_mul(1_000_000_000)?.checked_add(ns)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::fs::File;
    use std::time::Instant;

    use super::*;

    /// The samples of a scrape, by name.
    fn samples() -> HashMap<String, f64> {
        let mut out = Exposition::default();
        render(&mut out, UNIX_EPOCH + Duration::from_millis(1_763_654_400_900));
        let text = out.into_text();
        let samples = text.lines().filter(|line| !line.starts_with('#')).map(|line| line.split_once(' ').unwrap());
        samples.map(|(name, value)| (name.to_owned(), value.parse().unwrap())).collect()
    }

    #[test]
    fn all_of_it_is_told_and_plausible() {
        let samples = samples();
        assert_eq!(samples["process_start_time_seconds"], 1_763_654_400.0);
        assert!(samples["process_resident_memory_bytes"] > 100_000.0);
        assert!(samples["process_threads"] >= 1.0);
        assert!(samples["process_cpu_seconds_total"] > 0.0);
        assert!(samples["process_open_fds"] >= 3.0);
        // Not in the table where the limit is infinite.
        assert!(samples.get("process_max_fds").is_none_or(|most| *most >= samples["process_open_fds"]));
    }

    #[test]
    fn descriptors_and_threads_count() {
        // More than other tests of this process may close at the same time.
        let files: Vec<File> = (0..500).map(|_| File::open("/dev/null").unwrap()).collect();
        let open = samples()["process_open_fds"];
        assert!(open >= 500.0, "{open}");
        let before = fs::read_dir("/proc/self/fd").unwrap().count() as f64;
        assert!((open - before).abs() < 250.0, "{open} and {before}");
        drop(files);
        let counted = std::thread::scope(|scope| {
            let waiting: Vec<_> = (0..20).map(|_| scope.spawn(std::thread::park)).collect();
            let counted = samples()["process_threads"];
            waiting.iter().for_each(|thread| thread.thread().unpark());
            counted
        });
        assert!(counted >= 21.0, "{counted}");
    }

    #[test]
    fn work_takes_processor_time() {
        let before = cpu_ns().unwrap();
        let (begun, mut rounds) = (Instant::now(), 0u64);
        while cpu_ns().unwrap() < before + 2_000_000 {
            rounds += 1;
            assert!(begun.elapsed() < Duration::from_secs(30), "after {rounds} looks");
        }
    }

    #[test]
    fn the_status_is_read_or_left_out() {
        let check = |status: &str, expected: (Option<u64>, Option<u64>)| {
            assert_eq!((resident_bytes(status), threads(status)), expected, "{status:?}");
        };
        check("Name:\tx\nVmRSS:\t    1234 kB\nThreads:\t7\n", (Some(1234 * 1024), Some(7)));
        check("VmRSS:\t1234 MB\nThreads:\tmany\n", (None, None));
        check("VmRSS:\t18446744073709551615 kB\n", (None, None));
        check("", (None, None));
    }
}
