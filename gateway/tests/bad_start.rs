//! What cannot start says so in one clear line with the key, exits with 64, and leaves nothing half-started.

mod support;

use std::net::TcpListener;
use std::process::Output;

use gateway::config::Config;
use gateway::process::Gateway;
use support::venue::{match_frame, time_of};
use support::{Directory, environment, is_closed, program};

/// Asserts that the program ended with 64 and one line that has all the parts.
#[track_caller]
fn check(output: &Output, parts: &[&str]) {
    let error = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(64), "{error}");
    assert_eq!(error.lines().count(), 1, "one line: {error}");
    assert!(error.ends_with('\n') && error.starts_with("gateway: "), "{error}");
    for part in parts {
        assert!(error.contains(part), "{part} in {error}");
    }
    assert_eq!(String::from_utf8_lossy(&output.stdout), "", "nobody is greeted");
}

#[test]
fn a_wrong_configuration_is_named_by_its_key() {
    let files = Directory::new();
    let file = |text: &str| files.write("gateway.toml", text);
    let run = |text: &str| program::run(&[], &["--config", &file(text)]);
    check(&run("[session]\nheartbeet = \"5s\"\n"), &["gateway.toml", "session", "heartbeet"]);
    check(&run("[sesion]\n"), &["sesion"]);
    check(&run("[session]\nheartbeat = 5\n"), &["session.heartbeat"]);
    check(&run("[session]\nheartbeat = \"1ms\"\n"), &["session.heartbeat", "1ms"]);
    check(&run("[session\n"), &["gateway.toml", "line 1"]);
    check(&program::run(&[], &["--config", "/nonexistent/gateway.toml"]), &["/nonexistent/gateway.toml"]);
    check(
        &program::run(&[("server.listen", "somewhere")], &[]),
        &["GATEWAY_SERVER__LISTEN", "server.listen", "somewhere"],
    );
    check(&program::run(&[("server.listen", "127.0.0.1:99999")], &[]), &["server.listen", "127.0.0.1:99999"]);
    check(&program::run(&[("admin.listen", "nowhere:1")], &[]), &["admin.listen"]);
    check(&program::run(&[("server.lisen", "127.0.0.1:0")], &[]), &["server", "lisen"]);
    check(&program::run(&[("log.level", "loud=5=6")], &[]), &["log.level"]);
    check(&program::run(&[("feed.kind", "replay")], &[]), &["feed.replay.file"]);
    check(&program::run(&[("feed.kind", "coinbase"), ("feed.coinbase.url", "http://x")], &[]), &["feed.coinbase.url"]);
    // The demo users are for this machine alone.
    check(&program::run(&[("server.listen", "0.0.0.0:0")], &[]), &["entitlements.users", "0.0.0.0:0"]);
}

