//! Orders to prints and tops: the cases one by one, and any series of messages against a naive book.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn alpha(name: &str) -> Stock<'static> {
    let mut padded = [b' '; 8];
    padded[..name.len()].copy_from_slice(name.as_bytes());
    itch::Alpha(Box::leak(Box::new(padded)))
}

fn add(order: u64, side: Side, shares: u32, price: u32) -> Body<'static> {
    Body::OrderAdded(OrderAdded { order, side, shares, stock: alpha("IBTG"), price: Price4(price), mpid: None })
}

fn executed(order: u64, shares: u32) -> Body<'static> {
    Body::OrderExecuted { order, shares, match_number: 7 }
}

fn words(event: &Event<'_>) -> String {
    let top = |top: Option<Top>| top.map_or("-".into(), |top| format!("{}x{}", top.price, top.size.unwrap()));
    match event {
        Event::Directory { token, symbol } => format!("{token} is {}", symbol.escape_ascii()),
        Event::Trade(t) => format!("trade {} {}x{} {:?}", t.id.unwrap(), t.price, t.size, t.taker),
        Event::Quote(q) => format!("quote {} {}", top(q.bid), top(q.ask)),
        Event::Ignored { kind } => format!("ignored {}", kind.escape_ascii()),
        Event::Invalid { part, reason, .. } => format!("invalid {part:?} {reason}"),
        other => panic!("{other:?}"),
    }
}

fn told(books: &mut OrderBooks, locate: u16, body: Body<'static>) -> Vec<String> {
    let mut events = Vec::new();
    books.apply(&Message { locate, tracking: 0, time: 1, body }, &mut |event| events.push(words(&event)));
    events
}

