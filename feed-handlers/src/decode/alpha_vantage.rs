//! Alpha Vantage's answers: `GLOBAL_QUOTE`, `TIME_SERIES_INTRADAY`, `CURRENCY_EXCHANGE_RATE` and `FX_INTRADAY` as JSON.
//!
//! Pure, any thread. An answer is a poll's, with HTTP status 200 whatever went wrong: only one whose expected key is
//! there, and not empty, is an answer ([`Event::Control`] otherwise). How its times are to be read:
//! - `GLOBAL_QUOTE` has a day and no time. It is the bar of that day, in progress, from midnight in New York.
//! - The bars of a series bear local times of the zone that the answer names, without saying whether they are begins or
//!   ends. They are taken for begins. See [`super::eastern`] for the hour that occurs twice.
//! - A series begins with its newest bar. It is handed out oldest first; the newest bar may be in progress.
//!
//! An answer about currencies names them apart (`EUR`, `USD`), so its symbol is what was asked for, once the answer is
//! found to be about that. Deliberately absent: `datatype=csv`, daily and longer series, which are
//! [`Event::Ignored`], and the exchange rate without bid and ask, which nobody quoted.
//!
//! Fields: <https://www.alphavantage.co/documentation/>.

use protocol::Decimal;

use super::backwards::{Members, Steps};
use super::eastern::{us_eastern, utc};
use super::event::{Age, Bar, Control, Event, Part, Quote, Symbol, Top};
use super::field::{decimal, required, text};
use super::json::{Kind, Scanner, Value, members};
use super::{DecodeError, Reason};

const NANOS_PER_MINUTE: i64 = 60_000_000_000;
const NANOS_PER_DAY: i64 = 1_440 * NANOS_PER_MINUTE;

/// How the key of a stock's quote begins. Keys of some plans say more: `Global Quote - DATA DELAYED BY 15 MINUTES`.
const GLOBAL_QUOTE: &[u8] = b"Global Quote";

/// Decodes an answer that names its instrument itself: one about a stock.
///
/// # Errors
/// Those of [`decode_answer`].
pub fn decode<'a>(frame: &'a [u8], on_event: &mut impl FnMut(Event<'a>)) -> Result<(), DecodeError> {
    decode_answer(frame, None, on_event)
}

/// Decodes the answer to a request for `asked`, such as `EUR/USD`, in upper or lower case; for stocks it is not needed.
///
/// # Errors
/// [`DecodeError`] where the answer is no JSON object, or about other currencies than was asked for, or lacks what
/// concerns all of it. No event has been handed out then.
pub fn decode_answer<'a>(
    frame: &'a [u8],
    asked: Option<&'a [u8]>,
    on_event: &mut impl FnMut(Event<'a>),
) -> Result<(), DecodeError> {
    let answer = Answer::read(frame)?;
    match (answer.table, answer.refusal) {
        (Some((key, table)), _) if !is_empty(table) => match key {
            _ if key.starts_with(GLOBAL_QUOTE) => on_event(Event::Bar(DayQuote::read(table)?.bar()?)),
            b"Realtime Currency Exchange Rate" => on_event(match Rate::read(table)?.quote(asked)? {
                Some(quote) => Event::Quote(quote),
                None => Event::Ignored { kind: key },
            }),
            _ => match interval(key) {
                Some(interval_ns) => Series::read(answer.meta, asked, interval_ns)?.bars(table, on_event)?,
                None => on_event(Event::Ignored { kind: key }),
            },
        },
        (_, Some(refusal)) => on_event(Event::Control(refusal)),
        (Some((key, _)), None) => on_event(Event::Control(Control::Error { text: b"an empty answer", detail: key })),
        (None, None) => on_event(match answer.other {
            Some(kind) => Event::Ignored { kind },
            None => Event::Control(Control::Error { text: b"an empty answer", detail: b"" }),
        }),
    }
    Ok(())
}

/// What an answer consists of.
#[derive(Default)]
struct Answer<'a> {
    /// The key and the object of what was asked for; a series has its interval in its key.
    table: Option<(&'a [u8], &'a [u8])>,
    /// About a series.
    meta: Option<&'a [u8]>,
    refusal: Option<Control<'a>>,
    /// A key that is none of these.
    other: Option<&'a [u8]>,
}

