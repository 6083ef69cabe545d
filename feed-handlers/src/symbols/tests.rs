//! Names as venues write them, and all names of the catalogues among the captures.

use std::collections::HashMap;

use proptest::prelude::*;
use serde_json::Value;

use super::*;

const ALL: [SymbolForm; 12] = [
    SymbolForm::Equity,
    SymbolForm::India,
    SymbolForm::Slash,
    SymbolForm::Dash,
    SymbolForm::Underscore,
    SymbolForm::Joined(Market::Binance),
    SymbolForm::Joined(Market::Gemini),
    SymbolForm::Joined(Market::Kraken),
    SymbolForm::Joined(Market::Fiat),
    SymbolForm::Bitfinex,
    SymbolForm::Prefixed,
    SymbolForm::Any,
];

fn canonical(form: SymbolForm, name: &str) -> Result<String, NameError> {
    let mut buffer = [0; SYMBOL_BYTES_MAX];
    form.canonical(name.as_bytes(), &mut buffer).map(str::to_owned)
}

#[track_caller]
fn check(form: SymbolForm, names: &[(&str, &str)]) {
    for (name, symbol) in names {
        assert_eq!(canonical(form, name).as_deref(), Ok(*symbol), "{form:?} {name}");
        // A canonical pair is its own name; so is a canonical share, where it is one.
        let own = if symbol.contains('/') { SymbolForm::Slash } else { SymbolForm::Equity };
        if form != SymbolForm::India {
            assert_eq!(canonical(own, symbol).as_deref(), Ok(*symbol), "{own:?} {symbol}");
        }
    }
}

#[track_caller]
fn check_refused(form: SymbolForm, names: &[(&str, NameError)]) {
    for (name, error) in names {
        assert_eq!(canonical(form, name), Err(*error), "{form:?} {name}");
    }
}

const fn byte(byte: u8) -> NameError {
    NameError::Byte { byte }
}

#[test]
fn shares_have_one_name_in_all_conventions() {
    check(
        SymbolForm::Equity,
        &[
            ("AAPL", "AAPL"),
            (" aapl\t", "AAPL"),
            ("BRK.B", "BRK.B"),
            ("brk.b", "BRK.B"),
            ("BRK-B", "BRK-B"),
            ("BAC-Q", "BAC-Q"),
            ("BACpQ", "BAC-Q"),
            ("BAC.PRQ", "BAC-Q"),
            ("ARNC-", "ARNC-"),
            ("ARNCp", "ARNC-"),
            ("ARNC.PR", "ARNC-"),
            ("ALL-A*", "ALL-A.CL"),
            ("ALLpA.CL", "ALL-A.CL"),
            ("ALL.PRA.CL", "ALL-A.CL"),
            ("AIG+", "AIG.WS"),
            ("AIG.WS", "AIG.WS"),
            ("ABC+A", "ABC.WS.A"),
            ("GFOR=", "GFOR.U"),
            ("GFOR.U", "GFOR.U"),
            ("BMY^", "BMY.RT"),
            ("BMYr", "BMY.RT"),
            ("BMY^#", "BMY.RT.WI"),
            ("BMYrw", "BMY.RT.WI"),
            ("XYZ.A#", "XYZ.A.WI"),
            ("XYZw", "XYZ.WI"),
            ("XYZ.A%", "XYZ.A.CV"),
            ("ATEST.A", "ATEST.A"),
            ("PRPR.PRE", "PRPR-E"),
            ("FOO.PROX", "FOO.PROX"),
            ("7203.T", "7203.T"),
        ],
    );
    check_refused(
        SymbolForm::Equity,
        &[
            ("", NameError::Empty),
            (" \t", NameError::Empty),
            ("BTC/USD", byte(b'/')),
            ("O:SPY241220P00720000", byte(b':')),
            ("AAPLx", byte(b'x')),
            ("+A", byte(b'+')),
            ("AA PL", byte(b' ')),
            ("AAPL\u{e9}", byte(0xc3)),
            ("A\0", byte(0)),
            (&"A".repeat(33), NameError::TooLong),
            (&format!("{}+", "A".repeat(30)), NameError::TooLong),
        ],
    );
}

