//! Finnhub WebSocket frames: `trade`, `ping` and `error`.
//!
//! Pure: a frame is scanned to its end before anything in it is believed; then each element of a `trade` stands for
//! itself and gives exactly one event, [`Event::Invalid`] where it cannot be read. Deliberately absent: news, which
//! is [`Event::Ignored`].
//!
//! What a user of the events must know: the venue numbers nothing, so neither loss nor repeats can be seen, and two
//! trades that are alike in everything are two trades. Times go backwards, inside a frame too. Symbols may bear an
//! exchange in front (`BINANCE:BTCUSDT`) and are handed on as written.
//!
//! Fields: <https://finnhub.io/docs/api/websocket-trades>.

use super::event::{Age, Control, EMPTY_LIST, Event, Heartbeat, NO_OBJECT, Part, Trade, invalid};
use super::field::{array, decimal, present, shown, symbol, text, unix_time};
use super::json::{each_object, members};
use super::{DecodeError, Reason};

const MILLISECOND: i64 = 1_000_000;

/// Decodes one frame and hands its events to `on_event`, in order. Never panics, whatever the bytes.
///
/// # Errors
/// [`DecodeError`] where the frame is no JSON object with a `type`, or a `trade` without its list. No event has been
/// handed out then.
pub fn decode<'a>(frame: &'a [u8], on_event: &mut impl FnMut(Event<'a>)) -> Result<(), DecodeError> {
    let message = Message::read(frame)?;
    match text(message.kind, "type")? {
        b"trade" => decode_trades(array(message.data, "data")?, on_event)?,
        b"ping" => on_event(Event::Heartbeat(Heartbeat { symbol: None, time: None })),
        // Even after one for too many symbols the connection stays, and what was subscribed to before.
        b"error" => on_event(Event::Control(Control::Error { text: shown(message.message), detail: b"" })),
        kind => on_event(Event::Ignored { kind }),
    }
    Ok(())
}

members! {
    struct Message {
        kind: b"type",
        data: b"data",
        message: b"msg",
    }
}

members! {
    struct Element {
        symbol: b"s",
        price: b"p",
        volume: b"v",
        time: b"t",
    }
}

/// The elements of `list`, which was scanned before.
fn decode_trades<'a>(list: &'a [u8], on_event: &mut impl FnMut(Event<'a>)) -> Result<(), DecodeError> {
    let mut is_empty = true;
    each_object(list, Element::scan, |element| {
        is_empty = false;
        on_event(element.map_or(NO_OBJECT, |element| element.event()));
        Ok(())
    })?;
    if is_empty {
        on_event(EMPTY_LIST);
    }
    Ok(())
}

