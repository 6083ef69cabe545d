//! What a feed counts: everything it took in, published, and left out, the last by reason.
//!
//! The feed's own thread adds; anyone may read. Deliberately absent: names of products, which would make the
//! set of counters as large as the venue's catalogue.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::decode::Reason;

macro_rules! feed_counters {
    ($($variant:ident, $name:literal, $help:literal;)*) => {
        /// One thing that a feed counts.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum FeedCounter {
            $(#[doc = $help] $variant,)*
            /// Frames, trades, quotes and book levels that were refused, by reason.
            Malformed(Reason),
        }

        /// The plain counters by their number, and how many there are.
        enum Plain {
            $($variant,)*
            Count,
        }

        impl FeedCounter {
            const PLAIN: [FeedCounter; Plain::Count as usize] = [$(FeedCounter::$variant,)*];

            const fn index(self) -> usize {
                match self {
                    $(FeedCounter::$variant => Plain::$variant as usize,)*
                    FeedCounter::Malformed(reason) => Plain::Count as usize + reason as usize,
                }
            }

            /// The label under which metrics show the counter; each counter has its own.
            pub const fn name(self) -> &'static str {
                match self {
                    $(FeedCounter::$variant => $name,)*
                    FeedCounter::Malformed(reason) => malformed_name(reason),
                }
            }

            /// What the counter counts, in a sentence.
            pub const fn help(self) -> &'static str {
                match self {
                    $(FeedCounter::$variant => $help,)*
                    FeedCounter::Malformed(_) => "Frames, trades, quotes and book levels that were refused for this reason.",
                }
            }
        }
    };
}

feed_counters! {
    Frames, "frames", "Frames taken in, whatever became of them.";
    Bytes, "bytes", "Bytes of those frames.";
    Trades, "trades", "Trades published.";
    Quotes, "quotes", "Quotes published.";
    Heartbeats, "heartbeats", "Heartbeats published.";
    BookSnapshots, "book_snapshots", "Book snapshots decoded.";
    BookLevels, "book_levels", "Book levels decoded.";
    Subscriptions, "subscriptions", "Subscriptions acknowledged by the venue.";
    Notes, "notes", "Other messages of the venue about the connection.";
    LineHeartbeats, "line_heartbeats", "Heartbeats of the whole connection, or without a time.";
    LineGaps, "line_gaps", "Holes in the connection's own numbers.";
    LineRepeats, "line_repeats", "Messages left out because another line brought them before.";
    LineLost, "line_lost", "Messages that no line brought.";
    StaleDatagrams, "stale_datagrams", "Datagrams left out because their session is over, or far from all that came before.";
    VenueBars, "venue_bars", "Bars that the venue made, published.";
    CompletedBars, "completed_bars", "Bars of the venue that were final because the next one began, published once more.";
    RepeatedBars, "repeated_bars", "Bars of the venue left out because they were told before, as they are.";
    OutdatedBars, "outdated_bars", "Bars of the venue left out because a later one was told before.";
    BarsInProgress, "bars_in_progress", "Bars of the venue in progress, of an interval whose progress no channel shows.";
    OtherBars, "other_bars", "Bars of the venue left out because they are of no interval of ours.";
    EmptyBars, "empty_bars", "Bars of the venue left out because nothing was traded in them.";
    Reconnects, "reconnects", "Connections made after the first one.";
    Gaps, "gaps", "Gaps in the venue's trade ids, published.";
    TradesMissed, "trades_missed", "Trades that those gaps say are missing.";
    Duplicates, "duplicates", "Trades left out because their id was not above the last one.";
    ResentMessages, "resent_messages", "Messages left out because they were sent again and known.";
    OldState, "old_state", "Last matches and first tickers after a subscription that told nothing new.";
    StaleQuotes, "stale_quotes", "Tickers left out because their sequence was not above the last one.";
    StaleHeartbeats, "stale_heartbeats", "Heartbeats left out because their time was not after the last one.";
    UntimedQuotes, "untimed_quotes", "Tickers left out because they have no time.";
    OneSidedQuotes, "one_sided_quotes", "Tickers left out because the best bid or the best ask is missing.";
    SupersededQuotes, "superseded_quotes", "Quotes of the venue left out because they are made of its books.";
    SameTops, "same_tops", "Changes of books that left the top as it was.";
    StaleBookChanges, "stale_book_changes", "Changes of books left out because the snapshot had them already.";
    WaitingBookChanges, "waiting_book_changes", "Changes of books that wait for a snapshot.";
    BookGaps, "book_gaps", "Books given up because a change is missing, or the numbers go back.";
    BookChecksums, "book_checksums", "Books given up because they do not have the venue's checksum.";
    BookFaults, "book_faults", "Books given up because a level could not be read.";
    BookOverflows, "book_overflows", "Books given up because no snapshot came.";
    BookCrosses, "book_crosses", "Books given up because they stayed crossed.";
    CrossedQuotes, "crossed_quotes", "Tickers left out because their bid is above their ask.";
    InvalidTrades, "invalid_trades", "Trades left out because of their price, size or time.";
    InvalidQuotes, "invalid_quotes", "Tickers left out because of a price, a size or their time.";
    InvalidBars, "invalid_bars", "Bars left out because of their prices, volume or time.";
    InvalidMessages, "invalid_messages", "Other parts of frames that cannot be believed.";
    InvalidLevels, "invalid_levels", "Book levels left out; the others of their frame were taken.";
    MalformedFrames, "malformed_frames", "Frames refused as a whole.";
    Outliers, "outliers", "Trades and quotes published with the mark of a price far from the last one.";
    DeadLetters, "dead_letters", "Frames put among the dead letters.";
    DeadLettersDropped, "dead_letters_dropped", "Frames that found no room among the dead letters.";
    UnknownSymbols, "unknown_symbols", "Events left out because their product is no known instrument.";
    UnknownTypes, "unknown_types", "Messages left out because their type is not handled.";
    VenueErrors, "venue_errors", "Errors reported by the venue.";
    QuietFrames, "quiet_frames", "Frames that say nothing new, such as an order below the best, a name, or a list of nothing.";
}

