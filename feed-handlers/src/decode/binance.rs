//! Binance spot market-data frames: `trade`, `aggTrade`, `blockTrade`, `bookTicker`, `depthUpdate`, partial depth,
//! `kline`, answers to commands and `serverShutdown`; alone, wrapped by a combined stream, or in an array.
//!
//! Pure: a frame is scanned to its end before anything in it is believed. Of an array each element stands for itself:
//! one that cannot be read is [`Event::Invalid`] and the others stand. Deliberately absent: fetching the snapshot
//! that the changes of a book follow on, and holding their numbers against each other; [`decode_depth`] reads it.
//!
//! What a user of the events must know:
//! - `trade`, `aggTrade` and `blockTrade` each count in a row of their own. A [`Trade`] of an `aggTrade` bears the
//!   number of the aggregate, so of one symbol either trades or aggregates should be subscribed to, never both. One
//!   of a `blockTrade` bears none, because its number would look like a repeat among those of the other trades.
//! - Partial depth names no symbol. It is the stream's, in lower case: names of this venue are to be compared without
//!   regard to case.
//! - Book tickers and partial depth have no time. `u` of a book ticker rises with holes.
//! - Prices that do not move an order (statistics, averages, references) are [`Event::Ignored`].
//!
//! Fields: <https://github.com/binance/binance-spot-api-docs/blob/master/web-socket-streams.md>.

use protocol::Side;

use super::event::{
    Age, Bar, BookBegin, BookEnd, BookScope, Control, Event, Level, NO_OBJECT, Part, Quote, Symbol, Top, Trade, invalid,
};
use super::field::{array, boolean, decimal, integer, optional, required, scalar, shown, symbol, text, unix_time};
use super::json::{Kind, Scanner, Value, each_element, members, parts};
use super::{DecodeError, Reason};

/// The unit of all times on a connection. Nothing in a frame tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeUnit {
    /// What the venue writes unless it is asked for the other.
    Milliseconds,
    /// On connections made with `timeUnit=MICROSECOND`.
    Microseconds,
}

impl TimeUnit {
    const fn ns(self) -> i64 {
        match self {
            TimeUnit::Milliseconds => 1_000_000,
            TimeUnit::Microseconds => 1_000,
        }
    }
}

/// [`decode_in`] milliseconds.
///
/// # Errors
/// As [`decode_in`].
pub fn decode<'a>(frame: &'a [u8], on_event: &mut impl FnMut(Event<'a>)) -> Result<(), DecodeError> {
    decode_in(TimeUnit::Milliseconds, frame, on_event)
}

/// Decodes one frame, whose times are in `unit`, and hands its events to `on_event`, in order. Never panics,
/// whatever the bytes.
///
/// # Errors
/// [`DecodeError`] where the frame is no JSON object or array, or its only message lacks a field or holds one that
/// cannot be read. No event has been handed out then.
pub fn decode_in<'a>(unit: TimeUnit, frame: &'a [u8], on_event: &mut impl FnMut(Event<'a>)) -> Result<(), DecodeError> {
    if Scanner::new(frame).peek()? == b'[' {
        let mut scanner = Scanner::new(frame);
        let list = scanner.value()?;
        scanner.end()?;
        return decode_list(unit, list.raw, None, on_event);
    }
    let message = Message::read(frame)?;
    let data = message.data;
    match data.kind {
        Kind::Absent => message.decode(unit, None, on_event),
        Kind::Object => Message::read(data.raw)?.decode(unit, Some(text(message.stream, "stream")?), on_event),
        Kind::Array => decode_list(unit, data.raw, Some(text(message.stream, "stream")?), on_event),
        _ => Err(DecodeError::Field { field: "data", reason: Reason::FieldType }),
    }
}

/// Decodes the answer to `GET /api/v3/depth`: the book of `symbol`, the one that was asked for, or the venue's
/// error in its place. So too a frame of partial depth on a connection without stream names.
///
/// # Errors
/// As [`decode_in`].
pub fn decode_depth<'a>(
    body: &'a [u8],
    symbol: Symbol<'a>,
    on_event: &mut impl FnMut(Event<'a>),
) -> Result<(), DecodeError> {
    let message = Message::read(body)?;
    match message.refusal() {
        Some(control) => on_event(Event::Control(control)),
        None => message.book_snapshot(symbol, on_event)?,
    }
    Ok(())
}

