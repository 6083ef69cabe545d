//! Zerodha Kite's ticker (NSE, BSE, MCX): binary frames of packets, and the text frames among them.
//!
//! Pure, any thread. A packet is a state that the server sends about once a second and instrument, not an event:
//! - A full packet gives the last trade, without a number, and the best of its five levels a side. The trade is the
//!   same in each packet until the next one happens, and trades between two packets are never seen; only the growth of
//!   [`Summary::volume`] tells how much was traded.
//! - Packets of the modes `ltp` and `quote` hold a price without a time. Nobody can say whether it is of now or of
//!   yesterday, so they are [`Event::Ignored`]; whoever wants ticks subscribes in the mode `full`.
//! - An index has a value that nobody can trade, so its packets are ignored too.
//!
//! [`packets`] gives all the fields of all of them. Deliberately absent: names, which only the venue's daily list of
//! instruments tells ([`Symbol::Token`]), and levels beyond the best.
//!
//! Layouts: <https://kite.trade/docs/connect/v3/websocket>; prices are signed, order counts are 16 bits wide and
//! followed by padding, as the venue's own clients read them.

use protocol::{Decimal, Side};

use super::event::{Age, Control, Event, Heartbeat, Part, Quote, Symbol, Top, Trade};
use super::field::{shown, text};
use super::framed::{Packed, chunk, i32_at, u16_at, u32_at};
use super::json::members;
use super::{DecodeError, Reason};

const NANOS_PER_SECOND: i64 = 1_000_000_000;
/// The part of the market that an instrument is of, in the low byte of its token.
const SEGMENT_CURRENCY: u8 = 3;
const SEGMENT_CURRENCY_BSE: u8 = 6;
const SEGMENT_INDICES: u8 = 9;

/// Decodes a frame of either kind. A text frame begins with `{`; as the count of a binary one that would be more than
/// 31,000 packets, where a connection has 3,000 instruments at most.
///
/// # Errors
/// Those of [`decode_binary`] and [`decode_text`].
pub fn decode<'a>(frame: &'a [u8], on_event: &mut impl FnMut(Event<'a>)) -> Result<(), DecodeError> {
    match frame {
        [b'{', _, ..] => decode_text(frame, on_event),
        _ => decode_binary(frame, on_event),
    }
}

/// Decodes a binary frame. One of less than two bytes is the heartbeat, whatever is in it.
///
/// # Errors
/// [`DecodeError::Truncated`] or [`DecodeError::Framing`] where the packets do not fill the frame. No event has been
/// handed out then.
pub fn decode_binary<'a>(frame: &'a [u8], on_event: &mut impl FnMut(Event<'a>)) -> Result<(), DecodeError> {
    if frame.len() < 2 {
        on_event(Event::Heartbeat(Heartbeat { symbol: None, time: None }));
        return Ok(());
    }
    let packets = packed(frame)?;
    if frame.len() == 2 {
        on_event(Event::Ignored { kind: b"empty" });
    }
    for bytes in packets {
        match Packet::read(bytes) {
            Some(Packet::Full(full)) => {
                if let Some(trade) = full.trade() {
                    on_event(Event::Trade(trade));
                }
                on_event(Event::Quote(full.quote()));
            }
            Some(packet) => on_event(Event::Ignored { kind: packet.mode() }),
            None => on_event(Event::Invalid {
                symbol: bytes.first_chunk().map(|token| Symbol::Token(u32::from_be_bytes(*token))),
                part: Part::Message,
                reason: Reason::Length,
            }),
        }
    }
    Ok(())
}

members! {
    struct Message {
        kind: b"type",
        data: b"data",
    }
}

/// Decodes a text frame: `error`, `message` (a notice of the broker), or what concerns the account, which is ignored.
///
/// # Errors
/// [`DecodeError`] where it is no JSON object with a `type`.
pub fn decode_text<'a>(frame: &'a [u8], on_event: &mut impl FnMut(Event<'a>)) -> Result<(), DecodeError> {
    let message = Message::read(frame)?;
    on_event(match text(message.kind, "type")? {
        b"error" => Event::Control(Control::Error { text: shown(message.data), detail: b"" }),
        b"message" => Event::Control(Control::Note),
        kind => Event::Ignored { kind },
    });
    Ok(())
}

/// The packets of a binary frame of two bytes or more; `None` in place of one of a length that no packet of its
/// instrument has.
///
/// # Errors
/// [`DecodeError::Truncated`] or [`DecodeError::Framing`] where they do not fill the frame.
pub fn packets(frame: &[u8]) -> Result<impl Iterator<Item = Option<Packet<'_>>>, DecodeError> {
    Ok(packed(frame)?.map(Packet::read))
}