#[test]
fn indian_names_are_kept_apart() {
    check(
        SymbolForm::India,
        &[
            ("INFY", "INFY"),
            ("M&M", "M_M"),
            ("COX&KINGS", "COX_KINGS"),
            ("BAJAJ-AUTO", "BAJAJ-AUTO"),
            ("NIFTY 50", "NIFTY.50"),
            ("BANKNIFTY18JAN23500CE", "BANKNIFTY18JAN23500CE"),
        ],
    );
    check_refused(SymbolForm::India, &[("M_M", byte(b'_')), ("NIFTY.50", byte(b'.')), ("A/B", byte(b'/'))]);
}

#[test]
fn separated_pairs_differ_in_their_separator_only() {
    for (form, separator) in [(SymbolForm::Slash, "/"), (SymbolForm::Dash, "-"), (SymbolForm::Underscore, "_")] {
        for (parts, symbol) in [
            (["BTC", "USD"], "BTC/USD"),
            (["XBT", "USD"], "BTC/USD"),
            (["eth", "xbt"], "ETH/BTC"),
            (["XDG", "EUR"], "DOGE/EUR"),
            (["BTC", "USDC"], "BTC/USDC"),
            (["DE30", "EUR"], "DE30/EUR"),
            (["1INCH", "USD"], "1INCH/USD"),
            (["XBTC", "USD"], "XBTC/USD"),
        ] {
            check(form, &[(&parts.join(separator), symbol)]);
        }
        let name = |base: &str, quote: &str| [base, quote].join(separator);
        check_refused(
            form,
            &[
                ("BTCUSD", NameError::NotAPair),
                (&name("", "USD"), NameError::NotAPair),
                (&name("BTC", ""), NameError::NotAPair),
                (&name("BTC", "US D"), byte(b' ')),
                (&name("BTC:A", "USD"), byte(b':')),
                (&name(&"A".repeat(16), &"B".repeat(16)), NameError::TooLong),
            ],
        );
        check(form, &[(&name(&"A".repeat(16), &"B".repeat(15)), &format!("{}/{}", "A".repeat(16), "B".repeat(15)))]);
    }
    check(SymbolForm::Dash, &[("BTC-PERP-INTX", "BTC/PERP-INTX")]);
    check_refused(SymbolForm::Slash, &[("A/B/C", byte(b'/')), ("A/B_C", byte(b'_'))]);
    check_refused(SymbolForm::Underscore, &[("A_B_C", byte(b'_')), ("A/B_C", byte(b'/'))]);
    check_refused(SymbolForm::Dash, &[("BTC/USD", NameError::NotAPair), ("A/B-C", byte(b'/'))]);
}

#[test]
fn joined_pairs_are_split_as_their_market_does() {
    check(
        SymbolForm::Joined(Market::Binance),
        &[
            ("BTCUSDT", "BTC/USDT"),
            ("btcusdt", "BTC/USDT"),
            ("BTCFDUSD", "BTC/FDUSD"),
            ("BNBBUSD", "BNB/BUSD"),
            ("BTCTUSD", "BTC/TUSD"),
            ("USDCUSDT", "USDC/USDT"),
            ("EURUSDT", "EUR/USDT"),
            ("ADAEUR", "ADA/EUR"),
            ("EURAEUR", "EUR/AEUR"),
            ("BTCEURI", "BTC/EURI"),
            ("1000SATSFDUSD", "1000SATS/FDUSD"),
            ("ETHBTC", "ETH/BTC"),
            ("XRPRLUSD", "XRP/RLUSD"),
            ("OPTUSD", "OP/TUSD"),
            // Binance.US.
            ("BTCUSD", "BTC/USD"),
            ("BNBUSD", "BNB/USD"),
            ("USDTUSD", "USDT/USD"),
            ("ZRXUSD", "ZRX/USD"),
            ("OMGBUSD", "OMG/BUSD"),
        ],
    );
    check(
        SymbolForm::Joined(Market::Gemini),
        &[
            ("btcrlusd", "BTC/RLUSD"),
            ("avaxgusd", "AVAX/GUSD"),
            ("paxggusd", "PAXG/GUSD"),
            ("usdgusd", "USDG/USD"),
            ("BTCUSD", "BTC/USD"),
            ("btcgusd", "BTC/GUSD"),
            ("paxgusd", "PAXG/USD"),
            ("batusd", "BAT/USD"),
            ("gusdusd", "GUSD/USD"),
        ],
    );
    check(
        SymbolForm::Joined(Market::Kraken),
        &[
            ("XBTUSD", "BTC/USD"),
            ("XXBTZUSD", "BTC/USD"),
            ("XXDGXXBT", "DOGE/BTC"),
            ("XDGUSD", "DOGE/USD"),
            ("USDTZUSD", "USDT/USD"),
            ("USDTUSD", "USDT/USD"),
            ("ZEURZUSD", "EUR/USD"),
            ("XTZUSD", "XTZ/USD"),
            ("ETH2.SETH", "ETH2.S/ETH"),
        ],
    );
    check(
        SymbolForm::Joined(Market::Fiat),
        &[("EURUSD", "EUR/USD"), ("XAUUSD", "XAU/USD"), ("usdjpy", "USD/JPY"), ("DOGEUSD", "DOGE/USD")],
    );
    for market in [Market::Binance, Market::Gemini, Market::Kraken, Market::Fiat] {
        check_refused(
            SymbolForm::Joined(market),
            &[
                ("AAPL", NameError::UnknownQuote),
                ("USD", NameError::UnknownQuote),
                ("U", NameError::UnknownQuote),
                ("BTC-USD", byte(b'-')),
                ("BTCUSD\u{20ac}", byte(0xe2)),
            ],
        );
    }
    check_refused(SymbolForm::Joined(Market::Binance), &[("XYZUSD", NameError::UnknownQuote)]);
    check_refused(SymbolForm::Joined(Market::Binance), &[("BTC.USDT", byte(b'.'))]);
    check_refused(SymbolForm::Joined(Market::Kraken), &[("XBTUSD.d", NameError::UnknownQuote)]);
}

