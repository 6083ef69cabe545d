//! IEX Cloud: the JSON of one server-sent event of its endpoints `stocksUS*`, `tops`, `last`, `deep`, `cryptoQuotes`,
//! `cryptoBook` and `forex`. The events themselves are for [`super::sse`]; an object alone is read as its socket sent it.
//!
//! Pure, any thread. Nothing says what an object is but the keys that it has. What is taken for live is only what
//! IEX itself saw, with IEX's own time:
//! - A quote object of a stock mixes prices of its own book, of the day and of 15 minutes ago. Of it, bid, ask and
//!   last price of IEX are taken, at `iexLastUpdated`; where that is null, 0 or -1, IEX has seen nothing today.
//! - `tops` and quote objects repeat the last trade as often as the quote changes, without its number.
//! - A `book` is the whole book of IEX, or of the crypto exchange, each time.
//!
//! Deliberately absent: `forex`, whose one rate is nobody's quote, a price without a time, halts, auctions and trade
//! breaks: all [`Event::Ignored`].
//!
//! Fields: the archived documentation of the service, which ended in August 2024, and recorded answers.

use protocol::Side;

use super::event::{Age, BookBegin, BookEnd, BookScope, Event, Level, NO_OBJECT, Part, Quote, Symbol, Trade, invalid};
use super::field::{decimal, integer, plain, scalar, top, unix_time};
use super::json::{Kind, Scanner, Value, each_object, members};
use super::{DecodeError, Reason};

const NANOS_PER_MILLISECOND: i64 = 1_000_000;

/// Decodes the data of one event: an array of objects, or one object.
///
/// # Errors
/// [`DecodeError`] where it is neither. No event has been handed out then.
pub fn decode<'a>(frame: &'a [u8], on_event: &mut impl FnMut(Event<'a>)) -> Result<(), DecodeError> {
    let mut scanner = Scanner::new(frame);
    let value = scanner.value()?;
    scanner.end()?;
    match value.kind {
        Kind::Object => Object::read(value.raw)?.events(on_event),
        Kind::Array => objects(value.raw, on_event),
        _ => Err(DecodeError::Syntax { offset: 0 }),
    }
}

/// The elements of `list`, which was scanned before.
fn objects<'a>(list: &'a [u8], on_event: &mut impl FnMut(Event<'a>)) -> Result<(), DecodeError> {
    let mut is_empty = true;
    each_object(list, Object::scan, |object| {
        is_empty = false;
        match object {
            Some(object) => object.events(on_event),
            None => {
                on_event(NO_OBJECT);
                Ok(())
            }
        }
    })?;
    if is_empty {
        on_event(Event::Ignored { kind: b"[]" });
    }
    Ok(())
}

members! {
    struct Object {
        symbol: b"symbol",
        // Of `deep`.
        message_type: b"messageType",
        data: b"data",
        // Of `tops`, and the bid and ask of crypto quotes.
        sequence: b"seq",
        bid_price: b"bidPrice",
        bid_size: b"bidSize",
        ask_price: b"askPrice",
        ask_size: b"askSize",
        last_updated: b"lastUpdated",
        last_sale_price: b"lastSalePrice",
        last_sale_size: b"lastSaleSize",
        last_sale_time: b"lastSaleTime",
        // Of `last`.
        price: b"price",
        size: b"size",
        time: b"time",
        // Of quotes.
        calculation_price: b"calculationPrice",
        latest_price: b"latestPrice",
        latest_update: b"latestUpdate",
        iex_price: b"iexRealtimePrice",
        iex_size: b"iexRealtimeSize",
        iex_bid_price: b"iexBidPrice",
        iex_bid_size: b"iexBidSize",
        iex_ask_price: b"iexAskPrice",
        iex_ask_size: b"iexAskSize",
        iex_last_updated: b"iexLastUpdated",
        // Of crypto books.
        bids: b"bids",
        asks: b"asks",
        // Of `forex`.
        rate: b"rate",
    }
}

members! {
    /// The `data` of a `deep` object; its price, size and time those of a trade.
    struct Deep {
        price: b"price",
        size: b"size",
        id: b"tradeId",
        time: b"timestamp",
        bids: b"bids",
        asks: b"asks",
    }
}

