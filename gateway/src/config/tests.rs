//! What a configuration file, the environment and the command line may say, and what is said about the rest.

use super::*;

fn check_load(toml: &str, environment: &[(&str, &str)], replay: Option<&ReplayOptions>) -> Result<Config, ConfigError> {
    let environment = environment.iter().map(|(name, value)| (name.to_string(), value.to_string()));
    if toml.is_empty() {
        return Config::load(None, environment, replay);
    }
    let file = File::new(toml);
    Config::load(Some(&file.0), environment, replay)
}

/// A file in the temporary directory that goes away with this.
struct File(PathBuf);

impl File {
    fn new(text: &str) -> File {
        use std::sync::atomic::{AtomicU32, Ordering};
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("gateway-config-{}-{}.toml", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, text).unwrap();
        File(path)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Loading fails with one line that holds all `parts`.
#[track_caller]
fn check_refused(toml: &str, environment: &[(&str, &str)], parts: &[&str]) {
    let error = check_load(toml, environment, None).expect_err(toml);
    let line = error.to_string();
    assert_eq!(line.lines().count(), 1, "{line}");
    for part in parts {
        assert!(line.contains(part), "no `{part}` in: {line}");
    }
}

#[test]
fn bad_values_name_their_key() {
    let check = |toml: &str, parts: &[&str]| check_refused(toml, &[], parts);
    check("[server]\nlisten = [\"localhost:8080\"]", &["server.listen", "`localhost:8080`", "IP:PORT"]);
    check("[server]\nlisten = [\"127.0.0.1\"]", &["server.listen", "IP:PORT"]);
    check("[server]\nlisten = []", &["server.listen", "at least one"]);
    check("[server.tls]\nlisten = [\"127.0.0.1:1\"]\nkey_file = \"k\"", &["server.tls.certificate_file", "missing"]);
    check(
        "[server.tls]\nlisten = [\"127.0.0.1:1\"]\ncertificate_file = \"c\"",
        &["server.tls.key_file: is missing", "server.tls.listen"],
    );
    check("[server.tls]\nkey_file = \"k\"", &["server.tls.key_file", "of no use", "server.tls.listen"]);
    check("[server.tls]\nlisten = [\"localhost:1\"]", &["server.tls.listen", "`localhost:1`", "IP:PORT"]);
    check("[server.tls]\ncert = \"c\"", &["server.tls.cert", "unknown field"]);
    let files = "certificate_file = \"c\"\nkey_file = \"k\"";
    check(&format!("[server.tls]\nlisten = [\"127.0.0.1:8080\"]\n{files}"), &["server.tls.listen", "twice"]);
    check(
        &format!("[server.tls]\nlisten = [\"0.0.0.0:1\"]\n{files}"),
        &["entitlements.users", "server.tls.listen has 0.0.0.0:1", "loopback"],
    );
    check("[server]\nlisten = 8080", &["server.listen", "list of addresses"]);
    check("[server]\nlisten = [\"127.0.0.1:80\", \"127.0.0.1:80\"]", &["server.listen", "twice"]);
    check("[admin]\nlisten = [\"127.0.0.1:8080\"]", &["admin.listen", "twice"]);
    check("[server]\nlisten = [\"0.0.0.0:8080\"]", &["entitlements.users", "0.0.0.0:8080", "loopback"]);
    check("[server]\nshard = 2", &["server.shard: ", "unknown field", "`shards`"]);
    check("[servers]\nshards = 2", &["servers: ", "unknown field"]);
    check("[server]\nshards = -1", &["server.shards"]);
    check("[server]\nshards = 1000", &["server.shards", "not between 0 and 256"]);
    check("[server]\npin = \"always\"", &["server.pin", "`always`", "`auto`"]);
    check("[server]\nhandshake_timeout = 10", &["server.handshake_timeout", "duration"]);
    check("[server]\nhandshake_timeout = \"10\"", &["server.handshake_timeout", "`10` is no duration"]);
    check("[server]\nauth_timeout = \"0s\"", &["server.auth_timeout", "0s is not between 100ms and 1h"]);
    check("[server]\nmessage_bytes_max = \"64KB\"", &["server.message_bytes_max", "`64KB` is no size"]);
    check("[server]\nmessage_bytes_max = \"1B\"", &["server.message_bytes_max", "1B is not between 1KiB and 16MiB"]);
    check("[server]\nsuspicious_agents = [\"\"]", &["server.suspicious_agents", "1 to 256 bytes"]);
    check("[server]\norigins = [\"app.example.com\"]", &["server.origins", "`app.example.com` is no origin"]);
    check("[server]\norigins = [\"https://app.example.com/\"]", &["server.origins", "no origin"]);
    check("[server]\ntrusted_proxies = [\"proxy\"]", &["server.trusted_proxies", "`proxy` is no address or network"]);
    check("[server]\nproxy_protocol = \"v1\"", &["server.proxy_protocol", "`v1`", "`v2`"]);
    check("[server]\nproxy_protocol = \"v2\"", &["server.proxy_protocol", "server.trusted_proxies is empty"]);
    check("[session]\nslow_consumer = \"drop\"", &["session.slow_consumer", "`drop`"]);
    check("[session]\nrequests_burst = 10", &["session.requests_burst", "session.requests_per_second"]);
    check("[fanout]\nretain_bytes = \"1MiB\"\nsegment_bytes_max = \"1MiB\"", &["fanout.retain_bytes", "twice"]);
    check("[fanout]\ninstruments_max = 9999999", &["fanout.instruments_max"]);
    check("[sequencer]\nwait = \"sleep\"", &["sequencer.wait", "`park`"]);
    check("[sequencer]\ndelay = \"25h\"", &["sequencer.delay"]);
    check("[feed]\nkind = \"kraken\"", &["feed.kind", "`kraken`"]);
    check("[feed]\nkind = \"replay\"", &["feed.replay.file", "missing"]);
    check("[feed]\nkind = \"coinbase\"\n[feed.coinbase]\nproducts = []", &["feed.coinbase.products", "empty"]);
    check("[feed.coinbase]\nproducts = [\"btc-usd\"]", &["feed.coinbase.products", "`btc-usd`"]);
    check("[feed.coinbase]\nurl = \"https://x.y\"", &["feed.coinbase.url", "ws://"]);
    check("[feed.coinbase]\nurl = \"ws://u:secret@[x\"", &["feed.coinbase.url", "***@"]);
    check("[feed.replay]\nspeed = \"fast\"", &["feed.replay.speed", "max"]);
    check("[feed.replay]\nspeed = 0", &["feed.replay.speed"]);
    check("[feed.simulator]\nsymbols = \"BTC/USD\"", &["feed.simulator.symbols", "list of symbols"]);
    check("[feed.simulator]\nsymbols = [\"BTC/USD\", \"BTC/USD\"]", &["feed.simulator.symbols", "twice"]);
    check("[feed.simulator]\nsymbols = [\"BTC-USD\"]", &["feed.simulator.symbols", "`BTC-USD` is no pair"]);
    check("[feed.simulator]\nsymbols = 0", &["feed.simulator.symbols"]);
    check("[feed.simulator]\nsymbols = 20000", &["feed.simulator.symbols", "16384"]);
    check(
        "[fanout]\ninstruments_max = 9\n[feed]\nkind = \"simulator\"",
        &["feed.simulator.symbols", "instruments_max"],
    );
    check("[feed.simulator]\nrate = nan", &["feed.simulator.rate"]);
    check("[feed.simulator]\nrate = 0", &["feed.simulator.rate"]);
    check("[feed.simulator]\ntrade_share = 1.5", &["feed.simulator.trade_share"]);
    check("[feed.simulator.bursts]\nlength = \"11s\"", &["feed.simulator.bursts.length"]);
    check("[entitlements]\nleeway = \"1500ms\"", &["entitlements.leeway", "whole seconds"]);
    check("[entitlements.tiers.gold]\nchannels = 1", &["entitlements.tiers.gold", "unknown field"]);
    check("[entitlements.tiers.free]\nchannels = 0", &["entitlements.tiers", "free.channels"]);
    check("[entitlements.tiers.free]\nkinds = [\"news\"]", &["entitlements.tiers.free.kinds", "news"]);
    check("[[entitlements.token_keys]]\nkid = \"a\"\nalgorithm = \"none\"", &["entitlements.token_keys[0].algorithm"]);
    check(
        "[[entitlements.token_keys]]\nkid = \"a\"\nalgorithm = \"HS256\"",
        &["entitlements.token_keys[0].secret_file", "missing"],
    );
    check(
        "[[entitlements.token_keys]]\nkid = \"a\"\nalgorithm = \"ES256\"\npublic_key_file = \"p\"\nsecret_file = \"s\"",
        &["entitlements.token_keys[0].secret_file", "does not belong"],
    );
    check("[log]\nlevel = \"loud\"", &["log.level", "`loud`"]);
    check("[drain]\nspread = \"1m\"", &["drain.spread", "drain.timeout"]);
}

#[test]
fn what_is_no_toml_names_file_and_line() {
    let file = File::new("[server]\nlisten = [\n\n[oops");
    let error = Config::load(Some(&file.0), [], None).unwrap_err().to_string();
    assert!(error.starts_with(&format!("{}: line ", file.0.display())), "{error}");
    assert_eq!(error.lines().count(), 1);
    let error = Config::load(Some(Path::new("/nonexistent/g.toml")), [], None).unwrap_err().to_string();
    assert!(error.starts_with("/nonexistent/g.toml: cannot be read"), "{error}");
}

#[test]
fn all_problems_are_told_at_once() {
    let toml = "[server]\nshards = 999\n[feed]\nring_capacity = 1\n[drain]\nspread = \"1h\"";
    let error = check_load(toml, &[], None).unwrap_err();
    let keys: Vec<&str> = error.problems.iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(keys, ["server.shards", "drain.spread", "feed.ring_capacity"]);
    assert_eq!(error.to_string().lines().count(), 3);
}

#[test]
fn the_environment_goes_over_the_file() {
    let toml = "[server]\nshards = 2\nauth_timeout = \"3s\"\n[feed.simulator]\nrate = 5";
    let environment = [
        ("GATEWAY_SERVER__SHARDS", "4"),
        ("GATEWAY_SERVER__LISTEN", "127.0.0.1:9999"),
        ("GATEWAY_ADMIN__LISTEN", "[\"127.0.0.1:1\", \"[::1]:2\"]"),
        ("GATEWAY_FEED__SIMULATOR__RATE", "1000"),
        ("GATEWAY_FEED__SIMULATOR__SYMBOLS", "500"),
        ("GATEWAY_FEED__SIMULATOR__BURSTS", "{ factor = 3.5 }"),
        ("GATEWAY_FEED__REPLAY__SPEED", "10"),
        ("GATEWAY_FEED__REPLAY__LOOP", "true"),
        ("GATEWAY_SESSION__STALL_TIMEOUT", "30s"),
        ("GATEWAY_ENTITLEMENTS__ISSUER", "https://login.example.com"),
        ("GATEWAY_CAPTURES", "/captures"),
        ("PATH", "/bin"),
    ];
    let config = check_load(toml, &environment, None).unwrap();
    let mut expected = Config::default();
    expected.server.shards = 4;
    expected.server.auth_timeout = std::time::Duration::from_secs(3);
    expected.server.listen = vec!["127.0.0.1:9999".parse().unwrap()];
    expected.admin.listen = vec!["127.0.0.1:1".parse().unwrap(), "[::1]:2".parse().unwrap()];
    expected.feed.simulator.rate = 1000.0;
    expected.feed.simulator.symbols = Symbols::Count(500);
    expected.feed.simulator.bursts.factor = 3.5;
    expected.feed.replay.speed = Speed::Times(10.0);
    expected.feed.replay.repeat = true;
    expected.session.stall_timeout = std::time::Duration::from_secs(30);
    expected.entitlements.issuer = Some("https://login.example.com".to_owned());
    expected.sequencer.delay = Some(Sequencer::DELAY_DEMO);
    assert_eq!(config, expected);
}

#[test]
fn bad_variables_are_named() {
    let check = |name: &str, value: &str, parts: &[&str]| {
        let parts: Vec<&str> = [name].iter().chain(parts).copied().collect();
        check_refused("[server]\nshards = 1", &[(name, value)], &parts);
    };
    check("GATEWAY_SERVER__SHRDS", "1", &["server.shrds: unknown field"]);
    check("GATEWAY_LISTEN", "127.0.0.1:1", &["listen: unknown field"]);
    check("GATEWAY_SREVER__SHARDS", "1", &["srever: unknown field"]);
    check("GATEWAY_SERVER__SHARDS", "many", &["server.shards: "]);
    check("GATEWAY_SERVER__SHARDS", "999", &["server.shards: 999 is not between"]);
    check("GATEWAY_SERVER__SHARDS__MAX", "1", &["`shards` is not a table"]);
    check("GATEWAY_SERVER__LISTEN", "[\"127.0.0.1:1\", \"x\"]", &["server.listen", "`x` is no address"]);
    check("GATEWAY_FEED__REPLAY__SPEED", "1\nspeed = 2", &["feed.replay.speed"]);
    check("GATEWAY_", "1", &["unknown field"]);
    // A variable beside a wrong key is not to blame for it.
    let error = check_load("[server]\nshards = -1", &[("GATEWAY_SERVER__PIN", "on")], None).unwrap_err().to_string();
    assert!(!error.contains("GATEWAY_"), "{error}");
}

#[test]
fn the_replay_of_the_command_line_wins() {
    let toml = "[feed.replay]\nfile = \"other\"\nspeed = \"max\"\nafter_clients = 2";
    let options = ReplayOptions { file: "cap.txt".into(), speed: None, repeat: true, after_clients: Some(5) };
    let feed = check_load(toml, &[], Some(&options)).unwrap().feed;
    let replay = Replay { file: Some("cap.txt".into()), speed: Speed::Max, repeat: true, after_clients: 5 };
    assert_eq!((feed.kind, feed.replay), (FeedKind::Replay, replay));
}

#[test]
fn the_delay_depends_on_the_users() {
    let seconds = |toml: &str| check_load(toml, &[], None).unwrap().sequencer.delay().as_secs();
    assert_eq!(seconds("[server]"), 10);
    assert_eq!(seconds("[entitlements]\nusers = \"users.toml\""), 900);
    assert_eq!(seconds("[sequencer]\ndelay = \"3s\""), 3);
    let open = "[server]\nlisten = [\"0.0.0.0:1\"]\n[entitlements]\nusers = \"users.toml\"";
    assert!(check_load(open, &[], None).is_ok(), "with real users any address will do");
}

#[test]
fn clients_may_come_over_tls_alone() {
    let toml =
        "[server]\nlisten = []\n[server.tls]\nlisten = \"127.0.0.1:1\"\ncertificate_file = \"c\"\nkey_file = \"k\"";
    let server = check_load(toml, &[], None).unwrap().server;
    assert_eq!((server.listen.len(), server.tls.listen.len()), (0, 1));
}

#[test]
fn secrets_are_masked() {
    let toml = "[feed.coinbase]\nurl = \"wss://me:hunter2@feed.example.com/ws?key=hunter3\"";
    let config = check_load(toml, &[], None).unwrap();
    for text in [config.to_toml(), format!("{config:?}")] {
        assert!(text.contains("wss://***@feed.example.com/ws?***"), "{text}");
        assert!(!text.contains("hunter") && !text.contains("//me"), "{text}");
    }
    assert!(config.feed.coinbase.url.expose().contains("hunter2"));
    assert_eq!(Url("wss://h:1/p".to_owned()).to_string(), "wss://h:1/p");
}

#[test]
fn what_is_printed_loads_again() {
    let toml = "[server]\nlisten = \"127.0.0.1:1\"\ntrusted_proxies = [\"10.0.0.0/8\", \"2001:db8::1\"]\n\
                proxy_protocol = \"v2\"\norigins = [\"https://app.example.com\"]\n[feed.replay]\nspeed = 2.5\n[feed.simulator]\nsymbols = 7\n\
                [[entitlements.token_keys]]\nkid = \"a\"\nalgorithm = \"HS256\"\nsecret_file = \"s\"";
    let config = check_load(toml, &[], None).unwrap();
    assert_eq!(check_load(&config.to_toml(), &[], None).unwrap(), config);
}

#[test]
fn a_source_of_kafka_needs_brokers() {
    let source = "[feed]\nkind = \"live\"\n[[feed.sources]]\nvenue = \"kafka\"\n";
    let error = check_load(source, &[], None).unwrap_err().to_string();
    assert!(error.contains("feed.sources[0].venue: is \"kafka\", and kafka.brokers names none"), "{error}");
    check_load(&format!("{source}[kafka]\nbrokers = [\"h:9092\"]"), &[], None).unwrap();
}

const EXAMPLE: &str = include_str!("../../../gateway.example.toml");

#[test]
fn the_example_is_the_default() {
    let example: Config = toml::from_str(EXAMPLE).unwrap();
    assert_eq!(example, Config::default());
}

/// Every key that there is stands in the example, and every commented one is good once it is uncommented.
#[test]
fn the_example_has_every_key() {
    let is_setting = |line: &str| {
        let name = line.split(" = ").next().unwrap_or_default();
        line.starts_with("[[") || line.contains(" = ") && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
    };
    let uncommented: Vec<&str> =
        EXAMPLE.lines().map(|line| line.strip_prefix("# ").filter(|rest| is_setting(rest)).unwrap_or(line)).collect();
    let config: Config = toml::from_str(&uncommented.join("\n")).unwrap();
    let entitlements = &config.entitlements;
    let key = &entitlements.token_keys[0];
    let all = config.sequencer.delay.is_some()
        && config.feed.replay.file.is_some()
        && config.feed.sources.len() == 1
        && entitlements.users.is_some()
        && entitlements.hash_key_file.is_some()
        && entitlements.jwks.url.is_some()
        && entitlements.redis.master.is_some()
        && entitlements.redis.username.is_some()
        && entitlements.redis.password_file.is_some()
        && entitlements.redis.sentinel_username.is_some()
        && entitlements.redis.sentinel_password_file.is_some()
        && entitlements.redis.ca_file.is_some()
        && entitlements.redis.certificate_file.is_some()
        && entitlements.redis.key_file.is_some()
        && config.kafka.username.is_some()
        && config.kafka.password_file.is_some()
        && config.kafka.ca_file.is_some()
        && config.kafka.certificate_file.is_some()
        && config.kafka.key_file.is_some()
        && config.kafka.spool.is_some()
        && config.kafka.rights_group.is_some()
        && entitlements.issuer.is_some()
        && entitlements.audience.is_some()
        && config.server.tls.certificate_file.is_some()
        && config.server.tls.key_file.is_some()
        && key.secret_file.is_some()
        && key.public_key_file.is_some();
    assert!(all, "{config:?}");
    let file: toml::Table = EXAMPLE.parse().unwrap();
    let effective: toml::Table = Config::default().to_toml().parse().unwrap();
    let mut missing = Vec::new();
    keys_missing("", &effective, &file, &mut missing);
    // An array of tables cannot be written empty beside its own commented form.
    assert_eq!(missing, ["entitlements.token_keys", "feed.sources"]);
}

fn keys_missing(path: &str, wanted: &toml::Table, there: &toml::Table, missing: &mut Vec<String>) {
    for (key, value) in wanted {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        match (value, there.get(key)) {
            (_, None) => missing.push(path),
            (toml::Value::Table(wanted), Some(toml::Value::Table(there))) => {
                keys_missing(&path, wanted, there, missing)
            }
            _ => {}
        }
    }
}
