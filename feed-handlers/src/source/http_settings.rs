//! What the settings of the sources over HTTP have in common: what may stand in them, and why one is refused.
//!
//! Pure. Deliberately absent: what only one venue knows, such as its names of instruments.

use std::time::Duration;

use super::http::RequestError;
use super::{Secret, Timings};

/// Longest of all times in settings: such a time can be added to any clock.
const TIME_MAX: Duration = Duration::from_secs(86_400);

/// Longest name of an instrument, bytes: that of a canonical symbol.
const SYMBOL_BYTES_MAX: usize = 32;

/// Why settings are refused. Begins with the name of the setting, and shows no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HttpSettingsError {
    #[error("url: no http:// or https:// address without name, password and query")]
    Url,
    #[error("{setting}: {error}")]
    Secret { setting: &'static str, error: &'static str },
    #[error("account: `{account}` is no account (letters, digits and dashes)")]
    Account { account: String },
    #[error("endpoint: `{endpoint}` is no endpoint (letters and digits)")]
    Endpoint { endpoint: String },
    #[error("symbols: 1 to {max} are needed, not {count}")]
    SymbolCount { count: usize, max: usize },
    #[error("symbols: `{symbol}` is none of this venue ({form})")]
    Symbol { symbol: String, form: &'static str },
    #[error("budget: at least one request a minute and a day is needed")]
    Budget,
    #[error("timings: all above 0 and at most a day, stale <= silence and backoff_min <= backoff_max are needed")]
    Timings,
    #[error("tls: {0}")]
    Tls(String),
}

impl From<RequestError> for HttpSettingsError {
    fn from(error: RequestError) -> HttpSettingsError {
        match error {
            RequestError::Url => HttpSettingsError::Url,
            RequestError::Header => HttpSettingsError::Secret { setting: "token", error: "no header can hold it" },
            RequestError::Tls(error) => HttpSettingsError::Tls(error),
        }
    }
}

/// The address without a slash at its end.
pub(super) fn base_url(url: &str) -> Result<&str, HttpSettingsError> {
    if url.contains(['?', '#']) { Err(HttpSettingsError::Url) } else { Ok(url.trim_end_matches('/')) }
}

pub(super) fn check_secret(setting: &'static str, secret: &Secret) -> Result<(), HttpSettingsError> {
    if secret.reveal().trim().is_empty() {
        return Err(HttpSettingsError::Secret { setting, error: "it is empty" });
    }
    Ok(())
}

/// The venue's names of `symbols`, as `translate` gives them; `form` says what it takes.
pub(super) fn translated(
    symbols: &[String],
    max: usize,
    form: &'static str,
    translate: impl Fn(&str) -> Option<String>,
) -> Result<Vec<String>, HttpSettingsError> {
    if symbols.is_empty() || symbols.len() > max {
        return Err(HttpSettingsError::SymbolCount { count: symbols.len(), max });
    }
    let translated = |symbol: &String| {
        let name = Some(symbol).filter(|symbol| symbol.len() <= SYMBOL_BYTES_MAX).and_then(|symbol| translate(symbol));
        name.ok_or_else(|| HttpSettingsError::Symbol { symbol: symbol.clone(), form })
    };
    symbols.iter().map(translated).collect()
}

/// Whether it is the name of a currency or of one side of a pair.
pub(super) fn is_currency(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
}

/// Whether it is the symbol of an equity, such as `AAPL`, `BRK.B` or `BAC-Q`.
pub(super) fn is_equity(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-');
    text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric()) && text.bytes().all(allowed)
}

pub(super) fn check_timings(timings: &Timings, others: &[Duration]) -> Result<(), HttpSettingsError> {
    let Timings { connect, stale, silence, backoff_min, backoff_max, .. } = *timings;
    let times = [connect, stale, silence, backoff_min, backoff_max];
    check_times(times.iter().chain(others))?;
    if stale > silence || backoff_min > backoff_max { Err(HttpSettingsError::Timings) } else { Ok(()) }
}

pub(super) fn check_times<'a>(times: impl IntoIterator<Item = &'a Duration>) -> Result<(), HttpSettingsError> {
    let in_range = |time: &Duration| !time.is_zero() && *time <= TIME_MAX;
    if times.into_iter().all(in_range) { Ok(()) } else { Err(HttpSettingsError::Timings) }
}
