//! Tests of `client`: conversations, with the protocol's own encoders as the server.

use protocol::command::{Action, RequestId, Since};
use protocol::frame::{MessageReader, Opcode, encode_frame};
use protocol::message::{ErrorMessage as WrittenError, Gap, GapReason, Heartbeat, Position, Session, SubscriptionAck};
use protocol::message::{ServerMessage, SymbolLists};
use protocol::{Decimal, ErrorCode, Side, Trade, encode_trade};

use super::*;
use crate::clock::Now;
use crate::orders::{ChannelName, Credentials, Interest, Target, Timed, TlsTrust};
use crate::scan::Stamp;

const SECOND: i64 = 1_000_000_000;
const START_NS: i64 = 1_790_733_794 * SECOND;
const EPOCH: u64 = 9;

/// A client and a server that says what the test says.
struct Talk {
    shared: Shared,
    client: Client,
}

fn assignment(encoding: WireEncoding, basket: Basket) -> Assignment {
    Assignment {
        worker: 0,
        workers: 1,
        clients_max: 1,
        targets: vec![Target {
            address: "127.0.0.1:1".parse().unwrap(),
            host: "127.0.0.1".to_owned(),
            authority: "127.0.0.1:1".to_owned(),
            path: "/stream".to_owned(),
            tls: false,
        }],
        sources: Vec::new(),
        credentials: Some(Credentials::Key { key: "k".to_owned(), secret: "s".to_owned() }),
        sign_in: SignIn::Header,
        encoding,
        interest: Interest {
            channels: vec![ChannelName::Trades],
            symbols: if basket == Basket::Wildcard { Vec::new() } else { vec!["A".to_owned(), "B".to_owned()] },
            basket,
            max_rate: None,
        },
        seed: 1,
        stamp: Stamp::Rx,
        timed: Timed::Messages,
        clock_tolerance_ns: 1_000_000,
        check_every: 3,
        stalled_share: 0.0,
        tls: TlsTrust::Public,
    }
}

impl Talk {
    fn new(assignment: Assignment) -> Talk {
        let mut shared = Shared::new(assignment, Now { wall_ns: START_NS, mono_ns: 0 });
        let mut client = Client::new(0, &shared);
        client.begin(0, &mut shared);
        let mut talk = Talk { shared, client };
        talk.upgrade();
        talk
    }

    /// A client that has its session and is subscribed to trades of A and B.
    fn live(encoding: WireEncoding) -> Talk {
        let mut talk = Talk::new(assignment(encoding, Basket::All));
        talk.sign_in();
        talk.acknowledge(FIRST_ID, &["A", "B"]).unwrap();
        assert_eq!(talk.client.stage(), Stage::Live);
        talk
    }

    fn upgrade(&mut self) {
        self.client.opened(0, &mut self.shared);
        let request = String::from_utf8(std::mem::take(&mut self.shared.out)).unwrap();
        assert!(request.starts_with("GET /stream HTTP/1.1\r\nHost: 127.0.0.1:1\r\n"), "{request}");
        let accept = self.shared.requests.accept().to_owned();
        let answer = format!("HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: {accept}\r\n\r\n");
        self.hear(answer.as_bytes()).unwrap();
        assert_eq!(self.client.stage(), Stage::SigningIn);
    }

    fn sign_in(&mut self) {
        self.say(&ServerMessage::connected()).unwrap();
        let session = Session { epoch: EPOCH, user: "u", tier: "t", delayed_ms: 0, heartbeat_ms: 15_000 };
        self.say(&ServerMessage::authenticated(session)).unwrap();
    }

    fn hear(&mut self, bytes: &[u8]) -> Result<(), Ending> {
        let mut all = self.client.take_rest();
        all.extend_from_slice(bytes);
        self.client.receive(&all, &mut self.shared)
    }

    fn say(&mut self, message: &ServerMessage<'_>) -> Result<(), Ending> {
        let mut frame = Vec::new();
        message.encode(self.shared.encoding, &mut frame);
        self.hear(&frame)
    }

