//! What does it cost to hand a tick from a feed to its readers?
//!
//! Ours (`feed_handlers::ring`) against what else carries values between threads: `tokio::sync::broadcast`, the
//! `disruptor` crate (both a stream that every reader sees whole), and crossbeam's bounded channel and `ArrayQueue`,
//! of which each value goes to one reader, so that every reader gets one of its own and the publisher pushes into
//! each. All of 1,024 ticks.
//!
//! - `publish`: 64 ticks into a ring whose oldest ones go, with one reader that is never asked. Only ours, broadcast
//!   and `ArrayQueue::force_push` can do that; the others would have to wait or refuse.
//! - `publish_and_poll`: 64 ticks in, then out by each of 1 and 4 readers, on one thread: the work without the
//!   travelling of cache lines.
//! - `stream`: one thread publishes without loss, another reads, each on a core of its own and spinning: time for each
//!   tick. Ours asks for room before each 64, since it would overwrite; broadcast has no way to wait either, and asks
//!   for its length as often.
//! - `there_and_back`: a tick to another thread and back by a second ring, both threads spinning. Half of it is the
//!   hand-over.
//!
//! Deliberately absent: 4 readers on threads of their own. The reference machine has two cores; that would measure
//! its scheduler. And the doorbell: who spins needs none.

use std::hint::black_box;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use benches::tick;
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use crossbeam::channel;
use crossbeam::queue::ArrayQueue;
use disruptor::{
    BusySpin, EventPoller, MultiConsumerBarrier, Producer, SingleConsumerBarrier, SingleProducer, SingleProducerBarrier,
};
use feed_handlers::doorbell::{Doorbell, WaitStrategy};
use feed_handlers::ring::{Polled, Publisher, Reader, ring};
use protocol::{Tick, TickBody};
use tokio::sync::broadcast;

const CAPACITY: usize = 1_024;
/// Ticks that are published before the readers look, and between two looks at the room.
const BATCH: usize = 64;

/// The writing end of something that carries ticks to every reader.
trait Outlet: Send + 'static {
    type Inlet: Inlet;

    /// With `readers` readers.
    fn new(readers: usize) -> (Self, Vec<Self::Inlet>)
    where
        Self: Sized;

    /// Puts a tick in; where it waits for room, a reader has to be at work.
    fn publish(&mut self, tick: &Tick);

    /// Waits until a batch can be published without loss. Nothing where [`Self::publish`] waits itself.
    fn wait_for_room(&mut self) {}
}

/// A reading end.
trait Inlet: Send + 'static {
    /// Hands out what is there now.
    ///
    /// # Panics
    /// Where ticks were lost.
    fn drain(&mut self, take: impl FnMut(&Tick));
}

impl Outlet for Publisher<Tick> {
    type Inlet = Reader<Tick>;

    fn new(readers: usize) -> (Self, Vec<Reader<Tick>>) {
        let publisher = ring(CAPACITY, Arc::new(Doorbell::new(WaitStrategy::Spin)));
        let readers = (0..readers).map(|_| publisher.reader()).collect();
        (publisher, readers)
    }

    fn publish(&mut self, tick: &Tick) {
        Publisher::publish(self, tick);
    }

    fn wait_for_room(&mut self) {
        while self.room() < BATCH {
            std::hint::spin_loop();
        }
    }
}

impl Inlet for Reader<Tick> {
    fn drain(&mut self, mut take: impl FnMut(&Tick)) {
        loop {
            match self.poll() {
                Polled::Record(tick) => take(&tick),
                Polled::Empty => return,
                Polled::Lapped { lost } => panic!("{lost} ticks are lost"),
            }
        }
    }
}

impl Outlet for broadcast::Sender<Tick> {
    type Inlet = broadcast::Receiver<Tick>;

    fn new(readers: usize) -> (Self, Vec<broadcast::Receiver<Tick>>) {
        let sender = broadcast::Sender::new(CAPACITY);
        let readers = (0..readers).map(|_| sender.subscribe()).collect();
        (sender, readers)
    }

    fn publish(&mut self, tick: &Tick) {
        assert!(self.send(*tick).is_ok(), "there is a reader");
    }

    fn wait_for_room(&mut self) {
        while self.len() > CAPACITY - BATCH {
            std::hint::spin_loop();
        }
    }
}

impl Inlet for broadcast::Receiver<Tick> {
    fn drain(&mut self, mut take: impl FnMut(&Tick)) {
        loop {
            match self.try_recv() {
                Ok(tick) => take(&tick),
                Err(broadcast::error::TryRecvError::Lagged(lost)) => panic!("{lost} ticks are lost"),
                Err(_) => return,
            }
        }
    }
}

