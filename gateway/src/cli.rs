//! The command line: from arguments to a [`Command`], and the commands that end by themselves.
//!
//! Deliberately absent: settings. Apart from `--replay` and its companions, which are for trying things out,
//! every setting is a key of the configuration.

mod entitlement;
mod kafka;
mod key;
mod store;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand};
use entitlements::{IssueError, is_user_id};
use feed_handlers::source::Capture;

pub use self::entitlement::{Action as EntitlementAction, entitlement};
pub use self::kafka::{Action as KafkaAction, kafka_command};
pub use self::key::{KeyRequest, key};
use crate::config::{Config, ConfigError, FeedKind, ReplayOptions, Speed, parse_duration};
use crate::demo::state_directory;
use crate::door::{Entrance, UserStore, unix_seconds};
use crate::metrics::Metrics;
use crate::platform::kafka::client;
use crate::transport::tls::Certificates;

/// Exit status for wrong usage and wrong configuration: `EX_USAGE` of sysexits.h.
pub const EXIT_USAGE: u8 = 64;

/// What the user asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Run until told to stop.
    Run(Settings),
    /// Check the configuration and the files it names, and print what is in effect.
    CheckConfig(Settings),
    /// Print a token for a user.
    Token { settings: Settings, user: Arc<str>, ttl: Duration },
    /// Make an API key for a user.
    Key { settings: Settings, request: KeyRequest },
    /// Look at what is kept in Redis, or change it.
    Entitlement { settings: Settings, action: EntitlementAction },
    /// Look at the platform's Kafka, or create its topics.
    Kafka { settings: Settings, action: KafkaAction },
    /// Look at one source.
    FeedCheck { settings: Settings, name: String, duration: Duration },
}

/// Where the configuration comes from, beside the environment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    pub file: Option<PathBuf>,
    pub replay: Option<ReplayOptions>,
}

impl Settings {
    /// Reads the configuration with this process's environment.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load(&self) -> Result<Config, ConfigError> {
        let text = |s: OsString| s.to_string_lossy().into_owned();
        let environment = std::env::vars_os().map(|(name, value)| (text(name), text(value)));
        Config::load(self.file.as_deref(), environment, self.replay.as_ref())
    }
}

#[derive(Parser)]
#[command(
    name = "gateway",
    version,
    about = "Pushes market ticks to entitled clients.",
    after_help = "Without a configuration it runs a simulated market for three demo users on loopback.\n\
                  Every key of the configuration can be set by the environment: GATEWAY_SERVER__LISTEN=127.0.0.1:8080.",
    args_conflicts_with_subcommands = true
)]
struct Arguments {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    run: RunArguments,
}

#[derive(Subcommand)]
enum Action {
    /// Run the gateway; what happens without a command, too
    Run(RunArguments),
    /// Check the configuration and the files it names, and print what is in effect
    CheckConfig(ConfigArguments),
    /// Print a token for a user, and nothing else
    Token(TokenArguments),
    /// Look at the sources of market data
    #[command(subcommand)]
    Feed(FeedAction),
    /// Make an API key for a user: prints the secret, once, and the lines for the users file, where there is no store in
    /// Redis to put it into
    Key {
        #[command(flatten)]
        config: ConfigArguments,
        #[command(flatten)]
        request: KeyRequest,
    },
    /// Change users' records, blocks and denied tokens in the store in Redis, of which the gateways hear at once
    Entitlement {
        /// The configuration, a TOML file
        #[arg(long, value_name = "FILE", global = true)]
        config: Option<PathBuf>,
        #[command(subcommand)]
        action: EntitlementAction,
    },
    /// Look at the platform's Kafka, or create its topics
    Kafka {
        /// The configuration, a TOML file
        #[arg(long, value_name = "FILE", global = true)]
        config: Option<PathBuf>,
        #[command(subcommand)]
        action: KafkaAction,
    },
}

#[derive(Subcommand)]
enum FeedAction {
    /// Connect to one source, print what it sees, and explain what is wrong when it cannot
    Check {
        #[command(flatten)]
        config: ConfigArguments,
        /// The source as clients see it, such as KRAKEN
        name: String,
        /// How long to look
        #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "10s")]
        duration: Duration,
    },
}

