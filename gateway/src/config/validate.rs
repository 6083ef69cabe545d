//! Checks that a type alone cannot make: ranges, and keys that must fit each other.
//!
//! All problems are collected, so that one run shows them all. Nothing here touches a file or a socket.

use std::collections::HashSet;
use std::fmt::{Debug, Display};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use entitlements::Algorithm;
use feed_handlers::venue::Venue;
use http::Uri;

use super::{
    AuditSink, Coinbase, Config, ConfigError, FeedKind, Problem, ProxyProtocol, RedisMode, Symbols, format_bytes,
    format_duration,
};

const MS: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// Sources: what the id of one holds.
const SOURCES_MAX: usize = 256;
/// Longest name of a source, so that most instruments can be asked for with it.
const NAME_BYTES_MAX: usize = 20;

/// Most entries of a list in `[server]`.
const LISTED_MAX: usize = 1_000;
/// Longest part of a `User-Agent` to look for.
const AGENT_BYTES_MAX: usize = 256;

/// Collects problems by key.
#[derive(Default)]
struct Findings(Vec<Problem>);

impl Findings {
    fn add(&mut self, key: &str, message: impl Display) {
        self.0.extend(ConfigError::of(key, message).problems);
    }

    fn require(&mut self, ok: bool, key: &str, message: impl Display) {
        if !ok {
            self.add(key, message);
        }
    }

    fn range<T: PartialOrd + Debug>(&mut self, key: &str, value: T, allowed: RangeInclusive<T>) {
        let (low, high) = (allowed.start(), allowed.end());
        self.require(allowed.contains(&value), key, format_args!("{value:?} is not between {low:?} and {high:?}"));
    }

    fn duration(&mut self, key: &str, value: Duration, allowed: RangeInclusive<Duration>) {
        let [value_text, low, high] = [value, *allowed.start(), *allowed.end()].map(format_duration);
        self.require(allowed.contains(&value), key, format_args!("{value_text} is not between {low} and {high}"));
    }

    fn bytes(&mut self, key: &str, value: usize, allowed: RangeInclusive<usize>) {
        let [value_text, low, high] = [value, *allowed.start(), *allowed.end()].map(format_bytes);
        self.require(allowed.contains(&value), key, format_args!("{value_text} is not between {low} and {high}"));
    }
}