impl<'a> Answer<'a> {
    fn read(frame: &'a [u8]) -> Result<Answer<'a>, DecodeError> {
        let mut answer = Answer::default();
        let mut scanner = Scanner::new(frame);
        scanner.enter(b'{')?;
        let mut first = true;
        while let Some(key) = scanner.next_key(&mut first)? {
            let value = scanner.value()?;
            match (key, value.kind) {
                (b"Meta Data", Kind::Object) => answer.meta = Some(value.raw),
                (b"Realtime Currency Exchange Rate", Kind::Object) => answer.table = Some((key, value.raw)),
                (_, Kind::Object) if key.starts_with(GLOBAL_QUOTE) || key.starts_with(b"Time Series") => {
                    answer.table = Some((key, value.raw));
                }
                (b"Note" | b"Information" | b"Error Message", Kind::Text | Kind::EscapedText) => {
                    answer.refusal = Some(refusal(key, value.raw));
                }
                _ => answer.other = Some(key),
            }
        }
        scanner.end()?;
        Ok(answer)
    }
}

/// What the texts mean that come instead of an answer, in the wordings of 2018 to 2025.
fn refusal<'a>(key: &[u8], text: &'a [u8]) -> Control<'a> {
    let tells = |words: &str| memchr::memmem::find(text, words.as_bytes()).is_some();
    match key {
        b"Note" => Control::Throttled { text },
        // The same key says that a function is for paying customers, which asking more slowly would not help.
        b"Information" if tells("rate limit") || tells("sparingly") || tells("call frequency") => {
            Control::Throttled { text }
        }
        b"Error Message" if tells("apikey is invalid") => Control::AuthRefused { text },
        _ => Control::Error { text, detail: b"" },
    }
}

/// Whether the object holds nothing.
fn is_empty(object: &[u8]) -> bool {
    matches!(object, [b'{', inside @ .., b'}'] if inside.trim_ascii().is_empty())
}

members! {
    struct DayQuote {
        symbol: b"01. symbol",
        open: b"02. open",
        high: b"03. high",
        low: b"04. low",
        price: b"05. price",
        volume: b"06. volume",
        day: b"07. latest trading day",
    }
}

impl<'a> DayQuote<'a> {
    fn bar(&self) -> Result<Bar<'a>, DecodeError> {
        let day = text(self.day, "07. latest trading day")?;
        let invalid = DecodeError::Field { field: "07. latest trading day", reason: Reason::Time };
        Ok(Bar {
            symbol: Symbol::Text(text(self.symbol, "01. symbol")?),
            interval_ns: NANOS_PER_DAY,
            // A day, and not a moment of it.
            start: Some(day).filter(|day| day.len() == 10).and_then(us_eastern).ok_or(invalid)?,
            open: required(decimal(self.open), "02. open")?,
            high: required(decimal(self.high), "03. high")?,
            low: required(decimal(self.low), "04. low")?,
            close: required(decimal(self.price), "05. price")?,
            volume: required(decimal(self.volume), "06. volume")?,
            vwap: None,
            trades: None,
            in_progress: true,
        })
    }
}

members! {
    struct Rate {
        from: b"1. From_Currency Code",
        to: b"3. To_Currency Code",
        time: b"6. Last Refreshed",
        zone: b"7. Time Zone",
        bid: b"8. Bid Price",
        ask: b"9. Ask Price",
    }
}

impl<'a> Rate<'a> {
    /// `None` unless both sides are told; a dash stands for a missing one.
    fn quote(&self, asked: Option<&'a [u8]>) -> Result<Option<Quote<'a>>, DecodeError> {
        let side = |value: Value<'_>, field| match value.raw {
            b"-" => Ok(None),
            _ => decimal(value).map_err(|reason| DecodeError::Field { field, reason }),
        };
        let (Some(bid), Some(ask)) = (side(self.bid, "8. Bid Price")?, side(self.ask, "9. Ask Price")?) else {
            return Ok(None);
        };
        let top = |price: Decimal| (!price.is_zero()).then_some(Top { price, size: None });
        let clock = clock(text(self.zone, "7. Time Zone")?)?;
        let invalid = DecodeError::Field { field: "6. Last Refreshed", reason: Reason::Time };
        Ok(Some(Quote {
            symbol: pair(asked, self.from, self.to)?,
            bid: top(bid),
            ask: top(ask),
            sequence: None,
            time: Some(clock(text(self.time, "6. Last Refreshed")?).ok_or(invalid)?),
            age: Age::Live,
        }))
    }
}

