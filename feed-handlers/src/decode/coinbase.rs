//! Coinbase Exchange `ws-feed` frames: `ticker`, `match`, `last_match`, `snapshot`, `l2update`, `heartbeat`,
//! `subscriptions` and `error`.
//!
//! Pure: a frame either is refused as a whole, or gives its events in the order of the frame. Keys may stand in
//! any order and unknown ones are skipped, so a frame is scanned to its end before anything in it is believed;
//! lists of book levels are then walked a second time, because nothing may be allocated to keep them.
//! Deliberately absent: the order-by-order (`full`) messages, which are reported as [`Event::Ignored`].
//!
//! Fields: <https://docs.cdp.coinbase.com/exchange/websocket-feed/channels>. What the venue's page leaves open and
//! recorded frames settle: the `side` of a match is the maker's.

use protocol::{Decimal, DecimalError, Side, parse_rfc3339};

use super::json::{Kind, Scanner, Value};
use super::{DecodeError, Reason};

/// A trade, as `match` and `last_match` tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Match<'a> {
    /// The venue's name of the product, such as `BTC-USD`.
    pub product: &'a [u8],
    /// Contiguous per product. At most `i64::MAX`, as every integer here.
    pub trade_id: u64,
    /// The side of the resting order; the taker had the other one.
    pub maker: Side,
    /// As written; may be zero or negative in a faulty frame.
    pub price: Decimal,
    /// As written; may be zero or negative in a faulty frame.
    pub size: Decimal,
    /// Unix ns.
    pub time: i64,
}

/// The state of a product after its latest trade: what `ticker` tells, as far as quotes need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticker<'a> {
    pub product: &'a [u8],
    /// Rises per product, with holes.
    pub sequence: u64,
    pub best_bid: Option<Decimal>,
    /// Not sent before 2022.
    pub best_bid_size: Option<Decimal>,
    pub best_ask: Option<Decimal>,
    /// Not sent before 2022.
    pub best_ask_size: Option<Decimal>,
    /// Unix ns. May be missing in the first ticker after subscribing.
    pub time: Option<i64>,
}

/// The venue's sign of life, once a second for each product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat<'a> {
    pub product: &'a [u8],
    pub sequence: Option<u64>,
    /// The latest trade the venue knows of; its `match` may still be on the way.
    pub last_trade_id: Option<u64>,
    /// Unix ns.
    pub time: i64,
}

/// One price level of a book.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level<'a> {
    pub product: &'a [u8],
    /// `Buy` for bids, `Sell` for asks.
    pub side: Side,
    /// Above zero.
    pub price: Decimal,
    /// The size that now stands at the price, zero or more; zero removes the level.
    pub size: Decimal,
    /// Unix ns; `None` where the frame has no time or one out of range, as in recordings of the year 0001.
    pub time: Option<i64>,
}

