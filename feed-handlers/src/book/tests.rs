//! The book against a naive model of itself, and against what Kraken publishes.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn decimal(text: &str) -> Decimal {
    Decimal::parse(text.as_bytes()).unwrap()
}

fn level(side: Side, price: &str, size: &str) -> Level {
    Level { side, price: decimal(price), size: decimal(size) }
}

/// Both sides with all their digits, the best first: `bids | asks`.
fn shown(book: &Book) -> String {
    let side = |side| book.levels(side).map(|(price, size)| format!("{price}x{size}")).collect::<Vec<_>>().join(" ");
    format!("{} | {}", side(Side::Buy), side(Side::Sell))
}

const BUY: Side = Side::Buy;
const SELL: Side = Side::Sell;

#[track_caller]
fn check(levels: &[(Side, &str, &str, Applied)], expected: &str, spread: Spread) {
    let mut book = Book::new();
    for (side, price, size, applied) in levels {
        assert_eq!(book.apply(level(*side, price, size)), *applied, "{side:?} {price} {size}");
    }
    assert_eq!((shown(&book).as_str(), book.spread()), (expected, spread));
}

#[test]
fn levels_are_put_changed_and_removed() {
    use Applied::*;
    check(&[], " | ", Spread::Open);
    check(&[(BUY, "1.5", "2", Added)], "1.5x2 | ", Spread::Open);
    check(&[(SELL, "2", "1", Added), (SELL, "1.9", "3", Added)], " | 1.9x3 2x1", Spread::Open);
    check(&[(BUY, "1", "1", Added), (BUY, "3", "1", Added), (BUY, "2", "1", Added)], "3x1 2x1 1x1 | ", Spread::Open);
    // The latest digits stand, of the price too.
    check(&[(BUY, "1.5", "2", Added), (BUY, "1.50", "0.70", Changed)], "1.50x0.70 | ", Spread::Open);
    check(&[(BUY, "1.5", "2", Added), (BUY, "1.500", "0.000", Removed)], " | ", Spread::Open);
    check(&[(BUY, "1.5", "0", Absent), (SELL, "1.5", "2", Added), (BUY, "1.5", "0", Absent)], " | 1.5x2", Spread::Open);
    check(&[(BUY, "1.50", "1", Added), (SELL, "1.5", "2", Added)], "1.50x1 | 1.5x2", Spread::Locked);
    check(&[(BUY, "1.51", "1", Added), (SELL, "1.5", "2", Added)], "1.51x1 | 1.5x2", Spread::Crossed);
    check(&[(BUY, "1.49", "1", Added), (SELL, "1.5", "2", Added)], "1.49x1 | 1.5x2", Spread::Open);
}

#[test]
fn top_is_the_best_of_each_side() {
    let mut book = Book::new();
    assert_eq!(book.top(), (None, None));
    for (side, price) in [(BUY, "9"), (BUY, "10"), (BUY, "9.5"), (SELL, "12"), (SELL, "11"), (SELL, "11.5")] {
        book.apply(level(side, price, "1"));
    }
    let one = decimal("1");
    assert_eq!(book.top(), (Some((decimal("10"), one)), Some((decimal("11"), one))));
    book.clear();
    assert_eq!((book.top(), shown(&book)), ((None, None), " | ".to_owned()));
}

/// A better price comes before the removal of another, as a venue may write it: the worst level that was there stays.
#[test]
fn only_complete_changes_are_cut() {
    let mut book = Book::with_depth(2);
    for price in ["5", "4", "3"] {
        book.apply(level(BUY, price, "1"));
    }
    book.truncate();
    assert_eq!(shown(&book), "5x1 4x1 | ");
    book.apply(level(BUY, "6", "1"));
    book.apply(level(BUY, "5", "0"));
    book.truncate();
    assert_eq!((shown(&book).as_str(), book.dropped()), ("6x1 4x1 | ", 0));
}

#[test]
fn a_full_side_drops_its_worst_and_counts() {
    let mut book = Book::new();
    // One decimal more than the price that comes next, so that both ways of comparing are used.
    let price = |n: i64| Decimal::new(n * 10, 3).unwrap();
    let one = decimal("1");
    let add = |book: &mut Book, n: i64| book.apply(Level { side: SELL, price: price(n), size: one });
    let count = LEVELS_MAX as i64;
    for n in 0..count {
        assert_eq!(add(&mut book, n + 2), Applied::Added);
    }
    assert_eq!(add(&mut book, count + 2), Applied::Dropped, "worse than all");
    assert_eq!((book.levels(SELL).len(), book.dropped()), (LEVELS_MAX, 1));
    assert_eq!(book.apply(level(SELL, "0.01", "7")), Applied::Added, "better than all");
    assert_eq!((book.levels(SELL).len(), book.dropped()), (LEVELS_MAX, 2));
    assert_eq!(book.top().1, Some((decimal("0.01"), decimal("7"))));
    assert_eq!(book.levels(SELL).last(), Some((price(count), one)), "the worst has made room");
    assert_eq!(add(&mut book, count), Applied::Changed);
    assert_eq!(book.apply(level(BUY, "0.001", "1")), Applied::Added, "the other side has its own room");
    book.clear();
    assert_eq!((add(&mut book, 2), book.dropped()), (Applied::Added, 2), "the count is for good");
}

#[test]
fn crc_is_that_of_ieee() {
    let mut crc = Crc32::new();
    assert_eq!(crc.value(), 0);
    // The check value that catalogues of CRCs list.
    crc.update(b"123456789");
    assert_eq!(crc.value(), 0xCBF4_3926);
}

