//! What operators do to entitlements in Redis by the gateway's own commands, each run as a program of its own: records change and
//! live clients with them, keys and tokens open the door, and what cannot be done says why.

mod support;

use std::process::Output;

use serde_json::{Value, json};
use support::redis::{Server, is_here};
use support::{Client, Directory, End, Running, fetch, program, start_from, wait_until};

/// A server of Redis, and a configuration that names it.
struct Operator {
    server: Server,
    files: Directory,
    config: String,
}

impl Operator {
    /// `None` where there is no Redis on this machine.
    fn new() -> Option<Operator> {
        if !is_here() {
            return None;
        }
        let (server, files) = (Server::start(&[]), Directory::new());
        let secret = files.write("token.secret", [7; 32]);
        let hash_key = files.write("hash.key", [9; 32]);
        let text = format!(
            "[entitlements]\nhash_key_file = \"{hash_key}\"\n\
             [[entitlements.token_keys]]\nkid = \"a\"\nalgorithm = \"HS256\"\nsecret_file = \"{secret}\"\n\
             [entitlements.redis]\nurls = [\"{}\"]\n",
            server.url()
        );
        let config = files.write("gateway.toml", text);
        Some(Operator { server, files, config })
    }

    fn run(&self, arguments: &[&str], input: &str) -> Output {
        program::run_with(&[], &[arguments, &["--config", &self.config]].concat(), input)
    }

    /// What `gateway entitlement ...` prints.
    #[track_caller]
    fn entitlement(&self, arguments: &[&str]) -> String {
        printed(&self.run(&[&["entitlement"], arguments].concat(), ""))
    }

    #[track_caller]
    fn record(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.entitlement(arguments)).unwrap()
    }

    /// Asserts that it ends with 1 and one line that has all the parts.
    #[track_caller]
    fn fails(&self, arguments: &[&str], parts: &[&str]) {
        fails(&self.run(&[&["entitlement"], arguments].concat(), ""), 1, parts);
    }

    /// A gateway that has found the store.
    fn gateway(&self) -> Running {
        let settings = [("server.shards", "2"), ("feed.simulator.rate", "300"), ("entitlements.redis.timeout", "2s")];
        let gateway = start_from(Some(self.config.as_ref()), &settings);
        wait_until("the store to be there", || fetch(gateway.admin, "/readyz").0 == 200);
        gateway
    }

    /// A new API key of a user.
    #[track_caller]
    fn key(&self, arguments: &[&str]) -> [String; 2] {
        let text = printed(&self.run(&[&["key"], arguments].concat(), ""));
        ["key ", "secret "].map(|name| shown(&text, name))
    }

    #[track_caller]
    fn token(&self, user: &str) -> String {
        printed(&self.run(&["token", "--user", user], "")).trim_end().to_owned()
    }
}

#[track_caller]
fn printed(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[track_caller]
fn fails(output: &Output, code: i32, parts: &[&str]) -> String {
    let error = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(code), "{error}");
    assert_eq!((error.lines().count(), String::from_utf8_lossy(&output.stdout).as_ref()), (1, ""), "{error}");
    assert!(error.starts_with("gateway: "), "{error}");
    for part in parts {
        assert!(error.contains(part), "{part} in {error}");
    }
    error
}

#[track_caller]
fn shown(text: &str, name: &str) -> String {
    text.lines()
        .find_map(|line| line.strip_prefix(name))
        .unwrap_or_else(|| panic!("no {name}in {text}"))
        .trim()
        .to_owned()
}

fn refused(client: &mut Client, key: &[String; 2]) -> u64 {
    let answer = client.request(&json!({"action": "auth", "key": key[0], "secret": key[1]}).to_string());
    assert_eq!(answer.kind(), "error", "{}", answer.text);
    answer.number("code")
}

