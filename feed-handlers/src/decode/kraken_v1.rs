//! Kraken WebSocket v1 frames, as recordings of before 2024 have them: `book`, `trade`, `spread`, `ticker`, `ohlc`, and
//! what is said about the connection.
//!
//! Pure, and one form with [`super::kraken`], which hands such frames on: data are arrays that end with the names of channel
//! and pair, and all else is an object with an `event`. Nothing connects to v1. Deliberately absent: what only
//! signed-in users get.
//!
//! What a user of the events must know:
//! - Trades bear no numbers, and tickers no times.
//! - The snapshot of a book has no checksum, and changes have one since 2020. A change of both sides comes in two parts.
//!
//! Fields: <https://docs.kraken.com/api/docs/guides/websockets-v1>, and recorded frames.

use protocol::Side;

use super::event::{
    Age, Bar, BookBegin, BookEnd, BookScope, Control, Event, Heartbeat, Level, Part, Quote, Symbol, Trade,
};
use super::field::{decimal, integer, plain, present, quoted, shown, text, unix_seconds};
use super::json::{Kind, Scanner, Value, each_element, members, parts};
use super::{DecodeError, Reason};

const NANOS_PER_MINUTE: i64 = 60_000_000_000;

/// Decodes a frame that is an array.
///
/// # Errors
/// [`DecodeError`] where it is none, or not of the form of data. No event has been handed out then.
pub(super) fn decode<'a>(frame: &'a [u8], on_event: &mut impl FnMut(Event<'a>)) -> Result<(), DecodeError> {
    let mut scanner = Scanner::new(frame);
    // The number of the channel, one part or two, the channel's name and the pair's.
    let [_, first, second, third, fourth, fifth] = parts(&mut scanner)?;
    scanner.end()?;
    let (second, name, pair) = match (fourth.kind, fifth.kind) {
        (Kind::Absent, _) => (Value::ABSENT, second, third),
        (_, Kind::Absent) => (second, third, fourth),
        _ => return Err(DecodeError::Field { field: "frame", reason: Reason::Length }),
    };
    let (name, pair) = (text(name, "channelName")?, text(pair, "pair")?);
    let symbol = Symbol::Text(pair);
    let invalid = |part, reason| Event::Invalid { symbol: Some(symbol), part, reason };
    match name.split(|byte| *byte == b'-').next() {
        Some(b"book") => book(symbol, [first, second], on_event)?,
        Some(b"trade") if first.kind == Kind::Array => each_element(first.raw, |scanner| {
            let trade = trade(symbol, parts(scanner)?);
            on_event(trade.map_or_else(|reason| invalid(Part::Trade, reason), Event::Trade));
            Ok(())
        })?,
        Some(b"trade") => on_event(invalid(Part::Trade, Reason::FieldType)),
        Some(b"spread") => {
            let quote = spread(symbol, parts_of(first)?);
            on_event(quote.map_or_else(|reason| invalid(Part::Quote, reason), Event::Quote));
        }
        Some(b"ticker") => {
            let quote = ticker(symbol, first)?;
            on_event(quote.map_or_else(|reason| invalid(Part::Quote, reason), Event::Quote));
        }
        Some(b"ohlc") => {
            let bar = bar(symbol, &name[b"ohlc".len()..], parts_of(first)?);
            on_event(bar.map_or_else(|reason| invalid(Part::Bar, reason), Event::Bar));
        }
        _ => on_event(Event::Ignored { kind: name }),
    }
    Ok(())
}