/// One bounded channel for each reader.
struct Channels(Vec<channel::Sender<Tick>>);

impl Outlet for Channels {
    type Inlet = channel::Receiver<Tick>;

    fn new(readers: usize) -> (Self, Vec<channel::Receiver<Tick>>) {
        let (senders, receivers) = (0..readers).map(|_| channel::bounded(CAPACITY)).unzip();
        (Channels(senders), receivers)
    }

    fn publish(&mut self, tick: &Tick) {
        for sender in &self.0 {
            while sender.try_send(*tick).is_err() {
                std::hint::spin_loop();
            }
        }
    }
}

impl Inlet for channel::Receiver<Tick> {
    fn drain(&mut self, mut take: impl FnMut(&Tick)) {
        while let Ok(tick) = self.try_recv() {
            take(&tick);
        }
    }
}

/// One queue for each reader.
struct Queues(Vec<Arc<ArrayQueue<Tick>>>);

impl Outlet for Queues {
    type Inlet = Arc<ArrayQueue<Tick>>;

    fn new(readers: usize) -> (Self, Vec<Arc<ArrayQueue<Tick>>>) {
        let queues: Vec<_> = (0..readers).map(|_| Arc::new(ArrayQueue::new(CAPACITY))).collect();
        (Queues(queues.clone()), queues)
    }

    fn publish(&mut self, tick: &Tick) {
        for queue in &self.0 {
            while queue.push(*tick).is_err() {
                std::hint::spin_loop();
            }
        }
    }
}

impl Inlet for Arc<ArrayQueue<Tick>> {
    fn drain(&mut self, mut take: impl FnMut(&Tick)) {
        while let Some(tick) = self.pop() {
            take(&tick);
        }
    }
}

/// With one reader the crate has a shorter way.
enum Disruptor {
    One(SingleProducer<Tick, SingleConsumerBarrier>),
    Many(SingleProducer<Tick, MultiConsumerBarrier>),
}

impl Outlet for Disruptor {
    type Inlet = EventPoller<Tick, SingleProducerBarrier>;

    fn new(readers: usize) -> (Self, Vec<Self::Inlet>) {
        let builder = disruptor::build_single_producer(CAPACITY, || tick(0), BusySpin);
        if readers == 1 {
            let (poller, builder) = builder.new_event_poller();
            return (Disruptor::One(builder.build()), vec![poller]);
        }
        let mut builder = builder.with_multi_consumer();
        let mut pollers = Vec::new();
        for _ in 0..readers {
            let (poller, next) = builder.new_event_poller();
            pollers.push(poller);
            builder = next;
        }
        (Disruptor::Many(builder.build()), pollers)
    }

    fn publish(&mut self, tick: &Tick) {
        match self {
            Disruptor::One(producer) => producer.publish(|slot| *slot = *tick),
            Disruptor::Many(producer) => producer.publish(|slot| *slot = *tick),
        }
    }
}

impl Inlet for EventPoller<Tick, SingleProducerBarrier> {
    fn drain(&mut self, take: impl FnMut(&Tick)) {
        if let Ok(mut events) = self.poll() {
            (&mut events).for_each(take);
        }
    }
}

fn publish(c: &mut Criterion) {
    let mut group = c.benchmark_group("ring/publish");
    group.throughput(Throughput::Elements(BATCH as u64));
    let tick = tick(1);

    let (mut publisher, _readers) = <Publisher<Tick> as Outlet>::new(1);
    group.bench_function("ours", |b| b.iter(|| (0..BATCH).for_each(|_| publisher.publish(black_box(&tick)))));

    let (sender, _receivers) = <broadcast::Sender<Tick> as Outlet>::new(1);
    group.bench_function("tokio_broadcast", |b| {
        b.iter(|| (0..BATCH).for_each(|_| assert!(sender.send(*black_box(&tick)).is_ok())));
    });

    let queue = ArrayQueue::new(CAPACITY);
    group.bench_function("array_queue_force_push", |b| {
        b.iter(|| (0..BATCH).for_each(|_| _ = black_box(queue.force_push(*black_box(&tick)))));
    });
    group.finish();
}

