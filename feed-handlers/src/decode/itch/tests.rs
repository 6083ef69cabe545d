//! Nasdaq's messages: real ones byte for byte, every length that is not theirs, and files and packets of them.

use proptest::prelude::*;

use super::super::eastern::us_eastern;
use super::super::framed::Framed;
use super::*;

/// In New York, of the day of most of the recorded messages.
const MIDNIGHT: i64 = 1_692_676_800_000_000_000;

const TEST: Stock<'static> = Alpha(b"ZXZZT   ");

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter_map(|byte| char::from(byte).to_digit(16)).map(|d| d as u8).collect();
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// A message of a type that was never recorded: locate 7, tracking 2, 0x0102 ns after midnight.
fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind, 0, 7, 0, 2, 0, 0, 0, 0, 1, 2], body].concat()
}

#[track_caller]
fn check(hex: &str, locate: u16, tracking: u16, since_midnight_ns: i64, expected: Body<'_>) {
    let bytes = bytes(hex);
    let expected = Message { locate, tracking, time: MIDNIGHT + since_midnight_ns, body: expected };
    assert_eq!(decode_message(&bytes, MIDNIGHT), Ok(expected), "{hex}");
}

#[track_caller]
fn check_body(kind: u8, body: &[u8], expected: Body<'_>) {
    let bytes = message(kind, body);
    let expected = Message { locate: 7, tracking: 2, time: MIDNIGHT + 0x0102, body: expected };
    assert_eq!(decode_message(&bytes, MIDNIGHT), Ok(expected), "{}", bytes.escape_ascii());
}

#[track_caller]
fn check_event(message: &[u8], expected: Option<Event<'_>>) {
    assert_eq!(event(&decode_message(message, MIDNIGHT).unwrap()), expected, "{}", message.escape_ascii());
}

#[test]
fn reads_orders_as_nasdaq_sent_them() {
    assert_eq!(us_eastern(b"2023-08-22"), Some(MIDNIGHT));
    let added = |order, side, shares, stock, price, mpid| {
        Body::OrderAdded(OrderAdded { order, side, shares, stock, price: Price4(price), mpid })
    };
    check(
        "41 1598 0000 1f1aced85306 000000000166b53e 42 00000064 49564f4f20202020 000d55ac",
        0x1598,
        0,
        34_199_999_894_278,
        added(0x0166_b53e, Side::Buy, 100, Alpha(b"IVOO    "), 873_900, None),
    );
    check(
        "46 06ca 0000 1f1aced99936 000000000120be75 53 00000064 4341535920202020 0026fd40 464c5455",
        0x06ca,
        0,
        34_199_999_977_782,
        added(0x0120_be75, Side::Sell, 100, Alpha(b"CASY    "), 2_555_200, Some(Alpha(b"FLTU"))),
    );
    check(
        "45 0929 0002 1f1aced8f061 000000000166929a 00000019 000000000003e63b",
        0x0929,
        2,
        34_199_999_934_561,
        Body::OrderExecuted { order: 0x0166_929a, shares: 25, match_number: 0x3_e63b },
    );
    let (order, price) = (0x0131_13de, Price4(224_800));
    check(
        "43 13e4 0001 1f1aceebb03b 00000000013113de 0000133e 000000000003e65d 4e 00036e20",
        0x13e4,
        1,
        34_200_001_163_323,
        Body::OrderExecutedAtPrice { order, shares: 4_926, match_number: 255_581, is_printable: false, price },
    );
    check(
        "58 24c5 0000 1f1acefe785d 0000000002041a00 00000064",
        0x24c5,
        0,
        34_200_002_394_205,
        Body::OrderReduced { order: 0x0204_1a00, shares: 100 },
    );
    check(
        "44 0d19 0000 1f1aced840ed 000000000165b51a",
        0x0d19,
        0,
        34_199_999_889_645,
        Body::OrderDeleted { order: 0x0165_b51a },
    );
    let (order, new_order, price) = (0x00e6_897f, 0x0145_f2c7, Price4(1_062_600));
    check(
        "55 1db3 0000 1f1aced771e9 0000000000e6897f 000000000145f2c7 00000064 001036c8",
        0x1db3,
        0,
        34_199_999_836_649,
        Body::OrderReplaced { order, new_order, shares: 100, price },
    );
    let (stock, price) = (Alpha(b"GOOGL   "), Price4(1_284_600));
    check(
        "50 1193 0002 1f1acee462a9 0000000000000000 42 00000064 474f4f474c202020 001399f8 000000000003e642",
        0x1193,
        2,
        34_200_000_684_713,
        Body::HiddenTrade { order: 0, side: b'B', shares: 100, stock, price, match_number: 0x3_e642 },
    );
}

