//! Coinbase Advanced Trade frames: `l2_data`, `market_trades`, `ticker`, `candles`, `heartbeats`, `subscriptions` and errors.
//!
//! Pure: a frame is scanned to its end and its envelope checked before any event is handed out; its lists are walked after
//! that, and a part of them that cannot be read is [`Event::Invalid`] while the others stand. The first event of a frame
//! is its number on the connection, [`Event::LineSequence`]: every message has the next one, so a hole there, and nothing
//! else, shows that a change to a book was lost. Deliberately absent: `ticker_batch` (it has no quote), `status`, and
//! what only signed-in users get; these are [`Event::Ignored`].
//!
//! What a user of the events must know:
//! - The snapshot of `market_trades` holds old trades, the newest first, and is handed out in that order. An update of
//!   several trades begins with the newest too, and is handed out oldest first.
//! - A quote has no time of its own; it bears that of its frame.
//! - Candles are never said to be final, so all are in progress, those of the past that a snapshot holds too.
//! - Where a change to a book cannot be put to a symbol, [`Event::Invalid`] of [`Part::Level`] has none: it may concern
//!   any book of the connection.
//!
//! Fields: <https://docs.cdp.coinbase.com/coinbase-app/advanced-trade-apis/websocket/websocket-channels>. What the venue's
//! page leaves open and recorded frames settle: books come as `l2_data` with sides `bid` and `offer`, the `side` of
//! a trade is the maker's, and the time of a heartbeat is as Go prints it.

use protocol::{Side, parse_rfc3339};

use super::backwards::{Elements, Steps};
use super::event::{
    Age, Bar, BookBegin, BookEnd, BookScope, Control, Event, Heartbeat, Level, Part, Quote, Trade, invalid,
};
use super::field::{
    array, decimal, integer, list, optional, plain, present, present_top, required, scalar, shown, symbol, text, time,
    unix_time,
};
use super::json::{Kind, Value, each_object, members};
use super::{DecodeError, Reason};

const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// Candles are of this length, and of no other.
const CANDLE_NS: i64 = 300 * NANOS_PER_SECOND;

/// Decodes one frame and hands its events to `on_event`, in order. Never panics, whatever the bytes.
///
/// # Errors
/// [`DecodeError`] where the frame is no JSON object, or lacks its channel, its number, or the events of a channel that is
/// taken. No event has been handed out then.
pub fn decode<'a>(frame: &'a [u8], on_event: &mut impl FnMut(Event<'a>)) -> Result<(), DecodeError> {
    let message = Message::read(frame)?;
    if message.channel.kind == Kind::Absent {
        return message.without_channel(on_event);
    }
    let name = text(message.channel, "channel")?;
    let sequence = Event::LineSequence(required(integer(message.sequence_num), "sequence_num")?);
    let channel = match name {
        b"l2_data" => Channel::Book,
        b"market_trades" => Channel::Trades,
        b"ticker" => Channel::Tickers,
        b"candles" => Channel::Candles,
        b"heartbeats" => Channel::Heartbeats,
        b"subscriptions" => {
            on_event(sequence);
            on_event(Event::Control(Control::Subscribed));
            return Ok(());
        }
        kind => {
            on_event(sequence);
            on_event(Event::Ignored { kind });
            return Ok(());
        }
    };
    let parts = array(message.events, "events")?;
    on_event(sequence);
    let mut is_empty = true;
    let mut on_event_of = |event| {
        is_empty = false;
        on_event(event);
    };
    each_object(parts, VenueEvent::scan, |part| match part {
        Some(part) => part.events(channel, time(message.timestamp), &mut on_event_of),
        None => {
            on_event_of(invalid(None, channel.part(), Reason::FieldType));
            Ok(())
        }
    })?;
    if is_empty {
        on_event(Event::Ignored { kind: name });
    }
    Ok(())
}

