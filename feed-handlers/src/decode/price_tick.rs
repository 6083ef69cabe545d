//! `price_tick` records of the topic `market-data-raw`, in which the platform's other ingesters hand in what they read.
//!
//! Pure, any thread. One record carries one provider's last price and, where it has one, its quote. Records that break
//! a rule of the contract (`price > 0`, `volume >= 0`, a whole number) are refused, for the dead-letter topic. The
//! symbol is trimmed here, and put into upper case by the instrument table, because it is borrowed from the record.
//!
//! Times without a zone are refused: ISO 8601 means the clock of where they were written, and nobody knows where that
//! was. Deliberately absent: trade ids and takers, which the record has not, and texts with escapes.

use protocol::{Decimal, parse_rfc3339};

use super::event::{Age, Event, Part, Quote, Symbol, Top, Trade};
use super::field::{boolean, decimal, optional, required, text};
use super::json::{Kind, Value, members};
use super::{DecodeError, Reason};

const NANOS_PER_MINUTE: i64 = 60_000_000_000;

/// Bytes of a clock without seconds, `2021-04-17T16:43`.
const MINUTES_BYTES: usize = 16;

/// Decodes one record: [`Event::Provider`], its trade, and its quote where both sides of it are told. A quote that
/// cannot be believed is [`Event::Invalid`], and the trade stands.
///
/// # Errors
/// [`DecodeError`] where the record is no JSON object or breaks a rule. No event has been handed out then.
pub fn decode<'a>(frame: &'a [u8], on_event: &mut impl FnMut(Event<'a>)) -> Result<(), DecodeError> {
    let record = Record::read(frame)?;
    let trade = record.trade()?;
    let is_mock = optional(boolean(record.is_mock), "is_mock")?.unwrap_or(false);
    let name = match record.source_provider.kind {
        Kind::Absent | Kind::Null => &b""[..],
        _ => text(record.source_provider, "source_provider")?,
    };
    on_event(Event::Provider { name, is_mock });
    on_event(Event::Trade(trade));
    match record.quote(trade.symbol, trade.time) {
        Ok(Some(quote)) => on_event(Event::Quote(quote)),
        Ok(None) => {}
        Err(reason) => on_event(Event::Invalid { symbol: Some(trade.symbol), part: Part::Quote, reason }),
    }
    Ok(())
}

members! {
    struct Record {
        symbol: b"symbol",
        timestamp: b"timestamp",
        price: b"price",
        volume: b"volume",
        bid: b"bid",
        ask: b"ask",
        bid_size: b"bid_size",
        ask_size: b"ask_size",
        source_provider: b"source_provider",
        is_mock: b"is_mock",
    }
}

impl<'a> Record<'a> {
    fn trade(&self) -> Result<Trade<'a>, DecodeError> {
        let symbol = text(self.symbol, "symbol")?.trim_ascii();
        if symbol.is_empty() {
            return Err(DecodeError::Missing { field: "symbol" });
        }
        Ok(Trade {
            symbol: Symbol::Text(symbol),
            id: None,
            price: required(price(self.price), "price")?,
            size: required(volume(self.volume), "volume")?,
            taker: None,
            time: required(timestamp(self.timestamp), "timestamp")?,
            age: Age::Live,
        })
    }

    /// `None` unless both sides are told. A price of zero is the usual way to say that there is none.
    fn quote(&self, symbol: Symbol<'a>, time: i64) -> Result<Option<Quote<'a>>, Reason> {
        let (Some(bid), Some(ask)) = (decimal(self.bid)?, decimal(self.ask)?) else { return Ok(None) };
        let bid = top(bid, decimal(self.bid_size)?)?;
        let ask = top(ask, decimal(self.ask_size)?)?;
        let quote = Quote { symbol, bid, ask, sequence: None, time: Some(time), age: Age::Live };
        Ok((bid.is_some() || ask.is_some()).then_some(quote))
    }
}

fn price(value: Value<'_>) -> Result<Option<Decimal>, Reason> {
    match decimal(value)? {
        Some(price) if !price.is_positive() => Err(Reason::Price),
        price => Ok(price),
    }
}

