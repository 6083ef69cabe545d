//! Every recorded ITCH message says what a table of offsets finds in its bytes, and every recorded datagram and stream
//! packet holds the messages that its numbers promise.
//!
//! The recordings are not part of the repository: `GATEWAY_CAPTURES` names the directory that holds them.

mod captures;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use feed_handlers::decode::eastern::us_eastern;
use feed_handlers::decode::event::Event;
use feed_handlers::decode::framed::Framed;
use feed_handlers::decode::itch::{Alpha, Body, Message, decode_message, event};
use feed_handlers::decode::mold::{self, Downstream};
use feed_handlers::decode::soup::{ClientPacket, ServerPacket, packet_end};
use protocol::Side;

/// Of the recorded day, in New York: 2023-08-22T04:00:00Z.
const MIDNIGHT: i64 = 1_692_676_800_000_000_000;

/// Offset and width of each field.
type Places = &'static [(usize, usize)];

/// The fields of a message behind its header, numbers and then texts, in the order of [`fields`].
fn table(kind: u8) -> (Places, Places) {
    match kind {
        b'S' => (&[], &[(11, 1)]),
        b'R' => (
            &[(21, 4), (34, 4)],
            &[
                (11, 8),
                (19, 1),
                (20, 1),
                (25, 1),
                (26, 1),
                (27, 2),
                (29, 1),
                (30, 1),
                (31, 1),
                (32, 1),
                (33, 1),
                (38, 1),
            ],
        ),
        b'H' => (&[], &[(11, 8), (19, 1), (21, 4)]),
        b'Y' => (&[], &[(11, 8), (19, 1)]),
        b'L' => (&[], &[(11, 4), (15, 8), (23, 1), (24, 1), (25, 1)]),
        b'J' => (&[(19, 4), (23, 4), (27, 4), (31, 4)], &[(11, 8)]),
        b'A' => (&[(11, 8), (20, 4), (32, 4)], &[(19, 1), (24, 8)]),
        b'F' => (&[(11, 8), (20, 4), (32, 4)], &[(19, 1), (24, 8), (36, 4)]),
        b'E' => (&[(11, 8), (19, 4), (23, 8)], &[]),
        b'C' => (&[(11, 8), (19, 4), (23, 8), (32, 4)], &[(31, 1)]),
        b'X' => (&[(11, 8), (19, 4)], &[]),
        b'D' => (&[(11, 8)], &[]),
        b'U' => (&[(11, 8), (19, 8), (27, 4), (31, 4)], &[]),
        b'P' => (&[(11, 8), (20, 4), (32, 4), (36, 8)], &[(19, 1), (24, 8)]),
        b'Q' => (&[(11, 8), (27, 4), (31, 8)], &[(19, 8), (39, 1)]),
        b'I' => (&[(11, 8), (19, 8), (36, 4), (40, 4), (44, 4)], &[(27, 1), (28, 8), (48, 1), (49, 1)]),
        kind => panic!("type {}", char::from(kind)),
    }
}

fn yes_or_no(is: bool) -> Vec<u8> {
    vec![if is { b'Y' } else { b'N' }]
}

fn padded<const N: usize>(alpha: Alpha<'_, N>) -> Vec<u8> {
    assert!(alpha.0.starts_with(alpha.text()) && !alpha.text().ends_with(b" "));
    alpha.0.to_vec()
}

/// What the decoder says: numbers, and then texts.
fn fields(body: &Body<'_>) -> (Vec<u64>, Vec<Vec<u8>>) {
    let n = u64::from;
    match *body {
        Body::SystemEvent { event } => (vec![], vec![vec![event]]),
        Body::Directory(d) => (
            vec![n(d.round_lot), n(d.etp_leverage)],
            vec![
                padded(d.stock),
                vec![d.market_category],
                vec![d.financial_status],
                yes_or_no(d.is_round_lots_only),
                vec![d.classification],
                padded(d.subtype),
                vec![d.authenticity],
                vec![d.short_sale_threshold],
                vec![d.ipo],
                vec![d.luld_tier],
                vec![d.etp],
                yes_or_no(d.is_inverse),
            ],
        ),
        Body::TradingAction { stock, state, reason } => (vec![], vec![padded(stock), vec![state], padded(reason)]),
        Body::ShortSaleRestriction { stock, action } => (vec![], vec![padded(stock), vec![action]]),
        Body::MarketMaker { mpid, stock, is_primary, mode, state } => {
            (vec![], vec![padded(mpid), padded(stock), yes_or_no(is_primary), vec![mode], vec![state]])
        }
        Body::AuctionCollar { stock, reference, upper, lower, extension } => {
            (vec![n(reference.0), n(upper.0), n(lower.0), n(extension)], vec![padded(stock)])
        }
        Body::OrderAdded(order) => {
            let side = if order.side == Side::Buy { b'B' } else { b'S' };
            let texts = [Some(vec![side]), Some(padded(order.stock)), order.mpid.map(padded)];
            (vec![order.order, n(order.shares), n(order.price.0)], texts.into_iter().flatten().collect())
        }
        Body::OrderExecuted { order, shares, match_number } => (vec![order, n(shares), match_number], vec![]),
        Body::OrderExecutedAtPrice { order, shares, match_number, is_printable, price } => {
            (vec![order, n(shares), match_number, n(price.0)], vec![yes_or_no(is_printable)])
        }
        Body::OrderReduced { order, shares } => (vec![order, n(shares)], vec![]),
        Body::OrderDeleted { order } => (vec![order], vec![]),
        Body::OrderReplaced { order, new_order, shares, price } => {
            (vec![order, new_order, n(shares), n(price.0)], vec![])
        }
        Body::HiddenTrade { order, side, shares, stock, price, match_number } => {
            (vec![order, n(shares), n(price.0), match_number], vec![vec![side], padded(stock)])
        }
        Body::CrossTrade { shares, stock, price, match_number, kind } => {
            (vec![shares, n(price.0), match_number], vec![padded(stock), vec![kind]])
        }
        Body::Imbalance(i) => (
            vec![i.paired, i.imbalance, n(i.far.0), n(i.near.0), n(i.reference.0)],
            vec![vec![i.direction], padded(i.stock), vec![i.kind], vec![i.variation]],
        ),
        other => panic!("{other:?}"),
    }
}

