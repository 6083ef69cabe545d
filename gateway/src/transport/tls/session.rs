//! One client's TLS, sans-IO: what its socket gave goes in, plaintext and what is to be sent come out. Owned by the
//! task of its sign-in, and then by the shard that has its socket.
//!
//! rustls without its own buffers (its "unbuffered" connection): those would keep 4 KiB for a client that has nothing
//! to say. Here a silent client keeps its keys, and a buffer only while a record has partly come or partly gone.

use std::fmt;
use std::io::IoSlice;
use std::sync::Arc;

use http::StatusCode;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus};
use rustls::{PeerIncompatible, ServerConfig};

use crate::metrics::Counter;
use crate::transport::http::HttpRefusal;

/// Most ciphertext that waits for the rest of a record or of a handshake message, bytes. A record has at most
/// 5 + 16,384 + 256 (RFC 8446, 5.2), and no client has a handshake message beyond 16 KiB, post-quantum keys included.
const PARTIAL_BYTES_MAX: usize = 32 * 1024;

/// Plaintext that is encrypted at a time, bytes: two records. What the kernel does not take of it stays with the client.
pub(crate) const PLAINTEXT_BYTES_MAX: usize = 32 * 1024;

/// Room for [`PLAINTEXT_BYTES_MAX`] encrypted: a header, the inner type and a tag for each of the records, and a key
/// update (5 + 5 + 1 + 16) before them.
const SEALED_BYTES_MAX: usize = PLAINTEXT_BYTES_MAX + 256;

/// What a client is told that speaks HTTP without TLS.
const PLAIN_HTTP: &str = "this port is for TLS: connect with wss://";

/// Why a client's TLS cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error("HTTP without TLS")]
    PlainHttp,
    #[error("more than {PARTIAL_BYTES_MAX} bytes of one handshake message")]
    TooLarge,
    #[error("the client has ended TLS")]
    Closed,
    #[error(transparent)]
    Tls(#[from] rustls::Error),
}

impl TlsError {
    /// What a handshake that ends with this counts as.
    pub(crate) fn counter(&self) -> Counter {
        match self {
            TlsError::PlainHttp => Counter::HandshakeTlsPlainHttp,
            TlsError::Tls(rustls::Error::PeerIncompatible(why)) => match why {
                PeerIncompatible::SupportedVersionsExtensionRequired
                | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
                | PeerIncompatible::ServerDoesNotSupportTls12Or13
                | PeerIncompatible::Tls12NotOfferedOrEnabled => Counter::HandshakeTlsVersion,
                _ => Counter::HandshakeTlsIncompatible,
            },
            TlsError::Tls(rustls::Error::NoApplicationProtocol) => Counter::HandshakeTlsIncompatible,
            TlsError::Tls(rustls::Error::AlertReceived(_)) => Counter::HandshakeTlsAlert,
            TlsError::Tls(_) | TlsError::TooLarge | TlsError::Closed => Counter::HandshakeTlsMalformed,
        }
    }
}

/// One client's TLS.
pub(crate) struct TlsSession {
    connection: UnbufferedServerConnection,
    /// It has gone wrong: rustls is not made to be asked again after that.
    failed: bool,
    /// Ciphertext that has not been worked off: part of a record, or of a handshake message. Without a buffer while
    /// it is empty.
    partial: Vec<u8>,
    /// What is to be sent before anything else, from `sent` on. Without a buffer while it is empty. Bound:
    /// [`SEALED_BYTES_MAX`], or a flight of the handshake.
    unsent: Vec<u8>,
    /// `sent <= unsent.len()`.
    sent: usize,
    /// Something has come.
    begun: bool,
    /// The client has ended its side (`close_notify`).
    closed: bool,
    /// We have ended ours.
    ended: bool,
}

impl TlsSession {
    /// A connection that has just been accepted.
    ///
    /// # Errors
    /// rustls', where the configuration and it do not agree.
    pub(crate) fn accept(config: Arc<ServerConfig>) -> Result<TlsSession, TlsError> {
        let connection = UnbufferedServerConnection::new(config)?;
        let (partial, unsent) = (Vec::new(), Vec::new());
        let (failed, begun, closed, ended) = (false, false, false, false);
        Ok(TlsSession { connection, failed, partial, unsent, sent: 0, begun, closed, ended })
    }

    /// Whether no application data can come or go yet.
    pub(crate) fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// Whether the handshake took up an earlier connection's secrets.
    pub(crate) fn is_resumed(&self) -> bool {
        self.connection.handshake_kind() == Some(rustls::HandshakeKind::Resumed)
    }

    /// Whether the client has ended its side.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether we have ended ours, with [`TlsSession::close`].
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Ciphertext that waits for what follows it.
    pub(crate) fn partial_bytes(&self) -> usize {
        self.partial.len()
    }

