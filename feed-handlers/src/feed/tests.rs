//! The feed as its source sees it: frames in, and the ticks, counters, requests and dead letters that come of them.

mod bars;

use super::*;
use crate::doorbell::{Doorbell, WaitStrategy};
use crate::ring::{Polled, Reader, ring};

/// What happens to a feed. The numbers are trade id, sequence and second of the day.
enum Step {
    Match(u64, i64),
    LastMatch(u64, i64),
    Ticker(u64, i64),
    Heartbeat(i64),
    Frame(String),
    ConnectionLost,
    Lap,
}
use Step::{ConnectionLost, Frame, Heartbeat as Beat, Lap, LastMatch, Match, Ticker};

const MIDNIGHT_NS: i64 = 1_618_617_600_000_000_000;
/// When all frames come, Unix ns.
const RECEIVED: i64 = MIDNIGHT_NS + 60_000_000_000;

fn time(second: i64) -> String {
    let mut out = Vec::new();
    protocol::format_rfc3339(MIDNIGHT_NS + second * 1_000_000_000, &mut out);
    String::from_utf8(out).unwrap()
}

impl Step {
    fn frame(&self) -> String {
        let trade = |kind, id, second| {
            format!(
                r#"{{"type":"{kind}","trade_id":{id},"maker_order_id":"2a0da34e-61f7-4c36-88e5-c9dd15927b16","taker_order_id":"3c82abaa-c01e-4608-be59-6a1e69742891","side":"sell","size":"985","price":"0.00001305","product_id":"SKL-BTC","sequence":177100030,"time":"{}"}}"#,
                time(second)
            )
        };
        match self {
            Match(id, second) => trade("match", id, *second),
            LastMatch(id, second) => trade("last_match", id, *second),
            Ticker(sequence, second) => format!(
                r#"{{"type":"ticker","sequence":{sequence},"product_id":"SKL-BTC","price":"0.00001305","open_24h":"0.00001","volume_24h":"94381.28000000","low_24h":"0.00001","high_24h":"0.00002","volume_30d":"2295579.57000000","best_bid":"0.00001300","best_ask":"0.00001306","side":"buy","time":"{}","trade_id":881613,"last_size":"985"}}"#,
                time(*second)
            ),
            Beat(second) => format!(
                r#"{{"type":"heartbeat","last_trade_id":1092969669,"product_id":"SKL-BTC","sequence":136118091026,"time":"{}"}}"#,
                time(*second)
            ),
            Frame(frame) => frame.clone(),
            ConnectionLost | Lap => unreachable!("no frame"),
        }
    }
}

fn feed_of(
    venue: Venue,
    quotes: QuoteOrigin,
    unknown: UnknownSymbols,
    known: &[&str],
    dead_letters: Option<DeadLetters>,
) -> (Feed, Reader<Tick>) {
    let instruments = Arc::new(InstrumentTable::with_capacity(2));
    for symbol in known {
        instruments.learn(symbol).unwrap();
    }
    let publisher = ring(64, Arc::new(Doorbell::new(WaitStrategy::Park)));
    let mut feed = Feed::new(FeedParts {
        source: SourceId(3),
        venue,
        instruments,
        unknown,
        quotes,
        limits: crate::validation::Limits::RECORDED,
        quality: crate::quality::Quality::new(i64::MAX).0,
        publisher,
        counters: Arc::new(FeedCounters::new()),
        dead_letters,
    });
    let reader = feed.publisher().reader();
    (feed, reader)
}

fn new_feed(unknown: UnknownSymbols, known: &[&str]) -> (Feed, Reader<Tick>) {
    feed_of(Venue::Coinbase, QuoteOrigin::Quotes, unknown, known, None)
}

