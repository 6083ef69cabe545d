//! The sections of the configuration: one struct for each table of the file, typed, with defaults.
//!
//! Deliberately absent: checks between keys (`validate.rs`), and secrets. A secret stands in a file of its
//! own that the configuration names, so that the configuration may be printed as it is.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{Tls, units};

/// `[server]`: where clients connect, and what a connection may take before it has signed in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// For clients without TLS. May be empty where `tls.listen` is not.
    #[serde(deserialize_with = "one_or_many")]
    pub listen: Vec<SocketAddr>,
    /// Fan-out threads; 0 stands for one less than the cores, but at least one.
    pub shards: usize,
    pub pin: Pin,
    /// From the accepted connection to the end of the HTTP request's head.
    #[serde(with = "units::duration")]
    pub handshake_timeout: Duration,
    /// From the upgrade to "authenticated".
    #[serde(with = "units::duration")]
    pub auth_timeout: Duration,
    /// Connections of one shard that have not signed in yet.
    pub handshakes_max: usize,
    /// Live connections from one client address.
    pub connections_per_address: u32,
    /// Longest message from a client, bytes, fragments together.
    #[serde(with = "units::bytes")]
    pub message_bytes_max: usize,
    /// Parts of `User-Agent` of clients that are refused, in any case of letters.
    pub suspicious_agents: Vec<String>,
    /// The `Origin`s of browsers that may connect; empty: any. Who names none is no browser.
    pub origins: Vec<String>,
    /// Networks of the proxies whose word about a client's address is believed.
    #[serde(with = "networks")]
    pub trusted_proxies: Vec<IpNet>,
    pub proxy_protocol: ProxyProtocol,
    pub tls: Tls,
}

impl Default for Server {
    fn default() -> Server {
        Server {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 8080))],
            shards: 0,
            pin: Pin::Auto,
            handshake_timeout: Duration::from_secs(10),
            auth_timeout: Duration::from_secs(10),
            handshakes_max: 4096,
            connections_per_address: 20_000,
            message_bytes_max: 64 << 10,
            suspicious_agents: SUSPICIOUS_AGENTS.map(str::to_owned).into(),
            origins: Vec::new(),
            trusted_proxies: Vec::new(),
            proxy_protocol: ProxyProtocol::Off,
            tls: Tls::default(),
        }
    }
}

impl Server {
    /// How many shards to start on a machine of so many cores.
    pub fn shard_count(&self, cores: usize) -> usize {
        if self.shards == 0 { cores.saturating_sub(1).max(1) } else { self.shards }
    }
}

/// How scanners call themselves that nobody has sent to look at a stream.
const SUSPICIOUS_AGENTS: [&str; 10] =
    ["sqlmap", "nikto", "nmap", "masscan", "zgrab", "nuclei", "gobuster", "dirbuster", "wpscan", "acunetix"];

/// Whether connections begin with a header of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProxyProtocol {
    Off,
    /// Each must come from a trusted proxy and begin with a header of version 2.
    V2,
}

/// Networks as text.
mod networks {
    use entitlements::parse_network;
    use ipnet::IpNet;
    use serde::de::{Deserialize, Deserializer, Error};
    use serde::ser::Serializer;

    pub(super) fn serialize<S: Serializer>(networks: &[IpNet], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(networks.iter().map(ToString::to_string))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<IpNet>, D::Error> {
        let texts = Vec::<String>::deserialize(from)?;
        texts.iter().map(|text| parse_network(text).map_err(D::Error::custom)).collect()
    }
}

/// Whether threads of the tick path are bound to cores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pin {
    /// Only where the machine has at least four cores.
    Auto,
    On,
    Off,
}

impl Pin {
    /// Whether to pin on a machine of so many cores.
    pub fn applies(self, cores: usize) -> bool {
        match self {
            Pin::Auto => cores >= 4,
            Pin::On => true,
            Pin::Off => false,
        }
    }
}

/// `[session]`: one signed-in client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Session {
    /// Silence after which the client is sent a heartbeat.
    #[serde(with = "units::duration")]
    pub heartbeat: Duration,
    /// Data that the kernel holds unsent for one client, bytes; beyond it the client is served from the log,
    /// and with the newest values.
    #[serde(with = "units::bytes")]
    pub unsent_bytes_max: usize,
    /// Control messages (acks, errors, pongs) that may wait for one client, bytes.
    #[serde(with = "units::bytes")]
    pub control_bytes_max: usize,
    pub slow_consumer: SlowConsumer,
    /// A client that takes no byte for so long while data waits is disconnected.
    #[serde(with = "units::duration")]
    pub stall_timeout: Duration,
    pub requests_per_second: u32,
    /// Requests that may come at once.
    pub requests_burst: u32,
}

impl Default for Session {
    fn default() -> Session {
        Session {
            heartbeat: Duration::from_secs(15),
            unsent_bytes_max: 128 << 10,
            control_bytes_max: 64 << 10,
            slow_consumer: SlowConsumer::Gap,
            stall_timeout: Duration::from_secs(300),
            requests_per_second: 50,
            requests_burst: 100,
        }
    }
}

/// What happens to a client that has fallen behind what is retained of a sequenced channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SlowConsumer {
    /// It is told the gap and goes on behind it.
    Gap,
    /// It is disconnected and may resume.
    Disconnect,
}

