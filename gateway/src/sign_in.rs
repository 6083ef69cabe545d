//! Signing in over the WebSocket: from the finished upgrade to "authenticated". Ordinary async code, one task
//! for each connection, bounded in number and time by the listener; the session that comes of it is no task.

use std::io;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use entitlements::{AddressPermit, ConnectionPermit, Credentials, Principal};
use protocol::command::{self, Action, AuthFields, CommandError};
use protocol::frame::{Message, MessageReader, Opcode, encode_close, encode_frame};
use protocol::message::{ErrorMessage, Session as SessionFacts};
use protocol::{CloseCode, Encoding, ErrorCode, Freshness, ServerMessage};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::context::Context;
use crate::metrics::{Counter, ThreadMetrics};
use crate::session::{WRONG_KIND, frame_error_code};

/// A connection whose upgrade is done.
#[derive(Debug)]
pub(crate) struct Upgraded {
    pub(crate) stream: TcpStream,
    /// What the client sent behind its HTTP request.
    pub(crate) received: Bytes,
    pub(crate) encoding: Encoding,
    /// Signed in by the HTTP request already.
    pub(crate) principal: Option<Arc<Principal>>,
    pub(crate) address: AddressPermit,
    pub(crate) peer: SocketAddr,
}

/// A connection that has signed in, ready to become a session in its shard.
#[derive(Debug)]
pub(crate) struct SignedIn {
    pub(crate) stream: std::net::TcpStream,
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
    fn of(message: &Message<'_>) -> Option<Early> {
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
    Admitted(Arc<Principal>, ConnectionPermit),
    Closing,
}

struct SignIn<'a> {
    context: &'a Context,
    metrics: &'a ThreadMetrics,
    encoding: Encoding,
    /// Frames to be written.
    replies: Vec<u8>,
    early: Vec<Early>,
    state: State,
}

/// Carries a connection through its sign-in. `None` where it came to nothing; the client has been told why.
pub(crate) async fn sign_in(upgraded: Upgraded, context: &Context, metrics: &ThreadMetrics) -> Option<SignedIn> {
    let Upgraded { mut stream, received, encoding, principal, address, peer } = upgraded;
    let mut sign_in =
        SignIn { context, metrics, encoding, replies: Vec::new(), early: Vec::new(), state: State::Waiting };
    let mut reader = MessageReader::new();
    sign_in.send(&ServerMessage::connected());
    if let Some(principal) = principal {
        sign_in.admit(principal);
    }
    let conversation = async {
        sign_in.feed(&mut reader, &mut received.to_vec());
        loop {
            stream.write_all(&std::mem::take(&mut sign_in.replies)).await?;
            if !matches!(sign_in.state, State::Waiting) {
                return io::Result::Ok(());
            }
            stream.readable().await?;
            sign_in.receive(&stream, &mut reader)?;
        }
    };
    match tokio::time::timeout(context.server.auth_timeout, conversation).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::debug!(%peer, %error, "connection lost while signing in");
            metrics.add(Counter::ClosedLost, 1);
            return None;
        }
        Err(_) => {
            metrics.add(Counter::ClosedAuthTimeout, 1);
            sign_in.replies.clear();
            sign_in.send(&ServerMessage::Error(ErrorMessage::new(ErrorCode::AuthTimeout)));
            sign_in.close(CloseCode::AuthTimeout);
            // The bytes fit an empty socket buffer; a client that does not take them gets none.
            let _ = stream.try_write(&sign_in.replies);
        }
    }
    let SignIn { state, early, .. } = sign_in;
    match state {
        State::Admitted(principal, permit) => {
            metrics.add(Counter::SignIns, 1);
            let stream = stream.into_std().ok()?;
            Some(SignedIn { stream, encoding, principal, permit, address, reader, early })
        }
        State::Waiting | State::Closing => {
            linger(stream).await;
            None
        }
    }
}

/// Lets the client read the reason before the connection goes: closes our side, and waits for the client's,
/// for a second at most. Without it, unread input would make the kernel throw our last bytes away.
async fn linger(mut stream: TcpStream) {
    let _ = tokio::time::timeout(std::time::Duration::from_secs(1), async {
        let _ = stream.shutdown().await;
        while stream.readable().await.is_ok() && read_some(&stream, |_| ()).is_ok() {}
    })
    .await;
}

/// Reads once from a socket that is readable, for all that it may have nothing after all. The buffer is on the
/// stack and no part of the task, since thousands of clients may be signing in at a time.
fn read_some(stream: &TcpStream, take: impl FnOnce(&mut [u8])) -> io::Result<()> {
    // As large as a sign-in with a long token; a longer message takes several reads.
    let mut buffer = [0u8; 4096];
    match stream.try_read(&mut buffer) {
        Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(read) => {
            take(&mut buffer[..read]);
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
        Err(error) => Err(error),
    }
}

impl SignIn<'_> {
    fn receive(&mut self, stream: &TcpStream, reader: &mut MessageReader) -> io::Result<()> {
        read_some(stream, |input| self.feed(reader, input))
    }

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
        if matches!(self.state, State::Admitted(..)) {
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
                    self.authenticate(fields);
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

    fn authenticate(&mut self, fields: AuthFields) {
        let credentials = match fields {
            AuthFields::Key { key, secret } => Credentials::Key { key, secret },
            AuthFields::Token(token) => Credentials::Token(token),
        };
        match self.context.door.sign_in(&credentials, self.context.now().wall_s()) {
            Ok(principal) => self.admit(principal),
            Err(error) => {
                self.metrics.add(Counter::from(error.reason()), 1);
                self.metrics.add(Counter::ClosedAuth, 1);
                self.send(&ServerMessage::Error(ErrorMessage::new(ErrorCode::AuthFailed)));
                self.close(CloseCode::AuthFailed);
            }
        }
    }

    /// Limits come before "authenticated" is said.
    fn admit(&mut self, principal: Arc<Principal>) {
        let Ok(permit) = self.context.connections.acquire(&principal) else {
            self.metrics.add(Counter::SignInConnectionLimit, 1);
            self.metrics.add(Counter::ClosedAuth, 1);
            self.send(&ServerMessage::Error(ErrorMessage::new(ErrorCode::ConnectionLimitExceeded)));
            return self.close(CloseCode::ConnectionLimit);
        };
        let delayed = principal.freshness() == Freshness::Delayed;
        self.send(&ServerMessage::authenticated(SessionFacts {
            epoch: self.context.epoch,
            user: principal.user(),
            tier: principal.tier().name(),
            delayed_ms: if delayed { self.context.delay.as_millis() as u64 } else { 0 },
            heartbeat_ms: self.context.session.heartbeat.as_millis() as u64,
        }));
        self.state = State::Admitted(principal, permit);
    }
}
