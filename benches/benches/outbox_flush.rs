//! What does it cost to write the n messages that one client has coming?
//!
//! Four ways: a write for each frame; all frames copied into one buffer and one write; ours where the frames lie next
//! to each other in a segment (`ours_adjacent`: one slice, as for a client that takes all of a channel's run); ours
//! where they do not (`ours_scattered`: every second message is another channel's, so each frame is a slice of one
//! vectored write, of which 64 go at once). To three places: a writer that takes everything and does nothing, a
//! connected pair of Unix sockets, and a TCP connection on the loopback interface with Nagle's algorithm off.
//!
//! Timed is the writing alone, with the two looks at the clock (about 50 ns together). The messages are published
//! before, and the other end is drained after it. On the loopback interface the write includes the kernel's receiving
//! side, up to the other socket's buffer.

use std::hint::black_box;
use std::io::{self, IoSlice, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use benches::{STAMP, SYMBOL, Shard, VENUE, trade};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use fanout::Flushed;
use protocol::{ChannelKind, Encoding, Stamp, encode_trade};

/// Up to what the default buffer of a socket takes in pieces of one frame.
const MESSAGES: [usize; 3] = [1, 16, 128];

/// A connection and its other end.
trait Pair {
    type End: Write;

    fn end(&mut self) -> &mut Self::End;

    /// Takes what was written from the other end.
    fn drain(&mut self, bytes: usize);
}

/// Takes everything, out of the optimiser's sight.
struct Null;

impl Write for Null {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(black_box(bytes).len())
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(black_box(slices).iter().map(|slice| slice.len()).sum())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Pair for Null {
    type End = Null;

    fn end(&mut self) -> &mut Null {
        self
    }

    fn drain(&mut self, _: usize) {}
}

struct Connected<S>(S, S);

impl<S: Read + Write> Pair for Connected<S> {
    type End = S;

    fn end(&mut self) -> &mut S {
        &mut self.0
    }

    fn drain(&mut self, mut bytes: usize) {
        let mut buffer = [0; 65_536];
        while bytes > 0 {
            bytes -= self.1.read(&mut buffer).expect("the connection stands");
        }
    }
}

fn unix() -> Connected<UnixStream> {
    let (near, far) = UnixStream::pair().expect("a pair of sockets");
    Connected(near, far)
}

fn loopback() -> Connected<TcpStream> {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let near = TcpStream::connect(listener.local_addr().expect("bound")).expect("a listener");
    let (far, _) = listener.accept().expect("a connection");
    near.set_nodelay(true).expect("a TCP socket");
    Connected(near, far)
}

fn frames(messages: usize) -> Vec<Vec<u8>> {
    let frame = |seq| {
        let mut frame = Vec::new();
        encode_trade(Encoding::Json, SYMBOL, VENUE, &trade(), Stamp { seq, ..STAMP }, &mut frame);
        frame
    };
    (0..messages as u64).map(frame).collect()
}

/// A shard whose one client has had nothing yet. It listens to one of two channels.
fn shard() -> (Shard, fanout::SubscriberKey) {
    let mut shard = Shard::new(2, 1 << 20);
    let client = shard.client();
    shard.subscribe(client, ChannelKind::Trades, 0);
    (shard, client)
}

/// A short write would leave the pair out of step.
fn write_whole(end: &mut impl Write, bytes: &[u8]) {
    assert_eq!(end.write(bytes).expect("the connection stands"), bytes.len(), "the buffer has room");
}

/// The time of `write`, which returns how many bytes it wrote, `iterations` times.
fn timed<P: Pair>(iterations: u64, pair: &mut P, mut write: impl FnMut(&mut P::End) -> usize) -> Duration {
    let mut total = Duration::ZERO;
    for _ in 0..iterations {
        let start = Instant::now();
        let bytes = write(pair.end());
        total += start.elapsed();
        pair.drain(bytes);
    }
    total
}

/// The same for the hub's flush. Between two messages for the client there is one for nobody where they are scattered.
fn timed_flush<P: Pair>(iterations: u64, pair: &mut P, messages: usize, scattered: bool) -> Duration {
    let (mut shard, client) = shard();
    let mut total = Duration::ZERO;
    for _ in 0..iterations {
        for _ in 0..messages {
            shard.trade(0);
            if scattered {
                shard.trade(1);
            }
        }
        shard.hand_over();
        assert_eq!(shard.hub.next_dirty(), Some(client));
        let before = shard.hub.counters().bytes_written;
        let start = Instant::now();
        let flushed = shard.hub.flush(client, pair.end(), 0);
        total += start.elapsed();
        assert_eq!(flushed, Flushed::Done);
        pair.drain((shard.hub.counters().bytes_written - before) as usize);
    }
    assert_eq!(shard.hub.counters().messages_delivered, iterations * messages as u64);
    total
}

fn to<P: Pair>(c: &mut Criterion, name: &str, mut pair: P) {
    let mut group = c.benchmark_group(format!("outbox_flush/{name}"));
    for messages in MESSAGES {
        group.throughput(Throughput::Elements(messages as u64));
        let frames = frames(messages);
        let bytes = frames.iter().map(Vec::len).sum();

        group.bench_function(BenchmarkId::new("a_write_each", messages), |b| {
            b.iter_custom(|iterations| {
                timed(iterations, &mut pair, |end| {
                    black_box(&frames).iter().for_each(|frame| write_whole(end, frame));
                    bytes
                })
            });
        });
        let mut buffer = Vec::with_capacity(bytes);
        group.bench_function(BenchmarkId::new("copied_together", messages), |b| {
            b.iter_custom(|iterations| {
                timed(iterations, &mut pair, |end| {
                    buffer.clear();
                    black_box(&frames).iter().for_each(|frame| buffer.extend_from_slice(frame));
                    write_whole(end, &buffer);
                    bytes
                })
            });
        });
        for (name, scattered) in [("ours_adjacent", false), ("ours_scattered", true)] {
            group.bench_function(BenchmarkId::new(name, messages), |b| {
                b.iter_custom(|iterations| timed_flush(iterations, &mut pair, messages, scattered));
            });
        }
    }
    group.finish();
}

fn flush(c: &mut Criterion) {
    to(c, "null", Null);
    to(c, "unix", unix());
    to(c, "tcp", loopback());
}

criterion_group!(benches, flush);
criterion_main!(benches);
