//! The source over TLS, and what it shows of a password that the venue repeats. All else of it is tried from outside, in
//! `tests/live_fix.rs`.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::message::{framed, shown};
use super::*;

fn settings(url: &str) -> FixSettings {
    let base = FixSettings::new(url, "US", "VENUE", vec!["EUR/USD".into()]);
    FixSettings { password: Some(Secret::new("P4SS")), ..base }
}

#[tokio::test]
async fn over_tls_the_venue_has_to_be_vouched_for() {
    let (acceptor, tls) = tls::local_server();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let settings = settings(&format!("fixs://localhost:{}", listener.local_addr().unwrap().port()));

    let unknown = FixLive::new(&settings).unwrap();
    let accept = async || acceptor.accept(listener.accept().await.unwrap().0).await;
    let (refused, accepted) = tokio::join!(unknown.connect(), accept());
    assert!(matches!(refused, Err(LineEnd::NotConnected(DialError::NoTls { .. }))) && accepted.is_err());

    let known = FixLive::with_tls(&settings, || Ok(tls)).unwrap();
    let (line, accepted) = tokio::join!(known.connect(), accept());
    let (mut line, mut accepted) = (line.unwrap(), accepted.unwrap());
    known.say(b"8=FIX.4.4\x01", &mut line).await.unwrap();
    let mut said = [0; 10];
    accepted.read_exact(&mut said).await.unwrap();
    assert_eq!(&said, b"8=FIX.4.4\x01");
    accepted.write_all(b"9=5").await.unwrap();
    accepted.flush().await.unwrap();
    assert_eq!(line.read_u8().await.unwrap(), b'9');
}

#[test]
fn a_password_in_a_text_is_masked_and_the_message_still_whole() {
    let live = FixLive::new(&settings("fix://localhost:1")).unwrap();
    let check = |fields: &str, expected: &str| {
        let frame = framed(fields.replace('|', "\x01").as_bytes());
        let masked = live.without_secrets(&frame, &SessionMessage::read(&frame).unwrap()).into_owned();
        assert!(SessionMessage::read(&masked).is_ok(), "{}", shown(&masked));
        assert!(shown(&masked).contains(expected), "{}", shown(&masked));
    };
    check("35=5|34=2|58=Wrong password P4SS for US|", "|58=Wrong password **** for US|10=");
    check("35=5|34=2|58=Bye|", "|58=Bye|10=");
    // Elsewhere it is no password.
    check("35=5|34=2|49=P4SS|", "|49=P4SS|10=");
    check("35=W|34=2|58=P4SS|268=0|", "|58=P4SS|268=0|10=");
}
