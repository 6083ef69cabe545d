//! Nasdaq TotalView-ITCH 5.0: one message's bytes to its fields.
//!
//! Pure, any thread. A message's length is checked once, then each field is read at a place that the compiler knows to
//! be inside. Whatever is in front of a message (MoldUDP64, SoupBinTCP, a file's lengths) is for [`super::mold`],
//! [`super::soup`] and [`super::framed`]: a message that is refused here costs nobody the next one.
//!
//! Most of the tape needs the orders: an execution names an order and neither its price nor its stock. [`event`] gives
//! what can be said without them. Deliberately absent: the orders.
//!
//! Layouts: Nasdaq TotalView-ITCH 5.0, revision of 2023-04-28. All numbers are big-endian and unsigned.

use protocol::{Decimal, Side};

use super::Reason;
use super::event::{Age, Event, Part, Symbol, Trade};
use super::framed::{chunk, u16_at, u32_at, u64_at};

/// A name of up to `N` characters, padded with spaces to the right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Alpha<'a, const N: usize>(pub &'a [u8; N]);

impl<'a, const N: usize> Alpha<'a, N> {
    /// The name without its padding.
    pub fn text(self) -> &'a [u8] {
        self.0.trim_ascii_end()
    }
}

/// The name of a stock, such as `IVOO` or `BAC-Q`.
pub type Stock<'a> = Alpha<'a, 8>;

/// A price of four decimal places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Price4(pub u32);

impl Price4 {
    /// What Nasdaq writes for "at any price": 200,000.0000.
    pub const MARKET: Price4 = Price4(2_000_000_000);

    pub fn decimal(self) -> Decimal {
        Decimal::new(i64::from(self.0), 4).expect("Invariant: at most 18 digits stand behind the point")
    }
}

/// A price of eight decimal places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Price8(pub u64);

impl Price8 {
    /// `None` above `i64::MAX / 10^8`, some 92 billion.
    pub fn decimal(self) -> Option<Decimal> {
        Decimal::new(i64::try_from(self.0).ok()?, 8)
    }
}

/// A message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// The day's number of the stock; 0 where the message is about none.
    pub locate: u16,
    /// Nasdaq's own number, the same for what belongs together.
    pub tracking: u16,
    /// Unix ns.
    pub time: i64,
    pub body: Body<'a>,
}

