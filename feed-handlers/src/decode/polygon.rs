//! Polygon.io (Massive) WebSocket frames of all its clusters: trades `T`, `XT`, quotes `Q`, `C`, `XQ`, bars `A`, `AM`,
//! `CA`, `CAS`, `XA`, `XAS`, and `status`.
//!
//! Pure: a frame is an array of events of any kinds and symbols. It is scanned to its end before anything in it is
//! believed; then each element stands for itself and gives exactly one event, [`Event::Invalid`] where it cannot be
//! read. Deliberately absent: limit bands, imbalances, fair values, index values, and the books `XL2`, of which a
//! symbol has one for each exchange; all are [`Event::Ignored`].
//!
//! What a user of the events must know:
//! - Trade ids count for each exchange and day: two trades of a symbol may bear the same one.
//! - Quote sequences rise for each symbol, with holes, and begin anew each day.
//! - A bar comes only where something was traded, and is not corrected.
//! - Nothing tells who took liquidity: the conditions of crypto trades name a side, but not whose.
//!
//! Fields: <https://massive.com/docs/websocket>.

use protocol::Decimal;

use super::event::{Age, Bar, Control, EMPTY_LIST, Event, NO_OBJECT, Part, Quote, Symbol, Trade, invalid};
use super::field::{array, decimal, integer, plain, present, shown, symbol, top, unix_time};
use super::json::{Scanner, Value, each_object, members};
use super::{DecodeError, Reason};

const MILLISECOND: i64 = 1_000_000;
const SECOND: i64 = 1_000 * MILLISECOND;
const MINUTE: i64 = 60 * SECOND;

/// Decodes one frame and hands its events to `on_event`, in order. Never panics, whatever the bytes.
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

members! {
    /// The fields that some event needs, those that mean another thing in each by their letter.
    struct Element {
        ev: b"ev",
        sym: b"sym",
        pair: b"pair",
        // Price, but in `C` the pair.
        p: b"p",
        // Size, but in bars the start.
        s: b"s",
        decimal_size: b"ds",
        time: b"t",
        id: b"i",
        sequence: b"q",
        bid_price: b"bp",
        bid_size: b"bs",
        ask_price: b"ap",
        ask_size: b"as",
        // The ask and the bid of `C`; elsewhere other things.
        a: b"a",
        b: b"b",
        open: b"o",
        high: b"h",
        low: b"l",
        // Close, but in trades and quotes the conditions.
        c: b"c",
        volume: b"v",
        decimal_volume: b"dv",
        vwap: b"vw",
        end: b"e",
        status: b"status",
        message: b"message",
    }
}

