//! What the numbers of the venue's messages say: the next one, one behind a hole, one that fills it, or one that was there.
//!
//! Pure, owned by the session. Deliberately absent: what is done about a hole.

use std::collections::VecDeque;
use std::ops::RangeInclusive;

use crate::decode::fix_session::SessionMessage;

/// The most holes that wait for their messages at a time.
pub(super) const HOLES_MAX: usize = 16;

/// Where both sides are in counting their messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Numbers {
    /// Of our next message.
    pub(super) next: u64,
    /// Of the venue's next message.
    pub(super) expected: u64,
}

impl Numbers {
    pub(super) const FIRST: Numbers = Numbers { next: 1, expected: 1 };
}

/// What the number of a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Next,
    /// These are missing before it.
    BehindHole(RangeInclusive<u64>),
    /// It was missing.
    InHole,
    /// It came before, and says that it is sent again.
    Known,
    /// It came before, and should not come again.
    TooLow,
}

/// The numbers of the messages that came.
#[derive(Clone, Debug)]
pub(super) struct Incoming {
    expected: u64,
    /// What is awaited, the oldest first. At most [`HOLES_MAX`].
    holes: VecDeque<RangeInclusive<u64>>,
}

impl Incoming {
    pub(super) const fn new(expected: u64) -> Incoming {
        Incoming { expected, holes: VecDeque::new() }
    }

    /// The number of the next message.
    pub(super) const fn expected(&self) -> u64 {
        self.expected
    }

    /// Takes in the number of a message.
    pub(super) fn place(&mut self, message: &SessionMessage<'_>) -> Place {
        let SessionMessage { number, is_resent, .. } = *message;
        let new_number = if message.kind == b"4" { message.new_number } else { None };
        if let Some(new) = new_number
            && !message.fills_gap
        {
            // Whatever its own number is; but numbers do not go back but by a new session.
            self.expected = self.expected.max(new);
            self.holes.clear();
            return Place::Next;
        }
        let next = new_number.unwrap_or(0).max(number.saturating_add(1));
        let expected = self.expected;
        self.expected = expected.max(next);
        if number > expected {
            Place::BehindHole(expected..=number - 1)
        } else if number == expected {
            Place::Next
        } else if self.fill(number..=next - 1) {
            Place::InHole
        } else if is_resent {
            Place::Known
        } else {
            self.expected = expected;
            Place::TooLow
        }
    }

    /// These are to come yet. Tells whether there is room for another hole.
    pub(super) fn wait_for(&mut self, hole: RangeInclusive<u64>) -> bool {
        let has_room = self.holes.len() < HOLES_MAX;
        if has_room {
            self.holes.push_back(hole);
        }
        has_room
    }

    pub(super) fn waits(&self) -> bool {
        !self.holes.is_empty()
    }

    /// What is missing does not come.
    pub(super) fn give_up(&mut self) {
        self.holes.clear();
    }

    /// Whether the first of these numbers was missing. None of them is any more, nor is one before it of the same hole, since
    /// they come in order.
    fn fill(&mut self, came: RangeInclusive<u64>) -> bool {
        let Some(at) = self.holes.iter().position(|hole| hole.contains(came.start())) else { return false };
        let rest = came.end().saturating_add(1)..=*self.holes[at].end();
        if rest.is_empty() {
            self.holes.remove(at);
        } else {
            self.holes[at] = rest;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::message::framed;
    use super::*;
    use proptest::prelude::*;

    fn place(incoming: &mut Incoming, number: u64, is_resent: bool) -> Place {
        let flag = if is_resent { "43=Y\x01" } else { "" };
        let frame = framed(format!("35=0\x0134={number}\x01{flag}").as_bytes());
        let place = incoming.place(&SessionMessage::read(&frame).unwrap());
        if let Place::BehindHole(hole) = &place {
            incoming.wait_for(hole.clone());
        }
        place
    }

    proptest! {
        /// Whatever is lost on the way and sent again in order, each number is taken once.
        #[test]
        fn every_message_is_taken_once(lost in proptest::collection::btree_set(1u64..60, 0..30)) {
            let (mut incoming, mut taken) = (Incoming::new(1), BTreeSet::new());
            let mut holes = 0;
            for number in (1..=60).filter(|number| !lost.contains(number)) {
                let place = place(&mut incoming, number, false);
                prop_assert!(matches!(place, Place::Next | Place::BehindHole(_)));
                let is_behind = lost.contains(&(number - 1));
                prop_assert_eq!(matches!(place, Place::BehindHole(_)), is_behind);
                holes += usize::from(is_behind);
                taken.insert(number);
            }
            prop_assume!(holes <= HOLES_MAX);
            for number in 1..=60 {
                let expected = if lost.contains(&number) { Place::InHole } else { Place::Known };
                prop_assert_eq!(place(&mut incoming, number, true), expected.clone());
                prop_assert_eq!(taken.insert(number), expected == Place::InHole);
            }
            prop_assert!(!incoming.waits() && incoming.expected() == 61);
            prop_assert_eq!(place(&mut incoming, 60, false), Place::TooLow);
        }
    }
}
