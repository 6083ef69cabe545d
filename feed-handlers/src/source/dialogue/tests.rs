//! The dialogue in virtual time: its steps, deadlines, pace and endings, and any order of events.

use super::*;
use proptest::prelude::*;

const MS: Duration = Duration::from_millis(1);

const TIMINGS: Timings = Timings {
    connect: Duration::from_secs(1),
    answer: Duration::from_secs(2),
    stale: Duration::from_secs(3),
    silence: Duration::from_secs(10),
    backoff_min: MS,
    backoff_max: MS,
    throttled: MS,
    refused: MS,
};

fn script() -> Script {
    Script {
        url: String::new(),
        headers: Vec::new(),
        opening: Opening::Venue,
        sign_in: Some(Request::Text("auth".into())),
        subscribes: ["one", "two", "three"].map(|text| Request::Text(text.into())).into(),
        answers: Answers::Acknowledged,
        pace: Pace { burst: 2, every: 100 * MS },
        ping: None,
        life: SignOfLife::Data,
        lifetime: None,
        renewal: Renewal::Requests(Box::new(|name| {
            ["leave", "take"].map(|word| Request::Text(format!("{word} {name}"))).into()
        })),
        names: Vec::new(),
    }
}

/// Without a beginning: it subscribes at once, and in one message.
fn quick_script() -> Script {
    Script { opening: Opening::Us, sign_in: None, subscribes: vec![Request::Text("all".into())], ..script() }
}

/// A dialogue in virtual time.
struct Talk {
    dialogue: Dialogue,
    start: Instant,
    now: Instant,
}

impl Talk {
    fn new(script: Script) -> Talk {
        let now = Instant::now();
        Talk { dialogue: Dialogue::new(Arc::new(script), TIMINGS, now), start: now, now }
    }

    /// Everything that is done until it waits: each act with the time of it, ms.
    fn acts(&mut self) -> Vec<String> {
        let mut acts = Vec::new();
        loop {
            let act = match self.dialogue.poll(self.now) {
                Act::Wait(at) => {
                    assert!(at > self.now, "it waits for what is due");
                    return acts;
                }
                Act::Send(Request::Text(text)) => text,
                Act::Send(Request::Binary(_)) => unreachable!("no script here has one"),
                Act::Ping => "ping".into(),
                Act::Fetch(name) => format!("fetch {name}"),
                Act::End(ending) => {
                    acts.push(format!("{ending:?} @{}", self.elapsed()));
                    return acts;
                }
            };
            acts.push(format!("{act} @{}", self.elapsed()));
        }
    }

    /// The same, waiting as long as it says, up to this time.
    fn acts_until(&mut self, ms: u64) -> Vec<String> {
        let end = self.start + Duration::from_millis(ms);
        let mut acts = Vec::new();
        loop {
            acts.extend(self.acts());
            match self.dialogue.poll(self.now) {
                Act::Wait(at) if at <= end => self.now = at,
                _ => {
                    self.now = self.now.max(end);
                    return acts;
                }
            }
        }
    }

    fn elapsed(&self) -> u128 {
        (self.now - self.start).as_millis()
    }

    fn hears(&mut self, control: ControlKind) {
        self.dialogue.handle_frame(Outcome { control: Some(control), is_alive: false }, self.now);
    }

    fn hears_data(&mut self) {
        self.dialogue.handle_frame(Outcome { control: None, is_alive: true }, self.now);
    }

    fn hears_garbage(&mut self) {
        self.dialogue.handle_frame(Outcome::default(), self.now);
    }
}

#[test]
fn waits_for_each_answer_before_it_goes_on() {
    let mut talk = Talk::new(script());
    assert!(talk.acts_until(1_000).is_empty());
    // What is said out of turn changes nothing.
    talk.hears(ControlKind::Authenticated);
    assert!(talk.acts_until(1_500).is_empty());
    talk.hears(ControlKind::Connected);
    assert_eq!(talk.acts_until(3_000), ["auth @1500"]);
    talk.hears(ControlKind::Connected);
    talk.hears(ControlKind::Note);
    assert!(talk.acts().is_empty());
    talk.hears(ControlKind::Authenticated);
    assert_eq!(talk.acts_until(4_000), ["one @3000", "two @3000", "three @3100"]);
    assert_eq!(talk.dialogue.state(), None);
    talk.hears(ControlKind::Subscribed);
    assert_eq!(talk.dialogue.state(), Some(FeedState::Up));
    talk.hears(ControlKind::Authenticated);
    assert!(talk.acts().is_empty());
}

