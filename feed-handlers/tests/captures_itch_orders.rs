//! Recorded ITCH messages through the books of the day: each one is accounted for, and what comes out is what a table of
//! orders and prints says that was read from the same bytes by itself.
//!
//! The recordings are not part of the repository: `GATEWAY_CAPTURES` names the directory that holds them.

mod captures;

use std::collections::{BTreeMap, HashMap};

use feed_handlers::decode::event::{Event, Symbol};
use feed_handlers::decode::framed::Framed;
use feed_handlers::order_book::{ORDERS_MAX, OrderBooks};
use protocol::Side;

const MIDNIGHT: i64 = 1_692_676_800_000_000_000;

fn number(message: &[u8], at: usize, width: usize) -> u64 {
    message[at..at + width].iter().fold(0, |n, byte| n << 8 | u64::from(*byte))
}

/// What is known of the orders by the bytes alone: side, shares, price.
#[derive(Default)]
struct Table {
    orders: HashMap<u64, (u8, u64, u64)>,
    /// Executions, reductions and so on of orders that nobody added.
    unknown: u64,
}

impl Table {
    /// The print of this message: price, shares, taker.
    fn take_in(&mut self, m: &[u8]) -> Option<(u64, u64, Option<Side>)> {
        let order = if m.len() >= 19 { number(m, 11, 8) } else { 0 };
        match m[0] {
            b'A' | b'F' => {
                self.orders.insert(order, (m[19], number(m, 20, 4), number(m, 32, 4)));
                None
            }
            b'P' => Some((number(m, 32, 4), number(m, 20, 4), None)),
            b'Q' => Some((number(m, 27, 4), number(m, 11, 8), None)).filter(|print| print.1 > 0),
            b'E' | b'C' | b'X' | b'D' | b'U' => {
                let Some(&(side, left, price)) = self.orders.get(&order) else {
                    self.unknown += 1;
                    return None;
                };
                let shares = if matches!(m[0], b'D' | b'U') { left } else { number(m, 19, 4) };
                match left - shares {
                    0 => self.orders.remove(&order),
                    left => self.orders.insert(order, (side, left, price)),
                };
                let taker = if side == b'B' { Side::Sell } else { Side::Buy };
                match m[0] {
                    b'U' => {
                        self.orders.insert(number(m, 19, 8), (side, number(m, 27, 4), number(m, 31, 4)));
                        None
                    }
                    b'E' => Some((price, shares, Some(taker))),
                    b'C' if m[31] == b'Y' => Some((number(m, 32, 4), shares, Some(taker))),
                    _ => None,
                }
            }
            _ => None,
        }
    }
}

/// Goes through a file, and counts what came out by kind.
fn check(name: &str) -> Option<BTreeMap<String, u64>> {
    let bytes = std::fs::read(captures::directory("itch")?.join(name)).unwrap();
    let (mut books, mut table) = (OrderBooks::new(ORDERS_MAX), Table::default());
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    let mut listed: HashMap<u32, Vec<u8>> = HashMap::new();
    let mut unknown = 0;
    for message in Framed::new(&bytes).map(Result::unwrap) {
        let expected = table.take_in(message);
        let (mut prints, mut events) = (Vec::new(), 0);
        let decoded = books.decode(message, MIDNIGHT, &mut |event| {
            events += 1;
            let kind = match event {
                Event::Trade(t) => {
                    let Symbol::Token(token) = t.symbol else { panic!("{event:?}") };
                    assert!(listed.contains_key(&token), "a trade of a stock without a name");
                    prints.push((t.price.mantissa() as u64, t.size.mantissa() as u64, t.taker));
                    assert_eq!((t.price.scale(), t.size.scale()), (4, 0));
                    "trade"
                }
                Event::Quote(_) => "quote",
                Event::Directory { token, symbol } => {
                    listed.insert(token, symbol.to_vec());
                    "directory"
                }
                Event::Ignored { kind } => {
                    assert_eq!(kind, &message[..1]);
                    "ignored"
                }
                Event::Invalid { reason, .. } => {
                    unknown += 1;
                    reason.name()
                }
                other => panic!("{other:?}"),
            };
            *counts.entry(kind.to_owned()).or_default() += 1;
        });
        assert_eq!(decoded, Ok(()), "{}", message.escape_ascii());
        assert_eq!(prints, expected.into_iter().collect::<Vec<_>>(), "{}", message.escape_ascii());
        // Only what changes an order, and no top, has nothing to say.
        assert!(events > 0 || b"AFECXDU".contains(&message[0]), "{}", message.escape_ascii());
    }
    assert_eq!((unknown, books.open_orders()), (table.unknown, table.orders.len()), "{name}");
    Some(counts)
}

#[test]
fn every_message_of_every_file_is_accounted_for() {
    let Some(counts) = check("nasdaq-start-of-day-first1000.itch") else { return };
    // Of 993 stocks four are for tests, such as ATEST.
    assert_eq!(counts, BTreeMap::from([("directory".to_owned(), 989), ("ignored".to_owned(), 7 + 4)]));
    // Samples of each type: their orders were added before.
    let counts = check("nasdaq-2023-08-22-message-samples.itch").unwrap();
    assert_eq!(counts["unknown_order"], 26, "{counts:?}");
    let counts = check("synthetic-ritch-first6000.itch").unwrap();
    assert_eq!((counts["directory"], counts["unknown_order"]), (3, 57), "{counts:?}");
    assert_eq!(counts["trade"], 2_411 + 91 - 6, "{counts:?}");
}
