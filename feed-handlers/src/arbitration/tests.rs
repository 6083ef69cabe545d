//! The rules of arbitration one by one, and all of them against a model that keeps the whole history and reads the rules
//! off it anew for each tick.

use proptest::prelude::*;
use protocol::{Decimal, Quote, TickFlags, Trade, VenueBar};

use super::*;

const SECOND: i64 = 1_000_000_000;
const A: SourceId = SourceId(0);
const B: SourceId = SourceId(1);
const C: SourceId = SourceId(2);

#[derive(Clone, Copy, Debug)]
enum What {
    T,
    Q,
    Gap,
    Beat,
}
use What::{Beat, Gap, Q, T};

fn tick(instrument: u32, source: SourceId, what: What, ts_event: i64) -> Tick {
    let one = Decimal::new(1, 0).unwrap();
    let body = match what {
        T => TickBody::Trade(Trade { id: None, price: one, size: one, taker: None }),
        Q => TickBody::Quote(Quote { bid: one, bid_size: one, ask: one, ask_size: one }),
        Gap => TickBody::Gap { missed: 1 },
        Beat => TickBody::Heartbeat,
    };
    let flags = TickFlags::default();
    Tick { instrument: InstrumentId(instrument), source, flags, ts_event, ts_recv: ts_event, body }
}

fn in_order(sources: u16) -> Vec<Rank> {
    (0..sources).map(|order| Rank { is_mock: false, order }).collect()
}

/// A tick at a second with the venue's time of another, or a source's new state.
enum Step {
    At(i64, SourceId, What, i64),
    Is(i64, SourceId, SourceState),
}
use Step::{At, Is};

/// Takes the steps for one instrument. A letter for each tick: `p`ublished, published after a `S`witch, `s`tandby, `b`ehind.
fn run(ranks: Vec<Rank>, steps: &[Step]) -> String {
    let mut arbitration = Arbitration::new(ranks, ArbitrationSettings::default());
    let mut letters = String::new();
    for step in steps {
        match *step {
            Is(at, source, state) => arbitration.set_source_state(source, state, at * SECOND),
            At(at, source, what, time) => {
                let before = arbitration.active(InstrumentId(7));
                let verdict = arbitration.offer(&tick(7, source, what, time * SECOND), at * SECOND);
                if let Verdict::PublishAfterSwitch { from, to } = verdict {
                    assert_eq!((Some(from), to), (before, source));
                }
                assert_eq!(
                    arbitration.active(InstrumentId(7)) == Some(source),
                    verdict.is_published() || before == Some(source)
                );
                letters.push(match verdict {
                    Verdict::Publish => 'p',
                    Verdict::PublishAfterSwitch { .. } => 'S',
                    Verdict::Standby => 's',
                    Verdict::Behind => 'b',
                });
            }
        }
    }
    letters
}

#[track_caller]
fn check(expected: &str, steps: &[Step]) {
    assert_eq!(run(in_order(3), steps), expected);
}

#[test]
fn one_source_is_published_whatever_its_order() {
    check(
        "ppppppp",
        &[
            At(0, B, Beat, 0),
            At(0, B, T, 5),
            At(1, B, T, 2),
            At(1, B, T, 5),
            At(60, B, Gap, 5),
            At(60, B, Q, 4),
            At(61, B, Q, 3),
        ],
    );
}

#[test]
fn others_stand_by_while_the_preferred_one_speaks() {
    check(
        "psssspsp",
        &[
            At(0, A, T, 0),
            At(1, B, T, 1),
            At(2, B, Q, 2),
            At(3, C, Gap, 3),
            At(4, B, Beat, 4),
            At(9, A, Q, 9),
            At(18, B, T, 18),
            At(18, A, T, 17),
        ],
    );
}

