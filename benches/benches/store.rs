//! How many sign-ins and limit checks does a store of users bear in a second, and what do they take of a processor?
//!
//! The store in Redis, as the gateways of a fleet share it, beside the embedded one; with very many asked at a time, as by the
//! handshakes and sessions of a shard, and one after the other.
//!
//! - `check`: [`Store::take`] of a charge with two quotas, for 10,000 users by turns.
//! - `check, refused`: the same of one user who has nothing left, over an hour's quota: the script looks through it.
//! - `sign-in`: [`Door::sign_in`] with a token of one of 10,000 users, whose key is in memory.
//! - `sign-in, registered`: what the gateway does for a connection: the sign-in, the charge for it, the session registered.
//!
//! Not Criterion: the asking runs on one thread for a time, and what is printed is how many there were in a second and what they
//! took of the processor: of this process, the store's own thread included, and of Redis. A core bears as many in a second as
//! their processor time goes into it. Starts a `redis-server` of its own, and leaves its rows out where there is none.
//!
//! `cargo bench --package benches --bench store [-- FILTER]`

#[path = "../../entitlements/tests/support/redis.rs"]
mod server;

use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
// For its allocator.
use benches as _;
use entitlements::{
    Algorithm, Charge, Credentials, Door, Embedded, Meter, Quota, Redis, RedisLogin, RedisMode, RedisSettings,
    RedisTls, SessionRecord, Store, Subject, Tier, Tiers, TokenKey, TokenRules, Tokens, User, Users, parse_jwks,
};
use futures_util::future::join_all;
use serde_json::json;
use server::Server;

const USERS: usize = 10_000;
/// Asked at a time, where it is many: a shard's share of a storm of sign-ins.
const MANY: usize = 512;
const RUNS: usize = 3;
const RUN: Duration = Duration::from_secs(2);
const TOKEN_SECRET: [u8; 32] = [7; 32];

type Asking = Pin<Box<dyn Future<Output = ()>>>;

/// Everything that is asked with: the door of one store, and a token of each user by each algorithm.
struct Bench {
    door: Arc<Door>,
    now: i64,
    hs256: Vec<String>,
    es256: Vec<String>,
}

fn user(index: usize) -> Arc<str> {
    format!("user-{}", index % USERS).into()
}

fn address(index: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + (index % USERS) as u32))
}

