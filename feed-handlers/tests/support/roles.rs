//! The parts that venues play: what each says and must be told, word for word, in its own frames.

use feed_handlers::source::Encoding;
use feed_handlers::venue::Venue;
use serde_json::{Value, json};

use crate::stage::Words;

pub(crate) const KEY: &str = "K3Y-0001";
pub(crate) const SECRET: &str = "S3CR3T-0002";

/// How a venue refuses who we are.
pub(crate) enum Refusal {
    /// After the sign-in.
    Words(&'static str),
    /// At the handshake.
    Status(&'static str),
    /// It asks nobody.
    Never,
}

/// One venue's part.
pub(crate) struct Role {
    pub(crate) venue: Venue,
    pub(crate) symbols: &'static [&'static str],
    pub(crate) encoding: Encoding,
    /// Whether the venue's bars are subscribed.
    pub(crate) bars: bool,
    /// Of the request that opens the line.
    pub(crate) query: &'static str,
    pub(crate) header: Option<(&'static str, &'static str)>,
    pub(crate) greeting: Option<Words>,
    /// What the client must say, and the answer.
    pub(crate) sign_in: Option<(Value, Words)>,
    pub(crate) refusal: Refusal,
    /// What the client must say, in order, and what is answered to each.
    pub(crate) subscribes: Vec<(Value, Vec<Words>)>,
    /// Frames, and the ticks that come of them.
    pub(crate) frames: Vec<Words>,
    pub(crate) ticks: &'static [&'static str],
    /// Frames after a cut, some of them told before, and the ticks that come of them.
    pub(crate) later: Vec<Words>,
    pub(crate) later_ticks: &'static [&'static str],
    /// That we ask too much.
    pub(crate) throttling: Option<Words>,
    pub(crate) garbage: Vec<Words>,
}

pub(crate) fn text(text: &str) -> Words {
    text.into()
}

pub(crate) fn texts(texts: &[&str]) -> Vec<Words> {
    texts.iter().map(|&text| text.into()).collect()
}

/// Lines that are nothing in the JSON of any venue.
pub(crate) fn json_garbage() -> Vec<Words> {
    let mut garbage = texts(&["", "garbage", "{\"a\":", "[[[[", "\u{0}"]);
    garbage.push(Words::Binary(vec![0, 159, 146, 150]));
    garbage
}

