//! Bars that venues make, as they become ticks.

use protocol::Bar;

use super::*;

const MINUTE_NS: i64 = 60_000_000_000;

/// 2026-09-30T14:00:00Z, 10:00 in New York.
const HOUR_NS: i64 = 1_790_776_800_000_000_000;

struct Bars {
    feed: Feed,
    reader: Reader<Tick>,
}

impl Bars {
    fn of(venue: Venue) -> Bars {
        let publisher = ring(64, Arc::new(Doorbell::new(WaitStrategy::Park)));
        let mut feed = Feed::new(FeedParts {
            source: SourceId(3),
            venue,
            instruments: Arc::new(InstrumentTable::with_capacity(8)),
            unknown: UnknownSymbols::Learn,
            quotes: QuoteOrigin::Quotes,
            limits: crate::validation::Limits::LIVE,
            quality: crate::quality::Quality::new(crate::quality::FRESH_MAX_NS).0,
            publisher,
            counters: Arc::new(FeedCounters::new()),
            dead_letters: None,
        });
        let reader = feed.publisher().reader();
        Bars { feed, reader }
    }

    /// Takes a frame that comes so many minutes after the hour; then compares what is published of it, each bar as its
    /// interval, minute of the hour, open, high, low, close, volume, count and mean, `~` before one in progress.
    #[track_caller]
    fn check(&mut self, frame: &str, minutes: i64, expected: &[&str]) {
        self.feed.handle_frame(frame.as_bytes(), HOUR_NS + minutes * MINUTE_NS);
        let published: Vec<String> = std::iter::from_fn(|| match self.reader.poll() {
            Polled::Record(tick) => Some(tick),
            Polled::Empty => None,
            Polled::Lapped { lost } => panic!("{lost} ticks lost"),
        })
        .map(|tick| {
            let TickBody::Bar(venue_bar) = tick.body else { panic!("{tick:?}") };
            let Bar { start_ns, open, high, low, close, volume, trades, vwap } = venue_bar.bar(tick.ts_event);
            let mark = if venue_bar.is_final() { "" } else { "~" };
            let (interval, minute) = (venue_bar.interval().name(), (start_ns - HOUR_NS) / MINUTE_NS);
            format!("{mark}{interval} {minute} {open} {high} {low} {close} {volume} {trades} {vwap}")
        })
        .collect();
        assert_eq!(published, expected, "{frame}");
    }

    #[track_caller]
    fn check_counts(&self, expected: &[(FeedCounter, u64)]) {
        for (counter, count) in expected {
            assert_eq!(self.feed.counters().count(*counter), *count, "{counter:?}");
        }
    }
}

/// A bar of Alpaca's, of a minute after 14:00.
fn alpaca(kind: &str, minute: u32, close: &str) -> String {
    format!(
        r#"[{{"T":"{kind}","S":"SPY","o":388.98,"h":389.13,"l":388.97,"c":{close},"v":49378,"n":461,"vw":389.06,"t":"2026-09-30T14:{minute:02}:00Z"}}]"#
    )
}

#[test]
fn a_minute_of_the_venues_is_told_once_and_corrected() {
    let mut bars = Bars::of(Venue::Alpaca);
    bars.check(&alpaca("b", 1, "389.12"), 2, &["1m 1 388.98 389.13 388.97 389.12 49378 461 389.06"]);
    bars.check(&alpaca("b", 1, "389.12"), 2, &[]);
    bars.check(&alpaca("u", 1, "389.11"), 2, &["1m 1 388.98 389.13 388.97 389.11 49378 461 389.06"]);
    bars.check(&alpaca("b", 0, "389.11"), 2, &[]);
    // The day begins at midnight in New York.
    let day = alpaca("d", 0, "389").replace("T14:", "T04:");
    bars.check(&day, 2, &["~1d -600 388.98 389.13 388.97 389 49378 461 389.06"]);
    let none_of_ours = alpaca("b", 2, "389").replace(":00Z", ":01Z");
    bars.check(&none_of_ours, 3, &[]);
    bars.check(&alpaca("b", 2, "389.14"), 3, &[]);
    bars.check(&alpaca("b", 2, "389").replace("389.06", "-1"), 3, &[]);
    bars.check_counts(&[
        (C::VenueBars, 3),
        (C::RepeatedBars, 1),
        (C::OutdatedBars, 1),
        (C::OtherBars, 1),
        (C::InvalidBars, 2),
        (C::Malformed(Reason::BarRange), 1),
        (C::Malformed(Reason::Price), 1),
    ]);
}

