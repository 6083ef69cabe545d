//! Environment variables over the file: `GATEWAY_` and the key in capitals, `__` for a dot.
//!
//! A value is read as a TOML literal (`1000`, `true`, `["a", "b"]`, `{ factor = 5.0 }`), and as a plain
//! string where it is none (`127.0.0.1:9000`, `10s`). A `GATEWAY_` variable that is no key is an error, as
//! an unknown key in the file is.

use toml::{Table, Value};

const PREFIX: &str = "GATEWAY_";

/// Variables of that prefix which are no keys: where the tests find their captures.
const RESERVED: [&str; 1] = ["GATEWAY_CAPTURES"];

/// One variable: the key it stands for, and its value.
pub(super) struct Override {
    pub(super) variable: String,
    path: Vec<String>,
    value: Value,
}

/// The overrides among the environment's variables, outer tables before their keys.
pub(super) fn from_environment(environment: impl IntoIterator<Item = (String, String)>) -> Vec<Override> {
    let mut overrides: Vec<Override> = environment
        .into_iter()
        .filter(|(variable, _)| !RESERVED.contains(&variable.as_str()))
        .filter_map(|(variable, text)| {
            let path = variable.strip_prefix(PREFIX)?.to_ascii_lowercase();
            let path = path.split("__").map(str::to_owned).collect();
            let value = text.parse().unwrap_or(Value::String(text));
            Some(Override { variable, path, value })
        })
        .collect();
    overrides.sort_by(|a, b| a.path.cmp(&b.path));
    overrides
}

impl Override {
    /// The key with dots.
    pub(super) fn key(&self) -> String {
        self.path.join(".")
    }

    /// Sets the value in `table`, and makes the tables on the way.
    ///
    /// # Errors
    /// A message where something on the way is no table.
    pub(super) fn apply(&self, table: &mut Table) -> Result<(), String> {
        let (last, parents) = self.path.split_last().ok_or("names no key")?;
        let mut at = table;
        for name in parents {
            let next = at.entry(name.as_str()).or_insert_with(|| Value::Table(Table::new()));
            at = next.as_table_mut().ok_or_else(|| format!("`{name}` is not a table"))?;
        }
        at.insert(last.clone(), self.value.clone());
        Ok(())
    }

    /// Whether this variable set the value at `key` or the part of it that is wrong: it names the key, a
    /// table around it, or something below a key that the file does not have.
    pub(super) fn concerns(&self, key: &str, file: &Table) -> bool {
        let own = self.key();
        let within = |inner: &str, outer: &str| {
            inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        within(key, &own) || within(&own, key) && !has(file, key)
    }
}

fn has(table: &Table, key: &str) -> bool {
    let (head, rest) = key.split_once('.').unwrap_or((key, ""));
    match table.get(head) {
        Some(Value::Table(inner)) if !rest.is_empty() => has(inner, rest),
        found => found.is_some() && rest.is_empty(),
    }
}
