//! What does it cost to give one message to everybody who listens?
//!
//! Ours (sequencer and hub: numbering, encoding in JSON and in MessagePack, the retained log, each client's outbox,
//! one flush for each) against the two ways in which one would write it with tokio: a map from channel to the clients'
//! `mpsc` senders, and a `broadcast` channel, both of `Bytes` encoded once in JSON, which each client then takes from
//! its own end and writes. 10, 1,000 and 100,000 clients with one subscription each, all to the same channel; 1 and 16
//! messages a turn. Time for each turn; the throughput is in deliveries.
//!
//! The writer takes everything and does nothing with it: no system calls, which cost ten times as much as all this
//! (`outbox_flush`) and of which ours does one for each client and turn. Both of tokio's are favoured: their clients are
//! served by a loop, where in truth each would be a task that has to be woken and scheduled; and they keep no numbers,
//! no log, and no place for a client that is slow.

use std::collections::HashMap;
use std::hint::black_box;
use std::io::{Write, sink};

use benches::{STAMP, SYMBOL, Shard, VENUE, trade};
use bytes::Bytes;
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use protocol::{ChannelKind, Encoding, Stamp, encode_trade};
use tokio::sync::{broadcast, mpsc};

const CLIENTS: [usize; 3] = [10, 1_000, 100_000];
const MESSAGES_A_TURN: [usize; 2] = [1, 16];
/// Messages that a slow client of tokio's may be behind.
const QUEUE: usize = 64;

fn ours(group: &mut BenchmarkGroup<'_, WallTime>, clients: usize, messages: usize) {
    let mut shard = Shard::new(1, 1 << 20);
    for _ in 0..clients {
        let client = shard.client();
        shard.subscribe(client, ChannelKind::Trades, 0);
    }
    let mut turns = 0;
    group.bench_function(BenchmarkId::new("ours", clients), |b| {
        b.iter(|| {
            turns += 1;
            (0..messages).for_each(|_| shard.trade(0));
            shard.hand_over();
            shard.flush(&mut sink());
        });
    });
    let (delivered, writes) = (shard.hub.counters().messages_delivered, shard.hub.counters().writes);
    assert_eq!((delivered, writes), (turns * (clients * messages) as u64, turns * clients as u64));
}

/// A frame as all the naive ones share it.
fn encode(buffer: &mut Vec<u8>, seq: u64) -> Bytes {
    buffer.clear();
    encode_trade(Encoding::Json, SYMBOL, VENUE, black_box(&trade()), Stamp { seq, ..STAMP }, buffer);
    Bytes::copy_from_slice(buffer)
}

fn take_all(clients: &mut [impl Client], expected: usize) {
    let mut taken = 0;
    for client in clients {
        while let Some(frame) = client.take() {
            sink().write_all(black_box(&frame)).expect("a sink takes everything");
            taken += 1;
        }
    }
    assert_eq!(taken, expected);
}

trait Client {
    fn take(&mut self) -> Option<Bytes>;
}

impl Client for mpsc::Receiver<Bytes> {
    fn take(&mut self) -> Option<Bytes> {
        self.try_recv().ok()
    }
}

impl Client for broadcast::Receiver<Bytes> {
    fn take(&mut self) -> Option<Bytes> {
        self.try_recv().ok()
    }
}

fn tokio_mpsc(group: &mut BenchmarkGroup<'_, WallTime>, clients: usize, messages: usize) {
    let (senders, mut receivers): (Vec<_>, Vec<_>) = (0..clients).map(|_| mpsc::channel(QUEUE)).unzip();
    let channels = HashMap::from([(format!("trades.{SYMBOL}"), senders)]);
    let channel = format!("trades.{SYMBOL}");
    let (mut buffer, mut seq) = (Vec::new(), 0);
    group.bench_function(BenchmarkId::new("map_of_tokio_mpsc", clients), |b| {
        b.iter(|| {
            for _ in 0..messages {
                seq += 1;
                let frame = encode(&mut buffer, seq);
                for sender in &channels[black_box(&channel)] {
                    sender.try_send(frame.clone()).expect("the queue has room");
                }
            }
            take_all(&mut receivers, clients * messages);
        });
    });
}

fn tokio_broadcast(group: &mut BenchmarkGroup<'_, WallTime>, clients: usize, messages: usize) {
    let sender = broadcast::Sender::new(QUEUE);
    let mut receivers: Vec<_> = (0..clients).map(|_| sender.subscribe()).collect();
    let (mut buffer, mut seq) = (Vec::new(), 0);
    group.bench_function(BenchmarkId::new("tokio_broadcast", clients), |b| {
        b.iter(|| {
            for _ in 0..messages {
                seq += 1;
                assert!(sender.send(encode(&mut buffer, seq)).is_ok(), "there are receivers");
            }
            take_all(&mut receivers, clients * messages);
        });
    });
}

fn hub_publish(c: &mut Criterion) {
    for messages in MESSAGES_A_TURN {
        let mut group = c.benchmark_group(format!("hub_publish/{messages}_a_turn"));
        for clients in CLIENTS {
            group.throughput(Throughput::Elements((clients * messages) as u64));
            // A turn of 100,000 clients takes milliseconds.
            group.sample_size(if clients > 10_000 { 10 } else { 50 });
            ours(&mut group, clients, messages);
            tokio_mpsc(&mut group, clients, messages);
            tokio_broadcast(&mut group, clients, messages);
        }
        group.finish();
    }
}

criterion_group!(benches, hub_publish);
criterion_main!(benches);
