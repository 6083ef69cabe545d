//! FIX market data against a venue that misbehaves: refusals, a line that is cut, silent or brings garbage, and messages
//! that are missing.
#![cfg(not(loom))]

#[path = "support/fix_venue.rs"]
mod fix_venue;
#[path = "support/http_venue.rs"]
mod http_venue;
mod support;

use std::time::{Duration, Instant};

use feed_handlers::feed::FeedCounter;
use feed_handlers::source::{FeedState, FixChannel, FixLive, FixNumbers, FixQuotes, FixSettings, Secret, Timings};
use feed_handlers::venue::Venue;
use fix_venue::{Counterparty, FixVenue, Heard, message};
use http_venue::{Live, SECRET, log, patient};
use protocol::TickBody;

const BOOKS: FixQuotes = FixQuotes::Books { depth: None };

fn settings(venue: &FixVenue, timings: Timings) -> FixSettings {
    let symbols = vec!["EUR/USD".into(), "USDJPY=USD/JPY".into()];
    let base = FixSettings::new(&venue.url(), "US", "VENUE", symbols);
    let (username, password) = (Some(Secret::new("trader")), Some(Secret::new(SECRET)));
    FixSettings { username, password, quotes: BOOKS, timings, ..base }
}

fn start(settings: &FixSettings) -> Live {
    let fix = FixLive::new(settings).unwrap();
    Live::start_with(Venue::Fix, settings.quotes.origin(settings.dialect), fix.status(), |feed, stop| {
        fix.spawn(feed, stop)
    })
}

/// A whole book of one level a side.
fn snapshot(symbol: &str, bid: &str, offer: &str) -> String {
    format!("55={symbol}|268=2|269=0|270={bid}|271=100|269=1|270={offer}|271=200|")
}

/// A new bid.
fn bid(symbol: &str, price: &str) -> String {
    format!("268=1|279=0|269=0|55={symbol}|270={price}|271=100|")
}

fn trade(symbol: &str, id: u64, price: &str) -> String {
    format!("268=1|279=0|269=2|55={symbol}|270={price}|271=5|1003={id}|2446=1|")
}

/// The quotes and trades that came out, as text.
fn ticks(live: Live) -> Vec<String> {
    let listener = live.end();
    let tick = |tick: &protocol::Tick| match tick.body {
        TickBody::Quote(quote) => format!("{} {} {}", listener.symbol(tick), quote.bid, quote.ask),
        TickBody::Trade(trade) => format!("{} trade {} {}", listener.symbol(tick), trade.id.unwrap_or(0), trade.price),
        _ => panic!("{tick:?}"),
    };
    listener.ticks.iter().map(tick).collect()
}

/// Two requests for prices and trades; the first snapshot makes it up.
async fn up(venue: &FixVenue, live: &Live) -> (Counterparty, Vec<Heard>) {
    let (mut line, asked) = venue.accept_session(2).await;
    line.say("W", &snapshot("EUR/USD", "1.10", "1.20")).await;
    live.until_state(FeedState::Up).await;
    (line, asked)
}

