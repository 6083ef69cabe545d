//! The embedded store: users and the hashes of their API secrets from one TOML file; what is counted, in this process.
//!
//! [`Users`] is immutable. [`Embedded`] holds the current one and swaps it as a whole on reload, so a sign-in sees
//! either the old file or the new one. A file is taken whole or not at all: the first fault is reported with its
//! key, and the old users stay. The file is walked by hand rather than through serde, because serde's and the TOML
//! parser's messages quote the text they object to, and that may be a secret in the wrong place.
//!
//! Deliberately absent: counting connections across nodes and registering sessions. One process has its
//! [`Connections`](crate::Connections).

use std::collections::{HashMap, HashSet};
use std::future::ready;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use toml::{Table, Value};

use super::{Answer, ConnectionsExceeded, Health, SessionRecord, Store, StoreError, UserLookup};
use crate::address::{AddressBlocks, parse_network};
use crate::api_key::{ApiKeyRecord, KEY_PREFIX_BYTES_MAX, SecretHash};
use crate::limits::{Charge, Limiter, Verdict};
use crate::principal::{Categories, Category, Status, Tier, USER_ID_BYTES_MAX, User, is_user_id};
use crate::tiers::Kinds;
use crate::token::{TokenHash, TokenHashes};

/// Longest name in a certificate, in bytes.
const CERTIFICATE_NAME_BYTES_MAX: usize = 512;

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
pub enum EmbeddedError {
    #[error("{}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}: {source}", path.display())]
    Users { path: PathBuf, source: UsersError },
}

/// All users and their keys, denied tokens and blocked addresses, as of one reading of the file.
#[derive(Default)]
pub struct Users {
    users: HashMap<Arc<str>, User>,
    keys: HashMap<String, ApiKeyRecord>,
    certificates: HashMap<String, Arc<str>>,
    denied: HashSet<TokenHash>,
    blocks: Arc<AddressBlocks>,
}

impl Users {
    /// Reads the users file's text.
    ///
    /// # Errors
    /// [`UsersError`] names the first fault's line or key.
    pub fn parse(text: &str) -> Result<Users, UsersError> {
        let file: Table = text.parse().map_err(|error: toml::de::Error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            // The error's own Display would quote the line.
            UsersError::Syntax { line: before.matches('\n').count() + 1, message: error.message().to_owned() }
        })?;
        let file = Fields { path: String::new(), table: &file };
        file.allow(&["users", "denied_tokens", "blocked"])?;
        let entries = file.tables("users")?;
        if entries.is_empty() {
            return Err(file.error("users", "at least one user is needed"));
        }
        let mut users = Users::default();
        for entry in entries {
            users.read_user(&entry)?;
        }
        for hash in file.texts("denied_tokens")? {
            let expected = || file.error("denied_tokens", "expected the SHA-256 of tokens in hexadecimal digits");
            users.denied.insert(TokenHash::from_hex(hash).ok_or_else(expected)?);
        }
        let mut blocks = Vec::new();
        for entry in file.tables("blocked")? {
            entry.allow(&["address", "reason"])?;
            let address = entry.required(entry.text("address")?, "address")?;
            let network = parse_network(address).map_err(|error| entry.error("address", error))?;
            blocks.push((network, entry.text("reason")?.unwrap_or_default().into()));
        }
        users.blocks = Arc::new(AddressBlocks::new(blocks));
        Ok(users)
    }

    fn read_user(&mut self, entry: &Fields<'_>) -> Result<(), UsersError> {
        let keys = [
            "id",
            "tier",
            "status",
            "categories",
            "real_time",
            "connections",
            "channels",
            "signals_per_day",
            "certificates",
            "keys",
        ];
        entry.allow(&keys)?;
        let user = entry.user()?;
        let id = user.id.clone();
        if self.users.insert(id.clone(), user).is_some() {
            return Err(entry.error("id", format!("the user {id:?} is listed twice")));
        }
        for name in entry.texts("certificates")? {
            if name.is_empty() || name.len() > CERTIFICATE_NAME_BYTES_MAX {
                return Err(entry.error("certificates", format!("a name has 1 to {CERTIFICATE_NAME_BYTES_MAX} bytes")));
            }
            if self.certificates.insert(name.to_owned(), id.clone()).is_some() {
                return Err(entry.error("certificates", format!("{name:?} is listed twice")));
            }
        }
        for key in entry.tables("keys")? {
            key.allow(&["id", "secret_hash", "scopes", "expires_at"])?;
            let prefix = key.id("id", KEY_PREFIX_BYTES_MAX, crate::api_key::is_key_prefix)?;
            let hash = key.required(key.text("secret_hash")?, "secret_hash")?;
            let hash = hash.parse().map_err(|error| key.error("secret_hash", error))?;
            let scope = key.value("scopes", "a list of channels", |value| value.clone().try_into::<Kinds>().ok())?;
            let expires_at =
                key.value("expires_at", "a time with a zone, such as 2027-01-31T00:00:00Z", unix_seconds)?;
            let record = ApiKeyRecord { user: id.clone(), hash, scope: scope.unwrap_or(Kinds::ALL), expires_at };
            if self.keys.insert(prefix.to_owned(), record).is_some() {
                return Err(key.error("id", format!("the key {prefix:?} is listed twice")));
            }
        }
        Ok(())
    }

    /// Users made by the program: each with its keys' prefixes and hashes. Of users and keys listed twice the last wins.
    pub fn of(users: impl IntoIterator<Item = (User, Vec<(String, SecretHash)>)>) -> Users {
        let mut all = Users::default();
        for (user, keys) in users {
            for (prefix, hash) in keys {
                let record = ApiKeyRecord { user: user.id.clone(), hash, scope: Kinds::ALL, expires_at: None };
                all.keys.insert(prefix, record);
            }
            all.users.insert(user.id.clone(), user);
        }
        all
    }

    /// The record of a user.
    pub fn user(&self, id: &str) -> Option<&User> {
        self.users.get(id)
    }

    /// How many users there are.
    pub fn len(&self) -> usize {
        self.users.len()
    }

    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// Whether a token is denied.
    pub fn denies(&self, token: &TokenHash) -> bool {
        self.denied.contains(token)
    }

    /// The tokens that are denied.
    pub fn denied(&self) -> impl Iterator<Item = TokenHash> + '_ {
        self.denied.iter().copied()
    }

    /// The prefixes of API keys, and the version of each one's record.
    pub fn keys(&self) -> impl Iterator<Item = (&str, u64)> {
        self.keys.iter().map(|(prefix, record)| (prefix.as_str(), record.version()))
    }

    /// The version of an API key's record.
    pub fn key_version(&self, prefix: &str) -> Option<u64> {
        self.keys.get(prefix).map(ApiKeyRecord::version)
    }

    /// The addresses that are blocked.
    pub fn blocks(&self) -> &Arc<AddressBlocks> {
        &self.blocks
    }
}