pub(crate) fn coinbase() -> Role {
    let trade = |id: u64| {
        text(&format!(
            r#"{{"type":"match","trade_id":{id},"maker_order_id":"2a0da34e-61f7-4c36-88e5-c9dd15927b16","taker_order_id":"3c82abaa-c01e-4608-be59-6a1e69742891","side":"sell","size":"985","price":"0.00001305","product_id":"SKL-BTC","sequence":177100030,"time":"2021-04-17T16:43:37.089723Z"}}"#
        ))
    };
    Role {
        venue: Venue::Coinbase,
        symbols: &["SKL/BTC"],
        encoding: Encoding::Json,
        bars: false,
        query: "/",
        header: None,
        greeting: None,
        sign_in: None,
        refusal: Refusal::Never,
        subscribes: vec![(
            json!({"type": "subscribe", "product_ids": ["SKL-BTC"], "channels": ["heartbeat", "ticker", "matches"]}),
            texts(&[r#"{"type":"subscriptions","channels":[{"name":"matches","product_ids":["SKL-BTC"]}]}"#]),
        )],
        frames: vec![trade(280_232), trade(280_233)],
        ticks: &["SKL/BTC trade 985 @ 0.00001305", "SKL/BTC trade 985 @ 0.00001305"],
        later: vec![trade(280_233), trade(280_236)],
        later_ticks: &["SKL/BTC gap 2", "SKL/BTC trade 985 @ 0.00001305"],
        throttling: None,
        garbage: json_garbage(),
    }
}

pub(crate) fn coinbase_advanced() -> Role {
    let ack = |n: u64| {
        text(&format!(
            r#"{{"channel":"subscriptions","timestamp":"2026-09-07T23:37:22.278662782Z","sequence_num":{n},"events":[{{"subscriptions":{{"heartbeats":["heartbeats"]}}}}]}}"#
        ))
    };
    let trade = |n: u64, kind: &str, id: u64| {
        text(&format!(
            r#"{{"channel":"market_trades","timestamp":"2026-09-30T02:39:59.551901038Z","sequence_num":{n},"events":[{{"type":"{kind}","trades":[{{"product_id":"ETH-USD","trade_id":"{id}","price":"2667.2","size":"0.84275842","time":"2026-09-30T02:39:59.4104Z","side":"SELL"}}]}}]}}"#
        ))
    };
    let subscribe =
        |channel: &str, n| (json!({"type": "subscribe", "product_ids": ["ETH-USD"], "channel": channel}), vec![ack(n)]);
    Role {
        venue: Venue::CoinbaseAdvanced,
        symbols: &["ETH/USD"],
        encoding: Encoding::Json,
        bars: false,
        query: "/",
        header: None,
        greeting: None,
        sign_in: None,
        refusal: Refusal::Never,
        subscribes: vec![
            (json!({"type": "subscribe", "channel": "heartbeats"}), vec![ack(0)]),
            subscribe("market_trades", 1),
            subscribe("ticker", 2),
        ],
        frames: vec![trade(3, "update", 846_155_167)],
        ticks: &["ETH/USD trade 0.84275842 @ 2667.2"],
        // What happened while nobody listened is told as old, and is a gap.
        later: vec![
            trade(3, "snapshot", 846_155_169),
            trade(4, "update", 846_155_167),
            trade(5, "update", 846_155_170),
        ],
        later_ticks: &["ETH/USD gap 2", "ETH/USD trade 0.84275842 @ 2667.2"],
        throttling: None,
        garbage: json_garbage(),
    }
}

pub(crate) fn polygon() -> Role {
    let status = |status: &str, message: &str| {
        text(&format!(r#"[{{"ev":"status","status":"{status}","message":"{message}"}}]"#))
    };
    let trade = r#"[{"ev":"T","sym":"AAPL","i":"143541","x":4,"p":297.845,"s":40,"t":1781622376036,"pt":1781622376029,"q":4938312,"z":3,"trfi":202,"trft":1781622376036,"ds":"40.0"}]"#;
    let quote = r#"[{"ev":"Q","sym":"AAPL","i":[604],"bx":15,"ax":12,"bp":297.83,"ap":297.86,"bs":80,"as":80,"t":1781622375952,"pt":1781622375952,"q":44424715,"z":3}]"#;
    Role {
        venue: Venue::Polygon,
        symbols: &["AAPL"],
        encoding: Encoding::Json,
        bars: false,
        query: "/",
        header: None,
        greeting: Some(status("connected", "Connected Successfully")),
        sign_in: Some((json!({"action": "auth", "params": KEY}), status("auth_success", "authenticated"))),
        refusal: Refusal::Words(r#"[{"ev":"status","status":"auth_failed","message":"authentication failed"}]"#),
        subscribes: vec![(
            json!({"action": "subscribe", "params": "T.AAPL,Q.AAPL"}),
            vec![status("success", "subscribed to: T.AAPL"), status("success", "subscribed to: Q.AAPL")],
        )],
        frames: texts(&[quote, trade]),
        ticks: &["AAPL quote 80 @ 297.83 | 80 @ 297.86", "AAPL trade 40.0 @ 297.845"],
        later: texts(&[trade]),
        later_ticks: &["AAPL trade 40.0 @ 297.845"],
        throttling: Some(status("max_connections", "Maximum number of websocket connections exceeded. ")),
        garbage: json_garbage(),
    }
}

pub(crate) fn alpaca() -> Role {
    let trade = r#"[{"T":"t","S":"AAPL","i":628,"x":"K","p":162.92,"s":3,"c":["@","F","T","I"],"z":"C","t":"2023-04-06T11:54:26.838232225Z"}]"#;
    let quote = r#"[{"T":"q","S":"AMD","bx":"K","bp":91.95,"bs":2,"ax":"Q","ap":91.98,"as":1,"c":["R"],"z":"C","t":"2023-04-06T11:54:21.670905508Z"}]"#;
    Role {
        venue: Venue::Alpaca,
        symbols: &["AAPL", "AMD"],
        encoding: Encoding::Json,
        bars: false,
        query: "/",
        header: None,
        greeting: Some(text(r#"[{"T":"success","msg":"connected"}]"#)),
        sign_in: Some((
            json!({"action": "auth", "key": KEY, "secret": SECRET}),
            text(r#"[{"T":"success","msg":"authenticated"}]"#),
        )),
        refusal: Refusal::Words(r#"[{"T":"error","code":402,"msg":"auth failed"}]"#),
        subscribes: vec![(
            json!({"action": "subscribe", "trades": ["AAPL", "AMD"], "quotes": ["AAPL", "AMD"]}),
            texts(&[r#"[{"T":"subscription","trades":["AAPL","AMD"],"quotes":["AAPL","AMD"]}]"#]),
        )],
        frames: texts(&[trade, quote]),
        ticks: &["AAPL trade 3 @ 162.92", "AMD quote 2 @ 91.95 | 1 @ 91.98"],
        later: texts(&[trade]),
        later_ticks: &["AAPL trade 3 @ 162.92"],
        throttling: Some(text(r#"[{"T":"error","code":406,"msg":"connection limit exceeded"}]"#)),
        garbage: json_garbage(),
    }
}

/// The same in MessagePack, both ways.
pub(crate) fn alpaca_packed() -> Role {
    let packed = |words: Words| {
        let Words::Text(text) = words else { panic!("text") };
        let value: Value = serde_json::from_str(&text).unwrap();
        Words::Binary(rmp_serde::to_vec(&value).unwrap())
    };
    let role = alpaca();
    let unpacked = [
        r#"[{"T":"t","S":"AAPL","i":628,"x":"K","p":162.92,"s":3,"t":"2023-04-06T11:54:26.838232225Z"}]"#,
        r#"[{"T":"q","S":"AMD","bp":91.95,"bs":2,"ap":91.98,"as":1,"t":"2023-04-06T11:54:21.670905508Z"}]"#,
    ];
    Role {
        encoding: Encoding::MessagePack,
        header: Some(("content-type", "application/msgpack")),
        greeting: role.greeting.map(packed),
        sign_in: role.sign_in.map(|(said, answer)| (said, packed(answer))),
        subscribes: role
            .subscribes
            .into_iter()
            .map(|(said, answers)| (said, answers.into_iter().map(packed).collect()))
            .collect(),
        // The text of the time becomes the extension that MessagePack has for times.
        frames: unpacked.map(timestamped).into(),
        later: vec![timestamped(unpacked[0])],
        throttling: role.throttling.map(packed),
        garbage: vec![Words::Binary(vec![]), Words::Binary(vec![0x91, 0x81]), Words::Binary(vec![0x81, 0, 0])],
        refusal: Refusal::Never,
        ..role
    }
}

/// A message in MessagePack whose `t` is a timestamp of 8 bytes: 30 bits of ns, 34 bits of s.
pub(crate) fn timestamped(text: &str) -> Words {
    let list: Vec<serde_json::Map<String, Value>> = serde_json::from_str(text).unwrap();
    let mut out = Vec::new();
    rmp::encode::write_array_len(&mut out, list.len() as u32).unwrap();
    for fields in &list {
        rmp::encode::write_map_len(&mut out, fields.len() as u32).unwrap();
        for (key, value) in fields {
            rmp::encode::write_str(&mut out, key).unwrap();
            match (key.as_str(), value) {
                ("t", Value::String(time)) => {
                    let ns = protocol::parse_rfc3339(time.as_bytes()).unwrap() as u64;
                    rmp::encode::write_ext_meta(&mut out, 8, -1).unwrap();
                    out.extend((((ns % 1_000_000_000) << 34) | (ns / 1_000_000_000)).to_be_bytes());
                }
                _ => out.extend(rmp_serde::to_vec(value).unwrap()),
            }
        }
    }
    Words::Binary(out)
}

pub(crate) fn finnhub() -> Role {
    let frame = r#"{"data":[{"c":["1","24"],"p":203.04,"s":"TSLA","t":1685567486393,"v":500},{"c":null,"p":95372.09,"s":"BINANCE:BTCUSDT","t":1768655932976,"v":0.00063}],"type":"trade"}"#;
    Role {
        venue: Venue::Finnhub,
        symbols: &["TSLA", "BTC/USDT"],
        encoding: Encoding::Json,
        bars: false,
        query: "/?token=K3Y-0001",
        header: None,
        greeting: None,
        sign_in: None,
        refusal: Refusal::Status("401 Unauthorized"),
        subscribes: vec![
            (json!({"type": "subscribe", "symbol": "TSLA"}), vec![]),
            (json!({"type": "subscribe", "symbol": "BINANCE:BTCUSDT"}), vec![]),
        ],
        frames: texts(&[r#"{"type":"ping"}"#, frame]),
        ticks: &["TSLA trade 500 @ 203.04", "BTC/USDT trade 0.00063 @ 95372.09"],
        later: texts(&[frame]),
        later_ticks: &["TSLA trade 500 @ 203.04", "BTC/USDT trade 0.00063 @ 95372.09"],
        throttling: None,
        garbage: json_garbage(),
    }
}

pub(crate) fn binance() -> Role {
    let trade = |id: u64| {
        text(&format!(
            r#"{{"stream":"btcusdt@trade","data":{{"e":"trade","E":1789295134226,"s":"BTCUSDT","t":{id},"p":"76745.19000000","q":"0.00065000","T":1789295134225,"m":false,"M":true}}}}"#
        ))
    };
    let quote = r#"{"stream":"btcusdt@bookTicker","data":{"u":499869768,"s":"BTCUSDT","b":"0.35210000","B":"672.00000000","a":"0.35260000","A":"3199.00000000"}}"#;
    Role {
        venue: Venue::Binance,
        symbols: &["BTC/USDT"],
        encoding: Encoding::Json,
        bars: false,
        query: "/stream",
        header: None,
        greeting: None,
        sign_in: None,
        refusal: Refusal::Never,
        subscribes: vec![(
            json!({"method": "SUBSCRIBE", "params": ["btcusdt@trade", "btcusdt@bookTicker"], "id": 1}),
            texts(&[r#"{"result":null,"id":1}"#]),
        )],
        frames: vec![trade(388_510), text(quote), trade(388_511)],
        ticks: &[
            "BTC/USDT trade 0.00065000 @ 76745.19000000",
            "BTC/USDT quote 672.00000000 @ 0.35210000 | 3199.00000000 @ 0.35260000",
            "BTC/USDT trade 0.00065000 @ 76745.19000000",
        ],
        later: vec![text(quote), trade(388_511), trade(388_513)],
        later_ticks: &["BTC/USDT gap 1", "BTC/USDT trade 0.00065000 @ 76745.19000000"],
        throttling: Some(text(r#"{"error":{"code":-1003,"msg":"Too many requests."},"id":1}"#)),
        garbage: json_garbage(),
    }
}

pub(crate) fn kraken() -> Role {
    let ack = |channel: &str| {
        text(&format!(
            r#"{{"method":"subscribe","result":{{"channel":"{channel}","snapshot":true,"symbol":"BTC/USD"}},"success":true,"time_in":"2026-08-16T23:37:04.849274Z","time_out":"2026-08-16T23:37:04.849309Z"}}"#
        ))
    };
    let trade = |kind: &str, id: u64| {
        text(&format!(
            r#"{{"channel":"trade","type":"{kind}","data":[{{"symbol":"BTC/USD","side":"buy","price":77313.3,"qty":0.0084064,"ord_type":"limit","trade_id":{id},"timestamp":"2026-09-13T20:52:59.976634Z"}}]}}"#
        ))
    };
    let ticker = r#"{"channel":"ticker","type":"update","data":[{"symbol":"BTC/USD","bid":62703.4,"bid_qty":0.0318498,"ask":62710.3,"ask_qty":0.00191335,"last":62702.9,"volume":1947.83637005,"vwap":63392.2,"low":62476.1,"high":64196.6,"change":-239.4,"change_pct":-0.38,"timestamp":"2026-07-08T05:24:41.204829Z"}]}"#;
    let subscribe = |params: Value, channel| (json!({"method": "subscribe", "params": params}), vec![ack(channel)]);
    Role {
        venue: Venue::Kraken,
        symbols: &["BTC/USD"],
        encoding: Encoding::Json,
        bars: false,
        query: "/v2",
        header: None,
        // Nobody waits for it.
        greeting: Some(text(
            r#"{"channel":"status","type":"update","data":[{"version":"2.0.10","system":"online","api_version":"v2","connection_id":3007355780899554854}]}"#,
        )),
        sign_in: None,
        refusal: Refusal::Never,
        subscribes: vec![
            subscribe(json!({"channel": "trade", "snapshot": true, "symbol": ["BTC/USD"]}), "trade"),
            subscribe(json!({"channel": "ticker", "event_trigger": "bbo", "symbol": ["BTC/USD"]}), "ticker"),
        ],
        frames: vec![
            text(r#"{"channel":"heartbeat"}"#),
            trade("snapshot", 107_612_613),
            trade("update", 107_612_614),
            text(ticker),
        ],
        ticks: &["BTC/USD trade 0.0084064 @ 77313.3", "BTC/USD quote 0.0318498 @ 62703.4 | 0.00191335 @ 62710.3"],
        later: vec![trade("snapshot", 107_612_617), trade("update", 107_612_618)],
        later_ticks: &["BTC/USD gap 3", "BTC/USD trade 0.0084064 @ 77313.3"],
        throttling: None,
        garbage: json_garbage(),
    }
}

/// A frame of Kite with one full packet: last trade, and one level a side.
pub(crate) fn kite_full(token: u32, price: i32, quantity: u32, time: u32) -> Words {
    let mut packet = vec![0u8; 184];
    let mut put = |at: usize, value: u32| packet[at..at + 4].copy_from_slice(&value.to_be_bytes());
    put(0, token);
    put(4, price as u32);
    put(8, quantity);
    put(44, time);
    put(60, time);
    // The best bid, and the best ask behind the five bids.
    for (at, quantity, price) in [(64, 5, price - 30), (64 + 5 * 12, 172, price)] {
        put(at, quantity);
        put(at + 4, price as u32);
    }
    Words::Binary([&[0, 1, 0, 184][..], &packet].concat())
}

pub(crate) fn kite() -> Role {
    Role {
        venue: Venue::Kite,
        symbols: &["408065=INFY"],
        encoding: Encoding::Json,
        bars: false,
        query: "/?api_key=K3Y-0001&access_token=S3CR3T-0002",
        header: Some(("x-kite-version", "3")),
        greeting: None,
        sign_in: None,
        refusal: Refusal::Status("403 Forbidden"),
        subscribes: vec![
            (json!({"a": "subscribe", "v": [408065]}), vec![]),
            (json!({"a": "mode", "v": ["full", [408065]]}), vec![]),
        ],
        frames: vec![
            Words::Binary(vec![0]),
            text(r#"{"type":"message","data":"hello"}"#),
            kite_full(408_065, 157_370, 7, 1_625_461_887),
        ],
        ticks: &["INFY trade 7 @ 1573.70", "INFY quote 5 @ 1573.40 | 172 @ 1573.70"],
        later: vec![kite_full(408_065, 157_375, 1, 1_625_461_888)],
        later_ticks: &["INFY trade 1 @ 1573.75", "INFY quote 5 @ 1573.45 | 172 @ 1573.75"],
        throttling: None,
        garbage: vec![Words::Binary(vec![0, 1, 0]), Words::Binary(vec![0, 2, 0, 8, 1]), text("{]"), text("garbage")],
    }
}

/// A candle of Kraken's; the minute is one of 14:00 UTC.
fn kraken_candle(minute: u32, close: &str) -> Words {
    text(&format!(
        r#"{{"channel":"ohlc","type":"update","timestamp":"2026-09-30T14:59:00Z","data":[{{"symbol":"BTC/USD","open":2,"high":3,"low":1,"close":{close},"trades":12,"volume":30.5,"vwap":2.5,"interval_begin":"2026-09-30T14:{minute:02}:00.000000000Z","interval":1,"timestamp":"2026-09-30T14:59:00Z"}}]}}"#
    ))
}

/// Venues whose bars are wanted too.
pub(crate) fn roles_with_bars() -> Vec<Role> {
    let status = |message: &str| text(&format!(r#"[{{"ev":"status","status":"success","message":"{message}"}}]"#));
    let aggregate = r#"[{"ev":"AM","sym":"AAPL","v":4989,"av":4332125,"op":75.98,"vw":78.0894,"o":78.1,"c":78.08,"h":78.125,"l":78.07,"a":76.8404,"z":62,"s":1788877020000,"e":1788877080000}]"#;
    let polygon = Role {
        bars: true,
        subscribes: vec![(
            json!({"action": "subscribe", "params": "T.AAPL,Q.AAPL,AM.AAPL"}),
            vec![status("subscribed to: T.AAPL"), status("subscribed to: Q.AAPL"), status("subscribed to: AM.AAPL")],
        )],
        frames: texts(&[aggregate, aggregate]),
        ticks: &["AAPL 1m 78.08"],
        later: texts(&[aggregate, &aggregate.replace("78.08,", "78.09,")]),
        later_ticks: &["AAPL 1m 78.09"],
        ..polygon()
    };
    let bar = |kind: &str, close: &str, time: &str| {
        text(&format!(
            r#"[{{"T":"{kind}","S":"AMD","o":91,"h":93,"l":90,"c":{close},"v":49378,"n":461,"vw":91.5,"t":"2023-04-06T{time}:00Z"}}]"#
        ))
    };
    let both = json!(["AAPL", "AMD"]);
    let alpaca = Role {
        bars: true,
        subscribes: vec![(
            json!({
                "action": "subscribe", "trades": both, "quotes": both, "bars": both, "updatedBars": both, "dailyBars": both
            }),
            texts(&[r#"[{"T":"subscription","trades":["AAPL","AMD"],"bars":["AAPL","AMD"]}]"#]),
        )],
        frames: vec![bar("b", "91.5", "11:54"), bar("d", "92", "04:00"), bar("u", "91.75", "11:54")],
        ticks: &["AMD 1m 91.5", "AMD 1d 92 so far", "AMD 1m 91.75"],
        later: vec![bar("d", "92", "04:00"), bar("b", "92.5", "11:55")],
        later_ticks: &["AMD 1m 92.5"],
        ..alpaca()
    };
    let base = kraken();
    let channel = json!({"channel": "ohlc", "interval": 1, "snapshot": true, "symbol": ["BTC/USD"]});
    let acknowledged = text(
        r#"{"method":"subscribe","result":{"channel":"ohlc","interval":1,"snapshot":true,"symbol":"BTC/USD"},"success":true,"time_in":"2026-08-16T23:37:04.849274Z","time_out":"2026-08-16T23:37:04.849309Z"}"#,
    );
    let ohlc = (json!({"method": "subscribe", "params": channel}), vec![acknowledged]);
    let kraken = Role {
        bars: true,
        subscribes: base.subscribes.into_iter().chain([ohlc]).collect(),
        frames: vec![kraken_candle(1, "2"), kraken_candle(1, "3"), kraken_candle(2, "1")],
        ticks: &["BTC/USD 1m 2 so far", "BTC/USD 1m 3 so far", "BTC/USD 1m 3", "BTC/USD 1m 1 so far"],
        // The snapshot tells the rest of the minute that the cut came into.
        later: vec![kraken_candle(1, "3"), kraken_candle(2, "2.5"), kraken_candle(3, "2")],
        later_ticks: &["BTC/USD 1m 2.5 so far", "BTC/USD 1m 2.5", "BTC/USD 1m 2 so far"],
        ..kraken()
    };
    let candle = |n: u64, start: u64, close: &str| {
        text(&format!(
            r#"{{"channel":"candles","client_id":"","timestamp":"2026-04-07T14:30:05.000000Z","sequence_num":{n},"events":[{{"type":"update","candles":[{{"start":"{start}","high":"68950.00","low":"68850.00","open":"68900.00","close":"{close}","volume":"42.15000000","product_id":"ETH-USD"}}]}}]}}"#
        ))
    };
    let base = coinbase_advanced();
    let answer = text(
        r#"{"channel":"subscriptions","timestamp":"2026-09-07T23:37:22.278662782Z","sequence_num":3,"events":[{"subscriptions":{"candles":["ETH-USD"]}}]}"#,
    );
    let candles = (json!({"type": "subscribe", "product_ids": ["ETH-USD"], "channel": "candles"}), vec![answer]);
    let coinbase_advanced = Role {
        bars: true,
        subscribes: base.subscribes.into_iter().chain([candles]).collect(),
        frames: vec![candle(4, 1_775_571_900, "68900.00"), candle(5, 1_775_572_200, "68910.00")],
        ticks: &["ETH/USD 5m 68900.00"],
        // Of the last one nobody knows how it ended.
        later: vec![candle(4, 1_775_572_500, "68900.00"), candle(5, 1_775_572_800, "68910.00")],
        later_ticks: &["ETH/USD 5m 68900.00"],
        ..coinbase_advanced()
    };
    let kline = |start: u64, close: &str, closed: bool| {
        let end = start + 59_999;
        text(&format!(
            r#"{{"stream":"btcusdt@kline_1m","data":{{"e":"kline","E":{end},"s":"BTCUSDT","k":{{"t":{start},"T":{end},"s":"BTCUSDT","i":"1m","f":100,"L":200,"o":"2","c":"{close}","h":"3","l":"1","v":"1000","n":100,"x":{closed},"q":"1.0","V":"500","Q":"0.5","B":"0"}}}}}}"#
        ))
    };
    let streams = ["btcusdt@trade", "btcusdt@bookTicker", "btcusdt@kline_1m"];
    let binance = Role {
        bars: true,
        subscribes: vec![(
            json!({"method": "SUBSCRIBE", "params": streams, "id": 1}),
            texts(&[r#"{"result":null,"id":1}"#]),
        )],
        frames: vec![
            kline(1_789_295_100_000, "2", false),
            kline(1_789_295_100_000, "3", true),
            kline(1_789_295_160_000, "1", false),
        ],
        ticks: &["BTC/USDT 1m 2 so far", "BTC/USDT 1m 3", "BTC/USDT 1m 1 so far"],
        later: vec![kline(1_789_295_160_000, "2", true)],
        later_ticks: &["BTC/USDT 1m 2"],
        ..binance()
    };
    vec![coinbase_advanced, polygon, alpaca, binance, kraken]
}

pub(crate) fn roles() -> Vec<Role> {
    vec![coinbase(), coinbase_advanced(), polygon(), alpaca(), alpaca_packed(), finnhub(), binance(), kraken(), kite()]
}
