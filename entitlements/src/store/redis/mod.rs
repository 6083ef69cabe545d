//! The store in Redis, which the gateways of a fleet and the platform share.
//!
//! Whoever asks does so on its own thread, over a connection that all share; each answer has a time limit of some tens of
//! milliseconds. A thread of its own, `entitlements`, connects, listens for changes, looks at the records of connected users
//! now and then, and keeps this node's sessions registered (`keeper`).
//!
//! **Away**: after [`FAILURES_MAX`] answers in a row that did not come, over some time where they were only late, nobody asks
//! any more. The keeper alone tries to
//! connect, and the store is up again once this node's sessions are registered anew and their users' records were read. Until
//! then records are unknown, limits are counted by this node alone, and new connections are registered when it is back.
//!
//! User ids, prefixes of keys and hashes of tokens are checked before they become part of a key's name, and scripts get them
//! as arguments, so that nobody can name another key or say something to a script.

mod counts;
mod keeper;
mod link;
mod names;
mod operators;

use std::collections::HashMap;
use std::future::ready;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::{ArcSwap, ArcSwapOption};
use redis::{Cmd, FromRedisValue, RedisError, RedisResult, Script, ScriptInvocation, Value};
use tokio::sync::{Notify, mpsc};

use self::counts::Counts;
use self::link::{Link, Place};
use self::names::{ACTIVE_USERS, CHANGES, IP_BLOCKLIST, Names};
pub use self::operators::{ChangeError, RECORD_VERSION_MAX};
use super::{Answer, ConnectionsExceeded, Health, Roster, SessionRecord, Store, StoreCounts, StoreError, UserLookup};
use crate::address::AddressBlocks;
use crate::api_key::{ApiKeyRecord, is_key_prefix};
use crate::limits::{Charge, Limiter, Quota, Verdict};
use crate::principal::{User, is_user_id};
use crate::record::RecordError;
use crate::token::{TokenHash, TokenHashes};
use crate::window::kept_ms;

/// Answers in a row that may fail before the store counts as away.
const FAILURES_MAX: u32 = 5;

/// How often the time for an answer may pass without any, where the line is not lost: very many may ask at the same time, and one
/// hiccup of a busy machine is no reason to do without the store.
const LATE_MAX: u32 = 4;

/// Sessions that may wait to be taken back. What is beyond is found by the keeper's next comparison.
const CLOSES_MAX: usize = 65_536;

/// Users and keys that are remembered for while the store is away; some 200 bytes each.
const REMEMBERED_MAX: usize = 100_000;

/// How long an answer may take while nobody but the keeper asks: it has much to ask, and nobody waits for it.
const PATIENCE: Duration = Duration::from_secs(1);

/// A moment that has not been.
const NEVER: u64 = u64::MAX;

/// How long a session's description is kept if nobody says that it goes on.
const SESSION_TTL_S: u64 = 24 * 3_600;

static TAKE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("take.lua")));
static OPEN: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("open.lua")));
/// What it returns of a connection that was not there.
const NEWLY: u64 = 2;
static CLOSE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("close.lua")));
static RECORD: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("record.lua")));

/// What is at the addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisMode {
    Single,
    /// The addresses are of some of its nodes.
    Cluster,
    /// The addresses are the sentinels', which know the server by this name.
    Sentinel {
        master: String,
    },
}

/// Where Redis is and how it is asked.
#[derive(Clone)]
pub struct RedisSettings {
    /// `redis://HOST:PORT` or `rediss://HOST:PORT`.
    pub urls: Vec<String>,
    pub mode: RedisMode,
    pub login: RedisLogin,
    /// Of the sentinels, which is none of the server's.
    pub sentinel_login: RedisLogin,
    /// For addresses with `rediss://`.
    pub tls: RedisTls,
    /// An answer that takes longer is none.
    pub timeout: Duration,
    /// How often the records of connected users are read again.
    pub refresh: Duration,
    /// Without a sign of life for so long, a node is dead.
    pub lease: Duration,
    /// How long sessions go on whose users' records were lost with the database.
    pub grace: Duration,
    /// Whether ids stand in braces in the names of keys.
    pub hash_tags: bool,
    /// Names this run of this gateway: no other, before or beside it, may have the name.
    pub node: String,
}

