//! What the messages of a FIX 4.4 session say to whoever keeps it: numbers, requests, refusals.
//!
//! Pure, and without allocation. A message is read here beside [`super::fix::decode`], which tells the feed what is in it.
//! Of market data (35=W, 35=X) only the fields in front of the first entry are read. Deliberately absent: the session.

use std::ops::Range;

use super::fix_fields::{Fields, fields, integer};
use super::{DecodeError, Reason, field};

/// The fields by which a session is kept. Fields that the message does not have are `None`, or empty or false where that
/// means the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionMessage<'a> {
    /// MsgType (35).
    pub kind: &'a [u8],
    /// SenderCompID (49).
    pub sender: &'a [u8],
    /// TargetCompID (56).
    pub target: &'a [u8],
    /// MsgSeqNum (34).
    pub number: u64,
    /// Whether it is sent again, under the number that it had (43=Y).
    pub is_resent: bool,
    /// Text (58).
    pub text: &'a [u8],
    /// TestReqID (112).
    pub test_request: Option<&'a [u8]>,
    /// HeartBtInt (108), seconds.
    pub heartbeat: Option<u64>,
    /// Whether both sides are to count from 1 again (141=Y).
    pub resets_numbers: bool,
    /// BeginSeqNo and EndSeqNo (7, 16): the first and the last message that is to be sent again; 0 for all from the first.
    pub begin: Option<u64>,
    pub end: Option<u64>,
    /// NewSeqNo (36): the number that follows.
    pub new_number: Option<u64>,
    /// Whether the numbers up to the new one belong to messages that are not sent again (123=Y).
    pub fills_gap: bool,
    /// RefSeqNum (45): the number of our message that is refused.
    pub refused_number: Option<u64>,
    /// RefMsgType (372), the type of it.
    pub refused_kind: &'a [u8],
    /// MDReqID (262).
    pub request: &'a [u8],
    /// SessionRejectReason, BusinessRejectReason or MDReqRejReason (373, 380, 281), as the type of the message has it.
    pub refusal_reason: &'a [u8],
}

