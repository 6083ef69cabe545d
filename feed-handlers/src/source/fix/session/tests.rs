//! The session in virtual time, by literal messages in which `|` stands for SOH: sign-in, numbers, heartbeats, refusals,
//! endings, and any order of messages.

use super::super::message::framed;
use super::super::numbers::HOLES_MAX;
use super::super::settings::FixChannel;
use super::super::signature::PUBLISHED_KEY;
use super::super::subscriptions::requests;
use super::*;
use proptest::prelude::*;

const MS: Duration = Duration::from_millis(1);

/// 2024-10-19T05:40:11.466Z
const WALL: i64 = 1_729_316_411_466_000_000;

const TIMINGS: Timings = Timings {
    connect: Duration::from_secs(1),
    answer: Duration::from_secs(5),
    stale: Duration::from_secs(12),
    silence: Duration::from_secs(24),
    backoff_min: MS,
    backoff_max: MS,
    throttled: MS,
    refused: MS,
};

fn plan() -> Plan {
    let names = ["A", "B", "C"].map(str::to_owned);
    Plan {
        sender: "US".into(),
        target: "V".into(),
        dialect: FixDialect::Standard,
        username: Some(Secret::new("me")),
        credential: Credential::Password(Secret::new("P4SS")),
        heartbeat: Duration::from_secs(10),
        numbering: FixNumbers::Anew,
        quotes: FixQuotes::Books { depth: Some(5) },
        requests: requests(&[FixChannel::Quotes, FixChannel::Trades], &names, 2),
    }
}

/// One request for one symbol.
fn small_plan() -> Plan {
    Plan { requests: requests(&[FixChannel::Quotes], &["A".into()], 1), ..plan() }
}

/// A session in virtual time.
struct Talk {
    session: Session,
    start: Instant,
    now: Instant,
}

impl Talk {
    fn new(plan: Plan) -> Talk {
        Talk::with_numbers(plan, Numbers::FIRST)
    }

    fn with_numbers(plan: Plan, numbers: Numbers) -> Talk {
        let now = Instant::now();
        Talk { session: Session::new(Arc::new(plan), TIMINGS, numbers, now), start: now, now }
    }

    /// Signed in, and everything asked for.
    fn signed_in(plan: Plan) -> Talk {
        let mut talk = Talk::new(plan);
        talk.acts();
        assert_eq!(talk.hears(1, "35=A|98=0|108=10|141=Y|"), Taking::All);
        talk.acts();
        talk
    }

    /// Everything that is done until it waits: what is said, from the type on and without who speaks and when.
    fn acts(&mut self) -> Vec<String> {
        let mut acts = Vec::new();
        loop {
            match self.session.poll(self.now, WALL) {
                Act::Send(message) => acts.push(said(&message)),
                Act::End(ending) => {
                    acts.push(format!("end: {ending}"));
                    return acts;
                }
                Act::Wait(at) => {
                    assert!(at >= self.now);
                    return acts;
                }
            }
        }
    }

    /// Lets the time go on to the next thing that is due.
    fn wait(&mut self) -> (u128, Vec<String>) {
        let Act::Wait(at) = self.session.poll(self.now, WALL) else { panic!("there is something to do") };
        self.now = at;
        ((at - self.start).as_millis(), self.acts())
    }

    #[track_caller]
    fn hears(&mut self, number: u64, fields: &str) -> Taking {
        let (kind, rest) = fields.split_once('|').unwrap();
        let text = format!("{kind}|49=V|56=US|34={number}|52=20241019-05:40:11.466|{rest}");
        let frame = framed(text.replace('|', "\x01").as_bytes());
        self.session.handle(&SessionMessage::read(&frame).unwrap(), self.now)
    }

    /// The venue says this, and this comes of it.
    #[track_caller]
    fn check(&mut self, number: u64, fields: &str, taking: Taking, expected: &[&str]) {
        assert_eq!(self.hears(number, fields), taking, "{fields}");
        assert_eq!(self.acts(), expected, "{number} {fields}");
    }
}

