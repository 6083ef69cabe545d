//! What does a client cost that does not read, while 500 quotes go on?
//!
//! Ours (a held client keeps a place in the stream, and the hub one last value of each channel for all clients)
//! against a map from symbol to the latest frame for each client, `HashMap<&str, Bytes>`. 1 and 100 clients are subscribed to
//! 500 conflated channels, and their sockets are full. Then come 10,000 updates, spread over the channels, after which
//! the sockets take everything again and each client is written the latest of each channel. Time for all of that; the
//! throughput is in updates times clients. Each update is numbered and encoded once, in JSON, in both.
//!
//! The writer takes everything and does nothing with it.

use std::collections::HashMap;
use std::hint::black_box;
use std::io::{Write, sink};

use benches::{FullSocket, STAMP, Shard, quote};
use bytes::Bytes;
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use protocol::{ChannelKind, Encoding, InstrumentTable, Stamp, encode_quote};

const CHANNELS: u32 = 500;
const UPDATES: u32 = 10_000;
const CLIENTS: [usize; 2] = [1, 100];

/// The channels in an order that is not that of their names: 7919 is prime, so each has its turn.
fn updates() -> impl Iterator<Item = u32> {
    (0..UPDATES).map(|update| (update * 7_919) % CHANNELS)
}

fn ours(group: &mut BenchmarkGroup<'_, WallTime>, clients: usize) {
    let mut shard = Shard::new(CHANNELS as usize, 1 << 20);
    let keys: Vec<_> = (0..clients).map(|_| shard.client()).collect();
    for &key in &keys {
        (0..CHANNELS).for_each(|channel| shard.subscribe(key, ChannelKind::Quotes, channel));
    }
    let mut rounds = 0;
    group.bench_function(BenchmarkId::new("ours", clients), |b| {
        b.iter(|| {
            rounds += 1;
            // The first segment finds the sockets full.
            for channel in updates() {
                shard.quote(channel);
                if shard.sequencer.has_full_segment() {
                    shard.hand_over();
                    shard.flush(&mut FullSocket);
                }
            }
            shard.hand_over();
            shard.flush(&mut FullSocket);
            keys.iter().for_each(|key| shard.hub.writable(*key));
            shard.flush(&mut sink());
        });
    });
    let delivered = shard.hub.counters().messages_delivered;
    assert_eq!(delivered, rounds * clients as u64 * u64::from(CHANNELS), "the latest of each channel, once");
}

fn map_for_each_client(group: &mut BenchmarkGroup<'_, WallTime>, clients: usize) {
    let instruments = InstrumentTable::with_capacity(CHANNELS as usize);
    let ids: Vec<_> =
        (0..CHANNELS).map(|i| instruments.learn(&format!("S{i:05}/USD")).expect("the table has room")).collect();
    let mut pending: Vec<HashMap<&str, Bytes>> = vec![HashMap::new(); clients];
    let (mut buffer, mut seqs) = (Vec::new(), vec![0; CHANNELS as usize]);
    let (mut rounds, mut delivered) = (0, 0);
    group.bench_function(BenchmarkId::new("map_for_each_client", clients), |b| {
        b.iter(|| {
            rounds += 1;
            for channel in updates() {
                let seq = &mut seqs[channel as usize];
                *seq += 1;
                let symbol = instruments.symbol(ids[channel as usize]);
                buffer.clear();
                encode_quote(Encoding::Json, symbol, &quote(), Stamp { seq: *seq, ..STAMP }, &mut buffer);
                let frame = Bytes::copy_from_slice(&buffer);
                for client in &mut pending {
                    client.insert(symbol, frame.clone());
                }
            }
            for client in &mut pending {
                for (_, frame) in client.drain() {
                    sink().write_all(black_box(&frame)).expect("a sink takes everything");
                    delivered += 1;
                }
            }
        });
    });
    assert_eq!(delivered, rounds * clients * CHANNELS as usize);
}

fn conflation(c: &mut Criterion) {
    let mut group = c.benchmark_group("conflation");
    group.sample_size(20);
    for clients in CLIENTS {
        group.throughput(Throughput::Elements(u64::from(UPDATES) * clients as u64));
        ours(&mut group, clients);
        map_for_each_client(&mut group, clients);
    }
    group.finish();
}

criterion_group!(benches, conflation);
criterion_main!(benches);
