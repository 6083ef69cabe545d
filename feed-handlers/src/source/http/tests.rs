//! The client against a server on this machine: with TLS and without, and against answers that are too long, too late,
//! or none.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::*;

const LIMITS: FetchLimits =
    FetchLimits { connect: Duration::from_secs(60), total: Duration::from_secs(60), body_bytes_max: 1_000 };

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";

/// Serves one connection: tells the head of the request, says `answer`, and keeps the connection until the test's end.
async fn serve(
    mut socket: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    answer: String,
    heads: oneshot::Sender<String>,
) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.expect("a request"));
    }
    heads.send(String::from_utf8(head).expect("text")).expect("the test waits");
    socket.write_all(answer.as_bytes()).await.expect("write");
    socket.flush().await.expect("flush");
    std::future::pending::<()>().await;
}

/// Fetches from a server that says `answer`, and gives what came of it and the head of the request.
async fn fetch_from(answer: &str, limits: FetchLimits) -> (Result<Fetched, FetchError>, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/a/b?token=T0K3N&c=d", listener.local_addr().unwrap());
    let request = FetchRequest::new(&url, limits).unwrap().with_header(header::AUTHORIZATION, "Bearer T0K3N").unwrap();
    let (sender, head) = oneshot::channel();
    let answer = answer.to_owned();
    let server = tokio::spawn(async move { serve(listener.accept().await.unwrap().0, answer, sender).await });
    let fetched = fetch(&request).await;
    server.abort();
    (fetched, head.await.unwrap())
}

#[tokio::test]
async fn asks_once_and_gives_the_whole_answer() {
    let (fetched, head) = fetch_from(OK, LIMITS).await;
    let fetched = fetched.unwrap();
    assert_eq!((fetched.status, &*fetched.body, fetched.retry_after), (StatusCode::OK, &b"hello"[..], None));
    assert!(head.starts_with("GET /a/b?token=T0K3N&c=d HTTP/1.1\r\n"), "{head}");
    for line in ["host: 127.0.0.1:", "authorization: Bearer T0K3N\r\n", "accept-encoding: identity\r\n"] {
        assert!(head.contains(line), "{line} {head}");
    }
    // Statuses are no errors, and trailers no data.
    let answer = "HTTP/1.1 429 Slow Down\r\nretry-after: 17\r\ntransfer-encoding: chunked\r\n\r\n\
                  3\r\nhel\r\n2\r\nlo\r\n0\r\nchecksum: 1\r\n\r\n";
    let fetched = fetch_from(answer, LIMITS).await.0.unwrap();
    assert_eq!((fetched.status.as_u16(), &*fetched.body), (429, &b"hello"[..]));
    assert_eq!(fetched.retry_after, Some(Duration::from_secs(17)));
}

#[track_caller]
fn assert_error(fetched: Result<Fetched, FetchError>, expected: &str) {
    let error = fetched.expect_err(expected);
    assert_eq!(error.to_string().split(" (").next(), Some(expected));
    assert!(!format!("{error} {error:?}").contains("T0K3N"));
}

#[tokio::test]
async fn an_answer_has_bounds() {
    let bounded = FetchLimits { body_bytes_max: 5, ..LIMITS };
    assert_eq!(&*fetch_from(OK, bounded).await.0.unwrap().body, b"hello");
    let bounded = FetchLimits { body_bytes_max: 4, ..LIMITS };
    assert_error(fetch_from(OK, bounded).await.0, "the answer of 127.0.0.1 is longer than 4 bytes");
    let quick = FetchLimits { connect: Duration::from_millis(50), ..LIMITS };
    assert_error(fetch_from("", quick).await.0, "no answer of 127.0.0.1 within 50ms");
    let quick = FetchLimits { total: Duration::from_millis(50), ..LIMITS };
    assert_error(fetch_from(&OK[..OK.len() - 1], quick).await.0, "no answer of 127.0.0.1 within 50ms");
    // Headers without end.
    let endless = format!("HTTP/1.1 200 OK\r\na: {}", "x".repeat(BUFFER_BYTES_MAX + 1));
    let error = fetch_from(&endless, LIMITS).await.0.unwrap_err();
    assert!(matches!(error, FetchError::Broken { .. }), "{error}");
}

