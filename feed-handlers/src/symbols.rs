//! Symbols: from the name that a venue gives an instrument to the one name that all of us use.
//!
//! Pure, for the feed's thread, which asks once for each name that it meets. A [`SymbolForm`] is how a venue writes; what comes
//! out is `BASE/QUOTE` for pairs and the ticker for equities, in a buffer of the caller's. Nothing is allocated, and nothing
//! is guessed where a wrong guess would be another instrument: what cannot be read for certain is refused.
//!
//! **Two names become one symbol only where they are one instrument:**
//! - upper and lower case, spaces around, and the separator of a pair: `btcusdt`, `BTC-USDT`, `BTC/USDT`, `BINANCE:BTCUSDT`;
//! - other names of a currency: `XBT` is `BTC`, `XDG` is `DOGE`; Kraken's old `XXBT` and `ZUSD`; and Bitfinex's own, such as
//!   `UST` for Tether, which elsewhere is another currency and stays so;
//! - the three ways of writing the same share of a company: Nasdaq's `BAC-Q`, the tape's `BACpQ` and `BAC.PRQ` are the
//!   preferred share `BAC-Q`; Nasdaq's `ALUS=` and the tape's `ALUS.U` the unit `ALUS.U`. The table is Nasdaq's own
//!   (nasdaqtrader.com, Ticker Symbol Convention).
//!
//! **And not** where they are traded apart: `USD`, `USDT` and `USDC` are three currencies. A venue that reports its `-USDC`
//! product as `-USD` is taken by what the frame says. `BRK-B` is a preferred share of a `BRK` and not the class `BRK.B`, and a
//! dark pool such as `XBTUSD.d` is not the lit pair: it is refused.
//!
//! Joined names are split by the quote currencies of their venue, the longest first. One list for all venues would be wrong:
//! Gemini's `BATUSD` is `BAT/USD`, since it has no `TUSD`, and `PAXGUSD` is `PAXG/USD` although it has `GUSD`.
//!
//! Deliberately absent: tick sizes and asset classes ([`protocol::AssetClass`] goes by the symbol), options, indices, and any
//! look at a venue's list of products, which would have to be fetched first.

mod equity;
mod pair;
#[cfg(all(test, not(loom)))]
mod tests;

use protocol::SYMBOL_BYTES_MAX;

/// How a venue writes the names of its instruments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SymbolForm {
    /// Shares of the United States, in any of the three conventions: `AAPL`, `BRK.B`, `BAC-Q`, `BACpQ`, `ALUS=`.
    Equity,
    /// The exchanges of India: `INFY`, `BAJAJ-AUTO`, `M&M` (as `M_M`), `NIFTY 50` (as `NIFTY.50`).
    India,
    /// `BTC/USD`.
    Slash,
    /// `BTC-USD`. What follows the first dash is the quote: `BTC-PERP-INTX` is `BTC/PERP-INTX`.
    Dash,
    /// `EUR_USD`.
    Underscore,
    /// `BTCUSDT`, with the quote currencies of this market.
    Joined(Market),
    /// `tBTCUSD`, `tDOGE:USD`.
    Bitfinex,
    /// `EXCHANGE:NAME` with the form of that exchange, or a share without a prefix: `BINANCE:BTCUSDT`, `OANDA:EUR_USD`, `AAPL`.
    Prefixed,
    /// Whatever a name says by itself, for lines that carry names of several origins. A slash or an underscore tells a pair,
    /// and so does a dash before a well-known currency. A joined name is a pair only where both parts are well-known
    /// currencies, or where it ends with a stablecoin, as no share does. Everything else is a share.
    Any,
}

/// Whose quote currencies a joined name may end with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Market {
    Binance,
    Gemini,
    /// With the old four-letter names too: `XXBTZUSD`.
    Kraken,
    /// Any base, in a currency of a state: `EURUSD`, `XAUUSD`, `DOGEUSD`.
    Fiat,
}

/// Why a name is no symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("an empty name")]
    Empty,
    #[error("a symbol of more than {SYMBOL_BYTES_MAX} bytes")]
    TooLong,
    #[error("a byte that no name of this form holds: {byte:#04x}")]
    Byte { byte: u8 },
    #[error("not a pair")]
    NotAPair,
    #[error("none of the market's quote currencies is at its end")]
    UnknownQuote,
    #[error("a prefix of no known exchange")]
    UnknownExchange,
}

/// Where a symbol is written to. Bytes beyond the symbol are of no meaning.
pub type SymbolBuffer = [u8; SYMBOL_BYTES_MAX];

