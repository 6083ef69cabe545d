//! Alpaca market-data v2 frames, in JSON and in MessagePack: trades, quotes, bars, and what is said about the
//! connection.
//!
//! Pure: a frame is an array of messages of any kinds and symbols. It is scanned to its end before anything in it is
//! believed; then each element stands for itself and gives exactly one event, the same one in both encodings,
//! [`Event::Invalid`] where it cannot be read. Deliberately absent: corrections `c` and cancellations `x` of trades,
//! statuses, limit bands and imbalances, which are [`Event::Ignored`].
//!
//! What a user of the events must know:
//! - Trade ids count for each exchange and day: two trades of a symbol may bear the same one. Quotes have no numbers.
//! - A minute's bar `b` comes after the minute and is final, as far as was known then. An updated one `u` has the
//!   late trades in it, some half a minute later; it is final in its turn and replaces the first. Of the day's bar
//!   `d` there is one more each minute, so it is in progress until the next day's.
//!
//! Fields: <https://docs.alpaca.markets/docs/real-time-stock-pricing-data>.

use protocol::{Decimal, Side};

pub use super::alpaca_msgpack::decode_msgpack;
use super::event::{Age, Bar, Control, EMPTY_LIST, Event, NO_OBJECT, Part, Quote, Symbol, Trade, invalid};
use super::field::{self, array, present, quoted};
use super::json::{Scanner, Value, each_object};
use super::{DecodeError, Reason};

const MINUTE: i64 = 60_000_000_000;
const DAY: i64 = 24 * 60 * MINUTE;

/// Decodes one frame in JSON and hands its events to `on_event`, in order. Never panics, whatever the bytes.
///
/// # Errors
/// [`DecodeError`] where the frame is no JSON array. No event has been handed out then.
pub fn decode<'a>(frame: &'a [u8], on_event: &mut impl FnMut(Event<'a>)) -> Result<(), DecodeError> {
    let mut scanner = Scanner::new(frame);
    let list = array(scanner.value()?, "frame")?;
    scanner.end()?;
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

/// The value of a field in one of the encodings. An absent key and a null are the same to all of these.
pub(super) trait Field<'a>: Copy {
    fn plain(self) -> Result<&'a [u8], Reason>;
    fn decimal(self) -> Result<Option<Decimal>, Reason>;
    fn integer(self) -> Result<Option<u64>, Reason>;
    /// Unix ns.
    fn time(self) -> Result<Option<i64>, Reason>;
    /// What there is of a text, to be shown.
    fn shown(self) -> &'a [u8];
}

impl<'a> Field<'a> for Value<'a> {
    fn plain(self) -> Result<&'a [u8], Reason> {
        field::plain(self)
    }

    fn decimal(self) -> Result<Option<Decimal>, Reason> {
        field::decimal(self)
    }

    fn integer(self) -> Result<Option<u64>, Reason> {
        field::integer(self)
    }

    fn time(self) -> Result<Option<i64>, Reason> {
        field::time(self)
    }

    fn shown(self) -> &'a [u8] {
        field::shown(self)
    }
}

macro_rules! element {
    ($($field:ident: $key:literal,)*) => {
        /// The fields that some message needs, as values of one encoding.
        #[derive(Clone, Copy, Debug)]
        pub(super) struct Element<V> {
            $($field: V,)*
        }

        impl<V: Copy> Element<V> {
            /// A message of which no field was seen yet.
            pub(super) fn filled(absent: V) -> Element<V> {
                Element { $($field: absent,)* }
            }

            /// Keeps the value where the key is wanted. Of a key that occurs twice the last counts.
            pub(super) fn set(&mut self, key: &[u8], value: V) {
                match key {
                    $($key => self.$field = value,)*
                    _ => {}
                }
            }
        }
    };
}

element! {
    kind: b"T",
    symbol: b"S",
    id: b"i",
    price: b"p",
    size: b"s",
    time: b"t",
    bid_price: b"bp",
    bid_size: b"bs",
    ask_price: b"ap",
    ask_size: b"as",
    open: b"o",
    high: b"h",
    low: b"l",
    close: b"c",
    volume: b"v",
    trades: b"n",
    vwap: b"vw",
    taker: b"tks",
    message: b"msg",
    code: b"code",
}

