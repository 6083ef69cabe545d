//! The gateway as its own program: started with an environment of its own, signalled, and waited for.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};

use gateway::demo::Credential;
use rustix::process::{Pid, Signal, kill_process};

use super::{Directory, environment, wait_until};

/// A running gateway program. Dropping it kills it.
pub struct Program {
    child: Child,
    /// Kept open, so that the program may write.
    _stdout: BufReader<ChildStdout>,
    _state: Directory,
    pub address: SocketAddr,
    /// Where clients connect over TLS, where they can.
    pub tls_address: Option<SocketAddr>,
    pub admin: SocketAddr,
    /// The demo users', as the program has printed them: free, premium, enterprise.
    pub users: Vec<Credential>,
}

fn command(settings: &[(&str, &str)], arguments: &[&str], state: &Directory) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gateway"));
    command.args(arguments).env_clear().envs(environment(settings)).env("HOME", state.path()).stdin(Stdio::null());
    command
}

/// Starts the program, and returns when it has said that it runs.
#[track_caller]
pub fn spawn(settings: &[(&str, &str)], arguments: &[&str]) -> Program {
    let state = Directory::new();
    let mut child = command(settings, arguments, &state).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let (mut address, mut tls_address, mut admin, mut users) = (None, None, None, Vec::<Credential>::new());
    let demo = settings.iter().all(|(key, _)| *key != "entitlements.users");
    loop {
        let mut line = String::new();
        assert!(stdout.read_line(&mut line).unwrap() > 0, "the program ended without a greeting");
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["clients", url] => {
                let (scheme, rest) = url.split_once("://").unwrap();
                let parsed = rest.strip_suffix("/stream").and_then(|address| address.parse().ok());
                *(if scheme == "wss" { &mut tls_address } else { &mut address }) = parsed;
            }
            ["admin", url, ..] => {
                admin = url.strip_prefix("http://").and_then(|u| u.strip_suffix("/readyz")?.parse().ok())
            }
            [user] if user.starts_with("demo-") => users.push(Credential {
                user: user.to_owned(),
                key: String::new(),
                secret: String::new(),
                token: String::new(),
            }),
            ["key", key] => users.last_mut().unwrap().key = key.to_owned(),
            ["secret", secret] => users.last_mut().unwrap().secret = secret.to_owned(),
            ["token", token] => users.last_mut().unwrap().token = token.to_owned(),
            _ => {}
        }
        let greeted = words.first() == Some(&"feed");
        if if demo { users.len() == 3 && !users[2].token.is_empty() } else { greeted } {
            break;
        }
    }
    let (address, admin) = (address.unwrap(), admin.unwrap());
    Program { child, _stdout: stdout, _state: state, address, tls_address, admin, users }
}

/// Runs the program to its end.
#[track_caller]
pub fn run(settings: &[(&str, &str)], arguments: &[&str]) -> Output {
    run_with(settings, arguments, "")
}

/// The same, with something on standard input.
#[track_caller]
pub fn run_with(settings: &[(&str, &str)], arguments: &[&str], input: &str) -> Output {
    let state = Directory::new();
    let mut command = command(settings, arguments, &state);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Short enough for the pipe to hold; who does not read it may have ended.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let mut status = None;
    wait_until("the program to end", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    child.wait_with_output().unwrap()
}

impl Program {
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits until the program has ended.
    #[track_caller]
    pub fn end(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until("the program to end", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