/// What a frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A trade that happens now.
    Match(Match<'a>),
    /// The last trade before the subscription: old state.
    LastMatch(Match<'a>),
    Ticker(Ticker<'a>),
    Heartbeat(Heartbeat<'a>),
    /// The book of the product starts anew; its levels follow as [`Event::Level`].
    BookSnapshot {
        product: &'a [u8],
    },
    Level(Level<'a>),
    /// A level that could not be believed. The others of its frame stand.
    InvalidLevel {
        product: &'a [u8],
        reason: Reason,
    },
    /// The venue acknowledged a subscription.
    Subscriptions,
    /// The venue refused something. Both texts are the inside of a JSON string, escapes and all; empty where
    /// the frame has none.
    VenueError {
        message: &'a [u8],
        reason: &'a [u8],
    },
    /// A message of a type that is not handled here.
    Ignored {
        kind: &'a [u8],
    },
}

/// Decodes one frame and hands its events to `on_event`, in order. Never panics, whatever the bytes.
///
/// # Errors
/// [`DecodeError`] where the frame is no JSON object, or its message lacks a field or holds one that cannot be
/// read. No event has been handed out then.
pub fn decode<'a>(frame: &'a [u8], on_event: &mut impl FnMut(Event<'a>)) -> Result<(), DecodeError> {
    let fields = Fields::scan(frame)?;
    match text(fields.kind, "type")? {
        b"match" => on_event(Event::Match(fields.trade()?)),
        b"last_match" => on_event(Event::LastMatch(fields.trade()?)),
        b"ticker" => on_event(Event::Ticker(fields.ticker()?)),
        b"heartbeat" => on_event(Event::Heartbeat(fields.heartbeat()?)),
        b"l2update" => fields.book_update(on_event)?,
        b"snapshot" => fields.book_snapshot(on_event)?,
        b"subscriptions" => on_event(Event::Subscriptions),
        b"error" => {
            let shown = |value: Value<'a>| match value.kind {
                Kind::Text | Kind::EscapedText => value.raw,
                _ => b"",
            };
            on_event(Event::VenueError { message: shown(fields.message), reason: shown(fields.reason) });
        }
        kind => on_event(Event::Ignored { kind }),
    }
    Ok(())
}

/// The fields of a frame that some message needs. Of a key that occurs twice the last counts.
struct Fields<'a> {
    kind: Value<'a>,
    product_id: Value<'a>,
    trade_id: Value<'a>,
    sequence: Value<'a>,
    side: Value<'a>,
    price: Value<'a>,
    size: Value<'a>,
    time: Value<'a>,
    best_bid: Value<'a>,
    best_bid_size: Value<'a>,
    best_ask: Value<'a>,
    best_ask_size: Value<'a>,
    last_trade_id: Value<'a>,
    changes: Value<'a>,
    bids: Value<'a>,
    asks: Value<'a>,
    message: Value<'a>,
    reason: Value<'a>,
}

impl<'a> Fields<'a> {
    fn scan(frame: &'a [u8]) -> Result<Fields<'a>, DecodeError> {
        let mut fields = Fields {
            kind: Value::ABSENT,
            product_id: Value::ABSENT,
            trade_id: Value::ABSENT,
            sequence: Value::ABSENT,
            side: Value::ABSENT,
            price: Value::ABSENT,
            size: Value::ABSENT,
            time: Value::ABSENT,
            best_bid: Value::ABSENT,
            best_bid_size: Value::ABSENT,
            best_ask: Value::ABSENT,
            best_ask_size: Value::ABSENT,
            last_trade_id: Value::ABSENT,
            changes: Value::ABSENT,
            bids: Value::ABSENT,
            asks: Value::ABSENT,
            message: Value::ABSENT,
            reason: Value::ABSENT,
        };
        let mut scanner = Scanner::new(frame);
        scanner.enter(b'{')?;
        let mut first = true;
        while let Some(key) = scanner.next_key(&mut first)? {
            let value = scanner.value()?;
            match key {
                b"type" => fields.kind = value,
                b"product_id" => fields.product_id = value,
                b"trade_id" => fields.trade_id = value,
                b"sequence" => fields.sequence = value,
                b"side" => fields.side = value,
                b"price" => fields.price = value,
                b"size" => fields.size = value,
                b"time" => fields.time = value,
                b"best_bid" => fields.best_bid = value,
                b"best_bid_size" => fields.best_bid_size = value,
                b"best_ask" => fields.best_ask = value,
                b"best_ask_size" => fields.best_ask_size = value,
                b"last_trade_id" => fields.last_trade_id = value,
                b"changes" => fields.changes = value,
                b"bids" => fields.bids = value,
                b"asks" => fields.asks = value,
                b"message" => fields.message = value,
                b"reason" => fields.reason = value,
                _ => {}
            }
        }
        scanner.end()?;
        Ok(fields)
    }

    fn trade(&self) -> Result<Match<'a>, DecodeError> {
        Ok(Match {
            product: text(self.product_id, "product_id")?,
            trade_id: required(integer(self.trade_id), "trade_id")?,
            maker: side(text(self.side, "side")?).map_err(|reason| DecodeError::Field { field: "side", reason })?,
            price: required(decimal(self.price), "price")?,
            size: required(decimal(self.size), "size")?,
            time: required(time(self.time), "time")?,
        })
    }

    fn ticker(&self) -> Result<Ticker<'a>, DecodeError> {
        Ok(Ticker {
            product: text(self.product_id, "product_id")?,
            sequence: required(integer(self.sequence), "sequence")?,
            best_bid: optional(decimal(self.best_bid), "best_bid")?,
            best_bid_size: optional(decimal(self.best_bid_size), "best_bid_size")?,
            best_ask: optional(decimal(self.best_ask), "best_ask")?,
            best_ask_size: optional(decimal(self.best_ask_size), "best_ask_size")?,
            time: optional(time(self.time), "time")?,
        })
    }

    fn heartbeat(&self) -> Result<Heartbeat<'a>, DecodeError> {
        Ok(Heartbeat {
            product: text(self.product_id, "product_id")?,
            sequence: optional(integer(self.sequence), "sequence")?,
            last_trade_id: optional(integer(self.last_trade_id), "last_trade_id")?,
            time: required(time(self.time), "time")?,
        })
    }

    /// `"changes":[["buy","83362.67","0.00000000"],...]`
    fn book_update(&self, on_event: &mut impl FnMut(Event<'a>)) -> Result<(), DecodeError> {
        let product = text(self.product_id, "product_id")?;
        let changes = array(self.changes, "changes")?;
        let time = time(self.time).unwrap_or(None);
        each_level(changes, |parts| {
            let [taken_side, price, size] = parts;
            let side = plain(taken_side).and_then(side);
            on_event(
                side.and_then(|side| level(product, side, price, size, time))
                    .unwrap_or_else(|reason| Event::InvalidLevel { product, reason }),
            );
        })
    }

    /// `"bids":[["14.7550","0.04"],...],"asks":[...]`
    fn book_snapshot(&self, on_event: &mut impl FnMut(Event<'a>)) -> Result<(), DecodeError> {
        let product = text(self.product_id, "product_id")?;
        let (bids, asks) = (array(self.bids, "bids")?, array(self.asks, "asks")?);
        let time = time(self.time).unwrap_or(None);
        on_event(Event::BookSnapshot { product });
        for (list, side) in [(bids, Side::Buy), (asks, Side::Sell)] {
            each_level(list, |[price, size]| {
                on_event(
                    level(product, side, price, size, time)
                        .unwrap_or_else(|reason| Event::InvalidLevel { product, reason }),
                );
            })?;
        }
        Ok(())
    }
}

/// Hands out the first `N` parts of every level in a list; parts that a level lacks are absent, further ones
/// are skipped, and a level that is no list has none.
///
/// # Errors
/// None in fact: the list was scanned before. The scanner cannot know that.
fn each_level<'a, const N: usize>(list: &'a [u8], mut on_level: impl FnMut([Value<'a>; N])) -> Result<(), DecodeError> {
    let mut scanner = Scanner::new(list);
    scanner.enter(b'[')?;
    let mut first_level = true;
    while scanner.next_element(&mut first_level)? {
        let mut parts = [Value::ABSENT; N];
        if scanner.peek()? == b'[' {
            scanner.enter(b'[')?;
            let mut first_part = true;
            let mut at = 0;
            while scanner.next_element(&mut first_part)? {
                let value = scanner.value()?;
                if let Some(part) = parts.get_mut(at) {
                    *part = value;
                }
                at += 1;
            }
        } else {
            scanner.value()?;
        }
        on_level(parts);
    }
    Ok(())
}

fn level<'a>(
    product: &'a [u8],
    side: Side,
    price: Value<'_>,
    size: Value<'_>,
    time: Option<i64>,
) -> Result<Event<'a>, Reason> {
    let price = decimal(price)?.ok_or(Reason::MissingField)?;
    let size = decimal(size)?.ok_or(Reason::MissingField)?;
    if !price.is_positive() {
        return Err(Reason::Price);
    }
    if size.mantissa() < 0 {
        return Err(Reason::Size);
    }
    Ok(Event::Level(Level { product, side, price, size, time }))
}

fn required<T>(read: Result<Option<T>, Reason>, field: &'static str) -> Result<T, DecodeError> {
    optional(read, field)?.ok_or(DecodeError::Missing { field })
}

fn optional<T>(read: Result<Option<T>, Reason>, field: &'static str) -> Result<Option<T>, DecodeError> {
    read.map_err(|reason| DecodeError::Field { field, reason })
}

fn text<'a>(value: Value<'a>, field: &'static str) -> Result<&'a [u8], DecodeError> {
    plain(value).map_err(|reason| match reason {
        Reason::MissingField => DecodeError::Missing { field },
        _ => DecodeError::Field { field, reason },
    })
}

fn array<'a>(value: Value<'a>, field: &'static str) -> Result<&'a [u8], DecodeError> {
    match value.kind {
        Kind::Array => Ok(value.raw),
        Kind::Absent | Kind::Null => Err(DecodeError::Missing { field }),
        _ => Err(DecodeError::Field { field, reason: Reason::FieldType }),
    }
}

fn plain(value: Value<'_>) -> Result<&[u8], Reason> {
    match value.kind {
        Kind::Text => Ok(value.raw),
        Kind::Absent | Kind::Null => Err(Reason::MissingField),
        _ => Err(Reason::FieldType),
    }
}

/// The characters of a string or a bare number, `None` for an absent value. The venue writes prices as strings
/// and ids as numbers; either is read in either form, because the text is exact in both.
fn scalar(value: Value<'_>) -> Result<Option<&[u8]>, Reason> {
    match value.kind {
        Kind::Text | Kind::Number => Ok(Some(value.raw)),
        Kind::Absent | Kind::Null => Ok(None),
        _ => Err(Reason::FieldType),
    }
}

fn decimal(value: Value<'_>) -> Result<Option<Decimal>, Reason> {
    let Some(digits) = scalar(value)? else { return Ok(None) };
    Decimal::parse(digits).map(Some).map_err(|error| match error {
        DecimalError::Malformed => Reason::Number,
        DecimalError::OutOfRange => Reason::NumberRange,
    })
}

fn integer(value: Value<'_>) -> Result<Option<u64>, Reason> {
    let Some(digits) = scalar(value)? else { return Ok(None) };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Reason::Number);
    }
    let number = digits.iter().try_fold(0u64, |n, digit| n.checked_mul(10)?.checked_add(u64::from(digit - b'0')));
    number.filter(|n| i64::try_from(*n).is_ok()).map(Some).ok_or(Reason::NumberRange)
}

