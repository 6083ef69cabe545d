//! Nasdaq ITCH as it is sent: MoldUDP64 datagrams of two or more lines that say the same, and a server that is asked for
//! what none of them brought. On a thread of its own that runs a single-threaded tokio runtime.
//!
//! Whatever the lines bring goes through one [`MoldMerge`], and what comes out of it, in order and once, through the books
//! of the day to the feed. Nasdaq has no snapshot of its books: after messages that could not be had again, no stock is
//! quoted until the next session, while trades go on. The source is up as long as datagrams come on any line; a line that is
//! silent alone is told in the log.
//!
//! Deliberately absent: several listeners of one group and port on one machine (the sockets are not shared), a larger
//! receive buffer than the system gives by default, and knowing who sent a datagram: that is for the network.

use std::future::poll_fn;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket as StdSocket};
use std::sync::Arc;
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use protocol::format_rfc3339;
use tokio::net::UdpSocket;
use tokio::time::sleep_until;

use super::{FeedState, FeedStatus, Stop, http_stream, wall_ns};
use crate::decode::eastern::us_eastern;
use crate::decode::event::Event;
use crate::decode::mold;
use crate::decode::mold_merge::{Delivery, MergeCounts, MergeLimits, MoldMerge};
use crate::feed::{Feed, FeedCounter};
use crate::order_book::{ORDERS_MAX, OrderBooks};

/// The largest datagram there is.
const DATAGRAM_BYTES_MAX: usize = 65_535;

/// Datagrams taken from one socket before the others and the timers have their turn.
const DATAGRAMS_A_TURN: usize = 64;

const NANOS_PER_HOUR: i64 = 3_600_000_000_000;

/// One line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ItchLine {
    /// A multicast group, which is joined, or an address of this machine; and the port.
    pub address: SocketAddr,
    /// The address of the interface on which an IPv4 group is joined; unspecified for the system's choice.
    pub interface: Ipv4Addr,
}

/// Where the lines are, and how patient the source is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItchUdpSettings {
    /// At least one.
    pub lines: Vec<ItchLine>,
    /// The re-request server.
    pub rerequest: Option<SocketAddr>,
    pub limits: MergeLimits,
    /// Without a datagram for this long the source is stale. Heartbeats come each second. `stale <= silence`
    pub stale: Duration,
    /// Without a datagram for this long it is down.
    pub silence: Duration,
    /// The begin of the day in New York, Unix ns; `None` takes the day in which a session begins by this machine's clock.
    pub midnight_ns: Option<i64>,
}

impl ItchUdpSettings {
    /// Those lines, with what suits Nasdaq.
    pub fn new(lines: Vec<ItchLine>) -> ItchUdpSettings {
        ItchUdpSettings {
            lines,
            rerequest: None,
            limits: MergeLimits::DEFAULT,
            stale: Duration::from_secs(3),
            silence: Duration::from_secs(10),
            midnight_ns: None,
        }
    }
}

/// Why there is no source.
#[derive(Debug, thiserror::Error)]
pub enum ItchUdpError {
    #[error("lines: at least one is needed")]
    NoLine,
    #[error("timings: stale and silence above 0 and stale <= silence are needed")]
    Timings,
    #[error("lines: cannot listen on {address}: {error}")]
    Listen { address: SocketAddr, error: std::io::Error },
    #[error("rerequest: cannot send to {address}: {error}")]
    Rerequest { address: SocketAddr, error: std::io::Error },
}

/// The lines of one feed, bound and joined.
pub struct ItchUdp {
    settings: ItchUdpSettings,
    lines: Vec<StdSocket>,
    rerequest: Option<StdSocket>,
    status: Arc<FeedStatus>,
}

