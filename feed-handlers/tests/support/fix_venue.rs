//! A venue of one's own over FIX: the accepting side of a session on this machine, with framing of its own. The test says
//! its messages, in which `|` stands for SOH.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::support::PATIENCE;

pub(crate) struct FixVenue(TcpListener);

impl FixVenue {
    pub(crate) async fn open() -> FixVenue {
        FixVenue(TcpListener::bind("127.0.0.1:0").await.expect("a port"))
    }

    pub(crate) fn url(&self) -> String {
        format!("fix://{}", self.0.local_addr().expect("bound"))
    }

    /// The next connection.
    pub(crate) async fn accept(&self) -> Counterparty {
        let (socket, _) = timeout(PATIENCE, self.0.accept()).await.expect("the client comes").expect("accept");
        socket.set_nodelay(true).expect("no delay");
        Counterparty { socket, next: 1, expected: 1 }
    }

    /// The next connection, once it has signed in and asked for as much.
    pub(crate) async fn accept_session(&self, requests: usize) -> (Counterparty, Vec<Heard>) {
        let mut line = self.accept().await;
        let logon = line.hear("A").await;
        line.say("A", &format!("98=0|108={}|141=Y|", logon.field(108))).await;
        let mut asked = Vec::new();
        for _ in 0..requests {
            asked.push(line.hear("V").await);
        }
        (line, asked)
    }

    /// Whether nobody comes within `time`.
    pub(crate) async fn nobody_comes_for(&self, time: Duration) -> bool {
        timeout(time, self.0.accept()).await.is_err()
    }
}

/// A message of the client's, in which everything is as it must be.
#[derive(Debug)]
pub(crate) struct Heard {
    pub(crate) number: u64,
    pub(crate) fields: Vec<(u32, String)>,
}

impl Heard {
    #[track_caller]
    pub(crate) fn field(&self, tag: u32) -> &str {
        self.find(tag).unwrap_or_else(|| panic!("no {tag} in {:?}", self.fields))
    }

    pub(crate) fn find(&self, tag: u32) -> Option<&str> {
        self.fields.iter().find(|(known, _)| *known == tag).map(|(_, value)| value.as_str())
    }

    pub(crate) fn all(&self, tag: u32) -> Vec<&str> {
        self.fields.iter().filter(|(known, _)| *known == tag).map(|(_, value)| value.as_str()).collect()
    }
}

/// The venue's end of a session.
pub(crate) struct Counterparty {
    socket: TcpStream,
    /// The number of the next message.
    pub(crate) next: u64,
    /// That of the client's.
    pub(crate) expected: u64,
}

/// A message with a length and checksum that hold. `fields` from the type on.
pub(crate) fn framed(fields: &str) -> Vec<u8> {
    let body = fields.replace('|', "\x01");
    let mut frame = format!("8=FIX.4.4\x019={}\x01{body}", body.len()).into_bytes();
    let sum: u32 = frame.iter().map(|byte| u32::from(*byte)).sum();
    frame.extend_from_slice(format!("10={:03}\x01", sum % 256).as_bytes());
    frame
}

impl Counterparty {
    /// A message as the next in number.
    pub(crate) async fn say(&mut self, kind: &str, fields: &str) {
        self.say_as(self.next, kind, fields).await;
        self.next += 1;
    }

    /// A message of any number.
    pub(crate) async fn say_as(&mut self, number: u64, kind: &str, fields: &str) {
        self.raw(&message(number, kind, fields)).await;
    }

    pub(crate) async fn raw(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).await.expect("write");
    }

    /// The client's next message but for heartbeats, which must be of this type.
    #[track_caller]
    pub(crate) fn hear(&mut self, kind: &'static str) -> impl Future<Output = Heard> + '_ {
        let caller = std::panic::Location::caller();
        async move {
            loop {
                let heard = timeout(PATIENCE, self.read()).await.expect("a message").expect("a message");
                let found = heard.field(35);
                if found == "0" && kind != "0" {
                    continue;
                }
                assert_eq!(found, kind, "{heard:?} at {caller}");
                return heard;
            }
        }
    }

    /// The client's next message; `None` where it ends the connection.
    async fn read(&mut self) -> Option<Heard> {
        let mut bytes = Vec::new();
        // The checksum is the one field that begins so.
        while !(bytes.ends_with(b"\x01")
            && bytes.len() > 7
            && bytes[..bytes.len() - 7].ends_with(b"\x01")
            && bytes[bytes.len() - 7..].starts_with(b"10="))
        {
            bytes.push(self.socket.read_u8().await.ok()?);
        }
        let text = String::from_utf8(bytes).expect("text");
        let field = |field: &str| {
            let (tag, value) = field.split_once('=').expect("a field");
            (tag.parse().expect("a tag"), value.to_owned())
        };
        let fields: Vec<(u32, String)> = text.trim_end_matches('\x01').split('\x01').map(field).collect();
        let body = fields[2..fields.len() - 1].iter().map(|(tag, value)| format!("{tag}={value}|")).collect::<String>();
        assert_eq!(framed(&body), text.as_bytes(), "length and checksum");
        assert_eq!((fields[0].1.as_str(), fields[2].0), ("FIX.4.4", 35));
        let number = fields.iter().find(|(tag, _)| *tag == 34).expect("a number").1.parse().expect("a number");
        let heard = Heard { number, fields };
        assert_eq!([heard.field(49), heard.field(56)], ["US", "VENUE"]);
        assert_eq!(heard.field(52).len(), "20241019-05:40:11.466".len());
        if heard.find(43) != Some("Y") {
            assert_eq!(number, self.expected, "the numbers of messages");
            self.expected += 1;
        }
        Some(heard)
    }

    /// Waits until the client ends the connection.
    pub(crate) async fn ended(mut self) {
        let ended = async { while self.read().await.is_some() {} };
        timeout(PATIENCE, ended).await.expect("the client ends the connection");
    }

    /// Ends the connection with a reset; what is on its way is lost.
    pub(crate) fn reset(self) {
        self.socket.set_zero_linger().expect("linger");
    }
}

/// A message of the venue's.
pub(crate) fn message(number: u64, kind: &str, fields: &str) -> Vec<u8> {
    framed(&format!("35={kind}|49=VENUE|56=US|34={number}|52=20261019-05:40:11.466|{fields}"))
}
