//! A small HTTP/1.1 client: one GET a connection, its answer as a whole or chunk by chunk.
//!
//! Used on the thread of whoever asks, inside its tokio runtime. Everything has a bound: the time to the answer's
//! headers, the time and the bytes of a whole answer, the bytes of headers and of a chunk. URLs and headers may hold
//! keys, so errors and `Debug` show the host and the path alone. Deliberately absent: redirects, which would carry a
//! key to where they point, compression, cookies, proxies and reuse of connections.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::{Body, Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::rt::{Read, Write};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use protocol::parse_rfc3339;
use rustls::ClientConfig;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

pub use super::dial::DialError;
use super::dial::dial;
use super::{tls, wall_ns};

/// All headers of an answer, and at most so many bytes in one chunk.
const BUFFER_BYTES_MAX: usize = 64 << 10;

/// Longest wait that an answer may ask for: more is an error of its own.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(86_400);

/// What to ask, of whom, and how long to wait for it.
pub struct FetchRequest {
    uri: Uri,
    host: String,
    port: u16,
    headers: HeaderMap,
    tls: Option<TlsConnector>,
    limits: FetchLimits,
}

/// What an answer may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchLimits {
    /// From the start until the headers of the answer are there.
    pub connect: Duration,
    /// From the start until the body of a [`fetch`] is there. `connect <= total`
    pub total: Duration,
    /// Longest body of a [`fetch`].
    pub body_bytes_max: usize,
}

/// Why a request cannot be made. Shows nothing of the address, which may hold a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    #[error("no http:// or https:// address, or one with a name and password")]
    Url,
    #[error("a key or token with bytes that no header can hold")]
    Header,
    #[error("tls: {0}")]
    Tls(String),
}

/// Why there is no answer, or not all of it.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error(transparent)]
    NotConnected(#[from] DialError),
    #[error("no answer of {host} within {within:?}")]
    Timeout { host: String, within: Duration },
    #[error("{host} does not speak HTTP, or broke off: {error}")]
    Broken { host: String, error: hyper::Error },
    #[error("the answer of {host} is longer than {bytes_max} bytes")]
    TooLong { host: String, bytes_max: usize },
}

/// A whole answer, whatever its status.
#[derive(Clone, Debug)]
pub struct Fetched {
    pub status: StatusCode,
    /// How long the server wants to be left alone.
    pub retry_after: Option<Duration>,
    pub body: Bytes,
}

/// An answer whose headers are there. Dropping it ends the connection.
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    host: String,
    body: Incoming,
    _connection: Connection,
}

/// The task that moves the connection's bytes.
struct Connection(AbortHandle);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl FetchRequest {
    /// A request for `url`, `https://` or, for tests on the same machine, `http://`.
    ///
    /// # Errors
    /// [`RequestError::Url`], and [`RequestError::Tls`] where TLS cannot be set up.
    pub fn new(url: &str, limits: FetchLimits) -> Result<FetchRequest, RequestError> {
        let tls = tls::client_config().map_err(|error| RequestError::Tls(error.to_string()))?;
        FetchRequest::with_tls(url, limits, tls)
    }

    fn with_tls(url: &str, limits: FetchLimits, tls: Arc<ClientConfig>) -> Result<FetchRequest, RequestError> {
        let uri: Uri = url.parse().map_err(|_| RequestError::Url)?;
        let (tls, port) = match uri.scheme_str() {
            Some("https") => (Some(TlsConnector::from(tls)), 443),
            Some("http") => (None, 80),
            _ => return Err(RequestError::Url),
        };
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'));
        let authority = authority.ok_or(RequestError::Url)?;
        // An IPv6 address stands in brackets.
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err(RequestError::Url);
        }
        let port = authority.port_u16().unwrap_or(port);
        let name = HeaderValue::from_str(authority.as_str()).map_err(|_| RequestError::Url)?;
        let headers = HeaderMap::from_iter([
            (header::HOST, name),
            (header::USER_AGENT, HeaderValue::from_static(concat!("market-gateway/", env!("CARGO_PKG_VERSION")))),
            (header::ACCEPT_ENCODING, HeaderValue::from_static("identity")),
        ]);
        Ok(FetchRequest { uri, host, port, headers, tls, limits })
    }

    /// The same request with a header more, whose value is never shown.
    ///
    /// # Errors
    /// [`RequestError::Header`] where the value has bytes that no header can hold.
    pub fn with_header(mut self, name: HeaderName, value: &str) -> Result<FetchRequest, RequestError> {
        let mut value = HeaderValue::from_str(value).map_err(|_| RequestError::Header)?;
        value.set_sensitive(true);
        self.headers.insert(name, value);
        Ok(self)
    }

    /// The same request with another query, without its `?`.
    ///
    /// # Errors
    /// [`RequestError::Url`] where it has bytes that no query can hold.
    pub fn with_query(&self, query: &str) -> Result<FetchRequest, RequestError> {
        let mut parts = self.uri.clone().into_parts();
        let path = format!("{}?{query}", self.uri.path());
        parts.path_and_query = Some(path.parse().map_err(|_| RequestError::Url)?);
        let uri = Uri::from_parts(parts).map_err(|_| RequestError::Url)?;
        let (host, headers, tls) = (self.host.clone(), self.headers.clone(), self.tls.clone());
        Ok(FetchRequest { uri, host, port: self.port, headers, tls, limits: self.limits })
    }

    /// Whom it asks, for the log.
    pub fn host(&self) -> &str {
        &self.host
    }
}

