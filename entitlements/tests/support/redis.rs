//! Real servers of Redis on free ports of loopback, without files, ended when dropped.

// Each test file uses its part of this.
#![allow(dead_code, unreachable_pub)]

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long anything may take before a test fails.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub struct Server {
    child: Child,
    pub port: u16,
    directory: PathBuf,
    arguments: Vec<String>,
}

fn spawn(port: u16, directory: &Path, arguments: &[String]) -> Child {
    Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        .args(["--dir", directory.to_str().unwrap()])
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

pub fn free_port() -> u16 {
    // A node of a cluster also takes the port 10,000 above.
    loop {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        if port < 50_000 && TcpListener::bind(("127.0.0.1", port + 10_000)).is_ok() {
            return port;
        }
        if port >= 50_000 {
            let lower = port - 20_000;
            if TcpListener::bind(("127.0.0.1", lower)).is_ok()
                && TcpListener::bind(("127.0.0.1", lower + 10_000)).is_ok()
            {
                return lower;
            }
        }
    }
}

/// Whether there is a Redis on this machine; a test that needs it says that it is left out.
pub fn is_here() -> bool {
    let here = Command::new("redis-server").arg("--version").stdout(Stdio::null()).status().is_ok();
    if !here {
        println!("left out: there is no redis-server on this machine");
    }
    here
}

impl Server {
    pub fn start(arguments: &[&str]) -> Server {
        Server::start_on(free_port(), arguments)
    }

    pub fn start_on(port: u16, arguments: &[&str]) -> Server {
        let directory = std::env::temp_dir().join(format!("gateway-redis-{}-{port}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let server = Server { child: spawn(port, &directory, &arguments), port, directory, arguments };
        wait_until("a server of Redis", || server.cli(&["PING"]).trim() == "PONG");
        server
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Where it was started with a port for TLS.
    pub fn tls_url(&self) -> String {
        format!("rediss://127.0.0.1:{}", self.tls_port().expect("a port for TLS"))
    }

    pub fn tls_port(&self) -> Option<&str> {
        let asked = self.arguments.iter().position(|argument| argument == "--tls-port");
        asked.map(|at| self.arguments[at + 1].as_str())
    }

    /// What `redis-cli` prints for a command.
    pub fn cli(&self, command: &[&str]) -> String {
        ask(self.port, self.password(), command)
    }

    fn password(&self) -> &str {
        let asked = self.arguments.iter().position(|argument| argument == "--requirepass");
        asked.map_or("", |at| &self.arguments[at + 1])
    }

    /// Ends it as a power cut does.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again where it was, with what it has written to its directory.
    pub fn start_again(&mut self) {
        self.child = spawn(self.port, &self.directory, &self.arguments);
        wait_until("a server of Redis", || self.cli(&["PING"]).trim() == "PONG");
    }

    pub fn signal(&self, signal: &str) {
        assert!(Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap().success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

const CLUSTERED: [&str; 4] = ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"];

/// Three masters with a replica each.
pub fn cluster() -> Vec<Server> {
    cluster_with(&[], Vec::new)
}

/// The same, with more arguments for `redis-cli`, and for each server.
pub fn cluster_with(cli: &[&str], more: impl Fn() -> Vec<String>) -> Vec<Server> {
    let server = || {
        let more = more();
        let more: Vec<&str> = more.iter().map(String::as_str).collect();
        Server::start(&[&CLUSTERED[..], &["--repl-diskless-sync-delay", "0"], &more].concat())
    };
    let servers: Vec<Server> = (0..6).map(|_| server()).collect();
    let port = |server: &Server| server.tls_port().map_or_else(|| server.port.to_string(), str::to_owned);
    let addresses: Vec<String> = servers.iter().map(|server| format!("127.0.0.1:{}", port(server))).collect();
    let made = Command::new("redis-cli")
        .args(cli)
        .args(["--cluster", "create"])
        .args(&addresses)
        .args(["--cluster-replicas", "1", "--cluster-yes"])
        .output()
        .unwrap();
    let told = [made.stdout, made.stderr].concat();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&told));
    wait_until("the cluster", || servers.iter().all(|server| server.cli(&["CLUSTER", "INFO"]).contains("state:ok")));
    // A replica that has never had its master's data does not take its place.
    wait_until("the replicas", || {
        servers[3..].iter().all(|s| s.cli(&["INFO", "replication"]).contains("link_status:up"))
    });
    servers
}

/// A server, its replica, and three sentinels that watch them.
pub struct Sentinels {
    pub master: Server,
    pub replica: Server,
    sentinels: Vec<Child>,
    pub ports: Vec<u16>,
    directory: PathBuf,
}

impl Sentinels {
    pub const NAME: &str = "mymaster";

    pub fn start() -> Sentinels {
        Sentinels::with("", "")
    }

    /// The server and its replica ask for the one password, the sentinels for the other.
    pub fn with_passwords(servers: &str, sentinels: &str) -> Sentinels {
        Sentinels::with(servers, sentinels)
    }

    fn with(password: &str, sentinel_password: &str) -> Sentinels {
        let login = ["--requirepass", password, "--masterauth", password];
        let login = if password.is_empty() { &[] } else { &login[..] };
        let master = Server::start(login);
        let port = master.port.to_string();
        let follow = ["--replicaof", "127.0.0.1", &port, "--repl-diskless-sync-delay", "0"];
        let replica = Server::start(&[login, &follow].concat());
        let directory = std::env::temp_dir().join(format!("gateway-sentinels-{}-{}", std::process::id(), master.port));
        std::fs::create_dir_all(&directory).unwrap();
        let ports: Vec<u16> = (0..3).map(|_| free_port()).collect();
        let watch = |port: &u16| {
            let (file, name) = (directory.join(format!("{port}.conf")), Sentinels::NAME);
            let rules = format!(
                "port {port}\nbind 127.0.0.1\nsentinel monitor {name} 127.0.0.1 {} 2\n\
                 sentinel down-after-milliseconds {name} 500\nsentinel failover-timeout {name} 3000\n",
                master.port
            );
            let of = |word: &str, password: &str| match password {
                "" => String::new(),
                password => format!("{word} \"{password}\"\n"),
            };
            let rules = [
                rules,
                of(&format!("sentinel auth-pass {name}"), password),
                of("requirepass", sentinel_password),
                of("sentinel sentinel-pass", sentinel_password),
            ]
            .concat();
            std::fs::write(&file, rules).unwrap();
            let mut sentinel = Command::new("redis-server");
            sentinel.arg(&file).arg("--sentinel").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
        };
        let sentinels = ports.iter().map(watch).collect();
        let all = Sentinels { master, replica, sentinels, ports, directory };
        wait_until("the sentinels to know each other and the replica", || {
            all.ports.iter().all(|port| {
                let seen = ask(*port, sentinel_password, &["SENTINEL", "MASTER", Sentinels::NAME]);
                let fields: Vec<&str> = seen.lines().collect();
                let value = |name| fields.chunks(2).find(|field| field[0] == name).map(|field| field[1]);
                value("num-slaves") == Some("1") && value("num-other-sentinels") == Some("2")
            })
        });
        all
    }

    pub fn urls(&self) -> Vec<String> {
        self.ports.iter().map(|port| format!("redis://127.0.0.1:{port}")).collect()
    }
}

impl Drop for Sentinels {
    fn drop(&mut self) {
        for sentinel in &mut self.sentinels {
            let _ = sentinel.kill();
            let _ = sentinel.wait();
        }
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// What `redis-cli` prints for a command.
fn ask(port: u16, password: &str, command: &[&str]) -> String {
    let mut cli = Command::new("redis-cli");
    if !password.is_empty() {
        cli.args(["--no-auth-warning", "-a", password]);
    }
    let output = cli.args(["-c", "-p", &port.to_string()]).args(command).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// Looks until a condition holds.
#[track_caller]
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
