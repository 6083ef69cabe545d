//! Capture files: recorded server frames of a venue, read one after the other.
//!
//! Two forms are known, told apart by the first line that is not blank:
//! - cryptofeed's text: `<seconds>: <frame>` is a frame with the recorder's clock; lines that begin with a
//!   URL (connects, and what the recorder itself sent) are skipped;
//! - JSON lines: each line is one server frame.
//!
//! Blank lines are skipped in both. A file is read through once when it is opened, so that a bad one is
//! refused before anything starts, and is then read again as a stream: memory is one line, whatever the
//! size of the file. What a frame says is none of this file's business: a line that holds a malformed frame
//! is handed on like any other, because the venue may have sent it so.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use memchr::memmem;

/// Longest line, in bytes. The largest frame a venue sends is a book snapshot of several MB; this is also
/// the limit of the live connection.
pub const LINE_BYTES_MAX: usize = 64 << 20;

/// One read of the file. A capture of 100 MB is read in 400 calls.
const READ_BYTES: usize = 256 << 10;

/// Why a file is no capture. Each prints as one line that names the file, and the line where there is one.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    #[error("capture {path}: {error}", path = path.display())]
    Io { path: PathBuf, error: std::io::Error },
    #[error("capture {path}: not a regular file", path = path.display())]
    NotAFile { path: PathBuf },
    #[error("capture {path}: the file is empty", path = path.display())]
    Empty { path: PathBuf },
    #[error("capture {path}: no server frame in it", path = path.display())]
    NoFrame { path: PathBuf },
    #[error("capture {path}: line {line} is cut off in the middle", path = path.display())]
    Cut { path: PathBuf, line: u64 },
    #[error(
        "capture {path}: line {line} is no capture line (known are `<seconds>: <frame>` and one JSON frame per line)",
        path = path.display()
    )]
    Unknown { path: PathBuf, line: u64 },
    #[error("capture {path}: line {line} is longer than {LINE_BYTES_MAX} bytes", path = path.display())]
    TooLong { path: PathBuf, line: u64 },
}

/// How a capture file is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// `<seconds>: <frame>`, and lines that begin with a URL.
    Timed,
    /// One frame per line.
    Bare,
}

/// A capture file that was read through and found whole.
#[derive(Clone, Debug)]
pub struct Capture {
    path: PathBuf,
    frames: u64,
}

/// One recorded server frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CapturedFrame<'a> {
    pub bytes: &'a [u8],
    /// The recorder's clock when the frame came, Unix ns; `None` where the file does not tell it.
    pub recorded_ns: Option<i64>,
}

impl Capture {
    /// Reads the whole file once, shows every frame to `on_frame`, and checks that none is cut off.
    ///
    /// # Errors
    /// [`CaptureError`] where the file is missing, empty, without a frame, of another format, or where its
    /// last line ends in the middle of a frame.
    pub fn open(path: &Path, mut on_frame: impl FnMut(CapturedFrame<'_>)) -> Result<Capture, CaptureError> {
        let mut reader = CaptureReader::open(path)?;
        let mut frames = 0;
        let mut last = Vec::new();
        while let Some(frame) = reader.next_frame()? {
            frames += 1;
            last.clear();
            last.extend_from_slice(frame.bytes);
            on_frame(frame);
        }
        let path = path.to_path_buf();
        match frames {
            0 if reader.line == 0 => Err(CaptureError::Empty { path }),
            0 => Err(CaptureError::NoFrame { path }),
            _ if !is_whole_value(&last) => Err(CaptureError::Cut { path, line: reader.frame_line }),
            _ => Ok(Capture { path, frames }),
        }
    }

    /// How many server frames the file holds; at least 1.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Starts reading from the first frame.
    ///
    /// # Errors
    /// [`CaptureError::Io`] or [`CaptureError::NotAFile`] where the file is gone since.
    pub fn reader(&self) -> Result<CaptureReader, CaptureError> {
        CaptureReader::open(&self.path)
    }
}

/// Reads the frames of a capture in the order of the file.
#[derive(Debug)]
pub struct CaptureReader {
    path: PathBuf,
    input: BufReader<File>,
    /// Known after the first line that is not blank.
    form: Option<Form>,
    text: Vec<u8>,
    /// Lines read so far, blank ones too.
    line: u64,
    /// The line that held the latest frame, counted from 1.
    frame_line: u64,
}

impl CaptureReader {
    fn open(path: &Path) -> Result<CaptureReader, CaptureError> {
        let io = |error| CaptureError::Io { path: path.to_path_buf(), error };
        // Asked before opening: opening a named pipe would wait for somebody to write to it.
        if !std::fs::metadata(path).map_err(io)?.is_file() {
            return Err(CaptureError::NotAFile { path: path.to_path_buf() });
        }
        Ok(CaptureReader {
            path: path.to_path_buf(),
            input: BufReader::with_capacity(READ_BYTES, File::open(path).map_err(io)?),
            form: None,
            text: Vec::new(),
            line: 0,
            frame_line: 0,
        })
    }