/// A whole number of zero or more, in whatever form a number of JSON has.
fn volume(value: Value<'_>) -> Result<Option<Decimal>, Reason> {
    let Some(volume) = decimal(value)? else { return Ok(None) };
    if volume.mantissa() < 0 {
        return Err(Reason::Size);
    }
    volume.rescale(0).map(|_| Some(volume)).ok_or(Reason::Number)
}

fn top(price: Decimal, size: Option<Decimal>) -> Result<Option<Top>, Reason> {
    if price.mantissa() < 0 {
        return Err(Reason::Price);
    }
    if size.is_some_and(|size| size.mantissa() < 0) {
        return Err(Reason::Size);
    }
    Ok(price.is_positive().then_some(Top { price, size }))
}

/// Milliseconds since 1970, as a number or a text of digits, with their fractions where the ingester has such; or an ISO 8601
/// text.
fn timestamp(value: Value<'_>) -> Result<Option<i64>, Reason> {
    match value.kind {
        Kind::Text if !value.raw.iter().all(u8::is_ascii_digit) => iso_8601(value.raw).map(Some).ok_or(Reason::Time),
        // Six digits behind the point are nanoseconds.
        _ => decimal(value)?.map(|ms| ms.rescale(6).map(Decimal::mantissa).ok_or(Reason::Time)).transpose(),
    }
}

/// Reads `2021-04-17T16:43:37.075687+00:00` and what else is usual: `Z`, an offset without its colon or its minutes, a
/// space for the `T`, a comma for the point, and no seconds where they are zero, as Java writes it. `None` where the zone
/// is missing.
fn iso_8601(text: &[u8]) -> Option<i64> {
    let (clock, ahead_minutes) = split_zone(text)?;
    // 19 characters, a point, 9 digits, and the `Z`.
    let mut rfc3339 = [0; 30];
    let mut end = clock.len();
    rfc3339.get_mut(..end)?.copy_from_slice(clock);
    if end == MINUTES_BYTES {
        rfc3339[end..end + 3].copy_from_slice(b":00");
        end += 3;
    }
    *rfc3339.get_mut(end)? = b'Z';
    for (at, from, to) in [(10, b' ', b'T'), (19, b',', b'.')] {
        if rfc3339[at] == from {
            rfc3339[at] = to;
        }
    }
    parse_rfc3339(&rfc3339[..=end])?.checked_sub(ahead_minutes * NANOS_PER_MINUTE)
}