fn packed(frame: &[u8]) -> Result<Packed<'_>, DecodeError> {
    let count = frame.first_chunk().ok_or(DecodeError::Truncated { offset: frame.len() })?;
    Packed::new(frame, 2, u16::from_be_bytes(*count))
}

/// A packet, by its layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    Ltp(Ltp<'a>),
    Index(Index<'a>),
    Quote(Summary<'a>),
    Full(Full<'a>),
    /// As MCX was told in 2016: a summary, then the ladder, without any time.
    Legacy(Summary<'a>),
}

impl<'a> Packet<'a> {
    /// The packet without its length; `None` where no packet of the instrument is as long.
    #[inline]
    pub fn read(bytes: &'a [u8]) -> Option<Packet<'a>> {
        let is_index = bytes.get(3) == Some(&SEGMENT_INDICES);
        match bytes.len() {
            184 if !is_index => bytes.first_chunk().map(|bytes| Packet::Full(Full(bytes))),
            44 if !is_index => bytes.first_chunk().map(|bytes| Packet::Quote(Summary(bytes))),
            164 if !is_index => bytes.first_chunk().map(|bytes| Packet::Legacy(Summary(bytes))),
            8 => bytes.first_chunk().map(|bytes| Packet::Ltp(Ltp(bytes))),
            28 | 32 if is_index => {
                let (values, time) = bytes.split_first_chunk()?;
                Some(Packet::Index(Index { values, time: time.first_chunk() }))
            }
            _ => None,
        }
    }

    /// What the venue calls such packets.
    const fn mode(self) -> &'static [u8] {
        match self {
            Packet::Ltp(_) => b"ltp",
            Packet::Index(_) => b"index",
            Packet::Quote(_) => b"quote",
            Packet::Full(_) => b"full",
            Packet::Legacy(_) => b"legacy",
        }
    }
}

/// A last price.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ltp<'a>(&'a [u8; 8]);

impl Ltp<'_> {
    pub fn token(self) -> u32 {
        u32_at::<0, _>(self.0)
    }

    pub fn last_price(self) -> Decimal {
        price(self.token(), i32_at::<4, _>(self.0))
    }
}

/// The values of an index, in points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Index<'a> {
    values: &'a [u8; 28],
    time: Option<&'a [u8; 4]>,
}

impl Index<'_> {
    pub fn token(self) -> u32 {
        u32_at::<0, _>(self.values)
    }

    pub fn last_price(self) -> Decimal {
        price(self.token(), i32_at::<4, _>(self.values))
    }

    pub fn high(self) -> Decimal {
        price(self.token(), i32_at::<8, _>(self.values))
    }

    pub fn low(self) -> Decimal {
        price(self.token(), i32_at::<12, _>(self.values))
    }

    pub fn open(self) -> Decimal {
        price(self.token(), i32_at::<16, _>(self.values))
    }

    /// That of the previous session.
    pub fn close(self) -> Decimal {
        price(self.token(), i32_at::<20, _>(self.values))
    }

    /// In percent of the close. The venue's page calls it a price change.
    pub fn change_percent(self) -> Decimal {
        price(self.token(), i32_at::<24, _>(self.values))
    }

    /// Unix ns; `None` in the mode `quote`, and before the exchange has one.
    pub fn exchange_time(self) -> Option<i64> {
        self.time.and_then(|seconds| time(u32::from_be_bytes(*seconds)))
    }
}

/// The state of an instrument, without times. Quantities are shares or lots, as the exchange counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary<'a>(&'a [u8; 44]);

impl Summary<'_> {
    pub fn token(self) -> u32 {
        u32_at::<0, _>(self.0)
    }

    pub fn last_price(self) -> Decimal {
        price(self.token(), i32_at::<4, _>(self.0))
    }

    pub fn last_quantity(self) -> u32 {
        u32_at::<8, _>(self.0)
    }

    /// Of the day.
    pub fn average_price(self) -> Decimal {
        price(self.token(), i32_at::<12, _>(self.0))
    }

    /// Of the day.
    pub fn volume(self) -> u32 {
        u32_at::<16, _>(self.0)
    }

    pub fn buy_quantity(self) -> u32 {
        u32_at::<20, _>(self.0)
    }

    pub fn sell_quantity(self) -> u32 {
        u32_at::<24, _>(self.0)
    }

    pub fn open(self) -> Decimal {
        price(self.token(), i32_at::<28, _>(self.0))
    }

    pub fn high(self) -> Decimal {
        price(self.token(), i32_at::<32, _>(self.0))
    }

    pub fn low(self) -> Decimal {
        price(self.token(), i32_at::<36, _>(self.0))
    }

    /// That of the previous session.
    pub fn close(self) -> Decimal {
        price(self.token(), i32_at::<40, _>(self.0))
    }
}

