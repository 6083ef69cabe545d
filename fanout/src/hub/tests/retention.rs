//! Past retention: exactly the lost numbers are announced, or the client is named to be disconnected.

use super::*;

#[test]
fn what_is_no_longer_retained_is_announced_exactly() {
    for (room, encoding) in [(0, Encoding::Json), (5, Encoding::Json), (15, Encoding::MessagePack)] {
        let mut rig = Rig::retaining(4);
        let key = rig.client_in(encoding);
        rig.subscribe(key, ChannelKind::Trades, one(0));
        rig.subscribe(key, ChannelKind::Trades, one(1));
        rig.limit(key, room);
        rig.publish_each(trades(0), 1);
        rig.turn();
        rig.publish_each(trades(0), 2);
        rig.publish_each(trades(1), 1);
        rig.publish_each(trades(2), 1);
        rig.publish_each(trades(0), 3);
        // Retained: trades(2) 1, trades(0) 4 to 6.
        let seen = rig.drain(key);
        let whole = usize::from(room > 0);
        let expected = [
            data(trades(0), 1..1 + whole as u64),
            vec![Seen::Gap(trades(0), 1 + whole as u64, 3), Seen::Gap(trades(1), 1, 1)],
            data(trades(0), 4..=6),
        ];
        assert_eq!(seen, expected.concat(), "after {room} bytes");
        assert_eq!(rig.hub.counters().gaps_announced, 2);
    }
}

#[test]
fn a_gap_names_only_what_the_client_would_have_got() {
    let mut rig = Rig::retaining(2);
    let key = rig.client();
    rig.subscribe(key, ChannelKind::Trades, one(0));
    rig.limit(key, 0);
    rig.publish_each(trades(0), 1);
    rig.turn();
    rig.publish_each(trades(1), 10);
    rig.subscribe(key, ChannelKind::Trades, one(1));
    rig.publish_each(trades(1), 2);
    // It is told of 9 and 10 or later: from its place in the log on, where nothing older is left.
    assert_eq!(
        rig.drain(key),
        [vec![Seen::Gap(trades(0), 1, 1), Seen::Gap(trades(1), 9, 10)], data(trades(1), 11..=12)].concat()
    );
}

#[test]
fn under_disconnect_the_client_is_named_once() {
    let mut rig = Rig::with(|config| {
        config.slow_consumer = SlowConsumer::Disconnect;
        config.retain_bytes = 2 * SEGMENT_BYTES;
    });
    let (slow, other, fast) = (rig.client(), rig.client(), rig.client());
    rig.subscribe(slow, ChannelKind::Trades, one(0));
    rig.subscribe(other, ChannelKind::Trades, one(1));
    rig.subscribe(fast, ChannelKind::Trades, one(0));
    rig.limit(slow, 0);
    rig.limit(other, 0);
    rig.publish_each(trades(1), 1);
    rig.publish_each(trades(0), 1);
    rig.turn();
    assert_eq!(rig.hub.take_overrun(), []);
    rig.publish_each(trades(0), 5);
    rig.turn();
    let mut overrun = rig.hub.take_overrun();
    overrun.sort_unstable_by_key(|key| key.slot);
    assert_eq!(overrun, [slow, other]);
    assert_eq!(rig.hub.take_overrun(), []);
    assert_eq!(rig.seen(fast), data(trades(0), 1..=6));
}

/// So much comes in one turn that the log has let the first of it go when the socket turns out to be full.
#[test]
fn a_turn_larger_than_the_log_loses_nothing_silently() {
    for (room, policy) in (0..=5 * FRAME_BYTES).flat_map(|r| [(r, SlowConsumer::Gap), (r, SlowConsumer::Disconnect)]) {
        let mut rig = Rig::with(|config| {
            config.retain_bytes = 2 * SEGMENT_BYTES;
            config.slow_consumer = policy;
        });
        let (slow, fast) = (rig.client(), rig.client());
        for key in [slow, fast] {
            rig.subscribe(key, ChannelKind::Trades, one(0));
        }
        rig.limit(slow, room);
        rig.publish_each(trades(0), 5);
        rig.turn();
        assert_eq!(rig.seen(fast), data(trades(0), 1..=5));
        // A message of which a part is sent is sent; of the others, 4 and 5 are retained.
        let sent = room.div_ceil(FRAME_BYTES) as u64;
        let overrun = sent < 3 && policy == SlowConsumer::Disconnect;
        assert_eq!(rig.hub.take_overrun(), if overrun { vec![slow] } else { vec![] }, "after {room} bytes");
        let gap = (sent < 3).then_some(Seen::Gap(trades(0), sent + 1, 3));
        let expected = [data(trades(0), 1..=sent), Vec::from_iter(gap), data(trades(0), sent.max(3) + 1..=5)].concat();
        assert_eq!(rig.drain(slow), expected, "after {room} bytes");
    }
}

