//! `rights` against the real gateway and a real Redis: every change of every user is told to each of its sessions, and one that
//! nobody announces is missed.

mod support;

#[path = "../../entitlements/tests/support/redis.rs"]
mod redis;

use std::path::{Path, PathBuf};

use support::gateway::{self, Gateway};
use support::{Run, run_with, wait_until};
use tungstenite::client::IntoClientRequest as _;

const PASSWORD: &str = "not-a-password";
const SECRET: &str = "not-a-secret-but-of-32-characters";

/// A gateway whose users are in Redis, and the files that it and the harness are given.
struct Place {
    gateway: Gateway,
    redis: redis::Server,
    files: Files,
}

struct Files(PathBuf);

impl Files {
    fn new(name: &str) -> Files {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("rights-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Files(path)
    }

    fn write(&self, name: &str, content: &str) -> String {
        std::fs::write(self.0.join(name), content).unwrap();
        self.path(name)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Place {
    /// `None` where there is no gateway or no Redis here, which is said.
    fn find(name: &str) -> Option<Place> {
        let program = gateway::program()?;
        if !redis::is_here() {
            return None;
        }
        let files = Files::new(name);
        let redis = redis::Server::start(&[]);
        redis.cli(&["CONFIG", "SET", "requirepass", PASSWORD]);
        let (password, secret) = (files.write("password", PASSWORD), files.write("secret", &format!("{SECRET}\n")));
        let keys = |kid: &str, file: &str| format!(r#"{{kid = "{kid}", algorithm = "HS256", secret_file = "{file}"}}"#);
        let other = files.write("other", "a-secret-of-another-32-characters");
        let gateway = Gateway::start(
            &program,
            &[
                ("GATEWAY_ENTITLEMENTS__REDIS__URLS", format!("[\"{}\"]", redis.url())),
                ("GATEWAY_ENTITLEMENTS__REDIS__PASSWORD_FILE", password),
                ("GATEWAY_ENTITLEMENTS__REDIS__TIMEOUT", "10s".to_owned()),
                // Who is not told by an announcement is not told.
                ("GATEWAY_ENTITLEMENTS__REDIS__REFRESH", "1h".to_owned()),
                ("GATEWAY_ENTITLEMENTS__TOKEN_KEYS", format!("[{}, {}]", keys("a", &other), keys("b", &secret))),
                ("GATEWAY_SEQUENCER__DELAY", "1s".to_owned()),
                ("GATEWAY_FEED__SIMULATOR__RATE", "300".to_owned()),
            ],
        );
        wait_until("the gateway to reach Redis", || knows_nobody(&gateway.address));
        Some(Place { gateway, redis, files })
    }

    fn run(&self, arguments: &[&str]) -> Run {
        let (url, secret) = (self.redis.url(), self.files.path("secret"));
        let own = ["rights", "--redis", &url, "--token-secret-file", &secret, "--token-kid", "b", "--clients", "60"];
        let few = ["--users", "20", "--warm-up", "100ms", "--duration", "1s", "--rate", "40"];
        let arguments = [&own[..], &few, arguments].concat();
        run_with(&self.gateway.address, &arguments, &[("LOADTEST_REDIS_PASSWORD", PASSWORD)])
    }
}

/// Whether the gateway says that it does not know a key, which it can while Redis is there.
fn knows_nobody(url: &str) -> bool {
    let mut request = url.into_client_request().unwrap();
    request.headers_mut().insert("X-API-Key", "nobody.nothing".parse().unwrap());
    match tungstenite::connect(request) {
        Err(tungstenite::Error::Http(answer)) => answer.status() == 401,
        _ => false,
    }
}

#[test]
fn each_session_is_told_of_each_change() {
    let Some(place) = Place::find("told") else { return };
    let check = |arguments: &[&str]| {
        let run = place.run(arguments);
        assert_eq!((run.status, run.invalid(), run.faults()), (Some(0), String::new(), String::new()), "{run:#?}");
        // 40 changes and two of all 20 users, each in three sessions; all are of real-time access.
        assert_eq!((run.count("told"), run.count("untold"), run.count("lost")), (80 * 3, 0, 0), "{run:#?}");
        let (told, felt) = (run.figure("latency", "p99").unwrap(), run.figure("effect", "p50").unwrap());
        assert!(0 < told && told < 60_000_000_000 && 0 < felt && felt < 60_000_000_000, "{told} {felt}");
        let report = run.report.as_ref().unwrap().to_string();
        for secret in [PASSWORD, SECRET] {
            assert!(!report.contains(secret) && !run.stdout.contains(secret) && !run.stderr.contains(secret));
        }
        assert!(run.stdout.contains("burst 2: changes written at once: 20"), "{}", run.stdout);
    };
    check(&["--bursts", "2", "--channel", "trades", "--max-p99", "1m", "--max-untold", "0"]);
    check(&[
        "--bursts",
        "2",
        "--channel",
        "quotes",
        "--announce",
        "user",
        "--auth",
        "message",
        "--encoding",
        "msgpack",
    ]);
    // The users are gone with the run.
    assert_eq!(place.redis.cli(&["-a", PASSWORD, "--no-auth-warning", "KEYS", "entitlement:*"]).trim(), "");
}

#[test]
fn a_change_that_no_session_is_told_of_is_a_failure() {
    let Some(place) = Place::find("untold") else { return };
    let run = place.run(&["--bursts", "1", "--announce", "nothing", "--settle", "100ms"]);
    assert_eq!((run.status, run.count("told"), run.count("untold")), (Some(1), 0, 120), "{run:#?}");
    assert!(run.faults().contains("it was told of nothing"), "{}", run.faults());
}

#[test]
fn without_redis_or_a_secret_there_is_no_run() {
    let files = Files::new("refused");
    let secret = files.write("secret", SECRET);
    let check = |arguments: &[&str], status: i32, says: &str| {
        let run = run_with("ws://127.0.0.1:1/stream", &[&["rights"], arguments].concat(), &[]);
        assert_eq!(run.status, Some(status), "{run:#?}");
        assert!(run.stderr.contains(says) && !run.stderr.contains("hidden"), "{}", run.stderr);
    };
    check(&[], 64, "token-secret-file is needed");
    check(&["--token-secret-file", "no/such/file"], 64, "token-secret-file: no/such/file");
    let given = |url: &'static str| ["--token-secret-file", secret.as_str(), "--redis", url];
    check(&given("redis://127.0.0.1:1"), 69, "Redis at redis://127.0.0.1:1");
    check(&given("redis://:hidden@127.0.0.1:1"), 64, "LOADTEST_REDIS_PASSWORD");
    check(&given("http://127.0.0.1:1"), 64, "redis://");
}