/// Everything that there is of an instrument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full<'a>(&'a [u8; 184]);

/// A level of a ladder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DepthLevel {
    pub side: Side,
    pub price: Decimal,
    pub quantity: u32,
    pub orders: u16,
}

impl<'a> Full<'a> {
    pub fn summary(self) -> Summary<'a> {
        Summary(chunk::<0, 44, _>(self.0))
    }

    /// Unix ns, of whole seconds; `None` where the instrument has not traded.
    pub fn last_trade_time(self) -> Option<i64> {
        time(u32_at::<44, _>(self.0))
    }

    pub fn open_interest(self) -> u32 {
        u32_at::<48, _>(self.0)
    }

    pub fn open_interest_high(self) -> u32 {
        u32_at::<52, _>(self.0)
    }

    pub fn open_interest_low(self) -> u32 {
        u32_at::<56, _>(self.0)
    }

    /// Unix ns, of whole seconds; `None` before the exchange has one.
    pub fn exchange_time(self) -> Option<i64> {
        time(u32_at::<60, _>(self.0))
    }

    /// The levels that are there, bids from the best down, then asks from the best up. Those of all zeros are padding.
    pub fn depth(self) -> impl Iterator<Item = DepthLevel> {
        let (levels, _) = chunk::<64, 120, _>(self.0).as_chunks::<12>();
        let token = self.summary().token();
        levels.iter().enumerate().filter_map(move |(index, level)| {
            let side = if index < 5 { Side::Buy } else { Side::Sell };
            let top = top(token, level)?;
            Some(DepthLevel { side, price: top.price, quantity: u32_at::<0, _>(level), orders: u16_at::<8, _>(level) })
        })
    }

    /// The last trade, if there was one: of the day before only the time and the price may be left.
    #[inline]
    fn trade(self) -> Option<Trade<'a>> {
        let summary = self.summary();
        if summary.last_quantity() == 0 {
            return None;
        }
        Some(Trade {
            symbol: Symbol::Token(summary.token()),
            id: None,
            price: summary.last_price(),
            size: whole(summary.last_quantity()),
            taker: None,
            time: self.last_trade_time()?,
            age: Age::Live,
        })
    }

    #[inline]
    fn quote(self) -> Quote<'a> {
        let token = self.summary().token();
        Quote {
            symbol: Symbol::Token(token),
            bid: top(token, chunk::<64, 12, _>(self.0)),
            ask: top(token, chunk::<124, 12, _>(self.0)),
            sequence: None,
            time: self.exchange_time(),
            age: Age::Live,
        }
    }
}

/// `None` where the level is padding: an exchange has no order of nothing, and none at no price.
#[inline]
fn top(token: u32, level: &[u8; 12]) -> Option<Top> {
    let (quantity, raw) = (u32_at::<0, _>(level), i32_at::<4, _>(level));
    (quantity != 0 && raw != 0).then(|| Top { price: price(token, raw), size: Some(whole(quantity)) })
}

#[inline]
fn price(token: u32, raw: i32) -> Decimal {
    let scale = match token as u8 {
        SEGMENT_CURRENCY => 7,
        SEGMENT_CURRENCY_BSE => 4,
        _ => 2,
    };
    Decimal::new(i64::from(raw), scale).expect("Invariant: at most 18 digits stand behind the point")
}

#[inline]
fn whole(quantity: u32) -> Decimal {
    Decimal::new(i64::from(quantity), 0).expect("Invariant: at most 18 digits stand behind the point")
}

