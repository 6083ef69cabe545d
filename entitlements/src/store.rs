//! The embedded store: users and the hashes of their API secrets, read from one TOML file.
//!
//! [`Users`] is immutable. [`Embedded`] holds the current one and swaps it as a whole on reload, so a sign-in sees
//! either the old file or the new one. A file is taken whole or not at all: the first fault is reported with its
//! key, and the old users stay. The file is walked by hand rather than through serde, because serde's and the TOML
//! parser's messages quote the text they object to, and that may be a secret in the wrong place.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use toml::{Table, Value};

use crate::door::Refusal;
use crate::principal::{Categories, Category, Principal, Status, Tier, User};
use crate::secret::SecretHash;
use crate::tiers::Tiers;

/// Longest user id, in bytes.
const USER_ID_BYTES_MAX: usize = 128;
/// Longest id of an API key, in bytes.
const KEY_ID_BYTES_MAX: usize = 64;

/// What is wrong with a list of users.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UsersError {
    /// Not TOML at all.
    #[error("line {line}: {message}")]
    Syntax { line: usize, message: String },
    /// `key` is the full path, as in `users[2].keys[0].secret_hash`.
    #[error("{key}: {problem}")]
    Entry { key: String, problem: String },
}

/// Why the users file was not taken.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}: {source}", path.display())]
    Users { path: PathBuf, source: UsersError },
}

struct Key {
    hash: SecretHash,
    owner: Arc<Principal>,
}

/// All users and their keys, as of one reading of the file.
pub struct Users {
    principals: HashMap<Arc<str>, Arc<Principal>>,
    keys: HashMap<String, Key>,
}

impl Users {
    /// Reads the users file's text.
    ///
    /// # Errors
    /// [`UsersError`] names the first fault's line or key.
    pub fn parse(text: &str, tiers: &Tiers) -> Result<Users, UsersError> {
        let file: Table = text.parse().map_err(|error: toml::de::Error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            // The error's own Display would quote the line.
            UsersError::Syntax { line: before.matches('\n').count() + 1, message: error.message().to_owned() }
        })?;
        let file = Fields { path: String::new(), table: &file };
        file.allow(&["users"])?;
        let entries = file.tables("users")?;
        if entries.is_empty() {
            return Err(file.error("users", "at least one user is needed"));
        }
        let mut users = Users { principals: HashMap::new(), keys: HashMap::new() };
        for entry in entries {
            entry.allow(&["id", "tier", "status", "categories", "real_time", "connections", "channels", "keys"])?;
            let user = entry.user()?;
            let owner = users
                .add(&user, tiers)
                .ok_or_else(|| entry.error("id", format!("the user {:?} is listed twice", user.id)))?;
            for key in entry.tables("keys")? {
                key.allow(&["id", "secret_hash"])?;
                let id = key.id("id", KEY_ID_BYTES_MAX, |b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))?;
                let hash = key.required(key.text("secret_hash")?, "secret_hash")?;
                let hash = hash.parse().map_err(|error| key.error("secret_hash", error))?;
                if !users.add_key(id, hash, &owner) {
                    return Err(key.error("id", format!("the key {id:?} is listed twice")));
                }
            }
        }
        Ok(users)
    }

    /// Users made by the program: each with its keys' ids and hashes. Of users and keys listed twice the first wins.
    pub fn of(users: impl IntoIterator<Item = (User, Vec<(String, SecretHash)>)>, tiers: &Tiers) -> Users {
        let mut all = Users { principals: HashMap::new(), keys: HashMap::new() };
        for (user, keys) in users {
            if let Some(owner) = all.add(&user, tiers) {
                for (id, hash) in keys {
                    all.add_key(&id, hash, &owner);
                }
            }
        }
        all
    }

    /// `None` where the user is known already.
    fn add(&mut self, user: &User, tiers: &Tiers) -> Option<Arc<Principal>> {
        if self.principals.contains_key(&user.id) {
            return None;
        }
        let principal = Arc::new(Principal::new(user, tiers));
        self.principals.insert(user.id.clone(), principal.clone());
        Some(principal)
    }

    /// `false` where the key is known already.
    fn add_key(&mut self, id: &str, hash: SecretHash, owner: &Arc<Principal>) -> bool {
        if self.keys.contains_key(id) {
            return false;
        }
        self.keys.insert(id.to_owned(), Key { hash, owner: owner.clone() }).is_none()
    }

    /// The principal of a user.
    pub fn principal(&self, user: &str) -> Option<&Arc<Principal>> {
        self.principals.get(user)
    }

    /// How many users there are.
    pub fn len(&self) -> usize {
        self.principals.len()
    }

    pub fn is_empty(&self) -> bool {
        self.principals.is_empty()
    }

    /// The owner of an API key, if `secret` is its secret.
    pub(crate) fn by_key(&self, key: &str, secret: &str) -> Result<&Arc<Principal>, Refusal> {
        static NOBODY: SecretHash = SecretHash::of_nothing();
        let known = self.keys.get(key);
        // An unknown key costs one hash too, so that time does not tell which keys exist.
        let matches = known.map_or(&NOBODY, |key| &key.hash).matches(secret);
        match known {
            Some(key) if matches => Ok(&key.owner),
            Some(_) => Err(Refusal::WrongSecret),
            None => Err(Refusal::UnknownKey),
        }
    }
}

