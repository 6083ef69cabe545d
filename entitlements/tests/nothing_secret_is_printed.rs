//! No `Debug` output holds a secret, so that none gets into a log by accident.

use std::fmt::Debug;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use entitlements::{
    Algorithm, ApiKey, Credentials, Door, Embedded, SecretHash, Tiers, TokenKey, TokenRules, Tokens, demo,
};
use futures_util::FutureExt;

#[track_caller]
fn check(value: &dyn Debug, secrets: &[&str]) {
    for printed in [format!("{value:?}"), format!("{value:#?}")] {
        assert!(!printed.is_empty());
        for secret in secrets {
            assert!(secret.len() > 8, "the test has a secret to look for");
            assert!(!printed.contains(secret), "{printed} holds {secret}");
            // A byte string would be printed as numbers.
            let numbers = format!("{:?}", secret.as_bytes());
            assert!(!printed.contains(numbers.trim_matches(['[', ']'])), "{printed} holds {secret} as numbers");
        }
    }
}

#[test]
fn debug_output_masks_secrets() {
    let key = ApiKey::generate(None).unwrap();
    let hash = key.hash().to_string();
    let hash_parts: Vec<&str> = hash.split(':').skip(1).collect();
    check(&key, &[key.secret(), hash_parts[0], hash_parts[1]]);
    check(key.hash(), &hash_parts);
    let parsed: SecretHash = hash.parse().unwrap();
    check(&parsed, &hash_parts);

    let secret = "an HS256 secret of thirty-two bytes, or more";
    let token_key = || TokenKey::new("k", Algorithm::HS256, secret.as_bytes()).unwrap();
    check(&token_key(), &[secret]);
    let tokens = Tokens::new(vec![token_key()], TokenRules::default()).unwrap();
    check(&tokens, &[secret]);
    let token = tokens.issue("demo-free", Duration::from_secs(60), 0).unwrap();

    check(&Credentials::Token(token.clone()), &[&token]);
    let credentials = Credentials::Key { key: key.id().into(), secret: key.secret().into() };
    check(&credentials, &[key.id(), key.secret()]);
    check(&vec![Some(credentials)], &[key.id(), key.secret()]);

    let demo = demo::users(&[1; 32]).unwrap();
    let secrets: Vec<String> = demo.credentials.iter().map(|user| user.secret().to_owned()).collect();
    let secrets: Vec<&str> = secrets.iter().map(String::as_str).collect();
    check(&demo, &secrets);
    check(&demo.credentials, &secrets);
    let door = Door::new(Arc::new(Embedded::of(demo.users)), tokens, Tiers::default());
    check(&door, &[&secrets[..], &[secret]].concat());
    let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
    for shown in [token.clone(), format!("{token}x")] {
        let signed_in = door.sign_in(&Credentials::Token(shown), address, 0).now_or_never().expect("no wait");
        check(&signed_in, &[&token, secret]);
    }
}