/// The elements of `list`, which was scanned before; `stream` where it is the data of a combined stream.
fn decode_list<'a>(
    unit: TimeUnit,
    list: &'a [u8],
    stream: Option<&'a [u8]>,
    on_event: &mut impl FnMut(Event<'a>),
) -> Result<(), DecodeError> {
    let mut is_empty = true;
    each_element(list, |scanner| {
        is_empty = false;
        let element = scanner.value()?;
        if element.kind != Kind::Object {
            on_event(NO_OBJECT);
            return Ok(());
        }
        let message = Message::read(element.raw)?;
        if let Err(error) = message.decode(unit, stream, on_event) {
            on_event(invalid(symbol(message.symbol).ok(), message.part(), error.reason()));
        }
        Ok(())
    })?;
    if is_empty {
        on_event(Event::Ignored { kind: stream.unwrap_or(b"[]") });
    }
    Ok(())
}

members! {
    /// The fields that some message needs, those that mean another thing in each by their letter.
    struct Message {
        stream: b"stream",
        data: b"data",
        kind: b"e",
        event_time: b"E",
        symbol: b"s",
        id: b"t",
        price: b"p",
        quantity: b"q",
        trade_time: b"T",
        buyer_is_maker: b"m",
        first_update: b"U",
        last_update: b"u",
        // The best ask of a book ticker, the asks of a depth update, the number of an aggregate, and in trades of
        // 2019 the seller's order.
        a: b"a",
        // The best bid, the bids, and the buyer's order.
        b: b"b",
        ask_quantity: b"A",
        bid_quantity: b"B",
        kline: b"k",
        last_update_id: b"lastUpdateId",
        bids: b"bids",
        asks: b"asks",
        result: b"result",
        error: b"error",
        code: b"code",
        message: b"msg",
    }
}

members! {
    /// `k` of a kline.
    struct Kline {
        start: b"t",
        end: b"T",
        interval: b"i",
        open: b"o",
        high: b"h",
        low: b"l",
        close: b"c",
        volume: b"v",
        trades: b"n",
        is_closed: b"x",
    }
}

members! {
    /// `{"code":-1003,"msg":"Too many requests"}`
    struct Fault {
        code: b"code",
        message: b"msg",
    }
}

impl<'a> Message<'a> {
    fn decode(
        &self,
        unit: TimeUnit,
        stream: Option<&'a [u8]>,
        on_event: &mut impl FnMut(Event<'a>),
    ) -> Result<(), DecodeError> {
        if self.kind.kind == Kind::Absent {
            return self.decode_untyped(unit, stream, on_event);
        }
        match text(self.kind, "e")? {
            b"trade" => on_event(Event::Trade(self.trade(unit, Some(required(integer(self.id), "t")?))?)),
            b"aggTrade" => on_event(Event::Trade(self.trade(unit, Some(required(integer(self.a), "a")?))?)),
            b"blockTrade" => on_event(Event::Trade(self.trade(unit, None)?)),
            b"bookTicker" => on_event(Event::Quote(self.quote(unit)?)),
            b"depthUpdate" => self.book_change(unit, on_event)?,
            b"kline" => on_event(Event::Bar(self.bar(unit)?)),
            b"serverShutdown" => on_event(Event::Control(Control::Closing)),
            kind => on_event(Event::Ignored { kind }),
        }
        Ok(())
    }

    /// What says no type: answers to commands, partial depth and book tickers.
    fn decode_untyped(
        &self,
        unit: TimeUnit,
        stream: Option<&'a [u8]>,
        on_event: &mut impl FnMut(Event<'a>),
    ) -> Result<(), DecodeError> {
        if let Some(control) = self.refusal() {
            on_event(Event::Control(control));
        } else if self.result.kind == Kind::Null {
            on_event(Event::Control(Control::Subscribed));
        } else if self.result.kind != Kind::Absent {
            // A property, or the list of subscriptions.
            on_event(Event::Control(Control::Note));
        } else if self.last_update_id.kind != Kind::Absent {
            let stream = stream.ok_or(DecodeError::Missing { field: "stream" })?;
            let symbol =
                depth_symbol(stream).ok_or(DecodeError::Field { field: "stream", reason: Reason::FieldType })?;
            self.book_snapshot(Symbol::Text(symbol), on_event)?;
        } else if self.last_update.kind != Kind::Absent {
            on_event(Event::Quote(self.quote(unit)?));
        } else {
            return Err(DecodeError::Missing { field: "e" });
        }
        Ok(())
    }

    /// Of what the message is a part, by its type alone.
    fn part(&self) -> Part {
        match (self.kind.kind, self.kind.raw) {
            (Kind::Text, b"trade" | b"aggTrade" | b"blockTrade") => Part::Trade,
            (Kind::Text, b"kline") => Part::Bar,
            (Kind::Text, b"bookTicker") => Part::Quote,
            (Kind::Absent, _) if self.last_update.kind != Kind::Absent => Part::Quote,
            _ => Part::Message,
        }
    }

    /// `{"code":2,"msg":"..."}`, or the same in `error`.
    fn refusal(&self) -> Option<Control<'a>> {
        let fault = match self.error.kind {
            Kind::Object => Fault::read(self.error.raw).ok()?,
            Kind::Absent | Kind::Null if self.code.kind != Kind::Absent => {
                Fault { code: self.code, message: self.message }
            }
            Kind::Absent | Kind::Null => return None,
            _ => Fault { code: Value::ABSENT, message: self.error },
        };
        let code = scalar(fault.code).ok().flatten().unwrap_or(b"");
        Some(refusal(code, shown(fault.message)))
    }

    fn symbol(&self) -> Result<Symbol<'a>, DecodeError> {
        text(self.symbol, "s").map(Symbol::Text)
    }