#[test]
fn bitfinex_and_prefixes() {
    check(
        SymbolForm::Bitfinex,
        &[
            ("tBTCUSD", "BTC/USD"),
            ("BTCUSD", "BTC/USD"),
            ("btcusd", "BTC/USD"),
            ("tTRXUSD", "TRX/USD"),
            ("trxusd", "TRX/USD"),
            ("tBTCUST", "BTC/USDT"),
            ("tUSTUSD", "USDT/USD"),
            ("tDSHBTC", "DASH/BTC"),
            ("tDOGE:USD", "DOGE/USD"),
            ("tLUNA2:UST", "LUNA2/USDT"),
            ("tBTCF0:USTF0", "BTCF0/USTF0"),
        ],
    );
    check_refused(
        SymbolForm::Bitfinex,
        &[
            ("fUSD", NameError::NotAPair),
            ("t", NameError::NotAPair),
            ("tDOGEUSD", NameError::NotAPair),
            ("tA:B:C", byte(b':')),
        ],
    );
    check(
        SymbolForm::Prefixed,
        &[
            ("BINANCE:BTCUSDT", "BTC/USDT"),
            ("binance:btcusdt", "BTC/USDT"),
            ("OANDA:EUR_USD", "EUR/USD"),
            ("COINBASE:BTC-USD", "BTC/USD"),
            ("KRAKEN:XXBTZUSD", "BTC/USD"),
            ("KRAKEN:XBT/USD", "BTC/USD"),
            ("GEMINI:btcusd", "BTC/USD"),
            ("BITFINEX:BTCUST", "BTC/USDT"),
            ("FXCM:EUR/USD", "EUR/USD"),
            ("X:BTCUSD", "BTC/USD"),
            ("X:BTC-USD", "BTC/USD"),
            ("C:EURUSD", "EUR/USD"),
            ("FHFX:EUR-USD", "EUR/USD"),
            ("KUCOIN:BTC-USDT", "BTC/USDT"),
            ("BINANCEUS:BTCUSD", "BTC/USD"),
            ("NYSE:BRK.B", "BRK.B"),
            ("AAPL", "AAPL"),
        ],
    );
    check(SymbolForm::India, &[("M&M", "M_M")]);
    assert_eq!(canonical(SymbolForm::Prefixed, "NSE:M&M").as_deref(), Ok("M_M"));
    check_refused(
        SymbolForm::Prefixed,
        &[
            ("IC MARKETS:1", NameError::UnknownExchange),
            ("POLONIEX:USDT_BTC", NameError::UnknownExchange),
            ("O:SPY241220P00720000", NameError::UnknownExchange),
            (":BTCUSD", NameError::UnknownExchange),
            ("BINANCE:", NameError::Empty),
            ("NYSE:", NameError::Empty),
            ("BINANCE:X:BTCUSDT", byte(b':')),
            ("BTCUSD/X", byte(b'/')),
        ],
    );
}

