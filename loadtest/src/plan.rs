//! How a run is spread: worker processes, targets, source addresses, and whether descriptors and ports suffice.
//!
//! Pure but for [`System::read`] and name resolution. A run that cannot fit is refused here, with the number that is needed
//! and how to get it, before anything is started.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};

use crate::orders::{Assignment, Credentials, Target, Timed, TlsTrust};
use crate::scenario::{Kind, Scenario};

/// Descriptors of a worker that are not clients: standard streams, epoll sets, timer, and some in reserve.
const DESCRIPTORS_BESIDE: u64 = 32;

/// Clients of one source address, where the harness chooses: below the 20,000 connections that the gateway takes from one
/// address by default, and well below half of the 28,232 ports that Linux has by default. Linux looks through every other
/// port first, and where these are taken each connect takes about a millisecond: 18,000 clients at 3,000 a second were
/// 1.5 s late from one address, and 3 ms from two.
const CLIENTS_PER_SOURCE: u64 = 10_000;

/// Of the local ports, how many per cent may be in use: the search for a free one gets slow towards the end.
const PORTS_PERCENT: u64 = 95;

/// What this machine allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct System {
    /// Hard limit of descriptors of a process.
    pub descriptors: u64,
    /// First and last port that connections may come from.
    pub ports: (u16, u16),
    pub cores: u64,
}

/// Why a run cannot be made here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    #[error(
        "{clients} clients in {workers} worker processes need {need} descriptors each, and this process may have {have}. \
         Use --workers {enough}, or raise the limit: `ulimit -Hn {need}` as root, LimitNOFILE={need} in a systemd unit, or \
         `nofile` in /etc/security/limits.conf"
    )]
    Descriptors { clients: u64, workers: u64, need: u64, have: u64, enough: u64 },
    #[error(
        "{clients} clients need {clients} local ports; {sources} source addresses to {targets} targets with ports {first} to \
         {last} give {have}. Use {enough} source addresses ({how}), or widen the range: `sysctl -w \
         net.ipv4.ip_local_port_range=\"10000 65535\"`"
    )]
    Ports { clients: u64, sources: u64, targets: u64, first: u16, last: u16, have: u64, enough: u64, how: &'static str },
    #[error("target {url}: {what}")]
    Target { url: String, what: String },
    #[error("source {text}: {what}")]
    Source { text: String, what: &'static str },
    #[error("{path}: {error}")]
    Authority { path: String, error: String },
}

impl PlanError {
    /// Whether the machine is at fault, and not the arguments.
    pub fn is_of_the_machine(&self) -> bool {
        matches!(self, PlanError::Descriptors { .. } | PlanError::Ports { .. })
    }
}

impl System {
    /// Asks the system; what it does not tell is taken as Linux has it by default.
    pub fn read() -> System {
        use nix::sys::resource::{Resource, getrlimit};
        let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
        let mut bounds = range.split_whitespace().filter_map(|bound| bound.parse().ok());
        System {
            descriptors: getrlimit(Resource::RLIMIT_NOFILE).map_or(1_024, |(_, hard)| hard),
            ports: (bounds.next().unwrap_or(32_768), bounds.next().unwrap_or(60_999)),
            cores: std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64),
        }
    }
}

/// This process may have as many descriptors as the system ever allows it; workers inherit that.
pub fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        // Where it fails, opening sockets does, and says so.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// One assignment for each worker.
///
/// # Errors
/// [`PlanError`]: the run does not fit this machine, or an address is none.
pub fn plan(
    scenario: &Scenario,
    credentials: Option<Credentials>,
    system: &System,
) -> Result<Vec<Assignment>, PlanError> {
    let targets = scenario.targets.iter().map(|url| target(url)).collect::<Result<Vec<_>, _>>()?;
    let clients = scenario.clients_max();
    let sources = sources(scenario, &targets, clients, system)?;
    let workers = workers(scenario.workers, clients, system)?;
    let tls = match &scenario.ca {
        _ if scenario.insecure => TlsTrust::Anybody,
        None => TlsTrust::Public,
        Some(path) => TlsTrust::Authority(
            std::fs::read_to_string(path)
                .map_err(|error| PlanError::Authority { path: path.clone(), error: error.to_string() })?,
        ),
    };
    let assignment = Assignment {
        worker: 0,
        workers: workers as u32,
        clients_max: clients,
        targets,
        sources,
        credentials,
        sign_in: scenario.sign_in,
        encoding: scenario.encoding,
        interest: scenario.interest.clone(),
        seed: scenario.seed,
        stamp: scenario.stamp,
        timed: if scenario.kind == Kind::Rights { Timed::Rights } else { Timed::Messages },
        clock_tolerance_ns: scenario.clock_tolerance_ns,
        check_every: scenario.check_every,
        stalled_share: scenario.stall_share,
        tls,
    };
    Ok((0..workers as u32).map(|worker| Assignment { worker, ..assignment.clone() }).collect())
}

