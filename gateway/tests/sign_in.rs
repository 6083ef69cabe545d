//! Who may come in: every way to sign in works, whoever may not come in learns only that, and whoever may no
//! longer be here is let go.

mod support;

use std::time::Duration;

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use entitlements::ApiKey;
use gateway::door::unix_seconds;
use rustix::process::Signal;
use serde_json::{Value, json};
use support::client::Refused;
use support::{Client, Directory, End, Running, program, start, wait_until};

fn closed(code: u16, reason: &str) -> End {
    End::Closed(code, reason.to_owned())
}

#[test]
fn every_way_to_sign_in_works_on_every_path() {
    let gateway = start(&[]);
    let user = &gateway.users[1];
    let (key, secret, token) = (user.key.as_str(), user.secret.as_str(), user.token.as_str());
    let greeted = |client: &mut Client, at_once: bool, request: &str| {
        assert_eq!(client.receive()["msg"], "connected");
        if !at_once {
            client.send(request);
        }
        let answer = client.receive();
        let told = [&answer["msg"], &answer["user"], &answer["tier"], &answer["delayed_ms"], &answer["heartbeat_ms"]];
        assert_eq!(
            told,
            [&json!("authenticated"), &json!("demo-premium"), &json!("premium"), &json!(0), &json!(15_000)]
        );
        let epoch = client.subscribe(r#"{"action":"subscribe","trades":["BTC/USD"]}"#)["epoch"].clone();
        assert_eq!(epoch, answer["epoch"]);
    };
    let with_headers = |path: &str, headers: &[(&str, &str)]| {
        let mut client = Client::upgrade(gateway.address, path, headers).unwrap();
        greeted(&mut client, true, "");
    };
    let pair = STANDARD.encode(format!("{key}:{secret}"));
    for path in ["/stream", "/v2/iex", "/v2/anything", "/v1beta3/crypto/us", "/v1beta1/news"] {
        with_headers(path, &[("Authorization", &format!("Bearer {token}"))]);
    }
    with_headers("/stream", &[("Authorization", &format!("Bearer {key}.{secret}"))]);
    with_headers("/stream", &[("Authorization", &format!("Basic {pair}"))]);
    with_headers("/stream", &[("APCA-API-KEY-ID", key), ("APCA-API-SECRET-KEY", secret)]);
    with_headers("/stream", &[("X-API-Key", &format!("{key}.{secret}"))]);
    with_headers(&format!("/stream?token={token}"), &[]);
    with_headers(&format!("/v2/iex?encoding=json&token={token}"), &[]);
    // Of several the first in the protocol's order counts.
    with_headers("/stream?token=nonsense", &[("Authorization", &format!("Bearer {token}"))]);
    with_headers("/stream?token=nonsense", &[("X-API-Key", &format!("{key}.{secret}"))]);
    let refused = Client::upgrade(gateway.address, &format!("/stream?token={token}"), &[("Authorization", "Bearer x")]);
    assert_eq!(refused.err().unwrap().status, 401);
    for request in [
        json!({"action": "auth", "key": key, "secret": secret}),
        json!({"action": "auth", "token": token}),
        json!({"action": "auth", "key": "oauth", "secret": token}),
    ] {
        let mut client = Client::upgrade(gateway.address, "/stream", &[]).unwrap();
        greeted(&mut client, false, &request.to_string());
    }
}

#[test]
fn what_a_user_is_told_fits_the_user() {
    let gateway = start(&[("sequencer.delay", "7s"), ("session.heartbeat", "20s")]);
    let expected = [("demo-free", "free", 7_000), ("demo-premium", "premium", 0), ("demo-enterprise", "enterprise", 0)];
    for (user, (name, tier, delayed_ms)) in gateway.users.iter().zip(expected) {
        let client = Client::signed_in(gateway.address, user);
        let told = ["user", "tier", "delayed_ms", "heartbeat_ms"].map(|key| client.session[key].clone());
        assert_eq!(told, [json!(name), json!(tier), json!(delayed_ms), json!(20_000)]);
        assert!(!client.session.to_string().contains(&user.secret));
    }
}

/// A gateway with a users file and keys of every algorithm, and what is needed to make tokens for it.
struct Keyed {
    gateway: Running,
    key: ApiKey,
    rsa: RsaKeyPair,
    rsa_pem: String,
    ec: EcdsaKeyPair,
    /// Holds the files that the gateway has been started with.
    _files: Directory,
}

const HS_SECRET: &[u8] = b"a secret of at least thirty-two bytes";

fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
}

