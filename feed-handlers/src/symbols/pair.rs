//! Names of pairs: two currencies, with or without something between them.

use super::{Market, NameError, SymbolWriter, split_once};

/// Other names of a currency, wherever they stand.
const ALIASES: [(&str, &str); 2] = [("XBT", "BTC"), ("XDG", "DOGE")];

/// Bitfinex's own names of currencies.
const BITFINEX_ALIASES: [(&str, &str); 6] =
    [("UST", "USDT"), ("UDC", "USDC"), ("TSD", "TUSD"), ("DSH", "DASH"), ("IOT", "IOTA"), ("QTM", "QTUM")];

/// Currencies of states, by ISO 4217, in which others are quoted.
const FIAT: [&str; 31] = [
    "AED", "ARS", "AUD", "BRL", "CAD", "CHF", "CNH", "CNY", "CZK", "DKK", "EUR", "GBP", "HKD", "HUF", "IDR", "ILS",
    "INR", "JPY", "KRW", "MXN", "NOK", "NZD", "PLN", "RON", "SAR", "SEK", "SGD", "THB", "TRY", "USD", "ZAR",
];

/// Currencies, beside those of states, that a name without a venue may be of: no share's name is one of these and a quote.
const WELL_KNOWN: [&str; 35] = [
    "AAVE", "ADA", "ALGO", "APT", "ARB", "ATOM", "AVAX", "BCH", "BNB", "BTC", "DAI", "DOGE", "DOT", "ETC", "ETH",
    "FIL", "LINK", "LTC", "NEAR", "PEPE", "SHIB", "SOL", "SUI", "TON", "TRX", "UNI", "USDC", "USDT", "XAG", "XAU",
    "XBT", "XDG", "XLM", "XMR", "XRP",
];

/// Stablecoins that end no share's name, longest first.
const STABLECOINS: [&str; 4] = ["FDUSD", "BUSD", "USDC", "USDT"];

/// A currency that joined names end with.
struct JoinedQuote {
    code: &'static str,
    /// The only bases that it is quoted for; empty for any. For codes that end in another one's, and are rarer.
    bases: &'static [&'static str],
}

const fn any(code: &'static str) -> JoinedQuote {
    JoinedQuote { code, bases: &[] }
}

/// What Binance.US, which speaks as Binance does, quotes in `USD`: its own products of 2021, and others whose last letter
/// makes `USD` look like a stablecoin.
const BINANCE_US: [&str; 70] = [
    "AAVE", "ADA", "ALGO", "AMP", "ANKR", "ANT", "APT", "ATOM", "AVAX", "BAND", "BAT", "BCH", "BNB", "BTC", "BUSD",
    "COMP", "CRV", "DAI", "DASH", "DGB", "DOGE", "EGLD", "ENJ", "EOS", "ETC", "ETH", "FET", "FIL", "FLUX", "GRT",
    "HBAR", "HNT", "ICX", "IMX", "IOTA", "KNC", "LINK", "LPT", "LTC", "MANA", "MATIC", "MKR", "NANO", "NEO", "OMG",
    "ONE", "ONT", "OXT", "PAXG", "QTUM", "REP", "RVN", "SHIB", "SNX", "SOL", "STORJ", "SUSHI", "UNI", "USDC", "USDT",
    "VET", "VTHO", "WAVES", "XLM", "XRP", "XTZ", "ZEC", "ZEN", "ZIL", "ZRX",
];

