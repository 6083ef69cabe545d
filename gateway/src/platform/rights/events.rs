//! What the platform's records say about users' rights: payments, and rows of its databases as Debezium tells of them. Pure.
//!
//! A reason names what is wrong and never repeats a value: it goes into a header that others read.

use std::sync::Arc;

use entitlements::{Categories, Category, Status, Tier, is_user_id};
use protocol::parse_rfc3339;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

type Fields = Map<String, Value>;

/// What a topic tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Payments,
    /// Rows of subscriptions: tier and status.
    Subscriptions,
    /// Rows of what signals a user wants and may have.
    Signals,
    Users,
}

impl Kind {
    /// How rows of it are named in a user's record, whatever its topic is called.
    const fn name(self) -> &'static str {
        match self {
            Kind::Payments => "payments",
            Kind::Subscriptions => "subscriptions",
            Kind::Signals => "signals",
            Kind::Users => "users",
        }
    }
}

/// Where in its source a change stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Position {
    /// In PostgreSQL's log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) lsn: Option<u64>,
    /// In MySQL's: file, byte, and the row within one change of several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) binlog: Option<(String, u64, u64)>,
    /// Its time, Unix ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ms: Option<i64>,
}

impl Position {
    /// Whether it is newer, by the most exact that both have. Where they have nothing in common, the source has become another one,
    /// and what it says is new.
    pub(crate) fn is_after(&self, other: &Position) -> bool {
        if let (Some(lsn), Some(other)) = (self.lsn, other.lsn) {
            return lsn > other;
        }
        if let (Some((file, pos, row)), Some((of, op, or))) = (&self.binlog, &other.binlog) {
            // `binlog.1000000` comes after `binlog.999999`.
            return (file.len(), file, pos, row) > (of.len(), of, op, or);
        }
        self.ms.zip(other.ms).is_none_or(|(ms, other)| ms > other)
    }
}

/// One thing that happened to one user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) user: Arc<str>,
    pub(crate) kind: Kind,
    /// The row, by its kind and id.
    pub(crate) row: String,
    pub(crate) position: Position,
    pub(crate) says: Says,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Says {
    /// A subscription's row is so now.
    Row(Row),
    /// There is no such row of this user any more.
    Gone,
    Paid(Tier),
    /// What was paid for has ended.
    Ended(Status),
    /// The account is good, or blocked.
    Account {
        is_blocked: bool,
    },
}

/// What a row has of our columns. The inner `None` is a column that is null: as the tier has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) tier: Option<Tier>,
    pub(crate) status: Status,
    pub(crate) categories: Option<Categories>,
    pub(crate) signals_per_day: Option<Option<u32>>,
    pub(crate) real_time: Option<Option<bool>>,
}

/// Reads what a record says; nothing where it is a tombstone. `timestamp_ms` is Kafka's own.
///
/// # Errors
/// What is wrong, in words for an operator.
pub(crate) fn decode(
    kind: Kind,
    key: Option<&[u8]>,
    payload: Option<&[u8]>,
    timestamp_ms: Option<i64>,
) -> Result<Vec<Event>, String> {
    let Some(payload) = payload else { return Ok(Vec::new()) };
    let value: Value = serde_json::from_slice(payload).map_err(|_| "is no JSON".to_owned())?;
    let Value::Object(mut fields) = value else { return Err("is no JSON object".to_owned()) };
    let is_wrapped = !fields.contains_key("op") && !fields.contains_key("user_id");
    match fields.get_mut("payload") {
        Some(Value::Object(payload)) if is_wrapped => fields = std::mem::take(payload),
        // A tombstone that was wrapped.
        Some(Value::Null) if is_wrapped => return Ok(Vec::new()),
        _ => {}
    }
    match kind {
        Kind::Payments => payment(&fields, timestamp_ms).map(|event| vec![event]),
        _ => change(kind, key, &fields),
    }
}

