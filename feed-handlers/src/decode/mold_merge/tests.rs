//! The merge of lines in virtual time: the cases one by one, and any pattern of loss, repeats and order.

use proptest::prelude::*;

use super::*;
use crate::decode::mold;

const MS: i64 = 1_000_000;

const LIMITS: MergeLimits = MergeLimits {
    start: Start::Beginning,
    request_after_ns: 5 * MS,
    request_again_ns: 50 * MS,
    give_up_ns: 1_000 * MS,
    window_messages: 8,
    window_bytes: 100,
};

const FIRST: &Session = b"000010059A";
const SECOND: &Session = b"000010059B";

/// A datagram of messages that say their own numbers; a count of 0 or 0xffff is a heartbeat or an end.
fn datagram(session: &Session, sequence: u64, count: u16) -> Vec<u8> {
    let mut bytes = request(session, sequence, count).to_vec();
    for number in sequence..sequence + u64::from(if count == 0xffff { 0 } else { count }) {
        let text = number.to_string();
        bytes.extend((text.len() as u16).to_be_bytes());
        bytes.extend(text.as_bytes());
    }
    bytes
}

fn words(delivery: Delivery<'_>) -> String {
    match delivery {
        Delivery::Session(session) => format!("session {}", char::from(session[9])),
        Delivery::Message { sequence, message } => {
            assert_eq!(message, sequence.to_string().as_bytes());
            sequence.to_string()
        }
        Delivery::Lost { sequence, count } => format!("lost {sequence}+{count}"),
        Delivery::End => "end".into(),
    }
}

