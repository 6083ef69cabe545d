//! The HTTP door of the WebSocket transport: one request, which becomes a WebSocket or is refused with a
//! status and `{"error", "message"}`. httparse reads the head; tungstenite checks the handshake and computes the
//! answer to its key.
//!
//! No hyper here: with its buffers for each connection, what a rush of sign-ins leaves behind in the allocator was up to
//! twice what the sessions which come of it take.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use entitlements::{Credentials, Principal, Verdict};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, Version};
use protocol::Encoding;

use crate::config::ProxyProtocol;
use crate::context::Context;
use crate::metrics::{Counter, ThreadMetrics};
use crate::platform::audit::Event;
use crate::secure_headers;
use crate::sign_in::charge_connect;
use crate::transport::opening::{self, Opening};
use crate::transport::peer::Peer;

/// Largest head of a request, bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Most header lines in it.
const HEADERS_MAX: usize = 64;

/// What is kept of `User-Agent`, bytes.
const AGENT_BYTES_MAX: usize = 256;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_RATELIMIT_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const X_RATELIMIT_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const X_RATELIMIT_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

const STREAM_PATHS: &str = "/stream, /v2/{feed}, /v1beta3/crypto/{loc}, /v1beta1/news";

/// What an accepted request has settled.
#[derive(Debug)]
pub(crate) struct Accepted {
    /// The answer to the request, yet to be written.
    pub(crate) response: Vec<u8>,
    /// What the client sent behind its request.
    pub(crate) received: Vec<u8>,
    pub(crate) encoding: Encoding,
    /// `User-Agent`, at most [`AGENT_BYTES_MAX`] of it.
    pub(crate) agent: Box<str>,
    /// Signed in by the request already.
    pub(crate) principal: Option<Arc<Principal>>,
}

/// How far a request has come.
enum Head {
    Partial,
    /// With the number of its bytes.
    Complete(Request<()>, usize),
    Refused(HttpRefusal),
}

/// Reads the connection's request. `None` where no WebSocket comes of it; the client has been told why.
pub(crate) async fn serve(
    opening: &mut Opening,
    peer: &mut Peer,
    context: &Context,
    metrics: &ThreadMetrics,
) -> Option<Accepted> {
    let asked = async {
        if context.server.proxy_protocol == ProxyProtocol::V2
            && let Some(client) = opening.read_proxy_header().await?
            && let Err(refusal) = peer.is_at(client, context)
        {
            return Ok((Head::Refused(refusal), Vec::new()));
        }
        request(opening).await
    };
    let answered = tokio::time::timeout(context.server.handshake_timeout, asked).await;
    opening.count_handshake(metrics);
    let answer = match answered {
        Ok(Ok((Head::Complete(request, _), received))) => answer(&request, peer, opening.is_tls(), context, metrics)
            .await
            .map(|accepted| Accepted { received, ..accepted }),
        Ok(Ok((Head::Partial, _))) => return None,
        Ok(Ok((Head::Refused(refusal), _))) => Err(refusal),
        Ok(Err(error)) => {
            tracing::debug!(%error, "no HTTP request");
            metrics.add(opening::refused_counter(&error), 1);
            return None;
        }
        Err(_) => {
            metrics.add(Counter::HandshakeTimeout, 1);
            return None;
        }
    };
    match answer {
        Ok(accepted) => Some(accepted),
        Err(refusal) => {
            metrics.add(refusal.counter, 1);
            opening.write_now(&refusal.into_response(opening.is_tls()));
            None
        }
    }
}