impl<'a> SessionMessage<'a> {
    /// Reads one message, which [`super::fix::frame_end`] cut off the stream. Never panics, whatever the bytes.
    ///
    /// # Errors
    /// [`DecodeError`] where it is no message, its length or checksum does not hold, it has no number, or what it says of
    /// the session cannot be read. FIX has such messages ignored, numbers and all.
    pub fn read(frame: &'a [u8]) -> Result<SessionMessage<'a>, DecodeError> {
        let mut fields = fields(frame)?;
        let kind = match fields.next()? {
            Some(first) if first.tag == 35 => first.value,
            _ => return Err(DecodeError::Missing { field: "MsgType" }),
        };
        let mut message = SessionMessage { kind, ..SessionMessage::default() };
        message.read_fields(&mut fields)?;
        let needed = |is_there: bool, field| if is_there { Ok(()) } else { Err(DecodeError::Missing { field }) };
        needed(message.number > 0, "MsgSeqNum")?;
        match kind {
            b"1" => needed(message.test_request.is_some(), "TestReqID")?,
            b"2" => needed(message.begin.is_some() && message.end.is_some(), "BeginSeqNo or EndSeqNo")?,
            b"4" => needed(message.new_number.is_some(), "NewSeqNo")?,
            _ => {}
        }
        Ok(message)
    }

    /// Whether it is a snapshot or an increment.
    pub fn is_market_data(&self) -> bool {
        matches!(self.kind, b"W" | b"X")
    }

    fn read_fields(&mut self, fields: &mut Fields<'a>) -> Result<(), DecodeError> {
        while let Some(next) = fields.next()? {
            let value = next.value;
            let number = |field| field::optional(integer(Some(value)), field);
            match next.tag {
                268 if self.is_market_data() => return Ok(()),
                34 => self.number = number("MsgSeqNum")?.unwrap_or_default(),
                49 => self.sender = value,
                56 => self.target = value,
                43 => self.is_resent = flag(value, "PossDupFlag")?,
                58 => self.text = value,
                112 => self.test_request = Some(value),
                108 => self.heartbeat = number("HeartBtInt")?,
                141 => self.resets_numbers = flag(value, "ResetSeqNumFlag")?,
                7 => self.begin = number("BeginSeqNo")?,
                16 => self.end = number("EndSeqNo")?,
                36 => self.new_number = number("NewSeqNo")?.filter(|number| *number > 0),
                123 => self.fills_gap = flag(value, "GapFillFlag")?,
                45 => self.refused_number = number("RefSeqNum")?,
                372 => self.refused_kind = value,
                262 => self.request = value,
                281 | 373 | 380 => self.refusal_reason = value,
                _ => {}
            }
        }
        Ok(())
    }
}

fn flag(value: &[u8], field: &'static str) -> Result<bool, DecodeError> {
    match value {
        b"Y" => Ok(true),
        b"N" => Ok(false),
        _ => Err(DecodeError::Field { field, reason: Reason::FieldType }),
    }
}

/// Texts in a message in which somebody may repeat what signs in: Text, RawData, Headline, EncodedText, Username, Password
/// and NewPassword. No other field does, and none of these is needed to follow the session.
const TEXT_TAGS: [u32; 7] = [58, 96, 148, 355, 553, 554, 925];

/// Where in a message the values of its texts are, as far as it can be read.
pub(crate) fn text_ranges(frame: &[u8]) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let Ok(mut fields) = fields(frame) else { return ranges };
    while let Ok(Some(field)) = fields.next() {
        if TEXT_TAGS.contains(&field.tag) {
            let end = fields.offset() - 1;
            ranges.push(end - field.value.len()..end);
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(fields: &str) -> Vec<u8> {
        let body = fields.replace('|', "\x01");
        let mut frame = format!("8=FIX.4.4\x019={}\x01{body}", body.len()).into_bytes();
        let sum: u32 = frame.iter().map(|byte| u32::from(*byte)).sum();
        frame.extend_from_slice(format!("10={:03}\x01", sum % 256).as_bytes());
        frame
    }

    #[track_caller]
    fn check(kind: &'static str, fields: &str, expected: SessionMessage<'_>) {
        let frame = message(&format!("35={kind}|49=V|56=US|34=7|52=20241019-05:40:11.466|{fields}"));
        let expected = SessionMessage { kind: kind.as_bytes(), sender: b"V", target: b"US", number: 7, ..expected };
        assert_eq!(SessionMessage::read(&frame), Ok(expected));
    }

    #[test]
    fn reads_what_a_session_is_kept_by() {
        let nothing = SessionMessage::default();
        check("0", "112=T1|", SessionMessage { test_request: Some(b"T1"), ..nothing });
        check("1", "112=T1|43=Y|", SessionMessage { test_request: Some(b"T1"), is_resent: true, ..nothing });
        check("2", "7=3|16=0|", SessionMessage { begin: Some(3), end: Some(0), ..nothing });
        check(
            "3",
            "45=2|372=V|373=5|58=No|",
            SessionMessage {
                refused_number: Some(2),
                refused_kind: b"V",
                refusal_reason: b"5",
                text: b"No",
                ..nothing
            },
        );
        check("4", "123=Y|36=9|", SessionMessage { fills_gap: true, new_number: Some(9), ..nothing });
        check("5", "58=Bye|", SessionMessage { text: b"Bye", ..nothing });
        check("A", "98=0|108=30|141=Y|", SessionMessage { heartbeat: Some(30), resets_numbers: true, ..nothing });
        check("Y", "262=Q0-1|281=0|", SessionMessage { request: b"Q0-1", refusal_reason: b"0", ..nothing });
        // What is in its entries is for the decoder.
        check("X", "262=Q0-1|268=1|279=0|58=No|", SessionMessage { request: b"Q0-1", ..nothing });
    }

    #[test]
    fn what_cannot_be_followed_is_refused() {
        let check = |fields: &str, expected: &str| {
            let refused = SessionMessage::read(&message(fields)).expect_err(fields);
            assert_eq!(refused.to_string(), expected, "{fields}");
        };
        check("35=0|49=V|", "field `MsgSeqNum` is missing");
        check("35=0|34=0|", "field `MsgSeqNum` is missing");
        check("35=0|34=-1|", "field `MsgSeqNum` is invalid (number)");
        check("34=7|35=0|", "field `MsgType` is missing");
        check("35=1|34=7|", "field `TestReqID` is missing");
        check("35=2|34=7|7=1|", "field `BeginSeqNo or EndSeqNo` is missing");
        check("35=4|34=7|123=Y|36=0|", "field `NewSeqNo` is missing");
        check("35=4|34=7|123=J|36=9|", "field `GapFillFlag` is invalid (field_type)");
        let mut cut = message("35=0|34=7|");
        cut.pop();
        assert!(SessionMessage::read(&cut).is_err());
    }

    #[test]
    fn texts_are_where_secrets_may_be() {
        let frame = message("35=3|34=7|58=a K3Y|262=K3Y|95=3|96=K\x01Y|554=K3Y|");
        let texts: Vec<_> =
            text_ranges(&frame).into_iter().map(|range| frame[range].escape_ascii().to_string()).collect();
        assert_eq!(texts, ["a K3Y", "K\\x01Y", "K3Y"]);
        assert!(text_ranges(b"garbage").is_empty());
    }
}
