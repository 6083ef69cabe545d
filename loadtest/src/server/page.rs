//! A metrics page in the Prometheus text format, <https://prometheus.io/docs/instrumenting/exposition_formats/>, fetched by
//! plain HTTP: a GET on a connection of its own, all of it within a second.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::{Duration, Instant};

use super::Reading;

/// A page that takes longer is not read.
const PATIENCE: Duration = Duration::from_secs(1);

/// No page that is meant to be read every second is longer.
const PAGE_BYTES_MAX: usize = 4 << 20;

/// A watched metrics page.
#[derive(Debug)]
pub(super) struct Page {
    url: String,
    /// Host and port, as in the address.
    authority: String,
    path: String,
}

impl Page {
    /// # Errors
    /// In words, where the address is no `http://` one.
    pub(super) fn parse(url: &str) -> Result<Page, String> {
        let rest = url
            .strip_prefix("http://")
            .ok_or_else(|| format!("{url}: a metrics page is read by plain http (http://HOST:PORT/metrics)"))?;
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if authority.is_empty() || authority.contains('@') || url.contains(|c: char| c.is_ascii_control() || c == ' ') {
            return Err(format!("{url}: write http://HOST:PORT/metrics"));
        }
        // A port of its own, unless an IPv6 address ends here.
        let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        Ok(Page {
            url: url.to_owned(),
            authority: if has_port { authority.to_owned() } else { format!("{authority}:80") },
            path: if path.is_empty() { "/metrics".to_owned() } else { path.to_owned() },
        })
    }

    pub(super) fn name(&self) -> String {
        self.url.clone()
    }

    /// # Errors
    /// In words, where nothing answers in time or the answer is no metrics page.
    pub(super) fn read(&self) -> Result<Reading, String> {
        let answer = self.fetch().map_err(|error| error.to_string())?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or("the answer is no HTTP")?;
        let status = head.lines().next().unwrap_or_default();
        if status.split(' ').nth(1) != Some("200") {
            return Err(format!("the answer is {status:?}"));
        }
        Ok(reading(body))
    }

    fn fetch(&self) -> io::Result<String> {
        let deadline = Instant::now() + PATIENCE;
        let left = || {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() { Err(io::Error::from(io::ErrorKind::TimedOut)) } else { Ok(left) }
        };
        let address =
            self.authority.to_socket_addrs()?.next().ok_or_else(|| io::Error::other("the name has no address"))?;
        let mut stream = TcpStream::connect_timeout(&address, left()?)?;
        stream.set_write_timeout(Some(left()?))?;
        // 1.0: the answer ends with the connection, and comes in one piece.
        write!(stream, "GET {} HTTP/1.0\r\nHost: {}\r\nAccept: text/plain\r\n\r\n", self.path, self.authority)?;
        let mut answer = Vec::new();
        let mut buffer = [0; 16_384];
        loop {
            stream.set_read_timeout(Some(left()?))?;
            match stream.read(&mut buffer)? {
                0 => break,
                read => answer.extend_from_slice(&buffer[..read]),
            }
            if answer.len() > PAGE_BYTES_MAX {
                return Err(io::Error::other("the page is too long"));
            }
        }
        String::from_utf8(answer).map_err(|_| io::Error::other("the page is no UTF-8"))
    }
}

/// What a page tells. The names of the process's own figures are those that every Prometheus client library gives them.
fn reading(page: &str) -> Reading {
    let metrics: BTreeMap<String, f64> = page.lines().filter_map(sample).collect();
    let value = |name: &str| metrics.get(name).copied().filter(|value| *value >= 0.0);
    let whole = |name: &str| value(name).map(|value| value as u64);
    Reading {
        cpu_ns: value("process_cpu_seconds_total").map(|seconds| (seconds * 1e9) as u64),
        rss_bytes: whole("process_resident_memory_bytes"),
        threads: whole("process_threads"),
        descriptors: whole("process_open_fds"),
        identity: metrics.keys().find_map(|name| identity(name)),
        metrics,
        ..Reading::default()
    }
}

/// Name with labels, and value, of a line; `None` for comments, histogram buckets and what is not understood.
fn sample(line: &str) -> Option<(String, f64)> {
    let line = line.trim();
    if line.starts_with('#') {
        return None;
    }
    // Label values may hold spaces, and brackets within quotes; what follows the labels holds neither.
    let name_end = line.rfind('}').map_or_else(|| line.find(' '), |bracket| Some(bracket + 1))?;
    let (name, rest) = line.split_at(name_end);
    let value = rest.split_ascii_whitespace().next()?.parse::<f64>().ok().filter(|value| value.is_finite())?;
    let bare = name.split('{').next().unwrap_or_default();
    (!bare.ends_with("_bucket")).then(|| (name.to_owned(), value))
}