#[derive(Args)]
struct ConfigArguments {
    /// The configuration, a TOML file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Args)]
struct RunArguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// Replay a capture of the venue instead of the configured feed
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,
    /// How fast to replay: so many times real time, or max
    #[arg(long, value_name = "1|10|max", requires = "replay")]
    speed: Option<Speed>,
    /// Start the replay again at its end
    #[arg(long = "loop", requires = "replay")]
    repeat: bool,
    /// Hold the replay until so many clients have subscribed
    #[arg(long, value_name = "N", requires = "replay")]
    after_clients: Option<usize>,
}

#[derive(Args)]
struct TokenArguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// The user's id
    #[arg(long, value_name = "NAME", value_parser = user_id)]
    user: Arc<str>,
    /// How long the token holds, such as 1h or 15m
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "1h")]
    ttl: Duration,
}

impl From<ConfigArguments> for Settings {
    fn from(arguments: ConfigArguments) -> Settings {
        Settings { file: arguments.config, replay: None }
    }
}

impl From<RunArguments> for Settings {
    fn from(arguments: RunArguments) -> Settings {
        let RunArguments { config, replay, speed, repeat, after_clients } = arguments;
        let replay = replay.map(|file| ReplayOptions { file, speed, repeat, after_clients });
        Settings { file: config.config, replay }
    }
}

/// A user's id, checked before it is asked for.
fn user_id(text: &str) -> Result<Arc<str>, &'static str> {
    if is_user_id(text) { Ok(text.into()) } else { Err("expected 1 to 128 visible ASCII characters without braces") }
}

/// What is said of a user whom the store does not know.
fn no_record(user: &str) -> String {
    format!("there is no record of {user}")
}

/// Turns the process's arguments, its name first, into a command.
///
/// # Errors
/// What clap has to say instead: wrong usage, but also the help and the version that were asked for. Print it
/// with [`clap::Error::print`]; [`clap::Error::use_stderr`] tells the two apart.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, clap::Error> {
    let arguments = Arguments::try_parse_from(arguments)?;
    Ok(match arguments.action {
        None => Command::Run(arguments.run.into()),
        Some(Action::Run(run)) => Command::Run(run.into()),
        Some(Action::Feed(FeedAction::Check { config, name, duration })) => {
            Command::FeedCheck { settings: config.into(), name, duration }
        }
        Some(Action::CheckConfig(config)) => Command::CheckConfig(config.into()),
        Some(Action::Token(TokenArguments { config, user, ttl })) => {
            Command::Token { settings: config.into(), user, ttl }
        }
        Some(Action::Key { config, request }) => Command::Key { settings: config.into(), request },
        Some(Action::Entitlement { config, action }) => {
            Command::Entitlement { settings: Settings { file: config, replay: None }, action }
        }
        Some(Action::Kafka { config, action }) => {
            Command::Kafka { settings: Settings { file: config, replay: None }, action }
        }
    })
}

/// The effective configuration, once it and the files that it names are found good.
///
/// # Errors
/// [`ConfigError`] names the keys that are not.
pub fn check_config(config: &Config) -> Result<String, ConfigError> {
    // No state directory: a check leaves nothing behind.
    Entrance::open(config, None, &Metrics::new())?;
    Certificates::open(&config.server.tls)?;
    if config.kafka.is_used() {
        client(&config.kafka)?;
    }
    if let (FeedKind::Replay, Some(file)) = (config.feed.kind, &config.feed.replay.file) {
        Capture::open(file, |_| ()).map_err(|e| ConfigError::of("feed.replay.file", e))?;
    }
    Ok(config.to_toml())
}

/// A token for `user` that a gateway of the same configuration accepts.
///
/// # Errors
/// [`ConfigError`] as at the start of the gateway; other errors where there is no such user, no key to sign
/// with, the store in Redis is away, or the demo's secret cannot be shared with the gateway.
pub fn token(config: &Config, state: Option<&Path>, user: &str, ttl: Duration) -> anyhow::Result<String> {
    let entrance = Entrance::open(&store::patient(config), state, &Metrics::new())?;
    if let Some(reason) = entrance.demo.and_then(|demo| demo.ephemeral) {
        bail!("the secret of the demo users cannot be kept, so no gateway would know this token: {reason}");
    }
    let issued = async {
        entrance.door.issue(user, ttl, unix_seconds()).await.map_err(|error| match error {
            IssueError::Store(error) => error.into(),
            error => anyhow::Error::from(error),
        })
    };
    let token = match &entrance.users {
        UserStore::Embedded(_) => block_on(issued)?,
        UserStore::Redis(redis) => store::ask(redis, &config.entitlements.redis, issued),
    };
    token.context("no token")
}