    /// The next frame, or `None` at the end of the file. The frame is valid until the next call.
    ///
    /// # Errors
    /// [`CaptureError`] as for [`Capture::open`].
    pub fn next_frame(&mut self) -> Result<Option<CapturedFrame<'_>>, CaptureError> {
        let (from, recorded_ns) = loop {
            if !self.read_line()? {
                return Ok(None);
            }
            let ended = self.text.last() == Some(&b'\n');
            let kept = self.text.trim_ascii_end().len();
            self.text.truncate(kept);
            let indent = self.text.len() - self.text.trim_ascii_start().len();
            self.text.drain(..indent);
            if self.text.is_empty() {
                continue;
            }
            let form = match self.form {
                Some(form) => form,
                None if matches!(self.text[0], b'{' | b'[') => Form::Bare,
                None => Form::Timed,
            };
            let line = match form {
                Form::Bare => Line::Frame { from: 0, recorded_ns: None },
                Form::Timed => timed_line(&self.text),
            };
            match line {
                Line::Frame { from, recorded_ns } => {
                    self.form = Some(form);
                    self.frame_line = self.line;
                    break (from, recorded_ns);
                }
                Line::Skip if ended || is_whole_note(&self.text) => self.form = Some(form),
                // The last line has no end: it was a capture line once, before the file was cut.
                Line::Skip | Line::Unknown if !ended && self.form.is_some() => {
                    return Err(CaptureError::Cut { path: self.path.clone(), line: self.line });
                }
                Line::Skip | Line::Unknown => {
                    return Err(CaptureError::Unknown { path: self.path.clone(), line: self.line });
                }
            }
        };
        Ok(Some(CapturedFrame { bytes: &self.text[from..], recorded_ns }))
    }

    /// Reads one line with its end into `text`; false at the end of the file.
    fn read_line(&mut self) -> Result<bool, CaptureError> {
        self.text.clear();
        let limit = LINE_BYTES_MAX as u64 + 1;
        let read = (&mut self.input).take(limit).read_until(b'\n', &mut self.text);
        match read {
            Err(error) => Err(CaptureError::Io { path: self.path.clone(), error }),
            Ok(0) => Ok(false),
            Ok(bytes) if bytes as u64 == limit && self.text.last() != Some(&b'\n') => {
                Err(CaptureError::TooLong { path: self.path.clone(), line: self.line + 1 })
            }
            Ok(_) => {
                self.line += 1;
                Ok(true)
            }
        }
    }
}

/// What one line of the timed form is.
#[derive(Debug, PartialEq, Eq)]
enum Line {
    Frame { from: usize, recorded_ns: Option<i64> },
    Skip,
    Unknown,
}