/// A user of the access control list, or the default one, and the password.
#[derive(Clone, Default)]
pub struct RedisLogin {
    pub username: Option<String>,
    pub password: Option<String>,
}

impl std::fmt::Debug for RedisLogin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let password = self.password.as_ref().map(|_| "***");
        f.debug_struct("RedisLogin").field("username", &self.username).field("password", &password).finish()
    }
}

/// Whom to believe, and who this is. Texts in PEM.
#[derive(Clone, Default)]
pub struct RedisTls {
    /// Certificates of the authorities that have to vouch for a server; `None`: the well-known ones of the web.
    pub authorities: Option<Vec<u8>>,
    /// This gateway's own certificate, with its chain, and the key.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl std::fmt::Debug for RedisSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisSettings")
            .field("urls", &self.urls)
            .field("mode", &self.mode)
            .field("login", &self.login)
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}

/// A session to be taken back.
#[derive(Debug)]
struct Close {
    number: u64,
    user: Arc<str>,
}

/// A user's record as it is kept.
enum Kept {
    /// JSON, as it should be.
    Text(Vec<u8>),
    /// Names and values, in turn.
    Hash(Vec<Vec<u8>>),
    Other,
}

/// What the callers and the keeper share.
struct Shared {
    settings: RedisSettings,
    names: Names,
    place: Place,
    /// `None` while there is none; the keeper alone puts one in.
    link: ArcSwapOption<Link>,
    /// Whether others than the keeper may ask.
    up: AtomicBool,
    /// Since when it is not, ms after `started`; meaningful while it is not.
    away_ms: AtomicU64,
    started: Instant,
    /// Since the last answer.
    failures: AtomicU32,
    /// Since when there was no answer, ms after `started`; [`NEVER`] where the last question had one.
    unanswered_ms: AtomicU64,
    counts: Counts,
    /// When it was last found to have lost what it held, ms after `started`; [`NEVER`] where it was not.
    lost_ms: AtomicU64,
    /// Whether this node has counted by itself.
    counts_alone: AtomicBool,
    /// Since when the store counts again that knows less than this node, ms after `started`; [`NEVER`] where it always did.
    doubted_ms: AtomicU64,
    /// Wakes the keeper: the link has failed, or it is to end.
    news: Notify,
    ended: AtomicBool,
    /// What failed last, for an operator.
    trouble: Mutex<Option<String>>,
    limiter: Limiter,
    blocks: ArcSwap<AddressBlocks>,
    users: Mutex<HashMap<Arc<str>, User>>,
    keys: Mutex<HashMap<Box<str>, ApiKeyRecord>>,
    /// Tokens that are known to be denied. They stay so, whatever becomes of the store.
    denied: Mutex<HashMap<TokenHash, ()>>,
    /// Not kept alive by its store: it knows the sessions, which know the store.
    roster: OnceLock<Weak<dyn Roster>>,
}

/// The store in Redis. Dropping it ends its thread.
pub struct Redis {
    shared: Arc<Shared>,
    closes: mpsc::Sender<Close>,
    keeper: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Redis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redis").field("settings", &self.shared.settings).field("health", &self.health()).finish()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wall_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

impl Shared {
    fn is_up(&self) -> bool {
        // Acquire: who sees that it is up sees the link, too.
        self.up.load(Ordering::Acquire)
    }

    fn roster(&self) -> Option<Arc<dyn Roster>> {
        self.roster.get()?.upgrade()
    }

    fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    fn go_away(&self) {
        if self.up.swap(false, Ordering::AcqRel) {
            // Relaxed: a time to look at.
            self.away_ms.store(self.now_ms(), Ordering::Relaxed);
            self.counts.outages.one();
            tracing::warn!("the entitlement store is away");
        }
        self.news.notify_one();
    }

    // Relaxed, in these: times that a decision looks at, and nothing behind them.