/// Reads until the head of a request is complete, and with it what came behind.
async fn request(opening: &mut Opening) -> io::Result<(Head, Vec<u8>)> {
    // Nearly always the head comes in one read, and is never copied.
    let mut kept: Vec<u8> = Vec::new();
    let mut received: Vec<u8> = Vec::new();
    loop {
        let mut head = Head::Partial;
        opening
            .read(|input| {
                let so_far: &[u8] = if kept.is_empty() {
                    input
                } else {
                    kept.extend_from_slice(input);
                    &kept
                };
                head = parse(so_far);
                match head {
                    Head::Complete(_, bytes) => received = so_far[bytes..].to_vec(),
                    Head::Partial if kept.is_empty() => kept = input.to_vec(),
                    Head::Partial | Head::Refused(_) => {}
                }
            })
            .await?;
        if !matches!(head, Head::Partial) {
            return Ok((head, received));
        }
    }
}

/// Reads the head of a request from all that has come of it.
fn parse(input: &[u8]) -> Head {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut parsed = httparse::Request::new(&mut headers);
    let malformed = |message: &str| Head::Refused(HttpRefusal::malformed(message));
    let too_large = |message: String| {
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        Head::Refused(HttpRefusal::new(status, "HEAD_TOO_LARGE", Counter::HandshakeMalformed, message))
    };
    let bytes = match parsed.parse(input) {
        Ok(httparse::Status::Complete(bytes)) if bytes <= HEAD_BYTES_MAX => bytes,
        Ok(httparse::Status::Partial) if input.len() < HEAD_BYTES_MAX => return Head::Partial,
        Ok(_) => return too_large(format!("the head of a request has at most {HEAD_BYTES_MAX} bytes")),
        Err(httparse::Error::TooManyHeaders) => {
            return too_large(format!("a request has at most {HEADERS_MAX} headers"));
        }
        Err(_) => return malformed("this is no HTTP request"),
    };
    let mut request = Request::builder()
        .method(parsed.method.unwrap_or_default())
        .uri(parsed.path.unwrap_or_default())
        .version(if parsed.version == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 });
    for header in parsed.headers.iter() {
        request = request.header(header.name, header.value);
    }
    match request.body(()) {
        Ok(request) => Head::Complete(request, bytes),
        Err(_) => malformed("the request has a target or a header that is none"),
    }
}