/// The channels of which something is taken.
#[derive(Clone, Copy)]
enum Channel {
    Book,
    Trades,
    Tickers,
    Candles,
    Heartbeats,
}

impl Channel {
    /// What is lost where something in a message of the channel cannot be read.
    fn part(self) -> Part {
        match self {
            Channel::Book => Part::Level,
            Channel::Trades => Part::Trade,
            Channel::Tickers => Part::Quote,
            Channel::Candles => Part::Bar,
            Channel::Heartbeats => Part::Message,
        }
    }
}

members! {
    /// The envelope, and the error that comes without one.
    struct Message {
        channel: b"channel",
        timestamp: b"timestamp",
        sequence_num: b"sequence_num",
        events: b"events",
        kind: b"type",
        message: b"message",
    }
}

impl<'a> Message<'a> {
    /// `{"type":"error","message":"failure to subscribe"}`
    fn without_channel(&self, on_event: &mut impl FnMut(Event<'a>)) -> Result<(), DecodeError> {
        let kind = text(self.kind, "channel")?;
        if let Some(number) = optional(integer(self.sequence_num), "sequence_num")? {
            on_event(Event::LineSequence(number));
        }
        on_event(match kind {
            b"error" => Event::Control(Control::Error { text: shown(self.message), detail: b"" }),
            kind => Event::Ignored { kind },
        });
        Ok(())
    }
}

members! {
    /// An element of `events`.
    struct VenueEvent {
        kind: b"type",
        product_id: b"product_id",
        updates: b"updates",
        trades: b"trades",
        tickers: b"tickers",
        candles: b"candles",
        current_time: b"current_time",
    }
}

impl<'a> VenueEvent<'a> {
    /// What it says; `sent_at` is the time of the envelope.
    fn events(
        &self,
        channel: Channel,
        sent_at: Result<Option<i64>, Reason>,
        on_event: &mut impl FnMut(Event<'a>),
    ) -> Result<(), DecodeError> {
        let age = match (channel, plain(self.kind)) {
            (Channel::Heartbeats, _) => {
                on_event(self.heartbeat());
                return Ok(());
            }
            (_, Ok(b"snapshot")) => Age::Old,
            (_, Ok(b"update")) => Age::Live,
            (_, Ok(kind)) => {
                on_event(Event::Ignored { kind });
                return Ok(());
            }
            (Channel::Book, Err(reason)) => return self.book(Err(reason), on_event),
            (_, Err(reason)) => {
                on_event(invalid(None, channel.part(), reason));
                return Ok(());
            }
        };
        let items = match channel {
            Channel::Book => return self.book(Ok(age), on_event),
            Channel::Trades => list(self.trades),
            Channel::Tickers => list(self.tickers),
            Channel::Candles => list(self.candles),
            Channel::Heartbeats => Ok(&b"[]"[..]),
        };
        let items = match items {
            Ok(items) => items,
            Err(reason) => {
                on_event(invalid(None, channel.part(), reason));
                return Ok(());
            }
        };
        let mut on_item = |item: Option<Item<'a>>| {
            let event = match (&item, channel) {
                (None, _) => Err(Reason::FieldType),
                (Some(item), Channel::Trades) => item.trade(age).map(Event::Trade),
                (Some(item), Channel::Tickers) => item.quote(sent_at, age).map(Event::Quote),
                (Some(item), _) => item.bar().map(Event::Bar),
            };
            let symbol = item.and_then(|item| symbol(item.product_id).ok());
            on_event(event.unwrap_or_else(|reason| invalid(symbol, channel.part(), reason)));
        };
        if matches!((channel, age), (Channel::Trades, Age::Live)) {
            return oldest_first(items, &mut on_item);
        }
        each_object(items, Item::scan, |item| {
            on_item(item);
            Ok(())
        })
    }

