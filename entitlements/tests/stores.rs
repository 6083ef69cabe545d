//! What every store promises, against the embedded one, a server of Redis and a cluster of six; and what becomes of a store that
//! is paused, flushed, or used by a node that died.

#![cfg(feature = "redis")]

#[path = "support/redis.rs"]
mod support;
#[path = "support/tls.rs"]
mod tls;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use entitlements::{
    Answer, ApiKeyRecord, Categories, Change, ChangeError, Charge, Credential, Embedded, Health, LiveSession, Meter,
    Quota, RECORD_VERSION_MAX, Redis, RedisLogin, RedisMode, RedisSettings, RedisTls, Roster, SessionRecord, Status,
    Store, Subject, Tier, TokenHash, TokenHashes, User, Users, parse_network,
};
use futures_util::future::join_all;
use serde_json::Value;
use support::{Sentinels, Server, cluster, is_here, wait_until};
use tls::Authority;

/// The sessions that a test says there are, and what it was told.
#[derive(Default)]
struct Sessions {
    live: Mutex<Vec<LiveSession>>,
    told: Mutex<Vec<Change>>,
}

impl Roster for Sessions {
    fn users(&self) -> Vec<Arc<str>> {
        self.live.lock().unwrap().iter().map(|session| session.user.clone()).collect()
    }

    fn sessions(&self) -> Answer<Vec<LiveSession>> {
        Box::pin(std::future::ready(self.live.lock().unwrap().clone()))
    }

    fn apply(&self, changes: Vec<Change>) {
        self.told.lock().unwrap().extend(changes);
    }
}

impl Sessions {
    fn with(sessions: &[(u64, &str)]) -> Arc<Sessions> {
        let live = |(number, user): &(u64, &str)| LiveSession {
            number: *number,
            user: (*user).into(),
            role: "premium",
            address: "192.0.2.1".parse().unwrap(),
            active_at: 1,
            credential: None,
        };
        Arc::new(Sessions { live: Mutex::new(sessions.iter().map(live).collect()), told: Mutex::default() })
    }

    fn has_heard(&self, of: impl Fn(&Change) -> bool) -> bool {
        self.told.lock().unwrap().iter().any(of)
    }
}

static NODES: AtomicU32 = AtomicU32::new(0);

fn settings(urls: Vec<String>, mode: RedisMode) -> RedisSettings {
    RedisSettings {
        urls,
        mode,
        login: RedisLogin::default(),
        sentinel_login: RedisLogin::default(),
        tls: RedisTls::default(),
        // A loaded machine of two cores runs six servers and the tests.
        timeout: Duration::from_millis(500),
        refresh: Duration::from_millis(200),
        lease: Duration::from_secs(2),
        grace: Duration::from_secs(300),
        hash_tags: true,
        node: format!("node{}", NODES.fetch_add(1, Ordering::Relaxed)),
    }
}

