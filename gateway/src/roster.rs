//! The sessions of this process as the store sees them: who is connected, and the way for news about users to the shards.
//!
//! News pass through the shards' queues, behind what was put in before, and each shard applies them to its own sessions; no
//! session is touched from another thread. Whoever brings news waits where a shard's queue is full, as the sequencer does:
//! never for a client.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use entitlements::{Answer, Change, LiveSession, Principal, Roster, Update, Users};
use tokio::sync::mpsc;

use crate::context::Context;
use crate::shard::{Input, ShardQueue};

/// A user whose rights are others from now on.
#[derive(Clone, Debug)]
pub(crate) struct UserChange {
    pub(crate) user: Arc<str>,
    /// `None`: the user is gone.
    pub(crate) rights: Option<Arc<Principal>>,
}

/// The roster of this process.
#[derive(Debug)]
pub(crate) struct LiveSessions {
    context: Arc<Context>,
    /// Emptied on the way out: a shard ends once nobody can put anything in any more. Locked while changes are put in, so
    /// that all shards take them in one order.
    queues: Mutex<Vec<ShardQueue>>,
}

impl LiveSessions {
    pub(crate) fn new(context: Arc<Context>, queues: Vec<ShardQueue>) -> LiveSessions {
        LiveSessions { context, queues: Mutex::new(queues) }
    }

    /// Lets the shards end: from now on there are no sessions and nothing is applied.
    pub(crate) fn end(&self) {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Applies what a users file says by now, and did not say before.
    pub(crate) fn compare(&self, before: &Users, users: &Users) {
        let of_user = |id: Arc<str>| match users.user(&id) {
            Some(user) => Change::User(user.clone()),
            None => Change::Gone(id),
        };
        let mut changes: Vec<Change> = self.users().into_iter().map(of_user).collect();
        changes.extend(users.denied().map(Change::Token));
        let changed = before.keys().map(|(prefix, version)| (prefix, version, users.key_version(prefix)));
        let changed = changed.filter(|(_, version, now)| *now != Some(*version));
        changes.extend(changed.map(|(prefix, _, now)| Change::Key(prefix.into(), now)));
        changes.push(Change::Blocks);
        self.apply(changes);
    }
}

impl Roster for LiveSessions {
    fn users(&self) -> Vec<Arc<str>> {
        self.context.connections.users()
    }

    fn sessions(&self) -> Answer<Vec<LiveSession>> {
        let (sender, mut receiver) = mpsc::unbounded_channel();
        for queue in self.queues.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            queue.push(Input::ListSessions(sender.clone()));
        }
        drop(sender);
        // A shard that has ended meanwhile drops its sender, so that this ends all the same.
        Box::pin(async move {
            let mut sessions = Vec::new();
            while let Some(of_shard) = receiver.recv().await {
                sessions.extend(of_shard);
            }
            sessions
        })
    }

    fn apply(&self, changes: Vec<Change>) {
        let queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        let push = |input: Input| {
            for queue in queues.iter() {
                queue.push(input.clone());
            }
        };
        let (mut users, mut tokens, mut keys, mut blocks) = (Vec::new(), HashSet::new(), HashMap::new(), false);
        for change in changes {
            match change {
                Change::User(user) => {
                    let rights = Principal::new(&user, self.context.door.tiers());
                    if let Update::New(rights) = self.context.connections.update(&user.id, Some(rights)) {
                        users.push(UserChange { user: user.id, rights: Some(rights) });
                    }
                }
                Change::Gone(user) => {
                    if self.context.connections.update(&user, None) != Update::NotHere {
                        users.push(UserChange { user, rights: None });
                    }
                }
                Change::Token(token) => {
                    tokens.insert(token);
                }
                Change::Key(prefix, version) => {
                    keys.insert(prefix, version);
                }
                Change::Blocks => blocks = true,
            }
        }
        // Each kind at once: they do not depend on each other, and those of one kind stay in order.
        if !users.is_empty() {
            push(Input::Entitlements(users.into()));
        }
        if !tokens.is_empty() {
            push(Input::TokensDenied(Arc::new(tokens)));
        }
        if !keys.is_empty() {
            push(Input::Keys(Arc::new(keys)));
        }
        if blocks {
            push(Input::Blocks(self.context.door.store().blocks()));
        }
    }
}