impl<'a> Element<Value<'a>> {
    /// Steps over the object that is next.
    fn scan(scanner: &mut Scanner<'a>) -> Result<Element<Value<'a>>, DecodeError> {
        let mut element = Element::filled(Value::ABSENT);
        scanner.enter(b'{')?;
        let mut first = true;
        while let Some(key) = scanner.next_key(&mut first)? {
            element.set(key, scanner.value()?);
        }
        Ok(element)
    }
}

impl<V> Element<V> {
    pub(super) fn event<'a>(&self) -> Event<'a>
    where
        V: Field<'a>,
    {
        let kind = match self.kind.plain() {
            Ok(kind) => kind,
            Err(reason) => return invalid(None, Part::Message, reason),
        };
        let (part, read) = match kind {
            b"t" => (Part::Trade, self.trade().map(Event::Trade)),
            b"q" => (Part::Quote, self.quote().map(Event::Quote)),
            b"b" | b"u" => (Part::Bar, self.bar(MINUTE, false).map(Event::Bar)),
            b"d" => (Part::Bar, self.bar(DAY, true).map(Event::Bar)),
            b"success" => return Event::Control(self.success()),
            b"subscription" => return Event::Control(Control::Subscribed),
            b"error" => return Event::Control(self.error()),
            kind => return Event::Ignored { kind },
        };
        let symbol = self.symbol.plain().ok().map(Symbol::Text);
        read.unwrap_or_else(|reason| invalid(symbol, part, reason))
    }

    /// An id that is no integer is none.
    fn trade<'a>(&self) -> Result<Trade<'a>, Reason>
    where
        V: Field<'a>,
    {
        Ok(Trade {
            symbol: self.symbol.plain().map(Symbol::Text)?,
            id: self.id.integer().unwrap_or(None),
            price: present(self.price.decimal())?,
            size: present(self.size.decimal())?,
            taker: self.taker(),
            time: present(self.time.time())?,
            age: Age::Live,
        })
    }

    /// Told of crypto only.
    fn taker<'a>(&self) -> Option<Side>
    where
        V: Field<'a>,
    {
        match self.taker.plain() {
            Ok(b"B") => Some(Side::Buy),
            Ok(b"S") => Some(Side::Sell),
            _ => None,
        }
    }

    fn quote<'a>(&self) -> Result<Quote<'a>, Reason>
    where
        V: Field<'a>,
    {
        Ok(Quote {
            symbol: self.symbol.plain().map(Symbol::Text)?,
            bid: quoted(self.bid_price.decimal()?, self.bid_size.decimal()?),
            ask: quoted(self.ask_price.decimal()?, self.ask_size.decimal()?),
            sequence: None,
            time: Some(present(self.time.time())?),
            age: Age::Live,
        })
    }

    fn bar<'a>(&self, interval_ns: i64, in_progress: bool) -> Result<Bar<'a>, Reason>
    where
        V: Field<'a>,
    {
        Ok(Bar {
            symbol: self.symbol.plain().map(Symbol::Text)?,
            interval_ns,
            start: present(self.time.time())?,
            open: present(self.open.decimal())?,
            high: present(self.high.decimal())?,
            low: present(self.low.decimal())?,
            close: present(self.close.decimal())?,
            volume: present(self.volume.decimal())?,
            vwap: self.vwap.decimal()?,
            trades: self.trades.integer()?,
            in_progress,
        })
    }

    fn success<'a>(&self) -> Control<'a>
    where
        V: Field<'a>,
    {
        match self.message.shown() {
            b"connected" => Control::Connected,
            b"authenticated" => Control::Authenticated,
            _ => Control::Note,
        }
    }