#[test]
fn the_preferred_one_takes_over_from_whoever_was_first() {
    check("psSs", &[At(0, B, T, 0), At(1, A, Beat, 1), At(1, A, T, 1), At(1, B, T, 2)]);
    // Mock data gives way to any real data, whatever the order.
    let ranks = vec![Rank { is_mock: true, order: 0 }, Rank { is_mock: false, order: 9 }];
    assert_eq!(run(ranks, &[At(0, A, T, 0), At(1, B, T, 1), At(2, A, T, 2)]), "pSs");
    // A source without a rank comes last; of equals the lower id.
    assert_eq!(
        run(in_order(1), &[At(0, SourceId(9), T, 0), At(0, B, T, 1), At(0, SourceId(9), T, 2), At(0, A, T, 3)]),
        "pSsS"
    );
}

#[test]
fn silence_hands_the_instrument_to_who_speaks() {
    check("psSp", &[At(0, A, T, 0), At(9, B, T, 9), At(10, B, T, 10), At(11, B, T, 11)]);
    // Neither a gap nor a heartbeat takes over, and the active one's heartbeat is no silence.
    check(
        "psspsS",
        &[
            At(0, A, T, 0),
            At(10, B, Beat, 10),
            At(10, B, Gap, 10),
            At(11, A, Beat, 11),
            At(20, B, Q, 20),
            At(21, B, Q, 21),
        ],
    );
}

#[test]
fn who_fell_silent_must_speak_for_a_while_before_it_is_back() {
    check(
        "pSsspSs",
        &[
            At(0, A, T, 0),
            At(10, B, T, 10),
            At(11, A, T, 11),
            At(15, A, T, 15),
            At(15, B, T, 15),
            At(16, A, T, 16),
            At(16, B, T, 17),
        ],
    );
    // One word every twelve seconds does not make it well, as long as the other speaks.
    check(
        "pSspspspS",
        &[
            At(0, A, T, 0),
            At(10, B, T, 10),
            At(12, A, T, 12),
            At(18, B, T, 18),
            At(24, A, T, 24),
            At(27, B, T, 27),
            At(36, A, T, 36),
            At(36, B, T, 37),
            At(46, A, T, 46),
        ],
    );
    // That is between the two; a third that ranks better and never failed is not held up.
    let ranks = [1, 2, 0].map(|order| Rank { is_mock: false, order }).to_vec();
    assert_eq!(run(ranks, &[At(0, A, T, 0), At(10, B, T, 10), At(11, C, T, 11)]), "pSS");
}

#[test]
fn a_source_that_is_not_up_is_replaced_at_once_and_comes_back_when_it_has_stayed() {
    for fault in [SourceState::Down, SourceState::Stale] {
        check(
            "psSssSs",
            &[
                Is(0, A, SourceState::Up),
                At(0, A, T, 0),
                At(1, B, T, 1),
                Is(2, A, fault),
                At(2, B, T, 2),
                Is(3, A, SourceState::Up),
                At(3, A, T, 3),
                Is(4, A, SourceState::Up),
                At(7, A, T, 7),
                At(8, A, T, 8),
                At(8, B, T, 9),
            ],
        );
    }
    // What is left of it in the ring stands by; it comes up again and again.
    check(
        "pSspsps",
        &[
            Is(0, A, SourceState::Up),
            At(0, A, T, 0),
            Is(1, A, SourceState::Down),
            At(1, B, T, 1),
            At(1, A, T, 2),
            Is(2, A, SourceState::Up),
            At(5, B, T, 5),
            At(6, A, T, 6),
            Is(6, A, SourceState::Down),
            Is(7, A, SourceState::Up),
            At(8, B, T, 8),
            At(11, A, T, 11),
        ],
    );
}

#[test]
fn who_is_down_too_takes_over_only_from_silence() {
    check(
        "psSS",
        &[
            At(0, A, T, 0),
            Is(1, A, SourceState::Down),
            Is(1, B, SourceState::Down),
            At(5, B, T, 5),
            At(10, B, T, 10),
            // And who is up, at once.
            At(10, C, T, 11),
        ],
    );
}

#[test]
fn the_first_time_up_is_no_recovery() {
    check("pS", &[Is(0, A, SourceState::Down), At(0, B, T, 0), Is(1, A, SourceState::Up), At(1, A, T, 1)]);
}