#[test]
fn each_step_has_a_deadline() {
    let check = |told: &[ControlKind], expected: &[&str]| {
        let mut talk = Talk::new(script());
        for control in told {
            talk.hears(*control);
        }
        assert_eq!(talk.acts_until(60_000), expected, "{told:?}");
    };
    use ControlKind::{Authenticated, Connected, Error};
    check(&[], &["NotGreeted(2s) @2000"]);
    check(&[Connected], &["auth @0", "SignInUnanswered(2s) @2000"]);
    let subscribes = ["auth @0", "one @0", "two @100", "three @200"];
    let unanswered = [&subscribes[..], &["SubscriptionUnanswered(2s) @2200"]].concat();
    check(&[Connected, Authenticated], &unanswered);
    // An error is no acknowledgement, and no reason to go either.
    check(&[Connected, Authenticated, Error], &unanswered);
}

#[test]
fn a_venue_that_answers_no_subscription_is_not_waited_for() {
    let mut talk = Talk::new(Script { answers: Answers::Silent, ..quick_script() });
    assert_eq!(talk.acts_until(60_000), ["all @0", "Silent(10s) @10000"]);
}

#[test]
fn silence_shows_before_it_ends_the_line() {
    let mut talk = Talk::new(quick_script());
    talk.acts();
    talk.hears_data();
    talk.acts_until(2_999);
    assert_eq!(talk.dialogue.state(), Some(FeedState::Up));
    talk.acts_until(3_000);
    assert_eq!(talk.dialogue.state(), Some(FeedState::Stale));
    // What cannot be read, and what is only said about the connection, is no sign of life.
    talk.hears_garbage();
    talk.hears(ControlKind::Subscribed);
    talk.dialogue.handle_traffic(talk.now);
    talk.acts();
    assert_eq!(talk.dialogue.state(), Some(FeedState::Stale));
    talk.acts_until(9_999);
    talk.hears_data();
    talk.acts();
    assert_eq!(talk.dialogue.state(), Some(FeedState::Up));
    assert_eq!(talk.acts_until(60_000), ["Silent(10s) @19999"]);
}

#[test]
fn where_the_market_may_be_quiet_answers_to_pings_show_that_the_line_lives() {
    let mut talk =
        Talk::new(Script { life: SignOfLife::Traffic, ping: Some(Duration::from_secs(2)), ..quick_script() });
    talk.acts();
    talk.hears(ControlKind::Subscribed);
    for second in (2..=20).step_by(2) {
        assert_eq!(talk.acts_until(1_000 * second), [format!("ping @{}", 1_000 * second)]);
        talk.dialogue.handle_traffic(talk.now);
        assert_eq!(talk.dialogue.state(), Some(FeedState::Up));
    }
    let pings = ["ping @22000", "ping @24000", "ping @26000", "ping @28000", "Silent(10s) @30000"];
    assert_eq!(talk.acts_until(60_000), pings);
}

#[test]
fn the_line_is_up_once_the_venue_took_a_subscription() {
    let quiet = |answers| Script { answers, life: SignOfLife::Traffic, ..quick_script() };
    let check = |answers, hears: fn(&mut Talk), expected| {
        let mut talk = Talk::new(quiet(answers));
        talk.acts();
        hears(&mut talk);
        assert_eq!(talk.dialogue.state(), expected);
    };
    let pong = |talk: &mut Talk| talk.dialogue.handle_traffic(talk.now);
    check(Answers::Acknowledged, pong, None);
    check(Answers::Acknowledged, |talk| talk.hears(ControlKind::Subscribed), Some(FeedState::Up));
    check(Answers::Acknowledged, Talk::hears_data, Some(FeedState::Up));
    check(Answers::Silent, pong, Some(FeedState::Up));
    check(Answers::Silent, |talk| talk.hears(ControlKind::Error), None);
    check(Answers::Silent, Talk::hears_data, Some(FeedState::Up));
}

#[test]
fn what_the_venue_says_ends_the_line() {
    let check = |hears: fn(&mut Talk), expected: &[&str]| {
        let mut talk = Talk::new(quick_script());
        talk.acts();
        hears(&mut talk);
        assert_eq!(talk.acts(), expected);
    };
    check(|talk| talk.hears(ControlKind::AuthRefused), &["Refused @0"]);
    check(|talk| talk.hears(ControlKind::Throttled), &["Throttled @0"]);
    check(|talk| talk.hears(ControlKind::Closing), &["Closing @0"]);
    check(|talk| talk.dialogue.handle_resync(Resync::Line, talk.now), &["LineGap @0"]);
    check(|talk| talk.hears(ControlKind::Error), &[]);
    check(|talk| talk.hears(ControlKind::Note), &[]);
    // The first word counts.
    check(
        |talk| {
            talk.hears(ControlKind::AuthRefused);
            talk.hears(ControlKind::Closing);
        },
        &["Refused @0"],
    );
    let mut talk = Talk::new(Script { lifetime: Some(5_000 * MS), ..quick_script() });
    talk.acts();
    for second in 1..5 {
        talk.acts_until(1_000 * second);
        talk.hears_data();
    }
    assert_eq!(talk.acts_until(9_000), ["Aged @5000"]);
    let mut talk = Talk::new(Script { renewal: Renewal::Line, ..quick_script() });
    talk.dialogue.handle_resync(Resync::Book("A".into()), talk.now);
    assert_eq!(talk.acts(), ["LineGap @0"]);
}

