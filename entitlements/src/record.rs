//! A user's record as the platform writes it: JSON, or a hash of the same fields. Both are read field by field, so that what
//! others add for themselves does no harm and what is wrong is named.

use std::fmt::Display;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::principal::{Categories, Category, Status, Tier, User, is_user_id};

/// The fields of a record that are ours; the others are left as they are.
const FIELDS: [&str; 9] = [
    "user_id",
    "tier",
    "status",
    "signal_categories",
    "real_time_access",
    "max_connections",
    "max_channels",
    "max_signals_per_day",
    "version",
];

/// What is wrong with a record. The value is not repeated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct RecordError {
    /// Empty where the record as a whole is meant.
    pub field: &'static str,
    pub problem: String,
}

fn wrong(field: &'static str, problem: impl Display) -> RecordError {
    RecordError { field, problem: problem.to_string() }
}

impl User {
    /// Reads the record of the user `id` from JSON:
    ///
    /// ```json
    /// {"user_id":"alice","tier":"premium","status":"active","signal_categories":["crypto","equity"],
    ///  "max_signals_per_day":500,"real_time_access":true,"max_connections":5,"max_channels":100,"version":7}
    /// ```
    ///
    /// `tier` and `status` are needed; without `signal_categories` there are none; the others are the tier's where they are
    /// absent or `null`. `user_id`, where it is there, has to be `id`.
    ///
    /// # Errors
    /// [`RecordError`] names the first field that is wrong.
    pub fn from_json(id: &Arc<str>, json: &[u8]) -> Result<User, RecordError> {
        let value: Value = serde_json::from_slice(json).map_err(|_| wrong("", "is no JSON"))?;
        let Value::Object(fields) = value else { return Err(wrong("", "is no JSON object")) };
        User::from_fields(id, &fields)
    }

    /// Reads the record from the fields of a hash, each of them a text: numbers in digits, `true` or `false`, and
    /// categories as a JSON list or with commas between them.
    ///
    /// # Errors
    /// As [`User::from_json`].
    pub fn from_hash<'a>(
        id: &Arc<str>,
        hash: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Result<User, RecordError> {
        let mut fields = Map::new();
        for (name, value) in hash {
            let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
            let (name, value) = (text(name), text(value));
            let value = match name.as_str() {
                "tier" | "status" | "user_id" => Value::String(value),
                "signal_categories" if !value.starts_with('[') => {
                    value.split(',').map(str::trim).filter(|name| !name.is_empty()).collect()
                }
                _ if value.is_empty() => Value::Null,
                _ => serde_json::from_str(&value).unwrap_or(Value::String(value)),
            };
            fields.insert(name, value);
        }
        User::from_fields(id, &fields)
    }

    /// Reads a record that says itself whose it is.
    ///
    /// # Errors
    /// As [`User::from_json`]; also where `user_id` is missing or can be nobody's.
    pub fn from_announcement(fields: &Map<String, Value>) -> Result<User, RecordError> {
        let id = fields.get("user_id").and_then(Value::as_str).filter(|id| is_user_id(id));
        let id = id.ok_or_else(|| wrong("user_id", "expected 1 to 128 visible ASCII characters without braces"))?;
        User::from_fields(&id.into(), fields)
    }

    fn from_fields(id: &Arc<str>, fields: &Map<String, Value>) -> Result<User, RecordError> {
        let field = |name| fields.get(name).filter(|value| !value.is_null());
        if field("user_id").is_some_and(|named| named.as_str() != Some(id)) {
            return Err(wrong("user_id", "is another user's"));
        }
        let tier = field("tier").and_then(|tier| Tier::from_name(tier.as_str()?));
        let status = field("status").and_then(|status| Status::from_name(status.as_str()?));
        let categories = match field("signal_categories") {
            None => Categories::NONE,
            Some(list) => categories(list)
                .ok_or_else(|| wrong("signal_categories", "expected a list of equity, forex, crypto, commodity"))?,
        };
        let real_time = match field("real_time_access") {
            None => None,
            Some(value) => Some(value.as_bool().ok_or_else(|| wrong("real_time_access", "expected true or false"))?),
        };
        let limit = |name: &'static str| match field(name) {
            None => Ok(None),
            Some(value) => match value.as_u64().and_then(|limit| u32::try_from(limit).ok()) {
                Some(limit) if limit > 0 => Ok(Some(limit)),
                _ => Err(wrong(name, "expected a whole number of at least 1")),
            },
        };
        let version = match field("version") {
            None => 0,
            Some(version) => version.as_u64().ok_or_else(|| wrong("version", "expected a whole number"))?,
        };
        Ok(User {
            id: id.clone(),
            tier: tier.ok_or_else(|| wrong("tier", "expected one of free, premium, enterprise"))?,
            status: status
                .ok_or_else(|| wrong("status", "expected one of active, cancelled, expired, paused, blocked"))?,
            categories,
            real_time,
            connections: limit("max_connections")?,
            channels: limit("max_channels")?,
            signals_per_day: limit("max_signals_per_day")?,
            version,
        })
    }

    /// The record as JSON, in the form that [`User::from_json`] reads; what is as the tier has it is left out.
    pub fn to_json(&self) -> String {
        Value::Object(self.to_fields()).to_string()
    }

    /// The same, with what others have added to `kept`, a record in JSON.
    pub fn to_json_within(&self, kept: &[u8]) -> String {
        let mut record: Map<String, Value> = serde_json::from_slice(kept).unwrap_or_default();
        record.retain(|name, _| !FIELDS.contains(&name.as_str()));
        record.extend(self.to_fields());
        Value::Object(record).to_string()
    }

    /// The record as the fields of a hash, in the form that [`User::from_hash`] reads; empty where it is as the tier has it.
    pub fn to_hash(&self) -> [(&'static str, String); FIELDS.len()] {
        let fields = self.to_fields();
        FIELDS.map(|name| {
            let value = match fields.get(name) {
                None => String::new(),
                Some(Value::String(text)) => text.clone(),
                Some(Value::Array(_)) => self.categories.iter().map(Category::name).collect::<Vec<_>>().join(","),
                Some(value) => value.to_string(),
            };
            (name, value)
        })
    }

    fn to_fields(&self) -> Map<String, Value> {
        let categories: Value = self.categories.iter().map(Category::name).collect();
        let fields = [
            Some(Value::from(&*self.id)),
            Some(self.tier.name().into()),
            Some(self.status.name().into()),
            Some(categories),
            self.real_time.map(Value::from),
            self.connections.map(Value::from),
            self.channels.map(Value::from),
            self.signals_per_day.map(Value::from),
            Some(self.version.into()),
        ];
        FIELDS.into_iter().zip(fields).filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }
}

