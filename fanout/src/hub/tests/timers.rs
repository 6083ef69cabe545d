//! Heartbeats to quiet clients, and the end of those whose socket takes nothing.

use super::*;

fn heartbeats(seen: &[Seen]) -> Vec<&[(ChannelId, u64)]> {
    seen.iter().filter_map(|s| if let Seen::Heartbeat(seq) = s { Some(seq.as_slice()) } else { None }).collect()
}

#[test]
fn a_quiet_client_gets_heartbeats_with_its_last_numbers() {
    let mut rig = Rig::new();
    let key = rig.client();
    rig.subscribe(key, ChannelKind::Quotes, Selector::All);
    rig.subscribe(key, ChannelKind::Trades, one(0));
    rig.subscribe(key, ChannelKind::Trades, one(1));
    rig.publish(&[trades(0), trades(0), trades(2)]);
    rig.turn();
    rig.advance(HEARTBEAT_MS - 1);
    assert_eq!(rig.seen(key), data(trades(0), 1..=2));
    let fired = rig.advance(11);
    assert_eq!(fired, [Timer::Fired(key)]);
    assert_eq!(rig.seen(key), [Seen::Heartbeat(vec![(trades(0), 2)])]);
    rig.advance(3 * HEARTBEAT_MS);
    assert_eq!(heartbeats(&rig.seen(key)).len(), 3);
    assert_eq!(rig.hub.counters().heartbeats, 4);
}

#[test]
fn a_client_that_is_sent_something_gets_no_heartbeat() {
    let mut rig = Rig::new();
    let key = rig.client();
    rig.subscribe(key, ChannelKind::Quotes, one(0));
    for _ in 0..20 {
        rig.advance(HEARTBEAT_MS / 2);
        rig.publish(&[quotes(0)]);
        rig.turn();
    }
    assert_eq!(heartbeats(&rig.seen(key)).len(), 0);
}

#[test]
fn a_heartbeat_names_each_channel_once_and_sequenced_ones_only() {
    let mut rig = Rig::new();
    let key = rig.client();
    for instrument in 0..4 {
        rig.subscribe(key, ChannelKind::Quotes, one(instrument));
        rig.subscribe(key, ChannelKind::Trades, one(instrument));
    }
    rig.subscribe(key, ChannelKind::Trades, Selector::All);
    rig.publish(&[trades(0), trades(1), trades(1)]);
    rig.turn();
    rig.advance(HEARTBEAT_MS + 10);
    // A repeated key in the JSON object would not show in a map.
    let text = String::from_utf8_lossy(&rig.sockets[&key].1.received);
    assert_eq!((text.matches("BTC/USD").count(), text.matches("ETH/USD").count()), (1, 1), "{text}");
    assert_eq!(heartbeats(&rig.seen(key)), [[(trades(0), 1), (trades(1), 2)]]);
}

/// More conflated channels than a heartbeat lists do not crowd out the sequenced ones.
#[test]
fn conflated_channels_take_no_place_in_a_heartbeat() {
    let mut rig = Rig::new();
    let key = rig.client();
    for instrument in 0..HEARTBEAT_CHANNELS as u32 + 10 {
        rig.subscribe(key, ChannelKind::Quotes, one(instrument));
    }
    rig.subscribe(key, ChannelKind::Trades, one(0));
    rig.publish(&[trades(0)]);
    rig.turn();
    rig.seen(key);
    rig.advance(HEARTBEAT_MS + 10);
    assert_eq!(heartbeats(&rig.seen(key)), [[(trades(0), 1)]]);
}

/// A heartbeat passes data; one that names messages which still wait would look like a loss.
#[test]
fn a_heartbeat_does_not_overtake_what_it_counts() {
    let mut rig = Rig::new();
    let key = rig.client();
    rig.subscribe(key, ChannelKind::Trades, one(0));
    rig.now_ms += HEARTBEAT_MS + 10;
    rig.publish(&[trades(0)]);
    assert_eq!(rig.hub.poll_timer(rig.now_ms, 0), Some(Timer::Fired(key)));
    rig.turn();
    assert_eq!(rig.seen(key), data(trades(0), [1]));
    rig.limit(key, 0);
    rig.publish(&[trades(0)]);
    rig.turn();
    rig.advance(STALL_MS / 2 + 20);
    rig.limit(key, 1_000);
    rig.hub.writable(key);
    rig.now_ms += HEARTBEAT_MS;
    while rig.hub.poll_timer(rig.now_ms, 0).is_some() {}
    assert_eq!(rig.drain(key), data(trades(0), [2]));
    rig.advance(HEARTBEAT_MS + 10);
    assert_eq!(rig.seen(key), [Seen::Heartbeat(vec![(trades(0), 2)])]);
}

#[test]
fn a_socket_that_takes_nothing_is_given_up() {
    let mut rig = Rig::new();
    let key = rig.client();
    rig.subscribe(key, ChannelKind::Trades, one(0));
    rig.limit(key, 3);
    rig.publish(&[trades(0)]);
    rig.turn();
    let fired = rig.advance(STALL_MS - 1);
    assert!(!fired.contains(&Timer::Stalled(key)));
    assert_eq!(rig.advance(11), [Timer::Stalled(key)]);
    assert_eq!(rig.hub.counters().heartbeats, 0, "a full socket gets no heartbeats");
}

#[test]
fn a_socket_that_takes_a_little_is_not_given_up() {
    let mut rig = Rig::new();
    let key = rig.client();
    rig.subscribe(key, ChannelKind::Trades, one(0));
    rig.limit(key, 0);
    rig.publish(&[trades(0); 10]);
    rig.turn();
    for _ in 0..10 {
        let fired = rig.advance(STALL_MS * 2 / 3);
        assert!(!fired.contains(&Timer::Stalled(key)));
        rig.make_room(key, 5);
    }
    rig.drain(key);
    rig.advance(HEARTBEAT_MS + 10);
    assert_eq!(heartbeats(&rig.seen(key)).len(), 1);
}

#[test]
fn a_session_is_woken_at_a_time_of_its_own() {
    let mut rig = Rig::new();
    let (key, gone) = (rig.client(), rig.client());
    rig.hub.arm(key, rig.now_ms + 500);
    rig.hub.arm(gone, rig.now_ms + 500);
    rig.hub.close(gone);
    assert_eq!(rig.advance(499), []);
    assert_eq!(rig.advance(11), [Timer::Fired(key)]);
    assert_eq!(rig.advance(HEARTBEAT_MS - 600), [], "no timer of the client that is gone");
    assert_eq!(rig.advance(200), [Timer::Fired(key)], "the heartbeat is still to come");
    assert_eq!(heartbeats(&rig.seen(key)).len(), 1);
}