/// The example of Kraken's own guide.
#[test]
fn checksum_is_what_kraken_publishes() {
    let bids = "45283.5 0.10000000 45283.4 1.54582015 45282.1 0.10000000 45281.0 0.10000000 45280.3 1.54592586 \
        45279.0 0.07990000 45277.6 0.03310103 45277.5 0.30000000 45277.3 1.54602737 45276.6 0.15445238";
    let asks = "45285.2 0.00100000 45286.4 1.54571953 45286.6 1.54571109 45289.6 1.54560911 45290.2 0.15890660 \
        45291.8 1.54553491 45294.7 0.04454749 45296.1 0.35380000 45297.5 0.09945542 45299.5 0.18772827";
    let mut book = Book::with_depth(10);
    for (side, texts) in [(BUY, bids), (SELL, asks)] {
        let texts: Vec<&str> = texts.split_whitespace().collect();
        for pair in texts.chunks(2) {
            book.apply(level(side, pair[0], pair[1]));
        }
    }
    assert_eq!(book.checksum_kraken(), 3_310_070_434);
    // Levels beyond the tenth are not in it; digits that are no more than digits are.
    book.apply(level(BUY, "1.0", "1.00000000"));
    assert_eq!(book.checksum_kraken(), 3_310_070_434);
    book.apply(level(BUY, "45281.00", "0.10000000"));
    assert_ne!(book.checksum_kraken(), 3_310_070_434);
}

/// The same in the simplest words: a map for each side, by price in units of 10^-18.
#[derive(Default)]
struct Model {
    sides: [BTreeMap<i128, Row>; 2],
}

impl Model {
    fn side(&mut self, side: Side) -> &mut BTreeMap<i128, Row> {
        &mut self.sides[usize::from(side == Side::Sell)]
    }

    fn apply(&mut self, level: Level) -> Applied {
        let key = i128::from(level.price.mantissa()) * 10i128.pow(18 - u32::from(level.price.scale()));
        let rows = self.side(level.side);
        if level.size.is_zero() {
            return if rows.remove(&key).is_some() { Applied::Removed } else { Applied::Absent };
        }
        let before = rows.insert(key, (level.price, level.size));
        if before.is_some() { Applied::Changed } else { Applied::Added }
    }

    fn truncate(&mut self, depth: usize) {
        while self.side(Side::Buy).len() > depth {
            self.side(Side::Buy).pop_first();
        }
        while self.side(Side::Sell).len() > depth {
            self.side(Side::Sell).pop_last();
        }
    }

    /// Bids and asks, each the best first.
    fn levels(&self) -> (Vec<Row>, Vec<Row>) {
        (self.sides[0].values().rev().copied().collect(), self.sides[1].values().copied().collect())
    }

    fn checksum(&self) -> u32 {
        let (bids, asks) = self.levels();
        let text: String = [asks, bids]
            .iter()
            .flat_map(|side| side.iter().take(10))
            .flat_map(|(price, size)| [price.to_string(), size.to_string()])
            .map(|text| text.replace('.', "").trim_start_matches('0').to_owned())
            .collect();
        text.bytes().fold(!0u32, |crc, byte| {
            (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ if crc & 1 == 1 { 0xEDB8_8320 } else { 0 })
        }) ^ !0
    }
}

#[derive(Clone, Debug)]
enum Step {
    Apply(Level),
    Truncate,
    Clear,
}

/// Few prices, written in several ways, so that levels meet.
fn steps() -> impl Strategy<Value = Step> {
    let sides = prop_oneof![Just(Side::Buy), Just(Side::Sell)];
    let prices = (1i64..40, 0u8..4)
        .prop_map(|(units, zeros)| Decimal::new(units * 10i64.pow(u32::from(zeros)), 1 + zeros).unwrap());
    let sizes = prop_oneof![
        2 => (0u8..9).prop_map(|scale| Decimal::new(0, scale).unwrap()),
        5 => (1i64..i64::MAX, 0u8..=18).prop_map(|(mantissa, scale)| Decimal::new(mantissa, scale).unwrap()),
    ];
    prop_oneof![
        40 => (sides, prices, sizes).prop_map(|(side, price, size)| Step::Apply(Level { side, price, size })),
        4 => Just(Step::Truncate),
        1 => Just(Step::Clear),
    ]
}

proptest! {
    #[test]
    fn is_what_a_naive_book_is(depth in 1usize..14, steps in proptest::collection::vec(steps(), 0..200)) {
        let (mut book, mut model) = (Book::with_depth(depth), Model::default());
        // Equality of decimals is numeric; their texts are compared.
        let text = |rows: &[Row]| rows.iter().map(|(price, size)| format!("{price}x{size}")).collect::<Vec<_>>();
        for step in steps {
            match step {
                Step::Apply(level) => prop_assert_eq!(book.apply(level), model.apply(level)),
                Step::Truncate => {
                    book.truncate();
                    model.truncate(depth);
                }
                Step::Clear => {
                    book.clear();
                    model = Model::default();
                }
            }
            let (bids, asks) = model.levels();
            prop_assert_eq!(text(&book.levels(Side::Buy).collect::<Vec<_>>()), text(&bids));
            prop_assert_eq!(text(&book.levels(Side::Sell).collect::<Vec<_>>()), text(&asks));
            prop_assert_eq!(book.top(), (bids.first().copied(), asks.first().copied()));
            prop_assert_eq!(book.checksum_kraken(), model.checksum());
            let spread = match (bids.first(), asks.first()) {
                (Some(bid), Some(ask)) if bid.0 > ask.0 => Spread::Crossed,
                (Some(bid), Some(ask)) if bid.0 == ask.0 => Spread::Locked,
                _ => Spread::Open,
            };
            prop_assert_eq!(book.spread(), spread);
        }
    }
}
