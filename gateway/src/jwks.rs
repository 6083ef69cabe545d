//! The keys that the issuer of tokens publishes: fetched at the start, again as they age, and when a token names a key that is
//! not known.
//!
//! One fetch at a time, whoever asks: those who come meanwhile wait for its outcome. After each there is a pause, so that
//! tokens with made-up key ids cost the issuer nothing. Where a fetch fails, the keys of the last one that did not hold on,
//! for as long as is configured. Sign-ins fetch on their shard's thread, the thread `jwks` all others.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use entitlements::{Answer, KeySource, Tokens, parse_jwks};
use feed_handlers::source::http::{FetchLimits, FetchRequest, RequestError, fetch};
use tokio::sync::{Mutex, Notify};

use crate::metrics::{Counter, ThreadMetrics};

/// Within a sign-in's own 10 s.
const LIMITS: FetchLimits =
    FetchLimits { connect: Duration::from_secs(4), total: Duration::from_secs(5), body_bytes_max: 1 << 20 };

/// When keys are fetched.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// From one fetch to the next, while all is well; after a failure a tenth of it.
    pub(crate) refresh: Duration,
    /// After a fetch, no unknown key leads to another one for so long.
    pub(crate) cooldown: Duration,
    /// So long keys hold on while fetches fail.
    pub(crate) stale_max: Duration,
}

/// Where the keys come from.
pub(crate) struct Jwks {
    request: FetchRequest,
    pace: Pace,
    state: Mutex<State>,
    metrics: Arc<ThreadMetrics>,
}

#[derive(Debug, Default)]
struct State {
    /// The end of the last fetch, whatever came of it.
    tried: Option<Instant>,
    /// The end of the last one that brought keys.
    fetched: Option<Instant>,
}

impl std::fmt::Debug for Jwks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Jwks").field("request", &self.request).field("pace", &self.pace).finish_non_exhaustive()
    }
}

impl Jwks {
    /// Keys published at `url`, `https://` or, on the same machine, `http://`.
    ///
    /// # Errors
    /// [`RequestError`] where the address cannot be asked.
    pub(crate) fn new(url: &str, pace: Pace, metrics: Arc<ThreadMetrics>) -> Result<Jwks, RequestError> {
        Ok(Jwks { request: FetchRequest::new(url, LIMITS)?, pace, state: Mutex::default(), metrics })
    }

    /// Fetches, unless that was done since `asked` or within the pause. True where it was done since `asked`.
    async fn fetch_for(&self, tokens: &Tokens, asked: Instant, pause: Duration) -> bool {
        let mut state = self.state.lock().await;
        if let Some(tried) = state.tried {
            if tried >= asked {
                return true;
            }
            if tried.elapsed() < pause {
                return false;
            }
        }
        self.fetch(tokens, &mut state).await;
        true
    }

    async fn fetch(&self, tokens: &Tokens, state: &mut State) {
        let host = self.request.host();
        let keys = match fetch(&self.request).await {
            Ok(answer) if answer.status.is_success() => parse_jwks(&answer.body).map_err(|error| error.to_string()),
            Ok(answer) => Err(format!("HTTP {}", answer.status)),
            Err(error) => Err(error.to_string()),
        };
        state.tried = Some(Instant::now());
        match keys {
            Ok((keys, left_out)) => {
                self.metrics.add(Counter::JwksFetched, 1);
                tracing::debug!(host, keys = keys.len(), left_out, "the issuer's keys");
                state.fetched = state.tried;
                tokens.set_fetched(keys);
            }
            Err(error) => {
                self.metrics.add(Counter::JwksNotFetched, 1);
                let stale = state.fetched.is_none_or(|fetched| fetched.elapsed() > self.pace.stale_max);
                tracing::warn!(host, error, stale, "the issuer's keys could not be fetched");
                if stale {
                    tokens.set_fetched(Vec::new());
                }
            }
        }
    }
}

/// The source that sign-ins ask.
#[derive(Clone, Debug)]
pub(crate) struct SharedJwks(pub(crate) Arc<Jwks>);

impl KeySource for SharedJwks {
    fn refresh(&self, tokens: &Arc<Tokens>) -> Answer<bool> {
        let (jwks, tokens, asked) = (self.0.clone(), tokens.clone(), Instant::now());
        Box::pin(async move { jwks.fetch_for(&tokens, asked, jwks.pace.cooldown).await })
    }
}

/// The thread that keeps the keys fresh. Ends when dropped.
#[derive(Debug)]
pub(crate) struct Refresher {
    ended: Arc<AtomicBool>,
    end: Arc<Notify>,
    thread: Option<JoinHandle<()>>,
}