/// A date with time and zone, as Unix seconds.
fn unix_seconds(value: &Value) -> Option<i64> {
    let text = value.as_datetime().filter(|time| time.offset.is_some())?.to_string();
    protocol::parse_rfc3339(text.as_bytes()).map(|ns| ns.div_euclid(1_000_000_000))
}

/// The current users, where they came from, and what was counted of them.
pub struct Embedded {
    current: ArcSwap<Users>,
    file: Option<PathBuf>,
    limiter: Limiter,
}

impl Embedded {
    /// Reads the users file at `path`.
    ///
    /// # Errors
    /// [`EmbeddedError`] where the file cannot be read or anything in it is wrong.
    pub fn open(path: &Path) -> Result<Embedded, EmbeddedError> {
        Ok(Embedded { file: Some(path.to_owned()), ..Embedded::of(read(path)?) })
    }

    /// A store without a file.
    pub fn of(users: Users) -> Embedded {
        Embedded { current: ArcSwap::from_pointee(users), file: None, limiter: Limiter::default() }
    }

    /// The users as of now. Sign-ins under way keep the ones they took.
    pub fn users(&self) -> Arc<Users> {
        self.current.load_full()
    }

    /// Reads the file again and swaps the users; returns the new ones. Without a file nothing changes. Principals
    /// that sessions hold stay as they are.
    ///
    /// # Errors
    /// [`EmbeddedError`]; the old users stay.
    pub fn reload(&self) -> Result<Arc<Users>, EmbeddedError> {
        if let Some(path) = &self.file {
            self.current.store(Arc::new(read(path)?));
        }
        Ok(self.users())
    }
}

impl Store for Embedded {
    fn user(&self, id: &Arc<str>, token: Option<TokenHashes>) -> Answer<Result<UserLookup, StoreError>> {
        let users = self.current.load();
        let token_denied = token.is_some_and(|token| token.iter().any(|hash| users.denies(&hash)));
        Box::pin(ready(Ok(UserLookup { user: users.user(id).cloned(), token_denied })))
    }

