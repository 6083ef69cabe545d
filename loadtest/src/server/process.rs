//! A process by `/proc/PID`, proc(5).

use std::fs;
use std::io;
use std::path::PathBuf;

use super::{Care, Reading};

/// Length of the kernel's clock tick as it shows it to programs: 1/100 s on every Linux that is in use.
const TICK_NS: u64 = 10_000_000;

/// A watched process.
#[derive(Debug)]
pub(super) struct Process {
    pid: u32,
}

impl Process {
    pub(super) fn new(pid: u32) -> Process {
        Process { pid }
    }

    pub(super) fn name(&self) -> String {
        format!("pid {}", self.pid)
    }

    /// # Errors
    /// In words, where there is no such process any more, or it is not ours to look at.
    pub(super) fn read(&self, care: Care) -> Result<Reading, String> {
        let text = |file: &str| fs::read_to_string(self.path(file)).map_err(|error| self.unreadable(&error));
        let (cpu_ns, threads) = parse_stat(&text("stat")?).ok_or("its stat file is not understood")?;
        let resident = |file: &str, key: &str| text(file).ok().and_then(|text| kilobytes(&text, key));
        let exact = if care == Care::Exact { resident("smaps_rollup", "Rss:") } else { None };
        Ok(Reading {
            cpu_ns: Some(cpu_ns),
            rss_bytes: exact.or_else(|| resident("status", "VmRSS:")),
            threads: Some(threads),
            descriptors: self.descriptors(care),
            identity: self.executable(),
            ..Reading::default()
        })
    }

    fn path(&self, file: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{file}", self.pid))
    }

    fn unreadable(&self, error: &io::Error) -> String {
        match error.kind() {
            io::ErrorKind::NotFound => "there is no such process".to_owned(),
            _ => error.to_string(),
        }
    }

    /// Newer kernels (6.2) tell how many by the folder's size; counting them takes long where they are 100,000.
    fn descriptors(&self, care: Care) -> Option<u64> {
        let told = fs::metadata(self.path("fd")).ok()?.len();
        if told > 0 {
            return Some(told);
        }
        (care == Care::Exact)
            .then(|| fs::read_dir(self.path("fd")).ok().map(|entries| entries.count() as u64))
            .flatten()
    }

    fn executable(&self) -> Option<String> {
        Some(fs::read_link(self.path("exe")).ok()?.file_name()?.to_string_lossy().into_owned())
    }
}

/// Processor time, user and system, ns; threads.
fn parse_stat(text: &str) -> Option<(u64, u64)> {
    // The second field is the name in brackets, which may hold spaces and brackets; the third follows the last one.
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    let ticks = field(14)?.checked_add(field(15)?)?;
    Some((ticks.checked_mul(TICK_NS)?, field(20)?))
}

/// The figure of a line such as `VmRSS:     1234 kB`, in bytes.
fn kilobytes(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_ascii_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "4711 (a (b) c) S 1 4711 4711 0 -1 4194560 5331 0 12 0 151 49 0 0 20 0 7 0 12345 1 2 3";

    #[test]
    fn processor_time_and_threads_stand_behind_the_name() {
        assert_eq!(parse_stat(STAT), Some((2_000_000_000, 7)));
        for broken in ["", "4711 (name", "4711 (name) S 1", &STAT.replace("151", "x")] {
            assert_eq!(parse_stat(broken), None, "{broken}");
        }
    }

    #[test]
    fn resident_memory_is_in_kilobytes() {
        assert_eq!(kilobytes("Name:\tx\nVmHWM:\t 9 kB\nVmRSS:\t  1234 kB\n", "VmRSS:"), Some(1_263_616));
        assert_eq!(kilobytes("VmRSS: many kB", "VmRSS:"), None);
        assert_eq!(kilobytes("", "Rss:"), None);
    }

    #[test]
    fn exact_and_usual_memory_are_near_each_other() {
        let process = Process::new(std::process::id());
        let rss = |care| process.read(care).unwrap().rss_bytes.unwrap();
        let (usual, exact) = (rss(Care::Usual), rss(Care::Exact));
        assert!(usual.abs_diff(exact) < exact / 2, "{usual} {exact}");
    }
}
