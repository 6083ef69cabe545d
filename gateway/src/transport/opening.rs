//! A connection that is no session yet: what reading a request and signing in need of a socket, with or without TLS.
//! Owned by one task of its shard's thread.
//!
//! Very many may be opening at a time, so nothing here has a buffer: input is read onto the stack and handed on. TLS
//! shakes hands as part of the first read.

use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::proxy_protocol::{self, Header, ProxyError};
use super::stream::Stream;
use super::tls::{TlsError, TlsSession};
use crate::metrics::{Counter, ThreadMetrics};

/// Bytes that are read at a time: a request with a long token, or a sign-in.
const READ_BYTES: usize = 4096;

/// How long a client that is let go may take to read why.
const LINGER: Duration = Duration::from_secs(1);

/// The socket of a connection that has not signed in.
#[derive(Debug)]
pub(crate) struct Opening {
    stream: TcpStream,
    tls: Option<Box<TlsSession>>,
}

impl Opening {
    pub(crate) fn new(stream: TcpStream, tls: Option<Box<TlsSession>>) -> Opening {
        Opening { stream, tls }
    }

    pub(crate) fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Reads the header of the PROXY protocol, and no byte behind it: the client's address, where the proxy names one.
    ///
    /// # Errors
    /// The system's; `UnexpectedEof` where the proxy has closed its side, `InvalidData` with a [`ProxyError`] where there is
    /// no such header.
    pub(crate) async fn read_proxy_header(&mut self) -> io::Result<Option<IpAddr>> {
        let mut header = Vec::new();
        loop {
            match proxy_protocol::parse(&header) {
                Ok(Header::Complete(client)) => return Ok(client),
                Ok(Header::Partial { need }) => {
                    let have = header.len();
                    header.resize(need, 0);
                    let read = self.stream.read(&mut header[have..]).await?;
                    if read == 0 {
                        return Err(ErrorKind::UnexpectedEof.into());
                    }
                    header.truncate(have + read);
                }
                Err(error) => return Err(io::Error::new(ErrorKind::InvalidData, error)),
            }
        }
    }

    /// Waits for input, and hands it to `take`, which may change it in place.
    ///
    /// # Errors
    /// The system's; `UnexpectedEof` where the client has closed its side, `InvalidData` with a [`TlsError`] where its
    /// TLS is refused, which it has been told.
    pub(crate) async fn read(&mut self, mut take: impl FnMut(&mut [u8])) -> io::Result<()> {
        loop {
            self.stream.readable().await?;
            let taken = self.try_read(&mut take);
            // Once the handshake is done, TLS has nothing to say that could not wait for what is written next.
            if self.tls.as_ref().is_some_and(|tls| tls.is_handshaking()) {
                self.send_unsent().await?;
            }
            if taken? {
                return Ok(());
            }
        }
    }

    /// False where there was nothing after all. Not async, so that the buffer is no part of the task.
    fn try_read(&mut self, take: &mut impl FnMut(&mut [u8])) -> io::Result<bool> {
        let mut buffer = [0u8; READ_BYTES];
        let read = match self.stream.try_read(&mut buffer) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        };
        let Some(tls) = &mut self.tls else {
            take(&mut buffer[..read]);
            return Ok(true);
        };
        let mut plaintext = Vec::new();
        tls.receive(&mut buffer[..read], &mut |record| plaintext.extend_from_slice(record))
            .map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        if !plaintext.is_empty() {
            take(&mut plaintext);
        } else if tls.is_closed() {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(!plaintext.is_empty())
    }

    /// Writes all of `bytes`.
    ///
    /// # Errors
    /// The system's; `InvalidData` where TLS has ended.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(tls) = &mut self.tls else { return self.stream.write_all(bytes).await };
        tls.queue(bytes).map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        self.send_unsent().await
    }

    /// Sends what TLS has to say. A wait that is given up loses nothing and repeats nothing.
    async fn send_unsent(&mut self) -> io::Result<()> {
        while !self.try_send_unsent()? {
            self.stream.writable().await?;
        }
        Ok(())
    }

    /// True where nothing is left.
    fn try_send_unsent(&mut self) -> io::Result<bool> {
        let Some(tls) = &mut self.tls else { return Ok(true) };
        while !tls.unsent().is_empty() {
            match self.stream.try_write(tls.unsent()) {
                Ok(sent) => tls.advance(sent),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Writes what the socket takes at once: enough for a last word to a client that has been sent little. None reaches one
    /// whose TLS has not shaken hands.
    pub(crate) fn write_now(&mut self, bytes: &[u8]) {
        match &mut self.tls {
            None => drop(self.stream.try_write(bytes)),
            // Where TLS has ended there is nothing to say it in.
            Some(tls) if tls.is_handshaking() => {}
            Some(tls) => drop(tls.queue(bytes)),
        }
        let _ = self.try_send_unsent();
    }

    /// Lets the client read its last bytes before the connection goes: closes our side, and waits for the
    /// client's, for a second at most. Without it, unread input would make the kernel throw our bytes away.
    pub(crate) async fn linger(mut self) {
        if let Some(tls) = &mut self.tls {
            tls.close();
        }
        let _ = self.try_send_unsent();
        // What still comes is of no interest, so it is not decrypted.
        self.tls = None;
        let _ = tokio::time::timeout(LINGER, async {
            let _ = self.stream.shutdown().await;
            while self.read(|_| ()).await.is_ok() {}
        })
        .await;
    }

    /// Counts the TLS handshake, where there was one.
    pub(crate) fn count_handshake(&self, metrics: &ThreadMetrics) {
        if let Some(tls) = self.tls.as_ref().filter(|tls| !tls.is_handshaking()) {
            let resumed = tls.is_resumed();
            metrics.add(if resumed { Counter::HandshakesTlsResumed } else { Counter::HandshakesTlsFull }, 1);
        }
    }

    /// The socket, for its session.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn into_stream(self) -> io::Result<Stream> {
        Ok(Stream::new(self.stream.into_std()?, self.tls))
    }
}

/// What a handshake that ended with this error counts as.
pub(crate) fn refused_counter(error: &io::Error) -> Counter {
    let Some(cause) = error.get_ref() else { return Counter::HandshakeMalformed };
    if cause.is::<ProxyError>() {
        return Counter::HandshakeProxyHeader;
    }
    cause.downcast_ref::<TlsError>().map_or(Counter::HandshakeMalformed, TlsError::counter)
}