    fn api_key(&self, prefix: &str) -> Answer<Result<Option<ApiKeyRecord>, StoreError>> {
        Box::pin(ready(Ok(self.current.load().keys.get(prefix).cloned())))
    }

    fn certificate(&self, name: &str) -> Answer<Result<Option<Arc<str>>, StoreError>> {
        Box::pin(ready(Ok(self.current.load().certificates.get(name).cloned())))
    }

    fn take(&self, charge: Charge) -> Answer<Verdict> {
        Box::pin(ready(self.limiter.take(&charge, wall_ms())))
    }

    fn open(&self, _: SessionRecord) -> Answer<Result<(), ConnectionsExceeded>> {
        Box::pin(ready(Ok(())))
    }

    fn close(&self, _: u64, _: &Arc<str>) {}

    fn blocks(&self) -> Arc<AddressBlocks> {
        self.current.load().blocks.clone()
    }

    fn health(&self) -> Health {
        Health::Up
    }
}

/// This machine's clock, Unix ms: it stands for the store's.
fn wall_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

fn read(path: &Path) -> Result<Users, EmbeddedError> {
    let text = std::fs::read_to_string(path).map_err(|source| EmbeddedError::Read { path: path.to_owned(), source })?;
    Users::parse(&text).map_err(|source| EmbeddedError::Users { path: path.to_owned(), source })
}

impl std::fmt::Debug for Users {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Users({} users, {} keys)", self.users.len(), self.keys.len())
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

