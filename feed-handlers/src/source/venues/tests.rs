//! What each venue is told, word for word.

use super::*;
use crate::feed::QuoteOrigin;
use crate::source::live::Live;
use crate::source::live_settings::{Credentials, Encoding};
use crate::source::script::{Name, Renewal, Request, Said};
use crate::source::secret::Secret;

const KEY: &str = "K3Y\"";
const SECRET: &str = "S3CRET\\";

fn settings(venue: Venue, symbols: &[&str]) -> LiveSettings {
    LiveSettings {
        symbols: symbols.iter().map(|&symbol| symbol.to_owned()).collect(),
        credentials: Credentials { key: Some(Secret::new(KEY)), secret: Some(Secret::new(SECRET)) },
        ..LiveSettings::of(venue)
    }
}

fn with_books(settings: LiveSettings, depth: Option<usize>) -> LiveSettings {
    LiveSettings { quotes: QuoteOrigin::Books { depth }, ..settings }
}

fn texts(requests: &[Request]) -> Vec<&str> {
    requests.iter().map(text).collect()
}

fn text(request: &Request) -> &str {
    match request {
        Request::Text(text) => text,
        Request::Binary(_) => panic!("no text"),
    }
}

/// Where it connects to, how it signs in, and how it subscribes.
#[track_caller]
fn check(settings: &LiveSettings, url: &str, sign_in: Option<&str>, subscribes: &[&str]) {
    let script = script(settings).unwrap();
    assert_eq!(script.url, url);
    assert_eq!(script.sign_in.as_ref().map(text), sign_in);
    assert_eq!(texts(&script.subscribes), subscribes);
    for text in texts(&script.subscribes) {
        serde_json::from_str::<serde_json::Value>(text).expect(text);
    }
    let live = Live::new(settings).unwrap();
    let symbols = settings.symbols.iter().map(|given| given.rsplit('=').next().unwrap());
    assert!(symbols.eq(live.symbols().take(settings.symbols.len())));
}

/// What is said when the book of `name` cannot be believed.
#[track_caller]
fn check_renewal(settings: &LiveSettings, name: &str, expected: &[&str]) {
    match script(settings).unwrap().renewal {
        Renewal::Requests(requests) => assert_eq!(texts(&requests(name)), expected),
        Renewal::Line | Renewal::Fetch { .. } => panic!("the book is had otherwise"),
    }
}

#[track_caller]
fn check_names(settings: &LiveSettings, expected: &[(&str, &str)]) {
    let said = |name: &Name| match &name.said {
        Said::Text(text) => text.clone(),
        Said::Token(token) => format!("#{token}"),
    };
    let names: Vec<_> = script(settings).unwrap().names.iter().map(|n| (said(n), n.symbol.clone())).collect();
    let expected: Vec<_> = expected.iter().map(|(said, symbol)| ((*said).to_owned(), (*symbol).to_owned())).collect();
    assert_eq!(names, expected);
}

#[track_caller]
fn check_refused(settings: &LiveSettings, message: &str) {
    let refused = Live::new(settings).err().expect(message).to_string();
    assert!(refused.starts_with(message) && !refused.contains('\n'), "{refused}");
    assert!(!refused.contains("K3Y") && !refused.contains("S3CRET"), "{refused}");
}

