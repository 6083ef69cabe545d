//! Validation: whether a normalised trade, quote or bar can be believed.
//!
//! Pure, owned by the feed's thread. Each check holds one event against fixed limits and against the last price of its
//! instrument and source, which the feed keeps in a [`LastPrices`] for each. What fails is refused with its own
//! [`Reason`]; what is merely strange passes, marked.
//!
//! Times are held against the time of receipt: further ahead than `future_max` is refused, because event time drives the
//! bars of all instruments, and one absurd time would finish them all.
//!
//! Outliers: a price further than `outlier_ratio` from the last one is strange, and does not become the last one, or a
//! single typo would make the next true price the outlier. A true jump brings more of its like: with the third in a row that
//! is as near to its predecessor as any price must be, the reference moves there, so at most [`AGREEING`] ticks of a jump
//! are marked. Trades are held against trades and quotes, by their middle, against quotes: the middle of a wide quote says
//! little about trades.
//!
//! Deliberately absent: exact arithmetic for outliers, which are a matter of judgement anyway (`f64`); and outliers of bars,
//! which may be of any time in the past, so that the last price says nothing about them.

#[cfg(all(test, not(loom)))]
mod tests;

use protocol::{Decimal, Quote, Trade};

use crate::decode::Reason;
use crate::decode::event::Bar;

/// Outliers in a row, each near the one before, that make the reference move.
pub const AGREEING: u8 = 3;

/// What to do with outliers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outliers {
    /// Let them through, marked.
    Flag,
    /// Refuse them.
    Drop,
}

/// What can be believed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Furthest that an event may lie ahead of its receipt, ns.
    pub future_max_ns: i64,
    /// Longest that an event may lie before its receipt, ns; `None` for any age.
    pub age_max_ns: Option<i64>,
    /// Furthest that a price may lie from the last one, as a share of that: above 0. Infinite for any price.
    pub outlier_ratio: f64,
    pub outliers: Outliers,
}

impl Limits {
    /// Those of a live source: 10 s ahead, a day of age, 20 %, outliers marked.
    pub const LIVE: Limits = Limits {
        future_max_ns: 10_000_000_000,
        age_max_ns: Some(86_400_000_000_000),
        outlier_ratio: 0.2,
        outliers: Outliers::Flag,
    };

    /// Those of a recording, which may be of any age.
    pub const RECORDED: Limits = Limits { age_max_ns: None, ..Limits::LIVE };
}

/// How an event that can be believed looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    Sound,
    /// A quote whose bid and ask are the same: rare, and no fault.
    Locked,
    /// The price is far from the last one.
    Outlier,
}

/// The last price of one kind: 16 bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Reference {
    /// Above 0; 0 before the first price.
    price: f64,
    /// The last outlier. Half the digits are plenty for what it is compared with.
    outlier: f32,
    /// Outliers in a row that agree with each other: less than [`AGREEING`].
    agreeing: u8,
}

/// What came before of an instrument from one source: 32 bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct LastPrices {
    trade: Reference,
    quote: Reference,
}

const _: () = assert!(size_of::<LastPrices>() <= 32);

impl LastPrices {
    /// Nothing is known of the price any more, as when another recording begins.
    pub fn forget(&mut self) {
        *self = LastPrices::default();
    }
}

impl Limits {
    /// Whether an event of `ts_event` may have come at `ts_recv`, both Unix ns.
    ///
    /// # Errors
    /// [`Reason::Future`] or [`Reason::Ancient`].
    pub fn check_time(&self, ts_event: i64, ts_recv: i64) -> Result<(), Reason> {
        if ts_event.saturating_sub(ts_recv) > self.future_max_ns {
            return Err(Reason::Future);
        }
        if self.age_max_ns.is_some_and(|max| ts_recv.saturating_sub(ts_event) > max) {
            return Err(Reason::Ancient);
        }
        Ok(())
    }

