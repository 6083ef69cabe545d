//! A connection that is no session yet: what reading a request and signing in need of a socket. Owned by one task
//! of its shard's thread.
//!
//! Very many may be opening at a time, so nothing here has a buffer: input is read onto the stack and handed on.

use std::io;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// Bytes that are read at a time: a request with a long token, or a sign-in.
const READ_BYTES: usize = 4096;

/// How long a client that is let go may take to read why.
const LINGER: Duration = Duration::from_secs(1);

/// The socket of a connection that has not signed in.
#[derive(Debug)]
pub(crate) struct Opening {
    stream: TcpStream,
}

impl Opening {
    pub(crate) fn new(stream: TcpStream) -> Opening {
        Opening { stream }
    }

    /// Waits for input, and hands it to `take`, which may change it in place.
    ///
    /// # Errors
    /// The system's; `UnexpectedEof` where the client has closed its side.
    pub(crate) async fn read(&mut self, mut take: impl FnMut(&mut [u8])) -> io::Result<()> {
        loop {
            self.stream.readable().await?;
            if self.try_read(&mut take)? {
                return Ok(());
            }
        }
    }

    /// False where there was nothing after all. Not async, so that the buffer is no part of the task.
    fn try_read(&self, take: &mut impl FnMut(&mut [u8])) -> io::Result<bool> {
        let mut buffer = [0u8; READ_BYTES];
        match self.stream.try_read(&mut buffer) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => {
                take(&mut buffer[..read]);
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Writes all of `bytes`.
    ///
    /// # Errors
    /// The system's.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Writes what the socket takes at once: enough for a last word to a client that has been sent little.
    pub(crate) fn write_now(&mut self, bytes: &[u8]) {
        let _ = self.stream.try_write(bytes);
    }

    /// Lets the client read its last bytes before the connection goes: closes our side, and waits for the
    /// client's, for a second at most. Without it, unread input would make the kernel throw our bytes away.
    pub(crate) async fn linger(mut self) {
        let _ = tokio::time::timeout(LINGER, async {
            let _ = self.stream.shutdown().await;
            while self.read(|_| ()).await.is_ok() {}
        })
        .await;
    }

    /// The socket, for its session.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn into_stream(self) -> io::Result<std::net::TcpStream> {
        self.stream.into_std()
    }
}