#[test]
fn reads_what_is_no_order_as_nasdaq_sent_it() {
    check("53 0000 0000 1f1acedb02f0 51", 0, 0, 34_200_000_070_384, Body::SystemEvent { event: b'Q' });
    let directory = Directory {
        stock: Alpha(b"A       "),
        market_category: b'N',
        financial_status: b' ',
        round_lot: 100,
        is_round_lots_only: false,
        classification: b'C',
        subtype: Alpha(b"Z "),
        authenticity: b'P',
        short_sale_threshold: b'N',
        ipo: b' ',
        luld_tier: b'1',
        etp: b'N',
        etp_leverage: 0,
        is_inverse: false,
    };
    check(
        "52 0001 0000 0a53a2887058 4120202020202020 4e 20 00000064 4e 43 5a20 50 4e 20 31 4e 00000000 4e",
        1,
        0,
        11_354_325_413_976,
        Body::Directory(directory),
    );
    check(
        "48 2c3d 0000 1e7036e4655a 5a585a5a54202020 50 20 4c554450",
        0x2c3d,
        0,
        33_467_306_108_250,
        Body::TradingAction { stock: TEST, state: b'P', reason: Alpha(b"LUDP") },
    );
    check(
        "59 24bd 0000 1f1ad5cc18b7 534f504120202020 31",
        0x24bd,
        0,
        34_200_116_533_431,
        Body::ShortSaleRestriction { stock: Alpha(b"SOPA    "), action: b'1' },
    );
    let (mpid, stock) = (Alpha(b"MAXM"), Alpha(b"FDLS    "));
    check(
        "4c 0e40 0000 1f208142f846 4d41584d 46444c5320202020 59 4e 41",
        0x0e40,
        0,
        34_224_468_064_326,
        Body::MarketMaker { mpid, stock, is_primary: true, mode: b'N', state: b'A' },
    );
    let (reference, upper, lower) = (Price4(133_400), Price4(140_100), Price4(109_200));
    check(
        "4a 2c3d 0000 1e703b4f955a 5a585a5a54202020 00020918 00022344 0001aa90 00000000",
        0x2c3d,
        0,
        33_467_380_241_754,
        Body::AuctionCollar { stock: TEST, reference, upper, lower, extension: 0 },
    );
    check(
        "51 03d7 0001 1f1acee15003 0000000000000000 4241432d51202020 00000000 000000000003e63e 4f",
        0x03d7,
        1,
        34_200_000_483_331,
        Body::CrossTrade { shares: 0, stock: Alpha(b"BAC-Q   "), price: Price4(0), match_number: 0x3_e63e, kind: b'O' },
    );
    let imbalance = Imbalance {
        paired: 0,
        imbalance: 0,
        direction: b'O',
        stock: Alpha(b"PFTAW   "),
        far: Price4(0),
        near: Price4(0),
        reference: Price4(0),
        kind: b'O',
        variation: b' ',
    };
    check(
        "49 1ead 0000 1f1acedb43f1 0000000000000000 0000000000000000 4f 5046544157202020 00000000 00000000 00000000 4f 20",
        0x1ead,
        0,
        34_200_000_087_025,
        Body::Imbalance(imbalance),
    );
}

