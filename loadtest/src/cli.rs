//! The command line. Parsed on the main thread, once. Deliberately absent: what the settings mean, which is `scenario`'s.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::compare::CompareArgs;
use crate::orders::Credentials;
use crate::report::Outputs;
use crate::scenario::{Kind, Wishes};

const AFTER: &str = "Exit status: 0 thresholds held, 1 one broke, 2 the figures must not be believed, 64 wrong arguments, \
                     69 the target is not there or says no, 70 internal error, 71 not enough descriptors or ports, \
                     130 interrupted.";

/// Load tests for the signal gateway: very many clients, each of which checks every message that it gets.
#[derive(Debug, Parser)]
#[command(name = "loadtest", version, after_help = AFTER, max_term_width = 110)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Clients connect at a steady rate, then all at once: handshakes a second, time to the first message.
    Connect(Box<Run>),
    /// Clients sit on a quiet subscription: memory for each (give --pid or --metrics).
    Idle(Box<Run>),
    /// Everybody is on the same channel: latency, losses, processor time for each message.
    Broadcast(Box<Run>),
    /// Each client has some of many symbols, the popular ones more often.
    Watchlist(Box<Run>),
    /// Sequenced channels: order, gaps, duplicates; clients are cut and have to go on where they were.
    Signals(Box<Run>),
    /// A share of the clients stops reading: the others must not notice, and the stalled must lose nothing unsaid.
    Slow(Box<Run>),
    /// Subscribe and unsubscribe commands at a steady rate.
    Churn(Box<Run>),
    /// Everybody drops at once and returns with `since`.
    Reconnect(Box<Run>),
    /// Users' rights change in Redis, as a platform changes them: how soon live sessions are told.
    Rights(Box<Run>),
    /// A long run in phases: does anything creep?
    Soak(Box<Run>),
    /// Raises clients or rate until a limit breaks, and says where.
    FindMax(Box<Run>),
    /// Sets two runs side by side.
    Compare(CompareArgs),
    /// A venue for the gateway's live feed: ticks on a schedule that does not bend.
    Venue(VenueArgs),
    /// Started by the other subcommands.
    #[command(hide = true)]
    Worker,
}

impl Command {
    /// The run that a subcommand asks for.
    pub fn run(self) -> Result<(Kind, Box<Run>), Command> {
        Ok(match self {
            Command::Connect(run) => (Kind::Connect, run),
            Command::Idle(run) => (Kind::Idle, run),
            Command::Broadcast(run) => (Kind::Broadcast, run),
            Command::Watchlist(run) => (Kind::Watchlist, run),
            Command::Signals(run) => (Kind::Signals, run),
            Command::Slow(run) => (Kind::Slow, run),
            Command::Churn(run) => (Kind::Churn, run),
            Command::Reconnect(run) => (Kind::Reconnect, run),
            Command::Rights(run) => (Kind::Rights, run),
            Command::Soak(run) => (Kind::Soak, run),
            Command::FindMax(run) => (Kind::FindMax, run),
            other => return Err(other),
        })
    }
}

#[derive(Debug, Args)]
pub struct Run {
    /// A TOML file with the same settings, thresholds in a table [thresholds]; flags win over it.
    #[arg(long, value_name = "FILE")]
    pub scenario: Option<PathBuf>,
    #[command(flatten)]
    pub wishes: Wishes,
    #[command(flatten)]
    pub identity: Identity,
    /// Write the report as JSON; - for standard output.
    #[arg(long, value_name = "FILE", help_heading = "Reports")]
    pub json: Option<PathBuf>,
    /// Write the latencies as an HdrHistogram interval log.
    #[arg(long, value_name = "FILE", help_heading = "Reports")]
    pub hlog: Option<PathBuf>,
    /// Write the report as one HTML file.
    #[arg(long, value_name = "FILE", help_heading = "Reports")]
    pub html: Option<PathBuf>,
    /// Print no table.
    #[arg(long, help_heading = "Reports")]
    pub no_table: bool,
}

/// Who signs in. The environment keeps secrets out of the process list.
#[derive(Args)]
pub struct Identity {
    /// API key [env: LOADTEST_KEY]
    #[arg(long, value_name = "KEY", help_heading = "Connections", conflicts_with = "token")]
    key: Option<String>,
    /// Its secret [env: LOADTEST_SECRET]
    #[arg(long, value_name = "SECRET", help_heading = "Connections", conflicts_with = "token")]
    secret: Option<String>,
    /// Token, instead of key and secret [env: LOADTEST_TOKEN]
    #[arg(long, value_name = "TOKEN", help_heading = "Connections")]
    token: Option<String>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Identity(***)")
    }
}

