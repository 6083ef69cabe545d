//! A signed-in client's session: its messages in, answers and subscriptions out. Sans-IO: bytes and the time
//! go in, the hub takes what is to be sent. Owned by the shard that has the client's socket.
//!
//! What a session keeps while its client is silent is in this struct, and nothing else: the frame reader
//! allocates only while a message is partly received.
//!
//! Here is what a client asks for. `waiting` is about questions to the store that are not answered at once, `rights` about
//! what changes while the session lives.

mod rights;
mod signals;
mod waiting;

use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use entitlements::{AddressPermit, Charge, ConnectionPermit, Grant, LiveSession, Meter, Principal, Subject, decide};
use fanout::{Hub, SubscribeOptions, Subscribed, SubscriberKey};
use protocol::command::{self, Action, AuthFields, CommandError, Request, RequestId, Since, Subscription};
use protocol::frame::{FrameError, Message, MessageReader, Opcode, encode_close, encode_frame};
use protocol::message::{ErrorMessage, FeedState, Gap, GapReason, SubscriptionAck, SymbolLists};
use protocol::{
    AssetClass, Channel, ChannelKind, CloseCode, Encoding, ErrorCode, Freshness, InstrumentId, Selector, ServerMessage,
};

use self::signals::Asked;
use self::waiting::Waiting;
pub(crate) use self::waiting::{Answer, Question};
use crate::context::{Context, Now};
use crate::metrics::{Counter, ThreadMetrics};
use crate::sequencing::source_symbol;

/// Why a frame that is not of the session's encoding is refused.
pub(crate) const WRONG_KIND: &str = "JSON is in text frames, MessagePack in binary frames";

/// What the shard is to do after a session has worked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Continue,
    /// The session waits for the store: nothing is to be read from the client until it has its answer.
    Wait,
    /// A close frame with this code is on its way; flush, then let the client go.
    Close(CloseCode),
}

/// What a session works with while it handles what its client sent.
pub(crate) struct Turn<'a> {
    pub(crate) key: SubscriberKey,
    pub(crate) hub: &'a mut Hub,
    pub(crate) context: &'a Context,
    pub(crate) metrics: &'a ThreadMetrics,
    pub(crate) now: Now,
}

/// One signed-in client.
#[derive(Debug)]
pub(crate) struct Session {
    principal: Arc<Principal>,
    permit: ConnectionPermit,
    address: AddressPermit,
    encoding: Encoding,
    /// Has subscribed at least once.
    subscribed: bool,
    /// Its last request was one more than the user's quotas allow.
    limited: bool,
    reader: MessageReader,
    /// When the allowance for requests will be full again, monotonic us (GCRA's theoretical arrival time).
    requests_full_us: u64,
    /// When the client last asked for something: Unix s.
    active_at: u32,
    waiting: Option<Box<Waiting>>,
    #[expect(clippy::box_collection, reason = "8 bytes instead of 24 in the many clients without")]
    signals: Option<Box<Vec<Asked>>>,
}

/// A request that is refused in parts: the items with the same reason, by channel.
struct Refused<'a> {
    code: ErrorCode,
    channel: &'a str,
    symbols: Vec<&'a str>,
    detail: Option<String>,
}

impl Session {
    pub(crate) fn new(
        principal: Arc<Principal>,
        permit: ConnectionPermit,
        address: AddressPermit,
        encoding: Encoding,
        reader: MessageReader,
        now: Now,
    ) -> Session {
        Session {
            principal,
            permit,
            address,
            encoding,
            subscribed: false,
            limited: false,
            reader,
            requests_full_us: 0,
            active_at: unix_u32(now),
            waiting: None,
            signals: None,
        }
    }

    pub(crate) fn principal(&self) -> &Principal {
        &self.principal
    }

    pub(crate) fn address(&self) -> IpAddr {
        self.address.address()
    }

    /// The user's rights as this node knows them; `None` where the user is gone.
    pub(crate) fn known_rights(&self) -> Option<Arc<Principal>> {
        self.permit.rights()
    }