#[inline]
fn time(seconds: u32) -> Option<i64> {
    (seconds != 0).then(|| i64::from(seconds) * NANOS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{self, Expected, decimal, top};
    use super::*;

    const FULL: &str =
        "00063a01 000266ba 00000007 0002656d 00123217 0003e9bb 00058a01 000264f3 0002673c 000261c9 0002646c
        60e2947f 00000000 00000000 00000000 60e2947f
        00000005 0002669c 00010000 0000008c 00026674 00020000 00000002 0002666f 00010000 000000db 0002666a 00070000
        00000032 00026665 00010000
        000000ac 000266ba 00030000 0000002c 000266bf 00030000 0000012e 000266c9 00030000 0000008d 000266ce 00020000
        000002d4 000266d3 00050000";
    const QUOTE: &str =
        "00063a01 00026683 00000001 00026569 0011f1b2 0003e9ff 00058037 000264f3 0002673c 000261c9 0002646c";
    const LTP: &str = "000d8001 0000997f";
    const INDEX: &str = "0003e909 000ded2d 000dfd18 000de90e 000dfcd7 000ded2d ffffffdc";

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.bytes().filter_map(|byte| char::from(byte).to_digit(16)).map(|d| d as u8).collect();
        digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
    }

    fn frame(packets: &[&[u8]]) -> Vec<u8> {
        let mut frame = (packets.len() as u16).to_be_bytes().to_vec();
        for packet in packets {
            frame.extend((packet.len() as u16).to_be_bytes());
            frame.extend_from_slice(packet);
        }
        frame
    }

    #[track_caller]
    fn check(frame: &[u8], expected: Expected<'_, '_>) {
        let found = testing::events(|mut on_event| decode(frame, &mut on_event));
        testing::check(frame.escape_ascii(), found, expected);
    }

    fn infy() -> (Trade<'static>, Quote<'static>) {
        let (symbol, time) = (Symbol::Token(408_065), 1_625_461_887_000_000_000);
        let (price, size) = (decimal("1573.70"), decimal("7"));
        let trade = Trade { symbol, id: None, price, size, taker: None, time, age: Age::Live };
        let (bid, ask) = (top("1573.40", "5"), top("1573.70", "172"));
        (trade, Quote { symbol, bid, ask, sequence: None, time: Some(time), age: Age::Live })
    }

    #[test]
    fn a_full_packet_is_the_last_trade_and_the_best_of_the_ladder() {
        let (trade, quote) = infy();
        check(&frame(&[&bytes(FULL)]), Ok(&[Event::Trade(trade), Event::Quote(quote)]));

        let mut closed = bytes(FULL);
        closed[44..48].fill(0);
        closed[60..64].fill(0);
        closed[124..].fill(0);
        check(&frame(&[&closed]), Ok(&[Event::Quote(Quote { ask: None, time: None, ..quote })]));
        closed[64..].fill(0);
        check(&frame(&[&closed]), Ok(&[Event::Quote(Quote { bid: None, ask: None, time: None, ..quote })]));
        let mut untraded = bytes(FULL);
        untraded[8..12].fill(0);
        check(&frame(&[&untraded]), Ok(&[Event::Quote(quote)]));
        let mut negative = bytes(FULL);
        negative[128..132].copy_from_slice(&(-250i32).to_be_bytes());
        let ask = top("-2.50", "172");
        check(&frame(&[&negative]), Ok(&[Event::Trade(trade), Event::Quote(Quote { ask, ..quote })]));
    }

    #[test]
    fn the_segment_places_the_point() {
        for (segment, price) in [(1, "1573.70"), (3, "0.0157370"), (4, "1573.70"), (6, "15.7370"), (7, "1573.70")] {
            let mut packet = bytes(FULL);
            packet[3] = segment;
            let frame = frame(&[&packet]);
            let Some(Some(Packet::Full(full))) = packets(&frame).unwrap().next() else { panic!("segment {segment}") };
            assert_eq!(full.summary().last_price().to_string(), price, "segment {segment}");
        }
    }

    #[test]
    fn what_has_no_time_or_no_trade_is_ignored() {
        let mixed = [bytes(FULL), bytes(QUOTE), bytes(LTP), bytes(INDEX), bytes(&format!("{INDEX} 60e2947f"))];
        let mixed: Vec<&[u8]> = mixed.iter().map(Vec::as_slice).collect();
        let ignored = |kind: &'static str| Event::Ignored { kind: kind.as_bytes() };
        let (trade, quote) = infy();
        check(
            &frame(&mixed),
            Ok(&[
                Event::Trade(trade),
                Event::Quote(quote),
                ignored("quote"),
                ignored("ltp"),
                ignored("index"),
                ignored("index"),
            ]),
        );
        let legacy = [&bytes(FULL)[..44], &bytes(FULL)[64..]].concat();
        check(&frame(&[&legacy]), Ok(&[ignored("legacy")]));
        check(&frame(&[]), Ok(&[ignored("empty")]));
    }

    #[test]
    fn every_field_of_every_layout_can_be_read() {
        let (full, quote, ltp, index) = (bytes(FULL), bytes(QUOTE), bytes(LTP), bytes(INDEX));
        let index_full = bytes(&format!("{INDEX} 60e2947f"));
        let text = |decimals: &[Decimal]| decimals.iter().map(Decimal::to_string).collect::<Vec<_>>().join(" ");

        let Some(Packet::Full(full)) = Packet::read(&full) else { panic!("{full:?}") };
        assert_eq!((full.open_interest(), full.open_interest_high(), full.open_interest_low()), (0, 0, 0));
        let depth: Vec<String> =
            full.depth().map(|l| format!("{:?} {}x{} {}", l.side, l.price, l.quantity, l.orders)).collect();
        let expected = [
            "Buy 1573.40x5 1",
            "Buy 1573.00x140 2",
            "Buy 1572.95x2 1",
            "Buy 1572.90x219 7",
            "Buy 1572.85x50 1",
            "Sell 1573.70x172 3",
            "Sell 1573.75x44 3",
            "Sell 1573.85x302 3",
            "Sell 1573.90x141 2",
            "Sell 1573.95x724 5",
        ];
        assert_eq!(depth, expected);

        let Some(Packet::Quote(quote)) = Packet::read(&quote) else { panic!("{quote:?}") };
        let prices =
            [quote.last_price(), quote.average_price(), quote.open(), quote.high(), quote.low(), quote.close()];
        assert_eq!(text(&prices), "1573.15 1570.33 1569.15 1575.00 1561.05 1567.80");
        let counts = (quote.last_quantity(), quote.volume(), quote.buy_quantity(), quote.sell_quantity());
        assert_eq!(counts, (1, 1_175_986, 256_511, 360_503));

        let Some(Packet::Ltp(ltp)) = Packet::read(&ltp) else { panic!("{ltp:?}") };
        assert_eq!((ltp.token(), text(&[ltp.last_price()])), (884_737, "392.95".into()));

        let Some(Packet::Index(nifty)) = Packet::read(&index) else { panic!("{index:?}") };
        let values =
            [nifty.last_price(), nifty.high(), nifty.low(), nifty.open(), nifty.close(), nifty.change_percent()];
        assert_eq!((nifty.token(), text(&values)), (256_265, "9126.85 9167.60 9116.30 9166.95 9126.85 -0.36".into()));
        assert_eq!(nifty.exchange_time(), None);
        let Some(Packet::Index(nifty)) = Packet::read(&index_full) else { panic!("{index_full:?}") };
        assert_eq!(nifty.exchange_time(), Some(1_625_461_887_000_000_000));
    }

    #[test]
    fn a_packet_of_a_strange_length_leaves_the_others_alone() {
        let (full, index) = (bytes(FULL), bytes(INDEX));
        let mut index_of_shares = index.clone();
        index_of_shares[3] = 1;
        let mut shares_of_index = full.clone();
        shares_of_index[3] = 9;
        let invalid = |token: Option<u32>| Event::Invalid {
            symbol: token.map(Symbol::Token),
            part: Part::Message,
            reason: Reason::Length,
        };
        let (trade, quote) = infy();
        check(
            &frame(&[&index_of_shares, &shares_of_index, b"", b"abc", &full[..183], &full]),
            Ok(&[
                invalid(Some(256_257)),
                invalid(Some(408_073)),
                invalid(None),
                invalid(None),
                invalid(Some(408_065)),
                Event::Trade(trade),
                Event::Quote(quote),
            ]),
        );
    }

    #[test]
    fn reads_text_frames_and_heartbeats() {
        check(
            br#"{"type":"error","data":"Too many \"tokens\""}"#,
            Ok(&[Event::Control(Control::Error { text: br#"Too many \"tokens\""#, detail: b"" })]),
        );
        check(br#"{"type":"message","data":"Settling"}"#, Ok(&[Event::Control(Control::Note)]));
        check(br#"{"type":"order","data":{"status":"COMPLETE","meta":{}}}"#, Ok(&[Event::Ignored { kind: b"order" }]));
        check(b"{}", Err(DecodeError::Missing { field: "type" }));
        check(br#"{"type":"mess"#, Err(DecodeError::Truncated { offset: 13 }));
        let alive = [Event::Heartbeat(Heartbeat { symbol: None, time: None })];
        for frame in [&b"\0"[..], b"{", b""] {
            check(frame, Ok(&alive));
        }
    }

    #[test]
    fn every_cut_of_a_frame_is_refused() {
        let whole = frame(&[&bytes(FULL), &bytes(QUOTE), &bytes(LTP), &bytes(INDEX)]);
        for end in 2..whole.len() {
            check(&whole[..end], Err(DecodeError::Truncated { offset: end }));
        }
        check(&[&whole[..], b"\0"].concat(), Err(DecodeError::Framing { offset: whole.len() }));
    }
}