/// What comes out, each tick in a few words.
fn drain(reader: &mut Reader<Tick>) -> Vec<String> {
    std::iter::from_fn(|| match reader.poll() {
        Polled::Record(tick) => Some(tick),
        Polled::Empty => None,
        Polled::Lapped { lost } => panic!("{lost} ticks lost"),
    })
    .map(|tick| {
        assert_eq!((tick.source, tick.ts_recv), (SourceId(3), RECEIVED));
        let second = (tick.ts_event - MIDNIGHT_NS) as f64 / 1e9;
        match tick.body {
            TickBody::Trade(t) => {
                let (id, taker) = (t.id.unwrap(), t.taker.unwrap());
                format!("trade {id} {}x{} {taker:?} @{second}", t.price, t.size)
            }
            TickBody::Quote(q) => format!("quote {}x{} {}x{} @{second}", q.bid, q.bid_size, q.ask, q.ask_size),
            TickBody::Bar(bar) => format!("{bar:?}"),
            TickBody::Gap { missed } => format!("gap {missed} @{second}"),
            TickBody::Heartbeat => format!("heartbeat @{second}"),
        }
    })
    .collect()
}

fn trade(id: u64, second: i64) -> String {
    format!("trade {id} 0.00001305x985 Buy @{second}")
}

fn quote(second: i64) -> String {
    format!("quote 0.00001300x0 0.00001306x0 @{second}")
}

/// Takes the steps, then compares the ticks, and all counters that are not 0 save those of frames and bytes.
#[track_caller]
fn check(steps: &[Step], ticks: &[String], counts: &[(FeedCounter, u64)]) {
    let (mut feed, mut reader) = new_feed(UnknownSymbols::Learn, &[]);
    for step in steps {
        match step {
            ConnectionLost => feed.connection_lost(),
            Lap => feed.start_lap(),
            _ => _ = feed.handle_frame(step.frame().as_bytes(), RECEIVED),
        }
    }
    assert_eq!(drain(&mut reader), ticks);
    let counters = feed.counters();
    for counter in FeedCounter::iter().filter(|c| !matches!(c, FeedCounter::Frames | FeedCounter::Bytes)) {
        let expected = counts.iter().find(|(c, _)| *c == counter).map_or(0, |(_, n)| *n);
        assert_eq!(counters.count(counter), expected, "{counter:?}");
    }
}

use FeedCounter as C;

#[test]
fn a_match_is_a_trade_of_the_taker() {
    check(
        &[LastMatch(4, 1), Match(5, 2), Match(6, 2), Match(6, 2), Match(5, 2)],
        &[trade(5, 2), trade(6, 2)],
        &[(C::OldState, 1), (C::Trades, 2), (C::Duplicates, 2)],
    );
}

#[test]
fn missing_trades_are_announced_before_the_next_one() {
    check(
        &[Match(5, 2), Match(9, 3)],
        &[trade(5, 2), "gap 3 @3".into(), trade(9, 3)],
        &[(C::Trades, 2), (C::Gaps, 1), (C::TradesMissed, 3)],
    );
}

#[test]
fn a_cut_line_repeats_nothing_and_announces_what_was_missed() {
    check(
        &[
            Ticker(10, 1),
            Match(5, 2),
            Ticker(11, 2),
            ConnectionLost,
            LastMatch(8, 4),
            Ticker(14, 4),
            Match(8, 4),
            Match(9, 5),
            Ticker(15, 5),
            ConnectionLost,
            Ticker(15, 5),
            LastMatch(9, 5),
            Match(9, 5),
            Ticker(15, 5),
        ],
        &[
            quote(1),
            trade(5, 2),
            quote(2),
            "gap 3 @4".into(),
            quote(4),
            // Its own last_match announced it, and then it came after all.
            trade(8, 4),
            trade(9, 5),
            quote(5),
        ],
        &[
            (C::Quotes, 4),
            (C::Trades, 3),
            (C::Gaps, 1),
            (C::TradesMissed, 3),
            (C::OldState, 2),
            (C::Duplicates, 1),
            (C::StaleQuotes, 1),
        ],
    );
}