fn said(message: &[u8]) -> String {
    let text = String::from_utf8(message.to_vec()).unwrap().replace('\x01', "|");
    let (head, fields) = text.split_once("|52=20241019-05:40:11.466|").expect("the time");
    let (_, kind) = head.split_once("|35=").expect("a type");
    let (kind, number) = kind.split_once("|49=US|56=V|34=").expect("who speaks");
    let (fields, _) = fields.split_once("10=").expect("a checksum");
    format!("{kind} {number} {fields}")
}

use Taking::{All, AllButPrices, Known, Nothing};

const BOOK: &str = "35=X|262=Q0-1|268=1|279=0|269=0|55=A|270=1|271=1|";

#[test]
fn signs_in_and_asks_for_everything() {
    let mut talk = Talk::new(plan());
    assert_eq!(talk.acts(), ["A 1 98=0|108=10|141=Y|553=me|554=P4SS|"]);
    assert!(!talk.session.is_signed_in());
    let quotes = |id, symbols| format!("262={id}|263=1|264=5|265=1|266=Y|267=2|269=0|269=1|{symbols}");
    let trades = |id, symbols| format!("262={id}|263=1|264=1|265=1|267=1|269=2|{symbols}");
    let expected = [
        format!("V 2 {}", quotes("Q0-1", "146=2|55=A|55=B|")),
        format!("V 3 {}", quotes("Q1-1", "146=1|55=C|")),
        format!("V 4 {}", trades("T2-1", "146=2|55=A|55=B|")),
        format!("V 5 {}", trades("T3-1", "146=1|55=C|")),
    ];
    talk.check(1, "35=A|98=0|108=10|141=Y|", All, &expected.each_ref().map(String::as_str));
    assert!(talk.session.is_signed_in());
    // That it is heard, market data shows.
    assert_eq!(talk.session.state(), None);
    talk.session.handle_outcome(Outcome { is_alive: true, control: None });
    assert_eq!(talk.session.state(), Some(FeedState::Up));
}

#[test]
fn binance_has_a_way_of_its_own() {
    let key = SigningKey::from_pem(&Secret::new(PUBLISHED_KEY)).unwrap();
    let credential = Credential::Signature(key);
    let quotes = FixQuotes::Books { depth: None };
    let mut talk = Talk::new(Plan { dialect: FixDialect::Binance, credential, quotes, ..small_plan() });
    let signed = talk.acts().remove(0);
    let (begin, rest) = signed.split_once("|95=88|96=").unwrap();
    assert_eq!(begin, "A 1 98=0|108=10|141=Y|553=me");
    assert_eq!(rest.split_once('|').map(|(signature, rest)| (signature.len(), rest)), Some((88, "25035=2|")));
    let asked = "V 2 262=Q0-1|263=1|264=5000|266=Y|267=2|269=0|269=1|146=1|55=A|";
    talk.check(1, "35=A|98=0|108=10|25037=4392a152|", All, &[asked]);
}

#[test]
fn requests_keep_the_pace() {
    let names: Vec<String> = (0..12).map(|at| format!("S{at}")).collect();
    let mut talk = Talk::new(Plan { requests: requests(&[FixChannel::Trades], &names, 1), ..plan() });
    talk.acts();
    talk.hears(1, "35=A|98=0|108=10|");
    assert_eq!(talk.acts().len(), 10);
    let (at, acts) = talk.wait();
    assert_eq!((at, acts.len()), (100, 1));
    assert_eq!(talk.wait(), (200, vec!["V 13 262=T11-1|263=1|264=1|265=1|267=1|269=2|146=1|55=S11|".into()]));
}