impl ItchUdp {
    /// Binds the lines, and joins their groups.
    ///
    /// # Errors
    /// [`ItchUdpError`] where a setting is out of its range or the system refuses.
    pub fn bind(settings: ItchUdpSettings) -> Result<ItchUdp, ItchUdpError> {
        if settings.lines.is_empty() {
            return Err(ItchUdpError::NoLine);
        }
        if settings.stale.is_zero() || settings.stale > settings.silence {
            return Err(ItchUdpError::Timings);
        }
        let listen =
            |line: &ItchLine| listen(line).map_err(|error| ItchUdpError::Listen { address: line.address, error });
        let lines = settings.lines.iter().map(listen).collect::<Result<_, _>>()?;
        let connect =
            |address: SocketAddr| connect(address).map_err(|error| ItchUdpError::Rerequest { address, error });
        let rerequest = settings.rerequest.map(connect).transpose()?;
        Ok(ItchUdp { settings, lines, rerequest, status: FeedStatus::new() })
    }

    /// Where the lines listen, in the order of the settings.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_addresses(&self) -> std::io::Result<Vec<SocketAddr>> {
        self.lines.iter().map(StdSocket::local_addr).collect()
    }

    pub fn status(&self) -> Arc<FeedStatus> {
        Arc::clone(&self.status)
    }

    /// Starts the thread, which ends after `stop`. The feed is one of [`Venue::Itch`](crate::venue::Venue::Itch).
    ///
    /// # Errors
    /// What the system says when it has no thread or no event queue to give.
    pub fn spawn(self, feed: Feed, stop: Arc<Stop>) -> std::io::Result<JoinHandle<()>> {
        let status = self.status();
        http_stream::spawn("feed-itch-udp", self.status(), stop, async move || {
            if let Err(error) = self.run(feed).await {
                status.set_troubled(FeedState::Down, &format!("the sockets cannot be waited for: {error}"));
                tracing::error!(%error, "the source ends");
                std::future::pending::<()>().await;
            }
        })
    }

    async fn run(self, feed: Feed) -> std::io::Result<()> {
        let sockets = self.lines.into_iter().chain(self.rerequest).map(UdpSocket::from_std);
        let sockets = sockets.collect::<std::io::Result<Vec<_>>>()?;
        let lines = self.settings.lines.len();
        let mut limits = self.settings.limits;
        if sockets.len() == lines {
            // Nobody to ask.
            limits.request_after_ns = i64::MAX;
        }
        let start = Instant::now();
        let mut shell = Shell {
            merge: MoldMerge::new(limits),
            counted: MergeCounts::default(),
            day: Day {
                feed,
                books: OrderBooks::new(ORDERS_MAX),
                stated_midnight_ns: self.settings.midnight_ns,
                midnight_ns: 0,
                is_first: false,
                is_ended: false,
            },
            start,
            latest: None,
            line_latest: vec![(start, false); lines],
            status: self.status,
            stale: self.settings.stale,
            silence: self.settings.silence,
        };
        let mut datagram = vec![0; DATAGRAM_BYTES_MAX];
        loop {
            if let (Some(request), Some(server)) = (shell.due_request(), sockets.get(lines)) {
                // One that is not taken is asked again.
                let _ = server.try_send(&request);
            }
            tokio::select! {
                () = readable(&sockets) => {}
                () = sleep_until(shell.wake_at().into()) => {}
            }
            for (at, socket) in sockets.iter().enumerate() {
                for _ in 0..DATAGRAMS_A_TURN {
                    // What is not there yet, and what a port that nobody listens on answers, is no datagram.
                    let Ok(bytes) = socket.try_recv(&mut datagram) else { break };
                    shell.handle(at, &datagram[..bytes]);
                }
            }
            shell.handle_timeout();
        }
    }
}

