//! What an event makes of a user's record. Pure.
//!
//! **Invariant**: an event that is not newer than the last one of its row changes nothing.
//!
//! What has to be known for that stands in the record itself, in the field [`FIELD`], so that both change together.

use std::collections::BTreeMap;

use entitlements::{Categories, Status, Tier, User};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::events::{Event, Kind, Position, Row, Says};

/// The field of a record that says where its rights came from.
pub(super) const FIELD: &str = "sources";

/// Rows of one user whose positions are remembered, some 60 bytes each.
const ROWS_MAX: usize = 64;

/// Where a record's rights came from.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Sources {
    /// The newest position of each row.
    rows: BTreeMap<String, Position>,
    /// The row that tier and status are of.
    #[serde(skip_serializing_if = "Option::is_none")]
    subscription: Option<String>,
    /// The row that categories, signals a day and real-time access are of.
    #[serde(skip_serializing_if = "Option::is_none")]
    signals: Option<String>,
    /// While the account is blocked, the subscription's status: what it is again afterwards. Absent where an operator has blocked it.
    #[serde(skip_serializing_if = "Option::is_none")]
    status_beneath: Option<Status>,
}

/// The user's record after the event, and the field [`FIELD`]; `None` where it is not newer than what is known of its row.
pub(super) fn fold(user: Option<&User>, sources: Option<&Value>, event: &Event) -> Option<(User, Value)> {
    let mut sources: Sources = sources.and_then(|value| serde_json::from_value(value.clone()).ok()).unwrap_or_default();
    if sources.rows.get(&event.row).is_some_and(|known| !event.position.is_after(known)) {
        return None;
    }
    let new = || User { categories: Categories::NONE, ..User::new(&event.user, Tier::Free) };
    let mut user = user.cloned().unwrap_or_else(new);
    if user.status != Status::Blocked {
        // An operator has taken the block back.
        sources.status_beneath = None;
    }
    match &event.says {
        Says::Paid(tier) => {
            user.tier = *tier;
            sources.set_status(&mut user, Status::Active);
        }
        Says::Ended(status) => sources.set_status(&mut user, *status),
        Says::Account { is_blocked: true } => {
            if user.status != Status::Blocked {
                sources.status_beneath = Some(user.status);
                user.status = Status::Blocked;
            }
        }
        Says::Account { is_blocked: false } => {
            if let Some(status) = sources.status_beneath.take() {
                user.status = status;
            }
        }
        Says::Row(row) => sources.put_row(&mut user, event, row),
        Says::Gone => {
            if sources.is_of(&sources.subscription, event, Kind::Subscriptions) {
                sources.set_status(&mut user, Status::Cancelled);
            }
            if sources.is_of(&sources.signals, event, Kind::Signals) {
                sources.end_signals(&mut user);
            }
        }
    }
    sources.remember(event);
    // Texts and numbers: there is nothing that JSON could not say.
    serde_json::to_value(&sources).ok().map(|sources| (user, sources))
}

impl Sources {
    /// A subscription's status does not lift a block.
    fn set_status(&mut self, user: &mut User, status: Status) {
        if user.status != Status::Blocked {
            user.status = status;
        } else if let Some(beneath) = &mut self.status_beneath {
            *beneath = status;
        }
    }

    /// Whether what ends is of the event's row; of an own kind, also where it is of none yet.
    fn is_of(&self, current: &Option<String>, event: &Event, own: Kind) -> bool {
        current.as_ref().map_or(event.kind == own, |current| *current == event.row)
    }

    /// An active row takes over; of the others, only the one that counts has something to end.
    fn put_row(&mut self, user: &mut User, event: &Event, row: &Row) {
        let is_active = row.status == Status::Active;
        if let Some(tier) = row.tier
            && (is_active || self.subscription.as_ref().is_none_or(|current| *current == event.row))
        {
            user.tier = tier;
            self.set_status(user, row.status);
            self.subscription = Some(event.row.clone());
        }
        if is_active {
            user.categories = row.categories.unwrap_or(user.categories);
            user.signals_per_day = row.signals_per_day.unwrap_or(user.signals_per_day);
            user.real_time = row.real_time.unwrap_or(user.real_time);
            if row.categories.is_some() || row.signals_per_day.is_some() || row.real_time.is_some() {
                self.signals = Some(event.row.clone());
            }
        } else if self.is_of(&self.signals, event, Kind::Signals) {
            self.end_signals(user);
        }
    }

    fn end_signals(&mut self, user: &mut User) {
        user.categories = Categories::NONE;
        (user.signals_per_day, user.real_time) = (None, None);
        self.signals = None;
    }