    /// `"updates":[{"side":"bid","event_time":"...","price_level":"83277.25","new_quantity":"0"},...]`. Its time is the
    /// latest of its levels; one that cannot be read, or of 1970 as in some snapshots, is none. What has a name and
    /// cannot be read is a change with a fault.
    fn book(&self, age: Result<Age, Reason>, on_event: &mut impl FnMut(Event<'a>)) -> Result<(), DecodeError> {
        let symbol = match symbol(self.product_id) {
            Ok(symbol) => symbol,
            Err(reason) => {
                on_event(invalid(None, Part::Level, reason));
                return Ok(());
            }
        };
        let scope = match age {
            Ok(Age::Old) => BookScope::Snapshot,
            Ok(Age::Live) | Err(_) => BookScope::Change,
        };
        on_event(Event::BookBegin(BookBegin { symbol, scope, updates: None }));
        let mut latest = None;
        match age.and_then(|_| list(self.updates)) {
            Ok(updates) => each_object(updates, Update::scan, |update| {
                let level = match update {
                    Some(update) => {
                        latest = latest.max(time(update.event_time).unwrap_or(None).filter(|time| *time > 0));
                        update.level()
                    }
                    None => Err(Reason::FieldType),
                };
                on_event(level.map_or_else(|reason| invalid(Some(symbol), Part::Level, reason), Event::Level));
                Ok(())
            })?,
            Err(reason) => on_event(invalid(Some(symbol), Part::Level, reason)),
        }
        on_event(Event::BookEnd(BookEnd { checksum: None, time: latest }));
        Ok(())
    }

    /// Its counter is not held against anything: the number of the frame says more.
    fn heartbeat(&self) -> Event<'a> {
        let time = match scalar(self.current_time) {
            Ok(None) => Ok(None),
            Ok(Some(text)) => go_time(text).map(Some).ok_or(Reason::Time),
            Err(reason) => Err(reason),
        };
        match time {
            Ok(time) => Event::Heartbeat(Heartbeat { symbol: None, time }),
            Err(reason) => invalid(None, Part::Message, reason),
        }
    }
}

members! {
    /// A change to a level of a book.
    struct Update {
        side: b"side",
        event_time: b"event_time",
        price_level: b"price_level",
        new_quantity: b"new_quantity",
    }
}

impl Update<'_> {
    fn level(&self) -> Result<Level, Reason> {
        let side = match plain(self.side)? {
            b"bid" => Side::Buy,
            b"offer" => Side::Sell,
            _ => return Err(Reason::Side),
        };
        Level::new(side, present(decimal(self.price_level))?, present(decimal(self.new_quantity))?)
    }
}

members! {
    /// A trade, a ticker or a candle.
    struct Item {
        product_id: b"product_id",
        trade_id: b"trade_id",
        price: b"price",
        size: b"size",
        time: b"time",
        side: b"side",
        best_bid: b"best_bid",
        best_bid_quantity: b"best_bid_quantity",
        best_ask: b"best_ask",
        best_ask_quantity: b"best_ask_quantity",
        start: b"start",
        open: b"open",
        high: b"high",
        low: b"low",
        close: b"close",
        volume: b"volume",
    }
}

impl<'a> Item<'a> {
    fn trade(&self, age: Age) -> Result<Trade<'a>, Reason> {
        let maker = match plain(self.side)? {
            b"BUY" => Side::Buy,
            b"SELL" => Side::Sell,
            _ => return Err(Reason::Side),
        };
        Ok(Trade {
            symbol: symbol(self.product_id)?,
            id: Some(present(integer(self.trade_id))?),
            price: present(decimal(self.price))?,
            size: present(decimal(self.size))?,
            taker: Some(maker.opposite()),
            time: present(time(self.time))?,
            age,
        })
    }

    /// Of a ticker. Both sides are always written; one that is zero or null has nobody.
    fn quote(&self, sent_at: Result<Option<i64>, Reason>, age: Age) -> Result<Quote<'a>, Reason> {
        Ok(Quote {
            symbol: symbol(self.product_id)?,
            bid: present_top(self.best_bid, self.best_bid_quantity)?,
            ask: present_top(self.best_ask, self.best_ask_quantity)?,
            sequence: None,
            time: sent_at?,
            age,
        })
    }

    /// `start` is in Unix seconds, as text.
    fn bar(&self) -> Result<Bar<'a>, Reason> {
        Ok(Bar {
            symbol: symbol(self.product_id)?,
            interval_ns: CANDLE_NS,
            start: present(unix_time(self.start, NANOS_PER_SECOND))?,
            open: present(decimal(self.open))?,
            high: present(decimal(self.high))?,
            low: present(decimal(self.low))?,
            close: present(decimal(self.close))?,
            volume: present(decimal(self.volume))?,
            vwap: None,
            trades: None,
            in_progress: true,
        })
    }
}

