//! OANDA v20 pricing: one line of the stream (`PRICE`, `HEARTBEAT`), or a whole REST answer (`prices`, `errorMessage`).
//!
//! Pure: a line is scanned to its end before anything in it is believed. Every price replaces the whole ladder of its
//! instrument, and its best bucket becomes the quote. Deliberately absent: the deeper buckets, because they are
//! offers for other sizes and no levels that add up, `closeoutBid` and `closeoutAsk`, which nobody trades at, and
//! cutting the body into lines: chunks of the response end anywhere.
//!
//! What a user of the events must know:
//! - A price that is not tradeable, as at weekends, is handed out as [`Age::Old`]: it is the last state and no live
//!   quote. So is nothing else; the first price after connecting may yet be hours old, which only its time tells.
//! - A price of status `invalid` is a quote of neither side.
//! - There are no sequences and no trades.
//!
//! Fields: <https://developer.oanda.com/rest-live-v20/pricing-df/>.

use protocol::{Decimal, parse_rfc3339};

use super::event::{Age, Control, Event, Heartbeat, Part, Quote, Symbol, Top, invalid};
use super::field::{array, boolean, decimal, optional, required, shown, symbol, text, unix_seconds};
use super::json::{Kind, Value, each_element, members};
use super::{DecodeError, Reason};

/// Decodes one line, with or without what ends it, and hands its events to `on_event`. A blank line has none. Never
/// panics, whatever the bytes.
///
/// # Errors
/// [`DecodeError`] where the line is no JSON object, or its message lacks a field or holds one that cannot be read.
/// No event has been handed out then.
pub fn decode<'a>(line: &'a [u8], on_event: &mut impl FnMut(Event<'a>)) -> Result<(), DecodeError> {
    if line.trim_ascii().is_empty() {
        return Ok(());
    }
    let message = Message::read(line)?;
    if message.error_message.kind != Kind::Absent {
        on_event(Event::Control(message.refusal()));
        return Ok(());
    }
    match message.kind.kind {
        Kind::Absent if message.prices.kind != Kind::Absent => decode_answer(&message, on_event)?,
        // Prices of early captures, and of REST answers, bear no type.
        Kind::Absent if message.instrument.kind != Kind::Absent => on_event(Event::Quote(message.quote()?)),
        _ => match text(message.kind, "type")? {
            b"PRICE" => on_event(Event::Quote(message.quote()?)),
            b"HEARTBEAT" => {
                let time = Some(required(time(message.time), "time")?);
                on_event(Event::Heartbeat(Heartbeat { symbol: None, time }));
            }
            kind => on_event(Event::Ignored { kind }),
        },
    }
    Ok(())
}

/// `{"prices":[...]}`: each price stands for itself.
fn decode_answer<'a>(message: &Message<'a>, on_event: &mut impl FnMut(Event<'a>)) -> Result<(), DecodeError> {
    let mut is_empty = true;
    each_element(array(message.prices, "prices")?, |scanner| {
        is_empty = false;
        let price = scanner.value()?;
        if price.kind != Kind::Object {
            on_event(invalid(None, Part::Quote, Reason::FieldType));
            return Ok(());
        }
        let price = Message::read(price.raw)?;
        on_event(match price.quote() {
            Ok(quote) => Event::Quote(quote),
            Err(error) => invalid(symbol(price.instrument).ok(), Part::Quote, error.reason()),
        });
        Ok(())
    })?;
    if is_empty {
        on_event(Event::Ignored { kind: b"prices" });
    }
    Ok(())
}

members! {
    /// The fields that some message needs.
    struct Message {
        kind: b"type",
        time: b"time",
        instrument: b"instrument",
        bids: b"bids",
        asks: b"asks",
        tradeable: b"tradeable",
        status: b"status",
        prices: b"prices",
        error_message: b"errorMessage",
        error_code: b"errorCode",
    }
}

members! {
    /// `{"price":"1.19195","liquidity":10000000}`
    struct Bucket {
        price: b"price",
        liquidity: b"liquidity",
    }
}