    fn trade(&self, unit: TimeUnit, id: Option<u64>) -> Result<Trade<'a>, DecodeError> {
        // `m`: the buyer made the price, so the seller took it.
        let taker = if required(boolean(self.buyer_is_maker), "m")? { Side::Sell } else { Side::Buy };
        Ok(Trade {
            symbol: self.symbol()?,
            id,
            price: required(decimal(self.price), "p")?,
            size: required(decimal(self.quantity), "q")?,
            taker: Some(taker),
            time: required(unix_time(self.trade_time, unit.ns()), "T")?,
            age: Age::Live,
        })
    }

    /// The spot venue writes neither a type nor a time into it; its sister venues write both.
    fn quote(&self, unit: TimeUnit) -> Result<Quote<'a>, DecodeError> {
        let top = |price, size, field| {
            let price = required(decimal(price), field)?;
            let size = optional(decimal(size), field)?;
            // An empty side is written as zeros.
            Ok((!price.is_zero()).then_some(Top { price, size }))
        };
        Ok(Quote {
            symbol: self.symbol()?,
            bid: top(self.b, self.bid_quantity, "b")?,
            ask: top(self.a, self.ask_quantity, "a")?,
            sequence: Some(required(integer(self.last_update), "u")?),
            time: optional(unix_time(self.event_time, unit.ns()), "E")?,
            age: Age::Live,
        })
    }

    /// `"U":499869753,"u":499869754,"b":[["0.35170000","4265.00000000"]],"a":[]`
    fn book_change(&self, unit: TimeUnit, on_event: &mut impl FnMut(Event<'a>)) -> Result<(), DecodeError> {
        let symbol = self.symbol()?;
        let first = required(integer(self.first_update), "U")?;
        let last = required(integer(self.last_update), "u")?;
        if first > last {
            return Err(DecodeError::Field { field: "u", reason: Reason::NumberRange });
        }
        let (bids, asks) = (array(self.b, "b")?, array(self.a, "a")?);
        let time = optional(unix_time(self.event_time, unit.ns()), "E")?;
        on_event(Event::BookBegin(BookBegin { symbol, scope: BookScope::Change, updates: Some((first, last)) }));
        levels(symbol, bids, asks, on_event)?;
        on_event(Event::BookEnd(BookEnd { checksum: None, time }));
        Ok(())
    }

    /// `"lastUpdateId":160,"bids":[["0.0024","10"]],"asks":[["0.0026","100"]]`
    fn book_snapshot(&self, symbol: Symbol<'a>, on_event: &mut impl FnMut(Event<'a>)) -> Result<(), DecodeError> {
        let last = required(integer(self.last_update_id), "lastUpdateId")?;
        let (bids, asks) = (array(self.bids, "bids")?, array(self.asks, "asks")?);
        on_event(Event::BookBegin(BookBegin { symbol, scope: BookScope::Snapshot, updates: Some((last, last)) }));
        levels(symbol, bids, asks, on_event)?;
        on_event(Event::BookEnd(BookEnd { checksum: None, time: None }));
        Ok(())
    }

    fn bar(&self, unit: TimeUnit) -> Result<Bar<'a>, DecodeError> {
        if self.kline.kind != Kind::Object {
            return Err(match self.kline.kind {
                Kind::Absent | Kind::Null => DecodeError::Missing { field: "k" },
                _ => DecodeError::Field { field: "k", reason: Reason::FieldType },
            });
        }
        let kline = Kline::read(self.kline.raw)?;
        let start = required(unix_time(kline.start, unit.ns()), "k.t")?;
        let interval_ns = match text(kline.interval, "k.i")? {
            // Months differ; `T` is the last instant of this one.
            b"1M" => {
                let last = required(unix_time(kline.end, unit.ns()), "k.T")?;
                let length = last.checked_sub(start).and_then(|length| length.checked_add(unit.ns()));
                length.filter(|length| *length > 0).ok_or(DecodeError::Field { field: "k.T", reason: Reason::Time })?
            }
            name => fixed_interval_ns(name).ok_or(DecodeError::Field { field: "k.i", reason: Reason::Time })?,
        };
        Ok(Bar {
            symbol: self.symbol()?,
            interval_ns,
            start,
            open: required(decimal(kline.open), "k.o")?,
            high: required(decimal(kline.high), "k.h")?,
            low: required(decimal(kline.low), "k.l")?,
            close: required(decimal(kline.close), "k.c")?,
            volume: required(decimal(kline.volume), "k.v")?,
            // The quote volume over the volume would be it, but seldom is an exact decimal.
            vwap: None,
            trades: optional(integer(kline.trades), "k.n")?,
            in_progress: !required(boolean(kline.is_closed), "k.x")?,
        })
    }
}

