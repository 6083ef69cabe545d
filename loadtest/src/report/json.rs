//! The outcome as JSON: what other programs and `compare` read.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::path::Path;

use serde::Deserialize;

use crate::outcome::{FORMAT, Outcome};

/// Why a report can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("it can't be read: {0}")]
    Io(#[from] io::Error),
    #[error("it is no report of a run: {0}")]
    NoReport(serde_json::Error),
    #[error("its format is {found:?}, and this version reads {FORMAT:?}")]
    OtherFormat { found: String },
    #[error("it is damaged: {0}")]
    Damaged(serde_json::Error),
}

/// Writes a report to a file, or to standard output (`-`).
///
/// # Errors
/// Those of writing.
pub fn write(outcome: &Outcome, path: &Path) -> io::Result<()> {
    if path.as_os_str() == "-" {
        return write_to(outcome, io::stdout().lock());
    }
    write_to(outcome, File::create(path)?)
}

fn write_to(outcome: &Outcome, to: impl io::Write) -> io::Result<()> {
    let mut to = BufWriter::new(to);
    serde_json::to_writer(&mut to, outcome)?;
    to.write_all(b"\n")?;
    to.flush()
}

/// Reads a report that was written before. Fields that this version does not know are passed over.
///
/// # Errors
/// See [`ReadError`].
pub fn read(path: &Path) -> Result<Outcome, ReadError> {
    parse(&fs::read_to_string(path)?)
}

fn parse(text: &str) -> Result<Outcome, ReadError> {
    #[derive(Deserialize)]
    struct Opening {
        format: String,
    }
    let opening: Opening = serde_json::from_str(text).map_err(ReadError::NoReport)?;
    if opening.format != FORMAT {
        return Err(ReadError::OtherFormat { found: opening.format });
    }
    serde_json::from_str(text).map_err(ReadError::Damaged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::testing;

    fn written(outcome: &Outcome) -> serde_json::Value {
        let mut text = Vec::new();
        write_to(outcome, &mut text).unwrap();
        serde_json::from_slice(&text).unwrap()
    }

    #[test]
    fn what_is_written_is_read_back() {
        let outcome = testing::broken();
        let json = written(&outcome);
        let back = parse(&json.to_string()).unwrap();
        assert_eq!(written(&back), json);
        let (a, b) = (outcome.phases[1].latency.as_ref().unwrap(), back.phases[1].latency.as_ref().unwrap());
        assert_eq!(a.histogram.histogram(), b.histogram.histogram());
        assert_eq!(back.standing(), outcome.standing());
    }

    #[test]
    fn what_is_new_is_passed_over_and_another_format_is_refused() {
        let mut json = written(&testing::held());
        json["something_new"] = 1.into();
        json["phases"][0]["something_new"] = 1.into();
        assert!(parse(&json.to_string()).is_ok());
        json["format"] = "signal-gateway loadtest/2".into();
        let error = parse(&json.to_string()).unwrap_err().to_string();
        assert!(error.contains("loadtest/2") && error.contains("loadtest/1"), "{error}");
    }

    #[test]
    fn what_is_no_report_is_refused() {
        for text in ["", "[]", "{}", "{\"format\":1}", "<html>"] {
            assert!(matches!(parse(text), Err(ReadError::NoReport(_))), "{text}");
        }
        let damaged = format!("{{\"format\":{FORMAT:?},\"phases\":1}}");
        assert!(matches!(parse(&damaged), Err(ReadError::Damaged(_))));
    }
}
