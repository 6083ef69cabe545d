//! Alpaca market data v2: <https://docs.alpaca.markets/docs/streaming-market-data>.
//!
//! Trades and quotes. The venue greets, then takes key and secret (within 10 s), then subscriptions. It has no
//! heartbeat: our pings show that the line lives. In MessagePack, asked for by a header, we write what its own clients
//! write: the same maps, in binary messages. One connection for an account and feed, refused to the second one as too
//! many. Symbols stand as they are; crypto has an address of its own, to be set.

use std::time::Duration;

use crate::source::live_settings::{Encoding, LiveError, LiveSettings};
use crate::source::script::{
    Answers, Opening, Pace, Renewal, Request, Script, SignOfLife, credentials, json_text, names, only_quotes, products,
    quoted, url,
};

/// Products in one subscribe message.
const BATCH: usize = 200;

const PRODUCTS_MAX: usize = 20_000;

/// The venue states no limit.
const PACE: Pace = Pace::per_second(5, 5);

pub(super) fn script(settings: &LiveSettings) -> Result<Script, LiveError> {
    only_quotes(settings)?;
    let products = products(settings, PRODUCTS_MAX, |symbol| Some(symbol.to_owned()))?;
    let (key, secret) = credentials(settings)?;
    let channels: &[&str] = match settings.bars {
        false => &["trades", "quotes"],
        true => &["trades", "quotes", "bars", "updatedBars", "dailyBars"],
    };
    let batches = products.chunks(BATCH).map(|batch| batch.iter().map(|p| p.name.as_str()).collect::<Vec<_>>());
    let (headers, sign_in, subscribes) = match settings.encoding {
        Encoding::Json => (
            Vec::new(),
            Request::Text(format!(r#"{{"action":"auth","key":{},"secret":{}}}"#, json_text(key), json_text(secret))),
            batches.map(|batch| subscribe(&batch, channels)).collect(),
        ),
        Encoding::MessagePack => (
            vec![("content-type", "application/msgpack".to_owned())],
            Packed::map(3).pair("action", "auth").pair("key", key).pair("secret", secret).request(),
            batches.map(|batch| subscribe_packed(&batch, channels)).collect(),
        ),
    };
    Ok(Script {
        url: url(settings, "wss://stream.data.alpaca.markets/v2/iex"),
        headers,
        opening: Opening::Venue,
        sign_in: Some(sign_in),
        subscribes,
        answers: Answers::Acknowledged,
        pace: PACE,
        ping: Some(Duration::from_secs(10)),
        life: SignOfLife::Traffic,
        lifetime: None,
        renewal: Renewal::Line,
        names: names(&products),
    })
}

fn subscribe(names: &[&str], channels: &[&str]) -> Request {
    let names = quoted(names.iter().copied());
    let lists: String = channels.iter().map(|channel| format!(r#","{channel}":[{names}]"#)).collect();
    Request::Text(format!(r#"{{"action":"subscribe"{lists}}}"#))
}

fn subscribe_packed(names: &[&str], channels: &[&str]) -> Request {
    // At most six pairs.
    let packed = Packed::map(1 + channels.len() as u8).pair("action", "subscribe");
    channels.iter().fold(packed, |packed, channel| packed.list(channel, names)).request()
}

/// A map in MessagePack, of texts and lists of texts: <https://github.com/msgpack/msgpack/blob/master/spec.md>.
struct Packed(Vec<u8>);

impl Packed {
    /// A map of `pairs` pairs, at most 15.
    fn map(pairs: u8) -> Packed {
        debug_assert!(pairs <= 15);
        Packed(vec![0x80 | pairs])
    }

    fn pair(mut self, key: &str, value: &str) -> Packed {
        self.text(key);
        self.text(value);
        self
    }

    /// At most `u16::MAX` texts: a batch has [`BATCH`].
    fn list(mut self, key: &str, values: &[&str]) -> Packed {
        debug_assert!(values.len() <= BATCH);
        self.text(key);
        self.0.push(0xdc);
        self.0.extend((values.len() as u16).to_be_bytes());
        for value in values {
            self.text(value);
        }
        self
    }

    fn text(&mut self, text: &str) {
        self.0.push(0xdb);
        self.0.extend((text.len() as u32).to_be_bytes());
        self.0.extend(text.as_bytes());
    }

    fn request(self) -> Request {
        Request::Binary(self.0)
    }
}