/// The symbol that was asked for, which the two currencies must be.
fn pair<'a>(asked: Option<&'a [u8]>, from: Value<'a>, to: Value<'a>) -> Result<Symbol<'a>, DecodeError> {
    let (from, to) = (text(from, "From_Currency Code")?, text(to, "To_Currency Code")?);
    let asked = asked.ok_or(DecodeError::Missing { field: "symbol" })?;
    let is_asked = match memchr::memchr(b'/', asked) {
        Some(at) => asked[..at].eq_ignore_ascii_case(from) && asked[at + 1..].eq_ignore_ascii_case(to),
        None => false,
    };
    is_asked.then_some(Symbol::Text(asked)).ok_or(DecodeError::Field { field: "symbol", reason: Reason::FieldType })
}

/// From what a clock shows to Unix ns; `None` where no clock shows that.
type Clock = fn(&[u8]) -> Option<i64>;

/// How to read the times of an answer of this zone.
fn clock(zone: &[u8]) -> Result<Clock, DecodeError> {
    match zone {
        b"US/Eastern" | b"America/New_York" => Ok(us_eastern),
        b"UTC" => Ok(utc),
        _ => Err(DecodeError::Field { field: "Time Zone", reason: Reason::Time }),
    }
}

/// The interval that stands in the key of a series, such as `Time Series (5min)`.
fn interval(key: &[u8]) -> Option<i64> {
    let minutes = match key.strip_prefix(b"Time Series FX (").or_else(|| key.strip_prefix(b"Time Series ("))? {
        b"1min)" => 1,
        b"5min)" => 5,
        b"15min)" => 15,
        b"30min)" => 30,
        b"60min)" => 60,
        _ => return None,
    };
    Some(minutes * NANOS_PER_MINUTE)
}

members! {
    struct Meta {
        symbol: b"2. Symbol",
        from: b"2. From Symbol",
        to: b"3. To Symbol",
        zone: b"6. Time Zone",
        currency_zone: b"7. Time Zone",
    }
}

members! {
    struct Prices {
        open: b"1. open",
        high: b"2. high",
        low: b"3. low",
        close: b"4. close",
        volume: b"5. volume",
    }
}

/// What holds for all the bars of a series.
struct Series<'a> {
    symbol: Symbol<'a>,
    clock: Clock,
    interval_ns: i64,
    /// Currencies have none.
    has_volume: bool,
}