impl SymbolForm {
    /// The symbol of the instrument that a venue of this form calls `name`; it passes [`protocol::check_symbol`].
    ///
    /// # Errors
    /// [`NameError`] where the name is not of the form, or could mean several instruments.
    pub fn canonical<'b>(self, name: &[u8], buffer: &'b mut SymbolBuffer) -> Result<&'b str, NameError> {
        let mut out = SymbolWriter { buffer, len: 0 };
        self.write(name, &mut out)?;
        let SymbolWriter { buffer, len } = out;
        // Only ASCII is ever pushed.
        std::str::from_utf8(&buffer[..len]).map_err(|error| NameError::Byte { byte: buffer[error.valid_up_to()] })
    }

    fn write(self, name: &[u8], out: &mut SymbolWriter<'_>) -> Result<(), NameError> {
        let name = name.trim_ascii();
        if name.is_empty() {
            return Err(NameError::Empty);
        }
        match self {
            SymbolForm::Equity => equity::write_us(name, out),
            SymbolForm::India => equity::write_india(name, out),
            SymbolForm::Slash => pair::write_separated(name, b'/', out),
            SymbolForm::Dash => pair::write_separated(name, b'-', out),
            SymbolForm::Underscore => pair::write_separated(name, b'_', out),
            SymbolForm::Joined(market) => pair::write_joined(name, market, out),
            SymbolForm::Bitfinex => pair::write_bitfinex(name, out),
            SymbolForm::Prefixed => match split_once(name, b':') {
                None => SymbolForm::Equity.write(name, out),
                Some((exchange, name)) => of_exchange(exchange, name)?.write(name, out),
            },
            SymbolForm::Any => SymbolForm::of_name(name).write(name, out),
        }
    }

    /// The form that a name is most certainly in.
    fn of_name(name: &[u8]) -> SymbolForm {
        let has = |byte| name.contains(&byte);
        match name {
            _ if has(b':') => SymbolForm::Prefixed,
            _ if has(b'/') => SymbolForm::Slash,
            _ if has(b'_') => SymbolForm::Underscore,
            _ if has(b'-') => match split_once(name, b'-') {
                Some((base, quote)) if pair::is_well_known(base, quote) => SymbolForm::Dash,
                _ => SymbolForm::Equity,
            },
            _ if pair::is_well_known_joined(name, Market::Fiat) => SymbolForm::Joined(Market::Fiat),
            _ if pair::is_well_known_joined(name, Market::Binance) => SymbolForm::Joined(Market::Binance),
            _ => SymbolForm::Equity,
        }
    }
}

/// The form of a name behind the prefix of an exchange, which is never [`SymbolForm::Prefixed`] again.
fn of_exchange(exchange: &[u8], name: &[u8]) -> Result<SymbolForm, NameError> {
    let is = |names: &[&str]| names.iter().any(|known| exchange.eq_ignore_ascii_case(known.as_bytes()));
    let joined = if is(&["BINANCE", "BINANCEUS"]) {
        SymbolForm::Joined(Market::Binance)
    } else if is(&["KRAKEN"]) {
        SymbolForm::Joined(Market::Kraken)
    } else if is(&["GEMINI"]) {
        SymbolForm::Joined(Market::Gemini)
    } else if is(&["BITFINEX"]) {
        SymbolForm::Bitfinex
    } else if is(&["COINBASE", "OANDA", "FXCM", "FOREX", "FHFX", "KUCOIN", "OKEX", "OKX", "X", "C"]) {
        // The last two are Polygon's, for crypto and currencies. The others write a separator.
        SymbolForm::Joined(Market::Fiat)
    } else if is(&["NASDAQ", "NYSE", "AMEX", "ARCA", "BATS", "IEX"]) {
        return Ok(SymbolForm::Equity);
    } else if is(&["NSE", "BSE", "NFO", "MCX"]) {
        return Ok(SymbolForm::India);
    } else {
        return Err(NameError::UnknownExchange);
    };
    let separators = [(b'/', SymbolForm::Slash), (b'-', SymbolForm::Dash), (b'_', SymbolForm::Underscore)];
    Ok(separators.into_iter().find(|(separator, _)| name.contains(separator)).map_or(joined, |(_, form)| form))
}

fn split_once(name: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = name.iter().position(|byte| *byte == separator)?;
    Some((&name[..at], &name[at + 1..]))
}

/// A symbol being written.
struct SymbolWriter<'b> {
    buffer: &'b mut SymbolBuffer,
    len: usize,
}

impl SymbolWriter<'_> {
    /// Appends a byte as it is. Callers push letters, digits and `.-_/` only.
    fn push(&mut self, byte: u8) -> Result<(), NameError> {
        let place = self.buffer.get_mut(self.len).ok_or(NameError::TooLong)?;
        *place = byte;
        self.len += 1;
        Ok(())
    }

    fn push_all(&mut self, bytes: &[u8]) -> Result<(), NameError> {
        bytes.iter().try_for_each(|byte| self.push(*byte))
    }
}
