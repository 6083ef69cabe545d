//! The store's own thread: connects, listens, looks, and keeps this node's sessions registered. Nothing here is asked for
//! by a client.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::join_all;
use redis::aio::PubSub;
use serde_json::Value;
use tokio::sync::{Mutex, mpsc};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::names::{CHANGES, NODES};
use super::{Close, NEWLY, OPEN, Shared};
use crate::api_key::is_key_prefix;
use crate::principal::{Credential, User, is_user_id};
use crate::store::{Change, LiveSession, SessionRecord, StoreError};
use crate::token::TokenHash;

/// Records, tokens or closed sessions that are asked for at the same time: few enough for each to be answered in time.
const CHUNK: usize = 64;

/// Sessions that are registered at the same time, with five commands each.
const SESSIONS: usize = 32;

/// A look at everything takes at least so long for each chunk: 12,800 records or tokens a second at most. What was announced is
/// read without pauses: with them, 10,000 users would take 780 ms.
const CHUNK_PAUSE: Duration = Duration::from_millis(5);

/// Announcements that are taken in together.
const HEARD: usize = 4_096;

/// How often this node looks whether the store answers, and whether it still holds what it held.
const LOOK: Duration = Duration::from_millis(250);

/// First and longest pause between two attempts to connect.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// How often the sessions that are registered are compared with those that there are, and described anew.
const COMPARE: Duration = Duration::from_secs(60);

/// The next comparison where one found some that are not live.
const COMPARE_AGAIN: Duration = Duration::from_secs(2);

/// How records are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    /// Sessions wait for them: one chunk after another.
    Urgent,
    /// A look at everything, which leaves room for others.
    Leisurely,
}

/// What the keeper knows beside what it shares. Three futures of one thread work with it.
struct Keeper {
    shared: Arc<Shared>,
    /// Whether the store was up before: then a missing lease means that the database was lost.
    was_up: Cell<bool>,
    /// Whether the store is yet to hear again of everything, since it lost what it held.
    behind: Cell<bool>,
    /// Sessions that were registered and not live at the last comparison. A client that is signing in is so for a moment; who
    /// still is at the next one is taken back.
    suspects: RefCell<HashSet<String>>,
    /// Users whose record may be lost, with the part of a cluster that it was in, and since when.
    bereft: RefCell<HashMap<Arc<str>, Instant>>,
    /// Held while sessions are compared.
    comparing: Mutex<()>,
    /// While sessions are compared, those that close: they may have been listed as live before.
    closed_meanwhile: RefCell<Option<Vec<Close>>>,
}

/// Runs until the store is dropped.
pub(super) async fn run(shared: Arc<Shared>, mut closes: mpsc::Receiver<Close>) {
    let keeper = Keeper {
        shared,
        was_up: Cell::new(false),
        behind: Cell::new(false),
        suspects: RefCell::default(),
        bereft: RefCell::default(),
        comparing: Mutex::default(),
        closed_meanwhile: RefCell::default(),
    };
    let mut pause = RETRY.0;
    while !keeper.is_ended() {
        let up = tokio::select! {
            up = keeper.come_up() => up,
            // Nobody waits for an attempt to connect.
            () = keeper.ended() => return keeper.leave().await,
        };
        match up {
            Ok(listening) => {
                pause = RETRY.0;
                keeper.stay_up(listening, &mut closes).await;
                if keeper.is_ended() {
                    return keeper.leave().await;
                }
                keeper.shared.go_away();
                keeper.shared.link.store(None);
            }
            Err(error) => {
                let why = keeper.shared.trouble();
                tracing::debug!(%error, why, "the entitlement store is not there");
                keeper.shared.link.store(None);
                // Half of it by chance, so that the nodes of a fleet do not come back together.
                let chance = crate::random_bytes::<1>().map_or(255, |[byte]| u32::from(byte));
                let _ = timeout(pause / 2 + pause * chance / 512, keeper.shared.news.notified()).await;
                pause = (pause * 2).min(RETRY.1);
            }
        }
    }
}