    fn acknowledge(&mut self, id: u64, trades: &[&str]) -> Result<(), Ending> {
        let mut channels = SymbolLists::default();
        trades.iter().for_each(|symbol| channels.push(ChannelKind::Trades, symbol));
        let id = RequestId::Unsigned(id);
        let unchanged = SymbolLists::default();
        let ack = SubscriptionAck { id: Some(&id), channels, epoch: EPOCH, delayed_ms: None, unchanged };
        self.say(&ServerMessage::Subscription(ack))
    }

    /// A trade that the gateway received `age_ns` ago.
    fn trade(&mut self, symbol: &str, seq: u64, age_ns: i64) {
        let decimal = Decimal::parse(b"1.50").unwrap();
        let trade = Trade { id: Some(seq), price: decimal, size: decimal, taker: Some(Side::Sell) };
        let stamp = protocol::Stamp {
            seq,
            ts_event: START_NS,
            ts_recv: self.shared.now.wall_ns - age_ns,
            flags: protocol::TickFlags::NONE,
        };
        let mut frame = Vec::new();
        encode_trade(self.shared.encoding, symbol, "X", &trade, stamp, &mut frame);
        self.hear(&frame).unwrap();
    }

    /// What the client sent last.
    fn asked(&mut self) -> (Option<RequestId>, Action) {
        let mut sent = std::mem::take(&mut self.shared.out);
        let encoding = self.shared.encoding;
        let mut request = None;
        MessageReader::default()
            .feed(&mut sent, 1 << 20, &mut |message| {
                request = Some(match message {
                    protocol::frame::Message::Text(text) => {
                        protocol::command::parse(encoding, text.as_bytes()).unwrap()
                    }
                    protocol::frame::Message::Binary(bytes) => protocol::command::parse(encoding, bytes).unwrap(),
                    other => panic!("{other:?}"),
                });
                ControlFlow::Continue(())
            })
            .unwrap();
        let request = request.expect("a request");
        (request.id, request.action)
    }

    fn later(&mut self, ns: u64) {
        self.shared.now.wall_ns += ns as i64;
        self.shared.now.mono_ns += ns;
    }

    /// `(messages, missing, announced, duplicates, reordered, malformed)`.
    fn counts(&self) -> [u64; 6] {
        let counts = &self.shared.tally.sample.counts;
        let crate::sample::Counts { messages, missing, announced, duplicates, reordered, malformed, .. } = counts;
        [*messages, *missing, *announced, *duplicates, *reordered, *malformed]
    }

    fn settle(&mut self, symbol: &str, target: u64) {
        let key = Key::new(self.shared.symbols.find(symbol.as_bytes()).unwrap(), ChannelKind::Trades);
        let board = self.shared.board(EPOCH);
        self.shared.boards[usize::from(board)].raise_target(key, target);
        self.client.settle(&mut self.shared);
    }
}

#[test]
fn a_session_from_upgrade_to_data_in_both_encodings() {
    for encoding in [WireEncoding::Json, WireEncoding::MessagePack] {
        let mut talk = Talk::new(assignment(encoding, Basket::All));
        talk.later(1_000);
        talk.sign_in();
        let (id, action) = talk.asked();
        let Action::Subscribe(subscription) = action else { panic!("{action:?}") };
        assert_eq!((id, subscription.since), (Some(RequestId::Unsigned(FIRST_ID)), None));
        let symbols: Vec<&str> = subscription.items.iter().map(|item| &*item.symbol).collect();
        assert_eq!(symbols, ["A", "B"]);
        talk.acknowledge(FIRST_ID, &["A", "B"]).unwrap();
        talk.later(5_000);
        talk.trade("A", 41, 3_000);
        talk.trade("A", 42, 2_000);
        talk.trade("B", 7, 1_000);
        talk.trade("A", 43, 1_000);
        assert_eq!(talk.counts(), [4, 0, 0, 0, 0, 0], "{encoding:?}");
        let sample = &talk.shared.tally.sample;
        assert_eq!((sample.latency.count(), sample.first_message.count(), sample.counts.schema_checked), (4, 1, 2));
        assert_eq!((sample.counts.upgrades, sample.ready.percentile(50.0)), (1, Some(1_000)));
    }
}