    /// What a list of all sessions has of this one.
    pub(crate) fn listed(&self) -> LiveSession {
        LiveSession {
            number: self.permit.number(),
            user: self.principal.user().clone(),
            role: self.principal.tier().name(),
            address: self.address(),
            active_at: self.active_at.into(),
            credential: self.principal.credential().cloned(),
        }
    }

    /// Takes bytes that the client's socket gave (changed in place by unmasking).
    pub(crate) fn receive(&mut self, input: &mut [u8], turn: &mut Turn<'_>) -> Next {
        let mut reader = std::mem::take(&mut self.reader);
        let mut next = Next::Continue;
        let fed = reader.feed(input, turn.context.server.message_bytes_max, &mut |message| {
            next = self.handle(message, turn);
            if matches!(next, Next::Close(_)) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        self.reader = reader;
        match fed {
            Ok(()) => next,
            Err(error) => {
                turn.metrics.add(Counter::CommandErrorSyntax, 1);
                if let Some(code) = frame_error_code(error) {
                    send_error(turn.hub, turn.key, &ErrorMessage::new(code));
                }
                close(turn.hub, turn.key, error.close_code())
            }
        }
    }

    /// Takes one message. Also for those that came in one read with the sign-in.
    pub(crate) fn handle(&mut self, message: Message<'_>, turn: &mut Turn<'_>) -> Next {
        if let Some(waiting) = &mut self.waiting {
            waiting.keep(&message);
            return Next::Wait;
        }
        let (encoding, bytes) = match message {
            Message::Text(text) if self.encoding == Encoding::Json => (Encoding::Json, text.as_bytes()),
            Message::Binary(bytes) if self.encoding == Encoding::MessagePack => (Encoding::MessagePack, bytes),
            Message::Text(_) | Message::Binary(_) => {
                turn.metrics.add(Counter::CommandErrorSyntax, 1);
                let detail = Some(WRONG_KIND);
                send_error(turn.hub, turn.key, &ErrorMessage { detail, ..ErrorMessage::new(ErrorCode::InvalidSyntax) });
                return close(turn.hub, turn.key, CloseCode::UnsupportedData);
            }
            Message::Ping(payload) => {
                turn.metrics.add(Counter::ClientPings, 1);
                // Under backpressure a ping may go unanswered, as RFC 6455 (5.5.3) allows: later ones stand for it.
                if turn.hub.control_pending_bytes(turn.key) <= turn.context.session.control_bytes_max / 2 {
                    turn.hub.control(turn.key, |_, out| encode_frame(Opcode::Pong, payload, out));
                }
                return Next::Continue;
            }
            Message::Pong(_) => return Next::Continue,
            Message::Close(_) => return close(turn.hub, turn.key, CloseCode::Normal),
        };
        self.active_at = unix_u32(turn.now);
        let retry_after = self.take_request(turn.context, turn.now);
        let request = command::parse(encoding, bytes);
        if retry_after.is_some() {
            turn.metrics.add(Counter::CommandErrorRate, 1);
            // It was read all the same: the answer names the request, so that the client knows which to repeat.
            let id = match &request {
                Ok(request) => request.id.as_ref(),
                Err(error) => error.id.as_ref(),
            };
            let limited = ErrorMessage { id, retry_after, ..ErrorMessage::new(ErrorCode::TooManyRequests) };
            return answered(send_error(turn.hub, turn.key, &limited), turn.hub, turn.key);
        }
        match request {
            Err(CommandError { code, id, detail }) => {
                turn.metrics.add(Counter::CommandErrorSyntax, 1);
                let id = id.as_ref();
                let error = ErrorMessage { id, detail: Some(detail), ..ErrorMessage::new(code) };
                answered(send_error(turn.hub, turn.key, &error), turn.hub, turn.key)
            }
            Ok(request) => self.charge(request, turn),
        }
    }

    /// Counts a request on the user's account, over all its sessions, before it is done.
    fn charge(&mut self, request: Request, turn: &mut Turn<'_>) -> Next {
        let quotas = self.principal.limits().requests();
        if quotas.iter().all(|quota| quota.is_unlimited()) {
            return self.act(request, turn);
        }
        let charge = Charge {
            subject: Subject::User(self.principal.user().clone()),
            meter: Meter::Command,
            quotas: quotas.to_vec(),
            cost: 1,
        };
        let verdict = turn.context.door.store().take(charge);
        self.ask(Question::new(async move { Answer::Charged(request, verdict.await) }), turn)
    }

    /// Does what was asked for.
    fn act(&mut self, request: Request, turn: &mut Turn<'_>) -> Next {
        let Request { id, action } = request;
        let sent = match action {
            Action::Auth(AuthFields::Token(token)) => {
                turn.metrics.add(Counter::CommandsAuth, 1);
                return self.refresh(token, id, turn);
            }
            Action::Auth(AuthFields::Key { .. }) => {
                turn.metrics.add(Counter::CommandErrorState, 1);
                let id = id.as_ref();
                let error = ErrorMessage { id, ..ErrorMessage::new(ErrorCode::AlreadyAuthenticated) };
                send_error(turn.hub, turn.key, &error)
            }
            Action::Subscribe(subscription) => {
                turn.metrics.add(Counter::CommandsSubscribe, 1);
                self.subscribe(&subscription, id.as_ref(), turn)
            }
            Action::Unsubscribe(subscription) => {
                turn.metrics.add(Counter::CommandsUnsubscribe, 1);
                self.unsubscribe(&subscription, id.as_ref(), turn)
            }
        };
        answered(sent, turn.hub, turn.key)
    }

    /// The session's own deadline: its token has run out.
    pub(crate) fn handle_timer(&mut self, key: SubscriberKey, hub: &mut Hub, now: Now) -> Next {
        let Some(expires_at) = self.principal.expires_at() else { return Next::Continue };
        if self.principal.has_expired(now.wall_s()) {
            send_error(hub, key, &ErrorMessage::new(ErrorCode::TokenExpired));
            return close(hub, key, CloseCode::TokenExpired);
        }
        let left_ms = (expires_at.saturating_mul(1_000) - now.wall_ns / 1_000_000).max(0) as u64;
        hub.arm(key, now.mono_ms.saturating_add(left_ms));
        Next::Continue
    }

    pub(crate) fn has_subscribed(&self) -> bool {
        self.subscribed
    }

    /// Tells a client that has subscribed how a source is.
    pub(crate) fn announce_feed(&self, key: SubscriberKey, hub: &mut Hub, source: &str, state: FeedState) {
        if self.subscribed {
            hub.control(key, |encoding, out| ServerMessage::Feed { source, state }.encode(encoding, out));
        }
    }

    /// Counts a request. The time to wait where there were too many.
    fn take_request(&mut self, context: &Context, now: Now) -> Option<Duration> {
        // GCRA: each request moves the time at which the allowance is full by one interval, and it may lie
        // at most a burst ahead.
        let now_us = now.mono_ms * 1_000;
        let interval_us = 1_000_000 / u64::from(context.session.requests_per_second.clamp(1, 1_000_000));
        let burst_us = interval_us * u64::from(context.session.requests_burst.max(1));
        let full_us = self.requests_full_us.max(now_us) + interval_us;
        if full_us > now_us + burst_us {
            return Some(Duration::from_micros(full_us - now_us - burst_us));
        }
        self.requests_full_us = full_us;
        None
    }

    fn subscribe(&mut self, request: &Subscription, id: Option<&RequestId>, turn: &mut Turn<'_>) -> bool {
        let instruments = &turn.context.instruments;
        let mut refused: Vec<Refused<'_>> = Vec::new();
        let mut unchanged = SymbolLists::default();
        let mut granted: Vec<(Grant, &str)> = Vec::new();
        let interval_ms = request.max_rate.map_or(0, |rate| (1_000.0 / rate).ceil() as u32);
        let mut channels = self.channel_count(turn);
        for item in &request.items {
            let selector = match item.symbol.as_str() {
                "*" => Some(Selector::All),
                symbol => instruments
                    .find(symbol)
                    .or_else(|| source_symbol(symbol, instruments, &turn.context.venues))
                    .map(Selector::One),
            };
            let Some(selector) = selector else {
                refuse(&mut refused, ErrorCode::UnknownSymbol, item.channel.name(), &item.symbol, None);
                continue;
            };
            let asset = match selector {
                Selector::All => None,
                Selector::One(_) => Some(AssetClass::of(&item.symbol)),
            };
            let channel = Channel { kind: item.channel, selector };
            let grant = match decide(&self.principal, channel, asset, turn.now.wall_s()) {
                Ok(grant) => grant,
                Err(denial) => {
                    let code = ErrorCode::from_code(denial.code()).unwrap_or(ErrorCode::InsufficientSubscription);
                    refuse(&mut refused, code, item.channel.name(), &item.symbol, Some(denial.to_string()));
                    continue;
                }
            };
            if channels >= self.principal.limits().channels as usize && !turn.hub.is_subscribed(turn.key, channel) {
                let detail = format!("at most {} channels", self.principal.limits().channels);
                refuse(&mut refused, ErrorCode::SymbolLimitExceeded, item.channel.name(), &item.symbol, Some(detail));
                continue;
            }
            let options = SubscribeOptions { since: None, interval_ms };
            match turn.hub.subscribe(turn.key, grant, options, turn.now.mono_ms) {
                Subscribed::New => channels += 1,
                Subscribed::Unchanged | Subscribed::Ahead { .. } => unchanged.push(item.channel, &item.symbol),
            }
            granted.push((grant, &item.symbol));
        }
        let signals = &request.signals;
        granted.extend(self.subscribe_signals(signals, &mut channels, &mut refused, &mut unchanged, turn));
        send_refusals(&refused, &request.unknown_channels, id, turn);
        let sent = self.acknowledge(id, unchanged, turn);
        if let Some(since) = &request.since {
            resume(since, &granted, id, turn);
        }
        if !self.subscribed && channels > 0 {
            self.subscribed = true;
            turn.context.client_subscribed();
        }
        sent
    }

    fn unsubscribe(&mut self, request: &Subscription, id: Option<&RequestId>, turn: &mut Turn<'_>) -> bool {
        let mut refused = Vec::new();
        for item in &request.items {
            let selector = match item.symbol.as_str() {
                "*" => Some(Selector::All),
                symbol => turn.context.instruments.find(symbol).map(Selector::One),
            };
            match selector {
                Some(selector) => {
                    turn.hub.unsubscribe(turn.key, item.channel, selector, turn.now.mono_ms);
                }
                None => refuse(&mut refused, ErrorCode::UnknownSymbol, item.channel.name(), &item.symbol, None),
            }
        }
        self.unsubscribe_signals(&request.signals, &mut refused, turn);
        send_refusals(&refused, &request.unknown_channels, id, turn);
        self.acknowledge(id, SymbolLists::default(), turn)
    }

    /// Sends the whole set of subscriptions as it is now.
    fn acknowledge(&self, id: Option<&RequestId>, unchanged: SymbolLists<'_>, turn: &mut Turn<'_>) -> bool {
        let mut all: Vec<(ChannelKind, &str)> = turn
            .hub
            .subscriptions(turn.key)
            .filter(|(kind, _)| !kind.is_signals())
            .map(|(kind, selector)| match selector {
                Selector::All => (kind, "*"),
                Selector::One(instrument) => (kind, turn.context.instruments.symbol(instrument)),
            })
            .collect();
        all.sort_unstable();
        let mut channels = SymbolLists::default();
        for (kind, symbol) in all {
            channels.push(kind, symbol);
        }
        self.list_signals(&turn.context.instruments, &mut channels);
        let freshness = self.principal.freshness();
        let delayed_ms = (freshness == Freshness::Delayed).then(|| turn.context.delayed_ms(freshness));
        let ack = SubscriptionAck { id, channels, epoch: turn.context.epoch, delayed_ms, unchanged };
        turn.hub.control(turn.key, |encoding, out| ServerMessage::Subscription(ack).encode(encoding, out))
    }
}

fn send_refusals(refused: &[Refused<'_>], unknown_channels: &[String], id: Option<&RequestId>, turn: &mut Turn<'_>) {
    for channel in unknown_channels {
        turn.metrics.add(Counter::CommandErrorUnknown, 1);
        let channel = Some(channel.as_str());
        let error = ErrorMessage { id, channel, ..ErrorMessage::new(ErrorCode::UnknownChannel) };
        send_error(turn.hub, turn.key, &error);
    }
    for Refused { code, channel, symbols, detail } in refused {
        let counter = match code {
            ErrorCode::UnknownSymbol => Counter::CommandErrorUnknown,
            ErrorCode::SymbolLimitExceeded => Counter::CommandErrorLimit,
            _ => Counter::CommandErrorDenied,
        };
        turn.metrics.add(counter, symbols.len() as u64);
        let (channel, detail) = (Some(*channel), detail.as_deref());
        send_error(turn.hub, turn.key, &ErrorMessage { id, channel, symbols, detail, ..ErrorMessage::new(*code) });
    }
}

/// Serves what a returning client has missed, or says that it cannot be known.
fn resume(since: &Since, granted: &[(Grant, &str)], id: Option<&RequestId>, turn: &mut Turn<'_>) {
    let granted: HashMap<(ChannelKind, &str), Grant> =
        granted.iter().map(|(grant, symbol)| ((grant.channel().kind, *symbol), *grant)).collect();
    for (kind, symbol, seq) in &since.positions {
        let Some(instrument) = turn.context.instruments.find(symbol) else { continue };
        let within_all =
            || granted.get(&(*kind, "*")).filter(|_| !turn.context.instruments.is_single_source(instrument));
        let grant = granted.get(&(*kind, symbol.as_str())).or_else(within_all);
        let Some(grant) = grant.copied() else { continue };
        if since.epoch != turn.context.epoch {
            let gap = Gap { channel: *kind, symbol, from: seq.saturating_add(1), to: None, reason: GapReason::Epoch };
            turn.hub.control(turn.key, |encoding, out| ServerMessage::Gap(gap).encode(encoding, out));
            continue;
        }
        if let Subscribed::Ahead { last } = resume_one(turn, grant, instrument, *seq) {
            let detail = format!("the last number of this channel is {last}");
            let (channel, detail) = (Some(kind.name()), Some(detail.as_str()));
            let symbols = &[symbol.as_str()];
            send_error(
                turn.hub,
                turn.key,
                &ErrorMessage { id, channel, symbols, detail, ..ErrorMessage::new(ErrorCode::InvalidSince) },
            );
        }
    }
}

fn resume_one(turn: &mut Turn<'_>, grant: Grant, instrument: InstrumentId, seq: u64) -> Subscribed {
    match grant.channel().selector {
        Selector::All => turn.hub.resume_within_all(turn.key, grant, instrument, seq),
        Selector::One(_) => {
            turn.hub.subscribe(turn.key, grant, SubscribeOptions { since: Some(seq), interval_ms: 0 }, turn.now.mono_ms)
        }
    }
}

fn refuse<'a>(
    refused: &mut Vec<Refused<'a>>,
    code: ErrorCode,
    channel: &'a str,
    symbol: &'a str,
    detail: Option<String>,
) {
    match refused.iter_mut().find(|r| r.code == code && r.channel == channel && r.detail == detail) {
        Some(known) => known.symbols.push(symbol),
        None => refused.push(Refused { code, channel, symbols: vec![symbol], detail }),
    }
}

/// Unix s, in 4 bytes: until 2106.
fn unix_u32(now: Now) -> u32 {
    u32::try_from(now.wall_s()).unwrap_or_default()
}

/// The error message that goes before the close frame, where there is one.
pub(crate) fn frame_error_code(error: FrameError) -> Option<ErrorCode> {
    match error.close_code() {
        CloseCode::TooBig => Some(ErrorCode::MessageTooLarge),
        CloseCode::InvalidPayload => Some(ErrorCode::InvalidSyntax),
        _ => None,
    }
}

/// False where the client's control lane is full.
fn send_error(hub: &mut Hub, key: SubscriberKey, error: &ErrorMessage<'_>) -> bool {
    hub.control(key, |encoding, out| ServerMessage::Error(*error).encode(encoding, out))
}

fn answered(sent: bool, hub: &mut Hub, key: SubscriberKey) -> Next {
    if sent { Next::Continue } else { close(hub, key, CloseCode::ControlLaneFull) }
}

/// Ends what the client receives with a close frame.
pub(crate) fn close(hub: &mut Hub, key: SubscriberKey, code: CloseCode) -> Next {
    hub.finish(key, |out| encode_close(code, out));
    Next::Close(code)
}
