//! The FIX 4.4 messages that we send: their bytes, and how they are shown without what signs in.
//!
//! Pure. Deliberately absent: what is said when, which is for [`super::session`].

use std::fmt::{Display, Write};

use protocol::format_rfc3339;

use crate::decode::fix;

const SOH: char = '\x01';

/// Name or API key, password, signature and new password: what a log does not show.
const SECRET_TAGS: [&str; 4] = ["553=", "554=", "96=", "925="];

/// Fields of a message, in the order in which they are said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fields(String);

impl Fields {
    /// With another field. `value` holds no SOH.
    pub(super) fn with(mut self, tag: u32, value: impl Display) -> Fields {
        // Writing to a text cannot fail.
        let _ = write!(self.0, "{tag}={value}{SOH}");
        self
    }

    pub(super) fn with_some(self, tag: u32, value: Option<impl Display>) -> Fields {
        match value {
            Some(value) => self.with(tag, value),
            None => self,
        }
    }
}

/// What stands in front of a message's own fields.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header<'a> {
    /// MsgType (35).
    pub(super) kind: &'a str,
    /// SenderCompID and TargetCompID (49, 56).
    pub(super) sender: &'a str,
    pub(super) target: &'a str,
    /// MsgSeqNum (34).
    pub(super) number: u64,
    /// Whether it stands in the place of one that was sent before (43).
    pub(super) is_resent: bool,
    /// SendingTime (52), as [`sending_time`] writes it.
    pub(super) sent: &'a str,
}

/// A whole message.
pub(super) fn message(header: &Header<'_>, fields: &Fields) -> Vec<u8> {
    let Header { kind, sender, target, number, is_resent, sent } = *header;
    let mut head = Fields::default().with(35, kind).with(49, sender).with(56, target).with(34, number).with(52, sent);
    if is_resent {
        // When it was sent first is not known any more; it was not later.
        head = head.with(43, 'Y').with(122, sent);
    }
    framed((head.0 + &fields.0).as_bytes())
}

/// `body` with its length in front of it and the checksum behind it.
pub(super) fn framed(body: &[u8]) -> Vec<u8> {
    let mut frame = [fix::BEGIN, body.len().to_string().as_bytes(), b"\x01", body].concat();
    let trailer = trailer(&frame);
    frame.extend_from_slice(trailer.as_bytes());
    frame
}

/// `10=`, three digits, SOH.
pub(super) const TRAILER_BYTES: usize = 7;

/// The checksum field of a message without it.
pub(super) fn trailer(summed: &[u8]) -> String {
    let sum = summed.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    format!("10={sum:03}{SOH}")
}

/// `20241019-05:40:11.466`, in UTC, for Unix ns.
pub(super) fn sending_time(unix_ns: i64) -> String {
    let (seconds, ms) = (unix_ns.div_euclid(1_000_000_000), unix_ns.rem_euclid(1_000_000_000) / 1_000_000);
    let mut text = Vec::with_capacity(20);
    format_rfc3339(seconds * 1_000_000_000, &mut text);
    // 2024-10-19T05:40:11Z
    let text = String::from_utf8_lossy(&text);
    format!("{}-{}.{ms:03}", text[..10].replace('-', ""), &text[11..19])
}

/// A message of ours as a line of text, `|` for SOH, without what signs in.
pub(super) fn shown(message: &[u8]) -> String {
    let text = String::from_utf8_lossy(message);
    let field = |field: &str| match SECRET_TAGS.into_iter().find(|tag| field.starts_with(tag)) {
        Some(tag) => format!("{tag}***"),
        None => field.to_owned(),
    };
    text.split(SOH).map(field).collect::<Vec<_>>().join("|")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_checksums_are_those_of_a_recorded_message() {
        let recorded = "8=FIX.4.4|9=163|35=W|34=136232|49=XCT1|52=20200603-12:00:00.106|56=Q004|55=EUR/USD|262=0|268=2|269=0|270=1.11941|271=1000000|299=0|106=1|269=1|270=1.11944|271=1000000|299=0|106=1|10=240|";
        let body = &recorded["8=FIX.4.4|9=163|".len()..recorded.len() - TRAILER_BYTES];
        assert_eq!(shown(&framed(body.replace('|', "\x01").as_bytes())), recorded);
    }

    #[test]
    fn fields_stand_behind_the_header() {
        let header = Header {
            kind: "V",
            sender: "US",
            target: "VENUE",
            number: 4,
            is_resent: false,
            sent: "20241122-06:17:14.183",
        };
        let check = |header: &Header<'_>, fields: Fields, expected: &str| {
            let message = message(header, &fields);
            assert_eq!(fix::frame_end(&message), Ok(Some(message.len())));
            let shown = shown(&message);
            let (_, found) = shown.split_once("|35=").unwrap();
            assert_eq!(found.split_once("|10=").unwrap().0, expected);
        };
        let fields =
            Fields::default().with(146, 1).with(55, "EUR/USD").with_some(1, None::<u8>).with_some(2, Some("x"));
        check(&header, fields, "V|49=US|56=VENUE|34=4|52=20241122-06:17:14.183|146=1|55=EUR/USD|2=x");
        let (header, fields) = (Header { is_resent: true, ..header }, Fields::default().with(36, 9));
        let twice = "V|49=US|56=VENUE|34=4|52=20241122-06:17:14.183|43=Y|122=20241122-06:17:14.183|36=9";
        check(&header, fields, twice);
    }

    #[test]
    fn times_are_in_utc_with_ms() {
        let check = |unix_ns, expected| assert_eq!(sending_time(unix_ns), expected);
        check(0, "19700101-00:00:00.000");
        check(1_729_316_411_466_313_000, "20241019-05:40:11.466");
        check(1_729_316_411_000_999_999, "20241019-05:40:11.000");
    }

    #[test]
    fn what_signs_in_is_not_shown() {
        let fields = Fields::default().with(553, "me").with(554, "P4SS").with(95, 3).with(96, "S1G").with(925, "N3W");
        let shown = shown(&framed(fields.0.as_bytes()));
        assert!(shown.contains("|553=***|554=***|95=3|96=***|925=***|10="), "{shown}");
    }
}
