//! A client whose socket is full: never a cut frame, no sequenced message lost or doubled, the newest of the
//! conflated ones, and no memory.

use super::*;

/// A socket that takes `first` bytes of a turn's 12 frames, then `step` bytes at a time while the market goes
/// on, then everything.
fn check(first: usize, step: usize) {
    let case = format!("{first} bytes, then {step} at a time");
    let mut rig = Rig::new();
    let key = rig.client_in(if first.is_multiple_of(2) { Encoding::Json } else { Encoding::MessagePack });
    for instrument in 0..2 {
        rig.subscribe(key, ChannelKind::Trades, one(instrument));
        rig.subscribe(key, ChannelKind::Quotes, one(instrument));
    }
    let publish = |rig: &mut Rig| {
        rig.publish(&[trades(1), trades(2), trades(0), trades(1)]);
        rig.publish(&[quotes(0), quotes(1), quotes(2), quotes(0)]);
        rig.publish(&[trades(0), trades(2), trades(2), trades(0)]);
        rig.publish(&[quotes(1)]);
    };
    rig.limit(key, first);
    publish(&mut rig);
    rig.turn();
    for _ in 0..2 {
        publish(&mut rig);
        rig.make_room(key, step);
    }
    for _ in 0..20 {
        rig.make_room(key, step);
    }
    rig.publish(&[trades(0)]);
    let seen = rig.drain(key);
    assert_eq!(numbers_of(&seen, trades(0)), (1..=10).collect::<Vec<_>>(), "{case}");
    assert_eq!(numbers_of(&seen, trades(1)), (1..=6).collect::<Vec<_>>(), "{case}");
    for (channel, last) in [(quotes(0), 6), (quotes(1), 6)] {
        let numbers = numbers_of(&seen, channel);
        assert!(numbers.is_sorted_by(|a, b| a < b), "{case}: {numbers:?}");
        assert_eq!(numbers.last(), Some(&last), "{case}");
    }
    assert_eq!(rig.hub.counters().messages_delivered, seen.len() as u64, "{case}");
    assert_eq!(rig.hub.held_count(), 0, "{case}");
    rig.publish(&[trades(1)]);
    rig.turn();
    assert_eq!(rig.seen(key), data(trades(1), [7]), "{case}: live again");
}

#[test]
fn whatever_the_socket_takes_the_stream_goes_on_correctly() {
    for first in 0..=12 * FRAME_BYTES {
        for step in [1, 7, FRAME_BYTES, FRAME_BYTES + 1, 5 * FRAME_BYTES] {
            check(first, step);
        }
    }
}

#[test]
fn sequenced_messages_keep_the_order_of_the_log() {
    for room in 0..6 * FRAME_BYTES {
        let mut rig = Rig::new();
        let key = rig.client();
        rig.subscribe(key, ChannelKind::Trades, Selector::All);
        rig.limit(key, room);
        rig.publish(&[trades(2), trades(0), trades(1)]);
        rig.publish(&[trades(0), trades(2), trades(0)]);
        rig.turn();
        rig.publish(&[trades(1), trades(1), trades(2)]);
        let order = [(2, 1), (0, 1), (1, 1), (0, 2), (2, 2), (0, 3), (1, 2), (1, 3), (2, 3)];
        assert_eq!(rig.drain(key), order.map(|(i, seq)| Seen::Data(trades(i), seq)), "after {room} bytes");
    }
}

#[test]
fn control_passes_data_but_never_splits_a_frame() {
    for room in 0..=5 * FRAME_BYTES {
        let mut rig = Rig::new();
        let key = rig.client();
        rig.subscribe(key, ChannelKind::Trades, one(0));
        rig.limit(key, room);
        rig.publish(&[trades(0); 4]);
        rig.turn();
        rig.say(key, "first");
        // The first of the two control messages may be cut as well.
        rig.make_room(key, 5);
        rig.say(key, "second");
        rig.make_room(key, 5);
        let seen = rig.drain(key);
        let place = |text: &str| seen.iter().position(|s| *s == Seen::Control(text.to_owned())).unwrap();
        let begun = room.div_ceil(FRAME_BYTES).min(4);
        assert_eq!((place("first"), numbers_of(&seen, trades(0))), (begun, vec![1, 2, 3, 4]), "after {room} bytes");
        // The rest of a cut frame and of "first" took the 10 bytes, or a data message began in between.
        assert!((begun + 1..=begun + 2).contains(&place("second")), "after {room} bytes: {seen:?}");
    }
}

