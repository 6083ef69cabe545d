//! Signing in over the WebSocket: from the accepted connection to "authenticated". Ordinary async code, one task
//! for each connection, bounded in number and time by the listener; the session that comes of it is no task.

use std::io;
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::sync::Arc;

use entitlements::{
    AddressPermit, Charge, ConnectionPermit, Credentials, Meter, Principal, SessionRecord, SignInError, Subject,
    Verdict,
};
use protocol::command::{self, Action, AuthFields, CommandError};
use protocol::frame::{Message, MessageReader, Opcode, encode_close, encode_frame};
use protocol::message::{ErrorMessage, Session as SessionFacts};
use protocol::{CloseCode, Encoding, ErrorCode, ServerMessage};

use crate::context::Context;
use crate::metrics::{Counter, ThreadMetrics};
use crate::platform::audit::Event;
use crate::session::{WRONG_KIND, frame_error_code};
use crate::transport::http::{self, Accepted};
use crate::transport::opening::Opening;
use crate::transport::peer::Peer;
use crate::transport::stream::Stream;

/// A connection that has signed in, ready to become a session in its shard.
#[derive(Debug)]
pub(crate) struct SignedIn {
    pub(crate) stream: Stream,
    pub(crate) encoding: Encoding,
    pub(crate) principal: Arc<Principal>,
    pub(crate) permit: ConnectionPermit,
    pub(crate) address: AddressPermit,
    /// Holds a message that is partly received.
    pub(crate) reader: MessageReader,
    /// Messages that came in one read with the sign-in.
    pub(crate) early: Vec<Early>,
}

/// A message that came before the session was ready for it. Bounded by one read.
#[derive(Debug)]
pub(crate) enum Early {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Close,
}

impl Early {
    pub(crate) fn of(message: &Message<'_>) -> Option<Early> {
        match message {
            Message::Text(text) => Some(Early::Text((*text).to_owned())),
            Message::Binary(bytes) => Some(Early::Binary(bytes.to_vec())),
            Message::Ping(payload) => Some(Early::Ping(payload.to_vec())),
            Message::Pong(_) => None,
            Message::Close(_) => Some(Early::Close),
        }
    }

    pub(crate) fn message(&self) -> Message<'_> {
        match self {
            Early::Text(text) => Message::Text(text),
            Early::Binary(bytes) => Message::Binary(bytes),
            Early::Ping(payload) => Message::Ping(payload),
            Early::Close => Message::Close(None),
        }
    }
}

/// What a message did while the client was signing in.
enum State {
    Waiting,
    /// It has shown who it is; what else it says waits.
    Shown(Credentials),
    Admitted(Arc<Principal>, ConnectionPermit),
    Closing,
}

struct SignIn<'a> {
    context: &'a Context,
    metrics: &'a ThreadMetrics,
    address: IpAddr,
    /// As the client names itself.
    agent: Box<str>,
    encoding: Encoding,
    /// Frames to be written.
    replies: Vec<u8>,
    early: Vec<Early>,
    state: State,
}

/// Carries a connection through its request and its sign-in. `None` where it came to nothing; the client has been
/// told why.
pub(crate) async fn sign_in(
    mut opening: Opening,
    mut peer: Peer,
    context: &Context,
    metrics: &ThreadMetrics,
) -> Option<SignedIn> {
    let Some(accepted) = http::serve(&mut opening, &mut peer, context, metrics).await else {
        opening.linger().await;
        return None;
    };
    let Accepted { response, mut received, encoding, agent, principal } = accepted;
    // The answer to the request goes out with what follows it.
    let mut sign_in = SignIn {
        context,
        metrics,
        address: peer.address(),
        agent,
        encoding,
        replies: response,
        early: Vec::new(),
        state: State::Waiting,
    };
    let mut reader = MessageReader::new();
    sign_in.send(&ServerMessage::connected());
    let conversation = async {
        if let Some(principal) = principal {
            sign_in.admit(principal).await;
        }
        sign_in.feed(&mut reader, &mut received);
        loop {
            if let State::Shown(credentials) = &mut sign_in.state {
                let credentials = std::mem::replace(credentials, Credentials::Token(String::new()));
                sign_in.authenticate(&credentials).await;
            }
            opening.write(&std::mem::take(&mut sign_in.replies)).await?;
            if !matches!(sign_in.state, State::Waiting) {
                return io::Result::Ok(());
            }
            opening.read(|input| sign_in.feed(&mut reader, input)).await?;
        }
    };
    match tokio::time::timeout(context.server.auth_timeout, conversation).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::debug!(peer = %peer.address(), %error, "connection lost while signing in");
            metrics.add(Counter::ClosedLost, 1);
            return None;
        }
        Err(_) => {
            metrics.add(Counter::ClosedAuthTimeout, 1);
            sign_in.replies.clear();
            sign_in.send(&ServerMessage::Error(ErrorMessage::new(ErrorCode::AuthTimeout)));
            sign_in.close(CloseCode::AuthTimeout);
            opening.write_now(&sign_in.replies);
        }
    }
    let SignIn { state, early, .. } = sign_in;
    match state {
        State::Admitted(principal, permit) => {
            metrics.add(Counter::SignIns, 1);
            let address = peer.into_permit()?;
            let stream = opening.into_stream().ok()?;
            Some(SignedIn { stream, encoding, principal, permit, address, reader, early })
        }
        State::Waiting | State::Shown(_) | State::Closing => {
            opening.linger().await;
            None
        }
    }
}

