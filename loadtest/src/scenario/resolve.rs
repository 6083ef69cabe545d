//! From wishes to a scenario: the defaults of each kind of run, and what does not go together.

use std::net::SocketAddr;

use super::{Announce, Kind, Raise, Scenario, Wishes};
use crate::orders::{Basket, ChannelName, Interest, SignIn, WireEncoding};
use crate::scan::Stamp;
use crate::thresholds::Nanos;
use crate::venue::product_names;

/// A setting that cannot be, with its name.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ScenarioError {
    #[error("{key} = {value}: {rule}")]
    OutOfRange { key: &'static str, value: String, rule: &'static str },
    #[error("{key}: {path}: {error}")]
    File { key: &'static str, path: String, error: String },
    #[error("{key} = {value:?}: {rule}")]
    Text { key: &'static str, value: String, rule: &'static str },
}

const SECOND: u64 = 1_000_000_000;

impl Kind {
    /// What holds where nothing else is said.
    pub fn defaults(self) -> Wishes {
        let seconds = |seconds| Some(Nanos(seconds * SECOND));
        let common = Wishes {
            target: vec!["ws://127.0.0.1:8080/stream".to_owned()],
            clients: Some(1_000),
            ramp: Some(2_000.0),
            rate: Some(1_000.0),
            warm_up: seconds(2),
            duration: seconds(10),
            settle: seconds(5),
            connect_timeout: seconds(30),
            channel: vec![ChannelName::Trades],
            symbol: product_names(1).iter().map(|product| gateway_name(product)).collect(),
            zipf: Some(1.0),
            seed: Some(1),
            auth: Some(SignIn::Header),
            encoding: Some(WireEncoding::Json),
            insecure: Some(false),
            from: Some(Stamp::Rx),
            clock_tolerance: Some(Nanos(1_000_000)),
            max_lag: Some(Nanos(50_000_000)),
            check_every: Some(64),
            share: Some(0.1),
            stall: seconds(20),
            cut_share: Some(0.1),
            cut_every: seconds(5),
            within: seconds(5),
            users: Some(100),
            redis: Some("redis://127.0.0.1:6379".to_owned()),
            announce: Some(Announce::Record),
            bursts: Some(3),
            every: seconds(600),
            raise: Some(Raise::Clients),
            lowest: Some(100.0),
            highest: Some(20_000.0),
            factor: Some(2.0),
            step: seconds(10),
            precision: Some(0.1),
            venue_listen: Some("127.0.0.1:9200".to_owned()),
            ..Wishes::default()
        };
        let watchlists = Wishes { symbol: Vec::new(), symbols: Some(500), symbols_each: Some(20), ..Wishes::default() };
        let own = match self {
            Kind::Broadcast | Kind::Signals | Kind::Slow | Kind::Reconnect => Wishes::default(),
            Kind::Connect => Wishes {
                rate: Some(1_000.0),
                clients: Some(5_000),
                channel: vec![ChannelName::Trades, ChannelName::Quotes],
                ..Wishes::default()
            },
            // Finished bars: a message a minute.
            Kind::Idle => Wishes { clients: Some(10_000), channel: vec![ChannelName::Bars], ..Wishes::default() },
            Kind::Watchlist => watchlists,
            Kind::Churn => watchlists,
            // Finished bars here too: what is timed is the change, and not what else a client gets.
            Kind::Rights => Wishes { rate: Some(100.0), channel: vec![ChannelName::Bars], ..Wishes::default() },
            Kind::Soak => Wishes { duration: seconds(3_600), ..Wishes::default() },
            Kind::FindMax => Wishes { clients: Some(1_000), warm_up: seconds(1), ..Wishes::default() },
        };
        own.or(common)
    }
}

