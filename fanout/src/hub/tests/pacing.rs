//! `max_rate`: the first value at once, then the latest at most once an interval, and the last one always.

use super::*;

/// When which values of a channel came, ms after the start.
fn arrivals(rig: &mut Rig, key: SubscriberKey, start: u64, seen: &mut Vec<(u64, u64)>) {
    let now = rig.now_ms - start;
    seen.extend(rig.seen(key).into_iter().filter_map(|s| match s {
        Seen::Data(_, seq) => Some((now, seq)),
        _ => None,
    }));
}

#[test]
fn a_paced_channel_comes_once_an_interval_and_ends_with_the_last_value() {
    for selector in [one(0), Selector::All] {
        let mut rig = Rig::new();
        let (paced, other) = (rig.client(), rig.client());
        rig.subscribe_with(paced, ChannelKind::Quotes, selector, every(100));
        rig.subscribe(other, ChannelKind::Quotes, one(0));
        let (start, mut seen) = (rig.now_ms, Vec::new());
        for step in 0..100 {
            if step < 50 {
                rig.publish(&[quotes(0)]);
                rig.turn();
            }
            arrivals(&mut rig, paced, start, &mut seen);
            rig.advance(10);
            arrivals(&mut rig, paced, start, &mut seen);
        }
        assert_eq!(seen[0], (0, 1), "the first at once");
        assert!(seen.is_sorted_by(|a, b| b.0 - a.0 >= 100 && b.1 > a.1), "{seen:?}");
        assert!((5..=7).contains(&seen.len()), "{seen:?}");
        assert_eq!(seen.last().unwrap().1, 50, "the last value comes too");
        assert!(seen.last().unwrap().0 <= 610, "and soon: {seen:?}");
        assert_eq!(numbers_of(&rig.seen(other), quotes(0)), (1..=50).collect::<Vec<_>>());
    }
}

#[test]
fn each_channel_has_its_own_pace() {
    let mut rig = Rig::new();
    let key = rig.client();
    rig.subscribe_with(key, ChannelKind::Quotes, one(0), every(1_000));
    rig.subscribe(key, ChannelKind::Quotes, one(1));
    rig.subscribe_with(key, ChannelKind::Trades, one(0), every(1_000));
    for _ in 0..3 {
        rig.publish(&[quotes(0), quotes(1)]);
        rig.publish(&[trades(0)]);
        rig.turn();
        rig.advance(100);
    }
    let seen = rig.seen(key);
    assert_eq!(numbers_of(&seen, quotes(0)), [1]);
    assert_eq!(numbers_of(&seen, quotes(1)), [1, 2, 3]);
    assert_eq!(numbers_of(&seen, trades(0)), [1, 2, 3], "sequenced channels are never paced");
    rig.advance(1_000);
    assert_eq!(rig.seen(key), data(quotes(0), [3]));
}

#[test]
fn the_snapshot_counts_as_the_first_value() {
    let mut rig = Rig::new();
    let (other, key) = (rig.client(), rig.client());
    rig.subscribe(other, ChannelKind::Quotes, one(0));
    rig.publish(&[quotes(0)]);
    rig.subscribe_with(key, ChannelKind::Quotes, one(0), every(100));
    rig.publish(&[quotes(0)]);
    rig.turn();
    assert_eq!(rig.seen(key), data(quotes(0), [1]));
    rig.advance(110);
    assert_eq!(rig.seen(key), data(quotes(0), [2]));
}

/// The paced value stands in the outbox when the socket fills up.
#[test]
fn a_paced_value_that_the_socket_refused_is_still_owed() {
    for room in 0..=FRAME_BYTES {
        let mut rig = Rig::new();
        let key = rig.client();
        rig.subscribe_with(key, ChannelKind::Quotes, one(0), every(100));
        rig.limit(key, room);
        rig.publish(&[quotes(0)]);
        rig.turn();
        assert_eq!(rig.drain(key), data(quotes(0), [1]), "after {room} bytes");
    }
}

#[test]
fn a_paced_client_that_was_away_gets_the_newest_soon() {
    let mut rig = Rig::new();
    let key = rig.client();
    rig.subscribe_with(key, ChannelKind::Quotes, one(0), every(100));
    rig.limit(key, 3);
    rig.publish(&[quotes(0)]);
    rig.turn();
    for _ in 0..20 {
        rig.publish(&[quotes(0)]);
        rig.turn();
        rig.advance(50);
    }
    let mut seen = rig.drain(key);
    assert_eq!(seen.remove(0), Seen::Data(quotes(0), 1), "the frame that was cut");
    rig.advance(110);
    seen.extend(rig.seen(key));
    assert_eq!(seen, data(quotes(0), [21]));
}

#[test]
fn pacing_begins_and_ends_with_a_new_request() {
    let mut rig = Rig::new();
    let key = rig.client();
    rig.subscribe(key, ChannelKind::Quotes, one(0));
    rig.limit(key, 0);
    rig.publish(&[quotes(0)]);
    rig.turn();
    rig.publish(&[quotes(0)]);
    // Asked for while the client is held: what it is owed stays owed.
    assert_eq!(rig.subscribe_with(key, ChannelKind::Quotes, one(0), every(100)), Subscribed::Unchanged);
    assert_eq!(rig.drain(key), data(quotes(0), [2]));
    rig.publish(&[quotes(0)]);
    rig.publish(&[quotes(0)]);
    rig.turn();
    assert_eq!(rig.seen(key), data(quotes(0), [3]));
    rig.subscribe_with(key, ChannelKind::Quotes, one(0), every(0));
    rig.publish(&[quotes(0)]);
    rig.turn();
    rig.publish(&[quotes(0)]);
    rig.turn();
    assert_eq!(rig.seen(key), data(quotes(0), 4..=6), "what waited goes at once");
    rig.advance(1_000);
    assert_eq!(rig.seen(key), [], "nothing is left waiting");
}

#[test]
fn the_end_of_an_explicit_subscription_leaves_what_all_waits_for() {
    let mut rig = Rig::new();
    let key = rig.client();
    rig.subscribe_with(key, ChannelKind::Quotes, Selector::All, every(100));
    rig.subscribe(key, ChannelKind::Quotes, one(0));
    rig.publish(&[quotes(0)]);
    rig.publish(&[quotes(0)]);
    rig.turn();
    rig.unsubscribe(key, ChannelKind::Quotes, one(0));
    rig.advance(110);
    assert_eq!(rig.seen(key), data(quotes(0), 1..=2));
}

/// A timer for each paced value, and the heartbeat's behind it: they must not pile up.
#[test]
fn timers_do_not_pile_up() {
    let mut rig = Rig::new();
    let (paced, blocked) = (rig.client(), rig.client());
    for key in [paced, blocked] {
        rig.subscribe_with(key, ChannelKind::Quotes, one(0), every(20));
    }
    rig.limit(blocked, 0);
    for _ in 0..1_000 {
        rig.publish(&[quotes(0)]);
        rig.turn();
        rig.advance(10);
    }
    assert!(rig.hub.wheel.armed() <= 6, "{} timers for two clients", rig.hub.wheel.armed());
}
