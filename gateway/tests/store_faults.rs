//! What becomes of connected clients when the store of their rights is paused, killed, emptied, slow, replaced or moved: they
//! stay, nobody gets what was not theirs, and afterwards everything is as it was.
//!
//! `GATEWAY_TEST_CLIENTS` says with how many clients, 200 without it.

mod support;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use support::redis::{Sentinels, Server, SlowLine, cluster, is_here};
use support::{Client, Directory, End, Running, fetch, start_from, wait_until};

const USERS: usize = 10;

/// Two gateways that share a store, and clients of some users on both.
struct Fleet {
    gateways: [Running; 2],
    clients: Vec<Client>,
    each: usize,
    _files: Directory,
}

fn user(number: usize) -> String {
    format!("user-{number}")
}

/// A record as the platform writes it.
fn record(tier: &str, status: &str, version: u64) -> String {
    json!({
        "tier": tier, "status": status, "version": version, "real_time_access": true,
        "signal_categories": ["crypto", "equity", "forex"],
    })
    .to_string()
}

fn key(user: &str) -> String {
    format!("entitlement:{{{user}}}")
}

/// A server that knows the users.
fn write_users(server: &Server) {
    for number in 0..USERS {
        server.cli(&["SET", &key(&user(number)), &record("premium", "active", 1)]);
    }
}

impl Fleet {
    /// `redis` are the lines of the configuration that say where the store is.
    fn start(redis: &str, server: &Server, settings: &[(&str, &str)]) -> Fleet {
        write_users(server);
        let files = Directory::new();
        let secret = files.write("token.secret", [7; 32]);
        let config = files.write(
            "gateway.toml",
            format!(
                "[[entitlements.token_keys]]\nkid = \"a\"\nalgorithm = \"HS256\"\nsecret_file = \"{secret}\"\n\
                 [entitlements.redis]\n{redis}\nrefresh = \"500ms\"\nlease = \"3s\"\n"
            ),
        );
        let settings = [&[("server.shards", "2")], settings].concat();
        let gateways = [(); 2].map(|()| start_from(Some(config.as_ref()), &settings));
        gateways.iter().for_each(|gateway| wait_until("the store to be there", || is_ready(gateway)));
        let asked = std::env::var("GATEWAY_TEST_CLIENTS").ok().and_then(|count| count.parse().ok());
        let each = asked.unwrap_or(200_usize).div_ceil(USERS);
        let mut fleet = Fleet { gateways, clients: Vec::new(), each, _files: files };
        for number in 0..USERS {
            let token = fleet.token(&user(number));
            fleet.sign_in(&token);
        }
        fleet.is_consistent(server);
        fleet
    }

    /// A user's clients, on both gateways. On a busy machine an answer of the store may come late: then they come back, as
    /// they are told to.
    fn sign_in(&mut self, token: &str) {
        for i in 0..self.each {
            let address = self.gateways[i % 2].address;
            let mut client = None;
            wait_until("a sign-in", || {
                client = let_in(address, token);
                client.is_some()
            });
            self.clients.extend(client);
        }
    }

    fn token(&self, user: &str) -> String {
        self.gateways[0].token(user, Duration::from_secs(3_600))
    }

    fn clients_of(&mut self, number: usize) -> &mut [Client] {
        &mut self.clients[number * self.each..][..self.each]
    }

    /// Every client is there, and answered.
    fn all_live(&mut self) {
        for client in &mut self.clients {
            client.send_frame(protocol::frame::Opcode::Ping, b"there?");
        }
        for client in &mut self.clients {
            assert_eq!(&*client.pong(), b"there?");
        }
    }

