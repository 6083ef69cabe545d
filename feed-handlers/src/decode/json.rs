//! A JSON scanner over borrowed bytes: finds where values begin and end, and checks their grammar on the way.
//!
//! It builds no tree and allocates nothing. Strings stay as they are written; one with an escape is marked
//! so that nobody takes it for plain text. Deliberately absent: unescaping, conversion of numbers, and the check
//! for valid UTF-8, because texts that are used are compared with, or parsed as, ASCII.

use super::DecodeError;
use super::lanes::{LANES, specials};

/// Deepest nesting of a frame. Coinbase needs 3 (object, list, level), its sister venue 6; the scanner
/// recurses once a level, so the bound also bounds the stack.
pub(super) const DEPTH_MAX: usize = 16;

/// What kind of JSON value it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The key did not occur.
    Absent,
    Null,
    Bool,
    Number,
    /// A string without escapes: its bytes are its text.
    Text,
    /// A string with at least one escape.
    EscapedText,
    Array,
    Object,
}

/// One JSON value, unparsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Value<'a> {
    pub(super) kind: Kind,
    /// As it stands in the frame: a string without its quotes, arrays and objects with their brackets.
    pub(super) raw: &'a [u8],
}

impl Value<'_> {
    pub(super) const ABSENT: Value<'static> = Value { kind: Kind::Absent, raw: b"" };
}