/// What a message says. Codes of one character are as Nasdaq writes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// `S`. `O` begin of messages, `S` of system hours, `Q` of market hours; `M`, `E`, `C` their ends.
    SystemEvent { event: u8 },
    /// `R`
    Directory(Directory<'a>),
    /// `H`. State `H` halted, `P` paused, `Q` quotes only, `T` trading.
    TradingAction { stock: Stock<'a>, state: u8, reason: Alpha<'a, 4> },
    /// `Y`. Action `0` none, `1` restriction begins, `2` remains.
    ShortSaleRestriction { stock: Stock<'a>, action: u8 },
    /// `L`
    MarketMaker { mpid: Alpha<'a, 4>, stock: Stock<'a>, is_primary: bool, mode: u8, state: u8 },
    /// `V`. The S&P 500 at which the whole market halts.
    BreakerLevels { levels: [Price8; 3] },
    /// `W`. Level `1`, `2` or `3`.
    BreakerReached { level: u8 },
    /// `K`. `release_s` in seconds since midnight.
    IpoQuoting { stock: Stock<'a>, release_s: u32, qualifier: u8, price: Price4 },
    /// `J`. `extension` counts the extensions of the auction.
    AuctionCollar { stock: Stock<'a>, reference: Price4, upper: Price4, lower: Price4, extension: u32 },
    /// `h`. Market `Q` Nasdaq, `B` BX, `X` PSX; action `H` halted, `T` resumed.
    OperationalHalt { stock: Stock<'a>, market: u8, action: u8 },
    /// `A`, and `F` with the name of who places it.
    OrderAdded(OrderAdded<'a>),
    /// `E`. At the order's own price.
    OrderExecuted { order: u64, shares: u32, match_number: u64 },
    /// `C`. What is not printable is told again by a [`Body::CrossTrade`], and is to be left out of tape and volume.
    OrderExecutedAtPrice { order: u64, shares: u32, match_number: u64, is_printable: bool, price: Price4 },
    /// `X`. The order shrinks by `shares`.
    OrderReduced { order: u64, shares: u32 },
    /// `D`
    OrderDeleted { order: u64 },
    /// `U`. Side and stock stay; the place in the queue is lost.
    OrderReplaced { order: u64, new_order: u64, shares: u32, price: Price4 },
    /// `P`. Against an order that was not shown. `side` has been `B` whatever it was since 2014, and says nothing.
    HiddenTrade { order: u64, side: u8, shares: u32, stock: Stock<'a>, price: Price4, match_number: u64 },
    /// `Q`. The one print of an auction; of no shares where nothing crossed. Kind `O` opening, `C` closing, `H` after
    /// a halt or an IPO.
    CrossTrade { shares: u64, stock: Stock<'a>, price: Price4, match_number: u64, kind: u8 },
    /// `B`
    TradeBroken { match_number: u64 },
    /// `I`
    Imbalance(Imbalance<'a>),
    /// `N`. Interest `B` to buy, `S` to sell, `A` both, `N` none.
    RetailInterest { stock: Stock<'a>, interest: u8 },
    /// `O`. A direct listing with a capital raise.
    DirectListing(DirectListing<'a>),
}

/// A stock, as it is at the begin of the day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Directory<'a> {
    pub stock: Stock<'a>,
    pub market_category: u8,
    pub financial_status: u8,
    /// Shares.
    pub round_lot: u32,
    pub is_round_lots_only: bool,
    pub classification: u8,
    pub subtype: Alpha<'a, 2>,
    /// `P` live, `T` test.
    pub authenticity: u8,
    pub short_sale_threshold: u8,
    pub ipo: u8,
    pub luld_tier: u8,
    pub etp: u8,
    pub etp_leverage: u32,
    pub is_inverse: bool,
}

/// A new order of the book.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrderAdded<'a> {
    pub order: u64,
    pub side: Side,
    pub shares: u32,
    pub stock: Stock<'a>,
    pub price: Price4,
    pub mpid: Option<Alpha<'a, 4>>,
}

/// What an auction would do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Imbalance<'a> {
    /// Shares.
    pub paired: u64,
    /// Shares.
    pub imbalance: u64,
    /// `B`, `S`, `N` none, `O` too few orders, `P` paused.
    pub direction: u8,
    pub stock: Stock<'a>,
    pub far: Price4,
    pub near: Price4,
    pub reference: Price4,
    pub kind: u8,
    /// How far near is from reference, as a class.
    pub variation: u8,
}

/// Prices of a direct listing with a capital raise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectListing<'a> {
    pub stock: Stock<'a>,
    /// `Y` where it may open.
    pub eligibility: u8,
    pub lowest: Price4,
    pub highest: Price4,
    pub near: Price4,
    /// Of `near`, ns since midnight.
    pub near_since_midnight_ns: u64,
    pub lower_collar: Price4,
    pub upper_collar: Price4,
}

/// Why a message has no fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    #[error("an empty message")]
    Empty,
    #[error("no message is of type {kind:#04x}")]
    UnknownType { kind: u8 },
    #[error("a message of type {kind:#04x} has {expected} bytes, and this one {length}")]
    Length { kind: u8, length: usize, expected: usize },
    #[error("an order's side is no {code:#04x}")]
    Side { code: u8 },
}

impl MessageError {
    /// Under what the message is counted; `None` for a type that is not known, which is no fault.
    pub const fn reason(self) -> Option<Reason> {
        match self {
            MessageError::UnknownType { .. } => None,
            MessageError::Empty | MessageError::Length { .. } => Some(Reason::Length),
            MessageError::Side { .. } => Some(Reason::Side),
        }
    }
}

/// Decodes one message. `midnight_ns` is the begin of its day in New York, Unix ns
/// ([`us_eastern`](super::eastern::us_eastern)); messages tell the time since then.
///
/// # Errors
/// [`MessageError`]; the next message is not concerned.
#[inline]
pub fn decode_message(message: &[u8], midnight_ns: i64) -> Result<Message<'_>, MessageError> {
    let &[kind, ..] = message else { return Err(MessageError::Empty) };
    match kind {
        b'A' => order_added(exact::<36>(message)?, midnight_ns, None),
        b'D' => {
            let m = exact::<19>(message)?;
            Ok(told(m, midnight_ns, Body::OrderDeleted { order: u64_at::<11, _>(m) }))
        }
        b'U' => {
            let m = exact::<35>(message)?;
            let (order, new_order) = (u64_at::<11, _>(m), u64_at::<19, _>(m));
            let (shares, price) = (u32_at::<27, _>(m), Price4(u32_at::<31, _>(m)));
            Ok(told(m, midnight_ns, Body::OrderReplaced { order, new_order, shares, price }))
        }
        b'E' => {
            let m = exact::<31>(message)?;
            let (order, shares, match_number) = (u64_at::<11, _>(m), u32_at::<19, _>(m), u64_at::<23, _>(m));
            Ok(told(m, midnight_ns, Body::OrderExecuted { order, shares, match_number }))
        }
        b'X' => {
            let m = exact::<23>(message)?;
            let (order, shares) = (u64_at::<11, _>(m), u32_at::<19, _>(m));
            Ok(told(m, midnight_ns, Body::OrderReduced { order, shares }))
        }
        b'F' => {
            let m = exact::<40>(message)?;
            order_added(chunk::<0, 36, _>(m), midnight_ns, Some(Alpha(chunk::<36, 4, _>(m))))
        }
        b'C' => {
            let m = exact::<36>(message)?;
            let (order, shares, match_number) = (u64_at::<11, _>(m), u32_at::<19, _>(m), u64_at::<23, _>(m));
            let (is_printable, price) = (m[31] == b'Y', Price4(u32_at::<32, _>(m)));
            let body = Body::OrderExecutedAtPrice { order, shares, match_number, is_printable, price };
            Ok(told(m, midnight_ns, body))
        }
        b'P' => {
            let m = exact::<44>(message)?;
            let (order, side, shares) = (u64_at::<11, _>(m), m[19], u32_at::<20, _>(m));
            let (stock, price, match_number) = (stock::<24, _>(m), Price4(u32_at::<32, _>(m)), u64_at::<36, _>(m));
            Ok(told(m, midnight_ns, Body::HiddenTrade { order, side, shares, stock, price, match_number }))
        }
        _ => rare_message(kind, message, midnight_ns),
    }
}

/// The types that are sent some thousands of times a day rather than some hundred million times.
fn rare_message(kind: u8, message: &[u8], midnight_ns: i64) -> Result<Message<'_>, MessageError> {
    Ok(match kind {
        b'I' => {
            let m = exact::<50>(message)?;
            let imbalance = Imbalance {
                paired: u64_at::<11, _>(m),
                imbalance: u64_at::<19, _>(m),
                direction: m[27],
                stock: stock::<28, _>(m),
                far: Price4(u32_at::<36, _>(m)),
                near: Price4(u32_at::<40, _>(m)),
                reference: Price4(u32_at::<44, _>(m)),
                kind: m[48],
                variation: m[49],
            };
            told(m, midnight_ns, Body::Imbalance(imbalance))
        }
        b'Q' => {
            let m = exact::<40>(message)?;
            let (shares, stock, price) = (u64_at::<11, _>(m), stock::<19, _>(m), Price4(u32_at::<27, _>(m)));
            let (match_number, kind) = (u64_at::<31, _>(m), m[39]);
            told(m, midnight_ns, Body::CrossTrade { shares, stock, price, match_number, kind })
        }
        b'B' => {
            let m = exact::<19>(message)?;
            told(m, midnight_ns, Body::TradeBroken { match_number: u64_at::<11, _>(m) })
        }
        b'S' => {
            let m = exact::<12>(message)?;
            told(m, midnight_ns, Body::SystemEvent { event: m[11] })
        }
        b'R' => {
            let m = exact::<39>(message)?;
            let directory = Directory {
                stock: stock::<11, _>(m),
                market_category: m[19],
                financial_status: m[20],
                round_lot: u32_at::<21, _>(m),
                is_round_lots_only: m[25] == b'Y',
                classification: m[26],
                subtype: Alpha(chunk::<27, 2, _>(m)),
                authenticity: m[29],
                short_sale_threshold: m[30],
                ipo: m[31],
                luld_tier: m[32],
                etp: m[33],
                etp_leverage: u32_at::<34, _>(m),
                is_inverse: m[38] == b'Y',
            };
            told(m, midnight_ns, Body::Directory(directory))
        }
        b'H' => {
            let m = exact::<25>(message)?;
            let body =
                Body::TradingAction { stock: stock::<11, _>(m), state: m[19], reason: Alpha(chunk::<21, 4, _>(m)) };
            told(m, midnight_ns, body)
        }
        b'Y' => {
            let m = exact::<20>(message)?;
            told(m, midnight_ns, Body::ShortSaleRestriction { stock: stock::<11, _>(m), action: m[19] })
        }
        b'L' => {
            let m = exact::<26>(message)?;
            let (mpid, stock) = (Alpha(chunk::<11, 4, _>(m)), stock::<15, _>(m));
            let body = Body::MarketMaker { mpid, stock, is_primary: m[23] == b'Y', mode: m[24], state: m[25] };
            told(m, midnight_ns, body)
        }
        b'V' => {
            let m = exact::<35>(message)?;
            let levels = [u64_at::<11, _>(m), u64_at::<19, _>(m), u64_at::<27, _>(m)].map(Price8);
            told(m, midnight_ns, Body::BreakerLevels { levels })
        }
        b'W' => {
            let m = exact::<12>(message)?;
            told(m, midnight_ns, Body::BreakerReached { level: m[11] })
        }
        b'K' => {
            let m = exact::<28>(message)?;
            let (stock, price) = (stock::<11, _>(m), Price4(u32_at::<24, _>(m)));
            let body = Body::IpoQuoting { stock, release_s: u32_at::<19, _>(m), qualifier: m[23], price };
            told(m, midnight_ns, body)
        }
        b'J' => {
            let m = exact::<35>(message)?;
            let [reference, upper, lower] = [u32_at::<19, _>(m), u32_at::<23, _>(m), u32_at::<27, _>(m)].map(Price4);
            let (stock, extension) = (stock::<11, _>(m), u32_at::<31, _>(m));
            told(m, midnight_ns, Body::AuctionCollar { stock, reference, upper, lower, extension })
        }
        b'h' => {
            let m = exact::<21>(message)?;
            told(m, midnight_ns, Body::OperationalHalt { stock: stock::<11, _>(m), market: m[19], action: m[20] })
        }
        b'N' => {
            let m = exact::<20>(message)?;
            told(m, midnight_ns, Body::RetailInterest { stock: stock::<11, _>(m), interest: m[19] })
        }
        b'O' => {
            let m = exact::<48>(message)?;
            let listing = DirectListing {
                stock: stock::<11, _>(m),
                eligibility: m[19],
                lowest: Price4(u32_at::<20, _>(m)),
                highest: Price4(u32_at::<24, _>(m)),
                near: Price4(u32_at::<28, _>(m)),
                near_since_midnight_ns: u64_at::<32, _>(m),
                lower_collar: Price4(u32_at::<40, _>(m)),
                upper_collar: Price4(u32_at::<44, _>(m)),
            };
            told(m, midnight_ns, Body::DirectListing(listing))
        }
        kind => return Err(MessageError::UnknownType { kind }),
    })
}

#[inline(always)]
fn exact<const LENGTH: usize>(message: &[u8]) -> Result<&[u8; LENGTH], MessageError> {
    message.try_into().map_err(|_| MessageError::Length {
        kind: message.first().copied().unwrap_or_default(),
        length: message.len(),
        expected: LENGTH,
    })
}

/// The message with its header, which all types share.
#[inline(always)]
fn told<'a, const LENGTH: usize>(m: &[u8; LENGTH], midnight_ns: i64, body: Body<'a>) -> Message<'a> {
    // The 48 bits of the time, below those of the tracking number.
    let since_midnight = u64_at::<3, _>(m) & 0x0000_ffff_ffff_ffff;
    Message {
        locate: u16_at::<1, _>(m),
        tracking: u16_at::<3, _>(m),
        // 48 bits of ns are 78 hours: no overflow within the years that Unix ns reach, and no panic beyond.
        time: midnight_ns.saturating_add(since_midnight as i64),
        body,
    }
}

#[inline(always)]
fn order_added<'a>(m: &'a [u8; 36], midnight_ns: i64, mpid: Option<Alpha<'a, 4>>) -> Result<Message<'a>, MessageError> {
    let side = match m[19] {
        b'B' => Side::Buy,
        b'S' => Side::Sell,
        code => return Err(MessageError::Side { code }),
    };
    let (order, shares) = (u64_at::<11, _>(m), u32_at::<20, _>(m));
    let added = OrderAdded { order, side, shares, stock: stock::<24, _>(m), price: Price4(u32_at::<32, _>(m)), mpid };
    Ok(told(m, midnight_ns, Body::OrderAdded(added)))
}

#[inline(always)]
fn stock<const AT: usize, const LENGTH: usize>(m: &[u8; LENGTH]) -> Stock<'_> {
    Alpha(chunk::<AT, 8, LENGTH>(m))
}

