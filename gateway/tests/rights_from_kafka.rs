//! What the platform says in Kafka about users' rights holds for live sessions at once: in order, once, and in full, also where
//! Redis was away or the gateway was not there. What cannot be understood is kept untouched, with where it was and why.

mod support;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders, OwnedMessage};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::{Value, json};
use support::kafka::Cluster;
use support::redis::Server;
use support::{Client, Directory, End, PATIENCE, Running, fetch, kafka, redis, start_from, wait_until};

const PAYMENTS: &str = "payment-events";
const SUBSCRIPTIONS: &str = "cdc.finance.user_subscriptions";
const SIGNALS: &str = "cdc.signals.signal_subscriptions";
const USERS: &str = "cdc.user_management.users";
const DEAD: &str = "gateway-dead-letter";

/// Kafka, Redis, and who writes to Kafka.
struct Platform {
    cluster: Cluster,
    server: Server,
    producer: BaseProducer,
    files: Directory,
    config: String,
}

impl Platform {
    /// `None` where there is no Kafka or no Redis on this machine.
    fn start() -> Option<Platform> {
        let platform = Platform::without_topics()?;
        platform.create_sources();
        platform.cluster.create_topic(DEAD, 1, &[]);
        Some(platform)
    }

    fn create_sources(&self) {
        for topic in [PAYMENTS, SUBSCRIPTIONS, SIGNALS, USERS] {
            self.cluster.create_topic(topic, 2, &[]);
        }
    }

    fn without_topics() -> Option<Platform> {
        if !kafka::is_here() || !redis::is_here() {
            return None;
        }
        let (cluster, server, files) = (Cluster::start(1), Server::start(&[]), Directory::new());
        let secret = files.write("token.secret", [7; 32]);
        let text = format!(
            "[kafka]\nbrokers = [\"{}\"]\n\
             [[entitlements.token_keys]]\nkid = \"a\"\nalgorithm = \"HS256\"\nsecret_file = \"{secret}\"\n\
             [entitlements.redis]\nurls = [\"{}\"]\nlease = \"3s\"\ntimeout = \"1s\"\n",
            cluster.bootstrap(),
            server.url()
        );
        let config = files.write("gateway.toml", text);
        let producer = cluster.client().set("linger.ms", "0").create().unwrap();
        Some(Platform { cluster, server, producer, files, config })
    }

    fn gateway(&self) -> Running {
        let gateway = start_from(Some(self.config.as_ref()), &[("server.shards", "2")]);
        wait_until("the store to be there", || is_ready(&gateway));
        gateway
    }