/// `[fanout]`: memory between the sequencer and the clients.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fanout {
    /// Sequenced messages kept for slow clients and for `since`, bytes in all.
    #[serde(with = "units::bytes")]
    pub retain_bytes: usize,
    /// How far apart the rounds may begin in which a busy shard writes to its clients.
    #[serde(with = "units::duration")]
    pub round_max: Duration,
    /// Segments that may wait for one shard.
    pub shard_queue: usize,
    /// Largest batch of encoded frames, bytes.
    #[serde(with = "units::bytes")]
    pub segment_bytes_max: usize,
    pub instruments_max: usize,
}

impl Default for Fanout {
    fn default() -> Fanout {
        Fanout {
            retain_bytes: 256 << 20,
            round_max: Duration::from_millis(16),
            shard_queue: 1024,
            segment_bytes_max: 256 << 10,
            instruments_max: 16_384,
        }
    }
}

/// `[sequencer]`: the thread that numbers and encodes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sequencer {
    pub wait: Wait,
    /// How far data of users without real-time access is held back. Absent in the file: 10 s with the demo
    /// users, 15 min otherwise. Always there once the configuration is loaded.
    #[serde(with = "units::optional_duration", skip_serializing_if = "Option::is_none")]
    pub(super) delay: Option<Duration>,
    /// Held-back messages, bytes in all.
    #[serde(with = "units::bytes")]
    pub delay_bytes_max: usize,
    /// How long after its end a bar still takes trades that come late, by the time of events.
    #[serde(with = "units::duration")]
    pub bar_lateness: Duration,
    /// Whether indicators are computed from finished bars.
    pub indicators: bool,
}

impl Default for Sequencer {
    fn default() -> Sequencer {
        Sequencer {
            wait: Wait::Park,
            delay: None,
            delay_bytes_max: 256 << 20,
            bar_lateness: Duration::from_secs(10),
            indicators: true,
        }
    }
}

impl Sequencer {
    /// Delay with the demo users: short enough to see delayed data come.
    pub const DELAY_DEMO: Duration = Duration::from_secs(10);
    /// The usual delay of exchanges' free data.
    pub const DELAY: Duration = Duration::from_secs(15 * 60);

    /// How far data of users without real-time access is held back.
    pub fn delay(&self) -> Duration {
        self.delay.unwrap_or(Self::DELAY)
    }
}

/// How the sequencer waits for ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wait {
    /// Sleeps after a short spin: no CPU while idle, some microseconds to wake.
    Park,
    /// Gives its core away between looks.
    Yield,
    /// Never lets go of its core.
    Spin,
}

/// `[dead_letters]`: the frames that feeds refuse.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeadLetters {
    /// Whether they are kept, and not only counted.
    pub keep: bool,
    /// Where; absent: `dead-letters.jsonl` in the state directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// Length from which on the file is put aside as `FILE.1`, in place of the one before.
    #[serde(with = "units::bytes")]
    pub file_bytes_max: usize,
}

impl Default for DeadLetters {
    fn default() -> DeadLetters {
        DeadLetters { keep: true, file: None, file_bytes_max: 64 << 20 }
    }
}

/// `[audit]`: who came in, who was refused, whose rights changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Audit {
    pub to: AuditSink,
    /// Absent: `audit.jsonl` in the state directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// Length from which on the file is put aside as `FILE.1`, in place of the one before.
    #[serde(with = "units::bytes")]
    pub file_bytes_max: usize,
}

/// Where audit events go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuditSink {
    File,
    Stdout,
    /// By way of the spool.
    Kafka,
    Off,
}

impl Default for Audit {
    fn default() -> Audit {
        Audit { to: AuditSink::File, file: None, file_bytes_max: 256 << 20 }
    }
}

/// `[admin]`: health, metrics and the effective configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    /// May be empty: no admin port.
    #[serde(deserialize_with = "one_or_many")]
    pub listen: Vec<SocketAddr>,
}

impl Default for Admin {
    fn default() -> Admin {
        Admin { listen: vec![SocketAddr::from(([127, 0, 0, 1], 9090))] }
    }
}

/// `[log]`: what is written to standard error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    pub format: LogFormat,
    /// A level, or `tracing` directives such as `info,feed_handlers=debug`.
    pub level: String,
}

impl Default for Log {
    fn default() -> Log {
        Log { format: LogFormat::Text, level: "info".to_owned() }
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Text,
    Json,
}

/// `[drain]`: the way out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Drain {
    /// Clients that have not taken what is theirs after so long are cut off.
    #[serde(with = "units::duration")]
    pub timeout: Duration,
    /// Clients are let go one after another over so long, that they do not all come back at once.
    #[serde(with = "units::duration")]
    pub spread: Duration,
}

impl Default for Drain {
    fn default() -> Drain {
        Drain { timeout: Duration::from_secs(10), spread: Duration::from_secs(2) }
    }
}

/// Reads a list of addresses, or one alone, as an environment variable gives it.
pub(super) fn one_or_many<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<SocketAddr>, D::Error> {
    struct Addresses;

    fn address<E: serde::de::Error>(text: &str) -> Result<SocketAddr, E> {
        text.parse().map_err(|_| {
            E::custom(format_args!("`{text}` is no address: write IP:PORT, such as 127.0.0.1:8080 or [::1]:8080"))
        })
    }

    impl<'de> serde::de::Visitor<'de> for Addresses {
        type Value = Vec<SocketAddr>;

        fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
            out.write_str("a list of addresses such as [\"127.0.0.1:8080\"]")
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Vec<SocketAddr>, E> {
            address(text).map(|address| vec![address])
        }

        fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut list: A) -> Result<Vec<SocketAddr>, A::Error> {
            let mut addresses = Vec::new();
            while let Some(text) = list.next_element::<String>()? {
                addresses.push(address(&text)?);
            }
            Ok(addresses)
        }
    }

    from.deserialize_any(Addresses)
}