#[test]
fn a_name_without_a_venue_is_a_pair_only_for_certain() {
    check(
        SymbolForm::Any,
        &[
            ("XBT/USD", "BTC/USD"),
            ("BTC-USD", "BTC/USD"),
            ("SKL-EUR", "SKL/EUR"),
            ("BTCUSD", "BTC/USD"),
            ("btcusdt", "BTC/USDT"),
            ("WIFUSDT", "WIF/USDT"),
            ("EUR_USD", "EUR/USD"),
            ("EURUSD", "EUR/USD"),
            ("BINANCE:BTCUSDT", "BTC/USDT"),
            ("OANDA:EUR_USD", "EUR/USD"),
            ("AAPL", "AAPL"),
            ("BRK.B", "BRK.B"),
            ("BRK-B", "BRK-B"),
            ("BAC-Q", "BAC-Q"),
            ("BAJAJ-AUTO", "BAJAJ-AUTO"),
            ("TATAINR", "TATAINR"),
            ("BATUSD", "BATUSD"),
            ("USDC", "USDC"),
            ("BUSD", "BUSD"),
        ],
    );
}

/// The catalogue of a venue among the captures: what follows the address and the time of each answer.
fn catalogue(file: &str) -> Option<Vec<Value>> {
    let Ok(captures) = std::env::var("GATEWAY_CAPTURES") else {
        println!("left out: GATEWAY_CAPTURES is not set");
        return None;
    };
    let text = std::fs::read_to_string(format!("{captures}/{file}")).unwrap();
    let bodies = text.lines().filter(|line| line.starts_with("http")).map(|line| line.split_once(": ").unwrap().1);
    Some(bodies.map(|body| serde_json::from_str(body).unwrap()).collect())
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap()
}

/// The pair of two currencies, by their venue's names.
fn pair_of(base: &str, quote: &str) -> String {
    let name = |code: &str| match code {
        "XBT" => "BTC".to_owned(),
        "XDG" => "DOGE".to_owned(),
        _ => code.to_owned(),
    };
    format!("{}/{}", name(base), name(quote))
}

/// Checks names of one venue against their pairs; no two names of different pairs may become one symbol.
#[track_caller]
fn check_catalogue(form: SymbolForm, names: &[(String, String)], count: usize) {
    let mut by_symbol: HashMap<String, &str> = HashMap::new();
    for (name, pair) in names {
        let symbol = canonical(form, name);
        assert_eq!(symbol.as_ref(), Ok(pair), "{form:?} {name}");
        assert_eq!(canonical(form, &name.to_ascii_lowercase()), symbol, "{form:?} {name}");
        let other = by_symbol.insert(symbol.unwrap(), pair);
        assert!(other.is_none_or(|other| other == pair), "{form:?} {name}");
    }
    assert_eq!(names.len(), count);
}

#[test]
fn all_products_of_binance() {
    let Some(answers) = catalogue("binance/binance-2021-10-12.exchangeinfo.meta.txt") else { return };
    let products = answers[0]["symbols"].as_array().unwrap().iter();
    let pair = |product: &Value| pair_of(text(product, "baseAsset"), text(product, "quoteAsset"));
    let names: Vec<_> = products.map(|product| (text(product, "symbol").to_owned(), pair(product))).collect();
    check_catalogue(SymbolForm::Joined(Market::Binance), &names, 1_695);
    let prefixed = names.into_iter().map(|(name, pair)| (format!("BINANCE:{name}"), pair)).collect::<Vec<_>>();
    check_catalogue(SymbolForm::Prefixed, &prefixed, 1_695);
}

#[test]
fn all_products_of_gemini() {
    let Some(answers) = catalogue("gemini/gemini-2021-06-24.meta.txt") else { return };
    let pair = |product: &Value| pair_of(text(product, "base_currency"), text(product, "quote_currency"));
    let names: Vec<_> =
        answers[1..].iter().map(|product| (text(product, "symbol").to_owned(), pair(product))).collect();
    check_catalogue(SymbolForm::Joined(Market::Gemini), &names, 71);
}

#[test]
fn all_products_of_coinbase() {
    let Some(answers) = catalogue("coinbase/coinbase-2021-04-17.meta.txt") else { return };
    let pair = |product: &Value| pair_of(text(product, "base_currency"), text(product, "quote_currency"));
    let products = answers[0].as_array().unwrap().iter();
    let names: Vec<_> = products.map(|product| (text(product, "id").to_owned(), pair(product))).collect();
    check_catalogue(SymbolForm::Dash, &names, 162);
    check_catalogue(SymbolForm::Any, &names, 162);
}