fn publish_and_poll(c: &mut Criterion) {
    fn run<O: Outlet>(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, readers: usize) {
        let (mut outlet, mut inlets) = O::new(readers);
        let tick = tick(1);
        group.bench_function(BenchmarkId::new(name, readers), |b| {
            b.iter(|| {
                (0..BATCH).for_each(|_| outlet.publish(black_box(&tick)));
                let mut taken = 0;
                for inlet in &mut inlets {
                    inlet.drain(|tick| {
                        black_box(tick);
                        taken += 1;
                    });
                }
                assert_eq!(taken, BATCH * readers);
            });
        });
    }
    let mut group = c.benchmark_group("ring/publish_and_poll");
    group.throughput(Throughput::Elements(BATCH as u64));
    for readers in [1, 4] {
        run::<Publisher<Tick>>(&mut group, "ours", readers);
        run::<broadcast::Sender<Tick>>(&mut group, "tokio_broadcast", readers);
        run::<Disruptor>(&mut group, "disruptor", readers);
        run::<Channels>(&mut group, "crossbeam_channel", readers);
        run::<Queues>(&mut group, "array_queue", readers);
    }
    group.finish();
}

/// `count` ticks from this thread to another, in order and without loss.
fn stream_of<O: Outlet>(count: u64) -> Duration {
    let (mut outlet, mut inlets) = O::new(1);
    let mut inlet = inlets.remove(0);
    let reader = thread::spawn(move || {
        let mut next = 0;
        while next < count {
            inlet.drain(|tick| {
                assert_eq!(number(tick), next);
                next += 1;
            });
            std::hint::spin_loop();
        }
    });
    let mut tick = tick(0);
    let start = Instant::now();
    for id in 0..count {
        if id % BATCH as u64 == 0 {
            outlet.wait_for_room();
        }
        set_number(&mut tick, id);
        outlet.publish(&tick);
    }
    reader.join().expect("the reader has seen every tick");
    start.elapsed()
}

/// A tick to another thread and back, `count` times.
fn there_and_back_of<O: Outlet>(count: u64) -> Duration {
    let (mut there, mut inlets) = O::new(1);
    let mut arrivals = inlets.remove(0);
    let (mut back, mut inlets) = O::new(1);
    let mut returns = inlets.remove(0);
    let echo = thread::spawn(move || {
        let mut echoed = 0;
        while echoed < count {
            arrivals.drain(|tick| {
                back.publish(tick);
                echoed += 1;
            });
            std::hint::spin_loop();
        }
        // The other end still reads from it.
        back
    });
    let mut tick = tick(0);
    let start = Instant::now();
    for id in 0..count {
        set_number(&mut tick, id);
        there.publish(&tick);
        let mut returned = false;
        while !returned {
            returns.drain(|tick| returned = number(tick) == id);
            std::hint::spin_loop();
        }
    }
    let elapsed = start.elapsed();
    drop(echo.join().expect("the echo has seen every tick"));
    elapsed
}

fn number(tick: &Tick) -> u64 {
    match tick.body {
        TickBody::Trade(trade) => trade.id.unwrap_or(0),
        _ => unreachable!("Invariant: the ticks of this bench are trades"),
    }
}

fn set_number(tick: &mut Tick, number: u64) {
    if let TickBody::Trade(trade) = &mut tick.body {
        trade.id = Some(number);
    }
}

/// A name, and the time that so many ticks take.
type Measure = (&'static str, fn(u64) -> Duration);

fn between_threads(c: &mut Criterion, name: &str, measures: [Measure; 5]) {
    let mut group = c.benchmark_group(name);
    group.throughput(Throughput::Elements(1)).sample_size(20);
    for (name, of) in measures {
        group.bench_function(name, |b| b.iter_custom(of));
    }
    group.finish();
}

fn stream(c: &mut Criterion) {
    let measures: [Measure; 5] = [
        ("ours", stream_of::<Publisher<Tick>>),
        ("tokio_broadcast", stream_of::<broadcast::Sender<Tick>>),
        ("disruptor", stream_of::<Disruptor>),
        ("crossbeam_channel", stream_of::<Channels>),
        ("array_queue", stream_of::<Queues>),
    ];
    between_threads(c, "ring/stream", measures);
}

fn there_and_back(c: &mut Criterion) {
    let measures: [Measure; 5] = [
        ("ours", there_and_back_of::<Publisher<Tick>>),
        ("tokio_broadcast", there_and_back_of::<broadcast::Sender<Tick>>),
        ("disruptor", there_and_back_of::<Disruptor>),
        ("crossbeam_channel", there_and_back_of::<Channels>),
        ("array_queue", there_and_back_of::<Queues>),
    ];
    between_threads(c, "ring/there_and_back", measures);
}

criterion_group!(benches, publish, publish_and_poll, stream, there_and_back);
criterion_main!(benches);