impl Keeper {
    fn is_ended(&self) -> bool {
        self.shared.ended.load(Ordering::Acquire)
    }

    /// Until the store is not wanted any more.
    async fn ended(&self) {
        while !self.is_ended() {
            self.shared.news.notified().await;
        }
    }

    /// Connects and brings everything up to date; then the store is up.
    async fn come_up(&self) -> Result<PubSub, StoreError> {
        let shared = self.shared.clone();
        let mut listening = shared.place.listen().await.map_err(|error| shared.fail(&error))?;
        listening.subscribe(CHANGES).await.map_err(|error| shared.fail(&error))?;
        let link = shared.place.connect().await.map_err(|error| shared.fail(&error))?;
        shared.forget_failures();
        shared.link.store(Some(Arc::new(link)));
        self.renew_lease().await?;
        self.synchronise().await?;
        // As quick as those who ask will need it.
        let ping = redis::cmd("PING");
        let quick = timeout(shared.settings.timeout, shared.ask::<()>(&ping)).await;
        quick.map_err(|_| shared.fail(&format_args!("no answer within {:?}", shared.settings.timeout)))??;
        shared.forget_failures();
        shared.end_alone();
        // Release: who sees it sees the link.
        shared.up.store(true, Ordering::Release);
        self.was_up.set(true);
        tracing::info!("the entitlement store is up");
        Ok(listening)
    }

    /// Everything that may have been missed: blocks, records, sessions.
    async fn synchronise(&self) -> Result<(), StoreError> {
        self.compare_sessions().await?;
        self.look_at_blocks().await?;
        self.look_at_users().await?;
        self.look_at_credentials().await?;
        self.behind.set(false);
        Ok(())
    }

    /// Works until the store is away or not wanted any more. What is announced, and who leaves, does not wait for a look at
    /// everything.
    async fn stay_up(&self, listening: PubSub, closes: &mut mpsc::Receiver<Close>) {
        tokio::select! {
            // The line is cut: what was said meanwhile is unknown.
            () = self.listen(listening) => {}
            () = self.take_closes(closes) => {}
            () = self.look_after() => {}
            () = async {
                while !self.is_ended() && self.shared.is_up() {
                    self.shared.news.notified().await;
                }
            } => {}
        }
    }

    async fn listen(&self, listening: PubSub) {
        let mut messages = listening.into_on_message().ready_chunks(HEARD);
        while let Some(messages) = messages.next().await {
            self.shared.counts.announcements.add(messages.len() as u64);
            note(self.hear(messages.iter().map(redis::Msg::get_payload_bytes)).await);
        }
    }

    async fn take_closes(&self, closes: &mut mpsc::Receiver<Close>) {
        let mut closed = Vec::new();
        while closes.recv_many(&mut closed, CHUNK).await > 0 {
            note(self.close(&closed).await);
            if let Some(meanwhile) = &mut *self.closed_meanwhile.borrow_mut() {
                meanwhile.append(&mut closed);
            }
            closed.clear();
        }
    }