/// A place in the bytes. After an error the place is of no use.
#[derive(Clone, Debug)]
pub(super) struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: usize,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Scanner<'a> {
        Scanner { bytes, at: 0, depth: 0 }
    }

    /// The first byte of the next token.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] where there is none.
    pub(super) fn peek(&mut self) -> Result<u8, DecodeError> {
        loop {
            match self.bytes.get(self.at) {
                Some(b' ' | b'\t' | b'\n' | b'\r') => self.at += 1,
                Some(&byte) => return Ok(byte),
                None => return Err(DecodeError::Truncated { offset: self.at }),
            }
        }
    }

    /// Enters an object or array: steps over its opening bracket.
    ///
    /// # Errors
    /// Where the next token is not `open`, and at [`DEPTH_MAX`].
    pub(super) fn enter(&mut self, open: u8) -> Result<(), DecodeError> {
        self.expect(open)?;
        if self.depth == DEPTH_MAX {
            return Err(DecodeError::Depth { offset: self.at - 1, depth_max: DEPTH_MAX });
        }
        self.depth += 1;
        Ok(())
    }

    /// Goes to the next element of the array that was entered, over the comma in front of it. Returns false,
    /// and leaves the array, where it ends. `first` is true before the first element and is then cleared.
    ///
    /// # Errors
    /// Where neither a comma nor the end stands.
    pub(super) fn next_element(&mut self, first: &mut bool) -> Result<bool, DecodeError> {
        self.next_member(b']', first)
    }

    /// Goes to the next key of the object that was entered and steps over it and its colon. `None`, leaving the
    /// object, where it ends. The key comes as written: one with escapes keeps its backslashes, and so equals
    /// no key that anybody looks for.
    ///
    /// # Errors
    /// Where no key, colon, comma or end stands as it should.
    pub(super) fn next_key(&mut self, first: &mut bool) -> Result<Option<&'a [u8]>, DecodeError> {
        if !self.next_member(b'}', first)? {
            return Ok(None);
        }
        if self.peek()? != b'"' {
            return Err(self.syntax());
        }
        let key = self.string()?;
        self.expect(b':')?;
        Ok(Some(key.raw))
    }

    /// Steps over one value of any kind.
    ///
    /// # Errors
    /// Where no value stands, or one that is cut or nested too deep.
    pub(super) fn value(&mut self) -> Result<Value<'a>, DecodeError> {
        let byte = self.peek()?;
        let start = self.at;
        let kind = match byte {
            b'"' => return self.string(),
            b'-' | b'0'..=b'9' => {
                self.number()?;
                Kind::Number
            }
            b'[' => {
                self.enter(b'[')?;
                let mut first = true;
                while self.next_element(&mut first)? {
                    self.value()?;
                }
                Kind::Array
            }
            b'{' => {
                self.enter(b'{')?;
                let mut first = true;
                while self.next_key(&mut first)?.is_some() {
                    self.value()?;
                }
                Kind::Object
            }
            b't' => self.literal(b"true", Kind::Bool)?,
            b'f' => self.literal(b"false", Kind::Bool)?,
            b'n' => self.literal(b"null", Kind::Null)?,
            _ => return Err(self.syntax()),
        };
        Ok(Value { kind, raw: &self.bytes[start..self.at] })
    }

    /// Checks that only whitespace is left.
    ///
    /// # Errors
    /// [`DecodeError::Syntax`] where something else follows.
    pub(super) fn end(&mut self) -> Result<(), DecodeError> {
        match self.peek() {
            Err(_) => Ok(()),
            Ok(_) => Err(self.syntax()),
        }
    }

    fn syntax(&self) -> DecodeError {
        DecodeError::Syntax { offset: self.at }
    }

    fn expect(&mut self, byte: u8) -> Result<(), DecodeError> {
        if self.peek()? != byte {
            return Err(self.syntax());
        }
        self.at += 1;
        Ok(())
    }

    fn next_member(&mut self, close: u8, first: &mut bool) -> Result<bool, DecodeError> {
        let byte = self.peek()?;
        let was_first = std::mem::replace(first, false);
        if byte == close {
            self.at += 1;
            self.depth = self.depth.saturating_sub(1);
            return Ok(false);
        }
        if !was_first {
            self.expect(b',')?;
        }
        Ok(true)
    }

    /// The string whose opening quote is next.
    fn string(&mut self) -> Result<Value<'a>, DecodeError> {
        let start = self.at + 1;
        let mut at = start;
        let mut kind = Kind::Text;
        loop {
            at = plain_end(self.bytes, at);
            match self.bytes.get(at) {
                Some(b'"') => {
                    self.at = at + 1;
                    return Ok(Value { kind, raw: &self.bytes[start..at] });
                }
                Some(b'\\') => {
                    kind = Kind::EscapedText;
                    at = self.escape_end(at)?;
                }
                // A control character, which JSON wants escaped.
                Some(_) => return Err(DecodeError::Syntax { offset: at }),
                None => return Err(DecodeError::Truncated { offset: at }),
            }
        }
    }

    /// Where the escape that starts at `at` ends.
    fn escape_end(&self, at: usize) -> Result<usize, DecodeError> {
        let digits = match self.bytes.get(at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 0,
            Some(b'u') => 4,
            Some(_) => return Err(DecodeError::Syntax { offset: at + 1 }),
            None => return Err(DecodeError::Truncated { offset: at + 1 }),
        };
        for offset in at + 2..at + 2 + digits {
            match self.bytes.get(offset) {
                Some(byte) if byte.is_ascii_hexdigit() => {}
                Some(_) => return Err(DecodeError::Syntax { offset }),
                None => return Err(DecodeError::Truncated { offset }),
            }
        }
        Ok(at + 2 + digits)
    }

    /// Steps over a number: `-? (0 | [1-9][0-9]*) (. [0-9]+)? ([eE] [+-]? [0-9]+)?`
    fn number(&mut self) -> Result<(), DecodeError> {
        if self.bytes.get(self.at) == Some(&b'-') {
            self.at += 1;
        }
        if self.bytes.get(self.at) == Some(&b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.bytes.get(self.at), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.bytes.get(self.at), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    /// Steps over one digit or more.
    fn digits(&mut self) -> Result<(), DecodeError> {
        match self.bytes.get(self.at) {
            Some(byte) if byte.is_ascii_digit() => {}
            Some(_) => return Err(self.syntax()),
            None => return Err(DecodeError::Truncated { offset: self.at }),
        }
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        Ok(())
    }

    fn literal(&mut self, literal: &[u8], kind: Kind) -> Result<Kind, DecodeError> {
        let rest = &self.bytes[self.at..];
        if rest.starts_with(literal) {
            self.at += literal.len();
            return Ok(kind);
        }
        Err(if literal.starts_with(rest) { DecodeError::Truncated { offset: self.bytes.len() } } else { self.syntax() })
    }
}

/// The index of the first byte from `at` on that is a quote, a backslash or a control character; the length
/// where there is none.
///
/// Sixteen bytes at a time, because the strings of a frame are about 8 bytes long: too short to pay for a call into a
/// vectorised search, too long to be looked at byte by byte.
#[inline]
pub(super) fn plain_end(bytes: &[u8], mut at: usize) -> usize {
    while let Some(lanes) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
        let specials = specials(lanes);
        if specials != 0 {
            return at + specials.trailing_zeros() as usize;
        }
        at += LANES;
    }
    while bytes.get(at).is_some_and(|&byte| byte >= 0x20 && byte != b'"' && byte != b'\\') {
        at += 1;
    }
    at
}

