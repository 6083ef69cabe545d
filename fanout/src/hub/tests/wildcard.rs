//! `*` and explicit subscriptions of the same kind: every message once, and either may end first.

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
    rig.interest = Arc::new(Interest::new(1, 4));
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
