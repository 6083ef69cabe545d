//! A live source as it is configured: its credentials read, its settings checked by the source itself.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use feed_handlers::decode::eastern::us_eastern;
use feed_handlers::feed::{Feed, QuoteOrigin};
use feed_handlers::source::{
    AlphaVantageLive, AlphaVantageSettings, Credentials, Encoding, EquityFunction, FeedStatus, FixChannel, FixDialect,
    FixLive, FixNumbers, FixQuotes, FixSettings, IexCloudLive, IexCloudSettings, IntradayInterval, ItchFile, ItchLine,
    ItchUdp, ItchUdpSettings, Live, LiveSettings, OandaLive, OandaSettings, PollBudget, Records, Secret, Speed, Stop,
    Timings,
};
use feed_handlers::venue::Venue;

use crate::config::{self, ConfigError, Dialect, Numbers, Quotes, SeriesInterval, SourceEncoding};
use crate::platform::kafka::client;
use crate::platform::market_data_raw::MarketDataRaw;

/// After so long without a record the topic is stale, where nothing else is configured.
const KAFKA_STALE: Duration = Duration::from_secs(60);

/// A live source that is checked and ready to start.
pub(super) enum LiveSource {
    WebSocket(Box<Live>),
    Oanda(OandaLive),
    IexCloud(IexCloudLive),
    AlphaVantage(AlphaVantageLive),
    Fix(Box<FixLive>),
    ItchLines(ItchUdp),
    ItchFile(ItchFile),
    Kafka(Box<MarketDataRaw>),
}

