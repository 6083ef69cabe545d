//! The platform's part: users' records in Redis, written and announced as a platform does it.
//!
//! A record's version is when it was written, Unix us: whoever is told of a version knows how long that took. Used by the
//! coordinator, in a thread of its own while changes go out. Deliberately absent: Redis Cluster and sentinels.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use redis::{Client, Connection, IntoConnectionInfo as _, Pipeline, RedisError};
use serde_json::json;

use crate::clock::{nanos, wall_ns};
use crate::scenario::Announce;
use crate::timings::Timings;

/// Where the gateway hears of changes.
const CHANGES: &str = "entitlement:changes";

/// Records that are written together where many are due: the last of them waits for the others.
const TOGETHER: usize = 64;

/// How long Redis gets to answer.
const ANSWER: Duration = Duration::from_secs(10);

/// How often a change that is far off looks whether the run was ended.
const LOOK: Duration = Duration::from_millis(100);

/// Why users cannot be changed.
#[derive(Debug, thiserror::Error)]
pub enum PlatformError {
    #[error("redis: an address such as redis://127.0.0.1:6379 is wanted")]
    Address,
    #[error("redis: the password goes into LOADTEST_REDIS_PASSWORD or --redis-password-file")]
    Credentials,
    #[error("Redis at {url}: {error}")]
    Away { url: String, error: RedisError },
}

/// Users whose records are here.
pub struct Platform {
    url: String,
    connection: Connection,
    announce: Announce,
    users: Vec<Record>,
}

/// The password stays inside the connection, which shows nothing.
impl std::fmt::Debug for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Platform").field("url", &self.url).field("users", &self.users.len()).finish_non_exhaustive()
    }
}

/// What changes in a user's record.
#[derive(Clone, Copy, Debug, Default)]
struct Record {
    /// When it was written, Unix us.
    version: u64,
    real_time: bool,
}

/// When users are changed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pattern {
    /// One after another, so many a second, for so long.
    Stream { rate: f64, for_ns: u64 },
    /// All at once.
    Burst,
}

/// What was written.
#[derive(Debug, Default)]
pub struct Written {
    /// By user: the version that its record has by now, 0 where it was not changed.
    pub versions: Vec<u64>,
    pub changes: u64,
    /// By how much each was later than meant. Those of a burst are meant for as soon as Redis takes them.
    pub lag: Timings,
    /// From the first to the answer to the last, ns.
    pub took_ns: u64,
}

/// The id of a user of the harness.
pub fn user_id(user: u64) -> String {
    format!("loadtest-{user}")
}

impl Platform {
    /// Connects, and writes the records of so many users, whose data is delayed.
    ///
    /// # Errors
    /// [`PlatformError`].
    pub fn open(url: &str, password: Option<&str>, users: u64, announce: Announce) -> Result<Platform, PlatformError> {
        let rest = url.strip_prefix("redis://").ok_or(PlatformError::Address)?;
        if rest.contains('@') {
            return Err(PlatformError::Credentials);
        }
        let away = |error| PlatformError::Away { url: url.to_owned(), error };
        let mut info = url.into_connection_info().map_err(|_| PlatformError::Address)?;
        if let Some(password) = password {
            let login = info.redis_settings().clone().set_password(password);
            info = info.set_redis_settings(login);
        }
        let client = Client::open(info).map_err(away)?;
        let connection = client.get_connection_with_timeout(ANSWER).map_err(away)?;
        connection.set_read_timeout(Some(ANSWER)).map_err(away)?;
        connection.set_write_timeout(Some(ANSWER)).map_err(away)?;
        let users = vec![Record::default(); usize::try_from(users).unwrap_or(0)];
        let mut platform = Platform { url: url.to_owned(), connection, announce, users };
        for first in (0..platform.users.len()).step_by(TOGETHER) {
            let mut pipeline = redis::pipe();
            for user in first..platform.users.len().min(first + TOGETHER) {
                platform.put(user, &mut pipeline);
            }
            platform.send(&pipeline)?;
        }
        Ok(platform)
    }

    /// How many users there are.
    pub fn users(&self) -> usize {
        self.users.len()
    }