    /// Takes what the socket gave (it is decrypted in place), and hands on what it says, by records. What there is to
    /// answer is [`TlsSession::unsent`] afterwards, also after an error: it tells the client why.
    ///
    /// # Errors
    /// [`TlsError`]; the connection is of no use any more.
    pub(crate) fn receive(&mut self, input: &mut [u8], take: &mut impl FnMut(&[u8])) -> Result<(), TlsError> {
        let taken = if self.failed { Err(TlsError::Closed) } else { self.take(input, take) };
        self.failed |= taken.is_err();
        taken
    }

    fn take(&mut self, input: &mut [u8], take: &mut impl FnMut(&[u8])) -> Result<(), TlsError> {
        if !std::mem::replace(&mut self.begun, true) && input.first().is_some_and(u8::is_ascii_uppercase) {
            // A record begins with its type, a small number; a request with its method.
            let (status, counter) = (StatusCode::BAD_REQUEST, Counter::HandshakeTlsPlainHttp);
            let refusal = HttpRefusal::new(status, "TLS_REQUIRED", counter, PLAIN_HTTP);
            self.unsent.extend_from_slice(&refusal.into_response(false));
            return Err(TlsError::PlainHttp);
        }
        if self.partial.is_empty() {
            let consumed = self.process(input, take)?;
            self.partial.extend_from_slice(&input[consumed..]);
        } else {
            let mut partial = std::mem::take(&mut self.partial);
            partial.extend_from_slice(input);
            let consumed = self.process(&mut partial, take)?;
            if consumed < partial.len() {
                partial.drain(..consumed);
                self.partial = partial;
            }
        }
        if self.partial.len() > PARTIAL_BYTES_MAX { Err(TlsError::TooLarge) } else { Ok(()) }
    }

    /// Works off what can be. Returns the bytes of `input` that are done with.
    ///
    /// `input` must hold everything from the first byte that was not done with, even where nothing was added: rustls
    /// keeps offsets into it.
    fn process(&mut self, input: &mut [u8], take: &mut impl FnMut(&[u8])) -> Result<usize, TlsError> {
        let TlsSession { connection, unsent, closed, .. } = self;
        let mut consumed = 0;
        loop {
            let UnbufferedStatus { mut discard, state, .. } = connection.process_tls_records(&mut input[consumed..]);
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        discard += record.discard;
                        take(record.payload);
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => encode(&mut data, unsent),
                // It will be: nothing else is sent before `unsent`.
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed) => *closed = true,
                Ok(ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_) | ConnectionState::Closed) => {
                    return Ok(consumed + discard);
                }
                // Early data is not offered, and rustls skips what comes of it all the same.
                Ok(_) => return Err(TlsError::Closed),
                Err(error) => {
                    consumed += discard;
                    let status = connection.process_tls_records(&mut input[consumed..]);
                    if let Ok(ConnectionState::EncodeTlsData(mut alert)) = status.state {
                        encode(&mut alert, unsent);
                    }
                    return Err(error.into());
                }
            }
            consumed += discard;
        }
    }

    /// What is to be sent before anything else.
    pub(crate) fn unsent(&self) -> &[u8] {
        &self.unsent[self.sent..]
    }

    /// So many bytes of [`TlsSession::unsent`] have been sent.
    pub(crate) fn advance(&mut self, sent: usize) {
        self.sent += sent;
        debug_assert!(self.sent <= self.unsent.len());
        if self.sent >= self.unsent.len() {
            self.unsent = Vec::new();
            self.sent = 0;
        }
    }

    /// Keeps the end of a sealed piece that the socket did not take.
    pub(crate) fn keep(&mut self, rest: &[u8]) {
        self.unsent.extend_from_slice(rest);
    }

    /// Encrypts `plaintext`, at most [`PLAINTEXT_BYTES_MAX`], into `sealed`. Returns how many bytes that makes; they
    /// must be sent, behind [`TlsSession::unsent`] and in the order of the calls.
    ///
    /// # Errors
    /// [`TlsError`] where the handshake is not done or the connection ended.
    fn encrypt(&mut self, plaintext: &[u8], sealed: &mut [u8]) -> Result<usize, TlsError> {
        if self.failed {
            return Err(TlsError::Closed);
        }
        let mut partial = std::mem::take(&mut self.partial);
        let encrypted = loop {
            let UnbufferedStatus { discard, state, .. } = self.connection.process_tls_records(&mut partial);
            let encrypted = match state {
                Ok(ConnectionState::WriteTraffic(mut traffic)) => match traffic.encrypt(plaintext, sealed) {
                    Ok(bytes) => Some(Ok(bytes)),
                    Err(EncryptError::InsufficientSize(_)) => {
                        panic!("Invariant: there is room for {PLAINTEXT_BYTES_MAX} bytes encrypted")
                    }
                    Err(EncryptError::EncryptExhausted) => Some(Err(rustls::Error::EncryptError.into())),
                },
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    encode(&mut data, &mut self.unsent);
                    None
                }
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    data.done();
                    None
                }
                Ok(ConnectionState::BlockedHandshake) => Some(Err(rustls::Error::HandshakeNotComplete.into())),
                Ok(_) => Some(Err(TlsError::Closed)),
                Err(error) => Some(Err(error.into())),
            };
            partial.drain(..discard);
            if let Some(encrypted) = encrypted {
                break encrypted;
            }
        };
        self.partial = partial;
        self.failed |= encrypted.is_err();
        encrypted
    }

    /// Encrypts `plaintext` to the end of [`TlsSession::unsent`]. For what is small and seldom; a [`Sealer`] serves the
    /// others.
    ///
    /// # Errors
    /// [`TlsError`] where the handshake is not done or the connection has ended.
    pub(crate) fn queue(&mut self, plaintext: &[u8]) -> Result<(), TlsError> {
        for piece in plaintext.chunks(PLAINTEXT_BYTES_MAX) {
            let mut sealed = vec![0; piece.len() + SEALED_BYTES_MAX - PLAINTEXT_BYTES_MAX];
            let bytes = self.encrypt(piece, &mut sealed)?;
            self.unsent.extend_from_slice(&sealed[..bytes]);
        }
        Ok(())
    }

    /// Says that nothing follows; the words are the last of [`TlsSession::unsent`].
    pub(crate) fn close(&mut self) {
        if std::mem::replace(&mut self.ended, true) || self.failed {
            return;
        }
        let mut partial = std::mem::take(&mut self.partial);
        let status = self.connection.process_tls_records(&mut partial);
        if let Ok(ConnectionState::WriteTraffic(mut traffic)) = status.state {
            // An alert: 5 + 2 + 1 + 16 bytes, and perhaps a key update before it.
            let mut alert = [0; 256];
            if let Ok(bytes) = traffic.queue_close_notify(&mut alert) {
                self.unsent.extend_from_slice(&alert[..bytes]);
            }
        }
    }
}