    /// Checks a trade. A size of zero is the feed's matter: venues mean different things by it.
    ///
    /// # Errors
    /// [`Reason::Future`], [`Reason::Ancient`]; [`Reason::Price`] for a price of zero or less, [`Reason::Size`] for a size
    /// below zero; [`Reason::Outlier`] where outliers are dropped. What is refused for anything but the last leaves `last`
    /// as it was.
    pub fn check_trade(
        &self,
        trade: &Trade,
        ts_event: i64,
        ts_recv: i64,
        last: &mut LastPrices,
    ) -> Result<Finding, Reason> {
        self.check_time(ts_event, ts_recv)?;
        check_price(trade.price)?;
        check_size(trade.size)?;
        self.check_near(trade.price.to_f64(), &mut last.trade)
    }

    /// Checks a quote with two sides.
    ///
    /// # Errors
    /// [`Reason::Future`], [`Reason::Ancient`]; [`Reason::Price`] for a side of zero or less, [`Reason::Size`] for a size
    /// below zero; [`Reason::Crossed`] for a bid above the ask; [`Reason::Outlier`] where outliers are dropped. What is
    /// refused for anything but the last leaves `last` as it was.
    pub fn check_quote(
        &self,
        quote: &Quote,
        ts_event: i64,
        ts_recv: i64,
        last: &mut LastPrices,
    ) -> Result<Finding, Reason> {
        self.check_time(ts_event, ts_recv)?;
        check_price(quote.bid)?;
        check_price(quote.ask)?;
        check_size(quote.bid_size)?;
        check_size(quote.ask_size)?;
        let order = quote.bid.cmp(&quote.ask);
        if order.is_gt() {
            return Err(Reason::Crossed);
        }
        let middle = (quote.bid.to_f64() + quote.ask.to_f64()) / 2.0;
        match self.check_near(middle, &mut last.quote)? {
            Finding::Sound if order.is_eq() => Ok(Finding::Locked),
            finding => Ok(finding),
        }
    }

    /// Checks a bar that a venue made. Its time is its start, so a source that sends history along needs an `age_max` for it.
    ///
    /// # Errors
    /// [`Reason::Future`], [`Reason::Ancient`]; [`Reason::Price`] for a price of zero or less, or a mean below zero;
    /// [`Reason::Size`] for a volume below zero; [`Reason::BarRange`] where high is below low, or open or close outside of them. A volume-weighted mean is
    /// not held against them: venues leave odd lots out of the one and not of the other.
    pub fn check_bar(&self, bar: &Bar<'_>, ts_recv: i64) -> Result<Finding, Reason> {
        self.check_time(bar.start, ts_recv)?;
        for price in [bar.open, bar.high, bar.low, bar.close] {
            check_price(price)?;
        }
        if bar.vwap.is_some_and(|vwap| vwap.mantissa() < 0) {
            return Err(Reason::Price);
        }
        check_size(bar.volume)?;
        let is_within = |price: Decimal| bar.low <= price && price <= bar.high;
        if bar.high < bar.low || !is_within(bar.open) || !is_within(bar.close) {
            return Err(Reason::BarRange);
        }
        Ok(Finding::Sound)
    }

    fn check_near(&self, price: f64, last: &mut Reference) -> Result<Finding, Reason> {
        if last.price == 0.0 || self.is_near(price, last.price) {
            *last = Reference { price, outlier: 0.0, agreeing: 0 };
            return Ok(Finding::Sound);
        }
        let agrees = last.agreeing > 0 && self.is_near(price, f64::from(last.outlier));
        last.agreeing = if agrees { last.agreeing + 1 } else { 1 };
        last.outlier = price as f32;
        if last.agreeing >= AGREEING {
            *last = Reference { price, outlier: 0.0, agreeing: 0 };
        }
        match self.outliers {
            Outliers::Flag => Ok(Finding::Outlier),
            Outliers::Drop => Err(Reason::Outlier),
        }
    }

    fn is_near(&self, price: f64, reference: f64) -> bool {
        (price - reference).abs() <= self.outlier_ratio * reference
    }
}

fn check_price(price: Decimal) -> Result<(), Reason> {
    if price.is_positive() { Ok(()) } else { Err(Reason::Price) }
}

fn check_size(size: Decimal) -> Result<(), Reason> {
    if size.mantissa() >= 0 { Ok(()) } else { Err(Reason::Size) }
}