#[test]
fn a_held_client_keeps_no_message_alive() {
    for room in [0, 5, FRAME_BYTES, FRAME_BYTES + 5, 3 * FRAME_BYTES] {
        let mut rig = Rig::retaining(1);
        let key = rig.client();
        rig.subscribe(key, ChannelKind::Trades, one(0));
        rig.subscribe(key, ChannelKind::Quotes, one(0));
        rig.limit(key, room);
        let (old, conflated) = (rig.publish(&[trades(0); 3]), rig.publish(&[quotes(0)]));
        rig.turn();
        rig.publish_each(trades(0), 2);
        assert_eq!((Arc::strong_count(&old), Arc::strong_count(&conflated)), (1, 1), "after {room} bytes");
        let subscriber = &rig.hub.subscribers[key.slot as usize];
        assert_eq!(subscriber.outbox.capacity(), 0);
        assert!(subscriber.held.as_ref().unwrap().partial.len() < FRAME_BYTES);
    }
}

#[test]
fn what_a_held_client_costs_does_not_grow_with_the_messages() {
    let cost = |rig: &Rig, key: SubscriberKey| {
        let subscriber = &rig.hub.subscribers[key.slot as usize];
        let held = subscriber.held.as_ref().unwrap();
        (held.owed.len(), held.lost.len(), held.resumed.len(), held.wanted.len(), subscriber.control.len())
    };
    let mut rig = Rig::retaining(4);
    let key = rig.client();
    for instrument in 0..3 {
        rig.subscribe(key, ChannelKind::Trades, one(instrument));
        rig.subscribe(key, ChannelKind::Quotes, one(instrument));
    }
    rig.limit(key, 0);
    let publish = |rig: &mut Rig| {
        for instrument in 0..3 {
            rig.publish(&[trades(instrument)]);
            rig.publish(&[quotes(instrument)]);
        }
        rig.turn();
    };
    (0..3).for_each(|_| publish(&mut rig));
    let before = cost(&rig, key);
    (0..100).for_each(|_| publish(&mut rig));
    assert_eq!(cost(&rig, key), before);
}

#[test]
fn the_control_lane_is_bounded_while_the_client_reads_slowly() {
    let mut rig = Rig::with(|config| config.control_bytes_max = 1_000);
    let key = rig.client();
    rig.limit(key, 0);
    let mut accepted = 0;
    while rig.say(key, &format!("answer {accepted:>3}")) {
        accepted += 1;
    }
    // 12 bytes each, and the one that goes over the bound.
    assert_eq!(accepted, 1_000 / 12 + 1);
    assert_eq!(rig.hub.control_pending_bytes(key), accepted * 12);
    for _ in 0..1_000 {
        rig.make_room(key, 12);
        assert!(rig.say(key, &format!("answer {:>3}", accepted % 1_000)), "there is room again");
        accepted += 1;
        assert!(rig.hub.subscribers[key.slot as usize].control.len() <= 1_000 + 2 * 12, "what is sent is let go");
    }
    let texts: Vec<Seen> = (0..accepted).map(|i| Seen::Control(format!("answer {:>3}", i % 1_000))).collect();
    assert_eq!(rig.drain(key), texts);
}

#[test]
fn a_client_that_catches_up_lets_the_others_pass() {
    let mut rig = Rig::with(|config| config.retain_bytes = 64 << 20);
    let (slow, fast) = (rig.client(), rig.client());
    for key in [slow, fast] {
        rig.subscribe(key, ChannelKind::Trades, one(0));
    }
    // A frame is cut: its rest comes once, though there are several turns.
    rig.limit(slow, 3);
    for _ in 0..3 {
        rig.publish(&vec![trades(0); CATCH_UP_MESSAGES]);
        rig.turn();
    }
    rig.seen(fast);
    rig.sockets.get_mut(&slow).unwrap().1.room = None;
    rig.hub.writable(slow);
    rig.publish(&[trades(0); 2]);
    let mut first = rig.flush_dirty();
    first.sort_unstable_by_key(|(key, _)| key.slot);
    assert_eq!(first, [(slow, Flushed::More), (fast, Flushed::Done)], "everybody once a turn");
    for expected in [Flushed::More, Flushed::More, Flushed::Done] {
        assert_eq!(rig.flush_dirty(), [(slow, expected)]);
    }
    assert_eq!(rig.seen(slow), data(trades(0), 1..=3 * CATCH_UP_MESSAGES as u64 + 2));
}
