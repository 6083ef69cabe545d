//! Lists that a venue begins with the newest, gone through from their end, without keeping them.
//!
//! Pure, and without allocation: a list is scanned again instead. Deliberately absent: which end a list begins with,
//! which its venue's decoder finds out.

use super::DecodeError;
use super::json::{Scanner, Value};

/// Members that are kept to be handed out in the opposite order.
const RUN: usize = 64;

/// A place between two members of a list, from where one can go on more than once.
pub(super) trait Steps: Clone {
    type Member: Copy;

    /// Steps over the next member; `None` at the end.
    ///
    /// # Errors
    /// Where no member stands, which is nowhere in what was scanned before.
    fn step(&mut self) -> Result<Option<Self::Member>, DecodeError>;

    fn forwards(mut self, count: usize, on_member: &mut impl FnMut(Self::Member)) -> Result<(), DecodeError> {
        for _ in 0..count {
            let Some(member) = self.step()? else { break };
            on_member(member);
        }
        Ok(())
    }

    /// The `count` next members, the last one first.
    ///
    /// More than [`RUN`] are halved until they are few enough to be kept, and scanned once more at each halving: some
    /// ten times for the longest list there is, a month of minutes.
    fn backwards(mut self, count: usize, on_member: &mut impl FnMut(Self::Member)) -> Result<(), DecodeError> {
        if count <= RUN {
            let mut run = [None; RUN];
            for place in &mut run[..count] {
                *place = self.step()?;
            }
            run[..count].iter().rev().copied().flatten().for_each(on_member);
            return Ok(());
        }
        let (begin, half) = (self.clone(), count / 2);
        for _ in 0..half {
            self.step()?;
        }
        self.backwards(count - half, on_member)?;
        begin.backwards(half, on_member)
    }
}

/// The elements of an array that was scanned before.
#[derive(Clone)]
pub(super) struct Elements<'a> {
    scanner: Scanner<'a>,
    is_first: bool,
}

impl<'a> Elements<'a> {
    /// # Errors
    /// Where it is no array.
    pub(super) fn enter(array: &'a [u8]) -> Result<Elements<'a>, DecodeError> {
        let mut scanner = Scanner::new(array);
        scanner.enter(b'[')?;
        Ok(Elements { scanner, is_first: true })
    }
}

impl<'a> Steps for Elements<'a> {
    type Member = Value<'a>;

    fn step(&mut self) -> Result<Option<Value<'a>>, DecodeError> {
        if !self.scanner.next_element(&mut self.is_first)? {
            return Ok(None);
        }
        self.scanner.value().map(Some)
    }
}

/// The members of an object that was scanned before, by their keys.
#[derive(Clone)]
pub(super) struct Members<'a> {
    scanner: Scanner<'a>,
    is_first: bool,
}

impl<'a> Members<'a> {
    /// # Errors
    /// Where it is no object.
    pub(super) fn enter(object: &'a [u8]) -> Result<Members<'a>, DecodeError> {
        let mut scanner = Scanner::new(object);
        scanner.enter(b'{')?;
        Ok(Members { scanner, is_first: true })
    }
}

impl<'a> Steps for Members<'a> {
    type Member = (&'a [u8], Value<'a>);

    fn step(&mut self) -> Result<Option<Self::Member>, DecodeError> {
        let Some(key) = self.scanner.next_key(&mut self.is_first)? else { return Ok(None) };
        Ok(Some((key, self.scanner.value()?)))
    }
}
