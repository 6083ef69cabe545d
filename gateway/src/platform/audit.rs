//! The audit: who came in, who was refused and why, whose rights changed, as one JSON object a line in a file or on standard
//! output. The lines bear the platform's topic and key, so that they may go to Kafka as they are.
//!
//! Written by a thread of its own. Bound: [`QUEUE`] events of some hundred bytes. An event is never left out because others
//! are many: who records one waits for room, which is counted. What the disk does not take is lost, counted and logged.
//! Nothing secret is in an event: a token or key is named by what became of it.

use std::io::{self, Write};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};
use entitlements::random_bytes;
use protocol::format_rfc3339;
use serde::Serialize;

use super::rotating_file::RotatingFile;
use super::spool::SpoolWriter;
use crate::config::Topics;
use crate::context::wall_ns;
use crate::metrics::{Counter, ThreadMetrics};

/// Events that may wait to be written.
const QUEUE: usize = 65_536;

/// Bytes that are gathered for one write while more events wait.
const BUFFER_BYTES: usize = 64 << 10;

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Event {
    Connected {
        user_id: Arc<str>,
        address: IpAddr,
        tier: &'static str,
        session: u64,
    },
    /// A sign-in that was refused, by the label of the counter. The user, where the credentials said so truly.
    SignInRefused {
        address: IpAddr,
        reason: &'static str,
    },
    /// A request before the sign-in that was refused, by the error of its answer.
    RequestRefused {
        address: IpAddr,
        error: &'static str,
        reason: Option<Box<str>>,
    },
    /// More than a limit allows.
    Limited {
        user_id: Arc<str>,
        limit: &'static str,
        max: u32,
    },
    /// The rights of a live session are others now.
    EntitlementChanged {
        user_id: Arc<str>,
        session: u64,
        tier: &'static str,
        status: &'static str,
        version: u64,
    },
    /// A live session was ended, by the reason of its close.
    Revoked {
        user_id: Arc<str>,
        session: u64,
        reason: &'static str,
    },
}

impl Event {
    /// The platform's topic for it.
    fn topic<'t>(&self, topics: &'t Topics) -> &'t str {
        match self {
            Event::Connected { .. } | Event::EntitlementChanged { .. } => &topics.user_events,
            Event::SignInRefused { .. }
            | Event::RequestRefused { .. }
            | Event::Limited { .. }
            | Event::Revoked { .. } => &topics.compliance_events,
        }
    }

    /// The key within the topic: the user, where it is known, else the address.
    fn key(&self) -> String {
        match self {
            Event::Connected { user_id, .. }
            | Event::Limited { user_id, .. }
            | Event::EntitlementChanged { user_id, .. }
            | Event::Revoked { user_id, .. } => user_id.to_string(),
            Event::SignInRefused { address, .. } | Event::RequestRefused { address, .. } => address.to_string(),
        }
    }
}

#[derive(Serialize)]
struct Line<'a> {
    /// The same wherever the line comes a second time, and of no other.
    id: &'a str,
    topic: &'a str,
    key: &'a str,
    timestamp: &'a str,
    #[serde(flatten)]
    event: &'a Event,
}

/// Where events go in. Cloning shares the queue; the thread ends with the last one.
#[derive(Clone, Debug)]
pub(crate) struct Audit {
    /// `None` where nothing is kept.
    queue: Option<Sender<(i64, Event)>>,
    metrics: Arc<ThreadMetrics>,
}

/// Where the lines go.
pub(crate) enum Sink {
    File(RotatingFile),
    StandardOutput,
    /// To Kafka.
    Spool(SpoolWriter),
}

impl Sink {
    /// Returns how many other lines are lost for it.
    fn append(&mut self, lines: &[u8]) -> io::Result<u64> {
        match self {
            Sink::File(file) => file.append(lines).map(|()| 0),
            Sink::StandardOutput => io::stdout().lock().write_all(lines).map(|()| 0),
            Sink::Spool(spool) => spool.append(lines),
        }
    }

    /// A file of at most so many bytes, and one before it.
    ///
    /// # Errors
    /// The system's, where it cannot be opened.
    pub(crate) fn file(path: &Path, bytes_max: u64) -> io::Result<Sink> {
        RotatingFile::open(path, bytes_max).map(Sink::File)
    }
}

impl Audit {
    /// An audit that keeps nothing.
    pub(crate) fn off(metrics: Arc<ThreadMetrics>) -> Audit {
        Audit { queue: None, metrics }
    }