impl SignIn<'_> {
    fn send(&mut self, message: &ServerMessage<'_>) {
        message.encode(self.encoding, &mut self.replies);
    }

    fn close(&mut self, code: CloseCode) {
        encode_close(code, &mut self.replies);
        self.state = State::Closing;
    }

    fn feed(&mut self, reader: &mut MessageReader, input: &mut [u8]) {
        let fed = reader.feed(input, self.context.server.message_bytes_max, &mut |message| {
            self.handle(&message);
            if matches!(self.state, State::Closing) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        if let Err(error) = fed {
            self.metrics.add(Counter::ClosedProtocol, 1);
            if let Some(code) = frame_error_code(error) {
                self.send(&ServerMessage::Error(ErrorMessage::new(code)));
            }
            self.close(error.close_code());
        }
    }

    fn handle(&mut self, message: &Message<'_>) {
        if matches!(self.state, State::Shown(_) | State::Admitted(..)) {
            self.early.extend(Early::of(message));
            return;
        }
        let (encoding, bytes) = match message {
            Message::Text(text) if self.encoding == Encoding::Json => (Encoding::Json, text.as_bytes()),
            Message::Binary(bytes) if self.encoding == Encoding::MessagePack => (Encoding::MessagePack, *bytes),
            Message::Text(_) | Message::Binary(_) => {
                self.metrics.add(Counter::CommandErrorSyntax, 1);
                let detail = Some(WRONG_KIND);
                let error = ErrorMessage { detail, ..ErrorMessage::new(ErrorCode::InvalidSyntax) };
                self.send(&ServerMessage::Error(error));
                return self.close(CloseCode::UnsupportedData);
            }
            Message::Ping(payload) => return encode_frame(Opcode::Pong, payload, &mut self.replies),
            Message::Pong(_) => return,
            Message::Close(_) => return self.close(CloseCode::Normal),
        };
        match command::parse(encoding, bytes) {
            Ok(request) => match request.action {
                Action::Auth(fields) => {
                    self.metrics.add(Counter::CommandsAuth, 1);
                    self.state = State::Shown(match fields {
                        AuthFields::Key { key, secret } => Credentials::Key { key, secret },
                        AuthFields::Token(token) => Credentials::Token(token),
                    });
                }
                Action::Subscribe(_) | Action::Unsubscribe(_) => {
                    self.metrics.add(Counter::CommandErrorState, 1);
                    let id = request.id.as_ref();
                    let error = ErrorMessage { id, ..ErrorMessage::new(ErrorCode::NotAuthenticated) };
                    self.send(&ServerMessage::Error(error));
                }
            },
            Err(CommandError { code, id, detail }) => {
                self.metrics.add(Counter::CommandErrorSyntax, 1);
                let error = ErrorMessage { id: id.as_ref(), detail: Some(detail), ..ErrorMessage::new(code) };
                self.send(&ServerMessage::Error(error));
            }
        }
    }

    async fn authenticate(&mut self, credentials: &Credentials) {
        match self.context.door.sign_in(credentials, self.address, self.context.now().wall_s()).await {
            Ok(principal) => {
                let verdict = charge_connect(self.context, &principal).await;
                if verdict.allowed {
                    return self.admit(principal).await;
                }
                self.metrics.add(Counter::SignInRateLimit, 1);
                self.metrics.add(Counter::ClosedAuth, 1);
                let retry_after = Some(verdict.retry_after);
                let error = ErrorMessage { retry_after, ..ErrorMessage::new(ErrorCode::TooManyRequests) };
                self.send(&ServerMessage::Error(error));
                self.close(CloseCode::TooManyAttempts);
            }
            Err(error) => {
                self.metrics.add(Counter::from(error.reason()), 1);
                self.metrics.add(Counter::ClosedAuth, 1);
                let (address, reason) = (self.address, error.reason().name());
                self.context.audit.record(Event::SignInRefused { address, reason });
                let (code, close) = refused(error);
                let retry_after = error.retry_after();
                self.send(&ServerMessage::Error(ErrorMessage { retry_after, ..ErrorMessage::new(code) }));
                self.close(close);
            }
        }
    }

    /// Limits come before "authenticated" is said.
    async fn admit(&mut self, principal: Arc<Principal>) {
        let registered = self.register(&principal).await;
        let Some((principal, permit)) = registered else {
            self.metrics.add(Counter::SignInConnectionLimit, 1);
            self.metrics.add(Counter::ClosedAuth, 1);
            let (user_id, max) = (principal.user().clone(), principal.limits().connections);
            self.context.audit.record(Event::Limited { user_id, limit: "connections", max });
            self.send(&ServerMessage::Error(ErrorMessage::new(ErrorCode::ConnectionLimitExceeded)));
            return self.close(CloseCode::ConnectionLimit);
        };
        self.send(&authenticated(&principal, self.context));
        self.context.audit.record(Event::Connected {
            user_id: principal.user().clone(),
            address: self.address,
            tier: principal.tier().name(),
            session: permit.number(),
        });
        self.state = State::Admitted(principal, permit);
    }

    /// Takes a place for the connection, here and in the store. `None` where the user has as many as it may.
    async fn register(&self, principal: &Arc<Principal>) -> Option<(Arc<Principal>, ConnectionPermit)> {
        let (mut permit, principal) = self.context.connections.acquire(principal).ok()?;
        let store = self.context.door.store();
        // News that came after the record was read, and before there was a place to keep them.
        let newer = store.remembered_user(principal.user()).filter(|user| user.version > principal.version());
        let principal = match newer {
            Some(user) => Arc::new(Principal::new(&user, self.context.door.tiers())).succeeding(&principal),
            None => principal,
        };
        let number = self.context.connections.next_number();
        // Before it is counted, so that it is taken back whatever happens to this task.
        permit.set_number(number);
        let session = SessionRecord {
            number,
            user: principal.user().clone(),
            role: principal.tier().name(),
            address: self.address,
            agent: self.agent.clone(),
            connections_max: principal.limits().connections,
            active_at: self.context.now().wall_s(),
        };
        store.open(session).await.ok()?;
        Some((principal, permit))
    }
}

/// Counts an upgrade of the user's. One whose request had no credentials is counted when it signs in.
pub(crate) async fn charge_connect(context: &Context, principal: &Principal) -> Verdict {
    let subject = Subject::User(principal.user().clone());
    let quotas = principal.limits().requests().to_vec();
    let verdict = context.door.store().take(Charge { subject, meter: Meter::Connect, quotas, cost: 1 }).await;
    if !verdict.allowed {
        let (user_id, max) = (principal.user().clone(), verdict.quota.limit);
        context.audit.record(Event::Limited { user_id, limit: Meter::Connect.name(), max });
    }
    verdict
}

/// What a client is told that has signed in.
pub(crate) fn authenticated<'a>(principal: &'a Principal, context: &Context) -> ServerMessage<'a> {
    ServerMessage::authenticated(SessionFacts {
        epoch: context.epoch,
        user: principal.user(),
        tier: principal.tier().name(),
        delayed_ms: context.delayed_ms(principal.freshness()),
        heartbeat_ms: context.session.heartbeat.as_millis() as u64,
    })
}

/// What a client is told whose sign-in is refused.
pub(crate) fn refused(error: SignInError) -> (ErrorCode, CloseCode) {
    match error.code() {
        429 => (ErrorCode::TooManyRequests, CloseCode::TooManyAttempts),
        503 => (ErrorCode::Unavailable, CloseCode::Unavailable),
        _ => (ErrorCode::AuthFailed, CloseCode::AuthFailed),
    }
}