/// Declares a struct of the members of a JSON object that are wanted, each a [`Value`], and how to scan it. Of a key
/// that occurs twice the last counts; other keys are stepped over.
macro_rules! members {
    ($(#[$meta:meta])* struct $name:ident { $($field:ident: $key:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug)]
        struct $name<'a> {
            $($field: $crate::decode::json::Value<'a>,)*
        }

        impl<'a> $name<'a> {
            /// Steps over the object that is next.
            fn scan(scanner: &mut $crate::decode::json::Scanner<'a>) -> Result<$name<'a>, $crate::decode::DecodeError> {
                let mut members = $name { $($field: $crate::decode::json::Value::ABSENT,)* };
                scanner.enter(b'{')?;
                let mut first = true;
                while let Some(key) = scanner.next_key(&mut first)? {
                    let value = scanner.value()?;
                    match key {
                        $($key => members.$field = value,)*
                        _ => {}
                    }
                }
                Ok(members)
            }

            /// Reads `text`, which holds one object and nothing else.
            #[allow(dead_code, reason = "some objects stand only inside others")]
            fn read(text: &'a [u8]) -> Result<$name<'a>, $crate::decode::DecodeError> {
                let mut scanner = $crate::decode::json::Scanner::new(text);
                let members = Self::scan(&mut scanner)?;
                scanner.end()?;
                Ok(members)
            }
        }
    };
}

pub(super) use members;

/// Hands the scanner to `on_element` at each element of the array `list`, which was scanned before.
///
/// # Errors
/// Those of `on_element`, which steps over the element.
pub(super) fn each_element<'a>(
    list: &'a [u8],
    mut on_element: impl FnMut(&mut Scanner<'a>) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    let mut scanner = Scanner::new(list);
    scanner.enter(b'[')?;
    let mut first = true;
    while scanner.next_element(&mut first)? {
        on_element(&mut scanner)?;
    }
    Ok(())
}

/// Hands each element of the array `list`, which was scanned before, to `on_object`: as `scan` reads it, or `None` where
/// it is no object.
///
/// # Errors
/// Those of `scan` and of `on_object`.
pub(super) fn each_object<'a, T>(
    list: &'a [u8],
    scan: impl Fn(&mut Scanner<'a>) -> Result<T, DecodeError>,
    mut on_object: impl FnMut(Option<T>) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    each_element(list, |scanner| {
        if scanner.peek()? == b'{' {
            return on_object(Some(scan(scanner)?));
        }
        scanner.value()?;
        on_object(None)
    })
}

/// The first `N` parts of the array that is next, as in `["buy","83362.67","0.00000000"]`: parts that it lacks are
/// absent, further ones are stepped over, and what is no array has none.
///
/// # Errors
/// Where no value stands.
pub(super) fn parts<'a, const N: usize>(scanner: &mut Scanner<'a>) -> Result<[Value<'a>; N], DecodeError> {
    let mut parts = [Value::ABSENT; N];
    if scanner.peek()? != b'[' {
        scanner.value()?;
        return Ok(parts);
    }
    scanner.enter(b'[')?;
    let (mut first, mut at) = (true, 0);
    while scanner.next_element(&mut first)? {
        let value = scanner.value()?;
        if let Some(part) = parts.get_mut(at) {
            *part = value;
        }
        at += 1;
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn scan(text: &[u8]) -> Result<Value<'_>, DecodeError> {
        let mut scanner = Scanner::new(text);
        let value = scanner.value()?;
        scanner.end()?;
        Ok(value)
    }

    #[track_caller]
    fn check(text: &str, expected: Result<(Kind, &str), DecodeError>) {
        let expected = expected.map(|(kind, raw)| Value { kind, raw: raw.as_bytes() });
        assert_eq!(scan(text.as_bytes()), expected, "{text}");
    }

    #[test]
    fn finds_values() {
        check(" \"a b\"\r\n", Ok((Kind::Text, "a b")));
        check(r#""""#, Ok((Kind::Text, "")));
        check(r#""long enough for words \" then \u00e9 and \\""#, {
            Ok((Kind::EscapedText, r#"long enough for words \" then \u00e9 and \\"#))
        });
        check("-0.50e-3 ", Ok((Kind::Number, "-0.50e-3")));
        check("true", Ok((Kind::Bool, "true")));
        check("null", Ok((Kind::Null, "null")));
        check("[ ]", Ok((Kind::Array, "[ ]")));
        check(r#"{"a":[1,{"]":"}"}],"b":false}"#, Ok((Kind::Object, r#"{"a":[1,{"]":"}"}],"b":false}"#)));
    }

    #[test]
    fn says_where_it_stops() {
        let syntax = |offset| Err(DecodeError::Syntax { offset });
        let truncated = |offset| Err(DecodeError::Truncated { offset });
        check("", truncated(0));
        check("  ", truncated(2));
        check("\"abc", truncated(4));
        check("\"a\nb\"", syntax(2));
        check(r#""\x""#, syntax(2));
        check(r#""\u12g4""#, syntax(5));
        check(r#""\u12"#, truncated(5));
        check("[1,]", syntax(3));
        check("[,1]", syntax(1));
        check("[1 2]", syntax(3));
        check(r#"{"a"}"#, syntax(4));
        check(r#"{"a":1,}"#, syntax(7));
        check("{1:2}", syntax(1));
        check("[1}", syntax(2));
        check("tru", truncated(3));
        check("trux", syntax(0));
        check("01", syntax(1));
        check("1.", truncated(2));
        check("-", truncated(1));
        check("1.x", syntax(2));
        check("+1", syntax(0));
        check("1 2", syntax(2));
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert_eq!(scan(nested(DEPTH_MAX).as_bytes()).unwrap().kind, Kind::Array);
        check(&nested(DEPTH_MAX + 1), Err(DecodeError::Depth { offset: DEPTH_MAX, depth_max: DEPTH_MAX }));
        check(&"[".repeat(1 << 20), Err(DecodeError::Depth { offset: DEPTH_MAX, depth_max: DEPTH_MAX }));
        let siblings = format!("[{}]", vec![nested(DEPTH_MAX - 1); 40].join(","));
        assert_eq!(scan(siblings.as_bytes()).unwrap().kind, Kind::Array, "depth counts what is open, not what was");
    }

    proptest! {
        #[test]
        fn words_find_what_bytes_find(bytes: Vec<u8>, at in 0usize..12) {
            let at = at.min(bytes.len());
            let naive = bytes[at..].iter().position(|&b| b < 0x20 || b == b'"' || b == b'\\');
            prop_assert_eq!(plain_end(&bytes, at), naive.map_or(bytes.len(), |n| at + n));
        }

        #[test]
        fn agrees_with_another_parser(text in r#"[\[\]{}:,"\\/ a1e0.\-+\ntrulfsn]{0,24}"#) {
            // The other parser reads the values too; a number it cannot hold is no fault of the grammar.
            let theirs = serde_json::from_str::<serde::de::IgnoredAny>(&text);
            prop_assert_eq!(scan(text.as_bytes()).is_ok(), theirs.is_ok(), "{}: {:?}", text, theirs);
        }

        #[test]
        fn never_panics(bytes: Vec<u8>) {
            let _ = scan(&bytes);
        }
    }
}
