//! How many instructions do the small things take, whatever else the machine is doing?
//!
//! Not Criterion: each case runs under valgrind's callgrind, once with n operations and once with 2n; the difference
//! over n is printed, so that start, setup and end are not in it. It is the same on every run of one build, but for
//! what hash maps with random keys do: a change of one percent is a change of the code. Instructions are not time: what
//! waits for memory, or for another core, counts as one.
//!
//! `cargo bench --package benches --bench instructions [-- FILTER]` prints the table, for the cases whose names
//! contain FILTER. It needs valgrind. The frames are the copied ones, the same everywhere. Single-threaded.

use std::hint::black_box;
use std::io::sink;
use std::process::{Command, ExitCode};
use std::sync::Arc;

use benches::{
    Frames, FullSocket, NOW_NS, STAMP, SYMBOL, Shard, VENUE, bar, full_packets, principal, quote, tick, trade,
};
use entitlements::{Tier, decide};
use fanout::SubscribeOptions;
use feed_handlers::decode::{coinbase, itch, kite};
use feed_handlers::doorbell::{Doorbell, WaitStrategy};
use feed_handlers::ring::{Polled, ring};
use protocol::{
    AssetClass, Channel, ChannelKind, Encoding, InstrumentId, Selector, encode_bar, encode_quote, encode_trade,
};

/// What tells the program that it runs under valgrind: a case, and how many operations.
const CASE_ARGUMENT: &str = "--case";

struct Case {
    name: &'static str,
    /// Operations of the shorter run.
    operations: u64,
    run: fn(u64),
    /// What an operation's count is divided by.
    parts: u64,
}

const fn case(name: &'static str, operations: u64, run: fn(u64)) -> Case {
    Case { name, operations, run, parts: 1 }
}

/// A case of which a part is told: a message to many clients, by client.
const fn case_of(parts: u64, name: &'static str, operations: u64, run: fn(u64)) -> Case {
    Case { name, operations, run, parts }
}

const CASES: [Case; 25] = [
    case("decode ticker", 200, |n| decode(n, |frames| &frames.ticker)),
    case("decode match", 200, |n| decode(n, |frames| &frames.matches)),
    case("decode l2update", 200, |n| decode(n, |frames| &frames.l2update)),
    case("decode l2update, 6 changes", 200, |n| decode(n, |frames| &frames.l2_batch)),
    case("decode a full packet of Kite", 2_000, kite),
    case("decode an order added of ITCH", 2_000, itch),
    case("encode trade json", 500, |n| encode_trades(n, Encoding::Json)),
    case("encode trade msgpack", 500, |n| encode_trades(n, Encoding::MessagePack)),
    case("encode quote json", 500, |n| encode_quotes(n, Encoding::Json)),
    case("encode quote msgpack", 500, |n| encode_quotes(n, Encoding::MessagePack)),
    case("encode bar json", 500, |n| encode_bars(n, Encoding::Json)),
    case("encode bar msgpack", 500, |n| encode_bars(n, Encoding::MessagePack)),
    case("ring publish", 2_000, ring_publish),
    case("ring publish and poll, 1 reader", 2_000, |n| ring_publish_and_poll(n, 1)),
    case("ring publish and poll, 4 readers", 2_000, |n| ring_publish_and_poll(n, 4)),
    case("sequence a trade, nobody listens", 2_000, |n| hub_publish(n, 0, 1)),
    case_of(1_000, "trade to one of 1,000 clients and flush, 1 a turn", 40, |n| hub_publish(n, 1_000, 1)),
    case_of(1_000, "trade to one of 1,000 clients and flush, 16 a turn", 160, |n| hub_publish(n, 1_000, 16)),
    case("trade to 1 client and flush", 2_000, |n| hub_publish(n, 1, 1)),
    case("sequence a quote, nobody listens", 2_000, quotes_for_nobody),
    case_of(100, "quote to one of 100 stalled clients", 2_000, stalled),
    case("subscribe and unsubscribe", 2_000, subscribe),
    case("decide, exact", 2_000, |n| decisions(n, Selector::One(InstrumentId(3)), Some(AssetClass::Crypto))),
    case("decide, wildcard", 2_000, |n| decisions(n, Selector::All, None)),
    // What the loops above cost by themselves, with two values kept from the optimiser.
    case("an empty loop", 2_000, |n| (0..n).for_each(|i| _ = black_box(black_box(i)))),
];

fn decode(operations: u64, of: fn(&Frames) -> &Vec<String>) {
    let frames = Frames::copied();
    let frames = of(&frames);
    for frame in frames.iter().cycle().take(operations as usize) {
        let decoded = coinbase::decode(black_box(frame.as_bytes()), &mut |event| _ = black_box(event));
        assert!(decoded.is_ok());
    }
}

fn kite(operations: u64) {
    let frame = full_packets(100, NOW_NS);
    for _ in 0..operations / 100 {
        assert!(kite::decode_binary(black_box(&frame), &mut |event| _ = black_box(event)).is_ok());
    }
}

fn itch(operations: u64) {
    let message = b"A\x00\x01\x00\x00\x1f\x1a\xce\xd9\xe6\xab\0\0\0\0\x01\x02\x03\x04B\0\0\0\x64AAPL    \0\x1b\x77\x40";
    for _ in 0..operations {
        assert!(black_box(itch::decode_message(black_box(message), NOW_NS)).is_ok());
    }
}

fn encode(operations: u64, mut encode: impl FnMut(&mut Vec<u8>)) {
    let mut out = Vec::with_capacity(1_024);
    for _ in 0..operations {
        out.clear();
        encode(&mut out);
        black_box(&out);
    }
}

