//! What a run was made on and with: machine, kernel, limits, version. Read once, at the start, by the coordinator.
//!
//! What can't be found out is left out or `unknown`: a report without a fact is better than no report.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};
use std::thread;

use serde::{Deserialize, Serialize};

/// Limits by the name that an administrator knows them by, and where they stand.
const LIMITS: [(&str, &str); 13] = [
    ("fs.nr_open", "/proc/sys/fs/nr_open"),
    ("fs.file-max", "/proc/sys/fs/file-max"),
    ("net.core.somaxconn", "/proc/sys/net/core/somaxconn"),
    ("net.core.netdev_max_backlog", "/proc/sys/net/core/netdev_max_backlog"),
    ("net.core.rmem_max", "/proc/sys/net/core/rmem_max"),
    ("net.core.wmem_max", "/proc/sys/net/core/wmem_max"),
    ("net.ipv4.ip_local_port_range", "/proc/sys/net/ipv4/ip_local_port_range"),
    ("net.ipv4.tcp_max_syn_backlog", "/proc/sys/net/ipv4/tcp_max_syn_backlog"),
    ("net.ipv4.tcp_mem (pages)", "/proc/sys/net/ipv4/tcp_mem"),
    ("net.ipv4.tcp_rmem", "/proc/sys/net/ipv4/tcp_rmem"),
    ("net.ipv4.tcp_wmem", "/proc/sys/net/ipv4/tcp_wmem"),
    ("net.netfilter.nf_conntrack_max", "/proc/sys/net/netfilter/nf_conntrack_max"),
    ("transparent huge pages", "/sys/kernel/mm/transparent_hugepage/enabled"),
];

/// Where a run was made, and by what.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Facts {
    /// Version of the harness.
    pub version: String,
    /// Commit that the harness was built from, or else that of the current directory; `unknown` where neither is known.
    pub commit: String,
    pub host: String,
    pub cpu_model: String,
    /// Cores that this process may use.
    pub cores: u64,
    pub memory_bytes: u64,
    /// Name and release.
    pub kernel: String,
    /// What the kernel reads the time from; anything but `tsc` (or `arch_sys_counter`) makes reading it dear.
    pub clock_source: String,
    /// Processor time that the control group allows, as the kernel writes it (`max` or µs in each µs); none where not said.
    pub cpu_quota: Option<String>,
    /// Load average of the minute before the run.
    pub load_average: Option<f64>,
    /// Soft and hard limit of descriptors among them.
    pub limits: BTreeMap<String, String>,
}

impl Facts {
    /// Looks around.
    pub fn read() -> Facts {
        let unknown = || "unknown".to_owned();
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let load_average = line("/proc/loadavg").and_then(|text| text.split(' ').next()?.parse().ok());
        Facts {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: commit().unwrap_or_else(unknown),
            host: line("/proc/sys/kernel/hostname").unwrap_or_else(unknown),
            cpu_model: cpu_model(&cpuinfo).unwrap_or_else(unknown),
            cores: thread::available_parallelism().map_or(0, |cores| cores.get() as u64),
            memory_bytes: memory_bytes(&meminfo).unwrap_or(0),
            kernel: kernel().unwrap_or_else(unknown),
            clock_source: line("/sys/devices/system/clocksource/clocksource0/current_clocksource")
                .unwrap_or_else(unknown),
            cpu_quota: line("/sys/fs/cgroup/cpu.max"),
            load_average,
            limits: limits(),
        }
    }
}

/// The command line as a report may show it: what `--key`, `--secret` and `--token` are given is masked, and so are
/// credentials in addresses.
pub fn masked_command<I: IntoIterator<Item = String>>(arguments: I) -> String {
    let mut words = Vec::new();
    let mut mask_next = false;
    for argument in arguments {
        let word = match argument.split_once('=') {
            _ if mask_next => "***".to_owned(),
            Some((flag, _)) if is_secret(flag) => format!("{flag}=***"),
            _ => masked_url(&argument),
        };
        mask_next = !mask_next && is_secret(&argument);
        words.push(quoted(word));
    }
    words.join(" ")
}

fn is_secret(flag: &str) -> bool {
    ["--key", "--secret", "--token"].contains(&flag)
}

/// An address without the user's name and password, and without its query, where a token may stand.
pub fn masked_url(word: &str) -> String {
    let Some((scheme, rest)) = word.split_once("://") else {
        return word.to_owned();
    };
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let host = authority.rsplit_once('@').map_or(authority.to_owned(), |(_, host)| format!("***@{host}"));
    let path = path.split_once('?').map_or(path.to_owned(), |(path, _)| format!("{path}?***"));
    format!("{scheme}://{host}{path}")
}