#[test]
fn a_refused_sign_in_tells_why() {
    let check = |fields: &str, expected: &[&str]| {
        let mut talk = Talk::new(small_plan());
        talk.acts();
        talk.hears(1, fields);
        assert_eq!(talk.acts(), expected, "{fields}");
    };
    check("35=5|58=Unknown user|", &["5 2 ", "end: the venue refuses to sign us in: `Unknown user`"]);
    check("35=3|45=1|373=5|58=Bad tag|", &["5 2 ", "end: the venue refuses to sign us in: `Bad tag`"]);
    // Whatever its number is.
    check("35=5|34=9|58=Too low|", &["5 2 ", "end: the venue refuses to sign us in: `Too low`"]);
    // What comes before the answer is not taken.
    let mut talk = Talk::new(small_plan());
    talk.acts();
    talk.check(1, BOOK, Nothing, &[]);
    talk.session.handle_garbage();
    let ended = "end: what comes is no FIX 4.4, and the sign-in was not answered within 5s";
    assert_eq!(talk.wait(), (5_000, vec![ended.into()]));
    let mut talk = Talk::new(small_plan());
    talk.acts();
    assert_eq!(talk.wait(), (5_000, vec!["end: the sign-in was not answered within 5s".into()]));
}

#[test]
fn a_silent_venue_is_asked_and_then_given_up() {
    let mut talk = Talk::signed_in(small_plan());
    talk.session.handle_outcome(Outcome { is_alive: true, control: None });
    assert_eq!(talk.wait(), (10_000, vec!["0 3 ".into()]));
    assert_eq!(talk.wait(), (12_000, vec!["1 4 112=1|".into()]));
    assert_eq!(talk.session.state(), Some(FeedState::Stale));
    // It answers.
    talk.check(2, "35=0|112=1|", All, &[]);
    assert_eq!(talk.session.state(), Some(FeedState::Up));
    assert_eq!(talk.wait(), (22_000, vec!["0 5 ".into()]));
    assert_eq!(talk.wait(), (24_000, vec!["1 6 112=2|".into()]));
    // Garbage is no answer.
    talk.session.handle_garbage();
    assert_eq!(talk.wait(), (34_000, vec!["0 7 ".into()]));
    assert_eq!(talk.wait(), (36_000, vec!["end: silent for 24s, our test request included".into()]));
}

#[test]
fn the_venues_test_requests_are_answered() {
    let mut talk = Talk::signed_in(small_plan());
    talk.check(2, "35=1|112=are you there?|", All, &["0 3 112=are you there?|"]);
}

#[test]
fn the_venue_may_want_other_heartbeats() {
    let mut talk = Talk::new(small_plan());
    talk.acts();
    talk.hears(1, "35=A|98=0|108=60|");
    talk.acts();
    assert_eq!(talk.wait(), (60_000, vec!["0 3 ".into()]));
    assert_eq!(talk.wait(), (72_000, vec!["1 4 112=1|".into()]));
}

#[test]
fn what_is_missing_is_asked_for_and_what_follows_is_taken_at_once() {
    let mut talk = Talk::signed_in(small_plan());
    talk.check(2, BOOK, All, &[]);
    talk.check(5, BOOK, All, &["2 3 7=3|16=4|"]);
    // Whatever holds the books tells that they are lost.
    talk.session.handle_resync(&Resync::Line, talk.now);
    let unsubscribe = "V 4 262=Q0-1|263=2|264=5|265=1|266=Y|267=2|269=0|269=1|146=1|55=A|";
    let subscribe = "V 5 262=Q0-2|263=1|264=5|265=1|266=Y|267=2|269=0|269=1|146=1|55=A|";
    assert_eq!(talk.acts(), [unsubscribe, subscribe]);
    talk.check(6, BOOK, All, &[]);
    // Sent again: once it is news, then it is known.
    let resent = BOOK.replace("262", "43=Y|262");
    talk.check(3, &resent, AllButPrices, &[]);
    talk.check(3, &resent, Known, &[]);
    talk.check(4, "35=4|43=Y|123=Y|36=5|", AllButPrices, &[]);
    talk.check(2, &resent, Known, &[]);
    talk.check(7, BOOK, All, &[]);
    // A second hole in the same books is asked for later.
    talk.check(9, BOOK, All, &["2 6 7=8|16=8|"]);
    talk.session.handle_resync(&Resync::Book("A".into()), talk.now);
    assert_eq!(talk.acts(), [""; 0]);
    assert_eq!(talk.wait().0, 1_000);
}