#[test]
fn a_candle_is_final_when_the_next_one_begins() {
    let candle = |minute: u32, interval: u32, trades: u32| {
        let volume = f64::from(trades) * 2.5;
        format!(
            r#"{{"channel":"ohlc","type":"update","timestamp":"2026-09-30T14:59:00Z","data":[{{"symbol":"ETH/USD","open":0.5,"high":0.5,"low":0.5,"close":0.5,"trades":{trades},"volume":{volume},"vwap":0.5,"interval_begin":"2026-09-30T14:{minute:02}:00.000000000Z","interval":{interval},"timestamp":"2026-09-30T14:59:00Z"}}]}}"#
        )
    };
    let mut bars = Bars::of(Venue::Kraken);
    bars.check(&candle(1, 1, 1), 1, &["~1m 1 0.5 0.5 0.5 0.5 2.5 1 0.5"]);
    bars.check(&candle(1, 1, 2), 2, &["~1m 1 0.5 0.5 0.5 0.5 5 2 0.5"]);
    bars.check(&candle(2, 1, 0), 2, &[]);
    bars.check(&candle(3, 1, 1), 3, &["1m 1 0.5 0.5 0.5 0.5 5 2 0.5", "~1m 3 0.5 0.5 0.5 0.5 2.5 1 0.5"]);
    // Of longer ones nobody asks for the progress.
    bars.check(&candle(0, 5, 1), 3, &[]);
    bars.check(&candle(5, 5, 1), 5, &["5m 0 0.5 0.5 0.5 0.5 2.5 1 0.5"]);
    bars.check(&candle(0, 30, 1), 5, &[]);
    // What was missed while the line was cut may have changed it.
    bars.feed.connection_lost();
    bars.check(&candle(9, 1, 4), 9, &["~1m 9 0.5 0.5 0.5 0.5 10 4 0.5"]);
    bars.check_counts(&[
        (C::VenueBars, 4),
        (C::CompletedBars, 2),
        (C::EmptyBars, 1),
        (C::BarsInProgress, 2),
        (C::OtherBars, 1),
    ]);
}

/// A series of Alpha Vantage's, of these minutes after 10:00 in New York.
fn series(minutes: impl IntoIterator<Item = (u32, u32)>) -> String {
    let bars: Vec<String> = minutes
        .into_iter()
        .map(|(minute, volume)| {
            format!(
                r#""2026-09-30 10:{minute:02}:00":{{"1. open":"86.2","2. high":"86.4","3. low":"86.2","4. close":"86.35","5. volume":"{volume}"}}"#
            )
        })
        .collect();
    let meta = r#""Meta Data":{"2. Symbol":"MSFT","4. Interval":"1min","6. Time Zone":"US/Eastern"}"#;
    format!(r#"{{{meta},"Time Series (1min)":{{{}}}}}"#, bars.join(","))
}

#[test]
fn of_a_series_that_is_polled_only_what_is_new_is_told() {
    let told = |minute, volume| format!("1m {minute} 86.2 86.4 86.2 86.35 {volume} 0 0");
    let mut bars = Bars::of(Venue::AlphaVantage);
    // Newest first, and the newest one is not over.
    bars.check(&series([(3, 30), (2, 20), (1, 10)]), 4, &[&told(1, 10), &told(2, 20), &format!("~{}", told(3, 30))]);
    bars.check(&series([(3, 30), (2, 20), (1, 10)]), 5, &[]);
    bars.check(&series([(3, 31), (2, 20), (1, 10)]), 5, &[&format!("~{}", told(3, 31))]);
    // It is as the next answer has it, which corrects the one before.
    bars.check(&series([(5, 5), (3, 33), (2, 21)]), 6, &[&told(2, 21), &told(3, 33), &format!("~{}", told(5, 5))]);
    // When nothing follows, time decides.
    bars.check(&series([(5, 6), (3, 33)]), 65, &[&format!("~{}", told(5, 6))]);
    bars.check(&series([(5, 6), (3, 33)]), 66, &[&told(5, 6)]);
    bars.check(&series([(5, 6), (3, 33)]), 90, &[]);
    bars.check_counts(&[(C::VenueBars, 9), (C::RepeatedBars, 6), (C::OutdatedBars, 3)]);
}

#[test]
fn a_day_without_a_time_is_fresh_and_final_when_it_is_over() {
    let day = |close: &str| {
        format!(
            r#"{{"Global Quote":{{"01. symbol":"MSFT","02. open":"112.63","03. high":"113.17","04. low":"110.64","05. price":"{close}","06. volume":"29062853","07. latest trading day":"2026-09-30"}}}}"#
        )
    };
    let mut bars = Bars::of(Venue::AlphaVantage);
    bars.check(&day("112.1"), 300, &["~1d -600 112.63 113.17 110.64 112.1 29062853 0 0"]);
    bars.check(&day("112.1"), 310, &[]);
    bars.check(&day("112.2"), 320, &["~1d -600 112.63 113.17 110.64 112.2 29062853 0 0"]);
    let report = bars.feed.quality.quality().report(crate::arbitration::SourceState::Up, HOUR_NS + 320 * MINUTE_NS);
    assert_eq!((report.events, report.fresh, report.score, report.newest_age_ns), (1, 1.0, 1.0, None));
    // 01:00 of the next day.
    bars.check(&day("112.2"), 899, &[]);
    bars.check(&day("112.2"), 900, &["1d -600 112.63 113.17 110.64 112.2 29062853 0 0"]);
    bars.check(&day("112.2"), 2_000, &[]);
}
