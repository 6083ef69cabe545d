//! The admin port: `/livez`, `/readyz`, `/metrics`, `/config` and `/v1/feeds`, on a thread of its own.
//!
//! It reads what the other threads publish and changes nothing. Bounded by nature: one request for each
//! connection, ten seconds for the whole of it, and so many connections at a time. Deliberately absent:
//! sign-in. It tells no secret, and by default listens on loopback only.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::sync::{Semaphore, watch};

use crate::config::{self, Config, ConfigError};
use crate::feeds::FeedView;
use crate::metrics::Metrics;
use crate::secure_headers;

/// A request's head is given up once so much of it was read without its end, bytes.
const HEADER_BYTES_MAX: usize = 16 << 10;
/// Connections that are served at a time, over all admin listeners; more wait in the system's queue. With
/// twice the above for the head (hyper looks after each read) and 32 KiB for an answer: 4 MiB at worst.
const CONNECTIONS_MAX: usize = 64;
/// From the accepted connection to the last byte of the answer.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(10);
/// From the accepted connection to the end of the request's head.
const HEADER_TIME_MAX: Duration = Duration::from_secs(5);
/// Wait after a failed accept: it mostly means that file descriptors ran out, and trying again at once would
/// burn a core until one is free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where the process is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Listeners are not all bound yet, or threads not all started.
    Starting = 0,
    /// Clients can connect.
    Serving = 1,
    /// On the way out: clients are being sent away.
    Draining = 2,
}

/// A condition of readiness beside the phase.
pub struct Check {
    name: &'static str,
    /// Whether the process is not ready while it fails; else that is only told.
    is_needed: bool,
    probe: Box<dyn Fn() -> Result<(), String> + Send + Sync>,
}

impl Check {
    /// `probe` runs at every request for `/readyz`, on the admin thread, and must not block. Its error says
    /// why the process is not ready.
    pub fn new(name: &'static str, probe: impl Fn() -> Result<(), String> + Send + Sync + 'static) -> Check {
        Check { name, is_needed: true, probe: Box::new(probe) }
    }

    /// The same for what clients can do without: it is among the warnings.
    pub fn warning(name: &'static str, probe: impl Fn() -> Result<(), String> + Send + Sync + 'static) -> Check {
        Check { is_needed: false, ..Check::new(name, probe) }
    }

    fn failure(&self) -> Option<(&'static str, String)> {
        (self.probe)().err().map(|reason| (self.name, reason))
    }
}

impl fmt::Debug for Check {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Check({})", self.name)
    }
}

/// What the admin port shows.
pub struct AdminState {
    config: String,
    metrics: Arc<Metrics>,
    phase: AtomicU8,
    checks: Vec<Check>,
    feeds: Vec<FeedView>,
}

impl fmt::Debug for AdminState {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("AdminState").field("checks", &self.checks).finish_non_exhaustive()
    }
}

impl AdminState {
    /// A process that is starting. Ready once it is [`Phase::Serving`] and all `checks` pass.
    pub(crate) fn new(
        config: &Config,
        metrics: Arc<Metrics>,
        checks: Vec<Check>,
        feeds: Vec<FeedView>,
    ) -> Arc<AdminState> {
        let phase = AtomicU8::new(Phase::Starting as u8);
        Arc::new(AdminState { config: config.to_toml(), metrics, phase, checks, feeds })
    }

    /// Goes on to the next phase.
    pub fn enter(&self, phase: Phase) {
        // Relaxed: shown, and nothing else is read on the strength of it.
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    /// Why the process is not ready, as (check, reason); empty when it is.
    pub fn reasons(&self) -> Vec<(&'static str, String)> {
        let phase = self.phase.load(Ordering::Relaxed);
        let mut reasons = Vec::new();
        if phase == Phase::Starting as u8 {
            reasons.push(("phase", "starting".to_owned()));
        } else if phase == Phase::Draining as u8 {
            reasons.push(("phase", "draining".to_owned()));
        }
        reasons.extend(self.checks.iter().filter(|check| check.is_needed).filter_map(Check::failure));
        reasons
    }

    /// What clients can do without, and is not as it should be.
    pub fn warnings(&self) -> Vec<(&'static str, String)> {
        self.checks.iter().filter(|check| !check.is_needed).filter_map(Check::failure).collect()
    }
}

/// The admin port's listeners, bound but not served yet.
#[derive(Debug)]
pub struct AdminListeners {
    listeners: Vec<TcpListener>,
    addresses: Vec<SocketAddr>,
}

impl AdminListeners {
    /// Binds every address of `admin.listen`.
    ///
    /// # Errors
    /// [`ConfigError`] names the key and the address that cannot be bound.
    pub fn bind(admin: &config::Admin) -> Result<AdminListeners, ConfigError> {
        let mut bound = AdminListeners { listeners: Vec::new(), addresses: Vec::new() };
        for address in &admin.listen {
            let refused =
                |e: io::Error| ConfigError::of("admin.listen", format_args!("{address} cannot be bound: {e}"));
            let listener = TcpListener::bind(address).map_err(refused)?;
            listener.set_nonblocking(true).map_err(refused)?;
            bound.addresses.push(listener.local_addr().map_err(refused)?);
            bound.listeners.push(listener);
        }
        Ok(bound)
    }