/// A user of the file, with an API key.
fn user(id: &str, status: &str, key: &ApiKey) -> String {
    format!(
        "[[users]]\nid = \"{id}\"\ntier = \"premium\"\nstatus = \"{status}\"\ncategories = [\"crypto\"]\n{}\n",
        key.to_toml()
    )
}

fn keyed() -> Keyed {
    let files = Directory::new();
    let (key, blocked) = (ApiKey::generate(None).unwrap(), ApiKey::generate(None).unwrap());
    let users = user("alice", "active", &key) + &user("mallory", "blocked", &blocked);
    let rsa = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let ec = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
    let ec = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, ec.as_ref()).unwrap();
    let rsa_pem = pem(AsDer::<PublicKeyX509Der>::as_der(rsa.public_key()).unwrap().as_ref());
    let ec_pem = pem(AsDer::<PublicKeyX509Der>::as_der(ec.public_key()).unwrap().as_ref());
    let token_keys = format!(
        r#"[{{kid = "hs", algorithm = "HS256", secret_file = "{}"}}, {{kid = "rs", algorithm = "RS256", public_key_file = "{}"}}, {{kid = "es", algorithm = "ES256", public_key_file = "{}"}}]"#,
        files.write("hs", HS_SECRET),
        files.write("rs.pem", &rsa_pem),
        files.write("es.pem", ec_pem),
    );
    let gateway = start(&[
        ("entitlements.users", &files.write("users.toml", users)),
        ("entitlements.token_keys", &token_keys),
        ("entitlements.issuer", "us"),
        ("entitlements.audience", "gateway"),
        ("entitlements.sign_ins.attempts_max", "1000"),
    ]);
    Keyed { gateway, key, rsa, rsa_pem, ec, _files: files }
}

fn jws(header: Value, claims: Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(header), part(claims));
    let signature = URL_SAFE_NO_PAD.encode(sign(message.as_bytes()));
    format!("{message}.{signature}")
}

fn by_secret(secret: &[u8]) -> impl Fn(&[u8]) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    move |message| hmac::sign(&key, message).as_ref().to_vec()
}

impl Keyed {
    fn by_rsa(&self, message: &[u8]) -> Vec<u8> {
        let mut signature = vec![0; self.rsa.public_modulus_len()];
        self.rsa.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature).unwrap();
        signature
    }

    fn by_ec(&self, message: &[u8]) -> Vec<u8> {
        self.ec.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec()
    }
}

fn claims() -> Value {
    let now = unix_seconds();
    json!({"sub": "alice", "iat": now, "nbf": now, "exp": now + 600, "iss": "us", "aud": ["other", "gateway"]})
}

fn claims_but(key: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[key] = value;
    claims
}

#[test]
fn tokens_of_every_configured_algorithm_open_the_door() {
    let keyed = keyed();
    let check = |what: &str, token: String| {
        let mut client = Client::open(keyed.gateway.address);
        let answer = client.request(&json!({"action": "auth", "token": token}).to_string());
        assert_eq!((&answer["msg"], &answer["user"]), (&json!("authenticated"), &json!("alice")), "{what}");
    };
    check("HS256", jws(json!({"alg": "HS256", "kid": "hs"}), claims(), by_secret(HS_SECRET)));
    check("RS256", jws(json!({"alg": "RS256", "kid": "rs"}), claims(), |m| keyed.by_rsa(m)));
    check("ES256", jws(json!({"alg": "ES256", "kid": "es"}), claims(), |m| keyed.by_ec(m)));
    check("what the gateway issues", keyed.gateway.token("alice", Duration::from_secs(60)));
}