members! {
    struct BookLevel {
        price: b"price",
        size: b"size",
        time: b"timestamp",
    }
}

impl<'a> Object<'a> {
    /// # Errors
    /// None but those of a scan, which the object has passed before.
    fn events(&self, on_event: &mut impl FnMut(Event<'a>)) -> Result<(), DecodeError> {
        let is = |value: Value<'_>| value.kind != Kind::Absent;
        let symbol = match plain(self.symbol) {
            Ok(symbol) => Symbol::Text(symbol),
            Err(reason) => {
                on_event(invalid(None, Part::Message, reason));
                return Ok(());
            }
        };
        if is(self.message_type) {
            return self.deep(symbol, on_event);
        }
        if is(self.calculation_price) || is(self.latest_price) {
            self.quote_object(symbol, on_event);
        } else if is(self.bids) || is(self.asks) {
            return book(symbol, self.bids, self.asks, on_event);
        } else if is(self.bid_price) || is(self.ask_price) || is(self.last_sale_price) {
            let quote = quote(symbol, self.sides(), self.last_updated, self.sequence);
            let trade = trade(symbol, self.last_sale_price, self.last_sale_size, self.last_sale_time);
            state(symbol, b"tops", quote, trade, on_event);
        } else if is(self.price) && is(self.time) {
            state(symbol, b"last", Ok(None), trade(symbol, self.price, self.size, self.time), on_event);
        } else if is(self.price) {
            on_event(Event::Ignored { kind: b"price" });
        } else if is(self.rate) {
            on_event(Event::Ignored { kind: b"forex" });
        } else {
            on_event(invalid(Some(symbol), Part::Message, Reason::MissingField));
        }
        Ok(())
    }

    fn sides(&self) -> [Value<'a>; 4] {
        [self.bid_price, self.bid_size, self.ask_price, self.ask_size]
    }

    /// A quote object has `bidPrice` and `askPrice` where it is of a crypto exchange, and IEX's own where it is of a
    /// stock.
    fn quote_object(&self, symbol: Symbol<'a>, on_event: &mut impl FnMut(Event<'a>)) {
        if self.bid_price.kind == Kind::Absent && self.ask_price.kind == Kind::Absent {
            let sides = [self.iex_bid_price, self.iex_bid_size, self.iex_ask_price, self.iex_ask_size];
            let quote = quote(symbol, sides, self.iex_last_updated, Value::ABSENT);
            let trade = trade(symbol, self.iex_price, self.iex_size, self.iex_last_updated);
            return state(symbol, b"stocksUS", quote, trade, on_event);
        }
        let quote = match plain(self.calculation_price) {
            Ok(b"realtime") => quote(symbol, self.sides(), self.latest_update, Value::ABSENT),
            _ => Ok(None),
        };
        state(symbol, b"cryptoQuotes", quote, Ok(None), on_event);
    }

    fn deep(&self, symbol: Symbol<'a>, on_event: &mut impl FnMut(Event<'a>)) -> Result<(), DecodeError> {
        let invalid = |part, reason| invalid(Some(symbol), part, reason);
        let data = match self.data.kind {
            Kind::Object => Some(Deep::read(self.data.raw)?),
            _ => None,
        };
        match (plain(self.message_type), data) {
            (Ok(b"trades"), Some(data)) => on_event(match data.trade(symbol) {
                Ok(trade) => Event::Trade(trade),
                Err(reason) => invalid(Part::Trade, reason),
            }),
            (Ok(b"book"), Some(data)) => return book(symbol, data.bids, data.asks, on_event),
            (Ok(b"trades"), None) => on_event(invalid(Part::Trade, Reason::FieldType)),
            (Ok(b"book"), None) => on_event(invalid(Part::Message, Reason::FieldType)),
            (Ok(kind), _) => on_event(Event::Ignored { kind }),
            (Err(reason), _) => on_event(invalid(Part::Message, reason)),
        }
        Ok(())
    }
}

impl Deep<'_> {
    fn trade<'s>(&self, symbol: Symbol<'s>) -> Result<Trade<'s>, Reason> {
        Ok(Trade {
            symbol,
            id: integer(self.id)?,
            price: decimal(self.price)?.ok_or(Reason::MissingField)?,
            size: decimal(self.size)?.ok_or(Reason::MissingField)?,
            taker: None,
            time: unix_time(self.time, NANOS_PER_MILLISECOND)?.ok_or(Reason::MissingField)?,
            age: Age::Live,
        })
    }
}

