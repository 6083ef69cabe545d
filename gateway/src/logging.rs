//! Logs: `tracing` to standard error, as text or as one JSON object for each line.
//!
//! Standard output is left to what a user asked for (a token, the welcome). Secrets are never logged: the
//! types that hold them mask themselves.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{LevelFilter, ParseError};

use crate::config::{Log, LogFormat};

/// `log.level` cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LevelError {
    #[error("`{word}` is no level: write off, error, warn, info, debug, trace, or TARGET=LEVEL with commas between")]
    Word { word: String },
    #[error(transparent)]
    Directives(#[from] ParseError),
}

/// The filter that `log.level` describes.
///
/// # Errors
/// [`LevelError`] where it is neither a level nor a list of directives.
pub fn filter(log: &Log) -> Result<EnvFilter, LevelError> {
    // `tracing` reads a lone word that is no level as a target, so that a misspelt level would silence the rest.
    // An empty one counts as `error` there; here it is a slip.
    let no_level = |word: &str| word.is_empty() || word.parse::<LevelFilter>().is_err();
    let unclear = |word: &&str| !word.contains('=') && no_level(word.trim());
    if let Some(word) = log.level.split(',').find(unclear) {
        return Err(LevelError::Word { word: word.to_owned() });
    }
    Ok(EnvFilter::builder().parse(&log.level)?)
}

/// Sends the process's logs to standard error. Once for each process; later calls change nothing, so that
/// tests may build several gateways in one.
///
/// # Errors
/// [`LevelError`] where `log.level` cannot be read.
pub fn init(log: &Log) -> Result<(), LevelError> {
    let lines = tracing_subscriber::fmt().with_env_filter(filter(log)?).with_writer(std::io::stderr);
    let already = match log.format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).try_init().is_err(),
        LogFormat::Json => lines.json().flatten_event(true).try_init().is_err(),
    };
    if already {
        tracing::debug!("logs were set up before");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_directives_are_read() {
        for (level, ok) in [
            ("info", true),
            ("warn,gateway=debug", true),
            ("loud", false),
            ("", false),
            ("info,", false),
            ("gateway=loud", false),
        ] {
            let log = Log { level: level.to_owned(), ..Log::default() };
            assert_eq!(filter(&log).is_ok(), ok, "{level}");
        }
    }
}