impl LiveSource {
    /// Checks the settings of `feed.sources[index]`. Connects to nothing, but listens on the lines of
    /// Nasdaq ITCH, and librdkafka looks for its brokers.
    ///
    /// # Errors
    /// [`ConfigError`] with the key that is wrong.
    pub(super) fn open(
        index: usize,
        config: &config::Source,
        kafka: &config::Kafka,
    ) -> Result<LiveSource, ConfigError> {
        let key = format!("feed.sources[{index}]");
        let credentials = Credentials {
            key: secret(&format!("{key}.key"), config.key_file.as_deref(), config.key_variable.as_deref())?,
            secret: secret(&format!("{key}.secret"), config.secret_file.as_deref(), config.secret_variable.as_deref())?,
        };
        let of = |error: &dyn std::fmt::Display| ConfigError::of(&key, error);
        let url = config.url.as_ref().map(|url| url.expose().to_owned());
        let symbols = config.symbols.clone();
        let needed = |what: &'static str, secret: Option<Secret>| {
            secret.ok_or_else(|| ConfigError::of(&format!("{key}.{what}"), "is needed, or the variable for it"))
        };
        let refused = |what: &str, why: &str| Err(ConfigError::of(&format!("{key}.{what}"), why));
        if config.bars && !config.venue.offers_bars() {
            return refused("bars", "this venue gives none that could be subscribed");
        }
        if config.interval.is_some() && config.venue != Venue::AlphaVantage {
            return refused("interval", "is Alpha Vantage's alone");
        }
        match config.venue {
            Venue::Oanda => {
                let account = config.account.as_deref();
                let account = account.ok_or_else(|| ConfigError::of(&format!("{key}.account"), "is needed"))?;
                let mut settings = OandaSettings::new(account, needed("key_file", credentials.key)?, symbols);
                settings.timings = timings(settings.timings, config);
                settings.url = url.unwrap_or(settings.url);
                OandaLive::new(&settings).map(LiveSource::Oanda).map_err(|error| of(&error))
            }
            Venue::IexCloud => {
                let mut settings = IexCloudSettings::new(needed("key_file", credentials.key)?, symbols);
                settings.timings = timings(settings.timings, config);
                settings.url = url.unwrap_or(settings.url);
                settings.endpoint = config.endpoint.clone().unwrap_or(settings.endpoint);
                settings.channels = config.channels.clone();
                IexCloudLive::new(&settings).map(LiveSource::IexCloud).map_err(|error| of(&error))
            }
            Venue::AlphaVantage => {
                let mut settings = AlphaVantageSettings::new(needed("key_file", credentials.key)?, symbols);
                settings.url = url.unwrap_or(settings.url);
                let PollBudget { per_minute, per_day } = settings.budget;
                settings.budget = PollBudget {
                    per_minute: config.requests_per_minute.unwrap_or(per_minute),
                    per_day: config.requests_per_day.or(per_day),
                };
                settings.equities = config.interval.map_or(settings.equities, series);
                AlphaVantageLive::new(&settings).map(LiveSource::AlphaVantage).map_err(|error| of(&error))
            }
            Venue::Fix => open_fix(&key, config, credentials),
            Venue::Itch => open_itch(&key, config),
            Venue::Kafka => open_kafka(&key, config, kafka),
            venue => {
                let settings = LiveSettings {
                    url,
                    snapshot_url: config.snapshot_url.as_ref().map(|url| url.expose().to_owned()),
                    symbols,
                    quotes: quotes(config),
                    bars: config.bars,
                    encoding: match config.encoding {
                        SourceEncoding::Json => Encoding::Json,
                        SourceEncoding::Msgpack => Encoding::MessagePack,
                    },
                    credentials,
                    timings: timings(Timings::of(venue), config),
                    ..LiveSettings::of(venue)
                };
                let live = Live::new(&settings).map_err(|error| of(&error))?;
                Ok(LiveSource::WebSocket(Box::new(live)))
            }
        }
    }

    pub(super) fn status(&self) -> Arc<FeedStatus> {
        match self {
            LiveSource::WebSocket(source) => source.status(),
            LiveSource::Oanda(source) => source.status(),
            LiveSource::IexCloud(source) => source.status(),
            LiveSource::AlphaVantage(source) => source.status(),
            LiveSource::Fix(source) => source.status(),
            LiveSource::ItchLines(source) => source.status(),
            LiveSource::ItchFile(source) => source.status(),
            LiveSource::Kafka(source) => source.status(),
        }
    }

    pub(super) fn spawn(self, feed: Feed, stop: Arc<Stop>) -> std::io::Result<JoinHandle<()>> {
        match self {
            LiveSource::WebSocket(source) => source.spawn(feed, stop),
            LiveSource::Oanda(source) => source.spawn(feed, stop),
            LiveSource::IexCloud(source) => source.spawn(feed, stop),
            LiveSource::AlphaVantage(source) => source.spawn(feed, stop),
            LiveSource::Fix(source) => source.spawn(feed, stop),
            LiveSource::ItchLines(source) => source.spawn(feed, stop),
            LiveSource::ItchFile(source) => source.spawn(feed, stop),
            LiveSource::Kafka(source) => source.spawn(feed, stop),
        }
    }
}

/// Nasdaq ITCH: a file of a day, or the lines of today, on which it listens from here on.
fn open_itch(key: &str, config: &config::Source) -> Result<LiveSource, ConfigError> {
    let of = |field: &str, error: &dyn std::fmt::Display| ConfigError::of(&format!("{key}.{field}"), error);
    let midnight = |day: &str| {
        let time = format!("{day} 00:00:00");
        us_eastern(time.as_bytes()).ok_or_else(|| of("day", &"is no day since 2007, such as 2023-08-22"))
    };
    if let Some(file) = &config.file {
        if !config.lines.is_empty() {
            return Err(of("file", &"and lines are both there"));
        }
        let day = config.day.as_deref().ok_or_else(|| of("day", &"is needed: the file does not tell it"))?;
        let open = ItchFile::open(file, midnight(day)?);
        let source = open.map_err(|e| of("file", &format_args!("{}: {e}", file.display())))?;
        return Ok(LiveSource::ItchFile(source.speed(Speed::Max)));
    }
    let line = |address: &SocketAddr| ItchLine {
        address: *address,
        interface: config.interface.unwrap_or(Ipv4Addr::UNSPECIFIED),
    };
    let mut settings = ItchUdpSettings::new(config.lines.iter().map(line).collect());
    settings.rerequest = config.request_server;
    settings.midnight_ns = config.day.as_deref().map(midnight).transpose()?;
    if let Some(silence) = config.silence_timeout {
        (settings.silence, settings.stale) = (silence, settings.stale.min(silence));
    }
    ItchUdp::bind(settings).map(LiveSource::ItchLines).map_err(|error| ConfigError::of(key, error))
}

