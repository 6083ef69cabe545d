//! The store's own thread: connects, listens, looks, and keeps this node's sessions registered. Nothing here is asked for
//! by a client.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::join_all;
use redis::aio::PubSub;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::names::{CHANGES, NODES};
use super::{Close, OPEN, Shared};
use crate::principal::{User, is_user_id};
use crate::store::{Change, LiveSession, SessionRecord, StoreError};
use crate::token::TokenHash;

/// Records that are asked for at the same time.
const CHUNK: usize = 256;

/// A look at all records takes at least so long for each chunk: 25,600 records a second at most.
const CHUNK_PAUSE: Duration = Duration::from_millis(10);

/// How often the link is tried while nobody asks.
const PING: Duration = Duration::from_millis(250);

/// First and longest pause between two attempts to connect.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// How often the sessions that are registered are compared with those that there are.
const COMPARE: Duration = Duration::from_secs(60);

/// The next comparison where one found some that are not live.
const COMPARE_AGAIN: Duration = Duration::from_secs(2);

/// What the keeper knows beside what it shares.
struct Keeper {
    shared: Arc<Shared>,
    /// Whether the store was up before: then a missing lease means that the database was lost.
    was_up: bool,
    /// When it was last found to be lost. Records that are missing since then say nothing about their users for a while.
    lost: Option<Instant>,
    /// Sessions that were registered and not live at the last comparison. A client that is signing in is so for a moment; who
    /// still is at the next one is taken back.
    suspects: HashSet<String>,
}

