//! `*` and explicit subscriptions of the same kind: every message once, and either may end first. `*` is about all instruments
//! but the streams of single sources.

use super::*;

#[test]
fn a_message_comes_once_in_whatever_order_the_two_are_made() {
    for all_first in [false, true] {
        for kind in [ChannelKind::Trades, ChannelKind::Quotes] {
            let mut rig = Rig::new();
            let key = rig.client();
            let [a, b] = if all_first { [Selector::All, one(1)] } else { [one(1), Selector::All] };
            rig.subscribe(key, kind, a);
            rig.subscribe(key, kind, b);
            rig.publish(&[channel(kind, 0), channel(kind, 1)]);
            rig.turn();
            let both = [data(channel(kind, 0), [1]), data(channel(kind, 1), [1])].concat();
            assert_eq!(rig.seen(key), both, "{kind:?}, * first: {all_first}");
            // A kind beside it is not touched by the `*`.
            rig.publish(&[channel(ChannelKind::Bars, 1)]);
            rig.turn();
            assert_eq!(rig.seen(key), []);
        }
    }
}

#[test]
fn the_end_of_all_restores_the_explicit_ones() {
    for kind in [ChannelKind::Trades, ChannelKind::Quotes] {
        let mut rig = Rig::new();
        let key = rig.client();
        rig.subscribe(key, kind, one(1));
        rig.subscribe(key, kind, Selector::All);
        rig.subscribe(key, kind, one(2));
        rig.unsubscribe(key, kind, Selector::All);
        rig.publish(&[channel(kind, 0), channel(kind, 1), channel(kind, 2)]);
        rig.turn();
        assert_eq!(rig.seen(key), [data(channel(kind, 1), [1]), data(channel(kind, 2), [1])].concat());
        rig.unsubscribe(key, kind, one(1));
        rig.publish(&[channel(kind, 0), channel(kind, 1), channel(kind, 2)]);
        rig.turn();
        assert_eq!(rig.seen(key), data(channel(kind, 2), [2]));
    }
}

#[test]
fn all_goes_on_when_an_explicit_one_ends() {
    for kind in [ChannelKind::Trades, ChannelKind::Quotes] {
        let mut rig = Rig::new();
        let key = rig.client();
        rig.subscribe(key, kind, one(1));
        rig.subscribe(key, kind, Selector::All);
        rig.unsubscribe(key, kind, one(1));
        rig.publish(&[channel(kind, 0), channel(kind, 1)]);
        rig.turn();
        assert_eq!(rig.seen(key), [data(channel(kind, 0), [1]), data(channel(kind, 1), [1])].concat());
    }
}

/// The explicit subscription ends while the client waits; what `*` owes it stays.
#[test]
fn a_held_client_is_owed_what_all_still_covers() {
    let mut rig = Rig::retaining(3);
    let key = rig.client();
    for kind in [ChannelKind::Trades, ChannelKind::Quotes] {
        rig.subscribe(key, kind, Selector::All);
        rig.subscribe(key, kind, one(0));
        rig.subscribe(key, kind, one(1));
    }
    rig.publish(&[trades(0)]);
    rig.publish(&[trades(1)]);
    rig.publish(&[quotes(0), quotes(1)]);
    rig.turn();
    rig.seen(key);
    rig.limit(key, 0);
    rig.say(key, "answer");
    rig.turn();
    let all = grant(ChannelKind::Trades, Selector::All);
    rig.hub.resume_within_all(key, all, InstrumentId(1), 0);
    rig.publish_each(trades(0), 4);
    rig.publish(&[quotes(1)]);
    for kind in [ChannelKind::Trades, ChannelKind::Quotes] {
        rig.unsubscribe(key, kind, one(0));
        rig.unsubscribe(key, kind, one(1));
    }
    let seen = rig.drain(key);
    let gaps = [Seen::Gap(trades(1), 1, 1), Seen::Gap(trades(0), 2, 2)];
    assert!(gaps.iter().all(|gap| seen.contains(gap)), "{seen:?}");
    assert_eq!((numbers_of(&seen, trades(0)), numbers_of(&seen, quotes(1))), (vec![3, 4, 5], vec![2]));
}

