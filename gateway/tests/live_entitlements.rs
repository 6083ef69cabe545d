//! What changes of a user holds for its live sessions at once, and for nobody else's: a reload of the users file, a token
//! that is renewed, requests that are counted.

mod support;

use std::time::Duration;

use entitlements::{ApiKey, Change, Credential, Status, Tier, TokenHash, TokenHashes, User};
use serde_json::{Value, json};
use support::{Client, Directory, End, Received, Running, Venue, start};

/// A users file with one user that a test changes, and one that it leaves alone.
struct Users {
    files: Directory,
    changed: ApiKey,
    other: ApiKey,
}

impl Users {
    fn new() -> Users {
        Users {
            files: Directory::new(),
            changed: ApiKey::generate(None).unwrap(),
            other: ApiKey::generate(None).unwrap(),
        }
    }

    /// Writes the file; `record` is what it says of the first user, after `rest`.
    fn write(&self, rest: &str, record: &str) -> String {
        // All, unless the record says otherwise: "*" takes them.
        let categories = |record: &str| {
            if record.contains("categories") { "" } else { "categories = [\"crypto\", \"equity\", \"forex\"]\n" }
        };
        let user = |id: &str, record: &str, key: &ApiKey| {
            format!("[[users]]\nid = \"{id}\"\n{record}\n{}{}\n", categories(record), key.to_toml())
        };
        let other = user("other", "tier = \"premium\"", &self.other);
        let changed = if record.is_empty() { String::new() } else { user("changed", record, &self.changed) };
        self.files.write("users.toml", format!("{rest}\n{changed}{other}"))
    }

    fn sign_in(&self, gateway: &Running, key: &ApiKey) -> Client {
        let mut client = Client::open(gateway.address);
        client.authenticate(key.id(), key.secret());
        client
    }

    /// Several of each, so that both shards have some.
    fn clients(&self, gateway: &Running, request: &str) -> (Vec<Client>, Client) {
        let subscribed = |key: &ApiKey| {
            let mut client = self.sign_in(gateway, key);
            client.subscribe(request);
            client
        };
        ((0..6).map(|_| subscribed(&self.changed)).collect(), subscribed(&self.other))
    }
}

const PREMIUM: &str = "tier = \"premium\"";

/// The messages about a change, up to the acknowledgement.
fn told(client: &mut Client) -> Vec<Received> {
    let mut told = Vec::new();
    loop {
        told.push(client.receive_of(&["entitlement", "error", "subscription", "success"]));
        if told.last().unwrap().kind() == "subscription" {
            return told;
        }
    }
}

fn without_epoch(message: &Received) -> Value {
    let mut value = message.value.clone();
    value.as_object_mut().unwrap().remove("epoch");
    value
}