impl Wishes {
    /// The scenario that these ask for, where [`Kind::defaults`] stand behind them.
    ///
    /// # Errors
    /// [`ScenarioError`] with the setting's name.
    pub fn resolve(self, kind: Kind) -> Result<Scenario, ScenarioError> {
        // With a venue of our own the whole way can be timed, from when a message was meant to be sent.
        let venue = kind == Kind::FindMax && self.raise == Some(Raise::Rate);
        let own = Wishes { from: venue.then_some(Stamp::Event), ..Wishes::default() };
        let wishes = self.or(own).or(kind.defaults());
        let symbols = symbols(&wishes)?;
        let basket = match wishes.symbols_each {
            _ if wishes.symbol.iter().any(|symbol| symbol == "*") => Basket::Wildcard,
            Some(each) => Basket::Drawn { each, exponent: wishes.zipf.unwrap_or(0.0) },
            None => Basket::All,
        };
        let scenario = Scenario {
            kind,
            targets: wishes.target,
            clients: wishes.clients.unwrap_or(0),
            ramp: wishes.ramp.unwrap_or(0.0),
            rate: wishes.rate.unwrap_or(0.0),
            warm_up_ns: ns(wishes.warm_up),
            duration_ns: ns(wishes.duration),
            settle_ns: ns(wishes.settle),
            connect_timeout_ns: ns(wishes.connect_timeout),
            interest: Interest { channels: wishes.channel, symbols, basket, max_rate: wishes.max_rate },
            seed: wishes.seed.unwrap_or(0),
            sign_in: wishes.auth.unwrap_or(SignIn::Header),
            encoding: wishes.encoding.unwrap_or(WireEncoding::Json),
            source: wishes.source,
            sources: wishes.sources,
            workers: wishes.workers,
            ca: wishes.ca,
            insecure: wishes.insecure.unwrap_or(false),
            stamp: wishes.from.unwrap_or(Stamp::Rx),
            clock_tolerance_ns: ns(wishes.clock_tolerance),
            max_lag_ns: ns(wishes.max_lag),
            check_every: wishes.check_every.unwrap_or(0),
            pids: wishes.pid,
            metrics: wishes.metrics,
            // Only then are clients set apart that will not read.
            stall_share: if kind == Kind::Slow { wishes.share.unwrap_or(0.0) } else { 0.0 },
            stall_ns: ns(wishes.stall),
            cut_share: wishes.cut_share.unwrap_or(0.0),
            cut_every_ns: ns(wishes.cut_every),
            within_ns: ns(wishes.within),
            users: wishes.users.unwrap_or(0),
            redis: wishes.redis.unwrap_or_default(),
            redis_password_file: wishes.redis_password_file,
            token_secret_file: wishes.token_secret_file,
            token_kid: wishes.token_kid,
            announce: wishes.announce.unwrap_or(Announce::Record),
            bursts: wishes.bursts.unwrap_or(0),
            every_ns: ns(wishes.every),
            raise: wishes.raise.unwrap_or(Raise::Clients),
            lowest: wishes.lowest.unwrap_or(0.0),
            highest: wishes.highest.unwrap_or(0.0),
            factor: wishes.factor.unwrap_or(0.0),
            step_ns: ns(wishes.step),
            precision: wishes.precision.unwrap_or(0.0),
            venue_listen: venue_listen(wishes.venue_listen.unwrap_or_default())?,
            thresholds: wishes.thresholds,
        };
        scenario.check()?;
        Ok(scenario)
    }
}

fn ns(nanos: Option<Nanos>) -> u64 {
    nanos.map_or(0, |nanos| nanos.0)
}

fn venue_listen(text: String) -> Result<SocketAddr, ScenarioError> {
    text.parse().map_err(|_| ScenarioError::Text { key: "venue-listen", value: text, rule: "IP:PORT is wanted" })
}

/// The symbols that there are, each once.
fn symbols(wishes: &Wishes) -> Result<Vec<String>, ScenarioError> {
    let mut symbols: Vec<String> = wishes.symbol.iter().map(|symbol| symbol.trim().to_ascii_uppercase()).collect();
    if let Some(path) = &wishes.symbol_list {
        let text = std::fs::read_to_string(path).map_err(|error| ScenarioError::File {
            key: "symbol-list",
            path: path.clone(),
            error: error.to_string(),
        })?;
        symbols.extend(text.lines().map(|line| line.trim().to_ascii_uppercase()).filter(|line| !line.is_empty()));
    }
    if let Some(count) = wishes.symbols
        && wishes.symbol_list.is_none()
    {
        match &wishes.symbol_pattern {
            Some(pattern) => {
                for number in 1..=count {
                    symbols.push(named(pattern, number)?);
                }
            }
            None => symbols.extend(product_names(count as usize).iter().map(|product| gateway_name(product))),
        }
    }
    let mut seen = std::collections::HashSet::new();
    symbols.retain(|symbol| symbol != "*" && seen.insert(symbol.clone()));
    for symbol in &symbols {
        if protocol::check_symbol(symbol).is_err() {
            let rule = "a symbol is 1 to 32 of A-Z, 0-9 and . - _ /";
            return Err(ScenarioError::Text { key: "symbol", value: symbol.clone(), rule });
        }
    }
    Ok(symbols)
}

/// A product of a venue as the gateway writes it: `BTC/USD` for `BTC-USD`. The gateway's simulator has the same ones.
fn gateway_name(product: &str) -> String {
    product.replace('-', "/")
}