/// The numbers that the delay line threw away never come; whoever listens, waits or resumes is told.
#[test]
fn a_hole_in_the_numbering_is_announced_to_everybody() {
    let mut rig = Rig::new();
    let (live, blocked, later) = (rig.client(), rig.client(), rig.client());
    for key in [live, blocked] {
        rig.subscribe(key, ChannelKind::Trades, one(0));
    }
    rig.limit(blocked, 0);
    rig.publish(&[trades(0), trades(0)]);
    rig.turn();
    rig.seqs.insert(trades(0), 5);
    rig.publish(&[trades(0)]);
    rig.turn();
    let hole = Seen::Gap(trades(0), 3, 5);
    assert_eq!(rig.seen(live), [data(trades(0), 1..=2), vec![hole.clone()], data(trades(0), [6])].concat());
    rig.subscribe_with(later, ChannelKind::Trades, one(0), since(1));
    rig.turn();
    for (key, first) in [(blocked, 1), (later, 2)] {
        let seen = rig.drain(key);
        assert_eq!(numbers_of(&seen, trades(0)), [(first..=2).collect(), vec![6]].concat());
        assert!(seen.contains(&hole), "{seen:?}");
    }
    let within = rig.client();
    rig.subscribe_with(within, ChannelKind::Trades, one(0), since(4));
    rig.turn();
    assert_eq!(rig.seen(within), [Seen::Gap(trades(0), 5, 5), Seen::Data(trades(0), 6)]);
}

#[test]
fn a_hole_at_the_start_is_announced_too() {
    let mut rig = Rig::new();
    let key = rig.client();
    rig.subscribe(key, ChannelKind::Trades, one(0));
    rig.seqs.insert(trades(0), 7);
    rig.publish(&[trades(0)]);
    rig.turn();
    assert_eq!(rig.seen(key), [Seen::Gap(trades(0), 1, 7), Seen::Data(trades(0), 8)]);
}

#[test]
fn notices_of_holes_do_not_grow_a_blocked_client() {
    let mut rig = Rig::new();
    let key = rig.client();
    rig.subscribe(key, ChannelKind::Trades, one(0));
    rig.limit(key, 0);
    rig.publish(&[trades(0)]);
    rig.turn();
    for _ in 0..500 {
        rig.next_seq(trades(0));
        rig.publish(&[trades(0)]);
        rig.turn();
    }
    assert!(rig.hub.control_pending_bytes(key) <= 5_000, "{} bytes", rig.hub.control_pending_bytes(key));
    for _ in 0..20 {
        rig.make_room(key, 100);
        assert!(rig.hub.control_pending_bytes(key) <= 5_000, "{} bytes", rig.hub.control_pending_bytes(key));
    }
    let seen = rig.drain(key);
    assert_eq!(numbers_of(&seen, trades(0)), (0..=500).map(|i| 2 * i + 1).collect::<Vec<_>>());
    for i in 1..=500 {
        assert!(seen.contains(&Seen::Gap(trades(0), 2 * i, 2 * i)), "number {}", 2 * i);
    }
}

#[test]
fn the_log_stays_within_its_bound() {
    let mut rig = Rig::retaining(10);
    for _ in 0..50 {
        rig.publish(&[trades(0)]);
        assert!(rig.hub.retained_bytes() <= 10 * SEGMENT_BYTES);
    }
    assert_eq!(rig.hub.retained_bytes(), 10 * SEGMENT_BYTES);
}