impl std::fmt::Debug for FetchRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FetchRequest").field("host", &self.host).field("path", &self.uri.path()).finish_non_exhaustive()
    }
}

/// Asks, and gives the whole answer, whatever its status.
///
/// # Errors
/// [`FetchError`]; the status of an answer is none.
pub async fn fetch(request: &FetchRequest) -> Result<Fetched, FetchError> {
    let start = Instant::now();
    let answer = stream(request).await?;
    let (status, retry_after) = (answer.status, answer.retry_after());
    let body = answer.whole_body(start + request.limits.total, request.limits).await?;
    Ok(Fetched { status, retry_after, body })
}

/// Asks, and gives the answer once its headers are there.
///
/// # Errors
/// [`FetchError`]; the status of an answer is none.
pub async fn stream(request: &FetchRequest) -> Result<Answer, FetchError> {
    let within = request.limits.connect;
    match timeout_at(Instant::now() + within, connect_and_ask(request)).await {
        Ok(answer) => answer,
        Err(_) => Err(FetchError::Timeout { host: request.host.clone(), within }),
    }
}

async fn connect_and_ask(request: &FetchRequest) -> Result<Answer, FetchError> {
    let line = dial(&request.host, request.port, request.tls.as_ref()).await?;
    ask(request, TokioIo::new(line)).await
}

async fn ask(request: &FetchRequest, io: impl Read + Write + Send + Unpin + 'static) -> Result<Answer, FetchError> {
    let broken = |error| FetchError::Broken { host: request.host.clone(), error };
    let (mut sender, connection) =
        http1::Builder::new().max_buf_size(BUFFER_BYTES_MAX).handshake(io).await.map_err(broken)?;
    // How it ends is told by the answer and its body.
    let task = tokio::spawn(async move { _ = connection.await });
    let connection = Connection(task.abort_handle());
    let mut get = Request::new(String::new());
    *get.uri_mut() = request.uri.path_and_query().cloned().map_or_else(Uri::default, Uri::from);
    get.headers_mut().clone_from(&request.headers);
    let (head, body) = sender.send_request(get).await.map_err(broken)?.into_parts();
    let (status, headers, host) = (head.status, head.headers, request.host.clone());
    Ok(Answer { status, headers, host, body, _connection: connection })
}

impl Answer {
    /// How long the server wants to be left alone, at most a day.
    pub fn retry_after(&self) -> Option<Duration> {
        retry_after(self.headers.get(header::RETRY_AFTER)?.to_str().ok()?, wall_ns())
    }

    /// The next bytes of the body, as they come; `None` at its end. May be dropped and called again.
    ///
    /// # Errors
    /// [`FetchError::Broken`] where the body ends before it is whole.
    pub async fn next_chunk(&mut self) -> Result<Option<Bytes>, FetchError> {
        loop {
            match poll_fn(|context| Pin::new(&mut self.body).poll_frame(context)).await {
                None => return Ok(None),
                // Trailers say nothing that is of use.
                Some(Ok(frame)) => {
                    if let Ok(chunk) = frame.into_data() {
                        return Ok(Some(chunk));
                    }
                }
                Some(Err(error)) => return Err(FetchError::Broken { host: self.host.clone(), error }),
            }
        }
    }

    /// The rest of the body.
    ///
    /// # Errors
    /// [`FetchError`] where it is broken off, longer than the limit, or not there at the deadline.
    pub async fn whole_body(mut self, deadline: Instant, limits: FetchLimits) -> Result<Bytes, FetchError> {
        let host = self.host.clone();
        let body = async {
            let mut body = Vec::new();
            while let Some(chunk) = self.next_chunk().await? {
                if chunk.len() > limits.body_bytes_max - body.len() {
                    return Err(FetchError::TooLong { host: self.host.clone(), bytes_max: limits.body_bytes_max });
                }
                body.extend_from_slice(&chunk);
            }
            Ok(body.into())
        };
        timeout_at(deadline, body).await.unwrap_or(Err(FetchError::Timeout { host, within: limits.total }))
    }
}

/// `Retry-After` in either of its forms: seconds, or the date `Wed, 21 Oct 2015 07:28:00 GMT`.
fn retry_after(text: &str, now_ns: i64) -> Option<Duration> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(text.parse().map_or(RETRY_AFTER_MAX, Duration::from_secs).min(RETRY_AFTER_MAX));
    }
    let mut words = text.split_once(", ")?.1.split(' ');
    let [day, month, year, time, zone] = [(); 5].map(|()| words.next().unwrap_or_default());
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = 1 + months.iter().position(|name| *name == month)?;
    if zone != "GMT" || words.next().is_some() {
        return None;
    }
    let at = parse_rfc3339(format!("{year}-{month:02}-{day}T{time}Z").as_bytes())?;
    let wait = u64::try_from(at.saturating_sub(now_ns)).unwrap_or(0);
    Some(Duration::from_nanos(wait).min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests;