/// `S{:03}/USD` and 7 make `S007/USD`.
fn named(pattern: &str, number: u32) -> Result<String, ScenarioError> {
    let wrong = || ScenarioError::Text {
        key: "symbol-pattern",
        value: pattern.to_owned(),
        rule: "one {} or {:0W} is wanted, W from 1 to 9",
    };
    let (before, rest) = pattern.split_once('{').ok_or_else(wrong)?;
    let (format, after) = rest.split_once('}').ok_or_else(wrong)?;
    let width = match format {
        "" => 1,
        _ => {
            let width = format.strip_prefix(":0").and_then(|width| width.parse::<usize>().ok()).ok_or_else(wrong)?;
            if (1..=9).contains(&width) { width } else { return Err(wrong()) }
        }
    };
    Ok(format!("{before}{number:0width$}{after}").to_ascii_uppercase())
}

impl Scenario {
    fn check(&self) -> Result<(), ScenarioError> {
        let unless = |held: bool, key, value: String, rule| {
            if held { Ok(()) } else { Err(ScenarioError::OutOfRange { key, value, rule }) }
        };
        let positive =
            |key, value: f64| unless(value.is_finite() && value > 0.0, key, value.to_string(), "more than 0 is wanted");
        let share = |key, value: f64| {
            unless((0.0..=1.0).contains(&value), key, value.to_string(), "a share from 0 to 1 is wanted")
        };
        unless(
            (1..=10_000_000).contains(&self.clients),
            "clients",
            self.clients.to_string(),
            "1 to 10000000 are wanted",
        )?;
        unless(self.duration_ns > 0, "duration", "0".to_owned(), "more than 0 is wanted")?;
        unless(self.check_every > 0, "check-every", "0".to_owned(), "at least 1 is wanted")?;
        unless(self.workers != Some(0), "workers", "0".to_owned(), "at least 1 is wanted")?;
        unless(self.sources != Some(0), "sources", "0".to_owned(), "at least 1 is wanted")?;
        unless(!self.interest.channels.is_empty(), "channel", String::new(), "at least one is wanted")?;
        let wild = self.interest.basket == Basket::Wildcard;
        unless(wild || !self.interest.symbols.is_empty(), "symbols", "0".to_owned(), "at least one is wanted")?;
        if wild {
            let rule = "* cannot stand beside symbols";
            unless(self.interest.symbols.is_empty(), "symbol", self.interest.symbols.join(" "), rule)?;
            let rule = "* leaves nothing to change";
            unless(self.kind != Kind::Churn, "symbol", "*".to_owned(), rule)?;
        }
        if let Basket::Drawn { each, exponent } = self.interest.basket {
            unless(each > 0, "symbols-each", each.to_string(), "at least 1 is wanted")?;
            let range = (0.0..=10.0).contains(&exponent);
            unless(range, "zipf", exponent.to_string(), "0 to 10 is wanted")?;
        }
        if let Some(max_rate) = self.interest.max_rate {
            let range = protocol::command::MAX_RATE.contains(&max_rate);
            unless(range, "max-rate", max_rate.to_string(), "0.01 to 1000 is wanted")?;
        }
        positive("ramp", self.ramp)?;
        positive("rate", self.rate)?;
        share("share", self.stall_share)?;
        share("cut-share", self.cut_share)?;
        unless(self.cut_every_ns > 0, "cut-every", "0".to_owned(), "more than 0 is wanted")?;
        unless(self.every_ns > 0, "every", "0".to_owned(), "more than 0 is wanted")?;
        if self.kind == Kind::Rights {
            let range = (1..=self.clients).contains(&self.users);
            unless(range, "users", self.users.to_string(), "1 to as many as clients are wanted")?;
        }
        if self.kind == Kind::FindMax {
            positive("lowest", self.lowest)?;
            let rule = "at least as much as lowest is wanted";
            unless(self.highest >= self.lowest && self.highest.is_finite(), "highest", self.highest.to_string(), rule)?;
            unless(self.factor > 1.0, "factor", self.factor.to_string(), "more than 1 is wanted")?;
            unless(self.step_ns > 0, "step", "0".to_owned(), "more than 0 is wanted")?;
            let range = (0.001..=1.0).contains(&self.precision);
            unless(range, "precision", self.precision.to_string(), "0.001 to 1 is wanted")?;
        }
        Ok(())
    }

    /// Most clients that are there at a time.
    pub fn clients_max(&self) -> u64 {
        match (self.kind, self.raise) {
            (Kind::FindMax, Raise::Clients) => self.highest.ceil() as u64,
            _ => self.clients,
        }
    }
}
