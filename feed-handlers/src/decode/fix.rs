//! FIX 4.4 market data: snapshots (35=W), incremental refreshes (35=X), and the messages of the session.
//!
//! Pure: one whole message in, its length and its checksum verified, its fields all read before anything in it is
//! believed. Groups are then walked once or twice more, because nothing may be allocated to keep them: the levels of
//! a message come first, then its trades and what is not taken, each in the order of the message. Deliberately
//! absent: the session itself, whose fields [`super::fix_session`] reads, and any memory of entries.
//!
//! What a user of the events must know:
//! - Every message is numbered: [`Event::LineSequence`] comes first. Not so a message that is sent again (43=Y), and a
//!   sequence reset, after which the next number shows what was left out.
//! - Entries are price levels: what asks for the data is to ask for aggregated books (266=Y) of more than the best
//!   price, and each bid or offer of an entry replaces what stands at its price. An entry that names no price, such
//!   as a deletion by id alone, cannot be applied: it is [`Event::Invalid`], and the book is to be asked for anew.
//! - A snapshot (W) with neither bids nor offers, yet other entries, says nothing of the book. Its trades are old.
//! - An instrument is what 55 calls it or, where that is missing or `[N/A]`, the number of 48, as LMAX does.
//! - A trade without a time of its own (60, or 272 and 273) has the message's: 60 before the group, or else 52.
//! - What Binance adds is read: 25043 and 25044 number the changes of a book. With 25044 alone an entry of X is the
//!   best price in place of the one before, which a book of levels cannot hold: it is [`Event::Ignored`].
//!
//! Fields: <https://www.onixs.biz/fix-dictionary/4.4/index.html>, and
//! <https://github.com/binance/binance-spot-api-docs/blob/master/fix-api.md>.

use protocol::{Decimal, Side};

use super::binance;
use super::event::{Age, BookBegin, BookEnd, BookScope, Control, Event, Heartbeat, Level, Part, Symbol, Trade};
use super::field::{optional, required};
use super::fix_fields::{Fields, date_and_time, decimal, fields, integer, timestamp};
use super::{DecodeError, Reason};

#[cfg(not(loom))]
pub(crate) use super::fix_fields::BEGIN;
pub use super::fix_fields::frame_end;

/// How the headline of Binance's news of maintenance begins; it sends no other news.
const CLOSING_HEADLINE: &[u8] = b"Your connection is about to be closed";

/// Bytes of a date, `20241019`.
const DATE_BYTES: usize = 8;

/// Decodes one message, which [`frame_end`] cut off the stream, and hands its events to `on_event`. Never panics,
/// whatever the bytes.
///
/// # Errors
/// [`DecodeError`] where it is no message, its length or checksum does not hold, it has another number of entries than
/// it says, or lacks what all messages of its type have. No event has been handed out then.
pub fn decode<'a>(frame: &'a [u8], on_event: &mut impl FnMut(Event<'a>)) -> Result<(), DecodeError> {
    let message = Message::read(frame)?;
    let sequence = required(integer(message.sequence), "MsgSeqNum")?;
    let sent = required(timestamp(message.sending_time), "SendingTime")?;
    let market_data = match message.kind {
        b"W" | b"X" => Some(message.market_data(sent)?),
        _ => None,
    };
    if message.kind != b"4" && message.possible_duplicate != Some(b"Y") {
        on_event(Event::LineSequence(sequence));
    }
    if let Some(market_data) = market_data {
        if market_data.entries_found == 0 && market_data.snapshot.is_none() {
            on_event(Event::Ignored { kind: message.kind });
        }
        market_data.book(on_event)?;
        return market_data.rest(on_event);
    }
    let text = message.text.unwrap_or(b"");
    match message.kind {
        b"A" => on_event(Event::Control(Control::Authenticated)),
        b"0" => on_event(Event::Heartbeat(Heartbeat { symbol: None, time: Some(sent) })),
        b"1" | b"2" | b"4" => on_event(Event::Control(Control::Note)),
        b"3" | b"j" | b"Y" => on_event(Event::Control(match message.error_code {
            Some(code) => binance::refusal(code, text),
            None => Control::Error { text, detail: message.reject_reason.unwrap_or(b"") },
        })),
        b"5" => {
            if !text.is_empty() {
                on_event(Event::Control(Control::Error { text, detail: b"" }));
            }
            on_event(Event::Control(Control::Closing));
        }
        b"B" if message.headline.is_some_and(|headline| headline.starts_with(CLOSING_HEADLINE)) => {
            on_event(Event::Control(Control::Closing));
        }
        kind => on_event(Event::Ignored { kind }),
    }
    Ok(())
}