/// `gateway 0.1.0 (e6d91a3)` of `gateway_build_info{version="0.1.0",commit="e6d91a3"}`.
fn identity(name: &str) -> Option<String> {
    let (bare, labels) = name.split_once('{')?;
    let program = bare.strip_suffix("_build_info")?;
    let label = |key: &str| {
        let (_, rest) = labels.split_once(&format!("{key}=\""))?;
        rest.split('"').next().filter(|value| !value.is_empty())
    };
    let commit = label("commit").or_else(|| label("revision")).map(|commit| format!(" ({commit})"));
    Some(format!("{program} {}{}", label("version").unwrap_or("of an unknown version"), commit.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    const PAGE: &str = "\
# HELP gateway_build_info What runs.
# TYPE gateway_build_info gauge
gateway_build_info{version=\"0.1.0\",commit=\"e6d91a3\"} 1
# TYPE gateway_connections gauge
gateway_connections 12
gateway_commands_total{action=\"auth now}\"} 3 1700000000000
gateway_tick_to_write_seconds_bucket{le=\"0.001\"} 9
gateway_tick_to_write_seconds_count 9
process_cpu_seconds_total 1.25
process_resident_memory_bytes 4.096e6
broken
broken_value x
infinite +Inf
";

    #[test]
    fn a_page_is_taken_apart() {
        let reading = reading(PAGE);
        let metrics: Vec<_> = reading.metrics.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        let expected = [
            ("gateway_build_info{version=\"0.1.0\",commit=\"e6d91a3\"}", 1.0),
            ("gateway_commands_total{action=\"auth now}\"}", 3.0),
            ("gateway_connections", 12.0),
            ("gateway_tick_to_write_seconds_count", 9.0),
            ("process_cpu_seconds_total", 1.25),
            ("process_resident_memory_bytes", 4_096_000.0),
        ];
        assert_eq!(metrics, expected);
        assert_eq!((reading.cpu_ns, reading.rss_bytes), (Some(1_250_000_000), Some(4_096_000)));
        assert_eq!(reading.identity.as_deref(), Some("gateway 0.1.0 (e6d91a3)"));
    }

    #[test]
    fn addresses_are_taken_apart_or_refused() {
        let check = |url: &str, expected: Option<(&str, &str)>| {
            let page = Page::parse(url);
            let parts = page.as_ref().ok().map(|page| (page.authority.as_str(), page.path.as_str()));
            assert_eq!(parts, expected, "{url}");
        };
        check("http://127.0.0.1:9090/metrics", Some(("127.0.0.1:9090", "/metrics")));
        check("http://host", Some(("host:80", "/metrics")));
        check("http://[::1]:9090/a/b?c=d", Some(("[::1]:9090", "/a/b?c=d")));
        check("http://[::1]", Some(("[::1]:80", "/metrics")));
        check("https://host/metrics", None);
        check("http://user:secret@host/metrics", None);
        check("http:///metrics", None);
        check("http://host/a\r\nb", None);
        check("127.0.0.1:9090", None);
    }

    #[test]
    fn a_page_is_fetched_and_other_answers_are_told() {
        let check = |answer: &'static str, expected: Result<f64, &str>| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let url = format!("http://{}/metrics", listener.local_addr().unwrap());
            let server = thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                // All of it: closing on what was not read would reset the connection, and the request comes in pieces.
                let (mut request, mut buffer) = (Vec::new(), [0; 1_024]);
                while !request.ends_with(b"\r\n\r\n") {
                    let read = stream.read(&mut buffer).unwrap();
                    assert!(read > 0, "the request has no end");
                    request.extend_from_slice(&buffer[..read]);
                }
                stream.write_all(answer.as_bytes()).unwrap();
                String::from_utf8(request).unwrap()
            });
            let reading = Page::parse(&url).unwrap().read();
            let request = server.join().unwrap();
            assert!(request.starts_with("GET /metrics HTTP/1.0\r\nHost: 127.0.0.1:"), "{request}");
            match expected {
                Ok(value) => assert_eq!(reading.unwrap().metrics["a_total"], value),
                Err(words) => assert!(reading.as_ref().is_err_and(|error| error.contains(words)), "{reading:?}"),
            }
        };
        check("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\na_total 5\n", Ok(5.0));
        check("HTTP/1.1 404 Not Found\r\n\r\n", Err("404 Not Found"));
        check("hello", Err("no HTTP"));
    }
}