#[test]
fn a_gap_may_be_filled_at_once_and_beyond() {
    let mut talk = Talk::signed_in(small_plan());
    talk.check(6, BOOK, All, &["2 3 7=2|16=5|"]);
    // An engine that says up to where it is now, and does not say that it says so again.
    talk.check(2, "35=4|123=Y|36=7|", AllButPrices, &[]);
    talk.check(7, BOOK, All, &[]);
    // One in the right place.
    talk.check(8, "35=4|123=Y|36=12|", All, &[]);
    talk.check(12, BOOK, All, &[]);
    // A reset, whatever its number; it does not go back.
    talk.check(1, "35=4|123=N|36=20|", All, &[]);
    talk.check(1, "35=4|36=15|", All, &[]);
    talk.check(20, BOOK, All, &[]);
}

#[test]
fn a_venue_that_sends_nothing_again_is_not_asked_for_ever() {
    let mut talk = Talk::signed_in(small_plan());
    talk.check(4, BOOK, All, &["2 3 7=2|16=3|"]);
    talk.check(5, "35=3|45=3|372=2|373=11|58=Not supported|", All, &[]);
    assert!(!talk.session.incoming.waits());
    talk.check(8, BOOK, All, &["2 4 7=6|16=7|"]);
    // Nor is it waited for.
    assert_eq!(talk.wait(), (5_000, vec![]));
    assert!(!talk.session.incoming.waits());
    // So much is not worth being sent again.
    talk.check(9 + RESEND_MAX, BOOK, All, &["2 5 7=9|16=10008|"]);
    talk.check(11 + 2 * RESEND_MAX, BOOK, All, &[]);
}

#[test]
fn holes_are_bounded() {
    let mut talk = Talk::signed_in(small_plan());
    for hole in 0..HOLES_MAX as u64 {
        talk.hears(3 + 2 * hole, BOOK);
    }
    assert_eq!(talk.acts().len(), HOLES_MAX);
    talk.hears(3 + 2 * HOLES_MAX as u64, BOOK);
    assert_eq!(talk.acts(), ["5 19 58=too many gaps|", "end: too many holes in the numbers of messages"]);
}

#[test]
fn a_number_that_was_there_ends_the_session() {
    let mut talk = Talk::signed_in(small_plan());
    talk.check(2, BOOK, All, &[]);
    let ended = ["5 3 58=MsgSeqNum too low|", "end: a message has the number 2, and 3 is the next"];
    talk.check(2, BOOK, Nothing, &ended);
    assert_eq!(talk.session.numbers(), Numbers::FIRST);
}

#[test]
fn numbers_go_on_where_that_is_wanted() {
    let plan = || Plan { numbering: FixNumbers::Continued, ..small_plan() };
    let mut talk = Talk::with_numbers(plan(), Numbers { next: 40, expected: 30 });
    assert_eq!(talk.acts(), ["A 40 98=0|108=10|553=me|554=P4SS|"]);
    // What was said while we were away is asked for.
    assert_eq!(talk.hears(35, "35=A|98=0|108=10|"), All);
    assert_eq!(talk.acts()[0], "2 41 7=30|16=34|");
    assert_eq!(talk.session.numbers(), Numbers { next: 43, expected: 36 });
    // The venue begins its day.
    let mut talk = Talk::with_numbers(plan(), Numbers { next: 40, expected: 30 });
    talk.acts();
    let ended = ["5 41 58=MsgSeqNum too low|", "end: a message has the number 1, and 30 is the next"];
    talk.check(1, "35=A|98=0|108=10|", Nothing, &ended);
    assert_eq!(talk.session.numbers(), Numbers::FIRST);
    // Or says that it counts anew.
    let mut talk = Talk::with_numbers(plan(), Numbers { next: 40, expected: 30 });
    talk.acts();
    assert_eq!(talk.hears(1, "35=A|98=0|108=10|141=Y|"), All);
    assert_eq!(talk.session.numbers().expected, 2);
    // In the middle of the session that is a new one.
    talk.acts();
    let ended = ["5 42 ", "end: the venue counts from 1 again"];
    talk.check(1, "35=A|98=0|108=10|141=Y|", Nothing, &ended);
}