    /// The bound addresses, with their real ports.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Starts to answer, on a new thread.
    ///
    /// # Errors
    /// [`io::Error`] where the system gives no thread or no event queue.
    pub fn serve(self, state: Arc<AdminState>) -> io::Result<AdminServer> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listeners = {
            let _context = runtime.enter();
            let listeners: io::Result<Vec<_>> =
                self.listeners.into_iter().map(tokio::net::TcpListener::from_std).collect();
            listeners?
        };
        let (stop, stopped) = watch::channel(());
        let thread = thread::Builder::new().name("admin".to_owned()).spawn(move || {
            runtime.block_on(run(listeners, router(state), stopped));
        })?;
        Ok(AdminServer { stop, thread })
    }
}

/// The admin thread.
#[derive(Debug)]
pub struct AdminServer {
    stop: watch::Sender<()>,
    thread: JoinHandle<()>,
}

impl AdminServer {
    /// Closes the listeners and every connection, and waits for the thread to end.
    pub fn stop(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            tracing::error!("the admin thread panicked");
        }
    }
}

/// Accepts until the sender of `stopped` is gone.
async fn run(listeners: Vec<tokio::net::TcpListener>, router: Router, mut stopped: watch::Receiver<()>) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    for listener in listeners {
        tokio::spawn(accept(listener, router.clone(), Arc::clone(&permits)));
    }
    // Nothing is ever sent: the error is that the sender is gone. The tasks end with the runtime.
    let _ = stopped.changed().await;
}

async fn accept(listener: tokio::net::TcpListener, router: Router, permits: Arc<Semaphore>) {
    // The semaphore is never closed.
    while let Ok(permit) = Arc::clone(&permits).acquire_owned().await {
        let socket = match listener.accept().await {
            Ok((socket, _)) => socket,
            Err(e) => {
                tracing::warn!(error = %e, "admin connection not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let service = TowerToHyperService::new(router.clone());
        tokio::spawn(async move {
            let mut http = http1::Builder::new();
            http.timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIME_MAX)
                .keep_alive(false)
                .max_buf_size(HEADER_BYTES_MAX);
            let served =
                tokio::time::timeout(CONNECTION_TIME_MAX, http.serve_connection(TokioIo::new(socket), service));
            // Whatever goes wrong here is the client's to see.
            let _ = served.await;
            drop(permit);
        });
    }
}

fn router(state: Arc<AdminState>) -> Router {
    Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/config", get(effective_config))
        .route("/v1/feeds", get(feeds))
        .fallback(async || {
            (StatusCode::NOT_FOUND, "no such page; there are /livez /readyz /metrics /config /v1/feeds\n")
        })
        .layer(axum::middleware::map_response(async |response| Ok::<_, Infallible>(secured(response))))
        .with_state(state)
}

async fn readyz(State(state): State<Arc<AdminState>>) -> Response {
    let reasons = state.reasons();
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let told = |failed: &[(&str, String)]| {
        let one = |(check, reason): &(&str, String)| serde_json::json!({ "check": check, "reason": reason });
        failed.iter().map(one).collect::<Vec<_>>()
    };
    let mut body = serde_json::json!({ "ready": reasons.is_empty(), "reasons": told(&reasons) });
    let warnings = state.warnings();
    if !warnings.is_empty() {
        body["warnings"] = told(&warnings).into();
    }
    (status, [(header::CONTENT_TYPE, "application/json")], format!("{body}\n")).into_response()
}

async fn metrics(State(state): State<Arc<AdminState>>) -> Response {
    let format = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, format)], state.metrics.render()).into_response()
}

async fn feeds(State(state): State<Arc<AdminState>>) -> Response {
    let feeds: Vec<serde_json::Value> = state.feeds.iter().map(FeedView::to_json).collect();
    let body = serde_json::json!({ "feeds": feeds });
    ([(header::CONTENT_TYPE, "application/json")], format!("{body}\n")).into_response()
}