#[test]
fn quotes_do_not_go_back() {
    let with = |from: &str, to: &str| Frame(Ticker(20, 9).frame().replace(from, to));
    check(
        &[
            with(&format!(r#""time":"{}","#, time(9)), ""),
            Ticker(10, 3),
            Ticker(9, 2),
            Ticker(10, 3),
            Ticker(12, 4),
            with(r#""best_bid":"0.00001300","#, ""),
            // It has both sides, but that sequence is past.
            Ticker(20, 9),
        ],
        &[quote(3), quote(4)],
        &[(C::Quotes, 2), (C::StaleQuotes, 3), (C::UntimedQuotes, 1), (C::OneSidedQuotes, 1)],
    );
}

#[test]
fn one_wrong_number_does_not_silence_a_product() {
    check(
        &[Match(5, 1), Match(90, 2), Match(7, 3), Match(8, 12), Match(9, 13), Match(10, 14), Match(9, 30)],
        &[trade(5, 1), "gap 84 @2".into(), trade(90, 2), trade(9, 13), trade(10, 14), trade(9, 30)],
        &[(C::Trades, 5), (C::Gaps, 1), (C::TradesMissed, 84), (C::Duplicates, 2)],
    );
    check(
        &[Ticker(10, 1), Ticker(99, 2), Ticker(12, 3), Ticker(13, 12), Ticker(14, 13), Ticker(15, 14)],
        &[quote(1), quote(2), quote(13), quote(14)],
        &[(C::Quotes, 4), (C::StaleQuotes, 2)],
    );
}

#[test]
fn a_repeat_of_an_absurd_time_begins_nothing_anew() {
    // They come at second 60, and may be 10 s ahead.
    check(
        &[Match(5, 1), Match(6, 2), Match(5, 71), Match(6, 2), Ticker(10, 1), Ticker(9, 71), Ticker(10, 1)],
        &[trade(5, 1), trade(6, 2), quote(1)],
        &[(C::Trades, 2), (C::Duplicates, 2), (C::Quotes, 1), (C::StaleQuotes, 2)],
    );
}

#[test]
fn absurd_quotes_are_left_out() {
    let with = |sequence, from: &str, to: &str| Frame(Ticker(sequence, 9).frame().replace(from, to));
    let sized = |bid_size: &str| format!(r#""best_bid":"0.00001306","best_bid_size":"{bid_size}","#);
    check(
        &[
            with(1, r#""best_bid":"0.00001300""#, r#""best_bid":"0.00001307""#),
            with(2, r#""best_bid":"0.00001300""#, r#""best_bid":"0""#),
            with(3, r#""best_ask":"0.00001306""#, r#""best_ask":"-1""#),
            with(4, r#""best_bid":"0.00001300","#, &sized("-0.1")),
            with(5, r#""best_bid":"0.00001300","#, &sized("0.10")),
        ],
        &["quote 0.00001306x0.10 0.00001306x0 @9".into()],
        &[
            (C::CrossedQuotes, 1),
            (C::Malformed(Reason::Crossed), 1),
            (C::InvalidQuotes, 3),
            (C::Malformed(Reason::Price), 2),
            (C::Malformed(Reason::Size), 1),
            (C::Quotes, 1),
        ],
    );
}

#[test]
fn absurd_trades_are_left_out_but_not_missed() {
    let with = |id, from: &str, to: &str| Frame(Match(id, 2).frame().replace(from, to));
    check(
        &[
            Match(5, 1),
            with(6, "\"985\"", "\"0.00000000\""),
            with(7, "\"985\"", "\"-1\""),
            with(8, "\"0.00001305\"", "\"0\""),
            Match(9, 3),
            // One that cannot be read has no id to go on.
            with(10, "\"0.00001305\"", "\"0.-1305\""),
            Match(11, 4),
        ],
        &[trade(5, 1), trade(9, 3), "gap 1 @4".into(), trade(11, 4)],
        &[
            (C::Trades, 3),
            (C::InvalidTrades, 3),
            (C::Malformed(Reason::Size), 2),
            (C::Malformed(Reason::Price), 1),
            (C::Malformed(Reason::Number), 1),
            (C::MalformedFrames, 1),
            (C::Gaps, 1),
            (C::TradesMissed, 1),
        ],
    );
}

#[test]
fn heartbeats_carry_the_clock_and_are_no_gap() {
    check(
        &[Match(5, 1), Beat(2), Beat(3), Beat(3), Beat(1), Match(6, 3)],
        &[trade(5, 1), "heartbeat @2".into(), "heartbeat @3".into(), trade(6, 3)],
        &[(C::Trades, 2), (C::Heartbeats, 2), (C::StaleHeartbeats, 2)],
    );
}

#[test]
fn a_heartbeat_of_the_future_is_left_out() {
    // They come at second 60, and may be 10 s ahead.
    check(
        &[Beat(1), Beat(71), Beat(70), Match(5, 71), Match(6, 70)],
        &["heartbeat @1".into(), "heartbeat @70".into(), trade(6, 70)],
        &[
            (C::Heartbeats, 2),
            (C::Trades, 1),
            (C::InvalidMessages, 1),
            (C::InvalidTrades, 1),
            (C::Malformed(Reason::Future), 2),
        ],
    );
}

#[test]
fn other_messages_are_counted() {
    let product = r#""product_id":"SKL-BTC""#;
    let frames = [
        format!(r#"{{"type":"snapshot",{product},"bids":[["1","2"],["0.9","0.-10000"]],"asks":[["1.1","2"]]}}"#),
        format!(r#"{{"type":"l2update",{product},"changes":[["sell","0.00001306","660.5"]],"time":"{}"}}"#, time(1)),
        r#"{"type":"subscriptions","channels":[]}"#.into(),
        r#"{"type":"error","message":"Failed to subscribe","reason":"level2 requires authentication"}"#.into(),
        format!(r#"{{"type":"received",{product}}}"#),
        r#"{"type":"tick"#.into(),
    ];
    check(
        &frames.map(Frame),
        &[],
        &[
            (C::BookSnapshots, 1),
            (C::BookLevels, 3),
            (C::InvalidLevels, 1),
            (C::Malformed(Reason::Number), 1),
            (C::Subscriptions, 1),
            (C::VenueErrors, 1),
            (C::UnknownTypes, 1),
            (C::MalformedFrames, 1),
            (C::Malformed(Reason::Truncated), 1),
        ],
    );
}

#[test]
fn a_frame_that_says_nothing_new_is_counted_too() {
    let empty = r#"{"type":"l2update","product_id":"SKL-BTC","changes":[]}"#;
    check(&[Frame(empty.into()), Frame(change("buy", "1.0", "9", 1))], &[], &[(C::QuietFrames, 1), (C::BookLevels, 1)]);
}

#[test]
fn a_loss_is_told_though_the_time_of_the_trade_that_shows_it_is_absurd() {
    // They come at second 60, and a trade may be 10 s ahead.
    check(
        &[Match(5, 1), ConnectionLost, LastMatch(9, 71), LastMatch(12, 3)],
        &[trade(5, 1), "gap 4 @60".into(), "gap 3 @3".into()],
        &[(C::Trades, 1), (C::Gaps, 2), (C::TradesMissed, 7), (C::InvalidTrades, 1), (C::Malformed(Reason::Future), 1)],
    );
}

#[test]
fn laps_go_on_where_the_last_one_ended() {
    let lap = || [Ticker(10, 0), LastMatch(4, 0), Match(5, 1), Match(7, 2), Beat(2), Ticker(13, 2)];
    let mut steps = Vec::from(lap());
    steps.push(Lap);
    steps.extend(lap());
    let ticks = |id: u64, second: i64| {
        [
            quote(second),
            trade(id, second + 1),
            format!("gap 1 @{}", second + 2),
            trade(id + 2, second + 2),
            format!("heartbeat @{}", second + 2),
            quote(second + 2),
        ]
    };
    check(
        &steps,
        &[ticks(5, 0), ticks(8, 3)].concat(),
        &[(C::Quotes, 4), (C::OldState, 2), (C::Trades, 4), (C::Gaps, 2), (C::TradesMissed, 2), (C::Heartbeats, 2)],
    );
}

#[test]
fn a_capture_played_again_without_a_lap_repeats_nothing() {
    let play = || [Ticker(10, 0), LastMatch(4, 0), Match(5, 1), Match(6, 2), Beat(2), Ticker(13, 2)];
    let mut steps = Vec::from(play());
    steps.push(ConnectionLost);
    steps.extend(play());
    check(
        &steps,
        &[quote(0), trade(5, 1), trade(6, 2), "heartbeat @2".into(), quote(2)],
        &[
            (C::Quotes, 2),
            (C::OldState, 3),
            (C::Trades, 2),
            (C::Heartbeats, 1),
            (C::Duplicates, 2),
            (C::StaleHeartbeats, 1),
            (C::StaleQuotes, 1),
        ],
    );
}

#[test]
fn unknown_products_are_learnt_or_refused() {
    let check = |unknown, names: &[&str], expected: &[&str]| {
        let (mut feed, mut reader) = new_feed(unknown, &["BTC/USD"]);
        for name in names {
            feed.handle_frame(Match(1, 1).frame().replace("SKL-BTC", name).as_bytes(), RECEIVED);
        }
        let mut symbols = Vec::new();
        while let Polled::Record(tick) = reader.poll() {
            symbols.push(feed.instruments().symbol(tick.instrument).to_owned());
        }
        assert_eq!(symbols, expected, "{unknown:?} {names:?}");
        let refused = names.len() - expected.len();
        assert_eq!(feed.counters().count(C::UnknownSymbols), refused as u64, "{unknown:?} {names:?}");
    };
    check(UnknownSymbols::Learn, &["ETH-USD", "BTC-USD"], &["ETH/USD", "BTC/USD"]);
    check(UnknownSymbols::Refuse, &["ETH-USD", "BTC-USD"], &["BTC/USD"]);
    // The table holds two.
    check(UnknownSymbols::Learn, &["ETH-USD", "SOL-USD", "BTC-USD"], &["ETH/USD", "BTC/USD"]);
    let no_products = ["", "BTC", "-USD", "BTC-", "BTC/USD", "A/B-C", "B C-USD", &"A-".repeat(40)];
    check(UnknownSymbols::Learn, &no_products, &[]);
    check(UnknownSymbols::Refuse, &no_products, &[]);
}

#[test]
fn samples_are_a_second_apart() {
    let mut sampler = Sampler::default();
    let due = [5, 6, 1_000_000_004, 1_000_000_005, 1_000_000_006, 7, 8, i64::MIN, i64::MAX].map(|t| sampler.is_due(t));
    assert_eq!(due, [true, false, false, true, false, true, false, true, true]);
    assert_eq!(shown(b"a\n\xff").to_string(), r"a\n\xff");
    assert_eq!(shown(&[b'x'; 500]).to_string().len(), SAMPLE_BYTES_MAX);
}

/// A feed of books; the frames' outcomes of interest are the ticks, the counters and what is asked of the source.
fn books_feed(dead_letters: Option<DeadLetters>) -> (Feed, Reader<Tick>) {
    feed_of(Venue::Coinbase, QuoteOrigin::Books { depth: None }, UnknownSymbols::Learn, &[], dead_letters)
}

fn snapshot(bid: &str, ask: &str) -> String {
    let at = time(0);
    format!(
        r#"{{"type":"snapshot","product_id":"SKL-BTC","bids":[["{bid}","2"]],"asks":[["{ask}","3"]],"time":"{at}"}}"#
    )
}

fn change(side: &str, price: &str, size: &str, second: i64) -> String {
    let at = time(second);
    format!(r#"{{"type":"l2update","product_id":"SKL-BTC","changes":[["{side}","{price}","{size}"]],"time":"{at}"}}"#)
}

#[test]
fn quotes_are_the_tops_of_books() {
    let (mut feed, mut reader) = books_feed(None);
    let skl = || Some(Resync::Book("SKL-BTC".into()));
    let mut take = |frame: &str| {
        let outcome = feed.handle_frame(frame.as_bytes(), RECEIVED);
        (drain(&mut reader), outcome.is_alive, feed.poll_resync())
    };
    let nothing = || (vec![], true, None);
    assert_eq!(take(&change("buy", "1.0", "9", 1)), (vec![], true, skl()), "no snapshot yet");
    assert_eq!(take(&change("buy", "1.0", "9", 1)), nothing(), "it is asked for once");
    assert_eq!(take(&snapshot("1.0", "1.2")), (vec!["quote 1.0x2 1.2x3 @0".into()], true, None));
    assert_eq!(take(&change("buy", "0.9", "5", 2)), nothing(), "below the top");
    assert_eq!(take(&change("buy", "1.10", "5", 3)), (vec!["quote 1.10x5 1.2x3 @3".into()], true, None));
    assert_eq!(take(&change("sell", "1.2", "0", 4)), nothing(), "nobody offers");
    assert_eq!(take(&change("sell", "1.05", "1", 5)), nothing(), "crossed");
    assert_eq!(take(&change("buy", "1.1", "0.00", 6)), (vec!["quote 1.0x2 1.05x1 @6".into()], true, None));
    assert_eq!(take(&Ticker(1, 6).frame()), nothing(), "its quotes are those of the book");
    assert_eq!(take(&change("buy", "1.0", "0.-10000", 7)), (vec![], true, skl()), "who knows what that was");
    assert_eq!(take(&change("buy", "1.0", "4", 8)), nothing());
    assert_eq!(take(&snapshot("1.0", "1.2")), (vec!["quote 1.0x2 1.2x3 @0".into()], true, None));
    let counts = [
        (C::WaitingBookChanges, 3),
        (C::BookSnapshots, 2),
        (C::BookFaults, 1),
        (C::InvalidLevels, 1),
        (C::SameTops, 1),
        (C::OneSidedQuotes, 1),
        (C::CrossedQuotes, 1),
        (C::SupersededQuotes, 1),
        (C::Quotes, 4),
    ];
    for (counter, expected) in counts {
        assert_eq!(feed.counters().count(counter), expected, "{counter:?}");
    }
}

#[test]
fn a_book_that_stays_crossed_is_asked_for_anew() {
    let (mut feed, mut reader) = books_feed(None);
    feed.handle_frame(snapshot("1.0", "1.2").as_bytes(), RECEIVED);
    // Nobody bids so much, and nobody will take it away.
    feed.handle_frame(change("buy", "9.0", "5", 1).as_bytes(), RECEIVED);
    assert_eq!(feed.poll_resync(), None);
    feed.handle_frame(change("buy", "0.9", "5", 7).as_bytes(), RECEIVED + 6_000_000_000);
    assert_eq!(feed.poll_resync(), Some(Resync::Book("SKL-BTC".into())));
    assert_eq!(drain(&mut reader), ["quote 1.0x2 1.2x3 @0"]);
    assert_eq!((feed.counters().count(C::BookCrosses), feed.counters().count(C::CrossedQuotes)), (1, 1));
}

#[test]
fn a_cut_line_ends_the_books() {
    let (mut feed, mut reader) = books_feed(None);
    feed.handle_frame(snapshot("1.0", "1.2").as_bytes(), RECEIVED);
    feed.connection_lost();
    feed.handle_frame(change("buy", "1.1", "5", 1).as_bytes(), RECEIVED);
    assert_eq!(drain(&mut reader), ["quote 1.0x2 1.2x3 @0"]);
    assert_eq!(feed.poll_resync(), Some(Resync::Book("SKL-BTC".into())));
}

#[test]
fn after_a_hole_in_the_lines_numbers_no_book_is_asked_for_by_itself() {
    let (mut feed, _reader) = books_feed(None);
    feed.handle_frame(snapshot("1.0", "1.2").as_bytes(), RECEIVED);
    feed.handle(b"", RECEIVED, |on_event| {
        on_event(Event::LineSequence(5));
        on_event(Event::LineSequence(7));
        Ok(())
    });
    feed.handle_frame(change("buy", "1.1", "5", 1).as_bytes(), RECEIVED);
    assert_eq!([feed.poll_resync(), feed.poll_resync()], [Some(Resync::Line), None]);
    feed.handle_frame(snapshot("1.0", "1.2").as_bytes(), RECEIVED);
    feed.handle_frame(change("buy", "0", "5", 1).as_bytes(), RECEIVED);
    assert_eq!(feed.poll_resync(), Some(Resync::Book("SKL-BTC".into())), "what goes wrong later is asked for");
}

#[test]
fn a_hole_in_the_lines_numbers_asks_for_a_new_line() {
    let (mut feed, _reader) = books_feed(None);
    let mut take = |number| {
        feed.handle(b"", RECEIVED, |on_event| {
            on_event(Event::LineSequence(number));
            Ok(())
        });
        feed.poll_resync()
    };
    assert_eq!([5, 6, 8, 9].map(&mut take), [None, None, Some(Resync::Line), None]);
    assert_eq!(take(3), Some(Resync::Line), "they do not go back either");
    feed.connection_lost();
    feed.handle(b"", RECEIVED, |on_event| {
        on_event(Event::LineSequence(0));
        Ok(())
    });
    assert_eq!(feed.poll_resync(), None, "each connection begins anew");
    assert_eq!(feed.counters().count(C::LineGaps), 2);
}

#[test]
fn a_name_that_is_told_needs_no_form() {
    // The table holds two.
    let (mut feed, mut reader) = new_feed(UnknownSymbols::Refuse, &[]);
    assert!(feed.learn_name(b"skl:btc 1", "SKL/BTC"));
    assert!(feed.learn_token(408_065, "INFY"));
    assert!(feed.learn_name(b"skl:btc 1", "INFY") && feed.learn_token(408_065, "SKL/BTC"), "they stay what they are");
    assert!(!feed.learn_name(b"more", "MORE") && !feed.learn_token(1, "more"));
    assert!(feed.learn_name(b"SKLBTC", "SKL/BTC"), "another name of a known one");
    // One instrument is one product, whatever it is called.
    for (id, name) in [(1, "skl:btc 1"), (2, "SKLBTC"), (2, "skl:btc 1"), (3, "more")] {
        feed.handle_frame(Match(id, 1).frame().replace("SKL-BTC", name).as_bytes(), RECEIVED);
    }
    let price = Decimal::parse(b"1573.70").unwrap();
    for token in [408_065, 1] {
        let symbol = Symbol::Token(token);
        let (time, age) = (MIDNIGHT_NS, Age::Live);
        let trade = VenueTrade { symbol, id: None, price, size: price, taker: None, time, age };
        feed.handle(b"", RECEIVED, |on_event| {
            on_event(Event::Trade(trade));
            Ok(())
        });
    }
    let mut symbols = Vec::new();
    while let Polled::Record(tick) = reader.poll() {
        symbols.push(feed.instruments().symbol(tick.instrument).to_owned());
    }
    assert_eq!(symbols, ["SKL/BTC", "SKL/BTC", "INFY"]);
    assert_eq!(feed.counters().count(C::UnknownSymbols), 2);
}

#[test]
fn what_is_invalid_becomes_a_dead_letter() {
    let (letters, office) = crate::dead_letter::dead_letters();
    let (mut feed, _reader) = books_feed(Some(letters));
    let frames = [
        (Match(5, 1).frame().replace("\"985\"", "\"0\""), Some((Part::Trade, Reason::Size))),
        (Match(6, 1).frame(), None),
        (r#"{"type":"mat"#.to_owned(), Some((Part::Message, Reason::Truncated))),
        (change("buy", "1.0", "0.-10000", 7), Some((Part::Level, Reason::Number))),
        (r#"{"type":"received"}"#.to_owned(), None),
    ];
    for (frame, _) in &frames {
        feed.handle_frame(frame.as_bytes(), RECEIVED);
    }
    let counters = feed.counters().clone();
    drop(feed);
    for (frame, fault) in frames {
        let Some((part, reason)) = fault else { continue };
        let frame = frame.into_bytes().into();
        assert_eq!(office.take(), Some(DeadLetter { source: SourceId(3), part, reason, ts_recv: RECEIVED, frame }));
    }
    assert_eq!(office.take(), None);
    assert_eq!((counters.count(C::DeadLetters), counters.count(C::DeadLettersDropped)), (3, 0));
}

/// IEX Cloud says the last trade again; two that are alike in everything but their number are two.
#[test]
fn a_trade_that_is_told_again_is_one_trade() {
    let (mut feed, _reader) = feed_of(Venue::IexCloud, QuoteOrigin::Quotes, UnknownSymbols::Learn, &[], None);
    let price = Decimal::parse(b"185.81").unwrap();
    let mut take = |id, time| {
        let symbol = Symbol::Text(b"AAPL");
        let trade = VenueTrade { symbol, id, price, size: price, taker: None, time, age: Age::Live };
        let before = feed.counters().count(C::Trades);
        feed.handle(b"", RECEIVED, |on_event| {
            on_event(Event::Trade(trade));
            Ok(())
        });
        feed.counters().count(C::Trades) > before
    };
    let told = [(Some(1), 1), (Some(1), 1), (Some(2), 1), (Some(3), 1), (Some(3), 1), (None, 2), (None, 2), (None, 3)];
    let taken = told.map(|(id, second)| take(id, MIDNIGHT_NS + second));
    assert_eq!(taken, [true, false, true, true, false, true, false, true]);
    assert_eq!(feed.counters().count(C::Duplicates), 3);
}

/// What a subscription says first may be the last fifty trades, and either end of them may come first.
#[test]
fn old_trades_of_a_frame_are_one_state() {
    let price = Decimal::parse(b"1.5").unwrap();
    let trade = |(name, id, age): (&'static str, u64, Age)| {
        let symbol = Symbol::Text(name.as_bytes());
        let (id, taker, time) = (Some(id), Some(protocol::Side::Buy), MIDNIGHT_NS);
        Event::Trade(VenueTrade { symbol, id, price, size: price, taker, time, age })
    };
    let check = |old: [u64; 3]| {
        let (mut feed, mut reader) = new_feed(UnknownSymbols::Learn, &[]);
        let mut take = |trades: &[(&'static str, u64, Age)]| {
            feed.handle(b"", RECEIVED, |on_event| {
                trades.iter().for_each(|told| on_event(trade(*told)));
                Ok(())
            });
            drain(&mut reader)
        };
        let state = |from: u64| old.map(|id| ("A-B", from + id, Age::Old));
        assert_eq!(take(&state(10)), [""; 0], "never seen");
        assert_eq!(take(&[("A-B", 13, Age::Live)]), ["trade 13 1.5x1.5 Buy @0"]);
        assert_eq!(take(&state(11)), [""; 0], "they are known, or told with the others");
        // A second product between them, and a trade of the first one behind them.
        let [a, b, c] = state(20);
        let mixed = [a, ("C-D", 7, Age::Old), b, c, ("A-B", 23, Age::Live)];
        assert_eq!(take(&mixed), ["gap 9 @0", "trade 23 1.5x1.5 Buy @0"]);
        let count = |counter| feed.counters().count(counter);
        assert_eq!((count(C::OldState), count(C::Gaps), count(C::TradesMissed)), (9, 1, 9));
    };
    check([0, 1, 2]);
    check([2, 1, 0]);
    check([1, 2, 0]);
}

#[test]
fn two_names_of_one_product_are_numbered_as_one() {
    let (mut feed, mut reader) = new_feed(UnknownSymbols::Learn, &[]);
    for (id, name) in [(1, "BTC-USD"), (2, "btc-usd"), (2, "BTC-USD"), (4, "btc-usd")] {
        feed.handle_frame(Match(id, 1).frame().replace("SKL-BTC", name).as_bytes(), RECEIVED);
    }
    assert_eq!(drain(&mut reader), [trade(1, 1), trade(2, 1), "gap 1 @1".into(), trade(4, 1)]);
    assert_eq!((feed.counters().count(C::Duplicates), feed.instruments().len()), (1, 1));
}
