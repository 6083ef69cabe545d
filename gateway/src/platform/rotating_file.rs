//! A file that is appended to and never longer than its bound: one that is full becomes `FILE.1`, in place of the one before,
//! so that there are at most two.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Owned by the one thread that writes it.
pub(crate) struct RotatingFile {
    path: PathBuf,
    bytes_max: u64,
    file: File,
    /// Written to the file so far.
    bytes: u64,
}

impl RotatingFile {
    /// Opens the file to append to it, and makes its directory; only its owner may read it.
    ///
    /// # Errors
    /// The system's, where it cannot be opened.
    pub(crate) fn open(path: &Path, bytes_max: u64) -> io::Result<RotatingFile> {
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        let file = append_to(path)?;
        let bytes = file.metadata()?.len();
        Ok(RotatingFile { path: path.to_owned(), bytes_max, file, bytes })
    }

    /// Appends whole lines.
    ///
    /// # Errors
    /// The system's, where the disk is full or away.
    pub(crate) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let more = lines.len() as u64;
        if self.bytes > 0 && self.bytes + more > self.bytes_max {
            let mut aside = self.path.clone().into_os_string();
            aside.push(".1");
            std::fs::rename(&self.path, aside)?;
            self.file = append_to(&self.path)?;
            self.bytes = 0;
        }
        self.file.write_all(lines)?;
        self.bytes += more;
        Ok(())
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}