/// Hands each element of the list of trades, which was scanned before, to `on_item`, `None` where it is no object. Where
/// the first is later than the last, or has the higher number of the same product, the list is gone through from its end.
fn oldest_first<'a>(trades: &'a [u8], on_item: &mut impl FnMut(Option<Item<'a>>)) -> Result<(), DecodeError> {
    let begin = Elements::enter(trades)?;
    let (mut count, mut first, mut last) = (0, None, None);
    begin.clone().forwards(usize::MAX, &mut |element| {
        first = first.or(Some(element));
        last = Some(element);
        count += 1;
    })?;
    let item = |element: Value<'a>| Item::read(element.raw).ok().filter(|_| element.kind == Kind::Object);
    let trade = |element: Option<Value<'a>>| item(element?)?.trade(Age::Live).ok();
    let is_newest_first = match (trade(first), trade(last)) {
        (Some(first), Some(last)) if first.time == last.time => first.symbol == last.symbol && first.id > last.id,
        (Some(first), Some(last)) => first.time > last.time,
        _ => false,
    };
    let mut on_element = |element| on_item(item(element));
    match is_newest_first {
        true => begin.backwards(count, &mut on_element),
        false => begin.forwards(count, &mut on_element),
    }
}

/// Unix ns of a time as Go's `Time.String` prints it: `2026-09-07 23:37:22.674409 +0000 UTC m=+139651.272674714`, with 0 to
/// 9 fractional digits, an offset, the zone's name, and perhaps the reading of a monotonic clock, which says nothing here.
fn go_time(text: &[u8]) -> Option<i64> {
    let mut words = text.split(|byte| *byte == b' ');
    let (date, clock, offset, zone) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let monotonic = match words.next() {
        Some(word) => word.strip_prefix(b"m=")?,
        None => b"",
    };
    let is_reading = monotonic.iter().all(|byte| byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.'));
    if zone.is_empty() || !is_reading || words.next().is_some() {
        return None;
    }
    // As RFC 3339 writes it: date, `T`, time of day with at most 18 characters, `Z`.
    let mut utc = [0u8; 10 + 1 + 18 + 1];
    let end = 11 + clock.len();
    utc.get_mut(..10).filter(|_| date.len() == 10)?.copy_from_slice(date);
    utc[10] = b'T';
    *utc.get_mut(end)? = b'Z';
    utc[11..end].copy_from_slice(clock);
    parse_rfc3339(&utc[..=end])?.checked_sub(offset_ns(offset)?)
}

/// Of `+0530`: how far the zone is ahead of UTC.
fn offset_ns(offset: &[u8]) -> Option<i64> {
    let [sign @ (b'+' | b'-'), digits @ ..] = offset else { return None };
    if digits.len() != 4 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digit = |at: usize| i64::from(digits[at] - b'0');
    let (hours, minutes) = (digit(0) * 10 + digit(1), digit(2) * 10 + digit(3));
    if hours > 23 || minutes > 59 {
        return None;
    }
    let ns = (hours * 60 + minutes) * 60 * NANOS_PER_SECOND;
    Some(if *sign == b'-' { -ns } else { ns })
}

#[cfg(test)]
mod tests;