#[test]
fn a_record_is_set_shown_and_set_again() {
    let Some(operator) = Operator::new() else { return };
    operator.fails(&["show", "alice"], &["there is no record of alice"]);
    operator.fails(&["set", "alice", "--status", "active"], &["there is no record of alice", "--tier"]);
    operator.fails(&["revoke", "alice"], &["there is no record of alice"]);
    let made = operator.entitlement(&["set", "alice", "--tier", "premium", "--categories", "forex,crypto"]);
    let expected = r#"{
  "signal_categories": [
    "forex",
    "crypto"
  ],
  "status": "active",
  "tier": "premium",
  "user_id": "alice",
  "version": 1
}
"#;
    assert_eq!((made.as_str(), operator.entitlement(&["show", "alice"]).as_str()), (expected, expected));
    let limits = ["--max-connections", "3", "--max-channels", "40", "--max-signals-per-day", "500"];
    operator.record(&[&["set", "alice", "--real-time", "false"], &limits[..]].concat());
    let expected = json!({
        "user_id": "alice", "tier": "premium", "status": "active", "signal_categories": ["forex", "crypto"], "version": 2,
        "real_time_access": false, "max_connections": 3, "max_channels": 40, "max_signals_per_day": 500,
    });
    assert_eq!(operator.record(&["show", "alice"]), expected);
    // Back to the tier's, one by one; what is not given stays.
    let record = operator.record(&["set", "alice", "--max-channels", "tier", "--categories", "", "--status", "paused"]);
    let told = ["max_channels", "max_connections", "signal_categories", "status", "version"].map(|key| &record[key]);
    assert_eq!(told, [&Value::Null, &json!(3), &json!([]), &json!("paused"), &json!(3)]);
    // Versions go up, by themselves or as they are given.
    assert_eq!(operator.record(&["set", "alice", "--tier", "free", "--version", "9"])["version"], 9);
    operator.fails(&["set", "alice", "--tier", "premium", "--version", "9"], &["version 9", "than version 9, "]);
    operator.fails(&["set", "alice", "--tier", "premium", "--version", "4"], &["version 4", "than version 9, "]);
    assert_eq!(operator.record(&["show", "alice"])["tier"], "free");
    assert_eq!(operator.record(&["set", "alice"])["version"], 10);
    // A record that cannot be understood is named, and left alone.
    operator.server.cli(&["SET", "entitlement:{bob}", r#"{"tier":"gold"}"#]);
    for arguments in [&["show", "bob"][..], &["set", "bob", "--tier", "free"], &["block", "bob"]] {
        operator.fails(arguments, &["entitlement:{bob}: tier: expected one of free"]);
    }
    assert_eq!(operator.server.cli(&["GET", "entitlement:{bob}"]).trim(), r#"{"tier":"gold"}"#);
}

#[test]
fn blocks_do_not_loosen_what_they_are_not_for() {
    let Some(operator) = Operator::new() else { return };
    operator.record(&["set", "alice", "--tier", "premium"]);
    assert_eq!(operator.record(&["revoke", "alice"])["status"], "cancelled");
    operator.fails(&["unblock", "alice"], &["alice is not blocked", "cancelled"]);
    assert_eq!(operator.record(&["block", "alice"])["status"], "blocked");
    operator.fails(&["revoke", "alice"], &["alice is blocked"]);
    let record = operator.record(&["unblock", "alice"]);
    assert_eq!((&record["status"], &record["version"]), (&json!("active"), &json!(4)));
    operator.fails(&["unblock", "--address", "192.0.2.0/24"], &["192.0.2.0/24 is not on the list"]);
    operator.fails(&["unblock", "bob"], &["there is no record of bob"]);
}

#[test]
fn changes_at_the_same_time_are_all_made() {
    let Some(operator) = Operator::new() else { return };
    operator.record(&["set", "alice", "--tier", "free"]);
    let changes = [
        ["--tier", "premium"],
        ["--categories", "crypto"],
        ["--real-time", "true"],
        ["--max-connections", "3"],
        ["--max-channels", "40"],
        ["--max-signals-per-day", "500"],
    ];
    std::thread::scope(|scope| {
        for change in changes {
            let operator = &operator;
            scope.spawn(move || operator.record(&[&["set", "alice"], &change[..]].concat()));
        }
    });
    let expected = json!({
        "user_id": "alice", "tier": "premium", "status": "active", "signal_categories": ["crypto"], "version": 7,
        "real_time_access": true, "max_connections": 3, "max_channels": 40, "max_signals_per_day": 500,
    });
    assert_eq!(operator.record(&["show", "alice"]), expected);
}

/// The next message about a change of rights: tier, status, delay.
#[track_caller]
fn told(client: &mut Client) -> [Value; 3] {
    let told = client.receive_of(&["entitlement"]);
    ["tier", "status", "delayed_ms"].map(|key| told[key].clone())
}

#[test]
fn a_live_client_feels_every_command() {
    let Some(operator) = Operator::new() else { return };
    operator.record(&["set", "alice", "--tier", "free", "--categories", "crypto,forex,equity"]);
    operator.record(&["set", "bob", "--tier", "premium", "--categories", "crypto"]);
    let (key, token, bobs) = (operator.key(&["--user", "alice"]), operator.token("alice"), operator.token("bob"));
    let gateway = operator.gateway();
    let mut bob = Client::with_token(gateway.address, &bobs);
    let sign_in = || {
        let mut client = Client::open(gateway.address);
        client.authenticate(&key[0], &key[1]);
        client
    };
    let mut client = sign_in();
    assert_eq!((&client.session["user"], &client.session["tier"]), (&json!("alice"), &json!("free")));
    client.subscribe(r#"{"action":"subscribe","trades":["BTC/USD"]}"#);
    // Up, so that live trades come.
    operator.record(&["set", "alice", "--tier", "premium"]);
    assert_eq!(told(&mut client), [json!("premium"), json!("active"), json!(0)]);
    client.subscribe(r#"{"action":"subscribe","updatedBars":["*"]}"#);
    client.receive_many(&["t"], 3);
    // Down, to delayed data, and without what is not the free tier's.
    operator.record(&["revoke", "alice"]);
    assert_eq!(told(&mut client)[..2], [json!("free"), json!("cancelled")]);
    assert_eq!(client.receive_of(&["subscription"])["updatedBars"], json!([]));
    // Cut: by user, by token, by address.
    operator.record(&["block", "alice"]);
    assert_eq!(client.drain().1, End::Closed(3504, "revoked".to_owned()));
    assert_eq!(refused(&mut Client::open(gateway.address), &key), 402);
    operator.record(&["unblock", "alice"]);
    let (mut by_key, mut by_token) = (sign_in(), Client::with_token(gateway.address, &token));
    let denied = printed(&operator.run(&["entitlement", "deny-token"], &format!("{token}\n")));
    assert!(denied.starts_with("denied for 3") && !denied.contains(&token), "{denied}");
    assert_eq!(by_token.drain().1, End::Closed(3504, "revoked".to_owned()));
    assert_eq!(Client::upgrade(gateway.address, &format!("/stream?token={token}"), &[]).err().unwrap().status, 401);
    by_key.subscribe(r#"{"action":"subscribe","trades":["BTC/USD"]}"#);
    operator.entitlement(&["block", "--address", "127.0.0.0/8", "--reason", "a test"]);
    assert_eq!(operator.server.cli(&["HGETALL", "ip_blocklist"]), "127.0.0.0/8\na test\n");
    for client in [&mut by_key, &mut bob] {
        assert_eq!(client.drain().1, End::Closed(3505, "address blocked".to_owned()));
    }
    assert_eq!(Client::upgrade(gateway.address, "/stream", &[]).err().unwrap().status, 403);
    operator.entitlement(&["unblock", "--address", "127.0.0.0/8"]);
    wait_until("the block to be over", || Client::upgrade(gateway.address, "/stream", &[]).is_ok());
    // By the key, and by no other of the user's.
    let other = operator.key(&["--user", "alice"]);
    let (mut by_key, mut by_other) = (sign_in(), Client::open(gateway.address));
    by_other.authenticate(&other[0], &other[1]);
    assert_eq!(operator.run(&["entitlement", "revoke-key", &key[0]], "").status.code(), Some(0));
    assert_eq!(by_key.drain().1, End::Closed(3504, "revoked".to_owned()));
    assert_eq!(refused(&mut Client::open(gateway.address), &key), 402);
    by_other.subscribe(r#"{"action":"subscribe","trades":["BTC/USD"]}"#);
    fails(&operator.run(&["entitlement", "revoke-key", &key[0]], ""), 1, &["there is no API key AK"]);
    let whole = operator.run(&["entitlement", "revoke-key", &key.join(".")], "");
    assert_eq!(whole.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&whole.stderr).contains("without its secret"));
    // By its hash, too.
    let mut bob = Client::with_token(gateway.address, &bobs);
    let hash = entitlements::TokenHash::of(&bobs).to_string();
    operator.entitlement(&["deny-token", "--hash", &hash, "--ttl", "1h"]);
    assert_eq!(bob.drain().1, End::Closed(3504, "revoked".to_owned()));
}

#[test]
fn a_key_in_redis_opens_what_it_is_for_as_long_as_it_is_for() {
    let Some(operator) = Operator::new() else { return };
    fails(&operator.run(&["key", "--user", "alice"], ""), 1, &["there is no record of alice"]);
    assert_eq!(operator.server.cli(&["KEYS", "api_key:*"]).trim(), "", "no key without a user");
    operator.record(&["set", "alice", "--tier", "premium", "--categories", "crypto"]);
    let key = operator.key(&["--user", "alice", "--scopes", "trades,bars", "--ttl", "90d"]);
    let kept = operator.server.cli(&["GET", &format!("api_key:{}", key[0])]);
    let kept: Value = serde_json::from_str(&kept).unwrap();
    assert!(kept["secret_hash"].as_str().unwrap().starts_with("hmac-sha256:"), "hashed under the key: {kept}");
    assert!(!kept.to_string().contains(&key[1]), "{kept}");
    let gateway = operator.gateway();
    let mut client = Client::open(gateway.address);
    client.authenticate(&key[0], &key[1]);
    client.subscribe(r#"{"action":"subscribe","trades":["BTC/USD"],"bars":["BTC/USD"]}"#);
    assert_eq!(client.request(r#"{"action":"subscribe","quotes":["BTC/USD"]}"#).kind(), "error");
    let days = (kept["expires_at"].as_i64().unwrap() - gateway::door::unix_seconds()) as f64 / 86_400.0;
    assert!((89.9..=90.0).contains(&days), "{days}");
    let other = [key[0].clone(), "0".repeat(64)];
    assert_eq!(refused(&mut Client::open(gateway.address), &other), 402);
}

#[test]
fn without_a_store_keys_are_lines_and_records_are_edited() {
    let text = printed(&program::run(&[], &["key", "--user", "alice"]));
    let lines: Vec<&str> = text.lines().collect();
    let (id, secret) = (shown(&text, "# key "), shown(&text, "# secret "));
    let expected = [
        "# The API key of alice. The secret is shown here and nowhere else.",
        &format!("# key     {id}"),
        &format!("# secret  {secret}"),
        "# For the users file, below the [[users]] of alice:",
        "[[users.keys]]",
        &format!("id = \"{id}\""),
    ];
    assert_eq!((&lines[..6], lines.len()), (&expected[..], 7));
    assert!(lines[6].starts_with("secret_hash = \"sha256:"), "{text}");
    let files = Directory::new();
    let users = files.write("users.toml", "[[users]]\nid = \"alice\"\ntier = \"free\"\n");
    for arguments in [
        &["show", "alice"][..],
        &["set", "alice", "--tier", "free"],
        &["revoke", "alice"],
        &["block", "alice"],
        &["unblock", "--address", "192.0.2.7"],
        &["deny-token"],
    ] {
        let arguments = [&["entitlement"], arguments].concat();
        let output = program::run(&[("entitlements.users", &users)], &arguments);
        fails(&output, 64, &["entitlements.redis.urls", &users, "edit", "SIGHUP"]);
        fails(&program::run(&[], &arguments), 64, &["entitlements.redis.urls", "users file", "SIGHUP"]);
    }
}

#[test]
fn wrong_arguments_are_named() {
    let long = "x".repeat(129);
    for user in ["", "a b", "{alice}", "jos\u{e9}", &long] {
        for arguments in [&["entitlement", "show", user][..], &["key", "--user", user], &["token", "--user", user]] {
            let output = program::run(&[], arguments);
            let error = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(64), "{error}");
            let named = ["128 visible ASCII characters without braces", "a value is required"];
            assert!(named.iter().any(|part| error.contains(part)), "{error}");
        }
    }
    // A token among the arguments would be there for all to see.
    assert_eq!(program::run(&[], &["entitlement", "deny-token", "a.b.c"]).status.code(), Some(64));
}

#[test]
fn a_store_that_cannot_be_asked_says_why() {
    let Some(operator) = Operator::new() else { return };
    operator.record(&["set", "alice", "--tier", "free"]);
    let (password, wrong) = ("correct horse battery staple", "incorrect-pony-battery-staple");
    operator.server.cli(&["CONFIG", "SET", "requirepass", password]);
    let all = [&["entitlement", "show", "alice"][..], &["key", "--user", "alice"], &["token", "--user", "alice"]];
    let away = |settings: &[(&str, &str)], cause: &str| {
        std::thread::scope(|scope| {
            for arguments in all {
                let arguments = [arguments, &["--config", &operator.config]].concat();
                scope.spawn(move || {
                    let error =
                        fails(&program::run(settings, &arguments), 1, &["redis://127.0.0.1:", "is away", cause]);
                    assert!(!error.contains(password) && !error.contains(wrong), "{error}");
                });
            }
        });
    };
    away(&[], "NOAUTH");
    let file = operator.files.write("wrong", wrong);
    away(&[("entitlements.redis.password_file", &file)], "authentication failed");
    away(&[("entitlements.redis.urls", "[\"redis://127.0.0.1:1\"]")], "refused");
    let file = operator.files.write("right", password);
    let right = [("entitlements.redis.password_file", file.as_str())];
    for arguments in all {
        printed(&program::run(&right, &[arguments, &["--config", &operator.config]].concat()));
    }
    // Somebody without the rights for it learns which are missing.
    let rules = ["ACL", "SETUSER", "reader", "on", "nopass", "~*", "&*", "+@all", "-set", "-@write"];
    let set = std::process::Command::new("redis-cli")
        .args(["-p", &operator.server.port.to_string(), "-a", password, "--no-auth-warning"])
        .args(rules)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&set.stdout).trim(), "OK");
    let reader = [right[0], ("entitlements.redis.username", "reader")];
    let arguments = ["entitlement", "show", "alice", "--config", &operator.config];
    fails(&program::run(&reader, &arguments), 1, &["is away", "no permissions", "zadd"]);
}