fn listen(line: &ItchLine) -> std::io::Result<StdSocket> {
    let socket = StdSocket::bind(line.address)?;
    match line.address.ip() {
        IpAddr::V4(group) if group.is_multicast() => socket.join_multicast_v4(&group, &line.interface)?,
        IpAddr::V6(group) if group.is_multicast() => socket.join_multicast_v6(&group, 0)?,
        _ => {}
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// A socket that hears nobody but the server.
fn connect(server: SocketAddr) -> std::io::Result<StdSocket> {
    let any = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = StdSocket::bind(any)?;
    socket.connect(server)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Waits until any of them may have a datagram.
async fn readable(sockets: &[UdpSocket]) {
    poll_fn(|context| {
        // Each is asked, so that each wakes us.
        let ready = sockets.iter().filter(|socket| socket.poll_recv_ready(context).is_ready()).count();
        if ready > 0 { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// All but the sockets.
struct Shell {
    merge: MoldMerge,
    /// What of the merge's counts the feed's counters have.
    counted: MergeCounts,
    day: Day,
    start: Instant,
    /// When the last datagram came that is one.
    latest: Option<Instant>,
    /// The same for each line, and whether its silence was told.
    line_latest: Vec<(Instant, bool)>,
    status: Arc<FeedStatus>,
    stale: Duration,
    silence: Duration,
}

impl Shell {
    fn now_ns(&self, now: Instant) -> i64 {
        i64::try_from(now.duration_since(self.start).as_nanos()).unwrap_or(i64::MAX)
    }

    fn due_request(&mut self) -> Option<[u8; mold::HEADER_BYTES]> {
        self.merge.poll_request(self.now_ns(Instant::now()), u16::MAX)
    }

    fn wake_at(&self) -> Instant {
        // Half of the time after which silence is told is soon enough to see it.
        let looks = Instant::now() + self.stale / 2;
        let due = self.merge.poll_timeout().and_then(|ns| u64::try_from(ns).ok());
        due.and_then(|ns| self.start.checked_add(Duration::from_nanos(ns))).map_or(looks, |due| due.min(looks))
    }

    fn handle(&mut self, socket: usize, datagram: &[u8]) {
        let (now, ts_recv) = (Instant::now(), wall_ns());
        let packet = match mold::decode(datagram) {
            Ok(packet) => packet,
            Err(error) => {
                self.day.feed.handle(datagram, ts_recv, |_| Err(error));
                return;
            }
        };
        let (now_ns, day) = (self.now_ns(now), &mut self.day);
        self.merge.handle(packet, now_ns, &mut |delivery| day.take_in(delivery, ts_recv));
        self.count();
        self.latest = Some(now);
        if let Some((latest, is_told)) = self.line_latest.get_mut(socket) {
            *latest = now;
            if std::mem::take(is_told) {
                tracing::info!(line = socket, "the line is back");
            }
        }
        let state = if self.day.is_ended { FeedState::Ended } else { FeedState::Up };
        if self.status.set(state) {
            tracing::info!(state = state.name(), "the lines");
        }
    }

    /// What the merge kept from the feed is counted there too.
    fn count(&mut self) {
        let (now, counters) = (self.merge.counts(), self.day.feed.counters());
        let before = std::mem::replace(&mut self.counted, now);
        for (counter, now, before) in [
            (FeedCounter::LineRepeats, now.duplicates, before.duplicates),
            (FeedCounter::LineLost, now.lost, before.lost),
            (FeedCounter::StaleDatagrams, now.stale_datagrams, before.stale_datagrams),
        ] {
            if now > before {
                counters.add(counter, now - before);
            }
        }
    }

    fn handle_timeout(&mut self) {
        let now = Instant::now();
        let (now_ns, ts_recv, day) = (self.now_ns(now), wall_ns(), &mut self.day);
        self.merge.handle_timeout(now_ns, &mut |delivery| day.take_in(delivery, ts_recv));
        self.count();
        if self.day.is_ended {
            // Nothing is to come before the next session.
            self.status.set(FeedState::Ended);
            return;
        }
        let silent = now.duration_since(self.latest.unwrap_or(self.start));
        let (state, limit) = if silent >= self.silence {
            (FeedState::Down, self.silence)
        } else if silent >= self.stale && self.latest.is_some() {
            (FeedState::Stale, self.stale)
        } else {
            return self.look_at_lines(now);
        };
        if self.status.state() != state || self.status.trouble().is_none() {
            self.status.set_troubled(state, &format!("no datagram on any line for {limit:?}"));
            tracing::warn!(state = state.name(), "no datagram on any line for {limit:?}");
        }
    }

    fn look_at_lines(&mut self, now: Instant) {
        for (line, (latest, is_told)) in self.line_latest.iter_mut().enumerate() {
            if now.duration_since(*latest) >= self.stale && !std::mem::replace(is_told, true) {
                tracing::warn!(line, "no datagram on this line for {:?}", self.stale);
            }
        }
    }
}

/// What the messages mean.
struct Day {
    feed: Feed,
    books: OrderBooks,
    stated_midnight_ns: Option<i64>,
    midnight_ns: i64,
    /// No message of the session was taken in yet.
    is_first: bool,
    is_ended: bool,
}

impl Day {
    fn take_in(&mut self, delivery: Delivery<'_>, ts_recv: i64) {
        match delivery {
            Delivery::Session(session) => {
                self.feed.connection_lost();
                self.books.start_day();
                self.midnight_ns = self.stated_midnight_ns.unwrap_or_else(|| midnight(ts_recv));
                (self.is_first, self.is_ended) = (true, false);
                tracing::info!(session = %session.escape_ascii(), "a session");
            }
            Delivery::Message { sequence, message } => {
                if std::mem::take(&mut self.is_first) && sequence > 1 {
                    self.books.lose();
                }
                let (books, midnight_ns) = (&mut self.books, self.midnight_ns);
                self.feed.handle(message, ts_recv, |on_event| {
                    // The feed counts holes by it.
                    on_event(Event::LineSequence(sequence));
                    books.decode(message, midnight_ns, on_event)
                });
                // A new connection is what it asks for after a hole, and would bring nothing here.
                while self.feed.poll_resync().is_some() {}
            }
            Delivery::Lost { sequence, count } => {
                self.is_first = false;
                self.books.lose();
                tracing::error!(sequence, count, "messages are lost: no quotes before the next session");
            }
            Delivery::End => {
                self.is_ended = true;
                tracing::info!("the session is over");
            }
        }
    }
}

/// The begin of the day that it is in New York at `at`, both Unix ns.
fn midnight(at: i64) -> i64 {
    let begin = |behind: i64| {
        let mut text = Vec::new();
        format_rfc3339(at.saturating_sub(behind * NANOS_PER_HOUR), &mut text);
        text.get(..10).and_then(us_eastern)
    };
    // By daylight time, unless the day that this makes it has not begun.
    begin(4).filter(|midnight| *midnight <= at).or_else(|| begin(5)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use protocol::parse_rfc3339;

    use super::*;

    #[test]
    fn knows_the_day_in_new_york() {
        let check = |at: &str, expected: &str| {
            let ns = |text: &str| parse_rfc3339(text.as_bytes()).unwrap();
            assert_eq!(midnight(ns(at)), ns(expected), "{at}");
        };
        check("2023-08-22T13:30:00Z", "2023-08-22T04:00:00Z");
        check("2023-08-22T03:59:59Z", "2023-08-21T04:00:00Z");
        check("2023-08-22T04:00:00Z", "2023-08-22T04:00:00Z");
        check("2026-01-15T04:30:00Z", "2026-01-14T05:00:00Z");
        check("2026-01-15T05:00:00Z", "2026-01-15T05:00:00Z");
        // The days of the change begin in the other time.
        check("2026-03-08T12:00:00Z", "2026-03-08T05:00:00Z");
        check("2026-11-01T12:00:00Z", "2026-11-01T04:00:00Z");
        check("2026-11-02T04:30:00Z", "2026-11-01T04:00:00Z");
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        let line = ItchLine { address: "127.0.0.1:0".parse().unwrap(), interface: Ipv4Addr::UNSPECIFIED };
        let check = |settings: ItchUdpSettings, expected: &str| {
            let refused = ItchUdp::bind(settings).err().expect(expected).to_string();
            assert!(refused.starts_with(expected), "{refused}");
        };
        check(ItchUdpSettings::new(vec![]), "lines: at least one");
        let one = ItchUdpSettings::new(vec![line]);
        check(ItchUdpSettings { stale: Duration::from_secs(11), ..one.clone() }, "timings: ");
        check(ItchUdpSettings { stale: Duration::ZERO, ..one.clone() }, "timings: ");
        // An address for documentation, which no machine has.
        let elsewhere = ItchLine { address: "192.0.2.1:0".parse().unwrap(), ..line };
        check(ItchUdpSettings::new(vec![elsewhere]), "lines: cannot listen on 192.0.2.1:0");
        assert!(ItchUdp::bind(one).is_ok());
    }
}