    fn is_away(&self) {
        for gateway in &self.gateways {
            wait_until("the store to be away", || !is_ready(gateway));
            let (_, why) = fetch(gateway.admin, "/readyz");
            assert!(why.contains(r#"{"check":"entitlements","reason":"the store is away for "#), "{why}");
            assert_eq!(gateway.metric("gateway_entitlement_store_up"), 0.0);
            assert!(gateway.metric("gateway_entitlement_store_outages_total") >= 1.0);
        }
    }

    /// The gateways are ready, and what the store says of the connections is true. Returns how long that took.
    fn is_consistent(&self, server: &Server) -> Duration {
        let since = Instant::now();
        wait_until("all connections to be registered, and no others", || {
            self.gateways.iter().all(is_ready)
                && server.cli(&["SCARD", "active_users"]).trim() == USERS.to_string()
                && (0..USERS).all(|number| {
                    let key = format!("websocket:connections:{{{}}}", user(number));
                    server.cli(&["SCARD", &key]).trim() == self.each.to_string()
                })
        });
        let took = since.elapsed();
        self.gateways.iter().for_each(|gateway| assert_eq!(gateway.metric("gateway_entitlement_store_up"), 1.0));
        println!("consistent after {took:?} with {} clients", self.clients.len());
        took
    }

    /// The first user's rights are taken by the platform, which announces nothing; they are its clients' soon, and nobody
    /// else's.
    fn downgrades(&mut self, server: &Server, version: u64) {
        server.cli(&["SET", &key(&user(0)), &record("premium", "cancelled", version)]);
        self.are_downgraded(version);
    }

    fn are_downgraded(&mut self, version: u64) {
        for client in self.clients_of(0) {
            let told = client.receive_of(&["entitlement"]);
            assert_eq!((told["tier"].as_str(), told.number("version")), (Some("free"), version), "{}", told.text);
        }
        self.all_live();
        let changed: f64 = self.gateways.iter().map(|g| g.metric("gateway_entitlement_changes_total")).sum();
        assert_eq!(changed, self.each as f64);
    }

    /// Whoever comes now is sent away, to come back later.
    fn lets_nobody_in(&self) {
        let token = self.token(&user(1));
        for gateway in &self.gateways {
            let refused = Client::upgrade(gateway.address, &format!("/stream?token={token}"), &[]).err().unwrap();
            assert!(refused.status == 503 && refused.body.contains("UNAVAILABLE"), "{refused:?}");
            let mut client = Client::open(gateway.address);
            let answer = client.request(&json!({"action": "auth", "token": token}).to_string());
            assert_eq!((answer.number("code"), answer["retry_after"].as_f64()), (503, Some(1.0)), "{}", answer.text);
            assert_eq!(client.drain().1, End::Closed(3003, "temporarily unavailable".to_owned()));
        }
    }
}

/// `None` where the client is told to come back.
fn let_in(address: SocketAddr, token: &str) -> Option<Client> {
    match Client::upgrade(address, &format!("/stream?token={token}"), &[]) {
        Ok(upgraded) => Some(upgraded.greeted()),
        Err(refused) => {
            assert_eq!(refused.status, 503, "{refused:?}");
            None
        }
    }
}

fn is_ready(gateway: &Running) -> bool {
    fetch(gateway.admin, "/readyz").0 == 200
}

fn single(port: u16) -> String {
    format!("urls = [\"redis://127.0.0.1:{port}\"]")
}

#[test]
fn paused() {
    if !is_here() {
        return;
    }
    let server = Server::start(&[]);
    let mut fleet = Fleet::start(&single(server.port), &server, &[]);
    server.signal("-STOP");
    fleet.is_away();
    fleet.lets_nobody_in();
    // Those who are in may ask on, and what they may not have they do not get.
    let client = &mut fleet.clients[0];
    client.subscribe(r#"{"action":"subscribe","trades":["*"]}"#);
    assert_eq!(client.request(r#"{"action":"subscribe","signals":["@bonds"]}"#).kind(), "error");
    client.request(r#"{"action":"unsubscribe","trades":["*"]}"#);
    assert!(fleet.gateways[0].metric("gateway_limits_decided_alone_total") >= 3.0);
    assert!(fleet.gateways[0].metric("gateway_entitlement_store_failures_total{reason=\"late\"}") >= 1.0);
    fleet.all_live();
    server.signal("-CONT");
    fleet.is_consistent(&server);
    fleet.downgrades(&server, 2);
}

#[test]
fn killed_and_started_again_with_what_it_held() {
    if !is_here() {
        return;
    }
    let mut server = Server::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let mut fleet = Fleet::start(&single(server.port), &server, &[]);
    server.kill();
    fleet.is_away();
    fleet.lets_nobody_in();
    fleet.all_live();
    // Who goes while it is away does not stay in it.
    let gone = fleet.clients.split_off(fleet.each * (USERS - 1));
    gone.into_iter().for_each(|client| drop(client.close()));
    server.start_again();
    let left = format!("websocket:connections:{{{}}}", user(USERS - 1));
    wait_until("those who have gone to be taken back", || server.cli(&["EXISTS", &left]).trim() == "0");
    let token = fleet.token(&user(USERS - 1));
    fleet.sign_in(&token);
    fleet.is_consistent(&server);
    fleet.downgrades(&server, 2);
}

#[test]
fn killed_and_started_again_with_nothing() {
    if !is_here() {
        return;
    }
    let mut server = Server::start(&[]);
    let mut fleet = Fleet::start(&single(server.port), &server, &[]);
    server.kill();
    fleet.is_away();
    server.start_again();
    fleet.is_consistent(&server);
    // Whom the store does not know cannot sign in; whom the gateway has, it keeps.
    let refused = Client::upgrade(fleet.gateways[0].address, &format!("/stream?token={}", fleet.token("user-1")), &[]);
    assert_eq!(refused.err().unwrap().status, 401);
    fleet.all_live();
    write_users(&server);
    fleet.downgrades(&server, 2);
}

#[test]
fn flushed() {
    if !is_here() {
        return;
    }
    let server = Server::start(&[]);
    let mut fleet = Fleet::start(&single(server.port), &server, &[]);
    // None that a client has signed in with: those of one second are alike.
    let denied = fleet.gateways[0].token(&user(2), Duration::from_secs(60));
    server.cli(&["HSET", "ip_blocklist", "127.0.0.9", "abuse"]);
    server.cli(&["SET", &format!("jwt_blacklist:{}", entitlements::TokenHash::of(&denied)), "1"]);
    let path = format!("/stream?token={denied}");
    for gateway in &fleet.gateways {
        assert_eq!(Client::upgrade(gateway.address, &path, &[]).err().unwrap().status, 401);
        wait_until("the block", || is_blocked(gateway));
    }
    // All that it let in is still to be counted.
    let quota = fleet.clients[0].subscribe(r#"{"action":"subscribe","trades":["BTC/USD"]}"#);
    assert_eq!(quota.kind(), "subscription");
    server.cli(&["FLUSHALL"]);
    fleet.is_consistent(&server);
    fleet.all_live();
    write_users(&server);
    for gateway in &fleet.gateways {
        assert_eq!(Client::upgrade(gateway.address, &path, &[]).err().unwrap().status, 401);
        assert!(is_blocked(gateway));
    }
    fleet.downgrades(&server, 2);
    assert!(fleet.gateways.iter().all(is_blocked));
}

/// Whether a connection from the address that the test blocks is refused.
fn is_blocked(gateway: &Running) -> bool {
    use std::io::Write;
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&"127.0.0.9:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    socket.connect(&gateway.address.into()).unwrap();
    let mut stream: std::net::TcpStream = socket.into();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").unwrap();
    support::rest(&mut stream).contains("IP_BLOCKED")
}

#[test]
fn slow() {
    if !is_here() {
        return;
    }
    let server = Server::start(&[]);
    let line = SlowLine::to(server.port);
    let mut fleet = Fleet::start(&single(line.port), &server, &[("entitlements.sign_ins.fail", "open")]);
    line.set_delay(Duration::from_millis(200));
    fleet.is_away();
    // Known users come in with what they had; a stranger comes in and gets nothing.
    let known = fleet.token(&user(1));
    let stranger = fleet.gateways[0].token("stranger", Duration::from_secs(60));
    for gateway in &fleet.gateways {
        let client = Client::with_token(gateway.address, &known);
        assert_eq!(client.session["tier"], "premium");
        let mut client = Client::with_token(gateway.address, &stranger);
        assert_eq!(client.session["tier"], "free");
        let answer = client.request(r#"{"action":"subscribe","trades":["BTC/USD"]}"#);
        assert_eq!(answer.kind(), "error", "{}", answer.text);
    }
    server.cli(&["SET", &key(&user(0)), &record("premium", "cancelled", 2)]);
    fleet.all_live();
    line.set_delay(Duration::ZERO);
    fleet.is_consistent(&server);
    fleet.are_downgraded(2);
}

#[test]
fn failed_over() {
    if !is_here() {
        return;
    }
    let mut servers = Sentinels::start();
    let urls: Vec<String> = servers.urls().iter().map(|url| format!("\"{url}\"")).collect();
    let store = format!("urls = [{}]\nmode = \"sentinel\"\nmaster = \"{}\"", urls.join(", "), Sentinels::NAME);
    let mut fleet = Fleet::start(&store, &servers.master, &[]);
    servers.master.kill();
    fleet.is_away();
    fleet.all_live();
    wait_until("the replica to be the master", || servers.replica.cli(&["ROLE"]).starts_with("master"));
    fleet.is_consistent(&servers.replica);
    fleet.downgrades(&servers.replica, 2);
}

#[test]
fn moved_within_a_cluster() {
    if !is_here() {
        return;
    }
    let servers = cluster();
    let urls: Vec<String> = servers.iter().take(3).map(|server| format!("\"{}\"", server.url())).collect();
    let store = format!("urls = [{}]\nmode = \"cluster\"\ntimeout = \"100ms\"", urls.join(", "));
    let mut fleet = Fleet::start(&store, &servers[0], &[]);
    // All that the first of the masters has goes to the others, while clients come and go.
    let myself = servers[0].cli(&["CLUSTER", "MYID"]).trim().to_owned();
    let other = servers[1].cli(&["CLUSTER", "MYID"]).trim().to_owned();
    let tokens: Vec<String> = (0..USERS).map(|number| fleet.token(&user(number))).collect();
    let (moved, came_in, sent_away) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let addresses = fleet.gateways.each_ref().map(|gateway| gateway.address);
    std::thread::scope(|scope| {
        for (token, address) in tokens.iter().zip(addresses.into_iter().cycle()) {
            let (moved, came_in, sent_away) = (&moved, &came_in, &sent_away);
            scope.spawn(move || {
                while !moved.load(Ordering::Relaxed) {
                    match let_in(address, token) {
                        Some(client) => {
                            client.close();
                            came_in.fetch_add(1, Ordering::Relaxed);
                        }
                        None => _ = sent_away.fetch_add(1, Ordering::Relaxed),
                    }
                }
            });
        }
        let slots = "5461";
        let resharded = std::process::Command::new("redis-cli")
            .args(["--cluster", "reshard", &format!("127.0.0.1:{}", servers[0].port), "--cluster-from", &myself])
            .args(["--cluster-to", &other, "--cluster-slots", slots, "--cluster-yes"])
            .output()
            .unwrap();
        moved.store(true, Ordering::Relaxed);
        assert!(resharded.status.success(), "{}", String::from_utf8_lossy(&resharded.stderr));
    });
    let (came_in, sent_away) = (came_in.into_inner(), sent_away.into_inner());
    println!("{came_in} clients came in meanwhile, {sent_away} were told to come back");
    assert!(came_in >= USERS);
    fleet.all_live();
    fleet.is_consistent(&servers[0]);
    fleet.downgrades(&servers[0], 2);
}

#[test]
fn a_master_of_a_cluster_is_killed() {
    if !is_here() {
        return;
    }
    let mut servers = cluster();
    let urls: Vec<String> = servers.iter().map(|server| format!("\"{}\"", server.url())).collect();
    let store = format!("urls = [{}]\nmode = \"cluster\"\ntimeout = \"100ms\"", urls.join(", "));
    let mut fleet = Fleet::start(&store, &servers[1], &[]);
    servers[0].kill();
    wait_until("its replica to take its place", || {
        let nodes = servers[1].cli(&["CLUSTER", "NODES"]);
        let masters = nodes.lines().filter(|line| line.contains("master"));
        let (failed, serving): (Vec<&str>, Vec<&str>) = masters.partition(|line| line.contains("fail"));
        (failed.len(), serving.len()) == (1, 3)
    });
    fleet.all_live();
    fleet.is_consistent(&servers[1]);
    fleet.downgrades(&servers[1], 2);
}
