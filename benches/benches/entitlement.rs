//! What does it cost to ask who may have what?
//!
//! - `decide`: ours (bit tests on a principal whose rights were worked out at sign-in) for an exact channel, for `*`,
//!   and refused, against what one would start with, a set of permitted channels for each user:
//!   `HashMap<String, HashSet<String>>`, where `*` is one more entry.
//! - `sign_in`: by API key (salted SHA-256) and by HS256 token, among 10,000 users; the token against `jsonwebtoken`
//!   alone, which does not know the user.

use std::collections::{HashMap, HashSet};
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use benches::principal;
use criterion::{Criterion, criterion_group, criterion_main};
use entitlements::{
    Algorithm, Credentials, Door, Embedded, SecretHash, Tier, Tiers, TokenKey, TokenRules, Tokens, User, Users, decide,
};
use futures_util::FutureExt;
use jsonwebtoken::{DecodingKey, Validation};
use protocol::{AssetClass, Channel, ChannelKind, InstrumentId, Selector};

const NOW: i64 = 1_763_654_400;
const USERS: usize = 10_000;
const TOKEN_SECRET: [u8; 32] = [7; 32];

fn permitted(map: &HashMap<String, HashSet<String>>, user: &str, channel: &str) -> bool {
    map.get(user).is_some_and(|channels| channels.contains(channel) || channels.contains("trades.*"))
}

fn decisions(c: &mut Criterion) {
    let mut group = c.benchmark_group("entitlement/decide");
    let (enterprise, free) = (principal(Tier::Enterprise), principal(Tier::Free));
    let exact = Channel { kind: ChannelKind::Trades, selector: Selector::One(InstrumentId(3)) };
    let all = Channel { kind: ChannelKind::Trades, selector: Selector::All };
    for (name, principal, channel, asset, allowed) in [
        ("ours/exact", &enterprise, exact, Some(AssetClass::Crypto), true),
        ("ours/wildcard", &enterprise, all, None, true),
        ("ours/refused", &free, all, None, false),
    ] {
        assert_eq!(decide(principal, channel, asset, NOW).is_ok(), allowed, "{name}");
        group.bench_function(name, |b| {
            b.iter(|| decide(black_box(principal), black_box(channel), black_box(asset), black_box(NOW)));
        });
    }

    let channels: HashSet<String> = (0..500).map(|i| format!("trades.S{i:05}/USD")).collect();
    let mut map: HashMap<String, HashSet<String>> =
        (0..1_000).map(|i| (format!("user-{i}"), channels.clone())).collect();
    map.insert("user-all".into(), HashSet::from(["trades.*".into()]));
    for (name, user, channel, allowed) in [
        ("map_of_sets/exact", "user-500", "trades.S00003/USD", true),
        ("map_of_sets/wildcard", "user-all", "trades.S00003/USD", true),
        ("map_of_sets/refused", "user-500", "trades.S99999/USD", false),
    ] {
        assert_eq!(permitted(&map, user, channel), allowed, "{name}");
        group.bench_function(name, |b| b.iter(|| permitted(&map, black_box(user), black_box(channel))));
    }
    group.finish();
}

fn sign_in(c: &mut Criterion) {
    let secret = |user: usize| format!("secret-of-64-hex-digits-{user:040}");
    let users = (0..USERS).map(|index| {
        let user = User::new(&format!("user-{index}"), Tier::Premium);
        (user, vec![(format!("key-{index}"), SecretHash::of(&secret(index), None).expect("the system has randomness"))])
    });
    let store = Arc::new(Embedded::of(Users::of(users)));
    let key = TokenKey::new("k", Algorithm::HS256, &TOKEN_SECRET).expect("a strong key");
    let tokens = Tokens::new(vec![key], TokenRules::default()).expect("one key");
    let door = Door::new(store, tokens, Tiers::default());
    let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
    // The embedded store answers at once.
    let sign_in = |credentials: &Credentials| door.sign_in(credentials, address, NOW).now_or_never().expect("no wait");

    let mut group = c.benchmark_group("entitlement/sign_in");
    let token = door.tokens().issue("user-5000", Duration::from_secs(3_600), NOW).expect("a signing key");
    for (name, credentials) in [
        ("ours/key", Credentials::Key { key: "key-5000".into(), secret: secret(5_000) }),
        ("ours/token", Credentials::Token(token.clone())),
    ] {
        assert!(sign_in(&credentials).is_ok(), "{name}");
        group.bench_function(name, |b| b.iter(|| sign_in(black_box(&credentials))));
    }
    let wrong = Credentials::Key { key: "key-5000".into(), secret: secret(5_001) };
    assert!(sign_in(&wrong).is_err());
    group.bench_function("ours/wrong_secret", |b| b.iter(|| sign_in(black_box(&wrong))));

    #[derive(serde::Deserialize)]
    struct Claims {
        sub: String,
        exp: i64,
    }
    let key = DecodingKey::from_secret(&TOKEN_SECRET);
    let mut validation = Validation::new(jsonwebtoken::Algorithm::HS256);
    // The bench's clock stands still, the library's does not.
    validation.validate_exp = false;
    let verify = |token: &str| {
        let claims = jsonwebtoken::decode::<Claims>(token, &key, &validation).expect("a good token").claims;
        (claims.sub, claims.exp > NOW)
    };
    assert_eq!(verify(&token), ("user-5000".to_owned(), true));
    group.bench_function("jsonwebtoken/token", |b| b.iter(|| verify(black_box(&token))));
    group.finish();
}

criterion_group!(benches, decisions, sign_in);
criterion_main!(benches);