    async fn look_after(&self) {
        let every = |period| {
            let mut ticks = interval(period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks.reset();
            ticks
        };
        let settings = &self.shared.settings;
        let (mut look, mut lease, mut refresh, mut compare) =
            (every(LOOK), every(settings.lease / 3), every(settings.refresh), every(COMPARE));
        let mut hurried = false;
        loop {
            note(tokio::select! {
                biased;
                _ = look.tick() => self.look_at_lease().await,
                _ = lease.tick() => self.keep_lease().await,
                _ = refresh.tick() => self.refresh().await,
                _ = compare.tick() => self.compare_sessions().await,
            });
            let has_suspects = !self.suspects.borrow().is_empty();
            if has_suspects && !hurried {
                compare.reset_after(COMPARE_AGAIN);
            }
            hurried = has_suspects;
        }
    }

    /// On the way out: the sessions of this node are over.
    async fn leave(&self) {
        let node = &self.shared.settings.node;
        if self.take_all_back(node).await.is_ok() {
            note(self.shared.ask::<()>(redis::cmd("ZREM").arg(NODES).arg(node)).await);
        }
    }

    fn tell(&self, changes: Vec<Change>) {
        if let Some(roster) = self.shared.roster().filter(|_| !changes.is_empty()) {
            roster.apply(changes);
        }
    }

    async fn server_ms(&self) -> Result<u64, StoreError> {
        let (seconds, micros): (u64, u64) = self.shared.ask(&redis::cmd("TIME")).await?;
        Ok(seconds * 1_000 + micros / 1_000)
    }

    /// Says that this node lives. Where its lease was gone, so is what else was kept.
    async fn renew_lease(&self) -> Result<(), StoreError> {
        let until = self.server_ms().await? + self.shared.settings.lease.as_millis() as u64;
        let added: u64 =
            self.shared.ask(redis::cmd("ZADD").arg(NODES).arg(until).arg(&self.shared.settings.node)).await?;
        if added == 1 && self.was_up.get() {
            self.lose();
        }
        Ok(())
    }

    fn lose(&self) {
        tracing::warn!("the entitlement store has lost what it held");
        self.shared.counts.losses.one();
        self.behind.set(true);
        self.shared.lose();
    }

    async fn has_lease(&self) -> Result<bool, StoreError> {
        let score: Option<String> =
            self.shared.ask(redis::cmd("ZSCORE").arg(NODES).arg(&self.shared.settings.node)).await?;
        Ok(score.is_some())
    }

    /// Writes everything anew that this node has in the store, where the store has lost it.
    async fn look_at_lease(&self) -> Result<(), StoreError> {
        if !self.has_lease().await? {
            self.renew_lease().await?;
        }
        if self.behind.get() {
            self.synchronise().await?;
        }
        Ok(())
    }

    async fn keep_lease(&self) -> Result<(), StoreError> {
        self.renew_lease().await?;
        self.bury_the_dead().await
    }

    /// Takes back the sessions of nodes whose lease is over.
    async fn bury_the_dead(&self) -> Result<(), StoreError> {
        let shared = &self.shared;
        let now = self.server_ms().await?;
        let dead: Vec<String> = shared.ask(redis::cmd("ZRANGEBYSCORE").arg(NODES).arg("-inf").arg(now)).await?;
        for node in dead.iter().filter(|node| **node != shared.settings.node) {
            let mut lock = redis::cmd("SET");
            lock.arg(shared.names.janitor(node)).arg(&shared.settings.node).arg("NX").arg("PX");
            lock.arg(shared.settings.lease.as_millis() as u64);
            if shared.ask::<Option<String>>(&lock).await?.is_none() {
                continue;
            }
            tracing::info!(node, "taking back the sessions of a node that is gone");
            self.take_all_back(node).await?;
            shared.ask::<()>(redis::cmd("ZREM").arg(NODES).arg(node)).await?;
        }
        Ok(())
    }

    async fn registered(&self, node: &str) -> Result<Vec<(String, String)>, StoreError> {
        self.shared.ask(redis::cmd("HGETALL").arg(self.shared.names.sessions(node))).await
    }

    async fn take_all_back(&self, node: &str) -> Result<(), StoreError> {
        self.take_back(node, &self.registered(node).await?).await
    }

    async fn take_back(&self, node: &str, sessions: &[(String, String)]) -> Result<(), StoreError> {
        for chunk in sessions.chunks(CHUNK) {
            all(chunk.iter().map(|(member, user)| self.shared.take_back(node, member, user))).await?;
        }
        Ok(())
    }

    async fn close(&self, closes: &[Close]) -> Result<(), StoreError> {
        let node = &self.shared.settings.node;
        let member = |close: &Close| (self.shared.member(node, close.number), close.user.to_string());
        // What fails is found by the next comparison.
        self.take_back(node, &closes.iter().map(member).collect::<Vec<_>>()).await
    }

    /// Registers the sessions that there are, and takes back those that are no more.
    async fn compare_sessions(&self) -> Result<(), StoreError> {
        let _alone = self.comparing.lock().await;
        self.closed_meanwhile.replace(Some(Vec::new()));
        let compared = self.compare().await;
        // They may have been registered once more.
        let closed = self.closed_meanwhile.take().unwrap_or_default();
        compared.and(self.close(&closed).await)
    }

    async fn compare(&self) -> Result<(), StoreError> {
        let shared = &self.shared;
        let Some(roster) = shared.roster() else { return Ok(()) };
        let node = &shared.settings.node;
        // Before the live ones are listed: who comes in between is in neither, who leaves is in both.
        let registered = self.registered(node).await?;
        let live: Vec<LiveSession> = roster.sessions().await;
        let members: HashSet<String> = live.iter().map(|session| shared.member(node, session.number)).collect();
        // All of them: a part of the store may have been lost, and what describes a session would end.
        for chunk in live.chunks(SESSIONS) {
            let begun = Instant::now();
            all(chunk.iter().map(|session| self.register(session))).await?;
            self.pause(Pace::Leisurely, begun).await;
        }
        let not_live = registered.into_iter().filter(|(member, _)| !members.contains(member));
        let (gone, suspects): (Vec<_>, Vec<_>) =
            not_live.partition(|(member, _)| self.suspects.borrow().contains(member));
        self.suspects.replace(suspects.into_iter().map(|(member, _)| member).collect());
        self.take_back(node, &gone).await
    }

    /// Leaves room for others after a chunk; not while the store comes up, which everybody waits for.
    async fn pause(&self, pace: Pace, begun: Instant) {
        if pace == Pace::Leisurely && self.shared.is_up() {
            tokio::time::sleep(CHUNK_PAUSE.saturating_sub(begun.elapsed())).await;
        }
    }

    async fn register(&self, session: &LiveSession) -> Result<(), StoreError> {
        let shared = &self.shared;
        let node = &shared.settings.node;
        let member = shared.member(node, session.number);
        let mut list = redis::cmd("HSET");
        list.arg(shared.names.sessions(node)).arg(&member).arg(&*session.user);
        shared.ask::<()>(&list).await?;
        // It is here already: the limit is for those who come.
        let mut open = OPEN.key(shared.names.connections(&session.user));
        if shared.run::<u64>(open.arg(&member).arg(u32::MAX)).await? == NEWLY {
            // It came while the store was away, or the store has lost it, and the user's record beside it.
            self.bereft.borrow_mut().entry(session.user.clone()).or_insert_with(Instant::now);
        }
        let record = SessionRecord {
            number: session.number,
            user: session.user.clone(),
            role: session.role,
            address: session.address,
            agent: Box::default(),
            connections_max: u32::MAX,
            active_at: session.active_at,
        };
        shared.describe(&member, &record).await
    }

    /// Takes announcements in.
    async fn hear<'a>(&self, messages: impl Iterator<Item = &'a [u8]>) -> Result<(), StoreError> {
        let mut changes = Vec::new();
        let mut unread: HashSet<Arc<str>> = HashSet::new();
        let (mut keys, mut blocks) = (HashSet::new(), false);
        for message in messages {
            match serde_json::from_slice::<Value>(message) {
                Ok(Value::Object(fields)) => {
                    let text = |name| fields.get(name).and_then(Value::as_str);
                    blocks |= fields.contains_key("ip_blocklist");
                    if let Some(hash) = text("token_hash").and_then(TokenHash::from_hex) {
                        self.shared.deny(hash);
                        changes.push(Change::Token(hash));
                    }
                    keys.extend(text("api_key").filter(|prefix| is_key_prefix(prefix)).map(Arc::from));
                    match User::from_announcement(&fields) {
                        // Without a version nobody knows whether it is news: what is in the store is.
                        Ok(user) if user.version > 0 => {
                            self.shared.remember(&user);
                            changes.push(Change::User(user));
                        }
                        _ => unread.extend(text("user_id").filter(|id| is_user_id(id)).map(Arc::from)),
                    }
                }
                Ok(Value::String(id)) => unread.extend(is_user_id(&id).then(|| Arc::from(id))),
                _ => {
                    let id = std::str::from_utf8(message).ok().map(str::trim).filter(|id| is_user_id(id));
                    unread.extend(id.map(Arc::from));
                }
            }
        }
        self.tell(changes);
        if blocks {
            self.look_at_blocks().await?;
        }
        self.look_at_keys(&keys.into_iter().collect::<Vec<_>>(), Pace::Urgent).await?;
        self.read_users(&unread.into_iter().collect::<Vec<_>>(), Pace::Urgent).await
    }

