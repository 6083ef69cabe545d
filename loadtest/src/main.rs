//! `loadtest`: parse, plan, run, report, exit.

use std::io::{ErrorKind as ErrorKindOfIo, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Context as _;
use clap::Parser as _;
use clap::error::ErrorKind;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use loadtest::cli::{Cli, Command, Run, VenueArgs};
use loadtest::clock::wall_ns;
use loadtest::compare::CompareArgs;
use loadtest::coordinator::{Coordinator, Halt};
use loadtest::facts::Facts;
use loadtest::orders::{Credentials, TokenSigner, TurnedAway};
use loadtest::outcome::{HarnessLimits, Header};
use loadtest::plan::{System, plan, raise_descriptor_limit};
use loadtest::platform::{Platform, PlatformError};
use loadtest::report::table::Style;
use loadtest::scan::Stamp;
use loadtest::scenario::{Kind, Scenario, Wishes, read_file};
use loadtest::venue::{Popularity, VenueError, VenueSettings, product_names};
use loadtest::{compare, facts, report, venue, worker};

/// Exit statuses beside those of an outcome, as in BSD's sysexits where it has one.
const WRONG_ARGUMENTS: u8 = 64;
const TARGET_UNAVAILABLE: u8 = 69;
const INTERNAL: u8 = 70;
const SYSTEM_LIMITS: u8 = 71;
const INTERRUPTED: u8 = 130;

/// What to say, and the status to end with.
struct Failure(u8, anyhow::Error);

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Where nobody reads it any more, nobody misses it.
            let _ = error.print();
            let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return ExitCode::from(if asked { 0 } else { WRONG_ARGUMENTS });
        }
    };
    let done = match cli.command.run() {
        Ok((kind, run)) => load(kind, run),
        Err(Command::Compare(arguments)) => set_side_by_side(&arguments),
        Err(Command::Venue(arguments)) => serve(arguments),
        Err(_) => worker::run().map(|()| 0).map_err(|error| Failure(INTERNAL, error)),
    };
    match done {
        Ok(status) => ExitCode::from(status),
        Err(Failure(status, error)) => {
            eprintln!("loadtest: {error:#}");
            ExitCode::from(status)
        }
    }
}

fn load(kind: Kind, mut run: Box<Run>) -> Result<u8, Failure> {
    let wrong = |error: anyhow::Error| Failure(WRONG_ARGUMENTS, error);
    let internal = |error: anyhow::Error| Failure(INTERNAL, error);
    let outputs = run.outputs();
    if let Some(path) = &run.scenario {
        run.wishes = run.wishes.or(read_file(path).map_err(wrong)?);
    }
    let credentials =
        run.identity.credentials(|name| std::env::var(name).ok()).map_err(anyhow::Error::msg).map_err(wrong)?;
    let scenario = run.wishes.clone().resolve(kind).map_err(|error| wrong(error.into()))?;
    let credentials = match kind {
        Kind::Rights => Some(users_of_our_own(&scenario).map_err(wrong)?),
        _ => credentials,
    };
    raise_descriptor_limit();
    let assignments = plan(&scenario, credentials, &System::read()).map_err(|error| {
        let status = if error.is_of_the_machine() { SYSTEM_LIMITS } else { WRONG_ARGUMENTS };
        Failure(status, error.into())
    })?;
    let mut wishes = run.wishes.or(Wishes { from: Some(scenario.stamp), ..Wishes::default() }).or(kind.defaults());
    wishes.target = wishes.target.iter().map(|url| facts::masked_url(url)).collect();
    wishes.redis = wishes.redis.as_deref().map(facts::masked_url);
    let header = Header {
        scenario: kind.name().to_owned(),
        targets: wishes.target.clone(),
        settings: serde_json::to_value(&wishes).context("writing the settings").map_err(internal)?,
        command: facts::masked_command(std::env::args()),
        facts: Facts::read(),
        started_ns: wall_ns(),
        latency_from: match scenario.stamp {
            _ if kind == Kind::Rights => "just before the change of the user's record was written to Redis".to_owned(),
            Stamp::Rx => "the gateway's read of the venue's socket (rx)".to_owned(),
            Stamp::Event => "the venue's time of the event (t)".to_owned(),
        },
        interval_ns: worker::INTERVAL_NS,
        limits: HarnessLimits {
            lag_ns_max: scenario.max_lag_ns,
            clock_tolerance_ns: scenario.clock_tolerance_ns,
            ..HarnessLimits::default()
        },
    };
    let platform = if kind == Kind::Rights { Some(open_platform(&scenario)?) } else { None };
    let stop = stop_flag().map_err(internal)?;
    let coordinator = Coordinator::start(scenario, &assignments, header, platform, stop).map_err(internal)?;
    let outcome = coordinator.run().map_err(|halt| match halt {
        Halt::TurnedAway(TurnedAway::Exhausted, text) => Failure(
            SYSTEM_LIMITS,
            anyhow::anyhow!(
                "no descriptor or port was left: {text}. Other programs use them; try more --sources or --workers"
            ),
        ),
        Halt::TurnedAway(TurnedAway::Unreachable, text) => {
            Failure(TARGET_UNAVAILABLE, anyhow::anyhow!("the target cannot be reached: {text}"))
        }
        Halt::TurnedAway(TurnedAway::Refused, text) => {
            Failure(TARGET_UNAVAILABLE, anyhow::anyhow!("the target turned the first client away: {text}"))
        }
        Halt::Unavailable(text) => Failure(TARGET_UNAVAILABLE, anyhow::Error::msg(text)),
        Halt::Wrong(error) => wrong(error),
        Halt::Interrupted => Failure(INTERRUPTED, anyhow::anyhow!("interrupted")),
        Halt::Failed(error) => internal(error),
    })?;
    match report::write_all(&outcome, &outputs) {
        // Who reads no further has read enough.
        Err(error) if !worker::is_broken_pipe(&error) => Err(internal(error)),
        _ => Ok(outcome.exit_status()),
    }
}

