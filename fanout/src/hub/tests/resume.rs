//! `since`: what came after it, once and in order, whatever else the client is doing.

use super::*;

/// A channel with numbers 1 to 10, of which the last 6 are retained, and room for two more.
fn check(seq: u64, subscribed: Subscribed, expected: Vec<Seen>) {
    for known in [false, true] {
        let mut rig = Rig::retaining(8);
        rig.publish_each(trades(3), 2);
        rig.publish_each(trades(0), 4);
        rig.publish_each(trades(0), 6);
        let key = rig.client();
        if known {
            rig.subscribe(key, ChannelKind::Trades, one(0));
        }
        let answer = if known && subscribed == Subscribed::New { Subscribed::Unchanged } else { subscribed };
        assert_eq!(rig.subscribe_with(key, ChannelKind::Trades, one(0), since(seq)), answer, "since {seq}");
        rig.publish_each(trades(0), 2);
        rig.turn();
        assert_eq!(rig.seen(key), [expected.clone(), data(trades(0), 11..=12)].concat(), "since {seq}, known: {known}");
    }
}

#[test]
fn a_client_gets_what_came_after_since() {
    check(10, Subscribed::New, vec![]);
    check(9, Subscribed::New, data(trades(0), [10]));
    check(4, Subscribed::New, data(trades(0), 5..=10));
}

#[test]
fn what_is_not_retained_after_since_is_announced() {
    let with_gap = |from, to| [vec![Seen::Gap(trades(0), from, to)], data(trades(0), 7..=10)].concat();
    // Two more messages push out 5 and 6 before the turn ends.
    let mut rig = Rig::retaining(6);
    rig.publish_each(trades(0), 10);
    let key = rig.client();
    rig.subscribe_with(key, ChannelKind::Trades, one(0), since(2));
    rig.turn();
    assert_eq!(rig.seen(key), [vec![Seen::Gap(trades(0), 3, 4)], data(trades(0), 5..=10)].concat());
    let late = rig.client();
    rig.subscribe_with(late, ChannelKind::Trades, one(0), since(0));
    rig.publish_each(trades(0), 2);
    rig.turn();
    let seen = rig.seen(late);
    assert_eq!(numbers_of(&seen, trades(0)), (7..=12).collect::<Vec<_>>());
    let gaps: Vec<&Seen> = seen.iter().filter(|s| matches!(s, Seen::Gap(..))).collect();
    assert_eq!(gaps, [&with_gap(1, 4)[0], &with_gap(5, 6)[0]]);
}

#[test]
fn since_ahead_of_the_channel_subscribes_all_the_same() {
    check(11, Subscribed::Ahead { last: 10 }, vec![]);
    check(u64::MAX, Subscribed::Ahead { last: 10 }, vec![]);
    let mut rig = Rig::new();
    let key = rig.client();
    let nothing_yet = rig.subscribe_with(key, ChannelKind::Trades, one(3), since(1));
    assert_eq!(nothing_yet, Subscribed::Ahead { last: 0 });
}

#[test]
fn since_means_nothing_to_a_conflated_channel() {
    let mut rig = Rig::new();
    let key = rig.client();
    assert_eq!(rig.subscribe_with(key, ChannelKind::Quotes, one(0), since(5)), Subscribed::New);
    rig.publish(&[quotes(0)]);
    rig.turn();
    assert_eq!(rig.seen(key), data(quotes(0), [1]));
}

#[test]
fn channels_resume_within_all() {
    let mut rig = Rig::retaining(6);
    rig.publish(&[trades(0), trades(1), trades(0), trades(1)]);
    let key = rig.client();
    let all = grant(ChannelKind::Trades, Selector::All);
    assert_eq!(rig.hub.resume_within_all(key, all, InstrumentId(0), 0), Subscribed::Unchanged);
    rig.turn();
    assert_eq!(rig.seen(key), [], "there is no such subscription yet");
    rig.subscribe(key, ChannelKind::Trades, Selector::All);
    assert_eq!(rig.hub.resume_within_all(key, all, InstrumentId(0), 1), Subscribed::Unchanged);
    assert_eq!(rig.hub.resume_within_all(key, all, InstrumentId(1), 0), Subscribed::Unchanged);
    assert_eq!(rig.hub.resume_within_all(key, all, InstrumentId(2), 1), Subscribed::Ahead { last: 0 });
    rig.publish(&[trades(2), trades(0)]);
    rig.turn();
    let order = [(1, 1), (0, 2), (1, 2), (2, 1), (0, 3)];
    assert_eq!(rig.seen(key), order.map(|(i, seq)| Seen::Data(trades(i), seq)));
}