fn timed_line(text: &[u8]) -> Line {
    if text[0].is_ascii_digit() {
        let Some(colon) = memchr::memchr(b':', text) else { return Line::Unknown };
        return match (unix_ns(&text[..colon]), text.get(colon + 1)) {
            (Some(ns), Some(b' ')) => Line::Frame { from: colon + 2, recorded_ns: Some(ns) },
            _ => Line::Unknown,
        };
    }
    // `wss://host <-> <ts>`, `wss://host <- <ts>: <json>`, `https://host -> <ts>: <json>`
    let url = text.split(|b| *b == b' ').next().unwrap_or_default();
    let scheme = memmem::find(url, b"://").unwrap_or(0);
    if scheme > 0 && url[..scheme].iter().all(u8::is_ascii_lowercase) { Line::Skip } else { Line::Unknown }
}

/// Whether a line that begins with a URL is there to its end, as far as that shows.
fn is_whole_note(text: &[u8]) -> bool {
    match memchr::memchr(b'{', text) {
        Some(from) => is_whole_value(&text[from..]),
        None => memmem::find(text, b" <-> ").is_some(),
    }
}

/// Reads `1618677817.061845` as Unix ns. The recorder wrote a float, so digits past the ninth say nothing.
fn unix_ns(text: &[u8]) -> Option<i64> {
    let (seconds, fraction) = match memchr::memchr(b'.', text) {
        Some(point) => (&text[..point], &text[point + 1..]),
        None => (text, &b"0"[..]),
    };
    let digits = |text: &[u8]| !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    if !digits(seconds) || !digits(fraction) {
        return None;
    }
    let mut ns = seconds.iter().try_fold(0i64, |n, b| n.checked_mul(10)?.checked_add(i64::from(b - b'0')))?;
    for i in 0..9 {
        ns = ns.checked_mul(10)?.checked_add(fraction.get(i).map_or(0, |b| i64::from(b - b'0')))?;
    }
    Some(ns)
}