impl Config {
    /// Checks ranges, and keys against each other.
    ///
    /// # Errors
    /// [`ConfigError`] with every problem found.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let mut found = Findings::default();
        self.check_server(&mut found);
        self.check_sessions(&mut found);
        self.check_memory(&mut found);
        self.check_feed(&mut found);
        self.check_entitlements(&mut found);
        if found.0.is_empty() { Ok(()) } else { Err(ConfigError { problems: found.0 }) }
    }

    fn check_server(&self, found: &mut Findings) {
        let server = &self.server;
        let somewhere = !server.listen.is_empty() || !server.tls.listen.is_empty();
        found.require(somewhere, "server.listen", "needs at least one address, or server.tls.listen does");
        let mut taken: Vec<SocketAddr> = Vec::new();
        for (key, listen) in [
            ("server.listen", &server.listen),
            ("server.tls.listen", &server.tls.listen),
            ("admin.listen", &self.admin.listen),
        ] {
            for address in listen {
                // Port 0 asks the system for a free one, so it may stand there twice.
                found.require(
                    !taken.contains(address) || address.port() == 0,
                    key,
                    format_args!("{address} is there twice"),
                );
                taken.push(*address);
            }
        }
        for (key, file) in [
            ("server.tls.certificate_file", &server.tls.certificate_file),
            ("server.tls.key_file", &server.tls.key_file),
        ] {
            let needed = !server.tls.listen.is_empty();
            found.require(file.is_some() || !needed, key, "is missing, and server.tls.listen has addresses");
            // Somebody who names a certificate believes that clients connect over TLS.
            found.require(file.is_none() || needed, key, "is of no use while server.tls.listen has no address");
        }
        found.range("server.shards", server.shards, 0..=256);
        found.duration("server.handshake_timeout", server.handshake_timeout, 100 * MS..=HOUR);
        found.duration("server.auth_timeout", server.auth_timeout, 100 * MS..=HOUR);
        found.range("server.handshakes_max", server.handshakes_max, 1..=1_000_000);
        found.range("server.connections_per_address", server.connections_per_address, 1..=10_000_000);
        found.bytes("server.message_bytes_max", server.message_bytes_max, 1 << 10..=16 << 20);
        self.check_clients(found);
    }

    /// Which clients are let near.
    fn check_clients(&self, found: &mut Findings) {
        let server = &self.server;
        for agent in &server.suspicious_agents {
            // An empty one would be part of every name.
            let fits = (1..=AGENT_BYTES_MAX).contains(&agent.len());
            let shown = agent.escape_debug();
            found.require(
                fits,
                "server.suspicious_agents",
                format_args!("`{shown}` does not have 1 to {AGENT_BYTES_MAX} bytes"),
            );
        }
        for origin in &server.origins {
            let shown = origin.escape_debug();
            found.require(
                is_origin(origin),
                "server.origins",
                format_args!("`{shown}` is no origin such as https://app.example.com"),
            );
        }
        for (key, count) in [
            ("server.suspicious_agents", server.suspicious_agents.len()),
            ("server.origins", server.origins.len()),
            ("server.trusted_proxies", server.trusted_proxies.len()),
        ] {
            // Each is looked through for every request.
            found.range(key, count, 0..=LISTED_MAX);
        }
        let nobody = server.proxy_protocol == ProxyProtocol::V2 && server.trusted_proxies.is_empty();
        found.require(!nobody, "server.proxy_protocol", "is of no use while server.trusted_proxies is empty");
    }

    fn check_sessions(&self, found: &mut Findings) {
        let session = &self.session;
        found.duration("session.heartbeat", session.heartbeat, 100 * MS..=HOUR);
        found.bytes("session.unsent_bytes_max", session.unsent_bytes_max, 4 << 10..=64 << 20);
        found.bytes("session.control_bytes_max", session.control_bytes_max, 4 << 10..=64 << 20);
        found.duration("session.stall_timeout", session.stall_timeout, 1_000 * MS..=DAY);
        found.range("session.requests_per_second", session.requests_per_second, 1..=1_000_000);
        found.range("session.requests_burst", session.requests_burst, 1..=1_000_000);
        found.require(
            session.requests_burst >= session.requests_per_second,
            "session.requests_burst",
            "is less than session.requests_per_second",
        );
        found.duration("drain.timeout", self.drain.timeout, Duration::ZERO..=HOUR);
        let ordered = self.drain.spread <= self.drain.timeout;
        found.require(ordered, "drain.spread", "is longer than drain.timeout");
        if let Err(e) = crate::logging::filter(&self.log) {
            found.add("log.level", e);
        }
    }

    fn check_memory(&self, found: &mut Findings) {
        let (fanout, sequencer) = (&self.fanout, &self.sequencer);
        found.bytes("fanout.segment_bytes_max", fanout.segment_bytes_max, 4 << 10..=16 << 20);
        found.bytes("fanout.retain_bytes", fanout.retain_bytes, 1 << 20..=1 << 40);
        // The log is cut by whole segments; with fewer than two it would hold nothing while one is filled.
        found.require(
            fanout.retain_bytes / 2 >= fanout.segment_bytes_max,
            "fanout.retain_bytes",
            "is less than twice fanout.segment_bytes_max",
        );
        found.duration("fanout.round_max", fanout.round_max, Duration::ZERO..=Duration::from_secs(1));
        found.range("fanout.shard_queue", fanout.shard_queue, 2..=1 << 20);
        found.range("fanout.instruments_max", fanout.instruments_max, 1..=1 << 20);
        found.duration("sequencer.delay", sequencer.delay(), Duration::ZERO..=DAY);
        found.bytes("sequencer.delay_bytes_max", sequencer.delay_bytes_max, 1 << 20..=1 << 40);
        found.duration("sequencer.bar_lateness", sequencer.bar_lateness, Duration::ZERO..=HOUR);
        found.bytes("audit.file_bytes_max", self.audit.file_bytes_max, 1 << 20..=1 << 40);
        found.bytes("dead_letters.file_bytes_max", self.dead_letters.file_bytes_max, 1 << 20..=1 << 40);
        found.range("feed.ring_capacity", self.feed.ring_capacity, 1 << 10..=1 << 24);
    }

    fn check_feed(&self, found: &mut Findings) {
        self.check_simulator(found);
        let (limits, arbitration) = (&self.feed.limits, &self.feed.arbitration);
        found.duration("feed.limits.future_max", limits.future_max, Duration::ZERO..=DAY);
        found.duration("feed.limits.age_max", limits.age_max, 1_000 * MS..=36_500 * DAY);
        found.range("feed.limits.outlier_ratio", limits.outlier_ratio, 0.000_001..=1e9);
        found.duration("feed.arbitration.stale_after", arbitration.stale_after, 10 * MS..=DAY);
        found.duration("feed.arbitration.fail_back_after", arbitration.fail_back_after, Duration::ZERO..=DAY);
        let (replay, coinbase) = (&self.feed.replay, &self.feed.coinbase);
        if self.feed.kind == FeedKind::Replay {
            found.require(replay.file.is_some(), "feed.replay.file", "is missing, and feed.kind is \"replay\"");
        }
        self.check_sources(found);
        found.range("feed.replay.after_clients", replay.after_clients, 0..=10_000_000);
        found.duration("feed.coinbase.silence_timeout", coinbase.silence_timeout, 1_000 * MS..=HOUR);
        found.require(
            is_websocket_url(coinbase),
            "feed.coinbase.url",
            format_args!("`{}` is no WebSocket address: write ws://HOST or wss://HOST", coinbase.url),
        );
        self.check_names(found, FeedKind::Coinbase, "feed.coinbase.products", &coinbase.products, '-');
    }

    /// What the sources themselves cannot know: whether they go together.
    fn check_sources(&self, found: &mut Findings) {
        let sources = &self.feed.sources;
        if self.feed.kind == FeedKind::Live {
            found.range("feed.sources", sources.len(), 1..=SOURCES_MAX);
        }
        let mut seen = HashSet::new();
        for (i, source) in sources.iter().enumerate() {
            if self.feed.kind == FeedKind::Live && source.venue == Venue::Kafka {
                let key = format!("feed.sources[{i}].venue");
                found.require(self.kafka.is_used(), &key, "is \"kafka\", and kafka.brokers names none");
            }
            let key = format!("feed.sources[{i}].name");
            let name = source.name();
            let allowed = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_');
            let is_name = (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(allowed);
            found.require(is_name, &key, format_args!("is not 1 to {NAME_BYTES_MAX} of A-Z, 0-9 and . - _"));
            found.require(seen.insert(name), &key, format_args!("`{}` is there twice", name.escape_debug()));
        }
    }

    fn check_simulator(&self, found: &mut Findings) {
        let simulator = &self.feed.simulator;
        let key = "feed.simulator.symbols";
        match &simulator.symbols {
            Symbols::Count(count) if self.feed.kind == FeedKind::Simulator => {
                found.range(key, *count, 1..=self.fanout.instruments_max);
            }
            Symbols::Count(_) => {}
            Symbols::List(symbols) => self.check_names(found, FeedKind::Simulator, key, symbols, '/'),
        }
        found.range("feed.simulator.rate", simulator.rate, 0.001..=10_000_000.0);
        found.range("feed.simulator.trade_share", simulator.trade_share, 0.0..=1.0);
        found.range("feed.simulator.zipf", simulator.zipf, 0.0..=10.0);
        // TOML's integers are signed, and the effective configuration is written as TOML.
        found.range("feed.simulator.seed", simulator.seed, 0..=i64::MAX as u64);
        let bursts = &simulator.bursts;
        found.range("feed.simulator.bursts.factor", bursts.factor, 1.0..=1_000_000.0);
        found.duration("feed.simulator.bursts.every", bursts.every, MS..=DAY);
        let ordered = bursts.length <= bursts.every;
        found.require(ordered, "feed.simulator.bursts.length", "is longer than feed.simulator.bursts.every");
    }

    fn check_entitlements(&self, found: &mut Findings) {
        let entitlements = &self.entitlements;
        found.duration("entitlements.leeway", entitlements.leeway, Duration::ZERO..=HOUR);
        // Tokens carry whole seconds.
        found.require(entitlements.leeway.subsec_nanos() == 0, "entitlements.leeway", "is not in whole seconds");
        found.range("entitlements.sign_ins.attempts_max", entitlements.sign_ins.attempts_max, 1..=10_000_000);
        self.check_redis(found);
        self.check_kafka(found);
        let jwks = &entitlements.jwks;
        found.duration("entitlements.jwks.refresh", jwks.refresh, 1_000 * MS..=DAY);
        found.duration("entitlements.jwks.cooldown", jwks.cooldown, Duration::ZERO..=DAY);
        found.duration("entitlements.jwks.stale_max", jwks.stale_max, Duration::ZERO..=30 * DAY);
        let tiers = &entitlements.tiers;
        for (name, limits) in [("free", tiers.free), ("premium", tiers.premium), ("enterprise", tiers.enterprise)] {
            let key = |limit| format!("entitlements.tiers.{name}.{limit}");
            found.range(&key("channels"), limits.channels, 1..=10_000_000);
            found.range(&key("connections"), limits.connections, 1..=10_000_000);
            // u32::MAX stands for no limit.
            found.range(&key("requests_per_minute"), limits.requests_per_minute, 1..=u32::MAX);
            found.range(&key("requests_per_hour"), limits.requests_per_hour, 1..=u32::MAX);
            found.range(&key("signals_per_hour"), limits.signals_per_hour, 1..=u32::MAX);
            found.range(&key("signals_per_day"), limits.signals_per_day, 1..=u32::MAX);
        }
        for (i, token_key) in entitlements.token_keys.iter().enumerate() {
            let key = |field| format!("entitlements.token_keys[{i}].{field}");
            found.require(!token_key.kid.is_empty(), &key("kid"), "is empty");
            let twice = entitlements.token_keys[..i].iter().any(|other| other.kid == token_key.kid);
            found.require(!twice, &key("kid"), format_args!("`{}` is there twice", token_key.kid));
            let (needed, other, has_needed, has_other) = match token_key.algorithm {
                Algorithm::HS256 => (
                    "secret_file",
                    "public_key_file",
                    token_key.secret_file.is_some(),
                    token_key.public_key_file.is_some(),
                ),
                Algorithm::RS256 | Algorithm::ES256 => (
                    "public_key_file",
                    "secret_file",
                    token_key.public_key_file.is_some(),
                    token_key.secret_file.is_some(),
                ),
            };
            found.require(has_needed, &key(needed), format_args!("is missing for {:?}", token_key.algorithm));
            found.require(!has_other, &key(other), format_args!("does not belong to {:?}", token_key.algorithm));
        }
        // Their credentials are printed at the start: nobody else's machine may reach them.
        for (key, listen) in [("server.listen", &self.server.listen), ("server.tls.listen", &self.server.tls.listen)] {
            let outside = listen.iter().find(|address| !address.ip().is_loopback());
            if let (true, Some(address)) = (self.is_demo(), outside) {
                found.add(
                    "entitlements.users",
                    format_args!(
                        "is needed because {key} has {address}: the demo users are for loopback addresses only"
                    ),
                );
            }
        }
    }

    fn check_kafka(&self, found: &mut Findings) {
        let kafka = &self.kafka;
        found.bytes("kafka.spool_bytes_max", kafka.spool_bytes_max, 1 << 20..=1 << 40);
        let to_kafka = self.audit.to == AuditSink::Kafka;
        found.require(kafka.is_used() || !to_kafka, "audit.to", "is \"kafka\", and kafka.brokers names none");
        let publishes = kafka.publish_market_data;
        found.require(
            kafka.is_used() || !publishes,
            "kafka.publish_market_data",
            "is set, and kafka.brokers names none",
        );
        if !kafka.is_used() {
            return;
        }
        let is_address = |broker: &str| {
            let port =
                broker.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port.parse::<u16>());
            matches!(port, Some(Ok(1..)))
        };
        for broker in kafka.brokers.iter().filter(|broker| !is_address(broker)) {
            found.require(false, "kafka.brokers", format_args!("`{broker}` is no HOST:PORT"));
        }
        found.require(!kafka.client_id.is_empty(), "kafka.client_id", "is empty");
        let confidence = (0.0..=100.0).contains(&kafka.confidence_above);
        found.require(confidence, "kafka.confidence_above", "is not from 0 to 100");
        found.require(!kafka.rights_group().is_empty(), "kafka.rights_group", "is empty");
        let (login, tls) = (kafka.security.has_login(), kafka.security.has_tls());
        for (key, is_there) in
            [("kafka.username", kafka.username.is_some()), ("kafka.password_file", kafka.password_file.is_some())]
        {
            found.require(is_there || !login, key, "is missing for security with a login");
            found.require(login || !is_there, key, "belongs to security = \"sasl-tls\" or \"sasl\"");
        }
        for (key, file) in [
            ("kafka.ca_file", &kafka.ca_file),
            ("kafka.certificate_file", &kafka.certificate_file),
            ("kafka.key_file", &kafka.key_file),
        ] {
            found.require(tls || file.is_none(), key, "belongs to security = \"tls\" or \"sasl-tls\"");
        }
        let both = kafka.certificate_file.is_some() == kafka.key_file.is_some();
        found.require(both, "kafka.certificate_file", "and key_file belong together");
        let topics = kafka.topics.all();
        for (i, (name, topic)) in topics.iter().enumerate() {
            let twice = topics[..i].iter().find(|(_, other)| other == topic);
            let (key, other) = (format!("kafka.topics.{name}"), twice.map_or("", |(other, _)| other));
            found.require(twice.is_none(), &key, format_args!("is the topic of {other} as well"));
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
            let is_name = (1..=249).contains(&topic.len()) && topic.bytes().all(fits) && ![".", ".."].contains(topic);
            found.require(is_name, &key, "is no name of a topic: 1 to 249 of a-z, A-Z, 0-9, . _ -");
        }
    }

    fn check_redis(&self, found: &mut Findings) {
        let redis = &self.entitlements.redis;
        found.duration("entitlements.redis.timeout", redis.timeout, 5 * MS..=10_000 * MS);
        found.duration("entitlements.redis.refresh", redis.refresh, 100 * MS..=HOUR);
        found.duration("entitlements.redis.lease", redis.lease, 1_000 * MS..=HOUR);
        found.duration("entitlements.redis.grace", redis.grace, Duration::ZERO..=DAY);
        if !redis.is_used() {
            return;
        }
        let with_users = self.entitlements.users.is_some();
        found.require(!with_users, "entitlements.users", "is of no use beside entitlements.redis, which has the users");
        let (sentinel, cluster) = (redis.mode == RedisMode::Sentinel, redis.mode == RedisMode::Cluster);
        let master = "entitlements.redis.master";
        found.require(redis.master.is_some() || !sentinel, master, "is missing for sentinels");
        found.require(redis.master.is_none() || sentinel, master, "belongs to mode = \"sentinel\"");
        found.require(
            redis.hash_tags || !cluster,
            "entitlements.redis.hash_tags",
            "cannot be off in a cluster, where one user's keys have to be in one slot",
        );
        let login = redis.sentinel_username.is_some() || redis.sentinel_password_file.is_some();
        found.require(
            sentinel || !login,
            "entitlements.redis.sentinel_password_file",
            "and sentinel_username belong to mode = \"sentinel\"",
        );
        let tls = redis.urls.iter().any(|url| url.as_str().starts_with("rediss:"));
        let files = [
            ("entitlements.redis.ca_file", &redis.ca_file),
            ("entitlements.redis.certificate_file", &redis.certificate_file),
            ("entitlements.redis.key_file", &redis.key_file),
        ];
        for (key, file) in files {
            found.require(tls || file.is_none(), key, "belongs to addresses with rediss://");
        }
        let both = redis.certificate_file.is_some() == redis.key_file.is_some();
        found.require(both, "entitlements.redis.certificate_file", "and key_file belong together");
        let same = redis.urls.iter().all(|url| url.as_str().starts_with("rediss:") == tls);
        found.require(same, "entitlements.redis.urls", "mixes redis:// and rediss://");
        let single = redis.mode == RedisMode::Single && redis.urls.len() > 1;
        found.require(
            !single,
            "entitlements.redis.urls",
            "has several addresses: mode is \"cluster\" or \"sentinel\" then",
        );
    }

    /// The instruments of a kind of feed: each well formed and there once. Where that feed is the one that
    /// is used, there is at least one and no more than can be known.
    fn check_names(&self, found: &mut Findings, kind: FeedKind, key: &str, names: &[String], mark: char) {
        let most = self.fanout.instruments_max;
        if self.feed.kind == kind {
            found.require(!names.is_empty(), key, "is empty");
            found.require(names.len() <= most, key, format_args!("has more than fanout.instruments_max, {most}"));
        }
        let mut seen = HashSet::new();
        for name in names {
            let shown = name.escape_debug();
            found.require(is_product(name, mark), key, format_args!("`{shown}` is no pair such as BTC{mark}USD"));
            found.require(seen.insert(name), key, format_args!("`{shown}` is there twice"));
        }
    }
}

/// Two currencies around a mark; what the instrument table takes once the mark is a slash.
fn is_product(text: &str, mark: char) -> bool {
    let part = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
    text.len() <= 32 && text.split_once(mark).is_some_and(|(base, quote)| part(base) && part(quote))
}

/// As browsers write it: a scheme, a host, and a port where it is not the scheme's own.
fn is_origin(text: &str) -> bool {
    let uri = text.parse::<Uri>();
    uri.is_ok_and(|uri| uri.scheme().is_some() && uri.host().is_some_and(|host| !host.is_empty()) && uri.path() == "/")
        && !text.ends_with('/')
        && !text.contains(['?', '#', '@'])
}

fn is_websocket_url(coinbase: &Coinbase) -> bool {
    let uri = coinbase.url.expose().parse::<Uri>();
    uri.is_ok_and(|uri| {
        matches!(uri.scheme_str(), Some("ws" | "wss")) && uri.host().is_some_and(|host| !host.is_empty())
    })
}
