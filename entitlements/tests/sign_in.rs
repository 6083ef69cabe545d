//! Signing in by key and by token, reloading the users file while signing in, and the demo users.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use entitlements::demo::{self, Demo};
use entitlements::{
    Algorithm, ApiKey, Credential, Credentials, Door, Embedded, IssueError, Principal, Refusal, SignInError, Status,
    Tier, Tiers, TokenHashes, TokenKey, TokenRules, Tokens,
};
use futures_util::FutureExt;
use protocol::Freshness;

const NOW: i64 = 1_763_654_400;

/// A users file of its own for each test.
struct UsersFile(PathBuf);

impl UsersFile {
    fn new(test: &str, text: &str) -> UsersFile {
        let file =
            UsersFile(PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{test}-{}.toml", std::process::id())));
        file.write(text);
        file
    }

    fn write(&self, text: &str) {
        std::fs::write(&self.0, text).unwrap();
    }
}

impl Drop for UsersFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn tokens() -> Tokens {
    let key = TokenKey::new("k", Algorithm::HS256, &[7; 32]).unwrap();
    Tokens::new(vec![key], TokenRules::default()).unwrap()
}

fn door(store: &Arc<Embedded>) -> Door {
    Door::new(store.clone(), tokens(), Tiers::default())
}

/// The embedded store answers at once.
fn sign_in(door: &Door, credentials: &Credentials, now: i64) -> Result<Arc<Principal>, SignInError> {
    door.sign_in(credentials, IpAddr::V4(Ipv4Addr::LOCALHOST), now).now_or_never().expect("no wait")
}

fn issue(door: &Door, user: &str, ttl: Duration, now: i64) -> Result<String, IssueError> {
    door.issue(user, ttl, now).now_or_never().expect("no wait")
}

fn user(id: &str, tier: &str, status: &str, key: &ApiKey) -> String {
    format!(
        "[[users]]\nid = \"{id}\"\ntier = \"{tier}\"\nstatus = \"{status}\"\ncategories = [\"crypto\"]\n{}\n",
        key.to_toml()
    )
}

fn by_key(key: &ApiKey) -> Credentials {
    Credentials::Key { key: key.id().into(), secret: key.secret().into() }
}

fn refusal(result: Result<Arc<Principal>, SignInError>) -> Refusal {
    result.unwrap_err().reason()
}

#[test]
fn by_key_a_sign_in_has_no_end_and_by_token_it_has() {
    let key = ApiKey::generate(None).unwrap();
    let file = UsersFile::new("one_principal", &user("alice", "premium", "active", &key));
    let store = Arc::new(Embedded::open(&file.0).unwrap());
    let door = door(&store);

    let (one, two) = (sign_in(&door, &by_key(&key), NOW).unwrap(), sign_in(&door, &by_key(&key), NOW).unwrap());
    assert_eq!(one, two);
    assert_eq!((&**one.user(), one.tier(), one.freshness()), ("alice", Tier::Premium, Freshness::RealTime));
    assert_eq!(one.expires_at(), None);

    let token = Credentials::Token(issue(&door, "alice", Duration::from_secs(60), NOW).unwrap());
    let three = sign_in(&door, &token, NOW).unwrap();
    assert_eq!(three.expires_at(), Some(NOW + 65));
    let Credentials::Token(text) = &token else { unreachable!("made above") };
    assert_eq!(*three, one.until(NOW + 65).by(Credential::Token(TokenHashes::of(text))));
    assert_eq!(refusal(sign_in(&door, &token, NOW + 65)), Refusal::TokenExpired);
}

#[test]
fn every_refusal_looks_the_same() {
    let (alice, blocked) = (ApiKey::generate(None).unwrap(), ApiKey::generate(None).unwrap());
    let text = user("alice", "premium", "paused", &alice) + &user("mallory", "enterprise", "blocked", &blocked);
    let file = UsersFile::new("refusals", &text);
    let store = Arc::new(Embedded::open(&file.0).unwrap());
    let door = door(&store);
    let foreign = Credentials::Token(tokens().issue("nobody", Duration::from_secs(60), NOW).unwrap());
    let blocked_token = Credentials::Token(issue(&door, "mallory", Duration::from_secs(60), NOW).unwrap());
    let key = |key: &str, secret: &str| Credentials::Key { key: key.into(), secret: secret.into() };
    for (credentials, reason) in [
        (key("AK0", alice.secret()), Refusal::UnknownKey),
        (key(alice.id(), blocked.secret()), Refusal::WrongSecret),
        (key("", ""), Refusal::UnknownKey),
        (by_key(&blocked), Refusal::Blocked),
        (blocked_token, Refusal::Blocked),
        (foreign, Refusal::UnknownUser),
        (Credentials::Token(String::new()), Refusal::TokenMalformed),
        (Credentials::Token(alice.secret().into()), Refusal::TokenMalformed),
    ] {
        let refused = sign_in(&door, &credentials, NOW).unwrap_err();
        assert_eq!((refused.reason(), refused.to_string().as_str()), (reason, "authentication failed"));
    }
    let paused = sign_in(&door, &by_key(&alice), NOW).unwrap();
    assert_eq!((paused.tier(), paused.status(), paused.freshness()), (Tier::Free, Status::Paused, Freshness::Delayed));
    assert_eq!(
        issue(&door, "nobody", Duration::from_secs(60), NOW),
        Err(IssueError::UnknownUser { user: "nobody".into() })
    );
}

#[test]
fn labels_are_distinct() {
    let names: std::collections::HashSet<_> = Refusal::ALL.iter().map(|refusal| refusal.name()).collect();
    assert_eq!(names.len(), Refusal::COUNT);
    assert!(Refusal::ALL.iter().enumerate().all(|(index, refusal)| *refusal as usize == index));
}

#[test]
fn a_reload_takes_a_good_file_whole_and_a_bad_one_not_at_all() {
    let (alice, bob) = (ApiKey::generate(None).unwrap(), ApiKey::generate(None).unwrap());
    let file = UsersFile::new("reload", &user("alice", "free", "active", &alice));
    let store = Arc::new(Embedded::open(&file.0).unwrap());
    let door = door(&store);
    let before = sign_in(&door, &by_key(&alice), NOW).unwrap();
    assert_eq!(refusal(sign_in(&door, &by_key(&bob), NOW)), Refusal::UnknownKey);

    let good = user("bob", "premium", "active", &bob);
    for (bad, names) in [
        (good.replace("premium", "gold") + &user("alice", "premium", "active", &alice), "users[0].tier"),
        (good.clone() + "[[users]]\nid = \"carol\"\ntier = \"free\"\n", "users[1].categories"),
        (good.replace("sha256:", "md5:"), "users[0].keys[0].secret_hash"),
        (good.replace("[[users]]", "[[users]"), "line 1"),
        (String::new(), "users: at least one user"),
    ] {
        file.write(&bad);
        let error = store.reload().unwrap_err().to_string();
        assert!(error.starts_with(&format!("{}: {names}", file.0.display())), "{error}");
        assert_eq!(sign_in(&door, &by_key(&alice), NOW).unwrap(), before);
        assert_eq!(refusal(sign_in(&door, &by_key(&bob), NOW)), Refusal::UnknownKey);
    }
    std::fs::remove_file(&file.0).unwrap();
    let error = store.reload().unwrap_err().to_string();
    assert!(error.starts_with(&file.0.display().to_string()), "{error}");
    std::fs::write(&file.0, b"\xff\xfe").unwrap();
    assert!(store.reload().is_err());
    assert!(sign_in(&door, &by_key(&alice), NOW).is_ok());

    file.write(&good);
    assert_eq!(store.reload().unwrap().len(), 1);
    assert_eq!(sign_in(&door, &by_key(&bob), NOW).unwrap().tier(), Tier::Premium);
    assert_eq!(refusal(sign_in(&door, &by_key(&alice), NOW)), Refusal::UnknownKey);
    assert_eq!(before.tier(), Tier::Free, "a live session keeps what it holds");
}

#[test]
fn a_missing_file_is_named() {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("no-such-users.toml");
    let error = Embedded::open(&path).unwrap_err().to_string();
    assert!(error.starts_with(&path.display().to_string()), "{error}");
}

fn demo_door(master: u8) -> (Door, Vec<(String, Credentials)>) {
    let Demo { users, credentials, token_key } = demo::users(&[master; 32]).unwrap();
    let tokens = Tokens::new(vec![token_key], TokenRules::default()).unwrap();
    let keys = credentials
        .iter()
        .map(|user| (user.id().to_owned(), Credentials::Key { key: user.id().into(), secret: user.secret().into() }));
    (Door::new(Arc::new(Embedded::of(users)), tokens, Tiers::default()), keys.collect())
}

#[test]
fn demo_users_are_the_same_wherever_the_master_secret_is() {
    let ((first, credentials), (again, _), (other, _)) = (demo_door(1), demo_door(1), demo_door(2));
    let ids: Vec<&str> = credentials.iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!(ids, ["demo-free", "demo-premium", "demo-enterprise"]);
    for ((id, key), tier) in credentials.iter().zip(Tier::ALL) {
        let token = Credentials::Token(issue(&first, id, Duration::from_secs(60), NOW).unwrap());
        for shown in [key, &token] {
            for door in [&first, &again] {
                let principal = sign_in(door, shown, NOW).unwrap();
                assert_eq!((&**principal.user(), principal.tier()), (id.as_str(), tier));
            }
        }
        assert_eq!(refusal(sign_in(&other, key, NOW)), Refusal::WrongSecret);
        assert_eq!(refusal(sign_in(&other, &token, NOW)), Refusal::TokenSignature);
    }
}
