//! The `gateway` program: arguments and configuration in, exit status out.

use std::process::ExitCode;

use gateway::cli::{self, Command, EXIT_USAGE};
use gateway::config::ConfigError;
use gateway::{feeds, logging, process};

/// Connections come through short-lived tasks, between whose buffers glibc's allocator leaves holes: about twice the
/// resident memory for an idle client (docs/decisions/0003-mimalloc.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let command = match cli::parse(std::env::args_os()) {
        Ok(command) => command,
        Err(answer) => {
            let wrong = answer.use_stderr();
            // With a closed terminal there is nobody left to tell.
            let _ = answer.print();
            return if wrong { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    match execute(command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => match e.downcast_ref::<ConfigError>() {
            Some(wrong) => {
                wrong.problems.iter().for_each(|problem| eprintln!("gateway: {problem}"));
                ExitCode::from(EXIT_USAGE)
            }
            None => {
                eprintln!("gateway: {e:#}");
                ExitCode::FAILURE
            }
        },
    }
}

fn execute(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Run(settings) => {
            let config = settings.load()?;
            logging::init(&config.log)?;
            // Where standard output is closed, nobody wants to be greeted.
            process::run(&config, cli::state().as_deref(), |welcome| drop(print(welcome)))
        }
        Command::CheckConfig(settings) => print(&cli::check_config(&settings.load()?)?),
        Command::Token { settings, user, ttl } => {
            let token = cli::token(&settings.load()?, cli::state().as_deref(), &user, ttl)?;
            print(&format!("{token}\n"))
        }
        Command::FeedCheck { settings, name, duration } => {
            feeds::check(&settings.load()?, &name, duration, &mut std::io::stdout())
        }
        Command::Key { settings, request } => print(&cli::key(&settings.load()?, &request)?),
        Command::Entitlement { settings, action } => {
            print(&cli::entitlement(&settings.load()?, &action, &mut std::io::stdin().lock())?)
        }
        Command::Kafka { settings, action } => print(&cli::kafka_command(&settings.load()?, &action)?),
    }
}

/// Prints to standard output, which may be closed: `println!` would panic then.
fn print(text: &str) -> anyhow::Result<()> {
    use std::io::Write;
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}