#[test]
fn a_lost_book_is_taken_anew_ever_more_rarely() {
    let mut talk = Talk::new(quick_script());
    talk.acts();
    talk.hears(ControlKind::Subscribed);
    let mut takes = Vec::new();
    for second in 0..200u64 {
        takes.extend(talk.acts_until(1_000 * second));
        talk.hears_data();
        // Each time it is of no use, and asked for twice.
        talk.dialogue.handle_resync(Resync::Book("A".into()), talk.now);
        talk.dialogue.handle_resync(Resync::Book("A".into()), talk.now);
        takes.extend(talk.acts());
    }
    let times = |word: &str| -> Vec<u64> {
        let of = |act: &String| Some(act.strip_prefix(word)?.parse::<u64>().unwrap() / 1_000);
        takes.iter().filter_map(of).collect()
    };
    assert_eq!(times("leave A @"), [0, 1, 3, 7, 15, 31, 63, 123, 183]);
    assert_eq!(times("leave A @"), times("take A @"));
    // Another one does not wait for it, and after a while of peace the first does not either.
    talk.dialogue.handle_resync(Resync::Book("B".into()), talk.now);
    assert_eq!(talk.acts().len(), 2);
    for second in 200..400u64 {
        talk.acts_until(1_000 * second);
        talk.hears_data();
    }
    talk.acts();
    talk.dialogue.handle_resync(Resync::Book("A".into()), talk.now);
    assert_eq!(talk.acts(), ["leave A @399000", "take A @399000"]);
}

#[test]
fn books_are_fetched_one_at_a_time_and_at_their_pace() {
    let renewal = Renewal::Fetch {
        url: String::new(),
        query: |_| String::new(),
        decode: |_, _, _| Ok(()),
        pace: Pace { burst: 1, every: 700 * MS },
    };
    let mut talk = Talk::new(Script { renewal, ..quick_script() });
    talk.acts();
    talk.hears_data();
    for name in ["A", "B", "C"] {
        talk.dialogue.handle_resync(Resync::Book(name.into()), talk.now);
    }
    assert_eq!(talk.acts_until(300), ["fetch A @0"]);
    talk.dialogue.handle_fetched();
    assert_eq!(talk.acts_until(1_000), ["fetch B @700"]);
    talk.dialogue.handle_fetch_failed("B".into(), Some(1_500 * MS), talk.now);
    // The venue wants to be left alone.
    assert_eq!(talk.acts_until(2_600), ["fetch C @2500"]);
    talk.dialogue.handle_fetched();
    assert_eq!(talk.acts_until(4_000), ["fetch B @3200"]);
    // It stays away for as long as this one is under way.
    talk.dialogue.handle_resync(Resync::Book("A".into()), talk.now);
    assert_eq!(talk.acts_until(9_000).len(), 0);
    talk.dialogue.handle_fetched();
    assert_eq!(talk.acts(), ["fetch A @9000"]);
}

/// Something that happens to a dialogue.
#[derive(Clone, Debug)]
enum Step {
    Frame { control: Option<ControlKind>, is_alive: bool },
    Traffic,
    Pass(u64),
    Book(u8),
    Fetched,
    FetchFailed(Option<u64>),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    use ControlKind::{Authenticated, Closing, Connected, Error, Note, Subscribed, Throttled};
    let control = prop::sample::select(vec![Connected, Authenticated, Subscribed, Error, Note, Closing, Throttled]);
    let step = prop_oneof![
        6 => (prop::option::weighted(0.2, control), any::<bool>())
            .prop_map(|(control, is_alive)| Step::Frame { control, is_alive }),
        2 => Just(Step::Traffic),
        8 => (1u64..2_500).prop_map(Step::Pass),
        3 => (0u8..4).prop_map(Step::Book),
        2 => Just(Step::Fetched),
        1 => prop::option::of(0u64..5_000).prop_map(Step::FetchFailed),
    ];
    let told = |control| Step::Frame { control: Some(control), is_alive: false };
    let begin = prop::sample::select(vec![vec![], vec![told(Connected)], vec![told(Connected), told(Authenticated)]]);
    (begin, prop::collection::vec(step, 0..120)).prop_map(|(begin, rest)| [begin, rest].concat())
}

