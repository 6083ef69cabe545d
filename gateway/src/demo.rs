//! The demo: the secret that its users' credentials come from, and what is printed at the start.
//!
//! The master secret is kept in the user's state directory, so that a restart and `gateway token` in another
//! process agree on it. Which users there are and how their secrets are derived is `entitlements::demo`'s.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use entitlements::random_bytes;

const FILE: &str = "demo-secret";

/// A random secret of 256 bits.
pub type MasterSecret = [u8; 32];

/// Where this program keeps what should outlive it: `$XDG_STATE_HOME/signal-gateway`, or
/// `$HOME/.local/state/signal-gateway`. `None` where the environment names neither.
pub fn state_directory(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    // The XDG base directory specification tells to ignore relative paths.
    let absolute = |name| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_STATE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/state")))?;
    Some(base.join("signal-gateway"))
}

/// Reads the master secret in `directory`, or makes one there that only its owner may read.
///
/// # Errors
/// [`io::Error`], with the file's path, where it can neither be read nor kept, or what is there is no secret.
pub fn master_secret(directory: &Path) -> io::Result<MasterSecret> {
    let path = directory.join(FILE);
    let secret = match read(&path) {
        Err(e) if e.kind() == ErrorKind::NotFound => make(directory, &path),
        found => found,
    };
    secret.map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))
}

fn make(directory: &Path, path: &Path) -> io::Result<MasterSecret> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let secret: MasterSecret = random_bytes().map_err(io::Error::other)?;
    // Written aside and linked into place: nobody ever reads half a secret, and of two that start together
    // the second takes the first one's.
    let aside = directory.join(format!("{FILE}.{}", std::process::id()));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
    let linked = file.write_all(&secret).and_then(|()| file.sync_all()).and_then(|()| fs::hard_link(&aside, path));
    fs::remove_file(&aside)?;
    match linked {
        Err(e) if e.kind() != ErrorKind::AlreadyExists => Err(e),
        _ => read(path),
    }
}

fn read(path: &Path) -> io::Result<MasterSecret> {
    let no_secret = |_| io::Error::new(ErrorKind::InvalidData, "not the 32 bytes of a demo secret; delete it");
    MasterSecret::try_from(fs::read(path)?).map_err(no_secret)
}

/// How to sign in as one demo user. Deliberately without `Debug`.
pub struct Credential {
    pub user: String,
    /// Id of the API key.
    pub key: String,
    pub secret: String,
    pub token: String,
}

/// What the start tells whoever looks at the terminal.
pub struct Welcome<'a> {
    /// The addresses that are bound, with their real ports; the first one stands in the commands.
    pub clients: &'a [SocketAddr],
    /// Those for TLS; the first one stands in the commands where there are no others.
    pub tls_clients: &'a [SocketAddr],
    pub admin: &'a [SocketAddr],
    /// What feeds it, as in `simulator, 10 symbols`.
    pub feed: &'a str,
    /// A symbol that the feed has.
    pub symbol: &'a str,
    /// Empty unless the demo users are in; the middle one stands in the commands.
    pub credentials: &'a [Credential],
    /// The server's certificate, where it has one.
    pub certificate: Option<&'a Path>,
}

