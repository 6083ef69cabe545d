//! The server's answer to the upgrade request.

use std::time::Duration;

use super::Ending;

/// Longest head of an answer, bytes.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// Longest body of a refusal that is waited for, bytes.
const BODY_BYTES_MAX: usize = 16 << 10;

/// How long the head is, when it is complete and says that the upgrade is done; `Ok(None)` where more bytes are needed.
///
/// # Errors
/// [`Ending::Refused`] with the server's words, [`Ending::Broken`] for what is no answer to an upgrade.
pub(super) fn read(bytes: &[u8], accept: &str) -> Result<Option<usize>, Ending> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    let head_len = match response.parse(bytes) {
        Ok(httparse::Status::Complete(head_len)) => head_len,
        Ok(httparse::Status::Partial) if bytes.len() <= HEAD_BYTES_MAX => return Ok(None),
        Ok(httparse::Status::Partial) => return Err(broken("the head of its answer has no end")),
        Err(error) => return Err(broken(&error.to_string())),
    };
    let header = |name: &str| {
        let header = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(header.value).ok().map(str::trim)
    };
    let status = response.code.unwrap_or(0);
    if status == 101 {
        return match header("sec-websocket-accept") {
            Some(value) if value == accept => Ok(Some(head_len)),
            Some(_) => Err(broken("Sec-WebSocket-Accept does not answer the key")),
            None => Err(broken("Sec-WebSocket-Accept is missing")),
        };
    }
    let body = &bytes[head_len..];
    let body_len = header("content-length").and_then(|len| len.parse::<usize>().ok()).unwrap_or(0);
    if body.len() < body_len.min(BODY_BYTES_MAX) {
        return Ok(None);
    }
    let retry_after = header("retry-after").and_then(|seconds| seconds.parse().ok()).map(Duration::from_secs);
    Err(refused(status, response.reason.unwrap_or(""), body, retry_after))
}

/// A refusal whose body did not arrive as a whole.
pub(super) fn refusal_in_part(bytes: &[u8]) -> Ending {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    match response.parse(bytes) {
        Ok(httparse::Status::Complete(head_len)) if response.code != Some(101) => {
            refused(response.code.unwrap_or(0), response.reason.unwrap_or(""), &bytes[head_len..], None)
        }
        _ => broken("the connection ended inside the answer to the upgrade"),
    }
}

fn refused(status: u16, reason: &str, body: &[u8], retry_after: Option<Duration>) -> Ending {
    let mut text = format!("HTTP {status} {reason}");
    match serde_json::from_slice::<serde_json::Value>(body) {
        Ok(body) if body.get("message").is_some() => {
            for key in ["error", "message"] {
                if let Some(words) = body.get(key).and_then(serde_json::Value::as_str) {
                    text.push_str(", ");
                    text.push_str(words);
                }
            }
        }
        _ => {
            let words = String::from_utf8_lossy(&body[..body.len().min(200)]);
            if !words.trim().is_empty() {
                text.push_str(", ");
                text.push_str(words.trim());
            }
        }
    }
    // Too many at once, or a server that is about to stop: later may be better.
    let retry_after = matches!(status, 429 | 503).then(|| retry_after.unwrap_or(Duration::from_secs(1)));
    Ending::Refused { text, retry_after }
}

fn broken(what: &str) -> Ending {
    Ending::Broken { text: format!("no answer to an upgrade: {what}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DONE: &str = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nSec-WebSocket-Accept: yes\r\n\r\n";

    #[test]
    fn an_upgrade_is_done_when_its_head_is_complete() {
        assert_eq!(read(DONE.as_bytes(), "yes"), Ok(Some(DONE.len())));
        assert_eq!(read(format!("{DONE}frames").as_bytes(), "yes"), Ok(Some(DONE.len())));
        for len in 0..DONE.len() {
            assert_eq!(read(&DONE.as_bytes()[..len], "yes"), Ok(None), "{len}");
        }
        assert!(matches!(read(DONE.as_bytes(), "no"), Err(Ending::Broken { .. })));
        assert!(matches!(read(b"SSH-2.0-OpenSSH\r\n\r\n", "yes"), Err(Ending::Broken { .. })));
    }

    #[test]
    fn a_refusal_has_the_servers_words() {
        let body = r#"{"error":"INVALID_TOKEN","message":"the credentials are not valid"}"#;
        let answer = format!("HTTP/1.1 401 Unauthorized\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        let refused = |text: &str, seconds: Option<u64>| Ending::Refused {
            text: text.to_owned(),
            retry_after: seconds.map(Duration::from_secs),
        };
        let words = "HTTP 401 Unauthorized, INVALID_TOKEN, the credentials are not valid";
        assert_eq!(read(answer.as_bytes(), "yes"), Err(refused(words, None)));
        assert_eq!(read(&answer.as_bytes()[..answer.len() - 1], "yes"), Ok(None));
        assert_eq!(refusal_in_part(b"HTTP/1.1 404 Not Found\r\n\r\n"), refused("HTTP 404 Not Found", None));
        let busy = b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 7\r\n\r\n";
        assert_eq!(read(busy, "yes"), Err(refused("HTTP 429 Too Many Requests", Some(7))));
    }
}