impl FeedCounter {
    pub const COUNT: usize = Plain::Count as usize + Reason::COUNT;

    /// All counters, in a fixed order.
    pub fn iter() -> impl Iterator<Item = FeedCounter> {
        Self::PLAIN.into_iter().chain(Reason::ALL.into_iter().map(FeedCounter::Malformed))
    }
}

const fn malformed_name(reason: Reason) -> &'static str {
    match reason {
        Reason::Truncated => "malformed_truncated",
        Reason::Syntax => "malformed_syntax",
        Reason::Depth => "malformed_depth",
        Reason::MissingField => "malformed_missing_field",
        Reason::FieldType => "malformed_field_type",
        Reason::Number => "malformed_number",
        Reason::NumberRange => "malformed_number_range",
        Reason::Time => "malformed_time",
        Reason::Side => "malformed_side",
        Reason::Price => "malformed_price",
        Reason::Size => "malformed_size",
        Reason::Length => "malformed_length",
        Reason::Checksum => "malformed_checksum",
        Reason::Future => "malformed_future",
        Reason::Ancient => "malformed_ancient",
        Reason::Crossed => "malformed_crossed",
        Reason::Outlier => "malformed_outlier",
        Reason::BarRange => "malformed_bar_range",
        Reason::UnknownOrder => "malformed_unknown_order",
        Reason::OrderLimit => "malformed_order_limit",
    }
}

/// The counters of one feed. They only rise, from zero at the start of the process.
///
/// Counted by whoever owns the feed and by nobody else, so that no addition has to be locked; anyone may read them.
#[derive(Debug)]
pub struct FeedCounters([AtomicU64; FeedCounter::COUNT]);

impl FeedCounters {
    pub fn new() -> FeedCounters {
        FeedCounters([const { AtomicU64::new(0) }; FeedCounter::COUNT])
    }

    /// Adds `n` to a counter. For the owner of the feed only: what two threads add at the same time is counted once.
    pub(crate) fn add(&self, counter: FeedCounter, n: u64) {
        let cell = &self.0[counter.index()];
        // Relaxed, here and below: a number on its own; nothing else is read on the strength of it.
        cell.store(cell.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// How much was counted so far.
    pub fn count(&self, counter: FeedCounter) -> u64 {
        self.0[counter.index()].load(Ordering::Relaxed)
    }
}

impl Default for FeedCounters {
    fn default() -> FeedCounters {
        FeedCounters::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_have_a_place_and_a_name_of_their_own() {
        let counters = FeedCounters::new();
        for (index, counter) in FeedCounter::iter().enumerate() {
            assert_eq!(counter.index(), index, "{counter:?}");
            counters.add(counter, index as u64 + 1);
            counters.add(counter, 1);
        }
        assert_eq!(FeedCounter::iter().count(), FeedCounter::COUNT);
        for (index, counter) in FeedCounter::iter().enumerate() {
            assert_eq!(counters.count(counter), index as u64 + 2, "{counter:?}");
            let snake_case = |b: u8| b.is_ascii_lowercase() || b == b'_';
            assert!(counter.name().bytes().all(snake_case), "{}", counter.name());
            assert!(!FeedCounter::iter().take(index).any(|other| other.name() == counter.name()), "{counter:?}");
        }
        for reason in Reason::ALL {
            assert_eq!(FeedCounter::Malformed(reason).name(), format!("malformed_{}", reason.name()));
        }
    }
}
