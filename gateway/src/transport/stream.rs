//! A signed-in client's socket, with or without TLS: what a shard reads from and the hub writes into. Owned by the
//! shard's thread; never blocks.
//!
//! The buffers that TLS needs while it works are the shard's ([`Scratch`]), so that a silent client has none.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::Shutdown;

use mio::net::TcpStream;

use super::tls::{Sealer, TlsError, TlsSession};

/// Ciphertext that is read at a time, bytes.
const READ_BYTES: usize = 64 * 1024;

/// A client's socket.
#[derive(Debug)]
pub(crate) struct Stream {
    socket: TcpStream,
    tls: Option<Box<TlsSession>>,
}

/// What a shard works with for all of its clients. Holds nothing until the first client with TLS.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    incoming: Vec<u8>,
    sealer: Sealer,
}

impl Stream {
    pub(crate) fn new(socket: std::net::TcpStream, tls: Option<Box<TlsSession>>) -> Stream {
        Stream { socket: TcpStream::from_std(socket), tls }
    }

    pub(crate) fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// The socket, to be watched. Nothing is read from it or written into it but by this.
    pub(crate) fn socket(&mut self) -> &mut TcpStream {
        &mut self.socket
    }

    /// Reads what has come; 0 where the client has closed its side. `WouldBlock` alone means that there is no more for
    /// now: with TLS a short read says nothing. `into` has room for more than a record.
    ///
    /// # Errors
    /// The system's; `InvalidData` where the client broke TLS.
    pub(crate) fn read(&mut self, into: &mut [u8], scratch: &mut Scratch) -> io::Result<usize> {
        match &mut self.tls {
            None => self.socket.read(into),
            Some(session) => read_tls(&mut self.socket, session, into, &mut scratch.incoming),
        }
    }

    /// What the hub writes into.
    pub(crate) fn writer<'a>(&'a mut self, scratch: &'a mut Scratch) -> StreamWriter<'a> {
        StreamWriter { stream: self, sealer: &mut scratch.sealer }
    }

    /// The socket takes bytes again: sends what was encrypted before. True where it takes more, so that the hub may be
    /// told.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn writable(&mut self) -> io::Result<bool> {
        match &mut self.tls {
            None => Ok(true),
            Some(session) => send_unsent(&mut self.socket, session),
        }
    }

    /// Closes our side, as soon as everything is sent that was written.
    pub(crate) fn shut(&mut self) {
        match &mut self.tls {
            None => drop(self.socket.shutdown(Shutdown::Write)),
            Some(session) => {
                session.close();
                // A socket that is gone is reported as an event of its own.
                let _ = send_unsent(&mut self.socket, session);
            }
        }
    }
}

/// A client's bytes into its socket, through TLS where there is. All that it takes is sent, or kept and sent first.
#[derive(Debug)]
pub(crate) struct StreamWriter<'a> {
    stream: &'a mut Stream,
    sealer: &'a mut Sealer,
}

impl Write for StreamWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let Stream { socket, tls } = &mut *self.stream;
        match tls {
            None => socket.write_vectored(slices),
            Some(session) => write_tls(socket, session, slices, self.sealer),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn read_tls(
    socket: &mut TcpStream,
    session: &mut TlsSession,
    into: &mut [u8],
    incoming: &mut Vec<u8>,
) -> io::Result<usize> {
    incoming.resize(READ_BYTES, 0);
    loop {
        if session.is_closed() {
            return Ok(0);
        }
        // What is decrypted is less than what was encrypted, so it fits.
        let room = incoming.len().min(into.len().saturating_sub(session.partial_bytes()));
        debug_assert!(room > 0, "the reader has room for more than a record");
        let received = socket.read(&mut incoming[..room])?;
        if received == 0 {
            return Ok(0);
        }
        let mut read = 0;
        let taken = session.receive(&mut incoming[..received], &mut |plaintext| {
            into[read..read + plaintext.len()].copy_from_slice(plaintext);
            read += plaintext.len();
        });
        if let Err(error) = taken {
            // The alert that says why; the socket is closed in any case.
            let _ = send_unsent(socket, session);
            return Err(invalid(error));
        }
        if read > 0 {
            return Ok(read);
        }
    }
}

/// Takes as much plaintext as the socket takes of it encrypted, and the rest of the last piece: less than was offered
/// only where the socket is full. Nothing where it was full before.
fn write_tls(
    socket: &mut TcpStream,
    session: &mut TlsSession,
    slices: &[IoSlice<'_>],
    sealer: &mut Sealer,
) -> io::Result<usize> {
    if !send_unsent(socket, session)? {
        return Err(ErrorKind::WouldBlock.into());
    }
    let mut taken = 0;
    loop {
        let (piece, sealed) = sealer.seal(session, slices, taken).map_err(invalid)?;
        if piece == 0 {
            return Ok(taken);
        }
        taken += piece;
        if !session.unsent().is_empty() {
            // An answer to the client, such as a key update, goes first.
            session.keep(sealed);
            if !send_unsent(socket, session)? {
                return Ok(taken);
            }
            continue;
        }
        let sent = write(socket, sealed)?;
        if sent < sealed.len() {
            session.keep(&sealed[sent..]);
            return Ok(taken);
        }
    }
}

/// True where nothing is left.
fn send_unsent(socket: &mut TcpStream, session: &mut TlsSession) -> io::Result<bool> {
    while !session.unsent().is_empty() {
        let sent = write(socket, session.unsent())?;
        if sent == 0 {
            return Ok(false);
        }
        session.advance(sent);
    }
    if session.has_ended() {
        let _ = socket.shutdown(Shutdown::Write);
    }
    Ok(true)
}

/// Writes what the socket takes: 0 where it is full.
fn write(socket: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
    loop {
        match socket.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(0),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

fn invalid(error: TlsError) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, error)
}