/// By the specification's table: in the recordings these do not occur.
#[test]
fn reads_what_was_never_recorded() {
    let levels = [Price8(1), Price8(2), Price8(u64::MAX)];
    let body = [1u64, 2, u64::MAX].map(u64::to_be_bytes).concat();
    check_body(b'V', &body, Body::BreakerLevels { levels });
    check_body(b'W', b"2", Body::BreakerReached { level: b'2' });
    let ipo = Body::IpoQuoting { stock: TEST, release_s: 37_800, qualifier: b'A', price: Price4(190_000) };
    check_body(b'K', b"ZXZZT   \0\0\x93\xa8A\0\x02\xe6\x30", ipo);
    check_body(b'h', b"ZXZZT   QT", Body::OperationalHalt { stock: TEST, market: b'Q', action: b'T' });
    check_body(b'N', b"ZXZZT   A", Body::RetailInterest { stock: TEST, interest: b'A' });
    check_body(b'B', b"\0\0\0\0\0\x03\xe6\x3b", Body::TradeBroken { match_number: 0x3_e63b });
    let listing = DirectListing {
        stock: TEST,
        eligibility: b'Y',
        lowest: Price4(1),
        highest: Price4(2),
        near: Price4(3),
        near_since_midnight_ns: 4,
        lower_collar: Price4(5),
        upper_collar: Price4(6),
    };
    let body = b"ZXZZT   Y\0\0\0\x01\0\0\0\x02\0\0\0\x03\0\0\0\0\0\0\0\x04\0\0\0\x05\0\0\0\x06";
    check_body(b'O', body, Body::DirectListing(listing));
}

#[test]
fn prices_keep_their_places() {
    for (price, text) in [(0, "0.0000"), (1, "0.0001"), (873_900, "87.3900"), (u32::MAX, "429496.7295")] {
        assert_eq!(Price4(price).decimal().to_string(), text);
    }
    assert_eq!(Price4::MARKET.decimal().to_string(), "200000.0000");
    assert_eq!(Price8(446_012_000_000).decimal().unwrap().to_string(), "4460.12000000");
    assert_eq!(Price8(u64::MAX).decimal(), None);
}

#[test]
fn a_message_of_another_length_or_type_is_named() {
    let lengths = [
        (b'S', 12),
        (b'R', 39),
        (b'H', 25),
        (b'Y', 20),
        (b'L', 26),
        (b'V', 35),
        (b'W', 12),
        (b'K', 28),
        (b'J', 35),
        (b'h', 21),
        (b'A', 36),
        (b'F', 40),
        (b'E', 31),
        (b'C', 36),
        (b'X', 23),
        (b'D', 19),
        (b'U', 35),
        (b'P', 44),
        (b'Q', 40),
        (b'B', 19),
        (b'I', 50),
        (b'N', 20),
        (b'O', 48),
    ];
    for kind in 0..=u8::MAX {
        let expected = lengths.iter().find(|(known, _)| *known == kind).map(|(_, length)| *length);
        for length in 1..60 {
            // Filled with the letter that every code of a message may be.
            let message = [&[kind][..], &vec![b'B'; length - 1]].concat();
            let error = decode_message(&message, MIDNIGHT).err();
            match expected {
                Some(expected) if expected == length => assert_eq!(error, None, "{kind}"),
                Some(expected) => assert_eq!(error, Some(MessageError::Length { kind, length, expected })),
                None => assert_eq!(error, Some(MessageError::UnknownType { kind })),
            }
        }
    }
    assert_eq!(decode_message(b"", MIDNIGHT), Err(MessageError::Empty));
    let mut added = message(b'A', &[b'B'; 25]);
    added[19] = b'b';
    assert_eq!(decode_message(&added, MIDNIGHT), Err(MessageError::Side { code: b'b' }));
    let reasons = [MessageError::Empty, MessageError::Side { code: 0 }, MessageError::UnknownType { kind: 0 }];
    assert_eq!(reasons.map(MessageError::reason), [Some(Reason::Length), Some(Reason::Side), None]);
}