    /// What the store held is gone.
    fn lose(&self) {
        self.lost_ms.store(self.now_ms(), Ordering::Relaxed);
        self.doubted_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    /// Whether it is so short a time since then that what is missing says nothing.
    fn has_lost(&self) -> bool {
        let lost = self.lost_ms.load(Ordering::Relaxed);
        lost != NEVER && self.now_ms() - lost <= self.settings.grace.as_millis() as u64
    }

    /// The store counts again.
    fn end_alone(&self) {
        if self.counts_alone.swap(false, Ordering::Relaxed) {
            self.doubted_ms.store(self.now_ms(), Ordering::Relaxed);
        }
    }

    /// Whether the store may have counted less than this node has within these quotas' time.
    fn knows_less(&self, quotas: &[Quota]) -> bool {
        let doubted = self.doubted_ms.load(Ordering::Relaxed);
        let longest_s = quotas.iter().map(|quota| quota.length_s).max().unwrap_or_default();
        doubted != NEVER && self.now_ms() - doubted <= (u64::from(longest_s) + 60) * 1_000
    }

    fn deny(&self, token: TokenHash) {
        let mut denied = locked(&self.denied);
        make_room(&mut denied);
        denied.insert(token, ());
    }

    async fn is_denied(&self, token: TokenHash) -> Result<bool, StoreError> {
        if locked(&self.denied).contains_key(&token) {
            return Ok(true);
        }
        let denied = self.ask(redis::cmd("EXISTS").arg(self.names.denied(&token))).await?;
        if denied {
            self.deny(token);
        }
        Ok(denied)
    }

    /// Remembers what failed, in one line, for an operator.
    fn fail(&self, error: &dyn std::fmt::Display) -> StoreError {
        let text = error.to_string();
        *locked(&self.trouble) = Some(text.split_whitespace().collect::<Vec<_>>().join(" "));
        StoreError::Away
    }

    fn trouble(&self) -> Option<String> {
        locked(&self.trouble).clone()
    }

    /// Waits for an answer, as long as one may take, and counts failures.
    async fn answer<T>(&self, answer: impl Future<Output = RedisResult<T>>) -> Result<T, StoreError> {
        let patience = if self.is_up() { self.settings.timeout } else { self.settings.timeout.max(PATIENCE) };
        match tokio::time::timeout(patience, answer).await {
            Ok(Ok(answer)) => {
                self.forget_failures();
                return Ok(answer);
            }
            Ok(Err(error)) if is_about_the_question(&error) => {
                tracing::error!(%error, "the entitlement store does not understand");
                self.counts.senseless.one();
                return Err(self.fail(&error));
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, "no answer of the entitlement store");
                self.counts.failed.one();
                self.fail(&error);
                self.count_failure(Duration::ZERO, Duration::ZERO);
            }
            Err(_) => {
                self.counts.late.one();
                self.fail(&format_args!("no answer within {patience:?}"));
                self.count_failure(patience, self.settings.timeout * LATE_MAX);
            }
        }
        Err(StoreError::Away)
    }

    // Relaxed, in these: counts, and a time to look at.

    fn forget_failures(&self) {
        // Not written where it is so already, so that the line stays shared.
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
            self.unanswered_ms.store(NEVER, Ordering::Relaxed);
        }
    }

    /// A question that was asked `waited` ago has no answer. Enough of them, with no answer to any for `at_least`, and the store
    /// is away.
    fn count_failure(&self, waited: Duration, at_least: Duration) {
        let now_ms = self.now_ms();
        let asked_ms = now_ms.saturating_sub(waited.as_millis() as u64);
        let since_ms = self.unanswered_ms.fetch_min(asked_ms, Ordering::Relaxed).min(asked_ms);
        let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        if failures >= FAILURES_MAX && now_ms - since_ms >= at_least.as_millis() as u64 {
            self.go_away();
        }
    }

    fn link(&self) -> Result<Link, StoreError> {
        self.link.load().as_deref().cloned().ok_or(StoreError::Away)
    }