    /// Gives real-time data to those who have delayed data, and takes it from the others, until all was done or `stop` is set.
    /// The users of a stream take turns, from the first on.
    ///
    /// # Errors
    /// [`PlatformError::Away`].
    pub fn change(&mut self, pattern: Pattern, stop: &AtomicBool) -> Result<Written, PlatformError> {
        let users = self.users.len();
        let changes = match pattern {
            Pattern::Stream { rate, for_ns } => (rate * for_ns as f64 / 1e9).ceil() as usize,
            Pattern::Burst => users,
        };
        let due_ns = |change: usize| match pattern {
            Pattern::Stream { rate, .. } => (change as f64 / rate * 1e9) as u64,
            Pattern::Burst => 0,
        };
        let mut written = Written { versions: vec![0; users], ..Written::default() };
        let start = Instant::now();
        let mut next = 0;
        // Relaxed: the flag is all that is told.
        while next < changes && !stop.load(Ordering::Relaxed) {
            let now_ns = nanos(start.elapsed());
            if due_ns(next) > now_ns {
                thread::sleep(Duration::from_nanos(due_ns(next) - now_ns).min(LOOK));
                continue;
            }
            let mut pipeline = redis::pipe();
            let together = (next..changes).take(TOGETHER.min(users)).take_while(|change| due_ns(*change) <= now_ns);
            for change in together {
                let user = change % users;
                self.users[user].real_time ^= true;
                if pattern != Pattern::Burst {
                    written.lag.record(nanos(start.elapsed()).saturating_sub(due_ns(change)));
                }
                written.versions[user] = self.put(user, &mut pipeline);
                next += 1;
            }
            self.send(&pipeline)?;
        }
        written.changes = next as u64;
        written.took_ns = nanos(start.elapsed());
        Ok(written)
    }

    /// Takes the records out again.
    ///
    /// # Errors
    /// [`PlatformError::Away`].
    pub fn close(mut self) -> Result<(), PlatformError> {
        for first in (0..self.users.len()).step_by(TOGETHER) {
            let mut pipeline = redis::pipe();
            for user in first..self.users.len().min(first + TOGETHER) {
                pipeline.del(key(&user_id(user as u64))).ignore();
            }
            self.send(&pipeline)?;
        }
        Ok(())
    }

    /// Writes a user's record into the pipeline, of a new version, which is returned.
    fn put(&mut self, user: usize, pipeline: &mut Pipeline) -> u64 {
        let record = &mut self.users[user];
        let now_us = u64::try_from(wall_ns() / 1_000).unwrap_or(0);
        record.version = now_us.max(record.version + 1);
        let id = user_id(user as u64);
        let json = json!({
            "user_id": id, "tier": "premium", "status": "active", "signal_categories": ["crypto", "equity", "forex"],
            "real_time_access": record.real_time, "version": record.version,
        });
        let json = json.to_string();
        pipeline.set(key(&id), &json).ignore();
        match self.announce {
            Announce::Record => pipeline.publish(CHANGES, json).ignore(),
            Announce::User => pipeline.publish(CHANGES, id).ignore(),
            Announce::Nothing => pipeline,
        };
        record.version
    }

    fn send(&mut self, pipeline: &Pipeline) -> Result<(), PlatformError> {
        let sent = pipeline.query::<()>(&mut self.connection);
        sent.map_err(|error| PlatformError::Away { url: self.url.clone(), error })
    }
}

/// Changes that go out in a thread of their own.
#[derive(Debug)]
pub struct Changes {
    thread: thread::JoinHandle<(Platform, Result<Written, PlatformError>)>,
    stop: Arc<AtomicBool>,
}

impl Changes {
    /// Begins after so long.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn begin(mut platform: Platform, pattern: Pattern, after: Duration) -> std::io::Result<Changes> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::Builder::new().name("platform".to_owned()).spawn(move || {
            thread::sleep(after);
            let written = platform.change(pattern, &stopped);
            (platform, written)
        })?;
        Ok(Changes { thread, stop })
    }

    pub fn is_over(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for the end, and hastens it where it has not come.
    ///
    /// # Panics
    /// Where the thread did.
    pub fn end(self) -> (Platform, Result<Written, PlatformError>) {
        // Relaxed: the flag is all that is told.
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// Where a user's record is. The id stands in braces, for Redis Cluster's sake.
fn key(id: &str) -> String {
    format!("entitlement:{{{id}}}")
}