#[test]
fn whoever_may_not_come_in_learns_only_that() {
    let keyed = keyed();
    let Keyed { gateway, key, rsa_pem, .. } = &keyed;
    let (id, secret) = (key.id(), key.secret());
    let now = unix_seconds();
    let hs = json!({"alg": "HS256", "kid": "hs"});
    let by_hs = |claims: Value| jws(hs.clone(), claims, by_secret(HS_SECRET));
    let good = by_hs(claims());
    let tokens = [
        ("expired", by_hs(claims_but("exp", json!(now - 60)))),
        ("no expiry", by_hs(claims_but("exp", Value::Null))),
        ("not yet valid", by_hs(claims_but("nbf", json!(now + 60)))),
        ("issued in the future", by_hs(claims_but("iat", json!(now + 60)))),
        ("another issuer", by_hs(claims_but("iss", json!("them")))),
        ("another audience", by_hs(claims_but("aud", json!("other")))),
        ("nobody's", by_hs(claims_but("sub", json!("nobody")))),
        ("a blocked user's", by_hs(claims_but("sub", json!("mallory")))),
        ("another secret", jws(hs.clone(), claims(), by_secret(b"another secret of thirty-two bytes"))),
        ("alg none", jws(json!({"alg": "none", "kid": "hs"}), claims(), |_| Vec::new())),
        ("alg NONE", jws(json!({"alg": "nOnE"}), claims(), |_| Vec::new())),
        ("unknown kid", jws(json!({"alg": "HS256", "kid": "xs"}), claims(), by_secret(HS_SECRET))),
        ("no kid, several keys", jws(json!({"alg": "HS256"}), claims(), by_secret(HS_SECRET))),
        (
            "the public key as a secret",
            jws(json!({"alg": "HS256", "kid": "rs"}), claims(), by_secret(rsa_pem.as_bytes())),
        ),
        ("one key's algorithm for another", jws(json!({"alg": "RS256", "kid": "es"}), claims(), |m| keyed.by_rsa(m))),
        ("a signature cut short", good[..good.len() - 4].to_owned()),
        ("no signature", good[..=good.rfind('.').unwrap()].to_owned()),
        ("no token", "a.b.c".to_owned()),
        ("nothing", String::new()),
    ];
    let keys = [("an unknown key", "nobody", secret), ("a wrong secret", id, "wrong"), ("an empty secret", id, "")];
    let tried = |request: Value| {
        let mut client = Client::open(gateway.address);
        let answer = client.request(&request.to_string());
        (answer.text, client.drain())
    };
    let refused = |path: &str, header: (&str, &str)| {
        let refused = Client::upgrade(gateway.address, path, &[header]).err();
        refused.map(|Refused { status, body }| (status, body))
    };
    let (text, ended) =
        (r#"{"T":"error","code":402,"msg":"auth failed"}"#.to_owned(), (vec![], closed(3500, "auth failed")));
    let unauthorized = Some((401, r#"{"error":"INVALID_TOKEN","message":"the credentials are not valid"}"#.to_owned()));
    for (what, token) in &tokens {
        assert_eq!(tried(json!({"action": "auth", "token": token})), (text.clone(), ended.clone()), "{what}");
        assert_eq!(refused("/stream", ("Authorization", &format!("Bearer {token}"))), unauthorized, "{what}");
        assert_eq!(refused(&format!("/stream?token={token}"), ("X-Other", "1")), unauthorized, "{what}");
    }
    for (what, key, secret) in keys {
        assert_eq!(
            tried(json!({"action": "auth", "key": key, "secret": secret})),
            (text.clone(), ended.clone()),
            "{what}"
        );
        assert_eq!(refused("/stream", ("X-API-Key", &format!("{key}.{secret}"))), unauthorized, "{what}");
        let pair = STANDARD.encode(format!("{key}:{secret}"));
        assert_eq!(refused("/stream", ("Authorization", &format!("Basic {pair}"))), unauthorized, "{what}");
        assert_eq!(refused("/stream", ("APCA-API-KEY-ID", key)), unauthorized, "{what}");
    }
    for header in ["Basic !", "Digest x", "Bearer"] {
        assert_eq!(refused("/stream", ("Authorization", header)), unauthorized, "{header}");
    }
    // Each was counted, and the door still opens.
    let attempts = (tokens.len() * 3 + keys.len() * 4 + 3) as f64;
    assert_eq!(gateway.metric("gateway_sign_ins_refused_total"), attempts);
    let mut client = Client::open(gateway.address);
    client.authenticate(id, secret);
}

#[test]
fn a_session_ends_with_its_token() {
    let gateway = start(&[("entitlements.leeway", "0s"), ("feed.simulator.rate", "1000")]);
    let token = gateway.token("demo-premium", Duration::from_secs(4));
    let mut client = Client::with_token(gateway.address, &token);
    client.subscribe(r#"{"action":"subscribe","trades":["*"]}"#);
    // One that sends nothing and gets nothing is let go as well.
    let mut silent = Client::with_token(gateway.address, &token);
    let mut by_key = gateway.premium();
    let (messages, end) = client.drain();
    assert_eq!(end, closed(3503, "token expired"));
    let last = messages.last().unwrap();
    assert_eq!(last.text, r#"{"T":"error","code":430,"msg":"token expired"}"#);
    assert!(messages.iter().any(|m| m.kind() == "t"), "it was served until then");
    assert_eq!(silent.drain().1, closed(3503, "token expired"));
    let refused = Client::upgrade(gateway.address, &format!("/stream?token={token}"), &[]).err().unwrap();
    assert_eq!(refused.status, 401);
    by_key.subscribe(r#"{"action":"subscribe","trades":["BTC/USD"]}"#);
    gateway.await_metric("gateway_connections ", |live| live == 1.0);
}

#[test]
fn a_reload_lets_go_who_may_no_longer_be_here() {
    let files = Directory::new();
    let keys = ["stays", "goes", "blocked", "comes"].map(|name| (name, ApiKey::generate(None).unwrap()));
    let listed = |statuses: &[(usize, &str)]| -> String {
        statuses.iter().map(|(index, status)| user(keys[*index].0, status, &keys[*index].1)).collect()
    };
    let path = files.write("users.toml", listed(&[(0, "active"), (1, "active"), (2, "active")]));
    let gateway = start(&[("entitlements.users", &path), ("server.shards", "2")]);
    let sign_in = |index: usize| {
        let mut client = Client::open(gateway.address);
        let (_, key) = &keys[index];
        client.authenticate(key.id(), key.secret());
        client.subscribe(r#"{"action":"subscribe","trades":["BTC/USD"]}"#);
        client
    };
    let mut stays = sign_in(0);
    // Several, so that each shard has some.
    let mut going: Vec<Client> = [1, 1, 1, 1, 2, 2, 2, 2].map(sign_in).into();
    // A file that cannot be taken changes nothing.
    files.write("users.toml", "[[users]]\nid = 5\n");
    gateway.reload();
    let _ = sign_in(1);
    files.write("users.toml", listed(&[(0, "active"), (2, "blocked"), (3, "active")]));
    gateway.reload();
    for client in &mut going {
        assert_eq!(client.drain().1, closed(3504, "revoked"));
    }
    stays.subscribe(r#"{"action":"subscribe","trades":["ETH/USD"]}"#);
    sign_in(3);
    for index in [1, 2] {
        let mut client = Client::open(gateway.address);
        let (_, key) = &keys[index];
        let request = json!({"action": "auth", "key": key.id(), "secret": key.secret()});
        assert_eq!(client.request(&request.to_string()).number("code"), 402);
    }
}

#[test]
fn a_hangup_reads_the_users_again() {
    let files = Directory::new();
    let (stays, goes) = (ApiKey::generate(None).unwrap(), ApiKey::generate(None).unwrap());
    let path = files.write("users.toml", user("stays", "active", &stays) + &user("goes", "active", &goes));
    let mut gateway = program::spawn(&[("entitlements.users", &path)], &[]);
    let mut clients = [&stays, &goes].map(|key| {
        let mut client = Client::open(gateway.address);
        client.authenticate(key.id(), key.secret());
        client
    });
    files.write("users.toml", user("stays", "active", &stays));
    gateway.signal(Signal::HUP);
    assert_eq!(clients[1].drain(), (vec![], closed(3504, "revoked")));
    clients[0].subscribe(r#"{"action":"subscribe","trades":["BTC/USD"]}"#);
    wait_until("the gateway to be ready", || support::fetch(gateway.admin, "/readyz").0 == 200);
    gateway.signal(Signal::TERM);
    assert_eq!(clients[0].drain().1, closed(1001, "going away"));
    assert!(gateway.end().success());
}