impl Refresher {
    /// Fetches now, and from then on.
    ///
    /// # Errors
    /// The system's, where it gives no thread.
    pub(crate) fn start(jwks: Arc<Jwks>, tokens: Arc<Tokens>) -> io::Result<Refresher> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (ended, end) = (Arc::new(AtomicBool::new(false)), Arc::new(Notify::new()));
        let (over, woken) = (ended.clone(), end.clone());
        let thread = std::thread::Builder::new().name("jwks".to_owned()).spawn(move || {
            runtime.block_on(async {
                // Relaxed: whoever sets it wakes this thread afterwards, which orders the two.
                while !over.load(Ordering::Relaxed) {
                    let fetched = jwks.fetch_for(&tokens, Instant::now(), Duration::ZERO);
                    tokio::select! {
                        _ = fetched => {}
                        () = woken.notified() => continue,
                    }
                    let well = {
                        let state = jwks.state.lock().await;
                        state.fetched.is_some() && state.fetched == state.tried
                    };
                    let wait = if well { jwks.pace.refresh } else { jwks.pace.refresh / 10 };
                    let _ = tokio::time::timeout(wait, woken.notified()).await;
                }
            });
        })?;
        Ok(Refresher { ended, end, thread: Some(thread) })
    }
}

impl Drop for Refresher {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        self.end.notify_one();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread for the issuer's keys panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::sync::Mutex as StdMutex;
    use std::sync::atomic::AtomicUsize;

    use entitlements::{Refusal, TokenRules};

    use super::*;
    use crate::metrics::Metrics;

    const KEY: &str = r#"{"keys":[{"kty":"EC","crv":"P-256","kid":"1",
        "x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]}"#;

    /// An issuer that answers each request with what is set, and counts them.
    struct Issuer {
        url: String,
        answer: Arc<StdMutex<(u16, String)>>,
        asked: Arc<AtomicUsize>,
    }

    fn issuer() -> Issuer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        let (answer, asked) = (Arc::new(StdMutex::new((200, KEY.to_owned()))), Arc::new(AtomicUsize::new(0)));
        let (said, count) = (answer.clone(), asked.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    if stream.read(&mut byte).unwrap_or(0) == 0 {
                        break;
                    }
                    head.push(byte[0]);
                }
                count.fetch_add(1, Ordering::SeqCst);
                let (status, body) = said.lock().unwrap().clone();
                let length = body.len();
                let _ = write!(
                    stream,
                    "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
                );
            }
        });
        Issuer { url, answer, asked }
    }

    fn setup(issuer: &Issuer, cooldown: Duration, stale_max: Duration) -> (SharedJwks, Arc<Tokens>) {
        let pace = Pace { refresh: Duration::from_secs(3_600), cooldown, stale_max };
        let metrics = Metrics::new().register("test");
        let jwks = Jwks::new(&issuer.url, pace, metrics).unwrap();
        let tokens = Arc::new(Tokens::new(Vec::new(), TokenRules::default()).unwrap());
        (SharedJwks(Arc::new(jwks)), tokens)
    }

    /// What becomes of a token that names the key: once that is known, its signature is looked at.
    fn verdict(tokens: &Tokens) -> Refusal {
        // {"alg":"ES256","kid":"1"}
        let signature = "A".repeat(86);
        tokens.verify(&format!("eyJhbGciOiJFUzI1NiIsImtpZCI6IjEifQ.e30.{signature}"), 0).unwrap_err()
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    #[test]
    fn who_asks_at_the_same_time_shares_one_fetch_and_the_next_one_waits() {
        let issuer = issuer();
        let (jwks, tokens) = setup(&issuer, Duration::from_secs(3_600), Duration::from_secs(3_600));
        assert_eq!(verdict(&tokens), Refusal::TokenUnknownKey);
        let fetched = block_on(async {
            let asks = [jwks.refresh(&tokens), jwks.refresh(&tokens), jwks.refresh(&tokens)];
            let [a, b, c] = asks;
            tokio::join!(a, b, c)
        });
        assert_eq!(fetched, (true, true, true));
        assert_eq!((issuer.asked.load(Ordering::SeqCst), verdict(&tokens)), (1, Refusal::TokenSignature));
        assert!(!block_on(jwks.refresh(&tokens)), "a made-up key within the pause asks nobody");
        assert_eq!(issuer.asked.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn keys_hold_on_while_fetches_fail_and_no_longer_than_configured() {
        let issuer = issuer();
        for (status, body) in [(500, KEY), (200, "sorry"), (200, "")] {
            for (stale_max, kept) in [(Duration::from_secs(3_600), true), (Duration::ZERO, false)] {
                let (jwks, tokens) = setup(&issuer, Duration::ZERO, stale_max);
                *issuer.answer.lock().unwrap() = (200, KEY.to_owned());
                assert!(block_on(jwks.refresh(&tokens)));
                assert_eq!(verdict(&tokens), Refusal::TokenSignature);
                *issuer.answer.lock().unwrap() = (status, body.to_owned());
                assert!(block_on(jwks.refresh(&tokens)));
                let expected = if kept { Refusal::TokenSignature } else { Refusal::TokenUnknownKey };
                assert_eq!(verdict(&tokens), expected, "{status} {body}");
            }
        }
    }

    #[test]
    fn the_thread_fetches_at_once_and_ends_when_told() {
        let issuer = issuer();
        let (jwks, tokens) = setup(&issuer, Duration::ZERO, Duration::from_secs(3_600));
        let refresher = Refresher::start(jwks.0, tokens.clone()).unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        while verdict(&tokens) != Refusal::TokenSignature {
            assert!(Instant::now() < deadline, "no keys came");
            std::thread::yield_now();
        }
        drop(refresher);
        assert_eq!(issuer.asked.load(Ordering::SeqCst), 1);
    }
}