/// What a message says by itself. `None` for those of orders, whose meaning is in the book.
///
/// A cross is a trade unless nothing crossed; a hidden trade tells no taker. A broken trade is ignored: what was
/// published stays published.
pub fn event<'a>(message: &Message<'a>) -> Option<Event<'a>> {
    let symbol = Symbol::Token(u32::from(message.locate));
    let ignored = |kind: &'static [u8; 1]| Some(Event::Ignored { kind });
    let trade = |shares: u64, price: Price4, match_number: u64| {
        let Some(size) = i64::try_from(shares).ok().and_then(|shares| Decimal::new(shares, 0)) else {
            return Some(Event::Invalid { symbol: Some(symbol), part: Part::Trade, reason: Reason::NumberRange });
        };
        Some(Event::Trade(Trade {
            symbol,
            id: Some(match_number).filter(|id| i64::try_from(*id).is_ok()),
            price: price.decimal(),
            size,
            taker: None,
            time: message.time,
            age: Age::Live,
        }))
    };
    match message.body {
        Body::Directory(directory) => {
            Some(Event::Directory { token: u32::from(message.locate), symbol: directory.stock.text() })
        }
        Body::HiddenTrade { shares, price, match_number, .. } => trade(u64::from(shares), price, match_number),
        Body::CrossTrade { shares: 0, .. } => ignored(b"Q"),
        Body::CrossTrade { shares, price, match_number, .. } => trade(shares, price, match_number),
        Body::OrderAdded(_)
        | Body::OrderExecuted { .. }
        | Body::OrderExecutedAtPrice { .. }
        | Body::OrderReduced { .. }
        | Body::OrderDeleted { .. }
        | Body::OrderReplaced { .. } => None,
        Body::SystemEvent { .. } => ignored(b"S"),
        Body::TradingAction { .. } => ignored(b"H"),
        Body::ShortSaleRestriction { .. } => ignored(b"Y"),
        Body::MarketMaker { .. } => ignored(b"L"),
        Body::BreakerLevels { .. } => ignored(b"V"),
        Body::BreakerReached { .. } => ignored(b"W"),
        Body::IpoQuoting { .. } => ignored(b"K"),
        Body::AuctionCollar { .. } => ignored(b"J"),
        Body::OperationalHalt { .. } => ignored(b"h"),
        Body::TradeBroken { .. } => ignored(b"B"),
        Body::Imbalance(_) => ignored(b"I"),
        Body::RetailInterest { .. } => ignored(b"N"),
        Body::DirectListing(_) => ignored(b"O"),
    }
}

#[cfg(test)]
mod tests;
