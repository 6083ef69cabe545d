//! Lines of an endless body: whole ones, from chunks that end anywhere.
//!
//! Pure, but for what it keeps of an unfinished line; owned by the task that reads the body. Deliberately absent: the
//! meaning of a line, and the `\r` before its end, which no JSON minds.

use memchr::memchr;

/// An unfinished line. Keeps at most `line_bytes_max`.
#[derive(Debug)]
pub struct Lines {
    line_bytes_max: usize,
    line: Vec<u8>,
    /// The line was handed on before its end, as far as it may be long, and its rest passes by.
    is_cut: bool,
}

impl Lines {
    pub(super) const fn new(line_bytes_max: usize) -> Lines {
        Lines { line_bytes_max, line: Vec::new(), is_cut: false }
    }

    /// Takes the next bytes of the body, and hands out the lines that they complete, without their `\n` and but for
    /// empty ones. Of a line that is too long the begin is handed out: no JSON ends there, so that whoever decodes it
    /// refuses and counts it.
    pub(super) fn handle_chunk(&mut self, mut chunk: &[u8], on_line: &mut impl FnMut(&[u8])) {
        while let Some(end) = memchr(b'\n', chunk) {
            let (end_of_line, rest) = chunk.split_at(end);
            if self.line.is_empty() && !self.is_cut && end_of_line.len() <= self.line_bytes_max {
                if !end_of_line.is_empty() {
                    on_line(end_of_line);
                }
            } else {
                self.keep(end_of_line, on_line);
                self.finish(on_line);
            }
            chunk = &rest[1..];
        }
        self.keep(chunk, on_line);
    }

    /// The body is at its end: what is there of a line is a line.
    pub(super) fn finish(&mut self, on_line: &mut impl FnMut(&[u8])) {
        if !std::mem::take(&mut self.is_cut) && !self.line.is_empty() {
            on_line(&self.line);
        }
        self.line.clear();
    }

    fn keep(&mut self, part: &[u8], on_line: &mut impl FnMut(&[u8])) {
        if self.is_cut {
            return;
        }
        let room = self.line_bytes_max - self.line.len();
        self.line.extend_from_slice(&part[..part.len().min(room)]);
        if part.len() > room {
            on_line(&self.line);
            self.line.clear();
            self.is_cut = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAX: usize = 8;

    fn lines<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<Vec<u8>> {
        let (mut lines, mut seen) = (Lines::new(MAX), Vec::new());
        let mut on_line = |line: &[u8]| seen.push(line.to_vec());
        for chunk in chunks {
            lines.handle_chunk(chunk, &mut on_line);
            assert!(lines.line.len() <= MAX && lines.line.capacity() <= 2 * MAX);
        }
        lines.finish(&mut on_line);
        seen
    }

    #[track_caller]
    fn check(body: &str, expected: &[&str]) {
        let expected: Vec<Vec<u8>> = expected.iter().map(|line| line.as_bytes().to_vec()).collect();
        assert_eq!(lines([body.as_bytes()]), expected, "{body:?}");
        assert_eq!(lines(body.as_bytes().chunks(1)), expected, "{body:?} in bytes");
        for cut in 0..=body.len() {
            let (head, tail) = body.as_bytes().split_at(cut);
            assert_eq!(lines([head, tail]), expected, "{body:?} cut at {cut}");
        }
    }

    #[test]
    fn cuts_of_chunks_do_not_show() {
        check("", &[]);
        check("one\ntwo\n", &["one", "two"]);
        check("one\n\r\n\ntwo", &["one", "\r", "two"]);
        check("zürich\r\né\n", &["zürich\r", "é"]);
        check("12345678\nx\n", &["12345678", "x"]);
        check("123456789\nx\n", &["12345678", "x"]);
        check("x\n12345678901234567890", &["x", "12345678"]);
        check("12345678901234567890\n12345678901234567890\n\nx", &["12345678", "12345678", "x"]);
    }

    proptest! {
        #[test]
        fn are_those_of_the_whole_body(
            body in prop::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..200),
            size in 1usize..20,
        ) {
            let whole: Vec<Vec<u8>> = body.split(|byte| *byte == b'\n').map(|l| l[..l.len().min(MAX)].to_vec()).collect();
            let whole: Vec<_> = whole.into_iter().filter(|line| !line.is_empty()).collect();
            let found: Vec<_> = lines(body.chunks(size)).into_iter().filter(|line| !line.is_empty()).collect();
            prop_assert_eq!(found, whole);
        }
    }
}
