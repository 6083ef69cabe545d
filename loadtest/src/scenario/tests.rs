//! Tests of `scenario`.

use super::*;
use crate::orders::Basket;

const KINDS: [Kind; 11] = [
    Kind::Connect,
    Kind::Idle,
    Kind::Broadcast,
    Kind::Watchlist,
    Kind::Signals,
    Kind::Slow,
    Kind::Churn,
    Kind::Reconnect,
    Kind::Rights,
    Kind::Soak,
    Kind::FindMax,
];

#[test]
fn the_defaults_of_every_kind_are_a_scenario() {
    for kind in KINDS {
        let scenario = Wishes::default().resolve(kind);
        assert!(scenario.is_ok(), "{}: {scenario:?}", kind.name());
    }
    let watchlist = Wishes::default().resolve(Kind::Watchlist).unwrap();
    assert_eq!(watchlist.interest.symbols.len(), 500);
    assert_eq!((&*watchlist.interest.symbols[0], &*watchlist.interest.symbols[499]), ("BTC/USD", "SIM500/USD"));
    assert_eq!(watchlist.interest.basket, Basket::Drawn { each: 20, exponent: 1.0 });
}

#[test]
fn flags_win_over_the_file_and_the_file_over_the_defaults() {
    let file: Wishes = toml::from_str(
        "clients = 7\nduration = \"3s\"\nsymbols = 9\npid = [1, 2]\nchannel = [\"quotes\"]\n[thresholds]\nmax-p99 = \"20ms\"",
    )
    .unwrap();
    let flags = Wishes { clients: Some(8), symbol: vec!["eth/usd".to_owned()], ..Wishes::default() };
    let scenario = flags.or(file).resolve(Kind::Broadcast).unwrap();
    assert_eq!((scenario.clients, scenario.duration_ns), (8, 3_000_000_000));
    assert_eq!(scenario.interest.symbols, ["ETH/USD"]);
    assert_eq!(scenario.interest.channels, [ChannelName::Quotes]);
    assert_eq!(scenario.pids, [1, 2]);
    assert_eq!(scenario.thresholds.max_p99, Some(Nanos(20_000_000)));
    assert_eq!(scenario.ramp, 2_000.0);
}

#[test]
fn a_file_with_what_is_no_setting_names_the_key() {
    for (text, named) in [
        ("clinets = 7", "clinets"),
        ("clients = \"many\"", "clients"),
        ("duration = \"soon\"", "soon"),
        ("[thresholds]\nmax-p98 = \"1s\"", "max-p98"),
        ("channel = [\"news\"]", "news"),
        ("secret = \"x\"", "secret"),
    ] {
        let error = toml::from_str::<Wishes>(text).unwrap_err().to_string();
        assert!(error.contains(named), "{text}: {error}");
    }
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    let check = |kind: Kind, wishes: Wishes, named: &str| {
        let error = wishes.resolve(kind).expect_err(named).to_string();
        assert!(error.starts_with(named), "{error}");
    };
    let wishes = Wishes::default;
    check(Kind::Broadcast, Wishes { clients: Some(0), ..wishes() }, "clients = 0");
    check(Kind::Broadcast, Wishes { duration: Some(Nanos(0)), ..wishes() }, "duration = 0");
    check(Kind::Broadcast, Wishes { ramp: Some(0.0), ..wishes() }, "ramp = 0");
    check(Kind::Broadcast, Wishes { ramp: Some(f64::NAN), ..wishes() }, "ramp = NaN");
    check(Kind::Slow, Wishes { share: Some(1.5), ..wishes() }, "share = 1.5");
    check(Kind::Broadcast, Wishes { symbol: vec!["a b".to_owned()], ..wishes() }, "symbol = \"A B\"");
    check(Kind::Broadcast, Wishes { symbol: vec!["*".to_owned(), "A".to_owned()], ..wishes() }, "symbol = A");
    check(Kind::Churn, Wishes { symbol: vec!["*".to_owned()], ..wishes() }, "symbol = *");
    check(Kind::Watchlist, Wishes { symbols: Some(0), ..wishes() }, "symbols = 0");
    check(Kind::Watchlist, Wishes { zipf: Some(-1.0), ..wishes() }, "zipf = -1");
    check(Kind::Watchlist, Wishes { symbol_list: Some("no/such/file".to_owned()), ..wishes() }, "symbol-list");
    check(Kind::Rights, Wishes { users: Some(0), ..wishes() }, "users = 0");
    check(Kind::Rights, Wishes { users: Some(9), clients: Some(8), ..wishes() }, "users = 9");
    check(Kind::FindMax, Wishes { factor: Some(1.0), ..wishes() }, "factor = 1");
    check(Kind::FindMax, Wishes { highest: Some(1.0), ..wishes() }, "highest = 1");
    check(Kind::FindMax, Wishes { venue_listen: Some("here".to_owned()), ..wishes() }, "venue-listen");
    for pattern in ["S", "S{", "S{:3}", "S{:00}", "S{:0x}"] {
        let pattern = Some(pattern.to_owned());
        check(Kind::Watchlist, Wishes { symbol_pattern: pattern, symbols: Some(3), ..wishes() }, "symbol-pattern");
    }
}

#[test]
fn names_are_made_by_pattern() {
    let names = |pattern: &str| {
        let wishes = Wishes { symbol_pattern: Some(pattern.to_owned()), symbols: Some(12), ..Wishes::default() };
        wishes.resolve(Kind::Watchlist).unwrap().interest.symbols
    };
    assert_eq!(names("S{:03}/USD")[6], "S007/USD");
    assert_eq!(names("s{}")[11], "S12");
}