#[test]
fn a_lapsed_subscription_becomes_delayed_at_once() {
    let users = Users::new();
    let path = users.write("", PREMIUM);
    let gateway = start(&[
        ("entitlements.users", &path),
        ("server.shards", "2"),
        ("sequencer.delay", "1s"),
        ("feed.simulator.rate", "300"),
    ]);
    let request = r#"{"action":"subscribe","trades":["BTC/USD","*"],"updatedBars":["BTC/USD","ETH/USD"]}"#;
    let (mut clients, mut other) = users.clients(&gateway, request);
    clients.iter_mut().for_each(|client| drop(client.receive_many(&["t"], 5)));
    users.write("", "tier = \"premium\"\nstatus = \"cancelled\"");
    gateway.reload();
    for client in &mut clients {
        let told = told(client);
        let standing = "the free tier, which applies while the subscription is cancelled";
        assert_eq!(
            told[0].text,
            r#"{"T":"entitlement","tier":"free","status":"cancelled","delayed_ms":1000,"version":0,"reason":"the free tier applies while the subscription is cancelled"}"#
        );
        let mut errors: Vec<Value> = told[1..told.len() - 1].iter().map(|error| error.value.clone()).collect();
        errors.sort_by_key(|error| error["channel"].to_string());
        let error =
            |channel: &str| json!({"T": "error", "code": 409, "msg": "insufficient subscription", "channel": channel});
        let mut expected = [error("trades"), error("updatedBars")];
        expected[0]["S"] = json!("*");
        expected[0]["detail"] = json!(format!("\"*\" is not part of {standing}"));
        expected[1]["symbols"] = json!(["BTC/USD", "ETH/USD"]);
        expected[1]["detail"] = json!(format!("updatedBars is not part of {standing}"));
        assert_eq!(errors, expected);
        let left = json!({"T": "subscription", "trades": ["BTC/USD"], "quotes": [], "bars": [], "updatedBars": [], "delayed_ms": 1_000});
        assert_eq!(without_epoch(told.last().unwrap()), left);
        for trade in client.receive_many(&["t"], 10) {
            let held_back_ns = trade.at_ns - trade["rx"].as_i64().unwrap();
            assert!(trade.symbol() == "BTC/USD" && held_back_ns >= 1_000_000_000, "{held_back_ns}: {}", trade.text);
        }
    }
    // The next answer is to the next request: nothing was said to the other.
    assert!(other.subscribe(r#"{"action":"subscribe","quotes":["BTC/USD"]}"#)["delayed_ms"].is_null());
    assert_eq!(gateway.metric("gateway_entitlement_changes_total"), 6.0);
}

#[test]
fn an_upgrade_brings_live_data_without_a_hole() {
    let (venue, users) = (Venue::bind(), Users::new());
    let path = users.write("", "tier = \"free\"\nconnections = 10");
    let settings = [("entitlements.users", path.as_str()), ("server.shards", "2"), ("sequencer.delay", "3s")];
    let gateway = start(&[&venue.settings(r#"["BTC-USD"]"#)[..], &settings].concat());
    let mut line = venue.accept();
    let (mut clients, _other) = users.clients(&gateway, r#"{"action":"subscribe","trades":["BTC/USD"]}"#);
    line.trades("BTC-USD", 100);
    // They have had the first, and the rest of these is yet to come.
    let first: Vec<_> = clients.iter_mut().map(|client| client.receive_many(&["t"], 100)).collect();
    line.trades("BTC-USD", 100);
    users.write("", PREMIUM);
    gateway.reload();
    for (client, first) in clients.iter_mut().zip(first) {
        let told = told(client);
        assert_eq!(
            told[0].text,
            r#"{"T":"entitlement","tier":"premium","status":"active","delayed_ms":0,"version":0}"#
        );
        assert!(told.len() == 2 && told[1]["delayed_ms"].is_null(), "{}", told[1].text);
        support::client::assert_contiguous(&first, 1);
        support::client::assert_contiguous(&client.receive_many(&["t"], 100), 101);
    }
    line.trades("BTC-USD", 50);
    for client in &mut clients {
        support::client::assert_contiguous(&client.receive_many(&["t"], 50), 201);
    }
}

#[test]
fn categories_and_channels_that_are_taken_away_end() {
    let users = Users::new();
    let path = users.write("", "tier = \"premium\"\ncategories = [\"crypto\", \"forex\"]");
    let gateway = start(&[
        ("entitlements.users", &path),
        ("server.shards", "2"),
        ("feed.simulator.symbols", r#"["BTC/USD","ETH/USD","EUR/USD"]"#),
    ]);
    let request = r#"{"action":"subscribe","trades":["BTC/USD","EUR/USD"],"quotes":["EUR/USD"]}"#;
    let (mut clients, _other) = users.clients(&gateway, request);
    users.write("", "tier = \"premium\"\ncategories = [\"crypto\"]");
    gateway.reload();
    for client in &mut clients {
        let told = told(client);
        let mut errors: Vec<_> =
            told[1..told.len() - 1].iter().map(|e| (e.number("code"), e["channel"].clone())).collect();
        errors.sort_by_key(|(_, channel)| channel.to_string());
        assert_eq!(errors, [(411, json!("quotes")), (411, json!("trades"))]);
        assert_eq!(told[1]["detail"], "forex is not among the categories of the account");
        assert_eq!(
            (&told.last().unwrap()["trades"], &told.last().unwrap()["quotes"]),
            (&json!(["BTC/USD"]), &json!([]))
        );
        client.subscribe(r#"{"action":"subscribe","trades":["ETH/USD"],"quotes":["BTC/USD"]}"#);
    }
    users.write("", "tier = \"premium\"\ncategories = [\"crypto\"]\nchannels = 2");
    gateway.reload();
    for client in &mut clients {
        let told = told(client);
        assert_eq!((told.len(), told[1].number("code"), &told[1]["detail"]), (3, 405, &json!("at most 2 channels")));
        let left = ["trades", "quotes"].map(|channel| told[2][channel].as_array().unwrap().len());
        assert_eq!(left.iter().sum::<usize>(), 2, "{}", told[2].text);
    }
}

#[test]
fn a_key_that_is_another_or_gone_ends_its_sessions() {
    for again in [true, false] {
        let mut users = Users::new();
        let path = users.write("", PREMIUM);
        let gateway = start(&[("entitlements.users", &path), ("server.shards", "2")]);
        let (mut clients, mut other) = users.clients(&gateway, r#"{"action":"subscribe","bars":["BTC/USD"]}"#);
        let new = ApiKey::generate(None).unwrap();
        if again {
            // The same id with another secret.
            let lines = new.to_toml().replace(new.id(), users.changed.id());
            let text = std::fs::read_to_string(&path).unwrap().replace(&users.changed.to_toml(), &lines);
            users.files.write("users.toml", text);
        } else {
            users.changed = new;
            users.write("", PREMIUM);
        }
        gateway.reload();
        for client in &mut clients {
            assert_eq!(client.drain().1, End::Closed(3504, "revoked".to_owned()));
        }
        other.subscribe(r#"{"action":"subscribe","bars":["ETH/USD"]}"#);
    }
}

#[test]
fn whoever_is_blocked_or_removed_is_let_go() {
    for record in ["tier = \"premium\"\nstatus = \"blocked\"", ""] {
        let users = Users::new();
        let path = users.write("", PREMIUM);
        let gateway = start(&[("entitlements.users", &path), ("server.shards", "2")]);
        let (mut clients, mut other) = users.clients(&gateway, r#"{"action":"subscribe","bars":["BTC/USD"]}"#);
        users.write("", record);
        gateway.reload();
        for client in &mut clients {
            assert_eq!(client.drain().1, End::Closed(3504, "revoked".to_owned()));
        }
        other.subscribe(r#"{"action":"subscribe","bars":["ETH/USD"]}"#);
    }
}

#[test]
fn denied_tokens_and_blocked_addresses_end_their_sessions() {
    let users = Users::new();
    let secret = users.files.write("hs", b"a secret of at least thirty-two bytes");
    let token_keys = format!(r#"[{{kid = "hs", algorithm = "HS256", secret_file = "{secret}"}}]"#);
    let path = users.write("", PREMIUM);
    let settings =
        [("entitlements.users", path.as_str()), ("entitlements.token_keys", &token_keys), ("server.shards", "2")];
    let gateway = start(&settings);
    let (denied, good) = (Duration::from_secs(600), Duration::from_secs(900));
    let [denied, good] = [denied, good].map(|ttl| gateway.token("changed", ttl));
    let mut going = [(); 4].map(|()| Client::with_token(gateway.address, &denied));
    let mut staying = [(); 4].map(|()| Client::with_token(gateway.address, &good));
    users.write(&format!("denied_tokens = [\"{}\"]", TokenHash::of(&denied)), PREMIUM);
    gateway.reload();
    for client in &mut going {
        assert_eq!(client.drain(), (vec![], End::Closed(3504, "revoked".to_owned())));
    }
    for client in &mut staying {
        client.subscribe(r#"{"action":"subscribe","bars":["ETH/USD"]}"#);
    }
    // Networks that nobody comes from first.
    for (network, ends) in [("192.0.2.0/24", false), ("127.0.0.0/8", true)] {
        let blocked = format!("[[blocked]]\naddress = \"{network}\"\nreason = \"a test\"\n");
        users.write(&blocked, PREMIUM);
        gateway.reload();
        for client in &mut staying {
            if ends {
                assert_eq!(client.drain(), (vec![], End::Closed(3505, "address blocked".to_owned())));
            } else {
                client.subscribe(r#"{"action":"subscribe","bars":["ETH/USD"]}"#);
            }
        }
    }
}

#[test]
fn a_new_token_carries_a_session_on() {
    let gateway = start(&[("entitlements.leeway", "0s")]);
    let token = |user: &str, seconds: u64| gateway.token(user, Duration::from_secs(seconds));
    let auth = |token: &str| json!({"action": "auth", "id": 3, "token": token}).to_string();
    let first = token("demo-premium", 5);
    let mut renewed = Client::with_token(gateway.address, &first);
    let mut refused = Client::with_token(gateway.address, &first);
    let answer = renewed.request(&auth(&token("demo-premium", 600)));
    assert_eq!(
        (&answer["msg"], &answer["user"], &answer["tier"]),
        (&json!("authenticated"), &json!("demo-premium"), &json!("premium"))
    );
    // Neither a bad token nor another user's does, and the session goes on until its end.
    let answer = refused.request(&auth("a.b.c"));
    assert_eq!((answer.number("code"), answer.number("id")), (402, 3));
    let answer = refused.request(&auth(&token("demo-free", 600)));
    assert_eq!((answer.number("code"), answer.number("id")), (403, 3));
    let key = &gateway.users[1];
    let answer = refused.request(&json!({"action": "auth", "key": key.key, "secret": key.secret}).to_string());
    assert_eq!(answer.number("code"), 403);
    refused.subscribe(r#"{"action":"subscribe","bars":["BTC/USD"]}"#);
    assert_eq!(refused.drain().1, End::Closed(3503, "token expired".to_owned()));
    renewed.subscribe(r#"{"action":"subscribe","bars":["BTC/USD"]}"#);
    assert_eq!(gateway.metric("gateway_token_refreshes_total"), 1.0);
}

#[test]
fn requests_are_counted_over_all_sessions_of_a_user() {
    let gateway = start(&[("session.requests_burst", "1000"), ("server.shards", "2")]);
    let mut clients = [gateway.free(), gateway.free()];
    let request = |id: u64| json!({"action": "subscribe", "id": id, "trades": ["BTC/USD"]}).to_string();
    for id in 0..100 {
        let answer = clients[id as usize % 2].request(&request(id));
        assert_eq!((answer.kind(), answer.number("id")), ("subscription", id), "{}", answer.text);
    }
    for (client, id) in clients.iter_mut().zip(100..) {
        let answer = client.request(&request(id));
        assert_eq!((answer.number("code"), answer.number("id")), (429, id));
        let retry_after = answer["retry_after"].as_f64().unwrap();
        assert!(retry_after > 0.0 && retry_after <= 120.0, "{retry_after}");
    }
    assert_eq!(gateway.metric(r#"gateway_command_errors_total{reason="quota"}"#), 2.0);
    // Another user has an account of its own.
    gateway.premium().subscribe(&request(0));
}

#[test]
fn a_store_sees_all_sessions_and_brings_news_in_the_order_of_versions() {
    let gateway = start(&[("server.shards", "2")]);
    let roster = gateway.roster();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let token = gateway.token("demo-premium", Duration::from_secs(600));
    let mut clients: Vec<Client> = (0..6).map(|_| Client::with_token(gateway.address, &token)).collect();
    let mut free = gateway.free();
    free.subscribe(r#"{"action":"subscribe","trades":["BTC/USD"]}"#);
    // A session is its shard's a moment after its client was told.
    gateway.await_metric("gateway_connections ", |live| live == 7.0);
    let mut sessions = runtime.block_on(roster.sessions());
    sessions.sort_by_key(|session| session.number);
    let listed: Vec<_> = sessions.iter().map(|s| (s.number, &*s.user, s.role, s.credential.clone())).collect();
    let token = Credential::Token(TokenHashes::of(&token));
    let Some(Credential::Key { prefix, .. }) = &sessions[6].credential else { panic!("{:?}", sessions[6]) };
    assert_eq!(**prefix, *gateway.users[0].key);
    let expected: Vec<_> = (1..=6).map(|number| (number, "demo-premium", "premium", Some(token.clone()))).collect();
    assert_eq!(listed, [expected, vec![(7, "demo-free", "free", sessions[6].credential.clone())]].concat());
    let now_s = gateway::door::unix_seconds();
    for session in &sessions {
        assert!(session.address.is_loopback() && (now_s - 60..=now_s).contains(&session.active_at), "{session:?}");
    }
    let mut users = roster.users();
    users.sort();
    assert_eq!(users.iter().map(|user| &**user).collect::<Vec<_>>(), ["demo-free", "demo-premium"]);

    let premium = |version, status| Change::User(User { version, status, ..User::new("demo-premium", Tier::Premium) });
    roster.apply(vec![premium(5, Status::Paused), premium(4, Status::Active), premium(6, Status::Paused)]);
    roster.apply(vec![premium(7, Status::Active), Change::Gone("nobody".into())]);
    for client in &mut clients {
        // The one in between was known to be old, and the next said nothing new.
        let told = [(); 2].map(|()| client.receive());
        let told = told.map(|t| (t.kind().to_owned(), t["status"].clone(), t.number("version")));
        let entitlement = |status: &str, version| ("entitlement".to_owned(), json!(status), version);
        assert_eq!(told, [entitlement("paused", 5), entitlement("active", 7)]);
    }
    roster.apply(vec![Change::Gone("demo-premium".into())]);
    for client in &mut clients {
        assert_eq!(client.drain(), (vec![], End::Closed(3504, "revoked".to_owned())));
    }
    assert_eq!(free.request(r#"{"action":"subscribe","trades":["ETH/USD"]}"#).kind(), "subscription");
}
