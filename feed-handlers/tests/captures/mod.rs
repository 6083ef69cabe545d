//! Recorded frames, and events as lines of text, so that what a decoder says can be compared, digit for digit, with
//! what a test reads in the same frame by itself.
//!
//! The recordings are not part of the repository: `GATEWAY_CAPTURES` names the directory that holds them.

// Each test takes what it needs.
#![allow(dead_code)]

use std::path::{Path, PathBuf};

use feed_handlers::decode::event::{Age, Bar, Control, Event, Symbol, Top, Trade};

/// The directory of a venue's captures, or `None`, said aloud, where there is none.
pub(crate) fn directory(venue: &str) -> Option<PathBuf> {
    let Some(root) = std::env::var_os("GATEWAY_CAPTURES") else {
        println!("left out: GATEWAY_CAPTURES names no directory of captures");
        return None;
    };
    Some(Path::new(&root).join(venue))
}

/// The frames of a file that has one on each line.
pub(crate) fn lines(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// An event in one line: `trade AAPL id=143541 297.845 x 40.0 at 1781622376036000000`.
pub(crate) fn line(event: &Event<'_>) -> String {
    match event {
        Event::Trade(trade) => trade_line(trade),
        Event::Quote(quote) => {
            let (bid, ask) = (top(quote.bid), top(quote.ask));
            let (sequence, time) = (or_none(quote.sequence), or_none(quote.time));
            format!("quote {} seq={sequence} {bid} {ask} at {time}{}", symbol(quote.symbol), age(quote.age))
        }
        Event::Bar(bar) => bar_line(bar),
        Event::Heartbeat(heartbeat) => {
            let symbol = heartbeat.symbol.map_or("-".into(), symbol);
            format!("heartbeat {symbol} at {}", or_none(heartbeat.time))
        }
        Event::Control(control) => format!("control {}", control_line(control)),
        Event::Ignored { kind } => format!("ignored {}", text(kind)),
        Event::Invalid { symbol: name, part, reason } => {
            format!("invalid {} {part:?} {reason}", name.map_or("-".into(), symbol))
        }
        other => format!("{other:?}"),
    }
}

fn trade_line(trade: &Trade<'_>) -> String {
    let taker = trade.taker.map_or(String::new(), |taker| format!(" {taker:?}"));
    let (id, age) = (or_none(trade.id), age(trade.age));
    format!("trade {} id={id} {} x {}{taker} at {}{age}", symbol(trade.symbol), trade.price, trade.size, trade.time)
}

fn bar_line(bar: &Bar<'_>) -> String {
    let prices = format!("{} {} {} {}", bar.open, bar.high, bar.low, bar.close);
    let (vwap, trades) = (or_none(bar.vwap), or_none(bar.trades));
    let state = if bar.in_progress { " in progress" } else { "" };
    let (name, length, volume) = (symbol(bar.symbol), bar.interval_ns, bar.volume);
    format!("bar {name} {length} at {} {prices} volume {volume} vwap {vwap} trades {trades}{state}", bar.start)
}

fn control_line(control: &Control<'_>) -> String {
    match control {
        Control::Connected => "connected".into(),
        Control::Authenticated => "authenticated".into(),
        Control::Subscribed => "subscribed".into(),
        Control::AuthRefused { text: told } => format!("auth refused: {}", text(told)),
        Control::Error { text: told, detail } => format!("error: {} {}", text(told), text(detail)).trim_end().into(),
        Control::Throttled { text: told } => format!("throttled: {}", text(told)),
        Control::Closing => "closing".into(),
        Control::Note => "note".into(),
    }
}

fn symbol(symbol: Symbol<'_>) -> String {
    match symbol {
        Symbol::Text(name) => text(name),
        Symbol::Token(token) => format!("#{token}"),
    }
}

fn top(top: Option<Top>) -> String {
    top.map_or("-".into(), |top| format!("{}x{}", top.price, or_none(top.size)))
}

fn age(age: Age) -> &'static str {
    match age {
        Age::Live => "",
        Age::Old => " old",
    }
}

fn or_none(value: Option<impl ToString>) -> String {
    value.map_or("-".into(), |value| value.to_string())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