#[test]
fn a_held_client_still_resumes_what_the_other_subscription_covers() {
    for drop_all in [false, true] {
        let mut rig = Rig::new();
        let key = rig.client();
        rig.subscribe(key, ChannelKind::Trades, Selector::All);
        rig.subscribe(key, ChannelKind::Trades, one(1));
        rig.publish(&[trades(1); 3]);
        rig.turn();
        rig.seen(key);
        rig.limit(key, FRAME_BYTES + 3);
        let all = grant(ChannelKind::Trades, Selector::All);
        rig.hub.resume_within_all(key, all, InstrumentId(1), 0);
        rig.turn();
        rig.unsubscribe(key, ChannelKind::Trades, if drop_all { Selector::All } else { one(1) });
        assert_eq!(rig.drain(key), data(trades(1), 1..=3), "* ends: {drop_all}");
    }
}

#[test]
fn instruments_that_appear_later_are_in_all() {
    let mut rig = Rig::new();
    rig.instruments = Arc::new(InstrumentTable::with_capacity(4));
    rig.interest = Arc::new(Interest::new(1, rig.instruments.clone()));
    rig.hub = Hub::new(rig.hub.config.clone(), rig.instruments.clone(), rig.interest.clone(), rig.now_ms);
    let key = rig.client();
    rig.subscribe(key, ChannelKind::Trades, Selector::All);
    rig.subscribe(key, ChannelKind::Quotes, Selector::All);
    rig.instruments.learn(SYMBOLS[0]).unwrap();
    rig.publish(&[trades(0)]);
    rig.publish_wanted(quotes(0));
    rig.turn();
    assert_eq!(rig.seen(key), [data(trades(0), [1]), data(quotes(0), [1])].concat());
}

#[test]
fn streams_of_single_sources_are_not_in_all() {
    for kind in [ChannelKind::Trades, ChannelKind::Quotes] {
        let mut rig = Rig::new();
        let [everything, alone, both, also_both] = [rig.client(), rig.client(), rig.client(), rig.client()];
        rig.subscribe(everything, kind, Selector::All);
        rig.subscribe(alone, kind, one(ALONE));
        for (key, selectors) in [(both, [Selector::All, one(ALONE)]), (also_both, [one(ALONE), Selector::All])] {
            selectors.into_iter().for_each(|selector| rig.subscribe(key, kind, selector));
        }
        rig.publish(&[channel(kind, ALONE), channel(kind, 0)]);
        rig.turn();
        let [of_source, plain] = [data(channel(kind, ALONE), [1]), data(channel(kind, 0), [1])];
        assert_eq!(rig.seen(everything), plain, "{kind:?}");
        assert_eq!(rig.seen(alone), of_source, "{kind:?}");
        for key in [both, also_both] {
            assert_eq!(rig.seen(key), [of_source.clone(), plain.clone()].concat(), "{kind:?}");
        }
        // Either of the two may end, and the other goes on alone.
        rig.unsubscribe(both, kind, Selector::All);
        rig.unsubscribe(also_both, kind, one(ALONE));
        rig.publish(&[channel(kind, ALONE), channel(kind, 0)]);
        rig.turn();
        assert_eq!(rig.seen(both), data(channel(kind, ALONE), [2]), "{kind:?}");
        assert_eq!(rig.seen(also_both), data(channel(kind, 0), [2]), "{kind:?}");
    }
}