    /// Asks, whether the store counts as up or not: for the keeper.
    async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, StoreError> {
        let mut link = self.link()?;
        self.answer(command.query_async(&mut link)).await
    }

    async fn run<T: FromRedisValue>(&self, script: &ScriptInvocation<'_>) -> Result<T, StoreError> {
        let mut link = self.link()?;
        self.answer(script.invoke_async(&mut link)).await
    }

    /// Like [`Shared::ask`], for everybody else: nobody waits for a store that is away.
    fn check_up(&self) -> Result<(), StoreError> {
        if self.is_up() { Ok(()) } else { Err(StoreError::Away) }
    }

    /// A user's record as it is in the store.
    async fn read_record(&self, id: &str) -> Result<Option<Kept>, StoreError> {
        Ok(match self.run(&RECORD.key(self.names.entitlement(id))).await? {
            Value::Nil => None,
            Value::BulkString(json) => Some(Kept::Text(json)),
            value => Some(Vec::from_redis_value(value).map_or(Kept::Other, Kept::Hash)),
        })
    }

    /// The same, understood and remembered for later.
    async fn read_user(&self, id: &Arc<str>) -> Result<Option<User>, StoreError> {
        let Some(kept) = self.read_record(id).await? else { return Ok(None) };
        let user = self.understand(id, &kept)?;
        self.remember(&user);
        Ok(Some(user))
    }

    /// An API key's record as it is in the store, remembered for later.
    async fn read_key(&self, prefix: &str) -> Result<Option<ApiKeyRecord>, StoreError> {
        let key = self.names.api_key(prefix);
        let record: Option<Vec<u8>> = self.ask(redis::cmd("GET").arg(&key)).await?;
        let Some(record) = record else {
            if !self.has_lost() {
                locked(&self.keys).remove(prefix);
            }
            return Ok(None);
        };
        let record = ApiKeyRecord::from_json(&record).map_err(|error| StoreError::Record { key, error })?;
        let mut keys = locked(&self.keys);
        make_room(&mut keys);
        keys.insert(prefix.into(), record.clone());
        Ok(Some(record))
    }

    fn understand(&self, id: &Arc<str>, kept: &Kept) -> Result<User, StoreError> {
        let user = match kept {
            Kept::Text(json) => User::from_json(id, json),
            Kept::Hash(fields) => {
                let (pairs, _) = fields.as_chunks::<2>();
                User::from_hash(id, pairs.iter().map(|[name, value]| (name.as_slice(), value.as_slice())))
            }
            Kept::Other => Err(RecordError { field: "", problem: "is neither a text nor a hash".to_owned() }),
        };
        user.map_err(|error| StoreError::Record { key: self.names.entitlement(id), error })
    }

    fn remember(&self, user: &User) {
        let mut users = locked(&self.users);
        make_room(&mut users);
        let known = users.entry(user.id.clone()).or_insert_with(|| user.clone());
        if known.version <= user.version {
            known.clone_from(user);
        }
    }

    async fn read_blocks(&self) -> Result<AddressBlocks, StoreError> {
        let fields: Vec<(String, String)> = self.ask(redis::cmd("HGETALL").arg(IP_BLOCKLIST)).await?;
        let networks = fields.into_iter().filter_map(|(network, reason)| match crate::parse_network(&network) {
            Ok(network) => Some((network, reason.into_boxed_str())),
            Err(error) => {
                tracing::error!(%error, "an entry of the block list is left out");
                None
            }
        });
        Ok(AddressBlocks::new(networks))
    }

    fn member(&self, node: &str, number: u64) -> String {
        format!("{node}-{number}")
    }