proptest! {
    /// Whatever happens and in whatever order: nothing but the sign-in is said before the venue took it, one book at
    /// most is under way, an end is an end, and nothing lives longer in silence than it may.
    #[test]
    fn keeps_to_the_order_of_things(steps in steps()) {
        let renewal = Renewal::Fetch {
            url: String::new(),
            query: |_| String::new(),
            decode: |_, _, _| Ok(()),
            pace: Pace { burst: 2, every: 300 * MS },
        };
        let mut talk = Talk::new(Script { renewal, ping: Some(1_700 * MS), ..script() });
        let (mut greeted, mut signed_in, mut fetching, mut lived) = (false, false, None, talk.now);
        let mut ended: Option<String> = None;
        for step in steps {
            let before = talk.now;
            let acts = match step {
                Step::Frame { control, is_alive } => {
                    talk.dialogue.handle_frame(Outcome { control, is_alive }, talk.now);
                    signed_in |= greeted && control == Some(ControlKind::Authenticated);
                    greeted |= control == Some(ControlKind::Connected);
                    if is_alive {
                        lived = talk.now;
                    }
                    talk.acts()
                }
                Step::Traffic => {
                    talk.dialogue.handle_traffic(talk.now);
                    talk.acts()
                }
                Step::Pass(ms) => talk.acts_until(talk.elapsed() as u64 + ms),
                Step::Book(n) => {
                    talk.dialogue.handle_resync(Resync::Book(n.to_string().into()), talk.now);
                    talk.acts()
                }
                Step::Fetched => {
                    if fetching.take().is_some() {
                        talk.dialogue.handle_fetched();
                    }
                    talk.acts()
                }
                Step::FetchFailed(wait) => {
                    if let Some(name) = fetching.take() {
                        talk.dialogue.handle_fetch_failed(name, wait.map(Duration::from_millis), talk.now);
                    }
                    talk.acts()
                }
            };
            for act in acts {
                let (act, _) = act.rsplit_once(" @").unwrap();
                match act {
                    "auth" => prop_assert!(greeted && !signed_in),
                    "one" | "two" | "three" | "ping" => prop_assert!(signed_in, "{act}"),
                    _ if act.starts_with("fetch ") => {
                        prop_assert!(fetching.is_none(), "one at a time");
                        fetching = Some(act["fetch ".len()..].into());
                    }
                    ending => {
                        let first = ended.get_or_insert_with(|| ending.to_owned());
                        prop_assert_eq!(&*first, ending);
                    }
                }
            }
            let silent = before.saturating_duration_since(lived);
            if talk.dialogue.phase == Phase::Listening && silent > TIMINGS.silence + TIMINGS.answer {
                prop_assert!(ended.is_some(), "silent for {silent:?}");
            }
        }
    }

    /// However long the list and whatever is heard meanwhile: in any stretch of time, no more is said than the pace
    /// allows, and all of it is said, in order.
    #[test]
    fn the_pace_is_kept(
        count in 1usize..60,
        burst in 1u32..8,
        every in 1u64..400,
        ping in proptest::option::of(1u64..3_000),
        steps in prop::collection::vec(1u64..500, 0..60),
    ) {
        let subscribes: Vec<Request> = (0..count).map(|n| Request::Text(n.to_string())).collect();
        let pace = Pace { burst, every: Duration::from_millis(every) };
        // Who pings faster than he may speak says nothing else.
        let ping = ping.map(|ping| Duration::from_millis(2 * every + ping));
        let mut talk = Talk::new(Script { subscribes, pace, ping, ..quick_script() });
        let (mut said, mut at) = (Vec::new(), 0);
        for step in steps.into_iter().chain(std::iter::repeat_n(500, 60)) {
            at += step;
            said.extend(talk.acts_until(at));
            talk.hears_data();
        }
        let said: Vec<(String, u64)> = said
            .iter()
            .map(|act| act.split_once(" @").map(|(act, at)| (act.to_owned(), at.parse().unwrap())).unwrap())
            .collect();
        let texts: Vec<String> = said.iter().map(|(act, _)| act.clone()).filter(|act| act != "ping").collect();
        prop_assert!(texts.iter().enumerate().all(|(n, text)| *text == n.to_string()));
        prop_assert!(texts.len() == count || at < 2 * every * count as u64, "{} of {count}", texts.len());
        // Pings are paid for, but not held back: without them the bound is exact.
        if ping.is_none() {
            for (n, (_, from)) in said.iter().enumerate() {
                for (more, (_, to)) in said[n..].iter().enumerate() {
                    // Of `more + 1` that are said, `burst` may be at once.
                    prop_assert!((more as u64) < u64::from(burst) + (to - from) / every);
                }
            }
        }
    }
}