#[test]
fn faults_are_counted_and_named() {
    let mut talk = Talk::live(WireEncoding::Json);
    for seq in [1, 2, 4, 3, 3, 6] {
        talk.trade("A", seq, 0);
    }
    talk.trade("C", 1, 0);
    talk.hear(b"\x81\x02[}").unwrap();
    assert_eq!(talk.counts(), [6, 0, 0, 1, 1, 2]);
    talk.settle("A", 8);
    assert_eq!(talk.counts(), [6, 3, 0, 1, 1, 2]);
    let told: Vec<&str> = talk.shared.tally.sample.faults.iter().map(|fault| &*fault.text).collect();
    assert!(told.contains(&"number 3 of the trades of A came again"), "{told:?}");
    assert!(told.contains(&"3 of the trades of A never came, the first is number 5"), "{told:?}");
}

#[test]
fn what_was_stamped_before_the_session_is_not_timed_and_the_future_is_told() {
    let mut talk = Talk::live(WireEncoding::Json);
    talk.trade("A", 1, SECOND);
    assert_eq!(talk.shared.tally.sample.latency.count(), 0);
    talk.later(10);
    talk.trade("A", 2, -900_000);
    assert_eq!(talk.shared.tally.sample.counts.from_the_future, 0);
    talk.trade("A", 3, -5_000_000);
    let sample = &talk.shared.tally.sample;
    assert_eq!((sample.counts.from_the_future, sample.ahead_ns_max), (1, 5_000_000));
}

/// Cuts the client and brings it back as far as its subscription. Returns the positions that it asked to go on from.
fn come_back(talk: &mut Talk, epoch: u64) -> Option<Since> {
    talk.client.cut(&mut talk.shared);
    talk.client.begin(0, &mut talk.shared);
    talk.upgrade();
    talk.say(&ServerMessage::connected()).unwrap();
    let session = Session { epoch, user: "u", tier: "t", delayed_ms: 0, heartbeat_ms: 15_000 };
    talk.say(&ServerMessage::authenticated(session)).unwrap();
    let (_, action) = talk.asked();
    let Action::Subscribe(subscription) = action else { panic!("{action:?}") };
    talk.acknowledge(FIRST_ID, &["A", "B"]).unwrap();
    subscription.since
}

#[test]
fn a_return_goes_on_exactly_or_is_no_good_one() {
    let check = |after: &[u64], resumed: u64, expected: [u64; 6]| {
        let mut talk = Talk::live(WireEncoding::Json);
        talk.shared.out.clear();
        (1..=5).for_each(|seq| talk.trade("A", seq, 0));
        let since = come_back(&mut talk, EPOCH).expect("positions");
        assert_eq!((since.epoch, &since.positions[..]), (EPOCH, &[(ChannelKind::Trades, "A".to_owned(), 5)][..]));
        after.iter().for_each(|seq| talk.trade("A", *seq, 0));
        talk.settle("A", *after.last().unwrap());
        assert_eq!((talk.shared.tally.sample.counts.resumed, talk.counts()), (resumed, expected), "{after:?}");
    };
    check(&[6, 7, 8], 1, [8, 0, 0, 0, 0, 0]);
    check(&[7, 8], 0, [7, 1, 0, 0, 0, 0]);
    check(&[5, 6, 7], 0, [8, 0, 0, 1, 0, 0]);
}

#[test]
fn an_announced_gap_is_counted_as_one() {
    let mut talk = Talk::live(WireEncoding::MessagePack);
    talk.trade("A", 1, 0);
    let gap = |from, to, reason| Gap { channel: ChannelKind::Trades, symbol: "A", from, to, reason };
    talk.say(&ServerMessage::Gap(gap(2, Some(10), GapReason::Retention))).unwrap();
    talk.trade("A", 11, 0);
    assert_eq!(talk.counts(), [2, 0, 9, 0, 0, 0]);
    // A server that began anew: how many were lost nobody knows, and the numbers begin anew.
    talk.shared.out.clear();
    come_back(&mut talk, EPOCH + 1);
    talk.say(&ServerMessage::Gap(gap(12, None, GapReason::Epoch))).unwrap();
    talk.trade("A", 1, 0);
    assert_eq!(talk.counts(), [3, 0, 10, 0, 0, 0]);
}