fn number(message: &[u8], at: usize, width: usize) -> u64 {
    message[at..at + width].iter().fold(0, |n, byte| n << 8 | u64::from(*byte))
}

#[track_caller]
fn check(bytes: &[u8]) -> Message<'_> {
    let message = decode_message(bytes, MIDNIGHT).unwrap_or_else(|e| panic!("{e}: {}", bytes.escape_ascii()));
    let header = (u64::from(message.locate), u64::from(message.tracking), (message.time - MIDNIGHT) as u64);
    assert_eq!(header, (number(bytes, 1, 2), number(bytes, 3, 2), number(bytes, 5, 6)), "{}", bytes.escape_ascii());
    let (numbers, texts) = table(bytes[0]);
    let numbers = numbers.iter().map(|&(at, width)| number(bytes, at, width)).collect();
    let texts = texts.iter().map(|&(at, width)| bytes[at..at + width].to_vec()).collect();
    assert_eq!(fields(&message.body), (numbers, texts), "{}", bytes.escape_ascii());
    message
}

/// Checks the messages of a file, and counts them by type.
fn check_file(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap();
    let mut counts: BTreeMap<char, u32> = BTreeMap::new();
    let mut framed = Framed::new(&bytes);
    for message in framed.by_ref() {
        let message = message.unwrap();
        check(message);
        *counts.entry(char::from(message[0])).or_default() += 1;
    }
    assert_eq!(framed.offset(), bytes.len());
    counts.iter().map(|(kind, count)| format!("{kind} {count}")).collect::<Vec<_>>().join(", ")
}

#[test]
fn every_message_of_every_file_is_read_field_by_field() {
    let Some(directory) = captures::directory("itch") else { return };
    assert_eq!(us_eastern(b"2023-08-22"), Some(MIDNIGHT));
    let counts = check_file(&directory.join("nasdaq-start-of-day-first1000.itch"));
    assert_eq!(counts, "H 3, R 993, S 1, Y 3");
    let counts = check_file(&directory.join("nasdaq-2023-08-22-message-samples.itch"));
    let published = "A 41, C 5, D 6, E 5, F 7, H 6, I 5, J 5, L 5, P 5, Q 5, S 1, U 5, X 5, Y 5";
    assert_eq!(counts, published);
    let counts = check_file(&directory.join("synthetic-ritch-first6000.itch"));
    let messages: u32 = counts.split(", ").map(|count| count[2..].parse::<u32>().unwrap()).sum();
    assert_eq!(messages, 6_000, "{counts}");
}

#[test]
fn what_needs_no_orders_becomes_what_is_published_about_it() {
    let Some(directory) = captures::directory("itch") else { return };
    let bytes = std::fs::read(directory.join("nasdaq-2023-08-22-message-samples.itch")).unwrap();
    let mut trades = Vec::new();
    for message in Framed::new(&bytes).map(Result::unwrap) {
        let decoded = check(message);
        match event(&decoded) {
            Some(trade @ Event::Trade(_)) => trades.push(captures::line(&trade)),
            Some(Event::Ignored { kind }) => assert_eq!(kind[0], message[0]),
            Some(other) => panic!("{other:?}"),
            None => assert!(b"AFECXDU".contains(&message[0])),
        }
    }
    // Five hidden trades, and of five crosses those of some shares.
    let crosses = Framed::new(&bytes).map(Result::unwrap).filter(|m| m[0] == b'Q' && number(m, 11, 8) > 0).count();
    assert_eq!(trades.len(), 5 + crosses);
    // GOOGL, 100 shares.
    let googl = "trade #4499 id=255554 128.4600 x 100 at 1692711000000684713";
    assert!(trades.iter().any(|trade| trade == googl), "{trades:?}");
    // IBTG: what was executed unprinted is printed by the cross.
    assert!(trades.iter().any(|trade| trade.contains("id=255582 22.4800 x 5379")), "{trades:?}");

    let bytes = std::fs::read(directory.join("nasdaq-start-of-day-first1000.itch")).unwrap();
    let listed = Framed::new(&bytes).filter_map(|message| match event(&check(message.unwrap())) {
        Some(Event::Directory { token, symbol }) => Some((token, symbol.to_vec())),
        _ => None,
    });
    let listed: BTreeMap<u32, Vec<u8>> = listed.collect();
    assert_eq!((listed.len(), listed[&1].as_slice()), (993, &b"A"[..]));
}

