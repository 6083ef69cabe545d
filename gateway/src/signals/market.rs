//! The latest market data of each instrument, for the signals to be joined with. Written by whoever takes the sequencer's turn,
//! read by the thread that processes signals; a lock for each instrument, which hardly ever meets.

use std::sync::{Mutex, PoisonError};

use protocol::{Decimal, InstrumentId, Tick, TickBody};
use serde_json::{Value, json};

/// What is known of an instrument.
#[derive(Clone, Copy, Debug, Default)]
struct Latest {
    bid: Option<Decimal>,
    ask: Option<Decimal>,
    last: Option<Decimal>,
    /// When the newest of them was received, Unix ns.
    ts_recv: i64,
}

/// Of all instruments: 64 bytes each.
#[derive(Debug)]
pub(crate) struct LatestMarket(Box<[Mutex<Latest>]>);

impl LatestMarket {
    /// For so many instruments.
    pub(crate) fn with_capacity(capacity: usize) -> LatestMarket {
        LatestMarket((0..capacity).map(|_| Mutex::default()).collect())
    }

    /// Takes a tick of an instrument's plain stream.
    pub(crate) fn note(&self, tick: &Tick) {
        let Some(place) = self.0.get(tick.instrument.index()) else { return };
        let mut latest = place.lock().unwrap_or_else(PoisonError::into_inner);
        match tick.body {
            TickBody::Trade(trade) => latest.last = Some(trade.price),
            TickBody::Quote(quote) => (latest.bid, latest.ask) = (Some(quote.bid), Some(quote.ask)),
            TickBody::Bar(_) | TickBody::Gap { .. } | TickBody::Heartbeat => return,
        }
        latest.ts_recv = tick.ts_recv;
    }

    /// What a signal is joined with at `now` (Unix ns): prices as texts with the venue's digits, the age in ms. Where nothing has
    /// come yet, `{"status":"missing"}`.
    pub(crate) fn join(&self, instrument: Option<InstrumentId>, now: i64) -> Value {
        let latest = instrument.and_then(|instrument| self.0.get(instrument.index()));
        let latest = latest.map(|place| *place.lock().unwrap_or_else(PoisonError::into_inner)).unwrap_or_default();
        let text = |price: Option<Decimal>| price.map(|price| price.to_string());
        let mut joined = json!({"status": "missing"});
        let (bid, ask, last) = (text(latest.bid), text(latest.ask), text(latest.last));
        if bid.is_some() || last.is_some() {
            joined = json!({"status": "found", "age_ms": (now - latest.ts_recv).max(0) / 1_000_000});
        }
        let spread = latest.ask.zip(latest.bid).and_then(|(ask, bid)| difference(ask, bid));
        for (field, value) in [("bid", bid), ("ask", ask), ("spread", text(spread)), ("last", last)] {
            if let Some(value) = value {
                joined[field] = Value::String(value);
            }
        }
        joined
    }
}

fn difference(ask: Decimal, bid: Decimal) -> Option<Decimal> {
    Decimal::new(bid.mantissa().checked_neg()?, bid.scale()).and_then(|bid| ask.checked_add(bid))
}

#[cfg(test)]
mod tests {
    use protocol::{Quote, SourceId, TickFlags, Trade};

    use super::*;

    #[test]
    fn joins_what_came_last() {
        let market = LatestMarket::with_capacity(2);
        let instrument = InstrumentId(1);
        let decimal = |text: &str| Decimal::parse(text.as_bytes()).unwrap();
        let note = |ts_recv, body| {
            market.note(&Tick { instrument, source: SourceId(0), flags: TickFlags::NONE, ts_event: 0, ts_recv, body });
        };
        assert_eq!(market.join(Some(instrument), 0), json!({"status": "missing"}));
        let price = decimal("101.25");
        note(1_000_000, TickBody::Trade(Trade { id: None, price, size: price, taker: None }));
        assert_eq!(market.join(Some(instrument), 3_000_000), json!({"status": "found", "age_ms": 2, "last": "101.25"}));
        let (bid, ask, size) = (decimal("101.20"), decimal("101.300"), decimal("1"));
        note(4_000_000, TickBody::Quote(Quote { bid, bid_size: size, ask, ask_size: size }));
        note(9_000_000, TickBody::Heartbeat);
        let joined = json!({
            "status": "found", "age_ms": 1, "bid": "101.20", "ask": "101.300", "spread": "0.100", "last": "101.25",
        });
        assert_eq!(market.join(Some(instrument), 5_000_000), joined);
        for other in [None, Some(InstrumentId(0)), Some(InstrumentId(7))] {
            assert_eq!(market.join(other, 0), json!({"status": "missing"}));
        }
    }
}