    /// Describes a session for others, and says that its user is there.
    async fn describe(&self, member: &str, session: &SessionRecord) -> Result<(), StoreError> {
        let key = self.names.session(member);
        let mut describe = redis::cmd("HSET");
        describe.arg(&key).arg("user_id").arg(&*session.user).arg("roles").arg(session.role);
        describe.arg("address").arg(session.address.to_string()).arg("last_activity").arg(session.active_at);
        if !session.agent.is_empty() {
            describe.arg("user_agent").arg(&*session.agent);
        }
        let described = self.ask::<()>(&describe);
        let mut expire = redis::cmd("EXPIRE");
        expire.arg(&key).arg(SESSION_TTL_S);
        let mut active = redis::cmd("SADD");
        active.arg(ACTIVE_USERS).arg(&*session.user);
        // One connection carries them in this order.
        let rest = futures_util::future::join(self.ask::<()>(&expire), self.ask::<()>(&active));
        let (described, (expires, active)) = futures_util::future::join(described, rest).await;
        described.and(expires).and(active)
    }

    /// Takes a node's session back.
    async fn take_back(&self, node: &str, member: &str, user: &str) -> Result<(), StoreError> {
        let left: u64 = self.run(CLOSE.key(self.names.connections(user)).arg(member)).await?;
        if left == 0 {
            self.ask::<()>(redis::cmd("SREM").arg(ACTIVE_USERS).arg(user)).await?;
        }
        self.ask::<()>(redis::cmd("DEL").arg(self.names.session(member))).await?;
        // Last, so that what was not done is found again.
        self.ask::<()>(redis::cmd("HDEL").arg(self.names.sessions(node)).arg(member)).await
    }

    async fn announce(&self, message: &str) -> Result<(), StoreError> {
        self.ask::<()>(redis::cmd("PUBLISH").arg(CHANGES).arg(message)).await
    }
}

/// Makes room for one more by forgetting some, whoever they are.
fn make_room<K: Clone + Eq + std::hash::Hash, V>(map: &mut HashMap<K, V>) {
    if map.len() >= REMEMBERED_MAX {
        let some: Vec<K> = map.keys().take(REMEMBERED_MAX / 16).cloned().collect();
        some.iter().for_each(|key| drop(map.remove(key)));
    }
}

/// An error that another attempt, or another server, would give as well.
fn is_about_the_question(error: &RedisError) -> bool {
    use redis::{ErrorKind, ServerErrorKind};
    match error.kind() {
        ErrorKind::Server(kind) => {
            // Of a failover or a start, and of rights that are missing: the server is none to work with.
            let other = [
                ServerErrorKind::BusyLoading,
                ServerErrorKind::TryAgain,
                ServerErrorKind::ClusterDown,
                ServerErrorKind::MasterDown,
                ServerErrorKind::ReadOnly,
                ServerErrorKind::NoPerm,
                ServerErrorKind::Moved,
                ServerErrorKind::Ask,
            ];
            !other.contains(&kind)
        }
        ErrorKind::UnexpectedReturnType | ErrorKind::Parse => true,
        _ => false,
    }
}

impl Redis {
    /// Starts the keeper. That nobody is there yet is no error: the store is away then.
    ///
    /// # Errors
    /// Where an address is none, or the system has no thread.
    pub fn start(settings: RedisSettings) -> io::Result<Redis> {
        let shared = Arc::new(Shared {
            names: Names { hash_tags: settings.hash_tags },
            place: Place::new(&settings)?,
            settings,
            link: ArcSwapOption::empty(),
            up: AtomicBool::new(false),
            away_ms: AtomicU64::new(0),
            started: Instant::now(),
            failures: AtomicU32::new(0),
            unanswered_ms: AtomicU64::new(NEVER),
            counts: Counts::default(),
            lost_ms: AtomicU64::new(NEVER),
            counts_alone: AtomicBool::new(false),
            doubted_ms: AtomicU64::new(NEVER),
            news: Notify::new(),
            ended: AtomicBool::new(false),
            trouble: Mutex::default(),
            limiter: Limiter::default(),
            blocks: ArcSwap::default(),
            users: Mutex::default(),
            keys: Mutex::default(),
            denied: Mutex::default(),
            roster: OnceLock::new(),
        });
        let (closes, queue) = mpsc::channel(CLOSES_MAX);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let keeping = shared.clone();
        let keeper = std::thread::Builder::new().name("entitlements".to_owned()).spawn(move || {
            let _unkept = AwayOnDrop(keeping.clone());
            runtime.block_on(keeper::run(keeping, queue));
        })?;
        Ok(Redis { shared, closes, keeper: Some(keeper) })
    }