#[test]
fn nothing_goes_back_across_a_switch() {
    check(
        "ppbbSbppbpb",
        &[
            At(0, A, Q, 6),
            At(0, A, T, 5),
            // Behind: it does not even take over.
            At(10, B, T, 5),
            At(10, B, Q, 5),
            At(11, B, Q, 6),
            // The same trade again; trades and quotes have times of their own.
            At(11, B, T, 5),
            At(11, B, T, 8),
            // Its own order is its own business, above what the other one published.
            At(11, B, T, 7),
            At(11, B, T, 5),
            At(11, B, Q, 6),
            At(11, B, Q, 5),
        ],
    );
    // The latest trade counts, not the last.
    check("ppbS", &[At(0, A, T, 5), At(0, A, T, 3), At(10, B, T, 4), At(10, B, T, 6)]);
    // And back again.
    check("pSsbS", &[At(0, A, T, 0), At(10, B, T, 20), At(11, A, T, 11), At(16, A, T, 20), At(17, A, T, 21)]);
}

#[test]
fn instruments_are_apart_and_small() {
    let mut arbitration = Arbitration::new(in_order(2), ArbitrationSettings::default());
    for instrument in 0..1_000 {
        let source = SourceId((instrument % 2) as u8);
        assert_eq!(arbitration.offer(&tick(instrument, source, T, 1), 1), Verdict::Publish);
    }
    assert_eq!((arbitration.contested(), arbitration.active(InstrumentId(3))), (0, Some(B)));
    // The better source would take over, were it not for a trade that may be the same one.
    assert_eq!(arbitration.offer(&tick(3, A, T, 1), 2), Verdict::Behind);
    assert_eq!((arbitration.contested(), arbitration.active(InstrumentId(4_000_000))), (1, None));
    assert!(size_of::<Stream>() < 64);
}

/// What happened to the instrument of the model, in order.
#[derive(Clone, Copy, Debug)]
enum Past {
    State(SourceId, SourceState, i64),
    Tick(Tick, i64, Verdict),
}

/// Arbitration of one instrument that keeps everything and looks it all up again for each tick.
struct Model {
    ranks: Vec<Rank>,
    settings: ArbitrationSettings,
    past: Vec<Past>,
}

impl Model {
    fn ticks(&self) -> impl DoubleEndedIterator<Item = (usize, Tick, i64, Verdict)> {
        self.past.iter().enumerate().filter_map(|(at, past)| match *past {
            Past::Tick(tick, now, verdict) => Some((at, tick, now, verdict)),
            Past::State(..) => None,
        })
    }

    /// The state of a source when only the first `len` things had happened, and since when it was up if it was: for ever,
    /// where it was never up before.
    fn state(&self, source: SourceId, len: usize) -> (SourceState, i64) {
        let mut now_is = (SourceState::Up, i64::MIN);
        let mut was_up = false;
        for past in &self.past[..len] {
            if let Past::State(of, state, at) = *past
                && of == source
            {
                let since = if now_is.0 == SourceState::Up {
                    now_is.1
                } else if was_up {
                    at
                } else {
                    i64::MIN
                };
                now_is = (state, since);
                was_up |= state == SourceState::Up;
            }
        }
        now_is
    }

    /// The last tick of `source` among the first `len` things.
    fn heard(&self, source: SourceId, len: usize) -> i64 {
        self.ticks()
            .rev()
            .find(|(at, tick, ..)| *at < len && tick.source == source)
            .map_or(i64::MIN, |(.., now, _)| now)
    }

    /// Where the active source became so, and which it is.
    fn active(&self) -> Option<(usize, SourceId)> {
        let switched = |verdict| matches!(verdict, Verdict::PublishAfterSwitch { .. });
        let last = self.ticks().rev().find(|(.., verdict)| switched(*verdict)).or_else(|| self.ticks().next());
        last.map(|(at, tick, ..)| (at, tick.source))
    }