/// What the venue's error `code` asks of us; its FIX sessions give the same ones. Meanings:
/// <https://github.com/binance/binance-spot-api-docs/blob/master/errors.md>.
pub(super) fn refusal<'a>(code: &'a [u8], text: &'a [u8]) -> Control<'a> {
    match code {
        // Too many requests, orders or connections, a server too busy to answer; over HTTP: slow down, and banned.
        b"-1003" | b"-1008" | b"-1015" | b"-1034" | b"429" | b"418" => Control::Throttled { text },
        // Not authorised, a bad signature, a key of a bad form, a key without this right.
        b"-1002" | b"-1022" | b"-2014" | b"-2015" => Control::AuthRefused { text },
        _ => Control::Error { text, detail: code },
    }
}

/// The symbol in the name of a stream of partial depth, `ethusdt@depth20@100ms`.
fn depth_symbol(stream: &[u8]) -> Option<&[u8]> {
    let at = stream.iter().position(|byte| *byte == b'@')?;
    (at > 0 && stream[at..].starts_with(b"@depth")).then_some(&stream[..at])
}

/// Bars of every length but a month, which has none.
fn fixed_interval_ns(name: &[u8]) -> Option<i64> {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    let seconds = match name {
        b"1s" => 1,
        b"1m" => MINUTE,
        b"3m" => 3 * MINUTE,
        b"5m" => 5 * MINUTE,
        b"15m" => 15 * MINUTE,
        b"30m" => 30 * MINUTE,
        b"1h" => HOUR,
        b"2h" => 2 * HOUR,
        b"4h" => 4 * HOUR,
        b"6h" => 6 * HOUR,
        b"8h" => 8 * HOUR,
        b"12h" => 12 * HOUR,
        b"1d" => DAY,
        b"3d" => 3 * DAY,
        b"1w" => 7 * DAY,
        _ => return None,
    };
    Some(seconds * 1_000_000_000)
}

/// `[["0.35170000","4265.00000000"],...]` twice, scanned before.
fn levels<'a>(
    symbol: Symbol<'a>,
    bids: &'a [u8],
    asks: &'a [u8],
    on_event: &mut impl FnMut(Event<'a>),
) -> Result<(), DecodeError> {
    for (list, side) in [(bids, Side::Buy), (asks, Side::Sell)] {
        each_element(list, |scanner| {
            let [price, size] = parts(scanner)?;
            on_event(match level(side, price, size) {
                Ok(level) => Event::Level(level),
                Err(reason) => invalid(Some(symbol), Part::Level, reason),
            });
            Ok(())
        })?;
    }
    Ok(())
}

fn level(side: Side, price: Value<'_>, size: Value<'_>) -> Result<Level, Reason> {
    let price = decimal(price)?.ok_or(Reason::MissingField)?;
    let size = decimal(size)?.ok_or(Reason::MissingField)?;
    Level::new(side, price, size)
}

#[cfg(test)]
mod tests;