fn workers(asked: Option<u32>, clients: u64, system: &System) -> Result<u64, PlanError> {
    let room = system.descriptors.saturating_sub(DESCRIPTORS_BESIDE).max(1);
    let enough = clients.div_ceil(room);
    let workers = match asked {
        Some(workers) => u64::from(workers),
        // The other half of the cores is the server's, where it runs here.
        None => enough.max(system.cores / 2).max(1),
    };
    let workers = workers.min(clients.max(1));
    let need = clients.div_ceil(workers) + DESCRIPTORS_BESIDE;
    if need > system.descriptors {
        return Err(PlanError::Descriptors { clients, workers, need, have: system.descriptors, enough });
    }
    Ok(workers)
}

fn sources(scenario: &Scenario, targets: &[Target], clients: u64, system: &System) -> Result<Vec<IpAddr>, PlanError> {
    let (first, last) = system.ports;
    let ports = (u64::from(last.saturating_sub(first)) + 1) * PORTS_PERCENT / 100;
    let loopback = targets.iter().all(|target| target.address.ip().is_loopback() && target.address.is_ipv4());
    let mut listed = Vec::new();
    for text in &scenario.source {
        listed.extend(source_range(text)?);
    }
    if let Some(count) = scenario.sources {
        listed.extend(loopback_addresses(u64::from(count)));
    }
    // The same share of a range of another width.
    let per_source = CLIENTS_PER_SOURCE.min(ports * 2 / 5).max(1);
    if listed.is_empty() && loopback && clients > per_source {
        listed.extend(loopback_addresses(clients.div_ceil(per_source)));
    }
    let mut distinct: Vec<SocketAddr> = targets.iter().map(|target| target.address).collect();
    distinct.sort_unstable();
    distinct.dedup();
    let (sources, targets) = (listed.len().max(1) as u64, distinct.len() as u64);
    let have = ports * sources * targets;
    if have < clients {
        let enough = clients.div_ceil((ports * targets).max(1));
        let how = if loopback { "--sources" } else { "--source FIRST-LAST, addresses of this machine" };
        return Err(PlanError::Ports { clients, sources, targets, first, last, have, enough, how });
    }
    Ok(listed)
}

/// 127.0.0.1 and so on.
fn loopback_addresses(count: u64) -> impl Iterator<Item = IpAddr> {
    let first = u32::from(Ipv4Addr::LOCALHOST);
    // The last of 127.0.0.0/8 is its broadcast address.
    (0..count.min(0x00ff_fffe) as u32).map(move |offset| IpAddr::V4(Ipv4Addr::from(first + offset)))
}

/// `A` or `A-B`, both included.
fn source_range(text: &str) -> Result<Vec<IpAddr>, PlanError> {
    let wrong = |what| PlanError::Source { text: text.to_owned(), what };
    let parse =
        |text: &str| text.trim().parse::<IpAddr>().map_err(|_| wrong("an IP address, or two with a dash, is wanted"));
    match text.split_once('-') {
        None => Ok(vec![parse(text)?]),
        Some((first, last)) => match (parse(first)?, parse(last)?) {
            (IpAddr::V4(first), IpAddr::V4(last)) if first <= last => {
                let (first, last) = (u32::from(first), u32::from(last));
                if last - first >= 65_536 {
                    return Err(wrong("at most 65536 addresses are taken"));
                }
                Ok((first..=last).map(|address| IpAddr::V4(Ipv4Addr::from(address))).collect())
            }
            (IpAddr::V4(_), IpAddr::V4(_)) => Err(wrong("the first address is behind the last one")),
            _ => Err(wrong("a range is taken of IPv4 addresses only")),
        },
    }
}

/// `ws://host[:port]/path?query`, the host resolved.
pub fn target(url: &str) -> Result<Target, PlanError> {
    let wrong = |what: &str| PlanError::Target { url: crate::facts::masked_url(url), what: what.to_owned() };
    let (tls, rest) = match url.split_once("://") {
        Some(("ws", rest)) => (false, rest),
        Some(("wss", rest)) => (true, rest),
        _ => return Err(wrong("an address that begins with ws:// or wss:// is wanted")),
    };
    let (authority, path) = match rest.find(['/', '?']) {
        Some(at) => rest.split_at(at),
        None => (rest, "/stream"),
    };
    if authority.contains('@') {
        return Err(wrong("credentials are given by --key and --secret, or --token"));
    }
    if path.bytes().chain(authority.bytes()).any(|byte| byte <= b' ' || byte == 0x7f) {
        return Err(wrong("an address has no spaces"));
    }
    let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, port)) => (host, port.strip_prefix(':').unwrap_or(port)),
        None => authority.split_once(':').unwrap_or((authority, "")),
    };
    let port = match port {
        "" => {
            if tls {
                443
            } else {
                80
            }
        }
        port => port.parse().map_err(|_| wrong("its port is none"))?,
    };
    let address = (host, port)
        .to_socket_addrs()
        .map_err(|error| wrong(&format!("its name cannot be resolved: {error}")))?
        // Where a name has both, IPv4: that is where source addresses can be chosen.
        .min_by_key(SocketAddr::is_ipv6)
        .ok_or_else(|| wrong("its name has no address"))?;
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    Ok(Target { address, host: host.to_owned(), authority: authority.to_owned(), path, tls })
}

#[cfg(test)]
mod tests;