impl<'a> Series<'a> {
    fn read(meta: Option<&'a [u8]>, asked: Option<&'a [u8]>, interval_ns: i64) -> Result<Series<'a>, DecodeError> {
        let meta = Meta::read(meta.ok_or(DecodeError::Missing { field: "Meta Data" })?)?;
        let is_pair = meta.from.kind != Kind::Absent;
        let (symbol, zone) = match is_pair {
            true => (pair(asked, meta.from, meta.to)?, meta.currency_zone),
            false => (Symbol::Text(text(meta.symbol, "2. Symbol")?), meta.zone),
        };
        Ok(Series { symbol, clock: clock(text(zone, "Time Zone")?)?, interval_ns, has_volume: !is_pair })
    }

    /// Oldest first, whichever end the series begins with.
    fn bars(&self, series: &'a [u8], on_event: &mut impl FnMut(Event<'a>)) -> Result<(), DecodeError> {
        let begin = Members::enter(series)?;
        let (mut count, mut first, mut last) = (0, &b""[..], &b""[..]);
        let mut members = begin.clone();
        while let Some((label, _)) = members.step()? {
            first = if count == 0 { label } else { first };
            last = label;
            count += 1;
        }
        let mut left = count;
        let mut on_member = |(label, value)| {
            left -= 1;
            on_event(match self.bar(label, value, left == 0) {
                Ok(bar) => Event::Bar(bar),
                Err(reason) => Event::Invalid { symbol: Some(self.symbol), part: Part::Bar, reason },
            });
        };
        match first > last {
            true => begin.backwards(count, &mut on_member),
            false => begin.forwards(count, &mut on_member),
        }
    }

    fn bar(&self, label: &[u8], value: Value<'a>, in_progress: bool) -> Result<Bar<'a>, Reason> {
        if value.kind != Kind::Object {
            return Err(Reason::FieldType);
        }
        let prices = Prices::read(value.raw).map_err(DecodeError::reason)?;
        let required = |value| decimal(value)?.ok_or(Reason::MissingField);
        Ok(Bar {
            symbol: self.symbol,
            interval_ns: self.interval_ns,
            start: (self.clock)(label).ok_or(Reason::Time)?,
            open: required(prices.open)?,
            high: required(prices.high)?,
            low: required(prices.low)?,
            close: required(prices.close)?,
            volume: if self.has_volume { required(prices.volume)? } else { Decimal::ZERO },
            vwap: None,
            trades: None,
            in_progress,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::{self, Expected, at, decimal};
    use super::*;

    const MSFT_DAY: &str = r#"{"Global Quote": {"01. symbol": "MSFT", "02. open": "112.6300", "03. high": "113.1700",
        "04. low": "110.6400", "05. price": "112.1300", "06. volume": "29062853",
        "07. latest trading day": "2018-10-05", "08. previous close": "112.7900", "09. change": "-0.6600",
        "10. change percent": "-0.5852%"}}"#;
    const MSFT_MINUTES: &str = r#"{"Meta Data": {"1. Information": "Intraday (1min) prices and volumes",
        "2. Symbol": "MSFT", "3. Last Refreshed": "2017-12-18 14:56:00", "4. Interval": "1min",
        "5. Output Size": "Compact", "6. Time Zone": "US/Eastern"}, "Time Series (1min)": {
        "2017-12-18 14:56:00": {"1. open": "86.4900", "2. high": "86.5000", "3. low": "86.4750", "4. close": "86.5000",
        "5. volume": "10494"},
        "2017-12-18 14:55:00": {"1. open": "86.4900", "2. high": "86.5000", "3. low": "86.4801", "4. close": "86.5000",
        "5. volume": "12682"}}}"#;
    const EUR_USD_MINUTES: &str = r#"{"Meta Data": {"2. From Symbol": "EUR", "3. To Symbol": "USD",
        "5. Interval": "5min", "7. Time Zone": "UTC"}, "Time Series FX (5min)": {
        "2024-01-12 21:55:00": {"1. open": "1.09510", "2. high": "1.0952", "3. low": "1.0950", "4. close": "1.0951"}}}"#;
    const EUR_USD: &str = r#"{"Realtime Currency Exchange Rate": {"1. From_Currency Code": "EUR",
        "2. From_Currency Name": "Euro", "3. To_Currency Code": "USD", "4. To_Currency Name": "United States Dollar",
        "5. Exchange Rate": "1.19805000", "6. Last Refreshed": "2021-04-17 16:43:37", "7. Time Zone": "UTC",
        "8. Bid Price": "1.19800000", "9. Ask Price": "1.19810000"}}"#;

    #[track_caller]
    fn check_asked(frame: &str, asked: Option<&str>, expected: Expected<'_, '_>) {
        let asked = asked.map(str::as_bytes);
        let found = testing::events(|mut on_event| decode_answer(frame.as_bytes(), asked, &mut on_event));
        testing::check(frame, found, expected);
    }

    #[track_caller]
    fn check(frame: &str, expected: Expected<'_, '_>) {
        check_asked(frame, None, expected);
    }

    fn bar<'a>(
        symbol: &'a str,
        minutes: i64,
        start: &str,
        prices: [&str; 4],
        volume: &str,
        in_progress: bool,
    ) -> Event<'a> {
        let [open, high, low, close] = prices.map(decimal);
        Event::Bar(Bar {
            symbol: Symbol::Text(symbol.as_bytes()),
            interval_ns: minutes * 60_000_000_000,
            start: at(start),
            open,
            high,
            low,
            close,
            volume: decimal(volume),
            vwap: None,
            trades: None,
            in_progress,
        })
    }

    fn minutes() -> [Event<'static>; 2] {
        let older = ["86.4900", "86.5000", "86.4801", "86.5000"];
        let newer = ["86.4900", "86.5000", "86.4750", "86.5000"];
        [
            bar("MSFT", 1, "2017-12-18T19:55:00Z", older, "12682", false),
            bar("MSFT", 1, "2017-12-18T19:56:00Z", newer, "10494", true),
        ]
    }

    #[test]
    fn a_day_without_a_time_is_a_bar_in_progress() {
        let prices = ["112.6300", "113.1700", "110.6400", "112.1300"];
        let day = bar("MSFT", 1_440, "2018-10-05T04:00:00Z", prices, "29062853", true);
        check(MSFT_DAY, Ok(&[day]));
        check(&MSFT_DAY.replace("Global Quote", "Global Quote - DATA DELAYED BY 15 MINUTES"), Ok(&[day]));
    }

    #[test]
    fn a_series_comes_oldest_first() {
        let bars = minutes();
        check(MSFT_MINUTES, Ok(&bars));
        let (head, tail) = MSFT_MINUTES.split_once(r#""2017-12-18 14:56:00": "#).unwrap();
        let (newer, older) = tail.split_once("},").unwrap();
        let risen = format!(r#"{head}{},"2017-12-18 14:56:00": {newer}}}}}}}"#, older.strip_suffix("}}").unwrap());
        check(&risen, Ok(&bars));
        let prices = ["1.09510", "1.0952", "1.0950", "1.0951"];
        let fx = bar("eur/usd", 5, "2024-01-12T21:55:00Z", prices, "0", true);
        check_asked(EUR_USD_MINUTES, Some("eur/usd"), Ok(&[fx]));
    }

    #[test]
    fn a_faulty_bar_leaves_the_others_alone() {
        let [older, newer] = minutes();
        let invalid = |reason| Event::Invalid { symbol: Some(Symbol::Text(b"MSFT")), part: Part::Bar, reason };
        for (from, to, reason) in [
            (r#""86.4801""#, r#""86.48O1""#, Reason::Number),
            (r#""86.4801""#, "null", Reason::MissingField),
            (r#""86.4801""#, "[]", Reason::FieldType),
            (r#""5. volume": "12682""#, r#""volume": "12682""#, Reason::MissingField),
            ("14:55:00", "14:55", Reason::Time),
            // An hour that did not exist.
            ("2017-12-18 14:55:00", "2017-03-12 02:30:00", Reason::Time),
        ] {
            assert!(MSFT_MINUTES.contains(from), "{from}");
            check(&MSFT_MINUTES.replace(from, to), Ok(&[invalid(reason), newer]));
        }
        check(
            &MSFT_MINUTES.replace(
                r#"86.5000",
        "5. volume": "10494"}"#,
                r#"86.5000"},"2017-12-18 14:55:30":7"#,
            ),
            Ok(&[older, invalid(Reason::FieldType), invalid(Reason::MissingField)]),
        );
    }

    #[test]
    fn an_exchange_rate_is_a_quote_where_somebody_quotes() {
        let top = |price| Some(Top { price: decimal(price), size: None });
        let quote = Quote {
            symbol: Symbol::Text(b"EUR/USD"),
            bid: top("1.19800000"),
            ask: top("1.19810000"),
            sequence: None,
            time: Some(1_618_677_817_000_000_000),
            age: Age::Live,
        };
        check_asked(EUR_USD, Some("EUR/USD"), Ok(&[Event::Quote(quote)]));
        let no_bid = EUR_USD.replace("1.19800000", "0.0000");
        check_asked(&no_bid, Some("EUR/USD"), Ok(&[Event::Quote(Quote { bid: None, ..quote })]));
        let ignored = [Event::Ignored { kind: b"Realtime Currency Exchange Rate" }];
        check(&EUR_USD.replace("1.19800000", "-"), Ok(&ignored));
        check(&EUR_USD.replace(r#""9. Ask Price": "1.19810000""#, r#""9. Ask Price": null"#), Ok(&ignored));
        let other = DecodeError::Field { field: "symbol", reason: Reason::FieldType };
        for asked in ["EUR/JPY", "USD/EUR", "EURUSD", ""] {
            check_asked(EUR_USD, Some(asked), Err(other));
        }
        check(EUR_USD, Err(DecodeError::Missing { field: "symbol" }));
    }

    #[test]
    fn what_comes_instead_of_an_answer_is_told() {
        let control = |frame: &str, expected: Control<'_>| check(frame, Ok(&[Event::Control(expected)]));
        let note = "Thank you for using Alpha Vantage! Our standard API call frequency is 5 calls per minute and 500 calls per day.";
        control(&format!(r#"{{"Note": "{note}"}}"#), Control::Throttled { text: note.as_bytes() });
        for text in [
            "We have detected your API key and our standard API rate limit is 25 requests per day.",
            "Please consider spreading out your free API requests more sparingly. (25 requests per day)",
        ] {
            control(&format!(r#"{{"Information": "{text}"}}"#), Control::Throttled { text: text.as_bytes() });
        }
        let error = |text| Control::Error { text, detail: b"" };
        control(r#"{"Information": "This is a premium endpoint."}"#, error(b"This is a premium endpoint."));
        control(r#"{"Error Message": "Invalid API call. Retry \"X\""}"#, error(br#"Invalid API call. Retry \"X\""#));
        let key = "the parameter apikey is invalid or missing.";
        control(&format!(r#"{{"Error Message": "{key}"}}"#), Control::AuthRefused { text: key.as_bytes() });
        control("{}", error(b"an empty answer"));
        control(r#"{"Global Quote": {}}"#, Control::Error { text: b"an empty answer", detail: b"Global Quote" });
        let series = Control::Error { text: b"an empty answer", detail: b"Time Series (1min)" };
        control(r#"{"Meta Data": {}, "Time Series (1min)": { }}"#, series);
        // An answer with advice is an answer.
        check(&MSFT_MINUTES.replacen('{', r#"{"Information": "sparingly","#, 1), Ok(&minutes()));
    }

    #[test]
    fn other_functions_are_ignored() {
        let ignored = |kind: &'static str| [Event::Ignored { kind: kind.as_bytes() }];
        check(&MSFT_MINUTES.replace("(1min)\":", "(Daily)\":"), Ok(&ignored("Time Series (Daily)")));
        check(r#"{"Meta Data": {}, "Technical Analysis: SMA": {"a": 1}}"#, Ok(&ignored("Technical Analysis: SMA")));
        check(r#"{"Global Quote": 7}"#, Ok(&ignored("Global Quote")));
    }

    #[test]
    fn answers_that_cannot_be_read_are_refused() {
        let missing = |field| Err(DecodeError::Missing { field });
        let invalid = |field, reason| Err(DecodeError::Field { field, reason });
        check("[]", Err(DecodeError::Syntax { offset: 0 }));
        check(&MSFT_DAY.replace("01. symbol", "symbol"), missing("01. symbol"));
        check(&MSFT_DAY.replace("112.1300", ""), invalid("05. price", Reason::Number));
        let day = "07. latest trading day";
        check(&MSFT_DAY.replace("2018-10-05", "2018-10-5"), invalid(day, Reason::Time));
        check(&MSFT_DAY.replace("2018-10-05", "2018-10-05 09:30:00"), invalid(day, Reason::Time));
        check(&MSFT_MINUTES.replace("US/Eastern", "US/Central"), invalid("Time Zone", Reason::Time));
        check(&MSFT_MINUTES.replace("6. Time Zone", "Time Zone"), missing("Time Zone"));
        check(&MSFT_MINUTES.replace("Meta Data", "Meta"), missing("Meta Data"));
        let stale = EUR_USD.replace("16:43:37", "16:43");
        check_asked(&stale, Some("EUR/USD"), invalid("6. Last Refreshed", Reason::Time));
        for frame in [MSFT_DAY, MSFT_MINUTES, EUR_USD, EUR_USD_MINUTES] {
            for end in 0..frame.len() {
                check(&frame[..end], Err(DecodeError::Truncated { offset: end }));
            }
        }
    }

    proptest! {
        /// However long a series is, and whichever way it goes.
        #[test]
        fn every_bar_comes_once_and_in_order(count in 0u32..700, risen: bool) {
            let label = |at: u32| format!("2017-12-18 {:02}:{:02}:00", at / 60, at % 60);
            let bars: Vec<String> = (0..count)
                .map(|at| if risen { at } else { count - 1 - at })
                .map(|at| format!(r#""{}":{{"1. open":{at},"2. high":1,"3. low":1,"4. close":1,"5. volume":1}}"#, label(at)))
                .collect();
            let frame = format!(
                r#"{{"Meta Data":{{"2. Symbol":"A","6. Time Zone":"UTC"}},"Time Series (1min)":{{{}}}}}"#,
                bars.join(","),
            );
            let mut opens = Vec::new();
            let mut in_progress = Vec::new();
            decode(frame.as_bytes(), &mut |event| {
                if let Event::Bar(bar) = event {
                    opens.push(bar.open.mantissa());
                    in_progress.push(bar.in_progress);
                }
            }).unwrap();
            prop_assert_eq!(opens, (0..i64::from(count)).collect::<Vec<_>>());
            let newest = in_progress.iter().position(|is| *is);
            prop_assert_eq!(newest, (count as usize).checked_sub(1));
        }

        #[test]
        fn never_panics(bytes: Vec<u8>) {
            let _ = decode(&bytes, &mut |_| {});
        }
    }
}
