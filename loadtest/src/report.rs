//! Everything that a run leaves behind: a table, JSON, an interval log and a page. All are drawn from the [`Outcome`] alone.

mod grids;
pub mod hlog;
pub mod html;
pub mod json;
pub mod live;
pub mod table;
#[cfg(test)]
pub(crate) mod testing;

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::outcome::Outcome;

/// Which reports are wanted, and where.
#[derive(Clone, Debug, Default)]
pub struct Outputs {
    /// To a file, or to standard output (`-`).
    pub json: Option<PathBuf>,
    pub hlog: Option<PathBuf>,
    pub html: Option<PathBuf>,
    /// To standard output.
    pub table: bool,
}

/// Writes all reports that are wanted. Where one fails, the others are written all the same: a run can't be had again.
///
/// # Errors
/// The first failure, with the file's name.
pub fn write_all(outcome: &Outcome, outputs: &Outputs) -> anyhow::Result<()> {
    let mut results = Vec::new();
    if let Some(path) = &outputs.json {
        results.push(json::write(outcome, path).with_context(|| format!("writing {}", path.display())));
    }
    if let Some(path) = &outputs.hlog {
        results.push(write(path, |file| hlog::write(outcome, file)));
    }
    if let Some(path) = &outputs.html {
        results.push(write(path, |file| file.write_all(html::page(outcome).as_bytes())));
    }
    if outputs.table {
        let stdout = io::stdout();
        let style = if stdout.is_terminal() { table::Style::Coloured } else { table::Style::Plain };
        let written = stdout.lock().write_all(table::text(outcome, style).as_bytes());
        results.push(written.context("writing to standard output"));
    }
    results.into_iter().collect()
}

fn write(path: &Path, what: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> anyhow::Result<()> {
    let written = File::create(path).map(BufWriter::new).and_then(|mut file| {
        what(&mut file)?;
        file.flush()
    });
    written.with_context(|| format!("writing {}", path.display()))
}