/// Whether `text` is one JSON object or array that ends where the text ends. It looks at brackets and
/// strings only: enough to see a cut, which always leaves one of them open.
fn is_whole_value(text: &[u8]) -> bool {
    if !matches!(text.first(), Some(b'{' | b'[')) {
        return false;
    }
    let (mut depth, mut in_string, mut escaped) = (0u64, false, false);
    for (i, byte) in text.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return i + 1 == text.len();
                }
            }
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// A file of its own for each case, removed at the end of it.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(content: &[u8]) -> Scratch {
            static COUNT: AtomicU32 = AtomicU32::new(0);
            let n = COUNT.fetch_add(1, Ordering::Relaxed);
            let path = std::env::temp_dir().join(format!("capture-unit-{}-{n}", std::process::id()));
            std::fs::write(&path, content).unwrap();
            Scratch(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    #[track_caller]
    fn check(content: &str, frames: &[(&str, Option<i64>)]) {
        let file = Scratch::new(content.as_bytes());
        let mut seen = Vec::new();
        let capture = Capture::open(&file.0, |frame| {
            seen.push((String::from_utf8(frame.bytes.to_vec()).unwrap(), frame.recorded_ns));
        })
        .unwrap();
        let expected: Vec<_> = frames.iter().map(|(text, ns)| (text.to_string(), *ns)).collect();
        assert_eq!(seen, expected);
        assert_eq!(capture.frames(), frames.len() as u64);
        let mut reader = capture.reader().unwrap();
        for (text, _) in frames {
            assert_eq!(reader.next_frame().unwrap().unwrap().bytes, text.as_bytes());
        }
        assert_eq!(reader.next_frame().unwrap(), None);
    }

    #[test]
    fn reads_both_forms() {
        check("{\"a\":1}\n{\"b\":\"}\"}\n", &[("{\"a\":1}", None), ("{\"b\":\"}\"}", None)]);
        check("\r\n {\"a\":1}\r\n\n[]", &[("{\"a\":1}", None), ("[]", None)]);
        let timed = "wss://ws-feed.example <-> 1618677816.8434298\n\
                     wss://ws-feed.example <- 1618677817.020616: {\"type\":\"subscribe\"}\n\
                     1618677817.061845: {\"type\":\"subscriptions\"}\n\
                     1618677817: {\"type\":\"match\"}\n\n\n";
        check(
            timed,
            &[
                ("{\"type\":\"subscriptions\"}", Some(1_618_677_817_061_845_000)),
                ("{\"type\":\"match\"}", Some(1_618_677_817_000_000_000)),
            ],
        );
        // Malformed frames in the middle are the decoder's to count.
        check("{}\nnot json\n{\"a\n{}\n", &[("{}", None), ("not json", None), ("{\"a", None), ("{}", None)]);
        check("1.5: {\"a\n2.5: {}\n", &[("{\"a", Some(1_500_000_000)), ("{}", Some(2_500_000_000))]);
    }

    #[track_caller]
    fn check_refused(content: &[u8], expected: &str) {
        let file = Scratch::new(content);
        let message = Capture::open(&file.0, |_| {}).unwrap_err().to_string();
        assert_eq!(message, format!("capture {}: {expected}", file.0.display()));
    }

    #[test]
    fn refuses_in_one_line() {
        let unknown = "is no capture line (known are `<seconds>: <frame>` and one JSON frame per line)";
        check_refused(b"", "the file is empty");
        check_refused(b"\n\n", "no server frame in it");
        check_refused(b"wss://x.example <-> 1.0\n", "no server frame in it");
        check_refused(b"time,price\n", &format!("line 1 {unknown}"));
        check_refused(b"\x7fELF\x02\x01", &format!("line 1 {unknown}"));
        check_refused(b"1.0: {}\n{}\n", &format!("line 2 {unknown}"));
        check_refused(b"1.0: {}\n9223372036854775807: {}\n", &format!("line 2 {unknown}"));
        check_refused(b"{}\n{\"type\":\"match\",\"pri", "line 2 is cut off in the middle");
        check_refused(b"{}\n{\"type\":\"match\",\"pri\n\n", "line 2 is cut off in the middle");
        check_refused(b"{}\n{\"a\":\"x\\\"}", "line 2 is cut off in the middle");
        check_refused(b"1.0: {}\n1618677", "line 2 is cut off in the middle");
        check_refused(b"1.0: {}\nwss://x.exa", "line 2 is cut off in the middle");
        check_refused(b"1.0: {}\nwss://x.example <- 1.0: {\"type", "line 2 is cut off in the middle");
        check_refused(b"1.0: {}\n1618677.06:", "line 2 is cut off in the middle");
        check_refused(b"1.0: {}\n1618677.06: ", "line 2 is cut off in the middle");
        check_refused(b"1.0: {}\n1618677.06: {\"a\":[1]", "line 2 is cut off in the middle");
    }

    #[test]
    fn refuses_what_is_no_file() {
        let missing = std::env::temp_dir().join("no-such-capture.jsonl");
        let message = Capture::open(&missing, |_| {}).unwrap_err().to_string();
        assert!(message.contains("No such file") && !message.contains('\n'), "{message}");
        let message = Capture::open(&std::env::temp_dir(), |_| {}).unwrap_err().to_string();
        assert!(message.ends_with("not a regular file"), "{message}");
    }

    proptest! {
        /// Wherever a file is cut inside its last line, the cut is seen.
        #[test]
        fn every_cut_is_seen(timed: bool, cut in 1usize..60) {
            let prefix = if timed { "1618677817.061845: " } else { "" };
            let frame = r#"{"type":"match","note":"} \" ]","changes":[["buy","1","2"]]}"#;
            let last = format!("{prefix}{frame}");
            let whole = format!("{prefix}{{}}\n{last}");
            let cut = cut.min(last.len() - 1);
            let file = Scratch::new(&whole.as_bytes()[..whole.len() - cut]);
            let is_cut = matches!(Capture::open(&file.0, |_| {}), Err(CaptureError::Cut { line: 2, .. }));
            prop_assert!(is_cut);
        }

        #[test]
        fn never_panics(bytes: Vec<u8>) {
            let file = Scratch::new(&bytes);
            let _ = Capture::open(&file.0, |_| {});
        }
    }
}