    fn remember(&mut self, event: &Event) {
        self.rows.insert(event.row.clone(), event.position.clone());
        while self.rows.len() > ROWS_MAX {
            let current = [self.subscription.as_deref(), self.signals.as_deref(), Some(event.row.as_str())];
            let others = self.rows.iter().filter(|(row, _)| !current.contains(&Some(row.as_str())));
            let oldest = others.reduce(|oldest, other| if oldest.1.is_after(other.1) { other } else { oldest });
            let Some(oldest) = oldest.map(|(row, _)| row.clone()) else { return };
            self.rows.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use entitlements::Category;

    use super::*;

    /// A record, and what goes on with it.
    #[derive(Default)]
    struct Kept {
        user: Option<User>,
        sources: Option<Value>,
    }

    impl Kept {
        fn take(&mut self, event: &Event) -> bool {
            let Some((user, sources)) = fold(self.user.as_ref(), self.sources.as_ref(), event) else { return false };
            (self.user, self.sources) = (Some(user), Some(sources));
            true
        }

        fn is(&self) -> (Tier, Status) {
            self.user.as_ref().map(|user| (user.tier, user.status)).unwrap()
        }
    }

    fn event(kind: Kind, row: &str, lsn: u64, says: Says) -> Event {
        Event {
            user: "alice".into(),
            kind,
            row: row.to_owned(),
            position: Position { lsn: Some(lsn), ..Position::default() },
            says,
        }
    }

    fn row(tier: Option<Tier>, status: Status) -> Says {
        Says::Row(Row { tier, status, categories: None, signals_per_day: None, real_time: None })
    }

    fn subscription(id: &str, lsn: u64, tier: Tier, status: Status) -> Event {
        event(Kind::Subscriptions, id, lsn, row(Some(tier), status))
    }

    fn account(lsn: u64, is_blocked: bool) -> Event {
        event(Kind::Users, "users", lsn, Says::Account { is_blocked })
    }

    #[test]
    fn repeated_and_older_ones_change_nothing() {
        let mut alice = Kept::default();
        let active = subscription("a", 5, Tier::Premium, Status::Active);
        assert!(alice.take(&active));
        assert!(!alice.take(&active));
        assert!(!alice.take(&subscription("a", 4, Tier::Free, Status::Expired)));
        assert_eq!(alice.is(), (Tier::Premium, Status::Active));
        assert!(alice.take(&subscription("a", 6, Tier::Premium, Status::Expired)));
        assert_eq!(alice.is(), (Tier::Premium, Status::Expired));
    }

    #[test]
    fn the_end_of_another_subscription_changes_nothing() {
        let mut alice = Kept::default();
        alice.take(&subscription("old", 1, Tier::Premium, Status::Active));
        alice.take(&subscription("new", 2, Tier::Enterprise, Status::Active));
        alice.take(&subscription("old", 3, Tier::Premium, Status::Cancelled));
        alice.take(&event(Kind::Subscriptions, "old", 4, Says::Gone));
        assert_eq!(alice.is(), (Tier::Enterprise, Status::Active));
        alice.take(&event(Kind::Subscriptions, "new", 5, Says::Gone));
        assert_eq!(alice.is(), (Tier::Enterprise, Status::Cancelled));
        alice.take(&event(Kind::Payments, "payments", 6, Says::Paid(Tier::Premium)));
        assert_eq!(alice.is(), (Tier::Premium, Status::Active));
        alice.take(&event(Kind::Payments, "payments", 7, Says::Ended(Status::Expired)));
        assert_eq!(alice.is(), (Tier::Premium, Status::Expired));
    }

    #[test]
    fn nothing_but_the_account_lifts_the_accounts_block() {
        let mut alice = Kept::default();
        alice.take(&subscription("a", 1, Tier::Premium, Status::Active));
        alice.take(&account(2, true));
        alice.take(&subscription("a", 3, Tier::Enterprise, Status::Paused));
        assert_eq!(alice.is(), (Tier::Enterprise, Status::Blocked));
        alice.take(&account(4, false));
        assert_eq!(alice.is(), (Tier::Enterprise, Status::Paused));
        // An operator's block is the operator's.
        alice.user.as_mut().unwrap().status = Status::Blocked;
        alice.take(&account(5, true));
        alice.take(&account(6, false));
        alice.take(&subscription("a", 7, Tier::Enterprise, Status::Active));
        assert_eq!(alice.is(), (Tier::Enterprise, Status::Blocked));
    }

    #[test]
    fn signals_are_of_the_row_that_was_active_last() {
        let wants = |id: &str, lsn, status, category| {
            let row = Row {
                tier: None,
                status,
                categories: Some(Categories::NONE.with(category)),
                signals_per_day: Some(Some(9)),
                real_time: Some(Some(false)),
            };
            event(Kind::Signals, id, lsn, Says::Row(row))
        };
        let mut alice = Kept::default();
        alice.take(&wants("s", 1, Status::Active, Category::Crypto));
        let user = alice.user.clone().unwrap();
        assert_eq!((user.tier, user.status), (Tier::Free, Status::Active));
        assert_eq!(user.categories, Categories::NONE.with(Category::Crypto));
        assert_eq!((user.signals_per_day, user.real_time), (Some(9), Some(false)));
        alice.take(&wants("t", 2, Status::Active, Category::Forex));
        alice.take(&wants("s", 3, Status::Expired, Category::Crypto));
        assert_eq!(alice.user.as_ref().unwrap().categories, Categories::NONE.with(Category::Forex));
        alice.take(&event(Kind::Signals, "t", 4, Says::Gone));
        let user = alice.user.unwrap();
        assert_eq!((user.categories, user.signals_per_day, user.real_time), (Categories::NONE, None, None));
    }

    #[test]
    fn of_very_many_rows_the_oldest_is_forgotten() {
        let mut alice = Kept::default();
        for lsn in 1..=100 {
            alice.take(&subscription(&format!("row-{lsn}"), lsn, Tier::Premium, Status::Active));
        }
        let sources: Sources = serde_json::from_value(alice.sources.unwrap()).unwrap();
        assert_eq!((sources.rows.len(), sources.rows.contains_key("row-36")), (ROWS_MAX, false));
        assert_eq!(sources.subscription.as_deref(), Some("row-100"));
    }
}