    fn is_admitted(&self, tick: &Tick, len: usize) -> bool {
        self.ticks().filter(|(at, .., verdict)| *at < len && verdict.is_published()).all(|(_, past, ..)| {
            match (past.body, tick.body) {
                (TickBody::Trade(_), TickBody::Trade(_)) => tick.ts_event > past.ts_event,
                (TickBody::Quote(_), TickBody::Quote(_)) => tick.ts_event >= past.ts_event,
                _ => true,
            }
        })
    }

    fn was_silent(&self, active: SourceId, now: i64, len: usize) -> bool {
        now - self.heard(active, len) >= self.settings.stale_after_ns
    }

    /// Since when a source is back that the last silence of an active source took the instrument from.
    fn back_since(&self, source: SourceId, now: i64) -> Option<i64> {
        let (lost, ..) = self.ticks().rev().find(|(at, _, then, verdict)| match verdict {
            Verdict::PublishAfterSwitch { from, .. } => {
                self.was_silent(*from, *then, *at) && self.state(*from, *at).0 == SourceState::Up
            }
            _ => false,
        })?;
        let Past::Tick(.., Verdict::PublishAfterSwitch { from, .. }) = self.past[lost] else { unreachable!() };
        let has_been_back = self.ticks().any(|(at, tick, _, verdict)| {
            at > lost && tick.source == source && matches!(verdict, Verdict::PublishAfterSwitch { .. })
        });
        if from != source || has_been_back {
            return None;
        }
        let words =
            self.ticks().rev().filter(|(at, tick, ..)| *at > lost && tick.source == source).map(|(.., then, _)| then);
        let mut since = now;
        for word in words {
            if since - word >= self.settings.stale_after_ns {
                break;
            }
            since = word;
        }
        Some(since)
    }

    fn offer(&mut self, tick: Tick, now: i64) -> Verdict {
        let verdict = self.verdict(&tick, now);
        self.past.push(Past::Tick(tick, now, verdict));
        verdict
    }

    fn verdict(&self, tick: &Tick, now: i64) -> Verdict {
        let len = self.past.len();
        let Some((since, active)) = self.active() else { return Verdict::Publish };
        if tick.source == active {
            return if self.is_admitted(tick, since) { Verdict::Publish } else { Verdict::Behind };
        }
        let (state, up_since) = self.state(tick.source, len);
        let is_up = state == SourceState::Up;
        let rank = |source: SourceId| (self.ranks[usize::from(source.0)], source.0);
        let long_enough = |since: i64| now.saturating_sub(since) >= self.settings.fail_back_after_ns;
        let may = self.was_silent(active, now, len)
            || self.state(active, len).0 != SourceState::Up && is_up
            || rank(tick.source) < rank(active)
                && is_up
                && self.state(active, len).0 == SourceState::Up
                && long_enough(up_since)
                && self.back_since(tick.source, now).is_none_or(long_enough);
        match tick.body {
            TickBody::Gap { .. } | TickBody::Heartbeat => Verdict::Standby,
            _ if !may => Verdict::Standby,
            _ if !self.is_admitted(tick, len) => Verdict::Behind,
            _ => Verdict::PublishAfterSwitch { from: active, to: tick.source },
        }
    }
}

/// What happens next, after so many seconds.
#[derive(Clone, Debug)]
enum Next {
    Tick(u8, What, i64),
    State(u8, SourceState),
}

fn nexts(sources: u8) -> impl Strategy<Value = Vec<(i64, Next)>> {
    let what = prop_oneof![5 => Just(T), 3 => Just(Q), 1 => Just(Gap), 1 => Just(Beat)];
    let state = prop_oneof![3 => Just(SourceState::Up), 1 => Just(SourceState::Stale), 1 => Just(SourceState::Down)];
    let next = prop_oneof![
        8 => (0..sources, what, -6..=2i64).prop_map(|(source, what, skew)| Next::Tick(source, what, skew)),
        1 => (0..sources, state).prop_map(|(source, state)| Next::State(source, state)),
    ];
    let pause = prop_oneof![8 => 0..3i64, 1 => 3..14i64];
    proptest::collection::vec((pause, next), 1..120)
}