impl Identity {
    /// What to sign in with, out of the flags or else of the environment, which `variable` reads.
    ///
    /// # Errors
    /// In words, where half of it is missing.
    pub fn credentials(self, variable: impl Fn(&str) -> Option<String>) -> Result<Option<Credentials>, String> {
        let given = self.key.is_some() || self.secret.is_some() || self.token.is_some();
        let token = if given { self.token } else { variable("LOADTEST_TOKEN") };
        if let Some(token) = token {
            return check(&token).map(|()| Some(Credentials::Token(token)));
        }
        let key = self.key.or_else(|| variable("LOADTEST_KEY"));
        let secret = self.secret.or_else(|| variable("LOADTEST_SECRET"));
        match (key, secret) {
            (Some(key), Some(secret)) => {
                check(&key)?;
                check(&secret)?;
                Ok(Some(Credentials::Key { key, secret }))
            }
            (None, None) => Ok(None),
            (Some(_), None) => {
                Err("a key needs its secret: --secret, or LOADTEST_SECRET in the environment".to_owned())
            }
            (None, Some(_)) => Err("a secret needs its key: --key, or LOADTEST_KEY in the environment".to_owned()),
        }
    }
}

/// Credentials stand in an HTTP header.
fn check(credential: &str) -> Result<(), String> {
    if credential.is_empty() || credential.bytes().any(|byte| !(0x21..0x7f).contains(&byte)) {
        return Err("credentials are of visible ASCII characters".to_owned());
    }
    Ok(())
}

impl Run {
    pub fn outputs(&self) -> Outputs {
        let on_stdout = self.json.as_ref().is_some_and(|path| path.as_os_str() == "-");
        Outputs {
            json: self.json.clone(),
            hlog: self.hlog.clone(),
            html: self.html.clone(),
            table: !self.no_table && !on_stdout,
        }
    }
}

#[derive(Debug, Args)]
pub struct VenueArgs {
    /// Where the gateway's feed connects to.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9200")]
    pub listen: SocketAddr,
    /// How many products.
    #[arg(long, value_name = "N", default_value_t = 500)]
    pub products: usize,
    /// Messages a second, all products together.
    #[arg(long, value_name = "N/S", default_value_t = 1_000.0)]
    pub rate: f64,
    /// Share of trades among them; the others are quotes.
    #[arg(long, value_name = "SHARE", default_value_t = 0.5)]
    pub trade_share: f64,
    /// The i-th product gets a share of the messages in proportion to 1/i^EXPONENT.
    #[arg(long, value_name = "EXPONENT", default_value_t = 1.0)]
    pub zipf: f64,
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Write the environment that points a gateway at this venue, a line for each variable.
    #[arg(long, value_name = "FILE")]
    pub gateway_env: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_are_read() {
        let arguments =
            "loadtest broadcast -n 50 --symbol BTC/USD --channel quotes --from event --max-p99 20ms --insecure";
        let cli = Cli::try_parse_from(arguments.split(' ')).unwrap();
        let (kind, run) = cli.command.run().unwrap();
        let scenario = run.wishes.resolve(kind).unwrap();
        assert_eq!((kind, scenario.clients, scenario.insecure), (Kind::Broadcast, 50, true));
        assert_eq!(scenario.stamp, crate::scan::Stamp::Event);
    }

    #[test]
    fn credentials_come_as_a_whole_and_are_not_shown() {
        let check = |flags: [Option<&str>; 3], environment: &'static [&'static str], expected: Result<&str, ()>| {
            let [key, secret, token] = flags.map(|flag| flag.map(str::to_owned));
            let identity = Identity { key, secret, token };
            assert!(!format!("{identity:?}").contains("hidden"));
            let read = identity.credentials(|name| environment.contains(&name).then(|| format!("of-{name}")));
            let shown = read.map(|credentials| match credentials {
                None => "none".to_owned(),
                Some(Credentials::Token(token)) => token,
                Some(Credentials::Users { .. }) => panic!("these are of no flag"),
                Some(Credentials::Key { key, secret }) => format!("{key}.{secret}"),
            });
            assert_eq!(shown.as_deref().map_err(|_| ()), expected, "{flags:?} {environment:?}");
        };
        check([None, None, None], &[], Ok("none"));
        check([Some("k"), Some("hidden"), None], &["LOADTEST_TOKEN"], Ok("k.hidden"));
        check([None, None, Some("hidden")], &["LOADTEST_KEY"], Ok("hidden"));
        check([Some("k"), None, None], &["LOADTEST_SECRET"], Ok("k.of-LOADTEST_SECRET"));
        check([None, None, None], &["LOADTEST_KEY", "LOADTEST_SECRET"], Ok("of-LOADTEST_KEY.of-LOADTEST_SECRET"));
        check([None, None, None], &["LOADTEST_TOKEN"], Ok("of-LOADTEST_TOKEN"));
        check([Some("k"), None, None], &[], Err(()));
        check([None, None, None], &["LOADTEST_SECRET"], Err(()));
        check([Some("k"), Some("a\r\nb"), None], &[], Err(()));
    }
}