    /// What the one who connects has to do decides. [`Control::AuthRefused`]: nothing will come on this connection
    /// until the credentials or the plan are others (401, 402, 404, 408, 409, 411). [`Control::Throttled`]: fewer
    /// symbols, fewer connections, more time or faster reading (405, 406, 407, 429). The rest, and a code that cannot
    /// be read, is [`Control::Error`]: one of our requests, or a fault of the venue's.
    fn error<'a>(&self) -> Control<'a>
    where
        V: Field<'a>,
    {
        let text = self.message.shown();
        match self.code.integer() {
            Ok(Some(401 | 402 | 404 | 408 | 409 | 411)) => Control::AuthRefused { text },
            Ok(Some(405..=407 | 429)) => Control::Throttled { text },
            _ => Control::Error { text, detail: b"" },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{self, Expected, decimal, symbol, top};
    use super::*;

    const AAPL_TRADE: &str = r#"{"T":"t","S":"AAPL","i":1465,"x":"P","p":162.91,"s":71,"c":["@","F","T","I"],"z":"C","t":"2023-04-06T11:54:26.83915973Z"}"#;
    const AMD_QUOTE: &str = r#"{"T":"q","S":"AMD","bx":"K","bp":91.95,"bs":2,"ax":"Q","ap":91.98,"as":1,"c":["R"],"z":"C","t":"2023-04-06T11:54:21.670905508Z"}"#;
    const SPY_BAR: &str =
        r#"{"T":"b","S":"SPY","o":388.985,"h":389.13,"l":388.975,"c":389.12,"v":49378,"t":"2021-02-22T19:15:00Z"}"#;
    const AUTH_FAILED: &str = r#"{"T":"error","code":402,"msg":"auth failed"}"#;

    fn events(frame: &str) -> Result<Vec<Event<'_>>, DecodeError> {
        testing::events(|mut on_event| decode(frame.as_bytes(), &mut on_event))
    }

    #[track_caller]
    fn check(frame: &str, expected: Expected<'_, '_>) {
        testing::check(frame, events(frame), expected);
    }

    /// One element becomes one event.
    #[track_caller]
    fn becomes(element: &str, expected: Event<'_>) {
        check(&format!("[{element}]"), Ok(&[expected]));
    }

    fn aapl_trade() -> Trade<'static> {
        Trade {
            symbol: symbol("AAPL"),
            id: Some(1_465),
            price: decimal("162.91"),
            size: decimal("71"),
            taker: None,
            time: 1_680_782_066_839_159_730,
            age: Age::Live,
        }
    }

    fn amd_quote() -> Quote<'static> {
        Quote {
            symbol: symbol("AMD"),
            bid: top("91.95", "2"),
            ask: top("91.98", "1"),
            sequence: None,
            time: Some(1_680_782_061_670_905_508),
            age: Age::Live,
        }
    }