/// The current users, and where they came from.
pub struct Embedded {
    current: ArcSwap<Users>,
    file: Option<(PathBuf, Tiers)>,
}

impl Embedded {
    /// Reads the users file at `path`.
    ///
    /// # Errors
    /// [`StoreError`] where the file cannot be read or anything in it is wrong.
    pub fn open(path: &Path, tiers: &Tiers) -> Result<Embedded, StoreError> {
        let users = read(path, tiers)?;
        Ok(Embedded { current: ArcSwap::from_pointee(users), file: Some((path.to_owned(), *tiers)) })
    }

    /// A store without a file.
    pub fn of(users: Users) -> Embedded {
        Embedded { current: ArcSwap::from_pointee(users), file: None }
    }

    /// The users as of now. Sign-ins under way keep the ones they took.
    pub fn users(&self) -> Arc<Users> {
        self.current.load_full()
    }

    /// Reads the file again and swaps the users; returns the new ones. Without a file nothing changes. Principals
    /// that sessions hold stay as they are.
    ///
    /// # Errors
    /// [`StoreError`]; the old users stay.
    pub fn reload(&self) -> Result<Arc<Users>, StoreError> {
        if let Some((path, tiers)) = &self.file {
            self.current.store(Arc::new(read(path, tiers)?));
        }
        Ok(self.users())
    }
}

fn read(path: &Path, tiers: &Tiers) -> Result<Users, StoreError> {
    let text = std::fs::read_to_string(path).map_err(|source| StoreError::Read { path: path.to_owned(), source })?;
    Users::parse(&text, tiers).map_err(|source| StoreError::Users { path: path.to_owned(), source })
}

impl std::fmt::Debug for Users {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Users({} users, {} keys)", self.principals.len(), self.keys.len())
    }
}

impl std::fmt::Debug for Embedded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Embedded").field("users", &self.current).field("file", &self.file).finish()
    }
}

/// One table of the file and its path, so that every fault names its key.
struct Fields<'t> {
    /// Empty for the file itself.
    path: String,
    table: &'t Table,
}

impl<'t> Fields<'t> {
    fn path_of(&self, key: &str) -> String {
        let dot = if self.path.is_empty() { "" } else { "." };
        format!("{}{dot}{key}", self.path)
    }

    fn error(&self, key: &str, problem: impl ToString) -> UsersError {
        UsersError::Entry { key: self.path_of(key), problem: problem.to_string() }
    }

    fn allow(&self, keys: &[&str]) -> Result<(), UsersError> {
        match self.table.keys().find(|key| !keys.contains(&key.as_str())) {
            Some(unknown) => Err(self.error(unknown, format!("unknown key, expected one of {}", keys.join(", ")))),
            None => Ok(()),
        }
    }

    fn required<T>(&self, value: Option<T>, key: &str) -> Result<T, UsersError> {
        value.ok_or_else(|| self.error(key, "is missing"))
    }

    /// The value at `key` in the form that `read` wants it.
    fn value<T>(
        &self,
        key: &str,
        expected: &str,
        read: impl FnOnce(&'t Value) -> Option<T>,
    ) -> Result<Option<T>, UsersError> {
        let Some(value) = self.table.get(key) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| self.error(key, format!("expected {expected}")))
    }