/// The fields in front of the group, or of the whole message where it has none that is read.
struct Message<'a> {
    kind: &'a [u8],
    sequence: Option<&'a [u8]>,
    sending_time: Option<&'a [u8]>,
    possible_duplicate: Option<&'a [u8]>,
    text: Option<&'a [u8]>,
    headline: Option<&'a [u8]>,
    reject_reason: Option<&'a [u8]>,
    error_code: Option<&'a [u8]>,
    entry_count: Option<&'a [u8]>,
    /// What entries have where they say nothing else.
    common: Entry<'a>,
    /// Where the first entry begins.
    entries: Fields<'a>,
    entries_found: usize,
}

impl<'a> Message<'a> {
    fn read(frame: &'a [u8]) -> Result<Message<'a>, DecodeError> {
        let mut fields = fields(frame)?;
        let kind = match fields.next()? {
            Some(first) if first.tag == 35 => first.value,
            _ => return Err(DecodeError::Missing { field: "MsgType" }),
        };
        let mut message = Message {
            kind,
            sequence: None,
            sending_time: None,
            possible_duplicate: None,
            text: None,
            headline: None,
            reject_reason: None,
            error_code: None,
            entry_count: None,
            common: Entry::default(),
            entries: fields,
            entries_found: 0,
        };
        loop {
            let before = fields;
            let Some(field) = fields.next()? else { return Ok(message) };
            if Some(field.tag) == first_tag(kind) {
                if message.entries_found == 0 {
                    message.entries = before;
                }
                message.entries_found += 1;
            }
            if message.entries_found > 0 {
                continue;
            }
            let place = match field.tag {
                34 => &mut message.sequence,
                52 => &mut message.sending_time,
                43 => &mut message.possible_duplicate,
                58 => &mut message.text,
                148 => &mut message.headline,
                // Of a reject, a business reject and a refused request.
                373 | 380 | 281 => &mut message.reject_reason,
                25016 => &mut message.error_code,
                268 => &mut message.entry_count,
                48 => &mut message.common.security_id,
                55 => &mut message.common.symbol,
                60 => &mut message.common.transact_time,
                25043 => &mut message.common.first_update,
                25044 => &mut message.common.last_update,
                _ => continue,
            };
            *place = Some(field.value);
        }
    }

    /// The message as market data, with what all its entries depend on verified.
    fn market_data(&self, sent: i64) -> Result<MarketData<'a>, DecodeError> {
        let stated = required(integer(self.entry_count), "NoMDEntries")?;
        let stated = usize::try_from(stated).unwrap_or(usize::MAX);
        if stated != self.entries_found {
            return Err(DecodeError::Length { stated, found: self.entries_found });
        }
        let time = optional(timestamp(self.common.transact_time), "TransactTime")?.unwrap_or(sent);
        let snapshot = match self.kind {
            b"W" => {
                let symbol = self.common.symbol().ok_or(DecodeError::Missing { field: "Symbol" })?;
                let last = optional(integer(self.common.last_update), "LastBookUpdateID")?;
                Some(BookBegin { symbol, scope: BookScope::Snapshot, updates: last.map(|last| (last, last)) })
            }
            _ => None,
        };
        Ok(MarketData { snapshot, time, common: self.common, entries: self.entries, entries_found: self.entries_found })
    }
}

/// The tag that every entry of a message's group begins with.
const fn first_tag(kind: &[u8]) -> Option<u32> {
    match kind {
        b"W" => Some(269),
        b"X" => Some(279),
        _ => None,
    }
}

/// The entries of a W or an X.
struct MarketData<'a> {
    /// The book that starts anew; `None` in X.
    snapshot: Option<BookBegin<'a>>,
    /// Of what has no time of its own, Unix ns.
    time: i64,
    common: Entry<'a>,
    entries: Fields<'a>,
    entries_found: usize,
}