#[test]
fn coinbase() {
    let pairs = settings(Venue::Coinbase, &["BTC/USD", "SKL/BTC"]);
    check(
        &pairs,
        "wss://ws-feed.exchange.coinbase.com",
        None,
        &[r#"{"type":"subscribe","product_ids":["BTC-USD","SKL-BTC"],"channels":["heartbeat","ticker","matches"]}"#],
    );
    check_names(&pairs, &[("BTC-USD", "BTC/USD"), ("SKL-BTC", "SKL/BTC")]);
    let books = with_books(pairs, None);
    let channels = r#"["heartbeat","level2_batch","matches"]"#;
    let subscribe = format!(r#"{{"type":"subscribe","product_ids":["BTC-USD","SKL-BTC"],"channels":{channels}}}"#);
    check(&books, "wss://ws-feed.exchange.coinbase.com", None, &[&subscribe]);
    check_renewal(
        &books,
        "BTC-USD",
        &[
            r#"{"type":"unsubscribe","product_ids":["BTC-USD"],"channels":["level2_batch"]}"#,
            r#"{"type":"subscribe","product_ids":["BTC-USD"],"channels":["level2_batch"]}"#,
        ],
    );
    check_refused(&settings(Venue::Coinbase, &["AAPL"]), "symbols: `AAPL` has no name");
}

#[test]
fn coinbase_advanced() {
    let pair = settings(Venue::CoinbaseAdvanced, &["BTC/USD"]);
    let heartbeats = r#"{"type":"subscribe","channel":"heartbeats"}"#;
    let trades = r#"{"type":"subscribe","product_ids":["BTC-USD"],"channel":"market_trades"}"#;
    let tickers = r#"{"type":"subscribe","product_ids":["BTC-USD"],"channel":"ticker"}"#;
    let books = r#"{"type":"subscribe","product_ids":["BTC-USD"],"channel":"level2"}"#;
    check(&pair, "wss://advanced-trade-ws.coinbase.com", None, &[heartbeats, trades, tickers]);
    let pair = with_books(pair, None);
    check(&pair, "wss://advanced-trade-ws.coinbase.com", None, &[heartbeats, trades, books]);
    check_renewal(&pair, "BTC-USD", &[&books.replace("subscribe", "unsubscribe"), books]);
}

#[test]
fn polygon() {
    let auth = Some(r#"{"action":"auth","params":"K3Y\""}"#);
    let subscribe = |params: &str| format!(r#"{{"action":"subscribe","params":"{params}"}}"#);
    let stocks = settings(Venue::Polygon, &["AAPL", "BRK.B"]);
    check(&stocks, "wss://socket.massive.com/stocks", auth, &[&subscribe("T.AAPL,Q.AAPL,T.BRK.B,Q.BRK.B")]);
    let crypto = settings(Venue::Polygon, &["BTC/USD"]);
    check(&crypto, "wss://socket.massive.com/crypto", auth, &[&subscribe("XT.BTC-USD,XQ.BTC-USD")]);
    check_names(&crypto, &[("BTC-USD", "BTC/USD")]);
    let forex = settings(Venue::Polygon, &["EUR/USD"]);
    check(&forex, "wss://socket.massive.com/forex", auth, &[&subscribe("C.EUR-USD")]);
    check_names(&forex, &[("EUR-USD", "EUR/USD"), ("EUR/USD", "EUR/USD")]);
    check_refused(&settings(Venue::Polygon, &["AAPL", "BTC/USD"]), "symbols: `BTC/USD` is of another class");
    check_refused(&with_books(stocks, None), "quotes: POLYGON gives no books");
}

#[test]
fn alpaca() {
    let stocks = settings(Venue::Alpaca, &["AAPL", "AMD"]);
    check(
        &stocks,
        "wss://stream.data.alpaca.markets/v2/iex",
        Some(r#"{"action":"auth","key":"K3Y\"","secret":"S3CRET\\"}"#),
        &[r#"{"action":"subscribe","trades":["AAPL","AMD"],"quotes":["AAPL","AMD"]}"#],
    );
    let packed = script(&LiveSettings { encoding: Encoding::MessagePack, ..stocks }).unwrap();
    assert_eq!(packed.headers, [("content-type", "application/msgpack".to_owned())]);
    // Read by a library, as the venue would.
    let unpacked = |request: &Request| -> serde_json::Value {
        match request {
            Request::Binary(bytes) => rmp_serde::from_slice(bytes).unwrap(),
            Request::Text(_) => panic!("no MessagePack"),
        }
    };
    let auth = serde_json::json!({"action": "auth", "key": KEY, "secret": SECRET});
    assert_eq!(packed.sign_in.as_ref().map(unpacked), Some(auth));
    let subscribe = serde_json::json!({"action": "subscribe", "trades": ["AAPL", "AMD"], "quotes": ["AAPL", "AMD"]});
    assert_eq!(packed.subscribes.iter().map(unpacked).collect::<Vec<_>>(), [subscribe]);
    check_refused(
        &LiveSettings { encoding: Encoding::MessagePack, ..settings(Venue::Polygon, &["AAPL"]) },
        "encoding: POLYGON writes JSON only",
    );
}

#[test]
fn finnhub() {
    let symbols = settings(Venue::Finnhub, &["AAPL", "BTC/USDT", "BTC/USD", "EUR/USD", "KRAKEN:XXBTZUSD=XBT/USD"]);
    let names = ["AAPL", "BINANCE:BTCUSDT", "COINBASE:BTC-USD", "OANDA:EUR_USD", "KRAKEN:XXBTZUSD"];
    let subscribes = names.map(|name| format!(r#"{{"type":"subscribe","symbol":"{name}"}}"#));
    let subscribes = subscribes.each_ref().map(String::as_str);
    check(&symbols, "wss://ws.finnhub.io/?token=K3Y%22", None, &subscribes);
    check_names(
        &symbols,
        &std::array::from_fn::<_, 5, _>(|n| (names[n], ["AAPL", "BTC/USDT", "BTC/USD", "EUR/USD", "XBT/USD"][n])),
    );
}

#[test]
fn binance() {
    let pairs = settings(Venue::Binance, &["BTC/USDT", "ETH/BTC"]);
    let url = "wss://data-stream.binance.vision/stream";
    let params = r#"["btcusdt@trade","btcusdt@bookTicker","ethbtc@trade","ethbtc@bookTicker"]"#;
    check(&pairs, url, None, &[&format!(r#"{{"method":"SUBSCRIBE","params":{params},"id":1}}"#)]);
    check_names(&pairs, &[("BTCUSDT", "BTC/USDT"), ("ETHBTC", "ETH/BTC")]);
    let books = with_books(pairs, None);
    let params = r#"["btcusdt@trade","btcusdt@depth@100ms","ethbtc@trade","ethbtc@depth@100ms"]"#;
    check(&books, url, None, &[&format!(r#"{{"method":"SUBSCRIBE","params":{params},"id":1}}"#)]);
    match script(&books).unwrap().renewal {
        Renewal::Fetch { url, query, .. } => {
            assert_eq!(url, "https://data-api.binance.vision/api/v3/depth");
            assert_eq!(query("BTCUSDT"), "symbol=BTCUSDT&limit=1000");
        }
        Renewal::Line | Renewal::Requests(_) => panic!("books are fetched"),
    }
    // Another stream has other books.
    let other = LiveSettings { url: Some("wss://stream.binance.us:9443/stream".into()), ..books };
    check_refused(&other, "snapshot_url: needed");
    let ftp = LiveSettings { snapshot_url: Some("ftp://api.binance.us/api/v3/depth?secret=S3CRET".into()), ..other };
    check_refused(&ftp, "snapshot_url: an https://");
}

#[test]
fn kraken() {
    let pairs = settings(Venue::Kraken, &["BTC/USD", "MINA/GBP"]);
    let symbol = r#""symbol":["BTC/USD","MINA/GBP"]"#;
    let trades = format!(r#"{{"method":"subscribe","params":{{"channel":"trade","snapshot":true,{symbol}}}}}"#);
    let tickers = format!(r#"{{"method":"subscribe","params":{{"channel":"ticker","event_trigger":"bbo",{symbol}}}}}"#);
    check(&pairs, "wss://ws.kraken.com/v2", None, &[&trades, &tickers]);
    let books = format!(r#"{{"method":"subscribe","params":{{"channel":"book","depth":25,{symbol}}}}}"#);
    check(&with_books(pairs.clone(), Some(25)), "wss://ws.kraken.com/v2", None, &[&trades, &books]);
    let one = books.replace(r#""BTC/USD","#, "");
    let leave = one.replace("subscribe", "unsubscribe");
    check_renewal(&with_books(pairs.clone(), Some(25)), "MINA/GBP", &[&leave, &one]);
    for depth in [None, Some(0), Some(20)] {
        check_refused(&with_books(pairs.clone(), depth), "quotes: the depth of books is to be one of [10, 25");
    }
}

#[test]
fn kite() {
    let instruments = settings(Venue::Kite, &["408065=INFY", "884737=TATAMOTORS"]);
    check(
        &instruments,
        "wss://ws.kite.trade/?api_key=K3Y%22&access_token=S3CRET%5C",
        None,
        &[r#"{"a":"subscribe","v":[408065,884737]}"#, r#"{"a":"mode","v":["full",[408065,884737]]}"#],
    );
    check_names(&instruments, &[("#408065", "INFY"), ("#884737", "TATAMOTORS")]);
    assert_eq!(script(&instruments).unwrap().headers, [("x-kite-version", "3".to_owned())]);
    check_refused(&settings(Venue::Kite, &["INFY"]), "symbols: `INFY` has no name");
    for token in ["X1=INFY", "4294967296=INFY", "1.5=INFY"] {
        check_refused(&settings(Venue::Kite, &[token]), "symbols: `");
    }
}

#[test]
fn bars_are_subscribed_where_they_are_wanted() {
    // What is subscribed beside the rest: each request, read as JSON, that is not the same without bars.
    let check = |venue: Venue, symbol: &str, expected: &[&str]| {
        let without = settings(venue, &[symbol]);
        let with = LiveSettings { bars: true, ..without.clone() };
        let (without, with) = (script(&without).unwrap().subscribes, script(&with).unwrap().subscribes);
        let more: Vec<&str> = with.iter().filter(|request| !without.contains(request)).map(text).collect();
        assert_eq!(more, expected, "{venue:?}");
        for text in more {
            serde_json::from_str::<serde_json::Value>(text).expect(text);
        }
    };
    check(
        Venue::Alpaca,
        "A",
        &[r#"{"action":"subscribe","trades":["A"],"quotes":["A"],"bars":["A"],"updatedBars":["A"],"dailyBars":["A"]}"#],
    );
    check(Venue::Polygon, "A", &[r#"{"action":"subscribe","params":"T.A,Q.A,AM.A"}"#]);
    check(Venue::Polygon, "BTC/USD", &[r#"{"action":"subscribe","params":"XT.BTC-USD,XQ.BTC-USD,XA.BTC-USD"}"#]);
    check(Venue::Polygon, "EUR/USD", &[r#"{"action":"subscribe","params":"C.EUR-USD,CA.EUR-USD"}"#]);
    let candles = r#"{"type":"subscribe","product_ids":["BTC-USD"],"channel":"candles"}"#;
    check(Venue::CoinbaseAdvanced, "BTC/USD", &[candles]);
    let ohlc = r#""channel":"ohlc","interval":1,"snapshot":true"#;
    let ohlc = format!(r#"{{"method":"subscribe","params":{{{ohlc},"symbol":["BTC/USD"]}}}}"#);
    check(Venue::Kraken, "BTC/USD", &[&ohlc]);
    let params = r#"["btcusdt@trade","btcusdt@bookTicker","btcusdt@kline_1m"]"#;
    check(Venue::Binance, "BTC/USDT", &[&format!(r#"{{"method":"SUBSCRIBE","params":{params},"id":1}}"#)]);
    // Three streams a product.
    let many = LiveSettings { bars: true, ..settings(Venue::Binance, &["A/B"; 342]) };
    check_refused(&many, "symbols: 1 to 341 are needed, not 342");
    let packed = LiveSettings { bars: true, encoding: Encoding::MessagePack, ..settings(Venue::Alpaca, &["A"]) };
    let Request::Binary(request) = &script(&packed).unwrap().subscribes[0] else { panic!("no MessagePack") };
    let lists = serde_json::json!({
        "action": "subscribe", "trades": ["A"], "quotes": ["A"], "bars": ["A"], "updatedBars": ["A"], "dailyBars": ["A"]
    });
    assert_eq!(rmp_serde::from_slice::<serde_json::Value>(request).unwrap(), lists);
    for (venue, symbol) in [(Venue::Coinbase, "BTC/USD"), (Venue::Finnhub, "AAPL"), (Venue::Kite, "1=INFY")] {
        let message = format!("bars: {} gives none", venue.name());
        check_refused(&LiveSettings { bars: true, ..settings(venue, &[symbol]) }, &message);
    }
}

#[test]
fn batches_are_no_larger_than_the_venue_takes() {
    let check = |venue: Venue, count: usize, expected: usize| {
        let of = |n| match venue {
            Venue::Polygon | Venue::Alpaca | Venue::Finnhub => format!("S{n}"),
            Venue::Kite => format!("{n}=S{n}"),
            _ => format!("P{n}/USD"),
        };
        let symbols: Vec<String> = (0..count).map(of).collect();
        let settings = LiveSettings { symbols, ..settings(venue, &[]) };
        let script = script(&settings).unwrap();
        assert_eq!(script.subscribes.len(), expected, "{venue:?}");
        let bytes = |request: &Request| match request {
            Request::Text(text) => text.len(),
            Request::Binary(bytes) => bytes.len(),
        };
        assert!(script.subscribes.iter().map(bytes).max().unwrap() <= 8 << 10, "{venue:?}");
        assert_eq!(script.names.len(), count);
    };
    check(Venue::Coinbase, 250, 3);
    check(Venue::CoinbaseAdvanced, 120, 1 + 2 * 3);
    check(Venue::Polygon, 450, 3);
    check(Venue::Alpaca, 450, 3);
    check(Venue::Finnhub, 50, 50);
    // 400 streams.
    check(Venue::Binance, 200, 2);
    check(Venue::Kraken, 250, 2 * 3);
    check(Venue::Kite, 3_000, 2 * 6);
    let many = vec!["A/B".to_owned(); 513];
    check_refused(&LiveSettings { symbols: many, ..settings(Venue::Binance, &[]) }, "symbols: 1 to 512 are needed");
}

#[test]
fn who_needs_credentials_says_so() {
    let check = |venue, symbol, credentials: Credentials, message: &str| {
        check_refused(&LiveSettings { credentials, ..settings(venue, &[symbol]) }, message);
    };
    let none = Credentials::default();
    let only_key = Credentials { key: Some(Secret::new(KEY)), secret: None };
    let empty = Credentials { key: Some(Secret::new("")), secret: Some(Secret::new("")) };
    check(Venue::Polygon, "AAPL", none.clone(), "credentials.key: POLYGON needs it");
    check(Venue::Finnhub, "AAPL", empty, "credentials.key: FINNHUB needs it");
    check(Venue::Alpaca, "AAPL", none.clone(), "credentials.key: ALPACA needs it");
    check(Venue::Alpaca, "AAPL", only_key.clone(), "credentials.secret: ALPACA needs it");
    check(Venue::Kite, "1=INFY", only_key, "credentials.secret: KITE needs it");
    check(Venue::Oanda, "EUR/USD", none, "venue: OANDA has no WebSocket");
}

#[test]
fn settings_show_no_secret() {
    let url = Some("wss://me:hunter2@feed.example.com/ws?key=hunter3".to_owned());
    let snapshot_url = Some("https://feed.example.com/?key=hunter4".to_owned());
    let shown = format!("{:?}", LiveSettings { url, snapshot_url, ..settings(Venue::Binance, &["BTC/USDT"]) });
    for secret in ["hunter", "K3Y", "S3CRET"] {
        assert!(!shown.contains(secret), "{shown}");
    }
    for url in ["", "ws-feed.example.com", "https://feed.example.com", "wss://", "ws:///x?key=K3Y"] {
        let settings = LiveSettings { url: Some(url.into()), ..settings(Venue::Coinbase, &["BTC/USD"]) };
        check_refused(&settings, "url: a ws:// or wss:// address is needed");
    }
    let mut timings = settings(Venue::Coinbase, &["BTC/USD"]);
    timings.timings.stale = timings.timings.silence * 2;
    check_refused(&timings, "timings: ");
}
