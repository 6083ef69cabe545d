//! Conflated channels: a last value on subscribing, the newest to who was away, never a stale one.

use super::*;

#[test]
fn a_newcomer_gets_the_last_value_that_the_shard_has() {
    let mut rig = Rig::new();
    let (first, second, all) = (rig.client(), rig.client(), rig.client());
    rig.subscribe(first, ChannelKind::Quotes, one(0));
    rig.publish_wanted(quotes(0));
    rig.publish_wanted(quotes(0));
    rig.turn();
    rig.interest.take_asked(0, |_, _| ());
    rig.subscribe(second, ChannelKind::Quotes, one(0));
    assert!(!rig.interest.is_asked(), "the shard has it");
    rig.subscribe(all, ChannelKind::Quotes, Selector::All);
    rig.turn();
    for key in [second, all] {
        assert_eq!(rig.seen(key), data(quotes(0), [2]));
    }
    rig.serve_snapshots();
    rig.turn();
    for key in [second, all] {
        assert_eq!(rig.seen(key), [], "known already");
    }
    assert_eq!(rig.seen(first), data(quotes(0), 1..=2), "nobody else is bothered");
}

#[test]
fn a_newcomer_asks_for_the_last_value_that_the_shard_has_not() {
    for encoding in Encoding::ALL {
        for selector in [one(0), Selector::All] {
            let mut rig = Rig::new();
            rig.publish_wanted(quotes(0));
            rig.publish_wanted(quotes(0));
            let key = rig.client_in(encoding);
            rig.subscribe(key, ChannelKind::Quotes, selector);
            rig.serve_snapshots();
            rig.turn();
            assert_eq!(rig.seen(key), data(quotes(0), [2]));
            rig.publish_wanted(quotes(0));
            rig.turn();
            assert_eq!(rig.seen(key), data(quotes(0), [3]));
        }
    }
}

#[test]
fn nothing_is_encoded_while_nobody_wants_it() {
    let mut rig = Rig::new();
    let wanted = |rig: &Rig| rig.interest.wanted(quotes(0)).collect::<Vec<_>>();
    let (json, msgpack, all) = (rig.client(), rig.client_in(Encoding::MessagePack), rig.client());
    assert_eq!(wanted(&rig), []);
    rig.subscribe(json, ChannelKind::Quotes, one(0));
    assert_eq!(wanted(&rig), [Encoding::Json]);
    rig.subscribe(msgpack, ChannelKind::Quotes, one(0));
    assert_eq!(wanted(&rig), Encoding::ALL);
    rig.subscribe(all, ChannelKind::Quotes, Selector::All);
    rig.hub.close(msgpack);
    rig.unsubscribe(json, ChannelKind::Quotes, one(0));
    assert_eq!(wanted(&rig), [Encoding::Json]);
    rig.hub.close(all);
    assert_eq!(wanted(&rig), []);
}

/// While nobody wants a channel its last value is not kept up to date, so it must not be shown afterwards.
#[test]
fn no_stale_value_after_nobody_wanted_the_channel() {
    for (before, after) in
        [(one(0), one(0)), (one(0), Selector::All), (Selector::All, one(0)), (Selector::All, Selector::All)]
    {
        let mut rig = Rig::new();
        let key = rig.client();
        rig.subscribe(key, ChannelKind::Quotes, before);
        rig.publish_wanted(quotes(0));
        rig.turn();
        rig.unsubscribe(key, ChannelKind::Quotes, before);
        rig.publish_wanted(quotes(0));
        rig.publish_wanted(quotes(0));
        rig.seen(key);
        rig.subscribe(key, ChannelKind::Quotes, after);
        rig.turn();
        assert_eq!(rig.seen(key), [], "{before:?}, then {after:?}");
        rig.serve_snapshots();
        rig.turn();
        assert_eq!(rig.seen(key), data(quotes(0), [3]), "{before:?}, then {after:?}");
    }
}

/// An explicit subscription comes and goes before the sequencer has looked; the `*` of another still waits.
#[test]
fn who_leaves_takes_no_request_of_others_with_him() {
    let mut rig = Rig::new();
    rig.publish_wanted(quotes(0));
    let (all, other) = (rig.client(), rig.client());
    rig.subscribe(all, ChannelKind::Quotes, Selector::All);
    rig.subscribe(other, ChannelKind::Quotes, one(0));
    rig.unsubscribe(other, ChannelKind::Quotes, one(0));
    rig.serve_snapshots();
    rig.turn();
    assert_eq!(rig.seen(all), data(quotes(0), [1]));
}

#[test]
fn a_client_that_was_away_gets_the_newest_of_each_channel_in_order_of_arrival() {
    let mut rig = Rig::new();
    let key = rig.client();
    rig.subscribe(key, ChannelKind::Quotes, Selector::All);
    rig.limit(key, 0);
    rig.publish(&[quotes(0), quotes(1), quotes(2)]);
    rig.turn();
    rig.publish(&[quotes(2), quotes(0), quotes(0)]);
    rig.publish(&[quotes(2)]);
    assert_eq!(rig.drain(key), [(1, 1), (0, 3), (2, 3)].map(|(i, seq)| Seen::Data(quotes(i), seq)));
    assert_eq!(rig.hub.counters().conflated, 4);
}

#[test]
fn a_held_newcomer_is_owed_the_last_value() {
    let mut rig = Rig::new();
    let (key, other) = (rig.client(), rig.client());
    rig.subscribe(other, ChannelKind::Quotes, one(0));
    rig.publish(&[quotes(0)]);
    rig.limit(key, 0);
    rig.say(key, "answer");
    rig.turn();
    rig.subscribe(key, ChannelKind::Quotes, one(0));
    rig.publish(&[quotes(0)]);
    assert_eq!(rig.drain(key), [Seen::Control("answer".into()), Seen::Data(quotes(0), 2)]);
}

#[test]
fn an_unsubscribed_channel_is_no_longer_owed() {
    let mut rig = Rig::new();
    let key = rig.client();
    rig.subscribe(key, ChannelKind::Quotes, one(0));
    rig.subscribe(key, ChannelKind::Quotes, one(1));
    rig.limit(key, 3);
    rig.publish(&[quotes(1), quotes(0), quotes(1)]);
    rig.turn();
    rig.unsubscribe(key, ChannelKind::Quotes, one(1));
    assert_eq!(rig.drain(key), [data(quotes(1), [1]), data(quotes(0), [1])].concat(), "but for the frame that was cut");
}