#[test]
fn what_is_caught_up_from_the_log_is_without_single_sources() {
    let mut rig = Rig::retaining(4);
    let [key, quick] = [rig.client(), rig.client()];
    for kind in [ChannelKind::Trades, ChannelKind::Quotes] {
        rig.subscribe(key, kind, Selector::All);
        rig.subscribe(quick, kind, one(ALONE));
    }
    rig.limit(key, 0);
    rig.say(key, "answer");
    rig.turn();
    // The first two are evicted, and the second of them is a loss.
    rig.publish(&[trades(ALONE)]);
    rig.publish_each(trades(0), 3);
    rig.publish_each(trades(ALONE), 2);
    rig.publish(&[quotes(ALONE), quotes(1)]);
    let seen = rig.drain(key);
    let expected = [vec![Seen::Control("answer".into())], vec![Seen::Gap(trades(0), 1, 1)], data(quotes(1), [1])];
    assert_eq!(seen, [expected.concat(), data(trades(0), 2..=3)].concat());

    let all = grant(ChannelKind::Trades, Selector::All);
    assert_eq!(rig.hub.resume_within_all(key, all, InstrumentId(ALONE), 9), Subscribed::Unchanged, "as if unknown");
    assert_eq!(rig.hub.resume_within_all(key, all, InstrumentId(ALONE), 0), Subscribed::Unchanged);
    // A hole is announced to those who listen only.
    rig.next_seq(trades(ALONE));
    rig.publish(&[trades(ALONE)]);
    rig.turn();
    assert_eq!(rig.seen(key), []);
    rig.advance(HEARTBEAT_MS + 10);
    assert_eq!(rig.seen(key), [Seen::Heartbeat(vec![(trades(0), 3)])]);
}

#[test]
fn all_asks_for_no_last_value_of_a_single_source() {
    let mut rig = Rig::new();
    let [key, alone, late] = [rig.client(), rig.client(), rig.client()];
    let publish = |rig: &mut Rig| [0, ALONE].map(|instrument| rig.publish_wanted(quotes(instrument)));
    publish(&mut rig);
    rig.subscribe(key, ChannelKind::Quotes, Selector::All);
    rig.interest.take_asked(SYMBOLS.len(), |channel, _| assert_ne!(channel, quotes(ALONE)));
    assert!(rig.interest.wanted(quotes(0)).eq([Encoding::Json]));
    assert!(rig.interest.wanted(quotes(ALONE)).next().is_none(), "not even encoded");

    // Somebody else's wish for it is none of theirs who have `*`.
    rig.subscribe(alone, ChannelKind::Quotes, one(ALONE));
    rig.serve_snapshots();
    publish(&mut rig);
    rig.subscribe(late, ChannelKind::Quotes, Selector::All);
    rig.turn();
    assert_eq!(rig.seen(alone), data(quotes(ALONE), 1..=2));
    assert_eq!(rig.seen(key), data(quotes(0), [2]));
    assert_eq!(rig.seen(late), data(quotes(0), [2]));
    rig.unsubscribe(alone, ChannelKind::Quotes, one(ALONE));
    assert!(rig.interest.wanted(quotes(ALONE)).next().is_none());
    // Its last value is let go with it, though there are others who have `*`.
    publish(&mut rig);
    rig.subscribe(alone, ChannelKind::Quotes, one(ALONE));
    rig.turn();
    assert_eq!(rig.seen(alone), []);
    rig.serve_snapshots();
    rig.turn();
    assert_eq!(rig.seen(alone), data(quotes(ALONE), [3]));
}

#[test]
fn a_single_source_keeps_its_own_pace_beside_all() {
    let mut rig = Rig::new();
    let key = rig.client();
    rig.subscribe(key, ChannelKind::Quotes, Selector::All);
    rig.subscribe_with(key, ChannelKind::Quotes, one(ALONE), every(100));
    let publish = |rig: &mut Rig| {
        rig.publish(&[quotes(0), quotes(ALONE)]);
        rig.turn();
    };
    publish(&mut rig);
    publish(&mut rig);
    assert_eq!(rig.seen(key), [Seen::Data(quotes(0), 1), Seen::Data(quotes(ALONE), 1), Seen::Data(quotes(0), 2)]);
    // Neither another pace of the `*` nor its end is about what waits there.
    rig.subscribe_with(key, ChannelKind::Quotes, Selector::All, every(1_000));
    rig.turn();
    assert_eq!(rig.seen(key), []);
    rig.unsubscribe(key, ChannelKind::Quotes, Selector::All);
    rig.advance(110);
    assert_eq!(rig.seen(key), data(quotes(ALONE), [2]));
}
