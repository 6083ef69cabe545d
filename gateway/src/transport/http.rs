//! The HTTP door of the WebSocket transport: one request, which becomes a WebSocket or is refused with a
//! status and `{"error", "message"}`. httparse reads the head; tungstenite checks the handshake and computes the
//! answer to its key.
//!
//! No hyper here: with its buffers for each connection, what a rush of sign-ins leaves behind in the allocator was up to
//! twice what the sessions which come of it take.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use entitlements::{Credentials, Principal, Refusal};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, Version};
use protocol::Encoding;

use crate::context::Context;
use crate::metrics::{Counter, ThreadMetrics};
use crate::platform::audit::Event;
use crate::transport::opening::{self, Opening};

/// Largest head of a request, bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Most header lines in it.
const HEADERS_MAX: usize = 64;

/// What is kept of `User-Agent`, bytes.
const AGENT_BYTES_MAX: usize = 256;

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
    peer: IpAddr,
    context: &Context,
    metrics: &ThreadMetrics,
) -> Option<Accepted> {
    let answered = tokio::time::timeout(context.server.handshake_timeout, request(opening)).await;
    opening.count_handshake(metrics);
    let answer = match answered {
        Ok(Ok((Head::Complete(request, _), received))) => {
            answer(&request, peer, context, metrics).await.map(|accepted| Accepted { received, ..accepted })
        }
        Ok(Ok((Head::Partial, _))) => return None,
        Ok(Ok((Head::Refused(refusal), _))) => {
            metrics.add(Counter::HandshakeMalformed, 1);
            Err(refusal)
        }
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
            opening.write_now(&refusal.into_response());
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
    let malformed = |message: &str| Head::Refused(HttpRefusal::new(StatusCode::BAD_REQUEST, "BAD_REQUEST", message));
    let too_large = |message: String| {
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        Head::Refused(HttpRefusal::new(status, "HEAD_TOO_LARGE", message))
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
struct HttpRefusal {
    status: StatusCode,
    error: &'static str,
    message: String,
    headers: &'static [(HeaderName, &'static str)],
}

impl HttpRefusal {
    fn new(status: StatusCode, error: &'static str, message: impl Into<String>) -> HttpRefusal {
        HttpRefusal { status, error, message: message.into(), headers: &[] }
    }

    fn into_response(self) -> Vec<u8> {
        let body = serde_json::json!({ "error": self.error, "message": self.message }).to_string();
        let mut response = Response::new(());
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        // One request for each connection.
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        for (name, value) in self.headers {
            headers.insert(name.clone(), HeaderValue::from_static(value));
        }
        let mut bytes = written(&response);
        bytes.extend_from_slice(body.as_bytes());
        bytes
    }
}

/// The head of a response as it goes out.
fn written(response: &Response<()>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(256);
    tungstenite::handshake::server::write_response(&mut bytes, response)
        .expect("Invariant: a response with valid headers can be written to memory");
    bytes
}

async fn answer(
    request: &Request<()>,
    peer: IpAddr,
    context: &Context,
    metrics: &ThreadMetrics,
) -> Result<Accepted, HttpRefusal> {
    if !is_stream_path(request.uri().path()) {
        metrics.add(Counter::HandshakeUnknownPath, 1);
        let message = format!("streams are at {STREAM_PATHS}");
        return Err(HttpRefusal::new(StatusCode::NOT_FOUND, "NOT_FOUND", message));
    }
    if request.method() != Method::GET {
        metrics.add(Counter::HandshakeNotUpgrade, 1);
        let refusal = HttpRefusal::new(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", "only GET");
        return Err(HttpRefusal { headers: &[(header::ALLOW, "GET")], ..refusal });
    }
    if context.is_draining() {
        metrics.add(Counter::HandshakeDraining, 1);
        return Err(HttpRefusal::new(StatusCode::SERVICE_UNAVAILABLE, "DRAINING", "the server is about to stop"));
    }
    let version = request.headers().get(header::SEC_WEBSOCKET_VERSION);
    if !request.headers().contains_key(header::UPGRADE) || version.is_some_and(|version| version != "13") {
        metrics.add(Counter::HandshakeNotUpgrade, 1);
        let message = "this is a WebSocket endpoint: connect with ws://";
        let refusal = HttpRefusal::new(StatusCode::UPGRADE_REQUIRED, "UPGRADE_REQUIRED", message);
        let headers = &[
            (header::UPGRADE, "websocket"),
            (header::CONNECTION, "upgrade, close"),
            (header::SEC_WEBSOCKET_VERSION, "13"),
        ];
        return Err(HttpRefusal { headers, ..refusal });
    }
    let response = tungstenite::handshake::server::create_response(request).map_err(|error| {
        metrics.add(Counter::HandshakeMalformed, 1);
        HttpRefusal::new(StatusCode::BAD_REQUEST, "BAD_REQUEST", error.to_string())
    })?;
    let encoding = encoding(request).map_err(|unknown| {
        metrics.add(Counter::HandshakeMalformed, 1);
        let message = format!("unknown encoding {unknown:?}: json or msgpack");
        HttpRefusal::new(StatusCode::BAD_REQUEST, "BAD_REQUEST", message)
    })?;
    let principal = match credentials(request) {
        None => None,
        Some(credentials) => {
            let signed_in = match credentials {
                None => Err(None),
                Some(credentials) => {
                    let signed_in = context.door.sign_in(&credentials, peer, context.now().wall_s()).await;
                    signed_in.map_err(|error| Some(error.reason()))
                }
            };
            Some(signed_in.map_err(|reason| {
                metrics.add(Counter::HandshakeUnauthorized, 1);
                metrics.add(reason.map_or(Counter::SignInMalformed, Counter::from), 1);
                let reason = reason.map_or("malformed", Refusal::name);
                context.audit.record(Event::SignInRefused { address: peer, reason });
                let refusal =
                    HttpRefusal::new(StatusCode::UNAUTHORIZED, "INVALID_TOKEN", "the credentials are not valid");
                HttpRefusal { headers: &[(header::WWW_AUTHENTICATE, "Bearer")], ..refusal }
            })?)
        }
    };
    let agent = agent(request);
    Ok(Accepted { response: written(&response), received: Vec::new(), encoding, agent, principal })
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
    use super::*;

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