#[tokio::test]
async fn signs_in_asks_and_takes_in_what_comes() {
    let venue = FixVenue::open().await;
    let live = start(&settings(&venue, patient()));
    let mut line = venue.accept().await;
    let logon = line.hear("A").await;
    let fields = [98, 108, 141, 553, 554].map(|tag| logon.field(tag));
    assert_eq!(fields, ["0", "10", "Y", "trader", SECRET]);
    assert_eq!(live.status.state(), FeedState::Down);
    line.say("A", "98=0|108=10|141=Y|").await;
    let quotes = line.hear("V").await;
    assert_eq!([262, 263, 264, 265, 266].map(|tag| quotes.field(tag)), ["Q0-1", "1", "0", "1", "Y"]);
    assert_eq!((quotes.all(269), quotes.all(55)), (vec!["0", "1"], vec!["EUR/USD", "USDJPY"]));
    let trades = line.hear("V").await;
    assert_eq!((trades.field(262), trades.all(269), trades.all(55)), ("T1-1", vec!["2"], vec!["EUR/USD", "USDJPY"]));
    line.say("W", &format!("262=Q0-1|{}", snapshot("EUR/USD", "1.10", "1.20"))).await;
    line.say("W", &format!("262=Q0-1|{}", snapshot("USDJPY", "150.1", "150.2"))).await;
    line.say("X", &bid("EUR/USD", "1.15")).await;
    line.say("X", "268=1|279=2|269=0|55=EUR/USD|270=1.15|").await;
    line.say("X", &trade("USDJPY", 7, "150.15")).await;
    line.say("h", "336=1|340=2|").await;
    line.say("1", "112=are you there?|").await;
    assert_eq!(line.hear("0").await.field(112), "are you there?");
    live.until_state(FeedState::Up).await;
    assert_eq!((live.count(FeedCounter::UnknownTypes), live.count(FeedCounter::MalformedFrames)), (1, 0));
    assert_eq!(
        ticks(live),
        [
            "EUR/USD 1.10 1.20",
            "USD/JPY 150.1 150.2",
            "EUR/USD 1.15 1.20",
            "EUR/USD 1.10 1.20",
            "USD/JPY trade 7 150.15"
        ]
    );
}

#[tokio::test]
async fn best_prices_are_whole_each_time() {
    let venue = FixVenue::open().await;
    let base = settings(&venue, patient());
    let live = start(&FixSettings { quotes: FixQuotes::Best, channels: vec![FixChannel::Quotes], ..base });
    let (mut line, asked) = venue.accept_session(1).await;
    assert_eq!([264, 265, 266].map(|tag| asked[0].field(tag)), ["1", "0", "Y"]);
    line.say("W", &snapshot("EUR/USD", "1.10", "1.20")).await;
    // Worse ones replace them too.
    line.say("W", &snapshot("EUR/USD", "1.05", "1.25")).await;
    live.until_count(FeedCounter::Quotes, 2).await;
    assert_eq!(ticks(live), ["EUR/USD 1.10 1.20", "EUR/USD 1.05 1.25"]);
}

#[tokio::test]
async fn a_refusal_is_told_and_not_tried_again_soon() {
    let refusals = [
        ("5", format!("58=Wrong password {SECRET} of trader|"), "refuses to sign us in: `Wrong password ***"),
        ("3", "45=1|373=5|58=No such session|".into(), "refuses to sign us in: `No such session`"),
    ];
    for (kind, fields, told) in refusals {
        let venue = FixVenue::open().await;
        let live = start(&settings(&venue, patient()));
        let mut line = venue.accept().await;
        line.hear("A").await;
        line.say(kind, &fields).await;
        line.hear("5").await;
        line.ended().await;
        assert!(venue.nobody_comes_for(Duration::from_millis(300)).await);
        live.until("the reason", || live.status.trouble().is_some_and(|trouble| trouble.contains(told))).await;
        assert_eq!(live.count(FeedCounter::VenueErrors), 1);
        live.end();
    }
    // Nor are requests, where none is taken.
    let venue = FixVenue::open().await;
    let live = start(&settings(&venue, patient()));
    let (mut line, _) = venue.accept_session(2).await;
    line.say("Y", "262=Q0-1|281=4|58=Not permitted|").await;
    line.say("Y", "262=T1-1|281=4|58=Not permitted either|").await;
    line.hear("5").await;
    line.ended().await;
    assert!(venue.nobody_comes_for(Duration::from_millis(300)).await);
    let told = "the venue refuses all that we ask for: `Not permitted either`";
    live.until("the reason", || live.status.trouble().is_some_and(|trouble| &*trouble == told)).await;
    live.end();
}

