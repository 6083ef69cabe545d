//! A subscription that goes over to the other freshness: nothing is lost on the way to real time.

use super::*;

const SYMBOL: u32 = 0;

fn delayed(kind: ChannelKind) -> ChannelId {
    ChannelId::new(InstrumentId(SYMBOL), kind, Freshness::Delayed)
}

fn grant_of(kind: ChannelKind, selector: Selector, freshness: Freshness) -> Grant {
    let real_time = Some(freshness == Freshness::RealTime);
    let user = User { real_time, ..User::new("somebody", Tier::Enterprise) };
    decide(&Principal::new(&user, &Tiers::default()), Channel { kind, selector }, None, 0).unwrap()
}

impl Rig {
    fn subscribe_delayed(&mut self, key: SubscriberKey, kind: ChannelKind, selector: Selector, interval_ms: u32) {
        let grant = grant_of(kind, selector, Freshness::Delayed);
        assert_eq!(self.hub.subscribe(key, grant, every(interval_ms), self.now_ms), Subscribed::New);
    }

    fn regrant(&mut self, key: SubscriberKey, kind: ChannelKind, selector: Selector, freshness: Freshness) -> bool {
        self.hub.regrant(key, grant_of(kind, selector, freshness), self.now_ms)
    }
}

/// The numbers of a kind, of either freshness, in the order in which they came.
fn numbers(seen: &[Seen], kind: ChannelKind) -> Vec<u64> {
    let of_kind = |channel: &ChannelId| channel.kind() == kind;
    seen.iter().filter_map(|s| if let Seen::Data(c, seq) = s { of_kind(c).then_some(*seq) } else { None }).collect()
}

/// Whether the socket is full, messages wait in the outbox, or all is sent: each number comes once.
#[test]
fn real_time_goes_on_after_the_last_delayed_number() {
    let (live, late) = (trades(SYMBOL), delayed(ChannelKind::Trades));
    for (room, flushed) in (0..=6 * FRAME_BYTES).flat_map(|room| [(room, false), (room, true)]) {
        let mut rig = Rig::new();
        let key = rig.client();
        rig.subscribe_delayed(key, ChannelKind::Trades, one(SYMBOL), 0);
        rig.publish_each(live, 5);
        rig.limit(key, room);
        rig.publish_each(late, 3);
        if flushed {
            rig.turn();
        }
        assert!(rig.regrant(key, ChannelKind::Trades, one(SYMBOL), Freshness::RealTime));
        rig.turn();
        rig.publish_each(late, 1);
        rig.publish_each(live, 2);
        let seen = rig.drain(key);
        assert_eq!(numbers(&seen, ChannelKind::Trades), [1, 2, 3, 4, 5, 6, 7], "after {room} bytes: {seen:?}");
        assert_eq!(rig.hub.subscription_count(key), 1);
    }
}

#[test]
fn what_is_no_longer_retained_on_the_way_is_announced() {
    let mut rig = Rig::retaining(6);
    let key = rig.client();
    rig.subscribe_delayed(key, ChannelKind::Trades, one(SYMBOL), 0);
    rig.publish_each(delayed(ChannelKind::Trades), 2);
    rig.turn();
    rig.publish_each(trades(SYMBOL), 10);
    rig.seen(key);
    assert!(rig.regrant(key, ChannelKind::Trades, one(SYMBOL), Freshness::RealTime));
    rig.turn();
    assert_eq!(rig.seen(key), [vec![Seen::Gap(trades(SYMBOL), 3, 4)], data(trades(SYMBOL), 5..=10)].concat());
}

#[test]
fn delayed_data_goes_on_with_its_own_numbers() {
    for flushed in [true, false] {
        let mut rig = Rig::new();
        let key = rig.client();
        rig.subscribe(key, ChannelKind::Trades, one(SYMBOL));
        rig.publish_each(trades(SYMBOL), 5);
        rig.publish_each(delayed(ChannelKind::Trades), 2);
        if flushed {
            rig.turn();
            rig.seen(key);
        }
        assert!(rig.regrant(key, ChannelKind::Trades, one(SYMBOL), Freshness::Delayed));
        rig.turn();
        rig.publish_each(trades(SYMBOL), 1);
        rig.publish_each(delayed(ChannelKind::Trades), 2);
        rig.turn();
        // What stood in the outbox is no longer the client's; what of the delayed data came in the same turn may be.
        let first = if flushed { 3 } else { 1 };
        assert_eq!(rig.seen(key), data(delayed(ChannelKind::Trades), first..=4));
    }
}

#[test]
fn an_interval_is_kept() {
    let mut rig = Rig::new();
    let key = rig.client();
    rig.subscribe_delayed(key, ChannelKind::Quotes, one(SYMBOL), 100);
    rig.publish(&[delayed(ChannelKind::Quotes)]);
    rig.turn();
    rig.seen(key);
    assert!(rig.regrant(key, ChannelKind::Quotes, one(SYMBOL), Freshness::RealTime));
    for _ in 0..3 {
        rig.publish(&[quotes(SYMBOL), delayed(ChannelKind::Quotes)]);
        rig.turn();
    }
    assert_eq!(rig.seen(key), data(quotes(SYMBOL), [1]));
    rig.advance(110);
    assert_eq!(rig.seen(key), data(quotes(SYMBOL), [3]));
}

#[test]
fn all_and_what_it_covers_go_over_together() {
    let (live, late) = (trades(SYMBOL), delayed(ChannelKind::Trades));
    let mut rig = Rig::new();
    let key = rig.client();
    rig.subscribe_delayed(key, ChannelKind::Trades, Selector::All, 0);
    rig.subscribe_delayed(key, ChannelKind::Trades, one(SYMBOL), 0);
    rig.publish_each(live, 3);
    rig.publish_each(late, 1);
    rig.turn();
    assert_eq!(rig.seen(key), data(late, [1]));
    for selector in [one(SYMBOL), Selector::All] {
        assert!(rig.regrant(key, ChannelKind::Trades, selector, Freshness::RealTime));
        assert!(!rig.regrant(key, ChannelKind::Trades, selector, Freshness::RealTime), "it is by now");
    }
    rig.publish(&[live, trades(1), late]);
    rig.turn();
    let expected = [data(live, 2..=4), data(trades(1), [1])].concat();
    assert_eq!(rig.seen(key), expected);
    for selector in [Selector::All, one(SYMBOL)] {
        assert!(rig.regrant(key, ChannelKind::Trades, selector, Freshness::Delayed));
    }
    rig.publish(&[live, late]);
    rig.turn();
    assert_eq!(rig.seen(key), data(late, [3]));
}

#[test]
fn there_is_nothing_to_replace_without_a_subscription() {
    let mut rig = Rig::new();
    let key = rig.client();
    assert!(!rig.regrant(key, ChannelKind::Trades, one(SYMBOL), Freshness::RealTime));
    rig.hub.close(key);
    assert!(!rig.regrant(key, ChannelKind::Trades, one(SYMBOL), Freshness::RealTime));
}