#[test]
fn a_strange_message_leaves_the_others_of_a_file_alone() {
    let file = b"\0\x02?!\0\0\0\x0cS\0\0\0\0\0\0\0\0\0\0O\0\x03SSS\0\x0cS\0\0\0\0\0\0\0\0\0\0C";
    let kinds: Vec<Result<Body<'_>, MessageError>> = Framed::new(file)
        .map(|message| decode_message(message.unwrap(), MIDNIGHT).map(|message| message.body))
        .collect();
    let expected = [
        Err(MessageError::UnknownType { kind: b'?' }),
        Err(MessageError::Empty),
        Ok(Body::SystemEvent { event: b'O' }),
        Err(MessageError::Length { kind: b'S', length: 3, expected: 12 }),
        Ok(Body::SystemEvent { event: b'C' }),
    ];
    assert_eq!(kinds, expected);
}

#[test]
fn what_needs_no_orders_is_an_event() {
    let symbol = Symbol::Token(7);
    let trade = |id, price: i64, size| {
        let (price, size) = (Decimal::new(price, 4).unwrap(), Decimal::new(size, 0).unwrap());
        Some(Event::Trade(Trade { symbol, id, price, size, taker: None, time: MIDNIGHT + 0x0102, age: Age::Live }))
    };
    let hidden = |number: u64| {
        let number = number.to_be_bytes();
        message(b'P', &[b"\0\0\0\0\0\0\0\0B\0\0\0\x64GOOGL   \0\x13\x99\xf8", &number[..]].concat())
    };
    check_event(&hidden(255_554), trade(Some(255_554), 1_284_600, 100));
    check_event(&hidden(u64::MAX), trade(None, 1_284_600, 100));
    let cross = |shares: u64| {
        let shares = shares.to_be_bytes();
        message(b'Q', &[&shares[..], b"GOOGL   \0\x13\x99\xf8\0\0\0\0\0\0\0\x05O"].concat())
    };
    check_event(&cross(5_379), trade(Some(5), 1_284_600, 5_379));
    check_event(&cross(0), Some(Event::Ignored { kind: b"Q" }));
    check_event(
        &cross(u64::MAX),
        Some(Event::Invalid { symbol: Some(symbol), part: Part::Trade, reason: Reason::NumberRange }),
    );
    let directory = [&b"ZXZZT   "[..], &[b' '; 20]].concat();
    check_event(&message(b'R', &directory), Some(Event::Directory { token: 7, symbol: b"ZXZZT" }));
    for (kind, length) in [(b'A', 36), (b'F', 40), (b'E', 31), (b'C', 36), (b'X', 23), (b'D', 19), (b'U', 35)] {
        check_event(&message(kind, &vec![b'B'; length - 11]), None);
    }
    for (kind, length) in [
        (b"S", 12),
        (b"H", 25),
        (b"Y", 20),
        (b"L", 26),
        (b"V", 35),
        (b"W", 12),
        (b"K", 28),
        (b"J", 35),
        (b"h", 21),
        (b"B", 19),
        (b"I", 50),
        (b"N", 20),
        (b"O", 48),
    ] {
        check_event(&message(kind[0], &vec![b'B'; length - 11]), Some(Event::Ignored { kind }));
    }
}

proptest! {
    #[test]
    fn never_panics(bytes: Vec<u8>, midnight: i64) {
        if let Ok(message) = decode_message(&bytes, midnight) {
            let _ = event(&message);
        }
    }

    /// Whatever the fields hold: times and numbers at their ends are no overflow.
    #[test]
    fn any_body_is_read(
        kind in proptest::sample::select(b"SRHYLVWKJhAFECXDUPQBINO".to_vec()),
        body in proptest::collection::vec(any::<u8>(), 49),
        midnight: i64,
    ) {
        let read = (1..=50).filter_map(|length| {
            let message = [&[kind][..], &body[..length - 1]].concat();
            decode_message(&message, midnight).ok().map(|message| event(&message).is_some())
        });
        // An order's side is the one field that may be wrong.
        prop_assert!(read.count() == 1 || matches!(kind, b'A' | b'F'));
    }
}
