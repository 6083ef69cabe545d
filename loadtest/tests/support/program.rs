//! The `loadtest` program, run to its end, and its JSON report.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

use super::server::Server;
use super::wait_until;

/// How a run ended.
#[derive(Debug)]
pub struct Run {
    /// The exit status; `None` after a signal.
    pub status: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    /// The report, where one was written.
    pub report: Option<Value>,
}

/// Runs the program against a server with these arguments, the first of which is the scenario. Credentials, which the
/// server takes any of, and the file for the report are added.
#[track_caller]
pub fn run(server: &Server, arguments: &[&str]) -> Run {
    run_at(&server.url(), arguments)
}

/// As [`run`], against whatever is there.
#[track_caller]
pub fn run_at(url: &str, arguments: &[&str]) -> Run {
    run_with(url, arguments, &[("LOADTEST_KEY", "tester"), ("LOADTEST_SECRET", "not-a-secret")])
}

/// As [`run_at`], with this environment and no other credentials.
#[track_caller]
pub fn run_with(url: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Run {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let directory = std::env::temp_dir().join(format!("loadtest-{}-{number}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let _removed_at_the_end = Directory(directory.clone());
    let path = |name: &str| directory.join(name);
    let file = |name: &str| std::fs::File::create(path(name)).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_loadtest"))
        .args(arguments)
        .args(["--target", url, "--json"])
        .arg(path("report.json"))
        .env_remove("LOADTEST_KEY")
        .env_remove("LOADTEST_SECRET")
        .env_remove("LOADTEST_TOKEN")
        .env_remove("LOADTEST_REDIS_PASSWORD")
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .stdout(file("stdout"))
        .stderr(file("stderr"))
        .spawn()
        .unwrap();
    let mut ended = None;
    wait_until("the program to end", || {
        ended = child.try_wait().unwrap();
        ended.is_some()
    });
    let text = |name: &str| std::fs::read_to_string(path(name)).unwrap();
    let report = std::fs::read(path("report.json")).ok().map(|bytes| serde_json::from_slice(&bytes).unwrap());
    Run { status: ended.unwrap().code(), stdout: text("stdout"), stderr: text("stderr"), report }
}

impl Run {
    fn phases(&self) -> &[Value] {
        self.report.as_ref().unwrap_or_else(|| panic!("no report: {self:#?}"))["phases"].as_array().unwrap()
    }

    /// A count over all phases.
    #[track_caller]
    pub fn count(&self, name: &str) -> u64 {
        self.phases().iter().map(|phase| phase["counts"][name].as_u64().unwrap_or_else(|| panic!("no {name}"))).sum()
    }

    /// A count by code (`errors`, `closes`) over all phases.
    #[track_caller]
    pub fn count_of(&self, name: &str, code: u16) -> u64 {
        let of_phase = |phase: &Value| phase["counts"][name][code.to_string()].as_u64().unwrap_or(0);
        self.phases().iter().map(of_phase).sum()
    }

    /// Why the run is invalid, in one text; empty where it is not.
    pub fn invalid(&self) -> String {
        let report = self.report.as_ref().unwrap_or_else(|| panic!("no report: {self:#?}"));
        let reasons = report["invalid"].as_array().unwrap().iter();
        reasons.map(|reason| reason.as_str().unwrap()).collect::<Vec<_>>().join("; ")
    }

    /// What the faults say, one in a line.
    pub fn faults(&self) -> String {
        let report = self.report.as_ref().unwrap_or_else(|| panic!("no report: {self:#?}"));
        let faults = report["faults"].as_array().unwrap().iter();
        faults.map(|fault| fault["text"].as_str().unwrap()).collect::<Vec<_>>().join("\n")
    }

    /// A percentile of the phases whose figures count, the worst of them, ns: `latency`, `p99_ns`.
    pub fn figure(&self, distribution: &str, percentile: &str) -> Option<u64> {
        let counted = self.phases().iter().filter(|phase| phase["judged"] == "everything");
        counted.filter_map(|phase| phase[distribution][percentile].as_u64()).max()
    }
}

struct Directory(PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