    /// Starts the thread that writes to `sink`.
    ///
    /// # Errors
    /// The system's, where there is no thread or no randomness to be had.
    pub(crate) fn start(
        sink: Sink,
        topics: &Topics,
        metrics: Arc<ThreadMetrics>,
    ) -> io::Result<(Audit, JoinHandle<()>)> {
        let (queue, events) = bounded(QUEUE);
        let run = random_bytes::<8>().map_err(io::Error::other)?.map(|byte| format!("{byte:02x}")).concat();
        let mut writer = Writer { sink, topics: topics.clone(), run, written: 0, metrics: metrics.clone() };
        let thread = std::thread::Builder::new().name("audit".into()).spawn(move || writer.run(&events))?;
        Ok((Audit { queue: Some(queue), metrics }, thread))
    }

    /// Keeps an event.
    pub(crate) fn record(&self, event: Event) {
        let Some(queue) = &self.queue else { return };
        if let Err(TrySendError::Full(event)) = queue.try_send((wall_ns(), event)) {
            self.metrics.add(Counter::AuditWaits, 1);
            // An error means that the thread has ended, which only happens on the way out.
            let _ = queue.send(event);
        }
    }
}

/// The thread's part.
struct Writer {
    sink: Sink,
    topics: Topics,
    /// Names this run of this gateway, by chance.
    run: String,
    /// Events of this run.
    written: u64,
    metrics: Arc<ThreadMetrics>,
}

impl Writer {
    fn run(&mut self, events: &Receiver<(i64, Event)>) {
        let mut buffer = Vec::with_capacity(BUFFER_BYTES);
        while let Ok(first) = events.recv() {
            let mut count = 0;
            let mut next = Some(first);
            while let Some((at_ns, event)) = next {
                self.encode(at_ns, &event, &mut buffer);
                count += 1;
                next = if buffer.len() < BUFFER_BYTES { events.try_recv().ok() } else { None };
            }
            match self.sink.append(&buffer) {
                Ok(others) => {
                    self.metrics.add(Counter::AuditWritten, count);
                    if others > 0 {
                        tracing::error!(events = others, "audit events are lost: too many wait for Kafka");
                        self.metrics.add(Counter::AuditLost, others);
                    }
                }
                Err(error) => {
                    tracing::error!(%error, events = count, "audit events are lost");
                    self.metrics.add(Counter::AuditLost, count);
                }
            }
            buffer.clear();
        }
    }

    fn encode(&mut self, at_ns: i64, event: &Event, out: &mut Vec<u8>) {
        let mut timestamp = Vec::with_capacity(30);
        format_rfc3339(at_ns, &mut timestamp);
        let timestamp = std::str::from_utf8(&timestamp).unwrap_or_default();
        self.written += 1;
        let id = format!("{}-{}", self.run, self.written);
        let line = Line { id: &id, topic: event.topic(&self.topics), key: &event.key(), timestamp, event };
        // Texts and numbers: there is nothing that JSON could not say.
        if serde_json::to_writer(&mut *out, &line).is_ok() {
            out.push(b'\n');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn each_event_is_a_line_with_its_topic_and_key() {
        let directory = std::env::temp_dir().join(format!("gateway-audit-{}", std::process::id()));
        let path = directory.join("below").join("audit.jsonl");
        let metrics = Metrics::new();
        let (audit, thread) =
            Audit::start(Sink::file(&path, 1 << 20).unwrap(), &Topics::default(), metrics.register("audit")).unwrap();
        let address = "192.0.2.1".parse().unwrap();
        audit.record(Event::Connected { user_id: "al\"ice".into(), address, tier: "free", session: 7 });
        audit.record(Event::SignInRefused { address, reason: "token_expired" });
        audit.record(Event::RequestRefused { address, error: "IP_BLOCKED", reason: Some("abuse".into()) });
        drop(audit);
        thread.join().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_dir_all(&directory).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let shown: Vec<_> = lines.iter().map(|line| (&line["topic"], &line["key"], &line["event"])).collect();
        let value = |text: &str| serde_json::Value::from(text);
        let [user, compliance] = ["user-events", "compliance-events"].map(value);
        assert_eq!(
            shown,
            [
                (&user, &value("al\"ice"), &value("connected")),
                (&compliance, &value("192.0.2.1"), &value("sign_in_refused")),
                (&compliance, &value("192.0.2.1"), &value("request_refused")),
            ]
        );
        assert_eq!((&lines[0]["user_id"], &lines[2]["reason"]), (&value("al\"ice"), &value("abuse")));
        assert!(lines.iter().all(|line| line["timestamp"].as_str().unwrap().ends_with('Z')));
        let ids: std::collections::HashSet<&str> = lines.iter().map(|line| line["id"].as_str().unwrap()).collect();
        assert_eq!(ids.len(), 3);
    }
}
