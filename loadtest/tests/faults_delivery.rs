//! A server that loses, repeats, reorders or garbles messages is caught, with exactly as many as it did.
//!
//! The server counts what it does, the program counts what it sees, and the two must be equal; each test then says how many
//! that must have been, so that both being wrong alike would show.

mod support;

use protocol::CloseCode;
use support::cases::{BROADCAST, check, check_script, settings};
use support::{Deed, Framing, Settings};

/// Of 400 trades for each of 4 clients: those whose number ends in 50, 4 for each.
fn is_chosen(seq: u64) -> bool {
    seq % 100 == 50
}

fn on_chosen(deed: Deed) -> impl Fn(usize, u64) -> Deed + Send + Sync {
    move |_, seq| if is_chosen(seq) { deed.clone() } else { Deed::Send }
}

fn on(client: usize, at: u64, deed: Deed) -> impl Fn(usize, u64) -> Deed + Send + Sync {
    move |index, seq| if (index, seq) == (client, at) { deed.clone() } else { Deed::Send }
}

/// All framings and encodings that the protocol allows are read alike, and are no fault.
#[test]
fn a_server_without_fault_is_found_without_fault() {
    let check_framing = |encoding, framing| {
        let arguments: Vec<&str> = BROADCAST.into_iter().chain(["--encoding", encoding, "--max-gaps", "0"]).collect();
        let run = check(Settings { framing, ..settings() }, &arguments, 0);
        assert_eq!(run.count("messages"), 1_600, "{encoding} {framing:?}");
        assert_eq!((run.count("missing"), run.count("lost"), run.count("refused")), (0, 0, 0));
        assert_eq!(run.faults(), "");
    };
    // They mostly wait: all at once.
    std::thread::scope(|scope| {
        for encoding in ["json", "msgpack"] {
            for framing in [Framing::Single, Framing::Arrays, Framing::Fragments] {
                scope.spawn(move || check_framing(encoding, framing));
            }
        }
    });
}

#[test]
fn messages_that_never_come_are_missing() {
    let run = check_script(on_chosen(Deed::Skip), &[], 1);
    assert_eq!((run.count("missing"), run.count("messages")), (16, 1_584));
    assert!(run.faults().contains("BTC/USD"), "{}", run.faults());
}

#[test]
fn messages_that_never_come_are_missing_in_messagepack() {
    let run = check_script(on_chosen(Deed::Skip), &["--encoding", "msgpack"], 1);
    assert_eq!(run.count("missing"), 16);
}

#[test]
fn the_last_message_of_all_is_missed() {
    let run = check_script(|_, seq| if seq == 400 { Deed::Skip } else { Deed::Send }, &[], 1);
    assert_eq!(run.count("missing"), 4);
}

#[test]
fn a_message_that_one_client_lacks_is_missed() {
    assert_eq!(check_script(on(2, 123, Deed::Skip), &[], 1).count("missing"), 1);
}

#[test]
fn the_last_message_that_one_client_lacks_is_missed() {
    assert_eq!(check_script(on(2, 400, Deed::Skip), &[], 1).count("missing"), 1);
}

/// The connection stays, and nothing more comes over it: only what others have seen shows what that client lacks.
#[test]
fn a_client_that_is_forgotten_is_noticed() {
    let run = check_script(on(1, 201, Deed::Silence), &[], 1);
    assert_eq!((run.count("missing"), run.count("lost")), (200, 0));
}

#[test]
fn a_client_that_is_forgotten_from_the_first_message_on_is_noticed() {
    assert_eq!(check_script(on(1, 1, Deed::Silence), &[], 1).count("missing"), 400);
}

#[test]
fn messages_that_come_twice_are_duplicates() {
    let run = check_script(on_chosen(Deed::Twice), &[], 1);
    assert_eq!((run.count("duplicates"), run.count("missing")), (16, 0));
}

#[test]
fn messages_that_change_places_are_reordered_and_not_missing() {
    let run = check_script(on_chosen(Deed::Late), &[], 1);
    assert_eq!((run.count("reordered"), run.count("missing"), run.count("duplicates")), (16, 0, 0));
}

/// What the server owns up to is no silent loss; whether it is allowed is for the user to say.
#[test]
fn what_is_announced_as_a_gap_is_announced_and_not_missing() {
    let run = check_script(on_chosen(Deed::Announce), &[], 0);
    assert_eq!((run.count("announced"), run.count("missing")), (16, 0));
    let run = check_script(on_chosen(Deed::Announce), &["--max-gaps", "15"], 1);
    assert_eq!(run.count("announced"), 16);
    check_script(on_chosen(Deed::Announce), &["--max-gaps", "16"], 0);
}

#[test]
fn a_gap_of_the_venue_is_announced() {
    let run = check_script(on_chosen(Deed::VenueGap(5)), &[], 0);
    assert_eq!((run.count("announced"), run.count("missing")), (80, 0));
}

#[test]
fn broken_json_is_malformed() {
    let broken = br#"[{"T":"t","S":"BTC/USD","seq":"#;
    let run = check_script(on_chosen(Deed::Instead(broken.to_vec())), &[], 1);
    assert_eq!((run.count("malformed"), run.count("missing")), (16, 16));
    let run = check_script(on_chosen(Deed::Besides(br#"{"T":"t"}"#.to_vec())), &["--max-malformed", "16"], 0);
    assert_eq!((run.count("malformed"), run.count("missing")), (16, 0));
}

/// Such a message has everything that numbering and timing need: only the check of its fields finds it.
#[test]
fn fields_of_the_wrong_type_are_malformed() {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
    for wrong in [r#""i":"7","x":"COINBASE","p":1.5"#, r#""i":7,"x":3,"p":1.5"#, r#""i":7,"x":"COINBASE","p":"1.5""#] {
        let script = move |_: usize, seq: u64| {
            let trade = format!(
                r#"[{{"T":"t","S":"BTC/USD",{wrong},"s":1,"tks":"B","t":"2026-01-01T00:00:00Z","rx":{now},"seq":{seq}}}]"#
            );
            if is_chosen(seq) { Deed::Instead(trade.into_bytes()) } else { Deed::Send }
        };
        let run = check_script(script, &["--check-every", "1"], 1);
        assert_eq!(run.count("malformed"), 16, "{wrong}");
    }
}

/// The numbering begins anew without a new epoch: the old numbers come again, and the new ones never.
#[test]
fn a_numbering_that_begins_anew_is_no_numbering() {
    let script = |_, seq| if seq > 200 { Deed::Numbered(seq - 200) } else { Deed::Send };
    let arguments: Vec<&str> = BROADCAST.to_vec();
    let server = support::Server::start(Settings { script: Box::new(script), ..settings() });
    let run = support::run(&server, &arguments);
    assert_eq!(run.status, Some(1), "{run:#?}");
    assert_eq!((run.count("messages"), run.count("duplicates"), run.count("missing")), (1_600, 800, 800));
}

#[test]
fn a_connection_that_the_server_ends_is_lost() {
    let run = check_script(on(3, 200, Deed::Cut), &[], 1);
    assert_eq!(run.count("lost"), 1);
    let run = check_script(on(3, 200, Deed::Close(CloseCode::GoingAway)), &[], 1);
    assert_eq!((run.count("lost"), run.count_of("closes", 1001)), (1, 1));
    check_script(on(3, 200, Deed::Cut), &["--max-lost", "1"], 0);
}