async fn effective_config(State(state): State<Arc<AdminState>>) -> Response {
    ([(header::CONTENT_TYPE, "application/toml")], state.config.clone()).into_response()
}

fn secured(mut response: Response) -> Response {
    secure_headers::add(response.headers_mut(), false);
    response
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::metrics::Counter;

    struct Fixture {
        address: SocketAddr,
        state: Arc<AdminState>,
        feed_up: Arc<AtomicBool>,
        server: AdminServer,
    }

    fn fixture() -> Fixture {
        let mut config = Config::default();
        config.admin.listen = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
        let metrics = Arc::new(Metrics::new());
        metrics.register("shard").add(Counter::SignIns, 3);
        let feed_up = Arc::new(AtomicBool::new(true));
        let up = Arc::clone(&feed_up);
        let feed = Check::new("feed", move || if up.load(Ordering::Relaxed) { Ok(()) } else { Err("down".into()) });
        let state = AdminState::new(&config, metrics, vec![feed], Vec::new());
        let listeners = AdminListeners::bind(&config.admin).unwrap();
        let address = listeners.addresses()[0];
        let server = listeners.serve(Arc::clone(&state)).unwrap();
        Fixture { address, state, feed_up, server }
    }

    impl Fixture {
        /// The whole answer to a request.
        fn answer(&self, request: &str) -> String {
            let mut socket = TcpStream::connect(self.address).unwrap();
            socket.write_all(request.as_bytes()).unwrap();
            let mut answer = String::new();
            socket.read_to_string(&mut answer).unwrap();
            answer
        }

        #[track_caller]
        fn check(&self, path: &str, status: &str, parts: &[&str]) {
            let answer = self.answer(&format!("GET {path} HTTP/1.1\r\nHost: admin\r\n\r\n"));
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{path}: {answer}");
            assert!(answer.contains("x-content-type-options: nosniff\r\n"), "{answer}");
            for part in parts {
                assert!(answer.contains(part), "{path} without {part}: {answer}");
            }
        }
    }

    #[test]
    fn pages_tell_how_the_process_is() {
        let admin = fixture();
        admin.check("/livez", "200", &["\r\n\r\nok\n"]);
        let starting = r#"{"ready":false,"reasons":[{"check":"phase","reason":"starting"}]}"#;
        admin.check("/readyz", "503", &[starting, "content-type: application/json\r\n"]);
        admin.state.enter(Phase::Serving);
        admin.check("/readyz", "200", &[r#"{"ready":true,"reasons":[]}"#]);
        admin.feed_up.store(false, Ordering::Relaxed);
        admin.check("/readyz", "503", &[r#"[{"check":"feed","reason":"down"}]"#]);
        admin.state.enter(Phase::Draining);
        admin.check("/readyz", "503", &[r#""draining""#, r#""down""#]);
        admin.check("/livez", "200", &[]);
        admin.check("/metrics", "200", &["text/plain; version=0.0.4", "\ngateway_sign_ins_total 3\n"]);
        admin.check("/config", "200", &["[server]", "handshakes_max = 4096"]);
        admin.check("/", "404", &["/metrics"]);
        admin.server.stop();
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let admin = fixture();
        for (request, status) in [
            ("POST /config HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", "405"),
            ("\u{1}\u{2}\r\n\r\n", "400"),
            (&format!("GET /livez HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(100_000)), "431"),
        ] {
            // Where the server closes with bytes unread, the rest of the answer may be lost to a reset.
            let mut socket = TcpStream::connect(admin.address).unwrap();
            let _ = socket.write_all(request.as_bytes());
            let mut start = [0; 12];
            socket.read_exact(&mut start).unwrap();
            assert_eq!(String::from_utf8_lossy(&start), format!("HTTP/1.1 {status}"));
        }
        admin.check("/livez", "200", &[]);
        admin.server.stop();
    }

    #[test]
    fn a_port_in_use_names_its_key() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let admin = config::Admin { listen: vec![taken.local_addr().unwrap()] };
        let error = AdminListeners::bind(&admin).unwrap_err().to_string();
        assert!(error.starts_with("admin.listen: 127.0.0.1:"), "{error}");
        assert_eq!(error.lines().count(), 1);
    }

    #[test]
    fn stopping_closes_the_port_and_waiting_connections() {
        let admin = fixture();
        let mut idle = TcpStream::connect(admin.address).unwrap();
        admin.server.stop();
        // The end of the stream, or a reset where the system had not handed the connection over yet.
        assert!(!matches!(idle.read(&mut [0; 1]), Ok(1..)));
        assert!(TcpStream::connect(admin.address).is_err());
    }
}
