//! The real gateway, as a program.
//!
//! It is looked for in `LOADTEST_GATEWAY`, and where a build of the whole workspace puts it. This crate does not depend on it,
//! so a run of this crate's tests alone may not have it; the tests say then that they are left out.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// The gateway's program, if there is one.
pub fn program() -> Option<PathBuf> {
    let named = std::env::var_os("LOADTEST_GATEWAY").map(PathBuf::from);
    // Beside this test's own program: target/debug/deps/venue-*, target/debug/gateway.
    let beside = || Some(std::env::current_exe().ok()?.parent()?.parent()?.join("gateway"));
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
    let built = || [beside(), Some(workspace.join("debug/gateway")), Some(workspace.join("release/gateway"))];
    let found = named.or_else(|| built().into_iter().flatten().find(|path| path.is_file()));
    if found.is_none() {
        println!("LEFT OUT: there is no gateway; build the workspace, or name one in LOADTEST_GATEWAY");
    }
    found
}

/// A gateway that runs. Dropping it kills it.
pub struct Gateway {
    child: Child,
    /// Kept open, so that the program may write.
    _stdout: BufReader<ChildStdout>,
    pub address: String,
    /// KEY.SECRET of the user with all the rights; empty where there are no demo users.
    pub credentials: String,
    home: PathBuf,
}

impl Gateway {
    pub fn start(program: &Path, environment: &[(&str, String)]) -> Gateway {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let home = std::env::temp_dir().join(format!("loadtest-gateway-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&home).unwrap();
        let mut child = Command::new(program)
            .env_clear()
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .env("GATEWAY_SERVER__LISTEN", "127.0.0.1:0")
            .env("GATEWAY_ADMIN__LISTEN", "127.0.0.1:0")
            .env("GATEWAY_LOG__LEVEL", "warn")
            .env("HOME", &home)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let (mut address, mut user, mut key, mut credentials) =
            (String::new(), String::new(), String::new(), String::new());
        let has_demo_users = !environment.iter().any(|(name, _)| name.starts_with("GATEWAY_ENTITLEMENTS__"));
        while address.is_empty() || (has_demo_users && credentials.is_empty()) {
            let mut line = String::new();
            assert!(stdout.read_line(&mut line).unwrap() > 0, "the gateway ended without a greeting");
            match line.split_whitespace().collect::<Vec<_>>()[..] {
                ["clients", url] => address = url.to_owned(),
                [name] if name.starts_with("demo-") => user = name.to_owned(),
                ["key", value] => key = value.to_owned(),
                ["secret", secret] if user == "demo-enterprise" => credentials = format!("{key}.{secret}"),
                _ => {}
            }
        }
        Gateway { child, _stdout: stdout, address, credentials, home }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.home);
    }
}