    /// For changes that nobody announced.
    async fn refresh(&self) -> Result<(), StoreError> {
        self.look_at_blocks().await?;
        self.look_at_users().await?;
        self.look_at_credentials().await
    }

    async fn look_at_blocks(&self) -> Result<(), StoreError> {
        let listed = self.shared.read_blocks().await?;
        let known = self.shared.blocks.load_full();
        if listed == *known {
            return Ok(());
        }
        // Nobody's block is over because the list was lost.
        let blocks = if self.is_whole().await? { listed } else { known.with(listed) };
        if blocks != *known {
            self.shared.blocks.store(Arc::new(blocks));
            self.tell(vec![Change::Blocks]);
        }
        Ok(())
    }

    async fn look_at_users(&self) -> Result<(), StoreError> {
        let users = self.shared.roster().map(|roster| roster.users()).unwrap_or_default();
        if !self.bereft.borrow().is_empty() {
            let here: HashSet<&Arc<str>> = users.iter().collect();
            self.bereft.borrow_mut().retain(|user, _| here.contains(user));
        }
        self.read_users(&users, Pace::Leisurely).await
    }

    /// Reads records and tells of them.
    async fn read_users(&self, users: &[Arc<str>], pace: Pace) -> Result<(), StoreError> {
        for chunk in users.chunks(CHUNK) {
            let begun = Instant::now();
            let read = join_all(chunk.iter().map(|id| self.shared.read_user(id))).await;
            let (mut changes, mut missing) = (Vec::new(), Vec::new());
            for (id, read) in chunk.iter().zip(read) {
                match read {
                    Ok(Some(user)) => {
                        self.bereft.borrow_mut().remove(id);
                        changes.push(Change::User(user));
                    }
                    Ok(None) => missing.push(id.clone()),
                    Err(StoreError::Record { key, error }) => {
                        tracing::error!(key, %error, "a record cannot be understood: its user keeps what it has");
                    }
                    Err(away) => return Err(away),
                }
            }
            if !missing.is_empty() && self.is_whole().await? {
                let gone = self.taken_out(missing).await?;
                changes.extend(gone.into_iter().map(Change::Gone));
            }
            self.tell(changes);
            self.pause(pace, begun).await;
        }
        Ok(())
    }