/// The quote currencies of Binance's spot market, longest first. It has no market in `USD`, so that `TUSD` and `BUSD` are
/// never the end of a base and `USD`, but for the products of Binance.US, all of which are known.
const BINANCE: [JoinedQuote; 49] = [
    JoinedQuote { code: "USD", bases: &BINANCE_US },
    any("RLUSD"),
    any("BFUSD"),
    any("FDUSD"),
    JoinedQuote { code: "AEUR", bases: &["EUR", "USDT"] },
    any("BIDR"),
    any("BKRW"),
    any("BUSD"),
    any("BVND"),
    any("DOGE"),
    any("EURI"),
    any("GYEN"),
    any("IDRT"),
    any("TUSD"),
    any("USD1"),
    any("USDC"),
    any("USDP"),
    any("USDS"),
    any("USDT"),
    any("XUSD"),
    any("ARS"),
    any("AUD"),
    any("BNB"),
    any("BRL"),
    any("BTC"),
    any("COP"),
    any("CZK"),
    any("DAI"),
    any("DOT"),
    any("ETH"),
    any("EUR"),
    any("GBP"),
    any("IDR"),
    any("JPY"),
    any("MXN"),
    any("NGN"),
    any("PAX"),
    any("PLN"),
    any("RON"),
    any("RUB"),
    any("SOL"),
    any("TRX"),
    any("TRY"),
    any("UAH"),
    any("UST"),
    any("VAI"),
    any("XRP"),
    any("ZAR"),
    any("KZT"),
];

/// Gemini's. What ends in `GUSD` is quoted in that, but for gold and a stablecoin whose names end in a `G`.
const GEMINI: [JoinedQuote; 16] = [
    JoinedQuote { code: "USD", bases: &["PAXG", "USDG"] },
    any("RLUSD"),
    any("GUSD"),
    any("USDC"),
    any("USDT"),
    any("BCH"),
    any("BTC"),
    any("DAI"),
    any("ETH"),
    any("EUR"),
    any("FIL"),
    any("GBP"),
    any("LTC"),
    any("SGD"),
    any("SOL"),
    any("USD"),
];

/// Kraken's.
const KRAKEN: [JoinedQuote; 15] = [
    any("USDC"),
    any("USDT"),
    any("AED"),
    any("AUD"),
    any("BTC"),
    any("CAD"),
    any("CHF"),
    any("DAI"),
    any("DOT"),
    any("ETH"),
    any("EUR"),
    any("GBP"),
    any("JPY"),
    any("USD"),
    any("XBT"),
];

/// Currencies that Kraken still writes with an `X` or a `Z` before them in the names of old pairs.
const KRAKEN_OLD: [&str; 17] = [
    "XETC", "XETH", "XLTC", "XMLN", "XREP", "XXBT", "XXDG", "XXLM", "XXMR", "XXRP", "XZEC", "ZAUD", "ZCAD", "ZEUR",
    "ZGBP", "ZJPY", "ZUSD",
];

fn is_one_of(code: &[u8], codes: &[&str]) -> bool {
    codes.iter().any(|known| code.eq_ignore_ascii_case(known.as_bytes()))
}

fn alias<'a>(code: &'a [u8], aliases: &'static [(&str, &'static str)]) -> &'a [u8] {
    let known = aliases.iter().find(|(alias, _)| code.eq_ignore_ascii_case(alias.as_bytes()));
    known.map_or(code, |(_, name)| name.as_bytes())
}

/// Writes the pair of two currencies.
fn write(base: &[u8], quote: &[u8], out: &mut SymbolWriter<'_>) -> Result<(), NameError> {
    if base.is_empty() || quote.is_empty() {
        return Err(NameError::NotAPair);
    }
    write_code(base, out)?;
    out.push(b'/')?;
    write_code(quote, out)
}

fn write_code(code: &[u8], out: &mut SymbolWriter<'_>) -> Result<(), NameError> {
    for byte in alias(code, &ALIASES) {
        if !byte.is_ascii_alphanumeric() && !matches!(byte, b'.' | b'-') {
            return Err(NameError::Byte { byte: *byte });
        }
        out.push(byte.to_ascii_uppercase())?;
    }
    Ok(())
}

/// Writes a pair that is separated by its first `separator`.
pub(super) fn write_separated(name: &[u8], separator: u8, out: &mut SymbolWriter<'_>) -> Result<(), NameError> {
    let (base, quote) = split_once(name, separator).ok_or(NameError::NotAPair)?;
    write(base, quote, out)
}