    fn text(&self, key: &str) -> Result<Option<&'t str>, UsersError> {
        self.value(key, "a string", Value::as_str)
    }

    fn limit(&self, key: &str) -> Result<Option<u32>, UsersError> {
        let at_least_one = |value: &Value| u32::try_from(value.as_integer()?).ok().filter(|limit| *limit > 0);
        self.value(key, "a whole number of at least 1", at_least_one)
    }

    fn tables(&self, key: &str) -> Result<Vec<Fields<'t>>, UsersError> {
        let tables = |value: &'t Value| value.as_array()?.iter().map(Value::as_table).collect::<Option<Vec<_>>>();
        let tables = self.value(key, &format!("a list of tables, as in [[{key}]]"), tables)?.unwrap_or_default();
        let path = |n| format!("{}[{n}]", self.path_of(key));
        Ok(tables.into_iter().enumerate().map(|(n, table)| Fields { path: path(n), table }).collect())
    }

    /// A required text of 1 to `bytes_max` bytes that are all `allowed`.
    fn id(&self, key: &str, bytes_max: usize, allowed: impl Fn(u8) -> bool) -> Result<&'t str, UsersError> {
        let id = self.required(self.text(key)?, key)?;
        if id.is_empty() || id.len() > bytes_max || !id.bytes().all(allowed) {
            let problem = format!("expected 1 to {bytes_max} letters, digits and signs, without spaces");
            return Err(self.error(key, problem));
        }
        Ok(id)
    }

    fn user(&self) -> Result<User, UsersError> {
        let tier = self.value("tier", "one of free, premium, enterprise", |v| Tier::from_name(v.as_str()?))?;
        let statuses = "one of active, cancelled, expired, paused, blocked";
        let status = self.value("status", statuses, |v| Status::from_name(v.as_str()?))?;
        let categories = self.value("categories", "a list of equity, forex, crypto, commodity", |value| {
            let named = |value: &Value| Category::from_name(value.as_str()?);
            value.as_array()?.iter().try_fold(Categories::NONE, |all, value| Some(all.with(named(value)?)))
        })?;
        Ok(User {
            id: self.id("id", USER_ID_BYTES_MAX, |b| b.is_ascii_graphic())?.into(),
            tier: self.required(tier, "tier")?,
            status: status.unwrap_or(Status::Active),
            categories: self.required(categories, "categories")?,
            real_time: self.value("real_time", "true or false", Value::as_bool)?,
            connections: self.limit("connections")?,
            channels: self.limit("channels")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::Freshness;

    const HASH: &str = "sha256:00112233445566778899aabbccddeeff:\
        2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

    /// Two users; the faults below are put in the second.
    fn file(tier: &str, rest: &str) -> String {
        format!(
            "[[users]]\nid = \"alice\"\ntier = \"free\"\ncategories = []\n\
             [[users.keys]]\nid = \"AK1\"\nsecret_hash = \"{HASH}\"\n\
             [[users]]\nid = \"bob@example.org\"\ntier = \"{tier}\"\n{rest}\n"
        )
    }

    #[track_caller]
    fn check(text: &str, error: &str) {
        match Users::parse(text, &Tiers::default()) {
            Ok(users) => panic!("taken: {users:?}"),
            Err(refused) => assert_eq!(refused.to_string(), error, "{text}"),
        }
    }

    #[test]
    fn every_fault_names_its_key() {
        let categories = "categories = [\"crypto\"]";
        check(&file("gold", categories), "users[1].tier: expected one of free, premium, enterprise");
        check(&file("premium", ""), "users[1].categories: is missing");
        let list = "users[1].categories: expected a list of equity, forex, crypto, commodity";
        check(&file("premium", "categories = \"crypto\""), list);
        check(&file("premium", "categories = [\"crypto\", \"bonds\"]"), list);
        let with = |line: &str| file("premium", &format!("{categories}\n{line}"));
        let statuses = "users[1].status: expected one of active, cancelled, expired, paused, blocked";
        check(&with("status = \"Active\""), statuses);
        check(&with("real_time = \"yes\""), "users[1].real_time: expected true or false");
        for bad in ["0", "-1", "4294967296", "1.5", "\"many\""] {
            let limit = format!("connections = {bad}");
            check(&with(&limit), "users[1].connections: expected a whole number of at least 1");
        }
        check(&with("channels = 0"), "users[1].channels: expected a whole number of at least 1");
        let keys = "unknown key, expected one of id, tier, status, categories, real_time, connections, channels, keys";
        check(&with("realtime = true"), &format!("users[1].realtime: {keys}"));
        check(&with("keys = 1"), "users[1].keys: expected a list of tables, as in [[keys]]");
        let key = |lines: &str| with(&format!("[[users.keys]]\n{lines}"));
        check(&key("id = \"AK2\""), "users[1].keys[0].secret_hash: is missing");
        check(&key(&format!("secret_hash = \"{HASH}\"")), "users[1].keys[0].id: is missing");
        for bad in ["", "a b", "a.b", "a:b", &"a".repeat(65)] {
            let lines = format!("id = \"{bad}\"\nsecret_hash = \"{HASH}\"");
            let problem = "users[1].keys[0].id: expected 1 to 64 letters, digits and signs, without spaces";
            check(&key(&lines), problem);
        }
        let twice = format!("id = \"AK1\"\nsecret_hash = \"{HASH}\"");
        check(&key(&twice), "users[1].keys[0].id: the key \"AK1\" is listed twice");
        let unknown = "users[1].keys[0].secret: unknown key, expected one of id, secret_hash";
        check(&key("id = \"AK2\"\nsecret = \"hunter2\""), unknown);
        let user = "[[users]]\nid = \"alice\"\ntier = \"free\"\ncategories = []\n";
        check(&user.repeat(2), "users[1].id: the user \"alice\" is listed twice");
        check(&user.replace("alice", ""), "users[0].id: expected 1 to 128 letters, digits and signs, without spaces");
        check(&user.replace("id = \"alice\"", "id = 7"), "users[0].id: expected a string");
        check("", "users: at least one user is needed");
        check("users = []", "users: at least one user is needed");
        check("users = 3", "users: expected a list of tables, as in [[users]]");
        check("users = [3]", "users: expected a list of tables, as in [[users]]");
        check(&format!("tiers = 1\n{user}"), "tiers: unknown key, expected one of users");
    }

    #[test]
    fn text_that_is_not_toml_names_its_line_and_is_not_repeated() {
        let text = file("free", "categories = []\nsecret = hunter2");
        let refused = Users::parse(&text, &Tiers::default()).map(drop).unwrap_err();
        let UsersError::Syntax { line, .. } = refused else { panic!("{refused:?}") };
        assert_eq!(line, text.lines().count());
        assert!(!format!("{refused} {refused:?}").contains("hunter2"), "{refused:?}");
    }

    #[test]
    fn a_secret_in_place_of_its_hash_is_not_repeated() {
        let text = file("free", "categories = []\n[[users.keys]]\nid = \"AK2\"\nsecret_hash = \"hunter2\"");
        let refused = Users::parse(&text, &Tiers::default()).map(drop).unwrap_err();
        assert!(refused.to_string().starts_with("users[1].keys[0].secret_hash: expected sha256:"), "{refused}");
        assert!(!format!("{refused} {refused:?}").contains("hunter2"), "{refused:?}");
    }

    #[test]
    fn reads_all_that_a_user_may_have() {
        let rest = "status = \"active\"\ncategories = [\"crypto\", \"commodity\"]\nreal_time = false\n\
                    connections = 7\nchannels = 9";
        let users = Users::parse(&file("premium", rest), &Tiers::default()).unwrap();
        assert_eq!(users.len(), 2);
        let bob = users.principal("bob@example.org").unwrap();
        assert_eq!((bob.tier(), bob.status(), bob.freshness()), (Tier::Premium, Status::Active, Freshness::Delayed));
        assert_eq!((bob.limits().connections, bob.limits().channels), (7, 9));
        let categories: Vec<&str> = bob.categories().iter().map(Category::name).collect();
        assert_eq!(categories, ["crypto", "commodity"]);
        assert!(users.principal("carol").is_none());
    }

    #[test]
    fn keys_open_for_their_secret_alone() {
        let hash = SecretHash::of("open sesame").unwrap();
        let text = file("free", &format!("categories = []\n[[users.keys]]\nid = \"AK2\"\nsecret_hash = \"{hash}\""));
        let users = Users::parse(&text, &Tiers::default()).unwrap();
        let owner = |key: &str, secret: &str| users.by_key(key, secret).map(|owner| owner.user().to_string());
        assert_eq!(owner("AK2", "open sesame"), Ok("bob@example.org".to_owned()));
        assert_eq!(owner("AK1", "open sesame"), Err(Refusal::WrongSecret));
        assert_eq!(owner("AK2", "open sesam"), Err(Refusal::WrongSecret));
        assert_eq!(owner("AK2", ""), Err(Refusal::WrongSecret));
        assert_eq!(owner("AK2", &hash.to_string()), Err(Refusal::WrongSecret));
        assert_eq!(owner("AK3", "open sesame"), Err(Refusal::UnknownKey));
        assert_eq!(owner("", ""), Err(Refusal::UnknownKey));
    }
}