    fn spy_bar() -> Bar<'static> {
        Bar {
            symbol: symbol("SPY"),
            interval_ns: MINUTE,
            start: 1_614_021_300_000_000_000,
            open: decimal("388.985"),
            high: decimal("389.13"),
            low: decimal("388.975"),
            close: decimal("389.12"),
            volume: decimal("49378"),
            vwap: None,
            trades: None,
            in_progress: false,
        }
    }

    #[test]
    fn reads_trades() {
        let trade = aapl_trade();
        becomes(AAPL_TRADE, Event::Trade(trade));
        let with = |from: &str, to: &str| AAPL_TRADE.replace(from, to);
        becomes(&with("162.91", "140"), Event::Trade(Trade { price: decimal("140"), ..trade }));
        becomes(&with("162.91", "140.00"), Event::Trade(Trade { price: decimal("140.00"), ..trade }));
        becomes(&with("71", "0.5"), Event::Trade(Trade { size: decimal("0.5"), ..trade }));
        becomes(&with("1465", "52983525033527"), Event::Trade(Trade { id: Some(52_983_525_033_527), ..trade }));
        for id in ["9223372036854775808", "-1", "1.5", "null", "\"A7\"", "[]"] {
            becomes(&with("1465", id), Event::Trade(Trade { id: None, ..trade }));
        }
        becomes(&with(r#""@","F","T","I""#, r#"" ","7""#), Event::Trade(trade));
        for (written, time) in [
            ("2021-02-22T19:15:00Z", 1_614_021_300_000_000_000),
            ("2021-02-22T15:51:44.208Z", 1_614_009_104_208_000_000),
            ("2023-04-06T11:54:26.838232225Z", 1_680_782_066_838_232_225),
        ] {
            becomes(&with("2023-04-06T11:54:26.83915973Z", written), Event::Trade(Trade { time, ..trade }));
        }
        for (written, taker) in
            [(r#""B""#, Some(Side::Buy)), (r#""S""#, Some(Side::Sell)), (r#""""#, None), ("null", None)]
        {
            let told = with(r#""s":71"#, &format!(r#""s":71,"tks":{written}"#));
            becomes(&told, Event::Trade(Trade { taker, ..trade }));
        }
    }

    #[test]
    fn reads_quotes() {
        let quote = amd_quote();
        becomes(AMD_QUOTE, Event::Quote(quote));
        let with = |from: &str, to: &str| AMD_QUOTE.replace(from, to);
        for nobody in [r#""bp":0,"bs":2"#, r#""bp":91.95,"bs":0"#, r#""bp":0,"bs":0"#, r#""bs":2"#, r#""bp":null"#] {
            becomes(&with(r#""bp":91.95,"bs":2"#, nobody), Event::Quote(Quote { bid: None, ..quote }));
        }
        becomes(&with(r#""as":1,"#, ""), Event::Quote(Quote { ask: top("91.98", None), ..quote }));
        becomes(&with(r#""ap":91.98"#, r#""ap":0.0"#), Event::Quote(Quote { ask: None, ..quote }));
    }

    #[test]
    fn reads_bars() {
        let bar = spy_bar();
        becomes(SPY_BAR, Event::Bar(bar));
        let counted = SPY_BAR.replace(r#""v":49378"#, r#""v":49378,"n":461,"vw":389.062639"#);
        let full = Bar { trades: Some(461), vwap: Some(decimal("389.062639")), ..bar };
        becomes(&counted, Event::Bar(full));
        becomes(&counted.replace(r#""b""#, r#""u""#), Event::Bar(full));
        becomes(
            &counted.replace(r#""b""#, r#""d""#),
            Event::Bar(Bar { interval_ns: 86_400_000_000_000, in_progress: true, ..full }),
        );
    }

    #[test]
    fn reads_what_is_said_about_the_connection() {
        let control = |element: &str, expected| becomes(element, Event::Control(expected));
        control(r#"{"T":"success","msg":"connected"}"#, Control::Connected);
        control(r#"{"T":"success","msg":"authenticated"}"#, Control::Authenticated);
        control(r#"{"T":"success","msg":"at last"}"#, Control::Note);
        control(r#"{"T":"success"}"#, Control::Note);
        control(
            r#"{"T":"subscription","trades":["AAPL"],"bars":["AAPL"],"corrections":["AAPL"],"cancelErrors":["AAPL"]}"#,
            Control::Subscribed,
        );
        control(r#"{"T":"subscription"}"#, Control::Subscribed);
        let text = b"auth failed";
        let with_code = |code: &str| AUTH_FAILED.replace("402", code);
        for code in ["401", "402", "404", "408", "409", "411", "\"402\""] {
            control(&with_code(code), Control::AuthRefused { text });
        }
        for code in ["405", "406", "407", "429"] {
            control(&with_code(code), Control::Throttled { text });
        }
        for code in ["400", "403", "410", "500", "null", "\"4O2\"", "-402", "402.0"] {
            control(&with_code(code), Control::Error { text, detail: b"" });
        }
        control(r#"{"T":"error"}"#, Control::Error { text: b"", detail: b"" });
    }

    #[test]
    fn nothing_goes_without_a_word() {
        check("[]", Ok(&[Event::Ignored { kind: b"[]" }]));
        for (element, kind) in [
            (
                r#"{"T":"c","S":"EEM","x":"M","oi":52983525033527,"op":39.1582,"os":440000,"oc":[" ","7"],"ci":52983525034326,"cp":39.1809,"cs":440000,"cc":[" ","7"],"z":"B","t":"2023-04-06T14:25:06.542305024Z"}"#,
                "c",
            ),
            (
                r#"{"T":"x","S":"GOOGL","i":465,"x":"D","p":105.31,"s":300,"a":"C","z":"C","t":"2023-04-06T13:15:42.83540958Z"}"#,
                "x",
            ),
            (r#"{"T":"l","S":"IONM","u":3.24,"d":2.65,"i":"B","t":"2023-04-06T13:34:45.565004401Z","z":"C"}"#, "l"),
            (r#"{"T":"s","S":"AAPL","sc":"H","sm":"Trading Halt","rc":"T12","t":"2021-02-22T19:15:00Z","z":"C"}"#, "s"),
            (r#"{"T":"i","S":"INAQU","p":9.12,"z":"C","t":"2024-12-13T19:58:09.242138635Z"}"#, "i"),
            (r#"{"T":"o"}"#, "o"),
        ] {
            becomes(element, Event::Ignored { kind: kind.as_bytes() });
        }
        let message = |reason| Event::Invalid { symbol: None, part: Part::Message, reason };
        for element in ["7", "null", "\"t\"", "[{}]", r#"{"T":7}"#, r#"{"T":"\u0074"}"#] {
            becomes(element, message(Reason::FieldType));
        }
        for element in ["{}", r#"{"T":null}"#, r#"{"ev":"t"}"#] {
            becomes(element, message(Reason::MissingField));
        }
        // A faulty element stands between two that are not.
        check(
            &format!(r#"[ {AMD_QUOTE} ,{{"T":"b","S":"SPY"}}, 7,{AUTH_FAILED},{{"T":"new"}},{AAPL_TRADE}]"#),
            Ok(&[
                Event::Quote(amd_quote()),
                Event::Invalid { symbol: Some(symbol("SPY")), part: Part::Bar, reason: Reason::MissingField },
                message(Reason::FieldType),
                Event::Control(Control::AuthRefused { text: b"auth failed" }),
                Event::Ignored { kind: b"new" },
                Event::Trade(aapl_trade()),
            ]),
        );
    }

    #[test]
    fn marks_what_cannot_be_believed() {
        #[track_caller]
        fn check(element: &str, from: &str, to: &str, reason: Reason) {
            assert!(element.contains(from), "{from}");
            let (name, part) = match element {
                AAPL_TRADE => ("AAPL", Part::Trade),
                AMD_QUOTE => ("AMD", Part::Quote),
                _ => ("SPY", Part::Bar),
            };
            let symbol = (!from.contains(name)).then_some(symbol(name));
            becomes(&element.replacen(from, to, 1), Event::Invalid { symbol, part, reason });
        }
        use Reason::{FieldType, MissingField, Number, NumberRange, Time};
        check(AAPL_TRADE, "162.91", "null", MissingField);
        check(AAPL_TRADE, r#""p""#, r#""P""#, MissingField);
        check(AAPL_TRADE, "162.91", r#""0.-10000""#, Number);
        check(AAPL_TRADE, "162.91", "12345678901234567890", NumberRange);
        check(AAPL_TRADE, "71", "[71]", FieldType);
        check(AAPL_TRADE, r#","s":71"#, "", MissingField);
        check(AAPL_TRADE, "2023-04-06", "0001-01-01", Time);
        check(AAPL_TRADE, "73Z", "73+00:00", Time);
        check(AAPL_TRADE, r#""2023-04-06T11:54:26.83915973Z""#, "1680782066", FieldType);
        check(AAPL_TRADE, r#""2023-04-06T11:54:26.83915973Z""#, "null", MissingField);
        check(AAPL_TRADE, r#""S":"AAPL","#, "", MissingField);
        check(AAPL_TRADE, r#""AAPL""#, "7", FieldType);
        check(AMD_QUOTE, "91.95", r#""""#, Number);
        check(AMD_QUOTE, r#""as":1"#, r#""as":{}"#, FieldType);
        check(AMD_QUOTE, r#""t":"#, r#""tt":"#, MissingField);
        check(SPY_BAR, "389.12", "[]", FieldType);
        check(SPY_BAR, r#""v":49378,"#, "", MissingField);
        check(SPY_BAR, r#""v":49378"#, r#""v":49378,"n":4.5"#, Number);
        check(SPY_BAR, r#""v":49378"#, r#""v":49378,"vw":"x""#, Number);
    }

    #[test]
    fn key_order_whitespace_and_unknown_keys_do_not_matter() {
        let spread = AAPL_TRADE.replace("\":", "\" :\n\t").replace(",\"", " ,\r\n \"");
        let stuffed = AAPL_TRADE.replace(r#""z""#, r#""new":{"p":1,"S":["X",{"s":7}]},"x\"y":"\"}]","z""#);
        let turned = r#"{"t":"2023-04-06T11:54:26.83915973Z","s":71,"p":162.91,"i":1465,"S":"AAPL","T":"t"}"#;
        let twice = AAPL_TRADE.replace(r#""p":"#, r#""p":1,"p":"#);
        for element in [&spread, &stuffed, turned, &twice] {
            becomes(element, Event::Trade(aapl_trade()));
        }
    }

    #[test]
    fn refuses_frames_that_are_no_list() {
        check("", Err(DecodeError::Truncated { offset: 0 }));
        check(AAPL_TRADE, Err(DecodeError::Field { field: "frame", reason: Reason::FieldType }));
        check("null", Err(DecodeError::Missing { field: "frame" }));
        check("[] []", Err(DecodeError::Syntax { offset: 3 }));
        // A fault at the end of the frame lets nothing of its beginning out.
        let frame = format!("[{AAPL_TRADE},{AAPL_TRADE},]");
        check(&frame, Err(DecodeError::Syntax { offset: frame.len() - 1 }));
        let deep = format!("[{AAPL_TRADE},{}", "[".repeat(1_000));
        assert_eq!(events(&deep).map_err(DecodeError::reason), Err(Reason::Depth));
    }

    #[test]
    fn every_cut_of_a_frame_is_refused() {
        let frame = format!("[{AAPL_TRADE},{AMD_QUOTE},{SPY_BAR},{AUTH_FAILED}]");
        for end in 0..frame.len() {
            check(&frame[..end], Err(DecodeError::Truncated { offset: end }));
        }
    }
}