#[test]
fn all_products_of_kraken() {
    let Some(answers) = catalogue("kraken/kraken-2021-04-17.assetpairs.meta.txt") else { return };
    let (mut keys, mut short, mut long) = (Vec::new(), Vec::new(), Vec::new());
    for (key, product) in answers[0]["result"].as_object().unwrap() {
        let joined = SymbolForm::Joined(Market::Kraken);
        let Some(name) = product["wsname"].as_str() else {
            // Dark pools.
            let names = [key, text(product, "altname")];
            check_refused(joined, &names.map(|name| (name, NameError::UnknownQuote)));
            continue;
        };
        let (base, quote) = name.split_once('/').unwrap();
        let pair = pair_of(base, quote);
        keys.push((key.clone(), pair.clone()));
        short.push((text(product, "altname").to_owned(), pair.clone()));
        long.push((name.to_owned(), pair));
    }
    check_catalogue(SymbolForm::Joined(Market::Kraken), &keys, 293);
    check_catalogue(SymbolForm::Joined(Market::Kraken), &short, 293);
    check_catalogue(SymbolForm::Slash, &long, 293);
}

/// Checks that each name has a symbol, and no two the same one.
#[track_caller]
fn check_apart(form: SymbolForm, names: &[String]) {
    let mut by_symbol: HashMap<String, &String> = HashMap::new();
    for name in names {
        let symbol = canonical(form, name).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(protocol::check_symbol(&symbol), Ok(()), "{symbol}");
        if let Some(other) = by_symbol.insert(symbol, name) {
            assert_eq!(other, name);
        }
    }
}

#[test]
fn all_shares_of_nasdaq_and_the_nse() {
    let Ok(captures) = std::env::var("GATEWAY_CAPTURES") else {
        return println!("left out: GATEWAY_CAPTURES is not set");
    };
    let mut shares = Vec::new();
    let session = std::fs::read(format!("{captures}/itch/nasdaq-start-of-day-first1000.itch")).unwrap();
    let mut rest = session.as_slice();
    while let [high, low, tail @ ..] = rest {
        let (message, tail) = tail.split_at(usize::from(u16::from_be_bytes([*high, *low])));
        if message[0] == b'R' {
            shares.push(String::from_utf8(message[11..19].to_vec()).unwrap());
        }
        rest = tail;
    }
    assert_eq!(shares.len(), 993);
    check_apart(SymbolForm::Equity, &shares);
    for share in &shares {
        assert_eq!(canonical(SymbolForm::Any, share), canonical(SymbolForm::Equity, share), "{share}");
    }
    let list = std::fs::read_to_string(format!("{captures}/kite/instruments_nse.csv")).unwrap();
    let shares: Vec<String> = list.lines().skip(1).map(|line| line.split(',').nth(2).unwrap().to_owned()).collect();
    assert_eq!(shares.len(), 99);
    check_apart(SymbolForm::India, &shares);
}

proptest! {
    #[test]
    fn whatever_the_name_the_symbol_is_one(name in "[ -~]{0,40}", bytes: Vec<u8>) {
        for form in ALL {
            for name in [name.as_bytes(), &bytes] {
                let mut buffer = [0; SYMBOL_BYTES_MAX];
                if let Ok(symbol) = form.canonical(name, &mut buffer) {
                    prop_assert_eq!(protocol::check_symbol(symbol), Ok(()), "{:?} {:?}", form, name);
                }
            }
        }
    }

    #[test]
    fn separated_names_of_different_pairs_stay_apart(
        one in ("[A-Z0-9]{1,6}", "[A-Z0-9]{1,6}"),
        other in ("[A-Z0-9]{1,6}", "[A-Z0-9]{1,6}"),
    ) {
        let symbol = |form, separator, (base, quote): &(String, String)| canonical(form, &format!("{base}{separator}{quote}"));
        let slash = symbol(SymbolForm::Slash, "/", &one);
        prop_assert_eq!(&symbol(SymbolForm::Dash, "-", &one), &slash);
        prop_assert_eq!(&symbol(SymbolForm::Underscore, "_", &one), &slash);
        let is_same = pair_of(&one.0, &one.1) == pair_of(&other.0, &other.1);
        prop_assert_eq!(symbol(SymbolForm::Dash, "-", &other) == slash, is_same);
    }
}