#[test]
fn what_we_said_is_not_said_again() {
    let mut talk = Talk::signed_in(plan());
    let filled = "4 1 43=Y|122=20241019-05:40:11.466|123=Y|36=6|";
    assert_eq!(talk.hears(2, "35=2|7=1|16=0|"), All);
    let mut acts = talk.acts();
    assert_eq!(acts[0], filled);
    // All four requests are ended and made anew, at their pace.
    while acts.len() < 9 {
        acts.extend(talk.wait().1);
    }
    assert!(acts[1].starts_with("V 6 262=Q0-1|263=2|") && acts[2].starts_with("V 7 262=Q0-2|263=1|"), "{acts:?}");
    assert!(acts[8].starts_with("V 13 262=T3-2|263=1|"), "{acts:?}");
    // Heartbeats alone bring nothing anew.
    let mut talk = Talk::signed_in(small_plan());
    talk.wait();
    talk.check(2, "35=2|7=3|16=3|", All, &["4 3 43=Y|122=20241019-05:40:11.466|123=Y|36=4|"]);
    // What was never said cannot be.
    talk.check(3, "35=2|7=9|16=0|", All, &[]);
}

#[test]
fn a_wrong_name_does_not_cost_the_others() {
    let names = ["A", "B", "C", "D"].map(str::to_owned);
    let mut talk = Talk::signed_in(Plan { requests: requests(&[FixChannel::Trades], &names, 4), ..plan() });
    let asked = |number, id, symbols| format!("V {number} 262={id}|263=1|264=1|265=1|267=1|269=2|{symbols}");
    let halves = [asked(3, "T0-2", "146=2|55=A|55=B|"), asked(4, "T1-1", "146=2|55=C|55=D|")];
    talk.check(2, "35=Y|262=T0-1|281=0|58=Unknown: B|", All, &halves.each_ref().map(String::as_str));
    // By the number of the message too.
    let quarters = [asked(5, "T0-3", "146=1|55=A|"), asked(6, "T2-1", "146=1|55=B|")];
    talk.check(3, "35=3|45=3|372=V|373=5|58=Unknown: B|", All, &quarters.each_ref().map(String::as_str));
    talk.check(4, "35=Y|262=T2-1|281=0|58=Unknown: B|", All, &[]);
    assert_eq!(talk.session.ending, None);
}

#[test]
fn it_is_over_where_all_is_refused() {
    let mut talk = Talk::signed_in(plan());
    talk.check(2, "35=Y|262=Q0-1|281=4|58=No permission|", All, &[]);
    talk.check(3, "35=j|45=3|372=V|380=6|58=Not authorised|", All, &[]);
    // One that we do not wait for.
    talk.check(4, "35=Y|262=Q0-1|281=4|58=No permission|", All, &[]);
    talk.check(5, "35=3|372=V|58=Of nothing|", All, &[]);
    talk.check(6, "35=Y|262=T2-1|281=8|58=No trades|", All, &[]);
    let ended = ["5 6 ", "end: the venue refuses all that we ask for: `No trades here`"];
    talk.check(7, "35=Y|262=T3-1|281=8|58=No trades here|", All, &ended);
}

#[test]
fn a_session_ends_by_words() {
    let control = |control| Outcome { control: Some(control), is_alive: false };
    let mut talk = Talk::signed_in(small_plan());
    talk.check(2, "35=5|58=End of day|", All, &["5 3 ", "end: the venue ended the session: `End of day`"]);
    // Other causes are told by the feed, and count for more than the goodbye.
    let mut talk = Talk::signed_in(small_plan());
    talk.hears(2, "35=5|58=Too many messages|");
    talk.session.handle_outcome(control(ControlKind::Throttled));
    assert_eq!(talk.acts(), ["5 3 ", "end: the venue says that we ask too much"]);
    let mut talk = Talk::signed_in(small_plan());
    talk.hears(2, "35=B|148=Your connection is about to be closed. Please reconnect.|");
    talk.session.handle_outcome(control(ControlKind::Closing));
    assert_eq!(talk.acts(), ["5 3 ", "end: the venue is about to close the connection"]);
    let mut talk = Talk::signed_in(small_plan());
    talk.hears(2, "35=3|45=9|58=No rights|");
    talk.session.handle_outcome(control(ControlKind::AuthRefused));
    assert_eq!(talk.acts(), ["5 3 ", "end: the venue refuses to sign us in: `No rights`"]);
}