impl<'a> MarketData<'a> {
    fn each_entry(&self, mut on_entry: impl FnMut(&Entry<'a>)) -> Result<(), DecodeError> {
        let first_tag = if self.snapshot.is_some() { 269 } else { 279 };
        // The time before the group is no entry's own.
        let mut entry = Entry { transact_time: None, ..self.common };
        let mut is_first = true;
        let mut fields = self.entries;
        if self.entries_found == 0 {
            return Ok(());
        }
        while let Some(field) = fields.next()? {
            if field.tag == first_tag && !std::mem::replace(&mut is_first, false) {
                on_entry(&entry);
                entry = entry.heir();
            }
            let place = match field.tag {
                48 => &mut entry.security_id,
                55 => &mut entry.symbol,
                60 => &mut entry.transact_time,
                269 => &mut entry.kind,
                270 => &mut entry.price,
                271 => &mut entry.size,
                272 => &mut entry.date,
                273 => &mut entry.time,
                279 => &mut entry.action,
                1003 => &mut entry.trade_id,
                2446 => &mut entry.aggressor,
                25043 => &mut entry.first_update,
                25044 => &mut entry.last_update,
                _ => continue,
            };
            *place = Some(field.value);
        }
        on_entry(&entry);
        Ok(())
    }

    /// The levels: those of a snapshot, or the changes, those of one symbol and number together.
    fn book(&self, on_event: &mut impl FnMut(Event<'a>)) -> Result<(), DecodeError> {
        let mut says_book = self.entries_found == 0;
        self.each_entry(|entry| says_book |= entry.is_book())?;
        if !says_book {
            return Ok(());
        }
        let mut open = match self.snapshot {
            Some(begin) => {
                on_event(Event::BookBegin(begin));
                Some(begin)
            }
            None => None,
        };
        let mut time = self.time;
        self.each_entry(|entry| {
            if !entry.is_book() {
                return;
            }
            let invalid = |reason| Event::Invalid { symbol: entry.symbol(), part: Part::Level, reason };
            let (symbol, updates) = match (self.snapshot, entry.symbol(), entry.updates()) {
                (Some(begin), ..) => (begin.symbol, begin.updates),
                (None, None, _) => return on_event(invalid(Reason::MissingField)),
                (None, _, Err(reason)) => return on_event(invalid(reason)),
                (None, Some(symbol), Ok(updates)) => (symbol, updates),
            };
            let is_emptied = entry.kind == Some(b"J") && self.snapshot.is_none();
            let scope = if self.snapshot.is_some() || is_emptied { BookScope::Snapshot } else { BookScope::Change };
            let begin = BookBegin { symbol, scope, updates };
            if open != Some(begin) || is_emptied {
                if open.is_some() {
                    on_event(Event::BookEnd(BookEnd { checksum: None, time: Some(time) }));
                }
                on_event(Event::BookBegin(begin));
                open = Some(begin);
                time = self.time;
            }
            if let Ok(Some(own)) = entry.own_time() {
                time = own;
            }
            if entry.kind != Some(b"J") {
                on_event(entry.level(self.snapshot.is_some()).map_or_else(invalid, Event::Level));
            }
        })?;
        if open.is_some() {
            on_event(Event::BookEnd(BookEnd { checksum: None, time: Some(time) }));
        }
        Ok(())
    }

    /// What is no level.
    fn rest(&self, on_event: &mut impl FnMut(Event<'a>)) -> Result<(), DecodeError> {
        self.each_entry(|entry| {
            if entry.is_book() {
                return;
            }
            let event = match (entry.kind, entry.action) {
                (Some(b"2"), Some(b"0")) => self.trade(entry, Age::Live),
                (Some(b"2"), None) if self.snapshot.is_some() => self.trade(entry, Age::Old),
                (Some(b"2"), Some(b"1")) => Event::Ignored { kind: b"trade change" },
                (Some(b"2"), Some(b"2")) => Event::Ignored { kind: b"trade deletion" },
                (Some(b"2"), _) => {
                    Event::Invalid { symbol: entry.symbol(), part: Part::Trade, reason: Reason::FieldType }
                }
                (Some(b"0" | b"1"), _) => Event::Ignored { kind: b"best price" },
                (kind, _) => Event::Ignored { kind: kind.unwrap_or(b"") },
            };
            on_event(event);
        })
    }

    fn trade(&self, entry: &Entry<'a>, age: Age) -> Event<'a> {
        let read = || {
            Ok(Trade {
                symbol: entry.symbol().ok_or(Reason::MissingField)?,
                id: integer(entry.trade_id).unwrap_or(None),
                price: decimal(entry.price)?.ok_or(Reason::MissingField)?,
                size: decimal(entry.size)?.ok_or(Reason::MissingField)?,
                taker: match entry.aggressor {
                    Some(b"1") => Some(Side::Buy),
                    Some(b"2") => Some(Side::Sell),
                    None | Some(b"0") => None,
                    Some(_) => return Err(Reason::Side),
                },
                time: entry.own_time()?.unwrap_or(self.time),
                age,
            })
        };
        let invalid = |reason| Event::Invalid { symbol: entry.symbol(), part: Part::Trade, reason };
        read().map_or_else(invalid, Event::Trade)
    }
}

/// One entry of a group.
#[derive(Clone, Copy, Default)]
struct Entry<'a> {
    action: Option<&'a [u8]>,
    kind: Option<&'a [u8]>,
    symbol: Option<&'a [u8]>,
    security_id: Option<&'a [u8]>,
    price: Option<&'a [u8]>,
    size: Option<&'a [u8]>,
    transact_time: Option<&'a [u8]>,
    date: Option<&'a [u8]>,
    time: Option<&'a [u8]>,
    trade_id: Option<&'a [u8]>,
    aggressor: Option<&'a [u8]>,
    first_update: Option<&'a [u8]>,
    last_update: Option<&'a [u8]>,
}

impl<'a> Entry<'a> {
    /// The entry that follows, as long as it says nothing of its own.
    fn heir(&self) -> Entry<'a> {
        let Entry { symbol, security_id, first_update, last_update, .. } = *self;
        Entry { symbol, security_id, first_update, last_update, ..Entry::default() }
    }

    /// `[N/A]` is what a symbol has to be where there is none.
    fn symbol(&self) -> Option<Symbol<'a>> {
        let name = self.symbol.filter(|name| !matches!(*name, b"" | b"[N/A]"));
        name.or(self.security_id.filter(|id| !id.is_empty())).map(Symbol::Text)
    }

    /// Whether it is about a level. An entry without a type is, so that the book is not trusted where one is cut short.
    fn is_book(&self) -> bool {
        let is_best_price = self.action.is_some() && self.first_update.is_none() && self.last_update.is_some();
        match self.kind {
            Some(b"0" | b"1") => !is_best_price,
            Some(b"J") | None => true,
            Some(_) => false,
        }
    }

    fn updates(&self) -> Result<Option<(u64, u64)>, Reason> {
        match (integer(self.first_update)?, integer(self.last_update)?) {
            (None, None) => Ok(None),
            (Some(first), Some(last)) if first <= last => Ok(Some((first, last))),
            (Some(_), Some(_)) => Err(Reason::NumberRange),
            _ => Err(Reason::MissingField),
        }
    }

    fn own_time(&self) -> Result<Option<i64>, Reason> {
        match (self.transact_time, self.date, self.time) {
            (Some(_), ..) => timestamp(self.transact_time),
            (None, Some(date), Some(time)) => date_and_time(date, time).map(Some),
            // Deribit writes both into the one.
            (None, Some(date), None) if date.len() > DATE_BYTES => timestamp(self.date),
            // A time of a day that nobody names is none.
            (None, ..) => Ok(None),
        }
    }

    fn level(&self, is_snapshot: bool) -> Result<Level, Reason> {
        let side = match self.kind {
            Some(b"0") => Side::Buy,
            Some(b"1") => Side::Sell,
            Some(_) => return Err(Reason::Side),
            None => return Err(Reason::MissingField),
        };
        let price = decimal(self.price)?.ok_or(Reason::MissingField)?;
        let size = match self.action {
            None if is_snapshot => decimal(self.size)?,
            Some(b"0" | b"1") => decimal(self.size)?,
            Some(b"2") => Some(Decimal::ZERO),
            None => None,
            Some(_) => return Err(Reason::FieldType),
        };
        Level::new(side, price, size.ok_or(Reason::MissingField)?)
    }
}

#[cfg(test)]
mod tests;
