//! Trades that a venue sends as the state at the time of subscribing: what they say about those that were missed.
//!
//! Owned by the feed's thread. They are not published. A venue may send one or the last hundred, newest or oldest first,
//! so all of a frame are taken together, and the newest of a product is held against the trades before it: what was missed
//! is told once, and nothing is where the product was never seen. Allocates when a frame holds such of more products than
//! any before.

use super::Feed;
use crate::counters::FeedCounter;
use crate::decode::Reason;
use crate::decode::event::{Part, Trade};
use crate::venue::TradeIds;

/// The newest of a product's old trades in the frame under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct OldTrade {
    id: u64,
    /// As the venue wrote it, Unix ns.
    time: i64,
}

impl Feed {
    pub(super) fn take_old_trade(&mut self, trade: &Trade<'_>) {
        let Some(at) = self.product(trade.symbol) else { return };
        let (Some(id), TradeIds::Contiguous) = (trade.id, self.venue.trade_ids()) else {
            return self.count(FeedCounter::OldState);
        };
        let product = &mut self.products[at];
        let old = OldTrade { id: product.trade_lap.shifted_old(id), time: trade.time };
        match &mut product.old {
            None => {
                product.old = Some(old);
                self.with_old_trades.push(at);
            }
            Some(newest) => {
                if old.id > newest.id {
                    *newest = old;
                }
                self.count(FeedCounter::OldState);
            }
        }
    }

    /// The frame is complete.
    pub(super) fn settle_old_trades(&mut self, ts_recv: i64) {
        while let Some(at) = self.with_old_trades.pop() {
            self.settle_old_trades_of(at, ts_recv);
        }
    }

    /// A product's old trades are all there: the frame is complete, or a trade that happens now follows.
    pub(super) fn settle_old_trades_of(&mut self, at: usize, ts_recv: i64) {
        let product = &mut self.products[at];
        let Some(newest) = product.old.take() else { return };
        let missed = product.trades.on_last_match(newest.id);
        if missed == 0 {
            return self.count(FeedCounter::OldState);
        }
        let checked = self.times.shifted(newest.time).ok_or(Reason::Time);
        let checked = checked.and_then(|time| self.limits.check_time(time, ts_recv).map(|()| time));
        // Whatever its time, it was missed, and so were those before it.
        self.publish_gap(at, missed, checked.unwrap_or(ts_recv), ts_recv);
        if let Err(reason) = checked {
            self.leave_out(FeedCounter::InvalidTrades, Part::Trade, reason, ts_recv);
        }
    }
}