#[tokio::test]
async fn nobody_there_is_an_error_of_its_own() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/?token=T0K3N", listener.local_addr().unwrap());
    drop(listener);
    let error = fetch(&FetchRequest::new(&url, LIMITS).unwrap()).await.unwrap_err();
    assert!(matches!(error, FetchError::NotConnected(DialError::NotConnected { .. })), "{error}");
    assert!(!format!("{error} {error:?}").contains("T0K3N"));
}

#[tokio::test]
async fn over_tls_the_server_has_to_be_vouched_for() {
    let (acceptor, tls) = tls::local_server();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let url = format!("https://localhost:{port}/?token=T0K3N");

    // Nobody of renown vouches for it.
    let request = FetchRequest::new(&url, LIMITS).unwrap();
    let (error, refused) =
        tokio::join!(fetch(&request), async { acceptor.accept(listener.accept().await.unwrap().0).await.is_err() });
    let error = error.unwrap_err();
    assert!(matches!(error, FetchError::NotConnected(DialError::NoTls { .. })) && refused, "{error}");

    let request = FetchRequest::with_tls(&url, LIMITS, Arc::clone(&tls)).unwrap();
    let (sender, head) = oneshot::channel();
    let accepted = acceptor.clone();
    let server = tokio::spawn(async move {
        let socket = accepted.accept(listener.accept().await.unwrap().0).await.unwrap();
        serve(socket, OK.to_owned(), sender).await;
    });
    assert_eq!(&*fetch(&request).await.unwrap().body, b"hello");
    assert!(head.await.unwrap().contains(&format!("host: localhost:{port}\r\n")));
    server.abort();
    _ = server.await;

    // It is not the server of another name.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    let request = FetchRequest::with_tls(&url, LIMITS, tls).unwrap();
    let (error, _) =
        tokio::join!(fetch(&request), async { acceptor.accept(listener.accept().await.unwrap().0).await.is_err() });
    let error = error.unwrap_err();
    assert!(matches!(error, FetchError::NotConnected(DialError::NoTls { .. })), "{error}");
}

#[test]
fn addresses_and_headers_that_cannot_be_are_refused() {
    for url in ["", "localhost", "/path", "ws://localhost/", "https://", "https:///x", "https://a:b@c/", "https://a b/"]
    {
        assert_eq!(FetchRequest::new(url, LIMITS).err(), Some(RequestError::Url), "{url}");
    }
    let request = FetchRequest::new("https://[::1]:8443/path?token=T0K3N", LIMITS).unwrap();
    assert_eq!((request.host(), request.port, request.tls.is_some()), ("::1", 8_443, true));
    assert_eq!(request.headers[header::HOST], "[::1]:8443");
    assert_eq!(format!("{request:?}"), "FetchRequest { host: \"::1\", path: \"/path\", .. }");
    assert_eq!(request.with_query("a=b c").err(), Some(RequestError::Url));
    assert_eq!(request.with_query("a=b").unwrap().uri, "https://[::1]:8443/path?a=b");
    assert_eq!(request.with_header(header::COOKIE, "a\r\nb").err(), Some(RequestError::Header));
    let request = FetchRequest::new("http://localhost", LIMITS).unwrap();
    assert_eq!((request.port, request.tls.is_some()), (80, false));
}

#[test]
fn waits_are_told_in_seconds_or_as_a_date() {
    let now = parse_rfc3339(b"2015-10-21T07:27:30Z").unwrap();
    for (text, expected) in [
        ("0", Some(0)),
        ("120", Some(120)),
        ("86401", Some(86_400)),
        ("99999999999999999999999", Some(86_400)),
        ("Wed, 21 Oct 2015 07:28:00 GMT", Some(30)),
        ("Wed, 21 Oct 2015 07:27:00 GMT", Some(0)),
        ("Fri, 21 Oct 2016 07:27:00 GMT", Some(86_400)),
        ("", None),
        ("-1", None),
        ("1.5", None),
        ("soon", None),
        ("Wed, 21 Oct 2015 07:28:00 CET", None),
        ("Wed, 21 Okt 2015 07:28:00 GMT", None),
        ("Wed, 21 Oct 2015 07:28:00 GMT or so", None),
        ("Wednesday, 21-Oct-15 07:28:00 GMT", None),
    ] {
        assert_eq!(retry_after(text, now), expected.map(Duration::from_secs), "{text}");
    }
}