/// The platform's topic of price ticks, at the brokers of `[kafka]`.
fn open_kafka(key: &str, config: &config::Source, kafka: &config::Kafka) -> Result<LiveSource, ConfigError> {
    if config.url.is_some() {
        return Err(ConfigError::of(&format!("{key}.url"), "is of no use: the brokers are those of kafka.brokers"));
    }
    if config.quotes == Quotes::Books {
        return Err(ConfigError::of(&format!("{key}.quotes"), "the topic has no books"));
    }
    let records = Records::new(&config.symbols, config.silence_timeout.unwrap_or(KAFKA_STALE));
    let records = records.map_err(|error| ConfigError::of(key, error))?;
    let source = MarketDataRaw::new(&client(kafka)?, &kafka.topics.market_data_raw, records);
    source.map(|source| LiveSource::Kafka(Box::new(source))).map_err(|error| ConfigError::of("kafka", error))
}

/// A session of FIX. It has no address of its own, so all that only the two sides know is needed.
fn open_fix(key: &str, config: &config::Source, credentials: Credentials) -> Result<LiveSource, ConfigError> {
    let needed = |field: &str| ConfigError::of(&format!("{key}.{field}"), "is needed");
    let url = config.url.as_ref().ok_or_else(|| needed("url"))?;
    let sender = config.sender_comp_id.as_deref().ok_or_else(|| needed("sender_comp_id"))?;
    let target = config.target_comp_id.as_deref().ok_or_else(|| needed("target_comp_id"))?;
    let mut settings = FixSettings::new(url.expose(), sender, target, config.symbols.clone());
    (settings.username, settings.password) = (credentials.key, credentials.secret);
    settings.heartbeat = config.heartbeat.unwrap_or(settings.heartbeat);
    settings.timings = timings(Timings::of_heartbeat(settings.heartbeat), config);
    settings.numbers = match config.numbers {
        Numbers::Anew => FixNumbers::Anew,
        Numbers::Continued => FixNumbers::Continued,
    };
    settings.dialect = fix_dialect(config);
    settings.quotes = fix_quotes(config);
    settings.symbols_per_request = config.symbols_per_request.unwrap_or(settings.symbols_per_request);
    if !config.channels.is_empty() {
        let channel = |name: &String| match name.as_str() {
            "quotes" => Ok(FixChannel::Quotes),
            "trades" => Ok(FixChannel::Trades),
            other => {
                let why = format!("`{other}` is neither quotes nor trades");
                Err(ConfigError::of(&format!("{key}.channels"), why))
            }
        };
        settings.channels = config.channels.iter().map(channel).collect::<Result<_, _>>()?;
    }
    let live = FixLive::new(&settings).map_err(|error| ConfigError::of(key, error))?;
    Ok(LiveSource::Fix(Box::new(live)))
}

fn fix_dialect(config: &config::Source) -> FixDialect {
    match config.dialect {
        Dialect::Standard => FixDialect::Standard,
        Dialect::Binance => FixDialect::Binance,
    }
}

fn fix_quotes(config: &config::Source) -> FixQuotes {
    match config.quotes {
        Quotes::Quotes => FixQuotes::Best,
        Quotes::Books => FixQuotes::Books { depth: config.depth },
    }
}

/// What the feed makes its quotes of.
pub(super) fn quotes(config: &config::Source) -> QuoteOrigin {
    match config.quotes {
        _ if config.venue == Venue::Fix => fix_quotes(config).origin(fix_dialect(config)),
        Quotes::Quotes => QuoteOrigin::Quotes,
        Quotes::Books => QuoteOrigin::Books { depth: config.depth },
    }
}

/// What Alpha Vantage is asked for, of a stock.
fn series(interval: SeriesInterval) -> EquityFunction {
    EquityFunction::Intraday(match interval {
        SeriesInterval::Minute => IntradayInterval::Minute,
        SeriesInterval::Minutes5 => IntradayInterval::FiveMinutes,
        SeriesInterval::Minutes15 => IntradayInterval::FifteenMinutes,
        SeriesInterval::Hour => IntradayInterval::Hour,
    })
}