enum Step {
    /// Session, number, count.
    Comes(&'static Session, u64, u16),
    Passes,
    /// The request that is due: number and count.
    Asks(Option<(u64, u16)>),
}
use Step::{Asks, Comes, Passes};

/// Each step at its ms, and what is delivered then.
#[track_caller]
fn check(limits: MergeLimits, steps: &[(i64, Step, &str)]) -> MergeCounts {
    let mut merge = MoldMerge::new(limits);
    for (at, (ms, step, expected)) in steps.iter().enumerate() {
        let mut told = Vec::new();
        let now = ms * MS;
        match step {
            Comes(session, sequence, count) => {
                let bytes = datagram(session, *sequence, *count);
                merge.handle(mold::decode(&bytes).unwrap(), now, &mut |delivery| told.push(words(delivery)));
            }
            Passes => merge.handle_timeout(now, &mut |delivery| told.push(words(delivery))),
            Asks(expected) => {
                let expected = expected.map(|(sequence, count)| request(FIRST, sequence, count));
                assert_eq!(merge.poll_request(now, 100), expected, "step {at}");
            }
        }
        assert_eq!(told.join(" "), *expected, "step {at}");
    }
    merge.counts()
}

#[test]
fn two_lines_are_one() {
    let counts = check(
        LIMITS,
        &[
            (0, Comes(FIRST, 1, 2), "session A 1 2"),
            (0, Comes(FIRST, 1, 2), ""),
            (1, Comes(FIRST, 5, 1), ""),
            (1, Comes(FIRST, 2, 3), "3 4 5"),
            (2, Comes(FIRST, 6, 0), ""),
            (3, Asks(None), ""),
            (9, Comes(FIRST, 6, 0xffff), "end"),
            (9, Comes(FIRST, 6, 0xffff), ""),
        ],
    );
    assert_eq!((counts.delivered, counts.duplicates, counts.early, counts.lost), (5, 3, 1, 0));
}

#[test]
fn a_hole_is_asked_for_and_then_given_up() {
    let counts = check(
        LIMITS,
        &[
            (0, Comes(FIRST, 1, 1), "session A 1"),
            (0, Comes(FIRST, 5, 1), ""),
            (4, Asks(None), ""),
            (5, Asks(Some((2, 3))), ""),
            (6, Asks(None), ""),
            (55, Asks(Some((2, 3))), ""),
            // A part of the answer: the rest is asked for at once.
            (60, Comes(FIRST, 2, 1), "2"),
            (60, Asks(Some((3, 2))), ""),
            (1_054, Passes, ""),
            (1_060, Passes, "lost 3+2 5"),
            (1_060, Comes(FIRST, 3, 2), ""),
            // What a heartbeat tells is missing.
            (2_000, Comes(FIRST, 8, 0), ""),
            (2_005, Asks(Some((6, 2))), ""),
            (2_006, Comes(FIRST, 6, 2), "6 7"),
            (2_100, Asks(None), ""),
        ],
    );
    assert_eq!((counts.delivered, counts.lost, counts.requests), (5, 2, 4));
}

#[test]
fn an_end_waits_for_what_is_missing() {
    check(
        LIMITS,
        &[
            (0, Comes(FIRST, 3, 0xffff), "session A"),
            (5, Asks(Some((1, 2))), ""),
            (6, Comes(FIRST, 1, 2), "1 2 end"),
            (7, Comes(FIRST, 3, 1), ""),
        ],
    );
    check(
        LIMITS,
        &[
            (0, Comes(FIRST, 1, 4), "session A 1 2 3 4"),
            // No end can be before what was sent.
            (1, Comes(FIRST, 3, 0xffff), ""),
            (2, Comes(FIRST, 5, 1), "5"),
            (3, Comes(FIRST, 6, 0xffff), "end"),
            (4, Comes(FIRST, 9, 0), ""),
            (4, Comes(FIRST, 6, 1), ""),
        ],
    );
    check(LIMITS, &[(0, Comes(FIRST, 3, 0xffff), "session A"), (1_000, Passes, "lost 1+2 end")]);
}

#[test]
fn another_session_ends_the_one_before() {
    let counts = check(
        LIMITS,
        &[
            (0, Comes(FIRST, 1, 1), "session A 1"),
            (0, Comes(FIRST, 4, 1), ""),
            // One datagram may have strayed here.
            (1, Comes(SECOND, 1, 1), ""),
            (1, Comes(SECOND, 2, 1), "lost 2+2 4 end session B 1 2"),
            (1, Comes(FIRST, 5, 1), ""),
            (2, Comes(SECOND, 3, 1), "3"),
        ],
    );
    assert_eq!(counts.stale_datagrams, 1);
    // The other line's copy will do, and after an end nothing is doubted.
    check(
        LIMITS,
        &[
            (0, Comes(FIRST, 1, 1), "session A 1"),
            (1, Comes(SECOND, 1, 1), ""),
            (1, Comes(SECOND, 1, 1), "end session B 1"),
            (2, Comes(SECOND, 2, 0xffff), "end"),
            (3, Comes(b"000010059C", 1, 1), "session C 1"),
        ],
    );
}

#[test]
fn a_datagram_that_strayed_here_is_held() {
    let counts = check(
        LIMITS,
        &[
            (0, Comes(FIRST, 1, 1), "session A 1"),
            (1, Comes(SECOND, 7, 1), ""),
            (1, Comes(FIRST, 900, 0), ""),
            (1, Comes(FIRST, 800, 1), ""),
            (1, Comes(FIRST, 2, 1), "2"),
            (2_000, Passes, ""),
            (2_000, Comes(FIRST, 3, 1), "3"),
            // Two that agree are believed, and what the first one held is not lost.
            (2_001, Comes(FIRST, 700, 2), ""),
            (2_001, Comes(FIRST, 702, 1), ""),
            (3_001, Passes, "lost 4+696 700 701 702"),
        ],
    );
    assert_eq!((counts.stale_datagrams, counts.lost), (3, 696));
}

#[test]
fn who_starts_now_asks_for_nothing_before() {
    let limits = MergeLimits { start: Start::Now, ..LIMITS };
    check(limits, &[(0, Comes(FIRST, 900, 2), "session A 900 901"), (9, Asks(None), "")]);
    check(limits, &[(0, Comes(FIRST, 900, 0), "session A"), (1, Comes(FIRST, 900, 1), "900")]);
}

#[test]
fn a_full_window_gives_the_first_hole_up() {
    check(
        LIMITS,
        &[
            (0, Comes(FIRST, 1, 1), "session A 1"),
            (0, Comes(FIRST, 3, 4), ""),
            (0, Comes(FIRST, 8, 4), ""),
            (0, Comes(FIRST, 13, 1), "lost 2+1 3 4 5 6"),
            (0, Comes(FIRST, 2, 6), "7 8 9 10 11"),
        ],
    );
    let limits = MergeLimits { window_bytes: 1, ..LIMITS };
    check(limits, &[(0, Comes(FIRST, 10, 1), "session A lost 1+9 10")]);
    check(
        LIMITS,
        &[
            (0, Comes(FIRST, u64::MAX - 1, 1), "session A"),
            (1_000, Passes, "lost 1+18446744073709551613 18446744073709551614"),
        ],
    );
}

proptest! {
    /// Whatever is lost on one line only, or comes late, or twice: all arrives, once and in order.
    #[test]
    fn nothing_is_lost_that_one_line_has(
        packets in proptest::collection::vec((1u16..4, 0u8..3, 0u64..6, 0u64..6), 1..60),
    ) {
        let limits = MergeLimits { window_messages: 1_000, window_bytes: 10_000, ..LIMITS };
        // Which of the lines lost it (0 neither), and by how many places each is late.
        let (mut sequence, mut arrivals) = (1, Vec::new());
        for (at, (count, lost, late_a, late_b)) in packets.iter().enumerate() {
            for (line, late) in [(1, late_a), (2, late_b)] {
                if *lost != line {
                    arrivals.push((at as u64 + late, datagram(FIRST, sequence, *count)));
                }
            }
            sequence += u64::from(*count);
        }
        arrivals.sort_by_key(|arrival| arrival.0);
        let mut merge = MoldMerge::new(limits);
        let mut numbers = Vec::new();
        for (at, bytes) in &arrivals {
            merge.handle(mold::decode(bytes).unwrap(), *at as i64, &mut |delivery| match delivery {
                Delivery::Message { sequence, .. } => numbers.push(sequence),
                Delivery::Session(_) => {}
                other => panic!("{other:?}"),
            });
        }
        prop_assert_eq!(numbers, (1..sequence).collect::<Vec<_>>());
        prop_assert!(!merge.has_hole());
    }

    /// Whatever comes and whenever: no number twice, none out of order, none that is neither delivered nor said
    /// to be lost; and what waits stays within its bounds.
    #[test]
    fn every_number_is_accounted_for(
        steps in proptest::collection::vec((1u64..60, prop::sample::select(&[0u16, 1, 2, 5, 0xffff][..]), 0i64..400, any::<bool>()), 1..120),
    ) {
        let mut merge = MoldMerge::new(LIMITS);
        let (mut next, mut now) = (1, 0);
        for (sequence, count, passes, is_late) in steps {
            now += passes * MS;
            let bytes = datagram(FIRST, sequence, count);
            let mut deliver = |delivery: Delivery<'_>| match delivery {
                Delivery::Message { sequence, .. } => {
                    assert_eq!(sequence, next);
                    next += 1;
                }
                Delivery::Lost { sequence, count } => {
                    assert_eq!(sequence, next);
                    assert!(count > 0);
                    next += count;
                }
                Delivery::Session(_) | Delivery::End => {}
            };
            if is_late {
                merge.handle_timeout(now, &mut deliver);
            }
            merge.handle(mold::decode(&bytes).unwrap(), now, &mut deliver);
            prop_assert!(merge.waiting.len() <= LIMITS.window_messages && merge.waiting_bytes <= LIMITS.window_bytes);
            prop_assert_eq!(merge.waiting_bytes, merge.waiting.values().map(|message| message.len()).sum::<usize>());
            prop_assert_eq!(merge.poll_timeout().is_some(), merge.has_hole());
            let _ = merge.poll_request(now, 10);
        }
    }
}