fn recordings(directory: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// The payloads of the UDP or TCP packets of a pcap file, little-endian, of Ethernet with or without a VLAN.
fn payloads(path: &Path) -> Vec<Vec<u8>> {
    let bytes = std::fs::read(path).unwrap();
    let length = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let (mut payloads, mut at) = (Vec::new(), 24);
    while at < bytes.len() {
        let frame = &bytes[at + 16..at + 16 + length(at + 8)];
        at += 16 + frame.len();
        let tag = if frame[12..14] == [0x81, 0] { 4 } else { 0 };
        let ip = &frame[14 + tag..];
        // What follows the packet is padding of the link, or the recorder's own.
        let ip = &ip[..usize::from(u16::from_be_bytes([ip[2], ip[3]])).min(ip.len())];
        let transport = &ip[usize::from(ip[0] & 15) * 4..];
        let header = if ip[9] == 6 { usize::from(transport[12] >> 4) * 4 } else { 8 };
        payloads.push(transport[header..].to_vec());
    }
    payloads
}

#[test]
fn datagrams_hold_the_messages_that_they_count() {
    let Some(directory) = captures::directory("itch") else { return };
    let mut largest = 0;
    let mut sequences = Vec::new();
    for path in recordings(&directory.join("pcap-nasdaq-v5.0")) {
        for datagram in payloads(&path) {
            let packet = mold::decode(&datagram).unwrap_or_else(|error| panic!("{error}: {}", path.display()));
            let Downstream::Messages { session, sequence, count, .. } = packet else { panic!("{packet:?}") };
            assert_eq!(session, b"000010059B");
            let numbered: Vec<u64> =
                packet.messages().inspect(|(_, message)| _ = check(message)).map(|m| m.0).collect();
            assert_eq!(numbered, (sequence..sequence + u64::from(count)).collect::<Vec<_>>());
            assert_eq!(packet.next_sequence(), sequence + u64::from(count));
            if count == 38 {
                largest = datagram.len();
            }
            sequences.push(sequence);
        }
    }
    assert!(sequences.contains(&19_009_117), "{sequences:?}");
    assert_eq!(largest, 1_472);

    let mut messages = 0;
    for path in recordings(&directory.join("pcap-nasdaq-v5.0.20230822")) {
        for datagram in payloads(&path) {
            // The publisher has set session and number to zero.
            let packet = mold::decode(&datagram).unwrap_or_else(|error| panic!("{error}: {}", path.display()));
            assert_eq!(packet.session(), &[0; 10]);
            messages += packet.messages().inspect(|(_, message)| _ = check(message)).count();
        }
    }
    assert_eq!(messages, 14 * 5 + 1);
}

#[test]
fn stream_packets_are_what_their_files_are_called() {
    let Some(directory) = captures::directory("itch") else { return };
    let directory = directory.join("soupbintcp-ouch-pcap");
    let payload = |name: &str| {
        let payload = payloads(&directory.join(name)).swap_remove(0);
        assert_eq!(packet_end(&payload), Ok(Some(payload.len())), "{name}");
        payload
    };
    let server = payload("ServerHeartbeatPacket.pcap");
    assert_eq!(ServerPacket::decode(&server), Ok(ServerPacket::Heartbeat));
    let client = payload("ClientHeartbeatPacket.pcap");
    assert_eq!(ClientPacket::decode(&client), Ok(ClientPacket::Heartbeat));
    for (name, kind) in [("OrderAcceptedMessage.pcap", b'A'), ("CanceledMessage.pcap", b'C')] {
        let packet = payload(name);
        let Ok(ServerPacket::Sequenced(message)) = ServerPacket::decode(&packet) else { panic!("{name}") };
        assert_eq!((message[0], message.len()), (kind, packet.len() - 3), "{name}");
    }
    for (name, kind) in [("EnterOrderMessage.pcap", b'O'), ("CancelOrderMessage.pcap", b'X')] {
        let packet = payload(name);
        let Ok(ClientPacket::Unsequenced(message)) = ClientPacket::decode(&packet) else { panic!("{name}") };
        assert_eq!((message[0], message.len()), (kind, packet.len() - 3), "{name}");
    }
}