fn encode<Data>(data: &mut EncodeTlsData<'_, Data>, out: &mut Vec<u8>) {
    let before = out.len();
    // More than any record of a handshake but a long certificate chain.
    let mut room = 1024;
    loop {
        out.resize(before + room, 0);
        match data.encode(&mut out[before..]) {
            Ok(bytes) => return out.truncate(before + bytes),
            Err(EncodeError::InsufficientSize(needed)) => room = needed.required_size,
            Err(EncodeError::AlreadyEncoded) => return out.truncate(before),
        }
    }
}

impl fmt::Debug for TlsSession {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("TlsSession")
            .field("handshaking", &self.is_handshaking())
            .field("partial", &self.partial.len())
            .field("unsent", &self.unsent().len())
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}

/// Where plaintext is put together and encrypted: one for all clients of a thread. Holds nothing until it is used.
#[derive(Debug, Default)]
pub(crate) struct Sealer {
    plaintext: Vec<u8>,
    sealed: Vec<u8>,
}

impl Sealer {
    /// Encrypts the slices from byte `from` on, as far as goes in one piece, for `session`. Returns how many bytes of
    /// plaintext that is (0 at the end), and the sealed bytes, which must be sent behind [`TlsSession::unsent`].
    ///
    /// # Errors
    /// [`TlsError`] where the handshake is not done or the connection has ended.
    pub(crate) fn seal(
        &mut self,
        session: &mut TlsSession,
        slices: &[IoSlice<'_>],
        from: usize,
    ) -> Result<(usize, &[u8]), TlsError> {
        let Sealer { plaintext, sealed } = self;
        let piece = piece(slices, from, plaintext);
        if piece.is_empty() {
            return Ok((0, &[]));
        }
        sealed.resize(SEALED_BYTES_MAX, 0);
        let bytes = session.encrypt(piece, sealed)?;
        Ok((piece.len(), &sealed[..bytes]))
    }
}

/// At most [`PLAINTEXT_BYTES_MAX`] of the slices from byte `from` on: where they lie if it is one slice, copied together
/// in `buffer` otherwise, since rustls takes one slice and one record is cheaper than many.
fn piece<'a>(slices: &'a [IoSlice<'_>], mut from: usize, buffer: &'a mut Vec<u8>) -> &'a [u8] {
    let mut rest = slices.iter().filter_map(|slice| {
        let skipped = from.min(slice.len());
        from -= skipped;
        Some(&slice[skipped..]).filter(|slice| !slice.is_empty())
    });
    let Some(first) = rest.next() else { return &[] };
    let Some(second) = rest.next().filter(|_| first.len() < PLAINTEXT_BYTES_MAX) else {
        return &first[..first.len().min(PLAINTEXT_BYTES_MAX)];
    };
    buffer.clear();
    for slice in [first, second].into_iter().chain(rest) {
        let room = PLAINTEXT_BYTES_MAX - buffer.len();
        if room == 0 {
            break;
        }
        buffer.extend_from_slice(&slice[..slice.len().min(room)]);
    }
    buffer
}

#[cfg(test)]
mod tests;