impl<'a> Element<'a> {
    /// Of volume zero it is a new price of something that is not traded here, and no trade.
    fn event(&self) -> Event<'a> {
        match self.trade() {
            Ok(trade) if trade.size.is_zero() => Event::Ignored { kind: b"price_update" },
            Ok(trade) => Event::Trade(trade),
            Err(reason) => invalid(symbol(self.symbol).ok(), Part::Trade, reason),
        }
    }

    fn trade(&self) -> Result<Trade<'a>, Reason> {
        Ok(Trade {
            symbol: symbol(self.symbol)?,
            id: None,
            price: present(decimal(self.price))?,
            size: present(decimal(self.volume))?,
            taker: None,
            time: present(unix_time(self.time, MILLISECOND))?,
            age: Age::Live,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::Symbol;
    use super::super::testing::{self, Expected, decimal};
    use super::*;

    const AAPL: &str =
        r#"{"data":[{"c":["1","8","12"],"p":133.22,"s":"AAPL","t":1618417965944,"v":13}],"type":"trade"}"#;
    const BTC: &str =
        r#"{"data":[{"c":null,"p":7296.89,"s":"BINANCE:BTCUSDT","t":1575526691134,"v":0.011467}],"type":"trade"}"#;
    const TOO_MANY: &str = r#"{"msg":"Subscribing to too many symbols","type":"error"}"#;

    fn events(frame: &str) -> Result<Vec<Event<'_>>, DecodeError> {
        testing::events(|mut on_event| decode(frame.as_bytes(), &mut on_event))
    }

    #[track_caller]
    fn check(frame: &str, expected: Expected<'_, '_>) {
        testing::check(frame, events(frame), expected);
    }

    fn trade<'a>(symbol: &'a str, price: &str, size: &str, millis: i64) -> Event<'a> {
        Event::Trade(Trade {
            symbol: Symbol::Text(symbol.as_bytes()),
            id: None,
            price: decimal(price),
            size: decimal(size),
            taker: None,
            time: millis * MILLISECOND,
            age: Age::Live,
        })
    }

    #[test]
    fn reads_trades() {
        check(AAPL, Ok(&[trade("AAPL", "133.22", "13", 1_618_417_965_944)]));
        check(BTC, Ok(&[trade("BINANCE:BTCUSDT", "7296.89", "0.011467", 1_575_526_691_134)]));
        check(
            &BTC.replace("0.011467", "1.50e-3"),
            Ok(&[trade("BINANCE:BTCUSDT", "7296.89", "0.00150", 1_575_526_691_134)]),
        );
        check(&AAPL.replace("133.22", "-1"), Ok(&[trade("AAPL", "-1", "13", 1_618_417_965_944)]));
        check(&AAPL.replace(r#""c":["1","8","12"],"#, ""), Ok(&[trade("AAPL", "133.22", "13", 1_618_417_965_944)]));
    }

    #[test]
    fn keeps_the_order_of_the_frame_and_trades_that_are_alike() {
        let frame = r#"{"data":[{"c":["1","12"],"p":118.815,"s":"XOM","t":1676055242474,"v":1},{"c":["1"],"p":118.81,"s":"XOM","t":1676055242333,"v":100},{"c":["1"],"p":118.81,"s":"XOM","t":1676055242333,"v":100},{"c":["1"],"p":177.46,"s":"AAPL","t":1676055242334,"v":72}],"type":"trade"}"#;
        check(
            frame,
            Ok(&[
                trade("XOM", "118.815", "1", 1_676_055_242_474),
                trade("XOM", "118.81", "100", 1_676_055_242_333),
                trade("XOM", "118.81", "100", 1_676_055_242_333),
                trade("AAPL", "177.46", "72", 1_676_055_242_334),
            ]),
        );
    }

    #[test]
    fn a_price_without_a_volume_is_no_trade() {
        let update = Event::Ignored { kind: b"price_update" };
        for volume in ["0", "0.0", "0e5", "-0", "\"0\""] {
            check(&AAPL.replace(r#""v":13"#, &format!(r#""v":{volume}"#)), Ok(&[update]));
        }
        let rate = r#"{"data":[{"c":null,"p":1.08345,"s":"OANDA:EUR_USD","t":1675983600123,"v":0}],"type":"trade"}"#;
        check(rate, Ok(&[update]));
    }

    #[test]
    fn reads_other_messages() {
        check(r#"{"type":"ping"}"#, Ok(&[Event::Heartbeat(Heartbeat { symbol: None, time: None })]));
        let error = |text| Event::Control(Control::Error { text, detail: b"" });
        check(TOO_MANY, Ok(&[error(b"Subscribing to too many symbols")]));
        check(r#"{"type":"error"}"#, Ok(&[error(b"")]));
        check(r#"{"data":[{"headline":"x"}],"type":"news"}"#, Ok(&[Event::Ignored { kind: b"news" }]));
        check(r#"{"data":[],"type":"trade"}"#, Ok(&[Event::Ignored { kind: b"[]" }]));
    }

    #[test]
    fn marks_what_cannot_be_believed() {
        #[track_caller]
        fn invalid(from: &str, to: &str, reason: Reason) {
            assert!(AAPL.contains(from), "{from}");
            let symbol = (!from.contains("AAPL")).then_some(Symbol::Text(b"AAPL"));
            let expected = Event::Invalid { symbol, part: Part::Trade, reason };
            check(&AAPL.replacen(from, to, 1), Ok(&[expected]));
        }
        invalid("133.22", "null", Reason::MissingField);
        invalid(r#""p":133.22,"#, "", Reason::MissingField);
        invalid("133.22", r#""""#, Reason::Number);
        invalid("133.22", r#""0.-10000""#, Reason::Number);
        invalid("133.22", "12345678901234567890", Reason::NumberRange);
        invalid("133.22", "true", Reason::FieldType);
        invalid(r#""v":13"#, r#""v":null"#, Reason::MissingField);
        // It is not known whether it is a price update.
        invalid(r#","v":13"#, "", Reason::MissingField);
        invalid("1618417965944", "1618417965944000000", Reason::Time);
        invalid("1618417965944", "1618417965.944", Reason::Number);
        invalid("1618417965944", "null", Reason::MissingField);
        invalid(r#""s":"AAPL","#, "", Reason::MissingField);
        invalid(r#""AAPL""#, "7", Reason::FieldType);
        invalid(r#""AAPL""#, r#""A\u0041PL""#, Reason::FieldType);
        let no_message = Event::Invalid { symbol: None, part: Part::Message, reason: Reason::FieldType };
        let good = trade("AAPL", "133.22", "13", 1_618_417_965_944);
        let mixed = AAPL.replace("[{", "[ 7,null,[{}],{").replace("}]", "},\"x\" ]");
        check(&mixed, Ok(&[no_message, no_message, no_message, good, no_message]));
    }

    #[test]
    fn key_order_whitespace_and_unknown_keys_do_not_matter() {
        let turned = r#"{"type":"trade","data":[{"v":13,"t":1618417965944,"s":"AAPL","p":133.22,"c":null}]}"#;
        let spread = AAPL.replace("\":", "\" :\n\t").replace(",\"", " ,\r\n \"");
        let stuffed = AAPL.replace(r#""p":"#, r#""new":{"p":1,"s":["X",{"v":7}]},"x\"y":"\"}]","p":"#);
        for frame in [turned, &spread, &stuffed] {
            check(frame, Ok(&[trade("AAPL", "133.22", "13", 1_618_417_965_944)]));
        }
    }

    #[test]
    fn refuses_frames_that_cannot_be_read() {
        let field = |field, reason| Err(DecodeError::Field { field, reason });
        check("", Err(DecodeError::Truncated { offset: 0 }));
        check("[]", Err(DecodeError::Syntax { offset: 0 }));
        check("{}", Err(DecodeError::Missing { field: "type" }));
        check(r#"{"type":7}"#, field("type", Reason::FieldType));
        check(r#"{"type":"trade"}"#, Err(DecodeError::Missing { field: "data" }));
        check(r#"{"type":"trade","data":null}"#, Err(DecodeError::Missing { field: "data" }));
        check(r#"{"type":"trade","data":{}}"#, field("data", Reason::FieldType));
        check(&format!("{AAPL}{AAPL}"), Err(DecodeError::Syntax { offset: AAPL.len() }));
        check(&AAPL.replace("13}", "13},"), Err(DecodeError::Syntax { offset: AAPL.find("],\"t").unwrap() + 1 }));
    }

    #[test]
    fn every_cut_of_a_frame_is_refused() {
        for frame in [AAPL, BTC, TOO_MANY] {
            for end in 0..frame.len() {
                check(&frame[..end], Err(DecodeError::Truncated { offset: end }));
            }
        }
    }
}