/// A refused request.
#[derive(Debug)]
pub(crate) struct HttpRefusal {
    status: StatusCode,
    error: &'static str,
    message: String,
    counter: Counter,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl HttpRefusal {
    pub(crate) fn new(
        status: StatusCode,
        error: &'static str,
        counter: Counter,
        message: impl Into<String>,
    ) -> HttpRefusal {
        HttpRefusal { status, error, message: message.into(), counter, headers: Vec::new() }
    }

    fn malformed(message: impl Into<String>) -> HttpRefusal {
        HttpRefusal::new(StatusCode::BAD_REQUEST, "BAD_REQUEST", Counter::HandshakeMalformed, message)
    }

    pub(crate) fn too_many_connections(counter: Counter, message: &str) -> HttpRefusal {
        HttpRefusal::new(StatusCode::TOO_MANY_REQUESTS, "TOO_MANY_CONNECTIONS", counter, message)
            .with(header::RETRY_AFTER, 1)
    }

    fn with(mut self, name: HeaderName, value: impl Into<HeaderValue>) -> HttpRefusal {
        self.headers.push((name, value.into()));
        self
    }

    fn with_text(self, name: HeaderName, value: &'static str) -> HttpRefusal {
        self.with(name, HeaderValue::from_static(value))
    }

    /// With the time after which another try makes sense.
    fn with_retry_after(self, after: Duration) -> HttpRefusal {
        self.with(header::RETRY_AFTER, whole_seconds(after).max(1))
    }

    /// With the limit that is used up, at `now_ns` (Unix ns), and when to come back.
    fn with_limit(self, verdict: &Verdict, now_ns: i64) -> HttpRefusal {
        let now = Duration::from_nanos(u64::try_from(now_ns).unwrap_or_default());
        self.with(X_RATELIMIT_LIMIT, verdict.quota.limit)
            .with(X_RATELIMIT_REMAINING, verdict.remaining)
            .with(X_RATELIMIT_RESET, whole_seconds(now.saturating_add(verdict.resets_in)))
            .with_retry_after(verdict.retry_after)
    }

    /// What it counts as.
    pub(crate) fn counter(&self) -> Counter {
        self.counter
    }

    /// The whole answer, for a client that came over TLS or did not.
    pub(crate) fn into_response(self, tls: bool) -> Vec<u8> {
        let body = serde_json::json!({ "error": self.error, "message": self.message }).to_string();
        let mut response = Response::new(());
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        // One request for each connection.
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        secure_headers::add(headers, tls);
        for (name, value) in self.headers {
            headers.insert(name, value);
        }
        let mut bytes = written(&response);
        bytes.extend_from_slice(body.as_bytes());
        bytes
    }
}

/// Rounded up, so that nobody comes back too early.
fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

/// The head of a response as it goes out.
fn written(response: &Response<()>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(512);
    tungstenite::handshake::server::write_response(&mut bytes, response)
        .expect("Invariant: a response with valid headers can be written to memory");
    bytes
}

/// Decides on a request. The cheapest question comes first, and nobody who may not be here learns more than that.
async fn answer(
    request: &Request<()>,
    peer: &mut Peer,
    tls: bool,
    context: &Context,
    metrics: &ThreadMetrics,
) -> Result<Accepted, HttpRefusal> {
    let forwarded = request.headers().get_all(X_FORWARDED_FOR).iter();
    // A line that is no text ends the search for the client, as everything does that is no address.
    peer.is_client(forwarded.map(|line| line.to_str().unwrap_or("?")), context)?;
    check_client(request, context)?;
    let (mut response, encoding) = upgrade(request, context)?;
    secure_headers::add(response.headers_mut(), tls);
    let principal = match credentials(request) {
        None => None,
        Some(credentials) => Some(principal(credentials, peer, context, metrics).await?),
    };
    if let Some(principal) = &principal {
        let verdict = charge_connect(context, principal).await;
        if !verdict.allowed {
            return Err(rate_limited(&verdict, context.now().wall_ns));
        }
    }
    check_size(request.headers(), context.server.message_bytes_max)?;
    let agent = agent(request);
    Ok(Accepted { response: written(&response), received: Vec::new(), encoding, agent, principal })
}

/// Refuses programs that look for holes, and pages that may not connect.
fn check_client(request: &Request<()>, context: &Context) -> Result<(), HttpRefusal> {
    let headers = request.headers();
    let mut agents = headers.get_all(header::USER_AGENT).iter();
    if agents.any(|agent| is_suspicious(agent.as_bytes(), &context.server.suspicious_agents)) {
        let message = "clients of this kind are not accepted";
        let counter = Counter::HandshakeSuspicious;
        return Err(HttpRefusal::new(StatusCode::FORBIDDEN, "SUSPICIOUS_CLIENT", counter, message));
    }
    let allowed = &context.server.origins;
    let is_allowed =
        |origin: &HeaderValue| allowed.iter().any(|allowed| allowed.as_bytes().eq_ignore_ascii_case(origin.as_bytes()));
    if !allowed.is_empty() && !headers.get_all(header::ORIGIN).iter().all(is_allowed) {
        let message = "pages of this origin may not connect";
        return Err(HttpRefusal::new(StatusCode::FORBIDDEN, "ORIGIN_REFUSED", Counter::HandshakeOrigin, message));
    }
    Ok(())
}

/// Whether one of `parts` occurs in a `User-Agent`, in any case of letters.
fn is_suspicious(agent: &[u8], parts: &[String]) -> bool {
    let occurs = |part: &[u8]| agent.windows(part.len()).any(|window| window.eq_ignore_ascii_case(part));
    parts.iter().any(|part| !part.is_empty() && occurs(part.as_bytes()))
}

/// The answer to a request that is a good upgrade.
fn upgrade(request: &Request<()>, context: &Context) -> Result<(Response<()>, Encoding), HttpRefusal> {
    if !is_stream_path(request.uri().path()) {
        let message = format!("streams are at {STREAM_PATHS}");
        return Err(HttpRefusal::new(StatusCode::NOT_FOUND, "NOT_FOUND", Counter::HandshakeUnknownPath, message));
    }
    if request.method() != Method::GET {
        let (status, counter) = (StatusCode::METHOD_NOT_ALLOWED, Counter::HandshakeNotUpgrade);
        let refusal = HttpRefusal::new(status, "METHOD_NOT_ALLOWED", counter, "only GET");
        return Err(refusal.with_text(header::ALLOW, "GET"));
    }
    if context.is_draining() {
        let (status, counter) = (StatusCode::SERVICE_UNAVAILABLE, Counter::HandshakeDraining);
        return Err(HttpRefusal::new(status, "DRAINING", counter, "the server is about to stop"));
    }
    let version = request.headers().get(header::SEC_WEBSOCKET_VERSION);
    if !request.headers().contains_key(header::UPGRADE) || version.is_some_and(|version| version != "13") {
        let (status, counter) = (StatusCode::UPGRADE_REQUIRED, Counter::HandshakeNotUpgrade);
        let message = "this is a WebSocket endpoint: connect with ws://";
        return Err(HttpRefusal::new(status, "UPGRADE_REQUIRED", counter, message)
            .with_text(header::UPGRADE, "websocket")
            .with_text(header::CONNECTION, "upgrade, close")
            .with_text(header::SEC_WEBSOCKET_VERSION, "13"));
    }
    let response = tungstenite::handshake::server::create_response(request)
        .map_err(|error| HttpRefusal::malformed(error.to_string()))?;
    let encoding = encoding(request)
        .map_err(|unknown| HttpRefusal::malformed(format!("unknown encoding {unknown:?}: json or msgpack")))?;
    Ok((response, encoding))
}

/// Signs in with what the request shows; `None` of it could not be understood.
async fn principal(
    credentials: Option<Credentials>,
    peer: &Peer,
    context: &Context,
    metrics: &ThreadMetrics,
) -> Result<Arc<Principal>, HttpRefusal> {
    let invalid = || {
        let (status, counter) = (StatusCode::UNAUTHORIZED, Counter::HandshakeUnauthorized);
        HttpRefusal::new(status, "INVALID_TOKEN", counter, "the credentials are not valid")
            .with_text(header::WWW_AUTHENTICATE, "Bearer")
    };
    let Some(credentials) = credentials else {
        metrics.add(Counter::SignInMalformed, 1);
        context.audit.record(Event::SignInRefused { address: peer.address(), reason: "malformed" });
        return Err(invalid());
    };
    let signed_in = context.door.sign_in(&credentials, peer.address(), context.now().wall_s()).await;
    signed_in.map_err(|error| {
        metrics.add(Counter::from(error.reason()), 1);
        let (address, reason) = (peer.address(), error.reason().name());
        context.audit.record(Event::SignInRefused { address, reason });
        let (status, name, counter) = match error.code() {
            429 => (StatusCode::TOO_MANY_REQUESTS, "RATE_LIMIT_EXCEEDED", Counter::HandshakeTooManyAttempts),
            503 => (StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", Counter::HandshakeUnavailable),
            _ => return invalid(),
        };
        let refusal = HttpRefusal::new(status, name, counter, error.to_string());
        match error.verdict() {
            Some(verdict) => refusal.with_limit(&verdict, context.now().wall_ns),
            None => refusal.with_retry_after(error.retry_after().unwrap_or_default()),
        }
    })
}

/// The answer to a user whose requests are used up, at `now_ns` (Unix ns).
fn rate_limited(verdict: &Verdict, now_ns: i64) -> HttpRefusal {
    let (status, counter) = (StatusCode::TOO_MANY_REQUESTS, Counter::HandshakeRateLimit);
    HttpRefusal::new(status, "RATE_LIMIT_EXCEEDED", counter, "too many requests").with_limit(verdict, now_ns)
}

/// Refuses a body that is too large, or of a length that nobody tells: an upgrade needs none.
fn check_size(headers: &HeaderMap, bytes_max: usize) -> Result<(), HttpRefusal> {
    let fits = |length: &HeaderValue| {
        length.to_str().ok().and_then(|text| text.trim().parse::<usize>().ok()).is_some_and(|bytes| bytes <= bytes_max)
    };
    let chunked = headers.contains_key(header::TRANSFER_ENCODING);
    if !chunked && headers.get_all(header::CONTENT_LENGTH).iter().all(fits) {
        return Ok(());
    }
    let message = format!("a body has at most {bytes_max} bytes, and says how many");
    let status = StatusCode::PAYLOAD_TOO_LARGE;
    Err(HttpRefusal::new(status, "PAYLOAD_TOO_LARGE", Counter::HandshakeTooLarge, message))
}

/// `/stream`, and where Alpaca's clients look.
fn is_stream_path(path: &str) -> bool {
    let parts: Vec<&str> = path.trim_start_matches('/').trim_end_matches('/').split('/').collect();
    matches!(parts[..], ["stream"] | ["v2", _] | ["v1beta3", "crypto", _] | ["v1beta1", "news"])
}

/// MessagePack where `Content-Type: application/msgpack` or `?encoding=msgpack` asks for it. The error is the
/// name of an encoding that there is not.
fn encoding(request: &Request<()>) -> Result<Encoding, String> {
    if let Some(name) = query(request, "encoding") {
        return Encoding::from_name(&name).ok_or(name);
    }
    let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let msgpack = content_type.trim().to_ascii_lowercase().starts_with("application/msgpack");
    Ok(if msgpack { Encoding::MessagePack } else { Encoding::Json })
}

fn agent(request: &Request<()>) -> Box<str> {
    let mut agent = text(request.headers(), "user-agent").unwrap_or_default();
    agent.truncate(agent.floor_char_boundary(AGENT_BYTES_MAX));
    agent.into()
}

fn query(request: &Request<()>, name: &str) -> Option<String> {
    let query = request.uri().query()?.as_bytes();
    form_urlencoded::parse(query).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

/// Credentials that came with the request: `None` where there are none, `Some(None)` where they cannot be
/// understood.
fn credentials(request: &Request<()>) -> Option<Option<Credentials>> {
    let headers = request.headers();
    if let Some(authorization) = headers.get(header::AUTHORIZATION) {
        return Some(authorization.to_str().ok().and_then(from_authorization));
    }
    if let Some(key) = text(headers, "apca-api-key-id") {
        let secret = text(headers, "apca-api-secret-key").unwrap_or_default();
        return Some(Some(Credentials::Key { key, secret }));
    }
    if let Some(key) = text(headers, "x-api-key") {
        return Some(Some(from_token(&key)));
    }
    query(request, "token").map(|token| Some(from_token(&token)))
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).trim().to_owned())
}

fn from_authorization(value: &str) -> Option<Credentials> {
    let (scheme, value) = value.trim().split_once(' ')?;
    let value = value.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(from_token(value));
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = String::from_utf8(BASE64.decode(value).ok()?).ok()?;
    let (key, secret) = pair.split_once(':')?;
    Some(Credentials::Key { key: key.to_owned(), secret: secret.to_owned() })
}

/// A JSON Web Token has two dots; an API key is written `id.secret` or `id:secret`.
fn from_token(value: &str) -> Credentials {
    let token = || Credentials::Token(value.to_owned());
    if value.matches('.').count() == 2 {
        return token();
    }
    value
        .split_once(['.', ':'])
        .map_or_else(token, |(key, secret)| Credentials::Key { key: key.to_owned(), secret: secret.to_owned() })
}

#[cfg(test)]
mod tests {
    use entitlements::Quota;

