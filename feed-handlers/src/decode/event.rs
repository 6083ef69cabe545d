//! What venues say, in the words that all of them share.
//!
//! A decoder turns one frame into these, in the order of the frame, borrowed from its bytes. It knows what its venue
//! writes and not what came before: repeats, gaps, old state and books are for [`crate::feed`]. Whatever a frame says
//! ends as one of these, or as an error for the whole frame: nothing is skipped without a word.

use protocol::{Decimal, Side};

use super::Reason;

/// How a frame names an instrument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Symbol<'a> {
    /// The venue's own text, such as `BTC-USD`, without padding.
    Text(&'a [u8]),
    /// A number that a directory, sent before or loaded from a file, puts to a name.
    Token(u32),
}

/// One thing that a frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    Trade(Trade<'a>),
    Quote(Quote<'a>),
    Bar(Bar<'a>),
    /// A change to a book begins. Its [`Event::Level`]s follow, then [`Event::BookEnd`]; a symbol has one book.
    BookBegin(BookBegin<'a>),
    /// A level of the book that was begun.
    Level(Level),
    BookEnd(BookEnd),
    /// The venue's sign of life.
    Heartbeat(Heartbeat<'a>),
    /// The venue counts what it sends on this connection, without holes: the number of this frame or message.
    LineSequence(u64),
    /// From now on the venue says `token` for the instrument of this name.
    Directory {
        token: u32,
        symbol: &'a [u8],
    },
    /// Who the source of the events that follow in this frame is, where a line carries several.
    Provider {
        /// The line's own word for it, empty where it does not say.
        name: &'a [u8],
        /// Whether what follows was made up, for a test or a demonstration.
        is_mock: bool,
    },
    Control(Control<'a>),
    /// A message, or a part of one, of a kind that is not taken; `kind` is the venue's word for it.
    Ignored {
        kind: &'a [u8],
    },
    /// A part of the frame that cannot be believed. The others stand.
    Invalid {
        symbol: Option<Symbol<'a>>,
        part: Part,
        reason: Reason,
    },
}

/// An element of a list that is no object.
pub(super) const NO_OBJECT: Event<'static> = invalid(None, Part::Message, Reason::FieldType);

/// A frame that is a list without elements.
pub(super) const EMPTY_LIST: Event<'static> = Event::Ignored { kind: b"[]" };

pub(super) const fn invalid(symbol: Option<Symbol<'_>>, part: Part, reason: Reason) -> Event<'_> {
    Event::Invalid { symbol, part, reason }
}

/// What of a frame is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Trade,
    Quote,
    Bar,
    /// A level of the book that was begun; the book is not to be trusted before its next snapshot.
    Level,
    /// Anything else.
    Message,
}

/// Whether something happens now, or is what happened before we asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    Live,
    /// Sent as the state at the time of subscribing.
    Old,
}

/// A trade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trade<'a> {
    pub symbol: Symbol<'a>,
    /// The venue's number of the trade, at most `i64::MAX`. `None` where it gives none, or one that is no integer.
    pub id: Option<u64>,
    /// As written; may be zero or negative in a faulty frame.
    pub price: Decimal,
    /// As written; may be zero or negative in a faulty frame. Shares, or units of the base.
    pub size: Decimal,
    /// Who took liquidity, where the venue tells it, whichever side its own field means.
    pub taker: Option<Side>,
    /// When it happened, Unix ns.
    pub time: i64,
    pub age: Age,
}

/// One side of a quote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Top {
    /// As written; may be negative in a faulty frame. A venue's way of writing "no quote" is no `Top`.
    pub price: Decimal,
    /// `None` where the venue does not tell it.
    pub size: Option<Decimal>,
}

/// Best bid and ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quote<'a> {
    pub symbol: Symbol<'a>,
    /// `None` where nobody bids.
    pub bid: Option<Top>,
    /// `None` where nobody offers.
    pub ask: Option<Top>,
    /// Rises from quote to quote of a symbol, with holes, where the venue numbers them.
    pub sequence: Option<u64>,
    /// Unix ns; `None` where the venue gives none.
    pub time: Option<i64>,
    pub age: Age,
}