/// Waits for a store's answer.
fn block_on<T>(answer: impl Future<Output = T>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(answer))
}

/// The state directory of whoever runs this process.
pub fn state() -> Option<PathBuf> {
    state_directory(|name| std::env::var_os(name))
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use entitlements::{Credentials, Door, Embedded, Kinds, Principal, Tiers, TokenRules, Tokens, Users};
    use protocol::ChannelKind;

    use super::*;

    fn parsed(line: &str) -> Result<Command, clap::Error> {
        parse(line.split(' ').map(OsString::from))
    }

    fn sign_in(door: &Door, credentials: &Credentials) -> Arc<Principal> {
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        block_on(door.sign_in(credentials, address, unix_seconds())).unwrap().unwrap()
    }

    #[track_caller]
    fn check(line: &str, expected: Command) {
        assert_eq!(parsed(line).unwrap(), expected, "{line}");
    }

    #[test]
    fn arguments_become_commands() {
        let file = |name: &str| Settings { file: Some(name.into()), replay: None };
        let replay = |speed, repeat, after_clients| Settings {
            file: None,
            replay: Some(ReplayOptions { file: "cap.txt".into(), speed, repeat, after_clients }),
        };
        check("gateway", Command::Run(Settings::default()));
        check("gateway run", Command::Run(Settings::default()));
        check("gateway --config g.toml", Command::Run(file("g.toml")));
        check("gateway run --config g.toml", Command::Run(file("g.toml")));
        check("gateway --replay cap.txt", Command::Run(replay(None, false, None)));
        check(
            "gateway --replay cap.txt --speed max --loop --after-clients 3",
            Command::Run(replay(Some(Speed::Max), true, Some(3))),
        );
        check("gateway run --replay cap.txt --speed 10", Command::Run(replay(Some(Speed::Times(10.0)), false, None)));
        check("gateway check-config --config g.toml", Command::CheckConfig(file("g.toml")));
        let ttl = Duration::from_secs(90 * 60);
        let user: Arc<str> = "demo-free".into();
        check(
            "gateway token --user demo-free --ttl 90m",
            Command::Token { settings: Settings::default(), user: user.clone(), ttl },
        );
        let request = KeyRequest { user: user.clone(), scopes: None, ttl: None };
        check("gateway key --user demo-free", Command::Key { settings: Settings::default(), request: request.clone() });
        check(
            "gateway key --user demo-free --ttl 90m --config g.toml",
            Command::Key { settings: file("g.toml"), request: KeyRequest { ttl: Some(ttl), ..request } },
        );
        for line in
            ["gateway entitlement --config g.toml show demo-free", "gateway entitlement show demo-free --config g.toml"]
        {
            let action = EntitlementAction::Show { user: entitlement::OfUser { user: user.clone() } };
            check(line, Command::Entitlement { settings: file("g.toml"), action });
        }
    }

    #[test]
    fn wrong_usage_is_told_apart_from_help() {
        for line in [
            "gateway fly",
            "gateway --speed max",
            "gateway --replay f --speed fast",
            "gateway --replay f --speed 0",
            "gateway --replay f --after-clients -1",
            "gateway token --ttl 1h",
            "gateway token --user u --ttl 1",
            "gateway token --user {u}",
            "gateway key",
            "gateway key --user u} --ttl 90d",
            "gateway key --user u --scopes books",
            "gateway entitlement",
            "gateway entitlement show",
            "gateway entitlement show {u}",
            "gateway entitlement set u --tier gold",
            "gateway entitlement set u --version 0",
            "gateway entitlement set u --version 9007199254740992",
            "gateway entitlement set u --max-channels 0",
            "gateway entitlement block",
            "gateway entitlement block u --address 192.0.2.7 --reason r",
            "gateway entitlement block u --reason r",
            "gateway entitlement block --address 192.0.2.7",
            "gateway entitlement block --address 192.0.2 --reason r",
            "gateway entitlement unblock",
            "gateway entitlement unblock u --address 192.0.2.7",
            "gateway entitlement deny-token --hash 00 --ttl 1h",
            "gateway entitlement deny-token a.b.c",
            "gateway --config",
        ] {
            let error = parsed(line).unwrap_err();
            assert!(error.use_stderr(), "{line}: {error}");
        }
        for line in ["gateway --help", "gateway --version", "gateway token --help", "gateway entitlement set --help"] {
            assert!(!parsed(line).unwrap_err().use_stderr(), "{line}");
        }
    }

    #[test]
    fn a_key_comes_with_the_lines_for_its_user() {
        let scopes = Some(Kinds::NONE.with(ChannelKind::Trades));
        let request = KeyRequest { user: "alice".into(), scopes, ttl: Some(Duration::from_secs(90 * 86_400)) };
        let text = key(&Config::default(), &request).unwrap();
        let shown = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
        let credentials = Credentials::Key { key: shown("# key"), secret: shown("# secret") };
        let alice = "[[users]]\nid = \"alice\"\ntier = \"premium\"\nstatus = \"active\"\ncategories = []\n";
        let users = Users::parse(&format!("{alice}{text}")).unwrap();
        let tokens = Tokens::new(Vec::new(), TokenRules::default()).unwrap();
        let door = Door::new(Arc::new(Embedded::of(users)), tokens, Tiers::default());
        let principal = sign_in(&door, &credentials);
        assert_eq!(&**principal.user(), "alice");
        let expected = unix_seconds() + 90 * 86_400;
        assert!((expected - 60..=expected).contains(&principal.expires_at().unwrap()), "{text}");
        assert!(text.ends_with("Z\n") && text.contains("scopes = [\"trades\"]\n"), "{text}");
        let secret = shown("# secret");
        let elsewhere = text.lines().filter(|line| !line.starts_with('#')).any(|line| line.contains(&secret));
        assert!(!elsewhere, "the file's lines hold no secret");
    }

    #[test]
    fn a_token_opens_the_door_of_another_process() {
        let state = std::env::temp_dir().join(format!("gateway-cli-{}", std::process::id()));
        let config = Config::default();
        let token = token(&config, Some(&state), "demo-premium", Duration::from_secs(60)).unwrap();
        let other = Entrance::open(&config, Some(&state), &Metrics::new()).unwrap();
        let principal = sign_in(&other.door, &Credentials::Token(token));
        assert_eq!(&**principal.user(), "demo-premium");
        for user in other.credentials().unwrap() {
            for credentials in [Credentials::Token(user.token), Credentials::Key { key: user.key, secret: user.secret }]
            {
                assert_eq!(**sign_in(&other.door, &credentials).user(), *user.user);
            }
        }
        std::fs::remove_dir_all(&state).unwrap();
    }

    #[test]
    fn no_token_is_made_that_nobody_would_take() {
        let config = Config::default();
        let ttl = Duration::from_secs(60);
        let error = token(&config, None, "demo-premium", ttl).unwrap_err().to_string();
        assert!(error.contains("cannot be kept"), "{error}");
        let state = std::env::temp_dir().join(format!("gateway-cli-nobody-{}", std::process::id()));
        let error = format!("{:#}", token(&config, Some(&state), "nobody", ttl).unwrap_err());
        assert!(error.contains("nobody"), "{error}");
        std::fs::remove_dir_all(&state).unwrap();
    }

    #[test]
    fn a_check_reads_the_files_that_are_named() {
        let mut config = Config::default();
        assert!(check_config(&config).unwrap().starts_with("[server]"));
        config.feed.kind = FeedKind::Replay;
        config.feed.replay.file = Some("/nonexistent/capture".into());
        let problem = |config: &Config| check_config(config).unwrap_err().problems[0].key.clone();
        assert_eq!(problem(&config), "feed.replay.file");
        config.entitlements.users = Some("/nonexistent/users".into());
        assert_eq!(problem(&config), "entitlements.users");
    }
}