fn payment(fields: &Fields, timestamp_ms: Option<i64>) -> Result<Event, String> {
    let at =
        ["ts_ms", "timestamp", "occurred_at", "created_at"].into_iter().find_map(|name| time_ms(fields.get(name)?));
    let at = at.or(timestamp_ms).ok_or("timestamp: is missing")?;
    let what = text(fields, &["status", "event_type", "type", "event"]).ok_or("status: is missing")?.to_lowercase();
    // `plan.paid`, `subscription_lapsed`.
    let says = match what.rsplit(['.', '_', '-']).next().unwrap_or_default() {
        "paid" | "succeeded" | "renewed" => Says::Paid(tier(fields)?.ok_or("tier: is missing")?),
        "lapsed" | "expired" => Says::Ended(Status::Expired),
        "refunded" => Says::Ended(Status::Cancelled),
        _ => return Err("status: expected paid, lapsed or refunded".to_owned()),
    };
    let user = user(fields, &["user_id"])?;
    let row = Kind::Payments.name().to_owned();
    Ok(Event { user, kind: Kind::Payments, row, position: Position { ms: Some(at), ..Position::default() }, says })
}

/// An envelope of Debezium. A row that has become another user's is gone for the one before.
fn change(kind: Kind, key: Option<&[u8]>, envelope: &Fields) -> Result<Vec<Event>, String> {
    let op = envelope.get("op").and_then(Value::as_str).ok_or("op: is missing")?;
    let row = |name: &'static str| match envelope.get(name) {
        Some(Value::Object(row)) => Ok(Some(row)),
        None | Some(Value::Null) => Ok(None),
        Some(_) => Err(format!("{name}: is no row")),
    };
    let (before, after) = (row("before")?, row("after")?);
    let position = position(envelope)?;
    let ids: &[&str] = if kind == Kind::Users { &["user_id", "id"] } else { &["user_id"] };
    let event = |row: &Fields, says| {
        let user = user(row, ids)?;
        let row = row_name(kind, row, key, &user);
        Ok::<_, String>(Event { user, kind, row, position: position.clone(), says })
    };
    match (op, after, before) {
        ("c" | "u" | "r", Some(after), before) => {
            let says = match kind {
                Kind::Users => Says::Account { is_blocked: is_blocked(after)? },
                _ => Says::Row(subscription(kind, after)?),
            };
            let now = event(after, says)?;
            let moved = before.and_then(|before| event(before, Says::Gone).ok()).filter(|gone| gone.user != now.user);
            Ok(moved.into_iter().chain([now]).collect())
        }
        ("c" | "u" | "r", None, _) => Err("after: is missing".to_owned()),
        ("d", _, Some(before)) => {
            let says = if kind == Kind::Users { Says::Account { is_blocked: true } } else { Says::Gone };
            Ok(vec![event(before, says).map_err(|reason| format!("before.{reason}"))?])
        }
        ("d", _, None) => Err("before: is missing".to_owned()),
        _ => Err("op: expected c, u, d or r".to_owned()),
    }
}

fn position(envelope: &Fields) -> Result<Position, String> {
    let source = envelope.get("source").and_then(Value::as_object);
    let of_source = |name| source.and_then(|source| source.get(name));
    let number = |name| of_source(name).and_then(Value::as_u64);
    let file = of_source("file").and_then(Value::as_str).filter(|file| !file.is_empty());
    let binlog = file.zip(number("pos")).map(|(file, pos)| (file.to_owned(), pos, number("row").unwrap_or(0)));
    let ms = envelope.get("ts_ms").or_else(|| of_source("ts_ms")).and_then(Value::as_i64);
    let position = Position { lsn: number("lsn"), binlog, ms };
    if position == Position::default() { Err("ts_ms: is missing".to_owned()) } else { Ok(position) }
}

/// The row's id; where it has none, the record's key; where that is none either, the user has one row.
fn row_name(kind: Kind, row: &Fields, key: Option<&[u8]>, user: &str) -> String {
    let id = if kind == Kind::Users { None } else { text(row, &["id", "subscription_id"]) };
    let key = || key.map(|key| String::from_utf8_lossy(key).into_owned());
    match kind {
        Kind::Users => kind.name().to_owned(),
        _ => format!("{}/{}", kind.name(), id.or_else(key).unwrap_or_else(|| user.to_owned())),
    }
}