    /// Whether what is missing in the store was taken out of it, and not lost with the rest.
    async fn is_whole(&self) -> Result<bool, StoreError> {
        Ok(self.has_lease().await? && !self.shared.has_lost())
    }

    /// Those of the users whose record somebody took out of the store. Their connections are registered where the record
    /// was: where they are missing too, this part of a cluster was lost.
    async fn taken_out(&self, mut missing: Vec<Arc<str>>) -> Result<Vec<Arc<str>>, StoreError> {
        let here = self.shared.roster().map(|roster| roster.users()).unwrap_or_default();
        let here: HashSet<Arc<str>> = here.into_iter().collect();
        missing.retain(|user| here.contains(user));
        let registered = all(missing.iter().map(|user| {
            let key = self.shared.names.connections(user);
            async move { self.shared.ask::<bool>(redis::cmd("EXISTS").arg(key)).await }
        }));
        let registered = registered.await?;
        let (now, mut lost, mut gone) = (Instant::now(), false, Vec::new());
        for (user, registered) in missing.into_iter().zip(registered) {
            let mut bereft = self.bereft.borrow_mut();
            if !registered {
                lost |= bereft.insert(user, now).is_none();
            } else if bereft.get(&user).is_none_or(|since| since.elapsed() > self.shared.settings.grace) {
                gone.push(user);
            }
        }
        if lost {
            tracing::warn!("the entitlement store has lost a part of what it held");
            self.shared.counts.losses.one();
            self.behind.set(true);
        }
        Ok(gone)
    }