/// The users whose rights the run changes, each with a token that is signed here.
fn users_of_our_own(scenario: &Scenario) -> anyhow::Result<Credentials> {
    let file = scenario.token_secret_file.as_deref();
    let file = file.context("token-secret-file is needed: the secret that the gateway checks tokens with")?;
    let secret = secret_of(file).with_context(|| format!("token-secret-file: {file}"))?;
    let signer = TokenSigner { secret, kid: scenario.token_kid.clone() };
    Ok(Credentials::Users { signer, users: scenario.users })
}

fn open_platform(scenario: &Scenario) -> Result<Platform, Failure> {
    let wrong = |error: anyhow::Error| Failure(WRONG_ARGUMENTS, error);
    let password = match &scenario.redis_password_file {
        Some(file) => {
            let secret = secret_of(file).with_context(|| format!("redis-password-file: {file}")).map_err(wrong)?;
            Some(
                String::from_utf8(secret)
                    .map_err(|_| wrong(anyhow::anyhow!("redis-password-file: {file}: is no text")))?,
            )
        }
        None => std::env::var("LOADTEST_REDIS_PASSWORD").ok(),
    };
    Platform::open(&scenario.redis, password.as_deref(), scenario.users, scenario.announce).map_err(|error| {
        let status = match error {
            PlatformError::Away { .. } => TARGET_UNAVAILABLE,
            PlatformError::Address | PlatformError::Credentials => WRONG_ARGUMENTS,
        };
        Failure(status, error.into())
    })
}

/// What a file of a secret holds. An editor or `echo` ends it with a line end that is not part of it.
fn secret_of(file: &str) -> anyhow::Result<Vec<u8>> {
    let mut secret = std::fs::read(file)?;
    for end in [b'\n', b'\r'] {
        secret.pop_if(|last| *last == end);
    }
    Ok(secret)
}

fn set_side_by_side(arguments: &CompareArgs) -> Result<u8, Failure> {
    let comparison = compare::run(arguments).map_err(|error| Failure(WRONG_ARGUMENTS, error))?;
    let style = if std::io::stdout().is_terminal() { Style::Coloured } else { Style::Plain };
    match std::io::stdout().lock().write_all(comparison.text(style).as_bytes()) {
        Err(error) if error.kind() != ErrorKindOfIo::BrokenPipe => {
            return Err(Failure(INTERNAL, anyhow::Error::from(error).context("writing to standard output")));
        }
        // Who reads no further has read enough.
        _ => {}
    }
    let failures = arguments.fail_above.map(|share| comparison.failures(share)).unwrap_or_default();
    for failure in &failures {
        eprintln!("loadtest: {failure}");
    }
    Ok(u8::from(!failures.is_empty()))
}

fn serve(arguments: VenueArgs) -> Result<u8, Failure> {
    let settings = VenueSettings {
        listen: arguments.listen,
        products: product_names(arguments.products),
        rate: arguments.rate,
        trade_share: arguments.trade_share,
        popularity: Popularity::Zipf(arguments.zipf),
        seed: arguments.seed,
    };
    let stop = stop_flag().map_err(|error| Failure(INTERNAL, error))?;
    match venue::run(settings, arguments.gateway_env.as_deref(), &stop) {
        Err(error) if error.downcast_ref::<VenueError>().is_some_and(VenueError::is_of_the_settings) => {
            Err(Failure(WRONG_ARGUMENTS, error))
        }
        Err(error) if !worker::is_broken_pipe(&error) => Err(Failure(INTERNAL, error)),
        _ => Ok(0),
    }
}

/// Set by SIGINT and SIGTERM. A second one ends the process at once.
fn stop_flag() -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        flag::register_conditional_shutdown(signal, i32::from(INTERRUPTED), Arc::clone(&stop)).context("signals")?;
        flag::register(signal, Arc::clone(&stop)).context("signals")?;
    }
    Ok(stop)
}