#[test]
fn who_got_nothing_at_all_lacks_what_others_got_since_the_baseline() {
    let mut talk = Talk::live(WireEncoding::Json);
    talk.shared.boards[0].baseline_ns = START_NS + 1;
    talk.shared.boards[0].set_baseline(Key::new(1, ChannelKind::Trades), 100);
    talk.settle("B", 110);
    assert_eq!(talk.counts(), [0, 10, 0, 0, 0, 0]);
    talk.settle("B", 110);
    assert_eq!(talk.counts(), [0, 10, 0, 0, 0, 0], "twice is not more");
}

#[test]
fn a_heartbeat_says_what_has_to_be_there_by_now() {
    let mut talk = Talk::live(WireEncoding::Json);
    talk.trade("A", 1, 0);
    talk.shared.settling = true;
    let positions = [Position { channel: ChannelKind::Trades, symbol: "A", seq: 3 }];
    talk.say(&ServerMessage::Heartbeat(Heartbeat { t: START_NS, seq: &positions })).unwrap();
    assert!(!talk.client.has_everything(&talk.shared));
    talk.trade("A", 2, 0);
    talk.trade("A", 3, 0);
    assert!(talk.client.has_everything(&talk.shared));
}

#[test]
fn commands_are_timed_and_their_answers_checked() {
    let mut talk = Talk::live(WireEncoding::Json);
    let b = Key::new(1, ChannelKind::Trades);
    talk.shared.out.clear();
    talk.later(100);
    talk.client.change_subscription(b, 40, &mut talk.shared);
    let (id, action) = talk.asked();
    assert!(matches!(action, Action::Unsubscribe(_)) && id == Some(RequestId::Unsigned(2)));
    talk.trade("B", 1, 0);
    assert_eq!(talk.counts()[5], 0, "until the answer messages may come");
    talk.later(100);
    talk.acknowledge(2, &["A"]).unwrap();
    assert_eq!(talk.shared.tally.sample.command.percentile(50.0), Some(160));
    assert_eq!(talk.counts()[5], 0);
    talk.trade("B", 2, 0);
    assert_eq!(talk.counts()[5], 1, "behind it they may not");
    talk.client.change_subscription(b, 200, &mut talk.shared);
    talk.acknowledge(3, &["A"]).unwrap();
    assert_eq!(talk.counts()[5], 2, "an answer that lacks the new channel");
    talk.acknowledge(9, &["A", "B"]).unwrap();
    assert_eq!(talk.counts()[5], 3, "an answer to nothing");
}

#[test]
fn refusals_end_the_connection_with_the_servers_words() {
    let mut talk = Talk::new(assignment(WireEncoding::Json, Basket::All));
    let refused = talk.say(&ServerMessage::Error(WrittenError::new(ErrorCode::AuthFailed)));
    assert_eq!(refused, Err(Ending::Refused { text: "402 auth failed".to_owned(), retry_after: None }));
    assert_eq!(talk.shared.tally.sample.counts.errors.get(&402), Some(&1));
    let mut talk = Talk::live(WireEncoding::Json);
    let mut close = Vec::new();
    encode_frame(Opcode::Close, b"\x0b\xb8slow client", &mut close);
    assert_eq!(talk.hear(&close), Err(Ending::Lost { text: "the server closed: 3000 slow client".to_owned() }));
    assert_eq!(talk.shared.tally.sample.counts.closes.get(&3000), Some(&1));
}