fn login(username: &str, password: &str) -> RedisLogin {
    RedisLogin { username: Some(username.to_owned()), password: Some(password.to_owned()) }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn start(settings: RedisSettings) -> Arc<Redis> {
    let redis = Redis::start(settings).unwrap();
    block_on(redis.ready(support::PATIENCE)).unwrap();
    Arc::new(redis)
}

fn single(server: &Server) -> Arc<Redis> {
    start(settings(vec![server.url()], RedisMode::Single))
}

fn record(number: u64, user: &str, connections_max: u32) -> SessionRecord {
    SessionRecord {
        number,
        user: user.into(),
        role: "premium",
        address: "192.0.2.1".parse().unwrap(),
        agent: "test".into(),
        connections_max,
        active_at: 1,
    }
}

/// What holds for one store, or for two that share what they hold.
fn suite(stores: &[Arc<dyn Store>]) {
    let charge = |user: &str, limit, cost| Charge {
        subject: Subject::User(user.into()),
        meter: Meter::Command,
        quotas: vec![Quota::per_minute(limit), Quota::per_hour(1_000)],
        cost,
    };
    // From everywhere at the same time: never one more than the limit, never one too few.
    let allowed: usize = std::thread::scope(|scope| {
        let hammer = |store: &Arc<dyn Store>| {
            let asked = (0..150).map(|_| store.take(charge("hammered", 100, 1)));
            block_on(join_all(asked)).into_iter().filter(|verdict| verdict.allowed).count()
        };
        let threads: Vec<_> = stores.iter().map(|store| scope.spawn(move || hammer(store))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(allowed, 100);
    let refused = block_on(stores[0].take(charge("hammered", 100, 0)));
    assert_eq!((refused.allowed, refused.remaining, refused.quota), (false, 0, Quota::per_minute(100)));
    let (minute, bucket) = (Duration::from_secs(60), Duration::from_secs(1));
    assert!(refused.retry_after > Duration::from_secs(40) && refused.retry_after <= minute + bucket, "{refused:?}");
    assert!(refused.resets_in >= refused.retry_after && refused.resets_in <= minute + bucket, "{refused:?}");
    let first = block_on(stores[0].take(charge("other", 100, 3)));
    assert_eq!((first.allowed, first.remaining, first.quota.limit), (true, 97, 100));
    assert!(block_on(stores[0].take(charge("all or nothing", 5, 5))).allowed);
    assert!(!block_on(stores[0].take(charge("all or nothing", 5, 1))).allowed);
    // Ids that could be more than ids are nobody.
    for id in ["", "a b", "{x}", "x}y{", "jos\u{e9}", "a\r\nFLUSHALL", &"x".repeat(200)] {
        let found = block_on(stores[0].user(&id.into(), None)).unwrap();
        assert_eq!((found.user, found.token_denied), (None, false), "{id:?}");
        assert_eq!(block_on(stores[0].api_key(id)), Ok(None), "{id:?}");
    }
    assert_eq!(stores[0].health(), Health::Up);
}

#[test]
fn the_embedded_store() {
    suite(&[Arc::new(Embedded::of(Users::default()))]);
}

#[test]
fn one_server() {
    if !is_here() {
        return;
    }
    let server = Server::start(&[]);
    let (one, two) = (single(&server), single(&server));
    suite(&[one.clone(), two.clone()]);
    shared(&server, &one, &two);
}

/// The rights that the page of this crate names, and no others, on a server without the commands that the platform renames away.
#[test]
fn one_server_with_a_user_of_few_rights() {
    if !is_here() {
        return;
    }
    let server = Server::start(&["--rename-command", "CONFIG", "", "--rename-command", "DEBUG", ""]);
    let page = include_str!("../README.md");
    let rules = page.lines().find_map(|line| line.strip_prefix("ACL SETUSER gateway on >PASSWORD ")).unwrap();
    let told: Vec<&str> =
        ["ACL", "SETUSER", "gateway", "on", ">few rights"].into_iter().chain(rules.split(' ')).collect();
    assert_eq!(server.cli(&told).trim(), "OK");
    let settings =
        || RedisSettings { login: login("gateway", "few rights"), ..settings(vec![server.url()], RedisMode::Single) };
    let (one, two) = (start(settings()), start(settings()));
    suite(&[one.clone(), two.clone()]);
    shared(&server, &one, &two);
    let denied = server.cli(&["ACL", "LOG"]);
    assert_eq!(denied.trim(), "", "{denied}");
}

/// An authority of its own, which vouches for the server and for the gateways.
#[test]
fn over_tls() {
    if !is_here() {
        return;
    }
    let (authority, stranger) = (Authority::new(), Authority::new());
    let server = authority.server();
    let of = |authority: &Authority| RedisSettings {
        tls: RedisTls { authorities: Some(authority.certificate()), identity: Some(authority.identity()) },
        ..settings(vec![server.tls_url()], RedisMode::Single)
    };
    let (one, two) = (start(of(&authority)), start(of(&authority)));
    suite(&[one.clone(), two.clone()]);
    shared(&server, &one, &two);
    // Whom the authority does not know, or who does not know it, is not talked to.
    let error = trouble(of(&stranger));
    assert!(error.contains("certificate"), "{error}");
    let nobody = RedisTls { identity: None, ..of(&authority).tls };
    let error = trouble(RedisSettings { tls: nobody, ..of(&authority) });
    assert!(error.to_lowercase().contains("certificate"), "{error}");
}

#[test]
fn a_cluster_over_tls() {
    if !is_here() {
        return;
    }
    let authority = Authority::new();
    let servers = authority.cluster();
    let of = || RedisSettings {
        tls: RedisTls { authorities: Some(authority.certificate()), identity: Some(authority.identity()) },
        ..settings(servers.iter().take(2).map(Server::tls_url).collect(), RedisMode::Cluster)
    };
    let (one, two) = (start(of()), start(of()));
    suite(&[one.clone(), two.clone()]);
    shared(&servers[0], &one, &two);
}

/// Sentinels and server with passwords of their own.
#[test]
fn sentinels_with_passwords() {
    if !is_here() {
        return;
    }
    let sentinels = Sentinels::with_passwords("the server's", "the sentinels'");
    let mode = RedisMode::Sentinel { master: Sentinels::NAME.to_owned() };
    let of = |server: &str, sentinel: &str| RedisSettings {
        login: RedisLogin { username: None, password: Some(server.to_owned()) },
        sentinel_login: RedisLogin { username: None, password: Some(sentinel.to_owned()) },
        ..settings(sentinels.urls(), mode.clone())
    };
    suite(&[start(of("the server's", "the sentinels'"))]);
    for (server, sentinel) in [("the server's", "another"), ("another", "the sentinels'")] {
        let error = trouble(of(server, sentinel));
        assert!(!error.contains("another"), "{error}");
    }
}

#[test]
fn a_cluster() {
    if !is_here() {
        return;
    }
    let servers = cluster();
    let urls = || servers.iter().take(2).map(Server::url).collect();
    let (one, two) = (start(settings(urls(), RedisMode::Cluster)), start(settings(urls(), RedisMode::Cluster)));
    suite(&[one.clone(), two.clone()]);
    shared(&servers[0], &one, &two);
}

/// What two nodes have together.
fn shared(server: &Server, one: &Arc<Redis>, two: &Arc<Redis>) {
    // Connections, on both nodes together.
    let opened = |store: &Arc<Redis>, first: u64| {
        let asked = (first..first + 20).map(|number| store.open(record(number, "many", 7)));
        block_on(join_all(asked)).into_iter().filter(Result::is_ok).count()
    };
    let total = std::thread::scope(|scope| {
        let (a, b) = (scope.spawn(|| opened(one, 1)), scope.spawn(|| opened(two, 1)));
        a.join().unwrap() + b.join().unwrap()
    });
    assert_eq!(total, 7);
    assert_eq!(server.cli(&["SCARD", "websocket:connections:{many}"]).trim(), "7");
    assert_eq!(server.cli(&["SISMEMBER", "active_users", "many"]).trim(), "1");
    for number in 1..=20 {
        one.close(number, &"many".into());
        two.close(number, &"many".into());
    }
    wait_until("the connections to be given back", || {
        server.cli(&["EXISTS", "websocket:connections:{many}"]).trim() == "0"
            && server.cli(&["SISMEMBER", "active_users", "many"]).trim() == "0"
    });

    // Records: written by one node or by the platform, heard of by the other, and never undone by an older one.
    let sessions = Sessions::with(&[(99, "alice"), (98, "bob"), (97, "carol")]);
    for (number, user) in [(99, "alice"), (98, "bob"), (97, "carol")] {
        assert_eq!(block_on(two.open(record(number, user, 5))), Ok(()));
    }
    two.attach(&(sessions.clone() as Arc<dyn Roster>));
    let alice = |tier, version| User { version, ..User::new("alice", tier) };
    assert_eq!(block_on(one.put(&alice(Tier::Premium, 7))), Ok(true));
    assert_eq!(block_on(one.put(&alice(Tier::Free, 6))), Ok(false));
    wait_until("the change to be heard", || sessions.has_heard(|c| *c == Change::User(alice(Tier::Premium, 7))));
    let found = block_on(one.user(&"alice".into(), None)).unwrap();
    assert_eq!(found.user, Some(alice(Tier::Premium, 7)));
    let none = Categories::NONE;
    server.cli(&["SET", "entitlement:{bob}", r#"{"tier":"free","status":"paused"}"#]);
    let bob = User { status: Status::Paused, categories: none, ..User::new("bob", Tier::Free) };
    wait_until("what nobody announced", || sessions.has_heard(|c| *c == Change::User(bob.clone())));
    server.cli(&["HSET", "entitlement:{carol}", "tier", "enterprise", "status", "active", "version", "3"]);
    server.cli(&["PUBLISH", "entitlement:changes", "carol"]);
    let carol = User { version: 3, categories: none, ..User::new("carol", Tier::Enterprise) };
    wait_until("a hash", || sessions.has_heard(|c| *c == Change::User(carol.clone())));
    sessions.told.lock().unwrap().clear();
    server.cli(&["DEL", "entitlement:{carol}"]);
    wait_until("a user to be gone", || sessions.has_heard(|c| *c == Change::Gone("carol".into())));

    // Tokens and addresses.
    let (token, shown) = (TokenHash::of("a.b.c"), TokenHashes::of("a.b.c"));
    assert!(!block_on(one.user(&"alice".into(), Some(shown))).unwrap().token_denied);
    block_on(one.deny(&token, Duration::from_secs(60))).unwrap();
    assert!(block_on(two.user(&"alice".into(), Some(shown))).unwrap().token_denied);
    wait_until("the token to be denied", || sessions.has_heard(|c| *c == Change::Token(token)));
    // Keys: one that is taken out, one that is put in another's place, and one that nobody announces.
    let key = |text: &str| ApiKeyRecord::from_json(text.as_bytes()).unwrap();
    let hash = |digit: &str| format!("sha256:{}:{}", digit.repeat(32), digit.repeat(64));
    let old = key(&format!(r#"{{"user_id":"alice","secret_hash":"{}"}}"#, hash("a")));
    let new = key(&format!(r#"{{"user_id":"alice","secret_hash":"{}"}}"#, hash("b")));
    let told = |prefix: &str, now: Option<&ApiKeyRecord>| {
        sessions.has_heard(|c| *c == Change::Key(prefix.into(), now.map(ApiKeyRecord::version)))
    };
    for prefix in ["AK1", "AK2", "AK3"] {
        block_on(one.put_key(prefix, &old)).unwrap();
        assert_eq!(block_on(two.api_key(prefix)), Ok(Some(old.clone())));
    }
    assert_eq!((block_on(one.remove_key("AK1")), block_on(one.remove_key("AK1"))), (Ok(true), Ok(false)));
    block_on(one.put_key("AK2", &new)).unwrap();
    wait_until("keys to be others", || told("AK1", None) && told("AK2", Some(&new)));
    sessions.live.lock().unwrap()[0].credential =
        Some(Credential::Key { prefix: "AK3".into(), version: old.version() });
    server.cli(&["DEL", "api_key:AK3"]);
    wait_until("a key to be gone", || told("AK3", None));
    block_on(one.block(parse_network("192.0.2.0/24").unwrap(), "abuse")).unwrap();
    let blocked = |store: &Arc<Redis>| store.blocks().reason("192.0.2.9".parse().unwrap()).map(str::to_owned);
    wait_until("the block", || blocked(two).as_deref() == Some("abuse") && blocked(one).as_deref() == Some("abuse"));
    assert_eq!(block_on(one.unblock(parse_network("192.0.2.0/24").unwrap())), Ok(true));
    wait_until("the block to be over", || blocked(two).is_none());
    // As the platform may have written it.
    server.cli(&["HSET", "ip_blocklist", "192.0.2.9", "by hand"]);
    wait_until("the block", || blocked(two).as_deref() == Some("by hand"));
    assert_eq!(block_on(one.unblock(parse_network("192.0.2.9").unwrap())), Ok(true));
    assert_eq!(block_on(one.unblock(parse_network("192.0.2.9").unwrap())), Ok(false));
    wait_until("the block to be over", || blocked(two).is_none());
    changes(server, one, two);
}

type Changed = Result<User, Box<dyn std::error::Error>>;

fn with_channels(before: Option<&User>, channels: u32) -> Changed {
    Ok(User { channels: Some(channels), ..before.cloned().unwrap_or_else(|| User::new("dora", Tier::Free)) })
}

/// Records that are read and put again.
fn changes(server: &Server, one: &Arc<Redis>, two: &Arc<Redis>) {
    let (dora, key) = (&Arc::<str>::from("dora"), "entitlement:{dora}");
    let change = |version, channels| -> Changed {
        block_on(one.change(dora, version, |before| with_channels(before, channels)))
    };
    assert_eq!(change(None, 1).unwrap().version, 1);
    assert_eq!(change(Some(7), 2).unwrap().version, 7);
    let error = |changed: Changed| *changed.unwrap_err().downcast::<ChangeError>().unwrap();
    assert_eq!(error(change(Some(7), 3)), ChangeError::Outdated { version: 7, there: 7 });
    let beyond = RECORD_VERSION_MAX + 1;
    assert_eq!(error(change(Some(beyond), 3)), ChangeError::Version { version: beyond });
    // What others have put into it stays, and so does its end.
    server.cli(&["SET", key, r#"{"tier":"premium","status":"active","version":8,"plan":{"since":2020}}"#, "EX", "600"]);
    assert_eq!(change(None, 4).unwrap().tier, Tier::Premium);
    let kept = server.cli(&["GET", key]);
    assert!(kept.contains(r#""plan":{"since":2020}"#) && kept.contains(r#""version":9"#), "{kept}");
    assert!(server.cli(&["TTL", key]).trim().parse::<i64>().unwrap() > 0);
    // And so does a hash, but for what changes.
    server.cli(&["DEL", key]);
    server.cli(&[
        "HSET",
        key,
        "tier",
        "premium",
        "status",
        "active",
        "signal_categories",
        r#"["crypto"]"#,
        "plan",
        "gold",
    ]);
    assert_eq!(change(None, 5).unwrap().version, 1);
    let field = |name: &str| server.cli(&["HGET", key, name]).trim().to_owned();
    assert_eq!(
        ["signal_categories", "plan", "max_channels", "version"].map(field),
        [r#"["crypto"]"#, "gold", "5", "1"]
    );
    // Somebody's own field changes together with the rest, or nothing does.
    let count = |before: Option<&User>, own: Option<&Value>| {
        let count = own.and_then(Value::as_u64).unwrap_or(0) + 1;
        let user = with_channels(before, 5)?;
        Ok::<_, Box<dyn std::error::Error>>((count < 3).then(|| (user, Value::from(count))))
    };
    let version = || block_on(one.change_with(dora, "count", count)).unwrap().map(|user| user.version);
    assert_eq!([version(), version(), version()], [Some(2), Some(3), None]);
    assert_eq!(["count", "plan", "version"].map(field), ["2", "gold", "3"]);
    server.cli(&["SET", key, r#"{"tier":"premium","status":"active","version":3,"plan":"gold","max_channels":5}"#]);
    assert_eq!([version(), version(), version()], [Some(4), Some(5), None]);
    let kept = server.cli(&["GET", key]);
    assert!(
        kept.contains(r#""plan":"gold""#) && kept.contains(r#""count":2"#) && kept.contains(r#""version":5"#),
        "{kept}"
    );
    // Others come in between: each change is made, and none is undone.
    let (before, changers) = (block_on(one.record(dora)).unwrap().unwrap().version, 8);
    std::thread::scope(|scope| {
        for number in 0..changers {
            let store = if number % 2 == 0 { one } else { two };
            scope.spawn(move || {
                let more = |before: Option<&User>| with_channels(before, before.unwrap().channels.unwrap() + 1);
                block_on(store.change(dora, None, more)).unwrap();
            });
        }
    });
    let after = block_on(one.record(dora)).unwrap().unwrap();
    assert_eq!((after.version, after.channels), (before + u64::from(changers), Some(5 + changers)));
    // Whichever version is asked for, what came in between is not undone.
    for (version, expected) in [(None, after.version + 2), (Some(99), 99)] {
        let calls = AtomicU32::new(0);
        let late = |before: Option<&User>| -> Changed {
            if calls.fetch_add(1, Ordering::Relaxed) == 0 {
                let faster = User { real_time: Some(true), ..before.cloned().unwrap() };
                let faster = User { version: faster.version + 1, ..faster };
                // On a thread of its own: this one is within a runtime.
                let put = two.put(&faster);
                assert_eq!(std::thread::scope(|scope| scope.spawn(|| block_on(put)).join().unwrap()), Ok(true));
            }
            with_channels(before, 77)
        };
        let changed = block_on(one.change(dora, version, late)).unwrap();
        assert_eq!((changed.version, changed.real_time, changed.channels), (expected, Some(true), Some(77)));
        server.cli(&["DEL", key]);
        block_on(one.put(&User { real_time: None, ..after.clone() })).unwrap();
    }
    // A record that cannot be understood is not changed.
    server.cli(&["SET", "entitlement:{dora}", "{}"]);
    assert!(change(None, 6).is_err_and(|error| error.to_string().contains("entitlement:{dora}: tier: ")));
}

/// What an attempt to connect fails of.
fn trouble(settings: RedisSettings) -> String {
    let redis = Redis::start(settings).unwrap();
    wait_until("an attempt to connect", || redis.trouble().is_some());
    redis.trouble().unwrap()
}

#[test]
fn what_failed_can_be_told() {
    if !is_here() {
        return;
    }
    let server = Server::start(&[]);
    server.cli(&["CONFIG", "SET", "requirepass", "a password"]);
    let of = |password: Option<&str>, url: String| {
        let login = RedisLogin { username: None, password: password.map(str::to_owned) };
        trouble(RedisSettings { login, ..settings(vec![url], RedisMode::Single) })
    };
    assert!(of(None, server.url()).contains("NOAUTH"));
    let wrong = of(Some("another one"), server.url());
    assert!(wrong.contains("authentication failed") && !wrong.contains("another"), "{wrong}");
    assert!(of(None, "redis://127.0.0.1:1".to_owned()).contains("refused"));
}

#[test]
fn a_paused_server_is_away_and_comes_back_with_everything() {
    if !is_here() {
        return;
    }
    let server = Server::start(&[]);
    let store =
        start(RedisSettings { timeout: Duration::from_millis(50), ..settings(vec![server.url()], RedisMode::Single) });
    let sessions = Sessions::with(&[(1, "alice")]);
    store.attach(&(sessions.clone() as Arc<dyn Roster>));
    block_on(store.put(&User { version: 1, ..User::new("alice", Tier::Premium) })).unwrap();
    // As at her sign-in.
    assert!(block_on(store.user(&"alice".into(), None)).unwrap().user.is_some());
    server.signal("-STOP");
    wait_until("the store to be away", || store.health() != Health::Up);
    let begun = Instant::now();
    assert!(block_on(store.user(&"alice".into(), None)).is_err());
    assert!(begun.elapsed() < Duration::from_millis(50), "nobody waits for a store that is away");
    assert_eq!(store.remembered_user("alice").map(|user| user.tier), Some(Tier::Premium));
    // This node alone counts, and lets connections in.
    let charge = Charge {
        subject: Subject::User("alice".into()),
        meter: Meter::Command,
        quotas: vec![Quota::per_minute(2)],
        cost: 1,
    };
    let verdicts: Vec<bool> = (0..3).map(|_| block_on(store.take(charge.clone())).allowed).collect();
    assert_eq!(verdicts, [true, true, false]);
    assert_eq!(block_on(store.open(record(2, "alice", 1))), Ok(()));
    let first = sessions.live.lock().unwrap()[0].clone();
    sessions.live.lock().unwrap().push(LiveSession { number: 2, ..first });
    server.signal("-CONT");
    wait_until("the store to be back", || store.health() == Health::Up);
    wait_until("both sessions to be registered", || {
        server.cli(&["SCARD", "websocket:connections:{alice}"]).trim() == "2"
    });
    assert!(!sessions.has_heard(|change| matches!(change, Change::Gone(_))));
}

#[test]
fn a_flushed_server_costs_nobody_the_session_and_gets_it_back() {
    if !is_here() {
        return;
    }
    let server = Server::start(&[]);
    let store = single(&server);
    let sessions = Sessions::with(&[(1, "alice"), (2, "bob")]);
    store.attach(&(sessions.clone() as Arc<dyn Roster>));
    block_on(store.put(&User { version: 1, ..User::new("alice", Tier::Premium) })).unwrap();
    assert_eq!(block_on(store.open(record(1, "alice", 5))), Ok(()));
    wait_until("alice to be heard of", || {
        sessions.has_heard(|c| matches!(c, Change::User(user) if &*user.id == "alice"))
    });
    sessions.told.lock().unwrap().clear();
    server.cli(&["FLUSHALL"]);
    wait_until("the sessions to be registered anew", || {
        server.cli(&["SCARD", "websocket:connections:{alice}"]).trim() == "1"
            && server.cli(&["SCARD", "active_users"]).trim() == "2"
    });
    assert!(!sessions.has_heard(|c| matches!(c, Change::Gone(user) if &**user == "alice")));
    block_on(store.put(&User { version: 2, ..User::new("alice", Tier::Free) })).unwrap();
    wait_until("what is written again", || {
        sessions.has_heard(|c| matches!(c, Change::User(user) if user.version == 2))
    });
}

#[test]
fn the_sessions_of_a_node_that_died_are_taken_back() {
    if !is_here() {
        return;
    }
    let server = Server::start(&[]);
    let survivor = single(&server);
    // As a node leaves it that was killed: registered, and its lease runs out.
    server.cli(&["ZADD", "gateway:nodes", "1", "dead"]);
    server.cli(&["HSET", "gateway:sessions:dead", "dead-1", "alice"]);
    server.cli(&["SADD", "websocket:connections:{alice}", "dead-1"]);
    server.cli(&["SADD", "active_users", "alice"]);
    server.cli(&["HSET", "session:dead-1", "user_id", "alice"]);
    wait_until("the dead node's session to be gone", || {
        server.cli(&["EXISTS", "websocket:connections:{alice}", "session:dead-1", "gateway:sessions:dead"]).trim()
            == "0"
            && server.cli(&["SCARD", "active_users"]).trim() == "0"
            && server.cli(&["ZCARD", "gateway:nodes"]).trim() == "1"
    });
    drop(survivor);
    assert_eq!(server.cli(&["EXISTS", "gateway:nodes"]).trim(), "0");
}