    fn texts(&self, key: &str) -> Result<Vec<&'t str>, UsersError> {
        let texts = |value: &'t Value| value.as_array()?.iter().map(Value::as_str).collect::<Option<Vec<_>>>();
        Ok(self.value(key, "a list of strings", texts)?.unwrap_or_default())
    }

    /// A required text that `is_id`.
    fn id(&self, key: &str, bytes_max: usize, is_id: impl Fn(&str) -> bool) -> Result<&'t str, UsersError> {
        let id = self.required(self.text(key)?, key)?;
        if !is_id(id) {
            let problem = format!("expected 1 to {bytes_max} letters, digits and signs, without spaces and braces");
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
            id: self.id("id", USER_ID_BYTES_MAX, is_user_id)?.into(),
            tier: self.required(tier, "tier")?,
            status: status.unwrap_or(Status::Active),
            categories: self.required(categories, "categories")?,
            real_time: self.value("real_time", "true or false", Value::as_bool)?,
            connections: self.limit("connections")?,
            channels: self.limit("channels")?,
            signals_per_day: self.limit("signals_per_day")?,
            version: 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        match Users::parse(text) {
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
        let keys = "unknown key, expected one of id, tier, status, categories, real_time, connections, channels, \
                    signals_per_day, certificates, keys";
        check(&with("realtime = true"), &format!("users[1].realtime: {keys}"));
        check(&with("keys = 1"), "users[1].keys: expected a list of tables, as in [[keys]]");
        let key = |lines: &str| with(&format!("[[users.keys]]\n{lines}"));
        check(&key("id = \"AK2\""), "users[1].keys[0].secret_hash: is missing");
        check(&key(&format!("secret_hash = \"{HASH}\"")), "users[1].keys[0].id: is missing");
        for bad in ["", "a b", "a.b", "a:b", &"a".repeat(65)] {
            let lines = format!("id = \"{bad}\"\nsecret_hash = \"{HASH}\"");
            let problem = "users[1].keys[0].id: expected 1 to 64 letters, digits and signs, without spaces and braces";
            check(&key(&lines), problem);
        }
        let twice = format!("id = \"AK1\"\nsecret_hash = \"{HASH}\"");
        check(&key(&twice), "users[1].keys[0].id: the key \"AK1\" is listed twice");
        let unknown = "users[1].keys[0].secret: unknown key, expected one of id, secret_hash, scopes, expires_at";
        check(&key("id = \"AK2\"\nsecret = \"hunter2\""), unknown);
        let user = "[[users]]\nid = \"alice\"\ntier = \"free\"\ncategories = []\n";
        check(&user.repeat(2), "users[1].id: the user \"alice\" is listed twice");
        check(
            &user.replace("alice", ""),
            "users[0].id: expected 1 to 128 letters, digits and signs, without spaces and braces",
        );
        check(&user.replace("id = \"alice\"", "id = 7"), "users[0].id: expected a string");
        check("", "users: at least one user is needed");
        check("users = []", "users: at least one user is needed");
        check("users = 3", "users: expected a list of tables, as in [[users]]");
        check("users = [3]", "users: expected a list of tables, as in [[users]]");
        check(&format!("tiers = 1\n{user}"), "tiers: unknown key, expected one of users, denied_tokens, blocked");
    }

    #[test]
    fn text_that_is_not_toml_names_its_line_and_is_not_repeated() {
        let text = file("free", "categories = []\nsecret = hunter2");
        let refused = Users::parse(&text).map(drop).unwrap_err();
        let UsersError::Syntax { line, .. } = refused else { panic!("{refused:?}") };
        assert_eq!(line, text.lines().count());
        assert!(!format!("{refused} {refused:?}").contains("hunter2"), "{refused:?}");
    }

    #[test]
    fn a_secret_in_place_of_its_hash_is_not_repeated() {
        let text = file("free", "categories = []\n[[users.keys]]\nid = \"AK2\"\nsecret_hash = \"hunter2\"");
        let refused = Users::parse(&text).map(drop).unwrap_err();
        assert!(
            refused.to_string().starts_with("users[1].keys[0].secret_hash: expected hmac-sha256: or sha256:"),
            "{refused}"
        );
        assert!(!format!("{refused} {refused:?}").contains("hunter2"), "{refused:?}");
    }

    #[test]
    fn reads_all_that_a_user_may_have() {
        let rest = "status = \"active\"\ncategories = [\"crypto\", \"commodity\"]\nreal_time = false\n\
                    connections = 7\nchannels = 9\nsignals_per_day = 11\ncertificates = [\"spiffe://example.org/bob\"]";
        let users = Users::parse(&file("premium", rest)).unwrap();
        assert_eq!(users.len(), 2);
        let bob = users.user("bob@example.org").unwrap();
        let categories = Categories::NONE.with(Category::Crypto).with(Category::Commodity);
        let expected = User {
            categories,
            real_time: Some(false),
            connections: Some(7),
            channels: Some(9),
            signals_per_day: Some(11),
            ..User::new("bob@example.org", Tier::Premium)
        };
        assert_eq!(*bob, expected);
        assert_eq!(users.certificates["spiffe://example.org/bob"], bob.id);
        assert!(users.user("carol").is_none());
    }

    #[test]
    fn keys_have_scopes_and_an_end() {
        let key = |lines: &str| {
            let key = format!("categories = []\n[[users.keys]]\nid = \"AK2\"\nsecret_hash = \"{HASH}\"\n{lines}");
            Users::parse(&file("free", &key)).map(|users| users.keys["AK2"].clone()).map_err(|e| e.to_string())
        };
        let record = key("scopes = [\"trades\", \"bars\"]\nexpires_at = 2026-09-30T02:03:14Z").unwrap();
        let scope = Kinds::NONE.with(protocol::ChannelKind::Trades).with(protocol::ChannelKind::Bars);
        assert_eq!((&*record.user, record.scope, record.expires_at), ("bob@example.org", scope, Some(1_790_733_794)));
        let record = key("").unwrap();
        assert_eq!((record.scope, record.expires_at), (Kinds::ALL, None));
        assert_eq!(key("scopes = [\"books\"]").unwrap_err(), "users[1].keys[0].scopes: expected a list of channels");
        let time = "users[1].keys[0].expires_at: expected a time with a zone, such as 2027-01-31T00:00:00Z";
        for bad in ["2026-09-30", "2026-09-30T02:03:14", "1790733794", "\"tomorrow\""] {
            assert_eq!(key(&format!("expires_at = {bad}")).unwrap_err(), time);
        }
    }

    #[test]
    fn tokens_are_denied_and_addresses_blocked() {
        let hash = TokenHash::of("a.b.c");
        let blocked = "[[blocked]]\naddress = \"192.0.2.0/24\"\nreason = \"abuse\"\n";
        let text = format!("denied_tokens = [\"{hash}\"]\n{blocked}{}", file("free", "categories = []"));
        let users = Users::parse(&text).unwrap();
        assert!(users.denies(&hash) && !users.denies(&TokenHash::of("a.b.d")));
        assert_eq!(users.blocks().reason("192.0.2.9".parse().unwrap()), Some("abuse"));
        check(
            &text.replace("192.0.2.0/24", "here"),
            "blocked[0].address: `here` is no address or network: write 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32",
        );
        let expected = "denied_tokens: expected the SHA-256 of tokens in hexadecimal digits";
        check(&text.replace(&hash.to_string(), "a.b.c"), expected);
    }
}