    use super::*;

    #[test]
    fn a_refusal_says_how_long_to_wait() {
        let verdict = Verdict {
            allowed: false,
            quota: Quota::per_minute(100),
            remaining: 0,
            resets_in: Duration::from_millis(41_500),
            retry_after: Duration::from_millis(2_001),
        };
        let answer = rate_limited(&verdict, 1_700_000_000_600_000_000).into_response(true);
        let answer = String::from_utf8(answer).unwrap().to_lowercase();
        assert!(answer.starts_with("http/1.1 429 "), "{answer}");
        for line in [
            "x-ratelimit-limit: 100",
            "x-ratelimit-remaining: 0",
            "x-ratelimit-reset: 1700000043",
            "retry-after: 3",
            "cache-control: no-store",
            "strict-transport-security: max-age=31536000; includesubdomains",
        ] {
            assert!(answer.contains(&format!("\r\n{line}\r\n")), "{line}: {answer}");
        }
        let unknown = HttpRefusal::malformed("x").into_response(false);
        assert!(!String::from_utf8(unknown).unwrap().to_lowercase().contains("strict-transport"));
    }

    #[test]
    fn scanners_are_known_by_a_part_of_their_name() {
        let parts = ["sqlmap".to_owned(), "Nikto".to_owned(), String::new()];
        for (agent, suspicious) in [
            ("sqlmap/1.7#stable", true),
            ("Mozilla/5.0 (NIKTO)", true),
            ("Mozilla/5.0", false),
            ("sqlma", false),
            ("", false),
        ] {
            assert_eq!(is_suspicious(agent.as_bytes(), &parts), suspicious, "{agent}");
        }
    }

