//! The file of dead letters: frames that feeds refused, with the reason, a JSON object a line.
//!
//! Owned by a thread of its own, which ends when all feeds have. The frame stands in it as it came: as text (`frame`)
//! where it is UTF-8, as base64 (`frame_base64`) where it is not. Bound: `dead_letters.file_bytes_max`, twice. A disk that is full or away
//! costs the letters, which are counted, and nothing else.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use feed_handlers::dead_letter::{DeadLetter, DeadLetterOffice};
use feed_handlers::decode::event::Part;
use protocol::format_rfc3339;
use serde::Serialize;

use super::rotating_file::RotatingFile;
use crate::metrics::{Counter, ThreadMetrics};

/// How long letters may lie in memory before they are written.
const FLUSH: Duration = Duration::from_millis(500);
/// Bytes that are gathered before that.
const BUFFER_BYTES: usize = 256 << 10;

/// A line of the file.
#[derive(Serialize)]
struct Line<'a> {
    /// When the frame came.
    received: &'a str,
    source: &'a str,
    /// What of it was refused first.
    part: &'static str,
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    frame: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frame_base64: Option<String>,
}

/// Keeps the letters of an office in a file.
pub(crate) struct DeadLetterFile {
    file: RotatingFile,
    buffer: Vec<u8>,
    /// Letters in the buffer.
    buffered: u64,
    /// The sources' names by their ids.
    sources: Vec<String>,
    metrics: Arc<ThreadMetrics>,
}

impl DeadLetterFile {
    /// Opens the file to append to it; only its owner may read it, since a frame may hold anything.
    ///
    /// # Errors
    /// The system's, where it cannot be opened.
    pub(crate) fn open(
        path: &Path,
        bytes_max: u64,
        sources: Vec<String>,
        metrics: Arc<ThreadMetrics>,
    ) -> io::Result<DeadLetterFile> {
        let file = RotatingFile::open(path, bytes_max)?;
        Ok(DeadLetterFile { file, buffer: Vec::with_capacity(BUFFER_BYTES), buffered: 0, sources, metrics })
    }

    /// Starts the thread, which ends with the last feed.
    ///
    /// # Errors
    /// The system's, where there is no thread to be had.
    pub(crate) fn spawn(mut self, office: DeadLetterOffice) -> io::Result<JoinHandle<()>> {
        std::thread::Builder::new().name("dead-letters".into()).spawn(move || {
            // Waits without end for the first letter, and for others to go along with it a moment.
            while let Some(letter) = office.take() {
                let due = Instant::now() + FLUSH;
                self.keep(&letter);
                while let Ok(letter) = office.take_within(due.saturating_duration_since(Instant::now())) {
                    self.keep(&letter);
                }
                self.flush();
            }
        })
    }

    fn keep(&mut self, letter: &DeadLetter) {
        let mut received = Vec::new();
        format_rfc3339(letter.ts_recv, &mut received);
        let text = std::str::from_utf8(&letter.frame).ok();
        let line = Line {
            received: std::str::from_utf8(&received).unwrap_or_default(),
            source: self.sources.get(usize::from(letter.source.0)).map_or("", String::as_str),
            part: part_name(letter.part),
            reason: letter.reason.name(),
            frame: text,
            frame_base64: text.is_none().then(|| STANDARD.encode(&letter.frame)),
        };
        // Strings and nothing else: there is nothing that JSON could not say.
        if serde_json::to_writer(&mut self.buffer, &line).is_ok() {
            self.buffer.push(b'\n');
            self.buffered += 1;
        }
        if self.buffer.len() >= BUFFER_BYTES {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if self.buffer.is_empty() {
            return;
        }
        match self.file.append(&self.buffer) {
            Ok(()) => self.metrics.add(Counter::DeadLettersWritten, self.buffered),
            Err(error) => {
                tracing::error!(%error, letters = self.buffered, "dead letters are lost");
                self.metrics.add(Counter::DeadLettersLost, self.buffered);
            }
        }
        self.buffer.clear();
        self.buffered = 0;
    }
}

const fn part_name(part: Part) -> &'static str {
    match part {
        Part::Trade => "trade",
        Part::Quote => "quote",
        Part::Bar => "bar",
        Part::Level => "level",
        Part::Message => "message",
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use feed_handlers::dead_letter::dead_letters;
    use feed_handlers::decode::Reason;
    use protocol::SourceId;
    use serde_json::{Value, json};

    use super::*;
    use crate::metrics::Metrics;

    fn letter(frame: &[u8]) -> DeadLetter {
        let ts_recv = 1_790_733_794_331_644_000;
        DeadLetter { source: SourceId(1), part: Part::Trade, reason: Reason::Price, ts_recv, frame: frame.into() }
    }

    /// Keeps the letters in a file of at most so many bytes; returns the lines of it and of the one before.
    fn keep(name: &str, bytes_max: u64, frames: &[&[u8]]) -> (Vec<Value>, Vec<Value>) {
        let directory = std::env::temp_dir().join(format!("dead-letters-{name}-{}", std::process::id()));
        let path = directory.join("letters.jsonl");
        let metrics = Metrics::new();
        let thread = metrics.register("dead_letters");
        for frame in frames {
            // A file for each, so that each is written by itself.
            let (letters, office) = dead_letters();
            let sources = vec!["OTHER".to_owned(), "COINBASE".to_owned()];
            let file = DeadLetterFile::open(&path, bytes_max, sources, thread.clone()).unwrap();
            let writer = file.spawn(office).unwrap();
            assert!(letters.offer(letter(frame)));
            drop(letters);
            writer.join().unwrap();
        }
        assert_eq!(metrics.total(Counter::DeadLettersWritten), frames.len() as u64);
        let lines = |path: PathBuf| {
            let text = std::fs::read_to_string(path).unwrap_or_default();
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
        };
        let read = (lines(path), lines(directory.join("letters.jsonl.1")));
        std::fs::remove_dir_all(&directory).unwrap();
        read
    }

    #[test]
    fn a_letter_holds_the_frame_as_it_came() {
        let (lines, before) = keep("whole", 1 << 20, &[b"{\"type\":\"match\"\n", b"\x00\xff\x01"]);
        let line = |key: &str, frame: &str| {
            let mut line = json!({
                "received": "2026-09-30T02:03:14.331644Z", "source": "COINBASE", "part": "trade", "reason": "price"
            });
            line[key] = frame.into();
            line
        };
        assert_eq!(lines, [line("frame", "{\"type\":\"match\"\n"), line("frame_base64", "AP8B")]);
        assert!(before.is_empty());
    }

    #[test]
    fn a_full_file_is_put_aside() {
        let (lines, before) = keep("full", 250, &[b"one", b"two", b"three"]);
        let frames = |lines: &[Value]| lines.iter().map(|line| line["frame"].clone()).collect::<Vec<_>>();
        assert_eq!((frames(&before), frames(&lines)), (vec!["one".into(), "two".into()], vec!["three".into()]));
    }

    #[test]
    fn what_cannot_be_written_is_counted() {
        let metrics = Metrics::new();
        let file = DeadLetterFile {
            file: RotatingFile::open(Path::new("/dev/full"), 1 << 20).unwrap(),
            buffer: Vec::new(),
            buffered: 0,
            sources: Vec::new(),
            metrics: metrics.register("dead_letters"),
        };
        let (letters, office) = dead_letters();
        let writer = file.spawn(office).unwrap();
        assert!(letters.offer(letter(b"one")) && letters.offer(letter(b"two")));
        drop(letters);
        writer.join().unwrap();
        assert_eq!(metrics.total(Counter::DeadLettersLost), 2);
    }
}
