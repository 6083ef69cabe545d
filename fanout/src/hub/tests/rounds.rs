//! Clients are served in a line, and rest between writes where the shard says so.

use super::*;

#[test]
fn everybody_has_a_turn_before_anybody_has_two() {
    let mut rig = Rig::new();
    let (a, b, c) = (rig.client(), rig.client(), rig.client());
    for key in [a, b, c] {
        rig.subscribe(key, ChannelKind::Trades, one(0));
    }
    rig.turn();
    rig.publish(&[trades(0)]);
    let first = rig.hub.next_dirty().unwrap();
    let (_, socket) = rig.sockets.get_mut(&first).unwrap();
    assert_eq!(rig.hub.flush(first, socket, rig.now_ms), Flushed::Done);
    // Comes while the line is served: to those who wait with what they wait for, to the first one at the end.
    rig.publish(&[trades(0)]);
    let line = rig.flush_dirty();
    assert_eq!(line.len(), 3);
    assert_eq!(line[2], (first, Flushed::Done));
    for key in [a, b, c] {
        assert_eq!(rig.seen(key), data(trades(0), 1..=2));
    }
    assert_eq!(rig.hub.counters().writes, 4);
}

#[test]
fn nobody_is_always_first_or_last() {
    for selector in [one(0), Selector::All] {
        let mut rig = Rig::new();
        let clients: Vec<_> = (0..10).map(|_| rig.client()).collect();
        for key in &clients {
            rig.subscribe(*key, ChannelKind::Trades, selector);
        }
        rig.turn();
        let (mut firsts, mut lasts) = (HashMap::new(), HashMap::new());
        for _ in 0..1_000 {
            rig.publish(&[trades(0)]);
            let line = rig.flush_dirty();
            assert_eq!(line.len(), clients.len());
            *firsts.entry(line[0].0).or_insert(0) += 1;
            *lasts.entry(line[9].0).or_insert(0) += 1;
        }
        for key in &clients {
            assert!((90..=110).contains(&firsts[key]) && (90..=110).contains(&lasts[key]), "{firsts:?} {lasts:?}");
        }
    }
}

#[test]
fn what_comes_during_a_rest_goes_out_in_one_write_when_it_is_over() {
    let mut rig = Rig::new();
    let key = rig.client();
    rig.subscribe(key, ChannelKind::Trades, one(0));
    rig.turn();
    rig.hub.set_round_ms(5);
    assert_eq!(rig.hub.next_round_ms(), None);
    rig.publish(&[trades(0)]);
    rig.turn();
    assert_eq!(rig.seen(key), data(trades(0), 1..=1), "nobody rests who has not been written to");
    let (writes, until_ms) = (rig.hub.counters().writes, rig.now_ms + 5);
    assert_eq!(rig.hub.next_round_ms(), None, "nothing waits");
    while rig.now_ms < until_ms {
        rig.publish(&[trades(0)]);
        rig.turn();
        assert_eq!(rig.seen(key), []);
        assert_eq!(rig.hub.next_round_ms(), Some(until_ms));
        rig.advance(1);
    }
    rig.turn();
    assert_eq!(rig.seen(key), data(trades(0), 2..=6));
    assert_eq!(rig.hub.counters().writes, writes + 1);
}

#[test]
fn control_messages_end_a_rest_and_take_the_data_along() {
    let mut rig = Rig::new();
    let key = rig.client();
    rig.subscribe(key, ChannelKind::Trades, one(0));
    rig.turn();
    rig.hub.set_round_ms(1_000);
    rig.publish_each(trades(0), 2);
    rig.turn();
    rig.seen(key);
    rig.publish(&[trades(0)]);
    rig.say(key, "hello");
    rig.turn();
    assert_eq!(rig.seen(key), [vec![Seen::Control("hello".into())], data(trades(0), 3..=3)].concat());
}

#[test]
fn whoever_leaves_while_data_waits_for_it_leaves_nothing_behind() {
    let mut rig = Rig::new();
    let key = rig.client();
    rig.subscribe(key, ChannelKind::Trades, one(0));
    rig.turn();
    rig.hub.set_round_ms(5);
    for _ in 0..2 {
        rig.publish(&[trades(0)]);
        rig.turn();
    }
    assert!(rig.hub.is_owed(key));
    assert!(rig.hub.next_round_ms().is_some());
    rig.hub.close(key);
    assert!(!rig.hub.is_owed(key));
    assert_eq!(rig.hub.next_round_ms(), None);
    let next = rig.client();
    rig.subscribe(next, ChannelKind::Trades, one(0));
    rig.publish(&[trades(0)]);
    rig.turn();
    assert_eq!(rig.seen(next), data(trades(0), 3..=3), "the slot's next client does not rest for it");
}
