//! Lines that the platform must not miss: on the disk first, handed on from there, and then forgotten. So they outlive an outage
//! of whoever takes them, and an end of this process.
//!
//! A directory of segments, each named by the position of its first byte, counted from the first that was ever written, and a
//! file with the position up to which everything was handed on. One thread writes, another reads. Bound: some bytes; what is
//! beyond pushes out the oldest segment, whose lines are lost, and counted.
//!
//! Deliberately absent: a sync after each line. What the system has taken outlives the process, not the machine.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Into how many segments the bound is cut: a full spool loses so large a part of itself at a time.
const SEGMENTS: u64 = 16;
/// Shortest segment.
const SEGMENT_BYTES_MIN: u64 = 64 << 10;
/// Where the position stands up to which everything was handed on.
const POSITION: &str = "position";
const SUFFIX: &str = "jsonl";

/// What both ends know.
#[derive(Debug)]
struct Shared {
    directory: PathBuf,
    state: Mutex<State>,
    /// Rung when something was written, and when nobody writes any more.
    bell: Condvar,
}

#[derive(Debug)]
struct State {
    /// Begin of each segment, in order; the last is written to.
    begins: Vec<u64>,
    /// Where the next line goes.
    end: u64,
    over: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn segment(&self, begin: u64) -> PathBuf {
        self.directory.join(format!("{begin:020}.{SUFFIX}"))
    }
}

/// The end that is written to.
#[derive(Debug)]
pub(crate) struct SpoolWriter {
    shared: Arc<Shared>,
    file: File,
    segment_bytes: u64,
    bytes_max: u64,
}

/// The end that is read from.
#[derive(Debug)]
pub(crate) struct SpoolReader {
    shared: Arc<Shared>,
    /// Everything before it was handed on.
    position: u64,
}

/// Whole lines, and the position behind them.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) lines: Vec<u8>,
    end: u64,
}

/// Opens the spool in a directory, which is made where it is missing; only its owner may read what is in it. A line that was cut by
/// a crash is taken out.
///
/// # Errors
/// The system's, where the directory or a file in it cannot be used.
pub(crate) fn open(directory: &Path, bytes_max: u64) -> io::Result<(SpoolWriter, SpoolReader)> {
    std::fs::create_dir_all(directory)?;
    let mut begins: Vec<u64> = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let name = entry?.file_name();
        let begin = name.to_str().and_then(|name| name.strip_suffix(SUFFIX)?.strip_suffix('.')?.parse::<u64>().ok());
        begins.extend(begin);
    }
    begins.sort_unstable();
    let kept = match std::fs::read_to_string(directory.join(POSITION)) {
        Ok(text) => text.trim().parse().unwrap_or(0),
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => return Err(error),
    };
    if begins.is_empty() {
        begins.push(kept);
    }
    let shared = Shared {
        directory: directory.to_owned(),
        state: Mutex::new(State { begins, end: 0, over: false }),
        bell: Condvar::new(),
    };
    let (first, last) = {
        let state = shared.state();
        (state.begins[0], state.begins[state.begins.len() - 1])
    };
    let mut file = append_to(&shared.segment(last))?;
    let whole = whole_lines(&mut file)?;
    file.set_len(whole)?;
    shared.state().end = last + whole;
    // A position beyond the end is of a spool whose files are gone.
    let position = kept.clamp(first, last + whole);
    let shared = Arc::new(shared);
    let segment_bytes = (bytes_max / SEGMENTS).max(SEGMENT_BYTES_MIN);
    Ok((SpoolWriter { shared: shared.clone(), file, segment_bytes, bytes_max }, SpoolReader { shared, position }))
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).read(true).append(true).mode(0o600).open(path)
}

/// Up to where the file has whole lines.
fn whole_lines(file: &mut File) -> io::Result<u64> {
    let mut text = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.read_to_end(&mut text)?;
    Ok(text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at as u64 + 1))
}

fn count_lines(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|byte| **byte == b'\n').count() as u64
}