    /// Tokens that were denied, and API keys that were changed or taken out, while nobody listened.
    async fn look_at_credentials(&self) -> Result<(), StoreError> {
        let Some(roster) = self.shared.roster() else { return Ok(()) };
        let (mut tokens, mut keys) = (HashSet::new(), HashSet::new());
        for credential in roster.sessions().await.into_iter().filter_map(|live| live.credential) {
            match credential {
                Credential::Token(token) => tokens.extend(token.iter()),
                Credential::Key { prefix, .. } => _ = keys.insert(prefix),
            }
        }
        self.look_at_tokens(&tokens.into_iter().collect::<Vec<_>>()).await?;
        self.look_at_keys(&keys.into_iter().collect::<Vec<_>>(), Pace::Leisurely).await
    }

    async fn look_at_tokens(&self, tokens: &[TokenHash]) -> Result<(), StoreError> {
        for chunk in tokens.chunks(CHUNK) {
            let begun = Instant::now();
            let denied = all(chunk.iter().map(|token| self.shared.is_denied(*token))).await?;
            let denied = chunk.iter().zip(denied).filter(|(_, denied)| *denied);
            self.tell(denied.map(|(token, _)| Change::Token(*token)).collect());
            self.pause(Pace::Leisurely, begun).await;
        }
        Ok(())
    }

    async fn look_at_keys(&self, prefixes: &[Arc<str>], pace: Pace) -> Result<(), StoreError> {
        for chunk in prefixes.chunks(CHUNK) {
            let begun = Instant::now();
            let read = join_all(chunk.iter().map(|prefix| self.shared.read_key(prefix))).await;
            let (mut changes, mut missing) = (Vec::new(), Vec::new());
            for (prefix, read) in chunk.iter().zip(read) {
                match read {
                    Ok(Some(record)) => changes.push(Change::Key(prefix.clone(), Some(record.version()))),
                    Ok(None) => missing.push(Change::Key(prefix.clone(), None)),
                    Err(StoreError::Record { key, error }) => {
                        tracing::error!(key, %error, "an API key's record cannot be understood: its sessions go on");
                    }
                    Err(away) => return Err(away),
                }
            }
            // Of a key nothing tells whether its part of a cluster was lost, but what was lost of users beside it.
            if !missing.is_empty() && self.is_whole().await? && self.bereft.borrow().is_empty() {
                changes.append(&mut missing);
            }
            self.tell(changes);
            self.pause(pace, begun).await;
        }
        Ok(())
    }
}

/// Waits for all; the first error, where there was one.
async fn all<T>(
    asked: impl Iterator<Item = impl Future<Output = Result<T, StoreError>>>,
) -> Result<Vec<T>, StoreError> {
    join_all(asked).await.into_iter().collect()
}

/// What failed is done by the next turn, or once the store is back.
fn note(done: Result<(), StoreError>) {
    if let Err(error) = done {
        tracing::debug!(%error, "the entitlement store's keeper");
    }
}