    /// Names the sessions whose users are to be watched; once.
    pub fn attach(&self, roster: &Arc<dyn Roster>) {
        if self.shared.roster.set(Arc::downgrade(roster)).is_err() {
            tracing::error!("the entitlement store has a roster already");
        }
    }

    /// Waits until the store is up, `patience` at most.
    ///
    /// # Errors
    /// [`StoreError::Away`] where it is not by then; [`Redis::trouble`] says why.
    pub async fn ready(&self, patience: Duration) -> Result<(), StoreError> {
        let deadline = Instant::now() + patience;
        while !self.shared.is_up() {
            if Instant::now() >= deadline {
                return Err(StoreError::Away);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// What the last attempt to connect, or the last answer that was none, failed of: for an operator. It holds no password.
    pub fn trouble(&self) -> Option<String> {
        self.shared.trouble()
    }
}

/// Nobody asks a store that is not kept any more, whatever ended the keeper: readiness shows it.
struct AwayOnDrop(Arc<Shared>);

impl Drop for AwayOnDrop {
    fn drop(&mut self) {
        self.0.up.store(false, Ordering::Release);
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // Release: the keeper sees it when it is woken.
        self.shared.ended.store(true, Ordering::Release);
        self.shared.news.notify_one();
        if self.keeper.take().is_some_and(|keeper| keeper.join().is_err()) {
            tracing::error!("the entitlement store's thread panicked");
        }
    }
}

impl Store for Redis {
    fn user(&self, id: &Arc<str>, token: Option<TokenHashes>) -> Answer<Result<UserLookup, StoreError>> {
        if !is_user_id(id) {
            return Box::pin(ready(Ok(UserLookup { user: None, token_denied: false })));
        }
        let (shared, id) = (self.shared.clone(), id.clone());
        Box::pin(async move {
            shared.check_up()?;
            let denied = async {
                match token {
                    None => Ok(false),
                    Some(token) => {
                        let asked =
                            futures_util::future::join_all(token.iter().map(|hash| shared.is_denied(hash))).await;
                        asked.into_iter().try_fold(false, |denied, this| Ok(denied | this?))
                    }
                }
            };
            let (user, denied) = futures_util::future::join(shared.read_user(&id), denied).await;
            let user = user?;
            if user.is_none() && !shared.has_lost() {
                locked(&shared.users).remove(&id);
            }
            Ok(UserLookup { user, token_denied: denied? })
        })
    }

    fn remembered_user(&self, id: &str) -> Option<User> {
        locked(&self.shared.users).get(id).cloned()
    }

    fn remembers_denied(&self, token: &TokenHash) -> bool {
        locked(&self.shared.denied).contains_key(token)
    }

    fn remembered_key(&self, prefix: &str) -> Option<ApiKeyRecord> {
        locked(&self.shared.keys).get(prefix).cloned()
    }

    fn api_key(&self, prefix: &str) -> Answer<Result<Option<ApiKeyRecord>, StoreError>> {
        if !is_key_prefix(prefix) {
            return Box::pin(ready(Ok(None)));
        }
        let (shared, prefix) = (self.shared.clone(), Box::<str>::from(prefix));
        Box::pin(async move {
            shared.check_up()?;
            shared.read_key(&prefix).await
        })
    }

    fn certificate(&self, name: &str) -> Answer<Result<Option<Arc<str>>, StoreError>> {
        let (shared, key) = (self.shared.clone(), self.shared.names.certificate(name));
        Box::pin(async move {
            shared.check_up()?;
            let user: Option<String> = shared.ask(redis::cmd("GET").arg(&key)).await?;
            Ok(user.filter(|user| is_user_id(user)).map(Arc::from))
        })
    }

    fn take(&self, charge: Charge) -> Answer<Verdict> {
        let quotas: Vec<Quota> = charge.quotas.iter().copied().filter(|quota| !quota.is_unlimited()).collect();
        if quotas.is_empty() {
            return Box::pin(ready(Verdict::UNLIMITED));
        }
        let shared = self.shared.clone();
        Box::pin(async move {
            if shared.is_up() {
                let mut take = TAKE.key(shared.names.counted(&charge.subject, charge.meter));
                let longest_s = quotas.iter().map(|quota| quota.length_s).max().unwrap_or(0);
                take.arg(charge.cost).arg(kept_ms(longest_s));
                for quota in &quotas {
                    take.arg(quota.length_s).arg(quota.limit);
                }
                if let Ok(answer) = shared.run::<[u64; 6]>(&take).await {
                    let [allowed, length_s, limit, remaining, resets_ms, retry_ms] = answer;
                    if allowed == 1 && charge.cost > 0 {
                        // So that this node's own count goes on where the store leaves off.
                        if !shared.knows_less(&quotas) {
                            shared.limiter.note(&charge, wall_ms());
                        } else {
                            let own = shared.limiter.take(&charge, wall_ms());
                            if !own.allowed {
                                return own;
                            }
                        }
                    }
                    return Verdict {
                        allowed: allowed == 1,
                        quota: Quota { length_s: length_s as u32, limit: limit as u32 },
                        remaining: remaining as u32,
                        resets_in: Duration::from_millis(resets_ms),
                        retry_after: Duration::from_millis(retry_ms),
                    };
                }
            }
            // Relaxed: looked at when the store is back.
            shared.counts_alone.store(true, Ordering::Relaxed);
            shared.counts.decided_alone.one();
            shared.limiter.take(&charge, wall_ms())
        })
    }

    fn open(&self, session: SessionRecord) -> Answer<Result<(), ConnectionsExceeded>> {
        let shared = self.shared.clone();
        Box::pin(async move {
            if !shared.is_up() {
                return Ok(());
            }
            let node = &shared.settings.node;
            let member = shared.member(node, session.number);
            // First, so that the place is given back whatever happens to this node in between.
            let mut list = redis::cmd("HSET");
            list.arg(shared.names.sessions(node)).arg(&member).arg(&*session.user);
            let mut open = OPEN.key(shared.names.connections(&session.user));
            open.arg(&member).arg(session.connections_max);
            let opening = async {
                match shared.run::<u64>(&open).await {
                    // Once more, since whether there is a place cannot be known otherwise; twice does not take two.
                    Err(_) if shared.is_up() => shared.run::<u64>(&open).await,
                    opened => opened,
                }
            };
            let (listed, opened) = futures_util::future::join(shared.ask::<()>(&list), opening).await;
            match (listed, opened) {
                (_, Ok(0)) => {
                    let unlist =
                        shared.ask::<()>(redis::cmd("HDEL").arg(shared.names.sessions(node)).arg(&member)).await;
                    if unlist.is_err() {
                        tracing::debug!("a refused session is still listed; the next comparison finds it");
                    }
                    Err(ConnectionsExceeded { limit: session.connections_max })
                }
                // A store that has just gone away registers it once it is back.
                (listed, opened) => {
                    if listed.is_ok() && opened.is_ok() && shared.describe(&member, &session).await.is_err() {
                        tracing::debug!("a session is not described; the next comparison does it");
                    }
                    Ok(())
                }
            }
        })
    }

    fn close(&self, number: u64, user: &Arc<str>) {
        if self.closes.try_send(Close { number, user: user.clone() }).is_err() {
            self.shared.counts.closes_deferred.one();
        }
    }

    fn blocks(&self) -> Arc<AddressBlocks> {
        self.shared.blocks.load_full()
    }

    fn health(&self) -> Health {
        if self.shared.is_up() {
            return Health::Up;
        }
        let since = Duration::from_millis(self.shared.away_ms.load(Ordering::Relaxed));
        Health::Away { for_s: self.shared.started.elapsed().saturating_sub(since).as_secs() }
    }

    fn counts(&self) -> StoreCounts {
        self.shared.counts.read()
    }
}