/// The symbol that clients know the instrument by: of `BINANCE:BTCUSDT=BTC/USDT` the last part. `None` for Kafka's `*`, which is
/// none.
pub(super) fn symbol(venue: Venue, configured: &str) -> Option<&str> {
    let symbol = configured.split_once('=').map_or(configured, |(_, symbol)| symbol);
    (venue != Venue::Kafka || symbol != "*").then_some(symbol)
}

fn timings(of_venue: Timings, config: &config::Source) -> Timings {
    match config.silence_timeout {
        Some(silence) => Timings { silence, stale: of_venue.stale.min(silence), ..of_venue },
        None => of_venue,
    }
}

/// Reads a secret from where it is configured to be. `None` where it is nowhere.
///
/// # Errors
/// [`ConfigError`] where it is in two places, or not where it should be. It does not show what is there.
fn secret(key: &str, file: Option<&Path>, variable: Option<&str>) -> Result<Option<Secret>, ConfigError> {
    let text = match (file, variable) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => {
            return Err(ConfigError::of(&format!("{key}_variable"), format_args!("{key}_file is there as well")));
        }
        (Some(file), None) => std::fs::read_to_string(file)
            .map_err(|e| ConfigError::of(&format!("{key}_file"), format_args!("{}: {e}", file.display())))?,
        (None, Some(name)) => std::env::var(name)
            .map_err(|_| ConfigError::of(&format!("{key}_variable"), format_args!("{name} is not set, or no text")))?,
    };
    match text.trim() {
        "" => Err(ConfigError::of(key, "is empty")),
        text => Ok(Some(Secret::new(text))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(text: &str) -> Result<LiveSource, String> {
        let source: config::Source = toml::from_str(text).map_err(|e| e.message().to_owned())?;
        LiveSource::open(2, &source, &config::Kafka::default()).map_err(|e| e.to_string())
    }

    #[test]
    fn every_live_venue_can_be_configured() {
        let variable = "PATH";
        for text in [
            r#"venue = "coinbase"
               symbols = ["BTC/USD"]"#
                .to_owned(),
            r#"venue = "nasdaq_itch"
               lines = ["127.0.0.1:0", "127.0.0.1:0"]
               request_server = "127.0.0.1:9""#
                .to_owned(),
            r#"venue = "nasdaq_itch"
               file = "/dev/null"
               day = "2023-08-22""#
                .to_owned(),
            format!(
                r#"venue = "fix"
                   url = "fixs://fix.example.com:9000"
                   sender_comp_id = "US"
                   target_comp_id = "VENUE"
                   key_variable = "{variable}"
                   secret_variable = "{variable}"
                   symbols = ["EUR/USD", "VENUE:USDJPY=USD/JPY"]
                   symbols_per_request = 1
                   channels = ["quotes"]
                   quotes = "books"
                   depth = 10
                   heartbeat = "30s"
                   numbers = "continued""#
            ),
            r#"venue = "kraken"
               symbols = ["BTC/USD"]
               quotes = "books"
               depth = 10
               name = "KRAKEN-10"
               silence_timeout = "5s""#
                .to_owned(),
            format!("venue = \"oanda\"\nsymbols = [\"EUR/USD\"]\naccount = \"101\"\nkey_variable = \"{variable}\""),
            format!("venue = \"iex_cloud\"\nsymbols = [\"AAPL\"]\nkey_variable = \"{variable}\""),
            format!(
                "venue = \"alpha_vantage\"\nsymbols = [\"MSFT\"]\nkey_variable = \"{variable}\"\nrequests_per_day = 500\ninterval = \"15m\""
            ),
            "venue = \"binance\"\nsymbols = [\"BTC/USDT\"]\nbars = true".to_owned(),
            "venue = \"kafka\"".to_owned(),
            "venue = \"kafka\"\nsymbols = [\"*\", \"CABLE=GBP/USD\"]\nsilence_timeout = \"5s\"".to_owned(),
        ] {
            if let Err(error) = open(&text) {
                panic!("{text}: {error}");
            }
        }
    }

    #[test]
    fn what_is_wrong_is_told_by_its_key() {
        let check = |text: &str, expected: &str| {
            let error = open(text).err().unwrap_or_else(|| panic!("{text}"));
            assert!(error.starts_with(expected), "{text}: {error}");
        };
        check("venue = \"nasdaq\"\nsymbols = []", "`nasdaq` is no venue: one of coinbase,");
        check("venue = \"coinbase\"\nsymbols = []\nbars = true", "feed.sources[2].bars: this venue gives none");
        check("venue = \"oanda\"\nsymbols = []\nbars = true", "feed.sources[2].bars: this venue gives none");
        check("venue = \"kraken\"\nsymbols = []\ninterval = \"1m\"", "feed.sources[2].interval: is Alpha Vantage's");
        check("venue = \"alpha_vantage\"\ninterval = \"30m\"", "unknown variant `30m`, expected one of `1m`, `5m`,");
        check("venue = \"oanda\"\nsymbols = [\"EUR/USD\"]", "feed.sources[2].account: is needed");
        check("venue = \"oanda\"\nsymbols = [\"EUR/USD\"]\naccount = \"1\"", "feed.sources[2].key_file: is needed");
        check("venue = \"coinbase\"\nsymbols = []", "feed.sources[2]: symbols: ");
        check(
            "venue = \"finnhub\"\nsymbols = [\"AAPL\"]\nkey_file = \"/nonexistent/key\"",
            "feed.sources[2].key_file: /nonexistent/key: ",
        );
        check(
            "venue = \"finnhub\"\nsymbols = [\"AAPL\"]\nkey_variable = \"NO_SUCH_VARIABLE\"",
            "feed.sources[2].key_variable: NO_SUCH_VARIABLE is not set",
        );
        check(
            "venue = \"finnhub\"\nsymbols = [\"AAPL\"]\nkey_variable = \"PATH\"\nkey_file = \"/dev/null\"",
            "feed.sources[2].key_variable: feed.sources[2].key_file is there as well",
        );
        check("venue = \"finnhub\"\nsymbols = [\"AAPL\"]\nkey_file = \"/dev/null\"", "feed.sources[2].key: is empty");
        check("venue = \"fix\"", "feed.sources[2].url: is needed");
        check("venue = \"fix\"\nurl = \"fix://h:1\"", "feed.sources[2].sender_comp_id: is needed");
        let fix =
            "venue = \"fix\"\nurl = \"fix://h:1\"\nsender_comp_id = \"A\"\ntarget_comp_id = \"B\"\nsymbols = [\"C\"]";
        check(&format!("{fix}\ndialect = \"binance\""), "feed.sources[2]: key: an API key is needed, for Binance");
        check(&format!("{fix}\nchannels = [\"bars\"]"), "feed.sources[2].channels: `bars` is neither");
        check(&format!("{fix}\nheartbeat = \"1500ms\""), "feed.sources[2]: heartbeat: whole seconds");
        check(&format!("{fix}\nsilence_timeout = \"10s\""), "feed.sources[2]: timings: a line must be silent");
        check("venue = \"kafka\"\nurl = \"kafka://h:1\"", "feed.sources[2].url: is of no use");
        check("venue = \"kafka\"\nquotes = \"books\"", "feed.sources[2].quotes: the topic has no books");
        check("venue = \"kafka\"\nsymbols = [\"a b\"]", "feed.sources[2]: symbols: `a b`: ");
        check("venue = \"kafka\"\nsilence_timeout = \"0s\"", "feed.sources[2]: silence: ");
        check("venue = \"nasdaq_itch\"", "feed.sources[2]: lines: at least one is needed");
        check("venue = \"nasdaq_itch\"\nfile = \"/dev/null\"", "feed.sources[2].day: is needed");
        check("venue = \"nasdaq_itch\"\nfile = \"/dev/null\"\nday = \"tomorrow\"", "feed.sources[2].day: is no day");
        check(
            "venue = \"nasdaq_itch\"\nfile = \"/nonexistent/itch\"\nday = \"2023-08-22\"",
            "feed.sources[2].file: /nonexistent/itch: ",
        );
    }
}