fn encode_trades(operations: u64, encoding: Encoding) {
    let trade = trade();
    encode(operations, |out| encode_trade(encoding, black_box(SYMBOL), VENUE, black_box(&trade), STAMP, out));
}

fn encode_quotes(operations: u64, encoding: Encoding) {
    let quote = quote();
    encode(operations, |out| encode_quote(encoding, black_box(SYMBOL), black_box(&quote), STAMP, out));
}

fn encode_bars(operations: u64, encoding: Encoding) {
    let bar = bar();
    encode(operations, |out| {
        encode_bar(encoding, black_box(SYMBOL), ChannelKind::Bars, black_box(&bar), STAMP.seq, STAMP.ts_recv, out);
    });
}

fn ring_publish(operations: u64) {
    let mut publisher = ring(1_024, Arc::new(Doorbell::new(WaitStrategy::Spin)));
    let tick = tick(1);
    (0..operations).for_each(|_| publisher.publish(black_box(&tick)));
}

fn ring_publish_and_poll(operations: u64, readers: usize) {
    let mut publisher = ring(1_024, Arc::new(Doorbell::new(WaitStrategy::Spin)));
    let mut readers: Vec<_> = (0..readers).map(|_| publisher.reader()).collect();
    let tick = tick(1);
    for _ in 0..operations {
        publisher.publish(black_box(&tick));
        for reader in &mut readers {
            assert!(matches!(black_box(reader.poll()), Polled::Record(_)));
        }
    }
}

/// Trades to `clients` clients of one channel, with a turn of the shard after each `a_turn`.
fn hub_publish(operations: u64, clients: usize, a_turn: u64) {
    // A log that is full from early on: what is let go is in the figure.
    let mut shard = Shard::new(1, 16 << 10);
    for _ in 0..clients {
        let client = shard.client();
        shard.subscribe(client, ChannelKind::Trades, 0);
    }
    // The first turns grow what is then kept.
    for operation in 1..=operations + 10 * a_turn {
        shard.trade(0);
        if operation % a_turn == 0 {
            shard.hand_over();
            shard.flush(&mut sink());
        }
    }
    assert_eq!(shard.hub.counters().messages_delivered, (operations + 10 * a_turn) * clients as u64);
}

fn quotes_for_nobody(operations: u64) {
    let mut shard = Shard::new(1, 1 << 20);
    (0..operations).for_each(|_| shard.quote(0));
    shard.hand_over();
}

/// Quotes of 500 channels, in turns of 100, for clients that are subscribed to all of them and do not read.
fn stalled(operations: u64) {
    const CHANNELS: u32 = 500;
    let mut shard = Shard::new(CHANNELS as usize, 1 << 20);
    for _ in 0..100 {
        let client = shard.client();
        (0..CHANNELS).for_each(|channel| shard.subscribe(client, ChannelKind::Quotes, channel));
    }
    for operation in 0..operations {
        shard.quote(operation as u32 % CHANNELS);
        if operation % 100 == 99 {
            shard.hand_over();
            shard.flush(&mut FullSocket);
        }
    }
    assert_eq!(shard.hub.held_count(), 100);
}

fn subscribe(operations: u64) {
    let mut shard = Shard::new(20, 1 << 20);
    let client = shard.client();
    (0..19).for_each(|instrument| shard.subscribe(client, ChannelKind::Trades, instrument));
    let (kind, last) = (ChannelKind::Trades, InstrumentId(19));
    let grant = benches::grant(kind, last);
    for _ in 0..operations {
        shard.hub.subscribe(black_box(client), grant, SubscribeOptions::default(), 0);
        assert!(shard.hub.unsubscribe(black_box(client), kind, Selector::One(last), 0));
    }
}

fn decisions(operations: u64, selector: Selector, asset: Option<AssetClass>) {
    let principal = principal(Tier::Enterprise);
    let channel = Channel { kind: ChannelKind::Trades, selector };
    for _ in 0..operations {
        let decided = decide(black_box(&principal), black_box(channel), black_box(asset), black_box(0));
        assert!(black_box(decided).is_ok());
    }
}

/// Instructions of the whole program for that many operations of a case.
fn counted(case: &Case, operations: u64) -> Result<u64, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args([CASE_ARGUMENT, case.name, &operations.to_string()])
        .output()
        .map_err(|error| format!("valgrind does not start ({error}): is it installed?"))?;
    let text = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("{}: {text}", case.name));
    }
    // "==1234== Collected : 5678901"
    let collected = text.lines().find_map(|line| line.split_once("Collected : "));
    collected.and_then(|(_, count)| count.trim().parse().ok()).ok_or(format!("{}: no count in {text}", case.name))
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [argument, name, operations] = arguments.as_slice()
        && argument == CASE_ARGUMENT
    {
        let case = CASES.iter().find(|case| case.name == name);
        let (Some(case), Ok(operations)) = (case, operations.parse()) else { return ExitCode::FAILURE };
        (case.run)(operations);
        return ExitCode::SUCCESS;
    }
    // `cargo bench` adds `--bench`.
    let filter = arguments.iter().find(|argument| !argument.starts_with("--")).map_or("", String::as_str);
    println!("| operation | instructions |\n|---|---:|");
    for case in CASES.iter().filter(|case| case.name.contains(filter)) {
        let (n, twice) = (counted(case, case.operations), counted(case, 2 * case.operations));
        match n.and_then(|n| Ok(twice?.saturating_sub(n))) {
            Ok(more) => println!("| {} | {:.1} |", case.name, more as f64 / (case.operations * case.parts) as f64),
            Err(error) => {
                eprintln!("{error}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}