/// Runs until the store is dropped.
pub(super) async fn run(shared: Arc<Shared>, mut closes: mpsc::Receiver<Close>) {
    let mut keeper = Keeper { shared, was_up: false, lost: None, suspects: HashSet::new() };
    let mut pause = RETRY.0;
    while !keeper.is_ended() {
        match keeper.come_up().await {
            Ok(listening) => {
                pause = RETRY.0;
                keeper.stay_up(listening, &mut closes).await;
                if keeper.is_ended() {
                    return keeper.leave(&mut closes).await;
                }
                keeper.shared.go_away();
                keeper.shared.link.store(None);
            }
            Err(error) => {
                tracing::debug!(error, "the entitlement store is not there");
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

    /// Connects and brings everything up to date; then the store is up.
    async fn come_up(&mut self) -> Result<PubSub, String> {
        let shared = self.shared.clone();
        let mut listening = shared.place.listen().await.map_err(|error| error.to_string())?;
        listening.subscribe(CHANGES).await.map_err(|error| error.to_string())?;
        let link = shared.place.connect().await.map_err(|error| error.to_string())?;
        shared.failures.store(0, Ordering::Relaxed);
        shared.link.store(Some(Arc::new(link)));
        self.renew_lease().await.map_err(|error| error.to_string())?;
        self.synchronise().await.map_err(|error| error.to_string())?;
        shared.failures.store(0, Ordering::Relaxed);
        // Release: who sees it sees the link.
        shared.up.store(true, Ordering::Release);
        self.was_up = true;
        tracing::info!("the entitlement store is up");
        Ok(listening)
    }

    /// Everything that may have been missed: blocks, records, sessions.
    async fn synchronise(&mut self) -> Result<(), StoreError> {
        self.compare_sessions().await?;
        if self.shared.read_blocks().await? {
            self.tell(vec![Change::Blocks]);
        }
        self.look_at_users().await?;
        self.look_at_tokens().await
    }

    async fn stay_up(&mut self, listening: PubSub, closes: &mut mpsc::Receiver<Close>) {
        let (lease, refresh) = (self.shared.settings.lease / 3, self.shared.settings.refresh);
        let every = |period| {
            let mut ticks = interval(period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks.reset();
            ticks
        };
        let (mut ping, mut lease, mut refresh, mut compare) =
            (every(PING), every(lease), every(refresh), every(COMPARE));
        // Announcements are taken in while this loop looks at other things.
        let mut heard = {
            let (said, heard) = mpsc::channel::<Vec<u8>>(4_096);
            tokio::spawn(async move {
                let mut messages = listening.into_on_message();
                while let Some(message) = messages.next().await {
                    if said.send(message.get_payload_bytes().to_vec()).await.is_err() {
                        return;
                    }
                }
            });
            heard
        };
        let (mut messages, mut closed, mut hurried) = (Vec::new(), Vec::new(), false);
        let shared = self.shared.clone();
        while !self.is_ended() && shared.is_up() {
            let done = tokio::select! {
                biased;
                () = shared.news.notified() => Ok(()),
                count = heard.recv_many(&mut messages, 4_096) => match count {
                    // The line is cut: what was said meanwhile is unknown.
                    0 => return,
                    _ => self.hear(std::mem::take(&mut messages)).await,
                },
                count = closes.recv_many(&mut closed, CHUNK) => match count {
                    0 => return,
                    _ => self.close(&std::mem::take(&mut closed)).await,
                },
                _ = ping.tick() => shared.ask::<()>(&redis::cmd("PING")).await,
                _ = lease.tick() => self.keep_lease().await,
                _ = refresh.tick() => self.refresh().await,
                _ = compare.tick() => self.compare_sessions().await,
            };
            if !self.suspects.is_empty() && !hurried {
                compare.reset_after(COMPARE_AGAIN);
            }
            hurried = !self.suspects.is_empty();
            if let Err(error) = done {
                tracing::debug!(%error, "the entitlement store's keeper");
            }
        }
    }

    /// On the way out: the sessions of this node are over.
    async fn leave(&mut self, closes: &mut mpsc::Receiver<Close>) {
        let mut closed = Vec::new();
        while let Ok(close) = closes.try_recv() {
            closed.push(close);
        }
        for chunk in closed.chunks(CHUNK) {
            if self.close(chunk).await.is_err() {
                return;
            }
        }
        let node = &self.shared.settings.node;
        let left = self.shared.ask::<u64>(redis::cmd("HLEN").arg(self.shared.names.sessions(node))).await;
        if left == Ok(0) {
            let _ = self.shared.ask::<()>(redis::cmd("ZREM").arg(NODES).arg(node)).await;
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
    async fn renew_lease(&mut self) -> Result<(), StoreError> {
        let until = self.server_ms().await? + self.shared.settings.lease.as_millis() as u64;
        let added: u64 =
            self.shared.ask(redis::cmd("ZADD").arg(NODES).arg(until).arg(&self.shared.settings.node)).await?;
        if added == 1 && self.was_up {
            tracing::warn!("the entitlement store has lost what it held");
            self.lost = Some(Instant::now());
        }
        Ok(())
    }

    async fn has_lease(&self) -> Result<bool, StoreError> {
        let score: Option<String> =
            self.shared.ask(redis::cmd("ZSCORE").arg(NODES).arg(&self.shared.settings.node)).await?;
        Ok(score.is_some())
    }

    async fn keep_lease(&mut self) -> Result<(), StoreError> {
        let lost = self.lost;
        self.renew_lease().await?;
        if self.lost != lost {
            self.synchronise().await?;
        }
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
            let sessions: Vec<(String, String)> =
                shared.ask(redis::cmd("HGETALL").arg(shared.names.sessions(node))).await?;
            tracing::info!(node, sessions = sessions.len(), "taking back the sessions of a node that is gone");
            for chunk in sessions.chunks(CHUNK) {
                let taken = join_all(chunk.iter().map(|(member, user)| shared.take_back(node, member, user))).await;
                taken.into_iter().collect::<Result<(), StoreError>>()?;
            }
            shared.ask::<()>(redis::cmd("ZREM").arg(NODES).arg(node)).await?;
        }
        Ok(())
    }

    async fn close(&self, closes: &[Close]) -> Result<(), StoreError> {
        let node = &self.shared.settings.node;
        let closed = join_all(closes.iter().map(|Close { number, user }| async move {
            let member = self.shared.member(node, *number);
            self.shared.take_back(node, &member, user).await
        }));
        // What failed is found by the next comparison.
        closed.await.into_iter().collect()
    }

    /// Registers sessions that are not, and takes back those that are no more.
    async fn compare_sessions(&mut self) -> Result<(), StoreError> {
        let shared = &self.shared.clone();
        let Some(roster) = shared.roster() else { return Ok(()) };
        let node = &shared.settings.node;
        // Before the live ones are listed: who comes in between is in neither, who leaves is in both.
        let registered: Vec<(String, String)> =
            shared.ask(redis::cmd("HGETALL").arg(shared.names.sessions(node))).await?;
        let registered: HashMap<String, String> = registered.into_iter().collect();
        let live: Vec<LiveSession> = roster.sessions().await;
        let members: HashSet<String> = live.iter().map(|session| shared.member(node, session.number)).collect();
        let gone: Vec<_> = registered.iter().filter(|(member, _)| !members.contains(*member)).collect();
        let missing: Vec<&LiveSession> =
            live.iter().filter(|session| !registered.contains_key(&shared.member(node, session.number))).collect();
        for chunk in missing.chunks(CHUNK) {
            let registered = join_all(chunk.iter().map(|session| self.register(session))).await;
            registered.into_iter().collect::<Result<(), StoreError>>()?;
        }
        let (gone, suspects): (Vec<_>, Vec<_>) =
            gone.into_iter().partition(|(member, _)| self.suspects.contains(*member));
        self.suspects = suspects.into_iter().map(|(member, _)| member.clone()).collect();
        for chunk in gone.chunks(CHUNK) {
            let taken = join_all(chunk.iter().map(|(member, user)| shared.take_back(node, member, user))).await;
            taken.into_iter().collect::<Result<(), StoreError>>()?;
        }
        Ok(())
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
        shared.run::<u64>(open.arg(&member).arg(u32::MAX)).await?;
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
    async fn hear(&mut self, messages: Vec<Vec<u8>>) -> Result<(), StoreError> {
        let mut changes = Vec::new();
        let mut unread: HashSet<Arc<str>> = HashSet::new();
        let mut blocks = false;
        for message in &messages {
            match serde_json::from_slice::<Value>(message) {
                Ok(Value::Object(fields)) => {
                    let text = |name| fields.get(name).and_then(Value::as_str);
                    blocks |= fields.contains_key("ip_blocklist");
                    if let Some(hash) = text("token_hash").and_then(TokenHash::from_hex) {
                        changes.push(Change::Token(hash));
                    }
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
        if blocks && self.shared.read_blocks().await? {
            self.tell(vec![Change::Blocks]);
        }
        let unread: Vec<Arc<str>> = unread.into_iter().collect();
        self.read_users(&unread, false).await
    }

    async fn refresh(&mut self) -> Result<(), StoreError> {
        if self.shared.read_blocks().await? {
            self.tell(vec![Change::Blocks]);
        }
        self.look_at_users().await
    }

    async fn look_at_users(&mut self) -> Result<(), StoreError> {
        let users = self.shared.roster().map(|roster| roster.users()).unwrap_or_default();
        self.read_users(&users, true).await
    }

    /// Reads records and tells of them.
    async fn read_users(&mut self, users: &[Arc<str>], paced: bool) -> Result<(), StoreError> {
        for chunk in users.chunks(CHUNK) {
            let begun = Instant::now();
            let read = join_all(chunk.iter().map(|id| self.shared.read_user(id))).await;
            let (mut changes, mut missing) = (Vec::new(), Vec::new());
            for (id, read) in chunk.iter().zip(read) {
                match read {
                    Ok(Some(user)) => changes.push(Change::User(user)),
                    Ok(None) => missing.push(id.clone()),
                    Err(StoreError::Record { key, error }) => {
                        tracing::error!(key, %error, "a record cannot be understood: its user keeps what it has");
                    }
                    Err(away) => return Err(away),
                }
            }
            if !missing.is_empty() && self.is_whole().await? {
                changes.extend(missing.into_iter().map(Change::Gone));
            }
            self.tell(changes);
            if paced && chunk.len() == CHUNK {
                tokio::time::sleep(CHUNK_PAUSE.saturating_sub(begun.elapsed())).await;
            }
        }
        Ok(())
    }

    /// Whether what is missing in the store was taken out of it, and not lost with the rest.
    async fn is_whole(&mut self) -> Result<bool, StoreError> {
        if !self.has_lease().await? {
            self.keep_lease_soon();
            return Ok(false);
        }
        let grace = self.shared.settings.grace;
        Ok(self.lost.is_none_or(|lost| lost.elapsed() > grace))
    }

    /// The lease is renewed at the loop's next turn for it; until then nothing that is missing counts.
    fn keep_lease_soon(&mut self) {
        self.lost = Some(Instant::now());
    }

    /// Tokens that were denied while nobody listened.
    async fn look_at_tokens(&self) -> Result<(), StoreError> {
        let Some(roster) = self.shared.roster() else { return Ok(()) };
        let tokens: HashSet<TokenHash> = roster.sessions().await.into_iter().filter_map(|live| live.token).collect();
        let tokens: Vec<TokenHash> = tokens.into_iter().collect();
        for chunk in tokens.chunks(CHUNK) {
            let denied = join_all(chunk.iter().map(|token| async move {
                self.shared.ask::<bool>(redis::cmd("EXISTS").arg(self.shared.names.denied(token))).await
            }));
            let mut changes = Vec::new();
            for (token, denied) in chunk.iter().zip(denied.await) {
                if denied? {
                    changes.push(Change::Token(*token));
                }
            }
            self.tell(changes);
        }
        Ok(())
    }
}