    /// Writes a record, and waits until Kafka has it.
    #[track_caller]
    fn write(&self, topic: &str, key: &str, value: Option<&[u8]>, headers: OwnedHeaders) {
        let record = BaseRecord::to(topic).key(key).headers(headers);
        let record = value.iter().fold(record, |record, value| record.payload(*value));
        self.producer.send(record).map_err(|(error, _): (_, BaseRecord<'_, str, [u8]>)| error).unwrap();
        self.producer.flush(PATIENCE).unwrap();
    }

    #[track_caller]
    fn tell(&self, topic: &str, key: &str, record: &Value) {
        self.write(topic, key, Some(record.to_string().as_bytes()), OwnedHeaders::new());
    }

    /// A change of a subscription's row, as Debezium tells of it.
    #[track_caller]
    fn subscription(&self, user: &str, lsn: u64, tier: &str, status: &str) {
        let row = json!({"id": 7, "user_id": user, "plan_name": tier, "status": status, "price": "9.50"});
        let source = json!({"connector": "postgresql", "lsn": lsn, "table": "user_subscriptions"});
        let envelope = json!({"before": null, "after": row, "source": source, "op": "u", "ts_ms": 1});
        self.tell(SUBSCRIPTIONS, "{\"id\":7}", &json!({"schema": {"type": "struct"}, "payload": envelope}));
    }

    fn record(&self, user: &str) -> Option<Value> {
        serde_json::from_str(self.server.cli(&["GET", &format!("entitlement:{{{user}}}")]).trim()).ok()
    }

    /// Waits until a user's record has these fields, and returns it.
    #[track_caller]
    fn await_record(&self, user: &str, fields: Value) -> Value {
        let mut found = None;
        wait_until(&format!("{fields} in the record of {user}"), || {
            found = self.record(user);
            let has = |found: &Value| fields.as_object().unwrap().iter().all(|(name, value)| found[name] == *value);
            found.as_ref().is_some_and(has)
        });
        found.unwrap()
    }

    /// The dead letters, once there are so many.
    #[track_caller]
    fn dead_letters(&self, count: usize) -> Vec<OwnedMessage> {
        let mut client = self.cluster.client();
        client.set("group.id", "dead").set("auto.offset.reset", "earliest").set("enable.auto.commit", "false");
        let consumer: BaseConsumer = client.create().unwrap();
        consumer.subscribe(&[DEAD]).unwrap();
        let mut letters = Vec::new();
        wait_until(&format!("{count} dead letters"), || {
            if let Some(Ok(record)) = consumer.poll(Duration::from_millis(100)) {
                letters.push(record.detach());
            }
            letters.len() >= count
        });
        letters
    }

    /// How many records of the group of gateways are not committed.
    fn lag(&self) -> i64 {
        let mut client = self.cluster.client();
        let consumer: BaseConsumer = client.set("group.id", "signal-gateway-rights").create().unwrap();
        let mut all = rdkafka::TopicPartitionList::new();
        for topic in [PAYMENTS, SUBSCRIPTIONS, SIGNALS, USERS] {
            all.add_partition_range(topic, 0, 1);
        }
        let committed = consumer.committed_offsets(all, PATIENCE).unwrap();
        let lag = |partition: &rdkafka::topic_partition_list::TopicPartitionListElem<'_>| {
            let (_, end) = consumer.fetch_watermarks(partition.topic(), partition.partition(), PATIENCE).unwrap();
            end - partition.offset().to_raw().unwrap().max(0)
        };
        committed.elements().iter().map(lag).sum()
    }
}

fn is_ready(gateway: &Running) -> bool {
    fetch(gateway.admin, "/readyz").0 == 200
}

fn result(name: &str) -> String {
    format!("gateway_rights_records_total{{result=\"{name}\"}}")
}

fn sign_in(gateway: &Running, user: &str) -> Client {
    Client::with_token(gateway.address, &gateway.token(user, Duration::from_secs(600)))
}

/// What a live session is told of its rights, and how long that took.
#[track_caller]
fn told(client: &mut Client, since: Instant) -> (Value, Duration) {
    let told = client.receive_of(&["entitlement"]).value;
    (told, since.elapsed())
}

#[test]
fn a_change_holds_for_live_sessions_within_a_second_and_once() {
    let Some(platform) = Platform::start() else { return };
    // From before the gateway was there.
    platform.subscription("alice", 10, "premium_monthly", "active");
    let gateway = platform.gateway();
    platform.await_record("alice", json!({"tier": "premium", "status": "active", "version": 1}));
    let mut client = sign_in(&gateway, "alice");

    let since = Instant::now();
    platform.subscription("alice", 20, "enterprise", "active");
    let (upgraded, took) = told(&mut client, since);
    println!("from the record in Kafka to the live session: {took:?}");
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert_eq!((&upgraded["tier"], &upgraded["version"]), (&json!("enterprise"), &json!(2)));

    // Repeated and older ones, and a tombstone: whatever they say, nothing changes.
    platform.subscription("alice", 20, "free", "expired");
    platform.subscription("alice", 15, "premium", "cancelled");
    platform.write(SUBSCRIPTIONS, "{\"id\":7}", None, OwnedHeaders::new());
    gateway.await_metric(&result("old"), |old| old == 2.0);
    gateway.await_metric(&result("empty"), |empty| empty == 1.0);
    assert_eq!(platform.record("alice").unwrap()["version"], 2);

    // Without its wrapper; it has the last word all the same.
    let row = json!({"id": 7, "user_id": "alice", "tier": "enterprise", "status": "expired"});
    let since = Instant::now();
    platform.tell(SUBSCRIPTIONS, "{\"id\":7}", &json!({"op": "u", "after": row, "source": {"lsn": 30}, "ts_ms": 1}));
    let (expired, took) = told(&mut client, since);
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert_eq!((&expired["status"], &expired["version"]), (&json!("expired"), &json!(3)));

    // What was handed on is committed at the end, and nothing of it comes again.
    gateway.drain();
    assert_eq!(platform.lag(), 0);
    let next = platform.gateway();
    platform.subscription("alice", 40, "premium", "active");
    platform.await_record("alice", json!({"tier": "premium", "status": "active", "version": 4}));
    assert_eq!((next.metric(&result("applied")), next.metric(&result("old"))), (1.0, 0.0));
}

#[test]
fn payments_signals_and_accounts() {
    let Some(platform) = Platform::start() else { return };
    let gateway = platform.gateway();
    let payment = |at: &str, status: &str, plan: Option<&str>| {
        let record = json!({"user_id": "bob", "status": status, "plan": plan, "timestamp": at, "amount": 12});
        platform.tell(PAYMENTS, "bob", &record);
    };
    payment("2026-01-01T00:00:00Z", "paid", Some("premium"));
    platform.await_record("bob", json!({"tier": "premium", "status": "active", "signal_categories": []}));
    let wants = json!({"id": "s1", "user_id": "bob", "signal_categories": ["crypto"], "max_signals_per_day": 50,
                       "real_time_access": false});
    platform.tell(SIGNALS, "s1", &json!({"op": "r", "after": wants, "ts_ms": 5}));
    let wanted = json!({"signal_categories": ["crypto"], "max_signals_per_day": 50, "real_time_access": false});
    platform.await_record("bob", wanted);
    payment("2026-02-01T00:00:00Z", "lapsed", None);
    platform.await_record("bob", json!({"tier": "premium", "status": "expired"}));
    payment("2026-02-02T00:00:00Z", "plan.paid", Some("enterprise"));
    platform.await_record("bob", json!({"tier": "enterprise", "status": "active"}));
    platform.tell(SIGNALS, "s1", &json!({"op": "d", "before": {"id": "s1", "user_id": "bob"}, "ts_ms": 6}));
    platform.await_record("bob", json!({"signal_categories": [], "max_signals_per_day": null}));

    // The account is suspended: the session ends, whatever is paid meanwhile.
    let mut client = sign_in(&gateway, "bob");
    let account = |op: &str, ts_ms: u64, status: &str| {
        platform.tell(USERS, "bob", &json!({"op": op, "after": {"id": "bob", "status": status}, "ts_ms": ts_ms}));
    };
    account("u", 10, "suspended");
    assert!(matches!(client.drain().1, End::Closed(..)), "a blocked user's session goes on");
    payment("2026-02-03T00:00:00Z", "refunded", None);
    let blocked = json!({"status": "blocked"});
    gateway.await_metric(&result("applied"), |applied| applied == 7.0);
    platform.await_record("bob", blocked);
    account("u", 11, "active");
    platform.await_record("bob", json!({"tier": "enterprise", "status": "cancelled"}));
}

#[test]
fn what_cannot_be_understood_is_kept_untouched() {
    let Some(platform) = Platform::start() else { return };
    platform.server.cli(&["SET", "entitlement:{broken}", r#"{"tier":"gold"}"#]);
    let gateway = platform.gateway();
    let nobody = json!({"op": "d", "before": {"id": 3}, "ts_ms": 1}).to_string();
    let broken = json!({"user_id": "broken", "status": "lapsed", "ts_ms": 1}).to_string();
    let bad = [
        (SUBSCRIPTIONS, &b"\xff\x00 no JSON"[..], "is no JSON"),
        (SIGNALS, nobody.as_bytes(), "before.user_id: is missing"),
        (USERS, &b"{}"[..], "op: is missing"),
        (PAYMENTS, broken.as_bytes(), "the user's record in Redis: tier: expected one of free, premium, enterprise"),
    ];
    for (topic, value, _) in bad {
        let headers = OwnedHeaders::new().insert(Header { key: "trace", value: Some(topic) });
        platform.write(topic, "a key", Some(value), headers);
    }
    let letters: HashMap<String, OwnedMessage> = platform
        .dead_letters(bad.len())
        .into_iter()
        .map(|letter| (String::from_utf8(letter.key().unwrap().to_vec()).unwrap(), letter))
        .collect();
    assert_eq!(letters.len(), bad.len());
    for (topic, value, reason) in bad {
        let letter = &letters[topic];
        assert_eq!(letter.payload(), Some(value));
        let headers: HashMap<&str, &str> = letter
            .headers()
            .unwrap()
            .iter()
            .map(|header| (header.key, std::str::from_utf8(header.value.unwrap()).unwrap()))
            .collect();
        let told = ["trace", "source.topic", "source.offset", "source.key", "reason"].map(|name| headers[name]);
        assert_eq!(told, [topic, topic, "0", "a key", reason]);
        assert!(
            headers["source.partition"].parse::<i32>().is_ok() && headers["source.timestamp"].parse::<u64>().is_ok()
        );
    }
    // The others go on behind them.
    platform.subscription("carol", 1, "premium", "active");
    platform.await_record("carol", json!({"tier": "premium"}));
    gateway.await_metric(&result("dead_letter"), |count| count == bad.len() as f64);
    gateway.drain();
    assert_eq!(platform.lag(), 0);
    assert_eq!(platform.dead_letters(bad.len()).len(), bad.len());
    drop(platform.files);
}

#[test]
fn nothing_is_skipped_while_redis_is_away() {
    let Some(mut platform) = Platform::start() else { return };
    let gateway = platform.gateway();
    platform.subscription("alice", 1, "premium", "active");
    platform.await_record("alice", json!({"tier": "premium"}));
    wait_until("the first change to be committed", || platform.lag() == 0);
    platform.server.kill();
    wait_until("the store to be away", || !is_ready(&gateway));
    for (lsn, tier) in [(2, "free"), (3, "premium"), (4, "enterprise")] {
        platform.subscription("alice", lsn, tier, "active");
        platform.subscription(&format!("user-{lsn}"), lsn, tier, "active");
    }
    assert_eq!((gateway.metric(&result("applied")), platform.lag()), (1.0, 6));
    // A gateway that ends meanwhile leaves them to the next.
    gateway.drain();
    assert_eq!(platform.lag(), 6);
    let next = start_from(Some(platform.config.as_ref()), &[("server.shards", "2")]);
    platform.server.start_again();
    // It has lost the first.
    platform.await_record("alice", json!({"tier": "enterprise", "status": "active", "version": 3}));
    for (lsn, tier) in [(2, "free"), (3, "premium"), (4, "enterprise")] {
        platform.await_record(&format!("user-{lsn}"), json!({"tier": tier, "version": 1}));
    }
    next.await_metric(&result("applied"), |applied| applied == 6.0);
    wait_until("the changes to be committed", || platform.lag() == 0);
}

#[test]
fn a_fleet_takes_each_change_once_and_goes_on_with_fewer() {
    let Some(mut platform) = Platform::start() else { return };
    let (one, other) = (platform.gateway(), platform.gateway());
    let changes = 40;
    // Of many rows, which fall into both partitions.
    let tell = |platform: &Platform, lsn: u64, tier: &str| {
        for number in 0..changes {
            let row = json!({"id": number, "user_id": format!("user-{number}"), "plan": tier, "status": "active"});
            let envelope = json!({"op": "c", "after": row, "source": {"lsn": lsn}, "ts_ms": 1});
            platform.tell(SUBSCRIPTIONS, &number.to_string(), &envelope);
        }
    };
    let all_are = |platform: &Platform, tier: &str, version: u64| {
        for number in 0..changes {
            platform.await_record(&format!("user-{number}"), json!({"tier": tier, "version": version}));
        }
    };
    let sum = |name: &str| one.metric(&result(name)) + other.metric(&result(name));
    tell(&platform, 1, "premium");
    all_are(&platform, "premium", 1);
    wait_until("the changes to be committed", || platform.lag() == 0);
    assert_eq!((sum("applied"), sum("old")), (f64::from(changes), 0.0));

    one.drain();
    tell(&platform, 2, "enterprise");
    all_are(&platform, "enterprise", 2);

    // Kafka goes away and comes back, and the gateway says so.
    let is_warned = |gateway: &Running| fetch(gateway.admin, "/readyz").1.contains(r#"{"check":"kafka_rights""#);
    wait_until("Kafka to be known", || !is_warned(&other));
    platform.cluster.kill(0);
    wait_until("Kafka to be away", || is_warned(&other));
    platform.cluster.start_again(0);
    tell(&platform, 3, "free");
    all_are(&platform, "free", 3);
    wait_until("Kafka to be up", || !is_warned(&other));

    // Whoever ends while it is away does not wait for it.
    platform.cluster.kill(0);
    wait_until("Kafka to be away", || is_warned(&other));
    let since = Instant::now();
    other.drain();
    assert!(since.elapsed() < Duration::from_secs(15), "{:?}", since.elapsed());
    println!("drained without Kafka in {:?}", since.elapsed());
}

#[test]
fn topics_that_are_missing_are_waited_for() {
    let Some(platform) = Platform::without_topics() else { return };
    let gateway = platform.gateway();
    platform.create_sources();
    platform.tell(USERS, "alice", &json!({"op": "?", "after": {"id": "alice"}}));
    platform.tell(USERS, "alice", &json!({"op": "c", "after": {"id": "alice", "status": "active"}, "ts_ms": 1}));
    // Nothing goes on before the first is kept.
    assert_eq!((platform.record("alice"), platform.lag()), (None, 2));
    platform.cluster.create_topic(DEAD, 1, &[]);
    assert_eq!(platform.dead_letters(1)[0].key(), Some(USERS.as_bytes()));
    platform.await_record("alice", json!({"tier": "free", "status": "active"}));
    gateway.await_metric(&result("dead_letter"), |count| count == 1.0);
}