/// Writes a pair that is not separated.
pub(super) fn write_joined(name: &[u8], market: Market, out: &mut SymbolWriter<'_>) -> Result<(), NameError> {
    // Kraken marks what is staked with a dot: `ETH2.SETH`.
    let may_be = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' && market == Market::Kraken;
    if let Some(byte) = name.iter().find(|byte| !may_be(**byte)) {
        return Err(NameError::Byte { byte: *byte });
    }
    let (base, quote) = split_joined(name, market).ok_or(NameError::UnknownQuote)?;
    write(base, quote, out)
}

fn split_joined(name: &[u8], market: Market) -> Option<(&[u8], &[u8])> {
    let quotes: &[JoinedQuote] = match market {
        Market::Binance => &BINANCE,
        Market::Gemini => &GEMINI,
        Market::Kraken => {
            if let Some((base, quote)) = split_old_kraken(name) {
                return Some((base, quote));
            }
            &KRAKEN
        }
        Market::Fiat => {
            let (base, quote) = name.split_at_checked(name.len().checked_sub(3)?)?;
            return (!base.is_empty() && is_one_of(quote, &FIAT)).then_some((base, quote));
        }
    };
    quotes.iter().find_map(|JoinedQuote { code, bases }| {
        let (base, quote) = name.split_at_checked(name.len().checked_sub(code.len())?)?;
        let fits = quote.eq_ignore_ascii_case(code.as_bytes()) && (bases.is_empty() || is_one_of(base, bases));
        (fits && !base.is_empty()).then_some((base, quote))
    })
}

/// `XXBTZUSD`, `USDTZUSD`.
fn split_old_kraken(name: &[u8]) -> Option<(&[u8], &[u8])> {
    let (base, quote) = name.split_at_checked(4).filter(|(_, quote)| is_one_of(quote, &KRAKEN_OLD))?;
    match base {
        _ if is_one_of(base, &KRAKEN_OLD) => Some((&base[1..], &quote[1..])),
        _ if is_one_of(base, &["USDT"]) => Some((base, &quote[1..])),
        _ => None,
    }
}

/// Writes a pair as Bitfinex names it: three letters each, or a colon between them, behind a `t`. What begins with an
/// `f` is for lending, and no pair.
pub(super) fn write_bitfinex(name: &[u8], out: &mut SymbolWriter<'_>) -> Result<(), NameError> {
    // Pairs are written with capitals, so a small `t` is the mark; others leave it out.
    let name = match name {
        [b't', rest @ ..] if rest.iter().all(|byte| !byte.is_ascii_lowercase()) => rest,
        _ => name,
    };
    let (base, quote) = match split_once(name, b':') {
        Some(parts) => parts,
        None if name.len() == 6 => name.split_at(3),
        None => return Err(NameError::NotAPair),
    };
    write(alias(base, &BITFINEX_ALIASES), alias(quote, &BITFINEX_ALIASES), out)
}

/// Whether two parts with a dash between them are most certainly currencies.
pub(super) fn is_well_known(base: &[u8], quote: &[u8]) -> bool {
    // The class or the series of a share has one or two letters, or is a word.
    let is_known = |code| is_one_of(code, &FIAT) || is_one_of(code, &WELL_KNOWN) || is_one_of(code, &STABLECOINS);
    is_known(quote) && !base.is_empty()
}

/// Whether a name without a separator, split as this market's, is most certainly of two currencies.
pub(super) fn is_well_known_joined(name: &[u8], market: Market) -> bool {
    let Some((base, quote)) = split_joined(name, market) else { return false };
    let is_known = |code| is_one_of(code, &FIAT) || is_one_of(code, &WELL_KNOWN);
    is_one_of(quote, &STABLECOINS) || is_known(base) && is_known(quote)
}
