//! Changes of users' rights that a shard has taken in and not yet taken to all of the users' sessions. Pure.
//!
//! Ten thousand sessions may be decided on anew at once, with all that each is subscribed to. Were that one turn, every tick would
//! wait for it, and the first client would be told after the last one was decided on. So a turn takes some sessions, and writes
//! to them. Each change is told, in order: one that another takes back at once is one all the same.

use std::collections::VecDeque;
use std::sync::Arc;

use entitlements::Principal;
use fanout::SubscriberKey;

use crate::roster::UserChange;

/// Changes that may wait, 32 bytes each beside the rights, which all shards share. Beyond it turns take them without a pause, and
/// ticks wait: whoever brings changes then waits for the shard's queue.
const WAITING_MAX: usize = 16_384;

#[derive(Debug, Default)]
pub(super) struct Changes {
    line: VecDeque<UserChange>,
    /// The rights of the change in hand; `None`: the user is gone.
    in_hand: Option<Arc<Principal>>,
    /// The sessions that it has not come to.
    left: Vec<SubscriberKey>,
}

impl Changes {
    /// Takes changes in.
    pub(super) fn put(&mut self, changes: &[UserChange]) {
        self.line.extend(changes.iter().cloned());
    }

    /// Whether more wait than may.
    pub(super) fn are_too_many(&self) -> bool {
        self.line.len() > WAITING_MAX
    }

    /// The next session to be told, and of what. `sessions` appends a user's, as they are by now.
    pub(super) fn next(
        &mut self,
        sessions: impl Fn(&str, &mut Vec<SubscriberKey>),
    ) -> Option<(SubscriberKey, Option<Arc<Principal>>)> {
        loop {
            if let Some(key) = self.left.pop() {
                return Some((key, self.in_hand.clone()));
            }
            let change = self.line.pop_front()?;
            self.in_hand = change.rights;
            sessions(&change.user, &mut self.left);
        }
    }
}

#[cfg(test)]
mod tests {
    use entitlements::{Tier, Tiers, User};

    use super::*;

    fn change(user: &str, version: Option<u64>) -> UserChange {
        let rights = version.map(|version| {
            let user = User { version, ..User::new(user, Tier::Premium) };
            Arc::new(Principal::new(&user, &Tiers::default()))
        });
        UserChange { user: user.into(), rights }
    }

    #[test]
    fn each_session_is_told_of_each_change_in_order() {
        let sessions = |user: &str, out: &mut Vec<SubscriberKey>| {
            let slots: &[u32] = match user {
                "alice" => &[1, 4],
                "bob" => &[2],
                _ => &[],
            };
            out.extend(slots.iter().map(|slot| SubscriberKey { slot: *slot, generation: 0 }));
        };
        let mut changes = Changes::default();
        let next = |changes: &mut Changes| {
            let (key, rights) = changes.next(sessions)?;
            Some((key.slot, rights.map(|rights| rights.version())))
        };
        assert_eq!(next(&mut changes), None);
        changes.put(&[change("alice", Some(1)), change("nobody", Some(1)), change("bob", None)]);
        assert_eq!(next(&mut changes), Some((4, Some(1))));
        changes.put(&[change("alice", Some(2))]);
        let told: Vec<_> = std::iter::from_fn(|| next(&mut changes)).collect();
        assert_eq!(told, [(1, Some(1)), (2, None), (4, Some(2)), (1, Some(2))]);
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut changes = Changes::default();
        changes.put(&vec![change("alice", Some(1)); WAITING_MAX]);
        assert!(!changes.are_too_many());
        changes.put(&[change("alice", Some(1))]);
        assert!(changes.are_too_many());
    }
}