    #[test]
    fn bodies_are_bounded() {
        let check = |lines: &[(&str, &str)], fits: bool| {
            let mut headers = HeaderMap::new();
            for (name, value) in lines {
                headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
            }
            assert_eq!(check_size(&headers, 1024).is_ok(), fits, "{lines:?}");
        };
        check(&[], true);
        check(&[("content-length", "1024")], true);
        check(&[("content-length", "1025")], false);
        check(&[("content-length", "0"), ("content-length", "5000")], false);
        check(&[("content-length", "99999999999999999999999")], false);
        check(&[("content-length", "-1")], false);
        check(&[("transfer-encoding", "chunked")], false);
    }

    #[test]
    fn paths_of_alpaca_and_ours_reach_the_stream() {
        for path in ["/stream", "/stream/", "/v2/iex", "/v2/sip", "/v1beta3/crypto/us", "/v1beta1/news"] {
            assert!(is_stream_path(path), "{path}");
        }
        for path in ["/", "", "/v2", "/v2/iex/x", "/v1beta3/crypto", "/v1beta1", "/streams", "/../stream"] {
            assert!(!is_stream_path(path), "{path}");
        }
    }

    #[test]
    fn credentials_are_told_apart() {
        let key = |key: &str, secret: &str| Credentials::Key { key: key.into(), secret: secret.into() };
        assert_eq!(from_token("id.secret"), key("id", "secret"));
        assert_eq!(from_token("id:sec:ret"), key("id", "sec:ret"));
        assert_eq!(from_token("aa.bb.cc"), Credentials::Token("aa.bb.cc".into()));
        assert_eq!(from_token("opaque"), Credentials::Token("opaque".into()));
        assert_eq!(from_authorization("bearer  aa.bb.cc"), Some(Credentials::Token("aa.bb.cc".into())));
        assert_eq!(from_authorization("Basic aWQ6c2VjcmV0"), Some(key("id", "secret")));
        for refused in ["", "Bearer", "Basic !", "Basic aWQ=", "Digest x"] {
            assert_eq!(from_authorization(refused), None, "{refused}");
        }
    }
}