fn time(value: Value<'_>) -> Result<Option<i64>, Reason> {
    match value.kind {
        Kind::Absent | Kind::Null => Ok(None),
        Kind::Text => parse_rfc3339(value.raw).map(Some).ok_or(Reason::Time),
        _ => Err(Reason::FieldType),
    }
}

fn side(text: &[u8]) -> Result<Side, Reason> {
    match text {
        b"buy" => Ok(Side::Buy),
        b"sell" => Ok(Side::Sell),
        _ => Err(Reason::Side),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BTC_MATCH: &str = r#"{"type":"match","trade_id":1100243492,"maker_order_id":"bc4a4f45-f5f9-42f7-b0e9-2548fb14e550","taker_order_id":"b5d87128-75fa-4642-9a29-e85819dde27b","side":"buy","size":"0.00000009","price":"83425.96","product_id":"BTC-USD","sequence":136999329371,"time":"2026-09-30T02:03:14.331644Z"}"#;
    const BAND_TICKER: &str = r#"{"type":"ticker","sequence":333938798,"product_id":"BAND-GBP","price":"14.7775","open_24h":"14.6647","volume_24h":"94381.28000000","low_24h":"14.3691","high_24h":"16.55","volume_30d":"2295579.57000000","best_bid":"14.7550","best_ask":"14.8060","side":"buy","time":"2021-04-17T16:43:30.244075Z","trade_id":881613,"last_size":"0.04"}"#;
    const BTC_HEARTBEAT: &str = r#"{"type":"heartbeat","last_trade_id":1092969669,"product_id":"BTC-USD","sequence":136118091026,"time":"2026-09-15T11:01:54.000000Z"}"#;
    const SKL_UPDATE: &str = r#"{"type":"l2update","product_id":"SKL-BTC","changes":[["sell","0.00001306","660.5"]],"time":"2021-04-17T16:43:37.075687Z"}"#;

    fn events(frame: &str) -> Result<Vec<Event<'_>>, DecodeError> {
        let mut events = Vec::new();
        decode(frame.as_bytes(), &mut |event| events.push(event))?;
        Ok(events)
    }

    #[track_caller]
    fn check(frame: &str, expected: Result<&[Event<'_>], DecodeError>) {
        assert_eq!(events(frame).as_deref(), expected.as_ref().copied(), "{frame}");
    }

    #[track_caller]
    fn refuses(frame: &str, expected: DecodeError) {
        check(frame, Err(expected));
    }

    fn decimal(text: &str) -> Decimal {
        Decimal::parse(text.as_bytes()).unwrap()
    }

    /// Numeric equality hides a lost zero, so digits are compared as text.
    fn digits(decimal: Option<Decimal>) -> String {
        decimal.map_or("-".into(), |decimal| decimal.to_string())
    }

    #[test]
    fn reads_a_match() {
        let trade = Match {
            product: b"BTC-USD",
            trade_id: 1_100_243_492,
            maker: Side::Buy,
            price: decimal("83425.96"),
            size: decimal("0.00000009"),
            time: 1_790_733_794_331_644_000,
        };
        check(BTC_MATCH, Ok(&[Event::Match(trade)]));
        check(&BTC_MATCH.replace("match", "last_match"), Ok(&[Event::LastMatch(trade)]));
        // Some captures of 2026 come without the order ids.
        let short = r#"{"product_id":"BTC-USD","time":"2026-09-30T02:03:14.331644Z","price":"83425.96","size":"0.00000009","side":"buy","trade_id":1100243492,"type":"match"}"#;
        check(short, Ok(&[Event::Match(trade)]));
    }

    #[test]
    fn reads_a_ticker_with_the_digits_of_the_venue() {
        let Ok([Event::Ticker(ticker)]) =
            events(BAND_TICKER).as_deref().map(|events| <[_; 1]>::try_from(events).unwrap())
        else {
            panic!("no ticker")
        };
        assert_eq!((ticker.product, ticker.sequence), (&b"BAND-GBP"[..], 333_938_798));
        assert_eq!((digits(ticker.best_bid), digits(ticker.best_ask)), ("14.7550".into(), "14.8060".into()));
        assert_eq!((ticker.best_bid_size, ticker.best_ask_size), (None, None));
        assert_eq!(ticker.time, Some(1_618_677_810_244_075_000));

        let sized = BAND_TICKER
            .replace(r#""best_ask":"14.8060""#, r#""best_bid_size":"0.10","best_ask":"14.8060","best_ask_size":"985""#);
        let first = sized.replace(r#""time":"2021-04-17T16:43:30.244075Z","#, "");
        for (frame, time) in [(sized, ticker.time), (first, None)] {
            let events = events(&frame).unwrap();
            let [Event::Ticker(ticker)] = events[..] else { panic!("{events:?}") };
            assert_eq!((digits(ticker.best_bid_size), digits(ticker.best_ask_size)), ("0.10".into(), "985".into()));
            assert_eq!(ticker.time, time);
        }
    }

    #[test]
    fn reads_a_heartbeat() {
        let heartbeat = Heartbeat {
            product: b"BTC-USD",
            sequence: Some(136_118_091_026),
            last_trade_id: Some(1_092_969_669),
            time: 1_789_470_114_000_000_000,
        };
        check(BTC_HEARTBEAT, Ok(&[Event::Heartbeat(heartbeat)]));
    }

    #[test]
    fn reads_levels_and_marks_the_faulty_ones() {
        let product = &b"SKL-BTC"[..];
        let time = Some(1_618_677_817_075_687_000);
        let level = |side, price, size, time| {
            Event::Level(Level { product, side, price: decimal(price), size: decimal(size), time })
        };
        check(SKL_UPDATE, Ok(&[level(Side::Sell, "0.00001306", "660.5", time)]));
        check(
            &SKL_UPDATE.replace("2021-04-17T16:43:37.075687Z", "0001-01-01T00:00:00.000000Z"),
            Ok(&[level(Side::Sell, "0.00001306", "660.5", None)]),
        );
        check(&SKL_UPDATE.replace(r#"["sell","0.00001306","660.5"]"#, ""), Ok(&[]));
        let invalid = |reason| Event::InvalidLevel { product, reason };
        let changes = r#"[ ["buy","1","0.00"],["sell","0.00001306","0.-10000"],["sel","1","1"],["buy","0","1"],
            ["buy","1","-1"],["buy","1"],[],7,["buy","1",null],["buy",[],"1"],["buy","1","12345678901234567890"],
            ["buy","1.0","2",{"more":1}] ]"#;
        check(
            &SKL_UPDATE.replace(r#"[["sell","0.00001306","660.5"]]"#, changes),
            Ok(&[
                level(Side::Buy, "1", "0", time),
                invalid(Reason::Number),
                invalid(Reason::Side),
                invalid(Reason::Price),
                invalid(Reason::Size),
                invalid(Reason::MissingField),
                invalid(Reason::MissingField),
                invalid(Reason::MissingField),
                invalid(Reason::MissingField),
                invalid(Reason::FieldType),
                invalid(Reason::NumberRange),
                level(Side::Buy, "1.0", "2", time),
            ]),
        );
        check(
            r#"{"asks":[["14.8024","12.77"]],"type":"snapshot","bids":[["14.7550","0.04"],["14","1E-8"]],"product_id":"SKL-BTC"}"#,
            Ok(&[
                Event::BookSnapshot { product },
                level(Side::Buy, "14.7550", "0.04", None),
                level(Side::Buy, "14", "0.00000001", None),
                level(Side::Sell, "14.8024", "12.77", None),
            ]),
        );
    }

    #[test]
    fn reads_what_is_no_market_data() {
        check(
            r#"{"type":"subscriptions","channels":[{"name":"level2","product_ids":["SKL-BTC"]}]}"#,
            Ok(&[Event::Subscriptions]),
        );
        check(
            r#"{"type":"error","message":"Failed to subscribe","reason":"\"XYZ\" is not a valid product"}"#,
            Ok(&[Event::VenueError { message: b"Failed to subscribe", reason: br#"\"XYZ\" is not a valid product"# }]),
        );
        check(r#"{"type":"error","message":null}"#, Ok(&[Event::VenueError { message: b"", reason: b"" }]));
        check(
            r#"{"type":"done","price":{"not":"ours"},"time":7,"product_id":"BTC-USD"}"#,
            Ok(&[Event::Ignored { kind: b"done" }]),
        );
    }

    #[test]
    fn key_order_whitespace_and_unknown_keys_do_not_matter() {
        let expected = events(BTC_MATCH).unwrap();
        let spread = BTC_MATCH.replace("\":", "\" :\n\t").replace(",\"", " ,\r\n \"");
        let stuffed = BTC_MATCH.replace(
            r#""side""#,
            r#""x\"y":"a\"},{\\","nested":{"price":"1","side":["sell",{"trade_id":1}]},"n":null,"b":true,"side""#,
        );
        let as_strings = BTC_MATCH.replace("1100243492", "\"1100243492\"").replace("\"83425.96\"", "83425.96");
        for frame in [spread, stuffed, as_strings] {
            check(&frame, Ok(&expected));
        }
    }

    #[test]
    fn refuses_frames_that_cannot_be_read() {
        let syntax = |offset| DecodeError::Syntax { offset };
        let missing = |field| DecodeError::Missing { field };
        let invalid = |field, reason| DecodeError::Field { field, reason };
        refuses("", DecodeError::Truncated { offset: 0 });
        refuses("[]", syntax(0));
        refuses("\u{feff}{}", syntax(0));
        refuses("{}", missing("type"));
        refuses(r#"{"type":7}"#, invalid("type", Reason::FieldType));
        refuses(r#"{"type":"m\u0061tch"}"#, invalid("type", Reason::FieldType));
        refuses(r#"{"type":"match"}"#, missing("product_id"));
        refuses(r#"{"type":"l2update","product_id":"A-B"}"#, missing("changes"));
        refuses(r#"{"type":"snapshot","product_id":"A-B","bids":[],"asks":{}}"#, invalid("asks", Reason::FieldType));
        refuses(&format!("{BTC_MATCH}{BTC_MATCH}"), syntax(BTC_MATCH.len()));
        let altered = |from: &str, to: &str| BTC_MATCH.replace(from, to);
        refuses(&altered("\"83425.96\"", "null"), missing("price"));
        refuses(&altered("83425.96", ""), invalid("price", Reason::Number));
        refuses(&altered("83425.96", "83425.9.6"), invalid("price", Reason::Number));
        refuses(&altered("83425.96", "83,425.96"), invalid("price", Reason::Number));
        refuses(&altered("\"83425.96\"", "[83425.96]"), invalid("price", Reason::FieldType));
        refuses(&altered("83425.96", "1e40"), invalid("price", Reason::NumberRange));
        refuses(&altered("\"buy\"", "\"BUY\""), invalid("side", Reason::Side));
        refuses(&altered("1100243492", "-1"), invalid("trade_id", Reason::Number));
        refuses(&altered("1100243492", "1.5"), invalid("trade_id", Reason::Number));
        refuses(&altered("1100243492", "9223372036854775808"), invalid("trade_id", Reason::NumberRange));
        refuses(&altered("1100243492", "99999999999999999999999"), invalid("trade_id", Reason::NumberRange));
        refuses(&altered("2026-09-30T02:03:14.331644Z", "0001-01-01T00:00:00.000000Z"), invalid("time", Reason::Time));
        refuses(&altered("\"2026-09-30T02:03:14.331644Z\"", "1790733794"), invalid("time", Reason::FieldType));
    }

    #[test]
    fn every_cut_of_a_frame_is_refused() {
        for frame in [BTC_MATCH, BAND_TICKER, BTC_HEARTBEAT, SKL_UPDATE] {
            for end in 0..frame.len() {
                let error = events(&frame[..end]).unwrap_err();
                assert_eq!(error, DecodeError::Truncated { offset: end }, "{}", &frame[..end]);
            }
        }
    }
}