/// A bar that the venue made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bar<'a> {
    pub symbol: Symbol<'a>,
    /// Length of the bar, ns, above 0.
    pub interval_ns: i64,
    /// Its begin, Unix ns.
    pub start: i64,
    /// As written, whether or not they fit each other.
    pub open: Decimal,
    pub high: Decimal,
    pub low: Decimal,
    pub close: Decimal,
    pub volume: Decimal,
    pub vwap: Option<Decimal>,
    pub trades: Option<u64>,
    /// Whether more updates of the same bar follow.
    pub in_progress: bool,
}

/// What the levels that follow are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BookScope {
    /// The whole book, which starts anew.
    Snapshot,
    /// Levels that changed.
    Change,
}

/// The begin of a change to a book.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BookBegin<'a> {
    pub symbol: Symbol<'a>,
    pub scope: BookScope,
    /// The venue's numbers of the first and the last change in it, where it numbers them. Of a snapshot, both are the
    /// number of the last change that it holds.
    pub updates: Option<(u64, u64)>,
}

/// One price level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// `Buy` for bids, `Sell` for asks.
    pub side: Side,
    /// Above zero.
    pub price: Decimal,
    /// The size that now stands at the price, zero or more; zero removes the level.
    pub size: Decimal,
}

impl Level {
    /// # Errors
    /// [`Reason::Price`] for a price of zero or less, [`Reason::Size`] for a size below zero.
    pub(super) fn new(side: Side, price: Decimal, size: Decimal) -> Result<Level, Reason> {
        if !price.is_positive() {
            return Err(Reason::Price);
        }
        if size.mantissa() < 0 {
            return Err(Reason::Size);
        }
        Ok(Level { side, price, size })
    }
}

/// The end of a change to a book.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BookEnd {
    /// The venue's checksum of the book as it is now.
    pub checksum: Option<u32>,
    /// When the book was so, Unix ns.
    pub time: Option<i64>,
}

/// A sign of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat<'a> {
    /// `None` where it is for the whole connection.
    pub symbol: Option<Symbol<'a>>,
    /// The venue's clock, Unix ns.
    pub time: Option<i64>,
}

/// What a venue says about the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control<'a> {
    /// It is ready for us to sign in.
    Connected,
    Authenticated,
    /// It acknowledges a subscription, or the end of one.
    Subscribed,
    /// It refuses who we are. `text` as the venue wrote it, escapes and all.
    AuthRefused {
        text: &'a [u8],
    },
    /// It refuses something that we asked, or reports a fault. `detail` is empty where the venue has one text only.
    Error {
        text: &'a [u8],
        detail: &'a [u8],
    },
    /// We ask too much, or too often.
    Throttled {
        text: &'a [u8],
    },
    /// It is about to close the connection, and is to be connected anew.
    Closing,
    /// Anything else of this kind.
    Note,
}

/// A [`Control`] without its texts: what whoever keeps the connection has to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlKind {
    Connected,
    Authenticated,
    Subscribed,
    AuthRefused,
    Error,
    Throttled,
    Closing,
    Note,
}

impl Control<'_> {
    pub const fn kind(self) -> ControlKind {
        match self {
            Control::Connected => ControlKind::Connected,
            Control::Authenticated => ControlKind::Authenticated,
            Control::Subscribed => ControlKind::Subscribed,
            Control::AuthRefused { .. } => ControlKind::AuthRefused,
            Control::Error { .. } => ControlKind::Error,
            Control::Throttled { .. } => ControlKind::Throttled,
            Control::Closing => ControlKind::Closing,
            Control::Note => ControlKind::Note,
        }
    }
}
