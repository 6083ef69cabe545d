//! What each venue is told over its WebSocket: one small file a venue, all of one form.
//!
//! A file turns settings into a [`Script`]: the address, the sign-in, the subscriptions in the venue's batches and
//! channels, its limits. Pure, used once at the start. Facts are the venue's own, from the pages that each file names;
//! where a venue states no limit, one is chosen that no client of it was seen to exceed.

mod alpaca;
mod binance;
mod coinbase;
mod coinbase_advanced;
mod finnhub;
mod kite;
mod kraken;
mod polygon;

use super::live_settings::{LiveError, LiveSettings};
use super::script::Script;
use crate::venue::Venue;

/// The script for the venue of these settings.
pub(super) fn script(settings: &LiveSettings) -> Result<Script, LiveError> {
    match settings.venue {
        Venue::Coinbase => coinbase::script(settings),
        Venue::CoinbaseAdvanced => coinbase_advanced::script(settings),
        Venue::Polygon => polygon::script(settings),
        Venue::Alpaca => alpaca::script(settings),
        Venue::Finnhub => finnhub::script(settings),
        Venue::Binance => binance::script(settings),
        Venue::Kraken => kraken::script(settings),
        Venue::Kite => kite::script(settings),
        venue => Err(LiveError::NoWebSocket { venue }),
    }
}

#[cfg(test)]
mod tests;