/// What a price is good for.
enum Standing {
    Tradeable,
    NotTradeable,
    /// There is no price, whatever stands in the buckets.
    Invalid,
}

impl<'a> Message<'a> {
    fn quote(&self) -> Result<Quote<'a>, DecodeError> {
        let standing = self.standing()?;
        let bid = best(array(self.bids, "bids")?, "bids", |price, best| price > best)?;
        let ask = best(array(self.asks, "asks")?, "asks", |price, best| price < best)?;
        let has_price = !matches!(standing, Standing::Invalid);
        Ok(Quote {
            symbol: Symbol::Text(text(self.instrument, "instrument")?),
            bid: bid.filter(|_| has_price),
            ask: ask.filter(|_| has_price),
            sequence: None,
            time: Some(required(time(self.time), "time")?),
            age: if matches!(standing, Standing::NotTradeable) { Age::Old } else { Age::Live },
        })
    }

    /// `tradeable` came after 2016 and replaces `status`, but for one thing that only `status` can say. A price of which
    /// nothing is said is tradeable.
    fn standing(&self) -> Result<Standing, DecodeError> {
        let status = match self.status.kind {
            Kind::Absent | Kind::Null => None,
            _ => Some(text(self.status, "status")?),
        };
        Ok(match (optional(boolean(self.tradeable), "tradeable")?, status) {
            (_, Some(b"invalid")) => Standing::Invalid,
            (Some(true), _) | (None, None | Some(b"tradeable")) => Standing::Tradeable,
            (Some(false), _) | (None, Some(b"non-tradeable")) => Standing::NotTradeable,
            (None, Some(_)) => return Err(DecodeError::Field { field: "status", reason: Reason::FieldType }),
        })
    }

    /// A body that came in place of a stream, with a status of 400 and above. Who sees the status knows more: of the
    /// texts, only these two are documented as what comes with 401 and 403.
    fn refusal(&self) -> Control<'a> {
        let text = shown(self.error_message);
        match text {
            b"Insufficient authorization to perform request." | b"The provided request was forbidden." => {
                Control::AuthRefused { text }
            }
            _ => Control::Error { text, detail: shown(self.error_code) },
        }
    }
}

/// The best of the buckets in `list`, which was scanned before. They need not stand in order. Of two at one price the
/// first counts. One that cannot be read could be the best, so it spoils the list.
fn best(
    list: &[u8],
    field: &'static str,
    is_better: impl Fn(Decimal, Decimal) -> bool,
) -> Result<Option<Top>, DecodeError> {
    let mut best: Option<Top> = None;
    each_element(list, |scanner| {
        let bucket = scanner.value()?;
        let top = match bucket.kind {
            Kind::Object => Bucket::read(bucket.raw)?.top(),
            _ => Err(Reason::FieldType),
        };
        let top = top.map_err(|reason| DecodeError::Field { field, reason })?;
        if best.is_none_or(|best| is_better(top.price, best.price)) {
            best = Some(top);
        }
        Ok(())
    })?;
    Ok(best)
}

impl Bucket<'_> {
    fn top(&self) -> Result<Top, Reason> {
        let price = decimal(self.price)?.ok_or(Reason::MissingField)?;
        let size = decimal(self.liquidity)?;
        if !price.is_positive() {
            return Err(Reason::Price);
        }
        if size.is_some_and(|size| size < Decimal::ZERO) {
            return Err(Reason::Size);
        }
        Ok(Top { price, size })
    }
}

/// A time in either form that `Accept-Datetime-Format` asks for: RFC 3339, or `1475645296.729643492`.
fn time(value: Value<'_>) -> Result<Option<i64>, Reason> {
    match value.kind {
        Kind::Absent | Kind::Null => Ok(None),
        Kind::Text => match parse_rfc3339(value.raw) {
            Some(time) => Ok(Some(time)),
            None => unix_seconds(value),
        },
        _ => Err(Reason::FieldType),
    }
}

#[cfg(test)]
mod tests;