fn subscription(kind: Kind, row: &Fields) -> Result<Row, String> {
    let status = match text(row, &["status"]).map(|status| status.to_lowercase()).as_deref() {
        Some("active" | "trial" | "trialing") => Status::Active,
        Some("cancelled" | "canceled" | "refunded") => Status::Cancelled,
        Some("expired" | "lapsed" | "past_due" | "unpaid") => Status::Expired,
        // Who is blocked, is so as a user.
        Some("paused" | "suspended" | "blocked") => Status::Paused,
        None if kind == Kind::Signals => Status::Active,
        None => return Err("status: is missing".to_owned()),
        Some(_) => return Err("status: expected active, cancelled, expired or paused".to_owned()),
    };
    let tier = tier(row)?;
    if tier.is_none() && kind == Kind::Subscriptions {
        return Err("tier: is missing".to_owned());
    }
    let categories = row.get("signal_categories").map(categories).transpose()?;
    let signals_per_day = row.get("max_signals_per_day").map(limit).transpose()?;
    let real_time = row.get("real_time_access").map(flag).transpose()?;
    Ok(Row { tier, status, categories, signals_per_day, real_time })
}

/// `premium`, `Premium`, `premium_monthly`.
fn tier(row: &Fields) -> Result<Option<Tier>, String> {
    let Some(plan) = text(row, &["tier", "subscription_tier", "plan", "plan_name", "plan_id"]) else { return Ok(None) };
    let plan = plan.to_lowercase();
    let name = plan.split(['_', '-', ' ', '.']).next().unwrap_or_default();
    Tier::from_name(name).map(Some).ok_or_else(|| "tier: expected free, premium or enterprise".to_owned())
}

fn is_blocked(row: &Fields) -> Result<bool, String> {
    if row.get("deleted_at").is_some_and(|at| !at.is_null()) {
        return Ok(true);
    }
    match text(row, &["status", "account_status"]).ok_or("status: is missing")?.to_lowercase().as_str() {
        "blocked" | "suspended" | "deleted" | "banned" | "disabled" | "inactive" | "closed" => Ok(true),
        "active" | "pending" | "verified" | "unverified" | "pending_verification" => Ok(false),
        _ => Err("status: expected active, pending, blocked, suspended or deleted".to_owned()),
    }
}

fn user(row: &Fields, names: &[&str]) -> Result<Arc<str>, String> {
    let id = text(row, names).ok_or("user_id: is missing")?;
    if is_user_id(&id) { Ok(id.into()) } else { Err("user_id: can be nobody's".to_owned()) }
}

/// The first of these fields that is a text or a whole number.
fn text(row: &Fields, names: &[&str]) -> Option<String> {
    names.iter().find_map(|name| match row.get(*name)? {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) if number.is_i64() || number.is_u64() => Some(number.to_string()),
        _ => None,
    })
}

/// A list, or the text of one: JSON's, PostgreSQL's `{crypto,forex}`, or names with commas between them.
fn categories(value: &Value) -> Result<Categories, String> {
    let wrong = || "signal_categories: expected a list of equity, forex, crypto, commodity".to_owned();
    let names: Vec<String> = match value {
        Value::Null => Vec::new(),
        Value::Array(list) => {
            list.iter().map(|name| name.as_str().map(str::to_owned)).collect::<Option<_>>().ok_or_else(wrong)?
        }
        Value::String(list) => {
            let list = list.trim_matches(['{', '}', '[', ']', ' ']);
            list.split(',')
                .map(|name| name.trim_matches([' ', '"']).to_owned())
                .filter(|name| !name.is_empty())
                .collect()
        }
        _ => return Err(wrong()),
    };
    names.iter().try_fold(Categories::NONE, |all, name| {
        Category::from_name(&name.to_lowercase()).map(|category| all.with(category)).ok_or_else(wrong)
    })
}