/// As a shell would take it.
fn quoted(word: String) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,@%+*".contains(c);
    if !word.is_empty() && word.chars().all(plain) { word } else { format!("'{}'", word.replace('\'', "'\\''")) }
}

/// The first line of a file, with single spaces.
fn line(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let words: Vec<&str> = text.lines().next()?.split_ascii_whitespace().collect();
    Some(words.join(" ")).filter(|line| !line.is_empty())
}

/// Of the build, else of the working directory.
fn commit() -> Option<String> {
    if let Some(commit) = option_env!("LOADTEST_COMMIT") {
        return Some(commit.to_owned());
    }
    let output = Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}

fn kernel() -> Option<String> {
    let part = |name: &str| line(&format!("/proc/sys/kernel/{name}"));
    Some(format!("{} {}", part("ostype")?, part("osrelease")?))
}

/// x86 has a model's name; others have at least an implementer's and a part's number.
fn cpu_model(cpuinfo: &str) -> Option<String> {
    let value = |key: &str| {
        let line = cpuinfo.lines().find(|line| line.split(':').next().is_some_and(|name| name.trim() == key))?;
        line.split_once(':').map(|(_, value)| value.trim().to_owned())
    };
    value("model name")
        .or_else(|| Some(format!("CPU implementer {}, part {}", value("CPU implementer")?, value("CPU part")?)))
}

fn memory_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.split_ascii_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1_024)
}

fn limits() -> BTreeMap<String, String> {
    let mut limits: BTreeMap<String, String> =
        LIMITS.iter().filter_map(|(name, path)| Some(((*name).to_owned(), line(path)?))).collect();
    if let Some((soft, hard)) = fs::read_to_string("/proc/self/limits").ok().as_deref().and_then(open_files) {
        limits.insert("descriptors of a process (soft, hard)".to_owned(), format!("{soft}, {hard}"));
    }
    limits
}

/// Soft and hard limit of `/proc/self/limits`.
fn open_files(text: &str) -> Option<(String, String)> {
    let rest = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let mut fields = rest.split_ascii_whitespace().map(str::to_owned);
    Some((fields.next()?, fields.next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_known() {
        let facts = Facts::read();
        assert!(facts.cores >= 1 && facts.memory_bytes > 1 << 20, "{facts:?}");
        assert!(facts.kernel.starts_with("Linux "), "{facts:?}");
        assert!(facts.limits.contains_key("net.ipv4.ip_local_port_range"), "{facts:?}");
        assert!(facts.limits.contains_key("descriptors of a process (soft, hard)"), "{facts:?}");
    }

    #[test]
    fn a_command_shows_no_credentials() {
        let check = |arguments: &[&str], expected: &str| {
            assert_eq!(masked_command(arguments.iter().map(|word| (*word).to_owned())), expected);
        };
        check(&["loadtest", "broadcast", "--clients", "10"], "loadtest broadcast --clients 10");
        check(&["loadtest", "--key", "k", "--secret", "s", "--rate", "1"], "loadtest --key *** --secret *** --rate 1");
        check(&["loadtest", "--token=t", "--secret=a=b"], "loadtest --token=*** --secret=***");
        // A secret that looks like a flag is still one, and what follows is not.
        check(&["loadtest", "--secret", "--token", "idle"], "loadtest --secret *** idle");
        check(
            &["loadtest", "--target", "wss://u:p@host:1/stream?token=t"],
            "loadtest --target 'wss://***@host:1/stream?***'",
        );
        check(&["loadtest", "--symbol", "a b", ""], "loadtest --symbol 'a b' ''");
    }

    #[test]
    fn files_of_the_kernel_are_taken_apart() {
        assert_eq!(cpu_model("processor\t: 0\nmodel name\t: A CPU @ 2.0GHz\n").as_deref(), Some("A CPU @ 2.0GHz"));
        let arm = "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n";
        assert_eq!(cpu_model(arm).as_deref(), Some("CPU implementer 0x41, part 0xd0c"));
        assert_eq!(cpu_model(""), None);
        assert_eq!(memory_bytes("MemTotal:        1024 kB\nMemFree: 1 kB\n"), Some(1_048_576));
        let limits = "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024                 524288               files\n";
        assert_eq!(open_files(limits), Some(("1024".to_owned(), "524288".to_owned())));
    }
}