#[test]
fn a_wrong_users_file_or_key_is_named() {
    let files = Directory::new();
    let run = |users: &str| program::run(&[("entitlements.users", users)], &[]);
    check(&run("/nonexistent/users.toml"), &["entitlements.users", "/nonexistent/users.toml"]);
    check(&run(&files.write("empty.toml", "")), &["entitlements.users", "empty.toml", "users"]);
    let secret = "do-not-print-me";
    let wrong = format!(
        "[[users]]\nid = \"a\"\ntier = \"free\"\nstatus = \"active\"\ncategories = []\n[[users.keys]]\nid = \"K\"\nsecret_hash = \"{secret}\"\n"
    );
    let output = run(&files.write("wrong.toml", wrong));
    check(&output, &["entitlements.users", "users[0].keys[0].secret_hash"]);
    assert!(!String::from_utf8_lossy(&output.stderr).contains(secret));
    let short = files.write("short", "too short");
    let keys = format!(r#"[{{kid = "k", algorithm = "HS256", secret_file = "{short}"}}]"#);
    check(
        &program::run(&[("entitlements.token_keys", &keys)], &[]),
        &["entitlements.token_keys[0].secret_file", "32 bytes"],
    );
}

#[test]
fn what_is_wrong_about_the_store_is_named() {
    let files = Directory::new();
    const AT: &str = "entitlements.redis";
    let url = |scheme: &str| format!(r#"["{scheme}://127.0.0.1:1"]"#);
    let run = |scheme: &str, key: &str, value: &str| {
        program::run(&[(&format!("{AT}.urls"), &url(scheme)), (&format!("{AT}.{key}"), value)], &[])
    };
    let (rubbish, empty) = (files.write("rubbish.pem", "-----BEGIN CERTIFICATE-----\n!"), files.write("empty.pem", ""));
    let at = |key: &str| format!("{AT}.{key}");
    check(&run("redis", "ca_file", &rubbish), &[&at("ca_file"), "belongs to addresses with rediss://"]);
    check(&run("rediss", "ca_file", &rubbish), &[&at("ca_file"), "rubbish.pem"]);
    check(&run("rediss", "ca_file", &empty), &[&at("ca_file"), "empty.pem", "holds no certificate"]);
    check(&run("rediss", "ca_file", "/nonexistent"), &[&at("ca_file"), "/nonexistent"]);
    check(&run("rediss", "key_file", &empty), &[&at("certificate_file"), "belong together"]);
    check(&run("redis", "sentinel_password_file", &empty), &[&at("sentinel_password_file"), "sentinel"]);
    check(&run("redis", "master", "mymaster"), &[&at("master"), "belongs to mode"]);
    check(&run("redis", "password_file", "/nonexistent"), &[&at("password_file"), "/nonexistent"]);
    check(&program::run(&[(&at("urls"), &url("http"))], &[]), &[&at("urls"), "rediss://"]);
    let with_password = program::run(&[(&at("urls"), r#"["redis://:do-not-print-me@127.0.0.1:1"]"#)], &[]);
    check(&with_password, &[&at("urls"), "password_file"]);
    assert!(!String::from_utf8_lossy(&with_password.stderr).contains("do-not-print-me"));
}

#[test]
fn what_is_wrong_about_kafka_is_named() {
    let files = Directory::new();
    check(&program::run(&[("audit.to", "kafka")], &[]), &["audit.to", "kafka.brokers"]);
    let publishes = program::run(&[("kafka.publish_market_data", "true")], &[]);
    check(&publishes, &["kafka.publish_market_data", "kafka.brokers names none"]);
    let run = |key: &str, value: &str| {
        let brokers = ("kafka.brokers", r#"["127.0.0.1:1"]"#);
        program::run(&[("audit.to", "kafka"), brokers, (key, value)], &[])
    };
    check(&run("kafka.brokers", r#"["nowhere"]"#), &["kafka.brokers", "`nowhere`", "HOST:PORT"]);
    check(&run("kafka.ca_file", "/nonexistent"), &["kafka.ca_file", "sasl-tls"]);
    check(&run("kafka.topics.user_events", "a b"), &["kafka.topics.user_events", "no name of a topic"]);
    let login = [
        ("audit.to", "kafka"),
        ("kafka.brokers", r#"["127.0.0.1:1"]"#),
        ("kafka.security", "sasl"),
        ("kafka.username", "gateway"),
    ];
    check(&program::run(&login, &[]), &["kafka.password_file", "is missing"]);
    let empty = files.write("empty", "");
    let with_password = [&login[..], &[("kafka.password_file", &empty)]].concat();
    check(&program::run(&with_password, &[]), &["kafka.password_file", "is empty"]);
    let file = files.write("file", "");
    let spool = format!("{file}/spool");
    check(&run("kafka.spool", &spool), &["kafka.spool", &spool]);
}

#[test]
fn a_capture_that_is_missing_empty_or_cut_is_one_line() {
    let files = Directory::new();
    let run = |file: &str| program::run(&[], &["--replay", file, "--speed", "max"]);
    let frame = |id| match_frame("BTC-USD", id, "1.10", "0.5", id, &time_of(id)) + "\n";
    check(&run("/nonexistent/capture.ws.txt"), &["feed.replay.file", "/nonexistent/capture.ws.txt"]);
    check(&run(&files.write("empty", "")), &["feed.replay.file", "empty"]);
    check(&run(&files.write("blank", "\n\n\n")), &["feed.replay.file", "blank"]);
    let whole = frame(1) + &frame(2) + &frame(3);
    check(&run(&files.write("cut", &whole[..whole.len() - 40])), &["feed.replay.file", "cut", "line 3"]);
    check(&run(&files.write("binary", [0u8, 159, 146, 150, 10, 0, 1, 2])), &["feed.replay.file", "binary"]);
    check(&run(files.path().to_str().unwrap()), &["feed.replay.file"]);
    // The check beforehand says the same.
    let cut = files.write("cut", &whole[..whole.len() - 40]);
    let settings = [("feed.kind", "replay"), ("feed.replay.file", cut.as_str())];
    check(&program::run(&settings, &["check-config"]), &["feed.replay.file", "line 3"]);
}

#[test]
fn wrong_arguments_end_with_64_too() {
    for arguments in [&["fly"][..], &["--speed", "max"], &["--replay", "x", "--speed", "fast"], &["token"]] {
        let output = program::run(&[], arguments);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_port_in_use_is_named_and_nothing_stays_bound() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let in_use = taken.local_addr().unwrap().to_string();
    check(&program::run(&[("server.listen", &in_use)], &[]), &["server.listen", &in_use]);
    check(&program::run(&[("admin.listen", &in_use)], &[]), &["admin.listen", &in_use]);
    // In this process, where threads or sockets that are left over would show: the first address is free and
    // is bound before the second one fails.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let threads = || {
        std::fs::read_dir("/proc/self/task")
            .unwrap()
            .filter(|thread| {
                let name = std::fs::read_to_string(thread.as_ref().unwrap().path().join("comm")).unwrap_or_default();
                ["sequencer", "shard-", "admin"].iter().any(|ours| name.starts_with(ours))
            })
            .count()
    };
    for settings in [
        [("server.listen", format!(r#"["{free}", "{in_use}"]"#)), ("admin.listen", "[]".to_owned())],
        [("server.listen", free.to_string()), ("admin.listen", in_use.clone())],
    ] {
        let settings = settings.each_ref().map(|(key, value)| (*key, value.as_str()));
        let config = Config::load(None, environment(&settings), None).unwrap();
        let error = Gateway::start(&config, None).unwrap_err();
        assert!(error.to_string().contains(&in_use), "{error}");
        assert!(is_closed(free), "{free} stayed bound");
        assert_eq!(threads(), 0, "threads are left over");
    }
    // Another gateway's port is in use as well, though its shards share it among themselves.
    let running = program::spawn(&[("server.shards", "2")], &[]);
    let in_use = running.address.to_string();
    check(&program::run(&[("server.listen", &in_use), ("server.shards", "2")], &[]), &["server.listen", &in_use]);
}