/// Hands out what an object says of the state of its instrument; that it says nothing, under its `kind`.
fn state<'a>(
    symbol: Symbol<'a>,
    kind: &'static [u8],
    quote: Result<Option<Quote<'a>>, Reason>,
    trade: Result<Option<Trade<'a>>, Reason>,
    on_event: &mut impl FnMut(Event<'a>),
) {
    let invalid = |part, reason| Event::Invalid { symbol: Some(symbol), part, reason };
    if matches!((quote, trade), (Ok(None), Ok(None))) {
        on_event(Event::Ignored { kind });
    }
    match quote {
        Ok(quote) => quote.into_iter().for_each(|quote| on_event(Event::Quote(quote))),
        Err(reason) => on_event(invalid(Part::Quote, reason)),
    }
    match trade {
        Ok(trade) => trade.into_iter().for_each(|trade| on_event(Event::Trade(trade))),
        Err(reason) => on_event(invalid(Part::Trade, reason)),
    }
}

/// `sides` are price and size of the bid, then of the ask. `None` where they are not told, or of no time.
fn quote<'a>(
    symbol: Symbol<'a>,
    sides: [Value<'_>; 4],
    time: Value<'_>,
    sequence: Value<'_>,
) -> Result<Option<Quote<'a>>, Reason> {
    let [bid_price, bid_size, ask_price, ask_size] = sides;
    let is_told = |value: Value<'_>| !matches!(value.kind, Kind::Absent | Kind::Null);
    let Some(time) = moment(time)?.filter(|_| is_told(bid_price) || is_told(ask_price)) else { return Ok(None) };
    let (bid, ask) = (top(bid_price, bid_size)?, top(ask_price, ask_size)?);
    Ok(Some(Quote { symbol, bid, ask, sequence: integer(sequence)?, time: Some(time), age: Age::Live }))
}

/// The last trade; `None` where there was none.
fn trade<'a>(
    symbol: Symbol<'a>,
    price: Value<'_>,
    size: Value<'_>,
    time: Value<'_>,
) -> Result<Option<Trade<'a>>, Reason> {
    let (Some(price), Some(size), Some(time)) = (decimal(price)?, decimal(size)?, moment(time)?) else {
        return Ok(None);
    };
    let trade = Trade { symbol, id: None, price, size, taker: None, time, age: Age::Live };
    Ok((!price.is_zero() && !size.is_zero()).then_some(trade))
}

/// Unix ns; 0 and -1 are ways to write that there is no time.
fn moment(value: Value<'_>) -> Result<Option<i64>, Reason> {
    match scalar(value)? {
        Some(b"0" | b"-1") => Ok(None),
        _ => unix_time(value, NANOS_PER_MILLISECOND),
    }
}

/// The book of a symbol, at the time of its latest level.
fn book<'a>(
    symbol: Symbol<'a>,
    bids: Value<'a>,
    asks: Value<'a>,
    on_event: &mut impl FnMut(Event<'a>),
) -> Result<(), DecodeError> {
    on_event(Event::BookBegin(BookBegin { symbol, scope: BookScope::Snapshot, updates: None }));
    let mut latest = None;
    for (list, side) in [(bids, Side::Buy), (asks, Side::Sell)] {
        let invalid = |reason| Event::Invalid { symbol: Some(symbol), part: Part::Level, reason };
        match list.kind {
            Kind::Array => each_object(list.raw, BookLevel::scan, |level| {
                let level = level.ok_or(Reason::FieldType).and_then(|level| level.taken(side));
                on_event(match level {
                    Ok((level, time)) => {
                        latest = latest.max(time);
                        Event::Level(level)
                    }
                    Err(reason) => invalid(reason),
                });
                Ok(())
            })?,
            // A side without levels.
            Kind::Absent | Kind::Null => {}
            _ => on_event(invalid(Reason::FieldType)),
        }
    }
    on_event(Event::BookEnd(BookEnd { checksum: None, time: latest }));
    Ok(())
}