/// A text's clock, and by how many minutes it is ahead of UTC.
fn split_zone(text: &[u8]) -> Option<(&[u8], i64)> {
    let (clock, sign, hours, minutes) = match text {
        [clock @ .., b'Z'] => return Some((clock, 0)),
        [clock @ .., sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => (clock, sign, [h1, h2], [m1, m2]),
        [clock @ .., sign @ (b'+' | b'-'), h1, h2, m1, m2] => (clock, sign, [h1, h2], [m1, m2]),
        [clock @ .., sign @ (b'+' | b'-'), h1, h2] => (clock, sign, [h1, h2], [&b'0', &b'0']),
        _ => return None,
    };
    let number = |[tens, ones]: [&u8; 2]| {
        (tens.is_ascii_digit() && ones.is_ascii_digit()).then(|| i64::from(tens - b'0') * 10 + i64::from(ones - b'0'))
    };
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    if hours > 23 || minutes > 59 {
        return None;
    }
    let ahead = hours * 60 + minutes;
    Some((clock, if *sign == b'-' { -ahead } else { ahead }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::{self, Expected, decimal, top};
    use super::*;

    const AAPL: &str = r#"{"symbol":" aapl ","timestamp":1618677817075,"price":134.1600,"volume":100,"bid":134.15,"ask":134.17,"bid_size":3,"ask_size":"2.5","source_provider":"alpha_vantage","is_mock":true}"#;
    const BARE: &str = r#"{"symbol":"EUR/USD","timestamp":"2021-04-17T16:43:37.075Z","price":"1.1980","volume":0}"#;
    const TIME: i64 = 1_618_677_817_075_000_000;

    #[track_caller]
    fn check(frame: &str, expected: Expected<'_, '_>) {
        testing::check(frame, testing::events(|mut on_event| decode(frame.as_bytes(), &mut on_event)), expected);
    }

    #[track_caller]
    fn refuses(from: &str, to: &str, expected: DecodeError) {
        assert!(AAPL.contains(from), "{from}");
        check(&AAPL.replace(from, to), Err(expected));
    }

    fn aapl() -> (Event<'static>, Event<'static>, Quote<'static>) {
        let symbol = Symbol::Text(b"aapl");
        let (price, size) = (decimal("134.1600"), decimal("100"));
        let trade = Trade { symbol, id: None, price, size, taker: None, time: TIME, age: Age::Live };
        let (bid, ask) = (top("134.15", "3"), top("134.17", "2.5"));
        let quote = Quote { symbol, bid, ask, sequence: None, time: Some(TIME), age: Age::Live };
        (Event::Provider { name: b"alpha_vantage", is_mock: true }, Event::Trade(trade), quote)
    }

    #[test]
    fn a_record_is_its_provider_a_trade_and_a_quote() {
        let (provider, trade, quote) = aapl();
        check(AAPL, Ok(&[provider, trade, Event::Quote(quote)]));

        let bare = Trade {
            symbol: Symbol::Text(b"EUR/USD"),
            id: None,
            price: decimal("1.1980"),
            size: decimal("0"),
            taker: None,
            time: TIME,
            age: Age::Live,
        };
        check(BARE, Ok(&[Event::Provider { name: b"", is_mock: false }, Event::Trade(bare)]));
    }

    #[test]
    fn a_quote_needs_both_sides() {
        let (provider, trade, quote) = aapl();
        let check = |from: &str, to: &str, quote: Option<Quote<'_>>| {
            assert!(AAPL.contains(from), "{from}");
            let all = [Some(provider), Some(trade), quote.map(Event::Quote)];
            check(&AAPL.replace(from, to), Ok(&all.into_iter().flatten().collect::<Vec<_>>()));
        };
        check(r#","ask":134.17"#, "", None);
        check(r#""bid":134.15"#, r#""bid":null"#, None);
        check(r#""bid":134.15,"ask":134.17"#, r#""bid":0,"ask":0.00"#, None);
        check("134.15", "0", Some(Quote { bid: None, ..quote }));
        check(r#""bid_size":3,"#, "", Some(Quote { bid: top("134.15", None), ..quote }));
        check(r#""ask_size":"2.5""#, r#""ask_size":null"#, Some(Quote { ask: top("134.17", None), ..quote }));
    }

    #[test]
    fn a_faulty_quote_leaves_the_trade_alone() {
        let (provider, trade, quote) = aapl();
        for (from, to, reason) in [
            ("134.15", "-134.15", Reason::Price),
            (r#""bid_size":3"#, r#""bid_size":-3"#, Reason::Size),
            ("134.17", r#""n/a""#, Reason::Number),
            (r#""2.5""#, "{}", Reason::FieldType),
            ("134.17", "12345678901234567890", Reason::NumberRange),
        ] {
            let invalid = Event::Invalid { symbol: Some(quote.symbol), part: Part::Quote, reason };
            check(&AAPL.replace(from, to), Ok(&[provider, trade, invalid]));
        }
    }

    #[test]
    fn what_breaks_a_rule_is_refused() {
        let missing = |field| DecodeError::Missing { field };
        let invalid = |field, reason| DecodeError::Field { field, reason };
        refuses(r#""symbol":" aapl ","#, "", missing("symbol"));
        refuses(" aapl ", "  ", missing("symbol"));
        refuses(r#"" aapl ""#, "7", invalid("symbol", Reason::FieldType));
        refuses("1618677817075", "null", missing("timestamp"));
        refuses("1618677817075", "true", invalid("timestamp", Reason::FieldType));
        refuses("1618677817075", "1618677817075000000", invalid("timestamp", Reason::Time));
        refuses("1618677817075", "1618677817075.0000001", invalid("timestamp", Reason::NumberRange));
        refuses("134.1600", "0.00", invalid("price", Reason::Price));
        refuses("134.1600", "-1", invalid("price", Reason::Price));
        refuses("134.1600", "\"\"", invalid("price", Reason::Number));
        refuses(r#""price":134.1600,"#, "", missing("price"));
        refuses(":100,", ":-1,", invalid("volume", Reason::Size));
        refuses(":100,", ":1.5,", invalid("volume", Reason::Number));
        refuses(":100,", ":null,", missing("volume"));
        refuses("true", "\"true\"", invalid("is_mock", Reason::FieldType));
        refuses("\"alpha_vantage\"", "7", invalid("source_provider", Reason::FieldType));
        check("[]", Err(DecodeError::Syntax { offset: 0 }));
        for end in 0..AAPL.len() {
            check(&AAPL[..end], Err(DecodeError::Truncated { offset: end }));
        }
    }

    #[test]
    fn numbers_may_be_written_in_any_way() {
        let (provider, trade, quote) = aapl();
        for (from, to) in [
            (":100,", ":1e2,"),
            (":100,", ":\"100\","),
            ("1618677817075", "1618677817075.000"),
            ("1618677817075", "1.618677817075e12"),
            ("1618677817075", "\"1618677817075\""),
            ("134.1600", "\"134.1600\""),
        ] {
            check(&AAPL.replace(from, to), Ok(&[provider, trade, Event::Quote(quote)]));
        }
        let Event::Trade(trade) = trade else { panic!("{trade:?}") };
        let of_float = Event::Trade(Trade { size: decimal("100.0"), ..trade });
        check(&AAPL.replace(":100,", ":100.0,"), Ok(&[provider, of_float, Event::Quote(quote)]));
    }

    #[test]
    fn times_are_read_in_every_zone() {
        for text in [
            "2021-04-17T16:43:37.075Z",
            "2021-04-17 16:43:37.075Z",
            "2021-04-17T16:43:37.075000000+00:00",
            "2021-04-17T16:43:37.075-00:00",
            "2021-04-17T12:43:37.075-04:00",
            "2021-04-17T22:13:37.075+0530",
            "2021-04-18T01:43:37.075+09",
            "2021-04-17T16:43:37,075Z",
        ] {
            assert_eq!(iso_8601(text.as_bytes()), Some(TIME), "{text}");
        }
        for text in ["2021-04-17T16:43Z", "2021-04-17 18:43+02:00"] {
            assert_eq!(iso_8601(text.as_bytes()), Some(TIME - 37_075_000_000), "{text}");
        }
        for text in [
            "",
            "Z",
            "2021-04-17",
            "2021-04-17T16:43:37.075",
            "2021-04-17T16:43:37.075+24:00",
            "2021-04-17T16:43:37.075+05:60",
            "2021-04-17T16:43:37.075+0a:00",
            "2021-04-17T16:43:37.0750000000Z",
            "2021-04-17T16:4Z",
            "2021-04-17T16:43:Z",
            "2021-04-17T16:43:37,Z",
            "2021-04-17T16:43:37,0,5Z",
            "0001-01-01T00:00:00Z",
            "1618677817075",
        ] {
            assert_eq!(iso_8601(text.as_bytes()), None, "{text}");
        }
        let (provider, trade, quote) = aapl();
        let zoned = AAPL.replace("1618677817075", r#""2021-04-17T18:43:37.075+02:00""#);
        check(&zoned, Ok(&[provider, trade, Event::Quote(quote)]));
        refuses("1618677817075", r#""""#, DecodeError::Field { field: "timestamp", reason: Reason::Number });
    }

    proptest! {
        #[test]
        fn never_panics(bytes: Vec<u8>) {
            let _ = iso_8601(&bytes);
            let _ = decode(&bytes, &mut |_| {});
        }
    }
}