fn categories(list: &Value) -> Option<Categories> {
    let named = |value: &Value| Category::from_name(value.as_str()?);
    list.as_array()?.iter().try_fold(Categories::NONE, |all, value| Some(all.with(named(value)?)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(json: &str) -> Result<User, String> {
        User::from_json(&"alice".into(), json.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn what_others_add_does_no_harm_and_what_is_wrong_is_named() {
        let alice = read(r#"{"tier":"premium","status":"active","plan":{"since":2020},"max_channels":null}"#).unwrap();
        assert_eq!(alice, User { categories: Categories::NONE, ..User::new("alice", Tier::Premium) });
        for (json, error) in [
            ("", ": is no JSON"),
            ("[]", ": is no JSON object"),
            ("{}", "tier: expected one of free, premium, enterprise"),
            (r#"{"tier":"Premium","status":"active"}"#, "tier: expected one of free, premium, enterprise"),
            (r#"{"tier":"free"}"#, "status: expected one of active, cancelled, expired, paused, blocked"),
            (r#"{"tier":"free","status":"active","user_id":"bob"}"#, "user_id: is another user's"),
            (
                r#"{"tier":"free","status":"active","signal_categories":["bonds"]}"#,
                "signal_categories: expected a list of equity, forex, crypto, commodity",
            ),
            (
                r#"{"tier":"free","status":"active","max_connections":0}"#,
                "max_connections: expected a whole number of at least 1",
            ),
            (r#"{"tier":"free","status":"active","version":-1}"#, "version: expected a whole number"),
            (
                r#"{"tier":"free","status":"active","real_time_access":"yes"}"#,
                "real_time_access: expected true or false",
            ),
        ] {
            assert_eq!(read(json), Err(error.to_owned()), "{json}");
        }
    }

    #[test]
    fn a_hash_has_the_same_fields_as_text() {
        let hash: [(&[u8], &[u8]); 8] = [
            (b"tier", b"enterprise"),
            (b"status", b"paused"),
            (b"signal_categories", b"crypto, forex"),
            (b"real_time_access", b"false"),
            (b"max_connections", b"3"),
            (b"max_channels", b""),
            (b"version", b"9"),
            (b"note", b"\xff{"),
        ];
        let read = User::from_hash(&"alice".into(), hash).unwrap();
        let expected = User {
            status: Status::Paused,
            categories: Categories::NONE.with(Category::Crypto).with(Category::Forex),
            real_time: Some(false),
            connections: Some(3),
            version: 9,
            ..User::new("alice", Tier::Enterprise)
        };
        assert_eq!(read, expected);
        let list: [(&[u8], &[u8]); 3] =
            [(b"tier", b"free"), (b"status", b"active"), (b"signal_categories", br#"["equity"]"#)];
        let read = User::from_hash(&"alice".into(), list).unwrap();
        assert_eq!(read.categories, Categories::NONE.with(Category::Equity));
    }

    #[test]
    fn what_others_have_added_stays() {
        let kept = br#"{"tier":"free","plan":{"since":2020},"max_channels":7,"note":null}"#;
        let alice = User { categories: Categories::NONE, version: 2, ..User::new("alice", Tier::Premium) };
        let changed: Value = serde_json::from_str(&alice.to_json_within(kept)).unwrap();
        let expected = serde_json::json!({
            "user_id": "alice", "tier": "premium", "status": "active", "signal_categories": [], "version": 2,
            "plan": {"since": 2020}, "note": null,
        });
        assert_eq!(changed, expected);
        assert_eq!(alice.to_json_within(b"nonsense"), alice.to_json());
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(
            tier in 0..3usize,
            status in 0..5usize,
            categories in 0..16u8,
            real_time: Option<bool>,
            limits in prop::array::uniform3(prop::option::of(1..=u32::MAX)),
            version: u64,
        ) {
            let [connections, channels, signals_per_day] = limits;
            let named = Category::ALL.into_iter().filter(|category| categories & 1 << *category as u8 != 0);
            let user = User {
                id: "a".into(),
                tier: Tier::ALL[tier],
                status: Status::ALL[status],
                categories: named.fold(Categories::NONE, Categories::with),
                real_time,
                connections,
                channels,
                signals_per_day,
                version,
            };
            prop_assert_eq!(User::from_json(&user.id, user.to_json().as_bytes()), Ok(user.clone()));
            let hash = user.to_hash();
            let pairs = hash.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
            prop_assert_eq!(User::from_hash(&user.id, pairs), Ok(user));
        }

        #[test]
        fn no_text_is_too_strange(text: String) {
            let _ = User::from_json(&"a".into(), text.as_bytes());
        }
    }
}
