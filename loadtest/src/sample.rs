//! What one worker saw in one interval: the only thing that workers say to the coordinator about the load. Adding
//! samples gives the run; nothing else is kept of a message once it is checked.
//!
//! Crosses a process boundary as one line of JSON, histograms in HdrHistogram's V2 form.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::timings::Timings;

/// One interval of one worker.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Sample {
    /// Which worker, from 0.
    pub worker: u32,
    /// Index of the phase that the interval belongs to; an interval never spans two.
    pub phase: u32,
    /// End of the interval, Unix ns of the worker's clock.
    pub at_ns: i64,
    /// Length of the interval, ns.
    pub span_ns: u64,
    /// What happened in it.
    pub counts: Counts,
    /// How things stand at its end.
    pub gauges: Gauges,
    /// Messages: from the intended send time (the venue's time or the gateway's, as the scenario says) to when they were taken from the socket, ns.
    pub latency: Timings,
    /// Clients: from the intended start of the connection to the finished upgrade, ns.
    pub handshake: Timings,
    /// Clients: from the intended start of the connection to the answer to the first subscribe, ns.
    pub ready: Timings,
    /// Clients: from the intended start of the connection to the first data message, ns.
    pub first_message: Timings,
    /// Clients whose data was delayed: from just before the change that makes it real-time was written to the first message that
    /// they would not have had yet, ns.
    #[serde(default)]
    pub effect: Timings,
    /// Commands: from the intended send time of a subscribe or unsubscribe to its acknowledgement, ns.
    pub command: Timings,
    /// The harness itself: by how much its own sends and connects were later than intended, ns.
    pub schedule_lag: Timings,
    /// The harness itself: how long received bytes lay in the kernel before they were read, ns (sampled).
    pub read_lag: Timings,
    /// Processor time that the worker's threads took in the interval, ns.
    pub cpu_ns: u64,
    /// By how much the message furthest from the future was ahead of this machine's clock, ns; 0 without any.
    pub ahead_ns_max: u64,
    /// When the first and the last upgrade of the interval finished, Unix ns: a storm is over within an interval, and its
    /// rate is not to be told from the interval's length.
    #[serde(default)]
    pub upgraded_ns: Option<(i64, i64)>,
    /// The first few faults of each kind, in words.
    pub faults: Vec<Fault>,
}

impl Sample {
    /// An interval of which nothing is known yet.
    pub fn new(worker: u32, phase: u32) -> Sample {
        Sample {
            worker,
            phase,
            at_ns: 0,
            span_ns: 0,
            counts: Counts::default(),
            gauges: Gauges::default(),
            latency: Timings::new(),
            handshake: Timings::new(),
            ready: Timings::new(),
            first_message: Timings::new(),
            effect: Timings::new(),
            command: Timings::new(),
            schedule_lag: Timings::new(),
            read_lag: Timings::new(),
            cpu_ns: 0,
            ahead_ns_max: 0,
            upgraded_ns: None,
            faults: Vec::new(),
        }
    }
}

impl Sample {
    /// Forgets what was counted and timed; worker, phase and gauges stay.
    pub fn clear(&mut self) {
        self.counts = Counts::default();
        for timings in [
            &mut self.latency,
            &mut self.handshake,
            &mut self.ready,
            &mut self.first_message,
            &mut self.effect,
            &mut self.command,
            &mut self.schedule_lag,
            &mut self.read_lag,
        ] {
            timings.clear();
        }
        self.ahead_ns_max = 0;
        self.upgraded_ns = None;
        self.faults.clear();
    }
}

/// Totals of an interval.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Data messages: trades, quotes, bars, and gaps of the venue, which are numbered as these are.
    pub messages: u64,
    /// Of `messages`, those of sequenced channels.
    pub sequenced: u64,
    /// All bytes read from sockets.
    pub bytes: u64,
    /// Messages of sequenced channels that never came and were not announced either.
    pub missing: u64,
    /// Messages that the server announced as not to be had (gap messages, also those of the venue's numbering; one
    /// where nobody knows how many).
    pub announced: u64,
    /// Messages whose number the client had already.
    pub duplicates: u64,
    /// Messages that came behind a later one of their channel.
    pub reordered: u64,
    /// Numbers left out in conflated channels, where that is allowed.
    pub conflated: u64,
    /// Messages that are no messages of the protocol.
    pub malformed: u64,
    /// Messages whose every field was checked.
    pub schema_checked: u64,
    /// Messages stamped later than they arrived: the two clocks differ.
    pub from_the_future: u64,
    pub heartbeats: u64,
    /// Connections begun, upgraded, refused by an answer, lost unasked.
    pub connects: u64,
    pub upgrades: u64,
    pub refused: u64,
    pub lost: u64,
    /// Returns with `since` that went on without a missing or repeated message.
    pub resumed: u64,
    /// Messages about a change of the user's rights.
    #[serde(default)]
    pub told: u64,
    /// Sessions that were not told of the last change of their user's record.
    #[serde(default)]
    pub untold: u64,
    /// Error messages from the server, by their code.
    pub errors: BTreeMap<u16, u64>,
    /// Close codes from the server.
    pub closes: BTreeMap<u16, u64>,
}

impl Counts {
    /// Counts what another interval counted too.
    pub fn add(&mut self, other: &Counts) {
        // Taken apart by name: a new field that is not added up here is not compiled.
        let Counts {
            messages,
            sequenced,
            bytes,
            missing,
            announced,
            duplicates,
            reordered,
            conflated,
            malformed,
            schema_checked,
            from_the_future,
            heartbeats,
            connects,
            upgrades,
            refused,
            lost,
            resumed,
            told,
            untold,
            errors,
            closes,
        } = other;
        self.messages += messages;
        self.sequenced += sequenced;
        self.bytes += bytes;
        self.missing += missing;
        self.announced += announced;
        self.duplicates += duplicates;
        self.reordered += reordered;
        self.conflated += conflated;
        self.malformed += malformed;
        self.schema_checked += schema_checked;
        self.from_the_future += from_the_future;
        self.heartbeats += heartbeats;
        self.connects += connects;
        self.upgrades += upgrades;
        self.refused += refused;
        self.lost += lost;
        self.resumed += resumed;
        self.told += told;
        self.untold += untold;
        for (code, count) in errors {
            *self.errors.entry(*code).or_default() += count;
        }
        for (code, count) in closes {
            *self.closes.entry(*code).or_default() += count;
        }
    }
}

/// How the worker's clients stand.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Gauges {
    /// Under way to a session.
    pub connecting: u64,
    /// Signed in, the first subscribe answered, and reading.
    pub ready: u64,
    /// Not reading, on purpose; these are not among `ready`.
    pub stalled: u64,
    /// Refused or dropped by the server, and without a connection since.
    #[serde(default)]
    pub gone: u64,
}

/// Something that should not have happened, in words that name client, channel and numbers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Fault {
    pub kind: FaultKind,
    /// Unix ns.
    pub at_ns: i64,
    pub client: u64,
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    Missing,
    Duplicate,
    Reordered,
    Malformed,
    FromTheFuture,
    Refused,
    Lost,
    Error,
    Untold,
}

impl FaultKind {
    pub const COUNT: usize = 9;
}