impl SpoolWriter {
    /// Appends whole lines. Returns how many others were lost for it.
    ///
    /// # Errors
    /// The system's, where the disk is full or away: then nothing was appended.
    pub(crate) fn append(&mut self, lines: &[u8]) -> io::Result<u64> {
        let (begin, end) = {
            let state = self.shared.state();
            (state.begins[state.begins.len() - 1], state.end)
        };
        if end - begin >= self.segment_bytes {
            self.file = append_to(&self.shared.segment(end))?;
            self.shared.state().begins.push(end);
        }
        let before = self.file.metadata()?.len();
        if let Err(error) = self.file.write_all(lines) {
            // Half a line would be taken for the begin of the next.
            let _ = self.file.set_len(before);
            return Err(error);
        }
        let mut state = self.shared.state();
        state.end += lines.len() as u64;
        let mut lost = 0;
        while state.begins.len() > 1 && state.end - state.begins[0] > self.bytes_max {
            let oldest = self.shared.segment(state.begins.remove(0));
            // One that cannot be read has no lines that could be lost.
            lost += std::fs::read(&oldest).map_or(0, |bytes| count_lines(&bytes));
            let _ = std::fs::remove_file(oldest);
        }
        drop(state);
        self.shared.bell.notify_one();
        Ok(lost)
    }
}

impl Drop for SpoolWriter {
    fn drop(&mut self) {
        self.shared.state().over = true;
        self.shared.bell.notify_one();
    }
}

impl SpoolReader {
    /// The next lines, about `bytes` of them and one at least; waits for some at most `patience`. Empty where none came.
    ///
    /// # Errors
    /// The system's, where a segment cannot be read.
    pub(crate) fn next(&mut self, bytes: usize, patience: Duration) -> io::Result<Batch> {
        let (begin, end) = {
            let state = self.shared.state();
            let waits = |state: &mut State| state.end <= self.position && !state.over;
            let (state, _) =
                self.shared.bell.wait_timeout_while(state, patience, waits).unwrap_or_else(PoisonError::into_inner);
            // What was pushed out meanwhile is lost, and counted by who did it.
            self.position = self.position.max(state.begins[0]);
            let after = state.begins.partition_point(|begin| *begin <= self.position);
            (state.begins[after - 1], state.begins.get(after).copied().unwrap_or(state.end))
        };
        let mut lines = Vec::new();
        if self.position < end {
            let mut file = match File::open(self.shared.segment(begin)) {
                // It was pushed out just now.
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(self.nothing()),
                file => file?,
            };
            let mut wanted = bytes as u64;
            loop {
                lines.clear();
                file.seek(SeekFrom::Start(self.position - begin))?;
                (&file).take(wanted.min(end - self.position)).read_to_end(&mut lines)?;
                let whole = lines.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
                lines.truncate(whole);
                if whole > 0 || wanted >= end - self.position {
                    break;
                }
                // A line longer than that.
                wanted *= 2;
            }
        }
        Ok(Batch { end: self.position + lines.len() as u64, lines })
    }

    fn nothing(&self) -> Batch {
        Batch { end: self.position, lines: Vec::new() }
    }