impl Bench {
    fn new(store: Arc<dyn Store>) -> Bench {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs() as i64;
        let key = TokenKey::new("hs", Algorithm::HS256, &TOKEN_SECRET).expect("a strong key");
        let tokens = Tokens::new(vec![key], TokenRules::default()).expect("one key");
        let pkcs8 =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).expect("a key");
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref()).expect("the key");
        // An uncompressed point: a byte, x and y.
        let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
        let (x, y) = (BASE64_URL_SAFE_NO_PAD.encode(x), BASE64_URL_SAFE_NO_PAD.encode(y));
        let published = json!({"keys": [{"kty": "EC", "crv": "P-256", "kid": "es", "alg": "ES256", "x": x, "y": y}]});
        let (keys, _) = parse_jwks(published.to_string().as_bytes()).expect("a set of keys");
        tokens.set_fetched(keys);
        let hs256 = (0..USERS).map(|index| tokens.issue(&user(index), Duration::from_secs(3_600), now).expect("a key"));
        let signer = jsonwebtoken::EncodingKey::from_ec_der(pkcs8.as_ref());
        let mut header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::ES256);
        header.kid = Some("es".to_owned());
        let es256 = (0..USERS).map(|index| {
            let claims = json!({"sub": &*user(index), "iat": now, "exp": now + 3_600});
            jsonwebtoken::encode(&header, &claims, &signer).expect("a key")
        });
        let (hs256, es256) = (hs256.collect(), es256.collect());
        Bench { door: Arc::new(Door::new(store, tokens, Tiers::default())), now, hs256, es256 }
    }

    fn check(&self, index: usize) -> Asking {
        let quotas = vec![Quota::per_minute(1_000_000_000), Quota::per_hour(2_000_000_000)];
        let charge = Charge { subject: Subject::User(user(index)), meter: Meter::Command, quotas, cost: 1 };
        let verdict = self.door.store().take(charge);
        Box::pin(async move { assert!(verdict.await.allowed) })
    }

    fn refused(&self, _: usize) -> Asking {
        let quotas = vec![Quota::per_minute(1_000_000_000), Quota::per_hour(1)];
        let charge = Charge { subject: Subject::User("exhausted".into()), meter: Meter::Command, quotas, cost: 2 };
        let verdict = self.door.store().take(charge);
        Box::pin(async move { assert!(!verdict.await.allowed) })
    }

    fn sign_in(&self, tokens: &[String], index: usize) -> Asking {
        let (door, now, credentials) = (self.door.clone(), self.now, Credentials::Token(tokens[index % USERS].clone()));
        Box::pin(async move { assert!(door.sign_in(&credentials, address(index), now).await.is_ok()) })
    }

    fn registered(&self, index: usize) -> Asking {
        let (door, now) = (self.door.clone(), self.now);
        let credentials = Credentials::Token(self.hs256[index % USERS].clone());
        Box::pin(async move {
            let principal = door.sign_in(&credentials, address(index), now).await.expect("a user");
            let quotas = vec![Quota::per_minute(1_000_000_000), Quota::per_hour(2_000_000_000)];
            let subject = Subject::User(principal.user().clone());
            assert!(door.store().take(Charge { subject, meter: Meter::Connect, quotas, cost: 1 }).await.allowed);
            let session = SessionRecord {
                number: index as u64,
                user: principal.user().clone(),
                role: "premium",
                address: address(index),
                agent: "loadtest/0.1".into(),
                connections_max: 5_000,
                active_at: now,
            };
            assert!(door.store().open(session).await.is_ok());
        })
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// What one run came to.
#[derive(Clone, Copy, Debug)]
struct Measured {
    a_second: f64,
    /// Processor time of each, us.
    ours_us: f64,
    redis_us: f64,
}

/// Asks `in_flight` at a time for so long.
fn run(in_flight: usize, redis: Option<&Server>, ask: &Rc<dyn Fn(usize) -> Asking>) -> Measured {
    let runtime = runtime();
    let local = tokio::task::LocalSet::new();
    let (ours, its, begun) = (processor_time(), redis_time(redis), Instant::now());
    let askers = (0..in_flight).map(|first| {
        let ask = ask.clone();
        local.spawn_local(async move {
            let mut asked = 0;
            while begun.elapsed() < RUN {
                ask(first + asked * in_flight).await;
                asked += 1;
                if in_flight > 1 {
                    tokio::task::yield_now().await;
                }
            }
            asked
        })
    });
    let askers: Vec<_> = askers.collect();
    let asked: usize =
        local.block_on(&runtime, join_all(askers)).into_iter().map(|asked| asked.expect("an asker")).sum();
    let (count, seconds) = (asked as f64, begun.elapsed().as_secs_f64());
    let us = |time: Duration| time.as_secs_f64() * 1e6 / count;
    Measured { a_second: count / seconds, ours_us: us(processor_time() - ours), redis_us: us(redis_time(redis) - its) }
}

/// Of all threads of this process, as the scheduler has it.
fn processor_time() -> Duration {
    let tasks = std::fs::read_dir("/proc/self/task").expect("Linux");
    let ns = tasks.filter_map(|task| {
        let times = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        times.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(ns.sum())
}

fn redis_time(redis: Option<&Server>) -> Duration {
    let Some(redis) = redis else { return Duration::ZERO };
    let told = redis.cli(&["INFO", "cpu"]);
    let seconds = |name: &str| told.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
    let spent = seconds("used_cpu_sys:").zip(seconds("used_cpu_user:")).expect("a server that tells its time");
    Duration::from_secs_f64(spent.0 + spent.1)
}

/// A store with 10,000 users, and the server that keeps it.
fn in_redis() -> (Arc<Redis>, Server) {
    let server = Server::start(&[]);
    let settings = RedisSettings {
        urls: vec![server.url()],
        mode: RedisMode::Single,
        login: RedisLogin::default(),
        sentinel_login: RedisLogin::default(),
        tls: RedisTls::default(),
        timeout: Duration::from_secs(1),
        refresh: Duration::from_secs(2),
        lease: Duration::from_secs(15),
        grace: Duration::from_secs(300),
        hash_tags: true,
        node: "bench".to_owned(),
    };
    let store = Arc::new(Redis::start(settings).expect("a thread"));
    runtime().block_on(async {
        store.ready(Duration::from_secs(10)).await.expect("a server");
        for index in 0..USERS {
            let user = User { version: 1, ..User::new(&user(index), Tier::Premium) };
            store.put(&user).await.expect("a server");
        }
    });
    (store, server)
}

fn rows(name: &str, bench: &Rc<Bench>, redis: Option<&Server>, filter: &str) {
    type Ask = fn(&Bench, usize) -> Asking;
    let cases: [(&str, Ask); 5] = [
        ("check", Bench::check),
        ("check, refused", Bench::refused),
        ("sign-in, HS256", |bench, index| bench.sign_in(&bench.hs256, index)),
        ("sign-in, ES256", |bench, index| bench.sign_in(&bench.es256, index)),
        ("sign-in, registered", Bench::registered),
    ];
    // The exhausted user's only one of an hour.
    let quotas = vec![Quota::per_hour(1)];
    let charge = Charge { subject: Subject::User("exhausted".into()), meter: Meter::Command, quotas, cost: 1 };
    assert!(runtime().block_on(async { bench.door.store().take(charge).await }).allowed);
    for (case, ask) in cases {
        for in_flight in [MANY, 1] {
            let row = format!("{name}, {case}, {in_flight} at a time");
            if !row.contains(filter) {
                continue;
            }
            let bench = bench.clone();
            let ask: Rc<dyn Fn(usize) -> Asking> = Rc::new(move |index| ask(&bench, index));
            let runs = (0..RUNS).map(|_| run(in_flight, redis, &ask));
            let best = runs.max_by(|a, b| a.a_second.total_cmp(&b.a_second)).expect("some runs");
            println!("| {row} | {:.0} | {:.1} | {:.1} |", best.a_second, best.ours_us, best.redis_us);
        }
    }
}

fn main() {
    // `cargo bench` adds `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let filter = arguments.iter().find(|argument| !argument.starts_with("--")).map_or("", String::as_str);
    println!("| store, question | a second | processor, us each | Redis's, us each |\n|---|---:|---:|---:|");
    if server::is_here() {
        let (store, server) = in_redis();
        rows("Redis", &Rc::new(Bench::new(store)), Some(&server), filter);
    }
    let users = (0..USERS).map(|index| (User::new(&user(index), Tier::Premium), Vec::new()));
    rows("embedded", &Rc::new(Bench::new(Arc::new(Embedded::of(Users::of(users))))), None, filter);
}