#[tokio::test]
async fn a_venue_that_does_not_answer_or_speak_fix_is_told() {
    let venue = FixVenue::open().await;
    let live = start(&settings(&venue, Timings { answer: Duration::from_secs(1), ..patient() }));
    // Venues that do not know a CompID say nothing at all.
    let mut line = venue.accept().await;
    line.hear("A").await;
    drop(line);
    let mut line = venue.accept().await;
    line.hear("A").await;
    line.raw(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    line.ended().await;
    let line = venue.accept().await;
    line.ended().await;
    let _line = venue.accept().await;
    for told in ["without an answer to the sign-in", "what comes is no FIX 4.4", "the sign-in was not answered within"]
    {
        assert!(log().iter().any(|line| line.contains(told)), "{told}: {:#?}", log());
    }
    assert_eq!(live.count(FeedCounter::MalformedFrames), 1);
    live.end();
}

#[tokio::test]
async fn a_venue_that_is_asked_too_much_is_left_alone() {
    let venue = FixVenue::open().await;
    let live = start(&settings(&venue, Timings { throttled: Duration::from_secs(2), ..patient() }));
    let (mut line, _) = venue.accept_session(2).await;
    let begun = Instant::now();
    line.say("Y", "262=Q0-1|25016=-1003|58=Too many requests|").await;
    line.hear("5").await;
    line.ended().await;
    let (_line, _) = venue.accept_session(2).await;
    assert!(begun.elapsed() >= Duration::from_millis(950), "{:?}", begun.elapsed());
    live.end();
}

#[tokio::test]
async fn a_wrong_name_does_not_cost_the_others() {
    let venue = FixVenue::open().await;
    let base = settings(&venue, patient());
    let live = start(&FixSettings { channels: vec![FixChannel::Quotes], ..base });
    let (mut line, _) = venue.accept_session(1).await;
    line.say("Y", "262=Q0-1|281=0|58=Unknown symbol USDJPY|").await;
    let asked = [line.hear("V").await, line.hear("V").await];
    assert_eq!(asked.each_ref().map(|asked| asked.all(55)), [["EUR/USD"], ["USDJPY"]]);
    line.say("Y", &format!("262={}|281=0|58=Unknown symbol USDJPY|", asked[1].field(262))).await;
    line.say("W", &snapshot("EUR/USD", "1.10", "1.20")).await;
    live.until_state(FeedState::Up).await;
    assert_eq!(ticks(live), ["EUR/USD 1.10 1.20"]);
}

#[tokio::test]
async fn comes_back_after_every_kind_of_cut() {
    let venue = FixVenue::open().await;
    let live = start(&settings(&venue, patient()));
    for cut in 0..4 {
        let (mut line, _) = up(&venue, &live).await;
        let part = &message(line.next, "W", &snapshot("EUR/USD", "1.30", "1.40"))[..60];
        match cut {
            0 => drop(line),
            1 => {
                line.raw(part).await;
                drop(line);
            }
            2 => line.reset(),
            _ => {
                line.say("5", "58=End of day|").await;
                line.hear("5").await;
                drop(line);
            }
        }
        live.until_state(FeedState::Down).await;
    }
    // It counts from 1 and asks for everything each time, which is what `up` looks at.
    let (_line, asked) = up(&venue, &live).await;
    assert_eq!(asked.iter().map(|asked| asked.number).collect::<Vec<_>>(), [2, 3]);
    assert_eq!((live.count(FeedCounter::Reconnects), live.count(FeedCounter::BookSnapshots)), (4, 5));
    assert!(log().iter().any(|line| line.contains("the venue ended the session: `End of day`")));
    live.end();
}

#[tokio::test]
async fn a_silent_venue_is_asked_and_then_given_up() {
    let venue = FixVenue::open().await;
    let quick = Timings { stale: Duration::from_millis(300), silence: Duration::from_secs(4), ..patient() };
    let base = settings(&venue, quick);
    let live = start(&FixSettings { heartbeat: Duration::from_secs(1), ..base });
    let (mut line, _) = up(&venue, &live).await;
    let asked = line.hear("1").await;
    live.until_state(FeedState::Stale).await;
    let answer = format!("112={}|", asked.field(112));
    line.say("0", &answer).await;
    live.until_state(FeedState::Up).await;
    // Garbage is no answer.
    line.hear("1").await;
    line.raw(b"garbage").await;
    line.ended().await;
    let (_line, _) = up(&venue, &live).await;
    assert!(log().iter().any(|line| line.contains("our test request included")));
    live.end();
}

#[tokio::test]
async fn garbage_is_counted_and_what_it_cost_is_had_again() {
    let venue = FixVenue::open().await;
    let live = start(&settings(&venue, patient()));
    let (mut line, _) = up(&venue, &live).await;
    line.say("W", &snapshot("USDJPY", "150.1", "150.2")).await;
    let (first, last) = (line.next, line.next + 2);
    // A trade whose checksum does not hold, and a price whose length leads nowhere, between bytes that are nothing.
    let mut damaged = message(first, "X", &trade("EUR/USD", 1, "1.16"));
    let at = damaged.len() - 2;
    damaged[at] = if damaged[at] == b'0' { b'1' } else { b'0' };
    line.raw(b"\0\xffgarbage").await;
    line.raw(&damaged).await;
    let length = message(first + 1, "X", &bid("EUR/USD", "1.19"));
    line.raw(&String::from_utf8(length).unwrap().replacen("\x019=", "\x019=9", 1).into_bytes()).await;
    // What comes then is taken at once, but for prices of books that something is missing of.
    line.say_as(last, "X", &trade("EUR/USD", 3, "1.18")).await;
    let missing = line.hear("2").await;
    assert_eq!(
        [missing.field(7), missing.field(16)],
        [first.to_string(), last_before(last)].each_ref().map(String::as_str)
    );
    live.until_count(FeedCounter::Trades, 1).await;
    // Prices are asked for anew.
    let asked = [line.hear("V").await, line.hear("V").await];
    assert_eq!(asked.each_ref().map(|asked| [asked.field(262), asked.field(263)]), [["Q0-1", "2"], ["Q0-2", "1"]]);
    line.say_as(first, "X", &format!("43=Y|122=20261019-05:40:11.466|{}", trade("EUR/USD", 1, "1.16"))).await;
    line.say_as(first + 1, "X", &format!("43=Y|122=20261019-05:40:11.466|{}", bid("EUR/USD", "1.19"))).await;
    // Once more, by a venue that says all since then.
    line.say_as(last, "X", &format!("43=Y|122=20261019-05:40:11.466|{}", trade("EUR/USD", 3, "1.18"))).await;
    line.next = last + 1;
    line.say("X", &bid("EUR/USD", "1.14")).await;
    line.say("W", &snapshot("EUR/USD", "1.12", "1.22")).await;
    line.say("W", &snapshot("USDJPY", "150.3", "150.4")).await;
    line.say("X", &bid("EUR/USD", "1.13")).await;
    live.until_count(FeedCounter::Quotes, 5).await;
    assert_eq!((live.count(FeedCounter::MalformedFrames), live.count(FeedCounter::LineGaps)), (3, 1));
    let left_out = [FeedCounter::ResentMessages, FeedCounter::StaleBookChanges, FeedCounter::WaitingBookChanges];
    assert_eq!(left_out.map(|counter| live.count(counter)), [1, 1, 1]);
    assert_eq!(*live.dead.take().unwrap().frame, *b"\0\xffgarbage");
    assert_eq!(*live.dead.take().unwrap().frame, *damaged);
    assert_eq!((live.count(FeedCounter::Reconnects), live.status.state()), (0, FeedState::Up));
    assert_eq!(
        ticks(live),
        [
            "EUR/USD 1.10 1.20",
            "USD/JPY 150.1 150.2",
            "EUR/USD trade 3 1.18",
            "EUR/USD trade 1 1.16",
            "EUR/USD 1.12 1.22",
            "USD/JPY 150.3 150.4",
            "EUR/USD 1.13 1.22"
        ]
    );
}

fn last_before(number: u64) -> String {
    (number - 1).to_string()
}

#[tokio::test]
async fn a_book_that_cannot_be_followed_is_asked_for_anew() {
    let venue = FixVenue::open().await;
    let base = settings(&venue, patient());
    let live = start(&FixSettings { symbols_per_request: 1, channels: vec![FixChannel::Quotes], ..base });
    let (mut line, asked) = venue.accept_session(2).await;
    assert_eq!([asked[0].all(55), asked[1].all(55)], [["EUR/USD"], ["USDJPY"]]);
    line.say("W", &snapshot("USDJPY", "150.1", "150.2")).await;
    // A deletion by an id alone: nobody knows of which price.
    line.say("X", "268=1|279=2|269=0|278=17|55=USDJPY|").await;
    let asked = [line.hear("V").await, line.hear("V").await];
    assert_eq!(asked.each_ref().map(|asked| asked.field(263)), ["2", "1"]);
    line.say("W", &snapshot("USDJPY", "150.3", "150.4")).await;
    live.until_count(FeedCounter::Quotes, 2).await;
    assert_eq!(live.count(FeedCounter::InvalidLevels), 1);
    live.end();
}

#[tokio::test]
async fn numbers_may_go_on_over_connections() {
    let venue = FixVenue::open().await;
    let base = settings(&venue, patient());
    let live = start(&FixSettings { numbers: FixNumbers::Continued, ..base });
    let mut line = venue.accept().await;
    assert_eq!(line.hear("A").await.find(141), None);
    line.say("A", "98=0|108=10|").await;
    line.hear("V").await;
    line.hear("V").await;
    line.say("W", &snapshot("EUR/USD", "1.10", "1.20")).await;
    live.until_state(FeedState::Up).await;
    let (next, expected) = (line.next, line.expected);
    drop(line);
    // Two trades happen meanwhile.
    let mut line = venue.accept().await;
    (line.next, line.expected) = (next + 2, expected);
    line.hear("A").await;
    line.say("A", "98=0|108=10|").await;
    let missing = line.hear("2").await;
    assert_eq!([missing.field(7), missing.field(16)].map(|n| n.parse::<u64>().unwrap()), [next, next + 1]);
    for (id, price) in [(1, "1.11"), (2, "1.12")] {
        line.say_as(next + id - 1, "X", &format!("43=Y|{}", trade("EUR/USD", id, price))).await;
    }
    live.until_count(FeedCounter::Trades, 2).await;
    assert_eq!(ticks(live), ["EUR/USD 1.10 1.20", "EUR/USD trade 1 1.11", "EUR/USD trade 2 1.12"]);
}

#[tokio::test]
async fn it_says_goodbye_wherever_it_is() {
    // While it is signed in.
    let venue = FixVenue::open().await;
    let live = start(&settings(&venue, patient()));
    let (mut line, _) = up(&venue, &live).await;
    let ending = tokio::task::spawn_blocking(|| live.end());
    line.hear("5").await;
    line.say("5", "").await;
    line.ended().await;
    ending.await.unwrap();
    // While it waits for an answer.
    let live = start(&settings(&venue, patient()));
    let mut line = venue.accept().await;
    line.hear("A").await;
    let ending = tokio::task::spawn_blocking(|| live.end());
    line.hear("5").await;
    ending.await.unwrap();
    // While it waits to come back.
    let hour = Duration::from_secs(3_600);
    let live = start(&settings(&venue, Timings { backoff_min: hour, backoff_max: hour, ..patient() }));
    let (line, _) = up(&venue, &live).await;
    drop(line);
    live.until_state(FeedState::Down).await;
    live.end();
}