impl BookLevel<'_> {
    fn taken(&self, side: Side) -> Result<(Level, Option<i64>), Reason> {
        let price = decimal(self.price)?.ok_or(Reason::MissingField)?;
        let size = decimal(self.size)?.ok_or(Reason::MissingField)?;
        Ok((Level::new(side, price, size)?, moment(self.time)?))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::{self, Expected, decimal, top};
    use super::*;

    const TOPS: &str = r#"{"symbol":"AAPL","sector":"technologyhardwareequipment","securityType":"commonstock","bidPrice":185.5900,"bidSize":100,"askPrice":185.6400,"askSize":100,"lastUpdated":1529689042490,"lastSalePrice":185.6300,"lastSaleSize":100,"lastSaleTime":1529689042476,"volume":312038,"marketPercent":0.03250,"seq":102528}"#;
    const LAST: &str = r#"{"symbol":"AAPL","price":185.8350,"size":100,"time":1529689336332,"seq":2926}"#;
    const BOOK: &str = r#"{"symbol":"AAPL","messageType":"book","data":{"bids":[{"price":185.76,"size":100,"timestamp":1529689655974}],"asks":[{"price":190.34,"size":100,"timestamp":1529688635926}]},"seq":5458}"#;
    const TRADES: &str = r#"{"symbol":"AAPL","messageType":"trades","data":{"price":185.8100,"size":100,"tradeId":517936386,"isISO":true,"isOddLot":false,"timestamp":1529689623331},"seq":2964}"#;
    const STOCK: &str = r#"{"symbol":"AAPL","calculationPrice":"tops","open":170.89,"high":170.78,"latestPrice":170.59,"latestSource":"15 minute delayed price","latestUpdate":1510941879189,"latestVolume":13529933,"iexRealtimePrice":170.39,"iexRealtimeSize":200,"iexLastUpdated":1510942738831,"delayedPrice":170.59,"delayedPriceTime":1510941879189,"iexBidPrice":166.18,"iexBidSize":100,"iexAskPrice":172,"iexAskSize":315,"lastTradeTime":1567857882944}"#;
    const CRYPTO: &str = r#"{"symbol":"BTCUSDT","sector":"cryptocurrency","calculationPrice":"realtime","latestPrice":"6576.4","latestSource":"Real time price","latestUpdate":1541618875327,"iexRealtimePrice":null,"iexLastUpdated":null,"iexBidPrice":null,"bidPrice":"6576.40","bidSize":"0.60331","askPrice":6578.77,"askSize":0.490818}"#;
    const CRYPTO_BOOK: &str = r#"{"symbol":"BTCUSD","bids":[{"price":"1000","size":"0.5","timestamp":1574688905930}],"asks":[{"price":"10421","size":"0.76747926","timestamp":1572620748579}]}"#;

    #[track_caller]
    fn check(frame: &str, expected: Expected<'_, '_>) {
        testing::check(frame, testing::events(|mut on_event| decode(frame.as_bytes(), &mut on_event)), expected);
    }

    fn trade(id: Option<u64>, price: &str, size: &str, ms: i64) -> Event<'static> {
        let (symbol, price, size) = (Symbol::Text(b"AAPL"), decimal(price), decimal(size));
        Event::Trade(Trade { symbol, id, price, size, taker: None, time: ms * 1_000_000, age: Age::Live })
    }

    fn quote(
        symbol: &'static str,
        bid: (&str, &str),
        ask: (&str, &str),
        sequence: Option<u64>,
        ms: i64,
    ) -> Quote<'static> {
        let symbol = Symbol::Text(symbol.as_bytes());
        Quote {
            symbol,
            bid: top(bid.0, bid.1),
            ask: top(ask.0, ask.1),
            sequence,
            time: Some(ms * 1_000_000),
            age: Age::Live,
        }
    }

    fn tops() -> (Quote<'static>, Event<'static>) {
        let quote = quote("AAPL", ("185.5900", "100"), ("185.6400", "100"), Some(102_528), 1_529_689_042_490);
        (quote, trade(None, "185.6300", "100", 1_529_689_042_476))
    }

    #[test]
    fn tops_are_a_quote_and_the_last_trade() {
        let (quote, last) = tops();
        check(TOPS, Ok(&[Event::Quote(quote), last]));
        check(&format!("[{TOPS} , {TOPS}]"), Ok(&[Event::Quote(quote), last, Event::Quote(quote), last]));
        let nobody = Quote { bid: None, ask: None, ..quote };
        let empty = TOPS.replace("185.5900", "0").replace(r#""askSize":100"#, r#""askSize":0"#);
        check(&empty, Ok(&[Event::Quote(nobody), last]));
        let unsold = TOPS.replace("185.6300", "0").replace("1529689042476", "0");
        check(&unsold, Ok(&[Event::Quote(quote)]));
        let unseen = unsold.replace("1529689042490", "-1");
        check(&unseen, Ok(&[Event::Ignored { kind: b"tops" }]));
    }

    #[test]
    fn last_and_deep_trades_are_trades() {
        check(LAST, Ok(&[trade(None, "185.8350", "100", 1_529_689_336_332)]));
        check(TRADES, Ok(&[trade(Some(517_936_386), "185.8100", "100", 1_529_689_623_331)]));
        check(&LAST.replace("185.8350", "0"), Ok(&[Event::Ignored { kind: b"last" }]));
    }

    #[test]
    fn books_are_snapshots() {
        let book = |symbol: &'static [u8], levels: [(Side, &str, &str); 2], ms: i64| {
            let symbol = Symbol::Text(symbol);
            let [bid, ask] = levels
                .map(|(side, price, size)| Event::Level(Level { side, price: decimal(price), size: decimal(size) }));
            let begin = BookBegin { symbol, scope: BookScope::Snapshot, updates: None };
            let end = BookEnd { checksum: None, time: Some(ms * 1_000_000) };
            [Event::BookBegin(begin), bid, ask, Event::BookEnd(end)]
        };
        let aapl = book(b"AAPL", [(Side::Buy, "185.76", "100"), (Side::Sell, "190.34", "100")], 1_529_689_655_974);
        check(BOOK, Ok(&aapl));
        let btc = [(Side::Buy, "1000", "0.5"), (Side::Sell, "10421", "0.76747926")];
        check(CRYPTO_BOOK, Ok(&book(b"BTCUSD", btc, 1_574_688_905_930)));

        let invalid = |reason| Event::Invalid { symbol: Some(Symbol::Text(b"AAPL")), part: Part::Level, reason };
        for (from, to, reason) in [
            ("185.76", "0", Reason::Price),
            ("185.76", "null", Reason::MissingField),
            (r#"{"price":185.76,"size":100,"timestamp":1529689655974}"#, "7", Reason::FieldType),
        ] {
            let end = Event::BookEnd(BookEnd { checksum: None, time: Some(1_529_688_635_926_000_000) });
            check(&BOOK.replace(from, to), Ok(&[aapl[0], invalid(reason), aapl[2], end]));
        }
        let bidless = BOOK.replace(r#"[{"price":185.76,"size":100,"timestamp":1529689655974}]"#, "{}");
        let end = Event::BookEnd(BookEnd { checksum: None, time: Some(1_529_688_635_926_000_000) });
        check(&bidless, Ok(&[aapl[0], invalid(Reason::FieldType), aapl[2], end]));
        check(
            r#"{"symbol":"AAPL","bids":[],"asks":null}"#,
            Ok(&[aapl[0], Event::BookEnd(BookEnd { checksum: None, time: None })]),
        );
    }

    #[test]
    fn of_a_stock_only_what_iex_saw_is_live() {
        let ms = 1_510_942_738_831;
        let seen = quote("AAPL", ("166.18", "100"), ("172", "315"), None, ms);
        let last = trade(None, "170.39", "200", ms);
        check(STOCK, Ok(&[Event::Quote(seen), last]));
        let ignored = [Event::Ignored { kind: b"stocksUS" }];
        for nothing in ["null", "0", "-1"] {
            check(&STOCK.replace("1510942738831", nothing), Ok(&ignored));
        }
        let nulls = STOCK.replace("166.18", "null").replace("172", "null");
        check(&nulls, Ok(&[last]));
        check(&nulls.replace("170.39", "null"), Ok(&ignored));
        // As the documentation has it: cut after the bid.
        let cut = r#"[{"symbol":"SPY","calculationPrice":"tops","delayedPrice":474.84,"iexAskPrice":474.77,"iexAskSize":100,"iexBidPrice":474.69,"iexBidSize":100,"iexLastUpdated":1704906277470}]"#;
        let spy = quote("SPY", ("474.69", "100"), ("474.77", "100"), None, 1_704_906_277_470);
        check(cut, Ok(&[Event::Quote(spy)]));
    }

    #[test]
    fn crypto_quotes_are_of_their_exchange() {
        let btc = quote("BTCUSDT", ("6576.40", "0.60331"), ("6578.77", "0.490818"), None, 1_541_618_875_327);
        check(CRYPTO, Ok(&[Event::Quote(btc)]));
        let ignored = [Event::Ignored { kind: b"cryptoQuotes" }];
        check(&CRYPTO.replace("\"realtime\"", "\"previousclose\""), Ok(&ignored));
        check(&CRYPTO.replace("1541618875327", "null"), Ok(&ignored));
    }

    #[test]
    fn what_is_not_taken_is_told() {
        for (frame, kind) in [
            (r#"{"symbol":"AAPL","messageType":"tradebreak","data":{"price":156.1}}"#, "tradebreak"),
            (r#"{"symbol":"AAPL","messageType":"tradingstatus","data":null}"#, "tradingstatus"),
            (r#"{"price":"8324.08","symbol":"BTCUSD"}"#, "price"),
            (r#"{"symbol":"USDGBP","rate":0.755,"timestamp":1288282222000,"isDerived":true}"#, "forex"),
        ] {
            check(frame, Ok(&[Event::Ignored { kind: kind.as_bytes() }]));
        }
        check("[]", Ok(&[Event::Ignored { kind: b"[]" }]));
    }

    #[test]
    fn a_faulty_object_leaves_the_others_alone() {
        let (quote, last) = tops();
        let aapl = Some(Symbol::Text(b"AAPL"));
        let check = |faulty: &str, events: &[Event<'_>]| {
            let expected = [events, &[Event::Quote(quote), last]].concat();
            check(&format!("[{faulty},{TOPS}]"), Ok(&expected));
        };
        check("7", &[invalid(None, Part::Message, Reason::FieldType)]);
        check("{}", &[invalid(None, Part::Message, Reason::MissingField)]);
        check(r#"{"symbol":null,"price":1}"#, &[invalid(None, Part::Message, Reason::MissingField)]);
        check(r#"{"symbol":"AAPL","news":1}"#, &[invalid(aapl, Part::Message, Reason::MissingField)]);
        check(r#"{"symbol":"AAPL","messageType":1}"#, &[invalid(aapl, Part::Message, Reason::FieldType)]);
        check(r#"{"symbol":"AAPL","messageType":"trades"}"#, &[invalid(aapl, Part::Trade, Reason::FieldType)]);
        check(
            r#"{"symbol":"AAPL","messageType":"book","data":[]}"#,
            &[invalid(aapl, Part::Message, Reason::FieldType)],
        );
        let untimed = TRADES.replace("1529689623331", "null");
        check(&untimed, &[invalid(aapl, Part::Trade, Reason::MissingField)]);
        check(&TRADES.replace("185.8100", "\"\""), &[invalid(aapl, Part::Trade, Reason::Number)]);
        check(&TOPS.replace("185.5900", "[]"), &[invalid(aapl, Part::Quote, Reason::FieldType), last]);
        let unsold = TOPS.replace("185.6300", "\"x\"");
        check(&unsold, &[Event::Quote(quote), invalid(aapl, Part::Trade, Reason::Number)]);
    }

    #[test]
    fn frames_that_are_no_json_are_refused() {
        for frame in ["7", "\"Unknown symbol\"", "null"] {
            check(frame, Err(DecodeError::Syntax { offset: 0 }));
        }
        check("Unknown symbol", Err(DecodeError::Syntax { offset: 0 }));
        let frame = format!("[{TOPS},{BOOK},{STOCK}]");
        for end in 0..frame.len() {
            check(&frame[..end], Err(DecodeError::Truncated { offset: end }));
        }
    }

    proptest! {
        #[test]
        fn never_panics(bytes: Vec<u8>) {
            let _ = decode(&bytes, &mut |_| {});
        }
    }
}
