//! The times by which a connection to a venue is supervised.
//!
//! Plain data, any thread. What is right for a venue follows from how often it says something.

use std::time::Duration;

use crate::venue::Venue;

/// Longest of the [`Timings`]: such a time can be added to any clock.
const TIMING_MAX: Duration = Duration::from_secs(86_400);

/// The times by which a connection is supervised. All are above 0 and at most a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timings {
    /// From the start of a connection to the end of its handshake.
    pub connect: Duration,
    /// Until the venue answers, in each step of the beginning: greeting, sign-in, first subscription. Also until what we
    /// write is taken.
    pub answer: Duration,
    /// Without a sign of life for this long, the source is stale. `stale <= silence`
    pub stale: Duration,
    /// Without a sign of life for this long, the line is given up.
    pub silence: Duration,
    /// Upper bound of the wait before the first attempt to reconnect; it doubles with each further one.
    pub backoff_min: Duration,
    /// Upper bound of every such wait. `backoff_min <= backoff_max`
    pub backoff_max: Duration,
    /// The wait, at least half of it, after the venue says that we ask too much.
    pub throttled: Duration,
    /// The wait, at least half of it, after the venue refuses our credentials: trying them again and again helps nobody.
    pub refused: Duration,
}

impl Default for Timings {
    /// For a venue with a heartbeat a second.
    fn default() -> Timings {
        Timings {
            connect: Duration::from_secs(10),
            answer: Duration::from_secs(10),
            stale: Duration::from_secs(3),
            silence: Duration::from_secs(10),
            backoff_min: Duration::from_millis(250),
            backoff_max: Duration::from_secs(30),
            throttled: Duration::from_secs(60),
            refused: Duration::from_secs(300),
        }
    }
}

impl Timings {
    /// Those that suit the venue.
    pub fn of(venue: Venue) -> Timings {
        let heartbeats = Timings::default();
        match venue {
            // Its reference client gives up after 5 s, and waits for up to a minute.
            Venue::Kite => {
                Timings { silence: Duration::from_secs(5), backoff_max: Duration::from_secs(60), ..heartbeats }
            }
            // Without heartbeats, the answer to a ping each 10 s is what comes for sure.
            Venue::Polygon | Venue::Alpaca | Venue::Finnhub | Venue::Binance => {
                Timings { stale: Duration::from_secs(15), silence: Duration::from_secs(30), ..heartbeats }
            }
            _ => heartbeats,
        }
    }

    /// Those of a venue that says something each `interval` at least: a fifth more is the time that it takes to come.
    pub fn of_heartbeat(interval: Duration) -> Timings {
        let stale = interval.mul_f64(1.2);
        Timings { stale, silence: 2 * stale, ..Timings::default() }
    }

    /// Whether all of them are in range and order.
    pub(super) fn are_valid(&self) -> bool {
        let Timings { connect, answer, stale, silence, backoff_min, backoff_max, throttled, refused } = *self;
        let times = [connect, answer, stale, silence, backoff_min, backoff_max, throttled, refused];
        let in_range = |time: &Duration| !time.is_zero() && *time <= TIMING_MAX;
        times.iter().all(in_range) && stale <= silence && backoff_min <= backoff_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn are_in_range_and_order() {
        assert!(Venue::ALL.into_iter().all(|venue| Timings::of(venue).are_valid()));
        let check = |change: fn(&mut Timings)| {
            let mut timings = Timings::default();
            change(&mut timings);
            assert!(!timings.are_valid(), "{timings:?}");
        };
        check(|t| t.connect = Duration::ZERO);
        check(|t| t.answer = Duration::ZERO);
        check(|t| t.refused = TIMING_MAX + Duration::from_nanos(1));
        check(|t| t.throttled = Duration::ZERO);
        check(|t| t.stale = Duration::from_secs(11));
        check(|t| t.backoff_min = Duration::from_secs(31));
    }
}