/// Messages of this turn stand in the outbox when the client resumes another channel, and its socket fills up.
#[test]
fn a_resume_takes_nothing_from_the_other_channels() {
    for room in 0..=12 * FRAME_BYTES {
        let mut rig = Rig::new();
        let key = rig.client();
        rig.subscribe(key, ChannelKind::Trades, one(0));
        rig.subscribe(key, ChannelKind::Quotes, one(0));
        rig.publish(&[trades(0), trades(1), trades(1), trades(0)]);
        rig.turn();
        rig.limit(key, room);
        rig.publish(&[quotes(0)]);
        rig.publish(&[trades(0), trades(1), trades(0), trades(0)]);
        rig.subscribe_with(key, ChannelKind::Trades, one(1), since(0));
        rig.turn();
        rig.publish(&[trades(1), trades(0)]);
        rig.turn();
        let seen = rig.drain(key);
        assert_eq!(numbers_of(&seen, trades(0)), [1, 2, 3, 4, 5, 6], "after {room} bytes");
        assert_eq!(numbers_of(&seen, trades(1)), [1, 2, 3, 4], "after {room} bytes");
        assert_eq!(numbers_of(&seen, quotes(0)), [1], "after {room} bytes");
    }
}

/// A second resume goes further back while the first is still under way.
#[test]
fn resumes_that_overlap_deliver_each_message_once() {
    for (room, live_too) in (0..=8 * FRAME_BYTES).flat_map(|room| [(room, false), (room, true)]) {
        let mut rig = Rig::new();
        let key = rig.client();
        if live_too {
            rig.subscribe(key, ChannelKind::Trades, one(2));
        }
        rig.publish(&[trades(1), trades(0), trades(2), trades(1), trades(0), trades(0)]);
        rig.turn();
        let before = rig.seen(key).len();
        rig.limit(key, room);
        rig.subscribe_with(key, ChannelKind::Trades, one(0), since(1));
        rig.turn();
        rig.publish(&[trades(0), trades(1), trades(2)]);
        rig.make_room(key, room / 2);
        rig.subscribe_with(key, ChannelKind::Trades, one(1), since(0));
        let seen = rig.drain(key);
        let case = format!("after {room} bytes, live: {live_too}");
        assert_eq!(numbers_of(&seen, trades(0)), [2, 3, 4], "{case}");
        assert_eq!(numbers_of(&seen, trades(1)), [1, 2, 3], "{case}");
        assert_eq!(
            (before, numbers_of(&seen, trades(2)).len()),
            (usize::from(live_too), usize::from(live_too)),
            "{case}"
        );
    }
}

/// A client may go back in a channel that it has live: from the answer on it reads the numbers after `since`.
#[test]
fn going_back_in_a_live_channel_does_not_mix_old_and_new() {
    for room in 0..=10 * FRAME_BYTES {
        let mut rig = Rig::new();
        let key = rig.client();
        rig.subscribe(key, ChannelKind::Trades, one(0));
        rig.publish(&[trades(0); 4]);
        rig.turn();
        rig.seen(key);
        rig.publish(&[trades(0); 2]);
        rig.limit(key, room);
        rig.subscribe_with(key, ChannelKind::Trades, one(0), since(2));
        rig.turn();
        assert_eq!(rig.drain(key), data(trades(0), 3..=6), "after {room} bytes");
    }
}

#[test]
fn a_held_client_gets_nothing_up_to_since() {
    let mut rig = Rig::new();
    let key = rig.client();
    rig.subscribe(key, ChannelKind::Trades, one(0));
    rig.limit(key, 0);
    rig.publish(&[trades(0), trades(1), trades(1)]);
    rig.turn();
    assert_eq!(rig.subscribe_with(key, ChannelKind::Trades, one(1), since(2)), Subscribed::New);
    rig.publish(&[trades(1)]);
    assert_eq!(rig.drain(key), [data(trades(0), [1]), data(trades(1), [3])].concat());
}

#[test]
fn a_resume_forgets_what_was_lost_before() {
    let mut rig = Rig::retaining(2);
    let key = rig.client();
    rig.subscribe(key, ChannelKind::Trades, one(0));
    rig.limit(key, 0);
    rig.publish_each(trades(0), 1);
    rig.turn();
    rig.publish_each(trades(0), 5);
    rig.subscribe_with(key, ChannelKind::Trades, one(0), since(3));
    assert_eq!(rig.drain(key), [vec![Seen::Gap(trades(0), 4, 4)], data(trades(0), 5..=6)].concat());
}

#[test]
fn a_long_way_back_is_gone_in_several_turns() {
    let mut rig = Rig::with(|config| config.retain_bytes = 64 << 20);
    let many = 2 * CATCH_UP_MESSAGES + 10;
    rig.publish(&vec![trades(0); many]);
    let key = rig.client();
    rig.subscribe_with(key, ChannelKind::Trades, one(0), since(0));
    assert_eq!(rig.flush_dirty(), [(key, Flushed::More)]);
    rig.publish(&[trades(0)]);
    assert_eq!(rig.flush_dirty(), [(key, Flushed::More)]);
    assert_eq!(rig.flush_dirty(), [(key, Flushed::Done)]);
    assert_eq!(rig.seen(key), data(trades(0), 1..=many as u64 + 1));
}