fn limit(value: &Value) -> Result<Option<u32>, String> {
    match value {
        Value::Null => Ok(None),
        value => match value.as_u64().and_then(|limit| u32::try_from(limit).ok()) {
            Some(limit @ 1..) => Ok(Some(limit)),
            _ => Err("max_signals_per_day: expected a whole number of at least 1".to_owned()),
        },
    }
}

fn flag(value: &Value) -> Result<Option<bool>, String> {
    match value {
        Value::Null => Ok(None),
        Value::Bool(flag) => Ok(Some(*flag)),
        // MySQL's TINYINT(1).
        Value::Number(number) if number.as_u64().is_some_and(|bit| bit < 2) => Ok(Some(number.as_u64() == Some(1))),
        _ => Err("real_time_access: expected true or false".to_owned()),
    }
}

/// Unix ms, or a text as of RFC 3339.
fn time_ms(value: &Value) -> Option<i64> {
    match value {
        Value::String(text) => parse_rfc3339(text.as_bytes()).map(|ns| ns.div_euclid(1_000_000)),
        value => value.as_i64(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(ms: i64) -> Position {
        Position { ms: Some(ms), ..Position::default() }
    }

    fn decoded(kind: Kind, record: &Value) -> Result<Vec<Event>, String> {
        decode(kind, Some(b"{\"id\":1}"), Some(record.to_string().as_bytes()), Some(5))
    }

    fn one(kind: Kind, record: &Value) -> Event {
        let mut events = decoded(kind, record).unwrap();
        assert_eq!(events.len(), 1, "{record}");
        events.remove(0)
    }

    #[test]
    fn a_row_is_read_with_and_without_its_wrapper() {
        let row = json!({"id": 42, "user_id": "alice", "plan_name": "Premium_yearly", "status": "ACTIVE", "price": 9.5,
                         "signal_categories": "{crypto,forex}", "max_signals_per_day": 50, "real_time_access": null});
        let envelope = json!({"op": "c", "before": null, "after": row, "source": {"lsn": 7, "db": "x"}, "ts_ms": 1});
        let read = one(Kind::Subscriptions, &envelope);
        let expected = Event {
            user: "alice".into(),
            kind: Kind::Subscriptions,
            row: "subscriptions/42".to_owned(),
            position: Position { lsn: Some(7), ..at(1) },
            says: Says::Row(Row {
                tier: Some(Tier::Premium),
                status: Status::Active,
                categories: Some(Categories::NONE.with(Category::Crypto).with(Category::Forex)),
                signals_per_day: Some(Some(50)),
                real_time: Some(None),
            }),
        };
        assert_eq!(read, expected);
        assert_eq!(one(Kind::Subscriptions, &json!({"schema": {"type": "struct"}, "payload": envelope})), expected);
    }

    #[test]
    fn rows_that_end_or_move_and_tombstones() {
        let row = |user: &str| json!({"id": "a", "user_id": user, "tier": "premium", "status": "active"});
        let gone = one(Kind::Subscriptions, &json!({"op": "d", "before": row("alice"), "after": null, "ts_ms": 3}));
        assert_eq!((gone.says, gone.position), (Says::Gone, at(3)));
        let moved = json!({"op": "u", "before": row("alice"), "after": row("bob"), "ts_ms": 3});
        let moved = decoded(Kind::Subscriptions, &moved).unwrap();
        let told: Vec<_> = moved.iter().map(|event| (&*event.user, event.says == Says::Gone)).collect();
        assert_eq!(told, [("alice", true), ("bob", false)]);
        assert_eq!(decode(Kind::Users, None, None, None), Ok(Vec::new()));
        assert_eq!(decoded(Kind::Users, &json!({"schema": null, "payload": null})), Ok(Vec::new()));
        let deleted = one(Kind::Users, &json!({"op": "d", "before": {"id": 7}, "ts_ms": 3}));
        assert_eq!((&*deleted.user, deleted.says), ("7", Says::Account { is_blocked: true }));
    }

    #[test]
    fn payments() {
        let paid = one(Kind::Payments, &json!({"user_id": "alice", "type": "plan.paid", "plan": "enterprise"}));
        assert_eq!((paid.says, paid.position), (Says::Paid(Tier::Enterprise), at(5)));
        for (status, expected) in [("lapsed", Status::Expired), ("refunded", Status::Cancelled)] {
            let record = json!({"user_id": "alice", "status": status, "timestamp": "1970-01-01T00:00:02Z"});
            let ended = one(Kind::Payments, &record);
            assert_eq!((ended.says, ended.position), (Says::Ended(expected), at(2_000)));
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let row = |name: &str, value: Value| {
            let mut row = json!({"id": 1, "user_id": "alice", "tier": "premium", "status": "active"});
            row[name] = value;
            json!({"op": "u", "after": row, "ts_ms": 1})
        };
        let expected_categories = "signal_categories: expected a list of equity, forex, crypto, commodity";
        for (kind, record, reason) in [
            (Kind::Users, json!([]), "is no JSON object"),
            (Kind::Users, json!({}), "op: is missing"),
            (Kind::Users, json!({"op": "t", "ts_ms": 1}), "op: expected c, u, d or r"),
            (Kind::Users, json!({"op": "u", "ts_ms": 1}), "after: is missing"),
            (Kind::Users, json!({"op": "d", "ts_ms": 1}), "before: is missing"),
            (Kind::Users, json!({"op": "u", "after": {"id": 1}}), "ts_ms: is missing"),
            (Kind::Users, json!({"op": "u", "after": 7, "ts_ms": 1}), "after: is no row"),
            (
                Kind::Users,
                row("status", json!("odd")),
                "status: expected active, pending, blocked, suspended or deleted",
            ),
            (Kind::Signals, json!({"op": "d", "before": {"id": 7}, "ts_ms": 1}), "before.user_id: is missing"),
            (Kind::Subscriptions, row("tier", json!("gold")), "tier: expected free, premium or enterprise"),
            (Kind::Subscriptions, row("tier", json!(null)), "tier: is missing"),
            (Kind::Subscriptions, row("status", json!(null)), "status: is missing"),
            (Kind::Subscriptions, row("user_id", json!("a{b}")), "user_id: can be nobody's"),
            (Kind::Signals, row("signal_categories", json!(["bonds"])), expected_categories),
            (
                Kind::Signals,
                row("max_signals_per_day", json!(0)),
                "max_signals_per_day: expected a whole number of at least 1",
            ),
            (Kind::Signals, row("real_time_access", json!("yes")), "real_time_access: expected true or false"),
            (Kind::Payments, json!({"user_id": "alice", "status": "paid"}), "tier: is missing"),
            (
                Kind::Payments,
                json!({"user_id": "alice", "status": "pending"}),
                "status: expected paid, lapsed or refunded",
            ),
        ] {
            assert_eq!(decoded(kind, &record), Err(reason.to_owned()), "{record}");
        }
        assert_eq!(decode(Kind::Users, None, Some(b"{"), None), Err("is no JSON".to_owned()));
    }

    #[test]
    fn positions_of_one_source_are_in_order() {
        let log = |lsn, ms| Position { lsn: Some(lsn), ..at(ms) };
        let file = |file: &str, pos, row| Position { binlog: Some((file.to_owned(), pos, row)), ..at(1) };
        for (newer, older) in [
            (log(10, 1), log(9, 2)),
            (file("bin.000002", 4, 0), file("bin.000001", 900, 0)),
            (file("bin.1000000", 4, 0), file("bin.999999", 4, 0)),
            (file("bin.000002", 4, 1), file("bin.000002", 4, 0)),
            (at(2), at(1)),
            // A snapshot that says no more than its time, and what went before and after.
            (at(2), log(10, 1)),
            (log(10, 3), at(2)),
        ] {
            assert!(newer.is_after(&older) && !older.is_after(&newer) && !newer.is_after(&newer), "{newer:?}");
            let text = serde_json::to_string(&newer).unwrap();
            assert_eq!(serde_json::from_str::<Position>(&text).unwrap(), newer);
        }
    }
}
