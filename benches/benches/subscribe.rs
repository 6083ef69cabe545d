//! What does it cost to subscribe and to unsubscribe, as subscriptions grow?
//!
//! Ours (`Hub::subscribe` and `Hub::unsubscribe`, with a grant that is already there) against the map that one would
//! start with, `HashMap<String, HashSet<u64>>` from channel to clients. Time for one subscription and its end, where 1,
//! 100 and 10,000 others exist
//! - `in_the_channel`: of other clients, in the same channel;
//! - `of_the_client`: of the same client, in other channels.
//!
//! The map knows less: not what a client has, so that a client's going has to look into every channel, which
//! `client_leaves` shows: a client with 20 subscriptions comes and goes, where 10,000 channels have 4 clients each.

use std::collections::{HashMap, HashSet};
use std::hint::black_box;

use benches::{Shard, grant};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use fanout::SubscribeOptions;
use protocol::{ChannelKind, Encoding, InstrumentId, Selector};

const EXISTING: [usize; 3] = [1, 100, 10_000];
const KIND: ChannelKind = ChannelKind::Trades;
const RETAIN_BYTES: usize = 1 << 20;

#[derive(Default)]
struct Map(HashMap<String, HashSet<u64>>);

impl Map {
    fn subscribe(&mut self, channel: &str, client: u64) -> bool {
        match self.0.get_mut(channel) {
            Some(clients) => clients.insert(client),
            None => self.0.entry(channel.to_owned()).or_default().insert(client),
        }
    }

    fn unsubscribe(&mut self, channel: &str, client: u64) -> bool {
        let Some(clients) = self.0.get_mut(channel) else { return false };
        let had = clients.remove(&client);
        if clients.is_empty() {
            self.0.remove(channel);
        }
        had
    }

    fn leave(&mut self, client: u64) {
        self.0.retain(|_, clients| {
            clients.remove(&client);
            !clients.is_empty()
        });
    }
}

fn channel_name(instrument: u32) -> String {
    format!("trades.S{instrument:05}/USD")
}

fn in_the_channel(c: &mut Criterion) {
    let mut group = c.benchmark_group("subscribe/in_the_channel");
    for existing in EXISTING {
        let mut shard = Shard::new(1, RETAIN_BYTES);
        for _ in 0..existing {
            let client = shard.client();
            shard.subscribe(client, KIND, 0);
        }
        let client = shard.client();
        let (grant, selector) = (grant(KIND, InstrumentId(0)), Selector::One(InstrumentId(0)));
        group.bench_function(BenchmarkId::new("ours", existing), |b| {
            b.iter(|| {
                shard.hub.subscribe(black_box(client), grant, SubscribeOptions::default(), 0);
                assert!(shard.hub.unsubscribe(black_box(client), KIND, selector, 0));
            });
        });

        let mut map = Map::default();
        let channel = channel_name(0);
        for client in 0..existing as u64 {
            map.subscribe(&channel, client);
        }
        group.bench_function(BenchmarkId::new("map_of_sets", existing), |b| {
            b.iter(|| {
                map.subscribe(black_box(&channel), u64::MAX);
                assert!(map.unsubscribe(black_box(&channel), u64::MAX));
            });
        });
    }
    group.finish();
}

fn of_the_client(c: &mut Criterion) {
    let mut group = c.benchmark_group("subscribe/of_the_client");
    for existing in EXISTING {
        let other = existing as u32;
        let mut shard = Shard::new(existing + 1, RETAIN_BYTES);
        let client = shard.client();
        for instrument in 0..other {
            shard.subscribe(client, KIND, instrument);
        }
        let (grant, selector) = (grant(KIND, InstrumentId(other)), Selector::One(InstrumentId(other)));
        group.bench_function(BenchmarkId::new("ours", existing), |b| {
            b.iter(|| {
                shard.hub.subscribe(black_box(client), grant, SubscribeOptions::default(), 0);
                assert!(shard.hub.unsubscribe(black_box(client), KIND, selector, 0));
            });
        });

        let mut map = Map::default();
        for instrument in 0..other {
            map.subscribe(&channel_name(instrument), 0);
        }
        let channel = channel_name(other);
        group.bench_function(BenchmarkId::new("map_of_sets", existing), |b| {
            b.iter(|| {
                map.subscribe(black_box(&channel), 0);
                assert!(map.unsubscribe(black_box(&channel), 0));
            });
        });
    }
    group.finish();
}

fn client_leaves(c: &mut Criterion) {
    const CHANNELS: u32 = 10_000;
    const WANTED: u32 = 20;
    let mut group = c.benchmark_group("subscribe/client_leaves");
    group.sample_size(20);

    let mut shard = Shard::new(CHANNELS as usize, RETAIN_BYTES);
    for _ in 0..4 {
        let client = shard.client();
        (0..CHANNELS).for_each(|instrument| shard.subscribe(client, KIND, instrument));
    }
    let grants: Vec<_> = (0..WANTED).map(|i| grant(KIND, InstrumentId(i * (CHANNELS / WANTED)))).collect();
    let mut now_ms = 0;
    group.bench_function("ours", |b| {
        b.iter(|| {
            now_ms += 1;
            let client = shard.hub.open(Encoding::Json, now_ms);
            for grant in &grants {
                shard.hub.subscribe(client, *grant, SubscribeOptions::default(), now_ms);
            }
            shard.hub.close(client);
            // The timer wheel lets go of clients that are gone, and the others have their heartbeats.
            while shard.hub.poll_timer(now_ms, 0).is_some() {}
            shard.flush(&mut std::io::sink());
        });
    });
    assert_eq!(shard.hub.subscriptions_total(), u64::from(4 * CHANNELS));

    let mut map = Map::default();
    let names: Vec<_> = (0..CHANNELS).map(channel_name).collect();
    for client in 0..4 {
        names.iter().for_each(|name| assert!(map.subscribe(name, client)));
    }
    group.bench_function("map_of_sets", |b| {
        b.iter(|| {
            for name in names.iter().step_by((CHANNELS / WANTED) as usize) {
                map.subscribe(name, black_box(u64::MAX));
            }
            map.leave(black_box(u64::MAX));
        });
    });
    assert_eq!(map.0.values().map(HashSet::len).sum::<usize>(), 4 * CHANNELS as usize);
    group.finish();
}

criterion_group!(benches, in_the_channel, of_the_client, client_leaves);
criterion_main!(benches);