    /// Whether nothing comes any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.shared.state().over
    }

    /// Whether everything was handed on, and nothing comes any more.
    pub(crate) fn is_over(&self) -> bool {
        let state = self.shared.state();
        state.over && self.position >= state.end
    }

    /// Lines of a batch were handed on: they are not given again, also after a restart.
    ///
    /// # Errors
    /// The system's, where the disk is full or away: after a restart they are given again.
    pub(crate) fn handed_on(&mut self, batch: &Batch) -> io::Result<()> {
        self.position = batch.end;
        let path = self.shared.directory.join(POSITION);
        let beside = path.with_extension("new");
        std::fs::write(&beside, format!("{}\n", batch.end))?;
        std::fs::rename(beside, path)?;
        let done: Vec<u64> = {
            let mut state = self.shared.state();
            // The last is written to.
            let whole = state.begins.iter().skip(1).take_while(|next| **next <= batch.end).count();
            state.begins.drain(..whole).collect()
        };
        done.into_iter().try_for_each(|begin| std::fs::remove_file(self.shared.segment(begin)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory of its own, gone with the test.
    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Place {
            let path = std::env::temp_dir().join(format!("gateway-spool-{name}-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&path);
            Place(path)
        }

        fn open(&self, bytes_max: u64) -> (SpoolWriter, SpoolReader) {
            open(&self.0, bytes_max).unwrap()
        }

        fn segments(&self) -> usize {
            let names = std::fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().file_name());
            names.filter(|name| name.to_str().unwrap().ends_with(SUFFIX)).count()
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn line(number: usize) -> String {
        format!("{{\"number\":{number},\"filler\":\"{}\"}}\n", "x".repeat(number % 97))
    }

    /// Everything that is there, handed on.
    fn drain(reader: &mut SpoolReader, bytes: usize) -> String {
        let mut all = String::new();
        loop {
            let batch = reader.next(bytes, Duration::ZERO).unwrap();
            if batch.lines.is_empty() {
                return all;
            }
            all.push_str(std::str::from_utf8(&batch.lines).unwrap());
            reader.handed_on(&batch).unwrap();
        }
    }

    #[test]
    fn lines_come_out_as_they_went_in_and_outlive_the_process() {
        let place = Place::new("in-order");
        let lines: Vec<String> = (0..20_000).map(line).collect();
        let (mut writer, mut reader) = place.open(1 << 24);
        for chunk in lines[..10_000].chunks(7) {
            assert_eq!(writer.append(chunk.concat().as_bytes()).unwrap(), 0);
        }
        // Some are taken, and one batch is not finished when the process ends.
        let first = reader.next(10_000, Duration::ZERO).unwrap();
        reader.handed_on(&first).unwrap();
        let unfinished = reader.next(10_000, Duration::ZERO).unwrap();
        assert!(!first.lines.is_empty() && !unfinished.lines.is_empty());
        drop((writer, reader));
        let (mut writer, mut reader) = place.open(1 << 24);
        lines[10_000..]
            .chunks(1_000)
            .for_each(|chunk| assert_eq!(writer.append(chunk.concat().as_bytes()).unwrap(), 0));
        let taken = String::from_utf8(first.lines).unwrap();
        assert_eq!(taken + &drain(&mut reader, 50_000), lines.concat());
        assert_eq!(place.segments(), 1, "what was handed on is gone");
        assert!(!reader.is_over());
        drop(writer);
        assert!(reader.is_over() && reader.is_closed());
        drop(reader);
        let (_writer, mut reader) = place.open(1 << 24);
        assert_eq!(drain(&mut reader, 50_000), "");
    }

    #[test]
    fn a_line_that_was_cut_is_none() {
        let place = Place::new("cut");
        let (mut writer, reader) = place.open(1 << 20);
        writer.append(b"one\ntwo\n").unwrap();
        drop((writer, reader));
        let segment = place.0.join(format!("{:020}.{SUFFIX}", 0));
        let mut file = append_to(&segment).unwrap();
        file.write_all(b"thr").unwrap();
        drop(file);
        let (mut writer, mut reader) = place.open(1 << 20);
        writer.append(b"four\n").unwrap();
        assert_eq!(drain(&mut reader, 5), "one\ntwo\nfour\n");
        let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(segment).unwrap());
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_full_spool_loses_the_oldest_and_says_how_many() {
        let place = Place::new("full");
        let bound = 1 << 20;
        let (mut writer, mut reader) = place.open(bound);
        let early = reader.next(1 << 20, Duration::ZERO).unwrap();
        assert!(early.lines.is_empty());
        let lines: Vec<String> = (0..40_000).map(line).collect();
        let mut lost = 0;
        for chunk in lines.chunks(50) {
            lost += writer.append(chunk.concat().as_bytes()).unwrap();
        }
        let bytes: u64 =
            std::fs::read_dir(&place.0).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
        assert!(bytes <= bound + (1 << 16), "{bytes}");
        let left = drain(&mut reader, 1 << 17);
        assert!(lost > 10_000, "{lost}");
        assert_eq!(left, lines[lost as usize..].concat());
    }

    #[test]
    fn who_reads_waits_for_who_writes() {
        let place = Place::new("waits");
        let (mut writer, mut reader) = place.open(1 << 20);
        std::thread::scope(|scope| {
            let taken = scope.spawn(move || reader.next(100, Duration::from_secs(60)).unwrap().lines);
            writer.append(b"one\n").unwrap();
            assert_eq!(taken.join().unwrap(), b"one\n");
        });
    }
}