impl<'a> Element<'a> {
    fn event(&self) -> Event<'a> {
        let kind = match plain(self.ev) {
            Ok(kind) => kind,
            Err(reason) => return invalid(None, Part::Message, reason),
        };
        let (name, part, read) = match kind {
            b"T" => (self.sym, Part::Trade, self.trade(self.sym)),
            b"XT" => (self.pair, Part::Trade, self.trade(self.pair)),
            b"Q" => (self.sym, Part::Quote, self.quote(self.sym)),
            b"XQ" => (self.pair, Part::Quote, self.quote(self.pair)),
            b"C" => (self.p, Part::Quote, self.currency_quote()),
            b"A" => (self.sym, Part::Bar, self.bar(self.sym, SECOND)),
            b"AM" => (self.sym, Part::Bar, self.bar(self.sym, MINUTE)),
            b"CAS" | b"XAS" => (self.pair, Part::Bar, self.bar(self.pair, SECOND)),
            b"CA" | b"XA" => (self.pair, Part::Bar, self.bar(self.pair, MINUTE)),
            b"status" => (Value::ABSENT, Part::Message, self.control()),
            kind => return Event::Ignored { kind },
        };
        read.unwrap_or_else(|reason| invalid(symbol(name).ok(), part, reason))
    }

    /// `ds` is the size that may have a fraction, which `s` lacks. An id that is no integer is none.
    fn trade(&self, name: Value<'a>) -> Result<Event<'a>, Reason> {
        let decimal_size = decimal(self.decimal_size)?;
        Ok(Event::Trade(Trade {
            symbol: symbol(name)?,
            id: integer(self.id).unwrap_or(None),
            price: present(decimal(self.p))?,
            size: decimal_size.map_or_else(|| present(decimal(self.s)), Ok)?,
            taker: None,
            time: self.time()?,
            age: Age::Live,
        }))
    }

    fn quote(&self, name: Value<'a>) -> Result<Event<'a>, Reason> {
        Ok(Event::Quote(Quote {
            symbol: symbol(name)?,
            bid: top(self.bid_price, self.bid_size)?,
            ask: top(self.ask_price, self.ask_size)?,
            sequence: integer(self.sequence)?,
            time: Some(self.time()?),
            age: Age::Live,
        }))
    }

    fn currency_quote(&self) -> Result<Event<'a>, Reason> {
        Ok(Event::Quote(Quote {
            symbol: symbol(self.p)?,
            bid: top(self.b, Value::ABSENT)?,
            ask: top(self.a, Value::ABSENT)?,
            sequence: None,
            time: Some(self.time()?),
            age: Age::Live,
        }))
    }

    /// A bar of `usual_ns`, unless it tells its end. `dv` is the volume that may have a fraction, which `v` lacks.
    fn bar(&self, symbol: Value<'a>, usual_ns: i64) -> Result<Event<'a>, Reason> {
        let symbol = plain(symbol)?;
        let start = present(unix_time(self.s, MILLISECOND))?;
        let interval_ns = unix_time(self.end, MILLISECOND)?.map_or(usual_ns, |end| end - start);
        if interval_ns <= 0 {
            return Err(Reason::Time);
        }
        let volume = match decimal(self.decimal_volume)? {
            Some(volume) => Some(volume),
            None => decimal(self.volume)?,
        };
        // Nobody trades an index.
        let volume = volume.or_else(|| symbol.starts_with(b"I:").then_some(Decimal::ZERO));
        Ok(Event::Bar(Bar {
            symbol: Symbol::Text(symbol),
            interval_ns,
            start,
            open: present(decimal(self.open))?,
            high: present(decimal(self.high))?,
            low: present(decimal(self.low))?,
            close: present(decimal(self.c))?,
            volume: volume.ok_or(Reason::MissingField)?,
            vwap: decimal(self.vwap)?,
            trades: None,
            in_progress: false,
        }))
    }

    /// `max_connections` is [`Control::Throttled`]: somebody else has signed in with our key, and it is the older
    /// connection that is cut. Who comes back at once evicts the other in turn, for ever; so long pauses are the
    /// answer, as to any other excess. `auth_timeout` is [`Control::AuthRefused`]: we never said who we are.
    /// `error` refuses a part of a subscription, and the connection stays.
    fn control(&self) -> Result<Event<'a>, Reason> {
        let text = shown(self.message);
        Ok(Event::Control(match plain(self.status)? {
            b"connected" => Control::Connected,
            b"auth_success" => Control::Authenticated,
            b"success" => Control::Subscribed,
            b"auth_failed" | b"auth_timeout" => Control::AuthRefused { text },
            b"max_connections" => Control::Throttled { text },
            b"error" => Control::Error { text, detail: b"" },
            // Of what nobody has seen yet, an operator should read all of it.
            status => Control::Error { text, detail: status },
        }))
    }

    fn time(&self) -> Result<i64, Reason> {
        present(unix_time(self.time, MILLISECOND))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{self, Expected, decimal, symbol, top};
    use super::*;

    const AAPL_TRADE: &str = r#"{"ev":"T","sym":"AAPL","i":"143541","x":4,"p":297.845,"s":40,"t":1781622376036,"pt":1781622376029,"q":4938312,"z":3,"trfi":202,"trft":1781622376036,"ds":"40.0"}"#;
    const AAPL_QUOTE: &str = r#"{"ev":"Q","sym":"AAPL","i":[604],"bx":15,"ax":12,"bp":297.83,"ap":297.86,"bs":80,"as":81,"t":1781622375952,"pt":1781622375953,"q":44424715,"z":3}"#;
    const FCX_BAR: &str = r#"{"ev":"A","sym":"FCX","v":4989,"av":4332125,"op":75.98,"vw":78.0894,"o":78.1,"c":78.08,"h":78.125,"l":78.07,"a":76.8404,"z":62,"s":1788877043000,"e":1788877044000,"dv":"4989.0","dav":"4332125.038360"}"#;
    const BTC_TRADE: &str = r#"{"ev":"XT","pair":"BTC-USD","p":33021.9,"t":1610462007425,"s":0.01616617,"c":[2],"i":14272084,"x":3,"r":1610462007576}"#;
    const MAX_CONNECTIONS: &str =
        r#"{"ev":"status","status":"max_connections","message":"Maximum number of websocket connections exceeded. "}"#;

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
            id: Some(143_541),
            price: decimal("297.845"),
            size: decimal("40.0"),
            taker: None,
            time: 1_781_622_376_036_000_000,
            age: Age::Live,
        }
    }

    fn aapl_quote() -> Quote<'static> {
        Quote {
            symbol: symbol("AAPL"),
            bid: top("297.83", "80"),
            ask: top("297.86", "81"),
            sequence: Some(44_424_715),
            time: Some(1_781_622_375_952_000_000),
            age: Age::Live,
        }
    }

    fn fcx_bar() -> Bar<'static> {
        Bar {
            symbol: symbol("FCX"),
            interval_ns: SECOND,
            start: 1_788_877_043_000_000_000,
            open: decimal("78.1"),
            high: decimal("78.125"),
            low: decimal("78.07"),
            close: decimal("78.08"),
            volume: decimal("4989.0"),
            vwap: Some(decimal("78.0894")),
            trades: None,
            in_progress: false,
        }
    }

    #[test]
    fn reads_trades() {
        let trade = aapl_trade();
        becomes(AAPL_TRADE, Event::Trade(trade));
        let with = |from: &str, to: &str| AAPL_TRADE.replace(from, to);
        // The size with a fraction wins over the one without.
        becomes(&with(r#""ds":"40.0""#, r#""ds":"40.25""#), Event::Trade(Trade { size: decimal("40.25"), ..trade }));
        becomes(&with(r#","ds":"40.0""#, ""), Event::Trade(Trade { size: decimal("40"), ..trade }));
        becomes(&with(r#""ds":"40.0""#, r#""ds":null"#), Event::Trade(Trade { size: decimal("40"), ..trade }));
        becomes(&with(r#""s":40,"#, ""), Event::Trade(trade));
        becomes(&with(r#""s":40,"#, r#""s":40.5,"#), Event::Trade(trade));
        for id in ["\"5096x\"", "\"\"", "\"-1\"", "null", "[1]", "\"9223372036854775808\"", "\"52983525033527.5\""] {
            becomes(&with(r#""143541""#, id), Event::Trade(Trade { id: None, ..trade }));
        }
        becomes(&with(r#""143541""#, "143541"), Event::Trade(trade));
        becomes(&with(r#""i":"143541","#, ""), Event::Trade(Trade { id: None, ..trade }));
        for (written, price) in [("1E-8", "0.00000001"), ("1e-08", "0.00000001"), ("0", "0"), ("-1.50", "-1.50")] {
            becomes(&with("297.845", written), Event::Trade(Trade { price: decimal(price), ..trade }));
        }
        becomes(
            r#"{"ev":"T","sym":"O:AMC210827C00037000","x":65,"p":1.54,"s":1,"c":[233],"t":1629820676333,"q":651921857}"#,
            Event::Trade(Trade {
                symbol: symbol("O:AMC210827C00037000"),
                id: None,
                price: decimal("1.54"),
                size: decimal("1"),
                time: 1_629_820_676_333_000_000,
                ..trade
            }),
        );
        let btc = Trade {
            symbol: symbol("BTC-USD"),
            id: Some(14_272_084),
            price: decimal("33021.9"),
            size: decimal("0.01616617"),
            taker: None,
            time: 1_610_462_007_425_000_000,
            age: Age::Live,
        };
        for conditions in ["[2]", "[1]", "[0]", "[]", "null"] {
            becomes(&BTC_TRADE.replace("[2]", conditions), Event::Trade(btc));
        }
    }

    #[test]
    fn reads_quotes() {
        let quote = aapl_quote();
        becomes(AAPL_QUOTE, Event::Quote(quote));
        let with = |from: &str, to: &str| AAPL_QUOTE.replace(from, to);
        for nobody in [
            with(r#""bp":297.83,"#, r#""bp":0,"#),
            with(r#""bp":297.83,"#, r#""bp":0.00,"#),
            with(r#""bp":297.83,"#, r#""bp":null,"#),
            with(r#""bp":297.83,"#, ""),
            with(r#""bs":80,"#, r#""bs":0,"#),
            with(r#""bp":297.83,"#, "").replace(r#""bs":80,"#, ""),
        ] {
            becomes(&nobody, Event::Quote(Quote { bid: None, ..quote }));
        }
        becomes(&with(r#""bs":80,"#, ""), Event::Quote(Quote { bid: top("297.83", None), ..quote }));
        becomes(&with(r#""ap":297.86,"#, ""), Event::Quote(Quote { ask: None, ..quote }));
        becomes(&with("297.83", "-1"), Event::Quote(Quote { bid: top("-1", "80"), ..quote }));
        // Conditions are a list, a number or absent.
        becomes(&with(r#""z":3"#, r#""c":0"#), Event::Quote(quote));
        becomes(&with(r#""z":3"#, r#""c":[1]"#), Event::Quote(quote));
        becomes(&with(r#""q":44424715,"#, ""), Event::Quote(Quote { sequence: None, ..quote }));
        becomes(
            r#"{"ev":"C","p":"USD/CNH","x":"44","a":6.83366,"b":6.83363,"t":1536036818784}"#,
            Event::Quote(Quote {
                symbol: symbol("USD/CNH"),
                bid: top("6.83363", None),
                ask: top("6.83366", None),
                sequence: None,
                time: Some(1_536_036_818_784_000_000),
                age: Age::Live,
            }),
        );
        becomes(
            r#"{"ev":"XQ","pair":"BTC-USD","bp":33052.79,"bs":0.48,"ap":33073.19,"as":0.601,"t":1610462411115,"x":1,"r":1610462411128}"#,
            Event::Quote(Quote {
                symbol: symbol("BTC-USD"),
                bid: top("33052.79", "0.48"),
                ask: top("33073.19", "0.601"),
                sequence: None,
                time: Some(1_610_462_411_115_000_000),
                age: Age::Live,
            }),
        );
    }

    #[test]
    fn reads_bars() {
        let bar = fcx_bar();
        becomes(FCX_BAR, Event::Bar(bar));
        let with = |from: &str, to: &str| FCX_BAR.replace(from, to);
        becomes(&with(r#","dv":"4989.0""#, ""), Event::Bar(Bar { volume: decimal("4989"), ..bar }));
        becomes(&with("4989.0", "4989.125"), Event::Bar(Bar { volume: decimal("4989.125"), ..bar }));
        becomes(&with(r#""op":75.98,"vw":78.0894,"#, ""), Event::Bar(Bar { vwap: None, ..bar }));
        // How long it is, its times tell, not its name.
        becomes(&with(r#""A""#, r#""AM""#), Event::Bar(bar));
        becomes(&with("1788877044000", "1788877103000"), Event::Bar(Bar { interval_ns: MINUTE, ..bar }));
        // Where there is no end, the name tells.
        for (kind, interval_ns) in [("A", SECOND), ("AM", MINUTE)] {
            let endless = with(r#""e":1788877044000,"#, "").replace(r#""A""#, &format!("{kind:?}"));
            becomes(&endless, Event::Bar(Bar { interval_ns, ..bar }));
        }
        for (kind, interval_ns) in [("CA", MINUTE), ("CAS", SECOND), ("XA", MINUTE), ("XAS", SECOND)] {
            let frame = format!(
                r#"{{"ev":"{kind}","pair":"USD/EUR","o":0.8687,"c":0.86889,"h":0.8689,"l":0.8686,"v":20,"s":1539145740000}}"#
            );
            becomes(
                &frame,
                Event::Bar(Bar {
                    symbol: symbol("USD/EUR"),
                    interval_ns,
                    start: 1_539_145_740_000_000_000,
                    open: decimal("0.8687"),
                    high: decimal("0.8689"),
                    low: decimal("0.8686"),
                    close: decimal("0.86889"),
                    volume: decimal("20"),
                    vwap: None,
                    trades: None,
                    in_progress: false,
                }),
            );
        }
        // An index has no volume.
        let index = with(r#""FCX","v":4989"#, r#""I:SPX""#).replace(r#""dv":"4989.0","#, "");
        becomes(&index, Event::Bar(Bar { symbol: symbol("I:SPX"), volume: Decimal::ZERO, ..bar }));
    }

    #[test]
    fn reads_what_is_said_about_the_connection() {
        #[track_caller]
        fn check(status: &str, message: &str, expected: Control<'_>) {
            let element = format!(r#"{{"ev":"status","status":"{status}","message":"{message}"}}"#);
            becomes(&element, Event::Control(expected));
        }
        check("connected", "Connected Successfully", Control::Connected);
        check("auth_success", "authenticated", Control::Authenticated);
        check("success", "subscribed to: T.AAPL", Control::Subscribed);
        check("success", "unsubscribed to: T.AAPL", Control::Subscribed);
        check("auth_failed", "authentication failed", Control::AuthRefused { text: b"authentication failed" });
        let late = "No authentication request received.";
        check("auth_timeout", late, Control::AuthRefused { text: late.as_bytes() });
        let text = b"Maximum number of websocket connections exceeded. ";
        becomes(MAX_CONNECTIONS, Event::Control(Control::Throttled { text }));
        check("error", "not authorized", Control::Error { text: b"not authorized", detail: b"" });
        check("moved", r"to \u0041", Control::Error { text: br"to \u0041", detail: b"moved" });
        let silent = Control::AuthRefused { text: b"" };
        becomes(r#"{"ev":"status","status":"auth_failed"}"#, Event::Control(silent));
    }

    #[test]
    fn nothing_goes_without_a_word() {
        check("[]", Ok(&[Event::Ignored { kind: b"[]" }]));
        for (element, kind) in [
            (
                r#"{"ev":"LULD","h":3.63,"l":2.97,"i":[15],"z":3,"T":"ATHR","t":1788877046310003385,"q":3209681}"#,
                "LULD",
            ),
            (r#"{"ev":"NOI","T":"NTEST.Q","t":1601318039223013600,"at":930,"a":"M","o":480,"p":440,"b":25.03}"#, "NOI"),
            (r#"{"ev":"FMV","fmv":189.22,"sym":"AAPL","t":1678220098130}"#, "FMV"),
            (r#"{"ev":"XL2","pair":"BTC-USD","b":[[33712.71,0.18635]],"a":[[33718.23,3.5527483]]}"#, "XL2"),
            (r#"{"ev":"V","val":3988.5,"T":"I:SPX","t":1678220098130}"#, "V"),
            (r#"{"ev":"LV","val":189.22,"sym":"AAPL","t":1678220098130}"#, "LV"),
            (r#"{"ev":"t"}"#, "t"),
            (r#"{"ev":""}"#, ""),
        ] {
            becomes(element, Event::Ignored { kind: kind.as_bytes() });
        }
        let message = |reason| invalid(None, Part::Message, reason);
        for element in ["7", "null", "\"T\"", "[{}]", r#"{"ev":7}"#, r#"{"ev":"\u0054"}"#] {
            becomes(element, message(Reason::FieldType));
        }
        for element in ["{}", r#"{"ev":null}"#, r#"{"EV":"T"}"#, r#"{"ev":"status"}"#] {
            becomes(element, message(Reason::MissingField));
        }
        // A faulty element stands between two that are not.
        check(
            &format!(r#"[ {AAPL_QUOTE} ,{{"ev":"T","sym":"AAPL"}}, 7,{MAX_CONNECTIONS},{{"ev":"new"}},{AAPL_TRADE}]"#),
            Ok(&[
                Event::Quote(aapl_quote()),
                invalid(Some(symbol("AAPL")), Part::Trade, Reason::MissingField),
                message(Reason::FieldType),
                Event::Control(Control::Throttled { text: b"Maximum number of websocket connections exceeded. " }),
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
                AAPL_QUOTE => ("AAPL", Part::Quote),
                _ => ("FCX", Part::Bar),
            };
            let altered = element.replacen(from, to, 1);
            becomes(&altered, Event::Invalid { symbol: Some(symbol(name)), part, reason });
        }
        use Reason::{FieldType, MissingField, Number, NumberRange, Time};
        check(AAPL_TRADE, "297.845", "null", MissingField);
        check(AAPL_TRADE, r#""p""#, r#""P""#, MissingField);
        check(AAPL_TRADE, "297.845", r#""0.-10000""#, Number);
        check(AAPL_TRADE, "297.845", "1e40", NumberRange);
        check(AAPL_TRADE, "297.845", "[297.845]", FieldType);
        // A size that is there, but faulty, is not made up for by the other.
        check(AAPL_TRADE, r#""40.0""#, r#""40,0""#, Number);
        check(AAPL_TRADE, r#""40.0""#, "{}", FieldType);
        becomes(
            &AAPL_TRADE.replace(r#""s":40,"#, "").replace(r#","ds":"40.0""#, ""),
            Event::Invalid { symbol: Some(symbol("AAPL")), part: Part::Trade, reason: MissingField },
        );
        check(AAPL_TRADE, r#""t":1781622376036"#, r#""t":null"#, MissingField);
        check(AAPL_TRADE, r#""t":1781622376036"#, r#""t":1781622376036003385"#, Time);
        check(AAPL_TRADE, r#""t":1781622376036"#, r#""t":1781622376.036"#, Number);
        check(AAPL_TRADE, r#""t":1781622376036"#, r#""t":-1"#, Number);
        check(AAPL_TRADE, r#""t":1781622376036"#, r#""t":true"#, FieldType);
        check(AAPL_QUOTE, "297.83", r#""""#, Number);
        check(AAPL_QUOTE, "81", "[]", FieldType);
        check(AAPL_QUOTE, "44424715", "4.5", Number);
        check(AAPL_QUOTE, r#""t":"#, r#""tt":"#, MissingField);
        check(FCX_BAR, "78.07,", "null,", MissingField);
        check(FCX_BAR, "1788877044000", "1788877043000", Time);
        check(FCX_BAR, "1788877044000", "0", Time);
        check(FCX_BAR, r#""s":1788877043000,"#, "", MissingField);
        check(FCX_BAR, r#""4989.0""#, r#""many""#, Number);
        let silent = FCX_BAR.replace(r#""dv":"4989.0","#, "");
        let unknown = Event::Invalid { symbol: Some(symbol("FCX")), part: Part::Bar, reason: MissingField };
        becomes(&silent.replace(r#""v":4989,"#, ""), unknown);
        let nameless = |reason| Event::Invalid { symbol: None, part: Part::Trade, reason };
        becomes(&AAPL_TRADE.replace(r#""sym":"AAPL","#, ""), nameless(MissingField));
        becomes(&AAPL_TRADE.replace("AAPL", r"AA\u0050L"), nameless(FieldType));
        becomes(&BTC_TRADE.replace("pair", "sym"), nameless(MissingField));
    }

    #[test]
    fn key_order_whitespace_and_unknown_keys_do_not_matter() {
        let spread = AAPL_TRADE.replace("\":", "\" :\n\t").replace(",\"", " ,\r\n \"");
        let stuffed = AAPL_TRADE.replace(r#""z""#, r#""new":{"p":1,"sym":["X",{"s":7}]},"x\"y":"\"}]","z""#);
        let turned = r#"{"ds":"40.0","t":1781622376036,"s":40,"p":297.845,"i":"143541","sym":"AAPL","ev":"T"}"#;
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
        check("[{]", Err(DecodeError::Syntax { offset: 2 }));
        // A fault at the end of the frame lets nothing of its beginning out.
        let frame = format!("[{AAPL_TRADE},{AAPL_TRADE},]");
        check(&frame, Err(DecodeError::Syntax { offset: frame.len() - 1 }));
        let deep = format!("[{AAPL_TRADE},{}", "[".repeat(1_000));
        assert_eq!(events(&deep).map_err(DecodeError::reason), Err(Reason::Depth));
    }

    #[test]
    fn every_cut_of_a_frame_is_refused() {
        let frame = format!("[{AAPL_TRADE},{AAPL_QUOTE},{FCX_BAR},{MAX_CONNECTIONS}]");
        for end in 0..frame.len() {
            check(&frame[..end], Err(DecodeError::Truncated { offset: end }));
        }
    }
}