#[test]
fn others_are_not_on_this_line() {
    let mut talk = Talk::signed_in(small_plan());
    let frame = framed(b"35=0\x0149=V2\x0156=US\x0134=2\x0152=20241019-05:40:11.466\x01");
    assert_eq!(talk.session.handle(&SessionMessage::read(&frame).unwrap(), talk.now), Nothing);
    let ended = "end: a message is from `V2` to `US`, who are not on this line";
    assert_eq!(talk.acts(), ["5 3 58=CompID problem|", ended]);
}

#[test]
fn it_says_goodbye_and_waits_for_the_answer() {
    let mut talk = Talk::signed_in(small_plan());
    talk.session.stop(talk.now);
    assert_eq!(talk.acts(), ["5 3 "]);
    talk.check(2, BOOK, All, &[]);
    talk.check(3, "35=5|", All, &["end: we end it"]);
    // Not for ever.
    let mut talk = Talk::signed_in(small_plan());
    talk.session.stop(talk.now);
    talk.acts();
    assert_eq!(talk.wait(), (1_000, vec!["end: we end it".into()]));
    // Before the sign-in nobody waits.
    let mut talk = Talk::new(small_plan());
    talk.acts();
    talk.session.stop(talk.now);
    assert_eq!(talk.acts(), ["5 2 ", "end: we end it"]);
}

/// Messages as a venue out of its mind may send them.
fn any_message() -> impl Strategy<Value = (u64, String)> {
    let kinds = ["A", "0", "1", "2", "3", "4", "5", "j", "Y", "W", "X", "V", "B"];
    let fields =
        ["112=T|", "7=1|16=0|", "7=2|16=1|", "36=3|", "36=99|123=Y|", "43=Y|", "141=Y|", "45=2|", "262=Q0-1|281=0|"];
    let field = proptest::collection::vec(proptest::sample::select(fields.to_vec()), 0..4);
    let number = prop_oneof![1u64..30, Just(u64::MAX), Just(i64::MAX as u64)];
    (number, proptest::sample::select(kinds.to_vec()), field)
        .prop_map(|(number, kind, fields)| (number, format!("35={kind}|{}", fields.concat())))
}

proptest! {
    #[test]
    fn whatever_comes_our_numbers_rise_and_it_waits_or_ends(
        messages in proptest::collection::vec((any_message(), 0u64..20_000), 1..60),
    ) {
        let mut talk = Talk::new(plan());
        let mut last = 0;
        for ((number, fields), wait) in messages {
            for _ in 0..1_000 {
                match talk.session.poll(talk.now, WALL) {
                    Act::Send(message) => {
                        let read = SessionMessage::read(&message).unwrap();
                        if read.kind == b"4" {
                            prop_assert!(read.number <= last && read.new_number <= Some(last + 1));
                        } else {
                            prop_assert_eq!(read.number, last + 1);
                            last = read.number;
                        }
                    }
                    Act::End(_) => return Ok(()),
                    Act::Wait(at) => {
                        prop_assert!(at >= talk.now);
                        break;
                    }
                }
            }
            prop_assert!(matches!(talk.session.poll(talk.now, WALL), Act::Wait(_) | Act::End(_)), "it never waits");
            talk.now += Duration::from_millis(wait);
            let (kind, rest) = fields.split_once('|').unwrap();
            let frame = format!("{kind}|49=V|56=US|34={number}|{rest}").replace('|', "\x01");
            let frame = framed(frame.as_bytes());
            match SessionMessage::read(&frame) {
                Ok(message) => _ = talk.session.handle(&message, talk.now),
                Err(_) => talk.session.handle_garbage(),
            }
        }
    }
}