fn ranks() -> impl Strategy<Value = Vec<Rank>> {
    proptest::collection::vec((proptest::bool::weighted(0.2), 0..3u16), 3)
        .prop_map(|ranks| ranks.into_iter().map(|(is_mock, order)| Rank { is_mock, order }).collect())
}

/// Every tick that is published, in order, and whether a switch comes with it.
fn published(ranks: Vec<Rank>, nexts: &[(i64, Next)]) -> Vec<(i64, Tick, bool)> {
    let mut arbitration = Arbitration::new(ranks, ArbitrationSettings::default());
    let mut now = 1_000 * SECOND;
    let mut out = Vec::new();
    for (pause, next) in nexts {
        now += pause * SECOND;
        match *next {
            Next::State(source, state) => arbitration.set_source_state(SourceId(source), state, now),
            Next::Tick(source, what, skew) => {
                let tick = tick(0, SourceId(source), what, now + skew * SECOND);
                let verdict = arbitration.offer(&tick, now);
                if verdict.is_published() {
                    assert_eq!(arbitration.active(tick.instrument), Some(tick.source));
                    out.push((now, tick, verdict != Verdict::Publish));
                }
            }
        }
    }
    out
}

fn is_trade(tick: &Tick) -> bool {
    matches!(tick.body, TickBody::Trade(_))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn it_does_as_the_model(ranks in ranks(), nexts in nexts(3)) {
        let settings = ArbitrationSettings::default();
        let mut arbitration = Arbitration::new(ranks.clone(), settings);
        let mut model = Model { ranks, settings, past: Vec::new() };
        let mut now = 0;
        for (pause, next) in nexts {
            now += pause * SECOND;
            match next {
                Next::State(source, state) => {
                    arbitration.set_source_state(SourceId(source), state, now);
                    model.past.push(Past::State(SourceId(source), state, now));
                }
                Next::Tick(source, what, skew) => {
                    let tick = tick(0, SourceId(source), what, now + skew * SECOND);
                    prop_assert_eq!(arbitration.offer(&tick, now), model.offer(tick, now), "{:?}", model.past);
                }
            }
        }
    }

    #[test]
    fn published_times_of_a_kind_do_not_go_back_across_switches(ranks in ranks(), nexts in nexts(3)) {
        let out = published(ranks, &nexts);
        for (switch, _) in out.iter().enumerate().filter(|(_, (.., is_switch))| *is_switch) {
            for (_, before, _) in &out[..switch] {
                for (_, after, _) in &out[switch..] {
                    match (before.body, after.body) {
                        (TickBody::Trade(_), TickBody::Trade(_)) => prop_assert!(after.ts_event > before.ts_event),
                        (TickBody::Quote(_), TickBody::Quote(_)) => prop_assert!(after.ts_event >= before.ts_event),
                        _ => {}
                    }
                }
            }
        }
        // So no time of a trade is published by two sources.
        for (_, one, _) in out.iter().filter(|(_, tick, _)| is_trade(tick)) {
            let is_repeat = |other: &Tick| is_trade(other) && other.ts_event == one.ts_event && other.source != one.source;
            prop_assert!(!out.iter().any(|(_, other, _)| is_repeat(other)));
        }
    }

    #[test]
    fn a_source_alone_is_published_whole(nexts in nexts(1)) {
        let ticks = nexts.iter().filter(|(_, next)| matches!(next, Next::Tick(..))).count();
        prop_assert_eq!(published(in_order(1), &nexts).len(), ticks);
    }

    #[test]
    fn the_preferred_one_alive_and_first_leaves_nothing_to_others(nexts in nexts(3)) {
        // Source 0 speaks first, and before each thing that happens; longer pauses and failures are left out.
        let mut alive = vec![(0, Next::Tick(0, T, 0))];
        for (pause, next) in nexts {
            if pause >= 10 || matches!(next, Next::State(0, _)) {
                continue;
            }
            alive.extend([(pause, Next::Tick(0, Beat, 0)), (0, next)]);
        }
        prop_assert!(published(in_order(3), &alive).iter().all(|(_, tick, _)| tick.source == A));
    }

    #[test]
    fn after_silence_the_first_news_of_another_is_published(before in nexts(3), other in 1..3u8, is_trade: bool) {
        let mut steps = before;
        let len = published(in_order(3), &steps).len();
        // Whoever was active is silent for ten seconds; the venue's time has passed all that was published.
        steps.push((13, Next::Tick(other, if is_trade { T } else { Q }, 0)));
        prop_assert_eq!(published(in_order(3), &steps).len(), len + 1);
    }
}

