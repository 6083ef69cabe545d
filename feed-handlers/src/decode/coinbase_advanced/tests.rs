//! Frames as the venue sends them, and what must not be made of frames that it does not.

use super::super::event::{Symbol, Top};
use super::super::testing::{self, Expected, at, bad, begin, decimal, end, level, top};
use super::*;

const ETH_TRADE: &str = r#"{"channel":"market_trades","timestamp":"2026-09-30T02:39:59.551901038Z","sequence_num":247,"events":[{"type":"update","trades":[{"product_id":"ETH-USD","trade_id":"846155167","price":"2667.2","size":"0.84275842","time":"2026-09-30T02:39:59.4104Z","side":"SELL"}]}]}"#;
const BTC_LEVELS: &str = r#"{"channel":"l2_data","timestamp":"2026-09-30T02:39:59.566460558Z","sequence_num":248,"events":[{"type":"update","product_id":"ETH-USD","updates":[{"side":"bid","event_time":"2026-09-30T02:39:59.537106Z","price_level":"2667.24","new_quantity":"0"},{"side":"offer","event_time":"2026-09-30T02:39:59.537106Z","price_level":"2671.72","new_quantity":"12.23396382"}]}]}"#;
const PERP_SNAPSHOT: &str = r#"{"channel":"l2_data","client_id":"","timestamp":"2026-09-07T01:57:58.894355Z","sequence_num":0,"events":[{"type":"snapshot","product_id":"BTC-PERP-INTX","updates":[{"side":"offer","event_time":"2026-09-07T01:57:58.894355Z","price_level":"79944.1","new_quantity":"1.2"},{"side":"bid","event_time":"2026-09-07T01:57:58.894355Z","price_level":"79943.9","new_quantity":"3.0105"}]}]}"#;
const HEARTBEAT: &str = r#"{"channel":"heartbeats","timestamp":"2026-09-07T23:37:22.675755362Z","sequence_num":3,"events":[{"current_time":"2026-09-07 23:37:22.674409 +0000 UTC m=+139651.272674714","heartbeat_counter":139651}]}"#;
const TICKER: &str = r#"{"channel":"ticker","client_id":"","timestamp":"2026-04-07T14:30:05.000000Z","sequence_num":5,"events":[{"type":"update","tickers":[{"type":"ticker","product_id":"BTC-USD","price":"68920.50","volume_24_h":"16038.28770938","low_24_h":"68835.29","high_24_h":"69011.18","low_52_w":"15460","high_52_w":"73888.77","price_percent_chg_24_h":"-4.15","best_bid":"68920.40","best_bid_quantity":"0.20","best_ask":"68920.5","best_ask_quantity":"1.10"}]}]}"#;
const CANDLE: &str = r#"{"channel":"candles","client_id":"","timestamp":"2026-04-07T14:30:05.000000Z","sequence_num":3,"events":[{"type":"update","candles":[{"start":"1775521800","high":"68950.00","low":"68850.00","open":"68900.00","close":"68920.50","volume":"42.15000000","product_id":"BTC-USD"}]}]}"#;

fn events(frame: &str) -> Result<Vec<Event<'_>>, DecodeError> {
    testing::events(|mut on_event| decode(frame.as_bytes(), &mut on_event))
}

#[track_caller]
fn check(frame: &str, expected: Expected<'_, '_>) {
    testing::check(frame, events(frame), expected);
}

fn eth_trade() -> Trade<'static> {
    Trade {
        symbol: Symbol::Text(b"ETH-USD"),
        id: Some(846_155_167),
        price: decimal("2667.2"),
        size: decimal("0.84275842"),
        taker: Some(Side::Buy),
        time: at("2026-09-30T02:39:59.410400Z"),
        age: Age::Live,
    }
}

fn btc_quote() -> Quote<'static> {
    Quote {
        symbol: Symbol::Text(b"BTC-USD"),
        bid: top("68920.40", "0.20"),
        ask: top("68920.5", "1.10"),
        sequence: None,
        time: Some(at("2026-04-07T14:30:05Z")),
        age: Age::Live,
    }
}

