//! A client that keeps up gets everything, in order, and holds nothing between turns.

use super::*;

#[test]
fn a_client_that_keeps_up_gets_every_message_in_order() {
    let mut rig = Rig::new();
    let key = rig.client();
    rig.subscribe(key, ChannelKind::Trades, one(0));
    rig.subscribe(key, ChannelKind::Quotes, one(1));
    for turn in 0..3u64 {
        rig.publish(&[trades(0), trades(1), trades(0)]);
        rig.publish(&[quotes(1), quotes(0), quotes(1)]);
        rig.turn();
        let (first, second) = (2 * turn + 1, 2 * turn + 2);
        let expected = [data(trades(0), first..=second), data(quotes(1), first..=second)].concat();
        assert_eq!(rig.seen(key), expected);
    }
    assert_eq!(rig.sockets[&key].1.writes, 3, "one write a turn");
    assert_eq!(rig.hub.counters().messages_delivered, 12);
    assert_eq!(rig.hub.counters().bytes_written, 12 * FRAME_BYTES as u64);
    assert_eq!(rig.hub.held_count(), 0);
}

#[test]
fn each_client_reads_its_own_encoding() {
    let mut rig = Rig::new();
    let (json, msgpack) = (rig.client_in(Encoding::Json), rig.client_in(Encoding::MessagePack));
    for key in [json, msgpack] {
        rig.subscribe(key, ChannelKind::Trades, one(0));
    }
    rig.subscribe(msgpack, ChannelKind::Quotes, one(0));
    rig.publish(&[trades(0)]);
    rig.publish(&[quotes(0)]);
    rig.turn();
    assert_eq!(rig.seen(json), data(trades(0), [1]));
    assert_eq!(rig.seen(msgpack), [data(trades(0), [1]), data(quotes(0), [1])].concat());
}

#[test]
fn more_runs_than_slices_are_written_in_several_writes() {
    let mut rig = Rig::new();
    let key = rig.client();
    rig.subscribe(key, ChannelKind::Trades, one(0));
    let alternating: Vec<ChannelId> = (0..3 * SLICES as u32).map(|i| trades(i % 2)).collect();
    rig.publish(&alternating);
    rig.turn();
    assert_eq!(rig.seen(key), data(trades(0), 1..=3 * SLICES as u64 / 2));
    assert_eq!(rig.sockets[&key].1.writes, 2);
}

#[test]
fn a_subscription_ends_at_once_and_the_others_go_on() {
    let mut rig = Rig::new();
    let (a, b, c) = (rig.client(), rig.client(), rig.client());
    for key in [a, b, c] {
        rig.subscribe(key, ChannelKind::Trades, one(0));
        rig.subscribe(key, ChannelKind::Trades, one(1));
    }
    assert_eq!(rig.subscribe_with(a, ChannelKind::Trades, one(0), SubscribeOptions::default()), Subscribed::Unchanged);
    rig.unsubscribe(a, ChannelKind::Trades, one(0));
    assert!(!rig.hub.unsubscribe(a, ChannelKind::Trades, one(0), 0), "it has none any more");
    rig.hub.close(b);
    assert_eq!(rig.hub.subscriptions(a).collect::<Vec<_>>(), [(ChannelKind::Trades, one(1))]);
    assert_eq!((rig.hub.subscription_count(b), rig.hub.subscription_count(c)), (0, 2));
    rig.publish(&[trades(0), trades(1)]);
    rig.turn();
    assert_eq!(rig.seen(a), data(trades(1), [1]));
    assert_eq!(rig.seen(b), []);
    assert_eq!(rig.seen(c), [data(trades(0), [1]), data(trades(1), [1])].concat());
}

#[test]
fn a_slot_is_used_again_under_a_new_key() {
    let mut rig = Rig::new();
    let old = rig.client();
    rig.subscribe(old, ChannelKind::Trades, one(0));
    rig.publish(&[trades(0)]);
    rig.say(old, "never sent");
    rig.hub.close(old);
    let new = rig.client_in(Encoding::MessagePack);
    assert_eq!((new.slot, new.generation), (old.slot, old.generation + 1));
    rig.turn();
    assert_eq!(rig.seen(new), [], "nothing is left of the client before");

    // The old key means nobody.
    assert_eq!(rig.hub.flush(old, &mut Socket::default(), 0), Flushed::Closed);
    rig.subscribe_with(old, ChannelKind::Trades, one(0), SubscribeOptions::default());
    rig.say(old, "for nobody");
    rig.hub.writable(old);
    rig.hub.close(old);
    rig.publish(&[trades(0)]);
    rig.turn();
    assert_eq!((rig.seen(old), rig.seen(new)), (vec![], vec![]));
    assert_eq!((rig.hub.subscription_count(old), rig.hub.subscription_count(new)), (0, 0));
    rig.subscribe(new, ChannelKind::Trades, one(0));
    rig.publish(&[trades(0)]);
    rig.turn();
    assert_eq!(rig.seen(new), data(trades(0), [3]));
}

#[test]
fn a_socket_that_is_gone_ends_the_client() {
    struct Gone(Option<io::ErrorKind>);
    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            self.0.map_or(Ok(0), |kind| Err(kind.into()))
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    for gone in [None, Some(io::ErrorKind::ConnectionReset), Some(io::ErrorKind::BrokenPipe)] {
        let mut rig = Rig::new();
        let key = rig.client();
        rig.say(key, "anything");
        assert_eq!(rig.hub.flush(key, &mut Gone(gone), 0), Flushed::Closed);
    }
}

/// 15,000 idle clients are to cost less than 1 KB each with all that is around them.
#[test]
fn a_client_is_small_and_holds_nothing_between_turns() {
    assert!(size_of::<Subscriber>() <= 256, "{} bytes", size_of::<Subscriber>());
    assert!(size_of::<Subscription>() <= 20 && size_of::<Listener>() <= 8 && size_of::<Parcel>() <= 32);
    let mut rig = Rig::new();
    let key = rig.client();
    rig.subscribe(key, ChannelKind::Quotes, one(0));
    rig.say(key, "control");
    let segment = rig.publish(&[quotes(0)]);
    assert_eq!(Arc::strong_count(&segment), 2, "in the outbox");
    rig.turn();
    assert_eq!(Arc::strong_count(&segment), 1);
    let subscriber = &rig.hub.subscribers[key.slot as usize];
    assert_eq!((subscriber.outbox.capacity(), subscriber.control.capacity()), (0, 0));
    assert!(subscriber.held.is_none() && subscriber.paces.is_none());
}

#[test]
fn nothing_of_a_channel_follows_its_unsubscription() {
    let mut rig = Rig::new();
    let key = rig.client();
    for kind in [ChannelKind::Trades, ChannelKind::Quotes] {
        rig.subscribe(key, kind, one(0));
        rig.subscribe(key, kind, one(1));
    }
    // All of it is in the outbox when the request comes; the answer would pass it.
    rig.publish(&[trades(0), trades(1), trades(0)]);
    rig.publish(&[quotes(0), quotes(1)]);
    rig.unsubscribe(key, ChannelKind::Trades, one(0));
    rig.unsubscribe(key, ChannelKind::Quotes, one(0));
    rig.turn();
    let mut seen = rig.seen(key);
    seen.sort_by_key(|message| *message != data(trades(1), [1])[0]);
    assert_eq!(seen, [data(trades(1), [1]), data(quotes(1), [1])].concat());
    rig.publish(&[trades(0), trades(1)]);
    rig.turn();
    assert_eq!(rig.seen(key), data(trades(1), [2]));
    assert_eq!(rig.hub.held_count(), 0);
}