/// What an object with the `event` says; `message` and `status` as far as there are such.
///
/// # Errors
/// [`DecodeError`] where `event` is no text.
pub(super) fn event<'a>(event: Value<'a>, status: Value<'a>, message: Value<'a>) -> Result<Event<'a>, DecodeError> {
    let error = Event::Control(Control::Error { text: shown(message), detail: b"" });
    Ok(match (text(event, "event")?, plain(status)) {
        (b"heartbeat" | b"pong", _) => Event::Heartbeat(Heartbeat { symbol: None, time: None }),
        (b"systemStatus", _) => Event::Control(Control::Note),
        (b"subscriptionStatus", Ok(b"subscribed" | b"unsubscribed")) => Event::Control(Control::Subscribed),
        (b"subscriptionStatus" | b"error", _) => error,
        (kind, _) => Event::Ignored { kind },
    })
}

/// `[["5541.20000","0.15850568","1534614057.321597","s","l",""],...]`; the side is the taker's.
fn trade<'a>(symbol: Symbol<'a>, [price, size, time, side]: [Value<'a>; 4]) -> Result<Trade<'a>, Reason> {
    let taker = match plain(side)? {
        b"b" => Side::Buy,
        b"s" => Side::Sell,
        _ => return Err(Reason::Side),
    };
    Ok(Trade {
        symbol,
        id: None,
        price: present(decimal(price))?,
        size: present(decimal(size))?,
        taker: Some(taker),
        time: present(unix_seconds(time))?,
        age: Age::Live,
    })
}

/// A quote of these sides, price and size each; one that is zero has nobody.
fn quote<'a>(symbol: Symbol<'a>, sides: [[Value<'a>; 2]; 2], time: Option<i64>) -> Result<Quote<'a>, Reason> {
    let side = |[price, size]: [Value<'a>; 2]| Ok(quoted(Some(present(decimal(price))?), decimal(size)?));
    let [bid, ask] = sides;
    Ok(Quote { symbol, bid: side(bid)?, ask: side(ask)?, sequence: None, time, age: Age::Live })
}

/// `["5698.40000","5700.00000","1542057299.545897","1.01234567","0.98765432"]`
fn spread<'a>(symbol: Symbol<'a>, fields: [Value<'a>; 5]) -> Result<Quote<'a>, Reason> {
    let [bid, ask, time, bid_size, ask_size] = fields;
    quote(symbol, [[bid, bid_size], [ask, ask_size]], Some(present(unix_seconds(time))?))
}

members! {
    struct Ticker {
        ask: b"a",
        bid: b"b",
    }
}

/// `{"a":["5525.40000",1,"1.000"],"b":["5525.10000",1,"1.000"],...}`: price, whole lots, lots.
fn ticker<'a>(symbol: Symbol<'a>, ticker: Value<'a>) -> Result<Result<Quote<'a>, Reason>, DecodeError> {
    if ticker.kind != Kind::Object {
        return Ok(Err(Reason::FieldType));
    }
    let ticker = Ticker::read(ticker.raw)?;
    let ([bid, _, bid_size], [ask, _, ask_size]) = (parts_of(ticker.bid)?, parts_of(ticker.ask)?);
    Ok(quote(symbol, [[bid, bid_size], [ask, ask_size]], None))
}

/// `["1542057314.748456","1542057360.435743","3586.70000","3586.70000","3586.60000","3586.60000","3586.68894",
/// "0.03373000",2]`: time, end, prices, mean price, volume, trades. `interval` is `-5`, or nothing for a minute.
fn bar<'a>(symbol: Symbol<'a>, interval: &[u8], fields: [Value<'a>; 9]) -> Result<Bar<'a>, Reason> {
    let [_, end, open, high, low, close, vwap, volume, trades] = fields;
    let minutes = match interval {
        [b'-', digits @ ..] => present(integer(Value { kind: Kind::Number, raw: digits }))?,
        _ => 1,
    };
    let interval_ns = i64::try_from(minutes).ok().and_then(|minutes| minutes.checked_mul(NANOS_PER_MINUTE));
    let interval_ns = interval_ns.filter(|interval| *interval > 0).ok_or(Reason::NumberRange)?;
    let end = present(unix_seconds(end))?;
    Ok(Bar {
        symbol,
        interval_ns,
        start: end - end % interval_ns - interval_ns,
        open: present(decimal(open))?,
        high: present(decimal(high))?,
        low: present(decimal(low))?,
        close: present(decimal(close))?,
        volume: present(decimal(volume))?,
        vwap: decimal(vwap)?,
        trades: integer(trades)?,
        in_progress: true,
    })
}

members! {
    /// `{"as":[...],"bs":[...]}`, or `{"a":[...],"c":"974942666"}` and `{"b":[...]}`.
    struct BookPart {
        old_asks: b"as",
        old_bids: b"bs",
        asks: b"a",
        bids: b"b",
        checksum: b"c",
    }
}

/// Bids, then asks, each in the order of the frame, for a price may occur twice. Its time is the latest of its levels.
fn book<'a>(
    symbol: Symbol<'a>,
    book_parts: [Value<'a>; 2],
    on_event: &mut impl FnMut(Event<'a>),
) -> Result<(), DecodeError> {
    let invalid = |reason| Event::Invalid { symbol: Some(symbol), part: Part::Level, reason };
    let read = |part: Value<'a>| match part.kind {
        Kind::Object => BookPart::read(part.raw).map(Some),
        _ => Ok(None),
    };
    let [first, second] = book_parts;
    let is_formed = first.kind == Kind::Object && matches!(second.kind, Kind::Object | Kind::Absent | Kind::Null);
    let read = [read(first)?, read(second)?];
    let is_there = |value: Value<'_>| value.kind != Kind::Absent;
    let is_snapshot = read.iter().flatten().any(|part| is_there(part.old_asks) || is_there(part.old_bids));
    let scope = if is_snapshot { BookScope::Snapshot } else { BookScope::Change };
    on_event(Event::BookBegin(BookBegin { symbol, scope, updates: None }));
    if !is_formed {
        on_event(invalid(Reason::FieldType));
    }
    let mut latest = None;
    for side in [Side::Buy, Side::Sell] {
        for part in read.iter().flatten() {
            let lists = match side {
                Side::Buy => [part.old_bids, part.bids],
                Side::Sell => [part.old_asks, part.asks],
            };
            for list in lists {
                match list.kind {
                    Kind::Array => each_element(list.raw, |scanner| {
                        let level = level(side, parts(scanner)?);
                        if let Ok((_, time)) = level {
                            latest = latest.max(Some(time));
                        }
                        on_event(level.map_or_else(invalid, |(level, _)| Event::Level(level)));
                        Ok(())
                    })?,
                    Kind::Absent => {}
                    _ => on_event(invalid(Reason::FieldType)),
                }
            }
        }
    }
    let checksum = read.iter().flatten().map(|part| part.checksum).rfind(|checksum| is_there(*checksum));
    let checksum = match checksum.map(integer).transpose().map(Option::flatten) {
        Ok(Some(sum)) => u32::try_from(sum).map(Some).or(Err(Reason::NumberRange)),
        Ok(None) => Ok(None),
        Err(reason) => Err(reason),
    };
    if let Err(reason) = checksum {
        on_event(invalid(reason));
    }
    on_event(Event::BookEnd(BookEnd { checksum: checksum.unwrap_or(None), time: latest }));
    Ok(())
}

/// `["5541.30000","2.50700000","1534614248.123678"]`, and an `"r"` behind it for one that was sent before.
fn level(side: Side, [price, size, time]: [Value<'_>; 3]) -> Result<(Level, i64), Reason> {
    let level = Level::new(side, present(decimal(price))?, present(decimal(size))?)?;
    Ok((level, present(unix_seconds(time))?))
}

/// The parts of a value that was scanned before.
fn parts_of<'a, const N: usize>(value: Value<'a>) -> Result<[Value<'a>; N], DecodeError> {
    match value.kind {
        Kind::Array => parts(&mut Scanner::new(value.raw)),
        _ => Ok([Value::ABSENT; N]),
    }
}

#[cfg(test)]
mod tests;