#[test]
fn reads_trades_with_the_side_of_the_taker() {
    let number = Event::LineSequence(247);
    check(ETH_TRADE, Ok(&[number, Event::Trade(eth_trade())]));
    let sold = Event::Trade(Trade { taker: Some(Side::Sell), ..eth_trade() });
    check(&ETH_TRADE.replace("SELL", "BUY"), Ok(&[number, sold]));
    let old = r#"{"channel":"market_trades","timestamp":"2026-09-30T02:39:53.788557863Z","sequence_num":9,"events":[{"type":"snapshot","trades":[{"product_id":"ETH-USD","trade_id":"846155146","price":"2666.07","size":"0.00373812","time":"2026-09-30T02:39:52.402705Z","side":"BUY"},{"product_id":"ETH-USD","trade_id":"846155145","price":"2666.16","size":"0.00928427","time":"2026-09-30T02:39:51.398359Z","side":"SELL"}]}]}"#;
    let trade = |id, price, size, taker, time| {
        let (id, taker, age) = (Some(id), Some(taker), Age::Old);
        Event::Trade(Trade {
            id,
            price: decimal(price),
            size: decimal(size),
            taker,
            time: at(time),
            age,
            ..eth_trade()
        })
    };
    let newest = trade(846_155_146, "2666.07", "0.00373812", Side::Sell, "2026-09-30T02:39:52.402705Z");
    let before = trade(846_155_145, "2666.16", "0.00928427", Side::Buy, "2026-09-30T02:39:51.398359Z");
    check(old, Ok(&[Event::LineSequence(9), newest, before]));
}