/// A venue's bar of an instrument, which begins at a second.
fn bar(source: SourceId, interval: Interval, start: i64, is_final: bool) -> Tick {
    let one = Decimal::new(1, 0).unwrap();
    let (open, high, low, close, volume, vwap) = (one, one, one, one, one, one);
    let bar = protocol::Bar { start_ns: start * SECOND, open, high, low, close, volume, trades: 1, vwap };
    let body = TickBody::Bar(VenueBar::new(interval, is_final, &bar));
    Tick { body, ..tick(7, source, T, start * SECOND) }
}

/// Offers bars: when, of whom, of which minute, and whether it is final. Letters as in [`run`].
#[track_caller]
fn check_bars(expected: &str, steps: &[(i64, SourceId, i64, bool)]) {
    let mut arbitration = Arbitration::new(in_order(3), ArbitrationSettings::default());
    let letter = |&(at, source, minute, is_final)| {
        let tick = bar(source, Interval::Minute, 60 * minute, is_final);
        match arbitration.offer(&tick, at * SECOND) {
            Verdict::Publish => 'p',
            Verdict::PublishAfterSwitch { .. } => 'S',
            Verdict::Standby => 's',
            Verdict::Behind => 'b',
        }
    };
    assert_eq!(steps.iter().map(letter).collect::<String>(), expected);
}

#[test]
fn bars_come_from_one_source_that_may_take_its_time() {
    // One a minute is not silence; two that are missing are.
    check_bars(
        "pspsSp",
        &[
            (60, A, 0, true),
            (61, B, 0, true),
            (120, A, 1, true),
            (249, B, 3, true),
            (250, B, 4, true),
            (310, B, 5, true),
        ],
    );
    // Nobody goes back behind a final bar, or behind one in progress.
    check_bars("ppSpb", &[(0, B, 5, false), (1, B, 5, true), (2, A, 6, false), (3, A, 6, true), (300, B, 6, true)]);
    check_bars("pbSb", &[(0, B, 5, true), (1, A, 5, true), (2, A, 6, false), (3, A, 5, true)]);
    check_bars("pS", &[(0, B, 5, false), (1, A, 5, true)]);
    // The source's own corrections pass.
    check_bars("pppp", &[(0, A, 5, true), (1, A, 5, true), (2, A, 6, false), (3, A, 5, true)]);
}

#[test]
fn bars_say_nothing_of_trades_or_of_other_intervals() {
    let mut arbitration = Arbitration::new(in_order(3), ArbitrationSettings::default());
    let mut offer = |tick: &Tick, at: i64| {
        let is_published = arbitration.offer(tick, at * SECOND).is_published();
        (is_published, arbitration.active(InstrumentId(7)))
    };
    assert_eq!(offer(&bar(A, Interval::Day, 0, false), 0), (true, None));
    assert_eq!(offer(&bar(B, Interval::Minute, 0, true), 60), (true, None));
    assert_eq!(offer(&tick(7, C, T, 61), 61), (true, Some(C)));
    assert_eq!(offer(&bar(B, Interval::Minute, 60, true), 120), (true, Some(C)));
    assert_eq!(offer(&bar(B, Interval::Day, 0, false), 121), (false, Some(C)));
    // Two days without one.
    assert!(!offer(&bar(C, Interval::Day, 86_400, false), 2 * 86_400 + 9).0);
    assert!(offer(&bar(C, Interval::Day, 86_400, false), 2 * 86_400 + 10).0);
}