#[test]
fn a_change_of_rights_is_timed_from_its_version_and_acknowledged_once() {
    let mut talk = Talk::new(Assignment { timed: Timed::Rights, ..assignment(WireEncoding::Json, Basket::All) });
    talk.sign_in();
    talk.acknowledge(FIRST_ID, &["A", "B"]).unwrap();
    let tell = |talk: &mut Talk, delayed_ms, written_ns: i64| {
        let version = u64::try_from(written_ns / 1_000).unwrap();
        talk.say(&ServerMessage::Entitlement { tier: "t", status: "active", delayed_ms, version, reason: None })
            .unwrap();
        talk.acknowledge(0, &["A", "B"]).unwrap();
        version
    };
    talk.trade("A", 7, 1_000);
    // To delayed data, which is behind; and back, 3 ms ago.
    tell(&mut talk, 1_000, START_NS);
    talk.trade("A", 5, SECOND);
    talk.later(5_000_000);
    let version = tell(&mut talk, 0, START_NS + 2_000_000);
    talk.trade("A", 6, SECOND);
    talk.later(1_000_000);
    talk.trade("A", 7, SECOND - 1);
    talk.trade("A", 8, 0);
    let sample = &talk.shared.tally.sample;
    assert_eq!((sample.counts.told, sample.counts.malformed, sample.counts.duplicates), (2, 0, 0));
    assert_eq!((sample.latency.count(), sample.effect.count(), talk.client.version()), (2, 1, version));
    let near = |timings: &crate::timings::Timings, ns: f64| (timings.histogram().max() as f64 / ns - 1.0).abs() < 0.01;
    assert!(near(&sample.latency, 3e6) && near(&sample.effect, 4e6), "{:?} {:?}", sample.latency, sample.effect);
    // Nothing was asked for and nothing has changed; and an older version than the last.
    talk.acknowledge(0, &["A", "B"]).unwrap();
    tell(&mut talk, 0, START_NS);
    assert_eq!((talk.shared.tally.sample.counts.malformed, talk.client.version()), (3, version));
}

#[test]
fn a_sign_in_by_message_waits_for_the_greeting() {
    let mut talk = Talk::new(Assignment { sign_in: SignIn::Message, ..assignment(WireEncoding::Json, Basket::All) });
    talk.say(&ServerMessage::connected()).unwrap();
    assert!(matches!(talk.asked().1, Action::Auth(_)));
}

#[test]
fn a_wildcard_learns_its_channels() {
    let mut talk = Talk::new(assignment(WireEncoding::Json, Basket::Wildcard));
    talk.sign_in();
    talk.acknowledge(FIRST_ID, &["*"]).unwrap();
    for (symbol, seq) in [("X", 1), ("Y", 1), ("X", 3)] {
        talk.trade(symbol, seq, 0);
    }
    talk.settle("X", 3);
    assert_eq!(talk.counts(), [3, 1, 0, 0, 0, 0]);
}

#[test]
fn baskets_are_drawn_by_popularity_and_are_the_same_again() {
    let drawn = |exponent, client| {
        let mut assignment = assignment(WireEncoding::Json, Basket::Drawn { each: 20, exponent });
        assignment.interest.symbols = (0..500).map(|n| format!("S{n}")).collect();
        let shared = Shared::new(assignment, Now { wall_ns: 0, mono_ns: 0 });
        shared.requests.basket(client)
    };
    assert_eq!(drawn(1.0, 3), drawn(1.0, 3));
    assert_ne!(drawn(1.0, 3), drawn(1.0, 4));
    let first_ten = |exponent| {
        let among = |client| drawn(exponent, client).iter().filter(|symbol| **symbol < 10).count();
        (0..200).map(among).sum::<usize>()
    };
    assert!((0..200).all(|client| drawn(1.0, client).len() == 20));
    // Equal popularity: 10 of 500 are 2 % of 4,000 draws. By Zipf's law they are the most wanted by far.
    assert!((40..130).contains(&first_ten(0.0)), "{}", first_ten(0.0));
    assert!(first_ten(1.0) > 800, "{}", first_ten(1.0));
    assert_eq!(drawn(10.0, 1).len(), 20);
}

#[test]
fn a_client_holds_little() {
    // An idle client of a worker: this, one slot, and its place in the worker's list.
    assert!(std::mem::size_of::<Client>() <= 128, "{}", std::mem::size_of::<Client>());
    assert!(std::mem::size_of::<Slot>() <= 40, "{}", std::mem::size_of::<Slot>());
}