impl Welcome<'_> {
    /// The text for standard output. It holds the demo users' secrets, and belongs into no log.
    pub fn text(&self) -> String {
        let mut out = format!("Signal Gateway {}\n\n", env!("CARGO_PKG_VERSION"));
        let mut line = |name: &str, value: &str| {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "  {name:<9}{value}");
        };
        for address in self.clients {
            line("clients", &format!("ws://{address}/stream"));
        }
        for address in self.tls_clients {
            line("clients", &format!("wss://{address}/stream"));
        }
        for address in self.admin {
            line("admin", &format!("http://{address}/readyz  /livez  /metrics  /config"));
        }
        line("feed", self.feed);
        if let Some(user) = self.credentials.get(self.credentials.len() / 2) {
            self.write_users(&mut out);
            self.write_commands(&mut out, user);
        }
        out
    }

    fn write_users(&self, out: &mut String) {
        out.push_str("\nDemo users, from this machine only. Each signs in with its key and secret, or its token.\n");
        for credential in self.credentials {
            let Credential { user, key, secret, token } = credential;
            let _ = write!(out, "\n  {user}\n    key     {key}\n    secret  {secret}\n    token   {token}\n");
        }
    }

    /// Three clients that nobody here wrote, each in one piece to paste into a shell.
    fn write_commands(&self, out: &mut String, credential: &Credential) {
        let Some((server, trust)) = self.server() else { return };
        let Credential { user, key, secret, token } = credential;
        let symbol = self.symbol;
        let _ = write!(
            out,
            r#"
Try it, as {user}:{trust}

  websocat
    printf '%s\n' '{{"action":"subscribe","trades":["*"]}}' | websocat --no-close '{server}/stream?token={token}'

  Python, pip install websockets
    python3 - <<'END'
import json
from websockets.sync.client import connect
with connect("{server}/stream") as socket:
    socket.send(json.dumps({{"action": "auth", "key": "{key}", "secret": "{secret}"}}))
    socket.send(json.dumps({{"action": "subscribe", "trades": ["{symbol}"], "quotes": ["{symbol}"]}}))
    for message in socket: print(message)
END

  Python, pip install alpaca-py
    python3 - <<'END'
from alpaca.data.live import CryptoDataStream
async def show(trade): print(trade)
stream = CryptoDataStream("{key}", "{secret}", url_override="{server}/v1beta3/crypto/us")
stream.subscribe_trades(show, "{symbol}")
stream.run()
END

"#
        );
    }

    /// Where the commands connect, as in `ws://127.0.0.1:8080`, and what they need to trust it. Without TLS where there
    /// is a choice, since that needs no trust.
    fn server(&self) -> Option<(String, String)> {
        if let Some(address) = self.clients.first() {
            return Some((format!("ws://{address}"), String::new()));
        }
        let address = self.tls_clients.first()?;
        let trust = self.certificate.map(|file| {
            // OpenSSL's own variable, which Python heeds. Absolute, and quoted for the shell.
            let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
            let file = file.display().to_string().replace('\'', r"'\''");
            format!("\n\n  where the certificate is signed by itself\n    export SSL_CERT_FILE='{file}'")
        });
        Some((format!("wss://{address}"), trust.unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Directory {
            let path = std::env::temp_dir().join(format!("gateway-demo-{}-{name}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            Directory(path)
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn the_secret_is_made_once_and_private() {
        let directory = Directory::new("once");
        let state = directory.0.join("state/signal-gateway");
        let secret = master_secret(&state).unwrap();
        assert_eq!(master_secret(&state).unwrap(), secret);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&state.join(FILE)), mode(&state)), (0o600, 0o700));
        let names: Vec<_> = fs::read_dir(&state).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, [FILE], "nothing is left aside");
        let other = Directory::new("other");
        assert_ne!(master_secret(&other.0).unwrap(), secret);
    }

    #[test]
    fn what_is_no_secret_is_refused() {
        let directory = Directory::new("bad");
        fs::create_dir_all(&directory.0).unwrap();
        fs::write(directory.0.join(FILE), b"short").unwrap();
        let error = master_secret(&directory.0).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        assert!(error.to_string().contains(FILE), "{error}");
        // A file where the directory should be: cannot be kept, whoever asks.
        assert!(master_secret(&directory.0.join(FILE).join("below")).is_err());
    }

    #[test]
    fn the_state_directory_follows_the_environment() {
        let check = |variables: &[(&str, &str)], expected: Option<&str>| {
            let lookup = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, v)| v.into());
            assert_eq!(state_directory(lookup), expected.map(PathBuf::from), "{variables:?}");
        };
        check(&[("XDG_STATE_HOME", "/s"), ("HOME", "/h")], Some("/s/signal-gateway"));
        check(&[("HOME", "/h")], Some("/h/.local/state/signal-gateway"));
        check(&[("XDG_STATE_HOME", "s"), ("HOME", "/h")], Some("/h/.local/state/signal-gateway"));
        check(&[("XDG_STATE_HOME", "")], None);
        check(&[], None);
    }

    /// The text for addresses without and with TLS.
    fn welcome(clients: &[&str], tls_clients: &[&str], credentials: &[Credential]) -> String {
        let parsed = |addresses: &[&str]| -> Vec<SocketAddr> {
            addresses.iter().map(|address| address.parse().unwrap()).collect()
        };
        Welcome {
            clients: &parsed(clients),
            tls_clients: &parsed(tls_clients),
            admin: &parsed(&["[::1]:9090"]),
            feed: "simulator, 10 symbols",
            symbol: "BTC/USD",
            credentials,
            certificate: (!tls_clients.is_empty()).then_some(Path::new("/etc/it's/server.crt")),
        }
        .text()
    }

    fn credentials() -> [Credential; 3] {
        ["demo-free", "demo-premium", "demo-enterprise"].map(|user| Credential {
            user: user.to_owned(),
            key: format!("{user}-key"),
            secret: format!("{user}-secret"),
            token: format!("{user}-token"),
        })
    }

    #[test]
    fn the_welcome_shows_each_user_and_three_commands() {
        let credentials = credentials();
        let text = welcome(&["127.0.0.1:8080"], &["[::1]:8443"], &credentials);
        for credential in &credentials {
            for part in [&credential.user, &credential.key, &credential.secret, &credential.token] {
                assert!(text.contains(part.as_str()), "{part}");
            }
        }
        for part in [
            "http://[::1]:9090/readyz",
            "wss://[::1]:8443/stream",
            "websocat --no-close 'ws://127.0.0.1:8080/stream?token=demo-premium-token'",
            r#"json.dumps({"action": "auth", "key": "demo-premium-key", "secret": "demo-premium-secret"})"#,
            r#"CryptoDataStream("demo-premium-key", "demo-premium-secret", url_override="ws://127.0.0.1:8080/"#,
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }

    #[test]
    fn with_tls_alone_the_commands_use_it() {
        let text = welcome(&[], &["127.0.0.1:8443", "[::1]:8443"], &credentials());
        for part in [
            "clients  wss://127.0.0.1:8443/stream\n",
            "clients  wss://[::1]:8443/stream\n",
            "\n  demo-free\n    key     demo-free-key\n",
            r"export SSL_CERT_FILE='/etc/it'\''s/server.crt'",
            "websocat --no-close 'wss://127.0.0.1:8443/stream?token=demo-premium-token'",
            r#"connect("wss://127.0.0.1:8443/stream")"#,
            r#"url_override="wss://127.0.0.1:8443/v1beta3/crypto/us""#,
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert!(!text.contains("ws://127.0.0.1:8080"), "{text}");
        assert!(!welcome(&["127.0.0.1:8080"], &["[::1]:8443"], &credentials()).contains("SSL_CERT_FILE"));
    }

    #[test]
    fn without_demo_users_there_are_no_commands() {
        let text = welcome(&["127.0.0.1:8080"], &["[::1]:8443"], &[]);
        assert!(text.contains("ws://127.0.0.1:8080/stream\n") && !text.contains("websocat"), "{text}");
    }
}