#[test]
fn a_faulty_trade_leaves_the_others() {
    let number = Event::LineSequence(247);
    let good = r#"{"product_id":"ETH-USD","trade_id":"846155167","price":"2667.2","size":"0.84275842","time":"2026-09-30T02:39:59.4104Z","side":"SELL"}"#;
    let check_faulty = |from: &str, to: &str, name: Option<&str>, reason| {
        let faulty = good.replace(from, to);
        assert_ne!(faulty, good);
        let trade = Event::Trade(eth_trade());
        check(
            &ETH_TRADE.replace(good, &format!("{faulty},{good}")),
            Ok(&[number, bad(name, Part::Trade, reason), trade]),
        );
    };
    let eth = Some("ETH-USD");
    check_faulty(r#""product_id":"ETH-USD","#, "", None, Reason::MissingField);
    check_faulty(r#""ETH-USD""#, "7", None, Reason::FieldType);
    check_faulty(r#""2667.2""#, "null", eth, Reason::MissingField);
    check_faulty("2667.2", "2667.2.0", eth, Reason::Number);
    check_faulty("0.84275842", "0.84275842123456789012", eth, Reason::NumberRange);
    check_faulty("846155167", "2e7d8a9f-1c", eth, Reason::Number);
    check_faulty("846155167", "9223372036854775808", eth, Reason::NumberRange);
    check_faulty("SELL", "sell", eth, Reason::Side);
    check_faulty(r#","side":"SELL""#, "", eth, Reason::MissingField);
    check_faulty("2026-09-30T02:39:59.4104Z", "0001-01-01T00:00:00Z", eth, Reason::Time);
    check_faulty(r#""2026-09-30T02:39:59.4104Z""#, "1790733794", eth, Reason::FieldType);
    check(
        &ETH_TRADE.replace(good, &format!(r#"7,[{good}],null,{good}"#)),
        Ok(&[
            number,
            bad(None, Part::Trade, Reason::FieldType),
            bad(None, Part::Trade, Reason::FieldType),
            bad(None, Part::Trade, Reason::FieldType),
            Event::Trade(eth_trade()),
        ]),
    );
}

#[test]
fn reads_books() {
    let time = Some(at("2026-09-30T02:39:59.537106Z"));
    let change = [
        Event::LineSequence(248),
        begin("ETH-USD", BookScope::Change),
        level(Side::Buy, "2667.24", "0"),
        level(Side::Sell, "2671.72", "12.23396382"),
        end(time),
    ];
    check(BTC_LEVELS, Ok(&change));
    let perp = [
        Event::LineSequence(0),
        begin("BTC-PERP-INTX", BookScope::Snapshot),
        level(Side::Sell, "79944.1", "1.2"),
        level(Side::Buy, "79943.9", "3.0105"),
        end(Some(at("2026-09-07T01:57:58.894355Z"))),
    ];
    check(PERP_SNAPSHOT, Ok(&perp));
    // The latest time counts; one of 1970, or that cannot be read, is none.
    let timed = |first: &str, second: &str| {
        BTC_LEVELS
            .replacen("2026-09-30T02:39:59.537106Z", first, 1)
            .replacen("2026-09-30T02:39:59.537106Z", second, 1)
            .replace("2026-09-30T02:39:59.537106Z", second)
    };
    let check_time = |first, second, expected| {
        let mut events = change;
        events[4] = end(expected);
        check(&timed(first, second), Ok(&events));
    };
    check_time("1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z", None);
    check_time("1970-01-01T00:00:00Z", "2026-09-30T02:39:59Z", Some(at("2026-09-30T02:39:59Z")));
    check_time("2026-09-30T02:40:00Z", "2026-09-30T02:39:59Z", Some(at("2026-09-30T02:40:00Z")));
    check_time("0001-01-01T00:00:00Z", "yesterday", None);
    // A book that is empty, as Go may write it too.
    for empty in ["[]", "null"] {
        let frame = format!(
            r#"{{"channel":"l2_data","sequence_num":1,"events":[{{"type":"snapshot","product_id":"A-B","updates":{empty}}}]}}"#
        );
        check(&frame, Ok(&[Event::LineSequence(1), begin("A-B", BookScope::Snapshot), end(None)]));
    }
}

#[test]
fn a_faulty_level_leaves_the_others() {
    let faulty = r#"{"channel":"l2_data","sequence_num":7,"events":[{"type":"update","product_id":"A-B","updates":[
        {"side":"ask","price_level":"1","new_quantity":"1"}, {"price_level":"1","new_quantity":"1"},
        {"side":"bid","price_level":"0","new_quantity":"1"}, {"side":"bid","price_level":"1","new_quantity":"-1"},
        {"side":"bid","price_level":"1"}, {"side":"bid","price_level":"0.-10000","new_quantity":"1"}, [], "x", {},
        {"side":"offer","price_level":1.50,"new_quantity":1e-08}]}]}"#;
    let bad = |reason| bad(Some("A-B"), Part::Level, reason);
    check(
        faulty,
        Ok(&[
            Event::LineSequence(7),
            begin("A-B", BookScope::Change),
            bad(Reason::Side),
            bad(Reason::MissingField),
            bad(Reason::Price),
            bad(Reason::Size),
            bad(Reason::MissingField),
            bad(Reason::Number),
            bad(Reason::FieldType),
            bad(Reason::FieldType),
            bad(Reason::MissingField),
            level(Side::Sell, "1.50", "0.00000001"),
            end(None),
        ]),
    );
}

/// What may have changed a book and cannot be read is never silent.
#[test]
fn a_faulty_part_of_a_message_leaves_the_others() {
    let check_parts = |channel: &str, parts: &str, expected: &[Event<'_>]| {
        let frame = format!(r#"{{"channel":"{channel}","sequence_num":7,"events":[{parts}]}}"#);
        let mut all = vec![Event::LineSequence(7)];
        all.extend(expected);
        check(&frame, Ok(&all));
    };
    let level = |name, reason| bad(name, Part::Level, reason);
    let book = r#"{"type":"update","product_id":"A-B","updates":[]}"#;
    let read = [begin("A-B", BookScope::Change), end(None)];
    let after = |event| [event, read[0], read[1]];
    check_parts("l2_data", &format!("3,{book}"), &after(level(None, Reason::FieldType)));
    let typeless = [begin("A-C", BookScope::Change), level(Some("A-C"), Reason::MissingField), end(None)];
    check_parts("l2_data", r#"{"product_id":"A-C","updates":[]}"#, &typeless);
    check_parts(
        "l2_data",
        &format!(r#"{{"type":"update","updates":[]}},{book}"#),
        &after(level(None, Reason::MissingField)),
    );
    check_parts("l2_data", &format!(r#"{{"type":"reset"}},{book}"#), &after(Event::Ignored { kind: b"reset" }));
    check_parts(
        "l2_data",
        r#"{"type":"update","product_id":"A-B"}"#,
        &[read[0], level(Some("A-B"), Reason::MissingField), read[1]],
    );
    check_parts("market_trades", r#"{"type":"update"}"#, &[bad(None, Part::Trade, Reason::MissingField)]);
    check_parts("ticker", r#"{"type":"update","tickers":{}}"#, &[bad(None, Part::Quote, Reason::FieldType)]);
    check_parts("candles", r#"{"type":7,"candles":[]}"#, &[bad(None, Part::Bar, Reason::FieldType)]);
    check_parts("heartbeats", "[]", &[bad(None, Part::Message, Reason::FieldType)]);
    // What says nothing at all is named, too.
    for nothing in ["", r#"{"type":"update","trades":[]}"#, r#"{"type":"snapshot","trades":null}"#] {
        check_parts("market_trades", nothing, &[Event::Ignored { kind: b"market_trades" }]);
    }
}

#[test]
fn reads_quotes() {
    let number = Event::LineSequence(5);
    check(TICKER, Ok(&[number, Event::Quote(btc_quote())]));
    let old = Event::Quote(Quote { age: Age::Old, ..btc_quote() });
    check(&TICKER.replace("update", "snapshot"), Ok(&[number, old]));
    let no_bid = Event::Quote(Quote { bid: None, ..btc_quote() });
    check(&TICKER.replace("68920.40", "0").replace("0.20", "0"), Ok(&[number, no_bid]));
    check(&TICKER.replace(r#""68920.40""#, "null"), Ok(&[number, no_bid]));
    let unsized_ask = Some(Top { price: decimal("68920.5"), size: None });
    let sizeless = Event::Quote(Quote { ask: unsized_ask, ..btc_quote() });
    check(&TICKER.replace(r#","best_ask_quantity":"1.10""#, ""), Ok(&[number, sizeless]));
    let untimed = Event::Quote(Quote { time: None, ..btc_quote() });
    check(&TICKER.replace(r#""timestamp":"2026-04-07T14:30:05.000000Z","#, ""), Ok(&[number, untimed]));
    let faulty = |from: &str, to: &str, reason| {
        check(&TICKER.replace(from, to), Ok(&[number, bad(Some("BTC-USD"), Part::Quote, reason)]));
    };
    faulty(r#""best_ask":"68920.5","#, "", Reason::MissingField);
    faulty("68920.40", "", Reason::Number);
    faulty("1.10", "1,10", Reason::Number);
    faulty("2026-04-07T14:30:05.000000Z", "2026-04-07 14:30:05", Reason::Time);
    // The batched ticker has no best bid and ask.
    let batched = TICKER.replace(r#""channel":"ticker""#, r#""channel":"ticker_batch""#);
    check(&batched, Ok(&[number, Event::Ignored { kind: b"ticker_batch" }]));
}

#[test]
fn reads_bars() {
    let bar = Bar {
        symbol: Symbol::Text(b"BTC-USD"),
        interval_ns: 300_000_000_000,
        start: at("2026-04-07T00:30:00Z"),
        open: decimal("68900.00"),
        high: decimal("68950.00"),
        low: decimal("68850.00"),
        close: decimal("68920.50"),
        volume: decimal("42.15000000"),
        vwap: None,
        trades: None,
        in_progress: true,
    };
    let number = Event::LineSequence(3);
    check(CANDLE, Ok(&[number, Event::Bar(bar)]));
    check(&CANDLE.replace("update", "snapshot"), Ok(&[number, Event::Bar(bar)]));
    let faulty = |from: &str, to: &str, reason| {
        check(&CANDLE.replace(from, to), Ok(&[number, bad(Some("BTC-USD"), Part::Bar, reason)]));
    };
    faulty("1775521800", "9223372036854775807", Reason::Time);
    faulty("1775521800", "2026-04-07T00:30:00Z", Reason::Number);
    faulty(r#""open":"68900.00","#, "", Reason::MissingField);
    faulty("42.15000000", "NaN", Reason::Number);
}

#[test]
fn reads_heartbeats() {
    let number = Event::LineSequence(3);
    let beat = |time| Event::Heartbeat(Heartbeat { symbol: None, time });
    check(HEARTBEAT, Ok(&[number, beat(Some(at("2026-09-07T23:37:22.674409Z")))]));
    // The counter is text in the venue's older pages.
    check(&HEARTBEAT.replace(":139651}", ":\"139651\"}"), Ok(&[number, beat(Some(at("2026-09-07T23:37:22.674409Z")))]));
    check(r#"{"channel":"heartbeats","sequence_num":3,"events":[{}]}"#, Ok(&[number, beat(None)]));
    check(&HEARTBEAT.replace(" +0000", ""), Ok(&[number, bad(None, Part::Message, Reason::Time)]));
}

#[test]
fn times_are_read_as_go_prints_them() {
    #[track_caller]
    fn check(text: &str, expected: Option<&str>) {
        assert_eq!(go_time(text.as_bytes()), expected.map(at), "{text}");
    }
    check("2026-09-07 23:37:22.674409 +0000 UTC m=+139651.272674714", Some("2026-09-07T23:37:22.674409Z"));
    check("2026-09-07 23:37:22.123456789 +0000 UTC", Some("2026-09-07T23:37:22.123456789Z"));
    check("2026-09-07 23:37:22 +0000 UTC m=-0.000000001", Some("2026-09-07T23:37:22Z"));
    check("2026-03-01 00:29:59.5 +0530 IST", Some("2026-02-28T18:59:59.5Z"));
    check("2025-12-31 19:00:00 -0500 EST", Some("2026-01-01T00:00:00Z"));
    check("2026-06-01 10:00:00 +0545 +0545", Some("2026-06-01T04:15:00Z"));
    for text in [
        "",
        "2026-09-07",
        "2026-09-07 23:37:22",
        "2026-09-07 23:37:22 +0000",
        "2026-09-07 23:37:22 +0000 ",
        "2026-09-07T23:37:22 +0000 UTC",
        "2026-09-07 23:37 +0000 UTC",
        "2026-09-07 23:37:22Z +0000 UTC",
        "2026-09-07 23:37:22.1234567890 +0000 UTC",
        "2026-09-07 23:37:22. +0000 UTC",
        "2026-9-7 23:37:22 +0000 UTC",
        "2026-02-29 23:37:22 +0000 UTC",
        "2026-09-07 24:37:22 +0000 UTC",
        "2026-09-07 23:37:22 0000 UTC",
        "2026-09-07 23:37:22 +00:00 UTC",
        "2026-09-07 23:37:22 +2400 UTC",
        "2026-09-07 23:37:22 +0060 UTC",
        "2026-09-07 23:37:22 +0000 UTC 139651",
        "2026-09-07 23:37:22 +0000 UTC m=now",
        "2026-09-07 23:37:22 +0000 UTC m=+1 x",
        "2026-09-07  23:37:22 +0000 UTC",
        "0001-01-01 00:00:00 +0000 UTC",
        "2262-04-11 23:47:16.854775807 -2300 X",
    ] {
        check(text, None);
    }
}

#[test]
fn reads_other_messages() {
    check(
        r#"{"channel":"subscriptions","timestamp":"2026-09-07T23:37:22.278662782Z","sequence_num":1,"events":[{"subscriptions":{"level2":["BTC-PERP-INTX","ETH-PERP-INTX"]}}]}"#,
        Ok(&[Event::LineSequence(1), Event::Control(Control::Subscribed)]),
    );
    let error = |text| Event::Control(Control::Error { text, detail: b"" });
    check(r#"{"type":"error","message":"failure to subscribe"}"#, Ok(&[error(b"failure to subscribe")]));
    check(r#"{"message":"authentication failure","type":"error"}"#, Ok(&[error(b"authentication failure")]));
    check(
        r#"{"type":"error","message":"say \"why\"","sequence_num":2}"#,
        Ok(&[Event::LineSequence(2), error(br#"say \"why\""#)]),
    );
    check(r#"{"type":"notice","message":7}"#, Ok(&[Event::Ignored { kind: b"notice" }]));
    let ignored = |kind| [Event::LineSequence(8), Event::Ignored { kind }];
    check(
        r#"{"channel":"status","sequence_num":8,"events":[{"type":"snapshot","products":[]}]}"#,
        Ok(&ignored(b"status")),
    );
    check(r#"{"channel":"user","sequence_num":"8"}"#, Ok(&ignored(b"user")));
}

#[test]
fn key_order_whitespace_and_unknown_keys_do_not_matter() {
    let expected = events(ETH_TRADE).unwrap();
    let spread = ETH_TRADE.replace("\":", "\" :\n\t").replace(",\"", " ,\r\n \"");
    let stuffed = ETH_TRADE
        .replace(r#""events""#, r#""x\"y":"a\"},{\\","nested":{"events":[{"trades":[{}]}]},"n":null,"events""#)
        .replace(r#""side""#, r#""more":[{"side":"BUY"}],"side""#);
    let turned = r#"{"events":[{"trades":[{"side":"SELL","time":"2026-09-30T02:39:59.4104Z","size":0.84275842,"price":2667.2,"trade_id":846155167,"product_id":"ETH-USD"}],"type":"update"}],"sequence_num":"247","channel":"market_trades"}"#;
    for frame in [&spread, &stuffed, turned] {
        check(frame, Ok(&expected));
    }
}

#[test]
fn refuses_frames_that_cannot_be_read() {
    let refuses = |frame: &str, error| check(frame, Err(error));
    let missing = |field| DecodeError::Missing { field };
    let invalid = |field, reason| DecodeError::Field { field, reason };
    refuses("", DecodeError::Truncated { offset: 0 });
    refuses("[]", DecodeError::Syntax { offset: 0 });
    refuses("{}", missing("channel"));
    refuses(r#"{"channel":null}"#, missing("channel"));
    refuses(r#"{"channel":7,"sequence_num":1}"#, invalid("channel", Reason::FieldType));
    refuses(r#"{"channel":"l2_dat\u0061","sequence_num":1,"events":[]}"#, invalid("channel", Reason::FieldType));
    refuses(r#"{"channel":"status"}"#, missing("sequence_num"));
    refuses(r#"{"channel":"l2_data","events":[]}"#, missing("sequence_num"));
    refuses(r#"{"channel":"l2_data","sequence_num":-1,"events":[]}"#, invalid("sequence_num", Reason::Number));
    refuses(r#"{"channel":"l2_data","sequence_num":1}"#, missing("events"));
    refuses(r#"{"channel":"l2_data","sequence_num":1,"events":null}"#, missing("events"));
    refuses(r#"{"channel":"ticker","sequence_num":1,"events":{}}"#, invalid("events", Reason::FieldType));
    refuses(r#"{"type":7}"#, invalid("channel", Reason::FieldType));
    refuses(&format!("{ETH_TRADE}{ETH_TRADE}"), DecodeError::Syntax { offset: ETH_TRADE.len() });
    refuses(
        &ETH_TRADE.replace("2667.2", "2667\n2"),
        DecodeError::Syntax { offset: ETH_TRADE.find("2667").unwrap() + 4 },
    );
}

#[test]
fn every_cut_of_a_frame_is_refused() {
    for frame in [ETH_TRADE, BTC_LEVELS, PERP_SNAPSHOT, HEARTBEAT, TICKER, CANDLE] {
        for end in 0..frame.len() {
            check(&frame[..end], Err(DecodeError::Truncated { offset: end }));
        }
    }
}

/// An update of several trades, which the venue writes newest first.
#[test]
fn trades_of_an_update_come_in_the_order_of_their_numbers() {
    let trade = |id: u64, size: &str, time: &str| {
        format!(
            r#"{{"product_id":"BTC-USD","trade_id":"{id}","price":"65083.67","size":"{size}","time":"2026-08-09T21:05:{time}Z","side":"SELL"}}"#
        )
    };
    let update = |trades: &[String]| {
        let trades = trades.join(",");
        format!(
            r#"{{"channel":"market_trades","timestamp":"2026-08-09T21:06:00.01Z","sequence_num":503,"events":[{{"type":"update","trades":[{trades}]}}]}}"#
        )
    };
    #[track_caller]
    fn check_ids(frame: &str, expected: &[u64]) {
        let ids = events(frame).unwrap().into_iter().filter_map(|event| match event {
            Event::Trade(trade) => trade.id,
            _ => None,
        });
        assert_eq!(ids.collect::<Vec<_>>(), expected, "{frame}");
    }
    let [first, second, third] = [(20, "59.852346"), (21, "59.930874"), (22, "59.937562")]
        .map(|(id, time)| trade(1_068_572_100 + id, "0.00013", time));
    let ids = [1_068_572_120, 1_068_572_121, 1_068_572_122];
    check_ids(&update(&[third.clone(), second.clone(), first.clone()]), &ids);
    check_ids(&update(&[first.clone(), second.clone(), third.clone()]), &ids);
    // All of one time, as when an order takes several levels.
    let [low, high] = [4, 5].map(|id| trade(id, "1", "55.420993"));
    check_ids(&update(&[high.clone(), low.clone()]), &[4, 5]);
    check_ids(&update(&[low.clone(), high.clone()]), &[4, 5]);
    // Numbers of different products say nothing about each other.
    let other = low.replace("BTC-USD", "ETH-USD");
    check_ids(&update(&[high.clone(), other.clone()]), &[5, 4]);
    // More than are kept at once, and one among them that cannot be read.
    let mut many: Vec<_> = (0..200).rev().map(|id| trade(id, "1", &format!("{:02}", id / 4))).collect();
    check_ids(&update(&many), &(0..200).collect::<Vec<_>>());
    many[150] = r#""{}""#.to_owned();
    check_ids(&update(&many), &(0..200).filter(|id| *id != 49).collect::<Vec<_>>());
    check_ids(&update(&[]), &[]);
}