#[track_caller]
fn check(steps: &[(Body<'static>, &[&str])]) {
    let mut books = OrderBooks::new(3);
    for (at, (body, expected)) in steps.iter().enumerate() {
        assert_eq!(told(&mut books, 5, *body), *expected, "step {at}: {body:?}");
    }
}

#[test]
fn orders_become_quotes_and_trades() {
    check(&[
        (add(1, Side::Buy, 100, 10_000), &["5 is IBTG", "quote 1.0000x100 -"]),
        (add(2, Side::Buy, 50, 10_000), &["quote 1.0000x150 -"]),
        (add(3, Side::Sell, 30, 10_100), &["quote 1.0000x150 1.0100x30"]),
        (executed(1, 40), &["trade 7 1.0000x40 Some(Sell)", "quote 1.0000x110 1.0100x30"]),
        (executed(3, 30), &["trade 7 1.0100x30 Some(Buy)", "quote 1.0000x110 -"]),
        (Body::OrderReduced { order: 2, shares: 10 }, &["quote 1.0000x100 -"]),
        (Body::OrderReplaced { order: 2, new_order: 4, shares: 5, price: Price4(9_900) }, &["quote 1.0000x60 -"]),
        (Body::OrderDeleted { order: 4 }, &[]),
        (Body::OrderDeleted { order: 1 }, &["quote - -"]),
    ]);
}

/// As on 2023-08-22: what was executed without print is printed once, by the cross.
#[test]
fn an_execution_that_is_not_printable_is_no_trade() {
    let at_price = |order, is_printable| Body::OrderExecutedAtPrice {
        order,
        shares: 4_926,
        match_number: 255_581,
        is_printable,
        price: Price4(224_800),
    };
    let cross = Body::CrossTrade {
        shares: 5_379,
        stock: alpha("IBTG"),
        price: Price4(224_800),
        match_number: 255_582,
        kind: b'O',
    };
    check(&[
        (add(1, Side::Buy, 5_000, 225_000), &["5 is IBTG", "quote 22.5000x5000 -"]),
        (at_price(1, false), &["quote 22.5000x74 -"]),
        (cross, &["trade 255582 22.4800x5379 None"]),
    ]);
    check(&[
        (add(1, Side::Sell, 4_926, 224_700), &["5 is IBTG", "quote - 22.4700x4926"]),
        (at_price(1, true), &["trade 255581 22.4800x4926 Some(Buy)", "quote - -"]),
    ]);
}

#[test]
fn a_book_that_cannot_be_right_is_quoted_no_more() {
    let cases: [(Body<'static>, &str); 6] = [
        (Body::OrderDeleted { order: 9 }, "invalid Level unknown_order"),
        (add(1, Side::Sell, 1, 1), "invalid Level unknown_order"),
        (executed(1, 101), "invalid Level size"),
        (executed(1, 0), "invalid Level size"),
        (add(2, Side::Buy, 0, 1), "invalid Level size"),
        (add(2, Side::Buy, 1, 0), "invalid Level price"),
    ];
    for (fault, expected) in cases {
        check(&[
            (add(1, Side::Buy, 100, 10_000), &["5 is IBTG", "quote 1.0000x100 -"]),
            (fault, &[expected]),
            (executed(1, 60), &["trade 7 1.0000x60 Some(Sell)"]),
            (Body::SystemEvent { event: b'O' }, &["ignored S"]),
            (add(1, Side::Sell, 2, 10_000), &["5 is IBTG", "quote - 1.0000x2"]),
        ]);
    }
    check(&[
        (add(1, Side::Buy, 1, 100), &["5 is IBTG", "quote 0.0100x1 -"]),
        (add(2, Side::Buy, 1, 100), &["quote 0.0100x2 -"]),
        (add(3, Side::Buy, 1, 100), &["quote 0.0100x3 -"]),
        (add(4, Side::Buy, 1, 100), &["invalid Level order_limit"]),
    ]);
}

#[test]
fn an_order_of_another_stock_is_no_order_of_this_one() {
    let mut books = OrderBooks::new(9);
    told(&mut books, 5, add(1, Side::Buy, 100, 10_000));
    assert_eq!(told(&mut books, 6, executed(1, 1)), ["invalid Level unknown_order"]);
    assert_eq!(told(&mut books, 5, executed(1, 1)), ["trade 7 1.0000x1 Some(Sell)", "quote 1.0000x99 -"]);
}

#[test]
fn what_was_lost_ends_the_quotes_and_not_the_trades() {
    let mut books = OrderBooks::new(9);
    told(&mut books, 5, add(1, Side::Buy, 100, 10_000));
    books.lose();
    assert!(!books.is_whole());
    assert_eq!(told(&mut books, 5, executed(1, 1)), ["trade 7 1.0000x1 Some(Sell)"]);
    assert_eq!(told(&mut books, 5, add(2, Side::Buy, 1, 1)), [""; 0]);
    assert_eq!(told(&mut books, 5, executed(2, 1)), ["trade 7 0.0001x1 Some(Sell)"]);
    assert_eq!(books.open_orders(), 1);
    books.start_day();
    assert_eq!(told(&mut books, 5, add(1, Side::Buy, 3, 1)), ["5 is IBTG", "quote 0.0001x3 -"]);
}

#[test]
fn stocks_for_tests_are_left_out() {
    let mut bytes = [b' '; 39];
    bytes[0] = b'R';
    bytes[..11].copy_from_slice(b"R\0\x05\0\0\0\0\0\0\0\0");
    bytes[11..16].copy_from_slice(b"ZVZZT");
    bytes[29] = b'T';
    let mut books = OrderBooks::new(9);
    let mut events = Vec::new();
    books.decode(&bytes, 0, &mut |event| events.push(words(&event))).unwrap();
    assert_eq!(events, ["ignored R"]);
    assert_eq!(told(&mut books, 5, add(1, Side::Buy, 100, 10_000)), [""; 0]);
    assert_eq!(told(&mut books, 5, executed(1, 60)), ["ignored E"]);
    let (is_printable, price) = (true, Price4(9_000));
    let rest = Body::OrderExecutedAtPrice { order: 1, shares: 40, match_number: 8, is_printable, price };
    assert_eq!(told(&mut books, 5, rest), ["ignored C"]);
    assert_eq!(books.open_orders(), 0);
}

#[test]
fn books_take_the_memory_that_is_said() {
    assert!(std::mem::size_of::<StockBook>() <= 104 && std::mem::size_of::<(u64, Order)>() <= 24);
}

#[test]
fn what_is_no_message_is_refused() {
    let mut books = OrderBooks::new(9);
    let mut decode = |bytes: &'static [u8]| {
        let mut events = Vec::new();
        books.decode(bytes, 0, &mut |event| events.push(words(&event))).map(|()| events)
    };
    assert_eq!(decode(b""), Err(DecodeError::Length { stated: 0, found: 0 }));
    assert_eq!(decode(b"D12"), Err(DecodeError::Length { stated: 19, found: 3 }));
    assert_eq!(decode(b"~12"), Ok(vec!["ignored ~".to_owned()]));
    assert_eq!(decode(&[b'A'; 36]), Ok(vec!["invalid Level side".to_owned()]));
}

/// The same by going through all orders each time.
#[derive(Default)]
struct Naive(BTreeMap<u64, (Side, u32, u32)>);

impl Naive {
    fn top(&self, side: Side) -> Option<(u32, u64)> {
        let prices = self.0.values().filter(|order| order.0 == side).map(|order| order.2);
        let best = if side == Side::Buy { prices.max() } else { prices.min() }?;
        let at_best = self.0.values().filter(|order| order.0 == side && order.2 == best);
        Some((best, at_best.map(|order| u64::from(order.1)).sum()))
    }
}

proptest! {
    /// Only what a venue that keeps its books in order would say; the last quote is always the top.
    #[test]
    fn equals_a_naive_model(steps in proptest::collection::vec((0u8..5, any::<u16>(), any::<bool>(), 1u32..50, 1u32..12), 1..200)) {
        let mut books = OrderBooks::new(1_000);
        let mut naive = Naive::default();
        let (mut next, mut quoted) = (1u64, (None, None));
        for (kind, pick, is_buy, shares, price) in steps {
            let side = if is_buy { Side::Buy } else { Side::Sell };
            let picked = naive.0.iter().nth(usize::from(pick) % naive.0.len().max(1)).map(|(order, of)| (*order, *of));
            let (body, printed) = match (kind, picked) {
                (0, _) | (_, None) => {
                    naive.0.insert(next, (side, shares, price));
                    (add(next, side, shares, price), None)
                }
                (1 | 2, Some((order, (of, left, at)))) => {
                    let shares = shares.min(left);
                    naive.0.insert(order, (of, left - shares, at));
                    naive.0.retain(|_, order| order.1 > 0);
                    match kind {
                        1 => (executed(order, shares), Some((at, shares, of))),
                        _ => (Body::OrderReduced { order, shares }, None),
                    }
                }
                (3, Some((order, (of, ..)))) => {
                    naive.0.remove(&order);
                    naive.0.insert(next, (of, shares, price));
                    (Body::OrderReplaced { order, new_order: next, shares, price: Price4(price) }, None)
                }
                (_, Some((order, _))) => {
                    naive.0.remove(&order);
                    (Body::OrderDeleted { order }, None)
                }
            };
            next += 1;
            let (before, mut trades) = (quoted, Vec::new());
            books.apply(&Message { locate: 1, tracking: 0, time: 1, body }, &mut |event| match event {
                Event::Quote(q) => quoted = (q.bid.map(|t| (t.price, t.size)), q.ask.map(|t| (t.price, t.size))),
                Event::Trade(t) => trades.push((t.price, t.size, t.taker)),
                Event::Directory { .. } => {}
                other => panic!("{other:?}"),
            });
            let top = |(price, shares)| (Price4(price).decimal(), Some(size(shares)));
            let expected = (naive.top(Side::Buy).map(top), naive.top(Side::Sell).map(top));
            prop_assert_eq!(quoted, expected, "before {:?}", before);
            let printed = printed.map(|(price, shares, of)| {
                let taker = if of == Side::Buy { Side::Sell } else { Side::Buy };
                (Price4(price).decimal(), size(u64::from(shares)), Some(taker))
            });
            prop_assert_eq!(trades, printed.into_iter().collect::<Vec<_>>());
            prop_assert_eq!(books.open_orders(), naive.0.len());
        }
    }

    /// Whatever the messages, nothing panics, and the orders stay within their bound.
    #[test]
    fn takes_any_bytes(messages in proptest::collection::vec((prop::sample::select(&b"AFECXDUPQRSH"[..]), proptest::collection::vec(0u8..3, 50), prop::sample::select(&[36usize, 40, 31, 36, 23, 19, 35, 44, 39, 12, 25][..])), 0..60)) {
        let mut books = OrderBooks::new(5);
        for (kind, mut bytes, length) in messages {
            bytes.truncate(length);
            bytes[0] = kind;
            if bytes.len() > 19 && kind != b'E' {
                bytes[19] = b'B';
            }
            let _ = books.decode(&bytes, 0, &mut |_| {});
            prop_assert!(books.open_orders() <= 5);
        }
    }
}
